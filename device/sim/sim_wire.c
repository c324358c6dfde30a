/* device/sim/sim_wire.c - the sockets of a simulated device: one for requests, one that stands. */
#include "device/sim/sim_wire.h"

#include "device/sim/shard.h"

#include <stdlib.h>

#define HTTP_IDLE_MS 3000u

static uint32_t source_of(const struct sim_dev *d)
{
    if (!d->shard->opt->source_spread)
        return 0;
    /* 127.1.0.1 and on, without .0 and .255 */
    return 0x7f010000u + (d->index / 254u << 8) + d->index % 254u + 1u;
}

static void dial_done(struct sim_dev *d, bool *flag)
{
    if (*flag) {
        *flag = false;
        shard_dial_end(d->shard);
    }
}

void sim_wire_http_gone(struct sim_dev *d)
{
    if (!d->http)
        return;
    sim_http_close(d->http);
    free(d->http);
    d->http = NULL;
    d->shard->http_nr--;
    dial_done(d, &d->http_dialing);
}

void sim_wire_link_gone(struct sim_dev *d)
{
    tls_conn_close(d->link);
    d->link = NULL;
    d->link_open = false;
    free(d->link_out);
    d->link_out = NULL;
    d->link_out_len = d->link_out_at = 0;
    dial_done(d, &d->link_dialing);
}

static enum roost_dev_result result_of(struct sim_dev *d, enum err e)
{
    if (e == ERR_OK)
        return ROOST_DEV_DONE;
    shard_count(d->shard, e == ERR_VERIFY ? SIM_N_TLS_REFUSED : SIM_N_UNREACHABLE);
    return e == ERR_VERIFY   ? ROOST_DEV_TLS_REFUSED
           : e == ERR_DENIED ? ROOST_DEV_REFUSED
                             : ROOST_DEV_UNREACHABLE;
}

static void on_status(void *ctx, uint32_t id, unsigned status, uint32_t retry_after_s)
{
    roost_dev_exchange_status(&((struct sim_dev *)ctx)->engine, id, status, retry_after_s);
}

static void on_body(void *ctx, uint32_t id, struct span piece)
{
    roost_dev_exchange_body(&((struct sim_dev *)ctx)->engine, id, piece);
}

static void http_end(struct sim_dev *d, enum err e)
{
    uint32_t id = d->http->id;
    dial_done(d, &d->http_dialing);
    if (e != ERR_OK || !d->http->conn || d->shard->http_nr > d->shard->http_cap)
        sim_wire_http_gone(d);
    else
        d->http_idle_at = d->shard->now_ms + HTTP_IDLE_MS;
    roost_dev_exchange_end(&d->engine, id, result_of(d, e), d->shard->now_ms);
}

void sim_wire_http_move(struct sim_dev *d)
{
    struct sim_http_sink sink = { d, on_status, on_body };
    bool was_busy = d->http->busy, was_open = d->http->open;
    enum err e = sim_http_move(d->http, &sink, d->shard->buf, sizeof d->shard->buf);
    if (d->http->open && !was_open) {
        shard_count(d->shard, SIM_N_CONNECTS);
        if (tls_conn_resumed(d->http->conn))
            shard_count(d->shard, SIM_N_RESUMED);
        dial_done(d, &d->http_dialing);
    }
    if (e == ERR_AGAIN)
        shard_watch(d, SIM_WIRE_HTTP, d->http->conn);
    else if (e == ERR_STALE)
        d->wants_dial = true;
    else if (was_busy)
        http_end(d, e);
    else
        sim_wire_http_gone(d); /* the kept connection ended */
}

void sim_wire_http_start(struct sim_dev *d, const struct roost_dev_exchange *x)
{
    if (d->http && (d->http->busy || !sim_http_fits(d->http, x)))
        sim_wire_http_gone(d); /* where one was open the engine has given it up */
    if (!d->http) {
        if (!(d->http = calloc(1, sizeof *d->http))) {
            roost_dev_exchange_end(&d->engine, x->id, ROOST_DEV_UNREACHABLE, d->shard->now_ms);
            return;
        }
        d->shard->http_nr++;
    }
    if (sim_http_begin(d->http, x) != ERR_OK) {
        d->http->id = x->id;
        http_end(d, ERR_PROTO);
    } else if (d->http->conn) {
        sim_wire_http_move(d);
    } else {
        d->wants_dial = true;
    }
}

void sim_wire_link_end(struct sim_dev *d, enum err e)
{
    sim_wire_link_gone(d);
    roost_dev_link_closed(&d->engine, e == ERR_OK ? ROOST_DEV_DONE : result_of(d, e), d->shard->now_ms);
}

enum err sim_wire_link_send(struct sim_dev *d)
{
    uint8_t buf[4096];
    for (;;) {
        size_t n = 0;
        enum err e;
        if (d->link_out) {
            e = tls_conn_write(d->link,
                               span_of(d->link_out + d->link_out_at, d->link_out_len - d->link_out_at), &n);
            if (e)
                return e;
            if ((d->link_out_at += n) < d->link_out_len)
                continue;
            free(d->link_out);
            d->link_out = NULL;
        }
        size_t len = roost_dev_link_take(&d->engine, buf, sizeof buf);
        if (!len)
            return ERR_OK;
        e = tls_conn_write(d->link, span_of(buf, len), &n);
        if (e && e != ERR_AGAIN)
            return e;
        if (e == ERR_OK && n == len)
            continue;
        n = e ? 0 : n;
        if (!(d->link_out = malloc(len - n)))
            return ERR_NOMEM;
        memcpy(d->link_out, buf + n, len - n);
        d->link_out_len = len - n;
        d->link_out_at = 0;
        if (e)
            return e;
    }
}

void sim_wire_link_move(struct sim_dev *d)
{
    enum err e;
    if (!d->link_open) {
        if ((e = tls_conn_step(d->link)) == ERR_AGAIN) {
            shard_watch(d, SIM_WIRE_LINK, d->link);
            return;
        }
        if (e) {
            sim_wire_link_end(d, e);
            return;
        }
        d->link_open = true;
        dial_done(d, &d->link_dialing);
        shard_count(d->shard, SIM_N_CONNECTS);
        if (tls_conn_resumed(d->link))
            shard_count(d->shard, SIM_N_RESUMED);
        roost_dev_link_opened(&d->engine, d->shard->now_ms);
    }
    do {
        size_t n = 0;
        e = tls_conn_read(d->link, d->shard->buf, sizeof d->shard->buf, &n);
        if (e == ERR_OK && n == 0)
            e = ERR_IO;
        if (e == ERR_OK)
            roost_dev_link_bytes(&d->engine, span_of(d->shard->buf, n), d->shard->now_ms);
    } while (e == ERR_OK);
    if (e == ERR_AGAIN)
        e = sim_wire_link_send(d);
    if (e == ERR_OK || e == ERR_AGAIN)
        shard_watch(d, SIM_WIRE_LINK, d->link);
    else
        sim_wire_link_end(d, e);
}

static void link_open(struct sim_dev *d)
{
    struct roost_dev_link want;
    if (!roost_dev_link(&d->engine, &want))
        return;
    struct tls_target to = { .host = want.host,
                             .port = want.port,
                             .pin = want.ca_pin,
                             .source_ipv4 = source_of(d),
                             .session = &d->link_session };
    enum err e = tls_conn_open(d->shard->tls, &to, &d->link);
    if (e)
        sim_wire_link_end(d, e);
    else
        sim_wire_link_move(d);
}

bool sim_wire_needs_dial(struct sim_dev *d)
{
    struct roost_dev_link want;
    return (d->http && d->http->busy && d->wants_dial) || (!d->link && roost_dev_link(&d->engine, &want));
}

void sim_wire_dial(struct sim_dev *d)
{
    if (d->http && d->http->busy && d->wants_dial) {
        d->wants_dial = false;
        d->http_dialing = true;
        enum err e = sim_http_dial(d->http, d->shard->tls, source_of(d), &d->http_session);
        if (e)
            http_end(d, e);
        else
            sim_wire_http_move(d);
    } else if (!d->link) {
        d->link_dialing = true;
        link_open(d);
        if (!d->link)
            dial_done(d, &d->link_dialing);
    } else {
        shard_dial_end(d->shard);
    }
}
