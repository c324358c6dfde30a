/* hub/domain/identity/identity.c - the rules of a device's row. */
#include "hub/domain/identity/identity.h"
#include "hub/domain/event/event.h"

#include "base/text.h"
#include "hub/domain/access/access.h"
#include "hub/domain/identity/identity_impl.h"

#include <string.h>

bool identity_id_ok(struct span id)
{
    if (id.n < 1 || id.n > DEVICE_ID_MAX)
        return false;
    for (size_t i = 0; i < id.n; i++) {
        uint8_t c = id.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && (c == 0 || !strchr("-.+%_#*?!(),:=@$'", c)))
            return false;
    }
    return true;
}

static struct span cut(struct span *in, uint8_t at) /* up to the separator, which is dropped */
{
    const uint8_t *p = in->n ? memchr(in->p, at, in->n) : NULL;
    struct span head = p ? span_of(in->p, (size_t)(p - in->p)) : *in;
    *in = p ? span_skip(*in, head.n + 1) : span_of(NULL, 0);
    return head;
}

enum err hardware_parse(struct span text, struct hardware *out)
{
    struct hardware hw = { .product = cut(&text, ':') };
    bool has_class = text.p != NULL;
    struct span cls = cut(&text, ':');
    bool has_rev = text.p != NULL;
    uint64_t class_nr = 0, rev = 0;
    if (hw.product.n < 1 || hw.product.n > 24 || !has_class)
        return ERR_PROTO;
    for (size_t i = 0; i < hw.product.n; i++) {
        uint8_t c = hw.product.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
              c == '.' || c == '_' || c == '+' || c == '~'))
            return ERR_PROTO;
    }
    if (u64_parse(cls, UINT16_MAX, &class_nr) || (has_rev && u64_parse(text, UINT8_MAX, &rev)))
        return ERR_PROTO;
    hw.hw_class = (uint16_t)class_nr;
    hw.hw_rev = (uint8_t)rev;
    *out = hw;
    return ERR_OK;
}

void hardware_format(struct wr *w, const struct hardware *hw)
{
    wr_put(w, hw->product);
    wr_u8(w, ':');
    wr_u32(w, hw->hw_class);
    if (hw->hw_rev) {
        wr_u8(w, ':');
        wr_u32(w, hw->hw_rev);
    }
}

static const char *const status_names[] = { "enabled", "disabled", "pending" };

const char *device_status_name(unsigned status)
{
    return status < 3 ? status_names[status] : "unknown";
}

enum err device_status_parse(struct span text, uint8_t *status)
{
    for (uint8_t i = 0; i < 3; i++)
        if (span_eq(text, span_str(status_names[i]))) {
            *status = i;
            return ERR_OK;
        }
    return ERR_PROTO;
}

enum err identity_copy(struct arena *a, const struct device_row *in, struct device_row *out)
{
    struct device_row r = *in;
    r.id = arena_copy(a, in->id);
    r.key1 = arena_copy(a, in->key1);
    r.key2 = arena_copy(a, in->key2);
    r.public_key = arena_copy(a, in->public_key);
    r.generation = arena_copy(a, in->generation);
    r.product = arena_copy(a, in->product);
    r.origin = arena_copy(a, in->origin);
    r.thumb1 = arena_copy(a, in->thumb1);
    r.thumb2 = arena_copy(a, in->thumb2);
    r.status_reason = arena_copy(a, in->status_reason);
    r.scope = arena_copy(a, in->scope);
    r.parent_scope = arena_copy(a, in->parent_scope);
    enum err e = arena_err(a);
    if (!e)
        *out = r;
    return e;
}

enum err identity_get(struct store_tx *tx, struct arena *a, struct span id, struct device_row *out)
{
    struct device_row r;
    enum err e = tx_device_get(tx, id, &r);
    return e ? e : identity_copy(a, &r, out);
}

struct span identity_fresh_key(struct hub *h, struct arena *a)
{
    uint8_t *p = arena_alloc(a, IDENTITY_KEY_LEN);
    if (!p)
        return SPAN_NONE;
    h->crypto->random(p, IDENTITY_KEY_LEN);
    return span_of(p, IDENTITY_KEY_LEN);
}

/* Eighteen decimal digits, as tools that show it expect; random, so that a device that is deleted and made
 * again in the same millisecond, or on another hub, still has another one. */
struct span identity_fresh_generation(struct hub *h, struct arena *a)
{
    uint8_t *p = arena_alloc(a, 18);
    if (!p)
        return SPAN_NONE;
    h->crypto->random(p, 18);
    for (size_t i = 0; i < 18; i++)
        p[i] = (uint8_t)('0' + p[i] % 10);
    if (p[0] == '0')
        p[0] = '6';
    return span_of(p, 18);
}

static void give_keys(struct hub *h, struct arena *a, struct device_row *r)
{
    if (!r->key1.n)
        r->key1 = identity_fresh_key(h, a);
    if (!r->key2.n)
        r->key2 = identity_fresh_key(h, a);
}

static enum err put(struct hub *h, struct store_tx *tx, struct arena *a, struct device_row *r,
                    uint64_t if_etag, struct device_row *out)
{
    enum err e = arena_err(a);
    r->updated_ms = h->wall_ms();
    if (!e)
        e = tx_device_put(tx, r, if_etag, &r->etag);
    if (!e)
        *out = *r;
    return e;
}

enum err identity_replace(struct hub *h, struct store_tx *tx, struct arena *a, struct device_row *r,
                          struct device_row *out)
{
    return put(h, tx, a, r, 0, out);
}

/* The one place where a device comes into being. */
enum err identity_create(struct hub *h, struct store_tx *tx, struct arena *a, const struct device_row *in,
                         struct device_row *out)
{
    struct device_row r;
    enum err e = identity_copy(a, in, &r);
    if (e)
        return e;
    r.generation = identity_fresh_generation(h, a);
    r.created_ms = h->wall_ms();
    if (r.status != DEVICE_PENDING && r.auth == AUTH_SAS)
        give_keys(h, a, &r);
    e = put(h, tx, a, &r, UINT64_MAX, out);
    if (!e)
        e = event_lifecycle(h, tx, r.id, SPAN_NONE, true);
    return e ? e : identity_get(tx, a, r.id, out); /* with its place in the order of creation */
}

enum err identity_set_status(struct hub *h, struct store_tx *tx, struct arena *a, struct span id,
                             uint8_t status, struct device_row *out)
{
    struct device_row r;
    enum err e = identity_get(tx, a, id, &r);
    if (e)
        return e;
    if (r.status == DEVICE_PENDING || status == DEVICE_PENDING)
        return ERR_STALE;
    if (r.status == status) {
        *out = r;
        return ERR_OK;
    }
    r.status = status;
    r.status_updated_ms = h->wall_ms();
    return put(h, tx, a, &r, 0, out);
}

enum err identity_approve(struct hub *h, struct store_tx *tx, struct arena *a, struct span id,
                          struct device_row *out)
{
    struct device_row r;
    enum err e = identity_get(tx, a, id, &r);
    if (e)
        return e;
    if (r.status == DEVICE_ENABLED && r.auth == AUTH_SAS && !r.public_key.n && !r.issued_unused) {
        r.issued_unused = true;
    } else if (r.status == DEVICE_PENDING) {
        r.status = DEVICE_ENABLED;
        r.status_updated_ms = h->wall_ms();
        r.issued_unused = true;
        give_keys(h, a, &r);
    } else {
        return ERR_STALE;
    }
    return put(h, tx, a, &r, 0, out);
}

enum err identity_used(struct store_tx *tx, struct arena *a, const struct device_row *r)
{
    struct device_row next;
    if (!r->issued_unused)
        return ERR_OK;
    enum err e = identity_copy(a, r, &next);
    if (e)
        return e;
    next.issued_unused = false;
    return tx_device_put(tx, &next, 0, NULL);
}

void identity_connection_string(const struct hub *h, const struct device_row *r, struct wr *w)
{
    wr_str(w, "HostName=");
    wr_str(w, h->names[0]);
    wr_str(w, ";DeviceId=");
    wr_put(w, r->id);
    if (r->auth != AUTH_SAS) {
        wr_str(w, ";x509=true");
        return;
    }
    wr_str(w, ";SharedAccessKey=");
    base64_encode(w, r->key1);
}

void identity_announce(struct hub *h, struct span id)
{
    access_forget(h->access, id); /* first: a session that looks again must not find the old keys */
    (void)bus_wake(h->bus, id, BUS_WAKE_IDENTITY);
}
