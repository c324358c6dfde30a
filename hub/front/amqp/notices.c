/* hub/front/amqp/feedback.c - what became of messages, for services: batches under a lock, completed or put
 * back as the receiver says. One batch of a receiver is under way at a time. */
#include "hub/domain/feedback.h"

#include "base/text.h"
#include "core/json/json.h"
#include "hub/front/amqp/map.h"
#include "hub/front/amqp/peer.h"

#include <stdlib.h>

enum { POLL_MS = 1000, ARENA_MAX_ = 1 << 20 };

struct feedback_link { /* state of the link */
    uint64_t look_at;  /* ms: when to ask again; 0: not */
    uint64_t sent;     /* batches */
    bool taking, has_batch;
    char token[FEEDBACK_TOKEN_LEN + 1]; /* of the batch under way */
};

struct take_task {         /* owned by itself */
    struct store_op store; /* first */
    struct hub *hub;
    struct peer_link *l; /* referenced */
    struct arena a;
    struct feedback_batch batch;
};
struct settle_task {       /* owned by itself */
    struct store_op store; /* first */
    struct hub *hub;
    struct peer_link *l; /* referenced, or NULL: nobody waits */
    uint32_t id;         /* of the delivery, when an answer is due */
    bool answer, put_back;
    char token[FEEDBACK_TOKEN_LEN + 1];
};

static void on_attached(struct peer_link *l)
{
    if (!(l->state = calloc(1, sizeof(struct feedback_link))))
        peer_refuse(l->conn, CONN_CLOSE_INTERNAL, "memory");
}

/* ---- out -------------------------------------------------------------------------------------------- */

static void put_member(struct wr *w, const char *name, struct span value, bool first)
{
    wr_str(w, first ? "{" : ",");
    json_put_string(w, span_str(name));
    wr_u8(w, ':');
    json_put_string(w, value);
}

static void body_write(struct wr *w, const struct feedback_batch *b)
{
    for (size_t i = 0; i < b->nr; i++) {
        const struct feedback_row *r = &b->rows[i];
        uint8_t time[32];
        struct wr t = { time, sizeof time, 0 };
        iso8601_encode(&t, r->at_ms);
        wr_u8(w, i ? ',' : '[');
        put_member(w, "originalMessageId", r->message_id, true);
        put_member(w, "enqueuedTimeUtc", wr_span(&t), false);
        put_member(w, "statusCode", r->outcome, false);
        put_member(w, "description", r->outcome, false);
        put_member(w, "deviceId", r->device, false);
        put_member(w, "deviceGenerationId", r->generation, false);
        wr_u8(w, '}');
    }
    wr_u8(w, ']');
}

static bool batch_send(struct peer_link *l, const struct feedback_batch *b)
{
    struct feedback_link *s = l->state;
    struct hub *h = peer_hub(l->conn);
    struct wr body = { 0 };
    uint8_t tag[16];
    body_write(&body, b);
    size_t room = body.len + 512;
    uint8_t *mem = malloc(room);
    struct wr w = { mem, mem ? room : 0, 0 };
    if (!mem)
        return false;
    amqp_section_begin(&w, AMQP_MESSAGE_ANNOTATIONS);
    size_t at = amqp_map_begin(&w);
    amqp_put_symbol(&w, SPAN("iothub-enqueuedtime"));
    amqp_put_timestamp(&w, h->wall_ms());
    amqp_map_end(&w, at, 2);
    struct amqp_properties p = { .user_id = span_str(peer_front(l->conn)->entity),
                                 .content_type = SPAN("application/vnd.microsoft.iothub.feedback.json") };
    amqp_properties_encode(&w, &p);
    amqp_data_head(&w, body.len);
    body_write(&w, b);
    h->crypto->random(tag, sizeof tag);
    bool sent = wr_ok(&w) && link_post(l, wr_span(&w), false, ++s->sent, tag);
    free(mem);
    return sent;
}

static enum err settle_run(struct store_tx *tx, struct store_op *self)
{
    struct settle_task *t = (struct settle_task *)(void *)self;
    return t->put_back ? feedback_abandon(t->hub, tx, span_str(t->token))
                       : feedback_complete(t->hub, tx, span_str(t->token));
}

static void pump(struct peer_link *l);

static void settled(struct op *op)
{
    struct settle_task *t = (struct settle_task *)(void *)op;
    struct peer_link *l = t->l;
    if (l && l->link) {
        struct conn *c = l->conn;
        struct amqp_state answer = { .outcome = op->err ? AMQP_REJECTED : AMQP_ACCEPTED };
        if (op->err)
            answer.error = peer_error(c, "com.microsoft:message-lock-lost", "the lock of the batch ran out");
        if (t->answer)
            amqp_answer(l->link->session, t->id, &answer, peer_out(c));
        pump(l);
        peer_flush(c);
    }
    if (l)
        link_unref(l);
    free(t);
}

static void settle_start(struct hub *h, struct mailbox *home, struct peer_link *l, const char *token,
                         bool put_back, bool answer, uint32_t id)
{
    struct settle_task *t = calloc(1, sizeof *t);
    if (!t) /* its lock runs out */
        return;
    t->hub = h;
    t->l = l;
    if (l)
        link_ref(l);
    t->id = id;
    t->answer = answer;
    t->put_back = put_back;
    memcpy(t->token, token, sizeof t->token);
    t->store.run = settle_run;
    t->store.op.home = home;
    t->store.op.done = settled;
    store_write(h->store, &t->store);
}

static enum err take_run(struct store_tx *tx, struct store_op *self)
{
    struct take_task *t = (struct take_task *)(void *)self;
    return feedback_take(t->hub, tx, &t->a, &t->batch);
}

static void taken(struct op *op)
{
    struct take_task *t = (struct take_task *)(void *)op;
    struct peer_link *l = t->l;
    struct feedback_link *s = l->state;
    s->taking = false;
    if (l->link && !op->err) {
        s->has_batch = true;
        memcpy(s->token, t->batch.token, sizeof s->token);
        if (!batch_send(l, &t->batch))
            peer_refuse(l->conn, CONN_CLOSE_INTERNAL, "memory");
        peer_flush(l->conn);
    } else if (l->link) {
        s->look_at = worker_now_ms(conn_worker(l->conn)) + POLL_MS;
        if (l->link->drain)
            amqp_drained(l->link, peer_out(l->conn));
        peer_arm(l->conn);
        peer_flush(l->conn);
    } else if (!op->err) {
        settle_start(t->hub, t->store.op.home, NULL, t->batch.token, true, false, 0);
    }
    arena_fini(&t->a);
    link_unref(l);
    free(t);
}

static void pump(struct peer_link *l)
{
    struct feedback_link *s = l->state;
    if (!s || !l->link || !l->grant || s->taking || s->has_batch || !l->link->credit)
        return;
    struct take_task *t = calloc(1, sizeof *t);
    if (!t)
        return;
    s->look_at = 0;
    s->taking = true;
    t->l = l;
    link_ref(l);
    t->hub = peer_hub(l->conn);
    arena_init(&t->a, ARENA_MAX_);
    t->store.run = take_run;
    t->store.op.home = worker_mailbox(conn_worker(l->conn));
    t->store.op.done = taken;
    store_write(t->hub->store, &t->store);
}

static void on_settled(struct peer_link *l, const struct amqp_event *ev)
{
    struct feedback_link *s = l->state;
    uint8_t outcome = ev->sent.state.outcome;
    bool put_back =
        outcome == AMQP_RELEASED || (outcome == AMQP_MODIFIED && !ev->sent.state.undeliverable_here);
    if (!s || !s->has_batch || ev->sent.user != s->sent)
        return;
    s->has_batch = false;
    settle_start(peer_hub(l->conn), worker_mailbox(conn_worker(l->conn)), l, s->token, put_back,
                 !ev->sent.settled, ev->sent.id);
}

static uint64_t deadline(const struct peer_link *l)
{
    const struct feedback_link *s = l->state;
    return s && s->look_at && l->link && l->link->credit ? s->look_at : UINT64_MAX;
}

static void on_gone(struct peer_link *l)
{
    struct feedback_link *s = l->state;
    if (s && s->has_batch)
        settle_start(peer_hub(l->conn), worker_mailbox(conn_worker(l->conn)), NULL, s->token, true, false, 0);
}

const struct peer_kind feedback_kind = { .name = "feedback",
                                         .on_attached = on_attached,
                                         .on_settled = on_settled,
                                         .pump = pump,
                                         .deadline = deadline,
                                         .on_deadline = pump,
                                         .on_gone = on_gone,
                                         .free_state = free };
