/* hub/front/azure_http/device_messages.c - telemetry that devices and modules post, one message or a batch.
 */
#include "base/text.h"
#include "core/bag/bag.h"
#include "hub/domain/message/telemetry.h"
#include "hub/front/azure_http/activity.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/device_batch.h"
#include "hub/front/azure_http/routes.h"

struct posted { /* one request on its way; in the arena */
    struct telemetry_put first;
    struct job *j;
};

static uint8_t auth_of(const struct job *j)
{
    if (j->granted)
        return MESSAGE_AUTH_HUB_SAS;
    if (j->check.certificate)
        return j->check.module.n ? MESSAGE_AUTH_MODULE_X509 : MESSAGE_AUTH_DEVICE_X509;
    return j->check.module.n ? MESSAGE_AUTH_MODULE_SAS : MESSAGE_AUTH_DEVICE_SAS;
}

static void posted(struct op *op)
{
    struct job *j = ((struct posted *)(void *)op)->j;
    if (op->err == ERR_FULL) { /* the disk, or too much waits for it */
        (void)azure_fail(j, AZ_ServerBusy, "the hub cannot store more now: send it again later");
        job_field(j, "Retry-After", "10");
    }
    if (op->err && op->err != ERR_FULL) {
        job_end_err(j, op->err);
        return;
    }
    if (!op->err)
        activity_note(j);
    job_end(j);
}

static void too_large(struct job *j)
{
    (void)azure_fail(j, AZ_MessageTooLarge, "body and properties may have %u bytes together",
                     j->h->settings.message_max);
    job_end(j);
}

static enum err prepare(struct job *j, struct telemetry_put *p, const struct device_event *e)
{
    struct telemetry_in in = { .device = j->r->params[0],
                               .module = j->check.module,
                               .generation = span_of(j->check.generation, j->check.generation_len),
                               .auth = auth_of(j),
                               .bag = e->bag,
                               .body = e->body };
    size_t room = telemetry_room(&in);
    uint8_t *mem = arena_alloc(&j->a, room);
    return mem ? telemetry_prepare(j->h, p, &in, mem, room) : ERR_NOMEM;
}

static void post(struct job *j, const struct device_event *events, size_t nr)
{
    struct posted *p = arena_alloc(&j->a, sizeof *p);
    struct telemetry_put *rest = arena_alloc(&j->a, nr * sizeof *rest);
    enum err e = p && rest ? prepare(j, &p->first, &events[0]) : ERR_NOMEM;
    size_t bytes = 0;
    for (size_t i = 1; !e && i < nr; i++) {
        e = prepare(j, &rest[i - 1], &events[i]);
        telemetry_join(i == 1 ? &p->first : &rest[i - 2], &rest[i - 1]);
    }
    for (size_t i = 0; !e && i < nr; i++)
        bytes += events[i].body.n + events[i].bag.n;
    if (e == ERR_LIMIT || (nr > 1 && bytes > j->h->settings.message_max)) {
        too_large(j);
        return;
    }
    if (e) {
        job_end_err(j, e);
        return;
    }
    p->j = j;
    p->first.append.op.home = worker_mailbox(j->r->worker);
    p->first.append.op.done = posted;
    telemetry_start_all(&p->first);
}

static void start_batch(struct job *j)
{
    const char *why;
    size_t nr, bytes;
    bool too_many;
    struct device_event *events = device_batch_read(j->in, &j->a, &nr, &bytes, &why, &too_many);
    if (events && bytes > j->h->settings.message_max) {
        too_large(j);
    } else if (events) {
        post(j, events, nr);
    } else if (!why) {
        job_end_err(j, ERR_NOMEM);
    } else {
        (void)azure_fail(j, too_many ? AZ_MessageTooLarge : AZ_IotHubFormatError, "%s", why);
        job_end(j);
    }
}

static void start_one(struct job *j)
{
    struct span name, value, batch = SPAN("application/vnd.microsoft.iothub.json");
    struct span type = http_field(j->r, "Content-Type");
    if (type.n >= batch.n && span_ieq(span_of(type.p, batch.n), batch)) {
        static const struct job_call call = { JOB_PATH, 0, JOB_JSON, start_batch };
        job_go_on(j, &call);
        return;
    }
    struct wr w = { 0 };
    for (int pass = 0; pass < 2; pass++) {
        for (size_t at = 0; http_field_next(j->r, &at, &name, &value);)
            (void)device_bag_put(&w, name, value);
        if (pass == 0)
            w = (struct wr){ arena_alloc(&j->a, w.len + 1), w.len, 0 };
        if (!w.p) {
            job_end_err(j, ERR_NOMEM);
            return;
        }
    }
    post(j, &(struct device_event){ wr_span(&w), j->r->body }, 1);
}

JOB_HANDLER(azure_device_events_post, JOB_PATH, 0, JOB_RAW, start_one);
JOB_HANDLER(azure_module_events_post, JOB_PATH_MODULE, 0, JOB_RAW, start_one);
