/* hub/front/http/job_memory_test.c - each route of both fronts that have jobs, with memory for so many bytes
 * of its arena, from none on: whichever piece is the first that is not there, the request is answered once,
 * not as a fault of the hub, and nothing is read of a job that has ended. */
#define FIXTURE_STREAM
#include "tests/fake/http_fake.h"
#include "tests/fake/hub_fixture.h"

#include "hub/front/azure_http/azure_http.h"
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
static void take_over(void *front)
{
    struct http_front *f = front; /* each begins with it */
    ops = *f->ops;
    begin_of_front = ops.begin;
    ops.begin = begin;
    f->ops = &ops;
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
    assert_int_equal(worker_new(&worker, 0), ERR_OK);
    assert_int_equal(pool_new(&pool, 1), ERR_OK);
    assert_int_equal(azure_http_new(&azure, &fx.hub, pool), ERR_OK);
    assert_int_equal(roost_http_new(&roost, &fx.hub, pool, NULL), ERR_OK);
    fixture_policy(&fx, "owner", 15);
    token_span = fixture_token(token, "hub.example.net", fixture_key1, 3600, "owner");
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
    worker_free(worker);
    return 0;
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
    room = n;
    was_short = true;
    route->handler(&answer.r);
    while (!answer.status)
        worker_turn(worker, 10000);
    return answer.status;
}

/* Returns how many answers said that memory is short. */
static size_t starve(const struct http_route *route, unsigned method, void *front, struct span body)
{
    size_t starved = 0;
    (void)fixture_tx(&fx, fixture_delete_device, (void *)(uintptr_t) "d1"); /* what was there may have gone */
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    for (size_t n = 0; n < 65536; n += n < FINE_MAX ? STEP : n / 8 / STEP * STEP) {
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
    take_over(front);
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

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(azure_routes), cmocka_unit_test(roost_routes) };
    return cmocka_run_group_tests(tests, setup, teardown);
}
