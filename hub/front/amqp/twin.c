/* hub/front/amqp/twin.c - a device's own twin over AMQP: requests come in on one link, answers and news of
 * the desired properties leave on its pair. As over MQTT, what the device sees of its desired properties
 * never goes backwards: an answer that is older than news already told is read again, behind all writes. */
#include "hub/domain/twin/twin_device.h"

#include "core/json/json.h"
#include "hub/front/amqp/map.h"
#include "hub/front/amqp/peer.h"

#include <stdlib.h>

#define TWIN_BODY_MAX (TWIN_TEXT_FACTOR * TWIN_SECTION_MAX) /* no patch that could be accepted is longer */

struct twin_out { /* state of the link that answers leave on */
    bool subscribed;
    bool reading;  /* the store is being asked for what was not told */
    bool again;    /* more of that since it was asked */
    uint64_t seen; /* newest version of the desired properties that was told */
};

static void on_attached(struct peer_link *l)
{
    if (!(l->state = calloc(1, sizeof(struct twin_out))))
        peer_refuse(l->conn, CONN_CLOSE_INTERNAL, "memory");
}

/* The link that belongs to a request's: by the name both were given, else of the same session, else of the
 * same identity. */
static struct peer_link *pair_of(struct peer_link *in)
{
    struct peer *p = peer_of(in->conn);
    struct peer_link *best = NULL;
    int rank = 0;
    for (struct list *n = p->links.next; n != &p->links; n = n->next) {
        struct peer_link *l = (struct peer_link *)n;
        if (l->kind != &twin_out_kind || l->grant != in->grant || !l->state)
            continue;
        int r = in->pair.n && span_eq(l->pair, in->pair) ? 3 : l->link->session == in->link->session ? 2 : 1;
        if (r >= rank) {
            best = l;
            rank = r;
        }
    }
    return best;
}

/* ---- what is sent ----------------------------------------------------------------------------------- */

struct answer {
    const struct amqp_value *correlation; /* NULL: news */
    int32_t status;
    const char *resource; /* NULL: none */
    bool has_version;
    uint64_t version;
    struct span body; /* empty: none */
};

static bool answer_write(struct wr *w, const struct answer *a)
{
    uint32_t nr = 0;
    amqp_section_begin(w, AMQP_MESSAGE_ANNOTATIONS);
    size_t at = amqp_map_begin(w);
    if (a->correlation) {
        amqp_put_symbol(w, SPAN("status"));
        amqp_put_int(w, a->status);
        nr += 2;
    }
    if (a->resource) {
        amqp_put_symbol(w, SPAN("resource"));
        amqp_put_string(w, span_str(a->resource));
        nr += 2;
    }
    if (a->has_version) {
        amqp_put_symbol(w, SPAN("version"));
        amqp_put_long(w, (int64_t)a->version);
        nr += 2;
    }
    amqp_map_end(w, at, nr);
    struct amqp_properties p = { 0 };
    if (a->correlation) {
        p.correlation_id = *a->correlation;
        amqp_properties_encode(w, &p);
    }
    if (a->body.n) {
        amqp_data_head(w, a->body.n);
        wr_put(w, a->body);
    } else {
        amqp_section_begin(w, AMQP_VALUE);
        amqp_put_null(w);
    }
    return wr_ok(w);
}

static void say(struct peer_link *out, const struct answer *a)
{
    size_t room = 512 + (a->correlation ? a->correlation->bytes.n : 0) + a->body.n;
    uint8_t *mem = malloc(room), tag[16];
    struct wr w = { mem, mem ? room : 0, 0 };
    peer_hub(out->conn)->crypto->random(tag, sizeof tag);
    if (!mem || !answer_write(&w, a) || !link_post(out, wr_span(&w), true, 0, tag))
        peer_refuse(out->conn, CONN_CLOSE_LIMIT, "twin-answers-wait");
    free(mem);
}

static void say_error(struct peer_link *out, const struct amqp_value *correlation, unsigned code,
                      const char *text)
{
    uint8_t body[1024];
    struct wr b = { body, sizeof body, 0 };
    wr_str(&b, "{\"errorCode\":");
    wr_u32(&b, code);
    wr_str(&b, ",\"message\":");
    json_put_string(&b, span_str(text));
    wr_str(&b, "}");
    say(out, &(struct answer){
                 .correlation = correlation, .status = (int32_t)(code / 1000), .body = wr_span(&b) });
}

/* ---- requests --------------------------------------------------------------------------------------- */

struct twin_task {         /* owned by itself */
    struct store_op store; /* first */
    struct peer_link *in;  /* referenced */
    struct amqp_worker *aw;
    struct bus_addr addr;
    size_t cost; /* counted as pending */
    struct hub *hub;
    struct arena a; /* of a read: until the answer has left */
    struct twin_fault fault;
    struct amqp_value correlation;
    struct span identity, body;
    struct twin_note seen;     /* of a read */
    uint64_t reported_version; /* after a patch */
    uint32_t delivery;
    bool settled, is_patch, again;
    uint8_t text[]; /* identity, correlation id, body */
};

static enum err get_run(struct store_tx *tx, struct store_op *self)
{
    struct twin_task *t = (struct twin_task *)(void *)self;
    return twin_device_get(tx, &t->a, t->identity, &t->seen);
}

static enum err patch_run(struct store_tx *tx, struct store_op *self)
{
    struct twin_task *t = (struct twin_task *)(void *)self;
    struct twin_if cond = { 0 };
    return twin_device_report(t->hub, tx, t->identity, t->body, &cond, &t->reported_version, &t->fault);
}

static void answer_task(struct peer_link *out, const struct twin_task *t, enum err e)
{
    struct twin_out *s = out->state;
    if (e == ERR_PROTO) {
        say_error(out, &t->correlation, 400000, t->fault.text);
    } else if (e == ERR_NOTFOUND) {
        say_error(out, &t->correlation, 404001, "there is no such identity any more");
    } else if (e) {
        say_error(out, &t->correlation, 503001, "the hub could not do it: try again");
    } else if (t->is_patch) {
        say(out, &(struct answer){ .correlation = &t->correlation,
                                   .status = 200,
                                   .has_version = true,
                                   .version = t->reported_version });
    } else {
        if (t->seen.version > s->seen)
            s->seen = t->seen.version;
        say(out, &(struct answer){ .correlation = &t->correlation, .status = 200, .body = t->seen.body });
    }
}

static void task_done(struct op *op)
{
    struct twin_task *t = (struct twin_task *)(void *)op;
    struct peer_link *in = t->in, *out = in->link && in->grant ? pair_of(in) : NULL;
    if (out && !t->is_patch && !op->err && !t->again &&
        ((struct twin_out *)out->state)->seen > t->seen.version) {
        t->again = true; /* through the writer: behind the change that was told already */
        store_write(t->hub->store, &t->store);
        return;
    }
    struct conn *c = conn_find(t->aw->w, t->addr);
    t->aw->pending -= t->cost;
    if (c && !conn_is_closing(c)) {
        peer_of(c)->under_way--;
        if (in->link) {
            if (!t->settled)
                link_settle(in, t->delivery, NULL, NULL);
            if (out)
                answer_task(out, t, op->err);
            link_credit(in);
        }
        peer_go_on(c);
        peer_flush(c);
    }
    arena_fini(&t->a);
    link_unref(in);
    free(t);
}

static void task_start(struct peer_link *l, const struct amqp_event *ev, const struct amqp_value *correlation,
                       struct span body, bool is_patch)
{
    struct span id = grant_name(l->grant);
    size_t len = id.n + correlation->bytes.n + body.n;
    struct twin_task *t = malloc(sizeof *t + len);
    if (!t) {
        peer_refuse(l->conn, CONN_CLOSE_INTERNAL, "memory");
        return;
    }
    memset(t, 0, sizeof *t);
    struct wr w = { t->text, len, 0 };
    wr_put(&w, id);
    wr_put(&w, correlation->bytes);
    wr_put(&w, body);
    t->identity = span_of(t->text, id.n);
    t->correlation = *correlation;
    t->correlation.bytes = span_of(t->text + id.n, correlation->bytes.n);
    t->body = span_of(t->text + id.n + correlation->bytes.n, body.n);
    t->in = l;
    link_ref(l);
    t->hub = peer_hub(l->conn);
    t->aw = peer_worker(l->conn);
    t->addr = conn_addr(l->conn);
    /* Credit alone is no limit: what comes settled gives it back at once, and a device may have many links.
     * An answer is about as long as the longest patch. */
    t->cost = sizeof *t + len + (is_patch ? 0 : TWIN_BODY_MAX);
    t->aw->pending += t->cost;
    peer_of(l->conn)->under_way++;
    t->delivery = ev->delivery.id;
    t->settled = ev->delivery.settled;
    t->is_patch = is_patch;
    t->store.run = is_patch ? patch_run : get_run;
    t->store.op.home = worker_mailbox(conn_worker(l->conn));
    t->store.op.done = task_done;
    if (is_patch)
        store_write(t->hub->store, &t->store);
    else
        store_read(t->hub->store, &t->store);
}

static struct span annotation(const struct amqp_message *m, const char *key)
{
    struct amqp_value v;
    return amqp_map_get(&m->message_annotations, span_str(key), &v) && amqp_is_text(&v) ? v.bytes : SPAN_NONE;
}

/* Settles, and answers when there is somebody to answer. code 0: good. */
static void at_once(struct peer_link *l, const struct amqp_event *ev, struct peer_link *out,
                    const struct amqp_value *correlation, unsigned code, const char *text)
{
    if (!ev->delivery.settled)
        link_settle(l, ev->delivery.id, NULL, NULL);
    if (out && code)
        say_error(out, correlation, code, text);
    else if (out)
        say(out, &(struct answer){ .correlation = correlation, .status = 200 });
    link_credit(l);
}

static void on_request(struct peer_link *l, const struct amqp_event *ev)
{
    struct amqp_message m;
    struct span body = SPAN_NONE;
    size_t len = 0;
    bool one = true;
    if (!l->grant || amqp_message_decode(ev->delivery.payload, &m)) {
        if (!ev->delivery.settled)
            link_settle(l, ev->delivery.id, l->grant ? "amqp:decode-error" : "amqp:unauthorized-access",
                        "the request was not taken");
        link_credit(l);
        return;
    }
    struct peer_link *out = pair_of(l);
    const struct amqp_value *id = &m.properties.correlation_id;
    struct span operation = annotation(&m, "operation"), resource = annotation(&m, "resource");
    bool desired = span_ieq(resource, SPAN("/notifications/twin/properties/desired"));
    METRIC_ADD(peer_hub(l->conn), twin_device_requests_total, 1);
    bool reads = span_ieq(operation, SPAN("GET")), writes = span_ieq(operation, SPAN("PATCH"));
    if ((reads || writes) &&
        !peer_throttle(l->conn, reads ? THROTTLE_TWIN_READS : THROTTLE_TWIN_UPDATES, NULL)) {
        at_once(l, ev, out, id, 429001, "twins are asked for faster than this hub is set to answer");
        return;
    }
    if (id->bytes.n > 1024) {
        at_once(l, ev, NULL, id, 0, NULL);
    } else if (span_ieq(operation, SPAN("GET"))) {
        task_start(l, ev, id, SPAN_NONE, false);
    } else if (span_ieq(operation, SPAN("PATCH")) && span_ieq(resource, SPAN("/properties/reported"))) {
        if (map_body(&m, &body, &len, &one) || !one)
            at_once(l, ev, out, id, 400000, "the body has to be one section of JSON");
        else if (len > TWIN_BODY_MAX)
            at_once(l, ev, out, id, 413001, "a patch has at most 131072 bytes");
        else
            task_start(l, ev, id, body, true);
    } else if (desired && (span_ieq(operation, SPAN("PUT")) || span_ieq(operation, SPAN("DELETE")))) {
        if (out)
            ((struct twin_out *)out->state)->subscribed = span_ieq(operation, SPAN("PUT"));
        at_once(l, ev, out, id, 0, NULL);
    } else {
        at_once(l, ev, out, id, 400000, "the operation or the resource is not known");
    }
}

/* ---- desired properties ----------------------------------------------------------------------------- */

static void tell_desired(struct peer_link *l, const struct twin_note *n)
{
    ((struct twin_out *)l->state)->seen = n->version;
    METRIC_ADD(peer_hub(l->conn), twin_notes_total, 1);
    say(l,
        &(struct answer){
            .resource = "/properties/desired", .has_version = true, .version = n->version, .body = n->body });
}

bool twin_note(struct peer_link *l, const struct bus_message *m)
{
    struct twin_out *s = l->state;
    struct twin_note n;
    if (!s || !s->subscribed || !l->link || twin_note_decode(m->bytes, &n))
        return false;
    if (s->seen && n.version <= s->seen)
        return true; /* an answer had it already */
    tell_desired(l, &n);
    return true;
}

/* ---- what was not told ------------------------------------------------------------------------------ */

struct missed_task {         /* owned by itself */
    struct twin_missed read; /* first */
    struct peer_link *l;     /* referenced */
    struct amqp_worker *aw;
    struct bus_addr addr;
    struct hub *hub;
};

static void missed_done(struct op *op)
{
    struct missed_task *t = (struct missed_task *)(void *)op;
    struct conn *c = conn_find(t->aw->w, t->addr);
    struct twin_out *s = c && !conn_is_closing(c) && t->l->link && t->l->grant ? t->l->state : NULL;
    if (s && (s->again || (!op->err && s->seen > t->read.note.version))) {
        s->again = false; /* through the writer: behind the change that was told already */
        store_write(t->hub->store, &t->read.store);
        return;
    }
    if (s) {
        s->reading = false;
        if (op->err && op->err != ERR_NOTFOUND) /* it comes again, and reads its twin */
            peer_close(c, "amqp:internal-error", "desired properties could not be read: connect again");
        else if (!op->err && s->subscribed)
            tell_desired(t->l, &t->read.note);
        peer_flush(c);
    }
    twin_missed_fini(&t->read);
    link_unref(t->l);
    free(t);
}

void twin_missed(struct peer_link *l)
{
    struct twin_out *s = l->state;
    if (!s || !s->subscribed || !l->link || !l->grant)
        return;
    if (s->reading) {
        s->again = true;
        return;
    }
    struct missed_task *t = calloc(1, sizeof *t);
    if (!t) {
        peer_refuse(l->conn, CONN_CLOSE_INTERNAL, "memory");
        return;
    }
    t->l = l;
    link_ref(l);
    t->aw = peer_worker(l->conn);
    t->addr = conn_addr(l->conn);
    t->hub = peer_hub(l->conn);
    twin_missed_init(&t->read, grant_name(l->grant));
    t->read.store.op.home = worker_mailbox(conn_worker(l->conn));
    t->read.store.op.done = missed_done;
    s->reading = true;
    store_read(t->hub->store, &t->read.store);
}

const struct peer_kind twin_in_kind = {
    .name = "twin", .credit = PEER_CREDIT_REQUEST, .of_device = true, .on_message = on_request
};
const struct peer_kind twin_out_kind = {
    .name = "twin-answers", .of_device = true, .on_attached = on_attached, .free_state = free
};
