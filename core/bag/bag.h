/* core/bag/bag.h - property bags: "name=value&name&..." percent-encoded, as MQTT topics carry them.
 *     name alone: null      name=: empty string      '+' is a plus      a malformed %xx stays as it is
 * The hub also stores message properties in this form. Pure; C99. */
#ifndef ROOST_CORE_BAG_BAG_H
#define ROOST_CORE_BAG_BAG_H

#include "base/err.h"
#include "base/span.h"

struct bag_item {
    struct span name, value; /* decoded; into the bag itself where nothing was encoded, else into mem */
    bool has_value;          /* false: null */
};

/* Next item off *bag; empty items are skipped. Decoded bytes are appended to mem (never more than the bag
 * has). ERR_AGAIN  no more items      ERR_LIMIT  no room in mem: nothing was taken */
MUST_USE enum err bag_next(struct span *bag, struct wr *mem, struct bag_item *out);

/* Appends an item to the bag that starts at w->p[start]: '&' goes before all but the first. */
void bag_put(struct wr *w, size_t start, struct span name, struct span value);
void bag_put_null(struct wr *w, size_t start, struct span name);

/* First item of that (decoded) name. ERR_NOTFOUND; ERR_LIMIT: no room in mem. */
MUST_USE enum err bag_find(struct span bag, struct span name, struct wr *mem, struct bag_item *out);

/* System properties: the name in a bag, the name in the stream and in the API. The values are on disk
 * (hub/domain/message/message.h): add at the end. */
enum bag_system {
    BAG_MESSAGE_ID,
    BAG_CORRELATION_ID,
    BAG_USER_ID,
    BAG_TO,
    BAG_EXPIRY,
    BAG_CONTENT_TYPE,
    BAG_CONTENT_ENCODING,
    BAG_CREATION_TIME,
    BAG_ACK,
    BAG_OUTPUT_NAME,
    BAG_INTERFACE_ID,
    BAG_SCHEMA,
    BAG_SUBJECT,
    BAG_DIAGNOSTIC_ID,
    BAG_DIAGNOSTIC_CONTEXT,
    BAG_CONNECTION_DEVICE_ID,
    BAG_CONNECTION_MODULE_ID,
    BAG_OPERATION,
    BAG_SYSTEM_NAMES
};
enum bag_place {                        /* of an AMQP message */
                 BAG_IN_PROPERTIES = 0, /* a field of its properties section */
                 BAG_IN_APPLICATION,    /* an application property */
                 BAG_IN_ANNOTATIONS,    /* a message annotation */
                 BAG_IN_STAMPS          /* an annotation that only the hub writes */
};
struct bag_system_name { /* the one table of names that the protocols share */
    const char *wire;    /* MQTT, decoded: "$.mid", "iothub-ack" */
    const char *stored;  /* "message-id", "iothub-ack" */
    enum bag_place place;
    const char *amqp; /* the name in that place */
};
extern const struct bag_system_name bag_system_names[BAG_SYSTEM_NAMES];
int bag_system_of_wire(struct span name);   /* enum bag_system, or -1: an application property */
int bag_system_of_stored(struct span name); /* the same, by the stored name */

#endif
