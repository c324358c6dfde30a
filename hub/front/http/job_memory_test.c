/* hub/front/http/job_memory_test.c - each route of both fronts that have jobs, with memory for so many bytes
 * of its arena, from none on: whichever piece is the first that is not there, the request is answered once,
 * not as a fault of the hub, and nothing is read of a job that has ended. What hands out bytes hands out all
 * of them, or says that memory is short. */
#define FIXTURE_STREAM
#include "tests/fake/http_fake.h"
#include "tests/fake/hub_fixture.h"

#include "tests/fake/blob_fake.h"

#include "hub/domain/message/c2d.h"
#include "hub/domain/message/c2d_lock.h"
#include "hub/front/azure_http/azure_http.h"
#include "hub/front/azure_http/routes.h"
#include "hub/front/http/job.h"
#include "hub/front/roost_http/roost_http.h"
#include "hub/loop/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <malloc.h>

#define STEP     16u   /* what the arena gives is a multiple of it */
#define FINE_MAX 1024u /* beyond it, in steps of an eighth */

static struct fixture fx;
static struct azure_http *azure;
static struct roost_http *roost;
static struct blob_http *blobs;
static struct worker *worker;
static struct pool *pool;
static struct http_fake answer;
static char token[SAS_TOKEN_MAX];
static struct span token_span;

/* The front's own table, less memory. */
static struct http_front_ops ops;
static void (*begin_of_front)(struct job *j);
static size_t room;
static bool was_short; /* as the job ended; stays true where the route looks at its end itself */

static void note_end(struct job *j)
{
    was_short = j->a.failed;
}
static void begin(struct job *j)
{
    j->a.left = room;
    j->on_release = note_end;
    if (begin_of_front)
        begin_of_front(j);
}
static const struct http_front_ops *take_over(void *front)
{
    struct http_front *f = front; /* each begins with it */
    const struct http_front_ops *own = f->ops;
    ops = *own;
    begin_of_front = ops.begin;
    ops.begin = begin;
    f->ops = &ops;
    return own;
}
static void hand_back(void *front, const struct http_front_ops *own)
{
    ((struct http_front *)front)->ops = own;
}

static int setup(void **state)
{
    char path[96];
    (void)state;
    mallopt(M_PERTURB, 0x5a); /* what is given back is no pointer any more */
    fixture_init(&fx);
    snprintf(path, sizeof path, "%s/blob", fx.dir);
    assert_int_equal(blob_dir_open(&fx.hub.blob, path), ERR_OK);
    snprintf(path, sizeof path, "%s/files", fx.dir);
    assert_int_equal(files_open(&fx.hub.files, path, 0), ERR_OK);
    fx.hub.settings.upload_container = "uploads";
    fx.hub.settings.registry_container = "";
    fx.hub.settings.upload_blob_bytes = 1u << 20;
    assert_int_equal(worker_new(&worker, 0), ERR_OK);
    assert_int_equal(pool_new(&pool, 1), ERR_OK);
    assert_int_equal(azure_http_new(&azure, &fx.hub, pool), ERR_OK);
    assert_int_equal(roost_http_new(&roost, &fx.hub, pool, NULL), ERR_OK);
    assert_int_equal(blob_http_new(&blobs, &fx.hub, pool), ERR_OK);
    fixture_policy(&fx, "owner", 15);
    token_span = fixture_token(token, "hub.example.net", fixture_key1, 86400, "owner");
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    http_fake_free(&answer);
    pool_free(pool);
    blob_close(fx.hub.blob);
    files_close(fx.hub.files);
    fixture_fini(&fx);
    azure_http_free(azure);
    roost_http_free(roost);
    blob_http_free(blobs);
    worker_free(worker);
    return 0;
}

static unsigned send_it(const struct http_route *route, size_t n)
{
    room = n;
    was_short = true;
    route->handler(&answer.r);
    while (!answer.status)
        worker_turn(worker, 10000);
    return answer.status;
}

static unsigned ask(const struct http_route *route, unsigned method, void *front, struct span body, size_t n)
{
    http_fake_free(&answer);
    answer = (struct http_fake){ .r = { .worker = worker,
                                        .ctx = front,
                                        .route = route,
                                        .method = method,
                                        .path = SPAN("/x"),
                                        /* telemetry: refused, no stream */
                                        .query = SPAN("api-version=2021-04-12&from=nowhere"),
                                        .params = { SPAN("d1"), SPAN("m1"), SPAN("x"), SPAN("x") },
                                        .body = body } };
    answer.fields[0].name = "Authorization";
    answer.fields[0].value = token_span;
    answer.fields[1].name = "If-Match";
    answer.fields[1].value = SPAN("\"AAAAAAAAAAE=\"");
    return send_it(route, n);
}

static size_t more_room(size_t n)
{
    return n + (n < FINE_MAX ? STEP : n / 8 / STEP * STEP);
}

/* Returns how many answers said that memory is short. */
static size_t starve(const struct http_route *route, unsigned method, void *front, struct span body)
{
    size_t starved = 0;
    (void)fixture_tx(&fx, fixture_delete_device, (void *)(uintptr_t) "d1"); /* what was there may have gone */
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    for (size_t n = 0; n < 65536; n = more_room(n)) {
        unsigned status = ask(route, method, front, body, n);
        if (status == 500)
            fail_msg("%s (method %u) with room for %zu: 500", route->pattern, method, n);
        starved += status == 503;
        if (!was_short)
            break;
    }
    return starved;
}

static void each_route(const struct http_route *table, void *front)
{
    size_t routes = 0, starved = 0;
    const struct http_front_ops *own = take_over(front);
    for (const struct http_route *r = table; r->pattern; r++)
        for (unsigned method = 1; r->handler && method <= HTTP_DELETE_; method <<= 1) {
            if (!(r->methods & method))
                continue;
            routes++;
            starved += starve(r, method, front, SPAN("{}"));
            starved += starve(r, method, front, SPAN("[]"));
        }
    print_message("%zu routes, %zu answers that memory is short\n", routes, starved);
    assert_true(starved > routes);
    hand_back(front, own);
}

static void azure_routes(void **state)
{
    (void)state;
    each_route(azure_http_routes(azure)->table, azure);
}
static void roost_routes(void **state)
{
    (void)state;
    each_route(roost_http_routes(roost)->table, roost);
}

/* ---- a message for a device --------------------------------------------------------------------------- */

static void a_message_is_handed_out_whole(void **state)
{
    static const struct http_route route = { HTTP_GET_, "/devices/{}/messages/devicebound", azure_bound_get,
                                             0 };
    static uint8_t bytes[5000];
    size_t starved = 0, whole = 0;
    const struct c2d_prop prop = { SPAN("colour"), SPAN("red") };
    const struct c2d_message m = { .device = SPAN("c1"),
                                   .message_id = SPAN("m7"),
                                   .props = &prop,
                                   .props_nr = 1,
                                   .body = span_of(bytes, sizeof bytes) };
    struct c2d_send sent = { .hub = &fx.hub, .message = &m };
    const struct http_front_ops *own = take_over(azure);
    (void)state;
    memset(bytes, 'x', sizeof bytes);
    fx.hub.settings.c2d_lock_s = 1;
    fixture_device(&fx, "c1", DEVICE_ENABLED);
    fixture_prepare(&fx, &sent.store.op);
    c2d_send_start(&sent);
    assert_int_equal(fixture_wait(&fx, &sent.store.op), ERR_OK);
    for (size_t n = 0; n < 32768; n = more_room(n)) {
        http_fake_free(&answer);
        answer = (struct http_fake){ .r = { .worker = worker,
                                            .ctx = azure,
                                            .route = &route,
                                            .method = HTTP_GET_,
                                            .path = SPAN("/x"),
                                            .query = SPAN("api-version=2021-04-12"),
                                            .params = { SPAN("c1") } } };
        answer.fields[0].name = "Authorization";
        answer.fields[0].value = token_span;
        if (send_it(&route, n) == 200) {
            assert_int_equal(answer.body_len, sizeof bytes);
            assert_memory_equal(answer.body, bytes, sizeof bytes);
            assert_non_null(strstr(answer.answer_fields, "iothub-messageid: m7\r\n"));
            assert_non_null(strstr(answer.answer_fields, "iothub-app-colour: red\r\n"));
            assert_non_null(strstr(answer.answer_fields, "ETag: "));
            whole++;
        } else {
            if (answer.status != 503)
                fail_msg("a message with room for %zu: %u", n, answer.status);
            starved++;
        }
        fixture_clock_offset_ms += 2000;
        c2d_locks_sweep(&fx.hub); /* its lock is over */
    }
    print_message("%zu times whole, %zu answers that memory is short\n", whole, starved);
    assert_true(whole && starved);
    fixture_clock_offset_ms = 0;
    hand_back(azure, own);
}

/* ---- files --------------------------------------------------------------------------------------------- */

static unsigned blob(unsigned method, const char *path, const char *query, struct span body, size_t n)
{
    const struct http_route *route = blob_fake(&answer, &fx.hub, worker, blobs, method, path, query, body);
    answer.fields[1].name = "x-ms-meta-colour";
    answer.fields[1].value = SPAN("red");
    return send_it(route, n);
}

static void put_file(const char *path, const char *query, const char *body)
{
    assert_int_equal(blob(HTTP_PUT_, path, query, span_str(body), JOB_ARENA_MAX), 201);
}

/* A file of one block, another block beside it, another file. */
static void begin_anew(void)
{
    put_file("/uploads/d1/f", "", "old");
    put_file("/uploads/d1/f", "&comp=block&blockid=QkJC", "bbbb");
    put_file("/uploads/d1/f", "&comp=blocklist", "<BlockList><Latest>QkJC</Latest></BlockList>");
    put_file("/uploads/d1/f", "&comp=block&blockid=QUFB", "abc");
    put_file("/uploads/d1/g", "", "other");
}

static void files_of_devices(void **state)
{
    static const struct {
        unsigned method;
        const char *path, *query, *body;
        unsigned want;
        const char *shows;
    } requests[] = {
        { HTTP_PUT_, "/uploads/d1/f", "", "whole", 201, "" },
        { HTTP_PUT_, "/uploads/d1/f", "&comp=block&blockid=QUFB", "abc", 201, "" },
        { HTTP_PUT_, "/uploads/d1/f", "&comp=blocklist",
          "<BlockList><Committed>QkJC</Committed><Latest>QUFB</Latest></BlockList>", 201, "" },
        { HTTP_GET_, "/uploads/d1/f", "", "", 200, "bbbb" },
        { HTTP_GET_, "/uploads/d1/f", "&comp=blocklist&blocklisttype=all", "", 200,
          "<CommittedBlocks><Block><Name>QkJC</Name><Size>4</Size></Block></CommittedBlocks>"
          "<UncommittedBlocks><Block><Name>QUFB</Name><Size>3</Size></Block></UncommittedBlocks></"
          "BlockList>" },
        { HTTP_GET_, "/uploads", "&restype=container&comp=list&maxresults=1", "", 200,
          "<NextMarker>64312f66</NextMarker></EnumerationResults>" },
        { HTTP_GET_, "/uploads", "&restype=container&comp=list&marker=64312f66", "", 200,
          "<Name>d1/g</Name>" },
        { HTTP_DELETE_, "/uploads/d1/f", "", "", 202, "" },
    };
    size_t starved = 0;
    const struct http_front_ops *own = take_over(blobs);
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        size_t done = 0;
        bool changed = false;
        for (size_t n = 0; n < 16384; n = more_room(n)) {
            if (!n || changed)
                begin_anew();
            unsigned status =
                blob(requests[i].method, requests[i].path, requests[i].query, span_str(requests[i].body), n);
            if (status != 503 && status != requests[i].want)
                fail_msg("request %zu with room for %zu: %u", i, n, status);
            if (status == requests[i].want) {
                done++;
                if (!strstr(answer.body, requests[i].shows))
                    fail_msg("request %zu with room for %zu: %s", i, n, answer.body);
            }
            starved += status == 503;
            changed = status != 503;
            if (done == 3)
                break;
        }
        assert_int_equal(done, 3);
    }
    print_message("%zu answers that memory is short\n", starved);
    assert_true(starved > sizeof requests / sizeof requests[0]);
    hand_back(blobs, own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(azure_routes),
        cmocka_unit_test(roost_routes),
        cmocka_unit_test(a_message_is_handed_out_whole),
        cmocka_unit_test(files_of_devices),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
