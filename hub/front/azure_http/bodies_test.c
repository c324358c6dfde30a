/* hub/front/azure_http/bodies_test.c - every JSON body of the registry, and of the service's other
 * operations: taken whole; refused, with no effect,
 * when it is cut at any byte or when any member is of another type; ids and texts at and over their limits.
 * The handlers run whole, on the real store. */
#define FIXTURE_STREAM
#include "tests/fake/http_fake.h"
#include "tests/fake/hub_fixture.h"

#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/azure_http.h"
#include "hub/front/azure_http/routes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;
static struct azure_http *front;
static struct worker *worker;
static char token[SAS_TOKEN_MAX];
static struct span token_span;
static struct http_fake answer;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    assert_int_equal(worker_new(&worker, 0), ERR_OK);
    assert_int_equal(azure_http_new(&front, &fx.hub, NULL), ERR_OK);
    fixture_policy(&fx, "owner", 15);
    fixture_device(&fx, "old", DEVICE_ENABLED);
    token_span = fixture_token(token, "hub.example.net", fixture_key1, 3600, "owner");
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    http_fake_free(&answer);
    fixture_fini(&fx);
    azure_http_free(front);
    worker_free(worker);
    return 0;
}

static unsigned ask(http_handler *handler, struct span body, const char *device, const char *module)
{
    http_fake_free(&answer);
    answer = (struct http_fake){ .r = { .worker = worker,
                                        .ctx = front,
                                        .method = HTTP_PUT_,
                                        .path = SPAN("/x"),
                                        .query = SPAN("api-version=2021-04-12"),
                                        .params = { span_str(device), span_str(module) },
                                        .body = body } };
    answer.fields[0].name = "Authorization";
    answer.fields[0].value = token_span;
    handler(&answer.r);
    while (!answer.status)
        worker_turn(worker, 10000);
    return answer.status;
}

static enum err count_tx(struct store_tx *tx, void *ctx)
{
    uint64_t by[3], modules;
    enum err e = tx_device_count(tx, by);
    if (!e)
        e = tx_module_count(tx, SPAN("old"), &modules);
    if (!e)
        *(uint64_t *)ctx = by[0] + by[1] + by[2] + 1000 * modules;
    return e;
}
static uint64_t identities(void)
{
    uint64_t nr = 0;
    assert_int_equal(fixture_tx(&fx, count_tx, &nr), ERR_OK);
    return nr;
}

#define KEYS                                                                                                 \
    "\"symmetricKey\":{\"primaryKey\":\"MDEyMzQ1Njc4OWFiY2RlZg==\",\"secondaryKey\":"                        \
    "\"MDEyMzQ1Njc4OWFiY2RlZg==\"}"
#define THUMBS                                                                                               \
    "\"x509Thumbprint\":{\"primaryThumbprint\":\"0123456789012345678901234567890123456789\","                \
    "\"secondaryThumbprint\":\"\"}"

static const struct {
    http_handler *handler;
    const char *device, *module, *body;
    unsigned status; /* of the whole body */
} rows[] = {
    { azure_device_put, "new", "",
      "{\"deviceId\":\"new\",\"status\":\"Enabled\",\"statusReason\":\"\xc3\xa4\",\"authentication\":{"
      "\"type\":\"sas\"," KEYS
      "},\"capabilities\":{\"iotEdge\":false},\"parentScopes\":[\"\"],\"deviceScope\":\"\",\"etag\":null}",
      200 },
    { azure_device_put, "new2", "",
      "{\"authentication\":{\"type\":\"selfSigned\"," THUMBS "},\"capabilities\":{\"iotEdge\":true}}", 200 },
    { azure_module_put, "old", "m",
      "{\"moduleId\":\"m\",\"deviceId\":\"old\",\"managedBy\":\"me\",\"authentication\":{" KEYS "}}", 200 },
    { azure_devices_post, "", "",
      "[{\"id\":\"b1\",\"importMode\":\"create\",\"eTag\":\"MQ==\",\"status\":\"disabled\","
      "\"authentication\":{" KEYS "}},{\"id\":\"old\","
      "\"moduleId\":\"m2\",\"managedBy\":\"me\"}]",
      200 },
    /* what a twin may hold is told with the entry, so one that is alone */
    { azure_devices_post, "", "", "[{\"id\":\"b2\",\"tags\":{},\"properties\":{\"desired\":{}}}]", 200 },
    { azure_keys_regenerate, "", "",
      "{\"policyKey\":\"both\",\"devices\":[{\"id\":\"old\"},{\"id\":\"old\",\"moduleId\":\"m\"}]}", 200 },
    /* a hub without files: refused when all of it has been read */
    { azure_registry_job_post, "", "",
      "{\"type\":\"import\",\"inputBlobContainerUri\":\"x\",\"outputBlobContainerUri\":\"x\","
      "\"inputBlobName\":\"a\","
      "\"outputBlobName\":\"b\",\"errorsBlobName\":\"c\",\"importMode\":\"create\",\"excludeKeysInExport\":"
      "true,"
      "\"includeConfigurations\":false,\"storageAuthenticationType\":\"keyBased\"}",
      400 },
};
#define ROWS (sizeof rows / sizeof rows[0])

static void cut_at_every_byte(void **state)
{
    uint64_t before = identities();
    (void)state;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t n = 0; n < strlen(rows[i].body); n++) {
            char *exact = malloc(n + 1); /* so that reading beyond it is found */
            assert_non_null(exact);
            memcpy(exact, rows[i].body, n);
            if (ask(rows[i].handler, span_of(exact, n), rows[i].device, rows[i].module) != 400)
                fail_msg("row %zu cut at %zu: %u %s", i, n, answer.status, answer.body);
            assert_non_null(strstr(answer.answer_fields, "iothub-errorcode: IotHubFormatError\r\n"));
            free(exact);
        }
    assert_int_equal(identities(), before);
}

/* Bodies of the service's other operations. */
static const struct {
    http_handler *handler;
    const char *device, *body;
    unsigned status; /* of the whole body; 0: it needs more than this hub has */
} more[] = {
    { azure_twin_patch, "old", "{\"tags\":{\"a\":1},\"properties\":{\"desired\":{\"x\":{\"y\":[1]}}}}", 200 },
    { azure_twin_put, "old", "{\"tags\":{\"a\":\"\\u00e9\"},\"properties\":{\"desired\":{\"x\":-1.5e3}}}",
      200 },
    { azure_query, "", "{\"query\":\"SELECT * FROM devices\"}", 200 },
    { azure_config_put, "c",
      "{\"id\":\"c\",\"schemaVersion\":\"1.0\",\"content\":{\"deviceContent\":{\"properties.desired.a\":"
      "{\"b\":1}}},\"targetCondition\":\"tags.a = 1\",\"priority\":3,\"labels\":{\"l\":\"m\"},\"metrics\":"
      "{\"queries\":{\"q\":\"SELECT deviceId FROM devices\"}}}",
      200 },
    { azure_configs_test, "", "{\"targetCondition\":\"tags.a = 1\",\"customMetricQueries\":{}}", 200 },
    { azure_job_put, "j",
      "{\"jobId\":\"j\",\"type\":\"scheduleUpdateTwin\",\"queryCondition\":\"*\",\"updateTwin\":{\"etag\":\"*"
      "\","
      "\"tags\":{\"a\":1}},\"startTime\":\"2026-01-01T00:00:00Z\",\"maxExecutionTimeInSeconds\":60}",
      0 },
    { azure_device_method, "old",
      "{\"methodName\":\"m\",\"payload\":{\"a\":[1]},\"responseTimeoutInSeconds\":5}", 0 },
};

static enum err twin_tx(struct store_tx *tx, void *ctx)
{
    struct twin_row r;
    enum err e = tx_twin_get(tx, SPAN("old"), &r);
    if (!e)
        *(uint64_t *)ctx = r.etag;
    return e;
}

static void other_bodies_cut_at_every_byte(void **state)
{
    uint64_t before = 0, after = 0;
    (void)state;
    assert_int_equal(fixture_tx(&fx, twin_tx, &before), ERR_OK);
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        for (size_t n = 0; n < strlen(more[i].body); n++) {
            char *exact = malloc(n + 1); /* so that reading beyond it is found */
            assert_non_null(exact);
            memcpy(exact, more[i].body, n);
            if (ask(more[i].handler, span_of(exact, n), more[i].device, "") != 400)
                fail_msg("row %zu cut at %zu: %u %s", i, n, answer.status, answer.body);
            assert_non_null(strstr(answer.answer_fields, "iothub-errorcode: "));
            free(exact);
        }
    assert_int_equal(fixture_tx(&fx, twin_tx, &after), ERR_OK);
    assert_int_equal(before, after);
}

static size_t nodes_nr(const json_t *v)
{
    size_t nr = 1, i;
    const char *key;
    json_t *child;
    json_object_foreach((json_t *)(uintptr_t)v, key, child) nr += nodes_nr(child);
    json_array_foreach(v, i, child) nr += nodes_nr(child);
    return nr;
}

/* A copy in which the node number *at is `with`. */
static json_t *with_node(const json_t *v, size_t *at, json_t *with)
{
    const char *key;
    json_t *child;
    size_t i;
    if ((*at)-- == 0)
        return json_incref(with);
    if (json_is_object(v)) {
        json_t *o = json_object();
        json_object_foreach((json_t *)(uintptr_t)v, key, child)
            json_object_set_new(o, key, with_node(child, at, with));
        return o;
    }
    if (json_is_array(v)) {
        json_t *a = json_array();
        json_array_foreach(v, i, child) json_array_append_new(a, with_node(child, at, with));
        return a;
    }
    return json_incref((json_t *)(uintptr_t)v);
}

static const json_t *node_of(const json_t *v, size_t *at)
{
    const char *key;
    json_t *child;
    size_t i;
    const json_t *found = NULL;
    if ((*at)-- == 0)
        return v;
    json_object_foreach((json_t *)(uintptr_t)v, key, child) if (!found) found = node_of(child, at);
    json_array_foreach(v, i, child) if (!found) found = node_of(child, at);
    return found;
}

static bool same_kind(const json_t *a, const json_t *b)
{
    return json_typeof(a) == json_typeof(b) || (json_is_boolean(a) && json_is_boolean(b));
}

static void another_type_in_every_member(void **state)
{
    static const char *const others[] = { "7", "-1.5", "\"?\"", "true", "[7]", "{\"?\":7}" };
    uint64_t before = identities();
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        json_t *whole = json_loads(rows[i].body, 0, NULL);
        assert_non_null(whole);
        for (size_t n = 0; n < nodes_nr(whole); n++)
            for (size_t k = 0; k < sizeof others / sizeof others[0]; k++) {
                size_t at = n;
                const json_t *node = node_of(whole, &at);
                json_t *other = json_loads(others[k], JSON_DECODE_ANY, NULL);
                at = n;
                json_t *wrong = with_node(whole, &at, other);
                char *text = json_dumps(wrong, JSON_COMPACT);
                if (!same_kind(node, other) && !json_is_null(node)) { /* "etag" is never looked at */
                    if (ask(rows[i].handler, span_str(text), rows[i].device, rows[i].module) != 400)
                        fail_msg("row %zu: %u for %s", i, answer.status, text);
                }
                free(text);
                json_decref(wrong);
                json_decref(other);
            }
        json_decref(whole);
    }
    assert_int_equal(identities(), before);
}

static void whole_bodies_are_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++)
        if (ask(rows[i].handler, span_str(rows[i].body), rows[i].device, rows[i].module) != rows[i].status)
            fail_msg("row %zu: %u %s", i, answer.status, answer.body);
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        if (more[i].status &&
            ask(more[i].handler, span_str(more[i].body), more[i].device, "") != more[i].status)
            fail_msg("other row %zu: %u %s", i, answer.status, answer.body);
}

static void texts_at_and_over_their_limits(void **state)
{
    static char fill[600], body[1024];
    (void)state;
    for (size_t n = 127; n <= 130; n++) {
        memset(fill, 'x', n);
        fill[n] = 0;
        assert_int_equal(ask(azure_device_put, SPAN("{}"), fill, ""), n <= 128 ? 200 : 400);
        assert_int_equal(ask(azure_module_put, SPAN("{}"), "old", fill), n <= 128 ? 200 : 400);
        snprintf(body, sizeof body, "[{\"id\":\"%s\",\"importMode\":\"createOrUpdate\"}]", fill);
        assert_int_equal(ask(azure_devices_post, span_str(body), "", ""), n <= 128 ? 200 : 400);
        char device[16];
        snprintf(device, sizeof device, "t%zu", n);
        snprintf(body, sizeof body, "{\"statusReason\":\"%s\"}", fill);
        assert_int_equal(ask(azure_device_put, span_str(body), device, ""), n <= 128 ? 200 : 400);
    }
    memset(fill, 'x', 257);
    fill[257] = 0;
    snprintf(body, sizeof body, "{\"deviceScope\":\"%s\"}", fill);
    assert_int_equal(ask(azure_device_put, span_str(body), "scope", ""), 400);
    assert_int_equal(ask(azure_device_put, SPAN("{\"deviceId\":\"a\",\"deviceId\":\"a\"}"), "a", ""), 400);
    assert_int_equal(ask(azure_device_put, SPAN("{\"statusReason\":\"\\u0000\"}"), "a", ""), 400);
    assert_int_equal(ask(azure_device_put, SPAN("{\"statusReason\":\"\xff\"}"), "a", ""), 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(other_bodies_cut_at_every_byte),
        cmocka_unit_test(another_type_in_every_member),
        cmocka_unit_test(whole_bodies_are_taken),
        cmocka_unit_test(texts_at_and_over_their_limits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
