/* hub/store/store_suite.c - the tests that every backend of the store passes. */
#include "hub/store/store_fixture.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- rows ------------------------------------------------------------------------------------------ */

static struct device_row device_named(const char *id)
{
    return (struct device_row){ .id = span_str(id),
                                .key1 = SPAN("one"),
                                .key2 = SPAN("two"),
                                .generation = SPAN("g1"),
                                .created_ms = 5,
                                .product = SPAN("lamp"),
                                .hw_class = 3,
                                .hw_rev = 2,
                                .origin = SPAN("operator") };
}

/* ctx: a NULL-terminated array of ids. */
static enum err make_devices(struct store_tx *t, void *ctx)
{
    for (const char **id = ctx; *id; id++) {
        struct device_row r = device_named(*id);
        enum err e = tx_device_put(t, &r, UINT64_MAX, NULL);
        if (e)
            return e;
    }
    return ERR_OK;
}

/* What a listing yields, as one text: "id,id,". */
static enum err each_device(void *ctx, const struct device_row *r)
{
    text_add(ctx, r->id);
    return ((struct text *)ctx)->stop_with;
}

/* ---- devices --------------------------------------------------------------------------------------- */

static enum err check_device(struct store_tx *t, void *ctx)
{
    struct device_row r;
    (void)ctx;
    OK(tx_device_get(t, SPAN("d1"), &r));
    same(r.id, "d1");
    same(r.key1, "one");
    same(r.key2, "two");
    same(r.public_key, "");
    same(r.generation, "g1");
    same(r.product, "lamp");
    same(r.origin, "operator");
    assert_int_equal(r.etag, 1);
    assert_int_equal(r.hw_class, 3);
    assert_int_equal(r.hw_rev, 2);
    assert_int_equal(r.created_ms, 5);
    assert_int_equal(r.status, DEVICE_ENABLED);
    assert_false(r.issued_unused);
    assert_int_equal(tx_device_get(t, SPAN("d"), &r), ERR_NOTFOUND);
    return ERR_OK;
}

static void test_a_device_is_kept(void **state)
{
    (void)state;
    W(make_devices, ((const char *[]){ "d1", NULL }));
    R(check_device, NULL);
    W(check_device, NULL);
    reopen();
    R(check_device, NULL);
}

static enum err etags(struct store_tx *t, void *ctx)
{
    struct device_row r;
    uint64_t etag = 0;
    (void)ctx;
    OK(tx_device_get(t, SPAN("d1"), &r));
    r.status = DEVICE_DISABLED;
    assert_int_equal(tx_device_put(t, &r, UINT64_MAX, &etag), ERR_EXISTS);
    assert_int_equal(tx_device_put(t, &r, 7, &etag), ERR_STALE);
    assert_int_equal(etag, 0);
    OK(tx_device_put(t, &r, 1, &etag)); /* with the spans of the row that get returned */
    assert_int_equal(etag, 2);
    OK(tx_device_put(t, &r, 0, &etag));
    assert_int_equal(etag, 3);
    OK(tx_device_get(t, SPAN("d1"), &r));
    assert_int_equal(r.etag, 3);
    assert_int_equal(r.status, DEVICE_DISABLED);
    same(r.key2, "two");
    r = device_named("d9");
    assert_int_equal(tx_device_put(t, &r, 1, &etag), ERR_STALE); /* not there: no etag matches */
    return ERR_OK;
}

static void test_etags_guard_a_device(void **state)
{
    (void)state;
    W(make_devices, ((const char *[]){ "d1", NULL }));
    W(etags, NULL);
}

static enum err by_public_key(struct store_tx *t, void *ctx)
{
    struct device_row r = device_named("k1");
    (void)ctx;
    r.public_key = SPAN("0123456789abcdef0123456789abcdef");
    r.issued_unused = true;
    OK(tx_device_put(t, &r, 0, NULL));
    r.id = SPAN("k2");
    assert_int_equal(tx_device_put(t, &r, 0, NULL), ERR_EXISTS);
    OK(tx_device_by_public_key(t, SPAN("0123456789abcdef0123456789abcdef"), &r));
    same(r.id, "k1");
    assert_true(r.issued_unused);
    assert_int_equal(tx_device_by_public_key(t, SPAN("x"), &r), ERR_NOTFOUND);
    return ERR_OK;
}

static void test_a_public_key_names_one_device(void **state)
{
    (void)state;
    W(by_public_key, NULL);
}

static enum err statuses(struct store_tx *t, void *ctx)
{
    static const struct {
        const char *id;
        uint8_t status;
    } some[] = { { "b", DEVICE_PENDING },  { "a", DEVICE_ENABLED }, { "c", DEVICE_DISABLED },
                 { "a/", DEVICE_ENABLED }, { "B", DEVICE_PENDING }, { "ab", DEVICE_ENABLED } };
    (void)ctx;
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        struct device_row r = device_named(some[i].id);
        r.status = some[i].status;
        OK(tx_device_put(t, &r, 0, NULL));
    }
    return ERR_OK;
}

struct listing {
    const char *after;
    size_t limit;
    int status;
    const char *want;
};

static enum err check_listing(struct store_tx *t, void *ctx)
{
    struct listing *l = ctx;
    struct text x = { .n = 0 };
    OK(tx_device_list(t, span_str(l->after), l->limit, l->status, each_device, &x));
    assert_string_equal(x.p, l->want);
    return ERR_OK;
}

static enum err check_counts(struct store_tx *t, void *ctx)
{
    uint64_t nr[3], *want = ctx;
    OK(tx_device_count(t, nr));
    assert_memory_equal(nr, want, sizeof nr);
    return ERR_OK;
}

static enum err change_statuses(struct store_tx *t, void *ctx)
{
    struct device_row r;
    (void)ctx;
    OK(tx_device_get(t, SPAN("b"), &r));
    r.status = DEVICE_ENABLED;
    OK(tx_device_put(t, &r, 0, NULL));
    OK(tx_device_delete(t, SPAN("c")));
    assert_int_equal(tx_device_delete(t, SPAN("c")), ERR_NOTFOUND);
    return ERR_OK;
}

static enum err stop_early(struct store_tx *t, void *ctx)
{
    struct text x = { .stop_with = ERR_LIMIT };
    (void)ctx;
    assert_int_equal(tx_device_list(t, SPAN_NONE, 10, -1, each_device, &x), ERR_LIMIT);
    assert_string_equal(x.p, "B,");
    return ERR_OK;
}

static void test_devices_are_listed_and_counted(void **state)
{
    (void)state;
    W(statuses, NULL);
    R(check_listing, &((struct listing){ "", 100, -1, "B,a,a/,ab,b,c," }));
    R(check_listing, &((struct listing){ "a", 2, -1, "a/,ab," }));
    R(check_listing, &((struct listing){ "", 100, DEVICE_ENABLED, "a,a/,ab," }));
    R(check_listing, &((struct listing){ "", 100, DEVICE_PENDING, "B,b," }));
    R(check_listing, &((struct listing){ "B", 100, DEVICE_PENDING, "b," }));
    R(check_listing, &((struct listing){ "", 100, DEVICE_DISABLED, "c," }));
    R(check_listing, &((struct listing){ "c", 100, -1, "" }));
    R(check_counts, ((uint64_t[]){ 3, 1, 2 }));
    R(stop_early, NULL);
    W(change_statuses, NULL);
    R(check_counts, ((uint64_t[]){ 4, 0, 1 }));
    R(check_listing, &((struct listing){ "", 100, DEVICE_PENDING, "B," }));
}

/* A listing inside a listing of the same kind, and writes below it. */
static enum err each_outer(void *ctx, const struct device_row *r)
{
    struct store_tx *t = ctx;
    struct text x = { .n = 0 };
    struct device_row mine = *r;
    OK(tx_device_list(t, SPAN_NONE, 100, -1, each_device, &x));
    assert_string_equal(x.p, "d1,d2,d3,");
    mine.status = DEVICE_DISABLED;
    OK(tx_device_put(t, &mine, 0, NULL));
    return ERR_OK;
}

static enum err nest(struct store_tx *t, void *ctx)
{
    (void)ctx;
    return tx_device_list(t, SPAN_NONE, 100, -1, each_outer, t);
}

static void test_listings_nest(void **state)
{
    (void)state;
    W(make_devices, ((const char *[]){ "d1", "d2", "d3", NULL }));
    W(nest, NULL);
    R(check_counts, ((uint64_t[]){ 0, 3, 0 }));
}

/* ---- messages to devices --------------------------------------------------------------------------- */

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

/* ---- the other tables ------------------------------------------------------------------------------ */

static enum err put_reports(struct store_tx *t, void *ctx)
{
    struct report_row r = { .device = SPAN("d1"),
                            .report = SPAN("bytes"),
                            .report_seq = 7,
                            .boot_id = UINT64_MAX,
                            .reported_ms = 9,
                            .running = SPAN("rel"),
                            .connected = true,
                            .activity_ms = 11 };
    (void)ctx;
    OK(tx_report_put(t, &r));
    OK(tx_report_set_connected(t, SPAN("d2"), true, 12));
    OK(tx_report_set_connected(t, SPAN("d3"), true, 12));
    OK(tx_report_set_connected(t, SPAN("d3"), false, 13));
    return ERR_OK;
}

static enum err check_reports(struct store_tx *t, void *ctx)
{
    const bool *connected = ctx;
    struct report_row r;
    OK(tx_report_get(t, SPAN("d1"), &r));
    same(r.report, "bytes");
    same(r.running, "rel");
    assert_int_equal(r.report_seq, 7);
    assert_true(r.boot_id == UINT64_MAX);
    assert_int_equal(r.reported_ms, 9);
    assert_int_equal(r.activity_ms, 11);
    assert_int_equal(r.connected, connected[0]);
    OK(tx_report_get(t, SPAN("d2"), &r));
    assert_int_equal(r.connected, connected[1]);
    assert_int_equal(r.report.n, 0);
    OK(tx_report_get(t, SPAN("d3"), &r));
    assert_int_equal(r.connected, connected[2]);
    assert_int_equal(r.activity_ms, 13);
    return ERR_OK;
}

static enum err clear_connected(struct store_tx *t, void *ctx)
{
    (void)ctx;
    OK(tx_report_clear_connected(t, 13));
    return tx_report_set_connected(t, SPAN("d2"), true, 14);
}

static void test_connections_end_with_the_hub(void **state)
{
    (void)state;
    W(put_reports, NULL);
    R(check_reports, ((bool[]){ true, true, false }));
    W(clear_connected, NULL);
    R(check_reports, ((bool[]){ false, true, false }));
}

static enum err each_token(void *ctx, const struct token_row *r)
{
    text_add(ctx, r->name);
    return ERR_OK;
}

static enum err each_policy(void *ctx, const struct policy_row *r)
{
    text_add(ctx, r->name);
    return ERR_OK;
}

static enum err small_tables(struct store_tx *t, void *ctx)
{
    struct token_row tok = { .name = SPAN("t1"),
                             .hash = SPAN("h1"),
                             .hardware = SPAN("lamp:1"),
                             .created_ms = 1,
                             .expires_ms = 2,
                             .uses_left = UINT64_MAX };
    struct policy_row pol = { .name = SPAN("service"), .key1 = SPAN("k1"), .key2 = SPAN("k2"), .rights = 4 };
    struct artifact_row art = { .root = SPAN("root"),
                                .payload_sha256 = SPAN("p"),
                                .tree_sha256 = SPAN("t"),
                                .payload_len = 10,
                                .tree_len = 20 };
    struct text x = { .n = 0 };
    struct span val;
    (void)ctx;
    OK(tx_token_put(t, &tok));
    tok.name = SPAN("t2");
    assert_int_equal(tx_token_put(t, &tok), ERR_EXISTS); /* the same hash */
    tok.hash = SPAN("h2");
    tok.uses_left = 3;
    OK(tx_token_put(t, &tok));
    tok.uses_left = 2;
    OK(tx_token_put(t, &tok));
    OK(tx_token_get(t, SPAN("h2"), &tok));
    same(tok.name, "t2");
    same(tok.hardware, "lamp:1");
    assert_int_equal(tok.uses_left, 2);
    OK(tx_token_list(t, each_token, &x));
    OK(tx_token_get(t, SPAN("h1"), &tok));
    assert_true(tok.uses_left == UINT64_MAX);
    OK(tx_token_delete(t, SPAN("t1")));
    assert_int_equal(tx_token_delete(t, SPAN("t1")), ERR_NOTFOUND);
    assert_int_equal(tx_token_get(t, SPAN("h1"), &tok), ERR_NOTFOUND);

    OK(tx_policy_put(t, &pol));
    pol.name = SPAN("device");
    pol.rights = UINT32_MAX;
    OK(tx_policy_put(t, &pol));
    OK(tx_policy_get(t, SPAN("device"), &pol));
    assert_true(pol.rights == UINT32_MAX);
    same(pol.key2, "k2");
    OK(tx_policy_list(t, each_policy, &x));
    assert_string_equal(x.p, "t1,t2,device,service,");

    OK(tx_meta_put(t, SPAN("k"), SPAN("v\0w")));
    OK(tx_meta_get(t, SPAN("k"), &val));
    assert_true(span_eq(val, SPAN("v\0w")));
    OK(tx_meta_put(t, SPAN("k"), SPAN_NONE));
    OK(tx_meta_get(t, SPAN("k"), &val));
    assert_int_equal(val.n, 0);
    assert_int_equal(tx_meta_get(t, SPAN("K"), &val), ERR_NOTFOUND);

    assert_int_equal(tx_trust_get(t, 0, &val), ERR_NOTFOUND);
    OK(tx_trust_put(t, 2, SPAN("two")));
    OK(tx_trust_put(t, 1, SPAN("one")));
    assert_int_equal(tx_trust_put(t, 2, SPAN("other")), ERR_EXISTS);
    OK(tx_trust_get(t, 0, &val));
    same(val, "two");
    OK(tx_trust_get(t, 1, &val));
    same(val, "one");
    assert_int_equal(tx_trust_get(t, 3, &val), ERR_NOTFOUND);

    OK(tx_artifact_put(t, &art));
    OK(tx_artifact_get(t, SPAN("root"), &art));
    same(art.tree_sha256, "t");
    assert_int_equal(art.payload_len, 10);
    assert_int_equal(tx_artifact_get(t, SPAN("r"), &art), ERR_NOTFOUND);
    return ERR_OK;
}

static void test_small_tables(void **state)
{
    (void)state;
    W(small_tables, NULL);
}

static enum err each_release(void *ctx, const struct release_row *r)
{
    text_add(ctx, r->version);
    return ERR_OK;
}

static enum err each_campaign(void *ctx, const struct campaign_row *r)
{
    text_add(ctx, r->version);
    return ERR_OK;
}

static enum err each_deployment(void *ctx, const struct deployment_row *r)
{
    text_add(ctx, r->device);
    text_add(ctx, r->campaign);
    return ERR_OK;
}

static enum err releases(struct store_tx *t, void *ctx)
{
    struct release_row rel = { .id = SPAN("r1"),
                               .product = SPAN("lamp"),
                               .version = SPAN("1.0"),
                               .hw_class = 65535,
                               .hw_rev_min = 1,
                               .hw_rev_max = 255,
                               .release_seq = UINT32_MAX,
                               .created_ms = 3,
                               .envelope = SPAN("env") };
    struct campaign_row cam = { .id = SPAN("c1"),
                                .version = SPAN("1.0"),
                                .releases = SPAN("r1r2"),
                                .all = true,
                                .state = CAMPAIGN_RUNNING,
                                .created_ms = 4,
                                .created_by = SPAN("me") };
    struct text x = { .n = 0 };
    (void)ctx;
    OK(tx_release_put(t, &rel));
    rel.id = SPAN("r0");
    rel.version = SPAN("1.1");
    OK(tx_release_put(t, &rel));
    OK(tx_release_put(t, &rel));
    OK(tx_release_list(t, each_release, &x));
    OK(tx_release_get(t, SPAN("r1"), &rel));
    same(rel.envelope, "env");
    assert_int_equal(rel.hw_class, 65535);
    assert_int_equal(rel.hw_rev_max, 255);
    assert_true(rel.release_seq == UINT32_MAX);
    assert_int_equal(tx_release_get(t, SPAN("r2"), &rel), ERR_NOTFOUND);

    OK(tx_campaign_put(t, &cam));
    cam.id = SPAN("c0");
    cam.version = SPAN("1.1");
    cam.all = false;
    OK(tx_campaign_put(t, &cam));
    OK(tx_campaign_get(t, SPAN("c1"), &cam));
    assert_true(cam.all);
    same(cam.created_by, "me");
    cam.state = CAMPAIGN_SUPERSEDED;
    OK(tx_campaign_put(t, &cam));
    OK(tx_campaign_get(t, SPAN("c1"), &cam));
    assert_int_equal(cam.state, CAMPAIGN_SUPERSEDED);
    OK(tx_campaign_list(t, each_campaign, &x));
    assert_string_equal(x.p, "1.1,1.0,1.1,1.0,");
    return ERR_OK;
}

static void test_releases_and_campaigns(void **state)
{
    (void)state;
    W(releases, NULL);
}

static enum err deployments(struct store_tx *t, void *ctx)
{
    static const char *const rows[][2] = { { "d2", "c1" }, { "d1", "c1" }, { "d1", "c2" }, { "d3", "c1" } };
    struct deployment_row d = { .release = SPAN("r"),
                                .attempts = 1,
                                .reason = 2,
                                .updated_ms = 3,
                                .ticket_seq = UINT32_MAX,
                                .bytes_done = 5,
                                .bytes_total = 6 };
    struct text x = { .n = 0 };
    uint64_t nr[DEPLOYMENT_STATES];
    (void)ctx;
    for (size_t i = 0; i < 4; i++) {
        d.device = span_str(rows[i][0]);
        d.campaign = span_str(rows[i][1]);
        d.state = DEPLOYMENT_OFFERED;
        d.deadline_ms = 100 - i;
        OK(tx_deployment_put(t, &d));
    }
    OK(tx_deployment_get(t, SPAN("d3"), SPAN("c1"), &d));
    assert_true(d.ticket_seq == UINT32_MAX);
    assert_int_equal(d.deadline_ms, 97);
    assert_int_equal(d.bytes_total, 6);
    assert_int_equal(d.reason, 2);
    d.state = DEPLOYMENT_CONFIRMED;
    OK(tx_deployment_put(t, &d));
    assert_int_equal(tx_deployment_get(t, SPAN("d3"), SPAN("c2"), &d), ERR_NOTFOUND);
    OK(tx_deployment_list(t, SPAN_NONE, SPAN("c1"), SPAN("d1"), 1, each_deployment, &x));
    text_add(&x, SPAN("|"));
    OK(tx_deployment_list(t, SPAN("d1"), SPAN_NONE, SPAN_NONE, 10, each_deployment, &x));
    text_add(&x, SPAN("|"));
    OK(tx_deployment_due(t, 99, 10, each_deployment, &x));
    assert_string_equal(x.p, "d2,c1,|,d1,c2,d1,c1,|,d1,c2,d1,c1,");
    OK(tx_deployment_count(t, SPAN("c1"), nr));
    assert_int_equal(nr[DEPLOYMENT_OFFERED], 2);
    assert_int_equal(nr[DEPLOYMENT_CONFIRMED], 1);
    return ERR_OK;
}

static void test_deployments(void **state)
{
    (void)state;
    W(deployments, NULL);
}

static enum err each_audit(void *ctx, const struct audit_row *r)
{
    char n[24];
    text_add(ctx, span_of(n, (size_t)snprintf(n, sizeof n, "%llu", (unsigned long long)r->seq)));
    text_add(ctx, r->what);
    return ERR_OK;
}

static enum err audit(struct store_tx *t, void *ctx)
{
    static const char *const whats[] = { "made", "changed", "gone" };
    struct text x = { .n = 0 };
    (void)ctx;
    for (size_t i = 0; i < 3; i++) {
        struct audit_row r = { .at_ms = i,
                               .who = SPAN("me"),
                               .what = span_str(whats[i]),
                               .subject = SPAN("d1"),
                               .detail = SPAN("") };
        OK(tx_audit_push(t, &r));
    }
    OK(tx_audit_list(t, 0, 1, each_audit, &x));
    OK(tx_audit_list(t, 1, 10, each_audit, &x));
    assert_string_equal(x.p, "1,made,2,changed,3,gone,");
    return ERR_OK;
}

static void test_audit(void **state)
{
    (void)state;
    W(audit, NULL);
}

static enum err many_feedback(struct store_tx *t, void *ctx)
{
    struct feedback_row r = { .device = SPAN("d"), .message_id = SPAN("m"), .outcome = SPAN("Success") };
    (void)ctx;
    for (int i = 0; i < 100005; i++)
        OK(tx_feedback_push(t, &r));
    return ERR_OK;
}

static enum err first_feedback(void *ctx, const struct feedback_row *r)
{
    *(uint64_t *)ctx = r->seq;
    return ERR_OK;
}

static enum err check_trim(struct store_tx *t, void *ctx)
{
    uint64_t seq = 0;
    (void)ctx;
    OK(tx_feedback_list(t, 0, 1, first_feedback, &seq));
    assert_int_equal(seq, 6);
    return ERR_OK;
}

static void test_feedback_has_a_cap(void **state)
{
    (void)state;
    W(many_feedback, NULL);
    R(check_trim, NULL);
}

/* ---- transactions ---------------------------------------------------------------------------------- */

struct flight { /* many ops at once, so that they share a commit */
    struct store_op op;
    struct inflight *all;
    char id[16];
    enum err result;
};
struct inflight {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    size_t home;
};

static enum err flight_run(struct store_tx *t, struct store_op *op)
{
    struct flight *f = (struct flight *)op;
    struct device_row r = device_named(f->id);
    enum err e = tx_device_put(t, &r, UINT64_MAX, NULL);
    return e ? e : f->result; /* an error after the write: that write has to go */
}

static void flight_home(struct op *op)
{
    struct inflight *all = ((struct flight *)op)->all;
    pthread_mutex_lock(&all->lock);
    all->home++;
    pthread_cond_signal(&all->wake);
    pthread_mutex_unlock(&all->lock);
}

static void fly(struct flight *f, size_t nr)
{
    static struct inflight all = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };
    all.home = 0;
    for (size_t i = 0; i < nr; i++) {
        f[i].all = &all;
        f[i].op = (struct store_op){ .op = { .done = flight_home }, .run = flight_run };
        store_write(S, &f[i].op);
    }
    pthread_mutex_lock(&all.lock);
    while (all.home < nr)
        pthread_cond_wait(&all.wake, &all.lock);
    pthread_mutex_unlock(&all.lock);
}

static enum err device_is(struct store_tx *t, void *ctx)
{
    struct device_row r;
    return tx_device_get(t, span_str(ctx), &r);
}

static void test_an_op_that_fails_undoes_itself_alone(void **state)
{
    enum { NR = 500 };
    struct flight *f = calloc(NR, sizeof *f);
    struct store_stats st;
    (void)state;
    for (int i = 0; i < NR; i++) {
        snprintf(f[i].id, sizeof f[i].id, "f%d", i);
        f[i].result = i % 3 ? ERR_OK : ERR_DENIED;
    }
    fly(f, NR);
    for (int i = 0; i < NR; i++) {
        assert_int_equal(f[i].op.op.err, f[i].result);
        assert_int_equal(store_read_wait(S, device_is, f[i].id), i % 3 ? ERR_OK : ERR_NOTFOUND);
    }
    R(check_counts, ((uint64_t[]){ NR - (NR + 2) / 3, 0, 0 }));
    store_get_stats(S, &st);
    assert_true(st.commits > 0 && st.commits < NR); /* they shared commits */
    assert_true(st.failed >= (NR + 2) / 3);
    reopen();
    R(check_counts, ((uint64_t[]){ NR - (NR + 2) / 3, 0, 0 }));
    free(f);
}

static enum err put_then_fail(struct store_tx *t, void *ctx)
{
    struct device_row r = device_named(ctx);
    OK(tx_device_put(t, &r, 0, NULL));
    return ERR_LIMIT;
}

static void test_a_lone_op_that_fails_leaves_nothing(void **state)
{
    (void)state;
    assert_int_equal(store_write_wait(S, put_then_fail, "x1"), ERR_LIMIT);
    assert_int_equal(store_read_wait(S, device_is, "x1"), ERR_NOTFOUND);
    W(make_devices, ((const char *[]){ "x2", NULL }));
    R(device_is, "x2");
    assert_int_equal(store_read_wait(S, device_is, "x1"), ERR_NOTFOUND);
}

/* A reader keeps its snapshot and is not held up while the writer commits. */
struct snapshot {
    sem_t inside, go;
    bool before, after;
};

static enum err hold_snapshot(struct store_tx *t, void *ctx)
{
    struct snapshot *s = ctx;
    struct device_row r;
    s->before = tx_device_get(t, SPAN("s1"), &r) == ERR_OK;
    sem_post(&s->inside);
    while (sem_wait(&s->go))
        ;
    s->after = tx_device_get(t, SPAN("s1"), &r) == ERR_OK;
    return ERR_OK;
}

static void *snapshot_thread(void *ctx)
{
    R(hold_snapshot, ctx);
    return NULL;
}

static void test_a_reader_sees_one_moment(void **state)
{
    struct snapshot s = { .before = true, .after = true };
    pthread_t th;
    (void)state;
    sem_init(&s.inside, 0, 0);
    sem_init(&s.go, 0, 0);
    assert_int_equal(pthread_create(&th, NULL, snapshot_thread, &s), 0);
    while (sem_wait(&s.inside))
        ;
    W(make_devices, ((const char *[]){ "s1", NULL })); /* the reader does not hold it up */
    R(device_is, "s1");                                /* another reader sees it at once */
    sem_post(&s.go);
    pthread_join(th, NULL);
    assert_false(s.before);
    assert_false(s.after);
    sem_destroy(&s.inside);
    sem_destroy(&s.go);
}

static enum err hold_writer(struct store_tx *t, void *ctx)
{
    struct snapshot *s = ctx;
    struct device_row r = device_named("w1");
    OK(tx_device_put(t, &r, 0, NULL));
    sem_post(&s->inside);
    while (sem_wait(&s->go))
        ;
    return ERR_OK;
}

static void *writer_thread(void *ctx)
{
    W(hold_writer, ctx);
    return NULL;
}

static void test_a_reader_never_waits_for_the_writer(void **state)
{
    struct snapshot s;
    pthread_t th;
    (void)state;
    sem_init(&s.inside, 0, 0);
    sem_init(&s.go, 0, 0);
    assert_int_equal(pthread_create(&th, NULL, writer_thread, &s), 0);
    while (sem_wait(&s.inside))
        ;
    assert_int_equal(store_read_wait(S, device_is, "w1"), ERR_NOTFOUND); /* in the middle of its op */
    sem_post(&s.go);
    pthread_join(th, NULL);
    R(device_is, "w1");
    sem_destroy(&s.inside);
    sem_destroy(&s.go);
}

static void test_closing_finishes_what_was_handed_over(void **state)
{
    enum { NR = 64 };
    struct flight *f = calloc(NR, sizeof *f);
    struct inflight all = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };
    (void)state;
    for (size_t i = 0; i < NR; i++) {
        snprintf(f[i].id, sizeof f[i].id, "f%zu", i);
        f[i].all = &all;
        f[i].op = (struct store_op){ .op = { .done = flight_home }, .run = flight_run };
        store_write(S, &f[i].op);
    }
    reopen();
    assert_int_equal(all.home, NR);
    for (size_t i = 0; i < NR; i++) {
        assert_int_equal(f[i].op.op.err, ERR_OK);
        R(device_is, f[i].id);
    }
    free(f);
}

int store_suite(const struct store_suite *how)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_device_is_kept),
        T(test_etags_guard_a_device),
        T(test_a_public_key_names_one_device),
        T(test_devices_are_listed_and_counted),
        T(test_listings_nest),
        T(test_a_queue_keeps_its_order),
        T(test_a_queue_has_a_depth),
        T(test_deliveries_are_counted),
        T(test_a_broadcast_reaches_who_is_there),
        T(test_broadcasts_have_a_cap),
        T(test_messages_expire),
        T(test_deleting_a_device_takes_all_that_hangs_on_it),
        T(test_connections_end_with_the_hub),
        T(test_small_tables),
        T(test_releases_and_campaigns),
        T(test_deployments),
        T(test_audit),
        T(test_feedback_has_a_cap),
        T(test_an_op_that_fails_undoes_itself_alone),
        T(test_a_lone_op_that_fails_leaves_nothing),
        T(test_a_reader_sees_one_moment),
        T(test_a_reader_never_waits_for_the_writer),
        T(test_closing_finishes_what_was_handed_over),
    };
#undef T
    store_fixture_use(how);
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
