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
void worker_stop(struct worker *w);               /* asks it to end and waits for the thread */

unsigned worker_index(const struct worker *w);
struct mailbox *worker_mailbox(struct worker *w); /* ops posted here have done() called on its thread */
uint64_t worker_now_ms(const struct worker *w);   /* monotonic, read once a turn */
uint64_t worker_wall_ms(const struct worker *w);  /* since 1970, read once a turn */
struct worker *worker_self(void);                 /* of the calling thread; NULL elsewhere */

MUST_USE enum err worker_watch(struct worker *w, struct watch *f, uint32_t events);
MUST_USE enum err worker_rewatch(struct worker *w, struct watch *f, uint32_t events);
void worker_unwatch(struct worker *w, struct watch *f);

void timer_arm(struct worker *w, struct timer *t, uint64_t at_ms); /* moves it when armed */
void timer_disarm(struct timer *t);
/* Runs once at the end of this turn, after all events: the place where the dead are freed. */
struct deferred {
    struct list node;
    void (*run)(struct deferred *d);
};
void worker_defer(struct worker *w, struct deferred *d);
/* Runs fn on w's thread soon. Any thread. `op` is the caller's. */
void worker_post(struct worker *w, struct op *op);

#endif
