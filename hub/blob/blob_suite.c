/* hub/blob/blob_suite.c - the tests that every backend of the blob store passes. */
#include "hub/blob/blob_suite.h"

#include "base/text.h"
#include "port/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define OK(call) assert_int_equal(call, ERR_OK)

static const struct blob_suite *suite;
static struct blob *B;

static int setup(void **state)
{
    (void)state;
    suite->wipe();
    return suite->open(&B) != ERR_OK;
}

static int teardown(void **state)
{
    (void)state;
    blob_close(B);
    return 0;
}

static void reopen(void)
{
    blob_close(B);
    OK(suite->open(&B));
}

static void sum(struct span s, uint8_t out[32])
{
    struct sha256 h;
    port_crypto.sha256_init(&h);
    port_crypto.sha256_update(&h, s);
    port_crypto.sha256_final(&h, out);
}

static void holds(const uint8_t sha256[32], struct span want)
{
    uint64_t len;
    int fd;
    uint8_t *got = malloc(want.n + 1);
    OK(blob_open_fd(B, sha256, &fd, &len));
    assert_int_equal(len, want.n);
    assert_int_equal(read(fd, got, want.n + 1), want.n);
    assert_true(span_eq(span_of(got, want.n), want));
    close(fd);
    free(got);
    OK(blob_check(B, sha256));
}

static void test_a_small_blob(void **state)
{
    uint8_t a[32], b[32], want[32];
    uint64_t len;
    int fd;
    (void)state;
    OK(blob_put(B, SPAN("hello"), a));
    OK(blob_put(B, SPAN("hello"), b)); /* again: it is there already */
    sum(SPAN("hello"), want);
    assert_memory_equal(a, want, 32);
    assert_memory_equal(b, want, 32);
    OK(blob_put(B, SPAN_NONE, b));
    holds(b, SPAN_NONE);
    reopen();
    holds(a, SPAN("hello"));
    a[0] ^= 1;
    assert_int_equal(blob_open_fd(B, a, &fd, &len), ERR_NOTFOUND);
    assert_int_equal(blob_check(B, a), ERR_NOTFOUND);
    assert_int_equal(blob_delete(B, a), ERR_NOTFOUND);
    a[0] ^= 1;
    OK(blob_open_fd(B, a, &fd, &len)); /* an open one outlives its deletion */
    OK(blob_delete(B, a));
    char got[8];
    assert_int_equal(read(fd, got, sizeof got), 5);
    close(fd);
    assert_int_equal(blob_open_fd(B, a, &fd, &len), ERR_NOTFOUND);
}

static void test_an_upload_is_resumed(void **state)
{
    struct blob_upload *u, *other;
    uint8_t *big = malloc(300000), want[32];
    uint64_t have = 1;
    (void)state;
    for (size_t i = 0; i < 300000; i++)
        big[i] = (uint8_t)(i * 7 + (i >> 8));
    sum(span_of(big, 300000), want);
    OK(blob_upload_open(B, SPAN("fw-1_0"), &u, &have));
    assert_int_equal(have, 0);
    OK(blob_upload_write(u, 0, span_of(big, 100000)));
    assert_int_equal(blob_upload_write(u, 0, span_of(big, 10)), ERR_STALE);
    assert_int_equal(blob_upload_write(u, 100001, span_of(big, 10)), ERR_STALE);
    assert_int_equal(blob_upload_open(B, SPAN("fw-1_0"), &other, &have), ERR_EXISTS); /* one at a time */
    blob_upload_close(u);
    reopen();
    OK(blob_upload_open(B, SPAN("fw-1_0"), &u, &have));
    assert_int_equal(have, 100000);
    OK(blob_upload_write(u, have, span_of(big + 100000, 200000)));
    OK(blob_upload_commit(u, want));
    holds(want, span_of(big, 300000));
    reopen();
    holds(want, span_of(big, 300000));
    OK(blob_upload_open(B, SPAN("fw-1_0"), &u, &have)); /* the name is free again */
    assert_int_equal(have, 0);
    blob_upload_close(u);
    free(big);
}

static void test_an_upload_that_is_not_what_it_claims(void **state)
{
    struct blob_upload *u;
    uint8_t want[32];
    uint64_t have, len;
    int fd;
    (void)state;
    sum(SPAN("right"), want);
    OK(blob_upload_open(B, SPAN("x"), &u, &have));
    OK(blob_upload_write(u, 0, SPAN("wrong")));
    assert_int_equal(blob_upload_commit(u, want), ERR_VERIFY);
    assert_int_equal(blob_open_fd(B, want, &fd, &len), ERR_NOTFOUND);
    OK(blob_upload_open(B, SPAN("x"), &u, &have)); /* and begins anew */
    assert_int_equal(have, 0);
    OK(blob_upload_write(u, 0, SPAN("right")));
    OK(blob_upload_commit(u, want));
    holds(want, SPAN("right"));
}

static void test_names_of_uploads(void **state)
{
    static const char *const bad[] = { "", ".", "..", "a/b", "../x", "a.b", "a b", "\xc3\xa4" };
    char longest[65];
    struct blob_upload *u;
    uint64_t have;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(blob_upload_open(B, span_str(bad[i]), &u, &have), ERR_PROTO);
        assert_int_equal(blob_upload_discard(B, span_str(bad[i])), ERR_PROTO);
    }
    memset(longest, 'x', sizeof longest);
    assert_int_equal(blob_upload_open(B, span_of(longest, 65), &u, &have), ERR_PROTO);
    OK(blob_upload_open(B, span_of(longest, 64), &u, &have));
    OK(blob_upload_write(u, 0, SPAN("abc")));
    blob_upload_close(u);
    OK(blob_upload_discard(B, span_of(longest, 64)));
    assert_int_equal(blob_upload_discard(B, span_of(longest, 64)), ERR_NOTFOUND);
    OK(blob_upload_open(B, span_of(longest, 64), &u, &have));
    assert_int_equal(have, 0);
    blob_upload_close(u);
}

static void test_uploads_have_a_cap(void **state)
{
    struct blob_upload *u;
    uint64_t have;
    char name[16];
    enum err e = ERR_OK;
    int nr = 0;
    (void)state;
    while (!e && nr < 2000) {
        e = blob_upload_open(B, span_of(name, (size_t)snprintf(name, sizeof name, "u%d", nr)), &u, &have);
        if (!e) {
            blob_upload_close(u);
            nr++;
        }
    }
    assert_int_equal(e, ERR_LIMIT);
    assert_int_equal(nr, 1000);
    OK(blob_upload_discard(B, SPAN("u7")));
    OK(blob_upload_open(B, SPAN("another"), &u, &have));
    blob_upload_close(u);
    OK(blob_upload_open(B, SPAN("u8"), &u, &have)); /* those that are there go on */
    blob_upload_close(u);
}

int blob_suite(const struct blob_suite *how)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_small_blob),     T(test_an_upload_is_resumed), T(test_an_upload_that_is_not_what_it_claims),
        T(test_names_of_uploads), T(test_uploads_have_a_cap),
    };
#undef T
    suite = how;
    return cmocka_run_group_tests_name("blob", tests, NULL, NULL);
}
