/* hub/loop/worker.c - the epoll loop of worker.h. A turn: wait, read the clock, timers, events, the deferred.
 */
#include "hub/loop/worker.h"

#include "base/log.h"
#include "hub/loop/wheel.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 256 };

struct worker {
    int epoll_fd;
    unsigned index;
    uint64_t now_ms, wall_ms;
    struct list deferred;
    struct mailbox mail;
    struct watch mail_watch;
    void *local[WORKER_LOCALS];
    pthread_t thread;
    bool has_thread;
    atomic_bool stopping;
    struct op stop_op; /* wakes it up to see `stopping` */
    int event_at, event_nr;
    struct epoll_event events[EVENTS_MAX];
    struct wheel wheel;
};

static _Thread_local struct worker *self;

static uint64_t clock_ms(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void read_clocks(struct worker *w)
{
    w->now_ms = clock_ms(CLOCK_MONOTONIC);
    w->wall_ms = clock_ms(CLOCK_REALTIME);
}

static void run_mail(struct worker *w)
{
    struct op *op = mailbox_take(&w->mail);
    while (op) {
        struct op *next = op->next; /* done() may free op */
        op->done(op);
        op = next;
    }
}

static void on_mail(struct watch *f, uint32_t events)
{
    (void)events;
    run_mail(CONTAINER_OF(f, struct worker, mail_watch));
}

enum err worker_new(struct worker **out, unsigned index)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return ERR_NOMEM;
    w->index = index;
    w->mail.wake_fd = -1;
    list_init(&w->deferred);
    read_clocks(w);
    wheel_init(&w->wheel, w->now_ms);
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (w->epoll_fd < 0) {
        log_error("worker.epoll", "errno=%d", errno);
        goto fail;
    }
    if (mailbox_init(&w->mail) != ERR_OK) {
        log_error("worker.mailbox", "errno=%d", errno);
        goto fail;
    }
    w->mail_watch = (struct watch){ .fd = w->mail.wake_fd, .on_ready = on_mail };
    if (worker_watch(w, &w->mail_watch, EPOLLIN) != ERR_OK)
        goto fail;
    *out = w;
    return ERR_OK;
fail:
    worker_free(w);
    return ERR_IO;
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    assert(!w->has_thread);
    struct list *n;
    while ((n = list_pop(&w->deferred))) {
        struct deferred *d = CONTAINER_OF(n, struct deferred, node);
        d->run(d);
    }
    mailbox_fini(&w->mail);
    if (w->epoll_fd >= 0)
        close(w->epoll_fd);
    free(w);
}

static void run_timers(struct worker *w)
{
    struct list run, *n;
    wheel_advance(&w->wheel, w->now_ms);
    if (list_is_empty(&w->wheel.due))
        return;
    /* Only those due now: one that arms itself again for now waits for the next turn. */
    run = w->wheel.due;
    run.next->prev = run.prev->next = &run;
    list_init(&w->wheel.due);
    while ((n = list_pop(&run))) {
        struct timer *t = CONTAINER_OF(n, struct timer, node);
        t->on_timer(t);
    }
}

static void run_deferred(struct worker *w)
{
    struct list run, *n;
    if (list_is_empty(&w->deferred))
        return;
    run = w->deferred;
    run.next->prev = run.prev->next = &run;
    list_init(&w->deferred);
    while ((n = list_pop(&run))) {
        struct deferred *d = CONTAINER_OF(n, struct deferred, node);
        d->run(d);
    }
}

static int wait_ms(struct worker *w, int timeout_ms)
{
    if (!list_is_empty(&w->deferred))
        return 0;
    uint64_t next = wheel_next_ms(&w->wheel);
    if (next == UINT64_MAX)
        return timeout_ms;
    uint64_t now = clock_ms(CLOCK_MONOTONIC); /* the last turn may have been long */
    uint64_t left = next > now ? next - now : 0;
    if (left > INT_MAX)
        left = INT_MAX;
    return timeout_ms < 0 || left < (uint64_t)timeout_ms ? (int)left : timeout_ms;
}

void worker_turn(struct worker *w, int timeout_ms)
{
    struct worker *outer = self;
    self = w;
    int n = epoll_wait(w->epoll_fd, w->events, EVENTS_MAX, wait_ms(w, timeout_ms));
    if (n < 0) {
        if (errno != EINTR)
            log_error("worker.epoll_wait", "worker=%u errno=%d", w->index, errno);
        n = 0;
    }
    read_clocks(w);
    w->event_nr = n;
    run_timers(w);
    for (w->event_at = 0; w->event_at < w->event_nr; w->event_at++) {
        struct watch *f = w->events[w->event_at].data.ptr;
        if (f)
            f->on_ready(f, w->events[w->event_at].events);
    }
    w->event_nr = 0;
    run_deferred(w);
    self = outer;
}

static void *thread_main(void *arg)
{
    struct worker *w = arg;
    char name[16];
    snprintf(name, sizeof name, "worker-%u", w->index);
    pthread_setname_np(pthread_self(), name);
    self = w;
    while (!atomic_load(&w->stopping))
        worker_turn(w, -1);
    run_mail(w);       /* what was posted before the stop: with many events a turn may not come to it */
    worker_turn(w, 0); /* and its consequences */
    while (!list_is_empty(&w->deferred))
        worker_turn(w, 0);
    return NULL;
}

enum err worker_start(struct worker *w)
{
    assert(!w->has_thread);
    int e = pthread_create(&w->thread, NULL, thread_main, w);
    if (e) {
        log_error("worker.start", "worker=%u errno=%d", w->index, e);
        return ERR_IO;
    }
    w->has_thread = true;
    return ERR_OK;
}

static void stop_done(struct op *op)
{
    (void)op; /* it only had to wake the loop */
}

void worker_stop(struct worker *w)
{
    if (!w->has_thread)
        return;
    assert(self != w);
    w->stop_op.done = stop_done;
    atomic_store(&w->stopping, true);
    worker_post(w, &w->stop_op);
    pthread_join(w->thread, NULL);
    w->has_thread = false;
}

unsigned worker_index(const struct worker *w)
{
    return w->index;
}

struct mailbox *worker_mailbox(struct worker *w)
{
    return &w->mail;
}

uint64_t worker_now_ms(const struct worker *w)
{
    return w->now_ms;
}

uint64_t worker_wall_ms(const struct worker *w)
{
    return w->wall_ms;
}

struct worker *worker_self(void)
{
    return self;
}

static enum err control(struct worker *w, int how, struct watch *f, uint32_t events)
{
    struct epoll_event ev = { .events = events, .data.ptr = f };
    if (epoll_ctl(w->epoll_fd, how, f->fd, &ev) < 0) {
        log_error("worker.epoll_ctl", "worker=%u errno=%d", w->index, errno);
        return errno == ENOMEM || errno == ENOSPC ? ERR_NOMEM : ERR_IO;
    }
    return ERR_OK;
}

enum err worker_watch(struct worker *w, struct watch *f, uint32_t events)
{
    return control(w, EPOLL_CTL_ADD, f, events);
}

enum err worker_rewatch(struct worker *w, struct watch *f, uint32_t events)
{
    return control(w, EPOLL_CTL_MOD, f, events);
}

/* The rest of this turn's events may name it; its owner may be gone by then. */
static void forget_events(struct worker *w, const struct watch *f)
{
    for (int i = w->event_at; i < w->event_nr; i++)
        if (w->events[i].data.ptr == f)
            w->events[i].data.ptr = NULL;
}

void worker_unwatch(struct worker *w, struct watch *f)
{
    struct epoll_event ev = { 0 };
    epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, f->fd, &ev);
    forget_events(w, f);
}

void worker_close(struct worker *w, struct watch *f)
{
    close(f->fd); /* the kernel takes it out of the epoll set: one call less */
    f->fd = -1;
    forget_events(w, f);
}

bool timer_is_armed(const struct timer *t)
{
    return t->node.next && t->node.next != &t->node;
}

void timer_disarm(struct timer *t)
{
    if (timer_is_armed(t))
        list_del(&t->node);
}

void timer_arm(struct worker *w, struct timer *t, uint64_t at_ms)
{
    timer_disarm(t);
    t->at_ms = at_ms;
    wheel_put(&w->wheel, t);
}

void worker_defer(struct worker *w, struct deferred *d)
{
    list_push(&w->deferred, &d->node);
}

void worker_post(struct worker *w, struct op *op)
{
    mailbox_post(&w->mail, op);
}

void worker_set_local(struct worker *w, enum worker_local which, void *p)
{
    w->local[which] = p;
}

void *worker_get_local(const struct worker *w, enum worker_local which)
{
    return w->local[which];
}
