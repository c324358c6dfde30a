/* core/query/query_test.c - what the language takes and refuses, where it says so, its caps, and the rules of
 * evaluation that the sample fleet does not touch. */
#include "core/query/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above */
#include <cmocka.h>

static uint8_t room[QUERY_MEM(QUERY_TEXT_MAX)] __attribute__((aligned(16)));
static uint8_t scratch_room[QUERY_SCRATCH];
static struct wr scratch = { scratch_room, sizeof scratch_room, 0 };
static struct query q;
static struct query_error err;

enum dialect { FULL, CONDITION, ROUTE };
static enum err parse_in(enum dialect d, struct span text, size_t cap)
{
    return d == FULL        ? query_parse(&q, text, room, cap, &err)
           : d == CONDITION ? query_parse_condition(&q, QUERY_DEVICES, text, room, cap, &err)
                            : query_parse_route(&q, text, room, cap, &err);
}
static enum err parse(enum dialect d, const char *text)
{
    return parse_in(d, span_str(text), QUERY_MEM(strlen(text)));
}

static const char doc[] =
    "{\"deviceId\":\"d1\",\"tags\":{\"n\":5,\"f\":-2.5e1,\"s\":\"a\\\"b\\u00fc\",\"z\":null,\"t\":true,"
    "\"list\":[1,\"x\",[2],{\"k\":3}],\"o\":{\"x\":1},\"a-b\":7,\"select\":8,\"d\":{\"e\\u0066\":9}},"
    "\"properties\":{\"desired\":{\"v\":1},\"reported\":{\"v\":2}}}";

/* 1, 0, or -1 for undefined, -2 for a value that is no boolean. */
static int value_of(enum dialect d, const char *text)
{
    struct query_document row;
    struct query_value v;
    if (parse(d, text))
        fail_msg("%s: %s", text, err.message);
    query_document_init(&row, span_str(doc));
    scratch.len = 0;
    query_eval(q.where, &row.row, &scratch, &v);
    return v.kind == QUERY_BOOL ? v.b : v.kind == QUERY_UNDEFINED ? -1 : -2;
}

static void operators_follow_their_rules(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int want;
    } c[] = {
        { "1 = 1", 1 },
        { "1 = '1'", -1 },
        { "1 != '1'", -1 },
        { "null = null", 1 },
        { "null != tags.z", 0 },
        { "tags.absent = undefined", -1 },
        { "undefined = undefined", -1 },
        { "tags.o = tags.o", -1 },
        { "tags.list = tags.list", -1 },
        { "false < true", 1 },
        { "'B' < 'a'", 1 },
        { "'ab' > 'a'", 1 },
        { "'a' <> 'b'", 1 },
        { "2 + 3 * 4 = 14", 1 },
        { "(2 + 3) * 4 = 20", 1 },
        { "10 - 4 - 3 = 3", 1 },
        { "7 % 4 = 3 AND 8 / 4 / 2 = 1", 1 },
        { "1 / 0 = 1", -1 },
        { "1 % 0 = 1", -1 },
        { "1e308 * 10 > 1", -1 },
        { "'a' + 'b' = 'ab'", -1 },
        { "- tags.n = -5", 1 },
        { "--5 = 5", 1 },
        { "-'5' = 5", -1 },
        { "-tags.s = 5", -1 },
        { "0x1F = 31 AND 1.5e1 = 15 AND 007 = 7", 1 },
        { "tags.f = -25", 1 },
        { "tags.s = 'a\\\"b\\u00fc'", 1 },
        { "tags.s = \"a\\\"b\xc3\xbc\"", 1 },
        { "tags.z = null", 1 },
        { "tags.t", 1 },
        { "NOT tags.t", 0 },
        { "tags.n", -2 },
        { "NOT tags.n", -1 },
        { "tags.n AND true", -1 },
        { "tags.n OR true", 1 },
        { "tags.absent AND false", 0 },
        { "tags.absent AND true", -1 },
        { "tags.absent OR false", -1 },
        { "tags.absent OR true", 1 },
        { "tags.absent OR tags.absent", -1 },
        { "NOT tags.absent", -1 },
        { "NOT NOT true", 1 },
        { "true OR false AND false", 1 },
        { "NOT false AND false", 0 },
        { "tags.n IN [1, '5', 2 + 3]", 1 },
        { "tags.n IN (5)", 1 },
        { "tags.n NOT IN [5]", 0 },
        { "tags.n NIN ['5']", 1 },
        { "tags.absent NIN [5]", -1 },
        { "tags.absent IN [undefined]", -1 },
        { "tags.o IN [1]", 0 },
        { "tags.list[1] = 'x' AND tags.list[2][0] = 2 AND tags.list[3].k = 3", 1 },
        { "tags.list[4] = 1", -1 },
        { "tags[0] = 1", -1 },
        { "tags.list.k = 1", -1 },
        { "tags.[[a-b]] = 7 AND tags.select = 8 AND tags.d.ef = 9", 1 },
        { "tags.n-1 = 4", 1 },
        { "DEVICEID = 'd1' AND id = 'd1' AND devices.deviceId = 'd1'", 1 },
        { "Properties.DESIRED.v = 1 AND properties.Reported.v = 2", 1 },
        { "properties.desired.V = 1", -1 },
        { "nothing.of.this = 1", -1 },
        { "/* a */ true /* b */ AND/**/ true", 1 },
        { "IS_DEFINED(tags.z)", 1 },
        { "IS_DEFINED(tags.absent)", 0 },
        { "IS_NULL(tags.absent)", 0 },
        { "IS_ARRAY(tags.list) AND IS_OBJECT(tags.o) AND IS_BOOL(tags.t) AND IS_STRING(tags.s)", 1 },
        { "IS_PRIMITIVE(tags.z) AND NOT IS_PRIMITIVE(tags.o) AND NOT IS_PRIMITIVE(tags.absent)", 1 },
        { "ARRAY_CONTAINS(tags.list, 'x') AND NOT ARRAY_CONTAINS(tags.list, 2)", 1 },
        { "array_contains([1, 2], 2)", 1 },
        { "ARRAY_CONTAINS(tags.n, 5)", -1 },
        { "StartsWith(deviceId, 'd') AND ENDSWITH(deviceId, '1') AND CONTAINS(deviceId, 'd1')", 1 },
        { "STARTSWITH(tags.n, 'd')", -1 },
        { "STARTSWITH(tags.absent, 'd')", -1 },
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++)
        if (value_of(CONDITION, c[i].text) != c[i].want)
            fail_msg("%s: %d", c[i].text, value_of(CONDITION, c[i].text));
}

static void functions_of_routes_follow_their_rules(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int want;
    } c[] = {
        { "ABS(-2) = 2 AND SQUARE(3) = 9 AND POWER(2, 10) = 1024 AND EXP(0) = 1", 1 },
        { "CEILING(1.2) = 2 AND FLOOR(-1.2) = -2 AND SIGN(-3) = -1 AND SIGN(0) = 0", 1 },
        { "SQRT(-1) = 0", -1 },
        { "ABS('x') = 1", -1 },
        { "AS_NUMBER(' +1.5e1 ') = 15 AND AS_NUMBER(3) = 3", 1 },
        { "AS_NUMBER('0x10') = 16", -1 },
        { "AS_NUMBER('') = 0", -1 },
        { "CONCAT('a', 'b', 'c') = 'abc'", 1 },
        { "CONCAT('a', 1) = 'a1'", -1 },
        { "LENGTH('a\xc3\xbc\xf0\x9f\x98\x80') = 3", 1 },
        { "LOWER('aBC\xc3\x9c') = 'abc\xc3\x9c' AND UPPER('aBc') = 'ABC'", 1 },
        { "SUBSTRING('h\xc3\xbcllo', 1, 2) = '\xc3\xbcl'", 1 },
        { "SUBSTRING('abc', 1) = 'bc' AND SUBSTRING('abc', 9) = '' AND SUBSTRING('abc', 0, 99) = 'abc'", 1 },
        { "SUBSTRING('abc', -1) = 'abc' AND SUBSTRING('abc', 1, -1) = ''", 1 },
        { "INDEX_OF('h\xc3\xbcllo', 'l') = 2 AND INDEX_OF('abc', 'x') = -1 AND INDEX_OF('abc', '') = 0", 1 },
        { "ENDS_WITH('abc', 'bc') AND CONTAINS('abc', 'b') AND NOT ENDS_WITH('c', 'bc')", 1 },
        { "IS_DEFINED(tags.absent)", 0 },
        { "5 - 2 = 3", 1 },
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++)
        if (value_of(ROUTE, c[i].text) != c[i].want)
            fail_msg("%s: %d", c[i].text, value_of(ROUTE, c[i].text));
}

static void names_of_routes_may_have_a_hyphen(void **state)
{
    (void)state;
    assert_int_equal(parse(ROUTE, "a-b-2 = 'x' AND $dt-subject = $body.select-me[0].x"), ERR_OK);
    assert_int_equal(q.where->op, QUERY_AND);
    const struct query_path *p = &q.where->first->first->u.path;
    assert_true(p->root == QUERY_APP && p->nr == 1 && span_eq(p->step[0].name, SPAN("a-b-2")));
    const struct query_node *second = q.where->first->next;
    assert_true(second->first->u.path.root == QUERY_SYSTEM);
    p = &second->first->next->u.path;
    assert_true(p->root == QUERY_BODY && p->nr == 3 && span_eq(p->step[0].name, SPAN("select-me")) &&
                !p->step[1].name.p);
    assert_int_equal(parse(ROUTE, "$TWIN.Tags.x = 1 AND [[$body]] = 'x'"), ERR_OK);
    p = &q.where->first->first->u.path;
    assert_true(p->root == QUERY_TWIN && p->field == QUERY_TAGS && span_eq(p->step[0].name, SPAN("tags")));
    assert_true(q.where->first->next->first->u.path.root == QUERY_APP);
}

/* The text with a '|' before the place that the message has to name. */
static void refused(enum dialect d, const char *text, const char *message)
{
    char plain[256];
    const char *mark = strchr(text, '|');
    assert_non_null(mark);
    snprintf(plain, sizeof plain, "%.*s%s", (int)(mark - text), text, mark + 1);
    if (parse(d, plain) != ERR_PROTO)
        fail_msg("taken: %s", plain);
    if (err.at != (uint32_t)(mark - text) || strcmp(err.message, message) != 0)
        fail_msg("%s: at %u: %s", plain, err.at, err.message);
}

static void errors_say_what_was_expected_and_where(void **state)
{
    (void)state;
    refused(FULL, "|", "expected SELECT, found the end");
    refused(FULL, "|UPDATE x", "expected SELECT, found UPDATE");
    refused(FULL, "SELECT |FROM devices", "expected *, a path or an aggregate, found FROM");
    refused(FULL, "SELECT *|, a FROM devices", "expected FROM, found ,");
    refused(FULL, "SELECT * |", "expected FROM, found the end");
    refused(FULL, "SELECT * FROM |things", "expected devices, devices.modules or devices.jobs, found things");
    refused(FULL, "SELECT * FROM devices.|twins", "expected modules or jobs, found twins");
    refused(FULL, "SELECT TOP |x * FROM devices",
            "expected a whole number up to 4294967295 after TOP, found x");
    refused(FULL, "SELECT TOP |1.5 * FROM devices",
            "expected a whole number up to 4294967295 after TOP, found 1.5");
    refused(FULL, "SELECT TOP |4294967296 * FROM devices",
            "expected a whole number up to 4294967295 after TOP, found 4294967296");
    refused(FULL, "SELECT TOP |1e300 * FROM devices",
            "expected a whole number up to 4294967295 after TOP, found 1e300");
    refused(FULL, "SELECT * FROM devices |ORDER BY x", "ORDER is not part of the query language");
    refused(FULL, "SELECT * FROM devices |x", "expected an operator, WHERE, GROUP BY or the end, found x");
    refused(FULL, "SELECT * FROM devices WHERE a |LIKE 'x'", "LIKE is not part of the query language");
    refused(FULL, "SELECT * FROM devices WHERE |", "expected a value, found the end");
    refused(FULL, "SELECT |* FROM devices GROUP BY a",
            "GROUP BY needs the path and aggregates in place of *");
    refused(FULL, "SELECT COUNT(), |a FROM devices",
            "a stands beside aggregates and is not what GROUP BY names");
    refused(FULL, "SELECT |b FROM devices GROUP BY a",
            "b stands beside aggregates and is not what GROUP BY names");
    refused(FULL, "SELECT COUNT() FROM devices.modules |GROUP BY a", "GROUP BY is for devices only");
    refused(FULL, "SELECT |jobId FROM devices.jobs", "devices.jobs knows SELECT * only, without GROUP BY");
    refused(FULL, "SELECT * FROM devices.jobs |GROUP BY jobId",
            "devices.jobs knows SELECT * only, without GROUP BY");
    refused(FULL, "SELECT * FROM devices.jobs WHERE |tags.x = 1",
            "tags belongs to a twin, and job records have none of its attributes");
    refused(FULL, "SELECT tags.a.x, |tags.b.x FROM devices", "two members are called x: name one with AS");
    refused(FULL, "SELECT COUNT(|x) FROM devices", "expected ), found x");
    refused(FULL, "SELECT AVG(|) FROM devices", "expected a path, found )");
    refused(FULL, "SELECT a |+ 1 FROM devices", "expected FROM, found +");
    refused(FULL, "SELECT a AS |'x' FROM devices", "expected a name, found 'x'");
    refused(CONDITION, "a = |", "expected a value, found the end");
    refused(CONDITION, "a = 1 |= 2", "comparisons do not follow each other: join them with AND");
    refused(CONDITION, "(a = 1|", "expected an operator or ')', found the end");
    refused(CONDITION, "a = 1|)", "expected an operator or the end, found )");
    refused(CONDITION, "* |x", "expected nothing after *, found x");
    refused(CONDITION, "a IN |'x'", "expected a list such as ['a', 'b'], found 'x'");
    refused(CONDITION, "a IN [|]", "expected a value, found ]");
    refused(CONDITION, "a IN [1 |2]", "expected ',' or ']', found 2");
    refused(CONDITION, "|group = 1",
            "expected a value (a name that is a key word is written [[name]]), found group");
    refused(CONDITION, "a.|1 = 1", "expected a name, found 1");
    refused(CONDITION, "a[|x] = 1", "expected an index such as 0, found x");
    refused(CONDITION, "a[|0.5]", "expected an index such as 0, found 0.5");
    refused(CONDITION, "a[0|, 1]", "expected ], found ,");
    refused(CONDITION, "|NOPE(a)", "NOPE is not a function of queries");
    refused(CONDITION, "|SQRT(a)", "SQRT is not a function of queries");
    refused(ROUTE, "|STARTSWITH(a, 'x')", "STARTSWITH is not known here: it is STARTS_WITH");
    refused(ROUTE, "a |IN ['x']", "IN is not part of route conditions: use = and OR");
    refused(ROUTE, "a = |['x']", "expected a value, found [");
    refused(CONDITION, "|STARTSWITH(a)", "STARTSWITH needs more arguments");
    refused(CONDITION, "|IS_DEFINED(a, b)", "IS_DEFINED takes fewer arguments");
    refused(CONDITION, "IS_NULL(a |b)", "expected ',' or ')', found b");
    refused(CONDITION, "a = |'x", "the string that begins here does not end");
    refused(CONDITION, "a = |'\\x'",
            "after a backslash only one of ' \" \\ / b f n r t and uXXXX has a meaning");
    refused(CONDITION, "a = |0x", "0x needs hexadecimal digits");
    refused(CONDITION, "a = |1e999", "this number is too large or too long");
    refused(CONDITION, "a = |12abc", "a number ends where a name begins");
    refused(CONDITION, "a |; b", "this character has no meaning here");
    refused(CONDITION, "a |/* x", "the comment that begins here has no */");
    refused(CONDITION, "|[[a = 1", "the name that begins here has no ]]");
    refused(CONDITION, "|[[]] = 1", "[[ ]] needs a name inside");
    refused(CONDITION, "FROM devices.|jobs", "expected modules, found jobs");
    refused(CONDITION, "FROM devices |a = 1", "expected WHERE, found a");
    assert_int_equal(parse(FULL, "SELECT *\n FROM\n  d\xc3\xbc \x01"), ERR_PROTO);
    assert_true(err.line == 3 && err.column == 3 && err.at == 17);
    assert_string_equal(err.message, "expected devices, devices.modules or devices.jobs, found d??");
}

static void what_selects_all_and_where_from(void **state)
{
    (void)state;
    assert_int_equal(parse(CONDITION, ""), ERR_OK);
    assert_null(q.where);
    assert_int_equal(parse(CONDITION, " * "), ERR_OK);
    assert_null(q.where);
    assert_int_equal(parse(ROUTE, "/* nothing */"), ERR_OK);
    assert_null(q.where);
    assert_int_equal(parse(CONDITION, "from devices.modules where moduleId = 'x'"), ERR_OK);
    assert_int_equal(q.from, QUERY_MODULES);
    assert_non_null(q.where);
    assert_int_equal(parse(CONDITION, "FROM devices.modules"), ERR_OK);
    assert_null(q.where);
    assert_int_equal(
        parse(FULL, "SELECT TOP 7 deviceid, COUNT(), MAX(tags.x), tags.[[a b]] AS q FROM devices"),
        ERR_PROTO);
    assert_int_equal(parse(FULL, "SELECT TOP 7 deviceid, tags.n[0], tags.[[a b]] AS q FROM devices.modules"),
                     ERR_OK);
    assert_true(q.has_top && q.top == 7 && q.items_nr == 3 && !q.star && q.from == QUERY_MODULES);
    assert_true(span_eq(q.items[0].name, SPAN("deviceId")) && span_eq(q.items[1].name, SPAN("n")) &&
                span_eq(q.items[2].name, SPAN("q")));
    assert_int_equal(parse(FULL, "SELECT COUNT(), MAX(tags.x), SUM(tags.x) AS s FROM devices"), ERR_OK);
    assert_true(span_eq(q.items[0].name, SPAN("$1")) && span_eq(q.items[1].name, SPAN("$2")) && q.aggregates);
}

/* ---- caps ---------------------------------------------------------------------------------------------- */

static char big[4 * QUERY_TEXT_MAX + 64];

/* `head`, then `part` nr times with `between`, then `tail`. */
static struct span repeat(const char *head, const char *part, const char *between, size_t nr,
                          const char *tail)
{
    struct wr w = { (uint8_t *)big, sizeof big, 0 };
    wr_str(&w, head);
    for (size_t i = 0; i < nr; i++) {
        if (i)
            wr_str(&w, between);
        wr_str(&w, part);
    }
    wr_str(&w, tail);
    assert_true(wr_ok(&w));
    return wr_span(&w);
}

static void every_cap_is_reached(void **state)
{
    (void)state;
    static const struct {
        const char *head, *part, *between, *tail;
        size_t most;
        enum dialect d;
        const char *message;
    } c[] = {
        { "a=1", " ", "", "", QUERY_TEXT_MAX - 3, CONDITION, "the text is longer than 8192 characters" },
        { "a=1", " ", "", "", QUERY_ROUTE_MAX - 3, ROUTE, "the text is longer than 2048 bytes" },
        { "", "NOT ", "", "a", QUERY_DEPTH_MAX, CONDITION, "nested deeper than 64 levels" },
        { "", "-", "", "a", QUERY_DEPTH_MAX, ROUTE, "nested deeper than 64 levels" },
        { "a IN [", "1", ",", "]", QUERY_LIST_MAX, CONDITION, "a list of more than 1000 elements" },
        { "CONCAT(", "a", ",", ")", QUERY_ARGS_MAX, ROUTE, "more than 32 arguments" },
        { "", "a", ".", " = 1", QUERY_STEPS_MAX, CONDITION, "a path of more than 64 names" },
        { "SELECT ", "COUNT()", ",", " FROM devices", QUERY_ITEMS_MAX, FULL,
          "more than 100 items are selected" },
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        struct span text = repeat(c[i].head, c[i].part, c[i].between, c[i].most, c[i].tail);
        if (parse_in(c[i].d, text, QUERY_MEM(text.n)))
            fail_msg("%s: %s", c[i].message, err.message);
        text = repeat(c[i].head, c[i].part, c[i].between, c[i].most + 1, c[i].tail);
        assert_int_equal(parse_in(c[i].d, text, sizeof room), ERR_LIMIT);
        assert_string_equal(err.message, c[i].message);
    }
    for (size_t more = 0; more < 2; more++) { /* characters of four bytes */
        struct span text = repeat("a='", "\xf0\x9f\x98\x80", "", QUERY_TEXT_MAX - 4 + more, "'");
        assert_int_equal(parse_in(CONDITION, text, sizeof room), more ? ERR_LIMIT : ERR_OK);
        text = repeat("a='\\n", "\xf0\x9f\x98\x80", "", QUERY_TEXT_MAX - 6 + more, "'");
        assert_int_equal(parse_in(CONDITION, text, sizeof room), more ? ERR_LIMIT : ERR_OK);
    }
    for (size_t n = QUERY_DEPTH_MAX; n <= QUERY_DEPTH_MAX + 1; n++) { /* parentheses, calls */
        char text[512] = "";
        for (size_t i = 0; i < n; i++)
            strcat(text, i % 2 ? "(" : "ABS(");
        strcat(text, "1");
        for (size_t i = 0; i < n; i++)
            strcat(text, ")");
        assert_int_equal(parse(ROUTE, text), n == QUERY_DEPTH_MAX ? ERR_OK : ERR_LIMIT);
    }
}

/* The densest texts there are fit the memory that QUERY_MEM gives, and long chains need no stack. */
static void memory_is_enough_for_any_text(void **state)
{
    (void)state;
    static const char *const parts[][2] = { { "a", "+" },        { "a.b", "*" }, { "a", " OR " },
                                            { "(a=b)", "-" },    { "'x'", "+" }, { "a=1", " AND " },
                                            { "-a", "%" },       { "[1]", "+" }, { "a.b", "." },
                                            { "(a<'\\n')", "+" } };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        size_t nr = QUERY_TEXT_MAX / (strlen(parts[i][0]) + strlen(parts[i][1]));
        struct span text = repeat("", parts[i][0], parts[i][1], nr, "");
        enum err e = parse_in(CONDITION, text, QUERY_MEM(text.n));
        struct query_document row;
        if (e == ERR_NOMEM)
            fail_msg("%s", parts[i][0]);
        query_document_init(&row, span_str(doc));
        if (!e)
            (void)query_match(q.where, &row.row, &scratch);
    }
    /* And too little of it is said, at every size. */
    static const char text[] =
        "SELECT a, COUNT() AS n FROM devices WHERE a IN [1, '\\n'] AND -b < 2 GROUP BY a";
    assert_int_equal(parse(FULL, text), ERR_OK);
    size_t enough = q.mem_used;
    for (size_t cap = 0; cap < enough; cap++)
        assert_int_equal(parse_in(FULL, span_str(text), cap), ERR_NOMEM);
    assert_int_equal(parse_in(FULL, span_str(text), enough), ERR_OK);
}

/* The heap, so that a sanitizer sees a read behind the end. */
static void every_cut_is_an_answer(void **state)
{
    (void)state;
    static const struct {
        enum dialect d;
        const char *text;
    } c[] = {
        { FULL,
          "SELECT TOP 3 deviceId, COUNT() AS n, AVG(tags.[[a b]].c[0]) FROM devices WHERE (a != 'x\\u00fcy' "
          "AND NOT b IN [1, 0x2f, -3.5e-1]) OR /* c */ IS_DEFINED(d) GROUP BY deviceId" },
        { CONDITION, "FROM devices.modules WHERE STARTSWITH(moduleId, \"m\\\"\") AND tags.a % 2 <> 1" },
        { ROUTE, "$body.a[0].b-c >= 1 AND CONTAINS(LOWER(x), 'y') OR $twin.tags.z = null" },
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        size_t n = strlen(c[i].text);
        assert_int_equal(parse(c[i].d, c[i].text), ERR_OK);
        for (size_t cut = 0; cut < n; cut++) {
            uint8_t *p = malloc(cut ? cut : 1);
            assert_non_null(p);
            memcpy(p, c[i].text, cut);
            enum err e = parse_in(c[i].d, span_of(p, cut), sizeof room);
            assert_true(e == ERR_OK || (e == ERR_PROTO && err.message[0] && err.at <= cut));
            free(p);
        }
    }
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static void json_is_told_from_what_is_not(void **state)
{
    (void)state;
    static const char *const good[] = { "1",    " {} ",     "[]",   "[1,2]",  "{\"a\":1,\"b\":[{}]}",
                                        "\"\"", "-0.5e+10", "null", "[true]", "\"\\u00fc\\n\"" };
    static const char *const bad[] = { "",      "{",      "[1,]",    "{\"a\"}",   "{\"a\":}",    "{,}",
                                       "[1 2]", "01",     "1.",      "tru",       "{\"a\":1,}",  "[}",
                                       "{]",    "1 2",    "\"\\x\"", "\"\\u1",    "\"\\u12g4\"", "{a:1}",
                                       "\"a",   "[[[[[[", "+1",      "{\"a\" 1}", "]",           "\"\x01\"" };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!query_json_valid(span_str(good[i])))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (query_json_valid(span_str(bad[i])))
            fail_msg("taken: %s", bad[i]);
    for (size_t n = 64; n <= 65; n++) {
        struct span s = repeat("", "[", "", n, "");
        memset(big + n, ']', n);
        assert_int_equal(query_json_valid(span_of(s.p, 2 * n)), n == 64);
    }
    for (size_t cut = 0; cut < sizeof doc - 1; cut++) {
        uint8_t *p = malloc(cut ? cut : 1);
        struct query_step step[2] = { { .name = SPAN("properties") }, { .name = SPAN("reported") } };
        struct query_value v = { .kind = QUERY_UNDEFINED };
        assert_non_null(p);
        memcpy(p, doc, cut);
        assert_false(query_json_valid(span_of(p, cut)));
        scratch.len = 0;
        query_json_get(span_of(p, cut), step, 2, true, &scratch, &v);
        assert_int_equal(v.kind, QUERY_UNDEFINED);
        free(p);
    }
    assert_true(query_json_valid(span_str(doc)));
}

static void numbers_are_written_as_short_as_they_read_back(void **state)
{
    (void)state;
    static const struct {
        double d;
        const char *text;
    } c[] = { { 294, "294" },   { 58.8, "58.8" },   { 0.1, "0.1" }, { 1.0 / 3, "0.3333333333333333" },
              { -4.5, "-4.5" }, { 1e300, "1e+300" } };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        struct query_value v = { .kind = QUERY_NUMBER, .num = c[i].d };
        double back;
        scratch.len = 0;
        query_json_put(&scratch, &v);
        assert_true(span_eq(wr_span(&scratch), span_str(c[i].text)));
        assert_true(query_number(wr_span(&scratch), &back) && back == c[i].d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operators_follow_their_rules),
        cmocka_unit_test(functions_of_routes_follow_their_rules),
        cmocka_unit_test(names_of_routes_may_have_a_hyphen),
        cmocka_unit_test(errors_say_what_was_expected_and_where),
        cmocka_unit_test(what_selects_all_and_where_from),
        cmocka_unit_test(every_cap_is_reached),
        cmocka_unit_test(memory_is_enough_for_any_text),
        cmocka_unit_test(every_cut_is_an_answer),
        cmocka_unit_test(json_is_told_from_what_is_not),
        cmocka_unit_test(numbers_are_written_as_short_as_they_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
