/* hub/store/query_suite.c - what every backend has to pass about walks for queries: the indexes, what each
 * pick finds, the order, and the thread for long walks. */
#include "hub/store/store_fixture.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

/* Twins 1..8 of devices, 9 and 10 of modules of d1. */
static const char *const few_tags[] = { "{\"a\":1}",        "{\"a\":\"1\"}",
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
        row.tags = span_str(few_tags[i]);
        row.reported = SPAN("{\"fw\":{\"v\":\"1.0\"}}");
        OK(tx_twin_put(t, &row));
    }
    return ERR_OK;
}

static const struct span paths[] = { { (const uint8_t *)"tags.a", 6 },
                                     { (const uint8_t *)"tags.b.c-d", 10 },
                                     { (const uint8_t *)"properties.reported.fw.v", 24 } };
static unsigned fill(struct store_tx *t, struct span path) /* the steps it took */
{
    struct twin_index_step step = { .done = false };
    unsigned nr = 0;
    while (!step.done) {
        OK(tx_twin_index_fill(t, path, &step));
        nr++;
    }
    return nr;
}
static unsigned clear(struct store_tx *t)
{
    unsigned nr = 0;
    for (bool done = false; !done; nr++)
        OK(tx_twin_index_clear(t, &done));
    return nr;
}

static enum err index_all(struct store_tx *t, void *ctx)
{
    const size_t nr = ctx ? *(size_t *)ctx : 3;
    const struct span bad = SPAN("tags.a'b");
    struct twin_index_step step;
    bool ready[3];
    OK(tx_twin_index_keep(t, paths, nr, ready));
    for (size_t i = 0; i < nr; i++) {
        assert_int_equal(fill(t, paths[i]), 1);
        assert_int_equal(fill(t, paths[i]), 1); /* once is enough */
    }
    assert_int_equal(tx_twin_index_fill(t, SPAN("tags.none"), &step), ERR_NOTFOUND);
    assert_int_equal(tx_twin_index_keep(t, &bad, 1, ready), ERR_PROTO);
    OK(tx_twin_index_keep(t, paths, nr, ready));
    for (size_t i = 0; i < nr; i++)
        assert_true(ready[i]);
    return ERR_OK;
}
static enum err clear_all(struct store_tx *t, void *ctx)
{
    *(unsigned *)ctx = clear(t);
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
    W(index_all, &one); /* made anew beside what is left of those before */
    W(index_all, NULL);
    R(check_walks, NULL);
    unsigned steps = 0;
    W(clear_all, &steps);
    assert_int_equal(steps, 3 + 1);
    W(clear_all, &steps);
    assert_int_equal(steps, 1);
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

/* ---- an index beside the writes ------------------------------------------------------------------------ */

/* Every value a path can have, as it is written and as an index has to find it. */
static char long_json[4003], long_text[4000];
static const struct value {
    const char *json; /* NULL: no such member */
    struct twin_value v;
} values[] = { { NULL, { .kind = TWIN_VALUE_NONE } },
               { "null", { .kind = TWIN_VALUE_NONE } },
               { "{\"x\":1}", { .kind = TWIN_VALUE_NONE } },
               { "[1,2]", { .kind = TWIN_VALUE_NONE } },
               { "true", NUM(1) },
               { "false", NUM(0) },
               { "1", NUM(1) },
               { "1.0", NUM(1) },
               { "-3", NUM(-3) },
               { "-0.0", NUM(0) },
               { "1e3", NUM(1000) },
               { "0.1", NUM(0.1) },
               { "4503599627370495", NUM(4503599627370495.0) },
               { "1e300", NUM(1e300) },
               { "\"\"", TEXT("") },
               { "\"1\"", TEXT("1") },
               { "\"oslo\"", TEXT("oslo") },
               { "\"os\\u006co\"", TEXT("oslo") },
               { "\"{\\\"x\\\":1}\"", TEXT("{\"x\":1}") },
               { "\"\xc3\xb8\"", TEXT("\xc3\xb8") },
               { "\"os\\u0000lo\"", TEXT("os\0lo") },
               { "\"os\"", TEXT("os") },
               { "9007199254740993", NUM(9007199254740992.0) },
               { "-9007199254740992", NUM(-9007199254740992.0) },
               { long_json, { .kind = TWIN_VALUE_TEXT, .text = { (const uint8_t *)long_text, 4000 } } } };
#define VALUES (sizeof values / sizeof values[0])

/* Devices d0, d1, ... and modules dN/m of the first of them. Some more than two steps take. */
enum { FLEET = 2 * TWIN_INDEX_ROWS + 300, WITH_MODULE = 60, TWINS = FLEET + WITH_MODULE };
struct model { /* what has to be there */
    bool there;
    uint8_t a, v; /* values of tags.a.b and properties.reported.v */
};
static struct model model[TWINS];
static const struct span model_paths[] = { { (const uint8_t *)"tags.a.b", 8 },
                                           { (const uint8_t *)"properties.reported.v", 21 } };
static uint32_t seed;
static unsigned any(unsigned below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

static struct span model_name(unsigned i, char out[24])
{
    return span_of(out,
                   (size_t)(i < FLEET ? snprintf(out, 24, "d%u", i) : snprintf(out, 24, "d%u/m", i - FLEET)));
}

static enum err model_make(struct store_tx *t, unsigned i)
{
    char id[24];
    if (i < FLEET)
        return tx_device_put(t,
                             &(struct device_row){ .id = model_name(i, id),
                                                   .generation = SPAN("g"),
                                                   .origin = SPAN("operator") },
                             UINT64_MAX, NULL);
    return tx_module_put(t,
                         &(struct module_row){ .device = model_name(i - FLEET, id),
                                               .id = SPAN("m"),
                                               .managed_by = SPAN(""),
                                               .generation = SPAN("g") },
                         UINT64_MAX, NULL);
}

static enum err model_delete(struct store_tx *t, struct model *m, unsigned i)
{
    char id[24];
    m[i].there = false;
    if (i >= FLEET)
        return tx_module_delete(t, model_name(i - FLEET, id), SPAN("m"));
    if (i < WITH_MODULE)
        m[FLEET + i].there = false;
    return tx_device_delete(t, model_name(i, id));
}

static enum err model_write(struct store_tx *t, const struct model *m, unsigned i)
{
    static char tags[8192], reported[8192];
    const char *a = values[m[i].a].json, *v = values[m[i].v].json;
    char id[24];
    struct twin_row row;
    enum err e = tx_twin_get(t, model_name(i, id), &row);
    if (e)
        return e;
    snprintf(tags, sizeof tags, a ? "{\"x\":{\"b\":1},\"a\":{\"c\":[3],\"b\":%s}}" : "{\"a\":{},\"b\":2}", a);
    snprintf(reported, sizeof reported, v ? "{\"n\":%u,\"v\":%s}" : "{\"n\":%u}", any(1000), v);
    row.tags = span_str(tags);
    row.reported = span_str(reported);
    return tx_twin_put(t, &row);
}

/* Anything that can happen to a twin. */
static enum err mutate(struct store_tx *t, struct model *m)
{
    unsigned i = any(TWINS), what = any(10);
    if (i >= FLEET && !m[i - FLEET].there)
        return ERR_OK;
    if (m[i].there && what == 0)
        return model_delete(t, m, i);
    if (!m[i].there) {
        enum err e = model_make(t, i);
        if (e)
            return e;
        m[i] = (struct model){ .there = true };
    }
    if (what & 1)
        m[i].a = (uint8_t)any(VALUES);
    if (what & 2)
        m[i].v = (uint8_t)any(VALUES);
    return model_write(t, m, i);
}

static enum err populate(struct store_tx *t, void *ctx)
{
    (void)ctx;
    memset(model, 0, sizeof model);
    for (unsigned i = 0; i < TWINS; i++) {
        model[i] = (struct model){ true, (uint8_t)any(VALUES), (uint8_t)any(VALUES) };
        OK(model_make(t, i));
        OK(model_write(t, model, i));
    }
    return ERR_OK;
}
static enum err mutate_some(struct store_tx *t, void *ctx)
{
    (void)ctx;
    for (int i = 0; i < 500; i++)
        OK(mutate(t, model));
    return ERR_OK;
}
static enum err mutate_one_of_them(struct store_tx *t, void *ctx)
{
    struct model *m = ctx;
    OK(mutate(t, m));
    return any(2) ? ERR_STALE : ERR_OK;
}
/* A step, and writes that already count on it. */
static struct model scratch[TWINS];
static enum err step_and_mutate(struct store_tx *t, void *ctx)
{
    const struct span *path = ctx;
    struct twin_index_step step;
    OK(tx_twin_index_fill(t, *path, &step));
    for (int i = 0; i < 20; i++)
        OK(mutate(t, scratch));
    return ERR_STALE;
}
/* Parts that are undone, in an op that is not. */
static enum err mutate_and_undo_parts(struct store_tx *t, void *ctx)
{
    static struct model before[TWINS];
    memcpy(scratch, model, sizeof model);
    assert_int_equal(tx_try(t, step_and_mutate, ctx), ERR_STALE);
    for (int i = 0; i < 200; i++) {
        memcpy(before, model, sizeof model);
        if (tx_try(t, mutate_one_of_them, model) == ERR_STALE)
            memcpy(model, before, sizeof model);
    }
    return ERR_OK;
}
/* What was done by an op that fails, a step of the index in its midst. */
static enum err mutate_and_fail(struct store_tx *t, void *ctx)
{
    memcpy(scratch, model, sizeof model);
    for (int i = 0; i < 20; i++)
        OK(mutate(t, scratch));
    return step_and_mutate(t, ctx);
}
struct filling {
    struct span path;
    struct twin_index_step step;
};
static enum err one_step(struct store_tx *t, void *ctx)
{
    struct filling *f = ctx;
    OK(tx_twin_index_fill(t, f->path, &f->step));
    assert_true(f->step.done || (f->step.at > 0 && f->step.at <= f->step.end));
    return ERR_OK;
}
static enum err keep_model_paths(struct store_tx *t, void *ctx)
{
    return tx_twin_index_keep(t, model_paths, 2, ctx);
}

static bool in_pick(const struct twin_pick *p, const struct twin_value *v)
{
    for (unsigned side = 0; side < 2; side++) {
        const struct twin_value *bound = side ? &p->high : &p->low;
        if (bound->kind == TWIN_VALUE_NONE)
            continue;
        if (bound->kind != v->kind)
            return false;
        int diff;
        if (v->kind == TWIN_VALUE_NUMBER) {
            diff = (v->number > bound->number) - (v->number < bound->number);
        } else {
            size_t n = v->text.n < bound->text.n ? v->text.n : bound->text.n;
            diff = n ? memcmp(v->text.p, bound->text.p, n) : 0;
            diff = diff ? diff : (v->text.n > bound->text.n) - (v->text.n < bound->text.n);
        }
        if (side ? diff > 0 : diff < 0)
            return false;
    }
    return v->kind != TWIN_VALUE_NONE;
}

struct expect {
    const struct twin_pick *pick;
    unsigned which; /* of model_paths */
    uint64_t last;
    size_t nr;
};
static const struct twin_value *model_value(unsigned i, unsigned which)
{
    return &values[which ? model[i].v : model[i].a].v;
}
static enum err expected(void *ctx, struct twin_view *v)
{
    struct expect *x = ctx;
    struct span id = twin_view_text(v, TWIN_COL_ID);
    char text[24];
    unsigned i = 0;
    assert_true(twin_view_seq(v) > x->last);
    x->last = twin_view_seq(v);
    snprintf(text, sizeof text, "%.*s", (int)id.n, (const char *)id.p);
    assert_int_equal(text[0], 'd');
    i = (unsigned)strtoul(text + 1, NULL, 10);
    if (strchr(text, '/'))
        i += FLEET;
    assert_true(i < TWINS && model[i].there && in_pick(x->pick, model_value(i, x->which)));
    x->nr++;
    return ERR_OK;
}
static void check_pick(struct store_tx *t, unsigned which, struct twin_pick pick)
{
    size_t want = 0, counted = 0;
    struct expect x = { .pick = &pick, .which = which };
    pick.path = model_paths[which];
    for (unsigned i = 0; i < TWINS; i++)
        want += model[i].there && in_pick(&pick, model_value(i, which));
    for (int modules = 0; modules < 2; modules++) {
        uint64_t after = 0;
        x.last = 0;
        OK(tx_twin_walk(t, modules, 0, &pick, &after, expected, &x));
    }
    assert_int_equal(x.nr, want);
    OK(tx_twin_pick_count(t, &pick, SIZE_MAX, &counted)); /* rows of the index: none is left behind */
    assert_int_equal(counted, want);
}
static enum err check_model(struct store_tx *t, void *ctx)
{
    (void)ctx;
    for (unsigned which = 0; which < 2; which++) {
        for (size_t i = 0; i < VALUES; i++) {
            if (values[i].v.kind == TWIN_VALUE_NONE)
                continue;
            check_pick(t, which, (struct twin_pick){ .low = values[i].v, .high = values[i].v });
            check_pick(t, which, (struct twin_pick){ .low = values[i].v });
            check_pick(t, which, (struct twin_pick){ .high = values[i].v });
        }
        check_pick(t, which, (struct twin_pick){ .low = NUM(0), .high = NUM(1) });
    }
    return ERR_OK;
}
static enum err is_not_ready(struct store_tx *t, void *ctx)
{
    const struct twin_pick pick = { .path = *(const struct span *)ctx, .low = NUM(1), .high = NUM(1) };
    uint64_t after = 0;
    size_t nr;
    bool ready = true;
    OK(tx_twin_index_is_ready(t, pick.path, &ready));
    assert_false(ready);
    assert_int_equal(tx_twin_walk(t, false, 0, &pick, &after, each, NULL), ERR_NOTFOUND);
    assert_int_equal(tx_twin_pick_count(t, &pick, 1, &nr), ERR_NOTFOUND);
    return ERR_OK;
}

static enum err keep_second(struct store_tx *t, void *ctx)
{
    return tx_twin_index_keep(t, model_paths + 1, 1, ctx);
}
static enum err one_clear(struct store_tx *t, void *ctx)
{
    return tx_twin_index_clear(t, ctx);
}

/* The first is dropped and wanted again while its rows are on their way out. */
static void drop_and_make_again(void)
{
    struct filling f = { .path = model_paths[0] };
    bool ready[2], done = false;
    W(keep_second, ready);
    assert_true(ready[0]);
    R(is_not_ready, &f.path);
    W(one_clear, &done);
    assert_false(done);
    W(mutate_some, NULL);
    reopen();
    W(keep_model_paths, ready);
    assert_true(!ready[0] && ready[1]);
    for (unsigned steps = 0; !done || !f.step.done; steps++) {
        W(mutate_some, NULL);
        W(one_clear, &done);
        W(one_step, &f);
        assert_true(steps < 20);
    }
    R(check_model, NULL);
}

static void anew(void)
{
    assert_int_equal(teardown(NULL), 0);
    assert_int_equal(setup(NULL), 0);
}

/* Twins are written, made and deleted between the steps, by ops that succeed, fail, or fail in part; the
 * store is closed and opened in the middle. In the end an index finds what is there, and has nothing else. */
static void test_an_index_is_made_beside_the_writes(void **state)
{
    (void)state;
    bool ready[2];
    memset(long_text, 'x', sizeof long_text);
    memset(long_json, 'x', sizeof long_json);
    long_json[0] = '"';
    memcpy(long_json + sizeof long_json - 2, "\"", 2);
    for (uint32_t round = 1; round <= 3; round++) {
        unsigned steps = 0;
        seed = round;
        anew();
        W(populate, NULL);
        W(keep_model_paths, ready);
        for (unsigned which = 0; which < 2; which++) {
            struct filling f = { .path = model_paths[which] };
            while (!f.step.done) {
                R(is_not_ready, &f.path);
                assert_int_equal(store_write_wait(S, mutate_and_fail, &f.path), ERR_STALE);
                W(mutate_some, NULL);
                W(one_step, &f);
                W(mutate_and_undo_parts, &f.path);
                assert_true(++steps < 20);
                if (steps == 2)
                    reopen();
            }
        }
        assert_true(steps > 4);
        R(check_model, NULL);
        W(mutate_some, NULL);
        W(mutate_and_undo_parts, (void *)(uintptr_t)&model_paths[1]);
        reopen();
        W(keep_model_paths, ready);
        assert_true(ready[0] && ready[1]);
        W(mutate_some, NULL);
        R(check_model, NULL);
        drop_and_make_again();
    }
}

/* One more twin than a piece may look at, each with a value of its own or all with the same; or few, that are
 * large. */
enum rows { ROWS_DIFFER, ROWS_SAME, ROWS_LARGE };
static enum err make_rows(struct store_tx *t, void *ctx)
{
    const enum rows *how = ctx;
    const bool large = *how == ROWS_LARGE;
    static char tags[TWIN_INDEX_BYTES / 8];
    for (unsigned i = 0; i < (large ? 20 : TWIN_INDEX_ROWS + 1); i++) {
        char id[16];
        struct twin_row row;
        snprintf(id, sizeof id, "c%u", i);
        OK(tx_device_put(
            t,
            &(struct device_row){ .id = span_str(id), .generation = SPAN("g"), .origin = SPAN("operator") },
            UINT64_MAX, NULL));
        OK(tx_twin_get(t, span_str(id), &row));
        snprintf(tags, sizeof tags, "{\"a\":%u,\"pad\":\"%0*d\"}", *how == ROWS_SAME ? 1 : i,
                 large ? (int)sizeof tags - 30 : 1, 0);
        row.tags = span_str(tags);
        OK(tx_twin_put(t, &row));
    }
    return ERR_OK;
}
struct pieces {
    struct twin_index_step first;
    unsigned fill, clear;
};
static enum err count_pieces(struct store_tx *t, void *ctx)
{
    struct pieces *p = ctx;
    bool ready;
    OK(tx_twin_index_keep(t, paths, 1, &ready));
    OK(tx_twin_index_fill(t, paths[0], &p->first));
    p->fill = 1 + fill(t, paths[0]);
    OK(tx_twin_index_keep(t, paths, 0, &ready));
    p->clear = clear(t);
    return ERR_OK;
}

static void test_a_piece_of_an_index_has_its_caps(void **state)
{
    struct pieces p;
    enum rows how;
    (void)state;
    for (how = ROWS_DIFFER; how <= ROWS_SAME; how++) {
        W(make_rows, &how);
        W(count_pieces, &p);
        assert_false(p.first.done);
        assert_int_equal(p.first.at, TWIN_INDEX_ROWS);
        assert_int_equal(p.first.end, TWIN_INDEX_ROWS + 1);
        assert_int_equal(p.fill, 2);
        assert_int_equal(p.clear, 4); /* twice half of the rows, what is left and the index, nothing */
        anew();
    }
    how = ROWS_LARGE;
    W(make_rows, &how);
    W(count_pieces, &p);
    assert_false(p.first.done);
    assert_int_equal(p.first.at, 9); /* the ninth of an eighth each, less some bytes */
    assert_int_equal(p.fill, 3);
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
        cmocka_unit_test_setup_teardown(test_an_index_is_made_beside_the_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_piece_of_an_index_has_its_caps, setup, teardown),
        cmocka_unit_test(test_paths_of_indexes),
    };
    store_fixture_use(how);
    return cmocka_run_group_tests_name("queries", tests, NULL, NULL);
}
