/* hub/front/mqtt/method_test.c - direct methods on a session: what the device sees, what its caller gets, and
 * what happens when the connection goes in between. */
#include "tests/fake/mqtt_fixture.h"

#include "hub/domain/method/method.h"

struct call {
    struct method_call m; /* first */
    unsigned done;
    uint32_t timers[2];
};
static void on_arm(struct method_call *m, enum method_timer which, uint32_t ms)
{
    ((struct call *)(void *)m)->timers[which] = ms;
}
static void on_done(struct method_call *m)
{
    ((struct call *)(void *)m)->done++;
}
static struct call *call(struct call *c, const char *device, const char *payload, uint32_t connect_ms)
{
    *c = (struct call){ .m = { .hub = &fx.hub,
                               .home = worker_mailbox(worker),
                               .device = span_str(device),
                               .name = SPAN("reboot"),
                               .payload = span_str(payload),
                               .connect_ms = connect_ms,
                               .response_ms = 30000,
                               .arm = on_arm,
                               .done = on_done } };
    method_start(&c->m);
    return c;
}
static void ends(struct call *c, enum method_why why)
{
    UNTIL(c->done);
    assert_int_equal(c->done, 1);
    assert_int_equal(c->m.why, why);
}

/* The call as the device sees it; its request id into rid. */
static void expect_call(struct conn *c, const char *body, char rid[32])
{
    struct mqtt_publish m = expect_message(c, body);
    struct topic t;
    struct topic_identity who = { SPAN("d1"), SPAN_NONE };
    assert_int_equal(m.qos, 0);
    assert_int_equal(topic_server_parse(m.topic, &who, &t), ERR_OK);
    assert_int_equal(t.kind, TOPIC_METHOD);
    assert_true(span_eq(t.name, SPAN("reboot")));
    assert_true(t.rid.n > 0 && t.rid.n < 20);
    assert_ptr_equal(t.rid.p + t.rid.n, m.topic.p + m.topic.n); /* nothing behind it */
    snprintf(rid, 32, "%.*s", (int)t.rid.n, (const char *)t.rid.p);
}
static void say_result(struct conn *c, const char *status, const char *rid, struct span body, unsigned qos)
{
    char topic[128];
    snprintf(topic, sizeof topic, "$iothub/methods/res/%s/?$rid=%s", status, rid);
    publish(c, topic, body, qos, 9);
}

static void test_there_and_back(void **state)
{
    static const char *const statuses[] = { "200", "-1", "999", "0", "2147483647" };
    struct call a;
    char rid[32], before[32] = "";
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, TOPIC_FILTER_METHODS, 0, 0);
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        call(&a, "d1", "{\"delay\":5}", 0);
        expect_call(c, "{\"delay\":5}", rid);
        assert_string_not_equal(rid, before);
        strcpy(before, rid);
        say_result(c, statuses[i], rid, SPAN("{\"ok\":1}"), i % 2);
        if (i % 2)
            expect_id(c, MQTT_PUBACK, 9);
        ends(&a, METHOD_ANSWERED);
        assert_int_equal(a.m.status, strtol(statuses[i], NULL, 10));
        assert_true(span_eq(a.m.body, SPAN("{\"ok\":1}")));
        method_fini(&a.m);
    }
    call(&a, "d1", "", 0);
    expect_call(c, "null", rid);
    say_result(c, "204", rid, SPAN_NONE, 0);
    ends(&a, METHOD_ANSWERED);
    assert_int_equal(a.m.body.n, 0);
    method_fini(&a.m);
}

static void test_who_does_not_listen(void **state)
{
    struct call a;
    char rid[32];
    (void)state;
    struct conn *c = online("d1");
    call(&a, "d1", "1", 0);
    ends(&a, METHOD_OFFLINE);
    method_fini(&a.m);
    call(&a, "d1", "1", 20000);
    settle();
    assert_int_equal(a.done, 0);
    assert_int_equal(c->out_len, 0);
    subscribe(c, TOPIC_FILTER_METHODS, 0, 0); /* releases the call */
    expect_call(c, "1", rid);
    say_result(c, "200", rid, SPAN("2"), 0);
    ends(&a, METHOD_ANSWERED);
    method_fini(&a.m);
}

/* A session that lasts: the device comes back and does not subscribe anew. */
static void test_a_stored_subscription_releases_a_call(void **state)
{
    struct call a;
    char rid[32];
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, TOPIC_FILTER_METHODS, 0, 0);
    fake_drop(c);
    settle();
    call(&a, "d1", "1", 20000);
    settle();
    assert_int_equal(a.done, 0);
    c = online("d1");
    expect_call(c, "1", rid);
    say_result(c, "200", rid, SPAN("2"), 0);
    ends(&a, METHOD_ANSWERED);
    method_fini(&a.m);
}

static void test_the_connection_goes(void **state)
{
    struct call a, b;
    char rid[32], rid_b[32];
    (void)state;
    struct conn *c = online("d1"), *d;
    subscribe(c, TOPIC_FILTER_METHODS, 0, 0);
    call(&a, "d1", "1", 0);
    expect_call(c, "1", rid);
    fake_drop(c);
    ends(&a, METHOD_CLOSED);
    method_fini(&a.m);
    c = online("d1");
    call(&a, "d1", "1", 0);
    expect_call(c, "1", rid);
    d = online("d1"); /* taken over */
    ends(&a, METHOD_CLOSED);
    method_fini(&a.m);
    call(&b, "d1", "2", 0);
    expect_call(d, "2", rid_b);
    say_result(d, "200", rid, SPAN("\"of the one before\""), 0); /* belongs to nothing any more */
    settle();
    assert_int_equal(b.done, 0);
    say_result(d, "200", rid_b, SPAN("3"), 0);
    ends(&b, METHOD_ANSWERED);
    method_fini(&b.m);
    assert_true(c->closed);
}

static void test_what_nobody_waits_for(void **state)
{
    static const char *const rids[] = { "0", "1", "", "x", "ffffffffffffffffff", "%zz", "-1" };
    struct call a;
    char rid[32], topic[96];
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, TOPIC_FILTER_METHODS, 0, 0);
    for (size_t i = 0; i < sizeof rids / sizeof rids[0]; i++)
        say_result(c, "200", rids[i], SPAN("{}"), 0);
    call(&a, "d1", "1", 0);
    expect_call(c, "1", rid);
    method_on_timer(&a.m, METHOD_TIMER_RESPONSE);
    ends(&a, METHOD_TIMEOUT);
    method_fini(&a.m);
    say_result(c, "200", rid, SPAN("{}"), 1); /* late: acknowledged, and that is all */
    expect_id(c, MQTT_PUBACK, 9);
    say_result(c, "200", rid, SPAN("{}"), 0); /* and once more */
    call(&a, "d1", "1", 0);
    expect_call(c, "1", rid);
    snprintf(topic, sizeof topic, "$iothub/methods/res/200/?$rid=%%%02x%s", (unsigned)rid[0], rid + 1);
    publish(c, topic, SPAN("4"), 0, 0); /* percent-encoded */
    ends(&a, METHOD_ANSWERED);
    method_fini(&a.m);
    assert_false(c->closed);
}

static void test_too_many_at_once(void **state)
{
    enum { MAX = 4 }; /* methods_in_flight of the fixture */
    struct call a[MAX], more;
    char rid[MAX][32];
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, TOPIC_FILTER_METHODS, 0, 0);
    for (int i = 0; i < MAX; i++) {
        call(&a[i], "d1", "1", 0);
        expect_call(c, "1", rid[i]);
    }
    call(&more, "d1", "1", 0);
    ends(&more, METHOD_BUSY);
    method_fini(&more.m);
    say_result(c, "200", rid[2], SPAN("2"), 0);
    ends(&a[2], METHOD_ANSWERED);
    method_fini(&a[2].m);
    call(&more, "d1", "1", 0);
    expect_call(c, "1", rid[2]);
    say_result(c, "201", rid[2], SPAN("2"), 0);
    ends(&more, METHOD_ANSWERED);
    method_fini(&more.m);
    fake_drop(c);
    for (int i = 0; i < MAX; i++)
        if (i != 2) {
            ends(&a[i], METHOD_CLOSED);
            method_fini(&a[i].m);
        }
}

static void test_a_device_that_does_not_read(void **state)
{
    struct call a;
    char rid[32];
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, TOPIC_FILTER_METHODS, 0, 0);
    c->unsent = MQTT_UNSENT_MAX + 1;
    call(&a, "d1", "1", 0);
    ends(&a, METHOD_BUSY);
    method_fini(&a.m);
    c->unsent = 0;
    call(&a, "d1", "1", 0);
    expect_call(c, "1", rid);
    say_result(c, "200", rid, SPAN_NONE, 0);
    ends(&a, METHOD_ANSWERED);
    method_fini(&a.m);
}

static void test_the_largest_answer(void **state)
{
    static uint8_t big[METHOD_PAYLOAD_MAX + 1];
    struct call a;
    char rid[32];
    (void)state;
    fx.hub.settings.message_max = 1024; /* a limit of telemetry alone */
    memset(big, '1', sizeof big);
    struct conn *c = online("d1");
    subscribe(c, TOPIC_FILTER_METHODS, 0, 0);
    for (size_t more = 0; more < 2; more++) {
        call(&a, "d1", "1", 0);
        expect_call(c, "1", rid);
        say_result(c, "200", rid, span_of(big, METHOD_PAYLOAD_MAX + more), 0);
        ends(&a, more ? METHOD_TOO_LARGE : METHOD_ANSWERED);
        if (!more)
            assert_int_equal(a.m.body.n, METHOD_PAYLOAD_MAX);
        method_fini(&a.m);
    }
    assert_false(c->closed);
}

static void test_no_call_before_the_suback(void **state)
{
    uint8_t mem[] = { 0x88, 0x13, 0, 0, 1, 'x', '1' };
    struct bus_message m = { BUS_METHOD, SPAN("d1"), span_of(mem, sizeof mem), { 0, 0 } };
    (void)state;
    struct conn *c = online("d1");
    say_subscribe(c, 5, TOPIC_FILTER_METHODS, 0); /* it has to become durable first */
    assert_false(fake_on_bus_message(worker, conn_addr(c), &m));
    assert_int_equal(c->out_len, 0);
    expect(c, MQTT_SUBACK);
    assert_true(fake_on_bus_message(worker, conn_addr(c), &m));
    expect(c, MQTT_PUBLISH);
    say_subscribe(c, 6, TOPIC_FILTER_TWIN_RES, 0); /* another one does not hold calls back */
    assert_true(fake_on_bus_message(worker, conn_addr(c), &m));
    expect(c, MQTT_PUBLISH);
    expect(c, MQTT_SUBACK);
}

/* Two identities with one hash in the directory: the text decides. */
static void test_a_call_for_somebody_else(void **state)
{
    struct bus_message m = { BUS_METHOD, SPAN("d2"), SPAN_NONE, { 0, 0 } };
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, TOPIC_FILTER_METHODS, 0, 0);
    assert_false(fake_on_bus_message(worker, conn_addr(c), &m));
    m.identity = SPAN("d1");
    m.kind = 12345;
    assert_false(fake_on_bus_message(worker, conn_addr(c), &m));
    assert_int_equal(c->out_len, 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_there_and_back),
                                        T(test_who_does_not_listen),
                                        T(test_a_stored_subscription_releases_a_call),
                                        T(test_the_connection_goes),
                                        T(test_what_nobody_waits_for),
                                        T(test_too_many_at_once),
                                        T(test_a_device_that_does_not_read),
                                        T(test_the_largest_answer),
                                        T(test_no_call_before_the_suback),
                                        T(test_a_call_for_somebody_else) };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
