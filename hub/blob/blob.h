/* hub/blob/blob.h - artifacts and uploads: immutable bytes by their SHA-256. Knows no protocol.
 * Blocking calls, made on the I/O pool (hub/loop/pool.h), except blob_open_fd, which is cheap.
 * To add a backend: fill struct blob_ops and pass blob_suite(). */
#ifndef ROOST_HUB_BLOB_BLOB_H
#define ROOST_HUB_BLOB_BLOB_H

#include "base/err.h"
#include "base/span.h"

struct blob;
/* ERR_EXISTS: another process has the directory. */
MUST_USE enum err blob_dir_open(struct blob **out, const char *dir);
void blob_close(struct blob *b);

/* An upload that is not yet named by its hash. `name` (1..64 of [A-Za-z0-9_-]) lets it be resumed.
 * *have: bytes kept so far. ERR_PROTO: the name; ERR_EXISTS: it is open already; ERR_LIMIT: 1000 uploads. */
struct blob_upload;
MUST_USE enum err blob_upload_open(struct blob *b, struct span name, struct blob_upload **out,
                                   uint64_t *have);
/* At offset `at`, which must equal the bytes kept (ERR_STALE). ERR_FULL. */
MUST_USE enum err blob_upload_write(struct blob_upload *u, uint64_t at, struct span bytes);
/* Hashes what is there from the disk, makes it durable under its hash. ERR_VERIFY: want differs (the upload
 * is gone then and starts anew). Closes u. */
MUST_USE enum err blob_upload_commit(struct blob_upload *u, const uint8_t want[32]);
void blob_upload_close(struct blob_upload *u); /* keeps it for later */
MUST_USE enum err blob_upload_discard(struct blob *b, struct span name);

MUST_USE enum err blob_put(struct blob *b, struct span bytes, uint8_t sha256[32]); /* small ones, at once */
/* A file descriptor for reading (the caller closes it) and the length. ERR_NOTFOUND. */
MUST_USE enum err blob_open_fd(struct blob *b, const uint8_t sha256[32], int *fd, uint64_t *len);
/* Reads it all again and compares. ERR_VERIFY: the disk has other bytes. */
MUST_USE enum err blob_check(struct blob *b, const uint8_t sha256[32]);
MUST_USE enum err blob_delete(struct blob *b, const uint8_t sha256[32]);

#endif
