/* hub/domain/event/route.h - which messages go where: routes with conditions, endpoints, enrichments, the
 * fallback. Definitions are JSON objects in the store (rows_routing.h), checked here when they are saved; a
 * compiled, immutable set of them decides for each message. docs/routing.md is the guide. Source of the
 * rules: Azure IoT Hub, "message routing", "message enrichments". */
#ifndef ROOST_HUB_DOMAIN_EVENT_ROUTE_H
#define ROOST_HUB_DOMAIN_EVENT_ROUTE_H

#include "hub/domain/json_tree.h"
#include "hub/domain/message/message.h"
#include "hub/domain/query/query.h"

#define ROUTE_NAME_MAX      64u
#define ROUTE_TARGETS_MAX   32u           /* endpoints of one hub, the built-in stream included */
#define ROUTE_SPEC_MAX      65536u        /* bytes of one definition */
#define ROUTE_EVENTS        "events"      /* the built-in stream: target 0 */
#define ROUTE_DEAD_LETTER   "dead-letter" /* the stream of what could not be delivered */
#define ROUTE_FALLBACK_NAME "$fallback"

enum endpoint_kind { ENDPOINT_STREAM, ENDPOINT_WEBHOOK, ENDPOINT_MQTT, ENDPOINT_FILE, ENDPOINT_KINDS };
struct endpoint_spec {
    struct span name, text; /* text, created_ms: in a set, as stored */
    uint64_t created_ms;
    uint8_t kind;      /* enum endpoint_kind */
    uint64_t retain_s; /* what waits, or is kept, longer than this is removed */
    uint64_t retain_bytes;
    uint64_t dead_letter_s;      /* tried for so long, then given up */
    uint64_t batch;              /* messages handed over at once */
    struct span url, secret, ca; /* webhook; ca (PEM) of MQTT too; empty: the system's authorities */
    struct span host, topic, client_id, username, password; /* MQTT */
    uint64_t port;
    bool json;                             /* MQTT: the whole message as JSON, not its body alone */
    uint64_t rotate_bytes, rotate_s, keep; /* file; keep: files, the one being written not counted */
};
const char *endpoint_kind_name(unsigned kind); /* "stream", "webhook", "mqtt", "file" */

struct route_spec {
    struct span name, condition;
    uint8_t source; /* enum message_source */
    bool enabled;
    struct span endpoints[ROUTE_TARGETS_MAX];
    size_t endpoints_nr;
    const struct query_condition *compiled;
    bool twin;        /* the condition looks at it */
    uint32_t targets; /* in a set: bits of its endpoints */
};
struct enrichment_spec {
    struct span name, value;
    struct span endpoints[ROUTE_TARGETS_MAX];
    size_t endpoints_nr;
    const struct query_path *twin; /* NULL: not of the twin */
    uint32_t targets;
};
const char *route_source_name(unsigned source);                       /* "DeviceMessages", ... */
MUST_USE enum err route_source_parse(struct span text, uint8_t *out); /* without case; ERR_PROTO */
bool route_name_ok(struct span name); /* 1..64 of letters, digits and - _ . , not a dot first */

struct route_fault {
    char text[400]; /* what is wrong with a definition, and where */
};
/* A definition as it was sent; everything in *out lives in the arena.
 *   ERR_PROTO  the fault says why      ERR_NOMEM */
MUST_USE enum err route_parse(struct arena *a, struct span name, const struct jnode *o,
                              struct route_spec *out, struct route_fault *f);
MUST_USE enum err endpoint_parse(struct arena *a, struct span name, const struct jnode *o,
                                 struct endpoint_spec *out, struct route_fault *f);
MUST_USE enum err enrichment_parse(struct arena *a, struct span name, const struct jnode *o,
                                   struct enrichment_spec *out, struct route_fault *f);
MUST_USE enum err fallback_parse(const struct jnode *o, bool *enabled, struct route_fault *f);
bool endpoint_is_secret(struct span member); /* written, never shown */

/* ---- the compiled set ------------------------------------------------------------------------------- */

struct route_set {
    struct arena a;
    struct route_spec *routes;
    struct endpoint_spec *endpoints; /* target i + 1 */
    struct enrichment_spec *enrichments;
    size_t routes_nr, endpoints_nr, enrichments_nr;
    bool fallback;              /* telemetry that matches nothing goes to the built-in stream */
    uint32_t wanted;            /* sources with an enabled route: 1 << enum message_source */
    bool direct;                /* all telemetry goes to the built-in stream as it is */
    bool twin[MESSAGE_SOURCES]; /* deciding about this source may need the twin */
};
/* In run(). A definition that cannot be compiled (any more) is logged and left out. */
MUST_USE enum err route_set_load(struct hub *h, struct store_tx *tx, struct route_set **out);
void route_set_free(struct route_set *s); /* accepts NULL */

/* ---- one message ------------------------------------------------------------------------------------ */

struct route_eval {
    struct hub *h;
    struct store_tx *tx; /* NULL: there is no twin to look at */
    const struct message *m;
    struct query_message row;
    struct query_row twin;
    struct query_document given; /* a twin that was given instead; json empty: none */
    struct twin_row twin_row;
    enum { TWIN_UNKNOWN, TWIN_THERE, TWIN_NONE } twin_state;
    struct wr keep, scratch; /* body in UTF-8; values */
    uint8_t time[32];
    size_t time_len;
};
#define ROUTE_KEEP(body_len) ((size_t)(body_len)*3u + 64u) /* room for a body of this length */
/* keep and scratch (QUERY_SCRATCH bytes) are the caller's and live as long as v. */
void route_eval_init(struct route_eval *v, struct hub *h, struct store_tx *tx, const struct message *m,
                     uint64_t enqueued_ms, struct wr keep, struct wr scratch);
enum route_result { ROUTE_NO, ROUTE_YES, ROUTE_UNDEFINED };
enum route_result route_eval_condition(struct route_eval *v, const struct query_condition *c);
/* Bits of the targets the message goes to. */
uint32_t route_set_targets(const struct route_set *s, struct route_eval *v);
/* The record with the enrichments of one target; measured when out has no memory. ERR_LIMIT: it is over the
 * largest message now. */
MUST_USE enum err route_set_enrich(const struct route_set *s, struct route_eval *v, unsigned target,
                                   struct span record, struct wr *out);
/* As limits count it: body, values of system properties, names and values of the others. */
size_t message_size(const struct message *m);

#endif
