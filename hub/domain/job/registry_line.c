/* hub/domain/job/registry_line.c - see registry_line.h. */
#include "hub/domain/job/registry_line.h"

#include "base/text.h"
#include "hub/domain/identity/identity_read.h"
#include "hub/domain/json_members.h"
#include "hub/store/identity_name.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    CODE_FORMAT = 400006,
    CODE_ARGUMENT = 400004,
    CODE_SCOPE = 400028,
    CODE_NO_DEVICE = 404001,
    CODE_NO_MODULE = 404010,
    CODE_DEVICE_EXISTS = 409001,
    CODE_MODULE_EXISTS = 409301,
    CODE_ETAG = 412001,
    CODE_TOO_MANY = 413003
};

static const struct registry_mode modes[] = {
    { "createOrUpdate", REGISTRY_WRITE, IDENTITY_CREATE_OR_REPLACE, false },
    { "createOrUpdateIfMatchETag", REGISTRY_WRITE, IDENTITY_CREATE_OR_REPLACE, true },
    { "create", REGISTRY_WRITE, IDENTITY_CREATE, false },
    { "update", REGISTRY_WRITE, IDENTITY_REPLACE, false },
    { "updateIfMatchETag", REGISTRY_WRITE, IDENTITY_REPLACE, true },
    { "delete", REGISTRY_DELETE, IDENTITY_REPLACE, false },
    { "deleteIfMatchETag", REGISTRY_DELETE, IDENTITY_REPLACE, true },
    { "updateTwin", REGISTRY_TWIN, IDENTITY_REPLACE, false },
    { "updateTwinIfMatchETag", REGISTRY_TWIN, IDENTITY_REPLACE, true },
};

const struct registry_mode *registry_mode_find(struct span name)
{
    if (!name.n)
        return &modes[0];
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (span_ieq(name, span_str(modes[i].name)))
            return &modes[i];
    return NULL;
}

/* ---- faults ---------------------------------------------------------------------------------------------
 */

enum err registry_wrong(struct registry_fault *f, uint32_t code, const char *text, ...)
{
    va_list ap;
    va_start(ap, text);
    vsnprintf(f->text, sizeof f->text, text, ap);
    va_end(ap);
    f->code = code;
    return ERR_PROTO;
}

static uint32_t code_of(enum identity_fault why)
{
    switch (why) {
    case IDENTITY_NO_DEVICE:
        return CODE_NO_DEVICE;
    case IDENTITY_NO_MODULE:
        return CODE_NO_MODULE;
    case IDENTITY_DEVICE_EXISTS:
        return CODE_DEVICE_EXISTS;
    case IDENTITY_MODULE_EXISTS:
        return CODE_MODULE_EXISTS;
    case IDENTITY_ETAG:
        return CODE_ETAG;
    case IDENTITY_TOO_MANY:
        return CODE_TOO_MANY;
    case IDENTITY_SCOPE_IMMUTABLE:
    case IDENTITY_BAD_PARENT:
        return CODE_SCOPE;
    default:
        return CODE_ARGUMENT;
    }
}

void registry_fault_write(struct wr *w, struct span device, struct span module,
                          const struct registry_fault *f)
{
    wr_str(w, "{\"deviceId\":");
    member_string(w, device);
    if (module.n)
        member_text(w, "moduleId", module);
    member_number(w, "errorCode", f->code);
    member_text(w, "errorStatus", span_str(f->text));
    wr_u8(w, '}');
}

/* ---- reading --------------------------------------------------------------------------------------------
 */

/* A member; NULL: absent, or null. */
static const struct jnode *member(const struct jnode *o, const char *name)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    return n && n->kind != JNULL ? n : NULL;
}

/* What the reader of identities says. */
static enum err read(enum err e, const struct identity_read_fault *why, struct registry_fault *f)
{
    return e == ERR_PROTO ? registry_wrong(f, CODE_ARGUMENT, "%s", why->text) : e;
}
static enum err text(const struct jnode *o, const char *name, size_t max, struct span *out,
                     struct registry_fault *f)
{
    struct identity_read_fault why = { "" };
    return read(identity_read_text(o, name, max, out, &why), &why, f);
}

static enum err identity(struct arena *a, const struct jnode *o, struct registry_line *l,
                         struct registry_fault *f)
{
    enum err e = text(o, "id", IDENTITY_READ_MAX, &l->device, f);
    if (!e)
        e = text(o, "moduleId", IDENTITY_READ_MAX, &l->module, f);
    if (!e && !l->device.n)
        e = registry_wrong(f, CODE_ARGUMENT, "member \"id\" is missing");
    if (e)
        return e;
    l->name = identity_name_in(a, l->device, l->module);
    l->spec.id = l->module_spec.device = l->device;
    l->module_spec.id = l->module;
    return arena_err(a);
}

static struct span bare(struct span t)
{
    if (span_starts(t, SPAN("W/")))
        t = span_skip(t, 2);
    if (t.n >= 2 && t.p[0] == '"' && t.p[t.n - 1] == '"')
        t = span_of(t.p + 1, t.n - 2);
    return t;
}

uint64_t registry_etag_parse(struct span t)
{
    uint8_t digits[32];
    size_t n;
    uint64_t v;
    t = bare(t);
    if (span_eq(t, SPAN("*")))
        return 0;
    return base64_decode(t, digits, sizeof digits, &n) || u64_parse(span_of(digits, n), UINT64_MAX, &v) || !v
               ? UINT64_MAX
               : v;
}

static enum err etags(const struct jnode *o, struct registry_line *l, struct registry_fault *f)
{
    struct span etag = SPAN_NONE, twin = SPAN_NONE;
    enum err e = text(o, "eTag", IDENTITY_READ_MAX, &etag, f);
    if (!e)
        e = text(o, "twinETag", IDENTITY_READ_MAX, &twin, f);
    if (e || !l->mode->if_match)
        return e;
    if (l->mode->doing != REGISTRY_TWIN)
        l->if_etag = registry_etag_parse(etag);
    else if (twin_etag_parse(twin, &l->twin_if.etag))
        l->twin_if.etag = UINT64_MAX;
    return ERR_OK;
}

static enum err mode_of(const struct jnode *o, const struct registry_mode *mode, struct registry_line *l,
                        struct registry_fault *f)
{
    struct span s = SPAN_NONE;
    enum err e = text(o, "importMode", 64, &s, f);
    l->mode = s.n ? registry_mode_find(s) : mode;
    if (!e && !l->mode)
        return registry_wrong(f, CODE_ARGUMENT, "member \"importMode\" is not known: \"%.*s\"", (int)s.n,
                              (const char *)s.p);
    return e;
}

static enum err twin(struct arena *a, const struct jnode *o, struct registry_line *l,
                     struct registry_fault *f)
{
    struct twin_fault tf = { .wrong = TWIN_FINE };
    struct jnode *body;
    if (!member(o, "tags") && !member(o, "properties"))
        return ERR_OK;
    body = jtree_new(a, JOBJECT); /* a section that is null is one that is left out */
    if (!body)
        return ERR_NOMEM;
    struct jtree_list list = jtree_list(body);
    static const char *const names[] = { "tags", "properties" };
    for (size_t i = 0; i < 2; i++) {
        const struct jnode *n = member(o, names[i]);
        if (n && (i == 0 || n->kind != JOBJECT || member(n, "desired")))
            jtree_add(&list, jtree_copy(a, n));
    }
    enum err e = arena_err(a);
    if (!e)
        e = twin_service_patch_of(a, body, false, &l->twin, &tf);
    return e == ERR_PROTO ? registry_wrong(f, CODE_ARGUMENT, "%s", tf.text) : e;
}

enum err registry_parse(struct arena *a, struct span line, struct jnode **out, struct registry_fault *f)
{
    struct jtree_fault why = { "", 0 };
    enum err e = jtree_parse(a, line, out, &why);
    if (e == ERR_PROTO || e == ERR_LIMIT)
        return registry_wrong(f, CODE_FORMAT, "the line is not JSON that can be read: %s (byte %zu)",
                              why.what, why.at);
    if (!e && (*out)->kind != JOBJECT)
        return registry_wrong(f, CODE_FORMAT, "the line has to be a JSON object");
    return e;
}

enum err registry_line_read(struct arena *a, struct span line, const struct registry_mode *mode,
                            struct registry_line *out, struct registry_fault *f)
{
    struct jnode *o = NULL;
    *out = (struct registry_line){ .mode = mode };
    enum err e = registry_parse(a, line, &o, f);
    if (!e)
        e = identity(a, o, out, f);
    if (!e)
        e = mode_of(o, mode, out, f);
    if (!e)
        e = etags(o, out, f);
    if (e || out->mode->doing == REGISTRY_DELETE)
        return e;
    e = twin(a, o, out, f);
    if (e || out->mode->doing == REGISTRY_TWIN)
        return e;
    struct identity_read_fault fault = { "" };
    e = out->module.n ? identity_read_module(a, o, &out->module_spec, &fault)
                      : identity_read_device(a, o, true, &out->spec, &fault);
    return read(e, &fault, f);
}

/* ---- applying -------------------------------------------------------------------------------------------
 */

/* A scope ends in when its edge device was made, which is another time on another hub: the device is meant.
 * One that names no edge device is left as it is, and refused later. */
static enum err scope_here(struct store_tx *tx, struct arena *a, struct span *scope)
{
    struct span id = *scope, prefix = SPAN(IDENTITY_SCOPE_PREFIX);
    struct device_row d;
    if (!span_starts(id, prefix))
        return ERR_OK;
    id = span_skip(id, prefix.n);
    while (id.n && id.p[id.n - 1] != '-')
        id.n--;
    if (!id.n)
        return ERR_OK;
    id.n--;
    enum err e = tx_device_get(tx, id, &d);
    if (!e && d.edge)
        *scope = arena_copy(a, d.scope);
    return e == ERR_NOTFOUND ? ERR_OK : e ? e : arena_err(a);
}

static enum err write_device(struct hub *h, struct store_tx *tx, struct arena *a,
                             const struct registry_line *l, enum identity_fault *why)
{
    struct identity_spec s = l->spec;
    struct device_row d;
    enum err e = ERR_OK;
    if (s.edge) /* its own scope is the hub's to give */
        s.scope = SPAN_NONE;
    else
        e = scope_here(tx, a, &s.scope);
    if (!e && s.edge)
        e = scope_here(tx, a, &s.parent_scope);
    return e ? e : identity_write(h, tx, a, &s, l->mode->write, l->if_etag, &d, why);
}

static enum err write_identity(struct hub *h, struct store_tx *tx, struct arena *a,
                               const struct registry_line *l, enum identity_fault *why)
{
    struct module_row m;
    /* They are there as long as their device is one of the edge: files of other hubs name them like others.
     */
    const enum identity_mode how = span_starts(l->module, SPAN("$")) ? IDENTITY_REPLACE : l->mode->write;
    if (l->mode->doing == REGISTRY_DELETE)
        return l->module.n ? module_delete(h, tx, l->device, l->module, l->if_etag, why)
                           : identity_delete(h, tx, l->device, l->if_etag, why);
    return l->module.n ? module_write(h, tx, a, &l->module_spec, how, l->if_etag, &m, why)
                       : write_device(h, tx, a, l, why);
}

static enum err write_twin(struct hub *h, struct store_tx *tx, struct arena *a, const struct registry_line *l,
                           enum identity_fault *why, struct twin_fault *tf)
{
    struct twin t;
    if (!l->twin.tags.patch && !l->twin.desired.patch && l->mode->doing != REGISTRY_TWIN)
        return ERR_OK;
    enum err e = twin_update(h, tx, a, l->name, &l->twin, &l->twin_if, &t, tf);
    if (e == ERR_NOTFOUND)
        *why = l->module.n ? IDENTITY_NO_MODULE : IDENTITY_NO_DEVICE;
    if (e == ERR_STALE)
        *why = IDENTITY_ETAG;
    return e;
}

static enum err name_all(struct store_tx *tx, struct arena *a, const struct registry_line *l,
                         struct identity_names *names)
{
    if (!l->module.n)
        return identity_names(tx, a, l->device, names);
    names->nr = 1;
    names->names[0] = l->name;
    return ERR_OK;
}

enum err registry_line_apply(struct hub *h, struct store_tx *tx, struct arena *a,
                             const struct registry_line *l, struct identity_names *names,
                             struct registry_fault *f)
{
    enum identity_fault why = IDENTITY_FINE;
    struct twin_fault tf = { .wrong = TWIN_FINE };
    enum err e = ERR_OK;
    names->nr = 0;
    if (span_starts(l->module, SPAN("$")) &&
        (l->mode->doing == REGISTRY_DELETE ||
         (l->mode->doing == REGISTRY_WRITE && l->mode->write == IDENTITY_CREATE)))
        return registry_wrong(f, CODE_ARGUMENT,
                              "modules of the system come and go with their device: they can be updated");
    if (l->mode->doing == REGISTRY_DELETE)
        e = name_all(tx, a, l, names); /* as long as they are there */
    if (!e && l->mode->doing != REGISTRY_TWIN)
        e = write_identity(h, tx, a, l, &why);
    if (!e && l->mode->doing != REGISTRY_DELETE)
        e = write_twin(h, tx, a, l, &why, &tf);
    if (!e && l->mode->doing == REGISTRY_WRITE)
        e = name_all(tx, a, l, names);
    if (e && why) {
        (void)registry_wrong(f, code_of(why), "%s", identity_fault_text(why));
        return e;
    }
    if (e == ERR_PROTO)
        return registry_wrong(f, CODE_ARGUMENT, "%s", tf.text);
    return e ? e : arena_err(a);
}

/* ---- writing --------------------------------------------------------------------------------------------
 */

void registry_etag_write(struct wr *w, const char *name, uint64_t etag)
{
    uint8_t digits[24];
    struct wr d = { digits, sizeof digits, 0 };
    member_uint(&d, etag);
    member_raw(w, name, SPAN("\""));
    base64_encode(w, wr_span(&d));
    wr_u8(w, '"');
}

static void put_text(struct wr *w, const char *name, struct span s)
{
    if (s.n)
        member_text(w, name, s);
    else
        member_raw(w, name, SPAN("null"));
}

/* "type" comes last: there are clients whose setters of the other members change it while they read. */
static void put_proof(struct wr *w, unsigned auth, struct span key1, struct span key2, struct span thumb1,
                      struct span thumb2, bool keys)
{
    wr_str(w, ",\"authentication\":{\"symmetricKey\":{\"primaryKey\":");
    for (int i = 0; i < 2; i++) {
        struct span k = i ? key2 : key1;
        if (i)
            wr_str(w, ",\"secondaryKey\":");
        wr_str(w, k.n && keys ? "\"" : "null");
        if (k.n && keys) {
            base64_encode(w, k);
            wr_u8(w, '"');
        }
    }
    wr_str(w, "},\"x509Thumbprint\":{\"primaryThumbprint\":");
    for (int i = 0; i < 2; i++) {
        struct span t = i ? thumb2 : thumb1;
        if (i)
            wr_str(w, ",\"secondaryThumbprint\":");
        if (t.n)
            member_string(w, t);
        else
            wr_str(w, "null");
    }
    wr_str(w, "}");
    member_text(w, "type", span_str(identity_auth_name(auth)));
    wr_u8(w, '}');
}

static enum err put_twin(struct store_tx *tx, struct wr *w, struct span name)
{
    struct twin_row t;
    enum err e = tx_twin_get(tx, name, &t);
    if (e)
        return e == ERR_NOTFOUND ? ERR_IO : e;
    member_raw(w, "twinETag", SPAN("\""));
    twin_etag_write(w, t.etag);
    wr_u8(w, '"');
    member_raw(w, "tags", t.tags);
    wr_str(w, ",\"properties\":{\"desired\":");
    wr_put(w, t.desired);
    member_raw(w, "reported", t.reported);
    wr_u8(w, '}');
    return ERR_OK;
}

enum err registry_device_write(struct store_tx *tx, struct wr *w, const struct device_row *d, bool keys)
{
    wr_str(w, "{\"id\":");
    member_string(w, d->id);
    registry_etag_write(w, "eTag", d->etag);
    member_text(w, "status", d->status == DEVICE_ENABLED ? SPAN("enabled") : SPAN("disabled"));
    put_text(w, "statusReason", d->status == DEVICE_PENDING ? SPAN("waits for approval") : d->status_reason);
    put_proof(w, d->auth, d->key1, d->key2, d->thumb1, d->thumb2, keys);
    enum err e = put_twin(tx, w, d->id);
    wr_str(w, ",\"capabilities\":{\"iotEdge\":");
    wr_str(w, d->edge ? "true}" : "false}");
    if (d->scope.n)
        member_text(w, "deviceScope", d->scope);
    if (d->parent_scope.n) {
        wr_str(w, ",\"parentScopes\":[");
        member_string(w, d->parent_scope);
        wr_u8(w, ']');
    }
    wr_str(w, "}\n");
    return e;
}

enum err registry_module_write(struct store_tx *tx, struct wr *w, const struct module_row *m, bool keys)
{
    uint8_t name[IDENTITY_NAME_MAX];
    struct wr n = { name, sizeof name, 0 };
    identity_name_put(&n, m->device, m->id);
    wr_str(w, "{\"id\":");
    member_string(w, m->device);
    member_text(w, "moduleId", m->id);
    registry_etag_write(w, "eTag", m->etag);
    if (m->auth == AUTH_NONE) /* the hub makes it with its device: what can be taken over is the twin */
        member_text(w, "importMode", SPAN("updateTwin"));
    else
        member_text(w, "status", SPAN("enabled"));
    put_text(w, "managedBy", m->managed_by);
    put_proof(w, m->auth, m->key1, m->key2, m->thumb1, m->thumb2, keys);
    enum err e = put_twin(tx, w, wr_span(&n));
    wr_str(w, "}\n");
    return e;
}
