/* hub/domain/feedback_test.c - feedback as a queue: a record is with one receiver at a time, comes again
 * until it is completed, and never after that; also over a restart. */
#include "tests/fake/hub_fixture.h"

#include "hub/domain/feedback.h"
#include "hub/domain/receivers.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct fixture fx;
static struct arena arena;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    arena_init(&arena, 1u << 20);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    arena_fini(&arena);
    fixture_fini(&fx);
    return 0;
}

static enum err push(struct store_tx *tx, void *ctx)
{
    char id[16];
    for (int i = 0; i < *(int *)ctx; i++) {
        snprintf(id, sizeof id, "m%d", i);
        enum err e = tx_feedback_push(tx, &(struct feedback_row){ .at_ms = 1 + (uint64_t)i,
                                                                  .device = SPAN("d1"),
                                                                  .message_id = span_str(id),
                                                                  .outcome = SPAN("Success") });
        if (e)
            return e;
    }
    return ERR_OK;
}
static void push_nr(int nr)
{
    assert_int_equal(fixture_tx(&fx, push, &nr), ERR_OK);
}
static enum err take_tx(struct store_tx *tx, void *ctx)
{
    return feedback_take(&fx.hub, tx, &arena, ctx);
}
static enum err take(struct feedback_batch *b)
{
    return fixture_tx(&fx, take_tx, b);
}
static enum err complete_tx(struct store_tx *tx, void *ctx)
{
    return feedback_complete(&fx.hub, tx, span_str(ctx));
}
static enum err abandon_tx(struct store_tx *tx, void *ctx)
{
    return feedback_abandon(&fx.hub, tx, span_str(ctx));
}
static bool first_is(const struct feedback_batch *b, const char *id)
{
    return b->nr && span_eq(b->rows[0].message_id, span_str(id));
}

static void a_batch_is_with_one_receiver(void **state)
{
    struct feedback_batch a, b, c;
    (void)state;
    assert_int_equal(take(&a), ERR_NOTFOUND);
    push_nr(FEEDBACK_BATCH_MAX + 2);
    assert_int_equal(take(&a), ERR_OK);
    assert_int_equal(a.nr, FEEDBACK_BATCH_MAX);
    assert_true(first_is(&a, "m0"));
    assert_true(span_eq(a.rows[0].device, SPAN("d1")) &&
                span_eq(a.rows[0].generation, SPAN("637000000000000001")));
    assert_int_equal(take(&b), ERR_OK);
    assert_int_equal(b.nr, 2);
    assert_true(first_is(&b, "m64"));
    assert_int_equal(take(&c), ERR_NOTFOUND);
    assert_int_equal(fixture_tx(&fx, complete_tx, b.token), ERR_OK); /* not in order */
    assert_int_equal(fixture_tx(&fx, complete_tx, b.token), ERR_NOTFOUND);
    assert_int_equal(fixture_tx(&fx, abandon_tx, a.token), ERR_OK);
    assert_int_equal(fixture_tx(&fx, complete_tx, a.token), ERR_NOTFOUND);
    assert_int_equal(take(&c), ERR_OK);
    assert_int_equal(c.nr, FEEDBACK_BATCH_MAX);
    assert_true(first_is(&c, "m0"));
    assert_int_equal(fixture_tx(&fx, complete_tx, c.token), ERR_OK);
    assert_int_equal(take(&c), ERR_NOTFOUND);
}

static void a_lock_runs_out(void **state)
{
    struct feedback_batch a, b;
    (void)state;
    push_nr(1);
    assert_int_equal(take(&a), ERR_OK);
    fixture_clock_offset_ms += FEEDBACK_LOCK_S * 1000 - 500;
    assert_int_equal(take(&b), ERR_NOTFOUND);
    fixture_clock_offset_ms += 1000;
    assert_int_equal(fixture_tx(&fx, complete_tx, a.token), ERR_NOTFOUND); /* too late */
    assert_int_equal(take(&b), ERR_OK);
    assert_true(first_is(&b, "m0"));
    assert_int_equal(fixture_tx(&fx, complete_tx, a.token), ERR_NOTFOUND); /* it is the other's now */
    assert_int_equal(fixture_tx(&fx, complete_tx, b.token), ERR_OK);
    fixture_clock_offset_ms = 0;
}

static void a_restart_loses_nothing_and_repeats_nothing(void **state)
{
    struct feedback_batch a, b;
    (void)state;
    push_nr(FEEDBACK_BATCH_MAX + 1);
    assert_int_equal(take(&a), ERR_OK);
    assert_int_equal(fixture_tx(&fx, complete_tx, a.token), ERR_OK);
    assert_int_equal(take(&a), ERR_OK);
    fixture_shut(&fx);
    fixture_open(&fx);
    assert_int_equal(take(&b), ERR_NOTFOUND); /* still with its receiver */
    assert_int_equal(fixture_tx(&fx, abandon_tx, a.token), ERR_OK);
    assert_int_equal(take(&b), ERR_OK);
    assert_int_equal(b.nr, 1);
    assert_true(first_is(&b, "m64"));
}

static void no_text_is_a_lock_by_accident(void **state)
{
    (void)state;
    push_nr(1);
    assert_int_equal(fixture_tx(&fx, complete_tx, ""), ERR_NOTFOUND);
    assert_int_equal(fixture_tx(&fx, abandon_tx, "' OR 1=1"), ERR_NOTFOUND);
}

/* ---- who waits is told ------------------------------------------------------------------------------ */

static enum err push_told(struct store_tx *tx, void *ctx)
{
    enum err e = feedback_push(
        &fx.hub, tx,
        &(struct feedback_row){
            .at_ms = 1, .device = SPAN("d1"), .message_id = SPAN("m"), .outcome = SPAN("Success") });
    return e ? e : *(enum err *)ctx;
}

static unsigned told;
static void on_told(struct op *op)
{
    assert_int_equal(op->err, ERR_OK);
    told++;
}
static void on_ended(struct op *op)
{
    assert_int_equal(op->err, ERR_CLOSED);
    told++;
}
static void wait_for(struct bus_wait *w, enum receivers_queue q, op_fn *done)
{
    *w = (struct bus_wait){ .op = { .home = &fx.mail, .done = done } };
    receivers_wait(&fx.hub, q, w);
}

static void who_waits_is_told_after_the_commit(void **state)
{
    (void)state;
    struct bus_wait one, two, of_files;
    struct feedback_batch b;
    enum err e = ERR_LIMIT;
    told = 0;
    wait_for(&one, RECEIVERS_FEEDBACK, on_told);
    wait_for(&two, RECEIVERS_FEEDBACK, on_told);
    wait_for(&of_files, RECEIVERS_FILES, on_ended);
    assert_int_equal(fixture_tx(&fx, push_told, &e), ERR_LIMIT); /* undone: nobody is told */
    assert_int_equal(told, 0);
    e = ERR_OK;
    assert_int_equal(fixture_tx(&fx, push_told, &e), ERR_OK);
    assert_int_equal(told, 2); /* before who wrote it hears that it is written */
    assert_int_equal(take(&b), ERR_OK);
    wait_for(&one, RECEIVERS_FEEDBACK, on_told);
    assert_int_equal(fixture_tx(&fx, abandon_tx, b.token), ERR_OK);
    assert_int_equal(told, 3);
    assert_int_equal(take(&b), ERR_OK);
    assert_int_equal(fixture_tx(&fx, complete_tx, b.token), ERR_OK);
    assert_int_equal(told, 3);
    bus_wait_end(fx.hub.bus, &of_files, ERR_CLOSED);
    fixture_pump(&fx, 10000);
    assert_int_equal(told, 4);
}

static enum err push_of_module(struct store_tx *tx, void *ctx)
{
    struct module_row m = { .device = SPAN("d1"), .id = SPAN("m"), .generation = SPAN("77") };
    (void)ctx;
    enum err e = tx_module_put(tx, &m, 0, NULL);
    return e ? e
             : feedback_push(&fx.hub, tx,
                             &(struct feedback_row){ .at_ms = fixture_wall_ms(),
                                                     .device = SPAN("d1/m"),
                                                     .message_id = SPAN("of-m"),
                                                     .outcome = SPAN("success") });
}

static void a_module_has_its_own_generation(void **state)
{
    struct feedback_batch a;
    (void)state;
    assert_int_equal(fixture_tx(&fx, push_of_module, NULL), ERR_OK);
    assert_int_equal(take(&a), ERR_OK);
    assert_true(first_is(&a, "of-m"));
    assert_true(span_eq(a.rows[0].device, SPAN("d1/m")));
    assert_true(span_eq(a.rows[0].generation, SPAN("77")));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_batch_is_with_one_receiver),
        T(a_module_has_its_own_generation),
        T(a_lock_runs_out),
        T(a_restart_loses_nothing_and_repeats_nothing),
        T(no_text_is_a_lock_by_accident),
        T(who_waits_is_told_after_the_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
