/* core/trust/trust_record.h - HTR1: which keys may say what, and where home is. Signed by at least m of
 * the old and m of the new root keys. Pure. Source: the format of docs/trust.md. */
#ifndef ROOST_CORE_TRUST_TRUST_RECORD_H
#define ROOST_CORE_TRUST_TRUST_RECORD_H

#include "core/trust/envelope.h"

#define TRUST_ROOT_MAX     5u
#define TRUST_RELEASE_MAX  6u
#define TRUST_DIRECTOR_MAX 3u
#define TRUST_REVOKED_MAX  8u
#define TRUST_HOME_MAX     4u
#define FLEET_ID_LEN       16u

struct trust_home { /* one place to look for the hub: "host:port", and the CA it shows */
    struct span address;
    bool has_pin;
    uint8_t ca_pin[SHA256_LEN]; /* SHA-256 of the CA certificate's SubjectPublicKeyInfo, DER */
};
struct trust_record {
    uint8_t fleet_id[FLEET_ID_LEN];
    uint32_t version; /* strictly +1 */
    uint16_t epoch;
    uint32_t created_s; /* wall */
    uint8_t root_threshold, release_threshold;
    uint8_t root_nr, release_nr, director_nr, revoked_nr, home_nr;
    struct trust_key root[TRUST_ROOT_MAX];
    struct trust_key release[TRUST_RELEASE_MAX];
    struct trust_key director[TRUST_DIRECTOR_MAX];
    uint8_t revoked[TRUST_REVOKED_MAX][KEY_ID_LEN];
    struct trust_home home[TRUST_HOME_MAX];
    uint16_t min_agent;
};

/* Body to structure. ERR_PROTO: malformed, a mandatory field absent, tags out of order, an unknown
 * critical tag, thresholds that no key set can meet; ERR_LIMIT: more entries than the arrays hold.
 * Spans point into the body. */
MUST_USE enum err trust_record_decode(struct span body, const struct crypto_ops *c, struct trust_record *out);
void trust_record_encode(struct wr *w, const struct trust_record *t); /* the body */
/* SHA-256 over threshold || sorted root public keys: what a bootstrap string pins. */
void trust_record_root_pin(const struct crypto_ops *c, const struct trust_record *t, uint8_t pin[SHA256_LEN]);
/* May `env` (decoded as `next`) follow `old`? Same fleet, version + 1, epoch not lower, enough signatures
 * of the old roots and of the new ones. old == NULL: first record, own roots only.
 *   ERR_STALE version or epoch, ERR_VERIFY fleet or signatures. */
MUST_USE enum err trust_record_accept(const struct crypto_ops *c, const struct trust_record *old,
                                      const struct trust_record *next, const struct envelope *env);
bool trust_key_revoked(const struct trust_record *t, const uint8_t id[KEY_ID_LEN]);

#endif
