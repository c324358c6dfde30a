/* hub/store/c2d_suite.c - what every backend has to pass about messages to devices: order, depth, counts,
 * expiry. */
#include "hub/store/store_fixture.h"

#include <stdio.h>
#include <stdlib.h>

struct send {
    const char *device; /* NULL: the fleet */
    const char *body;
    uint64_t expires_ms, seq;
    size_t depth;
};

static enum err do_send(struct store_tx *t, void *ctx)
{
    struct send *s = ctx;
    struct c2d_row r = { .device = span_str(s->device),
                         .enqueued_ms = 10,
                         .expires_ms = s->expires_ms,
                         .ack = C2D_ACK_FULL,
                         .message_id = SPAN("m"),
                         .props = SPAN("p"),
                         .body = span_str(s->body) };
    return s->device ? tx_c2d_push(t, &r, s->depth ? s->depth : 50, &s->seq)
                     : tx_broadcast_push(t, &r, &s->seq);
}

static uint64_t send_to(const char *device, const char *body)
{
    struct send s = { .device = device, .body = body };
    W(do_send, &s);
    return s.seq;
}

static enum err each_body(void *ctx, const struct c2d_row *r)
{
    struct text *x = ctx;
    assert_int_equal(r->ack, C2D_ACK_FULL);
    same(r->message_id, "m");
    same(r->props, "p");
    assert_int_equal(r->enqueued_ms, 10);
    text_add(x, r->body);
    return x->stop_with;
}

struct queue {
    const char *device;
    uint64_t after, after_bcast;
    size_t limit;
    const char *want;
};

static enum err check_queue(struct store_tx *t, void *ctx)
{
    struct queue *q = ctx;
    struct text x = { .n = 0 };
    OK(tx_c2d_list(t, span_str(q->device), q->after, q->after_bcast, q->limit, each_body, &x));
    assert_string_equal(x.p, q->want);
    return ERR_OK;
}
#define QUEUE(device, want) R(check_queue, &((struct queue){ device, 0, 0, 100, want }))

struct settle {
    const char *device;
    bool broadcast;
    uint64_t seq;
    uint32_t deliveries;
};

static enum err do_settle(struct store_tx *t, void *ctx)
{
    struct settle *s = ctx;
    return tx_c2d_settle(t, span_str(s->device), s->broadcast, s->seq);
}

static enum err do_deliver(struct store_tx *t, void *ctx)
{
    struct settle *s = ctx;
    return tx_c2d_delivered(t, span_str(s->device), s->broadcast, s->seq, &s->deliveries);
}
#define SETTLE(device, broadcast, seq) W(do_settle, &((struct settle){ device, broadcast, seq, 0 }))
#define GONE(device, broadcast, seq)                                                                         \
    assert_int_equal(store_write_wait(S, do_settle, &((struct settle){ device, broadcast, seq, 0 })),        \
                     ERR_NOTFOUND)

static void test_a_queue_keeps_its_order(void **state)
{
    (void)state;
    W(make_devices, ((const char *[]){ "d1", "d2", NULL }));
    uint64_t a = send_to("d1", "a"), b = send_to("d1", "b"), c = send_to("d1", "c");
    assert_true(a < b && b < c);
    send_to("d2", "x");
    QUEUE("d1", "a,b,c,");
    QUEUE("d2", "x,");
    QUEUE("d3", "");
    R(check_queue, &((struct queue){ "d1", a, 0, 100, "b,c," }));
    R(check_queue, &((struct queue){ "d1", 0, 0, 2, "a,b," }));
    SETTLE("d1", false, b);
    GONE("d1", false, b);
    GONE("d2", false, a); /* another device's message */
    reopen();
    QUEUE("d1", "a,c,");
    SETTLE("d1", false, c);
    uint64_t d = send_to("d1", "d");
    assert_true(d > c); /* a number is never given twice, else a session would overlook the new one */
    reopen();
    SETTLE("d1", false, d);
    assert_true(send_to("d1", "e") > d);
}

static void test_a_queue_has_a_depth(void **state)
{
    (void)state;
    W(make_devices, ((const char *[]){ "d1", NULL }));
    for (int i = 0; i < 50; i++)
        send_to("d1", "x");
    struct send s = { .device = "d1", .body = "y" };
    assert_int_equal(store_write_wait(S, do_send, &s), ERR_LIMIT);
    s.device = "nobody";
    assert_int_equal(store_write_wait(S, do_send, &s), ERR_NOTFOUND);
    assert_int_equal(s.seq, 0);
}

static void test_deliveries_are_counted(void **state)
{
    (void)state;
    W(make_devices, ((const char *[]){ "d1", "d2", NULL }));
    struct settle own = { "d1", false, send_to("d1", "a"), 0 };
    struct settle all = { "d1", true, send_to(NULL, "b"), 0 };
    for (uint32_t i = 1; i <= 3; i++) {
        W(do_deliver, &own);
        W(do_deliver, &all);
        assert_int_equal(own.deliveries, i);
        assert_int_equal(all.deliveries, i);
        reopen();
    }
    struct settle other = { "d2", true, all.seq, 0 };
    W(do_deliver, &other);
    assert_int_equal(other.deliveries, 1);
    QUEUE("d1", "a,b,");
    SETTLE("d1", true, all.seq);
    assert_int_equal(store_write_wait(S, do_deliver, &all), ERR_NOTFOUND);
    other = (struct settle){ "d2", false, own.seq, 0 };
    assert_int_equal(store_write_wait(S, do_deliver, &other), ERR_NOTFOUND);
}

static enum err check_count(struct store_tx *t, void *ctx)
{
    struct settle *s = ctx;
    uint64_t nr;
    enum err e = tx_c2d_count(t, span_str(s->device), &nr);
    if (!e)
        assert_int_equal(nr, s->deliveries);
    return e;
}
#define COUNT(device, nr) R(check_count, &((struct settle){ device, false, 0, nr }))

static void test_a_broadcast_reaches_who_is_there(void **state)
{
    (void)state;
    W(make_devices, ((const char *[]){ "d1", "d2", NULL }));
    send_to("d1", "own1");
    uint64_t b1 = send_to(NULL, "all1"), b2 = send_to(NULL, "all2");
    W(make_devices, ((const char *[]){ "late", NULL }));
    send_to("d1", "own2");
    uint64_t b3 = send_to(NULL, "all3");
    QUEUE("d1", "own1,all1,all2,own2,all3,");
    QUEUE("d2", "all1,all2,all3,");
    QUEUE("late", "all3,");
    R(check_queue, &((struct queue){ "d2", 0, b1, 100, "all2,all3," }));
    R(check_queue, &((struct queue){ "d2", 0, 0, 1, "all1," }));
    COUNT("d1", 5);
    COUNT("late", 1);
    assert_int_equal(store_read_wait(S, check_count, &((struct settle){ "nobody", false, 0, 0 })),
                     ERR_NOTFOUND);
    SETTLE("d1", true, b2); /* out of order: a mark */
    GONE("d1", true, b2);
    QUEUE("d1", "own1,all1,own2,all3,");
    SETTLE("d1", true, b1); /* the gap closes: the cursor moves over both */
    GONE("d1", true, b1);
    GONE("d1", true, b2);
    QUEUE("d1", "own1,own2,all3,");
    reopen();
    QUEUE("d1", "own1,own2,all3,");
    QUEUE("d2", "all1,all2,all3,");
    GONE("late", true, b1);
    SETTLE("late", true, b3);
    QUEUE("late", "");
    COUNT("late", 0);
    send_to(NULL, "all4");
    QUEUE("late", "all4,");
    assert_int_equal(store_write_wait(S, do_settle, &((struct settle){ "nobody", true, b3, 0 })),
                     ERR_NOTFOUND);
}

static enum err many_broadcasts(struct store_tx *t, void *ctx)
{
    size_t *nr = ctx;
    struct c2d_row r = { .body = SPAN("x") };
    uint64_t seq;
    enum err e;
    while (!(e = tx_broadcast_push(t, &r, &seq)))
        ++*nr;
    return e == ERR_LIMIT ? ERR_OK : e;
}

static void test_broadcasts_have_a_cap(void **state)
{
    size_t nr = 0;
    (void)state;
    W(many_broadcasts, &nr);
    assert_int_equal(nr, 1000);
}

struct expiry {
    uint64_t now_ms;
    size_t limit;
    struct text got;
    struct store_tx *t;
};

static enum err each_expired(void *ctx, const struct c2d_row *r)
{
    struct expiry *x = ctx;
    /* What the domain does here: it writes the feedback. */
    struct feedback_row f = { .at_ms = 1,
                              .device = r->device,
                              .message_id = r->message_id,
                              .outcome = SPAN("Expired"),
                              .broadcast_seq = r->broadcast ? r->seq : 0 };
    OK(tx_feedback_push(x->t, &f));
    text_add(&x->got, r->body);
    text_add(&x->got, r->device);
    return ERR_OK;
}

static enum err do_expire(struct store_tx *t, void *ctx)
{
    struct expiry *x = ctx;
    x->t = t;
    return tx_c2d_expire(t, x->now_ms, x->limit, each_expired, x);
}

static enum err each_feedback(void *ctx, const struct feedback_row *r)
{
    text_add(ctx, r->outcome);
    text_add(ctx, r->device);
    return ERR_OK;
}

static enum err check_feedback(struct store_tx *t, void *ctx)
{
    struct text x = { .n = 0 };
    OK(tx_feedback_list(t, 1, 2, each_feedback, &x));
    assert_string_equal(x.p, ctx);
    return ERR_OK;
}

static void test_messages_expire(void **state)
{
    (void)state;
    W(make_devices, ((const char *[]){ "d1", "d2", NULL }));
    W(do_send, &((struct send){ "d1", "later", 200, 0, 0 }));
    W(do_send, &((struct send){ "d1", "never", 0, 0, 0 }));
    W(do_send, &((struct send){ "d2", "first", 100, 0, 0 }));
    W(do_send, &((struct send){ "d1", "second", 101, 0, 0 }));
    struct send all = { NULL, "all", 100, 0, 0 };
    W(do_send, &all);
    struct expiry x = { .now_ms = 99, .limit = 10 };
    W(do_expire, &x);
    assert_int_equal(x.got.n, 0);
    x = (struct expiry){ .now_ms = 101, .limit = 1 };
    W(do_expire, &x);
    assert_string_equal(x.got.p, "first,d2,");
    x = (struct expiry){ .now_ms = 101, .limit = 10 };
    W(do_expire, &x);
    assert_string_equal(x.got.p, "second,d1,all,,");
    QUEUE("d1", "later,never,");
    GONE("d1", true, all.seq);
    R(check_feedback, "Expired,d1,Expired,,");
    /* A device that settled nothing goes on from there. */
    send_to(NULL, "next");
    QUEUE("d2", "next,");
}

static enum err delete_device(struct store_tx *t, void *ctx)
{
    return tx_device_delete(t, span_str(ctx));
}

static enum err put_sessions(struct store_tx *t, void *ctx)
{
    static const char *const ids[] = { "d1", "d1/m", "d1/", "d10", "d2/m" };
    struct report_row rep = { .device = SPAN("d1"), .connected = true };
    struct deployment_row dep = { .device = SPAN("d1"), .campaign = SPAN("c"), .release = SPAN("r") };
    (void)ctx;
    for (size_t i = 0; i < 5; i++) {
        struct session_row r = { .id = span_str(ids[i]), .channels = (uint32_t)i + 1 };
        OK(tx_session_put(t, &r));
        OK(tx_session_put(t, &r));
    }
    OK(tx_report_put(t, &rep));
    OK(tx_deployment_put(t, &dep));
    return ERR_OK;
}

static enum err check_sessions(struct store_tx *t, void *ctx)
{
    static const char *const ids[] = { "d1", "d1/m", "d1/", "d10", "d2/m" };
    const char *want = ctx;
    struct session_row r;
    struct report_row rep;
    struct deployment_row dep;
    for (size_t i = 0; i < 5; i++) {
        enum err e = tx_session_get(t, span_str(ids[i]), &r);
        assert_int_equal(e, want[i] == '1' ? ERR_OK : ERR_NOTFOUND);
        if (!e)
            assert_int_equal(r.channels, i + 1);
    }
    assert_int_equal(tx_report_get(t, SPAN("d1"), &rep), want[0] == '1' ? ERR_OK : ERR_NOTFOUND);
    assert_int_equal(tx_deployment_get(t, SPAN("d1"), SPAN("c"), &dep),
                     want[0] == '1' ? ERR_OK : ERR_NOTFOUND);
    return ERR_OK;
}

static enum err drop_session(struct store_tx *t, void *ctx)
{
    return tx_session_delete(t, span_str(ctx));
}

static void test_deleting_a_device_takes_all_that_hangs_on_it(void **state)
{
    (void)state;
    W(make_devices, ((const char *[]){ "d1", "d10", "d2", NULL }));
    W(put_sessions, NULL);
    R(check_sessions, "11111");
    send_to("d1", "own");
    send_to("d10", "ten");
    uint64_t b = send_to(NULL, "all");
    W(do_deliver, &((struct settle){ "d1", true, b, 0 }));
    W(delete_device, "d1");
    R(check_sessions, "00011");
    QUEUE("d1", "");
    W(make_devices, ((const char *[]){ "d1", NULL }));
    QUEUE("d1", ""); /* it is another device now */
    QUEUE("d10", "ten,all,");
    W(drop_session, "d10");
    R(check_sessions, "00001");
}

int store_suite_c2d(const struct store_suite *how)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_queue_keeps_its_order),
        T(test_a_queue_has_a_depth),
        T(test_deliveries_are_counted),
        T(test_a_broadcast_reaches_who_is_there),
        T(test_broadcasts_have_a_cap),
        T(test_messages_expire),
        T(test_deleting_a_device_takes_all_that_hangs_on_it),
    };
#undef T
    store_fixture_use(how);
    return cmocka_run_group_tests_name("store c2d", tests, NULL, NULL);
}
