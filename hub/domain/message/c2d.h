/* hub/domain/message/c2d.h - cloud-to-device messages: a durable queue for each device and module, and
 * broadcasts that are one row for the whole fleet. Senders enqueue; a session lists, marks what it delivered,
 * and settles what its device acknowledged. All state is in the store, so that a crash or a takeover needs no
 * special case: what is not settled is listed again. Delivery is at least once. See docs/mqtt.md, "Cloud to
 * device". */
#ifndef ROOST_HUB_DOMAIN_MESSAGE_C2D_H
#define ROOST_HUB_DOMAIN_MESSAGE_C2D_H

#include "hub/store/store.h"

#define C2D_SIZE_MAX  65536u /* bytes: body, property names and values */
#define C2D_DEPTH_MAX 50u    /* the default of hub_settings.c2d_depth_max */
#define C2D_BATCH_MAX 8u     /* messages a session may have in flight */

struct hub;

struct c2d_prop {
    struct span name, value;
};
/* What a sender gives; empty spans are absent. */
struct c2d_message {
    struct span device; /* or "device/module"; empty: broadcast */
    struct span message_id, correlation_id, user_id, to, content_type, content_encoding;
    uint64_t expires_ms; /* wall; 0: the default time to live */
    uint8_t ack;         /* enum c2d_ack */
    const struct c2d_prop *props;
    size_t props_nr;
    struct span body;
};

/* Enqueues one message. The op comes home when it is durable; the device is then told at once if it is
 * connected. err: ERR_OK; ERR_LIMIT: larger than C2D_SIZE_MAX, or its properties do not fit a topic;
 * ERR_FULL: see queue_full; ERR_NOTFOUND: no such device; ERR_PROTO: a property name is empty or a reserved
 * one, expiry further away than the longest time to live; else the store's. */
struct c2d_send {
    struct store_op store; /* first; op.home and op.done by the asker */
    struct hub *hub;
    const struct c2d_message *message; /* with all it points to, borrowed until done */
    /* out */
    uint64_t seq; /* in the device's queue, or the broadcast's number */
    uint64_t expires_ms;
    bool queue_full; /* with ERR_FULL: the device's queue (or the broadcasts), not the disk */
    /* its own */
    uint64_t enqueued_ms;
    struct wr props;
    op_fn *done;
};
void c2d_send_start(struct c2d_send *s); /* any thread; with a home, done() never runs inside this call */

/* What a session may deliver next. Reads only. */
struct c2d_item {
    uint64_t seq;
    bool broadcast;
    uint8_t ack;         /* enum c2d_ack */
    uint32_t deliveries; /* before this one: over 0 means it is a repetition */
    uint64_t enqueued_ms;
    struct span props; /* encoded bag, for topic_c2d_encode */
    struct span body;
};
struct c2d_list {
    struct store_op store; /* first */
    struct hub *hub;
    struct span device;              /* or "device/module"; borrowed until done */
    uint64_t after_seq, after_bcast; /* in; out: where the next list goes on */
    size_t items_max;                /* in: 1..C2D_BATCH_MAX */
    bool ordered; /* in: after everything that was handed to the store before, delivery counts and settled
                     messages of an earlier connection included; takes its turn with the writers */
    /* out: spans point into `mem`, which c2d_list_fini frees */
    struct c2d_item items[C2D_BATCH_MAX];
    size_t items_nr;
    bool more; /* there was no room for all of them: list again */
    struct wr mem;
};
/* err: ERR_OK, also when there is nothing; else the store's. Expired messages and those delivered too often
 * are left out and settled with their feedback. */
void c2d_list_start(struct c2d_list *l);
void c2d_list_fini(struct c2d_list *l);

struct c2d_ref {
    uint64_t seq;
    bool broadcast;
    uint8_t ack; /* enum c2d_ack */
};
/* Says that a batch left for the device: raises the delivery counts. Nobody waits for it: the memory is the
 * domain's. */
void c2d_delivered(struct hub *h, struct span device, const struct c2d_ref *refs, size_t refs_nr);
/* Takes messages off the queue with their feedback. Nobody waits for it. */
void c2d_complete(struct hub *h, struct span device, const struct c2d_ref *refs, size_t refs_nr);
/* The same for messages that the device refused for good. */
void c2d_reject(struct hub *h, struct span device, const struct c2d_ref *refs, size_t refs_nr);

/* Inside a transaction: drops all that waits for the device, with feedback. */
MUST_USE enum err c2d_purge(struct hub *h, struct store_tx *tx, struct span device);

/* Takes expired messages out of all queues, with their feedback; called every few seconds. At most one at a
 * time runs. */
void c2d_sweep(struct hub *h);

#endif
