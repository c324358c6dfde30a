/* hub/blob/disk.c - see disk.h. */
#include "hub/blob/disk.h"

#include "base/log.h"
#include "base/text.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum err disk_failed(const char *what, const char *name)
{
    int err = errno;
    log_error("blob.disk", "at=%s file=%s errno=%d: %s", what, name, err, strerror(err));
    if (err == ENOSPC || err == EDQUOT || err == EFBIG)
        return ERR_FULL;
    return err == ENOMEM ? ERR_NOMEM : ERR_IO;
}

enum err disk_sync(int fd, const char *name)
{
    return fsync(fd) ? disk_failed("fsync", name) : ERR_OK;
}

enum err disk_write(int fd, uint64_t at, struct span s, const char *name)
{
    while (s.n) {
        ssize_t n = pwrite(fd, s.p, s.n, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (!n)
                errno = ENOSPC;
            return disk_failed("write", name);
        }
        at += (uint64_t)n;
        s = span_skip(s, (size_t)n);
    }
    return ERR_OK;
}

/* ---- folders ---------------------------------------------------------------------------------------- */

enum err disk_folder(int at, const char *name, int *fd)
{
    if (mkdirat(at, name, 0700) && errno != EEXIST)
        return disk_failed("mkdir", name);
    *fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd < 0 ? disk_failed("open", name) : ERR_OK;
}

enum err disk_top(const char *dir, const char *lock, int *top_fd, int *lock_fd)
{
    *top_fd = *lock_fd = -1;
    enum err e = disk_folder(AT_FDCWD, dir, top_fd);
    if (e)
        return e;
    *lock_fd = openat(*top_fd, lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*lock_fd < 0)
        return disk_failed("open", lock);
    if (!flock(*lock_fd, LOCK_EX | LOCK_NB))
        return ERR_OK;
    if (errno != EWOULDBLOCK)
        return disk_failed("flock", lock);
    log_error("blob.open", "dir=%s: another process serves this directory", dir);
    return ERR_EXISTS;
}

enum err disk_clean(int dir_fd, time_t before)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dp = fd < 0 ? NULL : fdopendir(fd);
    struct stat st;
    if (!dp) {
        enum err e = disk_failed("opendir", ".");
        if (fd >= 0)
            close(fd);
        return e;
    }
    for (struct dirent *de; (de = readdir(dp));)
        if (de->d_name[0] != '.' && !fstatat(dir_fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) &&
            st.st_mtime < before && unlinkat(dir_fd, de->d_name, 0))
            log_warn("blob.disk", "at=clean file=%s errno=%d", de->d_name, errno);
    closedir(dp);
    return ERR_OK;
}

/* ---- files ------------------------------------------------------------------------------------------ */

struct disk_path disk_path_of(struct span id)
{
    struct disk_path p;
    char hex[2 * DISK_ID_MAX];
    struct wr w = { (uint8_t *)hex, sizeof hex, 0 };
    hex_encode(&w, id);
    assert(wr_ok(&w));
    snprintf(p.folder, sizeof p.folder, "%.2s", hex);
    snprintf(p.file, sizeof p.file, "%.2s/%.*s", hex, (int)w.len, hex);
    return p;
}

enum err disk_sync_folder(int at, const struct disk_path *p)
{
    int fd = openat(at, p->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return disk_failed("open", p->folder);
    enum err e = disk_sync(fd, p->folder);
    close(fd);
    return e;
}

enum err disk_place(int from_fd, const char *from, int at, const struct disk_path *p)
{
    enum err e = ERR_OK;
    if (!mkdirat(at, p->folder, 0700))
        e = disk_sync(at, p->folder);
    else if (errno != EEXIST)
        e = disk_failed("mkdir", p->folder);
    if (!e && renameat(from_fd, from, at, p->file))
        e = disk_failed("rename", p->file);
    return e ? e : disk_sync_folder(at, p);
}

enum err disk_open(int at, const struct disk_path *p, int *out, uint64_t *len)
{
    struct stat st;
    int fd = openat(at, p->file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? ERR_NOTFOUND : disk_failed("open", p->file);
    if (fstat(fd, &st)) {
        enum err e = disk_failed("stat", p->file);
        close(fd);
        return e;
    }
    *out = fd;
    *len = (uint64_t)st.st_size;
    return ERR_OK;
}
