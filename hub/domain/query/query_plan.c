/* hub/domain/query/query_plan.c - which part of a condition an index finds. Each part that is joined by AND
 * and compares something indexed with what is written in the query is a candidate; all that it does not find
 * cannot be true. The one that finds the fewest rows is taken, unless it finds so many that a walk is better.
 */
#include "hub/domain/query/query_impl.h"

#include <math.h>

#define FEW        5000u /* rows: fetched and sorted by seq for every page */
#define CANDIDATES 16u   /* looked at; a condition with more loses nothing but time */

struct plan {
    struct hub *h;
    struct arena *a;
    struct store_tx *tx;
    bool modules;
    enum err e; /* of the store, while it was asked for indexes */
    const struct twin_pick *pick[CANDIDATES];
    size_t nr;
};

static bool same_value(const struct twin_value *x, const struct twin_value *y)
{
    return x->kind && x->kind == y->kind &&
           (x->kind == TWIN_VALUE_TEXT ? span_eq(x->text, y->text) : x->number == y->number);
}

/* One value of an index: its rows come in order of seq, however many there are. */
static bool is_in_order(const struct twin_pick *pick)
{
    return !pick->one_of_nr && same_value(&pick->low, &pick->high);
}

static enum err consider(struct plan *p, const struct twin_pick *pick)
{
    if (p->nr == CANDIDATES)
        return ERR_OK;
    struct twin_pick *kept = arena_alloc(p->a, sizeof *kept);
    if (!kept)
        return ERR_NOMEM;
    *kept = *pick;
    p->pick[p->nr++] = kept;
    return ERR_OK;
}

/* ---- what is indexed ----------------------------------------------------------------------------------- */

/* Is it the dotted path `index`? */
static bool is_path(const struct query_path *path, struct span index)
{
    for (size_t i = 0; i < path->nr; i++) {
        struct span name = path->step[i].name;
        if (!name.p || !span_starts(index, name))
            return false;
        index = span_skip(index, name.n);
        if (i + 1 < path->nr) {
            if (!index.n || index.p[0] != '.')
                return false;
            index = span_skip(index, 1);
        }
    }
    return index.n == 0;
}

/* Is the index ready, and in what this transaction sees as well? */
static bool is_ready(struct plan *p, size_t i)
{
    const struct query_sources *s = p->h->queries;
    bool ready = false;
    if (!p->e && query_index_is_ready(s, i))
        p->e = tx_twin_index_is_ready(p->tx, s->index[i], &ready);
    return ready;
}

/* The index of a path; an empty one is the identity's. */
static bool has_index(struct plan *p, const struct query_node *n, struct span *index)
{
    const struct query_sources *s = p->h->queries;
    if (n->op != QUERY_PATH)
        return false;
    const struct query_path *path = &n->u.path;
    *index = SPAN_NONE;
    if (path->field == QUERY_DEVICE_ID && path->nr == 1)
        return true;
    for (size_t i = 0; s && i < s->index_nr; i++)
        if (is_path(path, s->index[i]) && is_ready(p, i)) {
            *index = s->index[i];
            return true;
        }
    return false;
}

/* ---- values -------------------------------------------------------------------------------------------- */

/* A database may read a fraction a little differently than we do. */
static double nudge(double d, double towards)
{
    return d == floor(d) && fabs(d) < 9e15 ? d : nextafter(nextafter(d, towards), towards);
}

static bool value_of(const struct query_node *n, double towards, struct twin_value *out)
{
    const struct query_value *v = &n->u.value;
    if (n->op != QUERY_LITERAL)
        return false;
    *out = (struct twin_value){ .kind = TWIN_VALUE_NUMBER };
    switch (v->kind) {
    case QUERY_NUMBER:
        out->number = nudge(v->num, towards);
        return true;
    case QUERY_BOOL:
        out->number = v->b;
        return true;
    case QUERY_STRING:
        *out = (struct twin_value){ .kind = TWIN_VALUE_TEXT, .text = v->s };
        return !v->s.n || !memchr(v->s.p, 0, v->s.n);
    default:
        return false;
    }
}

static struct span joined(struct arena *a, struct span s, const char *tail)
{
    size_t cap = s.n + strlen(tail);
    struct wr w = { arena_alloc(a, cap + 1), cap, 0 };
    if (!w.p)
        return SPAN_NONE;
    wr_put(&w, s);
    wr_str(&w, tail);
    return wr_span(&w);
}

/* The modules of a device have its id and a slash before their own. */
static enum err consider_device_of_modules(struct plan *p, struct span device)
{
    struct twin_pick pick = {
        .low = { .kind = TWIN_VALUE_TEXT, .text = joined(p->a, device, "/") },
        .high = { .kind = TWIN_VALUE_TEXT, .text = joined(p->a, device, "0") }, /* follows the slash */
    };
    return arena_err(p->a) ? ERR_NOMEM : consider(p, &pick);
}

static enum err consider_prefix(struct plan *p, struct span index, struct span prefix)
{
    struct twin_pick pick = {
        .path = index,
        .low = { .kind = TWIN_VALUE_TEXT, .text = prefix },
        .high = { .kind = TWIN_VALUE_TEXT, .text = joined(p->a, prefix, "\xff") } /* in no text */
    };
    return arena_err(p->a) ? ERR_NOMEM : consider(p, &pick);
}

/* ---- candidates ---------------------------------------------------------------------------------------- */

static enum err on_compare(struct plan *p, const struct query_node *n)
{
    static const uint8_t turned[] = { QUERY_EQ, QUERY_NE, QUERY_GT, QUERY_GE, QUERY_LT, QUERY_LE };
    const struct query_node *path = n->first, *literal = path->next;
    uint8_t how = n->sub;
    struct twin_pick pick = { .path = SPAN_NONE };
    if (path->op == QUERY_LITERAL) {
        literal = n->first;
        path = literal->next;
        how = turned[how];
    }
    bool low = how == QUERY_EQ || how == QUERY_GT || how == QUERY_GE;
    bool high = how == QUERY_EQ || how == QUERY_LT || how == QUERY_LE;
    if ((!low && !high) || !has_index(p, path, &pick.path) ||
        (low && !value_of(literal, -INFINITY, &pick.low)) ||
        (high && !value_of(literal, INFINITY, &pick.high)))
        return ERR_OK;
    if (pick.path.n || !p->modules)
        return consider(p, &pick);
    return how == QUERY_EQ && pick.low.kind == TWIN_VALUE_TEXT ? consider_device_of_modules(p, pick.low.text)
                                                               : ERR_OK;
}

static enum err on_in(struct plan *p, const struct query_node *n)
{
    struct twin_pick pick = { .path = SPAN_NONE };
    const struct query_node *list = n->first->next;
    size_t nr = 0;
    if (n->sub || !has_index(p, n->first, &pick.path) || (p->modules && !pick.path.n))
        return ERR_OK;
    struct twin_value *v = arena_alloc(p->a, list->nr * sizeof *v), above;
    if (!v)
        return ERR_NOMEM;
    for (const struct query_node *e = list->first; e; e = e->next, nr++)
        if (!value_of(e, -INFINITY, &v[nr]) || !value_of(e, INFINITY, &above) || !same_value(&v[nr], &above))
            return ERR_OK;
    pick.one_of = v;
    pick.one_of_nr = nr;
    return consider(p, &pick);
}

static enum err on_call(struct plan *p, const struct query_node *n)
{
    struct span index;
    struct twin_value prefix;
    if (!query_is_prefix_test(n) || !has_index(p, n->first, &index) ||
        !value_of(n->first->next, 0, &prefix) || prefix.kind != TWIN_VALUE_TEXT)
        return ERR_OK;
    return consider_prefix(p, index, prefix.text);
}

static enum err on_part(struct plan *p, const struct query_node *n)
{
    enum err e = ERR_OK;
    switch (n->op) {
    case QUERY_AND:
        for (const struct query_node *c = n->first; !e && c; c = c->next)
            e = on_part(p, c);
        return e;
    case QUERY_COMPARE:
        return on_compare(p, n);
    case QUERY_IN:
        return on_in(p, n);
    case QUERY_CALL:
        return on_call(p, n);
    default:
        return ERR_OK;
    }
}

/* The one that finds the fewest rows; of those that find many, one whose rows come in order. */
static enum err choose(const struct plan *p, struct store_tx *tx, const struct twin_pick **out)
{
    const struct twin_pick *best = NULL;
    size_t best_nr = FEW + 1;
    if (p->nr == 1 && is_in_order(p->pick[0])) {
        *out = p->pick[0]; /* nothing to weigh */
        return ERR_OK;
    }
    for (size_t i = 0; i < p->nr; i++) {
        size_t nr;
        enum err e = tx_twin_pick_count(tx, p->pick[i], best_nr, &nr);
        if (e)
            return e;
        if (nr < best_nr || (!best && is_in_order(p->pick[i]))) {
            best = p->pick[i];
            best_nr = nr;
        }
    }
    *out = best;
    return ERR_OK;
}

/* "jobId = 'x'", on its own or joined to the rest by AND. */
static struct span job_of(const struct query_node *n)
{
    if (n && n->op == QUERY_AND) {
        for (const struct query_node *c = n->first; c; c = c->next) {
            struct span job = job_of(c);
            if (job.n)
                return job;
        }
    } else if (n && n->op == QUERY_COMPARE && n->sub == QUERY_EQ) {
        const struct query_node *path = n->first, *literal = path->next;
        if (path->op == QUERY_LITERAL) {
            literal = n->first;
            path = literal->next;
        }
        if (path->op == QUERY_PATH && path->u.path.field == QUERY_JOB_ID && path->u.path.nr == 1 &&
            literal->op == QUERY_LITERAL && literal->u.value.kind == QUERY_STRING)
            return literal->u.value.s;
    }
    return SPAN_NONE;
}

struct span query_plan_job(const struct query *q)
{
    return q->from == QUERY_JOBS ? job_of(q->where) : SPAN_NONE;
}

static bool note_with(void *ctx, const struct query_path *p)
{
    unsigned *with = ctx;
    if (p->root == QUERY_ROW && p->nr == 1 && p->field == QUERY_STATUS)
        *with |= TWIN_WITH_STATUS;
    if (p->root == QUERY_ROW && p->nr == 1 &&
        (p->field == QUERY_CONNECTION_STATE || p->field == QUERY_LAST_ACTIVITY_TIME))
        *with |= TWIN_WITH_CONNECTION;
    return true;
}

unsigned query_with(const struct query *q)
{
    unsigned with = 0;
    (void)query_each_path(q->where, note_with, &with);
    (void)query_each_path(q->group, note_with, &with);
    for (size_t i = 0; i < q->items_nr; i++)
        (void)query_each_path(q->items[i].path, note_with, &with);
    return with;
}

enum err query_plan(struct hub *h, struct arena *a, struct store_tx *tx, const struct query *q,
                    const struct twin_pick **out)
{
    struct plan p = { .h = h, .a = a, .tx = tx, .modules = q->from == QUERY_MODULES };
    enum err e = q->where && q->from != QUERY_JOBS ? on_part(&p, q->where) : ERR_OK;
    if (!e)
        e = p.e;
    return e ? e : choose(&p, tx, out);
}
