/* hub/domain/identity/identity_impl.h - what the files of identities share: identity.c, identity_write.c,
 * module.c. */
#ifndef ROOST_HUB_DOMAIN_IDENTITY_IDENTITY_IMPL_H
#define ROOST_HUB_DOMAIN_IDENTITY_IDENTITY_IMPL_H

#include "hub/domain/identity/identity_write.h"

struct span identity_fresh_key(struct hub *h, struct arena *a);
struct span identity_fresh_generation(struct hub *h, struct arena *a);
/* Puts a row that is there, in place of what it was. */
MUST_USE enum err identity_replace(struct hub *h, struct store_tx *tx, struct arena *a, struct device_row *r,
                                   struct device_row *out);
/* Sets *fault and returns the error that goes with it. */
MUST_USE enum err identity_refuse(enum identity_fault *fault, enum identity_fault why);
/* What is stored for p, copied into the arena: the kind inferred, keys made, what does not belong left out.
 * may_be_none: it may be said to have no credential; none_stays: and then has none (else symmetric keys). */
MUST_USE enum err identity_prove(struct hub *h, struct arena *a, const struct identity_proof *p,
                                 bool may_be_none, bool none_stays, struct identity_proof *out,
                                 enum identity_fault *fault);

#endif
