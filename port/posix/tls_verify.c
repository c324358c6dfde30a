/* port/posix/tls_verify.c - which certificate chains are believed. With a pin the chain is judged by
 * OpenSSL as always (dates, signatures, purpose, name), only the set of trust anchors is replaced by the
 * one CA certificate that has the pinned key. */
#include "port/posix/tls_client.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

static bool has_pin(X509 *cert, const uint8_t pin[TLS_PIN_LEN])
{
    unsigned char *der = NULL, hash[EVP_MAX_MD_SIZE];
    unsigned hash_len = 0;
    int der_len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    bool same = der_len > 0 && EVP_Digest(der, (size_t)der_len, hash, &hash_len, EVP_sha256(), NULL) == 1 &&
                hash_len == TLS_PIN_LEN && CRYPTO_memcmp(hash, pin, TLS_PIN_LEN) == 0;
    OPENSSL_free(der);
    return same;
}

/* A CA certificate of the list with that key: a leaf that happens to be pinned is no authority. */
static X509 *find_pinned(STACK_OF(X509) * certs, const uint8_t pin[TLS_PIN_LEN])
{
    for (int i = 0; i < sk_X509_num(certs); i++) {
        X509 *cert = sk_X509_value(certs, i);
        if (X509_check_ca(cert) == 1 && has_pin(cert, pin))
            return cert;
    }
    return NULL;
}

static void learn(struct tls_client *t, X509 *ca)
{
    for (int i = 0; i < sk_X509_num(t->ca); i++)
        if (X509_cmp(sk_X509_value(t->ca, i), ca) == 0)
            return;
    if ((unsigned)sk_X509_num(t->ca) >= TLS_CA_MAX)
        X509_free(sk_X509_shift(t->ca));
    if (X509_up_ref(ca) && sk_X509_push(t->ca, ca) == 0)
        X509_free(ca);
}

int tls_verify_chain(struct tls_client *t, const uint8_t *pin, X509_STORE_CTX *x)
{
    if (!pin)
        return X509_verify_cert(x);
    X509 *ca = find_pinned(X509_STORE_CTX_get0_untrusted(x), pin);
    if (!ca)
        ca = find_pinned(t->ca, pin);
    if (!ca) {
        X509_STORE_CTX_set_error(x, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
        return 0;
    }
    STACK_OF(X509) *anchors = sk_X509_new_null();
    if (!anchors || !sk_X509_push(anchors, ca)) {
        sk_X509_free(anchors);
        X509_STORE_CTX_set_error(x, X509_V_ERR_OUT_OF_MEM);
        return 0;
    }
    X509_STORE_CTX_set0_trusted_stack(x, anchors);
    /* The pinned CA may itself be signed by another one: trust ends at it all the same. */
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(x), X509_V_FLAG_PARTIAL_CHAIN);
    X509_up_ref(ca);
    int ok = X509_verify_cert(x);
    /* Partial chains also end at any certificate that *is* in the anchor set, and nothing else is; still
     * say it in one place: the last certificate of what was built is the pinned one. */
    if (ok == 1) {
        STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(x);
        X509 *last = sk_X509_value(chain, sk_X509_num(chain) - 1);
        if (!last || !has_pin(last, pin)) {
            X509_STORE_CTX_set_error(x, X509_V_ERR_CERT_UNTRUSTED);
            ok = 0;
        }
    }
    if (ok == 1)
        learn(t, ca);
    X509_free(ca);
    X509_STORE_CTX_set0_trusted_stack(x, NULL);
    sk_X509_free(anchors);
    return ok;
}

static int on_foreign_chain(X509_STORE_CTX *x, void *arg)
{
    struct tls_pin *p = (struct tls_pin *)arg;
    return tls_verify_chain(p->client, p->pin, x);
}

void tls_pin_apply(struct tls_pin *p, void *ssl_ctx)
{
    SSL_CTX_set_cert_verify_callback((SSL_CTX *)ssl_ctx, on_foreign_chain, p);
}

enum err tls_client_store_ca(struct tls_client *t, struct span pem)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    enum err e = bio ? ERR_PROTO : ERR_NOMEM;
    X509 *cert;
    while (bio && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        learn(t, cert);
        X509_free(cert);
        e = ERR_OK;
    }
    ERR_clear_error(); /* the end of the text is reported as an error */
    BIO_free(bio);
    return e;
}

enum err tls_client_stored_ca(const struct tls_client *t, const uint8_t pin[TLS_PIN_LEN], struct wr *pem)
{
    X509 *ca = find_pinned(t->ca, pin);
    if (!ca)
        return ERR_NOTFOUND;
    BIO *bio = BIO_new(BIO_s_mem());
    char *p = NULL;
    enum err e = ERR_NOMEM;
    if (bio && PEM_write_bio_X509(bio, ca)) {
        long n = BIO_get_mem_data(bio, &p);
        wr_put(pem, span_of(p, (size_t)n));
        e = wr_ok(pem) ? ERR_OK : ERR_LIMIT;
    }
    BIO_free(bio);
    return e;
}
