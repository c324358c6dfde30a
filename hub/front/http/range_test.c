/* hub/front/http/range_test.c - ranges as a table. */
#include "hub/front/http/range.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define ETAG "\"abc\""

static const struct {
    const char *range, *if_range;
    uint64_t len;
    unsigned status;
    uint64_t offset, n;
} rows[] = {
    { "", "", 100, 200, 0, 100 },
    { "bytes=0-0", "", 100, 206, 0, 1 },
    { "bytes=99-99", "", 100, 206, 99, 1 },
    { "bytes=99-", "", 100, 206, 99, 1 },
    { "bytes=0-", "", 100, 206, 0, 100 },
    { "bytes=10-19", "", 100, 206, 10, 10 },
    { "bytes=90-1000", "", 100, 206, 90, 10 }, /* clamped */
    { "bytes=0-18446744073709551615", "", 100, 206, 0, 100 },
    { "bytes=-1", "", 100, 206, 99, 1 },
    { "bytes=-100", "", 100, 206, 0, 100 },
    { "bytes=-1000", "", 100, 206, 0, 100 },
    { "bytes=-0", "", 100, 416, 0, 0 },
    { "bytes=100-", "", 100, 416, 0, 0 },
    { "bytes=100-200", "", 100, 416, 0, 0 },
    { "bytes=0-0", "", 0, 416, 0, 0 },
    { "bytes=-5", "", 0, 416, 0, 0 },
    { "BYTES= 5 - 9 ", "", 100, 206, 5, 5 },
    /* as none */
    { "bytes=9-5", "", 100, 200, 0, 100 },
    { "bytes=0-1,5-6", "", 100, 200, 0, 100 },
    { "bytes=", "", 100, 200, 0, 100 },
    { "bytes=-", "", 100, 200, 0, 100 },
    { "bytes=a-b", "", 100, 200, 0, 100 },
    { "bytes=1-x", "", 100, 200, 0, 100 },
    { "bytes=+1-2", "", 100, 200, 0, 100 },
    { "bytes=99999999999999999999-", "", 100, 200, 0, 100 },
    { "lines=1-2", "", 100, 200, 0, 100 },
    { "byte", "", 100, 200, 0, 100 },
    /* If-Range */
    { "bytes=0-0", ETAG, 100, 206, 0, 1 },
    { "bytes=0-0", " " ETAG " ", 100, 206, 0, 1 },
    { "bytes=0-0", "\"other\"", 100, 200, 0, 100 },
    { "bytes=0-0", "W/" ETAG, 100, 200, 0, 100 }, /* needs a strong one */
    { "bytes=0-0", "Sat, 21 Nov 2026 22:00:00 GMT", 100, 200, 0, 100 },
    { "bytes=100-", "\"other\"", 100, 200, 0, 100 },
};

static void test_ranges(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct range_answer a =
            range_of(span_str(rows[i].range), span_str(rows[i].if_range), SPAN(ETAG), rows[i].len);
        if (a.status != rows[i].status || a.offset != rows[i].offset || a.len != rows[i].n)
            fail_msg("%s / %s: %u %llu+%llu", rows[i].range, rows[i].if_range, a.status,
                     (unsigned long long)a.offset, (unsigned long long)a.len);
    }
}

static void test_every_cut_is_within_the_file(void **state)
{
    static const char text[] = "bytes=10-19,-5";
    (void)state;
    for (size_t n = 0; n < sizeof text; n++)
        for (uint64_t len = 0; len < 30; len++) {
            char cut[sizeof text];
            memcpy(cut, text, n);
            struct range_answer a = range_of(span_of(cut, n), SPAN_NONE, SPAN(ETAG), len);
            assert_true(a.offset + a.len <= len);
        }
}

static void test_etag_lists(void **state)
{
    (void)state;
    assert_true(etag_listed(SPAN("*"), SPAN(ETAG)));
    assert_true(etag_listed(SPAN(ETAG), SPAN(ETAG)));
    assert_true(etag_listed(SPAN("\"x\", W/" ETAG), SPAN(ETAG)));
    assert_false(etag_listed(SPAN("\"x\",\"y\""), SPAN(ETAG)));
    assert_false(etag_listed(SPAN(""), SPAN(ETAG)));
    assert_false(etag_listed(SPAN(",,"), SPAN(ETAG)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_every_cut_is_within_the_file),
        cmocka_unit_test(test_etag_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
