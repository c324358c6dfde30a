/* hub/domain/twin/twin_digital.c - the Plug and Play view of a twin, and patches of it. */
#include "hub/domain/twin/twin_digital.h"

#include "base/text.h"
#include "core/json/json.h"

#include <assert.h>

static bool is_component(const struct jnode *n)
{
    const struct jnode *mark = n && n->kind == JOBJECT ? jtree_get(n, SPAN("__t")) : NULL;
    return mark && mark->kind == JSTRING && span_eq(mark->text, SPAN("c"));
}

/* ---- the view --------------------------------------------------------------------------------------- */

static bool is_acknowledgement(const struct jnode *n)
{
    return n && n->kind == JOBJECT && jtree_get(n, SPAN("value")) &&
           (jtree_get(n, SPAN("ac")) || jtree_get(n, SPAN("av")));
}

static void key(struct wr *w, bool *more, struct span k)
{
    if (*more)
        wr_u8(w, ',');
    *more = true;
    json_put_string(w, k);
    wr_u8(w, ':');
}

static void put(struct wr *w, bool *more, const char *k, const struct jnode *v)
{
    if (!v)
        return;
    key(w, more, span_str(k));
    jtree_write(w, v);
}

/* What is known about one property: reported, desired; one of them may be NULL. */
static void property_meta(struct wr *w, const struct jnode *reported, const struct jnode *desired)
{
    const struct jnode *newest = reported ? reported : desired;
    assert(newest);
    const struct twin_stamp *stamp = newest->mark ? newest->mark : &twin_stamp_none;
    bool more = false;
    wr_u8(w, '{');
    if (desired) {
        const struct twin_stamp *d = desired->mark ? desired->mark : &twin_stamp_none;
        put(w, &more, "desiredValue", desired);
        key(w, &more, SPAN("desiredVersion"));
        u64_encode(w, d->version);
    }
    if (is_acknowledgement(reported)) {
        put(w, &more, "ackVersion", jtree_get(reported, SPAN("av")));
        put(w, &more, "ackCode", jtree_get(reported, SPAN("ac")));
        put(w, &more, "ackDescription", jtree_get(reported, SPAN("ad")));
    }
    key(w, &more, SPAN("lastUpdateTime"));
    twin_time_write(w, stamp->ms);
    wr_u8(w, '}');
}

static bool is_mark(const struct jnode *n)
{
    return span_eq(n->key, SPAN("__t"));
}

static void container(struct wr *w, const struct twin *root, const struct jnode *reported,
                      const struct jnode *desired)
{
    bool more = false;
    wr_u8(w, '{');
    if (root) {
        key(w, &more, SPAN("$dtId"));
        json_put_string(w, root->row.device);
    }
    for (const struct jnode *m = reported ? reported->first : NULL; m; m = m->next) {
        if (is_mark(m))
            continue;
        key(w, &more, m->key);
        if (root && is_component(m)) {
            const struct jnode *d = jtree_get(desired, m->key);
            container(w, NULL, m, is_component(d) ? d : NULL);
        } else {
            jtree_write(w, is_acknowledgement(m) ? jtree_get(m, SPAN("value")) : m);
        }
    }
    for (const struct jnode *m = root ? desired->first : NULL; m; m = m->next)
        if (is_component(m) && !jtree_get(reported, m->key)) {
            key(w, &more, m->key);
            container(w, NULL, NULL, m);
        }
    key(w, &more, SPAN("$metadata"));
    wr_u8(w, '{');
    more = false;
    if (root) {
        key(w, &more, SPAN("$model"));
        json_put_string(w, root->row.model_id);
    }
    for (const struct jnode *m = reported ? reported->first : NULL; m; m = m->next)
        if (!is_mark(m) && !(root && is_component(m))) {
            key(w, &more, m->key);
            property_meta(w, m, jtree_get(desired, m->key));
        }
    for (const struct jnode *m = desired ? desired->first : NULL; m; m = m->next)
        if (!is_mark(m) && !(root && is_component(m)) && !jtree_get(reported, m->key)) {
            key(w, &more, m->key);
            property_meta(w, NULL, m);
        }
    wr_str(w, "}}");
}

void twin_digital_write(struct wr *w, const struct twin *t)
{
    container(w, t, t->reported, t->desired);
}

/* ---- patches ---------------------------------------------------------------------------------------- */

struct patching {
    struct arena *a;
    struct jnode *target; /* desired properties as they are after the operations so far */
    struct jnode *all;    /* the patch so far */
    enum twin_digital_wrong *wrong;
    struct twin_fault *f;
};

static enum err refuse(struct patching *p, enum twin_digital_wrong wrong, const char *what, unsigned nr)
{
    *p->wrong = wrong;
    return twin_fail(p->f, TWIN_NOT_OBJECT, "operation %u: %s", nr, what);
}

/* "/a" or "/a/b" (RFC 6901: ~1 is '/', ~0 is '~'); the number of parts, 0: another path. */
static unsigned path_parts(struct arena *a, struct span path, struct span part[2])
{
    unsigned nr = 0;
    size_t i = 0;
    while (i < path.n) {
        if (path.p[i++] != '/' || nr == 2)
            return 0;
        struct wr w = { arena_alloc(a, path.n), path.n, 0 };
        if (!w.p)
            return 0;
        for (; i < path.n && path.p[i] != '/'; i++) {
            uint8_t c = path.p[i];
            if (c == '~') {
                if (++i == path.n || (path.p[i] != '0' && path.p[i] != '1'))
                    return 0;
                c = path.p[i] == '0' ? '~' : '/';
            }
            wr_u8(&w, c);
        }
        part[nr] = wr_span(&w);
        if (!part[nr].n || part[nr].p[0] == '$' || span_eq(part[nr], SPAN("__t")))
            return 0;
        nr++;
    }
    return nr;
}

static struct jnode *component_mark(struct arena *a)
{
    struct jnode *n = jtree_new(a, JSTRING);
    if (n) {
        n->key = SPAN("__t");
        n->text = SPAN("c");
    }
    return n;
}

/* A component's content as it is stored: marked, without "$metadata". */
static struct jnode *component_of(struct arena *a, const struct jnode *v)
{
    struct jnode *out = jtree_new(a, JOBJECT);
    struct jtree_list l = jtree_list(out);
    jtree_add(&l, component_mark(a));
    for (const struct jnode *m = v->first; m; m = m->next)
        if (!is_mark(m) && !span_eq(m->key, SPAN("$metadata")))
            jtree_add(&l, jtree_copy(a, m));
    return out;
}

/* {"key": the patch that makes v of what is at `now`} */
static struct jnode *assign(struct arena *a, struct span k, const struct jnode *now, const struct jnode *v)
{
    struct jnode *out = jtree_new(a, JOBJECT), *empty = jtree_new(a, JOBJECT), *m;
    struct jtree_list l = jtree_list(out);
    if (v && v->kind == JOBJECT && empty)
        m = twin_replacement(a, now && now->kind == JOBJECT ? now : empty, v);
    else
        m = v ? jtree_copy(a, v) : jtree_new(a, JNULL);
    if (m)
        m->key = k;
    jtree_add(&l, m);
    return out;
}

static enum err one(struct patching *p, const struct jnode *o, unsigned nr)
{
    static const struct twin_stamp now = { 0, 0 };
    const struct jnode *op = jtree_get(o, SPAN("op")), *path = jtree_get(o, SPAN("path")),
                       *v = jtree_get(o, SPAN("value"));
    struct span part[2] = { SPAN_NONE, SPAN_NONE };
    if (!op || op->kind != JSTRING || !path || path->kind != JSTRING)
        return refuse(p, DIGITAL_NO_PATCH, "has to be an object with \"op\" and \"path\"", nr);
    bool remove = span_eq(op->text, SPAN("remove"));
    if (!remove && !span_eq(op->text, SPAN("add")) && !span_eq(op->text, SPAN("replace")))
        return refuse(p, DIGITAL_BAD_OP, "\"op\" has to be add, replace or remove", nr);
    if (!remove && !v)
        return refuse(p, DIGITAL_NO_PATCH, "\"value\" is missing", nr);
    unsigned parts = path_parts(p->a, path->text, part);
    if (p->a->failed)
        return ERR_NOMEM;
    if (!parts)
        return refuse(p, DIGITAL_BAD_PATH, "\"path\" has to be /property, /component or /component/property",
                      nr);
    const struct jnode *there = jtree_get(p->target, part[0]);
    if (parts == 2 && there && !is_component(there))
        return refuse(p, DIGITAL_BAD_PATH, "\"path\" goes through a property that is no component", nr);
    if (remove && !(parts == 2 ? jtree_get(there, part[1]) : there))
        return refuse(p, DIGITAL_BAD_PATH, "there is nothing to remove at \"path\"", nr);
    bool component = v && v->kind == JOBJECT && jtree_get(v, SPAN("$metadata"));
    if (!remove && (parts == 2 ? component : is_component(there) && !component))
        return refuse(p, DIGITAL_BAD_VALUE, "\"value\" of a component, and only of one, has \"$metadata\"",
                      nr);
    struct jnode *step;
    if (parts == 1) {
        step = assign(p->a, part[0], there, remove ? NULL : component ? component_of(p->a, v) : v);
    } else {
        struct jnode *inner = assign(p->a, part[1], jtree_get(there, part[1]), remove ? NULL : v);
        struct jnode *marked = jtree_new(p->a, JOBJECT);
        struct jtree_list l = jtree_list(marked), lo;
        jtree_add(&l, component_mark(p->a));
        for (const struct jnode *m = inner ? inner->first : NULL; m; m = m->next)
            jtree_add(&l, jtree_copy(p->a, m));
        step = jtree_new(p->a, JOBJECT);
        lo = jtree_list(step);
        if (marked)
            marked->key = part[0];
        jtree_add(&lo, marked);
    }
    if (p->a->failed)
        return ERR_NOMEM;
    p->target = twin_merge(p->a, p->target, step, &now);
    p->all = twin_patch_over(p->a, p->all, step);
    return arena_err(p->a);
}

enum err twin_digital_patch(struct arena *a, struct span body, const struct jnode *desired,
                            struct twin_patch *out, enum twin_digital_wrong *wrong, struct twin_fault *f)
{
    struct patching p = { a, jtree_copy(a, desired), jtree_new(a, JOBJECT), wrong, f };
    struct twin_patch patch = { .service = true };
    struct jtree_fault why = { "", 0 };
    struct jnode *ops;
    unsigned nr = 1;
    enum err e = jtree_parse(a, body, &ops, &why);
    *wrong = DIGITAL_NO_PATCH;
    if (e == ERR_PROTO || e == ERR_LIMIT)
        return twin_fail(f, TWIN_NOT_JSON, "the body is not JSON that can be read: %s (byte %zu)", why.what,
                         why.at);
    if (!e && (ops->kind != JARRAY || !ops->nr))
        return twin_fail(f, TWIN_NOT_OBJECT, "the body has to be a list of operations");
    for (const struct jnode *o = e ? NULL : ops->first; !e && o; o = o->next)
        e = one(&p, o, nr++);
    if (e)
        return e;
    *wrong = DIGITAL_BAD_VALUE;
    e = twin_check(a, TWIN_DESIRED, p.all, false, &patch.desired.patch, f);
    if (!e)
        *out = patch;
    return e;
}
