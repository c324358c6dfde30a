/* hub/front/roost_http/devices.c - the registry: list, create, show, disable, approve, delete. */
#include "hub/domain/audit.h"
#include "hub/domain/identity/identity_write.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

struct list_state {
    struct job *j;
    struct span after;
    uint64_t limit;
    int status;
    struct device_row *rows;
    size_t nr;
};

static enum err keep(void *ctx, const struct device_row *r)
{
    struct list_state *l = ctx;
    return identity_copy(&l->j->a, r, &l->rows[l->nr++]);
}

static enum err list(struct job *j, struct store_tx *tx)
{
    struct list_state *l = j->state;
    l->nr = 0;
    enum err e = tx_device_list(tx, l->after, l->limit, l->status, keep, l);
    if (e)
        return e;
    json_t *arr = job_out_list(j, "devices");
    if (!arr)
        return ERR_NOMEM;
    for (size_t i = 0; !e && i < l->nr; i++) {
        json_t *o = NULL;
        e = device_json(j, tx, &l->rows[i], false, false, &o);
        if (!e && json_array_append_new(arr, o))
            e = ERR_NOMEM;
    }
    if (l->nr == l->limit)
        json_put(j->out, "next", json_span(l->rows[l->nr - 1].id));
    return e;
}

static void start_list(struct job *j)
{
    struct list_state *l = job_state(j, sizeof *l);
    struct span s;
    uint8_t status;
    if (!l)
        return;
    *l = (struct list_state){ .j = j, .limit = IDENTITY_LIST_DEFAULT, .status = -1 };
    (void)in_query_u64(j, "limit", IDENTITY_LIST_MAX, &l->limit);
    if (!l->limit)
        (void)job_fail(j, 400, "bad-query", "query \"limit\" has to be from 1 to %u", IDENTITY_LIST_MAX);
    if (http_query(j->r, "after", &s))
        l->after = s;
    if (http_query(j->r, "status", &s)) {
        if (device_status_parse(s, &status))
            (void)job_fail(j, 400, "bad-query", "query \"status\" has to be enabled, disabled or pending");
        else
            l->status = status;
    }
    l->rows = arena_alloc(&j->a, (size_t)l->limit * sizeof *l->rows);
    (void)job_fail_err(j, arena_err(&j->a));
    job_read(j, list, NULL);
}

struct one_state {
    struct span id;
    bool has_status, must_be_new, changed;
    uint8_t status;
    struct identity_proof proof; /* of a new one */
    struct identity_names names; /* it and its modules, when it has changed */
};

static enum err show(struct job *j, struct store_tx *tx, const struct device_row *d)
{
    return device_json(j, tx, d, true, (j->granted & ACCESS_REGISTRY_WRITE) != 0, &j->out);
}

static enum err not_found(struct job *j, struct span id)
{
    return JOB_REFUSE(j, 404, "device-not-found",
                      "there is no device \"%.*s\": `roost device list` shows the ones there are", (int)id.n,
                      (const char *)id.p);
}

/* Whom to tell after the commit. */
static enum err note_names(struct job *j, struct store_tx *tx)
{
    struct one_state *s = j->state;
    s->changed = true;
    return identity_names(tx, &j->a, s->id, &s->names);
}

static enum err changed(struct job *j, struct store_tx *tx, const struct device_row *d)
{
    enum err e = note_names(j, tx);
    return e ? e : show(j, tx, d);
}

static enum err put_new(struct job *j, struct store_tx *tx, struct one_state *s)
{
    struct identity_spec spec = { .id = s->id, .disabled = s->status == DEVICE_DISABLED, .proof = s->proof };
    struct device_row d;
    enum identity_fault fault;
    enum err e = identity_write(j->h, tx, &j->a, &spec, IDENTITY_CREATE, 0, &d, &fault);
    if (e)
        return identity_faulty(j, e, fault);
    e = audit_push(j->h, tx, j->who, "device.create", s->id, "%s", device_status_name(d.status));
    j->status = 201;
    return e ? e : changed(j, tx, &d);
}

static enum err put(struct job *j, struct store_tx *tx)
{
    struct one_state *s = j->state;
    struct device_row d;
    enum err e = identity_get(tx, &j->a, s->id, &d);
    j->status = 200;
    if (e == ERR_NOTFOUND)
        return put_new(j, tx, s);
    if (e)
        return e;
    if (s->must_be_new)
        return JOB_REFUSE(j, 409, "device-exists", "there is a device \"%.*s\" already", (int)s->id.n,
                          (const char *)s->id.p);
    e = proof_same(j, &s->proof, d.auth, d.thumb1, d.thumb2);
    if (e)
        return e;
    if (!s->has_status)
        return show(j, tx, &d);
    uint8_t was = d.status;
    e = identity_set_status(j->h, tx, &j->a, s->id, s->status, &d);
    if (e == ERR_STALE)
        return JOB_REFUSE(
            j, 409, "device-pending",
            "the device waits for approval: approve it with `roost device approve`, or delete it");
    if (e || was == d.status)
        return e ? e : show(j, tx, &d);
    e = audit_push(j->h, tx, j->who, "device.status", s->id, "%s", device_status_name(d.status));
    return e ? e : changed(j, tx, &d);
}

static void announce(struct job *j)
{
    struct one_state *s = j->state;
    if (s->changed)
        identity_announce_all(j->h, &s->names);
    job_end(j);
}

static struct one_state *one_new(struct job *j)
{
    struct one_state *s = job_state(j, sizeof *s);
    if (s)
        (void)in_path_device(j, &s->id);
    return s;
}

static void start_put(struct job *j)
{
    static const char *const names[] = { "status", "authentication", "thumbprint", "thumbprint2", NULL };
    struct span status = SPAN_NONE;
    struct one_state *s = one_new(j);
    if (!s)
        return;
    if (in_only(j, j->in, names) && in_text(j, j->in, "status", IN_OPTIONAL, 16, &status) &&
        proof_in(j, &s->proof)) {
        s->must_be_new = span_eq(http_field(j->r, "If-None-Match"), SPAN("*"));
        s->has_status = status.n > 0;
        if (s->has_status && (device_status_parse(status, &s->status) || s->status == DEVICE_PENDING))
            (void)job_fail(j, 400, "bad-member", "member \"status\" has to be enabled or disabled");
    }
    job_write(j, put, announce);
}

static enum err get(struct job *j, struct store_tx *tx)
{
    struct one_state *s = j->state;
    struct device_row d;
    enum err e = identity_get(tx, &j->a, s->id, &d);
    if (e == ERR_NOTFOUND)
        return not_found(j, s->id);
    return e ? e : show(j, tx, &d);
}

static enum err drop(struct job *j, struct store_tx *tx)
{
    struct one_state *s = j->state;
    enum identity_fault fault;
    enum err e = note_names(j, tx); /* before they go with it */
    if (!e)
        e = identity_delete(j->h, tx, s->id, 0, &fault);
    if (e == ERR_NOTFOUND)
        return not_found(j, s->id);
    return e ? e : audit_push(j->h, tx, j->who, "device.delete", s->id, "%s", "");
}

static enum err approve(struct job *j, struct store_tx *tx)
{
    struct one_state *s = j->state;
    struct device_row d;
    enum err e = identity_approve(j->h, tx, &j->a, s->id, &d);
    if (e == ERR_NOTFOUND)
        return not_found(j, s->id);
    if (e == ERR_STALE) { /* told twice, or disabled */
        e = identity_get(tx, &j->a, s->id, &d);
        if (!e && d.status == DEVICE_DISABLED)
            return JOB_REFUSE(j, 409, "device-disabled", "the device is disabled: enable it instead");
        return e ? e : show(j, tx, &d);
    }
    if (!e)
        e = audit_push(j->h, tx, j->who, "device.approve", s->id, "%s", "");
    return e ? e : changed(j, tx, &d);
}

static void start_get(struct job *j)
{
    if (one_new(j))
        job_read(j, get, NULL);
}
static void start_delete(struct job *j)
{
    if (one_new(j))
        job_write(j, drop, announce);
}
static void start_approve(struct job *j)
{
    if (one_new(j))
        job_write(j, approve, announce);
}

JOB_HANDLER(devices_list, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_list);
JOB_HANDLER(device_put, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_OBJECT, start_put);
JOB_HANDLER(device_get, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_get);
JOB_HANDLER(device_delete, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_RAW, start_delete);
JOB_HANDLER(device_approve, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_RAW, start_approve);
