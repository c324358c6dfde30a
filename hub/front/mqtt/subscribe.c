/* hub/front/mqtt/subscribe.c - SUBSCRIBE and UNSUBSCRIBE: the fixed set of channels of an identity. For a
 * persistent session the new set is durable before the answer leaves: clients rely on it after a restart. */
#include "hub/domain/hub.h"
#include "hub/front/mqtt/session.h"

#include <stdlib.h>

struct subscription {   /* the change, until it is stored */
    struct reply reply; /* first */
    struct store_op store;
    uint32_t channels;
    bool persist, purge;
    uint16_t identity_len;
    uint8_t text[]; /* identity, codes */
};

static enum err subscription_run(struct store_tx *tx, struct store_op *self)
{
    struct subscription *u = CONTAINER_OF(self, struct subscription, store);
    struct span id = span_of(u->text, u->identity_len);
    enum err e = u->purge ? c2d_purge(u->reply.mw->front->hub, tx, id) : ERR_OK;
    return e || !u->persist ? e : tx_session_put(tx, &(struct session_row){ id, u->channels });
}

static void subscription_done(struct op *op)
{
    reply_finish(&CONTAINER_OF(op, struct subscription, store.op)->reply, op->err);
}

static void change(struct conn *c, struct mqtt_filters *filters, enum mqtt_type answer)
{
    struct session *s = session_of(c);
    struct topic_identity who = session_who(s);
    struct span id = session_identity(s);
    struct mqtt_filter f;
    if (filters->nr > MQTT_FILTERS_MAX) {
        session_refuse(c, CONN_CLOSE_LIMIT, "filters");
        return;
    }
    struct subscription *u = reply_new(c, sizeof *u + id.n + filters->nr);
    if (!u) {
        conn_close(c, CONN_CLOSE_INTERNAL);
        return;
    }
    u->reply.type = (uint8_t)answer;
    u->reply.packet_id = filters->packet_id;
    u->reply.codes = u->text + id.n;
    u->identity_len = (uint16_t)id.n;
    memcpy(u->text, id.p, id.n);
    u->channels = s->channels;
    while (mqtt_filter_next(filters, &f)) {
        uint32_t reached = topic_filter_channels(f.filter, &who);
        unsigned qos = f.qos ? 1 : 0; /* 2 is granted as 1 */
        if (answer == MQTT_SUBACK)
            u->channels = channels_grant(u->channels, reached, qos);
        else
            u->channels = channels_drop(u->channels, reached);
        u->reply.codes[u->reply.codes_nr++] = reached ? (uint8_t)qos : MQTT_SUBACK_FAILURE;
    }
    bool c2d_new = channels_qos(s->channels, CHANNEL_C2D) < 0 && channels_qos(u->channels, CHANNEL_C2D) >= 0;
    u->persist = !(s->flags & SESSION_F_CLEAN) && u->channels != s->channels;
    u->purge = (s->flags & SESSION_F_CLEAN) && c2d_new && session_hub(c)->settings.c2d_clean_discards;
    if (channels_qos(s->channels, CHANNEL_METHODS) < 0 && channels_qos(u->channels, CHANNEL_METHODS) >= 0)
        s->methods_new = 1;
    s->channels = u->channels;
    reply_push(c, &u->reply);
    if (!u->persist && !u->purge) {
        reply_finish(&u->reply, ERR_OK);
        return;
    }
    memset(&u->store, 0, sizeof u->store);
    u->store.run = subscription_run;
    u->store.op.home = worker_mailbox(conn_worker(c));
    u->store.op.done = subscription_done;
    store_write(session_hub(c)->store, &u->store);
}

void session_subscribe(struct conn *c, const struct mqtt_packet *p)
{
    struct mqtt_filters f;
    if (mqtt_subscribe_decode(p, &f))
        session_refuse(c, CONN_CLOSE_PROTO, "subscribe");
    else
        change(c, &f, MQTT_SUBACK);
}

void session_unsubscribe(struct conn *c, const struct mqtt_packet *p)
{
    struct mqtt_filters f;
    if (mqtt_unsubscribe_decode(p, &f))
        session_refuse(c, CONN_CLOSE_PROTO, "unsubscribe");
    else
        change(c, &f, MQTT_UNSUBACK);
}
