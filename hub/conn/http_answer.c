/* hub/conn/http_answer.c - the answers of http_conn.h: heads, bodies, files, chunked streams. */
#include "hub/conn/http_impl.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct http_exchange *exchange_of(struct http_req *r)
{
    return (struct http_exchange *)(void *)r;
}

static const char *reason_of(unsigned status)
{
    switch (status) {
#define X(num, name, text)                                                                                   \
    case num:                                                                                                \
        return #text;
        HTTP_STATUS_MAP(X)
#undef X
    default:
        return "Unknown";
    }
}

static void put_date(struct wr *w, uint64_t wall_ms)
{
    static _Thread_local time_t made_for;
    static _Thread_local char text[48];
    time_t now = (time_t)(wall_ms / 1000);
    if (now != made_for) {
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(text, sizeof text, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        made_for = now;
    }
    wr_str(w, text);
}

static bool has_body(unsigned status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* len < 0: of unknown length. */
static void put_head(struct wr *w, struct http_exchange *ex, unsigned status, const char *content_type,
                     int64_t len, const char *fields)
{
    char line[96];
    snprintf(line, sizeof line, "HTTP/1.1 %u %s\r\n", status, reason_of(status));
    wr_str(w, line);
    put_date(w, worker_wall_ms(ex->r.worker));
    if (content_type && has_body(status)) {
        wr_str(w, "Content-Type: ");
        wr_str(w, content_type);
        wr_str(w, "\r\n");
    }
    if (len >= 0 && has_body(status)) {
        snprintf(line, sizeof line, "Content-Length: %lld\r\n", (long long)len);
        wr_str(w, line);
    }
    if (ex->chunked_answer)
        wr_str(w, "Transfer-Encoding: chunked\r\n");
    if (!ex->keep_alive)
        wr_str(w, "Connection: close\r\n");
    else if (ex->head.parser.http_minor == 0)
        wr_str(w, "Connection: keep-alive\r\n");
    if (fields)
        wr_str(w, fields);
    if (ex->more_fields)
        wr_str(w, ex->more_fields);
    wr_str(w, "\r\n");
}

/* Measures, then writes: heads have no fixed room. False: no memory; the connection is closed then. */
static bool send_head(struct http_exchange *ex, unsigned status, const char *content_type, int64_t len,
                      const char *fields)
{
    uint8_t buf[1024], *big = NULL;
    struct conn *c = ex->r.conn;
    struct http_state *s = c->state;
    if (ex->pulled && !ex->r.body_end)
        http_pull_left(ex); /* the head has to say it when the connection ends with this answer */
    if (s->last)
        ex->keep_alive = false;
    struct wr w = { buf, sizeof buf, 0 };
    put_head(&w, ex, status, content_type, len, fields);
    if (!wr_ok(&w)) {
        size_t cap = w.len;
        if (!(big = malloc(cap))) {
            conn_close(c, CONN_CLOSE_INTERNAL);
            return false;
        }
        w = (struct wr){ big, cap, 0 };
        put_head(&w, ex, status, content_type, len, fields);
    }
    conn_send(c, wr_span(&w));
    free(big);
    return true;
}

static struct conn *alive(const struct http_exchange *ex)
{
    return ex->r.conn && !conn_is_closing(ex->r.conn) ? ex->r.conn : NULL;
}

void http_answer(struct http_req *r, unsigned status, const char *content_type, struct span body,
                 const char *fields)
{
    struct http_exchange *ex = exchange_of(r);
    struct conn *c = alive(ex);
    assert(ex->step == HTTP_STEP_HANDLER);
    if (c && send_head(ex, status, content_type, (int64_t)body.n, fields) && !ex->no_answer_body &&
        has_body(status))
        conn_send(c, body);
    http_finished(ex);
}

static void put_json_text(struct wr *w, const char *z)
{
    wr_u8(w, '"');
    for (; *z; z++) {
        if (*z == '"' || *z == '\\')
            wr_u8(w, '\\');
        wr_u8(w, (unsigned char)*z < 0x20 ? ' ' : (uint8_t)*z);
    }
    wr_u8(w, '"');
}

void http_error(struct http_req *r, unsigned status, const char *code, const char *message,
                const char *fields)
{
    struct http_exchange *ex = exchange_of(r);
    uint8_t buf[1024];
    struct wr w = { buf, sizeof buf, 0 };
    if (ex->routes->on_error) {
        ex->more_fields = fields; /* that function does not know them */
        ex->routes->on_error(r, status, code, message);
        return;
    }
    wr_str(&w, "{\"error\":{\"code\":");
    put_json_text(&w, code);
    wr_str(&w, ",\"message\":");
    put_json_text(&w, message);
    wr_str(&w, "}}");
    http_answer(r, status, "application/json; charset=utf-8", wr_span(&w), fields);
}

void http_answer_file(struct http_req *r, unsigned status, const char *content_type, int fd, uint64_t offset,
                      uint64_t len, const char *fields)
{
    struct http_exchange *ex = exchange_of(r);
    struct conn *c = alive(ex);
    assert(ex->step == HTTP_STEP_HANDLER);
    if (c && send_head(ex, status, content_type, (int64_t)len, fields) && !ex->no_answer_body &&
        has_body(status))
        conn_send_file(c, fd, offset, len);
    else
        close(fd);
    http_finished(ex);
}

void http_stream_begin(struct http_req *r, unsigned status, const char *content_type, const char *fields)
{
    struct http_exchange *ex = exchange_of(r);
    assert(ex->step == HTTP_STEP_HANDLER);
    ex->step = HTTP_STEP_STREAM;
    ex->chunked_answer = ex->head.parser.http_minor == 1;
    if (!ex->chunked_answer)
        ex->keep_alive = false; /* HTTP/1.0: the end of the connection ends the body */
    struct conn *c = alive(ex);
    if (!c)
        return;
    /* A stream may be quiet for hours: the kernel finds out when its reader is gone without a word. */
    static const int on = 1, idle_s = 60, every_s = 20, times = 3;
    setsockopt(c->watch.fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(c->watch.fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(c->watch.fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    setsockopt(c->watch.fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
    send_head(ex, status, content_type, -1, fields);
}

size_t http_stream_send(struct http_req *r, struct span piece)
{
    struct http_exchange *ex = exchange_of(r);
    struct conn *c = alive(ex);
    assert(ex->step == HTTP_STEP_STREAM);
    if (!c || !piece.n || ex->no_answer_body)
        return c ? conn_unsent(c) : 0;
    if (ex->chunked_answer) {
        char line[24];
        snprintf(line, sizeof line, "%zx\r\n", piece.n);
        conn_send(c, span_str(line));
    }
    conn_send(c, piece);
    if (ex->chunked_answer)
        conn_send(c, SPAN("\r\n"));
    return conn_unsent(c);
}

void http_stream_on_room(struct http_req *r, void (*fn)(struct http_req *r))
{
    struct http_exchange *ex = exchange_of(r);
    struct conn *c = alive(ex);
    ex->on_room = fn;
    if (c) { /* even if nothing is queued: then at the end of this turn */
        c->flags |= CONN_F_SENT;
        conn_make_dirty(c);
    }
}

void http_stream_end(struct http_req *r)
{
    struct http_exchange *ex = exchange_of(r);
    struct conn *c = alive(ex);
    assert(ex->step == HTTP_STEP_STREAM);
    if (c && ex->chunked_answer && !ex->no_answer_body)
        conn_send(c, SPAN("0\r\n\r\n"));
    http_finished(ex);
}
