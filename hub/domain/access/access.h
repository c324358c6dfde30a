/* hub/domain/access/access.h - who may: shared access signatures of devices, modules and policies, and
 * certificates, against the registry. Keys are read from the store once and kept in a bounded cache, so that
 * a storm of connects or requests does not read the store each time; whoever writes an identity or a policy
 * calls access_forget afterwards. Source: protocol notes in docs/mqtt.md, "Credentials". */
#ifndef ROOST_HUB_DOMAIN_ACCESS_ACCESS_H
#define ROOST_HUB_DOMAIN_ACCESS_ACCESS_H

#include "core/sas/sas.h"
#include "hub/store/store.h"

#define ACCESS_GENERATION_MAX 64u
#define ACCESS_CACHE_DEFAULT  4096u /* identities and policies; about 250 bytes each */

struct hub;
struct access;

enum access_right { /* of a policy; bits */
                    ACCESS_REGISTRY_READ = 1,
                    ACCESS_REGISTRY_WRITE = 2,
                    ACCESS_SERVICE_CONNECT = 4,
                    ACCESS_DEVICE_CONNECT = 8
};

enum access_why { /* for logs and messages; peers learn no more than "refused" */
                  ACCESS_OK = 0,
                  ACCESS_NO_TOKEN,
                  ACCESS_BAD_TOKEN,   /* not the grammar of a shared access signature */
                  ACCESS_EXPIRED,     /* by more than the allowed skew */
                  ACCESS_AUDIENCE,    /* signed for something else */
                  ACCESS_UNKNOWN,     /* no such identity or policy */
                  ACCESS_DISABLED,    /* or waiting for approval */
                  ACCESS_NO_KEY,      /* the identity has no symmetric key */
                  ACCESS_SIGNATURE,   /* signed by neither key */
                  ACCESS_RIGHTS,      /* the policy lacks a right that is needed */
                  ACCESS_UNAVAILABLE, /* the store did not answer: try again later */
                  ACCESS_PROOF,       /* the identity proves itself another way: a token for a certificate */
                  ACCESS_CERTIFICATE, /* not the one, for someone else, or nobody registered stands behind it
                                       */
                  ACCESS_CERTIFICATE_DATES, /* not valid yet, or no more */
                  ACCESS_CERTIFICATE_WEAK   /* a key or signature that can be forged */
};
const char *access_why_name(enum access_why why);

/* One check: the asker's memory from start to done.
 * Without a token, the certificate `leaf` must be the identity's: by thumbprint, or signed by a registered
 * authority. A token, when there is one, is what counts. A module is refused when its device is disabled.
 * A device ("device" set, or left empty and taken from the audience of the token): its own key, or a policy
 * with DeviceConnect. With `policy_only` the token must be a policy's, with all of `rights`, good for `path`.
 * The first use of a key that bootstrap handed out clears device_row.issued_unused. */
struct access_check {
    struct store_op store; /* first; op.home and op.done by the asker. err: ERR_OK; ERR_DENIED, see why;
                              anything else: the store failed, nothing is known */
    struct hub *hub;
    /* in */
    struct span token;          /* "SharedAccessSignature sr=...": borrowed until done */
    struct span leaf, chain;    /* the peer's certificate (DER), and what it sent behind it; or empty */
    struct span host;           /* what the client called us, accepted in the audience besides our names */
    struct span device, module; /* borrowed until done, as all spans here */
    bool policy_only;
    bool key_text;    /* a policy's token may be signed with the text of the key (base64), too */
    uint32_t rights;  /* needed, all of them */
    struct span path; /* "/roost/v1/devices": what a policy's token must reach */
    /* out */
    enum access_why why;
    uint32_t granted;    /* rights of the policy that signed; 0: the device's own key */
    bool certificate;    /* proven by one */
    uint64_t expires_ms; /* wall: the end of the token, or of a signed certificate, without any grace */
    uint64_t proof;      /* stands for the key, thumbprint or authority behind it; 0: a policy's */
    uint16_t identity_len;
    uint8_t generation_len;
    char identity[2 * DEVICE_ID_MAX + 2]; /* "device" or "device/module" that is now proven */
    char generation[ACCESS_GENERATION_MAX];
    /* the check's own */
    struct sas_token parsed;
    uint64_t epochs[3], roots_epoch;
};
/* Any thread. done() runs in this call when the cache knows the answer, else when the store has been read;
 * in both cases on the thread that op.home belongs to (so the caller must be on it, or have no home). */
void access_start(struct access_check *c);

/* After a commit that wrote, disabled or deleted the identity ("device", "device/module"), or changed the
 * policy. Any thread. */
void access_forget(struct access *a, struct span identity);
void access_forget_policy(struct access *a, struct span name);
void access_forget_authorities(struct access *a); /* a certificate authority was registered or removed */

/* Has anything about the proven identity been announced (access_forget) since the check read it? Who attaches
 * a session to the bus only after the check asks this afterwards: what was announced in between woke nobody.
 * May also say yes for a neighbour's sake. */
bool access_is_stale(const struct access_check *c);

/* Is the identity still there and enabled, with this generation, and would what proved it (proof, of the
 * check) prove it again? For sessions that are told to look again. Same life as access_check. err: ERR_OK,
 * ERR_DENIED, or the store's. */
struct access_status {
    struct store_op store; /* first */
    struct hub *hub;
    struct span identity, generation; /* borrowed until done */
    uint64_t proof;
};
void access_status_start(struct access_status *s);

MUST_USE enum err access_new(struct access **out, const struct crypto_ops *crypto, size_t entries_max);
void access_free(struct access *a);

#endif
