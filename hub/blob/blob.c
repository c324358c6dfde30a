/* hub/blob/blob.c - checks names and hands each call to the backend. */
#include "hub/blob/blob_backend.h"

static bool name_ok(struct span s)
{
    if (!s.n || s.n > 64)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '_' &&
            c != '-')
            return false;
    }
    return true;
}

void blob_close(struct blob *b)
{
    if (b)
        b->ops->close(b);
}

enum err blob_upload_open(struct blob *b, struct span name, struct blob_upload **out, uint64_t *have)
{
    return name_ok(name) ? b->ops->upload_open(b, name, out, have) : ERR_PROTO;
}

enum err blob_upload_write(struct blob_upload *u, uint64_t at, struct span bytes)
{
    return u->ops->upload_write(u, at, bytes);
}

enum err blob_upload_commit(struct blob_upload *u, const uint8_t want[32])
{
    return u->ops->upload_commit(u, want);
}

void blob_upload_close(struct blob_upload *u)
{
    if (u)
        u->ops->upload_close(u);
}

enum err blob_upload_discard(struct blob *b, struct span name)
{
    return name_ok(name) ? b->ops->upload_discard(b, name) : ERR_PROTO;
}

enum err blob_put(struct blob *b, struct span bytes, uint8_t sha256[32])
{
    return b->ops->put(b, bytes, sha256);
}

enum err blob_open_fd(struct blob *b, const uint8_t sha256[32], int *fd, uint64_t *len)
{
    return b->ops->open_fd(b, sha256, fd, len);
}

enum err blob_check(struct blob *b, const uint8_t sha256[32])
{
    return b->ops->check(b, sha256);
}

enum err blob_delete(struct blob *b, const uint8_t sha256[32])
{
    return b->ops->del(b, sha256);
}
