/* device/agent/appsock.h - where the application hands in telemetry: a unix stream socket, one JSON object a
 * line. What was taken waits here until the hub has acknowledged the one before. */
#ifndef ROOST_DEVICE_AGENT_APPSOCK_H
#define ROOST_DEVICE_AGENT_APPSOCK_H

#include "base/err.h"
#include "base/span.h"

#include <poll.h>

#define APPSOCK_CLIENT_MAX 16u
#define APPSOCK_LINE_MAX   4096u /* bytes of a line */
#define APPSOCK_QUEUE_MAX  256u  /* messages waiting; further ones are refused */

struct appsock_client {
    int fd;        /* -1: free */
    bool skipping; /* the rest of a line that was too long */
    size_t len;
    uint8_t line[APPSOCK_LINE_MAX];
};
struct appsock {
    int listen_fd;
    char *path;
    size_t body_max; /* longer messages are refused: the engine could not send them */
    struct appsock_client clients[APPSOCK_CLIENT_MAX];
    uint8_t *queue[APPSOCK_QUEUE_MAX]; /* owned texts */
    size_t queue_len[APPSOCK_QUEUE_MAX];
    unsigned first, nr;
    uint64_t taken, refused;
};

MUST_USE enum err appsock_open(struct appsock *a, const char *path, unsigned mode,
                               size_t body_max); /* ERR_IO, logged */
void appsock_close(struct appsock *a);
size_t appsock_poll(const struct appsock *a, struct pollfd *out); /* at most APPSOCK_CLIENT_MAX + 1 */
void appsock_serve(struct appsock *a, const struct pollfd *p, size_t nr);
struct span appsock_next(const struct appsock *a); /* the oldest waiting; empty: none */
void appsock_pop(struct appsock *a);
/* A line for every connection there is: what the hub sent. Those who do not read miss it. */
void appsock_tell(struct appsock *a, struct span line);

#endif
