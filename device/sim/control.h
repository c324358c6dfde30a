/* device/sim/control.h - commands for a running fleet, a line each, answered by a line of JSON each: on a
 * unix socket (0600) or on standard input. */
#ifndef ROOST_DEVICE_SIM_CONTROL_H
#define ROOST_DEVICE_SIM_CONTROL_H

#include "device/sim/fleet.h"

#include <poll.h>

#define CONTROL_CLIENT_MAX 8u
#define CONTROL_LINE_MAX   256u

struct control_client {
    int in, out; /* in < 0: free */
    size_t len;
    char line[CONTROL_LINE_MAX];
};
struct control {
    int listen_fd;
    const char *path;
    struct control_client clients[CONTROL_CLIENT_MAX];
};

/* where: a path, "-" for standard input, NULL for none. ERR_IO: logged. */
MUST_USE enum err control_open(struct control *c, const char *where);
void control_close(struct control *c);
size_t control_poll(const struct control *c, struct pollfd *out); /* at most CONTROL_CLIENT_MAX + 1 */
/* Obeys what came in; true: someone said stop. */
bool control_serve(struct control *c, struct fleet *f, const struct pollfd *p, size_t nr);

#endif
