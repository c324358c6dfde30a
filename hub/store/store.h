/* hub/store/store.h - what the hub asks of persistence. Knows no protocol and no thread but its own.
 *
 * Work is handed over as an op whose run() is called on a store thread with a transaction: plain,
 * synchronous calls on the tables below, so that a rule that spans rows is read in one place (the domain).
 *   store_write  run() on the writer thread. Many ops share one transaction and one flush (group commit);
 *                each has its own savepoint: run() returning an error undoes that op alone. The op comes home
 *                after the commit is durable: ERR_OK means it survives kill -9 and power loss.
 *   store_read   run() on a reader thread, on a snapshot; never waits for the writer.
 * Errors besides run()'s own: ERR_FULL disk full (nothing was taken; it recovers by itself when there is
 * room), ERR_IO, ERR_NOMEM, ERR_STOPPED.
 *
 * To add a backend: fill struct store_backend (store_backend.h) and pass store_suite(). Spans of a row that a
 * `get` returned live until the same get is called again in this op (a put in between does no harm), those of
 * a row that a listing shows until its callback returns. An op copies what it keeps. */
#ifndef ROOST_HUB_STORE_STORE_H
#define ROOST_HUB_STORE_STORE_H

#include "base/op.h"
#include "base/span.h"

struct store;
struct store_tx;

struct store_op {
    struct op op;                                                /* first; op.home and op.done by the asker */
    enum err (*run)(struct store_tx *tx, struct store_op *self); /* its result becomes op.err */
};
void store_write(struct store *s, struct store_op *op); /* any thread */
void store_read(struct store *s, struct store_op *op);  /* any thread */

/* Opens or creates the database in directory `dir`; migrates it. ERR_EXISTS: another process has it.
 * `readers` threads. */
MUST_USE enum err store_sqlite_open(struct store **out, const char *dir, unsigned readers);
/* Runs what was handed over, then ends the threads. Accepts a half-opened store. */
void store_close(struct store *s);

struct store_stats {
    uint64_t commits, ops, failed, commit_us_total;
    uint64_t rows_read;
};
void store_get_stats(struct store *s, struct store_stats *out); /* any thread */

/* ---- rows ----------------------------------------------------------------------------------------- */

#define DEVICE_ID_MAX  128u
#define DEVICE_KEY_MAX 64u

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
};
struct session_row {   /* a persistent MQTT session: the subscription set, nothing else */
    struct span id;    /* identity */
    uint32_t channels; /* two bits a channel: 0 none, 1 + granted QoS (core/topic/topic.h) */
};
enum c2d_ack { C2D_ACK_NONE = 0, C2D_ACK_POSITIVE = 1, C2D_ACK_NEGATIVE = 2, C2D_ACK_FULL = 3 };
struct c2d_row {
    struct span device;
    uint64_t seq;                     /* order in the queue; given by the store */
    bool broadcast;                   /* comes from the broadcast table: seq is the broadcast's */
    uint64_t enqueued_ms, expires_ms; /* wall */
    uint32_t deliveries;
    uint8_t ack; /* enum c2d_ack */
    struct span message_id;
    struct span props; /* encoded property bag, system and application (core/bag) */
    struct span body;
};
struct feedback_row {
    uint64_t seq, at_ms;
    struct span device, message_id,
        outcome;            /* "Success", "Expired", "DeliveryCountExceeded", "Rejected", "Purged" */
    uint64_t broadcast_seq; /* 0: none */
};
struct report_row { /* the newest report of a device, and what is known of its connection */
    struct span device;
    struct span report; /* core/trust/report.h, as received; may be empty */
    uint64_t report_seq, boot_id, reported_ms;
    struct span running; /* release id, 32 bytes, or empty */
    bool connected;      /* as last written; true only for connections of this start of the hub */
    uint64_t activity_ms;
};
struct token_row {                   /* a fleet token: what a blank device may prove itself with */
    struct span name, hash;          /* hash: SHA-256 of the token; the token itself is never stored */
    struct span hardware;            /* "product:class" it is good for, empty: any */
    uint64_t created_ms, expires_ms; /* 0: never */
    uint64_t uses_left;              /* UINT64_MAX: no limit */
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
struct policy_row { /* shared access policy */
    struct span name, key1, key2;
    uint32_t rights; /* enum access_right bits of the domain */
};

/* Called for each row of a listing; a result other than ERR_OK ends it and is returned. */
typedef enum err device_each(void *ctx, const struct device_row *r);
typedef enum err c2d_each(void *ctx, const struct c2d_row *r);
typedef enum err report_each(void *ctx, const struct report_row *r);
typedef enum err release_each(void *ctx, const struct release_row *r);
typedef enum err campaign_each(void *ctx, const struct campaign_row *r);
typedef enum err deployment_each(void *ctx, const struct deployment_row *r);
typedef enum err audit_each(void *ctx, const struct audit_row *r);
typedef enum err token_each(void *ctx, const struct token_row *r);
typedef enum err policy_each(void *ctx, const struct policy_row *r);
typedef enum err feedback_each(void *ctx, const struct feedback_row *r);

/* Inside run(). get: ERR_NOTFOUND. put: insert or replace, unless said otherwise. */
MUST_USE enum err tx_meta_get(struct store_tx *t, struct span key, struct span *val);
MUST_USE enum err tx_meta_put(struct store_tx *t, struct span key, struct span val);

MUST_USE enum err tx_device_get(struct store_tx *t, struct span id, struct device_row *out);
MUST_USE enum err tx_device_by_public_key(struct store_tx *t, struct span key, struct device_row *out);
/* if_etag 0: whatever is there; UINT64_MAX: must not exist (ERR_EXISTS); else must match (ERR_STALE).
 * Writes the new etag to *etag when it is not NULL. */
MUST_USE enum err tx_device_put(struct store_tx *t, const struct device_row *r, uint64_t if_etag,
                                uint64_t *etag);
MUST_USE enum err tx_device_delete(struct store_tx *t, struct span id); /* and all that hangs on it */
/* Ids after `after` in byte order, at most `limit`. status < 0: any. */
MUST_USE enum err tx_device_list(struct store_tx *t, struct span after, size_t limit, int status,
                                 device_each *each, void *ctx);
MUST_USE enum err tx_device_count(struct store_tx *t, uint64_t by_status[3]);

MUST_USE enum err tx_session_get(struct store_tx *t, struct span id, struct session_row *out);
MUST_USE enum err tx_session_put(struct store_tx *t, const struct session_row *r);
MUST_USE enum err tx_session_delete(struct store_tx *t, struct span id);

/* Appends to the device's queue and sets *seq. ERR_LIMIT: depth (50) reached; ERR_NOTFOUND: no such device.
 */
MUST_USE enum err tx_c2d_push(struct store_tx *t, const struct c2d_row *r, size_t depth_max, uint64_t *seq);
/* The device's waiting messages with seq > after_seq (own queue) and broadcasts > after_bcast that it has not
 * settled, in the order they were sent, at most limit. */
MUST_USE enum err tx_c2d_list(struct store_tx *t, struct span device, uint64_t after_seq,
                              uint64_t after_bcast, size_t limit, c2d_each *each, void *ctx);
/* How many wait for it, broadcasts included. ERR_NOTFOUND: no such device. */
MUST_USE enum err tx_c2d_count(struct store_tx *t, struct span device, uint64_t *nr);
/* Adds one to the delivery count and returns it. */
MUST_USE enum err tx_c2d_delivered(struct store_tx *t, struct span device, bool broadcast, uint64_t seq,
                                   uint32_t *deliveries);
/* Takes it off the queue; for a broadcast, off this device's view of it. ERR_NOTFOUND: settled before. */
MUST_USE enum err tx_c2d_settle(struct store_tx *t, struct span device, bool broadcast, uint64_t seq);
/* One row for the whole fleet. Devices created later do not get it. ERR_LIMIT: 1000 wait already. */
MUST_USE enum err tx_broadcast_push(struct store_tx *t, const struct c2d_row *r, uint64_t *seq);
/* Messages past their expiry at now_ms (expires_ms 0: never), first those of devices, then broadcasts, each
 * kind oldest first: settled here, each reported to `each` for feedback; a broadcast once, with no device. */
MUST_USE enum err tx_c2d_expire(struct store_tx *t, uint64_t now_ms, size_t limit, c2d_each *each, void *ctx);

MUST_USE enum err tx_feedback_push(struct store_tx *t, const struct feedback_row *r);
MUST_USE enum err tx_feedback_list(struct store_tx *t, uint64_t after_seq, size_t limit, feedback_each *each,
                                   void *ctx);

MUST_USE enum err tx_report_get(struct store_tx *t, struct span device, struct report_row *out);
MUST_USE enum err tx_report_put(struct store_tx *t, const struct report_row *r);
MUST_USE enum err tx_report_set_connected(struct store_tx *t, struct span device, bool connected,
                                          uint64_t at_ms);
MUST_USE enum err tx_report_clear_connected(struct store_tx *t); /* at start: nobody is connected yet */

MUST_USE enum err tx_token_get(struct store_tx *t, struct span hash, struct token_row *out);
MUST_USE enum err tx_token_put(struct store_tx *t, const struct token_row *r);
MUST_USE enum err tx_token_delete(struct store_tx *t, struct span name);
MUST_USE enum err tx_token_list(struct store_tx *t, token_each *each, void *ctx);

MUST_USE enum err tx_policy_get(struct store_tx *t, struct span name, struct policy_row *out);
MUST_USE enum err tx_policy_put(struct store_tx *t, const struct policy_row *r);
MUST_USE enum err tx_policy_list(struct store_tx *t, policy_each *each, void *ctx);

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
