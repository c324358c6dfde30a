/* tests/fake/mqtt_fixture.h - devices and services around the MQTT front of a hub: the real store, stream and
 * bus, connections without sockets, a device that says what a test wants. Include it once in a test program.
 */
#ifndef ROOST_TESTS_FAKE_MQTT_FIXTURE_H
#define ROOST_TESTS_FAKE_MQTT_FIXTURE_H

#define FIXTURE_STREAM
#include "tests/fake/conn_fake.h"
#include "tests/fake/hub_fixture.h"

#include "base/log.h"
#include "core/bag/bag.h"
#include "hub/front/mqtt/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;
static struct worker *worker;
static struct mqtt_front *front;

static inline void front_open(void)
{
    assert(worker_new(&worker, 0) == ERR_OK);
    assert(mqtt_front_new(&front, &fx.hub, 1) == ERR_OK);
    bus_register(fx.hub.bus, 0, worker_mailbox(worker), fake_on_bus_wake, worker);
    bus_on_messages(fx.hub.bus, 0, fake_on_bus_message);
}
static inline void front_shut(void)
{
    for (unsigned i = 0; i < FAKE_CONNS; i++)
        if (fake_conns[i].used)
            fake_drop(&fake_conns[i]);
    fixture_shut(&fx);
    for (int i = 0; i < 3; i++) /* what came home meanwhile */
        worker_turn(worker, 0);
    mqtt_front_free(front);
    worker_free(worker);
}
static inline int setup(void **state)
{
    (void)state;
    log_init(LOG_LEVEL_ERROR, stderr);
    fixture_init(&fx);
    front_open();
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    fixture_device(&fx, "d2", DEVICE_ENABLED);
    return 0;
}
static inline int teardown(void **state)
{
    (void)state;
    front_shut();
    char cmd[96];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", fx.dir);
    mailbox_fini(&fx.mail);
    return system(cmd);
}
static inline void restart_hub(void)
{
    front_shut();
    fixture_open(&fx);
    front_open();
}

/* One turn of the loop. */
static inline void turn(int timeout_ms)
{
    worker_turn(worker, timeout_ms);
    fake_turn_end();
}
#define UNTIL(cond)                                                                                          \
    do {                                                                                                     \
        for (int until_i = 0; !(cond); until_i++) {                                                          \
            assert_true(until_i < 2000);                                                                     \
            turn(20);                                                                                        \
        }                                                                                                    \
    } while (0)
/* Everything handed to the store has run, and what followed from it. */
static inline enum err nothing(struct store_tx *tx, void *ctx)
{
    (void)tx;
    (void)ctx;
    return ERR_OK;
}
static inline void settle(void)
{
    for (int i = 0; i < 4; i++) {
        assert_int_equal(fixture_tx(&fx, nothing, NULL), ERR_OK);
        turn(0);
    }
}

/* ---- the device -------------------------------------------------------------------------------------------
 */

static uint8_t wire_mem[400000];
static inline struct wr wire(void)
{
    return (struct wr){ wire_mem, sizeof wire_mem, 0 };
}
static inline void feed_wr(struct conn *c, const struct wr *w)
{
    assert(wr_ok(w));
    fake_feed(c, wr_span(w));
}

struct hello {
    const char *client_id, *username, *resource, *policy;
    const uint8_t *key;
    int64_t ttl_s;
    bool clean, no_password;
    uint16_t keep_alive_s;
    struct span will_topic, will_payload;
};
static inline struct hello hello_of(const char *id)
{
    static char user[16][300], resource[16][300];
    static unsigned n;
    n = (n + 1) % 16;
    snprintf(user[n], sizeof user[n], "hub.example.net/%s/?api-version=2021-04-12", id);
    snprintf(resource[n], sizeof resource[n], "hub.example.net/devices/%s", id);
    return (struct hello){ .client_id = id,
                           .username = user[n],
                           .resource = resource[n],
                           .policy = "",
                           .key = fixture_key1,
                           .ttl_s = 3600,
                           .keep_alive_s = 60 };
}
static inline void hello_encode(struct wr *w, const struct hello *h)
{
    char token[SAS_TOKEN_MAX];
    struct mqtt_connect m = { .client_id = span_str(h->client_id),
                              .username = span_str(h->username),
                              .has_username = h->username != NULL,
                              .clean = h->clean,
                              .keep_alive_s = h->keep_alive_s,
                              .has_password = !h->no_password,
                              .has_will = h->will_topic.n > 0,
                              .will_topic = h->will_topic,
                              .will_payload = h->will_payload };
    if (!h->no_password)
        m.password = fixture_token(token, h->resource, h->key, h->ttl_s, h->policy);
    mqtt_connect_encode(w, &m);
}
static inline struct conn *dial(const struct hello *h)
{
    struct conn *c = fake_open(worker, &mqtt_proto, front);
    struct wr w = wire();
    hello_encode(&w, h);
    feed_wr(c, &w);
    return c;
}

/* Takes the next packet the hub sent; false: none. Its spans live until the next call. */
static uint8_t taken[400000];
static inline bool take(struct conn *c, struct mqtt_packet *p)
{
    size_t used;
    if (mqtt_packet_decode(span_of(c->out, c->out_len), MQTT_BODY_LIMIT, p, &used))
        return false;
    memcpy(taken, c->out, used);
    assert_int_equal(mqtt_packet_decode(span_of(taken, used), MQTT_BODY_LIMIT, p, &used), ERR_OK);
    memmove(c->out, c->out + used, c->out_len - used);
    c->out_len -= used;
    return true;
}
static inline struct mqtt_packet expect(struct conn *c, unsigned type)
{
    struct mqtt_packet p = { 0 };
    UNTIL(take(c, &p) || c->closed);
    assert_int_equal(p.type, type);
    return p;
}
static inline void expect_connack(struct conn *c, bool present, unsigned code)
{
    struct mqtt_packet p = expect(c, MQTT_CONNACK);
    struct mqtt_connack a;
    assert_int_equal(mqtt_connack_decode(&p, &a), ERR_OK);
    assert_int_equal(a.code, code);
    assert_int_equal(a.session_present, present);
}
static inline void expect_id(struct conn *c, unsigned type, uint16_t id)
{
    struct mqtt_packet p = expect(c, type);
    uint16_t got;
    assert_int_equal(mqtt_id_decode(&p, &got), ERR_OK);
    assert_int_equal(got, id);
}
static inline void expect_closed(struct conn *c, enum conn_close why)
{
    UNTIL(c->closed);
    assert_string_equal(conn_close_name(c->why), conn_close_name(why));
    assert_int_equal(c->out_len, 0);
}
static inline struct conn *online(const char *id)
{
    struct hello h = hello_of(id);
    struct conn *c = dial(&h);
    UNTIL(c->out_len || c->closed);
    struct mqtt_packet p;
    struct mqtt_connack a;
    assert_true(take(c, &p));
    assert_int_equal(mqtt_connack_decode(&p, &a), ERR_OK);
    assert_int_equal(a.code, 0);
    return c;
}
static inline void say_subscribe(struct conn *c, uint16_t id, const char *filter, uint8_t qos)
{
    struct mqtt_filter f = { span_str(filter), qos };
    struct wr w = wire();
    mqtt_subscribe_encode(&w, id, &f, 1);
    feed_wr(c, &w);
}
static inline void subscribe(struct conn *c, const char *filter, uint8_t qos, uint8_t want)
{
    say_subscribe(c, 77, filter, qos);
    struct mqtt_packet p = expect(c, MQTT_SUBACK);
    struct mqtt_suback a;
    assert_int_equal(mqtt_suback_decode(&p, &a), ERR_OK);
    assert_int_equal(a.packet_id, 77);
    assert_int_equal(a.codes.n, 1);
    assert_int_equal(a.codes.p[0], want);
}
static inline void publish(struct conn *c, const char *topic, struct span payload, unsigned qos, uint16_t id)
{
    struct wr w = wire();
    mqtt_publish_encode(&w, &(struct mqtt_publish){ .topic = span_str(topic),
                                                    .payload = payload,
                                                    .qos = (uint8_t)qos,
                                                    .packet_id = qos ? id : 0 });
    feed_wr(c, &w);
}
static inline void puback(struct conn *c, uint16_t id)
{
    struct wr w = wire();
    mqtt_id_encode(&w, MQTT_PUBACK, id);
    feed_wr(c, &w);
}
/* The next message down: checks its body, returns its identifier. */
static inline struct mqtt_publish expect_message(struct conn *c, const char *body)
{
    struct mqtt_packet p = expect(c, MQTT_PUBLISH);
    struct mqtt_publish m;
    assert_int_equal(mqtt_publish_decode(&p, &m), ERR_OK);
    assert_true(span_eq(m.payload, span_str(body)));
    assert_false(m.retain);
    return m;
}

/* ---- the service side ------------------------------------------------------------------------------- */

static struct c2d_send sent;
static inline enum err send_down(const char *device, const char *body)
{
    struct c2d_message m = { .device = span_str(device), .message_id = SPAN("mid"), .body = span_str(body) };
    memset(&sent, 0, sizeof sent);
    sent.hub = &fx.hub;
    sent.message = &m;
    fixture_prepare(&fx, &sent.store.op);
    c2d_send_start(&sent);
    return fixture_wait(&fx, &sent.store.op);
}

struct count {
    struct span device;
    uint64_t nr;
};
static inline enum err count_run(struct store_tx *tx, void *ctx)
{
    struct count *n = ctx;
    return tx_c2d_count(tx, n->device, &n->nr);
}
static inline uint64_t queued(const char *device)
{
    struct count n = { span_str(device), 0 };
    assert_int_equal(fixture_tx(&fx, count_run, &n), ERR_OK);
    return n.nr;
}

/* Reads everything a device's partition has; returns how many of its records, decodes the last. */
static uint8_t stream_mem[400000];
static struct message last;
static inline size_t stored(const char *device)
{
    struct stream_record records[64];
    struct stream_read r = { .buf = stream_mem,
                             .buf_cap = sizeof stream_mem,
                             .records = records,
                             .records_cap = 64,
                             .pos = { telemetry_partition(&fx.hub, span_str(device)), STREAM_EARLIEST, 0 } };
    size_t nr = 0;
    for (;;) {
        fixture_prepare(&fx, &r.op);
        stream_read(fx.hub.stream, &r);
        enum err e = fixture_wait(&fx, &r.op);
        if (e == ERR_AGAIN || (!e && !r.records_nr))
            return nr;
        assert_int_equal(e, ERR_OK);
        for (size_t i = 0; i < r.records_nr; i++) {
            struct message m;
            assert_int_equal(message_decode(records[i].record, &m), ERR_OK);
            if (span_eq(m.device, span_str(device))) {
                last = m;
                nr++;
            }
        }
        r.pos.from = STREAM_SEQ;
        r.pos.value = r.next_seq;
        if (nr && r.records_nr < 64)
            return nr;
    }
}
static inline struct span last_prop(const char *name)
{
    struct span at = last.props;
    struct message_prop p;
    while (message_prop_next(&at, &p))
        if (span_eq(p.name, span_str(name)))
            return p.value;
    return SPAN_NONE;
}

#endif
