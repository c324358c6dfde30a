/* hub/front/azure_http/identity_json.c - see identity_json.h. */
#include "hub/front/azure_http/identity_json.h"

#include "base/text.h"

#include <strings.h>

#define STATUS_REASON_BYTES (4u * IDENTITY_TEXT_MAX) /* characters are counted by the domain */
#define THUMB_TEXT_MAX      256u                     /* so that a wrong one gets the domain's answer */

/* ---- in ---------------------------------------------------------------------------------------------- */

bool azure_in_same(struct job *j, const json_t *o, const char *name, struct span want)
{
    struct span s = want;
    if (!in_text(j, o, name, IN_OPTIONAL, 4096, &s))
        return false;
    return span_eq(s, want) ||
           azure_fail(j, AZ_ArgumentInvalid, "member \"%s\" differs from the id in the path", name);
}

/* NULL: absent; *ok false: not an object. */
static const json_t *in_object(struct job *j, const json_t *o, const char *name, bool *ok)
{
    const json_t *v = json_object_get(o, name);
    *ok = true;
    if (!v || json_is_null(v))
        return NULL;
    if (!json_is_object(v)) {
        *ok = azure_fail(j, AZ_ArgumentInvalid, "member \"%s\" has to be an object", name);
        return NULL;
    }
    return v;
}

static bool in_key(struct job *j, const json_t *o, const char *name, struct span *out)
{
    struct span text = SPAN_NONE;
    size_t n;
    if (!in_text(j, o, name, IN_OPTIONAL, 4096, &text))
        return false;
    if (!text.n)
        return true;
    uint8_t *mem = arena_alloc(&j->a, text.n), *again = arena_alloc(&j->a, text.n + 4);
    if (!mem || !again)
        return job_fail(j, 503, "out-of-memory", "the hub is short of memory: try again");
    struct wr w = { again, text.n + 4, 0 };
    enum err e = base64_decode(text, mem, text.n, &n);
    if (!e)
        base64_encode(&w, span_of(mem, n));
    if (e || !span_eq(wr_span(&w), text)) /* a key is given back as it came */
        return azure_fail(j, AZ_ArgumentInvalid, "member \"%s\" is not base64", name);
    *out = span_of(mem, n);
    return true;
}

bool azure_in_proof(struct job *j, const json_t *o, struct identity_proof *out)
{
    bool ok;
    struct span kind = SPAN_NONE;
    const json_t *auth = in_object(j, o, "authentication", &ok);
    *out = (struct identity_proof){ .given = auth != NULL };
    if (!auth)
        return ok;
    if (!in_text(j, auth, "type", IN_OPTIONAL, 64, &kind))
        return false;
    if (kind.n && identity_auth_parse(kind, &out->kind))
        return azure_fail(j, AZ_ArgumentInvalid,
                          "member \"type\" has to be sas, selfSigned, certificateAuthority or none");
    out->has_kind = kind.n > 0;
    const json_t *keys = in_object(j, auth, "symmetricKey", &ok);
    if (!ok || (keys &&
                (!in_key(j, keys, "primaryKey", &out->key1) || !in_key(j, keys, "secondaryKey", &out->key2))))
        return false;
    const json_t *thumbs = in_object(j, auth, "x509Thumbprint", &ok);
    return ok && (!thumbs ||
                  (in_text(j, thumbs, "primaryThumbprint", IN_OPTIONAL, THUMB_TEXT_MAX, &out->thumb1) &&
                   in_text(j, thumbs, "secondaryThumbprint", IN_OPTIONAL, THUMB_TEXT_MAX, &out->thumb2)));
}

static bool in_status(struct job *j, const json_t *o, bool *disabled)
{
    struct span s = SPAN_NONE;
    if (!in_text(j, o, "status", IN_OPTIONAL, 16, &s))
        return false;
    *disabled = span_ieq(s, SPAN("disabled"));
    return !s.n || *disabled || span_ieq(s, SPAN("enabled")) ||
           azure_fail(j, AZ_ArgumentInvalid, "member \"status\" has to be enabled or disabled");
}

static bool in_parents(struct job *j, const json_t *o, struct span *out)
{
    const json_t *list = json_object_get(o, "parentScopes");
    if (!list || json_is_null(list))
        return true;
    size_t nr = json_array_size(list);
    if (!json_is_array(list) || nr > 1 || (nr && !json_is_string(json_array_get(list, 0))))
        return azure_fail(j, AZ_ArgumentInvalid,
                          "member \"parentScopes\" has to be a list of one text at most");
    if (nr)
        *out =
            span_of(json_string_value(json_array_get(list, 0)), json_string_length(json_array_get(list, 0)));
    return true;
}

bool azure_in_device(struct job *j, const json_t *o, struct identity_spec *out)
{
    bool ok;
    if (!in_status(j, o, &out->disabled) ||
        !in_text(j, o, "statusReason", IN_OPTIONAL, STATUS_REASON_BYTES, &out->status_reason) ||
        !in_text(j, o, "deviceScope", IN_OPTIONAL, IDENTITY_SCOPE_MAX, &out->scope) ||
        !in_parents(j, o, &out->parent_scope) || !azure_in_proof(j, o, &out->proof))
        return false;
    const json_t *can = in_object(j, o, "capabilities", &ok);
    return ok && (!can || in_bool(j, can, "iotEdge", IN_OPTIONAL, &out->edge));
}

/* ---- out --------------------------------------------------------------------------------------------- */

static json_t *text_or_null(struct span s)
{
    return s.n ? json_span(s) : json_null();
}

static json_t *key_or_null(struct span key)
{
    return key.n ? json_base64(key) : json_null();
}

/* "type" comes last: there are clients whose setters of the other members change it while they read. */
static json_t *auth_json(unsigned kind, struct span key1, struct span key2, struct span thumb1,
                         struct span thumb2)
{
    json_t *o = json_object(), *keys = json_object(), *thumbs = json_object();
    json_put(keys, "primaryKey", key_or_null(key1));
    json_put(keys, "secondaryKey", key_or_null(key2));
    json_put(thumbs, "primaryThumbprint", text_or_null(thumb1));
    json_put(thumbs, "secondaryThumbprint", text_or_null(thumb2));
    json_put(o, "symmetricKey", keys);
    json_put(o, "x509Thumbprint", thumbs);
    json_put_str(o, "type", identity_auth_name(kind));
    return o;
}

/* What the hub saw of an identity ("device", "device/module"). */
struct seen {
    bool connected;
    uint64_t changed_ms, activity_ms, waiting;
};

static enum err seen_get(struct store_tx *tx, struct span identity, struct seen *out)
{
    struct report_row r;
    *out = (struct seen){ 0 };
    enum err e = tx_report_get(tx, identity, &r);
    if (!e)
        *out = (struct seen){ r.connected, r.connected_changed_ms, r.activity_ms, 0 };
    if (!e || e == ERR_NOTFOUND)
        e = tx_c2d_count(tx, identity, &out->waiting);
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

static void put_etag(json_t *o, uint64_t etag)
{
    char text[AZURE_ETAG_MAX];
    json_put(o, "etag", json_span(azure_etag_decimal(etag, text)));
}

static const char *state_name(bool connected)
{
    return connected ? "Connected" : "Disconnected";
}

enum err azure_device_json(struct store_tx *tx, const struct device_row *d, json_t **out)
{
    struct seen seen;
    enum err e = seen_get(tx, d->id, &seen);
    json_t *o = e ? NULL : json_object(), *can = e ? NULL : json_object();
    if (e)
        return e;
    json_put(o, "deviceId", json_span(d->id));
    json_put(o, "generationId", json_span(d->generation));
    put_etag(o, d->etag);
    json_put_str(o, "connectionState", state_name(seen.connected));
    json_put_str(o, "status", d->status == DEVICE_ENABLED ? "enabled" : "disabled");
    json_put(o, "statusReason",
             d->status == DEVICE_PENDING ? json_string("waits for approval")
                                         : text_or_null(d->status_reason));
    json_put(o, "connectionStateUpdatedTime", azure_time(seen.changed_ms));
    json_put(o, "statusUpdatedTime", azure_time(d->status_updated_ms));
    json_put(o, "lastActivityTime", azure_time(seen.activity_ms));
    json_put_u64(o, "cloudToDeviceMessageCount", seen.waiting);
    json_put(o, "authentication", auth_json(d->auth, d->key1, d->key2, d->thumb1, d->thumb2));
    json_put(can, "iotEdge", json_boolean(d->edge));
    json_put(o, "capabilities", can);
    if (d->scope.n)
        json_put(o, "deviceScope", json_span(d->scope));
    if (d->parent_scope.n) {
        json_t *list = json_array();
        (void)json_array_append_new(list, json_span(d->parent_scope));
        json_put(o, "parentScopes", list);
    }
    *out = o;
    return o ? ERR_OK : ERR_NOMEM;
}

enum err azure_module_json(struct store_tx *tx, const struct module_row *m, json_t **out)
{
    uint8_t name[2 * DEVICE_ID_MAX + 2];
    struct wr w = { name, sizeof name, 0 };
    struct seen seen;
    wr_put(&w, m->device);
    wr_u8(&w, '/');
    wr_put(&w, m->id);
    enum err e = seen_get(tx, wr_span(&w), &seen);
    json_t *o = e ? NULL : json_object();
    if (e)
        return e;
    json_put(o, "moduleId", json_span(m->id));
    json_put(o, "managedBy", text_or_null(m->managed_by));
    json_put(o, "deviceId", json_span(m->device));
    json_put(o, "generationId", json_span(m->generation));
    put_etag(o, m->etag);
    json_put_str(o, "connectionState", state_name(seen.connected));
    json_put(o, "connectionStateUpdatedTime", azure_time(seen.changed_ms));
    json_put(o, "lastActivityTime", azure_time(seen.activity_ms));
    json_put_u64(o, "cloudToDeviceMessageCount", seen.waiting);
    json_put(o, "authentication", auth_json(m->auth, m->key1, m->key2, m->thumb1, m->thumb2));
    *out = o;
    return o ? ERR_OK : ERR_NOMEM;
}

/* ---- what both kinds share --------------------------------------------------------------------------- */

uint64_t azure_match_counter(const struct azure_match *m)
{
    uint8_t digits[32];
    size_t n;
    uint64_t counter;
    if (m->kind != AZURE_MATCH_ETAG)
        return 0;
    return base64_decode(m->etag, digits, sizeof digits, &n) ||
                   u64_parse(span_of(digits, n), UINT64_MAX, &counter) || !counter
               ? UINT64_MAX
               : counter;
}

enum azure_error azure_fault_error(enum identity_fault f)
{
    switch (f) {
    case IDENTITY_NO_DEVICE:
        return AZ_DeviceNotFound;
    case IDENTITY_NO_MODULE:
        return AZ_ModuleNotFound;
    case IDENTITY_DEVICE_EXISTS:
        return AZ_DeviceAlreadyExists;
    case IDENTITY_MODULE_EXISTS:
        return AZ_ModuleAlreadyExistsOnDevice;
    case IDENTITY_ETAG:
        return AZ_PreconditionFailed;
    case IDENTITY_TOO_MANY:
        return AZ_TooManyModulesOnDevice;
    case IDENTITY_SCOPE_IMMUTABLE:
    case IDENTITY_BAD_PARENT:
        return AZ_InvalidDeviceScope;
    case IDENTITY_NO_KEYS:
        return AZ_InvalidOperation;
    default:
        return AZ_ArgumentInvalid;
    }
}

enum err azure_refuse_fault(struct job *j, enum err e, enum identity_fault f, struct span device,
                            struct span module)
{
    if (!f)
        return e;
    if (f == IDENTITY_MODULE_EXISTS)
        j->envelope = AZURE_TYPED;
    return AZURE_REFUSE(j, azure_fault_error(f), "%s: %.*s%s%.*s", identity_fault_text(f), (int)device.n,
                        (const char *)device.p, module.n ? "/" : "", (int)module.n, (const char *)module.p);
}
