/* hub/front/azure_http/registry_jobs.c - import and export jobs: /jobs/create, /jobs. Source:
 * docs/registry.md.
 */
#include "hub/domain/job/registry_job.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/routes.h"
#include "hub/front/http/fleet_json.h"

#define LIST_MAX 1000u

/* ---- documents ------------------------------------------------------------------------------------------
 */

struct shown {
    const struct fleet_job_row *row;
    struct registry_job_body body;
};

static void put_text(struct wr *w, const char *name, struct span s, bool there)
{
    if (there)
        member_text(w, name, s);
    else
        member_raw(w, name, SPAN("null"));
}

/* Addresses of containers carry signatures: they are neither kept nor shown. */
static void write_job(struct wr *w, const void *item)
{
    const struct shown *s = item;
    const struct fleet_job_row *r = s->row;
    bool import = r->kind == FLEET_JOB_IMPORT;
    wr_str(w, "{\"jobId\":");
    member_string(w, r->id);
    member_text(w, "type", span_str(fleet_job_kind_name(r->kind)));
    member_text(w, "status",
                r->state == FLEET_JOB_QUEUED ? SPAN("enqueued") : span_str(fleet_job_state_name(r->state)));
    member_number(w, "progress", registry_job_progress(r, &s->body));
    member_time(w, "startTimeUtc", r->created_ms);
    if (r->end_ms)
        member_time(w, "endTimeUtc", r->end_ms);
    else
        member_raw(w, "endTimeUtc", SPAN("null"));
    member_raw(w, "inputBlobContainerUri", SPAN("null"));
    member_raw(w, "outputBlobContainerUri", SPAN("null"));
    put_text(w, "inputBlobName", s->body.blob, import);
    put_text(w, "outputBlobName", s->body.blob, !import);
    put_text(w, "errorsBlobName", s->body.errors, import);
    put_text(w, "importMode", s->body.mode, import);
    member_bool(w, "excludeKeysInExport", s->body.exclude_keys);
    member_text(w, "storageAuthenticationType",
                s->body.by_identity ? SPAN("identityBased") : SPAN("keyBased"));
    member_raw(w, "identity", SPAN("null")); /* who reads and writes is this hub */
    member_bool(w, "includeConfigurations", s->body.configurations.n > 0);
    put_text(w, "configurationsBlobName", s->body.configurations, s->body.configurations.n > 0);
    member_number(w, "totalCount", r->total);
    member_number(w, "succeededCount", r->succeeded);
    member_number(w, "failedCount", r->failed);
    put_text(w, "failureReason", r->reason, r->reason.n > 0);
    wr_u8(w, '}');
}

static enum err answer(struct job *j, const struct fleet_job_row *r)
{
    struct shown s = { .row = r };
    enum err e = registry_job_body(&j->a, r->body, &s.body);
    return e ? e : fleet_answer(j, write_job, &s);
}

/* ---- create ---------------------------------------------------------------------------------------------
 */

static enum azure_error error_of(const struct registry_job_fault *f)
{
    return f->wrong == REGISTRY_BAD_CONTAINER ? AZ_BlobContainerValidationError : AZ_ArgumentInvalid;
}

static enum err create(struct job *j, struct store_tx *tx)
{
    struct fleet_job_row r;
    struct registry_job_fault f;
    enum err e = registry_job_create(j->h, tx, &j->a, j->state, &r, &f);
    if (e == ERR_LIMIT)
        return AZURE_REFUSE(j, AZ_JobQuotaExceeded,
                            "an import or export runs already: wait for its end, or cancel it");
    if (e == ERR_PROTO)
        return AZURE_REFUSE(j, error_of(&f), "%s", f.text);
    return e ? e : answer(j, &r);
}

static void created(struct job *j)
{
    registry_jobs_poke(j->h);
    job_end(j);
}

static bool flag(struct job *j, const struct jnode *o, const char *name, bool *out)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    if (n && n->kind != JNULL && n->kind != JTRUE && n->kind != JFALSE)
        return azure_fail(j, AZ_ArgumentInvalid, "member \"%s\" has to be true or false", name);
    *out = n && n->kind == JTRUE;
    return true;
}

static bool read_type(struct job *j, const struct jnode *o, struct registry_job_new *n)
{
    struct span s = SPAN_NONE;
    int kind = -1;
    if (!fleet_text(j, o, "type", &s))
        return false;
    if (fleet_job_kind_parse(s, &kind) || (kind != FLEET_JOB_EXPORT && kind != FLEET_JOB_IMPORT))
        return azure_fail(j, AZ_ArgumentInvalid, "type has to be import or export");
    n->kind = (uint8_t)kind;
    return true;
}

static bool read_storage(struct job *j, const struct jnode *o, struct registry_job_new *n)
{
    struct span s = SPAN_NONE;
    if (!fleet_text(j, o, "storageAuthenticationType", &s))
        return false;
    n->by_identity = span_ieq(s, SPAN("identityBased"));
    return !s.n || n->by_identity || span_ieq(s, SPAN("keyBased")) ||
           azure_fail(j, AZ_ArgumentInvalid, "storageAuthenticationType has to be keyBased or identityBased");
}

static bool read_job(struct job *j, struct registry_job_new *n)
{
    struct jnode *o;
    return fleet_body(j, &o) && read_type(j, o, n) && read_storage(j, o, n) &&
           fleet_text(j, o, "inputBlobContainerUri", &n->input) &&
           fleet_text(j, o, "outputBlobContainerUri", &n->output) &&
           fleet_text(j, o, "inputBlobName", &n->input_blob) &&
           fleet_text(j, o, "outputBlobName", &n->output_blob) &&
           fleet_text(j, o, "errorsBlobName", &n->errors_blob) &&
           fleet_text(j, o, "configurationsBlobName", &n->configurations_blob) &&
           fleet_text(j, o, "importMode", &n->mode) && flag(j, o, "excludeKeysInExport", &n->exclude_keys) &&
           flag(j, o, "includeConfigurations", &n->configurations);
}

static void start_create(struct job *j)
{
    struct registry_job_fault f;
    struct registry_job_new *n = job_state(j, sizeof *n);
    if (!n)
        return;
    *n = (struct registry_job_new){ .who = j->who };
    enum err e = read_job(j, n) ? registry_job_check(j->h, &j->a, n, &f) : ERR_OK;
    if (e == ERR_PROTO)
        (void)azure_fail(j, error_of(&f), "%s", f.text);
    (void)job_fail_err(j, e);
    job_write(j, create, created);
}

/* ---- read, list, cancel ---------------------------------------------------------------------------------
 */

static enum err get(struct job *j, struct store_tx *tx)
{
    struct fleet_job_row r;
    enum err e = registry_job_get(tx, &j->a, j->r->params[0], &r);
    if (e == ERR_NOTFOUND)
        return AZURE_REFUSE(j, AZ_JobNotFound, "there is no such import or export");
    return e ? e : answer(j, &r);
}

struct listing {
    struct fleet_array list;
};

static enum err list_one(void *ctx, const struct fleet_job_row *r)
{
    struct listing *l = ctx;
    struct shown s = { .row = r };
    enum err e = registry_job_body(l->list.a, r->body, &s.body);
    return e ? e : fleet_array_add(&l->list, write_job, &s);
}

static enum err list(struct job *j, struct store_tx *tx)
{
    struct listing l = { .list = { .a = &j->a } };
    struct fleet_job_filter f = {
        .before = INT64_MAX, .kind = FLEET_JOB_REGISTRY, .state = -1, .limit = LIST_MAX
    };
    enum err e = tx_fleet_job_list(tx, &f, list_one, &l);
    fleet_answer_array(j, &l.list);
    return e;
}

static enum err cancel(struct job *j, struct store_tx *tx)
{
    struct fleet_job_row r;
    enum err e = registry_job_get(tx, &j->a, j->r->params[0], &r);
    if (!e)
        e = fleet_job_cancel(j->h, tx, &j->a, j->r->params[0], true, j->who, &r);
    if (e == ERR_NOTFOUND)
        return AZURE_REFUSE(j, AZ_JobNotFound, "there is no such import or export");
    if (e == ERR_STALE)
        return AZURE_REFUSE(j, AZ_OperationNotAllowedInCurrentState,
                            "a job that has ended cannot be cancelled");
    j->status = e ? j->status : 204;
    return e;
}

JOB_HANDLER(azure_registry_job_post, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_RAW, start_create);
JOB_STEP_HANDLER(azure_registry_job_get, JOB_POLICY, ACCESS_REGISTRY_READ, job_read, get, NULL);
JOB_STEP_HANDLER(azure_registry_jobs_list, JOB_POLICY, ACCESS_REGISTRY_READ, job_read, list, NULL);
JOB_STEP_HANDLER(azure_registry_job_delete, JOB_POLICY, ACCESS_REGISTRY_WRITE, job_write, cancel, created);
