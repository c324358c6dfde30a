/* hub/domain/message/telemetry.h - device-to-cloud messages: checked, stamped, put on the stream, and
 * reported back when they are durable. Knows no protocol: a front hands over the property bag of its topic
 * and the body. */
#ifndef ROOST_HUB_DOMAIN_MESSAGE_TELEMETRY_H
#define ROOST_HUB_DOMAIN_MESSAGE_TELEMETRY_H

#include "hub/domain/message/message.h"
#include "hub/stream/stream.h"

#include <stdatomic.h>

struct hub;

struct telemetry_in {
    struct span device, module, generation;
    uint8_t auth;    /* enum message_auth */
    struct span bag; /* encoded properties: name=value&..., system and application */
    struct span body;
    struct span model_id; /* of the connection, or empty */
    bool retain, dup;     /* add mqtt-retain, mqtt-dup */
    bool will;            /* add iothub-MessageType=Will */
};
/* Bytes that hold the record of `in` for certain. */
size_t telemetry_room(const struct telemetry_in *in);

/* One message on its way; the asker's memory until done. */
struct telemetry_put {
    struct stream_append append; /* first; append.op.home and .done by the asker.
                                    err: ERR_OK: durable; ERR_FULL: not taken; else the stream's */
    struct hub *hub;
    uint32_t body_len; /* of all that go together */
    uint32_t messages;
    bool routed; /* through the log */
    op_fn *done;
};
/* Encodes `in` into mem (room bytes, kept until done) and hands it to the stream; nothing of `in` is needed
 * afterwards. ERR_LIMIT: body and properties are over the limit: nothing was started. done() never runs
 * inside this call. Any thread. */
MUST_USE enum err telemetry_start(struct hub *h, struct telemetry_put *p, const struct telemetry_in *in,
                                  uint8_t *mem, size_t room);

/* Several of one device: all are durable when `first` is done, or none is taken. Each has been prepared with
 * telemetry_prepare, and those behind the first one joined, in their order; first->append.op is the only one
 * that comes home. */
static inline void telemetry_join(struct telemetry_put *before, struct telemetry_put *after)
{
    before->append.rest = &after->append;
}
void telemetry_start_all(struct telemetry_put *first);
/* The first half of telemetry_start: encodes, hands over nothing. ERR_LIMIT. */
MUST_USE enum err telemetry_prepare(struct hub *h, struct telemetry_put *p, const struct telemetry_in *in,
                                    uint8_t *mem, size_t room);

/* The partition of a device, the same for ever in one stream. */
uint32_t telemetry_partition(const struct hub *h, struct span device);

/* Which way telemetry takes: into the built-in stream at once, or, as soon as there is something to decide,
 * into the log of the router (hub/front/routing), which has one partition. One word, read once a message:
 * bit 63 says direct, 32 to 62 count the messages that took the other way, 0 to 31 those that are under way.
 */
struct telemetry_way {
    struct stream *log;
    _Atomic uint64_t state;
};
void telemetry_way_route(struct telemetry_way *w); /* from now on through the log */
/* False: a message is on its way into the log. *seen is for telemetry_way_direct, which does nothing when a
 * message took the way through the log since. For the router, with an empty log: so none overtakes another.
 */
bool telemetry_way_quiet(const struct telemetry_way *w, uint64_t *seen);
void telemetry_way_direct(struct telemetry_way *w, uint64_t seen);

#endif
