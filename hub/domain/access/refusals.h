/* hub/domain/access/refusals.h - logins that failed: counted, limited, audited. A source (address) that fails
 * too often as one identity, or as anybody, is told to wait before anything of the store is asked for it; a
 * good login costs nothing. Two limits, since behind one address there may be many devices: failures of a
 * source under one name, and failures of a source in all. The audit log gets a line for a failure as long as
 * there are few. Any thread: short locks around arithmetic. */
#ifndef ROOST_HUB_DOMAIN_ACCESS_REFUSALS_H
#define ROOST_HUB_DOMAIN_ACCESS_REFUSALS_H

#include "base/err.h"
#include "base/span.h"

struct hub;
struct refusals;

/* hub is borrowed; its settings failures_per_minute and failures_per_source (0: no limit) are read here. */
MUST_USE enum err refusals_new(struct refusals **out, struct hub *hub);
void refusals_free(struct refusals *r);

/* May it try? 0: yes; else seconds to wait. source: hub/domain/rate.h, rate_source. name: whom it says it is,
 * any bytes (a device, a policy), or empty. now_ms: monotonic. */
uint32_t refusals_wait_s(struct refusals *r, struct span source, struct span name, uint64_t now_ms);
/* Has anybody failed of late? When not, refusals_wait_s is 0 for all and need not be asked. */
bool refusals_are_recent(const struct refusals *r, uint64_t now_ms);
/* It tried and failed, for the reason `why` (access_why_name). front: "http", "mqtt". */
void refusals_note(struct refusals *r, const char *front, struct span source, struct span name,
                   const char *why, uint64_t now_ms);

#endif
