/* hub/stream/stream_suite.c - the tests that every backend of the telemetry log passes. */
#include "hub/stream/stream_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define OK(call) assert_int_equal(call, ERR_OK)

/* ---- calls that wait ------------------------------------------------------------------------------- */

/* Each thread's own, never closed: whoever posts the last op may still be about to ring its bell. */
static struct mailbox *mine(void)
{
    static _Thread_local struct mailbox m = { .wake_fd = -1 };
    if (m.wake_fd < 0 && mailbox_init(&m))
        abort();
    return &m;
}

/* Waits for the one op that comes home. */
static void wait_home(void)
{
    while (!mailbox_take(mine()))
        mailbox_wait(mine(), -1);
}

enum err stream_append_wait(struct stream *s, uint32_t partition, struct span record, uint64_t *seq,
                            uint64_t *ms)
{
    struct stream_append a = { .op.home = mine(), .partition = partition, .record = record };
    stream_append(s, &a);
    wait_home();
    if (seq)
        *seq = a.seq;
    if (ms)
        *ms = a.enqueued_ms;
    return a.op.err;
}

enum err stream_read_wait(struct stream *s, struct stream_read *r)
{
    r->op.home = mine();
    stream_read(s, r);
    wait_home();
    return r->op.err;
}

/* ---- the log under test ---------------------------------------------------------------------------- */

static const struct stream_suite *suite;
static struct stream *S;
static _Atomic uint64_t wall = 1000;

static uint64_t wall_ms(void)
{
    return atomic_load(&wall);
}

static int setup(void **state)
{
    (void)state;
    suite->wipe();
    atomic_store(&wall, 1000);
    S = NULL;
    return suite->open(&S, wall_ms) != ERR_OK;
}

static int teardown(void **state)
{
    (void)state;
    stream_close(S);
    return 0;
}

static void reopen(void)
{
    stream_close(S);
    S = NULL;
    OK(suite->open(&S, wall_ms));
}

static uint64_t put(uint32_t partition, const char *text)
{
    uint64_t seq;
    OK(stream_append_wait(S, partition, span_str(text), &seq, NULL));
    return seq;
}

/* One read, and its records as one text: "seq@ms=bytes,". */
struct got {
    struct stream_read r;
    struct stream_record records[64];
    uint8_t buf[4096];
    char text[8192];
};

static enum err get(struct got *g, uint32_t partition, enum stream_from from, uint64_t value, size_t records,
                    size_t bytes)
{
    size_t n = 0;
    g->r = (struct stream_read){ .pos = { partition, from, value },
                                 .buf = g->buf,
                                 .buf_cap = bytes,
                                 .records = g->records,
                                 .records_cap = records };
    enum err e = stream_read_wait(S, &g->r);
    g->text[0] = 0;
    for (size_t i = 0; !e && i < g->r.records_nr; i++) {
        const struct stream_record *r = &g->records[i];
        assert_int_equal(r->partition, partition);
        n +=
            (size_t)snprintf(g->text + n, sizeof g->text - n, "%llu@%llu=%.*s,", (unsigned long long)r->seq,
                             (unsigned long long)r->enqueued_ms, (int)r->record.n, (const char *)r->record.p);
    }
    return e;
}

static void reads(uint32_t partition, enum stream_from from, uint64_t value, const char *want, uint64_t next)
{
    struct got g;
    enum err e = get(&g, partition, from, value, 64, sizeof g.buf);
    if (!want[0])
        assert_int_equal(e, ERR_AGAIN);
    else
        assert_int_equal(e, ERR_OK);
    assert_string_equal(g.text, want);
    assert_int_equal(g.r.next_seq, next);
    assert_int_equal(g.r.skipped, 0);
}

static void info(uint32_t partition, uint64_t first, uint64_t next, uint64_t bytes)
{
    struct stream_info i;
    stream_get_info(S, partition, &i);
    assert_int_equal(i.first_seq, first);
    assert_int_equal(i.next_seq, next);
    assert_int_equal(i.bytes, bytes);
}

/* ---- tests ----------------------------------------------------------------------------------------- */

static void test_records_are_kept_in_order(void **state)
{
    (void)state;
    assert_int_equal(stream_partitions(S), 4);
    info(0, 0, 0, 0);
    assert_int_equal(put(0, "a"), 0);
    assert_int_equal(put(0, "bb"), 1);
    assert_int_equal(put(3, "x"), 0); /* a partition counts for itself */
    atomic_store(&wall, 1005);
    assert_int_equal(put(0, ""), 2);
    reads(0, STREAM_EARLIEST, 0, "0@1000=a,1@1000=bb,2@1005=,", 3);
    reads(3, STREAM_EARLIEST, 0, "0@1000=x,", 1);
    reads(1, STREAM_EARLIEST, 0, "", 0);
    info(0, 0, 3, 3);
    reopen();
    info(0, 0, 3, 3);
    info(3, 0, 1, 1);
    reads(0, STREAM_EARLIEST, 0, "0@1000=a,1@1000=bb,2@1005=,", 3);
    assert_int_equal(put(0, "d"), 3);
    reads(0, STREAM_SEQ, 2, "2@1005=,3@1005=d,", 4);
}

static void test_a_reader_starts_anywhere(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        char text[2] = { (char)('a' + i), 0 };
        atomic_store(&wall, 1000u + 10u * (unsigned)i);
        put(1, text);
        put(2, "other");
    }
    for (int round = 0; round < 2; round++) {
        reads(1, STREAM_LATEST, 0, "", 5);
        reads(1, STREAM_SEQ, 3, "3@1030=d,4@1040=e,", 5);
        reads(1, STREAM_SEQ, 5, "", 5);
        reads(1, STREAM_SEQ, 99, "", 5); /* no such place yet: the end */
        reads(1, STREAM_TIME, 0, "0@1000=a,1@1010=b,2@1020=c,3@1030=d,4@1040=e,", 5);
        reads(1, STREAM_TIME, 1030, "3@1030=d,4@1040=e,", 5);
        reads(1, STREAM_TIME, 1031, "4@1040=e,", 5);
        reads(1, STREAM_TIME, 1041, "", 5);
        reopen();
    }
}

static void test_time_never_goes_back(void **state)
{
    uint64_t ms;
    (void)state;
    atomic_store(&wall, 5000);
    OK(stream_append_wait(S, 0, SPAN("a"), NULL, &ms));
    assert_int_equal(ms, 5000);
    atomic_store(&wall, 4000);
    OK(stream_append_wait(S, 1, SPAN("b"), NULL, &ms));
    assert_int_equal(ms, 5000);
    reopen();
    OK(stream_append_wait(S, 0, SPAN("c"), NULL, &ms));
    assert_int_equal(ms, 5000);
}

static void test_a_read_takes_what_fits(void **state)
{
    struct got g;
    (void)state;
    for (int i = 0; i < 10; i++)
        put(0, "12345");
    OK(get(&g, 0, STREAM_EARLIEST, 0, 3, sizeof g.buf));
    assert_int_equal(g.r.records_nr, 3);
    assert_int_equal(g.r.next_seq, 3);
    OK(get(&g, 0, STREAM_SEQ, 3, 64, 14)); /* two and a half */
    assert_int_equal(g.r.records_nr, 2);
    assert_int_equal(g.r.next_seq, 5);
    assert_int_equal(get(&g, 0, STREAM_SEQ, 5, 64, 4), ERR_LIMIT);
    assert_int_equal(g.r.next_seq, 5);
    OK(get(&g, 0, STREAM_SEQ, 5, 64, 5));
    assert_int_equal(g.r.records_nr, 1);
}

static void test_long_records(void **state)
{
    struct stream_record rec;
    uint8_t *big = malloc(STREAM_RECORD_MAX + 1), *buf = malloc(STREAM_RECORD_MAX);
    (void)state;
    for (size_t i = 0; i <= STREAM_RECORD_MAX; i++)
        big[i] = (uint8_t)(i * 13 + (i >> 9));
    for (int i = 0; i < 4; i++)
        OK(stream_append_wait(S, 2, span_of(big, STREAM_RECORD_MAX), NULL, NULL));
    assert_int_equal(stream_append_wait(S, 2, span_of(big, STREAM_RECORD_MAX + 1), NULL, NULL), ERR_LIMIT);
    put(2, "end");
    struct stream_read r = { .pos = { 2, STREAM_SEQ, 3 },
                             .buf = buf,
                             .buf_cap = STREAM_RECORD_MAX,
                             .records = &rec,
                             .records_cap = 1 };
    OK(stream_read_wait(S, &r));
    assert_true(span_eq(rec.record, span_of(big, STREAM_RECORD_MAX)));
    reads(2, STREAM_SEQ, 4, "4@1000=end,", 5);
    free(big);
    free(buf);
}

/* Many at once from several threads: they share flushes, each partition is whole and in each producer's
 * order; consumers follow with watchers. */
static void several_go_together_or_not_at_all(void **state)
{
    static uint8_t big[STREAM_RECORD_MAX / 2];
    struct stream_append a[3] = { { .op.home = mine(), .partition = 1, .record = SPAN("one") },
                                  { .partition = 1, .record = SPAN("") },
                                  { .partition = 1, .record = SPAN("three") } };
    struct stream_record records[4];
    uint8_t buf[100];
    struct stream_read r = { .pos = { 1, STREAM_EARLIEST, 0 },
                             .buf = buf,
                             .buf_cap = sizeof buf,
                             .records = records,
                             .records_cap = 4 };
    (void)state;
    a[0].rest = &a[1];
    a[1].rest = &a[2];
    stream_append(S, &a[0]);
    wait_home();
    OK(a[0].op.err);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(a[i].seq, i);
    OK(stream_read_wait(S, &r));
    assert_int_equal(r.records_nr, 3);
    assert_true(span_eq(records[0].record, SPAN("one")));
    assert_int_equal(records[1].record.n, 0);
    assert_true(span_eq(records[2].record, SPAN("three")));
    a[1].record = a[2].record = span_of(big, sizeof big);
    stream_append(S, &a[0]);
    wait_home();
    assert_int_equal(a[0].op.err, ERR_LIMIT);
    struct stream_info info;
    stream_get_info(S, 1, &info);
    assert_int_equal(info.next_seq, 3);
}

enum { PRODUCERS = 4, EACH = 3000 };

struct producer {
    uint32_t id;
    struct mailbox mail;
};

static void *produce(void *arg)
{
    struct producer *p = arg;
    struct numbered {
        struct stream_append a;
        uint32_t bytes[2];
    } *all = calloc(EACH, sizeof *all);
    size_t home = 0, failed = 0;
    for (uint32_t i = 0; i < EACH; i++) {
        all[i].bytes[0] = p->id;
        all[i].bytes[1] = i;
        all[i].a = (struct stream_append){ .op.home = &p->mail,
                                           .partition = p->id % 2,
                                           .record = span_of(all[i].bytes, sizeof all[i].bytes) };
        stream_append(S, &all[i].a);
    }
    while (home < EACH) {
        mailbox_wait(&p->mail, -1);
        for (struct op *op = mailbox_take(&p->mail); op; op = op->next, home++)
            failed += op->err != ERR_OK;
    }
    free(all);
    return failed ? p : NULL;
}

static void *consume(void *arg)
{
    uint32_t partition = (uint32_t)(uintptr_t)arg, next[PRODUCERS] = { 0 };
    struct stream_record records[100];
    uint8_t buf[1000];
    size_t seen = 0;
    struct stream_read r = { .pos = { partition, STREAM_EARLIEST, 0 },
                             .buf = buf,
                             .buf_cap = sizeof buf,
                             .records = records,
                             .records_cap = 100 };
    while (seen < EACH * PRODUCERS / 2) {
        enum err e = stream_read_wait(S, &r);
        if (e == ERR_AGAIN) {
            struct stream_watch w = { .op.home = mine(), .partition = partition, .seq = r.next_seq };
            stream_watch(S, &w);
            wait_home();
        } else if (e)
            abort();
        for (size_t i = 0; !e && i < r.records_nr; i++, seen++) {
            uint32_t id[2];
            if (records[i].seq != seen || records[i].record.n != sizeof id)
                abort();
            memcpy(id, records[i].record.p, sizeof id);
            if (id[0] % 2 != partition || next[id[0]] != id[1])
                abort();
            next[id[0]]++;
        }
        r.pos = (struct stream_pos){ partition, STREAM_SEQ, r.next_seq };
    }
    return NULL;
}

static void test_many_at_once(void **state)
{
    pthread_t producers[PRODUCERS], consumers[2];
    struct producer p[PRODUCERS];
    struct stream_stats st;
    void *bad;
    (void)state;
    for (uintptr_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&consumers[i], NULL, consume, (void *)i), 0);
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        p[i].id = i;
        OK(mailbox_init(&p[i].mail));
        assert_int_equal(pthread_create(&producers[i], NULL, produce, &p[i]), 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        pthread_join(producers[i], &bad);
        assert_null(bad);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(consumers[i], &bad);
        assert_null(bad);
    }
    stream_get_stats(S, &st);
    assert_int_equal(st.records, EACH * PRODUCERS);
    assert_int_equal(st.bytes, EACH * PRODUCERS * 8);
    assert_true(st.syncs < st.records); /* they shared flushes */
    reopen();                           /* nobody posts any more */
    for (int i = 0; i < PRODUCERS; i++)
        mailbox_fini(&p[i].mail);
    info(0, 0, EACH * PRODUCERS / 2, EACH * PRODUCERS / 2 * 8);
}

static void test_watchers(void **state)
{
    struct mailbox m;
    struct stream_watch a = { .op.home = &m, .partition = 1, .seq = 0 }, b = a, c = a;
    (void)state;
    OK(mailbox_init(&m));
    b.seq = 1;
    c.partition = 2;
    stream_watch(S, &a);
    stream_watch(S, &b);
    stream_watch(S, &c);
    assert_null(mailbox_take(&m));
    put(0, "not for them");
    assert_null(mailbox_take(&m));
    put(1, "for a");
    struct op *op = mailbox_take(&m);
    while (!op) {
        mailbox_wait(&m, -1);
        op = mailbox_take(&m);
    }
    assert_ptr_equal(op, &a);
    assert_null(op->next);
    assert_int_equal(a.op.err, ERR_OK);
    stream_watch(S, &a); /* it is there already: at once */
    assert_ptr_equal(mailbox_take(&m), &a);
    stream_unwatch(S, &a); /* home already: nothing happens */
    assert_null(mailbox_take(&m));
    stream_unwatch(S, &b);
    assert_ptr_equal(mailbox_take(&m), &b);
    assert_int_equal(b.op.err, ERR_STOPPED);
    stream_close(S);
    S = NULL;
    assert_ptr_equal(mailbox_take(&m), &c);
    assert_int_equal(c.op.err, ERR_STOPPED);
    mailbox_fini(&m);
    OK(suite->open(&S, wall_ms));
    reads(1, STREAM_EARLIEST, 0, "0@1000=for a,", 1);
}

static void test_closing_finishes_what_was_handed_over(void **state)
{
    enum { NR = 200 };
    struct stream_append a[NR];
    struct mailbox m;
    size_t nr = 0;
    (void)state;
    OK(mailbox_init(&m));
    for (int i = 0; i < NR; i++) {
        a[i] = (struct stream_append){ .op.home = &m, .partition = 0, .record = SPAN("x") };
        stream_append(S, &a[i]);
    }
    reopen();
    for (struct op *op = mailbox_take(&m); op; op = op->next, nr++)
        assert_int_equal(op->err, ERR_OK);
    assert_int_equal(nr, NR);
    info(0, 0, NR, NR);
    mailbox_fini(&m);
}

int stream_suite(const struct stream_suite *how)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(several_go_together_or_not_at_all),
        T(test_records_are_kept_in_order),
        T(test_a_reader_starts_anywhere),
        T(test_time_never_goes_back),
        T(test_a_read_takes_what_fits),
        T(test_long_records),
        T(test_many_at_once),
        T(test_watchers),
        T(test_closing_finishes_what_was_handed_over),
    };
#undef T
    suite = how;
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
