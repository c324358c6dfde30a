/* hub/domain/message/upload_test.c - announced uploads, their ends, quotas, notifications as a queue, what
 * has had its time; on the real store. */
#include "tests/fake/hub_fixture.h"

#include "hub/domain/message/file_note.h"
#include "hub/domain/message/upload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;
static struct arena A;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    fx.hub.settings.upload_container = "uploads";
    fx.hub.settings.upload_ttl_s = 3600;
    fx.hub.settings.upload_retain_days = 30;
    fx.hub.settings.upload_notify = true;
    fx.hub.settings.upload_device_bytes = 100;
    fx.hub.settings.upload_total_bytes = 150;
    arena_init(&A, 1u << 22);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    arena_fini(&A);
    fixture_fini(&fx);
    return 0;
}

static struct upload_announce up;
static enum err announce_run(struct store_tx *tx, void *ctx)
{
    up = (struct upload_announce){ .device = SPAN("d1"), .name = span_str(ctx) };
    return upload_announce(&fx.hub, tx, &A, &up);
}
static enum err announce(const char *name)
{
    return fixture_tx(&fx, announce_run, (void *)(uintptr_t)name);
}

static struct {
    const char *device;
    char id[UPLOAD_ID_LEN + 1];
    bool success;
    enum upload_refusal refusal;
} end;
static enum err end_run(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return upload_complete(&fx.hub, tx, span_str(end.device), span_str(end.id), end.success,
                           SPAN("https://h/uploads/"), &end.refusal);
}
static enum upload_refusal complete(const char *device, bool success)
{
    end.device = device;
    end.success = success;
    memcpy(end.id, up.id, sizeof end.id);
    assert_int_equal(fixture_tx(&fx, end_run, NULL), ERR_OK);
    return end.refusal;
}

static uint8_t file_id[16];
static enum err put_run(struct store_tx *tx, void *ctx)
{
    const struct named_blob_row *r = ctx;
    struct named_blob_row old;
    enum err e = tx_blob_get(tx, r->container, r->name, &old);
    e = upload_room(&fx.hub, tx, SPAN("uploads"), r->name, r->length, e ? 0 : old.length);
    return e ? e : tx_blob_put(tx, r);
}
static enum err put(const char *name, uint64_t length)
{
    struct named_blob_row r = { .container = SPAN("uploads"),
                                .name = span_str(name),
                                .length = length,
                                .md5 = SPAN(""),
                                .content_type = SPAN(""),
                                .meta = SPAN(""),
                                .created_ms = fixture_wall_ms(),
                                .modified_ms = fixture_wall_ms() };
    file_id[0]++;
    r.file = span_of(file_id, sizeof file_id);
    return fixture_tx(&fx, put_run, &r);
}

static void test_names(void **state)
{
    char deep[64] = "d";
    (void)state;
    assert_true(upload_name_ok(SPAN("d1/a b/\xc3\xbc.txt")));
    assert_true(upload_name_ok(SPAN("d1/.a/..b/...")));
    static const char *const bad[] = { "",  "/a", "a/",   "a//b",   "a\tb",  "a\\b",
                                       ".", "..", "../a", "a/../b", "a/./b", "a/.." };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(upload_name_ok(span_str(bad[i])));
    for (size_t i = 1; i < UPLOAD_SEGMENTS_MAX; i++)
        strcat(deep, "/x");
    assert_true(upload_name_ok(span_str(deep)));
    strcat(deep, "/x");
    assert_false(upload_name_ok(span_str(deep)));
}

static void test_ten_are_open(void **state)
{
    (void)state;
    for (size_t i = 0; i < UPLOAD_OPEN_MAX; i++)
        assert_int_equal(announce("f"), ERR_OK);
    struct upload_announce last = up;
    assert_int_equal(announce("f"), ERR_LIMIT);
    up = last;
    assert_int_equal(complete("d1", false), UPLOAD_TAKEN);
    assert_int_equal(announce("f"), ERR_OK);
    fixture_clock_offset_ms = 3600 * 1000;
    assert_int_equal(announce("f"), ERR_OK); /* the others are over */
}

static void test_ends(void **state)
{
    (void)state;
    assert_int_equal(announce("f"), ERR_OK);
    assert_true(span_eq(up.blob, SPAN("d1/f")));
    assert_int_equal(complete("d2", true), UPLOAD_UNKNOWN);
    assert_int_equal(complete("d1", true), UPLOAD_NO_BLOB);
    assert_int_equal(put("d1/f", 1), ERR_OK);
    assert_int_equal(complete("d1", true), UPLOAD_TAKEN);
    assert_int_equal(complete("d1", true), UPLOAD_UNKNOWN);
    assert_int_equal(announce("g"), ERR_OK);
    fixture_clock_offset_ms = 3600 * 1000;
    assert_int_equal(complete("d1", true), UPLOAD_EXPIRED);
}

static void test_quotas(void **state)
{
    (void)state;
    assert_int_equal(put("d1/a", 60), ERR_OK);
    assert_int_equal(put("d1/b", 41), ERR_LIMIT);
    assert_int_equal(put("d1/b", 40), ERR_OK);
    assert_int_equal(put("d1/a", 50), ERR_OK); /* in place of the 60 */
    assert_int_equal(put("d2/a", 61), ERR_LIMIT);
    assert_int_equal(put("d2/a", 60), ERR_OK);
    assert_int_equal(put("d2/a", 60), ERR_OK);
}

static enum err put_listed(struct store_tx *tx, void *ctx)
{
    const struct span *blocks = ctx;
    file_id[0]++;
    struct named_blob_row now, r = { SPAN("uploads"),
                                     SPAN("d1/a"),
                                     span_of(file_id, sizeof file_id),
                                     60,
                                     SPAN(""),
                                     SPAN(""),
                                     SPAN(""),
                                     fixture_wall_ms(),
                                     fixture_wall_ms(),
                                     *blocks,
                                     0 };
    struct span kept;
    assert_int_equal(tx_blob_blocks(tx, SPAN("uploads"), SPAN("d1/none"), &kept), ERR_NOTFOUND);
    assert_int_equal(tx_blob_put(tx, &r), ERR_OK);
    assert_int_equal(tx_blob_blocks(tx, r.container, r.name, &kept), ERR_OK);
    assert_true(span_eq(kept, *blocks));
    assert_int_equal(tx_blob_get(tx, r.container, r.name, &now), ERR_OK);
    assert_int_equal(now.length, 60);
    assert_int_equal(now.room, 60 + blocks->n);
    return ERR_OK;
}
static enum err usage_all(struct store_tx *tx, void *ctx)
{
    return tx_upload_usage(tx, SPAN_NONE, ctx);
}
static enum err delete_a(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return tx_blob_delete(tx, SPAN("uploads"), SPAN("d1/a"));
}

/* Or a device could fill the disk with files of nothing, in fifty thousand blocks. */
static void test_a_table_of_blocks_counts(void **state)
{
    uint64_t bytes;
    struct span none = SPAN_NONE, listed = SPAN("thirty bytes of blocks or so..");
    (void)state;
    assert_int_equal(fixture_tx(&fx, put_listed, &listed), ERR_OK);
    assert_int_equal(fixture_tx(&fx, usage_all, &bytes), ERR_OK);
    assert_int_equal(bytes, 90);
    assert_int_equal(put("d1/b", 11), ERR_LIMIT);
    assert_int_equal(put("d1/b", 10), ERR_OK);
    assert_int_equal(fixture_tx(&fx, put_listed, &none), ERR_OK); /* put whole in its place */
    assert_int_equal(put("d1/b", 40), ERR_OK);
    assert_int_equal(fixture_tx(&fx, put_listed, &listed), ERR_OK);
    assert_int_equal(fixture_tx(&fx, delete_a, NULL), ERR_OK);
    assert_int_equal(fixture_tx(&fx, usage_all, &bytes), ERR_OK);
    assert_int_equal(bytes, 40);
    file_id[0]--; /* no table is left of that file */
    assert_int_equal(fixture_tx(&fx, put_listed, &listed), ERR_OK);
}

static char seen[256];
static enum err note_each(void *ctx, const struct file_note_row *r)
{
    (void)ctx;
    size_t n = strlen(seen);
    snprintf(seen + n, sizeof seen - n, "%.*s %u ", (int)r->uri.n, (const char *)r->uri.p, r->deliveries);
    return ERR_OK;
}
static enum err take_run(struct store_tx *tx, void *ctx)
{
    return file_note_take(&fx.hub, tx, span_str(ctx), 10, note_each, NULL);
}
static enum err take(const char *lock)
{
    seen[0] = 0;
    return fixture_tx(&fx, take_run, (void *)(uintptr_t)lock);
}
static bool done_with;
static enum err settle_run(struct store_tx *tx, void *ctx)
{
    return file_note_settle(&fx.hub, tx, span_str(ctx), done_with);
}
static enum err settle(const char *lock, bool done)
{
    done_with = done;
    return fixture_tx(&fx, settle_run, (void *)(uintptr_t)lock);
}

static void test_notifications(void **state)
{
    (void)state;
    assert_int_equal(take("one"), ERR_NOTFOUND);
    assert_int_equal(announce("a b/f"), ERR_OK);
    assert_int_equal(put("d1/a b/f", 1), ERR_OK);
    assert_int_equal(complete("d1", true), UPLOAD_TAKEN);
    assert_int_equal(take("one"), ERR_OK);
    assert_string_equal(seen, "https://h/uploads/d1/a%20b/f 1 ");
    assert_int_equal(take("two"), ERR_NOTFOUND);
    assert_int_equal(settle("two", true), ERR_NOTFOUND);
    assert_int_equal(settle("one", false), ERR_OK);
    assert_int_equal(take("two"), ERR_OK);
    fixture_clock_offset_ms = 61 * 1000;
    assert_int_equal(settle("two", true), ERR_NOTFOUND); /* the lock has run out */
    assert_int_equal(take("three"), ERR_OK);
    assert_string_equal(seen, "https://h/uploads/d1/a%20b/f 3 ");
    assert_int_equal(settle("three", true), ERR_OK);
    assert_int_equal(take("four"), ERR_NOTFOUND);
}

static enum err push_run(struct store_tx *tx, void *ctx)
{
    return tx_file_note_push(tx, &(struct file_note_row){ .device = SPAN("d1"),
                                                          .blob = span_str(ctx),
                                                          .uri = span_str(ctx),
                                                          .enqueued_ms = fixture_wall_ms() });
}
static void push(const char *name)
{
    assert_int_equal(fixture_tx(&fx, push_run, (void *)(uintptr_t)name), ERR_OK);
}
static enum err count_each(void *ctx, const struct file_note_row *r)
{
    (void)r;
    (*(unsigned *)ctx)++;
    return ERR_OK;
}
static enum err count_run(struct store_tx *tx, void *ctx)
{
    return tx_file_note_list(tx, 0, 1000, count_each, ctx);
}
static unsigned rows(void)
{
    unsigned nr = 0;
    assert_int_equal(fixture_tx(&fx, count_run, &nr), ERR_OK);
    return nr;
}

/* The settings of messages have no say in it. */
static void other_settings_of_messages(void)
{
    fx.hub.settings.c2d_ttl_s = 1;
    fx.hub.settings.c2d_lock_s = 5;
    fx.hub.settings.c2d_deliveries_max = 1;
}

static void test_a_notification_has_a_time_to_live(void **state)
{
    (void)state;
    other_settings_of_messages();
    fx.hub.settings.note_ttl_s = 100;
    push("a");
    push("b");
    fixture_clock_offset_ms += 60 * 1000;
    push("c");
    fixture_clock_offset_ms += 39 * 1000;
    assert_int_equal(take("one"), ERR_OK); /* all are young enough, by a second */
    assert_string_equal(seen, "a 1 b 1 c 1 ");
    assert_int_equal(settle("one", false), ERR_OK);
    fixture_clock_offset_ms += 2 * 1000;
    assert_int_equal(take("two"), ERR_OK);
    assert_string_equal(seen, "c 2 ");
    assert_int_equal(rows(), 1);          /* the two have gone */
    fixture_clock_offset_ms += 59 * 1000; /* with its receiver it does not grow too old */
    assert_int_equal(take("three"), ERR_NOTFOUND);
    assert_int_equal(settle("two", true), ERR_OK);
    for (int i = 0; i < 30; i++)
        push("old");
    fixture_clock_offset_ms += 101 * 1000;
    assert_int_equal(take("four"), ERR_NOTFOUND);
    push("new");
    assert_int_equal(take("four"), ERR_OK); /* behind all those that are too old */
    assert_string_equal(seen, "new 1 ");
    assert_int_equal(rows(), 1);
}

static void test_a_notification_is_delivered_so_many_times(void **state)
{
    char want[16];
    (void)state;
    other_settings_of_messages();
    push("a");
    assert_int_equal(fx.hub.settings.note_deliveries_max, 10);
    for (unsigned i = 1; i <= 10; i++) {
        assert_int_equal(take("lock"), ERR_OK);
        snprintf(want, sizeof want, "a %u ", i);
        assert_string_equal(seen, want);
        if (i % 2)
            assert_int_equal(settle("lock", false), ERR_OK);
        else
            fixture_clock_offset_ms += 61 * 1000; /* its receiver is gone */
    }
    assert_int_equal(take("lock"), ERR_NOTFOUND);
    push("b"); /* others are not held up by it */
    assert_int_equal(take("lock"), ERR_OK);
    assert_string_equal(seen, "b 1 ");
    assert_int_equal(rows(), 1);
    assert_int_equal(settle("lock", true), ERR_OK);
    fx.hub.settings.note_deliveries_max = 1;
    push("c");
    assert_int_equal(take("lock"), ERR_OK);
    assert_int_equal(take("other"), ERR_NOTFOUND);
    fixture_clock_offset_ms += 59 * 1000;
    assert_int_equal(settle("lock", true), ERR_OK); /* the last delivery counts, too */
    assert_int_equal(rows(), 0);
}

static void test_the_lock_of_a_notification(void **state)
{
    (void)state;
    other_settings_of_messages();
    fx.hub.settings.note_lock_s = 300;
    push("a");
    assert_int_equal(take("one"), ERR_OK);
    fixture_clock_offset_ms += 299 * 1000;
    assert_int_equal(take("two"), ERR_NOTFOUND);
    fixture_clock_offset_ms += 2 * 1000;
    assert_int_equal(settle("one", true), ERR_NOTFOUND);
    assert_int_equal(take("two"), ERR_OK);
    assert_string_equal(seen, "a 2 ");
}

static struct upload_sweep sweep;
static enum err sweep_run(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return upload_sweep_tx(&fx.hub, tx, &A, &sweep);
}
static enum err block_run(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return tx_block_put(tx, &(struct block_row){ SPAN("uploads"), SPAN("d1/c"), SPAN("id"),
                                                 span_of(file_id, sizeof file_id), 7, fixture_wall_ms() });
}
static enum err orphans_run(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return upload_orphans_tx(tx, &sweep);
}
static enum err usage_run(struct store_tx *tx, void *ctx)
{
    return tx_upload_usage(tx, SPAN_NONE, ctx);
}

static void test_what_has_had_its_time(void **state)
{
    uint64_t bytes;
    (void)state;
    assert_int_equal(put("d1/a", 5), ERR_OK);
    file_id[0]++;
    assert_int_equal(fixture_tx(&fx, block_run, NULL), ERR_OK);
    assert_int_equal(fixture_tx(&fx, block_run, NULL), ERR_OK); /* the same one again counts once */
    assert_int_equal(fixture_tx(&fx, usage_run, &bytes), ERR_OK);
    assert_int_equal(bytes, 12);
    assert_int_equal(fixture_tx(&fx, sweep_run, NULL), ERR_OK);
    assert_int_equal(sweep.nr, 0);
    fixture_clock_offset_ms = 8ll * 86400000;
    assert_int_equal(fixture_tx(&fx, sweep_run, NULL), ERR_OK);
    assert_int_equal(sweep.nr, 1); /* the block */
    fixture_clock_offset_ms = 31ll * 86400000;
    assert_int_equal(fixture_tx(&fx, sweep_run, NULL), ERR_OK);
    assert_int_equal(sweep.nr, 1);
    assert_int_equal(fixture_tx(&fx, usage_run, &bytes), ERR_OK);
    assert_int_equal(bytes, 0);
    assert_int_equal(fixture_tx(&fx, orphans_run, NULL), ERR_OK);
    assert_int_equal(sweep.nr, 1); /* no row names it now */
    assert_int_equal(put("d1/a", 5), ERR_OK);
    memcpy(sweep.files[0], file_id, sizeof file_id);
    assert_int_equal(fixture_tx(&fx, orphans_run, NULL), ERR_OK);
    assert_int_equal(sweep.nr, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_names),
                                        T(test_ten_are_open),
                                        T(test_ends),
                                        T(test_quotas),
                                        T(test_a_table_of_blocks_counts),
                                        T(test_notifications),
                                        T(test_a_notification_has_a_time_to_live),
                                        T(test_a_notification_is_delivered_so_many_times),
                                        T(test_the_lock_of_a_notification),
                                        T(test_what_has_had_its_time) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
