/* hub/front/azure_http/bulk.c - up to a hundred identities in one request: written, deleted, given new keys.
 * What is not well formed refuses the request before anything is written; what a rule refuses is told beside
 * the entry, and the others are done. */
#include "hub/domain/audit.h"
#include "hub/domain/job/registry_line.h"
#include "hub/domain/twin/twin.h"
#include "hub/front/azure_http/batch.h"
#include "hub/front/azure_http/identity_json.h"
#include "hub/front/azure_http/routes.h"
#include "hub/store/identity_name.h"

#define ENTRIES_MAX 100u

struct entry {
    struct batch_item item; /* first */
    const struct registry_mode *mode;
    struct span device, module; /* module empty: the device */
    struct span name;           /* "device/module" */
    struct identity_spec spec;
    struct module_spec module_spec;
    uint64_t if_etag;
    struct twin_patch twin; /* tags and desired properties */
    struct twin_if twin_if;
    bool twin_bad; /* twin_fault says why */
    /* out */
    enum identity_fault fault;
    struct twin_fault twin_fault;
    struct identity_names names;
    struct span key1, key2; /* of new keys */
};
struct bulk {
    struct batch batch;
    struct entry *entries;
    size_t nr;
    bool key1, key2; /* which keys are made anew */
};

/* ---- what is asked for -------------------------------------------------------------------------------- */

static bool read_mode(struct job *j, const struct jnode *o, struct entry *e)
{
    struct span s = SPAN_NONE;
    if (!azure_in_text(j, o, "importMode", &s))
        return false;
    e->mode = registry_mode_find(s);
    return e->mode || azure_fail(j, AZ_ArgumentInvalid, "member \"importMode\" is not known: \"%.*s\"",
                                 s.n < 64 ? (int)s.n : 64, (const char *)s.p);
}

static bool read_name(struct job *j, const struct jnode *o, struct entry *e)
{
    if (o->kind != JOBJECT)
        return azure_fail(j, AZ_ArgumentInvalid, "each entry has to be an object");
    if (!azure_in_text(j, o, "id", &e->device) || !azure_in_text(j, o, "moduleId", &e->module))
        return false;
    if (!e->device.n)
        return azure_fail(j, AZ_ArgumentInvalid, "member \"id\" is missing");
    e->name = identity_name_in(&j->a, e->device, e->module);
    return job_fail_err(j, arena_err(&j->a));
}

static bool read_twin_etag(struct job *j, const struct jnode *o, struct entry *e)
{
    struct span etag = SPAN_NONE;
    if (!azure_in_text(j, o, "twinETag", &etag))
        return false;
    struct azure_match m = azure_match_parse(etag);
    if (e->mode->if_match && m.kind != AZURE_MATCH_ANY && twin_etag_parse(m.etag, &e->twin_if.etag))
        e->twin_if.etag = UINT64_MAX; /* none of a twin's */
    return true;
}

/* What it says of the twin. A rule that is broken is told with the entry. */
static bool read_twin(struct job *j, const struct jnode *o, struct entry *e)
{
    if (!jtree_get(o, SPAN("tags")) && !jtree_get(o, SPAN("properties")))
        return true;
    enum err err = twin_service_patch_of(&j->a, o, false, &e->twin, &e->twin_fault);
    e->twin_bad = err == ERR_PROTO;
    return !err || e->twin_bad ? true : job_fail_err(j, ERR_NOMEM);
}

static bool read_entry(struct job *j, const struct jnode *o, struct entry *e)
{
    struct span etag = SPAN_NONE;
    if (!read_name(j, o, e) || !read_mode(j, o, e) || !azure_in_text(j, o, "eTag", &etag))
        return false;
    struct azure_match m = azure_match_parse(etag);
    if (e->mode->if_match)
        e->if_etag = m.kind == AZURE_MATCH_NONE ? UINT64_MAX : azure_match_counter(&m);
    if (e->mode->doing == REGISTRY_DELETE)
        return true;
    if (!read_twin(j, o, e))
        return false;
    if (e->mode->doing == REGISTRY_TWIN)
        return read_twin_etag(j, o, e);
    e->spec.id = e->module_spec.device = e->device;
    e->module_spec.id = e->module;
    return e->module.n ? azure_in_module(j, o, &e->module_spec) : azure_in_device(j, o, &e->spec);
}

/* The body as a tree, which keeps numbers as they are spelled: for twins. */
static struct jnode *read_tree(struct job *j)
{
    struct jtree_fault why = { "", 0 };
    struct jnode *tree = NULL;
    enum err e = jtree_parse_once(&j->a, j->r->body, &tree, &why);
    if (e == ERR_NOMEM)
        (void)job_fail_err(j, ERR_NOMEM);
    else if (e)
        (void)azure_fail(j, AZ_IotHubFormatError, "the body is not JSON that can be read: %s (byte %zu)",
                         why.what, why.at);
    return e ? NULL : tree;
}

/* The entries of the list, into j->state. NULL: the job has ended. */
static struct bulk *read_list(struct job *j, const struct jnode *list,
                              bool (*read)(struct job *j, const struct jnode *o, struct entry *e))
{
    const bool is_list = list && list->kind == JARRAY;
    size_t nr = is_list ? list->nr : 0;
    struct bulk *b = arena_alloc(&j->a, sizeof *b);
    j->state = b;
    if (!j->code && !is_list)
        (void)azure_fail(j, AZ_ArgumentInvalid, "a list of identities is wanted");
    else if (nr > ENTRIES_MAX)
        (void)azure_fail(j, AZ_TooManyDevices, "a request may have %u entries", ENTRIES_MAX);
    if (b && !j->code) {
        *b = (struct bulk){ .nr = 0 };
        b->entries = arena_alloc(&j->a, (nr + 1) * sizeof *b->entries);
    }
    if (!j->code && (!b || !b->entries))
        (void)job_fail_err(j, ERR_NOMEM);
    for (const struct jnode *o = j->code ? NULL : list->first; o && !j->code; o = o->next) {
        struct entry *e = &b->entries[b->nr];
        *e = (struct entry){ .mode = NULL };
        if (!read(j, o, e))
            break;
        for (size_t k = 0; k < b->nr; k++)
            if (span_eq(b->entries[k].name, e->name)) {
                (void)azure_fail(j, AZ_DeviceDefinedMultipleTimes, "the request names it twice: %.*s",
                                 (int)e->name.n, (const char *)e->name.p);
                break;
            }
        b->nr++;
    }
    if (!j->code)
        return b;
    job_end(j);
    return NULL;
}

/* ---- writing and deleting ------------------------------------------------------------------------------ */

static enum err note_names(struct store_tx *tx, struct entry *e)
{
    if (!e->module.n)
        return identity_names(tx, &e->item.a, e->device, &e->names);
    e->names.nr = 1;
    e->names.names[0] = e->name;
    return ERR_OK;
}

static enum err write_one(struct hub *h, struct store_tx *tx, struct entry *e)
{
    struct device_row d;
    struct module_row m;
    return e->module.n
               ? module_write(h, tx, &e->item.a, &e->module_spec, e->mode->write, e->if_etag, &m, &e->fault)
               : identity_write(h, tx, &e->item.a, &e->spec, e->mode->write, e->if_etag, &d, &e->fault);
}

static enum err delete_one(struct hub *h, struct store_tx *tx, struct entry *e)
{
    return e->module.n ? module_delete(h, tx, e->device, e->module, e->if_etag, &e->fault)
                       : identity_delete(h, tx, e->device, e->if_etag, &e->fault);
}

static enum err write_twin(struct hub *h, struct store_tx *tx, struct entry *e)
{
    struct twin t;
    if (!e->twin.tags.patch && !e->twin.desired.patch && e->mode->doing != REGISTRY_TWIN)
        return ERR_OK;
    enum err err = twin_update(h, tx, &e->item.a, e->name, &e->twin, &e->twin_if, &t, &e->twin_fault);
    if (err == ERR_NOTFOUND)
        e->fault = IDENTITY_NO_DEVICE;
    if (err == ERR_STALE)
        e->fault = IDENTITY_ETAG;
    return err;
}

static bool is_system(const struct entry *e)
{
    return span_starts(e->module, SPAN("$"));
}

static enum err run(struct store_tx *tx, struct store_op *self)
{
    struct entry *e = (struct entry *)(void *)self;
    struct job *j = e->item.batch->j;
    bool drop = e->mode->doing == REGISTRY_DELETE, twin = e->mode->doing == REGISTRY_TWIN;
    e->fault = IDENTITY_FINE;
    if (is_system(e) && !twin) {
        e->fault = IDENTITY_BAD_ID;
        return ERR_DENIED;
    }
    if (e->twin_bad)
        return ERR_PROTO;
    e->twin_fault.wrong = TWIN_FINE;
    if (twin)
        return write_twin(j->h, tx, e);
    enum err err = drop ? note_names(tx, e) : ERR_OK;
    if (!err)
        err = drop ? delete_one(j->h, tx, e) : write_one(j->h, tx, e);
    if (!err && !drop)
        err = write_twin(j->h, tx, e);
    if (!err && !drop)
        err = note_names(tx, e);
    if (!err)
        err = audit_push(j->h, tx, j->who,
                         drop          ? e->module.n ? "module.delete" : "device.delete"
                         : e->module.n ? "module.update"
                                       : "device.update",
                         e->name, "bulk %s", e->mode->name);
    return err ? err : arena_err(&e->item.a);
}

static json_t *error_json(const struct entry *e, const char *operation)
{
    json_t *o = json_object();
    bool twin = !e->fault && e->twin_fault.wrong;
    enum azure_error code = e->fault                           ? azure_fault_error(e->fault)
                            : twin                             ? AZ_ArgumentInvalid
                            : e->item.store.op.err == ERR_FULL ? AZ_ServerBusy
                                                               : AZ_ServerError;
    json_put(o, "deviceId", json_span(e->device));
    json_put(o, "moduleId", e->module.n ? json_span(e->module) : json_null());
    json_put_u64(o, "errorCode", code);
    json_put_str(o, "errorStatus",
                 e->fault ? identity_fault_text(e->fault)
                 : twin   ? e->twin_fault.text
                          : "the hub could not store it: try again");
    if (operation)
        json_put_str(o, "operation", operation);
    return o;
}

/* Announces what was done. Returns how many entries failed. */
static size_t settle(struct job *j, struct bulk *b)
{
    size_t failed = 0;
    for (size_t i = 0; i < b->nr; i++)
        if (b->entries[i].item.store.op.err)
            failed++;
        else
            identity_announce_all(j->h, &b->entries[i].names);
    return failed;
}

static void written(struct job *j)
{
    struct bulk *b = j->state;
    size_t failed = settle(j, b);
    json_t *errors = json_array();
    for (size_t i = 0; i < b->nr; i++)
        if (b->entries[i].item.store.op.err)
            (void)json_array_append_new(errors, error_json(&b->entries[i], b->entries[i].mode->name));
    batch_free(b->entries, b->nr, sizeof *b->entries);
    j->out = json_object();
    json_put(j->out, "isSuccessful", json_boolean(!failed));
    json_put(j->out, "errors", errors);
    json_put(j->out, "warnings", json_array());
    if (failed) {
        j->status = 400;
        job_field(j, "iothub-errorcode", "%s", azure_error_name(AZ_BulkRegistryOperationFailure));
    }
    job_end(j);
}

static void start_bulk(struct job *j)
{
    const struct jnode *tree = read_tree(j);
    /* Each entry is an operation of the registry. */
    if (tree && !job_throttle(j, tree->kind == JARRAY && tree->nr ? (uint32_t)tree->nr : 1)) {
        job_end(j);
        return;
    }
    struct bulk *b = read_list(j, tree, read_entry);
    if (b)
        batch_start(&b->batch, j, b->entries, b->nr, sizeof *b->entries, run, written);
}

/* ---- new keys ------------------------------------------------------------------------------------------ */

static enum err run_keys(struct store_tx *tx, struct store_op *self)
{
    struct entry *e = (struct entry *)(void *)self;
    struct job *j = e->item.batch->j;
    struct bulk *b = j->state;
    struct device_row d = { 0 };
    struct module_row m = { 0 };
    enum err err =
        identity_rekey(j->h, tx, &e->item.a, e->device, e->module, b->key1, b->key2, &d, &m, &e->fault);
    if (err)
        return err;
    e->key1 = e->module.n ? m.key1 : d.key1;
    e->key2 = e->module.n ? m.key2 : d.key2;
    err = note_names(tx, e);
    return err ? err
               : audit_push(j->h, tx, j->who, e->module.n ? "module.keys" : "device.keys", e->name, "%s",
                            b->key1 && b->key2 ? "both"
                            : b->key1          ? "primaryKey"
                                               : "secondaryKey");
}

static void rekeyed(struct job *j)
{
    struct bulk *b = j->state;
    size_t failed = settle(j, b);
    json_t *keys = json_array(), *errors = json_array();
    for (size_t i = 0; i < b->nr; i++) {
        struct entry *e = &b->entries[i];
        json_t *o = json_object();
        json_put(o, "id", json_span(e->device));
        json_put(o, "moduleId", e->module.n ? json_span(e->module) : json_null());
        if (e->item.store.op.err) {
            json_t *why = error_json(e, NULL);
            json_put(o, "errorCode", json_incref(json_object_get(why, "errorCode")));
            json_put(o, "errorStatus", json_incref(json_object_get(why, "errorStatus")));
            json_decref(why);
            (void)json_array_append_new(errors, o);
        } else {
            json_put(o, "primaryKey", json_base64(e->key1));
            json_put(o, "secondaryKey", json_base64(e->key2));
            (void)json_array_append_new(keys, o);
        }
    }
    j->status = !failed ? 200 : failed < b->nr ? 207 : 400;
    if (failed && failed == b->nr)
        job_field(j, "iothub-errorcode", "%s", azure_error_name(AZ_BulkRegenerateDeviceKeyOperationFailure));
    batch_free(b->entries, b->nr, sizeof *b->entries);
    j->out = json_object();
    json_put(j->out, "policyKey", json_incref(json_object_get(j->in, "policyKey")));
    json_put(j->out, "rotatedKeys", keys);
    json_put(j->out, "errors", errors);
    job_end(j);
}

static void start_keys(struct job *j)
{
    struct span which = SPAN_NONE;
    bool both = false, first = false, second = false;
    if (in_text(j, j->in, "policyKey", IN_REQUIRED, 64, &which)) {
        both = span_ieq(which, SPAN("both"));
        first = both || span_ieq(which, SPAN("primaryKey"));
        second = both || span_ieq(which, SPAN("secondaryKey"));
        if (!first && !second)
            (void)azure_fail(j, AZ_InvalidPolicyKey,
                             "member \"policyKey\" has to be primaryKey, secondaryKey or both");
    }
    if (j->code) {
        job_end(j);
        return;
    }
    struct bulk *b = read_list(j, jtree_get(read_tree(j), SPAN("devices")), read_name);
    if (!b)
        return;
    if (b->nr > 1 && !job_throttle(j, (uint32_t)b->nr - 1)) { /* the request itself was one */
        job_end(j);
        return;
    }
    b->key1 = first;
    b->key2 = second;
    batch_start(&b->batch, j, b->entries, b->nr, sizeof *b->entries, run_keys, rekeyed);
}

JOB_HANDLER(azure_devices_post, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_ENTRIES, start_bulk);
JOB_HANDLER(azure_keys_regenerate, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_OBJECT, start_keys);
