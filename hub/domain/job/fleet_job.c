/* hub/domain/job/fleet_job.c - jobs as they are asked for, shown, cancelled and remembered. */
#include "hub/domain/job/fleet_job.h"

#include "hub/domain/audit.h"
#include "hub/domain/job/fleet_job_impl.h"
#include "hub/domain/json_members.h"
#include "hub/domain/query/query.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- names --------------------------------------------------------------------------------------------- */

static const char *const kinds[] = { "scheduleUpdateTwin", "scheduleDeviceMethod", "export", "import" };
static const char *const states[] = { "queued", "scheduled", "running", "completed", "failed", "cancelled" };
#define NR(list) (sizeof(list) / sizeof(list)[0])

const char *fleet_job_kind_name(unsigned kind)
{
    return kind < NR(kinds) ? kinds[kind] : "unknown";
}
const char *fleet_job_state_name(unsigned state)
{
    return state < NR(states) ? states[state] : "unknown";
}

static enum err find(struct span text, const char *const *names, size_t nr, int *out)
{
    for (size_t i = 0; i < nr; i++)
        if (span_ieq(text, span_str(names[i]))) {
            *out = (int)i;
            return ERR_OK;
        }
    return ERR_PROTO;
}
enum err fleet_job_kind_parse(struct span text, int *kind)
{
    return find(text, kinds, NR(kinds), kind);
}
enum err fleet_job_state_parse(struct span text, int *state)
{
    return find(text, states, NR(states), state);
}

/* ---- checking ------------------------------------------------------------------------------------------ */

static enum err wrong(struct fleet_job_fault *f, const char *text, ...) LOG_PRINTF(2, 3);
static enum err wrong(struct fleet_job_fault *f, const char *text, ...)
{
    va_list ap;
    va_start(ap, text);
    vsnprintf(f->text, sizeof f->text, text, ap);
    va_end(ap);
    return ERR_PROTO;
}

static bool id_ok(struct span id)
{
    for (size_t i = 0; i < id.n; i++) {
        uint8_t c = id.p[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '\'')
            return false;
    }
    return id.n >= 1 && id.n <= FLEET_JOB_ID_MAX;
}

static enum err seconds(const struct jnode *o, const char *name, uint64_t min, uint64_t max, uint64_t *out,
                        struct fleet_job_fault *f)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    if (!n || n->kind == JNULL)
        return ERR_OK;
    if (n->kind != JNUMBER || u64_parse(n->text, max, out) || *out < min)
        return wrong(f, "%s has to be a whole number from %llu to %llu", name, (unsigned long long)min,
                     (unsigned long long)max);
    return ERR_OK;
}

enum err fleet_job_method(struct arena *a, struct span body, struct fleet_method *out,
                          struct fleet_job_fault *f)
{
    struct jnode *o;
    uint64_t response_s = METHOD_RESPONSE_DEFAULT_S, connect_s = 0;
    enum err e = jtree_parse(a, body, &o, NULL);
    if (e == ERR_NOMEM)
        return e;
    if (e || o->kind != JOBJECT)
        return wrong(f, "the method call has to be a JSON object");
    const struct jnode *name = jtree_get(o, SPAN("methodName")), *payload = jtree_get(o, SPAN("payload"));
    if (!name || name->kind != JSTRING || !method_name_ok(name->text))
        return wrong(f, "methodName has to be 1 to %u printable ASCII characters", METHOD_NAME_MAX);
    e = seconds(o, "responseTimeoutInSeconds", METHOD_RESPONSE_MIN_S, METHOD_RESPONSE_MAX_S, &response_s, f);
    if (!e)
        e = seconds(o, "connectTimeoutInSeconds", 0, METHOD_CONNECT_MAX_S, &connect_s, f);
    if (e)
        return e;
    *out = (struct fleet_method){ .name = name->text,
                                  .payload = payload ? jtree_text(a, payload) : SPAN_NONE,
                                  .response_ms = (uint32_t)response_s * 1000,
                                  .connect_ms = (uint32_t)connect_s * 1000 };
    if (out->payload.n > METHOD_PAYLOAD_MAX)
        return wrong(f, "a payload has at most %u bytes", METHOD_PAYLOAD_MAX);
    return arena_err(a);
}

enum err fleet_job_check(struct hub *h, struct arena *a, const struct fleet_job_new *in,
                         struct fleet_job_fault *f)
{
    struct twin_patch patch;
    struct twin_fault twin = { .wrong = TWIN_FINE };
    struct fleet_method method;
    if (!id_ok(in->id))
        return wrong(f, "a job id has 1 to %u characters: a to z, 0 to 9, - and '", FLEET_JOB_ID_MAX);
    if (query_characters(in->condition) > QUERY_TEXT_MAX)
        return wrong(f, "a condition has at most %u characters", QUERY_TEXT_MAX);
    if (in->start_ms > h->wall_ms() + FLEET_JOB_AHEAD_MAX_MS)
        return wrong(f, "the start time may be 168 hours away at most");
    if (in->max_s > FLEET_JOB_RUN_MAX_S)
        return wrong(f, "the execution time may be %u seconds at most", FLEET_JOB_RUN_MAX_S);
    if (in->kind == FLEET_JOB_METHOD)
        return fleet_job_method(a, in->body, &method, f);
    enum err e = twin_service_patch(a, in->body, false, &patch, &twin);
    if (e == ERR_PROTO)
        return wrong(f, "%s", twin.text);
    if (!e && !patch.tags.patch && !patch.desired.patch)
        return wrong(f, "the twin update has neither tags nor properties.desired");
    return e;
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

enum err fleet_job_copy(struct arena *a, const struct fleet_job_row *in, struct fleet_job_row *out)
{
    *out = *in;
    out->id = arena_copy(a, in->id);
    out->condition = arena_copy(a, in->condition);
    out->body = arena_copy(a, in->body);
    out->reason = arena_copy(a, in->reason);
    out->created_by = arena_copy(a, in->created_by);
    return arena_err(a);
}

enum err fleet_job_get(struct store_tx *tx, struct arena *a, struct span id, struct fleet_job_row *out)
{
    struct fleet_job_row r;
    enum err e = tx_fleet_job_get(tx, id, &r);
    return e ? e : fleet_job_copy(a, &r, out);
}

enum err fleet_job_create(struct hub *h, struct store_tx *tx, struct arena *a, const struct fleet_job_new *in,
                          struct fleet_job_row *out)
{
    const uint64_t now = h->wall_ms();
    uint64_t active = 0, seq;
    struct fleet_job_row r = { .id = in->id,
                               .kind = in->kind,
                               .state = in->start_ms > now ? FLEET_JOB_SCHEDULED : FLEET_JOB_QUEUED,
                               .open = true,
                               .condition = in->condition,
                               .body = in->body,
                               .created_by = in->who,
                               .created_ms = now,
                               .start_ms = in->start_ms > now ? in->start_ms : now,
                               .max_s = in->max_s ? (uint32_t)in->max_s : FLEET_JOB_RUN_DEFAULT_S };
    struct fleet_job_row there;
    enum err e = tx_fleet_job_get(tx, in->id, &there);
    if (e != ERR_NOTFOUND)
        return e ? e : ERR_EXISTS;
    e = tx_fleet_job_active(tx, FLEET_JOB_TWIN, FLEET_JOB_METHOD, &active);
    if (!e && active >= FLEET_JOBS_ACTIVE_MAX)
        return ERR_LIMIT;
    if (!e)
        e = tx_fleet_job_add(tx, &r, &seq);
    if (!e)
        e = audit_push(h, tx, in->who, "job.create", in->id, "%s", fleet_job_kind_name(in->kind));
    return e ? e : fleet_job_get(tx, a, in->id, out);
}

enum err fleet_job_cancel(struct hub *h, struct store_tx *tx, struct arena *a, struct span id, bool running,
                          struct span who, struct fleet_job_row *out)
{
    struct fleet_job_row r;
    enum err e = fleet_job_get(tx, a, id, &r);
    if (e)
        return e;
    if (r.state > FLEET_JOB_RUNNING || (r.state == FLEET_JOB_RUNNING && !running))
        return ERR_STALE;
    r.open = r.state == FLEET_JOB_RUNNING; /* its devices have to be told off */
    r.state = FLEET_JOB_CANCELLED;
    r.end_ms = h->wall_ms();
    e = tx_fleet_job_put(tx, &r);
    if (!e)
        e = audit_push(h, tx, who, "job.cancel", id, "%s", "");
    if (!e)
        *out = r;
    return e;
}

/* ---- what came of each device -------------------------------------------------------------------------- */

static void record_write(struct wr *w, const struct fleet_job_row *job, const struct fleet_device_row *r)
{
    static const char *const names[] = { "pending", "running", "completed", "failed", "canceled" };
    size_t n = 0;
    while (n < r->id.n && r->id.p[n] != '/')
        n++;
    wr_str(w, "{\"deviceId\":");
    member_string(w, span_of(r->id.p, n));
    if (n < r->id.n)
        member_text(w, "moduleId", span_skip(r->id, n + 1));
    member_text(w, "jobId", job->id);
    member_text(w, "jobType", span_str(fleet_job_kind_name(job->kind)));
    member_text(w, "status", span_str(r->state < NR(names) ? names[r->state] : "failed"));
    member_time(w, "startTimeUtc", r->start_ms);
    member_time(w, "endTimeUtc", r->end_ms);
    member_time(w, "createdDateTimeUtc", r->created_ms);
    member_time(w, "lastUpdatedDateTimeUtc",
                r->end_ms     ? r->end_ms
                : r->start_ms ? r->start_ms
                              : r->created_ms);
    if (r->outcome.n) {
        wr_str(w, r->state == FLEET_DEVICE_COMPLETED ? ",\"outcome\":" : ",\"error\":");
        wr_put(w, r->outcome);
    }
    wr_u8(w, '}');
}

struct records {
    fleet_record_json *each;
    void *ctx;
    uint8_t text[2 * FLEET_JOB_OUTCOME_MAX];
};

static enum err each_record(void *ctx, const struct fleet_job_row *job, const struct fleet_device_row *r)
{
    struct records *k = ctx;
    struct wr w = { k->text, sizeof k->text, 0 };
    record_write(&w, job, r);
    return k->each(k->ctx, r->nr, wr_span(&w));
}

enum err fleet_job_records(struct store_tx *tx, struct span job, uint64_t after_seq, fleet_record_json *each,
                           void *ctx)
{
    struct records k = { .each = each, .ctx = ctx };
    return tx_fleet_device_walk(tx, job, after_seq, each_record, &k);
}
