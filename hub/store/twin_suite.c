/* hub/store/twin_suite.c - what every backend has to pass about twins, and about what is told after a commit.
 */
#include "hub/store/store_fixture.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

static enum err make(struct store_tx *t, const char *device, const char *module)
{
    if (module)
        return tx_module_put(t,
                             &(struct module_row){ .device = span_str(device),
                                                   .id = span_str(module),
                                                   .managed_by = SPAN(""),
                                                   .generation = SPAN("g") },
                             UINT64_MAX, NULL);
    return tx_device_put(
        t,
        &(struct device_row){ .id = span_str(device), .generation = SPAN("g"), .origin = SPAN("operator") },
        UINT64_MAX, NULL);
}

static enum err make_some(struct store_tx *t, void *ctx)
{
    (void)ctx;
    OK(make(t, "d1", NULL));
    OK(make(t, "d1", "m1"));
    OK(make(t, "d2", NULL));
    OK(make(t, "d1", "m2"));
    OK(make(t, "d1x", NULL));
    OK(make(t, "d1x", "m1"));
    return ERR_OK;
}

static enum err each(void *ctx, const struct twin_row *r)
{
    struct text *x = ctx;
    x->n += (size_t)snprintf(x->p + x->n, sizeof x->p - x->n, "%.*s=%llu,", (int)r->id.n,
                             (const char *)r->id.p, (unsigned long long)r->seq);
    return ERR_OK;
}
static void list(struct store_tx *t, bool modules, uint64_t after, size_t limit, const char *want)
{
    struct text x = { .n = 0 };
    x.p[0] = 0;
    OK(tx_twin_list(t, modules, after, limit, each, &x));
    assert_string_equal(x.p, want);
}

/* ---- twins ------------------------------------------------------------------------------------------ */

static enum err fresh(struct store_tx *t, void *ctx)
{
    struct twin_row r;
    (void)ctx;
    OK(tx_twin_get(t, SPAN("d1/m1"), &r));
    same(r.id, "d1/m1");
    same(r.device, "d1");
    same(r.module, "m1");
    same(r.tags, "{}");
    same(r.desired, "{}");
    same(r.reported, "{}");
    same(r.desired_meta, "");
    same(r.reported_meta, "");
    same(r.configurations, "");
    same(r.model_id, "");
    assert_int_equal(r.seq, 2);
    assert_int_equal(r.version, 2);
    assert_int_equal(r.etag, 1);
    assert_int_equal(r.desired_version, 1);
    assert_int_equal(r.reported_version, 1);
    OK(tx_twin_get(t, SPAN("d1"), &r));
    same(r.device, "d1");
    same(r.module, "");
    assert_int_equal(r.seq, 1);
    assert_int_equal(tx_twin_get(t, SPAN("d1/"), &r), ERR_NOTFOUND);
    list(t, false, 0, 10, "d1=1,d2=3,d1x=5,");
    list(t, false, 1, 1, "d2=3,");
    list(t, true, 0, 10, "d1/m1=2,d1/m2=4,d1x/m1=6,");
    list(t, true, 4, 10, "d1x/m1=6,");
    list(t, true, UINT64_MAX, 10, "");
    return ERR_OK;
}

static void test_an_identity_has_a_twin(void **state)
{
    (void)state;
    W(make_some, NULL);
    R(fresh, NULL);
}

static enum err change(struct store_tx *t, void *ctx)
{
    struct twin_row r, again;
    (void)ctx;
    OK(tx_twin_get(t, SPAN("d1"), &r));
    r.tags = SPAN("{\"a\":1.0}");
    r.desired = SPAN("{\"b\":{}}");
    r.reported = SPAN("{\"c\":[1]}");
    r.desired_meta = SPAN("\0\1\2");
    r.reported_meta = SPAN("\xff");
    r.configurations = SPAN("{\"fw\":{\"status\":\"Applied\"}}");
    r.version = 9;
    r.etag = 8;
    r.desired_version = 7;
    r.reported_version = 6;
    r.model_id = SPAN("ignored");
    OK(tx_twin_put(t, &r));
    OK(tx_twin_set_model(t, SPAN("d1"), SPAN("dtmi:a:b;1")));
    OK(tx_device_put(t, &(struct device_row){ .id = SPAN("d1"), .generation = SPAN("g"), .origin = SPAN("") },
                     0, NULL)); /* its identity is changed: the twin stays */
    r.id = SPAN("nobody");
    assert_int_equal(tx_twin_put(t, &r), ERR_NOTFOUND);
    assert_int_equal(tx_twin_set_model(t, SPAN("nobody"), SPAN("x")), ERR_NOTFOUND);
    OK(tx_twin_get(t, SPAN("d1"), &again));
    same(again.tags, "{\"a\":1.0}");
    same(again.desired, "{\"b\":{}}");
    same(again.reported, "{\"c\":[1]}");
    assert_int_equal(again.desired_meta.n, 3);
    assert_memory_equal(again.desired_meta.p, "\0\1\2", 3);
    same(again.reported_meta, "\xff");
    same(again.configurations, "{\"fw\":{\"status\":\"Applied\"}}");
    same(again.model_id, "dtmi:a:b;1");
    assert_int_equal(again.version, 9);
    assert_int_equal(again.etag, 8);
    assert_int_equal(again.desired_version, 7);
    assert_int_equal(again.reported_version, 6);
    assert_int_equal(again.seq, 1);
    return ERR_OK;
}

static void test_a_twin_is_kept(void **state)
{
    (void)state;
    W(make_some, NULL);
    W(change, NULL);
}

static enum err drop(struct store_tx *t, void *ctx)
{
    struct twin_row r;
    (void)ctx;
    OK(tx_module_delete(t, SPAN("d1"), SPAN("m1")));
    list(t, true, 0, 10, "d1/m2=4,d1x/m1=6,");
    OK(tx_device_delete(t, SPAN("d1")));
    list(t, true, 0, 10, "d1x/m1=6,");
    list(t, false, 0, 10, "d2=3,d1x=5,");
    OK(make(t, "d1", NULL)); /* another one */
    OK(tx_twin_get(t, SPAN("d1"), &r));
    assert_int_equal(r.seq, 7);
    assert_int_equal(r.etag, 1);
    OK(tx_twin_delete(t, SPAN("d2")));
    OK(tx_twin_delete(t, SPAN("d2")));
    list(t, false, 0, 10, "d1x=5,d1=7,");
    return ERR_OK;
}

static void test_a_twin_goes_with_its_identity(void **state)
{
    (void)state;
    W(make_some, NULL);
    W(drop, NULL);
}

/* ---- after the commit ------------------------------------------------------------------------------- */

struct told { /* what was said, in order */
    char p[512];
    size_t n;
};
struct teller {
    struct tx_after after;
    struct told *told;
    char name;
};
static void tell(struct tx_after *self, bool committed)
{
    struct teller *t = (struct teller *)self;
    t->told->n += (size_t)snprintf(t->told->p + t->told->n, sizeof t->told->p - t->told->n, "%c%c", t->name,
                                   committed ? '+' : '-');
}

struct telling {
    struct store_op op; /* first */
    struct teller one, two;
    struct told *told;
    bool fails;
    sem_t *hold, *held, *home;
};
static enum err telling_run(struct store_tx *t, struct store_op *self)
{
    struct telling *o = (struct telling *)self;
    if (o->hold) { /* the others gather behind it */
        sem_post(o->held);
        sem_wait(o->hold);
        return ERR_OK;
    }
    tx_after(t, &o->one.after);
    enum err e = tx_meta_put(t, span_of(&o->one.name, 1), SPAN("x"));
    tx_after(t, &o->two.after);
    return e ? e : o->fails ? ERR_STALE : ERR_OK;
}
static void telling_done(struct op *op)
{
    struct telling *o = (struct telling *)op;
    if (o->told)
        o->told->n +=
            (size_t)snprintf(o->told->p + o->told->n, sizeof o->told->p - o->told->n, "(%c)", o->one.name);
    sem_post(o->home);
}

/* In the order of the ops, before any of them comes home; of one that was undone at once, and with no. */
static void test_what_is_told_after_a_commit(void **state)
{
    (void)state;
    struct told told = { .n = 0 };
    sem_t hold, held, home;
    sem_init(&hold, 0, 0);
    sem_init(&held, 0, 0);
    sem_init(&home, 0, 0);
    struct telling gate = { .op = { .op = { .done = telling_done }, .run = telling_run },
                            .hold = &hold,
                            .held = &held,
                            .home = &home };
    struct telling ops[4];
    store_write(S, &gate.op);
    sem_wait(&held);
    for (size_t i = 0; i < 4; i++) {
        ops[i] = (struct telling){ .op = { .op = { .done = telling_done }, .run = telling_run },
                                   .one = { { NULL, tell }, &told, (char)('a' + i) },
                                   .two = { { NULL, tell }, &told, (char)('A' + i) },
                                   .told = &told,
                                   .fails = i == 1,
                                   .home = &home };
        store_write(S, &ops[i].op);
    }
    sem_post(&hold);
    for (size_t i = 0; i < 5; i++)
        sem_wait(&home);
    assert_string_equal(told.p, "b-B-a+A+c+C+d+D+(a)(b)(c)(d)");
    told.n = 0;
    ops[1].op.op.done = telling_done; /* alone in its transaction */
    store_write(S, &ops[1].op);
    sem_wait(&home);
    assert_string_equal(told.p, "b-B-(b)");
    sem_destroy(&hold);
    sem_destroy(&held);
    sem_destroy(&home);
}

int store_suite_twin(const struct store_suite *how)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_an_identity_has_a_twin),
        T(test_a_twin_is_kept),
        T(test_a_twin_goes_with_its_identity),
        T(test_what_is_told_after_a_commit),
    };
#undef T
    store_fixture_use(how);
    return cmocka_run_group_tests_name("twin", tests, NULL, NULL);
}
