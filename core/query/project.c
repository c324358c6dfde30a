/* core/query/project.c - what a query shows of its rows: members of a select list, aggregates. */
#include "core/json/json.h"
#include "core/query/query_impl.h"

static void put_member(struct wr *out, bool *first, struct span name, const struct query_value *v)
{
    if (v->kind == QUERY_UNDEFINED)
        return;
    if (!*first)
        wr_u8(out, ',');
    *first = false;
    json_put_string(out, name);
    wr_u8(out, ':');
    query_json_put(out, v);
}

void query_project(const struct query *q, struct query_row *row, struct wr *mem, struct wr *out)
{
    bool first = true;
    wr_u8(out, '{');
    for (size_t i = 0; i < q->items_nr; i++) {
        struct query_value v;
        mem->len = 0;
        query_eval(q->items[i].path, row, mem, &v);
        put_member(out, &first, q->items[i].name, &v);
    }
    wr_u8(out, '}');
}

void query_fold_row(const struct query *q, struct query_row *row, struct wr *mem, struct query_fold *fold)
{
    for (size_t i = 0; i < q->items_nr; i++) {
        struct query_value v = { .kind = QUERY_UNDEFINED };
        struct query_fold *f = &fold[i];
        mem->len = 0;
        if (q->items[i].aggregate > QUERY_COUNT)
            query_eval(q->items[i].path, row, mem, &v);
        if (q->items[i].aggregate == QUERY_COUNT) {
            f->nr++;
        } else if (v.kind == QUERY_NUMBER) {
            f->sum += v.num;
            f->min = f->nr && f->min < v.num ? f->min : v.num;
            f->max = f->nr && f->max > v.num ? f->max : v.num;
            f->nr++;
        }
    }
}

void query_fold_put(const struct query *q, const struct query_value *key, const struct query_fold *fold,
                    struct wr *out)
{
    bool first = true;
    wr_u8(out, '{');
    for (size_t i = 0; i < q->items_nr; i++) {
        const struct query_fold *f = &fold[i];
        struct query_value v = { .kind = QUERY_UNDEFINED };
        switch ((enum query_aggregate)q->items[i].aggregate) {
        case QUERY_PLAIN:
            v = *key;
            break;
        case QUERY_COUNT:
            v = (struct query_value){ .kind = QUERY_NUMBER, .num = (double)f->nr };
            break;
        case QUERY_AVG:
            v.num = f->nr ? f->sum / (double)f->nr : 0;
            break;
        case QUERY_SUM:
            v.num = f->sum;
            break;
        case QUERY_MIN:
            v.num = f->min;
            break;
        case QUERY_MAX:
            v.num = f->max;
            break;
        }
        if (q->items[i].aggregate > QUERY_COUNT && f->nr)
            v.kind = QUERY_NUMBER;
        put_member(out, &first, q->items[i].name, &v);
    }
    wr_u8(out, '}');
}
