/* hub/bus/local_dir.c - the directory of local.c: open addressing, linear, no marks of the deleted. */
#include "hub/bus/local_dir.h"

#include <stdlib.h>

/* Any capacity will do, not only a power of two: the table grows by half and stays well filled. */
static size_t home_of(uint64_t h, size_t cap)
{
    return (size_t)((h >> 32) * cap >> 32);
}

struct entry *shard_find(struct shard *s, uint64_t h)
{
    if (!s->cap)
        return NULL;
    for (size_t i = home_of(h, s->cap);; i = i + 1 == s->cap ? 0 : i + 1) {
        uint64_t at = entry_hash(&s->slots[i]);
        if (!at)
            return NULL;
        if (at == h)
            return &s->slots[i];
    }
}

struct entry *shard_place(struct shard *s, struct entry e)
{
    size_t i = home_of(entry_hash(&e), s->cap);
    while (entry_hash(&s->slots[i]))
        i = i + 1 == s->cap ? 0 : i + 1;
    s->slots[i] = e;
    return &s->slots[i];
}

enum err shard_resize(struct shard *s, size_t cap)
{
    struct shard old = *s;
    struct entry *fresh = calloc(cap, sizeof *fresh);
    if (!fresh)
        return ERR_NOMEM;
    s->slots = fresh;
    s->cap = cap;
    s->rebuilt++;
    for (size_t i = 0; i < old.cap; i++)
        if (entry_hash(&old.slots[i]))
            shard_place(s, old.slots[i]);
    free(old.slots);
    return ERR_OK;
}

/* Takes slot i out and closes the gap, so that no mark of a deleted entry has to stay. */
void shard_erase(struct shard *s, size_t i)
{
    for (size_t j = i;;) {
        j = j + 1 == s->cap ? 0 : j + 1;
        uint64_t h = entry_hash(&s->slots[j]);
        if (!h)
            break;
        size_t home = home_of(h, s->cap);
        /* The entry at j may move to i unless its home lies behind i on the way to j. */
        if (i <= j ? (i < home && home <= j) : (i < home || home <= j))
            continue;
        s->slots[i] = s->slots[j];
        i = j;
    }
    s->slots[i] = (struct entry){ 0 };
    s->nr--;
}
