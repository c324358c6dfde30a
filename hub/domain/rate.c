/* hub/domain/rate.c - buckets in a map, ordered by their last use. */
#include "hub/domain/rate.h"

#include "base/list.h"
#include "base/map.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct bucket {
    struct list node; /* oldest use first */
    uint64_t at_ms;
    uint64_t level; /* in units of 1 / ONE request */
    bool refused;
    uint8_t source_len;
    uint8_t source[RATE_SOURCE_MAX];
};
struct rate {
    pthread_mutex_t lock;
    struct map map;
    struct list used;
    uint64_t per_minute, full;
    size_t sources_max;
};

/* Levels are kept in units of 1/60000 request: one millisecond adds per_minute of them. */
#define ONE 60000u

static struct span source_of(const void *val)
{
    const struct bucket *b = val;
    return span_of(b->source, b->source_len);
}

enum err rate_new(struct rate **out, uint32_t per_minute, uint32_t burst, size_t sources_max,
                  const uint64_t hash_key[2])
{
    struct rate *r = calloc(1, sizeof *r);
    if (!r)
        return ERR_NOMEM;
    pthread_mutex_init(&r->lock, NULL);
    map_init(&r->map, hash_key, source_of);
    list_init(&r->used);
    r->per_minute = per_minute;
    r->full = (uint64_t)(burst ? burst : 1) * ONE;
    r->sources_max = sources_max ? sources_max : 1;
    *out = r;
    return ERR_OK;
}

static void drop_oldest(struct rate *r)
{
    struct list *n = list_pop(&r->used);
    struct bucket *b = CONTAINER_OF(n, struct bucket, node);
    (void)map_del(&r->map, source_of(b));
    free(b);
}

void rate_free(struct rate *r)
{
    if (!r)
        return;
    while (!list_is_empty(&r->used))
        drop_oldest(r);
    map_fini(&r->map);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static struct bucket *bucket_of(struct rate *r, struct span source, uint64_t now_ms)
{
    struct bucket *b = map_get(&r->map, source);
    if (b) {
        list_move(&b->node, &r->used);
        return b;
    }
    if (r->map.nr >= r->sources_max)
        drop_oldest(r);
    b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->source_len = (uint8_t)source.n;
    memcpy(b->source, source.p, source.n);
    b->level = r->full;
    b->at_ms = now_ms;
    if (map_put(&r->map, b)) {
        free(b);
        return NULL;
    }
    list_push(&r->used, &b->node);
    return b;
}

static uint64_t level_at(const struct rate *r, const struct bucket *b, uint64_t now_ms)
{
    uint64_t gone = now_ms > b->at_ms ? now_ms - b->at_ms : 0;
    uint64_t room = r->full - b->level;
    uint64_t level = gone >= room / r->per_minute + 1 ? r->full : b->level + gone * r->per_minute;
    return level > r->full ? r->full : level;
}

static uint32_t wait_s(const struct rate *r, uint64_t level)
{
    uint64_t wait_ms = (ONE - level + r->per_minute - 1) / r->per_minute;
    return (uint32_t)((wait_ms + 999) / 1000);
}

struct rate_verdict rate_look(struct rate *r, struct span source, uint64_t now_ms)
{
    struct rate_verdict v = { .allowed = true };
    if (source.n > RATE_SOURCE_MAX)
        source.n = RATE_SOURCE_MAX;
    if (!r->per_minute || !source.n)
        return v;
    pthread_mutex_lock(&r->lock);
    const struct bucket *b = map_get(&r->map, source);
    uint64_t level = b ? level_at(r, b, now_ms) : r->full;
    pthread_mutex_unlock(&r->lock);
    if (level < ONE)
        v = (struct rate_verdict){ .retry_after_s = wait_s(r, level) };
    return v;
}

struct rate_verdict rate_take(struct rate *r, struct span source, uint64_t now_ms)
{
    struct rate_verdict v = { .allowed = true };
    if (source.n > RATE_SOURCE_MAX)
        source.n = RATE_SOURCE_MAX;
    if (!r->per_minute || !source.n)
        return v;
    pthread_mutex_lock(&r->lock);
    struct bucket *b = bucket_of(r, source, now_ms);
    if (!b) { /* no memory to count with: refuse, the source comes again */
        v = (struct rate_verdict){ .retry_after_s = 60 };
    } else {
        b->level = level_at(r, b, now_ms);
        b->at_ms = now_ms;
        if (b->level >= ONE) {
            b->level -= ONE;
            b->refused = false;
        } else {
            v.allowed = false;
            v.first = !b->refused;
            v.retry_after_s = wait_s(r, b->level);
            b->refused = true;
        }
    }
    pthread_mutex_unlock(&r->lock);
    return v;
}

size_t rate_sources_nr(struct rate *r)
{
    pthread_mutex_lock(&r->lock);
    size_t nr = r->map.nr;
    pthread_mutex_unlock(&r->lock);
    return nr;
}

struct span rate_source(struct span peer, char buf[RATE_SOURCE_MAX])
{
    char text[64];
    struct in6_addr six;
    size_t n = peer.n < sizeof text - 1 ? peer.n : sizeof text - 1;
    if (n)
        memcpy(text, peer.p, n);
    text[n] = 0;
    char *host = text, *colon = strchr(text, ':');
    if (text[0] == '[') {
        char *end = strchr(text, ']');
        host = text + 1;
        if (end)
            *end = 0;
    } else if (colon && !strchr(colon + 1, ':')) { /* one colon: an IPv4 address with its port */
        *colon = 0;
    }
    char *zone = strchr(host, '%');
    if (zone)
        *zone = 0;
    if (inet_pton(AF_INET6, host, &six) == 1) {
        static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
        const uint8_t *a = six.s6_addr;
        if (!memcmp(a, mapped, sizeof mapped))
            snprintf(buf, RATE_SOURCE_MAX, "%u.%u.%u.%u", a[12], a[13], a[14], a[15]);
        else
            snprintf(buf, RATE_SOURCE_MAX, "%02x%02x:%02x%02x:%02x%02x:%02x%02x::/64", a[0], a[1], a[2], a[3],
                     a[4], a[5], a[6], a[7]);
    } else {
        n = strlen(host);
        if (n >= RATE_SOURCE_MAX)
            n = RATE_SOURCE_MAX - 1;
        memcpy(buf, host, n);
        buf[n] = 0;
    }
    return span_str(buf);
}
