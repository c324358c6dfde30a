/* hub/front/mqtt/method.c - direct methods on a session: a call out, its answer in. The request id is a
 * number that no connection of this hub has used before, so a late answer, or one that a device repeats after
 * a reconnect, belongs to nothing and is ignored. */
#include "hub/front/mqtt/session.h"

#include "base/text.h"
#include "hub/domain/method/method.h"

#include <stdlib.h>

struct method_out { /* a call that the device has */
    uint64_t rid, until_ms;
    struct bus_reply reply;
};
struct methods {
    uint32_t nr, cap;
    struct method_out out[]; /* oldest first */
};

static void drop(struct methods *m, uint32_t i)
{
    m->nr--;
    memmove(&m->out[i], &m->out[i + 1], (m->nr - i) * sizeof m->out[0]);
}

void session_methods_sweep(struct conn *c)
{
    struct session *s = session_of(c);
    uint64_t now = worker_now_ms(conn_worker(c));
    struct methods *m = s->methods;
    for (uint32_t i = 0; m && i < m->nr;)
        if (m->out[i].until_ms <= now) /* its caller has gone */
            drop(m, i);
        else
            i++;
    if (m && !m->nr) {
        free(m);
        s->methods = NULL;
    }
}

/* Room for one more. */
static enum err reserve(struct conn *c)
{
    struct session *s = session_of(c);
    uint32_t max = session_hub(c)->settings.methods_in_flight, nr = s->methods ? s->methods->nr : 0;
    if (s->methods && nr == s->methods->cap)
        session_methods_sweep(c);
    nr = s->methods ? s->methods->nr : 0;
    if (nr >= max)
        return ERR_LIMIT;
    if (s->methods && nr < s->methods->cap)
        return ERR_OK;
    uint32_t cap = nr ? nr * 2 : 2;
    if (cap > max)
        cap = max;
    struct methods *m = realloc(s->methods, sizeof *m + cap * sizeof m->out[0]);
    if (!m)
        return ERR_NOMEM;
    m->nr = nr;
    m->cap = cap;
    s->methods = m;
    return ERR_OK;
}

static void rid_encode(struct wr *w, uint64_t rid)
{
    static const char digits[] = "0123456789abcdef";
    unsigned shift = 60;
    while (shift && !(rid >> shift))
        shift -= 4;
    for (;; shift -= 4) {
        wr_u8(w, (uint8_t)digits[rid >> shift & 15]);
        if (!shift)
            return;
    }
}

/* As written above, of either case; 0: no id of ours. */
static uint64_t rid_decode(struct span text)
{
    uint64_t v = 0;
    if (!text.n || text.n > 16)
        return 0;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i], d;
        if (c >= '0' && c <= '9')
            d = (uint8_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            d = (uint8_t)((c | 32) - 'a' + 10);
        else
            return 0;
        v = v << 4 | d;
    }
    return v;
}

bool session_method(struct conn *c, const struct bus_message *msg)
{
    struct session *s = session_of(c);
    struct hub *h = session_hub(c);
    struct mqtt_front *f = conn_listener_ctx(c);
    struct method_request q;
    uint8_t rid_text[16], topic[64 + METHOD_NAME_MAX], head[sizeof topic + MQTT_HEAD_MAX + 4];
    struct wr rw = { rid_text, sizeof rid_text, 0 }, tw = { topic, sizeof topic, 0 },
              hw = { head, sizeof head, 0 };
    if (channels_qos(s->channels, CHANNEL_METHODS) < 0 || s->methods_new)
        return false;
    enum err e = method_request_parse(msg->bytes, &q);
    if (!e)
        e = conn_unsent(c) > MQTT_UNSENT_MAX ? ERR_LIMIT : reserve(c);
    if (e) {
        bus_answer(h->bus, msg->reply, e == ERR_PROTO ? ERR_NOTFOUND : e, SPAN_NONE);
        return true;
    }
    uint64_t rid = atomic_fetch_add_explicit(&f->next_rid, 1, memory_order_relaxed);
    s->methods->out[s->methods->nr++] =
        (struct method_out){ rid, worker_now_ms(conn_worker(c)) + q.response_ms, msg->reply };
    rid_encode(&rw, rid);
    topic_method_encode(&tw, q.name, wr_span(&rw));
    struct mqtt_publish m = { .topic = wr_span(&tw), .payload = q.payload };
    mqtt_publish_head_encode(&hw, &m);
    session_send(c, &hw);
    conn_send(c, q.payload);
    return true;
}

void session_method_result(struct conn *c, const struct topic *t, struct span body)
{
    struct hub *h = session_hub(c);
    struct methods *m = session_of(c)->methods;
    uint8_t id[48], small[1024];
    struct wr w = { id, sizeof id, 0 };
    uint32_t i = 0;
    percent_decode(&w, t->rid);
    uint64_t rid = rid_decode(wr_span(&w));
    while (m && i < m->nr && m->out[i].rid != rid)
        i++;
    if (!m || i == m->nr)
        return; /* late, or none of ours */
    struct bus_reply reply = m->out[i].reply;
    drop(m, i);
    if (body.n > METHOD_PAYLOAD_MAX) {
        bus_answer(h->bus, reply, ERR_PROTO, SPAN_NONE);
        return;
    }
    size_t n = METHOD_ANSWER_HEAD + body.n;
    uint8_t *mem = n <= sizeof small ? small : malloc(n);
    struct wr aw = { mem, mem ? n : 0, 0 };
    if (mem)
        method_answer_encode(&aw, t->status, body);
    bus_answer(h->bus, reply, mem ? ERR_OK : ERR_NOMEM, wr_span(&aw));
    if (mem != small)
        free(mem);
}

void session_methods_close(struct conn *c)
{
    struct session *s = session_of(c);
    struct methods *m = s->methods;
    for (uint32_t i = 0; m && i < m->nr; i++)
        bus_answer(session_hub(c)->bus, m->out[i].reply, ERR_CLOSED, SPAN_NONE);
    free(m);
    s->methods = NULL;
}
