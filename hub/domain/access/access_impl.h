/* hub/domain/access/access_impl.h - what the parts of access.h share: what is known of an identity or a
 * policy (access_read.c), and the cache of that (access_cache.c). */
#ifndef ROOST_HUB_DOMAIN_ACCESS_ACCESS_IMPL_H
#define ROOST_HUB_DOMAIN_ACCESS_ACCESS_IMPL_H

#include "hub/domain/access/access.h"
#include "hub/domain/access/certificate.h"

#include <assert.h>

#define ACCESS_NAME_MAX (2 * DEVICE_ID_MAX + 2) /* 'd' or 'p', then an identity or a policy name */
#define CRED_THUMB_MAX  32u                     /* bytes of a thumbprint: SHA-1 or SHA-256 */

/* What a check needs of an identity or a policy, as lengths and as bytes. */
enum cred_field { CRED_KEY1, CRED_KEY2, CRED_THUMB1, CRED_THUMB2, CRED_GENERATION, CRED_FIELDS };
#define CRED_BYTES (2 * DEVICE_KEY_MAX + 2 * CRED_THUMB_MAX + ACCESS_GENERATION_MAX)
struct cred_head {
    uint32_t rights;
    uint8_t status; /* enum device_status; of a module always enabled */
    uint8_t auth;   /* enum identity_auth */
    uint8_t len[CRED_FIELDS];
};
struct cred { /* holds keys: wiped by whoever had it (explicit_bzero) */
    struct cred_head head;
    bool unused; /* its key was handed out and has not been seen since */
    uint8_t bytes[CRED_BYTES];
};
struct span cred_field(const struct cred *c, enum cred_field f); /* borrowed from c */
/* False: longer than the field may be; nothing was set. */
bool cred_set(struct cred *c, enum cred_field f, struct span s);

/* From the store, inside a transaction. ERR_NOTFOUND; ERR_LIMIT: a field is longer than any should be. */
MUST_USE enum err access_read_device(struct store_tx *tx, struct span id, struct cred *out);
MUST_USE enum err access_read_module(struct store_tx *tx, struct span device, struct span id,
                                     struct cred *out);
MUST_USE enum err access_read_policy(struct store_tx *tx, struct span name, struct cred *out);

/* The name in the cache: kind 'd', an identity, or 'p', a policy. Empty, which is never cached, when it is
 * too long to exist. */
struct span access_cache_name(uint8_t buf[ACCESS_NAME_MAX], char kind, struct span name);
/* *epoch, of the name's part of the cache, is what access_cache_put wants to see again: what was read before
 * something was forgotten must not come in after it. */
bool access_cache_get(struct access *a, struct span name, struct cred *out, uint64_t *epoch);
void access_cache_put(struct access *a, struct span name, const struct cred *c, uint64_t epoch);
uint64_t access_cache_epoch(struct access *a, struct span name);

/* The registered authorities, the caller's reference. epoch: access_roots_epoch from before this read began.
 * On a reader thread. */
MUST_USE enum err access_roots_get(struct access *a, struct store_tx *tx, uint64_t epoch,
                                   struct certificate_roots **out);
uint64_t access_roots_epoch(struct access *a);

/* What a session remembers of the credential that proved it: never 0. */
uint64_t access_proof(const struct access *a, struct span credential);

#endif
