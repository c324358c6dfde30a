/* hub/domain/access/certificate.h - what identities need of X.509: who a certificate speaks for, its
 * thumbprints, and whether a registered authority stands behind it. The one place where the domain parses
 * certificates (OpenSSL does it). No state but the roots, which are never changed once made: any thread.
 * Source: RFC 5280; thumbprints are hashes over the whole DER. */
#ifndef ROOST_HUB_DOMAIN_ACCESS_CERTIFICATE_H
#define ROOST_HUB_DOMAIN_ACCESS_CERTIFICATE_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

#define CERTIFICATE_DER_MAX   16384u /* one certificate */
#define CERTIFICATE_CHAIN_MAX 16384u /* what a peer sends behind its own, all together */
#define CERTIFICATE_DEPTH_MAX 8
#define CERTIFICATE_NAME_MAX  256u

/* The hash over der that has as many bytes as `thumb` (20: SHA-1, 32: SHA-256), compared in constant time. */
bool certificate_has_thumbprint(struct span der, struct span thumb);

struct certificate_facts {
    char subject[CERTIFICATE_NAME_MAX];   /* for people, cut when longer */
    uint64_t not_before_ms, not_after_ms; /* wall */
    bool is_ca;                           /* it may sign others */
    bool is_weak;                         /* its key or the signature on it has less than 112 bits */
    uint8_t sha256[32];
};
/* ERR_PROTO: not one certificate and nothing else. */
MUST_USE enum err certificate_facts(struct span der, struct certificate_facts *out);
/* The first certificate of a PEM text. ERR_PROTO: there is none; ERR_LIMIT: larger than cap. */
MUST_USE enum err certificate_from_pem(struct span pem, uint8_t *der, size_t cap, size_t *len);

/* Authorities that are trusted, ready to check against. */
struct certificate_roots;
MUST_USE enum err certificate_roots_new(struct certificate_roots **out);
/* ERR_PROTO: not a certificate. Only before the first check. */
MUST_USE enum err certificate_roots_add(struct certificate_roots *r, struct span der);
struct certificate_roots *certificate_roots_ref(struct certificate_roots *r); /* any thread */
void certificate_roots_unref(struct certificate_roots *r);                    /* accepts NULL */

enum certificate_verdict {
    CERTIFICATE_OK = 0,
    CERTIFICATE_BAD,       /* cannot be parsed */
    CERTIFICATE_NAME,      /* speaks for another one */
    CERTIFICATE_UNTRUSTED, /* no registered authority behind it */
    CERTIFICATE_DATES,     /* it, or one above it, is not valid yet or no more */
    CERTIFICATE_WEAK       /* a key or a signature of the chain has less than 112 bits of strength */
};
struct certificate_proof {
    uint64_t not_after_ms; /* wall: the end of the leaf */
    uint8_t authority[32]; /* certificate_hash of the one that was found registered */
};
/* Does `leaf` speak for `name` (its only common name, byte for byte), and lead over `chain` (DER after DER,
 * what the peer sent behind it) to one of the roots, all valid at now_s? Strength as OpenSSL's level 2: RSA
 * from 2048 bits, curves from 224, no signatures over SHA-1 or MD5. *out is written on CERTIFICATE_OK. */
enum certificate_verdict certificate_check(struct certificate_roots *roots, struct span leaf,
                                           struct span chain, struct span name, uint64_t now_s,
                                           struct certificate_proof *out);
/* SHA-256 over all of it. False: no memory. */
MUST_USE bool certificate_hash(struct span der, uint8_t out[32]);

#endif
