/* core/topic/topic_write.c - writes the topics of an Azure IoT Hub, for the hub and for the device. */
#include "core/topic/topic.h"

#include "base/text.h"
#include "core/bag/bag.h"

#include <assert.h>

static void identity_put(struct wr *w, const struct topic_identity *who)
{
    wr_str(w, "devices/");
    wr_put(w, who->device);
    if (who->module.n) {
        wr_str(w, "/modules/");
        wr_put(w, who->module);
    }
}

/* ---- C2D (9.2, 9.3) --------------------------------------------------------------------------------------
 */

/* System properties that a C2D topic carries, in this order; everything else but these follows. */
static const uint8_t c2d_order[] = {
    BAG_MESSAGE_ID,   BAG_CORRELATION_ID,   BAG_USER_ID,       BAG_TO, BAG_EXPIRY,
    BAG_CONTENT_TYPE, BAG_CONTENT_ENCODING, BAG_CREATION_TIME, BAG_ACK
};

static bool c2d_is_ordered(int system)
{
    for (size_t i = 0; i < sizeof c2d_order; i++)
        if (c2d_order[i] == system)
            return true;
    return false;
}

/* Name and value of an item, still encoded. The stored bag may spell a name "$.mid" or "%24.mid". */
struct raw_item {
    struct span name, value;
    int system; /* enum bag_system or -1 */
};

static bool raw_next(struct span *bag, struct raw_item *out)
{
    while (bag->n) {
        const uint8_t *amp = memchr(bag->p, '&', bag->n);
        struct span item = span_of(bag->p, amp ? (size_t)(amp - bag->p) : bag->n);
        *bag = span_skip(*bag, amp ? item.n + 1 : item.n);
        const uint8_t *eq = item.n ? memchr(item.p, '=', item.n) : NULL;
        if (!eq || eq == item.p || eq + 1 == item.p + item.n)
            continue; /* no name, null or empty: two SDKs cannot read it */
        size_t n = (size_t)(eq - item.p);
        *out = (struct raw_item){ span_of(item.p, n), span_skip(item, n + 1), -1 };
        uint8_t room[32]; /* longer than any system name */
        struct wr name = { room, sizeof room, 0 };
        percent_decode(&name, out->name);
        if (wr_ok(&name))
            out->system = bag_system_of_wire(wr_span(&name));
        return true;
    }
    return false;
}

/* Encodes again what is already encoded, so that the spelling is ours whatever the sender's was: upper-case
 * hex, only unreserved characters. Works byte by byte: needs no memory. */
static void reencode(struct wr *w, struct span text)
{
    while (text.n) {
        size_t n = text.p[0] == '%' && text.n >= 3 ? 3 : 1;
        uint8_t room[3];
        struct wr byte = { room, sizeof room, 0 };
        percent_decode(&byte, span_of(text.p, n));
        percent_encode(w, wr_span(&byte));
        text = span_skip(text, n);
    }
}

static void raw_put(struct wr *w, size_t start, const struct raw_item *it)
{
    if (w->len > start)
        wr_u8(w, '&');
    reencode(w, it->name);
    wr_u8(w, '=');
    reencode(w, it->value);
}

/* "/devices/{d}[/modules/{m}]/messages/devicebound": where a message goes that names no other place. */
static void to_put(struct wr *w, size_t start, const struct topic_identity *who)
{
    if (w->len > start)
        wr_u8(w, '&');
    percent_encode(w, span_str(bag_system_names[BAG_TO].wire));
    wr_str(w, "=%2Fdevices%2F");
    percent_encode(w, who->device);
    if (who->module.n) {
        wr_str(w, "%2Fmodules%2F");
        percent_encode(w, who->module);
    }
    wr_str(w, "%2Fmessages%2Fdevicebound");
}

void topic_c2d_encode(struct wr *w, const struct topic_identity *who, struct span props)
{
    identity_put(w, who);
    wr_str(w, "/messages/devicebound/");
    size_t start = w->len;
    struct raw_item it;
    for (size_t i = 0; i < sizeof c2d_order; i++) {
        bool there = false;
        for (struct span bag = props; !there && raw_next(&bag, &it);)
            if (it.system == c2d_order[i]) {
                raw_put(w, start, &it);
                there = true; /* the first of its name */
            }
        if (!there && c2d_order[i] == BAG_TO)
            to_put(w, start, who);
    }
    for (struct span bag = props; raw_next(&bag, &it);)
        if (!c2d_is_ordered(it.system))
            raw_put(w, start, &it);
}

/* ---- the hub's fixed topics
 * --------------------------------------------------------------------------------- */

static void rid_put(struct wr *w, struct span rid)
{
    wr_str(w, "/?$rid=");
    wr_put(w, rid);
}

static void status_put(struct wr *w, const char *prefix, unsigned status, struct span rid)
{
    assert(status >= 100 && status <= 999);
    wr_str(w, prefix);
    wr_u32(w, status);
    rid_put(w, rid);
}

void topic_twin_res_encode(struct wr *w, unsigned status, struct span rid)
{
    status_put(w, "$iothub/twin/res/", status, rid);
}

void topic_twin_res_version_encode(struct wr *w, unsigned status, struct span rid, uint64_t version)
{
    status_put(w, "$iothub/twin/res/", status, rid);
    wr_str(w, "&$version=");
    u64_encode(w, version);
}

void topic_desired_encode(struct wr *w, uint64_t version)
{
    wr_str(w, "$iothub/twin/PATCH/properties/desired/?$version=");
    u64_encode(w, version);
}

void topic_method_encode(struct wr *w, struct span name, struct span rid)
{
    wr_str(w, "$iothub/methods/POST/");
    wr_put(w, name);
    rid_put(w, rid);
}

void topic_cred_res_encode(struct wr *w, unsigned status, struct span rid)
{
    status_put(w, "$iothub/credentials/res/", status, rid);
}

/* ---- the device's
 * ------------------------------------------------------------------------------------------- */

void topic_telemetry_encode(struct wr *w, const struct topic_identity *who)
{
    identity_put(w, who);
    wr_str(w, "/messages/events/");
}

void topic_c2d_filter_encode(struct wr *w, const struct topic_identity *who)
{
    identity_put(w, who);
    wr_str(w, "/messages/devicebound/#");
}

void topic_twin_get_encode(struct wr *w, struct span rid)
{
    wr_str(w, "$iothub/twin/GET");
    rid_put(w, rid);
}

void topic_twin_patch_encode(struct wr *w, struct span rid)
{
    wr_str(w, "$iothub/twin/PATCH/properties/reported");
    rid_put(w, rid);
}

void topic_method_res_encode(struct wr *w, int32_t status, struct span rid)
{
    wr_str(w, "$iothub/methods/res/");
    if (status < 0)
        wr_u8(w, '-');
    wr_u32(w, status < 0 ? 0u - (uint32_t)status : (uint32_t)status);
    rid_put(w, rid);
}
