/* cli/cmd_watch.c - roost watch: telemetry as it comes. When the connection breaks it goes on where it was.
 * With a group the hub keeps the place: what was printed is committed about once a second and at the end, so
 * that after a crash a record may come twice but none is left out. */
#include "cli/commands.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include "base/text.h"

#include <signal.h>
#include <string.h>
#include <time.h>

#define PARTITIONS_MAX 64u

struct watch {
    const struct cli *cli;
    bool seen[PARTITIONS_MAX];
    uint64_t last[PARTITIONS_MAX]; /* newest sequence shown of each partition */
    char enqueued[64];             /* of the newest record: where to go on */
    uint64_t shown, limit;
    const char *stream; /* NULL: the built-in one */
    /* of a group */
    const char *group;                  /* NULL: none */
    struct cli side;                    /* a connection of its own: commits while the stream goes on */
    uint64_t committed[PARTITIONS_MAX]; /* the hub has these as the next ones */
    double committed_s;                 /* monotonic */
    int failed;                         /* exit code of a commit that was refused */
};

static volatile sig_atomic_t stopped;
static void on_signal(int sig)
{
    (void)sig;
    stopped = 1;
}

/* In UTC, to the second; of today without the date. */
static const char *short_time(const char *at, char out[24])
{
    char today[16] = "";
    const time_t now = time(NULL);
    struct tm tm;
    if (!at || strlen(at) < 20)
        return "";
    if (gmtime_r(&now, &tm))
        strftime(today, sizeof today, "%Y-%m-%dT", &tm);
    const size_t skip = today[0] && strncmp(at, today, strlen(today)) == 0 ? strlen(today) : 0;
    snprintf(out, 24, "%.*sZ", (int)(19 - skip), at + skip);
    return out;
}

static void pretty(const struct cli *c, const json_t *r)
{
    const char *at = json_text(r, "enqueued"), *device = json_text(r, "device"), *body = json_text(r, "body");
    const json_t *properties = json_object_get(r, "properties");
    const char *name;
    json_t *v;
    char *shown = strdup(body ? body : json_text(r, "bodyBase64") ? json_text(r, "bodyBase64") : "");
    char *who = strdup(device ? device : "-");
    const char *dim = c->colour ? "\033[2m" : "", *bold = c->colour ? "\033[1m" : "",
               *off = c->colour ? "\033[0m" : "";
    printf("%s%s%s  %s%-20s%s %s", dim, short_time(at, (char[24]){ 0 }), off, bold, printable(who), off,
           printable(shown));
    json_object_foreach((json_t *)(uintptr_t)properties, name, v)
    {
        if (!json_is_string(v))
            continue;
        size_t n = strlen(name) + strlen(json_string_value(v)) + 2;
        char *pair = cli_alloc(n);
        snprintf(pair, n, "%s=%s", name, json_string_value(v));
        printf("  %s%s%s", dim, printable(pair), off);
        free(pair);
    }
    putchar('\n');
    free(shown);
    free(who);
}

/* Tells the hub how far the group is. An unreachable hub is no failure: the next commit says it all. */
static void commit(struct watch *w)
{
    json_t *arr = json_array();
    struct hub_answer answer = { 0 };
    for (unsigned p = 0; w->group && p < PARTITIONS_MAX; p++)
        if (w->seen[p] && w->last[p] + 1 > w->committed[p])
            json_array_append_new(
                arr, json_pack("{s:i,s:I}", "partition", (int)p, "next", (json_int_t)w->last[p] + 1));
    w->committed_s = monotonic_s();
    if (!json_array_size(arr)) {
        json_decref(arr);
        return;
    }
    json_t *body = json_pack("{s:o}", "positions", arr);
    char *text = json_dumps(body, JSON_COMPACT);
    char *path = hub_path("/roost/v1/telemetry/groups/", w->group, "");
    struct hub_request r = {
        .method = "PUT", .path = path, .content_type = "application/json", .body = span_str(text)
    };
    if (hub_ask(&w->side, &r, &answer) == CLI_OK) {
        if (answer.status == 200) {
            for (unsigned p = 0; p < PARTITIONS_MAX; p++)
                w->committed[p] = w->seen[p] ? w->last[p] + 1 : w->committed[p];
        } else if (answer.status != 429 && answer.status < 500) {
            w->failed = hub_complain(&answer, "keeping the group's place");
        }
    }
    hub_answer_free(&answer);
    json_decref(body);
    free(text);
    free(path);
}

static bool on_tick(void *ctx)
{
    struct watch *w = ctx;
    if (monotonic_s() - w->committed_s >= 1)
        commit(w);
    return !stopped && !w->failed;
}

static bool on_line(void *ctx, const char *line, size_t n)
{
    struct watch *w = ctx;
    json_t *r = json_loadb(line, n, JSON_ALLOW_NUL, NULL);
    uint64_t partition = json_number(r, "partition", 0), seq = json_number(r, "sequence", 0);
    const char *at = json_text(r, "enqueued");
    if (!json_is_object(r) ||
        (partition < PARTITIONS_MAX && w->seen[partition] && seq <= w->last[partition])) {
        json_decref(r); /* shown before the connection broke */
        return true;
    }
    if (partition < PARTITIONS_MAX) {
        w->seen[partition] = true;
        w->last[partition] = seq;
    }
    if (at)
        snprintf(w->enqueued, sizeof w->enqueued, "%s", at);
    if (w->cli->json || !w->cli->tty_out) {
        json_bytes(stdout, line, n);
        putchar('\n');
    } else {
        pretty(w->cli, r);
    }
    json_decref(r);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (partition < PARTITIONS_MAX) /* nobody has read it */
            w->last[partition] = seq - 1;
        return false;
    }
    return ++w->shown != w->limit && !stopped;
}

static char *query(const struct watch *w, const char *device, const char *from, bool follow)
{
    char tail[1024], at[256] = "", stream[256] = "";
    struct wr s = { (uint8_t *)stream, sizeof stream - 1, 0 };
    struct wr e = { (uint8_t *)at, sizeof at - 1, 0 };
    if (w->enqueued[0] && !w->group) { /* of a group the hub knows better */
        wr_str(&e, "time:");
        percent_encode(&e, span_str(w->enqueued));
    } else {
        percent_encode(&e, span_str(from));
    }
    at[wr_ok(&e) ? e.len : 0] = 0;
    if (w->stream) {
        wr_str(&s, "&stream=");
        percent_encode(&s, span_str(w->stream));
        stream[wr_ok(&s) ? s.len : 0] = 0;
    }
    snprintf(tail, sizeof tail, "&from=%s%s%s", at, follow ? "" : "&follow=false", stream);
    if (w->group)
        return hub_path("/roost/v1/telemetry?group=", w->group, tail);
    return device ? hub_path("/roost/v1/telemetry?device=", device, tail)
                  : hub_path("/roost/v1/telemetry?", "", tail + 1);
}

/* A slip of the pen would be waited for without end. What a device sent that is gone is still there, so it is
 * no error. */
static void note_unknown(struct cli *c, const char *device)
{
    struct hub_answer answer = { 0 };
    char *path = hub_path("/roost/v1/devices/", device, "/twin");
    if (hub_ask(c, &(struct hub_request){ .method = "GET", .path = path }, &answer) == CLI_OK &&
        answer.status == 404)
        fprintf(stderr,
                "roost: there is no device \"%s\" now; `roost device list` shows the ones there are\n",
                device);
    hub_answer_free(&answer);
    free(path);
}

static int watch_run(struct cli *c, const struct args *a)
{
    const char *from = args_has(a, "from") ? args_get(a, "from") : "latest",
               *device = a->pos_nr ? a->pos[0] : NULL;
    bool follow = !args_has(a, "no-follow");
    struct watch w = { .cli = c, .stream = args_get(a, "stream") };
    unsigned fails = 0;
    int rc = hub_open(c);

    w.group = args_get(a, "consumer-group");
    if (!rc && w.group) {
        struct sigaction act = { .sa_handler = on_signal };
        if (device)
            rc = cli_fail(CLI_USAGE, NULL, "a group reads all devices: leave %s out", device);
        sigaction(SIGINT, &act, NULL); /* the place is kept before it ends */
        sigaction(SIGTERM, &act, NULL);
        w.side = *c;
        w.side.client = NULL;
        if (!rc)
            rc = hub_open(&w.side);
    }
    if (!rc && args_has(a, "count") && arg_u64(args_get(a, "count"), 1, UINT64_MAX, &w.limit))
        rc = cli_fail(CLI_USAGE, NULL, "--count: a number from 1 on");
    if (!rc && device)
        note_unknown(c, device);
    while (!rc) {
        struct hub_answer answer;
        bool any = false;
        char *path = query(&w, device, from, follow);
        int one = hub_lines(c, path, on_line, w.group ? on_tick : NULL, &w, &any, &answer);
        free(path);
        commit(&w);
        fails = any ? 0 : fails + 1;
        if (w.failed)
            rc = w.failed;
        else if (stopped)
            follow = false;
        else if (!one && (answer.status < 200 || answer.status > 299))
            rc = hub_complain(&answer, "watching telemetry");
        else if (!one && (!follow || (w.limit && w.shown == w.limit)))
            follow = false;
        else if (fails > 5)
            rc = one ? hub_unreachable(c, &answer)
                     : cli_fail(CLI_UNREACHABLE, NULL, "the hub ends the stream again and again");
        if (ferror(stdout)) /* whoever read it has gone */
            follow = false;
        hub_answer_free(&answer);
        if (rc || !follow)
            break;
        if (c->tty_err)
            fprintf(stderr, "connection lost, going on where it was\n");
        struct timespec pause = { .tv_sec = fails };
        nanosleep(&pause, NULL);
    }
    hub_close(&w.side);
    return rc;
}

static const struct opt opts[] = {
    { "from", 0, "WHERE", "latest (as it is), earliest, -1h (or s, m, d), seq:N, time:ISO-8601" },
    { "consumer-group", 'g', "GROUP", "go on where this group's last reader was; the hub keeps the place" },
    { "no-follow", 0, NULL, "end at the newest record" },
    { "stream", 0, "NAME", "of an endpoint of kind stream, or dead-letter" },
    { "count", 'n', "N", "end after N records" },
    { 0 }
};
const struct command watch_commands[] = {
    { "watch", "[DEVICE]", "Shows telemetry as it comes, of one device or of all",
      "On a terminal a line a message; otherwise, and with --json, one JSON document a line. With\n"
      "--consumer-group the place is kept after what was printed; --from says where a group begins that\n"
      "has no place yet.",
      opts, 0, 1, watch_run },
    { 0 }
};
