/* hub/domain/json_tree.c - JSON text to a tree and back. */
#include "hub/domain/json_tree.h"

#include "core/json/json.h"

#include <stdlib.h>

#define INDEX_FROM 9u /* members from which an object is searched by halves */

struct parse {
    struct arena *a;
    const uint8_t *p, *end, *start;
    unsigned nested, nodes;
    bool once; /* no two members of one name */
    enum err err;
    struct jtree_fault why;
};

static struct jnode *fail(struct parse *s, enum err e, const char *what)
{
    if (!s->err) {
        s->err = e;
        s->why = (struct jtree_fault){ what, (size_t)(s->p - s->start) };
    }
    return NULL;
}

static void blank(struct parse *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static bool take(struct parse *s, uint8_t c)
{
    if (s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

/* ---- strings ---------------------------------------------------------------------------------------- */

/* Length of the UTF-8 sequence at p (RFC 3629), 0: none. */
static size_t utf8_len(const uint8_t *p, const uint8_t *end)
{
    size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : 4;
    if (n == 4 && (p[0] < 0xf0 || p[0] > 0xf4))
        return 0;
    if ((size_t)(end - p) < n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static bool hex4(struct parse *s, uint32_t *out)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++, s->p++) {
        if (s->p == s->end)
            return false;
        uint8_t c = *s->p, l = c | 0x20;
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if (l >= 'a' && l <= 'f')
            v = v << 4 | (uint32_t)(l - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

static void utf8_put(struct wr *w, uint32_t c)
{
    if (c < 0x80) {
        wr_u8(w, (uint8_t)c);
        return;
    }
    if (c < 0x800) {
        wr_u8(w, (uint8_t)(0xc0 | c >> 6));
    } else {
        if (c < 0x10000) {
            wr_u8(w, (uint8_t)(0xe0 | c >> 12));
        } else {
            wr_u8(w, (uint8_t)(0xf0 | c >> 18));
            wr_u8(w, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        }
        wr_u8(w, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
    }
    wr_u8(w, (uint8_t)(0x80 | (c & 0x3f)));
}

static bool escape(struct parse *s, struct wr *w)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t c, low;
    if (s->p == s->end)
        return false;
    uint8_t what = *s->p++;
    const char *at = what ? strchr(from, what) : NULL;
    if (at) {
        wr_u8(w, (uint8_t)to[at - from]);
        return true;
    }
    if (what != 'u' || !hex4(s, &c) || (c >= 0xdc00 && c < 0xe000))
        return false;
    if (c >= 0xd800 && c < 0xdc00) {
        if (!take(s, '\\') || !take(s, 'u') || !hex4(s, &low) || low < 0xdc00 || low > 0xdfff)
            return false;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    utf8_put(w, c);
    return true;
}

/* Behind the opening quote. */
static bool string(struct parse *s, struct span *out)
{
    const uint8_t *from = s->p;
    bool plain = true;
    while (s->p < s->end && *s->p != '"') {
        if (*s->p < 0x20) {
            (void)fail(s, ERR_PROTO, "a control character in a string");
            return false;
        }
        plain &= *s->p != '\\';
        if (*s->p == '\\' && s->end - s->p > 1)
            s->p++; /* whatever it is: looked at below */
        size_t n = utf8_len(s->p, s->end);
        if (!n) {
            (void)fail(s, ERR_PROTO, "a string that is not UTF-8");
            return false;
        }
        s->p += n;
    }
    if (s->p >= s->end) {
        (void)fail(s, ERR_PROTO, "a string without an end");
        return false;
    }
    const uint8_t *to = s->p++;
    *out = span_of(from, (size_t)(to - from));
    if (plain)
        return true;
    struct wr w = { arena_alloc(s->a, out->n), out->n, 0 };
    if (!w.p) {
        (void)fail(s, ERR_NOMEM, "out of memory");
        return false;
    }
    struct parse in = { .a = s->a, .p = from, .end = to, .start = s->start };
    while (in.p < in.end) {
        if (*in.p != '\\') {
            wr_u8(&w, *in.p++);
            continue;
        }
        in.p++;
        if (!escape(&in, &w)) {
            s->p = in.p;
            (void)fail(s, ERR_PROTO, "a bad escape in a string");
            return false;
        }
    }
    *out = wr_span(&w); /* an escape is never shorter than what it stands for */
    return true;
}

/* ---- values ----------------------------------------------------------------------------------------- */

static bool digits(struct parse *s)
{
    const uint8_t *from = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return s->p != from;
}

static bool number(struct parse *s, struct span *out)
{
    const uint8_t *from = s->p;
    (void)take(s, '-');
    bool ok = take(s, '0') || digits(s);
    if (ok && take(s, '.'))
        ok = digits(s);
    if (ok && s->p < s->end && (*s->p | 0x20) == 'e') {
        s->p++;
        if (!take(s, '-'))
            (void)take(s, '+');
        ok = digits(s);
    }
    *out = span_of(from, (size_t)(s->p - from));
    return ok;
}

static struct jnode *value(struct parse *s);

static bool literal(struct parse *s, const char *name)
{
    size_t n = strlen(name);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, name, n) != 0)
        return false;
    s->p += n;
    return true;
}

static int by_key(const void *x, const void *y)
{
    const struct jnode *a = ((const struct jref *)x)->n, *b = ((const struct jref *)y)->n;
    size_t n = a->key.n < b->key.n ? a->key.n : b->key.n;
    int c = n ? memcmp(a->key.p, b->key.p, n) : 0;
    if (!c)
        c = (a->key.n > b->key.n) - (a->key.n < b->key.n);
    return c ? c : (a->at > b->at) - (a->at < b->at);
}

/* Links the members that are the last of their name; the others were overtaken. */
static void last_ones(struct jnode *o, struct jref *sorted, size_t nr)
{
    for (size_t i = 0; i + 1 < nr; i++)
        if (span_eq(sorted[i].n->key, sorted[i + 1].n->key))
            sorted[i].n->at = UINT32_MAX;
    struct jnode **end = &o->first;
    o->nr = 0;
    while (*end) {
        if ((*end)->at == UINT32_MAX) {
            *end = (*end)->next;
            continue;
        }
        (*end)->at = o->nr++;
        end = &(*end)->next;
    }
}

void jtree_index(struct arena *a, struct jnode *o)
{
    size_t nr = 0;
    o->sorted = NULL;
    if (o->nr < INDEX_FROM)
        return;
    struct jref *sorted = arena_alloc(a, o->nr * sizeof *sorted);
    if (!sorted)
        return;
    for (struct jnode *n = o->first; n; n = n->next)
        sorted[nr++].n = n;
    qsort(sorted, nr, sizeof *sorted, by_key);
    o->sorted = sorted;
}

static void one_of_each(struct parse *s, struct jnode *o)
{
    struct jref small[INDEX_FROM];
    size_t nr = 0;
    jtree_index(s->a, o);
    if (o->sorted) {
        uint32_t had = o->nr;
        last_ones(o, o->sorted, o->nr);
        if (o->nr != had)
            jtree_index(s->a, o);
        return;
    }
    if (o->nr >= INDEX_FROM) { /* no memory: the arena remembers */
        (void)fail(s, ERR_NOMEM, "out of memory");
        return;
    }
    for (struct jnode *n = o->first; n; n = n->next)
        small[nr++].n = n;
    qsort(small, nr, sizeof *small, by_key);
    last_ones(o, small, nr);
}

static struct jnode *container(struct parse *s, enum jkind kind)
{
    uint8_t close = kind == JOBJECT ? '}' : ']';
    struct jnode *o = jtree_new(s->a, kind);
    struct jtree_list l;
    if (++s->nested > JTREE_NESTED_MAX)
        return fail(s, ERR_LIMIT, "nested too deeply");
    if (!o)
        return fail(s, ERR_NOMEM, "out of memory");
    l = jtree_list(o);
    blank(s);
    bool more = !take(s, close);
    while (more) {
        struct span key = SPAN_NONE;
        blank(s);
        if (kind == JOBJECT) {
            if (!take(s, '"'))
                return fail(s, ERR_PROTO, "a member name was expected");
            if (!string(s, &key))
                return NULL;
            blank(s);
            if (!take(s, ':'))
                return fail(s, ERR_PROTO, "a colon was expected");
        }
        struct jnode *n = value(s);
        if (!n)
            return NULL;
        n->key = key;
        jtree_add(&l, n);
        blank(s);
        more = take(s, ',');
        if (!more && !take(s, close))
            return fail(s, ERR_PROTO,
                        kind == JOBJECT ? "a comma or } was expected" : "a comma or ] was expected");
    }
    const uint32_t nr = o->nr;
    if (kind == JOBJECT)
        one_of_each(s, o);
    if (s->once && o->nr != nr)
        return fail(s, ERR_PROTO, "two members of this object have the same name");
    s->nested--;
    return s->err ? NULL : o;
}

static struct jnode *value(struct parse *s)
{
    struct jnode *n;
    blank(s);
    if (++s->nodes > JTREE_NODES_MAX)
        return fail(s, ERR_LIMIT, "too many values");
    if (take(s, '{'))
        return container(s, JOBJECT);
    if (take(s, '['))
        return container(s, JARRAY);
    n = jtree_new(s->a, JNULL);
    if (!n)
        return fail(s, ERR_NOMEM, "out of memory");
    if (take(s, '"')) {
        n->kind = JSTRING;
        return string(s, &n->text) ? n : NULL;
    }
    if (literal(s, "true"))
        n->kind = JTRUE;
    else if (literal(s, "false"))
        n->kind = JFALSE;
    else if (!literal(s, "null")) {
        n->kind = JNUMBER;
        if (!number(s, &n->text))
            return fail(s, ERR_PROTO, "a value was expected");
    }
    return n;
}

static enum err parse(struct arena *a, struct span text, bool once, struct jnode **out,
                      struct jtree_fault *why)
{
    const uint8_t *p = text.n ? text.p : (const uint8_t *)"";
    struct parse s = { .a = a, .p = p, .end = p + text.n, .start = p, .once = once };
    struct jnode *n = value(&s);
    blank(&s);
    if (n && s.p != s.end)
        n = fail(&s, ERR_PROTO, "something behind the value");
    if (s.err && why)
        *why = s.why;
    if (!s.err)
        *out = n;
    return s.err;
}

enum err jtree_parse(struct arena *a, struct span text, struct jnode **out, struct jtree_fault *why)
{
    return parse(a, text, false, out, why);
}

enum err jtree_parse_once(struct arena *a, struct span text, struct jnode **out, struct jtree_fault *why)
{
    return parse(a, text, true, out, why);
}

/* ---- reading and building --------------------------------------------------------------------------- */

struct jnode *jtree_get(const struct jnode *o, struct span key)
{
    if (!o || o->kind != JOBJECT)
        return NULL;
    if (!o->sorted) {
        struct jnode *n = o->first;
        while (n && !span_eq(n->key, key))
            n = n->next;
        return n;
    }
    size_t lo = 0, hi = o->nr;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        struct span k = o->sorted[mid].n->key;
        size_t n = k.n < key.n ? k.n : key.n;
        int c = n ? memcmp(k.p, key.p, n) : 0;
        if (!c)
            c = (k.n > key.n) - (k.n < key.n);
        if (!c)
            return o->sorted[mid].n;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

struct jnode *jtree_new(struct arena *a, enum jkind kind)
{
    struct jnode *n = arena_alloc(a, sizeof *n);
    if (n)
        n->kind = (uint8_t)kind;
    return n;
}

struct jnode *jtree_copy(struct arena *a, const struct jnode *n)
{
    struct jnode *c = n ? arena_alloc(a, sizeof *c) : NULL;
    if (c) {
        *c = *n;
        c->next = NULL;
    }
    return c;
}

struct jtree_list jtree_list(struct jnode *parent)
{
    return (struct jtree_list){ parent, parent ? &parent->first : NULL };
}

void jtree_add(struct jtree_list *l, struct jnode *n)
{
    if (!l->parent || !n)
        return;
    n->next = NULL;
    n->at = l->parent->nr++;
    *l->end = n;
    l->end = &n->next;
}

void jtree_write(struct wr *w, const struct jnode *n)
{
    switch (n->kind) {
    case JNULL:
        wr_str(w, "null");
        break;
    case JFALSE:
        wr_str(w, "false");
        break;
    case JTRUE:
        wr_str(w, "true");
        break;
    case JNUMBER:
        wr_put(w, n->text);
        break;
    case JSTRING:
        json_put_string(w, n->text);
        break;
    default:
        wr_u8(w, n->kind == JOBJECT ? '{' : '[');
        for (const struct jnode *c = n->first; c; c = c->next) {
            if (c != n->first)
                wr_u8(w, ',');
            if (n->kind == JOBJECT) {
                json_put_string(w, c->key);
                wr_u8(w, ':');
            }
            jtree_write(w, c);
        }
        wr_u8(w, n->kind == JOBJECT ? '}' : ']');
    }
}

struct span jtree_text(struct arena *a, const struct jnode *n)
{
    struct wr w = { 0 };
    jtree_write(&w, n);
    w = (struct wr){ arena_alloc(a, w.len), w.len, 0 };
    if (!w.p)
        return SPAN_NONE;
    jtree_write(&w, n);
    return wr_span(&w);
}

bool jtree_eq(const struct jnode *x, const struct jnode *y)
{
    if (x->kind != y->kind || x->nr != y->nr || !span_eq(x->text, y->text))
        return false;
    const struct jnode *c = x->first, *d = y->first;
    for (; c; c = c->next) {
        const struct jnode *other = x->kind == JOBJECT ? jtree_get(y, c->key) : d;
        if (!other || !jtree_eq(c, other))
            return false;
        d = d->next;
    }
    return true;
}
