/* hub/conn/http_pull.c - bodies that a handler takes in pieces, so that a large one needs no more memory than
 * a piece; and what is left of one when the answer did not wait for it. */
#include "hub/conn/http_impl.h"

enum { SKIP_MAX = 8 << 20 }; /* of a body nobody wants: read it and keep the connection, or close */

static void hand_over(struct conn *c, struct http_exchange *ex, bool end)
{
    ex->step = HTTP_STEP_HANDLER;
    ex->r.body = span_of(ex->body, ex->body_len);
    ex->r.body_end = end;
    conn_arm(c, 0); /* the handler's own time-outs hold now */
    ex->on_piece(&ex->r);
}

bool http_pull(struct conn *c, struct http_exchange *ex, struct span *in)
{
    struct http_state *s = c->state;
    struct span piece;
    for (;;) {
        enum err e = http_body_next(&ex->framing, in, &piece);
        if (e == ERR_AGAIN)
            return false;
        if (e == ERR_STOPPED) {
            hand_over(c, ex, true);
            return true;
        }
        if (e || piece.n > ex->r.route->body_max - ex->pulled_len) {
            *in = SPAN_NONE;
            conn_close(c, e ? CONN_CLOSE_PROTO : CONN_CLOSE_LIMIT);
            return true;
        }
        ex->pulled_len += piece.n;
        if (!http_keep_piece(c, ex, piece))
            return true;
        s->body_deadline_ms += http_body_ms(c, piece.n);
        conn_arm(c, s->body_deadline_ms);
        if (ex->body_len >= HTTP_PIECE) {
            hand_over(c, ex, false);
            return true;
        }
    }
}

void http_read(struct http_req *r, void (*fn)(struct http_req *r))
{
    struct http_exchange *ex = (struct http_exchange *)(void *)r;
    struct conn *c = r->conn;
    struct span none = SPAN_NONE;
    assert(ex->pulled && ex->step == HTTP_STEP_HANDLER && !r->body_end);
    ex->on_piece = fn;
    ex->body_len = 0;
    r->body = SPAN_NONE;
    if (!c || conn_is_closing(c)) {
        r->conn = NULL;
        fn(r);
        return;
    }
    struct http_state *s = c->state;
    if (ex->head.wants_continue && !ex->continued && ex->framing.kind != HTTP_BODY_NONE)
        conn_send(c, SPAN("HTTP/1.1 100 Continue\r\n\r\n"));
    ex->continued = true;
    ex->step = HTTP_STEP_PULL;
    s->body_deadline_ms = conn_now(c) + http_body_ms(c, 0);
    conn_arm(c, s->body_deadline_ms);
    if (http_pull(c, ex, &none)) /* there is nothing more to come */
        return;
    if (s->eof && !conn_rest_len(c) && !s->in_loop) {
        conn_close(c, CONN_CLOSE_PEER);
        return;
    }
    conn_pause(c, false);
    if (!s->in_loop && conn_rest_len(c)) { /* some of it is here already */
        c->flags |= CONN_F_AGAIN;
        conn_make_dirty(c);
    }
}

void http_pull_lost(struct http_exchange *ex)
{
    ex->step = HTTP_STEP_HANDLER;
    ex->r.body = SPAN_NONE;
    ex->on_piece(&ex->r);
}

void http_pull_left(struct http_exchange *ex)
{
    struct http_state *s = ex->r.conn->state;
    bool waits = ex->head.wants_continue && !ex->continued; /* it may send the body, or not */
    if (ex->framing.kind == HTTP_BODY_NONE || (ex->framing.kind == HTTP_BODY_LENGTH && !ex->framing.left))
        return;
    if (waits || ex->framing.kind != HTTP_BODY_LENGTH || ex->framing.left > SKIP_MAX) {
        ex->keep_alive = false;
        return;
    }
    s->skip = ex->framing;
    s->skipping = true;
}

bool http_skip(struct conn *c, struct span *in)
{
    struct http_state *s = c->state;
    struct span piece;
    enum err e;
    do
        e = http_body_next(&s->skip, in, &piece);
    while (!e);
    s->skipping = e == ERR_AGAIN;
    return e == ERR_STOPPED;
}
