/* tests/fake/certificate_fixture.h - certificates for tests, made on the spot: authorities, what they sign,
 * and what signs itself. */
#ifndef ROOST_TESTS_FAKE_CERTIFICATE_FIXTURE_H
#define ROOST_TESTS_FAKE_CERTIFICATE_FIXTURE_H

#include "base/span.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct made {
    X509 *x;
    EVP_PKEY *key;
    uint8_t der[2048];
    size_t len;
};

#define DAY 86400L

struct made_how {
    const char *cn2;    /* a second common name, or NULL */
    long from, to;      /* seconds from now; 0 and 0: for a year */
    int rsa_bits;       /* 0: a key on P-256 */
    const char *digest; /* of the signature; NULL: SHA-256 */
};
/* by: NULL signs itself. */
static inline void make_how(struct made *m, const char *cn, const struct made *by, bool ca,
                            const struct made_how *how)
{
    static long serial = 1;
    X509 *x = X509_new();
    EVP_PKEY *key = how->rsa_bits ? EVP_RSA_gen((unsigned)how->rsa_bits) : EVP_EC_gen("P-256");
    const char *cn2 = how->cn2;
    long from = how->from || how->to ? how->from : -DAY, to = how->from || how->to ? how->to : 365 * DAY;
    X509_NAME *name = X509_get_subject_name(x);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x), from);
    X509_gmtime_adj(X509_getm_notAfter(x), to);
    if (cn)
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)cn, -1, -1, 0);
    if (cn2)
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)cn2, -1, -1, 0);
    X509_set_issuer_name(x, by ? X509_get_subject_name(by->x) : name);
    X509_set_pubkey(x, key);
    if (ca) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    if (X509_sign(x, by ? by->key : key, EVP_get_digestbyname(how->digest ? how->digest : "SHA256")) <= 0)
        abort();
    uint8_t *p = m->der;
    m->x = x;
    m->key = key;
    m->len = (size_t)i2d_X509(x, &p);
}
static inline void make_named(struct made *m, const char *cn, const char *cn2, const struct made *by, bool ca,
                              long from, long to)
{
    make_how(m, cn, by, ca, &(struct made_how){ .cn2 = cn2, .from = from, .to = to });
}
static inline void make(struct made *m, const char *cn, const struct made *by, bool ca)
{
    make_how(m, cn, by, ca, &(struct made_how){ 0 });
}
static inline struct span der(const struct made *m)
{
    return span_of(m->der, m->len);
}
/* As PEM text in the caller's memory. */
static inline struct span made_pem(const struct made *m, char *text, size_t cap)
{
    char *p = NULL;
    BIO *b = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(b, m->x);
    long n = BIO_get_mem_data(b, &p);
    if (n <= 0 || (size_t)n > cap)
        abort();
    memcpy(text, p, (size_t)n);
    BIO_free(b);
    return span_of(text, (size_t)n);
}
static inline void made_free(struct made *m)
{
    X509_free(m->x);
    EVP_PKEY_free(m->key);
}

#endif
