/* base/arena.h - memory that is given back all at once: what one request copies and builds.
 * The first failed allocation sets `failed`; from then on it yields NULL and empty spans, and the caller
 * asks once, at the end. One thread at a time. */
#ifndef ROOST_BASE_ARENA_H
#define ROOST_BASE_ARENA_H

#include "base/err.h"
#include "base/span.h"

struct arena_block;
struct arena {
    struct arena_block *blocks; /* newest first */
    size_t left;                /* bytes that may still be asked for */
    bool failed;
};

void arena_init(struct arena *a, size_t cap);
void arena_fini(struct arena *a); /* accepts one of zeros */
/* Empties it for the next of many of its kind; what it keeps is one block. cap as for arena_init. */
void arena_reset(struct arena *a, size_t cap);
/* Zeroed, aligned for any type; NULL: out of memory or over the cap. */
void *arena_alloc(struct arena *a, size_t n);
struct span arena_copy(struct arena *a, struct span s); /* followed by a zero byte */
/* ERR_OK, or ERR_NOMEM once an allocation has failed. */
MUST_USE enum err arena_err(const struct arena *a);

#endif
