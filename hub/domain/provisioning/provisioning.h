/* hub/domain/provisioning/provisioning.h - first contact: what a blank device may prove, and what it gets for
 * it. Three policies, tried in this order: public key   the key is the identity: a signature by it is all the
 * proof there is, now and on every later hub; only to enter the fleet it needs a token or an approval, once
 *   fleet token  lets a device in at once; counted, limited in time and hardware, stored as a hash
 *   open         no proof: the device waits until an operator approves it (can be switched off)
 * A device without a public key gets its key again until it has used it; after that it proves itself with
 * the key, or an operator approves it once more. See docs/api.md, "POST /bootstrap".
 * Every decision has its line in the audit log, written in the same transaction. */
#ifndef ROOST_HUB_DOMAIN_PROVISIONING_PROVISIONING_H
#define ROOST_HUB_DOMAIN_PROVISIONING_PROVISIONING_H

#include "hub/domain/identity/identity.h"

#define PROVISIONING_PENDING_MAX 10000u /* devices that may wait for approval at one time */
#define FLEET_TOKEN_MAX          128u
#define FLEET_TOKENS_MAX         1000u
#define FLEET_TOKEN_MIN          20u

struct bootstrap_ask { /* all borrowed */
    struct span id;    /* proposed; empty: made from the public key */
    struct hardware hw;
    struct span public_key;    /* its signature has been checked; or empty */
    struct span token;         /* fleet token, or empty */
    struct span authorization; /* the device's shared access signature, or empty */
    uint32_t trust_version;    /* trust record it holds */
    struct span source;        /* where it asks from */
};
enum bootstrap_verdict {
    BOOTSTRAP_ASSIGNED,
    BOOTSTRAP_PENDING,   /* ask again later */
    BOOTSTRAP_DENIED,    /* the proof is wrong */
    BOOTSTRAP_FORBIDDEN, /* no proof would help now */
    BOOTSTRAP_BUSY,      /* too many are waiting for approval */
};
struct bootstrap_answer {
    enum bootstrap_verdict verdict;
    const char *code, *message; /* unless assigned or pending */
    struct device_row device;   /* assigned and pending: as it is now; lives in the arena */
    bool changed;               /* identity_announce it after the commit */
    struct span trust;          /* records after trust_version, oldest first, 4 KB at most */
};

/* Is `sig` by `pub` over "roost-bootstrap-v1\0" || body? */
bool provisioning_signature_ok(const struct hub *h, struct span pub, struct span body, struct span sig);
/* The id of a device that proposes none: from its public key, so any hub finds the same. 22 bytes. */
void provisioning_id_of_key(const struct hub *h, struct span pub, struct wr *w);

/* In run() of a write. A refusal is an answer, not an error. ERR_PROTO: neither id nor public key. */
MUST_USE enum err provisioning_decide(struct hub *h, struct store_tx *tx, struct arena *a,
                                      const struct bootstrap_ask *ask, struct bootstrap_answer *out);
/* Counts the verdict; after the commit. */
void provisioning_count(struct hub *h, enum bootstrap_verdict v);

/* Fleet tokens. `text` empty: a new one is made (in the arena, the only time it is seen); given: an operator
 * brings the token of an earlier hub. ERR_EXISTS: the name is taken. ERR_LIMIT: bad name or text. ERR_FULL:
 * there are FLEET_TOKENS_MAX. */
struct fleet_token {
    struct span name, text, hardware; /* hardware "" or "product:class" */
    uint64_t uses;                    /* UINT64_MAX: no limit */
    uint64_t expires_ms;              /* 0: never */
};
MUST_USE enum err fleet_token_create(struct hub *h, struct store_tx *tx, struct arena *a,
                                     struct fleet_token *t);
MUST_USE enum err fleet_token_delete(struct store_tx *tx, struct span name); /* ERR_NOTFOUND */

#endif
