/* core/crypto/crypto.h - what the pure code asks of cryptography, as a table that the port fills.
 * Nothing here is implemented by us: OpenSSL on Linux, small audited libraries on a chip. C99. */
#ifndef ROOST_CORE_CRYPTO_CRYPTO_H
#define ROOST_CORE_CRYPTO_CRYPTO_H

#include "base/err.h"
#include "base/span.h"

#define SHA256_LEN      32u
#define ED25519_KEY_LEN 32u /* public key; the private one is its 32-byte seed */
#define ED25519_SIG_LEN 64u

/* Room for a running hash of any port, in the caller's memory. */
struct sha256 {
    uint64_t opaque[32];
};

struct crypto_ops {
    void (*sha256_init)(struct sha256 *h);
    void (*sha256_update)(struct sha256 *h, struct span s);
    void (*sha256_final)(struct sha256 *h, uint8_t out[SHA256_LEN]);
    void (*hmac_sha256)(struct span key, const struct span *parts, size_t parts_nr, uint8_t out[SHA256_LEN]);
    /* RFC 8032, pure Ed25519 over the concatenation of the parts (5 KB at most in all). */
    bool (*ed25519_verify)(const uint8_t pub[ED25519_KEY_LEN], const struct span *parts, size_t parts_nr,
                           const uint8_t sig[ED25519_SIG_LEN]);
    void (*ed25519_sign)(const uint8_t seed[ED25519_KEY_LEN], const struct span *parts, size_t parts_nr,
                         uint8_t sig[ED25519_SIG_LEN]);
    void (*ed25519_public)(const uint8_t seed[ED25519_KEY_LEN], uint8_t pub[ED25519_KEY_LEN]);
    void (*random)(uint8_t *out, size_t n); /* cryptographically secure; never fails, or stops the program */
};

static inline void crypto_sha256(const struct crypto_ops *c, struct span s, uint8_t out[SHA256_LEN])
{
    struct sha256 h;
    c->sha256_init(&h);
    c->sha256_update(&h, s);
    c->sha256_final(&h, out);
}

#endif
