/* hub/front/blob_http/get.c - Get Blob, Get Blob Properties (HEAD), Delete Blob. */
#include "base/text.h"
#include "hub/domain/metrics.h"
#include "hub/front/blob_http/blob_impl.h"
#include "hub/front/http/range.h"

#include <unistd.h>

struct get {
    struct blob_target target;
    struct named_blob_row row; /* what is shown of it; its spans in the arena */
    struct blob_trash trash;
};

static struct get *get_of(struct job *j, const char *letters)
{
    struct get *g = arena_alloc(&j->a, sizeof *g);
    j->state = g;
    if (!g) {
        blob_end_err(j, ERR_NOMEM);
        return NULL;
    }
    *g = (struct get){ .trash.nr = 0 };
    if (!blob_target(j, &g->target))
        return NULL;
    if (!blob_permit(j, &g->target, letters)) {
        job_end(j);
        return NULL;
    }
    return g;
}

static enum err look_up(struct job *j, struct store_tx *tx)
{
    struct get *g = j->state;
    struct named_blob_row r;
    enum err e = tx_blob_get(tx, g->target.container, g->target.name, &r);
    if (e == ERR_NOTFOUND) {
        (void)blob_fail(j, "BlobNotFound", "There is no such blob.");
        return ERR_DENIED;
    }
    if (e)
        return e;
    g->row = r;
    g->row.file = arena_copy(&j->a, r.file);
    g->row.md5 = arena_copy(&j->a, r.md5);
    g->row.content_type = arena_copy(&j->a, r.content_type);
    g->row.meta = arena_copy(&j->a, r.meta);
    return ERR_OK;
}

static void put_meta(struct job *j, struct span meta)
{
    while (meta.n) {
        char name[300];
        size_t end = 0, colon = 0;
        while (end < meta.n && meta.p[end] != '\r')
            end++;
        while (colon < end && meta.p[colon] != ':')
            colon++;
        if (colon < sizeof name && colon + 2 <= end) {
            memcpy(name, meta.p, colon);
            name[colon] = 0;
            job_field(j, name, "%.*s", (int)(end - colon - 2), (const char *)meta.p + colon + 2);
        }
        meta = span_skip(meta, end + 2 <= meta.n ? end + 2 : meta.n);
    }
}

static void serve(struct job *j)
{
    struct get *g = j->state;
    const struct named_blob_row *r = &g->row;
    char etag[BLOB_ETAG_MAX], type[264];
    uint8_t md5[32];
    struct wr w = { md5, sizeof md5, 0 };
    struct span tag = blob_etag(r->file, etag);
    struct span range = http_field(j->r, "x-ms-range");
    uint64_t len;
    int fd;
    blob_fields(j, r);
    if (!blob_conditions(j, r)) {
        if (j->status == 412 && etag_listed(http_field(j->r, "If-None-Match"), tag)) {
            http_answer(j->r, 304, NULL, SPAN_NONE, job_fields(j));
            job_release(j);
        } else {
            job_end(j);
        }
        return;
    }
    enum err e = r->file.n == FILE_ID_LEN ? files_open_fd(j->h->files, r->file.p, &fd, &len) : ERR_IO;
    if (e) {
        log_error("uploads.file", "err=%s name=%.*s", err_name(e), (int)g->target.name.n,
                  (const char *)g->target.name.p);
        (void)blob_fail(j, "InternalError", "The hub cannot read this blob: its log says why.");
        job_end(j);
        return;
    }
    if (!range.n)
        range = http_field(j->r, "Range");
    struct range_answer part =
        range_of(j->r->method == HTTP_GET_ ? range : SPAN_NONE, http_field(j->r, "If-Range"), tag, len);
    if (part.status == 416) {
        close(fd);
        job_field(j, "Content-Range", "bytes */%llu", (unsigned long long)len);
        (void)blob_fail(j, "InvalidRange", "The blob has no such bytes.");
        job_end(j);
        return;
    }
    if (part.status == 206)
        job_field(j, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)part.offset,
                  (unsigned long long)(part.offset + part.len - 1), (unsigned long long)len);
    else if (r->md5.n) {
        base64_encode(&w, r->md5);
        job_field(j, "Content-MD5", "%.*s", (int)w.len, (const char *)md5);
    }
    job_field(j, "Accept-Ranges", "bytes");
    /* The type is whatever the device said, and this is the address of the console, too: a page that a device
     * uploads is no page of this hub. */
    job_field(j, "X-Content-Type-Options", "nosniff");
    job_field(j, "Content-Security-Policy", "sandbox; default-src 'none'");
    job_field(j, "x-ms-blob-type", "BlockBlob");
    job_field(j, "x-ms-server-encrypted", "true");
    blob_field_time(j, "x-ms-creation-time", r->created_ms);
    put_meta(j, r->meta);
    snprintf(type, sizeof type, "%.*s", (int)r->content_type.n, (const char *)r->content_type.p);
    for (char *p = type; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    http_answer_file(j->r, part.status, type[0] ? type : "application/octet-stream", fd, part.offset,
                     part.len, job_fields(j));
    job_release(j);
}

void blob_get_start(struct job *j)
{
    if (get_of(j, "r"))
        job_read(j, look_up, serve);
}

/* ---- delete ----------------------------------------------------------------------------------------- */

static enum err drop(struct job *j, struct store_tx *tx)
{
    struct get *g = j->state;
    g->trash.nr = 0;
    enum err e = look_up(j, tx);
    if (e)
        return e;
    if (!blob_conditions(j, &g->row))
        return ERR_DENIED;
    g->trash.files = arena_alloc(&j->a, FILE_ID_LEN);
    if (g->trash.files && g->row.file.n == FILE_ID_LEN)
        memcpy(g->trash.files[g->trash.nr++], g->row.file.p, FILE_ID_LEN);
    return tx_blob_delete(tx, g->target.container, g->target.name);
}

static void dropped(struct job *j)
{
    j->status = 202;
    blob_trash_end(j, &((struct get *)j->state)->trash);
}

void blob_delete_start(struct job *j)
{
    if (get_of(j, "d"))
        job_write(j, drop, dropped);
}
