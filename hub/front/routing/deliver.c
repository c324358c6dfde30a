/* hub/front/routing/deliver.c - the thread of one endpoint: reads its stream, hands over, tries again, gives
 * up into the dead-letter stream. */
#include "hub/front/routing/routing_impl.h"

#include "base/log.h"

#include <stdlib.h>

#define RETRY_FIRST_MS 1000u
#define RETRY_MAX_MS   60000u
#define IDLE_MS        1000u
#define BATCH_MAX      500u
#define REFUSALS_MAX   3u /* of one message by itself: then it is given up */

struct turn { /* one deliverer at work */
    struct out *o;
    struct ringing ringing;
    struct stream_record records[BATCH_MAX];
    uint8_t *buf;
    uint64_t retry_ms;
    size_t batch;      /* handed over at once; smaller while one that is refused is looked for */
    unsigned refusals; /* of the first, by itself */
};

static void say_why(struct out *o, const char *why)
{
    pthread_mutex_lock(&o->why_lock);
    snprintf(o->why, sizeof o->why, "%s", why);
    pthread_mutex_unlock(&o->why_lock);
}

/* The record with who gave it up, and why. */
static void dead_record(struct wr *w, const struct out *o, struct span record)
{
    struct message m;
    if (message_decode(record, &m)) {
        wr_put(w, record);
        return;
    }
    wr_put(w, span_of(record.p, (size_t)(m.props.p + m.props.n - record.p)));
    message_put_prop(w, &(struct message_prop){ SPAN("roost-endpoint"), span_str(o->name), false });
    message_put_prop(w, &(struct message_prop){ SPAN("roost-error"), span_str(o->deliver.why), false });
    message_put_body(w, m.body);
}

static enum err bury(struct turn *t, const struct stream_record *r, size_t nr)
{
    struct out *o = t->o;
    struct stream *to = o->r->dead->stream;
    struct arena a;
    arena_init(&a, SIZE_MAX / 2);
    struct wait_append *all = arena_alloc(&a, nr * sizeof *all);
    for (size_t i = 0; all && i < nr; i++) {
        struct message m;
        struct wr w = { 0 };
        dead_record(&w, o, r[i].record);
        w = (struct wr){ arena_alloc(&a, w.len), w.len, 0 };
        if (!w.p)
            break;
        dead_record(&w, o, r[i].record);
        bool good = !message_decode(r[i].record, &m);
        all[i] = (struct wait_append){
            .a = { .partition = good ? out_partition(to, m.device) : 0, .record = wr_span(&w) }, .to = to
        };
    }
    enum err e = arena_err(&a);
    if (!e)
        e = wait_appends(&o->deliver.bell, all, nr);
    if (!e) {
        atomic_fetch_add(&o->dead, nr);
        log_warn("routing.dead_letter", "endpoint=%s messages=%zu reason=\"%s\"", o->name, nr,
                 o->deliver.why);
    }
    arena_fini(&a);
    return e;
}

static void go_to(struct out *o, uint64_t seq)
{
    o->cursor.seq = seq;
    atomic_store(&o->place, seq);
}

/* One message that is refused for what it is must not hold up the others: the batch it is in is halved until
 * it is alone, and then it is given up after a few times. True: go on at once. */
static bool refused(struct turn *t, const struct stream_record *r, size_t nr)
{
    struct out *o = t->o;
    if (nr > 1) {
        t->batch = (nr + 1) / 2;
        t->refusals = 0;
        return true;
    }
    if (++t->refusals < REFUSALS_MAX || bury(t, r, 1))
        return false;
    t->refusals = 0;
    t->retry_ms = 0;
    go_to(o, r->seq + 1);
    return true;
}

static void failed(struct turn *t, const struct stream_record *r, size_t nr, enum err e)
{
    struct out *o = t->o;
    struct deliver *d = &o->deliver;
    uint64_t now = o->r->hub->wall_ms();
    uint16_t noise;
    size_t old = 0;
    if (!atomic_fetch_add(&o->failed, 1) || !t->retry_ms)
        log_warn("routing.deliver", "endpoint=%s reason=\"%s\" hint=\"it is tried again\"", o->name, d->why);
    say_why(o, d->why);
    if (e == ERR_DENIED && refused(t, r, nr))
        return;
    while (old < nr && r[old].enqueued_ms + d->spec->dead_letter_s * 1000 <= now)
        old++;
    if (old && !bury(t, r, old)) {
        go_to(o, r[old - 1].seq + 1);
        if (old == nr)
            return; /* the next batch has its own chance */
    }
    d->hub->crypto->random((uint8_t *)&noise, sizeof noise);
    t->retry_ms = !t->retry_ms                     ? RETRY_FIRST_MS
                  : 2 * t->retry_ms < RETRY_MAX_MS ? 2 * t->retry_ms
                                                   : RETRY_MAX_MS;
    /* No later than when the oldest is to be given up. */
    uint64_t pause = t->retry_ms / 2 + t->retry_ms * noise / 131072u;
    if (old < nr) {
        uint64_t due = r[old].enqueued_ms + d->spec->dead_letter_s * 1000;
        if (due > now && due - now < pause)
            pause = due - now;
    }
    bell_pause(&d->bell, pause);
}

/* ERR_AGAIN: there is nothing. */
static enum err some(struct turn *t)
{
    struct out *o = t->o;
    struct deliver *d = &o->deliver;
    struct stream_read read = { .pos = { 0, STREAM_SEQ, o->cursor.seq },
                                .buf = t->buf,
                                .buf_cap = ROUTE_BATCH_BYTES,
                                .records = t->records,
                                .records_cap = t->batch };
    size_t done = 0;
    enum err e = wait_stream_read(o->stream, &read);
    if (read.skipped && (!e || e == ERR_AGAIN)) {
        atomic_fetch_add(&o->lost, read.skipped);
        log_error("routing.lost", "endpoint=%s messages=%llu reason=\"removed before they were delivered\"",
                  o->name, (unsigned long long)read.skipped);
        if (e)
            o->cursor.seq = read.next_seq;
    }
    if (e)
        return e;
    d->why[0] = 0;
    e = d->ops->send(d, t->records, read.records_nr, &done);
    atomic_fetch_add(&o->delivered, done);
    if (done) {
        go_to(o, t->records[done - 1].seq + 1);
        t->refusals = 0;
    }
    if (e == ERR_STOPPED)
        return e;
    if (e) {
        failed(t, t->records + done, read.records_nr - done, e);
        return ERR_OK;
    }
    if (t->retry_ms)
        log_info("routing.deliver", "endpoint=%s state=delivers", o->name);
    t->retry_ms = 0;
    t->batch = 2 * t->batch < d->spec->batch ? 2 * t->batch : d->spec->batch;
    say_why(o, "");
    return ERR_OK;
}

/* Until it is open, or has to stop: what fails (a full disk, a directory that is not there) may end. */
static enum err open_at_last(struct turn *t)
{
    struct deliver *d = &t->o->deliver;
    for (uint64_t pause = RETRY_FIRST_MS;; pause = 2 * pause < RETRY_MAX_MS ? 2 * pause : RETRY_MAX_MS) {
        d->why[0] = 0;
        enum err e = d->ops->open(d);
        if (!e)
            return ERR_OK;
        d->ops->close(d);
        if (!d->why[0])
            snprintf(d->why, sizeof d->why, "%s", err_name(e));
        say_why(t->o, d->why);
        log_error("routing.deliver", "endpoint=%s reason=\"%s\" hint=\"it is tried again\"", t->o->name,
                  d->why);
        if (!bell_pause(&d->bell, pause))
            return ERR_STOPPED;
    }
}

static void *deliver_main(void *arg)
{
    struct out *o = arg;
    struct deliver *d = &o->deliver;
    struct turn *t = calloc(1, sizeof *t);
    if (!t || !(t->buf = malloc(ROUTE_BATCH_BYTES))) {
        log_error("routing.deliver", "endpoint=%s err=%s hint=\"save it anew, or start the hub again\"",
                  o->name, err_name(ERR_NOMEM));
        free(t);
        return NULL;
    }
    t->o = o;
    t->batch = d->spec->batch;
    enum err e = open_at_last(t);
    if (!e)
        say_why(o, "");
    while (!e && !bell_stopped(&d->bell)) {
        enum err got = some(t);
        cursor_store(&o->cursor, o->stream, false);
        if (got == ERR_STOPPED)
            break;
        if (got && got != ERR_AGAIN) {
            log_warn("routing.read", "endpoint=%s err=%s", o->name, err_name(got));
            bell_pause(&d->bell, IDLE_MS);
        } else if (got == ERR_AGAIN) {
            ringing_arm(&t->ringing, o->stream, &d->bell, o->cursor.seq);
            bell_wait(&d->bell, o->cursor.seq == o->cursor.stored ? IDLE_MS : ROUTE_CURSOR_MS);
            if (d->ops->idle)
                d->ops->idle(d);
        }
    }
    if (t->ringing.bell)
        ringing_off(&t->ringing, o->stream);
    cursor_store(&o->cursor, o->stream, true);
    if (!e)
        d->ops->close(d);
    free(t->buf);
    free(t);
    return NULL;
}

enum err deliver_start(struct out *o)
{
    struct deliver *d = &o->deliver;
    *d = (struct deliver){ .out = o,
                           .hub = o->r->hub,
                           .spec = &o->spec,
                           .files = o->r->cfg.files,
                           .ops = o->spec.kind == ENDPOINT_WEBHOOK ? &webhook_ops
                                  : o->spec.kind == ENDPOINT_MQTT  ? &mqtt_out_ops
                                                                   : &file_out_ops };
    bell_init(&d->bell);
    d->running = !pthread_create(&d->thread, NULL, deliver_main, o);
    return d->running ? ERR_OK : ERR_NOMEM;
}

void deliver_stop(struct out *o)
{
    struct deliver *d = &o->deliver;
    if (!d->running)
        return;
    bell_stop(&d->bell);
    pthread_join(d->thread, NULL);
    bell_fini(&d->bell);
    d->running = false;
}
