/* hub/front/roost_http/bodies_test.c - every JSON body of the interface: taken whole, refused when it is cut
 * at any byte, refused with the member's name when a member is of another type, missing or unknown. The
 * handlers run whole, on the real store. */
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
    assert_int_equal(worker_new(&worker, 0), ERR_OK);
    assert_int_equal(pool_new(&pool, 1), ERR_OK);
    assert_int_equal(roost_http_new(&front, &fx.hub, pool, NULL), ERR_OK);
    fixture_policy(&fx, "owner", 15);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
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

static unsigned ask(http_handler *handler, struct span body, const char *param)
{
    http_fake_free(&answer);
    answer = (struct http_fake){ .r = { .worker = worker,
                                        .ctx = front,
                                        .method = HTTP_POST_,
                                        .path = SPAN("/x"),
                                        .params = { span_str(param) },
                                        .body = body } };
    answer.fields[0].name = "Authorization";
    answer.fields[0].value = token_span;
    handler(&answer.r);
    while (!answer.status)
        worker_turn(worker, 10000);
    return answer.status;
}

static const struct {
    http_handler *handler;
    const char *param, *body;
    unsigned status;                       /* of the whole body */
    const char *required, *text_or_number; /* a member that has to be there; one whose type is changed */
} rows[] = {
    { bootstrap_post, "", "{\"hardware\":\"widget:7:1\",\"id\":\"cut\",\"trustVersion\":0}", 202, "hardware",
      "id" },
    { device_put, "d1", "{\"status\":\"enabled\"}", 200, NULL, "status" },
    { token_post, "", "{\"name\":\"line\",\"hardware\":\"widget:7\",\"uses\":5,\"ttlSeconds\":60}", 201,
      "name", "uses" },
    { message_post, "d1",
      "{\"body\":\"h\\u00e9\",\"properties\":{\"a\":\"b\"},\"messageId\":\"m\",\"ttlSeconds\":9,\"ack\":"
      "\"full\"}",
      201, "body", "messageId" },
    { broadcast_post, "", "{\"bodyBase64\":\"AAEC\",\"contentType\":\"x/y\"}", 201, "bodyBase64",
      "contentType" },
    { group_put, "readers", "{\"positions\":[{\"partition\":0,\"next\":0}]}", 200, "positions", "positions" },
    { artifact_post, "",
      "{\"payload\":\"p\",\"tree\":\"t\",\"root\":"
      "\"0000000000000000000000000000000000000000000000000000000000000000\","
      "\"sha256\":\"0000000000000000000000000000000000000000000000000000000000000000\",\"chunkCode\":12,"
      "\"fanOut\":32}",
      422, "root", "chunkCode" },
    { query_post, "", "{\"query\":\"SELECT deviceId FROM devices\",\"limit\":5}", 200, "query", "limit" },
    { configuration_put_one, "c1",
      "{\"where\":\"tags.a = "
      "1\",\"priority\":3,\"content\":{\"deviceContent\":{\"properties.desired\":{\"a\":1}"
      "}},\"labels\":{\"x\":\"y\"},\"metrics\":{\"all\":\"SELECT deviceId FROM devices\"}}",
      201, "content", "priority" },
    { campaign_post, "",
      "{\"releases\":[\"0000000000000000000000000000000000000000000000000000000000000000\"],\"all\":true}",
      422, "releases", "all" },
};
#define ROWS (sizeof rows / sizeof rows[0])

static void test_whole_bodies(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++)
        if (ask(rows[i].handler, span_str(rows[i].body), rows[i].param) != rows[i].status)
            fail_msg("%s: %u %s %s", rows[i].body, answer.status, answer.code, answer.body);
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
    (void)state;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t n = 0; n < strlen(rows[i].body); n++) {
            char *cut = malloc(n + 1); /* of its own size, so that a read beyond it is seen */
            assert_non_null(cut);
            memcpy(cut, rows[i].body, n);
            unsigned status = ask(rows[i].handler, span_of(cut, n), rows[i].param);
            if (status != 400 || strcmp(answer.code, "bad-json") != 0)
                fail_msg("%.*s: %u %s", (int)n, rows[i].body, status, answer.code);
            free(cut);
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
    unsigned status = ask(rows[i].handler, span_str(text), rows[i].param);
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
                                          "{\"hardware\":\"a:1\",\"hardware\":\"b:1\",\"id\":\"x\"}" };
    (void)state;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t k = 0; k < sizeof bodies / sizeof bodies[0]; k++)
            if (ask(rows[i].handler, span_str(bodies[k]), rows[i].param) != 400)
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
        T(test_whole_bodies),
        T(test_every_cut_is_refused),
        T(test_a_refusal_does_not_tell_who_is_there),
        T(test_members_are_named),
        T(test_what_is_not_an_object),
        T(test_bounds),
        T(test_lists_have_caps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
