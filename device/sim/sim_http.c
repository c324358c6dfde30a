/* device/sim/sim_http.c - see sim_http.h. */
#include "device/sim/sim_http.h"

#include <stdlib.h>

static bool parse(const struct roost_dev_exchange *x, struct http_url *url, bool *plain)
{
    if (http_url_parse(x->url, url) != ERR_OK || !url->port || url->host.n > TLS_HOST_MAX)
        return false;
    *plain = span_ieq(url->scheme, SPAN("http"));
    return *plain || span_ieq(url->scheme, SPAN("https"));
}

bool sim_http_fits(const struct sim_http *h, const struct roost_dev_exchange *x)
{
    struct http_url url;
    bool plain;
    return h->conn && parse(x, &url, &plain) && plain == h->plain && url.port == h->port &&
           span_eq(url.host, span_str(h->host)) && (x->ca_pin != NULL) == h->has_pin &&
           (!x->ca_pin || memcmp(x->ca_pin, h->pin, TLS_PIN_LEN) == 0);
}

enum err sim_http_begin(struct sim_http *h, const struct roost_dev_exchange *x)
{
    struct http_url url;
    uint8_t field[256];
    struct wr fields = { field, sizeof field, 0 };
    if (!parse(x, &url, &h->plain))
        return ERR_PROTO;
    if (x->signature.n) {
        wr_put(&fields, SPAN("Roost-Signature: "));
        wr_put(&fields, x->signature);
        wr_put(&fields, SPAN("\r\n"));
    }
    if (!wr_ok(&fields))
        return ERR_PROTO;
    struct http_request req = {
        .method = x->method == ROOST_DEV_POST ? "POST" : "GET",
        .host = url.authority,
        .target = url.target,
        .content_type = x->content_type,
        .authorization = x->authorization,
        .user_agent = SPAN("roost-sim/" ROOST_VERSION),
        .fields = wr_span(&fields),
        .has_body = x->method == ROOST_DEV_POST,
        .body_len = x->body.n,
        .ranged = x->ranged,
        .range_from = x->offset,
        .range_len = x->len,
    };
    struct wr w = { NULL, 0, 0 };
    http_request_encode(&w, &req); /* measures */
    size_t head = w.len;
    free(h->out);
    if (!(h->out = malloc(head + x->body.n)))
        return ERR_NOMEM;
    w = (struct wr){ h->out, head, 0 };
    http_request_encode(&w, &req);
    if (x->body.n)
        memcpy(h->out + head, x->body.p, x->body.n);
    h->out_len = head + x->body.n;
    h->out_at = 0;
    h->id = x->id;
    h->busy = true;
    h->answered = false;
    h->port = url.port;
    memcpy(h->host, url.host.p, url.host.n);
    h->host[url.host.n] = 0;
    h->has_pin = x->ca_pin != NULL;
    if (h->has_pin)
        memcpy(h->pin, x->ca_pin, TLS_PIN_LEN);
    http_response_init(&h->response, false);
    return ERR_OK;
}

enum err sim_http_dial(struct sim_http *h, struct tls_client *t, uint32_t source_ipv4,
                       struct tls_session **session)
{
    struct tls_target to = { .host = span_str(h->host),
                             .port = h->port,
                             .plain = h->plain,
                             .pin = h->has_pin ? h->pin : NULL,
                             .source_ipv4 = source_ipv4,
                             .session = h->plain ? NULL : session };
    tls_conn_close(h->conn);
    h->conn = NULL;
    h->open = h->reused = false;
    return tls_conn_open(t, &to, &h->conn);
}

static void drop(struct sim_http *h)
{
    tls_conn_close(h->conn);
    h->conn = NULL;
    h->open = false;
}

static enum err finish(struct sim_http *h, bool keep)
{
    h->busy = false;
    h->reused = true;
    free(h->out);
    h->out = NULL;
    if (!keep)
        drop(h);
    return ERR_OK;
}

static enum err fail(struct sim_http *h, enum err e)
{
    bool stale = h->reused && !h->answered;
    drop(h);
    h->out_at = 0;
    return stale ? ERR_STALE : e;
}

/* Takes the answer off *in. ERR_AGAIN: more is needed. */
static enum err digest(struct sim_http *h, const struct sim_http_sink *sink, struct span *in)
{
    enum http_response_event ev;
    struct span piece;
    enum err e;
    while ((e = http_response_next(&h->response, in, &ev, &piece)) == ERR_OK) {
        if (ev == HTTP_EV_HEAD)
            sink->status(sink->ctx, h->id, h->response.status, h->response.retry_after_s);
        else if (ev == HTTP_EV_BODY)
            sink->body(sink->ctx, h->id, piece);
        else
            return ERR_OK;
    }
    return e;
}

enum err sim_http_move(struct sim_http *h, const struct sim_http_sink *sink, uint8_t *buf, size_t cap)
{
    enum err e;
    size_t n = 0;
    if (!h->open) {
        if ((e = tls_conn_step(h->conn)) != ERR_OK)
            return e == ERR_AGAIN ? e : fail(h, e);
        h->open = true;
    }
    while (h->busy && h->out_at < h->out_len) {
        e = tls_conn_write(h->conn, span_of(h->out + h->out_at, h->out_len - h->out_at), &n);
        if (e == ERR_AGAIN)
            break; /* an answer may come before all is sent */
        if (e)
            return fail(h, e);
        h->out_at += n;
    }
    while ((e = tls_conn_read(h->conn, buf, cap, &n)) == ERR_OK) {
        if (!h->busy) {
            drop(h); /* a kept connection ended, or spoke out of turn */
            return ERR_OK;
        }
        if (n == 0) {
            if (h->answered && http_response_eof(&h->response) == ERR_OK)
                return finish(h, false);
            return fail(h, ERR_IO);
        }
        h->answered = true;
        struct span in = span_of(buf, n);
        e = digest(h, sink, &in);
        if (e == ERR_OK)
            return finish(h, h->response.keep_alive && in.n == 0 && h->out_at == h->out_len);
        if (e != ERR_AGAIN)
            return fail(h, ERR_PROTO);
    }
    return e == ERR_AGAIN ? e : fail(h, e);
}

void sim_http_close(struct sim_http *h)
{
    drop(h);
    free(h->out);
    h->out = NULL;
    h->busy = false;
}
