/* hub/domain/message/message_test.c - telemetry records: round trip, every cut, what a reader must skip. */
#include "hub/domain/message/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static uint8_t mem[70000];

static struct span sample(struct wr *w)
{
    message_put_head(w, &(struct message_head){ MESSAGE_AUTH_HUB_SAS, MESSAGE_SOURCE_TELEMETRY, SPAN("d1"),
                                                SPAN("m1"), SPAN("gen"), SPAN("dtmi:a:b;1") });
    message_put_system(w, BAG_MESSAGE_ID, SPAN("id-1"));
    message_put_prop(w, &(struct message_prop){ SPAN("a b"), SPAN("c/d"), false });
    message_put_prop(w, &(struct message_prop){ SPAN("flag"), SPAN_NONE, true });
    message_put_system(w, BAG_CONTENT_TYPE, SPAN(""));
    message_put_prop(w, &(struct message_prop){ SPAN("empty"), SPAN(""), false });
    message_put_body(w, SPAN("{\"t\":1}"));
    return wr_span(w);
}

static void test_round_trip(void **state)
{
    struct wr w = { mem, sizeof mem, 0 };
    struct message m;
    struct message_prop p;
    (void)state;
    assert_int_equal(message_decode(sample(&w), &m), ERR_OK);
    assert_int_equal(m.auth, MESSAGE_AUTH_HUB_SAS);
    assert_true(span_eq(m.device, SPAN("d1")) && span_eq(m.module, SPAN("m1")));
    assert_true(span_eq(m.generation, SPAN("gen")) && span_eq(m.model, SPAN("dtmi:a:b;1")));
    assert_true(span_eq(m.system[BAG_MESSAGE_ID], SPAN("id-1")));
    assert_true(m.system[BAG_CONTENT_TYPE].p && m.system[BAG_CONTENT_TYPE].n == 0); /* there, and empty */
    assert_null(m.system[BAG_TO].p);
    assert_true(span_eq(m.body, SPAN("{\"t\":1}")));
    assert_true(message_prop_next(&m.props, &p));
    assert_true(span_eq(p.name, SPAN("a b")) && span_eq(p.value, SPAN("c/d")) && !p.null);
    assert_true(message_prop_next(&m.props, &p));
    assert_true(span_eq(p.name, SPAN("flag")) && p.null);
    assert_true(message_prop_next(&m.props, &p));
    assert_true(span_eq(p.name, SPAN("empty")) && p.value.n == 0 && !p.null);
    assert_false(message_prop_next(&m.props, &p));
}

static void test_measuring_equals_writing(void **state)
{
    struct wr measure = { 0 }, w = { mem, sizeof mem, 0 };
    (void)state;
    (void)sample(&measure);
    (void)sample(&w);
    assert_int_equal(measure.len, w.len);
}

/* Every cut before the body is refused; one inside it is a shorter body, which the stream's own length and
 * checksum exclude. */
static void test_every_cut(void **state)
{
    struct wr w = { mem, sizeof mem, 0 };
    struct span r = sample(&w);
    (void)state;
    for (size_t n = 0; n <= r.n; n++) {
        struct message m;
        enum err e = message_decode(span_of(r.p, n), &m);
        assert_int_equal(e, n < r.n - 7 ? ERR_PROTO : ERR_OK);
        assert_true(e || m.body.n == n - (r.n - 7));
    }
}

static void test_unknown_tags_are_skipped_and_versions_refused(void **state)
{
    static const uint8_t later[] = { 1, 0, 0, 1, 1, 'd', 99, 3, 'x', 'y', 'z', 65, 1, 'n', 0, 'B' };
    struct message m;
    struct message_prop p;
    (void)state;
    assert_int_equal(message_decode(span_of(later, sizeof later), &m), ERR_OK);
    assert_true(span_eq(m.body, SPAN("B")));
    assert_true(message_prop_next(&m.props, &p) && span_eq(p.name, SPAN("n")) && p.null);
    assert_false(message_prop_next(&m.props, &p));
    uint8_t other[sizeof later];
    memcpy(other, later, sizeof later);
    other[0] = 2;
    assert_int_equal(message_decode(span_of(other, sizeof other), &m), ERR_PROTO);
    static const uint8_t nobody[] = { 1, 0, 0, 0 }, varint[] = { 1, 0, 0, 1, 0xff, 0xff, 0xff, 1 },
                         prop[] = { 1, 0, 0, 1, 1, 'd', 64, 2, 9, 'x', 0 };
    assert_int_equal(message_decode(span_of(nobody, sizeof nobody), &m), ERR_PROTO);
    assert_int_equal(message_decode(span_of(varint, sizeof varint), &m), ERR_PROTO);
    assert_int_equal(message_decode(span_of(prop, sizeof prop), &m), ERR_PROTO); /* name past its field */
}

static void test_long_values_take_longer_lengths(void **state)
{
    static uint8_t big[65000];
    struct wr w = { mem, sizeof mem, 0 };
    struct message m;
    struct message_prop p;
    (void)state;
    memset(big, 'v', sizeof big);
    message_put_head(&w, &(struct message_head){ .device = SPAN("d") });
    message_put_prop(&w, &(struct message_prop){ span_of(big, 200), span_of(big, sizeof big), false });
    message_put_body(&w, SPAN(""));
    assert_true(wr_ok(&w));
    assert_int_equal(message_decode(wr_span(&w), &m), ERR_OK);
    assert_true(message_prop_next(&m.props, &p));
    assert_int_equal(p.name.n, 200);
    assert_int_equal(p.value.n, sizeof big);
    assert_int_equal(m.body.n, 0);
}

static void test_names(void **state)
{
    (void)state;
    assert_non_null(strstr(message_auth_method(MESSAGE_AUTH_DEVICE_SAS), "\"type\":\"sas\""));
    assert_string_equal(message_auth_method(200), "{}");
    assert_string_equal(message_source_name(MESSAGE_SOURCE_TELEMETRY), "Telemetry");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_measuring_equals_writing),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_unknown_tags_are_skipped_and_versions_refused),
        cmocka_unit_test(test_long_values_take_longer_lengths),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
