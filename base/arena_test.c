/* base/arena_test.c - alignment, the cap, and the flag that stays. */
#include "base/arena.h"

#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_pieces_are_zeroed_and_aligned(void **state)
{
    struct arena a;
    (void)state;
    arena_init(&a, 1u << 20);
    for (size_t n = 0; n < 300; n++) {
        uint8_t *p = arena_alloc(&a, n);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % alignof(max_align_t), 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, n);
    }
    assert_int_equal(arena_err(&a), ERR_OK);
    arena_fini(&a);
}

static void test_copies_do_not_move(void **state)
{
    struct arena a;
    struct span s[200];
    (void)state;
    arena_init(&a, 1u << 20);
    for (unsigned i = 0; i < 200; i++) {
        uint8_t text[64];
        memset(text, (int)i, sizeof text);
        s[i] = arena_copy(&a, span_of(text, sizeof text));
    }
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(s[i].n, 64);
        assert_int_equal(s[i].p[0], i);
        assert_int_equal(s[i].p[63], i);
        assert_int_equal(s[i].p[64], 0);
    }
    arena_fini(&a);
}

static void test_the_cap_is_reached_and_stays(void **state)
{
    struct arena a;
    (void)state;
    arena_init(&a, 10000);
    assert_non_null(arena_alloc(&a, 9000));
    assert_null(arena_alloc(&a, 2000));
    assert_int_equal(arena_err(&a), ERR_NOMEM);
    assert_null(arena_alloc(&a, 1)); /* the flag stays: a half-copied row is never used */
    assert_int_equal(arena_copy(&a, SPAN("x")).n, 0);
    arena_fini(&a);
}

/* What is asked for after a reset is zeroed like the first, whatever the sizes before; the flag is down
 * again.
 */
static void test_a_reset_arena_is_as_new(void **state)
{
    static const size_t sizes[] = { 1, 3900, 200, 5000, 4000, 64, 9000, 16 };
    struct arena a;
    (void)state;
    arena_init(&a, 20000);
    for (size_t turn = 0; turn < 8; turn++) {
        for (size_t i = 0; i <= turn % 4; i++) {
            size_t n = sizes[(turn + i) % 8];
            uint8_t *p = arena_alloc(&a, n);
            assert_non_null(p);
            for (size_t at = 0; at < n; at++)
                assert_int_equal(p[at], 0);
            memset(p, 0xff, n);
        }
        assert_null(arena_alloc(&a, 20000));
        arena_reset(&a, 20000);
        assert_int_equal(arena_err(&a), ERR_OK);
    }
    arena_reset(&a, 100);
    assert_null(arena_alloc(&a, 101));
    arena_fini(&a);
    arena_reset(&a, 100); /* one of zeros */
    assert_non_null(arena_alloc(&a, 100));
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_are_zeroed_and_aligned),
        cmocka_unit_test(test_copies_do_not_move),
        cmocka_unit_test(test_the_cap_is_reached_and_stays),
        cmocka_unit_test(test_a_reset_arena_is_as_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
