/* hub/store/query_suite.c - what every backend has to pass about walks for queries: the indexes, what each
 * pick finds, the order, and the thread for long walks. */
#include "hub/store/store_fixture.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

/* Twins 1..8 of devices, 9 and 10 of modules of d1. */
static const char *const tags[] = { "{\"a\":1}",        "{\"a\":\"1\"}",
                                    "{\"a\":2.5}",      "{\"a\":true}",
                                    "{\"a\":null}",     "{\"b\":{\"c-d\":\"x\"}}",
                                    "{\"a\":\"oslo\"}", "{}",
                                    "{\"a\":\"oslo\"}", "{\"a\":{\"x\":1}}" };

static enum err make_some(struct store_tx *t, void *ctx)
{
    (void)ctx;
    for (size_t i = 0; i < 10; i++) {
        char id[16];
        struct twin_row row;
        snprintf(id, sizeof id, "d%zu", i + 1);
        if (i < 8)
            OK(tx_device_put(t,
                             &(struct device_row){
                                 .id = span_str(id), .generation = SPAN("g"), .origin = SPAN("operator") },
                             UINT64_MAX, NULL));
        else
            OK(tx_module_put(t,
                             &(struct module_row){ .device = SPAN("d1"),
                                                   .id = span_str(i == 8 ? "m1" : "m2"),
                                                   .managed_by = SPAN(""),
                                                   .generation = SPAN("g") },
                             UINT64_MAX, NULL));
        struct span twin = i < 8 ? span_str(id) : i == 8 ? SPAN("d1/m1") : SPAN("d1/m2");
        OK(tx_twin_get(t, twin, &row));
        row.tags = span_str(tags[i]);
        row.reported = SPAN("{\"fw\":{\"v\":\"1.0\"}}");
        OK(tx_twin_put(t, &row));
    }
    return ERR_OK;
}

static const struct span paths[] = { { (const uint8_t *)"tags.a", 6 },
                                     { (const uint8_t *)"tags.b.c-d", 10 },
                                     { (const uint8_t *)"properties.reported.fw.v", 24 } };
static enum err index_all(struct store_tx *t, void *ctx)
{
    const size_t nr = ctx ? *(size_t *)ctx : 3;
    bool have[3];
    OK(tx_twin_index_keep(t, paths, nr, have));
    for (size_t i = 0; i < nr; i++) {
        OK(tx_twin_index_make(t, paths[i]));
        OK(tx_twin_index_make(t, paths[i])); /* once is enough */
    }
    assert_int_equal(tx_twin_index_make(t, SPAN("tags.a'b")), ERR_PROTO);
    OK(tx_twin_index_keep(t, paths, nr, have));
    for (size_t i = 0; i < nr; i++)
        assert_true(have[i]);
    return ERR_OK;
}

struct found {
    char p[256];
    size_t n;
};
static enum err each(void *ctx, struct twin_view *v)
{
    struct found *f = ctx;
    struct span id = twin_view_text(v, TWIN_COL_ID);
    struct twin_row row;
    twin_view_row(v, &row);
    assert_true(span_eq(row.id, id) && row.seq == twin_view_seq(v) && row.version == 2 &&
                span_eq(row.tags, twin_view_text(v, TWIN_COL_TAGS)));
    f->n += (size_t)snprintf(f->p + f->n, sizeof f->p - f->n, "%.*s,", (int)id.n, (const char *)id.p);
    return ERR_OK;
}

static void finds(struct store_tx *t, bool modules, const struct twin_pick *pick, uint64_t after,
                  const char *want)
{
    struct found f = { .n = 0 };
    OK(tx_twin_walk(t, modules, 0, pick, &after, each, &f));
    assert_string_equal(f.p, want);
    size_t nr = 0, rows = 0;
    for (const char *z = want; *z; z++)
        rows += *z == ',';
    if (!pick || after)
        return;
    struct found others = { .n = 0 };
    after = 0;
    OK(tx_twin_walk(t, !modules, 0, pick, &after, each, &others));
    for (const char *z = others.p; *z; z++)
        rows += *z == ',';
    OK(tx_twin_pick_count(t, pick, 100, &nr));
    assert_int_equal(nr, rows);
    OK(tx_twin_pick_count(t, pick, 1, &nr));
    assert_int_equal(nr, rows ? 1 : 0);
}

#define NUM(d)                                                                                               \
    {                                                                                                        \
        .kind = TWIN_VALUE_NUMBER, .number = (d)                                                             \
    }
#define TEXT(z)                                                                                              \
    {                                                                                                        \
        .kind = TWIN_VALUE_TEXT, .text = {(const uint8_t *)(z), sizeof(z) - 1 }                              \
    }
#define A .path = paths[0]

static enum err check_walks(struct store_tx *t, void *ctx)
{
    (void)ctx;
    const struct twin_value some[] = { NUM(2.5), TEXT("oslo"), TEXT("none") };
    const struct twin_value ids[] = { TEXT("d7"), TEXT("d2"), TEXT("D2") };
    finds(t, false, NULL, 0, "d1,d2,d3,d4,d5,d6,d7,d8,");
    finds(t, false, NULL, 6, "d7,d8,");
    finds(t, true, NULL, 0, "d1/m1,d1/m2,");
    finds(t, true, NULL, 9, "d1/m2,");
    finds(t, false, &(struct twin_pick){ A, .low = NUM(1), .high = NUM(1) }, 0, "d1,d4,");
    finds(t, false, &(struct twin_pick){ A, .low = NUM(1), .high = NUM(1) }, 1, "d4,");
    finds(t, false, &(struct twin_pick){ A, .low = TEXT("1"), .high = TEXT("1") }, 0, "d2,");
    finds(t, false, &(struct twin_pick){ A, .low = TEXT("oslo"), .high = TEXT("oslo") }, 0, "d7,");
    finds(t, true, &(struct twin_pick){ A, .low = TEXT("oslo"), .high = TEXT("oslo") }, 0, "d1/m1,");
    finds(t, false, &(struct twin_pick){ A, .low = NUM(1.5) }, 0, "d3,"); /* no text, though it sorts after */
    finds(t, false, &(struct twin_pick){ A, .high = NUM(2.5) }, 0, "d1,d3,d4,");
    finds(t, false, &(struct twin_pick){ A, .low = TEXT("2") }, 0, "d7,");
    finds(t, false, &(struct twin_pick){ A, .high = TEXT("2") }, 0, "d2,"); /* and no number */
    finds(t, false, &(struct twin_pick){ A, .one_of = some, .one_of_nr = 3 }, 0, "d3,d7,");
    finds(t, false, &(struct twin_pick){ A, .one_of = some, .one_of_nr = 3 }, 3, "d7,");
    finds(t, false, &(struct twin_pick){ .path = paths[1], .low = TEXT("x"), .high = TEXT("x") }, 0, "d6,");
    finds(t, false, &(struct twin_pick){ .path = paths[2], .low = TEXT("1.0"), .high = TEXT("1.0") }, 5,
          "d6,d7,d8,");
    finds(t, false, &(struct twin_pick){ .low = TEXT("d3"), .high = TEXT("d3") }, 0, "d3,");
    finds(t, false, &(struct twin_pick){ .low = TEXT("d3"), .high = TEXT("d5") }, 0, "d3,d4,d5,");
    finds(t, false, &(struct twin_pick){ .one_of = ids, .one_of_nr = 3 }, 0, "d2,d7,");
    finds(t, true, &(struct twin_pick){ .low = TEXT("d1/"), .high = TEXT("d1/m1") }, 0, "d1/m1,");
    struct found f = { .n = 0 };
    OK(tx_twin_visit(t, SPAN("d1/m2"), each, &f));
    assert_string_equal(f.p, "d1/m2,");
    assert_int_equal(tx_twin_visit(t, SPAN("d1/m3"), each, &f), ERR_NOTFOUND);
    return ERR_OK;
}

static void test_walks_and_picks(void **state)
{
    (void)state;
    size_t one = 1, none = 0;
    W(make_some, NULL);
    W(index_all, NULL);
    R(check_walks, NULL);
    W(index_all, NULL); /* again: nothing to do */
    W(index_all, &none);
    W(index_all, &one);
    W(index_all, NULL);
    R(check_walks, NULL);
}

static enum err stop_at_third(void *ctx, struct twin_view *v)
{
    (void)v;
    return ++*(int *)ctx == 3 ? ERR_AGAIN : ERR_OK;
}
static enum err stop_early(struct store_tx *t, void *ctx)
{
    uint64_t after = 0;
    assert_int_equal(tx_twin_walk(t, false, 0, NULL, &after, stop_at_third, ctx), ERR_AGAIN);
    return ERR_OK;
}

static void test_a_walk_ends_when_it_is_told_to(void **state)
{
    (void)state;
    int nr = 0;
    W(make_some, NULL);
    R(stop_early, &nr);
    assert_int_equal(nr, 3);
}

static enum err make_many_modules(struct store_tx *t, void *ctx)
{
    (void)ctx;
    for (unsigned i = 0; i < TWIN_PASSED_MAX; i++) {
        char id[16], twin[32];
        struct twin_row row;
        snprintf(id, sizeof id, "n%u", i);
        snprintf(twin, sizeof twin, "d2/n%u", i);
        OK(tx_module_put(
            t,
            &(struct module_row){
                .device = SPAN("d2"), .id = span_str(id), .managed_by = SPAN(""), .generation = SPAN("g") },
            UINT64_MAX, NULL));
        OK(tx_twin_get(t, span_str(twin), &row));
        row.tags = SPAN("{\"a\":\"oslo\"}");
        OK(tx_twin_put(t, &row));
    }
    return ERR_OK;
}
static enum err pass_many(struct store_tx *t, void *ctx)
{
    const struct twin_pick oslo = { A, .low = TEXT("oslo"), .high = TEXT("oslo") };
    (void)ctx;
    for (int with = 0; with < 2; with++) {
        struct found f = { .n = 0 };
        uint64_t after = 0;
        assert_int_equal(tx_twin_walk(t, false, 0, with ? &oslo : NULL, &after, each, &f), ERR_AGAIN);
        assert_string_equal(f.p, with ? "d7," : "d1,d2,d3,d4,d5,d6,d7,d8,");
        assert_true(after > 10); /* behind those that were passed: what is left is less than that many */
        f.p[0] = 0;
        f.n = 0;
        OK(tx_twin_walk(t, false, 0, with ? &oslo : NULL, &after, each, &f));
        assert_string_equal(f.p, "");
    }
    return ERR_OK;
}

static void test_a_walk_that_only_passes_ends_by_itself(void **state)
{
    (void)state;
    W(make_some, NULL);
    W(index_all, NULL);
    W(make_many_modules, NULL);
    R(pass_many, NULL);
}

static void test_paths_of_indexes(void **state)
{
    static const char *const good[] = { "tags.a", "tags.a-b_C.9", "properties.desired.x",
                                        "properties.reported.a.b" };
    static const char *const bad[] = { "",         "tags",      "tags.",        "tags..a",      "tags.a.",
                                       "tags.a b", "tags.a'",   "tags.a\"",     "Tags.a",       "deviceId",
                                       "tags.$a",  "tags.a[0]", "properties.x", "tags.\xc3\xbc" };
    char longest[TWIN_INDEX_PATH_MAX + 2] = "tags.";
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(twin_index_path_ok(span_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(twin_index_path_ok(span_str(bad[i])));
    memset(longest + 5, 'x', TWIN_INDEX_PATH_MAX - 4);
    assert_true(twin_index_path_ok(span_of(longest, TWIN_INDEX_PATH_MAX)));
    assert_false(twin_index_path_ok(span_of(longest, TWIN_INDEX_PATH_MAX + 1)));
}

/* ---- the thread for long walks ------------------------------------------------------------------------- */

struct held {
    struct store_op op;
    sem_t running, go, home;
};
static enum err hold(struct store_tx *t, struct store_op *op)
{
    (void)t;
    struct held *h = (struct held *)op;
    sem_post(&h->running);
    while (sem_wait(&h->go))
        ;
    return ERR_OK;
}
static void held_done(struct op *op)
{
    sem_post(&((struct held *)op)->home);
}

static enum err nothing(struct store_tx *t, void *ctx)
{
    (void)t, (void)ctx;
    return ERR_OK;
}

static void test_a_scan_holds_up_nobody_else(void **state)
{
    (void)state;
    struct held h = { .op = { .op = { .done = held_done }, .run = hold } };
    sem_init(&h.running, 0, 0);
    sem_init(&h.go, 0, 0);
    sem_init(&h.home, 0, 0);
    store_scan(S, &h.op);
    while (sem_wait(&h.running))
        ;
    for (int i = 0; i < 8; i++) { /* more than there are readers */
        R(nothing, NULL);
        W(nothing, NULL);
    }
    sem_post(&h.go);
    while (sem_wait(&h.home))
        ;
    assert_int_equal(h.op.op.err, ERR_OK);
    sem_destroy(&h.running);
    sem_destroy(&h.go);
    sem_destroy(&h.home);
}

int store_suite_query(const struct store_suite *how)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_walks_and_picks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_walk_ends_when_it_is_told_to, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_walk_that_only_passes_ends_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_scan_holds_up_nobody_else, setup, teardown),
        cmocka_unit_test(test_paths_of_indexes),
    };
    store_fixture_use(how);
    return cmocka_run_group_tests_name("queries", tests, NULL, NULL);
}
