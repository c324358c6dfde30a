/* hub/domain/query/query.h - queries over the fleet: a query becomes a walk over twins (or job records) in
 * order of creation, in slices that each take some milliseconds of a store thread; conditions for jobs,
 * configurations and routes. The language is core/query; its guide docs/query.md.
 *
 *     query_open -> store_scan: query_step until it is not ERR_AGAIN -> r->out, r->next
 *
 * What an index can find of the condition narrows the walk; every row that comes is judged by the evaluator.
 */
#ifndef ROOST_HUB_DOMAIN_QUERY_QUERY_H
#define ROOST_HUB_DOMAIN_QUERY_QUERY_H

#include "base/arena.h"
#include "core/query/query.h"
#include "hub/domain/hub.h"

#include <stdatomic.h>

#define QUERY_PAGE_MAX   1000u              /* rows of a page */
#define QUERY_PAGE_BYTES (2u * 1024 * 1024) /* and bytes, from which on it ends early */
#define QUERY_GROUPS_MAX 10000u             /* of a GROUP BY */
#define QUERY_NEXT_LEN   64u                /* of a continuation */

/* What queries use of the hub; fixed before the workers start, but for `ready`. */
typedef enum err query_job_each(void *ctx, uint64_t seq, struct span json);
struct query_sources {
    struct span index[TWIN_INDEX_MAX]; /* paths that have one */
    size_t index_nr;
    _Atomic uint32_t
        ready; /* bit i: index[i] is there; the others are being made, and queries do without them */
    _Atomic uint8_t percent[TWIN_INDEX_MAX]; /* how far each is; 100 when it is there */
    /* Job records in order of their number, after after_seq, each as its JSON document; of one job alone when
     * `job`, its id, is not empty. NULL: there are none. */
    enum err (*jobs)(struct store_tx *tx, struct span job, uint64_t after_seq, query_job_each *each,
                     void *ctx);
};
/* Of the configuration's list, "tags.a, properties.reported.b"; points into it. ERR_PROTO: not a path that
 * can have an index, *bad is it; ERR_LIMIT: more than TWIN_INDEX_MAX. */
MUST_USE enum err query_indexes_parse(struct query_sources *s, struct span list, struct span *bad);
/* At start: says which there are to be, notes which are there. Waits for the store. */
MUST_USE enum err query_indexes_apply(struct store *store, struct query_sources *s);
/* From then on, on the thread of home: takes away what is left of those that were dropped, then makes those
 * that are missing, one after the other, from where an earlier start left them. The work is done in pieces,
 * each an op of its own, and the next is handed over when the one before has come home: other writes come
 * between them. b lives until the store is closed. */
struct query_index_build {
    struct store_op op; /* first */
    struct store *store;
    struct query_sources *s;
    bool cleared, over; /* over: nothing is left to do, or nothing more can be done */
    size_t at;
    struct twin_index_step step; /* of the op that came home */
    uint64_t (*wall_ms)(void);
    uint64_t began_ms;
};
void query_indexes_build(struct query_index_build *b, struct hub *h, struct query_sources *s,
                         struct mailbox *home);
/* Of what queries know, which may be behind what is committed, or, in a transaction that began before, ahead
 * of what that sees: there tx_twin_index_is_ready decides. */
static inline bool query_index_is_ready(const struct query_sources *s, size_t i)
{
    return atomic_load(&s->ready) >> i & 1;
}

/* ---- pages --------------------------------------------------------------------------------------------- */

struct query_groups;
struct query_walk_state;
struct query_run {
    struct hub *h;
    struct arena *a;
    struct query q;
    struct span text;
    uint32_t max;    /* rows of this page */
    bool count_only; /* set after query_open: rows of the whole result are counted, none is written */
    uint64_t counted;
    /* the walk */
    bool planned;
    const struct twin_pick *pick; /* NULL: every row is looked at */
    uint64_t seq;                 /* the last one that was looked at */
    uint64_t left;                /* rows that TOP still lets through */
    uint64_t first;               /* of the result's rows on this page, with aggregates */
    struct query_groups *groups;
    struct query_walk_state *state;
    /* the page */
    const char *item_type; /* "Twin", "DeviceJob", "Raw" */
    struct wr out;         /* a JSON array, whole after ERR_OK */
    uint32_t rows;
    struct span next;    /* continuation; empty: this was the last page */
    const char *refused; /* why ERR_LIMIT was the outcome of a step */
};
/* text and continuation (empty: the first page) live as long as r. max: cut to QUERY_PAGE_MAX; 0 means that.
 *   ERR_PROTO, ERR_LIMIT  not a query: *err says why, and where
 *   ERR_VERIFY            the continuation does not belong to this query */
MUST_USE enum err query_open(struct query_run *r, struct hub *h, struct arena *a, struct span text,
                             struct span continuation, uint32_t max, struct query_error *err);
/* In run() of a store_scan op. ERR_AGAIN: not at the end of the page, call it again in a further op; ERR_OK:
 * the page is in r->out; ERR_LIMIT: r->refused. */
MUST_USE enum err query_step(struct query_run *r, struct store_tx *tx);

/* ---- conditions ---------------------------------------------------------------------------------------- */

enum query_use {
    QUERY_USE_JOB,           /* attributes of device twins; "FROM devices.modules WHERE ..." for modules */
    QUERY_USE_CONFIGURATION, /* deviceId, moduleId, tags, reported properties only */
    QUERY_USE_ROUTE
};
struct query_condition {
    struct query q;
    enum query_use use;
};
/* text is copied into the arena, where all of it lives. ERR_PROTO, ERR_LIMIT: *err. */
MUST_USE enum err query_condition_compile(struct arena *a, enum query_use use, struct span text,
                                          struct query_condition **out, struct query_error *err);
/* Is the identity ("device" or "device/module") selected? One of another kind than the condition's is not;
 * nor is one that does not exist. */
MUST_USE enum err query_condition_match(struct hub *h, struct store_tx *tx, struct arena *a,
                                        const struct query_condition *c, struct span identity, bool *yes);
/* The identities that it selects, in order of creation after *seq; *seq is moved on. `each` gets the identity
 * and its seq; a result other than ERR_OK ends the walk before that row and is returned. ERR_AGAIN: not at
 * the end, call it again in a further op. For store_scan. */
typedef enum err query_identity_each(void *ctx, struct span identity, uint64_t seq);
struct query_walk {
    struct hub *h;
    struct arena *a;
    const struct query_condition *c;
    uint64_t seq;
    bool planned; /* zeros at first, like what follows */
    const struct twin_pick *pick;
    struct wr scratch;
};
MUST_USE enum err query_condition_walk(struct query_walk *w, struct store_tx *tx, query_identity_each *each,
                                       void *ctx);

#endif
