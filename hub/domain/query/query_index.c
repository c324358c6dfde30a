/* hub/domain/query/query_index.c - the paths of twins that have an index: read from the configuration, made
 * in pieces beside what the hub does. */
#include "hub/domain/query/query.h"

#include "base/log.h"

#include <semaphore.h>

static struct span trimmed(struct span s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = span_skip(s, 1);
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

enum err query_indexes_parse(struct query_sources *s, struct span list, struct span *bad)
{
    s->index_nr = 0;
    while (list.n) {
        const uint8_t *comma = memchr(list.p, ',', list.n);
        size_t n = comma ? (size_t)(comma - list.p) : list.n;
        struct span path = trimmed(span_of(list.p, n));
        list = span_skip(list, comma ? n + 1 : n);
        if (!path.n && !list.n)
            break;
        *bad = path;
        if (!twin_index_path_ok(path))
            return ERR_PROTO;
        bool again = false;
        for (size_t i = 0; i < s->index_nr; i++)
            again |= span_eq(s->index[i], path);
        if (again)
            continue;
        if (s->index_nr == TWIN_INDEX_MAX)
            return ERR_LIMIT;
        s->index[s->index_nr++] = path;
    }
    return ERR_OK;
}

struct apply {
    struct store_op op; /* first */
    struct query_sources *s;
    bool have[TWIN_INDEX_MAX];
    sem_t home;
};

static enum err apply(struct store_tx *tx, struct store_op *op)
{
    struct apply *a = (struct apply *)op;
    return tx_twin_index_keep(tx, a->s->index, a->s->index_nr, a->have);
}

static void on_applied(struct op *op)
{
    sem_post(&((struct apply *)op)->home);
}

enum err query_indexes_apply(struct store *store, struct query_sources *s)
{
    struct apply a = { .op = { .op = { .done = on_applied }, .run = apply }, .s = s };
    uint32_t ready = 0;
    sem_init(&a.home, 0, 0);
    store_write(store, &a.op);
    while (sem_wait(&a.home))
        ;
    sem_destroy(&a.home);
    for (size_t i = 0; i < s->index_nr; i++) {
        bool is_ready = !a.op.op.err && a.have[i];
        ready |= (uint32_t)is_ready << i;
        atomic_store(&s->percent[i], is_ready ? 100 : 0);
    }
    atomic_store(&s->ready, ready);
    return a.op.op.err;
}

/* ---- the work ------------------------------------------------------------------------------------------ */

static enum err piece(struct store_tx *tx, struct store_op *op)
{
    struct query_index_build *b = (struct query_index_build *)op;
    return b->cleared ? tx_twin_index_fill(tx, b->s->index[b->at], &b->step)
                      : tx_twin_index_clear(tx, &b->step.done);
}

static void next(struct query_index_build *b)
{
    while (b->at < b->s->index_nr && query_index_is_ready(b->s, b->at))
        b->at++;
    b->over = b->at == b->s->index_nr;
    if (b->over)
        return;
    const struct span path = b->s->index[b->at];
    log_info("query.index", "path=%.*s is made: every twin is read once", (int)path.n, (const char *)path.p);
    b->began_ms = b->wall_ms();
    store_write(b->store, &b->op);
}

static void on_cleared(struct query_index_build *b)
{
    if (b->op.op.err)
        log_error("query.index", "err=%s hint=\"what is left of dropped indexes goes after the next start\"",
                  err_name(b->op.op.err));
    b->cleared = b->op.op.err || b->step.done;
    if (b->cleared)
        next(b);
    else
        store_write(b->store, &b->op);
}

static void on_filled(struct query_index_build *b)
{
    const struct span path = b->s->index[b->at];
    const enum err e = b->op.op.err;
    if (!e && !b->step.done) {
        uint64_t percent = b->step.end ? b->step.at * 100 / b->step.end : 0;
        atomic_store(&b->s->percent[b->at], (uint8_t)(percent < 99 ? percent : 99));
        store_write(b->store, &b->op);
        return;
    }
    if (e) {
        log_error("query.index", "path=%.*s err=%s hint=\"queries do without it; the next start goes on\"",
                  (int)path.n, (const char *)path.p, err_name(e));
    } else {
        atomic_store(&b->s->percent[b->at], 100);
        atomic_fetch_or(&b->s->ready, (uint32_t)1 << b->at);
        log_info("query.index", "path=%.*s ready ms=%llu", (int)path.n, (const char *)path.p,
                 (unsigned long long)(b->wall_ms() - b->began_ms));
    }
    b->at++;
    next(b);
}

static void on_piece(struct op *op)
{
    struct query_index_build *b = (struct query_index_build *)op;
    if (op->err == ERR_STOPPED)
        b->over = true;
    else if (b->cleared)
        on_filled(b);
    else
        on_cleared(b);
}

void query_indexes_build(struct query_index_build *b, struct hub *h, struct query_sources *s,
                         struct mailbox *home)
{
    *b = (struct query_index_build){ .op = { .op = { .home = home, .done = on_piece }, .run = piece },
                                     .store = h->store,
                                     .s = s,
                                     .wall_ms = h->wall_ms };
    store_write(b->store, &b->op);
}
