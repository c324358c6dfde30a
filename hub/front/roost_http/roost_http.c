/* hub/front/roost_http/roost_http.c - the route tables, what the routes share, and the housekeeping. */
#include "hub/front/roost_http/roost_http.h"

#include "hub/domain/event/route.h"
#include "hub/domain/message/c2d_lock.h"
#include "hub/domain/rate.h"
#include "hub/domain/update/campaign.h"
#include "hub/front/http/method_step.h"
#include "hub/front/http/query_step.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

#include <stdlib.h>

#define SWEEP_MS       5000u
#define SWEEP_SOON_MS  50u
#define SMALL_BODY_MAX 4096u
#define PEM_BODY_MAX   65536u
#define PIECE_MAX      (1024u * 1024u) /* of an upload */
#define NO_BODY        0u

#define ARTIFACT_ROUTES                                                                                      \
    {                                                                                                        \
        HTTP_GET_ | HTTP_HEAD_, "/artifacts/{}", artifact_get, NO_BODY                                       \
    }

#define TWIN_ROUTES(path)                                                                                    \
    { HTTP_GET_, path, twin_show, NO_BODY }, { HTTP_PATCH_, path, twin_patch, JOB_JSON_MAX },                \
    {                                                                                                        \
        HTTP_PUT_, path, twin_replace, JOB_JSON_MAX                                                          \
    }

static const struct http_route routes[] = {
    { HTTP_POST_, "/bootstrap", bootstrap_post, SMALL_BODY_MAX },
    { HTTP_POST_, "/roost/v1/checkin", checkin_post, SMALL_BODY_MAX },
    ARTIFACT_ROUTES,
    { HTTP_GET_, "/roost/v1/status", status_get, NO_BODY },
    { HTTP_GET_, "/roost/v1/devices", devices_list, NO_BODY },
    { HTTP_PUT_, "/roost/v1/devices/{}", device_put, SMALL_BODY_MAX },
    { HTTP_GET_, "/roost/v1/devices/{}", device_get, NO_BODY },
    { HTTP_DELETE_, "/roost/v1/devices/{}", device_delete, NO_BODY },
    { HTTP_POST_, "/roost/v1/devices/{}/approve", device_approve, SMALL_BODY_MAX },
    TWIN_ROUTES("/roost/v1/devices/{}/twin"),
    TWIN_ROUTES("/roost/v1/devices/{}/modules/{}/twin"),
    { HTTP_POST_, "/roost/v1/devices/{}/messages", message_post, JOB_JSON_MAX },
    { HTTP_POST_, "/roost/v1/devices/{}/methods/{}", method_post, METHOD_BODY_MAX },
    { HTTP_POST_, "/roost/v1/devices/{}/modules/{}/methods/{}", module_method_post, METHOD_BODY_MAX },
    { HTTP_POST_, "/roost/v1/broadcast", broadcast_post, JOB_JSON_MAX },
    { HTTP_GET_, "/roost/v1/broadcasts", broadcasts_list, NO_BODY },
    { HTTP_GET_, "/roost/v1/broadcasts/{}", broadcast_get, NO_BODY },
    { HTTP_GET_, "/roost/v1/feedback", feedback_list, NO_BODY },
    { HTTP_GET_, "/roost/v1/devices/{}/modules", modules_list, NO_BODY },
    { HTTP_PUT_, "/roost/v1/devices/{}/modules/{}", module_put_one, SMALL_BODY_MAX },
    { HTTP_GET_, "/roost/v1/devices/{}/modules/{}", module_get_one, NO_BODY },
    { HTTP_DELETE_, "/roost/v1/devices/{}/modules/{}", module_delete_one, NO_BODY },
    { HTTP_POST_, "/roost/v1/devices/{}/modules/{}/messages", module_message_post, JOB_JSON_MAX },
    { HTTP_GET_, "/roost/v1/ca", authorities_list, NO_BODY },
    { HTTP_PUT_, "/roost/v1/ca/{}", authority_put_one, PEM_BODY_MAX },
    { HTTP_DELETE_, "/roost/v1/ca/{}", authority_delete_one, NO_BODY },
    { HTTP_GET_, "/roost/v1/tokens", tokens_list, NO_BODY },
    { HTTP_POST_, "/roost/v1/tokens", token_post, SMALL_BODY_MAX },
    { HTTP_DELETE_, "/roost/v1/tokens/{}", token_delete, NO_BODY },
    { HTTP_GET_, "/roost/v1/telemetry", telemetry_get, NO_BODY },
    { HTTP_GET_, "/roost/v1/telemetry/groups", groups_list, NO_BODY },
    { HTTP_GET_, "/roost/v1/telemetry/groups/{}", group_get, NO_BODY },
    { HTTP_PUT_, "/roost/v1/telemetry/groups/{}", group_put, SMALL_BODY_MAX },
    { HTTP_DELETE_, "/roost/v1/telemetry/groups/{}", group_delete, NO_BODY },
    { HTTP_GET_, "/roost/v1/routes", routes_list, NO_BODY },
    { HTTP_POST_, "/roost/v1/routes/test", route_test_post, JOB_JSON_MAX },
    { HTTP_GET_, "/roost/v1/routes/{}", route_get, NO_BODY },
    { HTTP_PUT_, "/roost/v1/routes/{}", route_put, ROUTE_SPEC_MAX },
    { HTTP_DELETE_, "/roost/v1/routes/{}", route_delete, NO_BODY },
    { HTTP_GET_, "/roost/v1/endpoints", endpoints_list, NO_BODY },
    { HTTP_GET_, "/roost/v1/endpoints/{}", endpoint_get, NO_BODY },
    { HTTP_PUT_, "/roost/v1/endpoints/{}", endpoint_put, ROUTE_SPEC_MAX },
    { HTTP_DELETE_, "/roost/v1/endpoints/{}", endpoint_delete, NO_BODY },
    { HTTP_GET_, "/roost/v1/enrichments", enrichments_list, NO_BODY },
    { HTTP_GET_, "/roost/v1/enrichments/{}", enrichment_get, NO_BODY },
    { HTTP_PUT_, "/roost/v1/enrichments/{}", enrichment_put, ROUTE_SPEC_MAX },
    { HTTP_DELETE_, "/roost/v1/enrichments/{}", enrichment_delete, NO_BODY },
    { HTTP_GET_, "/roost/v1/trust", trust_get, NO_BODY },
    { HTTP_POST_, "/roost/v1/trust", trust_post, ENVELOPE_MAX },
    { HTTP_PUT_, "/roost/v1/uploads/{}", upload_put, PIECE_MAX },
    { HTTP_HEAD_, "/roost/v1/uploads/{}", upload_head, NO_BODY },
    { HTTP_POST_, "/roost/v1/artifacts", artifact_post, SMALL_BODY_MAX },
    { HTTP_GET_, "/roost/v1/releases", releases_list, NO_BODY },
    { HTTP_POST_, "/roost/v1/releases", release_post, ENVELOPE_MAX },
    { HTTP_GET_, "/roost/v1/releases/{}", release_get_one, NO_BODY },
    { HTTP_GET_, "/roost/v1/campaigns", campaigns_list, NO_BODY },
    { HTTP_POST_, "/roost/v1/campaigns", campaign_post, 2 * 1024 * 1024 },
    { HTTP_GET_, "/roost/v1/campaigns/{}", campaign_get, NO_BODY },
    { HTTP_GET_, "/roost/v1/jobs", jobs_list, NO_BODY },
    { HTTP_GET_, "/roost/v1/jobs/{}", job_get_one, NO_BODY },
    { HTTP_PUT_, "/roost/v1/jobs/{}", job_put_one, JOB_JSON_MAX },
    { HTTP_POST_, "/roost/v1/jobs/{}/cancel", job_cancel_one, SMALL_BODY_MAX },
    { HTTP_GET_, "/roost/v1/configurations", configurations_list, NO_BODY },
    { HTTP_GET_, "/roost/v1/configurations/{}", configuration_get_one, NO_BODY },
    { HTTP_PUT_, "/roost/v1/configurations/{}", configuration_put_one, JOB_JSON_MAX },
    { HTTP_PATCH_, "/roost/v1/configurations/{}", configuration_patch_one, JOB_JSON_MAX },
    { HTTP_DELETE_, "/roost/v1/configurations/{}", configuration_delete_one, NO_BODY },
    { HTTP_POST_, "/roost/v1/devices/{}/content", device_content_post, JOB_JSON_MAX },
    { HTTP_POST_, "/roost/v1/query", query_post, QUERY_BODY_MAX },
    { HTTP_GET_, "/roost/v1/devices/{}/uploads", device_uploads_list, NO_BODY },
    { HTTP_GET_ | HTTP_HEAD_, "/roost/v1/devices/{}/uploads/**", device_upload_get, NO_BODY },
    { HTTP_DELETE_, "/roost/v1/devices/{}/uploads/**", device_upload_delete, NO_BODY },
    { HTTP_GET_, "/roost/v1/device-uploads", device_uploads_list, NO_BODY },
    { HTTP_GET_, "/roost/v1/file-notifications", file_notifications_list, NO_BODY },
    { HTTP_POST_, "/roost/v1/containers/{}/sas", container_sas_post, SMALL_BODY_MAX },
    { HTTP_GET_, "/roost/v1/audit", audit_list, NO_BODY },
    { 0 },
};
static const struct http_route plain_routes[] = { ARTIFACT_ROUTES, { 0 } };
static const struct http_route ops_routes[] = {
    { HTTP_GET_, "/metrics", metrics_get, NO_BODY },
    { HTTP_GET_, "/healthz", healthz_get, NO_BODY },
    { HTTP_GET_, "/readyz", readyz_get, NO_BODY },
    { 0 },
};

static void refuse(struct job *j)
{
    if (j->wait_s) {
        (void)job_fail(j, 429, "too-many-failures",
                       "too many requests of this source were refused: wait %u s", j->wait_s);
    } else if (j->check.why == ACCESS_RIGHTS) {
        (void)job_fail(j, 403, "forbidden", "the policy does not have the right for this request");
    } else {
        (void)job_fail(j, 401, "unauthorized",
                       "the shared access signature was refused (%s): check key, clock and host name",
                       job_refused_why(j));
        job_field(j, "WWW-Authenticate", "SharedAccessSignature");
    }
}

static void answer_error(struct job *j)
{
    http_error(j->r, j->status, j->code, j->message, job_fields(j));
}

static void throttled(struct job *j, const char *operation)
{
    (void)job_fail(j, 429, "throttled", "too many operations of this kind (%s): wait %u s", operation,
                   j->wait_s);
    job_field(j, "Retry-After", "%u", j->wait_s);
}

static const struct http_front_ops ops = {
    .refuse = refuse,
    .throttled = throttled,
    .throttles = roost_throttles,
    .json_type = "application/json",
    .answer_error = answer_error,
};

enum err roost_http_new(struct roost_http **out, struct hub *hub, struct pool *pool, struct conn_net *net)
{
    uint64_t key[2];
    struct roost_http *f = calloc(1, sizeof *f);
    if (!f)
        return ERR_NOMEM;
    f->front = (struct http_front){ hub, pool, &ops };
    f->net = net;
    f->routes = (struct http_routes){ .table = routes, .ctx = f };
    f->plain = (struct http_routes){ .table = plain_routes, .ctx = f };
    f->ops = (struct http_routes){ .table = ops_routes, .ctx = f };
    hub->crypto->random((uint8_t *)key, sizeof key);
    enum err e = rate_new(&f->rate, hub->settings.bootstrap_rate, hub->settings.bootstrap_burst,
                          RATE_SOURCES_DEFAULT, key);
    f->artifacts = artifact_cache_new();
    if (!e && !f->artifacts)
        e = ERR_NOMEM;
    if (e)
        roost_http_free(f);
    else
        *out = f;
    return e;
}

static void housekeeper_free(struct housekeeper *k);

void roost_http_free(struct roost_http *f)
{
    if (!f)
        return;
    rate_free(f->rate);
    artifact_cache_free(f->artifacts);
    housekeeper_free(f->housekeeper);
    free(f);
}

void roost_http_set_routing(struct roost_http *f, struct routing *r)
{
    f->routing = r;
}

struct http_routes *roost_http_routes(struct roost_http *f)
{
    return &f->routes;
}
struct http_routes *roost_http_plain_routes(struct roost_http *f)
{
    return &f->plain;
}
struct http_routes *roost_http_ops_routes(struct roost_http *f)
{
    return &f->ops;
}

/* ---- housekeeping ------------------------------------------------------------------------------------ */

struct housekeeper {
    struct store_op store; /* first; home: the worker */
    struct timer timer;
    struct worker *worker;
    struct hub *hub;
    bool more;
};

static void housekeeper_free(struct housekeeper *k)
{
    if (k)
        timer_disarm(&k->timer); /* another timer of the same moment is linked to it */
    free(k);
}

static enum err sweep(struct store_tx *tx, struct store_op *self)
{
    struct housekeeper *k = (struct housekeeper *)self;
    struct arena a;
    arena_init(&a, JOB_ARENA_MAX);
    enum err e = campaign_sweep(k->hub, tx, &a, &k->more);
    arena_fini(&a);
    return e;
}

static void swept(struct op *op)
{
    struct housekeeper *k = (struct housekeeper *)op;
    if (op->err == ERR_STOPPED)
        return;
    if (op->err && op->err != ERR_FULL)
        log_error("campaign.sweep", "err=%s", err_name(op->err));
    timer_arm(k->worker, &k->timer,
              worker_now_ms(k->worker) + (k->more && !op->err ? SWEEP_SOON_MS : SWEEP_MS));
}

static void on_timer(struct timer *t)
{
    struct housekeeper *k = CONTAINER_OF(t, struct housekeeper, timer);
    c2d_sweep(k->hub);
    c2d_locks_sweep(k->hub);
    k->more = false;
    store_write(k->hub->store, &k->store);
}

void roost_http_housekeep(struct roost_http *f, struct worker *w)
{
    struct housekeeper *k = calloc(1, sizeof *k);
    if (!k) {
        log_error("http.housekeep", "err=nomem: deadlines of updates will not be watched");
        return;
    }
    f->housekeeper = k;
    k->hub = f->front.hub;
    k->worker = w;
    k->store.run = sweep;
    k->store.op.home = worker_mailbox(w);
    k->store.op.done = swept;
    k->timer.on_timer = on_timer;
    timer_arm(w, &k->timer, worker_now_ms(w) + SWEEP_MS);
}
