/* hub/domain/message/c2d.c - see c2d.h: enqueue, list, settle. How messages end is c2d_settle.c. */
#include "hub/domain/message/c2d.h"

#include "base/text.h"
#include "core/bag/bag.h"
#include "core/mqtt/mqtt_packet.h"
#include "core/topic/topic.h"
#include "hub/domain/hub.h"
#include "hub/domain/message/c2d_settle.h"
#include "hub/domain/metrics.h"

#include <assert.h>
#include <stdlib.h>

/* ---- enqueue ---------------------------------------------------------------------------------------- */

static const char *const ack_names[] = { "none", "positive", "negative", "full" };

static void put_system(struct wr *w, enum bag_system s, struct span value)
{
    if (value.n)
        bag_put(w, 0, span_str(bag_system_names[s].wire), value);
}

static void props_encode(struct wr *w, const struct c2d_message *m)
{
    uint8_t text[32];
    struct wr t = { text, sizeof text, 0 };
    put_system(w, BAG_MESSAGE_ID, m->message_id);
    put_system(w, BAG_CORRELATION_ID, m->correlation_id);
    put_system(w, BAG_USER_ID, m->user_id);
    put_system(w, BAG_TO, m->to);
    if (m->expires_ms) {
        iso8601_encode(&t, m->expires_ms);
        put_system(w, BAG_EXPIRY, wr_span(&t));
    }
    put_system(w, BAG_CONTENT_TYPE, m->content_type);
    put_system(w, BAG_CONTENT_ENCODING, m->content_encoding);
    if (m->ack != C2D_ACK_NONE)
        put_system(w, BAG_ACK, span_str(ack_names[m->ack]));
    for (size_t i = 0; i < m->props_nr; i++)
        if (m->props[i].value.n) /* an empty value has no form that every client reads */
            bag_put(w, 0, m->props[i].name, m->props[i].value);
}

/* Does it fit a topic of its device; of any device, for a broadcast? Every byte of an id may become three. */
static bool fits_topic(const struct c2d_message *m, struct span props)
{
    uint8_t longest[DEVICE_ID_MAX];
    memset(longest, '#', sizeof longest);
    struct topic_identity who = { m->device.n ? m->device : span_of(longest, sizeof longest), SPAN_NONE };
    const uint8_t *mark = m->device.n ? memchr(m->device.p, '/', m->device.n) : NULL;
    if (mark) {
        who.device.n = (size_t)(mark - m->device.p);
        who.module = span_skip(m->device, who.device.n + 1);
    }
    struct wr w = { 0 };
    topic_c2d_encode(&w, &who, props);
    return w.len <= MQTT_STRING_MAX;
}

static enum err message_check(const struct hub *h, const struct c2d_message *m, uint64_t now)
{
    size_t size = m->body.n + m->message_id.n + m->correlation_id.n + m->user_id.n + m->to.n +
                  m->content_type.n + m->content_encoding.n;
    for (size_t i = 0; i < m->props_nr; i++) {
        const struct c2d_prop *p = &m->props[i];
        if (!p->name.n || span_starts(p->name, SPAN("$.")) || bag_system_of_wire(p->name) >= 0)
            return ERR_PROTO;
        size += p->name.n + p->value.n;
    }
    if (m->ack > C2D_ACK_FULL || m->device.n > 2 * DEVICE_ID_MAX + 1 ||
        (m->expires_ms && m->expires_ms > now + 1000ull * h->settings.c2d_ttl_max_s))
        return ERR_PROTO;
    return size > C2D_SIZE_MAX ? ERR_LIMIT : ERR_OK;
}

static enum err send_run(struct store_tx *tx, struct store_op *self)
{
    struct c2d_send *s = (struct c2d_send *)(void *)self;
    const struct c2d_message *m = s->message;
    struct c2d_row r = { .device = m->device,
                         .broadcast = m->device.n == 0,
                         .enqueued_ms = s->enqueued_ms,
                         .expires_ms = s->expires_ms,
                         .ack = m->ack,
                         .message_id = m->message_id,
                         .props = wr_span(&s->props),
                         .body = m->body };
    enum err e = r.broadcast ? tx_broadcast_push(tx, &r, &s->seq)
                             : tx_c2d_push(tx, &r, s->hub->settings.c2d_depth_max, &s->seq);
    s->queue_full = e == ERR_LIMIT;
    return s->queue_full ? ERR_FULL : e;
}

static void send_done(struct op *op)
{
    struct c2d_send *s = (struct c2d_send *)(void *)op;
    struct hub *h = s->hub;
    free(s->props.p);
    s->props.p = NULL;
    if (op->err) {
        METRIC_ADD(h, c2d_refused_total, 1);
    } else {
        METRIC_ADD(h, c2d_enqueued_total, 1);
        if (s->message->device.n)
            (void)bus_wake(h->bus, s->message->device, BUS_WAKE_C2D); /* not there: it asks when it comes */
        else
            bus_wake_all(h->bus, BUS_WAKE_C2D);
    }
    op->done = s->done;
    s->done(op);
}

void c2d_send_start(struct c2d_send *s)
{
    const struct c2d_message *m = s->message;
    s->done = s->store.op.done;
    s->store.op.done = send_done;
    s->store.run = send_run;
    s->queue_full = false;
    s->props = (struct wr){ 0 };
    s->enqueued_ms = s->hub->wall_ms();
    s->expires_ms = m->expires_ms ? m->expires_ms : s->enqueued_ms + 1000ull * s->hub->settings.c2d_ttl_s;
    enum err e = message_check(s->hub, m, s->enqueued_ms);
    if (!e) {
        props_encode(&s->props, m); /* measures */
        s->props.cap = s->props.len;
        s->props.len = 0;
        s->props.p = malloc(s->props.cap + 1);
        if (s->props.p)
            props_encode(&s->props, m);
        e = !s->props.p ? ERR_NOMEM : !fits_topic(m, wr_span(&s->props)) ? ERR_LIMIT : ERR_OK;
    }
    if (e)
        op_complete(&s->store.op, e);
    else
        store_write(s->hub->store, &s->store);
}

/* ---- list ------------------------------------------------------------------------------------------- */

#define LIST_ROWS  64u     /* read at a time */
#define LIST_BYTES 131072u /* of a batch, unless its first message alone is longer */

struct list_ctx {
    struct c2d_list *l;
    uint64_t now;
    size_t rows;
    /* What must leave the queue instead of being delivered. */
    struct c2d_ref expired[LIST_ROWS], dead[LIST_ROWS];
    size_t expired_nr, dead_nr;
};

static enum err list_keep(struct c2d_list *l, const struct c2d_row *r)
{
    struct wr *w = &l->mem;
    size_t need = w->len + r->props.n + r->body.n;
    if (need > w->cap) {
        size_t cap = need > 2 * w->cap ? need : 2 * w->cap;
        uint8_t *p = realloc(w->p, cap);
        if (!p)
            return ERR_NOMEM;
        w->p = p;
        w->cap = cap;
    }
    l->items[l->items_nr++] = (struct c2d_item){
        .seq = r->seq,
        .broadcast = r->broadcast,
        .ack = r->ack,
        .deliveries = r->deliveries,
        .enqueued_ms = r->enqueued_ms,
        .props = { NULL, r->props.n }, /* memory may still move: list_run sets the pointers at the end */
        .body = { NULL, r->body.n },
    };
    wr_put(w, r->props);
    wr_put(w, r->body);
    return ERR_OK;
}

static enum err list_each(void *ctx, const struct c2d_row *r)
{
    struct list_ctx *x = ctx;
    struct c2d_list *l = x->l;
    struct c2d_ref ref = { r->seq, r->broadcast, r->ack };
    if (r->expires_ms <= x->now) {
        x->expired[x->expired_nr++] = ref;
    } else if (r->deliveries >= l->hub->settings.c2d_deliveries_max) {
        x->dead[x->dead_nr++] = ref;
    } else {
        if (l->items_nr == l->items_max ||
            (l->items_nr && l->mem.len + r->props.n + r->body.n > LIST_BYTES)) {
            l->more = true;
            return ERR_LIMIT;
        }
        enum err e = list_keep(l, r);
        if (e)
            return e;
    }
    x->rows++;
    *(r->broadcast ? &l->after_bcast : &l->after_seq) = r->seq;
    return ERR_OK;
}

static enum err list_run(struct store_tx *tx, struct store_op *self)
{
    struct c2d_list *l = (struct c2d_list *)(void *)self;
    struct list_ctx x = { .l = l, .now = l->hub->wall_ms() };
    enum err e = ERR_OK;
    do {
        x.rows = x.expired_nr = x.dead_nr = 0;
        e = tx_c2d_list(tx, l->device, l->after_seq, l->after_bcast, LIST_ROWS, list_each, &x);
        c2d_settle(l->hub, l->device, x.expired, x.expired_nr, C2D_EXPIRED);
        c2d_settle(l->hub, l->device, x.dead, x.dead_nr, C2D_DEAD);
    } while (!e && x.rows == LIST_ROWS);
    if (e == ERR_LIMIT && l->more)
        e = ERR_OK;
    const uint8_t *p = l->mem.p;
    for (size_t i = 0; i < l->items_nr; i++) {
        l->items[i].props.p = p;
        l->items[i].body.p = p + l->items[i].props.n;
        p = l->items[i].body.p + l->items[i].body.n;
    }
    return e;
}

void c2d_list_start(struct c2d_list *l)
{
    assert(l->items_max > 0 && l->items_max <= C2D_BATCH_MAX);
    l->items_nr = 0;
    l->more = false;
    l->mem = (struct wr){ 0 };
    l->store.run = list_run;
    if (l->ordered)
        store_write(l->hub->store, &l->store);
    else
        store_read(l->hub->store, &l->store);
}

void c2d_list_fini(struct c2d_list *l)
{
    free(l->mem.p);
    l->mem = (struct wr){ 0 };
    l->items_nr = 0;
}
