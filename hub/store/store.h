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
/* As store_read, on a thread that does nothing else: for ops that look at many rows. It keeps a run() short
 * (some milliseconds) and hands the op over again, so that several take turns; those of store_read never wait
 * for it. */
void store_scan(struct store *s, struct store_op *op); /* any thread */

/* In a run() that writes: fn is called once, on the writer's thread: after the commit (committed), in the
 * order of these calls and before any op of the transaction comes home; or when the op was undone. So what
 * others are told leaves in the order in which it happened. fn must not block; the memory is the asker's
 * until then. */
struct tx_after {
    struct tx_after *next; /* the store's */
    void (*fn)(struct tx_after *self, bool committed);
};
void tx_after(struct store_tx *t, struct tx_after *after);

/* In a run() that writes: fn, whose error undoes what fn wrote and nothing else, and is returned. For an op
 * of many parts that may fail one by one. What was read before the call is gone after it. Not inside itself.
 */
MUST_USE enum err tx_try(struct store_tx *t, enum err (*fn)(struct store_tx *t, void *ctx), void *ctx);

/* Opens or creates the database in directory `dir`; migrates it. ERR_EXISTS: another process has it.
 * `readers` threads. */
MUST_USE enum err store_sqlite_open(struct store **out, const char *dir, unsigned readers);
/* Runs what was handed over, then ends the threads. Accepts a half-opened store. */
void store_close(struct store *s);

/* The most that events in the outbox may take; 0: no limit. Of the store, not of the database: to be said at
 * each start. */
#define STORE_OUTBOX_BYTES (256u << 20)                   /* unless something else is said */
void store_outbox_limit(struct store *s, uint64_t bytes); /* any thread */

struct store_stats {
    uint64_t commits, ops, failed, commit_us_total;
    uint64_t rows_read;
    uint64_t outbox_rows, outbox_bytes; /* events that wait */
    uint64_t outbox_limit;              /* bytes; 0: none */
    uint64_t outbox_refused;            /* ops refused because it was full, since the start */
};
void store_get_stats(struct store *s, struct store_stats *out); /* any thread */

/* The tables: rows, and the calls inside run(). get: ERR_NOTFOUND. put: insert or replace, unless said
 * otherwise. A listing calls `each` for each row; a result of it other than ERR_OK ends the listing and is
 * returned. */
#include "hub/store/rows_c2d.h"
#include "hub/store/rows_config.h"
#include "hub/store/rows_fleet.h"
#include "hub/store/rows_identity.h"
#include "hub/store/rows_job.h"
#include "hub/store/rows_query.h"
#include "hub/store/rows_routing.h"
#include "hub/store/rows_twin.h"
#include "hub/store/rows_upload.h"

#endif
