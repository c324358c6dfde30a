/* hub/domain/access/certificate.c - see certificate.h. */
#include "hub/domain/access/certificate.h"

#include "base/text.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define AUTH_LEVEL 2 /* of OpenSSL: 112 bits */
#define LEAST_BITS 112

bool certificate_hash(struct span der, uint8_t out[32])
{
    return EVP_Digest(der.p, der.n, out, NULL, EVP_sha256(), NULL) == 1;
}

bool certificate_has_thumbprint(struct span der, struct span thumb)
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    const EVP_MD *md = thumb.n == 20 ? EVP_sha1() : thumb.n == 32 ? EVP_sha256() : NULL;
    return md && EVP_Digest(der.p, der.n, hash, &len, md, NULL) == 1 && span_eq_ct(span_of(hash, len), thumb);
}

/* NULL: not one certificate and nothing else. */
static X509 *parse_next(struct span *in)
{
    const unsigned char *p = in->p;
    X509 *x = in->n && in->n <= CERTIFICATE_DER_MAX ? d2i_X509(NULL, &p, (long)in->n) : NULL;
    if (x)
        *in = span_skip(*in, (size_t)(p - in->p));
    ERR_clear_error();
    return x;
}

static X509 *parse(struct span der)
{
    X509 *x = parse_next(&der);
    if (x && der.n) {
        X509_free(x);
        x = NULL;
    }
    return x;
}

static uint64_t wall_of(const ASN1_TIME *t)
{
    struct tm tm;
    time_t s = ASN1_TIME_to_tm(t, &tm) == 1 ? timegm(&tm) : 0;
    return s > 0 ? (uint64_t)s * 1000 : 0;
}

/* The same bound as AUTH_LEVEL, for one certificate. What OpenSSL does not know counts as nothing. */
static bool is_weak(X509 *x)
{
    int bits = 0;
    EVP_PKEY *key = X509_get0_pubkey(x);
    return !key || EVP_PKEY_get_security_bits(key) < LEAST_BITS ||
           X509_get_signature_info(x, NULL, NULL, &bits, NULL) != 1 || bits < LEAST_BITS;
}

enum err certificate_facts(struct span der, struct certificate_facts *out)
{
    struct certificate_facts f = { .is_ca = false };
    unsigned len = 0;
    X509 *x = parse(der);
    if (!x)
        return ERR_PROTO;
    X509_NAME_oneline(X509_get_subject_name(x), f.subject, sizeof f.subject);
    f.not_before_ms = wall_of(X509_get0_notBefore(x));
    f.not_after_ms = wall_of(X509_get0_notAfter(x));
    f.is_ca = X509_check_ca(x) > 0;
    f.is_weak = is_weak(x);
    bool ok = EVP_Digest(der.p, der.n, f.sha256, &len, EVP_sha256(), NULL) == 1;
    X509_free(x);
    ERR_clear_error();
    if (!ok)
        return ERR_NOMEM;
    *out = f;
    return ERR_OK;
}

enum err certificate_from_pem(struct span pem, uint8_t *der, size_t cap, size_t *len)
{
    BIO *in = pem.n && pem.n <= INT32_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    X509 *x = in ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;
    enum err e = ERR_PROTO;
    BIO_free(in);
    ERR_clear_error();
    int n = x ? i2d_X509(x, NULL) : 0;
    if (n > 0 && (size_t)n > cap) {
        e = ERR_LIMIT;
    } else if (n > 0) {
        unsigned char *p = der;
        *len = (size_t)i2d_X509(x, &p);
        e = ERR_OK;
    }
    X509_free(x);
    return e;
}

/* ---- authorities ------------------------------------------------------------------------------------- */

struct certificate_roots {
    atomic_uint refs;
    X509_STORE *store;
};

enum err certificate_roots_new(struct certificate_roots **out)
{
    struct certificate_roots *r = calloc(1, sizeof *r);
    if (!r)
        return ERR_NOMEM;
    atomic_init(&r->refs, 1);
    r->store = X509_STORE_new();
    if (!r->store) {
        free(r);
        return ERR_NOMEM;
    }
    *out = r;
    return ERR_OK;
}

enum err certificate_roots_add(struct certificate_roots *r, struct span der)
{
    X509 *x = parse(der);
    if (!x)
        return ERR_PROTO;
    int ok = X509_STORE_add_cert(r->store, x); /* one that is there already is fine */
    X509_free(x);
    ERR_clear_error();
    return ok == 1 ? ERR_OK : ERR_NOMEM;
}

struct certificate_roots *certificate_roots_ref(struct certificate_roots *r)
{
    atomic_fetch_add(&r->refs, 1);
    return r;
}

void certificate_roots_unref(struct certificate_roots *r)
{
    if (!r || atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    X509_STORE_free(r->store);
    free(r);
}

/* ---- one certificate --------------------------------------------------------------------------------- */

static bool speaks_for(const X509 *x, struct span name)
{
    const X509_NAME *subject = X509_get_subject_name(x);
    unsigned char *text = NULL;
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return false;
    int n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    bool same = n >= 0 && span_eq(span_of(text, (size_t)n), name);
    OPENSSL_free(text);
    return same;
}

static enum certificate_verdict verdict_of(int why)
{
    switch (why) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return CERTIFICATE_DATES;
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_CA_MD_TOO_WEAK:
        return CERTIFICATE_WEAK;
    default:
        return CERTIFICATE_UNTRUSTED;
    }
}

/* authority: the hash of the registered one that the chain ends in. */
static enum certificate_verdict verify(struct certificate_roots *roots, X509 *leaf, STACK_OF(X509) * chain,
                                       uint64_t now_s, uint8_t authority[32])
{
    enum certificate_verdict v = CERTIFICATE_BAD;
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (ctx && X509_STORE_CTX_init(ctx, roots->store, leaf, chain) == 1) {
        X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(ctx);
        /* What is registered is trusted, whether it signed itself or not. */
        X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_PARTIAL_CHAIN);
        X509_VERIFY_PARAM_set_purpose(p, X509_PURPOSE_SSL_CLIENT);
        X509_VERIFY_PARAM_set_depth(p, CERTIFICATE_DEPTH_MAX);
        X509_VERIFY_PARAM_set_auth_level(p, AUTH_LEVEL);
        X509_VERIFY_PARAM_set_time(p, (time_t)now_s);
        if (X509_verify_cert(ctx) == 1) {
            STACK_OF(X509) *way = X509_STORE_CTX_get0_chain(ctx);
            const X509 *end = sk_X509_value(way, sk_X509_num(way) - 1);
            v = X509_digest(end, EVP_sha256(), authority, NULL) == 1 ? CERTIFICATE_OK : CERTIFICATE_BAD;
        } else {
            v = verdict_of(X509_STORE_CTX_get_error(ctx));
        }
    }
    X509_STORE_CTX_free(ctx);
    ERR_clear_error();
    return v;
}

enum certificate_verdict certificate_check(struct certificate_roots *roots, struct span leaf,
                                           struct span chain, struct span name, uint64_t now_s,
                                           struct certificate_proof *out)
{
    struct certificate_proof proof;
    enum certificate_verdict v = CERTIFICATE_BAD;
    STACK_OF(X509) *rest = sk_X509_new_null();
    X509 *x = parse(leaf), *more;
    if (!rest || !x || chain.n > CERTIFICATE_CHAIN_MAX)
        goto out;
    while (chain.n) {
        more = parse_next(&chain);
        if (!more || sk_X509_num(rest) >= 2 * CERTIFICATE_DEPTH_MAX || !sk_X509_push(rest, more)) {
            X509_free(more);
            goto out;
        }
    }
    v = speaks_for(x, name) ? verify(roots, x, rest, now_s, proof.authority) : CERTIFICATE_NAME;
    if (v == CERTIFICATE_OK) {
        proof.not_after_ms = wall_of(X509_get0_notAfter(x));
        *out = proof;
    }
out:
    X509_free(x);
    sk_X509_pop_free(rest, X509_free);
    return v;
}
