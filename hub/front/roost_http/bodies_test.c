/* hub/front/roost_http/bodies_test.c - every JSON body of the interface: taken whole, refused when it is cut
 * at any byte or when any value in it is of another type, refused with the member's name when one is missing
 * or unknown; what is refused changes nothing. The handlers run whole, on the real store. A route that reads
 * JSON has a row here, which the test holds to the table of routes. */
#define FIXTURE_STREAM
#include "tests/fake/http_fake.h"
#include "tests/fake/hub_fixture.h"

#include "hub/front/http/query_step.h"
#include "hub/front/roost_http/roost_http.h"
#include "hub/front/roost_http/routes.h"
#include "hub/loop/pool.h"
#include "hub/store/store_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <jansson.h>

#include <cmocka.h>

static struct fixture fx;
static struct roost_http *front;
static struct worker *worker;
static struct pool *pool;
static char token[SAS_TOKEN_MAX];
static struct span token_span;

static int setup(void **state)
{
    char dir[96];
    (void)state;
    fixture_init(&fx);
    snprintf(dir, sizeof dir, "%s/blob", fx.dir);
    assert_int_equal(blob_dir_open(&fx.hub.blob, dir), ERR_OK);
    fx.hub.settings.bootstrap_open = true; /* and no rate: every cut is asked */
    fx.hub.settings.routes_max = fx.hub.settings.endpoints_max = fx.hub.settings.enrichments_max = 10;
    fx.hub.settings.upload_container = "uploads";
    fx.hub.settings.registry_container = "registry";
    assert_int_equal(worker_new(&worker, 0), ERR_OK);
    assert_int_equal(pool_new(&pool, 1), ERR_OK);
    assert_int_equal(roost_http_new(&front, &fx.hub, pool, NULL), ERR_OK);
    fixture_policy(&fx, "owner", 15);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    struct device_row edge = fixture_row("edge");
    edge.edge = true;
    assert_int_equal(fixture_tx(&fx, fixture_put_device, &edge), ERR_OK);
    token_span = fixture_token(token, "hub.example.net", fixture_key1, 3600, "owner");
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    pool_free(pool);
    blob_close(fx.hub.blob);
    fixture_fini(&fx);
    roost_http_free(front);
    worker_free(worker);
    return 0;
}

static struct http_fake answer;

static unsigned ask_in(http_handler *handler, struct span body, const char *param, const char *second)
{
    http_fake_free(&answer);
    answer = (struct http_fake){ .r = { .worker = worker,
                                        .ctx = front,
                                        .method = HTTP_POST_,
                                        .path = SPAN("/x"),
                                        .params = { span_str(param), span_str(second) },
                                        .body = body } };
    answer.fields[0].name = "Authorization";
    answer.fields[0].value = token_span;
    handler(&answer.r);
    while (!answer.status)
        worker_turn(worker, 10000);
    return answer.status;
}
static unsigned ask(http_handler *handler, struct span body, const char *param)
{
    return ask_in(handler, body, param, "");
}

#define ENDPOINT "{\"kind\":\"stream\",\"retainSeconds\":3600,\"retainBytes\":1048576}"
#define WEBHOOK                                                                                              \
    "{\"kind\":\"webhook\",\"url\":\"https://a.example/\",\"secret\":\"of-sixteen-bytes\",\"ca\":\"x\","     \
    "\"batch\":5,\"deadLetterSeconds\":60}"
#define BRIDGE                                                                                               \
    "{\"kind\":\"mqtt\",\"host\":\"a.example\",\"port\":1,\"topic\":\"t\",\"clientId\":\"c\",\"username\":"  \
    "\"u\","                                                                                                 \
    "\"password\":\"p\",\"payload\":\"json\"}"
#define ARCHIVE "{\"kind\":\"file\",\"rotateBytes\":4096,\"rotateSeconds\":60,\"keep\":3}"

static const struct {
    http_handler *handler;
    const char *param, *body;
    unsigned status;                       /* of the whole body */
    const char *required, *text_or_number; /* a member that has to be there; one whose type is changed */
    const char *free;                      /* members whose value, or what is in it, is the caller's own */
    const char *second;                    /* parameter of the path */
    bool lenient;                          /* members that it does not know are left alone */
} rows[] = {
    { .handler = bootstrap_post,
      "",
      "{\"hardware\":\"widget:7:1\",\"id\":\"cut\",\"trustVersion\":0}",
      202,
      "hardware",
      "id" },
    { .handler = device_put, "d1", "{\"status\":\"enabled\"}", 200, NULL, "status" },
    { .handler = token_post,
      "",
      "{\"name\":\"line\",\"hardware\":\"widget:7\",\"uses\":5,\"ttlSeconds\":60}",
      201,
      "name",
      "uses" },
    { .handler = message_post,
      "d1",
      "{\"body\":\"h\\u00e9\",\"properties\":{\"a\":\"b\"},\"messageId\":\"m\",\"ttlSeconds\":9,\"ack\":"
      "\"full\"}",
      201,
      "body",
      "messageId" },
    { .handler = broadcast_post,
      "",
      "{\"bodyBase64\":\"AAEC\",\"contentType\":\"x/y\"}",
      201,
      "bodyBase64",
      "contentType" },
    { .handler = group_put,
      "readers",
      "{\"positions\":[{\"partition\":0,\"next\":0}]}",
      200,
      "positions",
      "positions" },
    { .handler = artifact_post,
      "",
      "{\"payload\":\"p\",\"tree\":\"t\",\"root\":"
      "\"0000000000000000000000000000000000000000000000000000000000000000\","
      "\"sha256\":\"0000000000000000000000000000000000000000000000000000000000000000\",\"chunkCode\":12,"
      "\"fanOut\":32}",
      422,
      "root",
      "chunkCode" },
    { .handler = query_post,
      "",
      "{\"query\":\"SELECT deviceId FROM devices\",\"limit\":5}",
      200,
      "query",
      "limit" },
    { .handler = configuration_put_one,
      "c1",
      "{\"where\":\"tags.a = "
      "1\",\"priority\":3,\"content\":{\"deviceContent\":{\"properties.desired\":{\"a\":1}"
      "}},\"labels\":{\"x\":\"y\"},\"metrics\":{\"all\":\"SELECT deviceId FROM devices\"}}",
      201,
      "content",
      "priority",
      .free = "a" },
    { .handler = campaign_post,
      "",
      "{\"releases\":[\"0000000000000000000000000000000000000000000000000000000000000000\"],\"all\":true}",
      422,
      "releases",
      "all" },
    { .handler = campaign_post,
      "",
      "{\"releases\":[\"0000000000000000000000000000000000000000000000000000000000000000\"],\"devices\":"
      "[\"d1\"]}",
      422,
      "releases",
      "devices" },
    { .handler = message_post,
      "d1",
      "{\"bodyBase64\":\"AAEC\",\"contentEncoding\":\"utf-8\",\"correlationId\":\"c\",\"ack\":\"none\"}",
      201,
      "bodyBase64",
      "correlationId" },
    { .handler = configuration_patch_one,
      "c1",
      "{\"where\":\"tags.a = 2\",\"priority\":4,\"labels\":{\"x\":\"z\"}}",
      200,
      NULL,
      "where" },
    { .handler = module_put_one,
      "d1",
      "{\"managedBy\":\"me\",\"authentication\":\"sas\"}",
      201,
      NULL,
      "managedBy",
      .second = "m" },
    { .handler = module_message_post,
      "d1",
      "{\"body\":\"x\",\"messageId\":\"m\"}",
      201,
      "body",
      "messageId",
      .second = "m" },
    { .handler = twin_patch,
      "d1",
      "{\"tags\":{\"a\":1},\"desired\":{\"b\":[true]}}",
      200,
      NULL,
      "tags",
      .free = "a b",
      .lenient = true },
    { .handler = twin_replace,
      "d1",
      "{\"tags\":{\"a\":1},\"desired\":{\"b\":{\"c\":\"d\"}}}",
      200,
      NULL,
      "desired",
      .free = "a b",
      .lenient = true },
    { .handler = twin_patch,
      "d1",
      "{\"desired\":{\"b\":1.5}}",
      200,
      NULL,
      "desired",
      .free = "b",
      .second = "m",
      .lenient = true },
    { .handler = method_post,
      "d1",
      "{\"payload\":{\"a\":[1]},\"responseTimeoutSeconds\":5,\"connectTimeoutSeconds\":0}",
      409,
      NULL,
      "responseTimeoutSeconds",
      .free = "payload",
      .second = "reboot" },
    { .handler = job_put_one,
      "j1",
      "{\"where\":\"*\",\"twin\":{\"tags\":{\"a\":1},\"desired\":{\"b\":2}},\"start\":\"2026-08-10T09:15:"
      "00Z\","
      "\"maxSeconds\":60}",
      201,
      "where",
      "maxSeconds",
      .free = "a b" },
    { .handler = job_put_one,
      "j2",
      "{\"where\":\"tags.a = 1\",\"method\":{\"name\":\"m\",\"payload\":[1],\"responseTimeoutSeconds\":5,"
      "\"connectTimeoutSeconds\":1}}",
      201,
      "where",
      "method",
      .free = "payload" },
    { .handler = endpoint_put, "s", ENDPOINT, 201, "kind", "retainBytes" },
    { .handler = endpoint_put, "w", WEBHOOK, 201, "kind", "url" },
    { .handler = endpoint_put, "b", BRIDGE, 201, "host", "port" },
    { .handler = endpoint_put, "f", ARCHIVE, 201, "kind", "keep" },
    { .handler = route_put,
      "r",
      "{\"source\":\"DeviceMessages\",\"condition\":\"a = "
      "'b'\",\"endpoints\":[\"s\",\"events\"],\"enabled\":true}",
      201,
      "endpoints",
      "source" },
    { .handler = route_put, "$fallback", "{\"enabled\":true}", 200, "enabled", "enabled" },
    { .handler = enrichment_put,
      "e",
      "{\"value\":\"$twin.tags.a\",\"endpoints\":[\"s\"]}",
      201,
      "value",
      "endpoints" },
    { .handler = route_test_post,
      "",
      "{\"condition\":\"a = "
      "'b'\",\"source\":\"DeviceMessages\",\"message\":{\"deviceId\":\"d1\",\"moduleId\":\"m\","
      "\"properties\":{\"a\":\"b\"},\"systemProperties\":{\"messageId\":\"i\"},\"body\":{\"x\":1}},\"twin\":"
      "{\"tags\":{\"t\":1}}}",
      200,
      "message",
      "source",
      .free = "body tags" },
    { .handler = device_content_post,
      "edge",
      "{\"modulesContent\":{\"$edgeAgent\":{\"properties.desired\":{\"a\":1}},\"m9\":{\"properties.desired."
      "b\":"
      "[2]}}}",
      204,
      "modulesContent",
      "modulesContent",
      .free = "a properties.desired.b",
      .lenient = true },
    { .handler = container_sas_post,
      "uploads",
      "{\"permissions\":\"rl\",\"ttlSeconds\":60}",
      200,
      NULL,
      "ttlSeconds" },
};
#define ROWS (sizeof rows / sizeof rows[0])

static unsigned ask_row(size_t i, struct span body)
{
    return ask_in(rows[i].handler, body, rows[i].param, rows[i].second ? rows[i].second : "");
}

/* What the hub has: devices, modules, decisions, messages that wait. */
static enum err count_all(struct store_tx *tx, void *ctx)
{
    uint64_t *n = ctx, by[3], modules, waiting;
    enum err e = tx_device_count(tx, by);
    if (!e)
        e = tx_module_count(tx, SPAN("d1"), &modules);
    if (!e)
        e = tx_c2d_count(tx, SPAN("d1"), &waiting);
    if (!e)
        *n += by[0] + by[1] + by[2] + 1000 * modules + 1000000 * waiting;
    return e;
}
static enum err count_audit(void *ctx, const struct audit_row *r)
{
    (void)r;
    *(uint64_t *)ctx += 1000000000;
    return ERR_OK;
}
static enum err count_decisions(struct store_tx *tx, void *ctx)
{
    return tx_audit_list(tx, 0, 1000000, count_audit, ctx);
}
static uint64_t everything(void)
{
    uint64_t n = 0;
    assert_int_equal(fixture_tx(&fx, count_all, &n), ERR_OK);
    assert_int_equal(fixture_tx(&fx, count_decisions, &n), ERR_OK);
    return n;
}

static void test_whole_bodies(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++)
        if (ask_row(i, span_str(rows[i].body)) != rows[i].status)
            fail_msg("%s: %u %s %s", rows[i].body, answer.status, answer.code, answer.body);
}

static void test_every_route_with_json_has_a_row(void **state)
{
    /* signed bytes, pieces of files, certificates; a body that is not looked at */
    static http_handler *const others[] = { checkin_post,   trust_post,        release_post,
                                            upload_put,     device_approve,    authority_put_one,
                                            job_cancel_one, module_method_post };
    (void)state;
    for (const struct http_route *r = roost_http_routes(front)->table; r->pattern; r++) {
        bool found = !r->handler || !r->body_max;
        for (size_t i = 0; i < ROWS; i++)
            found |= rows[i].handler == r->handler;
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
            found |= others[i] == r->handler;
        if (!found)
            fail_msg("%s reads a body: add a row", r->pattern);
    }
}

static void test_queries_at_a_time(void **state)
{
    static const char *const bodies[] = { "{\"query\":\"SELECT * FROM devices\"}", "{\"query\":\"SELECT\"}",
                                          "{\"query\":\"SELECT * FROM devices\",\"next\":\"x\"}" };
    (void)state;
    fx.hub.queries_running = QUERY_RUNNING_MAX;
    assert_int_equal(ask(query_post, span_str(bodies[0]), ""), 429);
    assert_string_equal(answer.code, "too-many-queries");
    assert_int_equal(fx.hub.queries_running, QUERY_RUNNING_MAX);
    fx.hub.queries_running = QUERY_RUNNING_MAX - 1;
    for (size_t i = 0; i < 3; i++) { /* whatever comes of it, its place is free again */
        assert_int_equal(ask(query_post, span_str(bodies[i]), ""), i ? 400 : 200);
        assert_int_equal(fx.hub.queries_running, QUERY_RUNNING_MAX - 1);
    }
    fx.hub.queries_running = 0;
}

/* A store none of whose transactions begins. */
static enum err no_connect(void *db, bool writer, struct store_conn **out)
{
    (void)db, (void)writer;
    *out = NULL;
    return ERR_OK;
}
static void no_disconnect(struct store_conn *c)
{
    (void)c;
}
static bool is_broken; /* from the end of the start on, which looks at what is there */
static enum err no_step(struct store_conn *c, enum store_step what)
{
    (void)c, (void)what;
    return is_broken ? ERR_IO : ERR_OK;
}
static bool no_tx(const struct store_conn *c)
{
    (void)c;
    return false;
}
static enum err start_checked(struct store_conn *c, struct store_sql *q, const struct store_val *v,
                              unsigned nr, struct store_rows **out)
{
    (void)c, (void)q, (void)v, (void)nr;
    *out = NULL;
    return is_broken ? ERR_IO : ERR_OK;
}
static enum err no_row(struct store_rows *r)
{
    (void)r;
    return ERR_NOTFOUND;
}
static void no_tend(void *db, bool writer)
{
    (void)db, (void)writer;
}
static void no_end_kept(struct store_conn *c)
{
    (void)c;
}
static void no_close(void *db)
{
    (void)db;
}
static const struct store_backend broken = { .name = "broken",
                                             .connect = no_connect,
                                             .disconnect = no_disconnect,
                                             .step = no_step,
                                             .in_tx = no_tx,
                                             .start = start_checked,
                                             .next = no_row,
                                             .end_kept = no_end_kept,
                                             .tend = no_tend,
                                             .close = no_close };

static void test_a_query_whose_transaction_does_not_begin_gives_its_place_back(void **state)
{
    const struct span body = SPAN("{\"query\":\"SELECT * FROM devices\"}");
    (void)state;
    struct store *whole = fx.hub.store;
    assert_int_equal(ask(query_post, body, ""), 200); /* from now on the policy is known */
    is_broken = false;
    assert_int_equal(store_start(&fx.hub.store, &broken, NULL, 1), ERR_OK);
    is_broken = true;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask(query_post, body, ""), 500);
        assert_int_equal(fx.hub.queries_running, 0);
    }
    store_close(fx.hub.store);
    fx.hub.store = whole;
}

static void test_every_cut_is_refused(void **state)
{
    uint64_t before = everything();
    (void)state;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t n = 0; n < strlen(rows[i].body); n++) {
            char *cut = malloc(n + 1); /* of its own size, so that a read beyond it is seen */
            assert_non_null(cut);
            memcpy(cut, rows[i].body, n);
            unsigned status = ask_row(i, span_of(cut, n));
            if (status != 400 || strcmp(answer.code, "bad-json") != 0)
                fail_msg("%.*s: %u %s", (int)n, rows[i].body, status, answer.code);
            free(cut);
        }
    assert_int_equal(everything(), before);
}

static bool named(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = list; at && (at = strstr(at, name)); at += n)
        if ((at == list || at[-1] == ' ') && (!at[n] || at[n] == ' '))
            return true;
    return false;
}

/* Asks with another type in the place of `child`, which is put back. */
static void another_type(size_t i, json_t *whole, json_t *parent, const char *key, size_t at)
{
    static const char *const others[] = { "7", "-1.5", "\"?\"", "true", "[7]", "{\"?\":7}" };
    json_t *child = json_incref(key ? json_object_get(parent, key) : json_array_get(parent, at));
    for (size_t k = 0; k < sizeof others / sizeof others[0]; k++) {
        json_t *other = json_loads(others[k], JSON_DECODE_ANY, NULL);
        bool same =
            json_typeof(other) == json_typeof(child) || (json_is_boolean(other) && json_is_boolean(child));
        if (key)
            json_object_set_new(parent, key, other);
        else
            json_array_set_new(parent, at, other);
        char *text = json_dumps(whole, JSON_COMPACT);
        if (!same && ask_row(i, span_str(text)) != 400)
            fail_msg("%s: %u %s", text, answer.status, answer.body);
        free(text);
    }
    if (key)
        json_object_set(parent, key, child);
    else
        json_array_set(parent, at, child);
    json_decref(child);
}

static void another_type_below(size_t i, json_t *whole, json_t *at)
{
    const char *key;
    json_t *child;
    void *next;
    size_t k;
    json_object_foreach_safe(at, next, key, child)
    {
        if (named(rows[i].free, key))
            continue;
        another_type(i, whole, at, key, 0);
        another_type_below(i, whole, json_object_get(at, key));
    }
    json_array_foreach(at, k, child)
    {
        another_type(i, whole, at, NULL, k);
        another_type_below(i, whole, json_array_get(at, k));
    }
}

static void test_another_type_in_every_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].handler == configuration_patch_one) /* which has to be there */
            (void)ask(configuration_put_one,
                      SPAN("{\"content\":{\"deviceContent\":{\"properties.desired\":{}}}}"), rows[i].param);
        uint64_t before = everything();
        json_t *whole = json_loads(rows[i].body, 0, NULL);
        assert_non_null(whole);
        another_type_below(i, whole, whole);
        json_decref(whole);
        assert_int_equal(everything(), before);
    }
}

/* An unknown name and a wrong key look the same from outside. */
static void test_a_refusal_does_not_tell_who_is_there(void **state)
{
    static const struct {
        http_handler *handler;
        const char *resource, *policy;
    } asks[] = { { checkin_post, "hub.example.net/devices/d1", "" },
                 { checkin_post, "hub.example.net/devices/nobody", "" },
                 { status_get, "hub.example.net", "owner" },
                 { status_get, "hub.example.net", "nobody" } };
    uint8_t wrong[32] = { 1 };
    char first[512] = "";
    (void)state;
    for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++) {
        token_span = fixture_token(token, asks[i].resource, wrong, 3600, asks[i].policy);
        assert_int_equal(ask(asks[i].handler, SPAN_NONE, ""), 401);
        if (!i)
            snprintf(first, sizeof first, "%s", answer.body);
        assert_string_equal(answer.body, first);
    }
}

static void ask_json(size_t i, json_t *o, const char *names)
{
    char *text = json_dumps(o, JSON_COMPACT);
    assert_non_null(text);
    unsigned status = ask_row(i, span_str(text));
    if (status != 400 || !strstr(answer.body, names))
        fail_msg("%s: %u %s %s", text, status, answer.code, answer.body);
    free(text);
    json_decref(o);
}

static void test_members_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        json_t *o = json_loads(rows[i].body, 0, NULL);
        assert_int_equal(json_object_set_new(o, "colour", json_true()), 0);
        if (rows[i].lenient)
            json_decref(o);
        else
            ask_json(i, o, "colour");
        o = json_loads(rows[i].body, 0, NULL);
        assert_int_equal(json_object_set_new(o, rows[i].text_or_number, json_array()), 0);
        ask_json(i, o, rows[i].text_or_number);
        if (!rows[i].required)
            continue;
        o = json_loads(rows[i].body, 0, NULL);
        assert_int_equal(json_object_del(o, rows[i].required), 0);
        ask_json(i, o, rows[i].required);
    }
}

static void test_what_is_not_an_object(void **state)
{
    static const char *const bodies[] = { "",
                                          "null",
                                          "[]",
                                          "1",
                                          "\"a\"",
                                          "{} {}",
                                          "{}x",
                                          "{",
                                          "{\"a\":1,}",
                                          "\xff",
                                          "{\"a\":\"\\ud800\"}",
                                          "{\"tags\":{},\"desired\":{},\"tags\":{}}",
                                          "{\"tags\":{\"a\":1,\"a\":2}}",
                                          "{\"hardware\":\"a:1\",\"hardware\":\"b:1\",\"id\":\"x\"}" };
    (void)state;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t k = 0; k < sizeof bodies / sizeof bodies[0]; k++)
            if (ask_row(i, span_str(bodies[k])) != 400)
                fail_msg("%s: %u", bodies[k], answer.status);
    /* deep, and wide: refused, and nothing else happens */
    char *deep = malloc(100001);
    assert_non_null(deep);
    memset(deep, '[', 100000);
    deep[100000] = 0;
    assert_int_equal(ask(message_post, span_str(deep), "d1"), 400);
    free(deep);
}

static void test_bounds(void **state)
{
    static const struct {
        http_handler *handler;
        const char *param, *body;
        unsigned status;
        const char *code;
    } bad[] = {
        { bootstrap_post, "", "{\"hardware\":\"widget\",\"id\":\"a\"}", 400, "bad-hardware" },
        { bootstrap_post, "", "{\"hardware\":\"widget:7\"}", 400, "missing-member" },
        { bootstrap_post, "", "{\"hardware\":\"widget:7\",\"id\":\"a/b\"}", 400, "bad-device-id" },
        { bootstrap_post, "", "{\"hardware\":\"widget:7\",\"id\":\"a\",\"trustVersion\":4294967296}", 400,
          "bad-member" },
        { bootstrap_post, "", "{\"hardware\":\"widget:7\",\"id\":\"a\",\"publicKey\":\"AAAA\"}", 400,
          "bad-member" },
        { bootstrap_post, "",
          "{\"hardware\":\"widget:7\",\"publicKey\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"}", 401,
          "signature-missing" },
        { bootstrap_post, "", "{\"hardware\":\"widget:7\",\"id\":\"a\",\"token\":\"no such fleet token\"}",
          401, "token-unknown" },
        { token_post, "", "{\"name\":\"a\",\"uses\":-1}", 400, "bad-member" },
        { token_post, "", "{\"name\":\"a\",\"uses\":1.5}", 400, "bad-member" },
        { token_post, "", "{\"name\":\"a\",\"hardware\":\"widget:7:1\"}", 400, "bad-member" },
        { token_post, "", "{\"name\":\"a\",\"token\":\"short\"}", 400, "bad-member" },
        { device_put, "a b", "{}", 400, "bad-device-id" },
        { device_put, "", "{}", 400, "bad-device-id" },
        { campaign_post, "", "{\"releases\":[],\"all\":true}", 400, "bad-member" },
        { campaign_post, "", "{\"releases\":[1],\"all\":true}", 400, "bad-member" },
        { campaign_post, "", "{\"releases\":[\"00\"],\"all\":true}", 400, "bad-member" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        unsigned status = ask(bad[i].handler, span_str(bad[i].body), bad[i].param);
        if (status != bad[i].status || strcmp(answer.code, bad[i].code) != 0)
            fail_msg("%s: %u %s", bad[i].body, status, answer.code);
    }
}

static void test_lists_have_caps(void **state)
{
    json_t *o = json_object(), *ids = json_array(), *releases = json_array();
    (void)state;
    for (unsigned i = 0; i < 10001; i++)
        assert_int_equal(json_array_append_new(ids, json_sprintf("d%u", i)), 0);
    assert_int_equal(
        json_array_append_new(
            releases, json_string("0000000000000000000000000000000000000000000000000000000000000000")),
        0);
    json_object_set_new(o, "devices", ids);
    json_object_set_new(o, "releases", releases);
    char *text = json_dumps(o, JSON_COMPACT);
    assert_int_equal(ask(campaign_post, span_str(text), ""), 400);
    assert_non_null(strstr(answer.body, "devices"));
    free(text);
    json_array_remove(ids, 0);
    text = json_dumps(o, JSON_COMPACT);
    assert_int_equal(ask(campaign_post, span_str(text), ""),
                     422); /* so many are fine; the release is not here */
    free(text);
    for (unsigned i = 1; i < 65; i++)
        json_array_append_new(releases, json_sprintf("%064u", i));
    text = json_dumps(o, JSON_COMPACT);
    assert_int_equal(ask(campaign_post, span_str(text), ""), 400);
    assert_non_null(strstr(answer.body, "releases"));
    free(text);
    json_decref(o);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_queries_at_a_time),
        T(test_a_query_whose_transaction_does_not_begin_gives_its_place_back),
        T(test_every_route_with_json_has_a_row),
        T(test_whole_bodies),
        T(test_every_cut_is_refused),
        T(test_another_type_in_every_value),
        T(test_a_refusal_does_not_tell_who_is_there),
        T(test_members_are_named),
        T(test_what_is_not_an_object),
        T(test_bounds),
        T(test_lists_have_caps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
