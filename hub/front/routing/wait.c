/* hub/front/routing/wait.c - what threads of routing do instead of an event loop: they wait. */
#include "hub/front/routing/routing_impl.h"

#include "base/log.h"

#include <sched.h>
#include <time.h>

uint64_t mono_ms_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

/* ---- bells ------------------------------------------------------------------------------------------- */

void bell_init(struct bell *b)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->cond, &attr);
    pthread_condattr_destroy(&attr);
    b->rung = b->stop = false;
}

void bell_fini(struct bell *b)
{
    pthread_cond_destroy(&b->cond);
    pthread_mutex_destroy(&b->lock);
}

static void set(struct bell *b, bool *what)
{
    pthread_mutex_lock(&b->lock);
    *what = true;
    pthread_cond_broadcast(&b->cond);
    pthread_mutex_unlock(&b->lock);
}

void bell_ring(struct bell *b)
{
    set(b, &b->rung);
}
void bell_stop(struct bell *b)
{
    set(b, &b->stop);
}

bool bell_stopped(struct bell *b)
{
    pthread_mutex_lock(&b->lock);
    bool stop = b->stop;
    pthread_mutex_unlock(&b->lock);
    return stop;
}

static bool wait_for(struct bell *b, uint64_t ms, bool rings)
{
    uint64_t end = mono_ms_now() + ms;
    struct timespec at = { (time_t)(end / 1000), (long)(end % 1000) * 1000000 };
    pthread_mutex_lock(&b->lock);
    while (!b->stop && !(rings && b->rung) && pthread_cond_timedwait(&b->cond, &b->lock, &at) == 0)
        continue;
    if (rings)
        b->rung = false;
    bool go_on = !b->stop;
    pthread_mutex_unlock(&b->lock);
    return go_on;
}

bool bell_wait(struct bell *b, uint64_t ms)
{
    return wait_for(b, ms, true);
}
bool bell_pause(struct bell *b, uint64_t ms)
{
    return wait_for(b, ms, false);
}

/* ---- ops ---------------------------------------------------------------------------------------------- */

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    size_t left;
};
#define WAITING(n)                                                                                           \
    {                                                                                                        \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, n                                               \
    }

static void one_less(struct waiting *w)
{
    pthread_mutex_lock(&w->lock);
    if (--w->left == 0)
        pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}
static void wait_all(struct waiting *w)
{
    pthread_mutex_lock(&w->lock);
    while (w->left)
        pthread_cond_wait(&w->cond, &w->lock);
    pthread_mutex_unlock(&w->lock);
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->lock);
}

struct wait_tx {
    struct store_op store; /* first */
    struct waiting w;
    wait_tx_fn *fn;
    void *ctx;
    enum err e;
};
static enum err tx_run(struct store_tx *tx, struct store_op *self)
{
    struct wait_tx *t = (struct wait_tx *)(void *)self;
    return t->fn(tx, t->ctx);
}
static void tx_done(struct op *op)
{
    struct wait_tx *t = (struct wait_tx *)(void *)op;
    t->e = op->err;
    one_less(&t->w);
}

static enum err run_tx(void (*hand_over)(struct store *, struct store_op *), struct store *s, wait_tx_fn *fn,
                       void *ctx)
{
    struct wait_tx t = {
        .store = { .op.done = tx_done, .run = tx_run }, .w = WAITING(1), .fn = fn, .ctx = ctx
    };
    hand_over(s, &t.store);
    wait_all(&t.w);
    return t.e;
}
enum err wait_write(struct store *s, wait_tx_fn *fn, void *ctx)
{
    return run_tx(store_write, s, fn, ctx);
}
enum err wait_read(struct store *s, wait_tx_fn *fn, void *ctx)
{
    return run_tx(store_read, s, fn, ctx);
}

struct reading {
    struct stream_read read; /* first */
    struct waiting w;
    enum err e;
};
static void read_done(struct op *op)
{
    struct reading *r = (struct reading *)(void *)op;
    r->e = op->err;
    one_less(&r->w);
}
enum err wait_stream_read(struct stream *s, struct stream_read *r)
{
    struct reading k = { .read = *r, .w = WAITING(1) };
    k.read.op = (struct op){ .done = read_done };
    stream_read(s, &k.read);
    wait_all(&k.w);
    *r = k.read;
    return k.e;
}

static void append_done(struct op *op)
{
    one_less(((struct wait_append *)(void *)op)->waiting);
}
enum err wait_appends(struct bell *b, struct wait_append *all, size_t nr)
{
    for (size_t i = 0; i < nr; i++)
        all[i].a.op.err = ERR_AGAIN;
    for (uint64_t pause_ms = 100;; pause_ms = pause_ms < 5000 ? 2 * pause_ms : 10000) {
        struct waiting w = WAITING(1);
        enum err e = ERR_OK;
        for (size_t i = 0; i < nr; i++) {
            if (all[i].a.op.err == ERR_OK)
                continue;
            pthread_mutex_lock(&w.lock);
            w.left++;
            pthread_mutex_unlock(&w.lock);
            all[i].waiting = &w;
            all[i].a.op = (struct op){ .done = append_done };
            stream_append(all[i].to, &all[i].a);
        }
        one_less(&w);
        wait_all(&w);
        for (size_t i = 0; i < nr; i++)
            if (all[i].a.op.err == ERR_LIMIT) /* no stream takes it, ever */
                all[i].a.op.err = ERR_OK;
            else if (all[i].a.op.err)
                e = all[i].a.op.err;
        if (!e || e == ERR_STOPPED)
            return e;
        log_warn("routing.append", "err=%s hint=\"it is tried again\"", err_name(e));
        if (!bell_pause(b, pause_ms))
            return ERR_STOPPED;
    }
}

/* ---- cursors ------------------------------------------------------------------------------------------ */

static enum err cursor_get(struct store_tx *tx, void *ctx)
{
    struct cursor *c = ctx;
    c->seq = 0;
    enum err e = tx_cursor_get(tx, span_str(c->name), &c->seq);
    return e == ERR_NOTFOUND ? ERR_OK : e;
}
static enum err cursor_put(struct store_tx *tx, void *ctx)
{
    struct cursor *c = ctx;
    return tx_cursor_put(tx, span_str(c->name), c->seq);
}

enum err cursor_load(struct cursor *c, struct stream *s)
{
    struct stream_info info;
    enum err e = wait_read(c->h->store, cursor_get, c);
    stream_get_info(s, 0, &info);
    if (!e && c->seq > info.next_seq) { /* the stream was made anew */
        log_error("routing.cursor", "name=%s seq=%llu next=%llu reason=\"it is beyond its stream\"", c->name,
                  (unsigned long long)c->seq, (unsigned long long)info.next_seq);
        c->seq = info.next_seq;
    }
    c->stored = c->seq;
    return e;
}

void cursor_store(struct cursor *c, struct stream *s, bool now)
{
    uint64_t at = mono_ms_now();
    if (c->seq == c->stored || (!now && at < c->stored_ms + ROUTE_CURSOR_MS))
        return;
    c->stored_ms = at;
    enum err e = wait_write(c->h->store, cursor_put, c);
    if (e) {
        if (e != ERR_STOPPED)
            log_warn("routing.cursor", "name=%s err=%s", c->name, err_name(e));
        return;
    }
    c->stored = c->seq;
    stream_forget(s, 0, c->seq);
}

/* ---- watches ------------------------------------------------------------------------------------------ */

enum { RINGING_OFF, RINGING_ARMED, RINGING_NOW };

static void ringing_done(struct op *op)
{
    struct ringing *r = (struct ringing *)(void *)op;
    atomic_store(&r->state, RINGING_NOW);
    bell_ring(r->bell);
    atomic_store(&r->state, RINGING_OFF); /* from here on neither it nor the bell is touched */
}

static void wait_while(struct ringing *r, int state)
{
    while (atomic_load(&r->state) == state)
        sched_yield(); /* the stream's writer is just ringing */
}

void ringing_arm(struct ringing *r, struct stream *s, struct bell *b, uint64_t seq)
{
    wait_while(r, RINGING_NOW);
    if (atomic_exchange(&r->state, RINGING_ARMED) == RINGING_ARMED)
        return;
    r->bell = b;
    r->w = (struct stream_watch){ .op.done = ringing_done, .partition = 0, .seq = seq };
    stream_watch(s, &r->w);
}

void ringing_off(struct ringing *r, struct stream *s)
{
    stream_unwatch(s, &r->w);
    wait_while(r, RINGING_ARMED);
    wait_while(r, RINGING_NOW);
}
