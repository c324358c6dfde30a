/* core/query/select.c - whole queries: SELECT, FROM, GROUP BY, and what may stand together. */
#include "core/query/query_impl.h"

/* ---- attributes ---------------------------------------------------------------------------------------- */

static bool step_is(const struct query_path *path, size_t i, struct span name)
{
    return i < path->nr && path->step[i].name.p && span_ieq(path->step[i].name, name);
}

void query_bind_path(struct query_path *path, enum query_from from)
{
    /* The steps are the parser's own memory: their names are replaced by the canonical ones. */
    struct query_step *step = (struct query_step *)(uintptr_t)path->step;
    enum query_field field = QUERY_OTHER;
    size_t skip = 0;
    if (path->nr > 1 && step_is(path, 0, SPAN("devices"))) {
        skip = 1;
        if (path->nr > 2 && ((from == QUERY_JOBS && step_is(path, 1, SPAN("jobs"))) ||
                             (from == QUERY_MODULES && step_is(path, 1, SPAN("modules")))))
            skip = 2;
    }
    if (skip && path->step[skip].name.p) {
        step += skip;
        path->nr = (uint16_t)(path->nr - skip);
    }
    path->step = step;
    path->field_steps = 0;
    const char *name = query_field_name(step[0].name, from, &field);
    if (!name)
        return;
    step[0].name = span_str(name);
    path->field = (uint8_t)field;
    path->field_steps = 1;
    if (field == QUERY_PROPERTIES &&
        (step_is(path, 1, SPAN("desired")) || step_is(path, 1, SPAN("reported")))) {
        bool desired = step_is(path, 1, SPAN("desired"));
        step[1].name = desired ? SPAN("desired") : SPAN("reported");
        path->field = desired ? QUERY_DESIRED : QUERY_REPORTED;
        path->field_steps = 2;
    }
}

static bool bind_one(struct parser *p, struct query_node *n, enum query_from from)
{
    enum query_field field;
    query_bind_path(&n->u.path, from);
    if (from == QUERY_JOBS && n->u.path.field == QUERY_OTHER &&
        query_field_name(n->u.path.step[0].name, QUERY_DEVICES, &field))
        return query_fail(p, ERR_PROTO, n->u.path.at, "", n->u.path.step[0].name,
                          " belongs to a twin, and job records have none of its attributes") != NULL;
    return true;
}

bool query_bind(struct parser *p, struct query_node *n, enum query_from from)
{
    for (; n && !p->e; n = n->next) {
        if (n->op == QUERY_PATH ? !bind_one(p, n, from) : !query_bind(p, n->first, from))
            return false;
    }
    return !p->e;
}

bool query_each_path(const struct query_node *n, bool (*each)(void *ctx, const struct query_path *p),
                     void *ctx)
{
    for (; n; n = n->next) {
        if (n->op == QUERY_PATH ? !each(ctx, &n->u.path) : !query_each_path(n->first, each, ctx))
            return false;
    }
    return true;
}

static bool same_path(const struct query_path *a, const struct query_path *b)
{
    if (a->nr != b->nr)
        return false;
    for (size_t i = 0; i < a->nr; i++)
        if ((a->step[i].name.p == NULL) != (b->step[i].name.p == NULL) ||
            !span_eq(a->step[i].name, b->step[i].name) || a->step[i].index != b->step[i].index)
            return false;
    return true;
}

/* ---- the select list ----------------------------------------------------------------------------------- */

static enum query_aggregate aggregate_at(const struct parser *p)
{
    static const char *const names[] = { "", "COUNT", "AVG", "SUM", "MIN", "MAX" };
    struct token after;
    query_token(p->text, p->t.end, p->dialect, &after);
    if (p->t.kind != TOKEN_NAME || after.kind != TOKEN_SIGN || after.sign != '(')
        return QUERY_PLAIN;
    for (unsigned i = QUERY_COUNT; i <= QUERY_MAX; i++)
        if (query_word_is(p, names[i]))
            return (enum query_aggregate)i;
    return QUERY_PLAIN;
}

static bool path_begins(const struct parser *p)
{
    return p->t.kind == TOKEN_QUOTED ||
           (p->t.kind == TOKEN_NAME && !query_is_reserved(p->t.text, p->dialect));
}

static bool read_item(struct parser *p, struct query_item *it)
{
    it->at = p->t.at;
    it->aggregate = (uint8_t)aggregate_at(p);
    if (it->aggregate) {
        query_next(p);
        query_next(p); /* behind the parenthesis */
    }
    if (it->aggregate != QUERY_COUNT) {
        if (!path_begins(p))
            return query_expected(p, it->aggregate ? "a path" : "*, a path or an aggregate") != NULL;
        if (!(it->path = query_path(p)))
            return false;
    }
    if (it->aggregate) {
        if (!query_sign_is(p, ')'))
            return query_expected(p, ")") != NULL;
        query_next(p);
    }
    if (query_word_is(p, "AS")) {
        query_next(p);
        if (p->t.kind != TOKEN_NAME && p->t.kind != TOKEN_QUOTED)
            return query_expected(p, "a name") != NULL;
        it->name = p->t.text;
        query_next(p);
    }
    return true;
}

static bool read_items(struct parser *p, struct query *q)
{
    struct query_item item[QUERY_ITEMS_MAX];
    p->items_at = p->t.at;
    if (query_sign_is(p, '*')) {
        q->star = true;
        query_next(p);
        return true;
    }
    for (;;) {
        if (q->items_nr == QUERY_ITEMS_MAX)
            return query_fail(p, ERR_LIMIT, p->t.at, "more than 100 items are selected", SPAN_NONE, "") !=
                   NULL;
        memset(&item[q->items_nr], 0, sizeof item[0]);
        if (!read_item(p, &item[q->items_nr]))
            return false;
        q->aggregates |= item[q->items_nr++].aggregate != QUERY_PLAIN;
        if (!query_sign_is(p, ','))
            break;
        query_next(p);
    }
    struct query_item *kept = query_alloc(p, q->items_nr * sizeof *kept);
    if (!kept)
        return false;
    memcpy(kept, item, q->items_nr * sizeof *kept);
    q->items = kept;
    return true;
}

/* A member is called as the last name of its path, an aggregate $1, $2, ... */
static bool name_items(struct parser *p, struct query *q)
{
    struct query_item *item = (struct query_item *)(uintptr_t)q->items;
    uint32_t unnamed = 0;
    for (size_t i = 0; i < q->items_nr; i++) {
        if (item[i].path)
            (void)bind_one(p, (struct query_node *)(uintptr_t)item[i].path, (enum query_from)q->from);
        if (item[i].name.n)
            continue;
        if (item[i].aggregate) {
            struct wr w = { query_alloc(p, 8), 8, 0 };
            if (!w.p)
                return false;
            wr_u8(&w, '$');
            wr_u32(&w, ++unnamed);
            item[i].name = wr_span(&w);
        } else {
            const struct query_path *path = &item[i].path->u.path;
            for (size_t k = 0; k < path->nr; k++)
                if (path->step[k].name.p)
                    item[i].name = path->step[k].name;
        }
    }
    for (size_t i = 0; i < q->items_nr; i++)
        for (size_t k = 0; k < i; k++)
            if (span_eq(item[i].name, item[k].name))
                return query_fail(p, ERR_PROTO, item[i].at, "two members are called ", item[i].name,
                                  ": name one with AS") != NULL;
    return !p->e;
}

/* ---- clauses ------------------------------------------------------------------------------------------- */

static bool need_word(struct parser *p, const char *word)
{
    if (!query_word_is(p, word))
        return query_expected(p, word) != NULL;
    query_next(p);
    return true;
}

static bool read_top(struct parser *p, struct query *q)
{
    if (!query_word_is(p, "TOP"))
        return true;
    query_next(p);
    if (p->t.kind != TOKEN_NUMBER || !(p->t.num <= UINT32_MAX) || p->t.num != (double)(uint32_t)p->t.num)
        return query_expected(p, "a whole number up to 4294967295 after TOP") != NULL;
    q->has_top = true;
    q->top = (uint32_t)p->t.num;
    query_next(p);
    return true;
}

static bool read_from(struct parser *p, struct query *q)
{
    if (!query_word_is(p, "devices"))
        return query_expected(p, "devices, devices.modules or devices.jobs") != NULL;
    query_next(p);
    if (!query_sign_is(p, '.'))
        return true;
    query_next(p);
    if (!query_word_is(p, "modules") && !query_word_is(p, "jobs"))
        return query_expected(p, "modules or jobs") != NULL;
    q->from = query_word_is(p, "jobs") ? QUERY_JOBS : QUERY_MODULES;
    query_next(p);
    return true;
}

static bool read_end(struct parser *p)
{
    static const char *const absent[] = { "ORDER",  "DISTINCT", "LIMIT", "OFFSET",
                                          "HAVING", "JOIN",     "LIKE",  "BETWEEN" };
    if (p->t.kind == TOKEN_END)
        return true;
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        if (query_word_is(p, absent[i]))
            return query_fail(p, ERR_PROTO, p->t.at, "", p->t.text, " is not part of the query language") !=
                   NULL;
    return query_expected(p, "an operator, WHERE, GROUP BY or the end") != NULL;
}

static bool check(struct parser *p, const struct query *q)
{
    if (q->from == QUERY_JOBS && (!q->star || q->group))
        return query_fail(p, ERR_PROTO, q->star ? p->group_at : p->items_at,
                          "devices.jobs knows SELECT * only, without GROUP BY", SPAN_NONE, "") != NULL;
    if (q->group && q->from != QUERY_DEVICES)
        return query_fail(p, ERR_PROTO, p->group_at, "GROUP BY is for devices only", SPAN_NONE, "") != NULL;
    if (q->group && q->star)
        return query_fail(p, ERR_PROTO, p->items_at, "GROUP BY needs the path and aggregates in place of *",
                          SPAN_NONE, "") != NULL;
    for (size_t i = 0; i < q->items_nr; i++) {
        const struct query_item *it = &q->items[i];
        if (it->aggregate || (!q->group && !q->aggregates))
            continue;
        if (!q->group || !same_path(&it->path->u.path, &q->group->u.path))
            return query_fail(p, ERR_PROTO, it->at, "", it->name,
                              " stands beside aggregates and is not what GROUP BY names") != NULL;
    }
    return true;
}

static bool read_query(struct parser *p, struct query *q)
{
    struct query_node *where = NULL, *group = NULL;
    if (!need_word(p, "SELECT") || !read_top(p, q) || !read_items(p, q) || !need_word(p, "FROM") ||
        !read_from(p, q))
        return false;
    if (query_word_is(p, "WHERE")) {
        query_next(p);
        if (!(where = query_condition(p)))
            return false;
    }
    if (query_word_is(p, "GROUP")) {
        p->group_at = p->t.at;
        query_next(p);
        if (!need_word(p, "BY"))
            return false;
        if (!path_begins(p))
            return query_expected(p, "a path") != NULL;
        if (!(group = query_path(p)))
            return false;
    }
    if (!read_end(p))
        return false;
    q->where = where;
    q->group = group;
    return query_bind(p, where, (enum query_from)q->from) && query_bind(p, group, (enum query_from)q->from) &&
           name_items(p, q) && check(p, q);
}

enum err query_parse(struct query *q, struct span text, void *mem, size_t cap, struct query_error *err)
{
    struct parser p;
    struct query got = { .from = QUERY_DEVICES };
    query_begin(&p, text, QUERY_OF_TWINS, mem, cap, err);
    if (!p.e)
        (void)read_query(&p, &got);
    got.mem_used = p.used;
    if (!p.e)
        *q = got;
    return p.e;
}
