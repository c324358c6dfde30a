/* hub/domain/configuration/configuration.c - configurations made, changed, deleted; contents written to edge
 * devices. */
#include "hub/domain/configuration/configuration.h"

#include "hub/domain/audit.h"
#include "hub/domain/configuration/configuration_impl.h"
#include "hub/domain/identity/identity_write.h"
#include "hub/store/identity_name.h"

#include <stdio.h>

enum err config_copy(struct arena *a, const struct config_row *in, struct config_row *out)
{
    *out = *in;
    out->id = arena_copy(a, in->id);
    out->condition = arena_copy(a, in->condition);
    out->content = arena_copy(a, in->content);
    out->labels = arena_copy(a, in->labels);
    out->metrics = arena_copy(a, in->metrics);
    out->schema_version = arena_copy(a, in->schema_version);
    out->results = arena_copy(a, in->results);
    out->system_results = arena_copy(a, in->system_results);
    return arena_err(a);
}

enum err config_get(struct store_tx *tx, struct arena *a, struct span id, struct config_row *out)
{
    struct config_row r;
    enum err e = tx_config_get(tx, id, &r);
    return e ? e : config_copy(a, &r, out);
}

static void walk_again(struct config_row *r)
{
    r->walking = true;
    r->old_cursor = r->new_cursor = 0;
}

enum err config_cursor_put(struct store_tx *tx, uint64_t seq)
{
    char room[24];
    int n = snprintf(room, sizeof room, "%llu", (unsigned long long)seq);
    return tx_meta_put(tx, CONFIG_CURSOR, span_of(room, (size_t)n));
}

/* The first one finds the twins that there are by its condition; none was of interest before. */
static enum err skip_twins(struct store_tx *tx)
{
    uint64_t newest = 0;
    enum err e = tx_config_newest(tx, &newest);
    return e ? e : config_cursor_put(tx, newest);
}

enum err config_create(struct hub *h, struct store_tx *tx, struct arena *a, const struct config_new *in,
                       uint8_t kind, struct config_row *out)
{
    uint64_t nr[2] = { 0 }, now = h->wall_ms();
    struct config_row r = { .id = in->id,
                            .kind = kind,
                            .condition = in->condition,
                            .content = in->content,
                            .labels = in->labels,
                            .metrics = in->metrics,
                            .schema_version = in->schema_version,
                            .priority = in->priority,
                            .etag = 1,
                            .created_ms = now,
                            .updated_ms = now };
    enum err e = tx_config_count(tx, nr);
    walk_again(&r);
    if (!e && !nr[0] && !nr[1])
        e = skip_twins(tx);
    if (!e)
        e = tx_config_add(tx, &r);
    if (!e && nr[kind == CONFIG_EDGE] >= CONFIGURATIONS_OF_KIND_MAX)
        return ERR_LIMIT;
    config_exists(h);
    if (!e)
        e = audit_push(h, tx, in->who, "configuration.create", in->id, "%s", "");
    return e ? e : config_get(tx, a, in->id, out);
}

enum err config_update(struct hub *h, struct store_tx *tx, struct arena *a, const struct config_new *in,
                       uint64_t if_etag, struct config_row *out)
{
    struct config_row r;
    enum err e = config_get(tx, a, in->id, &r);
    if (e)
        return e;
    if (if_etag && if_etag != r.etag)
        return ERR_STALE;
    struct config_fault fault; /* `in` was checked with its own content */
    e = config_check_target(a, r.kind, in->condition, &fault);
    if (e)
        return e == ERR_PROTO ? ERR_DENIED : e;
    const bool other_metrics = !span_eq(r.metrics, in->metrics);
    r.condition = in->condition;
    r.labels = in->labels;
    r.metrics = in->metrics;
    r.schema_version = in->schema_version;
    r.priority = in->priority;
    r.etag++;
    r.updated_ms = h->wall_ms();
    walk_again(&r);
    e = tx_config_put(tx, &r);
    if (!e && other_metrics) {
        r.results = SPAN_NONE;
        e = tx_config_results_put(tx, r.seq, r.etag, r.results, r.system_results);
    }
    if (!e)
        e = audit_push(h, tx, in->who, "configuration.update", in->id, "%s", "");
    if (!e)
        *out = r;
    return e;
}

enum err config_delete(struct hub *h, struct store_tx *tx, struct arena *a, struct span id, uint64_t if_etag,
                       struct span who)
{
    struct config_row r;
    enum err e = config_get(tx, a, id, &r);
    if (e)
        return e;
    if (if_etag && if_etag != r.etag)
        return ERR_STALE;
    r.gone = true;
    walk_again(&r);
    r.new_cursor = UINT64_MAX;
    e = tx_config_put(tx, &r);
    return e ? e : audit_push(h, tx, who, "configuration.delete", id, "%s", "");
}

/* ---- contents of edge devices ---------------------------------------------------------------------------
 */

static enum err need_module(struct hub *h, struct store_tx *tx, struct arena *a, struct span device,
                            struct span module)
{
    struct module_row there;
    enum identity_fault fault;
    struct module_spec spec = { .device = device, .id = module, .managed_by = SPAN("iotEdge") };
    enum err e = tx_module_get(tx, device, module, &there);
    return e == ERR_NOTFOUND ? module_write(h, tx, a, &spec, IDENTITY_CREATE, 0, &there, &fault) : e;
}

static enum err write_desired(struct hub *h, struct store_tx *tx, struct arena *a, struct span id,
                              const struct twin_patch *p, struct config_fault *f)
{
    static const struct twin_if any = { 0 };
    struct twin t;
    struct twin_fault tf = { .wrong = TWIN_FINE };
    enum err e = twin_update(h, tx, a, id, p, &any, &t, &tf);
    if (e == ERR_PROTO) {
        f->wrong = CONFIG_BAD_CONTENT;
        snprintf(f->text, sizeof f->text, "%s", tf.text);
    }
    return e;
}

static enum err write_module(struct hub *h, struct store_tx *tx, struct arena *a, struct span device,
                             const struct jnode *m, struct config_fault *f)
{
    struct twin_patch p = { .service = true };
    enum err e = config_desired(a, m, &p.desired.patch, &p.desired.replace, f);
    if (!e)
        e = need_module(h, tx, a, device, m->key);
    struct span id = identity_name_in(a, device, m->key);
    if (!e)
        e = arena_err(a);
    return e ? e : write_desired(h, tx, a, id, &p, f);
}

enum err config_apply_modules(struct hub *h, struct store_tx *tx, struct arena *a, struct span device,
                              const struct jnode *modules, struct config_fault *f)
{
    struct device_row d;
    enum err e = tx_device_get(tx, device, &d);
    if (!e && !d.edge)
        return ERR_DENIED;
    for (const struct jnode *m = modules->first; !e && m; m = m->next)
        e = write_module(h, tx, a, device, m, f);
    return e;
}

enum err config_apply_device(struct hub *h, struct store_tx *tx, struct arena *a, struct span device,
                             const struct jnode *content, struct config_fault *f)
{
    struct twin_patch p = { .service = true };
    struct device_row d;
    bool whole;
    enum err e = tx_device_get(tx, device, &d);
    if (!e && !d.edge)
        return ERR_DENIED;
    if (!e)
        e = config_desired(a, content, &p.desired.patch, &whole, f);
    return e ? e : write_desired(h, tx, a, device, &p, f);
}
