/* hub/front/roost_http/uploads.c - pieces of artifacts come in, and become artifacts when both hashes are
 * right. All disk work is done on the pool. */
#include "base/text.h"
#include "core/trust/chunk_tree.h"
#include "hub/domain/audit.h"
#include "hub/domain/metrics.h"
#include "hub/domain/update/release.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

struct upload {
    struct span name;
    uint64_t from, to, total; /* of this piece; to is inclusive */
    uint64_t have;            /* kept after it */
};

static bool name_ok(struct job *j, struct span name)
{
    bool ok = name.n >= 1 && name.n <= 64;
    for (size_t i = 0; ok && i < name.n; i++) {
        uint8_t c = name.p[i];
        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
             c == '_';
    }
    return ok ? true
              : job_fail(j, 400, "bad-upload-name", "an upload name has 1 to 64 letters, digits, - and _");
}

/* "bytes a-b/total" */
static bool content_range(struct job *j, struct upload *u)
{
    struct span s = http_field(j->r, "Content-Range"), parts[3];
    static const uint8_t sep[3] = { '-', '/', 0 };
    bool ok = span_starts(s, SPAN("bytes "));
    if (ok)
        s = span_skip(s, 6);
    for (size_t i = 0; ok && i < 3; i++) {
        const uint8_t *p = sep[i] && s.n ? memchr(s.p, sep[i], s.n) : s.p + s.n;
        ok = p != NULL;
        if (ok) {
            parts[i] = span_of(s.p, (size_t)(p - s.p));
            s = sep[i] ? span_skip(s, parts[i].n + 1) : SPAN_NONE;
        }
    }
    ok = ok && !u64_parse(parts[0], ARTIFACT_LEN_MAX, &u->from) &&
         !u64_parse(parts[1], ARTIFACT_LEN_MAX, &u->to) && !u64_parse(parts[2], ARTIFACT_LEN_MAX, &u->total);
    if (!ok || u->from > u->to || u->to >= u->total)
        return job_fail(j, 400, "bad-content-range",
                        "Content-Range has to be \"bytes FIRST-LAST/TOTAL\", with a total of at most %u",
                        ARTIFACT_LEN_MAX);
    if (u->to - u->from + 1 != j->r->body.n)
        return job_fail(j, 400, "bad-content-range",
                        "Content-Range does not agree with the length of the body");
    return true;
}

static enum err open_upload(struct job *j, struct blob_upload **up)
{
    struct upload *u = j->state;
    enum err e = blob_upload_open(j->h->blob, u->name, up, &u->have);
    if (e == ERR_AGAIN || e == ERR_EXISTS)
        return JOB_REFUSE(j, 409, "upload-busy", "another request writes this upload: try again");
    return e;
}

static enum err write_piece(struct job *j)
{
    struct upload *u = j->state;
    struct blob_upload *up;
    enum err e = open_upload(j, &up);
    if (e)
        return e;
    e = blob_upload_write(up, u->from, j->r->body);
    if (!e)
        u->have = u->to + 1;
    blob_upload_close(up);
    job_field(j, "Upload-Offset", "%llu", (unsigned long long)u->have);
    if (e == ERR_STALE)
        return JOB_REFUSE(j, 409, "upload-offset", "the next piece has to start at %llu",
                          (unsigned long long)u->have);
    return e;
}

static enum err look(struct job *j)
{
    struct upload *u = j->state;
    struct blob_upload *up;
    enum err e = open_upload(j, &up);
    if (e)
        return e;
    blob_upload_close(up);
    if (!u->have) { /* looking leaves nothing behind */
        e = blob_upload_discard(j->h->blob, u->name);
        if (e == ERR_NOTFOUND)
            e = ERR_OK;
    }
    job_field(j, "Upload-Offset", "%llu", (unsigned long long)u->have);
    return e;
}

static struct upload *upload_of(struct job *j)
{
    struct upload *u = job_state(j, sizeof *u);
    if (!u)
        return NULL;
    u->name = j->r->params[0];
    (void)name_ok(j, u->name);
    return u;
}

static void looked(struct job *j)
{
    j->bytes_type = "application/json"; /* 200 with an empty body: HEAD has none anyway */
    job_end(j);
}

static void start_put(struct job *j)
{
    struct upload *u = upload_of(j);
    if (!u)
        return;
    (void)content_range(j, u);
    job_pool(j, write_piece, NULL);
}
static void start_head(struct job *j)
{
    if (upload_of(j))
        job_pool(j, look, looked);
}

/* ---- POST /roost/v1/artifacts ------------------------------------------------------------------------ */

static enum err ingest(struct job *j)
{
    return artifact_ingest(j->h, j->state);
}

static enum err store(struct job *j, struct store_tx *tx)
{
    struct artifact_ingest *in = j->state;
    struct artifact_row row = artifact_ingest_row(in);
    uint8_t hex[2 * SHA256_LEN];
    struct wr w = { hex, sizeof hex, 0 };
    hex_encode(&w, row.root);
    enum err e = tx_artifact_put(tx, &row);
    if (!e)
        e = audit_push(j->h, tx, j->who, "artifact.add", wr_span(&w), "%llu bytes",
                       (unsigned long long)in->payload_len);
    if (e)
        return e;
    j->status = 201;
    j->out = json_object();
    if (!j->out)
        return ERR_NOMEM;
    json_put(j->out, "root", json_span(wr_span(&w)));
    json_put(j->out, "sha256", json_hex(row.payload_sha256));
    json_put(j->out, "length", json_integer((json_int_t)in->payload_len));
    return ERR_OK;
}

static void ingested(struct job *j)
{
    static const struct {
        const char *code, *message;
    } refusals[] = {
        [ARTIFACT_NO_PAYLOAD] = { "upload-missing", "nothing was uploaded under the name in \"payload\"" },
        [ARTIFACT_NO_TREE] = { "upload-missing", "nothing was uploaded under the name in \"tree\"" },
        [ARTIFACT_SHAPE] = { "artifact-shape", "the payload is empty or too long, or \"chunkCode\" or "
                                               "\"fanOut\" does not fit" },
        [ARTIFACT_PAYLOAD_SUM] = { "artifact-hash", "the payload has another SHA-256: upload it again" },
        [ARTIFACT_ROOT] = { "artifact-root", "the chunk tree of this payload has another root" },
        [ARTIFACT_TREE] = { "artifact-tree", "the tree file is not that of this payload: upload it again" },
    };
    struct artifact_ingest *in = j->state;
    if (in->refusal) {
        METRIC_ADD(j->h, releases_refused_total, 1);
        (void)job_fail(j, 422, refusals[in->refusal].code, "%s", refusals[in->refusal].message);
    }
    job_write(j, store, NULL);
}

static void start_artifact(struct job *j)
{
    static const char *const names[] = { "payload", "tree", "root", "sha256", "chunkCode", "fanOut", NULL };
    struct artifact_ingest *in = job_state(j, sizeof *in);
    uint64_t code = CHUNK_CODE_DEFAULT, fan_out = CHUNK_FAN_OUT_DEFAULT;
    if (!in)
        return;
    if (in_only(j, j->in, names) && in_text(j, j->in, "payload", IN_REQUIRED, 64, &in->payload) &&
        in_text(j, j->in, "tree", IN_REQUIRED, 64, &in->tree) && name_ok(j, in->payload) &&
        name_ok(j, in->tree) && in_hex(j, j->in, "root", in->root, SHA256_LEN) &&
        in_hex(j, j->in, "sha256", in->payload_sha256, SHA256_LEN) &&
        in_u64(j, j->in, "chunkCode", IN_OPTIONAL, UINT8_MAX, &code) &&
        in_u64(j, j->in, "fanOut", IN_OPTIONAL, UINT8_MAX, &fan_out)) {
        in->chunk_code = (uint8_t)code;
        in->fan_out = (uint8_t)fan_out;
    }
    job_pool(j, ingest, ingested);
}

JOB_HANDLER(upload_put, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_RAW, start_put);
JOB_HANDLER(upload_head, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_RAW, start_head);
JOB_HANDLER(artifact_post, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_OBJECT, start_artifact);
