/* hub/conn/conn_in.c - input on its way to the protocol: read, taken out of TLS and WebSocket frames, handed
 * over with what was kept before; what the protocol leaves is kept again. */
#include "hub/conn/conn_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

void conn_drop_rest(struct conn *c)
{
    free(c->rest);
    c->rest = NULL;
}

/* Keeps what the protocol has not taken. `in` lies in c->rest->data or in the worker's buffer. */
static void keep(struct conn *c, struct span in)
{
    if (c->phase != CONN_PHASE_OPEN || !in.n) {
        conn_drop_rest(c);
        return;
    }
    if (in.n > conn_service(c)->proto->in_max && !(c->flags & CONN_F_PAUSED)) {
        conn_close(c, CONN_CLOSE_PROTO);
        return;
    }
    struct rest *r = c->rest;
    if (r && in.p >= r->data && in.p < r->data + r->cap) {
        memmove(r->data, in.p, in.n);
    } else {
        if (!r || r->cap < in.n || r->cap / 4 > in.n) {
            conn_drop_rest(c);
            if (!(r = c->rest = malloc(sizeof *r + in.n))) {
                conn_close(c, CONN_CLOSE_INTERNAL);
                return;
            }
            r->cap = (uint32_t)in.n;
        }
        memcpy(r->data, in.p, in.n);
    }
    r->len = (uint32_t)in.n;
}

/* Where new input goes: behind what was kept. A small rest moves to the worker's buffer, so that a connection
 * owns just its rest; a large one grows in place, so that it is not copied again and again. NULL: no memory.
 */
static uint8_t *place_input(struct conn *c, size_t *room)
{
    struct rest *r = c->rest;
    if (!r || r->len <= CONN_KEEP_SMALL) {
        uint8_t *in = conn_cw(c)->in;
        if (r)
            memcpy(in, r->data, r->len);
        *room = CONN_READ_MAX;
        return in;
    }
    uint32_t least = c->tls ? TLS_READ_MIN : CONN_KEEP_SMALL;
    if (r->cap - r->len < least) {
        uint32_t cap = r->len * 2 + least;
        r = realloc(r, sizeof *r + cap);
        if (!r)
            return NULL;
        c->rest = r;
        r->cap = cap;
    }
    *room = r->cap - r->len < CONN_READ_MAX ? r->cap - r->len : CONN_READ_MAX;
    return r->data;
}

static void put_frame(void *ctx, struct span frame)
{
    struct conn *c = ctx;
    if (!out_put(c, frame))
        conn_close(c, CONN_CLOSE_SLOW);
    else
        conn_make_dirty(c);
}

/* Turns n bytes of cw->raw into stream bytes at `to`. Returns how many; a WebSocket that ends closes *why. */
static size_t unframe(struct conn *c, size_t n, uint8_t *to, enum conn_close *why)
{
    struct wr w = { to, n, 0 };
    switch (ws_decode(c->ws, span_of(conn_cw(c)->raw, n), &w, put_frame, c)) {
    case ERR_OK:
        break;
    case ERR_STOPPED:
        *why = CONN_CLOSE_PEER;
        break;
    case ERR_NOMEM:
        *why = CONN_CLOSE_INTERNAL;
        break;
    default:
        *why = CONN_CLOSE_PROTO;
        break;
    }
    return w.len;
}

bool conn_raw_buffer(struct conn_worker *cw)
{
    return cw->raw || (cw->raw = malloc(CONN_RAW_MAX));
}

/* Hands `have` kept and n new bytes at `base` to the protocol; if that passes the connection on, the rest
 * goes to its successor. */
static void deliver(struct conn *c, uint8_t *base, size_t have, size_t n, enum conn_close end)
{
    struct span in = span_of(base, have + n);
    c->flags &= (uint16_t)~CONN_F_SWITCHED;
    conn_service(c)->proto->on_bytes(c, &in);
    while (c->phase == CONN_PHASE_OPEN && c->flags & CONN_F_SWITCHED) {
        c->flags &= (uint16_t)~CONN_F_SWITCHED;
        if (c->ws && in.n) {
            if (in.n > CONN_RAW_MAX) {
                conn_close(c, CONN_CLOSE_PROTO);
                break;
            }
            memcpy(conn_cw(c)->raw, in.p, in.n);
            in = span_of(conn_cw(c)->in, unframe(c, in.n, conn_cw(c)->in, &end));
        }
        if (in.n && c->phase == CONN_PHASE_OPEN)
            conn_service(c)->proto->on_bytes(c, &in);
    }
    keep(c, in);
    if (end != CONN_CLOSE_REASONS)
        conn_close(c, end);
}

static void on_eof(struct conn *c)
{
    c->flags |= CONN_F_EOF;
    if (c->phase != CONN_PHASE_OPEN)
        return;
    if (conn_service(c)->proto->on_eof && !c->ws)
        conn_service(c)->proto->on_eof(c);
    else
        conn_close(c, CONN_CLOSE_PEER);
    conn_make_dirty(c);
}

/* One read of the socket. Returns the bytes; *eof and *broken say what else came. */
static size_t take(struct conn *c, uint8_t *to, size_t room, bool *eof, bool *broken)
{
    size_t total = 0;
    if (!c->tls) {
        ssize_t n = recv(c->watch.fd, to, room, MSG_DONTWAIT);
        *eof = n == 0;
        *broken = n < 0 && errno != EAGAIN && errno != EINTR;
        return n > 0 ? (size_t)n : 0;
    }
    while (total < room) {
        size_t n = 0;
        enum tls_need need = c->tls->ops->read(c->tls, to + total, room - total, &n);
        total += n;
        *eof = need == TLS_CLOSED;
        *broken = need == TLS_FAILED;
        if (need != TLS_DONE || !c->tls->ops->has_more(c->tls))
            return total;
    }
    c->flags |= CONN_F_AGAIN; /* epoll does not see what lies in the TLS layer */
    conn_make_dirty(c);
    return total;
}

/* force: hand over what was kept even if nothing came. */
void conn_read_input(struct conn *c, bool force)
{
    size_t room, have = conn_rest_len(c);
    bool eof = false, broken = false;
    enum conn_close end = CONN_CLOSE_REASONS; /* goes on */
    if (c->flags & CONN_F_SWITCHED && c->ws && have) {
        /* Passed on outside on_bytes: what was kept are frames. */
        have = have < CONN_RAW_MAX ? have : CONN_RAW_MAX;
        memcpy(conn_cw(c)->raw, c->rest->data, have);
        conn_drop_rest(c);
        deliver(c, conn_cw(c)->in, 0, unframe(c, have, conn_cw(c)->in, &end), end);
        return;
    }
    uint8_t *base = place_input(c, &room);
    if (!base) {
        conn_close(c, CONN_CLOSE_INTERNAL);
        return;
    }
    size_t n =
        c->flags & CONN_F_EOF ? 0 : take(c, c->ws ? conn_cw(c)->raw : base + have, room, &eof, &broken);
    if (n) {
        conn_count(&conn_cw(c)->nr.bytes_in, n);
        if (c->ws)
            n = unframe(c, n, base + have, &end);
    }
    if (n || (force && have))
        deliver(c, base, have, n, end);
    else if (end != CONN_CLOSE_REASONS)
        conn_close(c, end);
    if (!(c->flags & CONN_F_OUT) && out_is_waiting(c))
        conn_make_dirty(c); /* the answer to a KeyUpdate */
    if (broken)
        conn_close(c, c->tls ? CONN_CLOSE_TLS : CONN_CLOSE_PEER);
    else if (eof)
        on_eof(c);
}

/* The protocol is gone: what still comes is thrown away, until the peer has seen our end. */
void conn_discard_input(struct conn *c)
{
    for (int i = 0; i < 4; i++) {
        ssize_t n = recv(c->watch.fd, conn_cw(c)->in, CONN_READ_MAX, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            c->flags |= CONN_F_EOF;
            conn_make_dirty(c);
            return;
        }
        if (n < CONN_READ_MAX)
            return;
    }
}
