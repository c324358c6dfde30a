/* hub/bus/bus.c - hands each call to the backend. */
#include "hub/bus/bus_backend.h"

#include <stdlib.h>

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

bool bus_is_at(struct bus *b, struct span identity, struct bus_addr addr)
{
    return b->ops->is_at(b, identity, addr);
}

uint64_t bus_attached_nr(struct bus *b)
{
    return b->ops->attached_nr(b);
}

void bus_on_messages(struct bus *b, unsigned worker, bus_on_message *fn)
{
    b->ops->on_messages(b, worker, fn);
}

enum err bus_post(struct bus *b, struct span identity, uint32_t kind, struct span bytes)
{
    return b->ops->post(b, identity, kind, bytes);
}

void bus_call_start(struct bus *b, struct bus_call *call, struct span identity, uint32_t kind,
                    struct span bytes)
{
    b->ops->call(b, call, identity, kind, bytes);
}

void bus_call_end(struct bus *b, struct bus_call *call, enum err err)
{
    b->ops->call_end(b, call, err);
}

void bus_call_fini(struct bus_call *call)
{
    free(call->memory);
    call->memory = NULL;
    call->answer = SPAN_NONE;
}

void bus_answer(struct bus *b, struct bus_reply to, enum err err, struct span bytes)
{
    b->ops->answer(b, to, err, bytes);
}

void bus_wait_start(struct bus *b, struct bus_wait *w, struct span identity)
{
    b->ops->wait(b, w, identity);
}

void bus_wait_end(struct bus *b, struct bus_wait *w, enum err err)
{
    b->ops->wait_end(b, w, err);
}

void bus_announce(struct bus *b, struct span identity)
{
    b->ops->announce(b, identity);
}

void bus_stop(struct bus *b)
{
    b->ops->stop(b);
}
