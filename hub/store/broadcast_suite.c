/* hub/store/broadcast_suite.c - what every backend has to pass about the counts of broadcasts. */
#include "hub/store/store_fixture.h"

#include <stdio.h>
#include <string.h>

static enum err make(struct store_tx *t, void *ctx) /* ctx: NULL-terminated ids */
{
    for (const char **id = ctx; *id; id++) {
        struct device_row r = {
            .id = span_str(*id), .generation = SPAN("g"), .product = SPAN("lamp"), .origin = SPAN("operator")
        };
        OK(tx_device_put(t, &r, UINT64_MAX, NULL));
    }
    return ERR_OK;
}

struct send {
    const char *id;
    uint64_t expires_ms, seq;
};
static enum err do_send(struct store_tx *t, void *ctx)
{
    struct send *s = ctx;
    struct c2d_row r = {
        .enqueued_ms = 10, .expires_ms = s->expires_ms, .message_id = span_str(s->id), .body = SPAN("x")
    };
    return tx_broadcast_push(t, &r, &s->seq);
}

struct end {
    uint64_t seq;
    const char *device;
    enum broadcast_end how;
};
static enum err do_end(struct store_tx *t, void *ctx) /* as the domain does it */
{
    struct end *x = ctx;
    enum err e = tx_c2d_settle(t, span_str(x->device), true, x->seq);
    return e ? e : tx_broadcast_count(t, x->seq, x->how);
}
#define END(seq, device, how) W(do_end, &((struct end){ seq, device, how }))

static enum err do_delete(struct store_tx *t, void *ctx)
{
    return tx_device_delete(t, span_str(ctx));
}

/* "devices pending delivered expired dead purged rejected" */
struct counts {
    uint64_t seq;
    const char *want;
};
static enum err check(struct store_tx *t, void *ctx)
{
    struct counts *x = ctx;
    struct broadcast_row r;
    char got[128];
    size_t n;
    enum err e = tx_broadcast_get(t, x->seq, &r);
    if (e)
        return e;
    n = (size_t)snprintf(got, sizeof got, "%u %u", (unsigned)r.devices, (unsigned)r.pending);
    for (int i = 0; i < BROADCAST_ENDS; i++)
        n += (size_t)snprintf(got + n, sizeof got - n, " %u", (unsigned)r.ended[i]);
    assert_string_equal(got, x->want);
    return ERR_OK;
}
#define COUNTS(seq, want) R(check, &((struct counts){ seq, want }))

static enum err no_row(void *ctx, const struct c2d_row *r)
{
    (void)r;
    ++*(size_t *)ctx;
    return ERR_OK;
}
static enum err nothing_waits(struct store_tx *t, void *ctx)
{
    size_t nr = 0;
    OK(tx_c2d_list(t, span_str(ctx), 0, 0, 100, no_row, &nr));
    assert_int_equal(nr, 0);
    return ERR_OK;
}

static void test_every_device_is_counted_once(void **state)
{
    struct send s = { .id = "m" };
    (void)state;
    W(make, ((const char *[]){ "a", "b", "c", "d", "e", NULL }));
    W(do_send, &s);
    W(make, ((const char *[]){ "late", NULL })); /* not meant */
    COUNTS(s.seq, "5 5 0 0 0 0 0");
    END(s.seq, "a", BROADCAST_DELIVERED);
    assert_int_equal(store_write_wait(S, do_end, &((struct end){ s.seq, "a", BROADCAST_DELIVERED })),
                     ERR_NOTFOUND);
    END(s.seq, "b", BROADCAST_REJECTED);
    END(s.seq, "c", BROADCAST_DEAD);
    COUNTS(s.seq, "5 2 1 0 1 0 1");
    W(do_delete, "late");
    W(do_delete, "a"); /* both had nothing left to settle */
    COUNTS(s.seq, "5 2 1 0 1 0 1");
    W(do_delete, "d");
    COUNTS(s.seq, "5 1 1 0 1 1 1");
    reopen();
    END(s.seq, "e", BROADCAST_EXPIRED);
    COUNTS(s.seq, "5 0 1 1 1 1 1");
    assert_int_equal(store_read_wait(S, check, &((struct counts){ s.seq + 1, "" })), ERR_NOTFOUND);
}

static enum err expired(void *ctx, const struct c2d_row *r)
{
    (void)ctx, (void)r;
    return ERR_OK;
}
static enum err do_expire(struct store_tx *t, void *ctx)
{
    return tx_c2d_expire(t, 100, 10, expired, ctx);
}

static void test_the_rest_expires_together(void **state)
{
    struct send s = { .id = "m", .expires_ms = 100 };
    (void)state;
    W(make, ((const char *[]){ "a", "b", "c", NULL }));
    W(do_send, &s);
    END(s.seq, "b", BROADCAST_DELIVERED);
    W(do_expire, NULL);
    COUNTS(s.seq, "3 0 1 2 0 0 0");
    W(do_delete, "a"); /* counted already */
    COUNTS(s.seq, "3 0 1 2 0 0 0");
}

static enum err do_count_waiting(struct store_tx *t, void *ctx)
{
    struct send s = { .id = "x" };
    enum err e = ERR_OK;
    for (unsigned i = 0; i < 1000 && !e; i++)
        e = do_send(t, &s);
    (void)ctx;
    assert_int_equal(e, ERR_OK);
    assert_int_equal(do_send(t, &s), ERR_LIMIT);
    return ERR_OK;
}

/* A broadcast that everybody has settled makes room for another; the last device may also leave. */
static void test_what_is_settled_by_all_is_gone(void **state)
{
    struct send first = { .id = "first" }, second = { .id = "second" };
    (void)state;
    W(make, ((const char *[]){ "a", "b", NULL }));
    W(do_send, &first);
    W(do_send, &second);
    END(second.seq, "a", BROADCAST_DELIVERED); /* out of order */
    END(second.seq, "b", BROADCAST_DELIVERED);
    END(first.seq, "a", BROADCAST_DELIVERED);
    R(nothing_waits, "a");
    W(do_delete, "b");
    COUNTS(first.seq, "2 0 1 0 0 1 0");
    COUNTS(second.seq, "2 0 2 0 0 0 0");
    W(do_count_waiting, NULL); /* all thousand places are free again */
}

static enum err each(void *ctx, const struct broadcast_row *r)
{
    char *text = ctx;
    snprintf(text + strlen(text), 64, "%.*s:%u,", (int)r->message_id.n, (const char *)r->message_id.p,
             (unsigned)r->seq);
    return ERR_OK;
}
static enum err listing(struct store_tx *t, void *ctx)
{
    char text[256] = "";
    struct broadcast_row r;
    (void)ctx;
    OK(tx_broadcast_list(t, INT64_MAX, 2, each, text));
    assert_string_equal(text, "one:3,two:2,");
    text[0] = 0;
    OK(tx_broadcast_list(t, 2, 10, each, text));
    assert_string_equal(text, "one:1,");
    OK(tx_broadcast_find(t, SPAN("one"), &r));
    assert_int_equal(r.seq, 3);
    assert_int_equal(r.sent_ms, 10);
    assert_int_equal(tx_broadcast_find(t, SPAN("none"), &r), ERR_NOTFOUND);
    return ERR_OK;
}

static void test_they_are_found_by_id_and_listed(void **state)
{
    (void)state;
    W(make, ((const char *[]){ "a", NULL }));
    W(do_send, &((struct send){ .id = "one" }));
    W(do_send, &((struct send){ .id = "two" }));
    W(do_send, &((struct send){ .id = "one" }));
    R(listing, NULL);
}

/* One device alone, so that each broadcast is settled by all at once. */
static enum err do_many(struct store_tx *t, void *ctx)
{
    struct send s = { .id = "m" };
    (void)ctx;
    for (unsigned i = 0; i < 10010; i++) {
        OK(do_send(t, &s));
        OK(do_end(t, &((struct end){ s.seq, "a", BROADCAST_DELIVERED })));
    }
    return ERR_OK;
}
static enum err check_kept(struct store_tx *t, void *ctx)
{
    struct broadcast_row r;
    uint64_t last = 10010;
    (void)ctx;
    OK(tx_broadcast_get(t, last, &r));
    OK(tx_broadcast_get(t, last - 9999, &r));
    assert_int_equal(tx_broadcast_get(t, last - 10000, &r), ERR_NOTFOUND);
    return ERR_OK;
}

static void test_the_newest_counts_are_kept(void **state)
{
    (void)state;
    W(make, ((const char *[]){ "a", NULL }));
    W(do_many, NULL);
    R(check_kept, NULL);
}

int store_suite_broadcast(const struct store_suite *how)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_every_device_is_counted_once),   T(test_the_rest_expires_together),
        T(test_what_is_settled_by_all_is_gone), T(test_they_are_found_by_id_and_listed),
        T(test_the_newest_counts_are_kept),
    };
#undef T
    store_fixture_use(how);
    return cmocka_run_group_tests_name("broadcast", tests, NULL, NULL);
}
