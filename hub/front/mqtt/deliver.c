/* hub/front/mqtt/deliver.c - cloud-to-device messages out: listed from the store, sent in order, a small
 * window at a time, completed by PUBACK. Nothing of a message is kept while the device makes up its mind:
 * only which ones are on the way. */
#include "base/log.h"
#include "hub/domain/hub.h"
#include "hub/domain/message/c2d_lock.h"
#include "hub/front/mqtt/session.h"

#include <stdlib.h>

struct list_task {        /* owned by itself */
    struct c2d_list list; /* first */
    struct mqtt_worker *mw;
    struct bus_addr addr;
    uint64_t from_seq, from_bcast; /* where the session stood when it asked */
    uint8_t identity[2 * DEVICE_ID_MAX + 1];
};

static uint16_t packet_id_next(struct session *s)
{
    s->packet_id = (uint16_t)((s->packet_id & 0x3fff) + 1); /* 1..16384, as the cloud service does */
    return s->packet_id;
}

static bool send_one(struct conn *c, const struct c2d_item *item, unsigned qos, uint16_t packet_id)
{
    struct session *s = session_of(c);
    struct topic_identity who = session_who(s);
    struct wr measure = { 0 };
    topic_c2d_encode(&measure, &who, item->props);
    uint8_t small[1024];
    size_t room = 2 * measure.len + 16; /* the topic, then the packet's head with the topic in it */
    uint8_t *mem = room <= sizeof small ? small : malloc(room);
    if (!mem)
        return false;
    struct wr topic = { mem, measure.len, 0 }, head = { mem + measure.len, room - measure.len, 0 };
    topic_c2d_encode(&topic, &who, item->props);
    struct mqtt_publish m = { .topic = wr_span(&topic),
                              .payload = item->body,
                              .packet_id = packet_id,
                              .qos = (uint8_t)qos,
                              .dup = qos && item->deliveries > 0 };
    mqtt_publish_head_encode(&head, &m);
    session_send(c, &head);
    conn_send(c, item->body);
    if (mem != small)
        free(mem);
    return true;
}

static void deliver_items(struct conn *c, const struct c2d_list *l, unsigned qos)
{
    struct session *s = session_of(c);
    struct hub *h = session_hub(c);
    struct c2d_ref sent[C2D_BATCH_MAX];
    size_t nr = 0;
    if (qos && !s->flight) {
        s->flight = calloc(1, sizeof *s->flight);
        if (!s->flight) {
            conn_close(c, CONN_CLOSE_INTERNAL);
            return;
        }
    }
    for (size_t i = 0; i < l->items_nr && !conn_is_closing(c); i++) {
        const struct c2d_item *item = &l->items[i];
        uint16_t id = qos ? packet_id_next(s) : 0;
        if (!send_one(c, item, qos, id)) {
            conn_close(c, CONN_CLOSE_INTERNAL);
            break;
        }
        sent[nr] = (struct c2d_ref){ item->seq, item->broadcast, item->ack };
        if (qos) {
            s->flight->packet_ids[s->flight->nr] = id;
            s->flight->refs[s->flight->nr++] = sent[nr];
        }
        nr++;
    }
    c2d_delivered(h, l->device, sent, nr);
    if (nr)
        session_note_activity(c);
    if (!qos) /* nobody will say that it came: it has left, that must do */
        c2d_complete(h, l->device, sent, nr);
    else {
        s->flight->sent_ms = worker_now_ms(conn_worker(c));
        session_arm(c);
    }
}

static void listed(struct op *op)
{
    struct list_task *t = (struct list_task *)(void *)op;
    struct conn *c = session_find(t->mw, t->addr);
    if (c) {
        struct session *s = session_of(c);
        int qos = channels_qos(s->channels, CHANNEL_C2D);
        s->flags &= (uint8_t)~SESSION_F_LISTING;
        if (op->err) {
            if (session_log_allowed(t->mw)) /* the next wake-up or connection asks again */
                log_warn("mqtt.c2d", "device=%.*s err=%s", (int)t->list.device.n,
                         (const char *)t->list.device.p, err_name(op->err));
        } else if (s->c2d_seq != t->from_seq || s->c2d_bcast != t->from_bcast) {
            /* The lock ran out meanwhile: what was asked for lies behind what is due again. */
            s->flags |= SESSION_F_MORE;
        } else if (t->list.items_nr && !(s->flags & SESSION_F_ORDERED)) {
            /* An earlier connection may have delivered and completed some of these a moment ago: ask again,
             * behind what it wrote, so that repetitions carry DUP and count, and nothing comes twice for
             * no reason. Connections with nothing waiting never get here. */
            s->flags |= SESSION_F_ORDERED | SESSION_F_ORDER_DUE | SESSION_F_MORE;
        } else if (qos >= 0) {
            s->c2d_seq = t->list.after_seq;
            s->c2d_bcast = t->list.after_bcast;
            if (t->list.more)
                s->flags |= SESSION_F_MORE;
            if (t->list.items_nr)
                deliver_items(c, &t->list, (unsigned)qos);
        }
        if (!conn_is_closing(c) && (s->flags & SESSION_F_MORE))
            session_deliver(c);
    }
    c2d_list_fini(&t->list);
    free(t);
}

void session_deliver(struct conn *c)
{
    struct session *s = session_of(c);
    struct span identity = session_identity(s);
    if (channels_qos(s->channels, CHANNEL_C2D) < 0 || (s->flags & SESSION_F_STOPPING)) {
        s->flags &= (uint8_t)~SESSION_F_MORE;
        return;
    }
    /* Later: whatever holds it back calls again when it is over. */
    s->flags |= SESSION_F_MORE;
    if (c2d_is_locked(session_hub(c), identity)) /* fetched a moment ago over HTTPS: the end of it wakes */
        return;
    unsigned room = C2D_BATCH_MAX - (s->flight ? s->flight->nr : 0u);
    if (!room || s->subs_nr || (s->flags & SESSION_F_LISTING) || conn_unsent(c) > MQTT_UNSENT_MAX)
        return;
    struct list_task *t = calloc(1, sizeof *t);
    if (!t) {
        conn_close(c, CONN_CLOSE_INTERNAL);
        return;
    }
    t->mw = session_worker(c);
    t->addr = conn_addr(c);
    memcpy(t->identity, identity.p, identity.n);
    t->list.hub = session_hub(c);
    t->list.device = span_of(t->identity, identity.n);
    t->list.after_seq = t->from_seq = s->c2d_seq;
    t->list.after_bcast = t->from_bcast = s->c2d_bcast;
    t->list.items_max = room;
    t->list.ordered = s->flags & SESSION_F_ORDER_DUE;
    t->list.store.op.home = worker_mailbox(conn_worker(c));
    t->list.store.op.done = listed;
    s->flags = (uint8_t)((s->flags | SESSION_F_LISTING) & ~(SESSION_F_MORE | SESSION_F_ORDER_DUE));
    c2d_list_start(&t->list);
}

void session_puback(struct conn *c, uint16_t packet_id)
{
    struct session *s = session_of(c);
    struct flight *f = s->flight;
    size_t i = 0;
    while (f && i < f->nr && f->packet_ids[i] != packet_id)
        i++;
    if (!f || i == f->nr)
        return; /* of an earlier delivery of the same message */
    session_note_activity(c);
    c2d_complete(session_hub(c), session_identity(s), &f->refs[i], 1);
    f->nr--;
    memmove(&f->refs[i], &f->refs[i + 1], (f->nr - i) * sizeof f->refs[0]);
    memmove(&f->packet_ids[i], &f->packet_ids[i + 1], (f->nr - i) * sizeof f->packet_ids[0]);
    f->sent_ms = worker_now_ms(conn_worker(c)); /* it is alive: the others get their time from here */
    s->flags &= (uint8_t)~SESSION_F_RESENT;
    if (!f->nr) {
        free(f);
        s->flight = NULL;
    }
    if ((s->flags & SESSION_F_MORE) && (!s->flight || f->nr <= C2D_BATCH_MAX / 2))
        session_deliver(c);
}

uint64_t session_lock_end(const struct session *s, const struct hub *h)
{
    return s->flight ? s->flight->sent_ms + 1000ull * h->settings.c2d_lock_s : UINT64_MAX;
}

/* No PUBACK within the lock time: once more with DUP, then the connection is given up. */
void session_lock_over(struct conn *c)
{
    struct session *s = session_of(c);
    struct flight *f = s->flight;
    if (s->flags & SESSION_F_RESENT) {
        session_refuse(c, CONN_CLOSE_TIMEOUT, "no-puback");
        return;
    }
    for (size_t i = 0; i < f->nr; i++) { /* list again from the oldest that is still on the way */
        uint64_t *at = f->refs[i].broadcast ? &s->c2d_bcast : &s->c2d_seq;
        if (f->refs[i].seq <= *at)
            *at = f->refs[i].seq - 1;
    }
    free(f);
    s->flight = NULL;
    s->flags |= SESSION_F_RESENT;
    session_deliver(c);
}
