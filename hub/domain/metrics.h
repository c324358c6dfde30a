/* hub/domain/metrics.h - the hub's counters, exported at /metrics. Any thread adds; nothing locks.
 * To add one: a line here; its name in Prometheus is roost_<name>. */
#ifndef ROOST_HUB_DOMAIN_METRICS_H
#define ROOST_HUB_DOMAIN_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#define HUB_METRICS(X)                                                                                       \
    X(mqtt_connects_total, "MQTT connections accepted")                                                      \
    X(mqtt_refused_total, "MQTT connections refused: credentials, unknown or disabled identity")             \
    X(access_reads_total, "identities and policies read from the store, not found in the cache")             \
    X(login_failures_total, "logins and requests refused for their credentials, all protocols")              \
    X(login_limited_total, "of them not even looked at: their source had failed too often")                  \
    X(presence_dropped_total, "connection state changes not written: the store did not keep up")             \
    X(mqtt_protocol_errors_total, "MQTT connections closed for a malformed or forbidden packet")             \
    X(mqtt_takeovers_total, "MQTT connections replaced by a newer one of the same identity")                 \
    X(amqp_logins_total, "tokens and passwords of AMQP connections accepted")                                \
    X(amqp_refused_total, "tokens and passwords of AMQP connections refused")                                \
    X(amqp_protocol_errors_total, "AMQP connections closed for a malformed or forbidden frame")              \
    X(amqp_takeovers_total, "AMQP identities replaced by a newer connection of the same one")                \
    X(telemetry_messages_total, "telemetry messages durably stored")                                         \
    X(telemetry_bytes_total, "bytes of their bodies")                                                        \
    X(telemetry_refused_total, "telemetry messages not taken: too large, disk full")                         \
    X(c2d_enqueued_total, "cloud-to-device messages taken")                                                  \
    X(c2d_delivered_total, "cloud-to-device messages delivered, repeats included")                           \
    X(c2d_completed_total, "cloud-to-device messages completed")                                             \
    X(c2d_expired_total, "cloud-to-device messages expired")                                                 \
    X(c2d_dead_total, "cloud-to-device messages given up after too many deliveries")                         \
    X(c2d_refused_total, "cloud-to-device messages refused: queue depth, size")                              \
    X(methods_called_total, "direct methods called")                                                         \
    X(methods_answered_total, "direct methods answered by their device")                                     \
    X(methods_offline_total, "direct methods to a device that was not there in time")                        \
    X(methods_timeout_total, "direct methods without an answer in time")                                     \
    X(methods_failed_total, "direct methods that failed otherwise: unknown, closed, too many, no room")      \
    X(twin_device_requests_total, "twins read and patched by their devices")                                 \
    X(twin_notes_total, "changes of desired properties sent to devices")                                     \
    X(routing_messages_total, "messages and events that routes took")                                        \
    X(routing_dropped_total, "messages and events that no route took, with the fallback off")                \
    X(routing_undefined_total, "conditions of routes that were undefined")                                   \
    X(routing_too_large_total, "messages dropped because enrichments made them too large")                   \
    X(bootstrap_issued_total, "identities handed out to blank devices")                                      \
    X(bootstrap_pending_total, "bootstrap requests told to wait for approval")                               \
    X(bootstrap_refused_total, "bootstrap requests refused")                                                 \
    X(bootstrap_limited_total, "bootstrap requests answered 429")                                            \
    X(checkins_total, "device check-ins")                                                                    \
    X(tickets_total, "deployment tickets signed")                                                            \
    X(releases_refused_total, "releases or artifacts refused: signature, hash, format")                      \
    X(http_requests_total, "HTTP requests")                                                                  \
    X(http_errors_total, "HTTP answers of 400 and above")                                                    \
    X(http_auth_refused_total, "HTTP requests refused: credentials or rights")

struct hub_metrics {
#define X(name, help) _Atomic uint64_t name;
    HUB_METRICS(X)
#undef X
};
#define METRIC_ADD(hub, name, n) atomic_fetch_add_explicit(&(hub)->metrics->name, (n), memory_order_relaxed)

#endif
