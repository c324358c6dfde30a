/* hub/domain/message/c2d_lock_test.c - fetching under locks on the real store: one holder at a time, the
 * three verdicts, the end of a lock, sessions beside it, the cap. */
#include "tests/fake/hub_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    fixture_fini(&fx);
    return 0;
}

static void send_text(const char *id, uint8_t ack)
{
    struct c2d_message m = {
        .device = SPAN("d1"), .message_id = span_str(id), .body = span_str(id), .ack = ack
    };
    struct c2d_send s = { .hub = &fx.hub, .message = &m };
    fixture_prepare(&fx, &s.store.op);
    c2d_send_start(&s);
    assert_int_equal(fixture_wait(&fx, &s.store.op), ERR_OK);
}

static struct c2d_fetch got;
static enum err fetch_err(void)
{
    memset(&got, 0, sizeof got);
    got.hub = &fx.hub;
    got.device = SPAN("d1");
    fixture_prepare(&fx, &got.store.op);
    c2d_fetch_start(&got);
    enum err e = fixture_wait(&fx, &got.store.op);
    static char body[64];
    if (got.found) {
        snprintf(body, sizeof body, "%.*s", (int)got.body.n, (const char *)got.body.p);
        c2d_fetch_fini(&got);
        got.body = span_str(body);
    }
    return e;
}
static bool fetch(const char *body) /* NULL: nothing is free */
{
    assert_int_equal(fetch_err(), ERR_OK);
    return body ? got.found && span_eq(got.body, span_str(body)) : !got.found;
}

static enum err verdict(const char *token, enum c2d_verdict what)
{
    struct c2d_verdict_op v = {
        .hub = &fx.hub, .device = SPAN("d1"), .token = span_str(token), .verdict = what
    };
    fixture_prepare(&fx, &v.store.op);
    c2d_verdict_start(&v);
    return fixture_wait(&fx, &v.store.op);
}

static char outcome[128];
static enum err outcome_each(void *ctx, const struct feedback_row *r)
{
    (void)ctx;
    size_t n = strlen(outcome);
    snprintf(outcome + n, sizeof outcome - n, "%.*s:%.*s ", (int)r->message_id.n,
             (const char *)r->message_id.p, (int)r->outcome.n, (const char *)r->outcome.p);
    return ERR_OK;
}
static enum err outcome_run(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return tx_feedback_list(tx, 0, 32, outcome_each, NULL);
}
static const char *outcomes(void)
{
    outcome[0] = 0;
    assert_int_equal(fixture_tx(&fx, outcome_run, NULL), ERR_OK);
    return outcome;
}

static void test_one_after_the_other(void **state)
{
    char first[C2D_LOCK_TEXT], second[C2D_LOCK_TEXT];
    (void)state;
    assert_true(fetch(NULL));
    send_text("a", C2D_ACK_FULL);
    send_text("b", C2D_ACK_FULL);
    assert_true(fetch("a"));
    assert_int_equal(got.deliveries, 0);
    memcpy(first, got.token, sizeof first);
    assert_true(fetch("b"));
    memcpy(second, got.token, sizeof second);
    assert_string_not_equal(first, second);
    assert_true(fetch(NULL));
    assert_true(c2d_is_locked(&fx.hub, SPAN("d1")));
    assert_int_equal(verdict(first, C2D_COMPLETE), ERR_OK);
    assert_int_equal(verdict(first, C2D_COMPLETE), ERR_NOTFOUND);
    assert_int_equal(verdict(second, C2D_REJECT), ERR_OK);
    assert_int_equal(verdict("no such lock", C2D_ABANDON), ERR_NOTFOUND);
    assert_string_equal(outcomes(), "a:Success b:Rejected ");
    assert_false(c2d_is_locked(&fx.hub, SPAN("d1")));
    assert_true(fetch(NULL));
}

static void test_abandon_counts_and_the_last_gives_up(void **state)
{
    (void)state;
    fx.hub.settings.c2d_deliveries_max = 3;
    send_text("a", C2D_ACK_NEGATIVE);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(fetch("a"));
        assert_int_equal(got.deliveries, i);
        assert_int_equal(verdict(got.token, C2D_ABANDON), ERR_OK);
    }
    assert_true(fetch(NULL));
    assert_string_equal(outcomes(), "a:DeliveryCountExceeded ");
}

static void test_the_end_of_a_lock_counts_nothing(void **state)
{
    char old[C2D_LOCK_TEXT];
    (void)state;
    send_text("a", C2D_ACK_FULL);
    assert_true(fetch("a"));
    memcpy(old, got.token, sizeof old);
    fixture_clock_offset_ms = 59000;
    assert_true(fetch(NULL));
    fixture_clock_offset_ms = 61000;
    assert_false(c2d_is_locked(&fx.hub, SPAN("d1")));
    assert_true(fetch("a"));
    assert_int_equal(got.deliveries, 0);
    assert_int_equal(verdict(old, C2D_COMPLETE), ERR_NOTFOUND);
    c2d_locks_sweep(&fx.hub); /* drops the old one, not the new one */
    assert_true(fetch(NULL));
    assert_int_equal(verdict(got.found ? "" : old, C2D_COMPLETE), ERR_NOTFOUND);
    fixture_clock_offset_ms = 130000;
    c2d_locks_sweep(&fx.hub);
    assert_true(fetch("a"));
}

static void test_an_expired_message_is_not_handed_out(void **state)
{
    (void)state;
    send_text("old", C2D_ACK_NEGATIVE);
    fixture_clock_offset_ms = 3601000;
    send_text("new", C2D_ACK_NONE);
    assert_true(fetch("new"));
    assert_string_equal(outcomes(), "old:Expired ");
}

static void test_a_session_has_its_messages(void **state)
{
    struct bus_addr addr = { .worker = 0, .slot = 1, .generation = 1 };
    (void)state;
    send_text("a", C2D_ACK_NONE);
    assert_true(fetch("a")); /* before it came: it finds the lock */
    assert_int_equal(bus_attach(fx.hub.bus, SPAN("d1"), addr), ERR_OK);
    assert_true(c2d_is_locked(&fx.hub, SPAN("d1")));
    assert_int_equal(verdict(got.token, C2D_ABANDON), ERR_OK);
    assert_false(c2d_is_locked(&fx.hub, SPAN("d1")));
    assert_true(fetch(NULL));
    bus_detach(fx.hub.bus, SPAN("d1"), addr);
    assert_true(fetch("a"));
}

static void test_a_restart_frees_all(void **state)
{
    (void)state;
    send_text("a", C2D_ACK_NONE);
    assert_true(fetch("a"));
    fixture_shut(&fx);
    fixture_open(&fx);
    assert_true(fetch("a"));
}

static void test_the_cap(void **state) /* the fixture's table holds four */
{
    char name[16];
    (void)state;
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "m%d", i);
        send_text(name, C2D_ACK_NONE);
    }
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "m%d", i);
        assert_true(fetch(name));
    }
    char last[C2D_LOCK_TEXT];
    memcpy(last, got.token, sizeof last);
    assert_int_equal(fetch_err(), ERR_LIMIT);
    assert_false(got.found);
    assert_int_equal(verdict(last, C2D_COMPLETE), ERR_OK);
    assert_true(fetch("m4"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_one_after_the_other),
        T(test_abandon_counts_and_the_last_gives_up),
        T(test_the_end_of_a_lock_counts_nothing),
        T(test_an_expired_message_is_not_handed_out),
        T(test_a_session_has_its_messages),
        T(test_a_restart_frees_all),
        T(test_the_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
