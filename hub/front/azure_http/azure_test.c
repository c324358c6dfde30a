/* hub/front/azure_http/azure_test.c - what the handlers of this front share: errors in their three forms,
 * api-version, etags, pages, who is let in. */
#include "tests/fake/http_fake.h"
#include "tests/fake/hub_fixture.h"

#include "hub/domain/throttle.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/azure_http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;
static struct azure_http *front;
static struct worker *worker;
static struct http_fake answer;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    assert_int_equal(worker_new(&worker, 0), ERR_OK);
    assert_int_equal(azure_http_new(&front, &fx.hub, NULL), ERR_OK);
    fixture_policy(&fx, "owner", 15);
    fixture_policy(&fx, "registry", ACCESS_REGISTRY_READ | ACCESS_REGISTRY_WRITE);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    fixture_device(&fx, "d11", DEVICE_ENABLED);
    fixture_device(&fx, "off", DEVICE_DISABLED);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    http_fake_free(&answer);
    fixture_fini(&fx);
    azure_http_free(front);
    worker_free(worker);
    return 0;
}

static void ask(http_handler *handler, const struct http_route *route, const char *query, struct span token,
                const char *param)
{
    http_fake_free(&answer);
    answer = (struct http_fake){ .r = { .worker = worker,
                                        .ctx = front,
                                        .route = route,
                                        .method = HTTP_GET_,
                                        .path = SPAN("/x"),
                                        .query = span_str(query),
                                        .params = { span_str(param) } } };
    answer.fields[0].name = "Authorization";
    answer.fields[0].value = token;
    handler(&answer.r);
    while (!answer.status)
        worker_turn(worker, 10000);
}

/* ---- a handler that fails in the way it is told ------------------------------------------------------ */

static enum azure_error wanted;
static enum azure_envelope wanted_envelope;
static struct span wanted_info;
static struct azure_page page;

static void start_fail(struct job *j)
{
    j->envelope = (uint8_t)wanted_envelope;
    j->info = wanted_info;
    (void)azure_fail(j, wanted, "no \"%s\" here", "d\xc3\xa9");
    job_end(j);
}
static void failing(struct http_req *r)
{
    static const struct job_call call = { .who = JOB_PUBLIC, .start = start_fail };
    job_start(r, &call);
}

static const char *text_of(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    assert_non_null(s);
    return s;
}

static json_t *body(void)
{
    json_t *o = json_loadb(answer.body, answer.body_len, 0, NULL);
    assert_non_null(o);
    return o;
}

static void each_error_has_its_name_and_status_in_three_forms(void **state)
{
    static const enum azure_error errors[] = {
#define X(name, number) AZ_##name,
        AZURE_ERRORS(X)
#undef X
    };
    (void)state;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        char want[160];
        enum azure_error found;
        wanted = errors[i];
        assert_true(azure_error_find(span_str(azure_error_name(wanted)), &found) && found == wanted);

        wanted_envelope = AZURE_PLAIN;
        ask(failing, NULL, "api-version=2021-04-12", SPAN_NONE, "");
        assert_int_equal(answer.status, (unsigned)wanted / 1000);
        snprintf(want, sizeof want, "iothub-errorcode: %s\r\n", azure_error_name(wanted));
        assert_non_null(strstr(answer.answer_fields, want));
        json_t *o = body();
        snprintf(want, sizeof want, "ErrorCode:%s;no \"d\xc3\xa9\" here", azure_error_name(wanted));
        assert_string_equal(text_of(o, "Message"), want);
        assert_memory_equal(text_of(o, "ExceptionMessage"), "Tracking ID:", 12);
        assert_non_null(strstr(text_of(o, "ExceptionMessage"), "-G:0-TimeStamp:"));
        json_decref(o);

        wanted_envelope = AZURE_TYPED;
        ask(failing, NULL, "api-version=2021-04-12", SPAN_NONE, "");
        o = body();
        assert_int_equal(json_integer_value(json_object_get(o, "errorCode")), wanted);
        assert_string_equal(text_of(o, "message"), "no \"d\xc3\xa9\" here");
        assert_int_equal(strlen(text_of(o, "timestampUtc")), 28);
        json_decref(o);

        wanted_envelope = AZURE_NESTED;
        wanted_info = SPAN("{\"timeout\":\"00:00:00\"}");
        ask(failing, NULL, "api-version=2021-04-12", SPAN_NONE, "");
        wanted_info = SPAN_NONE;
        o = body();
        assert_string_equal(text_of(o, "ExceptionMessage"), "");
        json_t *in = json_loads(text_of(o, "Message"), 0, NULL);
        assert_non_null(in);
        assert_int_equal(json_integer_value(json_object_get(in, "errorCode")), wanted);
        assert_string_equal(text_of(json_object_get(in, "info"), "timeout"), "00:00:00");
        json_decref(in);
        json_decref(o);
    }
}

static void errors_of_the_http_layer_have_the_same_form(void **state)
{
    static const struct {
        unsigned status;
        const char *name;
    } rows[] = { { 404, "GenericNotFound" },   { 405, "GenericMethodNotAllowed" },
                 { 408, "RequestTimedOut" },   { 413, "GenericRequestEntityTooLarge" },
                 { 400, "GenericBadRequest" }, { 503, "GenericServiceUnavailable" },
                 { 418, "GenericBadRequest" }, { 599, "GenericServerError" } };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char want[100];
        http_fake_free(&answer);
        answer = (struct http_fake){ .r = { .worker = worker, .ctx = front } };
        azure_on_error(&answer.r, rows[i].status, "whatever", "It is so.");
        assert_int_equal(answer.status, rows[i].status);
        snprintf(want, sizeof want, "iothub-errorcode: %s\r\n", rows[i].name);
        assert_non_null(strstr(answer.answer_fields, want));
        json_t *o = body();
        snprintf(want, sizeof want, "ErrorCode:%s;It is so.", rows[i].name);
        assert_string_equal(text_of(o, "Message"), want);
        json_decref(o);
    }
}

/* ---- api-version, who is let in ---------------------------------------------------------------------- */

static void start_ok(struct job *j)
{
    if (azure_page(j, &page))
        azure_answer_page(j, "Raw", page.continuation);
    azure_answer_etag(j, SPAN("AAAAAAAAAAE="));
    job_end(j);
}
static void open_get(struct http_req *r)
{
    static const struct job_call call = { .who = JOB_PUBLIC, .start = start_ok };
    job_start(r, &call);
}
static void policy_get(struct http_req *r)
{
    static const struct job_call call = { .who = JOB_POLICY,
                                          .any_of = ACCESS_REGISTRY_READ,
                                          .start = start_ok };
    job_start(r, &call);
}
static void device_get(struct http_req *r)
{
    static const struct job_call call = { .who = JOB_PATH, .start = start_ok };
    job_start(r, &call);
}
static void owner_get(struct http_req *r)
{
    static const struct job_call call = { .who = JOB_POLICY_OR_OWNER,
                                          .any_of = ACCESS_REGISTRY_READ,
                                          .start = start_ok };
    job_start(r, &call);
}

static void api_versions(void **state)
{
    static const char *const good[] = {
        "2016-02-03", "2016-11-14", "2019-10-01",         "2020-09-30",
        "2021-04-12", "2024-03-31", "2020-05-31-preview", "2018-06-30-Preview"
    };
    static const char *const bad[] = {
        "",           "2016-02-02", "2015-12-31", "2021-4-12",       "2021-04-12-", "2021-13-01",
        "2021-04-32", "2021-00-10", "20210412",   "2021-04-12-beta", "x021-04-12",  "2021-04-123"
    };
    char query[80];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        snprintf(query, sizeof query, "a=b&API-Version=%s", good[i]);
        ask(open_get, NULL, query, SPAN_NONE, "");
        assert_int_equal(answer.status, 204);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(query, sizeof query, "api-version=%s&a=b", bad[i]);
        ask(open_get, NULL, query, SPAN_NONE, "");
        assert_int_equal(answer.status, 400);
        assert_non_null(strstr(answer.answer_fields, "iothub-errorcode: InvalidProtocolVersion\r\n"));
    }
    ask(open_get, NULL, "", SPAN_NONE, "");
    assert_int_equal(answer.status, 400);
    assert_int_equal(azure_version_parse(SPAN("2021-04-12")), 20210412);
}

static void who_is_let_in(void **state)
{
    static const struct http_route one = { HTTP_GET_, "/devices/{}", NULL, 0 },
                                   all = { HTTP_GET_, "/devices", NULL, 0 };
    static const struct {
        http_handler *handler;
        const struct http_route *route;
        const char *param, *resource, *policy;
        unsigned status;
    } rows[] = {
        { policy_get, &one, "d1", "hub.example.net", "registry", 204 },
        { policy_get, &one, "d1", "hub.example.net/devices", "registry", 204 },
        { policy_get, &one, "d1", "hub.example.net/devices/d1", "registry", 204 },
        { policy_get, &one, "d11", "hub.example.net/devices/d1", "registry", 401 },
        { policy_get, &one, "D1", "hub.example.net/devices/d1", "registry", 401 },
        { policy_get, &all, "", "hub.example.net/devices/d1", "registry", 401 },
        { policy_get, &one, "d1", "other.example.net", "registry", 401 },
        { policy_get, &one, "d1", "hub.example.net", "nobody", 401 },
        { policy_get, &one, "d1", "hub.example.net/devices/d1", "", 401 },
        { device_get, &one, "d1", "hub.example.net/devices/d1", "", 204 },
        { device_get, &one, "d11", "hub.example.net/devices/d1", "", 401 },
        { device_get, &one, "d1", "hub.example.net", "", 401 },
        { device_get, &one, "off", "hub.example.net/devices/off", "", 401 },
        { device_get, &one, "d1", "hub.example.net", "owner", 204 },
        { device_get, &one, "d1", "hub.example.net", "registry", 401 },
        { device_get, &one, "none", "hub.example.net", "owner", 401 },
        { owner_get, &one, "d1", "hub.example.net", "registry", 204 },
        { owner_get, &one, "d1", "hub.example.net/devices/d1", "", 204 },
        { owner_get, &one, "d11", "hub.example.net/devices/d1", "", 401 },
    };
    char buf[SAS_TOKEN_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct span token = fixture_token(buf, rows[i].resource, fixture_key2, 3600, rows[i].policy);
        ask(rows[i].handler, rows[i].route, "api-version=2021-04-12", token, rows[i].param);
        if (answer.status != rows[i].status)
            fail_msg("row %zu: %u %s", i, answer.status, answer.body);
        if (answer.status == 401)
            assert_non_null(strstr(answer.answer_fields, "iothub-errorcode: IotHubUnauthorizedAccess\r\n"));
        assert_non_null(strstr(answer.answer_fields, "x-ms-request-id: "));
    }
    ask(policy_get, &one, "api-version=2021-04-12", SPAN_NONE, "d1");
    assert_int_equal(answer.status, 401);
}

/* ---- parts ------------------------------------------------------------------------------------------- */

static void if_match_is_read_in_all_its_spellings(void **state)
{
    static const struct {
        const char *text;
        enum azure_match_kind kind;
        const char *etag;
    } rows[] = { { "", AZURE_MATCH_NONE, "" },         { "*", AZURE_MATCH_ANY, "" },
                 { "\"*\"", AZURE_MATCH_ANY, "" },     { "\"Mg==\"", AZURE_MATCH_ETAG, "Mg==" },
                 { "Mg==", AZURE_MATCH_ETAG, "Mg==" }, { "W/\"Mg==\"", AZURE_MATCH_ETAG, "Mg==" },
                 { " \"a\" ", AZURE_MATCH_ETAG, "a" }, { "\"", AZURE_MATCH_ETAG, "\"" },
                 { "\"\"", AZURE_MATCH_NONE, "" },     { "\"\"a\"\"", AZURE_MATCH_ETAG, "\"a\"" } };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct azure_match m = azure_match_parse(span_str(rows[i].text));
        assert_int_equal(m.kind, rows[i].kind);
        assert_true(span_eq(m.etag, span_str(rows[i].etag)));
        assert_int_equal(azure_match_holds(&m, SPAN("Mg==")),
                         m.kind != AZURE_MATCH_ETAG || !strcmp(rows[i].etag, "Mg=="));
    }
}

static void etags_of_counters(void **state)
{
    char out[AZURE_ETAG_MAX];
    (void)state;
    assert_true(span_eq(azure_etag_binary(1, out), SPAN("AAAAAAAAAAE=")));
    assert_true(span_eq(azure_etag_decimal(1, out), SPAN("MQ==")));
    assert_true(span_eq(azure_etag_decimal(801232426, out), SPAN("ODAxMjMyNDI2")));
    assert_int_equal(azure_etag_decimal(UINT64_MAX, out).n, 28);
}

static void pages(void **state)
{
    static const struct {
        const char *max;
        unsigned status;
        uint32_t want;
    } rows[] = { { "1", 204, 1 },       { "1000", 204, 1000 },
                 { "1001", 204, 1000 }, { "99999999999999999999", 204, 1000 },
                 { "0", 400, 0 },       { "-1", 400, 0 },
                 { "x", 400, 0 },       { "", 204, 1000 } };
    static uint8_t many[AZURE_CONTINUATION_MAX + 1];
    (void)state;
    memset(many, 'a', sizeof many);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] + 2; i++) {
        size_t k = i < sizeof rows / sizeof rows[0] ? i : 0;
        struct span c =
            i == k ? SPAN("next") : span_of(many, sizeof many - (i - sizeof rows / sizeof rows[0]));
        http_fake_free(&answer);
        answer = (struct http_fake){ .r = { .worker = worker,
                                            .ctx = front,
                                            .path = SPAN("/x"),
                                            .query = SPAN("api-version=2021-04-12") } };
        answer.fields[0].name = "X-MS-Max-Item-Count";
        answer.fields[0].value = span_str(rows[k].max);
        answer.fields[1].name = "x-ms-continuation";
        answer.fields[1].value = c;
        open_get(&answer.r);
        assert_int_equal(answer.status, c.n > AZURE_CONTINUATION_MAX ? 400 : rows[k].status);
        if (answer.status == 204 && i == k) {
            assert_int_equal(page.max, rows[k].want);
            assert_non_null(strstr(answer.answer_fields, "x-ms-item-type: Raw\r\nx-ms-continuation: next\r\n"
                                                         "ETag: \"AAAAAAAAAAE=\"\r\n"));
        }
    }
}

static void start_split(struct job *j)
{
    job_field(j, "iothub-app-x", "%s", "a\r\nX-Forged: 1\x7f");
    job_end(j);
}
static void split_get(struct http_req *r)
{
    static const struct job_call call = { .who = JOB_PUBLIC, .start = start_split };
    job_start(r, &call);
}
static void a_stored_text_makes_no_header_of_its_own(void **state)
{
    (void)state;
    ask(split_get, NULL, "api-version=2021-04-12", SPAN_NONE, "");
    assert_non_null(strstr(answer.answer_fields, "iothub-app-x: a??X-Forged: 1?\r\n"));
}

/* ---- rates --------------------------------------------------------------------------------------------- */

static void start_going_on(struct job *j)
{
    static const struct job_call then = { .who = JOB_POLICY, .start = start_ok };
    job_go_on(j, &then);
}
static void going_on_get(struct http_req *r)
{
    static const struct job_call call = { .who = JOB_POLICY,
                                          .any_of = ACCESS_SERVICE_CONNECT,
                                          .start = start_going_on };
    job_start(r, &call);
}

static void a_request_that_goes_on_counts_once(void **state)
{
    static const struct http_route route = { HTTP_GET_, "/twins/{}", NULL, 0 };
    const struct throttle_config c = { .per_minute[THROTTLE_TWIN_READS] = 1, .burst_s = 180 };
    char token[SAS_TOKEN_MAX];
    struct span bad, owner = fixture_token(token, "hub.example.net", fixture_key1, 3600, "owner");
    (void)state;
    assert_int_equal(throttle_new(&fx.hub.throttle, &c, &bad), ERR_OK);
    for (int i = 0; i < 3; i++) {
        ask(going_on_get, &route, "api-version=2021-04-12", owner, "d1");
        assert_int_equal(answer.status, 204);
    }
    ask(going_on_get, &route, "api-version=2021-04-12", owner, "d1");
    assert_int_equal(answer.status, 429);
    throttle_free(fx.hub.throttle);
    fx.hub.throttle = NULL;
}

/* ---- steps ------------------------------------------------------------------------------------------- */

static unsigned steps_run;
static void (*take_step)(struct job *j);

static enum err count_tx(struct job *j, struct store_tx *tx)
{
    (void)j;
    (void)tx;
    steps_run++;
    return ERR_OK;
}
static enum err count_pool(struct job *j)
{
    (void)j;
    steps_run++;
    return ERR_OK;
}
static void step_write(struct job *j)
{
    job_write(j, count_tx, NULL);
}
static void step_read(struct job *j)
{
    job_read(j, count_tx, NULL);
}
static void step_scan(struct job *j)
{
    job_scan(j, count_tx, NULL);
}
static void step_pool(struct job *j)
{
    job_pool(j, count_pool, NULL);
}
static void start_refused(struct job *j)
{
    assert_true(job_fail_err(j, ERR_OK));
    assert_null(j->code);
    assert_false(azure_fail(j, AZ_PreconditionFailed, "first"));
    assert_false(job_fail_err(j, ERR_FULL));
    take_step(j);
}
static void refused_get(struct http_req *r)
{
    static const struct job_call call = { .who = JOB_PUBLIC, .start = start_refused };
    job_start(r, &call);
}

static void a_job_with_an_error_takes_no_step(void **state)
{
    static void (*const steps[])(struct job * j) = { step_write, step_read, step_scan, step_pool };
    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        take_step = steps[i];
        ask(refused_get, NULL, "api-version=2021-04-12", SPAN_NONE, "");
        assert_int_equal(answer.status, 412);
        json_t *o = body();
        assert_string_equal(text_of(o, "Message"), "ErrorCode:PreconditionFailed;first");
        json_decref(o);
        assert_null(strstr(answer.answer_fields, "Retry-After"));
        assert_int_equal(steps_run, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_error_has_its_name_and_status_in_three_forms),
        cmocka_unit_test(errors_of_the_http_layer_have_the_same_form),
        cmocka_unit_test(api_versions),
        cmocka_unit_test(who_is_let_in),
        cmocka_unit_test(if_match_is_read_in_all_its_spellings),
        cmocka_unit_test(etags_of_counters),
        cmocka_unit_test(pages),
        cmocka_unit_test(a_stored_text_makes_no_header_of_its_own),
        cmocka_unit_test(a_request_that_goes_on_counts_once),
        cmocka_unit_test(a_job_with_an_error_takes_no_step),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
