/* hub/bus/local.c - the bus of one node: a directory in shards, and a queue of wake-ups for each worker.
 *
 * A directory entry is 20 bytes: a keyed 64-bit hash of the identity instead of the identity, and an address.
 * Two identities with one hash (1 in 10^7 for a fleet of a million) would take each other over; a wake-up
 * never carries anything of a device, so nothing could reach the wrong one.
 * An entry remembers what its session has been woken for and not yet seen: a session that is woken a thousand
 * times is queued once. */
#include "base/log.h"
#include "base/map.h"
#include "hub/bus/bus_backend.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#define SHARDS      64u
#define CAP_MIN     16u
#define WORKERS_MAX 4096u /* 12 bits of an entry */
#define WALK_NR     256u  /* sessions told in one go of a wake-up for all */

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

struct wake {
    uint64_t hash; /* 0: its entry is gone already (a takeover) */
    struct bus_addr to;
    uint32_t what;
};
struct queue {    /* of one worker */
    struct op op; /* posted to its mailbox while anything waits */
    struct bus_local *bus;
    pthread_mutex_t lock;
    struct mailbox *mail;
    bus_on_wake *fn;
    void *ctx;
    unsigned worker;
    bool posted;
    struct wake *list;
    size_t nr, cap;
    uint32_t all;       /* every session is to be woken for this */
    uint32_t walk_what; /* the walk that is under way, and where it stands: the worker's own */
    size_t walk_shard, walk_at;
    unsigned walk_rebuilt;
};

struct bus_local {
    struct bus base;
    uint64_t key[2];
    unsigned workers;
    _Atomic uint64_t nr;
    struct shard shards[SHARDS];
    struct queue queues[];
};

/* ---- directory ------------------------------------------------------------------------------------- */

static uint64_t hash_of(const struct bus_local *b, struct span identity)
{
    uint64_t h = map_siphash(b->key, identity);
    return h ? h : 1;
}

static struct shard *shard_of(struct bus_local *b, uint64_t h)
{
    return &b->shards[h % SHARDS];
}

static uint64_t entry_hash(const struct entry *e)
{
    return (uint64_t)e->hash_hi << 32 | e->hash_lo;
}

static struct bus_addr entry_addr(const struct entry *e)
{
    return (struct bus_addr){ e->node, e->worker, e->slot, e->generation };
}

static bool addr_eq(struct bus_addr a, struct bus_addr b)
{
    return a.node == b.node && a.worker == b.worker && a.slot == b.slot && a.generation == b.generation;
}

/* Any capacity will do, not only a power of two: the table grows by half and stays well filled. */
static size_t home_of(uint64_t h, size_t cap)
{
    return (size_t)((h >> 32) * cap >> 32);
}

static struct entry *find(struct shard *s, uint64_t h)
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

static struct entry *place(struct shard *s, struct entry e)
{
    size_t i = home_of(entry_hash(&e), s->cap);
    while (entry_hash(&s->slots[i]))
        i = i + 1 == s->cap ? 0 : i + 1;
    s->slots[i] = e;
    return &s->slots[i];
}

static enum err resize(struct shard *s, size_t cap)
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
            place(s, old.slots[i]);
    free(old.slots);
    return ERR_OK;
}

/* Takes slot i out and closes the gap, so that no mark of a deleted entry has to stay. */
static void erase(struct shard *s, size_t i)
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

/* ---- queues ---------------------------------------------------------------------------------------- */

/* Makes room for one more, so that the push that follows cannot fail. Holds q->lock. */
static bool queue_reserve(struct queue *q)
{
    if (q->nr < q->cap)
        return true;
    size_t cap = q->cap ? q->cap * 2 : 64;
    struct wake *list = realloc(q->list, cap * sizeof *list);
    if (!list)
        return false;
    q->list = list;
    q->cap = cap;
    return true;
}

static void queue_post(struct queue *q)
{
    if (q->posted || !q->mail)
        return;
    q->posted = true;
    mailbox_post(q->mail, &q->op);
}

static void queue_push(struct bus_local *b, uint64_t h, struct bus_addr to, uint32_t what)
{
    struct queue *q = &b->queues[to.worker];
    pthread_mutex_lock(&q->lock);
    if (queue_reserve(q))
        q->list[q->nr++] = (struct wake){ h, to, what };
    else
        q->all |= what; /* out of memory: all are asked to look, which needs none */
    queue_post(q);
    pthread_mutex_unlock(&q->lock);
}

/* Some more sessions of a wake-up for all. False: the walk is over. */
static bool walk(struct queue *q)
{
    struct bus_addr to[WALK_NR];
    size_t nr = 0;
    struct shard *s = &q->bus->shards[q->walk_shard];
    pthread_mutex_lock(&s->lock);
    if (q->walk_rebuilt != s->rebuilt) { /* some are told twice, which does no harm */
        q->walk_rebuilt = s->rebuilt;
        q->walk_at = 0;
    }
    while (q->walk_at < s->cap && nr < WALK_NR) {
        struct entry *e = &s->slots[q->walk_at++];
        if (entry_hash(e) && e->worker == q->worker) {
            to[nr++] = entry_addr(e);
            e->pending &= (uint16_t)(~q->walk_what & 0xf); /* of one that found no room in the queue, too */
        }
    }
    bool done = q->walk_at >= s->cap;
    pthread_mutex_unlock(&s->lock);
    if (done) {
        q->walk_shard++;
        q->walk_at = 0;
        if (q->walk_shard < SHARDS) {
            struct shard *next = &q->bus->shards[q->walk_shard];
            pthread_mutex_lock(&next->lock);
            q->walk_rebuilt = next->rebuilt;
            pthread_mutex_unlock(&next->lock);
        }
    }
    for (size_t i = 0; i < nr; i++)
        q->fn(q->ctx, to[i], q->walk_what);
    return q->walk_shard < SHARDS;
}

/* On the worker's thread: the mailbox brought the queue's op. */
static void on_op(struct op *op)
{
    struct queue *q = (struct queue *)op;
    struct bus_local *b = q->bus;
    pthread_mutex_lock(&q->lock);
    struct wake *list = q->list;
    size_t nr = q->nr;
    q->list = NULL;
    q->nr = q->cap = 0;
    if (q->all) { /* also when a walk is under way: it begins anew for both */
        q->walk_what |= q->all;
        q->all = 0;
        q->walk_shard = q->walk_at = 0;
    }
    q->posted = false;
    pthread_mutex_unlock(&q->lock);

    for (size_t i = 0; i < nr; i++) {
        struct wake *w = &list[i];
        if (w->hash) {
            struct shard *s = shard_of(b, w->hash);
            pthread_mutex_lock(&s->lock);
            struct entry *e = find(s, w->hash);
            if (e && addr_eq(entry_addr(e), w->to)) {
                w->what |= e->pending;
                e->pending = 0;
            }
            pthread_mutex_unlock(&s->lock);
        }
        q->fn(q->ctx, w->to, w->what);
    }
    free(list);
    if (!q->walk_what)
        return;
    if (!walk(q))
        q->walk_what = 0;
    else {
        pthread_mutex_lock(&q->lock);
        queue_post(q); /* the worker serves its connections in between */
        pthread_mutex_unlock(&q->lock);
    }
}

/* ---- the table ------------------------------------------------------------------------------------- */

static void local_free(struct bus *base)
{
    struct bus_local *b = (struct bus_local *)base;
    for (size_t i = 0; i < SHARDS; i++) {
        free(b->shards[i].slots);
        pthread_mutex_destroy(&b->shards[i].lock);
    }
    for (unsigned i = 0; i < b->workers; i++) {
        free(b->queues[i].list);
        pthread_mutex_destroy(&b->queues[i].lock);
    }
    free(b);
}

static void local_reg(struct bus *base, unsigned worker, struct mailbox *mail, bus_on_wake *fn, void *ctx)
{
    struct bus_local *b = (struct bus_local *)base;
    assert(worker < b->workers);
    struct queue *q = &b->queues[worker];
    q->mail = mail;
    q->fn = fn;
    q->ctx = ctx;
}

static enum err local_attach(struct bus *base, struct span identity, struct bus_addr addr)
{
    struct bus_local *b = (struct bus_local *)base;
    uint64_t h = hash_of(b, identity);
    struct shard *s = shard_of(b, h);
    enum err err = ERR_OK;
    assert(addr.worker < b->workers);
    pthread_mutex_lock(&s->lock);
    struct entry *e = find(s, h);
    struct bus_addr old = e ? entry_addr(e) : addr;
    if (!e && (s->nr + 1) * 8 > s->cap * 7)
        err = resize(s, s->cap < CAP_MIN ? CAP_MIN : s->cap + s->cap / 2);
    if (!err && !addr_eq(old, addr)) { /* the older one is told, or nothing changes */
        struct queue *q = &b->queues[old.worker];
        pthread_mutex_lock(&q->lock);
        if (queue_reserve(q)) {
            q->list[q->nr++] = (struct wake){ 0, old, BUS_WAKE_TAKEOVER };
            queue_post(q);
        } else
            err = ERR_NOMEM;
        pthread_mutex_unlock(&q->lock);
    }
    if (!err) {
        struct entry fresh = { (uint32_t)h,
                               (uint32_t)(h >> 32),
                               addr.slot,
                               addr.generation,
                               addr.node,
                               (uint16_t)(addr.worker & 0xfff),
                               0 };
        if (!e) {
            place(s, fresh);
            s->nr++;
            atomic_fetch_add_explicit(&b->nr, 1, memory_order_relaxed);
        } else if (!addr_eq(old, addr))
            *e = fresh;
    }
    pthread_mutex_unlock(&s->lock);
    return err;
}

static void local_detach(struct bus *base, struct span identity, struct bus_addr addr)
{
    struct bus_local *b = (struct bus_local *)base;
    uint64_t h = hash_of(b, identity);
    struct shard *s = shard_of(b, h);
    pthread_mutex_lock(&s->lock);
    struct entry *e = find(s, h);
    if (e && addr_eq(entry_addr(e), addr)) {
        erase(s, (size_t)(e - s->slots));
        atomic_fetch_sub_explicit(&b->nr, 1, memory_order_relaxed);
        if (s->cap > CAP_MIN && s->nr * 4 < s->cap && resize(s, s->cap / 2))
            log_debug("bus.shrink", "cap=%zu", s->cap); /* it only stays larger than it need be */
    }
    pthread_mutex_unlock(&s->lock);
}

static bool local_wake(struct bus *base, struct span identity, uint32_t what)
{
    struct bus_local *b = (struct bus_local *)base;
    uint64_t h = hash_of(b, identity);
    struct shard *s = shard_of(b, h);
    pthread_mutex_lock(&s->lock);
    struct entry *e = find(s, h);
    if (e) {
        bool queued = e->pending != 0;
        e->pending |= (uint16_t)(what & 0xf);
        if (!queued)
            queue_push(b, h, entry_addr(e), what);
    }
    pthread_mutex_unlock(&s->lock);
    return e != NULL;
}

static void local_wake_all(struct bus *base, uint32_t what)
{
    struct bus_local *b = (struct bus_local *)base;
    for (unsigned i = 0; i < b->workers; i++) {
        struct queue *q = &b->queues[i];
        pthread_mutex_lock(&q->lock);
        q->all |= what;
        queue_post(q);
        pthread_mutex_unlock(&q->lock);
    }
}

static bool local_is_attached(struct bus *base, struct span identity)
{
    struct bus_local *b = (struct bus_local *)base;
    uint64_t h = hash_of(b, identity);
    struct shard *s = shard_of(b, h);
    pthread_mutex_lock(&s->lock);
    bool there = find(s, h) != NULL;
    pthread_mutex_unlock(&s->lock);
    return there;
}

static uint64_t local_attached_nr(struct bus *base)
{
    return atomic_load_explicit(&((struct bus_local *)base)->nr, memory_order_relaxed);
}

enum err bus_local_new(struct bus **out, unsigned workers)
{
    static const struct bus_ops ops = {
        .free = local_free,
        .reg = local_reg,
        .attach = local_attach,
        .detach = local_detach,
        .wake = local_wake,
        .wake_all = local_wake_all,
        .is_attached = local_is_attached,
        .attached_nr = local_attached_nr,
    };
    assert(workers && workers <= WORKERS_MAX);
    struct bus_local *b = calloc(1, sizeof *b + workers * sizeof b->queues[0]);
    if (!b)
        return ERR_NOMEM;
    b->base.ops = &ops;
    b->workers = workers;
    if (getrandom(b->key, sizeof b->key, 0) != (ssize_t)sizeof b->key) {
        log_error("bus.new", "no random bytes to be had");
        free(b);
        return ERR_IO;
    }
    for (size_t i = 0; i < SHARDS; i++)
        pthread_mutex_init(&b->shards[i].lock, NULL);
    for (unsigned i = 0; i < workers; i++) {
        struct queue *q = &b->queues[i];
        pthread_mutex_init(&q->lock, NULL);
        q->bus = b;
        q->worker = i;
        q->op.done = on_op;
    }
    *out = &b->base;
    return ERR_OK;
}
