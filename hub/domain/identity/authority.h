/* hub/domain/identity/authority.h - registered certificate authorities: whose signature proves a device of
 * the kind "certificateAuthority". Inside run() of a store op; after the commit the caller announces. */
#ifndef ROOST_HUB_DOMAIN_IDENTITY_AUTHORITY_H
#define ROOST_HUB_DOMAIN_IDENTITY_AUTHORITY_H

#include "base/arena.h"
#include "hub/domain/access/certificate.h"
#include "hub/domain/hub.h"

#define AUTHORITIES_MAX    25u /* as the service it stands in for */
#define AUTHORITY_NAME_MAX 64u

bool authority_name_ok(struct span name); /* as a device id, but shorter */

struct authority {
    struct span name;
    uint64_t created_ms, etag;
    struct certificate_facts facts;
};
/* Registers or replaces the first certificate of a PEM text. *fresh: the name was free.
 *   ERR_PROTO   not a certificate
 *   ERR_DENIED  it may not sign others
 *   ERR_VERIFY  its key or the signature on it has less than 112 bits of strength
 *   ERR_LIMIT   larger than CERTIFICATE_DER_MAX, or AUTHORITIES_MAX are registered */
MUST_USE enum err authority_put(struct hub *h, struct store_tx *tx, struct arena *a, struct span name,
                                struct span pem, struct authority *out, bool *fresh);
/* By name, in the arena. */
MUST_USE enum err authority_list(struct store_tx *tx, struct arena *a, struct authority **out, size_t *nr);
MUST_USE enum err authority_delete(struct store_tx *tx, struct span name); /* ERR_NOTFOUND */
/* After the commit, any thread. Connections that stand are not ended: the next ones are judged anew. */
void authority_announce(struct hub *h);

#endif
