/* hub/front/amqp/method.c - direct methods over AMQP: a call goes out on one link, its answer comes in on the
 * other, and the correlation id, a uuid that no call had before, says whose it is. */
#include "hub/domain/method/method.h"

#include "base/text.h"
#include "hub/front/amqp/map.h"
#include "hub/front/amqp/peer.h"

#include <stdlib.h>

#define ID_TEXT 36u

struct call { /* that the device has */
    uint8_t id[16];
    uint64_t until_ms;
    struct bus_reply reply;
};
struct calls { /* state of the link the calls go out on */
    uint32_t nr, cap;
    struct call *list;
};

static void free_state(void *state)
{
    struct calls *s = state;
    if (s)
        free(s->list);
    free(s);
}

static void on_attached(struct peer_link *l)
{
    if (!(l->state = calloc(1, sizeof(struct calls))))
        peer_refuse(l->conn, CONN_CLOSE_INTERNAL, "memory");
}

/* Credit came: it takes calls. */
static void pump(struct peer_link *l)
{
    struct calls *s = l->state;
    if (l->link && l->link->drain && !l->first) /* nothing waits here: calls come when there is credit */
        amqp_drained(l->link, peer_out(l->conn));
    if (!s || !l->link || !l->grant || !l->link->credit)
        return;
    bus_announce(peer_hub(l->conn)->bus, grant_name(l->grant));
}

static void sweep(struct peer_link *l)
{
    struct calls *s = l->state;
    uint64_t now = worker_now_ms(conn_worker(l->conn));
    for (uint32_t i = 0; s && i < s->nr;)
        if (s->list[i].until_ms <= now) /* its caller has gone */
            s->list[i] = s->list[--s->nr];
        else
            i++;
}

static uint64_t deadline(const struct peer_link *l)
{
    const struct calls *s = l->state;
    uint64_t at = UINT64_MAX;
    for (uint32_t i = 0; s && i < s->nr; i++)
        at = s->list[i].until_ms < at ? s->list[i].until_ms : at;
    return at;
}

static void on_gone(struct peer_link *l)
{
    struct calls *s = l->state;
    for (uint32_t i = 0; s && i < s->nr; i++)
        bus_answer(peer_hub(l->conn)->bus, s->list[i].reply, ERR_CLOSED, SPAN_NONE);
    if (s)
        s->nr = 0;
}

static struct call *call_add(struct peer_link *l)
{
    struct calls *s = l->state;
    uint32_t max = peer_hub(l->conn)->settings.methods_in_flight;
    if (s->nr >= max)
        sweep(l);
    if (s->nr >= max)
        return NULL;
    if (s->nr == s->cap) {
        uint32_t cap = s->cap ? 2 * s->cap : 4;
        struct call *p = realloc(s->list, cap * sizeof *p);
        if (!p)
            return NULL;
        s->list = p;
        s->cap = cap;
    }
    return &s->list[s->nr++];
}

bool method_call(struct peer_link *l, const struct bus_message *m)
{
    struct hub *h = peer_hub(l->conn);
    struct method_request q;
    struct calls *s = l->state;
    if (!s || !l->link || !l->link->credit || method_request_parse(m->bytes, &q))
        return false;
    struct call *call = call_add(l);
    size_t room = 256 + 2 * q.name.n + q.payload.n;
    uint8_t *mem = call ? malloc(room) : NULL;
    if (!mem) {
        s->nr -= call != NULL;
        bus_answer(h->bus, m->reply, call ? ERR_NOMEM : ERR_LIMIT, SPAN_NONE);
        return true;
    }
    h->crypto->random(call->id, sizeof call->id);
    call->id[6] = (uint8_t)((call->id[6] & 0x0f) | 0x40); /* version 4: some keep no other as a uuid */
    call->id[8] = (uint8_t)((call->id[8] & 0x3f) | 0x80);
    call->until_ms = worker_now_ms(conn_worker(l->conn)) + q.response_ms;
    call->reply = m->reply;
    struct wr w = { mem, room, 0 };
    struct amqp_properties p = { .correlation_id = { .type = AMQP_UUID,
                                                     .bytes = span_of(call->id, sizeof call->id) } };
    amqp_properties_encode(&w, &p);
    amqp_section_begin(&w, AMQP_APPLICATION_PROPERTIES);
    size_t at = amqp_map_begin(&w);
    amqp_put_string(&w, SPAN("IoThub-methodname"));
    amqp_put_string(&w, q.name);
    amqp_map_end(&w, at, 2);
    amqp_data_head(&w, q.payload.n);
    wr_put(&w, q.payload);
    assert(wr_ok(&w));
    if (!link_post(l, wr_span(&w), false, 0, call->id)) {
        s->nr--;
        bus_answer(h->bus, m->reply, ERR_LIMIT, SPAN_NONE);
    }
    free(mem);
    peer_arm(l->conn);
    return true;
}

/* ---- answers ---------------------------------------------------------------------------------------- */

static bool status_of(const struct amqp_message *m, int32_t *status)
{
    struct amqp_value v;
    int64_t n;
    uint64_t u;
    if (!amqp_map_get(&m->application_properties, SPAN("IoThub-status"), &v))
        return false;
    if (!amqp_get_i64(&v, &n)) {
        if (!amqp_is_text(&v) || u64_parse(v.bytes, INT32_MAX, &u))
            return false;
        n = (int64_t)u;
    }
    *status = (int32_t)n;
    return n >= INT32_MIN && n <= INT32_MAX;
}

/* The call of this identity that has the id; its link in *on. */
static struct call *call_find(struct peer_link *in, const struct amqp_value *id, struct peer_link **on)
{
    struct peer *p = peer_of(in->conn);
    uint8_t want[ID_TEXT], have[ID_TEXT];
    struct wr w = { want, sizeof want, 0 };
    amqp_id_text(&w, id);
    if (w.len != ID_TEXT)
        return NULL;
    for (struct list *n = p->links.next; n != &p->links; n = n->next) {
        struct peer_link *l = (struct peer_link *)n;
        struct calls *s = l->state;
        if (l->kind != &method_out_kind || l->grant != in->grant || !s)
            continue;
        for (uint32_t i = 0; i < s->nr; i++) {
            struct wr t = { have, sizeof have, 0 };
            amqp_id_text(&t, &(struct amqp_value){ .type = AMQP_UUID, .bytes = span_of(s->list[i].id, 16) });
            if (span_ieq(wr_span(&t), wr_span(&w))) {
                *on = l;
                return &s->list[i];
            }
        }
    }
    return NULL;
}

static void answer(struct hub *h, struct bus_reply reply, const struct amqp_message *m)
{
    struct span body;
    size_t len = 0;
    bool one = true;
    int32_t status;
    if (map_body(m, &body, &len, &one) || !one || len > METHOD_PAYLOAD_MAX || !status_of(m, &status)) {
        bus_answer(h->bus, reply, ERR_PROTO, SPAN_NONE);
        return;
    }
    uint8_t *mem = malloc(METHOD_ANSWER_HEAD + len);
    struct wr w = { mem, mem ? METHOD_ANSWER_HEAD + len : 0, 0 };
    if (mem)
        method_answer_encode(&w, status, body);
    bus_answer(h->bus, reply, mem ? ERR_OK : ERR_NOMEM, wr_span(&w));
    free(mem);
}

static void on_answer(struct peer_link *l, const struct amqp_event *ev)
{
    struct amqp_message m;
    struct peer_link *on;
    bool bad = amqp_message_decode(ev->delivery.payload, &m) != ERR_OK;
    struct call *call = bad || !l->grant ? NULL : call_find(l, &m.properties.correlation_id, &on);
    if (call) { /* else it is late, or none of ours: taken, and of no meaning */
        struct bus_reply reply = call->reply;
        struct calls *s = on->state;
        *call = s->list[--s->nr];
        answer(peer_hub(l->conn), reply, &m);
    }
    if (!ev->delivery.settled)
        link_settle(l, ev->delivery.id, bad ? "amqp:decode-error" : NULL, "the answer cannot be read");
    link_credit(l);
}

const struct peer_kind method_out_kind = { .name = "methods",
                                           .of_device = true,
                                           .on_attached = on_attached,
                                           .pump = pump,
                                           .deadline = deadline,
                                           .on_deadline = sweep,
                                           .on_gone = on_gone,
                                           .free_state = free_state };
const struct peer_kind method_in_kind = {
    .name = "method-answers", .credit = PEER_CREDIT_REQUEST, .of_device = true, .on_message = on_answer
};
