/* hub/domain/query/query_fold.c - aggregates, with or without GROUP BY: a table of groups by their key, in
 * the order in which they came first. */
#include "hub/domain/query/query_impl.h"

#include <assert.h>

#define SLOTS     32768u  /* a power of two, over twice QUERY_GROUPS_MAX */
#define FOLDS_MAX 100000u /* groups times items */

struct group {
    struct query_value key;
    struct query_fold *fold;
};
struct query_groups {
    struct group group[QUERY_GROUPS_MAX];
    uint32_t nr;
    uint16_t slot[SLOTS]; /* number of a group plus one */
};
static_assert(QUERY_GROUPS_MAX < UINT16_MAX && SLOTS > 2 * QUERY_GROUPS_MAX, "a slot for each");

static uint32_t hash(const struct query_value *v)
{
    uint32_t h = 2166136261u ^ v->kind;
    uint8_t num[sizeof v->num];
    struct span s = v->s;
    if (v->kind == QUERY_NUMBER) {
        double d = v->num == 0 ? 0 : v->num; /* -0 is 0 */
        memcpy(num, &d, sizeof num);
        s = span_of(num, sizeof num);
    }
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ s.p[i]) * 16777619u;
    return h ^ h >> 15 ^ (v->kind == QUERY_BOOL && v->b);
}

static bool same(const struct query_value *x, const struct query_value *y)
{
    if (x->kind != y->kind)
        return false;
    return x->kind == QUERY_NUMBER ? x->num == y->num : x->b == y->b && span_eq(x->s, y->s);
}

static enum err group_of(struct query_run *r, const struct query_value *key, struct group **out)
{
    struct query_groups *g = r->groups;
    uint32_t at = hash(key) & (SLOTS - 1);
    for (; g->slot[at]; at = (at + 1) & (SLOTS - 1))
        if (same(&g->group[g->slot[at] - 1].key, key)) {
            *out = &g->group[g->slot[at] - 1];
            return ERR_OK;
        }
    if (g->nr == QUERY_GROUPS_MAX || (g->nr + 1) * r->q.items_nr > FOLDS_MAX) {
        r->refused = g->nr == QUERY_GROUPS_MAX
                         ? "GROUP BY finds more than 10000 different values"
                         : "GROUP BY finds too many different values for so many selected items: these times "
                           "those may be 100000";
        return ERR_LIMIT;
    }
    struct group *fresh = &g->group[g->nr];
    fresh->key = *key;
    fresh->key.s = arena_copy(r->a, key->s);
    fresh->fold = arena_alloc(r->a, r->q.items_nr * sizeof *fresh->fold);
    g->slot[at] = (uint16_t)++g->nr;
    *out = fresh;
    return arena_err(r->a);
}

enum err query_groups_add(struct query_run *r, struct query_row *row, struct wr *mem)
{
    struct query_value key = { .kind = QUERY_UNDEFINED };
    struct group *g = NULL;
    if (!r->groups && !(r->groups = arena_alloc(r->a, sizeof *r->groups)))
        return ERR_NOMEM;
    mem->len = 0;
    if (row && r->q.group)
        query_eval(r->q.group, row, mem, &key);
    enum err e = group_of(r, &key, &g);
    if (!e && row)
        query_fold_row(&r->q, row, mem, g->fold);
    return e;
}

bool query_groups_put(struct query_run *r, uint64_t at, struct wr *out)
{
    if (!r->groups || at >= r->groups->nr)
        return false;
    query_fold_put(&r->q, &r->groups->group[at].key, r->groups->group[at].fold, out);
    return true;
}
