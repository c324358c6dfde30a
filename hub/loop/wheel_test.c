/* hub/loop/wheel_test.c - the wheel against a plain list of times: nothing early, nothing late, nothing lost.
 */
#include "hub/loop/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { TIMERS = 500 };
static struct wheel wheel;
static struct timer timers[TIMERS];

static uint64_t rng_state = 88172645463325252u;
static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static void due_are_exact_over_all_levels(void **state)
{
    (void)state;
    uint64_t now = 1234567;
    unsigned armed = 0, fired = 0;
    wheel_init(&wheel, now);
    for (unsigned i = 0; i < TIMERS; i++) {
        timers[i].at_ms = now + (rng() >> (rng() % 44 + 20)); /* from one to 2^44 ms ahead */
        wheel_put(&wheel, &timers[i]);
        armed++;
    }
    while (armed) {
        uint64_t next = wheel_next_ms(&wheel), lowest = UINT64_MAX;
        for (unsigned i = 0; i < TIMERS; i++)
            if (timer_is_armed(&timers[i]) && timers[i].at_ms < lowest)
                lowest = timers[i].at_ms;
        assert_true(next <= (lowest > wheel.now_ms ? lowest : wheel.now_ms));
        now = rng() % 4 ? next : next + rng() % 5000; /* on time, or late as after a long turn */
        wheel_advance(&wheel, now);
        struct list *n;
        while ((n = list_pop(&wheel.due))) {
            struct timer *t = CONTAINER_OF(n, struct timer, node);
            assert_true(t->at_ms <= now);
            armed--;
            if (fired++ < 4 * TIMERS) { /* again, from where we are now */
                t->at_ms = now + rng() % 100000;
                wheel_put(&wheel, t);
                armed++;
            }
        }
        for (unsigned i = 0; i < TIMERS; i++)
            assert_false(timer_is_armed(&timers[i]) && timers[i].at_ms < now &&
                         now - timers[i].at_ms > 100000);
    }
    assert_true(wheel_next_ms(&wheel) == UINT64_MAX);
}

static void nothing_is_left_behind_now(void **state)
{
    (void)state;
    wheel_init(&wheel, 0);
    for (uint64_t now = 0; now < 20000; now += 1 + rng() % 130) {
        wheel_advance(&wheel, now);
        while (list_pop(&wheel.due))
            ;
        struct timer *t = &timers[rng() % TIMERS];
        timer_disarm(t);
        t->at_ms = now + rng() % 9000;
        wheel_put(&wheel, t);
        for (unsigned i = 0; i < TIMERS; i++)
            assert_true(!timer_is_armed(&timers[i]) || timers[i].at_ms >= now);
    }
    for (unsigned i = 0; i < TIMERS; i++)
        timer_disarm(&timers[i]);
    assert_true(wheel_next_ms(&wheel) == UINT64_MAX);
}

static void a_past_time_is_due_at_once(void **state)
{
    (void)state;
    struct timer t = { .at_ms = 5 };
    wheel_init(&wheel, 1000);
    timer_disarm(&t); /* all zero: harmless */
    wheel_put(&wheel, &t);
    assert_true(wheel_next_ms(&wheel) == 1000);
    assert_ptr_equal(list_pop(&wheel.due), &t.node);
    t.at_ms = UINT64_MAX - 1;
    wheel_put(&wheel, &t);
    assert_true(wheel_next_ms(&wheel) > 1000);
    wheel_advance(&wheel, UINT64_MAX - 1);
    assert_ptr_equal(list_pop(&wheel.due), &t.node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(due_are_exact_over_all_levels),
        cmocka_unit_test(nothing_is_left_behind_now),
        cmocka_unit_test(a_past_time_is_due_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
