/* hub/front/azure_http/devices.c - the registry of devices: one by one, the first thousand, the queue of one.
 */
#include "base/text.h"
#include "hub/domain/audit.h"
#include "hub/domain/message/c2d.h"
#include "hub/front/azure_http/identity_json.h"
#include "hub/front/azure_http/routes.h"

#define LIST_MAX 1000u

/* ---- one device --------------------------------------------------------------------------------------- */

struct one {
    struct identity_spec spec;
    struct azure_match match;
    struct identity_names names; /* to announce after the commit */
};

static struct one *one_new(struct job *j)
{
    struct one *o = job_state(j, sizeof *o);
    if (!o)
        return NULL;
    o->spec.id = j->r->params[0];
    o->match = azure_if_match(j);
    return o;
}

static void announce(struct job *j)
{
    struct one *o = j->state;
    identity_announce_all(j->h, &o->names);
    job_end(j);
}

static enum err get(struct job *j, struct store_tx *tx)
{
    struct one *o = j->state;
    struct device_row d;
    enum err e = identity_get(tx, &j->a, o->spec.id, &d);
    if (e)
        return azure_refuse_fault(j, e, e == ERR_NOTFOUND ? IDENTITY_NO_DEVICE : IDENTITY_FINE, o->spec.id,
                                  SPAN_NONE);
    return azure_device_answer(j, tx, &d);
}

static void start_get(struct job *j)
{
    if (one_new(j))
        job_read(j, get, NULL);
}

static enum err put(struct job *j, struct store_tx *tx)
{
    struct one *o = j->state;
    struct device_row d;
    enum identity_fault fault;
    bool create = o->match.kind == AZURE_MATCH_NONE;
    enum err e = identity_write(j->h, tx, &j->a, &o->spec, create ? IDENTITY_CREATE : IDENTITY_REPLACE,
                                azure_match_counter(&o->match), &d, &fault);
    if (e)
        return azure_refuse_fault(j, e, fault, o->spec.id, SPAN_NONE);
    e = identity_names(tx, &j->a, d.id, &o->names);
    if (!e)
        e = audit_push(j->h, tx, j->who, create ? "device.create" : "device.update", d.id, "%s",
                       device_status_name(d.status));
    return e ? e : azure_device_answer(j, tx, &d);
}

static void start_put(struct job *j)
{
    struct one *o = one_new(j);
    struct jnode *in;
    if (!o)
        return;
    (void)(fleet_body_once(j, &in) && azure_in_same(j, in, "deviceId", o->spec.id) &&
           azure_in_device(j, in, &o->spec));
    job_write(j, put, announce);
}

static enum err drop(struct job *j, struct store_tx *tx)
{
    struct one *o = j->state;
    enum identity_fault fault;
    enum err e = identity_names(tx, &j->a, o->spec.id, &o->names);
    if (e)
        return e;
    e = identity_delete(j->h, tx, o->spec.id, azure_match_counter(&o->match), &fault);
    if (e)
        return azure_refuse_fault(j, e, fault, o->spec.id, SPAN_NONE);
    return audit_push(j->h, tx, j->who, "device.delete", o->spec.id, "%s", "");
}

static void start_delete(struct job *j)
{
    struct one *o = one_new(j);
    if (!o)
        return;
    if (o->match.kind == AZURE_MATCH_NONE)
        (void)azure_fail(j, AZ_PreconditionFailed, "the header If-Match is missing: an etag, or *");
    job_write(j, drop, announce);
}

/* ---- the list ----------------------------------------------------------------------------------------- */

struct listing {
    size_t max;
    struct fleet_array list;
};

static enum err list_one(void *ctx, const struct device_row *r, const struct identity_seen *seen)
{
    struct listing *l = ctx;
    return azure_device_add(&l->list, r, seen);
}

static enum err list(struct job *j, struct store_tx *tx)
{
    struct listing *l = j->state;
    l->list = (struct fleet_array){ .a = &j->a };
    enum err e = tx_device_list_by_seq(tx, 0, l->max, list_one, l);
    if (!e)
        fleet_answer_array(j, &l->list);
    return e;
}

static void start_list(struct job *j)
{
    struct listing *l = job_state(j, sizeof *l);
    struct span top;
    uint64_t n = LIST_MAX;
    if (!l)
        return;
    if (http_query(j->r, "top", &top) && top.n && u64_parse(top, UINT64_MAX, &n) == ERR_PROTO)
        (void)azure_fail(j, AZ_ArgumentInvalid, "the query parameter top has to be a number");
    l->max = n && n < LIST_MAX ? (size_t)n : LIST_MAX;
    job_read(j, list, NULL);
}

/* ---- the queue ---------------------------------------------------------------------------------------- */

static enum err purge(struct job *j, struct store_tx *tx)
{
    uint64_t nr;
    struct span id = j->r->params[0];
    enum err e = tx_c2d_count(tx, id, &nr);
    if (e)
        return azure_refuse_fault(j, e, e == ERR_NOTFOUND ? IDENTITY_NO_DEVICE : IDENTITY_FINE, id,
                                  SPAN_NONE);
    e = c2d_purge(j->h, tx, id);
    if (!e)
        e = audit_push(j->h, tx, j->who, "device.purge", id, "%llu", (unsigned long long)nr);
    j->out = json_object();
    json_put(j->out, "deviceId", json_span(id));
    json_put(j->out, "moduleId", json_null());
    json_put_u64(j->out, "totalMessagesPurged", nr);
    return e;
}

/* ---- routes ------------------------------------------------------------------------------------------- */

JOB_HANDLER(azure_devices_list, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_list);
JOB_HANDLER(azure_device_get, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_get);
JOB_HANDLER(azure_device_put, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_RAW, start_put);
JOB_HANDLER(azure_device_delete, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_RAW, start_delete);
JOB_STEP_HANDLER(azure_commands_delete, JOB_POLICY, ACCESS_SERVICE_CONNECT, job_write, purge, NULL);
