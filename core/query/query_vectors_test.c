/* core/query/query_vectors_test.c - the sample fleet: 44 queries over its documents and 32 route conditions
 * over its messages give what the specification lists (tests/vectors/query-*.json). */
#include "core/query/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above */
#include <cmocka.h>

static uint8_t fleet_room[65536], queries_room[65536], routes_room[32768];
static struct span fleet, queries, routes;
static uint8_t parse_room[QUERY_MEM(QUERY_TEXT_MAX)] __attribute__((aligned(16)));
static uint8_t scratch_room[QUERY_SCRATCH], keep_room[65536];
static struct wr scratch = { scratch_room, sizeof scratch_room, 0 };
static struct wr keep = { keep_room, sizeof keep_room, 0 }; /* strings of the vectors */

static struct span load(const char *path, uint8_t *room, size_t cap)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(room, 1, cap, f);
    assert_true(n > 0 && n < cap && feof(f));
    fclose(f);
    assert_true(query_json_valid(span_of(room, n)));
    return span_of(room, n);
}

static int setup(void **state)
{
    (void)state;
    fleet = load("tests/vectors/query-fleet.json", fleet_room, sizeof fleet_room);
    queries = load("tests/vectors/query-queries.json", queries_room, sizeof queries_room);
    routes = load("tests/vectors/query-routes.json", routes_room, sizeof routes_room);
    return 0;
}

/* The value at up to three names. */
static struct query_value at(struct span json, const char *a, const char *b)
{
    struct query_step step[2] = { { .name = span_str(a) }, { .name = span_str(b) } };
    struct query_value v = { .kind = QUERY_UNDEFINED };
    query_json_get(json, step, b ? 2 : 1, false, &keep, &v);
    return v;
}

static struct span text_at(struct span json, const char *a, const char *b)
{
    struct query_value v = at(json, a, b);
    return v.kind == QUERY_STRING ? v.s : SPAN_NONE;
}

/* Does the array of strings hold s? */
static bool holds(struct span array, struct span s)
{
    struct query_value v;
    while (query_json_each(&array, &keep, &v))
        if (v.kind == QUERY_STRING && span_eq(v.s, s))
            return true;
    return false;
}

static size_t length(struct span array)
{
    struct query_value v;
    size_t nr = 0;
    while (query_json_each(&array, &keep, &v))
        nr++;
    return nr;
}

/* Is each member of a in b, and as many of them? */
static bool same_object(struct span a, struct span b)
{
    static const char *const names[] = { "deviceId", "moduleId", "lastActivityTime",
                                         "region",   "temp",     "total",
                                         "avgB",     "minB",     "maxB",
                                         "sumB",     "status",   "numberOfDevices" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct query_value x = at(a, names[i], NULL), y = at(b, names[i], NULL);
        if (x.kind != y.kind || x.num != y.num || (x.kind == QUERY_STRING && !span_eq(x.s, y.s)))
            return false;
    }
    return true;
}

static bool one_of(struct span rows, struct span row)
{
    struct query_value v;
    while (query_json_each(&rows, &keep, &v))
        if (same_object(v.s, row))
            return true;
    return false;
}

/* ---- queries ------------------------------------------------------------------------------------------- */

static struct span id_of(const struct query *q, struct span doc, struct wr *w)
{
    struct span device = text_at(doc, "deviceId", NULL), module = text_at(doc, "moduleId", NULL);
    size_t from = w->len;
    if (q->from == QUERY_JOBS) {
        wr_put(w, text_at(doc, "jobId", NULL));
        wr_u8(w, ':');
    }
    wr_put(w, device);
    if (module.n) {
        wr_u8(w, '/');
        wr_put(w, module);
    }
    return span_of(w->p + from, w->len - from);
}

static void check_rows(const struct query *q, struct span id, struct span docs, struct span expect)
{
    static uint8_t out_room[8192];
    struct wr out = { out_room, sizeof out_room, 0 };
    struct query_fold fold[8][8];
    struct query_value group[8], v;
    struct span want = at(expect, q->star ? "ids" : "rows", NULL).s;
    size_t nr = 0, groups = 0;
    memset(fold, 0, sizeof fold);
    while (query_json_each(&docs, &keep, &v) && (!q->has_top || nr < q->top)) {
        struct query_document d;
        query_document_init(&d, v.s);
        if (!query_match(q->where, &d.row, &scratch))
            continue;
        out.len = 0;
        if (q->star) {
            if (!holds(want, id_of(q, v.s, &keep)))
                fail_msg("%.*s: unexpected row", (int)id.n, (const char *)id.p);
        } else if (!q->aggregates) {
            query_project(q, &d.row, &scratch, &out);
            if (!one_of(want, wr_span(&out)))
                fail_msg("%.*s: unexpected %.*s", (int)id.n, (const char *)id.p, (int)out.len, (char *)out.p);
        } else {
            struct query_value key = { .kind = QUERY_UNDEFINED };
            size_t g = 0;
            if (q->group)
                query_eval(q->group, &d.row, &keep, &key);
            while (g < groups && !(group[g].kind == key.kind && span_eq(group[g].s, key.s)))
                g++;
            assert_true(g < 8);
            groups += g == groups;
            group[g] = key;
            query_fold_row(q, &d.row, &scratch, fold[g]);
        }
        nr++;
    }
    for (size_t g = 0; g < groups; g++) {
        out.len = 0;
        query_fold_put(q, &group[g], fold[g], &out);
        if (!one_of(want, wr_span(&out)))
            fail_msg("%.*s: unexpected %.*s", (int)id.n, (const char *)id.p, (int)out.len, (char *)out.p);
    }
    assert_true(wr_ok(&out));
    if (length(want) != (q->aggregates ? groups : nr))
        fail_msg("%.*s: %zu rows", (int)id.n, (const char *)id.p, nr);
}

static void the_44_queries_hold(void **state)
{
    (void)state;
    static const char *const collections[] = { "devices", "modules", "deviceJobs" };
    static const char *const types[] = { "Twin", "Twin", "DeviceJob" };
    struct span all = queries;
    struct query_value v;
    size_t nr = 0;
    while (keep.len = 0, query_json_each(&all, &keep, &v)) {
        struct query q;
        struct query_error err;
        struct span id = text_at(v.s, "id", NULL), text = text_at(v.s, "query", NULL);
        struct span expect = at(v.s, "expect", NULL).s;
        bool bad = at(expect, "error", NULL).kind == QUERY_NUMBER;
        enum err e = query_parse(&q, text, parse_room, sizeof parse_room, &err);
        nr++;
        if (bad != (e == ERR_PROTO))
            fail_msg("%.*s: %s", (int)id.n, (const char *)id.p, e ? err.message : "taken");
        if (bad) {
            assert_true(err.message[0] && err.line == 1 && err.column == err.at + 1);
            continue;
        }
        const char *type = q.star ? types[q.from] : "Raw";
        assert_true(span_eq(text_at(expect, "itemType", NULL), span_str(type)));
        check_rows(&q, id, at(fleet, collections[q.from], NULL).s, expect);
    }
    assert_int_equal(nr, 44);
}

/* ---- routes -------------------------------------------------------------------------------------------- */

static bool find_name(struct span object, struct span name, struct span *value)
{
    struct query_step step = { .name = name };
    struct query_value v = { .kind = QUERY_UNDEFINED };
    query_json_get(object, &step, 1, true, &keep, &v);
    *value = v.s;
    return v.kind == QUERY_STRING;
}

static bool get_system(void *ctx, struct span name, struct span *value)
{
    return find_name(at(*(struct span *)ctx, "systemProperties", NULL).s, name, value);
}
static bool get_app(void *ctx, struct span name, struct span *value)
{
    return find_name(at(*(struct span *)ctx, "appProperties", NULL).s, name, value);
}

static struct span twin_of(struct span message)
{
    struct span device = text_at(message, "systemProperties", "connectionDeviceId");
    struct span module = text_at(message, "systemProperties", "connectionModuleId");
    struct span docs = at(fleet, module.n ? "modules" : "devices", NULL).s;
    struct query_value v;
    while (query_json_each(&docs, &keep, &v))
        if (span_eq(text_at(v.s, "deviceId", NULL), device) &&
            span_eq(text_at(v.s, "moduleId", NULL), module))
            return v.s;
    return SPAN_NONE;
}

static bool matches(const struct query *q, struct span message)
{
    struct query_document twin;
    query_document_init(&twin, twin_of(message));
    struct query_message m = { .ctx = &message, .system = get_system, .app = get_app, .twin = &twin.row };
    struct query_value body = at(message, "body", NULL);
    query_message_init(&m, body.kind == QUERY_OBJECT ? body.s : text_at(message, "bodyText", NULL), &keep);
    return query_match(q->where, &m.row, &scratch);
}

static void the_32_route_conditions_hold(void **state)
{
    (void)state;
    struct span all = routes;
    struct query_value v, message;
    size_t nr = 0;
    while (keep.len = 0, query_json_each(&all, &keep, &v)) {
        struct query q;
        struct query_error err;
        struct span id = text_at(v.s, "id", NULL), expect = at(v.s, "expect", NULL).s;
        bool bad = at(expect, "error", NULL).kind == QUERY_NUMBER;
        enum err e =
            query_parse_route(&q, text_at(v.s, "condition", NULL), parse_room, sizeof parse_room, &err);
        nr++;
        if (bad != (e == ERR_PROTO))
            fail_msg("%.*s: %s", (int)id.n, (const char *)id.p, e ? err.message : "taken");
        if (bad)
            continue;
        struct span messages = at(fleet, "messages", NULL).s, want = at(expect, "match", NULL).s;
        while (query_json_each(&messages, &keep, &message)) {
            struct span name = text_at(message.s, "id", NULL);
            if (matches(&q, message.s) != holds(want, name))
                fail_msg("%.*s: %.*s", (int)id.n, (const char *)id.p, (int)name.n, (const char *)name.p);
        }
    }
    assert_int_equal(nr, 32);
}

/* "{"Weather":...}" in the four other forms that a body may have. */
static void a_body_is_read_in_every_encoding(void **state)
{
    (void)state;
    static const char json[] = "{\"a\":{\"B\":50,\"s\":\"\xc3\xbc\xf0\x9f\x98\x80\"}}";
    static const uint16_t wide[] = { 'u', 0xfc, 0xd83d, 0xde00 };
    struct query q;
    struct query_error err;
    assert_int_equal(query_parse_route(&q, SPAN("$body.A.b = 50 AND LENGTH($body.a.s) = 2"), parse_room,
                                       sizeof parse_room, &err),
                     ERR_OK);
    for (int form = 0; form < 6;
         form++) { /* UTF-8; UTF-16 and UTF-32 in both orders with a mark; LE without */
        static uint8_t body[512];
        struct wr w = { body, sizeof body, 0 };
        size_t width = form == 0 ? 1 : form < 4 ? 2 : 4;
        bool big = form == 2 || form == 5;
        if (form == 0)
            wr_str(&w, json);
        for (const char *z = form == 0 ? "" : form == 3 ? json : "^"; *z; z = *z == '^' ? json : z + 1) {
            uint32_t c = (uint8_t)*z, units[2] = { 0, 0 };
            size_t nr = 1;
            units[0] = *z == '^' ? 0xfeff : c;
            if (c == 0xc3) {
                units[0] = 0xfc;
                z++;
            } else if (c == 0xf0) {
                units[0] = width == 2 ? wide[2] : 0x1f600;
                units[1] = wide[3];
                nr = width == 2 ? 2 : 1;
                z += 3;
            }
            for (size_t u = 0; u < nr; u++)
                for (size_t i = 0; i < width; i++)
                    wr_u8(&w, (uint8_t)(units[u] >> 8 * (big ? width - 1 - i : i)));
        }
        static char doc[128];
        snprintf(
            doc, sizeof doc,
            "{\"systemProperties\":{\"contentType\":\"Application/JSON; x=y\",\"contentEncoding\":\"%s\"}}",
            width == 1   ? "UTF-8"
            : width == 2 ? "utf-16"
                         : "UTF-32");
        struct span message = span_str(doc);
        struct query_message m = { .ctx = &message, .system = get_system, .app = get_app };
        keep.len = 0;
        query_message_init(&m, wr_span(&w), &keep);
        if (!query_match(q.where, &m.row, &scratch))
            fail_msg("form %d", form);
        query_message_init(&m, span_of(w.p, w.len - 1), &keep); /* cut: no longer JSON */
        assert_false(query_match(q.where, &m.row, &scratch));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_44_queries_hold),
        cmocka_unit_test(the_32_route_conditions_hold),
        cmocka_unit_test(a_body_is_read_in_every_encoding),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
