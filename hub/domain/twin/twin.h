/* hub/domain/twin/twin.h - twins: read, patched from either side, told to the other. Functions that take a
 * transaction run inside run() of a store op; what they return lives in the arena.
 *
 *     bytes -> twin_service_patch / twin_reported_patch -> twin_update (in run) -> the row, and twin_changed:
 *     the one place that everything hangs on that follows from a change (twin_changed.c)
 *
 * A device is told of its new desired properties on the bus, in the order of the commits, without a step by
 * whoever made the change. Source of the rules: Azure IoT Hub, "Understand and use device twins". */
#ifndef ROOST_HUB_DOMAIN_TWIN_TWIN_H
#define ROOST_HUB_DOMAIN_TWIN_TWIN_H

#include "hub/domain/hub.h"
#include "hub/domain/twin/twin_merge.h"

struct twin {
    struct twin_row row;                     /* as stored; all in the arena */
    struct jnode *tags, *desired, *reported; /* its sections; desired and reported with stamps */
};
/* From a row, also one of a listing. ERR_NOMEM; ERR_IO: what is stored is no twin (logged). */
MUST_USE enum err twin_load(struct arena *a, const struct twin_row *r, struct twin *out);
MUST_USE enum err twin_get(struct store_tx *tx, struct arena *a, struct span id, struct twin *out);

/* ---- patches ---------------------------------------------------------------------------------------- */

struct twin_part {
    struct jnode *patch; /* NULL: the section is not touched */
    bool replace;        /* instead of merging: what is not in it is gone */
};
struct twin_patch {
    struct twin_part tags, desired, reported;
    bool service; /* written by the service's side: moves the etag */
};
/* {"tags":{...},"properties":{"desired":{...}}}, other members are ignored: tools send whole twins back.
 * replace: both sections wholly, one that is missing becomes empty. Any thread; the trees borrow from body.
 *   ERR_PROTO  the fault says what is wrong, and where      ERR_NOMEM */
MUST_USE enum err twin_service_patch(struct arena *a, struct span body, bool replace, struct twin_patch *out,
                                     struct twin_fault *f);
/* The same from a tree, which the caller may have made of another request. */
MUST_USE enum err twin_service_patch_of(struct arena *a, const struct jnode *body, bool replace,
                                        struct twin_patch *out, struct twin_fault *f);
/* What a device sends: the reported properties themselves. A "$version" at the top is ignored. */
MUST_USE enum err twin_reported_patch(struct arena *a, struct span body, struct twin_patch *out,
                                      struct twin_fault *f);

struct twin_if { /* 0: whatever is there */
    uint64_t etag, reported_version;
};
/* Merges, stores, and calls twin_changed. *out: the new twin.
 *   ERR_NOTFOUND  no such identity      ERR_STALE  a condition does not hold: nothing was done
 *   ERR_PROTO     a section would be too large; the fault says so */
MUST_USE enum err twin_update(struct hub *h, struct store_tx *tx, struct arena *a, struct span id,
                              const struct twin_patch *p, const struct twin_if *cond, struct twin *out,
                              struct twin_fault *f);

/* ---- what follows from a change --------------------------------------------------------------------- */

struct twin_change {
    const struct twin *before, *after;
    const struct twin_patch *patch;    /* which sections were written: part.patch != NULL */
    const struct jnode *desired_patch; /* as the device is told: nulls for what is gone; NULL: untouched */
};
/* Inside the transaction, once for each change. To hang something on changes of twins, add it here. */
MUST_USE enum err twin_changed(struct hub *h, struct store_tx *tx, struct arena *a,
                               const struct twin_change *c);

/* The message on the bus (BUS_TWIN): the new version of desired, and the body for the device, the patch with
 * "$version" in it. Sent in the order of the versions. */
struct twin_note {
    uint64_t version;
    struct span body;
};
MUST_USE enum err twin_note_decode(struct span bytes, struct twin_note *out); /* ERR_PROTO */
/* For a session that missed messages (BUS_WAKE_TWIN): all desired properties as they are now, in the arena.
 */
MUST_USE enum err twin_note_get(struct store_tx *tx, struct arena *a, struct span id, struct twin_note *out);

/* Remembers the model a device announced when it connected. Writes only when it differs; no version moves. */
MUST_USE enum err twin_set_model(struct store_tx *tx, struct span id, struct span model);

/* ---- text ------------------------------------------------------------------------------------------- */

/* What a device reads: {"desired":{...,"$version":n},"reported":{...,"$version":n}} */
void twin_device_view(struct wr *w, const struct twin *t);
#define TWIN_ETAG_LEN 12u /* characters: base64 of eight bytes, big-endian */
void twin_etag_write(struct wr *w, uint64_t etag);
/* A field of If-Match: "*" is 0; else the etag, in quotes or not, weak or not. ERR_PROTO: none of ours. */
MUST_USE enum err twin_etag_parse(struct span text, uint64_t *etag);

#endif
