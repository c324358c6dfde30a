/* hub/bus/local.c - the bus of one node: a directory in shards, and a queue of wake-ups for each worker.
 *
 * An entry remembers what its session has been woken for and not yet seen: a session that is woken a thousand
 * times is queued once. Messages wait in a list beside the wake-ups, in the order of their posting. */
#include "base/log.h"
#include "base/map.h"
#include "hub/bus/bus_backend.h"
#include "hub/bus/calls.h"
#include "hub/bus/local_dir.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#define SHARDS      64u
#define WORKERS_MAX 4096u /* 12 bits of an entry */
#define WALK_NR     256u  /* sessions told in one go of a wake-up for all */
#define TURN_NR     512u  /* messages delivered in one go */

struct wake {
    uint64_t hash; /* 0: its entry is gone already (a takeover) */
    struct bus_addr to;
    uint32_t what;
};
struct parcel { /* a message on its way */
    struct parcel *next;
    struct bus_addr to;
    struct bus_reply reply;
    uint32_t kind, len;
    uint16_t identity_len;
    uint8_t text[]; /* identity, bytes */
};
struct queue {    /* of one worker */
    struct op op; /* posted to its mailbox while anything waits */
    struct bus_local *bus;
    pthread_mutex_t lock;
    struct mailbox *mail;
    bus_on_wake *fn;
    bus_on_message *on_message;
    void *ctx;
    unsigned worker;
    bool posted;
    struct wake *list;
    size_t nr, cap;
    struct parcel *first, *last; /* messages */
    size_t parcels_nr, parcels_bytes;
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
    struct calls *calls;
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

/* Takes p over on ERR_OK. */
static enum err queue_put(struct queue *q, struct parcel *p)
{
    enum err e = ERR_OK;
    pthread_mutex_lock(&q->lock);
    if (q->parcels_nr >= BUS_QUEUE_NR_MAX || q->parcels_bytes + p->len > BUS_QUEUE_BYTES_MAX) {
        e = ERR_FULL;
    } else {
        if (q->last)
            q->last->next = p;
        else
            q->first = p;
        q->last = p;
        q->parcels_nr++;
        q->parcels_bytes += p->len;
        queue_post(q);
    }
    pthread_mutex_unlock(&q->lock);
    return e;
}

/* The oldest TURN_NR messages. Holds q->lock. */
static struct parcel *queue_take(struct queue *q)
{
    struct parcel *first = q->first, *last = NULL, *p = first;
    for (unsigned n = 0; p && n < TURN_NR; n++) {
        q->parcels_nr--;
        q->parcels_bytes -= p->len;
        last = p;
        p = p->next;
    }
    q->first = p;
    if (!p)
        q->last = NULL;
    if (last)
        last->next = NULL;
    return first;
}

static void deliver(struct queue *q, struct parcel *p)
{
    for (struct parcel *next; p; p = next) {
        struct bus_message m = { p->kind, span_of(p->text, p->identity_len),
                                 span_of(p->text + p->identity_len, p->len), p->reply };
        next = p->next;
        if (!(q->on_message && q->on_message(q->ctx, p->to, &m)) && p->reply.id)
            calls_answer(q->bus->calls, p->reply.id, ERR_NOTFOUND, SPAN_NONE);
        free(p);
    }
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
    struct parcel *parcels = queue_take(q);
    q->posted = false;
    if (q->first)
        queue_post(q); /* the worker serves its connections in between */
    pthread_mutex_unlock(&q->lock);

    for (size_t i = 0; i < nr; i++) {
        struct wake *w = &list[i];
        if (w->hash) {
            struct shard *s = shard_of(b, w->hash);
            pthread_mutex_lock(&s->lock);
            struct entry *e = shard_find(s, w->hash);
            if (e && addr_eq(entry_addr(e), w->to)) {
                w->what |= e->pending;
                e->pending = 0;
            }
            pthread_mutex_unlock(&s->lock);
        }
        q->fn(q->ctx, w->to, w->what);
    }
    free(list);
    deliver(q, parcels);
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
        for (struct parcel *p = b->queues[i].first, *next; p; p = next) {
            next = p->next;
            free(p);
        }
        pthread_mutex_destroy(&b->queues[i].lock);
    }
    calls_free(b->calls);
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
    struct entry *e = shard_find(s, h);
    struct bus_addr old = e ? entry_addr(e) : addr;
    if (!e && (s->nr + 1) * 8 > s->cap * 7)
        err = shard_resize(s, s->cap < CAP_MIN ? CAP_MIN : s->cap + s->cap / 2);
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
            shard_place(s, fresh);
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
    struct entry *e = shard_find(s, h);
    if (e && addr_eq(entry_addr(e), addr)) {
        shard_erase(s, (size_t)(e - s->slots));
        atomic_fetch_sub_explicit(&b->nr, 1, memory_order_relaxed);
        if (s->cap > CAP_MIN && s->nr * 4 < s->cap && shard_resize(s, s->cap / 2))
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
    struct entry *e = shard_find(s, h);
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

/* ---- messages and calls ------------------------------------------------------------------------------ */

static void local_on_messages(struct bus *base, unsigned worker, bus_on_message *fn)
{
    struct bus_local *b = (struct bus_local *)base;
    assert(worker < b->workers);
    b->queues[worker].on_message = fn;
}

static enum err send(struct bus_local *b, struct span identity, uint32_t kind, struct span bytes,
                     uint64_t reply)
{
    uint64_t h = hash_of(b, identity);
    struct shard *s = shard_of(b, h);
    pthread_mutex_lock(&s->lock);
    struct entry *e = shard_find(s, h);
    struct bus_addr to = e ? entry_addr(e) : (struct bus_addr){ 0 };
    pthread_mutex_unlock(&s->lock);
    if (!e)
        return ERR_NOTFOUND;
    if (bytes.n > BUS_BYTES_MAX || identity.n > UINT16_MAX)
        return ERR_LIMIT;
    struct parcel *p = malloc(sizeof *p + identity.n + bytes.n);
    if (!p)
        return ERR_NOMEM;
    *p = (struct parcel){ .to = to,
                          .reply = { reply, to.node },
                          .kind = kind,
                          .len = (uint32_t)bytes.n,
                          .identity_len = (uint16_t)identity.n };
    struct wr w = { p->text, identity.n + bytes.n, 0 };
    wr_put(&w, identity);
    wr_put(&w, bytes);
    enum err err = queue_put(&b->queues[to.worker], p);
    if (err)
        free(p);
    return err;
}

static enum err local_post(struct bus *base, struct span identity, uint32_t kind, struct span bytes)
{
    struct bus_local *b = (struct bus_local *)base;
    return calls_is_stopped(b->calls) ? ERR_STOPPED : send(b, identity, kind, bytes, 0);
}

static void local_call(struct bus *base, struct bus_call *call, struct span identity, uint32_t kind,
                       struct span bytes)
{
    struct bus_local *b = (struct bus_local *)base;
    call->answer = SPAN_NONE;
    call->memory = NULL;
    enum err e = calls_begin(b->calls, call);
    if (e) {
        op_complete(&call->op, e);
        return;
    }
    uint64_t id = call->id; /* once it is sent, it may be over */
    if ((e = send(b, identity, kind, bytes, id)))
        calls_answer(b->calls, id, e, SPAN_NONE);
}

static void local_call_end(struct bus *base, struct bus_call *call, enum err err)
{
    calls_end(((struct bus_local *)base)->calls, call, err);
}

static void local_answer(struct bus *base, struct bus_reply to, enum err err, struct span bytes)
{
    if (to.id)
        calls_answer(((struct bus_local *)base)->calls, to.id, err, bytes);
}

static void local_wait(struct bus *base, struct bus_wait *w, struct span identity)
{
    struct bus_local *b = (struct bus_local *)base;
    calls_wait(b->calls, w, hash_of(b, identity));
}

static void local_wait_end(struct bus *base, struct bus_wait *w, enum err err)
{
    calls_wait_end(((struct bus_local *)base)->calls, w, err);
}

static void local_announce(struct bus *base, struct span identity)
{
    struct bus_local *b = (struct bus_local *)base;
    if (calls_has_waits(b->calls))
        calls_announce(b->calls, hash_of(b, identity));
}

static void local_stop(struct bus *base)
{
    calls_stop(((struct bus_local *)base)->calls);
}

static bool local_is_attached(struct bus *base, struct span identity)
{
    struct bus_local *b = (struct bus_local *)base;
    uint64_t h = hash_of(b, identity);
    struct shard *s = shard_of(b, h);
    pthread_mutex_lock(&s->lock);
    bool there = shard_find(s, h) != NULL;
    pthread_mutex_unlock(&s->lock);
    return there;
}

static bool local_is_at(struct bus *base, struct span identity, struct bus_addr addr)
{
    struct bus_local *b = (struct bus_local *)base;
    uint64_t h = hash_of(b, identity);
    struct shard *s = shard_of(b, h);
    pthread_mutex_lock(&s->lock);
    const struct entry *e = shard_find(s, h);
    bool here = e && addr_eq(entry_addr(e), addr);
    pthread_mutex_unlock(&s->lock);
    return here;
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
        .on_messages = local_on_messages,
        .post = local_post,
        .call = local_call,
        .call_end = local_call_end,
        .answer = local_answer,
        .wait = local_wait,
        .wait_end = local_wait_end,
        .announce = local_announce,
        .stop = local_stop,
        .is_attached = local_is_attached,
        .is_at = local_is_at,
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
    enum err err = calls_new(&b->calls);
    if (err) {
        free(b);
        return err;
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
