/* hub/front/amqp/device.c - telemetry in: one message a delivery, or a batch of whole messages in the Data
 * sections of one, which are stored together or not at all. Accepted when it is durable. */
#include "hub/domain/message/telemetry.h"
#include "hub/front/amqp/map.h"
#include "hub/front/amqp/peer.h"

#include <stdlib.h>

#define FORMAT_BATCH 0x80013700u

struct d2c {             /* a delivery on its way; owned by itself */
    struct peer_link *l; /* referenced */
    struct amqp_worker *aw;
    struct bus_addr addr;
    uint32_t id;
    bool settled;
    size_t len;            /* bytes of its messages */
    struct d2c_put *first; /* owned, with those that follow */
};
struct d2c_put {
    struct telemetry_put put; /* first */
    struct d2c *of;
    struct d2c_put *next;
    uint8_t mem[]; /* the record; behind it the bag, and a body that came in pieces */
};

static void d2c_finish(struct d2c *d, enum err e)
{
    struct conn *c = conn_find(d->aw->w, d->addr);
    if (c && !conn_is_closing(c)) {
        peer_of(c)->under_way--;
        if (d->l->link) {
            if (!d->settled)
                link_settle(d->l, d->id,
                            !e               ? NULL
                            : e == ERR_FULL  ? "amqp:resource-limit-exceeded"
                            : e == ERR_LIMIT ? "amqp:link:message-size-exceeded"
                            : e == ERR_PROTO ? "amqp:decode-error"
                                             : "amqp:internal-error",
                            e == ERR_FULL    ? "the hub has no room for telemetry at the moment"
                            : e == ERR_LIMIT ? "a telemetry message may have 262144 bytes, properties "
                                               "included"
                            : e == ERR_PROTO ? "the message cannot be read, or its body is no bytes"
                                             : "the message could not be stored");
            link_credit(d->l);
        }
        peer_go_on(c);
    }
    for (struct d2c_put *t = d->first, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    link_unref(d->l);
    free(d);
}

static void put_done(struct op *op)
{
    struct d2c *d = ((struct d2c_put *)(void *)op)->of;
    struct amqp_worker *aw = d->aw;
    struct bus_addr addr = d->addr;
    aw->pending -= d->len;
    d2c_finish(d, op->err);
    struct conn *c = conn_find(aw->w, addr);
    if (c)
        peer_flush(c);
}

/* One message of a delivery, ready to be handed over; *out also when it was refused. */
static enum err put_make(struct d2c *d, struct span payload, struct d2c_put **out)
{
    const struct peer_link *l = d->l;
    const struct hub *h = d->aw->front->hub;
    const struct grant *g = l->grant;
    struct amqp_message m;
    struct span body;
    struct wr bag = { 0 };
    size_t body_len;
    bool one;
    if (amqp_message_decode(payload, &m) || map_body(&m, &body, &body_len, &one))
        return ERR_PROTO;
    if (body_len > h->settings.message_max)
        return ERR_LIMIT;
    map_to_bag(&bag, &m); /* measures */
    struct telemetry_in in = { .device = grant_device(g),
                               .module = grant_module(g),
                               .generation = g->policy ? SPAN_NONE : grant_tail(g),
                               .auth = g->auth,
                               .bag = span_of(NULL, bag.len),
                               .body = span_of(NULL, body_len),
                               .model_id = span_of(l->model, l->model_len) };
    size_t room = telemetry_room(&in), len = sizeof(struct d2c_put) + room + bag.len + (one ? 0 : body_len);
    struct d2c_put *t = malloc(len);
    if (!t)
        return ERR_NOMEM;
    *t = (struct d2c_put){ .of = d };
    *out = t;
    d->len += len;
    struct wr w = { t->mem + room, bag.len, 0 };
    map_to_bag(&w, &m);
    in.bag = wr_span(&w);
    in.body = body;
    if (!one) {
        w = (struct wr){ t->mem + room + bag.len, body_len, 0 };
        map_body_put(&w, &m);
        in.body = wr_span(&w);
    }
    t->put.append.op.home = worker_mailbox(d->aw->w);
    t->put.append.op.done = put_done;
    return telemetry_prepare(d->aw->front->hub, &t->put, &in, t->mem, room);
}

/* All of a batch are taken, or none is. */
static enum err batch_make(struct d2c *d, struct span payload)
{
    struct amqp_message m;
    struct span at, inner;
    struct d2c_put **last = &d->first, *before = NULL;
    if (amqp_message_decode(payload, &m) || m.body != AMQP_DATA)
        return ERR_PROTO;
    for (at = m.sections; amqp_data_next(&at, &inner); last = &before->next) {
        enum err e = put_make(d, inner, last);
        if (e)
            return e;
        if (before)
            telemetry_join(&before->put, &(*last)->put);
        before = *last;
    }
    return ERR_OK;
}

static void on_telemetry(struct peer_link *l, const struct amqp_event *ev)
{
    struct conn *c = l->conn;
    struct d2c *d;
    if (!peer_throttle(c, THROTTLE_D2C_SENDS, NULL)) {
        if (!ev->delivery.settled)
            link_settle(l, ev->delivery.id, "com.microsoft:device-container-throttled",
                        "telemetry comes faster than this hub is set to take it");
        link_credit(l);
        return;
    }
    d = malloc(sizeof *d);
    if (!d || !l->grant) { /* its grant is gone: the detach is on its way */
        if (!ev->delivery.settled)
            link_settle(l, ev->delivery.id, l->grant ? "amqp:internal-error" : "amqp:unauthorized-access",
                        "the message was not taken");
        free(d);
        return;
    }
    link_note_activity(c, l->grant);
    *d = (struct d2c){ .l = l,
                       .aw = peer_worker(c),
                       .addr = conn_addr(c),
                       .id = ev->delivery.id,
                       .settled = ev->delivery.settled };
    link_ref(l);
    peer_of(c)->under_way++;
    enum err e = ev->delivery.format == FORMAT_BATCH ? batch_make(d, ev->delivery.payload)
                                                     : put_make(d, ev->delivery.payload, &d->first);
    if (e) {
        d2c_finish(d, e);
        return;
    }
    d->aw->pending += d->len;
    telemetry_start_all(&d->first->put);
}

const struct peer_kind telemetry_kind = {
    .name = "telemetry", .credit = PEER_CREDIT_TELEMETRY, .of_device = true, .on_message = on_telemetry
};

/* Links that are accepted and on which nothing ever comes. */
const struct peer_kind silent_kind = { .name = "silent" };
