/* hub/domain/identity/identity_write.h - identities as an operator or a service writes them: whole devices
 * and modules, created or replaced, with the rules of how they prove themselves and of edge devices and their
 * parents. All functions that take a transaction run inside run() of a store op; rows live in the arena.
 * After the commit the caller announces what was touched. Source: docs/azure-http.md, "Identities". */
#ifndef ROOST_HUB_DOMAIN_IDENTITY_IDENTITY_WRITE_H
#define ROOST_HUB_DOMAIN_IDENTITY_IDENTITY_WRITE_H

#include "hub/domain/identity/identity.h"

#define IDENTITY_KEY_BYTES_MIN 16u
#define IDENTITY_KEY_BYTES_MAX DEVICE_KEY_MAX
#define IDENTITY_TEXT_MAX      128u /* characters of a status reason; bytes of managed_by */
#define IDENTITY_SCOPE_MAX     256u
#define IDENTITY_MODULES_MAX   50u /* of one device, those of the system included */
#define IDENTITY_SCOPE_PREFIX  "ms-azure-iot-edge://"
#define IDENTITY_EDGE_AGENT    "$edgeAgent"
#define IDENTITY_EDGE_HUB      "$edgeHub"

/* Which rule refused a write; the error says no more than its kind. A front maps each to its own words. */
enum identity_fault {
    IDENTITY_FINE = 0,
    IDENTITY_NO_DEVICE,       /* ERR_NOTFOUND */
    IDENTITY_NO_MODULE,       /* ERR_NOTFOUND */
    IDENTITY_DEVICE_EXISTS,   /* ERR_EXISTS */
    IDENTITY_MODULE_EXISTS,   /* ERR_EXISTS */
    IDENTITY_ETAG,            /* ERR_STALE: not the etag that was given */
    IDENTITY_TOO_MANY,        /* ERR_LIMIT: IDENTITY_MODULES_MAX */
    IDENTITY_BAD_ID,          /* ERR_PROTO, as all that follow */
    IDENTITY_BAD_TEXT,        /* a status reason or managed_by that is too long */
    IDENTITY_ONE_KEY,         /* no keys or both */
    IDENTITY_KEY_LENGTH,      /* 16 to 64 bytes */
    IDENTITY_BAD_THUMBPRINT,  /* 40 or 64 hex digits without separators */
    IDENTITY_NO_AUTH,         /* a device cannot prove itself with nothing */
    IDENTITY_SCOPE_IMMUTABLE, /* the scope of an edge device is the hub's to give */
    IDENTITY_BAD_PARENT,      /* not the scope of another edge device */
    IDENTITY_NO_KEYS          /* keys of an identity that has none cannot be made anew */
};
const char *identity_fault_text(enum identity_fault f); /* a sentence for people */

enum identity_mode { IDENTITY_CREATE, IDENTITY_REPLACE, IDENTITY_CREATE_OR_REPLACE };

struct identity_proof {     /* "authentication" */
    bool given;             /* false: symmetric keys are made, also by a replacement */
    bool has_kind;          /* false: by thumbprints when there are any, else symmetric keys */
    uint8_t kind;           /* enum identity_auth */
    struct span key1, key2; /* raw bytes; both empty: made */
    struct span thumb1, thumb2;
};
/* A whole device: what is not given is cleared. What the hub keeps besides (hardware, origin, the device's
 * own public key) stays. */
struct identity_spec {
    struct span id;
    bool disabled;
    struct span status_reason; /* UTF-8 */
    struct identity_proof proof;
    bool edge;
    /* Of an edge device: its own, unchanged or left out. Of another one: the scope of its parent. */
    struct span scope;
    struct span parent_scope; /* of an edge device; of another one it is ignored */
};
/* ERR_OK: *out is the row as stored. Else *fault says why when it is not the store's failure. A device that
 * waits for approval is approved by a replacement that does not disable it.
 * if_etag 0: any. It is looked at when there is something to replace. */
MUST_USE enum err identity_write(struct hub *h, struct store_tx *tx, struct arena *a,
                                 const struct identity_spec *s, enum identity_mode mode, uint64_t if_etag,
                                 struct device_row *out, enum identity_fault *fault);
MUST_USE enum err identity_delete(struct hub *h, struct store_tx *tx, struct span id, uint64_t if_etag,
                                  enum identity_fault *fault);

struct module_spec {
    struct span device, id;
    struct span managed_by;
    struct identity_proof proof;
};
MUST_USE enum err module_write(struct hub *h, struct store_tx *tx, struct arena *a,
                               const struct module_spec *s, enum identity_mode mode, uint64_t if_etag,
                               struct module_row *out, enum identity_fault *fault);
/* *fault tells a missing device from a missing module. */
MUST_USE enum err module_get(struct store_tx *tx, struct arena *a, struct span device, struct span id,
                             struct module_row *out, enum identity_fault *fault);
MUST_USE enum err module_delete(struct hub *h, struct store_tx *tx, struct span device, struct span id,
                                uint64_t if_etag, enum identity_fault *fault);
/* All of a device, by id, in the arena. */
MUST_USE enum err module_list(struct store_tx *tx, struct arena *a, struct span device,
                              struct module_row **rows, size_t *nr, enum identity_fault *fault);
MUST_USE enum err module_copy(struct arena *a, const struct module_row *in, struct module_row *out);

/* New symmetric keys, one of them or both. `module` empty: of the device, whose row is *d; else *m is set. */
MUST_USE enum err identity_rekey(struct hub *h, struct store_tx *tx, struct arena *a, struct span device,
                                 struct span module, bool key1, bool key2, struct device_row *d,
                                 struct module_row *m, enum identity_fault *fault);

/* The device and its modules, as identity texts: what to announce when the device changed or is about to be
 * deleted (then ask before). */
struct identity_names {
    size_t nr;
    struct span names[1 + IDENTITY_MODULES_MAX];
};
MUST_USE enum err identity_names(struct store_tx *tx, struct arena *a, struct span device,
                                 struct identity_names *out);
void identity_announce_all(struct hub *h, const struct identity_names *names); /* after the commit */

/* "HostName=...;DeviceId=...;ModuleId=...;SharedAccessKey=..." */
void module_connection_string(const struct hub *h, const struct module_row *r, struct wr *w);

const char *identity_auth_name(unsigned auth); /* "sas", "selfSigned", "certificateAuthority", "none" */
/* Without case. ERR_PROTO. */
MUST_USE enum err identity_auth_parse(struct span text, uint8_t *auth);

#endif
