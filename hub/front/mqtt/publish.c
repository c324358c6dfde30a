/* hub/front/mqtt/publish.c - what a device publishes, and the answers that wait for the disk. */
#include "base/log.h"
#include "hub/domain/hub.h"
#include "hub/front/mqtt/session.h"

#include <stdlib.h>

/* ---- answers in order ------------------------------------------------------------------------------------
 */

void *reply_new(struct conn *c, size_t bytes)
{
    struct mqtt_worker *mw = session_worker(c);
    struct reply *r;
    if (bytes <= MQTT_BLOCK && mw->spare) {
        r = (struct reply *)(void *)mw->spare;
        mw->spare = mw->spare->next;
        mw->spare_nr--;
    } else {
        r = malloc(bytes <= MQTT_BLOCK ? MQTT_BLOCK : bytes);
    }
    if (!r)
        return NULL;
    *r = (struct reply){ .mw = mw, .addr = conn_addr(c), .bytes = (uint32_t)bytes };
    mw->pending_bytes += bytes;
    return r;
}

void reply_free(struct reply *r)
{
    struct mqtt_worker *mw = r->mw;
    mw->pending_bytes -= r->bytes;
    if (r->bytes <= MQTT_BLOCK && mw->spare_nr < MQTT_SPARE_MAX) {
        struct spare *b = (struct spare *)(void *)r;
        b->next = mw->spare;
        mw->spare = b;
        mw->spare_nr++;
    } else {
        free(r);
    }
}

void reply_push(struct conn *c, struct reply *r)
{
    struct session *s = session_of(c);
    r->next = s->last ? s->last->next : r;
    if (s->last)
        s->last->next = r;
    s->last = r;
    s->replies_nr++;
    s->subs_nr += r->type == MQTT_SUBACK;
}

static void reply_send(struct conn *c, const struct reply *r)
{
    uint8_t buf[MQTT_HEAD_MAX + 2 + MQTT_FILTERS_MAX];
    struct wr w = { buf, sizeof buf, 0 };
    if (r->type == MQTT_PUBLISH)
        conn_send(c, span_of(r + 1, r->bytes - sizeof *r));
    else if (r->type == MQTT_SUBACK)
        mqtt_suback_encode(&w, r->packet_id, span_of(r->codes, r->codes_nr));
    else if (r->type)
        mqtt_id_encode(&w, (enum mqtt_type)r->type, r->packet_id);
    if (w.len)
        session_send(c, &w);
}

/* The oldest, off the ring. */
static struct reply *reply_pop(struct session *s)
{
    struct reply *r = s->last->next;
    if (r == s->last)
        s->last = NULL;
    else
        s->last->next = r->next;
    return r;
}

static void replies_flush(struct conn *c)
{
    struct session *s = session_of(c);
    bool subscribed = false;
    while (s->last && s->last->next->done) {
        struct reply *r = reply_pop(s);
        s->replies_nr--;
        if (r->type == MQTT_SUBACK) {
            s->subs_nr--;
            subscribed = true;
        }
        reply_send(c, r);
        reply_free(r);
    }
    if ((s->flags & SESSION_F_STOPPING) && !s->replies_nr) {
        conn_close(c, CONN_CLOSE_STOP);
        return;
    }
    session_resume(c);
    if (subscribed && !s->subs_nr && s->methods_new) {
        s->methods_new = 0;
        session_announce(c);
    }
    if (subscribed) {
        session_deliver(c);
    }
}

void reply_finish(struct reply *r, enum err err)
{
    r->done = true;
    if (r->orphan) {
        reply_free(r);
        return;
    }
    struct conn *c = session_find(r->mw, r->addr);
    if (!c) /* closing: replies_drop will find it done */
        return;
    if (err && r->type) {
        /* MQTT 3.1.1 has no way to say no to a publish: without its PUBACK it comes again after a reconnect.
         */
        session_refuse(c, err == ERR_STOPPED ? CONN_CLOSE_STOP : CONN_CLOSE_INTERNAL, err_name(err));
        return;
    }
    replies_flush(c);
}

void replies_drop(struct session *s)
{
    while (s->last) {
        struct reply *r = reply_pop(s);
        r->orphan = true;
        if (r->done)
            reply_free(r); /* the others free themselves when they come home */
    }
    s->replies_nr = s->subs_nr = 0;
}

void session_puback_now(struct conn *c, const struct mqtt_publish *m)
{
    if (m->qos == 0)
        return;
    struct reply *r = reply_new(c, sizeof *r);
    if (!r) {
        conn_close(c, CONN_CLOSE_INTERNAL);
        return;
    }
    r->type = MQTT_PUBACK;
    r->packet_id = m->packet_id;
    reply_push(c, r);
    reply_finish(r, ERR_OK);
}

/* ---- telemetry -------------------------------------------------------------------------------------------
 */

struct telemetry_reply {
    struct reply reply; /* first */
    struct telemetry_put put;
    uint8_t mem[];
};

static void telemetry_done(struct op *op)
{
    struct telemetry_put *put = (struct telemetry_put *)(void *)op;
    reply_finish(&CONTAINER_OF(put, struct telemetry_reply, put)->reply, op->err);
}

static void will_done(struct op *op)
{
    struct telemetry_put *put = (struct telemetry_put *)(void *)op;
    reply_free(&CONTAINER_OF(put, struct telemetry_reply, put)->reply);
}

static struct telemetry_in telemetry_in(const struct session *s, struct span bag, struct span body)
{
    struct topic_identity who = session_who(s);
    return (struct telemetry_in){ .device = who.device,
                                  .module = who.module,
                                  .generation = session_generation(s),
                                  .auth = s->name->auth,
                                  .bag = bag,
                                  .body = body,
                                  .model_id = session_model(s) };
}

static struct telemetry_reply *telemetry_new(struct conn *c, const struct telemetry_in *in, op_fn *done)
{
    struct telemetry_reply *r = reply_new(c, sizeof *r + telemetry_room(in));
    if (!r)
        return NULL;
    memset(&r->put, 0, sizeof r->put);
    r->put.append.op.home = worker_mailbox(conn_worker(c));
    r->put.append.op.done = done;
    return r;
}

static void telemetry(struct conn *c, const struct mqtt_publish *m, struct span bag)
{
    struct telemetry_in in = telemetry_in(session_of(c), bag, m->payload);
    in.retain = m->retain;
    in.dup = m->dup;
    size_t room = telemetry_room(&in);
    struct telemetry_reply *r = telemetry_new(c, &in, telemetry_done);
    if (!r) {
        conn_close(c, CONN_CLOSE_INTERNAL);
        return;
    }
    r->reply.type = m->qos ? MQTT_PUBACK : 0;
    r->reply.packet_id = m->packet_id;
    if (telemetry_start(session_hub(c), &r->put, &in, r->mem, room)) {
        reply_free(&r->reply);
        session_refuse(c, CONN_CLOSE_LIMIT, "message-too-large");
        return;
    }
    reply_push(c, &r->reply);
}

void session_publish_will(struct conn *c)
{
    const struct session *s = session_of(c);
    struct telemetry_in in = telemetry_in(s, span_of(s->will->text, s->will->bag_len),
                                          span_of(s->will->text + s->will->bag_len, s->will->payload_len));
    in.retain = s->will->retain;
    in.will = true;
    size_t room = telemetry_room(&in);
    struct telemetry_reply *r = telemetry_new(c, &in, will_done);
    if (r && telemetry_start(session_hub(c), &r->put, &in, r->mem, room))
        reply_free(&r->reply);
}

/* ---- PUBLISH ---------------------------------------------------------------------------------------------
 */

void session_publish(struct conn *c, const struct mqtt_packet *p)
{
    struct topic_identity who = session_who(session_of(c));
    struct mqtt_publish m;
    struct topic t;
    if (mqtt_publish_decode(p, &m) || m.qos == 2) {
        session_refuse(c, CONN_CLOSE_PROTO, (p->flags >> 1 & 3) == 2 ? "qos-2" : "publish");
        return;
    }
    enum err e = topic_parse(m.topic, &who, &t);
    if (!e && t.has_rid && t.rid.n > MQTT_RID_MAX)
        e = ERR_LIMIT;
    if (e) {
        session_refuse(c, CONN_CLOSE_PROTO, e == ERR_DENIED ? "topic-of-another" : "topic");
        return;
    }
    switch (t.kind) {
    case TOPIC_TELEMETRY:
        if (!session_throttle_send(c))
            return;
        session_note_activity(c);
        telemetry(c, &m, t.bag);
        break;
    case TOPIC_TWIN_GET:
    case TOPIC_TWIN_PATCH:
        session_twin(c, &m, &t);
        break;
    case TOPIC_CRED_POST:
        session_puback_now(c, &m);
        if (!conn_is_closing(c))
            session_answer_error(c, &t, CHANNEL_CRED_RES, 503001,
                                 "this hub does not serve certificate requests");
        break;
    case TOPIC_METHOD_RES:
        session_method_result(c, &t, m.payload);
        session_puback_now(c, &m);
        break;
    default:
        session_puback_now(c, &m);
        break;
    }
}
