/* hub/stream/segment_open.c - finding again what is there. Only the newest segment is read (its batches are
 * checked and a torn one at its end is cut off); of the others only the first kilobyte. */
#include "hub/stream/segment.h"

#include "base/crc32c.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define META_LEN 32u /* magic, partitions, salt, checksum */
static const uint8_t meta_magic[8] = { 'R', 'S', 'T', 'R', 'M', 'E', 'T', 'A' };

enum err seg_failed(const char *what, const char *name)
{
    int err = errno;
    if (err == ENOSPC || err == EDQUOT || err == EFBIG)
        return ERR_FULL; /* the writer says so, once */
    log_error("stream.segment", "at=%s file=%s errno=%d: %s", what, name, err, strerror(err));
    return err == ENOMEM ? ERR_NOMEM : ERR_IO;
}

/* ---- segments in memory ---------------------------------------------------------------------------- */

void seg_free(struct seg *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->marks_nr; i++)
        free(g->marks[i]);
    free(g->marks);
    free(g);
}

enum err segs_push(struct segs *s, struct seg *g)
{
    if (s->segs_nr == s->segs_cap) {
        size_t cap = s->segs_cap ? s->segs_cap * 2 : 16;
        struct seg **segs = realloc(s->segs, cap * sizeof(struct seg *));
        if (!segs)
            return ERR_NOMEM;
        s->segs = segs;
        s->segs_cap = cap;
    }
    s->segs[s->segs_nr++] = g;
    return ERR_OK;
}

/* Without memory the index only stays sparser. */
void seg_mark(const struct segs *s, struct seg *g, uint64_t off, uint64_t ms, const struct part *parts)
{
    size_t at = g->marks_nr;
    while (at && g->marks[at - 1]->off >= off)
        at--;
    if (at < g->marks_nr && g->marks[at]->off == off)
        return;
    if (g->marks_nr == g->marks_cap) {
        size_t cap = g->marks_cap ? g->marks_cap * 2 : 8;
        struct mark **marks = realloc(g->marks, cap * sizeof(struct mark *));
        if (!marks)
            return;
        g->marks = marks;
        g->marks_cap = cap;
    }
    struct mark *m = malloc(sizeof *m + s->base.partitions * sizeof m->seq[0]);
    if (!m)
        return;
    m->off = off;
    m->ms = ms;
    for (uint32_t p = 0; p < s->base.partitions; p++)
        m->seq[p] = parts[p].seq;
    memmove(g->marks + at + 1, g->marks + at, (g->marks_nr - at) * sizeof(struct mark *));
    g->marks[at] = m;
    g->marks_nr++;
}

/* ---- the directory's own facts --------------------------------------------------------------------- */

static enum err meta_write(struct segs *s, uint32_t partitions, uint8_t meta[META_LEN])
{
    struct wr w = { meta, META_LEN, 0 };
    memset(meta, 0, META_LEN);
    wr_put(&w, span_of(meta_magic, 8));
    wr_le32(&w, partitions);
    if (getrandom(meta + 12, SEG_SALT_LEN, 0) != (ssize_t)SEG_SALT_LEN)
        return seg_failed("random", "stream.meta");
    w.len += SEG_SALT_LEN;
    wr_le32(&w, crc32c_update(0, span_of(meta, META_LEN - 4)));
    int fd = openat(s->dir_fd, "stream.meta.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return seg_failed("open", "stream.meta.new");
    enum err e = ERR_OK;
    if (write(fd, meta, META_LEN) != (ssize_t)META_LEN || fsync(fd))
        e = seg_failed("write", "stream.meta.new");
    close(fd);
    if (!e && renameat(s->dir_fd, "stream.meta.new", s->dir_fd, "stream.meta"))
        e = seg_failed("rename", "stream.meta");
    if (!e && fsync(s->dir_fd))
        e = seg_failed("fsync", s->dir);
    return e;
}

static enum err meta_load(struct segs *s, uint32_t partitions, bool empty)
{
    uint8_t meta[META_LEN];
    struct rd r = rd_of(span_of(meta + 8, META_LEN - 8));
    enum err e = ERR_OK;
    int fd = openat(s->dir_fd, "stream.meta", O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && empty)
        e = meta_write(s, partitions, meta);
    else if (fd < 0)
        e = seg_failed("open", "stream.meta");
    else {
        if (read(fd, meta, META_LEN) != (ssize_t)META_LEN)
            memset(meta, 0, META_LEN);
        close(fd);
    }
    if (e)
        return e;
    uint32_t have = rd_le32(&r);
    struct span salt = rd_take(&r, SEG_SALT_LEN);
    if (memcmp(meta, meta_magic, 8) || rd_le32(&r) != crc32c_update(0, span_of(meta, META_LEN - 4))) {
        log_error("stream.open", "dir=%s: stream.meta is damaged", s->dir);
        return ERR_IO;
    }
    if (have != partitions) {
        log_error("stream.open", "dir=%s partitions=%u asked=%u: fixed when the directory is made", s->dir,
                  have, partitions);
        return ERR_PROTO;
    }
    s->salt = crc32c_update(0, salt);
    s->base.partitions = have;
    return ERR_OK;
}

/* ---- loading --------------------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static enum err ids_list(struct segs *s, uint64_t **out, size_t *nr)
{
    size_t cap = 0;
    uint64_t id;
    enum err e = ERR_OK;
    int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dp = fd < 0 ? NULL : fdopendir(fd);
    *out = NULL;
    *nr = 0;
    if (!dp) {
        e = seg_failed("opendir", s->dir);
        if (fd >= 0)
            close(fd);
        return e;
    }
    for (struct dirent *de; !e && (de = readdir(dp));) {
        if (!seg_name_parse(de->d_name, &id))
            continue;
        if (*nr == cap) {
            cap = cap ? cap * 2 : 64;
            uint64_t *ids = realloc(*out, cap * sizeof *ids);
            if (!ids) {
                e = ERR_NOMEM;
                break;
            }
            *out = ids;
        }
        (*out)[(*nr)++] = id;
    }
    closedir(dp);
    if (!e && *nr)
        qsort(*out, *nr, sizeof **out, by_id);
    return e;
}

/* Reads the first kilobyte of a segment. ERR_VERIFY: it is none. */
static enum err seg_load(struct segs *s, uint64_t id, struct seg **out)
{
    uint8_t head[SEG_HEAD_LEN];
    struct stat st;
    char name[32];
    seg_name(name, id);
    int fd = openat(s->dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return seg_failed("open", name);
    ssize_t n = pread(fd, head, sizeof head, 0);
    int bad = fstat(fd, &st);
    enum err e = n < 0 || bad ? seg_failed("read", name) : ERR_OK;
    close(fd);
    if (e)
        return e;
    struct seg *g = calloc(1, sizeof *g);
    if (!g)
        return ERR_NOMEM;
    e = n == (ssize_t)sizeof head ? seg_head_decode(s, head, g) : ERR_VERIFY;
    if (!e && g->id != id)
        e = ERR_VERIFY;
    g->size = (uint64_t)st.st_size;
    if (e)
        seg_free(g);
    else
        *out = g;
    return e;
}

/* A segment without a head: the last one was being made when the hub died (nothing in it was acknowledged:
 * nothing is written behind a head that is not durable), another one is damaged and put aside. */
static enum err seg_without_head(struct segs *s, uint64_t id, bool last)
{
    char name[32], aside[40];
    struct stat st;
    seg_name(name, id);
    if (last && fstatat(s->dir_fd, name, &st, 0))
        return seg_failed("stat", name);
    last = last && st.st_size <= (off_t)SEG_HEAD_LEN;
    snprintf(aside, sizeof aside, "%s.bad", name);
    if (last && unlinkat(s->dir_fd, name, 0))
        return seg_failed("unlink", name);
    if (!last && renameat(s->dir_fd, name, s->dir_fd, aside))
        return seg_failed("rename", name);
    if (last)
        log_info("stream.open", "file=%s: was being made, removed", name);
    else
        log_error("stream.damaged", "file=%s: its head is damaged, kept as %s", name, aside);
    return ERR_OK;
}

/* Whole and sound? */
static enum err batch_check(struct seg_reader *r, uint64_t off, const struct batch_head *h)
{
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < h->groups_nr; i++) {
        struct span bytes;
        e = seg_group_bytes(r, off, h, i, &bytes);
    }
    return e;
}

/* Goes through the batches of the newest segment; *sound: where the last good one ends. */
static enum err scan(struct segs *s, struct seg_reader *r, struct seg *g, uint64_t *sound)
{
    struct batch_head h;
    uint64_t at = SEG_HEAD_LEN;
    *sound = SEG_HEAD_LEN;
    for (;;) {
        enum err e = seg_batch_find(r, g->id, &at, g->size, &h);
        if (e)
            return e == ERR_NOTFOUND ? ERR_OK : e;
        e = batch_check(r, at, &h);
        if (e == ERR_VERIFY) { /* torn if nothing good follows */
            at += 8;
            continue;
        }
        if (e)
            return e;
        if (at != *sound)
            log_error("stream.damaged", "segment=%016llx offset=%llu bytes=%llu", (unsigned long long)g->id,
                      (unsigned long long)*sound, (unsigned long long)(at - *sound));
        if (at % INDEX_EVERY + h.total_len >= INDEX_EVERY)
            seg_mark(s, g, at, s->last_ms, s->parts);
        for (uint32_t i = 0; i < h.groups_nr; i++) {
            struct part *p = &s->parts[h.groups[i].partition];
            p->seq = h.groups[i].first_seq + h.groups[i].nr;
            p->bytes += h.groups[i].len - 4ull * h.groups[i].nr;
            p->ms = h.ms;
        }
        s->last_ms = h.ms;
        at += h.total_len;
        *sound = at;
    }
}

static enum err newest_load(struct segs *s)
{
    struct seg *g = s->segs[s->segs_nr - 1];
    struct seg_reader r;
    uint64_t sound = 0;
    char name[32];
    memcpy(s->parts, g->base, sizeof s->parts);
    s->last_ms = g->last_ms;
    enum err e = seg_reader_init(&r, s);
    if (!e)
        e = seg_reader_file(&r, g->id);
    if (!e)
        e = scan(s, &r, g, &sound);
    seg_reader_fini(&r);
    if (e)
        return e == ERR_NOTFOUND ? ERR_IO : e;
    seg_name(name, g->id);
    s->fd = openat(s->dir_fd, name, O_RDWR | O_CLOEXEC);
    if (s->fd < 0)
        return seg_failed("open", name);
    if (sound < g->size) {
        log_info("stream.torn", "segment=%016llx offset=%llu bytes=%llu", (unsigned long long)g->id,
                 (unsigned long long)sound, (unsigned long long)(g->size - sound));
        atomic_fetch_add(&s->torn, g->size - sound);
        if (ftruncate(s->fd, (off_t)sound) || fdatasync(s->fd))
            return seg_failed("truncate", name);
    }
    g->size = sound;
    return ERR_OK;
}

enum err segs_load(struct segs *s, uint32_t partitions)
{
    uint64_t *ids;
    size_t nr;
    enum err e = ids_list(s, &ids, &nr);
    if (!e)
        e = meta_load(s, partitions, nr == 0);
    for (size_t i = 0; !e && i < nr; i++) {
        struct seg *g = NULL;
        s->next_id = ids[i] + 1;
        e = seg_load(s, ids[i], &g);
        if (e == ERR_VERIFY)
            e = seg_without_head(s, ids[i], i + 1 == nr);
        else if (!e && (e = segs_push(s, g)))
            seg_free(g);
    }
    free(ids);
    if (!e && s->segs_nr)
        e = newest_load(s);
    return e;
}
