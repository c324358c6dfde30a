/* hub/front/azure_http/files.c - file upload of devices: announce it and get an address, say how it went. */
#include "base/text.h"
#include "core/storage/service_sas.h"
#include "hub/domain/message/upload.h"
#include "hub/front/azure_http/activity.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/routes.h"

#define HOST_MAX 300u

/* What the device called this hub, when that is one of its names: it can reach it so, and trusts it. */
static const char *host_of(struct job *j, char out[HOST_MAX])
{
    struct span host = http_field(j->r, "Host"), name = host;
    const uint8_t *colon = host.n ? memchr(host.p, ':', host.n) : NULL;
    if (colon)
        name.n = (size_t)(colon - host.p);
    for (const char *const *n = j->h->names; *n; n++)
        if (host.n < HOST_MAX && span_ieq(name, span_str(*n))) {
            snprintf(out, HOST_MAX, "%.*s", (int)host.n, (const char *)host.p);
            return out;
        }
    if (j->h->https_port == 443)
        snprintf(out, HOST_MAX, "%s", j->h->names[0]);
    else
        snprintf(out, HOST_MAX, "%s:%u", j->h->names[0], j->h->https_port);
    return out;
}

static enum err announce(struct job *j, struct store_tx *tx)
{
    struct upload_announce *u = j->state;
    enum err e = upload_announce(j->h, tx, &j->a, u);
    if (e == ERR_LIMIT)
        return AZURE_REFUSE(j, AZ_DeviceMaximumActiveFileUploadLimitExceeded,
                            "a device may have %u uploads open: complete one first", UPLOAD_OPEN_MAX);
    return e;
}

static void announced(struct job *j)
{
    struct upload_announce *u = j->state;
    char host[HOST_MAX];
    uint8_t key[SHA256_LEN], sas[512];
    struct wr w = { sas, sizeof sas, 0 };
    struct span container = span_str(j->h->settings.upload_container);
    upload_key(j->h, key);
    service_sas_encode(&w, j->h->crypto, span_of(key, sizeof key), SPAN(UPLOAD_ACCOUNT), container, u->blob,
                       u->expires_ms, SPAN("rw"));
    explicit_bzero(key, sizeof key);
    j->out = json_object();
    if (!j->out) {
        job_end_err(j, ERR_NOMEM);
        return;
    }
    json_put_str(j->out, "correlationId", u->id);
    json_put_str(j->out, "hostName", host_of(j, host));
    json_put(j->out, "containerName", json_span(container));
    json_put(j->out, "blobName", json_span(u->blob));
    json_put(j->out, "sasToken", json_span(wr_span(&w)));
    activity_note(j);
    job_end(j);
}

static bool configured(struct job *j)
{
    const char *container = j->h->settings.upload_container;
    return j->h->files && container && *container
               ? true
               : azure_fail(j, AZ_DefaultStorageEndpointNotConfigured, "this hub takes no uploads");
}

static void start_post(struct job *j)
{
    struct upload_announce *u = job_state(j, sizeof *u);
    if (!u)
        return;
    *u = (struct upload_announce){ .device = j->r->params[0] };
    if (configured(j) && in_text(j, j->in, "blobName", IN_REQUIRED, UPLOAD_NAME_MAX, &u->name)) {
        uint8_t whole[DEVICE_ID_MAX + 1 + UPLOAD_NAME_MAX];
        struct wr w = { whole, sizeof whole, 0 };
        wr_put(&w, u->device);
        wr_u8(&w, '/');
        wr_put(&w, u->name);
        if (!wr_ok(&w) || !upload_name_ok(wr_span(&w)))
            (void)azure_fail(
                j, AZ_ArgumentInvalid,
                "\"blobName\" has 1 to %u segments, none empty, \".\" or \"..\", and no control characters",
                UPLOAD_SEGMENTS_MAX - 1);
    }
    job_write(j, announce, announced);
}

/* ---- completion ------------------------------------------------------------------------------------- */

struct done {
    struct span id;
    bool success;
    char base[HOST_MAX + 128];
};

static enum err complete(struct job *j, struct store_tx *tx)
{
    struct done *d = j->state;
    enum upload_refusal why;
    enum err e = upload_complete(j->h, tx, j->r->params[0], d->id, d->success, span_str(d->base), &why);
    if (e)
        return e;
    switch (why) {
    case UPLOAD_UNKNOWN:
        return AZURE_REFUSE(j, AZ_InvalidFileUploadCorrelationId,
                            "no upload of this device has this correlation id");
    case UPLOAD_EXPIRED:
        return AZURE_REFUSE(j, AZ_ExpiredFileUploadCorrelationId,
                            "the time of this upload is over: begin another");
    case UPLOAD_NO_BLOB:
        return AZURE_REFUSE(j, AZ_InvalidStorageEndpointOrBlob, "the file was not uploaded");
    default:
        return ERR_OK;
    }
}

static void completed(struct job *j)
{
    activity_note(j);
    job_end(j);
}

static void start_done(struct job *j)
{
    struct done *d = job_state(j, sizeof *d);
    char host[HOST_MAX];
    if (!d)
        return;
    *d = (struct done){ .success = false };
    if (configured(j) && in_text(j, j->in, "correlationId", IN_OPTIONAL, 256, &d->id) &&
        in_bool(j, j->in, "isSuccess", IN_OPTIONAL, &d->success)) {
        if (j->r->params[1].n) /* the address wins */
            d->id = j->r->params[1];
        snprintf(d->base, sizeof d->base, "https://%s/%s/", host_of(j, host),
                 j->h->settings.upload_container);
    }
    job_write(j, complete, completed);
}

JOB_HANDLER(azure_files_post, JOB_PATH, 0, JOB_OBJECT, start_post);
JOB_HANDLER(azure_files_done, JOB_PATH, 0, JOB_OBJECT, start_done);
