/* hub/front/roost_http/job.c - credentials, body, steps, answer. */
#include "hub/front/roost_http/job.h"

#include "core/sas/sas.h"
#include "hub/domain/metrics.h"

#include <stdarg.h>
#include <stdlib.h>

static void on_access(struct op *op);
static void begin(struct job *j);

void job_release(struct job *j)
{
    json_decref(j->in);
    json_decref(j->out);
    arena_fini(&j->a);
    free(j);
}

void job_start(struct http_req *r, const struct job_call *call)
{
    struct roost_http *f = r->ctx;
    METRIC_ADD(f->hub, http_requests_total, 1);
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        http_error(r, 503, "out-of-memory", "the hub is short of memory: try again", "Retry-After: 5\r\n");
        return;
    }
    j->r = r;
    j->h = f->hub;
    j->f = f;
    j->call = call;
    j->status = 200;
    arena_init(&j->a, JOB_ARENA_MAX);
    if (call->who == JOB_PUBLIC) {
        begin(j);
        return;
    }
    j->check = (struct access_check){ .hub = j->h,
                                      .token = http_field(r, "Authorization"),
                                      .policy_only = call->who == JOB_POLICY,
                                      .path = r->path };
    j->check.store.op.home = worker_mailbox(r->worker);
    j->check.store.op.done = on_access;
    access_start(&j->check);
}

/* Without a good signature nobody learns which devices and policies there are. */
static enum access_why told_why(enum access_why why)
{
    return why == ACCESS_UNKNOWN || why == ACCESS_NO_KEY ? ACCESS_SIGNATURE : why;
}

static void refuse(struct job *j)
{
    const char *why = access_why_name(told_why(j->check.why));
    METRIC_ADD(j->h, http_auth_refused_total, 1);
    if (j->check.why == ACCESS_RIGHTS) {
        (void)job_fail(j, 403, "forbidden", "the policy does not have the right for this request");
    } else {
        (void)job_fail(j, 401, "unauthorized",
                       "the shared access signature was refused (%s): check key, clock and host name", why);
        job_field(j, "WWW-Authenticate", "SharedAccessSignature");
    }
    job_end(j);
}

static void on_access(struct op *op)
{
    struct job *j = CONTAINER_OF(op, struct job, check.store.op);
    struct sas_token t;
    if (op->err && op->err != ERR_DENIED) {
        job_end_err(j, op->err);
        return;
    }
    j->granted = j->check.granted;
    if (!op->err && j->call->who == JOB_POLICY && !(j->granted & j->call->any_of)) {
        j->check.why = ACCESS_RIGHTS;
        op->err = ERR_DENIED;
    }
    if (op->err) {
        refuse(j);
        return;
    }
    if (j->call->who == JOB_DEVICE)
        j->who = span_of(j->check.identity, j->check.identity_len);
    else if (!sas_parse(j->check.token, &t))
        j->who = arena_copy(&j->a, sas_policy(&t));
    begin(j);
}

static void begin(struct job *j)
{
    json_error_t where;
    if (j->call->json) {
        j->in = json_loadb((const char *)j->r->body.p, j->r->body.n, JSON_REJECT_DUPLICATES, &where);
        if (!j->in)
            (void)job_fail(j, 400, "bad-json", "line %d column %d: %s", where.line, where.column, where.text);
        else if (!json_is_object(j->in))
            (void)job_fail(j, 400, "bad-json", "the body has to be a JSON object");
        if (j->code) {
            job_end(j);
            return;
        }
    }
    j->call->start(j);
}

void job_go_on(struct job *j, const struct job_call *call)
{
    j->call = call;
    begin(j);
}

/* ---- steps ------------------------------------------------------------------------------------------ */

static void step_over(struct job *j, enum err e)
{
    if (!e)
        e = arena_err(&j->a);
    if (j->code || e || !j->then) {
        if (e && !j->code)
            job_end_err(j, e);
        else
            job_end(j);
        return;
    }
    j->then(j);
}

static void on_store(struct op *op)
{
    step_over((struct job *)op, op->err);
}

static enum err run_store(struct store_tx *tx, struct store_op *self)
{
    struct job *j = (struct job *)self;
    json_decref(j->out); /* the store may run an op again when the first transaction failed */
    j->out = NULL;
    j->code = NULL;
    enum err e = j->run(j, tx);
    return e ? e : arena_err(&j->a);
}

static void prepare(struct job *j, job_tx *run, job_fn *then)
{
    j->run = run;
    j->then = then;
    j->store.run = run_store;
    j->store.op.home = worker_mailbox(j->r->worker);
    j->store.op.done = on_store;
}

void job_write(struct job *j, job_tx *run, job_fn *then)
{
    prepare(j, run, then);
    store_write(j->h->store, &j->store);
}

void job_read(struct job *j, job_tx *run, job_fn *then)
{
    prepare(j, run, then);
    store_read(j->h->store, &j->store);
}

static enum err run_on_pool(struct pool_op *self)
{
    struct job *j = CONTAINER_OF(self, struct job, pool);
    return j->run_pool(j);
}

static void on_pool(struct op *op)
{
    step_over(CONTAINER_OF(op, struct job, pool.op), op->err);
}

void job_pool(struct job *j, enum err (*run)(struct job *j), job_fn *then)
{
    j->run_pool = run;
    j->then = then;
    j->pool.run = run_on_pool;
    j->pool.op.home = worker_mailbox(j->r->worker);
    j->pool.op.done = on_pool;
    pool_run(j->f->pool, &j->pool);
}

/* ---- the answer ------------------------------------------------------------------------------------- */

bool job_fail(struct job *j, unsigned status, const char *code, const char *message, ...)
{
    if (j->code)
        return false;
    va_list ap;
    va_start(ap, message);
    vsnprintf(j->message, sizeof j->message, message, ap);
    va_end(ap);
    j->status = status;
    j->code = code;
    return false;
}

void job_field(struct job *j, const char *name, const char *value, ...)
{
    char text[256];
    size_t at = strlen(j->fields);
    va_list ap;
    va_start(ap, value);
    int n = vsnprintf(text, sizeof text, value, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text || at + strlen(name) + (size_t)n + 5 > sizeof j->fields)
        return;
    snprintf(j->fields + at, sizeof j->fields - at, "%s: %s\r\n", name, text);
}

void job_end(struct job *j)
{
    const char *fields = j->fields[0] ? j->fields : NULL;
    if (j->code) {
        METRIC_ADD(j->h, http_errors_total, 1);
        http_error(j->r, j->status, j->code, j->message, fields);
    } else if (j->bytes_type) {
        http_answer(j->r, j->status, j->bytes_type, j->bytes, fields);
    } else if (j->out) {
        char *text = json_dumps(j->out, JSON_COMPACT);
        if (text)
            http_answer(j->r, j->status, "application/json", span_str(text), fields);
        else
            http_error(j->r, 503, "out-of-memory", "the hub is short of memory: try again", NULL);
        free(text);
    } else {
        http_answer(j->r, j->status == 200 ? 204 : j->status, NULL, SPAN_NONE, fields);
    }
    job_release(j);
}

void job_end_err(struct job *j, enum err e)
{
    switch (e) {
    case ERR_FULL:
        (void)job_fail(j, 507, "disk-full", "the hub's disk is full: nothing was taken, try again later");
        job_field(j, "Retry-After", "60");
        break;
    case ERR_NOMEM:
        (void)job_fail(j, 503, "out-of-memory", "the hub is short of memory: try again");
        job_field(j, "Retry-After", "5");
        break;
    case ERR_STOPPED:
        (void)job_fail(j, 503, "stopping", "the hub is going down: try again when it is back");
        job_field(j, "Retry-After", "5");
        break;
    default:
        log_error("http.internal", "err=%s path=%.*s", err_name(e), (int)j->r->path.n,
                  (const char *)j->r->path.p);
        (void)job_fail(j, 500, "internal", "the hub could not do this: its log says why");
        break;
    }
    job_end(j);
}
