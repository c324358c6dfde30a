/* hub/front/amqp/device.c - telemetry in: one message a delivery, or a batch of whole messages in the Data
 * sections of one. Accepted when it is durable. */
#include "hub/domain/telemetry.h"
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
    unsigned left; /* messages the stream still has */
    enum err err;
};
struct d2c_put {
    struct telemetry_put put; /* first */
    struct d2c *of;
    struct d2c_put *next; /* while a batch is made */
    struct telemetry_in in;
    size_t room, len;
    uint8_t mem[]; /* the record; behind it the bag, and a body that came in pieces */
};

static void d2c_finish(struct d2c *d)
{
    struct conn *c = conn_find(d->aw->w, d->addr);
    if (c && !conn_is_closing(c)) {
        peer_of(c)->under_way--;
        if (d->l->link) {
            if (!d->settled)
                link_settle(d->l, d->id,
                            !d->err               ? NULL
                            : d->err == ERR_FULL  ? "amqp:resource-limit-exceeded"
                            : d->err == ERR_LIMIT ? "amqp:link:message-size-exceeded"
                            : d->err == ERR_PROTO ? "amqp:decode-error"
                                                  : "amqp:internal-error",
                            d->err == ERR_FULL    ? "the hub has no room for telemetry at the moment"
                            : d->err == ERR_LIMIT ? "a telemetry message may have 262144 bytes, properties "
                                                    "included"
                            : d->err == ERR_PROTO ? "the message cannot be read, or its body is no bytes"
                                                  : "the message could not be stored");
            link_credit(d->l);
        }
        peer_go_on(c);
    }
    link_unref(d->l);
    free(d);
}

static void put_done(struct op *op)
{
    struct d2c_put *t = (struct d2c_put *)(void *)op;
    struct d2c *d = t->of;
    d->aw->pending -= t->len;
    if (op->err)
        d->err = op->err;
    free(t);
    if (--d->left)
        return;
    struct amqp_worker *aw = d->aw;
    struct bus_addr addr = d->addr;
    d2c_finish(d);
    struct conn *c = conn_find(aw->w, addr);
    if (c)
        peer_flush(c);
}

/* One message of a delivery, ready to be handed over. */
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
    *t = (struct d2c_put){ .of = d, .room = room, .len = len };
    struct wr w = { t->mem + room, bag.len, 0 };
    map_to_bag(&w, &m);
    in.bag = wr_span(&w);
    in.body = body;
    if (!one) {
        w = (struct wr){ t->mem + room + bag.len, body_len, 0 };
        map_body_put(&w, &m);
        in.body = wr_span(&w);
    }
    t->in = in;
    t->put.append.op.home = worker_mailbox(d->aw->w);
    t->put.append.op.done = put_done;
    *out = t;
    return ERR_OK;
}

/* All of a batch is looked at before the first is handed over. */
static enum err batch_make(struct d2c *d, struct span payload, struct d2c_put **first)
{
    const struct hub *h = d->aw->front->hub;
    struct amqp_message m;
    struct span at, inner;
    struct d2c_put **last = first;
    if (amqp_message_decode(payload, &m) || m.body != AMQP_DATA)
        return ERR_PROTO;
    for (at = m.sections; amqp_data_next(&at, &inner); last = &(*last)->next) {
        enum err e = put_make(d, inner, last);
        if (!e && (*last)->in.body.n + (*last)->in.bag.n > h->settings.message_max) {
            free(*last);
            *last = NULL;
            e = ERR_LIMIT;
        }
        if (e)
            return e;
    }
    return ERR_OK;
}

static void on_telemetry(struct peer_link *l, const struct amqp_event *ev)
{
    struct conn *c = l->conn;
    struct d2c *d = NULL;
    struct d2c_put *first = NULL, *next;
    if (!peer_throttle(c, THROTTLE_D2C_SENDS)) {
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
                       .settled = ev->delivery.settled,
                       .left = 1 }; /* ours, until all are handed over */
    link_ref(l);
    peer_of(c)->under_way++;
    d->err = ev->delivery.format == FORMAT_BATCH ? batch_make(d, ev->delivery.payload, &first)
                                                 : put_make(d, ev->delivery.payload, &first);
    for (; first; first = next) {
        next = first->next;
        if (!d->err &&
            !(d->err = telemetry_start(peer_hub(c), &first->put, &first->in, first->mem, first->room))) {
            d->left++;
            d->aw->pending += first->len;
        } else {
            free(first);
        }
    }
    if (!--d->left)
        d2c_finish(d);
}

const struct peer_kind telemetry_kind = {
    .name = "telemetry", .credit = PEER_CREDIT_TELEMETRY, .of_device = true, .on_message = on_telemetry
};

/* Links that are accepted and on which nothing ever comes. */
const struct peer_kind silent_kind = { .name = "silent" };
