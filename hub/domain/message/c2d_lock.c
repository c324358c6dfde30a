/* hub/domain/message/c2d_lock.c - see c2d_lock.h. One table of locks a hub, by device; whoever changes it
 * holds its mutex for a few comparisons. */
#include "hub/domain/message/c2d_lock.h"

#include "base/map.h"
#include "hub/domain/hub.h"
#include "hub/domain/message/c2d_settle.h"
#include "hub/domain/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct lock {
    struct c2d_ref ref;
    uint64_t until_ms; /* wall */
    char token[C2D_LOCK_TEXT];
};
struct holder { /* a device with locks */
    struct lock *locks;
    size_t nr, cap;
    size_t id_len;
    char id[];
};
struct c2d_locks {
    const struct crypto_ops *crypto;
    size_t max;
    pthread_mutex_t mutex;
    struct map holders;
    _Atomic size_t nr; /* locks in all; written under the mutex */
};

static struct span holder_id(const void *val)
{
    const struct holder *x = val;
    return span_of(x->id, x->id_len);
}

enum err c2d_locks_new(struct c2d_locks **out, const struct crypto_ops *crypto, size_t locks_max)
{
    uint64_t key[2];
    struct c2d_locks *l = calloc(1, sizeof *l);
    if (!l)
        return ERR_NOMEM;
    crypto->random((uint8_t *)key, sizeof key);
    l->crypto = crypto;
    l->max = locks_max ? locks_max : C2D_LOCKS_MAX;
    pthread_mutex_init(&l->mutex, NULL);
    map_init(&l->holders, key, holder_id);
    *out = l;
    return ERR_OK;
}

static void holder_free(struct holder *x)
{
    if (x)
        free(x->locks);
    free(x);
}

void c2d_locks_free(struct c2d_locks *l)
{
    if (!l)
        return;
    struct holder *x;
    for (size_t at = 0; (x = map_next(&l->holders, &at));)
        holder_free(x);
    map_fini(&l->holders);
    pthread_mutex_destroy(&l->mutex);
    free(l);
}

/* ---- the table; all with the mutex held --------------------------------------------------------------- */

static void lock_del(struct c2d_locks *l, struct holder *x, size_t i)
{
    x->locks[i] = x->locks[--x->nr];
    atomic_fetch_sub(&l->nr, 1);
}

/* What has run out stays until the sweep, which wakes who waited for it; until then it counts for nothing. */
static struct lock *lock_by_ref(struct holder *x, uint64_t seq, bool broadcast, uint64_t now)
{
    for (size_t i = 0; x && i < x->nr; i++)
        if (x->locks[i].ref.seq == seq && x->locks[i].ref.broadcast == broadcast &&
            x->locks[i].until_ms > now)
            return &x->locks[i];
    return NULL;
}

static struct lock *lock_by_token(struct holder *x, struct span token, uint64_t now)
{
    for (size_t i = 0; x && i < x->nr; i++)
        if (span_ieq(span_str(x->locks[i].token), token) && x->locks[i].until_ms > now)
            return &x->locks[i];
    return NULL;
}

static enum err lock_add(struct c2d_locks *l, struct span device, const struct lock *k)
{
    struct holder *x = map_get(&l->holders, device);
    if (atomic_load(&l->nr) >= l->max)
        return ERR_LIMIT;
    if (!x) {
        x = calloc(1, sizeof *x + device.n);
        if (!x)
            return ERR_NOMEM;
        x->id_len = device.n;
        memcpy(x->id, device.p, device.n);
        if (map_put(&l->holders, x)) {
            holder_free(x);
            return ERR_NOMEM;
        }
    }
    if (x->nr == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 2;
        struct lock *grown = realloc(x->locks, cap * sizeof *grown);
        if (!grown) {
            if (!x->nr)
                holder_free(map_del(&l->holders, device));
            return ERR_NOMEM;
        }
        x->locks = grown;
        x->cap = cap;
    }
    x->locks[x->nr++] = *k;
    atomic_fetch_add(&l->nr, 1);
    return ERR_OK;
}

/* ---- asked from outside ----------------------------------------------------------------------------- */

static bool find(struct hub *h, struct span device, struct span token, struct c2d_ref *out)
{
    struct c2d_locks *l = h->c2d_locks;
    pthread_mutex_lock(&l->mutex);
    struct lock *k = lock_by_token(map_get(&l->holders, device), token, h->wall_ms());
    if (k)
        *out = k->ref;
    pthread_mutex_unlock(&l->mutex);
    return k != NULL;
}

static void drop(struct hub *h, struct span device, struct span token)
{
    struct c2d_locks *l = h->c2d_locks;
    pthread_mutex_lock(&l->mutex);
    struct holder *x = map_get(&l->holders, device);
    struct lock *k = lock_by_token(x, token, 0);
    if (k) {
        lock_del(l, x, (size_t)(k - x->locks));
        if (!x->nr)
            holder_free(map_del(&l->holders, device));
    }
    pthread_mutex_unlock(&l->mutex);
    (void)bus_wake(h->bus, device, BUS_WAKE_C2D); /* a session may have waited for this */
}

bool c2d_is_locked(struct hub *h, struct span device)
{
    struct c2d_locks *l = h->c2d_locks;
    if (!l || !atomic_load(&l->nr))
        return false;
    uint64_t now = h->wall_ms();
    bool is = false;
    pthread_mutex_lock(&l->mutex);
    const struct holder *x = map_get(&l->holders, device);
    for (size_t i = 0; x && i < x->nr && !is; i++)
        is = x->locks[i].until_ms > now;
    pthread_mutex_unlock(&l->mutex);
    return is;
}

void c2d_locks_sweep(struct hub *h)
{
    struct c2d_locks *l = h->c2d_locks;
    uint64_t now = h->wall_ms();
    struct holder *x;
    if (!l || !atomic_load(&l->nr))
        return;
    pthread_mutex_lock(&l->mutex);
    for (size_t at = 0; (x = map_next(&l->holders, &at));) {
        size_t before = x->nr;
        for (size_t i = x->nr; i-- > 0;)
            if (x->locks[i].until_ms <= now)
                lock_del(l, x, i);
        if (x->nr < before) /* a wake-up only posts: nothing of the bus comes back here */
            (void)bus_wake(h->bus, holder_id(x), BUS_WAKE_C2D);
        if (!x->nr)
            holder_free(map_del(&l->holders, holder_id(x)));
    }
    pthread_mutex_unlock(&l->mutex);
}

/* ---- fetching --------------------------------------------------------------------------------------- */

struct fetch_ctx {
    struct c2d_fetch *f;
    struct store_tx *tx;
    uint64_t now, after_seq, after_bcast;
    size_t rows;
    struct c2d_ref ended[C2D_FETCH_BATCH]; /* to leave the queue first */
    enum c2d_end how[C2D_FETCH_BATCH];
    size_t ended_nr;
};

static enum err keep(struct c2d_fetch *f, const struct c2d_row *r)
{
    f->mem = (struct wr){ malloc(r->props.n + r->body.n + 1), r->props.n + r->body.n, 0 };
    if (!f->mem.p)
        return ERR_NOMEM;
    wr_put(&f->mem, r->props);
    wr_put(&f->mem, r->body);
    f->props = span_of(f->mem.p, r->props.n);
    f->body = span_of(f->mem.p + r->props.n, r->body.n);
    f->seq = r->seq;
    f->broadcast = r->broadcast;
    f->enqueued_ms = r->enqueued_ms;
    f->expires_ms = r->expires_ms;
    f->deliveries = r->deliveries;
    f->ack = r->ack;
    f->found = true;
    return ERR_OK;
}

static bool is_free(struct c2d_fetch *f, const struct c2d_row *r, uint64_t now)
{
    struct c2d_locks *l = f->hub->c2d_locks;
    pthread_mutex_lock(&l->mutex);
    bool locked = lock_by_ref(map_get(&l->holders, f->device), r->seq, r->broadcast, now) != NULL;
    pthread_mutex_unlock(&l->mutex);
    return !locked;
}

static enum err fetch_each(void *ctx, const struct c2d_row *r)
{
    struct fetch_ctx *x = ctx;
    x->rows++;
    *(r->broadcast ? &x->after_bcast : &x->after_seq) = r->seq;
    bool expired = r->expires_ms && r->expires_ms <= x->now;
    if (expired || r->deliveries >= x->f->hub->settings.c2d_deliveries_max) {
        x->how[x->ended_nr] = expired ? C2D_EXPIRED : C2D_DEAD;
        x->ended[x->ended_nr++] = (struct c2d_ref){ r->seq, r->broadcast, r->ack };
        return ERR_OK;
    }
    if (!is_free(x->f, r, x->now))
        return ERR_OK;
    enum err e = keep(x->f, r);
    return e ? e : ERR_EXISTS; /* ends the listing */
}

static void forget(struct c2d_fetch *f)
{
    if (f->token[0])
        drop(f->hub, f->device, span_str(f->token));
    f->token[0] = 0;
    f->found = false;
    c2d_fetch_fini(f);
}

static void token_make(const struct crypto_ops *crypto, char out[C2D_LOCK_TEXT])
{
    uint8_t b[16];
    crypto->random(b, sizeof b);
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 9562 section 5.4 */
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    snprintf(out, C2D_LOCK_TEXT, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static enum err lock_it(struct c2d_fetch *f, uint64_t now)
{
    struct c2d_locks *l = f->hub->c2d_locks;
    struct lock k = { { f->seq, f->broadcast, f->ack }, now + 1000ull * f->hub->settings.c2d_lock_s, "" };
    token_make(l->crypto, k.token);
    pthread_mutex_lock(&l->mutex);
    enum err e = lock_add(l, f->device, &k);
    pthread_mutex_unlock(&l->mutex);
    if (!e)
        memcpy(f->token, k.token, sizeof k.token);
    return e;
}

/* On the writer's thread, behind everything that was settled before. It may run again. */
static enum err fetch_run(struct store_tx *tx, struct store_op *self)
{
    struct c2d_fetch *f = (struct c2d_fetch *)(void *)self;
    struct fetch_ctx x = { .f = f, .tx = tx, .now = f->hub->wall_ms() };
    enum err e;
    forget(f);
    if (bus_is_attached(f->hub->bus, f->device))
        return ERR_OK;
    do {
        x.rows = x.ended_nr = 0;
        e = tx_c2d_list(tx, f->device, x.after_seq, x.after_bcast, C2D_FETCH_BATCH, fetch_each, &x);
        if (e == ERR_EXISTS)
            e = ERR_OK;
        for (size_t i = 0; !e && i < x.ended_nr; i++)
            e = c2d_settle_one(f->hub, tx, f->device, x.ended[i], x.how[i]);
    } while (!e && !f->found && x.rows == C2D_FETCH_BATCH);
    if (!e && f->found)
        e = lock_it(f, x.now);
    /* A session that came meanwhile has either seen the lock, and waits, or is seen here. */
    if (e || (f->found && bus_is_attached(f->hub->bus, f->device)))
        forget(f);
    return e;
}

static void fetch_done(struct op *op)
{
    struct c2d_fetch *f = (struct c2d_fetch *)(void *)op;
    if (op->err)
        forget(f);
    op->done = f->done;
    f->done(op);
}

static enum err some_each(void *ctx, const struct c2d_row *r)
{
    (void)r;
    ((struct c2d_fetch *)ctx)->some = true;
    return ERR_OK;
}

static enum err look_run(struct store_tx *tx, struct store_op *self)
{
    struct c2d_fetch *f = (struct c2d_fetch *)(void *)self;
    return tx_c2d_list(tx, f->device, 0, 0, 1, some_each, f);
}

/* Most devices that poll have nothing waiting: they cost the writer nothing. */
static void looked(struct op *op)
{
    struct c2d_fetch *f = (struct c2d_fetch *)(void *)op;
    if (op->err || !f->some) {
        fetch_done(op);
        return;
    }
    op->done = fetch_done;
    f->store.run = fetch_run;
    store_write(f->hub->store, &f->store);
}

void c2d_fetch_start(struct c2d_fetch *f)
{
    f->found = f->some = false;
    f->token[0] = 0;
    f->mem = (struct wr){ 0 };
    f->done = f->store.op.done;
    if (bus_is_attached(f->hub->bus, f->device)) {
        op_complete(&f->store.op, ERR_OK);
        return;
    }
    f->store.op.done = looked;
    f->store.run = look_run;
    store_read(f->hub->store, &f->store);
}

void c2d_fetch_fini(struct c2d_fetch *f)
{
    free(f->mem.p);
    f->mem = (struct wr){ 0 };
}

/* ---- settling --------------------------------------------------------------------------------------- */

static enum err verdict_run(struct store_tx *tx, struct store_op *self)
{
    struct c2d_verdict_op *v = (struct c2d_verdict_op *)(void *)self;
    struct hub *h = v->hub;
    struct c2d_ref ref;
    uint32_t nr;
    v->given_up = false;
    if (!find(h, v->device, v->token, &ref))
        return ERR_NOTFOUND;
    if (v->verdict != C2D_ABANDON)
        return c2d_settle_one(h, tx, v->device, ref, v->verdict == C2D_REJECT ? C2D_REJECTED : C2D_SUCCESS);
    enum err e = tx_c2d_delivered(tx, v->device, ref.broadcast, ref.seq, &nr);
    if (e || nr < h->settings.c2d_deliveries_max)
        return e;
    v->given_up = true;
    return c2d_settle_one(h, tx, v->device, ref, C2D_DEAD);
}

static void verdict_done(struct op *op)
{
    struct c2d_verdict_op *v = (struct c2d_verdict_op *)(void *)op;
    struct hub *h = v->hub;
    if (!op->err || op->err == ERR_NOTFOUND)
        drop(h, v->device, v->token);
    if (!op->err && v->verdict == C2D_COMPLETE)
        METRIC_ADD(h, c2d_completed_total, 1);
    else if (!op->err && v->given_up)
        METRIC_ADD(h, c2d_dead_total, 1);
    op->done = v->done;
    v->done(op);
}

void c2d_verdict_start(struct c2d_verdict_op *v)
{
    v->done = v->store.op.done;
    v->store.op.done = verdict_done;
    v->store.run = verdict_run;
    store_write(v->hub->store, &v->store);
}
