/* hub/front/azure_http/jobs.c - jobs over many devices: /jobs/v2. Source: docs/jobs.md. */
#include "base/text.h"
#include "hub/domain/job/fleet_job.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/routes.h"
#include "hub/front/http/fleet_json.h"

#include <stdio.h>

#define ITEM_TYPE "JobResponse"

/* ---- documents ------------------------------------------------------------------------------------------
 */

static void write_job(struct wr *w, const void *item)
{
    const struct fleet_job_row *r = item;
    wr_str(w, "{\"jobId\":");
    member_string(w, r->id);
    member_text(w, "type", span_str(fleet_job_kind_name(r->kind)));
    member_text(w, "status", span_str(fleet_job_state_name(r->state)));
    member_time(w, "createdTime", r->created_ms);
    member_time(w, "startTime", r->start_ms);
    member_time(w, "endTime", r->end_ms);
    if (r->kind == FLEET_JOB_TWIN || r->kind == FLEET_JOB_METHOD) {
        member_text(w, "queryCondition", r->condition);
        member_number(w, "maxExecutionTimeInSeconds", r->max_s);
        member_raw(w, r->kind == FLEET_JOB_TWIN ? "updateTwin" : "cloudToDeviceMethod", r->body);
        member_raw(w, "deviceJobStatistics", SPAN("{\"deviceCount\":"));
        member_uint(w, r->total);
        member_number(w, "failedCount", r->failed + r->canceled);
        member_number(w, "succeededCount", r->succeeded);
        member_number(w, "runningCount", r->running);
        member_number(w, "pendingCount", fleet_job_pending(r));
        wr_u8(w, '}');
    }
    if (r->reason.n)
        member_text(w, "failureReason", r->reason);
    else
        member_raw(w, "failureReason", SPAN("null"));
    member_raw(w, "statusMessage", SPAN("null"));
    wr_u8(w, '}');
}

/* ---- create ---------------------------------------------------------------------------------------------
 */

static enum err create(struct job *j, struct store_tx *tx)
{
    struct fleet_job_row r;
    enum err e = fleet_job_create(j->h, tx, &j->a, j->state, &r);
    if (e == ERR_EXISTS)
        return AZURE_REFUSE(j, AZ_JobAlreadyExists, "there is a job of this id already");
    if (e == ERR_LIMIT)
        return AZURE_REFUSE(j, AZ_ThrottlingMaxActiveJobCountExceeded,
                            "%u jobs run or wait for their time already", FLEET_JOBS_ACTIVE_MAX);
    return e ? e : fleet_answer(j, write_job, &r);
}

static void created(struct job *j)
{
    fleet_jobs_poke(j->h);
    job_end(j);
}

/* What is to be done, as text: the member that goes with the type. */
static bool read_body(struct job *j, const struct jnode *o, struct fleet_job_new *n)
{
    const char *name = n->kind == FLEET_JOB_TWIN ? "updateTwin" : "cloudToDeviceMethod";
    const struct jnode *b = jtree_get(o, span_str(name)), *etag = jtree_get(b, SPAN("etag"));
    if (!b || b->kind != JOBJECT)
        return azure_fail(j, AZ_ArgumentInvalid, "member \"%s\" has to be an object", name);
    if (n->kind == FLEET_JOB_TWIN &&
        (!etag || etag->kind != JSTRING || !span_eq(azure_etag_bare(etag->text), SPAN("*"))))
        return azure_fail(j, AZ_ArgumentInvalid,
                          "updateTwin: the etag is missing or invalid, it has to be \"*\"");
    n->body = jtree_text(&j->a, b);
    return true;
}

static bool read_job(struct job *j, struct fleet_job_new *n)
{
    struct jnode *o;
    struct span type = SPAN_NONE, id = n->id;
    int kind = 0;
    if (!fleet_body(j, &o) || !fleet_text(j, o, "jobId", &id) || !fleet_text(j, o, "type", &type) ||
        !fleet_text(j, o, "queryCondition", &n->condition) || !fleet_time(j, o, "startTime", &n->start_ms) ||
        !fleet_number(j, o, "maxExecutionTimeInSeconds", UINT32_MAX, &n->max_s))
        return false;
    if (!span_eq(id, n->id))
        return azure_fail(j, AZ_ArgumentInvalid, "jobId of the body is not the one of the path");
    if (fleet_job_kind_parse(type, &kind) || kind > FLEET_JOB_METHOD)
        return azure_fail(j, AZ_ArgumentInvalid, "type has to be scheduleUpdateTwin or scheduleDeviceMethod");
    n->kind = (uint8_t)kind;
    return read_body(j, o, n);
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
        (void)azure_fail(j, AZ_ArgumentInvalid, "%s", f.text);
    (void)job_fail_err(j, e);
    job_write(j, create, created);
}

/* ---- read, cancel ---------------------------------------------------------------------------------------
 */

static void write_unknown(struct wr *w, const void *item)
{
    wr_str(w, "{\"jobId\":");
    member_string(w, *(const struct span *)item);
    wr_str(w, ",\"type\":\"unknown\",\"status\":\"unknown\"}");
}

static enum err get(struct job *j, struct store_tx *tx)
{
    struct fleet_job_row r;
    enum err e = fleet_job_get(tx, &j->a, j->r->params[0], &r);
    if (e == ERR_NOTFOUND)
        return fleet_answer(j, write_unknown, &j->r->params[0]);
    return e ? e : fleet_answer(j, write_job, &r);
}

static enum err cancel(struct job *j, struct store_tx *tx)
{
    struct fleet_job_row r;
    enum err e = fleet_job_cancel(j->h, tx, &j->a, j->r->params[0], false, j->who, &r);
    if (e == ERR_NOTFOUND)
        return AZURE_REFUSE(j, AZ_JobNotFound, "there is no such job");
    if (e == ERR_STALE)
        return AZURE_REFUSE(j, AZ_OperationNotAllowedInCurrentState,
                            "a job that runs or has ended cannot be cancelled");
    return e ? e : fleet_answer(j, write_job, &r);
}

/* ---- list -----------------------------------------------------------------------------------------------
 */

static enum err list(struct job *j, struct store_tx *tx)
{
    struct fleet_job_page *p = j->state;
    char next[24] = "";
    enum err e = fleet_job_page_read(j, tx);
    if (e)
        return e;
    fleet_answer_array(j, &p->list);
    if (p->more)
        snprintf(next, sizeof next, "%llu", (unsigned long long)p->last);
    azure_answer_page(j, ITEM_TYPE, span_str(next));
    return ERR_OK;
}

/* pageSize and continuationToken are what older documentation calls them. */
static bool read_page(struct job *j, struct fleet_job_page *p)
{
    struct azure_page page;
    struct span s;
    uint64_t n;
    if (!azure_page(j, &page))
        return false;
    if (http_query(j->r, "pageSize", &s) && s.n && !u64_parse(s, AZURE_PAGE_MAX, &n) && n)
        page.max = (uint32_t)n;
    if (http_query(j->r, "continuationToken", &s) && s.n)
        page.continuation = s;
    if (page.continuation.n && u64_parse(page.continuation, INT64_MAX, &p->filter.before))
        return azure_fail(j, AZ_ArgumentInvalid, "the continuation is none that this hub has handed out");
    p->max = page.max;
    return true;
}

static bool read_filter(struct job *j, struct fleet_job_page *p)
{
    struct span s;
    if (http_query(j->r, "jobType", &s) && s.n && fleet_job_kind_parse(s, &p->filter.kind))
        return azure_fail(j, AZ_ArgumentInvalid, "jobType is not known");
    if (http_query(j->r, "jobStatus", &s) && s.n && fleet_job_state_parse(s, &p->filter.state)) {
        if (!span_ieq(s, SPAN("enqueued")) && !span_ieq(s, SPAN("unknown")))
            return azure_fail(j, AZ_ArgumentInvalid, "jobStatus is not known");
        p->filter.state = INT8_MAX; /* none has it */
    }
    return read_page(j, p);
}

static void start_list(struct job *j)
{
    struct fleet_job_page *p = fleet_job_page_new(j, write_job);
    if (!p)
        return;
    (void)read_filter(j, p);
    job_read(j, list, NULL);
}

JOB_HANDLER(azure_job_put, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_put);
JOB_STEP_HANDLER(azure_job_get, JOB_POLICY, ACCESS_SERVICE_CONNECT, job_read, get, NULL);
JOB_STEP_HANDLER(azure_job_cancel, JOB_POLICY, ACCESS_SERVICE_CONNECT, job_write, cancel, created);
JOB_HANDLER(azure_jobs_list, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_list);
