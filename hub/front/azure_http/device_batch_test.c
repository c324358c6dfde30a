/* hub/front/azure_http/device_batch_test.c - headers and batches as property bags. */
#include "hub/front/azure_http/device_batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct arena a;
static const char *why;
static size_t nr, bytes;
static bool too_many;

static struct device_event *read_text(const char *text, size_t n)
{
    json_t *in = json_loadb(text, n, 0, NULL);
    arena_fini(&a);
    arena_init(&a, 1u << 20);
    struct device_event *e = in ? device_batch_read(in, &a, &nr, &bytes, &why, &too_many) : NULL;
    for (size_t i = 0; e && i < nr; i++) /* what points into the document must outlive it here */
        e[i].body = arena_copy(&a, e[i].body);
    json_decref(in);
    return e;
}
#define READ(text) read_text(text, strlen(text))

static void test_headers(void **state)
{
    uint8_t buf[256];
    struct wr w = { buf, sizeof buf, 0 };
    (void)state;
    assert_true(device_bag_put(&w, SPAN("IoTHub-MessageId"), SPAN("m 1")));
    assert_true(device_bag_put(&w, SPAN("iothub-app-Temp"), SPAN("a&b")));
    assert_true(device_bag_put(&w, SPAN("iothub-app-$.cdid"), SPAN("somebody")));
    assert_true(device_bag_put(&w, SPAN("iothub-to"), SPAN("/devices/x")));
    assert_true(device_bag_put(&w, SPAN("Content-Type"), SPAN("text/plain")));
    assert_true(device_bag_put(&w, SPAN("dt-subject"), SPAN("part")));
    assert_false(device_bag_put(&w, SPAN("iothub-app-"), SPAN("x")));
    assert_true(span_eq(wr_span(&w), SPAN("%24.mid=m%201&Temp=a%26b&%24.sub=part")));
}

static void test_batch(void **state)
{
    (void)state;
    struct device_event *e =
        READ("[{\"body\":\"AAEC\",\"properties\":{\"iothub-app-a\":\"1\","
             "\"iothub-messageid\":\"m1\"}},{\"body\":\"text\",\"base64Encoded\":false}]");
    assert_non_null(e);
    assert_int_equal(nr, 2);
    assert_int_equal(bytes, 7);
    assert_true(span_eq(e[0].body, span_of("\0\1\2", 3)));
    assert_true(span_eq(e[0].bag, SPAN("a=1&%24.mid=m1")));
    assert_true(span_eq(e[1].body, SPAN("text")));
    assert_int_equal(e[1].bag.n, 0);
}

static void test_bad_ones(void **state)
{
    static const char *const bad[] = { "{}",
                                       "[]",
                                       "[1]",
                                       "[{}]",
                                       "[{\"body\":1}]",
                                       "[{\"body\":\"AAEC\"},{\"body\":\"not base64!\"}]",
                                       "[{\"body\":\"\",\"base64Encoded\":\"no\"}]",
                                       "[{\"body\":\"\",\"properties\":[]}]",
                                       "[{\"body\":\"\",\"properties\":{\"iothub-app-a\":1}}]",
                                       "[{\"body\":\"\",\"properties\":{\"iothub-app-\":\"x\"}}]" };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(READ(bad[i]));
        assert_non_null(why);
        assert_false(too_many);
    }
}

static void test_every_cut_is_no_batch(void **state)
{
    static const char text[] =
        "[{\"body\":\"AAEC\",\"base64Encoded\":true,\"properties\":{\"iothub-app-a\":\"1\"}}]";
    (void)state;
    for (size_t n = 0; n < sizeof text - 1; n++)
        assert_null(read_text(text, n));
    assert_non_null(READ(text));
}

static void test_five_hundred_and_one_more(void **state)
{
    static char text[16 * (DEVICE_BATCH_MAX + 2)];
    (void)state;
    for (size_t n = DEVICE_BATCH_MAX; n <= DEVICE_BATCH_MAX + 1; n++) {
        strcpy(text, "[");
        for (size_t i = 0; i < n; i++)
            strcat(text, i ? ",{\"body\":\"\"}" : "{\"body\":\"\"}");
        strcat(text, "]");
        assert_int_equal(READ(text) != NULL, n <= DEVICE_BATCH_MAX);
        assert_int_equal(too_many, n > DEVICE_BATCH_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_bad_ones),
        cmocka_unit_test(test_every_cut_is_no_batch),
        cmocka_unit_test(test_five_hundred_and_one_more),
    };
    arena_init(&a, 1u << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_fini(&a);
    return failed;
}
