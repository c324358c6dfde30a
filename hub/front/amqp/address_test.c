/* hub/front/amqp/address_test.c - every address a client uses, in each spelling, and where a reader begins.
 */
#include "core/amqp/amqp_value.h"
#include "hub/front/amqp/address.h"
#include "hub/front/amqp/start.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int kind; /* -1: none */
        const char *device, *module;
    } cases[] = {
        { "$cbs", ADDRESS_CBS, "", "" },
        { "/$CBS", ADDRESS_CBS, "", "" },
        { "amqps://hub.example/$cbs", ADDRESS_CBS, "", "" },
        { "$management", ADDRESS_MANAGEMENT, "", "" },
        { "amqps://hub:5671/hub/$management", ADDRESS_MANAGEMENT, "", "" },
        { "/devices/d1/messages/events", ADDRESS_TELEMETRY, "d1", "" },
        { "devices/d1/messages/events/", ADDRESS_TELEMETRY, "d1", "" },
        { "amqps://hub.example:5671/devices/d%2B1/messages/Events", ADDRESS_TELEMETRY, "d+1", "" },
        { "/devices/d%25/messages/events", ADDRESS_TELEMETRY, "d%", "" },
        { "/devices/D1/modules/m/messages/events", ADDRESS_TELEMETRY, "D1", "m" },
        { "/devices/d1/messages/deviceBound", ADDRESS_C2D, "d1", "" },
        { "/devices/d1/modules/m/messages/devicebound", ADDRESS_C2D, "d1", "m" },
        { "/devices/d1/twin", ADDRESS_TWIN, "d1", "" },
        { "/devices/modules/modules/modules/twin", ADDRESS_TWIN, "modules", "modules" },
        { "/devices/d1/methods/devicebound", ADDRESS_METHODS, "d1", "" },
        { "/messages/devicebound", ADDRESS_SEND, "", "" },
        { "amqps://hub.example/messages/deviceBound", ADDRESS_SEND, "", "" },
        { "/messages/servicebound/feedback", ADDRESS_FEEDBACK, "", "" },
        { "amqps://h/messages/serviceBound/filenotifications", ADDRESS_FILE_NOTIFICATIONS, "", "" },
        { "/messages/events", ADDRESS_EVENTS, "", "" },
        { "amqps://h/messages/events/$management", ADDRESS_EVENTS, "", "" },
        { "hub/ConsumerGroups/$Default/Partitions/0", ADDRESS_CONSUMER, "", "" },
        { "", -1, "", "" },
        { "/", -1, "", "" },
        { "/devices", -1, "", "" },
        { "/devices//messages/events", -1, "", "" },
        { "/devices/d1/messages", -1, "", "" },
        { "/devices/d1/messages/events/more", -1, "", "" },
        { "/messages", -1, "", "" },
        { "hub", -1, "", "" },
        { "hub/Partitions/0", -1, "", "" },
        { "/a/b/c/d/e/f/g/h/i/j/k", -1, "", "" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t mem[ADDRESS_MAX];
        struct address a = { 0 };
        enum err e = address_parse(span_str(cases[i].text), mem, &a);
        if (cases[i].kind < 0 ? e != ERR_NOTFOUND : e || a.kind != cases[i].kind)
            fail_msg("%s: %d", cases[i].text, e);
        assert_true(span_eq(a.device, span_str(cases[i].device)));
        assert_true(span_eq(a.module, span_str(cases[i].module)));
    }
}

static void test_parts_of_an_address(void **state)
{
    (void)state;
    uint8_t mem[ADDRESS_MAX];
    static uint8_t big[ADDRESS_MAX + 1];
    struct address a;
    assert_int_equal(address_parse(SPAN("/hub/consumergroups/my%20group/partitions/12"), mem, &a), ERR_OK);
    assert_true(span_eq(a.entity, SPAN("hub")) && span_eq(a.group, SPAN("my group")) &&
                span_eq(a.partition, SPAN("12")));
    assert_int_equal(address_parse(SPAN("amqps://h/messages/events/ConsumerGroups/g/Partitions/0"), mem, &a),
                     ERR_OK);
    assert_int_equal(a.kind, ADDRESS_EVENTS);
    assert_true(span_eq(a.rest, SPAN("ConsumerGroups/g/Partitions/0")));
    assert_int_equal(address_parse(SPAN("/messages/events"), mem, &a), ERR_OK);
    assert_int_equal(a.rest.n, 0);
    memset(big, 'a', sizeof big);
    assert_int_equal(address_parse(span_of(big, sizeof big), mem, &a), ERR_LIMIT);
}

static void test_every_cut_of_an_address(void **state)
{
    (void)state;
    static const char text[] = "amqps://h/devices/d%2b/modules/m/messages/devicebound";
    uint8_t mem[ADDRESS_MAX];
    struct address a;
    for (size_t n = 0; n < sizeof text - 1; n++)
        assert_int_equal(address_parse(span_of(text, n), mem, &a), ERR_NOTFOUND);
}

static void test_what_a_token_reaches(void **state)
{
    static const struct {
        const char *address, *path;
        bool ours, reached;
    } cases[] = {
        { "/messages/devicebound", "/", false, true },
        { "/messages/devicebound", "", false, true },
        { "/messages/devicebound", "/messages", false, true },
        { "/messages/devicebound", "/Messages/deviceBound/", false, true },
        { "/messages/devicebound", "/messages/device", false, false },
        { "/messages/devicebound", "/messages/devicebound/more", false, false },
        { "/messages/devicebound", "/devices/d1", false, false },
        { "/messages/devicebound", "/hub", true, false },
        { "/messages/devicebound", "/messages/events", false, false },
        { "/messages/servicebound/feedback", "/messages/servicebound", false, true },
        { "/messages/servicebound/feedback", "/messages/devicebound", false, false },
        { "/messages/servicebound/filenotifications", "/messages/servicebound/feedback", false, false },
        { "/messages/events", "/messages/events", false, true },
        { "/messages/events", "/hub", true, true },
        { "/messages/events", "/messages/devicebound", false, false },
        { "$management", "/hub/$management", true, true },
        { "$management", "/devices/d1", false, false },
        { "hub/ConsumerGroups/$Default/Partitions/1", "/", false, true },
        { "hub/ConsumerGroups/$Default/Partitions/1", "/messages/events", false, true },
        { "hub/ConsumerGroups/$Default/Partitions/1", "/hub", true, true },
        { "hub/ConsumerGroups/$Default/Partitions/1", "/hub", false, false },
        { "hub/ConsumerGroups/$Default/Partitions/1", "/HUB/consumergroups/$default", true, true },
        { "hub/ConsumerGroups/$Default/Partitions/1", "/hub/ConsumerGroups/$Default/Partitions/1", true,
          true },
        { "hub/ConsumerGroups/$Default/Partitions/1", "/hub/ConsumerGroups/$Default/Partitions/11", true,
          false },
        { "hub/ConsumerGroups/$Default/Partitions/1", "/hub/$management", true, false },
        { "/devices/d1/twin", "/", false, false }, /* not for a policy's token alone */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t mem[ADDRESS_MAX];
        struct address a;
        assert_int_equal(address_parse(span_str(cases[i].address), mem, &a), ERR_OK);
        if (address_is_reached(&a, span_str(cases[i].path), cases[i].ours) != cases[i].reached)
            fail_msg("%s with a token for %s", cases[i].address, cases[i].path);
    }
}

static void test_where_to_start(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int at;
        uint64_t value;
    } cases[] = {
        { "amqp.annotation.x-opt-offset > '-1'", START_FIRST, 0 },
        { "amqp.annotation.x-opt-offset > '@latest'", START_LATEST, 0 },
        { "amqp.annotation.x-opt-offset > '41'", START_SEQ, 42 },
        { "amqp.annotation.x-opt-offset >= '41'", START_SEQ, 41 },
        { "amqp.annotation.x-opt-offset>\"41\"", START_SEQ, 42 },
        { "amqp.annotation.x-opt-sequence-number > 41", START_SEQ, 42 },
        { "amqp.annotation.x-opt-sequence-number >= '0'", START_SEQ, 0 },
        { "amqp.annotation.x-opt-sequence-number > '-1'", START_FIRST, 0 },
        { "amqp.annotation.x-opt-enqueued-time > '1700000000000'", START_TIME, 1700000000001 },
        { "amqp.annotation.x-opt-enqueued-time >= '1700000000000'", START_TIME, 1700000000000 },
        { "amqp.annotation.x-opt-enqueuedtimeutc > 5", START_TIME, 6 },
        { "amqp.annotation.x-opt-offset < '41'", -1, 0 },
        { "amqp.annotation.x-opt-offset > ''", -1, 0 },
        { "amqp.annotation.x-opt-offset > 'x'", -1, 0 },
        { "amqp.annotation.x-opt-enqueued-time > '@latest'", -1, 0 },
        { "amqp.annotation.x-opt-other > '1'", -1, 0 },
        { "", -1, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct start s = { 0 };
        enum err e = start_parse(span_str(cases[i].text), &s);
        if (cases[i].at < 0 ? e != ERR_PROTO : e || s.at != cases[i].at || s.value != cases[i].value)
            fail_msg("%s: %d", cases[i].text, e);
    }
}

static struct span filter(uint8_t *mem, size_t cap, bool symbol, struct span text)
{
    struct wr w = { mem, cap, 0 };
    size_t at = amqp_map_begin(&w);
    amqp_put_symbol(&w, SPAN("apache.org:selector-filter:string"));
    if (symbol) {
        wr_u8(&w, 0);
        amqp_put_symbol(&w, SPAN("apache.org:selector-filter:string"));
    } else {
        amqp_put_descriptor(&w, 0x468c00000004u);
    }
    amqp_put_string(&w, text);
    amqp_map_end(&w, at, 2);
    return wr_span(&w);
}

static void test_filters(void **state)
{
    (void)state;
    uint8_t mem[256];
    struct start s;
    for (int symbol = 0; symbol < 2; symbol++) {
        struct span f = filter(mem, sizeof mem, symbol, SPAN("amqp.annotation.x-opt-offset > '7'"));
        assert_int_equal(start_of_filter(f, &s), ERR_OK);
        assert_true(s.at == START_SEQ && s.value == 8);
        for (size_t n = 1; n < f.n; n++)
            assert_int_equal(start_of_filter(span_of(f.p, n), &s), ERR_PROTO);
    }
    assert_int_equal(start_of_filter(SPAN_NONE, &s), ERR_OK);
    assert_int_equal(s.at, START_FIRST);
    assert_int_equal(start_of_filter(SPAN("\xc1\x01\x00"), &s), ERR_OK);
    assert_int_equal(start_of_filter(filter(mem, sizeof mem, false, SPAN("nonsense")), &s), ERR_PROTO);
}

static void test_consumer_groups(void **state)
{
    (void)state;
    assert_true(group_is_known(NULL, SPAN("$default")));
    assert_false(group_is_known(NULL, SPAN("")));
    assert_false(group_is_known("", SPAN("a")));
    assert_true(group_is_known("alerts, archive", SPAN("Archive")));
    assert_true(group_is_known("alerts,archive", SPAN("alerts")));
    assert_false(group_is_known("alerts,archive", SPAN("alert")));
    assert_false(group_is_known("alerts,archive", SPAN("alerts,archive")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_parts_of_an_address),
        cmocka_unit_test(test_every_cut_of_an_address),
        cmocka_unit_test(test_what_a_token_reaches),
        cmocka_unit_test(test_where_to_start),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_consumer_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
