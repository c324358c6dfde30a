/* hub/bus/calls.c - calls by their number, waits by the hash of their identity: fixed tables of lists, so
 * that beginning one allocates nothing and cannot fail for want of memory. Whoever takes an entry off its
 * list, under the list's lock, completes it: so done() runs once. */
#include "hub/bus/calls.h"

#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

enum { BUCKETS = 4096, LOCKS = 64 };

struct table {
    pthread_mutex_t locks[LOCKS]; /* of every LOCKS-th bucket */
    struct list buckets[BUCKETS];
    _Atomic uint32_t nr;
};
struct calls {
    _Atomic uint64_t next_id; /* begins at random: an answer to the node's life before finds nobody */
    _Atomic bool stopped;
    struct table calls, waits;
};

static pthread_mutex_t *lock_of(struct table *t, uint64_t key)
{
    return &t->locks[key % LOCKS];
}
static struct list *bucket_of(struct table *t, uint64_t key)
{
    return &t->buckets[key % BUCKETS];
}

/* Takes a place. After it, under the lock: is the hub stopping? */
static bool take_place(struct table *t)
{
    if (atomic_fetch_add_explicit(&t->nr, 1, memory_order_seq_cst) < BUS_CALLS_MAX)
        return true;
    atomic_fetch_sub_explicit(&t->nr, 1, memory_order_relaxed);
    return false;
}
static void give_place(struct table *t)
{
    atomic_fetch_sub_explicit(&t->nr, 1, memory_order_relaxed);
}

static enum err put(struct calls *c, struct table *t, uint64_t key, struct list *node, bool *waiting)
{
    if (!take_place(t))
        return ERR_FULL;
    pthread_mutex_lock(lock_of(t, key));
    *waiting = !atomic_load(&c->stopped);
    if (*waiting)
        list_push(bucket_of(t, key), node);
    else
        give_place(t);
    pthread_mutex_unlock(lock_of(t, key));
    return *waiting ? ERR_OK : ERR_STOPPED;
}

/* True: it waited, and whoever asks has to complete it. */
static bool take(struct table *t, uint64_t key, struct list *node, bool *waiting)
{
    pthread_mutex_lock(lock_of(t, key));
    bool had = *waiting;
    if (had) {
        *waiting = false;
        list_del(node);
        give_place(t);
    }
    pthread_mutex_unlock(lock_of(t, key));
    return had;
}

/* ---- calls ------------------------------------------------------------------------------------------- */

enum err calls_begin(struct calls *c, struct bus_call *call)
{
    do {
        call->id = atomic_fetch_add_explicit(&c->next_id, 1, memory_order_relaxed);
    } while (!call->id);
    return put(c, &c->calls, call->id, &call->node, &call->waiting);
}

void calls_answer(struct calls *c, uint64_t id, enum err err, struct span bytes)
{
    struct table *t = &c->calls;
    struct bus_call *call = NULL;
    pthread_mutex_lock(lock_of(t, id));
    struct list *head = bucket_of(t, id);
    for (struct list *n = head->next; n != head && !call; n = n->next)
        if (CONTAINER_OF(n, struct bus_call, node)->id == id)
            call = CONTAINER_OF(n, struct bus_call, node);
    if (call) {
        call->waiting = false;
        list_del(&call->node);
        give_place(t);
    }
    pthread_mutex_unlock(lock_of(t, id));
    if (!call)
        return;
    if (bytes.n > BUS_BYTES_MAX) {
        err = ERR_LIMIT;
        bytes = SPAN_NONE;
    }
    if (bytes.n && !(call->memory = malloc(bytes.n))) {
        err = ERR_NOMEM;
    } else if (bytes.n) {
        memcpy(call->memory, bytes.p, bytes.n);
        call->answer = span_of(call->memory, bytes.n);
    }
    op_complete(&call->op, err);
}

void calls_end(struct calls *c, struct bus_call *call, enum err err)
{
    if (take(&c->calls, call->id, &call->node, &call->waiting))
        op_complete(&call->op, err);
}

/* ---- waits ------------------------------------------------------------------------------------------- */

void calls_wait(struct calls *c, struct bus_wait *w, uint64_t hash)
{
    w->hash = hash;
    enum err e = put(c, &c->waits, hash, &w->node, &w->waiting);
    if (e)
        op_complete(&w->op, e);
}

void calls_wait_end(struct calls *c, struct bus_wait *w, enum err err)
{
    if (take(&c->waits, w->hash, &w->node, &w->waiting))
        op_complete(&w->op, err);
}

bool calls_has_waits(struct calls *c)
{
    return atomic_load(&c->waits.nr) != 0;
}

void calls_announce(struct calls *c, uint64_t hash)
{
    struct table *t = &c->waits;
    struct list found, *n;
    list_init(&found);
    pthread_mutex_lock(lock_of(t, hash));
    struct list *head = bucket_of(t, hash), *next;
    for (n = head->next; n != head; n = next) {
        struct bus_wait *w = CONTAINER_OF(n, struct bus_wait, node);
        next = n->next;
        if (w->hash == hash) {
            w->waiting = false;
            list_move(n, &found);
            give_place(t);
        }
    }
    pthread_mutex_unlock(lock_of(t, hash));
    while ((n = list_pop(&found)))
        op_complete(&CONTAINER_OF(n, struct bus_wait, node)->op, ERR_OK);
}

/* ---- the whole --------------------------------------------------------------------------------------- */

void calls_stop(struct calls *c)
{
    struct list found, *n;
    atomic_store(&c->stopped, true);
    list_init(&found);
    for (uint64_t i = 0; i < BUCKETS; i++) {
        pthread_mutex_lock(lock_of(&c->calls, i));
        while ((n = list_pop(bucket_of(&c->calls, i)))) {
            CONTAINER_OF(n, struct bus_call, node)->waiting = false;
            list_push(&found, n);
            give_place(&c->calls);
        }
        pthread_mutex_unlock(lock_of(&c->calls, i));
    }
    while ((n = list_pop(&found)))
        op_complete(&CONTAINER_OF(n, struct bus_call, node)->op, ERR_STOPPED);
    for (uint64_t i = 0; i < BUCKETS; i++) {
        pthread_mutex_lock(lock_of(&c->waits, i));
        while ((n = list_pop(bucket_of(&c->waits, i)))) {
            CONTAINER_OF(n, struct bus_wait, node)->waiting = false;
            list_push(&found, n);
            give_place(&c->waits);
        }
        pthread_mutex_unlock(lock_of(&c->waits, i));
    }
    while ((n = list_pop(&found)))
        op_complete(&CONTAINER_OF(n, struct bus_wait, node)->op, ERR_STOPPED);
}

bool calls_is_stopped(struct calls *c)
{
    return atomic_load(&c->stopped);
}

static void table_init(struct table *t)
{
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&t->locks[i], NULL);
    for (size_t i = 0; i < BUCKETS; i++)
        list_init(&t->buckets[i]);
}

static void table_fini(struct table *t)
{
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&t->locks[i]);
}

enum err calls_new(struct calls **out)
{
    uint64_t start;
    struct calls *c = calloc(1, sizeof *c);
    if (!c)
        return ERR_NOMEM;
    if (getrandom(&start, sizeof start, 0) != (ssize_t)sizeof start) {
        log_error("bus.new", "no random bytes to be had");
        free(c);
        return ERR_IO;
    }
    atomic_init(&c->next_id, start >> 16);
    table_init(&c->calls);
    table_init(&c->waits);
    *out = c;
    return ERR_OK;
}

void calls_free(struct calls *c)
{
    if (!c)
        return;
    table_fini(&c->calls);
    table_fini(&c->waits);
    free(c);
}
