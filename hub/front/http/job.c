/* hub/front/http/job.c - credentials, body, steps, answer. */
#include "hub/front/http/job.h"

#include "base/text.h"
#include "core/sas/sas.h"
#include "hub/domain/access/refusals.h"
#include "hub/domain/event/event.h"
#include "hub/domain/method/method.h"
#include "hub/domain/metrics.h"
#include "hub/domain/rate.h"
#include "hub/front/http/throttled.h"

#include <stdarg.h>
#include <stdlib.h>

static void on_access(struct op *op);
static void refuse(struct job *j);
static void begin(struct job *j, bool counted);

void job_release(struct job *j)
{
    if (j->on_release)
        j->on_release(j);
    json_decref(j->in);
    json_decref(j->out);
    arena_fini(&j->a);
    free(j);
}

/* What is asked for, as tokens name it: the fixed segments of the route, the parameters decoded. */
static struct span canonical_path(struct job *j)
{
    const struct http_req *r = j->r;
    if (!r->route)
        return r->path;
    struct wr w = { NULL, 0, 0 };
    for (int pass = 0; pass < 2; pass++) {
        size_t param = 0;
        for (const char *p = r->route->pattern; *p; p++) {
            if (p[0] == '{' && p[1] == '}' && param < HTTP_PARAMS_MAX) {
                wr_put(&w, r->params[param++]);
                p++;
            } else {
                wr_u8(&w, (uint8_t)*p);
            }
        }
        if (pass == 0)
            w = (struct wr){ arena_alloc(&j->a, w.len + 1), w.len, 0 };
        if (!w.p)
            return SPAN_NONE;
    }
    return wr_span(&w);
}

/* Where it comes from, and whom it says it is: what failures are counted by. */
static struct span source_of(struct job *j, char buf[RATE_SOURCE_MAX])
{
    char peer[64];
    return j->r->conn ? rate_source(span_str(conn_peer(j->r->conn, peer)), buf) : SPAN_NONE;
}

/* The device that a resource names, "host/devices/ID[/...]"; else all of it. */
static struct span device_of(struct span resource)
{
    const uint8_t *slash = resource.n ? memchr(resource.p, '/', resource.n) : NULL;
    struct span rest = slash ? span_skip(resource, (size_t)(slash - resource.p)) : SPAN_NONE;
    const struct span mark = SPAN("/devices/");
    if (rest.n <= mark.n || !span_ieq(span_of(rest.p, mark.n), mark))
        return resource;
    rest = span_skip(rest, mark.n);
    slash = memchr(rest.p, '/', rest.n);
    return slash ? span_of(rest.p, (size_t)(slash - rest.p)) : rest;
}

/* Whose key is tried: there are many ways to spell a resource, and each would be a name of its own. */
static struct span name_of(struct job *j)
{
    struct sas_token t;
    if (!j->check.token.n) /* a certificate: of whom, the path says */
        return j->check.leaf.n ? j->check.device : SPAN_NONE;
    if (sas_parse(j->check.token, &t))
        return SPAN_NONE;
    if (t.policy_len)
        return arena_copy(&j->a, sas_policy(&t));
    if (j->check.device.n)
        return j->check.device;
    struct wr w = { arena_alloc(&j->a, t.sr.n + 1), t.sr.n, 0 };
    if (!w.p)
        return SPAN_NONE;
    percent_decode(&w, t.sr);
    return device_of(wr_span(&w));
}

/* The module that calls by an edge device's gateway. */
static bool edge_module(struct job *j, struct span *device, struct span *module)
{
    const struct span text = http_field(j->r, "x-ms-edge-moduleId");
    const uint8_t *slash = text.n ? memchr(text.p, '/', text.n) : NULL;
    if (!slash)
        return false;
    *device = arena_copy(&j->a, span_of(text.p, (size_t)(slash - text.p)));
    *module = arena_copy(&j->a, span_skip(text, device->n + 1));
    return device->n && module->n;
}

bool job_edge_module(const struct job *j)
{
    return j->call->who == JOB_POLICY_OR_EDGE && !j->check.policy_only;
}

/* Whose credential is wanted. */
static void check_start(struct job *j)
{
    struct sas_token t;
    struct access_check *c = &j->check;
    enum job_who who = j->call->who;
    *c = (struct access_check){ .hub = j->h, .token = http_field(j->r, "Authorization") };
    if (who == JOB_POLICY_OR_OWNER && c->token.n && !sas_parse(c->token, &t) && t.policy_len)
        who = JOB_POLICY;
    if (who == JOB_POLICY_OR_EDGE &&
        ((c->token.n && !sas_parse(c->token, &t) && t.policy_len) || !edge_module(j, &c->device, &c->module)))
        who = JOB_POLICY;
    c->policy_only = who == JOB_POLICY;
    struct span der;
    if (!c->token.n && !c->policy_only && j->r->conn && conn_peer_certificate(j->r->conn, &der)) {
        c->leaf = arena_copy(&j->a, der); /* the connection may end before the check does */
        if (conn_peer_chain(j->r->conn, &der))
            c->chain = arena_copy(&j->a, der);
    }
    c->path = canonical_path(j);
    if (who == JOB_PATH || who == JOB_PATH_MODULE || who == JOB_POLICY_OR_OWNER)
        c->device = j->r->params[0];
    if (who == JOB_PATH_MODULE)
        c->module = j->r->params[1];
    c->store.op.home = worker_mailbox(j->r->worker);
    c->store.op.done = on_access;
    uint64_t now = worker_now_ms(j->r->worker);
    if (j->h->refusals && refusals_are_recent(j->h->refusals, now)) {
        char source[RATE_SOURCE_MAX];
        j->wait_s = refusals_wait_s(j->h->refusals, source_of(j, source), name_of(j), now);
        if (j->wait_s) {
            job_field(j, "Retry-After", "%u", j->wait_s);
            refuse(j);
            return;
        }
    }
    access_start(c);
}

void job_start(struct http_req *r, const struct job_call *call)
{
    struct http_front *front = r->ctx;
    METRIC_ADD(front->hub, http_requests_total, 1);
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        http_error(r, 503, "out-of-memory", "the hub is short of memory: try again", "Retry-After: 5\r\n");
        return;
    }
    j->r = r;
    j->h = front->hub;
    j->front = front;
    j->call = call;
    j->status = 200;
    arena_init(&j->a, JOB_ARENA_MAX);
    if (front->ops->begin)
        front->ops->begin(j);
    if (j->code)
        job_end(j);
    else if (call->who == JOB_PUBLIC)
        begin(j, false);
    else
        check_start(j);
}

const char *job_refused_why(const struct job *j)
{
    enum access_why why = j->check.why;
    return access_why_name(
        why == ACCESS_UNKNOWN || why == ACCESS_NO_KEY || why == ACCESS_PROOF ? ACCESS_SIGNATURE : why);
}

static void refuse(struct job *j)
{
    METRIC_ADD(j->h, http_auth_refused_total, 1);
    if (j->h->refusals && !j->wait_s && j->check.why != ACCESS_RIGHTS) {
        char source[RATE_SOURCE_MAX];
        refusals_note(j->h->refusals, "http", source_of(j, source), name_of(j), access_why_name(j->check.why),
                      worker_now_ms(j->r->worker));
    }
    j->front->ops->refuse(j);
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
    if (!op->err && j->check.policy_only && !(j->granted & j->call->any_of)) {
        j->check.why = ACCESS_RIGHTS;
        op->err = ERR_DENIED;
    }
    if (op->err) {
        refuse(j);
        return;
    }
    if (!j->check.policy_only)
        j->who = span_of(j->check.identity, j->check.identity_len);
    else if (!sas_parse(j->check.token, &t))
        j->who = arena_copy(&j->a, sas_policy(&t));
    begin(j, false);
}

/* counted: by its rate, already. */
static void begin(struct job *j, bool counted)
{
    json_error_t where;
    if (j->call->body != JOB_RAW && j->call->body != JOB_ENTRIES) {
        bool method = j->call->body == JOB_METHOD;
        struct span body = method ? method_call_json(&j->a, j->r->body) : j->r->body;
        j->in = json_loadb((const char *)body.p, body.n, JSON_REJECT_DUPLICATES, &where);
        if (!j->in)
            (void)job_fail(j, 400, "bad-json", "line %d column %d: %s", where.line, where.column, where.text);
        else if (j->call->body != JOB_JSON && !json_is_object(j->in))
            (void)job_fail(j, 400, "bad-json", "the body has to be a JSON object");
        if (j->code) {
            job_end(j);
            return;
        }
    }
    if (!counted && j->call->who != JOB_PUBLIC && j->call->body != JOB_ENTRIES && !job_throttle(j, 0)) {
        job_end(j);
        return;
    }
    j->call->start(j);
}

void job_go_on(struct job *j, const struct job_call *call)
{
    j->call = call;
    begin(j, true);
}

void *job_state(struct job *j, size_t len)
{
    void *state = arena_alloc(&j->a, len);
    if (state)
        j->state = state;
    else
        job_end_err(j, ERR_NOMEM); /* and j is gone */
    return state;
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
    j->fields.len = j->fields_before;
    enum err e = j->run(j, tx);
    return e ? e : arena_err(&j->a);
}

/* False: its error is set, and the job has ended. */
static bool prepare(struct job *j, job_tx *run, job_fn *then)
{
    if (j->code) {
        job_end(j);
        return false;
    }
    j->run = run;
    j->then = then;
    j->fields_before = j->fields.len;
    j->store.run = run_store;
    j->store.op.home = worker_mailbox(j->r->worker);
    j->store.op.done = on_store;
    return true;
}

void job_write(struct job *j, job_tx *run, job_fn *then)
{
    if (prepare(j, run, then))
        store_write(j->h->store, &j->store);
}

void job_read(struct job *j, job_tx *run, job_fn *then)
{
    if (prepare(j, run, then))
        store_read(j->h->store, &j->store);
}

void job_scan(struct job *j, job_tx *run, job_fn *then)
{
    if (prepare(j, run, then))
        store_scan(j->h->store, &j->store);
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
    if (j->code) {
        job_end(j);
        return;
    }
    j->run_pool = run;
    j->then = then;
    j->pool.run = run_on_pool;
    j->pool.op.home = worker_mailbox(j->r->worker);
    j->pool.op.done = on_pool;
    pool_run(j->front->pool, &j->pool);
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
    j->status = j->refused = status;
    j->code = code;
    return false;
}

json_t *job_out_list(struct job *j, const char *name)
{
    json_t *list = json_array();
    json_decref(j->out);
    j->out = json_object();
    return list && !json_object_set_new(j->out, name, list) ? list : NULL;
}

/* Room for n more bytes and a zero behind them. */
static bool fields_room(struct job *j, size_t n)
{
    struct wr *w = &j->fields;
    if (w->len + n < w->cap)
        return true;
    size_t cap = w->cap ? w->cap : 256;
    while (cap <= w->len + n)
        cap *= 2;
    uint8_t *p = arena_alloc(&j->a, cap);
    if (!p)
        return false;
    if (w->len)
        memcpy(p, w->p, w->len);
    *w = (struct wr){ p, cap, w->len };
    return true;
}

void job_field(struct job *j, const char *name, const char *value, ...)
{
    va_list ap;
    va_start(ap, value);
    int n = vsnprintf(NULL, 0, value, ap);
    va_end(ap);
    struct wr *w = &j->fields;
    if (n < 0 || !fields_room(j, strlen(name) + (size_t)n + 4))
        return; /* the arena knows */
    wr_str(w, name);
    wr_str(w, ": ");
    va_start(ap, value);
    vsnprintf((char *)w->p + w->len, (size_t)n + 1, value, ap);
    va_end(ap);
    for (int i = 0; i < n; i++, w->len++) /* a stored text does not make a line of its own */
        if (w->p[w->len] < 0x20 || w->p[w->len] == 0x7f)
            w->p[w->len] = '?';
    wr_str(w, "\r\n");
}

const char *job_fields(struct job *j)
{
    if (!j->fields.len)
        return NULL;
    j->fields.p[j->fields.len] = 0;
    return (const char *)j->fields.p;
}

void job_end(struct job *j)
{
    if (j->code) {
        j->status = j->refused;
        METRIC_ADD(j->h, http_errors_total, 1);
        j->front->ops->answer_error(j);
    } else if (j->bytes_type) {
        http_answer(j->r, j->status, j->bytes_type, j->bytes, job_fields(j));
    } else if (j->out) {
        char *text = json_dumps(j->out, JSON_COMPACT);
        if (text)
            http_answer(j->r, j->status, "application/json; charset=utf-8", span_str(text), job_fields(j));
        else
            http_error(j->r, 503, "out-of-memory", "the hub is short of memory: try again", NULL);
        free(text);
    } else {
        http_answer(j->r, j->status == 200 ? 204 : j->status, NULL, SPAN_NONE, job_fields(j));
    }
    job_release(j);
}

bool job_fail_err(struct job *j, enum err e)
{
    if (!e || j->code)
        return !e;
    switch (e) {
    case ERR_FULL:
        if (event_has_no_room(j->h)) {
            (void)job_fail(
                j, 503, "events-waiting",
                "events of earlier changes wait and have no more room: nothing was taken, try again "
                "later");
            job_field(j, "Retry-After", "10");
            break;
        }
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
    return false;
}

void job_end_err(struct job *j, enum err e)
{
    (void)job_fail_err(j, e);
    job_end(j);
}
