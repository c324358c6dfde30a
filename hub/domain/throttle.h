/* hub/domain/throttle.h - how often operations of a kind may come: from the whole hub, and from one shared
 * access policy. Off unless configured; then hub->throttle is NULL and nobody asks.
 *
 * A rate is one number, the time at which its bucket is full again; taking moves it on. Any thread, no lock.
 * What comes over the rate is first served from the burst, then (where the asker has patience) late, then
 * refused. Rates that refuse take nothing.
 * Source: docs/limits.md, "Rates". */
#ifndef ROOST_HUB_DOMAIN_THROTTLE_H
#define ROOST_HUB_DOMAIN_THROTTLE_H

#include "base/err.h"
#include "base/span.h"

/* X(NAME, name): the name is what the configuration, the metrics and answers say. To add one: a line here,
 * and one in the section `rates` of hub/config/config.h, which says what it is. */
#define THROTTLE_CLASSES(X)                                                                                  \
    X(REGISTRY, registry)                                                                                    \
    X(CONNECTIONS, connections)                                                                              \
    X(D2C_SENDS, d2c_sends)                                                                                  \
    X(C2D_SENDS, c2d_sends)                                                                                  \
    X(C2D_RECEIVES, c2d_receives)                                                                            \
    X(UPLOADS, uploads)                                                                                      \
    X(METHODS, methods)                                                                                      \
    X(QUERIES, queries)                                                                                      \
    X(TWIN_READS, twin_reads)                                                                                \
    X(TWIN_UPDATES, twin_updates)                                                                            \
    X(JOBS, jobs)                                                                                            \
    X(JOB_DEVICES, job_devices)                                                                              \
    X(CONFIGURATIONS, configurations)

enum throttle_class {
    THROTTLE_NONE = 0, /* never limited */
#define X(NAME, name) THROTTLE_##NAME,
    THROTTLE_CLASSES(X)
#undef X
        THROTTLE_CLASSES_NR
};
const char *throttle_name(enum throttle_class what); /* "registry" */

#define THROTTLE_POLICIES_MAX 16u
#define THROTTLE_RATE_MAX     100000000u /* a minute */

struct throttle_config {
    uint32_t per_minute[THROTTLE_CLASSES_NR]; /* of the hub; 0: no limit */
    uint32_t burst_s;                         /* what so many seconds allow may come at once; at least one */
    uint32_t wait_ms;                         /* patience of what can be made to wait */
    /* "service.methods=600, reader.queries=60": rates of policies, a minute. */
    struct span policies;
};

struct throttle;
/* *out NULL: no rate is set.
 *   ERR_PROTO  c->policies is not that grammar; *bad is the item (of c->policies)
 *   ERR_LIMIT  more than THROTTLE_POLICIES_MAX policies */
MUST_USE enum err throttle_new(struct throttle **out, const struct throttle_config *c, struct span *bad);
void throttle_free(struct throttle *t); /* or NULL */

struct throttle_verdict {
    bool allowed;
    /* Allowed: serve it after this (0: at once); never above the patience given. Refused: when to come again.
     */
    uint64_t wait_ms;
};
/* policy: whose signature the asker came with; empty, or one without rates of its own: the hub's alone.
 * cost: operations it counts as, at least 1. now_ms: monotonic, of any worker. t NULL: always allowed. */
struct throttle_verdict throttle_take(struct throttle *t, enum throttle_class what, struct span policy,
                                      uint32_t cost, uint64_t now_ms, uint32_t patience_ms);
/* The configured patience. */
uint32_t throttle_patience_ms(const struct throttle *t);

struct throttle_stats {
    uint64_t refused, delayed;
};
struct throttle_stats throttle_get_stats(const struct throttle *t, enum throttle_class what);

#endif
