/* port/posix/resolve.h - host names to addresses without blocking the asker: a thread a lookup, shared by
 * all who ask for the same name meanwhile, and remembered for a while. */
#ifndef ROOST_PORT_POSIX_RESOLVE_H
#define ROOST_PORT_POSIX_RESOLVE_H

#include "base/err.h"
#include "base/list.h"
#include "base/span.h"

#include <netinet/in.h>
#include <pthread.h>

#define RESOLVE_ADDR_MAX 4u

union resolve_addr {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};
/* One name. The asker's thread owns the list and the references; the lookup thread only fills it. */
struct lookup {
    struct list node;
    int refs; /* under lock: askers, the cache and the thread */
    pthread_mutex_t lock;
    bool done;
    int event_fd; /* readable from done on; -1 where that was at once */
    uint64_t until_ms;
    unsigned addr_nr;
    union resolve_addr addr[RESOLVE_ADDR_MAX]; /* port 0 */
    char host[];
};
struct resolver { /* one thread's */
    struct list cache;
    bool fixed; /* every name is at `at` */
    union resolve_addr at;
};

void resolver_init(struct resolver *r);
MUST_USE enum err resolver_set_address(struct resolver *r, const char *address); /* ERR_PROTO */
void resolver_fini(struct resolver *r);
/* A reference to the lookup of `host`; ready at once for literals and remembered names.
 * ERR_NOMEM, ERR_IO. */
MUST_USE enum err resolve(struct resolver *r, struct span host, struct lookup **out);
bool lookup_is_done(struct lookup *l); /* then addr and addr_nr hold; none: the name is unknown */
void lookup_unref(struct lookup *l);   /* accepts NULL */

#endif
