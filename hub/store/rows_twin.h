/* hub/store/rows_twin.h - twins: one row an identity, made and deleted with it. Part of store.h.
 *
 * The sections are JSON text without $-members, numbers spelled as they came, so that the database's own JSON
 * functions can read them. What belongs to each leaf ($lastUpdated, $lastUpdatedVersion) is kept beside the
 * text in a few bytes (hub/domain/twin/twin_merge.h); a twin that was never written costs about a hundred
 * bytes. */
#ifndef ROOST_HUB_STORE_ROWS_TWIN_H
#define ROOST_HUB_STORE_ROWS_TWIN_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

struct store_tx;

#define TWIN_MODEL_MAX 255u

struct twin_row {
    struct span id;             /* identity: "device" or "device/module" */
    struct span device, module; /* module: empty for the device itself */
    uint64_t seq;               /* the identity's: order of creation, devices and modules in one count */
    uint64_t version;           /* raised by every change of tags, desired or reported; a new twin has 2 */
    uint64_t etag;              /* raised by changes of tags and desired; a new twin has 1 */
    struct span tags, desired, reported;        /* JSON objects */
    struct span desired_meta, reported_meta;    /* bytes; empty: never written */
    uint64_t desired_version, reported_version; /* $version; a new twin has 1 */
    struct span configurations;                 /* JSON object, or empty: none */
    struct span model_id;                       /* as the device announced it; may be empty */
};
typedef enum err twin_each(void *ctx, const struct twin_row *r);

MUST_USE enum err tx_twin_get(struct store_tx *t, struct span id, struct twin_row *out);
/* A new, empty twin, in the transaction that makes its identity. module empty: of the device. ERR_EXISTS */
MUST_USE enum err tx_twin_create(struct store_tx *t, struct span device, struct span module, uint64_t seq);
/* Replaces everything but id, device, module, seq and model_id. ERR_NOTFOUND. */
MUST_USE enum err tx_twin_put(struct store_tx *t, const struct twin_row *r);
MUST_USE enum err tx_twin_set_model(struct store_tx *t, struct span id, struct span model); /* ERR_NOTFOUND */
MUST_USE enum err tx_twin_delete(struct store_tx *t, struct span id); /* ERR_OK also when there is none */
/* In order of seq, after `after_seq`, at most `limit`: twins of devices, or of modules. */
MUST_USE enum err tx_twin_list(struct store_tx *t, bool modules, uint64_t after_seq, size_t limit,
                               twin_each *each, void *ctx);

#endif
