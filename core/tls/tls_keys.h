/* core/tls/tls_keys.h - keys of a TLS connection after its handshake: the cryptography the record layer asks
 * for, as a table that the port fills; TLS 1.3 traffic keys from their secrets (RFC 8446, section 7), the
 * TLS 1.2 key block (RFC 5246, section 6.3); and the cache of derived keys that the connections of a thread
 * share.
 *
 * A TLS 1.3 connection keeps its traffic secrets, not its keys: a secret leads to the keys and to the next
 * secret (KeyUpdate), keys lead nowhere, and both together would cost half as much memory again. The keys of
 * connections that are busy are in the cache; for the others two HMACs a record find them again. C99. */
#ifndef ROOST_CORE_TLS_TLS_KEYS_H
#define ROOST_CORE_TLS_TLS_KEYS_H

#include "base/err.h"
#include "base/span.h"

enum tls_aead { TLS_AES_128_GCM = 0, TLS_AES_256_GCM, TLS_CHACHA20_POLY1305, TLS_AEADS };
enum tls_hash { TLS_SHA256 = 0, TLS_SHA384 };

#define TLS_KEY_MAX    32u
#define TLS_NONCE_LEN  12u
#define TLS_TAG_LEN    16u
#define TLS_SECRET_MAX 48u
#define TLS_MASTER_LEN 48u
#define TLS_RANDOM_LEN 32u

/* What a thread's connections do their cryptography with; the first member of the port's own. */
struct tls_crypto {
    const struct tls_crypto_ops *ops;
};
struct tls_crypto_ops {
    /* out has room for in.n bytes and may be in.p itself. False: the library failed (no memory). */
    bool (*seal)(struct tls_crypto *c, enum tls_aead a, const uint8_t *key,
                 const uint8_t nonce[TLS_NONCE_LEN], struct span aad, struct span in, uint8_t *out,
                 uint8_t tag[TLS_TAG_LEN]);
    /* False: not sealed with this key. Then nothing of what is at out may be used. */
    bool (*open)(struct tls_crypto *c, enum tls_aead a, const uint8_t *key,
                 const uint8_t nonce[TLS_NONCE_LEN], struct span aad, struct span in,
                 const uint8_t tag[TLS_TAG_LEN], uint8_t *out);
    void (*hmac)(struct tls_crypto *c, enum tls_hash h, struct span key, const struct span *parts,
                 size_t parts_nr, uint8_t *out);
    /* A key of this algorithm is over: wipes what seal and open have kept of any. NULL: they keep none. */
    void (*forget)(struct tls_crypto *c, enum tls_aead a);
};

static inline size_t tls_key_len(enum tls_aead a)
{
    return a == TLS_AES_128_GCM ? 16u : 32u;
}
static inline size_t tls_hash_len(enum tls_hash h)
{
    return h == TLS_SHA256 ? 32u : 48u;
}
/* The hash of a TLS 1.3 suite (appendix B.4). */
static inline enum tls_hash tls_aead_hash(enum tls_aead a)
{
    return a == TLS_AES_256_GCM ? TLS_SHA384 : TLS_SHA256;
}
void tls_wipe(void *p, size_t n); /* not optimised away */

struct tls_keys { /* of one direction */
    uint8_t key[TLS_KEY_MAX];
    uint8_t iv[TLS_NONCE_LEN];
};
/* TLS 1.3: [7.3], and the secret after this one [7.2], in place. */
void tls_keys_derive(struct tls_crypto *c, enum tls_aead a, const uint8_t *secret, struct tls_keys *out);
void tls_keys_next_secret(struct tls_crypto *c, enum tls_aead a, uint8_t *secret);
/* TLS 1.2: of the client and of the server. The iv is the 4 fixed bytes of GCM, or the 12 of ChaCha20. */
void tls_keys_block(struct tls_crypto *c, enum tls_aead a, enum tls_hash h,
                    const uint8_t master[TLS_MASTER_LEN], const uint8_t client_random[TLS_RANDOM_LEN],
                    const uint8_t server_random[TLS_RANDOM_LEN], struct tls_keys *client,
                    struct tls_keys *server);

/* Derived keys of the connections of one thread; slots_nr is a power of two of at least TLS_KEY_WAYS, or 0:
 * none are kept. A key may lie in any of TLS_KEY_WAYS slots. They are zero at the beginning and the caller's
 * memory. */
#define TLS_KEY_WAYS 4u
struct tls_key_slot {
    const void *owner;
    struct tls_keys keys;
};
struct tls_work {
    struct tls_crypto *crypto;
    struct tls_key_slot *slots;
    uint32_t slots_nr, next; /* next: which of the ways has to go, in turn */
};
/* owner: an address that is the connection's and this direction's alone, as long as it lives. The result is
 * good until the next call; spare is where it lies when there are no slots. */
const struct tls_keys *tls_work_keys(struct tls_work *w, const void *owner, enum tls_aead a,
                                     const uint8_t *secret, struct tls_keys *spare);
void tls_work_forget(struct tls_work *w, const void *owner); /* its secret has changed, or it is gone */

#endif
