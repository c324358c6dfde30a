/* hub/conn/conn_slab.c - where a worker's connections live: slabs that never move, a free list, and a
 * generation a slot, so that an address of a connection that is gone finds nothing. */
#include "hub/conn/conn_impl.h"

#include <stdlib.h>

static bool grow(struct conn_worker *cw)
{
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers is meant */
    struct conn **slabs = realloc(cw->slabs, (cw->slab_nr + 1) * sizeof *slabs);
    if (!slabs)
        return false;
    cw->slabs = slabs;
    struct conn *slab = calloc(CONN_SLAB, sizeof *slab);
    if (!slab)
        return false;
    for (uint32_t i = 0; i < CONN_SLAB; i++) {
        slab[i].slot = cw->slab_nr * CONN_SLAB + i;
        slab[i].watch.fd = -1;
        list_push(&cw->free, &slab[i].node);
    }
    slabs[cw->slab_nr++] = slab;
    return true;
}

struct conn *conn_slab_get(struct conn_worker *cw)
{
    if (list_is_empty(&cw->free) && !grow(cw))
        return NULL;
    struct conn *c = CONTAINER_OF(list_pop(&cw->free), struct conn, node);
    uint32_t slot = c->slot, generation = c->generation;
    *c = (struct conn){ .slot = slot, .generation = generation + 1, .cw = cw };
    list_init(&c->node);
    return c;
}

void conn_slab_put(struct conn *c)
{
    struct conn_worker *cw = c->cw;
    c->phase = CONN_PHASE_FREE;
    c->watch.fd = -1;
    /* At the front: memory that was just used is used again first. */
    list_push(cw->free.next, &c->node);
}

struct conn *conn_slab_at(const struct conn_worker *cw, uint32_t slot)
{
    return slot / CONN_SLAB < cw->slab_nr ? &cw->slabs[slot / CONN_SLAB][slot % CONN_SLAB] : NULL;
}
