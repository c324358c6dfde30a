/* hub/store/tx.c - the few calls that the other tx_*.c files make of a backend: run, one row, many rows, and
 * the counters that a transaction keeps in memory. */
#include "hub/store/store_backend.h"

#include <assert.h>

unsigned store_sql_id(struct store_sql *q)
{
    static _Atomic unsigned last;
    unsigned id = atomic_load_explicit(&q->id, memory_order_acquire);
    if (id)
        return id;
    unsigned fresh = atomic_fetch_add(&last, 1) + 1;
    /* Two threads may come here at once: the loser's number stays unused. */
    if (atomic_compare_exchange_strong(&q->id, &id, fresh))
        id = fresh;
    assert(id <= STORE_SQL_MAX);
    return id;
}

/* Remembers errors of the database, so that an op that overlooks one still fails. */
static enum err note(struct store_tx *t, enum err e)
{
    if (!t->fault && (e == ERR_FULL || e == ERR_IO || e == ERR_NOMEM))
        t->fault = e;
    return e;
}

/* Before an op's first write. */
static enum err begin_write(struct store_tx *t)
{
    assert(t->writable);
    if (!t->saved && !t->sole) {
        enum err e = note(t, t->be->step(t->conn, STORE_SAVE));
        if (e)
            return e;
        t->saved = true;
    }
    t->wrote = true;
    return ERR_OK;
}

static enum err run_to_end(struct store_tx *t, struct store_rows *r)
{
    enum err e = note(t, t->be->next(r));
    t->be->end(r);
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

enum err tx_exec(struct store_tx *t, struct store_sql *q, const struct store_val *v, unsigned nr)
{
    struct store_rows *r;
    enum err e = begin_write(t);
    if (!e)
        e = note(t, t->be->start(t->conn, q, v, nr, &r));
    return e ? e : run_to_end(t, r);
}

enum err tx_exec_text(struct store_tx *t, struct span text, const struct store_val *v, unsigned nr)
{
    struct store_rows *r;
    enum err e = begin_write(t);
    if (!e)
        e = note(t, t->be->start_text(t->conn, text, v, nr, &r));
    return e ? e : run_to_end(t, r);
}

enum err tx_query_text(struct store_tx *t, struct store_rows **r, struct span text, const struct store_val *v,
                       unsigned nr)
{
    *r = NULL;
    return note(t, t->be->start_text(t->conn, text, v, nr, r));
}

enum err tx_query(struct store_tx *t, struct store_rows **r, struct store_sql *q, const struct store_val *v,
                  unsigned nr)
{
    *r = NULL;
    return note(t, t->be->start(t->conn, q, v, nr, r));
}

bool tx_next(struct store_tx *t, struct store_rows *r, enum err *e)
{
    if (*e)
        return false;
    enum err got = note(t, t->be->next(r));
    if (got == ERR_OK) {
        t->rows_read++;
        return true;
    }
    if (got != ERR_NOTFOUND)
        *e = got;
    return false;
}

enum err tx_end(struct store_tx *t, struct store_rows *r, enum err e)
{
    if (r)
        t->be->end(r);
    return e;
}

enum err tx_one(struct store_tx *t, struct store_rows **r, struct store_sql *q, const struct store_val *v,
                unsigned nr)
{
    enum err e = tx_query(t, r, q, v, nr);
    if (e)
        return e;
    if (tx_next(t, *r, &e)) {
        t->be->keep(*r);
        return ERR_OK;
    }
    return tx_end(t, *r, e ? e : ERR_NOTFOUND);
}

enum err tx_number(struct store_tx *t, int64_t none, int64_t *out, struct store_sql *q,
                   const struct store_val *v, unsigned nr)
{
    struct store_rows *r;
    int64_t n = none;
    enum err e = tx_query(t, &r, q, v, nr);
    if (tx_next(t, r, &e))
        n = t->be->col_int(r, 0);
    if (!e)
        *out = n;
    return tx_end(t, r, e);
}

void tx_after(struct store_tx *t, struct tx_after *after)
{
    assert(t->writable);
    after->next = NULL;
    *t->after_end = after;
    t->after_end = &after->next;
}

void tx_after_end(struct store_tx *t, struct tx_after **from, bool committed)
{
    struct tx_after *a = *from;
    *from = NULL;
    t->after_end = from;
    while (a) {
        struct tx_after *next = a->next; /* fn may free it */
        a->fn(a, committed);
        a = next;
    }
}

enum err tx_try(struct store_tx *t, enum err (*fn)(struct store_tx *t, void *ctx), void *ctx)
{
    struct tx_after **before = t->after_end;
    const struct outbox_change outbox = t->outbox_op;
    enum err e = begin_write(t);
    if (!e)
        e = note(t, t->be->step(t->conn, STORE_SAVE));
    if (e)
        return e;
    e = fn(t, ctx);
    if (t->fault) /* of the database: the op is undone as a whole */
        return e ? e : t->fault;
    t->be->end_kept(t->conn);
    if (e) {
        tx_after_end(t, before, false);
        t->outbox_op = outbox;
        t->index_known = false;
    }
    enum err ended = note(t, t->be->step(t->conn, e ? STORE_UNDO : STORE_RELEASE));
    return ended ? ended : e;
}

static const char *const seq_names[STORE_SEQUENCES] = { "c2d_seq", "identity_seq", "event_seq", "block_seq" };

static enum err load(struct store_tx *t, enum store_sequence which)
{
    static struct store_sql q = STORE_SQL("SELECT value FROM counter WHERE name = ?1");
    struct store_counter *c = &t->seq[which];
    assert(t->writable);
    if (c->loaded)
        return ERR_OK;
    enum err e = tx_number(t, 0, &c->value, &q, ARGS(V_TEXT(span_str(seq_names[which]))));
    c->loaded = !e;
    return e;
}

enum err tx_seq_next(struct store_tx *t, enum store_sequence which, uint64_t *seq)
{
    enum err e = load(t, which);
    if (e)
        return e;
    *seq = (uint64_t)++t->seq[which].value;
    t->seq[which].changed = true;
    return ERR_OK;
}

enum err tx_seq_last(struct store_tx *t, enum store_sequence which, uint64_t *seq)
{
    enum err e = load(t, which);
    if (!e)
        *seq = (uint64_t)t->seq[which].value;
    return e;
}

enum err tx_counters_flush(struct store_tx *t)
{
    static struct store_sql q = STORE_SQL("INSERT INTO counter(name, value) VALUES(?1, ?2)"
                                          " ON CONFLICT(name) DO UPDATE SET value = excluded.value");
    enum err e = ERR_OK;
    for (unsigned i = 0; !e && i < STORE_SEQUENCES; i++) {
        if (!t->seq[i].changed)
            continue;
        e = tx_exec(t, &q, ARGS(V_TEXT(span_str(seq_names[i])), V_INT(t->seq[i].value)));
        if (!e)
            t->seq[i].changed = false;
    }
    return e;
}

void tx_counters_drop(struct store_tx *t)
{
    memset(t->seq, 0, sizeof t->seq);
}
