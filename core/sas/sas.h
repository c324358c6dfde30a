/* core/sas/sas.h - shared access signatures of the IoT Hub kind: read, check, make; connection strings.
 *     SharedAccessSignature sr=<resource>&sig=<signature>&se=<unix seconds>[&skn=<policy>]    any order
 * Signed are the bytes of sr and se exactly as they came. Pure; C99; cryptography through struct crypto_ops.
 */
#ifndef ROOST_CORE_SAS_SAS_H
#define ROOST_CORE_SAS_SAS_H

#include "core/crypto/crypto.h"

#define SAS_POLICY_MAX 64u
#define SAS_KEY_MAX    64u   /* raw bytes of a key we make or keep */
#define SAS_TOKEN_MAX  1024u /* what sas_token_encode needs for the longest ids and names we accept */
#define SAS_SR_MAX     1024u /* longest resource a token may name */

struct sas_token {
    struct span sr, se; /* as received */
    uint8_t sig[SHA256_LEN];
    uint64_t expiry_s; /* fraction cut off */
    uint8_t policy[SAS_POLICY_MAX];
    uint8_t policy_len; /* 0: signed with the identity's key */
};
static inline struct span sas_policy(const struct sas_token *t)
{
    return span_of(t->policy, t->policy_len);
}

/* ERR_PROTO: not a token, a field missing or twice, a signature that is not 32 bytes; ERR_LIMIT: sr or skn
 * too long. Unknown fields are ignored. */
MUST_USE enum err sas_parse(struct span text, struct sas_token *out);

/* Is it signed with this key (raw bytes)? Constant time. An empty key signs nothing. */
bool sas_verify(const struct sas_token *t, const struct crypto_ops *c, struct span key);
/* now_s within expiry + skew. */
bool sas_is_live(const struct sas_token *t, uint64_t now_s, uint32_t skew_s);

/* What a token's resource reaches. names: host names served, NULL-terminated; host: one more that is
 * accepted (what the client called us), or empty. Hosts compare without case, ids byte for byte. */
struct sas_scope {
    const char *const *names;
    struct span host;
};
enum sas_reach {
    SAS_REACH_NONE = 0,
    SAS_REACH_HUB,    /* the host, or {host}/devices: for policy tokens only */
    SAS_REACH_DEVICE, /* {host}/devices/{device}; for a module: signed with its device's key */
    SAS_REACH_MODULE  /* {host}/devices/{device}/modules/{module} */
};
/* How the resource covers the identity (module empty: the device). */
enum sas_reach sas_audience(struct span sr, const struct sas_scope *scope, struct span device,
                            struct span module);
/* For service requests: the resource is the host or a prefix, by whole segments, of host + path
 * ("/devices/d1"; plain text, not encoded). */
bool sas_audience_covers(struct span sr, const struct sas_scope *scope, struct span path);

/* Make a token. resource: plain text, "host/devices/d1"; encoded here. key: raw bytes. policy may be empty.
 */
void sas_token_encode(struct wr *w, const struct crypto_ops *c, struct span resource, struct span key,
                      uint64_t expiry_s, struct span policy);
/* The resource of an identity, plain. */
void sas_resource_encode(struct wr *w, struct span host, struct span device, struct span module);

/* Connection strings: spans into the text, empty when absent. */
struct sas_connection {
    struct span host, device, module, gateway;
    struct span key; /* base64 */
    struct span policy;
    struct span signature; /* a ready token */
    bool x509;
};
/* ERR_PROTO: not key=value;..., a key twice or unknown, no HostName. */
MUST_USE enum err sas_connection_parse(struct span text, struct sas_connection *out);
void sas_connection_encode(struct wr *w, const struct sas_connection *c);

#endif
