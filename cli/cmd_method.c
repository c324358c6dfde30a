/* cli/cmd_method.c - roost method: calls a connected device and prints what it answers. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include "base/text.h"

#include <string.h>

#define PAYLOAD_MAX 131072u /* what a hub takes */

/* The payload, as JSON text: the argument, or standard input. 0, or an exit code. */
static int payload_read(const char *arg, char **out)
{
    char *p = NULL;
    if (!arg) {
        p = strdup("null");
    } else if (strcmp(arg, "-") != 0) {
        p = strdup(arg);
    } else {
        p = cli_alloc(PAYLOAD_MAX + 2);
        size_t n = fread(p, 1, PAYLOAD_MAX + 1, stdin);
        p[n] = 0;
    }
    if (!p)
        return cli_fail(CLI_USAGE, NULL, "out of memory");
    json_error_t where;
    json_t *v = NULL;
    int rc = CLI_OK;
    if (strlen(p) > PAYLOAD_MAX)
        rc = cli_fail(CLI_REFUSED, NULL, "a payload has at most %u bytes", PAYLOAD_MAX);
    else if (!(v = json_loads(p, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &where)))
        rc = cli_fail(CLI_USAGE, "A payload is JSON: a text needs its quotes, as in '\"hello\"'.",
                      "the payload is not JSON: %s (line %d, column %d)", where.text, where.line,
                      where.column);
    json_decref(v);
    if (rc)
        free(p);
    else
        *out = p;
    return rc;
}

static int seconds_take(const struct args *a, const char *name, uint64_t min, uint64_t *s)
{
    const char *v = args_get(a, name);
    if (v && (arg_duration_s(v, s) || *s < min || *s > 300))
        return cli_fail(CLI_USAGE, NULL, "--%s: from %us to 300s", name, (unsigned)min);
    return CLI_OK;
}

/* "/roost/v1/devices/D[/modules/M]/methods/NAME"; the caller frees it. */
static char *path_make(const char *to, const char *name)
{
    char device[256], *head, *path, *whole;
    const char *slash = strchr(to, '/');
    snprintf(device, sizeof device, "%.*s", (int)(slash ? (size_t)(slash - to) : strlen(to)), to);
    head = hub_path("/roost/v1/devices/", device, slash ? "/modules/" : "/methods/");
    if (slash) {
        path = hub_path(head, slash + 1, "/methods/");
        free(head);
        head = path;
    }
    whole = hub_path(head, name, "");
    free(head);
    return whole;
}

/* The exit code that goes with the hub's refusal. */
static int refused(const struct hub_answer *answer, const char *what)
{
    json_t *doc =
        answer->body ? json_loadb((char *)answer->body, answer->body_len, JSON_ALLOW_NUL, NULL) : NULL;
    const char *code = json_text(json_object_get(doc, "error"), "code");
    bool silent = code && strcmp(code, "no-answer") == 0, lost = code && strcmp(code, "connection-lost") == 0;
    bool odd = code && strcmp(code, "answer-too-large") == 0;
    bool away = code && strcmp(code, "device-offline") == 0;
    int rc;
    if (silent || lost || odd) {
        rc = silent ? CLI_TIMEOUT : CLI_FAILED;
        cli_fail(rc, NULL, "%s: %s (%s)", what, json_text(json_object_get(doc, "error"), "message"), code);
    } else if (away) {
        rc = cli_fail(CLI_REFUSED, "--connect-timeout 60s waits for it.",
                      "%s: the device is not connected, or takes no methods (%s)", what, code);
    } else {
        rc = hub_complain(answer, what);
    }
    json_decref(doc);
    return rc;
}

/* {"status":200,"payload":...}: the payload is the last member, and printed as the device wrote it. */
static int answered(const struct cli *c, const struct hub_answer *answer, const char *what)
{
    json_t *doc =
        json_loadb((char *)answer->body, answer->body_len, JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, NULL);
    char *text = cli_alloc(answer->body_len + 1);
    memcpy(text, answer->body, answer->body_len);
    char *payload = strstr(text, "\"payload\":"), *end = strrchr(text, '}');
    int rc = CLI_OK;
    if (!doc || !payload || !end || end < payload) {
        rc = cli_fail(CLI_UNREACHABLE, NULL, "%s: the hub's answer makes no sense", what);
    } else {
        long status = (long)json_real_value(json_object_get(doc, "status"));
        if (!c->json) {
            *end = 0;
            text = memmove(text, payload + 10, strlen(payload + 10) + 1);
        }
        json_bytes(stdout, text, strlen(text));
        putchar('\n');
        if (status < 200 || status > 299)
            rc = cli_fail(CLI_FAILED, NULL, "%s: the device answered with status %ld", what, status);
    }
    free(text);
    json_decref(doc);
    return rc;
}

static int method_run(struct cli *c, const struct args *a)
{
    uint64_t response_s = 30, connect_s = 0;
    char what[320], head[96], *payload = NULL;
    int rc = seconds_take(a, "timeout", 5, &response_s);
    if (!rc)
        rc = seconds_take(a, "connect-timeout", 0, &connect_s);
    if (!rc)
        rc = payload_read(a->pos_nr > 2 ? a->pos[2] : NULL, &payload);
    if (!rc && (rc = hub_open(c)) != CLI_OK)
        free(payload);
    if (rc)
        return rc;
    snprintf(what, sizeof what, "calling %s of %s", a->pos[1], a->pos[0]);
    int n = snprintf(head, sizeof head,
                     "{\"responseTimeoutSeconds\":%u,\"connectTimeoutSeconds\":%u,\"payload\":",
                     (unsigned)response_s, (unsigned)connect_s);
    size_t cap = (size_t)n + strlen(payload) + 1;
    struct wr w = { cli_alloc(cap), cap, 0 };
    wr_put(&w, span_of(head, (size_t)n));
    wr_str(&w, payload);
    wr_u8(&w, '}');
    char *path = path_make(a->pos[0], a->pos[1]);
    struct hub_answer answer = { 0 };
    rc = hub_ask(c,
                 &(struct hub_request){ .method = "POST",
                                        .path = path,
                                        .content_type = "application/json",
                                        .body = wr_span(&w),
                                        .silent_s = (unsigned)(response_s + connect_s) + 30 },
                 &answer);
    if (rc)
        rc = hub_unreachable(c, &answer);
    else if (answer.status == 200)
        rc = answered(c, &answer, what);
    else
        rc = refused(&answer, what);
    hub_answer_free(&answer);
    free(path);
    free(payload);
    free(w.p);
    return rc;
}

static const struct opt opts[] = {
    { "timeout", 0, "TIME", "how long the device may take to answer, 5s to 300s [30s]" },
    { "connect-timeout", 0, "TIME", "how long to wait for a device that is away, up to 300s [0s]" },
    { 0 }
};
const struct command method_commands[] = { { "method", "DEVICE[/MODULE] NAME [PAYLOAD]",
                                             "Calls a method of a connected device",
                                             "PAYLOAD is JSON, or - for what comes on standard input; null "
                                             "without one. The device's answer is printed as "
                                             "it is, with --json together with its status. The exit code is "
                                             "0 for a status from 200 to 299, 5 for another "
                                             "one or when the connection was lost, 6 when the device did not "
                                             "answer in time, 3 when it is not there.",
                                             opts, 2, 3, method_run },
                                           { 0 } };
