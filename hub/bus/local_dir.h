/* hub/bus/local_dir.h - one shard of the directory of a node: where each connected identity is. Its owner
 * locks.
 *
 * An entry is 20 bytes: a keyed 64-bit hash of the identity instead of the identity, and an address. Two
 * identities with one hash (1 in 10^7 for a fleet of a million) would take each other over. */
#ifndef ROOST_HUB_BUS_LOCAL_DIR_H
#define ROOST_HUB_BUS_LOCAL_DIR_H

#include "hub/bus/bus.h"

#include <pthread.h>

#define CAP_MIN 16u

struct entry {
    uint32_t hash_lo, hash_hi; /* both 0: free */
    uint32_t slot, generation;
    uint16_t node;
    uint16_t worker : 12, pending : 4; /* enum bus_wake */
};
_Static_assert(sizeof(struct entry) == 20, "one for every connected device");

struct shard {
    pthread_mutex_t lock;
    struct entry *slots;
    size_t cap, nr;
    unsigned rebuilt; /* times that slots moved: a walk begins anew */
};

static inline uint64_t entry_hash(const struct entry *e)
{
    return (uint64_t)e->hash_hi << 32 | e->hash_lo;
}

static inline struct bus_addr entry_addr(const struct entry *e)
{
    return (struct bus_addr){ e->node, e->worker, e->slot, e->generation };
}

static inline bool addr_eq(struct bus_addr a, struct bus_addr b)
{
    return a.node == b.node && a.worker == b.worker && a.slot == b.slot && a.generation == b.generation;
}

struct entry *shard_find(struct shard *s, uint64_t h); /* NULL: not there */
/* There is room for it, and it is not there yet. */
struct entry *shard_place(struct shard *s, struct entry e);
MUST_USE enum err shard_resize(struct shard *s, size_t cap);
/* Takes slot i out and closes the gap, so that no mark of a deleted entry has to stay. */
void shard_erase(struct shard *s, size_t i);

#endif
