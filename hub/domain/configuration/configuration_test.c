/* hub/domain/configuration/configuration_test.c - configurations on the real store: every twin once, page by
 * page, a store that is closed in between, twins that come and go, the limit. The test is the worker. */
#include "tests/fake/hub_fixture.h"

#include "hub/domain/configuration/configuration.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;
static struct configurations *run;

static void wake_in(void *ctx, uint32_t ms)
{
    (void)ctx;
    (void)ms; /* the test ticks */
}
static void run_open(void)
{
    struct configurations_env env = { &fx.mail, wake_in, NULL };
    assert_int_equal(configurations_new(&run, &fx.hub, &env), ERR_OK);
    fx.hub.configurations = run;
    configurations_tick(run);
}
static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    run_open();
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    configurations_free(run);
    fixture_fini(&fx);
    return 0;
}
static void settle(void)
{
    configurations_tick(run);
    for (int i = 0; i < 5000 && !configurations_idle(run); i++)
        fixture_pump(&fx, 10);
    assert_true(configurations_idle(run));
}

struct range {
    int from, to;
};
static enum err make_devices(struct store_tx *tx, void *ctx)
{
    const struct range *r = ctx;
    char id[16];
    enum err e = ERR_OK;
    for (int i = r->from; !e && i < r->to; i++) {
        snprintf(id, sizeof id, "d%d", i);
        e = tx_device_put(
            tx,
            &(struct device_row){ .id = span_str(id), .generation = SPAN("g"), .origin = SPAN("operator") },
            UINT64_MAX, NULL);
    }
    return e;
}
static void devices(int from, int to)
{
    assert_int_equal(fixture_tx(&fx, make_devices, &(struct range){ from, to }), ERR_OK);
}

struct made {
    struct config_new n;
    uint8_t kind;
};
static enum err make(struct store_tx *tx, void *ctx)
{
    struct made *m = ctx;
    struct config_row r;
    struct arena a;
    arena_init(&a, 1u << 20);
    enum err e = config_create(&fx.hub, tx, &a, &m->n, m->kind, &r);
    arena_fini(&a);
    return e;
}
static enum err create(const char *id, const char *condition, const char *content, uint64_t priority)
{
    struct arena a;
    struct config_fault f;
    struct made m = { .n = { .id = span_str(id),
                             .content = span_str(content),
                             .condition = span_str(condition),
                             .priority = priority,
                             .who = SPAN("test") } };
    arena_init(&a, 4u << 20);
    enum err e = config_check(&a, &m.n, &m.kind, &f);
    arena_fini(&a);
    if (!e)
        e = fixture_tx(&fx, make, &m);
    config_poke(&fx.hub);
    return e;
}
static enum err do_drop(struct store_tx *tx, void *ctx)
{
    struct arena a;
    arena_init(&a, 1u << 20);
    enum err e = config_delete(&fx.hub, tx, &a, span_str(ctx), 0, SPAN("test"));
    arena_fini(&a);
    return e;
}

#define ONE        "{\"deviceContent\":{\"properties.desired\":{\"x\":1}}}"
#define OF_MODULES "{\"moduleContent\":{\"properties.desired\":{\"x\":1}}}"
#define EDGE       "{\"modulesContent\":{\"$edgeAgent\":{\"properties.desired\":{\"x\":1}}}}"
#define TWO        "{\"deviceContent\":{\"properties.desired.x\":2}}"

struct look {
    const char *desired;
    uint64_t version; /* of desired */
    int nr;           /* twins that are so, of d0 to d4999 */
};
static enum err look(struct store_tx *tx, void *ctx)
{
    struct look *l = ctx;
    char id[16];
    struct twin_row r;
    l->nr = 0;
    for (int i = 0; i < 5000; i++) {
        snprintf(id, sizeof id, "d%d", i);
        if (tx_twin_get(tx, span_str(id), &r) == ERR_OK)
            l->nr += span_eq(r.desired, span_str(l->desired)) && r.desired_version == l->version;
    }
    return ERR_OK;
}
static int count(const char *desired, uint64_t version)
{
    struct look l = { desired, version, 0 };
    assert_int_equal(fixture_tx(&fx, look, &l), ERR_OK);
    return l.nr;
}

static void test_every_twin_once(void **state)
{
    (void)state;
    devices(0, 2500);
    assert_int_equal(create("one", "*", ONE, 1), ERR_OK);
    settle();
    assert_int_equal(count("{\"x\":1}", 2), 2500);
    devices(2500, 2600);
    settle();
    assert_int_equal(count("{\"x\":1}", 2), 2600);
    assert_int_equal(create("two", "deviceId IN ['d5', 'd7']", TWO, 2), ERR_OK);
    settle();
    assert_int_equal(count("{\"x\":2}", 3), 2);
    assert_int_equal(count("{\"x\":1}", 2), 2598);
    assert_int_equal(fixture_tx(&fx, do_drop, "two"), ERR_OK);
    settle();
    assert_int_equal(count("{\"x\":1}", 4), 2); /* rolled to the next one */
}

/* Closed again and again: nothing is written twice. */
static void test_goes_on(void **state)
{
    (void)state;
    int restarts = 0;
    devices(0, 2500);
    assert_int_equal(create("one", "*", ONE, 1), ERR_OK);
    while (count("{\"x\":1}", 2) < 2500 && restarts < 1000) {
        for (int i = 0; i < 3; i++)
            fixture_pump(&fx, 1);
        store_close(fx.hub.store);
        (void)mailbox_take(&fx.mail);
        configurations_free(run);
        assert_int_equal(store_sqlite_open(&fx.hub.store, fx.dir, 2), ERR_OK);
        run_open();
        restarts++;
    }
    settle();
    assert_true(restarts > 3);
    assert_int_equal(count("{\"x\":1}", 2), 2500);
}

struct numbers {
    uint64_t configs, targeted, applied;
};
static enum err sum(void *ctx, const struct config_row *r)
{
    struct numbers *n = ctx;
    n->configs++;
    n->targeted = r->seq;
    return ERR_OK;
}
static enum err numbers(struct store_tx *tx, void *ctx)
{
    struct numbers *n = ctx;
    enum err e = tx_config_list(tx, true, sum, n);
    return e || !n->configs ? e : tx_config_target_count(tx, n->targeted, &n->targeted, &n->applied);
}
static enum err drop_devices(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    enum err e = tx_device_delete(tx, SPAN("d1"));
    return e ? e : tx_device_delete(tx, SPAN("d2"));
}

static void test_numbers_and_the_end(void **state)
{
    (void)state;
    struct numbers n = { 0 };
    devices(0, 10);
    assert_int_equal(create("one", "*", ONE, 1), ERR_OK);
    settle();
    assert_int_equal(fixture_tx(&fx, drop_devices, NULL), ERR_OK);
    assert_int_equal(fixture_tx(&fx, numbers, &n), ERR_OK);
    assert_int_equal(n.configs, 1);
    assert_int_equal(n.targeted, 8);
    assert_int_equal(n.applied, 8);
    assert_int_equal(fixture_tx(&fx, do_drop, "one"), ERR_OK);
    settle();
    settle();
    n = (struct numbers){ 0 };
    assert_int_equal(fixture_tx(&fx, numbers, &n), ERR_OK);
    assert_int_equal(n.configs, 0); /* cleared away */
    assert_int_equal(count("{\"x\":1}", 2), 8);
}

static void test_limit_and_what_is_refused(void **state)
{
    (void)state;
    char id[16];
    for (unsigned i = 0; i < CONFIGURATIONS_OF_KIND_MAX; i++) {
        snprintf(id, sizeof id, "c%u", i);
        assert_int_equal(create(id, "", ONE, i), ERR_OK);
    }
    assert_int_equal(create("one-more", "", ONE, 0), ERR_LIMIT);
    assert_int_equal(create("of-modules", "FROM devices.modules WHERE tags.a = 1", OF_MODULES, 0), ERR_LIMIT);
    for (unsigned i = 0; i < CONFIGURATIONS_OF_KIND_MAX; i++) { /* deployments count by themselves */
        snprintf(id, sizeof id, "e%u", i);
        assert_int_equal(create(id, "", EDGE, i), ERR_OK);
    }
    assert_int_equal(create("one-more", "", EDGE, 0), ERR_LIMIT);
    assert_int_equal(create("c1", "", ONE, 0), ERR_EXISTS);
    assert_int_equal(create("Bad", "", ONE, 0), ERR_PROTO);
    assert_int_equal(create("bad", "status = 'enabled'", ONE, 0), ERR_PROTO);
    for (size_t n = 0; n < sizeof ONE - 1; n++) {
        char cut[sizeof ONE];
        memcpy(cut, ONE, n);
        cut[n] = 0;
        assert_int_equal(create("cut", "", cut, 0), ERR_PROTO);
    }
    settle();
}

/* ---- metrics --------------------------------------------------------------------------------------------
 */

struct metrics {
    const char *id, *queries, *content, *condition;
    char results[512], system[512];
};
static enum err make_metrics(struct store_tx *tx, void *ctx)
{
    struct metrics *m = ctx;
    struct config_row r;
    struct config_fault f;
    struct arena a;
    uint8_t kind;
    struct config_new n = { .id = span_str(m->id),
                            .content = span_str(m->content),
                            .condition = span_str(m->condition),
                            .metrics = span_str(m->queries),
                            .who = SPAN("test") };
    arena_init(&a, 4u << 20);
    enum err e = config_check(&a, &n, &kind, &f);
    if (!e)
        e = config_create(&fx.hub, tx, &a, &n, kind, &r);
    if (e == ERR_EXISTS)
        e = config_update(&fx.hub, tx, &a, &n, 0, &r);
    arena_fini(&a);
    return e;
}
static enum err read_results(struct store_tx *tx, void *ctx)
{
    struct metrics *m = ctx;
    struct config_row r;
    enum err e = tx_config_get(tx, span_str(m->id), &r);
    if (!e) {
        snprintf(m->results, sizeof m->results, "%.*s", (int)r.results.n, (const char *)r.results.p);
        snprintf(m->system, sizeof m->system, "%.*s", (int)r.system_results.n,
                 (const char *)r.system_results.p);
    }
    return e;
}
static void write_metrics(struct metrics *m)
{
    assert_int_equal(fixture_tx(&fx, make_metrics, m), ERR_OK);
    config_poke(&fx.hub);
}
#define REST_IS_OVER 250000 /* and the time after which everything is counted again is not */
#define MUCH_LATER   400000
static void expect_results(struct metrics *m, int64_t after_ms, const char *results)
{
    settle(); /* the clock jumps between rounds only */
    fixture_clock_offset_ms += after_ms;
    settle();
    assert_int_equal(fixture_tx(&fx, read_results, m), ERR_OK);
    assert_string_equal(m->results, results);
}
static enum err tag_one(struct store_tx *tx, void *ctx)
{
    static const struct twin_if any = { 0 };
    struct arena a;
    struct twin t;
    struct twin_fault tf = { .wrong = TWIN_FINE };
    struct twin_patch p = { .service = true };
    arena_init(&a, 4u << 20);
    enum err e = twin_service_patch(&a, SPAN("{\"tags\":{\"site\":\"x\"}}"), false, &p, &tf);
    if (!e)
        e = twin_update(&fx.hub, tx, &a, span_str(ctx), &p, &any, &t, &tf);
    arena_fini(&a);
    return e;
}

static void test_metrics_are_counted_again_when_twins_change(void **state)
{
    (void)state;
    struct metrics m = { .id = "m",
                         .content = ONE,
                         .condition = "",
                         .queries = "{\"all\":\"SELECT deviceId FROM devices\","
                                    "\"tagged\":\"SELECT deviceId FROM devices WHERE tags.site = 'x'\","
                                    "\"top\":\"SELECT TOP 3 deviceId FROM devices\","
                                    "\"sites\":\"SELECT tags.site, COUNT() FROM devices GROUP BY tags.site\","
                                    "\"one\":\"SELECT COUNT() AS n FROM devices\"}" };
    devices(0, 2500);
    write_metrics(&m);
    expect_results(&m, REST_IS_OVER, "{\"all\":2500,\"tagged\":0,\"top\":3,\"sites\":1,\"one\":1}");
    assert_int_equal(fixture_tx(&fx, tag_one, "d7"), ERR_OK);
    expect_results(&m, REST_IS_OVER, "{\"all\":2500,\"tagged\":1,\"top\":3,\"sites\":2,\"one\":1}");
    devices(2500, 2501);
    expect_results(&m, REST_IS_OVER, "{\"all\":2501,\"tagged\":1,\"top\":3,\"sites\":2,\"one\":1}");
    /* Other metrics: what was counted of the old ones is gone at once. */
    m.queries = "{\"jobs\":\"SELECT * FROM devices.jobs\"}";
    assert_int_equal(fixture_tx(&fx, make_metrics, &m), ERR_OK);
    assert_int_equal(fixture_tx(&fx, read_results, &m), ERR_OK);
    assert_string_equal(m.results, "");
    config_poke(&fx.hub);
    expect_results(&m, REST_IS_OVER, "{\"jobs\":0}");
    /* What changes beside twins is seen after a while. */
    m.queries = "{\"all\":\"SELECT deviceId FROM devices\"}";
    write_metrics(&m);
    expect_results(&m, REST_IS_OVER, "{\"all\":2501}");
    assert_int_equal(fixture_tx(&fx, drop_devices, NULL), ERR_OK);
    expect_results(&m, REST_IS_OVER, "{\"all\":2501}");
    expect_results(&m, MUCH_LATER, "{\"all\":2499}");
}

/* Half a minute goes by whenever somebody looks at the clock. */
static uint64_t hurried_ms(void)
{
    fixture_clock_offset_ms += 30000;
    return fixture_wall_ms();
}
static void test_a_metric_that_takes_too_long_has_no_result(void **state)
{
    (void)state;
    struct metrics m = { .id = "m",
                         .content = ONE,
                         .condition = "",
                         .queries = "{\"slow\":\"SELECT deviceId FROM devices\","
                                    "\"quick\":\"SELECT deviceId FROM devices WHERE deviceId = 'd9'\"}" };
    devices(0, 2500);
    write_metrics(&m);
    fx.hub.wall_ms = hurried_ms;
    expect_results(&m, REST_IS_OVER, "{\"quick\":1}");
    fx.hub.wall_ms = fixture_wall_ms;
    expect_results(&m, MUCH_LATER, "{\"slow\":2500,\"quick\":1}");
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_every_twin_once),
                                        T(test_goes_on),
                                        T(test_numbers_and_the_end),
                                        T(test_limit_and_what_is_refused),
                                        T(test_metrics_are_counted_again_when_twins_change),
                                        T(test_a_metric_that_takes_too_long_has_no_result) };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
