/* hub/domain/twin/twin_merge.c - merging and the stamps of leaves. What may be in a patch is in twin_check.c.
 */
#include "hub/domain/twin/twin_merge.h"

#include "base/text.h"
#include "core/json/json.h"

const struct twin_stamp twin_stamp_none = { 0, 1 };

const char *twin_section_name(enum twin_section s)
{
    static const char *const names[] = { "tags", "properties.desired", "properties.reported" };
    return names[s];
}

/* ---- merging ---------------------------------------------------------------------------------------- */

static struct jnode *merge_value(struct arena *a, const struct jnode *base, const struct jnode *patch,
                                 const struct twin_stamp *now);

static struct jnode *merge_object(struct arena *a, const struct jnode *base, const struct jnode *patch,
                                  const struct twin_stamp *now)
{
    struct jnode *out = jtree_new(a, JOBJECT);
    struct jtree_list l = jtree_list(out);
    if (!out)
        return NULL;
    out->key = patch->key;
    out->mark = now;
    for (const struct jnode *b = base ? base->first : NULL; b; b = b->next) {
        const struct jnode *p = jtree_get(patch, b->key);
        if (!p)
            jtree_add(&l, jtree_copy(a, b));
        else if (p->kind != JNULL)
            jtree_add(&l, merge_value(a, b, p, now));
    }
    for (const struct jnode *p = patch->first; p; p = p->next)
        if (p->kind != JNULL && !jtree_get(base, p->key))
            jtree_add(&l, merge_value(a, NULL, p, now));
    jtree_index(a, out);
    return a->failed ? NULL : out;
}

static struct jnode *merge_value(struct arena *a, const struct jnode *base, const struct jnode *patch,
                                 const struct twin_stamp *now)
{
    if (patch->kind == JOBJECT) {
        bool merged = base && base->kind == JOBJECT;
        if (merged && !patch->nr)
            return jtree_copy(a, base); /* nothing is written */
        return merge_object(a, merged ? base : NULL, patch, now);
    }
    struct jnode *out = jtree_copy(a, patch);
    if (out)
        out->mark = now;
    return out;
}

struct jnode *twin_merge(struct arena *a, const struct jnode *base, const struct jnode *patch,
                         const struct twin_stamp *now)
{
    return merge_object(a, base, patch, now);
}

struct jnode *twin_patch_over(struct arena *a, const struct jnode *below, const struct jnode *above)
{
    if (!below || below->kind != JOBJECT || above->kind != JOBJECT)
        return jtree_copy(a, above);
    struct jnode *out = jtree_new(a, JOBJECT);
    struct jtree_list l = jtree_list(out);
    if (!out)
        return NULL;
    out->key = above->key;
    for (const struct jnode *m = below->first; m; m = m->next) {
        const struct jnode *over = jtree_get(above, m->key);
        jtree_add(&l, over ? twin_patch_over(a, m, over) : jtree_copy(a, m));
    }
    for (const struct jnode *m = above->first; m; m = m->next)
        if (!jtree_get(below, m->key))
            jtree_add(&l, jtree_copy(a, m));
    jtree_index(a, out);
    return out;
}

struct jnode *twin_replacement(struct arena *a, const struct jnode *from, const struct jnode *to)
{
    struct jnode *out = jtree_new(a, JOBJECT);
    struct jtree_list l = jtree_list(out);
    if (!out)
        return NULL;
    out->key = to->key;
    for (const struct jnode *t = to->first; t; t = t->next) {
        const struct jnode *f = jtree_get(from, t->key);
        bool both = f && f->kind == JOBJECT && t->kind == JOBJECT;
        jtree_add(&l, both ? twin_replacement(a, f, t) : jtree_copy(a, t));
    }
    for (const struct jnode *f = from->first; f; f = f->next)
        if (!jtree_get(to, f->key)) {
            struct jnode *gone = jtree_new(a, JNULL);
            if (gone)
                gone->key = f->key;
            jtree_add(&l, gone);
        }
    jtree_index(a, out);
    return a->failed ? NULL : out;
}

/* ---- stamps as bytes -------------------------------------------------------------------------------- */

static void leb_put(struct wr *w, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        wr_u8(w, (uint8_t)(v | 0x80));
    wr_u8(w, (uint8_t)v);
}

static uint64_t leb_get(struct rd *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = rd_u8(r);
        if (shift == 63 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return v;
    }
    r->bad = true;
    return 0;
}

static const struct twin_stamp *stamp_of(const struct jnode *n)
{
    return n->mark ? n->mark : &twin_stamp_none;
}

struct runs {
    struct wr *w;
    struct twin_stamp stamp;
    uint64_t nr, ms; /* of the run at hand; the time of the run before */
};

static void run_end(struct runs *r)
{
    if (!r->nr)
        return;
    uint64_t by = r->stamp.ms - r->ms; /* modulo 2^64: comes back the same way */
    leb_put(r->w, r->nr);
    leb_put(r->w, r->stamp.version);
    leb_put(r->w, by << 1 ^ (uint64_t) - (int64_t)(by >> 63));
    r->ms = r->stamp.ms;
    r->nr = 0;
}

static void encode_node(struct runs *r, const struct jnode *n)
{
    const struct twin_stamp *s = stamp_of(n);
    if (r->nr && (s->ms != r->stamp.ms || s->version != r->stamp.version))
        run_end(r);
    r->stamp = *s;
    r->nr++;
    if (n->kind == JOBJECT)
        for (const struct jnode *c = n->first; c; c = c->next)
            encode_node(r, c);
}

void twin_meta_encode(struct wr *w, const struct jnode *section)
{
    struct runs r = { .w = w };
    encode_node(&r, section);
    run_end(&r);
}

struct unrun {
    struct arena *a;
    struct rd in;
    uint64_t nr, ms;
    const struct twin_stamp *stamp;
};

static void decode_node(struct unrun *u, struct jnode *n)
{
    if (!u->nr && u->in.n && !u->in.bad) {
        struct twin_stamp *s = arena_alloc(u->a, sizeof *s);
        u->nr = leb_get(&u->in);
        uint64_t version = leb_get(&u->in), by = leb_get(&u->in);
        u->ms += by >> 1 ^ (uint64_t) - (int64_t)(by & 1);
        if (!u->nr)
            u->in.bad = true;
        if (s)
            *s = (struct twin_stamp){ u->ms, version };
        u->stamp = s;
    }
    n->mark = u->nr ? u->stamp : NULL;
    u->nr -= u->nr > 0;
    if (n->kind == JOBJECT)
        for (struct jnode *c = n->first; c; c = c->next)
            decode_node(u, c);
}

enum err twin_meta_decode(struct arena *a, struct span meta, struct jnode *section)
{
    struct unrun u = { .a = a, .in = rd_of(meta) };
    decode_node(&u, section);
    if (a->failed)
        return ERR_NOMEM;
    return u.in.bad || u.in.n || u.nr ? ERR_PROTO : ERR_OK;
}

/* ---- writing ---------------------------------------------------------------------------------------- */

void twin_time_write(struct wr *w, uint64_t wall_ms)
{
    wr_u8(w, '"');
    if (wall_ms)
        iso8601_encode(w, wall_ms);
    else
        wr_str(w, "0001-01-01T00:00:00Z");
    wr_u8(w, '"');
}

static void meta_write(struct wr *w, const struct jnode *n, bool versions)
{
    wr_str(w, "{\"$lastUpdated\":");
    twin_time_write(w, stamp_of(n)->ms);
    if (versions) {
        wr_str(w, ",\"$lastUpdatedVersion\":");
        u64_encode(w, stamp_of(n)->version);
    }
    if (n->kind == JOBJECT)
        for (const struct jnode *c = n->first; c; c = c->next) {
            wr_u8(w, ',');
            json_put_string(w, c->key);
            wr_u8(w, ':');
            meta_write(w, c, versions);
        }
    wr_u8(w, '}');
}

void twin_section_write(struct wr *w, enum twin_section s, const struct jnode *section, uint64_t version,
                        bool meta)
{
    wr_u8(w, '{');
    for (const struct jnode *c = section->first; c; c = c->next) {
        json_put_string(w, c->key);
        wr_u8(w, ':');
        jtree_write(w, c);
        wr_u8(w, ',');
    }
    if (meta) {
        wr_str(w, "\"$metadata\":");
        meta_write(w, section, s == TWIN_DESIRED);
        wr_u8(w, ',');
    }
    wr_str(w, "\"$version\":");
    u64_encode(w, version);
    wr_u8(w, '}');
}
