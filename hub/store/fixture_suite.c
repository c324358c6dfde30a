/* hub/store/fixture_suite.c - the store under test, and ops that a test waits for. */
#include "hub/store/store_fixture.h"

#include <semaphore.h>
#include <stdio.h>
#include <string.h>

/* ---- running one op and waiting for it ------------------------------------------------------------- */

struct waited {
    struct store_op op;
    store_fn *fn;
    void *ctx;
    sem_t home;
};

static enum err waited_run(struct store_tx *t, struct store_op *op)
{
    struct waited *w = (struct waited *)op;
    return w->fn(t, w->ctx);
}

static void waited_done(struct op *op)
{
    sem_post(&((struct waited *)op)->home);
}

static enum err wait_for(struct store *s, store_fn *fn, void *ctx,
                         void (*hand)(struct store *s, struct store_op *op))
{
    struct waited w = { .op = { .op = { .done = waited_done }, .run = waited_run }, .fn = fn, .ctx = ctx };
    sem_init(&w.home, 0, 0);
    hand(s, &w.op);
    while (sem_wait(&w.home))
        ;
    sem_destroy(&w.home);
    return w.op.op.err;
}

enum err store_write_wait(struct store *s, store_fn *fn, void *ctx)
{
    return wait_for(s, fn, ctx, store_write);
}

enum err store_read_wait(struct store *s, store_fn *fn, void *ctx)
{
    return wait_for(s, fn, ctx, store_read);
}

/* ---- the store under test -------------------------------------------------------------------------- */

static const struct store_suite *suite;
struct store *S;

void store_fixture_use(const struct store_suite *how)
{
    suite = how;
}

void reopen(void)
{
    store_close(S);
    S = NULL;
    assert_int_equal(suite->open(suite->arg, &S), ERR_OK);
}

int setup(void **state)
{
    (void)state;
    suite->wipe(suite->arg);
    S = NULL;
    return suite->open(suite->arg, &S) != ERR_OK;
}

int teardown(void **state)
{
    (void)state;
    store_close(S);
    return 0;
}

/* ---- rows ---------------------------------------------------------------------------------------- */

void same(struct span got, const char *want)
{
    assert_int_equal(got.n, strlen(want));
    assert_memory_equal(got.n ? got.p : (const uint8_t *)"", want, got.n);
}

void text_add(struct text *x, struct span s)
{
    x->n += (size_t)snprintf(x->p + x->n, sizeof x->p - x->n, "%.*s,", (int)s.n, (const char *)s.p);
}

struct device_row device_named(const char *id)
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
enum err make_devices(struct store_tx *t, void *ctx)
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
enum err each_device(void *ctx, const struct device_row *r)
{
    text_add(ctx, r->id);
    return ((struct text *)ctx)->stop_with;
}
