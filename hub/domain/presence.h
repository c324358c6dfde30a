/* hub/domain/presence.h - who is connected and when it was last heard, written to the store in batches: one
 * operation a worker and interval, not one a connect. One struct presence belongs to one thread. */
#ifndef ROOST_HUB_DOMAIN_PRESENCE_H
#define ROOST_HUB_DOMAIN_PRESENCE_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

struct hub;

#define PRESENCE_BATCH_BYTES 65536u /* flushed earlier when this much has gathered */
#define PRESENCE_RECENT      4096u  /* places, 8 bytes each */
#define PRESENCE_WAITING_MAX 64u    /* batches the store has not answered; more are dropped and counted */

struct presence {
    struct hub *hub;
    struct presence_batch *open; /* owned: gathers; NULL while empty */
    _Atomic unsigned waiting;    /* batches handed over */
    uint64_t *recent;            /* owned: who was noted in which minute, by hash; NULL: nobody yet */
};
void presence_init(struct presence *p, struct hub *h);
/* Every batch must have come back (the store is closed) before p goes away; what still gathers is dropped:
 * the next start of the hub clears the connection state anyway. */
void presence_fini(struct presence *p);

/* A device or module attached to, or left, the bus. What gets written is whether it is attached when the
 * batch runs, so that a change of worker within one interval cannot leave the wrong answer. True: the first
 * entry of a batch, the caller arms its timer and calls presence_flush then. */
bool presence_note(struct presence *p, struct span identity, uint64_t wall_ms);
/* The same for an identity that did something and may do so often: at most once a minute each, for as many as
 * PRESENCE_RECENT at a time; beyond that, two that share a place are written more often. */
bool presence_note_activity(struct presence *p, struct span identity, uint64_t wall_ms);
void presence_flush(struct presence *p);

#endif
