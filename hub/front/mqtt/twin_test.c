/* hub/front/mqtt/twin_test.c - a device and its twin on one session: reading, reporting, being told; errors,
 * request ids, the order of what a device sees. */
#include "tests/fake/mqtt_fixture.h"

#include "hub/domain/twin/twin.h"

#include <stdio.h>
#include <stdlib.h>

#define FILTER_RES     TOPIC_FILTER_TWIN_RES
#define FILTER_DESIRED TOPIC_FILTER_DESIRED

/* ---- the service side ------------------------------------------------------------------------------- */

struct change {
    const char *id, *body;
};
static enum err change_run(struct store_tx *tx, void *ctx)
{
    struct change *c = ctx;
    struct arena a;
    struct twin_patch p;
    struct twin t;
    struct twin_fault f;
    struct twin_if any = { 0 };
    arena_init(&a, 16 << 20);
    enum err e = twin_service_patch(&a, span_str(c->body), false, &p, &f);
    if (!e)
        e = twin_update(&fx.hub, tx, &a, span_str(c->id), &p, &any, &t, &f);
    arena_fini(&a);
    return e;
}
static void change(const char *id, const char *body)
{
    struct change c = { id, body };
    assert_int_equal(fixture_tx(&fx, change_run, &c), ERR_OK);
}
static enum err model_run(struct store_tx *tx, void *ctx)
{
    struct twin_row r;
    enum err e = tx_twin_get(tx, SPAN("d1"), &r);
    if (!e)
        snprintf(ctx, 64, "%.*s", (int)r.model_id.n, (const char *)r.model_id.p);
    return e;
}

/* ---- the device ------------------------------------------------------------------------------------- */

static void get(struct conn *c, const char *rid, unsigned qos)
{
    char topic[1300];
    snprintf(topic, sizeof topic, "$iothub/twin/GET/?$rid=%s", rid);
    publish(c, topic, SPAN(" "), qos, 5);
}
static void report(struct conn *c, const char *tail, const char *body)
{
    char topic[300];
    snprintf(topic, sizeof topic, "$iothub/twin/PATCH/properties/reported/%s", tail);
    publish(c, topic, span_str(body), 0, 0);
}
static void expect_publish(struct conn *c, const char *topic, const char *body)
{
    struct mqtt_publish m = expect_message(c, body);
    assert_int_equal(m.qos, 0);
    if (!span_eq(m.topic, span_str(topic)))
        fail_msg("topic %.*s", (int)m.topic.n, (const char *)m.topic.p);
}
/* An error answer: its topic, and that its body has this code. */
static void expect_error(struct conn *c, const char *topic, const char *code, const char *text)
{
    struct mqtt_packet p = expect(c, MQTT_PUBLISH);
    struct mqtt_publish m;
    char body[1200];
    assert_int_equal(mqtt_publish_decode(&p, &m), ERR_OK);
    assert_true(span_eq(m.topic, span_str(topic)));
    snprintf(body, sizeof body, "%.*s", (int)m.payload.n, (const char *)m.payload.p);
    assert_true(!strncmp(body, "{\"errorCode\":", 13) && !strncmp(body + 13, code, strlen(code)));
    assert_non_null(strstr(body, ",\"trackingId\":\""));
    assert_non_null(strstr(body, ",\"timestampUtc\":\""));
    if (!strstr(body, text))
        fail_msg("\"%s\" is not in %s", text, body);
}

static void test_reading(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, FILTER_RES, 0, 0);
    get(c, "1", 0);
    expect_publish(c, "$iothub/twin/res/200/?$rid=1",
                   "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}");
    change("d1", "{\"tags\":{\"secret\":1},\"properties\":{\"desired\":{\"a\":1.0}}}");
    get(c, "5e6f-A_b", 1);
    expect_publish(c, "$iothub/twin/res/200/?$rid=5e6f-A_b",
                   "{\"desired\":{\"a\":1.0,\"$version\":2},\"reported\":{\"$version\":1}}");
    expect_id(c, MQTT_PUBACK, 5);
    char rid[101], topic[200];
    memset(rid, 'r', 100);
    rid[100] = 0;
    snprintf(topic, sizeof topic, "$iothub/twin/res/200/?$rid=%s", rid);
    get(c, rid, 0);
    expect_publish(c, topic, "{\"desired\":{\"a\":1.0,\"$version\":2},\"reported\":{\"$version\":1}}");
    char longest[MQTT_RID_MAX + 2];
    memset(longest, 'r', sizeof longest);
    longest[MQTT_RID_MAX] = 0;
    get(c, longest, 0);
    (void)expect(c, MQTT_PUBLISH);
    longest[MQTT_RID_MAX] = 'r';
    longest[MQTT_RID_MAX + 1] = 0;
    get(c, longest, 0);
    expect_closed(c, CONN_CLOSE_PROTO);
}

static void test_reporting(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, FILTER_RES, 1, 1);
    report(c, "?$rid=1", "{\"fw\":\"1.2\",\"n\":{\"x\":1.50}}");
    expect_publish(c, "$iothub/twin/res/204/?$rid=1&$version=2", "");
    report(c, "?$rid=2", "{\"fw\":null,\"n\":{\"y\":[]}}");
    expect_publish(c, "$iothub/twin/res/204/?$rid=2&$version=3", "");
    report(c, "?$rid=3&$version=3", "{\"v\":3}");
    expect_publish(c, "$iothub/twin/res/204/?$rid=3&$version=4", "");
    report(c, "?$rid=4&$version=3", "{\"v\":4}");
    expect_error(c, "$iothub/twin/res/412/?$rid=4", "412001", "version");
    publish(c, "$iothub/twin/PATCH/properties/reported/?$rid=5", SPAN("{\"q\":1}"), 1, 9);
    expect_publish(c, "$iothub/twin/res/204/?$rid=5&$version=5", "");
    expect_id(c, MQTT_PUBACK, 9);
    get(c, "6", 0);
    expect_publish(c, "$iothub/twin/res/200/?$rid=6",
                   "{\"desired\":{\"$version\":1},\"reported\":{\"n\":{\"x\":1.50,\"y\":[]},\"v\":3,\"q\":1,"
                   "\"$version\":5}}");
}

static void test_what_is_wrong_is_said(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, FILTER_RES, 0, 0);
    report(c, "?$rid=1", "{\"a\":");
    expect_error(c, "$iothub/twin/res/400/?$rid=1", "400006", "not JSON");
    report(c, "?$rid=2", "[]");
    expect_error(c, "$iothub/twin/res/400/?$rid=2", "400004", "a JSON object");
    report(c, "?$rid=3", "{\"a\":{\"b.c\":1}}");
    expect_error(c, "$iothub/twin/res/400/?$rid=3", "400004", "properties.reported.a.b.c: a key");
    static char big[TWIN_TEXT_FACTOR * TWIN_SECTION_MAX + 2];
    memset(big, ' ', sizeof big - 1);
    report(c, "?$rid=4", big);
    expect_error(c, "$iothub/twin/res/413/?$rid=4", "413001", "131072");
    get(c, "5", 0); /* nothing of it was done, and the connection is there */
    expect_publish(c, "$iothub/twin/res/200/?$rid=5",
                   "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}");
    publish(c, "$iothub/twin/FOO", SPAN_NONE, 0, 0);
    expect_closed(c, CONN_CLOSE_PROTO);
}

static void test_an_identity_that_vanished(void **state)
{
    (void)state;
    struct conn *c = online("d2");
    subscribe(c, FILTER_RES, 0, 0);
    assert_int_equal(fixture_tx(&fx, fixture_delete_device, "d2"), ERR_OK);
    get(c, "1", 0);
    expect_error(c, "$iothub/twin/res/404/?$rid=1", "404001", "identity");
    report(c, "?$rid=2", "{}");
    expect_error(c, "$iothub/twin/res/404/?$rid=2", "404001", "identity");
}

/* Without a subscription, or without a request id, nobody is answered; what was asked is done. */
static void test_nobody_listens(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    report(c, "?$rid=1", "{\"a\":1}");
    get(c, "2", 1);
    expect_id(c, MQTT_PUBACK, 5);
    publish(c, "$iothub/twin/PATCH/properties/reported/?$rid=3", SPAN("nonsense"), 1, 6);
    expect_id(c, MQTT_PUBACK, 6);
    settle();
    assert_int_equal(c->out_len, 0);
    subscribe(c, FILTER_RES, 0, 0);
    report(c, "?x=y", "{\"b\":2}");
    settle();
    assert_int_equal(c->out_len, 0);
    get(c, "4", 0);
    expect_publish(c, "$iothub/twin/res/200/?$rid=4",
                   "{\"desired\":{\"$version\":1},\"reported\":{\"a\":1,\"b\":2,\"$version\":3}}");
}

static void test_being_told(void **state)
{
    (void)state;
    struct conn *c = online("d1"), *d = online("d2");
    change("d1", "{\"properties\":{\"desired\":{\"before\":1}}}");
    settle();
    assert_int_equal(c->out_len, 0); /* not subscribed: never told */
    subscribe(c, FILTER_DESIRED, 1, 1);
    change("d1", "{\"properties\":{\"desired\":{\"a\":1.0,\"before\":null}}}");
    change("d1", "{\"tags\":{\"t\":1}}");
    change("d2", "{\"properties\":{\"desired\":{\"x\":1}}}");
    change("d1", "{\"properties\":{\"desired\":{\"a\":2}}}");
    expect_publish(c, "$iothub/twin/PATCH/properties/desired/?$version=3",
                   "{\"a\":1.0,\"before\":null,\"$version\":3}");
    expect_publish(c, "$iothub/twin/PATCH/properties/desired/?$version=4", "{\"a\":2,\"$version\":4}");
    settle();
    assert_int_equal(c->out_len, 0);
    assert_int_equal(d->out_len, 0);
    fake_drop(c);
    settle();
    change("d1", "{\"properties\":{\"desired\":{\"away\":1}}}");
    c = online("d1"); /* its subscriptions are there again; what it missed it has to read */
    settle();
    assert_int_equal(c->out_len, 0);
    change("d1", "{\"properties\":{\"desired\":{\"back\":1}}}");
    expect_publish(c, "$iothub/twin/PATCH/properties/desired/?$version=6", "{\"back\":1,\"$version\":6}");
}

/* A notification never overtakes the SUBACK of the subscription it belongs to. */
static void test_the_suback_goes_first(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    say_subscribe(c, 77, FILTER_DESIRED, 0);
    change("d1", "{\"properties\":{\"desired\":{\"a\":1}}}");
    (void)expect(c, MQTT_SUBACK);
    expect_publish(c, "$iothub/twin/PATCH/properties/desired/?$version=2", "{\"a\":1,\"$version\":2}");
}

/* So many notifications wait for a SUBACK; then the connection goes, and the device reads its twin anew. */
static void test_notifications_do_not_pile_up(void **state)
{
    uint8_t bytes[64];
    (void)state;
    struct conn *c = online("d1");
    say_subscribe(c, 77, FILTER_DESIRED, 0);
    UNTIL(session_of(c)->subs_nr);
    for (uint64_t version = 2; version < 2 + MQTT_NOTES_WAITING_MAX; version++) {
        struct wr w = { bytes, sizeof bytes, 0 };
        wr_le64(&w, version);
        wr_str(&w, "{}");
        assert_false(conn_is_closing(c));
        assert_true(session_twin_note(c, &(struct bus_message){ .kind = BUS_TWIN, .bytes = wr_span(&w) }));
        assert_int_equal(c->out_len, 0);
    }
    assert_true(conn_is_closing(c));
    expect_closed(c, CONN_CLOSE_LIMIT);
}

/* ---- notifications that found no room --------------------------------------------------------------- */

/* What is on its way to the worker is as much as may be. */
static void fill_bus(void)
{
    enum err e;
    while (!(e = bus_post(fx.hub.bus, SPAN("d2"), BUS_TWIN, SPAN("x"))))
        ;
    assert_int_equal(e, ERR_FULL);
}

/* All of it has been delivered: what is posted last comes last. */
static void empty_bus(struct conn *d)
{
    subscribe(d, FILTER_DESIRED, 0, 0);
    change("d2", "{\"properties\":{\"desired\":{\"a\":1}}}");
    (void)expect(d, MQTT_PUBLISH);
}

/* They are not lost until the device comes again: it is told all that is there. */
static void test_what_found_no_room_is_told(void **state)
{
    (void)state;
    struct conn *c = online("d1"), *d = online("d2");
    subscribe(c, FILTER_DESIRED, 0, 0);
    change("d1", "{\"properties\":{\"desired\":{\"a\":1,\"b\":1}}}");
    expect_publish(c, "$iothub/twin/PATCH/properties/desired/?$version=2",
                   "{\"a\":1,\"b\":1,\"$version\":2}");
    fill_bus();
    change("d1", "{\"properties\":{\"desired\":{\"a\":2}}}");
    change("d1", "{\"properties\":{\"desired\":{\"c\":3}}}");
    expect_publish(c, "$iothub/twin/PATCH/properties/desired/?$version=4",
                   "{\"a\":2,\"b\":1,\"c\":3,\"$version\":4}");
    empty_bus(d);
    settle();
    assert_int_equal(c->out_len, 0); /* once for both */
    change("d1", "{\"properties\":{\"desired\":{\"a\":4}}}");
    expect_publish(c, "$iothub/twin/PATCH/properties/desired/?$version=5", "{\"a\":4,\"$version\":5}");
}

/* A later notification that did find room does not hide the ones before it. */
static void test_what_found_no_room_comes_with_what_did(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        struct conn *c = online("d1"), *d = online("d2");
        uint64_t told = 0, first = 2ull * i + 2;
        bool whole = false;
        char body[100];
        subscribe(c, FILTER_DESIRED, 0, 0);
        fill_bus();
        snprintf(body, sizeof body, "{\"properties\":{\"desired\":{\"lost\":%u}}}", i);
        change("d1", body);
        while (bus_post(fx.hub.bus, SPAN("d2"), BUS_TWIN, SPAN("x")) == ERR_FULL)
            worker_turn(worker, 0); /* some are delivered: there is room, before the store has answered */
        snprintf(body, sizeof body, "{\"properties\":{\"desired\":{\"n\":%u}}}", i);
        change("d1", body);
        snprintf(body, sizeof body, "\"lost\":%u", i);
        while (told < first + 1 || !whole) {
            struct mqtt_packet p = expect(c, MQTT_PUBLISH);
            struct mqtt_publish m;
            struct topic t;
            struct topic_identity who = { SPAN("d1"), SPAN_NONE };
            char text[200];
            assert_int_equal(mqtt_publish_decode(&p, &m), ERR_OK);
            assert_int_equal(topic_server_parse(m.topic, &who, &t), ERR_OK);
            assert_true(t.version >= told);
            told = t.version;
            snprintf(text, sizeof text, "%.*s", (int)m.payload.n, (const char *)m.payload.p);
            whole |= strstr(text, body) != NULL;
        }
        empty_bus(d);
        fake_drop(c);
        fake_drop(d);
    }
}

static void test_without_a_subscription_nothing_is_read(void **state)
{
    (void)state;
    struct conn *c = online("d1"), *d = online("d2");
    fill_bus();
    change("d1", "{\"properties\":{\"desired\":{\"a\":1}}}");
    empty_bus(d);
    assert_int_equal(c->out_len, 0);
}

/* ---- the order of reads and notifications ----------------------------------------------------------- */

/* A read that took its snapshot before a change, and comes home after its notification, is read again. */
static void test_a_read_is_never_older_than_what_was_told(void **state)
{
    (void)state;
    struct conn *c = online("d1");
    subscribe(c, FILTER_RES, 0, 0);
    subscribe(c, FILTER_DESIRED, 0, 0);
    for (unsigned i = 0; i < 40; i++) {
        char body[100];
        uint64_t newest = 0, seen = 0;
        unsigned answers = 0;
        for (unsigned k = 0; k < 3; k++) {
            char rid[16];
            snprintf(rid, sizeof rid, "%u", k);
            get(c, rid, 0);
            snprintf(body, sizeof body, "{\"properties\":{\"desired\":{\"n\":%u}}}", 3 * i + k);
            change("d1", body);
        }
        while (answers < 3 || newest < 3 * (uint64_t)i + 4) {
            struct mqtt_packet p = expect(c, MQTT_PUBLISH);
            struct mqtt_publish m;
            struct topic t;
            struct topic_identity who = { SPAN("d1"), SPAN_NONE };
            assert_int_equal(mqtt_publish_decode(&p, &m), ERR_OK);
            assert_int_equal(topic_server_parse(m.topic, &who, &t), ERR_OK);
            if (t.kind == TOPIC_DESIRED) {
                assert_true(t.version > seen); /* neither old, nor known already */
                seen = newest = t.version;
                continue;
            }
            answers++;
            char text[200];
            unsigned long long version;
            snprintf(text, sizeof text, "%.*s", (int)m.payload.n, (const char *)m.payload.p);
            const char *at = strstr(text, "\"$version\":");
            assert_non_null(at);
            version = strtoull(at + strlen("\"$version\":"), NULL, 10);
            assert_true(version >= seen);
            seen = version;
            if (version > newest)
                newest = version;
        }
        settle();
        assert_int_equal(c->out_len, 0);
    }
}

static void test_a_model_is_remembered(void **state)
{
    static const struct {
        const char *tail, *model;
    } rows[] = { { "model-id=dtmi:a:b;1", "dtmi:a:b;1" },
                 { "model-id=dtmi%3Aa%3Ac%3B2", "dtmi:a:c;2" },
                 { "DeviceClientType=x", "dtmi:a:c;2" } };
    char user[200], got[64];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct hello h = hello_of("d1");
        snprintf(user, sizeof user, "hub.example.net/d1/?api-version=2021-04-12&%s", rows[i].tail);
        h.username = user;
        struct conn *c = dial(&h);
        (void)expect(c, MQTT_CONNACK);
        assert_int_equal(fixture_tx(&fx, model_run, got), ERR_OK);
        assert_string_equal(got, rows[i].model);
        fake_drop(c);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_reading),
        T(test_reporting),
        T(test_what_is_wrong_is_said),
        T(test_an_identity_that_vanished),
        T(test_nobody_listens),
        T(test_being_told),
        T(test_the_suback_goes_first),
        T(test_notifications_do_not_pile_up),
        T(test_what_found_no_room_is_told),
        T(test_what_found_no_room_comes_with_what_did),
        T(test_without_a_subscription_nothing_is_read),
        T(test_a_read_is_never_older_than_what_was_told),
        T(test_a_model_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
