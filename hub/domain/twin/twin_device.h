/* hub/domain/twin/twin_device.h - what a device or module does with its own twin, whatever protocol it
 * speaks: reads it, reports, hears later what it was not told. In run() of a store op unless it says so. */
#ifndef ROOST_HUB_DOMAIN_TWIN_TWIN_DEVICE_H
#define ROOST_HUB_DOMAIN_TWIN_TWIN_DEVICE_H

#include "hub/domain/twin/twin.h"
#include "hub/store/identity_name.h"

/* twin_device_view and the version of desired in it. The arena is emptied first: a run may come twice. */
MUST_USE enum err twin_device_get(struct store_tx *tx, struct arena *a, struct span id,
                                  struct twin_note *out);
/* A patch of reported: ERR_PROTO and ERR_STALE with the fault, ERR_NOTFOUND. */
MUST_USE enum err twin_device_report(struct hub *h, struct store_tx *tx, struct span id, struct span body,
                                     const struct twin_if *cond, uint64_t *reported_version,
                                     struct twin_fault *f);

/* For a session that missed messages (BUS_WAKE_TWIN): all desired properties as they are now, as an op. By
 * the caller: op.home and op.done; it may be handed to the store again from there. After ERR_OK the note is
 * good until twin_missed_fini. */
struct twin_missed {
    struct store_op store; /* first */
    struct twin_note note;
    struct arena a; /* of run() */
    size_t identity_len;
    uint8_t identity[IDENTITY_NAME_MAX];
};
void twin_missed_init(struct twin_missed *m, struct span identity); /* of zeros; any thread */
void twin_missed_fini(struct twin_missed *m);

#endif
