/* hub/front/amqp/deliver.c - cloud-to-device messages out: listed from the store as far as there is credit,
 * and settled as the device says: accepted ends one, rejected gives it up, released puts it back. Of a
 * message under way only its reference is kept. */
#include "base/log.h"
#include "base/text.h"
#include "hub/domain/message/c2d_lock.h"
#include "hub/domain/message/c2d_settle.h"
#include "hub/front/amqp/map.h"
#include "hub/front/amqp/peer.h"

#include <stdlib.h>

enum { FLIGHT_MAX = 50, FLIGHT_LATE_MAX = 200 };

struct flight {
    uint64_t token; /* of the delivery */
    uint64_t lock_end_ms;
    struct c2d_ref ref;
    bool late; /* its lock ran out: it goes out again, and this one's answer counts no more */
};
struct c2d_link { /* state of the link */
    struct flight *flights;
    unsigned nr, cap, late_nr;
    uint64_t after_seq, after_bcast, next_token;
    uint32_t turn; /* raised when the place to list from goes back */
    bool listing, again, ordered;
};

struct list_task {        /* owned by itself */
    struct c2d_list list; /* first */
    struct peer_link *l;  /* referenced */
    uint32_t turn;
    uint8_t device[2 * DEVICE_ID_MAX + 1];
};

static void on_attached(struct peer_link *l)
{
    struct c2d_link *s = calloc(1, sizeof *s);
    l->state = s;
    if (!s)
        peer_refuse(l->conn, CONN_CLOSE_INTERNAL, "memory");
    else
        s->ordered = true; /* behind what an earlier connection wrote */
}

static void free_state(void *state)
{
    struct c2d_link *s = state;
    if (s)
        free(s->flights);
    free(s);
}

/* From the start of the queue again; what is under way is left out. */
static void rewind_list(struct c2d_link *s)
{
    s->after_seq = s->after_bcast = 0;
    s->turn++;
    s->ordered = true;
}

static bool is_under_way(const struct c2d_link *s, const struct c2d_item *i)
{
    for (unsigned k = 0; k < s->nr; k++)
        if (!s->flights[k].late && s->flights[k].ref.seq == i->seq &&
            s->flights[k].ref.broadcast == i->broadcast)
            return true;
    return false;
}

static bool flight_add(struct c2d_link *s, const struct flight *f)
{
    if (s->nr == s->cap) {
        unsigned cap = s->cap ? 2 * s->cap : 8;
        struct flight *p = realloc(s->flights, cap * sizeof *p);
        if (!p)
            return false;
        s->flights = p;
        s->cap = cap;
    }
    s->flights[s->nr++] = *f;
    return true;
}

/* ---- one message ------------------------------------------------------------------------------------ */

static void put_props(struct wr *w, const struct c2d_item *item, struct map_out *o, struct wr *mem,
                      bool write)
{
    struct span bag = item->props;
    struct bag_item b;
    uint32_t nr = 0;
    size_t at = 0;
    if (write) {
        amqp_section_begin(w, AMQP_APPLICATION_PROPERTIES);
        at = amqp_map_begin(w);
        nr = map_application(w, o);
    }
    while (bag_next(&bag, mem, &b) == ERR_OK) {
        int system = bag_system_of_wire(b.name);
        if (system >= 0) {
            o->system[system] = b.value.p ? b.value : SPAN("");
        } else if (write) {
            amqp_put_string(w, b.name);
            amqp_put_string(w, b.value);
            nr += 2;
        }
    }
    if (write)
        amqp_map_end(w, at, nr);
}

static void message_write(struct wr *w, struct span device, const struct c2d_item *item, struct wr *mem,
                          const uint8_t tag[16])
{
    uint8_t to[2 * DEVICE_ID_MAX + 64], token[36];
    struct wr t = { to, sizeof to, 0 }, k = { token, sizeof token, 0 };
    struct map_out o = { 0 };
    mem->len = 0;
    put_props(w, item, &o, mem, false);
    const uint8_t *slash = memchr(device.p, '/', device.n); /* of "device/module" */
    size_t n = slash ? (size_t)(slash - device.p) : device.n;
    wr_str(&t, "/devices/");
    wr_put(&t, span_of(device.p, n));
    if (slash) {
        wr_str(&t, "/modules/");
        wr_put(&t, span_skip(device, n + 1));
    }
    wr_str(&t, "/messages/devicebound");
    o.system[BAG_TO] = wr_span(&t);
    amqp_id_text(&k, &(struct amqp_value){ .type = AMQP_UUID, .bytes = span_of(tag, 16) });
    amqp_section_begin(w, AMQP_MESSAGE_ANNOTATIONS);
    size_t at = amqp_map_begin(w);
    amqp_put_symbol(w, SPAN("x-opt-sequence-number"));
    amqp_put_ulong(w, item->seq);
    amqp_put_symbol(w, SPAN("iothub-enqueuedtime"));
    amqp_put_timestamp(w, item->enqueued_ms);
    amqp_put_symbol(w, SPAN("iothub-deliverycount"));
    amqp_put_ubyte(w, item->deliveries < 255 ? (uint8_t)item->deliveries : 255);
    amqp_put_symbol(w, SPAN("x-opt-lock-token"));
    amqp_put_string(w, wr_span(&k));
    amqp_map_end(w, at, 8);
    map_properties(w, &o, SPAN_NONE);
    mem->len = 0;
    put_props(w, item, &o, mem, true);
    amqp_data_head(w, item->body.n);
    wr_put(w, item->body);
}

static bool send_one(struct peer_link *l, struct span device, const struct c2d_item *item)
{
    struct c2d_link *s = l->state;
    const struct hub *h = peer_hub(l->conn);
    uint8_t tag[16];
    h->crypto->random(tag, sizeof tag);
    tag[6] = (uint8_t)((tag[6] & 0x0f) | 0x40); /* a token of version 4, as it prints */
    tag[8] = (uint8_t)((tag[8] & 0x3f) | 0x80);
    size_t room = 1024 + 4 * item->props.n + item->body.n;
    uint8_t *bytes = malloc(room + item->props.n + 1);
    if (!bytes)
        return false;
    struct wr w = { bytes, room, 0 }, mem = { bytes + room, item->props.n, 0 };
    message_write(&w, device, item, &mem, tag);
    assert(wr_ok(&w));
    struct flight f = { .token = ++s->next_token,
                        .ref = { item->seq, item->broadcast, item->ack },
                        .lock_end_ms =
                            worker_now_ms(conn_worker(l->conn)) + 1000ull * h->settings.c2d_lock_s };
    /* The first three groups of a token are little-endian where it is read as one. */
    static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
    uint8_t wire[16];
    for (int i = 0; i < 16; i++)
        wire[i] = tag[order[i]];
    bool sent = flight_add(s, &f) && link_post(l, wr_span(&w), false, f.token, wire);
    free(bytes);
    return sent;
}

/* ---- the queue -------------------------------------------------------------------------------------- */

static void take_list(struct peer_link *l, const struct c2d_list *list)
{
    struct c2d_link *s = l->state;
    struct c2d_ref sent[C2D_BATCH_MAX];
    size_t nr = 0;
    for (size_t i = 0; i < list->items_nr; i++) {
        const struct c2d_item *item = &list->items[i];
        if (is_under_way(s, item))
            continue;
        if (!send_one(l, list->device, item)) {
            peer_refuse(l->conn, CONN_CLOSE_INTERNAL, "memory");
            break;
        }
        sent[nr++] = (struct c2d_ref){ item->seq, item->broadcast, item->ack };
    }
    s->after_seq = list->after_seq;
    s->after_bcast = list->after_bcast;
    s->again |= list->more;
    if (nr)
        c2d_delivered(peer_hub(l->conn), list->device, sent, nr);
    peer_arm(l->conn);
}

static void pump(struct peer_link *l);

static void listed(struct op *op)
{
    struct list_task *t = (struct list_task *)(void *)op;
    struct peer_link *l = t->l;
    struct c2d_link *s = l->state;
    if (l->link) {
        struct conn *c = l->conn;
        s->listing = false;
        if (op->err) {
            if (peer_log_allowed(peer_worker(c))) /* the next wake-up or connection asks again */
                log_warn("amqp.c2d", "device=%.*s err=%s", (int)t->list.device.n,
                         (const char *)t->list.device.p, err_name(op->err));
        } else if (t->turn != s->turn) {
            s->again = true;
        } else {
            take_list(l, &t->list);
        }
        if (!conn_is_closing(c)) {
            if (s->again)
                pump(l);
            else if (l->link->drain && !l->first)
                amqp_drained(l->link, peer_out(c));
        }
        peer_flush(c);
    }
    c2d_list_fini(&t->list);
    link_unref(l);
    free(t);
}

static void pump(struct peer_link *l)
{
    struct c2d_link *s = l->state;
    unsigned live = s ? s->nr - s->late_nr : 0, credit = l->link ? l->link->credit : 0;
    if (!s || !l->link || !l->grant || conn_is_closing(l->conn))
        return;
    s->again = true;
    if (c2d_is_locked(peer_hub(l->conn), grant_name(l->grant))) { /* over HTTPS: the end of it wakes */
        if (l->link->drain && !l->first && !s->listing)
            amqp_drained(l->link, peer_out(l->conn));
        return;
    }
    credit = credit > l->outbox_nr ? credit - (unsigned)l->outbox_nr : 0;
    if (s->listing || !credit || live >= FLIGHT_MAX || conn_unsent(l->conn) > PEER_UNSENT_MAX)
        return;
    struct list_task *t = calloc(1, sizeof *t);
    if (!t) {
        peer_refuse(l->conn, CONN_CLOSE_INTERNAL, "memory");
        return;
    }
    struct span device = grant_name(l->grant);
    memcpy(t->device, device.p, device.n);
    t->l = l;
    link_ref(l);
    t->turn = s->turn;
    t->list.hub = peer_hub(l->conn);
    t->list.device = span_of(t->device, device.n);
    t->list.after_seq = s->after_seq;
    t->list.after_bcast = s->after_bcast;
    t->list.items_max = credit < C2D_BATCH_MAX ? credit : C2D_BATCH_MAX;
    t->list.ordered = s->ordered;
    t->list.store.op.home = worker_mailbox(conn_worker(l->conn));
    t->list.store.op.done = listed;
    s->listing = true;
    s->again = s->ordered = false;
    c2d_list_start(&t->list);
}

/* ---- what the device says --------------------------------------------------------------------------- */

struct end_task {          /* owned by itself */
    struct c2d_end_op end; /* first */
    struct peer_link *l;   /* referenced */
    uint32_t id;           /* of the delivery */
    uint8_t device[2 * DEVICE_ID_MAX + 1];
};

static void lock_lost(struct conn *c, struct amqp_state *answer)
{
    answer->outcome = AMQP_REJECTED;
    answer->error = peer_error(c, "com.microsoft:message-lock-lost", "the lock of the message ran out");
}

static void ended(struct op *op)
{
    struct end_task *t = (struct end_task *)(void *)op;
    struct peer_link *l = t->l;
    if (l->link && !conn_is_closing(l->conn)) {
        struct amqp_state answer = { .outcome = AMQP_ACCEPTED };
        if (op->err == ERR_NOTFOUND) { /* it has left the queue another way */
            lock_lost(l->conn, &answer);
        } else if (op->err) {
            answer.outcome = AMQP_REJECTED;
            answer.error = peer_error(l->conn, "amqp:internal-error", "the message could not be settled");
        }
        amqp_answer(l->link->session, t->id, &answer, peer_out(l->conn));
        peer_flush(l->conn);
    }
    link_unref(l);
    free(t);
}

/* The device waits for our word, which it gets when its own is stored. */
static void end_start(struct peer_link *l, const struct amqp_event *ev, const struct c2d_ref *ref,
                      enum c2d_end how)
{
    struct end_task *t = calloc(1, sizeof *t);
    struct span device = grant_name(l->grant);
    if (!t) {
        peer_refuse(l->conn, CONN_CLOSE_INTERNAL, "memory");
        return;
    }
    memcpy(t->device, device.p, device.n);
    t->l = l;
    link_ref(l);
    t->id = ev->sent.id;
    t->end.hub = peer_hub(l->conn);
    t->end.device = span_of(t->device, device.n);
    t->end.ref = *ref;
    t->end.end = how;
    t->end.store.op.home = worker_mailbox(conn_worker(l->conn));
    t->end.store.op.done = ended;
    c2d_end_start(&t->end);
}

static void on_settled(struct peer_link *l, const struct amqp_event *ev)
{
    struct c2d_link *s = l->state;
    struct hub *h = peer_hub(l->conn);
    const struct amqp_state *state = &ev->sent.state;
    struct amqp_state answer = { .outcome = AMQP_ACCEPTED };
    unsigned i = 0;
    while (s && i < s->nr && s->flights[i].token != ev->sent.user)
        i++;
    if (!s || i == s->nr)
        return;
    struct flight f = s->flights[i];
    if (l->grant)
        link_note_activity(l->conn, l->grant);
    s->flights[i] = s->flights[--s->nr];
    s->late_nr -= f.late;
    bool gives_up =
        state->outcome == AMQP_REJECTED || (state->outcome == AMQP_MODIFIED && state->undeliverable_here);
    bool puts_back = !gives_up && (state->outcome == AMQP_RELEASED || state->outcome == AMQP_MODIFIED);
    if (f.late) {
        lock_lost(l->conn, &answer);
    } else if (!l->grant) {
        answer.outcome = AMQP_REJECTED;
        answer.error = peer_error(l->conn, "amqp:unauthorized-access", "the token has expired");
    } else if (puts_back) {
        rewind_list(s);
    } else if (!ev->sent.settled) {
        end_start(l, ev, &f.ref, gives_up ? C2D_REJECTED : C2D_SUCCESS);
        pump(l);
        return;
    } else if (gives_up) {
        c2d_reject(h, grant_name(l->grant), &f.ref, 1);
    } else {
        c2d_complete(h, grant_name(l->grant), &f.ref, 1);
    }
    if (!ev->sent.settled) /* it waits for our word */
        amqp_answer(ev->session, ev->sent.id, &answer, peer_out(l->conn));
    pump(l);
}

static uint64_t deadline(const struct peer_link *l)
{
    const struct c2d_link *s = l->state;
    uint64_t at = UINT64_MAX;
    for (unsigned i = 0; s && i < s->nr; i++)
        if (!s->flights[i].late && s->flights[i].lock_end_ms < at)
            at = s->flights[i].lock_end_ms;
    return at;
}

static void on_deadline(struct peer_link *l)
{
    struct c2d_link *s = l->state;
    uint64_t now = worker_now_ms(conn_worker(l->conn));
    for (unsigned i = 0; i < s->nr; i++)
        if (!s->flights[i].late && s->flights[i].lock_end_ms <= now) {
            s->flights[i].late = true;
            s->late_nr++;
        }
    rewind_list(s);
    if (s->late_nr > FLIGHT_LATE_MAX)
        link_detach(l, "amqp:resource-limit-exceeded", "too many messages are never settled");
    else
        pump(l);
}

const struct peer_kind c2d_kind = { .name = "c2d",
                                    .of_device = true,
                                    .on_attached = on_attached,
                                    .on_settled = on_settled,
                                    .pump = pump,
                                    .deadline = deadline,
                                    .on_deadline = on_deadline,
                                    .free_state = free_state };
