/* hub/front/mqtt/deliver_test.c - subscriptions and what comes down because of them: order, repetition, time
 * limits, restart; and the answers of what is not served yet. */
#include "tests/fake/mqtt_fixture.h"

/* ---- subscriptions ---------------------------------------------------------------------------------- */

static void test_subscribe_codes(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    struct mqtt_filter f[] = { { SPAN("devices/d1/messages/devicebound/#"), 1 },
                               { SPAN("$iothub/methods/POST/#"), 0 },
                               { SPAN("$iothub/twin/res/#"), 2 },
                               { SPAN("devices/d2/messages/devicebound/#"), 1 },
                               { SPAN("#"), 0 } };
    struct wr w = wire();
    mqtt_subscribe_encode(&w, 3, f, 5);
    feed_wr(c, &w);
    struct mqtt_packet p = expect(c, MQTT_SUBACK);
    struct mqtt_suback a;
    assert_int_equal(mqtt_suback_decode(&p, &a), ERR_OK);
    assert_true(span_eq(a.codes, span_of("\x01\x00\x01\x80\x00", 5)));
    w = wire();
    struct mqtt_filter unknown = { SPAN("never/heard/of"), 0 };
    mqtt_unsubscribe_encode(&w, 4, &unknown, 1);
    feed_wr(c, &w);
    expect_id(c, MQTT_UNSUBACK, 4);
    static struct mqtt_filter many[MQTT_FILTERS_MAX + 1];
    for (size_t i = 0; i < sizeof many / sizeof *many; i++)
        many[i] = f[0];
    w = wire();
    mqtt_subscribe_encode(&w, 5, many, MQTT_FILTERS_MAX);
    feed_wr(c, &w);
    p = expect(c, MQTT_SUBACK);
    assert_int_equal(p.body.n, 2 + MQTT_FILTERS_MAX);
    w = wire();
    mqtt_subscribe_encode(&w, 5, many, MQTT_FILTERS_MAX + 1);
    feed_wr(c, &w);
    expect_closed(c, CONN_CLOSE_LIMIT);
    fake_drop(c);
}

static void test_subscriptions_survive_a_restart_of_the_hub(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, "devices/d1/messages/devicebound/#", 1, 1);
    restart_hub();
    assert_int_equal(send_down("d1", "while away"), ERR_OK);
    struct hello h = hello_of("d1");
    c = dial(&h);
    expect_connack(c, true, 0);
    struct mqtt_publish m = expect_message(c, "while away"); /* without a new SUBSCRIBE */
    assert_int_equal(m.qos, 1);
    puback(c, m.packet_id);
    settle();
    assert_int_equal(queued("d1"), 0);
    struct wr w = wire();
    struct mqtt_filter f = { SPAN("devices/d1/messages/devicebound/#"), 0 };
    mqtt_unsubscribe_encode(&w, 4, &f, 1);
    feed_wr(c, &w);
    expect_id(c, MQTT_UNSUBACK, 4);
    restart_hub();
    assert_int_equal(send_down("d1", "nobody listens"), ERR_OK);
    c = dial(&h);
    expect_connack(c, true, 0);
    settle();
    assert_int_equal(c->out_len, 0);
    fake_drop(c);
}

/* ---- messages down ---------------------------------------------------------------------------------- */

static void test_offline_messages_come_in_order(void **state)
{
    char body[16];
    (void)state;
    for (int i = 0; i < 20; i++) {
        snprintf(body, sizeof body, "n%d", i);
        assert_int_equal(send_down("d1", body), ERR_OK);
    }
    struct conn *c = online("d1");
    say_subscribe(c, 1, "devices/d1/messages/devicebound/#", 1);
    expect(c, MQTT_SUBACK); /* before the first message */
    for (int i = 0; i < 20; i++) {
        snprintf(body, sizeof body, "n%d", i);
        struct mqtt_publish m = expect_message(c, body);
        assert_false(m.dup);
        assert_true(span_starts(m.topic, SPAN("devices/d1/messages/devicebound/")));
        struct span bag = span_skip(m.topic, 32);
        uint8_t mem[256];
        struct wr w = { mem, sizeof mem, 0 };
        struct bag_item item;
        assert_int_equal(bag_find(bag, SPAN("$.to"), &w, &item), ERR_OK);
        assert_true(span_eq(item.value, SPAN("/devices/d1/messages/devicebound")));
        assert_int_equal(bag_find(bag, SPAN("$.mid"), &w, &item), ERR_OK);
        puback(c, m.packet_id);
    }
    settle();
    assert_int_equal(queued("d1"), 0);
    assert_int_equal(send_down("d1", "live"), ERR_OK); /* and one more while connected */
    struct mqtt_publish m = expect_message(c, "live");
    puback(c, m.packet_id);
    settle();
    assert_int_equal(atomic_load(&fx.metrics.c2d_completed_total), 21);
    fake_drop(c);
}

static void test_qos_0_completes_by_itself(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, "devices/+/messages/devicebound/#", 0, 0);
    assert_int_equal(send_down("d1", "fire"), ERR_OK);
    struct mqtt_publish m = expect_message(c, "fire");
    assert_int_equal(m.qos, 0);
    settle();
    assert_int_equal(queued("d1"), 0);
    fake_drop(c);
}

static void test_nothing_goes_to_the_wrong_device(void **state)
{
    (void)state;
    struct conn *a = online("d1"), *b = online("d2");
    subscribe(a, "#", 1, 1);
    subscribe(b, "#", 1, 1);
    assert_int_equal(send_down("d2", "for two"), ERR_OK);
    (void)expect_message(b, "for two");
    settle();
    assert_int_equal(a->out_len, 0);
    fake_drop(a);
    fake_drop(b);
}

static void test_unacknowledged_comes_again_with_dup(void **state)
{
    (void)state;
    assert_int_equal(send_down("d1", "first"), ERR_OK);
    assert_int_equal(send_down("d1", "second"), ERR_OK);
    struct conn *c = online("d1");
    subscribe(c, "devices/d1/messages/devicebound/#", 1, 1);
    struct mqtt_publish m = expect_message(c, "first");
    puback(c, m.packet_id);
    (void)expect_message(c, "second");
    fake_drop(c);
    settle();
    c = online("d1");
    m = expect_message(c, "second");
    assert_true(m.dup);
    puback(c, m.packet_id);
    puback(c, m.packet_id); /* twice does no harm */
    puback(c, 4711);        /* nor one that never was */
    settle();
    assert_false(c->closed);
    assert_int_equal(queued("d1"), 0);
    fake_drop(c);
}

/* No waiting for the disk between the connections: the counts and the flag are right all the same. */
static void test_quick_reconnects_count(void **state)
{
    (void)state;
    fx.hub.settings.c2d_deliveries_max = 3;
    assert_int_equal(send_down("d1", "stubborn"), ERR_OK);
    struct conn *c = online("d1");
    say_subscribe(c, 1, "devices/d1/messages/devicebound/#", 1);
    expect(c, MQTT_SUBACK);
    for (int i = 0; i < 3; i++) {
        struct mqtt_publish m = expect_message(c, "stubborn");
        assert_int_equal(m.dup, i > 0);
        fake_drop(c);
        c = online("d1");
    }
    UNTIL(queued("d1") == 0);
    assert_int_equal(c->out_len, 0);
    assert_int_equal(send_down("d1", "next"), ERR_OK);
    struct mqtt_publish m = expect_message(c, "next");
    puback(c, m.packet_id);
    fake_drop(c); /* completed, and gone before the disk knows */
    c = online("d1");
    settle();
    assert_int_equal(c->out_len, 0);
    fake_drop(c);
}

static void test_the_window_is_filled_up(void **state)
{
    char body[16];
    uint16_t ids[20];
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, "devices/d1/messages/devicebound/#", 1, 1);
    for (int i = 0; i < 20; i++) {
        snprintf(body, sizeof body, "n%d", i);
        assert_int_equal(send_down("d1", body), ERR_OK);
        if (i < (int)C2D_BATCH_MAX) /* each leaves at once, though none is acknowledged */
            ids[i] = expect_message(c, body).packet_id;
    }
    settle();
    assert_int_equal(c->out_len, 0); /* and no more than that */
    assert_int_equal(session_of(c)->flight->nr, C2D_BATCH_MAX);
    puback(c, ids[1]); /* out of order */
    for (int i = 0; i < (int)C2D_BATCH_MAX; i++)
        if (i != 1)
            puback(c, ids[i]);
    for (int i = C2D_BATCH_MAX; i < 20; i++) {
        snprintf(body, sizeof body, "n%d", i);
        puback(c, expect_message(c, body).packet_id);
    }
    settle();
    assert_int_equal(queued("d1"), 0);
    assert_null(session_of(c)->flight);
    fake_drop(c);
}

static void test_lock_time(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, "devices/d1/messages/devicebound/#", 1, 1);
    assert_int_equal(send_down("d1", "slow"), ERR_OK);
    struct mqtt_publish m = expect_message(c, "slow");
    uint16_t old = m.packet_id;
    settle();
    session_of(c)->flight->sent_ms -= 61000;
    c->proto->on_timer(c);
    m = expect_message(c, "slow");
    assert_true(m.dup);
    puback(c, old); /* too late: it is on its way again */
    settle();
    assert_int_equal(queued("d1"), 1);
    session_of(c)->flight->sent_ms -= 61000;
    c->proto->on_timer(c);
    expect_closed(c, CONN_CLOSE_TIMEOUT);
    fake_drop(c);
    c = online("d1");
    m = expect_message(c, "slow");
    puback(c, m.packet_id);
    settle();
    assert_int_equal(queued("d1"), 0);
    fake_drop(c);
}

/* The store is being asked for what comes next when the lock time of the last one ends. */
static void test_lock_time_ends_during_a_listing(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, "devices/d1/messages/devicebound/#", 1, 1);
    assert_int_equal(send_down("d1", "slow"), ERR_OK);
    (void)expect_message(c, "slow");
    settle(); /* its delivery is counted */
    UNTIL(!(session_of(c)->flags & SESSION_F_LISTING));
    session_deliver(c);
    assert_true(session_of(c)->flags & SESSION_F_LISTING);
    session_of(c)->flight->sent_ms -= 61000;
    c->proto->on_timer(c);
    struct mqtt_publish m = expect_message(c, "slow");
    assert_true(m.dup);
    puback(c, m.packet_id);
    settle();
    assert_int_equal(queued("d1"), 0);
    fake_drop(c);
}

static void test_delivery_count_ends_it(void **state)
{
    (void)state;
    assert_int_equal(send_down("d1", "poison"), ERR_OK);
    struct conn *c = online("d1");
    subscribe(c, "devices/d1/messages/devicebound/#", 1, 1);
    for (int i = 0; i < 10; i++) {
        struct mqtt_publish m = expect_message(c, "poison");
        assert_int_equal(m.dup, i > 0);
        fake_drop(c);
        settle();
        c = online("d1");
    }
    settle();
    UNTIL(queued("d1") == 0);
    assert_int_equal(c->out_len, 0);
    assert_int_equal(atomic_load(&fx.metrics.c2d_dead_total), 1);
    fake_drop(c);
}

static void test_expired_is_not_delivered(void **state)
{
    (void)state;
    assert_int_equal(send_down("d1", "old"), ERR_OK);
    fixture_clock_offset_ms = 3601000;
    assert_int_equal(send_down("d1", "new"), ERR_OK);
    struct hello h = hello_of("d1");
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    subscribe(c, "devices/d1/messages/devicebound/#", 1, 1);
    (void)expect_message(c, "new");
    settle();
    assert_int_equal(c->out_len, 0);
    assert_int_equal(atomic_load(&fx.metrics.c2d_expired_total), 1);
    fake_drop(c);
}

static void test_broadcast_reaches_all_that_listen(void **state)
{
    (void)state;
    struct conn *a = online("d1"), *b = online("d2");
    subscribe(a, "#", 1, 1);
    subscribe(b, "#", 1, 1);
    assert_int_equal(send_down("", "everybody"), ERR_OK);
    struct mqtt_publish m = expect_message(a, "everybody");
    assert_true(span_starts(m.topic, SPAN("devices/d1/messages/devicebound/")));
    puback(a, m.packet_id);
    m = expect_message(b, "everybody");
    puback(b, m.packet_id);
    settle();
    assert_int_equal(queued("d1"), 0);
    assert_int_equal(queued("d2"), 0);
    fake_drop(a);
    fake_drop(b);
}

static void test_a_device_that_does_not_read(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, "#", 0, 0);
    c->unsent = MQTT_UNSENT_MAX + 1;
    assert_int_equal(send_down("d1", "waits"), ERR_OK);
    settle();
    assert_int_equal(c->out_len, 0);
    c->unsent = 0;
    c->drained_due = true;
    (void)expect_message(c, "waits");
    fake_drop(c);
}

static void test_clean_session_may_drop_what_waited(void **state)
{
    (void)state;
    struct hello h = hello_of("d1");
    h.clean = true;
    assert_int_equal(send_down("d1", "before"), ERR_OK);
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    subscribe(c, "#", 1, 1);
    (void)expect_message(c, "before"); /* the default keeps it */
    fake_drop(c);
    settle();
    fx.hub.settings.c2d_clean_discards = true;
    c = dial(&h);
    expect_connack(c, false, 0);
    subscribe(c, "#", 1, 1);
    settle();
    assert_int_equal(c->out_len, 0);
    assert_int_equal(queued("d1"), 0);
    fake_drop(c);
}

/* ---- what is not served yet ------------------------------------------------------------------------- */

static void test_certificate_requests_get_an_error(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    publish(c, "$iothub/credentials/POST/issueCertificate/?$rid=1", SPAN("{}"), 1, 1);
    expect_id(c, MQTT_PUBACK, 1);
    settle();
    assert_int_equal(c->out_len, 0); /* nobody listens for the answer */
    subscribe(c, "$iothub/credentials/res/#", 0, 0);
    publish(c, "$iothub/credentials/POST/issueCertificate/?$rid=4f2a-b", SPAN("{}"), 0, 0);
    struct mqtt_packet p = expect(c, MQTT_PUBLISH);
    struct mqtt_publish m;
    assert_int_equal(mqtt_publish_decode(&p, &m), ERR_OK);
    assert_true(span_eq(m.topic, SPAN("$iothub/credentials/res/503/?$rid=4f2a-b")));
    assert_true(span_starts(m.payload, SPAN("{\"errorCode\":503001,\"trackingId\":\"")));
    fake_drop(c);
}

static void test_stop_lets_answers_out(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    publish(c, "devices/d1/messages/events/", SPAN("x"), 1, 1);
    c->proto->on_stop(c);
    expect_id(c, MQTT_PUBACK, 1);
    expect_closed(c, CONN_CLOSE_STOP);
    fake_drop(c);
    c = online("d1");
    c->proto->on_stop(c);
    expect_closed(c, CONN_CLOSE_STOP);
    fake_drop(c);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_subscribe_codes),
        T(test_subscriptions_survive_a_restart_of_the_hub),
        T(test_offline_messages_come_in_order),
        T(test_qos_0_completes_by_itself),
        T(test_nothing_goes_to_the_wrong_device),
        T(test_unacknowledged_comes_again_with_dup),
        T(test_quick_reconnects_count),
        T(test_the_window_is_filled_up),
        T(test_lock_time),
        T(test_lock_time_ends_during_a_listing),
        T(test_delivery_count_ends_it),
        T(test_expired_is_not_delivered),
        T(test_broadcast_reaches_all_that_listen),
        T(test_a_device_that_does_not_read),
        T(test_clean_session_may_drop_what_waited),
        T(test_certificate_requests_get_an_error),
        T(test_stop_lets_answers_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
