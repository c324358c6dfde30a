/* hub/domain/identity/presence_test.c - who is connected, as the store learns it. */
#include "hub/domain/identity/presence.h"
#include "tests/fake/hub_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;
static struct mailbox bus_mail;

static void on_wake(void *ctx, struct bus_addr to, uint32_t what)
{
    (void)ctx;
    (void)to;
    (void)what;
}
static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    assert(mailbox_init(&bus_mail) == ERR_OK);
    bus_register(fx.hub.bus, 0, &bus_mail, on_wake, NULL);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    fixture_fini(&fx);
    mailbox_fini(&bus_mail);
    return 0;
}

static enum err read_run(struct store_tx *tx, void *ctx)
{
    struct report_row *r = ctx;
    return tx_report_get(tx, r->device, r);
}
static enum err read_presence(const char *device, struct report_row *r)
{
    *r = (struct report_row){ .device = span_str(device) };
    return fixture_tx(&fx, read_run, r);
}

static void test_what_is_written_is_whether_it_is_attached(void **state)
{
    struct presence p;
    struct report_row r;
    struct bus_addr a = { 0, 0, 1, 1 };
    (void)state;
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    presence_init(&p, &fx.hub);
    assert_int_equal(bus_attach(fx.hub.bus, SPAN("d1"), a), ERR_OK);
    assert_true(presence_note(&p, SPAN("d1"), 1000));
    assert_false(presence_note(&p, SPAN("d1"), 1001)); /* the batch is open already */
    assert_int_equal(read_presence("d1", &r), ERR_NOTFOUND);
    (void)presence_flush(&p);
    assert_int_equal(read_presence("d1", &r), ERR_OK);
    assert_true(r.connected);
    assert_int_equal(r.activity_ms, 1001);
    bus_detach(fx.hub.bus, SPAN("d1"), a);
    (void)presence_note(&p, SPAN("d1"), 2000);
    (void)presence_flush(&p);
    assert_int_equal(read_presence("d1", &r), ERR_OK);
    assert_false(r.connected);
    assert_int_equal(r.activity_ms, 2000);
    presence_fini(&p);
}

static enum err put_module(struct store_tx *tx, void *ctx)
{
    struct module_row r = { .device = SPAN("d1"), .id = span_str(ctx), .generation = SPAN("1") };
    return tx_module_put(tx, &r, 0, NULL);
}

static void test_a_module_has_a_connection_of_its_own(void **state)
{
    struct presence p;
    struct report_row r;
    struct bus_addr a = { 0, 0, 1, 1 };
    char m[] = "m";
    (void)state;
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    assert_int_equal(fixture_tx(&fx, put_module, m), ERR_OK);
    presence_init(&p, &fx.hub);
    assert_int_equal(bus_attach(fx.hub.bus, SPAN("d1/m"), a), ERR_OK);
    (void)presence_note(&p, SPAN("d1/m"), 1000);
    (void)presence_note(&p, SPAN("d1/gone"), 1000);
    (void)presence_flush(&p);
    assert_int_equal(read_presence("d1/m", &r), ERR_OK);
    assert_true(r.connected);
    assert_int_equal(r.connected_changed_ms, 1000);
    assert_int_equal(read_presence("d1", &r), ERR_NOTFOUND);
    assert_int_equal(read_presence("d1/gone", &r), ERR_NOTFOUND);
    bus_detach(fx.hub.bus, SPAN("d1/m"), a);
    presence_fini(&p);
}

static void test_a_deleted_device_leaves_nothing(void **state)
{
    struct presence p;
    struct report_row r;
    (void)state;
    presence_init(&p, &fx.hub);
    (void)presence_note(&p, SPAN("gone"), 1000);
    (void)presence_flush(&p);
    assert_int_equal(read_presence("gone", &r), ERR_NOTFOUND);
    presence_fini(&p);
}

static void test_a_full_batch_leaves_by_itself(void **state)
{
    struct presence p;
    struct report_row r;
    char id[130];
    (void)state;
    memset(id, 'x', 128);
    id[128] = 0;
    fixture_device(&fx, id, DEVICE_ENABLED);
    presence_init(&p, &fx.hub);
    (void)presence_note(&p, span_str(id), 1000);
    for (size_t i = 0; i < PRESENCE_BATCH_BYTES / 138 + 2; i++) {
        snprintf(id, sizeof id, "%0128zu", i);
        (void)presence_note(&p, span_str(id), 1000 + i);
    }
    memset(id, 'x', 128);
    assert_int_equal(read_presence(id, &r), ERR_OK);
    assert_false(r.connected);
    (void)presence_flush(&p);
    assert_int_equal(atomic_load(&fx.metrics.presence_dropped_total), 0);
    assert_int_equal(read_presence(id, &r), ERR_OK);
    presence_fini(&p);
}

/* One entry each, however often somebody comes and goes; the newest time counts. */
static void test_what_gathers_is_one_entry_each(void **state)
{
    struct presence p;
    struct report_row r;
    char id[16];
    (void)state;
    fixture_device(&fx, "d7", DEVICE_ENABLED);
    presence_init(&p, &fx.hub);
    for (unsigned i = 0; i < 100000; i++) {
        snprintf(id, sizeof id, "d%u", i % 1000);
        (void)presence_note(&p, span_str(id), 1000 + i);
    }
    assert_true(p.len < 1000 * 20);
    assert_int_equal(atomic_load(&p.waiting), 0);
    (void)presence_flush(&p); /* on its way, or there already */
    assert_int_equal(read_presence("d7", &r), ERR_OK);
    assert_int_equal(r.activity_ms, 1000 + 99007);
    presence_fini(&p);
}

struct block {
    struct store_op store;
    _Atomic bool *go;
};
static enum err block_run(struct store_tx *tx, struct store_op *self)
{
    (void)tx;
    while (!atomic_load(((struct block *)(void *)self)->go))
        continue;
    return ERR_OK;
}

/* A store that does not answer: what comes meanwhile waits, and all of it is true in the end. */
static void test_a_slow_store_makes_it_late_not_wrong(void **state)
{
    enum { DEVICES = 400 };
    struct presence p;
    struct report_row r;
    char id[140];
    _Atomic bool go = false;
    struct block b = { .store.run = block_run, .go = &go };
    (void)state;
    for (unsigned i = 0; i < DEVICES; i++) {
        snprintf(id, sizeof id, "d%u", i);
        fixture_device(&fx, id, DEVICE_ENABLED);
    }
    presence_init(&p, &fx.hub);
    fixture_prepare(&fx, &b.store.op);
    store_write(fx.hub.store, &b.store);
    for (unsigned i = 0; i < PRESENCE_WAITING_MAX; i++) { /* as many as may be on their way */
        snprintf(id, sizeof id, "x%u", i);
        (void)presence_note(&p, span_str(id), 1);
        assert_true(presence_flush(&p));
    }
    assert_int_equal(atomic_load(&p.waiting), PRESENCE_WAITING_MAX);
    for (unsigned i = 0; i < DEVICES; i++) {
        snprintf(id, sizeof id, "d%u", i);
        assert_int_equal(bus_attach(fx.hub.bus, span_str(id), (struct bus_addr){ 0, 0, i, 1 }), ERR_OK);
        (void)presence_note(&p, span_str(id), 5000 + i);
        assert_true(presence_flush(&p)); /* nothing more is handed over, and nothing is dropped */
    }
    for (unsigned i = 0; i < 10000; i++) { /* nobody else is waited for, so there are more than one batch */
        snprintf(id, sizeof id, "other-%u", i);
        (void)presence_note(&p, span_str(id), 1);
    }
    assert_int_equal(atomic_load(&p.waiting), PRESENCE_WAITING_MAX);
    atomic_store(&go, true);
    assert_int_equal(fixture_wait(&fx, &b.store.op), ERR_OK);
    while (presence_flush(&p))
        (void)read_presence("d0", &r);
    for (unsigned i = 0; i < DEVICES; i++) {
        snprintf(id, sizeof id, "d%u", i);
        assert_int_equal(read_presence(id, &r), ERR_OK);
        assert_true(r.connected);
        assert_int_equal(r.activity_ms, 5000 + i);
    }
    assert_int_equal(atomic_load(&fx.metrics.presence_dropped_total), 0);
    presence_fini(&p);
}

static uint64_t heard_ms(struct presence *p, const char *id)
{
    struct report_row r;
    (void)presence_flush(p);
    assert_int_equal(read_presence(id, &r), ERR_OK);
    return r.activity_ms;
}

static void test_activity_is_written_once_a_minute(void **state)
{
    struct presence p;
    uint64_t at = 600000, writes = 0, before = 0;
    char other[16];
    (void)state;
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    presence_init(&p, &fx.hub);
    assert_true(presence_note_activity(&p, SPAN("d1"), at)); /* the first time, always */
    assert_int_equal(heard_ms(&p, "d1"), at);
    for (before = at; at < 600000 + 10 * 60000; at += 500) {
        (void)presence_note_activity(&p, SPAN("d1"), at);
        uint64_t heard = heard_ms(&p, "d1");
        assert_true(at - heard < 60000);
        writes += heard != before;
        before = heard;
    }
    assert_int_equal(writes, 10);
    /* However many others there are: they cost a write more, none is lost. */
    for (unsigned i = 0; i < 2 * PRESENCE_RECENT; i++) {
        snprintf(other, sizeof other, "x%u", i);
        (void)presence_note_activity(&p, span_str(other), at);
    }
    at += 60000;
    (void)presence_note_activity(&p, SPAN("d1"), at);
    assert_int_equal(heard_ms(&p, "d1"), at);
    assert_int_equal(atomic_load(&fx.metrics.presence_dropped_total), 0);
    presence_fini(&p);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_what_is_written_is_whether_it_is_attached), T(test_a_module_has_a_connection_of_its_own),
        T(test_a_deleted_device_leaves_nothing),           T(test_a_full_batch_leaves_by_itself),
        T(test_activity_is_written_once_a_minute),         T(test_what_gathers_is_one_entry_each),
        T(test_a_slow_store_makes_it_late_not_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
