/* hub/domain/query/query_condition.c - conditions on their own: of jobs, configurations and routes. */
#include "hub/domain/query/query.h"

#include "hub/domain/query/query_impl.h"

#include <stdio.h>

/* What a configuration may look at; ctx: where a path begins that it may not. */
static bool is_of_configurations(void *ctx, const struct query_path *p)
{
    *(uint32_t *)ctx = p->at;
    return p->field == QUERY_DEVICE_ID || p->field == QUERY_MODULE_ID || p->field == QUERY_TAGS ||
           p->field == QUERY_REPORTED;
}

enum err query_condition_compile(struct arena *a, enum query_use use, struct span text,
                                 struct query_condition **out, struct query_error *err)
{
    size_t cap = QUERY_MEM(text.n < QUERY_TEXT_MAX ? text.n : QUERY_TEXT_MAX);
    struct query_condition *c = arena_alloc(a, sizeof *c);
    void *mem = arena_alloc(a, cap);
    struct span kept = arena_copy(a, text);
    enum err e = arena_err(a);
    if (e)
        return e;
    e = use == QUERY_USE_ROUTE ? query_parse_route(&c->q, kept, mem, cap, err)
                               : query_parse_condition(&c->q, QUERY_DEVICES, kept, mem, cap, err);
    uint32_t at;
    if (!e && use == QUERY_USE_CONFIGURATION && !query_each_path(c->q.where, is_of_configurations, &at)) {
        query_error_place(err, kept, at);
        snprintf(err->message, sizeof err->message,
                 "a target condition knows deviceId, moduleId, tags and properties.reported only");
        e = ERR_PROTO;
    }
    c->use = use;
    if (!e)
        *out = c;
    return e;
}

struct matching {
    const struct query_condition *c;
    struct query_twin twin;
    struct wr mem;
    bool yes;
};

static enum err scratch(struct matching *m, struct hub *h, struct arena *a, struct store_tx *tx)
{
    query_twin_init(&m->twin, h, tx);
    m->mem = (struct wr){ arena_alloc(a, QUERY_SCRATCH), QUERY_SCRATCH, 0 };
    return arena_err(a);
}

static enum err match_one(void *ctx, struct twin_view *v)
{
    struct matching *m = ctx;
    query_twin_set(&m->twin, v);
    m->yes = (m->c->q.from == QUERY_MODULES) == (twin_view_text(v, TWIN_COL_MODULE).n > 0) &&
             query_match(m->c->q.where, &m->twin.row, &m->mem);
    return m->twin.e;
}

enum err query_condition_match(struct hub *h, struct store_tx *tx, struct arena *a,
                               const struct query_condition *c, struct span identity, bool *yes)
{
    struct matching m = { .c = c };
    enum err e = scratch(&m, h, a, tx);
    if (!e)
        e = tx_twin_visit(tx, identity, match_one, &m);
    query_twin_fini(&m.twin);
    if (e && e != ERR_NOTFOUND)
        return e;
    *yes = !e && m.yes;
    return ERR_OK;
}

struct walking {
    struct matching m;
    struct query_walk *w;
    struct query_slice slice;
    query_identity_each *each;
    void *ctx;
    bool over;
};

static enum err walk_one(void *ctx, struct twin_view *v)
{
    struct walking *k = ctx;
    enum err e = match_one(&k->m, v);
    if (!e && k->m.yes)
        e = k->each(k->ctx, twin_view_text(v, TWIN_COL_ID), twin_view_seq(v));
    if (e)
        return e;
    k->w->seq = twin_view_seq(v);
    k->over = query_slice_over(&k->slice);
    return k->over ? ERR_AGAIN : ERR_OK;
}

enum err query_condition_walk(struct query_walk *w, struct store_tx *tx, query_identity_each *each, void *ctx)
{
    struct walking k = { .m.c = w->c, .w = w, .each = each, .ctx = ctx };
    if (!w->scratch.p)
        w->scratch = (struct wr){ arena_alloc(w->a, QUERY_SCRATCH), QUERY_SCRATCH, 0 };
    enum err e = arena_err(w->a);
    if (!e && !w->planned)
        e = query_plan(w->h, w->a, tx, &w->c->q, &w->pick);
    if (e)
        return e;
    w->planned = true;
    k.m.mem = w->scratch;
    query_twin_init(&k.m.twin, w->h, tx);
    query_slice_begin(&k.slice, w->h);
    e = tx_twin_walk(tx, w->c->q.from == QUERY_MODULES, query_with(&w->c->q), w->pick, &w->seq, walk_one, &k);
    query_twin_fini(&k.m.twin);
    return e;
}
