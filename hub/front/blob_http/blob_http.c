/* hub/front/blob_http/blob_http.c - routes, signatures, errors, housekeeping of the blob service. */
#include "hub/front/blob_http/blob_http.h"

#include "base/text.h"
#include "core/storage/service_sas.h"
#include "hub/domain/metrics.h"
#include "hub/front/blob_http/blob_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

#define SWEEP_MS      5000u
#define SWEEP_SOON_MS 50u

struct blob_http {
    struct http_front front; /* first */
    struct http_routes routes;
    struct keeper *keeper;
};

/* ---- errors ----------------------------------------------------------------------------------------- */

static const struct {
    const char *code;
    unsigned status;
} codes[] = {
    { "AuthenticationFailed", 403 },
    { "AuthorizationPermissionMismatch", 403 },
    { "BlobNotFound", 404 },
    { "ContainerNotFound", 404 },
    { "BlobAlreadyExists", 409 },
    { "ContainerAlreadyExists", 409 },
    { "ConditionNotMet", 412 },
    { "MissingRequiredHeader", 400 },
    { "UnsupportedHeader", 400 },
    { "InvalidHeaderValue", 400 },
    { "InvalidQueryParameterValue", 400 },
    { "InvalidResourceName", 400 },
    { "InvalidRange", 416 },
    { "InvalidBlockList", 400 },
    { "InvalidBlockId", 400 },
    { "InvalidBlobOrBlock", 400 },
    { "InvalidXmlDocument", 400 },
    { "BlockCountExceedsLimit", 409 },
    { "RequestBodyTooLarge", 413 },
    { "Md5Mismatch", 400 },
    { "UnsupportedHttpVerb", 405 },
    { "QuotaExceeded", 507 },
    { "InsufficientStorage", 507 },
    { "ServerBusy", 503 },
    { "InternalError", 500 },
};

bool blob_fail(struct job *j, const char *code, const char *message)
{
    unsigned status = 500;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (strcmp(codes[i].code, code) == 0)
            status = codes[i].status;
    return job_fail(j, status, code, "%s", message);
}

void blob_end_err(struct job *j, enum err e)
{
    if (e == ERR_FULL)
        (void)blob_fail(j, "InsufficientStorage", "The disk of the hub is full: nothing was taken.");
    else if (e == ERR_STOPPED || e == ERR_NOMEM)
        (void)blob_fail(j, "ServerBusy", "The hub cannot do this now: try again.");
    job_end_err(j, e); /* the first error stays */
}

static void answer_error(struct job *j)
{
    char body[1024];
    const char *code = j->code;
    unsigned known = 0;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        known |= strcmp(codes[i].code, code) == 0;
    if (!known)
        code = j->status == 507 ? "InsufficientStorage" : j->status == 503 ? "ServerBusy" : "InternalError";
    snprintf(body, sizeof body,
             "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>%s</Message></Error>",
             code, j->message);
    job_field(j, "x-ms-error-code", "%s", code);
    http_answer(j->r, j->status, "application/xml", span_str(body), job_fields(j));
}

static void begin(struct job *j)
{
    uint8_t b[16];
    struct span version = http_field(j->r, "x-ms-version"), id = http_field(j->r, "x-ms-client-request-id");
    j->h->crypto->random(b, sizeof b);
    snprintf(j->request_id, sizeof j->request_id,
             "%02x%02x%02x%02x-%02x%02x-4%x%02x-a%x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
             b[4], b[5], b[6] & 15, b[7], b[8] & 15, b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    job_field(j, "x-ms-request-id", "%s", j->request_id);
    if (version.n && version.n <= 32)
        job_field(j, "x-ms-version", "%.*s", (int)version.n, (const char *)version.p);
    else
        job_field(j, "x-ms-version", "2020-10-02");
    if (id.n && id.n <= 1024)
        job_field(j, "x-ms-client-request-id", "%.*s", (int)id.n, (const char *)id.p);
}

static void refuse(struct job *j)
{
    (void)blob_fail(j, "AuthenticationFailed", "The signature is missing or wrong.");
}

const struct http_front_ops blob_front_ops = { .begin = begin,
                                               .refuse = refuse,
                                               .answer_error = answer_error };

/* ---- what is asked for, and who may ------------------------------------------------------------------ */

bool blob_target(struct job *j, struct blob_target *out)
{
    struct span left = j->r->path;
    struct wr w = { arena_alloc(&j->a, left.n + 1), left.n, 0 };
    size_t start = 0;
    for (unsigned nr = 0; w.p && left.n; nr++) { /* empty segments count for nothing, as in every path here */
        size_t n = 0;
        while (left.n && left.p[0] == '/')
            left = span_skip(left, 1);
        while (n < left.n && left.p[n] != '/')
            n++;
        if (!n)
            break;
        if (nr > 1)
            wr_u8(&w, '/');
        percent_decode(&w, span_of(left.p, n));
        if (nr == 0)
            start = w.len;
        left = span_skip(left, n);
    }
    if (!w.p) {
        job_end_err(j, ERR_NOMEM);
        return false;
    }
    out->container = span_of(w.p, start);
    out->name = span_of(w.p + start, w.len - start);
    const char *ours = j->h->settings.upload_container;
    if (j->h->files && ours && *ours && span_eq(out->container, span_str(ours)))
        return true;
    if (registry_container_is(j->h, out->container))
        return true;
    /* Whoever comes with a signature means a container; others have mistaken a path of the hub. */
    struct span sig;
    if (http_query(j->r, "sig", &sig)) {
        (void)blob_fail(j, "ContainerNotFound", "There is no such container.");
        job_end(j);
    } else {
        http_error(j->r, 404, "not-found", "There is no such path.", NULL);
        job_release(j);
    }
    return false;
}

bool blob_permit(struct job *j, const struct blob_target *t, const char *letters)
{
    struct wr mem = { arena_alloc(&j->a, j->r->query.n + 1), j->r->query.n, 0 };
    struct service_sas s;
    uint8_t key[SHA256_LEN];
    if (!mem.p)
        return blob_fail(j, "ServerBusy", "The hub is short of memory: try again.");
    if (service_sas_parse(j->r->query, &mem, &s))
        return blob_fail(j, "AuthenticationFailed", "The address has no shared access signature.");
    upload_key(j->h, key);
    bool is = service_sas_verify(&s, j->h->crypto, span_of(key, sizeof key), SPAN(UPLOAD_ACCOUNT),
                                 t->container, t->name);
    explicit_bzero(key, sizeof key);
    if (!is || (!t->name.n && !span_eq(s.field[SERVICE_SAS_SR], SPAN("c"))))
        return blob_fail(j, "AuthenticationFailed", "The signature does not match this address.");
    /* A stored policy and a range of addresses would only narrow: what is not understood is not granted. */
    if (s.field[SERVICE_SAS_SI].n || s.field[SERVICE_SAS_SIP].n || !service_sas_is_live(&s, j->h->wall_ms()))
        return blob_fail(j, "AuthenticationFailed", "The signature is not valid now.");
    for (const char *l = letters; *l; l++)
        if (service_sas_permits(&s, *l))
            return true;
    return blob_fail(j, "AuthorizationPermissionMismatch", "The signature does not permit this operation.");
}

struct span blob_etag(struct span file, char out[BLOB_ETAG_MAX])
{
    struct wr w = { (uint8_t *)out, BLOB_ETAG_MAX - 1, 0 };
    wr_str(&w, "\"0x");
    hex_encode(&w, span_of(file.p, file.n < 8 ? file.n : 8));
    wr_u8(&w, '"');
    out[wr_span(&w).n] = 0;
    return wr_span(&w);
}

void blob_field_time(struct job *j, const char *name, uint64_t wall_ms)
{
    char text[48];
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    job_field(j, name, "%s", text);
}

void blob_fields(struct job *j, const struct named_blob_row *r)
{
    char etag[BLOB_ETAG_MAX];
    (void)blob_etag(r->file, etag);
    job_field(j, "ETag", "%s", etag);
    blob_field_time(j, "Last-Modified", r->modified_ms);
}

/* ---- routes ----------------------------------------------------------------------------------------- */

static bool query_is(struct job *j, const char *name, const char *value)
{
    struct span s;
    return http_query(j->r, name, &s) && span_ieq(s, span_str(value));
}

static void start_put(struct job *j)
{
    if (query_is(j, "comp", "blocklist"))
        blob_commit_start(j);
    else
        blob_put_start(j);
}
static void start_get(struct job *j)
{
    if (query_is(j, "comp", "blocklist"))
        blob_block_list_start(j);
    else
        blob_get_start(j);
}
static void start_other(struct job *j)
{
    struct blob_target t;
    if (blob_target(j, &t)) {
        /* Who makes sure that the container is there is told that it is; this hub makes no other. */
        if (j->r->method == HTTP_PUT_ && !t.name.n && query_is(j, "restype", "container") &&
            blob_permit(j, &t, "wc"))
            (void)blob_fail(j, "ContainerAlreadyExists", "The container is there already.");
        (void)blob_fail(j, "UnsupportedHttpVerb", "This is not done with a container or blob.");
        job_end(j);
    }
}

#define HANDLER(name, start)                                                                                 \
    static void name(struct http_req *r)                                                                     \
    {                                                                                                        \
        static const struct job_call call = { JOB_PUBLIC, 0, JOB_RAW, start };                               \
        job_start(r, &call);                                                                                 \
    }
HANDLER(on_put, start_put)
HANDLER(on_get, start_get)
HANDLER(on_delete, blob_delete_start)
HANDLER(on_list, blob_list_start)
HANDLER(on_other, start_other)

static const struct http_route routes[] = {
    { HTTP_GET_ | HTTP_HEAD_, "/{}", on_list, 0 },
    { HTTP_POST_ | HTTP_PUT_ | HTTP_PATCH_ | HTTP_DELETE_, "/{}", on_other, 65536 },
    { HTTP_PUT_ | HTTP_PULLED, "/{}/**", on_put, BLOB_PUT_MAX },
    { HTTP_GET_ | HTTP_HEAD_, "/{}/**", on_get, 0 },
    { HTTP_DELETE_, "/{}/**", on_delete, 65536 },
    { HTTP_POST_ | HTTP_PATCH_, "/{}/**", on_other, 65536 },
    { 0 },
};

enum err blob_http_new(struct blob_http **out, struct hub *hub, struct pool *pool)
{
    assert(upload_container_ok(hub->settings.upload_container) &&
           upload_container_ok(hub->settings.registry_container)); /* the configuration has been checked */
    struct blob_http *f = calloc(1, sizeof *f);
    if (!f)
        return ERR_NOMEM;
    f->front = (struct http_front){ hub, pool, &blob_front_ops };
    f->routes = (struct http_routes){ .table = routes, .ctx = f, .last_resort = true };
    *out = f;
    return ERR_OK;
}

struct http_routes *blob_http_routes(struct blob_http *f)
{
    return &f->routes;
}

/* ---- housekeeping ------------------------------------------------------------------------------------ */

struct keeper {
    struct store_op store; /* first */
    struct pool_op pool;
    struct timer timer;
    struct worker *worker;
    struct http_front *front;
    struct arena a;
    struct upload_sweep s;
    unsigned folder;   /* whose orphans are looked for; FILES_FOLDERS: all were */
    size_t skip, seen; /* files of it that have been looked at, and in this round */
    uint8_t found[UPLOAD_SWEEP_BATCH][FILE_ID_LEN];
};

void blob_http_free(struct blob_http *f)
{
    if (f && f->keeper) {
        timer_disarm(&f->keeper->timer);
        arena_fini(&f->keeper->a);
        free(f->keeper);
    }
    free(f);
}

static void keep_again(struct keeper *k, bool soon)
{
    arena_fini(&k->a);
    timer_arm(k->worker, &k->timer, worker_now_ms(k->worker) + (soon ? SWEEP_SOON_MS : SWEEP_MS));
}

static void on_pool(struct keeper *k, enum err (*run)(struct pool_op *), op_fn *done)
{
    k->pool.run = run;
    k->pool.op.home = worker_mailbox(k->worker);
    k->pool.op.done = done;
    pool_run(k->front->pool, &k->pool);
}

static enum err delete_run(struct pool_op *op)
{
    struct keeper *k = CONTAINER_OF(op, struct keeper, pool);
    enum err e = ERR_OK;
    for (size_t i = 0; i < k->s.nr; i++) { /* one that fails is found again after the next start */
        enum err one = files_delete(k->front->hub->files, k->s.files[i]);
        if (one && one != ERR_NOTFOUND)
            e = one;
    }
    return e;
}

static void orphans_deleted(struct op *op)
{
    (void)op;
    keep_again(CONTAINER_OF(op, struct keeper, pool.op), false);
}

static enum err orphans_run(struct store_tx *tx, struct store_op *self)
{
    return upload_orphans_tx(tx, &((struct keeper *)(void *)self)->s);
}

static void orphans_known(struct op *op)
{
    struct keeper *k = (struct keeper *)(void *)op;
    if (op->err) {
        keep_again(k, false);
        return;
    }
    k->skip -= k->s.nr < k->skip ? k->s.nr : k->skip; /* what goes away need not be skipped */
    on_pool(k, delete_run, orphans_deleted);
}

static enum err found_each(void *ctx, const uint8_t id[FILE_ID_LEN])
{
    struct keeper *k = ctx;
    if (k->seen++ < k->skip)
        return ERR_OK;
    if (k->s.nr == UPLOAD_SWEEP_BATCH)
        return ERR_LIMIT;
    memcpy(k->found[k->s.nr++], id, FILE_ID_LEN);
    return ERR_OK;
}

static enum err find_run(struct pool_op *op)
{
    struct keeper *k = CONTAINER_OF(op, struct keeper, pool);
    k->s.nr = k->seen = 0;
    k->s.files = k->found;
    enum err e = files_list(k->front->hub->files, k->folder, k->front->hub->started_ms, found_each, k);
    return e == ERR_LIMIT ? ERR_OK : e;
}

static void found(struct op *op)
{
    struct keeper *k = CONTAINER_OF(op, struct keeper, pool.op);
    if (op->err || !k->s.nr) { /* the next one */
        k->folder++;
        k->skip = 0;
        keep_again(k, k->folder < FILES_FOLDERS);
        return;
    }
    k->skip += k->s.nr;
    k->store.run = orphans_run;
    k->store.op.done = orphans_known;
    store_read(k->front->hub->store, &k->store);
}

/* What a crash left between a file and its row. */
static void expired_deleted(struct op *op)
{
    struct keeper *k = CONTAINER_OF(op, struct keeper, pool.op);
    if (k->s.more)
        keep_again(k, true);
    else if (k->folder < FILES_FOLDERS)
        on_pool(k, find_run, found);
    else
        keep_again(k, false);
}

static enum err sweep_run(struct store_tx *tx, struct store_op *self)
{
    struct keeper *k = (struct keeper *)(void *)self;
    arena_fini(&k->a);
    arena_init(&k->a, JOB_ARENA_MAX);
    return upload_sweep_tx(k->front->hub, tx, &k->a, &k->s);
}

static void swept(struct op *op)
{
    struct keeper *k = (struct keeper *)(void *)op;
    if (op->err == ERR_STOPPED)
        return;
    if (op->err) {
        log_error("uploads.sweep", "err=%s", err_name(op->err));
        keep_again(k, false);
        return;
    }
    on_pool(k, delete_run, expired_deleted);
}

static void on_timer(struct timer *t)
{
    struct keeper *k = CONTAINER_OF(t, struct keeper, timer);
    k->store.run = sweep_run;
    k->store.op.home = worker_mailbox(k->worker);
    k->store.op.done = swept;
    store_write(k->front->hub->store, &k->store);
}

void blob_http_housekeep(struct blob_http *f, struct worker *w)
{
    struct keeper *k = calloc(1, sizeof *k);
    if (!k) {
        log_error("uploads.sweep", "err=nomem: uploads will not be cleaned up");
        return;
    }
    f->keeper = k;
    k->front = &f->front;
    k->worker = w;
    k->timer.on_timer = on_timer;
    timer_arm(w, &k->timer, worker_now_ms(w) + SWEEP_MS);
}
