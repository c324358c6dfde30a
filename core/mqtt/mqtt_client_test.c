/* core/mqtt/mqtt_client_test.c - the client engine against a script of server packets, event by event. */
#include "core/mqtt/mqtt_client.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above */
#include <cmocka.h>

static uint8_t out_buf[1024];

struct rig {
    struct mqtt_client c;
    struct wr out;
    struct mqtt_client_event ev;
};

static void rig_open(struct rig *r, uint8_t inflight)
{
    struct mqtt_client_config cfg = { .packet_max = 256, .inflight_max = inflight };
    struct mqtt_connect hello = { .client_id = SPAN("d"), .keep_alive_s = 60 };
    mqtt_client_init(&r->c, &cfg);
    r->out = (struct wr){ out_buf, sizeof out_buf, 0 };
    assert_int_equal(mqtt_client_connect(&r->c, &hello, 1000, &r->out), ERR_OK);
    struct span in = SPAN("\x20\x02\x01\x00");
    assert_int_equal(mqtt_client_next(&r->c, &in, &r->ev), ERR_OK);
    assert_int_equal(r->ev.kind, MQTT_EV_CONNECTED);
    assert_true(r->ev.session_present);
    r->out.len = 0;
}

static enum err feed(struct rig *r, struct span in)
{
    return mqtt_client_next(&r->c, &in, &r->ev);
}

static void a_session_runs_event_by_event(void **state)
{
    (void)state;
    struct rig r;
    uint16_t id;
    rig_open(&r, 2);
    struct mqtt_filter f[2] = { { SPAN("a/#"), 1 }, { SPAN("b"), 1 } };
    assert_int_equal(mqtt_client_subscribe(&r.c, f, 2, 1000, &r.out, &id), ERR_OK);
    assert_int_equal(id, 1);
    assert_int_equal(feed(&r, SPAN("\x90\x04\x00\x01\x01\x80")), ERR_OK);
    assert_int_equal(r.ev.kind, MQTT_EV_SUBSCRIBED);
    assert_int_equal(r.ev.codes.p[1], MQTT_SUBACK_FAILURE);

    struct mqtt_publish m = { .topic = SPAN("t"), .payload = SPAN("x"), .qos = 1 };
    assert_int_equal(mqtt_client_publish(&r.c, &m, 1000, &r.out, &id), ERR_OK);
    assert_int_equal(id, 2);
    assert_int_equal(mqtt_client_publish(&r.c, &m, 1000, &r.out, &id), ERR_OK);
    assert_int_equal(id, 3);
    assert_false(mqtt_client_is_ready(&r.c));
    assert_int_equal(mqtt_client_publish(&r.c, &m, 1000, &r.out, &id), ERR_AGAIN);
    m.qos = 0; /* QoS 0 waits for nothing */
    assert_int_equal(mqtt_client_publish(&r.c, &m, 1000, &r.out, &id), ERR_OK);
    assert_int_equal(id, 0);
    assert_int_equal(feed(&r, SPAN("\x40\x02\x00\x02")), ERR_OK);
    assert_int_equal(r.ev.kind, MQTT_EV_PUBLISHED);
    assert_int_equal(r.ev.packet_id, 2);

    assert_int_equal(feed(&r, SPAN("\x32\x07\x00\x01t\x12\x34hi")), ERR_OK);
    assert_int_equal(r.ev.kind, MQTT_EV_MESSAGE);
    assert_int_equal(r.ev.packet_id, 0x1234);
    assert_true(span_eq(r.ev.message.payload, SPAN("hi")));
    r.out.len = 0;
    assert_int_equal(mqtt_client_ack(&r.c, r.ev.packet_id, 1000, &r.out), ERR_OK);
    assert_true(span_eq(wr_span(&r.out), SPAN("\x40\x02\x12\x34")));

    assert_int_equal(mqtt_client_unsubscribe(&r.c, f, 1, 1000, &r.out, &id), ERR_OK);
    assert_int_equal(feed(&r, SPAN("\x40\x02\x00\x03")), ERR_OK); /* answers cross in any order */
    assert_int_equal(feed(&r, SPAN("\xb0\x02\x00\x04")), ERR_OK);
    assert_int_equal(r.ev.kind, MQTT_EV_UNSUBSCRIBED);
    r.out.len = 0;
    assert_int_equal(mqtt_client_disconnect(&r.c, &r.out), ERR_OK);
    assert_true(span_eq(wr_span(&r.out), SPAN("\xe0\x00")));
    assert_int_equal(mqtt_client_publish(&r.c, &m, 1000, &r.out, &id), ERR_AGAIN);
}

static void nothing_goes_out_before_connack(void **state)
{
    (void)state;
    struct rig r;
    struct mqtt_client_config cfg = { .packet_max = 256 };
    struct mqtt_connect hello = { .client_id = SPAN("d") };
    struct mqtt_publish m = { .topic = SPAN("t"), .qos = 0 };
    mqtt_client_init(&r.c, &cfg);
    assert_int_equal(feed(&r, SPAN("\x20\x02\x00\x00")), ERR_AGAIN); /* not even asked */
    r.out = (struct wr){ out_buf, 5, 0 };
    assert_int_equal(mqtt_client_connect(&r.c, &hello, 0, &r.out), ERR_AGAIN);
    assert_int_equal(r.out.len, 0);
    r.out.cap = sizeof out_buf;
    assert_int_equal(mqtt_client_connect(&r.c, &hello, 0, &r.out), ERR_OK);
    assert_int_equal(mqtt_client_publish(&r.c, &m, 0, &r.out, NULL), ERR_AGAIN);
    assert_int_equal(feed(&r, SPAN("\xd0\x00")), ERR_PROTO); /* the first must be CONNACK */
    assert_int_equal(r.c.state, MQTT_CLIENT_CLOSED);
}

static void a_refusal_is_told(void **state)
{
    (void)state;
    struct rig r;
    struct mqtt_client_config cfg = { .packet_max = 256 };
    struct mqtt_connect hello = { .client_id = SPAN("d") };
    mqtt_client_init(&r.c, &cfg);
    r.out = (struct wr){ out_buf, sizeof out_buf, 0 };
    assert_int_equal(mqtt_client_connect(&r.c, &hello, 0, &r.out), ERR_OK);
    assert_int_equal(feed(&r, SPAN("\x20\x02\x00\x05")), ERR_OK);
    assert_int_equal(r.ev.kind, MQTT_EV_REFUSED);
    assert_int_equal(r.ev.code, MQTT_CONNACK_REFUSED);
    assert_int_equal(r.c.state, MQTT_CLIENT_CLOSED);
    assert_true(mqtt_client_deadline(&r.c) == UINT64_MAX);
}

static void answers_to_nothing_are_refused(void **state)
{
    (void)state;
    const struct span rows[] = {
        SPAN("\x40\x02\x00\x01"),          /* PUBACK for a SUBSCRIBE */
        SPAN("\x40\x02\x00\x09"),          /* an identifier never used */
        SPAN("\x90\x04\x00\x01\x00\x00"),  /* two codes for one filter */
        SPAN("\xb0\x02\x00\x01"),          /* UNSUBACK */
        SPAN("\x20\x02\x00\x00"),          /* a second CONNACK */
        SPAN("\xc0\x00"),                  /* PINGREQ from a server */
        SPAN("\x34\x05\x00\x01t\x00\x01"), /* QoS 2 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rig r;
        struct mqtt_filter f = { SPAN("#"), 1 };
        rig_open(&r, 2);
        assert_int_equal(mqtt_client_subscribe(&r.c, &f, 1, 1000, &r.out, NULL), ERR_OK);
        assert_int_equal(feed(&r, rows[i]), ERR_PROTO);
        assert_int_equal(r.c.state, MQTT_CLIENT_CLOSED);
    }
}

static void a_cut_packet_waits_and_a_big_one_is_refused(void **state)
{
    (void)state;
    struct rig r;
    static const uint8_t wire[] = "\x32\x07\x00\x01t\x12\x34hi\xd0\x00";
    rig_open(&r, 1);
    for (size_t n = 0; n < 9; n++) {
        struct span in = span_of(wire, n);
        assert_int_equal(mqtt_client_next(&r.c, &in, &r.ev), ERR_AGAIN);
        assert_int_equal(in.n, n);
    }
    struct span in = span_of(wire, 11);
    assert_int_equal(mqtt_client_next(&r.c, &in, &r.ev), ERR_OK);
    assert_int_equal(in.n, 2);
    assert_int_equal(mqtt_client_next(&r.c, &in, &r.ev), ERR_OK);
    assert_int_equal(r.ev.kind, MQTT_EV_PONG);
    assert_int_equal(in.n, 0);
    assert_int_equal(feed(&r, SPAN("\x30\x81\x02")), ERR_LIMIT); /* 257 bytes */
}

static void silence_is_filled_with_pings_and_noticed(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1);
    assert_true(mqtt_client_deadline(&r.c) == 61000);
    assert_int_equal(mqtt_client_tick(&r.c, 60999, &r.out), ERR_OK);
    assert_int_equal(r.out.len, 0);
    struct wr none = { NULL, 0, 0 };
    assert_int_equal(mqtt_client_tick(&r.c, 61000, &none), ERR_AGAIN);
    assert_int_equal(mqtt_client_tick(&r.c, 61000, &r.out), ERR_OK);
    assert_true(span_eq(wr_span(&r.out), SPAN("\xc0\x00")));
    assert_true(mqtt_client_deadline(&r.c) == 91000);
    assert_int_equal(feed(&r, SPAN("\xd0\x00")), ERR_OK);
    assert_true(mqtt_client_deadline(&r.c) == 121000);
    assert_int_equal(mqtt_client_tick(&r.c, 121000, &r.out), ERR_OK);
    assert_int_equal(mqtt_client_tick(&r.c, 151000, &r.out), ERR_STALE);
    assert_int_equal(r.c.state, MQTT_CLIENT_CLOSED);
}

static void an_unanswered_request_is_noticed(void **state)
{
    (void)state;
    struct rig r;
    struct mqtt_publish m = { .topic = SPAN("t"), .qos = 1 };
    rig_open(&r, 4);
    assert_int_equal(mqtt_client_publish(&r.c, &m, 2000, &r.out, NULL), ERR_OK);
    assert_int_equal(mqtt_client_publish(&r.c, &m, 3000, &r.out, NULL), ERR_OK);
    assert_true(mqtt_client_deadline(&r.c) == 32000);
    assert_int_equal(feed(&r, SPAN("\x40\x02\x00\x01")), ERR_OK);
    assert_true(mqtt_client_deadline(&r.c) == 33000);
    assert_int_equal(mqtt_client_tick(&r.c, 33000, &r.out), ERR_STALE);

    struct mqtt_client_config cfg = { .packet_max = 256, .connect_timeout_ms = 500 };
    struct mqtt_connect hello = { .client_id = SPAN("d") };
    mqtt_client_init(&r.c, &cfg);
    assert_int_equal(mqtt_client_connect(&r.c, &hello, 100, &r.out), ERR_OK);
    assert_true(mqtt_client_deadline(&r.c) == 600);
    assert_int_equal(mqtt_client_tick(&r.c, 599, &r.out), ERR_OK);
    assert_int_equal(mqtt_client_tick(&r.c, 600, &r.out), ERR_STALE);
}

static void identifiers_wrap_past_zero_and_those_in_use(void **state)
{
    (void)state;
    struct rig r;
    struct mqtt_publish m = { .topic = SPAN("t"), .qos = 1 };
    uint16_t id;
    rig_open(&r, 2);
    assert_int_equal(mqtt_client_publish(&r.c, &m, 2000, &r.out, &id), ERR_OK); /* 1 stays in use */
    r.c.next_id = UINT16_MAX;
    assert_int_equal(mqtt_client_publish(&r.c, &m, 2000, &r.out, &id), ERR_OK);
    assert_int_equal(id, UINT16_MAX);
    assert_int_equal(feed(&r, SPAN("\x40\x02\xff\xff")), ERR_OK);
    r.out.len = 0;
    assert_int_equal(mqtt_client_publish(&r.c, &m, 2000, &r.out, &id), ERR_OK);
    assert_int_equal(id, 2);
}

static void no_room_changes_nothing(void **state)
{
    (void)state;
    struct rig r;
    struct mqtt_publish m = { .topic = SPAN("topic"), .payload = SPAN("payload"), .qos = 1 };
    struct mqtt_filter f = { SPAN("#"), 1 };
    rig_open(&r, 4);
    struct mqtt_client before = r.c;
    for (size_t cap = 0; cap < 4; cap++) {
        struct wr out = { out_buf, cap, 0 };
        assert_int_equal(mqtt_client_publish(&r.c, &m, 9, &out, NULL), ERR_AGAIN);
        assert_int_equal(mqtt_client_subscribe(&r.c, &f, 1, 9, &out, NULL), ERR_AGAIN);
        assert_int_equal(mqtt_client_unsubscribe(&r.c, &f, 1, 9, &out, NULL), ERR_AGAIN);
        assert_int_equal(mqtt_client_ack(&r.c, 5, 9, &out), ERR_AGAIN);
        assert_int_equal(out.len, 0);
        assert_memory_equal(&before, &r.c, sizeof before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_runs_event_by_event),
        cmocka_unit_test(nothing_goes_out_before_connack),
        cmocka_unit_test(a_refusal_is_told),
        cmocka_unit_test(answers_to_nothing_are_refused),
        cmocka_unit_test(a_cut_packet_waits_and_a_big_one_is_refused),
        cmocka_unit_test(silence_is_filled_with_pings_and_noticed),
        cmocka_unit_test(an_unanswered_request_is_noticed),
        cmocka_unit_test(identifiers_wrap_past_zero_and_those_in_use),
        cmocka_unit_test(no_room_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
