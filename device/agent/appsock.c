/* device/agent/appsock.c - see appsock.h. Every line is answered: {"ok":true}, or why it was refused, so that
 * whoever writes an application sees at once what is wrong. */
#include "device/agent/appsock.h"

#include "base/log.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum err appsock_open(struct appsock *a, const char *path, unsigned mode, size_t body_max)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    memset(a, 0, sizeof *a);
    a->listen_fd = -1;
    a->body_max = body_max;
    for (unsigned i = 0; i < APPSOCK_CLIENT_MAX; i++)
        a->clients[i].fd = -1;
    if (strlen(path) >= sizeof at.sun_path) {
        log_error("appsock.open", "path=%s error=\"longer than a socket's name may be\"", path);
        return ERR_LIMIT;
    }
    memcpy(at.sun_path, path, strlen(path));
    if (!(a->path = strdup(path)))
        return ERR_NOMEM;
    (void)unlink(path);
    mode_t before = umask(0777 & ~mode);
    a->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = a->listen_fd >= 0 && bind(a->listen_fd, (struct sockaddr *)&at, sizeof at) == 0 &&
              listen(a->listen_fd, 16) == 0;
    umask(before);
    if (ok)
        return ERR_OK;
    log_error("appsock.open", "path=%s error=\"%s\"", path, strerror(errno));
    appsock_close(a);
    return ERR_IO;
}

static void hang_up(struct appsock_client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->len = 0;
    c->skipping = false;
}

void appsock_close(struct appsock *a)
{
    for (unsigned i = 0; i < APPSOCK_CLIENT_MAX; i++)
        hang_up(&a->clients[i]);
    if (a->listen_fd >= 0) {
        close(a->listen_fd);
        (void)unlink(a->path);
    }
    a->listen_fd = -1;
    while (a->nr)
        appsock_pop(a);
    free(a->path);
    a->path = NULL;
}

struct span appsock_next(const struct appsock *a)
{
    return a->nr ? span_of(a->queue[a->first], a->queue_len[a->first]) : SPAN_NONE;
}

void appsock_pop(struct appsock *a)
{
    free(a->queue[a->first]);
    a->first = (a->first + 1) % APPSOCK_QUEUE_MAX;
    a->nr--;
}

void appsock_tell(struct appsock *a, struct span line)
{
    for (unsigned i = 0; i < APPSOCK_CLIENT_MAX; i++)
        if (a->clients[i].fd >= 0)
            (void)!send(a->clients[i].fd, line.p, line.n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

size_t appsock_poll(const struct appsock *a, struct pollfd *out)
{
    size_t n = 0;
    if (a->listen_fd >= 0)
        out[n++] = (struct pollfd){ .fd = a->listen_fd, .events = POLLIN };
    for (unsigned i = 0; i < APPSOCK_CLIENT_MAX; i++)
        if (a->clients[i].fd >= 0)
            out[n++] = (struct pollfd){ .fd = a->clients[i].fd, .events = POLLIN };
    return n;
}

static void welcome(struct appsock *a)
{
    int fd = accept4(a->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    for (unsigned i = 0; fd >= 0 && i < APPSOCK_CLIENT_MAX; i++)
        if (a->clients[i].fd < 0) {
            a->clients[i].fd = fd;
            return;
        }
    if (fd >= 0) {
        static const char full[] = "{\"ok\":false,\"error\":\"too many connections\"}\n";
        (void)!send(fd, full, sizeof full - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        close(fd);
    }
}

static const char *take(struct appsock *a, struct span line)
{
    json_error_t error;
    json_t *o = json_loadb((const char *)line.p, line.n, JSON_REJECT_DUPLICATES, &error);
    bool object = json_is_object(o);
    json_decref(o);
    if (!object)
        return "a JSON object on one line is expected";
    if (line.n > a->body_max)
        return "the object is too long for a message";
    if (a->nr == APPSOCK_QUEUE_MAX)
        return "too many messages wait for the hub";
    uint8_t *copy = malloc(line.n);
    if (!copy)
        return "out of memory";
    memcpy(copy, line.p, line.n);
    unsigned at = (a->first + a->nr++) % APPSOCK_QUEUE_MAX;
    a->queue[at] = copy;
    a->queue_len[at] = line.n;
    return NULL;
}

static void answer(struct appsock *a, struct appsock_client *c, const char *refusal)
{
    char text[128];
    int n = refusal ? snprintf(text, sizeof text, "{\"ok\":false,\"error\":\"%s\"}\n", refusal)
                    : snprintf(text, sizeof text, "{\"ok\":true}\n");
    if (refusal)
        a->refused++;
    else
        a->taken++;
    (void)!send(c->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT); /* who does not listen misses it */
}

static void serve(struct appsock *a, struct appsock_client *c)
{
    ssize_t got = recv(c->fd, c->line + c->len, sizeof c->line - c->len, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        hang_up(c);
        return;
    }
    c->len += (size_t)got;
    size_t from = 0;
    for (uint8_t *end; (end = memchr(c->line + from, '\n', c->len - from)) != NULL;) {
        struct span line = span_of(c->line + from, (size_t)(end - c->line) - from);
        from += line.n + 1;
        if (c->skipping)
            c->skipping = false; /* was answered when it grew too long */
        else if (line.n)
            answer(a, c, take(a, line));
    }
    c->len -= from;
    memmove(c->line, c->line + from, c->len);
    if (c->skipping) {
        c->len = 0;
    } else if (c->len == sizeof c->line) {
        answer(a, c, "the line is too long");
        c->skipping = true;
        c->len = 0;
    }
}

void appsock_serve(struct appsock *a, const struct pollfd *p, size_t nr)
{
    for (size_t i = 0; i < nr; i++) {
        if (!p[i].revents)
            continue;
        for (unsigned k = 0; k < APPSOCK_CLIENT_MAX; k++)
            if (a->clients[k].fd >= 0 && a->clients[k].fd == p[i].fd) {
                serve(a, &a->clients[k]);
                break;
            }
        if (p[i].fd == a->listen_fd)
            welcome(a);
    }
}
