/* hub/domain/update/trust.h - the trust records this hub hands on: an unbroken chain, newest last. In run().
 */
#ifndef ROOST_HUB_DOMAIN_UPDATE_TRUST_H
#define ROOST_HUB_DOMAIN_UPDATE_TRUST_H

#include "base/arena.h"
#include "core/trust/trust_record.h"
#include "hub/domain/hub.h"

/* The newest record, decoded; spans live in the arena. ERR_NOTFOUND: none is published. */
MUST_USE enum err trust_newest(struct hub *h, struct store_tx *tx, struct arena *a, struct trust_record *out);
/* Records after `version`, oldest first, whole ones that fit `max` bytes, one after the other. */
MUST_USE enum err trust_records_after(struct hub *h, struct store_tx *tx, struct arena *a, uint32_t version,
                                      size_t max, struct span *out);

enum trust_refusal { /* why a record was not taken */
                     TRUST_TAKEN = 0,
                     TRUST_FORMAT,
                     TRUST_VERSION, /* not the newest + 1, or a lower epoch */
                     TRUST_SIGNATURES
};
struct trust_published {
    enum trust_refusal refusal;
    uint32_t version;       /* of the record */
    uint32_t newest;        /* before it; 0: none */
    bool director_missing;  /* it does not list this hub's director key: its tickets would be refused */
    size_t releases_barred; /* releases that no longer have enough valid signatures: not offered any more */
};
/* Takes the next record. `raw` is the whole envelope. The same record again is fine (idempotent).
 * A refusal is an answer, not an error. */
MUST_USE enum err trust_publish(struct hub *h, struct store_tx *tx, struct arena *a, struct span who,
                                struct span raw, struct trust_published *out);
bool trust_lists_director(const struct trust_record *t, const uint8_t pub[ED25519_KEY_LEN]);

#endif
