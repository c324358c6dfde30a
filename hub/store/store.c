/* hub/store/store.c - the threads of the store. One writer: it takes everything that is waiting, runs it in
 * one transaction and commits once, so that the cost of a flush is shared by as many as came meanwhile.
 * Some readers, each with a connection of its own, one of them for long walks alone. One that tends the
 * database beside them. */
#include "base/log.h"
#include "hub/store/store_backend.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define BATCH_MAX      4096u /* ops that share a commit: bounds how long one of them waits */
#define READ_BATCH_MAX 16u   /* ops that share a snapshot */
#define TEND_EVERY_MS  250

struct queue { /* reads that wait, oldest first */
    struct op *first, **last;
    size_t waiting;
    pthread_cond_t wake;
    unsigned readers_nr; /* that take from it */
};

struct reader {
    struct store *store;
    struct queue *queue;
    pthread_t thread;
    bool started;
    struct store_tx tx;
};

struct store {
    const struct store_backend *be;
    void *db;
    _Atomic bool stopping;

    struct mailbox mail; /* the writer's */
    struct op stop_writer;
    pthread_t writer;
    bool mail_ready, writer_started;
    struct store_tx tx;

    pthread_mutex_t lock; /* of the queues below; never held over a call of the backend */
    pthread_cond_t tend_wake;
    struct queue reads, scans;
    bool ended;
    struct reader *readers; /* the last of them takes the scans */
    unsigned readers_nr;

    pthread_t tender;
    bool tender_started;

    _Atomic uint64_t commits, ops, failed, commit_us, rows_read;
    struct store_outbox outbox;
};

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static enum err run_one(struct store_tx *t, struct store_op *op)
{
    t->saved = t->wrote = false;
    t->fault = ERR_OK;
    t->outbox_op = (struct outbox_change){ 0 };
    t->outbox_open = false;
    enum err e = op->run(t, op);
    if (t->fault && !e)
        e = t->fault;
    t->be->end_kept(t->conn);
    return e;
}

static void add(_Atomic uint64_t *n, uint64_t by)
{
    atomic_fetch_add_explicit(n, by, memory_order_relaxed);
}

/* ---- writer ---------------------------------------------------------------------------------------- */

/* Undoes what the op at hand wrote. False: the whole transaction is gone. */
static bool undo(struct store *s)
{
    struct store_tx *t = &s->tx;
    t->index_known = false;
    if (!t->be->in_tx(t->conn))
        return false;
    if (!t->wrote)
        return true;
    if (t->saved && !t->be->step(t->conn, STORE_UNDO))
        return true;
    return false; /* a sole op has no savepoint: the transaction goes with it */
}

/* Runs ops from `op` on in one transaction and sends them home; returns the first that was not run. */
static struct op *write_batch(struct store *s, struct op *op)
{
    struct store_tx *t = &s->tx;
    struct op *first = op;
    size_t nr = 0;
    enum err lost = t->be->step(t->conn, STORE_BEGIN);
    bool wrote = false;
    tx_counters_drop(t);
    t->after = NULL;
    t->after_end = &t->after;
    t->outbox_batch = (struct outbox_change){ 0 };
    t->sole = op->next == NULL || op->next == &s->stop_writer;
    while (op && op != &s->stop_writer && nr < BATCH_MAX) {
        struct op *next = op->next;
        nr++;
        if (lost) {
            op->err = lost;
            op = next;
            continue;
        }
        struct tx_after **before = t->after_end;
        op->err = run_one(t, (struct store_op *)op);
        wrote |= t->wrote;
        if (op->err) {
            tx_after_end(t, before, false);
        } else {
            t->outbox_batch.rows += t->outbox_op.rows;
            t->outbox_batch.bytes += t->outbox_op.bytes;
        }
        if (op->err && !undo(s)) {
            lost = t->fault ? t->fault : t->sole ? op->err : ERR_IO;
            op = next;
            break; /* the others get a transaction of their own */
        }
        if (!op->err && t->saved)
            lost = t->be->step(t->conn, STORE_RELEASE);
        op = next;
    }
    uint64_t from = now_us();
    if (!lost) {
        t->saved = true; /* the counters need no savepoint: if they fail, everything does */
        lost = wrote ? tx_counters_flush(t) : ERR_OK;
        t->be->end_kept(t->conn);
    }
    if (!lost)
        lost = t->be->step(t->conn, STORE_COMMIT);
    if (lost && t->be->in_tx(t->conn) && t->be->step(t->conn, STORE_ROLLBACK))
        log_error("store.rollback", "backend=%s", t->be->name);
    if (lost) {
        tx_counters_drop(t);
        t->index_known = false;
    } else if (wrote) {
        add(&s->commits, 1);
        add(&s->commit_us, now_us() - from);
        add(&s->outbox.rows, (uint64_t)t->outbox_batch.rows); /* wraps around where it counts down */
        add(&s->outbox.bytes, (uint64_t)t->outbox_batch.bytes);
    }
    tx_after_end(t, &t->after, !lost);
    for (struct op *o = first, *next; nr--; o = next) {
        enum err e = o->err ? o->err : lost;
        next = o->next;
        add(e ? &s->failed : &s->ops, 1);
        op_complete(o, e);
    }
    return op;
}

static void *writer_main(void *arg)
{
    struct store *s = arg;
    for (;;) {
        mailbox_wait(&s->mail, -1);
        struct op *op = mailbox_take(&s->mail);
        while (op) {
            if (op == &s->stop_writer)
                return NULL;
            op = write_batch(s, op);
            s->be->tend(s->db, true);
        }
    }
}

void store_write(struct store *s, struct store_op *op)
{
    if (atomic_load(&s->stopping))
        op_complete(&op->op, ERR_STOPPED);
    else
        mailbox_post(&s->mail, &op->op);
}

/* ---- readers --------------------------------------------------------------------------------------- */

/* Some ops off the queue, as many as leave work for its other readers; NULL: the end. */
static struct op *read_take(struct store *s, struct queue *q)
{
    pthread_mutex_lock(&s->lock);
    while (!q->first && !s->ended)
        pthread_cond_wait(&q->wake, &s->lock);
    struct op *head = q->first, *op = head;
    if (op) {
        size_t nr = q == &s->scans ? 1 : 1 + q->waiting / q->readers_nr;
        for (q->waiting--; op->next && --nr; q->waiting--)
            op = op->next;
        q->first = op->next;
        op->next = NULL;
        if (!q->first)
            q->last = &q->first;
    }
    pthread_mutex_unlock(&s->lock);
    return head;
}

static void read_batch(struct store *s, struct store_tx *t, struct op *op)
{
    t->rows_read = 0;
    while (op) {
        struct op *first = op;
        unsigned nr = 0;
        enum err e = t->be->step(t->conn, STORE_BEGIN);
        for (; op && nr < READ_BATCH_MAX; op = op->next, nr++)
            op->err = e ? e : run_one(t, (struct store_op *)op);
        if (t->be->in_tx(t->conn) && t->be->step(t->conn, STORE_ROLLBACK))
            log_error("store.read", "backend=%s", t->be->name);
        for (struct op *o = first, *next; nr--; o = next) {
            next = o->next;
            add(o->err ? &s->failed : &s->ops, 1);
            op_complete(o, o->err);
        }
    }
    add(&s->rows_read, t->rows_read);
}

static void *reader_main(void *arg)
{
    struct reader *r = arg;
    struct op *op;
    while ((op = read_take(r->store, r->queue)))
        read_batch(r->store, &r->tx, op);
    return NULL;
}

static void read_put(struct store *s, struct queue *q, struct store_op *op)
{
    if (atomic_load(&s->stopping)) {
        op_complete(&op->op, ERR_STOPPED);
        return;
    }
    op->op.next = NULL;
    pthread_mutex_lock(&s->lock);
    *q->last = &op->op;
    q->last = &op->op.next;
    q->waiting++;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&s->lock);
}

void store_read(struct store *s, struct store_op *op)
{
    read_put(s, &s->reads, op);
}

void store_scan(struct store *s, struct store_op *op)
{
    read_put(s, &s->scans, op);
}

/* ---- housekeeping, start and end ------------------------------------------------------------------- */

static void *tender_main(void *arg)
{
    struct store *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->ended) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        ts.tv_nsec += TEND_EVERY_MS * 1000000L;
        ts.tv_sec += ts.tv_nsec / 1000000000L;
        ts.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&s->tend_wake, &s->lock, &ts);
        pthread_mutex_unlock(&s->lock);
        s->be->tend(s->db, false);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static enum err tx_open(struct store *s, struct store_tx *t, bool writable)
{
    *t = (struct store_tx){ .be = s->be, .writable = writable };
    return s->be->connect(s->db, writable, &t->conn);
}

/* What an earlier start left in the outbox. */
static enum err outbox_begin(struct store *s)
{
    uint64_t rows = 0, bytes = 0;
    enum err e = s->be->step(s->tx.conn, STORE_BEGIN);
    if (e)
        return e;
    e = tx_outbox_count(&s->tx, &rows, &bytes);
    enum err ended = s->be->step(s->tx.conn, STORE_ROLLBACK);
    s->outbox.rows = rows;
    s->outbox.bytes = bytes;
    s->outbox.limit = STORE_OUTBOX_BYTES;
    s->tx.outbox = &s->outbox;
    return e ? e : ended;
}

void store_outbox_limit(struct store *s, uint64_t bytes)
{
    atomic_store(&s->outbox.limit, bytes);
}

static void queue_init(struct queue *q, unsigned readers)
{
    q->last = &q->first;
    q->readers_nr = readers;
    pthread_cond_init(&q->wake, NULL);
}

static void queue_stop(struct queue *q)
{
    for (struct op *op = q->first, *next; op; op = next) {
        next = op->next;
        op_complete(op, ERR_STOPPED);
    }
    pthread_cond_destroy(&q->wake);
}

enum err store_start(struct store **out, const struct store_backend *be, void *db, unsigned readers)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s) {
        be->close(db);
        return ERR_NOMEM;
    }
    pthread_condattr_t attr;
    s->be = be;
    s->db = db;
    s->mail.wake_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    queue_init(&s->reads, readers ? readers : 1);
    queue_init(&s->scans, 1);
    pthread_cond_init(&s->tend_wake, &attr);
    pthread_condattr_destroy(&attr);
    enum err e = mailbox_init(&s->mail);
    if (!e)
        e = tx_open(s, &s->tx, true);
    if (!e)
        e = outbox_begin(s);
    const unsigned all = s->reads.readers_nr + s->scans.readers_nr;
    if (!e && !(s->readers = calloc(all, sizeof *s->readers)))
        e = ERR_NOMEM;
    for (unsigned i = 0; !e && i < all; i++) {
        s->readers[i].store = s;
        s->readers[i].queue = i < s->reads.readers_nr ? &s->reads : &s->scans;
        s->readers_nr = i + 1;
        e = tx_open(s, &s->readers[i].tx, false);
    }
    if (!e && !(s->writer_started = !pthread_create(&s->writer, NULL, writer_main, s)))
        e = ERR_NOMEM;
    for (unsigned i = 0; !e && i < s->readers_nr; i++) {
        struct reader *r = &s->readers[i];
        if (!(r->started = !pthread_create(&r->thread, NULL, reader_main, r)))
            e = ERR_NOMEM;
    }
    if (!e && !(s->tender_started = !pthread_create(&s->tender, NULL, tender_main, s)))
        e = ERR_NOMEM;
    if (e)
        store_close(s);
    else
        *out = s;
    return e;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    atomic_store(&s->stopping, true);
    if (s->writer_started) {
        mailbox_post(&s->mail, &s->stop_writer);
        pthread_join(s->writer, NULL);
        /* Handed over while the writer left. */
        for (struct op *op = mailbox_take(&s->mail), *next; op; op = next) {
            next = op->next;
            if (op != &s->stop_writer)
                op_complete(op, ERR_STOPPED);
        }
    }
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    pthread_cond_broadcast(&s->reads.wake);
    pthread_cond_broadcast(&s->scans.wake);
    pthread_cond_broadcast(&s->tend_wake);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->readers_nr; i++)
        if (s->readers[i].started)
            pthread_join(s->readers[i].thread, NULL);
    if (s->tender_started)
        pthread_join(s->tender, NULL);
    queue_stop(&s->reads);
    queue_stop(&s->scans);
    for (unsigned i = 0; i < s->readers_nr; i++)
        s->be->disconnect(s->readers[i].tx.conn);
    s->be->disconnect(s->tx.conn);
    s->be->close(s->db);
    mailbox_fini(&s->mail);
    pthread_cond_destroy(&s->tend_wake);
    pthread_mutex_destroy(&s->lock);
    free(s->readers);
    free(s);
}

void store_get_stats(struct store *s, struct store_stats *out)
{
    *out = (struct store_stats){ .commits = s->commits,
                                 .ops = s->ops,
                                 .failed = s->failed,
                                 .commit_us_total = s->commit_us,
                                 .rows_read = s->rows_read,
                                 .outbox_rows = s->outbox.rows,
                                 .outbox_bytes = s->outbox.bytes,
                                 .outbox_limit = s->outbox.limit,
                                 .outbox_refused = s->outbox.refused };
}
