/* hub/conn/http_conn.c - requests as they come: one after the other, each read whole before its handler sees
 * it, the next one taken when the answer to the one before is on its way. */
#include "hub/conn/http_impl.h"

#include "base/text.h"
#include "core/ws/ws.h"

#include <openssl/evp.h>
#include <stdlib.h>

enum {
    PIPELINE_MAX = 16384, /* input kept behind a request that is being answered; then reading stops */
    DISCARD_MAX = 65536,  /* of a body nobody wants: read it and keep the connection, or close */
    UNSENT_MARK = 65536,  /* with more than this unsent, the next request waits */
    BODY_BYTES_A_MS = 4   /* what a body must bring after its first body_ms */
};

/* Bytes of request bodies held on this worker. */
static _Thread_local size_t bodies_len;
static _Thread_local uint64_t next_id;

static const struct http_limits defaults = { 120000, 30000, 60000, 64u << 20 };

static uint32_t or_default(uint32_t v, uint32_t value)
{
    return v ? v : value;
}

const struct http_limits *http_limits_of(struct conn *c)
{
    const struct http_routes *t = conn_listener_ctx(c);
    return t->limits ? t->limits : &defaults;
}

uint64_t http_body_ms(struct conn *c, size_t len)
{
    return len ? len / BODY_BYTES_A_MS : or_default(http_limits_of(c)->body_ms, defaults.body_ms);
}

uint8_t *http_memory(struct http_exchange *ex, size_t n)
{
    struct http_chunk *k = malloc(sizeof *k + n + 1);
    if (!k)
        return NULL;
    k->next = ex->chunks;
    ex->chunks = k;
    return k->data;
}

void http_exchange_free(struct http_exchange *ex)
{
    if (!ex)
        return;
    http_head_fini(&ex->head);
    bodies_len -= ex->body_cap;
    free(ex->body);
    free(ex->scratch);
    while (ex->chunks) {
        struct http_chunk *k = ex->chunks;
        ex->chunks = k->next;
        free(k);
    }
    free(ex);
}

struct span http_field(const struct http_req *r, const char *name)
{
    const struct http_exchange *ex = (const struct http_exchange *)(const void *)r;
    struct span v = SPAN_NONE;
    size_t at = 0;
    return http_head_field(&ex->head, span_str(name), &at, &v) ? v : SPAN_NONE;
}

bool http_field_next(const struct http_req *r, size_t *at, struct span *name, struct span *value)
{
    const struct http_head *h = &((const struct http_exchange *)(const void *)r)->head;
    if (*at >= h->field_nr)
        return false;
    const struct http_field_at *f = &h->fields[(*at)++];
    *name = span_of(h->text + f->name, f->name_len);
    *value = span_of(h->text + f->value, f->value_len);
    return true;
}

bool http_query(struct http_req *r, const char *name, struct span *out)
{
    struct http_exchange *ex = (struct http_exchange *)(void *)r;
    struct span raw;
    if (!http_query_find(r->query, span_str(name), &raw))
        return false;
    if (!raw.n || !memchr(raw.p, '%', raw.n)) {
        *out = raw;
        return true;
    }
    struct wr w = { http_memory(ex, raw.n), raw.n, 0 };
    if (!w.p)
        return false;
    percent_decode(&w, raw);
    *out = wr_span(&w);
    return true;
}

/* ---- taking requests ------------------------------------------------------------------------------ */

static struct http_exchange *exchange_new(struct conn *c)
{
    struct http_exchange *ex = calloc(1, sizeof *ex);
    if (!ex)
        return NULL;
    http_head_init(&ex->head);
    ex->routes = conn_listener_ctx(c);
    ex->r.conn = c;
    ex->r.worker = conn_cw(c)->w;
    ex->r.ctx = ex->routes->ctx;
    ex->r.id = ++next_id;
    return ex;
}

/* Answers now and ends the connection: what follows in the stream cannot be trusted or is not wanted. */
static void refuse_and_close(struct http_exchange *ex, unsigned status, const char *code, const char *message)
{
    ex->keep_alive = false;
    ex->step = HTTP_STEP_HANDLER;
    http_error(&ex->r, status, code, message, NULL);
}

static void refuse_head(struct http_exchange *ex)
{
    static const struct {
        unsigned status;
        const char *code, *message;
    } texts[] = {
        { 400, "bad-request", "The request is malformed." },
        { 414, "target-too-long", "The request target is longer than 8 KiB." },
        { 417, "expectation-failed", "The only expectation known here is 100-continue." },
        { 431, "head-too-large", "The request head is larger than 16 KiB or has more than 64 fields." },
        { 501, "not-implemented", "This method or transfer coding is not known here." },
        { 503, "no-memory", "The hub is out of memory; try again later." },
        { 505, "version-not-supported", "HTTP/1.1 and HTTP/1.0 are spoken here." },
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].status == ex->head.refuse) {
            refuse_and_close(ex, texts[i].status, texts[i].code, texts[i].message);
            return;
        }
    refuse_and_close(ex, 400, texts[0].code, texts[0].message);
}

static unsigned method_of(const struct http_head *h)
{
    switch (h->parser.method) {
    case HTTP_GET:
        return HTTP_GET_;
    case HTTP_HEAD:
        return HTTP_HEAD_;
    case HTTP_POST:
        return HTTP_POST_;
    case HTTP_PUT:
        return HTTP_PUT_;
    case HTTP_PATCH:
        return HTTP_PATCH_;
    case HTTP_DELETE:
        return HTTP_DELETE_;
    default:
        return 0; /* a method no route has */
    }
}

static void sha1(struct span s, uint8_t out[20])
{
    unsigned len = 20;
    EVP_Digest(s.p, s.n, out, &len, EVP_sha1(), NULL);
}

static void try_upgrade(struct http_exchange *ex)
{
    uint8_t accept[WS_ACCEPT_LEN];
    struct conn *c = ex->r.conn;
    ex->step = HTTP_STEP_HANDLER;
    if (ex->framing.kind != HTTP_BODY_NONE ||
        ws_accept(http_field(&ex->r, "Sec-WebSocket-Key"), sha1, accept) != ERR_OK) {
        refuse_and_close(ex, 400, "bad-websocket", "The WebSocket handshake is malformed.");
        return;
    }
    if (!span_eq(http_field(&ex->r, "Sec-WebSocket-Version"), SPAN("13"))) {
        http_error(&ex->r, 426, "websocket-version", "WebSocket version 13 is spoken here.",
                   "Sec-WebSocket-Version: 13\r\n");
        return;
    }
    for (const struct http_routes *t = conn_listener_ctx(c); t; t = t->next) {
        ex->routes = t;
        ex->r.ctx = t->ctx;
        if (t->on_upgrade && t->on_upgrade(&ex->r))
            return;
    }
    ex->routes = conn_listener_ctx(c);
    ex->r.ctx = ex->routes->ctx;
    http_error(&ex->r, 404, "not-found", "No WebSocket is served at this path.", NULL);
}

void http_websocket_accept(struct http_req *r, struct span subprotocol, const struct conn_proto *proto,
                           void *listener_ctx)
{
    struct http_exchange *ex = (struct http_exchange *)(void *)r;
    struct conn *c = r->conn;
    uint8_t buf[512];
    struct wr w = { buf, sizeof buf, 0 };
    assert(c && ex->step == HTTP_STEP_HANDLER);
    if (ws_response_encode(&w, http_field(r, "Sec-WebSocket-Key"), subprotocol, sha1) != ERR_OK ||
        !wr_ok(&w)) {
        refuse_and_close(ex, 400, "bad-websocket", "The WebSocket handshake is malformed.");
        return;
    }
    struct http_state *s = c->state;
    s->ex = NULL;
    conn_send(c, wr_span(&w));
    http_exchange_free(ex);
    conn_switch(c, proto, listener_ctx, true);
}

static void dispatch(struct conn *c, struct http_exchange *ex);

/* The head is complete: where does it lead, and may its body come? False: answered already. */
static bool begin_body(struct conn *c, struct http_exchange *ex)
{
    struct http_state *s = c->state;
    struct http_req *r = &ex->r;
    struct http_match m;
    r->target = http_head_target(&ex->head);
    r->method = method_of(&ex->head);
    ex->keep_alive = ex->head.keep_alive && !s->last;
    ex->no_answer_body = r->method == HTTP_HEAD_;
    http_body_init(&ex->framing, &ex->head);
    if (http_target_split(r->target, &r->path, &r->query) != ERR_OK) {
        refuse_and_close(ex, 400, "bad-target", "The request target is neither a path nor an http URL.");
        return false;
    }
    if (ex->head.wants_upgrade && r->method == HTTP_GET_) {
        try_upgrade(ex);
        return false;
    }
    if (!(ex->scratch = malloc(r->path.n + 1))) {
        refuse_and_close(ex, 503, "no-memory", "The hub is out of memory; try again later.");
        return false;
    }
    http_route_find(conn_listener_ctx(c), r->method, r->path, ex->scratch, &m);
    if (m.routes && m.routes->method_override && r->method == HTTP_POST_ &&
        span_ieq(http_field(r, "X-HTTP-Method-Override"), SPAN("PATCH"))) {
        r->method = HTTP_PATCH_;
        http_route_find(conn_listener_ctx(c), r->method, r->path, ex->scratch, &m);
    }
    if (m.routes) {
        ex->routes = m.routes;
        r->ctx = m.routes->ctx;
    }
    r->route = m.route;
    memcpy(r->params, m.params, sizeof m.params);
    ex->body_max = m.route ? m.route->body_max : DISCARD_MAX;
    if (!m.route) {
        ex->refuse = m.allowed ? 405 : 404;
        ex->refuse_code = m.allowed ? "method-not-allowed" : "not-found";
        ex->refuse_message =
            m.allowed ? "This path is served, but not with this method." : "There is no such path.";
    }
    if (ex->framing.kind == HTTP_BODY_LENGTH && ex->framing.left > ex->body_max) {
        if (m.route)
            refuse_and_close(ex, 413, "body-too-large", "The request body is larger than this path accepts.");
        else
            refuse_and_close(ex, ex->refuse, ex->refuse_code, ex->refuse_message);
        return false;
    }
    if (m.route && (m.route->methods & HTTP_PULLED)) {
        ex->pulled = true;
        dispatch(c, ex);
        return false;
    }
    ex->step = HTTP_STEP_BODY;
    if (ex->framing.kind != HTTP_BODY_NONE) {
        if (ex->head.wants_continue && !ex->refuse)
            conn_send(c, SPAN("HTTP/1.1 100 Continue\r\n\r\n"));
        if (ex->head.wants_continue && ex->refuse) { /* it waits for our word: nothing was sent yet */
            refuse_and_close(ex, ex->refuse, ex->refuse_code, ex->refuse_message);
            return false;
        }
        s->body_deadline_ms = conn_now(c) + http_body_ms(c, 0);
        conn_arm(c, s->body_deadline_ms);
    }
    return true;
}

/* False: refused and answered. */
bool http_keep_piece(struct conn *c, struct http_exchange *ex, struct span piece)
{
    const struct http_limits *l = http_limits_of(c);
    if (piece.n > ex->body_max - ex->body_len) {
        if (ex->refuse)
            refuse_and_close(ex, ex->refuse, ex->refuse_code, ex->refuse_message);
        else
            refuse_and_close(ex, 413, "body-too-large", "The request body is larger than this path accepts.");
        return false;
    }
    if (ex->refuse) {
        ex->body_len += piece.n; /* counted, not kept */
        return true;
    }
    if (ex->body_len + piece.n > ex->body_cap) {
        /* A length that is announced is not believed beyond what has come: memory follows the bytes. */
        size_t cap = ex->body_cap ? ex->body_cap * 2 : 1024;
        while (cap < ex->body_len + piece.n)
            cap *= 2;
        if (cap > ex->body_max)
            cap = ex->body_max;
        size_t more = cap - ex->body_cap;
        size_t bodies_max = l->bodies_max ? l->bodies_max : defaults.bodies_max;
        uint8_t *p = more <= bodies_max && bodies_len <= bodies_max - more ? realloc(ex->body, cap) : NULL;
        if (!p && ex->pulled) {
            conn_close(c, CONN_CLOSE_LIMIT); /* on_close tells the handler */
            return false;
        }
        if (!p) {
            refuse_and_close(ex, 503, "busy", "Too many request bodies at once; try again later.");
            return false;
        }
        bodies_len += more;
        ex->body = p;
        ex->body_cap = cap;
    }
    memcpy(ex->body + ex->body_len, piece.p, piece.n);
    ex->body_len += piece.n;
    return true;
}

static void allow_text(unsigned methods, char *out, size_t cap)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = { { HTTP_GET_, "GET" }, { HTTP_HEAD_, "HEAD" },   { HTTP_POST_, "POST" },
                  { HTTP_PUT_, "PUT" }, { HTTP_PATCH_, "PATCH" }, { HTTP_DELETE_, "DELETE" } };
    struct wr w = { (uint8_t *)out, cap - 1, 0 };
    wr_str(&w, "Allow: ");
    size_t start = w.len;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (methods & names[i].bit) {
            wr_str(&w, w.len > start ? ", " : "");
            wr_str(&w, names[i].name);
        }
    wr_str(&w, "\r\n");
    out[wr_span(&w).n] = 0;
}

static void dispatch(struct conn *c, struct http_exchange *ex)
{
    struct http_req *r = &ex->r;
    ex->step = HTTP_STEP_HANDLER;
    conn_arm(c, 0); /* the handler's own time-outs hold now */
    if (ex->refuse) {
        char allow[80] = "";
        struct http_match m;
        http_route_find(conn_listener_ctx(c), 0, r->path, ex->scratch, &m);
        if (ex->refuse == 405)
            allow_text(m.allowed, allow, sizeof allow);
        http_error(r, ex->refuse, ex->refuse_code, ex->refuse_message, allow[0] ? allow : NULL);
        return;
    }
    r->body = span_of(ex->body, ex->body_len);
    r->route->handler(r);
}

/* Feeds the request being read. False: wait, for more bytes or for the answer. */
static bool step(struct conn *c, struct http_exchange *ex, struct span *in)
{
    struct http_state *s = c->state;
    struct span piece;
    if (ex->step == HTTP_STEP_PULL)
        return http_pull(c, ex, in);
    if (ex->step == HTTP_STEP_HEAD) {
        enum err e = http_head_feed(&ex->head, in);
        if (e == ERR_AGAIN)
            return false;
        if (e) {
            *in = SPAN_NONE;
            ex->no_answer_body = method_of(&ex->head) == HTTP_HEAD_;
            refuse_head(ex);
            return true;
        }
        if (!begin_body(c, ex))
            return true;
    }
    for (;;) {
        enum err e = http_body_next(&ex->framing, in, &piece);
        if (e == ERR_AGAIN)
            return false;
        if (e == ERR_STOPPED) {
            dispatch(c, ex);
            return true;
        }
        if (e) {
            *in = SPAN_NONE;
            refuse_and_close(ex, 400, "bad-body", "The chunked body is malformed.");
            return true;
        }
        if (!http_keep_piece(c, ex, piece))
            return true;
        s->body_deadline_ms += http_body_ms(c, piece.n);
        conn_arm(c, s->body_deadline_ms);
    }
}

static void on_bytes(struct conn *c, struct span *in)
{
    struct http_state *s = c->state;
    s->in_loop = true;
    while (in->n && !conn_is_closing(c)) {
        if (s->skipping && !http_skip(c, in))
            break;
        if (s->wait_drain || (s->ex && s->ex->step >= HTTP_STEP_HANDLER)) {
            if (in->n > PIPELINE_MAX)
                conn_pause(c, true);
            break;
        }
        if (!s->ex) {
            if (!(s->ex = exchange_new(c))) {
                conn_close(c, CONN_CLOSE_INTERNAL);
                break;
            }
            conn_arm(c, conn_now(c) + or_default(http_limits_of(c)->head_ms, defaults.head_ms));
        }
        if (!step(c, s->ex, in))
            break;
        if (conn_get_proto(c) != &http_proto)
            return; /* upgraded: s belongs to the past */
    }
    s->in_loop = false;
    if (s->eof && !s->wait_drain && !conn_is_closing(c) && (!s->ex || s->ex->step < HTTP_STEP_HANDLER))
        conn_close(c, CONN_CLOSE_PEER);
}

void http_finished(struct http_exchange *ex)
{
    struct conn *c = ex->r.conn;
    if (!c) {
        http_exchange_free(ex);
        return;
    }
    struct http_state *s = c->state;
    bool keep = ex->keep_alive && !s->last;
    s->ex = NULL;
    http_exchange_free(ex);
    if (conn_is_closing(c))
        return;
    if (!keep || (s->eof && !conn_rest_len(c) && !s->in_loop)) {
        conn_close(c, CONN_CLOSE_DONE);
        return;
    }
    s->wait_drain = conn_unsent(c) > UNSENT_MARK || (c->out && c->out->last && c->out->last->fd >= 0);
    conn_arm(c, conn_now(c) + or_default(http_limits_of(c)->idle_ms, defaults.idle_ms));
    conn_pause(c, false);
    if (!s->in_loop && conn_rest_len(c)) { /* the next request is here already */
        c->flags |= CONN_F_AGAIN;
        conn_make_dirty(c);
    }
}

/* ---- the connection ------------------------------------------------------------------------------- */

static void on_open(struct conn *c)
{
    conn_established(c); /* from here on HTTP has deadlines of its own */
    conn_arm(c, conn_now(c) + or_default(http_limits_of(c)->head_ms, defaults.head_ms));
}

static void on_timer(struct conn *c)
{
    struct http_state *s = c->state;
    if (!s->ex) {
        if (!s->wait_drain)
            conn_close(c, CONN_CLOSE_TIMEOUT); /* idle for long enough */
    } else if (s->ex->step == HTTP_STEP_PULL) {
        conn_close(c, CONN_CLOSE_TIMEOUT);
    } else if (s->ex->step < HTTP_STEP_HANDLER) {
        refuse_and_close(s->ex, 408, "timeout", "The request did not arrive in time.");
    }
}

static void on_drained(struct conn *c)
{
    struct http_state *s = c->state;
    if (s->ex && s->ex->step == HTTP_STEP_STREAM) {
        void (*fn)(struct http_req *) = s->ex->on_room;
        s->ex->on_room = NULL;
        if (fn)
            fn(&s->ex->r);
    } else if (s->wait_drain) {
        s->wait_drain = false;
        conn_arm(c,
                 conn_now(c) + or_default(http_limits_of(c)->idle_ms, defaults.idle_ms)); /* idle from here */
        if (s->eof && !conn_rest_len(c))
            conn_close(c, CONN_CLOSE_DONE);
        conn_pause(c, false);
        c->flags |= CONN_F_AGAIN;
        conn_make_dirty(c);
    }
}

static void on_eof(struct conn *c)
{
    struct http_state *s = c->state;
    s->eof = true;
    if ((c->flags & CONN_F_AGAIN) && conn_rest_len(c)) /* what came before it is looked at first */
        return;
    /* Half closed: it still wants the answer it asked for. A stream has no such end: the peer is gone. */
    if ((!s->ex || s->ex->step != HTTP_STEP_HANDLER) && !s->wait_drain)
        conn_close(c, CONN_CLOSE_PEER);
}

static void on_stop(struct conn *c)
{
    struct http_state *s = c->state;
    s->last = true;
    if (s->ex && s->ex->step < HTTP_STEP_STREAM)
        s->ex->keep_alive = false; /* this one is still answered */
    else
        conn_close(c, CONN_CLOSE_STOP);
}

static void on_close(struct conn *c, enum conn_close why)
{
    struct http_state *s = c->state;
    struct http_exchange *ex = s->ex;
    (void)why;
    if (!ex)
        return;
    s->ex = NULL;
    ex->r.conn = NULL;
    if (ex->step == HTTP_STEP_PULL) {
        http_pull_lost(ex);
    } else if (ex->step < HTTP_STEP_HANDLER) {
        http_exchange_free(ex);
    } else if (ex->step == HTTP_STEP_STREAM && ex->r.on_gone) {
        ex->r.on_gone(&ex->r);
    } /* else the handler's answer will find nobody and free it */
}

const struct conn_proto http_proto = {
    .name = "http",
    .state_len = sizeof(struct http_state),
    .on_open = on_open,
    .on_bytes = on_bytes,
    .in_max = PIPELINE_MAX,
    .on_drained = on_drained,
    .on_timer = on_timer,
    .on_close = on_close,
    .on_eof = on_eof,
    .on_stop = on_stop,
};
