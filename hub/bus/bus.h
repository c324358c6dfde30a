/* hub/bus/bus.h - who is connected where, and wake-ups to them. Knows no protocol.
 * A wake-up may be lost or doubled without harm: the session then asks the store.
 * One live connection an identity: a newer attach takes over and the older one is told. Any thread;
 * no call blocks. To add a backend: fill struct bus_ops and pass bus_suite(). */
#ifndef ROOST_HUB_BUS_BUS_H
#define ROOST_HUB_BUS_BUS_H

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
    BUS_WAKE_IDENTITY = 4 /* disabled, deleted, keys changed */
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
uint64_t bus_attached_nr(struct bus *b);

#endif
