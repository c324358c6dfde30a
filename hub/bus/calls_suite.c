/* hub/bus/calls_suite.c - the part of the suite about messages, calls and waits. */
#include "hub/bus/side_suite.h"

/* ---- messages ---------------------------------------------------------------------------------------- */

void bus_suite_test_a_message_finds_its_session(void **state)
{
    char text[] = "hello";
    (void)state;
    ATTACH("d1", addr(1, 7));
    ATTACH("d1/m", addr(2, 8));
    assert_int_equal(bus_post(B, SPAN("d2"), BUS_TWIN, SPAN("x")), ERR_NOTFOUND);
    assert_int_equal(bus_post(B, SPAN("d1/m"), BUS_TWIN, span_of(text, 5)), ERR_OK);
    memset(text, 'x', 5);                      /* it was copied */
    assert_int_equal(sides[2].messages_nr, 0); /* never on the caller's thread */
    turn_all();
    assert_int_equal(sides[0].messages_nr + sides[1].messages_nr, 0);
    assert_int_equal(sides[2].messages_nr, 1);
    assert_int_equal(sides[2].kind, BUS_TWIN);
    assert_int_equal(sides[2].message_to.slot, 8);
    assert_int_equal(sides[2].message_to.generation, 108);
    assert_string_equal(sides[2].identity, "d1/m");
    assert_string_equal(sides[2].text, "hello");
    assert_int_equal(sides[2].reply.id, 0);
    assert_int_equal(bus_post(B, SPAN("d1"), BUS_TWIN, SPAN_NONE), ERR_OK);
    turn_all();
    assert_int_equal(sides[1].messages_nr, 1);
    assert_string_equal(sides[1].text, "");
}

void bus_suite_test_a_worker_that_does_not_keep_up(void **state)
{
    static uint8_t big[BUS_BYTES_MAX + 1];
    uint32_t i;
    (void)state;
    ATTACH("d1", addr(1, 7));
    ATTACH("d2", addr(2, 7));
    assert_int_equal(bus_post(B, SPAN("d1"), BUS_TWIN, span_of(big, sizeof big)), ERR_LIMIT);
    for (i = 1; i <= BUS_QUEUE_NR_MAX; i++)
        assert_int_equal(bus_post(B, SPAN("d1"), BUS_TWIN, span_of(&i, 4)), ERR_OK);
    assert_int_equal(bus_post(B, SPAN("d1"), BUS_TWIN, SPAN("x")), ERR_FULL);
    assert_int_equal(bus_post(B, SPAN("d2"), BUS_TWIN, SPAN("x")), ERR_OK); /* another worker's */
    turn_all();
    assert_int_equal(sides[1].messages_nr, BUS_QUEUE_NR_MAX);
    assert_true(sides[1].in_order);
    for (i = 0; i < BUS_QUEUE_BYTES_MAX / BUS_BYTES_MAX; i++)
        assert_int_equal(bus_post(B, SPAN("d1"), BUS_TWIN, span_of(big, BUS_BYTES_MAX)), ERR_OK);
    assert_int_equal(bus_post(B, SPAN("d1"), BUS_TWIN, SPAN("x")), ERR_FULL);
    turn_all();
    assert_int_equal(bus_post(B, SPAN("d1"), BUS_TWIN, SPAN("x")), ERR_OK);
    /* what is still on its way when the bus ends is given back: the sanitizer looks */
}

/* ---- calls ------------------------------------------------------------------------------------------- */

struct call {
    struct bus_call call; /* first */
    unsigned done;
    char answer[64];
};
static void call_done(struct op *op)
{
    struct call *c = (struct call *)(void *)op;
    struct span a = c->call.answer;
    c->done++;
    snprintf(c->answer, sizeof c->answer, "%.*s", (int)a.n, a.n ? (const char *)a.p : "");
    bus_call_fini(&c->call);
}
static struct call *call_to(struct call *c, const char *identity, const char *text)
{
    *c = (struct call){ .call.op = { .home = &sides[0].mail, .done = call_done } };
    bus_call_start(B, &c->call, span_str(identity), BUS_METHOD, span_str(text));
    return c;
}
#define ENDED(c, e)                                                                                          \
    do {                                                                                                     \
        turn_all();                                                                                          \
        assert_int_equal((c).done, 1);                                                                       \
        assert_int_equal((c).call.op.err, e);                                                                \
    } while (0)

void bus_suite_test_a_call_is_answered(void **state)
{
    struct call c, d;
    (void)state;
    ATTACH("d1", addr(1, 7));
    call_to(&c, "d1", "open");
    call_to(&d, "d1", "shut");
    turn(&sides[1]);
    struct bus_reply second = sides[1].reply;
    assert_string_equal(sides[1].text, "shut");
    turn_all();
    assert_int_equal(c.done + d.done, 0);
    bus_answer(B, second, ERR_OK, SPAN("done"));
    bus_answer(B, second, ERR_OK, SPAN("again")); /* nobody is there any more */
    ENDED(d, ERR_OK);
    assert_string_equal(d.answer, "done");
    assert_int_equal(c.done, 0);
    bus_call_end(B, &c.call, ERR_AGAIN); /* the caller has waited long enough */
    ENDED(c, ERR_AGAIN);
    bus_answer(B, (struct bus_reply){ c.call.id, 0 }, ERR_OK, SPAN("late"));
    bus_answer(B, (struct bus_reply){ 0, 0 }, ERR_OK, SPAN("nobody"));
    bus_answer(B, (struct bus_reply){ UINT64_MAX, 0 }, ERR_OK, SPAN("nobody"));
    ENDED(c, ERR_AGAIN);
}

void bus_suite_test_a_call_that_finds_nobody(void **state)
{
    struct call c;
    (void)state;
    call_to(&c, "d1", "open");
    assert_int_equal(c.done, 0); /* never within the call */
    ENDED(c, ERR_NOTFOUND);
    ATTACH("d1", addr(1, 7));
    sides[1].deaf = true; /* the session left, or takes no calls */
    call_to(&c, "d1", "open");
    ENDED(c, ERR_NOTFOUND);
    sides[1].deaf = false;
    call_to(&c, "d1", "open");
    turn(&sides[1]);
    bus_answer(B, sides[1].reply, ERR_CLOSED, SPAN_NONE);
    ENDED(c, ERR_CLOSED);
}

void bus_suite_test_an_answer_too_long(void **state)
{
    static uint8_t big[BUS_BYTES_MAX + 1];
    struct call c;
    (void)state;
    ATTACH("d1", addr(1, 7));
    call_to(&c, "d1", "open");
    turn(&sides[1]);
    bus_answer(B, sides[1].reply, ERR_OK, span_of(big, sizeof big));
    ENDED(c, ERR_LIMIT);
    c = (struct call){ .call.op = { .home = &sides[0].mail, .done = call_done } };
    bus_call_start(B, &c.call, SPAN("d1"), BUS_METHOD, span_of(big, sizeof big));
    ENDED(c, ERR_LIMIT);
}

void bus_suite_test_calls_have_a_cap(void **state)
{
    struct call *all = calloc(BUS_CALLS_MAX, sizeof *all), more;
    (void)state;
    assert_non_null(all);
    ATTACH("d1", addr(1, 7));
    for (uint32_t i = 0; i < BUS_CALLS_MAX; i++) {
        call_to(&all[i], "d1", "x");
        if (i % 1024 == 0)
            turn_all();
    }
    call_to(&more, "d1", "x");
    ENDED(more, ERR_FULL);
    assert_int_equal(sides[1].messages_nr, BUS_CALLS_MAX);
    bus_stop(B);
    turn_all();
    for (uint32_t i = 0; i < BUS_CALLS_MAX; i++) {
        assert_int_equal(all[i].done, 1);
        assert_int_equal(all[i].call.op.err, ERR_STOPPED);
    }
    call_to(&more, "d1", "x");
    ENDED(more, ERR_STOPPED);
    assert_int_equal(bus_post(B, SPAN("d1"), BUS_TWIN, SPAN("x")), ERR_STOPPED);
    free(all);
}

/* ---- waits ------------------------------------------------------------------------------------------- */

struct wait {
    struct bus_wait wait; /* first */
    unsigned done;
};
static void wait_done(struct op *op)
{
    ((struct wait *)(void *)op)->done++;
}
static struct wait *wait_for(struct wait *w, const char *identity)
{
    *w = (struct wait){ .wait.op = { .home = &sides[0].mail, .done = wait_done } };
    bus_wait_start(B, &w->wait, span_str(identity));
    return w;
}

void bus_suite_test_who_waits_is_told(void **state)
{
    struct wait a, b, other;
    (void)state;
    bus_announce(B, SPAN("d1")); /* nobody waits */
    wait_for(&a, "d1");
    wait_for(&b, "d1");
    wait_for(&other, "d2");
    turn_all();
    assert_int_equal(a.done + b.done + other.done, 0);
    bus_announce(B, SPAN("d1"));
    bus_announce(B, SPAN("d1"));
    turn_all();
    assert_int_equal(a.done, 1);
    assert_int_equal(a.wait.op.err, ERR_OK);
    assert_int_equal(b.done, 1);
    assert_int_equal(other.done, 0);
    bus_wait_end(B, &other.wait, ERR_AGAIN);
    bus_wait_end(B, &other.wait, ERR_AGAIN);
    turn_all();
    assert_int_equal(other.done, 1);
    assert_int_equal(other.wait.op.err, ERR_AGAIN);
    wait_for(&other, "d2");
    bus_stop(B);
    turn_all();
    assert_int_equal(other.done, 1);
    assert_int_equal(other.wait.op.err, ERR_STOPPED);
}

void bus_suite_test_waits_have_a_cap(void **state)
{
    struct wait *all = calloc(BUS_CALLS_MAX, sizeof *all), more;
    (void)state;
    assert_non_null(all);
    for (uint32_t i = 0; i < BUS_CALLS_MAX; i++)
        wait_for(&all[i], "d1");
    wait_for(&more, "d2");
    turn_all();
    assert_int_equal(more.done, 1);
    assert_int_equal(more.wait.op.err, ERR_FULL);
    bus_announce(B, SPAN("d1"));
    turn_all();
    for (uint32_t i = 0; i < BUS_CALLS_MAX; i++)
        assert_int_equal(all[i].done, 1);
    free(all);
}

/* Several senders, each to a session of its own, while workers deliver: each sender's order is kept, and
 * every call ends once. */
static void *sender_thread(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;
    char id[16];
    struct span s = span_of(id, (size_t)snprintf(id, sizeof id, "s%u", me));
    for (uint32_t nr = 1; nr <= 20000; nr++)
        while (bus_post(B, s, BUS_TWIN, span_of(&nr, 4)) == ERR_FULL)
            ;
    return NULL;
}

struct asker {
    struct mailbox mail;
    uint32_t nr, ok, gone;
};
static void asked(struct op *op)
{
    struct bus_call *c = (struct bus_call *)op;
    struct asker *a = CONTAINER_OF(op->home, struct asker, mail);
    a->ok += op->err == ERR_OK && span_eq(c->answer, SPAN("ping"));
    a->gone += op->err == ERR_AGAIN;
    bus_call_fini(c);
    free(c);
}
static void *asker_thread(void *arg)
{
    struct asker *a = arg;
    for (uint32_t i = 0; i < 5000; i++) {
        struct bus_call *c = calloc(1, sizeof *c);
        if (!c)
            abort();
        c->op.home = &a->mail;
        c->op.done = asked;
        bus_call_start(B, c, SPAN("echo"), BUS_METHOD, SPAN("ping"));
        if (i % 7 == 0)
            bus_call_end(B, c, ERR_AGAIN); /* races with the answer: one of them wins */
        a->nr++;
        while (a->nr > 64 || (i == 4999 && a->nr)) {
            mailbox_wait(&a->mail, -1);
            for (struct op *op = mailbox_take(&a->mail), *next; op; op = next) {
                next = op->next;
                op->done(op);
                a->nr--;
            }
        }
    }
    return NULL;
}

void bus_suite_test_messages_and_calls_at_once(void **state)
{
    pthread_t senders[3], askers[2], workers[WORKERS];
    static struct asker ask[2];
    (void)state;
    for (uint16_t i = 0; i < 3; i++) {
        char id[16];
        int n = snprintf(id, sizeof id, "s%u", i + 1u);
        assert_int_equal(bus_attach(B, span_of(id, (size_t)n), addr(i % 2, i + 1u)), ERR_OK);
    }
    ATTACH("echo", addr(2, 99));
    atomic_store(&bus_suite_stop, false);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&workers[i], NULL, bus_suite_worker_thread, &sides[i]), 0);
    for (uintptr_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&senders[i], NULL, sender_thread, (void *)(i + 1)), 0);
    for (int i = 0; i < 2; i++) {
        ask[i].nr = ask[i].ok = ask[i].gone = 0;
        assert_int_equal(mailbox_init(&ask[i].mail), ERR_OK);
        assert_int_equal(pthread_create(&askers[i], NULL, asker_thread, &ask[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(senders[i], NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(askers[i], NULL);
    atomic_store(&bus_suite_stop, true);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    turn_all();
    assert_true(sides[0].in_order && sides[1].in_order);
    assert_int_equal(sides[0].messages_nr, 40000);
    assert_int_equal(sides[1].messages_nr, 20000);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ask[i].ok + ask[i].gone, 5000);
        mailbox_fini(&ask[i].mail);
    }
}
