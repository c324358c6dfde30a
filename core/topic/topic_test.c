/* core/topic/topic_test.c - the topic tables of the Azure IoT Hub protocol, ids with hostile characters, and
 * every filter the SDKs send. */
#include "core/topic/topic.h"

#include "core/bag/bag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants the three above */
#include <cmocka.h>

static struct topic_identity device(const char *d)
{
    return (struct topic_identity){ span_str(d), SPAN_NONE };
}

static struct topic_identity module(const char *d, const char *m)
{
    return (struct topic_identity){ span_str(d), span_str(m) };
}

static void same(struct span got, const char *want)
{
    assert_true(span_eq(got, span_str(want)));
}

static void telemetry_in_all_its_forms(void **state)
{
    (void)state;
    static const struct {
        const char *topic, *bag;
    } rows[] = {
        { "devices/d/messages/events", "" },
        { "devices/d/messages/events/", "" },
        { "devices/d/messages/events/a=b", "a=b" },
        { "devices/d/messages/events/a=b/", "a=b" },
        { "devices/d/messages/events/?a=b", "a=b" },
        { "devices/d/messages/events/?a=b/", "a=b" },
        { "devices/d/messages/events/?", "" },
        { "devices/d/messages/events/a=b//", "a=b/" }, /* one slash is stripped, not two */
        { "devices/d/messages/events/a=/x&b", "a=/x&b" },
        { "devices/d/messages/events/a+b=1", "a+b=1" }, /* a plus is a plus in a bag */
    };
    struct topic_identity who = device("d");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct topic t;
        assert_int_equal(topic_parse(span_str(rows[i].topic), &who, &t), ERR_OK);
        assert_int_equal(t.kind, TOPIC_TELEMETRY);
        same(t.bag, rows[i].bag);
    }
    who = module("d", "m");
    struct topic t;
    assert_int_equal(topic_parse(SPAN("devices/d/modules/m/messages/events/%24.on=o/"), &who, &t), ERR_OK);
    same(t.bag, "%24.on=o");
}

static void what_is_not_ours_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *topic;
        enum err e;
    } rows[] = {
        { "devices/e/messages/events/", ERR_DENIED },
        { "devices/dd/messages/events/", ERR_DENIED },
        { "devices/D/messages/events/", ERR_DENIED },
        { "devices/d/modules/m/messages/events/", ERR_DENIED },
        { "devices/+/messages/events/", ERR_DENIED },
        { "devices/d/messages/eventsX", ERR_NOTFOUND },
        { "devices/d/messages/devicebound/x", ERR_NOTFOUND },
        { "devices/d/", ERR_NOTFOUND },
        { "devices/d", ERR_DENIED },
        { "devices/d/messages/events/a#b", ERR_PROTO },
        { "", ERR_NOTFOUND },
        { "foo/bar", ERR_NOTFOUND },
        { "$iothub/", ERR_PROTO },
        { "$iothub/twin/FOO", ERR_PROTO },
        { "$iothub/twin/GET/", ERR_PROTO },
        { "$iothub/twin/GET/?", ERR_PROTO },
        { "$iothub/twin/GET/?$version=1", ERR_PROTO },
        { "$iothub/twin/GET/?$rid=1&$rid=2", ERR_PROTO },
        { "$iothub/twin/GET/?$rid=a+b", ERR_PROTO },
        { "$iothub/twin/PATCH/properties/reported/?$rid=1&$version=x", ERR_PROTO },
        { "$iothub/twin/PATCH/properties/desired/?$rid=1", ERR_PROTO },
        { "$iothub/methods/res/", ERR_PROTO },
        { "$iothub/methods/res/200", ERR_PROTO },
        { "$iothub/methods/res/2x0/?$rid=1", ERR_PROTO },
        { "$iothub/methods/res//?$rid=1", ERR_PROTO },
        { "$iothub/methods/res/99999999999/?$rid=1", ERR_PROTO },
        { "$SYS/broker", ERR_NOTFOUND },
        { "$iothub", ERR_NOTFOUND },
    };
    struct topic_identity who = device("d");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct topic t = { .kind = 99 };
        assert_int_equal(topic_parse(span_str(rows[i].topic), &who, &t), rows[i].e);
        assert_int_equal(t.kind, 99); /* written on success only */
    }
}

static void twin_and_method_topics_are_read(void **state)
{
    (void)state;
    struct topic_identity who = device("d");
    struct topic t;
    assert_int_equal(topic_parse(SPAN("$iothub/twin/GET/?$rid=0-9a-f%20"), &who, &t), ERR_OK);
    assert_int_equal(t.kind, TOPIC_TWIN_GET);
    same(t.rid, "0-9a-f%20"); /* opaque: not decoded */
    assert_int_equal(topic_parse(SPAN("$iothub/twin/GET/?$rid="), &who, &t), ERR_OK);
    assert_true(t.has_rid && !t.rid.n);
    assert_int_equal(topic_parse(SPAN("$iothub/twin/PATCH/properties/reported/?$rid=1&$version=7"), &who, &t),
                     ERR_OK);
    assert_int_equal(t.kind, TOPIC_TWIN_PATCH);
    assert_true(t.has_version && t.version == 7);
    assert_int_equal(topic_parse(SPAN("$iothub/twin/PATCH/properties/reported/?x=y"), &who, &t), ERR_OK);
    assert_false(t.has_rid);
    assert_int_equal(topic_parse(SPAN("$iothub/methods/res/-5/?$rid=ab"), &who, &t), ERR_OK);
    assert_int_equal(t.kind, TOPIC_METHOD_RES);
    assert_int_equal(t.status, -5);
    assert_int_equal(topic_parse(SPAN("$iothub/credentials/POST/issueCertificate/?$rid=9"), &who, &t),
                     ERR_OK);
    assert_int_equal(t.kind, TOPIC_CRED_POST);
}

/* Ids may contain + # ? % $ and are compared byte for byte. */
static void hostile_ids_are_plain_text(void **state)
{
    (void)state;
    static const char *ids[] = { "a+b", "+", "#", "a#", "?", "%41", "$iothub", "a=b&c", "d'(!)*" };
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        struct topic_identity who = device(ids[i]);
        uint8_t room[256];
        struct wr w = { room, sizeof room, 0 };
        struct topic t;
        topic_telemetry_encode(&w, &who);
        wr_str(&w, "x=1");
        assert_int_equal(topic_parse(wr_span(&w), &who, &t), ERR_OK);
        same(t.bag, "x=1");
        w.len = 0;
        topic_c2d_filter_encode(&w, &who);
        assert_int_equal(topic_filter_channels(wr_span(&w), &who), 1u << CHANNEL_C2D);
        w.len = 0;
        topic_c2d_encode(&w, &who, SPAN_NONE);
        assert_int_equal(topic_server_parse(wr_span(&w), &who, &t), ERR_OK);
        assert_int_equal(t.kind, TOPIC_C2D);
        struct topic_identity other = device("A");
        if (i != 5) /* "%41" is not "A" either: the next lines prove it for all */
            assert_int_equal(topic_server_parse(wr_span(&w), &other, &t), ERR_DENIED);
        assert_int_equal(topic_parse(SPAN("devices/A/messages/events"), &who, &t), ERR_DENIED);
    }
}

#define C2D     (1u << CHANNEL_C2D)
#define INPUT   (1u << CHANNEL_INPUT)
#define METHODS (1u << CHANNEL_METHODS)
#define TWIN    (1u << CHANNEL_TWIN_RES)
#define DESIRED (1u << CHANNEL_DESIRED)
#define CRED    (1u << CHANNEL_CRED_RES)

static void filters_reach_channels(void **state)
{
    (void)state;
    static const struct {
        const char *filter;
        uint32_t device, module; /* for "d" and "d/m" */
    } rows[] = {
        { "devices/d/messages/devicebound/#", C2D, 0 },
        { "devices/+/messages/devicebound/#", C2D, 0 },
        { "devices/d/messages/devicebound/+", C2D, 0 },
        { "devices/d/messages/devicebound", 0, 0 },
        { "devices/d/messages/devicebound/", 0, 0 },
        { "devices/d/messages/devicebound/x", 0, 0 },
        { "devices/d/messages/devicebound/+/#", C2D, 0 },
        { "devices/d/messages/#", C2D, 0 },
        { "devices/d/+/devicebound/#", C2D, 0 },
        { "devices/d/#", C2D, C2D | INPUT },
        { "devices/#", C2D, C2D | INPUT },
        { "+/+/+/#", C2D, C2D | INPUT },
        { "+/#", C2D, C2D | INPUT },
        { "#", C2D, C2D | INPUT },
        { "devices/d/modules/m/messages/devicebound/#", 0, C2D },
        { "devices/d/modules/m/#", 0, C2D | INPUT },
        { "devices/d/modules/m/inputs/#", 0, INPUT },
        { "devices/d/modules/m/inputs/+/+", 0, INPUT },
        { "devices/+/modules/+/inputs/#", 0, INPUT },
        { "devices/d/modules/x/#", 0, 0 },
        { "devices/e/messages/devicebound/#", 0, 0 },
        { "devices/dd/messages/devicebound/#", 0, 0 },
        { "devices/d/messages/events/#", 0, 0 },
        { "$iothub/methods/POST/#", METHODS, METHODS },
        { "$iothub/methods/POST/+/+", METHODS, METHODS },
        { "$iothub/methods/POST/reboot/#", 0, 0 },
        { "$iothub/twin/res/#", TWIN, TWIN },
        { "$iothub/twin/PATCH/properties/desired/#", DESIRED, DESIRED },
        { "$iothub/twin/#", TWIN | DESIRED, TWIN | DESIRED },
        { "$iothub/credentials/res/#", CRED, CRED },
        { "$iothub/#", METHODS | TWIN | DESIRED | CRED, METHODS | TWIN | DESIRED | CRED },
        { "$iothub/+/res/#", TWIN | CRED, TWIN | CRED },
        { "+/twin/res/#", 0, 0 },
        { "$iothub/methods/POST/#/x", 0, 0 },
        { "$iothub/methods/POST/x#", 0, 0 },
        { "$SYS/#", 0, 0 },
        { "", 0, 0 },
        { "/", 0, 0 },
        { "+", 0, 0 },
        { "devices/", 0, 0 },
        { "devices/d", 0, 0 },
    };
    struct topic_identity d = device("d"), m = module("d", "m");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(topic_filter_channels(span_str(rows[i].filter), &d), rows[i].device);
        assert_int_equal(topic_filter_channels(span_str(rows[i].filter), &m), rows[i].module);
    }
}

static void channels_keep_their_qos(void **state)
{
    (void)state;
    uint32_t c = channels_grant(0, C2D | DESIRED, 1);
    c = channels_grant(c, METHODS, 0);
    c = channels_grant(c, DESIRED, 0); /* a repeated SUBSCRIBE replaces it */
    assert_int_equal(channels_qos(c, CHANNEL_C2D), 1);
    assert_int_equal(channels_qos(c, CHANNEL_METHODS), 0);
    assert_int_equal(channels_qos(c, CHANNEL_DESIRED), 0);
    assert_int_equal(channels_qos(c, CHANNEL_INPUT), -1);
    assert_int_equal(channels_qos(channels_grant(0, CRED, 2), CHANNEL_CRED_RES), 1); /* 2 is granted as 1 */
    assert_int_equal(channels_drop(c, C2D | METHODS | DESIRED | INPUT), 0);
}

static void c2d_topics_are_what_every_sdk_can_read(void **state)
{
    (void)state;
    uint8_t room[1024];
    struct wr w = { room, sizeof room, 0 };
    struct topic_identity who = device("d 1");
    topic_c2d_encode(&w, &who, SPAN_NONE);
    same(wr_span(&w), "devices/d 1/messages/devicebound/"
                      "%24.to=%2Fdevices%2Fd%201%2Fmessages%2Fdevicebound");
    w.len = 0;
    who = device("d");
    topic_c2d_encode(&w, &who,
                     SPAN("app%2f=1%2f2&empty=&null&=x&iothub-ack=full&$.mid=m 1&a+b=c&"
                          "$.exp=2026-01-01T00:00:00.0000000Z&%24.to=%2fx&$.mid=second"));
    same(wr_span(&w), "devices/d/messages/devicebound/%24.mid=m%201&%24.to=%2Fx&"
                      "%24.exp=2026-01-01T00%3A00%3A00.0000000Z&iothub-ack=full&app%2F=1%2F2&a%2Bb=c");
    w.len = 0;
    who = module("d", "m");
    topic_c2d_encode(&w, &who, SPAN("k=%"));
    same(wr_span(&w), "devices/d/modules/m/messages/devicebound/"
                      "%24.to=%2Fdevices%2Fd%2Fmodules%2Fm%2Fmessages%2Fdevicebound&k=%25");
    struct topic t;
    assert_int_equal(topic_server_parse(wr_span(&w), &who, &t), ERR_OK);
    same(t.bag, "%24.to=%2Fdevices%2Fd%2Fmodules%2Fm%2Fmessages%2Fdevicebound&k=%25");
}

static void each_side_reads_what_the_other_writes(void **state)
{
    (void)state;
    uint8_t room[256];
    struct wr w = { room, sizeof room, 0 };
    struct topic_identity who = device("d");
    struct topic t;
    topic_twin_res_encode(&w, 400, SPAN("r"));
    same(wr_span(&w), "$iothub/twin/res/400/?$rid=r");
    w.len = 0;
    topic_twin_res_version_encode(&w, 204, SPAN("r"), 12345678901234567890u);
    same(wr_span(&w), "$iothub/twin/res/204/?$rid=r&$version=12345678901234567890");
    assert_int_equal(topic_server_parse(wr_span(&w), &who, &t), ERR_OK);
    assert_int_equal(t.kind, TOPIC_TWIN_RES);
    assert_int_equal(t.status, 204);
    assert_true(t.version == 12345678901234567890u);
    w.len = 0;
    topic_desired_encode(&w, 5);
    same(wr_span(&w), "$iothub/twin/PATCH/properties/desired/?$version=5");
    assert_int_equal(topic_server_parse(wr_span(&w), &who, &t), ERR_OK);
    assert_int_equal(t.kind, TOPIC_DESIRED);
    w.len = 0;
    topic_method_encode(&w, SPAN("reboot"), SPAN("1f"));
    same(wr_span(&w), "$iothub/methods/POST/reboot/?$rid=1f");
    assert_int_equal(topic_server_parse(wr_span(&w), &who, &t), ERR_OK);
    assert_int_equal(t.kind, TOPIC_METHOD);
    same(t.name, "reboot");
    same(t.rid, "1f");
    w.len = 0;
    topic_cred_res_encode(&w, 202, SPAN("3"));
    assert_int_equal(topic_server_parse(wr_span(&w), &who, &t), ERR_OK);
    assert_int_equal(t.kind, TOPIC_CRED_RES);
    w.len = 0;
    topic_method_res_encode(&w, INT32_MIN, SPAN("1f"));
    same(wr_span(&w), "$iothub/methods/res/-2147483648/?$rid=1f");
    w.len = 0;
    topic_method_res_encode(&w, -7, SPAN("1f"));
    assert_int_equal(topic_parse(wr_span(&w), &who, &t), ERR_OK);
    assert_int_equal(t.status, -7);
    w.len = 0;
    topic_twin_get_encode(&w, SPAN("g"));
    assert_int_equal(topic_parse(wr_span(&w), &who, &t), ERR_OK);
    assert_int_equal(t.kind, TOPIC_TWIN_GET);
    w.len = 0;
    topic_twin_patch_encode(&w, SPAN("p"));
    assert_int_equal(topic_parse(wr_span(&w), &who, &t), ERR_OK);
    assert_int_equal(t.kind, TOPIC_TWIN_PATCH);
    who = module("d", "m");
    assert_int_equal(topic_server_parse(SPAN("devices/d/modules/m/inputs/i%201/%24.cdid=x"), &who, &t),
                     ERR_OK);
    assert_int_equal(t.kind, TOPIC_INPUT);
    same(t.name, "i%201");
    same(t.bag, "%24.cdid=x");
    assert_int_equal(topic_server_parse(SPAN("devices/d/modules/m/inputs/i"), &who, &t), ERR_PROTO);
    assert_int_equal(topic_server_parse(SPAN("x"), &who, &t), ERR_NOTFOUND);
}

static void every_cut_is_judged_without_reading_on(void **state)
{
    (void)state;
    static const char *wire[] = { "devices/d/messages/events/a=b&c/", "devices/d/modules/m/inputs/i/x=y",
                                  "$iothub/twin/PATCH/properties/reported/?$rid=1&$version=7",
                                  "$iothub/methods/POST/reboot/?$rid=1f",
                                  "devices/+/messages/devicebound/#" };
    struct topic_identity d = device("d"), m = module("d", "m");
    for (size_t i = 0; i < sizeof wire / sizeof wire[0]; i++)
        for (size_t n = 0; n <= strlen(wire[i]); n++) {
            uint8_t *exact = malloc(n + 1);
            struct topic t;
            memcpy(exact, wire[i], n);
            struct span s = span_of(exact, n);
            for (int k = 0; k < 4; k++) {
                enum err e =
                    k & 1 ? topic_parse(s, k & 2 ? &d : &m, &t) : topic_server_parse(s, k & 2 ? &d : &m, &t);
                assert_true(e == ERR_OK || e == ERR_PROTO || e == ERR_DENIED || e == ERR_NOTFOUND);
            }
            assert_true(topic_filter_channels(s, &d) < 1u << CHANNELS);
            free(exact);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(telemetry_in_all_its_forms),
        cmocka_unit_test(what_is_not_ours_is_refused),
        cmocka_unit_test(twin_and_method_topics_are_read),
        cmocka_unit_test(hostile_ids_are_plain_text),
        cmocka_unit_test(filters_reach_channels),
        cmocka_unit_test(channels_keep_their_qos),
        cmocka_unit_test(c2d_topics_are_what_every_sdk_can_read),
        cmocka_unit_test(each_side_reads_what_the_other_writes),
        cmocka_unit_test(every_cut_is_judged_without_reading_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
