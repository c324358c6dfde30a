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

static enum err answer(struct job *j, const struct fleet_job_row *r)
{
    j->bytes = fleet_document(&j->a, write_job, r);
    j->bytes_type = "application/json";
    return arena_err(&j->a);
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
    return e ? e : answer(j, &r);
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

/* A name that is misspelled must not be left out silently: it would be missing on every device. */
static bool only(struct job *j, const struct jnode *o, const char *const *names)
{
    for (const struct jnode *m = o->first; m; m = m->next) {
        size_t i = 0;
        while (names[i] && !span_eq(m->key, span_str(names[i])))
            i++;
        if (!names[i])
            return job_fail(j, 400, "unknown-member", "member \"%.*s\" is not known here",
                            (int)(m->key.n < 64 ? m->key.n : 64), (const char *)m->key.p);
    }
    return true;
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
    if (!only(j, twin ? twin : method, twin ? of_twin : of_method))
        return false;
    if (!body || !props)
        return job_fail(j, 503, "out-of-memory", "the hub is short of memory: try again");
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
    if (!only(j, o, names))
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
    struct fleet_job_new *n = arena_alloc(&j->a, sizeof *n);
    if (!n) {
        job_end_err(j, ERR_NOMEM);
        return;
    }
    *n = (struct fleet_job_new){ .id = j->r->params[0], .who = j->who };
    j->state = n;
    enum err e = read_job(j, n) ? fleet_job_check(j->h, &j->a, n, &f) : ERR_OK;
    if (e == ERR_PROTO)
        (void)job_fail(j, 400, "bad-job", "%s", f.text);
    if (e && e != ERR_PROTO)
        job_end_err(j, e);
    else if (j->code)
        job_end(j);
    else
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
    return e == ERR_NOTFOUND ? not_found(j) : e ? e : answer(j, &r);
}

static enum err cancel(struct job *j, struct store_tx *tx)
{
    struct fleet_job_row r;
    enum err e = fleet_job_cancel(j->h, tx, &j->a, j->r->params[0], true, j->who, &r);
    if (e == ERR_STALE)
        return JOB_REFUSE(j, 409, "job-ended", "the job has ended already");
    return e == ERR_NOTFOUND ? not_found(j) : e ? e : answer(j, &r);
}

struct listing {
    struct fleet_job_filter filter;
    uint64_t limit, last;
    struct fleet_array list;
    bool more;
};

static enum err list_one(void *ctx, const struct fleet_job_row *r)
{
    struct listing *l = ctx;
    l->more = l->list.nr == l->limit || l->list.out.len > FLEET_PAGE_BYTES;
    if (l->more)
        return ERR_STOPPED;
    l->last = r->seq;
    return fleet_array_add(&l->list, write_job, r);
}

static void write_listing(struct wr *w, const void *item)
{
    const struct listing *l = item;
    wr_str(w, "{\"jobs\":");
    wr_put(w, l->list.nr ? wr_span(&l->list.out) : SPAN("[]"));
    if (l->more)
        member_number(w, "next", l->last);
    wr_u8(w, '}');
}

static enum err list(struct job *j, struct store_tx *tx)
{
    struct listing *l = j->state;
    l->list = (struct fleet_array){ .a = &j->a };
    l->more = false;
    enum err e = tx_fleet_job_list(tx, &l->filter, list_one, l);
    if (e && e != ERR_STOPPED)
        return e;
    (void)fleet_array_end(&l->list);
    j->bytes = fleet_document(&j->a, write_listing, l);
    j->bytes_type = "application/json";
    return arena_err(&j->a);
}

static void start_list(struct job *j)
{
    struct listing *l = arena_alloc(&j->a, sizeof *l);
    struct span s;
    if (!l) {
        job_end_err(j, ERR_NOMEM);
        return;
    }
    l->filter = (struct fleet_job_filter){ .before = INT64_MAX, .kind = -1, .state = -1 };
    l->limit = LIST_MAX;
    j->state = l;
    if (in_query_u64(j, "limit", LIST_MAX, &l->limit) &&
        in_query_u64(j, "before", INT64_MAX, &l->filter.before) && http_query(j->r, "status", &s) &&
        fleet_job_state_parse(s, &l->filter.state))
        (void)job_fail(j, 400, "bad-query",
                       "status has to be queued, scheduled, running, completed, failed or cancelled");
    l->filter.limit = l->limit + 1;
    if (j->code)
        job_end(j);
    else
        job_read(j, list, NULL);
}

static void start_get(struct job *j)
{
    job_read(j, get, NULL);
}
static void start_cancel(struct job *j)
{
    job_write(j, cancel, changed);
}

void job_put_one(struct http_req *r)
{
    static const struct job_call call = { JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_put };
    job_start(r, &call);
}
void job_get_one(struct http_req *r)
{
    static const struct job_call call = { JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_get };
    job_start(r, &call);
}
void job_cancel_one(struct http_req *r)
{
    static const struct job_call call = { JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_cancel };
    job_start(r, &call);
}
void jobs_list(struct http_req *r)
{
    static const struct job_call call = { JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_list };
    job_start(r, &call);
}
