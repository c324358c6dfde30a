/* hub/front/azure_http/identity_json.c - see identity_json.h. */
#include "hub/front/azure_http/identity_json.h"

#include "base/text.h"
#include "hub/domain/identity/identity_read.h"
#include "hub/domain/json_members.h"
#include "hub/store/identity_name.h"

#include <strings.h>

/* ---- in ---------------------------------------------------------------------------------------------- */

static bool said(struct job *j, enum err e, const struct identity_read_fault *f)
{
    return !e ||
           (e == ERR_PROTO ? azure_fail(j, AZ_ArgumentInvalid, "%s", f->text) : job_fail_err(j, ERR_NOMEM));
}

bool azure_in_text(struct job *j, const struct jnode *o, const char *name, struct span *out)
{
    struct identity_read_fault f = { "" };
    return said(j, identity_read_text(o, name, IDENTITY_READ_MAX, out, &f), &f);
}

bool azure_in_same(struct job *j, const struct jnode *o, const char *name, struct span want)
{
    struct span s = want;
    if (!azure_in_text(j, o, name, &s))
        return false;
    return span_eq(s, want) ||
           azure_fail(j, AZ_ArgumentInvalid, "member \"%s\" differs from the id in the path", name);
}

bool azure_in_device(struct job *j, const struct jnode *o, struct identity_spec *out)
{
    struct identity_read_fault f = { "" };
    return said(j, identity_read_device(&j->a, o, false, out, &f), &f);
}

bool azure_in_module(struct job *j, const struct jnode *o, struct module_spec *out)
{
    struct identity_read_fault f = { "" };
    return said(j, identity_read_module(&j->a, o, out, &f), &f);
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
    uint8_t name[IDENTITY_NAME_MAX];
    struct wr w = { name, sizeof name, 0 };
    identity_name_put(&w, m->device, m->id);
    return tx_identity_seen(tx, wr_span(&w), out);
}

static enum err answer(struct job *j, void (*write)(struct wr *w, const void *item), const void *item,
                       uint64_t etag)
{
    char text[AZURE_ETAG_MAX];
    azure_answer_etag(j, azure_etag_decimal(etag, text));
    return fleet_answer(j, write, item);
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
