/* hub/front/roost_http/rights_test.c - every route of the interface, asked by every right of a policy, by
 * devices and modules, and by nobody: who is let in, who gets 403, who gets 401. A new route has to say here
 * who may use it. */
#define FIXTURE_STREAM
#include "tests/fake/http_fake.h"
#include "tests/fake/hub_fixture.h"

#include "hub/front/roost_http/roost_http.h"
#include "hub/loop/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum {
    R = ACCESS_REGISTRY_READ,
    W = ACCESS_REGISTRY_WRITE,
    S = ACCESS_SERVICE_CONNECT,
    D = ACCESS_DEVICE_CONNECT
};
enum who { POLICY, DEVICE /* with its own credential, or a policy for it */, ALL };

static const struct line {
    const char *pattern;
    unsigned methods;
    uint32_t any_of;
    enum who who;
} may[] = {
    { "/bootstrap", HTTP_POST_, 0, ALL },
    { "/roost/v1/checkin", HTTP_POST_, D, DEVICE },
    { "/artifacts/{}", HTTP_GET_ | HTTP_HEAD_, 0, ALL },
    { "/roost/v1/status", HTTP_GET_, R | S, POLICY },
    { "/roost/v1/devices", HTTP_GET_, R, POLICY },
    { "/roost/v1/devices/{}", HTTP_GET_, R, POLICY },
    { "/roost/v1/devices/{}", HTTP_PUT_ | HTTP_DELETE_, W, POLICY },
    { "/roost/v1/devices/{}/approve", HTTP_POST_, W, POLICY },
    { "/roost/v1/devices/{}/twin", HTTP_GET_ | HTTP_PATCH_ | HTTP_PUT_, S, POLICY },
    { "/roost/v1/devices/{}/modules/{}/twin", HTTP_GET_ | HTTP_PATCH_ | HTTP_PUT_, S, POLICY },
    { "/roost/v1/devices/{}/messages", HTTP_POST_, S, POLICY },
    { "/roost/v1/devices/{}/methods/{}", HTTP_POST_, S, POLICY },
    { "/roost/v1/devices/{}/modules/{}/methods/{}", HTTP_POST_, S, POLICY },
    { "/roost/v1/broadcast", HTTP_POST_, S, POLICY },
    { "/roost/v1/broadcasts", HTTP_GET_, S, POLICY },
    { "/roost/v1/broadcasts/{}", HTTP_GET_, S, POLICY },
    { "/roost/v1/feedback", HTTP_GET_, S, POLICY },
    { "/roost/v1/devices/{}/modules", HTTP_GET_, R, POLICY },
    { "/roost/v1/devices/{}/modules/{}", HTTP_GET_, R, POLICY },
    { "/roost/v1/devices/{}/modules/{}", HTTP_PUT_ | HTTP_DELETE_, W, POLICY },
    { "/roost/v1/devices/{}/modules/{}/messages", HTTP_POST_, S, POLICY },
    { "/roost/v1/ca", HTTP_GET_, R, POLICY },
    { "/roost/v1/ca/{}", HTTP_PUT_ | HTTP_DELETE_, W, POLICY },
    { "/roost/v1/tokens", HTTP_GET_, R, POLICY },
    { "/roost/v1/tokens", HTTP_POST_, W, POLICY },
    { "/roost/v1/tokens/{}", HTTP_DELETE_, W, POLICY },
    { "/roost/v1/telemetry", HTTP_GET_, S, POLICY },
    { "/roost/v1/telemetry/groups", HTTP_GET_, S, POLICY },
    { "/roost/v1/telemetry/groups/{}", HTTP_GET_ | HTTP_PUT_ | HTTP_DELETE_, S, POLICY },
    { "/roost/v1/routes", HTTP_GET_, R, POLICY },
    { "/roost/v1/routes/test", HTTP_POST_, R, POLICY },
    { "/roost/v1/routes/{}", HTTP_GET_, R, POLICY },
    { "/roost/v1/routes/{}", HTTP_PUT_ | HTTP_DELETE_, W, POLICY },
    { "/roost/v1/endpoints", HTTP_GET_, R, POLICY },
    { "/roost/v1/endpoints/{}", HTTP_GET_, R, POLICY },
    { "/roost/v1/endpoints/{}", HTTP_PUT_ | HTTP_DELETE_, W, POLICY },
    { "/roost/v1/enrichments", HTTP_GET_, R, POLICY },
    { "/roost/v1/enrichments/{}", HTTP_GET_, R, POLICY },
    { "/roost/v1/enrichments/{}", HTTP_PUT_ | HTTP_DELETE_, W, POLICY },
    { "/roost/v1/trust", HTTP_GET_, R, POLICY },
    { "/roost/v1/trust", HTTP_POST_, W, POLICY },
    { "/roost/v1/uploads/{}", HTTP_PUT_ | HTTP_HEAD_, W, POLICY },
    { "/roost/v1/artifacts", HTTP_POST_, W, POLICY },
    { "/roost/v1/releases", HTTP_GET_, R, POLICY },
    { "/roost/v1/releases", HTTP_POST_, W, POLICY },
    { "/roost/v1/releases/{}", HTTP_GET_, R, POLICY },
    { "/roost/v1/campaigns", HTTP_GET_, R | S, POLICY },
    { "/roost/v1/campaigns", HTTP_POST_, S, POLICY },
    { "/roost/v1/campaigns/{}", HTTP_GET_, R | S, POLICY },
    { "/roost/v1/jobs", HTTP_GET_, S, POLICY },
    { "/roost/v1/jobs/{}", HTTP_GET_ | HTTP_PUT_, S, POLICY },
    { "/roost/v1/jobs/{}/cancel", HTTP_POST_, S, POLICY },
    { "/roost/v1/configurations", HTTP_GET_, R | S, POLICY },
    { "/roost/v1/configurations/{}", HTTP_GET_, R | S, POLICY },
    { "/roost/v1/configurations/{}", HTTP_PUT_ | HTTP_PATCH_ | HTTP_DELETE_, W | S, POLICY },
    { "/roost/v1/devices/{}/content", HTTP_POST_, W | S, POLICY },
    { "/roost/v1/query", HTTP_POST_, S, POLICY },
    { "/roost/v1/devices/{}/uploads", HTTP_GET_, R | S, POLICY },
    { "/roost/v1/devices/{}/uploads/**", HTTP_GET_ | HTTP_HEAD_, R | S, POLICY },
    { "/roost/v1/devices/{}/uploads/**", HTTP_DELETE_, W | S, POLICY },
    { "/roost/v1/device-uploads", HTTP_GET_, R | S, POLICY },
    { "/roost/v1/file-notifications", HTTP_GET_, S, POLICY },
    { "/roost/v1/containers/{}/sas", HTTP_POST_, W, POLICY },
    { "/roost/v1/audit", HTTP_GET_, R, POLICY },
};
static const struct {
    const char *name;
    uint32_t rights;
} policies[] = { { "registryread", R }, { "registrywrite", W }, { "service", S },
                 { "device", D },       { "nothing", 0 },       { "owner", R | W | S | D } };

static struct fixture fx;
static struct roost_http *front;
static struct worker *worker;
static struct pool *pool;
static struct http_fake answer;

static enum err put_module(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return tx_module_put(tx,
                         &(struct module_row){ .device = SPAN("d1"),
                                               .id = SPAN("m1"),
                                               .key1 = FIXTURE_KEY(fixture_key1),
                                               .key2 = FIXTURE_KEY(fixture_key2),
                                               .managed_by = SPAN(""),
                                               .generation = SPAN("637000000000000002") },
                         UINT64_MAX, NULL);
}

static void identities(void)
{
    (void)fixture_tx(&fx, fixture_delete_device,
                     (void *)(uintptr_t) "d1"); /* the request before may have done so */
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    assert_int_equal(fixture_tx(&fx, put_module, NULL), ERR_OK);
    access_forget(fx.hub.access, SPAN("d1/m1"));
}

static int setup(void **state)
{
    char dir[96];
    (void)state;
    fixture_init(&fx);
    snprintf(dir, sizeof dir, "%s/blob", fx.dir);
    assert_int_equal(blob_dir_open(&fx.hub.blob, dir), ERR_OK);
    assert_int_equal(worker_new(&worker, 0), ERR_OK);
    assert_int_equal(pool_new(&pool, 1), ERR_OK);
    assert_int_equal(roost_http_new(&front, &fx.hub, pool, NULL), ERR_OK);
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++)
        fixture_policy(&fx, policies[i].name, policies[i].rights);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    http_fake_free(&answer);
    pool_free(pool);
    blob_close(fx.hub.blob);
    fixture_fini(&fx);
    roost_http_free(front);
    worker_free(worker);
    return 0;
}

/* resource NULL: no token at all. */
static unsigned ask(const struct http_route *route, unsigned method, const char *resource, const char *policy)
{
    char buf[SAS_TOKEN_MAX];
    http_fake_free(&answer);
    answer = (struct http_fake){ .r = { .worker = worker,
                                        .ctx = front,
                                        .route = route,
                                        .method = method,
                                        .path = SPAN("/x"),
                                        .query = SPAN("from=nowhere"), /* telemetry: refused, no stream */
                                        .params = { SPAN("d1"), SPAN("m1"), SPAN("x"), SPAN("x") },
                                        .body = SPAN("[]") } };
    if (resource) {
        answer.fields[0].name = "Authorization";
        answer.fields[0].value = fixture_token(buf, resource, fixture_key1, 3600, policy);
    }
    route->handler(&answer.r);
    while (!answer.status)
        worker_turn(worker, 10000);
    return answer.status;
}

/* want: 401, 403, or 0: let in. */
static void expect(const struct http_route *route, unsigned method, const char *resource, const char *policy,
                   unsigned want)
{
    unsigned status = ask(route, method, resource, policy);
    bool let_in = status != 401 && status != 403;
    if ((want ? status != want : !let_in) || status >= 500)
        fail_msg("%s (method %u) asked by %s %s: %u %s, not %u", route->pattern, method,
                 resource ? resource : "nobody", policy, status, answer.code, want);
}

static const struct line *line_of(const struct http_route *route, unsigned method)
{
    for (size_t i = 0; i < sizeof may / sizeof may[0]; i++)
        if ((may[i].methods & method) && !strcmp(may[i].pattern, route->pattern))
            return &may[i];
    fail_msg("%s (method %u): say in rights_test.c who may", route->pattern, method);
    return NULL;
}

static void test_each_route_lets_in_whom_it_should(void **state)
{
    size_t asked = 0, lines = 0;
    (void)state;
    for (const struct http_route *r = roost_http_routes(front)->table; r->pattern; r++)
        for (unsigned method = 1; method <= HTTP_DELETE_; method <<= 1) {
            if (!(r->methods & method))
                continue;
            const struct line *l = line_of(r, method);
            const char *resource = l->who == DEVICE ? "hub.example.net/devices/d1" : "hub.example.net";
            asked++;
            if (l->who == ALL) { /* whatever it decides of a body that says nothing, it looks at it */
                identities();
                assert_int_not_equal(ask(r, method, NULL, ""), 401);
                continue;
            }
            for (size_t p = 0; p < sizeof policies / sizeof policies[0]; p++) {
                identities();
                expect(r, method, resource, policies[p].name, policies[p].rights & l->any_of ? 0 : 403);
                expect(r, method, "other.example.net", policies[p].name, 401);
            }
            identities();
            expect(r, method, "hub.example.net/devices/d1", "", l->who == DEVICE ? 0 : 403);
            identities();
            expect(r, method, "hub.example.net/devices/d1", "nobody", 401);
            expect(r, method, NULL, "", 401);
        }
    for (size_t i = 0; i < sizeof may / sizeof may[0]; i++)
        lines += (size_t)__builtin_popcount(may[i].methods);
    assert_int_equal(asked, lines); /* and no line for a route that is gone */
}

/* Who may read the registry does not see the keys with it. */
static void test_keys_are_for_those_who_write(void **state)
{
    (void)state;
    for (const struct http_route *r = roost_http_routes(front)->table; r->pattern; r++) {
        bool one = !strcmp(r->pattern, "/roost/v1/devices/{}") ||
                   !strcmp(r->pattern, "/roost/v1/devices/{}/modules/{}");
        if (!one || !(r->methods & HTTP_GET_))
            continue;
        identities();
        assert_int_equal(ask(r, HTTP_GET_, "hub.example.net", "registryread"), 200);
        assert_null(strstr(answer.body, "primaryKey"));
        assert_null(strstr(answer.body, "secondaryKey"));
        assert_null(strstr(answer.body, "connectionString"));
        assert_int_equal(ask(r, HTTP_GET_, "hub.example.net", "owner"), 200);
        assert_non_null(strstr(answer.body, "\"primaryKey\""));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_each_route_lets_in_whom_it_should),
                                        cmocka_unit_test(test_keys_are_for_those_who_write) };
    return cmocka_run_group_tests(tests, setup, teardown);
}
