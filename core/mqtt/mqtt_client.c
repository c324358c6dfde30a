/* core/mqtt/mqtt_client.c - the client engine of mqtt_client.h: requests, answers, keep alive. */
#include "core/mqtt/mqtt_client.h"

#include <assert.h>

#define TIMEOUT_DEFAULT_MS 30000u

void mqtt_client_init(struct mqtt_client *c, const struct mqtt_client_config *cfg)
{
    assert(cfg->inflight_max <= MQTT_CLIENT_INFLIGHT_MAX);
    memset(c, 0, sizeof *c);
    c->cfg = *cfg;
    if (!c->cfg.connect_timeout_ms)
        c->cfg.connect_timeout_ms = TIMEOUT_DEFAULT_MS;
    if (!c->cfg.answer_timeout_ms)
        c->cfg.answer_timeout_ms = TIMEOUT_DEFAULT_MS;
    if (!c->cfg.inflight_max)
        c->cfg.inflight_max = 1;
    c->next_id = 1;
}

/* The encoders write whole packets; one that did not fit is taken back. */
static enum err sent(struct mqtt_client *c, struct wr *out, size_t before, uint64_t now_ms)
{
    if (!wr_ok(out)) {
        out->len = before;
        return ERR_AGAIN;
    }
    c->sent_ms = now_ms;
    return ERR_OK;
}

enum err mqtt_client_connect(struct mqtt_client *c, const struct mqtt_connect *hello, uint64_t now_ms,
                             struct wr *out)
{
    size_t before = out->len;
    mqtt_connect_encode(out, hello);
    enum err e = sent(c, out, before, now_ms);
    if (e)
        return e;
    c->state = MQTT_CLIENT_CONNECTING;
    c->connect_ms = now_ms;
    c->ping_ms = 0;
    c->keep_alive_ms = hello->keep_alive_s * 1000u;
    c->inflight_nr = 0;
    return ERR_OK;
}

bool mqtt_client_is_ready(const struct mqtt_client *c)
{
    return c->state == MQTT_CLIENT_OPEN && c->inflight_nr < c->cfg.inflight_max;
}

static struct mqtt_client_request *request_find(struct mqtt_client *c, uint16_t packet_id)
{
    for (size_t i = 0; i < c->inflight_nr; i++)
        if (c->inflight[i].packet_id == packet_id)
            return &c->inflight[i];
    return NULL;
}

static uint16_t id_choose(struct mqtt_client *c)
{
    while (request_find(c, c->next_id))
        c->next_id = c->next_id == UINT16_MAX ? 1 : (uint16_t)(c->next_id + 1);
    return c->next_id;
}

/* The request with c->next_id has been written: expect its answer. */
static void request_add(struct mqtt_client *c, enum mqtt_type answer, size_t filters_nr, uint64_t now_ms,
                        uint16_t *packet_id)
{
    struct mqtt_client_request *r = &c->inflight[c->inflight_nr++];
    *r = (struct mqtt_client_request){ now_ms, c->next_id, (uint8_t)answer, (uint8_t)filters_nr };
    if (packet_id)
        *packet_id = c->next_id;
    c->next_id = c->next_id == UINT16_MAX ? 1 : (uint16_t)(c->next_id + 1);
}

enum err mqtt_client_subscribe(struct mqtt_client *c, const struct mqtt_filter *f, size_t nr, uint64_t now_ms,
                               struct wr *out, uint16_t *packet_id)
{
    assert(nr && nr <= UINT8_MAX);
    if (!mqtt_client_is_ready(c))
        return ERR_AGAIN;
    size_t before = out->len;
    mqtt_subscribe_encode(out, id_choose(c), f, nr);
    enum err e = sent(c, out, before, now_ms);
    if (!e)
        request_add(c, MQTT_SUBACK, nr, now_ms, packet_id);
    return e;
}

enum err mqtt_client_unsubscribe(struct mqtt_client *c, const struct mqtt_filter *f, size_t nr,
                                 uint64_t now_ms, struct wr *out, uint16_t *packet_id)
{
    if (!mqtt_client_is_ready(c))
        return ERR_AGAIN;
    size_t before = out->len;
    mqtt_unsubscribe_encode(out, id_choose(c), f, nr);
    enum err e = sent(c, out, before, now_ms);
    if (!e)
        request_add(c, MQTT_UNSUBACK, 0, now_ms, packet_id);
    return e;
}

enum err mqtt_client_publish(struct mqtt_client *c, const struct mqtt_publish *m, uint64_t now_ms,
                             struct wr *out, uint16_t *packet_id)
{
    assert(m->qos < 2);
    if (c->state != MQTT_CLIENT_OPEN || (m->qos && !mqtt_client_is_ready(c)))
        return ERR_AGAIN;
    size_t before = out->len;
    struct mqtt_publish named = *m;
    named.packet_id = m->qos ? id_choose(c) : 0;
    mqtt_publish_encode(out, &named);
    enum err e = sent(c, out, before, now_ms);
    if (e)
        return e;
    if (m->qos)
        request_add(c, MQTT_PUBACK, 0, now_ms, packet_id);
    else if (packet_id)
        *packet_id = 0;
    return ERR_OK;
}

enum err mqtt_client_ack(struct mqtt_client *c, uint16_t packet_id, uint64_t now_ms, struct wr *out)
{
    if (c->state != MQTT_CLIENT_OPEN)
        return ERR_AGAIN;
    size_t before = out->len;
    mqtt_id_encode(out, MQTT_PUBACK, packet_id);
    return sent(c, out, before, now_ms);
}

enum err mqtt_client_disconnect(struct mqtt_client *c, struct wr *out)
{
    if (c->state != MQTT_CLIENT_OPEN)
        return ERR_AGAIN;
    size_t before = out->len;
    mqtt_empty_encode(out, MQTT_DISCONNECT);
    enum err e = sent(c, out, before, c->sent_ms);
    if (!e)
        c->state = MQTT_CLIENT_CLOSED;
    return e;
}

/* An answer to one of our requests: takes the request off the list. */
static enum err request_answered(struct mqtt_client *c, uint8_t type, uint16_t packet_id, size_t codes_nr)
{
    struct mqtt_client_request *r = request_find(c, packet_id);
    if (!r || r->type != type || (type == MQTT_SUBACK && codes_nr != r->filters_nr))
        return ERR_PROTO;
    size_t at = (size_t)(r - c->inflight);
    memmove(r, r + 1, (--c->inflight_nr - at) * sizeof *r); /* the oldest stays first */
    return ERR_OK;
}

static enum err on_connack(struct mqtt_client *c, const struct mqtt_packet *p, struct mqtt_client_event *ev)
{
    struct mqtt_connack ack;
    enum err e = mqtt_connack_decode(p, &ack);
    if (e)
        return e;
    c->state = ack.code ? MQTT_CLIENT_CLOSED : MQTT_CLIENT_OPEN;
    ev->kind = ack.code ? MQTT_EV_REFUSED : MQTT_EV_CONNECTED;
    ev->code = ack.code;
    ev->session_present = ack.session_present;
    return ERR_OK;
}

static enum err on_suback(struct mqtt_client *c, const struct mqtt_packet *p, struct mqtt_client_event *ev)
{
    struct mqtt_suback ack;
    enum err e = mqtt_suback_decode(p, &ack);
    if (e)
        return e;
    ev->kind = MQTT_EV_SUBSCRIBED;
    ev->packet_id = ack.packet_id;
    ev->codes = ack.codes;
    return request_answered(c, p->type, ack.packet_id, ack.codes.n);
}

static enum err on_packet(struct mqtt_client *c, const struct mqtt_packet *p, struct mqtt_client_event *ev)
{
    enum err e;
    switch (p->type) {
    case MQTT_PUBLISH:
        ev->kind = MQTT_EV_MESSAGE;
        e = mqtt_publish_decode(p, &ev->message);
        ev->packet_id = e ? 0 : ev->message.packet_id;
        return e ? e : ev->message.qos > 1 ? ERR_PROTO : ERR_OK; /* we never grant QoS 2 */
    case MQTT_PUBACK:
    case MQTT_UNSUBACK:
        ev->kind = p->type == MQTT_PUBACK ? MQTT_EV_PUBLISHED : MQTT_EV_UNSUBSCRIBED;
        e = mqtt_id_decode(p, &ev->packet_id);
        return e ? e : request_answered(c, p->type, ev->packet_id, 0);
    case MQTT_SUBACK:
        return on_suback(c, p, ev);
    case MQTT_PINGRESP:
        ev->kind = MQTT_EV_PONG;
        c->ping_ms = 0;
        return ERR_OK;
    default:
        return ERR_PROTO; /* a second CONNACK, or what only clients send */
    }
}

enum err mqtt_client_next(struct mqtt_client *c, struct span *in, struct mqtt_client_event *ev)
{
    if (c->state == MQTT_CLIENT_IDLE || c->state == MQTT_CLIENT_CLOSED)
        return ERR_AGAIN;
    struct mqtt_packet p;
    size_t used;
    enum err e = mqtt_packet_decode(*in, c->cfg.packet_max, &p, &used);
    if (e)
        return e;
    struct mqtt_client_event got = { 0 };
    if (c->state == MQTT_CLIENT_CONNECTING)
        e = p.type == MQTT_CONNACK ? on_connack(c, &p, &got) : ERR_PROTO; /* [MQTT-3.2.0-1] */
    else
        e = on_packet(c, &p, &got);
    if (e) {
        c->state = MQTT_CLIENT_CLOSED;
        return e;
    }
    *in = span_skip(*in, used);
    *ev = got;
    return ERR_OK;
}

/* When the oldest unanswered thing is overdue. */
static uint64_t overdue_at(const struct mqtt_client *c)
{
    uint64_t at = UINT64_MAX;
    if (c->state == MQTT_CLIENT_CONNECTING)
        return c->connect_ms + c->cfg.connect_timeout_ms;
    if (c->state != MQTT_CLIENT_OPEN)
        return at;
    if (c->inflight_nr)
        at = c->inflight[0].at_ms + c->cfg.answer_timeout_ms;
    if (c->ping_ms && c->ping_ms + c->cfg.answer_timeout_ms < at)
        at = c->ping_ms + c->cfg.answer_timeout_ms;
    return at;
}

static uint64_t ping_at(const struct mqtt_client *c)
{
    if (c->state != MQTT_CLIENT_OPEN || !c->keep_alive_ms || c->ping_ms)
        return UINT64_MAX;
    return c->sent_ms + c->keep_alive_ms;
}

uint64_t mqtt_client_deadline(const struct mqtt_client *c)
{
    uint64_t a = overdue_at(c), b = ping_at(c);
    return a < b ? a : b;
}

enum err mqtt_client_tick(struct mqtt_client *c, uint64_t now_ms, struct wr *out)
{
    if (now_ms >= overdue_at(c)) {
        c->state = MQTT_CLIENT_CLOSED;
        return ERR_STALE;
    }
    if (now_ms < ping_at(c))
        return ERR_OK;
    size_t before = out->len;
    mqtt_empty_encode(out, MQTT_PINGREQ);
    enum err e = sent(c, out, before, now_ms);
    if (!e)
        c->ping_ms = now_ms ? now_ms : 1;
    return e;
}
