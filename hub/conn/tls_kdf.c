/* hub/conn/tls_kdf.c - the TLS 1.3 key schedule as a provider of OpenSSL's: it asks for the function
 * TLS13-KDF some fourteen times a handshake. Ours is two or three HMACs and nothing else; and the traffic
 * secrets are seen where they are made. RFC 8446, section 7.1; the parameters are those of OpenSSL's
 * EVP_KDF-TLS13_KDF. */
#include "hub/conn/tls_impl.h"

#include "port/tls_crypto.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <pthread.h>
#include <stdlib.h>

_Thread_local struct tls_ossl *tls_shaking;

enum { PREFIX_MAX = 16, LABEL_MAX = 249 - PREFIX_MAX };
struct kdf { /* what has been set; all of it is copied */
    int mode;
    bool has_key, has_salt, has_hash;
    enum tls_hash hash;
    size_t key_len, salt_len, data_len, prefix_len, label_len;
    uint8_t key[64], salt[64], data[64], prefix[PREFIX_MAX], label[LABEL_MAX];
};

static void *kdf_new(void *provider)
{
    (void)provider;
    return calloc(1, sizeof(struct kdf));
}

static void kdf_free(void *p)
{
    if (p)
        tls_wipe(p, sizeof(struct kdf));
    free(p);
}

static void kdf_reset(void *p)
{
    tls_wipe(p, sizeof(struct kdf));
}

static bool put(const OSSL_PARAM *p, uint8_t *to, size_t cap, size_t *len)
{
    if (p->data_type != OSSL_PARAM_OCTET_STRING || p->data_size > cap)
        return false;
    if (p->data_size)
        memcpy(to, p->data, p->data_size);
    *len = p->data_size;
    return true;
}

static int kdf_set(void *ctx, const OSSL_PARAM params[])
{
    struct kdf *k = ctx;
    bool ok = true;
    for (const OSSL_PARAM *p = params; ok && p && p->key; p++) {
        if (strcmp(p->key, OSSL_KDF_PARAM_MODE) == 0) {
            ok = OSSL_PARAM_get_int(p, &k->mode) == 1;
        } else if (strcmp(p->key, OSSL_KDF_PARAM_DIGEST) == 0) {
            const char *name = NULL;
            ok = OSSL_PARAM_get_utf8_string_ptr(p, &name) == 1;
            k->hash = ok && strstr(name, "384") ? TLS_SHA384 : TLS_SHA256;
            k->has_hash = ok = ok && (strstr(name, "384") || strstr(name, "256"));
        } else if (strcmp(p->key, OSSL_KDF_PARAM_KEY) == 0) {
            k->has_key = ok = put(p, k->key, sizeof k->key, &k->key_len);
        } else if (strcmp(p->key, OSSL_KDF_PARAM_SALT) == 0) {
            k->has_salt = ok = put(p, k->salt, sizeof k->salt, &k->salt_len);
        } else if (strcmp(p->key, OSSL_KDF_PARAM_DATA) == 0) {
            ok = put(p, k->data, sizeof k->data, &k->data_len);
        } else if (strcmp(p->key, OSSL_KDF_PARAM_PREFIX) == 0) {
            ok = put(p, k->prefix, sizeof k->prefix, &k->prefix_len);
        } else if (strcmp(p->key, OSSL_KDF_PARAM_LABEL) == 0) {
            ok = put(p, k->label, sizeof k->label, &k->label_len);
        }
    }
    return ok;
}

/* HKDF-Expand-Label [RFC 8446, 7.1], HKDF-Expand [RFC 5869, 2.3]. */
static void expand(const struct kdf *k, const uint8_t *secret, struct span data, uint8_t *out, size_t n)
{
    uint8_t head[LABEL_MAX + PREFIX_MAX + 8], block[TLS_SECRET_MAX], data_len = (uint8_t)data.n, nr = 1;
    struct wr w = { head, sizeof head, 0 };
    size_t len = tls_hash_len(k->hash);
    wr_be16(&w, (uint16_t)n);
    wr_u8(&w, (uint8_t)(k->prefix_len + k->label_len));
    wr_put(&w, span_of(k->prefix, k->prefix_len));
    wr_put(&w, span_of(k->label, k->label_len));
    for (size_t at = 0; at < n; at += len, nr++) {
        const struct span parts[5] = { span_of(block, at ? len : 0), wr_span(&w), span_of(&data_len, 1), data,
                                       span_of(&nr, 1) };
        tls_hmac(k->hash, span_of(secret, len), parts, 5, block);
        memcpy(out + at, block, n - at < len ? n - at : len);
    }
    tls_wipe(block, sizeof block);
}

static void remember(const struct kdf *k, const uint8_t *out, size_t n)
{
    struct span label = span_of(k->label, k->label_len);
    int i = span_eq(label, SPAN("c ap traffic"))   ? TLS_IN
            : span_eq(label, SPAN("s ap traffic")) ? TLS_OUT
                                                   : -1;
    if (i < 0 || !tls_shaking || n > TLS_SECRET_MAX)
        return;
    memcpy(tls_shaking->secret[i], out, n);
    tls_shaking->secret_len[i] = (uint8_t)n;
}

static int kdf_derive(void *ctx, unsigned char *out, size_t n, const OSSL_PARAM params[])
{
    struct kdf *k = ctx;
    uint8_t salt[TLS_SECRET_MAX] = { 0 }, empty[TLS_SECRET_MAX];
    static const uint8_t zeros[TLS_SECRET_MAX];
    if (!kdf_set(k, params) || !k->has_hash)
        return 0;
    size_t len = tls_hash_len(k->hash);
    if (k->mode == EVP_KDF_HKDF_MODE_EXPAND_ONLY) {
        if (!k->has_key || k->key_len != len || n > 255 * len)
            return 0;
        expand(k, k->key, span_of(k->data, k->data_len), out, n);
        remember(k, out, n);
        return 1;
    }
    if (k->mode != EVP_KDF_HKDF_MODE_EXTRACT_ONLY || n != len || (k->has_salt && k->salt_len != len))
        return 0;
    if (k->has_salt) { /* Derive-Secret(., "derived", "") */
        size_t hash_len = 0;
        if (EVP_Q_digest(NULL, k->hash == TLS_SHA256 ? "SHA256" : "SHA384", NULL, "", 0, empty, &hash_len) !=
            1)
            return 0;
        expand(k, k->salt, span_of(empty, hash_len), salt, len);
    }
    struct span key = k->has_key ? span_of(k->key, k->key_len) : span_of(zeros, len);
    tls_hmac(k->hash, span_of(salt, len), &key, 1, out);
    tls_wipe(salt, sizeof salt);
    return 1;
}

static const OSSL_PARAM *kdf_settable(void *ctx, void *provider)
{
    static const OSSL_PARAM known[] = { OSSL_PARAM_int(OSSL_KDF_PARAM_MODE, NULL),
                                        OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_KEY, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_SALT, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_DATA, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_PREFIX, NULL, 0),
                                        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_LABEL, NULL, 0),
                                        OSSL_PARAM_END };
    (void)ctx;
    (void)provider;
    return known;
}

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_store)
{
    static const OSSL_DISPATCH functions[] = { { OSSL_FUNC_KDF_NEWCTX, (void (*)(void))kdf_new },
                                               { OSSL_FUNC_KDF_FREECTX, (void (*)(void))kdf_free },
                                               { OSSL_FUNC_KDF_RESET, (void (*)(void))kdf_reset },
                                               { OSSL_FUNC_KDF_DERIVE, (void (*)(void))kdf_derive },
                                               { OSSL_FUNC_KDF_SET_CTX_PARAMS, (void (*)(void))kdf_set },
                                               { OSSL_FUNC_KDF_SETTABLE_CTX_PARAMS,
                                                 (void (*)(void))kdf_settable },
                                               { 0, NULL } };
    static const OSSL_ALGORITHM algorithms[] = { { "TLS13-KDF", "provider=roost", functions, NULL },
                                                 { NULL, NULL, NULL, NULL } };
    (void)provider;
    *no_store = 0;
    return operation == OSSL_OP_KDF ? algorithms : NULL;
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
                         void **provider)
{
    static const OSSL_DISPATCH functions[] = { { OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query },
                                               { 0, NULL } };
    (void)in;
    *out = functions;
    *provider = (void *)(uintptr_t)handle;
    return 1;
}

static OSSL_PROVIDER *loaded; /* as long as the program runs */

static void load(void)
{
    if (OSSL_PROVIDER_add_builtin(NULL, "roost", provider_init) == 1)
        loaded = OSSL_PROVIDER_try_load(NULL, "roost", 1); /* 1: the default ones stay */
}

const char *tls_kdf_query(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return loaded ? "?provider=roost" : NULL;
}
