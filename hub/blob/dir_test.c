/* hub/blob/dir_test.c - blobs in a directory: the shared suite, and what is its own: the lock, what a crash
 * leaves behind, bytes that rot. */
#include "hub/blob/blob_suite.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char top[] = "/tmp/roost-blob-XXXXXX";
static char dir[64];

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static void wipe(void)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static enum err open_it(struct blob **out)
{
    return blob_dir_open(out, dir);
}

static int fresh(void **state)
{
    (void)state;
    wipe();
    return 0;
}

static void make_file(const char *name, const char *text, int age_s)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    struct timespec ts[2] = { { .tv_sec = time(NULL) - age_s }, { .tv_sec = time(NULL) - age_s } };
    assert_int_equal(futimens(fd, ts), 0);
    close(fd);
}

static bool there(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static void test_two_on_one_directory(void **state)
{
    struct blob *a, *b = NULL;
    (void)state;
    assert_int_equal(open_it(&a), ERR_OK);
    assert_int_equal(open_it(&b), ERR_EXISTS);
    assert_null(b);
    blob_close(a);
    assert_int_equal(open_it(&b), ERR_OK);
    blob_close(b);
    assert_int_equal(blob_dir_open(&b, "/proc/nothing/here"), ERR_IO);
}

static void test_leftovers_of_a_crash_go(void **state)
{
    struct blob *b;
    (void)state;
    assert_int_equal(open_it(&b), ERR_OK);
    blob_close(b);
    make_file("tmp/put-0", "half", 0);
    make_file("uploads/fresh", "part", 86400);
    make_file("uploads/old", "part", 8 * 86400);
    assert_int_equal(open_it(&b), ERR_OK);
    assert_false(there("tmp/put-0"));
    assert_true(there("uploads/fresh"));
    assert_false(there("uploads/old"));
    uint8_t sum[32];
    assert_int_equal(blob_put(b, SPAN("x"), sum), ERR_OK);
    assert_false(there("tmp/put-0"));
    blob_close(b);
}

static void test_rot_is_found_and_mended(void **state)
{
    struct blob *b;
    uint8_t sum[32];
    char name[80] = "sha256/";
    (void)state;
    assert_int_equal(open_it(&b), ERR_OK);
    assert_int_equal(blob_put(b, SPAN("sound"), sum), ERR_OK);
    struct wr w = { (uint8_t *)name, sizeof name - 1, 7 };
    hex_encode(&w, span_of(sum, 1));
    wr_str(&w, "/");
    hex_encode(&w, span_of(sum, 32));
    name[w.len] = 0;
    assert_true(there(name));
    make_file(name, "sOund", 0);
    assert_int_equal(blob_check(b, sum), ERR_VERIFY);
    assert_int_equal(blob_put(b, SPAN("sound"), sum), ERR_OK);
    assert_int_equal(blob_check(b, sum), ERR_OK);
    blob_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_two_on_one_directory, fresh),
        cmocka_unit_test_setup(test_leftovers_of_a_crash_go, fresh),
        cmocka_unit_test_setup(test_rot_is_found_and_mended, fresh),
    };
    if (!mkdtemp(top))
        return 1;
    snprintf(dir, sizeof dir, "%s/blob", top);
    int failed = blob_suite(&(struct blob_suite){ open_it, wipe });
    failed += cmocka_run_group_tests_name("dir", tests, NULL, NULL);
    wipe();
    rmdir(top);
    return failed;
}
