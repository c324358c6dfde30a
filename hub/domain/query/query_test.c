/* hub/domain/query/query_test.c - queries on a store: the 44 of the specification, pages of every size,
 * continuations that were touched, indexes that find no less than a walk does, conditions of jobs and
 * configurations. */
#include "tests/fake/fleet_fixture.h"

#include "hub/domain/query/query_impl.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above */
#include <cmocka.h>

static struct fixture fx;
static struct query_sources sources;
static json_t *queries;

/* ---- the sample fleet ---------------------------------------------------------------------------------- */

static enum err fleet_jobs(struct store_tx *tx, struct span job, uint64_t after, query_job_each *each,
                           void *ctx)
{
    size_t i;
    json_t *o;
    enum err e = ERR_OK;
    (void)tx;
    json_array_foreach(json_object_get(fleet_json, "deviceJobs"), i, o)
    {
        char *text = json_dumps(o, 0);
        if (!e && i >= after &&
            (!job.n || span_eq(job, span_str(json_string_value(json_object_get(o, "jobId"))))))
            e = each(ctx, i + 1, span_str(text));
        free(text);
    }
    return e;
}

static void index_paths(const char *list)
{
    struct span bad;
    assert_int_equal(query_indexes_parse(&sources, span_str(list), &bad), ERR_OK);
    assert_int_equal(query_indexes_apply(fx.hub.store, &sources), ERR_OK);
    static struct query_index_build build;
    query_indexes_build(&build, &fx.hub, &sources, &fx.mail);
    while (atomic_load(&sources.ready) != (1u << sources.index_nr) - 1)
        fixture_pump(&fx, 10);
}

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    fleet_json = fleet_load("fleet");
    queries = fleet_load("queries");
    sources = (struct query_sources){ .jobs = fleet_jobs };
    fx.hub.queries = &sources;
    return fixture_tx(&fx, fleet_put, NULL) != ERR_OK;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(fleet_json);
    json_decref(queries);
    fixture_fini(&fx);
    return 0;
}

/* ---- running a query ----------------------------------------------------------------------------------- */

struct step {
    struct store_op op; /* first */
    struct query_run run;
};
static enum err step_run(struct store_tx *tx, struct store_op *op)
{
    return query_step(&((struct step *)op)->run, tx);
}

struct page {
    json_t *rows; /* the caller's */
    char type[16], next[QUERY_NEXT_LEN + 1], why[160];
    const struct twin_pick *pick;
};

static enum err run_page(const char *text, const char *next, uint32_t max, struct page *out)
{
    struct arena a;
    struct query_error err;
    struct step s = { .op.run = step_run };
    arena_init(&a, 16u << 20);
    *out = (struct page){ .rows = NULL };
    enum err e = query_open(&s.run, &fx.hub, &a, span_str(text), span_str(next), max, &err);
    if (e && e != ERR_VERIFY)
        snprintf(out->why, sizeof out->why, "%s", err.message);
    unsigned slices = 0;
    do {
        if (e && e != ERR_AGAIN)
            break;
        fixture_prepare(&fx, &s.op.op);
        store_scan(fx.hub.store, &s.op);
        e = fixture_wait(&fx, &s.op.op);
        slices++;
    } while (e == ERR_AGAIN);
    if (!e) {
        out->rows = json_loadb((const char *)s.run.out.p, s.run.out.len, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(out->rows);
        snprintf(out->type, sizeof out->type, "%s", s.run.item_type);
        snprintf(out->next, sizeof out->next, "%.*s", (int)s.run.next.n, (const char *)s.run.next.p);
        out->pick = s.run.pick;
    }
    arena_fini(&a);
    return e;
}

/* All pages of a size; the rows in one array. */
static json_t *run_all(const char *text, uint32_t max, unsigned *pages, char type[16])
{
    json_t *all = json_array();
    struct page p = { .next = "" };
    *pages = 0;
    do {
        char next[QUERY_NEXT_LEN + 1];
        memcpy(next, p.next, sizeof next);
        if (run_page(text, next, max, &p))
            fail_msg("%s: %s", text, p.why);
        assert_true(json_array_size(p.rows) <= max);
        json_array_extend(all, p.rows);
        json_decref(p.rows);
        ++*pages;
    } while (p.next[0]);
    memcpy(type, p.type, 16);
    return all;
}

static bool is_in(const json_t *list, const json_t *v)
{
    size_t i;
    json_t *o;
    json_array_foreach(list, i, o)
    {
        if (json_equal(o, v))
            return true;
        json_t *x, *y; /* 294 and 294.0 are the same here */
        const char *k;
        bool same = json_is_object(o) && json_object_size(o) == json_object_size(v);
        json_object_foreach(o, k, x)
        {
            y = json_object_get(v, k);
            same =
                same && (json_is_number(x) && json_is_number(y) ? json_number_value(x) == json_number_value(y)
                                                                : json_equal(x, y));
        }
        if (same)
            return true;
    }
    return false;
}

/* What the lists name a row by. */
static json_t *name_of(const json_t *row)
{
    const char *d = json_string_value(json_object_get(row, "deviceId"));
    const char *m = json_string_value(json_object_get(row, "moduleId"));
    const char *j = json_string_value(json_object_get(row, "jobId"));
    return json_sprintf("%s%s%s%s%s", j ? j : "", j ? ":" : "", d, m ? "/" : "", m ? m : "");
}

static void check_case(const json_t *c, uint32_t max)
{
    const char *id = json_string_value(json_object_get(c, "id"));
    const char *text = json_string_value(json_object_get(c, "query"));
    const json_t *expect = json_object_get(c, "expect"), *ids = json_object_get(expect, "ids");
    const json_t *want = ids ? ids : json_object_get(expect, "rows");
    struct page p;
    unsigned pages;
    char type[16];
    size_t i;
    json_t *row;
    if (json_object_get(expect, "error")) {
        assert_int_equal(run_page(text, "", 0, &p), ERR_PROTO);
        assert_true(p.why[0]);
        return;
    }
    json_t *got = run_all(text, max, &pages, type);
    assert_string_equal(type, json_string_value(json_object_get(expect, "itemType")));
    if (json_array_size(got) != json_array_size(want))
        fail_msg("%s: %zu rows", id, json_array_size(got));
    json_array_foreach(got, i, row)
    {
        json_t *v = ids ? name_of(row) : json_incref(row);
        if (!is_in(want, v))
            fail_msg("%s: unexpected %s", id, json_dumps(row, 0));
        json_decref(v);
    }
    size_t rows = json_array_size(want);
    assert_int_equal(pages, rows ? (rows + max - 1) / max : 1);
    json_decref(got);
}

static void the_44_queries_hold_with_pages_of_any_size(void **state)
{
    (void)state;
    size_t i;
    json_t *c;
    for (int indexed = 0; indexed < 2; indexed++) {
        if (indexed)
            index_paths("tags.site, tags.floor, tags.kind, properties.reported.battery, "
                        "properties.reported.telemetryConfig.status, properties.desired.threshold");
        for (uint32_t max = 1; max <= 4; max++)
            json_array_foreach(queries, i, c) check_case(c, max);
        json_array_foreach(queries, i, c) check_case(c, 1000);
    }
}

static void a_document_is_the_twin_as_it_is_shown(void **state)
{
    (void)state;
    struct page p;
    assert_int_equal(run_page("SELECT * FROM devices WHERE deviceId = 'sensor-001'", "", 0, &p), ERR_OK);
    const json_t *t = json_array_get(p.rows, 0);
    assert_string_equal(json_string_value(json_object_get(t, "etag")), "AAAAAAAAAAQ=");
    assert_int_equal(json_integer_value(json_object_get(t, "version")), 17);
    assert_true(json_is_object(
        json_object_get(json_object_get(json_object_get(t, "properties"), "desired"), "$metadata")));
    json_decref(p.rows);
    /* Whatever is not a column comes out of the same document. */
    assert_int_equal(run_page("SELECT etag, version, properties.desired.$version AS v, x509Thumbprint, "
                              "properties.reported AS r, nothing FROM devices WHERE deviceId = 'sensor-001'",
                              "", 0, &p),
                     ERR_OK);
    const json_t *row = json_array_get(p.rows, 0);
    assert_string_equal(json_string_value(json_object_get(row, "etag")), "AAAAAAAAAAQ=");
    assert_int_equal(json_integer_value(json_object_get(row, "v")), 4);
    assert_int_equal(json_object_size(row), 5);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(row, "r"), "$version")), 12);
    json_decref(p.rows);
}

/* Attributes that are looked up by themselves, and the same ones in the document. */
static void attributes_agree_with_the_document(void **state)
{
    (void)state;
    static const char *const collections[] = { "devices", "devices.modules" };
    static const char *const names[] = { "deviceId",         "moduleId", "status", "connectionState",
                                         "lastActivityTime", "tags",     "modelId" };
    for (size_t c = 0; c < 2; c++) {
        char text[160];
        struct page whole, parts;
        size_t i;
        json_t *row;
        snprintf(text, sizeof text, "SELECT * FROM %s", collections[c]);
        assert_int_equal(run_page(text, "", 0, &whole), ERR_OK);
        snprintf(
            text, sizeof text,
            "SELECT deviceId, moduleId, status, connectionState, lastActivityTime, tags, modelId FROM %s",
            collections[c]);
        assert_int_equal(run_page(text, "", 0, &parts), ERR_OK);
        assert_int_equal(json_array_size(whole.rows), json_array_size(parts.rows));
        json_array_foreach(parts.rows, i, row) for (size_t n = 0; n < sizeof names / sizeof names[0]; n++)
        {
            const json_t *x = json_object_get(row, names[n]);
            const json_t *y = json_object_get(json_array_get(whole.rows, i), names[n]);
            assert_true(x == y || json_equal(x, y)); /* both NULL: it has none */
        }
        json_decref(whole.rows);
        json_decref(parts.rows);
    }
}

static void a_continuation_belongs_to_its_query(void **state)
{
    (void)state;
    struct page p, q;
    static const char text[] = "SELECT * FROM devices";
    assert_int_equal(run_page(text, "", 3, &p), ERR_OK);
    assert_int_equal(strlen(p.next), QUERY_NEXT_LEN);
    json_decref(p.rows);
    fixture_shut(&fx); /* it outlives a restart */
    fixture_open(&fx);
    assert_int_equal(run_page(text, p.next, 3, &q), ERR_OK);
    assert_int_equal(json_array_size(q.rows), 3);
    json_decref(q.rows);
    assert_int_equal(run_page("SELECT  * FROM devices", p.next, 3, &q), ERR_VERIFY);
    for (size_t i = 0; i < QUERY_NEXT_LEN; i++) {
        char next[QUERY_NEXT_LEN + 1];
        memcpy(next, p.next, sizeof next);
        next[i] = next[i] == '0' ? '1' : '0';
        assert_int_equal(run_page(text, next, 3, &q), ERR_VERIFY);
        next[i] = 0;
        if (i)
            assert_int_equal(run_page(text, next, 3, &q), ERR_VERIFY);
    }
    fx.hub.director_seed[0] ^= 1;
    assert_int_equal(run_page(text, p.next, 3, &q), ERR_VERIFY);
}

static void top_counts_over_all_pages(void **state)
{
    (void)state;
    for (uint32_t top = 0; top <= 9; top++)
        for (uint32_t max = 1; max <= 4; max++) {
            char text[64], type[16];
            unsigned pages;
            snprintf(text, sizeof text, "SELECT TOP %u deviceId FROM devices", top);
            json_t *got = run_all(text, max, &pages, type);
            size_t want = top < 8 ? top : 8;
            assert_int_equal(json_array_size(got), want);
            assert_int_equal(pages, want ? (want + max - 1) / max : 1);
            json_decref(got);
        }
}

static void aggregates_of_nothing(void **state)
{
    (void)state;
    struct page p;
    assert_int_equal(
        run_page("SELECT COUNT() AS n, SUM(tags.floor) AS s FROM devices WHERE false", "", 0, &p), ERR_OK);
    json_t *want = json_pack("[{s:i}]", "n", 0);
    assert_true(json_equal(p.rows, want));
    json_decref(want);
    json_decref(p.rows);
    assert_int_equal(
        run_page("SELECT tags.site, COUNT() AS n FROM devices WHERE false GROUP BY tags.site", "", 0, &p),
        ERR_OK);
    assert_int_equal(json_array_size(p.rows), 0);
    json_decref(p.rows);
}

/* ---- plans --------------------------------------------------------------------------------------------- */

static void an_index_is_used_where_it_finds_all(void **state)
{
    (void)state;
    static const struct {
        const char *where;
        bool picked;
    } c[] = {
        { "tags.site = 'munich'", true },
        { "'munich' = tags.site", true },
        { "tags.floor > 1 AND true", true },
        { "1 < tags.floor", true },
        { "tags.floor = 2.5 AND tags.x = 1", true },
        { "tags.site IN ['munich', 'oslo']", true },
        { "STARTSWITH(tags.site, 'mu')", true },
        { "deviceId = 'gw-01'", true },
        { "deviceId IN ['gw-01', 'gw-02']", true },
        { "STARTSWITH(deviceId, 'sensor-')", true },
        { "deviceId >= 'gw-01' AND deviceId < 'leaf'", true },
        { "tags.Site = 'munich'", false },
        { "tags.site != 'munich'", false },
        { "tags.site NIN ['munich']", false },
        { "tags.site IN ['munich', null]", false },
        { "tags.site = null", false },
        { "NOT tags.site = 'munich'", false },
        { "tags.site = 'munich' OR true", false },
        { "tags.site = tags.kind", false },
        { "tags.site = 'a\\u0000'", false },
        { "tags.kind = 'gateway'", false },
        { "ENDSWITH(tags.site, 'h')", false },
    };
    index_paths("tags.site,tags.floor");
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        char text[128];
        struct page p, q;
        snprintf(text, sizeof text, "SELECT deviceId FROM devices WHERE %s", c[i].where);
        assert_int_equal(run_page(text, "", 0, &p), ERR_OK);
        if ((p.pick != NULL) != c[i].picked)
            fail_msg("%s", c[i].where);
        const struct query_sources *kept = fx.hub.queries; /* the same without any index but the identity's */
        fx.hub.queries = NULL;
        assert_int_equal(run_page(text, "", 0, &q), ERR_OK);
        fx.hub.queries = kept;
        assert_true(json_equal(p.rows, q.rows));
        json_decref(p.rows);
        json_decref(q.rows);
    }
    struct page p;
    assert_int_equal(run_page("SELECT moduleId FROM devices.modules WHERE deviceId = 'gw-01'", "", 0, &p),
                     ERR_OK);
    assert_true(p.pick && json_array_size(p.rows) == 3);
    json_decref(p.rows);
}

/* Values of every kind, against every comparison with every one of them: with an index and without, the same
 * rows. */
static const char *const kinds[] = {
    "0",       "1",       "-1",    "2.5",   "0.1",       "0.30000000000000004",
    "1e15",    "-1e-7",   "1.0",   "1e300", "\"\"",      "\"a\"",
    "\"ab\"",  "\"1\"",   "\"b\"", "true",  "false",     "\"\\u00fc\"",
    "\"\\n\"", "\"[1]\"", "[1]",   "null",  "{\"x\":1}", "4503599627370495"
};
#define KINDS (sizeof kinds / sizeof kinds[0])

static enum err put_kinds(struct store_tx *tx, void *ctx)
{
    enum err e = ERR_OK;
    (void)ctx;
    for (size_t i = 0; !e && i < KINDS; i++) {
        char id[16], tags[64];
        struct twin_row t;
        struct device_row d = { .generation = SPAN("g"), .origin = SPAN("operator") };
        snprintf(id, sizeof id, "k%02zu", i);
        snprintf(tags, sizeof tags, "{\"v\":%s}", kinds[i]);
        d.id = span_str(id);
        e = tx_device_put(tx, &d, UINT64_MAX, NULL);
        if (!e)
            e = tx_twin_get(tx, d.id, &t);
        t.tags = span_str(tags);
        if (!e)
            e = tx_twin_put(tx, &t);
    }
    return e;
}

/* Without its index a query walks, and finds the same; with it, as soon as that is there. */
static void queries_do_without_an_index_until_it_is_made(void **state)
{
    static const char text[] = "SELECT deviceId FROM devices WHERE tags.site = 'munich'";
    static struct query_index_build build;
    struct page before, after;
    struct span bad;
    (void)state;
    assert_int_equal(query_indexes_parse(&sources, SPAN("tags.site,tags.floor"), &bad), ERR_OK);
    assert_int_equal(query_indexes_apply(fx.hub.store, &sources), ERR_OK);
    assert_int_equal(sources.ready, 0);
    assert_int_equal(run_page(text, "", 100, &before), ERR_OK);
    assert_null(before.pick);
    assert_true(json_array_size(before.rows) > 0);
    query_indexes_build(&build, &fx.hub, &sources, &fx.mail);
    while (!query_index_is_ready(&sources, 0))
        fixture_pump(&fx, 10);
    assert_int_equal(run_page(text, "", 100, &after), ERR_OK);
    assert_non_null(after.pick);
    assert_true(json_equal(before.rows, after.rows));
    json_decref(before.rows);
    json_decref(after.rows);
    while (!query_index_is_ready(&sources, 1))
        fixture_pump(&fx, 10);
    /* A start later: those that are there are known, one that is no more wanted is gone. */
    assert_int_equal(query_indexes_parse(&sources, SPAN("tags.new,tags.site"), &bad), ERR_OK);
    assert_int_equal(query_indexes_apply(fx.hub.store, &sources), ERR_OK);
    assert_int_equal(sources.ready, 2);
    query_indexes_build(&build, &fx.hub, &sources, &fx.mail);
    while (sources.ready != 3)
        fixture_pump(&fx, 10);
}

static void an_index_loses_no_row_of_any_kind(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "tags.v = %s", "tags.v < %s",          "tags.v <= %s",           "tags.v > %s", "tags.v >= %s",
        "%s < tags.v", "tags.v IN [%s, 'ab']", "STARTSWITH(tags.v, %s)", "tags.v != %s"
    };
    size_t picked = 0, rows = 0;
    assert_int_equal(fixture_tx(&fx, put_kinds, NULL), ERR_OK);
    index_paths("tags.v");
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++)
        for (size_t k = 0; k < KINDS; k++) {
            char text[160], *at = strstr(strcpy(text, forms[f]), "%s");
            char whole[200];
            struct page p, q;
            if (kinds[k][0] == '{' || kinds[k][0] == '[')
                continue; /* no value of a query */
            snprintf(whole, sizeof whole, "SELECT deviceId FROM devices WHERE %.*s%s%s", (int)(at - text),
                     text, kinds[k], at + 2);
            assert_int_equal(run_page(whole, "", 0, &p), ERR_OK);
            fx.hub.queries = NULL;
            assert_int_equal(run_page(whole, "", 0, &q), ERR_OK);
            fx.hub.queries = &sources;
            if (!json_equal(p.rows, q.rows))
                fail_msg("%s", whole);
            picked += p.pick != NULL;
            rows += json_array_size(p.rows);
            json_decref(p.rows);
            json_decref(q.rows);
        }
    assert_true(picked > 100 && rows > 500);
}

static void lists_of_indexes(void **state)
{
    (void)state;
    struct query_sources s;
    struct span bad;
    char many[512] = "";
    assert_int_equal(query_indexes_parse(&s, SPAN(""), &bad), ERR_OK);
    assert_int_equal(s.index_nr, 0);
    assert_int_equal(query_indexes_parse(&s, SPAN(" tags.a ,properties.desired.b, tags.a,"), &bad), ERR_OK);
    assert_true(s.index_nr == 2 && span_eq(s.index[0], SPAN("tags.a")) &&
                span_eq(s.index[1], SPAN("properties.desired.b")));
    assert_int_equal(query_indexes_parse(&s, SPAN("tags.a, deviceId"), &bad), ERR_PROTO);
    assert_true(span_eq(bad, SPAN("deviceId")));
    assert_int_equal(query_indexes_parse(&s, SPAN("tags.a,,tags.b"), &bad), ERR_PROTO);
    for (unsigned i = 0; i <= TWIN_INDEX_MAX; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "tags.t%u,", i);
    assert_int_equal(query_indexes_parse(&s, span_str(many), &bad), ERR_LIMIT);
}

/* ---- more rows than fit one slice, more groups than there may be --------------------------------------- */

#define MANY 11000u
static enum err put_many(struct store_tx *tx, void *ctx)
{
    enum err e = ERR_OK;
    (void)ctx;
    for (unsigned i = 0; !e && i < MANY; i++) {
        char id[16], tags[32];
        struct twin_row t;
        struct device_row d = { .generation = SPAN("g"), .origin = SPAN("operator") };
        snprintf(id, sizeof id, "n%05u", i);
        snprintf(tags, sizeof tags, "{\"n\":%u,\"even\":%s}", i, i % 2 ? "false" : "true");
        d.id = span_str(id);
        e = tx_device_put(tx, &d, UINT64_MAX, NULL);
        if (!e)
            e = tx_twin_get(tx, d.id, &t);
        t.tags = span_str(tags);
        if (!e)
            e = tx_twin_put(tx, &t);
    }
    return e;
}

static void a_large_fleet_comes_whole(void **state)
{
    (void)state;
    struct page p;
    unsigned pages;
    char type[16];
    assert_int_equal(fixture_tx(&fx, put_many, NULL), ERR_OK);
    json_t *got = run_all("SELECT tags.n FROM devices WHERE tags.even", 1000, &pages, type);
    assert_int_equal(json_array_size(got), MANY / 2);
    for (size_t i = 0; i < MANY / 2; i++)
        assert_int_equal(json_integer_value(json_object_get(json_array_get(got, i), "n")), 2 * i);
    json_decref(got);
    assert_int_equal(run_page("SELECT COUNT() AS n, MAX(tags.n) AS m FROM devices", "", 0, &p), ERR_OK);
    json_t *want = json_pack("[{s:i,s:i}]", "n", MANY + 8, "m", MANY - 1);
    assert_true(json_equal(p.rows, want));
    json_decref(want);
    json_decref(p.rows);
    got = run_all("SELECT tags.n, COUNT() AS c FROM devices WHERE tags.n < 2500 GROUP BY tags.n", 1000,
                  &pages, type);
    assert_int_equal(json_array_size(got), 2500);
    assert_int_equal(pages, 3);
    json_decref(got);
    assert_int_equal(run_page("SELECT tags.n, COUNT() FROM devices GROUP BY tags.n", "", 0, &p), ERR_LIMIT);
    /* An index that finds more than few still keeps the order and the pages. */
    index_paths("tags.even,tags.n");
    got = run_all("SELECT tags.n FROM devices WHERE tags.even = true AND tags.n >= 0", 700, &pages, type);
    assert_int_equal(json_array_size(got), MANY / 2);
    for (size_t i = 0; i < MANY / 2; i++)
        assert_int_equal(json_integer_value(json_object_get(json_array_get(got, i), "n")), 2 * i);
    json_decref(got);
}

/* A write of a twin that sees how far the index is. */
struct beside {
    struct store_op op; /* first */
    bool ready;
};
static enum err beside_run(struct store_tx *tx, struct store_op *op)
{
    struct beside *b = (struct beside *)op;
    struct twin_row t;
    enum err e = tx_twin_index_is_ready(tx, sources.index[0], &b->ready);
    if (!e)
        e = tx_twin_get(tx, SPAN("n00000"), &t);
    return e ? e : tx_twin_put(tx, &t);
}

static void writes_come_between_the_pieces_of_an_index(void **state)
{
    static struct query_index_build build;
    static const char *const lists[] = { "tags.n", "tags.even" }; /* the second drops the first */
    (void)state;
    assert_int_equal(fixture_tx(&fx, put_many, NULL), ERR_OK);
    for (size_t i = 0; i < 2; i++) {
        unsigned between = 0;
        struct span bad;
        assert_int_equal(query_indexes_parse(&sources, span_str(lists[i]), &bad), ERR_OK);
        assert_int_equal(query_indexes_apply(fx.hub.store, &sources), ERR_OK);
        query_indexes_build(&build, &fx.hub, &sources, &fx.mail);
        while (!build.over) {
            struct beside b = { .op.run = beside_run };
            fixture_prepare(&fx, &b.op.op);
            store_write(fx.hub.store, &b.op);
            assert_int_equal(fixture_wait(&fx, &b.op.op), ERR_OK);
            between += !b.ready;
        }
        /* A write waits for the piece that was handed over before it and never for the one after that, so no
         * more than two end while it does. */
        assert_true(between >= MANY / TWIN_INDEX_ROWS / 2);
        assert_true(query_index_is_ready(&sources, 0));
        assert_int_equal(atomic_load(&sources.percent[0]), 100);
    }
}

/* Half a minute goes by whenever somebody looks at the clock: every slice is as short as can be. */
static uint64_t hurried_ms(void)
{
    fixture_clock_offset_ms += 30000;
    return fixture_wall_ms();
}

/* A walk over everything keeps nothing of the rows that it has passed, and stands aside after every slice. */
static void a_full_walk_is_made_of_slices_and_keeps_nothing(void **state)
{
    (void)state;
    struct query_error err;
    struct step s = { .op.run = step_run };
    struct arena a;
    unsigned slices = 0;
    enum err e;
    assert_int_equal(fixture_tx(&fx, put_many, NULL), ERR_OK);
    arena_init(&a, 512u << 10); /* of what the twins take, a part */
    assert_int_equal(query_open(&s.run, &fx.hub, &a, SPAN("SELECT * FROM devices WHERE tags.n = -1"),
                                SPAN_NONE, 1000, &err),
                     ERR_OK);
    fx.hub.wall_ms = hurried_ms;
    do {
        fixture_prepare(&fx, &s.op.op);
        store_scan(fx.hub.store, &s.op);
        e = fixture_wait(&fx, &s.op.op);
        slices++;
    } while (e == ERR_AGAIN);
    fx.hub.wall_ms = fixture_wall_ms;
    assert_int_equal(e, ERR_OK);
    assert_in_range(slices, MANY / 64, MANY / 64 + 2);
    assert_int_equal(s.run.rows, 0);
    arena_fini(&a);
}

/* ---- conditions ---------------------------------------------------------------------------------------- */

struct match {
    const struct query_condition *c;
    struct arena *a;
    const char *id;
    bool yes;
};
static enum err match_in(struct store_tx *tx, void *ctx)
{
    struct match *m = ctx;
    return query_condition_match(&fx.hub, tx, m->a, m->c, span_str(m->id), &m->yes);
}

struct collect {
    char text[256];
    struct query_walk walk;
};
static enum err collect_one(void *ctx, struct span id, uint64_t seq)
{
    struct collect *c = ctx;
    assert_true(seq > 0);
    snprintf(c->text + strlen(c->text), sizeof c->text - strlen(c->text), "%.*s,", (int)id.n,
             (const char *)id.p);
    return ERR_OK;
}
static enum err collect_in(struct store_tx *tx, void *ctx)
{
    struct collect *c = ctx;
    return query_condition_walk(&c->walk, tx, collect_one, c);
}

static void conditions_select_identities(void **state)
{
    (void)state;
    struct arena a;
    struct query_error err;
    struct query_condition *c;
    static const struct {
        const char *text, *want;
        enum query_use use;
    } cases[] = {
        { "tags.site = 'munich'", "sensor-001,sensor-002,gw-01,", QUERY_USE_CONFIGURATION },
        { "tags.kind = 'gateway' AND connectionState = 'Connected'", "gw-01,", QUERY_USE_JOB },
        { "deviceId IN ['gw-02', 'leaf-01']", "gw-02,leaf-01,", QUERY_USE_JOB },
        { "FROM devices.modules WHERE moduleId = '$edgeAgent'", "gw-01/$edgeAgent,gw-02/$edgeAgent,",
          QUERY_USE_CONFIGURATION },
        { "*", "sensor-001,sensor-002,sensor-003,Sensor-004,gw-01,gw-02,leaf-01,x509-01,", QUERY_USE_JOB },
        { "false", "", QUERY_USE_JOB },
    };
    arena_init(&a, 4u << 20);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(query_condition_compile(&a, cases[i].use, span_str(cases[i].text), &c, &err),
                         ERR_OK);
        struct collect k = { .walk = { .h = &fx.hub, .a = &a, .c = c } };
        assert_int_equal(fixture_tx(&fx, collect_in, &k), ERR_OK);
        assert_string_equal(k.text, cases[i].want);
        static const char *const ids[] = { "sensor-001", "gw-01", "gw-02", "gw-01/$edgeAgent", "nobody" };
        for (size_t n = 0; n < 5; n++) {
            struct match m = { .c = c, .a = &a, .id = ids[n] };
            char in_list[64];
            snprintf(in_list, sizeof in_list, "%s,", ids[n]);
            const char *at = strstr(k.text, in_list);
            assert_int_equal(fixture_tx(&fx, match_in, &m), ERR_OK);
            if (m.yes != (at && (at == k.text || at[-1] == ',')))
                fail_msg("%s: %s", cases[i].text, ids[n]);
        }
    }
    assert_int_equal(
        query_condition_compile(&a, QUERY_USE_CONFIGURATION, SPAN("status = 'enabled'"), &c, &err),
        ERR_PROTO);
    assert_non_null(strstr(err.message, "properties.reported"));
    assert_int_equal(
        query_condition_compile(&a, QUERY_USE_CONFIGURATION, SPAN("properties.desired.x = 1"), &c, &err),
        ERR_PROTO);
    assert_int_equal(query_condition_compile(&a, QUERY_USE_JOB, SPAN("status = "), &c, &err), ERR_PROTO);
    assert_int_equal(err.column, 10);
    assert_int_equal(query_condition_compile(&a, QUERY_USE_ROUTE, SPAN("$body.a = 1"), &c, &err), ERR_OK);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_44_queries_hold_with_pages_of_any_size, setup, teardown),
        cmocka_unit_test_setup_teardown(a_document_is_the_twin_as_it_is_shown, setup, teardown),
        cmocka_unit_test_setup_teardown(attributes_agree_with_the_document, setup, teardown),
        cmocka_unit_test_setup_teardown(a_continuation_belongs_to_its_query, setup, teardown),
        cmocka_unit_test_setup_teardown(top_counts_over_all_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(aggregates_of_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(an_index_is_used_where_it_finds_all, setup, teardown),
        cmocka_unit_test_setup_teardown(queries_do_without_an_index_until_it_is_made, setup, teardown),
        cmocka_unit_test_setup_teardown(an_index_loses_no_row_of_any_kind, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_fleet_comes_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_come_between_the_pieces_of_an_index, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_walk_is_made_of_slices_and_keeps_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(conditions_select_identities, setup, teardown),
        cmocka_unit_test(lists_of_indexes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
