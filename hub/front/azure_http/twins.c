/* hub/front/azure_http/twins.c - twins of devices and modules, as the service sees them.
 * Source: docs/azure-http.md, "Twins". */
#include "hub/domain/audit.h"
#include "hub/domain/twin/twin_doc.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/routes.h"
#include "hub/store/identity_name.h"

struct twin_state {
    struct span id; /* identity */
    struct twin_patch patch;
    struct twin_if cond;
    struct twin_fault fault;
};

static bool has_slash(struct span s)
{
    return s.n && memchr(s.p, '/', s.n);
}

/* The identity of the path: the second parameter, when there is one, is the module. */
static struct twin_state *state_new(struct job *j)
{
    struct twin_state *s = job_state(j, sizeof *s);
    if (!s)
        return NULL;
    struct span device = j->r->params[0], module = j->r->params[1];
    /* An id has no slash: "d%2Fm" is no other way to say the module m of d. */
    if (!has_slash(device) && !has_slash(module))
        s->id = identity_name_in(&j->a, device, module);
    (void)job_fail_err(j, arena_err(&j->a));
    return s;
}

static enum err not_found(struct job *j)
{
    struct span device = j->r->params[0], module = j->r->params[1];
    if (module.n)
        return AZURE_REFUSE(j, AZ_DeviceNotFound, "there is no module \"%.*s\" of a device \"%.*s\"",
                            (int)module.n, (const char *)module.p, (int)device.n, (const char *)device.p);
    return AZURE_REFUSE(j, AZ_DeviceNotFound, "there is no device \"%.*s\"", (int)device.n,
                        (const char *)device.p);
}

static enum err answer_twin(struct job *j, struct store_tx *tx, const struct twin *t)
{
    char etag[AZURE_ETAG_MAX];
    enum err e = twin_doc_get(tx, &j->a, t, &j->bytes);
    if (e == ERR_NOTFOUND)
        return not_found(j);
    j->bytes_type = "application/json; charset=utf-8";
    azure_answer_etag(j, azure_etag_binary(t->row.etag, etag));
    return e;
}

static enum err get(struct job *j, struct store_tx *tx)
{
    struct twin_state *s = j->state;
    struct twin t;
    enum err e = twin_get(tx, &j->a, s->id, &t);
    return e == ERR_NOTFOUND ? not_found(j) : e ? e : answer_twin(j, tx, &t);
}

static enum err refuse_fault(struct job *j, const struct twin_fault *f)
{
    return AZURE_REFUSE(j, f->wrong == TWIN_NOT_JSON ? AZ_IotHubFormatError : AZ_ArgumentInvalid, "%s",
                        f->text);
}

static enum err write(struct job *j, struct store_tx *tx)
{
    struct twin_state *s = j->state;
    struct twin t;
    enum err e = twin_update(j->h, tx, &j->a, s->id, &s->patch, &s->cond, &t, &s->fault);
    if (e == ERR_NOTFOUND)
        return not_found(j);
    if (e == ERR_STALE)
        return AZURE_REFUSE(j, AZ_PreconditionFailed, "%s", s->fault.text);
    if (e == ERR_PROTO)
        return refuse_fault(j, &s->fault);
    return e ? e : answer_twin(j, tx, &t);
}

static void start_get(struct job *j)
{
    if (state_new(j))
        job_read(j, get, NULL);
}

static void start_write(struct job *j, bool replace)
{
    struct twin_state *s = state_new(j);
    if (!s)
        return;
    struct azure_match match = azure_if_match(j);
    /* An etag of another form is none of a twin's, so it is not this twin's. */
    if (match.kind == AZURE_MATCH_ETAG && twin_etag_parse(match.etag, &s->cond.etag))
        s->cond.etag = UINT64_MAX;
    enum err e = twin_service_patch(&j->a, j->r->body, replace, &s->patch, &s->fault);
    if (e == ERR_PROTO)
        (void)refuse_fault(j, &s->fault);
    (void)job_fail_err(j, e);
    job_write(j, write, NULL);
}
static void start_patch(struct job *j)
{
    start_write(j, false);
}
static void start_put(struct job *j)
{
    start_write(j, true);
}

JOB_HANDLER(azure_twin_get, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_get);
JOB_HANDLER(azure_twin_patch, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_patch);
JOB_HANDLER(azure_twin_put, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_put);
