/* hub/stream/segment.h - what the files of the segment backend share. docs/storage.md describes the bytes.
 *
 * Threads: appends are made by one writer thread; reads by a few reader threads; `lock` guards what both look
 * at (the list of segments, the sparse indexes, where each partition stands, the watchers). No file is read
 * or written under it. */
#ifndef ROOST_HUB_STREAM_SEGMENT_H
#define ROOST_HUB_STREAM_SEGMENT_H

#include "hub/stream/stream_backend.h"

#include <pthread.h>

#define SEG_HEAD_LEN   1024u /* of a file */
#define BATCH_HEAD_LEN 40u   /* then a group entry for each partition in it */
#define GROUP_LEN      24u
#define BATCH_HEAD_MAX (BATCH_HEAD_LEN + STREAM_PARTITIONS_MAX * GROUP_LEN)
#define BATCH_MAX      (2u << 20)  /* bytes of a batch; it takes at least one record of any length */
#define PENDING_MAX    (64u << 20) /* bytes of appends that may wait; more is refused */
#define INDEX_EVERY    (256u << 10)
#define SEG_READERS    2u
#define SEG_SALT_LEN   16u

struct part {       /* where a partition stands */
    uint64_t seq;   /* of the next record */
    uint64_t bytes; /* of all records before */
    uint64_t ms;    /* of the record before; 0: none */
};

struct mark { /* a place in a segment, in memory: offset, time before it, next seq of each partition */
    uint64_t off, ms;
    uint64_t seq[];
};

struct seg {
    uint64_t id;
    uint64_t created_ms;                     /* time of its first batch, or when it was made */
    uint64_t last_ms;                        /* of the newest record before it */
    uint64_t size;                           /* bytes; of the active one: those that are durable */
    struct part base[STREAM_PARTITIONS_MAX]; /* at its start */
    struct mark **marks;                     /* sparse index, by offset; grows as batches are met */
    size_t marks_nr, marks_cap;
};

struct batch_group {
    uint32_t partition, nr;
    uint64_t first_seq;
    uint32_t len, crc; /* of its bytes */
};
struct batch_head {
    uint32_t total_len; /* head and bytes, padded to 8 */
    uint32_t groups_nr;
    uint64_t ms, segment, off;
    struct batch_group groups[STREAM_PARTITIONS_MAX];
};

struct seg_reader { /* one thread, its file and its window on it */
    struct segs *s;
    pthread_t thread;
    bool started;
    int fd;
    uint64_t fd_id;
    uint8_t *buf;
    size_t buf_cap, len;
    uint64_t off; /* of buf in the file */
};

struct segs {
    struct stream base;
    char *dir;
    int dir_fd, lock_fd;
    uint64_t segment_bytes, retain_ms, retain_bytes, refuse_bytes;
    uint64_t (*wall_ms)(void);
    uint32_t salt; /* checksum of the salt: where every other checksum starts */

    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct seg **segs; /* oldest first; the last is the active one; none before the first record */
    size_t segs_nr, segs_cap;
    uint64_t next_id;
    struct part parts[STREAM_PARTITIONS_MAX]; /* durable */
    uint64_t last_ms;                         /* of the newest record; times never go back */
    struct stream_watch *watches[STREAM_PARTITIONS_MAX];
    struct op *reads, **reads_last;
    bool reads_end;

    _Atomic uint64_t forget[STREAM_PARTITIONS_MAX]; /* 0: nothing */
    _Atomic bool stopping;
    _Atomic uint64_t pending; /* bytes */
    _Atomic uint64_t records, bytes, syncs, sync_us, torn;
    struct mailbox mail; /* the writer's */
    struct op stop_op;
    pthread_t writer;
    bool writer_started;
    int fd;       /* of the active segment; -1: none */
    bool seal;    /* the active one is not to be written again */
    bool full;    /* said so in the log */
    uint8_t *buf; /* a batch under way: room for the longest */
    struct seg_reader readers[SEG_READERS];
};

/* ---- segment_format.c: bytes and structures -------------------------------------------------------- */

void seg_name(char out[32], uint64_t id);
bool seg_name_parse(const char *name, uint64_t *id);
void seg_head_encode(const struct segs *s, const struct seg *g, uint8_t out[SEG_HEAD_LEN]);
MUST_USE enum err seg_head_decode(const struct segs *s, const uint8_t in[SEG_HEAD_LEN], struct seg *g);
/* `w` is at the batch's start; groups' crc are set already. */
void batch_head_encode(const struct segs *s, const struct batch_head *h, struct wr *w);
/* in: from the batch's start, as much as there is. ERR_AGAIN: too little; ERR_VERIFY: not a batch of this
 * place. */
MUST_USE enum err batch_head_decode(const struct segs *s, struct span in, uint64_t segment, uint64_t off,
                                    struct batch_head *h);
uint32_t seg_crc(const struct segs *s, struct span a);
size_t batch_head_len(uint32_t groups_nr);

/* ---- segment_open.c: finding again what is there ---------------------------------------------------- */

MUST_USE enum err segs_load(struct segs *s, uint32_t partitions);
MUST_USE enum err segs_push(struct segs *s, struct seg *g); /* takes g over */
void seg_free(struct seg *g);
/* Remembers a place of g, unless one is near. Holds s->lock, or nobody else is there yet. */
void seg_mark(const struct segs *s, struct seg *g, uint64_t off, uint64_t ms, const struct part *parts);
enum err seg_failed(const char *what, const char *name);

/* ---- segment_read.c -------------------------------------------------------------------------------- */

void *seg_reader_main(void *arg);
/* Makes [off, off + len) of the reader's file available; less at its end. */
MUST_USE enum err seg_window(struct seg_reader *r, uint64_t off, size_t len, struct span *out);
MUST_USE enum err seg_reader_file(struct seg_reader *r, uint64_t id);
MUST_USE enum err seg_reader_init(struct seg_reader *r, struct segs *s);
void seg_reader_fini(struct seg_reader *r);
/* The next batch of g from *off on, up to `end`: its head, and *off at its start (further than asked when
 * bytes in between are damaged). ERR_NOTFOUND: none. */
MUST_USE enum err seg_batch_find(struct seg_reader *r, uint64_t segment, uint64_t *off, uint64_t end,
                                 struct batch_head *h);
MUST_USE enum err seg_group_bytes(struct seg_reader *r, uint64_t off, const struct batch_head *h, size_t i,
                                  struct span *out); /* ERR_VERIFY: damaged */

#endif
