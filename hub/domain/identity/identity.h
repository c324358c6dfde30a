/* hub/domain/identity/identity.h - devices: create, find, list, approve, disable, delete. Functions that take
 * a transaction run inside run() of a store op; rows they return live in the arena. After the commit the
 * caller announces the change, so that sessions and cached credentials follow. */
#ifndef ROOST_HUB_DOMAIN_IDENTITY_IDENTITY_H
#define ROOST_HUB_DOMAIN_IDENTITY_IDENTITY_H

#include "base/arena.h"
#include "hub/domain/hub.h"

#define IDENTITY_KEY_LEN      32u
#define IDENTITY_LIST_DEFAULT 100u
#define IDENTITY_LIST_MAX     1000u

/* 1..128 of ASCII letters, digits and - . + % _ # * ? ! ( ) , : = @ $ ' */
bool identity_id_ok(struct span id);
/* "PRODUCT:CLASS[:REV]"; product 1..24 of letters, digits and - . _ ; ERR_PROTO. Points into text. */
struct hardware {
    struct span product;
    uint16_t hw_class;
    uint8_t hw_rev;
};
MUST_USE enum err hardware_parse(struct span text, struct hardware *out);
void hardware_format(struct wr *w, const struct hardware *hw); /* with the revision only when it is not 0 */

const char *device_status_name(unsigned status); /* "enabled" */
MUST_USE enum err device_status_parse(struct span text, uint8_t *status);

MUST_USE enum err identity_copy(struct arena *a, const struct device_row *in, struct device_row *out);
MUST_USE enum err identity_get(struct store_tx *tx, struct arena *a, struct span id, struct device_row *out);

/* Puts a new device with a fresh generation id; keys that `r` does not bring are made, unless it is pending
 * (a pending device gets them with the approval). *out: as stored. ERR_EXISTS. */
MUST_USE enum err identity_create(struct hub *h, struct store_tx *tx, struct arena *a,
                                  const struct device_row *r, struct device_row *out);
/* ERR_NOTFOUND. A pending device can only be approved or deleted: ERR_STALE. */
MUST_USE enum err identity_set_status(struct hub *h, struct store_tx *tx, struct arena *a, struct span id,
                                      uint8_t status, struct device_row *out);
/* Lets a pending device in, with fresh keys. For an enabled device without a public key: hands its key out
 * once more, to whoever asks under its id next (it has lost its own). ERR_STALE: neither applies. */
MUST_USE enum err identity_approve(struct hub *h, struct store_tx *tx, struct arena *a, struct span id,
                                   struct device_row *out);
/* The key was used: from now on nobody gets it by asking. Writes only when it changes something. */
MUST_USE enum err identity_used(struct store_tx *tx, struct arena *a, const struct device_row *r);

/* "HostName=...;DeviceId=...;SharedAccessKey=...", or ";x509=true" for one that has a certificate. */
void identity_connection_string(const struct hub *h, const struct device_row *r, struct wr *w);

/* After the commit, any thread: the session of the device looks again, cached credentials are dropped. */
void identity_announce(struct hub *h, struct span id);

#endif
