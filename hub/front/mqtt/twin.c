/* hub/front/mqtt/twin.c - a device's own twin on its session: read, reported properties patched, desired ones
 * told. Nothing here is queued for a device that is not there: it reads its twin when it comes.
 *
 * A read is answered from a snapshot, a notification leaves after its commit; so a read may be older than a
 * notification that has already been sent. The session knows the newest version it told: an answer with an
 * older one is read again, behind all writes, and a notification that an answer had already in it is left
 * out. What the device sees of its desired properties never goes backwards. Where notifications found no room
 * on the bus, one with all desired properties stands for them. */
#include "hub/domain/twin/twin_device.h"

#include "base/text.h"
#include "core/json/json.h"
#include "hub/front/mqtt/session.h"

#include <stdlib.h>

#define TWIN_BODY_MAX (TWIN_TEXT_FACTOR * TWIN_SECTION_MAX) /* no patch that could be accepted is longer */

/* ---- errors ----------------------------------------------------------------------------------------- */

void session_answer_error(struct conn *c, const struct topic *t, enum channel channel, unsigned code,
                          const char *message)
{
    if (!t->has_rid || channels_qos(session_of(c)->channels, channel) < 0)
        return; /* nobody would hear it */
    struct hub *h = session_hub(c);
    uint8_t topic[MQTT_RID_MAX + 64], body[1024], head[sizeof topic + 16], id[8];
    struct wr tw = { topic, sizeof topic, 0 }, bw = { body, sizeof body, 0 }, hw = { head, sizeof head, 0 };
    h->crypto->random(id, sizeof id);
    wr_str(&bw, "{\"errorCode\":");
    wr_u32(&bw, code);
    wr_str(&bw, ",\"trackingId\":\"");
    hex_encode(&bw, span_of(id, sizeof id));
    wr_str(&bw, "\",\"message\":");
    json_put_string(&bw, span_str(message));
    wr_str(&bw, ",\"timestampUtc\":\"");
    iso8601_encode(&bw, h->wall_ms());
    wr_str(&bw, "\"}");
    if (!wr_ok(&bw)) /* a message of quotes alone: the code says enough */
        bw.len = 0;
    if (channel == CHANNEL_CRED_RES)
        topic_cred_res_encode(&tw, code / 1000, t->rid);
    else
        topic_twin_res_encode(&tw, code / 1000, t->rid);
    struct mqtt_publish m = { .topic = wr_span(&tw), .payload = wr_span(&bw) };
    mqtt_publish_head_encode(&hw, &m);
    session_send(c, &hw);
    session_send(c, &bw);
}

/* ---- reading and reporting -------------------------------------------------------------------------- */

struct twin_task {
    struct reply reply; /* first */
    struct store_op store;
    struct arena a; /* of a read: until the answer has left */
    struct twin_fault fault;
    struct twin_note seen;     /* of a read */
    uint64_t if_reported;      /* 0: whatever is there */
    uint64_t reported_version; /* after a patch */
    bool is_patch, has_rid, again;
    uint16_t identity_len, rid_len;
    uint32_t body_len;
    uint8_t text[]; /* identity, request id, body */
};

static struct twin_task *task_of(struct store_op *op)
{
    return CONTAINER_OF(op, struct twin_task, store);
}
static struct span task_identity(const struct twin_task *t)
{
    return span_of(t->text, t->identity_len);
}

static enum err get_run(struct store_tx *tx, struct store_op *self)
{
    struct twin_task *t = task_of(self);
    return twin_device_get(tx, &t->a, task_identity(t), &t->seen);
}

static enum err patch_run(struct store_tx *tx, struct store_op *self)
{
    struct twin_task *t = task_of(self);
    struct span body = span_of(t->text + t->identity_len + t->rid_len, t->body_len);
    struct twin_if cond = { .reported_version = t->if_reported };
    return twin_device_report(t->reply.mw->front->hub, tx, task_identity(t), body, &cond,
                              &t->reported_version, &t->fault);
}

static void answer_ok(struct conn *c, const struct twin_task *t, struct span rid)
{
    uint8_t topic[MQTT_RID_MAX + 96], head[sizeof topic + 16];
    struct wr tw = { topic, sizeof topic, 0 }, hw = { head, sizeof head, 0 };
    if (t->is_patch)
        topic_twin_res_version_encode(&tw, 204, rid, t->reported_version);
    else
        topic_twin_res_encode(&tw, 200, rid);
    struct mqtt_publish m = { .topic = wr_span(&tw), .payload = t->is_patch ? SPAN_NONE : t->seen.body };
    mqtt_publish_head_encode(&hw, &m);
    session_send(c, &hw);
    conn_send(c, m.payload);
}

static void answer_err(struct conn *c, const struct twin_task *t, const struct topic *to, enum err e)
{
    unsigned code = 500001;
    const char *text = "the hub could not do it: try again";
    if (e == ERR_PROTO) {
        code = t->fault.wrong == TWIN_NOT_JSON ? 400006 : 400004;
        text = t->fault.text;
    } else if (e == ERR_STALE) {
        code = 412001;
        text = t->fault.text;
    } else if (e == ERR_NOTFOUND) {
        code = 404001;
        text = "there is no such identity any more";
    } else if (e == ERR_FULL || e == ERR_STOPPED || e == ERR_NOMEM) {
        code = 503001;
        text =
            e == ERR_STOPPED ? "the hub is stopping: connect again" : "the hub is short of room: try again";
    }
    session_answer_error(c, to, CHANNEL_TWIN_RES, code, text);
}

static bool is_newer(uint64_t version, uint32_t seen) /* counts past 2^32 as well */
{
    return (int32_t)((uint32_t)version - seen) > 0;
}

static void task_done(struct op *op)
{
    struct twin_task *t = task_of(CONTAINER_OF(op, struct store_op, op));
    struct conn *c = t->reply.orphan ? NULL : session_find(t->reply.mw, t->reply.addr);
    struct session *s = c ? session_of(c) : NULL;
    if (c && !t->is_patch && !op->err && !t->again && s->desired_seen &&
        is_newer(s->desired_seen, (uint32_t)t->seen.version)) {
        t->again = true; /* through the writer: behind the change that was told already */
        store_write(session_hub(c)->store, &t->store);
        return;
    }
    struct topic to = { .has_rid = t->has_rid, .rid = span_of(t->text + t->identity_len, t->rid_len) };
    if (c && op->err)
        answer_err(c, t, &to, op->err);
    else if (c && t->has_rid && channels_qos(s->channels, CHANNEL_TWIN_RES) >= 0) {
        answer_ok(c, t, to.rid);
        if (!t->is_patch)
            s->desired_seen = (uint32_t)t->seen.version;
    }
    arena_fini(&t->a);
    reply_finish(&t->reply, ERR_OK); /* what went wrong has been said */
}

void session_twin(struct conn *c, const struct mqtt_publish *m, const struct topic *t)
{
    struct session *s = session_of(c);
    struct span id = session_identity(s), rid = t->has_rid ? t->rid : SPAN_NONE;
    bool is_patch = t->kind == TOPIC_TWIN_PATCH;
    struct span body = is_patch ? m->payload : SPAN_NONE; /* of a read, anything is ignored */
    bool heard = t->has_rid && channels_qos(s->channels, CHANNEL_TWIN_RES) >= 0;
    METRIC_ADD(session_hub(c), twin_device_requests_total, 1);
    if (body.n > TWIN_BODY_MAX) {
        session_puback_now(c, m);
        if (!conn_is_closing(c))
            session_answer_error(c, t, CHANNEL_TWIN_RES, 413001, "a patch has at most 131072 bytes");
        return;
    }
    struct throttle_verdict v =
        throttle_take(session_hub(c)->throttle, is_patch ? THROTTLE_TWIN_UPDATES : THROTTLE_TWIN_READS,
                      SPAN_NONE, 1, worker_now_ms(conn_worker(c)), 0);
    if (!v.allowed) {
        session_puback_now(c, m);
        if (!conn_is_closing(c))
            session_answer_error(c, t, CHANNEL_TWIN_RES, 429001,
                                 "too many operations on twins: try again later");
        return;
    }
    if (!is_patch && !heard) {
        session_puback_now(c, m);
        return;
    }
    struct twin_task *k = reply_new(c, sizeof *k + id.n + rid.n + body.n);
    if (!k) {
        conn_close(c, CONN_CLOSE_INTERNAL);
        return;
    }
    struct reply r = k->reply;
    memset(k, 0, sizeof *k);
    k->reply = r;
    k->reply.type = m->qos ? MQTT_PUBACK : 0;
    k->reply.packet_id = m->packet_id;
    k->is_patch = is_patch;
    k->has_rid = t->has_rid;
    k->if_reported = t->has_version ? t->version : 0;
    k->identity_len = (uint16_t)id.n;
    k->rid_len = (uint16_t)rid.n;
    k->body_len = (uint32_t)body.n;
    struct wr w = { k->text, id.n + rid.n + body.n, 0 };
    wr_put(&w, id);
    wr_put(&w, rid);
    wr_put(&w, body);
    k->store.run = is_patch ? patch_run : get_run;
    k->store.op.home = worker_mailbox(conn_worker(c));
    k->store.op.done = task_done;
    reply_push(c, &k->reply);
    if (is_patch)
        store_write(session_hub(c)->store, &k->store);
    else
        store_read(session_hub(c)->store, &k->store);
}

/* ---- desired properties ----------------------------------------------------------------------------- */

/* Sends it, or puts it behind a SUBACK that is due, maybe of this very subscription. */
static void tell_desired(struct conn *c, const struct twin_note *n)
{
    struct session *s = session_of(c);
    uint8_t topic[96], head[sizeof topic + 16];
    struct wr tw = { topic, sizeof topic, 0 }, hw = { head, sizeof head, 0 };
    s->desired_seen = (uint32_t)n->version;
    topic_desired_encode(&tw, n->version);
    struct mqtt_publish m = { .topic = wr_span(&tw), .payload = n->body };
    mqtt_publish_head_encode(&hw, &m);
    METRIC_ADD(session_hub(c), twin_notes_total, 1);
    if (!s->subs_nr) {
        session_send(c, &hw);
        conn_send(c, n->body);
        return;
    }
    struct reply *r =
        s->replies_nr < MQTT_NOTES_WAITING_MAX ? reply_new(c, sizeof *r + hw.len + n->body.n) : NULL;
    if (!r) {
        conn_close(c, CONN_CLOSE_LIMIT);
        return;
    }
    struct wr w = { (uint8_t *)(r + 1), hw.len + n->body.n, 0 };
    wr_put(&w, wr_span(&hw));
    wr_put(&w, n->body);
    r->type = MQTT_PUBLISH;
    reply_push(c, r);
    reply_finish(r, ERR_OK);
}

bool session_twin_note(struct conn *c, const struct bus_message *msg)
{
    const struct session *s = session_of(c);
    struct twin_note n;
    if (channels_qos(s->channels, CHANNEL_DESIRED) < 0 || twin_note_decode(msg->bytes, &n))
        return false;
    if (!s->desired_seen || is_newer(n.version, s->desired_seen)) /* else an answer had it already */
        tell_desired(c, &n);
    return true;
}

/* ---- what was not told ------------------------------------------------------------------------------ */

struct missed_task {         /* owned by itself */
    struct twin_missed read; /* first */
    struct mqtt_worker *mw;
    struct bus_addr addr;
};

static void missed_done(struct op *op)
{
    struct missed_task *t = (struct missed_task *)(void *)op;
    struct conn *c = session_find(t->mw, t->addr);
    struct session *s = c ? session_of(c) : NULL;
    bool old = s && !op->err && s->desired_seen && is_newer(s->desired_seen, (uint32_t)t->read.note.version);
    if (s && (old || s->twin_again)) { /* through the writer: behind the change that was told already */
        s->twin_again = false;
        store_write(session_hub(c)->store, &t->read.store);
        return;
    }
    if (s) {
        s->twin_reading = false;
        if (op->err && op->err != ERR_NOTFOUND)
            conn_close(c, CONN_CLOSE_INTERNAL); /* it comes again, and reads its twin */
        else if (!op->err && channels_qos(s->channels, CHANNEL_DESIRED) >= 0)
            tell_desired(c, &t->read.note);
    }
    twin_missed_fini(&t->read);
    free(t);
}

void session_twin_missed(struct conn *c)
{
    struct session *s = session_of(c);
    if (channels_qos(s->channels, CHANNEL_DESIRED) < 0)
        return;
    if (s->twin_reading) {
        s->twin_again = true;
        return;
    }
    struct missed_task *t = calloc(1, sizeof *t);
    if (!t) {
        conn_close(c, CONN_CLOSE_INTERNAL);
        return;
    }
    t->mw = session_worker(c);
    t->addr = conn_addr(c);
    twin_missed_init(&t->read, session_identity(s));
    t->read.store.op.home = worker_mailbox(conn_worker(c));
    t->read.store.op.done = missed_done;
    s->twin_reading = true;
    store_read(session_hub(c)->store, &t->read.store);
}
