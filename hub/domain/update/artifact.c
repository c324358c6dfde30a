/* hub/domain/update/artifact.c - takes an uploaded payload and its chunk tree after computing both hashes
 * again from what is on the disk. */
#include "core/trust/chunk_tree.h"
#include "hub/domain/update/release.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECE_LEN 65536u

/* The upload becomes a blob of that hash. When there is nothing under the name, the blob itself may be here
 * from an earlier try. *none: neither. */
static enum err keep(struct hub *h, struct span name, const uint8_t want[SHA256_LEN], bool *none,
                     bool *differs)
{
    struct blob_upload *u;
    uint64_t have, len;
    int fd;
    *none = *differs = false;
    enum err e = blob_upload_open(h->blob, name, &u, &have);
    if (e)
        return e;
    if (have) {
        e = blob_upload_commit(u, want);
        *differs = e == ERR_VERIFY;
        if (*differs) { /* the next try under this name starts from nothing */
            e = blob_upload_discard(h->blob, name);
            if (e == ERR_NOTFOUND)
                e = ERR_OK;
        }
        return e;
    }
    blob_upload_close(u);
    e = blob_upload_discard(h->blob, name);
    if (e && e != ERR_NOTFOUND)
        return e;
    e = blob_open_fd(h->blob, want, &fd, &len);
    *none = e == ERR_NOTFOUND;
    if (!e)
        close(fd);
    return *none ? ERR_OK : e;
}

static enum err feed_all(int fd, struct chunk_builder *b, uint64_t len)
{
    uint8_t *piece = malloc(PIECE_LEN);
    enum err e = piece ? ERR_OK : ERR_NOMEM;
    for (uint64_t at = 0; !e && at < len;) {
        ssize_t n = pread(fd, piece, PIECE_LEN, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            e = ERR_IO;
        else
            e = chunk_builder_feed(b, span_of(piece, (size_t)n));
        at += n > 0 ? (uint64_t)n : 0;
    }
    free(piece);
    return e;
}

static enum err check_tree(struct hub *h, struct artifact_ingest *in, int fd)
{
    struct chunk_shape shape;
    struct chunk_builder b;
    uint8_t root[SHA256_LEN];
    struct sha256 sum;
    bool none, differs;
    if (in->payload_len > ARTIFACT_LEN_MAX ||
        chunk_shape_of((uint32_t)in->payload_len, in->chunk_code, in->fan_out, &shape)) {
        in->refusal = ARTIFACT_SHAPE;
        return ERR_OK;
    }
    in->tree_len = chunk_tree_len(&shape);
    uint8_t *tree = malloc(in->tree_len);
    if (!tree)
        return ERR_NOMEM;
    chunk_builder_init(&b, h->crypto, &shape, tree);
    enum err e = feed_all(fd, &b, in->payload_len);
    if (!e)
        e = chunk_builder_finish(&b, root);
    if (!e && memcmp(root, in->root, sizeof root) != 0)
        in->refusal = ARTIFACT_ROOT;
    if (!e && !in->refusal) {
        h->crypto->sha256_init(&sum);
        h->crypto->sha256_update(&sum, span_of(tree, in->tree_len));
        h->crypto->sha256_final(&sum, in->tree_sha256);
        e = keep(h, in->tree, in->tree_sha256, &none, &differs);
        in->refusal = differs ? ARTIFACT_TREE : none ? ARTIFACT_NO_TREE : ARTIFACT_TAKEN;
    }
    free(tree);
    return e;
}

enum err artifact_ingest(struct hub *h, struct artifact_ingest *in)
{
    bool none, differs;
    int fd;
    in->refusal = ARTIFACT_TAKEN;
    enum err e = keep(h, in->payload, in->payload_sha256, &none, &differs);
    if (e)
        return e;
    if (none || differs) {
        in->refusal = differs ? ARTIFACT_PAYLOAD_SUM : ARTIFACT_NO_PAYLOAD;
        return ERR_OK;
    }
    e = blob_open_fd(h->blob, in->payload_sha256, &fd, &in->payload_len);
    if (e)
        return e;
    e = check_tree(h, in, fd);
    close(fd);
    /* What was read above is what will be served: a blob that was here before is hashed again too. */
    if (!e && !in->refusal) {
        e = blob_check(h->blob, in->payload_sha256);
        if (e == ERR_VERIFY) {
            in->refusal = ARTIFACT_PAYLOAD_SUM;
            e = ERR_OK;
        }
    }
    return e;
}

struct artifact_row artifact_ingest_row(const struct artifact_ingest *in)
{
    return (struct artifact_row){ .root = span_of(in->root, SHA256_LEN),
                                  .payload_sha256 = span_of(in->payload_sha256, SHA256_LEN),
                                  .tree_sha256 = span_of(in->tree_sha256, SHA256_LEN),
                                  .payload_len = in->payload_len,
                                  .tree_len = in->tree_len };
}
