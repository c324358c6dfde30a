/* hub/front/azure_http/device_bound.c - cloud-to-device messages fetched one at a time: receive under a lock,
 * complete, reject, abandon. Some clients look header names up with case: they are written as those expect.
 */
#include "base/text.h"
#include "core/bag/bag.h"
#include "hub/domain/message/c2d_lock.h"
#include "hub/domain/metrics.h"
#include "hub/front/azure_http/activity.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/routes.h"

#define APP_NAME_MAX 256u

struct fetch {
    struct c2d_fetch c2d; /* first */
    struct job *j;
};

static bool is_token(struct span s) /* RFC 9110 section 5.6.2 */
{
    static const char more[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            !(c && strchr(more, c)))
            return false;
    }
    return s.n > 0;
}

static void field_span(struct job *j, const char *name, struct span v)
{
    if (v.n)
        job_field(j, name, "%.*s", (int)v.n, (const char *)v.p);
}

static void field_time(struct job *j, const char *name, uint64_t wall_ms)
{
    uint8_t text[32];
    struct wr w = { text, sizeof text, 0 };
    iso8601_encode(&w, wall_ms);
    field_span(j, name, wr_span(&w));
}

/* The properties of the message; true when it says itself where it goes. */
static bool put_properties(struct job *j, struct span bag)
{
    struct wr mem = { arena_alloc(&j->a, bag.n + 1), bag.n, 0 };
    struct bag_item item;
    bool to = false;
    while (mem.p && bag_next(&bag, &mem, &item) == ERR_OK) {
        switch (bag_system_of_wire(item.name)) {
        case BAG_MESSAGE_ID:
            field_span(j, "iothub-messageid", item.value);
            break;
        case BAG_CORRELATION_ID:
            field_span(j, "iothub-correlationid", item.value);
            break;
        case BAG_USER_ID:
            field_span(j, "iothub-userid", item.value);
            break;
        case BAG_TO:
            field_span(j, "iothub-to", item.value);
            to = true;
            break;
        case BAG_CONTENT_TYPE: /* one client reads this spelling, another one that */
            field_span(j, "ContentType", item.value);
            field_span(j, "iothub-contenttype", item.value);
            break;
        case BAG_CONTENT_ENCODING:
            field_span(j, "ContentEncoding", item.value);
            field_span(j, "iothub-contentencoding", item.value);
            break;
        case -1: /* a name that no header can have stays behind */
            if (is_token(item.name) && item.name.n < APP_NAME_MAX) {
                char name[APP_NAME_MAX + 16];
                snprintf(name, sizeof name, "iothub-app-%.*s", (int)item.name.n, (const char *)item.name.p);
                field_span(j, name, item.value);
            }
            break;
        default:
            break;
        }
    }
    return to;
}

static void fetched(struct op *op)
{
    static const char *const acks[] = { "none", "positive", "negative", "full" };
    struct fetch *f = (struct fetch *)(void *)op;
    struct job *j = f->j;
    const struct c2d_fetch *c = &f->c2d;
    if (op->err == ERR_LIMIT)
        (void)azure_fail(j, AZ_ThrottlingException, "too many messages are locked: settle some, or wait");
    if (op->err && op->err != ERR_LIMIT) {
        job_end_err(j, op->err);
        return;
    }
    activity_note(j);
    if (op->err || !c->found) {
        job_end(j);
        return;
    }
    job_field(j, "ETag", "\"%s\"", c->token);
    if (!put_properties(j, c->props))
        job_field(j, "iothub-to", "/devices/%.*s/messages/devicebound", (int)c->device.n,
                  (const char *)c->device.p);
    if (c->ack)
        job_field(j, "iothub-ack", "%s", acks[c->ack & 3]);
    job_field(j, "iothub-sequencenumber", "%llu", (unsigned long long)c->seq);
    job_field(j, "iothub-deliverycount", "%u", c->deliveries);
    field_time(j, "iothub-enqueuedtime", c->enqueued_ms);
    if (c->expires_ms)
        field_time(j, "iothub-expiry", c->expires_ms);
    j->bytes = arena_copy(&j->a, c->body);
    j->bytes_type = "application/octet-stream";
    c2d_fetch_fini(&f->c2d);
    /* Half of a message is none: it is locked, and comes again. */
    if (job_fail_err(j, arena_err(&j->a)))
        METRIC_ADD(j->h, c2d_delivered_total, 1);
    job_end(j);
}

static void start_get(struct job *j)
{
    struct fetch *f = arena_alloc(&j->a, sizeof *f);
    if (!f) {
        job_end_err(j, ERR_NOMEM);
        return;
    }
    *f = (struct fetch){ .c2d = { .hub = j->h, .device = j->r->params[0] }, .j = j };
    f->c2d.store.op.home = worker_mailbox(j->r->worker);
    f->c2d.store.op.done = fetched;
    c2d_fetch_start(&f->c2d);
}

/* ---- settling --------------------------------------------------------------------------------------- */

struct verdict {
    struct c2d_verdict_op c2d; /* first */
    struct job *j;
};

static void settled(struct op *op)
{
    struct job *j = ((struct verdict *)(void *)op)->j;
    if (op->err == ERR_NOTFOUND) {
        (void)azure_fail(j, AZ_DeviceMessageLockLost, "the lock of this message is not held any more");
    } else if (op->err) {
        job_end_err(j, op->err);
        return;
    }
    activity_note(j);
    job_end(j);
}

static void settle(struct job *j, enum c2d_verdict verdict)
{
    struct verdict *v = arena_alloc(&j->a, sizeof *v);
    if (!v) {
        job_end_err(j, ERR_NOMEM);
        return;
    }
    *v = (struct verdict){
        .c2d = { .hub = j->h, .device = j->r->params[0], .token = j->r->params[1], .verdict = verdict },
        .j = j
    };
    v->c2d.store.op.home = worker_mailbox(j->r->worker);
    v->c2d.store.op.done = settled;
    c2d_verdict_start(&v->c2d);
}

/* "reject" in the query, whatever its value; one client spells it "%3Freject". */
static bool asks_reject(struct span query)
{
    while (query.n) {
        uint8_t name[16];
        struct wr w = { name, sizeof name, 0 };
        size_t end = 0, eq;
        while (end < query.n && query.p[end] != '&')
            end++;
        for (eq = 0; eq < end && query.p[eq] != '='; eq++)
            ;
        percent_decode(&w, span_of(query.p, eq));
        struct span s = wr_ok(&w) ? wr_span(&w) : SPAN_NONE;
        if (s.n && s.p[0] == '?')
            s = span_skip(s, 1);
        if (span_ieq(s, SPAN("reject")))
            return true;
        query = span_skip(query, end < query.n ? end + 1 : end);
    }
    return false;
}

static void start_delete(struct job *j)
{
    settle(j, asks_reject(j->r->query) ? C2D_REJECT : C2D_COMPLETE);
}
static void start_abandon(struct job *j)
{
    settle(j, C2D_ABANDON);
}

JOB_HANDLER(azure_bound_get, JOB_PATH, 0, JOB_RAW, start_get);
JOB_HANDLER(azure_bound_delete, JOB_PATH, 0, JOB_RAW, start_delete);
JOB_HANDLER(azure_bound_abandon, JOB_PATH, 0, JOB_RAW, start_abandon);
