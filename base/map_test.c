/* base/map_test.c - the hash map beside a plain array: same answers through a long random history. */
#include "base/crc32.h"
#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct item {
    uint8_t key[4];
    bool in;
};
static struct span item_key(const void *v)
{
    return span_of(((const struct item *)v)->key, 4);
}

static void siphash_is_stable_and_keyed(void **state)
{
    uint64_t k1[2] = { 1, 2 }, k2[2] = { 1, 3 };
    (void)state;
    assert_true(map_siphash(k1, SPAN("device")) == map_siphash(k1, SPAN("device")));
    assert_true(map_siphash(k1, SPAN("device")) != map_siphash(k2, SPAN("device")));
    assert_true(map_siphash(k1, SPAN("")) != map_siphash(k1, span_of("\0", 1)));
    for (size_t n = 0; n < 16; n++)
        assert_true(map_siphash(k1, span_of("0123456789abcdef", n)) !=
                    map_siphash(k1, span_of("0123456789abcdef", n + 1)));
}

static void a_long_history_agrees_with_an_array(void **state)
{
    enum { N = 500 };
    static struct item items[N];
    const uint64_t key[2] = { 0x0706050403020100u, 0x0f0e0d0c0b0a0908u };
    struct map m;
    size_t live = 0;
    uint32_t rnd = 1;
    (void)state;
    map_init(&m, key, item_key);
    for (size_t i = 0; i < N; i++)
        items[i] = (struct item){ { (uint8_t)i, (uint8_t)(i >> 8), 7, 7 }, false };
    for (int step = 0; step < 20000; step++) {
        rnd = rnd * 1664525u + 1013904223u;
        struct item *it = &items[(rnd >> 8) % N];
        assert_ptr_equal(map_get(&m, item_key(it)), it->in ? it : NULL);
        if (rnd & 1 << 7) {
            assert_int_equal(map_put(&m, it), it->in ? ERR_EXISTS : ERR_OK);
            live += !it->in;
            it->in = true;
        } else {
            assert_ptr_equal(map_del(&m, item_key(it)), it->in ? it : NULL);
            live -= it->in;
            it->in = false;
        }
        assert_int_equal(m.nr, live);
    }
    size_t at = 0, seen = 0;
    for (struct item *it; (it = map_next(&m, &at)); seen++)
        assert_true(it->in);
    assert_int_equal(seen, live);
    map_fini(&m);
}

static void crc32_knows_its_check_value(void **state)
{
    (void)state;
    assert_int_equal(crc32_update(0, SPAN("123456789")), 0xcbf43926u);
    assert_int_equal(crc32_update(crc32_update(0, SPAN("1234")), SPAN("56789")), 0xcbf43926u);
    assert_int_equal(crc32_update(0, SPAN("")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siphash_is_stable_and_keyed),
        cmocka_unit_test(a_long_history_agrees_with_an_array),
        cmocka_unit_test(crc32_knows_its_check_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
