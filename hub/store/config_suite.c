/* hub/store/config_suite.c - what every backend has to pass about configurations: rows, results, targets, and
 * twins to look at again. */
#include "hub/store/store_fixture.h"

#include <stdio.h>

static struct config_row config_named(const char *id)
{
    return (struct config_row){ .id = span_str(id),
                                .kind = CONFIG_MODULE,
                                .condition = SPAN("tags.a = 1"),
                                .content = SPAN("{\"moduleContent\":{}}"),
                                .labels = SPAN("{\"l\":\"x\"}"),
                                .metrics = SPAN("{\"m\":\"SELECT * FROM devices\"}"),
                                .schema_version = SPAN("1"),
                                .priority = 7,
                                .etag = 1,
                                .created_ms = 10,
                                .updated_ms = 20,
                                .walking = true };
}
static enum err add(struct store_tx *t, void *ctx)
{
    static const char *const ids[] = { "a", "b", "c" };
    (void)ctx;
    for (size_t i = 0; i < 3; i++) {
        struct config_row r = config_named(ids[i]);
        r.kind = i == 2 ? CONFIG_EDGE : CONFIG_MODULE;
        OK(tx_config_add(t, &r));
        assert_int_equal(tx_config_add(t, &r), ERR_EXISTS);
    }
    return ERR_OK;
}
static enum err each_config(void *ctx, const struct config_row *r)
{
    text_add(ctx, r->id);
    return ((struct text *)ctx)->stop_with;
}
static struct text listed(struct store_tx *t, bool gone)
{
    struct text x = { .n = 0 };
    OK(tx_config_list(t, gone, each_config, &x));
    return x;
}
#define SAME(x, want) same(span_of((x).p, (x).n), want)

static enum err look(struct store_tx *t, void *ctx)
{
    struct config_row r;
    uint64_t nr[2] = { 0 };
    struct text x = { .stop_with = ERR_STOPPED };
    (void)ctx;
    OK(tx_config_get(t, SPAN("b"), &r));
    assert_int_equal(r.kind, CONFIG_MODULE);
    same(r.condition, "tags.a = 1");
    same(r.content, "{\"moduleContent\":{}}");
    same(r.labels, "{\"l\":\"x\"}");
    same(r.metrics, "{\"m\":\"SELECT * FROM devices\"}");
    same(r.schema_version, "1");
    assert_int_equal(r.priority, 7);
    assert_int_equal(r.created_ms, 10);
    assert_int_equal(r.updated_ms, 20);
    assert_true(r.walking && !r.gone);
    same(r.results, "");
    same(r.system_results, "");
    assert_int_equal(tx_config_get(t, SPAN("B"), &r), ERR_NOTFOUND);
    SAME(listed(t, false), "a,b,c,");
    assert_int_equal(tx_config_list(t, false, each_config, &x), ERR_STOPPED);
    SAME(x, "a,");
    OK(tx_config_count(t, nr));
    assert_int_equal(nr[0], 2);
    assert_int_equal(nr[1], 1);
    return ERR_OK;
}

static enum err change(struct store_tx *t, void *ctx)
{
    struct config_row r;
    (void)ctx;
    OK(tx_config_get(t, SPAN("b"), &r));
    r.condition = SPAN("tags.b = 2");
    r.content = SPAN("another");
    r.priority = 8;
    r.etag = 2;
    r.walking = false;
    r.old_cursor = UINT64_MAX;
    r.new_cursor = 5;
    OK(tx_config_put(t, &r));
    OK(tx_config_results_put(t, r.seq, 1, SPAN("{\"old\":1}"), SPAN_NONE)); /* of before: too late */
    OK(tx_config_get(t, SPAN("b"), &r));
    same(r.results, "");
    OK(tx_config_results_put(t, r.seq, 2, SPAN("{\"m\":1}"), SPAN("{\"s\":2}")));
    OK(tx_config_get(t, SPAN("a"), &r));
    r.gone = true;
    return tx_config_put(t, &r);
}
static enum err look_again(struct store_tx *t, void *ctx)
{
    struct config_row r;
    uint64_t nr[2] = { 0 };
    (void)ctx;
    OK(tx_config_get(t, SPAN("b"), &r));
    same(r.condition, "tags.b = 2");
    same(r.content, "{\"moduleContent\":{}}"); /* never changes */
    assert_int_equal(r.priority, 8);
    assert_false(r.walking);
    assert_true(r.old_cursor == UINT64_MAX && r.new_cursor == 5);
    same(r.results, "{\"m\":1}");
    same(r.system_results, "{\"s\":2}");
    assert_int_equal(tx_config_get(t, SPAN("a"), &r), ERR_NOTFOUND); /* it is gone, its row is not */
    SAME(listed(t, false), "b,c,");
    SAME(listed(t, true), "a,b,c,");
    OK(tx_config_count(t, nr));
    assert_int_equal(nr[0] + nr[1], 2);
    return ERR_OK;
}
static enum err anew(struct store_tx *t, void *ctx)
{
    struct config_row r = config_named("a");
    (void)ctx;
    OK(tx_config_add(t, &r)); /* beside the one that is gone */
    SAME(listed(t, true), "a,b,c,a,");
    OK(tx_config_get(t, SPAN("c"), &r));
    OK(tx_config_delete(t, r.seq));
    SAME(listed(t, true), "a,b,a,");
    return ERR_OK;
}

static void test_configurations(void **state)
{
    (void)state;
    W(add, NULL);
    R(look, NULL);
    W(change, NULL);
    reopen();
    R(look_again, NULL);
    W(anew, NULL);
}

/* ---- targets and twins ----------------------------------------------------------------------------------
 */

static enum err each_target(void *ctx, uint64_t config, bool applied)
{
    char text[32];
    snprintf(text, sizeof text, "%llu%s", (unsigned long long)config, applied ? "!" : "");
    text_add(ctx, span_str(text));
    return ERR_OK;
}
static struct text targets(struct store_tx *t, uint64_t twin)
{
    struct text x = { .n = 0 };
    OK(tx_config_targets(t, twin, each_target, &x));
    return x;
}
static enum err use_targets(struct store_tx *t, void *ctx)
{
    uint64_t all = 0, some = 0;
    (void)ctx;
    OK(tx_config_target_put(t, 1, 10, false));
    OK(tx_config_target_put(t, 2, 10, true));
    OK(tx_config_target_put(t, 2, 11, false));
    OK(tx_config_target_put(t, 1, 10, true));
    SAME(targets(t, 10), "1!,2!,");
    SAME(targets(t, 12), "");
    OK(tx_config_target_count(t, 2, &all, &some));
    assert_true(all == 2 && some == 1);
    OK(tx_config_target_delete(t, 2, 10));
    SAME(targets(t, 10), "1!,");
    OK(tx_config_target_count(t, 3, &all, &some));
    assert_true(all == 0 && some == 0);
    return ERR_OK;
}

static enum err each_dirty(void *ctx, uint64_t twin, struct span identity)
{
    (void)twin;
    text_add(ctx, identity);
    return ((struct text *)ctx)->stop_with;
}
static struct text dirty(struct store_tx *t, size_t limit)
{
    struct text x = { .n = 0 };
    OK(tx_config_dirty_list(t, limit, each_dirty, &x));
    return x;
}
static uint64_t seq_of(struct store_tx *t, const char *id)
{
    struct twin_row r;
    OK(tx_twin_get(t, span_str(id), &r));
    return r.seq;
}
static enum err mark(struct store_tx *t, void *ctx)
{
    uint64_t newest = 0, cursor = 0, nr = 0;
    (void)ctx;
    OK(tx_config_newest(t, &newest));
    assert_int_equal(newest, seq_of(t, "d3"));
    /* New twins, two and the last. */
    OK(tx_config_dirty_new(t, 2, &cursor, &nr));
    assert_int_equal(cursor, seq_of(t, "d2"));
    SAME(dirty(t, 10), "d1,d2,");
    OK(tx_config_dirty_new(t, 2, &cursor, &nr));
    assert_int_equal(cursor, newest);
    OK(tx_config_dirty_new(t, 2, &cursor, &nr));
    assert_int_equal(nr, 0);
    SAME(dirty(t, 2), "d1,d2,");
    OK(tx_config_dirty_add(t, seq_of(t, "d2"), SPAN("d2"))); /* once is enough */
    OK(tx_config_dirty_delete(t, seq_of(t, "d1")));
    SAME(dirty(t, 10), "d2,d3,");
    OK(tx_config_dirty_delete(t, seq_of(t, "d2")));
    OK(tx_config_dirty_delete(t, seq_of(t, "d3")));
    /* Targets of a configuration, one of a twin that is gone. */
    OK(tx_config_target_put(t, 9, seq_of(t, "d1"), true));
    OK(tx_config_target_put(t, 9, seq_of(t, "d3"), true));
    OK(tx_config_target_put(t, 9, newest + 5, true));
    cursor = 0;
    OK(tx_config_dirty_targets(t, 9, 1, &cursor));
    SAME(dirty(t, 10), "d1,");
    OK(tx_config_dirty_targets(t, 9, 10, &cursor));
    SAME(dirty(t, 10), "d1,d3,");
    OK(tx_config_dirty_targets(t, 9, 10, &cursor));
    assert_true(cursor == UINT64_MAX);
    SAME(targets(t, newest + 5), "");
    return ERR_OK;
}

static void test_targets(void **state)
{
    static const char *const ids[] = { "d1", "d2", "d3", NULL };
    (void)state;
    W(use_targets, NULL);
    W(make_devices, (void *)(uintptr_t)ids);
    W(mark, NULL);
    reopen();
}

int store_suite_config(const struct store_suite *how)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_configurations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_targets, setup, teardown),
    };
    store_fixture_use(how);
    return cmocka_run_group_tests_name("configurations", tests, NULL, NULL);
}
