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
    char dir[96];
    (void)state;
    fixture_init(&fx);
    snprintf(dir, sizeof dir, "%s/files", fx.dir);
    assert_int_equal(files_open(&fx.hub.files, dir, 0), ERR_OK);
    fx.hub.settings.upload_container = "uploads";
    fx.hub.settings.upload_ttl_s = 3600;
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
    files_close(fx.hub.files);
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
    { azure_content_apply, "edge",
      "{\"modulesContent\":{\"$edgeAgent\":{\"properties.desired\":{\"a\":1}},\"m9\":"
      "{\"properties.desired.b\":[2]}}}",
      204 },
    { azure_files_post, "old", "{\"blobName\":\"logs/a.txt\"}", 200 },
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

/* A completion that is cut completes nothing: the whole one still finds the upload open. */
static void a_cut_completion_leaves_the_upload_open(void **state)
{
    char id[300], body[500];
    (void)state;
    assert_int_equal(ask(azure_files_post, SPAN("{\"blobName\":\"cut.txt\"}"), "old", ""), 200);
    json_t *said = json_loads(answer.body, 0, NULL);
    snprintf(id, sizeof id, "%s", json_string_value(json_object_get(said, "correlationId")));
    json_decref(said);
    snprintf(body, sizeof body,
             "{\"correlationId\":\"%s\",\"isSuccess\":false,\"statusCode\":500,\"statusDescription\":"
             "\"off\"}",
             id);
    for (size_t n = 0; n < strlen(body); n++) {
        char *exact = malloc(n + 1);
        assert_non_null(exact);
        memcpy(exact, body, n);
        if (ask(azure_files_done, span_of(exact, n), "old", "") != 400)
            fail_msg("cut at %zu: %u %s", n, answer.status, answer.body);
        assert_non_null(strstr(answer.answer_fields, "iothub-errorcode: IotHubFormatError\r\n"));
        free(exact);
    }
    static const char *const wrong[] = { "{\"correlationId\":7}", "{\"correlationId\":[\"%s\"]}",
                                         "{\"correlationId\":\"%s\",\"isSuccess\":\"true\"}",
                                         "{\"correlationId\":\"%s\",\"isSuccess\":1}", "[\"%s\"]" };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char text[500];
        const char *at = strstr(wrong[i], "%s");
        snprintf(text, sizeof text, "%.*s%s%s", at ? (int)(at - wrong[i]) : 500, wrong[i], at ? id : "",
                 at ? at + 2 : "");
        if (ask(azure_files_done, span_str(text), "old", "") != 400)
            fail_msg("%s: %u", text, answer.status);
        assert_null(strstr(answer.answer_fields, "CorrelationId\r\n"));
    }
    if (ask(azure_files_done, span_str(body), "old", "") != 204)
        fail_msg("%s: %u %s", body, answer.status, answer.body);
    assert_int_equal(ask(azure_files_done, span_str(body), "old", ""), 400); /* it is closed */
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

/* A body with a hole, and what may stand in it, by the letters below. What is inside of sections is the
 * caller's own, so the members that are ours are written out here instead of being found. */
static const struct {
    http_handler *handler;
    const char *device, *before, *after, *good;
} holes[] = {
    { azure_twin_patch, "old", "", "", "o" },
    { azure_twin_patch, "old", "{\"properties\":{\"desired\":{\"x\":1}},\"tags\":", "}", "oz" },
    { azure_twin_patch, "old", "{\"tags\":{\"a\":1},\"properties\":", "}", "oz" },
    { azure_twin_patch, "old", "{\"tags\":{\"a\":1},\"properties\":{\"desired\":", "}}", "oz" },
    { azure_twin_put, "old", "", "", "o" },
    { azure_twin_put, "old", "{\"properties\":{\"desired\":{\"x\":1}},\"tags\":", "}", "oz" },
    { azure_twin_put, "old", "{\"tags\":{\"a\":1},\"properties\":", "}", "oz" },
    { azure_twin_put, "old", "{\"tags\":{\"a\":1},\"properties\":{\"desired\":", "}}", "oz" },
    { azure_query, "", "", "", "" },
    { azure_query, "", "{\"query\":", "}", "" },
    { azure_device_method, "old", "", "", "" },
    { azure_device_method, "old", "{\"methodName\":", "}", "s" },
    { azure_device_method, "old", "{\"methodName\":\"m\",\"responseTimeoutInSeconds\":", "}", "nz" },
    { azure_device_method, "old", "{\"methodName\":\"m\",\"connectTimeoutInSeconds\":", "}", "nz" },
    { azure_job_put, "w", "", "", "" },
    { azure_job_put, "w",
      "{\"queryCondition\":\"*\",\"updateTwin\":{\"etag\":\"*\",\"tags\":{\"a\":1}},\"type\":", "}", "" },
    { azure_job_put, "w",
      "{\"type\":\"scheduleUpdateTwin\",\"queryCondition\":\"*\",\"updateTwin\":{\"etag\":\"*\",\"tags\":{"
      "\"a\":1}},\"jobId\":",
      "}", "z" },
    { azure_job_put, "w",
      "{\"type\":\"scheduleUpdateTwin\",\"updateTwin\":{\"etag\":\"*\",\"tags\":{\"a\":1}},"
      "\"queryCondition\":",
      "}", "sz" },
    { azure_job_put, "w",
      "{\"type\":\"scheduleUpdateTwin\",\"queryCondition\":\"*\",\"updateTwin\":{\"etag\":\"*\",\"tags\":{"
      "\"a\":1}},\"startTime\":",
      "}", "z" },
    { azure_job_put, "w",
      "{\"type\":\"scheduleUpdateTwin\",\"queryCondition\":\"*\",\"updateTwin\":{\"etag\":\"*\",\"tags\":{"
      "\"a\":1}},\"maxExecutionTimeInSeconds\":",
      "}", "nz" },
    { azure_job_put, "w", "{\"type\":\"scheduleUpdateTwin\",\"queryCondition\":\"*\",\"updateTwin\":", "}",
      "" },
    { azure_job_put, "w",
      "{\"type\":\"scheduleUpdateTwin\",\"queryCondition\":\"*\",\"updateTwin\":{\"tags\":{\"a\":1},"
      "\"etag\":",
      "}}", "" },
    { azure_job_put, "w",
      "{\"type\":\"scheduleUpdateTwin\",\"queryCondition\":\"*\",\"updateTwin\":{\"etag\":\"*\","
      "\"properties\":{\"desired\":{\"x\":1}},\"tags\":",
      "}}", "oz" },
    { azure_job_put, "w",
      "{\"type\":\"scheduleUpdateTwin\",\"queryCondition\":\"*\",\"updateTwin\":{\"etag\":\"*\",\"tags\":{"
      "\"a\":1},\"properties\":",
      "}}", "oz" },
    { azure_job_put, "w",
      "{\"type\":\"scheduleUpdateTwin\",\"queryCondition\":\"*\",\"updateTwin\":{\"etag\":\"*\","
      "\"properties\":{\"desired\":",
      "}}}", "oz" },
    { azure_job_put, "w",
      "{\"type\":\"scheduleDeviceMethod\",\"queryCondition\":\"*\",\"cloudToDeviceMethod\":", "}", "" },
    { azure_job_put, "w",
      "{\"type\":\"scheduleDeviceMethod\",\"queryCondition\":\"*\",\"cloudToDeviceMethod\":{\"methodName\":",
      "}}", "s" },
    { azure_job_put, "w",
      "{\"type\":\"scheduleDeviceMethod\",\"queryCondition\":\"*\",\"cloudToDeviceMethod\":{\"methodName\":"
      "\"m\",\"responseTimeoutInSeconds\":",
      "}}", "nz" },
    { azure_job_put, "w",
      "{\"type\":\"scheduleDeviceMethod\",\"queryCondition\":\"*\",\"cloudToDeviceMethod\":{\"methodName\":"
      "\"m\",\"connectTimeoutInSeconds\":",
      "}}", "nz" },
    { azure_config_put, "w", "", "", "" },
    { azure_config_put, "w", "{\"content\":{\"deviceContent\":{\"properties.desired.a\":1}},\"id\":", "}",
      "z" },
    { azure_config_put, "w",
      "{\"content\":{\"deviceContent\":{\"properties.desired.a\":1}},\"schemaVersion\":", "}", "sz" },
    { azure_config_put, "w",
      "{\"content\":{\"deviceContent\":{\"properties.desired.a\":1}},\"targetCondition\":", "}", "z" },
    { azure_config_put, "w",
      "{\"content\":{\"deviceContent\":{\"properties.desired.a\":1}},\"priority\":", "}", "nz" },
    { azure_config_put, "w", "{\"content\":{\"deviceContent\":{\"properties.desired.a\":1}},\"labels\":", "}",
      "z" },
    { azure_config_put, "w",
      "{\"content\":{\"deviceContent\":{\"properties.desired.a\":1}},\"labels\":{\"l\":", "}}", "s" },
    { azure_config_put, "w",
      "{\"content\":{\"deviceContent\":{\"properties.desired.a\":1}},\"metrics\":", "}", "oz" },
    { azure_config_put, "w",
      "{\"content\":{\"deviceContent\":{\"properties.desired.a\":1}},\"metrics\":{\"queries\":", "}}", "z" },
    { azure_config_put, "w",
      "{\"content\":{\"deviceContent\":{\"properties.desired.a\":1}},\"metrics\":{\"queries\":{\"q\":", "}}}",
      "" },
    { azure_config_put, "w", "{\"content\":", "}", "" },
    { azure_config_put, "w", "{\"content\":{\"deviceContent\":", "}}", "" },
    { azure_config_put, "w", "{\"content\":{\"deviceContent\":{\"properties.desired\":", "}}}", "o" },
    { azure_content_apply, "edge", "", "", "" },
    { azure_content_apply, "edge", "{\"modulesContent\":", "}", "" },
    { azure_content_apply, "edge", "{\"deviceContent\":", "}", "" },
    { azure_content_apply, "edge", "{\"modulesContent\":{\"$edgeAgent\":", "}}", "" },
    { azure_content_apply, "edge", "{\"modulesContent\":{\"$edgeAgent\":{\"properties.desired\":", "}}}",
      "o" },
    { azure_content_apply, "edge",
      "{\"modulesContent\":{\"$edgeAgent\":{\"properties.desired\":{}},\"m9\":", "}}", "" },
    { azure_content_apply, "edge",
      "{\"modulesContent\":{\"$edgeAgent\":{\"properties.desired\":{}},\"m9\":{\"properties.desired\":",
      "}}}", "o" },
    { azure_files_post, "old", "", "", "" },
    { azure_files_post, "old", "{\"blobName\":", "}", "s" },
};

/* All that those bodies could have left behind. */
struct left {
    uint64_t etag, modules, edge_etag;
    enum err job, config;
};
static enum err left_tx(struct store_tx *tx, void *ctx)
{
    struct left *l = ctx;
    struct twin_row twin;
    struct fleet_job_row job;
    struct config_row config;
    enum err e = tx_twin_get(tx, SPAN("old"), &twin);
    l->etag = e ? 0 : twin.etag;
    if (!e)
        e = tx_twin_get(tx, SPAN("edge"), &twin);
    l->edge_etag = e ? 0 : twin.etag;
    if (!e)
        e = tx_module_count(tx, SPAN("edge"), &l->modules);
    l->job = tx_fleet_job_get(tx, SPAN("w"), &job);
    l->config = tx_config_get(tx, SPAN("w"), &config);
    return e;
}

static void another_type_in_every_hole(void **state)
{
    static const struct {
        char letter;
        const char *text;
    } kinds[] = { { 'n', "7" },   { 'f', "-1.5" },      { 's', "\"?\"" }, { 'b', "true" },
                  { 'a', "[7]" }, { 'o', "{\"?\":7}" }, { 'z', "null" } };
    struct left before = { 0 }, after = { 0 };
    (void)state;
    assert_int_equal(ask(azure_device_put, SPAN("{\"capabilities\":{\"iotEdge\":true}}"), "edge", ""), 200);
    assert_int_equal(fixture_tx(&fx, left_tx, &before), ERR_OK);
    assert_int_equal(before.job, ERR_NOTFOUND);
    assert_int_equal(before.config, ERR_NOTFOUND);
    for (size_t i = 0; i < sizeof holes / sizeof holes[0]; i++)
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            char body[400];
            if (strchr(holes[i].good, kinds[k].letter))
                continue;
            snprintf(body, sizeof body, "%s%s%s", holes[i].before, kinds[k].text, holes[i].after);
            if (ask(holes[i].handler, span_str(body), holes[i].device, "") != 400)
                fail_msg("%s: %u %s", body, answer.status, answer.body);
            assert_non_null(strstr(answer.answer_fields, "iothub-errorcode: "));
            assert_non_null(strstr(answer.body, "{\"Message\":\"ErrorCode:"));
        }
    assert_int_equal(fixture_tx(&fx, left_tx, &after), ERR_OK);
    assert_memory_equal(&before, &after, sizeof after);
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
        cmocka_unit_test(a_cut_completion_leaves_the_upload_open),
        cmocka_unit_test(another_type_in_every_hole),
        cmocka_unit_test(whole_bodies_are_taken),
        cmocka_unit_test(texts_at_and_over_their_limits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
