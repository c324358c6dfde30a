/* hub/front/amqp/address.h - what the address of a link means. Pure. */
#ifndef ROOST_HUB_FRONT_AMQP_ADDRESS_H
#define ROOST_HUB_FRONT_AMQP_ADDRESS_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

#define ADDRESS_MAX 1024u

enum address_kind {
    ADDRESS_CBS,
    ADDRESS_MANAGEMENT, /* $management, {entity}/$management */
    ADDRESS_TELEMETRY,  /* /devices/{d}[/modules/{m}]/messages/events */
    ADDRESS_C2D,        /* /devices/{d}[/modules/{m}]/messages/devicebound */
    ADDRESS_TWIN,       /* /devices/{d}[/modules/{m}]/twin */
    ADDRESS_METHODS,    /* /devices/{d}[/modules/{m}]/methods/devicebound */
    ADDRESS_SEND,       /* /messages/devicebound */
    ADDRESS_FEEDBACK,   /* /messages/servicebound/feedback */
    ADDRESS_FILE_NOTIFICATIONS /* /messages/servicebound/filenotifications */,
    ADDRESS_EVENTS,  /* /messages/events[/rest]: lives elsewhere */
    ADDRESS_CONSUMER /* {entity}/ConsumerGroups/{group}/Partitions/{partition} */
};
struct address {
    uint8_t kind;                         /* enum address_kind */
    struct span device, module;           /* decoded */
    struct span entity, group, partition; /* consumer and management; entity may be empty */
    struct span rest;                     /* of ADDRESS_EVENTS, as it came */
};
/* Reads the address; spans point into it or into mem (ADDRESS_MAX bytes). A scheme with a host, and the
 * leading slash, may be there or not; fixed words compare without case, ids as they are. ERR_NOTFOUND  no
 * address of this hub      ERR_LIMIT  longer than ADDRESS_MAX */
MUST_USE enum err address_parse(struct span text, uint8_t mem[ADDRESS_MAX], struct address *out);

/* Does a policy's token reach the address of a service or a reader, when `path` is its resource behind the
 * host? The path of the address begins with it, segment by segment and without case. Telemetry has two paths:
 * /messages/events, and one that begins with the entity. ours: the first segment is the
 * entity. */
struct span address_first(struct span path);
bool address_is_reached(const struct address *a, struct span path, bool ours);

#endif
