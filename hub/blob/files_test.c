/* hub/blob/files_test.c - written, durable under an id, read, copied, deleted; what was not committed is
 * gone. */
#include "hub/blob/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[64];
static struct files *F;

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/roost-test-XXXXXX");
    return !mkdtemp(dir) || files_open(&F, dir, 0) != ERR_OK;
}
static int teardown(void **state)
{
    char cmd[96];
    (void)state;
    files_close(F);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd);
}

static void put(const char *text, uint8_t id[FILE_ID_LEN])
{
    struct file_writer *w;
    assert_int_equal(file_create(F, &w), ERR_OK);
    assert_int_equal(file_write(w, span_str(text)), ERR_OK);
    assert_int_equal(file_written(w), strlen(text));
    assert_int_equal(file_commit(w, id), ERR_OK);
}
static bool has(const uint8_t id[FILE_ID_LEN], const char *text)
{
    char buf[64] = "";
    uint64_t len;
    int fd;
    if (files_open_fd(F, id, &fd, &len))
        return false;
    bool same = pread(fd, buf, sizeof buf - 1, 0) == (ssize_t)len && strcmp(buf, text) == 0;
    close(fd);
    return same;
}
static enum err count_each(void *ctx, const uint8_t id[FILE_ID_LEN])
{
    (void)id;
    ++*(size_t *)ctx;
    return ERR_OK;
}
static size_t count(uint64_t before_ms)
{
    size_t n = 0;
    for (unsigned i = 0; i < FILES_FOLDERS; i++)
        assert_int_equal(files_list(F, i, before_ms, count_each, &n), ERR_OK);
    return n;
}

static void test_life(void **state)
{
    static const uint8_t md5[FILE_MD5_LEN] = {
        0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0, 0xd6, 0x96, 0x3f, 0x7d, 0x28, 0xe1, 0x7f, 0x72
    }; /* of "abc" */
    uint8_t a[FILE_ID_LEN], b[FILE_ID_LEN], c[FILE_ID_LEN], sum[FILE_MD5_LEN];
    struct file_writer *w;
    (void)state;
    put("ab", a);
    put("c", b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_int_equal(file_create(F, &w), ERR_OK);
    assert_int_equal(file_write_part(w, a, 0, 2), ERR_OK);
    assert_int_equal(file_write_part(w, b, 0, 1), ERR_OK);
    assert_int_equal(file_md5(w, sum), ERR_OK);
    assert_memory_equal(sum, md5, sizeof md5);
    assert_int_equal(file_commit(w, c), ERR_OK);
    assert_true(has(c, "abc"));
    assert_int_equal(files_delete(F, a), ERR_OK);
    assert_int_equal(files_delete(F, a), ERR_NOTFOUND);
    assert_true(has(c, "abc"));
    assert_int_equal(file_create(F, &w), ERR_OK);
    assert_int_equal(file_write_part(w, a, 0, 1), ERR_NOTFOUND);
    file_discard(w);
    assert_int_equal(file_create(F, &w), ERR_OK); /* from anywhere in it, and nothing behind its end */
    assert_int_equal(file_write_part(w, c, 1, 2), ERR_OK);
    assert_int_equal(file_write_part(w, c, 3, 0), ERR_OK);
    assert_int_equal(file_write_part(w, c, 0, 1), ERR_OK);
    assert_int_equal(file_written(w), 3);
    assert_int_equal(file_commit(w, a), ERR_OK);
    assert_true(has(a, "bca"));
    assert_int_equal(files_delete(F, a), ERR_OK);
    assert_int_equal(file_create(F, &w), ERR_OK);
    assert_int_equal(file_write_part(w, c, 2, 2), ERR_IO);
    file_discard(w);
    assert_int_equal(count(UINT64_MAX), 2);
    assert_int_equal(count(1), 0);
}

static void test_what_was_not_committed_is_gone(void **state)
{
    uint8_t id[FILE_ID_LEN];
    struct file_writer *w;
    struct files *other;
    (void)state;
    put("kept", id);
    assert_int_equal(file_create(F, &w), ERR_OK);
    assert_int_equal(file_write(w, SPAN("half")), ERR_OK);
    assert_int_equal(files_open(&other, dir, 0), ERR_EXISTS);
    char left[96];
    snprintf(left, sizeof left, "%s/tmp/stray", dir); /* what a crash leaves */
    FILE *stray = fopen(left, "w");
    assert_non_null(stray);
    fclose(stray);
    file_discard(w);
    files_close(F);
    assert_int_equal(files_open(&F, dir, 0), ERR_OK);
    assert_int_not_equal(access(left, F_OK), 0);
    assert_true(has(id, "kept"));
    assert_int_equal(count(UINT64_MAX), 1);
}

static void test_the_room_that_is_left(void **state)
{
    struct file_writer *w;
    (void)state;
    files_close(F);
    assert_int_equal(files_open(&F, dir, UINT64_MAX / 2), ERR_OK);
    assert_int_equal(file_create(F, &w), ERR_OK);
    assert_int_equal(file_write(w, SPAN("x")), ERR_FULL);
    assert_int_equal(file_written(w), 0);
    file_discard(w);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_life), T(test_what_was_not_committed_is_gone),
                                        T(test_the_room_that_is_left) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
