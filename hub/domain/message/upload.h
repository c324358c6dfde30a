/* hub/domain/message/upload.h - files of devices: announced, uploaded under a signature that is good for that
 * one name, completed, told to whoever receives file notifications. Named blobs are rows; their bytes are
 * files of hub/blob/files.h that belong to one row each. See docs/uploads.md. */
#ifndef ROOST_HUB_DOMAIN_MESSAGE_UPLOAD_H
#define ROOST_HUB_DOMAIN_MESSAGE_UPLOAD_H

#include "base/arena.h"
#include "hub/domain/hub.h"

#define UPLOAD_ACCOUNT      "roost" /* in what is signed; not in addresses */
#define UPLOAD_OPEN_MAX     10u     /* announced by one device and neither completed nor over */
#define UPLOAD_NAME_MAX     1024u   /* bytes of a blob name, the device included */
#define UPLOAD_SEGMENTS_MAX 14u     /* of a blob name, the device included */
#define UPLOAD_ID_LEN       32u     /* a correlation id: hex digits */
#define UPLOAD_BLOCKS_MAX   50000u
#define UPLOAD_BLOCK_ID_MAX 64u
#define UPLOAD_BLOCK_KEEP_S (7u * 86400u) /* a block that no list names lives this long */

/* The key that signs addresses: made of the director's, so it needs no place of its own. */
void upload_key(const struct hub *h, uint8_t out[SHA256_LEN]);
/* Is it the name of the container for files that are imported and exported, and are there any? */
bool registry_container_is(const struct hub *h, struct span name);
/* A name that the service's clients take, and that no path of the hub begins with; or empty: no container. */
bool upload_container_ok(const char *name);
/* The whole: segments that are not empty, "." or "..", no control characters. */
bool upload_name_ok(struct span name);

struct upload_announce {
    struct span device, name; /* in: name without the device */
    struct span blob;         /* out: with it; in the arena */
    char id[UPLOAD_ID_LEN + 1];
    uint64_t expires_ms;
};
/* In a transaction. ERR_LIMIT: UPLOAD_OPEN_MAX are open. */
MUST_USE enum err upload_announce(struct hub *h, struct store_tx *tx, struct arena *a,
                                  struct upload_announce *u);

enum upload_refusal { UPLOAD_TAKEN, UPLOAD_UNKNOWN, UPLOAD_EXPIRED, UPLOAD_NO_BLOB };
/* In a transaction. Ends an announced upload of the device; a success whose blob is there makes a
 * notification. base: what its address begins with, "https://host/container/". */
MUST_USE enum err upload_complete(struct hub *h, struct store_tx *tx, struct span device, struct span id,
                                  bool success, struct span base, enum upload_refusal *refusal);

/* In a transaction, before `add` bytes are put under `name` in place of `less`. ERR_LIMIT: over the quota of
 * all, or of the device; files of the registry are no device's. */
MUST_USE enum err upload_room(struct hub *h, struct store_tx *tx, struct span container, struct span name,
                              uint64_t add, uint64_t less);

/* What has had its time: announced uploads, blobs and blocks; and, once after a start, files that no row
 * names. One round; called every few seconds. Blocks: on the I/O pool, with what upload_sweep_tx has found.
 */
struct upload_sweep {
    uint8_t (*files)[16]; /* to delete; in the arena */
    size_t nr;
    bool more;
};
#define UPLOAD_SWEEP_BATCH 256u
/* In a transaction: drops rows, at most UPLOAD_SWEEP_BATCH of each kind. */
MUST_USE enum err upload_sweep_tx(struct hub *h, struct store_tx *tx, struct arena *a,
                                  struct upload_sweep *s);
/* In a transaction that reads: keeps of the files those that no row names. */
MUST_USE enum err upload_orphans_tx(struct store_tx *tx, struct upload_sweep *s);

#endif
