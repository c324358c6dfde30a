/* hub/front/amqp/link.c - links: who may attach to what, how one is refused, what waits to be sent on it, and
 * how it ends. */
#include "base/log.h"
#include "hub/domain/twin/twin.h"
#include "hub/front/amqp/peer.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- making and ending ------------------------------------------------------------------------------ */

static struct peer_link *link_new(struct conn *c, struct amqp_link *link)
{
    struct peer_link *l = calloc(1, sizeof *l);
    if (!l) {
        peer_end(c, CONN_CLOSE_INTERNAL);
        return NULL;
    }
    l->conn = c;
    l->link = link;
    l->refs = 1;
    link->user = l;
    list_push(&peer_of(c)->links, &l->node);
    return l;
}

void link_ref(struct peer_link *l)
{
    l->refs++;
}

void link_unref(struct peer_link *l)
{
    if (--l->refs)
        return;
    assert(!l->link);
    if (l->kind && l->kind->free_state)
        l->kind->free_state(l->state);
    while (l->first) {
        struct outgoing *o = l->first;
        l->first = o->next;
        free(o);
    }
    free(l->text);
    free(l->info_mem);
    free(l->model);
    free(l);
}

/* A device came or went: written down, and its other connection is told. */
static void presence_flushed(struct timer *t)
{
    struct amqp_worker *aw = CONTAINER_OF(t, struct amqp_worker, presence_timer);
    if (presence_flush(&aw->presence))
        timer_arm(aw->w, t, worker_now_ms(aw->w) + PEER_PRESENCE_MS);
}

void link_note_presence(struct conn *c, struct grant *g)
{
    struct amqp_worker *aw = peer_worker(c);
    if (presence_note(&aw->presence, grant_name(g), worker_wall_ms(aw->w))) {
        aw->presence_timer.on_timer = presence_flushed;
        timer_arm(aw->w, &aw->presence_timer, worker_now_ms(aw->w) + PEER_PRESENCE_MS);
    }
}

void link_note_activity(struct conn *c, const struct grant *g)
{
    struct amqp_worker *aw = peer_worker(c);
    if (presence_note_activity(&aw->presence, grant_name(g), worker_wall_ms(aw->w))) {
        aw->presence_timer.on_timer = presence_flushed;
        timer_arm(aw->w, &aw->presence_timer, worker_now_ms(aw->w) + PEER_PRESENCE_MS);
    }
}

static bool device_came(struct conn *c, struct grant *g)
{
    if (g->links_nr++)
        return true;
    if (bus_attach(peer_hub(c)->bus, grant_name(g), conn_addr(c))) {
        g->links_nr--;
        return false;
    }
    link_note_presence(c, g);
    grant_check(c, g); /* what was announced before it was attached woke nobody */
    return true;
}

static void device_went(struct conn *c, struct grant *g)
{
    if (--g->links_nr)
        return;
    bus_detach(peer_hub(c)->bus, grant_name(g), conn_addr(c));
    link_note_presence(c, g);
}

/* It rests on its grant no longer. */
static void link_release(struct peer_link *l)
{
    if (l->grant && l->kind && l->kind->of_device)
        device_went(l->conn, l->grant);
    l->grant = NULL;
}

void link_gone(struct amqp_link *link)
{
    struct peer_link *l = link->user;
    if (!l)
        return;
    link->user = NULL;
    list_del(&l->node);
    link_release(l);
    if (l->kind && l->kind->on_gone)
        l->kind->on_gone(l);
    l->link = NULL;
    l->conn = NULL;
    link_unref(l);
}

void link_detach(struct peer_link *l, const char *condition, const char *text)
{
    if (!l->link)
        return;
    struct amqp_error e = peer_error(l->conn, condition, text);
    if (l->info.n)
        e.info = l->info;
    l->detach_at = 0;
    link_release(l);
    amqp_detach(l->link, &e, peer_out(l->conn));
}

void link_detach_later(struct peer_link *l, const char *condition, const char *text)
{
    l->condition = condition;
    free(l->text);
    l->text = strdup(text);
    l->detach_at = worker_now_ms(conn_worker(l->conn)) + PEER_LATER_MS;
    peer_arm(l->conn);
}

/* ---- deciding --------------------------------------------------------------------------------------- */

struct verdict {
    const struct peer_kind *kind; /* NULL: refused */
    const char *condition;
    const char *text;
    struct grant *grant;
    bool redirect;
    bool unknown; /* no token named its identity */
};

static const char NOT_AUTHORIZED[] = "Unauthorized access.";

static struct verdict refused(const char *condition, const char *text)
{
    return (struct verdict){ .condition = condition, .text = text };
}

/* A link of a device or module: in either direction, as the kind says. */
static struct verdict of_identity(struct peer *p, const struct address *a, const struct peer_kind *in,
                                  const struct peer_kind *out, bool we_receive)
{
    struct grant *g = grant_of_identity(p, a->device, a->module);
    if (!g)
        return (struct verdict){ .condition = "amqp:unauthorized-access",
                                 .text = NOT_AUTHORIZED,
                                 .unknown = true };
    if (!(we_receive ? in : out))
        return refused("amqp:not-allowed", "links of this address go the other way");
    return (struct verdict){ .kind = we_receive ? in : out, .grant = g };
}

static struct verdict of_service(struct conn *c, const struct address *a, const struct peer_kind *kind,
                                 bool right_way)
{
    struct grant *g = grant_of_policy(c, ACCESS_SERVICE_CONNECT, a);
    if (!g)
        return refused("amqp:unauthorized-access", NOT_AUTHORIZED);
    if (!right_way)
        return refused("amqp:not-allowed", "links of this address go the other way");
    return (struct verdict){ .kind = kind, .grant = g };
}

static struct verdict decide(struct conn *c, const struct amqp_attach *a, struct address *to,
                             uint8_t mem[ADDRESS_MAX])
{
    struct peer *p = peer_of(c);
    bool we_receive = !a->receiver;
    const struct amqp_terminus *t = we_receive ? &a->target : &a->source;
    if (t->coordinator)
        return refused("amqp:not-implemented", "there are no transactions here");
    if (!t->present || t->dynamic || address_parse(t->address, mem, to))
        return refused("amqp:not-found", "The messaging entity could not be found.");
    switch (to->kind) {
    case ADDRESS_CBS:
        return (struct verdict){ .kind = we_receive ? &cbs_in_kind : &cbs_out_kind };
    case ADDRESS_MANAGEMENT:
        return of_service(c, to, we_receive ? &management_in_kind : &management_out_kind, true);
    case ADDRESS_TELEMETRY: /* of a module: its messages come on a receiver of the same address */
        return of_identity(p, to, &telemetry_kind, to->module.n ? &c2d_kind : NULL, we_receive);
    case ADDRESS_C2D:
        return of_identity(p, to, NULL, &c2d_kind, we_receive);
    case ADDRESS_TWIN:
        return of_identity(p, to, &twin_in_kind, &twin_out_kind, we_receive);
    case ADDRESS_METHODS:
        return of_identity(p, to, &method_in_kind, &method_out_kind, we_receive);
    case ADDRESS_SEND:
        return of_service(c, to, &send_kind, we_receive);
    case ADDRESS_FEEDBACK:
        return of_service(c, to, &feedback_kind, !we_receive);
    case ADDRESS_FILE_NOTIFICATIONS:
        return of_service(c, to, &file_notes_kind, !we_receive);
    case ADDRESS_EVENTS: {
        struct verdict v = of_service(c, to, &silent_kind, !we_receive);
        v.redirect = v.kind != NULL;
        return v;
    }
    case ADDRESS_CONSUMER:
        return of_service(c, to, &consumer_kind, !we_receive);
    default:
        return refused("amqp:not-implemented", "this hub does not serve this address over AMQP");
    }
}

/* ---- attaching -------------------------------------------------------------------------------------- */

static struct span link_properties(struct conn *c)
{
    return peer_front(c)->cfg.properties;
}

void link_refuse(struct peer_link *l, const char *condition, const char *text)
{
    amqp_refuse(l->link, link_properties(l->conn), peer_out(l->conn));
    link_detach_later(l, condition, text);
}

/* Texts of the attach that outlive it. */
static bool keep_texts(struct peer_link *l, const struct amqp_attach *a)
{
    struct amqp_value map, model, pair;
    bool has_model, has_pair;
    if (!a->properties.n || amqp_read_one(a->properties, &map))
        return true;
    has_model = amqp_map_get(&map, SPAN("com.microsoft:model-id"), &model) && amqp_is_text(&model) &&
                model.bytes.n < 256;
    has_pair = amqp_map_get(&map, SPAN("com.microsoft:channel-correlation-id"), &pair) &&
               amqp_is_text(&pair) && pair.bytes.n < 256;
    if (!has_model && !has_pair)
        return true;
    if (!(l->model = malloc(512)))
        return false;
    struct wr w = { l->model, 512, 0 };
    if (has_model)
        wr_put(&w, model.bytes);
    l->model_len = (uint16_t)w.len;
    if (has_pair)
        wr_put(&w, pair.bytes);
    l->pair = span_of(l->model + l->model_len, w.len - l->model_len);
    return true;
}

struct model_task {        /* owned by itself */
    struct store_op store; /* first */
    struct hub *hub;
    bool differs;
    uint16_t id_len, model_len;
    uint8_t text[];
};

static struct span model_id_of(const struct model_task *t)
{
    return span_of(t->text, t->id_len);
}
static struct span model_of(const struct model_task *t)
{
    return span_of(t->text + t->id_len, t->model_len);
}

static enum err model_write(struct store_tx *tx, struct store_op *self)
{
    struct model_task *t = (struct model_task *)(void *)self;
    return twin_set_model(tx, model_id_of(t), model_of(t));
}

static void model_written(struct op *op)
{
    if (op->err && op->err != ERR_NOTFOUND && op->err != ERR_STOPPED) /* the next attach says it again */
        log_warn("amqp.model", "err=%s", err_name(op->err));
    free(op);
}

static enum err model_look(struct store_tx *tx, struct store_op *self)
{
    struct model_task *t = (struct model_task *)(void *)self;
    struct twin_row r;
    enum err e = tx_twin_get(tx, model_id_of(t), &r);
    t->differs = !e && !span_eq(r.model_id, model_of(t));
    return e;
}

static void model_looked(struct op *op)
{
    struct model_task *t = (struct model_task *)(void *)op;
    if (op->err || !t->differs) {
        model_written(op);
        return;
    }
    t->store.run = model_write;
    t->store.op.done = model_written;
    store_write(t->hub->store, &t->store);
}

/* The model a device announces goes to its twin. Devices rarely change theirs: most of the time that is
 * looked up and costs the writer nothing. */
static void note_model(struct peer_link *l)
{
    struct span id = grant_name(l->grant);
    struct model_task *t = l->model_len ? malloc(sizeof *t + id.n + l->model_len) : NULL;
    if (!t)
        return;
    *t = (struct model_task){ .hub = peer_hub(l->conn),
                              .id_len = (uint16_t)id.n,
                              .model_len = l->model_len,
                              .store.run = model_look,
                              .store.op.home = worker_mailbox(conn_worker(l->conn)),
                              .store.op.done = model_looked };
    memcpy(t->text, id.p, id.n);
    memcpy(t->text + id.n, l->model, l->model_len);
    store_read(t->hub->store, &t->store);
}

void link_attach(struct conn *c, const struct amqp_event *ev)
{
    struct peer_link *l = link_new(c, ev->link);
    if (l)
        link_decide(l, &ev->attach, true);
}

void link_decide(struct peer_link *l, const struct amqp_attach *a, bool may_ask)
{
    struct conn *c = l->conn;
    uint8_t mem[ADDRESS_MAX];
    char text[256];
    struct address to = { 0 };
    struct amqp_attach answer = *a;
    struct verdict v = decide(c, a, &to, mem);
    if (!v.kind && v.unknown && may_ask && proof_start(l, a, &to))
        return;
    if (v.kind == &consumer_kind) {
        v.condition = consumer_make(c, &to, a, &l->state, text);
        if (v.condition) {
            v.kind = NULL;
            v.text = text;
        }
    }
    if (!v.kind) {
        link_refuse(l, v.condition, v.text);
        return;
    }
    l->kind = v.kind;
    if (!keep_texts(l, a) || (v.kind->of_device && !device_came(c, v.grant))) {
        if (l->kind->on_gone)
            l->kind->on_gone(l);
        if (l->kind->free_state)
            l->kind->free_state(l->state);
        l->state = NULL;
        l->kind = NULL;
        link_refuse(l, "amqp:internal-error", "the hub is short of memory: try again");
        return;
    }
    l->grant = v.grant;
    answer.max_message_size = a->receiver ? 0 : PEER_MESSAGE_MAX;
    answer.desired_capabilities = SPAN_NONE;
    answer.properties = link_properties(c);
    answer.initial_delivery_count = 0;
    if (amqp_accept(l->link, &answer, peer_out(c))) {
        peer_refuse(c, CONN_CLOSE_LIMIT, "attach-too-long");
        return;
    }
    if (v.kind->of_device)
        note_model(l);
    if (v.redirect)
        events_redirect(l, to.rest);
    else if (v.kind->credit)
        amqp_credit(l->link, v.kind->credit, peer_out(c));
    if (l->kind->on_attached && !v.redirect)
        l->kind->on_attached(l);
}

/* ---- receiving -------------------------------------------------------------------------------------- */

void link_credit(struct peer_link *l)
{
    struct amqp_link *link = l->link;
    /* What is not settled counts: who is slower than its peer is asked for less. */
    if (link && l->kind && link->credit + link->got_nr <= l->kind->credit / 2)
        amqp_credit(link, l->kind->credit - link->got_nr, peer_out(l->conn));
}

void link_settle(struct peer_link *l, uint32_t id, const char *condition, const char *text)
{
    if (!l->link)
        return;
    struct amqp_state s = { .outcome = condition ? AMQP_REJECTED : AMQP_ACCEPTED };
    if (condition)
        s.error = peer_error(l->conn, condition, text);
    amqp_settle(l->link, id, id, 1, &s, peer_out(l->conn));
}

/* ---- sending ---------------------------------------------------------------------------------------- */

bool link_post(struct peer_link *l, struct span message, bool settled, uint64_t user, const uint8_t tag[16])
{
    struct outgoing *o = NULL;
    if (l->outbox_nr < PEER_OUTBOX_MAX && l->outbox_bytes + message.n <= PEER_OUTBOX_BYTES)
        o = malloc(sizeof *o + message.n);
    if (!o)
        return false;
    *o = (struct outgoing){ .len = message.n };
    memcpy(o->bytes, message.p, message.n);
    memcpy(o->tag, tag, sizeof o->tag);
    o->send = (struct amqp_send){ .tag = span_of(o->tag, sizeof o->tag),
                                  .settled = settled,
                                  .user = user,
                                  .body = span_of(o->bytes, o->len) };
    if (l->last)
        l->last->next = o;
    else
        l->first = o;
    l->last = o;
    l->outbox_nr++;
    l->outbox_bytes += o->len;
    link_pump(l);
    return true;
}

void link_pump(struct peer_link *l)
{
    while (l->first && l->link && conn_unsent(l->conn) < PEER_UNSENT_MAX) {
        struct outgoing *o = l->first;
        size_t before = o->send.done;
        enum err e = amqp_send(l->link, &o->send, peer_out(l->conn));
        if (e == ERR_AGAIN && o->send.done > before)
            continue; /* the scratch was full: once more */
        if (e == ERR_AGAIN)
            break;
        if (e == ERR_LIMIT && !o->send.begun && l->link->session->conn->sent_nr >= PEER_UNSETTLED_MAX)
            break;          /* when some are settled */
        l->first = o->next; /* sent; or larger than the peer takes: it never can be */
        if (!l->first)
            l->last = NULL;
        l->outbox_nr--;
        l->outbox_bytes -= o->len;
        free(o);
    }
    if (l->link && l->link->drain && !l->first && !(l->kind && l->kind->pump))
        amqp_drained(l->link, peer_out(l->conn));
}
