/* core/trust/report_test.c - reports: fields, defaults, limits, names. */
#include "core/trust/sample_test.h"

static void test_every_field_comes_back(void **state)
{
    (void)state;
    struct report r = sample_report(), got;
    uint8_t buf[REPORT_MAX];
    struct wr w = { buf, sizeof buf, 0 };
    report_encode(&w, &r);
    assert_true(w.len <= 256);
    assert_int_equal(report_decode(wr_span(&w), &got), ERR_OK);
    assert_true(span_eq(got.product, r.product));
    assert_int_equal(got.rssi_dbm, -67);
    got.product = r.product; /* the same text elsewhere */
    assert_memory_equal(&got, &r, sizeof r);
}

static void test_defaults_are_left_out_and_come_back(void **state)
{
    (void)state;
    struct report r = { .report_seq = 1, .battery_pct = 255, .product = SPAN("p") }, got;
    uint8_t buf[REPORT_MAX];
    struct wr w = { buf, sizeof buf, 0 };
    report_encode(&w, &r);
    assert_int_equal(w.len, 3 + 6 + 10 + 3 + 5);
    memset(&got, 0xff, sizeof got);
    assert_int_equal(report_decode(wr_span(&w), &got), ERR_OK);
    got.product = r.product;
    assert_memory_equal(&got, &r, sizeof r);
    r.battery_pct = 0; /* empty is not unknown */
    w.len = 0;
    report_encode(&w, &r);
    assert_int_equal(report_decode(wr_span(&w), &got), ERR_OK);
    assert_int_equal(got.battery_pct, 0);
}

static void test_limits(void **state)
{
    (void)state;
    struct report r = sample_report(), got;
    uint8_t buf[REPORT_MAX + 1], pad[REPORT_MAX] = { 0 };
    struct wr w = { buf, sizeof buf, 0 };
    report_encode(&w, &r);
    size_t fill = REPORT_MAX - w.len - 4;
    assert_true(fill >= 255);
    tlv_put(&w, 0x7e, span_of(pad, fill));
    assert_int_equal(w.len, REPORT_MAX);
    assert_int_equal(report_decode(wr_span(&w), &got), ERR_OK);
    wr_u8(&w, 0);
    assert_int_equal(report_decode(wr_span(&w), &got), ERR_LIMIT);
}

static void test_values(void **state)
{
    (void)state;
    struct report r = sample_report(), got;
    uint8_t buf[REPORT_MAX];
    for (unsigned s = 0; s < 256; s++) {
        struct wr w = { buf, sizeof buf, 0 };
        r.state = (uint8_t)s;
        report_encode(&w, &r);
        assert_int_equal(report_decode(wr_span(&w), &got), s < DEVICE_STATES ? ERR_OK : ERR_PROTO);
    }
    r = sample_report();
    r.reason = 999; /* a newer agent may know more reasons */
    struct wr w = { buf, sizeof buf, 0 };
    report_encode(&w, &r);
    assert_int_equal(report_decode(wr_span(&w), &got), ERR_OK);
    assert_int_equal(got.reason, 999);
    r.product = SPAN("a\"b");
    w.len = 0;
    report_encode(&w, &r);
    assert_int_equal(report_decode(wr_span(&w), &got), ERR_PROTO);
}

static void test_names_are_distinct(void **state)
{
    (void)state;
    for (unsigned i = 0; i < REASONS; i++)
        for (unsigned j = 0; j <= i; j++)
            assert_int_equal(strcmp(reason_name(i), reason_name(j)) == 0, i == j);
    assert_string_equal(reason_name(REASON_PROBATION_APP), "probation-app");
    assert_string_equal(reason_name(REASON_FORMAT), "format");
    assert_string_equal(reason_name(REASONS), "unknown");
    for (unsigned i = 0; i < DEVICE_STATES; i++)
        for (unsigned j = 0; j <= i; j++)
            assert_int_equal(strcmp(device_state_name(i), device_state_name(j)) == 0, i == j);
    assert_string_equal(device_state_name(DEVICE_REVERTING), "REVERTING");
    assert_string_equal(device_state_name(DEVICE_STATES), "UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field_comes_back),
        cmocka_unit_test(test_defaults_are_left_out_and_come_back),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_names_are_distinct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
