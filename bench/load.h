/* bench/load.h - the load generator's parts: what was asked for, what the processes share, one connection. */
#ifndef ROOST_BENCH_LOAD_H
#define ROOST_BENCH_LOAD_H

#include "base/span.h"
#include "bench/histogram.h"

#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdio.h>

enum load_mode { LOAD_IDLE, LOAD_CONNECT, LOAD_PUBLISH, LOAD_SUBSCRIBE, LOAD_DRAIN, LOAD_CALL };

struct load_options {
    int mode; /* enum load_mode */
    const char *host, *name, *ca_file, *login, *policy, *prefix, *sub, *ack_log, *topics;
    int port, http_port, conns, procs, window, qos, size, queues;
    double seconds, warm_s, quiet_s;
    long pid; /* of the server whose CPU time and memory are counted; 0: none */
    bool tls, resume, spread, persistent;
    uint8_t key[64];
    size_t key_len;
};

/* In memory that all processes share. */
struct load_shared {
    _Atomic int ready, go, stop, finished; /* processes that are connected; the window is open; it is over */
    _Atomic uint64_t connected, refused, broken, sent, acked, received, resumed;
    struct histogram latency[64]; /* one a process, microseconds */
};

struct load_conn {
    int fd, index; /* index: over all processes, names the client */
    SSL *ssl;
    uint8_t state; /* enum conn_state */
    bool want_write, writable_armed;
    uint16_t inflight;
    uint32_t seq; /* messages sent */
    uint8_t *out; /* unsent bytes */
    size_t out_len, out_off;
    uint8_t in[2048];
    size_t in_len;
    uint64_t *sent_us; /* by packet identifier modulo window */
};
enum conn_state { CONN_IDLE, CONN_TCP, CONN_TLS, CONN_CONNACK, CONN_SUBACK, CONN_OPEN, CONN_DEAD };

/* One process of the generator: connections first, first + 1, ... nr of them. Ends the process's work; the
 * result is in `shared`. */
void load_process(const struct load_options *o, struct load_shared *shared, int process, int first, int nr);
/* The same for LOAD_CALL: pairs instead of connections. */
void load_calls(const struct load_options *o, struct load_shared *shared, int process, int first, int nr);

/* The CONNECT of a client, with the credentials that o->login asks for. */
void load_connect_encode(const struct load_options *o, const char *id, struct wr *w);

#endif
