/* hub/config/config.h - the configuration of roostd: one table of all values, read from YAML. The table makes
 * the structure, the schema, the checks, --print-config and docs/configuration.md (a test compares them). To
 * add a value: a line in CONFIG_TABLE, its description in the same line, and a section of the page printed by
 * `roostd --print-config --markdown`. */
#ifndef ROOST_HUB_CONFIG_CONFIG_H
#define ROOST_HUB_CONFIG_CONFIG_H

#include "base/err.h"
#include "base/span.h"

#define CONFIG_NAMES_MAX 16u

/* SECTION(name, text)  NUMBER(section, name, default, min, max, text)  TRUTH(section, name, default, text)
 * with yes or no; WORD(section, name, default, text)  END(section). Units stand in the names: _s, _hours,
 * _bytes. */
#define CONFIG_LISTENER(SECTION, NUMBER, TRUTH, WORD, END, name, on, address_, port_, tls_, text)            \
    SECTION(name, text)                                                                                      \
    TRUTH(name, enabled, on, "whether it listens at all")                                                    \
    WORD(name, address, address_, "numeric address to listen on; \"*\" is every one, IPv4 and IPv6")         \
    NUMBER(name, port, port_, 0, 65535, "TCP port; 0 takes any free one (tests)")                            \
    NUMBER(name, public_port, 0, 0, 65535, "port as devices are told; 0: the same as `port`")                \
    TRUTH(name, tls, tls_, "TLS; without it the address must be a loopback one (plain artifacts excepted)")  \
    END(name)

#define CONFIG_RATE(NUMBER, name, text) NUMBER(rates, name, 0, 0, 100000000, text)

#define CONFIG_TABLE(SECTION, NUMBER, TRUTH, WORD, END)                                                      \
    SECTION(hub, "The hub as a whole.")                                                                      \
    NUMBER(hub, workers, 0, 0, 64, "threads that serve connections; 0: one a core")                          \
    NUMBER(hub, node, 0, 0, 65535, "number of this node in a cluster")                                       \
    WORD(hub, log, "info", "least important lines to write: `error`, `warn`, `info` or `debug`")             \
    END(hub)                                                                                                 \
    CONFIG_LISTENER(SECTION, NUMBER, TRUTH, WORD, END, https, yes, "*", 443, yes,                            \
                    "HTTPS: the interface of docs/api.md, and MQTT and AMQP over WebSocket.")                \
    CONFIG_LISTENER(SECTION, NUMBER, TRUTH, WORD, END, mqtts, yes, "*", 8883, yes, "MQTT over TLS.")         \
    CONFIG_LISTENER(SECTION, NUMBER, TRUTH, WORD, END, amqps, yes, "*", 5671, yes, "AMQP 1.0 over TLS.")     \
    CONFIG_LISTENER(SECTION, NUMBER, TRUTH, WORD, END, http, no, "*", 80, no,                                \
                    "Plain HTTP for artifacts, nothing else: they are signed and their chunks checked.")     \
    CONFIG_LISTENER(SECTION, NUMBER, TRUTH, WORD, END, ops, yes, "127.0.0.1", 9464, no,                      \
                    "`/metrics`, `/healthz` and `/readyz`, for a loopback address.")                         \
    SECTION(tls, "Certificates; paths are relative to the data directory. SIGHUP reads the files again.")    \
    WORD(tls, ec_certificate, "tls/server-ec.crt",                                                           \
         "PEM chain with an EC key, for most clients; empty: none")                                          \
    WORD(tls, ec_key, "tls/server-ec.key", "its private key")                                                \
    WORD(tls, rsa_certificate, "tls/server-rsa.crt",                                                         \
         "PEM chain with an RSA key, for old clients; empty: none")                                          \
    WORD(tls, rsa_key, "tls/server-rsa.key", "its private key")                                              \
    WORD(tls, ca_certificate, "ca/ca.crt", "the authority above them, whose key devices pin")                \
    NUMBER(tls, session_hours, 12, 1, 168, "how long a client may resume a session")                         \
    NUMBER(tls, session_cache, 20000, 1, 10000000, "sessions kept for clients that resume without tickets")  \
    WORD(tls, record_layer, "auto",                                                                          \
         "who protects data after the handshake: `compact` (the hub itself, little memory), `openssl`, "     \
         "`kernel` (what goes out, where the kernel can; else `compact`), or `auto`: `compact` where the "   \
         "suite allows it")                                                                                  \
    TRUTH(tls, ask_client_certificate, yes, "ask clients for a certificate; none is required")               \
    END(tls)                                                                                                 \
    SECTION(limits, "Caps. Whoever is over one is refused; the counters are at /metrics.")                   \
    NUMBER(limits, connections, 0, 0, 10000000, "open connections in all; 0: as many as descriptors allow")  \
    NUMBER(limits, connections_per_source, 4096, 1, 10000000, "of one IPv4 address or IPv6 /64")             \
    TRUTH(limits, count_loopback, no, "count loopback sources too (a proxy on this machine is one source)")  \
    NUMBER(limits, unsent_bytes, 524288, 65536, 1073741824,                                                  \
           "of a connection that does not read: then it is closed")                                          \
    NUMBER(limits, http_bodies_bytes, 67108864, 1048576, 68719476736,                                        \
           "request bodies in memory, of one worker")                                                        \
    END(limits)                                                                                              \
    SECTION(deadlines, "How long a peer may take.")                                                          \
    NUMBER(deadlines, handshake_s, 15, 1, 3600, "for its TLS handshake")                                     \
    NUMBER(deadlines, first_packet_s, 30, 1, 3600, "until it has proven who it is")                          \
    NUMBER(deadlines, slow_s, 30, 1, 3600, "without taking any of what is sent to it")                       \
    NUMBER(deadlines, http_idle_s, 120, 1, 3600, "between two HTTP requests")                                \
    NUMBER(deadlines, http_head_s, 30, 1, 3600, "for the head of an HTTP request")                           \
    NUMBER(deadlines, http_body_s, 60, 1, 3600, "for its body, plus a second for each 4 KiB that arrive")    \
    NUMBER(deadlines, stop_s, 4, 0, 60, "connections and requests that are left at SIGTERM")                 \
    END(deadlines)                                                                                           \
    SECTION(store, "The database of identities, messages, releases (directory `store`).")                    \
    NUMBER(store, readers, 4, 1, 64, "threads that read; one more writes")                                   \
    END(store)                                                                                               \
    SECTION(query, "Queries over the fleet (docs/query.md).")                                                \
    WORD(query, indexed_paths,                                                                               \
         "tags.site, tags.group, tags.environment, properties.reported.firmware.version",                    \
         "paths of twins that have an index, with commas between: `=`, ranges and IN on them find their "    \
         "rows without looking at all; at most 16; a new one is made while the hub serves")                  \
    END(query)                                                                                               \
    SECTION(stream, "The telemetry log (directory `stream`).")                                               \
    NUMBER(stream, partitions, 4, 1, 32, "fixed when the log is first made")                                 \
    NUMBER(stream, segment_bytes, 67108864, 65536, 4294967295, "a file of it is at most about this large")   \
    NUMBER(stream, retain_hours, 24, 0, 87600, "telemetry older than this is removed; 0: never")             \
    NUMBER(stream, retain_bytes, 8589934592, 0, 1125899906842624,                                            \
           "telemetry beyond this is removed, oldest first; "                                                \
           "0: no limit")                                                                                    \
    WORD(stream, consumer_groups, "",                                                                        \
         "names of consumer groups besides $Default, with commas between; at most 19")                       \
    END(stream)                                                                                              \
    SECTION(routing, "Routes and endpoints (docs/routing.md; directory `routing`).")                         \
    NUMBER(routing, routes, 100, 0, 10000, "routes that may be defined")                                     \
    NUMBER(routing, endpoints, 10, 0, 31, "endpoints that may be defined; each has a few threads")           \
    NUMBER(routing, enrichments, 10, 0, 1000, "enrichments that may be defined")                             \
    NUMBER(routing, events_bytes, 268435456, 1048576, 1099511627776,                                         \
           "events that the router has not taken yet; where there are more, changes that make events wait "  \
           "or are refused")                                                                                 \
    WORD(routing, files, "endpoints", "directory of file endpoints, one below it for each")                  \
    END(routing)                                                                                             \
    SECTION(blobs, "Artifacts (directory `blob`).")                                                          \
    NUMBER(blobs, threads, 4, 1, 64, "threads for what has to wait for the disk")                            \
    END(blobs)                                                                                               \
    SECTION(messages, "Telemetry and cloud-to-device messages.")                                             \
    NUMBER(messages, telemetry_bytes, 262144, 1024, 1048576,                                                 \
           "largest telemetry message, properties included")                                                 \
    NUMBER(messages, c2d_ttl_s, 3600, 1, 31536000, "a command waits this long when its sender says nothing") \
    NUMBER(messages, c2d_ttl_max_s, 172800, 1, 31536000, "and never longer than this")                       \
    NUMBER(messages, c2d_depth, 50, 1, 10000, "commands that wait for one device; more are refused")         \
    NUMBER(messages, c2d_deliveries, 10, 1, 100, "deliveries of a command before it is given up")            \
    NUMBER(messages, c2d_lock_s, 60, 5, 300,                                                                 \
           "until a delivered command that is not acknowledged comes again")                                 \
    NUMBER(messages, feedback_ttl_s, 3600, 60, 172800,                                                       \
           "what became of a command waits this long for a receiver of feedback")                            \
    NUMBER(messages, feedback_deliveries, 10, 1, 100,                                                        \
           "deliveries of such a record before it leaves the queue")                                         \
    NUMBER(messages, feedback_lock_s, 60, 5, 300, "until such a record that is not completed comes again")   \
    TRUTH(messages, c2d_clean_discards, no, "a clean MQTT session drops the commands queued before it")      \
    NUMBER(messages, methods_in_flight, 32, 1, 10000,                                                        \
           "direct methods that one device has not answered yet; more are refused")                          \
    TRUTH(messages, method_null_empty, no,                                                                   \
          "a direct method without a payload reaches the device as zero bytes instead of null")              \
    END(messages)                                                                                            \
    SECTION(uploads, "Files of devices (directory `files`).")                                                \
    WORD(uploads, container, "uploads",                                                                      \
         "their container: the first segment of their addresses; empty: none are taken")                     \
    WORD(uploads, registry_container, "registry",                                                            \
         "container of files that the registry is imported from and exported to; empty: there is none")      \
    NUMBER(uploads, ttl_s, 3600, 60, 86400, "how long an announced upload may take")                         \
    NUMBER(uploads, blob_bytes, 1073741824, 1, 5242880000, "largest file")                                   \
    NUMBER(uploads, device_bytes, 10737418240, 0, 1125899906842624,                                          \
           "files and blocks of one device; more are refused; 0: no limit")                                  \
    NUMBER(uploads, total_bytes, 107374182400, 0, 1125899906842624, "of all devices; 0: no limit")           \
    NUMBER(uploads, keep_free_bytes, 1073741824, 0, 1125899906842624,                                        \
           "room on the disk that uploads leave for the rest of the hub")                                    \
    NUMBER(uploads, retain_days, 30, 0, 36500, "files not written for this long are removed; 0: never")      \
    TRUTH(uploads, notify, yes, "make a file notification of each completed upload")                         \
    NUMBER(uploads, notification_ttl_s, 3600, 60, 172800,                                                    \
           "it waits this long for a receiver of file notifications")                                        \
    NUMBER(uploads, notification_deliveries, 10, 1, 100, "deliveries of it before it leaves the queue")      \
    NUMBER(uploads, notification_lock_s, 60, 5, 300, "until one that is not completed comes again")          \
    END(uploads)                                                                                             \
    SECTION(access, "Shared access signatures.")                                                             \
    NUMBER(access, skew_s, 300, 0, 3600, "a token is still good this long after its end, for slow clocks")   \
    NUMBER(access, grace_s, 300, 0, 3600, "a connection lives this much longer than the token it came with") \
    NUMBER(access, failures_per_minute, 60, 0, 1000000,                                                      \
           "failed logins of one source under one name; over it: wait; 0: no limit")                         \
    NUMBER(access, failures_per_source, 600, 0, 1000000,                                                     \
           "failed logins a minute of one source under any names; 0: no limit")                              \
    END(access)                                                                                              \
    SECTION(rates,                                                                                           \
            "How many operations a minute; over it they wait or are refused (docs/limits.md). 0: no limit.") \
    CONFIG_RATE(NUMBER, registry, "identities read, listed, written, deleted; each entry of a bulk request") \
    CONFIG_RATE(NUMBER, connections, "new sessions of devices and modules")                                  \
    CONFIG_RATE(NUMBER, d2c_sends, "telemetry messages")                                                     \
    CONFIG_RATE(NUMBER, c2d_sends, "commands sent or purged")                                                \
    CONFIG_RATE(NUMBER, c2d_receives, "commands fetched or settled over HTTPS")                              \
    CONFIG_RATE(NUMBER, uploads, "file uploads begun")                                                       \
    CONFIG_RATE(NUMBER, methods, "direct methods, by blocks of 4 KiB of the request")                        \
    CONFIG_RATE(NUMBER, queries, "pages of queries")                                                         \
    CONFIG_RATE(NUMBER, twin_reads, "twins read, by either side")                                            \
    CONFIG_RATE(NUMBER, twin_updates, "twins changed, by either side")                                       \
    CONFIG_RATE(NUMBER, jobs, "jobs created, read, listed, cancelled")                                       \
    CONFIG_RATE(NUMBER, job_devices, "devices that jobs work on")                                            \
    CONFIG_RATE(NUMBER, configurations, "automatic configurations read, listed, written, deleted, applied")  \
    NUMBER(rates, burst_s, 60, 1, 3600, "what a rate allows in so many seconds may come at once")            \
    NUMBER(rates, wait_ms, 10000, 0, 600000,                                                                 \
           "what can be made to wait (telemetry, devices of a job) waits this long")                         \
    WORD(rates, policies, "",                                                                                \
         "rates of shared access policies, a minute: `service.methods=600, reader.queries=60`")              \
    END(rates)                                                                                               \
    SECTION(bootstrap, "Blank devices (`POST /bootstrap`).")                                                 \
    TRUTH(bootstrap, open, yes,                                                                              \
          "devices without a fleet token may ask, and wait for an operator's approval")                      \
    NUMBER(bootstrap, rate_per_minute, 60, 1, 1000000, "requests a minute of one source")                    \
    NUMBER(bootstrap, burst, 60, 1, 1000000, "at once, before the rate counts")                              \
    NUMBER(bootstrap, retry_s, 30, 1, 86400, "what a waiting device is told")                                \
    END(bootstrap)                                                                                           \
    SECTION(updates, "Check-ins and tickets.")                                                               \
    NUMBER(updates, checkin_s, 21600, 10, 2592000, "how often devices check in")                             \
    NUMBER(updates, ticket_ttl_s, 3600, 60, 31536000, "how long a deployment ticket is good")                \
    WORD(updates, mirror, "",                                                                                \
         "base URL that has the artifacts too (http, https, ftp, ftps; at most 150 bytes): devices try it "  \
         "before the hub")                                                                                   \
    END(updates)

#define CONFIG_S(name, text)                         struct config_##name {
#define CONFIG_N(section, name, def, min, max, text) uint64_t name;
#define CONFIG_T(section, name, def, text)           bool name;
#define CONFIG_W(section, name, def, text)           char *name;
#define CONFIG_E(name)                                                                                       \
    }                                                                                                        \
    name;
struct config {
    char **names; /* host names it answers to; the first is what devices are told */
    unsigned names_count;
    CONFIG_TABLE(CONFIG_S, CONFIG_N, CONFIG_T, CONFIG_W, CONFIG_E)
};
#undef CONFIG_S
#undef CONFIG_N
#undef CONFIG_T
#undef CONFIG_W
#undef CONFIG_E

/* One line: "FILE:LINE:COLUMN: what is wrong and what would be right". */
struct config_error {
    char text[320];
};

/* `name` stands in errors for the file. ERR_PROTO: see error; ERR_NOMEM. An empty text is all defaults. */
MUST_USE enum err config_parse(struct config **out, struct span yaml, const char *name,
                               struct config_error *error);
MUST_USE enum err config_load(struct config **out, const char *file,
                              struct config_error *error); /* + ERR_IO */
void config_free(struct config *c);

/* As YAML, each value with its description; or as the tables of docs/configuration.md (c: the defaults). */
void config_print(const struct config *c, struct wr *w);
void config_print_markdown(const struct config *c, struct wr *w);

/* Names of values that differ and need a restart, one each call: start with *at = 0; NULL: no more. */
const char *config_restart_needed(const struct config *before, const struct config *after, size_t *at);

bool config_address_is_loopback(const char *address);

#endif
