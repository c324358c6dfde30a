/* hub/domain/configuration/configuration_metrics.c - counts what the metrics of configurations find. A round
 * counts all of them, one query after the other, in slices on the store's thread for long walks, so that
 * nobody waits for it; results are kept in the store. A round begins when twins have changed, or every
 * METRICS_EVERY_MS for what changes beside them (connections, deletions), and a rest of ten times its length
 * follows. */
#include "hub/domain/configuration/configuration_impl.h"

#include "base/log.h"
#include "hub/domain/json_members.h"

#include <stdlib.h>

#define METRICS_EVERY_MS 300000u
#define REST_MIN_MS      1000u
#define REST_MAX_MS      300000u
#define QUERY_MAX_MS     60000u /* a query that takes longer has no result */
#define LIST_BYTES       (64u << 20)
#define QUERY_BYTES      (64u << 20)
#define SYSTEM_NR        2u

struct metric {
    struct span name, query;
    bool counted;
    uint64_t result;
};
struct counted {
    struct config_row row; /* what is needed of it */
    struct metric metric[SYSTEM_NR + CONFIG_METRICS_MAX];
    size_t nr, system_nr; /* the hub's own are the first */
};
struct config_metrics {
    struct hub *h;
    struct store_op op;
    _Atomic bool changed;
    bool busy, stopped;
    /* a round */
    struct arena a;
    struct counted *list; /* CONFIGURATIONS_MAX */
    size_t nr, at;        /* the one at hand, */
    size_t metric_at;     /* and its metric */
    struct arena query_a;
    struct query_run run;
    bool more; /* of its walk */
    uint64_t began_ms, query_began_ms, ended_ms, due_ms;
    struct span results, system_results; /* to be written */
};

/* ---- queries of the hub's own ---------------------------------------------------------------------------
 */

static struct span join(struct arena *a, const struct span *parts, size_t nr)
{
    size_t n = 0;
    for (size_t i = 0; i < nr; i++)
        n += parts[i].n;
    struct wr w = { arena_alloc(a, n + 1), n, 0 };
    for (size_t i = 0; w.p && i < nr; i++)
        wr_put(&w, parts[i]);
    return wr_span(&w);
}
#define JOIN(a, ...)                                                                                         \
    join(a, (const struct span[]){ __VA_ARGS__ },                                                            \
         sizeof((const struct span[]){ __VA_ARGS__ }) / sizeof(struct span))

#define HAS  SPAN("configurations.[["), r->id, SPAN("]].status = 'Applied'")
#define EDGE SPAN("select deviceId from devices.modules where moduleId = '$edgeAgent' and "), HAS
#define DONE                                                                                                 \
    SPAN(" and properties.desired.$version = properties.reported.lastDesiredVersion"                         \
         " and properties.reported.lastDesiredStatus.code ")

enum err config_queries(struct arena *a, const struct config_row *r, struct config_queries *out)
{
    const bool edge = r->kind == CONFIG_EDGE;
    const struct span prefix = SPAN("FROM devices.modules WHERE ");
    const struct span from = r->kind == CONFIG_MODULE
                                 ? SPAN("select deviceId, moduleId from devices.modules where ")
                                 : SPAN("select deviceId from devices where ");
    struct span c = r->condition;
    if (c.n >= prefix.n && span_ieq(span_of(c.p, prefix.n), prefix))
        c = span_skip(c, prefix.n);
    if (!c.n)
        c = SPAN("false");
    else if (span_eq(c, SPAN("*")))
        c = SPAN("is_defined(deviceId)");
    else if (edge)
        c = JOIN(a, SPAN("("), c, SPAN(")"));
    *out = (struct config_queries){
        .targeted = JOIN(a, from, c, edge ? SPAN(" and capabilities.iotEdge = true") : SPAN_NONE),
        .applied = JOIN(a, from, HAS)
    };
    if (edge) {
        out->successful = JOIN(a, EDGE, DONE, SPAN("= 200"));
        out->failed = JOIN(a, EDGE, DONE, SPAN("!= 200"));
    }
    return arena_err(a);
}

/* ---- steps of a round -----------------------------------------------------------------------------------
 */

static void go(struct config_metrics *m);

static void put_metric(struct counted *k, struct span name, struct span query)
{
    if (k->nr < sizeof k->metric / sizeof k->metric[0])
        k->metric[k->nr++] = (struct metric){ .name = name, .query = query };
}

static enum err load_one(void *ctx, const struct config_row *r)
{
    struct config_metrics *m = ctx;
    struct config_queries q;
    struct jnode *queries = NULL;
    if (m->nr == CONFIGURATIONS_MAX || (!r->metrics.n && r->kind != CONFIG_EDGE))
        return ERR_OK;
    struct counted *k = &m->list[m->nr];
    *k = (struct counted){ .row = { .seq = r->seq,
                                    .etag = r->etag,
                                    .kind = r->kind,
                                    .id = arena_copy(&m->a, r->id),
                                    .results = arena_copy(&m->a, r->results),
                                    .system_results = arena_copy(&m->a, r->system_results) } };
    enum err e = arena_err(&m->a);
    if (!e && r->kind == CONFIG_EDGE) {
        e = config_queries(&m->a, &k->row, &q);
        put_metric(k, SPAN("reportedSuccessfulCount"), q.successful);
        put_metric(k, SPAN("reportedFailedCount"), q.failed);
        k->system_nr = k->nr;
    }
    if (!e && r->metrics.n)
        e = jtree_parse(&m->a, arena_copy(&m->a, r->metrics), &queries, NULL);
    for (const struct jnode *n = queries ? queries->first : NULL; !e && n; n = n->next)
        put_metric(k, n->key, n->text);
    m->nr += k->nr > 0;
    return e;
}

static enum err run_list(struct store_tx *tx, struct store_op *self)
{
    struct config_metrics *m = CONTAINER_OF(self, struct config_metrics, op);
    arena_fini(&m->a);
    arena_init(&m->a, LIST_BYTES);
    m->nr = m->at = m->metric_at = 0;
    m->list = arena_alloc(&m->a, CONFIGURATIONS_MAX * sizeof *m->list);
    return m->list ? tx_config_list(tx, false, load_one, m) : ERR_NOMEM;
}

/* Twins whose change was noted before this ran are committed when it comes home. */
static enum err run_barrier(struct store_tx *tx, struct store_op *self)
{
    (void)tx;
    (void)self;
    return ERR_OK;
}

static enum err run_query(struct store_tx *tx, struct store_op *self)
{
    struct config_metrics *m = CONTAINER_OF(self, struct config_metrics, op);
    enum err e = query_step(&m->run, tx);
    m->more = e == ERR_AGAIN;
    if (!e)
        m->list[m->at].metric[m->metric_at].counted = true;
    return e == ERR_AGAIN || e == ERR_LIMIT ? ERR_OK : e; /* ERR_LIMIT: there is no result */
}

static enum err run_write(struct store_tx *tx, struct store_op *self)
{
    const struct config_metrics *m = CONTAINER_OF(self, struct config_metrics, op);
    const struct config_row *r = &m->list[m->at].row;
    return tx_config_results_put(tx, r->seq, r->etag, m->results, m->system_results);
}

static void write_results(struct wr *w, const struct metric *list, size_t nr)
{
    bool any = false;
    for (size_t i = 0; i < nr; i++) {
        if (!list[i].counted)
            continue;
        wr_u8(w, any ? ',' : '{');
        member_string(w, list[i].name);
        wr_u8(w, ':');
        member_uint(w, list[i].result);
        any = true;
    }
    if (!any)
        wr_u8(w, '{');
    wr_u8(w, '}');
}
static struct span results_text(struct arena *a, const struct metric *list, size_t nr)
{
    struct wr w = { 0 };
    write_results(&w, list, nr);
    w = (struct wr){ arena_alloc(a, w.len), w.len, 0 };
    if (w.p)
        write_results(&w, list, nr);
    return wr_span(&w);
}

/* ---- what is next ---------------------------------------------------------------------------------------
 */

static void start(struct config_metrics *m, enum err (*run)(struct store_tx *tx, struct store_op *self),
                  op_fn *done)
{
    m->op.run = run;
    m->op.op.done = done;
}

static void end(struct config_metrics *m)
{
    uint64_t took;
    m->busy = false;
    m->ended_ms = m->h->wall_ms();
    took = m->ended_ms > m->began_ms ? m->ended_ms - m->began_ms : 0;
    m->due_ms = m->ended_ms + (10 * took < REST_MIN_MS   ? REST_MIN_MS
                               : 10 * took > REST_MAX_MS ? REST_MAX_MS
                                                         : 10 * took);
    arena_fini(&m->a);
    arena_fini(&m->query_a);
    m->list = NULL;
    m->nr = 0;
}

/* False: the round is over. */
static bool came_home(struct config_metrics *m)
{
    enum err e = m->op.op.err;
    if (!e)
        return true;
    m->stopped = e == ERR_STOPPED;
    if (!m->stopped)
        log_error("configuration.metrics", "err=%s hint=\"it is tried again\"", err_name(e));
    atomic_store(&m->changed, true);
    end(m);
    return false;
}

static void no_result(const struct config_metrics *m, const char *why)
{
    const struct counted *k = &m->list[m->at];
    const struct span name = k->metric[m->metric_at].name;
    log_warn("configuration.metrics", "id=%.*s metric=%.*s no result: %s", (int)k->row.id.n,
             (const char *)k->row.id.p, (int)(name.n < 64 ? name.n : 64), (const char *)name.p, why);
}

static void on_query(struct op *op)
{
    struct config_metrics *m = CONTAINER_OF(op, struct config_metrics, op.op);
    if (!came_home(m))
        return;
    struct metric *k = &m->list[m->at].metric[m->metric_at];
    if (m->more && m->h->wall_ms() - m->query_began_ms < QUERY_MAX_MS) {
        store_scan(m->h->store, &m->op);
        return;
    }
    k->result = m->run.counted;
    if (!k->counted)
        no_result(m, m->more ? "it takes too long" : m->run.refused ? m->run.refused : "too much");
    m->metric_at++;
    go(m);
}

static void on_written(struct op *op)
{
    struct config_metrics *m = CONTAINER_OF(op, struct config_metrics, op.op);
    if (!came_home(m))
        return;
    m->at++;
    m->metric_at = 0;
    go(m);
}

/* False: it cannot be run, and has no result. */
static bool open_query(struct config_metrics *m)
{
    struct query_error qe;
    arena_fini(&m->query_a);
    arena_init(&m->query_a, QUERY_BYTES);
    if (query_open(&m->run, m->h, &m->query_a, m->list[m->at].metric[m->metric_at].query, SPAN_NONE, 0, &qe))
        return false;
    m->run.count_only = true;
    m->query_began_ms = m->h->wall_ms();
    start(m, run_query, on_query);
    return true;
}

static void go(struct config_metrics *m)
{
    for (; m->at < m->nr; m->at++, m->metric_at = 0) {
        struct counted *k = &m->list[m->at];
        while (m->metric_at < k->nr && !open_query(m)) {
            no_result(m, "it cannot be run");
            m->metric_at++;
        }
        if (m->metric_at < k->nr) {
            store_scan(m->h->store, &m->op);
            return;
        }
        m->system_results = k->system_nr ? results_text(&m->a, k->metric, k->system_nr) : SPAN_NONE;
        m->results = k->nr > k->system_nr
                         ? results_text(&m->a, k->metric + k->system_nr, k->nr - k->system_nr)
                         : SPAN_NONE;
        if (!arena_err(&m->a) &&
            (!span_eq(m->results, k->row.results) || !span_eq(m->system_results, k->row.system_results))) {
            start(m, run_write, on_written);
            store_write(m->h->store, &m->op);
            return;
        }
    }
    end(m);
}

static void on_listed(struct op *op)
{
    struct config_metrics *m = CONTAINER_OF(op, struct config_metrics, op.op);
    if (came_home(m))
        go(m);
}

static void on_barrier(struct op *op)
{
    struct config_metrics *m = CONTAINER_OF(op, struct config_metrics, op.op);
    if (!came_home(m))
        return;
    start(m, run_list, on_listed);
    store_scan(m->h->store, &m->op);
}

void config_metrics_look(struct config_metrics *m)
{
    const uint64_t now = m->h->wall_ms();
    if (m->busy || m->stopped || (now < m->due_ms && now + REST_MAX_MS >= m->due_ms))
        return;
    if (!atomic_exchange(&m->changed, false) && now >= m->ended_ms && now - m->ended_ms < METRICS_EVERY_MS)
        return;
    m->busy = true;
    m->began_ms = now;
    start(m, run_barrier, on_barrier);
    store_write(m->h->store, &m->op);
}

/* ---- the whole ------------------------------------------------------------------------------------------
 */

void config_metrics_changed(struct config_metrics *m)
{
    atomic_store(&m->changed, true);
}

bool config_metrics_idle(const struct config_metrics *m)
{
    return !m->busy;
}

enum err config_metrics_new(struct config_metrics **out, struct hub *h, struct mailbox *home)
{
    struct config_metrics *m = calloc(1, sizeof *m);
    if (!m)
        return ERR_NOMEM;
    m->h = h;
    m->op.op.home = home;
    m->changed = true;
    *out = m;
    return ERR_OK;
}

void config_metrics_free(struct config_metrics *m)
{
    if (!m)
        return;
    arena_fini(&m->a);
    arena_fini(&m->query_a);
    free(m);
}
