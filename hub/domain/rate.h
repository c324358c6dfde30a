/* hub/domain/rate.h - token buckets by source, for requests that anybody may make. Any thread: a short lock
 * around arithmetic. The table is bounded: when it is full the source that was quiet longest makes room. */
#ifndef ROOST_HUB_DOMAIN_RATE_H
#define ROOST_HUB_DOMAIN_RATE_H

#include "base/err.h"
#include "base/span.h"

#define RATE_SOURCES_DEFAULT 16384u
#define RATE_SOURCE_MAX      48u

struct rate;
/* per_minute 0: no limit. */
MUST_USE enum err rate_new(struct rate **out, uint32_t per_minute, uint32_t burst, size_t sources_max,
                           const uint64_t hash_key[2]);
void rate_free(struct rate *r);

struct rate_verdict {
    bool allowed;
    bool first; /* the first refusal since this source was last allowed: worth a line in the audit log */
    uint32_t retry_after_s;
};
struct rate_verdict rate_take(struct rate *r, struct span source, uint64_t now_ms);
/* What rate_take would say, without taking anything. */
struct rate_verdict rate_look(struct rate *r, struct span source, uint64_t now_ms);
size_t rate_sources_nr(struct rate *r);

/* What counts as one source of a peer given as text ("192.0.2.1:5000", "[2001:db8::1]:5000", with or without
 * the port): an IPv4 address, or the /64 of an IPv6 address, since one host has all of that. */
struct span rate_source(struct span peer, char buf[RATE_SOURCE_MAX]);

#endif
