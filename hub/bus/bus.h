/* hub/bus/bus.h - who is connected where; wake-ups, messages and calls to them. Knows no protocol.
 * A wake-up may be lost or doubled without harm: the session then asks the store. A message carries bytes
 * that are in no store: it may be lost, never doubled. A call is a message that is answered.
 * Nothing here needs memory that caller and session share: bytes are copied, a session is told by an
 * address, an answer finds its way by a number.
 * One live connection an identity: a newer attach takes over and the older one is told. Any thread;
 * no call blocks. To add a backend: fill struct bus_ops and pass bus_suite(). */
#ifndef ROOST_HUB_BUS_BUS_H
#define ROOST_HUB_BUS_BUS_H

#include "base/list.h"
#include "base/op.h"
#include "base/span.h"

struct bus;
struct bus_addr {          /* a session; never a pointer, so that a stale one is harmless */
    uint16_t node, worker; /* worker: below 4096 */
    uint32_t slot, generation;
};
enum bus_wake {
    BUS_WAKE_C2D = 1,
    BUS_WAKE_TAKEOVER = 2,
    BUS_WAKE_IDENTITY = 4,  /* disabled, deleted, keys changed */
    BUS_WAKE_TWIN = 8,      /* a BUS_TWIN message found no room: read the desired properties */
    BUS_WAKE_AUTHORITY = 16 /* a certificate authority was removed; by bus_wake_all alone */
};

/* Runs on the worker's own thread for every wake-up to one of its sessions. */
typedef void bus_on_wake(void *ctx, struct bus_addr to, uint32_t what);

MUST_USE enum err bus_local_new(struct bus **out, unsigned workers);
void bus_free(struct bus *b);
/* Before the workers start: where worker w gets its wake-ups. */
void bus_register(struct bus *b, unsigned worker, struct mailbox *mail, bus_on_wake *fn, void *ctx);

/* From now on `identity` ("device" or "device/module") is at addr. The one that was there before gets
 * BUS_WAKE_TAKEOVER. ERR_NOMEM. */
MUST_USE enum err bus_attach(struct bus *b, struct span identity, struct bus_addr addr);
/* Only if addr is still the one attached. */
void bus_detach(struct bus *b, struct span identity, struct bus_addr addr);
/* True when it is attached somewhere (then the wake-up is on its way). */
bool bus_wake(struct bus *b, struct span identity, uint32_t what);
void bus_wake_all(struct bus *b, uint32_t what); /* every attached session */
bool bus_is_attached(struct bus *b, struct span identity);
bool bus_is_at(struct bus *b, struct span identity, struct bus_addr addr); /* attached, and here */
uint64_t bus_attached_nr(struct bus *b);

/* ---- messages ---------------------------------------------------------------------------------------- */

enum bus_kind {
    BUS_METHOD = 1 /* a call, hub/domain/method/method.h */,
    BUS_TWIN = 2 /* hub/domain/twin/twin.h */
};
enum {
    BUS_BYTES_MAX = 524288,   /* of one message, request or answer */
    BUS_QUEUE_NR_MAX = 16384, /* messages on their way to the sessions of one worker */
    BUS_QUEUE_BYTES_MAX = 32 << 20,
    BUS_CALLS_MAX = 65536 /* calls without an answer, and as many waits, of this node */
};

struct bus_reply { /* where an answer goes; plain numbers, valid for ever, harmless when it is late */
    uint64_t id;   /* 0: nobody asks */
    uint16_t node;
};
struct bus_message {
    uint32_t kind;          /* enum bus_kind */
    struct span identity;   /* whom it is for: the session compares, for a directory may keep hashes */
    struct span bytes;      /* both borrowed for the call */
    struct bus_reply reply; /* of a call: bus_answer is due, once, on any thread, now or later */
};
/* Runs on the worker's own thread for every message to one of its sessions, with the ctx of bus_register.
 * False: no such session, or it takes none of this kind; a call then ends with ERR_NOTFOUND. */
typedef bool bus_on_message(void *ctx, struct bus_addr to, const struct bus_message *m);
/* Before the workers start, after bus_register. */
void bus_on_messages(struct bus *b, unsigned worker, bus_on_message *fn);

/* A copy of the bytes goes to the session of `identity`. What one thread posts to one session arrives in that
 * order. It is delivered whether or not the peer reads: how much it may owe is the session's to watch.
 *   ERR_NOTFOUND  nobody attached
 *   ERR_FULL      BUS_QUEUE_... are on their way to that worker: it does not keep up
 *   ERR_LIMIT     longer than BUS_BYTES_MAX      ERR_NOMEM  ERR_STOPPED */
MUST_USE enum err bus_post(struct bus *b, struct span identity, uint32_t kind, struct span bytes);

/* The caller's memory from start until done() has run, and then bus_call_fini. */
struct bus_call {
    struct op op;       /* first; home and done are the caller's */
    struct span answer; /* in done(), on ERR_OK: owned by the call until bus_call_fini */
    uint8_t *memory;    /* the rest is the bus's */
    struct list node;
    uint64_t id;
    bool waiting;
};
/* The session of `identity` is asked. done() comes exactly once: with its answer and the error it gave, or
 *   ERR_NOTFOUND  nobody attached, or the session was gone before it was asked
 *   ERR_CLOSED    (said by the session) it went away while it worked on it
 *   ERR_FULL, ERR_LIMIT, ERR_NOMEM, ERR_STOPPED  as bus_post; BUS_CALLS_MAX are under way
 * A session that vanishes with its node says nothing: the caller keeps time and calls bus_call_end. */
void bus_call_start(struct bus *b, struct bus_call *call, struct span identity, uint32_t kind,
                    struct span bytes);
/* Gives up: done() comes with err, unless the call has ended already and done() is on its way. On the thread
 * where done() will run, before it has run. */
void bus_call_end(struct bus *b, struct bus_call *call, enum err err);
void bus_call_fini(struct bus_call *call);
/* Ends the call: done() gets err, and a copy of the bytes. One that is late, or second, does nothing. */
void bus_answer(struct bus *b, struct bus_reply to, enum err err, struct span bytes);

/* Waiting for a session that takes calls, without asking again and again. To miss nobody: wait, then call,
 * and when that finds nobody keep waiting. */
struct bus_wait { /* memory as a call's */
    struct op op; /* first; done(): ERR_OK when the identity was announced, ERR_FULL, ERR_STOPPED */
    struct list node;
    uint64_t hash;
    bool waiting;
};
void bus_wait_start(struct bus *b, struct bus_wait *w, struct span identity);
void bus_wait_end(struct bus *b, struct bus_wait *w, enum err err); /* as bus_call_end */
/* The session of `identity` has begun to take calls. Costs next to nothing when nobody waits. */
void bus_announce(struct bus *b, struct span identity);

/* Before the workers end: calls and waits come home with ERR_STOPPED, new ones as well. */
void bus_stop(struct bus *b);

#endif
