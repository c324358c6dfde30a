/* base/slab.h - memory for small things of which there are very many and that live long: packed into blocks
 * without a header each, so that they cost their own size, and so that they do not hold the pages on which
 * short-lived things lay beside them. A block goes back when its last piece does. One thread at a time. */
#ifndef ROOST_BASE_SLAB_H
#define ROOST_BASE_SLAB_H

#include "base/list.h"

#include <stddef.h>

enum {
    SLAB_STEP = 8,  /* sizes are rounded up to a multiple of it, and pieces aligned to it */
    SLAB_MAX = 256, /* larger pieces come from malloc */
    SLAB_KINDS = SLAB_MAX / SLAB_STEP
};

struct slab {                     /* the blocks of some thread; no larger than 1 KB */
    struct list room[SLAB_KINDS]; /* blocks with a free piece, by size */
    struct list full;
};

void slab_init(struct slab *s);
void slab_fini(struct slab *s);                   /* with all pieces of at most SLAB_MAX that are still out */
void *slab_get(struct slab *s, size_t n);         /* zeroed; NULL: out of memory */
void slab_put(struct slab *s, void *p, size_t n); /* n as it was asked for; p may be NULL */

#endif
