/* hub/domain/access/access_cache.c - what is known of identities and policies, and of the authorities, kept
 * so that a storm of connects or requests does not read the store each time. */
#include "hub/domain/access/access_impl.h"

#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/slab.h"

#include <pthread.h>
#include <stdlib.h>

#define SHARDS 16u

/* ---- credentials ------------------------------------------------------------------------------------- */

static const uint8_t field_at[CRED_FIELDS] = { 0, DEVICE_KEY_MAX, 2 * DEVICE_KEY_MAX,
                                               2 * DEVICE_KEY_MAX + CRED_THUMB_MAX,
                                               2 * DEVICE_KEY_MAX + 2 * CRED_THUMB_MAX };
static const uint8_t field_cap[CRED_FIELDS] = { DEVICE_KEY_MAX, DEVICE_KEY_MAX, CRED_THUMB_MAX,
                                                CRED_THUMB_MAX, ACCESS_GENERATION_MAX };
static_assert(CRED_BYTES <= UINT8_MAX + 1, "field_at");

struct span cred_field(const struct cred *c, enum cred_field f)
{
    return span_of(c->bytes + field_at[f], c->head.len[f]);
}

bool cred_set(struct cred *c, enum cred_field f, struct span s)
{
    if (s.n > field_cap[f])
        return false;
    if (s.n)
        memcpy(c->bytes + field_at[f], s.p, s.n);
    c->head.len[f] = (uint8_t)s.n;
    return true;
}

struct entry { /* on shard.lru; text: name, then the fields of its credentials */
    struct list node;
    struct cred_head head;
    uint16_t name_len;
    uint8_t text[];
};
struct shard {
    pthread_mutex_t lock;
    struct map map;
    struct list lru;  /* oldest use first */
    struct slab slab; /* where entries lie */
    uint64_t epoch;   /* raised by every forget: a row read before it must not enter the cache after it */
};
struct access {
    size_t shard_max;
    uint64_t key[2];
    struct shard shards[SHARDS];
    pthread_mutex_t roots_lock;
    struct certificate_roots *roots; /* NULL: not read yet, or forgotten */
    uint64_t roots_epoch;            /* as shard.epoch */
};

uint64_t access_proof(const struct access *a, struct span credential)
{
    uint64_t h = map_siphash(a->key, credential);
    return h ? h : 1;
}

/* ---- the cache -------------------------------------------------------------------------------------- */

static struct span entry_name(const void *val)
{
    const struct entry *e = val;
    return span_of(e->text, e->name_len);
}

static size_t entry_text_len(const struct entry *e)
{
    size_t n = e->name_len;
    for (unsigned f = 0; f < CRED_FIELDS; f++)
        n += e->head.len[f];
    return n;
}

static void entry_free(struct shard *s, struct entry *e)
{
    size_t n = entry_text_len(e);
    explicit_bzero(e->text, n); /* keys do not linger in free memory */
    slab_put(&s->slab, e, offsetof(struct entry, text) + n);
}

enum err access_new(struct access **out, const struct crypto_ops *crypto, size_t entries_max)
{
    struct access *a = calloc(1, sizeof *a);
    if (!a)
        return ERR_NOMEM;
    crypto->random((uint8_t *)a->key, sizeof a->key);
    a->shard_max = entries_max / SHARDS ? entries_max / SHARDS : 1;
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&a->shards[i].lock, NULL);
        map_init(&a->shards[i].map, a->key, entry_name);
        list_init(&a->shards[i].lru);
        slab_init(&a->shards[i].slab);
    }
    pthread_mutex_init(&a->roots_lock, NULL);
    *out = a;
    return ERR_OK;
}

void access_free(struct access *a)
{
    if (!a)
        return;
    for (unsigned i = 0; i < SHARDS; i++) {
        struct entry *e;
        for (size_t at = 0; (e = map_next(&a->shards[i].map, &at));)
            entry_free(&a->shards[i], e);
        map_fini(&a->shards[i].map);
        slab_fini(&a->shards[i].slab);
        pthread_mutex_destroy(&a->shards[i].lock);
    }
    certificate_roots_unref(a->roots);
    pthread_mutex_destroy(&a->roots_lock);
    free(a);
}

static struct shard *shard_of(struct access *a, struct span name)
{
    return &a->shards[map_siphash(a->key, name) % SHARDS];
}

bool access_cache_get(struct access *a, struct span name, struct cred *out, uint64_t *epoch)
{
    struct shard *s = shard_of(a, name);
    pthread_mutex_lock(&s->lock);
    struct entry *e = map_get(&s->map, name);
    *epoch = s->epoch;
    if (e) {
        struct rd r = rd_of(span_of(e->text + e->name_len, entry_text_len(e) - e->name_len));
        *out = (struct cred){ .head = e->head };
        for (unsigned f = 0; f < CRED_FIELDS; f++)
            (void)cred_set(out, f, rd_take(&r, e->head.len[f]));
        list_move(&e->node, &s->lru);
    }
    pthread_mutex_unlock(&s->lock);
    return e != NULL;
}

static void shard_drop(struct shard *s, struct span name)
{
    struct entry *e = map_del(&s->map, name);
    if (e) {
        list_del(&e->node);
        entry_free(s, e);
    }
}

static void shard_put(struct shard *s, struct span name, const struct cred *c)
{
    struct entry head = { .head = c->head, .name_len = (uint16_t)name.n };
    size_t n = entry_text_len(&head);
    struct entry *e = slab_get(&s->slab, offsetof(struct entry, text) + n);
    if (!e) /* then it is read again next time */
        return;
    e->head = head.head;
    e->name_len = head.name_len;
    struct wr w = { e->text, n, 0 };
    wr_put(&w, name);
    for (unsigned f = 0; f < CRED_FIELDS; f++)
        wr_put(&w, cred_field(c, f));
    if (map_put(&s->map, e))
        entry_free(s, e);
    else
        list_push(&s->lru, &e->node);
}

void access_cache_put(struct access *a, struct span name, const struct cred *c, uint64_t epoch)
{
    struct shard *s = shard_of(a, name);
    pthread_mutex_lock(&s->lock);
    if (s->epoch == epoch) {
        shard_drop(s, name);
        if (s->map.nr >= a->shard_max)
            shard_drop(s, entry_name(CONTAINER_OF(s->lru.next, struct entry, node)));
        shard_put(s, name, c);
    }
    pthread_mutex_unlock(&s->lock);
}

struct span access_cache_name(uint8_t buf[ACCESS_NAME_MAX], char kind, struct span name)
{
    struct wr w = { buf, ACCESS_NAME_MAX, 0 };
    wr_u8(&w, (uint8_t)kind);
    wr_put(&w, name);
    return wr_span(&w);
}

static void forget(struct access *a, char kind, struct span what)
{
    uint8_t buf[ACCESS_NAME_MAX];
    struct span name = access_cache_name(buf, kind, what);
    struct shard *s = shard_of(a, name);
    pthread_mutex_lock(&s->lock);
    s->epoch++;
    shard_drop(s, name);
    pthread_mutex_unlock(&s->lock);
}

void access_forget(struct access *a, struct span identity)
{
    forget(a, 'd', identity);
}
void access_forget_policy(struct access *a, struct span name)
{
    forget(a, 'p', name);
}

uint64_t access_cache_epoch(struct access *a, struct span name)
{
    struct shard *s = shard_of(a, name);
    pthread_mutex_lock(&s->lock);
    uint64_t epoch = s->epoch;
    pthread_mutex_unlock(&s->lock);
    return epoch;
}

/* ---- authorities ------------------------------------------------------------------------------------- */

void access_forget_authorities(struct access *a)
{
    pthread_mutex_lock(&a->roots_lock);
    struct certificate_roots *old = a->roots;
    a->roots = NULL;
    a->roots_epoch++;
    pthread_mutex_unlock(&a->roots_lock);
    certificate_roots_unref(old);
}

static enum err root_add(void *ctx, const struct ca_row *r)
{
    enum err e = certificate_roots_add(ctx, r->der);
    if (e == ERR_PROTO) { /* was checked when it was registered */
        log_error("access.ca", "name=%.*s: cannot be parsed", (int)r->name.n, (const char *)r->name.p);
        e = ERR_OK;
    }
    return e;
}

uint64_t access_roots_epoch(struct access *a)
{
    pthread_mutex_lock(&a->roots_lock);
    uint64_t epoch = a->roots_epoch;
    pthread_mutex_unlock(&a->roots_lock);
    return epoch;
}

enum err access_roots_get(struct access *a, struct store_tx *tx, uint64_t epoch,
                          struct certificate_roots **out)
{
    pthread_mutex_lock(&a->roots_lock);
    struct certificate_roots *r = a->roots ? certificate_roots_ref(a->roots) : NULL;
    pthread_mutex_unlock(&a->roots_lock);
    *out = r;
    if (r)
        return ERR_OK;
    enum err e = certificate_roots_new(&r);
    if (!e)
        e = tx_ca_list(tx, root_add, r);
    if (e) {
        certificate_roots_unref(r);
        return e;
    }
    /* This snapshot may be older than the last forget, of which it then knows nothing: it is not kept. */
    pthread_mutex_lock(&a->roots_lock);
    if (a->roots_epoch == epoch && !a->roots)
        a->roots = certificate_roots_ref(r);
    pthread_mutex_unlock(&a->roots_lock);
    *out = r;
    return ERR_OK;
}
