/* hub/front/roost_http/releases.c - releases: taken, listed, handed out as they were signed. */
#include "base/text.h"
#include "hub/domain/metrics.h"
#include "hub/domain/update/release.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

static enum err add(void *ctx, const struct release_row *r)
{
    return json_array_append_new(ctx, release_json(r)) ? ERR_NOMEM : ERR_OK;
}

static enum err list(struct job *j, struct store_tx *tx)
{
    json_t *arr = job_out_list(j, "releases");
    if (!arr)
        return ERR_NOMEM;
    return tx_release_list(tx, add, arr);
}

static enum err get(struct job *j, struct store_tx *tx)
{
    struct release_row r;
    enum err e = tx_release_get(tx, span_of(j->state, OBJECT_ID_LEN), &r);
    if (e == ERR_NOTFOUND)
        return JOB_REFUSE(j, 404, "release-not-found",
                          "there is no such release: `roost release list` shows the ones there are");
    if (e)
        return e;
    j->bytes = arena_copy(&j->a, r.envelope);
    j->bytes_type = "application/vnd.roost.release";
    return ERR_OK;
}

static void start_get(struct job *j)
{
    uint8_t *id = job_state(j, OBJECT_ID_LEN);
    if (!id)
        return;
    if (hex_decode(j->r->params[0], id, OBJECT_ID_LEN))
        (void)job_fail(j, 400, "bad-release-id", "a release id has 64 hexadecimal digits");
    job_read(j, get, NULL);
}

static enum err refuse(struct job *j, const struct release_added *r)
{
    char hex[2 * SHA256_LEN + 1] = "";
    struct wr w = { (uint8_t *)hex, sizeof hex - 1, 0 };
    hex_encode(&w, span_of(r->artifact, SHA256_LEN));
    switch (r->refusal) {
    case RELEASE_FORMAT:
        return JOB_REFUSE(j, 422, "release-format", "the body is not a release manifest");
    case RELEASE_NO_TRUST:
        return JOB_REFUSE(
            j, 422, "no-trust-record",
            "no trust record is published yet, so nobody may sign a release: `roost trust publish`");
    case RELEASE_SIGNATURES:
        return JOB_REFUSE(
            j, 422, "release-signatures",
            "not signed by enough release keys that the newest trust record lists for this product: "
            "`roost release sign`");
    case RELEASE_NO_ARTIFACT:
        return JOB_REFUSE(j, 422, "artifact-missing", "artifact %s is not here: push it first", hex);
    case RELEASE_ARTIFACT_LEN:
        return JOB_REFUSE(j, 422, "artifact-differs", "artifact %s is not what the release describes", hex);
    case RELEASE_SEQ_TAKEN:
        return JOB_REFUSE(j, 409, "release-sequence",
                          "another release of this product and class has release_seq %u: raise it",
                          r->release.release_seq);
    case RELEASE_TAKEN:
        break;
    }
    return ERR_OK;
}

static enum err push(struct job *j, struct store_tx *tx)
{
    struct release_added r;
    struct release_row row;
    enum err e = release_add(j->h, tx, &j->a, j->who, j->r->body, &r);
    if (!e && r.refusal)
        e = refuse(j, &r);
    if (!e)
        e = tx_release_get(tx, span_of(r.id, sizeof r.id), &row);
    if (e)
        return e;
    j->status = r.existed ? 200 : 201;
    j->out = release_json(&row);
    return j->out ? ERR_OK : ERR_NOMEM;
}

JOB_STEP_HANDLER(releases_list, JOB_POLICY, ACCESS_REGISTRY_READ, job_read, list, NULL);
JOB_HANDLER(release_get_one, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_get);
JOB_STEP_HANDLER(release_post, JOB_POLICY, ACCESS_REGISTRY_WRITE, job_write, push, NULL);
