/* hub/store/store_suite.c - the tests that every backend of the store passes. */
#include "hub/store/store_fixture.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

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

/* Parts of one op, each in a savepoint of its own. */
struct hook {
    struct tx_after after; /* first */
    int told;              /* 0: not yet, 1: committed, 2: undone */
};
struct parts {
    struct hook hook[4];
    enum err result;
};
struct part {
    struct parts *all;
    int nr;
};
static void part_told(struct tx_after *self, bool committed)
{
    ((struct hook *)(void *)self)->told = committed ? 1 : 2;
}
static enum err put_part(struct store_tx *t, void *ctx)
{
    struct part *p = ctx;
    char id[8];
    snprintf(id, sizeof id, "part%d", p->nr);
    struct device_row r = device_named(id);
    p->all->hook[p->nr].after.fn = part_told;
    tx_after(t, &p->all->hook[p->nr].after);
    OK(tx_device_put(t, &r, 0, NULL));
    return p->nr % 2 ? ERR_EXISTS : ERR_OK;
}
static enum err put_parts(struct store_tx *t, void *ctx)
{
    struct parts *all = ctx;
    for (int i = 0; i < 4; i++)
        assert_int_equal(tx_try(t, put_part, &(struct part){ all, i }), i % 2 ? ERR_EXISTS : ERR_OK);
    return all->result;
}

static void test_parts_of_an_op_fail_one_by_one(void **state)
{
    struct parts all = { .result = ERR_OK };
    (void)state;
    W(put_parts, &all);
    for (int i = 0; i < 4; i++) {
        char id[20];
        snprintf(id, sizeof id, "part%d", i);
        assert_int_equal(all.hook[i].told, i % 2 ? 2 : 1);
        assert_int_equal(store_read_wait(S, device_is, id), i % 2 ? ERR_NOTFOUND : ERR_OK);
    }
    R(check_counts, ((uint64_t[]){ 2, 0, 0 }));
    all = (struct parts){ .result = ERR_LIMIT }; /* the op as a whole fails: its parts with it */
    assert_int_equal(store_write_wait(S, put_parts, &all), ERR_LIMIT);
    for (int i = 0; i < 4; i++)
        assert_int_equal(all.hook[i].told, 2);
    R(check_counts, ((uint64_t[]){ 2, 0, 0 }));
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
        T(test_an_op_that_fails_undoes_itself_alone),
        T(test_a_lone_op_that_fails_leaves_nothing),
        T(test_parts_of_an_op_fail_one_by_one),
        T(test_a_reader_sees_one_moment),
        T(test_a_reader_never_waits_for_the_writer),
        T(test_closing_finishes_what_was_handed_over),
    };
#undef T
    store_fixture_use(how);
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
