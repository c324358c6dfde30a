/* core/storage/block_list_test.c - lists as clients write them, broken ones, every cut. */
#include "core/storage/block_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static size_t nr;
static struct block_entry entries[8];

static enum err read_all(struct span text)
{
    struct block_list l;
    struct block_entry b;
    enum err e;
    block_list_init(&l, text);
    for (nr = 0; (e = block_list_next(&l, &b)) == ERR_OK; nr++)
        entries[nr % 8] = b;
    return e;
}

static void test_lists(void **state)
{
    (void)state;
    assert_int_equal(read_all(SPAN("\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<BlockList>\r\n"
                                   "  <Latest>AAAA</Latest>\r\n<!-- a > b --><Committed>QkJC</Committed>\n"
                                   "<Uncommitted> Q0ND\n</Uncommitted ></BlockList>\r\n")),
                     ERR_STOPPED);
    assert_int_equal(nr, 3);
    assert_int_equal(entries[0].source, BLOCK_LATEST);
    assert_true(span_eq(entries[0].id, SPAN("AAAA")));
    assert_int_equal(entries[1].source, BLOCK_COMMITTED);
    assert_int_equal(entries[2].source, BLOCK_UNCOMMITTED);
    assert_true(span_eq(entries[2].id, SPAN("Q0ND")));
    assert_int_equal(read_all(SPAN("<BlockList/>")), ERR_STOPPED);
    assert_int_equal(nr, 0);
    assert_int_equal(read_all(SPAN("<BlockList xmlns=\"x\"></BlockList>")), ERR_STOPPED);
}

static void test_what_is_none(void **state)
{
    static const char *const bad[] = { "",
                                       "text",
                                       "<Blocks/>",
                                       "<BlockList><Latest></Latest></BlockList>",
                                       "<BlockList><Latest>AA</Committed></BlockList>",
                                       "<BlockList><Newest>AA</Newest></BlockList>",
                                       "<BlockList><Latest>AA</Latest>text</BlockList>",
                                       "<BlockList></BlockList><BlockList></BlockList>",
                                       "<!DOCTYPE a [<!ENTITY b \"c\">]><BlockList/>",
                                       "<BlockListing/>",
                                       "<!--><BlockList/>" };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(read_all(span_str(bad[i])), ERR_PROTO);
}

static void test_every_cut_is_no_list(void **state)
{
    static const char text[] =
        "<?xml version=\"1.0\"?><BlockList><Latest>AAAA</Latest><!-- x --></BlockList>";
    (void)state;
    for (size_t n = 0; n < sizeof text - 1; n++)
        assert_int_equal(read_all(span_of(text, n)), ERR_PROTO);
    assert_int_equal(read_all(span_str(text)), ERR_STOPPED);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_lists), cmocka_unit_test(test_what_is_none),
                                        cmocka_unit_test(test_every_cut_is_no_list) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
