/* hub/store/tx_broadcast.c - what became of broadcasts, in numbers. A broadcast is for the devices that are
 * there when it is sent; each of them is moved once from `pending` to how it ended, in the transaction that
 * settles it, so that asking costs one row however large the fleet is. */
#include "hub/store/store_backend.h"

#define KEPT 10000 /* broadcasts whose counts are kept; one that is still pending stays in any case */

#define COLS                                                                                                 \
    "seq, sent_ms, expires_ms, message_id, devices, pending, delivered, expired, dead, purged, rejected"

enum err tx_broadcast_begin(struct store_tx *t, uint64_t seq, const struct c2d_row *r)
{
    static struct store_sql put =
        STORE_SQL("INSERT INTO broadcast_tally(seq, message_id, sent_ms, expires_ms, devices, pending)"
                  " VALUES(?1, ?2, ?3, ?4, ?5, ?5)");
    static struct store_sql trim =
        STORE_SQL("DELETE FROM broadcast_tally WHERE pending = 0 AND seq <="
                  " (SELECT seq FROM broadcast_tally ORDER BY seq DESC LIMIT 1 OFFSET ?1)");
    uint64_t nr[3];
    enum err e = tx_device_count(t, nr);
    if (!e)
        e = tx_exec(t, &put,
                    ARGS(V_MS(seq), V_TEXT(r->message_id), V_MS(r->enqueued_ms), V_MS(r->expires_ms),
                         V_INT(nr[0] + nr[1] + nr[2])));
    return e ? e : tx_exec(t, &trim, ARGS(V_INT(KEPT)));
}

enum err tx_broadcast_count(struct store_tx *t, uint64_t seq, enum broadcast_end end)
{
#define ONE(column)                                                                                          \
    STORE_SQL("UPDATE broadcast_tally SET pending = pending - 1, " column " = " column                       \
              " + 1 WHERE seq = ?1 AND pending > 0")
    static struct store_sql one[BROADCAST_ENDS] = {
        [BROADCAST_DELIVERED] = ONE("delivered"), [BROADCAST_EXPIRED] = ONE("expired"),
        [BROADCAST_DEAD] = ONE("dead"),           [BROADCAST_PURGED] = ONE("purged"),
        [BROADCAST_REJECTED] = ONE("rejected"),
    };
#undef ONE
    static struct store_sql left = STORE_SQL("SELECT pending FROM broadcast_tally WHERE seq = ?1");
    static struct store_sql done = STORE_SQL("DELETE FROM broadcast WHERE seq = ?1");
    int64_t nr;
    enum err e = tx_exec(t, &one[end], ARGS(V_MS(seq)));
    if (!e)
        e = tx_number(t, -1, &nr, &left, ARGS(V_MS(seq)));
    return e || nr ? e : tx_exec(t, &done, ARGS(V_MS(seq)));
}

enum err tx_broadcast_leave(struct store_tx *t, struct span device)
{
    static struct store_sql count =
        STORE_SQL("UPDATE broadcast_tally SET pending = pending - 1, purged = purged + 1"
                  " WHERE pending > 0 AND seq IN (SELECT b.seq FROM broadcast b"
                  " LEFT JOIN broadcast_mark m ON m.device = ?1 AND m.seq = b.seq WHERE b.seq >"
                  " (SELECT coalesce(c.seq, d.since_seq) FROM device d"
                  " LEFT JOIN broadcast_cursor c ON c.device = d.id WHERE d.id = ?1)"
                  " AND coalesce(m.settled, 0) = 0)");
    static struct store_sql done =
        STORE_SQL("DELETE FROM broadcast WHERE EXISTS (SELECT 1 FROM broadcast_tally y"
                  " WHERE y.seq = broadcast.seq AND y.pending = 0)");
    enum err e = tx_exec(t, &count, ARGS(V_TEXT(device)));
    return e ? e : tx_exec(t, &done, ARGS_NONE);
}

enum err tx_broadcast_expired(struct store_tx *t, uint64_t seq)
{
    static struct store_sql q =
        STORE_SQL("UPDATE broadcast_tally SET expired = expired + pending, pending = 0 WHERE seq = ?1");
    return tx_exec(t, &q, ARGS(V_MS(seq)));
}

/* ---- reading --------------------------------------------------------------------------------------- */

static void row_of(struct store_tx *t, struct store_rows *r, struct broadcast_row *out)
{
    *out = (struct broadcast_row){ .seq = col_u64(t, r, 0),
                                   .sent_ms = col_u64(t, r, 1),
                                   .expires_ms = col_u64(t, r, 2),
                                   .message_id = col_span(t, r, 3),
                                   .devices = col_u64(t, r, 4),
                                   .pending = col_u64(t, r, 5) };
    for (int i = 0; i < BROADCAST_ENDS; i++)
        out->ended[i] = col_u64(t, r, 6 + i);
}

enum err tx_broadcast_get(struct store_tx *t, uint64_t seq, struct broadcast_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " COLS " FROM broadcast_tally WHERE seq = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_MS(seq)));
    if (!e)
        row_of(t, r, out);
    return e;
}

enum err tx_broadcast_find(struct store_tx *t, struct span message_id, struct broadcast_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " COLS " FROM broadcast_tally WHERE message_id = ?1"
                                          " ORDER BY seq DESC LIMIT 1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(message_id)));
    if (!e)
        row_of(t, r, out);
    return e;
}

enum err tx_broadcast_list(struct store_tx *t, uint64_t before_seq, size_t limit, broadcast_each *each,
                           void *ctx)
{
    static struct store_sql q =
        STORE_SQL("SELECT " COLS " FROM broadcast_tally WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(before_seq), V_MS(limit)));
    while (tx_next(t, r, &e)) {
        struct broadcast_row row;
        row_of(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}
