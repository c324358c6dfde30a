/* hub/conn/tls_kdf_test.c - our provider's key schedule of TLS 1.3 beside OpenSSL's own: the same bytes for
 * every mode, hash, length and label; what it cannot do is refused; and the trace of RFC 8448, section 3. */
#include "hub/conn/tls_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants the four above */
#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>

static EVP_KDF *ours, *theirs;

static int fetch(void **state)
{
    (void)state;
    assert_non_null(tls_kdf_query());
    assert_non_null(ours = EVP_KDF_fetch(NULL, "TLS13-KDF", "provider=roost"));
    assert_non_null(theirs = EVP_KDF_fetch(NULL, "TLS13-KDF", "provider=default"));
    return 0;
}
static int let_go(void **state)
{
    (void)state;
    EVP_KDF_free(ours);
    EVP_KDF_free(theirs);
    return 0;
}

static int derive(EVP_KDF *kdf, int mode, const char *hash, struct span key, struct span salt,
                  struct span label, struct span data, uint8_t *out, size_t n)
{
    OSSL_PARAM p[8], *at = p;
    EVP_KDF_CTX *c = EVP_KDF_CTX_new(kdf);
    *at++ = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
    *at++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)hash, 0);
    if (key.p)
        *at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key.p, key.n);
    if (salt.p)
        *at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt.p, salt.n);
    *at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (void *)(uintptr_t) "tls13 ", 6);
    *at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (void *)(uintptr_t)label.p, label.n);
    if (data.p)
        *at++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_DATA, (void *)(uintptr_t)data.p, data.n);
    *at = OSSL_PARAM_construct_end();
    int r = EVP_KDF_derive(c, out, n, p);
    EVP_KDF_CTX_free(c);
    return r;
}

static void same(int mode, const char *hash, struct span key, struct span salt, struct span label,
                 struct span data, size_t n)
{
    uint8_t a[300] = { 1 }, b[300] = { 2 };
    assert_int_equal(derive(theirs, mode, hash, key, salt, label, data, a, n), 1);
    assert_int_equal(derive(ours, mode, hash, key, salt, label, data, b, n), 1);
    assert_memory_equal(a, b, n);
}

static void it_makes_what_openssl_makes(void **state)
{
    static const char *const hashes[] = { "SHA256", "SHA2-256", "SHA384", "SHA2-384" };
    uint8_t key[48], salt[48], data[48];
    (void)state;
    for (size_t i = 0; i < 48; i++) {
        key[i] = (uint8_t)(i * 7);
        salt[i] = (uint8_t)(i * 3 + 1);
        data[i] = (uint8_t)(i * 5 + 2);
    }
    for (size_t h = 0; h < 4; h++) {
        size_t len = h < 2 ? 32 : 48;
        struct span k = span_of(key, len), s = span_of(salt, len), d = span_of(data, len);
        static const size_t lengths[] = { 12, 16, 32, 48, 100, 255 };
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            same(EVP_KDF_HKDF_MODE_EXPAND_ONLY, hashes[h], k, SPAN_NONE, SPAN("c hs traffic"), d, lengths[i]);
        same(EVP_KDF_HKDF_MODE_EXPAND_ONLY, hashes[h], k, SPAN_NONE, SPAN("key"), SPAN_NONE, 16);
        same(EVP_KDF_HKDF_MODE_EXPAND_ONLY, hashes[h], k, SPAN_NONE,
             SPAN("a label that somebody made up for keying material, a long one"), d, 40);
        same(EVP_KDF_HKDF_MODE_EXTRACT_ONLY, hashes[h], k, SPAN_NONE, SPAN("derived"), SPAN_NONE, len);
        same(EVP_KDF_HKDF_MODE_EXTRACT_ONLY, hashes[h], k, s, SPAN("derived"), SPAN_NONE, len);
        same(EVP_KDF_HKDF_MODE_EXTRACT_ONLY, hashes[h], SPAN_NONE, s, SPAN("derived"), SPAN_NONE, len);
        same(EVP_KDF_HKDF_MODE_EXTRACT_ONLY, hashes[h], SPAN_NONE, SPAN_NONE, SPAN("derived"), SPAN_NONE,
             len);
        same(EVP_KDF_HKDF_MODE_EXTRACT_ONLY, hashes[h], span_of(key, 32), s, SPAN("derived"), SPAN_NONE, len);
    }
}

static void what_it_cannot_do_is_refused(void **state)
{
    uint8_t key[70] = { 0 }, out[80];
    struct span k = span_of(key, 32);
    (void)state;
    const int expand = EVP_KDF_HKDF_MODE_EXPAND_ONLY, extract = EVP_KDF_HKDF_MODE_EXTRACT_ONLY;
    assert_int_not_equal(derive(ours, expand, "SHA512", k, SPAN_NONE, SPAN("key"), SPAN_NONE, out, 16), 1);
    assert_int_not_equal(
        derive(ours, expand, "SHA256", span_of(key, 31), SPAN_NONE, SPAN("key"), SPAN_NONE, out, 16), 1);
    assert_int_not_equal(
        derive(ours, expand, "SHA256", SPAN_NONE, SPAN_NONE, SPAN("key"), SPAN_NONE, out, 16), 1);
    assert_int_not_equal(derive(ours, expand, "SHA256", k, SPAN_NONE, SPAN("key"), span_of(key, 65), out, 16),
                         1);
    assert_int_not_equal(derive(ours, extract, "SHA256", k, SPAN_NONE, SPAN("derived"), SPAN_NONE, out, 31),
                         1);
    assert_int_not_equal(
        derive(ours, extract, "SHA256", k, span_of(key, 48), SPAN("derived"), SPAN_NONE, out, 32), 1);
    assert_int_not_equal(derive(ours, EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND, "SHA256", k, SPAN_NONE,
                                SPAN("key"), SPAN_NONE, out, 32),
                         1);
}

/* The early secret without a PSK: RFC 8448, section 3. */
static void the_early_secret_of_rfc_8448(void **state)
{
    static const uint8_t early[32] = { 0x33, 0xad, 0x0a, 0x1c, 0x60, 0x7e, 0xc0, 0x3b, 0x09, 0xe6, 0xcd,
                                       0x98, 0x93, 0x68, 0x0c, 0xe2, 0x10, 0xad, 0xf3, 0x00, 0xaa, 0x1f,
                                       0x26, 0x60, 0xe1, 0xb2, 0x2e, 0x10, 0xf1, 0x70, 0xf9, 0x2a };
    uint8_t out[32];
    (void)state;
    assert_int_equal(derive(ours, EVP_KDF_HKDF_MODE_EXTRACT_ONLY, "SHA256", SPAN_NONE, SPAN_NONE,
                            SPAN("derived"), SPAN_NONE, out, 32),
                     1);
    assert_memory_equal(out, early, 32);
}

/* Only the two traffic secrets, and only while hands are shaken on this thread. */
static void traffic_secrets_are_remembered(void **state)
{
    uint8_t key[32] = { 5 }, data[32] = { 6 }, out[32], zero[TLS_SECRET_MAX] = { 0 };
    struct tls_ossl *o = calloc(1, sizeof *o);
    const int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    struct span k = span_of(key, 32), d = span_of(data, 32);
    (void)state;
    assert_int_equal(derive(ours, mode, "SHA256", k, SPAN_NONE, SPAN("c ap traffic"), d, out, 32), 1);
    assert_memory_equal(o->secret[TLS_IN], zero, sizeof zero);
    tls_shaking = o;
    assert_int_equal(derive(ours, mode, "SHA256", k, SPAN_NONE, SPAN("c hs traffic"), d, out, 32), 1);
    assert_int_equal(derive(ours, mode, "SHA256", k, SPAN_NONE, SPAN("s hs traffic"), d, out, 32), 1);
    assert_memory_equal(o->secret[TLS_IN], zero, sizeof zero);
    assert_int_equal(derive(ours, mode, "SHA256", k, SPAN_NONE, SPAN("c ap traffic"), d, out, 32), 1);
    assert_memory_equal(o->secret[TLS_IN], out, 32);
    assert_int_equal(o->secret_len[TLS_IN], 32);
    assert_int_equal(o->secret_len[TLS_OUT], 0);
    assert_int_equal(derive(ours, mode, "SHA256", k, SPAN_NONE, SPAN("s ap traffic"), d, out, 32), 1);
    assert_memory_equal(o->secret[TLS_OUT], out, 32);
    tls_shaking = NULL;
    free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_makes_what_openssl_makes),
        cmocka_unit_test(what_it_cannot_do_is_refused),
        cmocka_unit_test(the_early_secret_of_rfc_8448),
        cmocka_unit_test(traffic_secrets_are_remembered),
    };
    return cmocka_run_group_tests(tests, fetch, let_go);
}
