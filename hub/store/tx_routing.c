/* hub/store/tx_routing.c - definitions of routing, the outbox of events, cursors of stream readers. */
#include "hub/store/store_backend.h"

#include <assert.h>

/* ---- definitions ------------------------------------------------------------------------------------ */

static void row_of(struct store_tx *t, struct store_rows *r, struct routing_row *out)
{
    *out = (struct routing_row){ .kind = (uint8_t)col_u64(t, r, 0),
                                 .name = col_span(t, r, 1),
                                 .spec = col_span(t, r, 2),
                                 .created_ms = col_u64(t, r, 3),
                                 .updated_ms = col_u64(t, r, 4) };
}

enum err tx_routing_get(struct store_tx *t, uint8_t kind, struct span name, struct routing_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT kind, name, spec, created_ms, updated_ms FROM routing"
                                          " WHERE kind = ?1 AND lower(name) = lower(?2)");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_INT(kind), V_TEXT(name)));
    if (!e)
        row_of(t, r, out);
    return e;
}

enum err tx_routing_put(struct store_tx *t, const struct routing_row *r)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO routing(kind, name, spec, created_ms, updated_ms) VALUES(?1, ?2, ?3, ?4, ?4)"
                  " ON CONFLICT(kind, lower(name)) DO UPDATE SET spec = excluded.spec,"
                  " updated_ms = excluded.updated_ms");
    return tx_exec(t, &q, ARGS(V_INT(r->kind), V_TEXT(r->name), V_TEXT(r->spec), V_MS(r->updated_ms)));
}

enum err tx_routing_delete(struct store_tx *t, uint8_t kind, struct span name)
{
    static struct store_sql q = STORE_SQL("DELETE FROM routing WHERE kind = ?1 AND lower(name) = lower(?2)");
    struct routing_row was;
    enum err e = tx_routing_get(t, kind, name, &was);
    return e ? e : tx_exec(t, &q, ARGS(V_INT(kind), V_TEXT(name)));
}

enum err tx_routing_list(struct store_tx *t, routing_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT kind, name, spec, created_ms, updated_ms FROM routing"
                                          " ORDER BY kind, lower(name)");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, NULL, 0);
    while (tx_next(t, r, &e)) {
        struct routing_row row;
        row_of(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

/* ---- outbox ----------------------------------------------------------------------------------------- */

static bool outbox_is_full(const struct store_tx *t)
{
    const uint64_t limit = atomic_load(&t->outbox->limit);
    return limit && atomic_load(&t->outbox->bytes) + (uint64_t)t->outbox_batch.bytes >= limit;
}

enum err tx_outbox_push(struct store_tx *t, struct span record)
{
    static struct store_sql q = STORE_SQL("INSERT INTO outbox(record) VALUES(?1)");
    assert(t->outbox);
    if (!t->outbox_open && outbox_is_full(t)) {
        atomic_fetch_add(&t->outbox->refused, 1);
        return ERR_FULL;
    }
    t->outbox_open = true;
    enum err e = tx_exec(t, &q, ARGS(V_BYTES(record)));
    if (!e) {
        t->outbox_op.rows++;
        t->outbox_op.bytes += (int64_t)record.n;
    }
    return e;
}

enum err tx_outbox_list(struct store_tx *t, size_t limit, outbox_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT seq, record FROM outbox ORDER BY seq LIMIT ?1");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_INT(limit)));
    while (tx_next(t, r, &e)) {
        uint64_t seq = col_u64(t, r, 0);
        e = each(ctx, seq, col_span(t, r, 1));
    }
    return tx_end(t, r, e);
}

static enum err outbox_sum(struct store_tx *t, uint64_t upto_seq, uint64_t *rows, uint64_t *bytes)
{
    static struct store_sql q = STORE_SQL(
        "SELECT COUNT(*), CAST(COALESCE(SUM(LENGTH(record)), 0) AS BIGINT) FROM outbox WHERE seq <= ?1");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(upto_seq)));
    if (tx_next(t, r, &e)) {
        *rows = col_u64(t, r, 0);
        *bytes = col_u64(t, r, 1);
    }
    return tx_end(t, r, e);
}

enum err tx_outbox_count(struct store_tx *t, uint64_t *rows, uint64_t *bytes)
{
    return outbox_sum(t, INT64_MAX, rows, bytes);
}

enum err tx_outbox_delete(struct store_tx *t, uint64_t upto_seq)
{
    static struct store_sql q = STORE_SQL("DELETE FROM outbox WHERE seq <= ?1");
    uint64_t rows = 0, bytes = 0;
    assert(t->outbox);
    enum err e = outbox_sum(t, upto_seq, &rows, &bytes);
    if (!e)
        e = tx_exec(t, &q, ARGS(V_MS(upto_seq)));
    if (!e) {
        t->outbox_op.rows -= (int64_t)rows;
        t->outbox_op.bytes -= (int64_t)bytes;
    }
    return e;
}

enum err tx_event_seq(struct store_tx *t, uint64_t *seq)
{
    return tx_seq_next(t, SEQ_EVENT, seq);
}

/* ---- cursors ---------------------------------------------------------------------------------------- */

enum err tx_cursor_get(struct store_tx *t, struct span name, uint64_t *seq)
{
    static struct store_sql q = STORE_SQL("SELECT seq FROM stream_cursor WHERE name = ?1");
    int64_t v;
    enum err e = tx_number(t, -1, &v, &q, ARGS(V_TEXT(name)));
    if (!e && v < 0)
        e = ERR_NOTFOUND;
    if (!e)
        *seq = (uint64_t)v;
    return e;
}

enum err tx_cursor_put(struct store_tx *t, struct span name, uint64_t seq)
{
    static struct store_sql q = STORE_SQL("INSERT INTO stream_cursor(name, seq) VALUES(?1, ?2)"
                                          " ON CONFLICT(name) DO UPDATE SET seq = excluded.seq");
    return tx_exec(t, &q, ARGS(V_TEXT(name), V_MS(seq)));
}

enum err tx_cursor_delete(struct store_tx *t, struct span name)
{
    static struct store_sql q = STORE_SQL("DELETE FROM stream_cursor WHERE name = ?1");
    return tx_exec(t, &q, ARGS(V_TEXT(name)));
}

enum err tx_cursor_list(struct store_tx *t, struct span from, struct span to, cursor_each *each, void *ctx)
{
    static struct store_sql q =
        STORE_SQL("SELECT name, seq FROM stream_cursor WHERE name >= ?1 AND name < ?2 ORDER BY name");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_TEXT(from), V_TEXT(to)));
    while (tx_next(t, r, &e))
        e = each(ctx, col_span(t, r, 0), col_u64(t, r, 1));
    return tx_end(t, r, e);
}
