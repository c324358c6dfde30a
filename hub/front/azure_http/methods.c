/* hub/front/azure_http/methods.c - direct methods of devices and modules, and the commands of digital twins,
 * which are methods under another address. */
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/routes.h"
#include "hub/front/http/method_step.h"

#include "base/text.h"

#define STRICT_VERSION 20210412u /* from here on a connect timeout above the response timeout is refused */

struct timeouts {
    uint64_t connect_s, response_s;
    bool response_given;
};

static bool timeouts_check(struct job *j, struct timeouts *t)
{
    if (t->response_given && (t->response_s < METHOD_RESPONSE_MIN_S || t->response_s > METHOD_RESPONSE_MAX_S))
        return azure_fail(j, AZ_ArgumentInvalid, "responseTimeoutInSeconds has to be from %u to %u",
                          METHOD_RESPONSE_MIN_S, METHOD_RESPONSE_MAX_S);
    if (t->connect_s > METHOD_CONNECT_MAX_S)
        return azure_fail(j, AZ_ArgumentInvalid, "connectTimeoutInSeconds has to be from 0 to %u",
                          METHOD_CONNECT_MAX_S);
    if (t->response_given && t->connect_s > t->response_s) {
        if (azure_api_version(j) >= STRICT_VERSION)
            return azure_fail(j, AZ_ArgumentInvalid,
                              "connectTimeoutInSeconds may not be above responseTimeoutInSeconds");
        t->connect_s = t->response_s; /* clients of that time always ask for a minute */
    }
    return true;
}

static const char *clock_text(uint32_t ms, char out[16])
{
    unsigned s = ms / 1000;
    snprintf(out, 16, "%02u:%02u:%02u", s / 3600, s / 60 % 60, s % 60);
    return out;
}

/* The error that a call which was not answered ends with. */
static void refuse(struct job *j, const struct method_call *m)
{
    char text[16], info[48] = "";
    j->envelope = AZURE_NESTED;
    switch (m->why) {
    case METHOD_UNKNOWN:
        j->envelope = AZURE_PLAIN;
        (void)azure_fail(j, AZ_DeviceNotFound, "%s %.*s not registered",
                         m->module.n ? "E2E module" : "E2E device",
                         (int)(m->module.n ? m->module : m->device).n,
                         (const char *)(m->module.n ? m->module : m->device).p);
        break;
    case METHOD_OFFLINE:
        (void)azure_fail(j, AZ_DeviceNotOnline, "Timed out waiting for device to connect.");
        snprintf(info, sizeof info, "{\"timeout\":\"%s\"}", clock_text(m->connect_ms, text));
        break;
    case METHOD_TIMEOUT:
        (void)azure_fail(j, AZ_GatewayTimeout, "Timed out waiting for the response from device.");
        snprintf(info, sizeof info, "{\"timeout\":\"%s\"}", clock_text(m->response_ms, text));
        break;
    case METHOD_CLOSED:
        (void)azure_fail(
            j, AZ_DeviceConnectionClosedRemotely,
            "The device closed its connection before it answered: whether the method ran is not known.");
        break;
    case METHOD_BUSY:
        (void)azure_fail(j, AZ_DeviceMaximumInflightMethodExceeded,
                         "The device has %u methods to answer already.", j->h->settings.methods_in_flight);
        break;
    case METHOD_TOO_LARGE:
        (void)azure_fail(j, AZ_GenericBadGateway, "The answer of the device is longer than %u bytes.",
                         METHOD_PAYLOAD_MAX);
        break;
    default:
        if (m->err == ERR_FULL)
            (void)azure_fail(j, AZ_ThrottlingException, "Too many methods are under way: try again later.");
        break;
    }
    if (info[0])
        j->info = arena_copy(&j->a, span_str(info));
    if (!j->code)
        j->envelope = AZURE_PLAIN;
}

/* NULL: the job has ended. */
static struct method_step *step_new(struct job *j, const struct timeouts *t)
{
    struct method_step *s = job_state(j, sizeof *s);
    if (!s)
        return NULL;
    s->call.device = j->r->params[0];
    s->call.connect_ms = (uint32_t)t->connect_s * 1000;
    s->call.response_ms = (uint32_t)t->response_s * 1000;
    return s;
}

static bool call_check(struct job *j, const struct method_call *m)
{
    if (!method_name_ok(m->name))
        return azure_fail(j, AZ_ArgumentInvalid,
                          "a method name has 1 to %u ASCII characters, none of them a space or one of "
                          "$ ( ) < > @ , ; : \\ \" / [ ] ? = { } + #",
                          METHOD_NAME_MAX);
    if (m->payload.n > METHOD_PAYLOAD_MAX)
        return azure_fail(j, AZ_MessageTooLarge, "the payload has more than %u bytes", METHOD_PAYLOAD_MAX);
    return true;
}

/* ---- POST /twins/{id}[/modules/{mid}]/methods --------------------------------------------------------- */

static bool member_seconds(struct job *j, const char *name, uint64_t *out, bool *given)
{
    const json_t *v = json_object_get(j->in, name);
    if (!v || json_is_null(v))
        return true;
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return azure_fail(j, AZ_ArgumentInvalid, "%s has to be a whole number of seconds", name);
    *out = (uint64_t)json_integer_value(v);
    *given = true;
    return true;
}

/* The payload as it was written; as it was read only when its name is spelled with escapes. */
static struct span payload_of(struct job *j)
{
    struct span text = SPAN_NONE;
    json_t *v = json_object_get(j->in, "payload");
    if (!v || method_member_text(j->r->body, "payload", &text))
        return text;
    char *dumped = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!dumped) /* not a call without a payload instead */
        (void)job_fail_err(j, ERR_NOMEM);
    text = dumped ? arena_copy(&j->a, span_str(dumped)) : SPAN_NONE;
    free(dumped);
    return text;
}

/* A module of an edge device asks for other modules of its device and for devices behind it. */
static enum err edge_may_call(struct job *j, struct store_tx *tx)
{
    const struct method_step *s = j->state;
    struct device_row edge, target;
    struct span scope = SPAN_NONE;
    enum err e = tx_device_get(tx, j->check.device, &edge);
    if (!e)
        scope = arena_copy(&j->a, edge.edge ? edge.scope : SPAN_NONE);
    if (!e && scope.n && span_eq(s->call.device, j->check.device))
        return ERR_OK;
    if (!e)
        e = tx_device_get(tx, s->call.device, &target);
    if (e && e != ERR_NOTFOUND)
        return e;
    if (e || !scope.n || !(span_eq(target.scope, scope) || span_eq(target.parent_scope, scope)))
        return AZURE_REFUSE(j, AZ_IotHubUnauthorizedAccess,
                            "a module calls the modules of its own edge device and the devices behind it");
    return ERR_OK;
}
static void method_allowed(struct job *j)
{
    job_method(j, j->state, refuse, method_step_end);
}

static void method_begin(struct job *j, struct span module)
{
    struct timeouts t = { 0, METHOD_RESPONSE_DEFAULT_S, false };
    const json_t *name = json_object_get(j->in, "methodName");
    bool connect_given = false;
    if (!json_is_string(name))
        (void)azure_fail(j, AZ_ArgumentNull, "methodName is missing");
    if (j->code || !member_seconds(j, "responseTimeoutInSeconds", &t.response_s, &t.response_given) ||
        !member_seconds(j, "connectTimeoutInSeconds", &t.connect_s, &connect_given) ||
        !timeouts_check(j, &t)) {
        job_end(j);
        return;
    }
    struct method_step *s = step_new(j, &t);
    if (!s)
        return;
    s->call.module = module;
    s->call.name = span_of(json_string_value(name), json_string_length(name));
    s->call.payload = payload_of(j);
    (void)(call_check(j, &s->call) && job_fail_err(j, arena_err(&j->a)));
    if (job_edge_module(j))
        job_read(j, edge_may_call, method_allowed);
    else
        job_method(j, s, refuse, method_step_end);
}

static void device_method(struct job *j)
{
    method_begin(j, SPAN_NONE);
}
static void module_method(struct job *j)
{
    method_begin(j, j->r->params[1]);
}

JOB_HANDLER(azure_device_method, JOB_POLICY_OR_EDGE, ACCESS_SERVICE_CONNECT, JOB_METHOD, device_method);
JOB_HANDLER(azure_module_method, JOB_POLICY_OR_EDGE, ACCESS_SERVICE_CONNECT, JOB_METHOD, module_method);

/* ---- POST /digitaltwins/{id}[/components/{component}]/commands/{name} -----------------------------------
 */

static void command_called(struct job *j)
{
    struct method_step *s = j->state;
    job_field(j, "x-ms-command-statuscode", "%d", (int)s->call.status);
    j->bytes = s->json;
    j->bytes_type = "application/json; charset=utf-8";
    job_end(j);
}

static bool query_seconds(struct job *j, const char *name, uint64_t *out, bool *given)
{
    struct span s;
    if (!http_query(j->r, name, &s))
        return true;
    if (u64_parse(s, UINT32_MAX, out))
        return azure_fail(j, AZ_ArgumentInvalid, "%s has to be a whole number of seconds", name);
    *given = true;
    return true;
}

static void command_begin(struct job *j, struct span component, struct span command)
{
    struct timeouts t = { 0, METHOD_RESPONSE_DEFAULT_S, false };
    bool connect_given = false;
    if (!query_seconds(j, "responseTimeoutInSeconds", &t.response_s, &t.response_given) ||
        !query_seconds(j, "connectTimeoutInSeconds", &t.connect_s, &connect_given) ||
        !timeouts_check(j, &t)) {
        job_end(j);
        return;
    }
    struct method_step *s = step_new(j, &t);
    if (!s)
        return;
    size_t n = component.n + 1 + command.n;
    struct wr w = { arena_alloc(&j->a, n), n, 0 };
    if (!w.p) {
        job_end_err(j, ERR_NOMEM);
        return;
    }
    wr_put(&w, component);
    if (component.n)
        wr_u8(&w, '*');
    wr_put(&w, command);
    s->call.name = wr_span(&w);
    s->call.payload = j->r->body;
    if (j->r->body.n && !method_is_json(j->r->body))
        (void)azure_fail(j, AZ_IotHubFormatError, "the body has to be empty or one JSON value");
    (void)call_check(j, &s->call);
    job_method(j, s, refuse, command_called);
}

static void root_command(struct job *j)
{
    command_begin(j, SPAN_NONE, j->r->params[1]);
}
static void component_command(struct job *j)
{
    command_begin(j, j->r->params[1], j->r->params[2]);
}

JOB_HANDLER(azure_root_command, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, root_command);
JOB_HANDLER(azure_component_command, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, component_command);
