/* port/posix/tls_crypto.c - the ciphers and HMACs of TLS records: OpenSSL 3. */

/* The low-level SHA-2 is marked deprecated, but it is the only form of OpenSSL whose running state lies in
 * the caller's memory: an HMAC costs its few blocks, not an allocation and a look-up. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "port/tls_crypto.h"

#include "port/crypto.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/sha.h>

#include <stdlib.h>
#include <string.h>

/* The functions of OpenSSL's own provider, called without the layer above them (provider-cipher(7)): that
 * looks up parameters by name around each key and nonce, and for records as short as messages of devices it
 * cost more than twice what the cipher does. */
struct functions {
    OSSL_FUNC_cipher_newctx_fn *newctx;
    OSSL_FUNC_cipher_freectx_fn *freectx;
    OSSL_FUNC_cipher_encrypt_init_fn *init[2]; /* both have this type: opening, sealing */
    OSSL_FUNC_cipher_update_fn *update;
    OSSL_FUNC_cipher_final_fn *final;
    OSSL_FUNC_cipher_get_ctx_params_fn *get;
    OSSL_FUNC_cipher_set_ctx_params_fn *set;
};
struct cipher {
    EVP_CIPHER *type; /* keeps its provider there */
    struct functions f;
    void *ctx[2]; /* opening, sealing */
    uint8_t key[2][TLS_KEY_MAX];
    bool is_keyed[2];
};
struct posix_tls_crypto {
    struct tls_crypto base; /* first */
    struct cipher ciphers[TLS_AEADS];
};

/* Sets the context up for one record. Records of one connection often follow each other: then the key is in
 * it already, and its schedule is not made again. */
static struct cipher *prepare(struct tls_crypto *c, enum tls_aead a, int sealing, const uint8_t *key,
                              const uint8_t nonce[TLS_NONCE_LEN])
{
    struct cipher *x = &((struct posix_tls_crypto *)(void *)c)->ciphers[a];
    size_t n = tls_key_len(a);
    bool same = x->is_keyed[sealing] && CRYPTO_memcmp(x->key[sealing], key, n) == 0;
    if (x->f.init[sealing](x->ctx[sealing], same ? NULL : key, same ? 0 : n, nonce, TLS_NONCE_LEN, NULL) !=
        1) {
        x->is_keyed[sealing] = false;
        return NULL;
    }
    if (!same) {
        memcpy(x->key[sealing], key, n);
        x->is_keyed[sealing] = true;
    }
    return x;
}

static bool update(const struct cipher *x, int sealing, uint8_t *out, struct span in)
{
    size_t n = 0;
    return !in.n || x->f.update(x->ctx[sealing], out, &n, in.n, in.p, in.n) == 1;
}

static bool finish(const struct cipher *x, int sealing)
{
    uint8_t nothing[16];
    size_t n = 0;
    return x->f.final(x->ctx[sealing], nothing, &n, sizeof nothing) == 1;
}

static bool posix_seal(struct tls_crypto *c, enum tls_aead a, const uint8_t *key,
                       const uint8_t nonce[TLS_NONCE_LEN], struct span aad, struct span in, uint8_t *out,
                       uint8_t tag[TLS_TAG_LEN])
{
    OSSL_PARAM get[] = { OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, TLS_TAG_LEN),
                         OSSL_PARAM_END };
    const struct cipher *x = prepare(c, a, 1, key, nonce);
    return x && update(x, 1, NULL, aad) && update(x, 1, out, in) && finish(x, 1) &&
           x->f.get(x->ctx[1], get) == 1;
}

static bool posix_open(struct tls_crypto *c, enum tls_aead a, const uint8_t *key,
                       const uint8_t nonce[TLS_NONCE_LEN], struct span aad, struct span in,
                       const uint8_t tag[TLS_TAG_LEN], uint8_t *out)
{
    uint8_t expected[TLS_TAG_LEN];
    const OSSL_PARAM set[] = { OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, expected, TLS_TAG_LEN),
                               OSSL_PARAM_END };
    const struct cipher *x = prepare(c, a, 0, key, nonce);
    memcpy(expected, tag, sizeof expected);
    return x && x->f.set(x->ctx[0], set) == 1 && update(x, 0, NULL, aad) && update(x, 0, out, in) &&
           finish(x, 0);
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

/* The context keeps its key's schedule until it gets another: it gets one of zeros. */
static void posix_forget(struct tls_crypto *c, enum tls_aead a)
{
    static const uint8_t zeros[TLS_KEY_MAX];
    struct cipher *x = &((struct posix_tls_crypto *)(void *)c)->ciphers[a];
    for (int sealing = 0; sealing < 2; sealing++) {
        if (!x->is_keyed[sealing])
            continue;
        x->is_keyed[sealing] = false;
        OPENSSL_cleanse(x->key[sealing], sizeof x->key[sealing]);
        (void)x->f.init[sealing](x->ctx[sealing], zeros, tls_key_len(a), NULL, 0, NULL);
    }
}

/* True: x->f is whole. */
static bool find(struct cipher *x, const char *name)
{
    const OSSL_PROVIDER *p = EVP_CIPHER_get0_provider(x->type);
    const OSSL_ALGORITHM *all = NULL;
    int no_cache = 0;
    size_t n = strlen(name);
    all = OSSL_PROVIDER_query_operation(p, OSSL_OP_CIPHER, &no_cache);
    while (all && all->algorithm_names &&
           (strncmp(all->algorithm_names, name, n) != 0 ||
            (all->algorithm_names[n] != ':' && all->algorithm_names[n] != '\0')))
        all++;
    if (!all || !all->algorithm_names)
        return false;
    for (const OSSL_DISPATCH *d = all->implementation; d->function_id; d++) {
        switch (d->function_id) {
        case OSSL_FUNC_CIPHER_NEWCTX:
            x->f.newctx = OSSL_FUNC_cipher_newctx(d);
            break;
        case OSSL_FUNC_CIPHER_FREECTX:
            x->f.freectx = OSSL_FUNC_cipher_freectx(d);
            break;
        case OSSL_FUNC_CIPHER_ENCRYPT_INIT:
            x->f.init[1] = OSSL_FUNC_cipher_encrypt_init(d);
            break;
        case OSSL_FUNC_CIPHER_DECRYPT_INIT:
            x->f.init[0] = OSSL_FUNC_cipher_decrypt_init(d);
            break;
        case OSSL_FUNC_CIPHER_UPDATE:
            x->f.update = OSSL_FUNC_cipher_update(d);
            break;
        case OSSL_FUNC_CIPHER_FINAL:
            x->f.final = OSSL_FUNC_cipher_final(d);
            break;
        case OSSL_FUNC_CIPHER_GET_CTX_PARAMS:
            x->f.get = OSSL_FUNC_cipher_get_ctx_params(d);
            break;
        case OSSL_FUNC_CIPHER_SET_CTX_PARAMS:
            x->f.set = OSSL_FUNC_cipher_set_ctx_params(d);
            break;
        default:
            break;
        }
    }
    return x->f.newctx && x->f.freectx && x->f.init[0] && x->f.init[1] && x->f.update && x->f.final &&
           x->f.get && x->f.set;
}

enum err tls_crypto_new(struct tls_crypto **out)
{
    static const struct tls_crypto_ops ops = { posix_seal, posix_open, posix_hmac, posix_forget };
    static const char *const names[TLS_AEADS] = { "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305" };
    struct posix_tls_crypto *c = calloc(1, sizeof *c);
    if (!c)
        return ERR_NOMEM;
    c->base.ops = &ops;
    for (int i = 0; i < TLS_AEADS; i++) {
        struct cipher *x = &c->ciphers[i];
        bool ok = (x->type = EVP_CIPHER_fetch(NULL, names[i], NULL)) != NULL && find(x, names[i]);
        for (int k = 0; ok && k < 2; k++)
            ok = (x->ctx[k] = x->f.newctx(
                      OSSL_PROVIDER_get0_provider_ctx(EVP_CIPHER_get0_provider(x->type)))) != NULL;
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
        for (int k = 0; k < 2; k++)
            if (p->ciphers[i].ctx[k])
                p->ciphers[i].f.freectx(p->ciphers[i].ctx[k]);
        EVP_CIPHER_free(p->ciphers[i].type);
    }
    OPENSSL_cleanse(p, sizeof *p);
    free(p);
}
