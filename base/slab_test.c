/* base/slab_test.c - packed memory: pieces are zeroed, apart from each other and stay as they were written
 * through a long random history; blocks go back when they are empty. */
#include "base/slab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { NR = 6000, LONGEST = SLAB_MAX + 40 };

static void check(const uint8_t *p, size_t n, uint8_t want)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(p[i], want);
}

static void pieces_keep_what_is_written_to_them(void **state)
{
    static struct {
        uint8_t *p;
        size_t n;
        uint8_t mark;
    } out[NR];
    struct slab s;
    uint32_t rnd = 7;
    (void)state;
    slab_init(&s);
    for (int turn = 0; turn < 60000; turn++) {
        rnd = rnd * 1664525u + 1013904223u;
        size_t i = (rnd >> 8) % NR;
        if (out[i].p) {
            check(out[i].p, out[i].n, out[i].mark);
            slab_put(&s, out[i].p, out[i].n);
            out[i].p = NULL;
            continue;
        }
        out[i].n = (rnd >> 4) % LONGEST;
        out[i].mark = (uint8_t)(1 + turn % 255);
        out[i].p = slab_get(&s, out[i].n);
        assert_non_null(out[i].p);
        assert_int_equal((uintptr_t)out[i].p % SLAB_STEP, 0);
        check(out[i].p, out[i].n, 0);
        memset(out[i].p, out[i].mark, out[i].n);
    }
    for (size_t i = 0; i < NR; i++)
        if (out[i].p) {
            check(out[i].p, out[i].n, out[i].mark);
            slab_put(&s, out[i].p, out[i].n);
        }
    slab_put(&s, NULL, 8);
    slab_fini(&s);
}

static size_t blocks(const struct slab *s, size_t n)
{
    size_t nr = 0;
    const struct list *room = &s->room[(n - 1) / SLAB_STEP];
    for (const struct list *l = room->next; l != room; l = l->next)
        nr++;
    for (const struct list *l = s->full.next; l != &s->full; l = l->next)
        nr++;
    return nr;
}

static void pieces_are_packed_and_blocks_go_back(void **state)
{
    static void *p[4000];
    struct slab s;
    (void)state;
    slab_init(&s);
    for (size_t i = 0; i < 4000; i++) /* 64 bytes each: 250 KB */
        assert_non_null(p[i] = slab_get(&s, 64));
    assert_int_equal(blocks(&s, 64), 4);
    for (size_t i = 0; i < 4000; i += 2)
        slab_put(&s, p[i], 64);
    assert_int_equal(blocks(&s, 64), 4);
    for (size_t i = 0; i < 4000; i += 2) /* the free ones are used first */
        assert_non_null(p[i] = slab_get(&s, 64));
    assert_int_equal(blocks(&s, 64), 4);
    for (size_t i = 0; i < 4000; i++)
        slab_put(&s, p[i], 64);
    assert_int_equal(blocks(&s, 64), 1);
    slab_fini(&s);
}

static void what_is_still_out_goes_with_it(void **state)
{
    struct slab s;
    (void)state;
    slab_init(&s);
    for (size_t i = 0; i < 3000; i++)
        assert_non_null(slab_get(&s, 40));
    slab_fini(&s); /* a leak is found by the sanitizer */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_keep_what_is_written_to_them),
        cmocka_unit_test(pieces_are_packed_and_blocks_go_back),
        cmocka_unit_test(what_is_still_out_goes_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
