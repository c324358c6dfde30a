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
    const struct CMUnitTest tests[] = {
        T(test_names),  T(test_ten_are_open),  T(test_ends),
        T(test_quotas), T(test_notifications), T(test_what_has_had_its_time)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
