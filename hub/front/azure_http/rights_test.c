/* hub/front/azure_http/rights_test.c - every operation of the interface, asked by every right of a policy and
 * by devices and modules: who is let in, who gets 401. A new route has to say here who may use it. */
#define FIXTURE_STREAM
#include "tests/fake/http_fake.h"
#include "tests/fake/hub_fixture.h"

#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/azure_http.h"
#include "hub/loop/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <strings.h>

#include <cmocka.h>

enum {
    R = ACCESS_REGISTRY_READ,
    W = ACCESS_REGISTRY_WRITE,
    S = ACCESS_SERVICE_CONNECT,
    D = ACCESS_DEVICE_CONNECT
};
enum own { NOBODY, DEVICE, MODULE }; /* whose own credential does, beside the policies */

/* The longest pattern that the route begins with decides. */
static const struct {
    unsigned methods;
    const char *pattern;
    uint32_t any_of;
    enum own own;
} may[] = {
    { HTTP_GET_, "/devices", R, NOBODY },
    { HTTP_POST_, "/devices", W, NOBODY },
    { HTTP_POST_, "/devices/keys/regenerate", W, NOBODY },
    { HTTP_POST_, "/devices/query", S, NOBODY },
    { HTTP_GET_, "/devices/{}", R, NOBODY },
    { HTTP_PUT_ | HTTP_DELETE_, "/devices/{}", W, NOBODY },
    { HTTP_DELETE_, "/devices/{}/commands", S, NOBODY },
    { HTTP_GET_, "/devices/{}/modules", R, DEVICE },
    { HTTP_GET_, "/devices/{}/modules/{}", R, DEVICE },
    { HTTP_PUT_ | HTTP_DELETE_, "/devices/{}/modules/{}", W, DEVICE },
    { HTTP_GET_, "/statistics/devices", R, NOBODY },
    { HTTP_GET_, "/statistics/service", S, NOBODY },
    { HTTP_GET_ | HTTP_DELETE_ | HTTP_POST_, "/messages/servicebound/feedback", S, NOBODY },
    { HTTP_GET_ | HTTP_PATCH_ | HTTP_PUT_ | HTTP_POST_, "/twins", S, NOBODY },
    { HTTP_GET_ | HTTP_PATCH_ | HTTP_POST_, "/digitaltwins", S, NOBODY },
    { HTTP_GET_ | HTTP_PUT_ | HTTP_POST_, "/jobs/v2", S, NOBODY },
    { HTTP_POST_, "/jobs/create", W, NOBODY },
    { HTTP_GET_, "/jobs", R, NOBODY },
    { HTTP_DELETE_, "/jobs", W, NOBODY },
    { HTTP_GET_, "/configurations", R | S, NOBODY },
    { HTTP_PUT_ | HTTP_DELETE_, "/configurations", W | S, NOBODY },
    { HTTP_POST_, "/configurations/testqueries", R | S, NOBODY },
    { HTTP_POST_, "/devices/{}/applyconfigurationcontent", W | S, NOBODY },
    { HTTP_GET_ | HTTP_POST_ | HTTP_DELETE_, "/devices/{}/messages", D, DEVICE },
    { HTTP_POST_, "/devices/{}/files", D, DEVICE },
    { HTTP_GET_ | HTTP_POST_ | HTTP_DELETE_, "/devices/{}/modules/{}/messages", D, MODULE },
    { HTTP_POST_, "/devices/{}/modules/{}/files", D, MODULE },
};

static struct fixture fx;
static struct azure_http *front;
static struct worker *worker;
static struct pool *pool;

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
                     (void *)(uintptr_t) "d1"); /* a row before may have done so */
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    assert_int_equal(fixture_tx(&fx, put_module, NULL), ERR_OK);
    access_forget(fx.hub.access, SPAN("d1"));
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
    assert_int_equal(azure_http_new(&front, &fx.hub, pool), ERR_OK);
    fixture_policy(&fx, "registryread", R);
    fixture_policy(&fx, "registrywrite", W);
    fixture_policy(&fx, "service", S);
    fixture_policy(&fx, "device", D);
    fixture_policy(&fx, "nothing", 0);
    fixture_device(&fx, "d2", DEVICE_ENABLED);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    pool_free(pool);
    blob_close(fx.hub.blob);
    fixture_fini(&fx);
    azure_http_free(front);
    worker_free(worker);
    return 0;
}

static unsigned ask(const struct http_route *route, unsigned method, const char *resource, const char *policy)
{
    char buf[SAS_TOKEN_MAX];
    struct http_fake a = { .r = { .worker = worker,
                                  .ctx = front,
                                  .route = route,
                                  .method = method,
                                  .path = SPAN("/x"),
                                  .query = SPAN("api-version=2021-04-12"),
                                  .params = { SPAN("d1"), SPAN("m1"), SPAN("x"), SPAN("x") },
                                  .body = SPAN("[]") } };
    a.fields[0].name = "Authorization";
    a.fields[0].value = resource ? fixture_token(buf, resource, fixture_key1, 3600, policy)
                                 : SPAN("SharedAccessSignature sr=x");
    route->handler(&a.r);
    while (!a.status)
        worker_turn(worker, 10000);
    http_fake_free(&a);
    return a.status;
}

static void expect(const struct http_route *route, unsigned method, const char *resource, const char *policy,
                   bool in)
{
    unsigned status = ask(route, method, resource, policy);
    if ((status != 401) != in || status >= 500)
        fail_msg("%s (method %u) asked by %s %s: %u", route->pattern, method, resource ? resource : "nobody",
                 policy, status);
}

/* The entry that covers the route; the test fails when there is none. */
static size_t entry_of(const struct http_route *route, unsigned method)
{
    size_t best = SIZE_MAX, best_len = 0;
    for (size_t i = 0; i < sizeof may / sizeof may[0]; i++) {
        size_t n = strlen(may[i].pattern);
        bool covers = !strncasecmp(route->pattern, may[i].pattern, n) &&
                      (route->pattern[n] == 0 || route->pattern[n] == '/');
        if ((may[i].methods & method) && covers && n > best_len) {
            best = i;
            best_len = n;
        }
    }
    if (best == SIZE_MAX)
        fail_msg("%s (method %u): say in rights_test.c who may", route->pattern, method);
    return best;
}

static void each_operation_lets_in_whom_it_should(void **state)
{
    static const struct {
        const char *name;
        uint32_t right;
    } policies[] = {
        { "registryread", R }, { "registrywrite", W }, { "service", S }, { "device", D }, { "nothing", 0 }
    };
    size_t routes = 0;
    (void)state;
    for (const struct http_route *r = azure_http_routes(front)->table; r->pattern; r++)
        for (unsigned method = 1; method <= HTTP_DELETE_; method <<= 1) {
            if (!(r->methods & method))
                continue;
            size_t i = entry_of(r, method);
            routes++;
            for (size_t p = 0; p < sizeof policies / sizeof policies[0]; p++) {
                identities();
                expect(r, method, "hub.example.net", policies[p].name,
                       (may[i].any_of & policies[p].right) != 0);
                expect(r, method, "other.example.net", policies[p].name, false);
            }
            identities();
            expect(r, method, "hub.example.net/devices/d1", "", may[i].own == DEVICE);
            identities();
            expect(r, method, "hub.example.net/devices/d1/modules/m1", "", may[i].own == MODULE);
            expect(r, method, "hub.example.net/devices/d2", "", false);
            expect(r, method, NULL, "", false);
        }
    assert_true(routes >= 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(each_operation_lets_in_whom_it_should) };
    return cmocka_run_group_tests(tests, setup, teardown);
}
