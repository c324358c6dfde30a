/* hub/front/roost_http/jobs.c - jobs over many devices by the hub's own interface. */
#include "base/text.h"
#include "hub/domain/job/fleet_job.h"
#include "hub/front/http/fleet_json.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

#define LIST_MAX 200u

/* ---- documents ------------------------------------------------------------------------------------------
 */

static void write_job(struct wr *w, const void *item)
{
    static const char *const types[] = { "twin", "method", "export", "import" };
    const struct fleet_job_row *r = item;
    wr_str(w, "{\"id\":");
    member_string(w, r->id);
    member_text(w, "type", span_str(r->kind < 4 ? types[r->kind] : "?"));
    member_text(w, "status", span_str(fleet_job_state_name(r->state)));
    member_text(w, "where", r->condition);
    member_time(w, "created", r->created_ms);
    member_text(w, "createdBy", r->created_by);
    member_time(w, "start", r->start_ms);
    member_time(w, "began", r->began_ms);
    member_time(w, "end", r->end_ms);
    member_number(w, "maxSeconds", r->max_s);
    if (r->reason.n)
        member_text(w, "reason", r->reason);
    member_bool(w, "allFound", r->selected);
    member_raw(w, "devices", SPAN("{\"total\":"));
    member_uint(w, r->total);
    member_number(w, "succeeded", r->succeeded);
    member_number(w, "failed", r->failed);
    member_number(w, "running", r->running);
    member_number(w, "pending", fleet_job_pending(r));
    member_number(w, "canceled", r->canceled);
    wr_u8(w, '}');
    member_raw(w, "does", r->body);
    wr_u8(w, '}');
}

/* ---- create ---------------------------------------------------------------------------------------------
 */

static enum err create(struct job *j, struct store_tx *tx)
{
    struct fleet_job_row r;
    enum err e = fleet_job_create(j->h, tx, &j->a, j->state, &r);
    if (e == ERR_EXISTS)
        return JOB_REFUSE(j, 409, "job-exists", "there is a job of this id already: choose another one");
    if (e == ERR_LIMIT)
        return JOB_REFUSE(j, 429, "too-many-jobs",
                          "%u jobs run or wait for their time already: cancel one, or wait for its end",
                          FLEET_JOBS_ACTIVE_MAX);
    j->status = 201;
    return e ? e : fleet_answer(j, write_job, &r);
}

static void changed(struct job *j)
{
    fleet_jobs_poke(j->h);
    job_end(j);
}

/* A copy of a member under another name; nothing when it is absent. */
static void carry(struct job *j, struct jtree_list *l, const struct jnode *o, const char *from,
                  const char *to)
{
    const struct jnode *n = jtree_get(o, span_str(from));
    struct jnode *copy = n && n->kind != JNULL ? jtree_copy(&j->a, n) : NULL;
    if (copy) {
        copy->key = span_str(to);
        jtree_add(l, copy);
    }
}

/* {"tags":{},"desired":{}} or {"name","payload",...} in the form that jobs are stored in. */
static bool read_what(struct job *j, const struct jnode *o, struct fleet_job_new *n)
{
    static const char *const of_twin[] = { "tags", "desired", NULL };
    static const char *const of_method[] = { "name", "payload", "responseTimeoutSeconds",
                                             "connectTimeoutSeconds", NULL };
    const struct jnode *twin = jtree_get(o, SPAN("twin")), *method = jtree_get(o, SPAN("method"));
    struct jnode *body = jtree_new(&j->a, JOBJECT), *props = jtree_new(&j->a, JOBJECT);
    if (!twin == !method)
        return job_fail(j, 400, "bad-member", "one of \"twin\" and \"method\" is wanted");
    if ((twin ? twin : method)->kind != JOBJECT)
        return job_fail(j, 400, "bad-member", "\"twin\" or \"method\" has to be an object");
    if (!fleet_only(j, twin ? twin : method, twin ? of_twin : of_method))
        return false;
    if (!body || !props)
        return job_fail_err(j, ERR_NOMEM);
    struct jtree_list l = jtree_list(body), lp = jtree_list(props);
    n->kind = twin ? FLEET_JOB_TWIN : FLEET_JOB_METHOD;
    if (twin) {
        carry(j, &l, twin, "tags", "tags");
        carry(j, &lp, twin, "desired", "desired");
        props->key = SPAN("properties");
        jtree_add(&l, props);
    } else {
        carry(j, &l, method, "name", "methodName");
        carry(j, &l, method, "payload", "payload");
        carry(j, &l, method, "responseTimeoutSeconds", "responseTimeoutInSeconds");
        carry(j, &l, method, "connectTimeoutSeconds", "connectTimeoutInSeconds");
    }
    n->body = jtree_text(&j->a, body);
    return true;
}

static bool read_job(struct job *j, struct fleet_job_new *n)
{
    static const char *const names[] = { "where", "twin", "method", "start", "maxSeconds", NULL };
    struct jnode *o;
    if (!fleet_body_once(j, &o))
        return false;
    if (!fleet_only(j, o, names))
        return false;
    if (!fleet_text(j, o, "where", &n->condition) || !fleet_time(j, o, "start", &n->start_ms) ||
        !fleet_number(j, o, "maxSeconds", UINT32_MAX, &n->max_s))
        return false;
    if (!n->condition.n)
        return job_fail(j, 400, "missing-member", "member \"where\" is missing: \"*\" means every device");
    return read_what(j, o, n);
}

static void start_put(struct job *j)
{
    struct fleet_job_fault f;
    struct fleet_job_new *n = job_state(j, sizeof *n);
    if (!n)
        return;
    *n = (struct fleet_job_new){ .id = j->r->params[0], .who = j->who };
    enum err e = read_job(j, n) ? fleet_job_check(j->h, &j->a, n, &f) : ERR_OK;
    if (e == ERR_PROTO)
        (void)job_fail(j, 400, "bad-job", "%s", f.text);
    (void)job_fail_err(j, e);
    job_write(j, create, changed);
}

/* ---- read, cancel, list ---------------------------------------------------------------------------------
 */

static enum err not_found(struct job *j)
{
    return JOB_REFUSE(j, 404, "job-not-found", "there is no such job");
}

static enum err get(struct job *j, struct store_tx *tx)
{
    struct fleet_job_row r;
    enum err e = fleet_job_get(tx, &j->a, j->r->params[0], &r);
    return e == ERR_NOTFOUND ? not_found(j) : e ? e : fleet_answer(j, write_job, &r);
}

static enum err cancel(struct job *j, struct store_tx *tx)
{
    struct fleet_job_row r;
    enum err e = fleet_job_cancel(j->h, tx, &j->a, j->r->params[0], true, j->who, &r);
    if (e == ERR_STALE)
        return JOB_REFUSE(j, 409, "job-ended", "the job has ended already");
    return e == ERR_NOTFOUND ? not_found(j) : e ? e : fleet_answer(j, write_job, &r);
}

static void write_listing(struct wr *w, const void *item)
{
    const struct fleet_job_page *p = item;
    wr_str(w, "{\"jobs\":");
    wr_put(w, p->list.nr ? wr_span(&p->list.out) : SPAN("[]"));
    if (p->more)
        member_number(w, "next", p->last);
    wr_u8(w, '}');
}

static enum err list(struct job *j, struct store_tx *tx)
{
    struct fleet_job_page *p = j->state;
    enum err e = fleet_job_page_read(j, tx);
    if (e)
        return e;
    (void)fleet_array_end(&p->list);
    return fleet_answer(j, write_listing, p);
}

static void start_list(struct job *j)
{
    struct fleet_job_page *p = fleet_job_page_new(j, write_job);
    struct span s;
    if (!p)
        return;
    p->max = LIST_MAX;
    if (in_query_u64(j, "limit", LIST_MAX, &p->max) &&
        in_query_u64(j, "before", INT64_MAX, &p->filter.before) && http_query(j->r, "status", &s) &&
        fleet_job_state_parse(s, &p->filter.state))
        (void)job_fail(j, 400, "bad-query",
                       "status has to be queued, scheduled, running, completed, failed or cancelled");
    job_read(j, list, NULL);
}

JOB_HANDLER(job_put_one, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_put);
JOB_STEP_HANDLER(job_get_one, JOB_POLICY, ACCESS_SERVICE_CONNECT, job_read, get, NULL);
JOB_STEP_HANDLER(job_cancel_one, JOB_POLICY, ACCESS_SERVICE_CONNECT, job_write, cancel, changed);
JOB_HANDLER(jobs_list, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_list);
