/* hub/domain/twin/twin_check.c - what may be in a twin: keys, depth, values, sizes. A refusal names the path.
 */
#include "hub/domain/twin/twin_merge.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define KEY_SHOWN 48u /* bytes of a key in a message */

enum err twin_fail(struct twin_fault *f, enum twin_wrong wrong, const char *text, ...)
{
    va_list ap;
    va_start(ap, text);
    f->wrong = wrong;
    vsnprintf(f->text, sizeof f->text, text, ap);
    va_end(ap);
    return ERR_PROTO;
}

struct path { /* where we are, innermost first; lives on the stack of the walk */
    const struct path *up;
    struct span key;  /* empty with index >= 0 */
    long index;       /* of an array's element, else -1 */
    const char *root; /* of the outermost */
};

struct check {
    struct twin_fault *f;
    bool in_array;
};

static void path_put(struct wr *w, const struct path *p)
{
    char nr[24];
    if (p->up)
        path_put(w, p->up);
    if (p->root) {
        wr_str(w, p->root);
    } else if (p->index >= 0) {
        snprintf(nr, sizeof nr, "[%ld]", p->index);
        wr_str(w, nr);
    } else {
        size_t n = p->key.n < KEY_SHOWN ? p->key.n : KEY_SHOWN;
        while (n < p->key.n && n && (p->key.p[n] & 0xc0) == 0x80)
            n--; /* not in the middle of a character */
        wr_u8(w, '.');
        for (size_t i = 0; i < n; i++)
            wr_u8(w, p->key.p[i] < 0x20 || p->key.p[i] == 0x7f ? '?' : p->key.p[i]);
        if (n < p->key.n)
            wr_str(w, "...");
    }
}

/* "properties.desired.a.b" in at most `cap` bytes: of a long one the end is cut. */
static const char *path_text(const struct path *p, char *buf, size_t cap)
{
    uint8_t all[(KEY_SHOWN + 8) * 16 + 1024];
    struct wr w = { all, sizeof all - 1, 0 };
    path_put(&w, p);
    size_t n = w.len < w.cap ? w.len : w.cap;
    if (!wr_ok(&w))
        n = 0; /* of nothing that can be this deep */
    if (n > cap - 1)
        n = cap - 1;
    while (n && n < w.len && (all[n] & 0xc0) == 0x80)
        n--;
    memcpy(buf, all, n);
    buf[n] = 0;
    return buf;
}

static enum err wrong(struct check *c, const struct path *at, enum twin_wrong what, const char *allowed)
{
    char text[200];
    return twin_fail(c->f, what, "%s: %s", path_text(at, text, sizeof text), allowed);
}

/* Control characters (C0, DEL, C1), '.', '$', space and '#' are what a key may not have. */
static bool key_ok(struct span k)
{
    if (k.n > TWIN_KEY_MAX)
        return false;
    for (size_t i = 0; i < k.n; i++) {
        uint8_t b = k.p[i];
        if (b <= 0x20 || b == 0x7f || b == '.' || b == '$' || b == '#')
            return false;
        if (b == 0xc2 && i + 1 < k.n && k.p[i + 1] < 0xa0)
            return false;
    }
    return true;
}

static bool number_ok(struct span s)
{
    char text[TWIN_NUMBER_MAX + 1];
    if (s.n > TWIN_NUMBER_MAX)
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    if (strpbrk(text, ".eE"))
        return isfinite(strtod(text, NULL)) != 0;
    if (s.n > 17)
        return false; /* an integer is written without leading zeros */
    long long v = strtoll(text, NULL, 10);
    return v >= TWIN_INTEGER_MIN && v <= TWIN_INTEGER_MAX;
}

static enum err walk(struct check *c, const struct jnode *n, unsigned depth, const struct path *at);

static enum err walk_members(struct check *c, const struct jnode *n, unsigned depth, const struct path *at)
{
    long i = 0;
    enum err e = ERR_OK;
    for (const struct jnode *m = n->first; !e && m; m = m->next, i++) {
        struct path p = { .up = at, .key = m->key, .index = n->kind == JARRAY ? i : -1 };
        if (n->kind == JOBJECT && !key_ok(m->key))
            e = wrong(c, &p, TWIN_BAD_KEY,
                      "a key has at most 1024 bytes and no control character, space, '.', '$' or '#'");
        else
            e = walk(c, m, depth, &p);
    }
    return e;
}

static enum err walk(struct check *c, const struct jnode *n, unsigned depth, const struct path *at)
{
    bool was = c->in_array;
    enum err e = ERR_OK;
    switch (n->kind) {
    case JNULL:
        if (c->in_array)
            e = wrong(c, at, TWIN_NULL_IN_ARRAY, "null is not allowed in an array");
        break;
    case JNUMBER:
        if (!number_ok(n->text))
            e = wrong(c, at, TWIN_BAD_NUMBER,
                      "an integer has to be from -4503599627370496 to 4503599627370495, and another number"
                      " finite and written in at most 64 characters");
        break;
    case JSTRING:
        if (n->text.n > TWIN_STRING_MAX)
            e = wrong(c, at, TWIN_LONG_STRING, "a string has at most 4096 bytes");
        break;
    case JARRAY:
        c->in_array = true;
        e = walk_members(c, n, depth, at);
        c->in_array = was;
        break;
    case JOBJECT:
        if (depth == TWIN_DEPTH_MAX)
            e = wrong(c, at, TWIN_TOO_DEEP, "objects may be nested ten levels deep");
        else
            e = walk_members(c, n, depth + 1, at);
        break;
    default:
        break;
    }
    return e;
}

enum err twin_check(struct arena *a, enum twin_section s, const struct jnode *patch, bool dollar,
                    struct jnode **out, struct twin_fault *f)
{
    struct check c = { .f = f };
    struct path root = { .root = twin_section_name(s), .index = -1 };
    if (patch->kind != JOBJECT)
        return twin_fail(f, TWIN_NOT_OBJECT, "%s: has to be an object", root.root);
    struct jnode *kept = jtree_new(a, JOBJECT);
    struct jtree_list l = jtree_list(kept);
    for (const struct jnode *m = patch->first; m; m = m->next)
        if (!dollar || (!span_eq(m->key, SPAN("$version")) && !span_eq(m->key, SPAN("$metadata"))))
            jtree_add(&l, jtree_copy(a, m));
    if (!kept || a->failed)
        return ERR_NOMEM;
    jtree_index(a, kept);
    enum err e = arena_err(a);
    if (!e)
        e = walk_members(&c, kept, 0, &root);
    if (!e)
        *out = kept;
    return e;
}

/* ---- size ------------------------------------------------------------------------------------------- */

size_t twin_size(const struct jnode *n)
{
    size_t size = 0;
    for (const struct jnode *m = n->first; m; m = m->next) {
        size += m->key.n;
        if (m->kind == JNUMBER)
            size += 8;
        else if (m->kind == JTRUE || m->kind == JFALSE)
            size += 4;
        else if (m->kind == JSTRING)
            for (size_t i = 0; i < m->text.n; i++) {
                bool c1 = m->text.p[i] == 0xc2 && i + 1 < m->text.n && m->text.p[i + 1] < 0xa0;
                i += c1;
                size += !c1 && m->text.p[i] >= 0x20 && m->text.p[i] != 0x7f;
            }
        else
            size += twin_size(m);
    }
    return size;
}

enum err twin_check_size(enum twin_section s, const struct jnode *section, struct twin_fault *f)
{
    size_t max = s == TWIN_TAGS ? TWIN_TAGS_MAX : TWIN_SECTION_MAX, size = twin_size(section);
    struct wr measure = { 0 };
    if (size > max)
        return twin_fail(f, TWIN_TOO_LARGE, "%s: would have %zu bytes of keys and values; %zu are allowed",
                         twin_section_name(s), size, max);
    jtree_write(&measure, section);
    if (measure.len > TWIN_TEXT_FACTOR * max)
        return twin_fail(f, TWIN_TOO_LARGE, "%s: would have %zu bytes of text; %zu are allowed",
                         twin_section_name(s), measure.len, TWIN_TEXT_FACTOR * max);
    return ERR_OK;
}
