/* hub/front/azure_http/device_batch.h - telemetry as devices post it: headers or JSON members become a
 * property bag. Pure but for the arena. Source: docs/azure-http.md, "Messages of devices". */
#ifndef ROOST_HUB_FRONT_AZURE_HTTP_DEVICE_BATCH_H
#define ROOST_HUB_FRONT_AZURE_HTTP_DEVICE_BATCH_H

#include "base/arena.h"
#include "base/span.h"

#include <jansson.h>
#include <stdbool.h>

#define DEVICE_BATCH_MAX 500u /* messages */

/* One header (names compare without case) or JSON property: appended to the bag that starts at w->p[0], when
 * it means anything. False: an application property without a name. */
bool device_bag_put(struct wr *w, struct span name, struct span value);

struct device_event {
    struct span bag, body; /* into the arena or the JSON document */
};
/* [{"body":"...","base64Encoded":true,"properties":{...}}, ...] as events, in order. NULL: *why says what is
 * wrong; *too_many: more than DEVICE_BATCH_MAX. bytes: of all bodies. */
struct device_event *device_batch_read(const json_t *in, struct arena *a, size_t *nr, size_t *bytes,
                                       const char **why, bool *too_many);

#endif
