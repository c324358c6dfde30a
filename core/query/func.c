/* core/query/func.c - the functions. A function of a value that does not fit, undefined among them, is
 * undefined; those that ask what a value is always answer. Positions in strings count characters from zero.
 * To add one: a row in the table, its name in docs/query.md. */
#include "core/query/query_impl.h"

#include <math.h>

typedef const struct query_value *arg_t;

static void put_bool(bool b, struct query_value *out)
{
    *out = (struct query_value){ .kind = QUERY_BOOL, .b = b };
}
static void put_number(double d, struct query_value *out)
{
    if (isfinite(d))
        *out = (struct query_value){ .kind = QUERY_NUMBER, .num = d };
}
/* What was written to mem from `from` on; undefined when there was no room. */
static void put_string(const struct wr *mem, size_t from, struct query_value *out)
{
    if (wr_ok(mem))
        *out = (struct query_value){ .kind = QUERY_STRING, .s = span_of(mem->p + from, mem->len - from) };
}
static bool two_strings(arg_t a)
{
    return a[0].kind == QUERY_STRING && a[1].kind == QUERY_STRING;
}

/* ---- what a value is ----------------------------------------------------------------------------------- */

#define KIND_FUNC(fn, test)                                                                                  \
    static void fn(arg_t a, size_t nr, struct wr *mem, struct query_value *out)                              \
    {                                                                                                        \
        (void)nr;                                                                                            \
        (void)mem;                                                                                           \
        put_bool(test, out);                                                                                 \
    }
KIND_FUNC(is_array, a->kind == QUERY_ARRAY)
KIND_FUNC(is_bool, a->kind == QUERY_BOOL)
KIND_FUNC(is_defined, a->kind != QUERY_UNDEFINED)
KIND_FUNC(is_null, a->kind == QUERY_NULL)
KIND_FUNC(is_number, a->kind == QUERY_NUMBER)
KIND_FUNC(is_object, a->kind == QUERY_OBJECT)
KIND_FUNC(is_primitive, a->kind >= QUERY_NULL && a->kind <= QUERY_STRING)
KIND_FUNC(is_string, a->kind == QUERY_STRING)

/* ---- numbers ------------------------------------------------------------------------------------------- */

static double square(double x)
{
    return x * x;
}
static double sign(double x)
{
    return (x > 0) - (x < 0);
}
#define NUMBER_FUNC(fn, of)                                                                                  \
    static void fn(arg_t a, size_t nr, struct wr *mem, struct query_value *out)                              \
    {                                                                                                        \
        (void)nr;                                                                                            \
        (void)mem;                                                                                           \
        if (a->kind == QUERY_NUMBER)                                                                         \
            put_number(of(a->num), out);                                                                     \
    }
NUMBER_FUNC(abs_of, fabs)
NUMBER_FUNC(exp_of, exp)
NUMBER_FUNC(square_of, square)
NUMBER_FUNC(ceiling_of, ceil)
NUMBER_FUNC(floor_of, floor)
NUMBER_FUNC(sign_of, sign)
NUMBER_FUNC(sqrt_of, sqrt)

static void power_of(arg_t a, size_t nr, struct wr *mem, struct query_value *out)
{
    (void)nr;
    (void)mem;
    if (a[0].kind == QUERY_NUMBER && a[1].kind == QUERY_NUMBER)
        put_number(pow(a[0].num, a[1].num), out);
}

static void as_number(arg_t a, size_t nr, struct wr *mem, struct query_value *out)
{
    (void)nr;
    (void)mem;
    double d;
    struct span s = a->s;
    while (s.n && (s.p[0] == ' ' || s.p[0] == '+'))
        s = span_skip(s, 1);
    while (s.n && s.p[s.n - 1] == ' ')
        s.n--;
    if (a->kind == QUERY_NUMBER)
        put_number(a->num, out);
    else if (a->kind == QUERY_STRING && query_number(s, &d))
        put_number(d, out);
}

/* ---- strings ------------------------------------------------------------------------------------------- */

static void starts_with(arg_t a, size_t nr, struct wr *mem, struct query_value *out)
{
    (void)nr;
    (void)mem;
    if (two_strings(a))
        put_bool(span_starts(a[0].s, a[1].s), out);
}

static void ends_with(arg_t a, size_t nr, struct wr *mem, struct query_value *out)
{
    (void)nr;
    (void)mem;
    if (two_strings(a))
        put_bool(a[0].s.n >= a[1].s.n && span_eq(span_skip(a[0].s, a[0].s.n - a[1].s.n), a[1].s), out);
}

/* Byte offset of `part`, or SIZE_MAX. */
static size_t find(struct span s, struct span part)
{
    for (size_t i = 0; part.n <= s.n && i <= s.n - part.n; i++)
        if (span_starts(span_skip(s, i), part))
            return i;
    return SIZE_MAX;
}

static void contains(arg_t a, size_t nr, struct wr *mem, struct query_value *out)
{
    (void)nr;
    (void)mem;
    if (two_strings(a))
        put_bool(find(a[0].s, a[1].s) != SIZE_MAX, out);
}

size_t query_characters(struct span s)
{
    size_t nr = 0;
    for (size_t i = 0; i < s.n; i++)
        nr += (s.p[i] & 0xc0) != 0x80;
    return nr;
}

static void length_of(arg_t a, size_t nr, struct wr *mem, struct query_value *out)
{
    (void)nr;
    (void)mem;
    if (a->kind == QUERY_STRING)
        put_number((double)query_characters(a->s), out);
}

static void index_of(arg_t a, size_t nr, struct wr *mem, struct query_value *out)
{
    (void)nr;
    (void)mem;
    if (!two_strings(a))
        return;
    size_t at = find(a[0].s, a[1].s);
    put_number(at == SIZE_MAX ? -1 : (double)query_characters(span_of(a[0].s.p, at)), out);
}

static void concat(arg_t a, size_t nr, struct wr *mem, struct query_value *out)
{
    size_t from = mem->len;
    for (size_t i = 0; i < nr; i++)
        if (a[i].kind != QUERY_STRING)
            return;
    for (size_t i = 0; i < nr; i++)
        wr_put(mem, a[i].s);
    put_string(mem, from, out);
}

static void change_case(struct span s, uint8_t first, uint8_t last, struct wr *mem, struct query_value *out)
{
    size_t from = mem->len;
    for (size_t i = 0; i < s.n; i++)
        wr_u8(mem, s.p[i] >= first && s.p[i] <= last ? s.p[i] ^ 0x20 : s.p[i]);
    put_string(mem, from, out);
}

static void lower(arg_t a, size_t nr, struct wr *mem, struct query_value *out)
{
    (void)nr;
    if (a->kind == QUERY_STRING)
        change_case(a->s, 'A', 'Z', mem, out);
}

static void upper(arg_t a, size_t nr, struct wr *mem, struct query_value *out)
{
    (void)nr;
    if (a->kind == QUERY_STRING)
        change_case(a->s, 'a', 'z', mem, out);
}

/* Where character nr begins; the end when there are fewer. */
static size_t offset_of(struct span s, double nr)
{
    size_t i = 0;
    double at = -1;
    for (; i < s.n; i++)
        if ((s.p[i] & 0xc0) != 0x80 && ++at >= nr)
            return i;
    return s.n;
}

static void substring(arg_t a, size_t nr, struct wr *mem, struct query_value *out)
{
    (void)mem;
    if (a[0].kind != QUERY_STRING || a[1].kind != QUERY_NUMBER || (nr > 2 && a[2].kind != QUERY_NUMBER))
        return;
    struct span s = a[0].s;
    s = span_skip(s, offset_of(s, floor(a[1].num < 0 ? 0 : a[1].num)));
    if (nr > 2)
        s.n = offset_of(s, floor(a[2].num < 0 ? 0 : a[2].num));
    *out = (struct query_value){ .kind = QUERY_STRING, .s = s };
}

/* ---- arrays -------------------------------------------------------------------------------------------- */

static void array_contains(arg_t a, size_t nr, struct wr *mem, struct query_value *out)
{
    (void)nr;
    struct query_value v;
    struct span at = a[0].s;
    bool found = false;
    int order;
    if (a[0].kind != QUERY_ARRAY || a[1].kind == QUERY_UNDEFINED)
        return;
    for (const struct query_node *n = a[0].list ? a[0].list->first : NULL; n && !found; n = n->next)
        found = n->op == QUERY_LITERAL && query_compare(&n->u.value, &a[1], &order) && order == 0;
    while (!a[0].list && !found && query_json_each(&at, mem, &v))
        found = query_compare(&v, &a[1], &order) && order == 0;
    put_bool(found, out);
}

/* ---- the table ----------------------------------------------------------------------------------------- */

enum { T = QUERY_OF_TWINS, R = QUERY_OF_ROUTES };
static const struct query_func funcs[] = {
    { "IS_DEFINED", T | R, 1, 1, is_defined },
    { "STARTSWITH", T, 2, 2, starts_with },
    { "STARTS_WITH", T | R, 2, 2, starts_with },
    { "ENDSWITH", T, 2, 2, ends_with },
    { "ENDS_WITH", T | R, 2, 2, ends_with },
    { "CONTAINS", T | R, 2, 2, contains },
    { "ARRAY_CONTAINS", T, 2, 2, array_contains },
    { "IS_NULL", T | R, 1, 1, is_null },
    { "IS_STRING", T | R, 1, 1, is_string },
    { "IS_NUMBER", T | R, 1, 1, is_number },
    { "IS_BOOL", T | R, 1, 1, is_bool },
    { "IS_ARRAY", T | R, 1, 1, is_array },
    { "IS_OBJECT", T | R, 1, 1, is_object },
    { "IS_PRIMITIVE", T | R, 1, 1, is_primitive },
    { "ABS", R, 1, 1, abs_of },
    { "EXP", R, 1, 1, exp_of },
    { "POWER", R, 2, 2, power_of },
    { "SQUARE", R, 1, 1, square_of },
    { "CEILING", R, 1, 1, ceiling_of },
    { "FLOOR", R, 1, 1, floor_of },
    { "SIGN", R, 1, 1, sign_of },
    { "SQRT", R, 1, 1, sqrt_of },
    { "AS_NUMBER", R, 1, 1, as_number },
    { "CONCAT", R, 1, QUERY_ARGS_MAX, concat },
    { "LENGTH", R, 1, 1, length_of },
    { "LOWER", R, 1, 1, lower },
    { "UPPER", R, 1, 1, upper },
    { "SUBSTRING", R, 2, 3, substring },
    { "INDEX_OF", R, 2, 2, index_of },
};
#define FUNCS (sizeof funcs / sizeof funcs[0])

const struct query_func *query_func_at(unsigned sub)
{
    assert(sub < FUNCS);
    return &funcs[sub];
}

bool query_is_prefix_test(const struct query_node *n)
{
    return n->op == QUERY_CALL && funcs[n->sub].run == starts_with;
}

int query_func_find(struct span name, enum query_dialect dialect, const char **other)
{
    *other = NULL;
    for (size_t i = 0; i < FUNCS; i++) {
        if (!span_ieq(name, span_str(funcs[i].name)))
            continue;
        if (funcs[i].dialects & dialect)
            return (int)i;
        for (size_t k = 0; k < FUNCS; k++) /* the same under another spelling */
            if (funcs[k].run == funcs[i].run && (funcs[k].dialects & dialect))
                *other = funcs[k].name;
    }
    return -1;
}
