/* hub/domain/message/c2d_lock.h - cloud-to-device messages that are fetched one by one under a lock, as HTTPS
 * devices do: enqueued -> locked -> completed | rejected | abandoned | lock run out. Locks are in memory
 * only: after a restart they are gone and the messages are free, which at-least-once allows. A device with a
 * live session gets its messages there and cannot fetch; a session that begins while something is locked
 * waits until it is not. See docs/azure-http.md, "Messages of devices". */
#ifndef ROOST_HUB_DOMAIN_MESSAGE_C2D_LOCK_H
#define ROOST_HUB_DOMAIN_MESSAGE_C2D_LOCK_H

#include "core/crypto/crypto.h"
#include "hub/domain/message/c2d.h"

#define C2D_LOCKS_MAX   65536u /* in one hub; over it nothing is handed out */
#define C2D_LOCK_TEXT   37u    /* a token is the text of a GUID, with its zero */
#define C2D_FETCH_BATCH 64u    /* rows looked at in one turn of the store */

struct c2d_locks;
/* locks_max 0: C2D_LOCKS_MAX. */
MUST_USE enum err c2d_locks_new(struct c2d_locks **out, const struct crypto_ops *crypto, size_t locks_max);
void c2d_locks_free(struct c2d_locks *l);
/* Is a message of the device locked now? Any thread; costs one load while nothing is locked at all. */
bool c2d_is_locked(struct hub *h, struct span device);
/* Forgets what has run out and tells sessions that waited; called every few seconds. */
void c2d_locks_sweep(struct hub *h);

/* The oldest free message of a device. The asker's memory from start to done.
 * err: ERR_OK, also when there is none (found); ERR_LIMIT: too many locks; else the store's. */
struct c2d_fetch {
    struct store_op store; /* first; op.home and op.done by the asker */
    struct hub *hub;
    struct span device; /* or "device/module"; borrowed until done */
    /* out */
    bool found;
    char token[C2D_LOCK_TEXT];
    uint64_t seq, enqueued_ms, expires_ms;
    uint32_t deliveries;
    uint8_t ack;             /* enum c2d_ack */
    struct span props, body; /* into mem, which c2d_fetch_fini frees */
    struct wr mem;
    /* its own */
    bool some, broadcast;
    op_fn *done;
};
void c2d_fetch_start(struct c2d_fetch *f);
void c2d_fetch_fini(struct c2d_fetch *f);

enum c2d_verdict { C2D_COMPLETE, C2D_REJECT, C2D_ABANDON };
/* What becomes of a locked message; durable when done. err: ERR_OK; ERR_NOTFOUND: the lock has run out, or
 * never was; else the store's. An abandoned message counts one more delivery; at the most it is given up. */
struct c2d_verdict_op {
    struct store_op store; /* first */
    struct hub *hub;
    struct span device, token; /* borrowed until done */
    enum c2d_verdict verdict;
    /* its own */
    bool given_up;
    op_fn *done;
};
void c2d_verdict_start(struct c2d_verdict_op *v);

#endif
