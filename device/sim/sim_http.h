/* device/sim/sim_http.h - one HTTP exchange of a device over a connection of its own: writes the request,
 * reads the answer, hands both to whoever drives it. No epoll here: the shard moves it when its socket is
 * ready. */
#ifndef ROOST_DEVICE_SIM_SIM_HTTP_H
#define ROOST_DEVICE_SIM_SIM_HTTP_H

#include "core/http/http_client.h"
#include "device/device.h"
#include "port/tls.h"

struct sim_http { /* exists while an exchange or its kept connection does */
    struct tls_conn *conn;
    struct http_response response;
    uint8_t *out; /* owned: the request, head and body */
    size_t out_len, out_at;
    uint32_t id;   /* of the engine's exchange */
    bool open;     /* the connection is established */
    bool busy;     /* an exchange is on it */
    bool reused;   /* it carried an earlier exchange: a close before any answer is no failure */
    bool answered; /* bytes of the answer have come */
    bool plain;    /* the connection's target, for reuse: */
    uint16_t port;
    bool has_pin;
    uint8_t pin[TLS_PIN_LEN];
    char host[TLS_HOST_MAX + 1];
};

/* Who is told; the calls are made from sim_http_move. */
struct sim_http_sink {
    void *ctx;
    void (*status)(void *ctx, uint32_t id, unsigned status, uint32_t retry_after_s);
    void (*body)(void *ctx, uint32_t id, struct span piece);
};

/* Prepares the exchange: parses the URL and encodes the request. ERR_PROTO: not an HTTP URL; ERR_NOMEM. */
MUST_USE enum err sim_http_begin(struct sim_http *h, const struct roost_dev_exchange *x);
/* Does the kept connection fit what was begun? */
bool sim_http_fits(const struct sim_http *h, const struct roost_dev_exchange *x);
/* Opens a connection for what was begun. */
MUST_USE enum err sim_http_dial(struct sim_http *h, struct tls_client *t, uint32_t source_ipv4,
                                struct tls_session **session);
/* Goes as far as it can with buf as scratch. ERR_AGAIN: wait for the socket. ERR_OK: the exchange is over,
 * the connection stays when h->conn does. ERR_STALE: the kept connection had ended; dial and go on. Else:
 * as tls_conn_step, or ERR_PROTO; the connection is closed. */
MUST_USE enum err sim_http_move(struct sim_http *h, const struct sim_http_sink *sink, uint8_t *buf,
                                size_t cap);
void sim_http_close(struct sim_http *h); /* connection and request; h may be begun again */

#endif
