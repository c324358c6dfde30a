/* device/answer_test.c - the bootstrap answer: read in any pieces, cut at every byte, never over its room. */
#include "device/answer.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char whole[] =
    " {\"status\":\"assigned\",\"id\":\"a\\u0062\\/"
    "c\",\"x\":{\"id\":\"no\",\"y\":[1,\"}\\\"\",{}]},\"mqttPort\":8883,"
    "\"httpsPort\": 443 "
    ",\"trust\":\"SFRSMQ==\",\"time\":1795294710,\"host\":null,\"key\":\"\",\"flag\":true} \n";

static uint8_t text[256], trust[64];

static struct answer fed(const char *json, size_t n, size_t piece)
{
    struct answer a;
    struct wr t = { text, sizeof text, 0 }, r = { trust, sizeof trust, 0 };
    answer_init(&a, t, r);
    for (size_t at = 0; at < n; at += piece)
        answer_feed(&a, span_of(json + at, n - at < piece ? n - at : piece));
    return a;
}

static void known_members_in_any_pieces(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < sizeof whole; piece++) {
        struct answer a = fed(whole, sizeof whole - 1, piece);
        assert_int_equal(answer_finish(&a), ERR_OK);
        assert_true(span_eq(answer_text(&a, ANSWER_STATUS), SPAN("assigned")));
        assert_true(span_eq(answer_text(&a, ANSWER_ID), SPAN("ab/c")));
        assert_int_equal(answer_text(&a, ANSWER_HOST).n, 0); /* null is absent, not "null" */
        assert_int_equal(answer_text(&a, ANSWER_CHECKIN).n, 0);
        assert_int_equal(answer_u32(&a, ANSWER_MQTT_PORT, 65535), 8883);
        assert_int_equal(answer_u32(&a, ANSWER_HTTPS_PORT, 65535), 443);
        assert_int_equal(answer_u32(&a, ANSWER_TIME, UINT32_MAX), 1795294710);
        assert_true(span_eq(wr_span(&a.trust), SPAN("HTR1")));
    }
}

static void every_cut_is_seen(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof whole - 3; n++) {
        struct answer a = fed(whole, n, 7);
        assert_int_equal(answer_finish(&a), ERR_PROTO);
    }
}

static void what_is_not_an_object(void **state)
{
    static const char *const bad[] = { "[]",
                                       "7",
                                       "\"x\"",
                                       "{\"a\" 1}",
                                       "{\"a\":}",
                                       "{\"a\":1}}",
                                       "{a:1}",
                                       "{\"a\":1 2}",
                                       "{\"a\":\"\\x\"}",
                                       "{\"a\":\"\n\"}",
                                       "{\"trust\":\"*\"}",
                                       "{\"a\":\"\\u00g0\"}",
                                       "{\"a\":,}" };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct answer a = fed(bad[i], strlen(bad[i]), 3);
        assert_int_equal(answer_finish(&a), ERR_PROTO);
    }
    struct answer a = fed("{}", 2, 1);
    assert_int_equal(answer_finish(&a), ERR_OK);
}

static void values_longer_than_their_room(void **state)
{
    char json[2048];
    (void)state;
    memset(json, 'A', sizeof json);
    memcpy(json, "{\"id\":\"", 7);
    memcpy(json + sizeof json - 2, "\"}", 2);
    struct answer a = fed(json, sizeof json, 100);
    assert_int_equal(answer_finish(&a), ERR_LIMIT);
    /* Trust records are different: what fits is kept, the rest comes another way. */
    memcpy(json, "{\"trust\":\"", 10);
    a = fed(json, sizeof json, 100);
    assert_int_equal(answer_finish(&a), ERR_OK);
    assert_int_equal(a.trust.len, sizeof trust);
}

static void numbers_out_of_range_are_absent(void **state)
{
    static const char json[] =
        "{\"mqttPort\":65536,\"httpsPort\":-1,\"time\":99999999999,\"checkinSeconds\":1.5}";
    (void)state;
    struct answer a = fed(json, sizeof json - 1, 5);
    assert_int_equal(answer_finish(&a), ERR_OK);
    assert_int_equal(answer_u32(&a, ANSWER_MQTT_PORT, 65535), 0);
    assert_int_equal(answer_u32(&a, ANSWER_HTTPS_PORT, 65535), 0);
    assert_int_equal(answer_u32(&a, ANSWER_TIME, UINT32_MAX), 0);
    assert_int_equal(answer_u32(&a, ANSWER_CHECKIN_S, 100), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_members_in_any_pieces),     cmocka_unit_test(every_cut_is_seen),
        cmocka_unit_test(what_is_not_an_object),           cmocka_unit_test(values_longer_than_their_room),
        cmocka_unit_test(numbers_out_of_range_are_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
