/* hub/domain/twin/twin.c - twins in the store: read, patched, written. */
#include "hub/domain/twin/twin.h"

#include "base/log.h"
#include "base/text.h"
#include "core/json/json.h"

/* ---- reading ---------------------------------------------------------------------------------------- */

static enum err section(struct arena *a, struct span text, struct span meta, struct jnode **out)
{
    enum err e = jtree_parse(a, text, out, NULL);
    if (!e && (*out)->kind != JOBJECT)
        e = ERR_PROTO;
    return e ? e : twin_meta_decode(a, meta, *out);
}

enum err twin_load(struct arena *a, const struct twin_row *in, struct twin *out)
{
    struct twin t = { .row = *in };
    t.row.id = arena_copy(a, in->id);
    t.row.device = arena_copy(a, in->device);
    t.row.module = arena_copy(a, in->module);
    t.row.tags = arena_copy(a, in->tags);
    t.row.desired = arena_copy(a, in->desired);
    t.row.reported = arena_copy(a, in->reported);
    t.row.desired_meta = arena_copy(a, in->desired_meta);
    t.row.reported_meta = arena_copy(a, in->reported_meta);
    t.row.configurations = arena_copy(a, in->configurations);
    t.row.model_id = arena_copy(a, in->model_id);
    enum err e = arena_err(a);
    if (!e)
        e = section(a, t.row.tags, SPAN_NONE, &t.tags);
    if (!e)
        e = section(a, t.row.desired, t.row.desired_meta, &t.desired);
    if (!e)
        e = section(a, t.row.reported, t.row.reported_meta, &t.reported);
    if (e == ERR_PROTO || e == ERR_LIMIT) {
        log_error("twin.load", "id=%.*s: what is stored is no twin", (int)in->id.n, (const char *)in->id.p);
        e = ERR_IO;
    }
    if (!e)
        *out = t;
    return e;
}

enum err twin_get(struct store_tx *tx, struct arena *a, struct span id, struct twin *out)
{
    struct twin_row r;
    enum err e = tx_twin_get(tx, id, &r);
    return e ? e : twin_load(a, &r, out);
}

/* ---- patches ---------------------------------------------------------------------------------------- */

static enum err parse(struct arena *a, struct span body, struct jnode **root, struct twin_fault *f)
{
    struct jtree_fault why = { "", 0 };
    enum err e = jtree_parse(a, body, root, &why);
    if (e == ERR_PROTO || e == ERR_LIMIT)
        return twin_fail(f, TWIN_NOT_JSON, "the body is not JSON that can be read: %s (byte %zu)", why.what,
                         why.at);
    if (!e && (*root)->kind != JOBJECT)
        return twin_fail(f, TWIN_NOT_OBJECT, "the body has to be a JSON object");
    return e;
}

static enum err part(struct arena *a, enum twin_section s, const struct jnode *in, bool replace,
                     struct twin_part *out, struct twin_fault *f)
{
    *out = (struct twin_part){ .replace = replace };
    if (!in && !replace)
        return ERR_OK;
    if (!in || in->kind == JNULL) { /* emptied */
        out->replace = true;
        out->patch = jtree_new(a, JOBJECT);
        return arena_err(a);
    }
    return twin_check(a, s, in, true, &out->patch, f);
}

enum err twin_service_patch_of(struct arena *a, const struct jnode *body, bool replace,
                               struct twin_patch *out, struct twin_fault *f)
{
    struct twin_patch p = { .service = true };
    const struct jnode *props = jtree_get(body, SPAN("properties"));
    if (props && props->kind != JOBJECT && props->kind != JNULL)
        return twin_fail(f, TWIN_NOT_OBJECT, "properties: has to be an object");
    enum err e = part(a, TWIN_TAGS, jtree_get(body, SPAN("tags")), replace, &p.tags, f);
    if (!e)
        e = part(a, TWIN_DESIRED, jtree_get(props, SPAN("desired")), replace, &p.desired, f);
    if (!e)
        *out = p;
    return e;
}

enum err twin_service_patch(struct arena *a, struct span body, bool replace, struct twin_patch *out,
                            struct twin_fault *f)
{
    struct jnode *root;
    enum err e = parse(a, body, &root, f);
    return e ? e : twin_service_patch_of(a, root, replace, out, f);
}

enum err twin_reported_patch(struct arena *a, struct span body, struct twin_patch *out, struct twin_fault *f)
{
    struct twin_patch p = { 0 };
    struct jnode *root, *kept;
    enum err e = parse(a, body, &root, f);
    if (e)
        return e;
    kept = root;
    if (jtree_get(root, SPAN("$version"))) {
        kept = jtree_new(a, JOBJECT);
        struct jtree_list l = jtree_list(kept);
        for (const struct jnode *m = root->first; m; m = m->next)
            if (!span_eq(m->key, SPAN("$version")))
                jtree_add(&l, jtree_copy(a, m));
        e = arena_err(a);
    }
    if (!e)
        e = twin_check(a, TWIN_REPORTED, kept, false, &p.reported.patch, f);
    if (!e)
        *out = p;
    return e;
}

/* ---- update ----------------------------------------------------------------------------------------- */

static enum err write_meta(struct arena *a, const struct jnode *s, struct span *out)
{
    struct wr w = { 0 };
    twin_meta_encode(&w, s);
    w = (struct wr){ arena_alloc(a, w.len), w.len, 0 };
    if (!w.p)
        return ERR_NOMEM;
    twin_meta_encode(&w, s);
    *out = wr_span(&w);
    return ERR_OK;
}

/* The section with its part applied, its text, and its stamps (meta may be NULL: tags have none). */
static enum err apply(struct arena *a, enum twin_section s, struct jnode **tree, const struct twin_part *p,
                      struct twin_stamp stamp, struct span *text, struct span *meta, struct twin_fault *f)
{
    struct twin_stamp *now = arena_alloc(a, sizeof *now);
    if (!now)
        return ERR_NOMEM;
    *now = stamp;
    struct jnode *next = twin_merge(a, p->replace ? NULL : *tree, p->patch, now);
    if (!next)
        return ERR_NOMEM;
    enum err e = twin_check_size(s, next, f);
    if (e)
        return e;
    *tree = next;
    *text = jtree_text(a, next);
    e = arena_err(a);
    return e || !meta ? e : write_meta(a, next, meta);
}

static enum err stale(struct twin_fault *f, const char *what)
{
    (void)twin_fail(f, TWIN_STALE, "%s", what);
    return ERR_STALE;
}

/* A part that says nothing leaves its section as it is: tools send back a twin with empty sections. */
static bool writes(const struct twin_part *p, const struct jnode *section)
{
    if (!p->patch)
        return false;
    return p->patch->nr || (p->replace && section->nr);
}

enum err twin_update(struct hub *h, struct store_tx *tx, struct arena *a, struct span id,
                     const struct twin_patch *p, const struct twin_if *cond, struct twin *out,
                     struct twin_fault *f)
{
    struct twin before;
    enum err e = twin_get(tx, a, id, &before);
    if (e)
        return e;
    if (cond->etag && cond->etag != before.row.etag)
        return stale(f, "the twin was changed meanwhile: its etag is another one");
    if (cond->reported_version && cond->reported_version != before.row.reported_version)
        return stale(f, "the reported properties have another version");
    struct twin t = before;
    struct twin_patch did = *p;
    uint64_t now = h->wall_ms();
    did.tags.patch = writes(&p->tags, before.tags) ? p->tags.patch : NULL;
    did.desired.patch = writes(&p->desired, before.desired) ? p->desired.patch : NULL;
    struct twin_change c = { .before = &before, .after = &t, .patch = &did };
    if (did.tags.patch)
        e = apply(a, TWIN_TAGS, &t.tags, &did.tags, (struct twin_stamp){ 0 }, &t.row.tags, NULL, f);
    if (!e && did.desired.patch) {
        t.row.desired_version++;
        e = apply(a, TWIN_DESIRED, &t.desired, &did.desired,
                  (struct twin_stamp){ now, t.row.desired_version }, &t.row.desired, &t.row.desired_meta, f);
        c.desired_patch =
            did.desired.replace && !e ? twin_replacement(a, before.desired, t.desired) : did.desired.patch;
    }
    if (!e && did.reported.patch) { /* every patch of a device is a version, whatever is in it */
        t.row.reported_version++;
        e = apply(a, TWIN_REPORTED, &t.reported, &did.reported,
                  (struct twin_stamp){ now, t.row.reported_version }, &t.row.reported, &t.row.reported_meta,
                  f);
    }
    t.row.version++;
    t.row.etag += p->service;
    if (!e)
        e = arena_err(a);
    if (!e)
        e = tx_twin_put(tx, &t.row);
    if (!e)
        e = twin_changed(h, tx, a, &c);
    if (!e)
        *out = t;
    return e;
}

enum err twin_set_model(struct store_tx *tx, struct span id, struct span model)
{
    struct twin_row r;
    enum err e = tx_twin_get(tx, id, &r);
    if (e || span_eq(r.model_id, model))
        return e;
    return tx_twin_set_model(tx, id, model);
}

/* ---- text ------------------------------------------------------------------------------------------- */

void twin_device_view(struct wr *w, const struct twin *t)
{
    wr_str(w, "{\"desired\":");
    twin_section_write(w, TWIN_DESIRED, t->desired, t->row.desired_version, false);
    wr_str(w, ",\"reported\":");
    twin_section_write(w, TWIN_REPORTED, t->reported, t->row.reported_version, false);
    wr_u8(w, '}');
}

void twin_etag_write(struct wr *w, uint64_t etag)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(etag >> (56 - 8 * i));
    base64_encode(w, span_of(b, sizeof b));
}

enum err twin_etag_parse(struct span s, uint64_t *etag)
{
    uint8_t b[8];
    size_t n;
    uint64_t v = 0;
    if (span_starts(s, SPAN("W/")))
        s = span_skip(s, 2);
    if (s.n >= 2 && s.p[0] == '"' && s.p[s.n - 1] == '"')
        s = span_of(s.p + 1, s.n - 2);
    if (span_eq(s, SPAN("*"))) {
        *etag = 0;
        return ERR_OK;
    }
    if (s.n != TWIN_ETAG_LEN || base64_decode(s, b, sizeof b, &n) || n != sizeof b)
        return ERR_PROTO;
    for (size_t i = 0; i < sizeof b; i++)
        v = v << 8 | b[i];
    if (!v)
        return ERR_PROTO; /* no twin has it */
    *etag = v;
    return ERR_OK;
}
