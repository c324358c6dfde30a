/* hub/front/amqp/notices.c - what services wait for: what became of messages, and files of devices. Both are
 * queues whose receivers take something under a lock; what a receiver has is completed or put back as it
 * says. One delivery of a receiver is under way at a time. */
#include "base/text.h"
#include "core/json/json.h"
#include "hub/domain/message/feedback.h"
#include "hub/domain/message/file_note.h"
#include "hub/domain/message/receivers.h"
#include "hub/front/amqp/map.h"
#include "hub/front/amqp/peer.h"

#include <stdlib.h>

enum {
    LOOK_MS = 5000,  /* what a lock held that ran out is told to nobody */
    GATHER_MS = 200, /* records of what became of messages come in swarms */
    ARENA_MAX_ = 1 << 20
};

struct notice_link {  /* state of the link */
    uint64_t look_at; /* ms: when to ask again; 0: not */
    uint64_t sent;    /* deliveries */
    bool taking, has; /* has: something is under way */
    bool told;        /* of something new, while one was being taken */
    bool waiting;     /* the wait is the bus's, and holds a reference to the link */
    struct bus_wait wait;
    struct peer_link *link;             /* for the end of the wait */
    char token[FEEDBACK_TOKEN_LEN + 1]; /* of the lock of what is under way */
};

struct take_task {         /* owned by itself */
    struct store_op store; /* first */
    struct hub *hub;
    struct peer_link *l; /* referenced */
    bool files;
    struct arena a;
    struct feedback_batch batch; /* of files: its token only */
    struct file_note_row note;
};
struct settle_task {       /* owned by itself */
    struct store_op store; /* first */
    struct hub *hub;
    struct peer_link *l; /* referenced, or NULL: nobody waits */
    uint32_t id;         /* of the delivery, when an answer is due */
    bool answer, put_back, files;
    char token[FEEDBACK_TOKEN_LEN + 1];
};

static bool of_files(const struct peer_link *l)
{
    return l->kind == &file_notes_kind;
}

static void on_attached(struct peer_link *l)
{
    struct notice_link *s = calloc(1, sizeof *s);
    l->state = s;
    if (s)
        s->link = l;
    else
        peer_refuse(l->conn, CONN_CLOSE_INTERNAL, "memory");
}

/* ---- out -------------------------------------------------------------------------------------------- */

static void put_name(struct wr *w, const char *name, bool first)
{
    wr_str(w, first ? "{" : ",");
    json_put_string(w, span_str(name));
    wr_u8(w, ':');
}

static void put_member(struct wr *w, const char *name, struct span value, bool first)
{
    put_name(w, name, first);
    json_put_string(w, value);
}

static void put_time(struct wr *w, const char *name, uint64_t ms)
{
    uint8_t time[32];
    struct wr t = { time, sizeof time, 0 };
    iso8601_encode(&t, ms);
    put_member(w, name, wr_span(&t), false);
}

static void batch_write(struct wr *w, const struct feedback_batch *b)
{
    for (size_t i = 0; i < b->nr; i++) {
        const struct feedback_row *r = &b->rows[i];
        wr_u8(w, i ? ',' : '[');
        put_member(w, "originalMessageId", r->message_id, true);
        put_time(w, "enqueuedTimeUtc", r->at_ms);
        put_member(w, "statusCode", r->outcome, false);
        put_member(w, "description", r->outcome, false);
        put_member(w, "deviceId", r->device, false);
        put_member(w, "deviceGenerationId", r->generation, false);
        wr_u8(w, '}');
    }
    wr_u8(w, ']');
}

static void note_write(struct wr *w, const struct file_note_row *r)
{
    put_member(w, "deviceId", r->device, true);
    put_member(w, "blobUri", r->uri, false);
    put_member(w, "blobName", r->blob, false);
    put_time(w, "lastUpdatedTime", r->modified_ms);
    put_name(w, "blobSizeInBytes", false);
    u64_encode(w, r->length);
    put_time(w, "enqueuedTimeUtc", r->enqueued_ms);
    wr_u8(w, '}');
}

static void body_write(struct wr *w, const struct take_task *t)
{
    if (t->files)
        note_write(w, &t->note);
    else
        batch_write(w, &t->batch);
}

static bool notice_send(struct peer_link *l, const struct take_task *t)
{
    struct notice_link *s = l->state;
    struct hub *h = peer_hub(l->conn);
    struct wr body = { 0 };
    uint8_t tag[16];
    body_write(&body, t);
    size_t room = body.len + 512;
    uint8_t *mem = malloc(room);
    struct wr w = { mem, mem ? room : 0, 0 };
    if (!mem)
        return false;
    amqp_section_begin(&w, AMQP_MESSAGE_ANNOTATIONS);
    size_t at = amqp_map_begin(&w);
    amqp_put_symbol(&w, SPAN("iothub-enqueuedtime"));
    amqp_put_timestamp(&w, t->files ? t->note.enqueued_ms : h->wall_ms());
    amqp_map_end(&w, at, 2);
    struct amqp_properties p = { .user_id = span_str(peer_front(l->conn)->entity),
                                 .content_type =
                                     t->files ? SPAN("application/vnd.microsoft.iothub.filenotification.json")
                                              : SPAN("application/vnd.microsoft.iothub.feedback.json") };
    amqp_properties_encode(&w, &p);
    amqp_data_head(&w, body.len);
    body_write(&w, t);
    h->crypto->random(tag, sizeof tag);
    bool sent = wr_ok(&w) && link_post(l, wr_span(&w), false, ++s->sent, tag);
    free(mem);
    return sent;
}

/* ---- what the receiver says --------------------------------------------------------------------------- */

static enum err settle_run(struct store_tx *tx, struct store_op *self)
{
    struct settle_task *t = (struct settle_task *)(void *)self;
    struct span token = span_str(t->token);
    if (t->files)
        return file_note_settle(t->hub, tx, token, !t->put_back);
    return t->put_back ? feedback_abandon(t->hub, tx, token) : feedback_complete(t->hub, tx, token);
}

static void pump(struct peer_link *l);

static void settled(struct op *op)
{
    struct settle_task *t = (struct settle_task *)(void *)op;
    struct peer_link *l = t->l;
    if (l && l->link && !conn_is_closing(l->conn)) {
        struct conn *c = l->conn;
        struct amqp_state answer = { .outcome = op->err ? AMQP_REJECTED : AMQP_ACCEPTED };
        if (op->err == ERR_NOTFOUND)
            answer.error =
                peer_error(c, "com.microsoft:message-lock-lost", "the lock of the message ran out");
        else if (op->err)
            answer.error = peer_error(c, "amqp:internal-error", "the message could not be settled");
        if (t->answer)
            amqp_answer(l->link->session, t->id, &answer, peer_out(c));
        pump(l);
        peer_flush(c);
    }
    if (l)
        link_unref(l);
    free(t);
}

static void settle_start(struct hub *h, struct mailbox *home, const struct settle_task *what)
{
    struct settle_task *t = malloc(sizeof *t);
    if (!t) /* its lock runs out */
        return;
    *t = *what;
    t->hub = h;
    if (t->l)
        link_ref(t->l);
    t->store.run = settle_run;
    t->store.op.home = home;
    t->store.op.done = settled;
    store_write(h->store, &t->store);
}

static void on_settled(struct peer_link *l, const struct amqp_event *ev)
{
    struct notice_link *s = l->state;
    uint8_t outcome = ev->sent.state.outcome;
    struct settle_task t = { .l = l,
                             .id = ev->sent.id,
                             .answer = !ev->sent.settled,
                             .put_back = outcome == AMQP_RELEASED ||
                                         (outcome == AMQP_MODIFIED && !ev->sent.state.undeliverable_here),
                             .files = of_files(l) };
    if (!s || !s->has || ev->sent.user != s->sent)
        return;
    s->has = false;
    memcpy(t.token, s->token, sizeof t.token);
    settle_start(peer_hub(l->conn), worker_mailbox(conn_worker(l->conn)), &t);
}

/* Nobody is there for it any more. */
static void put_back(struct hub *h, struct mailbox *home, bool files, const char *token)
{
    struct settle_task t = { .put_back = true, .files = files };
    memcpy(t.token, token, sizeof t.token);
    settle_start(h, home, &t);
}

/* ---- the queue ---------------------------------------------------------------------------------------- */

static enum err note_each(void *ctx, const struct file_note_row *r)
{
    struct take_task *t = ctx;
    t->note = *r;
    t->note.device = arena_copy(&t->a, r->device);
    t->note.blob = arena_copy(&t->a, r->blob);
    t->note.uri = arena_copy(&t->a, r->uri);
    return arena_err(&t->a);
}

static enum err take_run(struct store_tx *tx, struct store_op *self)
{
    struct take_task *t = (struct take_task *)(void *)self;
    uint8_t random[16];
    if (!t->files)
        return feedback_take(t->hub, tx, &t->a, &t->batch);
    t->hub->crypto->random(random, sizeof random);
    uuid_encode(random, t->batch.token);
    return file_note_take(t->hub, tx, span_str(t->batch.token), 1, note_each, t);
}

/* Nothing there, or the store has trouble: until it is told, or for a while. */
static void rest(struct peer_link *l)
{
    struct notice_link *s = l->state;
    s->look_at = worker_now_ms(conn_worker(l->conn)) + LOOK_MS;
    if (l->link->drain)
        amqp_drained(l->link, peer_out(l->conn));
    peer_arm(l->conn);
}

static void taken(struct op *op)
{
    struct take_task *t = (struct take_task *)(void *)op;
    struct peer_link *l = t->l;
    struct notice_link *s = l->state;
    s->taking = false;
    if (!l->link) {
        if (!op->err)
            put_back(t->hub, op->home, t->files, t->batch.token);
    } else if (!conn_is_closing(l->conn)) {
        struct conn *c = l->conn;
        if (!op->err) {
            s->has = true;
            memcpy(s->token, t->batch.token, sizeof s->token);
            if (!notice_send(l, t))
                peer_refuse(c, CONN_CLOSE_INTERNAL, "memory");
        } else if (s->told) {
            pump(l);
        } else {
            rest(l);
        }
        peer_flush(c);
    } else if (!op->err) { /* the end of the link puts it back */
        s->has = true;
        memcpy(s->token, t->batch.token, sizeof s->token);
    }
    arena_fini(&t->a);
    link_unref(l);
    free(t);
}

static void told(struct op *op)
{
    struct notice_link *s = CONTAINER_OF(op, struct notice_link, wait.op);
    struct peer_link *l = s->link;
    s->waiting = false;
    if (l->link && !conn_is_closing(l->conn) && !op->err) {
        struct conn *c = l->conn;
        s->told = true;
        if (of_files(l)) {
            pump(l);
            peer_flush(c);
        } else if (!s->taking && !s->has) {
            s->look_at = worker_now_ms(conn_worker(c)) + GATHER_MS;
            peer_arm(c);
        }
    }
    link_unref(l);
}

static void pump(struct peer_link *l)
{
    struct notice_link *s = l->state;
    if (!s || !l->link || !l->grant || s->taking || s->has || !l->link->credit || conn_is_closing(l->conn))
        return;
    struct take_task *t = calloc(1, sizeof *t);
    if (!t) {
        rest(l);
        return;
    }
    struct mailbox *home = worker_mailbox(conn_worker(l->conn));
    t->hub = peer_hub(l->conn);
    t->files = of_files(l);
    s->look_at = 0;
    s->told = false;
    s->taking = true;
    if (!s->waiting) { /* first, so that nothing is missed in between */
        s->waiting = true;
        link_ref(l);
        s->wait.op.home = home;
        s->wait.op.done = told;
        receivers_wait(t->hub, t->files ? RECEIVERS_FILES : RECEIVERS_FEEDBACK, &s->wait);
    }
    t->l = l;
    link_ref(l);
    arena_init(&t->a, ARENA_MAX_);
    t->store.run = take_run;
    t->store.op.home = home;
    t->store.op.done = taken;
    store_write(t->hub->store, &t->store);
}

static uint64_t deadline(const struct peer_link *l)
{
    const struct notice_link *s = l->state;
    return s && s->look_at && l->link && l->link->credit ? s->look_at : UINT64_MAX;
}

static void on_gone(struct peer_link *l)
{
    struct notice_link *s = l->state;
    struct hub *h = peer_hub(l->conn);
    if (s && s->has)
        put_back(h, worker_mailbox(conn_worker(l->conn)), of_files(l), s->token);
    if (s && s->waiting)
        bus_wait_end(h->bus, &s->wait, ERR_CLOSED);
}

#define NOTICES(text)                                                                                        \
    {                                                                                                        \
        .name = text, .on_attached = on_attached, .on_settled = on_settled, .pump = pump,                    \
        .deadline = deadline, .on_deadline = pump, .on_gone = on_gone, .free_state = free                    \
    }
const struct peer_kind feedback_kind = NOTICES("feedback");
const struct peer_kind file_notes_kind = NOTICES("file notifications");
