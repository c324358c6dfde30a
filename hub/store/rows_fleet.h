/* hub/store/rows_fleet.h - rows of reports, trust records, releases, campaigns, deployments and the audit
 * log. Included by store.h, which says what holds for all tables. */
#ifndef ROOST_HUB_STORE_ROWS_FLEET_H
#define ROOST_HUB_STORE_ROWS_FLEET_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

struct store_tx;

struct report_row {     /* the newest report of a device, and what is known of its connection */
    struct span device; /* or "device/module", which has a connection but no report */
    struct span report; /* core/trust/report.h, as received; may be empty */
    uint64_t report_seq, boot_id, reported_ms;
    struct span running;           /* release id, 32 bytes, or empty */
    bool connected;                /* as last written; true only for connections of this start of the hub */
    bool left;                     /* connected in an earlier start of the hub, which ended; got, not put */
    uint64_t activity_ms;          /* wall; 0: never */
    uint64_t connected_changed_ms; /* wall; when `connected` became what it is; 0: never connected */
};
struct release_row {
    struct span id; /* object id, 32 bytes */
    struct span product, version;
    uint16_t hw_class;
    uint8_t hw_rev_min, hw_rev_max;
    uint32_t release_seq;
    uint64_t created_ms;
    struct span envelope;
};
struct artifact_row {                        /* a payload, by the root of its chunk tree */
    struct span root;                        /* 32 bytes */
    struct span payload_sha256, tree_sha256; /* blobs */
    uint64_t payload_len, tree_len;
};
enum campaign_state { CAMPAIGN_RUNNING = 0, CAMPAIGN_COMPLETED, CAMPAIGN_ABORTED, CAMPAIGN_SUPERSEDED };
struct campaign_row {
    struct span id;       /* 8 bytes */
    struct span version;  /* of its releases */
    struct span releases; /* concatenated 32-byte ids, one a product and class */
    bool all;             /* standing: every device that fits, late joiners too */
    uint8_t state;
    uint64_t created_ms;
    struct span created_by;
};
enum deployment_state { /* server view, docs/updates.md; names by deployment_state_name() in the domain */
                        DEPLOYMENT_ELIGIBLE = 0,
                        DEPLOYMENT_OFFERED,
                        DEPLOYMENT_ACCEPTED,
                        DEPLOYMENT_DOWNLOADING,
                        DEPLOYMENT_STAGED,
                        DEPLOYMENT_WAITING,
                        DEPLOYMENT_ACTIVATING,
                        DEPLOYMENT_REBOOTING,
                        DEPLOYMENT_PROBATION,
                        DEPLOYMENT_CONFIRMED,
                        DEPLOYMENT_SKIPPED,
                        DEPLOYMENT_REJECTED,
                        DEPLOYMENT_FAILED,
                        DEPLOYMENT_ROLLED_BACK,
                        DEPLOYMENT_LOST,
                        DEPLOYMENT_CANCELLED,
                        DEPLOYMENT_SUPERSEDED,
                        DEPLOYMENT_EXPIRED,
                        DEPLOYMENT_STATES
};
struct deployment_row {
    struct span device, campaign, release;
    uint8_t state, attempts;
    uint16_t reason;                  /* enum reason of core/trust/report.h */
    uint64_t updated_ms, deadline_ms; /* wall; 0: none */
    uint32_t ticket_seq;
    uint64_t bytes_done, bytes_total;
};
struct audit_row {
    uint64_t seq, at_ms;
    struct span who, what, subject, detail;
};

typedef enum err report_each(void *ctx, const struct report_row *r);
typedef enum err release_each(void *ctx, const struct release_row *r);
typedef enum err campaign_each(void *ctx, const struct campaign_row *r);
typedef enum err deployment_each(void *ctx, const struct deployment_row *r);
typedef enum err audit_each(void *ctx, const struct audit_row *r);

MUST_USE enum err tx_report_get(struct store_tx *t, struct span device, struct report_row *out);
MUST_USE enum err tx_report_put(struct store_tx *t, const struct report_row *r);
MUST_USE enum err tx_report_set_connected(struct store_tx *t, struct span device, bool connected,
                                          uint64_t at_ms);
/* Those with `left`, at most max of them. */
MUST_USE enum err tx_report_left(struct store_tx *t, size_t max, report_each *each, void *ctx);
/* Writes down that it is not connected, since then; ends `left`. */
MUST_USE enum err tx_report_end_left(struct store_tx *t, struct span device);
/* Devices (modules are not counted) that are connected. */
MUST_USE enum err tx_report_count_connected(struct store_tx *t, uint64_t *nr);
/* The hub starts: nobody is connected yet. Whoever was, has been disconnected since at_ms. */
MUST_USE enum err tx_report_clear_connected(struct store_tx *t, uint64_t at_ms);

MUST_USE enum err tx_trust_get(struct store_tx *t, uint32_t version, struct span *envelope); /* 0: newest */
MUST_USE enum err tx_trust_put(struct store_tx *t, uint32_t version, struct span envelope);  /* ERR_EXISTS */

MUST_USE enum err tx_release_get(struct store_tx *t, struct span id, struct release_row *out);
MUST_USE enum err tx_release_put(struct store_tx *t, const struct release_row *r);
MUST_USE enum err tx_release_list(struct store_tx *t, release_each *each, void *ctx); /* newest first */
MUST_USE enum err tx_artifact_get(struct store_tx *t, struct span root, struct artifact_row *out);
MUST_USE enum err tx_artifact_put(struct store_tx *t, const struct artifact_row *r);

MUST_USE enum err tx_campaign_get(struct store_tx *t, struct span id, struct campaign_row *out);
MUST_USE enum err tx_campaign_put(struct store_tx *t, const struct campaign_row *r);
MUST_USE enum err tx_campaign_list(struct store_tx *t, campaign_each *each, void *ctx); /* newest first */
MUST_USE enum err tx_deployment_get(struct store_tx *t, struct span device, struct span campaign,
                                    struct deployment_row *out);
MUST_USE enum err tx_deployment_put(struct store_tx *t, const struct deployment_row *r);
/* Of one campaign (by device id, after the id `after`), or of one device (campaign empty; newest first). */
MUST_USE enum err tx_deployment_list(struct store_tx *t, struct span device, struct span campaign,
                                     struct span after, size_t limit, deployment_each *each, void *ctx);
/* Rows of non-terminal states whose deadline has passed. */
MUST_USE enum err tx_deployment_due(struct store_tx *t, uint64_t now_ms, size_t limit, deployment_each *each,
                                    void *ctx);

/* How many of a campaign are in each state. */
MUST_USE enum err tx_deployment_count(struct store_tx *t, struct span campaign,
                                      uint64_t by_state[DEPLOYMENT_STATES]);

/* The newest 1 000 000 are kept, of feedback the newest 100 000. */
MUST_USE enum err tx_audit_push(struct store_tx *t, const struct audit_row *r);
MUST_USE enum err tx_audit_list(struct store_tx *t, uint64_t after_seq, size_t limit, audit_each *each,
                                void *ctx);

#endif
