/* hub/bus/bus_backend.h - the table behind bus.h. To add a backend: begin its structure with struct bus, fill
 * struct bus_ops, write a bus_NAME_new(), and pass bus_suite(). What the calls promise is said in bus.h. */
#ifndef ROOST_HUB_BUS_BUS_BACKEND_H
#define ROOST_HUB_BUS_BUS_BACKEND_H

#include "hub/bus/bus.h"

struct bus_ops {
    void (*free)(struct bus *b);
    void (*reg)(struct bus *b, unsigned worker, struct mailbox *mail, bus_on_wake *fn, void *ctx);
    enum err (*attach)(struct bus *b, struct span identity, struct bus_addr addr);
    void (*detach)(struct bus *b, struct span identity, struct bus_addr addr);
    bool (*wake)(struct bus *b, struct span identity, uint32_t what);
    void (*on_messages)(struct bus *b, unsigned worker, bus_on_message *fn);
    enum err (*post)(struct bus *b, struct span identity, uint32_t kind, struct span bytes);
    void (*call)(struct bus *b, struct bus_call *call, struct span identity, uint32_t kind,
                 struct span bytes);
    void (*call_end)(struct bus *b, struct bus_call *call, enum err err);
    void (*answer)(struct bus *b, struct bus_reply to, enum err err, struct span bytes);
    void (*wait)(struct bus *b, struct bus_wait *w, struct span identity);
    void (*wait_end)(struct bus *b, struct bus_wait *w, enum err err);
    void (*announce)(struct bus *b, struct span identity);
    void (*stop)(struct bus *b);
    void (*wake_all)(struct bus *b, uint32_t what);
    bool (*is_attached)(struct bus *b, struct span identity);
    bool (*is_at)(struct bus *b, struct span identity, struct bus_addr addr);
    uint64_t (*attached_nr)(struct bus *b);
};
struct bus {
    const struct bus_ops *ops;
};

#endif
