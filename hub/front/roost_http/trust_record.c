/* hub/front/roost_http/trust_record.c - the chain of trust records: the newest, any, the next. */
#include "hub/domain/update/trust.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

static enum err get(struct job *j, struct store_tx *tx)
{
    struct span raw;
    enum err e = tx_trust_get(tx, (uint32_t) * (uint64_t *)j->state, &raw);
    if (e == ERR_NOTFOUND)
        return JOB_REFUSE(j, 404, "trust-not-found",
                          "no such trust record is published: `roost trust publish` does that");
    if (e)
        return e;
    j->bytes = arena_copy(&j->a, raw);
    j->bytes_type = "application/vnd.roost.trust";
    return ERR_OK;
}

static void start_get(struct job *j)
{
    uint64_t *version = job_state(j, sizeof *version);
    if (!version)
        return;
    (void)in_query_u64(j, "version", UINT32_MAX, version);
    job_read(j, get, NULL);
}

static enum err publish(struct job *j, struct store_tx *tx)
{
    struct trust_published p;
    enum err e = trust_publish(j->h, tx, &j->a, j->who, j->r->body, &p);
    if (e)
        return e;
    switch (p.refusal) {
    case TRUST_FORMAT:
        return JOB_REFUSE(j, 422, "trust-format", "the body is not a trust record");
    case TRUST_VERSION:
        return JOB_REFUSE(
            j, 409, "trust-version",
            "the newest record here has version %u: the next one has to have %u, and no lower epoch",
            p.newest, p.newest + 1);
    case TRUST_SIGNATURES:
        return JOB_REFUSE(
            j, 422, "trust-signatures",
            "the record is for another fleet, or too few of the old and of the new root keys have "
            "signed it");
    case TRUST_TAKEN:
        break;
    }
    json_t *warnings = json_array();
    j->out = json_object();
    if (!warnings || !j->out) {
        json_decref(warnings);
        return ERR_NOMEM;
    }
    if (p.director_missing)
        (void)json_array_append_new(
            warnings, json_string("the record does not list this hub's director key: devices will refuse its "
                                  "tickets; `roost status` shows the key"));
    if (p.releases_barred) {
        char text[120];
        snprintf(text, sizeof text, "%zu releases are no longer signed well enough and will not be offered",
                 p.releases_barred);
        (void)json_array_append_new(warnings, json_string(text));
    }
    json_put(j->out, "version", json_integer(p.version));
    json_put(j->out, "warnings", warnings);
    j->status = p.newest == p.version ? 200 : 201;
    return ERR_OK;
}

JOB_HANDLER(trust_get, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_get);
JOB_STEP_HANDLER(trust_post, JOB_POLICY, ACCESS_REGISTRY_WRITE, job_write, publish, NULL);
