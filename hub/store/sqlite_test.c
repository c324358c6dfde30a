/* hub/store/sqlite_test.c - the SQLite backend: the shared suite, and what is its own: the lock of the
 * directory, the version of the tables, a log that starts over. */
#include "hub/store/sqlite.h"
#include "hub/store/store_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char top[] = "/tmp/roost-store-XXXXXX";
static char dir[64];

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static void wipe(void *arg)
{
    (void)arg;
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static enum err open_it(void *arg, struct store **out)
{
    (void)arg;
    return store_sqlite_open(out, dir, 2);
}

static int fresh(void **state)
{
    (void)state;
    wipe(NULL);
    return 0;
}

static void test_two_on_one_directory(void **state)
{
    struct store *a = NULL, *b = NULL;
    (void)state;
    assert_int_equal(open_it(NULL, &a), ERR_OK);
    assert_int_equal(open_it(NULL, &b), ERR_EXISTS);
    assert_null(b);
    store_close(a);
    assert_int_equal(open_it(NULL, &b), ERR_OK);
    store_close(b);
}

static void test_files_are_their_owners_alone(void **state)
{
    static const char *const names[] = { "roost.db", "roost.db-wal", "roost.db-shm", "store.lock" };
    struct store *a = NULL;
    char path[128];
    struct stat st;
    (void)state;
    mode_t mask = umask(0);
    assert_int_equal(open_it(NULL, &a), ERR_OK);
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    umask(mask);
    store_close(a);
}

static void test_tables_of_a_newer_program(void **state)
{
    struct store *a = NULL;
    sqlite3 *h = NULL;
    char path[128];
    (void)state;
    assert_int_equal(open_it(NULL, &a), ERR_OK);
    store_close(a);
    snprintf(path, sizeof path, "%s/roost.db", dir);
    assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
    assert_int_equal(sqlite_run(h, "INSERT INTO migration VALUES(10000, 'future', 0)"), ERR_OK);
    sqlite3_close(h);
    a = NULL;
    assert_int_equal(open_it(NULL, &a), ERR_PROTO);
    assert_null(a);
}

struct text {
    char p[256];
    size_t n;
};

static enum err each_device(void *ctx, const struct device_row *r, const struct identity_seen *seen)
{
    struct text *x = ctx;
    (void)seen;
    x->n += (size_t)snprintf(x->p + x->n, sizeof x->p - x->n, "%.*s=%llu,", (int)r->id.n,
                             (const char *)r->id.p, (unsigned long long)r->seq);
    return r->auth == AUTH_SAS && !r->edge && r->scope.n == 0 ? ERR_OK : ERR_PROTO;
}

static enum err each_twin(void *ctx, const struct twin_row *r)
{
    struct text *x = ctx;
    x->n += (size_t)snprintf(x->p + x->n, sizeof x->p - x->n, "%.*s=%llu,", (int)r->id.n,
                             (const char *)r->id.p, (unsigned long long)r->seq);
    return r->version == 2 && r->etag == 1 ? ERR_OK : ERR_PROTO;
}

static enum err twins_by_seq(struct store_tx *t, void *ctx)
{
    return tx_twin_list(t, false, 0, 100, each_twin, ctx);
}

static enum err list_by_seq(struct store_tx *t, void *ctx)
{
    return tx_device_list_by_seq(t, 0, 100, each_device, ctx);
}

static enum err add_device(struct store_tx *t, void *ctx)
{
    struct device_row r = { .id = span_str(ctx), .generation = SPAN("g") };
    return tx_device_put(t, &r, UINT64_MAX, NULL);
}

/* Devices of a database that did not number them yet: by the time they were made. */
static void test_devices_of_an_older_program(void **state)
{
    struct store *a = NULL;
    struct text x = { .n = 0 };
    sqlite3 *h = NULL;
    char path[128];
    (void)state;
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(path, sizeof path, "%s/roost.db", dir);
    assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
    assert_int_equal(sqlite_migrate(h, 1), ERR_OK);
    assert_int_equal(sqlite_run(h, "INSERT INTO device VALUES"
                                   "('a', 0, NULL, NULL, NULL, 'g', 1, 30, 30, '', 0, 0, 'operator', 0, 0),"
                                   "('b', 0, NULL, NULL, NULL, 'g', 1, 10, 10, '', 0, 0, 'operator', 0, 0),"
                                   "('c', 0, NULL, NULL, NULL, 'g', 1, 20, 20, '', 0, 0, 'operator', 0, 0),"
                                   "('d', 0, NULL, NULL, NULL, 'g', 1, 20, 20, '', 0, 0, 'operator', 0, 0);"
                                   "INSERT INTO report VALUES('a', NULL, 0, 0, 0, NULL, -1, 40)"),
                     ERR_OK);
    sqlite3_close(h);
    assert_int_equal(open_it(NULL, &a), ERR_OK);
    assert_int_equal(store_write_wait(a, add_device, "new"), ERR_OK);
    assert_int_equal(store_read_wait(a, list_by_seq, &x), ERR_OK);
    assert_string_equal(x.p, "b=1,c=2,d=3,a=4,new=5,");
    x.n = 0;
    assert_int_equal(store_read_wait(a, twins_by_seq, &x), ERR_OK);
    assert_string_equal(x.p, "b=1,c=2,d=3,a=4,new=5,"); /* each has a twin from now on */
    store_close(a);
}

static int count_into(void *arg, int cols, char **vals, char **names)
{
    (void)cols, (void)names;
    *(long *)arg = strtol(vals[0], NULL, 10);
    return 0;
}

/* The indexes of queries that an older program made as the database's own are gone, other indexes are not. */
static void test_query_indexes_of_an_older_program(void **state)
{
    static const char left[] = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'query:%'";
    static const char others[] = "SELECT count(*) FROM sqlite_schema WHERE name = 'twin_module'";
    struct store *a = NULL;
    sqlite3 *h = NULL;
    char path[128];
    long nr = -1;
    (void)state;
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(path, sizeof path, "%s/roost.db", dir);
    assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
    assert_int_equal(sqlite_migrate(h, 14), ERR_OK);
    assert_int_equal(
        sqlite_run(h, "CREATE INDEX \"query:tags.a-b.c\" ON twin(json_extract(tags, '$.\"a-b\".\"c\"'), seq)"
                      " WHERE json_extract(tags, '$.\"a-b\".\"c\"') IS NOT NULL;"
                      "CREATE INDEX \"query:tags.d\" ON twin(json_extract(tags, '$.\"d\"'), seq)"),
        ERR_OK);
    sqlite3_exec(h, left, count_into, &nr, NULL);
    assert_int_equal(nr, 2);
    sqlite3_close(h);
    assert_int_equal(open_it(NULL, &a), ERR_OK);
    store_close(a);
    assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
    sqlite3_exec(h, left, count_into, &nr, NULL);
    assert_int_equal(nr, 0);
    sqlite3_exec(h, others, count_into, &nr, NULL);
    assert_int_equal(nr, 1);
    sqlite3_close(h);
}

static enum err show_blocks(struct store_tx *t, void *ctx)
{
    static const char *const names[] = { "d/blocks", "d/whole" };
    struct text *x = ctx;
    for (size_t i = 0; i < 2; i++) {
        struct named_blob_row r;
        struct span blocks;
        assert_int_equal(tx_blob_get(t, SPAN("c"), span_str(names[i]), &r), ERR_OK);
        assert_int_equal(tx_blob_blocks(t, r.container, r.name, &blocks), ERR_OK);
        x->n +=
            (size_t)snprintf(x->p + x->n, sizeof x->p - x->n, "%.*s %.*s %u,", (int)r.file.n,
                             (const char *)r.file.p, (int)blocks.n, (const char *)blocks.p, (unsigned)r.room);
    }
    return ERR_OK;
}

/* Tables of blocks of a database that had them in the rows of the names. */
static void test_blocks_of_an_older_program(void **state)
{
    struct store *a = NULL;
    struct text x = { .n = 0 };
    sqlite3 *h = NULL;
    char path[128];
    (void)state;
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(path, sizeof path, "%s/roost.db", dir);
    assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
    assert_int_equal(sqlite_migrate(h, 17), ERR_OK);
    assert_int_equal(
        sqlite_run(h, "INSERT INTO named_blob VALUES('c', 'd/blocks', 'f1', 10, '', '', '', 1, 1, 'table'),"
                      "('c', 'd/whole', 'f2', 10, '', '', '', 1, 1, x'')"),
        ERR_OK);
    sqlite3_close(h);
    assert_int_equal(open_it(NULL, &a), ERR_OK);
    assert_int_equal(store_read_wait(a, show_blocks, &x), ERR_OK);
    assert_string_equal(x.p, "f1 table 15,f2  10,");
    store_close(a);
}

static void test_what_cannot_be_opened(void **state)
{
    struct store *a = NULL;
    char path[128];
    FILE *f;
    (void)state;
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(path, sizeof path, "%s/roost.db", dir);
    assert_non_null(f = fopen(path, "w"));
    for (int i = 0; i < 1000; i++)
        fputs("this is not a database", f);
    fclose(f);
    assert_int_equal(open_it(NULL, &a), ERR_IO);
    assert_int_equal(store_sqlite_open(&a, "/proc/nothing/here", 1), ERR_IO);
    remove(path);
    assert_int_equal(mkdir(path, 0700), 0); /* a directory where the database should be */
    assert_int_equal(open_it(NULL, &a), ERR_IO);
    assert_null(a);
}

static enum err put_many(struct store_tx *t, void *ctx)
{
    static uint8_t filler[60000];
    char key[32];
    int *round = ctx;
    for (int i = 0; i < 20; i++) {
        int n = snprintf(key, sizeof key, "k%d-%d", *round % 7, i);
        filler[0] = (uint8_t)*round;
        enum err e = tx_meta_put(t, span_of(key, (size_t)n), span_of(filler, sizeof filler));
        if (e)
            return e;
    }
    return ERR_OK;
}

/* 400 MB pass through the log: without being copied back it would be as long as that. */
static void test_the_log_starts_over(void **state)
{
    struct store *a = NULL;
    struct stat st;
    char path[128];
    (void)state;
    assert_int_equal(open_it(NULL, &a), ERR_OK);
    for (int round = 0; round < 333; round++)
        assert_int_equal(store_write_wait(a, put_many, &round), ERR_OK);
    snprintf(path, sizeof path, "%s/roost.db-wal", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_in_range(st.st_size, 0, 200 << 20);
    store_close(a);
}

/* The records of one job are found, not looked for among those of all jobs, and come in their order. */
static void test_records_of_a_job_have_an_index(void **state)
{
    struct store *a = NULL;
    sqlite3 *h = NULL;
    sqlite3_stmt *st = NULL;
    char path[128], plan[1024] = "";
    (void)state;
    assert_int_equal(open_it(NULL, &a), ERR_OK);
    store_close(a);
    snprintf(path, sizeof path, "%s/roost.db", dir);
    assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(h, "EXPLAIN QUERY PLAN " TX_JOB_RECORDS_OF_ONE, -1, &st, NULL),
                     SQLITE_OK);
    while (sqlite3_step(st) == SQLITE_ROW) {
        size_t n = strlen(plan);
        snprintf(plan + n, sizeof plan - n, "%s; ", (const char *)sqlite3_column_text(st, 3));
    }
    sqlite3_finalize(st);
    sqlite3_close(h);
    if (!strstr(plan, "job_device_job (job=? AND rowid>?)") || strstr(plan, "SCAN") || strstr(plan, "B-TREE"))
        fail_msg("%s", plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_records_of_a_job_have_an_index, fresh),
        cmocka_unit_test_setup(test_two_on_one_directory, fresh),
        cmocka_unit_test_setup(test_files_are_their_owners_alone, fresh),
        cmocka_unit_test_setup(test_tables_of_a_newer_program, fresh),
        cmocka_unit_test_setup(test_devices_of_an_older_program, fresh),
        cmocka_unit_test_setup(test_query_indexes_of_an_older_program, fresh),
        cmocka_unit_test_setup(test_blocks_of_an_older_program, fresh),
        cmocka_unit_test_setup(test_what_cannot_be_opened, fresh),
        cmocka_unit_test_setup(test_the_log_starts_over, fresh),
    };
    if (!mkdtemp(top))
        return 1;
    snprintf(dir, sizeof dir, "%s/store", top);
    const struct store_suite how = { open_it, wipe, NULL };
    int failed = store_suite(&how) + store_suite_c2d(&how) + store_suite_fleet(&how) +
                 store_suite_identity(&how) + store_suite_twin(&how) + store_suite_query(&how) +
                 store_suite_job(&how) + store_suite_config(&how) + store_suite_broadcast(&how);
    failed += cmocka_run_group_tests_name("sqlite", tests, NULL, NULL);
    wipe(NULL);
    rmdir(top);
    return failed;
}
