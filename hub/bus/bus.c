/* hub/bus/bus.c - hands each call to the backend. */
#include "hub/bus/bus_backend.h"

void bus_free(struct bus *b)
{
    if (b)
        b->ops->free(b);
}

void bus_register(struct bus *b, unsigned worker, struct mailbox *mail, bus_on_wake *fn, void *ctx)
{
    b->ops->reg(b, worker, mail, fn, ctx);
}

enum err bus_attach(struct bus *b, struct span identity, struct bus_addr addr)
{
    return b->ops->attach(b, identity, addr);
}

void bus_detach(struct bus *b, struct span identity, struct bus_addr addr)
{
    b->ops->detach(b, identity, addr);
}

bool bus_wake(struct bus *b, struct span identity, uint32_t what)
{
    return b->ops->wake(b, identity, what);
}

void bus_wake_all(struct bus *b, uint32_t what)
{
    b->ops->wake_all(b, what);
}

bool bus_is_attached(struct bus *b, struct span identity)
{
    return b->ops->is_attached(b, identity);
}

uint64_t bus_attached_nr(struct bus *b)
{
    return b->ops->attached_nr(b);
}
