/* hub/domain/json_tree_test.c - what is read is written again, number for number; what is no JSON is refused,
 * and so is too much of it. */
#include "hub/domain/json_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above */
#include <cmocka.h>

static int setup(void **state)
{
    static struct arena a;
    arena_init(&a, 64u << 20);
    *state = &a;
    return 0;
}
static int teardown(void **state)
{
    arena_fini(*state);
    return 0;
}

static void reads(struct arena *a, const char *in, const char *out)
{
    struct jnode *n = NULL;
    assert_int_equal(jtree_parse(a, span_str(in), &n, NULL), ERR_OK);
    struct span s = jtree_text(a, n);
    assert_int_equal(s.n, strlen(out));
    assert_memory_equal(s.p, out, s.n);
}

static void test_what_is_read_is_written_again(void **state)
{
    static const char *const same[] = {
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1.0",
        "1",
        "1e5",
        "1E+05",
        "-12.50e-7",
        "\"\"",
        "[]",
        "{}",
        "[1,[2,[]],{\"a\":{}}]",
        "{\"a\":1.0,\"b\":1.00,\"\":[null]}",
        "\"\\\"\\\\\"",
        "123456789012345678901234567890.10",
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        reads(*state, same[i], same[i]);
    reads(*state, " {\r\n\t\"a\" : [ 1 , 2 ] } ", "{\"a\":[1,2]}");
    reads(*state, "\"\\u0041\\/\\n\\u00e4\\ud83d\\ude00\"", "\"A/\\n\xc3\xa4\xf0\x9f\x98\x80\"");
    reads(*state, "\"\\u0000\\b\\f\\r\\t\"", "\"\\u0000\\b\\f\\r\\t\"");
    reads(*state, "{\"\\u0061\":1,\"b\":2,\"a\":3}", "{\"b\":2,\"a\":3}"); /* the last one counts */
}

static void test_what_is_no_json(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "[",
        "\"",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "[1,]",
        "[1 2]",
        "{a:1}",
        "{1:1}",
        "nul",
        "tru",
        "True",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "1 1",
        "NaN",
        "{}x",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"a\nb\"",
        "\"\xff\"",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf5\x80\x80\x80\"",
        "\"\xc3\"",
        "\"\\\"",
        "\"\\",
        "]",
        "}",
        ",",
        ":",
        "//",
        "[\"a\":1]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct jnode *n = NULL;
        struct jtree_fault why = { NULL, 0 };
        assert_int_equal(jtree_parse(*state, span_str(bad[i]), &n, &why), ERR_PROTO);
        assert_null(n);
        assert_non_null(why.what);
        assert_in_range(why.at, 0, strlen(bad[i]));
    }
}

static void test_every_cut_is_refused(void **state)
{
    static const char text[] = "{\"a\":[1.50,true,null,\"x\\u00e4\\n\"],\"b\":{\"c\":-1e-3,\"d\":[]}}";
    for (size_t n = 0; n <= sizeof text - 1; n++) {
        struct jnode *out;
        char *copy = malloc(n ? n : 1); /* its end is the end of the memory */
        memcpy(copy, text, n);
        assert_int_equal(jtree_parse(*state, span_of(copy, n), &out, NULL),
                         n < sizeof text - 1 ? ERR_PROTO : ERR_OK);
        free(copy);
    }
}

static void test_caps(void **state)
{
    char text[2 * JTREE_NESTED_MAX + 3];
    struct jnode *n;
    for (size_t deep = JTREE_NESTED_MAX; deep <= JTREE_NESTED_MAX + 1; deep++) {
        memset(text, '[', deep);
        memset(text + deep, ']', deep);
        assert_int_equal(jtree_parse(*state, span_of(text, 2 * deep), &n, NULL),
                         deep > JTREE_NESTED_MAX ? ERR_LIMIT : ERR_OK);
    }
    char *many = malloc(2 * JTREE_NODES_MAX + 3);
    for (size_t nr = JTREE_NODES_MAX - 1; nr <= JTREE_NODES_MAX; nr++) {
        size_t len = 0;
        for (size_t i = 0; i < nr; i++) {
            many[len++] = i ? ',' : '[';
            many[len++] = '1';
        }
        many[len++] = ']';
        assert_int_equal(jtree_parse(*state, span_of(many, len), &n, NULL),
                         nr == JTREE_NODES_MAX ? ERR_LIMIT : ERR_OK);
    }
    free(many);
}

static void test_memory_runs_out(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":\"\\n\"}";
    bool ok = false;
    for (size_t cap = 0; !ok; cap += 8) {
        struct arena a;
        struct jnode *n = NULL;
        arena_init(&a, cap);
        enum err e = jtree_parse(&a, span_str(text), &n, NULL);
        ok = e == ERR_OK;
        assert_true(ok || e == ERR_NOMEM);
        assert_true(ok == (n != NULL));
        arena_fini(&a);
        assert_in_range(cap, 0, 8192);
    }
}

static void test_members_are_found(void **state)
{
    for (unsigned nr = 0; nr < 40; nr++) {
        char text[1024] = "{";
        char key[16];
        for (unsigned i = 0; i < nr; i++) /* each name twice */
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s\"k%u\":%u", i ? "," : "",
                     (i * 7) % ((nr + 1) / 2), i);
        strcat(text, "}");
        struct jnode *o;
        assert_int_equal(jtree_parse(*state, span_str(text), &o, NULL), ERR_OK);
        for (unsigned k = 0; k < 45; k++) {
            unsigned last = 0, found = 0;
            for (unsigned i = 0; i < nr; i++)
                if ((i * 7) % ((nr + 1) / 2) == k) {
                    last = i;
                    found = 1;
                }
            snprintf(key, sizeof key, "k%u", k);
            const struct jnode *m = jtree_get(o, span_str(key));
            assert_int_equal(m != NULL, found);
            snprintf(key, sizeof key, "%u", last);
            if (m)
                assert_true(span_eq(m->text, span_str(key)));
        }
        uint32_t seen = 0;
        for (const struct jnode *m = o->first; m; m = m->next)
            assert_int_equal(m->at, seen++);
        assert_int_equal(o->nr, seen);
    }
    assert_null(jtree_get(NULL, SPAN("a")));
}

static void test_equal_whatever_the_order(void **state)
{
    static const char *const eq[][2] = { { "{\"a\":1,\"b\":[1,2]}", "{\"b\":[1,2],\"a\":1}" },
                                         { "[1,\"x\"]", "[1,\"x\"]" } };
    static const char *const ne[][2] = { { "1", "1.0" },
                                         { "[1,2]", "[2,1]" },
                                         { "{\"a\":1}", "{\"b\":1}" },
                                         { "{}", "[]" },
                                         { "{\"a\":1}", "{\"a\":1,\"b\":1}" },
                                         { "\"1\"", "1" } };
    struct jnode *x, *y;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(jtree_parse(*state, span_str(eq[i][0]), &x, NULL), ERR_OK);
        assert_int_equal(jtree_parse(*state, span_str(eq[i][1]), &y, NULL), ERR_OK);
        assert_true(jtree_eq(x, y) && jtree_eq(y, x));
    }
    for (size_t i = 0; i < sizeof ne / sizeof ne[0]; i++) {
        assert_int_equal(jtree_parse(*state, span_str(ne[i][0]), &x, NULL), ERR_OK);
        assert_int_equal(jtree_parse(*state, span_str(ne[i][1]), &y, NULL), ERR_OK);
        assert_false(jtree_eq(x, y) || jtree_eq(y, x));
    }
}

static void test_members_once(void **state)
{
    static const char *const fine[] = { "{}", "{\"a\":1,\"b\":{\"a\":2},\"c\":[{\"a\":1},{\"a\":1}]}",
                                        "[{},{}]" };
    static const char *const twice[] = { "{\"a\":1,\"a\":1}", "{\"\\u0061\":1,\"b\":2,\"a\":3}",
                                         "{\"b\":[{\"a\":1,\"c\":2,\"a\":3}]}" };
    struct jtree_fault why;
    struct jnode *n;
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        assert_int_equal(jtree_parse_once(*state, span_str(fine[i]), &n, &why), ERR_OK);
    for (size_t i = 0; i < sizeof twice / sizeof twice[0]; i++) {
        assert_int_equal(jtree_parse(*state, span_str(twice[i]), &n, &why), ERR_OK);
        assert_int_equal(jtree_parse_once(*state, span_str(twice[i]), &n, &why), ERR_PROTO);
        assert_string_equal(why.what, "two members of this object have the same name");
    }
    char text[4096];
    size_t len = (size_t)sprintf(text, "{\"k7\":1"); /* enough of them for an index */
    for (int i = 0; i < 100; i++)
        len += (size_t)sprintf(text + len, ",\"k%d\":%d", i, i);
    strcpy(text + len, "}");
    assert_int_equal(jtree_parse_once(*state, span_str(text), &n, &why), ERR_PROTO);
    assert_int_equal(jtree_parse(*state, span_str(text), &n, &why), ERR_OK);
    assert_int_equal(n->nr, 100);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_what_is_read_is_written_again),
        T(test_what_is_no_json),
        T(test_every_cut_is_refused),
        T(test_caps),
        T(test_memory_runs_out),
        T(test_members_are_found),
        T(test_members_once),
        T(test_equal_whatever_the_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
