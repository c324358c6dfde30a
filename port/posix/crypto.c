/* port/posix/crypto.c - the cryptography of a Linux machine: OpenSSL 3, random bytes from the kernel. */

/* The low-level SHA-256 is marked deprecated, but it is the only form of OpenSSL whose running state lies
 * in the caller's memory: no allocation a hash, and nothing that can fail. An HMAC costs its few blocks that
 * way; by EVP_MAC it is seven times that, in look-ups and allocations. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "port/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define MESSAGE_MAX 5120u /* what the table promises for a signed message */

static_assert(sizeof(SHA256_CTX) <= sizeof(struct sha256), "the running hash lives in the caller's memory");
static_assert(_Alignof(SHA256_CTX) <= _Alignof(struct sha256), "and is aligned there");

/* For calls that have no way to fail: what is left is no memory, and going on would mean a wrong hash,
 * signature or key. */
static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "crypto: %s failed\n", what);
    abort();
}

static void posix_sha256_init(struct sha256 *h)
{
    SHA256_Init((SHA256_CTX *)(void *)h->opaque);
}
static void posix_sha256_update(struct sha256 *h, struct span s)
{
    SHA256_Update((SHA256_CTX *)(void *)h->opaque, s.p, s.n);
}
static void posix_sha256_final(struct sha256 *h, uint8_t out[SHA256_LEN])
{
    SHA256_Final(out, (SHA256_CTX *)(void *)h->opaque);
}

static void posix_hmac_sha256(struct span key, const struct span *parts, size_t parts_nr,
                              uint8_t out[SHA256_LEN])
{
    SHA256_CTX h;
    uint8_t pad[SHA256_CBLOCK] = { 0 }, inner[SHA256_LEN]; /* [RFC 2104, 2] */
    if (key.n > sizeof pad)
        SHA256(key.p, key.n, pad);
    else if (key.n)
        memcpy(pad, key.p, key.n);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36;
    SHA256_Init(&h);
    SHA256_Update(&h, pad, sizeof pad);
    for (size_t i = 0; i < parts_nr; i++)
        SHA256_Update(&h, parts[i].p, parts[i].n);
    SHA256_Final(inner, &h);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    SHA256_Init(&h);
    SHA256_Update(&h, pad, sizeof pad);
    SHA256_Update(&h, inner, sizeof inner);
    SHA256_Final(out, &h);
    OPENSSL_cleanse(pad, sizeof pad);
    OPENSSL_cleanse(inner, sizeof inner);
    OPENSSL_cleanse(&h, sizeof h);
}

/* OpenSSL's Ed25519 takes the message in one piece only. */
static size_t join(uint8_t out[MESSAGE_MAX], const struct span *parts, size_t parts_nr)
{
    struct wr w = { out, MESSAGE_MAX, 0 };
    for (size_t i = 0; i < parts_nr; i++)
        wr_put(&w, parts[i]);
    assert(wr_ok(&w));
    return w.len;
}

static bool posix_ed25519_verify(const uint8_t pub[ED25519_KEY_LEN], const struct span *parts,
                                 size_t parts_nr, const uint8_t sig[ED25519_SIG_LEN])
{
    uint8_t msg[MESSAGE_MAX];
    size_t n = join(msg, parts, parts_nr);
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, pub, ED25519_KEY_LEN);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = key && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestVerify(ctx, sig, ED25519_SIG_LEN, msg, n) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return ok;
}

static void posix_ed25519_sign(const uint8_t seed[ED25519_KEY_LEN], const struct span *parts, size_t parts_nr,
                               uint8_t sig[ED25519_SIG_LEN])
{
    uint8_t msg[MESSAGE_MAX];
    size_t n = join(msg, parts, parts_nr), sig_len = ED25519_SIG_LEN;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, ED25519_KEY_LEN);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    must(key && ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
             EVP_DigestSign(ctx, sig, &sig_len, msg, n) == 1,
         "ed25519 sign");
    OPENSSL_cleanse(msg, n);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
}

static void posix_ed25519_public(const uint8_t seed[ED25519_KEY_LEN], uint8_t pub[ED25519_KEY_LEN])
{
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, ED25519_KEY_LEN);
    size_t len = ED25519_KEY_LEN;
    must(key && EVP_PKEY_get_raw_public_key(key, pub, &len) == 1, "ed25519 public key");
    EVP_PKEY_free(key);
}

static void posix_random(uint8_t *out, size_t n)
{
    while (n) {
        ssize_t got = getrandom(out, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        must(got > 0, "getrandom");
        out += got;
        n -= (size_t)got;
    }
}

const struct crypto_ops port_crypto = {
    .sha256_init = posix_sha256_init,
    .sha256_update = posix_sha256_update,
    .sha256_final = posix_sha256_final,
    .hmac_sha256 = posix_hmac_sha256,
    .ed25519_verify = posix_ed25519_verify,
    .ed25519_sign = posix_ed25519_sign,
    .ed25519_public = posix_ed25519_public,
    .random = posix_random,
};
