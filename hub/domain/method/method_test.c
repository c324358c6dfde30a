/* hub/domain/method/method_test.c - direct methods against the real bus and store: every outcome, and the
 * device that comes in time. The test is the session and the clock. */
#include "tests/fake/hub_fixture.h"

#include "hub/domain/method/method.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;
static struct bus_reply last; /* the newest request's */
static size_t asked;
static char name[METHOD_NAME_MAX + 1], payload[64];
static bool subscribed;
static uint32_t response_ms;

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
    assert_int_equal(m->kind, BUS_METHOD);
    if (!subscribed)
        return false;
    assert_int_equal(method_request_parse(m->bytes, &q), ERR_OK);
    asked++;
    last = m->reply;
    response_ms = q.response_ms;
    snprintf(name, sizeof name, "%.*s", (int)q.name.n, (const char *)q.name.p);
    snprintf(payload, sizeof payload, "%.*s", (int)q.payload.n, (const char *)q.payload.p);
    return true;
}

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    bus_register(fx.hub.bus, 0, &fx.mail, on_wake, NULL);
    bus_on_messages(fx.hub.bus, 0, on_message);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    asked = 0;
    subscribed = true;
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    fixture_fini(&fx);
    return 0;
}

struct call {
    struct method_call m; /* first */
    unsigned done;
    uint32_t timers[2];
};
static void on_arm(struct method_call *m, enum method_timer which, uint32_t ms)
{
    ((struct call *)(void *)m)->timers[which] = ms;
}
static void on_done(struct method_call *m)
{
    ((struct call *)(void *)m)->done++;
}
static struct call c;
static void call(const char *device, uint32_t connect_ms)
{
    c = (struct call){ .m = { .hub = &fx.hub,
                              .home = &fx.mail,
                              .device = span_str(device),
                              .name = SPAN("reboot"),
                              .payload = SPAN("{\"delay\":5}"),
                              .connect_ms = connect_ms,
                              .response_ms = 30000,
                              .arm = on_arm,
                              .done = on_done } };
    method_start(&c.m);
    assert_int_equal(c.done, 0);
}
#define UNTIL(cond)                                                                                          \
    do {                                                                                                     \
        for (int until_i = 0; !(cond); until_i++) {                                                          \
            assert_true(until_i < 1000);                                                                     \
            fixture_pump(&fx, 20);                                                                           \
        }                                                                                                    \
    } while (0)
static void nothing_more(void)
{
    for (int i = 0; i < 4; i++)
        fixture_pump(&fx, 0);
}
static void ends(enum method_why why)
{
    UNTIL(c.done);
    nothing_more();
    assert_int_equal(c.done, 1);
    assert_int_equal(c.m.why, why);
    assert_int_equal(c.timers[0] + c.timers[1], 0);
}
static void attach(const char *id, uint32_t slot)
{
    assert_int_equal(bus_attach(fx.hub.bus, span_str(id), (struct bus_addr){ 0, 0, slot, 1 }), ERR_OK);
}
static void answer(int32_t status, struct span body)
{
    static uint8_t mem[METHOD_PAYLOAD_MAX + 64];
    struct wr w = { mem, sizeof mem, 0 };
    method_answer_encode(&w, status, body);
    bus_answer(fx.hub.bus, last, ERR_OK, wr_span(&w));
}

static void test_answered(void **state)
{
    (void)state;
    attach("d1", 1);
    call("d1", 0);
    UNTIL(asked);
    assert_string_equal(name, "reboot");
    assert_string_equal(payload, "{\"delay\":5}");
    assert_int_equal(response_ms, 30000);
    assert_int_equal(c.timers[METHOD_TIMER_RESPONSE], 30000);
    assert_int_equal(c.timers[METHOD_TIMER_CONNECT], 0);
    answer(-7, SPAN("{\"ok\":true}"));
    ends(METHOD_ANSWERED);
    assert_int_equal(c.m.status, -7);
    assert_true(span_eq(c.m.body, SPAN("{\"ok\":true}")));
    method_fini(&c.m);
    assert_int_equal(atomic_load(&fx.metrics.methods_called_total), 1);
    assert_int_equal(atomic_load(&fx.metrics.methods_answered_total), 1);
}

static void test_no_payload(void **state)
{
    static const char *const texts[] = { "", "null" };
    (void)state;
    attach("d1", 1);
    for (int i = 0; i < 4; i++) {
        fx.hub.settings.method_null_empty = i >= 2;
        asked = 0;
        c = (struct call){ .m = { .hub = &fx.hub,
                                  .home = &fx.mail,
                                  .device = SPAN("d1"),
                                  .name = SPAN("x"),
                                  .payload = span_str(texts[i % 2]),
                                  .response_ms = 5000,
                                  .arm = on_arm,
                                  .done = on_done } };
        method_start(&c.m);
        UNTIL(asked);
        assert_string_equal(payload, i < 2 ? "null" : "");
        answer(200, SPAN_NONE);
        ends(METHOD_ANSWERED);
        assert_int_equal(c.m.body.n, 0);
        method_fini(&c.m);
    }
}

static void test_unknown_and_offline(void **state)
{
    (void)state;
    call("d2", 0);
    ends(METHOD_UNKNOWN);
    method_fini(&c.m);
    call("d2", 60000); /* nobody waits for what does not exist */
    ends(METHOD_UNKNOWN);
    method_fini(&c.m);
    call("d1", 0);
    ends(METHOD_OFFLINE);
    method_fini(&c.m);
    attach("d1", 1);
    subscribed = false; /* connected alone is not enough */
    call("d1", 0);
    ends(METHOD_OFFLINE);
    method_fini(&c.m);
    assert_int_equal(atomic_load(&fx.metrics.methods_offline_total), 2);
}

static enum err put_module(struct store_tx *tx, void *ctx)
{
    struct module_row r = { .device = SPAN("d1"), .id = SPAN("m1"), .generation = SPAN("1") };
    (void)ctx;
    return tx_module_put(tx, &r, 0, NULL);
}
static void test_modules(void **state)
{
    (void)state;
    assert_int_equal(fixture_tx(&fx, put_module, NULL), ERR_OK);
    attach("d1", 1);
    for (int i = 0; i < 3; i++) {
        asked = 0;
        c = (struct call){ .m = { .hub = &fx.hub,
                                  .home = &fx.mail,
                                  .device = SPAN("d1"),
                                  .module = i == 0 ? SPAN("m2") : SPAN("m1"),
                                  .name = SPAN("x"),
                                  .response_ms = 5000,
                                  .arm = on_arm,
                                  .done = on_done } };
        if (i == 2)
            attach("d1/m1", 2);
        method_start(&c.m);
        if (i < 2) {
            ends(i == 0 ? METHOD_UNKNOWN : METHOD_OFFLINE);
            assert_int_equal(asked, 0); /* its device is somebody else */
        } else {
            UNTIL(asked);
            answer(200, SPAN_NONE);
            ends(METHOD_ANSWERED);
        }
        method_fini(&c.m);
    }
}

static void test_it_comes_in_time(void **state)
{
    (void)state;
    call("d1", 20000);
    UNTIL(c.timers[METHOD_TIMER_CONNECT] == 20000);
    nothing_more();
    assert_int_equal(asked + c.done, 0);
    subscribed = false;
    attach("d1", 1);
    bus_announce(fx.hub.bus, SPAN("d1")); /* told too early: it goes on waiting */
    nothing_more();
    assert_int_equal(asked + c.done, 0);
    subscribed = true;
    bus_announce(fx.hub.bus, SPAN("d1"));
    bus_announce(fx.hub.bus, SPAN("d1"));
    UNTIL(asked);
    assert_int_equal(c.timers[METHOD_TIMER_RESPONSE], 30000);
    method_on_timer(&c.m, METHOD_TIMER_CONNECT); /* it is there already: that time does not count any more */
    nothing_more();
    assert_int_equal(c.done, 0);
    bus_announce(fx.hub.bus, SPAN("d1"));
    nothing_more();
    assert_int_equal(asked, 1); /* delivered at most once */
    answer(200, SPAN("1"));
    ends(METHOD_ANSWERED);
    method_fini(&c.m);
}

static void test_it_does_not_come(void **state)
{
    (void)state;
    call("d1", 20000);
    UNTIL(c.timers[METHOD_TIMER_CONNECT] == 20000);
    nothing_more();
    method_on_timer(&c.m, METHOD_TIMER_CONNECT);
    ends(METHOD_OFFLINE);
    method_fini(&c.m);
    call("d1", 20000); /* and it comes, but takes no calls until the time is over */
    UNTIL(c.timers[METHOD_TIMER_CONNECT] == 20000);
    nothing_more();
    subscribed = false;
    attach("d1", 1);
    bus_announce(fx.hub.bus, SPAN("d1"));
    for (int i = 0; i < 3 && !c.m.calling; i++)
        fixture_pump(&fx, 0);
    method_on_timer(&c.m, METHOD_TIMER_CONNECT);
    ends(METHOD_OFFLINE);
    method_fini(&c.m);
}

static void test_no_answer(void **state)
{
    (void)state;
    attach("d1", 1);
    call("d1", 0);
    UNTIL(asked);
    method_on_timer(&c.m, METHOD_TIMER_RESPONSE);
    ends(METHOD_TIMEOUT);
    method_on_timer(&c.m, METHOD_TIMER_RESPONSE); /* over is over */
    answer(200, SPAN("late"));
    nothing_more();
    assert_int_equal(c.done, 1);
    method_fini(&c.m);
}

static void test_errors_of_the_session(void **state)
{
    static const struct {
        enum err err;
        enum method_why why;
    } rows[] = { { ERR_CLOSED, METHOD_CLOSED },
                 { ERR_LIMIT, METHOD_BUSY },
                 { ERR_PROTO, METHOD_TOO_LARGE },
                 { ERR_NOMEM, METHOD_FAILED } };
    (void)state;
    attach("d1", 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        asked = 0;
        call("d1", 0);
        UNTIL(asked);
        bus_answer(fx.hub.bus, last, rows[i].err, SPAN_NONE);
        ends(rows[i].why);
        method_fini(&c.m);
    }
    asked = 0;
    call("d1", 0);
    UNTIL(asked);
    bus_answer(fx.hub.bus, last, ERR_OK, SPAN("abc")); /* no answer of ours */
    ends(METHOD_TOO_LARGE);
    method_fini(&c.m);
}

static void test_the_hub_stops(void **state)
{
    (void)state;
    call("d1", 20000);
    UNTIL(c.timers[METHOD_TIMER_CONNECT] == 20000);
    nothing_more();
    bus_stop(fx.hub.bus);
    ends(METHOD_FAILED);
    assert_int_equal(c.m.err, ERR_STOPPED);
    method_fini(&c.m);
    call("d1", 0);
    ends(METHOD_FAILED);
    method_fini(&c.m);
}

static void test_an_id_longer_than_any(void **state)
{
    static char long_id[400];
    (void)state;
    memset(long_id, 'a', sizeof long_id - 1);
    call(long_id, 0);
    ends(METHOD_UNKNOWN);
    method_fini(&c.m);
}

/* ---- text -------------------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    static const char *const good[] = { "a", "getLogs", "component*command", "x.y-z_1", "a'b!c~|^`%&" };
    static const char *const bad[] = { "",   "a b", "a/b", "a$",  "a(",  "a)",   "a<",      "a>", "a@",
                                       "a,", "a;",  "a:",  "a\\", "a\"", "a[",   "a]",      "a?", "a=",
                                       "a{", "a}",  "a\t", "a+",  "a#",  "\x7f", "\xc3\xa4" };
    char text[METHOD_NAME_MAX + 2];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(method_name_ok(span_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(method_name_ok(span_str(bad[i])));
    memset(text, 'a', sizeof text);
    assert_true(method_name_ok(span_of(text, METHOD_NAME_MAX)));
    assert_false(method_name_ok(span_of(text, METHOD_NAME_MAX + 1)));
    assert_false(method_name_ok(span_of("a\0b", 3)));
}

static void test_every_cut_of_a_request(void **state)
{
    static const uint8_t wire[] = { 0x88, 0x13, 0, 0, 4, 'o', 'p', 'e', 'n', '{', '}' };
    struct method_request q;
    (void)state;
    for (size_t n = 0; n <= sizeof wire; n++) {
        enum err e = method_request_parse(span_of(wire, n), &q);
        assert_int_equal(e, n < 9 ? ERR_PROTO : ERR_OK);
        if (!e) {
            assert_int_equal(q.response_ms, 5000);
            assert_true(span_eq(q.name, SPAN("open")));
            assert_int_equal(q.payload.n, n - 9);
        }
    }
}

static void test_bodies_as_json(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = { { "", "null" },
                 { " \r\n\t", "null" },
                 { "{\"a\":1.0}", "{\"a\":1.0}" },
                 { " [1, 2]", "[1, 2]" },
                 { "123456789012345678901234567890", "123456789012345678901234567890" },
                 { "\"x\\u0000y\"", "\"x\\u0000y\"" },
                 { "null", "null" },
                 { "hello \"you\"", "\"hello \\\"you\\\"\"" },
                 { "{\"a\":", "\"{\\\"a\\\":\"" },
                 { "{} {}", "\"{} {}\"" },
                 { "\xff\xfe", "\"//4=\"" } };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct arena a;
        arena_init(&a, 65536);
        struct span out = method_body_json(&a, span_str(rows[i].in));
        if (!span_eq(out, span_str(rows[i].out)))
            fail_msg("%s became %.*s", rows[i].in, (int)out.n, (const char *)out.p);
        arena_fini(&a);
    }
}

static void test_member_texts(void **state)
{
    static const struct {
        const char *object, *out;
    } rows[] = { { "{\"payload\":{\"a\":[1,{\"payload\":2}]},\"x\":1}", "{\"a\":[1,{\"payload\":2}]}" },
                 { "{ \"x\" : \"pay\\\"load\\\\\" , \"payload\" : 1.10 }", "1.10" },
                 { "{\"payload\":null}", "null" },
                 { "{\"payload\":\"}],\\\"\"}", "\"}],\\\"\"" },
                 { "{\"a\":[[]],\"b\":{},\"payload\":[ ]\n}", "[ ]" },
                 { "{\"payload\" : true\t}", "true" },
                 { "{\"x\":\"payload\"}", NULL },
                 { "{\"x\":{\"payload\":1}}", NULL },
                 { "{}", NULL },
                 { "[]", NULL } };
    struct span out;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool found = method_member_text(span_str(rows[i].object), "payload", &out);
        assert_int_equal(found, rows[i].out != NULL);
        if (found)
            assert_true(span_eq(out, span_str(rows[i].out)));
        for (size_t n = 0; n < strlen(rows[i].object); n++) { /* cut JSON is no JSON, but does no harm */
            char *cut = malloc(n + 1);
            assert_non_null(cut);
            memcpy(cut, rows[i].object, n);
            (void)method_member_text(span_of(cut, n), "payload", &out);
            free(cut);
        }
    }
}

static void test_calls_as_libraries_read_them(void **state)
{
    static const struct {
        const char *body, *out;
    } rows[] = { { "{\"payload\":18446744073709551615,\"x\":1}",
                   "{\"payload\":null                ,\"x\":1}" },
                 { "{\"payload\":\"\\u0000\"}", "{\"payload\":null    }" },
                 { "{\"payload\":[1, \n2],\n\"x\":}", "{\"payload\":null\n  ,\n\"x\":}" },
                 { "{\"payload\":5}", "{\"payload\":5}" },
                 { "{\"payload\":nothing}", "{\"payload\":nothing}" },
                 { "{\"payload\":[1,2}", "{\"payload\":[1,2}" },
                 { "{\"payload\":{\"a\":1},\"payload\":2}", "{\"payload\":null   ,\"payload\":2}" },
                 { "[]", "[]" },
                 { "", "" } };
    struct arena a;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t n = 0; n <= strlen(rows[i].body); n++) {
            arena_init(&a, 4096);
            struct span out = method_call_json(&a, span_of(rows[i].body, n));
            assert_int_equal(out.n, n);
            if (n == strlen(rows[i].body) && !span_eq(out, span_str(rows[i].out)))
                fail_msg("%s: %.*s", rows[i].body, (int)out.n, (const char *)out.p);
            arena_fini(&a);
        }
    }
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_answered),
                                        T(test_no_payload),
                                        T(test_unknown_and_offline),
                                        T(test_modules),
                                        T(test_it_comes_in_time),
                                        T(test_it_does_not_come),
                                        T(test_no_answer),
                                        T(test_errors_of_the_session),
                                        T(test_the_hub_stops),
                                        T(test_an_id_longer_than_any),
                                        cmocka_unit_test(test_names),
                                        cmocka_unit_test(test_every_cut_of_a_request),
                                        cmocka_unit_test(test_bodies_as_json),
                                        cmocka_unit_test(test_member_texts),
                                        cmocka_unit_test(test_calls_as_libraries_read_them) };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
