/* tests/fault/blob.c - blobs when the system fails: every k-th write, flush, open, rename and allocation; a
 * full disk; kill -9. Under a hash there is all of a blob or nothing, and what was acknowledged is there. */
#include "hub/blob/blob.h"
#include "port/crypto.h"
#include "tests/fault/layer/fault_fixture.h"

static struct span content(uint32_t i, uint8_t out[5000])
{
    size_t n = 1000 + i * 37 % 4000;
    for (size_t k = 0; k < n; k++)
        out[k] = (uint8_t)(i * 31 + k * 7 + (k >> 8));
    return span_of(out, n);
}

static void sum_of(struct span s, uint8_t out[32])
{
    struct sha256 h;
    port_crypto.sha256_init(&h);
    port_crypto.sha256_update(&h, s);
    port_crypto.sha256_final(&h, out);
}

/* Uploads blob i in three pieces, as often as it takes (`tries`), going on where the last try ended. */
static enum err upload(struct blob *b, uint32_t i, unsigned tries, size_t *failed)
{
    uint8_t bytes[5000], want[32];
    struct span all = content(i, bytes);
    enum err e = ERR_OK;
    sum_of(all, want);
    while (tries--) {
        struct blob_upload *u = NULL;
        uint64_t have = 0;
        e = blob_upload_open(b, SPAN("it"), &u, &have);
        if (!e)
            assert_true(have <= all.n);
        while (!e && have < all.n) {
            size_t n = all.n - have < all.n / 3 + 1 ? (size_t)(all.n - have) : all.n / 3 + 1;
            e = blob_upload_write(u, have, span_of(all.p + have, n));
            if (!e)
                have += n;
        }
        if (!e)
            e = blob_upload_commit(u, want);
        else
            blob_upload_close(u);
        if (!e)
            return e;
        if (!is_fault(e))
            return e;
        ++*failed;
    }
    return e;
}

static void check(struct blob *b, uint32_t i)
{
    uint8_t bytes[5000], sum[32];
    sum_of(content(i, bytes), sum);
    assert_int_equal(blob_check(b, sum), ERR_OK);
}

/* Whatever is there under the hash is whole. */
static void check_whole(struct blob *b, uint32_t i)
{
    uint8_t bytes[5000], sum[32];
    sum_of(content(i, bytes), sum);
    enum err e = blob_check(b, sum);
    assert_true(e == ERR_OK || e == ERR_NOTFOUND);
}

static bool run(unsigned kind, uint64_t k, int error)
{
    uint8_t bytes[5000], sum[32];
    struct blob *b = NULL;
    bool put[6] = { false };
    size_t failed = 0;
    wipe();
    faults_arm(kind, k, 1, error);
    enum err e = blob_dir_open(&b, dir);
    if (e) {
        assert_true(is_fault(e));
        failed++;
        assert_int_equal(blob_dir_open(&b, dir), ERR_OK); /* the next try does it */
    }
    for (uint32_t i = 0; i < 6; i++) {
        e = i % 2 ? blob_put(b, content(i, bytes), sum) : upload(b, i, 2, &failed);
        put[i] = e == ERR_OK;
        if (e) {
            assert_int_equal(i % 2, 1); /* an upload gets through at the second try */
            assert_true(is_fault(e));
            failed++;
        }
        if (i == 4) {
            sum_of(content(0, bytes), sum);
            e = blob_delete(b, sum);
            assert_true(!e || is_fault(e));
            put[0] = false;
        }
    }
    assert_true(failed <= 1);
    bool reached = faults_seen() >= k;
    faults_disarm();
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 6; i++) {
            if (put[i])
                check(b, i);
            check_whole(b, i);
        }
        assert_int_equal(blob_put(b, SPAN("more"), sum), ERR_OK);
        blob_close(b);
        assert_int_equal(blob_dir_open(&b, dir), ERR_OK);
    }
    blob_close(b);
    return reached;
}

static void every(unsigned kind, int error)
{
    uint64_t k = 1;
    while (run(kind, k, error))
        k++;
    print_message("%llu calls failed one by one\n", (unsigned long long)(k - 1));
    assert_true(k > 2);
}

static void test_every_call(void **state)
{
    (void)state;
    every(FAULT_WRITE, EIO);
    every(FAULT_WRITE, ENOSPC);
    every(FAULT_SYNC, EIO);
    every(FAULT_OPEN, EMFILE);
    every(FAULT_RENAME, EIO);
    every(FAULT_OPEN | FAULT_RENAME, ENOSPC);
    if (faults_has_alloc())
        every(FAULT_ALLOC, ENOMEM);
}

static void test_a_full_disk_and_room_again(void **state)
{
    uint8_t bytes[5000], want[32], sum[32];
    struct span all = content(1, bytes);
    struct blob_upload *u;
    struct blob *b;
    uint64_t have;
    (void)state;
    wipe();
    sum_of(all, want);
    assert_int_equal(blob_dir_open(&b, dir), ERR_OK);
    assert_int_equal(blob_upload_open(b, SPAN("it"), &u, &have), ERR_OK);
    assert_int_equal(blob_upload_write(u, 0, span_of(all.p, 100)), ERR_OK);
    faults_arm(FAULT_WRITE, 1, UINT64_MAX, ENOSPC);
    assert_int_equal(blob_upload_write(u, 100, span_of(all.p + 100, 500)), ERR_FULL);
    assert_int_equal(blob_upload_write(u, 100, span_of(all.p + 100, 500)), ERR_FULL);
    assert_int_equal(blob_put(b, SPAN("small"), sum), ERR_FULL);
    faults_disarm();
    assert_int_equal(blob_upload_write(u, 100, span_of(all.p + 100, all.n - 100)), ERR_OK);
    assert_int_equal(blob_upload_commit(u, want), ERR_OK);
    assert_int_equal(blob_check(b, want), ERR_OK);
    assert_int_equal(blob_put(b, SPAN("small"), sum), ERR_OK);
    blob_close(b);
}

static void child(int fd, uint32_t from)
{
    uint8_t bytes[5000], sum[32];
    struct blob *b;
    size_t failed = 0;
    if (blob_dir_open(&b, dir))
        _exit(2);
    for (uint32_t i = from;; i++) {
        if (i % 2 ? blob_put(b, content(i, bytes), sum) : upload(b, i, 1, &failed)) {
            /* What the one before left half done is not this one: it is refused once. */
            if (blob_upload_discard(b, SPAN("it")) == ERR_IO || upload(b, i, 1, &failed))
                _exit(3);
        }
        if (write(fd, &i, sizeof i) != (ssize_t)sizeof i)
            _exit(4);
    }
}

static void test_kill_9_under_load(void **state)
{
    enum { ROUNDS = 50 };
    uint32_t i, from = 0, seed = 5;
    (void)state;
    wipe();
    for (int round = 0; round < ROUNDS; round++) {
        struct blob *b;
        int fd;
        const pid_t pid = child_start(child, from, &fd);
        seed = seed * 1664525u + 1013904223u;
        uint32_t stop = from + (seed >> 16) % 100, last = from;
        for (bool killed = false; read(fd, &i, sizeof i) == (ssize_t)sizeof i; last = i + 1)
            if (!killed && i >= stop)
                killed = !kill(pid, SIGKILL);
        child_end(pid, fd);
        assert_int_equal(blob_dir_open(&b, dir), ERR_OK);
        for (uint32_t k = 0; k < last; k++)
            check(b, k);
        check_whole(b, last);
        blob_close(b);
        from = last;
    }
    print_message("%d kills, %u acknowledged blobs, none lost\n", ROUNDS, from);
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call),
        cmocka_unit_test(test_a_full_disk_and_room_again),
        cmocka_unit_test(test_kill_9_under_load),
    };
    uint8_t warm[32];
    sum_of(SPAN("OpenSSL loads what it needs here, before allocations are counted"), warm);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return fault_main("blob", run_all);
}
