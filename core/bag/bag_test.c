/* core/bag/bag_test.c - property bags: the vectors of the hub's clients, null and empty, malformed escapes.
 */
#include "core/bag/bag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants the three above */
#include <cmocka.h>

static void item_is(struct span *bag, struct wr *mem, const char *name, const char *value)
{
    struct bag_item it;
    assert_int_equal(bag_next(bag, mem, &it), ERR_OK);
    assert_true(span_eq(it.name, span_str(name)));
    assert_int_equal(it.has_value, value != NULL);
    if (value)
        assert_true(span_eq(it.value, span_str(value)));
}

static void ended(struct span *bag, struct wr *mem)
{
    struct bag_item it;
    assert_int_equal(bag_next(bag, mem, &it), ERR_AGAIN);
}

static void clients_bags_are_read(void **state)
{
    (void)state;
    uint8_t room[256];
    struct wr mem = { room, sizeof room, 0 };
    struct span b = SPAN("temp%20alert=a%2Fb%20c&a+b=1+1&flag&empty=&%24.ct=application%2Fjson&$.ce=utf-8");
    item_is(&b, &mem, "temp alert", "a/b c");
    item_is(&b, &mem, "a+b", "1+1");
    item_is(&b, &mem, "flag", NULL);
    item_is(&b, &mem, "empty", "");
    item_is(&b, &mem, "$.ct", "application/json");
    item_is(&b, &mem, "$.ce", "utf-8");
    ended(&b, &mem);
    b = SPAN("%D0%BA%D0%BB%D1%8E%D1%87=%C3%BC");
    item_is(&b, &mem, "\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87", "\xc3\xbc");
    ended(&b, &mem);
    b = SPAN("&&a=b=c&&=v&/raw/=/%2&x=%zz&y=%4&");
    item_is(&b, &mem, "a", "b=c");
    item_is(&b, &mem, "", "v");
    item_is(&b, &mem, "/raw/", "/%2");
    item_is(&b, &mem, "x", "%zz");
    item_is(&b, &mem, "y", "%4");
    ended(&b, &mem);
    b = SPAN_NONE;
    ended(&b, &mem);
}

static void items_are_written_as_the_sdks_write_them(void **state)
{
    (void)state;
    uint8_t room[256];
    struct wr w = { room, sizeof room, 0 };
    wr_str(&w, "prefix/");
    size_t start = w.len;
    bag_put(&w, start, SPAN("$.ct"), SPAN("application/json"));
    bag_put(&w, start, SPAN("$.ce"), SPAN("utf-8"));
    bag_put_null(&w, start, SPAN("flag"));
    bag_put(&w, start, SPAN("temp alert"), SPAN("a/b c"));
    assert_true(span_eq(wr_span(&w), SPAN("prefix/%24.ct=application%2Fjson&%24.ce=utf-8&flag&"
                                          "temp%20alert=a%2Fb%20c")));
}

static void any_bytes_go_round(void **state)
{
    (void)state;
    uint8_t all[256], wire[2048], room[600];
    for (unsigned i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    struct wr w = { wire, sizeof wire, 0 };
    bag_put(&w, 0, span_of(all, 256), SPAN("v"));
    bag_put(&w, 0, SPAN("n"), span_of(all, 256));
    struct span b = wr_span(&w);
    struct wr mem = { room, sizeof room, 0 };
    struct bag_item it;
    assert_int_equal(bag_next(&b, &mem, &it), ERR_OK);
    assert_true(span_eq(it.name, span_of(all, 256)));
    assert_int_equal(bag_next(&b, &mem, &it), ERR_OK);
    assert_true(span_eq(it.value, span_of(all, 256)));
    ended(&b, &mem);
}

static void without_room_nothing_is_taken(void **state)
{
    (void)state;
    uint8_t room[8] = { 0 };
    for (size_t cap = 0; cap <= 4; cap++) {
        struct wr mem = { room, cap, 0 };
        struct span b = SPAN("%61%62=%63%64"), before = b;
        struct bag_item it;
        enum err e = bag_next(&b, &mem, &it);
        assert_int_equal(e, cap < 4 ? ERR_LIMIT : ERR_OK);
        if (e) {
            assert_int_equal(mem.len, 0);
            assert_true(b.p == before.p && b.n == before.n);
        }
    }
}

static void every_cut_of_a_bag_is_a_bag(void **state)
{
    (void)state;
    const struct span whole = SPAN("a%20=b%2f&c&=&%zz%=%f&%24.mid=1");
    for (size_t n = 0; n <= whole.n; n++) {
        uint8_t *exact = malloc(n + 1), *room = malloc(n + 1);
        memcpy(exact, whole.p, n);
        struct wr mem = { room, n, 0 }; /* decoding never needs more than the text */
        struct span b = span_of(exact, n);
        struct bag_item it;
        enum err e;
        while (!(e = bag_next(&b, &mem, &it)))
            ;
        assert_int_equal(e, ERR_AGAIN);
        free(exact);
        free(room);
    }
}

static void names_are_found_both_ways(void **state)
{
    (void)state;
    uint8_t room[16];
    struct wr mem = { room, sizeof room, 0 };
    struct bag_item it;
    struct span b = SPAN("long%20name%20that%20is%20skipped=1&%24.mid=m%201&x");
    assert_int_equal(bag_find(b, SPAN("x"), &mem, &it), ERR_LIMIT); /* 24 bytes do not fit 16 */
    b = SPAN("some%20name=1&%24.mid=m%201&x");
    assert_int_equal(bag_find(b, SPAN("$.mid"), &mem, &it), ERR_OK);
    assert_true(span_eq(it.value, SPAN("m 1")));
    mem.len = 0;
    assert_int_equal(bag_find(b, SPAN("y"), &mem, &it), ERR_NOTFOUND);
    for (int i = 0; i < BAG_SYSTEM_NAMES; i++) {
        assert_int_equal(bag_system_of_wire(span_str(bag_system_names[i].wire)), i);
        assert_int_equal(bag_system_of_stored(span_str(bag_system_names[i].stored)), i);
    }
    assert_int_equal(bag_system_of_wire(SPAN("$.MID")), -1); /* case counts */
    assert_int_equal(bag_system_of_stored(SPAN("color")), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_bags_are_read),
        cmocka_unit_test(items_are_written_as_the_sdks_write_them),
        cmocka_unit_test(any_bytes_go_round),
        cmocka_unit_test(without_room_nothing_is_taken),
        cmocka_unit_test(every_cut_of_a_bag_is_a_bag),
        cmocka_unit_test(names_are_found_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
