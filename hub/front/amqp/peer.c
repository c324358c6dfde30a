/* hub/front/amqp/peer.c - a connection of AMQP: bytes in, events to who they are for, time, wake-ups, the
 * end. */
#include "hub/front/amqp/peer.h"

#include "base/log.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- the front -------------------------------------------------------------------------------------- */

static const char *const mechanisms[] = { "EXTERNAL", "MSSBCBS", "ANONYMOUS", "PLAIN", NULL };

enum err amqp_front_new(struct amqp_front **out, struct hub *hub, unsigned workers)
{
    struct amqp_front *f = calloc(1, sizeof *f + workers * sizeof f->workers[0]);
    uint8_t id[16];
    if (!f)
        return ERR_NOMEM;
    f->hub = hub;
    f->workers_nr = workers;
    pthread_mutex_init(&f->lock, NULL);
    list_init(&f->consumers);
    const char *name = hub->names[0];
    size_t first = strcspn(name, ".");
    snprintf(f->entity_text, sizeof f->entity_text, "%.*s", (int)first, name);
    f->entity = f->entity_text;
    struct wr p = { f->properties, sizeof f->properties, 0 }, c = { f->container, sizeof f->container, 0 };
    size_t at = amqp_map_begin(&p);
    amqp_put_symbol(&p, SPAN("product"));
    amqp_put_string(&p, SPAN("Roost " ROOST_VERSION));
    amqp_map_end(&p, at, 2);
    hub->crypto->random(id, sizeof id);
    wr_str(&c, "DeviceGateway_");
    hex_encode(&c, span_of(id, sizeof id));
    f->cfg = (struct amqp_config){ .server = true,
                                   .container_id = wr_span(&c),
                                   .properties = wr_span(&p),
                                   .frame_max = PEER_FRAME_MAX,
                                   .idle_ms = PEER_IDLE_MS,
                                   .channel_max = 8191,
                                   .handle_max = 262143,
                                   .incoming_window = 5000,
                                   .sessions_max = PEER_SESSIONS_MAX,
                                   .links_max = PEER_LINKS_MAX,
                                   .unsettled_max = PEER_UNSETTLED_MAX,
                                   .delivery_max = PEER_MESSAGE_MAX,
                                   .memory_max = PEER_MEMORY_MAX,
                                   .mechanisms = mechanisms };
    for (unsigned i = 0; i < workers; i++) {
        f->workers[i].front = f;
        presence_init(&f->workers[i].presence, hub);
    }
    *out = f;
    return ERR_OK;
}

void amqp_front_free(struct amqp_front *f)
{
    if (!f)
        return;
    for (unsigned i = 0; i < f->workers_nr; i++) {
        timer_disarm(&f->workers[i].presence_timer);
        presence_fini(&f->workers[i].presence);
        free(f->workers[i].scratch);
    }
    pthread_mutex_destroy(&f->lock);
    free(f);
}

/* ---- helpers ---------------------------------------------------------------------------------------- */

bool peer_log_allowed(struct amqp_worker *aw)
{
    uint64_t second = worker_now_ms(aw->w) / 1000;
    if (second != aw->log_second) {
        if (aw->log_lines > PEER_LOG_LINES)
            log_warn("amqp.quiet", "lines=%u", aw->log_lines - PEER_LOG_LINES);
        aw->log_second = second;
        aw->log_lines = 0;
    }
    return ++aw->log_lines <= PEER_LOG_LINES;
}

static void flush_worker(struct amqp_worker *aw)
{
    assert(wr_ok(&aw->out));
    if (aw->out_conn && aw->out.len)
        conn_send(aw->out_conn, wr_span(&aw->out));
    aw->out.len = 0;
    aw->out_conn = NULL;
}

struct wr *peer_out(struct conn *c)
{
    struct amqp_worker *aw = peer_worker(c);
    if (aw->out_conn != c || aw->out.len > 65536)
        flush_worker(aw);
    aw->out_conn = c;
    return &aw->out;
}

void peer_flush(struct conn *c)
{
    flush_worker(peer_worker(c));
}

/* What was said leaves first. */
void peer_end(struct conn *c, enum conn_close why)
{
    peer_flush(c);
    conn_close(c, why);
}

void peer_refuse(struct conn *c, enum conn_close why, const char *what)
{
    char peer[64];
    if (conn_is_closing(c))
        return;
    if (why == CONN_CLOSE_PROTO || why == CONN_CLOSE_LIMIT)
        METRIC_ADD(peer_hub(c), amqp_protocol_errors_total, 1);
    if (peer_log_allowed(peer_worker(c)))
        log_warn("amqp.refused", "peer=%s what=\"%s\"", conn_peer(c, peer), what);
    peer_end(c, why);
}

struct amqp_error peer_error(struct conn *c, const char *condition, const char *text)
{
    static _Thread_local uint8_t info[96];
    uint8_t id[16], hex[32];
    struct wr h = { hex, sizeof hex, 0 }, w = { info, sizeof info, 0 };
    peer_hub(c)->crypto->random(id, sizeof id);
    hex_encode(&h, span_of(id, sizeof id));
    size_t at = amqp_map_begin(&w);
    amqp_put_symbol(&w, SPAN("com.microsoft:tracking-id"));
    amqp_put_string(&w, wr_span(&h));
    amqp_map_end(&w, at, 2);
    return (struct amqp_error){ span_str(condition), span_str(text), wr_span(&w) };
}

void peer_close(struct conn *c, const char *condition, const char *text)
{
    struct peer *p = peer_of(c);
    struct amqp_error e = peer_error(c, condition, text);
    amqp_close(&p->engine, &e, peer_out(c));
    p->close_at = worker_now_ms(conn_worker(c)) + PEER_STOP_MS; /* the peer may answer */
    peer_arm(c);
}

void peer_proven(struct conn *c)
{
    struct peer *p = peer_of(c);
    if (!p->proven)
        conn_established(c);
    p->proven = true;
}

/* Does something hold back what this peer says? Too much of all peers does only where some of it is its own:
 * the end of that wakes it. */
static bool is_blocked(struct conn *c)
{
    const struct peer *p = peer_of(c);
    return p->busy || p->hold_until > worker_now_ms(conn_worker(c)) ||
           (p->under_way && peer_worker(c)->pending >= PEER_WORKER_PENDING_MAX);
}

void peer_go_on(struct conn *c)
{
    struct peer *p = peer_of(c);
    if (p->paused && !is_blocked(c)) {
        p->paused = false;
        conn_pause(c, false);
    }
}

bool peer_throttle(struct conn *c, enum throttle_class what, const struct grant *g)
{
    struct throttle *t = peer_hub(c)->throttle;
    uint64_t now = worker_now_ms(conn_worker(c));
    if (!t)
        return true;
    struct throttle_verdict v =
        throttle_take(t, what, g && g->policy ? grant_name(g) : SPAN_NONE, 1, now, throttle_patience_ms(t));
    if (v.allowed && v.wait_ms) {
        peer_of(c)->hold_until = now + v.wait_ms;
        peer_arm(c);
    }
    return v.allowed;
}

/* ---- memory of the engines -------------------------------------------------------------------------- */

static void *engine_get(void *ctx, size_t n)
{
    struct amqp_worker *aw = ctx;
    void *p = n <= PEER_WORKER_MEMORY_MAX - aw->memory ? malloc(n) : NULL;
    aw->memory += p ? n : 0;
    return p;
}
static void engine_put(void *ctx, void *p, size_t n)
{
    struct amqp_worker *aw = ctx;
    aw->memory -= n;
    free(p);
}

/* ---- events ----------------------------------------------------------------------------------------- */

static void on_message(const struct amqp_event *ev)
{
    struct peer_link *l = ev->link->user;
    if (l && l->kind && l->kind->on_message)
        l->kind->on_message(l, ev);
    else if (l && !ev->delivery.settled)
        link_settle(l, ev->delivery.id, "amqp:not-allowed", "nothing is taken on this link");
}

static void pump_session(struct peer *p, const struct amqp_session *s)
{
    for (struct list *n = p->links.next, *next; n != &p->links; n = next) {
        struct peer_link *l = (struct peer_link *)n;
        next = n->next;
        if (s && l->link->session != s)
            continue;
        link_pump(l);
        if (l->kind && l->kind->pump)
            l->kind->pump(l);
    }
}

static void on_event(struct conn *c, const struct amqp_event *ev)
{
    struct peer *p = peer_of(c);
    struct peer_link *l = ev->link ? ev->link->user : NULL;
    switch (ev->kind) {
    case AMQP_EV_SASL_INIT:
        login_sasl(c, &ev->sasl);
        break;
    case AMQP_EV_ATTACH:
        link_attach(c, ev);
        break;
    case AMQP_EV_FLOW:
        if (!ev->link) {
            pump_session(p, ev->session);
        } else if (l) {
            link_pump(l);
            if (l->kind && l->kind->pump)
                l->kind->pump(l);
        }
        break;
    case AMQP_EV_DELIVERY:
        on_message(ev);
        break;
    case AMQP_EV_SETTLED:
        if (l && l->kind && l->kind->on_settled)
            l->kind->on_settled(l, ev);
        else if (!ev->sent.settled)
            amqp_answer(ev->session, ev->sent.id, &(struct amqp_state){ .outcome = AMQP_ACCEPTED },
                        peer_out(c));
        break;
    case AMQP_EV_DETACH:
        link_gone(ev->link);
        break;
    case AMQP_EV_CLOSE:
        if (!conn_is_closing(c))
            peer_end(c, CONN_CLOSE_DONE);
        break;
    default:
        break;
    }
}

/* Takes what there is. */
static void run(struct conn *c, struct span *in)
{
    struct peer *p = peer_of(c);
    struct amqp_event ev;
    enum err e = ERR_OK;
    while (!conn_is_closing(c)) {
        if (is_blocked(c)) {
            p->paused = true;
            conn_pause(c, true);
            break;
        }
        e = amqp_next(&p->engine, in, &ev, peer_out(c));
        if (e)
            break;
        on_event(c, &ev);
    }
    if (e && e != ERR_AGAIN && !conn_is_closing(c))
        peer_refuse(c, CONN_CLOSE_PROTO, p->engine.error ? p->engine.error : err_name(e));
}

static void peer_on_bytes(struct conn *c, struct span *in)
{
    struct peer *p = peer_of(c);
    size_t before = in->n;
    amqp_seen(&p->engine, worker_now_ms(conn_worker(c)));
    run(c, in);
    if (!p->proven) {
        p->early_bytes += (uint32_t)(before - in->n);
        if (p->early_bytes > PEER_EARLY_BYTES_MAX)
            peer_refuse(c, CONN_CLOSE_LIMIT, "too much before a login");
    }
    peer_flush(c);
    if (!conn_is_closing(c))
        peer_arm(c);
}

/* ---- time ------------------------------------------------------------------------------------------- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void peer_arm(struct conn *c)
{
    struct peer *p = peer_of(c);
    uint64_t at = earlier(amqp_deadline(&p->engine), grants_deadline(c)), now = worker_now_ms(conn_worker(c));
    if (p->close_at)
        at = earlier(at, p->close_at);
    if (p->hold_until)
        at = earlier(at, p->hold_until);
    for (struct list *n = p->links.next; n != &p->links; n = n->next) {
        const struct peer_link *l = (struct peer_link *)n;
        if (l->detach_at)
            at = earlier(at, l->detach_at);
        if (l->kind && l->kind->deadline)
            at = earlier(at, l->kind->deadline(l));
    }
    conn_arm(c, at == UINT64_MAX ? 0 : at > now ? at : now + 1);
}

static void peer_on_timer(struct conn *c)
{
    struct peer *p = peer_of(c);
    uint64_t now = worker_now_ms(conn_worker(c));
    if (p->paused || p->busy || p->hold_until)
        amqp_seen(&p->engine, now); /* we are the ones who do not read */
    if (p->close_at && p->close_at <= now && (p->engine.close_sent || !p->grants_nr)) {
        if (p->engine.close_sent) {
            peer_end(c, CONN_CLOSE_AUTH);
            return;
        }
        peer_close(c, "amqp:connection:forced", "nobody is left that this connection could act for");
    }
    enum err e = amqp_tick(&p->engine, now, peer_out(c));
    if (e == ERR_STALE) {
        peer_end(c, CONN_CLOSE_TIMEOUT);
        return;
    }
    for (struct list *n = p->links.next, *next; n != &p->links; n = next) {
        struct peer_link *l = (struct peer_link *)n;
        next = n->next;
        if (l->detach_at && l->detach_at <= now)
            link_detach(l, l->condition, l->text ? l->text : "");
        else if (l->kind && l->kind->deadline && l->kind->deadline(l) <= now)
            l->kind->on_deadline(l);
    }
    grants_sweep(c);
    if (p->hold_until && p->hold_until <= now) {
        p->hold_until = 0;
        peer_go_on(c);
    }
    peer_flush(c);
    if (!conn_is_closing(c))
        peer_arm(c);
}

/* ---- wake-ups --------------------------------------------------------------------------------------- */

static void on_takeover(struct conn *c, struct grant *g)
{
    METRIC_ADD(peer_hub(c), amqp_takeovers_total, 1);
    grant_drop(c, g, "com.microsoft:link-creation-conflict",
               "409002 LinkCreationConflict: the same identity has connected again");
}

static void peer_on_wake(struct conn *c, uint32_t what)
{
    struct peer *p = peer_of(c);
    struct bus *bus = peer_hub(c)->bus;
    if (conn_is_closing(c))
        return;
    for (struct list *n = p->grants.next, *next; n != &p->grants; n = next) {
        struct grant *g = (struct grant *)n;
        next = n->next;
        if (g->policy || !g->links_nr)
            continue;
        if ((what & BUS_WAKE_TAKEOVER) && !bus_is_at(bus, grant_name(g), conn_addr(c)))
            on_takeover(c, g);
        else if ((what & BUS_WAKE_IDENTITY) || ((what & BUS_WAKE_AUTHORITY) && grant_is_x509(g)))
            grant_check(c, g);
    }
    for (struct list *n = p->links.next, *next; n != &p->links && !conn_is_closing(c); n = next) {
        struct peer_link *l = (struct peer_link *)n;
        next = n->next;
        if ((what & BUS_WAKE_C2D) && l->kind == &c2d_kind)
            l->kind->pump(l);
        if ((what & BUS_WAKE_TWIN) && l->kind == &twin_out_kind)
            twin_missed(l);
    }
    peer_flush(c);
    peer_arm(c);
}

static bool peer_on_message(struct conn *c, const struct bus_message *m)
{
    struct peer *p = peer_of(c);
    bool taken = false;
    if (conn_is_closing(c))
        return false;
    for (struct list *n = p->links.next, *next; n != &p->links; n = next) {
        struct peer_link *l = (struct peer_link *)n;
        next = n->next;
        if (!l->grant || !span_eq(grant_name(l->grant), m->identity))
            continue;
        if (m->kind == BUS_METHOD && l->kind == &method_out_kind && !taken)
            taken = method_call(l, m);
        else if (m->kind == BUS_TWIN && l->kind == &twin_out_kind)
            taken = twin_note(l, m) || taken;
    }
    peer_flush(c);
    return taken;
}

/* ---- the ends --------------------------------------------------------------------------------------- */

static void peer_on_open(struct conn *c)
{
    struct peer *p = peer_of(c);
    struct amqp_worker *aw = peer_worker(c);
    struct amqp_mem mem = { engine_get, engine_put, aw };
    aw->w = conn_worker(c);
    list_init(&p->grants);
    list_init(&p->links);
    amqp_conn_init(&p->engine, &peer_front(c)->cfg, &mem, worker_now_ms(aw->w));
    if (!aw->scratch) {
        aw->scratch = malloc(PEER_OUT);
        aw->out = (struct wr){ aw->scratch, aw->scratch ? PEER_OUT : 0, 0 };
    }
    if (!aw->scratch)
        peer_end(c, CONN_CLOSE_INTERNAL);
}

static void peer_on_drained(struct conn *c)
{
    if (conn_is_closing(c))
        return;
    pump_session(peer_of(c), NULL);
    peer_flush(c);
}

static void peer_on_stop(struct conn *c)
{
    struct peer *p = peer_of(c);
    if (!p->engine.open_sent) {
        peer_end(c, CONN_CLOSE_STOP);
        return;
    }
    peer_close(c, "amqp:connection:forced", "the hub is being restarted");
    peer_flush(c);
}

static void peer_on_close(struct conn *c, enum conn_close why)
{
    struct peer *p = peer_of(c);
    struct amqp_worker *aw = peer_worker(c);
    struct span none = SPAN_NONE;
    uint8_t room[AMQP_ROOM];
    struct wr nowhere = { room, 0, 0 };
    struct amqp_event ev;
    if (aw->out_conn == c)
        flush_worker(aw);
    amqp_lost(&p->engine);
    while (amqp_next(&p->engine, &none, &ev, &nowhere) == ERR_OK)
        if (ev.kind == AMQP_EV_DETACH)
            link_gone(ev.link);
    while (!list_is_empty(&p->grants))
        grant_free((struct grant *)list_pop(&p->grants));
    amqp_conn_fini(&p->engine);
    log_debug("amqp.closed", "why=%s", conn_close_name(why));
}

const struct conn_proto amqp_proto = {
    .name = "amqp",
    .state_len = sizeof(struct peer),
    .on_open = peer_on_open,
    .on_bytes = peer_on_bytes,
    .in_max = PEER_FRAME_MAX + 64,
    .on_drained = peer_on_drained,
    .on_timer = peer_on_timer,
    .on_wake = peer_on_wake,
    .on_message = peer_on_message,
    .on_close = peer_on_close,
    .on_stop = peer_on_stop,
};
