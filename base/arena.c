/* base/arena.c - a list of blocks, each filled from its front; large pieces get a block of their own. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdlib.h>

#define BLOCK_LEN 4000u

struct arena_block {
    struct arena_block *next;
    size_t used, cap;
    alignas(max_align_t) uint8_t bytes[];
};

void arena_init(struct arena *a, size_t cap)
{
    *a = (struct arena){ .left = cap };
}

void arena_fini(struct arena *a)
{
    while (a->blocks) {
        struct arena_block *b = a->blocks;
        a->blocks = b->next;
        free(b);
    }
}

void arena_reset(struct arena *a, size_t cap)
{
    struct arena_block *keep = NULL;
    while (a->blocks) {
        struct arena_block *b = a->blocks;
        a->blocks = b->next;
        if (keep || b->cap != BLOCK_LEN) {
            free(b);
            continue;
        }
        keep = b;
        memset(b->bytes, 0, b->used);
        b->used = 0;
    }
    *a = (struct arena){ .blocks = keep, .left = cap };
    if (keep)
        keep->next = NULL;
}

void *arena_alloc(struct arena *a, size_t n)
{
    struct arena_block *b = a->blocks;
    if (n > a->left || a->failed) {
        a->failed = true;
        return NULL;
    }
    n = (n + alignof(max_align_t) - 1) & ~(size_t)(alignof(max_align_t) - 1);
    if (!b || n > b->cap - b->used) {
        size_t cap = n > BLOCK_LEN ? n : BLOCK_LEN;
        b = calloc(1, sizeof *b + cap);
        if (!b) {
            a->failed = true;
            return NULL;
        }
        b->cap = cap;
        b->next = a->blocks;
        a->blocks = b;
    }
    void *p = b->bytes + b->used;
    b->used += n;
    a->left -= n < a->left ? n : a->left;
    return p;
}

struct span arena_copy(struct arena *a, struct span s)
{
    uint8_t *p = arena_alloc(a, s.n + 1);
    if (!p)
        return SPAN_NONE;
    if (s.n)
        memcpy(p, s.p, s.n);
    return span_of(p, s.n);
}

enum err arena_err(const struct arena *a)
{
    return a->failed ? ERR_NOMEM : ERR_OK;
}
