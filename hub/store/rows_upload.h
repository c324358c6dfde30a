/* hub/store/rows_upload.h - rows of what devices upload: announced uploads, named blobs and their blocks, and
 * the notifications of finished ones. Included by store.h, which says what holds for all tables. */
#ifndef ROOST_HUB_STORE_ROWS_UPLOAD_H
#define ROOST_HUB_STORE_ROWS_UPLOAD_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

struct store_tx;

struct upload_row {                  /* announced by a device, not completed yet */
    struct span id, device, blob;    /* id: the correlation id; blob: with the device before it */
    uint64_t created_ms, expires_ms; /* wall */
};
struct named_blob_row {
    struct span container, name;
    struct span file;         /* its bytes: an id of hub/blob/files.h, another one after every write */
    uint64_t length;          /* bytes */
    struct span md5;          /* of the bytes, or empty */
    struct span content_type; /* empty: application/octet-stream */
    struct span meta;         /* x-ms-meta-*: "name: value\r\n" lines */
    uint64_t created_ms, modified_ms; /* wall */
    struct span blocks; /* put only: what it was put together from (core/storage/block_table.h), or empty */
    uint64_t room;      /* shown only: what it counts for, in bytes: its length and its table of blocks */
};
struct block_row {                   /* uploaded, in no block list yet */
    struct span container, name, id; /* id: decoded */
    struct span file;
    uint64_t length, created_ms;
};
struct block_open_row { /* what a blob has of blocks in no list */
    uint64_t blocks;
    size_t id_len;    /* of each of them, bytes */
    uint64_t version; /* another one with every change of them; none comes twice, of no blob */
};
struct file_note_row { /* a file is there: told to whoever receives file notifications */
    uint64_t seq;
    struct span device, blob, uri;
    uint64_t length, modified_ms, enqueued_ms;
    uint32_t deliveries;
};

typedef enum err upload_each(void *ctx, const struct upload_row *r);
typedef enum err named_blob_each(void *ctx, const struct named_blob_row *r);
typedef enum err block_each(void *ctx, const struct block_row *r);
typedef enum err file_note_each(void *ctx, const struct file_note_row *r);

/* Announces. ERR_LIMIT: the device has open_max that are not over at created_ms. */
MUST_USE enum err tx_upload_push(struct store_tx *t, const struct upload_row *r, size_t open_max);
MUST_USE enum err tx_upload_get(struct store_tx *t, struct span id, struct upload_row *out);
MUST_USE enum err tx_upload_delete(struct store_tx *t, struct span id); /* ERR_NOTFOUND */
/* Forgets those that were over at before_ms. */
MUST_USE enum err tx_upload_expire(struct store_tx *t, uint64_t before_ms);

MUST_USE enum err tx_blob_get(struct store_tx *t, struct span container, struct span name,
                              struct named_blob_row *out);
/* The table of blocks of a blob; empty: it was put whole. ERR_NOTFOUND: no such blob. */
MUST_USE enum err tx_blob_blocks(struct store_tx *t, struct span container, struct span name,
                                 struct span *out);
/* Inserts or replaces; created_ms of the one before stays. Bytes count for the owner: the first segment of
 * the name. */
MUST_USE enum err tx_blob_put(struct store_tx *t, const struct named_blob_row *r);
MUST_USE enum err tx_blob_delete(struct store_tx *t, struct span container,
                                 struct span name); /* ERR_NOTFOUND */
/* Names after `after` that begin with prefix, in byte order. */
MUST_USE enum err tx_blob_list(struct store_tx *t, struct span container, struct span prefix,
                               struct span after, size_t limit, named_blob_each *each, void *ctx);
/* Oldest first, last written before before_ms. */
MUST_USE enum err tx_blob_list_old(struct store_tx *t, uint64_t before_ms, size_t limit,
                                   named_blob_each *each, void *ctx);

MUST_USE enum err tx_block_get(struct store_tx *t, struct span container, struct span name, struct span id,
                               struct block_row *out);
MUST_USE enum err tx_block_put(struct store_tx *t, const struct block_row *r); /* insert or replace */
MUST_USE enum err tx_block_list(struct store_tx *t, struct span container, struct span name, block_each *each,
                                void *ctx);
MUST_USE enum err tx_block_open(struct store_tx *t, struct span container, struct span name,
                                struct block_open_row *out);
MUST_USE enum err tx_block_clear(struct store_tx *t, struct span container, struct span name);
MUST_USE enum err tx_block_list_old(struct store_tx *t, uint64_t before_ms, size_t limit, block_each *each,
                                    void *ctx);
MUST_USE enum err tx_block_delete(struct store_tx *t, struct span container, struct span name,
                                  struct span id);

/* Does a row name this file? */
MUST_USE enum err tx_file_known(struct store_tx *t, struct span file, bool *known);
/* Bytes of blobs and blocks of an owner; owner empty: of all. */
MUST_USE enum err tx_upload_usage(struct store_tx *t, struct span owner, uint64_t *bytes);

MUST_USE enum err tx_file_note_push(struct store_tx *t, const struct file_note_row *r);
/* The oldest free ones, at most limit, under the lock (text) until until_ms; each counts a delivery. Free
 * ones from before expired_ms, and those delivered deliveries_max times, go instead, with the next that
 * succeeds. ERR_NOTFOUND: none is left that is free. */
MUST_USE enum err tx_file_note_take(struct store_tx *t, struct span lock, uint64_t now_ms, uint64_t until_ms,
                                    uint64_t expired_ms, uint32_t deliveries_max, size_t limit,
                                    file_note_each *each, void *ctx);
/* What is under the lock is done, or (done false) free again. ERR_NOTFOUND: no such lock, or it has run out.
 */
MUST_USE enum err tx_file_note_settle(struct store_tx *t, struct span lock, uint64_t now_ms, bool done);
MUST_USE enum err tx_file_note_list(struct store_tx *t, uint64_t after_seq, size_t limit,
                                    file_note_each *each, void *ctx);

#endif
