/* hub/front/mqtt/full_test.c - a disk that is full, at every operation of a session in turn: nothing that was
 * not stored is acknowledged, and what can go on goes on. */
#include "tests/fake/front_fake.h"

#include "core/sas/sas.h"
#include "hub/front/mqtt/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct mqtt_front *front;

static int setup(void **state)
{
    (void)state;
    fake_hub();
    assert(mqtt_front_new(&front, &hub, 1) == ERR_OK);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    mqtt_front_free(front);
    fake_hub_end();
    return 0;
}

static void turns(void)
{
    fake_turns(6);
}
static struct conn *dial(bool clean)
{
    char token[SAS_TOKEN_MAX];
    uint8_t mem[2048];
    struct wr t = { (uint8_t *)token, sizeof token, 0 }, w = { mem, sizeof mem, 0 };
    struct conn *c = fake_open(worker, &mqtt_proto, front);
    sas_token_encode(&t, &port_crypto, SPAN("hub.example.net/devices/d1"), span_of(fake_key, 32), 4000000000u,
                     SPAN_NONE);
    mqtt_connect_encode(&w, &(struct mqtt_connect){ .client_id = SPAN("d1"),
                                                    .username = SPAN("hub.example.net/d1/"),
                                                    .password = wr_span(&t),
                                                    .has_username = true,
                                                    .has_password = true,
                                                    .clean = clean });
    fake_feed(c, wr_span(&w));
    turns();
    return c;
}
static void say_telemetry(struct conn *c, uint16_t id) /* 0: QoS 0 */
{
    uint8_t mem[128];
    struct wr w = { mem, sizeof mem, 0 };
    mqtt_publish_encode(&w, &(struct mqtt_publish){ .topic = SPAN("devices/d1/messages/events/"),
                                                    .payload = SPAN("x"),
                                                    .qos = id > 0,
                                                    .packet_id = id });
    fake_feed(c, wr_span(&w));
}

static void test_telemetry_is_not_acknowledged(void **state)
{
    (void)state;
    struct conn *c = dial(true);
    assert_int_equal(c->out_len, 4);
    say_telemetry(c, 1);
    turns();
    assert_int_equal(c->out_len, 8); /* CONNACK, PUBACK */
    fake.fail = 1;
    say_telemetry(c, 0); /* nobody waits for this one: it is dropped and counted */
    turns();
    assert_false(c->closed);
    say_telemetry(c, 2);
    say_telemetry(c, 3);
    turns();
    assert_true(c->closed);
    assert_int_equal(c->why, CONN_CLOSE_INTERNAL);
    assert_int_equal(c->out_len, 8);
    assert_int_equal(atomic_load(&metrics.telemetry_refused_total), 3);
    assert_int_equal(front->workers[0].pending_bytes, 0);
    fake_drop(c);
    fake.fail = 0; /* there is room again: it works by itself */
    c = dial(true);
    say_telemetry(c, 2);
    turns();
    assert_int_equal(c->out_len, 8);
    fake_drop(c);
}

static void test_a_subscription_that_is_not_stored_is_not_granted(void **state)
{
    uint8_t mem[128];
    struct wr w = { mem, sizeof mem, 0 };
    struct mqtt_filter f = { SPAN("devices/d1/messages/devicebound/#"), 1 };
    (void)state;
    fake.has_session = true;
    struct conn *c = dial(false);
    assert_int_equal(c->out_len, 4);
    fake.fail = 1;
    mqtt_subscribe_encode(&w, 1, &f, 1);
    fake_feed(c, wr_span(&w));
    turns();
    assert_true(c->closed);
    assert_int_equal(c->out_len, 4);
    assert_int_equal(fake.channels, 0);
    fake_drop(c);
}

/* Each operation of a login fails in turn: the device is let in or told to come again, never "wrong key". */
static void test_login_with_a_failing_store(void **state)
{
    (void)state;
    for (unsigned clean = 0; clean < 2; clean++)
        for (unsigned k = 1; k < 6; k++) {
            fake.has_session = clean;
            fake.ops = 0;
            fake.fail = k;
            access_forget(hub.access, SPAN("d1"));
            struct conn *c = dial(clean);
            assert_true(c->out_len >= 4);
            assert_int_equal(c->out[0], 0x20);
            assert_true(c->out[3] == MQTT_CONNACK_OK || c->out[3] == MQTT_CONNACK_UNAVAILABLE);
            assert_int_equal(c->closed, c->out[3] != MQTT_CONNACK_OK);
            fake_drop(c);
        }
    assert_int_equal(atomic_load(&metrics.mqtt_refused_total), 0);
}

/* What a connection costs while nothing happens on it: the state and the names, no buffer. */
static void test_an_idle_session_owns_little(void **state)
{
    (void)state;
    struct conn *c = dial(true);
    const struct session *s = session_of(c);
    say_telemetry(c, 1);
    turns();
    assert_null(s->last);
    assert_null(s->flight);
    assert_null(s->will);
    assert_int_equal(c->in_len, 0);
    assert_true(sizeof *s + sizeof *s->name + s->name->identity_len + s->name->generation_len <= 160);
    fake_drop(c);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_telemetry_is_not_acknowledged),
        T(test_a_subscription_that_is_not_stored_is_not_granted),
        T(test_login_with_a_failing_store),
        T(test_an_idle_session_owns_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
