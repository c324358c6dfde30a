/* hub/domain/message/receivers.h - receivers of the queues that services share: what became of messages, file
 * notifications. Who finds nothing waits here, and is told after the commit that brings something. */
#ifndef ROOST_HUB_DOMAIN_MESSAGE_RECEIVERS_H
#define ROOST_HUB_DOMAIN_MESSAGE_RECEIVERS_H

#include "hub/domain/hub.h"

enum receivers_queue { RECEIVERS_FEEDBACK, RECEIVERS_FILES, RECEIVERS_QUEUES };

/* In a transaction that puts something into the queue, or puts it back: all who wait are told after the
 * commit. ERR_NOMEM. */
MUST_USE enum err receivers_tell(struct hub *h, struct store_tx *tx, enum receivers_queue q);
/* One who waits: bus_wait_start, bus_wait_end. To miss nothing: wait, then look, and when there is nothing
 * keep waiting. What a lock held that ran out is told to nobody: look again now and then. */
void receivers_wait(struct hub *h, enum receivers_queue q, struct bus_wait *w);

#endif
