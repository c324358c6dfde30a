/* core/trust/tlv_test.c - tag-length-value lists: lengths, order, and what taking a whole list refuses. */
#include "core/trust/tlv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void test_tlv_lengths(void **state)
{
    (void)state;
    uint8_t buf[70000], val[65535] = { 7 };
    static const size_t lens[] = { 0, 1, 254, 255, 256, 65535 };
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        struct wr w = { buf, sizeof buf, 0 };
        struct tlv t;
        tlv_put(&w, 9, span_of(val, lens[i]));
        assert_int_equal(w.len, lens[i] + (lens[i] < 255 ? 2 : 4));
        for (size_t cut = 1; cut < w.len && cut < 300; cut++) {
            struct span part = span_of(buf, cut);
            assert_int_equal(tlv_next(&part, &t), ERR_PROTO);
            assert_int_equal(part.n, cut); /* nothing taken */
        }
        struct span in = wr_span(&w);
        assert_int_equal(tlv_next(&in, &t), ERR_OK);
        assert_int_equal(t.tag, 9);
        assert_true(span_eq(t.val, span_of(val, lens[i])));
        assert_int_equal(tlv_next(&in, &t), ERR_AGAIN);
    }
    struct span longer = SPAN("\x01\xff\x01\x00x"); /* a short value in the long form */
    struct tlv t;
    assert_int_equal(tlv_next(&longer, &t), ERR_PROTO);
}

static void test_tlv_order(void **state)
{
    (void)state;
    struct tlv t;
    struct tlv_walk w = { .rest = SPAN("\x01\x00\x01\x00\x03\x00\x02\x00") };
    assert_int_equal(tlv_walk_next(&w, &t), ERR_OK);
    assert_false(w.again);
    assert_int_equal(tlv_walk_next(&w, &t), ERR_OK);
    assert_true(w.again);
    assert_int_equal(tlv_walk_next(&w, &t), ERR_OK);
    assert_false(w.again);
    assert_int_equal(tlv_walk_next(&w, &t), ERR_PROTO);
    w = (struct tlv_walk){ .rest = SPAN("\x00\x00") };
    assert_int_equal(tlv_walk_next(&w, &t), ERR_PROTO);
}

/* Tag 1 is one byte, tag 2 a list of bytes; others are not known. */
static enum err field(void *ctx, uint8_t tag, struct rd *val)
{
    unsigned *sum = ctx;
    if (tag > 2)
        return ERR_NOTFOUND;
    *sum += rd_u8(val);
    return *sum > 100 ? ERR_LIMIT : ERR_OK;
}

static void test_a_whole_list(void **state)
{
    const struct {
        struct span list;
        enum err want;
        unsigned sum;
        uint64_t have;
    } cases[] = {
        { SPAN(""), ERR_OK, 0, 0 },
        { SPAN("\x01\x01\x05\x02\x01\x06\x02\x01\x07"), ERR_OK, 18, 6 },
        { SPAN("\x01\x01\x05\x01\x01\x05"), ERR_PROTO, 0, 0 },      /* known, no list, twice */
        { SPAN("\x01\x02\x05\x05"), ERR_PROTO, 0, 0 },              /* not used up */
        { SPAN("\x01\x00"), ERR_PROTO, 0, 0 },                      /* too short */
        { SPAN("\x02\x01\x05\x01\x01\x05"), ERR_PROTO, 0, 0 },      /* order */
        { SPAN("\x01\x01\x05\x07\x01\x05\x07\x00"), ERR_OK, 5, 2 }, /* unknown, twice */
        { SPAN("\x01\x01\x05\x80\x00"), ERR_PROTO, 0, 0 },          /* unknown and critical */
        { SPAN("\x01\x01\x65"), ERR_LIMIT, 0, 0 },                  /* the field's own error */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned sum = 0;
        uint64_t have = 99;
        assert_int_equal(tlv_take_all(cases[i].list, TLV_BIT(2), field, &sum, &have), cases[i].want);
        if (cases[i].want == ERR_OK) {
            assert_int_equal(sum, cases[i].sum);
            assert_int_equal(have, cases[i].have);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tlv_lengths),
        cmocka_unit_test(test_tlv_order),
        cmocka_unit_test(test_a_whole_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
