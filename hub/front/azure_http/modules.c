/* hub/front/azure_http/modules.c - the modules of a device. A device may manage its own with its credential.
 */
#include "hub/domain/audit.h"
#include "hub/front/azure_http/identity_json.h"
#include "hub/front/azure_http/routes.h"
#include "hub/store/identity_name.h"

struct one {
    struct module_spec spec;
    struct azure_match match;
    struct span name; /* "device/module" */
};

static struct one *one_new(struct job *j)
{
    struct one *o = job_state(j, sizeof *o);
    if (!o)
        return NULL;
    *o = (struct one){ .spec = { .device = j->r->params[0], .id = j->r->params[1] },
                       .match = azure_if_match(j),
                       .name = identity_name_in(&j->a, j->r->params[0], j->r->params[1]) };
    (void)job_fail_err(j, arena_err(&j->a));
    return o;
}

static void announce(struct job *j)
{
    struct one *o = j->state;
    identity_announce(j->h, o->name);
    job_end(j);
}

static enum err get(struct job *j, struct store_tx *tx)
{
    struct one *o = j->state;
    struct module_row m;
    enum identity_fault fault;
    enum err e = module_get(tx, &j->a, o->spec.device, o->spec.id, &m, &fault);
    return e ? azure_refuse_fault(j, e, fault, o->spec.device, o->spec.id) : azure_module_answer(j, tx, &m);
}

static void start_get(struct job *j)
{
    if (one_new(j))
        job_read(j, get, NULL);
}

static enum err put(struct job *j, struct store_tx *tx)
{
    struct one *o = j->state;
    struct module_row m;
    enum identity_fault fault;
    bool create = o->match.kind == AZURE_MATCH_NONE;
    enum err e = module_write(j->h, tx, &j->a, &o->spec, create ? IDENTITY_CREATE : IDENTITY_REPLACE,
                              azure_match_counter(&o->match), &m, &fault);
    if (e)
        return azure_refuse_fault(j, e, fault, o->spec.device, o->spec.id);
    e = audit_push(j->h, tx, j->who, create ? "module.create" : "module.update", o->name, "%s", "");
    return e ? e : azure_module_answer(j, tx, &m);
}

static void start_put(struct job *j)
{
    struct one *o = one_new(j);
    struct jnode *in;
    if (!o)
        return;
    if (o->match.kind == AZURE_MATCH_NONE && span_starts(o->spec.id, SPAN("$")))
        (void)azure_fail(j, AZ_ArgumentInvalid, "ids of modules that begin with $ are the system's");
    (void)(!j->code && fleet_body_once(j, &in) && azure_in_same(j, in, "deviceId", o->spec.device) &&
           azure_in_same(j, in, "moduleId", o->spec.id) && azure_in_module(j, in, &o->spec));
    job_write(j, put, announce);
}

static enum err drop(struct job *j, struct store_tx *tx)
{
    struct one *o = j->state;
    enum identity_fault fault;
    enum err e = module_delete(j->h, tx, o->spec.device, o->spec.id, azure_match_counter(&o->match), &fault);
    if (e)
        return azure_refuse_fault(j, e, fault, o->spec.device, o->spec.id);
    return audit_push(j->h, tx, j->who, "module.delete", o->name, "%s", "");
}

static void start_delete(struct job *j)
{
    struct one *o = one_new(j);
    if (!o)
        return;
    if (span_starts(o->spec.id, SPAN("$")))
        (void)azure_fail(j, AZ_SystemModuleModifyUnauthorizedAccess,
                         "a module of the system cannot be deleted");
    else if (o->match.kind == AZURE_MATCH_NONE)
        (void)azure_fail(j, AZ_PreconditionFailed, "the header If-Match is missing: an etag, or *");
    job_write(j, drop, announce);
}

static enum err list(struct job *j, struct store_tx *tx)
{
    struct module_row *rows;
    size_t nr;
    enum identity_fault fault;
    enum err e = module_list(tx, &j->a, j->r->params[0], &rows, &nr, &fault);
    if (e)
        return azure_refuse_fault(j, e, fault, j->r->params[0], SPAN_NONE);
    struct fleet_array out = { .a = &j->a };
    for (size_t i = 0; !e && i < nr; i++) {
        struct identity_seen seen;
        e = azure_module_seen(tx, &rows[i], &seen);
        if (!e)
            e = azure_module_add(&out, &rows[i], &seen);
    }
    if (!e)
        fleet_answer_array(j, &out);
    return e;
}

JOB_STEP_HANDLER(azure_modules_list, JOB_POLICY_OR_OWNER, ACCESS_REGISTRY_READ, job_read, list, NULL);
JOB_HANDLER(azure_module_get, JOB_POLICY_OR_OWNER, ACCESS_REGISTRY_READ, JOB_RAW, start_get);
JOB_HANDLER(azure_module_put, JOB_POLICY_OR_OWNER, ACCESS_REGISTRY_WRITE, JOB_RAW, start_put);
JOB_HANDLER(azure_module_delete, JOB_POLICY_OR_OWNER, ACCESS_REGISTRY_WRITE, JOB_RAW, start_delete);
