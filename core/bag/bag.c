/* core/bag/bag.c - property bags there and back, and the names of system properties. */
#include "core/bag/bag.h"

#include "base/text.h"

/* `short` names travel in topics, the others are what consumers see. A new one is a row here and an enum
 * value; -1 from the look-ups means an application property. */
const struct bag_system_name bag_system_names[BAG_SYSTEM_NAMES] = {
    [BAG_MESSAGE_ID] = { "$.mid", "message-id", BAG_IN_PROPERTIES, "message-id" },
    [BAG_CORRELATION_ID] = { "$.cid", "correlation-id", BAG_IN_PROPERTIES, "correlation-id" },
    [BAG_USER_ID] = { "$.uid", "user-id", BAG_IN_PROPERTIES, "user-id" },
    [BAG_TO] = { "$.to", "to", BAG_IN_PROPERTIES, "to" },
    [BAG_EXPIRY] = { "$.exp", "absolute-expiry-time", BAG_IN_PROPERTIES, "absolute-expiry-time" },
    [BAG_CONTENT_TYPE] = { "$.ct", "content-type", BAG_IN_PROPERTIES, "content-type" },
    [BAG_CONTENT_ENCODING] = { "$.ce", "content-encoding", BAG_IN_PROPERTIES, "content-encoding" },
    [BAG_CREATION_TIME] = { "$.ctime", "iothub-creation-time-utc", BAG_IN_APPLICATION,
                            "iothub-creation-time-utc" },
    [BAG_ACK] = { "iothub-ack", "iothub-ack", BAG_IN_APPLICATION, "iothub-ack" },
    [BAG_OUTPUT_NAME] = { "$.on", "iothub-outputname", BAG_IN_APPLICATION, "iothub-outputname" },
    [BAG_INTERFACE_ID] = { "$.ifid", "iothub-interface-id", BAG_IN_ANNOTATIONS, "iothub-interface-id" },
    [BAG_SCHEMA] = { "$.schema", "iothub-message-schema", BAG_IN_APPLICATION, "iothub-message-schema" },
    [BAG_SUBJECT] = { "$.sub", "dt-subject", BAG_IN_ANNOTATIONS, "dt-subject" },
    [BAG_DIAGNOSTIC_ID] = { "$.diagid", "diagnostic-id", BAG_IN_ANNOTATIONS, "Diagnostic-Id" },
    [BAG_DIAGNOSTIC_CONTEXT] = { "$.diagctx", "diagnostic-correlation-context", BAG_IN_ANNOTATIONS,
                                 "Correlation-Context" },
    [BAG_CONNECTION_DEVICE_ID] = { "$.cdid", "iothub-connection-device-id", BAG_IN_STAMPS,
                                   "iothub-connection-device-id" },
    [BAG_CONNECTION_MODULE_ID] = { "$.cmid", "iothub-connection-module-id", BAG_IN_STAMPS,
                                   "iothub-connection-module-id" },
    [BAG_OPERATION] = { "iothub-operation", "iothub-operation", BAG_IN_APPLICATION, "iothub-operation" },
};

int bag_system_of_wire(struct span name)
{
    for (int i = 0; i < BAG_SYSTEM_NAMES; i++)
        if (span_eq(name, span_str(bag_system_names[i].wire)))
            return i;
    return -1;
}

int bag_system_of_stored(struct span name)
{
    for (int i = 0; i < BAG_SYSTEM_NAMES; i++)
        if (span_eq(name, span_str(bag_system_names[i].stored)))
            return i;
    return -1;
}

/* Everything before the first `c`, and in *rest what is behind it (*found: there was one). */
static struct span cut_at(struct span s, uint8_t c, struct span *rest, bool *found)
{
    const uint8_t *at = s.n ? memchr(s.p, c, s.n) : NULL;
    size_t n = at ? (size_t)(at - s.p) : s.n;
    *found = at != NULL;
    *rest = span_skip(s, at ? n + 1 : n);
    return span_of(s.p, n);
}

static struct span decoded(struct wr *mem, struct span text)
{
    if (!text.n || !memchr(text.p, '%', text.n))
        return text;
    size_t before = mem->len;
    percent_decode(mem, text);
    return wr_ok(mem) ? span_of(mem->p + before, mem->len - before) : SPAN_NONE;
}

enum err bag_next(struct span *bag, struct wr *mem, struct bag_item *out)
{
    struct span rest = *bag, item, value;
    bool found;
    do {
        if (!rest.n)
            return ERR_AGAIN;
        item = cut_at(rest, '&', &rest, &found);
    } while (!item.n);
    struct span name = cut_at(item, '=', &value, &found);
    size_t before = mem->len;
    struct bag_item got = { decoded(mem, name), decoded(mem, value), found };
    if (!wr_ok(mem)) {
        mem->len = before;
        return ERR_LIMIT;
    }
    *bag = rest;
    *out = got;
    return ERR_OK;
}

enum err bag_find(struct span bag, struct span name, struct wr *mem, struct bag_item *out)
{
    struct bag_item item;
    size_t before = mem->len;
    enum err e;
    while (!(e = bag_next(&bag, mem, &item))) {
        if (span_eq(item.name, name)) {
            *out = item;
            return ERR_OK;
        }
        mem->len = before; /* what did not match needs no room */
    }
    return e == ERR_AGAIN ? ERR_NOTFOUND : e;
}

void bag_put_null(struct wr *w, size_t start, struct span name)
{
    if (w->len > start)
        wr_u8(w, '&');
    percent_encode(w, name);
}

void bag_put(struct wr *w, size_t start, struct span name, struct span value)
{
    bag_put_null(w, start, name);
    wr_u8(w, '=');
    percent_encode(w, value);
}
