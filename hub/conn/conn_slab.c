/* hub/conn/conn_slab.c - where a worker's connections live: slabs that never move, a free list, and a
 * generation a slot, so that an address of a connection that is gone finds nothing. */
#include "hub/conn/conn_impl.h"

#include <stdlib.h>

static bool grow(struct conn_worker *cw)
{
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers is meant */
    struct conn_slab **slabs = realloc(cw->slabs, (cw->slab_nr + 1) * sizeof *slabs);
    if (!slabs)
        return false;
    cw->slabs = slabs;
    struct conn_slab *slab = calloc(1, sizeof *slab);
    if (!slab)
        return false;
    slab->cw = cw;
    for (uint32_t i = CONN_SLAB; i-- > 0;) {
        struct conn *c = &slab->conns[i];
        c->slot = cw->slab_nr * CONN_SLAB + i;
        c->watch.fd = -1;
        c->next = cw->free;
        cw->free = c->slot + 1;
    }
    slabs[cw->slab_nr++] = slab;
    return true;
}

struct conn *conn_slab_get(struct conn_worker *cw)
{
    if (!cw->free && !grow(cw))
        return NULL;
    struct conn *c = conn_slab_at(cw, cw->free - 1);
    uint32_t slot = c->slot, generation = c->generation;
    cw->free = c->next;
    *c = (struct conn){ .slot = slot, .generation = generation + 1 };
    return c;
}

void conn_slab_put(struct conn *c)
{
    struct conn_worker *cw = conn_cw(c);
    c->phase = CONN_PHASE_FREE;
    c->watch.fd = -1;
    /* At the front: memory that was just used is used again first. */
    c->next = cw->free;
    cw->free = c->slot + 1;
}

struct conn *conn_slab_at(const struct conn_worker *cw, uint32_t slot)
{
    return slot / CONN_SLAB < cw->slab_nr ? &cw->slabs[slot / CONN_SLAB]->conns[slot % CONN_SLAB] : NULL;
}
