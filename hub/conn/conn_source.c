/* hub/conn/conn_source.c - connections per source address, over all workers: maps of counters, each with a
 * lock that is held for a look-up only. */
#include "base/map.h"
#include "hub/conn/conn_impl.h"

#include <stdlib.h>
#include <sys/random.h>

struct source_table {
    struct source_shard {
        pthread_mutex_t lock;
        struct map map; /* of struct source */
    } shards[SOURCE_SHARDS];
};

static struct span key_of(const void *val)
{
    return span_of(((const struct source *)val)->key, sizeof((const struct source *)val)->key);
}

enum err source_table_new(struct source_table **out)
{
    struct source_table *t = calloc(1, sizeof *t);
    uint64_t key[2];
    if (!t)
        return ERR_NOMEM;
    if (getrandom(key, sizeof key, 0) != sizeof key) {
        free(t);
        return ERR_IO;
    }
    for (unsigned i = 0; i < SOURCE_SHARDS; i++) {
        pthread_mutex_init(&t->shards[i].lock, NULL);
        map_init(&t->shards[i].map, key, key_of);
    }
    *out = t;
    return ERR_OK;
}

void source_table_free(struct source_table *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < SOURCE_SHARDS; i++) {
        size_t at = 0;
        void *s;
        while ((s = map_next(&t->shards[i].map, &at)))
            free(s);
        map_fini(&t->shards[i].map);
        pthread_mutex_destroy(&t->shards[i].lock);
    }
    free(t);
}

static struct source_shard *shard_of(struct source_table *t, const uint8_t key[16])
{
    uint8_t x = 0;
    for (unsigned i = 0; i < 16; i++)
        x = (uint8_t)(x * 31 + key[i]);
    return &t->shards[x % SOURCE_SHARDS];
}

enum err source_take(struct source_table *t, const uint8_t key[16], uint32_t max, struct source **out)
{
    struct source_shard *h = shard_of(t, key);
    enum err e = ERR_OK;
    pthread_mutex_lock(&h->lock);
    struct source *s = map_get(&h->map, span_of(key, 16));
    if (s && s->nr >= max) {
        e = ERR_LIMIT;
    } else if (s) {
        s->nr++;
    } else if (!(s = malloc(sizeof *s))) {
        e = ERR_NOMEM;
    } else {
        memcpy(s->key, key, 16);
        s->nr = 1;
        e = map_put(&h->map, s);
        if (e)
            free(s);
    }
    pthread_mutex_unlock(&h->lock);
    if (!e)
        *out = s;
    return e;
}

void source_give_back(struct source_table *t, struct source *s)
{
    struct source_shard *h = shard_of(t, s->key);
    pthread_mutex_lock(&h->lock);
    if (--s->nr == 0) {
        map_del(&h->map, key_of(s));
        free(s);
    }
    pthread_mutex_unlock(&h->lock);
}
