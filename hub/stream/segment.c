/* hub/stream/segment.c - the telemetry log in segment files: opening, the writer thread, watchers, retention.
 *
 * The writer takes everything that is waiting, lays it out as one batch, writes it with one call and flushes
 * it once, whatever the partitions. A batch that does not get through is cut off again, so that the file
 * always ends behind a whole one; after a failed flush the file is not trusted any more and a new one begins.
 */
#include "hub/stream/segment.h"

#include "base/crc32c.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define IDLE_MS 1000 /* how often retention looks when nothing comes in */

static uint64_t system_wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static struct seg *active(struct segs *s)
{
    return s->segs_nr ? s->segs[s->segs_nr - 1] : NULL;
}

/* ---- a new segment --------------------------------------------------------------------------------- */

static enum err write_at(int fd, uint64_t at, struct span b)
{
    while (b.n) {
        ssize_t n = pwrite(fd, b.p, b.n, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = ENOSPC;
        if (n <= 0)
            return seg_failed("write", "segment");
        at += (uint64_t)n;
        b = span_skip(b, (size_t)n);
    }
    return ERR_OK;
}

/* Makes the next segment durable and active. On an error everything is as before. */
static enum err roll(struct segs *s, uint64_t now_ms)
{
    uint8_t head[SEG_HEAD_LEN];
    char name[32];
    struct seg *g = calloc(1, sizeof *g);
    if (!g)
        return ERR_NOMEM;
    g->id = s->next_id++;
    g->created_ms = now_ms;
    g->last_ms = s->last_ms;
    g->size = SEG_HEAD_LEN;
    memcpy(g->base, s->parts, sizeof g->base);
    seg_name(name, g->id);
    seg_head_encode(s, g, head);
    int fd = openat(s->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        enum err e = seg_failed("open", name);
        seg_free(g);
        return e;
    }
    enum err e = write_at(fd, 0, span_of(head, sizeof head));
    if (!e && fdatasync(fd))
        e = seg_failed("fdatasync", name);
    if (!e && fsync(s->dir_fd))
        e = seg_failed("fsync", s->dir);
    if (!e) {
        pthread_mutex_lock(&s->lock);
        e = segs_push(s, g);
        pthread_mutex_unlock(&s->lock);
    }
    if (e) {
        close(fd);
        if (unlinkat(s->dir_fd, name, 0))
            log_error("stream.segment", "at=unlink file=%s errno=%d", name, errno);
        seg_free(g);
        return e;
    }
    if (s->fd >= 0)
        close(s->fd);
    s->fd = fd;
    s->seal = false;
    return ERR_OK;
}

/* ---- retention ------------------------------------------------------------------------------------- */

static bool is_dealt_with(struct segs *s, const struct seg *next)
{
    bool any = false;
    for (uint32_t p = 0; p < s->base.partitions; p++) {
        uint64_t upto = atomic_load_explicit(&s->forget[p], memory_order_relaxed);
        if (next->base[p].seq > upto)
            return false;
        any |= upto > 0;
    }
    return any;
}

static uint64_t size_of_all(const struct segs *s)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < s->segs_nr; i++)
        bytes += s->segs[i]->size;
    return bytes;
}

static bool oldest_goes(struct segs *s, uint64_t now_ms)
{
    if (s->segs_nr < 2)
        return false;
    if (is_dealt_with(s, s->segs[1]))
        return true;
    if (s->retain_ms && s->segs[1]->last_ms + s->retain_ms < now_ms)
        return true;
    return s->retain_bytes && size_of_all(s) > s->retain_bytes;
}

static void retain(struct segs *s, uint64_t now_ms)
{
    struct seg *a = active(s);
    if (!a)
        return;
    /* What is too old in the active segment can only go with a whole file. */
    if (s->retain_ms && a->size > SEG_HEAD_LEN && s->last_ms + s->retain_ms < now_ms &&
        roll(s, now_ms) == ERR_FULL)
        log_debug("stream.retain", "err=full");
    while (oldest_goes(s, now_ms)) {
        char name[32];
        pthread_mutex_lock(&s->lock);
        struct seg *g = s->segs[0];
        memmove(s->segs, s->segs + 1, --s->segs_nr * sizeof(struct seg *));
        pthread_mutex_unlock(&s->lock);
        seg_name(name, g->id);
        if (unlinkat(s->dir_fd, name, 0))
            log_error("stream.segment", "at=unlink file=%s errno=%d", name, errno);
        seg_free(g);
    }
}

/* ---- batches --------------------------------------------------------------------------------------- */

struct batch {
    struct op *first, *end; /* the ops of it: first .. before end */
    uint32_t nr[STREAM_PARTITIONS_MAX];
    uint64_t len[STREAM_PARTITIONS_MAX]; /* bytes with the lengths */
    uint64_t bytes;                      /* of the records alone */
    uint64_t records;
    struct batch_head head;
    size_t total;
};

/* Of the records of one op. */
static uint64_t append_bytes(const struct stream_append *a)
{
    uint64_t n = 0;
    for (; a; a = a->rest)
        n += a->record.n;
    return n;
}

static void batch_take(struct segs *s, struct op *op, struct batch *b)
{
    uint64_t total = 0;
    memset(b, 0, sizeof *b);
    b->first = op;
    for (; op; op = op->next) {
        const struct stream_append *first = (const struct stream_append *)op;
        uint64_t len = 0, nr = 0, bytes = append_bytes(first);
        for (const struct stream_append *a = first; a; a = a->rest, nr++)
            len += 4u + a->record.n;
        if (total && total + len > BATCH_MAX)
            break;
        b->nr[first->partition] += (uint32_t)nr;
        b->len[first->partition] += len;
        b->bytes += bytes;
        b->records += nr;
        total += len;
    }
    b->end = op;
    for (uint32_t p = 0; p < s->base.partitions; p++)
        if (b->nr[p])
            b->head.groups[b->head.groups_nr++] = (struct batch_group){
                .partition = p, .nr = b->nr[p], .first_seq = s->parts[p].seq, .len = (uint32_t)b->len[p]
            };
    b->total = (batch_head_len(b->head.groups_nr) + total + 7) / 8 * 8;
    b->head.total_len = (uint32_t)b->total;
}

/* Lays the batch out in s->buf, partition by partition, and tells each op its number. */
static void batch_fill(struct segs *s, struct batch *b)
{
    uint8_t *at[STREAM_PARTITIONS_MAX] = { NULL };
    uint64_t seq[STREAM_PARTITIONS_MAX] = { 0 };
    struct wr head = { s->buf, BATCH_HEAD_MAX, 0 };
    uint8_t *p = s->buf + batch_head_len(b->head.groups_nr);
    for (uint32_t i = 0; i < b->head.groups_nr; i++) {
        struct batch_group *g = &b->head.groups[i];
        at[g->partition] = p;
        seq[g->partition] = g->first_seq;
        p += g->len;
    }
    memset(p, 0, (size_t)(s->buf + b->total - p));
    for (struct op *op = b->first; op != b->end; op = op->next)
        for (struct stream_append *a = (struct stream_append *)op; a; a = a->rest) {
            struct wr w = { at[a->partition], 4 + a->record.n, 0 };
            wr_le32(&w, (uint32_t)a->record.n);
            wr_put(&w, a->record);
            at[a->partition] += w.len;
            a->seq = seq[a->partition]++;
            a->enqueued_ms = b->head.ms;
        }
    for (uint32_t i = 0; i < b->head.groups_nr; i++) {
        struct batch_group *g = &b->head.groups[i];
        g->crc = seg_crc(s, span_of(at[g->partition] - g->len, g->len));
    }
    batch_head_encode(s, &b->head, &head);
}

static enum err batch_write(struct segs *s, struct batch *b)
{
    uint64_t now = s->wall_ms();
    struct seg *g = active(s);
    enum err e = ERR_OK;
    if (now < s->last_ms)
        now = s->last_ms;
    bool old = g && s->retain_ms && g->size > SEG_HEAD_LEN && g->created_ms + s->retain_ms / 8 < now;
    if (!g || s->fd < 0 || s->seal || old ||
        (g->size > SEG_HEAD_LEN && g->size + b->total > s->segment_bytes)) {
        e = roll(s, now);
        g = active(s);
    }
    if (e)
        return e;
    b->head.ms = now;
    b->head.segment = g->id;
    b->head.off = g->size;
    batch_fill(s, b);
    e = write_at(s->fd, g->size, span_of(s->buf, b->total));
    uint64_t from = now_us();
    if (!e && fdatasync(s->fd)) {
        e = seg_failed("fdatasync", "segment");
        s->seal = true; /* the kernel may have dropped what it could not write */
    }
    if (e && ftruncate(s->fd, (off_t)g->size)) {
        log_error("stream.segment", "at=truncate segment=%016llx errno=%d", (unsigned long long)g->id, errno);
        s->seal = true;
    }
    if (!e) {
        atomic_fetch_add_explicit(&s->syncs, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&s->sync_us, now_us() - from, memory_order_relaxed);
    }
    return e;
}

/* Takes the watchers of partition p that have something to see off its list. Holds s->lock. */
static void watches_take(struct segs *s, uint32_t p, struct stream_watch **woken)
{
    for (struct stream_watch **at = &s->watches[p]; *at;) {
        struct stream_watch *w = *at;
        if (w->seq < s->parts[p].seq) {
            *at = w->next_watch;
            w->next_watch = *woken;
            *woken = w;
        } else
            at = &w->next_watch;
    }
}

static void watches_complete(struct stream_watch *w, enum err e)
{
    while (w) {
        struct stream_watch *next = w->next_watch;
        op_complete(&w->op, e);
        w = next;
    }
}

/* The batch is on the disk: from now on it can be read. */
static struct stream_watch *batch_publish(struct segs *s, const struct batch *b)
{
    struct stream_watch *woken = NULL;
    struct seg *g = active(s);
    pthread_mutex_lock(&s->lock);
    if (g->size % INDEX_EVERY + b->total >= INDEX_EVERY)
        seg_mark(s, g, g->size, s->last_ms, s->parts);
    g->size += b->total;
    s->last_ms = b->head.ms;
    for (uint32_t i = 0; i < b->head.groups_nr; i++) {
        const struct batch_group *gr = &b->head.groups[i];
        struct part *p = &s->parts[gr->partition];
        p->seq += gr->nr;
        p->bytes += gr->len - 4ull * gr->nr;
        p->ms = b->head.ms;
        watches_take(s, gr->partition, &woken);
    }
    pthread_mutex_unlock(&s->lock);
    return woken;
}

static void say_full(struct segs *s, enum err e)
{
    bool full = e == ERR_FULL;
    if (full && !s->full)
        log_error("stream.full", "dir=%s: the disk is full, telemetry is refused until there is room",
                  s->dir);
    if (!e && s->full)
        log_info("stream.room", "dir=%s: there is room again", s->dir);
    if (full || !e)
        s->full = full;
}

static struct op *write_some(struct segs *s, struct op *op)
{
    struct batch b;
    struct stream_watch *woken = NULL;
    batch_take(s, op, &b);
    bool too_much = s->refuse_bytes && size_of_all(s) + b.total > s->refuse_bytes;
    enum err e = too_much ? ERR_FULL : batch_write(s, &b);
    say_full(s, e);
    if (!e)
        woken = batch_publish(s, &b);
    for (struct op *o = b.first, *next; o != b.end; o = next) {
        next = o->next;
        atomic_fetch_sub_explicit(&s->pending, append_bytes((struct stream_append *)o), memory_order_relaxed);
        op_complete(o, e);
    }
    if (!e) {
        atomic_fetch_add_explicit(&s->records, b.records, memory_order_relaxed);
        atomic_fetch_add_explicit(&s->bytes, b.bytes, memory_order_relaxed);
    }
    watches_complete(woken, ERR_OK);
    return b.end;
}

static void *writer_main(void *arg)
{
    struct segs *s = arg;
    for (bool stop = false; !stop;) {
        mailbox_wait(&s->mail, IDLE_MS);
        struct op *op = mailbox_take(&s->mail);
        for (struct op **at = &op; *at; at = &(*at)->next)
            if (*at == &s->stop_op) {
                stop = true;
                *at = (*at)->next;
                break;
            }
        do {
            retain(s, s->wall_ms());
            if (op)
                op = write_some(s, op);
        } while (op);
    }
    return NULL;
}

/* ---- the table ------------------------------------------------------------------------------------- */

static void seg_append(struct stream *base, struct stream_append *a)
{
    struct segs *s = (struct segs *)base;
    enum err e = ERR_OK;
    uint64_t bytes = append_bytes(a);
    uint64_t before = atomic_fetch_add_explicit(&s->pending, bytes, memory_order_relaxed);
    if (atomic_load(&s->stopping))
        e = ERR_STOPPED;
    else if (before + bytes > PENDING_MAX)
        e = ERR_FULL;
    if (!e) {
        mailbox_post(&s->mail, &a->op);
        return;
    }
    atomic_fetch_sub_explicit(&s->pending, bytes, memory_order_relaxed);
    op_complete(&a->op, e);
}

static void seg_read(struct stream *base, struct stream_read *r)
{
    struct segs *s = (struct segs *)base;
    r->op.next = NULL;
    pthread_mutex_lock(&s->lock);
    bool end = s->reads_end;
    if (!end) {
        *s->reads_last = &r->op;
        s->reads_last = &r->op.next;
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    if (end)
        op_complete(&r->op, ERR_STOPPED);
}

static void seg_watch(struct stream *base, struct stream_watch *w)
{
    struct segs *s = (struct segs *)base;
    enum err e = ERR_AGAIN;
    pthread_mutex_lock(&s->lock);
    if (s->reads_end)
        e = ERR_STOPPED;
    else if (w->seq < s->parts[w->partition].seq)
        e = ERR_OK;
    else {
        w->next_watch = s->watches[w->partition];
        s->watches[w->partition] = w;
    }
    pthread_mutex_unlock(&s->lock);
    if (e != ERR_AGAIN)
        op_complete(&w->op, e);
}

static void seg_unwatch(struct stream *base, struct stream_watch *w)
{
    struct segs *s = (struct segs *)base;
    bool found = false;
    pthread_mutex_lock(&s->lock);
    for (struct stream_watch **at = &s->watches[w->partition]; *at && !found; at = &(*at)->next_watch)
        if (*at == w) {
            *at = w->next_watch;
            found = true;
            break;
        }
    pthread_mutex_unlock(&s->lock);
    if (found)
        op_complete(&w->op, ERR_STOPPED);
}

static void seg_forget(struct stream *base, uint32_t p, uint64_t seq)
{
    struct segs *s = (struct segs *)base;
    atomic_store_explicit(&s->forget[p], seq, memory_order_relaxed);
}

static void seg_get_info(struct stream *base, uint32_t p, struct stream_info *out)
{
    struct segs *s = (struct segs *)base;
    pthread_mutex_lock(&s->lock);
    const struct part *now = &s->parts[p], *first = s->segs_nr ? &s->segs[0]->base[p] : now;
    *out = (struct stream_info){
        .first_seq = first->seq, .next_seq = now->seq, .last_ms = now->ms, .bytes = now->bytes - first->bytes
    };
    for (size_t i = s->segs_nr; i--;) /* the last segment that has nothing before the first record */
        if (s->segs[i]->base[p].seq == first->seq) {
            out->first_ms = s->segs[i]->created_ms;
            break;
        }
    pthread_mutex_unlock(&s->lock);
}

static void seg_get_stats(struct stream *base, struct stream_stats *out)
{
    struct segs *s = (struct segs *)base;
    *out = (struct stream_stats){ .records = s->records,
                                  .bytes = s->bytes,
                                  .syncs = s->syncs,
                                  .sync_us_total = s->sync_us,
                                  .torn_bytes = s->torn };
}

static void seg_close(struct stream *base)
{
    struct segs *s = (struct segs *)base;
    struct stream_watch *all = NULL;
    atomic_store(&s->stopping, true);
    if (s->writer_started) {
        mailbox_post(&s->mail, &s->stop_op);
        pthread_join(s->writer, NULL);
        for (struct op *op = mailbox_take(&s->mail), *next; op; op = next) {
            next = op->next;
            op_complete(op, ERR_STOPPED);
        }
    }
    pthread_mutex_lock(&s->lock);
    s->reads_end = true;
    for (uint32_t p = 0; p < STREAM_PARTITIONS_MAX; p++)
        while (s->watches[p]) {
            struct stream_watch *w = s->watches[p];
            s->watches[p] = w->next_watch;
            w->next_watch = all;
            all = w;
        }
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    watches_complete(all, ERR_STOPPED);
    for (size_t i = 0; i < SEG_READERS; i++) {
        if (s->readers[i].started)
            pthread_join(s->readers[i].thread, NULL);
        seg_reader_fini(&s->readers[i]);
    }
    for (size_t i = 0; i < s->segs_nr; i++)
        seg_free(s->segs[i]);
    int fds[] = { s->fd, s->lock_fd, s->dir_fd };
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    mailbox_fini(&s->mail);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s->segs);
    free(s->buf);
    free(s->dir);
    free(s);
}

static enum err dir_take(struct segs *s)
{
    if (mkdir(s->dir, 0700) && errno != EEXIST)
        return seg_failed("mkdir", s->dir);
    if ((s->dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return seg_failed("open", s->dir);
    if ((s->lock_fd = openat(s->dir_fd, "stream.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0)
        return seg_failed("open", "stream.lock");
    if (!flock(s->lock_fd, LOCK_EX | LOCK_NB))
        return ERR_OK;
    if (errno != EWOULDBLOCK)
        return seg_failed("flock", "stream.lock");
    log_error("stream.open", "dir=%s: another process serves this directory", s->dir);
    return ERR_EXISTS;
}

static enum err threads_start(struct segs *s)
{
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < SEG_READERS; i++) {
        struct seg_reader *r = &s->readers[i];
        e = seg_reader_init(r, s);
        if (!e && !(r->started = !pthread_create(&r->thread, NULL, seg_reader_main, r)))
            e = ERR_NOMEM;
    }
    if (!e && !(s->writer_started = !pthread_create(&s->writer, NULL, writer_main, s)))
        e = ERR_NOMEM;
    return e;
}

enum err stream_segment_open(struct stream **out, const struct stream_config *cfg)
{
    static const struct stream_ops ops = {
        .close = seg_close,
        .append = seg_append,
        .read = seg_read,
        .watch = seg_watch,
        .unwatch = seg_unwatch,
        .forget = seg_forget,
        .get_info = seg_get_info,
        .get_stats = seg_get_stats,
    };
    uint32_t partitions = cfg->partitions ? cfg->partitions : 4;
    assert(partitions <= STREAM_PARTITIONS_MAX);
    struct segs *s = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    s->base.ops = &ops;
    s->base.partitions = partitions;
    s->segment_bytes = cfg->segment_bytes ? cfg->segment_bytes : 64u << 20;
    s->retain_ms = cfg->retain_ms;
    s->retain_bytes = cfg->retain_bytes;
    s->refuse_bytes = cfg->refuse_bytes;
    s->wall_ms = cfg->wall_ms ? cfg->wall_ms : system_wall_ms;
    s->next_id = 1;
    s->dir_fd = s->lock_fd = s->fd = -1;
    s->mail.wake_fd = -1;
    s->reads_last = &s->reads;
    for (size_t i = 0; i < SEG_READERS; i++)
        s->readers[i].fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    enum err e = mailbox_init(&s->mail);
    /* Room for a full batch or for one record of any length: writing allocates nothing. */
    if (!e && (!(s->dir = strdup(cfg->dir)) || !(s->buf = malloc(BATCH_HEAD_MAX + BATCH_MAX + 16))))
        e = ERR_NOMEM;
    if (!e)
        e = dir_take(s);
    if (!e)
        e = segs_load(s, partitions);
    if (!e)
        e = threads_start(s);
    if (e)
        seg_close(&s->base);
    else
        *out = &s->base;
    return e;
}
