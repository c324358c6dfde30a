/* hub/domain/twin/twin_doc.c - the twin document: the identity's side beside the twin's. */
#include "hub/domain/twin/twin_doc.h"

#include "base/text.h"
#include "core/json/json.h"

#define AT_ONCE_MAX 3072u

/* ---- what else is known ----------------------------------------------------------------------------- */

static enum err of_device(struct store_tx *tx, struct span id, struct twin_facts *f)
{
    struct device_row d;
    struct identity_seen seen;
    enum err e = tx_device_get_seen(tx, id, &d, &seen);
    if (e)
        return e;
    *f = (struct twin_facts){ .identity_etag = d.etag,
                              .seen = seen,
                              .enabled = d.status == DEVICE_ENABLED,
                              .edge = d.edge,
                              .auth = d.auth,
                              .status_reason =
                                  d.status == DEVICE_PENDING ? SPAN("waits for approval") : d.status_reason,
                              .status_ms = d.status_updated_ms,
                              .thumb1 = d.thumb1,
                              .thumb2 = d.thumb2,
                              .scope = d.scope,
                              .parent_scope = d.parent_scope };
    return ERR_OK;
}

/* A module is as enabled as its device. */
static enum err of_module(struct store_tx *tx, const struct twin_row *r, struct twin_facts *f)
{
    struct device_row d;
    struct module_row m;
    enum err e = tx_device_get(tx, r->device, &d);
    if (e)
        return e;
    bool enabled = d.status == DEVICE_ENABLED;
    e = tx_module_get(tx, r->device, r->module, &m);
    if (e)
        return e;
    *f = (struct twin_facts){
        .identity_etag = m.etag, .enabled = enabled, .auth = m.auth, .thumb1 = m.thumb1, .thumb2 = m.thumb2
    };
    return tx_identity_seen(tx, r->id, &f->seen);
}

static struct span kept(struct arena *a, struct span s)
{
    return s.n ? arena_copy(a, s) : s;
}

enum err twin_facts_get(struct store_tx *tx, struct arena *a, const struct twin_row *r,
                        struct twin_facts *out)
{
    struct twin_facts f;
    enum err e = r->module.n ? of_module(tx, r, &f) : of_device(tx, r->device, &f);
    if (e)
        return e;
    f.status_reason = kept(a, f.status_reason);
    f.thumb1 = kept(a, f.thumb1);
    f.thumb2 = kept(a, f.thumb2);
    f.scope = kept(a, f.scope);
    f.parent_scope = kept(a, f.parent_scope);
    e = arena_err(a);
    if (!e)
        *out = f;
    return e;
}

/* ---- the document ----------------------------------------------------------------------------------- */

static void name(struct wr *w, const char *n) /* of every member but the first */
{
    wr_str(w, ",\"");
    wr_str(w, n);
    wr_str(w, "\":");
}

static void put_text(struct wr *w, const char *n, struct span s)
{
    name(w, n);
    json_put_string(w, s);
}

static void put_time(struct wr *w, const char *n, uint64_t wall_ms)
{
    name(w, n);
    twin_time_write(w, wall_ms);
}

static void put_number(struct wr *w, const char *n, uint64_t v)
{
    name(w, n);
    u64_encode(w, v);
}

static void text_or_null(struct wr *w, struct span s)
{
    if (s.n)
        json_put_string(w, s);
    else
        wr_str(w, "null");
}

/* base64 of the counter in decimal, as the registry shows it. */
static void put_identity_etag(struct wr *w, uint64_t etag)
{
    uint8_t digits[20];
    struct wr d = { digits, sizeof digits, 0 };
    u64_encode(&d, etag);
    name(w, "deviceEtag");
    wr_u8(w, '"');
    base64_encode(w, wr_span(&d));
    wr_u8(w, '"');
}

static const char *auth_name(uint8_t auth)
{
    static const char *const names[] = { "sas", "selfSigned", "certificateAuthority", "none" };
    return auth < 4 ? names[auth] : "none";
}

static void doc_write(struct wr *w, const struct twin *t, const struct twin_facts *f)
{
    wr_str(w, "{\"deviceId\":");
    json_put_string(w, t->row.device);
    if (t->row.module.n)
        put_text(w, "moduleId", t->row.module);
    name(w, "etag");
    wr_u8(w, '"');
    twin_etag_write(w, t->row.etag);
    wr_u8(w, '"');
    put_identity_etag(w, f->identity_etag);
    put_text(w, "status", f->enabled ? SPAN("enabled") : SPAN("disabled"));
    if (f->status_reason.n)
        put_text(w, "statusReason", f->status_reason);
    put_time(w, "statusUpdateTime", f->status_ms);
    put_text(w, "connectionState", f->seen.connected ? SPAN("Connected") : SPAN("Disconnected"));
    put_time(w, "lastActivityTime", f->seen.activity_ms);
    put_number(w, "cloudToDeviceMessageCount", f->seen.waiting);
    put_text(w, "authenticationType", span_str(auth_name(f->auth)));
    name(w, "x509Thumbprint");
    wr_str(w, "{\"primaryThumbprint\":");
    text_or_null(w, f->thumb1);
    name(w, "secondaryThumbprint");
    text_or_null(w, f->thumb2);
    wr_u8(w, '}');
    put_text(w, "modelId", t->row.model_id);
    put_number(w, "version", t->row.version);
    name(w, "tags");
    jtree_write(w, t->tags);
    name(w, "properties");
    wr_str(w, "{\"desired\":");
    twin_section_write(w, TWIN_DESIRED, t->desired, t->row.desired_version, true);
    wr_str(w, ",\"reported\":");
    twin_section_write(w, TWIN_REPORTED, t->reported, t->row.reported_version, true);
    wr_u8(w, '}');
    if (!t->row.module.n) {
        name(w, "capabilities");
        wr_str(w, f->edge ? "{\"iotEdge\":true}" : "{\"iotEdge\":false}");
    }
    if (f->scope.n)
        put_text(w, "deviceScope", f->scope);
    if (f->parent_scope.n) {
        name(w, "parentScopes");
        wr_u8(w, '[');
        json_put_string(w, f->parent_scope);
        wr_u8(w, ']');
    }
    if (t->row.configurations.n) {
        name(w, "configurations");
        wr_put(w, t->row.configurations);
    }
    wr_u8(w, '}');
}

enum err twin_doc_text(struct arena *a, const struct twin *t, const struct twin_facts *f, struct span *out)
{
    /* Most are small: then the text is written at once, else it is measured first. */
    const size_t guess =
        1024 + t->row.configurations.n + t->row.tags.n + 4 * (t->row.desired.n + t->row.reported.n);
    struct wr w = { 0 };
    if (guess <= AT_ONCE_MAX)
        w = (struct wr){ arena_alloc(a, guess), guess, 0 };
    if (guess <= AT_ONCE_MAX && !w.p)
        return ERR_NOMEM;
    doc_write(&w, t, f);
    if (!wr_ok(&w)) {
        w = (struct wr){ arena_alloc(a, w.len), w.len, 0 };
        if (!w.p)
            return ERR_NOMEM;
        doc_write(&w, t, f);
    }
    *out = wr_span(&w);
    return ERR_OK;
}

enum err twin_doc_get(struct store_tx *tx, struct arena *a, const struct twin *t, struct span *out)
{
    struct twin_facts f;
    enum err e = twin_facts_get(tx, a, &t->row, &f);
    return e ? e : twin_doc_text(a, t, &f, out);
}

void twin_view_write(struct wr *w, const struct twin *t, bool meta)
{
    wr_str(w, "{\"id\":");
    json_put_string(w, t->row.id);
    wr_str(w, ",\"etag\":\"");
    twin_etag_write(w, t->row.etag);
    wr_str(w, "\",\"version\":");
    u64_encode(w, t->row.version);
    wr_str(w, ",\"model\":");
    json_put_string(w, t->row.model_id);
    wr_str(w, ",\"tags\":");
    jtree_write(w, t->tags);
    wr_str(w, ",\"desired\":");
    twin_section_write(w, TWIN_DESIRED, t->desired, t->row.desired_version, meta);
    wr_str(w, ",\"reported\":");
    twin_section_write(w, TWIN_REPORTED, t->reported, t->row.reported_version, meta);
    wr_u8(w, '}');
}
