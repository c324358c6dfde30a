/* hub/front/amqp/service.c - cloud-to-device messages from services: one delivery, one durable message, and
 * the documented error when it is not taken. */
#include "hub/domain/identity/identity.h"
#include "hub/domain/message/c2d.h"
#include "hub/front/amqp/map.h"
#include "hub/front/amqp/peer.h"

#include <stdlib.h>

struct send_task {        /* owned by itself */
    struct c2d_send send; /* first */
    struct c2d_message message;
    struct peer_link *l; /* referenced */
    struct amqp_worker *aw;
    struct bus_addr addr;
    uint32_t id;
    bool settled;
    struct wr text; /* ids and numbers that had no text form of their own */
    uint8_t address[ADDRESS_MAX];
    struct c2d_prop *props; /* owned */
    uint8_t mem[];          /* the payload, then text */
};

static void answer(struct send_task *t, enum err e)
{
    const char *condition = "amqp:internal-error", *text = "the message could not be stored";
    switch (e) {
    case ERR_OK:
        condition = text = NULL;
        break;
    case ERR_NOTFOUND:
        condition = "amqp:not-found";
        text = "there is no such device";
        break;
    case ERR_LIMIT:
        condition = "amqp:link:message-size-exceeded";
        text = "body and properties of a message may have 65536 bytes";
        break;
    case ERR_FULL:
        condition = "amqp:resource-limit-exceeded";
        text = t->send.queue_full ? "the queue of the device is full: it has to take some messages first"
                                  : "the hub has no room at the moment";
        break;
    case ERR_PROTO:
        condition = "com.microsoft:argument-error";
        text = "the address, the acknowledgement, a property name or the expiry time is not valid";
        break;
    default:
        break;
    }
    if (!t->settled)
        link_settle(t->l, t->id, condition, text);
    link_credit(t->l);
}

static void sent(struct op *op)
{
    struct send_task *t = (struct send_task *)(void *)op;
    struct conn *c = conn_find(t->aw->w, t->addr);
    t->aw->pending -= t->text.cap;
    if (c && !conn_is_closing(c)) {
        peer_of(c)->under_way--;
        answer(t, op->err);
        peer_go_on(c);
        peer_flush(c);
    }
    link_unref(t->l);
    free(t->props);
    free(t);
}

static bool ack_of(struct span s, uint8_t *ack)
{
    static const char *const names[] = { "none", "positive", "negative", "full" };
    for (uint8_t i = 0; i < 4; i++)
        if (span_ieq(s, span_str(names[i]))) {
            *ack = i;
            return true;
        }
    return false;
}

/* Text of a value, in place or in t->text. False: it has none. */
static bool text_of(struct send_task *t, const struct amqp_value *v, struct span *out)
{
    if (amqp_is_text(v)) {
        *out = v->bytes;
        return true;
    }
    size_t at = t->text.len;
    if (!amqp_scalar_text(&t->text, v) || !wr_ok(&t->text))
        return false;
    *out = span_of(t->text.p + at, t->text.len - at);
    return true;
}

static bool read_application(struct send_task *t, const struct amqp_message *m)
{
    struct amqp_walk walk = amqp_walk_of(&m->application_properties);
    struct amqp_value k, v;
    struct c2d_message *out = &t->message;
    while (amqp_walk_next(&walk, &k) && amqp_walk_next(&walk, &v)) {
        struct span value;
        if (!amqp_is_text(&k) || !k.bytes.n)
            return false;
        if (v.type == AMQP_NULL || !text_of(t, &v, &value))
            continue;
        if (span_ieq(k.bytes, SPAN("iothub-ack")) || span_eq(k.bytes, SPAN("ack"))) {
            if (value.n && !ack_of(value, &out->ack))
                return false;
            continue;
        }
        t->props[out->props_nr++] = (struct c2d_prop){ k.bytes, value };
    }
    out->props = t->props;
    return true;
}

static enum err read_message(struct send_task *t, const struct amqp_message *m)
{
    struct c2d_message *out = &t->message;
    const struct amqp_properties *p = &m->properties;
    struct address a;
    bool one;
    size_t len;
    if (address_parse(p->to, t->address, &a) || a.kind != ADDRESS_C2D || !identity_id_ok(a.device))
        return ERR_PROTO;
    out->device = a.device;
    if (a.module.n) {
        if (!identity_id_ok(a.module))
            return ERR_PROTO;
        out->device = span_of(t->text.p + t->text.len, a.device.n + 1 + a.module.n);
        wr_put(&t->text, a.device);
        wr_u8(&t->text, '/');
        wr_put(&t->text, a.module);
    }
    size_t at = t->text.len;
    amqp_id_text(&t->text, &p->message_id);
    out->message_id = span_of(t->text.p + at, t->text.len - at);
    at = t->text.len;
    amqp_id_text(&t->text, &p->correlation_id);
    out->correlation_id = span_of(t->text.p + at, t->text.len - at);
    if (!wr_ok(&t->text))
        return ERR_LIMIT;
    out->user_id = p->user_id;
    out->content_type = p->content_type;
    out->content_encoding = p->content_encoding;
    out->expires_ms = p->has_expiry ? p->expiry_ms ? p->expiry_ms : 1 : 0;
    enum err e = map_body(m, &out->body, &len, &one);
    if (e || !one)
        return ERR_PROTO;
    return read_application(t, m) ? ERR_OK : ERR_PROTO;
}

static void on_send(struct peer_link *l, const struct amqp_event *ev)
{
    struct conn *c = l->conn;
    struct span payload = ev->delivery.payload;
    struct amqp_message m;
    size_t text = 4 * payload.n + 128, nr = payload.n / 2 + 1; /* more properties there cannot be */
    bool takes = payload.n <= 2 * C2D_SIZE_MAX && peer_throttle(c, THROTTLE_C2D_SENDS, l->grant);
    if (!takes) {
        bool large = payload.n > 2 * C2D_SIZE_MAX;
        if (!ev->delivery.settled)
            link_settle(l, ev->delivery.id,
                        large ? "amqp:link:message-size-exceeded"
                              : "com.microsoft:device-container-throttled",
                        large ? "body and properties of a message may have 65536 bytes"
                              : "messages come faster than this hub is set to take them");
        link_credit(l);
        return;
    }
    if (!amqp_message_decode(payload, &m))
        nr = m.application_properties.count / 2 + 1;
    struct send_task *t = malloc(sizeof *t + payload.n + text);
    struct c2d_prop *props = calloc(nr, sizeof *props);
    if (!t || !props) {
        free(t);
        free(props);
        peer_refuse(c, CONN_CLOSE_INTERNAL, "memory");
        return;
    }
    memset(t, 0, sizeof *t);
    memcpy(t->mem, payload.p, payload.n);
    t->text = (struct wr){ t->mem + payload.n, text, 0 };
    t->props = props;
    t->l = l;
    t->aw = peer_worker(c);
    t->addr = conn_addr(c);
    t->id = ev->delivery.id;
    t->settled = ev->delivery.settled;
    link_ref(l);
    enum err e = amqp_message_decode(span_of(t->mem, payload.n), &m);
    e = e ? e : read_message(t, &m);
    if (e) {
        answer(t, e);
        link_unref(l);
        free(props);
        free(t);
        return;
    }
    peer_of(c)->under_way++;
    t->aw->pending += t->text.cap;
    t->send.hub = peer_hub(c);
    t->send.message = &t->message;
    t->send.store.op.home = worker_mailbox(conn_worker(c));
    t->send.store.op.done = sent;
    c2d_send_start(&t->send);
}

const struct peer_kind send_kind = { .name = "send", .credit = PEER_CREDIT_REQUEST, .on_message = on_send };
