/* tests/fault/store.c - the store when the system fails it: every k-th write, flush, open, rename and
 * allocation (of the latter the first hundreds, then in widening steps), SQLite's own included; a full disk;
 * kill -9 under load. What was acknowledged is there afterwards and belongs to whom it was sent, and the
 * store works again. */
#include "hub/store/store.h"
#include "tests/fault/layer/fault_fixture.h"

#define DEVICES 5u
#define STEPS   30u

static struct mailbox home;

static enum err open_it(struct store **out)
{
    return store_sqlite_open(out, dir, 1);
}

/* ---- the work: messages to devices ------------------------------------------------------------------ */

struct message { /* an op, and what the store promised */
    struct store_op op;
    uint32_t number;
    uint64_t seq;
    bool make_device, settle, there;
    char body[64];
};

static struct span id_of(uint32_t number, char out[16])
{
    return span_of(out, (size_t)snprintf(out, 16, "device-%u", number % DEVICES));
}

static enum err message_run(struct store_tx *t, struct store_op *op)
{
    struct message *m = (struct message *)op;
    char id[16];
    struct span device = id_of(m->number, id);
    if (m->make_device) {
        struct device_row d = { .id = device, .generation = SPAN("g") };
        enum err e = tx_device_put(t, &d, 0, NULL);
        if (e)
            return e;
    }
    if (m->settle)
        return tx_c2d_settle(t, device, false, m->seq);
    struct c2d_row r = { .device = device, .body = span_str(m->body) };
    return tx_c2d_push(t, &r, SIZE_MAX, &m->seq);
}

static void message_hand(struct store *s, struct message *m, uint32_t number, bool make_device)
{
    *m = (struct message){ .op = { .op.home = &home, .run = message_run },
                           .number = number,
                           .make_device = make_device };
    snprintf(m->body, sizeof m->body, "message %u for device-%u", number, number % DEVICES);
    store_write(s, &m->op);
}

static void wait_home(void)
{
    while (!mailbox_take(&home))
        mailbox_wait(&home, -1);
}

static enum err push(struct store *s, struct message *m, uint32_t number)
{
    message_hand(s, m, number, true);
    wait_home();
    m->there = m->op.op.err == ERR_OK;
    return m->op.op.err;
}

static enum err settle(struct store *s, struct message *m)
{
    struct message op = *m;
    op.settle = true;
    store_write(s, &op.op);
    wait_home();
    return op.op.op.err;
}

struct look { /* reads a device's whole queue */
    struct store_op op;
    uint32_t device;
    const struct message *m;
    size_t nr, found, foreign;
};

static enum err each_message(void *ctx, const struct c2d_row *r)
{
    struct look *l = ctx;
    char tail[32];
    size_t n = (size_t)snprintf(tail, sizeof tail, " for device-%u", l->device);
    l->foreign += r->body.n < n || memcmp(r->body.p + r->body.n - n, tail, n) != 0;
    for (size_t i = 0; i < l->nr; i++)
        l->found += l->m[i].there && l->m[i].seq == r->seq && span_eq(r->body, span_str(l->m[i].body));
    return ERR_OK;
}

static enum err look_run(struct store_tx *t, struct store_op *op)
{
    struct look *l = (struct look *)op;
    char id[16];
    return tx_c2d_list(t, id_of(l->device, id), 0, 0, SIZE_MAX, each_message, l);
}

/* Every promised message is in its own device's queue, and no queue has another device's. */
static void check(struct store *s, const struct message *m, size_t nr)
{
    size_t found = 0, want = 0;
    for (uint32_t d = 0; d < DEVICES; d++) {
        struct look l = { .op = { .op.home = &home, .run = look_run }, .device = d, .m = m, .nr = nr };
        store_read(s, &l.op);
        wait_home();
        assert_int_equal(l.op.op.err, ERR_OK);
        assert_int_equal(l.foreign, 0);
        found += l.found;
    }
    for (size_t i = 0; i < nr; i++)
        want += m[i].there;
    assert_int_equal(found, want);
}

/* ---- a store that is made already ------------------------------------------------------------------- */

static uint8_t *made; /* its one file */
static size_t made_len;

static char *made_name(char out[128])
{
    snprintf(out, 128, "%s/roost.db", dir);
    return out;
}

static void take_made(void)
{
    char name[128];
    struct store *s;
    wipe();
    assert_int_equal(open_it(&s), ERR_OK);
    store_close(s); /* the last one out puts everything into the one file */
    FILE *f = fopen(made_name(name), "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    made_len = (size_t)ftell(f);
    made = malloc(made_len);
    assert_non_null(made);
    rewind(f);
    assert_int_equal(fread(made, 1, made_len, f), made_len);
    fclose(f);
}

static void put_made(void)
{
    char name[128];
    if (!made)
        take_made();
    wipe();
    assert_int_equal(mkdir(dir, 0700), 0);
    FILE *f = fopen(made_name(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(made, 1, made_len, f), made_len);
    assert_int_equal(fclose(f), 0);
}

/* ---- the k-th call --------------------------------------------------------------------------------- */

/* Where the calls that fail lie. Making the tables takes far more of them than anything later: each half is
 * gone through by itself, so that not every failing message makes the tables anew. */
enum part { MAKING, WORKING };

static bool run(enum part part, unsigned kind, uint64_t k, uint64_t times, int error)
{
    static struct message m[STEPS];
    struct store *s = NULL;
    size_t failed = 0;
    uint32_t steps = part == MAKING ? 1 : STEPS;
    memset(m, 0, sizeof m);
    wipe();
    if (part == WORKING)
        put_made();
    faults_arm(kind, k, times, error);
    enum err e = open_it(&s);
    if (e)
        assert_true(is_fault(e));
    for (uint32_t i = 0; !e && i < steps; i++) {
        enum err got = push(s, &m[i], i);
        if (got) {
            assert_true(is_fault(got));
            failed++;
        }
        if (i % 4 == 3 && m[i - 1].there) {
            got = settle(s, &m[i - 1]);
            assert_true(!got || is_fault(got));
            if (!got)
                m[i - 1].there = false;
            else
                failed++;
            /* A settlement that failed may still have happened only when its flush failed; either way the
             * message is not checked any more. */
            m[i - 1].there = false;
        }
    }
    assert_true(failed <= times);
    bool reached = faults_seen() >= k;
    faults_disarm();
    struct message more;
    if (!e) {
        check(s, m, STEPS);
        assert_int_equal(push(s, &more, 1000), ERR_OK);
        store_close(s);
    }
    assert_int_equal(open_it(&s), ERR_OK);
    check(s, m, STEPS);
    assert_int_equal(push(s, &more, 1001), ERR_OK);
    store_close(s);
    return reached;
}

/* One call after the other; with `widen`, in steps that grow by their place divided by it: where there are
 * thousands of calls most are neighbours of the same kind. */
static void every(unsigned kind, int error, uint64_t widen_making, uint64_t widen_working)
{
    for (unsigned part = MAKING; part <= WORKING; part++) {
        uint64_t k = 1, nr = 0, widen = part == MAKING ? widen_making : widen_working;
        for (; run((enum part)part, kind, k, 1, error); nr++)
            k += widen ? 1 + k / widen : 1;
        print_message("%s: %llu calls failed one by one\n", part == MAKING ? "making" : "working",
                      (unsigned long long)nr);
        assert_true(nr > 1);
    }
}

static void test_every_write(void **state)
{
    (void)state;
    const uint64_t widen = faults_has_alloc() ? 0 : 32; /* a sanitizer makes each run ten times as long */
    every(FAULT_WRITE, EIO, widen, widen);
    every(FAULT_WRITE, ENOSPC, 16, 16);
}

static void test_every_flush(void **state)
{
    (void)state;
    every(FAULT_SYNC, EIO, 0, 0);
}

static void test_every_open_and_truncate(void **state)
{
    (void)state;
    every(FAULT_OPEN, EMFILE, 0, 0);
    every(FAULT_OPEN | FAULT_RENAME | FAULT_TRUNCATE, ENOSPC, 0, 0);
}

static void test_every_allocation(void **state)
{
    (void)state;
    if (!faults_has_alloc())
        skip();
    every(FAULT_ALLOC, ENOMEM, 100, 400); /* some thirty and eight thousand */
}

static void test_a_full_disk_and_room_again(void **state)
{
    static struct message m[60];
    struct store *s;
    (void)state;
    memset(m, 0, sizeof m);
    wipe();
    assert_int_equal(open_it(&s), ERR_OK);
    for (uint32_t i = 0; i < 60; i++) {
        bool full = i / 10 % 2;
        if (i % 10 == 0 && full)
            faults_arm(FAULT_WRITE, 1, UINT64_MAX, ENOSPC);
        if (i % 10 == 0 && !full)
            faults_disarm();
        assert_int_equal(push(s, &m[i], i), full ? ERR_FULL : ERR_OK);
        if (full)
            check(s, m, i); /* what is there can be read all the time */
    }
    faults_disarm();
    store_close(s);
    assert_int_equal(open_it(&s), ERR_OK);
    check(s, m, 60);
    store_close(s);
}

/* ---- kill -9 --------------------------------------------------------------------------------------- */

#define WINDOW 64u

static void child(int pipe_fd, uint32_t from)
{
    static struct message m[WINDOW];
    struct store *s;
    if (mailbox_init(&home) || open_it(&s))
        _exit(2);
    for (uint32_t i = 0; i < WINDOW; i++)
        message_hand(s, &m[i], from++, true);
    for (;;) {
        mailbox_wait(&home, -1);
        for (struct op *op = mailbox_take(&home), *next; op; op = next) {
            struct message *done = (struct message *)op;
            uint64_t ack[2] = { done->number, done->seq };
            next = op->next;
            if (op->err)
                _exit(3);
            if (write(pipe_fd, ack, sizeof ack) != (ssize_t)sizeof ack)
                _exit(4);
            message_hand(s, done, from++, false);
        }
    }
}

static bool read_ack(int fd, uint64_t ack[2])
{
    return read(fd, ack, 2 * sizeof *ack) == (ssize_t)(2 * sizeof *ack);
}

struct sweep { /* which of the promised messages are in the queues: by number */
    struct store_op op;
    uint32_t device;
    const uint64_t *seqs; /* by number; 0: not promised */
    size_t cap, found, foreign;
};

static enum err each_swept(void *ctx, const struct c2d_row *r)
{
    struct sweep *w = ctx;
    char text[64] = "";
    unsigned number, device;
    memcpy(text, r->body.p, r->body.n < sizeof text - 1 ? r->body.n : sizeof text - 1);
    if (sscanf(text, "message %u for device-%u", &number, &device) != 2 || device != w->device ||
        number % DEVICES != device || number >= w->cap)
        w->foreign++;
    else
        w->found += w->seqs[number] == r->seq;
    return ERR_OK;
}

static enum err sweep_run(struct store_tx *t, struct store_op *op)
{
    struct sweep *w = (struct sweep *)op;
    char id[16];
    return tx_c2d_list(t, id_of(w->device, id), 0, 0, SIZE_MAX, each_swept, w);
}

static void test_kill_9_under_load(void **state)
{
    enum { ROUNDS = 50, CAP = 1 << 20 };
    uint64_t *seqs = calloc(CAP, sizeof *seqs), ack[2];
    uint32_t from = 0, seed = 3;
    size_t total = 0;
    (void)state;
    wipe();
    for (int round = 0; round < ROUNDS; round++) {
        int fd;
        const pid_t pid = child_start(child, from, &fd);
        seed = seed * 1664525u + 1013904223u;
        size_t stop = 1 + (seed >> 16) % 1000, nr = 0;
        uint32_t highest = from;
        for (bool killed = false; read_ack(fd, ack); nr++) {
            assert_true(ack[0] < CAP);
            seqs[ack[0]] = ack[1];
            if (ack[0] > highest)
                highest = (uint32_t)ack[0];
            if (!killed && nr + 1 >= stop)
                killed = !kill(pid, SIGKILL);
        }
        child_end(pid, fd);
        assert_true(nr >= stop);
        total += nr;
        from = highest + 2 * WINDOW; /* numbers that were on their way are not used again */

        struct store *s;
        size_t found = 0;
        assert_int_equal(open_it(&s), ERR_OK);
        for (uint32_t d = 0; d < DEVICES; d++) {
            struct sweep w = {
                .op = { .op.home = &home, .run = sweep_run }, .device = d, .seqs = seqs, .cap = CAP
            };
            store_read(s, &w.op);
            wait_home();
            assert_int_equal(w.op.op.err, ERR_OK);
            assert_int_equal(w.foreign, 0);
            found += w.found;
        }
        assert_int_equal(found, total);
        store_close(s);
    }
    free(seqs);
    print_message("%d kills, %zu acknowledged messages, none lost, none with another device\n", ROUNDS,
                  total);
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_write),
        cmocka_unit_test(test_every_flush),
        cmocka_unit_test(test_every_open_and_truncate),
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_a_full_disk_and_room_again),
        cmocka_unit_test(test_kill_9_under_load),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(made);
    return failed;
}

int main(void)
{
    return mailbox_init(&home) ? 1 : fault_main("store", run_all);
}
