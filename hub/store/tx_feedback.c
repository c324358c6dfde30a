/* hub/store/tx_feedback.c - what became of messages: one log that is read from any position, and beside it
 * one queue whose receivers take rows under a lock and complete them. */
#include "hub/store/store_backend.h"

#define FEEDBACK_MAX 100000 /* rows kept; the oldest go */

#define COLS "seq, at_ms, device, message_id, outcome, broadcast_seq, generation"

enum err tx_feedback_push(struct store_tx *t, const struct feedback_row *r)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO feedback(at_ms, device, message_id, outcome, broadcast_seq, generation)"
                  " VALUES(?1, ?2, ?3, ?4, ?5,"
                  " coalesce((SELECT generation FROM device WHERE id = ?2),"
                  " (SELECT generation FROM module WHERE device = substr(?2, 1, instr(?2, '/') - 1)"
                  " AND id = substr(?2, instr(?2, '/') + 1)), ''))");
    static struct store_sql trim =
        STORE_SQL("DELETE FROM feedback WHERE seq <= (SELECT max(seq) FROM feedback) - ?1");
    enum err e = tx_exec(t, &q,
                         ARGS(V_MS(r->at_ms), V_TEXT(r->device), V_TEXT(r->message_id), V_TEXT(r->outcome),
                              V_INT(r->broadcast_seq)));
    return e ? e : tx_exec(t, &trim, ARGS(V_INT(FEEDBACK_MAX)));
}

static enum err show(struct store_tx *t, struct store_rows *r, enum err e, feedback_each *each, void *ctx,
                     uint64_t *last)
{
    while (tx_next(t, r, &e)) {
        struct feedback_row row = {
            .seq = col_u64(t, r, 0),
            .at_ms = col_u64(t, r, 1),
            .device = col_span(t, r, 2),
            .message_id = col_span(t, r, 3),
            .outcome = col_span(t, r, 4),
            .broadcast_seq = col_u64(t, r, 5),
            .generation = col_span(t, r, 6),
        };
        *last = row.seq;
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

enum err tx_feedback_list(struct store_tx *t, uint64_t after_seq, size_t limit, feedback_each *each,
                          void *ctx)
{
    static struct store_sql q =
        STORE_SQL("SELECT " COLS " FROM feedback WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    struct store_rows *r;
    uint64_t last;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(after_seq), V_MS(limit)));
    return show(t, r, e, each, ctx, &last);
}

enum err tx_feedback_last(struct store_tx *t, uint64_t *seq)
{
    static struct store_sql q = STORE_SQL("SELECT max(seq) FROM feedback"); /* the newest is never trimmed */
    int64_t n;
    enum err e = tx_number(t, 0, &n, &q, ARGS_NONE);
    if (!e)
        *seq = (uint64_t)n;
    return e;
}

/* Open: not completed. Free: not locked, or the lock has run out. */
#define FREE "done = 0 AND locked_until_ms <= ?1"

/* What nobody took in time, and what was taken too often, is done; the log keeps it. */
static enum err give_up(struct store_tx *t, uint64_t now_ms, uint64_t expired_ms, uint32_t deliveries_max)
{
    static struct store_sql old = STORE_SQL("UPDATE feedback SET done = 1, lock = ''"
                                            " WHERE " FREE " AND at_ms < ?2");
    static struct store_sql worn = STORE_SQL("UPDATE feedback SET done = 1, lock = ''"
                                             " WHERE " FREE " AND deliveries > 0 AND deliveries >= ?2");
    enum err e = tx_exec(t, &old, ARGS(V_MS(now_ms), V_MS(expired_ms)));
    return e ? e : tx_exec(t, &worn, ARGS(V_MS(now_ms), V_INT(deliveries_max)));
}

enum err tx_feedback_take(struct store_tx *t, struct span lock, uint64_t now_ms, uint64_t until_ms,
                          uint64_t expired_ms, uint32_t deliveries_max, size_t limit, feedback_each *each,
                          void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT " COLS " FROM feedback WHERE " FREE
                                          " AND at_ms >= ?3 AND deliveries < ?4 ORDER BY seq LIMIT ?2");
    static struct store_sql put =
        STORE_SQL("UPDATE feedback SET lock = ?2, locked_until_ms = ?3, deliveries = deliveries + 1"
                  " WHERE " FREE " AND seq <= ?4");
    struct store_rows *r;
    uint64_t last = 0;
    enum err e =
        tx_query(t, &r, &q, ARGS(V_MS(now_ms), V_MS(limit), V_MS(expired_ms), V_INT(deliveries_max)));
    e = show(t, r, e, each, ctx, &last);
    if (e || !last)
        return e ? e : ERR_NOTFOUND; /* and nothing is written: who looks in vain may do so often */
    e = give_up(t, now_ms, expired_ms, deliveries_max); /* those in between have to go first */
    return e ? e : tx_exec(t, &put, ARGS(V_MS(now_ms), V_TEXT(lock), V_MS(until_ms), V_MS(last)));
}

enum err tx_feedback_settle(struct store_tx *t, struct span lock, uint64_t now_ms, bool done)
{
    static struct store_sql find = STORE_SQL("SELECT count(*) FROM feedback WHERE lock = ?1 AND done = 0"
                                             " AND lock <> '' AND locked_until_ms > ?2");
    static struct store_sql put = STORE_SQL("UPDATE feedback SET done = ?2, locked_until_ms = 0, lock = ''"
                                            " WHERE lock = ?1 AND done = 0 AND lock <> ''");
    int64_t n;
    enum err e = tx_number(t, 0, &n, &find, ARGS(V_TEXT(lock), V_MS(now_ms)));
    if (e || !n)
        return e ? e : ERR_NOTFOUND;
    return tx_exec(t, &put, ARGS(V_TEXT(lock), V_INT(done)));
}
