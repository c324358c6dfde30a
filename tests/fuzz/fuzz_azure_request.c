/* tests/fuzz/fuzz_azure_request.c - any bytes as a request of the Azure-compatible registry: one answer,
 * never one of 500, JSON when it refuses. The handlers run whole, on a real store. Form: which route, then
 * four texts that end with a zero (two parameters, If-Match, query), then the body. */
#define FIXTURE_STREAM
#include "tests/fake/http_fake.h"
#include "tests/fake/hub_fixture.h"

#include "base/log.h"
#include "hub/front/azure_http/azure_http.h"
#include "hub/front/azure_http/routes.h"

#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fixture fx;
static struct azure_http *front;
static struct worker *worker;
static char token[SAS_TOKEN_MAX];
static struct span token_span;

static void stop(void)
{
    fixture_fini(&fx);
    azure_http_free(front);
    worker_free(worker);
}

static void start(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    fixture_init(&fx);
    if (worker_new(&worker, 0) || azure_http_new(&front, &fx.hub, NULL))
        abort();
    fixture_policy(&fx, "owner", 15);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    token_span = fixture_token(token, "hub.example.net", fixture_key1, 86400, "owner");
    atexit(stop);
}

static struct span text(struct rd *r)
{
    const uint8_t *end = r->n ? memchr(r->p, 0, r->n) : NULL;
    struct span s = rd_take(r, end ? (size_t)(end - r->p) : r->n);
    (void)rd_take(r, r->n ? 1 : 0);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static http_handler *const handlers[] = {
        azure_device_put,
        azure_device_get,
        azure_device_delete,
        azure_devices_list,
        azure_devices_post,
        azure_keys_regenerate,
        azure_commands_delete,
        azure_modules_list,
        azure_module_get,
        azure_module_put,
        azure_module_delete,
        azure_feedback_get,
        azure_feedback_delete,
        azure_feedback_abandon,
        azure_statistics_devices,
        azure_twin_get,
        azure_twin_patch,
        azure_twin_put,
        azure_registry_job_post,
        azure_registry_job_get,
        azure_query,
        azure_job_put,
        azure_job_get,
        azure_job_cancel,
        azure_jobs_list,
        azure_config_put,
        azure_config_get,
        azure_config_delete,
        azure_configs_list,
        azure_configs_test,
        azure_content_apply,
        azure_digital_get,
        azure_digital_patch,
        azure_device_method,
        azure_device_events_post,
        azure_bound_get,
        azure_bound_delete,
        azure_bound_abandon,
    };
    char query[256];
    if (!front)
        start();
    struct rd r = rd_of(span_of(data, size));
    http_handler *handler = handlers[rd_u8(&r) % (sizeof handlers / sizeof handlers[0])];
    struct span one = text(&r), two = text(&r), match = text(&r), q = text(&r);
    snprintf(query, sizeof query, "api-version=2021-04-12&%.*s", q.n > 200 ? 200 : (int)q.n,
             (const char *)q.p);
    struct http_fake a = { .r = { .worker = worker,
                                  .ctx = front,
                                  .method = HTTP_PUT_,
                                  .path = SPAN("/x"),
                                  .query = span_str(query),
                                  .params = { one, two },
                                  .body = span_of(r.p, r.n) } };
    a.fields[0].name = "Authorization";
    a.fields[0].value = token_span;
    a.fields[1].name = "If-Match";
    a.fields[1].value = match;
    handler(&a.r);
    while (!a.status)
        worker_turn(worker, 10000);
    if (a.status == 500)
        abort();
    if (a.status >= 400) {
        json_t *o = json_loadb(a.body, a.body_len, 0, NULL);
        if (!o)
            abort();
        json_decref(o);
    }
    if (strchr(a.answer_fields, '\r') && !strstr(a.answer_fields, "\r\n"))
        abort();
    http_fake_free(&a);
    return 0;
}
