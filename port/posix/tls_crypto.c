/* port/posix/tls_crypto.c - the ciphers and HMACs of TLS records: OpenSSL 3. */

/* The low-level SHA-2 is marked deprecated, but it is the only form of OpenSSL whose running state lies in
 * the caller's memory: an HMAC costs its few blocks, not an allocation and a look-up. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "port/tls_crypto.h"

#include "port/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <stdlib.h>

struct cipher {
    EVP_CIPHER *type;
    EVP_CIPHER_CTX *ctx[2]; /* opening, sealing */
    uint8_t key[2][TLS_KEY_MAX];
    bool is_keyed[2];
};
struct posix_tls_crypto {
    struct tls_crypto base; /* first */
    struct cipher ciphers[TLS_AEADS];
};

/* Sets the context up for one record. Records of one connection often follow each other: then the key is in
 * it already, and its schedule is not made again. */
static EVP_CIPHER_CTX *prepare(struct tls_crypto *c, enum tls_aead a, int sealing, const uint8_t *key,
                               const uint8_t nonce[TLS_NONCE_LEN])
{
    struct cipher *x = &((struct posix_tls_crypto *)(void *)c)->ciphers[a];
    size_t n = tls_key_len(a);
    bool same = x->is_keyed[sealing] && CRYPTO_memcmp(x->key[sealing], key, n) == 0;
    if (EVP_CipherInit_ex(x->ctx[sealing], NULL, NULL, same ? NULL : key, nonce, sealing) != 1) {
        x->is_keyed[sealing] = false;
        return NULL;
    }
    if (!same) {
        memcpy(x->key[sealing], key, n);
        x->is_keyed[sealing] = true;
    }
    return x->ctx[sealing];
}

static bool update(EVP_CIPHER_CTX *ctx, uint8_t *out, struct span in)
{
    int n = 0;
    return !in.n || EVP_CipherUpdate(ctx, out, &n, in.p, (int)in.n) == 1;
}

static bool posix_seal(struct tls_crypto *c, enum tls_aead a, const uint8_t *key,
                       const uint8_t nonce[TLS_NONCE_LEN], struct span aad, struct span in, uint8_t *out,
                       uint8_t tag[TLS_TAG_LEN])
{
    EVP_CIPHER_CTX *ctx = prepare(c, a, 1, key, nonce);
    uint8_t nothing[16];
    int n = 0;
    return ctx && update(ctx, NULL, aad) && update(ctx, out, in) &&
           EVP_CipherFinal_ex(ctx, nothing, &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TLS_TAG_LEN, tag) == 1;
}

static bool posix_open(struct tls_crypto *c, enum tls_aead a, const uint8_t *key,
                       const uint8_t nonce[TLS_NONCE_LEN], struct span aad, struct span in,
                       const uint8_t tag[TLS_TAG_LEN], uint8_t *out)
{
    EVP_CIPHER_CTX *ctx = prepare(c, a, 0, key, nonce);
    uint8_t expected[TLS_TAG_LEN], nothing[16];
    int n = 0;
    memcpy(expected, tag, sizeof expected);
    return ctx && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, sizeof expected, expected) == 1 &&
           update(ctx, NULL, aad) && update(ctx, out, in) && EVP_CipherFinal_ex(ctx, nothing, &n) == 1;
}

static void hmac_384(struct span key, const struct span *parts, size_t nr, uint8_t *out)
{
    SHA512_CTX h;
    uint8_t pad[SHA512_CBLOCK] = { 0 }, inner[SHA384_DIGEST_LENGTH];
    memcpy(pad, key.p, key.n); /* keys of TLS are never longer than a block */
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36;
    SHA384_Init(&h);
    SHA384_Update(&h, pad, sizeof pad);
    for (size_t i = 0; i < nr; i++)
        SHA384_Update(&h, parts[i].p, parts[i].n);
    SHA384_Final(inner, &h);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    SHA384_Init(&h);
    SHA384_Update(&h, pad, sizeof pad);
    SHA384_Update(&h, inner, sizeof inner);
    SHA384_Final(out, &h);
    OPENSSL_cleanse(pad, sizeof pad);
    OPENSSL_cleanse(inner, sizeof inner);
    OPENSSL_cleanse(&h, sizeof h);
}

static void posix_hmac(struct tls_crypto *c, enum tls_hash h, struct span key, const struct span *parts,
                       size_t parts_nr, uint8_t *out)
{
    (void)c;
    tls_hmac(h, key, parts, parts_nr, out);
}

void tls_hmac(enum tls_hash h, struct span key, const struct span *parts, size_t parts_nr, uint8_t *out)
{
    if (h == TLS_SHA256)
        port_crypto.hmac_sha256(key, parts, parts_nr, out);
    else
        hmac_384(key, parts, parts_nr, out);
}

enum err tls_crypto_new(struct tls_crypto **out)
{
    static const struct tls_crypto_ops ops = { posix_seal, posix_open, posix_hmac };
    static const char *const names[TLS_AEADS] = { "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305" };
    struct posix_tls_crypto *c = calloc(1, sizeof *c);
    if (!c)
        return ERR_NOMEM;
    c->base.ops = &ops;
    for (int i = 0; i < TLS_AEADS; i++) {
        struct cipher *x = &c->ciphers[i];
        bool ok = (x->type = EVP_CIPHER_fetch(NULL, names[i], NULL)) != NULL;
        for (int sealing = 0; ok && sealing < 2; sealing++)
            ok = (x->ctx[sealing] = EVP_CIPHER_CTX_new()) != NULL &&
                 EVP_CipherInit_ex(x->ctx[sealing], x->type, NULL, NULL, NULL, sealing) == 1;
        if (!ok) {
            tls_crypto_free(&c->base);
            return ERR_IO;
        }
    }
    *out = &c->base;
    return ERR_OK;
}

void tls_crypto_free(struct tls_crypto *c)
{
    struct posix_tls_crypto *p = (struct posix_tls_crypto *)(void *)c;
    if (!p)
        return;
    for (int i = 0; i < TLS_AEADS; i++) {
        EVP_CIPHER_CTX_free(p->ciphers[i].ctx[0]);
        EVP_CIPHER_CTX_free(p->ciphers[i].ctx[1]);
        EVP_CIPHER_free(p->ciphers[i].type);
    }
    OPENSSL_cleanse(p, sizeof *p);
    free(p);
}
