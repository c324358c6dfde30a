/* hub/front/routing/file_out.c - an endpoint that is a file: one JSON line a message, flushed before it
 * counts as delivered. messages.jsonl is the one being written; when it is large or old enough it becomes
 * messages-MILLISECONDS.jsonl, and the oldest of those are removed. */
#include "hub/front/routing/routing_impl.h"

#include "base/log.h"
#include "hub/front/http/message_json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CURRENT "messages.jsonl"

struct file_out {
    int dir_fd, fd;
    uint64_t size, since_ms;
};

static enum err failed(struct deliver *d, const char *what)
{
    enum err e = errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? ERR_FULL : ERR_IO;
    snprintf(d->why, sizeof d->why, "%s: %s", what, strerror(errno));
    return e;
}

/* A line that was cut by a crash comes again whole. */
static enum err cut_torn(struct deliver *d, struct file_out *f)
{
    char buf[4096];
    uint64_t at = f->size;
    while (at) {
        size_t n = at < sizeof buf ? at : sizeof buf;
        if (pread(f->fd, buf, n, (off_t)(at - n)) != (ssize_t)n)
            return failed(d, "read");
        char *end = memrchr(buf, '\n', n);
        if (end) {
            at = at - n + (size_t)(end - buf) + 1;
            break;
        }
        at -= n;
    }
    if (at == f->size)
        return ERR_OK;
    f->size = at;
    return ftruncate(f->fd, (off_t)at) ? failed(d, "truncate") : ERR_OK;
}

static enum err file_open(struct deliver *d, struct file_out *f)
{
    struct stat st;
    if (f->fd >= 0)
        return ERR_OK;
    f->fd = openat(f->dir_fd, CURRENT, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (f->fd < 0)
        return failed(d, "open " CURRENT);
    if (fstat(f->fd, &st))
        return failed(d, "stat");
    f->size = (uint64_t)st.st_size;
    f->since_ms = st.st_size ? (uint64_t)st.st_mtime * 1000 : d->hub->wall_ms();
    if (fsync(f->dir_fd))
        return failed(d, "fsync");
    return cut_torn(d, f);
}

static int is_old(const struct dirent *e)
{
    return !strncmp(e->d_name, "messages-", 9) && strlen(e->d_name) > 15 &&
           !strcmp(e->d_name + strlen(e->d_name) - 6, ".jsonl");
}

static void rotate(struct deliver *d, struct file_out *f)
{
    char name[64];
    struct dirent **old = NULL;
    uint64_t now = d->hub->wall_ms();
    if (f->fd < 0 || !f->size ||
        (f->size < d->spec->rotate_bytes && now < f->since_ms + d->spec->rotate_s * 1000))
        return;
    do /* never over one that is there */
        snprintf(name, sizeof name, "messages-%013llu.jsonl", (unsigned long long)now++);
    while (faccessat(f->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    close(f->fd);
    f->fd = -1;
    if (renameat(f->dir_fd, CURRENT, f->dir_fd, name))
        return; /* the next write opens it again */
    int fd = dup(f->dir_fd), nr = -1;
    if (fd >= 0) {
        nr = scandirat(f->dir_fd, ".", &old, is_old, alphasort);
        close(fd);
    }
    for (int i = 0; i < nr; i++) {
        if ((uint64_t)(nr - i) > d->spec->keep)
            unlinkat(f->dir_fd, old[i]->d_name, 0);
        free(old[i]);
    }
    free(old);
}

void routing_note_left(const char *dir)
{
    char name[NAME_MAX + sizeof CURRENT + 1];
    struct stat st;
    DIR *dp = opendir(dir);
    for (struct dirent *de; dp && (de = readdir(dp));) {
        snprintf(name, sizeof name, "%s/" CURRENT, de->d_name);
        if (de->d_name[0] != '.' && fstatat(dirfd(dp), name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode))
            log_warn("routing.files",
                     "left=%s/%s reason=\"file endpoints write below routing.files now\" "
                     "hint=\"move its messages*.jsonl there while the hub is stopped, or away\"",
                     dir, de->d_name);
    }
    if (dp)
        closedir(dp);
}

static enum err open_(struct deliver *d)
{
    char dir[PATH_MAX + ROUTE_NAME_MAX + 2];
    struct file_out *f = calloc(1, sizeof *f);
    if (!f)
        return ERR_NOMEM;
    f->fd = f->dir_fd = -1;
    d->state = f;
    mkdir(d->files, 0700);
    snprintf(dir, sizeof dir, "%s/%s", d->files, d->out->name);
    mkdir(dir, 0700);
    f->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return f->dir_fd < 0 ? failed(d, "open its directory") : ERR_OK;
}

static enum err send_(struct deliver *d, const struct stream_record *r, size_t nr, size_t *done)
{
    struct file_out *f = d->state;
    rotate(d, f);
    enum err e = file_open(d, f);
    uint64_t from = f->size;
    for (size_t i = 0; i < nr && !e; i++) {
        char *line = message_line(&r[i]);
        if (!line) /* bytes that are no message */
            continue;
        size_t n = strlen(line), at = 0;
        while (at < n && !e) {
            ssize_t got = write(f->fd, line + at, n - at);
            if (got > 0)
                at += (size_t)got;
            else if (got == 0 || errno != EINTR)
                e = failed(d, "write");
        }
        f->size += n;
        free(line);
    }
    if (!e && fdatasync(f->fd))
        e = failed(d, "fdatasync");
    if (!e) {
        *done = nr;
        return ERR_OK;
    }
    if (f->fd >= 0) { /* none of these: they come again */
        if (ftruncate(f->fd, (off_t)from))
            snprintf(d->why, sizeof d->why, "truncate: %s", strerror(errno));
        close(f->fd);
        f->fd = -1;
    }
    return e;
}

static void idle(struct deliver *d)
{
    rotate(d, d->state);
}

static void close_(struct deliver *d)
{
    struct file_out *f = d->state;
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    if (f->dir_fd >= 0)
        close(f->dir_fd);
    free(f);
    d->state = NULL;
}

const struct deliver_ops file_out_ops = { open_, send_, idle, close_ };
