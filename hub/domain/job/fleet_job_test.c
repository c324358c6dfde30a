/* hub/domain/job/fleet_job_test.c - jobs on the real store and bus: every state, what a restart leaves, time
 * that is over, slots, history. The test is the clock, the worker and the devices' sessions. */
#include "tests/fake/hub_fixture.h"

#include "hub/domain/event/event.h"
#include "hub/domain/job/fleet_job_run.h"
#include "hub/domain/throttle.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;
static struct fleet_jobs *jobs;
static struct query_sources sources;
static struct bus_reply asked[1024];
static size_t asked_nr;
static uint32_t asked_ms;

static void on_wake(void *ctx, struct bus_addr to, uint32_t what)
{
    (void)ctx;
    (void)to;
    (void)what;
}
static bool on_message(void *ctx, struct bus_addr to, const struct bus_message *m)
{
    struct method_request q;
    (void)ctx;
    (void)to;
    if (m->kind != BUS_METHOD || asked_nr == 1024)
        return false;
    assert_int_equal(method_request_parse(m->bytes, &q), ERR_OK);
    asked_ms = q.response_ms;
    asked[asked_nr++] = m->reply;
    return true;
}
static void wake_in(void *ctx, uint32_t ms)
{
    (void)ctx;
    (void)ms; /* the test ticks */
}

static uint64_t mono_now = 1000000;
static uint64_t mono_ms(void)
{
    return mono_now;
}

static void jobs_open(void)
{
    struct fleet_jobs_env env = { &fx.mail, wake_in, NULL, mono_ms };
    assert_int_equal(fleet_jobs_new(&jobs, &fx.hub, &env), ERR_OK);
    fx.hub.jobs = jobs;
}

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    bus_register(fx.hub.bus, 0, &fx.mail, on_wake, NULL);
    bus_on_messages(fx.hub.bus, 0, on_message);
    sources = (struct query_sources){ .jobs = fleet_job_records };
    fx.hub.queries = &sources;
    asked_nr = 0;
    jobs_open();
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    bus_stop(fx.hub.bus);
    fixture_pump(&fx, 0);
    fixture_pump(&fx, 0);
    fleet_jobs_free(jobs);
    fixture_fini(&fx);
    return 0;
}

static enum err make_devices(struct store_tx *tx, void *ctx)
{
    char id[16];
    enum err e = ERR_OK;
    for (int i = 0; !e && i < *(int *)ctx; i++) {
        snprintf(id, sizeof id, "d%d", i);
        e = tx_device_put(
            tx,
            &(struct device_row){ .id = span_str(id), .generation = SPAN("g"), .origin = SPAN("operator") },
            UINT64_MAX, NULL);
    }
    return e;
}
static void devices(int nr)
{
    assert_int_equal(fixture_tx(&fx, make_devices, &nr), ERR_OK);
}

struct made {
    struct fleet_job_new n;
    struct fleet_job_row row;
};
static enum err make(struct store_tx *tx, void *ctx)
{
    struct made *m = ctx;
    struct arena a;
    arena_init(&a, 1u << 20);
    enum err e = fleet_job_create(&fx.hub, tx, &a, &m->n, &m->row);
    arena_fini(&a);
    return e;
}
static enum err create(const char *id, uint8_t kind, const char *condition, const char *body,
                       uint64_t start_ms, uint64_t max_s)
{
    struct arena a;
    struct fleet_job_fault f;
    struct made m = { .n = { .id = span_str(id),
                             .kind = kind,
                             .condition = span_str(condition),
                             .body = span_str(body),
                             .start_ms = start_ms,
                             .max_s = max_s,
                             .who = SPAN("test") } };
    arena_init(&a, 1u << 20);
    enum err e = fleet_job_check(&fx.hub, &a, &m.n, &f);
    arena_fini(&a);
    if (!e)
        e = fixture_tx(&fx, make, &m);
    fleet_jobs_poke(&fx.hub);
    return e;
}
#define TWIN   "{\"tags\":{\"x\":1}}"
#define METHOD "{\"methodName\":\"m\"}"

static enum err fetch(struct store_tx *tx, void *ctx)
{
    struct fleet_job_row *r = ctx;
    enum err e = tx_fleet_job_get(tx, r->id, r);
    r->id = r->condition = r->body = r->created_by = SPAN_NONE;
    r->reason = r->reason.n ? SPAN("set") : SPAN_NONE;
    return e;
}
static struct fleet_job_row show(const char *id)
{
    struct fleet_job_row r = { .id = span_str(id) };
    assert_int_equal(fixture_tx(&fx, fetch, &r), ERR_OK);
    return r;
}
#define UNTIL(cond)                                                                                          \
    do {                                                                                                     \
        for (int i_ = 0; i_ < 2000 && !(cond); i_++)                                                         \
            fixture_pump(&fx, 10);                                                                           \
        assert_true(cond);                                                                                   \
    } while (0)
static void settle(void)
{
    UNTIL(fleet_jobs_idle(jobs));
}

/* ---- twins ----------------------------------------------------------------------------------------------
 */

static enum err count_tagged(struct store_tx *tx, void *ctx)
{
    char id[16];
    struct twin_row r;
    for (int i = 0; i < 3000; i++) {
        snprintf(id, sizeof id, "d%d", i);
        if (tx_twin_get(tx, span_str(id), &r) == ERR_OK && span_eq(r.tags, SPAN("{\"x\":1}")) &&
            r.version == 3)
            ++*(int *)ctx;
    }
    return ERR_OK;
}

static void test_every_twin_once(void **state)
{
    (void)state;
    int tagged = 0;
    devices(2500); /* three pages, many transactions */
    assert_int_equal(create("all", FLEET_JOB_TWIN, "*", TWIN, 0, 0), ERR_OK);
    settle();
    struct fleet_job_row r = show("all");
    assert_int_equal(r.state, FLEET_JOB_COMPLETED);
    assert_false(r.open);
    assert_int_equal(r.total, 2500);
    assert_int_equal(r.succeeded, 2500);
    assert_true(r.end_ms >= r.began_ms && r.began_ms >= r.created_ms);
    assert_int_equal(fixture_tx(&fx, count_tagged, &tagged), ERR_OK);
    assert_int_equal(tagged, 2500);
    assert_null(jobs->runs);
}

static enum err drop_some(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    enum err e = tx_device_delete(tx, SPAN("d1"));
    return e ? e : tx_device_delete(tx, SPAN("d3"));
}

/* A store that is closed in the middle, again and again: what was done is not done twice. */
static void test_goes_on_after_every_transaction(void **state)
{
    (void)state;
    int tagged = 0, restarts = 0;
    devices(2500);
    assert_int_equal(create("all", FLEET_JOB_TWIN, "", TWIN, 0, 0), ERR_OK);
    for (; show("all").open; restarts++) {
        for (int i = 0; i < 3; i++)
            fixture_pump(&fx, 1);
        store_close(fx.hub.store); /* what was handed over is done; nobody hears of it */
        (void)mailbox_take(&fx.mail);
        fleet_jobs_free(jobs);
        assert_int_equal(store_sqlite_open(&fx.hub.store, fx.dir, 2), ERR_OK);
        jobs_open();
        fleet_jobs_tick(jobs);
    }
    settle();
    assert_true(restarts > 3);
    assert_int_equal(show("all").succeeded, 2500);
    assert_int_equal(fixture_tx(&fx, count_tagged, &tagged), ERR_OK);
    assert_int_equal(tagged, 2500);
}

static void test_devices_that_are_gone(void **state)
{
    (void)state;
    devices(5);
    assert_int_equal(create("later", FLEET_JOB_TWIN, "*", TWIN, fx.hub.wall_ms() + 5000, 0), ERR_OK);
    settle();
    assert_int_equal(show("later").state, FLEET_JOB_SCHEDULED);
    fixture_clock_offset_ms += 6000;
    fleet_jobs_tick(jobs);
    UNTIL(jobs->runs && jobs->runs->page_ready); /* selected, not recorded: then two go */
    assert_int_equal(fixture_tx(&fx, drop_some, NULL), ERR_OK);
    settle();
    struct fleet_job_row r = show("later");
    assert_int_equal(r.state, FLEET_JOB_COMPLETED);
    assert_int_equal(r.total, 5);
    assert_true(r.succeeded + r.failed == 5);
}

/* Ten at once, then one a second: the job goes on, slower. */
static void test_the_rate_of_devices_slows_a_job(void **state)
{
    (void)state;
    struct span bad;
    struct throttle_config c = { .burst_s = 10 };
    c.per_minute[THROTTLE_JOB_DEVICES] = 60;
    devices(25);
    for (int kind = FLEET_JOB_TWIN; kind <= FLEET_JOB_METHOD; kind++) {
        assert_int_equal(throttle_new(&fx.hub.throttle, &c, &bad), ERR_OK);
        const bool twin = kind == FLEET_JOB_TWIN;
        const char *id = twin ? "patches" : "calls"; /* of devices that are away: a call fails at once */
        assert_int_equal(create(id, (uint8_t)kind, "*", twin ? TWIN : METHOD, 0, 0), ERR_OK);
        static const struct {
            uint64_t after_ms, done;
        } steps[] = { { 0, 11 }, { 999, 11 }, { 1, 12 }, { 5000, 17 }, { 60000, 25 } };
        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
            mono_now += steps[i].after_ms;
            fleet_jobs_tick(jobs);
            settle();
            struct fleet_job_row r = show(id);
            assert_int_equal(twin ? r.succeeded : r.failed, steps[i].done);
            assert_int_equal(r.state, steps[i].done < 25 ? FLEET_JOB_RUNNING : FLEET_JOB_COMPLETED);
        }
        assert_int_equal(throttle_get_stats(fx.hub.throttle, THROTTLE_JOB_DEVICES).refused, 0);
        assert_true(throttle_get_stats(fx.hub.throttle, THROTTLE_JOB_DEVICES).delayed > 0);
        throttle_free(fx.hub.throttle);
        fx.hub.throttle = NULL;
    }
    /* Time over while it waits: the rest has failed, rate or not. */
    assert_int_equal(throttle_new(&fx.hub.throttle, &c, &bad), ERR_OK);
    assert_int_equal(create("over", FLEET_JOB_TWIN, "*", TWIN, 0, 100), ERR_OK);
    settle();
    assert_int_equal(show("over").succeeded, 11);
    fixture_clock_offset_ms += 101000;
    fleet_jobs_tick(jobs);
    settle();
    assert_int_equal(show("over").failed, 14);
    assert_int_equal(show("over").state, FLEET_JOB_COMPLETED);
    throttle_free(fx.hub.throttle);
    fx.hub.throttle = NULL;
}

/* Events of its devices have no room: it stands still, and goes on when they have. */
static void test_a_job_waits_for_room_for_its_events(void **state)
{
    struct event_out out = { 0 };
    struct store_stats s;
    (void)state;
    devices(1000);
    atomic_store(&out.wanted, 1u << MESSAGE_SOURCE_JOB);
    fx.hub.events = &out;
    store_outbox_limit(fx.hub.store, 100000);
    assert_int_equal(create("all", FLEET_JOB_TWIN, "*", TWIN, 0, 0), ERR_OK);
    settle();
    for (int i = 0; i < 3; i++) {
        fleet_jobs_tick(jobs);
        settle();
    }
    struct fleet_job_row r = show("all");
    assert_int_equal(r.state, FLEET_JOB_RUNNING);
    assert_true(r.succeeded > 0 && r.succeeded < 1000);
    store_get_stats(fx.hub.store, &s);
    assert_int_equal(s.outbox_rows, r.succeeded);
    assert_true(s.outbox_bytes >= 50000);
    assert_int_equal(s.outbox_refused, 0);
    store_outbox_limit(fx.hub.store, 0);
    fleet_jobs_tick(jobs);
    settle();
    store_get_stats(fx.hub.store, &s);
    assert_int_equal(show("all").succeeded, 1000);
    assert_int_equal(s.outbox_rows, 1000);
    fx.hub.events = NULL;
}

/* ---- methods --------------------------------------------------------------------------------------------
 */

static void attach(int nr)
{
    char id[16];
    for (int i = 0; i < nr; i++) {
        snprintf(id, sizeof id, "d%d", i);
        assert_int_equal(bus_attach(fx.hub.bus, span_str(id), (struct bus_addr){ 0, 0, (uint32_t)i + 1, 1 }),
                         ERR_OK);
    }
}
static void answer(size_t i, int32_t status)
{
    uint8_t room[64];
    struct wr w = { room, sizeof room, 0 };
    method_answer_encode(&w, status, SPAN("{}"));
    bus_answer(fx.hub.bus, asked[i], ERR_OK, wr_span(&w));
}

static void test_calls_have_a_cap(void **state)
{
    (void)state;
    devices(300);
    attach(299); /* the last one is away */
    assert_int_equal(create("call", FLEET_JOB_METHOD, "*", METHOD, 0, 0), ERR_OK);
    UNTIL(asked_nr == FLEET_JOB_CALLS_MAX);
    UNTIL(!jobs->runs->busy);
    assert_int_equal(show("call").running, FLEET_JOB_CALLS_MAX);
    assert_int_equal(asked_ms, 30000);
    for (size_t i = 0; i < 299; i++) {
        UNTIL(asked_nr > i);
        answer(i, 200);
    }
    settle();
    struct fleet_job_row r = show("call");
    assert_int_equal(r.state, FLEET_JOB_COMPLETED);
    assert_int_equal(r.succeeded, 299);
    assert_int_equal(r.failed, 1);
    assert_int_equal(asked_nr, 299);
}

static void test_calls_of_a_killed_hub_are_not_made_again(void **state)
{
    (void)state;
    devices(3);
    attach(3);
    assert_int_equal(create("call", FLEET_JOB_METHOD, "*", METHOD, 0, 0), ERR_OK);
    UNTIL(asked_nr == 3);
    UNTIL(!jobs->runs->busy);
    struct fleet_jobs *before = jobs; /* still in memory, but nobody runs it */
    jobs_open();
    fleet_jobs_tick(jobs);
    settle();
    struct fleet_job_row r = show("call");
    assert_int_equal(asked_nr, 3);
    assert_int_equal(r.state, FLEET_JOB_COMPLETED);
    assert_int_equal(r.failed, 3);
    assert_int_equal(r.running, 0);
    fleet_jobs_free(jobs);
    jobs = before;
    fx.hub.jobs = before;
}

static void test_no_answer_and_time_that_is_over(void **state)
{
    (void)state;
    devices(300);
    attach(300);
    assert_int_equal(create("call", FLEET_JOB_METHOD, "*", METHOD, 0, 20), ERR_OK);
    UNTIL(asked_nr == FLEET_JOB_CALLS_MAX);
    UNTIL(!jobs->runs->busy);
    assert_true(asked_ms <= 20000);
    fixture_clock_offset_ms += 21000;
    fleet_jobs_tick(jobs);
    settle();
    struct fleet_job_row r = show("call");
    assert_int_equal(r.state, FLEET_JOB_COMPLETED);
    assert_int_equal(r.total, 300);
    assert_int_equal(r.failed, 300);
    assert_int_equal(asked_nr, FLEET_JOB_CALLS_MAX);
}

/* ---- states ---------------------------------------------------------------------------------------------
 */

struct cancel {
    const char *id;
    bool running;
};
static enum err do_cancel(struct store_tx *tx, void *ctx)
{
    struct cancel *c = ctx;
    struct fleet_job_row r;
    struct arena a;
    arena_init(&a, 1u << 20);
    enum err e = fleet_job_cancel(&fx.hub, tx, &a, span_str(c->id), c->running, SPAN("test"), &r);
    arena_fini(&a);
    return e;
}
static enum err cancel(const char *id, bool running)
{
    enum err e = fixture_tx(&fx, do_cancel, &(struct cancel){ id, running });
    fleet_jobs_poke(&fx.hub);
    return e;
}

static void test_cancel(void **state)
{
    (void)state;
    devices(300);
    attach(300);
    assert_int_equal(cancel("none", true), ERR_NOTFOUND);
    assert_int_equal(create("later", FLEET_JOB_TWIN, "*", TWIN, fx.hub.wall_ms() + 5000, 0), ERR_OK);
    settle();
    assert_int_equal(cancel("later", false), ERR_OK);
    settle();
    assert_null(jobs->runs);
    assert_int_equal(cancel("later", true), ERR_STALE);
    assert_int_equal(create("call", FLEET_JOB_METHOD, "*", METHOD, 0, 0), ERR_OK);
    UNTIL(asked_nr == FLEET_JOB_CALLS_MAX);
    assert_int_equal(cancel("call", false), ERR_STALE);
    assert_int_equal(cancel("call", true), ERR_OK);
    UNTIL(show("call").canceled == 300 - FLEET_JOB_CALLS_MAX);
    for (size_t i = 0; i < FLEET_JOB_CALLS_MAX; i++)
        answer(i, 500);
    settle();
    struct fleet_job_row r = show("call");
    assert_int_equal(r.state, FLEET_JOB_CANCELLED);
    assert_false(r.open);
    assert_int_equal(r.succeeded, FLEET_JOB_CALLS_MAX);
    assert_int_equal(asked_nr, FLEET_JOB_CALLS_MAX);
}

static void test_refusals(void **state)
{
    (void)state;
    char id[16];
    const uint64_t far = fx.hub.wall_ms() + FLEET_JOB_AHEAD_MAX_MS;
    assert_int_equal(create("bad id", FLEET_JOB_TWIN, "*", TWIN, 0, 0), ERR_PROTO);
    assert_int_equal(create("", FLEET_JOB_TWIN, "*", TWIN, 0, 0), ERR_PROTO);
    assert_int_equal(create("a", FLEET_JOB_TWIN, "*", "{}", 0, 0), ERR_PROTO);
    assert_int_equal(create("a", FLEET_JOB_TWIN, "*", "{\"tags\":{\"$x\":1}}", 0, 0), ERR_PROTO);
    assert_int_equal(create("a", FLEET_JOB_TWIN, "*", TWIN, far + 60000, 0), ERR_PROTO);
    assert_int_equal(create("a", FLEET_JOB_TWIN, "*", TWIN, 0, FLEET_JOB_RUN_MAX_S + 1), ERR_PROTO);
    assert_int_equal(create("bad", FLEET_JOB_TWIN, "tags.x ==", TWIN, 0, 0), ERR_OK);
    assert_int_equal(create("bad", FLEET_JOB_TWIN, "*", TWIN, 0, 0), ERR_EXISTS);
    settle();
    assert_int_equal(show("bad").state, FLEET_JOB_FAILED);
    assert_true(show("bad").reason.n > 0);
    for (unsigned i = 0; i < FLEET_JOBS_ACTIVE_MAX; i++) {
        snprintf(id, sizeof id, "j%u", i);
        assert_int_equal(create(id, FLEET_JOB_TWIN, "*", TWIN, far - 60000, 0), ERR_OK);
    }
    assert_int_equal(create("one-more", FLEET_JOB_TWIN, "*", TWIN, 0, 0), ERR_LIMIT);
    settle();
}

static void test_every_cut_of_a_body(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{\"tags\":{\"a\":{\"b\":null}},\"properties\":{\"desired\":{\"c\":1.0}}}",
        "{\"methodName\":\"m\",\"payload\":{\"a\":[1,2]},"
        "\"responseTimeoutInSeconds\":30,\"connectTimeoutInSeconds\":5}"
    };
    for (uint8_t kind = 0; kind < 2; kind++)
        for (size_t n = 0; n <= strlen(bodies[kind]); n++) {
            struct arena a;
            struct fleet_job_fault f;
            char *cut = malloc(n + 1);
            memcpy(cut, bodies[kind], n);
            struct fleet_job_new in = { .id = SPAN("a"), .kind = kind, .body = span_of(cut, n) };
            arena_init(&a, 1u << 20);
            assert_int_equal(fleet_job_check(&fx.hub, &a, &in, &f),
                             n == strlen(bodies[kind]) ? ERR_OK : ERR_PROTO);
            arena_fini(&a);
            free(cut);
        }
}

/* ---- history --------------------------------------------------------------------------------------------
 */

static enum err count_records(void *ctx, uint64_t seq, struct span json)
{
    (void)seq;
    json_t *o = json_loadb((const char *)json.p, json.n, 0, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "status")), "completed");
    json_decref(o);
    ++*(int *)ctx;
    return ERR_OK;
}
static enum err walk_records(struct store_tx *tx, void *ctx)
{
    return fleet_job_records(tx, SPAN_NONE, 0, count_records, ctx);
}
static enum err list_count(void *ctx, const struct fleet_job_row *r)
{
    (void)r;
    ++*(int *)ctx;
    return ERR_OK;
}
static enum err list_all(struct store_tx *tx, void *ctx)
{
    return tx_fleet_job_list(
        tx, &(struct fleet_job_filter){ .before = INT64_MAX, .kind = -1, .state = -1, .limit = 100 },
        list_count, ctx);
}

static void test_history_ends(void **state)
{
    (void)state;
    int records = 0, left = 0;
    devices(2100);
    assert_int_equal(create("old", FLEET_JOB_TWIN, "*", TWIN, 0, 0), ERR_OK);
    settle();
    assert_int_equal(fixture_tx(&fx, walk_records, &records), ERR_OK);
    assert_int_equal(records, 2100);
    fixture_clock_offset_ms += (int64_t)FLEET_JOB_KEEP_MS - 60000;
    fleet_jobs_tick(jobs);
    settle();
    assert_int_equal(show("old").total, 2100);
    fixture_clock_offset_ms += 11 * 60000;
    fleet_jobs_tick(jobs);
    settle();
    assert_int_equal(fixture_tx(&fx, list_all, &left), ERR_OK);
    assert_int_equal(left, 0);
    records = 0;
    assert_int_equal(fixture_tx(&fx, walk_records, &records), ERR_OK);
    assert_int_equal(records, 0);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_every_twin_once),
                                        T(test_a_job_waits_for_room_for_its_events),
                                        T(test_goes_on_after_every_transaction),
                                        T(test_devices_that_are_gone),
                                        T(test_the_rate_of_devices_slows_a_job),
                                        T(test_calls_have_a_cap),
                                        T(test_calls_of_a_killed_hub_are_not_made_again),
                                        T(test_no_answer_and_time_that_is_over),
                                        T(test_cancel),
                                        T(test_refusals),
                                        T(test_every_cut_of_a_body),
                                        T(test_history_ends) };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
