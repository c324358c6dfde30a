/* hub/store/job_suite.c - what every backend has to pass about jobs: rows, lists, devices of a job and their
 * states, the walk over records, what has to go. */
#include "hub/store/store_fixture.h"

#include <stdio.h>

static struct fleet_job_row job_named(const char *id, uint8_t kind)
{
    return (struct fleet_job_row){ .id = span_str(id),
                                   .kind = kind,
                                   .state = FLEET_JOB_QUEUED,
                                   .open = true,
                                   .condition = SPAN("*"),
                                   .body = SPAN("{\"tags\":{}}"),
                                   .created_by = SPAN("owner"),
                                   .created_ms = 10,
                                   .start_ms = 20,
                                   .max_s = 30 };
}
static enum err add(struct store_tx *t, void *ctx)
{
    static const char *const ids[] = { "a", "b", "c" };
    for (size_t i = 0; i < 3; i++) {
        uint64_t seq = 0;
        const struct fleet_job_row r = job_named(ids[i], i == 1 ? FLEET_JOB_METHOD : FLEET_JOB_TWIN);
        OK(tx_fleet_job_add(t, &r, &seq));
        assert_int_not_equal(seq, 0);
        assert_int_equal(tx_fleet_job_add(t, &r, &seq), ERR_EXISTS);
        if (ctx)
            ((uint64_t *)ctx)[i] = seq;
    }
    return ERR_OK;
}

static enum err each_job(void *ctx, const struct fleet_job_row *r)
{
    text_add(ctx, r->id);
    return ((struct text *)ctx)->stop_with;
}
static struct text listed(struct store_tx *t, struct fleet_job_filter f)
{
    struct text x = { .n = 0 };
    OK(tx_fleet_job_list(t, &f, each_job, &x));
    return x;
}
#define SAME(x, want) same(span_of((x).p, (x).n), want)

static enum err look_at_jobs(struct store_tx *t, void *ctx)
{
    struct fleet_job_row r;
    const uint64_t *seq = ctx;
    uint64_t nr;
    struct text x = { .n = 0 };
    OK(tx_fleet_job_get(t, SPAN("b"), &r));
    assert_int_equal(r.seq, seq[1]);
    assert_int_equal(r.kind, FLEET_JOB_METHOD);
    assert_true(r.open);
    same(r.condition, "*");
    same(r.body, "{\"tags\":{}}");
    same(r.created_by, "owner");
    assert_int_equal(r.created_ms, 10);
    assert_int_equal(r.start_ms, 20);
    assert_int_equal(r.max_s, 30);
    assert_int_equal(tx_fleet_job_get(t, SPAN("B"), &r), ERR_NOTFOUND);
    OK(tx_fleet_job_by_seq(t, seq[2], &r));
    same(r.id, "c");
    assert_int_equal(tx_fleet_job_by_seq(t, 999, &r), ERR_NOTFOUND);
    SAME(listed(t, (struct fleet_job_filter){ INT64_MAX, -1, -1, 10 }), "c,b,a,");
    SAME(listed(t, (struct fleet_job_filter){ INT64_MAX, -1, -1, 2 }), "c,b,");
    SAME(listed(t, (struct fleet_job_filter){ seq[1], -1, -1, 10 }), "a,");
    SAME(listed(t, (struct fleet_job_filter){ INT64_MAX, FLEET_JOB_TWIN, -1, 10 }), "c,a,");
    SAME(listed(t, (struct fleet_job_filter){ INT64_MAX, -1, FLEET_JOB_RUNNING, 10 }), "");
    OK(tx_fleet_job_list_open(t, each_job, &x));
    SAME(x, "a,b,c,");
    x = (struct text){ .stop_with = ERR_STOPPED };
    assert_int_equal(tx_fleet_job_list_open(t, each_job, &x), ERR_STOPPED);
    SAME(x, "a,");
    OK(tx_fleet_job_active(t, FLEET_JOB_TWIN, FLEET_JOB_METHOD, &nr));
    assert_int_equal(nr, 3);
    OK(tx_fleet_job_active(t, FLEET_JOB_METHOD, FLEET_JOB_METHOD, &nr));
    assert_int_equal(nr, 1);
    return ERR_OK;
}

static enum err end_b(struct store_tx *t, void *ctx)
{
    struct fleet_job_row r;
    (void)ctx;
    OK(tx_fleet_job_get(t, SPAN("b"), &r));
    r.state = FLEET_JOB_FAILED;
    r.open = false;
    r.reason = SPAN("why");
    r.began_ms = 40;
    r.end_ms = 50;
    r.cursor = 60;
    r.selected = true;
    r.total = 9;
    r.succeeded = 1;
    r.failed = 2;
    r.running = 3;
    r.canceled = 1;
    return tx_fleet_job_put(t, &r);
}
static enum err look_at_end(struct store_tx *t, void *ctx)
{
    struct fleet_job_row r;
    uint64_t nr;
    struct text x = { .n = 0 };
    (void)ctx;
    OK(tx_fleet_job_get(t, SPAN("b"), &r));
    assert_int_equal(r.state, FLEET_JOB_FAILED);
    assert_false(r.open);
    same(r.reason, "why");
    assert_int_equal(r.began_ms, 40);
    assert_int_equal(r.end_ms, 50);
    assert_int_equal(r.cursor, 60);
    assert_true(r.selected);
    assert_int_equal(r.total * 10000 + r.succeeded * 1000 + r.failed * 100 + r.running * 10 + r.canceled,
                     91231);
    OK(tx_fleet_job_list_open(t, each_job, &x));
    SAME(x, "a,c,");
    OK(tx_fleet_job_active(t, FLEET_JOB_TWIN, FLEET_JOB_METHOD, &nr));
    assert_int_equal(nr, 2);
    return ERR_OK;
}

static void test_jobs(void **state)
{
    uint64_t seq[3];
    (void)state;
    W(add, seq);
    R(look_at_jobs, seq);
    W(end_b, NULL);
    reopen();
    R(look_at_end, NULL);
}

/* ---- devices --------------------------------------------------------------------------------------------
 */

/* Of a and b in turns, so that their records lie between each other. */
static enum err add_devices(struct store_tx *t, void *ctx)
{
    const uint64_t *seq = ctx;
    char id[16];
    for (int i = 0; i < 6; i++) {
        snprintf(id, sizeof id, "d%d", i);
        OK(tx_fleet_device_add(t, seq[i % 2], span_str(id), 100));
    }
    return ERR_OK;
}
static enum err each_one(void *ctx, const struct fleet_device_row *r)
{
    text_add(ctx, r->id);
    return ((struct text *)ctx)->stop_with;
}
static enum err each_record(void *ctx, const struct fleet_job_row *j, const struct fleet_device_row *r)
{
    char text[64];
    snprintf(text, sizeof text, "%.*s%u.%.*s=%u", (int)j->id.n, (const char *)j->id.p, j->kind, (int)r->id.n,
             (const char *)r->id.p, r->state);
    text_add(ctx, span_str(text));
    return ((struct text *)ctx)->stop_with;
}
static struct text devices_in(struct store_tx *t, uint64_t job, int state, size_t limit)
{
    struct text x = { .n = 0 };
    OK(tx_fleet_device_list(t, job, state, limit, each_one, &x));
    return x;
}
static struct text records(struct store_tx *t, const char *job, uint64_t after)
{
    struct text x = { .n = 0 };
    OK(tx_fleet_device_walk(t, span_str(job), after, each_record, &x));
    return x;
}
static enum err keep_first(void *ctx, const struct fleet_device_row *r)
{
    *(uint64_t *)ctx = r->nr;
    return ERR_STOPPED;
}

static enum err work(struct store_tx *t, void *ctx)
{
    const uint64_t *seq = ctx;
    uint64_t first = 0, nr = 0;
    assert_int_equal(tx_fleet_device_list(t, seq[0], FLEET_DEVICE_PENDING, 10, keep_first, &first),
                     ERR_STOPPED);
    OK(tx_fleet_device_put(t, &(struct fleet_device_row){ .nr = first,
                                                          .state = FLEET_DEVICE_COMPLETED,
                                                          .outcome = SPAN("{}"),
                                                          .start_ms = 110,
                                                          .end_ms = 120 }));
    const struct fleet_device_move m = { .job = seq[0],
                                         .from = FLEET_DEVICE_PENDING,
                                         .to = FLEET_DEVICE_FAILED,
                                         .outcome = SPAN("{\"code\":\"x\"}"),
                                         .end_ms = 130,
                                         .limit = 1 };
    OK(tx_fleet_device_move(t, &m, &nr));
    assert_int_equal(nr, 1);
    return ERR_OK;
}
static enum err look_at_devices(struct store_tx *t, void *ctx)
{
    const uint64_t *seq = ctx;
    struct text x = { .stop_with = ERR_LIMIT };
    uint64_t first = 0;
    SAME(devices_in(t, seq[0], FLEET_DEVICE_PENDING, 10), "d4,");
    SAME(devices_in(t, seq[0], FLEET_DEVICE_COMPLETED, 10), "d0,");
    SAME(devices_in(t, seq[0], FLEET_DEVICE_FAILED, 10), "d2,");
    SAME(devices_in(t, seq[1], FLEET_DEVICE_PENDING, 2), "d1,d3,");
    SAME(devices_in(t, seq[2], FLEET_DEVICE_PENDING, 2), "");
    SAME(records(t, "", 0), "a0.d0=2,b1.d1=0,a0.d2=3,b1.d3=0,a0.d4=0,b1.d5=0,");
    SAME(records(t, "a", 0), "a0.d0=2,a0.d2=3,a0.d4=0,");
    SAME(records(t, "b", 0), "b1.d1=0,b1.d3=0,b1.d5=0,");
    SAME(records(t, "c", 0), "");
    SAME(records(t, "nobody", 0), "");
    assert_int_equal(tx_fleet_device_walk(t, SPAN_NONE, 0, each_record, &x), ERR_LIMIT);
    SAME(x, "a0.d0=2,");
    assert_int_equal(tx_fleet_device_list(t, seq[0], FLEET_DEVICE_COMPLETED, 1, keep_first, &first),
                     ERR_STOPPED);
    SAME(records(t, "a", first), "a0.d2=3,a0.d4=0,");
    SAME(records(t, "", first + 3), "a0.d4=0,b1.d5=0,");
    return ERR_OK;
}

static void test_devices_of_jobs(void **state)
{
    uint64_t seq[3];
    (void)state;
    W(add, seq);
    W(add_devices, seq);
    W(work, seq);
    reopen();
    R(look_at_devices, seq);
}

/* ---- what has to go -------------------------------------------------------------------------------------
 */

static enum err outdated(struct store_tx *t, void *ctx)
{
    const uint64_t *seq = ctx;
    uint64_t got = 0;
    /* Only b has ended, at 50. */
    assert_int_equal(tx_fleet_job_outdated(t, 50, 10, 10, &got), ERR_NOTFOUND);
    OK(tx_fleet_job_outdated(t, 51, 10, 10, &got));
    assert_int_equal(got, seq[1]);
    OK(tx_fleet_job_outdated(t, 0, 2, 10, &got));
    assert_int_equal(got, seq[1]);
    OK(tx_fleet_job_outdated(t, 0, 10, 5, &got));
    assert_int_equal(got, seq[1]);
    return ERR_OK;
}
static enum err delete_b(struct store_tx *t, void *ctx)
{
    const uint64_t *seq = ctx;
    struct fleet_job_row r;
    bool gone = true;
    OK(tx_fleet_job_delete(t, seq[1], 2, &gone));
    assert_false(gone);
    assert_int_equal(records(t, "b", 0).n, strlen("b1.d5=0,")); /* one of them, whichever */
    OK(tx_fleet_job_get(t, SPAN("b"), &r));
    while (!gone)
        OK(tx_fleet_job_delete(t, seq[1], 2, &gone));
    assert_int_equal(tx_fleet_job_get(t, SPAN("b"), &r), ERR_NOTFOUND);
    SAME(records(t, "", 0), "a0.d0=0,a0.d2=0,a0.d4=0,");
    return ERR_OK;
}

static void test_jobs_go(void **state)
{
    uint64_t seq[3];
    (void)state;
    W(add, seq);
    W(add_devices, seq);
    W(end_b, NULL);
    R(outdated, seq);
    W(delete_b, seq);
}

int store_suite_job(const struct store_suite *how)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_jobs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_devices_of_jobs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jobs_go, setup, teardown),
    };
    store_fixture_use(how);
    return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
