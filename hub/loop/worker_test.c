/* hub/loop/worker_test.c - turns, mailboxes, deferral and stale events of the loop; the pool beside it. */
#include "hub/loop/pool.h"
#include "hub/loop/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct counted_op {
    struct op op;
    struct worker *seen;
    int order;
};
static int order;
static atomic_int posted_done;

static void count_done(struct op *op)
{
    struct counted_op *c = (struct counted_op *)(void *)op;
    c->seen = worker_self();
    c->order = ++order;
    atomic_fetch_add(&posted_done, 1);
}

static void posts_run_in_order_on_its_thread(void **state)
{
    (void)state;
    struct worker *w;
    struct counted_op ops[100] = { 0 };
    order = 0;
    assert_int_equal(worker_new(&w, 3), ERR_OK);
    assert_int_equal(worker_start(w), ERR_OK);
    for (int i = 0; i < 100; i++) {
        ops[i].op.done = count_done;
        worker_post(w, &ops[i].op);
    }
    worker_stop(w); /* runs what was posted */
    for (int i = 0; i < 100; i++) {
        assert_int_equal(ops[i].order, i + 1);
        assert_ptr_equal(ops[i].seen, w);
    }
    assert_int_equal(worker_index(w), 3);
    assert_null(worker_self());
    worker_free(w);
}

static void not_again(struct watch *f, uint32_t events)
{
    (void)f;
    (void)events;
}

/* More is ready than one turn asks for: what was posted before the stop runs all the same. */
static void posts_run_before_the_end_however_busy(void **state)
{
    enum { BUSY = 800 };
    static struct watch busy[BUSY];
    struct worker *w;
    struct counted_op op = { .op.done = count_done };
    (void)state;
    atomic_store(&posted_done, 0);
    assert_int_equal(worker_new(&w, 0), ERR_OK);
    int fd = eventfd(1, EFD_CLOEXEC);
    for (int i = 0; i < BUSY; i++) {
        busy[i] = (struct watch){ .fd = dup(fd), .on_ready = not_again };
        assert_true(busy[i].fd >= 0);
        assert_int_equal(worker_watch(w, &busy[i], EPOLLIN), ERR_OK);
    }
    worker_post(w, &op.op);
    assert_int_equal(worker_start(w), ERR_OK);
    worker_stop(w);
    assert_int_equal(atomic_load(&posted_done), 1);
    for (int i = 0; i < BUSY; i++)
        worker_close(w, &busy[i]);
    close(fd);
    worker_free(w);
}

struct ticker {
    struct timer timer;
    struct worker *w;
    int runs, stop_after;
};
static void tick(struct timer *t)
{
    struct ticker *k = (struct ticker *)(void *)t;
    assert_true(worker_now_ms(k->w) >= t->at_ms);
    if (++k->runs < k->stop_after)
        timer_arm(k->w, t, worker_now_ms(k->w)); /* for now: one a turn, never twice in one */
}

static void a_timer_for_now_runs_once_a_turn(void **state)
{
    (void)state;
    struct worker *w;
    assert_int_equal(worker_new(&w, 0), ERR_OK);
    struct ticker k = { .timer.on_timer = tick, .w = w, .stop_after = 3 };
    timer_arm(w, &k.timer, worker_now_ms(w) + 1);
    while (k.runs < 1)
        worker_turn(w, -1); /* wakes by the timer alone */
    worker_turn(w, -1);
    assert_int_equal(k.runs, 2);
    worker_turn(w, -1);
    assert_int_equal(k.runs, 3);
    assert_false(timer_is_armed(&k.timer));
    timer_arm(w, &k.timer, worker_now_ms(w) + 1000000);
    timer_disarm(&k.timer);
    worker_turn(w, 0);
    assert_int_equal(k.runs, 3);
    worker_free(w);
}

struct pair_end {
    struct watch watch;
    struct worker *w;
    struct pair_end *other;
    int events;
};
static void kill_other(struct watch *f, uint32_t events)
{
    struct pair_end *e = (struct pair_end *)(void *)f;
    (void)events;
    e->events++;
    worker_unwatch(e->w, &e->watch);
    if (e->other->events == 0) {
        worker_close(e->w, &e->other->watch);
        e->other->watch = (struct watch){ -1, NULL }; /* as good as freed: its event must not come */
    }
}

static void no_event_after_unwatch(void **state)
{
    (void)state;
    struct worker *w;
    int s[2];
    assert_int_equal(worker_new(&w, 0), ERR_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    assert_int_equal(write(s[0], "x", 1), 1);
    assert_int_equal(write(s[1], "x", 1), 1);
    struct pair_end a = { .watch = { s[0], kill_other }, .w = w },
                    b = { .watch = { s[1], kill_other }, .w = w };
    a.other = &b;
    b.other = &a;
    assert_int_equal(worker_watch(w, &a.watch, EPOLLIN), ERR_OK);
    assert_int_equal(worker_watch(w, &b.watch, EPOLLIN), ERR_OK);
    worker_turn(w, -1); /* both are ready: whichever runs first removes the other */
    assert_int_equal(a.events + b.events, 1);
    close(a.events ? s[0] : s[1]);
    worker_free(w);
}

struct chain {
    struct deferred d;
    struct worker *w;
    int runs;
};
static void chain_run(struct deferred *d)
{
    struct chain *c = (struct chain *)(void *)d;
    if (++c->runs < 3)
        worker_defer(c->w, d);
}

static void deferred_by_deferred_waits_a_turn_but_does_not_sleep(void **state)
{
    (void)state;
    struct worker *w;
    assert_int_equal(worker_new(&w, 0), ERR_OK);
    struct chain c = { .d.run = chain_run, .w = w };
    worker_defer(w, &c.d);
    for (int i = 1; i <= 3; i++) {
        worker_turn(w, -1);
        assert_int_equal(c.runs, i);
    }
    worker_free(w);
}

struct job {
    struct pool_op op;
    _Atomic int *sum;
};
static enum err job_run(struct pool_op *self)
{
    atomic_fetch_add(((struct job *)(void *)self)->sum, 1);
    return ERR_STALE; /* any result travels home */
}

static void pool_finishes_what_it_was_given(void **state)
{
    (void)state;
    struct pool *p;
    struct mailbox home;
    _Atomic int sum = 0;
    struct job jobs[200];
    assert_int_equal(mailbox_init(&home), ERR_OK);
    assert_int_equal(pool_new(&p, 3), ERR_OK);
    for (int i = 0; i < 200; i++) {
        jobs[i] = (struct job){ .op = { .op = { .home = &home, .done = count_done }, .run = job_run },
                                .sum = &sum };
        pool_run(p, &jobs[i].op);
    }
    pool_free(p);
    assert_int_equal(atomic_load(&sum), 200);
    int nr = 0;
    for (struct op *op = mailbox_take(&home); op; op = op->next, nr++)
        assert_int_equal(op->err, ERR_STALE);
    assert_int_equal(nr, 200);
    mailbox_fini(&home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_run_in_order_on_its_thread),
        cmocka_unit_test(posts_run_before_the_end_however_busy),
        cmocka_unit_test(a_timer_for_now_runs_once_a_turn),
        cmocka_unit_test(no_event_after_unwatch),
        cmocka_unit_test(deferred_by_deferred_waits_a_turn_but_does_not_sleep),
        cmocka_unit_test(pool_finishes_what_it_was_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
