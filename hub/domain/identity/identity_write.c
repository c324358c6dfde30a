/* hub/domain/identity/identity_write.c - see identity_write.h: devices as a whole, and what devices and
 * modules share.
 */
#include "hub/domain/identity/identity_write.h"
#include "hub/domain/event/event.h"

#include "base/text.h"
#include "hub/domain/identity/identity_impl.h"
#include "hub/store/identity_name.h"

#include <strings.h>

/* ---- names ------------------------------------------------------------------------------------------ */

const char *identity_fault_text(enum identity_fault f)
{
    static const char *const texts[] = {
        [IDENTITY_FINE] = "fine",
        [IDENTITY_NO_DEVICE] = "there is no such device",
        [IDENTITY_NO_MODULE] = "the device has no such module",
        [IDENTITY_DEVICE_EXISTS] = "a device with this id exists",
        [IDENTITY_MODULE_EXISTS] = "a module with this id exists on the device",
        [IDENTITY_ETAG] = "it has changed since the given etag",
        [IDENTITY_TOO_MANY] = "a device has at most 50 modules",
        [IDENTITY_BAD_ID] = "an id is 1 to 128 of letters, digits and - . + % _ # * ? ! ( ) , : = @ $ '",
        [IDENTITY_BAD_TEXT] = "a text is longer than 128 characters",
        [IDENTITY_ONE_KEY] = "either no keys or both keys can be set",
        [IDENTITY_KEY_LENGTH] = "a key has 16 to 64 bytes",
        [IDENTITY_BAD_THUMBPRINT] = "a thumbprint is 40 or 64 hex digits without separators",
        [IDENTITY_NO_AUTH] = "a device needs a way to prove who it is",
        [IDENTITY_SCOPE_IMMUTABLE] = "the scope of an edge device cannot be changed",
        [IDENTITY_BAD_PARENT] = "the parent is not the scope of another edge device",
        [IDENTITY_NO_KEYS] = "the identity has no symmetric keys",
    };
    return texts[f];
}

static const char *const auth_names[] = { "sas", "selfSigned", "certificateAuthority", "none" };

const char *identity_auth_name(unsigned auth)
{
    return auth < 4 ? auth_names[auth] : "unknown";
}

enum err identity_auth_parse(struct span text, uint8_t *auth)
{
    for (uint8_t i = 0; i < 4; i++)
        if (text.n == strlen(auth_names[i]) && !strncasecmp((const char *)text.p, auth_names[i], text.n)) {
            *auth = i;
            return ERR_OK;
        }
    return ERR_PROTO;
}

/* ---- how an identity proves itself ------------------------------------------------------------------- */

enum err identity_refuse(enum identity_fault *fault, enum identity_fault why)
{
    *fault = why;
    switch (why) {
    case IDENTITY_NO_DEVICE:
    case IDENTITY_NO_MODULE:
        return ERR_NOTFOUND;
    case IDENTITY_DEVICE_EXISTS:
    case IDENTITY_MODULE_EXISTS:
        return ERR_EXISTS;
    case IDENTITY_ETAG:
        return ERR_STALE;
    case IDENTITY_TOO_MANY:
        return ERR_LIMIT;
    default:
        return ERR_PROTO;
    }
}

static bool thumbprint_ok(struct span t)
{
    uint8_t bytes[32];
    if (!t.n)
        return true;
    return (t.n == 40 || t.n == 64) && hex_decode(t, bytes, t.n / 2) == ERR_OK;
}

/* Characters, not bytes: those that continue one are not counted. */
static bool text_fits(struct span s)
{
    size_t nr = 0;
    for (size_t i = 0; i < s.n; i++)
        nr += (s.p[i] & 0xc0) != 0x80;
    return nr <= IDENTITY_TEXT_MAX;
}

static bool key_ok(struct span key)
{
    return key.n >= IDENTITY_KEY_BYTES_MIN && key.n <= IDENTITY_KEY_BYTES_MAX;
}

enum err identity_prove(struct hub *h, struct arena *a, const struct identity_proof *p, bool may_be_none,
                        bool none_stays, struct identity_proof *out, enum identity_fault *fault)
{
    struct identity_proof r = *p;
    if (!p->given)
        r = (struct identity_proof){ .kind = AUTH_SAS };
    else if (!p->has_kind)
        r.kind = p->thumb1.n || p->thumb2.n ? AUTH_SELF_SIGNED : AUTH_SAS;
    if (r.kind == AUTH_NONE && !may_be_none)
        return identity_refuse(fault, IDENTITY_NO_AUTH);
    if (r.kind == AUTH_NONE && !none_stays)
        r.kind = AUTH_SAS;
    if (r.kind == AUTH_SAS) {
        if (!r.key1.n != !r.key2.n)
            return identity_refuse(fault, IDENTITY_ONE_KEY);
        if (!r.key1.n) {
            r.key1 = identity_fresh_key(h, a);
            r.key2 = identity_fresh_key(h, a);
        } else if (!key_ok(r.key1) || !key_ok(r.key2)) {
            return identity_refuse(fault, IDENTITY_KEY_LENGTH);
        }
    } else {
        r.key1 = r.key2 = SPAN_NONE;
    }
    if (r.kind == AUTH_SELF_SIGNED) {
        if (!thumbprint_ok(r.thumb1) || !thumbprint_ok(r.thumb2))
            return identity_refuse(fault, IDENTITY_BAD_THUMBPRINT);
    } else {
        r.thumb1 = r.thumb2 = SPAN_NONE;
    }
    r.key1 = arena_copy(a, r.key1);
    r.key2 = arena_copy(a, r.key2);
    r.thumb1 = arena_copy(a, r.thumb1);
    r.thumb2 = arena_copy(a, r.thumb2);
    *out = r;
    return arena_err(a);
}

/* ---- edge devices and their parents ------------------------------------------------------------------ */

/* A scope ends in when the edge device was made, in ticks since the year 1, so that one that is made again
 * under the same id has another one; one that became an edge device later has nothing there. */
static struct span scope_make(struct hub *h, struct arena *a, struct span id, bool fresh)
{
    uint8_t buf[sizeof IDENTITY_SCOPE_PREFIX + DEVICE_ID_MAX + 24], digits[20];
    struct wr w = { buf, sizeof buf, 0 };
    size_t n = 0;
    wr_str(&w, IDENTITY_SCOPE_PREFIX);
    wr_put(&w, id);
    wr_u8(&w, '-');
    for (uint64_t t = fresh ? h->wall_ms() * 10000 + 621355968000000000u : 0; t; t /= 10)
        digits[n++] = (uint8_t)('0' + t % 10);
    while (n)
        wr_u8(&w, digits[--n]);
    return arena_copy(a, wr_span(&w));
}

/* Is it the scope of an edge device other than `child`? */
static enum err parent_check(struct store_tx *tx, struct span scope, struct span child,
                             enum identity_fault *fault)
{
    struct span id = scope, prefix = SPAN(IDENTITY_SCOPE_PREFIX);
    struct device_row r;
    if (scope.n > IDENTITY_SCOPE_MAX || !span_starts(scope, prefix))
        return identity_refuse(fault, IDENTITY_BAD_PARENT);
    id = span_skip(id, prefix.n);
    while (id.n && id.p[id.n - 1] != '-')
        id.n--;
    if (!id.n)
        return identity_refuse(fault, IDENTITY_BAD_PARENT);
    id.n--;
    enum err e = tx_device_get(tx, id, &r);
    if (e == ERR_NOTFOUND || (!e && (!r.edge || !span_eq(r.scope, scope) || span_eq(r.id, child))))
        return identity_refuse(fault, IDENTITY_BAD_PARENT);
    return e;
}

/* r: the row so far; was: what it replaces, or NULL. */
static enum err scopes_set(struct hub *h, struct store_tx *tx, struct arena *a, const struct identity_spec *s,
                           const struct device_row *was, struct device_row *r, enum identity_fault *fault)
{
    bool was_edge = was && was->edge;
    struct span parent = s->edge ? s->parent_scope : s->scope;
    r->edge = s->edge;
    if (s->edge && was_edge) {
        if (s->scope.n && !span_eq(s->scope, was->scope))
            return identity_refuse(fault, IDENTITY_SCOPE_IMMUTABLE);
        r->scope = was->scope;
    } else if (s->edge) {
        if (was && s->scope.n) /* it would name its parent */
            return identity_refuse(fault, IDENTITY_SCOPE_IMMUTABLE);
        r->scope = scope_make(h, a, s->id, !was);
    } else if (was_edge) { /* no edge device any more: its own scope and its parent go */
        r->scope = parent = SPAN_NONE;
    } else {
        r->scope = arena_copy(a, parent);
    }
    r->parent_scope = arena_copy(a, parent);
    if (!parent.n || (was && span_eq(parent, was->parent_scope)))
        return arena_err(a);
    enum err e = parent_check(tx, parent, s->id, fault);
    return e ? e : arena_err(a);
}

static enum err edge_modules(struct hub *h, struct store_tx *tx, struct arena *a, struct span device,
                             enum identity_fault *fault)
{
    static const char *const ids[] = { IDENTITY_EDGE_AGENT, IDENTITY_EDGE_HUB };
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < 2; i++) {
        struct module_spec s = { .device = device, .id = span_str(ids[i]), .managed_by = SPAN("iotEdge") };
        struct module_row r;
        s.proof = (struct identity_proof){ .given = true, .has_kind = true, .kind = AUTH_NONE };
        e = module_write(h, tx, a, &s, IDENTITY_CREATE, 0, &r, fault);
        if (e == ERR_EXISTS)
            e = ERR_OK;
    }
    *fault = e ? *fault : IDENTITY_FINE;
    return e;
}

/* ---- devices ----------------------------------------------------------------------------------------- */

/* Keys of the writer's own, not those that are there: they are not for whoever asks under this id next. */
static bool brings_keys(const struct identity_proof *p, const struct device_row *was)
{
    return p->given && p->key1.n && (!span_eq(p->key1, was->key1) || !span_eq(p->key2, was->key2));
}

enum err identity_write(struct hub *h, struct store_tx *tx, struct arena *a, const struct identity_spec *s,
                        enum identity_mode mode, uint64_t if_etag, struct device_row *out,
                        enum identity_fault *fault)
{
    struct device_row was = { 0 }, r;
    struct identity_proof proof;
    *fault = IDENTITY_FINE;
    if (!identity_id_ok(s->id))
        return identity_refuse(fault, IDENTITY_BAD_ID);
    if (!text_fits(s->status_reason))
        return identity_refuse(fault, IDENTITY_BAD_TEXT);
    enum err e = identity_get(tx, a, s->id, &was);
    bool there = e == ERR_OK;
    if (e && e != ERR_NOTFOUND)
        return e;
    if (there && mode == IDENTITY_CREATE)
        return identity_refuse(fault, IDENTITY_DEVICE_EXISTS);
    if (!there && mode == IDENTITY_REPLACE)
        return identity_refuse(fault, IDENTITY_NO_DEVICE);
    if (there && if_etag && if_etag != was.etag)
        return identity_refuse(fault, IDENTITY_ETAG);
    e = identity_prove(h, a, &s->proof, false, false, &proof, fault);
    if (e)
        return e;
    r = there ? was : (struct device_row){ .id = s->id, .origin = SPAN("operator") };
    r.auth = proof.kind;
    r.key1 = proof.key1;
    r.key2 = proof.key2;
    r.thumb1 = proof.thumb1;
    r.thumb2 = proof.thumb2;
    r.status_reason = arena_copy(a, s->status_reason);
    if (there && was.status == DEVICE_PENDING) {
        r.status = s->disabled ? DEVICE_PENDING : DEVICE_ENABLED;
        r.issued_unused = !s->disabled && proof.kind == AUTH_SAS;
    } else {
        r.status = s->disabled ? DEVICE_DISABLED : DEVICE_ENABLED;
        if (proof.kind != AUTH_SAS || brings_keys(&s->proof, &was))
            r.issued_unused = false;
    }
    if (there && r.status != was.status)
        r.status_updated_ms = h->wall_ms();
    e = scopes_set(h, tx, a, s, there ? &was : NULL, &r, fault);
    if (!e)
        e = there ? identity_replace(h, tx, a, &r, out) : identity_create(h, tx, a, &r, out);
    if (!e && s->edge && !was.edge)
        e = edge_modules(h, tx, a, r.id, fault);
    return e;
}

struct leaving {
    struct hub *h;
    struct store_tx *tx;
};
static enum err module_leaves(void *ctx, const struct module_row *r)
{
    const struct leaving *l = ctx;
    return event_lifecycle(l->h, l->tx, r->device, r->id, false);
}

enum err identity_delete(struct hub *h, struct store_tx *tx, struct span id, uint64_t if_etag,
                         enum identity_fault *fault)
{
    struct device_row r;
    *fault = IDENTITY_FINE;
    enum err e = tx_device_get(tx, id, &r);
    if (e == ERR_NOTFOUND)
        return identity_refuse(fault, IDENTITY_NO_DEVICE);
    if (!e && if_etag && r.etag != if_etag)
        return identity_refuse(fault, IDENTITY_ETAG);
    if (!e && event_wanted(h, MESSAGE_SOURCE_LIFECYCLE))
        e = tx_module_list(tx, id, module_leaves, &(struct leaving){ h, tx });
    if (!e)
        e = event_lifecycle(h, tx, id, SPAN_NONE, false);
    return e ? e : tx_device_delete(tx, id);
}

/* ---- keys -------------------------------------------------------------------------------------------- */

static enum err rekey(struct hub *h, struct arena *a, unsigned auth, struct span *key1, struct span *key2,
                      bool first, bool second, enum identity_fault *fault)
{
    if (auth != AUTH_SAS)
        return identity_refuse(fault, IDENTITY_NO_KEYS);
    if (first)
        *key1 = identity_fresh_key(h, a);
    if (second)
        *key2 = identity_fresh_key(h, a);
    return arena_err(a);
}

enum err identity_rekey(struct hub *h, struct store_tx *tx, struct arena *a, struct span device,
                        struct span module, bool key1, bool key2, struct device_row *d, struct module_row *m,
                        enum identity_fault *fault)
{
    enum err e;
    *fault = IDENTITY_FINE;
    if (module.n) {
        e = module_get(tx, a, device, module, m, fault);
        if (!e)
            e = rekey(h, a, m->auth, &m->key1, &m->key2, key1, key2, fault);
        m->updated_ms = e ? 0 : h->wall_ms();
        return e ? e : tx_module_put(tx, m, 0, &m->etag);
    }
    e = identity_get(tx, a, device, d);
    if (e == ERR_NOTFOUND)
        return identity_refuse(fault, IDENTITY_NO_DEVICE);
    if (!e)
        e = rekey(h, a, d->auth, &d->key1, &d->key2, key1, key2, fault);
    return e ? e : identity_replace(h, tx, a, d, d);
}

/* ---- announcing -------------------------------------------------------------------------------------- */

struct naming {
    struct arena *a;
    struct identity_names *out;
};

static enum err name_module(void *ctx, const struct module_row *r)
{
    struct naming *n = ctx;
    if (n->out->nr > IDENTITY_MODULES_MAX)
        return ERR_LIMIT;
    n->out->names[n->out->nr++] = identity_name_in(n->a, r->device, r->id);
    return arena_err(n->a);
}

enum err identity_names(struct store_tx *tx, struct arena *a, struct span device, struct identity_names *out)
{
    struct naming n = { a, out };
    out->names[0] = arena_copy(a, device);
    out->nr = 1;
    return tx_module_list(tx, device, name_module, &n);
}

void identity_announce_all(struct hub *h, const struct identity_names *names)
{
    for (size_t i = 0; i < names->nr; i++)
        identity_announce(h, names->names[i]);
}
