/* hub/domain/message/message.c - the codec of message.h. */
#include "hub/domain/message/message.h"

#include <assert.h>

enum {
    TAG_END = 0,
    TAG_DEVICE,
    TAG_MODULE,
    TAG_GENERATION,
    TAG_MODEL,
    TAG_SYSTEM = 16,
    TAG_PROP = 64,
    TAG_NULL
};
static_assert(TAG_SYSTEM + BAG_SYSTEM_NAMES <= TAG_PROP, "system properties ran into the next tags");

#define VARINT_MAX 0x1fffffu /* three bytes of seven bits */

const char *message_auth_method(uint8_t auth)
{
    static const char *const text[MESSAGE_AUTHS] = {
        "{\"scope\":\"device\",\"type\":\"sas\",\"issuer\":\"iothub\",\"acceptingIpFilterRule\":null}",
        "{\"scope\":\"module\",\"type\":\"sas\",\"issuer\":\"iothub\",\"acceptingIpFilterRule\":null}",
        "{\"scope\":\"hub\",\"type\":\"sas\",\"issuer\":\"iothub\",\"acceptingIpFilterRule\":null}",
        "{\"scope\":\"device\",\"type\":\"x509\",\"issuer\":\"iothub\",\"acceptingIpFilterRule\":null}",
        "{\"scope\":\"module\",\"type\":\"x509\",\"issuer\":\"iothub\",\"acceptingIpFilterRule\":null}",
    };
    return auth < MESSAGE_AUTHS ? text[auth] : "{}";
}

const char *message_source_name(uint8_t source)
{
    static const char *const names[MESSAGE_SOURCES] = { "Telemetry",
                                                        "twinChangeEvents",
                                                        "deviceLifecycleEvents",
                                                        "deviceConnectionStateEvents",
                                                        "deviceJobLifecycleEvents",
                                                        "digitalTwinChangeEvents" };
    return source < MESSAGE_SOURCES ? names[source] : "unknown";
}

static void varint_put(struct wr *w, size_t v)
{
    assert(v <= VARINT_MAX);
    for (; v > 0x7f; v >>= 7)
        wr_u8(w, (uint8_t)(v | 0x80));
    wr_u8(w, (uint8_t)v);
}

static size_t varint_get(struct rd *r)
{
    size_t v = 0;
    for (unsigned shift = 0; shift < 21; shift += 7) {
        uint8_t b = rd_u8(r);
        v |= (size_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return v;
    }
    r->bad = true;
    return 0;
}

static void field_put(struct wr *w, uint8_t tag, struct span value)
{
    wr_u8(w, tag);
    varint_put(w, value.n);
    wr_put(w, value);
}

void message_put_head(struct wr *w, const struct message_head *h)
{
    wr_u8(w, MESSAGE_VERSION);
    wr_u8(w, h->auth);
    wr_u8(w, h->source);
    field_put(w, TAG_DEVICE, h->device);
    if (h->module.n)
        field_put(w, TAG_MODULE, h->module);
    if (h->generation.n)
        field_put(w, TAG_GENERATION, h->generation);
    if (h->model.n)
        field_put(w, TAG_MODEL, h->model);
}

void message_put_system(struct wr *w, enum bag_system s, struct span value)
{
    field_put(w, (uint8_t)(TAG_SYSTEM + s), value);
}

void message_put_prop(struct wr *w, const struct message_prop *p)
{
    if (p->null) {
        field_put(w, TAG_NULL, p->name);
        return;
    }
    struct wr len = { 0 };
    varint_put(&len, p->name.n);
    wr_u8(w, TAG_PROP);
    varint_put(w, len.len + p->name.n + p->value.n);
    varint_put(w, p->name.n);
    wr_put(w, p->name);
    wr_put(w, p->value);
}

void message_put_body(struct wr *w, struct span body)
{
    wr_u8(w, TAG_END);
    wr_put(w, body);
}

static bool prop_split(uint8_t tag, struct span field, struct message_prop *out)
{
    struct rd r = rd_of(field);
    out->null = tag == TAG_NULL;
    out->name = rd_take(&r, out->null ? r.n : varint_get(&r));
    out->value = rd_take(&r, r.n);
    return !r.bad;
}

enum err message_decode(struct span record, struct message *out)
{
    struct rd r = rd_of(record);
    struct message m = { 0 };
    if (rd_u8(&r) != MESSAGE_VERSION)
        return ERR_PROTO;
    m.auth = rd_u8(&r);
    m.source = rd_u8(&r);
    m.props.p = r.p;
    for (;;) {
        const uint8_t *end = r.p;
        uint8_t tag = rd_u8(&r);
        if (tag == TAG_END && !r.bad) {
            m.props.n = (size_t)(end - m.props.p);
            break;
        }
        struct span field = rd_take(&r, varint_get(&r));
        struct message_prop p;
        if (r.bad || (tag >= TAG_PROP && tag <= TAG_NULL && !prop_split(tag, field, &p)))
            return ERR_PROTO;
        if (tag == TAG_DEVICE)
            m.device = field;
        else if (tag == TAG_MODULE)
            m.module = field;
        else if (tag == TAG_GENERATION)
            m.generation = field;
        else if (tag == TAG_MODEL)
            m.model = field;
        else if (tag >= TAG_SYSTEM && tag < TAG_SYSTEM + BAG_SYSTEM_NAMES)
            m.system[tag - TAG_SYSTEM] = field;
    }
    if (!m.device.n)
        return ERR_PROTO;
    m.body = span_of(r.p, r.n);
    *out = m;
    return ERR_OK;
}

bool message_prop_next(struct span *at, struct message_prop *out)
{
    struct rd r = rd_of(*at);
    while (r.n) {
        uint8_t tag = rd_u8(&r);
        struct span field = rd_take(&r, varint_get(&r));
        if (r.bad)
            break;
        if ((tag == TAG_PROP || tag == TAG_NULL) && prop_split(tag, field, out)) {
            *at = span_of(r.p, r.n);
            return true;
        }
    }
    *at = SPAN_NONE;
    return false;
}
