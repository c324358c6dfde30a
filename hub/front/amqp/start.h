/* hub/front/amqp/start.h - where a reader of telemetry wants to begin: the selector in the filter of its
 * link. Pure. Source: docs/amqp.md, "Telemetry". */
#ifndef ROOST_HUB_FRONT_AMQP_START_H
#define ROOST_HUB_FRONT_AMQP_START_H

#include "base/err.h"
#include "base/span.h"

/* Is `name` $Default or one of the names in `groups` (commas and blanks between; NULL: none)? No case. */
bool group_is_known(const char *groups, struct span name);

enum start_at {
    START_FIRST,
    START_LATEST,
    START_SEQ /* the first wanted */,
    START_TIME /* the first wanted, ms */
};
struct start {
    uint8_t at; /* enum start_at */
    uint64_t value;
};
/* The expression of a filter: "amqp.annotation.x-opt-offset > '41'".  ERR_PROTO: one that is not known here.
 */
MUST_USE enum err start_parse(struct span expression, struct start *out);
/* The filter of a source (an encoded map, or empty: from the first one). ERR_PROTO. */
MUST_USE enum err start_of_filter(struct span filter, struct start *out);

#endif
