/* hub/domain/query_index.c - the paths of twins that have an index: read from the configuration, made at
 * start. */
#include "hub/domain/query.h"

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
    const struct query_sources *s;
    sem_t home;
};

static enum err apply(struct store_tx *tx, struct store_op *op)
{
    const struct query_sources *s = ((struct apply *)op)->s;
    return tx_twin_index_set(tx, s->index, s->index_nr);
}

static void on_applied(struct op *op)
{
    sem_post(&((struct apply *)op)->home);
}

enum err query_indexes_apply(struct store *store, const struct query_sources *s)
{
    struct apply a = { .op = { .op = { .done = on_applied }, .run = apply }, .s = s };
    sem_init(&a.home, 0, 0);
    store_write(store, &a.op);
    while (sem_wait(&a.home))
        ;
    sem_destroy(&a.home);
    return a.op.op.err;
}
