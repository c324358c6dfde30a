/* cli/out_test.c - JSON of ours never drives a terminal, and stays the same JSON. */
#include "cli/out.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *written(const json_t *v, const char *raw)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    if (v)
        json_write(f, v);
    else
        json_bytes(f, raw, strlen(raw));
    assert_int_equal(fclose(f), 0);
    return text;
}

static void test_controls_are_escaped(void **state)
{
    (void)state;
    json_t *v = json_pack("{s:s,s:[s]}", "a\x7f",
                          "\xc2\x9b"
                          "31m\033",
                          "k", "gr\xc3\xbc\xc3\x9f\xc2\xa0");
    char *text = written(v, NULL);
    assert_string_equal(text, "{\"a\\u007F\":\"\\u009B31m\\u001B\",\"k\":[\"gr\xc3\xbc\xc3\x9f\xc2\xa0\"]}");
    json_t *back = json_loads(text, 0, NULL);
    assert_true(json_equal(v, back));
    json_decref(back);
    json_decref(v);
    free(text);
}

/* A lead byte that ends the text, or whose second byte is none of C1, is what it was. */
static void test_bytes_that_are_no_controls_stay(void **state)
{
    (void)state;
    static const char *const same[] = { "", "\xc2", "\xc2\xa0", "\xe2\x80\x9b", "\xc3\x9b", "{\"a\":1.0}" };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        char *text = written(NULL, same[i]);
        assert_string_equal(text, same[i]);
        free(text);
    }
    char *text = written(NULL, "\xc2\x80\xc2\x9f\x7f");
    assert_string_equal(text, "\\u0080\\u009F\\u007F");
    free(text);
}

static void test_texts_lose_them(void **state)
{
    (void)state;
    char text[] = "a\xc2\x9b"
                  "31m\033\x7f\n\xc3\xbc\xc2\xa0\xc2";
    assert_string_equal(printable(text), "a??31m???\xc3\xbc\xc2\xa0\xc2");
}

static void test_a_moment_for_a_table(void **state)
{
    (void)state;
    static const char *const of[][2] = { { "2026-11-22T12:05:24.6120000Z", "2026-11-22T12:05:24Z" },
                                         { "2026-11-22T12:05:24Z", "2026-11-22T12:05:24Z" },
                                         { "2026-11-22T12:05:24.6+01:00", "2026-11-22T12:05:24.6+01:00" },
                                         { "never", "never" } };
    char out[24];
    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) {
        json_t *v = json_pack("{s:s}", "at", of[i][0]);
        assert_string_equal(moment_text(v, "at", out), of[i][1]);
        json_decref(v);
    }
    json_t *none = json_object();
    assert_null(moment_text(none, "at", out));
    json_decref(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_controls_are_escaped),
        cmocka_unit_test(test_bytes_that_are_no_controls_stay),
        cmocka_unit_test(test_texts_lose_them),
        cmocka_unit_test(test_a_moment_for_a_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
