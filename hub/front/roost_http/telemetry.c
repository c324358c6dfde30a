/* hub/front/roost_http/telemetry.c - GET /roost/v1/telemetry: a stream as one JSON line a message. One read
 * is under way at a time; nothing is read while the client has not taken what was sent, so a slow reader
 * costs one buffer and the stream waits for nobody. */
#include "hub/domain/message/telemetry.h"

#include "base/log.h"
#include "base/text.h"
#include "hub/domain/identity/identity.h"
#include "hub/domain/message/reader_group.h"
#include "hub/front/http/message_json.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"
#include "hub/front/routing/routing.h"

#include <stdlib.h>
#include <string.h>

#define STREAMS_MAX    64u
#define PARTITIONS_MAX 32u
#define RECORDS_MAX    64u
#define READ_MIN       65536u
#define UNSENT_MAX     65536u /* above: wait until it has left */

enum part_state { PART_READY, PART_READING, PART_WATCHING, PART_DONE };
struct part {
    struct stream_watch watch; /* first */
    struct tail *tail;
    struct stream_pos pos;
    uint64_t end_seq; /* follow=false: stop before it */
    enum part_state state;
};
struct tail {
    struct stream_read read; /* first */
    struct job *j;
    struct part *reading; /* NULL: no read is under way */
    struct part parts[PARTITIONS_MAX];
    unsigned parts_nr, turn;
    struct stream_record records[RECORDS_MAX];
    size_t record_at; /* of read.records: the next to send */
    struct stream *stream;
    struct out *out; /* whose it is; NULL: the built-in one */
    struct span device;
    struct reader_place *places; /* of the group; in the job's arena */
    struct timer end;            /* of its token */
    bool follow, gone, blocked;
    char *line; /* owned: being sent, from line_at on */
    size_t line_len, line_at;
    size_t buf_cap;
};

static void pump(struct tail *t);

/* ---- one record as a line ----------------------------------------------------------------------------- */

static void set_line(struct tail *t, json_t *o)
{
    size_t n = o ? json_dumpb(o, NULL, 0, JSON_COMPACT) : 0;
    t->line = n ? malloc(n + 1) : NULL;
    if (t->line) {
        (void)json_dumpb(o, t->line, n, JSON_COMPACT);
        t->line[n] = '\n';
        t->line_len = n + 1;
        t->line_at = 0;
    }
    json_decref(o);
}

/* ---- sending ------------------------------------------------------------------------------------------ */

static void on_room(struct http_req *r)
{
    struct tail *t = r->user;
    t->blocked = false;
    pump(t);
}

/* True when the line has been handed over. */
static bool send_line(struct tail *t)
{
    while (t->line && !t->blocked) {
        size_t n = t->line_len - t->line_at;
        if (n > UNSENT_MAX)
            n = UNSENT_MAX;
        size_t unsent = http_stream_send(t->j->r, span_of(t->line + t->line_at, n));
        t->line_at += n;
        if (t->line_at == t->line_len) {
            free(t->line);
            t->line = NULL;
        }
        if (unsent > UNSENT_MAX && !t->gone) {
            t->blocked = true;
            http_stream_on_room(t->j->r, on_room);
        }
    }
    return !t->line;
}

/* True when all records of the last read have been handed over. */
static bool send_records(struct tail *t)
{
    for (;;) {
        struct message m;
        if (!send_line(t))
            return false;
        if (t->record_at == t->read.records_nr)
            return true;
        const struct stream_record *r = &t->read.records[t->record_at++];
        if (message_decode(r->record, &m) || (t->device.n && !span_eq(t->device, m.device)))
            continue;
        set_line(t, message_json(r, &m));
    }
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static bool is_over(const struct tail *t)
{
    for (unsigned i = 0; i < t->parts_nr; i++)
        if (t->parts[i].state == PART_READING || t->parts[i].state == PART_WATCHING ||
            (!t->gone && t->parts[i].state == PART_READY))
            return false;
    return t->gone || (!t->line && t->record_at == t->read.records_nr);
}

static void finish(struct tail *t)
{
    struct job *j = t->j;
    timer_disarm(&t->end);
    atomic_fetch_sub(&roost_of(j)->telemetry_nr, 1);
    if (t->out)
        routing_stream_put(t->out);
    http_stream_end(j->r);
    free(t->line);
    free(t->read.buf);
    free(t);
    job_release(j);
}

static void on_watch(struct op *op)
{
    struct part *p = CONTAINER_OF(op, struct part, watch.op);
    p->state = op->err ? PART_DONE : PART_READY;
    pump(p->tail);
}

static void wait_for_more(struct tail *t, struct part *p)
{
    struct stream_info info;
    if (p->pos.from == STREAM_TIME) { /* nothing at or after it yet: whatever comes next is */
        stream_get_info(t->stream, p->pos.partition, &info);
        p->pos = (struct stream_pos){ p->pos.partition, STREAM_SEQ, info.next_seq };
    }
    p->state = PART_WATCHING;
    p->watch.partition = p->pos.partition;
    p->watch.seq = p->pos.value;
    p->watch.op.home = worker_mailbox(t->j->r->worker);
    p->watch.op.done = on_watch;
    stream_watch(t->stream, &p->watch);
}

static void on_read(struct op *op)
{
    struct tail *t = (struct tail *)op;
    struct part *p = t->reading;
    t->reading = NULL;
    p->state = PART_READY;
    t->record_at = 0;
    if (op->err) {
        t->read.records_nr = 0;
        if (op->err == ERR_AGAIN && t->follow && !t->gone) {
            wait_for_more(t, p);
        } else {
            p->state = PART_DONE;
            if (op->err != ERR_AGAIN && op->err != ERR_STOPPED)
                log_error("http.telemetry", "err=%s partition=%u", err_name(op->err), p->pos.partition);
        }
    } else {
        p->pos = (struct stream_pos){ p->pos.partition, STREAM_SEQ, t->read.next_seq };
        while (!t->follow && t->read.records_nr && t->read.records[t->read.records_nr - 1].seq >= p->end_seq)
            t->read.records_nr--; /* came in after the request */
        if (!t->follow && t->read.next_seq >= p->end_seq)
            p->state = PART_DONE;
        if (t->read.skipped && !t->gone)
            set_line(t, json_pack("{s:i,s:I}", "partition", (int)p->pos.partition, "skipped",
                                  (json_int_t)t->read.skipped));
    }
    pump(t);
}

static void pump(struct tail *t)
{
    if (!t->reading && !t->gone && !t->blocked && send_records(t) && !t->blocked) {
        for (unsigned i = 0; i < t->parts_nr && !t->reading; i++) {
            struct part *p = &t->parts[t->turn++ % t->parts_nr];
            if (p->state != PART_READY)
                continue;
            t->reading = p;
            p->state = PART_READING;
            t->read.pos = p->pos;
            t->read.buf_cap = t->buf_cap;
            t->read.records_cap = RECORDS_MAX;
            t->read.records_nr = 0;
            t->record_at = 0;
            stream_read(t->stream, &t->read);
        }
    }
    if (is_over(t))
        finish(t);
}

#define END_MAX_MS (24u * 3600u * 1000u)

/* When its token ends, with the same grace as that of a connection. */
static uint64_t end_ms(const struct job *j)
{
    uint64_t grace = 1000ull * j->h->settings.sas_grace_s;
    return j->check.expires_ms > UINT64_MAX - grace ? UINT64_MAX : j->check.expires_ms + grace;
}

static void on_end(struct timer *timer);

static void arm_end(struct tail *t, uint64_t left_ms)
{
    struct worker *w = t->j->r->worker;
    t->end.on_timer = on_end;
    timer_arm(w, &t->end, worker_now_ms(w) + (left_ms < END_MAX_MS ? left_ms + 1 : END_MAX_MS));
}

static void on_gone(struct http_req *r)
{
    struct tail *t = r->user;
    t->gone = true;
    t->blocked = false;
    for (unsigned i = 0; i < t->parts_nr; i++)
        if (t->parts[i].state == PART_WATCHING)
            stream_unwatch(t->stream, &t->parts[i].watch); /* comes home, and ends it there */
    if (is_over(t))
        finish(t);
}

static void on_end(struct timer *timer)
{
    struct tail *t = CONTAINER_OF(timer, struct tail, end);
    struct job *j = t->j;
    uint64_t wall = j->h->wall_ms(), at = end_ms(j), left = at > wall ? at - wall : 0;
    if (left) { /* the clock was set, or it is further away than one timer goes */
        arm_end(t, left);
        return;
    }
    log_info("http.telemetry", "policy=%.*s state=ended reason=\"its token has expired\"", (int)j->who.n,
             (const char *)j->who.p);
    if (t->line) /* half a line would look like a whole one */
        conn_close(j->r->conn, CONN_CLOSE_AUTH);
    else
        on_gone(j->r); /* as if the reader had: the stream has its proper end */
}

/* ---- the request -------------------------------------------------------------------------------------- */

/* "-90s", "-1h": so long ago. */
static bool read_ago(struct job *j, struct span s, struct stream_pos *pos)
{
    static const char units[] = "smhd";
    static const uint64_t ms[] = { 1000, 60000, 3600000, 86400000 };
    const char *unit = s.n > 2 && s.p[0] == '-' ? strchr(units, s.p[s.n - 1]) : NULL;
    uint64_t n, now = j->h->wall_ms();
    if (!unit || !*unit || u64_parse(span_of(s.p + 1, s.n - 2), 1000000000u, &n))
        return false;
    n *= ms[unit - units];
    *pos = (struct stream_pos){ .from = STREAM_TIME, .value = n < now ? now - n : 0 };
    return true;
}

static bool read_from(struct job *j, struct stream_pos *pos, bool one_partition)
{
    struct span s;
    *pos = (struct stream_pos){ .from = STREAM_LATEST };
    if (!http_query(j->r, "from", &s) || span_eq(s, SPAN("latest")))
        return true;
    if (span_eq(s, SPAN("earliest"))) {
        pos->from = STREAM_EARLIEST;
        return true;
    }
    if (span_starts(s, SPAN("seq:")) && !u64_parse(span_skip(s, 4), INT64_MAX, &pos->value)) {
        pos->from = STREAM_SEQ;
        return one_partition
                   ? true
                   : job_fail(j, 400, "bad-query",
                              "query \"from=seq:N\" needs \"partition\" or \"device\": sequence numbers "
                              "belong to a partition");
    }
    if (span_starts(s, SPAN("time:")) && (!iso8601_decode(span_skip(s, 5), &pos->value) ||
                                          !u64_parse(span_skip(s, 5), INT64_MAX, &pos->value))) {
        pos->from = STREAM_TIME;
        return true;
    }
    if (read_ago(j, s, pos))
        return true;
    return job_fail(
        j, 400, "bad-query",
        "query \"from\" has to be latest, earliest, seq:NUMBER, time:ISO-8601 (or milliseconds) or "
        "how long ago, such as -90s, -30m, -2h, -1d");
}

static bool read_query(struct job *j, struct tail *t)
{
    uint64_t partition = UINT64_MAX;
    struct stream_pos pos;
    struct span s;
    t->stream = j->h->stream;
    if (http_query(j->r, "stream", &s) && !span_ieq(s, SPAN("events"))) {
        if (t->places)
            return job_fail(j, 400, "bad-query", "query \"group\" is for the built-in stream alone");
        if (!roost_of(j)->routing || routing_stream_get(roost_of(j)->routing, s, &t->out))
            return job_fail(j, 404, "stream-not-found", "there is no endpoint of kind stream of that name");
        t->stream = routing_stream_of(t->out);
    }
    uint32_t all = stream_partitions(t->stream);
    t->follow = true;
    if (http_query(j->r, "device", &s)) {
        if (!in_device_id(j, s))
            return false;
        t->device = s;
        partition = telemetry_partition(j->h, s);
    }
    if (!in_query_u64(j, "partition", all - 1, &partition) || !in_query_bool(j, "follow", &t->follow) ||
        !read_from(j, &pos, partition != UINT64_MAX))
        return false;
    for (uint32_t p = 0; p < all && p < PARTITIONS_MAX; p++) {
        struct stream_info info;
        if (partition != UINT64_MAX && partition != p)
            continue;
        struct part *to = &t->parts[t->parts_nr++];
        stream_get_info(t->stream, p, &info);
        to->tail = t;
        to->pos = pos;
        to->pos.partition = p;
        to->end_seq = info.next_seq;
        /* "latest" is now: what arrives before the first read counts. */
        if (pos.from == STREAM_LATEST)
            to->pos = (struct stream_pos){ p, STREAM_SEQ, info.next_seq };
        else if (pos.from == STREAM_EARLIEST)
            to->pos = (struct stream_pos){ p, STREAM_SEQ, info.first_seq };
        if (t->places && t->places[p].known)
            to->pos = (struct stream_pos){ p, STREAM_SEQ, t->places[p].next };
        if (!t->follow && (info.first_seq == info.next_seq ||
                           (to->pos.from == STREAM_SEQ && to->pos.value >= info.next_seq)))
            to->state = PART_DONE;
    }
    return true;
}

static void begin(struct job *j)
{
    struct tail *t = calloc(1, sizeof *t);
    if (!t) {
        job_end_err(j, ERR_NOMEM);
        return;
    }
    t->j = j;
    t->places = j->state;
    if (atomic_fetch_add(&roost_of(j)->telemetry_nr, 1) >= STREAMS_MAX) {
        (void)job_fail(j, 503, "too-many-readers", "%u readers follow the telemetry already: try again later",
                       STREAMS_MAX);
        job_field(j, "Retry-After", "30");
    } else if (read_query(j, t)) {
        t->buf_cap = j->h->settings.message_max + READ_MIN;
        t->read.buf = malloc(t->buf_cap);
        if (!t->read.buf)
            (void)job_fail_err(j, ERR_NOMEM);
    }
    if (j->code) {
        atomic_fetch_sub(&roost_of(j)->telemetry_nr, 1);
        if (t->out)
            routing_stream_put(t->out);
        free(t);
        job_end(j);
        return;
    }
    t->read.records = t->records;
    t->read.op.home = worker_mailbox(j->r->worker);
    t->read.op.done = on_read;
    j->r->user = t;
    j->r->on_gone = on_gone;
    http_stream_begin(j->r, 200, "application/x-ndjson", "Cache-Control: no-store\r\n");
    uint64_t wall = j->h->wall_ms(), at = end_ms(j);
    arm_end(t, at > wall ? at - wall : 0);
    t->gone = !j->r->conn; /* while its credentials were checked: then nobody will say so again */
    pump(t);
}

/* A group that reads for the first time begins where it asked to, and keeps that place: what comes before its
 * first commit is not lost when it has to come again. A time has no number yet: its place is kept with the
 * first commit. */
static enum err find_places(struct job *j, struct store_tx *tx)
{
    struct reader_place *places = j->state;
    struct stream_pos pos;
    struct span name;
    bool fresh = false;
    (void)http_query(j->r, "group", &name);
    enum err e = reader_group_get(j->h, tx, name, places);
    if ((e && e != ERR_NOTFOUND) || !read_from(j, &pos, false))
        return e && e != ERR_NOTFOUND ? e : ERR_PROTO;
    for (uint32_t p = 0; p < stream_partitions(j->h->stream) && p < READER_PARTITIONS_MAX; p++) {
        struct stream_info info;
        if (places[p].known || pos.from == STREAM_TIME)
            continue;
        stream_get_info(j->h->stream, p, &info);
        places[p] =
            (struct reader_place){ true, pos.from == STREAM_EARLIEST ? info.first_seq : info.next_seq };
        fresh = true;
    }
    e = fresh ? reader_group_commit(j->h, tx, name, places) : ERR_OK;
    if (e == ERR_LIMIT)
        (void)job_fail(j, 409, "too-many-groups", "there are %u groups already: delete one first",
                       READER_GROUPS_MAX);
    return e;
}

static void start(struct job *j)
{
    struct span group, other;
    if (!http_query(j->r, "group", &group)) {
        begin(j);
        return;
    }
    j->state = arena_alloc(&j->a, READER_PARTITIONS_MAX * sizeof(struct reader_place));
    if (!j->state) {
        job_end_err(j, ERR_NOMEM);
    } else if (!reader_group_name_ok(group)) {
        (void)job_fail(j, 400, "bad-group-name",
                       "the name of a group has 1 to %u letters, digits and - . _ $", READER_GROUP_NAME_MAX);
        job_end(j);
    } else if (http_query(j->r, "device", &other)) {
        (void)job_fail(j, 400, "bad-query",
                       "a group keeps its place in the log of all devices: leave \"device\" out");
        job_end(j);
    } else {
        job_write(j, find_places, begin);
    }
}

JOB_HANDLER(telemetry_get, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start);
