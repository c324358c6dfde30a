/* hub/domain/rate_test.c - buckets fill and empty, the table is bounded, sources are told apart. */
#include "hub/domain/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const uint64_t key[2] = { 1, 2 };

static void test_burst_then_the_rate(void **state)
{
    struct rate *r;
    (void)state;
    assert_int_equal(rate_new(&r, 60, 5, 100, key), ERR_OK);
    for (int i = 0; i < 5; i++)
        assert_true(rate_take(r, SPAN("a"), 1000).allowed);
    struct rate_verdict v = rate_take(r, SPAN("a"), 1000);
    assert_false(v.allowed);
    assert_true(v.first);
    assert_int_equal(v.retry_after_s, 1);
    v = rate_take(r, SPAN("a"), 1500);
    assert_false(v.allowed);
    assert_false(v.first); /* said once, not at every try */
    assert_true(rate_take(r, SPAN("b"), 1500).allowed);
    assert_true(rate_take(r, SPAN("a"), 2000).allowed); /* one a second */
    assert_false(rate_take(r, SPAN("a"), 2000).allowed);
    assert_true(rate_take(r, SPAN("a"), UINT64_MAX / 2).allowed); /* long quiet: full, no overflow */
    for (int i = 0; i < 4; i++)
        assert_true(rate_take(r, SPAN("a"), UINT64_MAX / 2).allowed);
    assert_false(rate_take(r, SPAN("a"), UINT64_MAX / 2).allowed);
    assert_false(rate_take(r, SPAN("a"), 5).allowed); /* a clock that steps back gives nothing away */
    rate_free(r);
}

static void test_zero_is_no_limit(void **state)
{
    struct rate *r;
    (void)state;
    assert_int_equal(rate_new(&r, 0, 1, 10, key), ERR_OK);
    for (int i = 0; i < 1000; i++)
        assert_true(rate_take(r, SPAN("a"), 1).allowed);
    assert_int_equal(rate_sources_nr(r), 0);
    rate_free(r);
}

static void test_table_is_bounded_and_the_quiet_make_room(void **state)
{
    struct rate *r;
    char name[32];
    (void)state;
    assert_int_equal(rate_new(&r, 1, 1, 100, key), ERR_OK);
    assert_true(rate_take(r, SPAN("loud"), 1).allowed);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "s%d", i);
        assert_true(rate_take(r, span_str(name), 2).allowed);
        assert_false(rate_take(r, SPAN("loud"), 2).allowed); /* in use: it keeps its place */
        assert_true(rate_sources_nr(r) <= 100);
    }
    assert_int_equal(rate_sources_nr(r), 100);
    rate_free(r);
}

static void test_sources(void **state)
{
    static const char *const rows[][2] = {
        { "192.0.2.7:5000", "192.0.2.7" },
        { "192.0.2.7", "192.0.2.7" },
        { "[2001:db8:1:2:3:4:5:6]:443", "2001:0db8:0001:0002::/64" },
        { "2001:db8:1:2:ffff::1", "2001:0db8:0001:0002::/64" },
        { "[::ffff:192.0.2.7]:80", "192.0.2.7" },
        { "[fe80::1%eth0]:80", "fe80:0000:0000:0000::/64" },
        { "", "" },
        { "[", "" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char buf[RATE_SOURCE_MAX];
        struct span s = rate_source(span_str(rows[i][0]), buf);
        assert_int_equal(s.n, strlen(rows[i][1]));
        assert_memory_equal(buf, rows[i][1], s.n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_burst_then_the_rate),
        cmocka_unit_test(test_zero_is_no_limit),
        cmocka_unit_test(test_table_is_bounded_and_the_quiet_make_room),
        cmocka_unit_test(test_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
