/* hub/domain/message/feedback.h - what became of messages, for receivers that take it as a queue: a batch
 * under a lock, completed or put back. Locks are in the store: a crash or another node loses no record, and a
 * record that is completed does not come again, nor does one that waited or was taken too long and too often
 * (the settings feedback_*). Inside a transaction that writes. See docs/azure-http.md, "Feedback". */
#ifndef ROOST_HUB_DOMAIN_MESSAGE_FEEDBACK_H
#define ROOST_HUB_DOMAIN_MESSAGE_FEEDBACK_H

#include "base/arena.h"
#include "hub/domain/hub.h"

#define FEEDBACK_BATCH_MAX 64u
#define FEEDBACK_TOKEN_LEN 36u

struct feedback_batch {
    char token[FEEDBACK_TOKEN_LEN + 1]; /* of the lock; a UUID */
    struct feedback_row rows[FEEDBACK_BATCH_MAX];
    size_t nr;
};
/* A message has come to its end: one record more, of which receivers that wait are told. */
MUST_USE enum err feedback_push(struct hub *h, struct store_tx *tx, const struct feedback_row *r);
/* The oldest records that nobody holds; rows in the arena. ERR_NOTFOUND: there are none. */
MUST_USE enum err feedback_take(struct hub *h, struct store_tx *tx, struct arena *a,
                                struct feedback_batch *out);
/* ERR_NOTFOUND: no such lock, or it has run out: the records go to another receiver. */
MUST_USE enum err feedback_complete(struct hub *h, struct store_tx *tx, struct span token);
MUST_USE enum err feedback_abandon(struct hub *h, struct store_tx *tx, struct span token);

#endif
