/* hub/conn/listener.h - all connections of the hub: listeners on every worker (SO_REUSEPORT), the caps that
 * they share, drain and stop, counters. main.c makes one struct conn_net and opens listeners on it. */
#ifndef ROOST_HUB_CONN_LISTENER_H
#define ROOST_HUB_CONN_LISTENER_H

#include "hub/conn/conn.h"
#include "hub/conn/tls.h"

struct conn_net;
struct conn_listener;

struct conn_limits {          /* zero: the default in brackets */
    uint32_t connections_max; /* of all workers [as many as descriptors allow] */
    uint32_t per_source_max;  /* of one IPv4 address or IPv6 /64 [4096] */
    bool per_source_loopback; /* count loopback sources too (a proxy in front is one source) */
    uint32_t handshake_ms;    /* TLS [15 000] */
    uint32_t first_packet_ms; /* until conn_established [30 000] */
    uint32_t slow_ms;         /* unsent output of which nothing moves [30 000] */
    uint32_t linger_ms;       /* a closed connection may still take its last bytes [2 000] */
    uint32_t out_max;         /* unsent bytes of one connection [512 KiB] */
};
/* workers: not started yet, or stopped; they stay the caller's and outlive the net. node: of bus_addr. */
MUST_USE enum err conn_net_new(struct conn_net **out, const struct conn_limits *limits,
                               struct worker *const *workers, unsigned worker_nr, uint16_t node);
/* After the workers have ended. Closes what is left. */
void conn_net_free(struct conn_net *n);

struct conn_listen {
    const char *name;    /* for logs and counters: "mqtts" */
    const char *address; /* numeric; "*": every address of the machine, both families */
    uint16_t port;       /* 0: any free one, see conn_listener_port */
    struct tls_ctx *tls; /* NULL: plain. Borrowed; the listener takes a reference */
    const struct conn_proto *proto;
    void *ctx;   /* conn_listener_ctx */
    bool exempt; /* not counted by the caps: the operator's own listener */
};
/* Before the workers start. ERR_DENIED: the port needs a privilege; ERR_EXISTS: somebody has it; ERR_IO. */
MUST_USE enum err conn_net_listen(struct conn_net *n, const struct conn_listen *cfg,
                                  struct conn_listener **out);
uint16_t conn_listener_port(const struct conn_listener *l);
/* New connections get this context from now on (reloaded certificates). Any thread. */
void conn_listener_set_tls(struct conn_listener *l, struct tls_ctx *tls);
/* Any thread, takes effect soon: no more connections are taken; those there are asked to finish (on_stop). */
void conn_net_drain(struct conn_net *n);
/* Any thread, takes effect soon: those still there are closed (CONN_CLOSE_STOP), without lingering. */
void conn_net_kill(struct conn_net *n);
/* Any thread, takes effect soon: when a wave of connections has passed, gives up what it left with the
 * workers (derived keys; scattered small pieces of memory), so that the heap can be trimmed. */
void conn_net_tidy(struct conn_net *n);
uint64_t conn_net_open_nr(const struct conn_net *n); /* any thread */
uint32_t conn_net_connections_max(const struct conn_net *n);

struct conn_stats { /* of one worker, or the sum; any thread may ask */
    uint64_t open, accepted, handshakes, handshake_failed, resumed, closed[CONN_CLOSE_REASONS], refused_total,
        refused_source, accept_backoffs, bytes_in, bytes_out,
        tls_open[TLS_LAYERS], /* by record layer, handshakes that are done: now, and ever */
        tls_total[TLS_LAYERS];
};
void conn_net_get_stats(const struct conn_net *n, struct conn_stats *sum);

#endif
