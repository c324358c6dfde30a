/* hub/bus/bus_suite.c - the tests that every backend of the bus passes. Workers are plain mailboxes that the
 * test empties by hand, and threads where the point is that several work at once. */
#include "hub/bus/side_suite.h"

static enum err (*open_bus)(struct bus **out, unsigned workers);
struct bus *bus_suite_bus;
struct bus_suite_side bus_suite_sides[WORKERS];

static void on_wake(void *ctx, struct bus_addr to, uint32_t what)
{
    struct side *s = ctx;
    if (s->nr < 64) {
        s->to[s->nr] = to;
        s->what[s->nr] = what;
    }
    s->nr++;
}

/* As a session would: keeps what came, and answers later. One that is sent four bytes counts them for their
 * sender, who is the slot. */
static bool on_message(void *ctx, struct bus_addr to, const struct bus_message *m)
{
    struct side *s = ctx;
    if (s->deaf)
        return false;
    s->messages_nr++;
    s->message_to = to;
    s->kind = m->kind;
    s->reply = m->reply;
    snprintf(s->identity, sizeof s->identity, "%.*s", (int)m->identity.n, (const char *)m->identity.p);
    snprintf(s->text, sizeof s->text, "%.*s", (int)m->bytes.n, m->bytes.n ? (const char *)m->bytes.p : "");
    if (m->kind == BUS_TWIN && m->bytes.n == 4) {
        uint32_t nr;
        memcpy(&nr, m->bytes.p, 4);
        s->in_order &= nr > s->last[to.slot % 8];
        s->last[to.slot % 8] = nr;
    }
    if (m->kind == BUS_METHOD && to.slot == 99) /* one that answers at once */
        bus_answer(B, m->reply, ERR_OK, m->bytes);
    return true;
}

/* One turn of a worker. */
bool turn(struct side *s)
{
    struct op *op = mailbox_take(&s->mail), *next;
    bool any = op != NULL;
    for (; op; op = next) {
        next = op->next;
        op->done(op);
    }
    return any;
}

void turn_all(void)
{
    bool any;
    do {
        any = false;
        for (int i = 0; i < WORKERS; i++)
            any |= turn(&sides[i]);
    } while (any);
}

static int setup(void **state)
{
    (void)state;
    if (open_bus(&B, WORKERS))
        return 1;
    for (unsigned i = 0; i < WORKERS; i++) {
        sides[i] = (struct side){ .nr = 0 };
        if (mailbox_init(&sides[i].mail))
            return 1;
        sides[i].in_order = true;
        bus_register(B, i, &sides[i].mail, on_wake, &sides[i]);
        bus_on_messages(B, i, on_message);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bus_free(B);
    for (int i = 0; i < WORKERS; i++)
        mailbox_fini(&sides[i].mail);
    return 0;
}

static void test_a_wake_up_finds_its_session(void **state)
{
    (void)state;
    ATTACH("d1", addr(1, 7));
    ATTACH("d1/m", addr(2, 8));
    assert_int_equal(bus_attached_nr(B), 2);
    assert_true(bus_is_attached(B, SPAN("d1")));
    assert_false(bus_is_attached(B, SPAN("d2")));
    assert_false(bus_wake(B, SPAN("d2"), BUS_WAKE_C2D));
    assert_true(bus_wake(B, SPAN("d1"), BUS_WAKE_C2D));
    assert_int_equal(sides[1].nr, 0); /* never on the caller's thread */
    turn_all();
    assert_int_equal(sides[0].nr + sides[2].nr, 0);
    assert_int_equal(sides[1].nr, 1);
    assert_int_equal(sides[1].what[0], BUS_WAKE_C2D);
    assert_int_equal(sides[1].to[0].slot, 7);
    assert_int_equal(sides[1].to[0].generation, 107);
    assert_int_equal(sides[1].to[0].worker, 1);
}

static void test_wake_ups_are_gathered(void **state)
{
    (void)state;
    ATTACH("d1", addr(1, 7));
    ATTACH("d2", addr(1, 8));
    for (int i = 0; i < 1000; i++)
        assert_true(bus_wake(B, SPAN("d1"), BUS_WAKE_C2D));
    bus_wake(B, SPAN("d2"), BUS_WAKE_C2D);
    bus_wake(B, SPAN("d1"), BUS_WAKE_IDENTITY);
    turn_all();
    assert_int_equal(sides[1].nr, 2);
    assert_int_equal(sides[1].what[0], BUS_WAKE_C2D | BUS_WAKE_IDENTITY);
    assert_int_equal(sides[1].to[1].slot, 8);
    bus_wake(B, SPAN("d1"), BUS_WAKE_C2D); /* and again after it was seen */
    turn_all();
    assert_int_equal(sides[1].nr, 3);
}

static void test_the_newer_session_takes_over(void **state)
{
    (void)state;
    ATTACH("d1", addr(1, 7));
    ATTACH("d1", addr(1, 7)); /* the same again: nobody is told */
    turn_all();
    assert_int_equal(sides[1].nr, 0);
    ATTACH("d1", addr(2, 9));
    assert_int_equal(bus_attached_nr(B), 1);
    turn_all();
    assert_int_equal(sides[1].nr, 1);
    assert_int_equal(sides[1].what[0], BUS_WAKE_TAKEOVER);
    assert_int_equal(sides[1].to[0].slot, 7);
    assert_int_equal(sides[2].nr, 0);
    bus_detach(B, SPAN("d1"), addr(1, 7)); /* the older one goes: the newer one stays */
    assert_true(bus_wake(B, SPAN("d1"), BUS_WAKE_C2D));
    turn_all();
    assert_int_equal(sides[2].nr, 1);
    assert_int_equal(sides[2].to[0].slot, 9);
    bus_detach(B, SPAN("d1"), addr(2, 9));
    assert_false(bus_is_attached(B, SPAN("d1")));
    assert_int_equal(bus_attached_nr(B), 0);
}

/* A wake-up on its way when the session is replaced goes to an address nobody has: not to the newer one, who
 * asks the store by itself when it comes. */
static void test_a_wake_up_for_one_who_left(void **state)
{
    (void)state;
    ATTACH("d1", addr(1, 7));
    bus_wake(B, SPAN("d1"), BUS_WAKE_C2D);
    bus_detach(B, SPAN("d1"), addr(1, 7));
    ATTACH("d1", addr(1, 8));
    bus_wake(B, SPAN("d1"), BUS_WAKE_C2D);
    turn_all();
    size_t for_new = 0;
    for (size_t i = 0; i < sides[1].nr; i++)
        for_new += sides[1].to[i].slot == 8;
    assert_int_equal(for_new, 1);
}

static void test_all_are_woken(void **state)
{
    enum { NR = 5000 };
    char id[16];
    (void)state;
    for (uint32_t i = 0; i < NR; i++) {
        int n = snprintf(id, sizeof id, "w%u", i);
        assert_int_equal(bus_attach(B, span_of(id, (size_t)n), addr((uint16_t)(i % WORKERS), i)), ERR_OK);
    }
    assert_int_equal(bus_attached_nr(B), NR);
    bus_wake_all(B, BUS_WAKE_C2D);
    turn_all();
    assert_int_equal(sides[0].nr + sides[1].nr + sides[2].nr, NR);
    for (uint32_t i = 0; i < NR; i++) {
        int n = snprintf(id, sizeof id, "w%u", i);
        bus_detach(B, span_of(id, (size_t)n), addr((uint16_t)(i % WORKERS), i));
    }
    assert_int_equal(bus_attached_nr(B), 0);
    bus_wake_all(B, BUS_WAKE_C2D);
    turn_all();
    assert_int_equal(sides[0].nr + sides[1].nr + sides[2].nr, NR);
}

/* Many come and go in any order: the directory knows exactly who is there. */
static void test_the_directory_against_a_list(void **state)
{
    enum { NR = 4096 };
    static bool there[NR];
    uint32_t seed = 1;
    size_t nr = 0;
    char id[16];
    (void)state;
    memset(there, 0, sizeof there);
    for (int step = 0; step < 60000; step++) {
        seed = seed * 1664525u + 1013904223u;
        uint32_t i = (seed >> 8) % (step < 30000 ? NR : NR / 16);
        int n = snprintf(id, sizeof id, "x%u", i);
        if (!there[i])
            assert_int_equal(bus_attach(B, span_of(id, (size_t)n), addr(0, i)), ERR_OK);
        else
            bus_detach(B, span_of(id, (size_t)n), addr(0, i));
        nr += there[i] ? (size_t)-1 : 1;
        there[i] = !there[i];
        assert_int_equal(bus_attached_nr(B), nr);
    }
    for (uint32_t i = 0; i < NR; i++) {
        int n = snprintf(id, sizeof id, "x%u", i);
        assert_int_equal(bus_is_attached(B, span_of(id, (size_t)n)), there[i]);
    }
}

_Atomic bool bus_suite_stop;

void *bus_suite_worker_thread(void *arg)
{
    struct side *s = arg;
    while (!atomic_load(&bus_suite_stop)) {
        mailbox_wait(&s->mail, 10);
        turn(s);
    }
    turn(s);
    return NULL;
}

static void *caller_thread(void *arg)
{
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    char id[16];
    for (int step = 0; step < 20000; step++) {
        seed = seed * 1664525u + 1013904223u;
        uint32_t i = (seed >> 8) % 256;
        struct span s = span_of(id, (size_t)snprintf(id, sizeof id, "t%u", i));
        switch (seed >> 29) {
        case 0:
        case 1:
            if (bus_attach(B, s, addr((uint16_t)(seed % WORKERS), i)))
                abort();
            break;
        case 2:
            bus_detach(B, s, addr((uint16_t)(seed % WORKERS), i));
            break;
        case 3:
            if (step % 100 == 0)
                bus_wake_all(B, BUS_WAKE_IDENTITY);
            break;
        default:
            bus_wake(B, s, BUS_WAKE_C2D);
        }
    }
    return NULL;
}

static void test_several_at_once(void **state)
{
    pthread_t callers[4], workers[WORKERS];
    (void)state;
    atomic_store(&bus_suite_stop, false);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&workers[i], NULL, bus_suite_worker_thread, &sides[i]), 0);
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&callers[i], NULL, caller_thread, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(callers[i], NULL);
    atomic_store(&bus_suite_stop, true);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    turn_all();
    size_t before = sides[0].nr;
    ATTACH("last", addr(0, 1));
    assert_true(bus_wake(B, SPAN("last"), BUS_WAKE_C2D));
    turn_all();
    assert_int_equal(sides[0].nr, before + 1);
}

int bus_suite(enum err (*open)(struct bus **out, unsigned workers))
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_a_wake_up_finds_its_session),
                                        T(test_wake_ups_are_gathered),
                                        T(test_the_newer_session_takes_over),
                                        T(test_a_wake_up_for_one_who_left),
                                        T(test_all_are_woken),
                                        T(test_the_directory_against_a_list),
                                        T(test_several_at_once),
#define CALLS(name) T(bus_suite_##name),
                                        SUITE_CALL_TESTS(CALLS) };
#undef CALLS
#undef T
    open_bus = open;
    return cmocka_run_group_tests_name("bus", tests, NULL, NULL);
}
