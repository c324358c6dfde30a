/* hub/front/mqtt/session_test.c - a device's session packet by packet: connecting, telemetry, and every way
 * to be thrown out. Messages down are deliver_test.c. */
#include "tests/fake/mqtt_fixture.h"

/* ---- connecting ------------------------------------------------------------------------------------- */

static void test_connect_and_session_present(void **state)
{
    (void)state;
    struct hello h = hello_of("d1");
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    assert_true(c->established);
    fake_drop(c);
    c = dial(&h);
    expect_connack(c, true, 0);
    fake_drop(c);
    h.clean = true;
    c = dial(&h);
    expect_connack(c, false, 0);
    fake_drop(c);
    h.clean = false;
    c = dial(&h);
    expect_connack(c, false, 0); /* the clean one forgot it */
    fake_drop(c);
    assert_int_equal(atomic_load(&fx.metrics.mqtt_connects_total), 4);
}

static void test_forms_of_the_user_name(void **state)
{
    (void)state;
    static const char *const names[] = { "hub.example.net/d1/?api-version=2021-04-12&DeviceClientType=x%2F1",
                                         "hub.example.net/d1/api-version=2016-11-14",
                                         "hub.example.net/d1",
                                         "hub.example.net/d1/",
                                         "HUB.example.net/d1/?api-version=2020-09-30&foo=bar",
                                         "hub.example.net/d1/?model-id=dtmi:a:b;1&api-version=2020-09-30" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct hello h = hello_of("d1");
        h.username = names[i];
        struct conn *c = dial(&h);
        expect_connack(c, i > 0, 0);
        fake_drop(c);
    }
}

static void expect_refused(const struct hello *h)
{
    uint64_t before = atomic_load(&fx.metrics.mqtt_refused_total);
    struct conn *c = dial(h);
    expect_connack(c, false, MQTT_CONNACK_REFUSED);
    expect_closed(c, CONN_CLOSE_AUTH);
    assert_false(c->established);
    assert_int_equal(atomic_load(&fx.metrics.mqtt_refused_total), before + 1);
    fake_drop(c);
}
static void test_refused_credentials(void **state)
{
    (void)state;
    fixture_device(&fx, "off", DEVICE_DISABLED);
    struct hello h = hello_of("d1");
    h.key = (const uint8_t *)"not-a-key-of-anybody-not-a-key!!";
    expect_refused(&h);
    h = hello_of("d1");
    h.ttl_s = -400;
    expect_refused(&h);
    h = hello_of("nobody");
    expect_refused(&h);
    h = hello_of("off");
    expect_refused(&h);
    h = hello_of("d1");
    h.no_password = true;
    expect_refused(&h);
    h = hello_of("d1");
    h.resource = "hub.example.net/devices/d2"; /* d2's token, d1's name */
    expect_refused(&h);
    h = hello_of("d1");
    h.client_id = "D1";
    expect_refused(&h);
    h = hello_of("d1");
    h.client_id = "";
    expect_refused(&h);
    h = hello_of("d1");
    h.username = NULL;
    h.no_password = true;
    expect_refused(&h);
    h = hello_of("d1");
    h.policy = "service";
    h.resource = "hub.example.net";
    fixture_policy(&fx, "service", ACCESS_SERVICE_CONNECT);
    expect_refused(&h);
    h = hello_of("d1/m1"); /* no such module */
    h.username = "hub.example.net/d1/m1/?api-version=2021-04-12";
    h.resource = "hub.example.net/devices/d1/modules/m1";
    expect_refused(&h);
}

static void test_policy_connects(void **state)
{
    (void)state;
    fixture_policy(&fx, "device", ACCESS_DEVICE_CONNECT);
    struct hello h = hello_of("d1");
    h.policy = "device";
    h.resource = "hub.example.net/devices";
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    publish(c, "devices/d1/messages/events/", SPAN("x"), 1, 1);
    expect_id(c, MQTT_PUBACK, 1);
    assert_int_equal(stored("d1"), 1);
    assert_int_equal(last.auth, MESSAGE_AUTH_HUB_SAS);
    fake_drop(c);
}

static void test_other_protocol_level(void **state)
{
    (void)state;
    struct hello h = hello_of("d1");
    struct wr w = wire();
    hello_encode(&w, &h);
    for (unsigned level = 3; level <= 5; level += 2) {
        struct conn *c = fake_open(worker, &mqtt_proto, front);
        size_t at = 1;
        while (wire_mem[at] & 0x80)
            at++;
        wire_mem[at + 7] = (uint8_t)level;
        feed_wr(c, &w);
        expect_connack(c, false, MQTT_CONNACK_VERSION);
        expect_closed(c, CONN_CLOSE_PROTO);
        fake_drop(c);
    }
}

/* CONNECT, SUBSCRIBE, PUBLISH, PINGREQ in one go, then cut at every byte: the answers are the same. */
static void test_every_cut_of_a_pipelined_start(void **state)
{
    (void)state;
    struct hello h = hello_of("d1");
    struct mqtt_filter f = { SPAN("devices/d1/messages/devicebound/#"), 1 };
    uint8_t script[2048];
    struct wr w = { script, sizeof script, 0 };
    hello_encode(&w, &h);
    mqtt_subscribe_encode(&w, 2, &f, 1);
    mqtt_publish_encode(&w, &(struct mqtt_publish){ .topic = SPAN("devices/d1/messages/events/a=b"),
                                                    .payload = SPAN("t"),
                                                    .qos = 1,
                                                    .packet_id = 3 });
    mqtt_empty_encode(&w, MQTT_PINGREQ);
    assert_true(wr_ok(&w));
    for (size_t cut = 0; cut < w.len; cut++) {
        struct conn *c = fake_open(worker, &mqtt_proto, front);
        fake_feed(c, span_of(script, cut));
        turn(0);
        assert_false(c->closed);
        fake_feed(c, span_of(script + cut, w.len - cut));
        expect_connack(c, cut > 0, 0);
        /* PINGRESP waits for nothing; the other two leave in the order of the questions. */
        unsigned order = 0;
        bool ping = false;
        while (order < 2 || !ping) {
            struct mqtt_packet p = { 0 };
            UNTIL(take(c, &p));
            if (p.type == MQTT_PINGRESP)
                ping = true;
            else
                assert_int_equal(p.type, order++ ? MQTT_PUBACK : MQTT_SUBACK);
        }
        assert_int_equal(c->out_len, 0);
        fake_drop(c);
    }
}

static void test_first_and_second_packets(void **state)
{
    (void)state;
    struct conn *c = fake_open(worker, &mqtt_proto, front);
    fake_feed(c, SPAN("\xc0")); /* half a PINGREQ is enough */
    expect_closed(c, CONN_CLOSE_PROTO);
    fake_drop(c);
    c = fake_open(worker, &mqtt_proto, front);
    fake_feed(c, SPAN("GET / HTTP/1.1\r\n"));
    expect_closed(c, CONN_CLOSE_PROTO);
    fake_drop(c);
    c = online("d1");
    struct hello h = hello_of("d1");
    struct wr w = wire();
    hello_encode(&w, &h);
    feed_wr(c, &w);
    expect_closed(c, CONN_CLOSE_PROTO);
    fake_drop(c);
    assert_int_equal(atomic_load(&fx.metrics.mqtt_protocol_errors_total), 3);
}

static void test_malformed_packets_close(void **state)
{
    (void)state;
    static const struct span bad[] = {
        { (const uint8_t *)"\x00\x00", 2 },                 /* type 0 */
        { (const uint8_t *)"\xf0\x00", 2 },                 /* type 15 */
        { (const uint8_t *)"\x30\xff\xff\xff\xff\x01", 6 }, /* length */
        { (const uint8_t *)"\x30\xff\xff\x7f", 4 },         /* 2 MB: oversized before it arrives */
        { (const uint8_t *)"\x32\x05\x00\x03"
                           "a/b",
          7 }, /* no identifier */
        { (const uint8_t *)"\x34\x08\x00\x03"
                           "a/b\x00\x01"
                           "x",
          10 },                                                  /* QoS 2 */
        { (const uint8_t *)"\x30\x04\x00\x02\xc3\x28", 6 },      /* UTF-8 */
        { (const uint8_t *)"\x30\x02\x00\x00", 4 },              /* empty topic */
        { (const uint8_t *)"\x40\x02\x00\x00", 4 },              /* PUBACK 0 */
        { (const uint8_t *)"\x50\x02\x00\x01", 4 },              /* PUBREC */
        { (const uint8_t *)"\x62\x02\x00\x01", 4 },              /* PUBREL */
        { (const uint8_t *)"\x82\x02\x00\x01", 4 },              /* no filter */
        { (const uint8_t *)"\x80\x06\x00\x01\x00\x01#\x00", 8 }, /* flags */
        { (const uint8_t *)"\x82\x06\x00\x01\x00\x01#\x03", 8 }, /* QoS 3 */
        { (const uint8_t *)"\xc0\x01\x00", 3 },                  /* PINGREQ with a body */
        { (const uint8_t *)"\x20\x02\x00\x00", 4 },              /* CONNACK from a device */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct conn *c = online("d1");
        fake_feed(c, bad[i]);
        expect_closed(c, CONN_CLOSE_PROTO);
        fake_drop(c);
    }
}

static void test_takeover(void **state)
{
    (void)state;
    struct conn *a = online("d1"), *other = online("d2"), *b = online("d1");
    expect_closed(a, CONN_CLOSE_TAKEOVER);
    assert_true(bus_is_attached(fx.hub.bus, SPAN("d1")));
    assert_int_equal(atomic_load(&fx.metrics.mqtt_takeovers_total), 1);
    publish(b, "devices/d1/messages/events/", SPAN("x"), 1, 9);
    expect_id(b, MQTT_PUBACK, 9);
    assert_false(other->closed);
    fake_drop(a);
    fake_drop(b);
    assert_false(bus_is_attached(fx.hub.bus, SPAN("d1")));
    fake_drop(other);
}

static void test_a_connection_that_dies_while_it_logs_in(void **state)
{
    (void)state;
    struct hello h = hello_of("d1");
    struct conn *c = dial(&h);
    fake_drop(c); /* the store's answer finds nobody */
    settle();
    assert_false(bus_is_attached(fx.hub.bus, SPAN("d1")));
    c = online("d1");
    fake_drop(c);
}

/* The credentials were good when they were looked at; the session is attached only after the store has been
 * asked for its subscriptions, and a wake-up in between finds nobody. */
static void test_disabled_while_it_logs_in(void **state)
{
    (void)state;
    struct hello h = hello_of("d1");
    fake_drop(online("d1")); /* from here on its keys are known without a read */
    struct conn *c = dial(&h);
    fixture_device(&fx, "d1", DEVICE_DISABLED);
    access_forget(fx.hub.access, SPAN("d1"));
    assert_false(bus_wake(fx.hub.bus, SPAN("d1"), BUS_WAKE_IDENTITY));
    expect_connack(c, true, 0);
    expect_closed(c, CONN_CLOSE_AUTH);
    fake_drop(c);
    expect_refused(&h);
}

static void test_disabled_and_deleted_while_connected(void **state)
{
    (void)state;
    struct conn *a = online("d1"), *b = online("d2");
    (void)bus_wake(fx.hub.bus, SPAN("d1"), BUS_WAKE_IDENTITY); /* nothing changed: nothing happens */
    settle();
    turn(10);
    assert_false(a->closed);
    fixture_device(&fx, "d1", DEVICE_DISABLED);
    (void)bus_wake(fx.hub.bus, SPAN("d1"), BUS_WAKE_IDENTITY);
    expect_closed(a, CONN_CLOSE_AUTH);
    assert_int_equal(fixture_tx(&fx, fixture_delete_device, (void *)(uintptr_t) "d2"), ERR_OK);
    access_forget(fx.hub.access, SPAN("d2"));
    (void)bus_wake(fx.hub.bus, SPAN("d2"), BUS_WAKE_IDENTITY);
    expect_closed(b, CONN_CLOSE_AUTH);
    fake_drop(a);
    fake_drop(b);
    struct hello h = hello_of("d1");
    expect_refused(&h);
}

/* ---- time ------------------------------------------------------------------------------------------- */

static void age(struct conn *c, uint64_t ms)
{
    session_of(c)->rx_ms -= (uint32_t)ms;
    c->proto->on_timer(c);
}
static void test_keep_alive(void **state)
{
    (void)state;
    struct hello h = hello_of("d1");
    h.keep_alive_s = 10;
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    assert_in_range(c->armed_ms - worker_now_ms(worker), 10000, 15000);
    age(c, 14000);
    assert_false(c->closing);
    fake_feed(c, SPAN("\xc0\x00"));
    expect(c, MQTT_PINGRESP);
    age(c, 14000);
    assert_false(c->closing);
    age(c, 1001);
    expect_closed(c, CONN_CLOSE_TIMEOUT);
    fake_drop(c);
    static const uint16_t odd[] = { 0, 65535 };
    for (size_t i = 0; i < 2; i++) {
        h.keep_alive_s = odd[i];
        c = dial(&h);
        expect_connack(c, true, 0);
        age(c, 1766000);
        assert_false(c->closing);
        age(c, 1100);
        expect_closed(c, CONN_CLOSE_TIMEOUT);
        fake_drop(c);
    }
}

static void test_token_expiry_closes(void **state)
{
    (void)state;
    struct hello h = hello_of("d1");
    h.ttl_s = 20;
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    uint64_t wall = worker_wall_ms(worker);
    assert_in_range(session_expires_ms(session_of(c)), wall + 300000, wall + 321000); /* with the grace */
    session_of(c)->expires_s = (uint32_t)(wall / 1000 + 5);
    session_arm(c);
    assert_in_range(c->armed_ms - worker_now_ms(worker), 4000, 5001);
    session_of(c)->expires_s = (uint32_t)((wall - 1) / 1000);
    c->proto->on_timer(c);
    expect_closed(c, CONN_CLOSE_AUTH);
    fake_drop(c);
}

/* ---- telemetry -------------------------------------------------------------------------------------- */

/* A device cannot put another device's or a module's name on its telemetry. */
static void test_telemetry_does_not_name_its_sender(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    publish(c, "devices/d1/messages/events/$.cdid=d2&%24.cmid=m1&$.cid=c1", SPAN("x"), 1, 5);
    expect_id(c, MQTT_PUBACK, 5);
    assert_int_equal(stored("d1"), 1);
    assert_true(span_eq(last.device, SPAN("d1")));
    assert_int_equal(last.module.n, 0);
    assert_null(last.system[BAG_CONNECTION_DEVICE_ID].p);
    assert_null(last.system[BAG_CONNECTION_MODULE_ID].p);
    assert_true(span_eq(last.system[BAG_CORRELATION_ID], SPAN("c1")));
    fake_drop(c);
}

static void test_telemetry_with_its_properties(void **state)
{
    (void)state;
    struct hello h = hello_of("d1");
    h.username = "hub.example.net/d1/?api-version=2020-09-30&model-id=dtmi%3Aa%3Ab%3B1";
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    publish(c,
            "devices/d1/messages/events/"
            "%24.mid=m1&$.ct=application%2Fjson&a%20b=c%2Fd&plus=a+b&flag&empty=&%24.sub=th",
            SPAN("{\"t\":21}"), 1, 5);
    expect_id(c, MQTT_PUBACK, 5);
    assert_int_equal(stored("d1"), 1);
    assert_true(span_eq(last.body, SPAN("{\"t\":21}")));
    assert_true(span_eq(last.generation, SPAN("637000000000000001")));
    assert_true(span_eq(last.model, SPAN("dtmi:a:b;1")));
    assert_int_equal(last.auth, MESSAGE_AUTH_DEVICE_SAS);
    assert_true(span_eq(last.system[BAG_MESSAGE_ID], SPAN("m1")));
    assert_true(span_eq(last.system[BAG_CONTENT_TYPE], SPAN("application/json")));
    assert_true(span_eq(last.system[BAG_SUBJECT], SPAN("th")));
    assert_true(span_eq(last_prop("a b"), SPAN("c/d")));
    assert_true(span_eq(last_prop("plus"), SPAN("a+b")));
    static const char *const forms[] = { "devices/d1/messages/events", "devices/d1/messages/events/",
                                         "devices/d1/messages/events/k=v/",
                                         "devices/d1/messages/events/?k=v" };
    for (size_t i = 0; i < 4; i++) {
        publish(c, forms[i], SPAN(""), 1, (uint16_t)(6 + i));
        expect_id(c, MQTT_PUBACK, (uint16_t)(6 + i));
        assert_int_equal(stored("d1"), 2 + i);
        assert_int_equal(last.body.n, 0);
        assert_true(i < 2 || span_eq(last_prop("k"), SPAN("v")));
    }
    fake_drop(c);
    assert_int_equal(atomic_load(&fx.metrics.telemetry_messages_total), 5);
}

static void test_retain_and_dup_become_properties(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    struct wr w = wire();
    mqtt_publish_encode(&w, &(struct mqtt_publish){ .topic = SPAN("devices/d1/messages/events/"),
                                                    .payload = SPAN("x"),
                                                    .qos = 1,
                                                    .packet_id = 1,
                                                    .retain = true,
                                                    .dup = true });
    feed_wr(c, &w);
    expect_id(c, MQTT_PUBACK, 1);
    assert_int_equal(stored("d1"), 1);
    assert_true(span_eq(last_prop("mqtt-retain"), SPAN("true")));
    assert_true(span_eq(last_prop("mqtt-dup"), SPAN("true")));
    fake_drop(c);
}

static void test_answers_leave_in_order_and_the_window_holds(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    struct wr w = wire();
    for (uint16_t i = 1; i <= 40; i++) {
        if (i % 7 == 0) /* one that needs no disk waits its turn as well */
            mqtt_publish_encode(&w, &(struct mqtt_publish){ .topic = SPAN("$iothub/methods/res/200/?$rid=9"),
                                                            .qos = 1,
                                                            .packet_id = i });
        else
            mqtt_publish_encode(&w, &(struct mqtt_publish){ .topic = SPAN("devices/d1/messages/events/"),
                                                            .payload = SPAN("x"),
                                                            .qos = 1,
                                                            .packet_id = i });
    }
    feed_wr(c, &w);
    assert_int_equal(session_of(c)->replies_nr, MQTT_WINDOW);
    assert_true(c->paused); /* the other 24 stay where they are */
    for (uint16_t i = 1; i <= 40; i++) {
        expect_id(c, MQTT_PUBACK, i);
        assert_true(session_of(c)->replies_nr <= MQTT_WINDOW);
    }
    assert_false(c->paused);
    assert_int_equal(stored("d1"), 35);
    assert_int_equal(front->workers[0].pending_bytes, 0);
    fake_drop(c);
}

static void test_size_limit(void **state)
{
    static uint8_t big[262145];
    (void)state;
    struct conn *c = online("d1");
    publish(c, "devices/d1/messages/events/", span_of(big, 262144), 1, 1);
    expect_id(c, MQTT_PUBACK, 1);
    publish(c, "devices/d1/messages/events/", span_of(big, 262145), 1, 2);
    expect_closed(c, CONN_CLOSE_LIMIT);
    fake_drop(c);
    c = online("d1");
    publish(c, "devices/d1/messages/events/a=b", span_of(big, 262143), 1, 3); /* properties count */
    expect_closed(c, CONN_CLOSE_LIMIT);
    fake_drop(c);
    assert_int_equal(atomic_load(&fx.metrics.telemetry_refused_total), 2);
    assert_int_equal(stored("d1"), 1);
}

static void test_topics_that_close(void **state)
{
    (void)state;
    static const char *const topics[] = { "devices/d2/messages/events/",
                                          "devices/d1/modules/m/messages/events/",
                                          "some/topic",
                                          "devices/d1/messages/devicebound/",
                                          "$iothub/twin/FOO",
                                          "devices/+/messages/events/" };
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        struct conn *c = online("d1");
        publish(c, topics[i], SPAN("x"), 1, 1);
        expect_closed(c, CONN_CLOSE_PROTO);
        fake_drop(c);
    }
    assert_int_equal(stored("d2"), 0);
}

static void test_ids_with_wildcards_are_literal(void **state)
{
    (void)state;
    fixture_device(&fx, "a+#?%$", DEVICE_ENABLED);
    struct hello h = hello_of("a+#?%$");
    h.resource = "hub.example.net/devices/a+#?%$";
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    publish(c, "devices/a+#?%$/messages/events/k=v", SPAN("x"), 1, 1);
    expect_id(c, MQTT_PUBACK, 1);
    assert_int_equal(stored("a+#?%$"), 1);
    subscribe(c, "devices/a+#?%$/messages/devicebound/#", 1, 1);
    fake_drop(c);
}

static void test_will(void **state)
{
    (void)state;
    struct hello h = hello_of("d1");
    h.will_topic = SPAN("devices/d1/messages/events/why=lost");
    h.will_payload = SPAN("gone");
    struct conn *c = dial(&h);
    expect_connack(c, false, 0);
    fake_feed(c, SPAN("\xe0\x00")); /* DISCONNECT: no will */
    expect_closed(c, CONN_CLOSE_DONE);
    fake_drop(c);
    settle();
    assert_int_equal(stored("d1"), 0);
    c = dial(&h);
    expect_connack(c, true, 0);
    fake_drop(c); /* reset */
    UNTIL(atomic_load(&fx.metrics.telemetry_messages_total) == 1);
    assert_int_equal(stored("d1"), 1);
    assert_true(span_eq(last.body, SPAN("gone")));
    assert_true(span_eq(last_prop("iothub-MessageType"), SPAN("Will")));
    assert_true(span_eq(last_prop("why"), SPAN("lost")));
    h.will_topic = SPAN("devices/d2/messages/events/"); /* not its own: ignored */
    c = dial(&h);
    expect_connack(c, true, 0);
    fake_drop(c);
    settle();
    assert_int_equal(stored("d2"), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_connect_and_session_present),
        T(test_forms_of_the_user_name),
        T(test_refused_credentials),
        T(test_policy_connects),
        T(test_other_protocol_level),
        T(test_every_cut_of_a_pipelined_start),
        T(test_first_and_second_packets),
        T(test_malformed_packets_close),
        T(test_takeover),
        T(test_a_connection_that_dies_while_it_logs_in),
        T(test_disabled_while_it_logs_in),
        T(test_disabled_and_deleted_while_connected),
        T(test_keep_alive),
        T(test_token_expiry_closes),
        T(test_telemetry_does_not_name_its_sender),
        T(test_telemetry_with_its_properties),
        T(test_retain_and_dup_become_properties),
        T(test_answers_leave_in_order_and_the_window_holds),
        T(test_size_limit),
        T(test_topics_that_close),
        T(test_ids_with_wildcards_are_literal),
        T(test_will),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
