/* core/storage/block_table_test.c - tables there and back, every cut, what is none. */
#include "core/storage/block_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const uint8_t longest[BLOCK_TABLE_ID_MAX] = { 1, 2, 3 };

static struct span made(struct wr *w)
{
    block_table_put(w, &(struct table_block){ SPAN("a"), 0 });
    block_table_put(w, &(struct table_block){ span_of(longest, sizeof longest), UINT64_MAX });
    block_table_put(w, &(struct table_block){ SPAN("a"), 7 });
    assert_true(wr_ok(w));
    return wr_span(w);
}

static void test_there_and_back(void **state)
{
    uint8_t mem[128];
    struct wr w = { mem, sizeof mem, 0 };
    struct span rest = made(&w);
    struct table_block b;
    (void)state;
    assert_int_equal(rest.n, 3 * 9 + 2 + sizeof longest);
    assert_int_equal(block_table_next(&rest, &b), ERR_OK);
    assert_true(span_eq(b.id, SPAN("a")));
    assert_int_equal(b.length, 0);
    assert_int_equal(block_table_next(&rest, &b), ERR_OK);
    assert_true(span_eq(b.id, span_of(longest, sizeof longest)));
    assert_true(b.length == UINT64_MAX);
    assert_int_equal(block_table_next(&rest, &b), ERR_OK);
    assert_int_equal(b.length, 7);
    assert_int_equal(block_table_next(&rest, &b), ERR_STOPPED);
    rest = SPAN_NONE;
    assert_int_equal(block_table_next(&rest, &b), ERR_STOPPED);
}

static void test_every_cut(void **state)
{
    uint8_t mem[128];
    struct wr w = { mem, sizeof mem, 0 };
    struct span all = made(&w);
    static const size_t ends[] = { 10, 10 + 9 + sizeof longest, 20 + 9 + sizeof longest };
    (void)state;
    for (size_t n = 0; n <= all.n; n++) {
        struct span rest = span_of(all.p, n);
        struct table_block b;
        enum err e;
        size_t nr = 0, whole = 0;
        while ((e = block_table_next(&rest, &b)) == ERR_OK)
            nr++;
        while (whole < 3 && ends[whole] <= n)
            whole++;
        assert_int_equal(nr, whole);
        assert_int_equal(e, n == 0 || n == ends[whole ? whole - 1 : 0] ? ERR_STOPPED : ERR_PROTO);
    }
}

static void test_what_is_none(void **state)
{
    static const uint8_t empty[9] = { 0 }, over[BLOCK_TABLE_ID_MAX + 10] = { BLOCK_TABLE_ID_MAX + 1 };
    struct span rest = span_of(empty, sizeof empty);
    struct table_block b = { SPAN("kept"), 5 };
    (void)state;
    assert_int_equal(block_table_next(&rest, &b), ERR_PROTO);
    rest = span_of(over, sizeof over);
    assert_int_equal(block_table_next(&rest, &b), ERR_PROTO);
    assert_int_equal(rest.n, sizeof over);
    assert_true(span_eq(b.id, SPAN("kept"))); /* nothing was written */
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_there_and_back),
                                        cmocka_unit_test(test_every_cut),
                                        cmocka_unit_test(test_what_is_none) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
