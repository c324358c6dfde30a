/* hub/domain/identity/module.c - modules of devices: the rules of their rows (identity_write.h). */
#include "base/text.h"
#include "hub/domain/event/event.h"
#include "hub/domain/identity/identity_impl.h"

enum err module_copy(struct arena *a, const struct module_row *in, struct module_row *out)
{
    struct module_row r = *in;
    r.device = arena_copy(a, in->device);
    r.id = arena_copy(a, in->id);
    r.managed_by = arena_copy(a, in->managed_by);
    r.key1 = arena_copy(a, in->key1);
    r.key2 = arena_copy(a, in->key2);
    r.thumb1 = arena_copy(a, in->thumb1);
    r.thumb2 = arena_copy(a, in->thumb2);
    r.generation = arena_copy(a, in->generation);
    enum err e = arena_err(a);
    if (!e)
        *out = r;
    return e;
}

static enum err device_there(struct store_tx *tx, struct span device, enum identity_fault *fault)
{
    struct device_row d;
    enum err e = tx_device_get(tx, device, &d);
    return e == ERR_NOTFOUND ? identity_refuse(fault, IDENTITY_NO_DEVICE) : e;
}

enum err module_get(struct store_tx *tx, struct arena *a, struct span device, struct span id,
                    struct module_row *out, enum identity_fault *fault)
{
    struct module_row r;
    *fault = IDENTITY_FINE;
    enum err e = tx_module_get(tx, device, id, &r);
    if (e == ERR_NOTFOUND) {
        e = device_there(tx, device, fault);
        return e ? e : identity_refuse(fault, IDENTITY_NO_MODULE);
    }
    return e ? e : module_copy(a, &r, out);
}

/* Puts a new module: the one place where a module comes into being. */
static enum err module_create(struct hub *h, struct store_tx *tx, struct arena *a, struct module_row *r)
{
    uint64_t nr;
    r->generation = identity_fresh_generation(h, a);
    r->created_ms = r->updated_ms = h->wall_ms();
    enum err e = arena_err(a);
    if (!e)
        e = tx_module_count(tx, r->device, &nr);
    if (!e && nr >= IDENTITY_MODULES_MAX)
        e = ERR_LIMIT;
    if (!e)
        e = tx_module_put(tx, r, UINT64_MAX, NULL);
    return e ? e : event_lifecycle(h, tx, r->device, r->id, true);
}

static bool is_system(struct span id)
{
    return span_eq(id, SPAN(IDENTITY_EDGE_AGENT)) || span_eq(id, SPAN(IDENTITY_EDGE_HUB));
}

enum err module_write(struct hub *h, struct store_tx *tx, struct arena *a, const struct module_spec *s,
                      enum identity_mode mode, uint64_t if_etag, struct module_row *out,
                      enum identity_fault *fault)
{
    struct module_row r;
    struct identity_proof proof;
    *fault = IDENTITY_FINE;
    if (!identity_id_ok(s->id))
        return identity_refuse(fault, IDENTITY_BAD_ID);
    if (s->managed_by.n > IDENTITY_TEXT_MAX)
        return identity_refuse(fault, IDENTITY_BAD_TEXT);
    enum err e = module_get(tx, a, s->device, s->id, &r, fault);
    bool there = e == ERR_OK;
    if (e && *fault != IDENTITY_NO_MODULE)
        return e;
    if (there && mode == IDENTITY_CREATE)
        return identity_refuse(fault, IDENTITY_MODULE_EXISTS);
    if (!there && mode == IDENTITY_REPLACE)
        return identity_refuse(fault, IDENTITY_NO_MODULE);
    *fault = IDENTITY_FINE;
    if (there && if_etag && if_etag != r.etag)
        return identity_refuse(fault, IDENTITY_ETAG);
    e = identity_prove(h, a, &s->proof, true, is_system(s->id), &proof, fault);
    if (e)
        return e;
    if (!there)
        r = (struct module_row){ .device = arena_copy(a, s->device), .id = arena_copy(a, s->id) };
    r.managed_by = arena_copy(a, s->managed_by);
    r.auth = proof.kind;
    r.key1 = proof.key1;
    r.key2 = proof.key2;
    r.thumb1 = proof.thumb1;
    r.thumb2 = proof.thumb2;
    if (there) {
        r.updated_ms = h->wall_ms();
        e = arena_err(a);
        if (!e)
            e = tx_module_put(tx, &r, 0, NULL);
    } else {
        e = module_create(h, tx, a, &r);
        if (e == ERR_LIMIT)
            return identity_refuse(fault, IDENTITY_TOO_MANY);
    }
    return e ? e : module_get(tx, a, s->device, s->id, out, fault); /* with its etag and its place */
}

enum err module_delete(struct hub *h, struct store_tx *tx, struct span device, struct span id,
                       uint64_t if_etag, enum identity_fault *fault)
{
    struct module_row r;
    *fault = IDENTITY_FINE;
    enum err e = tx_module_get(tx, device, id, &r);
    if (e == ERR_NOTFOUND) {
        e = device_there(tx, device, fault);
        return e ? e : identity_refuse(fault, IDENTITY_NO_MODULE);
    }
    if (!e && if_etag && r.etag != if_etag)
        return identity_refuse(fault, IDENTITY_ETAG);
    if (!e)
        e = event_lifecycle(h, tx, device, id, false);
    return e ? e : tx_module_delete(tx, device, id);
}

struct listing {
    struct arena *a;
    struct module_row *rows;
    size_t nr;
};

static enum err keep(void *ctx, const struct module_row *r)
{
    struct listing *l = ctx;
    return l->nr < IDENTITY_MODULES_MAX ? module_copy(l->a, r, &l->rows[l->nr++]) : ERR_LIMIT;
}

enum err module_list(struct store_tx *tx, struct arena *a, struct span device, struct module_row **rows,
                     size_t *nr, enum identity_fault *fault)
{
    struct listing l = { .a = a };
    *fault = IDENTITY_FINE;
    enum err e = device_there(tx, device, fault);
    if (e)
        return e;
    l.rows = arena_alloc(a, IDENTITY_MODULES_MAX * sizeof *l.rows);
    e = arena_err(a);
    if (!e)
        e = tx_module_list(tx, device, keep, &l);
    if (!e) {
        *rows = l.rows;
        *nr = l.nr;
    }
    return e;
}

void module_connection_string(const struct hub *h, const struct module_row *r, struct wr *w)
{
    wr_str(w, "HostName=");
    wr_str(w, h->names[0]);
    wr_str(w, ";DeviceId=");
    wr_put(w, r->device);
    wr_str(w, ";ModuleId=");
    wr_put(w, r->id);
    if (r->auth != AUTH_SAS) {
        wr_str(w, ";x509=true");
        return;
    }
    wr_str(w, ";SharedAccessKey=");
    base64_encode(w, r->key1);
}
