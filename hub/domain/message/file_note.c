/* hub/domain/message/file_note.c - see file_note.h. */
#include "hub/domain/message/file_note.h"

#include "hub/domain/message/receivers.h"

enum err file_note_take(struct hub *h, struct store_tx *tx, struct span lock, size_t limit,
                        file_note_each *each, void *ctx)
{
    const struct hub_settings *s = &h->settings;
    uint64_t now = h->wall_ms(), ttl = 1000ull * s->note_ttl_s;
    return tx_file_note_take(tx, lock, now, now + 1000ull * s->note_lock_s, now > ttl ? now - ttl : 0,
                             s->note_deliveries_max, limit, each, ctx);
}

enum err file_note_settle(struct hub *h, struct store_tx *tx, struct span lock, bool done)
{
    enum err e = tx_file_note_settle(tx, lock, h->wall_ms(), done);
    return e || done ? e : receivers_tell(h, tx, RECEIVERS_FILES);
}
