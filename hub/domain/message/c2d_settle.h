/* hub/domain/message/c2d_settle.h - how a cloud-to-device message ends; for c2d.c and its neighbours. */
#ifndef ROOST_HUB_DOMAIN_MESSAGE_C2D_SETTLE_H
#define ROOST_HUB_DOMAIN_MESSAGE_C2D_SETTLE_H

#include "hub/domain/message/c2d.h"

enum c2d_end { C2D_SUCCESS, C2D_EXPIRED, C2D_DEAD, C2D_PURGED, C2D_REJECTED, C2D_ENDS };
extern const char *const c2d_outcomes[C2D_ENDS]; /* feedback_row.outcome */

/* Does a message that ends so want feedback? */
bool c2d_wants_feedback(uint8_t ack, enum c2d_end end);
/* Takes messages off the queue with their feedback; nobody waits. None: nothing is done. */
void c2d_settle(struct hub *h, struct span device, const struct c2d_ref *refs, size_t refs_nr,
                enum c2d_end end);
/* The same inside a transaction. ERR_NOTFOUND: settled before. */
MUST_USE enum err c2d_settle_one(struct hub *h, struct store_tx *tx, struct span device, struct c2d_ref ref,
                                 enum c2d_end end);

/* One message, and somebody waits. The asker's memory until done; err as of c2d_settle_one. */
struct c2d_end_op {
    struct store_op store; /* first; op.home and op.done by the asker */
    struct hub *hub;
    struct span device; /* borrowed until done */
    struct c2d_ref ref;
    enum c2d_end end;
    op_fn *done; /* its own */
};
void c2d_end_start(struct c2d_end_op *o);

#endif
