/* hub/front/routing/router.c - the router's thread: takes events out of the outbox, decides about what is in
 * the log, and keeps the endpoints as the definitions say. */
#include "hub/front/routing/routing_impl.h"

#include "base/log.h"
#include "hub/domain/metrics.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#define BATCH_RECORDS 256u
#define OUTBOX_ROWS   128u
#define BATCH_MEM     (96u * 1024u * 1024u) /* of copies with enrichments */
#define IDLE_MS       1000u
#define RELOAD_MS     10000u

/* ---- the outbox --------------------------------------------------------------------------------------- */

struct outbox {
    struct arena a;
    struct wait_append appends[OUTBOX_ROWS];
    struct stream *log;
    size_t nr;
    uint64_t last;
};

static enum err take_event(void *ctx, uint64_t seq, struct span record)
{
    struct outbox *o = ctx;
    struct span kept = arena_copy(&o->a, record);
    if (arena_err(&o->a))
        return o->nr ? ERR_AGAIN : ERR_NOMEM; /* the rest next time */
    o->appends[o->nr++] = (struct wait_append){ .a.record = kept, .to = o->log };
    o->last = seq;
    return ERR_OK;
}
static enum err list_events(struct store_tx *tx, void *ctx)
{
    enum err e = tx_outbox_list(tx, OUTBOX_ROWS, take_event, ctx);
    return e == ERR_AGAIN ? ERR_OK : e;
}
static enum err delete_events(struct store_tx *tx, void *ctx)
{
    return tx_outbox_delete(tx, ((struct outbox *)ctx)->last);
}

/* True: there was something. */
static bool pump_outbox(struct routing *r)
{
    struct outbox *o = calloc(1, sizeof *o);
    if (!o)
        return false;
    arena_init(&o->a, ROUTE_BATCH_BYTES * 4);
    o->log = r->way.log;
    enum err e = wait_read(r->hub->store, list_events, o);
    if (!e && o->nr)
        e = wait_appends(&r->bell, o->appends, o->nr);
    if (!e && o->nr)
        e = wait_write(r->hub->store, delete_events, o);
    if (e && e != ERR_STOPPED) {
        log_warn("routing.outbox", "err=%s hint=\"it is tried again\"", err_name(e));
        bell_pause(&r->bell, IDLE_MS);
    }
    bool any = !e && o->nr;
    arena_fini(&o->a);
    free(o);
    return any;
}

/* ---- the log ------------------------------------------------------------------------------------------ */

struct batch {
    struct routing *r;
    struct stream_read read;
    struct stream_record records[BATCH_RECORDS];
    struct arena a;
    struct wait_append *appends; /* in the arena */
    size_t nr, cap;
    size_t at; /* the record being decided */
    uint8_t *keep, *scratch;
    size_t keep_cap;
};

static enum err put(struct batch *b, struct stream *to, struct span device, struct span record)
{
    if (b->nr == b->cap) {
        size_t cap = b->cap ? 2 * b->cap : BATCH_RECORDS;
        struct wait_append *more = arena_alloc(&b->a, cap * sizeof *more);
        if (!more)
            return ERR_NOMEM;
        if (b->nr)
            memcpy(more, b->appends, b->nr * sizeof *more);
        b->appends = more;
        b->cap = cap;
    }
    b->appends[b->nr++] =
        (struct wait_append){ .a = { .partition = out_partition(to, device), .record = record }, .to = to };
    return ERR_OK;
}

static enum err put_target(struct batch *b, struct route_eval *v, unsigned target, struct span record)
{
    const struct route_set *set = b->r->set;
    struct out *o = b->r->out_of[target];
    struct stream *to = target ? (o ? o->stream : NULL) : b->r->hub->stream;
    bool enriched = false;
    struct wr w = { 0 };
    if (!to) { /* it could not be opened, as the log says */
        METRIC_ADD(b->r->hub, routing_dropped_total, 1);
        return ERR_OK;
    }
    for (size_t i = 0; i < set->enrichments_nr; i++)
        enriched |= (set->enrichments[i].targets & 1u << target) != 0;
    if (!enriched)
        return put(b, to, v->m->device, record);
    enum err e = route_set_enrich(set, v, target, record, &w);
    if (e == ERR_LIMIT) {
        METRIC_ADD(b->r->hub, routing_too_large_total, 1);
        return ERR_OK;
    }
    w = (struct wr){ arena_alloc(&b->a, w.len), w.len, 0 };
    if (!w.p)
        return ERR_NOMEM;
    (void)!route_set_enrich(set, v, target, record, &w);
    return put(b, to, v->m->device, wr_span(&w));
}

static enum err decide_one(struct batch *b, struct store_tx *tx, const struct stream_record *rec)
{
    struct message m;
    struct route_eval v;
    enum err e = ERR_OK;
    if (message_decode(rec->record, &m)) {
        METRIC_ADD(b->r->hub, routing_dropped_total, 1);
        return ERR_OK;
    }
    if (b->keep_cap < ROUTE_KEEP(m.body.n)) {
        b->keep_cap = ROUTE_KEEP(m.body.n);
        b->keep = arena_alloc(&b->a, b->keep_cap);
        if (!b->keep) {
            b->keep_cap = 0;
            return ERR_NOMEM;
        }
    }
    route_eval_init(&v, b->r->hub, tx, &m, rec->enqueued_ms, (struct wr){ b->keep, b->keep_cap, 0 },
                    (struct wr){ b->scratch, QUERY_SCRATCH, 0 });
    uint32_t targets = route_set_targets(b->r->set, &v);
    if (!targets)
        METRIC_ADD(b->r->hub, routing_dropped_total, 1);
    else
        METRIC_ADD(b->r->hub, routing_messages_total, 1);
    size_t before = b->nr;
    for (unsigned t = 0; t < ROUTE_TARGETS_MAX && !e; t++)
        if (targets & 1u << t)
            e = put_target(b, &v, t, rec->record);
    if (e)
        b->nr = before;
    return e;
}

/* As many as fit into the batch's memory: at least one. */
static enum err decide(struct store_tx *tx, void *ctx)
{
    struct batch *b = ctx;
    enum err e = ERR_OK;
    for (; b->at < b->read.records_nr && !e; b->at += !e)
        e = decide_one(b, tx, &b->read.records[b->at]);
    return e == ERR_NOMEM && b->at ? ERR_OK : e;
}

static bool needs_store(const struct batch *b)
{
    for (size_t i = 0; i < b->read.records_nr; i++) {
        struct message m;
        if (!message_decode(b->read.records[i].record, &m) && m.source < MESSAGE_SOURCES &&
            b->r->set->twin[m.source])
            return true;
    }
    return false;
}

/* ERR_AGAIN: the log is empty. */
static enum err route_some(struct routing *r)
{
    struct batch *b = calloc(1, sizeof *b);
    if (!b)
        return ERR_NOMEM;
    b->r = r;
    b->read = (struct stream_read){ .pos = { 0, STREAM_SEQ, r->cursor.seq },
                                    .buf = r->buf,
                                    .buf_cap = ROUTE_BATCH_BYTES,
                                    .records = b->records,
                                    .records_cap = BATCH_RECORDS };
    enum err e = wait_stream_read(r->way.log, &b->read);
    arena_init(&b->a, BATCH_MEM);
    if (!e || e == ERR_AGAIN) {
        if (b->read.skipped)
            log_error("routing.log", "skipped=%llu reason=\"records of the log cannot be read\"",
                      (unsigned long long)b->read.skipped);
        if (b->read.skipped && e)
            r->cursor.seq = b->read.next_seq;
    }
    if (!e)
        b->scratch = arena_alloc(&b->a, QUERY_SCRATCH);
    if (!e && !b->scratch)
        e = ERR_NOMEM;
    if (!e)
        e = needs_store(b) ? wait_read(r->hub->store, decide, b) : decide(NULL, b);
    if (!e && b->nr)
        e = wait_appends(&r->bell, b->appends, b->nr);
    if (!e)
        r->cursor.seq = b->at < b->read.records_nr ? b->read.records[b->at].seq : b->read.next_seq;
    arena_fini(&b->a);
    free(b);
    return e;
}

/* ---- definitions -------------------------------------------------------------------------------------- */

struct loading {
    struct routing *r;
    struct route_set *set;
};
static enum err load(struct store_tx *tx, void *ctx)
{
    struct loading *l = ctx;
    return route_set_load(l->r->hub, tx, &l->set);
}

static enum err reload(struct routing *r)
{
    struct loading l = { .r = r };
    pthread_mutex_lock(&r->lock);
    uint64_t gen = r->wanted_gen;
    pthread_mutex_unlock(&r->lock);
    enum err e = wait_read(r->hub->store, load, &l);
    if (!e) {
        /* What was accepted is decided by the definitions in force when its turn comes. */
        struct route_set *old = r->set;
        r->set = l.set;
        r->incomplete = outs_load(r) != ERR_OK; /* logged; the others work */
        r->again_ms = mono_ms_now() + RELOAD_MS;
        route_set_free(old);
        atomic_store(&r->events.wanted, r->set->wanted);
        if (!r->set->direct)
            telemetry_way_route(&r->way);
        log_info("routing.loaded", "routes=%zu endpoints=%zu enrichments=%zu fallback=%s direct=%s",
                 r->set->routes_nr, r->set->endpoints_nr, r->set->enrichments_nr,
                 r->set->fallback ? "yes" : "no", r->set->direct ? "yes" : "no");
    } else if (e != ERR_STOPPED) {
        log_error("routing.load", "err=%s hint=\"the definitions before stay in force\"", err_name(e));
    }
    pthread_mutex_lock(&r->lock);
    r->loaded_gen = e ? r->loaded_gen : gen;
    pthread_cond_broadcast(&r->loaded);
    pthread_mutex_unlock(&r->lock);
    return e;
}

/* Nothing to decide, and nothing is on its way into the log: from now on telemetry needs no detour. */
static void go_direct(struct routing *r)
{
    struct stream_info info;
    uint64_t seen;
    if (!r->set->direct || !telemetry_way_quiet(&r->way, &seen))
        return;
    stream_get_info(r->way.log, 0, &info);
    if (info.next_seq == r->cursor.seq)
        telemetry_way_direct(&r->way, seen);
}

static void *router_main(void *arg)
{
    struct routing *r = arg;
    while (!bell_stopped(&r->bell)) {
        pthread_mutex_lock(&r->lock);
        bool stale = r->wanted_gen != r->loaded_gen;
        pthread_mutex_unlock(&r->lock);
        stale |= r->incomplete && mono_ms_now() >= r->again_ms; /* there may be room now */
        if (stale && reload(r))
            bell_pause(&r->bell, IDLE_MS);
        outs_close_gone(r);
        bool busy = pump_outbox(r);
        enum err e = route_some(r);
        atomic_store(&r->decided, r->cursor.seq);
        cursor_store(&r->cursor, r->way.log, false);
        if (e && e != ERR_AGAIN && e != ERR_STOPPED) {
            log_warn("routing.route", "err=%s hint=\"it is tried again\"", err_name(e));
            bell_pause(&r->bell, IDLE_MS);
        }
        if (!busy && e == ERR_AGAIN) {
            go_direct(r);
            ringing_arm(&r->ringing, r->way.log, &r->bell, r->cursor.seq);
            bell_wait(&r->bell, r->cursor.seq == r->cursor.stored ? IDLE_MS : ROUTE_CURSOR_MS);
        }
    }
    cursor_store(&r->cursor, r->way.log, true);
    return NULL;
}

/* ---- life --------------------------------------------------------------------------------------------- */

static void on_events(void *ctx)
{
    bell_ring(&((struct routing *)ctx)->bell);
}

static enum err make_dir(const char *dir)
{
    if (!mkdir(dir, 0700) || errno == EEXIST)
        return ERR_OK;
    log_error("routing.dir", "dir=%s errno=%d", dir, errno);
    return ERR_IO;
}

enum err routing_new(struct routing **out, struct hub *h, const struct routing_config *cfg)
{
    struct routing *r = calloc(1, sizeof *r);
    char log[PATH_MAX + 8];
    if (!r)
        return ERR_NOMEM;
    r->hub = h;
    r->cfg = *cfg;
    snprintf(r->dir, sizeof r->dir, "%s", cfg->dir);
    snprintf(r->files, sizeof r->files, "%s", cfg->files);
    r->cfg.dir = r->dir;
    r->cfg.files = r->files;
    if (!r->cfg.segment_bytes)
        r->cfg.segment_bytes = 16u << 20;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->loaded, NULL);
    bell_init(&r->bell);
    snprintf(log, sizeof log, "%s/log", r->dir);
    enum err e = curl_global_init(CURL_GLOBAL_DEFAULT) ? ERR_NOMEM : make_dir(r->dir);
    if (!e && !(r->buf = malloc(ROUTE_BATCH_BYTES)))
        e = ERR_NOMEM;
    uint64_t least = 8 * r->cfg.segment_bytes; /* what is dealt with goes file by file */
    uint64_t log_bytes = cfg->log_bytes && cfg->log_bytes < least ? least : cfg->log_bytes;
    if (!e) /* nothing in the log is given up: what is dealt with is removed */
        e = stream_segment_open(&r->way.log, &(struct stream_config){ .dir = log,
                                                                      .partitions = 1,
                                                                      .segment_bytes = r->cfg.segment_bytes,
                                                                      .refuse_bytes = log_bytes,
                                                                      .wall_ms = cfg->wall_ms });
    telemetry_way_route(&r->way); /* until it is known that nothing is left in the log */
    r->cursor.h = h;
    strcpy(r->cursor.name, "router");
    if (!e)
        e = cursor_load(&r->cursor, r->way.log);
    atomic_store(&r->decided, r->cursor.seq);
    if (!e)
        e = reload(r);
    if (e) {
        routing_free(r);
        return e;
    }
    go_direct(r);
    r->events.wake = on_events;
    r->events.ctx = r;
    h->way = &r->way;
    h->events = &r->events;
    *out = r;
    return ERR_OK;
}

enum err routing_start(struct routing *r)
{
    r->running = !pthread_create(&r->thread, NULL, router_main, r);
    return r->running ? ERR_OK : ERR_NOMEM;
}

void routing_stop(struct routing *r)
{
    if (!r)
        return;
    bell_stop(&r->bell);
    pthread_mutex_lock(&r->lock);
    pthread_cond_broadcast(&r->loaded);
    pthread_mutex_unlock(&r->lock);
    if (r->running) {
        pthread_join(r->thread, NULL);
        ringing_off(&r->ringing, r->way.log);
    }
    r->running = false;
    outs_stop(r);
}

void routing_free(struct routing *r)
{
    if (!r)
        return;
    outs_stop(r);
    outs_free(r);
    if (r->way.log)
        stream_close(r->way.log);
    route_set_free(r->set);
    bell_fini(&r->bell);
    pthread_cond_destroy(&r->loaded);
    pthread_mutex_destroy(&r->lock);
    free(r->buf);
    free(r);
}

enum err routing_reload(struct routing *r)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += RELOAD_MS / 1000;
    pthread_mutex_lock(&r->lock);
    uint64_t gen = ++r->wanted_gen;
    pthread_mutex_unlock(&r->lock);
    bell_ring(&r->bell);
    pthread_mutex_lock(&r->lock);
    while (r->loaded_gen < gen && !bell_stopped(&r->bell) &&
           pthread_cond_timedwait(&r->loaded, &r->lock, &end) == 0)
        continue;
    enum err e = r->loaded_gen >= gen ? ERR_OK : ERR_STOPPED;
    pthread_mutex_unlock(&r->lock);
    return e;
}

uint64_t routing_behind(struct routing *r)
{
    struct stream_info info;
    stream_get_info(r->way.log, 0, &info);
    uint64_t place = atomic_load(&r->decided);
    return info.next_seq > place ? info.next_seq - place : 0;
}
