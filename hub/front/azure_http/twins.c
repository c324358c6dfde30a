/* hub/front/azure_http/twins.c - twins of devices and modules, as the service sees them.
 * Source: docs/azure-http.md, "Twins". */
#include "hub/domain/audit.h"
#include "hub/domain/twin/twin_doc.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/routes.h"

struct twin_state {
    struct span id; /* identity */
    struct twin_patch patch;
    struct twin_if cond;
    struct twin_fault fault;
};

/* The identity of the path: the second parameter, when there is one, is the module. */
static struct twin_state *state_new(struct job *j)
{
    struct twin_state *s = arena_alloc(&j->a, sizeof *s);
    struct span device = j->r->params[0], module = j->r->params[1];
    struct wr w = { arena_alloc(&j->a, device.n + module.n + 1), device.n + module.n + 1, 0 };
    j->state = s;
    if (!s || !w.p) {
        job_end_err(j, ERR_NOMEM);
        return NULL;
    }
    wr_put(&w, device);
    if (module.n) {
        wr_u8(&w, '/');
        wr_put(&w, module);
    }
    /* An id has no slash: "d%2Fm" is no other way to say the module m of d. */
    s->id = memchr(w.p, '/', device.n) || (module.n && memchr(w.p + device.n + 1, '/', module.n))
                ? SPAN_NONE
                : wr_span(&w);
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
    if (e && e != ERR_PROTO)
        job_end_err(j, e);
    else if (e)
        job_end(j);
    else
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

void azure_twin_get(struct http_req *r)
{
    static const struct job_call call = { JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_get };
    job_start(r, &call);
}
void azure_twin_patch(struct http_req *r)
{
    static const struct job_call call = { JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_patch };
    job_start(r, &call);
}
void azure_twin_put(struct http_req *r)
{
    static const struct job_call call = { JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_put };
    job_start(r, &call);
}
