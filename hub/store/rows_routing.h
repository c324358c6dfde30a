/* hub/store/rows_routing.h - what routing keeps: its definitions, events that wait to be routed, and how far
 * readers of streams have come. Part of store.h. */
#ifndef ROOST_HUB_STORE_ROWS_ROUTING_H
#define ROOST_HUB_STORE_ROWS_ROUTING_H

#include "base/err.h"
#include "base/span.h"

struct store_tx;

enum routing_kind { ROUTING_ROUTE = 1, ROUTING_ENDPOINT, ROUTING_ENRICHMENT, ROUTING_FALLBACK }; /* on disk */
struct routing_row {
    uint8_t kind;     /* enum routing_kind */
    struct span name; /* 1..64 characters; compared without case */
    struct span spec; /* JSON object; an endpoint's has its secrets */
    uint64_t created_ms, updated_ms;
};
typedef enum err routing_each(void *ctx, const struct routing_row *r);

MUST_USE enum err tx_routing_get(struct store_tx *t, uint8_t kind, struct span name, struct routing_row *out);
/* Creates or replaces; created_ms of one that is there stays. */
MUST_USE enum err tx_routing_put(struct store_tx *t, const struct routing_row *r);
MUST_USE enum err tx_routing_delete(struct store_tx *t, uint8_t kind, struct span name); /* ERR_NOTFOUND */
MUST_USE enum err tx_routing_list(struct store_tx *t, routing_each *each, void *ctx); /* by kind and name */

/* Events made in transactions, in the order of their commits: records of hub/domain/message/message.h. */
typedef enum err outbox_each(void *ctx, uint64_t seq, struct span record);
/* ERR_FULL: store_outbox_limit was reached before the op's first push. An op that found room may push all it
 * has, or one with many events would never find enough; so it is over the limit by one op at most. */
MUST_USE enum err tx_outbox_push(struct store_tx *t, struct span record);
MUST_USE enum err tx_outbox_list(struct store_tx *t, size_t limit, outbox_each *each, void *ctx);
MUST_USE enum err tx_outbox_delete(struct store_tx *t, uint64_t upto_seq); /* that one included */
/* For each event of a connection a higher one. */
MUST_USE enum err tx_event_seq(struct store_tx *t, uint64_t *seq);

/* The first sequence number a reader has not dealt with. ERR_NOTFOUND: it never said. */
MUST_USE enum err tx_cursor_get(struct store_tx *t, struct span name, uint64_t *seq);
MUST_USE enum err tx_cursor_put(struct store_tx *t, struct span name, uint64_t seq);
typedef enum err cursor_each(void *ctx, struct span name, uint64_t seq);
/* Those with from <= name < to, by name. */
MUST_USE enum err tx_cursor_list(struct store_tx *t, struct span from, struct span to, cursor_each *each,
                                 void *ctx);
MUST_USE enum err tx_cursor_delete(struct store_tx *t, struct span name); /* ERR_OK also when there is none */

#endif
