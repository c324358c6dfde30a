/* base/map.h - hash map from bytes to a pointer; keys are borrowed from the values. One thread.
 * The hash is keyed (SipHash-1-3) so that a peer who chooses ids cannot choose collisions. */
#ifndef ROOST_BASE_MAP_H
#define ROOST_BASE_MAP_H

#include "base/err.h"
#include "base/span.h"

struct map_slot {
    uint64_t hash; /* 0: empty, 1: deleted */
    void *val;
};
struct map {
    struct map_slot *slots; /* power of two, NULL while empty */
    size_t cap, nr, used;   /* used counts deleted ones too */
    uint64_t key[2];
    struct span (*key_of)(const void *val);
};

uint64_t map_siphash(const uint64_t key[2], struct span s);
/* key_of yields the key inside a value; the value keeps it unchanged while it is in the map. */
void map_init(struct map *m, const uint64_t key[2], struct span (*key_of)(const void *val));
void map_fini(struct map *m);
void *map_get(const struct map *m, struct span key); /* NULL: none */
/* ERR_EXISTS when the key is taken, ERR_NOMEM. */
MUST_USE enum err map_put(struct map *m, void *val);
void *map_del(struct map *m, struct span key); /* the value that was there, or NULL */
/* Walk: start with *at = 0, ends with NULL. No put or del of others meanwhile. */
void *map_next(const struct map *m, size_t *at);

#endif
