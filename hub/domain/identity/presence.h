/* hub/domain/identity/presence.h - who is connected and when it was last heard, written to the store in
 * batches: one operation a worker and interval, not one a connect. One struct presence belongs to one thread.
 */
#ifndef ROOST_HUB_DOMAIN_IDENTITY_PRESENCE_H
#define ROOST_HUB_DOMAIN_IDENTITY_PRESENCE_H

#include "base/err.h"
#include "base/span.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hub;

#define PRESENCE_BATCH_BYTES 65536u /* of one operation */
#define PRESENCE_RECENT      4096u  /* places, 8 bytes each */
#define PRESENCE_WAITING_MAX 64u    /* batches the store has not answered */
#define PRESENCE_LEFT_MAX    256u   /* of an earlier start, told in one operation */

/* What gathers has one entry an identity, and one that the store did not take is tried again: a store that is
 * slow, a full disk, or events that have no room, make what is said of connections late, not wrong. Entries
 * are lost, and counted, only where there is no memory for them. */
struct presence {
    struct hub *hub;
    uint8_t *text; /* owned: entries that gather; those before `taken` are on their way */
    size_t len, cap, taken;
    uint32_t *places; /* owned: hash table of where entries begin, plus one; a power of two of them */
    size_t places_cap, places_nr;
    bool armed;                             /* the caller's timer is running */
    _Atomic unsigned waiting;               /* batches handed over and not written */
    struct presence_batch *_Atomic refused; /* owned: those that came back */
    uint64_t *recent; /* owned: who was noted in which minute, by hash; NULL: nobody yet */
};
void presence_init(struct presence *p, struct hub *h);
/* Every batch must have come back (the store is closed) before p goes away; what still gathers is dropped:
 * the next start of the hub clears the connection state anyway. */
void presence_fini(struct presence *p);

/* A device or module attached to, or left, the bus. What gets written is whether it is attached when the
 * batch runs, so that a change of worker within one interval cannot leave the wrong answer. True: the caller
 * arms its timer, and calls presence_flush then. */
bool presence_note(struct presence *p, struct span identity, uint64_t wall_ms);
/* The same for an identity that did something and may do so often: at most once a minute each, for as many as
 * PRESENCE_RECENT at a time; beyond that, two that share a place are written more often. */
bool presence_note_activity(struct presence *p, struct span identity, uint64_t wall_ms);
/* True: something waits still, the caller arms its timer again. */
bool presence_flush(struct presence *p);

/* After the start: events for those who were connected when the hub ended, where a route wants them. Who
 * comes back meanwhile has its two events in order. To be called now and then until it is LEFT_TOLD: events
 * may have no room at first. `state` lives until the store is closed. */
enum presence_left { LEFT_UNTOLD, LEFT_BUSY, LEFT_TOLD };
void presence_tell_left(struct hub *h, _Atomic int *state);

#endif
