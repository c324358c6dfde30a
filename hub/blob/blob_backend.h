/* hub/blob/blob_backend.h - the table behind blob.h. To add a backend: begin its structures with struct blob
 * and struct blob_upload, fill struct blob_ops, write a blob_NAME_open(), and pass blob_suite(). What the
 * calls promise is said in blob.h; names have been checked. */
#ifndef ROOST_HUB_BLOB_BLOB_BACKEND_H
#define ROOST_HUB_BLOB_BLOB_BACKEND_H

#include "hub/blob/blob.h"

struct blob_ops {
    void (*close)(struct blob *b);
    enum err (*upload_open)(struct blob *b, struct span name, struct blob_upload **out, uint64_t *have);
    enum err (*upload_write)(struct blob_upload *u, uint64_t at, struct span bytes);
    enum err (*upload_commit)(struct blob_upload *u, const uint8_t want[32]);
    void (*upload_close)(struct blob_upload *u);
    enum err (*upload_discard)(struct blob *b, struct span name);
    enum err (*put)(struct blob *b, struct span bytes, uint8_t sha256[32]);
    enum err (*open_fd)(struct blob *b, const uint8_t sha256[32], int *fd, uint64_t *len);
    enum err (*check)(struct blob *b, const uint8_t sha256[32]);
    enum err (*del)(struct blob *b, const uint8_t sha256[32]);
};
struct blob {
    const struct blob_ops *ops;
};
struct blob_upload {
    const struct blob_ops *ops;
};

#endif
