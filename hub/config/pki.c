/* hub/config/pki.c - keys and certificates by OpenSSL. */
#include "hub/config/pki.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CA_DAYS = 20 * 365, SERVER_DAYS = 825, RSA_BITS = 2048 };

static enum err fail(const char *file, const char *what)
{
    char text[128] = "-";
    unsigned long e = ERR_peek_last_error();
    if (e)
        ERR_error_string_n(e, text, sizeof text);
    log_error("pki.failed", "file=%s step=%s errno=%d reason=%s", file, what, e ? 0 : errno, text);
    ERR_clear_error();
    return ERR_IO;
}

enum err file_make(const char *path, unsigned mode, struct span bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
    if (fd < 0)
        return errno == EEXIST ? ERR_EXISTS : ERR_IO;
    bool good = fchmod(fd, (mode_t)mode) == 0; /* whatever the umask is */
    while (good && bytes.n) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        good = n > 0 || (n < 0 && errno == EINTR);
        if (n > 0)
            bytes = span_skip(bytes, (size_t)n);
    }
    good = good && fsync(fd) == 0;
    int e = errno;
    if (close(fd) < 0)
        good = false;
    if (!good) {
        unlink(path);
        errno = e;
    }
    return good ? ERR_OK : ERR_IO;
}

/* What was written to the memory BIO goes to a file; b is freed. */
static enum err to_file(BIO *b, bool good, const char *path, unsigned mode)
{
    char *p = NULL;
    long n = b ? BIO_get_mem_data(b, &p) : 0;
    enum err e = good && n > 0 ? file_make(path, mode, span_of(p, (size_t)n)) : ERR_IO;
    if (e)
        fail(path, "write");
    if (p)
        OPENSSL_cleanse(p, (size_t)n);
    BIO_free(b);
    return e;
}

static enum err save_key(EVP_PKEY *key, const char *path)
{
    BIO *b = BIO_new(BIO_s_mem());
    return to_file(b, b && PEM_write_bio_PKCS8PrivateKey(b, key, NULL, NULL, 0, NULL, NULL) == 1, path, 0600);
}

/* `issuer` follows where the server shall send it along: a device that knows only the hash of the authority's
 * key can check the chain with nothing else. */
static enum err save_cert(X509 *x, X509 *issuer, const char *path)
{
    BIO *b = BIO_new(BIO_s_mem());
    bool good = b && PEM_write_bio_X509(b, x) == 1 && (!issuer || PEM_write_bio_X509(b, issuer) == 1);
    return to_file(b, good, path, 0644);
}

static X509 *load_cert(const char *path)
{
    FILE *f = fopen(path, "re");
    X509 *x = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    if (!x)
        fail(path, "read");
    if (f)
        fclose(f);
    return x;
}

static EVP_PKEY *load_key(const char *path)
{
    FILE *f = fopen(path, "re");
    EVP_PKEY *k = f ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;
    if (!k)
        fail(path, "read");
    if (f)
        fclose(f);
    return k;
}

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool good = e && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return good;
}

/* Everything but names, extensions and signature. */
static X509 *blank_cert(EVP_PKEY *key, long days, const char *common_name, const X509 *issuer)
{
    X509 *x = X509_new();
    uint8_t serial[16];
    BIGNUM *n = NULL;
    X509_NAME *name = x ? X509_get_subject_name(x) : NULL;
    bool good = x && RAND_bytes(serial, sizeof serial) == 1;
    if (good) {
        serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40);
        n = BN_bin2bn(serial, sizeof serial, NULL);
        good = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) &&
               X509_set_version(x, X509_VERSION_3) == 1 &&
               X509_gmtime_adj(X509_getm_notBefore(x), -86400) && /* clocks that are a little slow */
               X509_time_adj_ex(X509_getm_notAfter(x), (int)days, 0, NULL) && X509_set_pubkey(x, key) == 1 &&
               X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1,
                                          -1, 0) == 1 &&
               X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : name) == 1;
    }
    BN_free(n);
    if (!good) {
        X509_free(x);
        return NULL;
    }
    return x;
}

enum err pki_ca_new(const char *cert_file, const char *key_file)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = NULL;
    uint8_t tag[4];
    char name[40];
    enum err e = ERR_IO;
    if (!key || RAND_bytes(tag, sizeof tag) != 1)
        goto out;
    /* Each authority has a name of its own: two with the same name confuse those who trust both. */
    snprintf(name, sizeof name, "Roost CA %02x%02x%02x%02x", tag[0], tag[1], tag[2], tag[3]);
    x = blank_cert(key, CA_DAYS, name, NULL);
    if (!x || !add_extension(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:1") ||
        !add_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(x, x, NID_subject_key_identifier, "hash") || !X509_sign(x, key, EVP_sha256()))
        goto out;
    e = save_key(key, key_file);
    if (!e)
        e = save_cert(x, NULL, cert_file);
out:
    if (e)
        fail(cert_file, "make");
    X509_free(x);
    EVP_PKEY_free(key);
    return e;
}

enum err pki_ca_check(const char *cert_file, const char *key_file)
{
    X509 *x = load_cert(cert_file);
    EVP_PKEY *key = x ? load_key(key_file) : NULL;
    enum err e = !key                                                           ? ERR_IO
                 : X509_check_private_key(x, key) == 1 && X509_check_ca(x) == 1 ? ERR_OK
                                                                                : ERR_VERIFY;
    ERR_clear_error();
    EVP_PKEY_free(key);
    X509_free(x);
    return e;
}

/* Built by hand, not from text: a name cannot smuggle another one in. */
static bool add_names(X509 *x, const char *const *names, size_t nr)
{
    GENERAL_NAMES *all = GENERAL_NAMES_new();
    bool good = all != NULL;
    for (size_t i = 0; good && i < nr; i++) {
        unsigned char ip[16];
        int ip_len = inet_pton(AF_INET, names[i], ip) == 1    ? 4
                     : inet_pton(AF_INET6, names[i], ip) == 1 ? 16
                                                              : 0;
        GENERAL_NAME *g = GENERAL_NAME_new();
        ASN1_STRING *s = ASN1_STRING_type_new(ip_len ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
        good = g && s && ASN1_STRING_set(s, ip_len ? (const void *)ip : names[i], ip_len ? ip_len : -1) == 1;
        if (good) {
            GENERAL_NAME_set0_value(g, ip_len ? GEN_IPADD : GEN_DNS, s);
            s = NULL;
            good = sk_GENERAL_NAME_push(all, g) > 0;
            if (good)
                g = NULL;
        }
        ASN1_STRING_free(s);
        GENERAL_NAME_free(g);
    }
    good = good && X509_add1_ext_i2d(x, NID_subject_alt_name, all, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(all);
    return good;
}

enum err pki_server_new(enum pki_kind kind, const char *const *names, size_t name_nr,
                        const char *ca_cert_file, const char *ca_key_file, const char *cert_file,
                        const char *key_file)
{
    X509 *ca = load_cert(ca_cert_file), *x = NULL;
    EVP_PKEY *ca_key = ca ? load_key(ca_key_file) : NULL;
    EVP_PKEY *key = !ca_key ? NULL : kind == PKI_EC ? EVP_EC_gen("P-256") : EVP_RSA_gen(RSA_BITS);
    enum err e = ERR_IO;
    if (!key)
        goto out;
    x = blank_cert(key, SERVER_DAYS, strlen(names[0]) <= 64 ? names[0] : "roost hub", ca);
    if (!x || !add_extension(x, ca, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(x, ca, NID_key_usage,
                       kind == PKI_EC ? "critical,digitalSignature"
                                      : "critical,digitalSignature,keyEncipherment") ||
        !add_extension(x, ca, NID_ext_key_usage, "serverAuth") ||
        !add_extension(x, ca, NID_subject_key_identifier, "hash") ||
        !add_extension(x, ca, NID_authority_key_identifier, "keyid") || !add_names(x, names, name_nr) ||
        !X509_sign(x, ca_key, EVP_sha256()))
        goto out;
    e = save_key(key, key_file);
    if (!e)
        e = save_cert(x, ca, cert_file);
out:
    if (e)
        fail(cert_file, "make");
    X509_free(x);
    X509_free(ca);
    EVP_PKEY_free(key);
    EVP_PKEY_free(ca_key);
    return e;
}

enum err pki_pin(const char *cert_file, uint8_t pin[SHA256_LEN])
{
    X509 *x = load_cert(cert_file);
    uint8_t *der = NULL;
    unsigned len = SHA256_LEN;
    if (!x)
        return ERR_IO;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);
    enum err e = n > 0 && EVP_Digest(der, (size_t)n, pin, &len, EVP_sha256(), NULL) == 1
                     ? ERR_OK
                     : fail(cert_file, "pin");
    OPENSSL_free(der);
    X509_free(x);
    return e;
}

enum err pki_days_left(const char *cert_file, long *days)
{
    X509 *x = load_cert(cert_file);
    int d, s;
    if (!x)
        return ERR_IO;
    enum err e = ASN1_TIME_diff(&d, &s, NULL, X509_get0_notAfter(x)) == 1 ? ERR_OK : fail(cert_file, "dates");
    if (!e)
        *days = s < 0 && d == 0 ? -1 : d;
    X509_free(x);
    return e;
}

enum err pki_ed25519_new(const char *key_file)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    enum err e = key ? save_key(key, key_file) : fail(key_file, "make");
    EVP_PKEY_free(key);
    return e;
}

enum err pki_ed25519_load(const char *key_file, uint8_t seed[ED25519_KEY_LEN], uint8_t pub[ED25519_KEY_LEN])
{
    EVP_PKEY *key = load_key(key_file);
    size_t seed_len = ED25519_KEY_LEN, pub_len = ED25519_KEY_LEN;
    if (!key)
        return ERR_IO;
    enum err e = EVP_PKEY_get_id(key) == EVP_PKEY_ED25519 &&
                         EVP_PKEY_get_raw_private_key(key, seed, &seed_len) == 1 &&
                         EVP_PKEY_get_raw_public_key(key, pub, &pub_len) == 1
                     ? ERR_OK
                     : fail(key_file, "not an Ed25519 key");
    EVP_PKEY_free(key);
    return e;
}
