/* hub/domain/job/registry_config.h - an automatic configuration as one JSON object: a line of the file beside
 * that of the identities, in imports and exports that include configurations.
 *
 *     {"id","schemaVersion","labels","content":{"deviceContent"|"moduleContent"|"modulesContent"},
 *      "targetCondition","priority","metrics":{"queries"},"etag","importMode"?}
 *
 * Names of members are read without case: exports of Azure IoT Hub spell them "Id", "TargetCondition". What
 * the hub alone knows (times, results of metrics) is written for readers and passed over when it comes back.
 * Source of the form: Azure IoT Hub, "Import and export IoT Hub device identities in bulk";
 * docs/registry.md. */
#ifndef ROOST_HUB_DOMAIN_JOB_REGISTRY_CONFIG_H
#define ROOST_HUB_DOMAIN_JOB_REGISTRY_CONFIG_H

#include "hub/domain/configuration/configuration.h"
#include "hub/domain/job/registry_line.h"

struct registry_config { /* spans in the arena, or in the text that was read */
    const struct registry_mode *mode;
    struct config_new n; /* only the id of one that is to be deleted */
    uint8_t kind;
    uint64_t if_etag; /* 0: whatever is there */
};

/* Any thread. A line that names no mode is createOrUpdateIfMatchETag: made, or changed when "etag" is what is
 * there ("*": whatever is there).
 *   ERR_PROTO  the fault says what is wrong, and out->n.id is the id if it could be read      ERR_NOMEM */
MUST_USE enum err registry_config_read(struct arena *a, struct span text, struct registry_config *out,
                                       struct registry_fault *f);
/* In run() of a write; afterwards config_poke. Content of one that is there stays what it is. What a rule
 * refuses sets the fault: ERR_PROTO, ERR_NOTFOUND, ERR_EXISTS, ERR_STALE, ERR_LIMIT. */
MUST_USE enum err registry_config_apply(struct hub *h, struct store_tx *tx, struct arena *a,
                                        const struct registry_config *c, struct span who,
                                        struct registry_fault *f);
/* A line with its line end. */
void registry_config_write(struct wr *w, const struct config_row *r);
/* {"configurationId","errorCode","errorStatus"} */
void registry_config_fault_write(struct wr *w, struct span id, const struct registry_fault *f);

#endif
