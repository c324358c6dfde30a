/* hub/front/routing/routing.h - the way of messages to their endpoints, on threads of its own:
 *
 *     telemetry ──▶ log ──▶ router ──▶ the built-in stream
 *     events ── outbox ─▶     │   ├──▶ a named stream             read by /roost/v1/telemetry?stream=NAME
 *                             │   └──▶ a queue per endpoint ──▶ deliverer ──▶ webhook, MQTT broker, file
 *
 * Everything that is accepted is durable in the log first (or, while there is nothing to decide, in the
 * built-in stream at once). The router decides about each message in order and puts it into the streams of
 * its endpoints; only when they are durable its place in the log moves on. Each deliverer reads its own
 * stream at its own pace, so that one that is slow or dead delays nobody. After a crash some messages come
 * twice, none is missing. docs/routing.md is the guide. */
#ifndef ROOST_HUB_FRONT_ROUTING_ROUTING_H
#define ROOST_HUB_FRONT_ROUTING_ROUTING_H

#include "hub/domain/hub.h"

struct routing;
struct out; /* an endpoint's stream, and who delivers from it */

struct routing_config {
    const char *dir;   /* of the log and the streams */
    const char *files; /* where file endpoints write, one directory each */
    uint64_t segment_bytes;
    uint64_t log_bytes; /* of what is not decided yet: more is refused; 0: no limit */
    uint64_t (*wall_ms)(void);
};
/* Opens the log and the streams, and takes over h->way and h->events. `h` has its store and its stream, and
 * lives longer. */
MUST_USE enum err routing_new(struct routing **out, struct hub *h, const struct routing_config *cfg);
MUST_USE enum err routing_start(struct routing *r);
/* Ends the threads; what is not delivered stays. Before the store and the stream close, after the workers.
 */
void routing_stop(struct routing *r); /* accepts NULL */
void routing_free(struct routing *r); /* closes the streams; accepts NULL */

/* The definitions in the store have changed: waits until they are in force. Blocks, for a pool thread.
 * ERR_STOPPED. */
MUST_USE enum err routing_reload(struct routing *r);

/* The stream of an endpoint of kind "stream", or "dead-letter", for a reader; until routing_stream_put.
 * ERR_NOTFOUND. Any thread. */
MUST_USE enum err routing_stream_get(struct routing *r, struct span name, struct out **out);
struct stream *routing_stream_of(struct out *o);
void routing_stream_put(struct out *o);

/* Hubs before wrote the files of endpoints below `dir`, the store of uploads. Says of each that is still
 * there that nobody writes it any more: who reads it would wait, and nothing here removes it. */
void routing_note_left(const char *dir);

struct routing_stats { /* of one endpoint */
    char name[65];
    bool delivers;      /* false: a stream that is read */
    uint64_t delivered; /* messages, since the hub started */
    uint64_t failed;    /* attempts */
    uint64_t dead;      /* messages given up */
    uint64_t lost;      /* messages that were removed before they could be delivered */
    uint64_t behind;    /* messages that wait */
    char why[200];      /* of the last failed attempt, while it fails */
};
/* The i-th endpoint; false: there is none. Any thread. */
bool routing_stats(struct routing *r, size_t i, struct routing_stats *out);
uint64_t routing_behind(struct routing *r); /* messages in the log that are not decided yet */

#endif
