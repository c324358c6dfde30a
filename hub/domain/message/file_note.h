/* hub/domain/message/file_note.h - file notifications as a queue, for the fronts that hand them out: at most
 * limit, under a lock that the caller names (text). How long one waits and is locked and how often it is
 * delivered are settings of their own (note_*). Inside a transaction that writes. */
#ifndef ROOST_HUB_DOMAIN_MESSAGE_FILE_NOTE_H
#define ROOST_HUB_DOMAIN_MESSAGE_FILE_NOTE_H

#include "hub/domain/hub.h"

/* The oldest that nobody holds. ERR_NOTFOUND: none is free. */
MUST_USE enum err file_note_take(struct hub *h, struct store_tx *tx, struct span lock, size_t limit,
                                 file_note_each *each, void *ctx);
/* done false: they are put back. ERR_NOTFOUND: no such lock, or it has run out. */
MUST_USE enum err file_note_settle(struct hub *h, struct store_tx *tx, struct span lock, bool done);

#endif
