/* hub/domain/event/route_test.c - definitions: each member, each limit, cut at every byte; the 32 conditions
 * of the specification on a set; targets, the fallback, enrichments. */
#include "tests/fake/fleet_fixture.h"

#include "hub/domain/event/route.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above */
#include <cmocka.h>

static struct fixture fx;
static struct arena mem;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    arena_init(&mem, 64 << 20);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    arena_fini(&mem);
    fixture_fini(&fx);
    return 0;
}

/* ---- definitions -------------------------------------------------------------------------------------- */

static struct route_fault fault;
static enum err parse(uint8_t kind, const char *name, struct span text)
{
    struct jnode *o;
    struct route_spec r;
    struct endpoint_spec p;
    struct enrichment_spec n;
    bool on;
    fault.text[0] = 0;
    enum err e = jtree_parse(&mem, text, &o, NULL);
    if (e)
        return ERR_VERIFY; /* not JSON: told apart */
    return kind == ROUTING_ROUTE        ? route_parse(&mem, span_str(name), o, &r, &fault)
           : kind == ROUTING_ENDPOINT   ? endpoint_parse(&mem, span_str(name), o, &p, &fault)
           : kind == ROUTING_ENRICHMENT ? enrichment_parse(&mem, span_str(name), o, &n, &fault)
                                        : fallback_parse(o, &on, &fault);
}

static const struct {
    uint8_t kind;
    const char *text;
} good[] = {
    { ROUTING_ROUTE, "{\"endpoints\":[\"events\"]}" },
    { ROUTING_ROUTE,
      "{\"source\":\"twinchangeevents\",\"condition\":\"$body.version > 3\",\"endpoints\":[\"a\"],"
      "\"enabled\":false}" },
    { ROUTING_ENDPOINT, "{\"kind\":\"stream\",\"retainSeconds\":60,\"retainBytes\":1048576}" },
    { ROUTING_ENDPOINT,
      "{\"kind\":\"webhook\",\"url\":\"https://x/y\",\"secret\":\"0123456789abcdef\",\"batch\":500}" },
    { ROUTING_ENDPOINT, "{\"kind\":\"mqtt\",\"host\":\"::1\",\"topic\":\"a/{device}\",\"username\":\"u\","
                        "\"password\":\"p\",\"port\":1883}" },
    { ROUTING_ENDPOINT, "{\"kind\":\"file\",\"rotateBytes\":4096,\"rotateSeconds\":1,\"keep\":1}" },
    { ROUTING_ENRICHMENT, "{\"value\":\"$twin.tags.a.b\",\"endpoints\":[\"events\"]}" },
    { ROUTING_FALLBACK, "{\"enabled\":true}" },
};

static void test_definitions_are_taken_whole_or_not_at_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct span s = span_str(good[i].text);
        assert_int_equal(parse(good[i].kind, "name-1", s), ERR_OK);
        for (size_t n = 0; n < s.n; n++)
            assert_int_equal(parse(good[i].kind, "name-1", span_of(s.p, n)), ERR_VERIFY);
    }
}

static void test_what_is_wrong_is_said(void **state)
{
    static const struct {
        uint8_t kind;
        const char *text, *says;
    } bad[] = {
        { ROUTING_ROUTE, "[]", "JSON object" },
        { ROUTING_ROUTE, "{}", "\"endpoints\"" },
        { ROUTING_ROUTE, "{\"endpoints\":[]}", "\"endpoints\"" },
        { ROUTING_ROUTE, "{\"endpoints\":[1]}", "\"endpoints\"" },
        { ROUTING_ROUTE, "{\"endpoints\":[\"a/b\"]}", "\"endpoints\"" },
        { ROUTING_ROUTE, "{\"endpoints\":[\"a\"],\"source\":\"Nothing\"}", "\"source\"" },
        { ROUTING_ROUTE, "{\"endpoints\":[\"a\"],\"source\":1}", "\"source\"" },
        { ROUTING_ROUTE, "{\"endpoints\":[\"a\"],\"enabled\":1}", "\"enabled\"" },
        { ROUTING_ROUTE, "{\"endpoints\":[\"a\"],\"colour\":1}", "\"colour\"" },
        { ROUTING_ROUTE, "{\"endpoints\":[\"a\"],\"condition\":\"a =\\n = 1\"}",
          "condition: line 2, column 2" },
        { ROUTING_ROUTE, "{\"endpoints\":[\"a\"],\"condition\":\"level IN ['a']\"}",
          "condition: line 1, column 7" },
        { ROUTING_ENDPOINT, "{}", "\"kind\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"queue\"}", "\"kind\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"stream\",\"url\":\"https://x/\"}", "\"url\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"stream\",\"retainSeconds\":59}", "\"retainSeconds\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"stream\",\"retainSeconds\":1.5}", "\"retainSeconds\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"webhook\"}", "\"url\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"webhook\",\"url\":\"http://x/\"}", "https://" },
        { ROUTING_ENDPOINT, "{\"kind\":\"webhook\",\"url\":\"https://u:p@x/\"}", "credentials" },
        { ROUTING_ENDPOINT, "{\"kind\":\"webhook\",\"url\":\"https://x/\\r\\n\"}", "\"url\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"webhook\",\"url\":\"https://x/\",\"secret\":\"short\"}",
          "\"secret\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"webhook\",\"url\":\"https://x/\",\"batch\":501}", "\"batch\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"webhook\",\"url\":\"https://x/\",\"deadLetterSeconds\":0}",
          "Seconds" },
        { ROUTING_ENDPOINT, "{\"kind\":\"mqtt\",\"topic\":\"a\"}", "\"host\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"mqtt\",\"host\":\"x/y\",\"topic\":\"a\"}", "\"host\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"mqtt\",\"host\":\"x\",\"topic\":\"a/#\"}", "\"topic\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"mqtt\",\"host\":\"x\",\"topic\":\"a\",\"password\":\"p\"}",
          "\"username\"" },
        { ROUTING_ENDPOINT, "{\"kind\":\"file\",\"keep\":0}", "\"keep\"" },
        { ROUTING_ENRICHMENT, "{\"endpoints\":[\"a\"]}", "\"value\"" },
        { ROUTING_ENRICHMENT, "{\"value\":\"$twin.etag\",\"endpoints\":[\"a\"]}", "\"value\"" },
        { ROUTING_ENRICHMENT, "{\"value\":\"$twin.tags.a = 1\",\"endpoints\":[\"a\"]}", "\"value\"" },
        { ROUTING_FALLBACK, "{}", "\"enabled\"" },
        { ROUTING_FALLBACK, "{\"enabled\":\"yes\"}", "\"enabled\"" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse(bad[i].kind, "n", span_str(bad[i].text)), ERR_PROTO);
        if (!strstr(fault.text, bad[i].says))
            fail_msg("%s: says \"%s\", not \"%s\"", bad[i].text, fault.text, bad[i].says);
    }
    static const char *const names[] = { "", ".", "..", "a/b", "a b", "\xc3\xa4", "$fallback" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (uint8_t k = ROUTING_ROUTE; k <= ROUTING_ENRICHMENT; k++)
            assert_int_equal(parse(k, names[i],
                                   span_str(good[k == ROUTING_ROUTE      ? 0
                                                 : k == ROUTING_ENDPOINT ? 2
                                                                         : 6]
                                                .text)),
                             ERR_PROTO);
    assert_int_equal(parse(ROUTING_ENDPOINT, "Events", SPAN("{\"kind\":\"stream\"}")), ERR_PROTO);
    assert_int_equal(parse(ROUTING_ENDPOINT, "dead-letter", SPAN("{\"kind\":\"stream\"}")), ERR_PROTO);
}

/* ---- sets --------------------------------------------------------------------------------------------- */

struct row {
    uint8_t kind;
    const char *name, *spec;
};
static enum err put_rows(struct store_tx *tx, void *ctx)
{
    for (const struct row *r = ctx; r->name; r++) {
        struct routing_row row = { .kind = r->kind, .name = span_str(r->name), .spec = span_str(r->spec) };
        enum err e = tx_routing_put(tx, &row);
        if (e)
            return e;
    }
    return ERR_OK;
}
static enum err load_set(struct store_tx *tx, void *ctx)
{
    return route_set_load(&fx.hub, tx, ctx);
}
static struct route_set *set_of(const struct row *rows)
{
    struct route_set *s = NULL;
    assert_int_equal(fixture_tx(&fx, put_rows, (void *)(uintptr_t)rows), ERR_OK);
    assert_int_equal(fixture_tx(&fx, load_set, &s), ERR_OK);
    return s;
}

struct ask {
    const struct route_set *s;
    struct span record;
    uint32_t targets;
    unsigned target;
    char enriched[4096]; /* properties of that target, "name=value;" */
    enum err e;
};
static enum err decide(struct store_tx *tx, void *ctx)
{
    struct ask *q = ctx;
    struct message m, n;
    struct route_eval v;
    static uint8_t keep[1 << 16], scratch[QUERY_SCRATCH], out[1 << 16];
    struct wr w = { out, sizeof out, 0 };
    struct message_prop p;
    assert_int_equal(message_decode(q->record, &m), ERR_OK);
    route_eval_init(&v, &fx.hub, tx, &m, 1000, (struct wr){ keep, sizeof keep, 0 },
                    (struct wr){ scratch, sizeof scratch, 0 });
    q->targets = route_set_targets(q->s, &v);
    q->e = route_set_enrich(q->s, &v, q->target, q->record, &w);
    assert_true(wr_ok(&w));
    assert_int_equal(message_decode(wr_span(&w), &n), ERR_OK);
    assert_true(span_eq(n.body, m.body) && span_eq(n.device, m.device));
    q->enriched[0] = 0;
    for (struct span at = n.props; message_prop_next(&at, &p);) {
        size_t len = strlen(q->enriched);
        snprintf(q->enriched + len, sizeof q->enriched - len, "%.*s=%.*s;", (int)p.name.n,
                 (const char *)p.name.p, (int)p.value.n, (const char *)p.value.p);
    }
    return ERR_OK;
}

static struct span record_of(uint8_t source, const char *level, const char *body)
{
    size_t cap = strlen(body) + 200;
    struct wr w = { arena_alloc(&mem, cap), cap, 0 };
    message_put_head(&w, &(struct message_head){ .source = source, .device = SPAN("d1") });
    message_put_system(&w, BAG_CONTENT_TYPE, SPAN("application/json"));
    message_put_system(&w, BAG_CONTENT_ENCODING, SPAN("utf-8"));
    message_put_prop(&w, &(struct message_prop){ SPAN("level"), span_str(level), false });
    message_put_body(&w, span_str(body));
    assert_true(wr_ok(&w));
    return wr_span(&w);
}

static void test_a_set_decides(void **state)
{
    static const struct row rows[] = {
        { ROUTING_ENDPOINT, "a", "{\"kind\":\"stream\"}" },
        { ROUTING_ENDPOINT, "b", "{\"kind\":\"stream\"}" },
        { ROUTING_ROUTE, "hot", "{\"condition\":\"level = 'hot'\",\"endpoints\":[\"A\",\"b\"]}" },
        { ROUTING_ROUTE, "hot2", "{\"condition\":\"$body.t > 5\",\"endpoints\":[\"a\",\"events\"]}" },
        { ROUTING_ROUTE, "off", "{\"endpoints\":[\"b\"],\"enabled\":false}" },
        { ROUTING_ROUTE, "twins", "{\"source\":\"TwinChangeEvents\",\"endpoints\":[\"b\"]}" },
        { ROUTING_ROUTE, "broken",
          "{\"condition\":\"= =\",\"endpoints\":[\"b\"]}" }, /* of an older version */
        { ROUTING_ROUTE, "nowhere", "{\"condition\":\"level = 'lost'\",\"endpoints\":[\"gone\"]}" },
        { 0 }
    };
    (void)state;
    struct route_set *s = set_of(rows);
    assert_int_equal(s->routes_nr, 5);
    assert_int_equal(s->wanted, 1u << MESSAGE_SOURCE_TELEMETRY | 1u << MESSAGE_SOURCE_TWIN_CHANGE);
    assert_false(s->direct);
    assert_false(s->twin[MESSAGE_SOURCE_TELEMETRY]);
    static const struct {
        uint8_t source;
        const char *level, *body;
        uint32_t targets;
    } t[] = {
        { MESSAGE_SOURCE_TELEMETRY, "hot", "{}", 2 | 4 },
        { MESSAGE_SOURCE_TELEMETRY, "hot", "{\"t\":6}", 1 | 2 | 4 }, /* each endpoint once */
        { MESSAGE_SOURCE_TELEMETRY, "cold", "{\"t\":6}", 1 | 2 },
        { MESSAGE_SOURCE_TELEMETRY, "cold", "{\"t\":5}", 1 }, /* the fallback */
        { MESSAGE_SOURCE_TELEMETRY, "lost", "{}", 0 },        /* a route took it */
        { MESSAGE_SOURCE_TWIN_CHANGE, "x", "{}", 4 },
        { MESSAGE_SOURCE_LIFECYCLE, "x", "{}", 0 }, /* no fallback */
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ask q = { .s = s, .record = record_of(t[i].source, t[i].level, t[i].body) };
        assert_int_equal(fixture_tx(&fx, decide, &q), ERR_OK);
        assert_int_equal(q.targets, t[i].targets);
    }
    assert_true(fx.metrics.routing_undefined_total > 0); /* $body.t of {} */
    route_set_free(s);
    static const struct row off[] = { { ROUTING_FALLBACK, "$fallback", "{\"enabled\":false}" }, { 0 } };
    s = set_of(off);
    struct ask q = { .s = s, .record = record_of(MESSAGE_SOURCE_TELEMETRY, "cold", "{}") };
    assert_int_equal(fixture_tx(&fx, decide, &q), ERR_OK);
    assert_int_equal(q.targets, 0);
    route_set_free(s);
}

static void test_without_definitions_nothing_is_decided(void **state)
{
    static const struct row
        none[] = { { 0 } },
        events[] = { { ROUTING_ROUTE, "t", "{\"source\":\"TwinChangeEvents\",\"endpoints\":[\"events\"]}" },
                     { ROUTING_ROUTE, "off", "{\"endpoints\":[\"events\"],\"enabled\":false}" },
                     { 0 } },
        enriched[] = { { ROUTING_ENRICHMENT, "e", "{\"value\":\"x\",\"endpoints\":[\"events\"]}" }, { 0 } };
    (void)state;
    struct route_set *s = set_of(none);
    assert_true(s->direct && s->fallback && !s->wanted);
    route_set_free(s);
    s = set_of(events);
    assert_true(s->direct); /* telemetry is not concerned */
    route_set_free(s);
    s = set_of(enriched);
    assert_false(s->direct);
    route_set_free(s);
}

static enum err put_tags(struct store_tx *tx, void *ctx)
{
    struct twin_row r;
    enum err e = tx_twin_get(tx, SPAN("d1"), &r);
    r.tags = span_str(ctx);
    return e ? e : tx_twin_put(tx, &r);
}

static void test_enrichments(void **state)
{
    static const struct row rows[] = {
        { ROUTING_ENDPOINT, "a", "{\"kind\":\"stream\"}" },
        { ROUTING_ENRICHMENT, "text", "{\"value\":\"t\",\"endpoints\":[\"a\"]}" },
        { ROUTING_ENRICHMENT, "hub", "{\"value\":\"$iothubname\",\"endpoints\":[\"a\"]}" },
        { ROUTING_ENRICHMENT, "site", "{\"value\":\"$twin.tags.site\",\"endpoints\":[\"a\",\"events\"]}" },
        { ROUTING_ENRICHMENT, "deep", "{\"value\":\"$twin.tags.o\",\"endpoints\":[\"a\"]}" },
        { ROUTING_ENRICHMENT, "version",
          "{\"value\":\"$twin.properties.desired.$version\",\"endpoints\":[\"a\"]}" },
        { ROUTING_ENRICHMENT, "none", "{\"value\":\"$twin.tags.none\",\"endpoints\":[\"a\"]}" },
        { ROUTING_ENRICHMENT, "level", "{\"value\":\"theirs\",\"endpoints\":[\"a\"]}" },
        { 0 }
    };
    (void)state;
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    assert_int_equal(fixture_tx(&fx, put_tags, "{\"site\":\"north\",\"o\":{\"x\":[1,true]}}"), ERR_OK);
    struct route_set *s = set_of(rows);
    assert_true(s->twin[MESSAGE_SOURCE_TELEMETRY]);
    struct ask q = { .s = s, .record = record_of(MESSAGE_SOURCE_TELEMETRY, "own", "{}"), .target = 1 };
    assert_int_equal(fixture_tx(&fx, decide, &q), ERR_OK);
    assert_int_equal(q.e, ERR_OK);
    assert_string_equal(q.enriched,
                        "level=own;deep={\"x\":[1,true]};hub=hub;none=$twin.tags.none;site=north;text=t;"
                        "version=1;");
    q.target = 0;
    assert_int_equal(fixture_tx(&fx, decide, &q), ERR_OK);
    assert_string_equal(q.enriched, "level=own;site=north;");
    /* Exactly at the limit, and one over it. */
    struct message m;
    assert_int_equal(message_decode(q.record, &m), ERR_OK);
    fx.hub.settings.message_max = (uint32_t)(message_size(&m) + strlen("sitenorth"));
    assert_int_equal(fixture_tx(&fx, decide, &q), ERR_OK);
    assert_int_equal(q.e, ERR_OK);
    fx.hub.settings.message_max--;
    assert_int_equal(fixture_tx(&fx, decide, &q), ERR_OK);
    assert_int_equal(q.e, ERR_LIMIT);
    route_set_free(s);
}

/* ---- the specification -------------------------------------------------------------------------------- */

static struct span text_of(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);
    return json_is_string(v) ? span_of(json_string_value(v), json_string_length(v)) : SPAN_NONE;
}

static struct span message_of(const json_t *o)
{
    static const struct {
        const char *name;
        enum bag_system s;
    } names[] = { { "contentType", BAG_CONTENT_TYPE },     { "contentEncoding", BAG_CONTENT_ENCODING },
                  { "messageId", BAG_MESSAGE_ID },         { "userId", BAG_USER_ID },
                  { "correlationId", BAG_CORRELATION_ID }, { "dt-subject", BAG_SUBJECT } };
    const json_t *system = json_object_get(o, "systemProperties"), *body = json_object_get(o, "body");
    const char *name;
    json_t *v;
    struct wr w = { arena_alloc(&mem, 65536), 65536, 0 };
    message_put_head(&w, &(struct message_head){ .device = text_of(system, "connectionDeviceId"),
                                                 .module = text_of(system, "connectionModuleId"),
                                                 .model = text_of(system, "dt-dataschema") });
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (text_of(system, names[i].name).p)
            message_put_system(&w, names[i].s, text_of(system, names[i].name));
    json_object_foreach(json_object_get(o, "appProperties"), name, v) message_put_prop(
        &w,
        &(struct message_prop){ span_str(name), text_of(json_object_get(o, "appProperties"), name), false });
    char *text = body ? json_dumps(body, 0) : NULL;
    message_put_body(&w, text ? span_str(text) : text_of(o, "bodyText"));
    free(text);
    assert_true(wr_ok(&w));
    return wr_span(&w);
}

struct one {
    struct query_condition *c;
    struct span record;
    uint64_t ms;
    bool yes;
};
static enum err eval_one(struct store_tx *tx, void *ctx)
{
    struct one *o = ctx;
    static uint8_t keep[1 << 16], scratch[QUERY_SCRATCH];
    struct message m;
    struct route_eval v;
    assert_int_equal(message_decode(o->record, &m), ERR_OK);
    route_eval_init(&v, &fx.hub, tx, &m, o->ms, (struct wr){ keep, sizeof keep, 0 },
                    (struct wr){ scratch, sizeof scratch, 0 });
    o->yes = route_eval_condition(&v, o->c) == ROUTE_YES;
    return ERR_OK;
}

static void test_the_conditions_of_the_specification(void **state)
{
    size_t i, k, done = 0;
    json_t *r, *m;
    (void)state;
    fleet_json = fleet_load("fleet");
    json_t *routes = fleet_load("routes"), *messages = json_object_get(fleet_json, "messages");
    assert_int_equal(fixture_tx(&fx, fleet_put, NULL), ERR_OK);
    assert_int_equal(json_array_size(messages), 4);
    json_array_foreach(routes, i, r)
    {
        struct one o = { 0 };
        struct query_error why;
        const json_t *expect = json_object_get(r, "expect");
        enum err e = query_condition_compile(&mem, QUERY_USE_ROUTE, text_of(r, "condition"), &o.c, &why);
        assert_int_equal(e, json_object_get(expect, "error") ? ERR_PROTO : ERR_OK);
        json_array_foreach(messages, k, m)
        {
            if (e)
                break;
            o.record = message_of(m);
            assert_int_equal(
                iso8601_decode(text_of(json_object_get(m, "systemProperties"), "enqueuedTime"), &o.ms),
                ERR_OK);
            assert_int_equal(fixture_tx(&fx, eval_one, &o), ERR_OK);
            bool want = false;
            size_t n;
            json_t *id;
            json_array_foreach(json_object_get(expect, "match"), n, id) want |=
                !strcmp(json_string_value(id), json_string_value(json_object_get(m, "id")));
            if (want != o.yes)
                fail_msg("%s on %s: %s", json_string_value(json_object_get(r, "id")),
                         json_string_value(json_object_get(m, "id")), o.yes ? "matches" : "does not match");
        }
        done++;
    }
    assert_int_equal(done, 32);
    json_decref(routes);
    json_decref(fleet_json);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_definitions_are_taken_whole_or_not_at_all),
        T(test_what_is_wrong_is_said),
        T(test_a_set_decides),
        T(test_without_definitions_nothing_is_decided),
        T(test_enrichments),
        T(test_the_conditions_of_the_specification),
    };
#undef T
    return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
