/* hub/front/azure_http/identity_json.c - see identity_json.h. */
#include "hub/front/azure_http/identity_json.h"

#include "base/text.h"
#include "hub/domain/json_members.h"

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

static void put_text(struct wr *w, const char *name, struct span s) /* null when it is empty */
{
    if (s.n)
        member_text(w, name, s);
    else
        member_raw(w, name, SPAN("null"));
}

static void key_or_null(struct wr *w, struct span key)
{
    if (!key.n) {
        wr_str(w, "null");
        return;
    }
    wr_u8(w, '"');
    base64_encode(w, key);
    wr_u8(w, '"');
}

static void thumb_or_null(struct wr *w, struct span thumb)
{
    if (thumb.n)
        member_string(w, thumb);
    else
        wr_str(w, "null");
}

/* "type" comes last: there are clients whose setters of the other members change it while they read. */
static void put_auth(struct wr *w, unsigned kind, struct span key1, struct span key2, struct span thumb1,
                     struct span thumb2)
{
    wr_str(w, ",\"authentication\":{\"symmetricKey\":{\"primaryKey\":");
    key_or_null(w, key1);
    wr_str(w, ",\"secondaryKey\":");
    key_or_null(w, key2);
    wr_str(w, "},\"x509Thumbprint\":{\"primaryThumbprint\":");
    thumb_or_null(w, thumb1);
    wr_str(w, ",\"secondaryThumbprint\":");
    thumb_or_null(w, thumb2);
    wr_str(w, "},\"type\":\"");
    wr_str(w, identity_auth_name(kind));
    wr_str(w, "\"}");
}

static void put_etag(struct wr *w, uint64_t etag)
{
    char text[AZURE_ETAG_MAX];
    member_text(w, "etag", azure_etag_decimal(etag, text));
}

static void put_time(struct wr *w, const char *name, uint64_t wall_ms)
{
    if (wall_ms)
        member_time(w, name, wall_ms);
    else
        member_text(w, name, SPAN(AZURE_NEVER));
}

static struct span state_name(bool connected)
{
    return connected ? SPAN("Connected") : SPAN("Disconnected");
}

struct device_shown {
    const struct device_row *row;
    struct identity_seen seen;
};
struct module_shown {
    const struct module_row *row;
    struct identity_seen seen;
};

static void write_device(struct wr *w, const void *item)
{
    const struct device_shown *v = item;
    const struct device_row *d = v->row;
    const struct identity_seen *seen = &v->seen;
    wr_str(w, "{\"deviceId\":");
    member_string(w, d->id);
    member_text(w, "generationId", d->generation);
    put_etag(w, d->etag);
    member_text(w, "connectionState", state_name(seen->connected));
    member_text(w, "status", d->status == DEVICE_ENABLED ? SPAN("enabled") : SPAN("disabled"));
    put_text(w, "statusReason", d->status == DEVICE_PENDING ? SPAN("waits for approval") : d->status_reason);
    put_time(w, "connectionStateUpdatedTime", seen->connected_changed_ms);
    put_time(w, "statusUpdatedTime", d->status_updated_ms);
    put_time(w, "lastActivityTime", seen->activity_ms);
    member_number(w, "cloudToDeviceMessageCount", seen->waiting);
    put_auth(w, d->auth, d->key1, d->key2, d->thumb1, d->thumb2);
    member_raw(w, "capabilities", d->edge ? SPAN("{\"iotEdge\":true}") : SPAN("{\"iotEdge\":false}"));
    if (d->scope.n)
        member_text(w, "deviceScope", d->scope);
    if (d->parent_scope.n) {
        member_raw(w, "parentScopes", SPAN("["));
        member_string(w, d->parent_scope);
        wr_u8(w, ']');
    }
    wr_u8(w, '}');
}

static void write_module(struct wr *w, const void *item)
{
    const struct module_shown *v = item;
    const struct module_row *m = v->row;
    wr_str(w, "{\"moduleId\":");
    member_string(w, m->id);
    put_text(w, "managedBy", m->managed_by);
    member_text(w, "deviceId", m->device);
    member_text(w, "generationId", m->generation);
    put_etag(w, m->etag);
    member_text(w, "connectionState", state_name(v->seen.connected));
    put_time(w, "connectionStateUpdatedTime", v->seen.connected_changed_ms);
    put_time(w, "lastActivityTime", v->seen.activity_ms);
    member_number(w, "cloudToDeviceMessageCount", v->seen.waiting);
    put_auth(w, m->auth, m->key1, m->key2, m->thumb1, m->thumb2);
    wr_u8(w, '}');
}

enum err azure_module_seen(struct store_tx *tx, const struct module_row *m, struct identity_seen *out)
{
    uint8_t name[2 * DEVICE_ID_MAX + 2];
    struct wr w = { name, sizeof name, 0 };
    wr_put(&w, m->device);
    wr_u8(&w, '/');
    wr_put(&w, m->id);
    return tx_identity_seen(tx, wr_span(&w), out);
}

static enum err answer(struct job *j, void (*write)(struct wr *w, const void *item), const void *item,
                       uint64_t etag)
{
    char text[AZURE_ETAG_MAX];
    j->bytes = fleet_document(&j->a, write, item);
    j->bytes_type = "application/json; charset=utf-8";
    azure_answer_etag(j, azure_etag_decimal(etag, text));
    return arena_err(&j->a);
}

enum err azure_device_answer(struct job *j, struct store_tx *tx, const struct device_row *d)
{
    struct device_shown v = { .row = d };
    enum err e = tx_identity_seen(tx, d->id, &v.seen);
    return e ? e : answer(j, write_device, &v, d->etag);
}

enum err azure_module_answer(struct job *j, struct store_tx *tx, const struct module_row *m)
{
    struct module_shown v = { .row = m };
    enum err e = azure_module_seen(tx, m, &v.seen);
    return e ? e : answer(j, write_module, &v, m->etag);
}

enum err azure_device_add(struct fleet_array *list, const struct device_row *d,
                          const struct identity_seen *seen)
{
    struct device_shown v = { d, *seen };
    return fleet_array_add(list, write_device, &v);
}

enum err azure_module_add(struct fleet_array *list, const struct module_row *m,
                          const struct identity_seen *seen)
{
    struct module_shown v = { m, *seen };
    return fleet_array_add(list, write_module, &v);
}

void azure_list_answer(struct job *j, struct fleet_array *list)
{
    j->bytes = fleet_array_end(list);
    j->bytes_type = "application/json; charset=utf-8";
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
