/* hub/front/roost_http/artifacts.c - payloads and chunk trees by their root: public, immutable, in ranges.
 * Devices ask for one chunk at a time, so the way from a root to its blobs is kept in memory. */
#include "base/text.h"
#include "core/crypto/crypto.h"
#include "hub/domain/metrics.h"
#include "hub/front/http/range.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define CACHE_SETS 64u
#define CACHE_WAYS 4u

struct artifact {
    uint8_t root[SHA256_LEN], payload_sha256[SHA256_LEN], tree_sha256[SHA256_LEN];
    bool known;
};
struct artifact_cache {
    pthread_mutex_t lock; /* held for a comparison or a copy */
    struct artifact at[CACHE_SETS][CACHE_WAYS];
    uint8_t next[CACHE_SETS];
};

struct artifact_cache *artifact_cache_new(void)
{
    struct artifact_cache *c = calloc(1, sizeof *c);
    if (c)
        pthread_mutex_init(&c->lock, NULL);
    return c;
}

void artifact_cache_free(struct artifact_cache *c)
{
    if (c)
        pthread_mutex_destroy(&c->lock);
    free(c);
}

static bool cache_get(struct artifact_cache *c, const uint8_t root[SHA256_LEN], struct artifact *out)
{
    bool found = false;
    pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < CACHE_WAYS && !found; i++) {
        const struct artifact *a = &c->at[root[0] % CACHE_SETS][i];
        found = a->known && !memcmp(a->root, root, SHA256_LEN);
        if (found)
            *out = *a;
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

static void cache_put(struct artifact_cache *c, const struct artifact *a)
{
    unsigned set = a->root[0] % CACHE_SETS;
    pthread_mutex_lock(&c->lock);
    c->at[set][c->next[set]++ % CACHE_WAYS] = *a;
    pthread_mutex_unlock(&c->lock);
}

/* "{64 hex digits}" or "{64 hex digits}.tree" */
static bool name_parse(struct span name, uint8_t root[SHA256_LEN], bool *tree)
{
    *tree = name.n == 2 * SHA256_LEN + 5 && span_eq(span_skip(name, 2 * SHA256_LEN), SPAN(".tree"));
    if (*tree)
        name.n -= 5;
    return name.n == 2 * SHA256_LEN && !hex_decode(name, root, SHA256_LEN);
}

static void serve(struct http_req *r, struct hub *h, const struct artifact *a, bool tree)
{
    char etag[2 * SHA256_LEN + 8], fields[512];
    struct wr w = { (uint8_t *)etag, sizeof etag, 0 };
    uint64_t len;
    int fd;
    wr_u8(&w, '"');
    hex_encode(&w, span_of(a->root, SHA256_LEN));
    wr_str(&w, tree ? ".tree\"" : "\"");
    struct span tag = wr_span(&w);
    int n = snprintf(
        fields, sizeof fields,
        "ETag: %.*s\r\nAccept-Ranges: bytes\r\nCache-Control: public, max-age=31536000, immutable\r\n",
        (int)tag.n, (const char *)tag.p);
    if (etag_listed(http_field(r, "If-None-Match"), tag)) {
        http_answer(r, 304, NULL, SPAN_NONE, fields);
        return;
    }
    enum err e = blob_open_fd(h->blob, tree ? a->tree_sha256 : a->payload_sha256, &fd, &len);
    if (e) {
        METRIC_ADD(h, http_errors_total, 1);
        log_error("http.artifact", "err=%s root=%.*s", err_name(e), (int)tag.n, (const char *)tag.p);
        http_error(r, 500, "internal", "the hub cannot read this artifact: its log says why", NULL);
        return;
    }
    /* HEAD tells of the whole; Range is for GET alone. */
    struct span range = r->method == HTTP_GET_ ? http_field(r, "Range") : SPAN_NONE;
    struct range_answer part = range_of(range, http_field(r, "If-Range"), tag, len);
    if (part.status == 206)
        snprintf(fields + n, sizeof fields - (size_t)n, "Content-Range: bytes %llu-%llu/%llu\r\n",
                 (unsigned long long)part.offset, (unsigned long long)(part.offset + part.len - 1),
                 (unsigned long long)len);
    if (part.status == 416) {
        close(fd);
        METRIC_ADD(h, http_errors_total, 1);
        snprintf(fields + n, sizeof fields - (size_t)n, "Content-Range: bytes */%llu\r\n",
                 (unsigned long long)len);
        http_error(r, 416, "range", "the artifact has no such bytes", fields);
        return;
    }
    http_answer_file(r, part.status, "application/octet-stream", fd, part.offset, part.len, fields);
}

struct lookup {
    struct artifact artifact;
    bool tree;
};

static enum err look_up(struct job *j, struct store_tx *tx)
{
    struct lookup *l = j->state;
    struct artifact_row row;
    enum err e = tx_artifact_get(tx, span_of(l->artifact.root, SHA256_LEN), &row);
    if (e == ERR_NOTFOUND)
        return JOB_REFUSE(j, 404, "artifact-not-found", "there is no such artifact here");
    if (e || row.payload_sha256.n != SHA256_LEN || row.tree_sha256.n != SHA256_LEN)
        return e ? e : ERR_IO;
    memcpy(l->artifact.payload_sha256, row.payload_sha256.p, SHA256_LEN);
    memcpy(l->artifact.tree_sha256, row.tree_sha256.p, SHA256_LEN);
    l->artifact.known = true;
    return ERR_OK;
}

static void looked_up(struct job *j)
{
    struct lookup *l = j->state;
    cache_put(roost_of(j)->artifacts, &l->artifact);
    serve(j->r, j->h, &l->artifact, l->tree);
    job_release(j);
}

static void start(struct job *j)
{
    struct lookup *l = job_state(j, sizeof *l);
    if (!l)
        return;
    if (!name_parse(j->r->params[0], l->artifact.root, &l->tree))
        (void)job_fail(j, 404, "artifact-not-found", "an artifact is named by 64 hexadecimal digits");
    job_read(j, look_up, looked_up);
}

void artifact_get(struct http_req *r)
{
    static const struct job_call call = { JOB_PUBLIC, 0, JOB_RAW, start };
    struct roost_http *f = r->ctx;
    struct artifact a = { .known = false };
    bool tree;
    if (name_parse(r->params[0], a.root, &tree) && cache_get(f->artifacts, a.root, &a)) {
        METRIC_ADD(f->front.hub, http_requests_total, 1);
        serve(r, f->front.hub, &a, tree);
        return;
    }
    job_start(r, &call);
}
