/* base/crc32c_test.c - known values, and both ways against each other. */
#include "base/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void test_known_values(void **state)
{
    uint8_t zeros[32] = { 0 };
    (void)state;
    assert_int_equal(crc32c_update(0, SPAN("123456789")), 0xe3069283u);
    assert_int_equal(crc32c_update(0, span_of(zeros, 32)), 0x8a9136aau); /* RFC 3720 B.4 */
    assert_int_equal(crc32c_update(0, SPAN_NONE), 0);
}

static void test_both_ways_agree_at_every_cut(void **state)
{
    uint8_t b[77];
    (void)state;
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (uint8_t)(i * 31 + 7);
    for (size_t n = 0; n <= sizeof b; n++)
        for (size_t cut = 0; cut <= n; cut++) {
            uint32_t a = crc32c_update(crc32c_update(0, span_of(b, cut)), span_of(b + cut, n - cut));
            assert_int_equal(a, crc32c_update_tables(0, span_of(b, n)));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_both_ways_agree_at_every_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
