/* hub/stream/segment_read.c - finding batches in segment files and reading records for those who ask. */
#include "hub/stream/segment.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define WINDOW_LEN 65536u

/* ---- a window on a file ---------------------------------------------------------------------------- */

enum err seg_reader_init(struct seg_reader *r, struct segs *s)
{
    *r = (struct seg_reader){ .s = s, .fd = -1, .buf = malloc(WINDOW_LEN), .buf_cap = WINDOW_LEN };
    return r->buf ? ERR_OK : ERR_NOMEM;
}

void seg_reader_fini(struct seg_reader *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    free(r->buf);
    r->buf = NULL;
}

/* The file stays open from one read to the next. ERR_NOTFOUND: retention was faster. */
enum err seg_reader_file(struct seg_reader *r, uint64_t id)
{
    char name[32];
    r->len = 0; /* the active one grows: what was read at its end may be old */
    if (r->fd >= 0 && r->fd_id == id)
        return ERR_OK;
    if (r->fd >= 0)
        close(r->fd);
    seg_name(name, id);
    r->fd = openat(r->s->dir_fd, name, O_RDONLY | O_CLOEXEC);
    r->fd_id = id;
    if (r->fd < 0)
        return errno == ENOENT ? ERR_NOTFOUND : seg_failed("open", name);
    return ERR_OK;
}

enum err seg_window(struct seg_reader *r, uint64_t off, size_t len, struct span *out)
{
    if (off < r->off || off + len > r->off + r->len || !r->len) {
        size_t want = len > WINDOW_LEN ? len : WINDOW_LEN;
        if (want > r->buf_cap) {
            uint8_t *buf = realloc(r->buf, want);
            if (!buf)
                return ERR_NOMEM;
            r->buf = buf;
            r->buf_cap = want;
        }
        r->off = off;
        r->len = 0;
        while (r->len < want) {
            ssize_t n = pread(r->fd, r->buf + r->len, want - r->len, (off_t)(off + r->len));
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return seg_failed("read", "segment");
            if (!n)
                break;
            r->len += (size_t)n;
        }
    }
    size_t have = (size_t)(r->off + r->len - off);
    *out = span_of(r->buf + (off - r->off), have < len ? have : len);
    return ERR_OK;
}

/* ---- batches --------------------------------------------------------------------------------------- */

enum err seg_batch_find(struct seg_reader *r, uint64_t segment, uint64_t *off, uint64_t end,
                        struct batch_head *h)
{
    /* Batches begin at multiples of 8, so a damaged place is searched in steps of 8. */
    for (uint64_t at = *off; at + BATCH_HEAD_LEN <= end; at += 8) {
        struct span in;
        uint64_t room = end - at;
        enum err e = seg_window(r, at, room < BATCH_HEAD_MAX ? (size_t)room : BATCH_HEAD_MAX, &in);
        if (e)
            return e;
        if (!batch_head_decode(r->s, in, segment, at, h) && h->total_len <= room) {
            *off = at;
            return ERR_OK;
        }
    }
    return ERR_NOTFOUND;
}

enum err seg_group_bytes(struct seg_reader *r, uint64_t off, const struct batch_head *h, size_t i,
                         struct span *out)
{
    uint64_t at = off + batch_head_len(h->groups_nr);
    for (size_t k = 0; k < i; k++)
        at += h->groups[k].len;
    enum err e = seg_window(r, at, h->groups[i].len, out);
    if (!e && (out->n != h->groups[i].len || seg_crc(r->s, *out) != h->groups[i].crc))
        e = ERR_VERIFY;
    return e;
}

/* ---- a read ---------------------------------------------------------------------------------------- */

struct plan { /* what a read works with, copied under the lock */
    uint64_t seq, id, off, end;
    uint64_t limit;                           /* seqs from here on belong to the next segment */
    struct part parts[STREAM_PARTITIONS_MAX]; /* at off */
    uint64_t ms;                              /* at off */
    bool sealed;
};

static struct seg *seg_by_id(struct segs *s, uint64_t id)
{
    for (size_t i = s->segs_nr; i--;)
        if (s->segs[i]->id == id)
            return s->segs[i];
    return NULL;
}

/* The seqs of partition p that lie in segment i end before this. */
static uint64_t seg_limit(const struct segs *s, size_t i, uint32_t p)
{
    return i + 1 < s->segs_nr ? s->segs[i + 1]->base[p].seq : s->parts[p].seq;
}

/* Where to start in segment i for the first place at or before seq (by_time: at or before ms). */
static void plan_in(struct segs *s, size_t i, uint32_t p, bool by_time, uint64_t ms, struct plan *plan)
{
    struct seg *g = s->segs[i];
    size_t lo = 0, hi = g->marks_nr;
    while (lo < hi) { /* the first mark that is too far */
        size_t mid = lo + (hi - lo) / 2;
        if (by_time ? g->marks[mid]->ms >= ms : g->marks[mid]->seq[p] > plan->seq)
            hi = mid;
        else
            lo = mid + 1;
    }
    plan->id = g->id;
    plan->end = g->size;
    plan->limit = seg_limit(s, i, p);
    plan->sealed = i + 1 < s->segs_nr;
    plan->off = SEG_HEAD_LEN;
    plan->ms = g->last_ms;
    memcpy(plan->parts, g->base, sizeof plan->parts);
    if (lo) {
        const struct mark *m = g->marks[lo - 1];
        plan->off = m->off;
        plan->ms = m->ms;
        for (uint32_t k = 0; k < s->base.partitions; k++)
            plan->parts[k].seq = m->seq[k];
    }
}

/* A batch was met at off: what is before it may become a mark; then the plan moves behind it. */
static void plan_step(struct segs *s, struct plan *plan, uint64_t off, const struct batch_head *h)
{
    bool far = off >= plan->off && off % INDEX_EVERY + h->total_len >= INDEX_EVERY;
    if (far) {
        pthread_mutex_lock(&s->lock);
        struct seg *g = seg_by_id(s, plan->id);
        if (g)
            seg_mark(s, g, off, plan->ms, plan->parts);
        pthread_mutex_unlock(&s->lock);
    }
    plan->ms = h->ms;
    for (uint32_t i = 0; i < h->groups_nr; i++)
        plan->parts[h->groups[i].partition].seq = h->groups[i].first_seq + h->groups[i].nr;
    plan->off = off + h->total_len;
}

/* The seq of the first record of p at or after ms. ERR_NOTFOUND: none in this segment. */
static enum err find_time(struct seg_reader *r, struct plan *plan, uint32_t p, uint64_t ms)
{
    struct batch_head h;
    enum err e = seg_reader_file(r, plan->id);
    while (!e) {
        uint64_t off = plan->off;
        e = seg_batch_find(r, plan->id, &off, plan->end, &h);
        for (uint32_t i = 0; !e && h.ms >= ms && i < h.groups_nr; i++)
            if (h.groups[i].partition == p && h.groups[i].first_seq < plan->limit) {
                plan->seq = h.groups[i].first_seq;
                return ERR_OK;
            }
        if (!e)
            plan_step(r->s, plan, off, &h);
    }
    return e;
}

static enum err seek_time(struct seg_reader *r, uint32_t p, uint64_t ms, uint64_t *seq)
{
    struct segs *s = r->s;
    struct plan plan = { 0 };
    uint64_t id = 0;
    bool first = true;
    for (;;) {
        size_t i = 0;
        pthread_mutex_lock(&s->lock);
        if (first) /* the last segment that began before ms: no earlier one has anything as late */
            for (size_t k = 1; k < s->segs_nr && s->segs[k]->last_ms < ms; k++)
                i = k;
        else
            while (i < s->segs_nr && s->segs[i]->id <= id)
                i++;
        bool none = i >= s->segs_nr;
        if (none)
            *seq = s->parts[p].seq;
        else
            plan_in(s, i, p, true, ms, &plan);
        pthread_mutex_unlock(&s->lock);
        if (none)
            return ERR_OK;
        enum err e = find_time(r, &plan, p, ms);
        if (e != ERR_NOTFOUND) {
            *seq = plan.seq;
            return e;
        }
        id = plan.id;
        first = false;
    }
}

/* Turns where the reader stands into a seq, and finds the segment. ERR_AGAIN: nothing is there yet. */
static enum err plan_make(struct seg_reader *r, struct stream_read *q, uint64_t seq, bool fixed,
                          struct plan *plan)
{
    struct segs *s = r->s;
    uint32_t p = q->pos.partition;
    size_t i = 0;
    enum err e = ERR_AGAIN;
    pthread_mutex_lock(&s->lock);
    uint64_t next = s->parts[p].seq, first = s->segs_nr ? s->segs[0]->base[p].seq : next;
    if (!fixed && q->pos.from == STREAM_EARLIEST)
        seq = first;
    if (!fixed && q->pos.from == STREAM_LATEST)
        seq = next;
    if (seq > next)
        seq = next;
    if (seq < first) {
        q->skipped += first - seq;
        seq = first;
    }
    plan->seq = seq;
    if (seq < next) {
        while (seg_limit(s, i, p) <= seq)
            i++;
        plan_in(s, i, p, false, 0, plan);
        e = ERR_OK;
    }
    pthread_mutex_unlock(&s->lock);
    return e;
}

/* Copies records of a group from plan->seq on. True: there is no room for more. */
static bool copy_group(struct stream_read *q, struct plan *plan, const struct batch_head *h,
                       const struct batch_group *g, struct span bytes, size_t *used)
{
    struct rd rd = rd_of(bytes);
    uint64_t seq = g->first_seq;
    if (seq > plan->seq) {
        q->skipped += seq - plan->seq;
        plan->seq = seq;
    }
    for (uint32_t k = 0; k < g->nr && seq < plan->limit; k++, seq++) {
        struct span rec = rd_take(&rd, rd_le32(&rd));
        if (seq < plan->seq)
            continue;
        if (q->records_nr == q->records_cap || rec.n > q->buf_cap - *used)
            return true;
        if (rec.n)
            memcpy(q->buf + *used, rec.p, rec.n);
        q->records[q->records_nr++] =
            (struct stream_record){ q->pos.partition, seq, h->ms, span_of(q->buf + *used, rec.n) };
        *used += rec.n;
        plan->seq = seq + 1;
    }
    return false;
}

/* Reads on in the plan's segment. ERR_NOTFOUND: its end. */
static enum err read_segment(struct seg_reader *r, struct stream_read *q, struct plan *plan, size_t *used)
{
    uint32_t p = q->pos.partition;
    struct batch_head h;
    enum err e = seg_reader_file(r, plan->id);
    bool stop = false;
    while (!e && !stop && plan->seq < plan->limit) {
        uint64_t off = plan->off;
        e = seg_batch_find(r, plan->id, &off, plan->end, &h);
        for (uint32_t i = 0; !e && !stop && i < h.groups_nr; i++) {
            struct batch_group *g = &h.groups[i];
            struct span bytes;
            if (g->partition != p || g->first_seq + g->nr <= plan->seq)
                continue;
            e = seg_group_bytes(r, off, &h, i, &bytes);
            if (e == ERR_VERIFY) {
                log_error("stream.damaged", "segment=%016llx offset=%llu partition=%u records=%u",
                          (unsigned long long)plan->id, (unsigned long long)off, p, g->nr);
                e = ERR_OK; /* the next batch shows how many are missing */
            } else if (!e)
                stop = copy_group(q, plan, &h, g, bytes, used);
        }
        if (!e && !stop)
            plan_step(r->s, plan, off, &h);
    }
    return e ? e : stop ? ERR_OK : ERR_NOTFOUND;
}

static enum err read_run(struct seg_reader *r, struct stream_read *q)
{
    struct plan plan = { 0 };
    uint64_t seq = q->pos.value;
    bool fixed = q->pos.from == STREAM_SEQ;
    size_t used = 0;
    enum err e = ERR_OK;
    q->records_nr = 0;
    q->skipped = 0;
    if (q->pos.from == STREAM_TIME) {
        e = seek_time(r, q->pos.partition, q->pos.value, &seq);
        fixed = true;
    }
    while (!e) {
        e = plan_make(r, q, seq, fixed, &plan);
        if (!e)
            e = read_segment(r, q, &plan, &used);
        if (e == ERR_NOTFOUND) {
            e = ERR_OK;
            if (!q->records_nr && plan.sealed && plan.seq < plan.limit) { /* the rest of it is damaged */
                q->skipped += plan.limit - plan.seq;
                plan.seq = plan.limit;
            } else if (!q->records_nr && !plan.sealed) {
                log_error("stream.damaged", "segment=%016llx: cannot be read to its end",
                          (unsigned long long)plan.id);
                q->skipped += plan.limit - plan.seq;
                plan.seq = plan.limit;
            }
        } else if (!e && !q->records_nr)
            e = ERR_LIMIT;
        if (q->records_nr)
            break;
        seq = plan.seq;
        fixed = true;
    }
    q->next_seq = plan.seq;
    return e;
}

void *seg_reader_main(void *arg)
{
    struct seg_reader *r = arg;
    struct segs *s = r->s;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        while (!s->reads && !s->reads_end)
            pthread_cond_wait(&s->wake, &s->lock);
        struct op *op = s->reads;
        if (op) {
            s->reads = op->next;
            if (!s->reads)
                s->reads_last = &s->reads;
        }
        pthread_mutex_unlock(&s->lock);
        if (!op)
            return NULL;
        op_complete(op, read_run(r, (struct stream_read *)op));
    }
}
