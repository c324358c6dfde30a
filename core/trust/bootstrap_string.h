/* core/trust/bootstrap_string.h - the one thing a blank device is given: where the hub is, and by what it is
 * known. Public, holds no secret. Pure, C99.
 *
 *   https://HOST[:PORT]#ca=<64 hex>[&root=<64 hex>]
 *
 * ca: SHA-256 of the SubjectPublicKeyInfo (DER) of the certificate authority that signed the hub's
 * certificate. root: trust_record_root_pin() of the first trust record the device shall accept. */
#ifndef ROOST_CORE_TRUST_BOOTSTRAP_STRING_H
#define ROOST_CORE_TRUST_BOOTSTRAP_STRING_H

#include "core/crypto/crypto.h"

#define BOOTSTRAP_HOST_MAX   253u
#define BOOTSTRAP_STRING_MAX (8u + BOOTSTRAP_HOST_MAX + 2u + 6u + 4u + 64u + 6u + 64u)

struct bootstrap_string {
    struct span url;  /* "https://host[:port]", as it stands */
    struct span host; /* an IPv6 address without its brackets */
    uint16_t port;    /* 443 when none is given */
    uint8_t ca_pin[SHA256_LEN];
    bool has_root;
    uint8_t root_pin[SHA256_LEN];
};

/* Spans point into `text`. ERR_PROTO: not of this form; ERR_LIMIT: host too long. */
MUST_USE enum err bootstrap_string_decode(struct span text, struct bootstrap_string *out);
/* Writes from host, port, pins; `url` is not looked at. The port is left out when it is 443. */
void bootstrap_string_encode(struct wr *w, const struct bootstrap_string *b);

#endif
