/* hub/domain/twin/twin_test.c - twins in the store: both sides patch, conditions, what the device is told and
 * in which order, the document. */
#include "tests/fake/hub_fixture.h"

#include "hub/domain/twin/twin_doc.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above */
#include <cmocka.h>

static struct fixture fx;
static struct arena mem; /* what a test keeps */

/* What the session of a device hears: "id version body;" */
static char heard[65536];

static void on_wake(void *ctx, struct bus_addr to, uint32_t what)
{
    (void)ctx, (void)to, (void)what;
}
static bool on_message(void *ctx, struct bus_addr to, const struct bus_message *m)
{
    struct twin_note n;
    (void)ctx, (void)to;
    assert_int_equal(m->kind, BUS_TWIN);
    assert_int_equal(twin_note_decode(m->bytes, &n), ERR_OK);
    size_t at = strlen(heard);
    snprintf(heard + at, sizeof heard - at, "%.*s %llu %.*s;", (int)m->identity.n,
             (const char *)m->identity.p, (unsigned long long)n.version, (int)n.body.n,
             (const char *)n.body.p);
    return true;
}

static enum err put_module(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return tx_module_put(tx,
                         &(struct module_row){ .device = SPAN("d1"),
                                               .id = SPAN("m1"),
                                               .managed_by = SPAN(""),
                                               .generation = SPAN("g"),
                                               .auth = AUTH_SELF_SIGNED,
                                               .thumb1 = SPAN("AA") },
                         UINT64_MAX, NULL);
}

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    assert_int_equal(fixture_tx(&fx, put_module, NULL), ERR_OK);
    bus_register(fx.hub.bus, 0, &fx.mail, on_wake, NULL);
    bus_on_messages(fx.hub.bus, 0, on_message);
    arena_init(&mem, 64 << 20);
    heard[0] = 0;
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    arena_fini(&mem);
    fixture_fini(&fx);
    return 0;
}

enum side { PATCH, PUT, REPORT, GET };
struct call {
    const char *id;
    enum side side;
    struct span body;
    struct twin_if cond;
    struct twin_fault fault;
    struct twin twin;
    struct span doc, view;
};

static enum err call_run(struct store_tx *tx, void *ctx)
{
    struct call *c = ctx;
    struct twin_patch p;
    enum err e = c->side == GET      ? twin_get(tx, &mem, span_str(c->id), &c->twin)
                 : c->side == REPORT ? twin_reported_patch(&mem, c->body, &p, &c->fault)
                                     : twin_service_patch(&mem, c->body, c->side == PUT, &p, &c->fault);
    if (!e && c->side != GET)
        e = twin_update(&fx.hub, tx, &mem, span_str(c->id), &p, &c->cond, &c->twin, &c->fault);
    if (e)
        return e;
    struct wr w = { arena_alloc(&mem, 65536), 65536, 0 };
    twin_device_view(&w, &c->twin);
    c->view = wr_span(&w);
    return twin_doc_get(tx, &mem, &c->twin, &c->doc);
}
static struct call last;
static enum err say_if(const char *id, enum side side, const char *body, struct twin_if cond)
{
    last = (struct call){ .id = id, .side = side, .body = span_str(body), .cond = cond };
    return fixture_tx(&fx, call_run, &last);
}
static enum err say(const char *id, enum side side, const char *body)
{
    return say_if(id, side, body, (struct twin_if){ 0 });
}
static void is(struct span got, const char *want)
{
    if (got.n != strlen(want) || memcmp(got.p, want, got.n) != 0)
        fail_msg("got  %.*s\nwant %s", (int)got.n, (const char *)got.p, want);
}
static void counts(uint64_t version, uint64_t etag, uint64_t desired, uint64_t reported)
{
    assert_int_equal(say(last.id, GET, ""), ERR_OK);
    assert_int_equal(last.twin.row.version, version);
    assert_int_equal(last.twin.row.etag, etag);
    assert_int_equal(last.twin.row.desired_version, desired);
    assert_int_equal(last.twin.row.reported_version, reported);
}
#define OK(call) assert_int_equal(call, ERR_OK)

static void test_a_fresh_twin(void **state)
{
    (void)state;
    OK(say("d1", GET, ""));
    is(last.view, "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}");
    is(last.doc,
       "{\"deviceId\":\"d1\",\"etag\":\"AAAAAAAAAAE=\",\"deviceEtag\":\"MQ==\",\"status\":\"enabled\","
       "\"statusUpdateTime\":\"0001-01-01T00:00:00Z\",\"connectionState\":\"Disconnected\","
       "\"lastActivityTime\":\"0001-01-01T00:00:00Z\",\"cloudToDeviceMessageCount\":0,"
       "\"authenticationType\":\"sas\",\"x509Thumbprint\":{\"primaryThumbprint\":null,"
       "\"secondaryThumbprint\":null},\"modelId\":\"\",\"version\":2,\"tags\":{},\"properties\":{"
       "\"desired\":{\"$metadata\":{\"$lastUpdated\":\"0001-01-01T00:00:00Z\",\"$lastUpdatedVersion\":1},"
       "\"$version\":1},\"reported\":{\"$metadata\":{\"$lastUpdated\":\"0001-01-01T00:00:00Z\"},"
       "\"$version\":1}},\"capabilities\":{\"iotEdge\":false}}");
    OK(say("d1/m1", GET, ""));
    struct jnode *doc;
    OK(jtree_parse(&mem, last.doc, &doc, NULL));
    is(jtree_get(doc, SPAN("moduleId"))->text, "m1");
    is(jtree_get(doc, SPAN("authenticationType"))->text, "selfSigned");
    is(jtree_get(jtree_get(doc, SPAN("x509Thumbprint")), SPAN("primaryThumbprint"))->text, "AA");
    assert_int_equal(say("d2", GET, ""), ERR_NOTFOUND);
    assert_int_equal(say("d1/m2", PATCH, "{}"), ERR_NOTFOUND);
    assert_int_equal(say("d2", REPORT, "{}"), ERR_NOTFOUND);
}

static void test_both_sides_patch(void **state)
{
    (void)state;
    OK(say("d1", PATCH,
           "{\"tags\":{\"site\":\"a\",\"n\":1.0},\"properties\":{\"desired\":{\"fw\":{\"v\":\"1\"}}},"
           "\"deviceId\":\"other\",\"etag\":5}"));
    counts(3, 2, 2, 1);
    OK(say("d1", REPORT, "{\"temp\":21.50,\"$version\":7}"));
    counts(4, 2, 2, 2);
    OK(say("d1", REPORT, "{}"));
    counts(5, 2, 2, 3);
    OK(say("d1", PATCH, "{\"tags\":{\"site\":null}}"));
    counts(6, 3, 2, 3);
    OK(say("d1", PATCH, "{\"properties\":{\"desired\":{}}}"));
    counts(7, 4, 2, 3);
    OK(say("d1", PATCH, "{\"properties\":{\"desired\":null},\"tags\":null}"));
    counts(8, 5, 3, 3);
    OK(say("d1", PATCH, "{\"properties\":null}"));
    counts(9, 6, 3, 3);
    is(last.view, "{\"desired\":{\"$version\":3},\"reported\":{\"temp\":21.50,\"$version\":3}}");
    assert_true(span_eq(last.twin.row.tags, SPAN("{}")));
    last.id = "d1/m1"; /* another twin */
    counts(2, 1, 1, 1);
}

static void test_a_twin_is_replaced(void **state)
{
    (void)state;
    OK(say("d1", PATCH, "{\"tags\":{\"a\":1},\"properties\":{\"desired\":{\"b\":{\"c\":1,\"d\":2}}}}"));
    OK(say("d1", REPORT, "{\"r\":1}"));
    OK(bus_attach(fx.hub.bus, SPAN("d1"), (struct bus_addr){ 0 }));
    OK(say("d1", PUT,
           "{\"properties\":{\"desired\":{\"b\":{\"d\":3,\"gone\":null}},\"reported\":{\"x\":1}}}"));
    is(last.twin.row.tags, "{}");
    is(last.twin.row.desired, "{\"b\":{\"d\":3}}");
    is(last.twin.row.reported, "{\"r\":1}");
    OK(say("d1", PUT, "{\"tags\":{\"z\":[1]}}"));
    is(last.twin.row.tags, "{\"z\":[1]}");
    is(last.view, "{\"desired\":{\"$version\":4},\"reported\":{\"r\":1,\"$version\":2}}");
    OK(say("d1", PUT, "{}")); /* desired is empty already */
    counts(7, 5, 4, 2);
    assert_string_equal(heard,
                        "d1 3 {\"b\":{\"d\":3,\"c\":null},\"$version\":3};d1 4 {\"b\":null,\"$version\":4};");
}

static void test_the_device_is_told(void **state)
{
    (void)state;
    OK(say("d1", PATCH, "{\"properties\":{\"desired\":{\"nobody\":\"is there\"}}}"));
    OK(bus_attach(fx.hub.bus, SPAN("d1"), (struct bus_addr){ 0 }));
    OK(say("d1", PATCH,
           "{\"properties\":{\"desired\":{\"a\":1.0,\"nobody\":null,\"$version\":99,\"$metadata\":{}}}}"));
    OK(say("d1", PATCH, "{\"tags\":{\"a\":1}}"));
    OK(say("d1", REPORT, "{\"a\":1}"));
    OK(say("d1/m1", PATCH, "{\"properties\":{\"desired\":{\"m\":1}}}"));
    OK(say("d1", PATCH, "{\"properties\":{\"desired\":{\"b\":{}}}}"));
    OK(say("d1", PATCH, "{\"properties\":{\"desired\":null}}"));
    OK(say("d1", GET, "")); /* what was posted before is here by now */
    assert_string_equal(heard,
                        "d1 3 {\"a\":1.0,\"nobody\":null,\"$version\":3};d1 4 {\"b\":{},\"$version\":4};"
                        "d1 5 {\"a\":null,\"b\":null,\"$version\":5};");
}

static void test_conditions(void **state)
{
    (void)state;
    OK(say("d1", PATCH, "{\"tags\":{\"a\":1}}"));
    assert_int_equal(say_if("d1", PATCH, "{\"tags\":{\"a\":2}}", (struct twin_if){ .etag = 1 }), ERR_STALE);
    assert_int_equal(last.fault.wrong, TWIN_STALE);
    OK(say_if("d1", PATCH, "{\"tags\":{\"a\":3}}", (struct twin_if){ .etag = 2 }));
    assert_int_equal(say_if("d1", PUT, "{}", (struct twin_if){ .etag = 2 }), ERR_STALE);
    OK(say("d1", REPORT, "{}"));
    assert_int_equal(say_if("d1", REPORT, "{\"x\":1}", (struct twin_if){ .reported_version = 1 }), ERR_STALE);
    OK(say_if("d1", REPORT, "{\"x\":1}", (struct twin_if){ .reported_version = 2 }));
    counts(6, 3, 1, 3);
    is(last.twin.row.tags, "{\"a\":3}");
}

static void wrong(enum side side, const char *body, enum twin_wrong want, const char *text)
{
    assert_int_equal(say("d1", side, body), ERR_PROTO);
    assert_int_equal(last.fault.wrong, want);
    if (!strstr(last.fault.text, text))
        fail_msg("\"%s\" is not in \"%s\"", text, last.fault.text);
}

static void test_what_is_refused_changes_nothing(void **state)
{
    (void)state;
    wrong(PATCH, "", TWIN_NOT_JSON, "a value was expected (byte 0)");
    wrong(PATCH, "{\"tags\":", TWIN_NOT_JSON, "not JSON");
    wrong(PATCH, "[]", TWIN_NOT_OBJECT, "the body has to be a JSON object");
    wrong(PATCH, "{\"tags\":5}", TWIN_NOT_OBJECT, "tags: has to be an object");
    wrong(PATCH, "{\"properties\":5}", TWIN_NOT_OBJECT, "properties: has to be an object");
    wrong(PATCH, "{\"properties\":{\"desired\":[1]}}", TWIN_NOT_OBJECT, "properties.desired: has to be");
    wrong(PUT, "{\"tags\":{\"a\":{\"b c\":1}}}", TWIN_BAD_KEY, "tags.a.b c: a key");
    wrong(REPORT, "{\"$metadata\":{}}", TWIN_BAD_KEY, "properties.reported.$metadata");
    wrong(REPORT, "[1]", TWIN_NOT_OBJECT, "the body");
    wrong(PATCH, "{\"tags\":{\"ok\":1},\"properties\":{\"desired\":{\"a\":4503599627370496}}}",
          TWIN_BAD_NUMBER, "properties.desired.a: an integer");
    char *big = malloc(40000);
    size_t len = (size_t)sprintf(big, "{\"tags\":{\"a\":1},\"properties\":{\"desired\":{");
    for (int i = 0; i < 2900; i++)
        len += (size_t)sprintf(big + len, "%s\"%04d\":1", i ? "," : "", i);
    strcpy(big + len, "}}}");
    wrong(PATCH, big, TWIN_TOO_LARGE, "properties.desired: would have 34800 bytes");
    free(big);
    last.id = "d1";
    counts(2, 1, 1, 1);
    is(last.twin.row.tags, "{}");
}

/* A section is full only together with what is in it already. */
static void test_a_section_fills_up(void **state)
{
    char body[5000];
    unsigned stored = 0;
    (void)state;
    for (int i = 0; i < 9; i++) {
        size_t len = (size_t)sprintf(body, "{\"k%d\":\"", i);
        memset(body + len, 'x', 4094);
        strcpy(body + len + 4094, "\"}");
        enum err e = say("d1", REPORT, body);
        assert_int_equal(e, i < 8 ? ERR_OK : ERR_PROTO);
        stored += !e;
    }
    assert_int_equal(stored, 8); /* 8 * (2 + 4094) = 32768 */
    OK(say("d1", REPORT, "{\"k0\":null,\"last\":1}"));
}

static void test_a_document_may_be_sent_back(void **state)
{
    (void)state;
    OK(say("d1", PATCH, "{\"tags\":{\"a\":1.0},\"properties\":{\"desired\":{\"b\":{\"c\":[1]}}}}"));
    OK(say("d1", REPORT, "{\"r\":1}"));
    char *doc = strndup((const char *)last.doc.p, last.doc.n);
    OK(say("d1", PATCH, doc));
    OK(say("d1", PUT, doc));
    free(doc);
    is(last.twin.row.tags, "{\"a\":1.0}");
    is(last.view, "{\"desired\":{\"b\":{\"c\":[1]},\"$version\":4},\"reported\":{\"r\":1,\"$version\":2}}");
}

static enum err models(struct store_tx *tx, void *ctx)
{
    struct twin_row r;
    (void)ctx;
    OK(twin_set_model(tx, SPAN("d1"), SPAN("dtmi:a:b;1")));
    OK(twin_set_model(tx, SPAN("d1"), SPAN("dtmi:a:b;1")));
    assert_int_equal(twin_set_model(tx, SPAN("d9"), SPAN("x")), ERR_NOTFOUND);
    OK(tx_twin_get(tx, SPAN("d1"), &r));
    is(r.model_id, "dtmi:a:b;1");
    assert_int_equal(r.version, 2);
    return ERR_OK;
}
static void test_a_model(void **state)
{
    (void)state;
    OK(fixture_tx(&fx, models, NULL));
}

static void test_etags(void **state)
{
    static const struct {
        const char *text;
        uint64_t etag;
    } good[] = {
        { "AAAAAAAAAAE=", 1 }, { "\"AAAAAAAAAAE=\"", 1 },      { "W/\"AAAAAAAAAQA=\"", 256 }, { "*", 0 },
        { "\"*\"", 0 },        { "//////////8=", UINT64_MAX }, { "W/AAAAAAAAAAI=", 2 }
    };
    static const char *const bad[] = {
        "", "\"", "\"\"", "MQ==", "AAAAAAAAAAA=", "AAAAAAAAAAE", "AAAAAAAAAAAE"
    };
    uint8_t buf[TWIN_ETAG_LEN];
    uint64_t etag;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        OK(twin_etag_parse(span_str(good[i].text), &etag));
        assert_true(etag == good[i].etag);
        struct wr w = { buf, sizeof buf, 0 };
        twin_etag_write(&w, 256);
        is(wr_span(&w), "AAAAAAAAAQA=");
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(twin_etag_parse(span_str(bad[i]), &etag), ERR_PROTO);
    struct twin_note n;
    for (size_t i = 0; i <= 8; i++)
        assert_int_equal(twin_note_decode(span_of("12345678", i), &n), ERR_PROTO);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_fresh_twin),
        T(test_both_sides_patch),
        T(test_a_twin_is_replaced),
        T(test_the_device_is_told),
        T(test_conditions),
        T(test_what_is_refused_changes_nothing),
        T(test_a_section_fills_up),
        T(test_a_document_may_be_sent_back),
        T(test_a_model),
        T(test_etags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
