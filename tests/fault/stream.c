/* tests/fault/stream.c - the telemetry log when the system fails it: every k-th write, flush, open, rename
 * and allocation; a full disk; kill -9 under load. What was acknowledged is there afterwards, at its number,
 * in its partition, and the log works again. */
#include "hub/stream/stream.h"
#include "tests/fault/layer/fault_fixture.h"

#define PARTITIONS 3u
#define RECORDS    40u

static enum err open_it(struct stream **out)
{
    struct stream_config cfg = { .dir = dir, .partitions = PARTITIONS, .segment_bytes = 4096 };
    return stream_segment_open(out, &cfg);
}

/* ---- an append and a read that wait without allocating --------------------------------------------- */

static struct mailbox home;

static void wait_home(void)
{
    while (!mailbox_take(&home))
        mailbox_wait(&home, -1);
}

struct acked { /* what the log has promised to keep */
    bool there;
    uint32_t partition;
    uint64_t seq;
};

static size_t text_of(char out[400], uint32_t i)
{
    size_t n = (size_t)snprintf(out, 400, "record %u of partition %u ", i, i % PARTITIONS);
    memset(out + n, 'x', 300); /* so that segments roll now and then */
    return n + 100 + i % 200;
}

static enum err append(struct stream *s, uint32_t i, struct acked *a)
{
    char text[400];
    struct stream_append op = { .op.home = &home,
                                .partition = i % PARTITIONS,
                                .record = span_of(text, text_of(text, i)) };
    stream_append(s, &op);
    wait_home();
    *a = (struct acked){ op.op.err == ERR_OK, op.partition, op.seq };
    return op.op.err;
}

static enum err read_one(struct stream *s, uint32_t partition, uint64_t seq, uint8_t buf[4096],
                         struct stream_record *rec)
{
    struct stream_read r = { .op.home = &home,
                             .pos = { partition, STREAM_SEQ, seq },
                             .buf = buf,
                             .buf_cap = 4096,
                             .records = rec,
                             .records_cap = 1 };
    stream_read(s, &r);
    wait_home();
    return r.op.err;
}

static void check(struct stream *s, const struct acked *a, uint32_t nr)
{
    uint8_t buf[4096];
    char want[400];
    struct stream_record rec;
    for (uint32_t i = 0; i < nr; i++) {
        if (!a[i].there)
            continue;
        assert_int_equal(read_one(s, a[i].partition, a[i].seq, buf, &rec), ERR_OK);
        assert_int_equal(rec.seq, a[i].seq);
        assert_true(span_eq(rec.record, span_of(want, text_of(want, i))));
    }
}

/* ---- the k-th call --------------------------------------------------------------------------------- */

/* One run with the k-th call failing; false when there were fewer calls than that. */
static bool run(unsigned kind, uint64_t k, uint64_t times, int error)
{
    struct stream *s = NULL;
    struct acked a[RECORDS] = { { 0 } };
    size_t failed = 0;
    wipe();
    faults_arm(kind, k, times, error);
    enum err e = open_it(&s);
    if (e)
        assert_true(is_fault(e));
    for (uint32_t i = 0; !e && i < RECORDS; i++) {
        enum err got = append(s, i, &a[i]);
        if (got) {
            assert_true(is_fault(got));
            failed++;
        }
        if (i % 7 == 0 && a[i].there) { /* reads go on; one of them may meet the fault */
            uint8_t buf[4096];
            struct stream_record rec;
            got = read_one(s, a[i].partition, a[i].seq, buf, &rec);
            assert_true(!got || is_fault(got));
        }
    }
    if (!e)
        assert_true(failed <= times);
    bool reached = faults_seen() >= k;
    faults_disarm();
    if (!e) {
        check(s, a, RECORDS); /* while it runs on */
        struct acked more;
        assert_int_equal(append(s, RECORDS, &more), ERR_OK);
        stream_close(s);
    }
    assert_int_equal(open_it(&s), ERR_OK);
    check(s, a, RECORDS);
    struct acked more;
    assert_int_equal(append(s, RECORDS, &more), ERR_OK);
    stream_close(s);
    return reached;
}

static void every(unsigned kind, int error)
{
    uint64_t k = 1;
    while (run(kind, k, 1, error))
        k++;
    print_message("%llu calls failed one by one\n", (unsigned long long)(k - 1));
    assert_true(k > 2);
}

static void test_every_write(void **state)
{
    (void)state;
    every(FAULT_WRITE, EIO);
    every(FAULT_WRITE, ENOSPC);
}

static void test_every_flush(void **state)
{
    (void)state;
    every(FAULT_SYNC, EIO);
}

static void test_every_open_and_rename(void **state)
{
    (void)state;
    every(FAULT_OPEN, EMFILE);
    every(FAULT_RENAME, EIO);
    every(FAULT_OPEN | FAULT_RENAME, ENOSPC);
}

static void test_every_allocation(void **state)
{
    (void)state;
    if (!faults_has_alloc())
        skip();
    every(FAULT_ALLOC, ENOMEM);
}

/* A write that fails and then the clean-up behind it, too. */
static void test_two_in_a_row(void **state)
{
    uint64_t k = 1;
    (void)state;
    while (run(FAULT_WRITE | FAULT_SYNC | FAULT_TRUNCATE | FAULT_RENAME, k, 2, EIO))
        k++;
    for (k = 1; run(FAULT_WRITE | FAULT_SYNC | FAULT_TRUNCATE | FAULT_RENAME, k, 3, ENOSPC);)
        k++;
}

static void test_a_full_disk_and_room_again(void **state)
{
    struct stream *s;
    struct acked a[60] = { { 0 } };
    (void)state;
    wipe();
    assert_int_equal(open_it(&s), ERR_OK);
    for (uint32_t i = 0; i < 60; i++) {
        bool full = i / 10 % 2;
        if (i % 10 == 0 && full)
            faults_arm(FAULT_WRITE, 1, UINT64_MAX, ENOSPC);
        if (i % 10 == 0 && !full)
            faults_disarm();
        assert_int_equal(append(s, i, &a[i]), full ? ERR_FULL : ERR_OK);
        if (full)
            check(s, a, i); /* what is there can be read all the time */
    }
    faults_disarm();
    stream_close(s);
    assert_int_equal(open_it(&s), ERR_OK);
    check(s, a, 60);
    for (uint32_t p = 0; p < PARTITIONS; p++) { /* nothing that was refused is there */
        struct stream_info info;
        stream_get_info(s, p, &info);
        assert_int_equal(info.next_seq, 10);
    }
    stream_close(s);
}

/* ---- kill -9 --------------------------------------------------------------------------------------- */

#define WINDOW 64u

struct flying {
    struct stream_append a;
    uint32_t number;
    char text[400];
};

static void fly(struct stream *s, struct flying *f, uint32_t number)
{
    f->number = number;
    f->a = (struct stream_append){ .op.home = &home,
                                   .partition = number % PARTITIONS,
                                   .record = span_of(f->text, text_of(f->text, number)) };
    stream_append(s, &f->a);
}

/* Appends without end, each acknowledgement goes into the pipe: number, partition, seq. */
static void child(int pipe_fd, uint32_t from)
{
    static struct flying f[WINDOW];
    struct stream *s;
    if (mailbox_init(&home) || open_it(&s))
        _exit(2);
    for (uint32_t i = 0; i < WINDOW; i++)
        fly(s, &f[i], from++);
    for (;;) {
        mailbox_wait(&home, -1);
        for (struct op *op = mailbox_take(&home), *next; op; op = next) {
            struct flying *done = (struct flying *)op;
            uint64_t ack[3] = { done->number, done->a.partition, done->a.seq };
            next = op->next;
            if (op->err)
                _exit(3);
            if (write(pipe_fd, ack, sizeof ack) != (ssize_t)sizeof ack)
                _exit(4);
            fly(s, done, from++);
        }
    }
}

static bool read_ack(int fd, uint64_t ack[3])
{
    return read(fd, ack, 3 * sizeof *ack) == (ssize_t)(3 * sizeof *ack);
}

static void test_kill_9_under_load(void **state)
{
    enum { ROUNDS = 50 };
    uint32_t from = 0, seed = 7;
    uint64_t ack[3], total = 0;
    (void)state;
    wipe();
    for (int round = 0; round < ROUNDS; round++) {
        size_t nr = 0, cap = 1 << 16;
        uint64_t(*acks)[3] = malloc(cap * sizeof *acks);
        int fd;
        const pid_t pid = child_start(child, from, &fd);
        seed = seed * 1664525u + 1013904223u;
        size_t stop = 1 + (seed >> 16) % 3000; /* anywhere, also in the middle of a roll */
        while (nr < stop && read_ack(fd, acks[nr]))
            nr++;
        assert_int_equal(nr, stop);
        kill(pid, SIGKILL);
        while (nr < cap && read_ack(fd, ack))
            memcpy(acks[nr++], ack, sizeof ack);
        child_end(pid, fd);

        struct stream *s;
        assert_int_equal(open_it(&s), ERR_OK);
        for (size_t i = 0; i < nr; i++) {
            uint8_t buf[4096];
            char want[400];
            struct stream_record rec;
            assert_int_equal(read_one(s, (uint32_t)acks[i][1], acks[i][2], buf, &rec), ERR_OK);
            assert_int_equal(rec.seq, acks[i][2]);
            assert_true(span_eq(rec.record, span_of(want, text_of(want, (uint32_t)acks[i][0]))));
            if (acks[i][0] >= from)
                from = (uint32_t)acks[i][0] + WINDOW + 1;
        }
        stream_close(s);
        total += nr;
        free(acks);
    }
    print_message("%d kills, %llu acknowledged records, none lost\n", ROUNDS, (unsigned long long)total);
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_write),           cmocka_unit_test(test_every_flush),
        cmocka_unit_test(test_every_open_and_rename), cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_two_in_a_row),          cmocka_unit_test(test_a_full_disk_and_room_again),
        cmocka_unit_test(test_kill_9_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return mailbox_init(&home) ? 1 : fault_main("stream", run_all);
}
