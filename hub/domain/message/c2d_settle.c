/* hub/domain/message/c2d_settle.c - how messages leave the queue: completed, expired, delivered too often,
 * purged. */
#include "hub/domain/message/c2d_settle.h"

#include "base/log.h"
#include "hub/domain/hub.h"
#include "hub/domain/message/feedback.h"
#include "hub/domain/metrics.h"

#include <assert.h>
#include <stdlib.h>

#define MESSAGE_ID_KEPT 256u /* bytes of a message id that feedback repeats */
#define SWEEP_BATCH     256u
#define NO_MORE         ((uint64_t)INT64_MAX) /* "after" this there is nothing: the other queue only */

const char *const c2d_outcomes[C2D_ENDS] = { "Success", "Expired", "DeliveryCountExceeded", "Purged",
                                             "Rejected" };

_Static_assert((int)C2D_SUCCESS == BROADCAST_DELIVERED && (int)C2D_EXPIRED == BROADCAST_EXPIRED &&
                   (int)C2D_DEAD == BROADCAST_DEAD && (int)C2D_PURGED == BROADCAST_PURGED &&
                   (int)C2D_REJECTED == BROADCAST_REJECTED && (int)C2D_ENDS == BROADCAST_ENDS,
               "the store counts by the same names");

bool c2d_wants_feedback(uint8_t ack, enum c2d_end end)
{
    return ack & (end == C2D_SUCCESS ? C2D_ACK_POSITIVE : C2D_ACK_NEGATIVE);
}

static void count(struct hub *h, enum c2d_end end, size_t nr)
{
    if (end == C2D_SUCCESS)
        METRIC_ADD(h, c2d_completed_total, nr);
    else if (end == C2D_EXPIRED)
        METRIC_ADD(h, c2d_expired_total, nr);
    else if (end == C2D_DEAD)
        METRIC_ADD(h, c2d_dead_total, nr);
}

struct found {
    struct c2d_ref ref;
    bool is;
    size_t id_len;
    uint8_t id[MESSAGE_ID_KEPT];
};

static enum err found_each(void *ctx, const struct c2d_row *r)
{
    struct found *f = ctx;
    if (r->seq == f->ref.seq && r->broadcast == f->ref.broadcast) {
        f->is = true;
        f->ref.ack = r->ack;
        f->id_len = r->message_id.n < sizeof f->id ? r->message_id.n : sizeof f->id;
        if (f->id_len)
            memcpy(f->id, r->message_id.p, f->id_len);
    }
    return ERR_OK;
}

enum err c2d_settle_one(struct hub *h, struct store_tx *tx, struct span device, struct c2d_ref ref,
                        enum c2d_end end)
{
    struct found f = { .ref = ref };
    enum err e = ERR_OK;
    if (c2d_wants_feedback(ref.ack, end)) /* the row knows the message id; the others need not be read */
        e = tx_c2d_list(tx, device, ref.broadcast ? NO_MORE : ref.seq - 1,
                        ref.broadcast ? ref.seq - 1 : NO_MORE, 1, found_each, &f);
    if (!e)
        e = tx_c2d_settle(tx, device, ref.broadcast, ref.seq);
    if (!e && ref.broadcast)
        e = tx_broadcast_count(tx, ref.seq, (enum broadcast_end)end);
    if (e || !f.is)
        return e;
    return feedback_push(h, tx,
                         &(struct feedback_row){ .at_ms = h->wall_ms(),
                                                 .device = device,
                                                 .message_id = span_of(f.id, f.id_len),
                                                 .outcome = span_str(c2d_outcomes[end]),
                                                 .broadcast_seq = ref.broadcast ? ref.seq : 0 });
}

/* ---- operations nobody waits for: they own themselves ----------------------------------------------- */

struct refs_op {
    struct store_op store;
    struct hub *hub;
    enum c2d_end end;
    bool delivered; /* raise the delivery count instead of settling */
    size_t settled;
    size_t refs_nr, device_len;
    struct c2d_ref refs[]; /* then the device id */
};

static enum err refs_run(struct store_tx *tx, struct store_op *self)
{
    struct refs_op *o = (struct refs_op *)(void *)self;
    struct span device = span_of(o->refs + o->refs_nr, o->device_len);
    o->settled = 0;
    for (size_t i = 0; i < o->refs_nr; i++) {
        uint32_t nr;
        enum err e = o->delivered ? tx_c2d_delivered(tx, device, o->refs[i].broadcast, o->refs[i].seq, &nr)
                                  : c2d_settle_one(o->hub, tx, device, o->refs[i], o->end);
        if (e && e != ERR_NOTFOUND) /* settled meanwhile: by the sweep, by another session */
            return e;
        o->settled += !e;
    }
    return ERR_OK;
}

static void refs_done(struct op *op)
{
    struct refs_op *o = (struct refs_op *)(void *)op;
    if (op->err && op->err != ERR_STOPPED) /* then the message is delivered once more */
        log_warn("c2d.settle", "device=%.*s err=%s", (int)o->device_len, (const char *)(o->refs + o->refs_nr),
                 err_name(op->err));
    if (!op->err && o->delivered)
        METRIC_ADD(o->hub, c2d_delivered_total, o->settled);
    else if (!op->err)
        count(o->hub, o->end, o->settled);
    free(o);
}

static void refs_start(struct hub *h, struct span device, const struct c2d_ref *refs, size_t nr,
                       enum c2d_end end, bool delivered)
{
    if (!nr)
        return;
    struct refs_op *o = calloc(1, sizeof *o + nr * sizeof *refs + device.n);
    if (!o) {
        log_error("c2d.settle", "err=%s", err_name(ERR_NOMEM));
        return;
    }
    o->hub = h;
    o->end = end;
    o->delivered = delivered;
    o->refs_nr = nr;
    o->device_len = device.n;
    memcpy(o->refs, refs, nr * sizeof *refs);
    memcpy(o->refs + nr, device.p, device.n);
    o->store.run = refs_run;
    o->store.op.done = refs_done;
    store_write(h->store, &o->store);
}

void c2d_settle(struct hub *h, struct span device, const struct c2d_ref *refs, size_t nr, enum c2d_end end)
{
    refs_start(h, device, refs, nr, end, false);
}
void c2d_complete(struct hub *h, struct span device, const struct c2d_ref *refs, size_t nr)
{
    refs_start(h, device, refs, nr, C2D_SUCCESS, false);
}
void c2d_reject(struct hub *h, struct span device, const struct c2d_ref *refs, size_t nr)
{
    c2d_settle(h, device, refs, nr, C2D_REJECTED);
}
void c2d_delivered(struct hub *h, struct span device, const struct c2d_ref *refs, size_t nr)
{
    refs_start(h, device, refs, nr, C2D_SUCCESS, true);
}

/* ---- and one that somebody waits for ---------------------------------------------------------------- */

static enum err end_run(struct store_tx *tx, struct store_op *self)
{
    struct c2d_end_op *o = (struct c2d_end_op *)(void *)self;
    return c2d_settle_one(o->hub, tx, o->device, o->ref, o->end);
}

static void end_done(struct op *op)
{
    struct c2d_end_op *o = (struct c2d_end_op *)(void *)op;
    if (!op->err)
        count(o->hub, o->end, 1);
    op->done = o->done;
    o->done(op);
}

void c2d_end_start(struct c2d_end_op *o)
{
    o->done = o->store.op.done;
    o->store.op.done = end_done;
    o->store.run = end_run;
    store_write(o->hub->store, &o->store);
}

/* ---- purge ------------------------------------------------------------------------------------------------
 */

struct purge_ctx {
    struct c2d_ref refs[64];
    size_t nr;
};

static enum err purge_each(void *ctx, const struct c2d_row *r)
{
    struct purge_ctx *x = ctx;
    x->refs[x->nr++] = (struct c2d_ref){ r->seq, r->broadcast, r->ack };
    return ERR_OK;
}

enum err c2d_purge(struct hub *h, struct store_tx *tx, struct span device)
{
    struct purge_ctx x;
    do {
        x.nr = 0;
        enum err e = tx_c2d_list(tx, device, 0, 0, sizeof x.refs / sizeof *x.refs, purge_each, &x);
        for (size_t i = 0; !e && i < x.nr; i++)
            e = c2d_settle_one(h, tx, device, x.refs[i], C2D_PURGED);
        if (e)
            return e;
    } while (x.nr == sizeof x.refs / sizeof *x.refs);
    return ERR_OK;
}

/* ---- the sweep -------------------------------------------------------------------------------------- */

struct sweep {
    struct store_op store;
    struct hub *hub;
    size_t rows;     /* expired in this round */
    struct wr notes; /* feedback to write: device, message id and number, one after the other */
    size_t notes_nr;
    bool failed;
};
struct note {
    uint64_t broadcast_seq;
    uint16_t device_len, id_len;
};

static enum err sweep_each(void *ctx, const struct c2d_row *r)
{
    struct sweep *s = ctx;
    s->rows++;
    if (!c2d_wants_feedback(r->ack, C2D_EXPIRED))
        return ERR_OK;
    struct note n = { r->broadcast ? r->seq : 0, (uint16_t)r->device.n,
                      (uint16_t)(r->message_id.n < MESSAGE_ID_KEPT ? r->message_id.n : MESSAGE_ID_KEPT) };
    size_t need = s->notes.len + sizeof n + n.device_len + n.id_len;
    if (need > s->notes.cap) {
        uint8_t *p = realloc(s->notes.p, 2 * need);
        if (!p)
            return ERR_NOMEM;
        s->notes.p = p;
        s->notes.cap = 2 * need;
    }
    wr_put(&s->notes, span_of(&n, sizeof n));
    wr_put(&s->notes, span_of(r->device.p, n.device_len));
    wr_put(&s->notes, span_of(r->message_id.p, n.id_len));
    s->notes_nr++;
    return ERR_OK;
}

static enum err sweep_run(struct store_tx *tx, struct store_op *self)
{
    struct sweep *s = (struct sweep *)(void *)self;
    uint64_t now = s->hub->wall_ms();
    s->rows = s->notes_nr = s->notes.len = 0;
    enum err e = tx_c2d_expire(tx, now, SWEEP_BATCH, sweep_each, s);
    struct rd r = rd_of(wr_span(&s->notes));
    for (size_t i = 0; !e && i < s->notes_nr; i++) {
        struct note n;
        struct span packed = rd_take(&r, sizeof n);
        assert(packed.n == sizeof n);
        memcpy(&n, packed.p, sizeof n);
        struct span device = rd_take(&r, n.device_len);
        e = feedback_push(s->hub, tx,
                          &(struct feedback_row){ .at_ms = now,
                                                  .device = device,
                                                  .message_id = rd_take(&r, n.id_len),
                                                  .outcome = span_str(c2d_outcomes[C2D_EXPIRED]),
                                                  .broadcast_seq = n.broadcast_seq });
    }
    return e;
}

static void sweep_done(struct op *op)
{
    struct sweep *s = (struct sweep *)(void *)op;
    struct hub *h = s->hub;
    if (!op->err) {
        count(h, C2D_EXPIRED, s->rows);
        if (s->rows >= SWEEP_BATCH) { /* there may be more */
            store_write(h->store, &s->store);
            return;
        }
    } else if (op->err != ERR_STOPPED) {
        log_warn("c2d.sweep", "err=%s", err_name(op->err));
    }
    free(s->notes.p);
    free(s);
    atomic_store(&h->c2d_sweeping, false);
}

void c2d_sweep(struct hub *h)
{
    if (atomic_exchange(&h->c2d_sweeping, true))
        return;
    struct sweep *s = calloc(1, sizeof *s);
    if (!s) {
        atomic_store(&h->c2d_sweeping, false);
        return;
    }
    s->hub = h;
    s->store.run = sweep_run;
    s->store.op.done = sweep_done;
    store_write(h->store, &s->store);
}
