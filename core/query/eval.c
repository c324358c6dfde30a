/* core/query/eval.c - the value of a condition for one row. The depth of the recursion is the parser's. */
#include "core/query/query_impl.h"
#include "core/query/truth.h"

#include <math.h>

static enum truth compare(enum query_compare how, const struct query_value *a, const struct query_value *b)
{
    int order;
    if (!query_compare(a, b, &order))
        return truth_unknown();
    switch (how) {
    case QUERY_EQ:
        return truth_is(order == 0);
    case QUERY_NE:
        return truth_is(order != 0);
    case QUERY_LT:
        return truth_is(order < 0);
    case QUERY_LE:
        return truth_is(order <= 0);
    case QUERY_GT:
        return truth_is(order > 0);
    case QUERY_GE:
        return truth_is(order >= 0);
    }
    return truth_unknown();
}

static enum truth in(const struct query_node *n, struct query_row *row, struct wr *mem)
{
    struct query_value left, v;
    int order;
    query_eval(n->first, row, mem, &left);
    if (left.kind == QUERY_UNDEFINED)
        return truth_unknown();
    enum truth t = TRUTH_NO;
    for (const struct query_node *e = n->first->next->first; e && t == TRUTH_NO; e = e->next) {
        query_eval(e, row, mem, &v);
        t = truth_is(query_compare(&left, &v, &order) && order == 0);
    }
    return n->sub ? truth_not(t) : t;
}

static bool arith_step(uint8_t joint, double *a, double b)
{
    switch (joint) {
    case '+':
        *a += b;
        break;
    case '-':
        *a -= b;
        break;
    case '*':
        *a *= b;
        break;
    default:
        if (b == 0)
            return false;
        *a = joint == '/' ? *a / b : fmod(*a, b);
    }
    return isfinite(*a);
}

static void arith(const struct query_node *n, struct query_row *row, struct wr *mem, struct query_value *out)
{
    double acc = 0;
    for (const struct query_node *c = n->first; c; c = c->next) {
        struct query_value v;
        query_eval(c, row, mem, &v);
        if (v.kind != QUERY_NUMBER)
            return;
        if (c == n->first)
            acc = v.num;
        else if (!arith_step(c->joint, &acc, v.num))
            return;
    }
    *out = (struct query_value){ .kind = QUERY_NUMBER, .num = acc };
}

static void call(const struct query_node *n, struct query_row *row, struct wr *mem, struct query_value *out)
{
    struct query_value arg[QUERY_ARGS_MAX];
    size_t nr = 0;
    for (const struct query_node *c = n->first; c && nr < QUERY_ARGS_MAX; c = c->next)
        query_eval(c, row, mem, &arg[nr++]);
    query_func_at(n->sub)->run(arg, nr, mem, out);
}

static enum truth junction(const struct query_node *n, struct query_row *row, struct wr *mem)
{
    enum truth end = n->op == QUERY_AND ? TRUTH_NO : TRUTH_YES, t = truth_not(end);
    for (const struct query_node *c = n->first; c && t != end; c = c->next) {
        struct query_value v;
        query_eval(c, row, mem, &v);
        t = n->op == QUERY_AND ? truth_and(t, truth_of(&v)) : truth_or(t, truth_of(&v));
    }
    return t;
}

void query_eval(const struct query_node *n, struct query_row *row, struct wr *mem, struct query_value *out)
{
    struct query_value a, b;
    *out = (struct query_value){ .kind = QUERY_UNDEFINED };
    switch ((enum query_op)n->op) {
    case QUERY_LITERAL:
        *out = n->u.value;
        break;
    case QUERY_PATH:
        row->get(row, &n->u.path, mem, out);
        break;
    case QUERY_LIST:
        *out = (struct query_value){ .kind = QUERY_ARRAY, .list = n };
        break;
    case QUERY_CALL:
        call(n, row, mem, out);
        break;
    case QUERY_NEGATE:
        query_eval(n->first, row, mem, &a);
        if (a.kind == QUERY_NUMBER)
            *out = (struct query_value){ .kind = QUERY_NUMBER, .num = -a.num };
        break;
    case QUERY_ARITH:
        arith(n, row, mem, out);
        break;
    case QUERY_COMPARE:
        query_eval(n->first, row, mem, &a);
        query_eval(n->first->next, row, mem, &b);
        truth_put(compare((enum query_compare)n->sub, &a, &b), out);
        break;
    case QUERY_IN:
        truth_put(in(n, row, mem), out);
        break;
    case QUERY_NOT:
        query_eval(n->first, row, mem, &a);
        truth_put(truth_not(truth_of(&a)), out);
        break;
    case QUERY_AND:
    case QUERY_OR:
        truth_put(junction(n, row, mem), out);
        break;
    }
}

bool query_match(const struct query_node *n, struct query_row *row, struct wr *mem)
{
    struct query_value v;
    if (!n)
        return true;
    mem->len = 0;
    query_eval(n, row, mem, &v);
    return truth_of(&v) == TRUTH_YES;
}
