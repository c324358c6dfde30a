/* tests/fuzz/fuzz_request_body.c - any bytes as the body of any route that reads JSON, a report or a signed
 * object: one answer, never one of 500. The handlers run whole, on a real store. First byte: which route. */
#define FIXTURE_STREAM
#include "tests/fake/http_fake.h"
#include "tests/fake/hub_fixture.h"

#include "base/log.h"
#include "hub/front/roost_http/roost_http.h"
#include "hub/front/roost_http/routes.h"
#include "hub/loop/pool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fixture fx;
static struct roost_http *front;
static struct worker *worker;
static struct pool *pool;
static char token[SAS_TOKEN_MAX], device_token[SAS_TOKEN_MAX];
static struct span policy_sas, device_sas;

static void stop(void)
{
    pool_free(pool);
    blob_close(fx.hub.blob);
    fixture_fini(&fx);
    roost_http_free(front);
    worker_free(worker);
}

static void start(void)
{
    char dir[96];
    log_set_level(LOG_LEVEL_ERROR);
    fixture_init(&fx);
    snprintf(dir, sizeof dir, "%s/blob", fx.dir);
    fx.hub.settings.bootstrap_open = true;
    fx.hub.settings.routes_max = fx.hub.settings.endpoints_max = fx.hub.settings.enrichments_max = 100;
    fx.hub.settings.upload_container = "d1"; /* every route has this parameter */
    fx.hub.settings.registry_container = "";
    if (blob_dir_open(&fx.hub.blob, dir) || worker_new(&worker, 0) || pool_new(&pool, 1) ||
        roost_http_new(&front, &fx.hub, pool, NULL))
        abort();
    fixture_policy(&fx, "owner", 15);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    policy_sas = fixture_token(token, "hub.example.net", fixture_key1, 86400, "owner");
    device_sas = fixture_token(device_token, "hub.example.net/devices/d1", fixture_key1, 86400, "");
    atexit(stop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static http_handler *const handlers[] = { bootstrap_post,
                                              device_put,
                                              token_post,
                                              message_post,
                                              broadcast_post,
                                              artifact_post,
                                              campaign_post,
                                              trust_post,
                                              release_post,
                                              checkin_post,
                                              query_post,
                                              group_put,
                                              twin_patch,
                                              twin_replace,
                                              job_put_one,
                                              route_put,
                                              endpoint_put,
                                              enrichment_put,
                                              route_test_post,
                                              module_put_one,
                                              module_message_post,
                                              configuration_put_one,
                                              configuration_patch_one,
                                              device_content_post,
                                              container_sas_post,
                                              method_post };
    if (!front)
        start();
    if (!size)
        return 0;
    http_handler *handler = handlers[data[0] % (sizeof handlers / sizeof handlers[0])];
    struct http_fake a = { .r = { .worker = worker,
                                  .ctx = front,
                                  .method = HTTP_POST_,
                                  .path = SPAN("/x"),
                                  .params = { SPAN("d1"), handler == method_post ? SPAN("m1") : SPAN_NONE },
                                  .body = span_of(data + 1, size - 1) } };
    a.fields[0].name = "Authorization";
    a.fields[0].value = handler == checkin_post ? device_sas : policy_sas;
    handler(&a.r);
    while (!a.status)
        worker_turn(worker, 10000);
    if (a.status == 500)
        abort();
    http_fake_free(&a);
    return 0;
}
