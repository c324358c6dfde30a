/* hub/domain/message/c2d_test.c - the queue rules on the real store: depth, size, order, expiry, delivery
 * count, feedback, broadcast. */
#include "tests/fake/hub_fixture.h"

#include "core/bag/bag.h"
#include "hub/domain/message/c2d_settle.h"

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
    fixture_device(&fx, "d2", DEVICE_ENABLED);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    fixture_fini(&fx);
    return 0;
}

static struct c2d_send sent;

static enum err send_message(const struct c2d_message *m)
{
    memset(&sent, 0, sizeof sent);
    sent.hub = &fx.hub;
    sent.message = m;
    fixture_prepare(&fx, &sent.store.op);
    c2d_send_start(&sent);
    return fixture_wait(&fx, &sent.store.op);
}
static enum err send_text(const char *device, const char *id, const char *body, uint8_t ack)
{
    return send_message(&(struct c2d_message){
        .device = span_str(device), .message_id = span_str(id), .body = span_str(body), .ack = ack });
}

static struct c2d_list list;

/* The caller frees it with c2d_list_fini. */
static void list_from(const char *device, uint64_t after_seq, uint64_t after_bcast)
{
    memset(&list, 0, sizeof list);
    list.hub = &fx.hub;
    list.device = span_str(device);
    list.after_seq = after_seq;
    list.after_bcast = after_bcast;
    list.items_max = C2D_BATCH_MAX;
    fixture_prepare(&fx, &list.store.op);
    c2d_list_start(&list);
    assert_int_equal(fixture_wait(&fx, &list.store.op), ERR_OK);
}
static size_t waiting(const char *device)
{
    size_t nr = 0;
    uint64_t seq = 0, bcast = 0;
    do {
        list_from(device, seq, bcast);
        seq = list.after_seq;
        bcast = list.after_bcast;
        nr += list.items_nr;
        c2d_list_fini(&list);
    } while (list.more);
    return nr;
}

static enum err nothing(struct store_tx *tx, void *ctx)
{
    (void)tx;
    (void)ctx;
    return ERR_OK;
}
static void writer_is_done(void) /* with everything that was handed over before */
{
    assert_int_equal(fixture_tx(&fx, nothing, NULL), ERR_OK);
}

struct outcome {
    char device[2 * DEVICE_ID_MAX + 2], id[16], text[32];
    uint64_t broadcast_seq;
};
static struct outcome outcomes[32];
static size_t outcomes_nr;

static enum err outcome_each(void *ctx, const struct feedback_row *r)
{
    struct outcome *o = &outcomes[outcomes_nr++];
    (void)ctx;
    snprintf(o->device, sizeof o->device, "%.*s", (int)r->device.n, (const char *)r->device.p);
    snprintf(o->id, sizeof o->id, "%.*s", (int)r->message_id.n, (const char *)r->message_id.p);
    snprintf(o->text, sizeof o->text, "%.*s", (int)r->outcome.n, (const char *)r->outcome.p);
    o->broadcast_seq = r->broadcast_seq;
    return ERR_OK;
}
static enum err outcomes_run(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return tx_feedback_list(tx, 0, 32, outcome_each, NULL);
}
static void outcomes_read(void)
{
    outcomes_nr = 0;
    assert_int_equal(fixture_tx(&fx, outcomes_run, NULL), ERR_OK);
}

static void test_order_and_properties(void **state)
{
    struct c2d_prop props[] = { { SPAN("a b"), SPAN("c/d") }, { SPAN("none"), SPAN("") } };
    struct c2d_message m = { .device = SPAN("d1"),
                             .message_id = SPAN("m1"),
                             .correlation_id = SPAN("c1"),
                             .content_type = SPAN("application/json"),
                             .ack = C2D_ACK_FULL,
                             .props = props,
                             .props_nr = 2,
                             .body = SPAN("one") };
    (void)state;
    assert_int_equal(send_message(&m), ERR_OK);
    assert_true(sent.seq > 0 && sent.expires_ms > fixture_wall_ms());
    assert_int_equal(send_text("d1", "m2", "two", C2D_ACK_NONE), ERR_OK);
    assert_int_equal(send_text("d2", "m3", "of another", C2D_ACK_NONE), ERR_OK);
    list_from("d1", 0, 0);
    assert_int_equal(list.items_nr, 2);
    assert_true(span_eq(list.items[0].body, SPAN("one")) && span_eq(list.items[1].body, SPAN("two")));
    assert_true(
        span_eq(list.items[0].props, SPAN("%24.mid=m1&%24.cid=c1&%24.ct=application%2Fjson&iothub-ack=full"
                                          "&a%20b=c%2Fd")));
    assert_int_equal(list.items[0].ack, C2D_ACK_FULL);
    assert_int_equal(list.items[0].deliveries, 0);
    assert_false(list.more);
    c2d_list_fini(&list);
    assert_int_equal(atomic_load(&fx.metrics.c2d_enqueued_total), 3);
}

static void test_depth_50(void **state)
{
    char id[16];
    (void)state;
    for (int i = 0; i < 50; i++) {
        snprintf(id, sizeof id, "m%d", i);
        assert_int_equal(send_text("d1", id, "x", C2D_ACK_NONE), ERR_OK);
    }
    assert_int_equal(send_text("d1", "m50", "x", C2D_ACK_NONE), ERR_FULL);
    assert_true(sent.queue_full);
    assert_int_equal(send_text("d2", "m50", "x", C2D_ACK_NONE), ERR_OK); /* only that device is full */
    assert_int_equal(waiting("d1"), 50);
    list_from("d1", 0, 0);
    assert_int_equal(list.items_nr, C2D_BATCH_MAX);
    assert_true(list.more);
    struct c2d_ref ref = { list.items[0].seq, false, C2D_ACK_NONE };
    c2d_list_fini(&list);
    c2d_complete(&fx.hub, SPAN("d1"), &ref, 1);
    writer_is_done();
    assert_int_equal(send_text("d1", "m50", "x", C2D_ACK_NONE), ERR_OK);
    assert_int_equal(send_text("d1", "m51", "x", C2D_ACK_NONE), ERR_FULL);
    assert_int_equal(atomic_load(&fx.metrics.c2d_refused_total), 2);
}

static void test_what_is_refused(void **state)
{
    static uint8_t big[C2D_SIZE_MAX + 1];
    struct c2d_message m = { .device = SPAN("d1"), .body = span_of(big, C2D_SIZE_MAX) };
    (void)state;
    assert_int_equal(send_message(&m), ERR_OK);
    m.body.n++;
    assert_int_equal(send_message(&m), ERR_LIMIT);
    m.body.n = C2D_SIZE_MAX - 3; /* names and values count */
    struct c2d_prop p = { SPAN("ab"), SPAN("cd") };
    m.props = &p;
    m.props_nr = 1;
    assert_int_equal(send_message(&m), ERR_LIMIT);
    m.body = SPAN("x");
    memset(big, ' ', 30000); /* each byte is three in a topic */
    p.value = span_of(big, 30000);
    assert_int_equal(send_message(&m), ERR_LIMIT);
    p = (struct c2d_prop){ SPAN(""), SPAN("v") };
    assert_int_equal(send_message(&m), ERR_PROTO);
    p = (struct c2d_prop){ SPAN("$.mid"), SPAN("v") };
    assert_int_equal(send_message(&m), ERR_PROTO);
    p = (struct c2d_prop){ SPAN("iothub-ack"), SPAN("full") };
    assert_int_equal(send_message(&m), ERR_PROTO);
    m.props_nr = 0;
    m.expires_ms = fixture_wall_ms() + 172800000 + 60000;
    assert_int_equal(send_message(&m), ERR_PROTO);
    m.expires_ms = 0;
    m.device = SPAN("nobody");
    assert_int_equal(send_message(&m), ERR_NOTFOUND);
}

static void test_delivery_count(void **state)
{
    (void)state;
    assert_int_equal(send_text("d1", "m1", "poison", C2D_ACK_NEGATIVE), ERR_OK);
    assert_int_equal(send_text("d1", "m2", "good", C2D_ACK_NONE), ERR_OK);
    for (unsigned i = 0; i < 10; i++) {
        list_from("d1", 0, 0);
        assert_int_equal(list.items_nr, 2);
        assert_int_equal(list.items[0].deliveries, i);
        struct c2d_ref ref = { list.items[0].seq, false, list.items[0].ack };
        c2d_list_fini(&list);
        c2d_delivered(&fx.hub, SPAN("d1"), &ref, 1);
        writer_is_done();
    }
    list_from("d1", 0, 0); /* the eleventh time it is given up, and the next one gets through */
    assert_int_equal(list.items_nr, 1);
    assert_true(span_eq(list.items[0].body, SPAN("good")));
    c2d_list_fini(&list);
    writer_is_done();
    assert_int_equal(waiting("d1"), 1);
    outcomes_read();
    assert_int_equal(outcomes_nr, 1);
    assert_string_equal(outcomes[0].id, "m1");
    assert_string_equal(outcomes[0].text, "DeliveryCountExceeded");
    assert_int_equal(atomic_load(&fx.metrics.c2d_dead_total), 1);
    assert_int_equal(atomic_load(&fx.metrics.c2d_delivered_total), 10);
}

static void test_expiry_in_the_list_and_by_the_sweep(void **state)
{
    struct c2d_message m = { .device = SPAN("d1"),
                             .message_id = SPAN("soon"),
                             .expires_ms = fixture_wall_ms() + 5000,
                             .ack = C2D_ACK_FULL,
                             .body = SPAN("x") };
    (void)state;
    assert_int_equal(send_message(&m), ERR_OK);
    assert_int_equal(send_text("d1", "later", "y", C2D_ACK_FULL), ERR_OK);
    m.device = SPAN("d2");
    assert_int_equal(send_message(&m), ERR_OK);
    assert_int_equal(waiting("d1"), 2);
    fixture_clock_offset_ms = 6000;
    list_from("d1", 0, 0);
    assert_int_equal(list.items_nr, 1);
    assert_true(span_eq(list.items[0].body, SPAN("y")));
    c2d_list_fini(&list);
    writer_is_done();
    outcomes_read();
    assert_int_equal(outcomes_nr, 1);
    assert_string_equal(outcomes[0].text, "Expired");
    assert_string_equal(outcomes[0].device, "d1");
    c2d_sweep(&fx.hub); /* the one of d2, which nobody lists */
    while (atomic_load(&fx.hub.c2d_sweeping))
        writer_is_done();
    outcomes_read();
    assert_int_equal(outcomes_nr, 2);
    assert_string_equal(outcomes[1].device, "d2");
    assert_string_equal(outcomes[1].id, "soon");
    assert_int_equal(atomic_load(&fx.metrics.c2d_expired_total), 2);
    assert_int_equal(waiting("d2"), 0);
}

static enum err put_module(struct store_tx *tx, void *ctx)
{
    return tx_module_put(tx, ctx, 0, NULL);
}
static void test_the_sweep_names_the_longest_identity(void **state)
{
    char name[2 * DEVICE_ID_MAX + 2];
    (void)state;
    memset(name, 'd', sizeof name - 1);
    name[sizeof name - 1] = name[DEVICE_ID_MAX] = 0;
    fixture_device(&fx, name, DEVICE_ENABLED);
    struct module_row row = { .device = span_of(name, DEVICE_ID_MAX),
                              .id = span_of(name + DEVICE_ID_MAX + 1, DEVICE_ID_MAX),
                              .generation = SPAN("77") };
    assert_int_equal(fixture_tx(&fx, put_module, &row), ERR_OK);
    name[DEVICE_ID_MAX] = '/';
    struct c2d_message m = { .device = span_str(name),
                             .message_id = SPAN("late"),
                             .expires_ms = fixture_wall_ms() + 5000,
                             .ack = C2D_ACK_FULL };
    assert_int_equal(send_message(&m), ERR_OK);
    fixture_clock_offset_ms += 6000;
    c2d_sweep(&fx.hub);
    while (atomic_load(&fx.hub.c2d_sweeping))
        writer_is_done();
    outcomes_read();
    assert_int_equal(outcomes_nr, 1);
    assert_string_equal(outcomes[0].device, name);
    assert_string_equal(outcomes[0].text, "Expired");
}

static void test_the_sweep_takes_more_than_one_round(void **state)
{
    char id[16];
    (void)state;
    fx.hub.settings.c2d_depth_max = 1000;
    for (int i = 0; i < 300; i++) {
        snprintf(id, sizeof id, "m%d", i);
        assert_int_equal(send_text("d1", id, "x", C2D_ACK_NONE), ERR_OK);
    }
    fixture_clock_offset_ms = 3601000;
    c2d_sweep(&fx.hub);
    while (atomic_load(&fx.hub.c2d_sweeping))
        writer_is_done();
    assert_int_equal(atomic_load(&fx.metrics.c2d_expired_total), 300);
}

/* done: it is off the queue, whatever comes next. */
static void test_an_end_that_somebody_waits_for(void **state)
{
    struct c2d_end_op o = { .hub = &fx.hub, .device = SPAN("d1"), .end = C2D_REJECTED };
    (void)state;
    assert_int_equal(send_text("d1", "first", "x", C2D_ACK_FULL), ERR_OK);
    o.ref = (struct c2d_ref){ sent.seq, false, C2D_ACK_FULL };
    assert_int_equal(send_text("d1", "second", "y", C2D_ACK_FULL), ERR_OK);
    for (int again = 0; again < 2; again++) {
        fixture_prepare(&fx, &o.store.op);
        c2d_end_start(&o);
        assert_int_equal(fixture_wait(&fx, &o.store.op), again ? ERR_NOTFOUND : ERR_OK);
        assert_int_equal(waiting("d1"), 1);
    }
    outcomes_read();
    assert_int_equal(outcomes_nr, 1);
    assert_string_equal(outcomes[0].id, "first");
    assert_string_equal(outcomes[0].text, "Rejected");
}

static void test_positive_feedback_only_when_asked(void **state)
{
    (void)state;
    const uint8_t acks[] = { C2D_ACK_NONE, C2D_ACK_POSITIVE, C2D_ACK_NEGATIVE, C2D_ACK_FULL };
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(send_text("d1", i == 1 ? "pos" : i == 3 ? "full" : "no", "x", acks[i]), ERR_OK);
    list_from("d1", 0, 0);
    assert_int_equal(list.items_nr, 4);
    struct c2d_ref refs[4];
    for (size_t i = 0; i < 4; i++)
        refs[i] = (struct c2d_ref){ list.items[i].seq, false, list.items[i].ack };
    c2d_list_fini(&list);
    c2d_complete(&fx.hub, SPAN("d1"), refs, 4);
    c2d_complete(&fx.hub, SPAN("d1"), refs, 4); /* a second PUBACK changes nothing */
    writer_is_done();
    outcomes_read();
    assert_int_equal(outcomes_nr, 2);
    assert_string_equal(outcomes[0].id, "pos");
    assert_string_equal(outcomes[1].id, "full");
    assert_string_equal(outcomes[1].text, "Success");
    assert_int_equal(atomic_load(&fx.metrics.c2d_completed_total), 4);
}

static void test_broadcast_is_in_everybodys_queue(void **state)
{
    struct c2d_message m = { .message_id = SPAN("b1"), .ack = C2D_ACK_POSITIVE, .body = SPAN("all") };
    (void)state;
    assert_int_equal(send_text("d1", "m1", "before", C2D_ACK_NONE), ERR_OK);
    assert_int_equal(send_message(&m), ERR_OK);
    uint64_t bcast = sent.seq;
    assert_int_equal(send_text("d1", "m2", "after", C2D_ACK_NONE), ERR_OK);
    list_from("d1", 0, 0);
    assert_int_equal(list.items_nr, 3);
    assert_true(list.items[1].broadcast && list.items[1].seq == bcast);
    assert_true(span_eq(list.items[1].body, SPAN("all")));
    assert_int_equal(list.after_bcast, bcast);
    c2d_list_fini(&list);
    c2d_complete(&fx.hub, SPAN("d1"), &(struct c2d_ref){ bcast, true, C2D_ACK_POSITIVE }, 1);
    writer_is_done();
    assert_int_equal(waiting("d1"), 2);
    assert_int_equal(waiting("d2"), 1); /* the other one's view is its own */
    outcomes_read();
    assert_int_equal(outcomes_nr, 1);
    assert_string_equal(outcomes[0].device, "d1");
    assert_int_equal(outcomes[0].broadcast_seq, bcast);
}

static enum err count_run(struct store_tx *tx, void *ctx)
{
    return tx_broadcast_get(tx, sent.seq, ctx);
}
static struct broadcast_row counted(void)
{
    struct broadcast_row r = { 0 };
    assert_int_equal(fixture_tx(&fx, count_run, &r), ERR_OK);
    return r;
}

/* However a device ends with a broadcast, it is counted there and nowhere else. */
static void test_a_broadcast_is_counted(void **state)
{
    struct c2d_message m = { .message_id = SPAN("b1"), .body = SPAN("all") };
    (void)state;
    assert_int_equal(send_message(&m), ERR_OK);
    struct c2d_ref ref = { sent.seq, true, C2D_ACK_NONE };
    uint64_t all = counted().devices;
    assert_true(all >= 2);
    assert_int_equal(counted().pending, all);
    c2d_complete(&fx.hub, SPAN("d1"), &ref, 1);
    c2d_complete(&fx.hub, SPAN("d1"), &ref, 1); /* a second PUBACK changes nothing */
    c2d_reject(&fx.hub, SPAN("d2"), &ref, 1);
    c2d_complete(&fx.hub, SPAN("d2"), &ref, 1);
    writer_is_done();
    assert_int_equal(counted().ended[BROADCAST_DELIVERED], 1);
    assert_int_equal(counted().ended[BROADCAST_REJECTED], 1);
    assert_int_equal(counted().pending, all - 2);
    assert_int_equal(waiting("d1"), 0);
}

static enum err purge_run(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return c2d_purge(&fx.hub, tx, SPAN("d1"));
}
static void test_purge(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        assert_int_equal(send_text("d1", "m", "x", i ? C2D_ACK_NONE : C2D_ACK_NEGATIVE), ERR_OK);
    assert_int_equal(send_message(&(struct c2d_message){ .body = SPAN("all") }), ERR_OK);
    assert_int_equal(fixture_tx(&fx, purge_run, NULL), ERR_OK);
    assert_int_equal(waiting("d1"), 0);
    assert_int_equal(waiting("d2"), 1);
    outcomes_read();
    assert_int_equal(outcomes_nr, 1);
    assert_string_equal(outcomes[0].text, "Purged");
}

/* A connection right after another one: what that one was told to write counts, committed or not. */
static void test_an_ordered_list_sees_what_was_handed_over(void **state)
{
    (void)state;
    assert_int_equal(send_text("d1", "m1", "one", C2D_ACK_NONE), ERR_OK);
    struct c2d_ref first = { sent.seq, false, 0 };
    assert_int_equal(send_text("d1", "m2", "two", C2D_ACK_NONE), ERR_OK);
    struct c2d_ref second = { sent.seq, false, 0 };
    c2d_delivered(&fx.hub, SPAN("d1"), &second, 1);
    c2d_complete(&fx.hub, SPAN("d1"), &first, 1);
    memset(&list, 0, sizeof list);
    list.hub = &fx.hub;
    list.device = SPAN("d1");
    list.items_max = 1;
    list.ordered = true;
    fixture_prepare(&fx, &list.store.op);
    c2d_list_start(&list);
    assert_int_equal(fixture_wait(&fx, &list.store.op), ERR_OK);
    assert_int_equal(list.items_nr, 1);
    assert_true(span_eq(list.items[0].body, SPAN("two")));
    assert_int_equal(list.items[0].deliveries, 1);
    c2d_list_fini(&list);
}

static void test_messages_survive_a_restart(void **state)
{
    (void)state;
    assert_int_equal(send_text("d1", "m1", "kept", C2D_ACK_NONE), ERR_OK);
    list_from("d1", 0, 0);
    struct c2d_ref ref = { list.items[0].seq, false, 0 };
    c2d_list_fini(&list);
    c2d_delivered(&fx.hub, SPAN("d1"), &ref, 1);
    fixture_shut(&fx);
    fixture_open(&fx);
    list_from("d1", 0, 0);
    assert_int_equal(list.items_nr, 1);
    assert_int_equal(list.items[0].deliveries, 1);
    assert_true(span_eq(list.items[0].body, SPAN("kept")));
    c2d_list_fini(&list);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_order_and_properties),
        T(test_depth_50),
        T(test_what_is_refused),
        T(test_delivery_count),
        T(test_expiry_in_the_list_and_by_the_sweep),
        T(test_the_sweep_names_the_longest_identity),
        T(test_the_sweep_takes_more_than_one_round),
        T(test_an_end_that_somebody_waits_for),
        T(test_positive_feedback_only_when_asked),

        T(test_a_broadcast_is_counted),
        T(test_broadcast_is_in_everybodys_queue),
        T(test_purge),
        T(test_an_ordered_list_sees_what_was_handed_over),
        T(test_messages_survive_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
