/* hub/conn/conn_impl.h - what the files of this folder share: the connection itself, a worker's part of the
 * net, and the steps between them. Nobody outside includes it. */
#ifndef ROOST_HUB_CONN_CONN_IMPL_H
#define ROOST_HUB_CONN_CONN_IMPL_H

#include "hub/conn/listener.h"
#include "hub/conn/ws.h"

#include <assert.h>
#include <pthread.h>

enum {
    CONN_READ_MAX = 65536,  /* taken off one connection a turn, so that each gets its share */
    CONN_KEEP_SMALL = 4096, /* a kept rest up to here is copied next to what comes; above it grows in place */
    CONN_SLAB = 256,        /* connections allocated together */
    CONN_SERVICES_MAX = 64, /* of a worker */
    CONN_RAW_MAX = CONN_READ_MAX
};

enum conn_phase {
    CONN_PHASE_FREE = 0,
    CONN_PHASE_HANDSHAKE,
    CONN_PHASE_OPEN,
    CONN_PHASE_CLOSING, /* conn_close was called; on_close is due */
    CONN_PHASE_LINGER,  /* the protocol is gone; the last bytes leave, the peer's last ones are thrown away */
    CONN_PHASE_DEAD     /* freed at the end of the turn */
};

enum conn_flag {
    CONN_F_DIRTY = 1,  /* among the dirty: something to do at the end of the turn */
    CONN_F_PAUSED = 2, /* the protocol does not want input */
    CONN_F_OUT = 4,    /* epoll tells when it can be written to */
    CONN_F_IN = 8,     /* epoll tells when it can be read */
    CONN_F_AGAIN = 16, /* input is waiting that epoll will not tell about */
    CONN_F_ESTABLISHED = 32,
    CONN_F_EOF = 64,          /* the peer sends no more */
    CONN_F_EXEMPT = 128,      /* not counted by the caps */
    CONN_F_SENT = 256,        /* on_drained is due when the output is empty */
    CONN_F_SWITCHED = 512,    /* conn_switch was called within on_bytes */
    CONN_F_SHUT = 1024,       /* our FIN has left */
    CONN_F_WANT_WRITE = 2048, /* TLS needs the socket writable before it can read */
    CONN_F_OPENED = 4096,     /* on_open was called: on_close is due */
    CONN_F_NO_LINGER = 8192   /* nobody waits for its last bytes */
};

/* Output that the socket has not taken: bytes, or a part of a file. */
struct out_seg {
    struct out_seg *next;
    uint64_t at, len; /* file: offset and bytes left; bytes: at..len of data are left */
    int fd;           /* -1: bytes */
    uint32_t cap;
    uint8_t data[];
};
struct out { /* exists while there is any */
    struct out_seg *first, *last;
    size_t unsent;        /* bytes, without files */
    uint64_t deadline_ms; /* something must have moved by then */
};

struct source { /* how many connections one address has */
    uint8_t key[16];
    uint32_t nr;
};

struct rest { /* input that the protocol has not taken; exists while there is any */
    uint32_t len, cap;
    uint8_t data[];
};
/* What is done with bytes of a connection: a listener's, or what an upgrade leads to. A hub has a handful. */
struct conn_service {
    const struct conn_proto *proto;
    void *ctx;
};

struct conn {
    struct watch watch;
    struct timer timer;
    void *state;       /* the protocol's; in cw->slab */
    struct tls *tls;   /* NULL: plain */
    struct ws *ws;     /* NULL: no WebSocket around it */
    struct out *out;   /* NULL: nothing unsent */
    struct rest *rest; /* owned; NULL: none */
    struct source *source;
    uint64_t proto_at_ms, deadline_ms; /* 0: none */
    uint32_t slot, generation;
    uint32_t next; /* among the dirty or the free: slot + 1; 0: the last */
    uint16_t flags;
    uint8_t phase : 4, why : 4;
    uint8_t service; /* of cw->services */
};
static_assert(CONN_CLOSE_REASONS <= 16 && CONN_PHASE_DEAD < 16, "the bits of phase and why");
static_assert(sizeof(struct conn) <= 128,
              "a million of these: docs/operations.md says what a connection costs");

struct conn_counters {
    _Atomic uint64_t open, accepted, handshakes, handshake_failed, resumed, closed[CONN_CLOSE_REASONS],
        refused_total, refused_source, accept_backoffs, bytes_in, bytes_out, tls_open[TLS_LAYERS],
        tls_total[TLS_LAYERS];
};
/* Only its own worker writes a counter. */
static inline void conn_count(_Atomic uint64_t *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

struct conn_worker { /* the net's part on one worker */
    struct conn_net *net;
    struct worker *w;
    struct conn_slab **slabs;
    uint32_t slab_nr;
    struct slab slab;                       /* what connections keep */
    uint32_t free, dirty_first, dirty_last; /* as conn.next */
    struct conn_service services[CONN_SERVICES_MAX];
    unsigned services_nr;
    struct deferred flush; /* queued while any is dirty */
    bool flush_queued;
    struct list old;        /* states of protocols that have passed their connection on */
    struct deferred forget; /* queued while there are any */
    bool draining, killing; /* of the thread that stops the hub */
    struct op drain_op, kill_op, tidy_op;
    atomic_bool tidying;    /* tidy_op is under way */
    uint8_t *in;            /* CONN_KEEP_SMALL + CONN_READ_MAX: every connection reads here */
    struct tls_worker *tls; /* made with the first TLS connection */
    uint8_t *raw;           /* CONN_RAW_MAX: what arrives under a WebSocket; made with the first of them */
    struct conn_counters nr;
};

enum { SOURCE_SHARDS = 16 };
struct source_table;

struct conn_net {
    struct conn_limits limits;
    uint16_t node;
    unsigned worker_nr;
    struct conn_worker *workers;
    struct list listeners;
    struct source_table *sources;
    _Atomic uint64_t open, counted; /* counted: those the cap is about */
};

struct conn_slab { /* connections allocated together; never moved */
    struct conn_worker *cw;
    struct conn conns[CONN_SLAB];
};

static inline struct conn_worker *conn_cw(const struct conn *c)
{
    return CONTAINER_OF(c - c->slot % CONN_SLAB, struct conn_slab, conns)->cw;
}
static inline const struct conn_service *conn_service(const struct conn *c)
{
    return &conn_cw(c)->services[c->service];
}
static inline uint64_t conn_now(const struct conn *c)
{
    return worker_now_ms(conn_cw(c)->w);
}
static inline uint32_t conn_rest_len(const struct conn *c)
{
    return c->rest ? c->rest->len : 0;
}

/* conn_slab.c */
struct conn *conn_slab_get(struct conn_worker *cw); /* NULL: out of memory */
void conn_slab_put(struct conn *c);
struct conn *conn_slab_at(const struct conn_worker *cw, uint32_t slot); /* NULL: no such slot */

/* conn_source.c: any thread. */
MUST_USE enum err source_table_new(struct source_table **out);
void source_table_free(struct source_table *t);
/* ERR_LIMIT: it has max already; ERR_NOMEM. */
MUST_USE enum err source_take(struct source_table *t, const uint8_t key[16], uint32_t max,
                              struct source **out);
void source_give_back(struct source_table *t, struct source *s);

/* conn.c */
/* Takes the accepted fd over; source may be NULL. */
void conn_start(struct conn_worker *cw, int fd, struct source *source, struct tls *tls,
                const struct conn_proto *proto, void *ctx, bool exempt);
void conn_make_dirty(struct conn *c);
void conn_rearm(struct conn *c);
void conn_want(struct conn *c); /* tells epoll what we wait for now */
void conn_flush_worker(struct deferred *d);
void conn_forget_worker(struct deferred *d);
void conn_stop_worker(struct conn_worker *cw, bool kill);

/* conn_in.c */
/* Reads once and hands over. force: hand over what was kept even if nothing came. */
void conn_read_input(struct conn *c, bool force);
/* The protocol is gone: what still comes is thrown away. */
void conn_discard_input(struct conn *c);
void conn_drop_rest(struct conn *c);
bool conn_raw_buffer(struct conn_worker *cw); /* false: no memory */

/* conn_out.c: false when memory ran out, or out_max bytes were unsent before. */
bool out_put(struct conn *c, struct span s);
bool out_put_file(struct conn *c, int fd, uint64_t offset, uint64_t len);
/* Something is unsent: data, a file, or the rest of a TLS record. */
bool out_is_waiting(const struct conn *c);
/* Writes what the socket takes. ERR_AGAIN: it takes no more now; ERR_IO: it is broken. */
MUST_USE enum err out_flush(struct conn *c);
void out_free(struct conn *c);

#endif
