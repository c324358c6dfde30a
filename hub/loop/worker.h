/* hub/loop/worker.h - one epoll loop, one thread, shares nothing: timers, a mailbox, the time of this turn.
 * Nothing blocks here: no disk, no DNS, no lock held across a call. */
#ifndef ROOST_HUB_LOOP_WORKER_H
#define ROOST_HUB_LOOP_WORKER_H

#include "base/list.h"
#include "base/op.h"

#include <stdint.h>

struct worker;

/* A file descriptor the loop watches; embedded in its owner. on_ready runs with the epoll events. */
struct watch {
    int fd;
    void (*on_ready)(struct watch *w, uint32_t events);
};
struct timer { /* one-shot; embedded in its owner */
    struct list node;
    uint64_t at_ms;
    void (*on_timer)(struct timer *t);
};

MUST_USE enum err worker_new(struct worker **out, unsigned index);
void worker_free(struct worker *w);
MUST_USE enum err worker_start(struct worker *w); /* its thread */
/* Asks it to end and waits for the thread. What was posted until now is still run. */
void worker_stop(struct worker *w);
/* One turn on the calling thread, for a worker that has none: waits for something to happen (at most
 * timeout_ms, -1: for ever), runs it, and what was deferred. */
void worker_turn(struct worker *w, int timeout_ms);

unsigned worker_index(const struct worker *w);
struct mailbox *worker_mailbox(struct worker *w); /* ops posted here have done() called on its thread */
uint64_t worker_now_ms(const struct worker *w);   /* monotonic, read once a turn */
uint64_t worker_wall_ms(const struct worker *w);  /* since 1970, read once a turn */
struct worker *worker_self(void);                 /* of the calling thread; NULL elsewhere */

MUST_USE enum err worker_watch(struct worker *w, struct watch *f, uint32_t events);
MUST_USE enum err worker_rewatch(struct worker *w, struct watch *f, uint32_t events);
void worker_unwatch(struct worker *w, struct watch *f);
/* Ends the watch and closes its descriptor, which must be the only one of its file. */
void worker_close(struct worker *w, struct watch *f);

void timer_arm(struct worker *w, struct timer *t, uint64_t at_ms); /* moves it when armed */
void timer_disarm(struct timer *t); /* harmless when it is not armed, or all zero */
bool timer_is_armed(const struct timer *t);
/* Runs once at the end of this turn, after all events: the place where the dead are freed. One that is
 * deferred by another runs at the end of the next turn, which then does not wait: nobody starves the rest. */
struct deferred {
    struct list node;
    void (*run)(struct deferred *d);
};
void worker_defer(struct worker *w, struct deferred *d);
/* Runs op->done on w's thread soon. Any thread. `op` is the caller's. */
void worker_post(struct worker *w, struct op *op);

/* What a layer above keeps with each worker (NULL at first). To add one: a name here. */
enum worker_local { WORKER_LOCAL_CONN, WORKER_LOCAL_HTTP, WORKER_LOCAL_MQTT, WORKER_LOCALS };
void worker_set_local(struct worker *w, enum worker_local which, void *p);
void *worker_get_local(const struct worker *w, enum worker_local which);

#endif
