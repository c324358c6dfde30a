/* cli/cmd_feedback.c - roost feedback: what became of messages, one line an outcome. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include <string.h>
#include <time.h>

struct listing {
    struct cli *cli;
    struct table table;           /* for a person who does not follow */
    json_t *gathered;             /* with --json, when it does not follow */
    const char *device, *message; /* NULL: any */
    bool follow;
    uint64_t shown, limit, delivered;
};

static void shown_line(const struct listing *l, const json_t *r)
{
    if (l->cli->json || !l->cli->tty_out) {
        json_write(stdout, r);
        putchar('\n');
    } else {
        char *device = strdup(json_text(r, "device") ? json_text(r, "device") : "-"),
             *id = strdup(json_text(r, "messageId") ? json_text(r, "messageId") : "-");
        const char *at = moment_text(r, "at", (char[24]){ 0 });
        printf("%s  %-20s %-24s %s\n", at ? at : "-", printable(device), printable(id),
               json_text(r, "outcome") ? json_text(r, "outcome") : "-");
        free(device);
        free(id);
    }
    fflush(stdout);
}

static bool wanted(const struct listing *l, const json_t *r)
{
    const char *device = json_text(r, "device"), *id = json_text(r, "messageId");
    return (!l->device || (device && strcmp(device, l->device) == 0)) &&
           (!l->message || (id && strcmp(id, l->message) == 0));
}

/* False: as many as were asked for have been shown. */
static bool page_show(struct listing *l, const json_t *doc)
{
    json_t *r;
    size_t i;
    json_array_foreach(json_object_get(doc, "feedback"), i, r)
    {
        if (!wanted(l, r))
            continue;
        if (json_text(r, "outcome") && strcmp(json_text(r, "outcome"), "Success") == 0)
            l->delivered++;
        l->shown++;
        if (l->follow)
            shown_line(l, r);
        else if (l->cli->json)
            json_array_append(l->gathered, r);
        else
            table_row(&l->table,
                      (const char *const[]){ moment_text(r, "at", (char[24]){ 0 }), json_text(r, "device"),
                                             json_text(r, "messageId"), json_text(r, "outcome") });
        if (l->shown == l->limit || ferror(stdout))
            return false;
    }
    return true;
}

static int walk(struct listing *l, const char *from)
{
    char after[32];
    unsigned fails = 0;
    int rc = CLI_OK;
    snprintf(after, sizeof after, "%s", from);
    for (bool more = true; more && !rc;) {
        struct hub_answer a = { 0 };
        char *path = hub_path("/roost/v1/feedback?after=", after, "");
        int one = hub_ask(l->cli, &(struct hub_request){ .method = "GET", .path = path }, &a);
        free(path);
        if (l->follow && (one || a.status == 429 || a.status >= 500) && fails < 30) {
            fails++; /* it goes on where it was */
        } else if (one || a.status != 200) {
            rc = one ? hub_unreachable(l->cli, &a) : hub_complain(&a, "reading feedback");
        } else {
            json_t *doc = json_loadb((char *)a.body, a.body_len, JSON_ALLOW_NUL, NULL);
            bool any = json_array_size(json_object_get(doc, "feedback")) > 0;
            fails = 0;
            more = page_show(l, doc) && (any || l->follow);
            if (json_object_get(doc, "next"))
                snprintf(after, sizeof after, "%llu", (unsigned long long)json_number(doc, "next", 0));
            json_decref(doc);
            if (any) {
                hub_answer_free(&a);
                continue;
            }
        }
        hub_answer_free(&a);
        if (more && !rc) {
            struct timespec pause = { .tv_sec = fails ? 1 : 0, .tv_nsec = fails ? 0 : 300000000 };
            nanosleep(&pause, NULL);
        }
    }
    return rc;
}

static int feedback_run(struct cli *c, const struct args *a)
{
    static const char *const head[] = { "AT", "DEVICE", "MESSAGE", "OUTCOME" };
    struct listing l = { .cli = c,
                         .device = a->pos_nr ? a->pos[0] : NULL,
                         .message = args_get(a, "message-id"),
                         .follow = args_has(a, "follow") };
    const char *from = args_get(a, "from");
    char number[32];
    uint64_t n;
    if (!from)
        from = l.follow ? "latest" : "earliest";
    if (strcmp(from, "earliest") == 0) {
        from = "0";
    } else if (strcmp(from, "latest") != 0) {
        if (arg_u64(from, 0, INT64_MAX, &n))
            return cli_fail(CLI_USAGE, NULL,
                            "--from is latest, earliest, or the number of the last one seen");
        snprintf(number, sizeof number, "%llu", (unsigned long long)n);
        from = number;
    }
    if (args_has(a, "count") && arg_u64(args_get(a, "count"), 1, UINT64_MAX, &l.limit))
        return cli_fail(CLI_USAGE, NULL, "--count: a number from 1 on");
    int rc = hub_open(c);
    if (rc)
        return rc;
    if (!l.follow && c->json)
        l.gathered = json_array();
    else if (!l.follow)
        table_begin(&l.table, 4, head);
    rc = walk(&l, from);
    if (!l.follow && c->json)
        json_print(json_pack("{s:o,s:I,s:I}", "feedback", l.gathered, "delivered", (json_int_t)l.delivered,
                             "refused", (json_int_t)(l.shown - l.delivered)));
    else if (!l.follow) {
        table_end(&l.table, c, stdout);
        printf("%llu delivered, %llu not\n", (unsigned long long)l.delivered,
               (unsigned long long)(l.shown - l.delivered));
    }
    return rc;
}

static const struct opt opts[] = { { "follow", 'f', NULL, "go on with what comes" },
                                   { "from", 0, "WHERE",
                                     "earliest, latest (as it is with --follow), or behind number N" },
                                   { "message-id", 0, "ID", "of this message only" },
                                   { "count", 'n', "N", "end after N" },
                                   { 0 } };
const struct command feedback_commands[] = {
    { "feedback", "[DEVICE] [--follow]", "Shows what became of messages that were sent with --ack",
      "Outcomes: Success, Expired, DeliveryCountExceeded, Rejected, Purged. What an SDK sent with feedback\n"
      "wanted is here too. With --follow off a terminal, and with --json, one JSON document a line.",
      opts, 0, 1, feedback_run },
    { 0 }
};
