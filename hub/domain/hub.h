/* hub/domain/hub.h - what the domain works with: the four interfaces, the hub's own facts and its clock.
 * The domain knows no protocol, no socket and no thread; every function says on which it may be called. */
#ifndef ROOST_HUB_DOMAIN_HUB_H
#define ROOST_HUB_DOMAIN_HUB_H

#include "core/crypto/crypto.h"
#include "hub/blob/blob.h"
#include "hub/blob/files.h"
#include "hub/bus/bus.h"
#include "hub/store/store.h"
#include "hub/stream/stream.h"

#include <stdatomic.h>

/* Values of the configuration file that the domain obeys; docs/configuration.md describes each. */
struct hub_settings {
    uint32_t c2d_ttl_s, c2d_ttl_max_s, c2d_depth_max, c2d_deliveries_max, c2d_lock_s;
    uint32_t feedback_ttl_s, feedback_deliveries_max, feedback_lock_s;
    bool c2d_clean_discards; /* a clean MQTT session drops what was queued before it */
    uint32_t sas_skew_s, sas_grace_s;
    uint32_t failures_per_minute, failures_per_source; /* hub/domain/access/refusals.h */
    bool failures_count_loopback; /* the second one also for sources on this machine: no proxy is one */
    uint32_t message_max;         /* D2C bytes */
    uint32_t methods_in_flight;   /* direct methods under way to one connection */
    bool method_null_empty;       /* a call without a payload is sent as zero bytes, not as null */
    bool bootstrap_open;          /* blank devices without a token may ask (and wait for approval) */
    const char *consumer_groups;  /* of telemetry, besides $Default; commas between; NULL: none */
    uint32_t bootstrap_rate, bootstrap_burst; /* per source: requests a minute, burst */
    uint32_t pending_retry_s;
    uint32_t routes_max, endpoints_max, enrichments_max; /* hub/domain/event/route.h */
    uint32_t ticket_ttl_s;
    uint32_t checkin_s; /* what devices are told */
    /* Base URLs that also have the artifacts (http, https, ftp, ftps): devices try them before the hub. */
    const char *mirrors[2];
    const char *upload_container;   /* of files of devices; empty: none are taken */
    const char *registry_container; /* of files that are imported and exported; empty: none are */
    uint32_t upload_ttl_s, upload_retain_days;
    uint64_t upload_blob_bytes, upload_device_bytes, upload_total_bytes;
    bool upload_notify;
    uint32_t note_ttl_s, note_deliveries_max, note_lock_s; /* file notifications */
};

struct twin_change; /* hub/domain/twin/twin.h */
struct hub {
    struct store *store;
    struct stream *stream;
    struct blob *blob;
    struct files *files; /* uploads of devices; NULL: none are taken */
    struct bus *bus;
    const struct crypto_ops *crypto;
    const char *const *names; /* host names served, the first is the public one; NULL-terminated */
    uint16_t https_port, mqtt_port, amqp_port,
        http_port; /* as told to devices; http_port 0: plain HTTP is off */
    uint8_t director_seed[ED25519_KEY_LEN], director_pub[ED25519_KEY_LEN];
    uint8_t ca_pin[SHA256_LEN];
    struct hub_settings settings;
    const struct query_sources *queries; /* hub/domain/query/query.h; NULL: no indexes, no jobs */
    uint64_t (*wall_ms)(void);
    uint64_t started_ms;
    struct fleet_jobs *jobs;        /* hub/domain/job/fleet_job.h; NULL: none are run */
    struct registry_jobs *registry; /* hub/domain/job/registry_job.h; NULL: none are run */
    struct access *access;          /* hub/domain/access/access.h */
    struct c2d_locks *c2d_locks;    /* hub/domain/message/c2d_lock.h; NULL: nothing is fetched under locks */
    struct telemetry_way *way;      /* hub/domain/message/telemetry.h; NULL: everything goes to the stream */
    struct event_out *events;       /* hub/domain/event/event.h; NULL: nobody wants them */
    struct refusals *refusals;      /* hub/domain/access/refusals.h; NULL: nobody is limited */
    struct throttle *throttle;      /* hub/domain/throttle.h; NULL: no rate is set */
    _Atomic unsigned queries_running; /* of HTTP fronts */
    _Atomic bool c2d_sweeping;        /* hub/domain/message/c2d.h */
    struct hub_metrics *metrics;      /* hub/domain/metrics.h */
    /* hub/domain/configuration/configuration.h; NULL: none are kept. The function is called in the
     * transaction of each change of a twin. */
    struct configurations *configurations;
    enum err (*on_twin_changed)(struct hub *h, struct store_tx *tx, const struct twin_change *c);
};

#endif
