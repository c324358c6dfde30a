/* device/sim/control.c - see control.h. */
#include "device/sim/control.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum err control_open(struct control *c, const char *where)
{
    *c = (struct control){ .listen_fd = -1 };
    for (unsigned i = 0; i < CONTROL_CLIENT_MAX; i++)
        c->clients[i].in = c->clients[i].out = -1;
    if (!where)
        return ERR_OK;
    if (strcmp(where, "-") == 0) {
        c->clients[0].in = STDIN_FILENO;
        c->clients[0].out = STDOUT_FILENO;
        return ERR_OK;
    }
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    if (strlen(where) >= sizeof a.sun_path) {
        log_error("sim.control", "path=%s error=\"too long for a socket\"", where);
        return ERR_LIMIT;
    }
    memcpy(a.sun_path, where, strlen(where));
    mode_t before = umask(0177);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)unlink(where);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 8) == 0;
    umask(before);
    if (!ok) {
        log_error("sim.control", "path=%s error=\"%s\"", where, strerror(errno));
        if (fd >= 0)
            close(fd);
        return ERR_IO;
    }
    c->listen_fd = fd;
    c->path = where;
    return ERR_OK;
}

static void drop(struct control_client *k)
{
    if (k->in > STDERR_FILENO)
        close(k->in);
    k->in = k->out = -1;
    k->len = 0;
}

void control_close(struct control *c)
{
    for (unsigned i = 0; i < CONTROL_CLIENT_MAX; i++)
        drop(&c->clients[i]);
    if (c->listen_fd >= 0) {
        close(c->listen_fd);
        (void)unlink(c->path);
    }
    c->listen_fd = -1;
}

size_t control_poll(const struct control *c, struct pollfd *out)
{
    size_t n = 0;
    if (c->listen_fd >= 0)
        out[n++] = (struct pollfd){ .fd = c->listen_fd, .events = POLLIN };
    for (unsigned i = 0; i < CONTROL_CLIENT_MAX; i++)
        if (c->clients[i].in >= 0)
            out[n++] = (struct pollfd){ .fd = c->clients[i].in, .events = POLLIN };
    return n;
}

static void welcome(struct control *c)
{
    int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    for (unsigned i = 0; fd >= 0 && i < CONTROL_CLIENT_MAX; i++)
        if (c->clients[i].in < 0) {
            c->clients[i] = (struct control_client){ .in = fd, .out = fd };
            return;
        }
    if (fd >= 0)
        close(fd); /* as many as there may be */
}

static bool answer(struct fleet *f, struct control_client *k, bool *stop)
{
    json_t *o = fleet_command(f, k->line, stop);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    bool ok = text && dprintf(k->out, "%s\n", text) > 0;
    free(text);
    json_decref(o);
    return ok;
}

/* Takes whole lines; false: the client is gone. */
static bool serve_client(struct fleet *f, struct control_client *k, bool *stop)
{
    ssize_t got = read(k->in, k->line + k->len, sizeof k->line - 1 - k->len);
    if (got < 0)
        return errno == EINTR || errno == EAGAIN;
    if (got == 0)
        return false;
    k->len += (size_t)got;
    for (char *end; (end = memchr(k->line, '\n', k->len)) != NULL;) {
        size_t used = (size_t)(end - k->line) + 1;
        *end = 0;
        if (!answer(f, k, stop))
            return false;
        memmove(k->line, k->line + used, k->len - used);
        k->len -= used;
    }
    return k->len < sizeof k->line - 1; /* a line longer than any command: hang up */
}

bool control_serve(struct control *c, struct fleet *f, const struct pollfd *p, size_t nr)
{
    bool stop = false;
    for (size_t i = 0; i < nr; i++) {
        if (!p[i].revents)
            continue;
        if (p[i].fd == c->listen_fd)
            welcome(c);
        for (unsigned k = 0; k < CONTROL_CLIENT_MAX; k++)
            if (c->clients[k].in >= 0 && c->clients[k].in == p[i].fd &&
                !serve_client(f, &c->clients[k], &stop))
                drop(&c->clients[k]);
    }
    return stop;
}
