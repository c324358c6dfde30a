/* hub/blob/dir.c - blobs as files of a directory.
 *
 *   blob.lock            held while a process serves the directory
 *   sha256/ab/abcd...    a blob, under the 64 hex digits of its hash; never changed once it is there
 *   uploads/NAME         an upload that is not yet named by its hash
 *   tmp/                 files of small blobs that are being written; emptied at open
 *
 * A blob is flushed, then renamed into place, then its folder is flushed: under its hash there is either
 * nothing or all of it. */
#include "base/log.h"
#include "hub/blob/blob_backend.h"
#include "hub/blob/disk.h"
#include "port/crypto.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define UPLOADS_MAX   1000u
#define UPLOAD_KEEP_S (7 * 86400)
#define READ_LEN      65536u

struct dir {
    struct blob base;
    int lock_fd, top_fd, sums_fd, uploads_fd, tmp_fd;
    _Atomic unsigned tmp_nr;
};
struct dir_upload {
    struct blob_upload base;
    struct dir *dir;
    int fd;
    uint64_t len;
    char name[65];
};

static enum err hash_fd(int fd, uint8_t out[32], const char *name)
{
    uint8_t *buf = malloc(READ_LEN);
    struct sha256 h;
    uint64_t at = 0;
    ssize_t n;
    if (!buf)
        return ERR_NOMEM;
    port_crypto.sha256_init(&h);
    while ((n = pread(fd, buf, READ_LEN, (off_t)at)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        port_crypto.sha256_update(&h, span_of(buf, (size_t)n));
        at += (uint64_t)n;
    }
    free(buf);
    if (n < 0)
        return disk_failed("read", name);
    port_crypto.sha256_final(&h, out);
    return ERR_OK;
}

static struct disk_path path_of(const uint8_t sha256[32])
{
    return disk_path_of(span_of(sha256, 32));
}

static enum err settle(struct dir *d, int from_fd, const char *from, const uint8_t sha256[32])
{
    const struct disk_path p = path_of(sha256);
    return disk_place(from_fd, from, d->sums_fd, &p);
}

/* ---- uploads --------------------------------------------------------------------------------------- */

static enum err count_files(int dir_fd, size_t *nr)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dp = fd < 0 ? NULL : fdopendir(fd);
    if (!dp) {
        enum err e = disk_failed("opendir", "uploads");
        if (fd >= 0)
            close(fd);
        return e;
    }
    *nr = 0;
    for (struct dirent *de; (de = readdir(dp));)
        *nr += de->d_name[0] != '.';
    closedir(dp);
    return ERR_OK;
}

static enum err dir_upload_open(struct blob *b, struct span name, struct blob_upload **out, uint64_t *have)
{
    struct dir *d = (struct dir *)b;
    struct stat st, named;
    enum err e = ERR_OK;
    struct dir_upload *u = calloc(1, sizeof *u);
    if (!u)
        return ERR_NOMEM;
    u->base.ops = b->ops;
    u->dir = d;
    memcpy(u->name, name.p, name.n);
    u->fd = openat(d->uploads_fd, u->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (u->fd < 0 && errno == ENOENT) {
        size_t nr = 0;
        e = count_files(d->uploads_fd, &nr);
        if (!e && nr >= UPLOADS_MAX)
            e = ERR_LIMIT;
        if (!e)
            u->fd = openat(d->uploads_fd, u->name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    if (!e && u->fd < 0)
        e = disk_failed("open", u->name);
    if (!e && flock(u->fd, LOCK_EX | LOCK_NB))
        e = errno == EWOULDBLOCK ? ERR_EXISTS : disk_failed("flock", u->name);
    if (!e && fstat(u->fd, &st))
        e = disk_failed("stat", u->name);
    /* Between opening and locking, whoever held it may have made a blob of it, or thrown it away. */
    if (!e && (fstatat(d->uploads_fd, u->name, &named, AT_SYMLINK_NOFOLLOW) || named.st_ino != st.st_ino))
        e = ERR_EXISTS;
    if (e) {
        if (u->fd >= 0)
            close(u->fd);
        free(u);
        return e;
    }
    *have = u->len = (uint64_t)st.st_size;
    *out = &u->base;
    return ERR_OK;
}

static void dir_upload_close(struct blob_upload *base)
{
    struct dir_upload *u = (struct dir_upload *)base;
    close(u->fd);
    free(u);
}

static enum err dir_upload_write(struct blob_upload *base, uint64_t at, struct span bytes)
{
    struct dir_upload *u = (struct dir_upload *)base;
    if (at != u->len)
        return ERR_STALE;
    if (bytes.n > INT64_MAX - at)
        return ERR_LIMIT;
    enum err e = disk_write(u->fd, at, bytes, u->name);
    if (e) { /* half a piece is no piece */
        if (ftruncate(u->fd, (off_t)at))
            log_error("blob.disk", "at=truncate file=%s errno=%d", u->name, errno);
        return e;
    }
    u->len += bytes.n;
    return ERR_OK;
}

static enum err dir_upload_commit(struct blob_upload *base, const uint8_t want[32])
{
    struct dir_upload *u = (struct dir_upload *)base;
    uint8_t sum[32];
    enum err e = disk_sync(u->fd, u->name);
    if (!e)
        e = hash_fd(u->fd, sum, u->name);
    if (!e && memcmp(sum, want, 32)) {
        /* Whatever went wrong with it, it will not become right: the next try begins anew. */
        if (unlinkat(u->dir->uploads_fd, u->name, 0))
            log_warn("blob.disk", "at=unlink file=%s errno=%d", u->name, errno);
        e = ERR_VERIFY;
    }
    if (!e)
        e = settle(u->dir, u->dir->uploads_fd, u->name, want);
    dir_upload_close(base);
    return e;
}

static enum err dir_upload_discard(struct blob *b, struct span name)
{
    char z[65] = "";
    memcpy(z, name.p, name.n);
    if (!unlinkat(((struct dir *)b)->uploads_fd, z, 0))
        return ERR_OK;
    return errno == ENOENT ? ERR_NOTFOUND : disk_failed("unlink", z);
}

/* ---- blobs ----------------------------------------------------------------------------------------- */

static enum err dir_put(struct blob *b, struct span bytes, uint8_t sha256[32])
{
    struct dir *d = (struct dir *)b;
    struct sha256 h;
    uint8_t sum[32];
    char name[24];
    port_crypto.sha256_init(&h);
    port_crypto.sha256_update(&h, bytes);
    port_crypto.sha256_final(&h, sum);
    snprintf(name, sizeof name, "put-%u", atomic_fetch_add(&d->tmp_nr, 1));
    int fd = openat(d->tmp_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return disk_failed("open", name);
    enum err e = disk_write(fd, 0, bytes, name);
    if (!e)
        e = disk_sync(fd, name);
    close(fd);
    if (!e)
        e = settle(d, d->tmp_fd, name, sum);
    if (e)
        unlinkat(d->tmp_fd, name, 0); /* it may have been renamed already */
    else
        memcpy(sha256, sum, 32);
    return e;
}

static enum err dir_open_fd(struct blob *b, const uint8_t sha256[32], int *out, uint64_t *len)
{
    const struct disk_path p = path_of(sha256);
    return disk_open(((struct dir *)b)->sums_fd, &p, out, len);
}

static enum err dir_check(struct blob *b, const uint8_t sha256[32])
{
    uint8_t sum[32];
    uint64_t len;
    int fd;
    enum err e = dir_open_fd(b, sha256, &fd, &len);
    if (e)
        return e;
    e = hash_fd(fd, sum, "blob");
    close(fd);
    if (!e && memcmp(sum, sha256, 32))
        e = ERR_VERIFY;
    return e;
}

static enum err dir_delete(struct blob *b, const uint8_t sha256[32])
{
    struct dir *d = (struct dir *)b;
    const struct disk_path p = path_of(sha256);
    if (unlinkat(d->sums_fd, p.file, 0))
        return errno == ENOENT ? ERR_NOTFOUND : disk_failed("unlink", p.file);
    return disk_sync_folder(d->sums_fd, &p);
}

/* ---- open and close -------------------------------------------------------------------------------- */

static void dir_close(struct blob *b)
{
    struct dir *d = (struct dir *)b;
    int fds[] = { d->tmp_fd, d->uploads_fd, d->sums_fd, d->top_fd, d->lock_fd };
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(d);
}

enum err blob_dir_open(struct blob **out, const char *dir)
{
    static const struct blob_ops ops = {
        .close = dir_close,
        .upload_open = dir_upload_open,
        .upload_write = dir_upload_write,
        .upload_commit = dir_upload_commit,
        .upload_close = dir_upload_close,
        .upload_discard = dir_upload_discard,
        .put = dir_put,
        .open_fd = dir_open_fd,
        .check = dir_check,
        .del = dir_delete,
    };
    struct dir *d = calloc(1, sizeof *d);
    if (!d)
        return ERR_NOMEM;
    d->base.ops = &ops;
    d->lock_fd = d->top_fd = d->sums_fd = d->uploads_fd = d->tmp_fd = -1;
    enum err e = disk_top(dir, "blob.lock", &d->top_fd, &d->lock_fd);
    if (!e)
        e = disk_folder(d->top_fd, "sha256", &d->sums_fd);
    if (!e)
        e = disk_folder(d->top_fd, "uploads", &d->uploads_fd);
    if (!e)
        e = disk_folder(d->top_fd, "tmp", &d->tmp_fd);
    if (!e)
        e = disk_sync(d->top_fd, dir);
    if (!e) /* what a crash left behind: all of tmp/, and uploads that nobody went on with for a week */
        e = disk_clean(d->tmp_fd, (time_t)INT64_MAX);
    if (!e)
        e = disk_clean(d->uploads_fd, time(NULL) - UPLOAD_KEEP_S);
    if (e)
        dir_close(&d->base);
    else
        *out = &d->base;
    return e;
}
