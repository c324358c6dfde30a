/* hub/store/rows_c2d.h - rows of what waits for devices, and of what became of it. Included by store.h, which
 * says what holds for all tables. */
#ifndef ROOST_HUB_STORE_ROWS_C2D_H
#define ROOST_HUB_STORE_ROWS_C2D_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

struct store_tx;

enum c2d_ack { C2D_ACK_NONE = 0, C2D_ACK_POSITIVE = 1, C2D_ACK_NEGATIVE = 2, C2D_ACK_FULL = 3 };
struct c2d_row {
    struct span device;               /* or "device/module": a queue of its own, no broadcasts */
    uint64_t seq;                     /* order in the queue; given by the store */
    bool broadcast;                   /* comes from the broadcast table: seq is the broadcast's */
    uint64_t enqueued_ms, expires_ms; /* wall */
    uint32_t deliveries;
    uint8_t ack; /* enum c2d_ack */
    struct span message_id;
    struct span props; /* encoded property bag, system and application (core/bag) */
    struct span body;
};
struct feedback_row {
    uint64_t seq, at_ms;
    struct span device, message_id,
        outcome;            /* "Success", "Expired", "DeliveryCountExceeded", "Rejected", "Purged" */
    uint64_t broadcast_seq; /* 0: none */
    struct span generation; /* of the device or module when it happened; given by the store */
};

/* What became of a broadcast: every device it was for is counted once. */
enum broadcast_end {
    BROADCAST_DELIVERED,
    BROADCAST_EXPIRED,
    BROADCAST_DEAD, /* delivered too often without an answer */
    BROADCAST_PURGED,
    BROADCAST_REJECTED,
    BROADCAST_ENDS
};
struct broadcast_row {
    uint64_t seq, sent_ms, expires_ms; /* wall */
    struct span message_id;
    uint64_t devices; /* there when it was sent */
    uint64_t pending; /* of them: not heard of yet */
    uint64_t ended[BROADCAST_ENDS];
};

typedef enum err c2d_each(void *ctx, const struct c2d_row *r);
typedef enum err broadcast_each(void *ctx, const struct broadcast_row *r);
typedef enum err feedback_each(void *ctx, const struct feedback_row *r);

/* Appends to the device's queue and sets *seq. ERR_LIMIT: depth (50) reached; ERR_NOTFOUND: no such device.
 */
MUST_USE enum err tx_c2d_push(struct store_tx *t, const struct c2d_row *r, size_t depth_max, uint64_t *seq);
/* The device's waiting messages with seq > after_seq (own queue) and broadcasts > after_bcast that it has not
 * settled, in the order they were sent, at most limit. */
MUST_USE enum err tx_c2d_list(struct store_tx *t, struct span device, uint64_t after_seq,
                              uint64_t after_bcast, size_t limit, c2d_each *each, void *ctx);
/* How many wait for it, broadcasts included. ERR_NOTFOUND: no such device. */
MUST_USE enum err tx_c2d_count(struct store_tx *t, struct span device, uint64_t *nr);
/* Adds one to the delivery count and returns it. */
MUST_USE enum err tx_c2d_delivered(struct store_tx *t, struct span device, bool broadcast, uint64_t seq,
                                   uint32_t *deliveries);
/* Takes it off the queue; for a broadcast, off this device's view of it. ERR_NOTFOUND: settled before. */
MUST_USE enum err tx_c2d_settle(struct store_tx *t, struct span device, bool broadcast, uint64_t seq);
/* One row for the whole fleet. Devices created later do not get it. ERR_LIMIT: 1000 wait already. */
MUST_USE enum err tx_broadcast_push(struct store_tx *t, const struct c2d_row *r, uint64_t *seq);
/* A device that was settled off the broadcast ended so. When it was the last one, the message itself goes;
 * the counts stay, those of the newest 10 000 broadcasts. */
MUST_USE enum err tx_broadcast_count(struct store_tx *t, uint64_t seq, enum broadcast_end end);
/* The device is about to be deleted: what it has not settled counts as purged. */
MUST_USE enum err tx_broadcast_leave(struct store_tx *t, struct span device);
MUST_USE enum err tx_broadcast_get(struct store_tx *t, uint64_t seq, struct broadcast_row *out);
/* The newest one with this message id. */
MUST_USE enum err tx_broadcast_find(struct store_tx *t, struct span message_id, struct broadcast_row *out);
/* Newest first, below before_seq. */
MUST_USE enum err tx_broadcast_list(struct store_tx *t, uint64_t before_seq, size_t limit,
                                    broadcast_each *each, void *ctx);
/* Messages past their expiry at now_ms (expires_ms 0: never), first those of devices, then broadcasts, each
 * kind oldest first: settled here, each reported to `each` for feedback; a broadcast once, with no device,
 * and counted for all that had not settled it. */
MUST_USE enum err tx_c2d_expire(struct store_tx *t, uint64_t now_ms, size_t limit, c2d_each *each, void *ctx);

MUST_USE enum err tx_feedback_push(struct store_tx *t, const struct feedback_row *r);
MUST_USE enum err tx_feedback_list(struct store_tx *t, uint64_t after_seq, size_t limit, feedback_each *each,
                                   void *ctx);
/* The number of the newest row there ever was; 0: none yet. */
MUST_USE enum err tx_feedback_last(struct store_tx *t, uint64_t *seq);
/* The same rows as a queue: takes the oldest free ones, at most limit, under the lock `lock` (text) until
 * until_ms. Free ones from before expired_ms, and those that were taken deliveries_max times, leave the queue
 * instead. ERR_NOTFOUND: none is left that is free. */
MUST_USE enum err tx_feedback_take(struct store_tx *t, struct span lock, uint64_t now_ms, uint64_t until_ms,
                                   uint64_t expired_ms, uint32_t deliveries_max, size_t limit,
                                   feedback_each *each, void *ctx);
/* What is under the lock is done, or (done false) free again. ERR_NOTFOUND: no such lock, or it has run out.
 */
MUST_USE enum err tx_feedback_settle(struct store_tx *t, struct span lock, uint64_t now_ms, bool done);

#endif
