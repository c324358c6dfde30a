/* hub/conn/conn.h - one accepted socket: TCP or TLS, a WebSocket around it or not; a protocol plugs in on
 * top. A connection never changes worker. All calls are made on its worker's thread. Death is deferred: after
 * conn_close the pointer stays good until the end of the turn, and no callback but on_close comes. */
#ifndef ROOST_HUB_CONN_CONN_H
#define ROOST_HUB_CONN_CONN_H

#include "base/slab.h"
#include "base/span.h"
#include "hub/bus/bus.h"
#include "hub/loop/worker.h"

struct conn;

enum conn_close {
    CONN_CLOSE_PEER = 0, /* the peer closed or reset */
    CONN_CLOSE_PROTO,    /* it broke its protocol */
    CONN_CLOSE_AUTH,     /* refused, expired, disabled */
    CONN_CLOSE_TIMEOUT,  /* handshake, first packet, keep alive */
    CONN_CLOSE_SLOW,     /* does not read what we send */
    CONN_CLOSE_TAKEOVER, /* the same identity connected again */
    CONN_CLOSE_LIMIT,
    CONN_CLOSE_TLS,
    CONN_CLOSE_DONE,
    CONN_CLOSE_STOP,
    CONN_CLOSE_INTERNAL,
    CONN_CLOSE_REASONS
};
const char *conn_close_name(enum conn_close why);

struct conn_proto {
    const char *name;
    size_t state_len; /* bytes of zeroed protocol state that come with each connection */
    void (*on_open)(struct conn *c);
    /* `in`: everything unread, in the worker's buffer. Take whole units off its front; what is left is kept
     * and comes again with more behind it (at most in_max bytes are ever kept: then CONN_CLOSE_PROTO). */
    void (*on_bytes)(struct conn *c, struct span *in);
    size_t in_max;
    void (*on_drained)(struct conn *c);             /* all output has left; may be NULL */
    void (*on_timer)(struct conn *c);               /* conn_arm; may be NULL */
    void (*on_wake)(struct conn *c, uint32_t what); /* enum bus_wake; may be NULL */
    /* False: it takes none of this kind. May be NULL. */
    bool (*on_message)(struct conn *c, const struct bus_message *m);
    void (*on_close)(struct conn *c, enum conn_close why); /* last call; free what the state owns */
    /* The peer will send no more, but may still read. NULL: the connection is closed (CONN_CLOSE_PEER). */
    void (*on_eof)(struct conn *c);
    /* The hub is stopping: finish and conn_close. NULL: it is closed at once (CONN_CLOSE_STOP). */
    void (*on_stop)(struct conn *c);
};

void *conn_state(struct conn *c);
const struct conn_proto *conn_get_proto(const struct conn *c);
struct worker *conn_worker(struct conn *c);
/* Of its worker: for what a protocol keeps as long as the connection lives. Give it back in on_close. */
struct slab *conn_slab(struct conn *c);
struct bus_addr conn_addr(struct conn *c);
struct conn *conn_find(struct worker *w, struct bus_addr a); /* NULL: gone */
void *conn_listener_ctx(struct conn *c); /* what the listener was opened with: the front's own context */

/* Takes a copy; it leaves at the end of this turn, with what else was sent, in one write. When out_max
 * bytes were unsent before, or nothing of them moves for a while: CONN_CLOSE_SLOW. Harmless on a closing
 * connection. */
void conn_send(struct conn *c, struct span s);
size_t conn_unsent(const struct conn *c); /* bytes the socket has not taken; files do not count */
/* on_close follows at the end of this turn or the next; what is unsent still leaves, within a deadline. The
 * first reason stays. */
void conn_close(struct conn *c, enum conn_close why);
bool conn_is_closing(const struct conn *c);
void conn_arm(struct conn *c, uint64_t at_ms); /* its one timer; 0 disarms */
/* Back-pressure: stop reading. When it goes on, on_bytes is called (from the loop, not inside this call) with
 * what was kept, even if nothing more has arrived. Within on_bytes it does not end the call: return. */
void conn_pause(struct conn *c, bool paused);
/* After authentication: ends the first-packet deadline. */
void conn_established(struct conn *c);
/* The peer, as text, into buf (at least 64 bytes); returns it. */
const char *conn_peer(struct conn *c, char buf[64]);
bool conn_is_tls(const struct conn *c);

/* Another protocol takes the connection over (HTTP upgrade). The old state is gone at the end of the turn,
 * without on_close: free what it owns first. The new state is fresh; on_open is called, the first-packet
 * deadline starts again, and what on_bytes has left in `in` comes to the new protocol.
 * websocket: what it sends and gets are binary WebSocket messages as a byte stream (RFC 6455); each conn_send
 * is one message; pings and closing are answered below it. */
void conn_switch(struct conn *c, const struct conn_proto *proto, void *listener_ctx, bool websocket);

/* Sends len bytes of the file from offset on after what is already queued (sendfile without TLS); takes the
 * descriptor over and closes it; on_drained follows. */
void conn_send_file(struct conn *c, int fd, uint64_t offset, uint64_t len);

/* The peer's certificate (DER), when it sent one: into *out, valid as long as the connection. */
bool conn_peer_certificate(struct conn *c, struct span *out);
/* What it sent behind its own, DER after DER; also in a resumed session. False: nothing. */
bool conn_peer_chain(struct conn *c, struct span *out);
/* The maximum fragment length agreed in TLS (512..4096), or 0: none asked for. */
unsigned conn_max_fragment(const struct conn *c);

/* For bus_register: `ctx` is the worker. */
void conn_on_bus_wake(void *ctx, struct bus_addr to, uint32_t what);
/* For bus_on_messages. */
bool conn_on_bus_message(void *ctx, struct bus_addr to, const struct bus_message *m);

#endif
