/* hub/front/mqtt/session.c - a device's MQTT session: packets in order, timers, wake-ups, the end. */
#include "hub/front/mqtt/session.h"

#include "base/log.h"
#include "hub/domain/method/method.h"

#include <stdlib.h>

enum err mqtt_front_new(struct mqtt_front **out, struct hub *hub, unsigned workers)
{
    struct mqtt_front *f = calloc(1, sizeof *f + workers * sizeof f->workers[0]);
    if (!f)
        return ERR_NOMEM;
    f->hub = hub;
    f->workers_nr = workers;
    atomic_init(&f->next_rid, hub->wall_ms() << 8 | 1); /* more than 256 calls a millisecond there are not */
    for (unsigned i = 0; i < workers; i++) {
        f->workers[i].front = f;
        list_init(&f->workers[i].holds);
        presence_init(&f->workers[i].presence, hub);
    }
    *out = f;
    return ERR_OK;
}

void mqtt_front_free(struct mqtt_front *f)
{
    if (!f)
        return;
    for (unsigned i = 0; i < f->workers_nr; i++) {
        struct mqtt_worker *mw = &f->workers[i];
        timer_disarm(&mw->presence_timer);
        presence_fini(&mw->presence);
        session_holds_free(mw);
        while (mw->spare) {
            struct spare *next = mw->spare->next;
            free(mw->spare);
            mw->spare = next;
        }
    }
    free(f);
}

/* ---- helpers ---------------------------------------------------------------------------------------- */

struct conn *session_find(struct mqtt_worker *mw, struct bus_addr addr)
{
    struct conn *c = conn_find(mw->w, addr);
    return c && !conn_is_closing(c) ? c : NULL;
}

void session_send(struct conn *c, const struct wr *w)
{
    assert(wr_ok(w));
    conn_send(c, wr_span(w));
}

bool session_log_allowed(struct mqtt_worker *mw)
{
    uint64_t second = worker_now_ms(mw->w) / 1000;
    if (second != mw->log_second) {
        if (mw->log_lines > MQTT_LOG_LINES)
            log_warn("mqtt.quiet", "lines=%u", mw->log_lines - MQTT_LOG_LINES);
        mw->log_second = second;
        mw->log_lines = 0;
    }
    return ++mw->log_lines <= MQTT_LOG_LINES;
}

void session_refuse(struct conn *c, enum conn_close why, const char *what)
{
    struct session *s = session_of(c);
    char peer[64];
    if (why == CONN_CLOSE_PROTO)
        METRIC_ADD(session_hub(c), mqtt_protocol_errors_total, 1);
    if (session_log_allowed(session_worker(c))) {
        struct span id = s->name ? session_identity(s) : SPAN("-");
        log_warn("mqtt.refused", "device=%.*s peer=%s what=%s", (int)id.n, (const char *)id.p,
                 conn_peer(c, peer), what);
    }
    conn_close(c, why);
}

/* Does something hold back the packets of this connection? */
static bool is_blocked(struct conn *c, unsigned window)
{
    const struct session *s = session_of(c);
    if (s->phase == SESSION_LOGIN || (s->flags & SESSION_F_STOPPING) || s->held)
        return true;
    if (session_worker(c)->pending_bytes > MQTT_WORKER_BYTES_MAX && s->replies_nr)
        return true;
    return s->replies_nr >= window;
}

void session_resume(struct conn *c)
{
    struct session *s = session_of(c);
    if ((s->flags & SESSION_F_PAUSED) && !is_blocked(c, MQTT_WINDOW_RESUME)) {
        s->flags &= (uint8_t)~SESSION_F_PAUSED;
        s->rx_ms = (uint32_t)worker_now_ms(conn_worker(c)); /* its silence was ours */
        conn_pause(c, false);
    }
}

/* ---- packets ---------------------------------------------------------------------------------------- */

static void on_puback(struct conn *c, const struct mqtt_packet *p)
{
    uint16_t id;
    if (mqtt_id_decode(p, &id))
        session_refuse(c, CONN_CLOSE_PROTO, "puback");
    else
        session_puback(c, id);
}

static void on_disconnect(struct conn *c)
{
    struct session *s = session_of(c);
    free(s->will); /* a farewell: the will is void [3.14.4-3] */
    s->will = NULL;
    conn_close(c, CONN_CLOSE_DONE);
}

static void on_packet(struct conn *c, const struct mqtt_packet *p)
{
    uint8_t buf[2];
    struct wr w = { buf, sizeof buf, 0 };
    if ((p->type == MQTT_CONNECT) != (session_of(c)->phase == SESSION_NEW)) {
        session_refuse(c, CONN_CLOSE_PROTO, p->type == MQTT_CONNECT ? "second-connect" : "no-connect");
        return;
    }
    switch (p->type) {
    case MQTT_CONNECT:
        session_login(c, p);
        break;
    case MQTT_PUBLISH:
        session_publish(c, p);
        break;
    case MQTT_PUBACK:
        on_puback(c, p);
        break;
    case MQTT_SUBSCRIBE:
        session_subscribe(c, p);
        break;
    case MQTT_UNSUBSCRIBE:
        session_unsubscribe(c, p);
        break;
    case MQTT_PINGREQ:
        mqtt_empty_encode(&w, MQTT_PINGRESP);
        session_send(c, &w);
        break;
    case MQTT_DISCONNECT:
        on_disconnect(c);
        break;
    default: /* QoS 2 and what only a server sends */
        session_refuse(c, CONN_CLOSE_PROTO, mqtt_type_name(p->type));
        break;
    }
}

static size_t body_max(struct conn *c)
{
    size_t largest = session_hub(c)->settings.message_max;
    if (largest < METHOD_PAYLOAD_MAX)
        largest = METHOD_PAYLOAD_MAX;
    largest += MQTT_STRING_MAX + 4u;
    if (session_of(c)->phase == SESSION_NEW)
        return MQTT_CONNECT_BODY_MAX;
    return largest < MQTT_PACKET_BODY_MAX ? largest : MQTT_PACKET_BODY_MAX;
}

static void session_on_bytes(struct conn *c, struct span *in)
{
    struct session *s = session_of(c);
    s->rx_ms = (uint32_t)worker_now_ms(conn_worker(c));
    while (in->n && !conn_is_closing(c)) {
        struct mqtt_packet p;
        size_t used;
        if (is_blocked(c, MQTT_WINDOW)) {
            s->flags |= SESSION_F_PAUSED;
            conn_pause(c, true);
            return;
        }
        enum err e = mqtt_packet_decode(*in, body_max(c), &p, &used);
        if (e == ERR_AGAIN) {
            if (s->phase == SESSION_NEW && in->p[0] >> 4 != MQTT_CONNECT)
                session_refuse(c, CONN_CLOSE_PROTO, "no-connect"); /* why wait for the rest */
            return;
        }
        if (e) {
            session_refuse(c, CONN_CLOSE_PROTO, e == ERR_LIMIT ? "oversized" : "malformed");
            return;
        }
        on_packet(c, &p);
        *in = span_skip(*in, used);
    }
}

/* ---- time ------------------------------------------------------------------------------------------- */

static uint64_t keep_alive_end(const struct session *s, uint64_t now)
{
    uint64_t ms = s->keep_alive_s * 1500ull;
    if (!ms || ms > MQTT_KEEP_ALIVE_CAP_MS)
        ms = MQTT_KEEP_ALIVE_CAP_MS;
    return now - ((uint32_t)now - s->rx_ms) + ms;
}

/* One timer for all: when it fires it looks what is due, and is set to what comes next. */
void session_arm(struct conn *c)
{
    const struct session *s = session_of(c);
    struct worker *w = conn_worker(c);
    uint64_t now = worker_now_ms(w), wall = worker_wall_ms(w);
    uint64_t at = keep_alive_end(s, now), lock = session_lock_end(s, session_hub(c));
    uint64_t end = session_expires_ms(s), left = end > wall ? end - wall : 0;
    if (left < MQTT_KEEP_ALIVE_CAP_MS && now + left < at)
        at = now + left;
    if (lock < at)
        at = lock;
    conn_arm(c, at > now ? at : now + 1);
}

static void session_on_timer(struct conn *c)
{
    struct session *s = session_of(c);
    struct worker *w = conn_worker(c);
    uint64_t now = worker_now_ms(w);
    if (s->phase != SESSION_OPEN)
        return;
    if (s->flags & SESSION_F_PAUSED)
        s->rx_ms = (uint32_t)now; /* we are the ones who do not read */
    if (session_expires_ms(s) <= worker_wall_ms(w)) {
        session_refuse(c, CONN_CLOSE_AUTH, "token-expired");
        return;
    }
    if (keep_alive_end(s, now) <= now) {
        conn_close(c, CONN_CLOSE_TIMEOUT);
        return;
    }
    if (session_lock_end(s, session_hub(c)) <= now)
        session_lock_over(c);
    session_methods_sweep(c);
    if (!conn_is_closing(c))
        session_arm(c);
}

/* ---- wake-ups --------------------------------------------------------------------------------------- */

struct status_task { /* owned by itself */
    struct access_status status;
    struct mqtt_worker *mw;
    struct bus_addr addr;
    uint8_t text[]; /* identity, generation */
};

static void status_done(struct op *op)
{
    struct status_task *t = (struct status_task *)(void *)op;
    struct conn *c = session_find(t->mw, t->addr);
    if (c && op->err == ERR_DENIED) /* the store's own trouble throws nobody out */
        session_refuse(c, CONN_CLOSE_AUTH, "identity-changed");
    free(t);
}

void session_check_identity(struct conn *c)
{
    const struct session *s = session_of(c);
    struct span id = session_identity(s), generation = session_generation(s);
    struct status_task *t = malloc(sizeof *t + id.n + generation.n);
    if (!t)
        return;
    *t = (struct status_task){ .mw = session_worker(c), .addr = conn_addr(c) };
    memcpy(t->text, id.p, id.n);
    if (generation.n)
        memcpy(t->text + id.n, generation.p, generation.n);
    t->status.hub = session_hub(c);
    t->status.identity = span_of(t->text, id.n);
    t->status.generation = span_of(t->text + id.n, generation.n);
    t->status.proof = s->name->proof;
    t->status.store.op.home = worker_mailbox(conn_worker(c));
    t->status.store.op.done = status_done;
    access_status_start(&t->status);
}

static void session_on_wake(struct conn *c, uint32_t what)
{
    struct session *s = session_of(c);
    if (s->phase != SESSION_OPEN || conn_is_closing(c))
        return;
    if (what & BUS_WAKE_TAKEOVER) {
        METRIC_ADD(session_hub(c), mqtt_takeovers_total, 1);
        conn_close(c, CONN_CLOSE_TAKEOVER);
        return;
    }
    bool x509 = s->name->auth == MESSAGE_AUTH_DEVICE_X509 || s->name->auth == MESSAGE_AUTH_MODULE_X509;
    if ((what & BUS_WAKE_IDENTITY) || ((what & BUS_WAKE_AUTHORITY) && x509))
        session_check_identity(c);
    if (what & BUS_WAKE_TWIN)
        session_twin_missed(c);
    if ((what & BUS_WAKE_C2D) && !conn_is_closing(c))
        session_deliver(c);
}

static bool session_on_message(struct conn *c, const struct bus_message *m)
{
    struct session *s = session_of(c);
    if (s->phase != SESSION_OPEN || (s->flags & SESSION_F_STOPPING) ||
        !span_eq(m->identity, session_identity(s)))
        return false;
    switch (m->kind) {
    case BUS_METHOD:
        return session_method(c, m);
    case BUS_TWIN:
        return session_twin_note(c, m);
    default:
        return false;
    }
}

/* ---- the ends --------------------------------------------------------------------------------------- */

static void session_on_open(struct conn *c)
{
    struct mqtt_worker *mw = session_worker(c);
    mw->w = conn_worker(c);
    session_of(c)->rx_ms = (uint32_t)worker_now_ms(mw->w);
}

static void session_on_drained(struct conn *c)
{
    if (session_of(c)->phase == SESSION_OPEN && (session_of(c)->flags & SESSION_F_MORE))
        session_deliver(c);
}

static void session_on_stop(struct conn *c)
{
    struct session *s = session_of(c);
    if (s->phase == SESSION_OPEN && s->replies_nr) { /* the last publishes get their answers */
        s->flags |= SESSION_F_STOPPING;
        return;
    }
    conn_close(c, CONN_CLOSE_STOP);
}

static void on_presence_timer(struct timer *t)
{
    struct mqtt_worker *mw = CONTAINER_OF(t, struct mqtt_worker, presence_timer);
    if (presence_flush(&mw->presence))
        timer_arm(mw->w, t, worker_now_ms(mw->w) + MQTT_PRESENCE_MS);
}

void session_note_presence(struct conn *c)
{
    struct session *s = session_of(c);
    struct mqtt_worker *mw = session_worker(c);
    if (presence_note(&mw->presence, session_identity(s), worker_wall_ms(mw->w))) {
        mw->presence_timer.on_timer = on_presence_timer;
        timer_arm(mw->w, &mw->presence_timer, worker_now_ms(mw->w) + MQTT_PRESENCE_MS);
    }
}

/* A minute of its own begins at another moment for each connection, or the whole fleet would be written at
 * once. Twice the same six bits after an hour of silence costs one minute. */
uint8_t session_minute(struct conn *c)
{
    uint64_t shift = conn_addr(c).slot * 7919ull % ACTIVITY_EVERY_MS;
    return (worker_wall_ms(session_worker(c)->w) + shift) / ACTIVITY_EVERY_MS & 0x3f;
}

void session_note_activity(struct conn *c)
{
    struct session *s = session_of(c);
    uint8_t now = session_minute(c);
    if (s->active == now)
        return;
    s->active = now;
    session_note_presence(c);
}

static void session_on_close(struct conn *c, enum conn_close why)
{
    struct session *s = session_of(c);
    if (s->phase == SESSION_OPEN) {
        bus_detach(session_hub(c)->bus, session_identity(s), conn_addr(c));
        session_methods_close(c);
        session_note_presence(c);
        if (s->will && why != CONN_CLOSE_DONE && why != CONN_CLOSE_STOP)
            session_publish_will(c);
        log_debug("mqtt.closed", "device=%.*s why=%s", (int)s->name->identity_len,
                  (const char *)s->name->text, conn_close_name(why));
    }
    s->phase = SESSION_CLOSED;
    replies_drop(s);
    if (s->name)
        slab_put(conn_slab(c), s->name,
                 offsetof(struct session_name, text) + s->name->identity_len + s->name->generation_len +
                     s->name->model_len);
    free(s->flight);
    free(s->will);
    s->name = NULL;
    s->flight = NULL;
    s->will = NULL;
}

const struct conn_proto mqtt_proto = {
    .name = "mqtt",
    .state_len = sizeof(struct session),
    .on_open = session_on_open,
    .on_bytes = session_on_bytes,
    .in_max = MQTT_PACKET_BODY_MAX + MQTT_HEAD_MAX,
    .on_drained = session_on_drained,
    .on_timer = session_on_timer,
    .on_wake = session_on_wake,
    .on_message = session_on_message,
    .on_close = session_on_close,
    .on_stop = session_on_stop,
};
