/* base/slab.c - blocks lie at multiples of their size, so that a piece finds its block by its address. A
 * piece that was never used is not touched before it is needed. */
#include "base/slab.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum {
    BLOCK = 65536,
    BLOCK_USED =
        BLOCK - 64 /* the rest is for the header of the allocator: blocks follow each other closely */
};

struct piece { /* a free one */
    struct piece *next;
};
struct block {
    struct list node;   /* on room[kind] or full */
    struct piece *free; /* given back */
    uint32_t fresh;     /* offset of the first that was never used */
    uint32_t nr;        /* pieces that are out */
};

static size_t kind_of(size_t n)
{
    return n ? (n - 1) / SLAB_STEP : 0;
}

static size_t size_of(size_t kind)
{
    return (kind + 1) * SLAB_STEP;
}

void slab_init(struct slab *s)
{
    for (size_t i = 0; i < SLAB_KINDS; i++)
        list_init(&s->room[i]);
    list_init(&s->full);
}

static void free_all(struct list *blocks)
{
    struct list *n;
    while ((n = list_pop(blocks))) {
        ASAN_UNPOISON_MEMORY_REGION(n, BLOCK_USED);
        free(CONTAINER_OF(n, struct block, node));
    }
}

void slab_fini(struct slab *s)
{
    for (size_t i = 0; i < SLAB_KINDS; i++)
        free_all(&s->room[i]);
    free_all(&s->full);
}

static struct block *block_new(struct list *room)
{
    void *p;
    if (posix_memalign(&p, BLOCK, BLOCK_USED))
        return NULL;
    struct block *b = p;
    *b = (struct block){ .fresh = sizeof *b };
    ASAN_POISON_MEMORY_REGION((uint8_t *)p + sizeof *b, BLOCK_USED - sizeof *b);
    list_push(room, &b->node);
    return b;
}

static bool is_full(const struct block *b, size_t size)
{
    return !b->free && b->fresh + size > BLOCK_USED;
}

void *slab_get(struct slab *s, size_t n)
{
    if (n > SLAB_MAX)
        return calloc(1, n);
    size_t kind = kind_of(n), size = size_of(kind);
    struct list *room = &s->room[kind];
    struct block *b = list_is_empty(room) ? block_new(room) : CONTAINER_OF(room->next, struct block, node);
    if (!b)
        return NULL;
    void *p = b->free;
    if (p) {
        ASAN_UNPOISON_MEMORY_REGION(p, size);
        b->free = b->free->next;
    } else {
        p = (uint8_t *)b + b->fresh;
        ASAN_UNPOISON_MEMORY_REGION(p, size);
        b->fresh += (uint32_t)size;
    }
    b->nr++;
    if (is_full(b, size))
        list_move(&b->node, &s->full);
    return memset(p, 0, size);
}

void slab_put(struct slab *s, void *p, size_t n)
{
    if (n > SLAB_MAX || !p) {
        free(p);
        return;
    }
    size_t kind = kind_of(n), size = size_of(kind);
    struct list *room = &s->room[kind];
    struct block *b = (struct block *)(void *)((uint8_t *)p - ((uintptr_t)p & (BLOCK - 1)));
    bool was_full = is_full(b, size);
    struct piece *f = p;
    assert(b->nr && b->fresh <= BLOCK_USED);
    f->next = b->free;
    b->free = f;
    ASAN_POISON_MEMORY_REGION(p, size);
    if (was_full)
        list_move(&b->node, room);
    /* One empty block stays, or a piece that comes and goes would take a block with it each time. */
    if (--b->nr == 0 && room->next != room->prev) {
        list_del(&b->node);
        ASAN_UNPOISON_MEMORY_REGION(b, BLOCK_USED);
        free(b);
    }
}
