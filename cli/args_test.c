/* cli/args_test.c - arguments: forms of an option, errors that name it, commands of one and two words. */
#include "cli/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct opt opts[] = {
    { "product", 'p', "NAME", "whose" }, { "wait", 0, NULL, "wait" }, { "file", 0, "FILE", "what" }, { 0 }
};
static const struct opt common[] = { { "hub", 0, "HUB", "which" }, { "json", 'j', NULL, "JSON" }, { 0 } };

static char why[128];
static bool parse(struct args *a, const char *const *words)
{
    int n = 0;
    while (words[n])
        n++;
    return args_parse(a, opts, common, n, (char **)(uintptr_t)words, why, sizeof why);
}
#define PARSE(a, ...) parse(a, (const char *const[]){ __VA_ARGS__, NULL })

static void test_forms(void **state)
{
    (void)state;
    struct args a;
    assert_true(
        PARSE(&a, "d1", "-p", "sensor", "--wait", "--file=a=b", "d2", "-j", "--hub", "h", "--", "-p", "-"));
    assert_string_equal(args_get(&a, "product"), "sensor");
    assert_string_equal(args_get(&a, "file"), "a=b");
    assert_string_equal(args_get(&a, "hub"), "h");
    assert_true(args_has(&a, "wait") && args_has(&a, "json"));
    assert_int_equal(a.pos_nr, 4);
    assert_string_equal(a.pos[0], "d1");
    assert_string_equal(a.pos[1], "d2");
    assert_string_equal(a.pos[2], "-p");
    assert_string_equal(a.pos[3], "-");
    args_free(&a);
    assert_true(PARSE(&a, "-psensor", "-p", "pump", "--product", ""));
    assert_string_equal(args_nth(&a, "product", 0), "sensor");
    assert_string_equal(args_nth(&a, "product", 1), "pump");
    assert_string_equal(args_get(&a, "product"), ""); /* the last one counts */
    assert_null(args_nth(&a, "product", 3));
    assert_null(args_get(&a, "file"));
    args_free(&a);
}

static void test_errors_name_the_option(void **state)
{
    (void)state;
    struct args a;
    assert_false(PARSE(&a, "--nope"));
    assert_non_null(strstr(why, "--nope"));
    args_free(&a);
    assert_false(PARSE(&a, "--products", "x"));
    args_free(&a);
    assert_false(PARSE(&a, "-x"));
    args_free(&a);
    assert_false(PARSE(&a, "--file"));
    assert_non_null(strstr(why, "FILE"));
    args_free(&a);
    assert_false(PARSE(&a, "--wait=yes"));
    assert_non_null(strstr(why, "--wait"));
    args_free(&a);
}

static void test_too_many_options(void **state)
{
    (void)state;
    const char *words[ARGS_OPT_MAX + 2];
    struct args a;
    for (size_t i = 0; i <= ARGS_OPT_MAX; i++)
        words[i] = "--wait";
    words[ARGS_OPT_MAX] = NULL;
    assert_true(parse(&a, words));
    args_free(&a);
    words[ARGS_OPT_MAX] = "--wait";
    words[ARGS_OPT_MAX + 1] = NULL;
    assert_false(parse(&a, words));
    args_free(&a);
}

static void test_commands_of_one_and_two_words(void **state)
{
    (void)state;
    static const struct command one[] = { { .name = "send" }, { .name = "device list" }, { 0 } };
    static const struct command two[] = { { .name = "device" }, { 0 } };
    const struct command *const tables[] = { one, two, NULL };
    int words = 0;
    char *argv[] = { "device", "list", "x" }, *send[] = { "send", "d" }, *none[] = { "sendd" };
    assert_ptr_equal(command_find(tables, 3, argv, &words), &one[1]);
    assert_int_equal(words, 2);
    assert_ptr_equal(command_find(tables, 1, argv, &words), &two[0]);
    assert_int_equal(words, 1);
    assert_ptr_equal(command_find(tables, 2, send, &words), &one[0]);
    assert_int_equal(words, 1);
    assert_null(command_find(tables, 1, none, &words));
    assert_null(command_find(tables, 0, none, &words));
}

static void test_numbers_and_durations(void **state)
{
    (void)state;
    uint64_t v = 0;
    assert_int_equal(arg_u64("65535", 0, 65535, &v), ERR_OK);
    assert_int_equal(v, 65535);
    assert_int_equal(arg_u64("65536", 0, 65535, &v), ERR_PROTO);
    assert_int_equal(arg_u64("0", 1, 9, &v), ERR_PROTO);
    assert_int_equal(arg_u64("", 0, 9, &v), ERR_PROTO);
    assert_int_equal(arg_u64("-1", 0, 9, &v), ERR_PROTO);
    static const struct {
        const char *text;
        uint64_t s;
    } good[] = { { "90", 90 }, { "90s", 90 }, { "30m", 1800 }, { "2h", 7200 }, { "7d", 604800 }, { "0", 0 } };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(arg_duration_s(good[i].text, &v), ERR_OK);
        assert_int_equal(v, good[i].s);
    }
    static const char *const bad[] = { "", "m", "5w", "5mm", "-5", "1.5h", "99999999999d" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(arg_duration_s(bad[i], &v), ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_errors_name_the_option),
        cmocka_unit_test(test_too_many_options),
        cmocka_unit_test(test_commands_of_one_and_two_words),
        cmocka_unit_test(test_numbers_and_durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
