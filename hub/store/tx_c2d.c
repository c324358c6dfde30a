/* hub/store/tx_c2d.c - messages to devices: each device's own queue, broadcasts to the whole fleet. What
 * became of them is tx_feedback.c and, in numbers, tx_broadcast.c.
 *
 * A broadcast is one row. What a device did with broadcasts is a cursor (everything up to it is behind the
 * device) and single marks beyond it for what was settled out of order or delivered; when a gap closes, the
 * cursor moves on and the marks go. A device that was not there yet starts behind what had been sent. Own
 * messages and broadcasts take their numbers from one sequence, so their order is the order of sending. */
#include "hub/store/store_backend.h"

#define BROADCASTS_MAX 1000 /* waiting at a time */

#define MESSAGE_COLS "seq, enqueued_ms, expires_ms, ack, message_id, props, body"

/* Columns: MESSAGE_COLS, deliveries and, for own messages, the device. */
static void c2d_row(struct store_tx *t, struct store_rows *r, bool broadcast, struct span device,
                    struct c2d_row *out)
{
    *out = (struct c2d_row){
        .device = device.p ? device : col_span(t, r, 8),
        .broadcast = broadcast,
        .seq = col_u64(t, r, 0),
        .enqueued_ms = col_u64(t, r, 1),
        .expires_ms = col_u64(t, r, 2),
        .ack = (uint8_t)col_u64(t, r, 3),
        .message_id = col_span(t, r, 4),
        .props = col_span(t, r, 5),
        .body = col_span(t, r, 6),
        .deliveries = (uint32_t)col_u64(t, r, 7),
    };
}

/* A module has a queue of its own, named "device/module", and no part in broadcasts. */
static const uint8_t *module_mark(struct span identity)
{
    return identity.n ? memchr(identity.p, '/', identity.n) : NULL;
}

static enum err identity_there(struct store_tx *t, struct span identity)
{
    static struct store_sql device = STORE_SQL("SELECT 1 FROM device WHERE id = ?1");
    static struct store_sql module = STORE_SQL("SELECT 1 FROM module WHERE device = ?1 AND id = ?2");
    const uint8_t *mark = module_mark(identity);
    int64_t n;
    size_t head = mark ? (size_t)(mark - identity.p) : 0;
    enum err e =
        mark ? tx_number(t, 0, &n, &module,
                         ARGS(V_TEXT(span_of(identity.p, head)), V_TEXT(span_skip(identity, head + 1))))
             : tx_number(t, 0, &n, &device, ARGS(V_TEXT(identity)));
    return e ? e : n ? ERR_OK : ERR_NOTFOUND;
}

/* ---- sending --------------------------------------------------------------------------------------- */

enum err tx_c2d_push(struct store_tx *t, const struct c2d_row *r, size_t depth_max, uint64_t *seq)
{
    static struct store_sql depth =
        STORE_SQL("SELECT count(*) FROM (SELECT 1 FROM c2d WHERE device = ?1 LIMIT ?2)");
    static struct store_sql q = STORE_SQL("INSERT INTO c2d(" MESSAGE_COLS ", deliveries, device)"
                                          " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8)");
    int64_t n;
    uint64_t next;
    enum err e = identity_there(t, r->device);
    if (e)
        return e;
    e = tx_number(t, 0, &n, &depth, ARGS(V_TEXT(r->device), V_MS(depth_max)));
    if (e || (uint64_t)n >= depth_max)
        return e ? e : ERR_LIMIT;
    e = tx_seq_next(t, SEQ_C2D, &next);
    if (!e)
        e = tx_exec(t, &q,
                    ARGS(V_INT(next), V_MS(r->enqueued_ms), V_MS(r->expires_ms), V_INT(r->ack),
                         V_TEXT(r->message_id), V_BYTES(r->props), V_BYTES(r->body), V_TEXT(r->device)));
    if (!e)
        *seq = next;
    return e;
}

enum err tx_broadcast_push(struct store_tx *t, const struct c2d_row *r, uint64_t *seq)
{
    static struct store_sql count = STORE_SQL("SELECT count(*) FROM broadcast");
    static struct store_sql q = STORE_SQL("INSERT INTO broadcast(" MESSAGE_COLS ")"
                                          " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)");
    int64_t n;
    uint64_t next;
    enum err e = tx_number(t, 0, &n, &count, ARGS_NONE);
    if (e || n >= BROADCASTS_MAX)
        return e ? e : ERR_LIMIT;
    e = tx_seq_next(t, SEQ_C2D, &next);
    if (!e)
        e = tx_exec(t, &q,
                    ARGS(V_INT(next), V_MS(r->enqueued_ms), V_MS(r->expires_ms), V_INT(r->ack),
                         V_TEXT(r->message_id), V_BYTES(r->props), V_BYTES(r->body)));
    if (!e)
        e = tx_broadcast_begin(t, next, r);
    if (!e)
        *seq = next;
    return e;
}

/* ---- reading --------------------------------------------------------------------------------------- */

/* Broadcasts up to *cursor are behind the device. ERR_NOTFOUND: no such device. */
static enum err cursor_get(struct store_tx *t, struct span device, uint64_t *cursor)
{
    static struct store_sql q = STORE_SQL("SELECT coalesce(c.seq, d.since_seq) FROM device d"
                                          " LEFT JOIN broadcast_cursor c ON c.device = d.id WHERE d.id = ?1");
    int64_t n = INT64_MAX; /* all broadcasts are behind a module */
    enum err e =
        module_mark(device) ? identity_there(t, device) : tx_number(t, -1, &n, &q, ARGS(V_TEXT(device)));
    if (e || n < 0)
        return e ? e : ERR_NOTFOUND;
    *cursor = (uint64_t)n;
    return ERR_OK;
}

enum err tx_c2d_list(struct store_tx *t, struct span device, uint64_t after_seq, uint64_t after_bcast,
                     size_t limit, c2d_each *each, void *ctx)
{
    static struct store_sql own_q =
        STORE_SQL("SELECT " MESSAGE_COLS ", deliveries FROM c2d WHERE device = ?1 AND seq > ?2"
                  " ORDER BY seq LIMIT ?3");
    static struct store_sql all_q =
        STORE_SQL("SELECT b.seq, b.enqueued_ms, b.expires_ms, b.ack, b.message_id, b.props, b.body,"
                  " coalesce(m.deliveries, 0) FROM broadcast b"
                  " LEFT JOIN broadcast_mark m ON m.device = ?1 AND m.seq = b.seq"
                  " WHERE b.seq > ?2 AND coalesce(m.settled, 0) = 0 ORDER BY b.seq LIMIT ?3");
    struct store_rows *own = NULL, *all = NULL;
    struct c2d_row a, b;
    uint64_t cursor;
    enum err e = cursor_get(t, device, &cursor);
    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e; /* nothing waits for nobody */
    if (after_bcast < cursor)
        after_bcast = cursor;
    e = tx_query(t, &own, &own_q, ARGS(V_TEXT(device), V_MS(after_seq), V_MS(limit)));
    if (!e)
        e = tx_query(t, &all, &all_q, ARGS(V_TEXT(device), V_MS(after_bcast), V_MS(limit)));
    bool has_a = own && tx_next(t, own, &e), has_b = all && tx_next(t, all, &e);
    while (!e && limit-- && (has_a || has_b)) {
        if (has_a)
            c2d_row(t, own, false, device, &a);
        if (has_b)
            c2d_row(t, all, true, device, &b);
        if (has_a && (!has_b || a.seq < b.seq)) {
            e = each(ctx, &a);
            has_a = tx_next(t, own, &e);
        } else {
            e = each(ctx, &b);
            has_b = tx_next(t, all, &e);
        }
    }
    tx_end(t, all, ERR_OK);
    return tx_end(t, own, e);
}

enum err tx_c2d_count(struct store_tx *t, struct span device, uint64_t *nr)
{
    static struct store_sql own = STORE_SQL("SELECT count(*) FROM c2d WHERE device = ?1");
    static struct store_sql all =
        STORE_SQL("SELECT count(*) FROM broadcast b LEFT JOIN broadcast_mark m ON m.device = ?1"
                  " AND m.seq = b.seq WHERE b.seq > ?2 AND coalesce(m.settled, 0) = 0");
    int64_t a, b;
    uint64_t cursor;
    enum err e = cursor_get(t, device, &cursor);
    if (!e)
        e = tx_number(t, 0, &a, &own, ARGS(V_TEXT(device)));
    if (!e)
        e = tx_number(t, 0, &b, &all, ARGS(V_TEXT(device), V_MS(cursor)));
    if (!e)
        *nr = (uint64_t)(a + b);
    return e;
}

/* ---- delivering and settling ----------------------------------------------------------------------- */

/* What the device still has to do with broadcast seq: ERR_NOTFOUND when nothing. */
static enum err broadcast_open(struct store_tx *t, struct span device, uint64_t seq, uint64_t *cursor,
                               int64_t *deliveries)
{
    static struct store_sql q =
        STORE_SQL("SELECT coalesce(m.settled, 0), coalesce(m.deliveries, 0) FROM broadcast b"
                  " LEFT JOIN broadcast_mark m ON m.device = ?1 AND m.seq = b.seq WHERE b.seq = ?2");
    struct store_rows *r;
    int64_t settled = 1, nr = 0;
    enum err e = cursor_get(t, device, cursor);
    if (e || seq <= *cursor)
        return e ? e : ERR_NOTFOUND;
    e = tx_query(t, &r, &q, ARGS(V_TEXT(device), V_MS(seq)));
    if (tx_next(t, r, &e)) {
        settled = t->be->col_int(r, 0);
        nr = t->be->col_int(r, 1);
    }
    e = tx_end(t, r, e);
    if (!e && settled)
        e = ERR_NOTFOUND;
    if (!e)
        *deliveries = nr;
    return e;
}

static enum err mark_put(struct store_tx *t, struct span device, uint64_t seq, bool settled, int64_t nr)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO broadcast_mark(device, seq, settled, deliveries) VALUES(?1, ?2, ?3, ?4)"
                  " ON CONFLICT(device, seq) DO UPDATE SET settled = excluded.settled,"
                  " deliveries = excluded.deliveries");
    return tx_exec(t, &q, ARGS(V_TEXT(device), V_MS(seq), V_INT(settled), V_INT(nr)));
}

enum err tx_c2d_delivered(struct store_tx *t, struct span device, bool broadcast, uint64_t seq,
                          uint32_t *deliveries)
{
    static struct store_sql find = STORE_SQL("SELECT deliveries FROM c2d WHERE seq = ?2 AND device = ?1");
    static struct store_sql q = STORE_SQL("UPDATE c2d SET deliveries = ?3 WHERE seq = ?2 AND device = ?1");
    int64_t nr;
    uint64_t cursor;
    enum err e;
    if (broadcast) {
        e = broadcast_open(t, device, seq, &cursor, &nr);
        if (!e)
            e = mark_put(t, device, seq, false, nr + 1);
    } else {
        e = tx_number(t, -1, &nr, &find, ARGS(V_TEXT(device), V_MS(seq)));
        if (!e && nr < 0)
            e = ERR_NOTFOUND;
        if (!e)
            e = tx_exec(t, &q, ARGS(V_TEXT(device), V_MS(seq), V_INT(nr + 1)));
    }
    if (!e)
        *deliveries = (uint32_t)(nr + 1);
    return e;
}

/* The device is done with broadcast seq. */
static enum err broadcast_settle(struct store_tx *t, struct span device, uint64_t seq)
{
    /* The first one beyond the cursor that the device is not done with, this one left aside. */
    static struct store_sql next_q =
        STORE_SQL("SELECT b.seq FROM broadcast b LEFT JOIN broadcast_mark m ON m.device = ?1"
                  " AND m.seq = b.seq WHERE b.seq > ?2 AND b.seq <> ?3 AND coalesce(m.settled, 0) = 0"
                  " ORDER BY b.seq LIMIT 1");
    static struct store_sql last_q = STORE_SQL("SELECT max(seq) FROM broadcast");
    static struct store_sql put = STORE_SQL("INSERT INTO broadcast_cursor(device, seq) VALUES(?1, ?2)"
                                            " ON CONFLICT(device) DO UPDATE SET seq = excluded.seq");
    static struct store_sql clear = STORE_SQL("DELETE FROM broadcast_mark WHERE device = ?1 AND seq <= ?2");
    uint64_t cursor;
    int64_t nr, next, last;
    enum err e = broadcast_open(t, device, seq, &cursor, &nr);
    if (!e)
        e = tx_number(t, 0, &next, &next_q, ARGS(V_TEXT(device), V_MS(cursor), V_MS(seq)));
    if (e)
        return e;
    if (next && (uint64_t)next < seq) /* a gap before it stays open */
        return mark_put(t, device, seq, true, nr);
    e = tx_number(t, 0, &last, &last_q, ARGS_NONE);
    if (!e)
        e = tx_exec(t, &put, ARGS(V_TEXT(device), V_INT(next ? next - 1 : last)));
    return e ? e : tx_exec(t, &clear, ARGS(V_TEXT(device), V_INT(next ? next - 1 : last)));
}

enum err tx_c2d_settle(struct store_tx *t, struct span device, bool broadcast, uint64_t seq)
{
    static struct store_sql find = STORE_SQL("SELECT 1 FROM c2d WHERE seq = ?2 AND device = ?1");
    static struct store_sql q = STORE_SQL("DELETE FROM c2d WHERE seq = ?2 AND device = ?1");
    int64_t there;
    if (broadcast)
        return broadcast_settle(t, device, seq);
    enum err e = tx_number(t, 0, &there, &find, ARGS(V_TEXT(device), V_MS(seq)));
    if (!e && !there)
        e = ERR_NOTFOUND;
    return e ? e : tx_exec(t, &q, ARGS(V_TEXT(device), V_MS(seq)));
}

/* Marks of an expired broadcast go with the device's next cursor move. */
static enum err expire(struct store_tx *t, bool broadcast, uint64_t now_ms, size_t *limit, c2d_each *each,
                       void *ctx)
{
    static struct store_sql own_q =
        STORE_SQL("SELECT " MESSAGE_COLS ", deliveries, device FROM c2d"
                  " WHERE expires_ms > 0 AND expires_ms <= ?1 ORDER BY expires_ms LIMIT 1");
    static struct store_sql all_q =
        STORE_SQL("SELECT " MESSAGE_COLS ", 0, '' FROM broadcast"
                  " WHERE expires_ms > 0 AND expires_ms <= ?1 ORDER BY expires_ms LIMIT 1");
    static struct store_sql own_del = STORE_SQL("DELETE FROM c2d WHERE seq = ?1");
    static struct store_sql all_del = STORE_SQL("DELETE FROM broadcast WHERE seq = ?1");
    enum err e = ERR_OK;
    for (; !e && *limit; --*limit) {
        struct store_rows *r;
        struct c2d_row row = { 0 };
        e = tx_query(t, &r, broadcast ? &all_q : &own_q, ARGS(V_MS(now_ms)));
        bool found = tx_next(t, r, &e);
        if (found) {
            c2d_row(t, r, broadcast, SPAN_NONE, &row);
            e = each(ctx, &row);
        }
        e = tx_end(t, r, e);
        if (!found)
            break;
        if (!e)
            e = tx_exec(t, broadcast ? &all_del : &own_del, ARGS(V_INT(row.seq)));
        if (!e && broadcast)
            e = tx_broadcast_expired(t, row.seq);
    }
    return e;
}

enum err tx_c2d_expire(struct store_tx *t, uint64_t now_ms, size_t limit, c2d_each *each, void *ctx)
{
    enum err e = expire(t, false, now_ms, &limit, each, ctx);
    return e ? e : expire(t, true, now_ms, &limit, each, ctx);
}
