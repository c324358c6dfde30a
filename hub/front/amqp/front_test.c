/* hub/front/amqp/front_test.c - the front on the real store, stream and bus, with a client whose clock stands
 * still: who is told of what, who may do what when something changes behind a token, peers that do not read.
 */
#define FIXTURE_STREAM
#include "tests/fake/conn_fake.h"
#include "tests/fake/hub_fixture.h"

#include "tests/fake/amqp_client.h"

#include "base/log.h"
#include "hub/domain/message/c2d.h"
#include "hub/domain/message/feedback.h"
#include "hub/domain/message/receivers.h"
#include "hub/domain/twin/twin.h"
#include "hub/front/amqp/peer.h"

#include <setjmp.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;
static struct worker *worker;
static struct amqp_front *front;
static struct client one, two;
static uint8_t mem[4096];

static int setup(void **state)
{
    (void)state;
    log_init(LOG_LEVEL_ERROR, stderr);
    fixture_init(&fx);
    assert(worker_new(&worker, 0) == ERR_OK);
    assert(amqp_front_new(&front, &fx.hub, 1) == ERR_OK);
    bus_register(fx.hub.bus, 0, worker_mailbox(worker), fake_on_bus_wake, worker);
    bus_on_messages(fx.hub.bus, 0, fake_on_bus_message);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    fixture_device(&fx, "d2", DEVICE_ENABLED);
    fixture_policy(&fx, "service", ACCESS_SERVICE_CONNECT);
    return 0;
}
static int teardown(void **state)
{
    char cmd[96];
    (void)state;
    for (unsigned i = 0; i < FAKE_CONNS; i++)
        if (fake_conns[i].used)
            fake_drop(&fake_conns[i]);
    bus_stop(fx.hub.bus);
    worker_turn(worker, 0);
    fixture_shut(&fx);
    for (int i = 0; i < 3; i++) /* what came home meanwhile */
        worker_turn(worker, 0);
    assert_int_equal(front->workers[0].pending, 0);
    assert_int_equal(front->workers[0].memory, 0);
    amqp_front_free(front);
    worker_free(worker);
    mailbox_fini(&fx.mail);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", fx.dir);
    return system(cmd);
}

static void turn(void)
{
    worker_turn(worker, 20);
    fake_turn_end();
    client_hear(&one);
    client_hear(&two);
}
#define UNTIL(cond)                                                                                          \
    do {                                                                                                     \
        for (int until_i = 0; !(cond); until_i++) {                                                          \
            assert_true(until_i < 2000);                                                                     \
            turn();                                                                                          \
        }                                                                                                    \
    } while (0)

static enum err nothing(struct store_tx *tx, void *ctx)
{
    (void)tx;
    (void)ctx;
    return ERR_OK;
}
/* Everything handed to the store has run, and what followed from it. */
static void settle(void)
{
    for (int i = 0; i < 4; i++) {
        assert_int_equal(fixture_tx(&fx, nothing, NULL), ERR_OK);
        turn();
    }
}

static void put_token(struct client *k, const char *resource, const uint8_t key[32], const char *policy)
{
    static struct amqp_link *put;
    static const struct client *of;
    if (of != k || !k->deliveries) {
        put = client_sender(k, "$cbs");
        client_credit(k, client_receiver(k, "$cbs"), 10);
        of = k;
    }
    uint32_t nr = k->deliveries;
    client_send(k, put, client_token(mem, sizeof mem, resource, span_of(key, 32), policy), 0);
    UNTIL(k->deliveries > nr);
}
static void dial(struct client *k)
{
    client_init(k, fake_open(worker, &amqp_proto, front));
}
static void device_dials(struct client *k)
{
    dial(k);
    put_token(k, "hub.example.net/devices/d1", fixture_key1, "");
    assert_int_equal(client_status(k), 200);
}
static void service_dials(struct client *k)
{
    dial(k);
    put_token(k, "hub.example.net", fixture_key1, "service");
    assert_int_equal(client_status(k), 200);
}
static struct amqp_link *receives(struct client *k, const char *address, uint32_t credit)
{
    struct amqp_link *l = client_receiver(k, address);
    client_credit(k, l, credit);
    return l;
}
static void fini(void)
{
    client_fini(&one);
    if (two.c)
        client_fini(&two);
    memset(&two, 0, sizeof two);
}

/* ---- who waits is told ------------------------------------------------------------------------------ */

static enum err note_push(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    enum err e = tx_file_note_push(tx, &(struct file_note_row){ .device = SPAN("d1"),
                                                                .blob = SPAN("d1/f"),
                                                                .uri = SPAN("https://h/d1/f"),
                                                                .length = 3,
                                                                .enqueued_ms = fixture_wall_ms() });
    return e ? e : receivers_tell(&fx.hub, tx, RECEIVERS_FILES);
}
static enum err record_push(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return feedback_push(&fx.hub, tx,
                         &(struct feedback_row){ .at_ms = fixture_wall_ms(),
                                                 .device = SPAN("d1"),
                                                 .message_id = SPAN("m"),
                                                 .outcome = SPAN("Success") });
}

/* Timers do not fire here: whoever hears of it was told. */
static void test_receivers_of_files_are_told(void **state)
{
    (void)state;
    service_dials(&one);
    service_dials(&two);
    receives(&one, "/messages/serviceBound/filenotifications", 5);
    receives(&two, "/messages/serviceBound/filenotifications", 5);
    settle();
    uint32_t nr = one.deliveries + two.deliveries;
    assert_int_equal(fixture_tx(&fx, note_push, NULL), ERR_OK);
    UNTIL(one.deliveries + two.deliveries > nr);
    settle();
    assert_int_equal(one.deliveries + two.deliveries, nr + 1); /* one of them */
    struct client *has = strstr(one.log, "got:/messages/serviceBound/filenotifications") ? &one : &two,
                  *other = has == &one ? &two : &one;
    assert_true(span_starts(client_data(has), SPAN("{\"deviceId\":\"d1\",\"blobUri\":\"https://h/d1/f\"")));
    nr = other->deliveries;
    fake_drop(has->c); /* what it had goes to the other, which is told again */
    has->c = NULL;
    UNTIL(other->deliveries > nr);
    client_settle(other, AMQP_ACCEPTED);
    settle();
    assert_int_equal(fixture_tx(&fx, note_push, NULL), ERR_OK);
    UNTIL(other->deliveries > nr + 1);
    fini();
}

static void test_receivers_of_feedback_are_told_and_gather(void **state)
{
    (void)state;
    service_dials(&one);
    receives(&one, "/messages/serviceBound/feedback", 5);
    settle();
    uint64_t slow = one.c->armed_ms, now = worker_now_ms(worker);
    assert_true(slow >= now + 3000);
    uint32_t nr = one.deliveries;
    assert_int_equal(fixture_tx(&fx, record_push, NULL), ERR_OK);
    UNTIL(one.c->armed_ms < slow); /* told: soon, for there may be more */
    assert_int_equal(fixture_tx(&fx, record_push, NULL), ERR_OK);
    UNTIL(worker_now_ms(worker) >= one.c->armed_ms);
    one.c->proto->on_timer(one.c);
    UNTIL(one.deliveries > nr);
    settle();
    assert_int_equal(one.deliveries, nr + 1); /* both in one */
    client_settle(&one, AMQP_RELEASED);
    UNTIL(one.deliveries > nr + 1); /* and again */
    client_settle(&one, AMQP_ACCEPTED);
    settle();
    fini();
}

/* ---- what changes behind a token -------------------------------------------------------------------- */

static void test_a_device_disabled_between_token_and_link(void **state)
{
    (void)state;
    device_dials(&one);
    fixture_device(&fx, "d1", DEVICE_DISABLED); /* nobody is there to be told */
    one.log[0] = 0;
    client_sender(&one, "/devices/d1/messages/events");
    UNTIL(strstr(one.log, "detached:/devices/d1/messages/events:amqp:unauthorized-access"));
    fini();
}

static void test_a_newer_connection_takes_the_links(void **state)
{
    (void)state;
    device_dials(&one);
    client_sender(&one, "/devices/d1/messages/events");
    settle();
    device_dials(&two);
    client_sender(&two, "/devices/d1/messages/events");
    UNTIL(strstr(one.log, "detached:/devices/d1/messages/events:com.microsoft:link-creation-conflict"));
    assert_null(strstr(two.log, "detached"));
    fini();
}

static void test_links_of_others_are_refused(void **state)
{
    static const char *const not_ours[] = {
        "/devices/d2/messages/events",
        "/devices/D1/messages/events",
        "/devices/d1/modules/m/messages/events",
        "/messages/devicebound",
        "$management",
        "hub/ConsumerGroups/$Default/Partitions/0",
        "/messages/serviceBound/feedback",
        "/nothing",
    };
    (void)state;
    device_dials(&one);
    for (size_t i = 0; i < sizeof not_ours / sizeof *not_ours; i++) {
        one.log[0] = 0;
        client_sender(&one, not_ours[i]);
        settle();
        assert_non_null(strstr(one.log, "refused:"));
    }
    assert_false(bus_is_attached(fx.hub.bus, SPAN("d2")));
    fini();
}

/* ---- peers that do not read, or never settle ------------------------------------------------------------
 */

static void send_c2d(int nr)
{
    for (int i = 0; i < nr; i++) {
        struct c2d_message m = { .device = SPAN("d1"), .body = SPAN("command") };
        struct c2d_send s = { .hub = &fx.hub, .message = &m };
        fixture_prepare(&fx, &s.store.op);
        c2d_send_start(&s);
        assert_int_equal(fixture_wait(&fx, &s.store.op), ERR_OK);
    }
}

static void test_who_does_not_read_gets_nothing_more(void **state)
{
    (void)state;
    device_dials(&one);
    receives(&one, "/devices/d1/messages/devicebound", 50);
    settle();
    uint32_t nr = one.deliveries;
    one.c->unsent = PEER_UNSENT_MAX + 1;
    send_c2d(3);
    settle();
    assert_int_equal(one.deliveries, nr);
    one.c->unsent = 0;
    one.c->drained_due = true;
    UNTIL(one.deliveries == nr + 3);
    fini();
}

/* resource: NULL leaves it out */
static struct span twin_ask(const char *operation, const char *resource)
{
    struct wr w = { mem, sizeof mem, 0 };
    amqp_section_begin(&w, AMQP_MESSAGE_ANNOTATIONS);
    size_t at = amqp_map_begin(&w);
    amqp_put_symbol(&w, SPAN("operation"));
    amqp_put_string(&w, span_str(operation));
    if (resource) {
        amqp_put_symbol(&w, SPAN("resource"));
        amqp_put_string(&w, span_str(resource));
    }
    amqp_map_end(&w, at, resource ? 4 : 2);
    amqp_section_begin(&w, AMQP_VALUE);
    amqp_put_null(&w);
    return wr_span(&w);
}

/* Answers wait for credit; a peer that never gives any and asks on is closed. */
static void test_answers_that_nobody_takes_are_capped(void **state)
{
    (void)state;
    device_dials(&one);
    struct amqp_link *ask = client_sender(&one, "/devices/d1/twin");
    client_receiver(&one, "/devices/d1/twin");
    settle();
    unsigned asked = 0;
    for (; asked < 2 * PEER_OUTBOX_MAX && !one.c->closing; asked++) {
        UNTIL(ask->credit || one.c->closing);
        if (!one.c->closing)
            client_send(&one, ask, twin_ask("GET", NULL), 0);
        settle();
    }
    assert_true(one.c->closing);
    assert_true(asked > PEER_OUTBOX_MAX && asked < 2 * PEER_OUTBOX_MAX);
    fini();
}

/* ---- news of desired properties that found no room ------------------------------------------------------
 */

struct desired {
    const char *id, *section;
};
static enum err desired_tx(struct store_tx *tx, void *ctx)
{
    struct arena a;
    struct twin_patch p;
    struct twin t;
    struct twin_fault f;
    struct twin_if any = { 0 };
    const struct desired *d = ctx;
    char body[200];
    snprintf(body, sizeof body, "{\"properties\":{\"desired\":%s}}", d->section);
    arena_init(&a, 1 << 20);
    enum err e = twin_service_patch(&a, span_str(body), false, &p, &f);
    if (!e)
        e = twin_update(&fx.hub, tx, &a, span_str(d->id), &p, &any, &t, &f);
    arena_fini(&a);
    return e;
}
static void desired(const char *id, const char *section)
{
    struct desired d = { id, section };
    assert_int_equal(fixture_tx(&fx, desired_tx, &d), ERR_OK);
}

/* The device waits for news of its desired properties. */
static struct amqp_link *subscribes(struct client *k, const char *address)
{
    struct amqp_link *ask = client_sender(k, address);
    receives(k, address, 100);
    settle();
    UNTIL(ask->credit);
    uint32_t nr = k->deliveries;
    client_send(k, ask, twin_ask("PUT", "/notifications/twin/properties/desired"), 0);
    UNTIL(k->deliveries == nr + 1);
    return ask;
}

/* What is on its way to the worker is as much as may be. */
static void fill_bus(void)
{
    enum err e;
    while (!(e = bus_post(fx.hub.bus, SPAN("d2"), BUS_TWIN, SPAN("x"))))
        ;
    assert_int_equal(e, ERR_FULL);
}
/* All of it has been delivered: what is posted last comes last. */
static void empty_bus(void)
{
    while (bus_post(fx.hub.bus, SPAN("d2"), BUS_TWIN, SPAN("x")) == ERR_FULL)
        turn();
    settle();
    uint32_t nr = two.deliveries;
    desired("d2", "{\"a\":1}"); /* there is room for it */
    UNTIL(two.deliveries > nr);
}
static bool told(const char *section)
{
    return span_eq(client_data(&one), span_str(section));
}

/* They are not lost until the device comes again: it is told once all that is there, and then what is new. */
static void test_desired_properties_that_found_no_room_are_told(void **state)
{
    (void)state;
    device_dials(&one);
    dial(&two);
    put_token(&two, "hub.example.net/devices/d2", fixture_key1, "");
    subscribes(&two, "/devices/d2/twin");
    struct amqp_link *ask = subscribes(&one, "/devices/d1/twin");
    uint32_t nr = one.deliveries - 1;
    desired("d1", "{\"a\":1,\"b\":1}");
    UNTIL(one.deliveries == nr + 2);
    assert_true(told("{\"a\":1,\"b\":1,\"$version\":2}"));
    fill_bus();
    desired("d1", "{\"a\":2}");
    desired("d1", "{\"c\":3}");
    UNTIL(one.deliveries == nr + 3);
    assert_true(told("{\"a\":2,\"b\":1,\"c\":3,\"$version\":4}"));
    empty_bus();
    settle();
    assert_int_equal(one.deliveries, nr + 3); /* once for both */
    desired("d1", "{\"a\":4}");
    UNTIL(one.deliveries == nr + 4);
    assert_true(told("{\"a\":4,\"$version\":5}"));
    /* who has taken its subscription back is told nothing, by either way */
    client_send(&one, ask, twin_ask("DELETE", "/notifications/twin/properties/desired"), 0);
    UNTIL(one.deliveries == nr + 5);
    fill_bus();
    desired("d1", "{\"a\":5}");
    empty_bus();
    settle();
    assert_int_equal(one.deliveries, nr + 5);
    fini();
}

/* A device that vanishes while its desired properties are being read leaves nothing behind. */
static void test_a_peer_that_vanishes_while_it_is_read_for(void **state)
{
    (void)state;
    device_dials(&one);
    dial(&two);
    put_token(&two, "hub.example.net/devices/d2", fixture_key1, "");
    subscribes(&two, "/devices/d2/twin");
    subscribes(&one, "/devices/d1/twin");
    fill_bus();
    desired("d1", "{\"a\":1}");
    worker_turn(worker, 0); /* woken: it has asked the store */
    client_fini(&one);
    assert_false(bus_is_attached(fx.hub.bus, SPAN("d1")));
    empty_bus();
    settle();
    client_fini(&two);
    memset(&one, 0, sizeof one);
    memset(&two, 0, sizeof two);
}

/* What was under way when the peer vanished comes home to nobody. */
static void test_a_peer_that_vanishes_leaves_nothing(void **state)
{
    static const char *const links[] = { "/devices/d1/messages/devicebound", "/devices/d1/twin",
                                         "/devices/d1/methods/devicebound" };
    (void)state;
    for (int i = 0; i < 3; i++) {
        device_dials(&one);
        struct amqp_link *l = client_sender(&one, "/devices/d1/messages/events");
        for (size_t n = 0; n < sizeof links / sizeof *links; n++)
            receives(&one, links[n], 10);
        client_send(&one, l, client_message(mem, sizeof mem, SPAN("x")), 0);
        client_fini(&one);
        settle();
        assert_false(bus_is_attached(fx.hub.bus, SPAN("d1")));
    }
    memset(&one, 0, sizeof one);
}

static void test_an_idle_connection_owns_little(void **state)
{
    (void)state;
    device_dials(&one);
    client_sender(&one, "/devices/d1/messages/events");
    receives(&one, "/devices/d1/messages/devicebound", 10);
    settle();
    const struct peer *p = peer_of(one.c);
    size_t links = 0;
    for (const struct list *n = p->links.next; n != &p->links; n = n->next)
        links++;
    assert_int_equal(links, 4);
    assert_int_equal(one.c->in_len, 0);
    assert_true(p->engine.memory <= 2048);
    assert_true(sizeof *p + p->engine.memory + links * (sizeof(struct peer_link) + 64) +
                    sizeof(struct grant) <=
                4096);
    fini();
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_receivers_of_files_are_told),
        T(test_receivers_of_feedback_are_told_and_gather),
        T(test_a_device_disabled_between_token_and_link),
        T(test_a_newer_connection_takes_the_links),
        T(test_links_of_others_are_refused),
        T(test_who_does_not_read_gets_nothing_more),
        T(test_answers_that_nobody_takes_are_capped),
        T(test_desired_properties_that_found_no_room_are_told),
        T(test_a_peer_that_vanishes_while_it_is_read_for),
        T(test_a_peer_that_vanishes_leaves_nothing),
        T(test_an_idle_connection_owns_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
