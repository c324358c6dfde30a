/* hub/store/rows_identity.h - rows of the hub itself, of devices and modules, and of what proves who they
 * are. Included by store.h, which says what holds for all tables. */
#ifndef ROOST_HUB_STORE_ROWS_IDENTITY_H
#define ROOST_HUB_STORE_ROWS_IDENTITY_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

struct store_tx;

#define DEVICE_ID_MAX  128u
#define DEVICE_KEY_MAX 64u

enum identity_auth {                   /* what an identity proves itself with */
                     AUTH_SAS = 0,     /* symmetric keys */
                     AUTH_SELF_SIGNED, /* a certificate with one of the thumbprints */
                     AUTH_CA,          /* a certificate that a registered authority signed */
                     AUTH_NONE         /* it cannot: modules that come in through their device */
};
enum device_status { DEVICE_ENABLED = 0, DEVICE_DISABLED = 1, DEVICE_PENDING = 2 /* waits for approval */ };
struct device_row {
    struct span id;
    uint8_t status;                  /* enum device_status */
    struct span key1, key2;          /* symmetric keys, raw bytes; empty: none */
    struct span public_key;          /* Ed25519, 32 bytes, or empty */
    struct span generation;          /* generationId: text, another one after delete and create */
    uint64_t etag;                   /* raised by every put */
    uint64_t created_ms, updated_ms; /* wall */
    struct span product;
    uint16_t hw_class;
    uint8_t hw_rev;
    struct span origin; /* how it came: "token:NAME", "open", "operator" */
    bool issued_unused; /* its key was handed out and has not been used yet (bootstrap retries) */
    /* in the order of creation, devices and modules together; given by the store, kept by every put */
    uint64_t seq;
    uint8_t auth;               /* enum identity_auth */
    struct span thumb1, thumb2; /* certificate thumbprints, hex as given; empty: none */
    struct span status_reason;  /* text, empty: none */
    uint64_t status_updated_ms; /* wall; 0: since it was made */
    bool edge;
    struct span scope, parent_scope; /* of edge devices and what stands behind them; empty: none */
};
struct module_row { /* an identity inside a device: "device/module" */
    struct span device, id;
    uint64_t seq;           /* as device_row.seq */
    struct span managed_by; /* text, empty: nobody */
    uint8_t auth;           /* enum identity_auth; key1 to etag as in device_row */
    struct span key1, key2;
    struct span thumb1, thumb2;
    struct span generation;
    uint64_t etag;
    uint64_t created_ms, updated_ms; /* wall */
};
struct ca_row { /* a certificate authority whose signature proves who a device is */
    struct span name, der;
    uint64_t created_ms; /* wall */
    uint64_t etag;       /* raised by every put */
};
struct identity_seen { /* what the hub sees of a device or module */
    bool connected;    /* this and what follows as in report_row */
    uint64_t connected_changed_ms, activity_ms;
    uint64_t waiting; /* messages to it, broadcasts included */
};
struct session_row {   /* a persistent MQTT session: the subscription set, nothing else */
    struct span id;    /* identity */
    uint32_t channels; /* two bits a channel: 0 none, 1 + granted QoS (core/topic/topic.h) */
};
struct token_row {                   /* a fleet token: what a blank device may prove itself with */
    struct span name, hash;          /* hash: SHA-256 of the token; the token itself is never stored */
    struct span hardware;            /* "product:class" it is good for, empty: any */
    uint64_t created_ms, expires_ms; /* 0: never */
    uint64_t uses_left;              /* UINT64_MAX: no limit */
};
struct policy_row { /* shared access policy */
    struct span name, key1, key2;
    uint32_t rights; /* enum access_right bits of the domain */
};

typedef enum err device_each(void *ctx, const struct device_row *r);
typedef enum err device_seen_each(void *ctx, const struct device_row *r, const struct identity_seen *seen);
typedef enum err module_each(void *ctx, const struct module_row *r);
typedef enum err ca_each(void *ctx, const struct ca_row *r);
typedef enum err token_each(void *ctx, const struct token_row *r);
typedef enum err policy_each(void *ctx, const struct policy_row *r);

MUST_USE enum err tx_meta_get(struct store_tx *t, struct span key, struct span *val);
MUST_USE enum err tx_meta_put(struct store_tx *t, struct span key, struct span val);

MUST_USE enum err tx_device_get(struct store_tx *t, struct span id, struct device_row *out);
/* With what is seen of it. */
MUST_USE enum err tx_device_get_seen(struct store_tx *t, struct span id, struct device_row *out,
                                     struct identity_seen *seen);
MUST_USE enum err tx_device_by_public_key(struct store_tx *t, struct span key, struct device_row *out);
/* if_etag 0: whatever is there; UINT64_MAX: must not exist (ERR_EXISTS); else must match (ERR_STALE).
 * Writes the new etag to *etag when it is not NULL. */
MUST_USE enum err tx_device_put(struct store_tx *t, const struct device_row *r, uint64_t if_etag,
                                uint64_t *etag);
/* And all that hangs on it: its modules, sessions, queues, reports, deployments. ERR_NOTFOUND. */
MUST_USE enum err tx_device_delete(struct store_tx *t, struct span id);
/* Ids after `after` in byte order, at most `limit`. status < 0: any. */
MUST_USE enum err tx_device_list(struct store_tx *t, struct span after, size_t limit, int status,
                                 device_each *each, void *ctx);
/* In the order of creation, those with seq > after_seq, with what is seen of them. */
MUST_USE enum err tx_device_list_by_seq(struct store_tx *t, uint64_t after_seq, size_t limit,
                                        device_seen_each *each, void *ctx);
/* What tx_report_get and tx_c2d_count say, in one look; zeros for an identity that is not known. */
MUST_USE enum err tx_identity_seen(struct store_tx *t, struct span identity, struct identity_seen *out);
MUST_USE enum err tx_device_count(struct store_tx *t, uint64_t by_status[3]);

MUST_USE enum err tx_module_get(struct store_tx *t, struct span device, struct span id,
                                struct module_row *out);
/* if_etag and etag as for a device. Whether the device is there is the asker's to know. */
MUST_USE enum err tx_module_put(struct store_tx *t, const struct module_row *r, uint64_t if_etag,
                                uint64_t *etag);
MUST_USE enum err tx_module_delete(struct store_tx *t, struct span device, struct span id); /* as a device */
MUST_USE enum err tx_module_list(struct store_tx *t, struct span device, module_each *each, void *ctx);
MUST_USE enum err tx_module_count(struct store_tx *t, struct span device, uint64_t *nr);

MUST_USE enum err tx_ca_get(struct store_tx *t, struct span name, struct ca_row *out);
MUST_USE enum err tx_ca_put(struct store_tx *t, const struct ca_row *r, uint64_t if_etag, uint64_t *etag);
MUST_USE enum err tx_ca_delete(struct store_tx *t, struct span name);       /* ERR_NOTFOUND */
MUST_USE enum err tx_ca_list(struct store_tx *t, ca_each *each, void *ctx); /* by name */

MUST_USE enum err tx_session_get(struct store_tx *t, struct span id, struct session_row *out);
MUST_USE enum err tx_session_put(struct store_tx *t, const struct session_row *r);
MUST_USE enum err tx_session_delete(struct store_tx *t, struct span id);

MUST_USE enum err tx_token_get(struct store_tx *t, struct span hash, struct token_row *out);
MUST_USE enum err tx_token_put(struct store_tx *t, const struct token_row *r);
MUST_USE enum err tx_token_delete(struct store_tx *t, struct span name);
MUST_USE enum err tx_token_list(struct store_tx *t, token_each *each, void *ctx);

MUST_USE enum err tx_policy_get(struct store_tx *t, struct span name, struct policy_row *out);
MUST_USE enum err tx_policy_put(struct store_tx *t, const struct policy_row *r);
MUST_USE enum err tx_policy_list(struct store_tx *t, policy_each *each, void *ctx);

#endif
