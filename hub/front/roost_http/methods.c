/* hub/front/roost_http/methods.c - direct methods: a device is called, and its answer is the answer. */
#include "hub/front/http/method_step.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

static void refuse(struct job *j, const struct method_call *m)
{
    switch (m->why) {
    case METHOD_UNKNOWN:
        (void)job_fail(j, 404, m->module.n ? "module-not-found" : "device-not-found",
                       m->module.n ? "there is no such module" : "there is no such device");
        break;
    case METHOD_OFFLINE:
        (void)job_fail(
            j, 409, "device-offline",
            "the device is not connected, or takes no methods: connectTimeoutSeconds waits for it");
        break;
    case METHOD_TIMEOUT:
        (void)job_fail(j, 504, "no-answer", "the device has the call and did not answer within %u s",
                       m->response_ms / 1000);
        break;
    case METHOD_CLOSED:
        (void)job_fail(j, 502, "connection-lost",
                       "the device had the call when its connection ended: whether it ran is not known");
        break;
    case METHOD_BUSY:
        (void)job_fail(j, 429, "too-many-calls", "the device has %u calls to answer already",
                       j->h->settings.methods_in_flight);
        break;
    case METHOD_TOO_LARGE:
        (void)job_fail(j, 502, "answer-too-large", "the device's answer is longer than %u bytes",
                       METHOD_PAYLOAD_MAX);
        break;
    default:
        if (m->err == ERR_FULL)
            (void)job_fail(j, 429, "busy", "too many calls are under way: try again later");
        break;
    }
}

static void begin(struct job *j, struct span module, struct span name)
{
    static const char *const names[] = { "payload", "responseTimeoutSeconds", "connectTimeoutSeconds", NULL };
    uint64_t connect_s = 0, response_s = METHOD_RESPONSE_DEFAULT_S;
    struct span device = SPAN_NONE, payload = SPAN_NONE;
    struct method_step *s = job_state(j, sizeof *s);
    if (!s)
        return;
    (void)(in_path_device(j, &device) && in_only(j, j->in, names) &&
           in_u64(j, j->in, "responseTimeoutSeconds", IN_OPTIONAL, METHOD_RESPONSE_MAX_S, &response_s) &&
           in_u64(j, j->in, "connectTimeoutSeconds", IN_OPTIONAL, METHOD_CONNECT_MAX_S, &connect_s));
    if (!j->code && response_s < METHOD_RESPONSE_MIN_S)
        (void)job_fail(j, 400, "bad-member", "member \"responseTimeoutSeconds\" has to be from %u to %u",
                       METHOD_RESPONSE_MIN_S, METHOD_RESPONSE_MAX_S);
    if (!j->code && !method_name_ok(name))
        (void)job_fail(j, 400, "bad-method-name",
                       "a method name has 1 to %u ASCII characters, none of them a space or one of "
                       "$ ( ) < > @ , ; : \\ \" / [ ] ? = { } + #",
                       METHOD_NAME_MAX);
    if (!j->code && json_object_get(j->in, "payload") && !method_member_text(j->r->body, "payload", &payload))
        (void)job_fail(j, 400, "bad-member", "the name \"payload\" has to be written without escapes");
    if (!j->code && payload.n > METHOD_PAYLOAD_MAX)
        (void)job_fail(j, 413, "payload-too-large", "a payload has at most %u bytes", METHOD_PAYLOAD_MAX);
    s->call.device = device;
    s->call.module = module;
    s->call.name = name;
    s->call.payload = payload;
    s->call.connect_ms = (uint32_t)connect_s * 1000;
    s->call.response_ms = (uint32_t)response_s * 1000;
    job_method(j, s, refuse, method_step_end);
}

static void device_begin(struct job *j)
{
    begin(j, SPAN_NONE, j->r->params[1]);
}
static void module_begin(struct job *j)
{
    begin(j, j->r->params[1], j->r->params[2]);
}

JOB_HANDLER(method_post, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_METHOD, device_begin);
JOB_HANDLER(module_method_post, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_METHOD, module_begin);
