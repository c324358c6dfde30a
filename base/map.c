/* base/map.c - open addressing with linear probing over a SipHash-1-3 (Aumasson and Bernstein, 2012). */
#include "base/map.h"

#include <stdlib.h>

static uint64_t rotl(uint64_t v, int b)
{
    return v << b | v >> (64 - b);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

uint64_t map_siphash(const uint64_t key[2], struct span s)
{
    uint64_t v[4] = { key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                      key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u };
    uint64_t tail = (uint64_t)s.n << 56;
    size_t i = 0;
    for (; i + 8 <= s.n; i += 8) {
        uint64_t m;
        memcpy(&m, s.p + i, 8);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    for (size_t k = 0; i < s.n; i++, k++)
        tail |= (uint64_t)s.p[i] << (8 * k);
    v[3] ^= tail;
    sip_round(v);
    v[0] ^= tail;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t hash_of(const struct map *m, struct span key)
{
    uint64_t h = map_siphash(m->key, key);
    return h < 2 ? h + 2 : h; /* 0 and 1 mark slots */
}

void map_init(struct map *m, const uint64_t key[2], struct span (*key_of)(const void *val))
{
    *m = (struct map){ .key = { key[0], key[1] }, .key_of = key_of };
}

void map_fini(struct map *m)
{
    free(m->slots);
    m->slots = NULL;
    m->cap = m->nr = m->used = 0;
}

static struct map_slot *find(const struct map *m, struct span key, uint64_t h)
{
    if (!m->cap)
        return NULL;
    for (size_t i = h & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *s = &m->slots[i];
        if (!s->hash)
            return NULL;
        if (s->hash == h && span_eq(m->key_of(s->val), key))
            return s;
    }
}

void *map_get(const struct map *m, struct span key)
{
    struct map_slot *s = find(m, key, hash_of(m, key));
    return s ? s->val : NULL;
}

static void place(struct map *m, uint64_t h, void *val)
{
    size_t i = h & (m->cap - 1);
    while (m->slots[i].hash > 1)
        i = (i + 1) & (m->cap - 1);
    if (!m->slots[i].hash)
        m->used++;
    m->slots[i] = (struct map_slot){ h, val };
}

/* Keeps the table at most three quarters used; deleted slots vanish on the way. */
static enum err make_room(struct map *m)
{
    if (m->cap && (m->used + 1) * 4 <= m->cap * 3)
        return ERR_OK;
    size_t cap = 16;
    while ((m->nr + 1) * 2 > cap)
        cap *= 2;
    struct map old = *m;
    m->slots = calloc(cap, sizeof *m->slots);
    if (!m->slots) {
        m->slots = old.slots;
        return ERR_NOMEM;
    }
    m->cap = cap;
    m->used = 0;
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].hash > 1)
            place(m, old.slots[i].hash, old.slots[i].val);
    free(old.slots);
    return ERR_OK;
}

enum err map_put(struct map *m, void *val)
{
    struct span key = m->key_of(val);
    uint64_t h = hash_of(m, key);
    if (find(m, key, h))
        return ERR_EXISTS;
    enum err e = make_room(m);
    if (e)
        return e;
    place(m, h, val);
    m->nr++;
    return ERR_OK;
}

void *map_del(struct map *m, struct span key)
{
    struct map_slot *s = find(m, key, hash_of(m, key));
    if (!s)
        return NULL;
    void *val = s->val;
    *s = (struct map_slot){ 1, NULL };
    m->nr--;
    return val;
}

void *map_next(const struct map *m, size_t *at)
{
    while (*at < m->cap) {
        struct map_slot *s = &m->slots[(*at)++];
        if (s->hash > 1)
            return s->val;
    }
    return NULL;
}
