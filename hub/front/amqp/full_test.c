/* hub/front/amqp/full_test.c - a whole dialogue of every kind of link: cut at every byte, and with every
 * operation of the store and the stream failing in turn. Nothing that was not stored is accepted, and a batch
 * is stored whole or not at all. */
#include "tests/fake/front_fake.h"

#include "tests/fake/amqp_client.h"

#include "hub/front/amqp/peer.h"

#include <setjmp.h>
#include <stddef.h>

#include <cmocka.h>

static struct amqp_front *front;
static struct client k;

static int setup(void **state)
{
    (void)state;
    fake_hub();
    assert(amqp_front_new(&front, &hub, 1) == ERR_OK);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    assert_int_equal(front->workers[0].pending, 0);
    assert_int_equal(front->workers[0].memory, 0);
    amqp_front_free(front);
    fake_hub_end();
    return 0;
}

static void turns(void)
{
    for (int i = 0; i < 8; i++) {
        fake_turns(1);
        client_hear(&k);
    }
}

static uint8_t mem[4096];
static struct span token(const char *resource, const char *policy)
{
    return client_token(mem, sizeof mem, resource, span_of(fake_key, 32), policy);
}
static struct span body(const char *s)
{
    return client_message(mem, sizeof mem, span_str(s));
}
static struct span three(void)
{
    static const struct span bodies[] = { { (const uint8_t *)"a", 1 },
                                          { (const uint8_t *)"bb", 2 },
                                          { (const uint8_t *)"ccc", 3 } };
    return client_batch(mem, sizeof mem, bodies, 3);
}
static struct span request(const char *operation)
{
    struct wr w = { mem, sizeof mem, 0 };
    amqp_section_begin(&w, AMQP_MESSAGE_ANNOTATIONS);
    size_t at = amqp_map_begin(&w);
    amqp_put_symbol(&w, SPAN("operation"));
    amqp_put_string(&w, span_str(operation));
    amqp_map_end(&w, at, 2);
    amqp_properties_encode(
        &w, &(struct amqp_properties){ .correlation_id = { .type = AMQP_STRING, .bytes = SPAN("c") } });
    amqp_data_head(&w, 2);
    wr_str(&w, "{}");
    return wr_span(&w);
}
static struct span command(void)
{
    struct wr w = { mem, sizeof mem, 0 };
    amqp_properties_encode(&w, &(struct amqp_properties){ .to = SPAN("/devices/d1/messages/devicebound") });
    amqp_data_head(&w, 1);
    wr_str(&w, "x");
    return wr_span(&w);
}

static void login(bool device, bool policy)
{
    client_init(&k, fake_open(worker, &amqp_proto, front));
    struct amqp_link *put = client_sender(&k, "$cbs"), *answers = client_receiver(&k, "$cbs");
    client_credit(&k, answers, 10);
    if (device) {
        client_send(&k, put, token("hub.example.net/devices/d1", ""), 0);
        turns();
    }
    if (policy) {
        client_send(&k, put, token("hub.example.net", "owner"), 0);
        turns();
    }
}

/* One word of everything there is. What the hub does not let it do it leaves out. */
static void dialogue(void)
{
    static const char *const out[] = { "/devices/d1/messages/devicebound",
                                       "/devices/d1/methods/devicebound",
                                       "/devices/d1/twin",
                                       "/messages/serviceBound/feedback",
                                       "/messages/serviceBound/filenotifications",
                                       "hub/$management",
                                       "hub/ConsumerGroups/$Default/Partitions/1" };
    login(true, true);
    struct amqp_link *events = client_sender(&k, "/devices/d1/messages/events");
    struct amqp_link *twin = client_sender(&k, "/devices/d1/twin");
    struct amqp_link *send = client_sender(&k, "/messages/devicebound");
    struct amqp_link *asks = client_sender(&k, "$management");
    for (size_t i = 0; i < sizeof out / sizeof *out; i++) {
        struct amqp_link *l = client_receiver(&k, out[i]);
        turns();
        client_credit(&k, l, 3);
        turns();
    }
    if (events->credit) {
        client_send(&k, events, body("x"), 0);
        client_send(&k, events, three(), 0x80013700u);
    }
    if (twin->credit)
        client_send(&k, twin, request("GET"), 0);
    if (send->credit)
        client_send(&k, send, command(), 0);
    if (asks->credit)
        client_send(&k, asks, request("READ"), 0);
    turns();
}

static void test_telemetry_that_finds_no_room_is_rejected(void **state)
{
    (void)state;
    login(true, false);
    struct amqp_link *l = client_sender(&k, "/devices/d1/messages/events");
    client_send(&k, l, body("x"), 0);
    turns();
    assert_int_equal(fake.stored, 1);
    k.log[0] = 0;
    fake.fail = 1;
    client_send(&k, l, body("x"), 0);
    client_send(&k, l, three(), 0x80013700u);
    turns();
    assert_string_equal(k.log,
                        "rejected:amqp:resource-limit-exceeded rejected:amqp:resource-limit-exceeded ");
    assert_int_equal(fake.stored, 1);
    assert_int_equal(front->workers[0].pending, 0);
    fake.fail = 0; /* there is room again: it works by itself */
    k.log[0] = 0;
    fake.appends = 0;
    client_send(&k, l, three(), 0x80013700u);
    turns();
    assert_string_equal(k.log, "accepted ");
    assert_int_equal(fake.stored, 4);
    assert_int_equal(fake.appends, 1); /* whole or not at all, also when the power fails */
    client_fini(&k);
}

static void test_a_batch_with_one_bad_message_is_not_taken(void **state)
{
    static const struct span good = { (const uint8_t *)"a", 1 };
    uint8_t one[64];
    (void)state;
    login(true, false);
    struct amqp_link *l = client_sender(&k, "/devices/d1/messages/events");
    struct wr w = { mem, sizeof mem, 0 };
    for (int i = 0; i < 3; i++) {
        struct span m = i == 2 ? SPAN("no message") : client_message(one, sizeof one, good);
        amqp_data_head(&w, m.n);
        wr_put(&w, m);
    }
    k.log[0] = 0;
    client_send(&k, l, wr_span(&w), 0x80013700u);
    turns();
    assert_string_equal(k.log, "rejected:amqp:decode-error ");
    assert_int_equal(fake.stored, 0);
    client_fini(&k);
}

static void test_a_token_that_cannot_be_looked_up_is_not_wrong(void **state)
{
    (void)state;
    fake.fail = 1;
    login(true, false);
    assert_int_equal(client_status(&k), 500);
    client_fini(&k);
    fake.fail = 0;
    login(true, false);
    assert_int_equal(client_status(&k), 200);
    client_fini(&k);
}

static void test_every_operation_fails_in_turn(void **state)
{
    (void)state;
    dialogue();
    assert_false(k.c->closing);
    assert_int_equal(fake.stored, 4);
    assert_non_null(strstr(k.log, "got:/messages/serviceBound/feedback "));
    assert_non_null(strstr(k.log, "got:/messages/serviceBound/filenotifications "));
    assert_non_null(strstr(k.log, "got:/devices/d1/messages/devicebound "));
    assert_non_null(strstr(k.log, "got:/devices/d1/twin "));
    assert_non_null(strstr(k.log, "got:hub/$management "));
    assert_non_null(strstr(k.log, "got:hub/ConsumerGroups/$Default/Partitions/1 "));
    unsigned all = 0;
    client_fini(&k);
    for (unsigned every = 1; every < 40; every++) {
        memset(&fake, 0, sizeof fake);
        access_forget(hub.access, SPAN("d1"));
        access_forget_policy(hub.access, SPAN("owner"));
        fake.fail = every;
        dialogue();
        all += fake.stored == 4;
        assert_true(fake.stored == 0 || fake.stored == 1 || fake.stored == 3 || fake.stored == 4);
        client_fini(&k);
        turns();
        assert_int_equal(front->workers[0].pending, 0);
    }
    assert_true(all > 0 && all < 39);
}

/* How many frames of each kind the hub said; flows depend on how much came at once. */
static void count_frames(const struct conn *c, unsigned counts[256])
{
    struct span s = span_of(c->out, c->out_len);
    memset(counts, 0, 256 * sizeof *counts);
    while (s.n) {
        struct amqp_frame f;
        size_t used = AMQP_HEADER_LEN;
        if (s.p[0] != 'A') {
            assert_int_equal(amqp_frame_decode(s, 65536, &f, &used), ERR_OK);
            counts[f.code] += f.code != AMQP_FLOW;
        }
        s = span_skip(s, used);
    }
}

static void again(const uint8_t *said, size_t len, size_t cut, unsigned counts[256])
{
    memset(&fake, 0, sizeof fake);
    struct conn *c = fake_open(worker, &amqp_proto, front);
    fake_feed(c, span_of(said, cut));
    for (int i = 0; i < 2; i++) {
        worker_turn(worker, 0);
        fake_turn_end();
    }
    fake_feed(c, span_of(said + cut, len - cut));
    for (int i = 0; i < 60; i++) {
        worker_turn(worker, 0);
        fake_turn_end();
    }
    assert_false(c->closed);
    assert_int_equal(fake.stored, 4);
    count_frames(c, counts);
    fake_drop(c);
    worker_turn(worker, 0);
}

static void test_every_cut_says_the_same(void **state)
{
    static uint8_t said[CLIENT_SAID];
    unsigned whole[256], cut[256];
    (void)state;
    dialogue();
    size_t len = k.said_len;
    memcpy(said, k.said, len);
    client_fini(&k);
    turns();
    again(said, len, 0, whole);
    assert_true(whole[AMQP_TRANSFER] > 6 && whole[AMQP_DISPOSITION] > 4 && whole[AMQP_ATTACH] == 13);
    for (size_t n = 1; n < len; n++) {
        again(said, len, n, cut);
        assert_memory_equal(cut, whole, sizeof whole);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_telemetry_that_finds_no_room_is_rejected),
        T(test_a_batch_with_one_bad_message_is_not_taken),
        T(test_a_token_that_cannot_be_looked_up_is_not_wrong),
        T(test_every_operation_fails_in_turn),
        T(test_every_cut_says_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
