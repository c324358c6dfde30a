/* hub/domain/message/feedback_test.c - feedback as a queue: a record is with one receiver at a time, comes
 * again until it is completed, and never after that; also over a restart. */
#include "tests/fake/hub_fixture.h"

#include "hub/domain/message/feedback.h"
#include "hub/domain/message/receivers.h"

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
        enum err e = tx_feedback_push(tx, &(struct feedback_row){ .at_ms = fixture_wall_ms(),
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
    fixture_clock_offset_ms += 60 * 1000 - 500;
    assert_int_equal(take(&b), ERR_NOTFOUND);
    fixture_clock_offset_ms += 1000;
    assert_int_equal(fixture_tx(&fx, complete_tx, a.token), ERR_NOTFOUND); /* too late */
    assert_int_equal(take(&b), ERR_OK);
    assert_true(first_is(&b, "m0"));
    assert_int_equal(fixture_tx(&fx, complete_tx, a.token), ERR_NOTFOUND); /* it is the other's now */
    assert_int_equal(fixture_tx(&fx, complete_tx, b.token), ERR_OK);
    fixture_clock_offset_ms = 0;
}

static enum err count_each(void *ctx, const struct feedback_row *r)
{
    (void)r;
    (*(unsigned *)ctx)++;
    return ERR_OK;
}
static enum err count_tx(struct store_tx *tx, void *ctx)
{
    return tx_feedback_list(tx, 0, 1000, count_each, ctx);
}
/* Of the log, which is read without taking. */
static unsigned logged(void)
{
    unsigned nr = 0;
    assert_int_equal(fixture_tx(&fx, count_tx, &nr), ERR_OK);
    return nr;
}

static void a_record_has_a_time_to_live(void **state)
{
    struct feedback_batch a, b;
    (void)state;
    fx.hub.settings.feedback_ttl_s = 100;
    push_nr(2);
    fixture_clock_offset_ms += 60 * 1000;
    push_nr(1);
    fixture_clock_offset_ms += 39 * 1000;
    assert_int_equal(take(&a), ERR_OK); /* all are young enough, by a second */
    assert_int_equal(a.nr, 3);
    assert_int_equal(fixture_tx(&fx, abandon_tx, a.token), ERR_OK);
    fixture_clock_offset_ms += 2 * 1000;
    assert_int_equal(take(&a), ERR_OK);
    assert_int_equal(a.nr, 1);            /* the two have gone */
    fixture_clock_offset_ms += 59 * 1000; /* with its receiver it does not grow too old */
    assert_int_equal(take(&b), ERR_NOTFOUND);
    assert_int_equal(fixture_tx(&fx, complete_tx, a.token), ERR_OK);
    push_nr(FEEDBACK_BATCH_MAX * 3);
    fixture_clock_offset_ms += 101 * 1000;
    push_nr(1);
    assert_int_equal(take(&b), ERR_OK); /* behind all those that are too old */
    assert_int_equal(b.nr, 1);
    assert_int_equal(logged(), 3 + FEEDBACK_BATCH_MAX * 3 + 1); /* the log forgets nothing of it */
}

static void a_record_is_delivered_so_many_times(void **state)
{
    struct feedback_batch a, b;
    (void)state;
    push_nr(1);
    for (uint32_t i = 0; i < fx.hub.settings.feedback_deliveries_max; i++) {
        assert_int_equal(take(&a), ERR_OK);
        assert_true(first_is(&a, "m0"));
        if (i % 2)
            assert_int_equal(fixture_tx(&fx, abandon_tx, a.token), ERR_OK);
        else
            fixture_clock_offset_ms += 61 * 1000; /* its receiver is gone */
    }
    assert_int_equal(fx.hub.settings.feedback_deliveries_max, 10);
    assert_int_equal(take(&a), ERR_NOTFOUND);
    push_nr(1); /* others are not held up by it */
    assert_int_equal(take(&a), ERR_OK);
    assert_int_equal(fixture_tx(&fx, complete_tx, a.token), ERR_OK);
    fx.hub.settings.feedback_deliveries_max = 1;
    push_nr(1);
    assert_int_equal(take(&a), ERR_OK);
    assert_int_equal(take(&b), ERR_NOTFOUND);
    fixture_clock_offset_ms += 59 * 1000;
    assert_int_equal(fixture_tx(&fx, complete_tx, a.token), ERR_OK); /* the last delivery counts, too */
    assert_int_equal(logged(), 3);
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
    enum err e = feedback_push(&fx.hub, tx,
                               &(struct feedback_row){ .at_ms = fixture_wall_ms(),
                                                       .device = SPAN("d1"),
                                                       .message_id = SPAN("m"),
                                                       .outcome = SPAN("Success") });
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
        T(a_record_has_a_time_to_live),
        T(a_record_is_delivered_so_many_times),
        T(a_restart_loses_nothing_and_repeats_nothing),
        T(no_text_is_a_lock_by_accident),
        T(who_waits_is_told_after_the_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
