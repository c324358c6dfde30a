/* hub/domain/throttle_test.c - bursts, rates, patience; policies of their own; the grammar of their rates;
 * what many threads take together. */
#include "hub/domain/throttle.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct throttle *make(struct throttle_config c)
{
    struct throttle *t = NULL;
    struct span bad;
    assert_int_equal(throttle_new(&t, &c, &bad), ERR_OK);
    return t;
}
static unsigned take_all(struct throttle *t, enum throttle_class what, struct span policy, uint64_t now_ms)
{
    unsigned nr = 0;
    while (nr < 10000 && throttle_take(t, what, policy, 1, now_ms, 0).allowed)
        nr++;
    return nr;
}

static void test_nothing_set_is_no_limit(void **state)
{
    (void)state;
    assert_null(make((struct throttle_config){ .burst_s = 60 }));
    assert_true(throttle_take(NULL, THROTTLE_QUERIES, SPAN_NONE, 1, 1, 0).allowed);
    assert_int_equal(throttle_patience_ms(NULL), 0);
}

static void test_a_burst_then_the_rate(void **state)
{
    (void)state;
    struct throttle *t = make((struct throttle_config){ .per_minute[THROTTLE_QUERIES] = 60, .burst_s = 5 });
    assert_int_equal(take_all(t, THROTTLE_QUERIES, SPAN_NONE, 100000), 5);
    struct throttle_verdict v = throttle_take(t, THROTTLE_QUERIES, SPAN_NONE, 1, 100000, 0);
    assert_false(v.allowed);
    assert_int_equal(v.wait_ms, 1000);
    assert_int_equal(throttle_take(t, THROTTLE_QUERIES, SPAN_NONE, 1, 100400, 0).wait_ms, 600);
    assert_int_equal(take_all(t, THROTTLE_QUERIES, SPAN_NONE, 101000), 1);
    assert_int_equal(take_all(t, THROTTLE_QUERIES, SPAN_NONE, 103000), 2);
    assert_int_equal(take_all(t, THROTTLE_QUERIES, SPAN_NONE, 99000),
                     0); /* a clock that steps back gives none */
    assert_int_equal(take_all(t, THROTTLE_QUERIES, SPAN_NONE, 10000000), 5);
    assert_int_equal(take_all(t, THROTTLE_REGISTRY, SPAN_NONE, 100000), 10000); /* the others have no limit */
    assert_int_equal(throttle_get_stats(t, THROTTLE_QUERIES).refused, 7);
    assert_int_equal(throttle_get_stats(t, THROTTLE_QUERIES).delayed, 0);
    throttle_free(t);
}

static void test_a_slow_rate_has_room_for_one(void **state)
{
    (void)state;
    struct throttle *t = make((struct throttle_config){ .per_minute[THROTTLE_JOBS] = 2, .burst_s = 1 });
    assert_int_equal(take_all(t, THROTTLE_JOBS, SPAN_NONE, 1000), 1);
    assert_int_equal(take_all(t, THROTTLE_JOBS, SPAN_NONE, 30999), 0);
    assert_int_equal(take_all(t, THROTTLE_JOBS, SPAN_NONE, 31000), 1);
    throttle_free(t);
}

static void test_patience_waits_then_is_refused(void **state)
{
    (void)state;
    struct throttle *t =
        make((struct throttle_config){ .per_minute[THROTTLE_D2C_SENDS] = 600, .burst_s = 1, .wait_ms = 250 });
    assert_int_equal(throttle_patience_ms(t), 250);
    static const uint64_t want[] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 200 };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct throttle_verdict v = throttle_take(t, THROTTLE_D2C_SENDS, SPAN_NONE, 1, 5000, 250);
        assert_true(v.allowed);
        assert_int_equal(v.wait_ms, want[i]);
    }
    struct throttle_verdict v = throttle_take(t, THROTTLE_D2C_SENDS, SPAN_NONE, 1, 5000, 250);
    assert_false(v.allowed);
    assert_int_equal(v.wait_ms, 300);
    assert_int_equal(throttle_take(t, THROTTLE_D2C_SENDS, SPAN_NONE, 1, 5100, 250).wait_ms, 200);
    assert_int_equal(throttle_get_stats(t, THROTTLE_D2C_SENDS).delayed, 3);
    assert_int_equal(throttle_get_stats(t, THROTTLE_D2C_SENDS).refused, 1);
    throttle_free(t);
}

static void test_a_bulk_costs_its_entries(void **state)
{
    (void)state;
    struct throttle *t = make((struct throttle_config){ .per_minute[THROTTLE_REGISTRY] = 600, .burst_s = 1 });
    assert_true(throttle_take(t, THROTTLE_REGISTRY, SPAN_NONE, 4, 1000, 0).allowed);
    assert_true(throttle_take(t, THROTTLE_REGISTRY, SPAN_NONE, 6, 1000, 0).allowed);
    assert_false(throttle_take(t, THROTTLE_REGISTRY, SPAN_NONE, 0, 1000, 0).allowed); /* nothing costs one */
    assert_false(throttle_take(t, THROTTLE_REGISTRY, SPAN_NONE, 10, 1500, 0).allowed);
    /* More than a burst holds: when nothing is borrowed, and it takes as long as it costs. */
    assert_true(throttle_take(t, THROTTLE_REGISTRY, SPAN_NONE, 100, 3000, 0).allowed);
    assert_int_equal(take_all(t, THROTTLE_REGISTRY, SPAN_NONE, 12000), 0);
    assert_int_equal(take_all(t, THROTTLE_REGISTRY, SPAN_NONE, 12100), 1);
    throttle_free(t);
}

static void test_a_policy_has_its_own_rates_below_the_hubs(void **state)
{
    (void)state;
    struct throttle *t =
        make((struct throttle_config){ .per_minute[THROTTLE_QUERIES] = 600,
                                       .burst_s = 1,
                                       .policies = SPAN(" a.b.queries = 180 ,c.methods=60, ") });
    assert_int_equal(take_all(t, THROTTLE_QUERIES, SPAN("a.b"), 1000), 3);
    assert_int_equal(take_all(t, THROTTLE_QUERIES, SPAN("c"), 1000), 7); /* what is left of the hub's */
    assert_int_equal(take_all(t, THROTTLE_QUERIES, SPAN("a.b"), 1000), 0);
    assert_int_equal(take_all(t, THROTTLE_METHODS, SPAN("a.b"), 1000), 10000);
    assert_int_equal(take_all(t, THROTTLE_METHODS, SPAN("c"), 1000), 1);
    assert_int_equal(take_all(t, THROTTLE_METHODS, SPAN_NONE, 1000), 10000);
    throttle_free(t);
    /* What the hub refuses is not taken off the policy. */
    t = make((struct throttle_config){
        .per_minute[THROTTLE_QUERIES] = 60, .burst_s = 1, .policies = SPAN("p.queries=120") });
    assert_true(throttle_take(t, THROTTLE_QUERIES, SPAN("q"), 1, 1000, 0).allowed);
    for (int i = 0; i < 9; i++)
        assert_false(throttle_take(t, THROTTLE_QUERIES, SPAN("p"), 1, 1000, 0).allowed);
    assert_true(throttle_take(t, THROTTLE_QUERIES, SPAN("p"), 1, 2000, 0).allowed);
    throttle_free(t);
}

static void test_the_grammar_of_policies(void **state)
{
    static const char *const bad[] = {
        "a",    "a.queries",   "a.queries=",       "a.queries=0",  ".queries=1",    "queries=1",
        "a.=1", "a.nothing=1", "a.none=1",         "a.queries=-1", "a.queries=1 2", "a.queries=100000001",
        "=",    "a.b=c=1",     "a.queries=1;b.x=1"
    };
    char many[1024] = "", longest[128];
    struct throttle *t = NULL;
    struct span at;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "x.jobs=1, %s", bad[i]);
        struct throttle_config c = { .burst_s = 1, .policies = span_str(text) };
        assert_int_not_equal(throttle_new(&t, &c, &at), ERR_OK);
        assert_true(span_eq(at, span_str(bad[i])));
    }
    struct throttle_config twice = { .burst_s = 1, .policies = SPAN("a.jobs=1,a.jobs=2") };
    assert_int_equal(throttle_new(&t, &twice, &at), ERR_PROTO);
    for (unsigned i = 0; i < THROTTLE_POLICIES_MAX; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "p%u.jobs=1,", i);
    struct throttle_config c = { .burst_s = 1, .policies = span_str(many) };
    assert_int_equal(throttle_new(&t, &c, &at), ERR_OK);
    throttle_free(t);
    strcat(many, "one.jobs=1");
    c.policies = span_str(many);
    assert_int_equal(throttle_new(&t, &c, &at), ERR_LIMIT);
    for (int n = 64; n <= 65; n++) {
        snprintf(longest, sizeof longest, "%0*d.jobs=1", n, 0);
        c.policies = span_str(longest);
        assert_int_equal(throttle_new(&t, &c, &at), n == 64 ? ERR_OK : ERR_PROTO);
        if (n == 64)
            throttle_free(t);
    }
    /* Cut at every byte: an error or a shorter list, never more. */
    static const char whole[] = "a.jobs=1, b.queries=22";
    for (size_t n = 0; n < sizeof whole; n++) {
        c.policies = span_of(whole, n);
        enum err e = throttle_new(&t, &c, &at);
        bool good = n == 0 || n == 8 || n == 9 || n == 10 || n >= 21;
        assert_int_equal(e == ERR_OK, good);
        if (!e)
            throttle_free(t);
    }
}

static void *taker(void *ctx)
{
    return (void *)(uintptr_t)take_all(ctx, THROTTLE_C2D_SENDS, SPAN("p"), 1000);
}
static void test_threads_share_a_rate(void **state)
{
    pthread_t threads[4];
    uintptr_t sum = 0;
    (void)state;
    struct throttle *t = make((struct throttle_config){
        .per_minute[THROTTLE_C2D_SENDS] = 60000, .burst_s = 2, .policies = SPAN("p.c2d_sends=90000") });
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, taker, t), 0);
    for (int i = 0; i < 4; i++) {
        void *nr;
        pthread_join(threads[i], &nr);
        sum += (uintptr_t)nr;
    }
    assert_int_equal(sum, 2000);
    throttle_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_set_is_no_limit),
        cmocka_unit_test(test_a_burst_then_the_rate),
        cmocka_unit_test(test_a_slow_rate_has_room_for_one),
        cmocka_unit_test(test_patience_waits_then_is_refused),
        cmocka_unit_test(test_a_bulk_costs_its_entries),
        cmocka_unit_test(test_a_policy_has_its_own_rates_below_the_hubs),
        cmocka_unit_test(test_the_grammar_of_policies),
        cmocka_unit_test(test_threads_share_a_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
