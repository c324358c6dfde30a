/* hub/domain/identity/identity_read.c - see identity_read.h. */
#include "hub/domain/identity/identity_read.h"

#include "base/log.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>

#define STATUS_REASON_BYTES (4u * IDENTITY_TEXT_MAX) /* characters are counted when it is written */
#define THUMB_TEXT_MAX      256u                     /* so that a wrong one is told as such */

static enum err wrong(struct identity_read_fault *f, const char *text, ...) LOG_PRINTF(2, 3);
static enum err wrong(struct identity_read_fault *f, const char *text, ...)
{
    va_list ap;
    va_start(ap, text);
    vsnprintf(f->text, sizeof f->text, text, ap);
    va_end(ap);
    return ERR_PROTO;
}

/* A member; NULL: absent, or null. */
static const struct jnode *member(const struct jnode *o, const char *name)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    return n && n->kind != JNULL ? n : NULL;
}

enum err identity_read_text(const struct jnode *o, const char *name, size_t max, struct span *out,
                            struct identity_read_fault *f)
{
    const struct jnode *n = member(o, name);
    if (!n)
        return ERR_OK;
    if (n->kind != JSTRING)
        return wrong(f, "member \"%s\" has to be a string", name);
    if (n->text.n > max)
        return wrong(f, "member \"%s\" is longer than %zu bytes", name, max);
    if (n->text.n && memchr(n->text.p, 0, n->text.n))
        return wrong(f, "member \"%s\" has a zero character", name);
    *out = n->text;
    return ERR_OK;
}

static enum err object(const struct jnode *o, const char *name, const struct jnode **out,
                       struct identity_read_fault *f)
{
    *out = member(o, name);
    if (*out && (*out)->kind != JOBJECT)
        return wrong(f, "member \"%s\" has to be an object", name);
    return ERR_OK;
}

/* A key is given back as it came, so only what base64 would write is one. */
static enum err key(struct arena *a, const struct jnode *o, const char *name, struct span *out,
                    struct identity_read_fault *f)
{
    struct span s = SPAN_NONE;
    size_t n = 0;
    enum err e = identity_read_text(o, name, IDENTITY_READ_MAX, &s, f);
    if (e || !s.n)
        return e;
    uint8_t *mem = arena_alloc(a, s.n), *again = arena_alloc(a, s.n + 4);
    if (!mem || !again)
        return ERR_NOMEM;
    struct wr w = { again, s.n + 4, 0 };
    e = base64_decode(s, mem, s.n, &n);
    if (!e)
        base64_encode(&w, span_of(mem, n));
    if (e || !span_eq(wr_span(&w), s))
        return wrong(f, "member \"%s\" is not base64", name);
    *out = span_of(mem, n);
    return ERR_OK;
}

static enum err proof(struct arena *a, const struct jnode *o, struct identity_proof *out,
                      struct identity_read_fault *f)
{
    const struct jnode *auth, *keys = NULL, *thumbs = NULL;
    struct span kind = SPAN_NONE;
    enum err e = object(o, "authentication", &auth, f);
    *out = (struct identity_proof){ .given = auth != NULL };
    if (e || !auth)
        return e;
    e = identity_read_text(auth, "type", IDENTITY_READ_MAX, &kind, f);
    if (!e && kind.n && identity_auth_parse(kind, &out->kind))
        e = wrong(f, "member \"type\" has to be sas, selfSigned, certificateAuthority or none");
    out->has_kind = kind.n > 0;
    if (!e)
        e = object(auth, "symmetricKey", &keys, f);
    if (!e && keys)
        e = key(a, keys, "primaryKey", &out->key1, f);
    if (!e && keys)
        e = key(a, keys, "secondaryKey", &out->key2, f);
    if (!e)
        e = object(auth, "x509Thumbprint", &thumbs, f);
    if (!e && thumbs)
        e = identity_read_text(thumbs, "primaryThumbprint", THUMB_TEXT_MAX, &out->thumb1, f);
    if (!e && thumbs)
        e = identity_read_text(thumbs, "secondaryThumbprint", THUMB_TEXT_MAX, &out->thumb2, f);
    return e;
}

static enum err status_of(const struct jnode *o, bool must, bool *disabled, struct identity_read_fault *f)
{
    struct span s = SPAN_NONE;
    enum err e = identity_read_text(o, "status", 16, &s, f);
    *disabled = span_ieq(s, SPAN("disabled"));
    if (e || *disabled || span_ieq(s, SPAN("enabled")) || (!s.n && !must))
        return e;
    return wrong(f, must ? "member \"status\" has to be there: enabled or disabled"
                         : "member \"status\" has to be enabled or disabled");
}

static enum err parents(const struct jnode *o, struct span *out, struct identity_read_fault *f)
{
    const struct jnode *list = member(o, "parentScopes");
    if (!list)
        return ERR_OK;
    if (list->kind != JARRAY || list->nr > 1 || (list->nr && list->first->kind != JSTRING))
        return wrong(f, "member \"parentScopes\" has to be a list of one text at most");
    if (list->nr)
        *out = list->first->text;
    return ERR_OK;
}

enum err identity_read_device(struct arena *a, const struct jnode *o, bool status, struct identity_spec *out,
                              struct identity_read_fault *f)
{
    const struct jnode *can = NULL, *edge;
    enum err e = status_of(o, status, &out->disabled, f);
    if (!e)
        e = identity_read_text(o, "statusReason", STATUS_REASON_BYTES, &out->status_reason, f);
    if (!e)
        e = identity_read_text(o, "deviceScope", IDENTITY_SCOPE_MAX, &out->scope, f);
    if (!e)
        e = parents(o, &out->parent_scope, f);
    if (!e)
        e = proof(a, o, &out->proof, f);
    if (!e)
        e = object(o, "capabilities", &can, f);
    edge = e ? NULL : member(can, "iotEdge");
    if (edge && edge->kind != JTRUE && edge->kind != JFALSE)
        return wrong(f, "member \"iotEdge\" has to be true or false");
    out->edge = edge && edge->kind == JTRUE;
    return e;
}

enum err identity_read_module(struct arena *a, const struct jnode *o, struct module_spec *out,
                              struct identity_read_fault *f)
{
    enum err e = identity_read_text(o, "managedBy", IDENTITY_READ_MAX, &out->managed_by, f);
    return e ? e : proof(a, o, &out->proof, f);
}
