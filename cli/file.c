/* cli/file.c - whole files. */
#include "cli/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum err file_read(const char *path, size_t cap, struct file_bytes *out)
{
    struct file_bytes f = { 0 };
    struct stat st;
    enum err e = ERR_IO;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? ERR_NOTFOUND : ERR_IO;
    if (fstat(fd, &st) < 0)
        goto done;
    if (S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        goto done;
    }
    f.mode = st.st_mode & 07777;
    size_t room = (size_t)st.st_size < cap ? (size_t)st.st_size + 1 : cap + 1; /* one more: is there more? */
    for (;;) {
        uint8_t *p = realloc(f.p, room + 1);
        if (!p) {
            e = ERR_NOMEM;
            goto done;
        }
        f.p = p;
        ssize_t got = read(fd, f.p + f.n, room - f.n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            goto done;
        if (got == 0)
            break;
        f.n += (size_t)got;
        if (f.n > cap) {
            e = ERR_LIMIT;
            goto done;
        }
        if (f.n == room) /* a pipe, or it grew */
            room = room * 2 < cap + 1 ? room * 2 : cap + 1;
    }
    f.p[f.n] = 0;
    *out = f;
    f.p = NULL;
    e = ERR_OK;
done:
    free(f.p);
    int keep = errno;
    close(fd);
    errno = keep;
    return e;
}

static enum err write_all(int fd, struct span s)
{
    while (s.n) {
        ssize_t put = write(fd, s.p, s.n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return errno == ENOSPC || errno == EDQUOT ? ERR_FULL : ERR_IO;
        s = span_skip(s, (size_t)put);
    }
    return ERR_OK;
}

enum err file_save(const char *path, struct span bytes, mode_t mode, bool fresh)
{
    size_t n = strlen(path) + 16;
    char *tmp = malloc(n);
    if (!tmp)
        return ERR_NOMEM;
    snprintf(tmp, n, "%s.XXXXXX", path);
    int fd = mkostemp(tmp, O_CLOEXEC);
    enum err e = ERR_IO;
    if (fd < 0)
        goto done;
    if (fchmod(fd, mode) == 0 && (e = write_all(fd, bytes)) == ERR_OK && fsync(fd) < 0)
        e = ERR_IO;
    if (close(fd) < 0 && !e)
        e = ERR_IO;
    if (!e && fresh) { /* link, unlike rename, never replaces */
        if (link(tmp, path) < 0)
            e = errno == EEXIST ? ERR_EXISTS : ERR_IO;
    } else if (!e && rename(tmp, path) < 0) {
        e = ERR_IO;
    }
    if (e || fresh)
        unlink(tmp);
done:
    free(tmp);
    return e;
}

char *path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir) + strlen(name) + 2;
    char *p = malloc(n);
    if (!p)
        abort();
    snprintf(p, n, "%s%s%s", dir, dir[0] && dir[strlen(dir) - 1] == '/' ? "" : "/", name);
    return p;
}

bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}
