/* hub/conn/conn.c - the life of a connection: handshake, the end of each turn, deadlines, closing.
 *
 * Within a turn a connection only takes notes: output queued, closed, more input waiting. What follows from
 * them happens once, at the end of the turn (turn_end), so that a protocol may call anything from anywhere.
 */
#include "hub/conn/conn_impl.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

const char *conn_close_name(enum conn_close why)
{
    static const char *const names[CONN_CLOSE_REASONS] = { "peer", "proto",    "auth",    "timeout",
                                                           "slow", "takeover", "limit",   "tls",
                                                           "done", "stop",     "internal" };
    return names[why];
}

void *conn_state(struct conn *c)
{
    return c->state;
}

const struct conn_proto *conn_get_proto(const struct conn *c)
{
    return conn_service(c)->proto;
}

struct worker *conn_worker(struct conn *c)
{
    return conn_cw(c)->w;
}

struct slab *conn_slab(struct conn *c)
{
    return &conn_cw(c)->slab;
}

struct bus_addr conn_addr(struct conn *c)
{
    return (struct bus_addr){ conn_cw(c)->net->node, (uint16_t)worker_index(conn_cw(c)->w), c->slot,
                              c->generation };
}

struct conn *conn_find(struct worker *w, struct bus_addr a)
{
    struct conn_worker *cw = worker_get_local(w, WORKER_LOCAL_CONN);
    struct conn *c = cw ? conn_slab_at(cw, a.slot) : NULL;
    return c && c->generation == a.generation && c->phase == CONN_PHASE_OPEN ? c : NULL;
}

void conn_on_bus_wake(void *ctx, struct bus_addr to, uint32_t what)
{
    struct conn *c = conn_find(ctx, to);
    if (c && conn_service(c)->proto->on_wake)
        conn_service(c)->proto->on_wake(c, what);
}

bool conn_on_bus_message(void *ctx, struct bus_addr to, const struct bus_message *m)
{
    struct conn *c = conn_find(ctx, to);
    return c && conn_service(c)->proto->on_message && conn_service(c)->proto->on_message(c, m);
}

void *conn_listener_ctx(struct conn *c)
{
    return conn_service(c)->ctx;
}

size_t conn_unsent(const struct conn *c)
{
    return c->out ? c->out->unsent : 0;
}

bool conn_is_closing(const struct conn *c)
{
    return c->phase != CONN_PHASE_OPEN && c->phase != CONN_PHASE_HANDSHAKE;
}

bool conn_is_tls(const struct conn *c)
{
    return c->tls != NULL;
}

bool conn_peer_certificate(struct conn *c, struct span *out)
{
    return c->tls && c->phase != CONN_PHASE_HANDSHAKE && c->tls->ops->peer_certificate(c->tls, out);
}

bool conn_peer_chain(struct conn *c, struct span *out)
{
    return c->tls && c->phase != CONN_PHASE_HANDSHAKE && c->tls->ops->peer_chain(c->tls, out);
}

unsigned conn_max_fragment(const struct conn *c)
{
    return c->tls && c->phase != CONN_PHASE_HANDSHAKE ? c->tls->ops->max_fragment(c->tls) : 0;
}

const char *conn_peer(struct conn *c, char buf[64])
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    char ip[INET6_ADDRSTRLEN] = "?";
    if (c->watch.fd < 0 || getpeername(c->watch.fd, (struct sockaddr *)&ss, &len) < 0) {
        snprintf(buf, 64, "unknown");
    } else if (ss.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&ss;
        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip);
        snprintf(buf, 64, "%s:%u", ip, ntohs(in->sin_port));
    } else if (ss.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)&ss;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
        inet_ntop(mapped ? AF_INET : AF_INET6, in6->sin6_addr.s6_addr + (mapped ? 12 : 0), ip, sizeof ip);
        snprintf(buf, 64, mapped ? "%s:%u" : "[%s]:%u", ip, ntohs(in6->sin6_port));
    } else {
        snprintf(buf, 64, "local");
    }
    return buf;
}

/* ---- notes for the end of the turn ---------------------------------------------------------------- */

void conn_make_dirty(struct conn *c)
{
    struct conn_worker *cw = conn_cw(c);
    if (c->flags & CONN_F_DIRTY)
        return;
    c->flags |= CONN_F_DIRTY;
    c->next = 0;
    if (cw->dirty_last)
        conn_slab_at(cw, cw->dirty_last - 1)->next = c->slot + 1;
    else
        cw->dirty_first = c->slot + 1;
    cw->dirty_last = c->slot + 1;
    if (!cw->flush_queued) {
        cw->flush_queued = true;
        worker_defer(cw->w, &cw->flush);
    }
}

void conn_close(struct conn *c, enum conn_close why)
{
    if (conn_is_closing(c))
        return;
    c->phase = CONN_PHASE_CLOSING;
    c->why = (uint8_t)why & 15u;
    conn_make_dirty(c);
}

void conn_send(struct conn *c, struct span s)
{
    uint8_t head[WS_HEAD_MAX];
    if (c->phase != CONN_PHASE_OPEN || !s.n)
        return;
    if ((c->ws && !out_put(c, span_of(head, ws_head(head, s.n)))) || !out_put(c, s)) {
        conn_close(c, CONN_CLOSE_SLOW);
        return;
    }
    c->flags |= CONN_F_SENT;
    conn_make_dirty(c);
}

void conn_send_file(struct conn *c, int fd, uint64_t offset, uint64_t len)
{
    assert(!c->ws);
    if (c->phase != CONN_PHASE_OPEN || !len || !out_put_file(c, fd, offset, len)) {
        close(fd);
        if (c->phase == CONN_PHASE_OPEN && len)
            conn_close(c, CONN_CLOSE_INTERNAL);
    }
    if (c->phase == CONN_PHASE_OPEN) {
        c->flags |= CONN_F_SENT;
        conn_make_dirty(c);
    }
}

void conn_pause(struct conn *c, bool paused)
{
    if (c->phase != CONN_PHASE_OPEN || paused == !!(c->flags & CONN_F_PAUSED))
        return;
    c->flags ^= CONN_F_PAUSED;
    if (!paused)
        c->flags |= CONN_F_AGAIN;
    conn_make_dirty(c);
}

/* ---- deadlines ------------------------------------------------------------------------------------ */

static void earlier(uint64_t *at, uint64_t other)
{
    if (other && (!*at || other < *at))
        *at = other;
}

/* The timer is only ever moved to an earlier time: when it fires too early, it looks and re-arms. */
void conn_rearm(struct conn *c)
{
    uint64_t at = c->deadline_ms;
    earlier(&at, c->proto_at_ms);
    if (c->out)
        earlier(&at, c->out->deadline_ms);
    if (at && (!timer_is_armed(&c->timer) || at < c->timer.at_ms))
        timer_arm(conn_cw(c)->w, &c->timer, at);
}

void conn_arm(struct conn *c, uint64_t at_ms)
{
    c->proto_at_ms = at_ms;
    conn_rearm(c);
}

void conn_established(struct conn *c)
{
    if (c->phase == CONN_PHASE_OPEN) {
        c->flags |= CONN_F_ESTABLISHED;
        c->deadline_ms = 0;
    }
}

static void die(struct conn *c)
{
    c->phase = CONN_PHASE_DEAD;
    conn_make_dirty(c);
}

static void on_timer(struct timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, timer);
    uint64_t now = conn_now(c);
    if (c->phase == CONN_PHASE_DEAD)
        return;
    if (c->out && c->out->deadline_ms <= now) {
        if (c->phase == CONN_PHASE_LINGER)
            die(c);
        else
            conn_close(c, CONN_CLOSE_SLOW);
    } else if (c->deadline_ms && c->deadline_ms <= now) {
        if (c->phase == CONN_PHASE_LINGER)
            die(c);
        else
            conn_close(c, CONN_CLOSE_TIMEOUT);
    } else if (c->proto_at_ms && c->proto_at_ms <= now && c->phase == CONN_PHASE_OPEN) {
        c->proto_at_ms = 0;
        if (conn_service(c)->proto->on_timer)
            conn_service(c)->proto->on_timer(c);
    }
    /* Also while it lingers: what fired may have been set for the protocol, earlier than the last deadline.
     */
    if (!conn_is_closing(c) || c->phase == CONN_PHASE_LINGER)
        conn_rearm(c);
}

/* ---- events --------------------------------------------------------------------------------------- */

/* What epoll shall tell; it is asked only when that changes. */
void conn_want(struct conn *c)
{
    bool in = false, out = false;
    if (c->phase == CONN_PHASE_HANDSHAKE) {
        out = c->flags & CONN_F_WANT_WRITE;
        in = !out;
    } else if (c->phase == CONN_PHASE_OPEN || c->phase == CONN_PHASE_LINGER) {
        in = !(c->flags & (CONN_F_EOF | (c->phase == CONN_PHASE_OPEN ? CONN_F_PAUSED : 0)));
        out = out_is_waiting(c);
    }
    uint16_t flags = (uint16_t)((in ? CONN_F_IN : 0) | (out ? CONN_F_OUT : 0));
    if ((c->flags & (CONN_F_IN | CONN_F_OUT)) == flags)
        return;
    c->flags = (uint16_t)((c->flags & ~(CONN_F_IN | CONN_F_OUT)) | flags);
    if (worker_rewatch(conn_cw(c)->w, &c->watch, (in ? EPOLLIN : 0u) | (out ? EPOLLOUT : 0u)) != ERR_OK)
        die(c);
}

static void open_proto(struct conn *c)
{
    c->phase = CONN_PHASE_OPEN;
    c->deadline_ms = conn_now(c) + conn_cw(c)->net->limits.first_packet_ms;
    if (conn_service(c)->proto->state_len &&
        !(c->state = slab_get(&conn_cw(c)->slab, conn_service(c)->proto->state_len))) {
        conn_close(c, CONN_CLOSE_INTERNAL);
        return;
    }
    c->flags |= CONN_F_OPENED;
    if (conn_service(c)->proto->on_open)
        conn_service(c)->proto->on_open(c);
    conn_rearm(c);
}

static void shake_hands(struct conn *c)
{
    struct tls_outcome out = { .why = "" };
    enum tls_need need = tls_handshake(&c->tls, &out);
    c->flags =
        (uint16_t)(need == TLS_NEED_WRITE ? c->flags | CONN_F_WANT_WRITE : c->flags & ~CONN_F_WANT_WRITE);
    if (need == TLS_DONE) {
        conn_count(&conn_cw(c)->nr.handshakes, 1);
        if (out.resumed)
            conn_count(&conn_cw(c)->nr.resumed, 1);
        conn_count(&conn_cw(c)->nr.tls_open[c->tls->ops->layer], 1);
        conn_count(&conn_cw(c)->nr.tls_total[c->tls->ops->layer], 1);
        open_proto(c);
        c->flags |= CONN_F_AGAIN; /* its first bytes may have come with the last of the handshake */
        conn_make_dirty(c);
    } else if (need == TLS_CLOSED || need == TLS_FAILED) {
        char peer[64];
        conn_count(&conn_cw(c)->nr.handshake_failed, 1);
        log_debug("conn.tls", "peer=%s why=%s", conn_peer(c, peer), out.why);
        conn_close(c, CONN_CLOSE_TLS);
    } else {
        conn_want(c);
    }
}

static void on_ready(struct watch *f, uint32_t events)
{
    struct conn *c = CONTAINER_OF(f, struct conn, watch);
    switch ((enum conn_phase)c->phase) {
    case CONN_PHASE_HANDSHAKE:
        shake_hands(c);
        break;
    case CONN_PHASE_OPEN:
        if (events & EPOLLIN && !(c->flags & CONN_F_PAUSED))
            conn_read_input(c, false);
        else if (events & (EPOLLERR | EPOLLHUP))
            conn_close(c, CONN_CLOSE_PEER); /* broken both ways: nothing can be read or sent */
        if (events & EPOLLOUT)
            conn_make_dirty(c);
        break;
    case CONN_PHASE_LINGER:
        if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            conn_discard_input(c);
        if (events & EPOLLOUT)
            conn_make_dirty(c);
        break;
    default:
        break;
    }
}

/* ---- the end of a turn ---------------------------------------------------------------------------- */

static uint16_t ws_code(enum conn_close why)
{
    return why == CONN_CLOSE_STOP    ? 1001
           : why == CONN_CLOSE_PROTO ? 1002
           : why == CONN_CLOSE_DONE  ? 1000
                                     : 1008;
}

/* CLOSING to LINGER: the protocol takes its leave. */
static void end_proto(struct conn *c)
{
    enum conn_close why = c->why;
    conn_count(&conn_cw(c)->nr.closed[why], 1);
    if (c->flags & CONN_F_OPENED && conn_service(c)->proto->on_close)
        conn_service(c)->proto->on_close(c, why);
    slab_put(&conn_cw(c)->slab, c->state, conn_service(c)->proto->state_len);
    c->state = NULL;
    conn_drop_rest(c);
    if (c->ws && !ws_is_closed(c->ws) && why != CONN_CLOSE_PEER) {
        uint8_t frame[4];
        out_put(c, span_of(frame, ws_close_frame(frame, ws_code(why))));
    }
    if (why == CONN_CLOSE_SLOW || why == CONN_CLOSE_INTERNAL ||
        (!(c->flags & CONN_F_OPENED) && why != CONN_CLOSE_TLS)) {
        struct linger now = { 1, 0 }; /* the kernel drops its share as well */
        if (why == CONN_CLOSE_SLOW)
            setsockopt(c->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        out_free(c);
        c->flags |= CONN_F_NO_LINGER;
    }
    if (why == CONN_CLOSE_TLS)
        out_free(c); /* data would not go behind the alert */
    if (why == CONN_CLOSE_PEER || why == CONN_CLOSE_TIMEOUT || why == CONN_CLOSE_STOP)
        c->flags |= CONN_F_NO_LINGER;
    c->phase = CONN_PHASE_LINGER;
    c->proto_at_ms = 0;
    c->deadline_ms = conn_now(c) + conn_cw(c)->net->limits.linger_ms;
    conn_rearm(c);
}

static void linger(struct conn *c)
{
    if (c->out)
        return; /* until it has left, or the deadline */
    /* Closing with input unread would reset the connection and take our last words from the peer. */
    bool now = c->flags & (CONN_F_EOF | CONN_F_NO_LINGER);
    if (!(c->flags & CONN_F_SHUT)) {
        if (c->tls && c->flags & CONN_F_OPENED)
            c->tls->ops->bye(c->tls);
        if (!(c->flags & CONN_F_NO_LINGER) && out_is_waiting(c))
            return; /* until it has left, or the deadline */
        c->flags |= CONN_F_SHUT;
        if (!now)
            shutdown(c->watch.fd, SHUT_WR);
    }
    if (now)
        die(c);
}

static void bury(struct conn *c)
{
    struct conn_net *net = conn_cw(c)->net;
    timer_disarm(&c->timer);
    if (c->tls) {
        if (c->tls->ops->layer != TLS_LAYER_AUTO)
            conn_count(&conn_cw(c)->nr.tls_open[c->tls->ops->layer], (uint64_t)-1);
        c->tls->ops->free(c->tls);
    }
    worker_close(conn_cw(c)->w, &c->watch);
    ws_free(c->ws);
    out_free(c);
    conn_drop_rest(c);
    if (c->source)
        source_give_back(net->sources, c->source);
    if (!(c->flags & CONN_F_EXEMPT))
        atomic_fetch_sub(&net->counted, 1);
    atomic_fetch_sub(&net->open, 1);
    conn_count(&conn_cw(c)->nr.open, (uint64_t)-1);
    conn_slab_put(c);
}

static void turn_end(struct conn *c)
{
    if (c->phase == CONN_PHASE_DEAD) {
        bury(c);
        return;
    }
    if (c->phase == CONN_PHASE_OPEN && (c->flags & (CONN_F_AGAIN | CONN_F_PAUSED)) == CONN_F_AGAIN) {
        c->flags &= (uint16_t)~CONN_F_AGAIN;
        conn_read_input(c, true);
    }
    if (c->phase == CONN_PHASE_CLOSING)
        end_proto(c);
    if (out_is_waiting(c)) {
        enum err e = out_flush(c);
        if (e && e != ERR_AGAIN) {
            out_free(c);
            if (c->phase == CONN_PHASE_LINGER)
                c->flags |= CONN_F_NO_LINGER;
            else
                conn_close(c, CONN_CLOSE_PEER);
        }
    }
    if (c->out)
        conn_rearm(c);
    if (!c->out && c->flags & CONN_F_SENT) {
        c->flags &= (uint16_t)~CONN_F_SENT;
        if (c->phase == CONN_PHASE_OPEN && conn_service(c)->proto->on_drained)
            conn_service(c)->proto->on_drained(c); /* what it sends now leaves at the end of the next turn */
    }
    if (c->phase == CONN_PHASE_LINGER)
        linger(c);
    if (c->phase != CONN_PHASE_DEAD)
        conn_want(c);
}

void conn_flush_worker(struct deferred *d)
{
    struct conn_worker *cw = CONTAINER_OF(d, struct conn_worker, flush);
    uint32_t run = cw->dirty_first;
    cw->flush_queued = false;
    cw->dirty_first = cw->dirty_last = 0;
    while (run) { /* those that become dirty again wait for the next turn */
        struct conn *c = conn_slab_at(cw, run - 1);
        run = c->next;
        c->flags &= (uint16_t)~CONN_F_DIRTY;
        turn_end(c);
    }
}

/* ---- beginning, passing on, stopping -------------------------------------------------------------- */

/* False: there are too many. */
static bool serve(struct conn *c, const struct conn_proto *proto, void *ctx)
{
    struct conn_worker *cw = conn_cw(c);
    unsigned i = 0;
    while (i < cw->services_nr && (cw->services[i].proto != proto || cw->services[i].ctx != ctx))
        i++;
    if (i == CONN_SERVICES_MAX) {
        log_error("conn.services", "nr=%u", i);
        return false;
    }
    if (i == cw->services_nr)
        cw->services[cw->services_nr++] = (struct conn_service){ proto, ctx };
    c->service = (uint8_t)i;
    return true;
}

void conn_start(struct conn_worker *cw, int fd, struct source *source, struct tls *tls,
                const struct conn_proto *proto, void *ctx, bool exempt)
{
    struct conn_net *net = cw->net;
    struct conn *c = conn_slab_get(cw);
    if (!c) {
        log_warn("conn.memory", "worker=%u", worker_index(cw->w));
        goto fail;
    }
    c->watch = (struct watch){ fd, on_ready };
    if (!serve(c, proto, ctx) || worker_watch(cw->w, &c->watch, EPOLLIN) != ERR_OK) {
        conn_slab_put(c);
        goto fail;
    }
    c->timer.on_timer = on_timer;
    c->tls = tls;
    c->source = source;
    c->flags = (uint16_t)(CONN_F_IN | (exempt ? CONN_F_EXEMPT : 0));
    atomic_fetch_add(&net->open, 1);
    if (!exempt)
        atomic_fetch_add(&net->counted, 1);
    conn_count(&cw->nr.open, 1);
    conn_count(&cw->nr.accepted, 1);
    if (tls) {
        c->phase = CONN_PHASE_HANDSHAKE;
        c->deadline_ms = worker_now_ms(cw->w) + net->limits.handshake_ms;
        conn_rearm(c);
    } else {
        open_proto(c);
    }
    return;
fail:
    if (tls)
        tls->ops->free(tls);
    if (source)
        source_give_back(net->sources, source);
    close(fd);
}

struct old_state { /* the protocol before may still be on the stack */
    struct list node;
    void *state;
    size_t len;
};

void conn_forget_worker(struct deferred *d)
{
    struct conn_worker *cw = CONTAINER_OF(d, struct conn_worker, forget);
    struct list *n;
    while ((n = list_pop(&cw->old))) {
        struct old_state *o = CONTAINER_OF(n, struct old_state, node);
        slab_put(&cw->slab, o->state, o->len);
        free(o);
    }
}

void conn_switch(struct conn *c, const struct conn_proto *proto, void *listener_ctx, bool websocket)
{
    struct conn_worker *cw = conn_cw(c);
    struct old_state *old = malloc(sizeof *old);
    size_t len = conn_service(c)->proto->state_len;
    if (c->phase != CONN_PHASE_OPEN || !old || (websocket && (!conn_raw_buffer(cw) || ws_new(&c->ws))) ||
        !serve(c, proto, listener_ctx)) {
        free(old);
        conn_close(c, CONN_CLOSE_INTERNAL);
        c->flags &= (uint16_t)~CONN_F_OPENED; /* the old protocol has said goodbye, the new one never came */
        return;
    }
    *old = (struct old_state){ .state = c->state, .len = len };
    if (list_is_empty(&cw->old))
        worker_defer(cw->w, &cw->forget);
    list_push(&cw->old, &old->node);
    c->state = NULL;
    c->proto_at_ms = 0;
    c->flags &= (uint16_t) ~(CONN_F_ESTABLISHED | CONN_F_OPENED | CONN_F_PAUSED);
    c->flags |= CONN_F_SWITCHED | CONN_F_AGAIN;
    conn_make_dirty(c);
    open_proto(c);
}

void conn_stop_worker(struct conn_worker *cw, bool kill)
{
    for (uint32_t slot = 0; slot < cw->slab_nr * CONN_SLAB; slot++) {
        struct conn *c = conn_slab_at(cw, slot);
        if (c->phase == CONN_PHASE_FREE || c->phase == CONN_PHASE_DEAD)
            continue;
        if (c->phase == CONN_PHASE_OPEN && !kill && conn_service(c)->proto->on_stop)
            conn_service(c)->proto->on_stop(c);
        else
            conn_close(c, CONN_CLOSE_STOP);
        if (kill) {
            c->flags |= CONN_F_NO_LINGER;
            if (c->phase == CONN_PHASE_LINGER)
                die(c);
        }
    }
}
