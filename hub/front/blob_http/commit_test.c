/* hub/front/blob_http/commit_test.c - what happens to a blob between the look at its blocks and the commit of
 * a list: only what was looked at is committed, and a block that came later stays. */
#include "tests/fake/http_fake.h"
#include "tests/fake/hub_fixture.h"

#include "tests/fake/blob_fake.h"

#include "hub/front/http/job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define PATH "/uploads/d1/f"

static struct fixture fx;
static struct blob_http *front;
static struct worker *worker;
static struct pool *pool;
static struct http_fake answer;

static int setup(void **state)
{
    char path[96];
    (void)state;
    fixture_init(&fx);
    snprintf(path, sizeof path, "%s/files", fx.dir);
    assert_int_equal(files_open(&fx.hub.files, path, 0), ERR_OK);
    fx.hub.settings.upload_container = "uploads";
    fx.hub.settings.registry_container = "";
    fx.hub.settings.upload_blob_bytes = 1u << 20;
    assert_int_equal(worker_new(&worker, 0), ERR_OK);
    assert_int_equal(pool_new(&pool, 1), ERR_OK);
    assert_int_equal(blob_http_new(&front, &fx.hub, pool), ERR_OK);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    http_fake_free(&answer);
    pool_free(pool);
    files_close(fx.hub.files);
    fixture_fini(&fx);
    blob_http_free(front);
    worker_free(worker);
    return 0;
}

static void begin(unsigned method, const char *query, const char *body)
{
    blob_fake(&answer, &fx.hub, worker, front, method, PATH, query, span_str(body))->handler(&answer.r);
}
static unsigned end(void)
{
    while (!answer.status)
        worker_turn(worker, 10000);
    return answer.status;
}
static unsigned ask(unsigned method, const char *query, const char *body)
{
    begin(method, query, body);
    return end();
}

static const uint8_t file[2][FILE_ID_LEN] = { "the other blob", "the new block" };

/* Another client commits the block, and uploads one of the same id. */
static enum err commit_and_upload(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    const struct named_blob_row blob = { .container = SPAN("uploads"),
                                         .name = SPAN("d1/f"),
                                         .file = span_of(file[0], FILE_ID_LEN),
                                         .length = 3,
                                         .created_ms = 1,
                                         .modified_ms = 1 };
    const struct block_row block = {
        SPAN("uploads"), SPAN("d1/f"), SPAN("AAA"), span_of(file[1], FILE_ID_LEN), 3, 1
    };
    enum err e = tx_block_clear(tx, blob.container, blob.name);
    if (!e)
        e = tx_blob_put(tx, &blob);
    return e ? e : tx_block_put(tx, &block);
}
/* As that, and then deletes the blob. */
static enum err delete_blob(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return tx_blob_delete(tx, SPAN("uploads"), SPAN("d1/f"));
}
static enum err commit_upload_and_delete(struct store_tx *tx, void *ctx)
{
    enum err e = commit_and_upload(tx, ctx);
    return e ? e : delete_blob(tx, ctx);
}
static enum err find_block(struct store_tx *tx, void *ctx)
{
    struct block_row b;
    enum err e = tx_block_get(tx, SPAN("uploads"), SPAN("d1/f"), SPAN("AAA"), &b);
    *(bool *)ctx = !e && span_eq(b.file, span_of(file[1], FILE_ID_LEN));
    return e;
}

#define LIST "<BlockList><Latest>QUFB</Latest></BlockList>"

static void a_block_that_came_later_is_not_lost(void **state)
{
    bool there = false;
    (void)state;
    for (int i = 0; i < 4;
         i++) { /* without a blob, and over one; which is still there in the end, or deleted */
        if (i & 1)
            assert_int_equal(ask(HTTP_PUT_, "", "whole"), 201);
        assert_int_equal(ask(HTTP_PUT_, "&comp=block&blockid=QUFB", "old"), 201);
        begin(HTTP_PUT_, "&comp=blocklist", LIST);
        worker_turn(worker, 10000); /* the blocks were looked at; their bytes are copied */
        assert_int_equal(fixture_tx(&fx, i & 2 ? commit_upload_and_delete : commit_and_upload, NULL), ERR_OK);
        assert_int_equal(end(), 400);
        assert_non_null(strstr(answer.body, "InvalidBlockList"));
        assert_int_equal(fixture_tx(&fx, find_block, &there), ERR_OK);
        assert_true(there);
    }
}

/* The blocks of a list stay when the blob goes. */
static void a_blob_that_went_is_no_reason(void **state)
{
    (void)state;
    assert_int_equal(ask(HTTP_PUT_, "", "whole"), 201);
    assert_int_equal(ask(HTTP_PUT_, "&comp=block&blockid=QUFB", "new"), 201);
    begin(HTTP_PUT_, "&comp=blocklist", LIST);
    worker_turn(worker, 10000);
    assert_int_equal(fixture_tx(&fx, delete_blob, NULL), ERR_OK);
    assert_int_equal(end(), 201);
    assert_int_equal(ask(HTTP_GET_, "", ""), 200);
    assert_string_equal(answer.body, "new");
}

static enum err replace_blob(struct store_tx *tx, void *ctx)
{
    const struct named_blob_row blob = { .container = SPAN("uploads"),
                                         .name = SPAN("d1/f"),
                                         .file = span_of(file[0], FILE_ID_LEN),
                                         .length = 3,
                                         .created_ms = 1,
                                         .modified_ms = 1 };
    (void)ctx;
    return tx_blob_put(tx, &blob);
}
static enum err is_replaced(struct store_tx *tx, void *ctx)
{
    struct named_blob_row r;
    enum err e = tx_blob_get(tx, SPAN("uploads"), SPAN("d1/f"), &r);
    *(bool *)ctx = !e && span_eq(r.file, span_of(file[0], FILE_ID_LEN));
    return e;
}

/* Blocks of the blob that is there are blocks of that one alone. */
static void a_blob_that_was_replaced_is_not_undone(void **state)
{
    bool there = false;
    (void)state;
    assert_int_equal(ask(HTTP_PUT_, "&comp=block&blockid=QUFB", "old"), 201);
    assert_int_equal(ask(HTTP_PUT_, "&comp=blocklist", LIST), 201);
    begin(HTTP_PUT_, "&comp=blocklist", "<BlockList><Committed>QUFB</Committed></BlockList>");
    worker_turn(worker, 10000);
    assert_int_equal(fixture_tx(&fx, replace_blob, NULL), ERR_OK);
    assert_int_equal(end(), 400);
    assert_non_null(strstr(answer.body, "written meanwhile"));
    assert_int_equal(fixture_tx(&fx, is_replaced, &there), ERR_OK);
    assert_true(there);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = { T(a_block_that_came_later_is_not_lost),
                                        T(a_blob_that_went_is_no_reason),
                                        T(a_blob_that_was_replaced_is_not_undone) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
