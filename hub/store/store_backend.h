/* hub/store/store_backend.h - what store.c and the tx_*.c files ask of a database: connections, transactions
 * and statements. The tables' rules (tx_*.c) are written once, in the SQL that SQLite and PostgreSQL share;
 * a backend only carries it out. Included by hub/store alone.
 *
 * To add a backend (PostgreSQL): fill struct store_backend (parameters are written ?1, ?2, ...: a backend
 * with another spelling rewrites the text when it prepares it), write its migrations, add a
 * store_NAME_open() that calls store_start(), and pass store_suite(). */
#ifndef ROOST_HUB_STORE_STORE_BACKEND_H
#define ROOST_HUB_STORE_STORE_BACKEND_H

#include "hub/store/store.h"

#include <stdatomic.h>

struct store_conn; /* the backend's: one connection, used by one thread at a time */
struct store_rows; /* the backend's: a statement that runs */

/* One statement of the program: static, beside the function that uses it. Connections keep it prepared
 * under its id. */
struct store_sql {
    const char *text;
    _Atomic unsigned id; /* 0: not used yet */
};
#define STORE_SQL(text)                                                                                      \
    {                                                                                                        \
        text, 0                                                                                              \
    }
#define STORE_SQL_MAX 320u /* statements of the whole program */
/* The id of q, 1..STORE_SQL_MAX; given on first use. */
unsigned store_sql_id(struct store_sql *q);

enum store_val_kind { STORE_INT, STORE_TEXT, STORE_BYTES, STORE_NULL, STORE_REAL };
struct store_val {
    enum store_val_kind kind;
    int64_t i;
    double real;
    struct span s;
};
/* The values of a statement: ARGS(V_TEXT(id), V_INT(n)). 64-bit counts beyond the signed range keep their
 * bits (they come back equal but do not sort); V_MS is for times, which sort: it ends at INT64_MAX. */
#define V_INT(v)   ((struct store_val){ .kind = STORE_INT, .i = (int64_t)(v) })
#define V_MS(v)    ((struct store_val){ .kind = STORE_INT, .i = (v) > INT64_MAX ? INT64_MAX : (int64_t)(v) })
#define V_TEXT(v)  ((struct store_val){ .kind = STORE_TEXT, .s = (v) })
#define V_BYTES(v) ((struct store_val){ .kind = STORE_BYTES, .s = (v) })
#define V_OPT(v)   ((struct store_val){ .kind = (v).n ? STORE_BYTES : STORE_NULL, .s = (v) })
#define ARGS(...)                                                                                            \
    (const struct store_val[]){ __VA_ARGS__ },                                                               \
        (unsigned)(sizeof((const struct store_val[]){ __VA_ARGS__ }) / sizeof(struct store_val))
#define ARGS_NONE NULL, 0u

enum store_step { STORE_BEGIN, STORE_COMMIT, STORE_ROLLBACK, STORE_SAVE, STORE_RELEASE, STORE_UNDO };

struct store_backend {
    const char *name;
    MUST_USE enum err (*connect)(void *db, bool writer, struct store_conn **out);
    void (*disconnect)(struct store_conn *c);
    MUST_USE enum err (*step)(struct store_conn *c, enum store_step what);
    bool (*in_tx)(const struct store_conn *c); /* false: the database gave the transaction up by itself */
    /* Starts q. A statement that is still running for an outer listing is run a second time beside it. */
    MUST_USE enum err (*start)(struct store_conn *c, struct store_sql *q, const struct store_val *v,
                               unsigned nr, struct store_rows **out);
    /* The same for a text that was put together; it is prepared for this one run. Parameters are written ?.
     */
    MUST_USE enum err (*start_text)(struct store_conn *c, struct span text, const struct store_val *v,
                                    unsigned nr, struct store_rows **out);
    /* ERR_OK: at a row; ERR_NOTFOUND: there is none left. */
    MUST_USE enum err (*next)(struct store_rows *r);
    int64_t (*col_int)(struct store_rows *r, int col);
    struct span (*col_bytes)(struct store_rows *r, int col); /* until next or end */
    void (*end)(struct store_rows *r);
    /* Keeps r at its row until its statement is started again or end_kept. */
    void (*keep)(struct store_rows *r);
    void (*end_kept)(struct store_conn *c);
    /* Housekeeping: on a thread of its own (writer false), and on the writer's between two transactions. */
    void (*tend)(void *db, bool writer);
    void (*close)(void *db); /* after all connections; frees db */
};

enum store_sequence { SEQ_C2D, SEQ_IDENTITY, SEQ_EVENT, SEQ_BLOCK, STORE_SEQUENCES };
/* One sequence that is counted in memory during a transaction and written once, before its commit. */
struct store_counter {
    int64_t value;
    bool loaded, changed;
};

/* Events that wait in the outbox (rows_routing.h). */
struct store_outbox { /* committed; the writer changes it, any thread looks */
    _Atomic uint64_t rows, bytes, limit, refused;
};
struct outbox_change { /* not committed yet; counts down as well */
    int64_t rows, bytes;
};

/* tx_index.c: an index on a path of twins, as the writer keeps it true. */
struct twin_index {
    int64_t n, upto; /* twins up to this seq are in it */
    uint8_t path_len, path[TWIN_INDEX_PATH_MAX];
};

struct store_tx {
    const struct store_backend *be;
    struct store_conn *conn;
    bool writable, sole; /* sole: the only op of its transaction, so undoing it needs no savepoint */
    bool saved, wrote;   /* of the op at hand */
    enum err fault;      /* first error of the database itself in the op at hand */
    uint64_t rows_read;
    struct store_counter seq[STORE_SEQUENCES];
    struct tx_after *after, **after_end;          /* tx_after(): of the whole transaction, in order */
    struct store_outbox *outbox;                  /* the store's; NULL: this one does not write */
    struct outbox_change outbox_op, outbox_batch; /* of the op at hand; of those before it */
    bool outbox_open;                             /* the op has put something into it already */
    bool index_known; /* of the writer: the indexes are read; false again when a change of them was undone */
    unsigned index_nr;
    struct twin_index index[TWIN_INDEX_MAX];
};

/* db is handed over; store_start closes it when it fails. */
MUST_USE enum err store_start(struct store **out, const struct store_backend *be, void *db, unsigned readers);

/* ---- for the tx_*.c files -------------------------------------------------------------------------- */

/* Runs a statement that writes. */
MUST_USE enum err tx_exec(struct store_tx *t, struct store_sql *q, const struct store_val *v, unsigned nr);
/* One row, kept until the same statement runs again in this op. ERR_NOTFOUND. */
MUST_USE enum err tx_one(struct store_tx *t, struct store_rows **r, struct store_sql *q,
                         const struct store_val *v, unsigned nr);
/* A listing: tx_query, while (tx_next(...)) ..., return tx_end(...). *e ends it early. */
MUST_USE enum err tx_query(struct store_tx *t, struct store_rows **r, struct store_sql *q,
                           const struct store_val *v, unsigned nr);
bool tx_next(struct store_tx *t, struct store_rows *r, enum err *e);
enum err tx_end(struct store_tx *t, struct store_rows *r, enum err e);
/* tx_exec and tx_query for a text that was put together. Nothing that came from outside may be part of it:
 * values are bound, names are checked against a table or letter by letter. */
MUST_USE enum err tx_exec_text(struct store_tx *t, struct span text, const struct store_val *v, unsigned nr);
MUST_USE enum err tx_query_text(struct store_tx *t, struct store_rows **r, struct span text,
                                const struct store_val *v, unsigned nr);
/* The first column of the first row as a number; `none` when there is no row. */
MUST_USE enum err tx_number(struct store_tx *t, int64_t none, int64_t *out, struct store_sql *q,
                            const struct store_val *v, unsigned nr);

/* tx_job.c: records of all jobs, and of one; here so that a backend's test can look at the plan. */
#define TX_JOB_DEVICE_COLS "d.nr, d.job, d.id, d.state, d.outcome, d.created_ms, d.start_ms, d.end_ms"
#define TX_JOB_RECORDS                                                                                       \
    "SELECT " TX_JOB_DEVICE_COLS ", j.id, j.kind FROM job_device d JOIN job j ON j.seq = d.job"
#define TX_JOB_RECORDS_OF_ONE                                                                                \
    TX_JOB_RECORDS " WHERE d.job = (SELECT seq FROM job WHERE id = ?2) AND d.nr > ?1 ORDER BY d.nr"

static inline uint64_t col_u64(struct store_tx *t, struct store_rows *r, int c)
{
    return (uint64_t)t->be->col_int(r, c);
}
static inline struct span col_span(struct store_tx *t, struct store_rows *r, int c)
{
    return t->be->col_bytes(r, c);
}

/* SEQ_C2D: the order of everything sent to devices, own queues and broadcasts alike. SEQ_IDENTITY: the order
 * in which devices and modules were made. SEQ_EVENT: of connection events. SEQ_BLOCK: of changes of the
 * blocks of blobs. */
MUST_USE enum err tx_seq_next(struct store_tx *t, enum store_sequence which, uint64_t *seq);
MUST_USE enum err tx_seq_last(struct store_tx *t, enum store_sequence which, uint64_t *seq);
/* tx_broadcast.c: a broadcast was pushed; its time is over for all that had not settled it. */
MUST_USE enum err tx_broadcast_begin(struct store_tx *t, uint64_t seq, const struct c2d_row *r);
MUST_USE enum err tx_broadcast_expired(struct store_tx *t, uint64_t seq);
/* Deletes what hangs on the identities "`from`" and up to, not including, `to`: sessions, queues, reports. */
MUST_USE enum err tx_identity_clear(struct store_tx *t, struct span from, struct span to);
/* tx_index.c: a twin is about to become `to`; ERR_NOTFOUND: there is none of its id. */
MUST_USE enum err tx_index_change(struct store_tx *t, const struct twin_row *to);
/* The twins with ids from `from` up to, not including, `to` are about to go; to empty: the one named `from`.
 */
MUST_USE enum err tx_index_forget(struct store_tx *t, struct span from, struct span to);
/* The number of a path's index. ERR_NOTFOUND: it is not ready. */
MUST_USE enum err tx_index_ready(struct store_tx *t, struct span path, int64_t *n);
/* store.c: before the commit, and when a transaction is lost. */
MUST_USE enum err tx_counters_flush(struct store_tx *t);
void tx_counters_drop(struct store_tx *t);
/* tx_routing.c: what is in the outbox at the start. */
MUST_USE enum err tx_outbox_count(struct store_tx *t, uint64_t *rows, uint64_t *bytes);
/* Those of tx_after from *from on have their outcome. */
void tx_after_end(struct store_tx *t, struct tx_after **from, bool committed);

#endif
