/* hub/stream/segment_test.c - segment files: the shared suite, and what is their own: torn tails at every
 * byte, damage in the middle, retention, back-pressure, the lock. */
#include "hub/stream/segment.h"
#include "hub/stream/stream_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call) assert_int_equal(call, ERR_OK)

static char top[] = "/tmp/roost-stream-XXXXXX";
static char dir[64];
static uint64_t wall = 1000;

static uint64_t wall_ms(void)
{
    return __atomic_load_n(&wall, __ATOMIC_SEQ_CST);
}

static void wall_set(uint64_t ms)
{
    __atomic_store_n(&wall, ms, __ATOMIC_SEQ_CST);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static void wipe(void)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static enum err open_it(struct stream **out, uint64_t (*clock)(void))
{
    return stream_segment_open(out, &(struct stream_config){ .dir = dir, .partitions = 4, .wall_ms = clock });
}

static int fresh(void **state)
{
    (void)state;
    wall_set(1000);
    wipe();
    return 0;
}

static void seg_path(char out[128], uint64_t id)
{
    char name[32];
    seg_name(name, id);
    snprintf(out, 128, "%s/%s", dir, name);
}

static size_t files_nr(const char *suffix)
{
    size_t nr = 0, n = strlen(suffix);
    DIR *dp = opendir(dir);
    for (struct dirent *de; dp && (de = readdir(dp));)
        nr += strlen(de->d_name) > n && !strcmp(de->d_name + strlen(de->d_name) - n, suffix);
    if (dp)
        closedir(dp);
    return nr;
}

/* All of a partition from the start: how many records, how many are gone; each must be "pP-SEQ". */
static size_t read_all(struct stream *s, uint32_t p, uint64_t *skipped)
{
    struct stream_record records[50];
    uint8_t buf[4096];
    size_t nr = 0;
    *skipped = 0;
    struct stream_read r = {
        .pos = { p, STREAM_SEQ, 0 }, .buf = buf, .buf_cap = sizeof buf, .records = records, .records_cap = 50
    };
    for (enum err e = ERR_OK; !e;) {
        e = stream_read_wait(s, &r);
        *skipped += r.skipped;
        for (size_t i = 0; !e && i < r.records_nr; i++, nr++) {
            char want[64];
            int n = snprintf(want, sizeof want, "p%u-%llu", p, (unsigned long long)records[i].seq);
            assert_true(span_starts(records[i].record, span_of(want, (size_t)n)));
            if (i)
                assert_true(records[i].seq > records[i - 1].seq);
        }
        if (e)
            assert_int_equal(e, ERR_AGAIN);
        r.pos.value = r.next_seq;
    }
    return nr;
}

static void put(struct stream *s, uint32_t p, size_t len)
{
    struct stream_info i;
    char text[2000];
    stream_get_info(s, p, &i);
    int n = snprintf(text, sizeof text, "p%u-%llu", p, (unsigned long long)i.next_seq);
    if ((size_t)n < len)
        memset(text + n, '.', len - (size_t)n);
    OK(stream_append_wait(s, p, span_of(text, (size_t)n < len ? len : (size_t)n), NULL, NULL));
}

static size_t file_load(const char *path, uint8_t *buf, size_t cap)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, buf, cap);
    assert_true(n >= 0 && (size_t)n < cap);
    close(fd);
    return (size_t)n;
}

static void file_store(const char *path, const uint8_t *buf, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, buf, len), len);
    close(fd);
}

static void test_a_torn_tail_is_cut_at_every_byte(void **state)
{
    static uint8_t bytes[8192], torn[8192];
    struct stream *s;
    char path[128];
    uint64_t skipped;
    (void)state;
    OK(open_it(&s, wall_ms));
    put(s, 1, 0);
    put(s, 1, 0);
    put(s, 0, 0);
    stream_close(s);
    seg_path(path, 1);
    size_t two = file_load(path, bytes, sizeof bytes);
    OK(open_it(&s, wall_ms));
    put(s, 1, 30); /* the batch that will be torn */
    stream_close(s);
    size_t three = file_load(path, bytes, sizeof bytes);
    assert_true(three > two);
    for (size_t n = two; n <= three; n++) {
        for (int zeros = 0; zeros < 2; zeros++) { /* cut, or as long as it was but not written */
            struct stream_stats st;
            memcpy(torn, bytes, three);
            memset(torn + n, 0, three - n);
            file_store(path, torn, zeros ? three : n);
            OK(open_it(&s, wall_ms));
            stream_get_stats(s, &st);
            /* The zeros that fill up a batch may be missing without harm only if they are there. */
            size_t want = read_all(s, 1, &skipped);
            assert_int_equal(skipped, 0);
            assert_true(want == 2 || want == 3);
            assert_int_equal(want == 3, st.torn_bytes == 0 && n > two && (zeros || n == three));
            assert_int_equal(read_all(s, 0, &skipped), 1);
            put(s, 1, 0);
            put(s, 3, 0);
            assert_int_equal(read_all(s, 1, &skipped), want + 1);
            stream_close(s);
            OK(open_it(&s, wall_ms));
            assert_int_equal(read_all(s, 1, &skipped), want + 1);
            assert_int_equal(read_all(s, 3, &skipped), 1);
            assert_int_equal(skipped, 0);
            stream_close(s);
        }
    }
}

static void test_damage_in_the_middle_costs_only_what_it_hit(void **state)
{
    static uint8_t bytes[8192];
    struct stream *s;
    char path[128];
    uint64_t skipped;
    (void)state;
    OK(open_it(&s, wall_ms));
    for (int i = 0; i < 10; i++)
        put(s, 1, 0);
    stream_close(s);
    seg_path(path, 1);
    size_t n = file_load(path, bytes, sizeof bytes);
    for (size_t at = SEG_HEAD_LEN; at < n - 80; at += 3) {
        bytes[at] ^= 0x40;
        file_store(path, bytes, n);
        bytes[at] ^= 0x40;
        OK(open_it(&s, wall_ms));
        size_t nr = read_all(s, 1, &skipped);
        assert_int_equal(nr + skipped, 10);
        assert_true(skipped <= 1); /* padding may be hit, which costs nothing */
        put(s, 1, 0);
        assert_int_equal(read_all(s, 1, &skipped), nr + 1);
        stream_close(s);
    }
}

/* What a device writes can look like a batch, but not carry the right checksum. */
static void test_a_batch_inside_a_record_is_no_batch(void **state)
{
    static uint8_t bytes[8192];
    struct stream *s;
    char path[128];
    uint64_t skipped;
    (void)state;
    OK(open_it(&s, wall_ms));
    put(s, 1, 0);
    stream_close(s);
    seg_path(path, 1);
    size_t n = file_load(path, bytes, sizeof bytes);
    wipe();
    OK(open_it(&s, wall_ms));
    OK(stream_append_wait(s, 1, span_of(bytes + SEG_HEAD_LEN, n - SEG_HEAD_LEN), NULL, NULL));
    stream_close(s);
    n = file_load(path, bytes, sizeof bytes);
    bytes[SEG_HEAD_LEN + 1] ^= 1; /* the real one is damaged */
    file_store(path, bytes, n);
    OK(open_it(&s, wall_ms));
    assert_int_equal(read_all(s, 1, &skipped), 0);
    stream_close(s);
}

static void test_segments_roll_and_go_by_size(void **state)
{
    struct stream_config cfg = {
        .dir = dir, .partitions = 2, .segment_bytes = 8192, .retain_bytes = 40000, .wall_ms = wall_ms
    };
    struct stream *s;
    struct stream_info i;
    uint64_t skipped;
    (void)state;
    OK(stream_segment_open(&s, &cfg));
    for (int k = 0; k < 200; k++)
        put(s, (uint32_t)k % 2, 1000);
    for (int round = 0; round < 2; round++) {
        size_t nr = files_nr(".seg");
        assert_in_range(nr, 4, 6);
        stream_get_info(s, 0, &i);
        assert_int_equal(i.next_seq, 100);
        assert_in_range(i.first_seq, 80, 95);
        assert_int_equal(i.bytes, (i.next_seq - i.first_seq) * 1000);
        assert_int_equal(read_all(s, 0, &skipped), 100 - i.first_seq);
        assert_int_equal(skipped, i.first_seq);
        stream_close(s);
        OK(stream_segment_open(&s, &cfg));
    }
    stream_close(s);
    cfg.partitions = 4;
    assert_int_equal(stream_segment_open(&s, &cfg), ERR_PROTO);
}

static void test_segments_go_when_they_are_dealt_with(void **state)
{
    struct stream_config cfg = { .dir = dir, .partitions = 2, .segment_bytes = 8192, .wall_ms = wall_ms };
    struct stream *s;
    struct stream_info i;
    (void)state;
    OK(stream_segment_open(&s, &cfg));
    for (int k = 0; k < 100; k++)
        put(s, (uint32_t)k % 2, 1000);
    size_t all = files_nr(".seg");
    assert_in_range(all, 12, 20);
    stream_forget(s, 0, 40); /* nothing of the other partition: all stays */
    put(s, 0, 1000);
    put(s, 0, 1000);
    assert_in_range(files_nr(".seg"), all, all + 1);
    stream_forget(s, 1, 30);
    put(s, 0, 1000); /* the writer looks before it writes: what it removes is gone with the second */
    put(s, 0, 1000);
    stream_get_info(s, 1, &i);
    assert_in_range(i.first_seq, 24, 30);
    assert_int_equal(i.next_seq, 50);
    stream_get_info(s, 0, &i);
    assert_in_range(i.first_seq, 24, 40);
    stream_forget(s, 0, 1000); /* never the newest */
    stream_forget(s, 1, 1000);
    put(s, 0, 1000);
    put(s, 0, 1000);
    assert_in_range(files_nr(".seg"), 1, 2);
    stream_close(s);
}

/* Nothing is given up for what is new; what is dealt with makes room. */
static void test_more_than_may_be_is_refused(void **state)
{
    struct stream_config cfg = {
        .dir = dir, .partitions = 1, .segment_bytes = 8192, .refuse_bytes = 40000, .wall_ms = wall_ms
    };
    struct stream *s;
    struct stream_info i;
    char text[1000] = "";
    struct span record = span_of(text, sizeof text);
    uint64_t seq = 0, nr = 0;
    (void)state;
    OK(stream_segment_open(&s, &cfg));
    while (!stream_append_wait(s, 0, record, &seq, NULL))
        nr++;
    assert_in_range(nr, 30, 40);
    assert_int_equal(stream_append_wait(s, 0, record, NULL, NULL), ERR_FULL);
    stream_close(s);
    OK(stream_segment_open(&s, &cfg)); /* also after a start */
    assert_int_equal(stream_append_wait(s, 0, record, NULL, NULL), ERR_FULL);
    stream_get_info(s, 0, &i);
    assert_int_equal(i.first_seq, 0);
    assert_int_equal(i.next_seq, nr);
    stream_forget(s, 0, nr);
    OK(stream_append_wait(s, 0, record, &seq, NULL));
    assert_int_equal(seq, nr);
    stream_close(s);
}

static void test_segments_go_by_age(void **state)
{
    struct stream_config cfg = { .dir = dir, .partitions = 1, .retain_ms = 8000, .wall_ms = wall_ms };
    struct stream *s;
    struct stream_info i;
    uint64_t skipped;
    (void)state;
    OK(stream_segment_open(&s, &cfg));
    for (unsigned k = 0; k < 100; k++) { /* one a second */
        wall_set(1000 + k * 1000);
        put(s, 0, 0);
    }
    stream_get_info(s, 0, &i);
    assert_int_equal(i.next_seq, 100);
    assert_in_range(i.first_seq, 88, 92); /* what is 8 s old, and at most an eighth more and what it shares */
    assert_int_equal(read_all(s, 0, &skipped), 100 - i.first_seq);
    stream_close(s);
    wall_set(200000); /* all is too old: it goes with the next look, and the numbers go on */
    OK(stream_segment_open(&s, &cfg));
    put(s, 0, 0);
    stream_get_info(s, 0, &i);
    assert_int_equal(i.first_seq, 100);
    assert_int_equal(i.next_seq, 101);
    stream_close(s);
    OK(stream_segment_open(&s, &cfg));
    assert_int_equal(read_all(s, 0, &skipped), 1);
    assert_int_equal(skipped, 100);
    stream_close(s);
}

static void test_positions_over_many_segments(void **state)
{
    struct stream_config cfg = { .dir = dir, .partitions = 3, .segment_bytes = 4096, .wall_ms = wall_ms };
    struct stream_record rec;
    uint8_t buf[2000];
    struct stream *s;
    (void)state;
    OK(stream_segment_open(&s, &cfg));
    for (unsigned k = 0; k < 300; k++) {
        wall_set(1000 + k / 3 * 10);
        put(s, k % 3, 200 + k % 7 * 100);
    }
    for (int round = 0; round < 2; round++) {
        for (uint64_t k = 0; k < 100; k++)
            for (uint32_t p = 0; p < 3; p++) {
                struct stream_read r = { .pos = { p, STREAM_SEQ, k },
                                         .buf = buf,
                                         .buf_cap = sizeof buf,
                                         .records = &rec,
                                         .records_cap = 1 };
                OK(stream_read_wait(s, &r));
                assert_int_equal(rec.seq, k);
                assert_int_equal(rec.enqueued_ms, 1000 + k * 10);
                r.pos = (struct stream_pos){ p, STREAM_TIME, 1000 + k * 10 - 9 };
                OK(stream_read_wait(s, &r));
                assert_int_equal(rec.seq, k);
            }
        stream_close(s);
        OK(stream_segment_open(&s, &cfg));
    }
    stream_close(s);
}

/* The index: places far apart in one large segment, before and after a restart. */
static void test_positions_in_a_large_segment(void **state)
{
    static uint8_t big[100000];
    struct stream_record rec;
    uint8_t *buf = malloc(sizeof big);
    struct stream *s;
    (void)state;
    OK(open_it(&s, wall_ms));
    for (unsigned k = 0; k < 60; k++) {
        memcpy(big, &k, sizeof k);
        wall_set(1000 + k);
        OK(stream_append_wait(s, k % 2, span_of(big, sizeof big), NULL, NULL));
    }
    for (int round = 0; round < 3; round++) {
        for (unsigned k = 60; k--;) {
            unsigned got;
            struct stream_read r = { .pos = { k % 2, STREAM_SEQ, k / 2 },
                                     .buf = buf,
                                     .buf_cap = sizeof big,
                                     .records = &rec,
                                     .records_cap = 1 };
            OK(stream_read_wait(s, &r));
            memcpy(&got, rec.record.p, sizeof got);
            assert_int_equal(got, k);
            r.pos = (struct stream_pos){ k % 2, STREAM_TIME, 1000 + k };
            OK(stream_read_wait(s, &r));
            assert_int_equal(rec.seq, k / 2);
        }
        if (round == 1) { /* so that the large one is not the newest, which is read at open */
            stream_close(s);
            OK(stream_segment_open(
                &s, &(struct stream_config){
                        .dir = dir, .partitions = 4, .segment_bytes = 1, .wall_ms = wall_ms }));
            put(s, 3, 0);
            stream_close(s);
            OK(open_it(&s, wall_ms));
        }
    }
    stream_close(s);
    free(buf);
}

static void test_a_segment_that_was_being_made(void **state)
{
    struct stream *s;
    char path[128];
    uint64_t skipped;
    static const uint8_t half[100] = { 'R', 'S', 'T', 'R', 'S', 'E', 'G', '1' };
    (void)state;
    OK(open_it(&s, wall_ms));
    put(s, 0, 0);
    stream_close(s);
    seg_path(path, 2);
    for (size_t n = 0; n <= sizeof half; n += 50) {
        file_store(path, half, n);
        OK(open_it(&s, wall_ms));
        assert_int_equal(read_all(s, 0, &skipped), 1 + n / 50);
        put(s, 0, 0);
        stream_close(s);
    }
    seg_path(path, 0); /* one in the middle is put aside */
    file_store(path, half, sizeof half);
    OK(open_it(&s, wall_ms));
    assert_int_equal(files_nr(".bad"), 1);
    assert_int_equal(read_all(s, 0, &skipped), 4);
    stream_close(s);
}

/* A head that is damaged in front of records is no reason to throw the records away. */
static void test_the_newest_with_a_damaged_head_is_kept(void **state)
{
    struct stream *s;
    char path[128];
    (void)state;
    OK(open_it(&s, wall_ms));
    put(s, 0, 0);
    stream_close(s);
    seg_path(path, 1);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "?", 1, 20), 1);
    close(fd);
    OK(open_it(&s, wall_ms));
    assert_int_equal(files_nr(".bad"), 1);
    put(s, 0, 0);
    stream_close(s);
}

static sem_t hold;
static bool holding;

static uint64_t held_wall_ms(void)
{
    if (__atomic_load_n(&holding, __ATOMIC_SEQ_CST))
        while (sem_wait(&hold))
            ;
    return wall_ms();
}

static void test_too_much_waiting_is_refused(void **state)
{
    enum { NR = 80 };
    static uint8_t big[STREAM_RECORD_MAX];
    static struct stream_append a[NR];
    struct stream *s;
    struct mailbox m;
    size_t full = 0, ok = 0, home = 0;
    (void)state;
    OK(mailbox_init(&m));
    sem_init(&hold, 0, 0);
    holding = true; /* the writer stands still at its clock */
    OK(open_it(&s, held_wall_ms));
    for (int i = 0; i < NR; i++) {
        a[i] = (struct stream_append){ .op.home = &m, .partition = 0, .record = span_of(big, sizeof big) };
        stream_append(s, &a[i]);
    }
    for (struct op *op = mailbox_take(&m); op; op = op->next, home++)
        full += op->err == ERR_FULL;
    assert_int_equal(full, NR - PENDING_MAX / STREAM_RECORD_MAX);
    assert_int_equal(home, full);
    __atomic_store_n(&holding, false, __ATOMIC_SEQ_CST);
    sem_post(&hold);
    while (home < NR) {
        mailbox_wait(&m, -1);
        for (struct op *op = mailbox_take(&m); op; op = op->next, home++)
            ok += op->err == ERR_OK;
    }
    assert_int_equal(ok, NR - full);
    put(s, 1, 0); /* and it goes on */
    stream_close(s);
    sem_destroy(&hold);
    mailbox_fini(&m);
}

static void test_directories(void **state)
{
    struct stream *a, *b = NULL;
    struct stat st;
    char path[128];
    (void)state;
    mode_t mask = umask(0);
    OK(open_it(&a, wall_ms));
    umask(mask);
    assert_int_equal(open_it(&b, wall_ms), ERR_EXISTS);
    assert_null(b);
    put(a, 0, 0);
    seg_path(path, 1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    stream_close(a);
    snprintf(path, sizeof path, "%s/stream.meta", dir);
    file_store(path, (const uint8_t *)"x", 1);
    assert_int_equal(open_it(&b, wall_ms), ERR_IO);
    remove(path); /* segments, but nothing that says how to read them */
    assert_int_equal(open_it(&b, wall_ms), ERR_IO);
    struct stream_config cfg = { .dir = "/proc/nothing/here" };
    assert_int_equal(stream_segment_open(&b, &cfg), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_torn_tail_is_cut_at_every_byte, fresh),
        cmocka_unit_test_setup(test_damage_in_the_middle_costs_only_what_it_hit, fresh),
        cmocka_unit_test_setup(test_a_batch_inside_a_record_is_no_batch, fresh),
        cmocka_unit_test_setup(test_segments_roll_and_go_by_size, fresh),
        cmocka_unit_test_setup(test_segments_go_when_they_are_dealt_with, fresh),
        cmocka_unit_test_setup(test_more_than_may_be_is_refused, fresh),
        cmocka_unit_test_setup(test_segments_go_by_age, fresh),
        cmocka_unit_test_setup(test_positions_over_many_segments, fresh),
        cmocka_unit_test_setup(test_positions_in_a_large_segment, fresh),
        cmocka_unit_test_setup(test_a_segment_that_was_being_made, fresh),
        cmocka_unit_test_setup(test_the_newest_with_a_damaged_head_is_kept, fresh),
        cmocka_unit_test_setup(test_too_much_waiting_is_refused, fresh),
        cmocka_unit_test_setup(test_directories, fresh),
    };
    if (!mkdtemp(top))
        return 1;
    snprintf(dir, sizeof dir, "%s/stream", top);
    int failed = stream_suite(&(struct stream_suite){ open_it, wipe });
    failed += cmocka_run_group_tests_name("segment", tests, NULL, NULL);
    wipe();
    rmdir(top);
    return failed;
}
