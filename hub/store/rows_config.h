/* hub/store/rows_config.h - rows of automatic configurations, of the twins each is meant for, and of the
 * twins that have to be looked at again. Part of store.h. */
#ifndef ROOST_HUB_STORE_ROWS_CONFIG_H
#define ROOST_HUB_STORE_ROWS_CONFIG_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

struct store_tx;

#define CONFIG_ID_MAX 128u

enum config_kind { CONFIG_DEVICE = 0, CONFIG_MODULE, CONFIG_EDGE };
struct config_row {
    uint64_t seq; /* order of creation; given by the store */
    struct span id;
    uint8_t kind;                                                    /* enum config_kind: of the content */
    struct span condition, content, labels, metrics, schema_version; /* labels, metrics: JSON; empty: none */
    uint64_t priority, etag;
    uint64_t created_ms, updated_ms; /* wall */
    bool gone;                       /* deleted; its targets are still to be told */
    bool walking;                    /* its targets are being found */
    uint64_t old_cursor, new_cursor; /* of that: seq of a twin; UINT64_MAX: this part is done */
    /* What was counted last: {"name":number} of `metrics`, of those that the hub has itself; empty: nothing
     * yet. */
    struct span results, system_results;
};
typedef enum err config_each(void *ctx, const struct config_row *r);

/* Of those that are not gone. ERR_EXISTS. */
MUST_USE enum err tx_config_add(struct store_tx *t, const struct config_row *r);
MUST_USE enum err tx_config_get(struct store_tx *t, struct span id, struct config_row *out);
/* By seq: all but id, kind, content and results. */
MUST_USE enum err tx_config_put(struct store_tx *t, const struct config_row *r);
/* Nothing happens when the row has another etag by now. */
MUST_USE enum err tx_config_results_put(struct store_tx *t, uint64_t seq, uint64_t etag, struct span results,
                                        struct span system_results);
MUST_USE enum err tx_config_delete(struct store_tx *t, uint64_t seq); /* the row itself */
/* In order of creation; gone: those too that are. */
MUST_USE enum err tx_config_list(struct store_tx *t, bool gone, config_each *each, void *ctx);
/* Those that are not gone: by[0] of devices and modules, by[1] edge deployments. */
MUST_USE enum err tx_config_count(struct store_tx *t, uint64_t by[2]);

/* Which twins a configuration is meant for, and has written to. */
typedef enum err config_target_each(void *ctx, uint64_t config, bool applied);
MUST_USE enum err tx_config_targets(struct store_tx *t, uint64_t twin, config_target_each *each, void *ctx);
MUST_USE enum err tx_config_target_put(struct store_tx *t, uint64_t config, uint64_t twin, bool applied);
MUST_USE enum err tx_config_target_delete(struct store_tx *t, uint64_t config, uint64_t twin);
MUST_USE enum err tx_config_target_count(struct store_tx *t, uint64_t config, uint64_t *targeted,
                                         uint64_t *applied);

/* Twins to look at again, by seq. */
typedef enum err config_dirty_each(void *ctx, uint64_t twin, struct span identity);
MUST_USE enum err tx_config_dirty_add(struct store_tx *t, uint64_t twin, struct span identity);
MUST_USE enum err tx_config_dirty_list(struct store_tx *t, size_t limit, config_dirty_each *each, void *ctx);
MUST_USE enum err tx_config_dirty_delete(struct store_tx *t, uint64_t twin);
/* Marks up to `limit` of a configuration's targets after *cursor, which is moved on; UINT64_MAX at the end.
 */
MUST_USE enum err tx_config_dirty_targets(struct store_tx *t, uint64_t config, size_t limit,
                                          uint64_t *cursor);
/* Marks twins that were made after *cursor, up to `limit`; *nr: how many. */
MUST_USE enum err tx_config_dirty_new(struct store_tx *t, size_t limit, uint64_t *cursor, uint64_t *nr);

/* seq of the newest twin; 0: there is none. */
MUST_USE enum err tx_config_newest(struct store_tx *t, uint64_t *seq);

#endif
