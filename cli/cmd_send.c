/* cli/cmd_send.c - roost send: a message to devices; it waits for those that are away. */
#include "cli/broadcast.h"
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include "base/text.h"

#include <string.h>

#define BODY_MAX 65536u /* what a hub takes */

static char *body_read(const char *arg, size_t *n) /* NULL: too long */
{
    if (strcmp(arg, "-") != 0) {
        *n = strlen(arg);
        return strdup(arg);
    }
    char *p = malloc(BODY_MAX + 1);
    *n = p ? fread(p, 1, BODY_MAX + 1, stdin) : 0;
    if (*n > BODY_MAX) {
        free(p);
        return NULL;
    }
    return p;
}

static json_t *message_make(const char *body, size_t n)
{
    json_t *text = json_stringn(body, n); /* NULL: not UTF-8 */
    if (text)
        return json_pack("{s:o}", "body", text);
    size_t cap = (n + 2) / 3 * 4;
    uint8_t *b64 = malloc(cap + 1);
    if (!b64)
        return NULL;
    struct wr w = { b64, cap, 0 };
    base64_encode(&w, span_of(body, n));
    json_t *o = json_pack("{s:o}", "bodyBase64", json_stringn((char *)b64, w.len));
    free(b64);
    return o;
}

static int options_take(const struct args *a, json_t *m)
{
    const char *v;
    uint64_t n;
    json_t *properties = json_object();
    int rc = CLI_OK;
    for (size_t i = 0; !rc && (v = args_nth(a, "property", i)) != NULL; i++) {
        const char *eq = strchr(v, '=');
        char name[256];
        if (!eq || eq == v || (size_t)(eq - v) >= sizeof name) {
            rc = cli_fail(CLI_USAGE, NULL, "--property NAME=VALUE");
            break;
        }
        snprintf(name, sizeof name, "%.*s", (int)(eq - v), v);
        json_object_set_new(properties, name, json_string(eq + 1));
    }
    if (json_object_size(properties))
        json_object_set(m, "properties", properties);
    json_decref(properties);
    if (!rc && (v = args_get(a, "message-id")) != NULL)
        json_object_set_new(m, "messageId", json_string(v));
    if (!rc && (v = args_get(a, "ack")) != NULL) {
        if (strcmp(v, "none") != 0 && strcmp(v, "positive") != 0 && strcmp(v, "negative") != 0 &&
            strcmp(v, "full") != 0)
            rc = cli_fail(CLI_USAGE, NULL, "--ack is none, positive, negative or full");
        json_object_set_new(m, "ack", json_string(v));
    }
    if (!rc && (v = args_get(a, "ttl")) != NULL) {
        if (arg_duration_s(v, &n) || n == 0)
            rc = cli_fail(CLI_USAGE, NULL, "--ttl: a time such as 90s, 12h or 2d");
        else
            json_object_set_new(m, "ttlSeconds", json_integer((json_int_t)n));
    }
    return rc;
}

static int send_run(struct cli *c, const struct args *a)
{
    bool all = args_has(a, "all");
    size_t body_len = 0, devices = a->pos_nr - 1;
    json_t *message, *sent, *doc;
    uint64_t number = 0;
    int rc = CLI_OK, worst = CLI_OK;

    uint64_t timeout_s = 0;
    if (args_has(a, "wait") && !all)
        return cli_fail(CLI_USAGE, "For single devices: --ack full, then roost feedback --follow.",
                        "--wait goes with --all");
    if (args_has(a, "timeout") && (arg_duration_s(args_get(a, "timeout"), &timeout_s) || timeout_s == 0))
        return cli_fail(CLI_USAGE, NULL, "--timeout: a time such as 90s, 30m or 2h");
    if (all && devices)
        return cli_fail(CLI_USAGE, NULL, "name devices or say --all, not both");
    if (!all && !devices)
        return cli_fail(CLI_USAGE, "roost send DEVICE... BODY, or roost send --all BODY", "to whom?");
    char *body = body_read(a->pos[a->pos_nr - 1], &body_len);
    if (!body)
        return cli_fail(CLI_REFUSED, NULL, "a message has at most %u bytes", BODY_MAX);
    message = message_make(body, body_len);
    sent = json_array();
    free(body);
    rc = message ? options_take(a, message) : cli_fail(CLI_USAGE, NULL, "out of memory");
    for (size_t i = 0; !rc && i < (all ? 1 : devices); i++) {
        char *path =
            all ? strdup("/roost/v1/broadcast") : hub_path("/roost/v1/devices/", a->pos[i], "/messages");
        const char *to = all ? "everyone" : a->pos[i];
        char what[256];
        snprintf(what, sizeof what, "sending to %s", to);
        doc = NULL;
        int one = hub_json(c, "POST", path, json_incref(message), what, &doc);
        if (!one) {
            if (doc && !all)
                json_object_set_new(doc, "device", json_string(a->pos[i]));
            json_array_append(sent, doc);
            number = json_number(doc, "sequence", 0);
            cli_say(c, "%s: queued as %llu\n", to, (unsigned long long)json_number(doc, "sequence", 0));
        }
        json_decref(doc);
        worst = one > worst ? one : worst; /* the others still get theirs */
        if (one == CLI_AUTH || one == CLI_UNREACHABLE)
            rc = one;
        free(path);
    }
    bool wait = args_has(a, "wait") && json_array_size(sent);
    if (wait) {
        fflush(stdout);
        worst = broadcast_follow(c, number, timeout_s);
    }
    if (c->json && json_array_size(sent) && !wait)
        json_print(json_pack("{s:O}", "sent", sent));
    json_decref(message);
    json_decref(sent);
    return rc ? rc : worst;
}

static const struct opt opts[] = { { "all", 0, NULL, "to every device there is now" },
                                   { "message-id", 0, "ID", "its id, for the receiver and for feedback" },
                                   { "property", 'p', "NAME=VALUE", "application property; may repeat" },
                                   { "ttl", 0, "TIME", "how long it waits, such as 90s, 12h or 2d" },
                                   { "wait", 0, NULL,
                                     "with --all: until it is known for every device; the exit code tells" },
                                   { "timeout", 0, "TIME", "wait at most so long, such as 90s, 30m or 2h" },
                                   { "ack", 0, "WHICH", "feedback wanted: none, positive, negative, full" },
                                   { 0 } };
const struct command send_commands[] = {
    { "send", "DEVICE... | --all BODY", "Sends a message to devices; it waits until they fetch it",
      "BODY is text, or - for what comes on standard input. The message "
      "\"update\" makes a device check in at once.\n"
      "With --all --wait the exit code is the truth: 0 every device took it, 5 some\n"
      "refused it or let it expire, 6 not known in time (it goes on waiting for them),\n"
      "7 the hub cannot be reached. Devices deleted meanwhile do not count.",
      opts, 1, 1001, send_run },
    { 0 }
};
