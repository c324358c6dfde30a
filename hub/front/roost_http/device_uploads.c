/* hub/front/roost_http/device_uploads.c - the operator's view of what devices uploaded: list, fetch, delete,
 * file notifications; and signatures for storage SDKs. */
#include "base/text.h"
#include "core/storage/service_sas.h"
#include "hub/domain/audit.h"
#include "hub/domain/message/upload.h"
#include "hub/front/http/range.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

#include <unistd.h>

#define PAGE_MAX 1000u

struct uploads {
    struct span name, prefix, after; /* name: the whole; prefix: what is left out of names */
    uint64_t limit;
    size_t nr;
    bool more;
    json_t *list; /* borrowed from j->out */
    uint8_t file[FILE_ID_LEN];
    struct span type;
    uint64_t after_seq;
};

static struct uploads *uploads_of(struct job *j)
{
    struct uploads *u = job_state(j, sizeof *u);
    if (u)
        u->limit = PAGE_MAX;
    return u;
}

static struct span container(struct job *j)
{
    return span_str(j->h->settings.upload_container);
}

/* ---- list ------------------------------------------------------------------------------------------- */

static enum err list_each(void *ctx, const struct named_blob_row *r)
{
    struct uploads *u = ctx;
    struct span name = span_skip(r->name, u->prefix.n);
    if (u->nr++ == u->limit) {
        u->more = true;
        return ERR_EXISTS;
    }
    json_t *o = json_object();
    if (!o || json_array_append_new(u->list, o))
        return ERR_NOMEM;
    if (!u->prefix.n) {
        const uint8_t *slash = memchr(name.p, '/', name.n);
        size_t n = slash ? (size_t)(slash - name.p) : 0;
        json_put(o, "device", json_span(span_of(name.p, n)));
        name = span_skip(name, slash ? n + 1 : 0);
    }
    json_put(o, "name", json_span(name));
    json_put_u64(o, "length", r->length);
    json_put(o, "contentType", json_span(r->content_type));
    json_put(o, "modified", json_time(r->modified_ms));
    return ERR_OK;
}

static enum err run_list(struct job *j, struct store_tx *tx)
{
    struct uploads *u = j->state;
    u->nr = 0;
    u->more = false;
    u->list = job_out_list(j, "uploads");
    if (!u->list)
        return ERR_NOMEM;
    enum err e = tx_blob_list(tx, container(j), u->prefix, u->after, u->limit + 1, list_each, u);
    if (e == ERR_EXISTS && u->more)
        e = ERR_OK;
    if (!e)
        json_put(j->out, "more", json_boolean(u->more));
    return e;
}

static bool with_prefix(struct job *j, struct span name, struct span *out)
{
    struct span id = j->r->params[0];
    struct wr w = { arena_alloc(&j->a, id.n + 1 + name.n), id.n + 1 + name.n, 0 };
    if (!w.p)
        return job_fail_err(j, ERR_NOMEM);
    wr_put(&w, id);
    wr_u8(&w, '/');
    wr_put(&w, name);
    *out = wr_span(&w);
    return true;
}

static void start_list(struct job *j)
{
    struct uploads *u = uploads_of(j);
    struct span s = SPAN_NONE;
    if (!u)
        return;
    bool one = j->r->params[0].n > 0;
    bool ok =
        in_query_u64(j, "limit", PAGE_MAX, &u->limit) && (!one || with_prefix(j, SPAN_NONE, &u->prefix));
    if (ok && !u->limit)
        u->limit = PAGE_MAX;
    if (ok && http_query(j->r, "after", &s)) {
        u->after = s;
        (void)(one && with_prefix(j, s, &u->after));
    }
    job_read(j, run_list, NULL);
}

/* ---- one -------------------------------------------------------------------------------------------- */

/* What stands behind ".../uploads/" in the path. */
static bool name_of(struct job *j, struct span *out)
{
    struct span left = j->r->path;
    size_t segments = 0;
    while (left.n && segments < 5) {
        while (left.n && left.p[0] == '/')
            left = span_skip(left, 1);
        while (left.n && left.p[0] != '/')
            left = span_skip(left, 1);
        segments++;
    }
    while (left.n && left.p[0] == '/')
        left = span_skip(left, 1);
    struct wr w = { arena_alloc(&j->a, left.n + 1), left.n, 0 };
    if (!w.p)
        return job_fail_err(j, ERR_NOMEM);
    percent_decode(&w, left);
    return with_prefix(j, wr_span(&w), out);
}

static enum err look_up(struct job *j, struct store_tx *tx)
{
    struct uploads *u = j->state;
    struct named_blob_row r;
    enum err e = tx_blob_get(tx, container(j), u->name, &r);
    if (e == ERR_NOTFOUND)
        return JOB_REFUSE(j, 404, "upload-not-found", "the device has no file of this name");
    if (e || r.file.n != FILE_ID_LEN)
        return e ? e : ERR_IO;
    memcpy(u->file, r.file.p, FILE_ID_LEN);
    u->type = arena_copy(&j->a, r.content_type);
    return ERR_OK;
}

static void serve(struct job *j)
{
    struct uploads *u = j->state;
    uint64_t len;
    int fd;
    enum err e = files_open_fd(j->h->files, u->file, &fd, &len);
    if (e) {
        job_end_err(j, e == ERR_NOTFOUND ? ERR_IO : e);
        return;
    }
    struct range_answer part = range_of(j->r->method == HTTP_GET_ ? http_field(j->r, "Range") : SPAN_NONE,
                                        SPAN_NONE, SPAN_NONE, len);
    if (part.status == 416) {
        close(fd);
        (void)job_fail(j, 416, "range", "the file has no such bytes");
        job_field(j, "Content-Range", "bytes */%llu", (unsigned long long)len);
        job_end(j);
        return;
    }
    if (part.status == 206)
        job_field(j, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)part.offset,
                  (unsigned long long)(part.offset + part.len - 1), (unsigned long long)len);
    /* A browser does not run what a device sent. */
    job_field(j, "Content-Disposition", "attachment");
    job_field(j, "X-Content-Type-Options", "nosniff");
    http_answer_file(j->r, part.status, "application/octet-stream", fd, part.offset, part.len, job_fields(j));
    job_release(j);
}

static void start_get(struct job *j)
{
    struct uploads *u = uploads_of(j);
    if (!u)
        return;
    (void)name_of(j, &u->name);
    job_read(j, look_up, serve);
}

static enum err run_delete(struct job *j, struct store_tx *tx)
{
    struct uploads *u = j->state;
    enum err e = look_up(j, tx);
    if (!e)
        e = tx_blob_delete(tx, container(j), u->name);
    return e ? e : audit_push(j->h, tx, j->who, "upload.delete", u->name, "%s", "");
}

static enum err remove_file(struct job *j)
{
    enum err e = files_delete(j->h->files, ((struct uploads *)j->state)->file);
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

static void deleted(struct job *j)
{
    job_pool(j, remove_file, NULL);
}

static void start_delete(struct job *j)
{
    struct uploads *u = uploads_of(j);
    if (!u)
        return;
    (void)name_of(j, &u->name);
    job_write(j, run_delete, deleted);
}

/* ---- notifications ---------------------------------------------------------------------------------- */

static enum err note_each(void *ctx, const struct file_note_row *r)
{
    struct uploads *u = ctx;
    json_t *o = json_object();
    if (!o || json_array_append_new(u->list, o))
        return ERR_NOMEM;
    json_put_u64(o, "sequence", r->seq);
    json_put(o, "deviceId", json_span(r->device));
    json_put(o, "blobUri", json_span(r->uri));
    json_put(o, "blobName", json_span(r->blob));
    json_put(o, "lastUpdatedTime", json_time(r->modified_ms));
    json_put_u64(o, "blobSizeInBytes", r->length);
    json_put(o, "enqueuedTimeUtc", json_time(r->enqueued_ms));
    return ERR_OK;
}

static enum err run_notes(struct job *j, struct store_tx *tx)
{
    struct uploads *u = j->state;
    u->list = job_out_list(j, "notifications");
    return u->list ? tx_file_note_list(tx, u->after_seq, PAGE_MAX, note_each, u) : ERR_NOMEM;
}

static void start_notes(struct job *j)
{
    struct uploads *u = uploads_of(j);
    if (!u)
        return;
    (void)in_query_u64(j, "after", INT64_MAX, &u->after_seq);
    job_read(j, run_notes, NULL);
}

/* ---- a signature for a container -------------------------------------------------------------------- */

static bool letters_ok(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!s.p[i] || !strchr("rwdlc", s.p[i]))
            return false;
    return s.n > 0 && s.n <= 5;
}

struct sas {
    struct span container, letters;
    uint64_t ttl_s;
};

static enum err make_sas(struct job *j, struct store_tx *tx)
{
    const struct sas *s = j->state;
    uint8_t key[SHA256_LEN], text[512];
    struct wr w = { text, sizeof text, 0 };
    uint64_t end = j->h->wall_ms() + 1000 * s->ttl_s;
    upload_key(j->h, key);
    service_sas_encode(&w, j->h->crypto, span_of(key, sizeof key), SPAN(UPLOAD_ACCOUNT), s->container,
                       SPAN_NONE, end, s->letters);
    explicit_bzero(key, sizeof key);
    j->out = json_object();
    if (!j->out)
        return ERR_NOMEM;
    json_put(j->out, "container", json_span(s->container));
    json_put(j->out, "sasToken", json_span(wr_span(&w)));
    json_put(j->out, "expires", json_time(end));
    return audit_push(j->h, tx, j->who, "upload.sas", s->container, "%.*s for %llu s", (int)s->letters.n,
                      (const char *)s->letters.p, (unsigned long long)s->ttl_s);
}

static void start_sas(struct job *j)
{
    static const char *const names[] = { "permissions", "ttlSeconds", NULL };
    struct span letters = SPAN("rl");
    uint64_t ttl = 3600;
    struct span asked = j->r->params[0];
    if (!(container(j).n && span_eq(asked, container(j))) && !registry_container_is(j->h, asked))
        (void)job_fail(j, 404, "container-not-found", "this hub has no such container");
    else if (in_only(j, j->in, names) && in_text(j, j->in, "permissions", IN_OPTIONAL, 5, &letters) &&
             in_u64(j, j->in, "ttlSeconds", IN_OPTIONAL, 7 * 86400, &ttl) && !letters_ok(letters))
        (void)job_fail(j, 400, "bad-member", "member \"permissions\" has to be some of r, w, d, l, c");
    struct sas *s = job_state(j, sizeof *s);
    if (!s)
        return;
    *s = (struct sas){ asked, letters, ttl };
    job_write(j, make_sas, NULL);
}

JOB_HANDLER(device_uploads_list, JOB_POLICY, ACCESS_REGISTRY_READ | ACCESS_SERVICE_CONNECT, JOB_RAW,
            start_list);
JOB_HANDLER(device_upload_get, JOB_POLICY, ACCESS_REGISTRY_READ | ACCESS_SERVICE_CONNECT, JOB_RAW, start_get);
JOB_HANDLER(device_upload_delete, JOB_POLICY, ACCESS_REGISTRY_WRITE | ACCESS_SERVICE_CONNECT, JOB_RAW,
            start_delete);
JOB_HANDLER(file_notifications_list, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_notes);
JOB_HANDLER(container_sas_post, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_OBJECT, start_sas);
