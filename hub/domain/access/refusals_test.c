/* hub/domain/access/refusals_test.c - who fails too often waits, alone; the audit log says so in few lines.
 */
#include "tests/fake/hub_fixture.h"

#include "hub/domain/access/refusals.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct fixture fx;
static struct refusals *refusals;
#define HOME SPAN("192.0.2.1")

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    fx.hub.settings.failures_per_minute = 5;
    fx.hub.settings.failures_per_source = 30;
    assert_int_equal(refusals_new(&refusals, &fx.hub), ERR_OK);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    fixture_fini(&fx);
    refusals_free(refusals);
    return 0;
}

static void who_fails_too_often_waits(void **state)
{
    uint64_t now = 1000;
    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(refusals_wait_s(refusals, HOME, SPAN("d1"), now), 0);
        refusals_note(refusals, "http", HOME, SPAN("d1"), "signature", now);
    }
    assert_true(refusals_are_recent(refusals, now));
    assert_int_equal(refusals_wait_s(refusals, HOME, SPAN("d1"), now), 12); /* five a minute */
    assert_int_equal(refusals_wait_s(refusals, HOME, SPAN("d2"), now), 0);
    assert_int_equal(refusals_wait_s(refusals, SPAN("192.0.2.2"), SPAN("d1"), now),
                     0); /* not locked out from elsewhere */
    assert_int_equal(refusals_wait_s(refusals, HOME, SPAN("d1"), now + 11999), 1);
    assert_int_equal(refusals_wait_s(refusals, HOME, SPAN("d1"), now + 12000), 0);
    assert_int_equal(fx.metrics.login_failures_total, 5);
    assert_int_equal(fx.metrics.login_limited_total, 2);
    assert_false(refusals_are_recent(refusals, now + 60000));
}

static void many_names_of_one_source_are_one_source(void **state)
{
    char name[16];
    (void)state;
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(refusals_wait_s(refusals, HOME, span_str(name), 5), 0);
        refusals_note(refusals, "mqtt", HOME, span_str(name), "unknown", 5);
    }
    assert_int_equal(refusals_wait_s(refusals, HOME, SPAN("new"), 5), 2);
    assert_int_equal(refusals_wait_s(refusals, HOME, SPAN_NONE, 5), 2);
    assert_int_equal(refusals_wait_s(refusals, SPAN("192.0.2.9"), SPAN("new"), 5), 0);
}

static void behind_a_proxy_only_names_are_counted(void **state)
{
    static const char *const sources[] = { "127.0.0.1", "0000:0000:0000:0000::/64" };
    char name[16];
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        struct span source = span_str(sources[s]);
        for (int i = 0; i < 100; i++) {
            snprintf(name, sizeof name, "n%d", i % 10);
            refusals_note(refusals, "http", source, span_str(name), "signature", 5);
        }
        assert_int_equal(refusals_wait_s(refusals, source, SPAN("good"), 5), 0);
        assert_int_not_equal(refusals_wait_s(refusals, source, SPAN("n1"), 5), 0);
        fx.hub.settings.failures_count_loopback = true;
        for (int i = 0; i < 30; i++)
            refusals_note(refusals, "http", source, SPAN_NONE, "no-token", 5);
        assert_int_not_equal(refusals_wait_s(refusals, source, SPAN("good"), 5), 0);
        fx.hub.settings.failures_count_loopback = false;
    }
}

struct seen {
    size_t refused, limited;
    bool forged;
};
static enum err count(void *ctx, const struct audit_row *r)
{
    struct seen *s = ctx;
    s->refused += span_eq(r->what, SPAN("login.refused"));
    s->limited += span_eq(r->what, SPAN("login.limited"));
    for (size_t i = 0; i < r->subject.n; i++)
        s->forged |= r->subject.p[i] < 0x20 || r->subject.p[i] > 0x7e;
    assert_true(span_starts(r->who, SPAN("192.0.2.")));
    return ERR_OK;
}
static enum err count_all(struct store_tx *tx, void *ctx)
{
    return tx_audit_list(tx, 0, 1000, count, ctx);
}

static void a_flood_makes_few_lines(void **state)
{
    struct seen s = { 0, 0, false };
    char source[24];
    (void)state;
    for (int i = 0; i < 500; i++)
        refusals_note(refusals, "http", HOME, SPAN("d1\n\xff"), "signature", 5);
    assert_int_equal(fixture_tx(&fx, count_all, &s), ERR_OK);
    assert_int_equal(s.refused, 6);
    assert_int_equal(s.limited, 2); /* under that name, and in all */
    assert_false(s.forged);
    for (int i = 0; i < 500; i++) {
        snprintf(source, sizeof source, "192.0.2.%d", i);
        refusals_note(refusals, "http", span_str(source), SPAN("d1"), "signature", 5);
    }
    s = (struct seen){ 0, 0, false };
    assert_int_equal(fixture_tx(&fx, count_all, &s), ERR_OK);
    assert_int_equal(s.refused + s.limited, 60);
}

static void zero_is_no_limit(void **state)
{
    struct refusals *r;
    (void)state;
    fx.hub.settings.failures_per_minute = fx.hub.settings.failures_per_source = 0;
    assert_int_equal(refusals_new(&r, &fx.hub), ERR_OK);
    for (int i = 0; i < 1000; i++)
        refusals_note(r, "http", HOME, SPAN("d1"), "signature", 5);
    assert_int_equal(refusals_wait_s(r, HOME, SPAN("d1"), 5), 0);
    refusals_free(r);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(who_fails_too_often_waits),
        T(many_names_of_one_source_are_one_source),
        T(behind_a_proxy_only_names_are_counted),
        T(a_flood_makes_few_lines),
        T(zero_is_no_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
