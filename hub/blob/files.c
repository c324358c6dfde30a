/* hub/blob/files.c - see files.h.
 *
 *   files.lock          held while a process serves the directory
 *   ab/abcd...          a file, under the 32 hex digits of its id; never changed once it is there
 *   tmp/                what is being written; emptied at open
 *
 * A file is flushed, then renamed into place, then its folder is flushed. */
#include "hub/blob/files.h"

#include "base/log.h"
#include "base/text.h"
#include "hub/blob/disk.h"
#include "port/crypto.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PIECE_LEN   65536u
#define SPACE_EVERY (1u << 20) /* bytes between two looks at the free space */

struct files {
    int lock_fd, top_fd, tmp_fd;
    uint64_t keep_free;
    _Atomic unsigned tmp_nr;
};
struct file_writer {
    struct files *files;
    int fd;
    uint64_t len, looked; /* looked: len when the free space was last asked for, plus one */
    EVP_MD_CTX *md5;
    char name[24];
};

static struct disk_path path_of(const uint8_t id[FILE_ID_LEN])
{
    return disk_path_of(span_of(id, FILE_ID_LEN));
}

/* ---- writing ---------------------------------------------------------------------------------------- */

enum err file_create(struct files *f, struct file_writer **out)
{
    struct file_writer *w = calloc(1, sizeof *w);
    if (!w)
        return ERR_NOMEM;
    w->files = f;
    snprintf(w->name, sizeof w->name, "%u", atomic_fetch_add(&f->tmp_nr, 1));
    w->md5 = EVP_MD_CTX_new();
    w->fd = openat(f->tmp_fd, w->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    enum err e = w->fd < 0 ? disk_failed("open", w->name) : ERR_OK;
    if (!e && (!w->md5 || !EVP_DigestInit_ex(w->md5, EVP_md5(), NULL)))
        e = ERR_NOMEM;
    if (e)
        file_discard(w);
    else
        *out = w;
    return e;
}

void file_discard(struct file_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0) {
        close(w->fd);
        unlinkat(w->files->tmp_fd, w->name, 0);
    }
    EVP_MD_CTX_free(w->md5);
    free(w);
}

static enum err space_check(struct file_writer *w, size_t n)
{
    struct statvfs v;
    if (w->looked && w->len + n < w->looked + SPACE_EVERY)
        return ERR_OK;
    if (fstatvfs(w->fd, &v))
        return disk_failed("statvfs", w->name);
    w->looked = w->len + 1;
    return (uint64_t)v.f_bavail * v.f_frsize < w->files->keep_free + n ? ERR_FULL : ERR_OK;
}

enum err file_write(struct file_writer *w, struct span s)
{
    if (!s.n)
        return ERR_OK;
    enum err e = space_check(w, s.n);
    if (!e && !EVP_DigestUpdate(w->md5, s.p, s.n))
        e = ERR_NOMEM;
    if (!e)
        e = disk_write(w->fd, w->len, s, w->name);
    if (!e)
        w->len += s.n;
    return e;
}

enum err file_write_part(struct file_writer *w, const uint8_t id[FILE_ID_LEN], uint64_t at, uint64_t len)
{
    uint64_t whole;
    int fd;
    enum err e = files_open_fd(w->files, id, &fd, &whole);
    if (e)
        return e;
    uint8_t *piece = malloc(PIECE_LEN);
    if (!piece)
        e = ERR_NOMEM;
    while (!e && len) {
        ssize_t n = pread(fd, piece, len < PIECE_LEN ? (size_t)len : PIECE_LEN, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = ENODATA; /* a file that is shorter than its row says */
        if (n <= 0) {
            e = disk_failed("read", "block");
            break;
        }
        e = file_write(w, span_of(piece, (size_t)n));
        at += (uint64_t)n;
        len -= (uint64_t)n;
    }
    free(piece);
    close(fd);
    return e;
}

uint64_t file_written(const struct file_writer *w)
{
    return w->len;
}

enum err file_md5(struct file_writer *w, uint8_t out[FILE_MD5_LEN])
{
    unsigned n = FILE_MD5_LEN;
    return EVP_DigestFinal_ex(w->md5, out, &n) ? ERR_OK : ERR_NOMEM;
}

enum err file_commit(struct file_writer *w, uint8_t id[FILE_ID_LEN])
{
    struct files *f = w->files;
    uint8_t made[FILE_ID_LEN];
    port_crypto.random(made, sizeof made);
    const struct disk_path p = path_of(made);
    enum err e = disk_sync(w->fd, w->name);
    if (!e)
        e = disk_place(f->tmp_fd, w->name, f->top_fd, &p);
    if (!e) {
        close(w->fd);
        w->fd = -1; /* it has its place: there is nothing to take away */
    } else if (unlinkat(f->top_fd, p.file, 0) && errno != ENOENT) {
        log_warn("blob.disk", "at=unlink file=%s errno=%d", p.file, errno);
    }
    file_discard(w);
    if (!e)
        memcpy(id, made, sizeof made);
    return e;
}

/* ---- reading, deleting ------------------------------------------------------------------------------ */

enum err files_open_fd(struct files *f, const uint8_t id[FILE_ID_LEN], int *out, uint64_t *len)
{
    const struct disk_path p = path_of(id);
    return disk_open(f->top_fd, &p, out, len);
}

enum err files_delete(struct files *f, const uint8_t id[FILE_ID_LEN])
{
    const struct disk_path p = path_of(id);
    if (!unlinkat(f->top_fd, p.file, 0)) /* not flushed: no row names it, the next start finds it */
        return ERR_OK;
    return errno == ENOENT ? ERR_NOTFOUND : disk_failed("unlink", p.file);
}

enum err files_list(struct files *f, unsigned folder, uint64_t wall_ms, files_each *each, void *ctx)
{
    char name[3];
    struct stat st;
    enum err e = ERR_OK;
    snprintf(name, sizeof name, "%02x", folder & 0xff);
    int fd = openat(f->top_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ERR_OK : disk_failed("open", name);
    DIR *dp = fdopendir(fd);
    if (!dp) {
        e = disk_failed("opendir", name);
        close(fd);
        return e;
    }
    for (struct dirent *de; !e && (de = readdir(dp));) {
        uint8_t id[FILE_ID_LEN];
        if (hex_decode(span_str(de->d_name), id, sizeof id) ||
            fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW))
            continue;
        if ((uint64_t)st.st_ctim.tv_sec * 1000 < wall_ms)
            e = each(ctx, id);
    }
    closedir(dp);
    return e;
}

/* ---- open and close --------------------------------------------------------------------------------- */

void files_close(struct files *f)
{
    if (!f)
        return;
    const int fds[] = { f->tmp_fd, f->top_fd, f->lock_fd };
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(f);
}

enum err files_open(struct files **out, const char *dir, uint64_t keep_free)
{
    struct files *f = calloc(1, sizeof *f);
    if (!f)
        return ERR_NOMEM;
    f->tmp_fd = -1;
    f->keep_free = keep_free;
    enum err e = disk_top(dir, "files.lock", &f->top_fd, &f->lock_fd);
    if (!e)
        e = disk_folder(f->top_fd, "tmp", &f->tmp_fd);
    if (!e)
        e = disk_sync(f->top_fd, dir);
    if (!e)
        e = disk_clean(f->tmp_fd, (time_t)INT64_MAX);
    if (e)
        files_close(f);
    else
        *out = f;
    return e;
}
