/* hub/front/azure_http/digital_twins.c - GET and PATCH /digitaltwins/{id}; commands are in methods.c. */
#include "hub/domain/twin/twin_digital.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/routes.h"
#include "hub/front/http/fleet_json.h"

struct digital_state {
    struct twin_if cond;
    struct twin_fault fault;
};

static enum err not_found(struct job *j)
{
    return AZURE_REFUSE(j, AZ_DeviceNotFound, "there is no device \"%.*s\"", (int)j->r->params[0].n,
                        (const char *)j->r->params[0].p);
}

static void answer_etag(struct job *j, const struct twin *t)
{
    char etag[AZURE_ETAG_MAX];
    azure_answer_etag(j, azure_etag_binary(t->row.etag, etag));
}

static void write_digital(struct wr *w, const void *item)
{
    twin_digital_write(w, item);
}

static enum err get(struct job *j, struct store_tx *tx)
{
    struct twin t;
    enum err e = twin_get(tx, &j->a, j->r->params[0], &t);
    if (e)
        return e == ERR_NOTFOUND ? not_found(j) : e;
    answer_etag(j, &t);
    return fleet_answer(j, write_digital, &t);
}

static enum err patch(struct job *j, struct store_tx *tx)
{
    static const enum azure_error errors[] = { [DIGITAL_FINE] = AZ_InvalidDigitalTwinPatch,
                                               [DIGITAL_NO_PATCH] = AZ_InvalidDigitalTwinJsonPatch,
                                               [DIGITAL_BAD_OP] = AZ_InvalidDigitalTwinPatch,
                                               [DIGITAL_BAD_PATH] = AZ_InvalidDigitalTwinPatchPath,
                                               [DIGITAL_BAD_VALUE] = AZ_InvalidDigitalTwinPayload };
    struct digital_state *s = j->state;
    struct span id = j->r->params[0];
    enum twin_digital_wrong wrong = DIGITAL_FINE;
    struct twin_patch p;
    struct twin t;
    enum err e = twin_get(tx, &j->a, id, &t);
    if (!e)
        e = twin_digital_patch(&j->a, j->r->body, t.desired, &p, &wrong, &s->fault);
    if (!e)
        e = twin_update(j->h, tx, &j->a, id, &p, &s->cond, &t, &s->fault);
    if (e == ERR_NOTFOUND)
        return not_found(j);
    if (e == ERR_STALE)
        return AZURE_REFUSE(j, AZ_PreconditionFailed, "%s", s->fault.text);
    if (e == ERR_PROTO)
        return AZURE_REFUSE(j, errors[wrong], "%s", s->fault.text);
    if (e)
        return e;
    j->status = 202;
    answer_etag(j, &t);
    job_field(j, "Location", "/digitaltwins/%.*s", (int)id.n, (const char *)id.p);
    return ERR_OK;
}

static void start_patch(struct job *j)
{
    struct digital_state *s = job_state(j, sizeof *s);
    if (!s)
        return;
    struct azure_match match = azure_if_match(j);
    if (match.kind == AZURE_MATCH_ETAG && twin_etag_parse(match.etag, &s->cond.etag))
        s->cond.etag = UINT64_MAX; /* no twin's */
    job_write(j, patch, NULL);
}

JOB_STEP_HANDLER(azure_digital_get, JOB_POLICY, ACCESS_SERVICE_CONNECT, job_read, get, NULL);
JOB_HANDLER(azure_digital_patch, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_patch);
