/* hub/stream/stream.h - the partitioned telemetry log: append, read from anywhere, forget by age and size.
 * Knows no protocol: a record is bytes with a partition, a sequence number and an enqueued time.
 * Durable when acknowledged: one write and one fdatasync for all partitions of a batch.
 * To add a backend: fill struct stream_ops and pass stream_suite(). */
#ifndef ROOST_HUB_STREAM_STREAM_H
#define ROOST_HUB_STREAM_STREAM_H

#include "base/op.h"
#include "base/span.h"

struct stream;

#define STREAM_RECORD_MAX     (1u << 20)
#define STREAM_PARTITIONS_MAX 32u

struct stream_append { /* the asker's memory until it comes home */
    struct op op; /* first. ERR_FULL: disk full or too much waits, nothing was taken; ERR_LIMIT: too long */
    uint32_t partition;
    struct span record;   /* borrowed until done */
    uint64_t seq;         /* out: from 0, +1 each in its partition */
    uint64_t enqueued_ms; /* out: wall, never lower than the record before */
    /* Further records that are taken with this one, in this order, or not at all, also when the power fails:
     * all of one partition, STREAM_RECORD_MAX bytes together at most (ERR_LIMIT). Their ops are not used. */
    struct stream_append *rest;
};
void stream_append(struct stream *s, struct stream_append *a); /* any thread */

struct stream_record {
    uint32_t partition;
    uint64_t seq, enqueued_ms;
    struct span record; /* into the read's buffer */
};

enum stream_from { STREAM_EARLIEST, STREAM_LATEST, STREAM_SEQ, STREAM_TIME };
/* Where a reader stands: value type, kept by the reader (resume later by STREAM_SEQ, next_seq). */
struct stream_pos {
    uint32_t partition;
    enum stream_from from;
    uint64_t value; /* STREAM_SEQ: first seq wanted, at most the next one to come; STREAM_TIME: wall ms, first
                     * record at or after */
};
struct stream_read { /* one batch; the asker's memory until it comes home */
    struct op op;    /* first. ERR_AGAIN: nothing there yet (then stream_watch; next_seq and skipped are set);
                      * ERR_LIMIT: buf is too short for the record next_seq */
    struct stream_pos pos;
    uint8_t *buf; /* the asker's; records are copied into it */
    size_t buf_cap;
    struct stream_record *records; /* the asker's array */
    size_t records_cap;
    size_t records_nr; /* out */
    uint64_t next_seq; /* out: where to go on */
    uint64_t skipped;  /* out: records before the first one that are gone (retention, a damaged disk) */
};
void stream_read(struct stream *s, struct stream_read *r); /* any thread */

/* Wake me once when `partition` has a record with seq >= seq. Comes home with ERR_OK, or ERR_STOPPED. */
struct stream_watch {
    struct op op;
    uint32_t partition;
    uint64_t seq;
    struct stream_watch *next_watch; /* the stream's */
};
void stream_watch(struct stream *s, struct stream_watch *w);
void stream_unwatch(struct stream *s,
                    struct stream_watch *w); /* comes home with ERR_STOPPED, unless it already did */

/* What lies before `seq` of this partition is dealt with: files whose records are all, of every partition,
 * are removed soon, whatever is to be retained. It is not remembered: say it again after a start. */
void stream_forget(struct stream *s, uint32_t partition, uint64_t seq); /* any thread */

struct stream_info {              /* of one partition */
    uint64_t first_seq, next_seq; /* empty when equal */
    uint64_t first_ms, last_ms;   /* first_ms: of the file the first one lies in, at most earlier */
    uint64_t bytes;               /* of the records */
};
void stream_get_info(struct stream *s, uint32_t partition, struct stream_info *out); /* any thread */
uint32_t stream_partitions(const struct stream *s);

struct stream_config {
    const char *dir;
    uint32_t partitions;       /* 1..32, fixed when the directory is made; default 4 */
    uint64_t segment_bytes;    /* roll after; default 64 MiB */
    uint64_t retain_ms;        /* default 24 h; 0: for ever */
    uint64_t retain_bytes;     /* default 8 GiB; 0: no limit */
    uint64_t refuse_bytes;     /* what is there is kept, and more than this refused, ERR_FULL; 0: no limit */
    uint64_t (*wall_ms)(void); /* NULL: the system's clock */
};
/* Creates or opens; cuts a torn tail. ERR_EXISTS: another process has it; ERR_PROTO: other partition count.
 */
MUST_USE enum err stream_segment_open(struct stream **out, const struct stream_config *cfg);
void stream_close(struct stream *s); /* finishes what was handed over; accepts a half-opened stream */

struct stream_stats {
    uint64_t records, bytes, syncs, sync_us_total, torn_bytes;
};
void stream_get_stats(struct stream *s, struct stream_stats *out);

#endif
