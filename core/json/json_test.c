/* core/json/json_test.c - the device's JSON reader: answers of a hub, everything that is not JSON, limits. */
#include "core/json/json.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants the three above */
#include <cmocka.h>

static jsmntok_t tok[64];

static void an_answer_is_read(void **state)
{
    (void)state;
    const struct span text = SPAN(
        " {\"status\":\"assigned\", \"id\":\"a\\u00fc\\n\\ud83d\\ude00\\/\",\"mqttPort\":8883,\"on\":true,"
        "\"off\":false,\"none\":null,\"list\":[\"x\",{\"y\":[1,2]},3],\"neg\":-1.5e3,\"\\u0069d2\":\"k\","
        "\"empty\":{},\"key\":\"AAEC==\"}\r\n");
    struct json j;
    struct span s;
    uint8_t room[64];
    struct wr mem = { room, sizeof room, 0 };
    uint64_t n;
    bool b;
    int v, it = 0, key, nr = 0;
    assert_int_equal(json_parse(&j, text, tok, 64), ERR_OK);
    assert_true(json_is_object(&j, JSON_ROOT));
    assert_int_equal(json_get_string(&j, 0, "status", &mem, &s), ERR_OK);
    assert_true(span_eq(s, SPAN("assigned")) && mem.len == 0);
    assert_int_equal(json_get_string(&j, 0, "id", &mem, &s), ERR_OK);
    assert_true(span_eq(s, SPAN("a\xc3\xbc\n\xf0\x9f\x98\x80/")));
    assert_int_equal(json_get_string(&j, 0, "id2", &mem, &s), ERR_OK); /* its key was escaped */
    assert_int_equal(json_get_u64(&j, 0, "mqttPort", 65535, &n), ERR_OK);
    assert_true(n == 8883);
    assert_int_equal(json_get_u64(&j, 0, "mqttPort", 8882, &n), ERR_LIMIT);
    assert_int_equal(json_get_u64(&j, 0, "neg", UINT64_MAX, &n), ERR_PROTO);
    assert_int_equal(json_get_u64(&j, 0, "status", UINT64_MAX, &n), ERR_PROTO);
    assert_int_equal(json_get_string(&j, 0, "mqttPort", &mem, &s), ERR_PROTO);
    assert_int_equal(json_get_u64(&j, 0, "absent", UINT64_MAX, &n), ERR_NOTFOUND);
    assert_int_equal(json_get_u64(&j, 0, "y", UINT64_MAX, &n), ERR_NOTFOUND); /* only direct members */
    assert_int_equal(json_member(&j, 0, "on", &v), ERR_OK);
    assert_int_equal(json_bool(&j, v, &b), ERR_OK);
    assert_true(b);
    assert_int_equal(json_member(&j, 0, "off", &v), ERR_OK);
    assert_int_equal(json_bool(&j, v, &b), ERR_OK);
    assert_false(b);
    assert_int_equal(json_member(&j, 0, "none", &v), ERR_OK);
    assert_true(json_is_null(&j, v));
    assert_int_equal(json_bool(&j, v, &b), ERR_PROTO);
    assert_int_equal(json_member(&j, 0, "list", &v), ERR_OK);
    assert_int_equal(json_member(&j, v, "x", &key), ERR_PROTO);
    int item;
    while (json_each(&j, v, &it, &key, &item)) {
        assert_int_equal(key, -1);
        nr++;
    }
    assert_int_equal(nr, 3);
    assert_true(span_eq(json_raw(&j, item), SPAN("3")));
    for (it = 0, nr = 0; json_each(&j, 0, &it, &key, &item);)
        nr++;
    assert_int_equal(nr, 11);
    assert_int_equal(json_member(&j, 0, "empty", &v), ERR_OK);
    it = 0;
    assert_false(json_each(&j, v, &it, NULL, &item));
}

static void what_is_not_json_is_refused(void **state)
{
    (void)state;
    static const char *bad[] = {
        "",
        " ",
        "{",
        "}",
        "[1,2",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,\"a\":1}",
        "[1,]",
        "[,1]",
        "[1,,2]",
        "[1 2]",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\"::1}",
        "{\"a\":1:2}",
        "{\"a\",\"b\"}",
        "{1:2}",
        "{a:1}",
        "[01]",
        "[+1]",
        "[1.]",
        "[.5]",
        "[1e]",
        "[-]",
        "[tru]",
        "[truex]",
        "[nul]",
        "[\"\\x\"]",
        "[\"\\u12g4\"]",
        "[1]]",
        "[1}",
        "{\"a\":[1}]",
        "[1][2]",
        "{} {}",
        "x[1]",
        "[1]x",
        ":[1]",
        ",{}",
        "{}:",
        "{}, ",
        "[:]",
        "{:}",
        "[{},:]",
    };
    struct json j;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (json_parse(&j, span_str(bad[i]), tok, 64) != ERR_PROTO)
            fail_msg("taken: %s", bad[i]);
    assert_int_equal(json_parse(&j, SPAN("[1]\0[2]"), tok, 64), ERR_PROTO);
    static const char *good[] = {
        "[]",    "{}",          "[[[]]]", "{\"a\":{\"b\":[]}}",     "[0,-0,1.5,1e9,2E-3]",
        "\"s\"", " [ 1 , 2 ] ", "[\"\"]", "{\"\":\"\",\"b\":\"\"}", "[\"a,b:c\"]"
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (json_parse(&j, span_str(good[i]), tok, 64) != ERR_OK)
            fail_msg("refused: %s", good[i]);
}

static void half_surrogates_are_refused(void **state)
{
    (void)state;
    static const char *bad[] = { "[\"\\ud83d\"]", "[\"\\ude00\"]", "[\"\\ud83d\\n\"]", "[\"\\ud83dxxxxxx\"]",
                                 "[\"\\ud83d\\ud83d\"]" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct json j;
        struct span s;
        uint8_t room[16];
        struct wr mem = { room, sizeof room, 0 };
        assert_int_equal(json_parse(&j, span_str(bad[i]), tok, 64), ERR_OK);
        assert_int_equal(json_str(&j, 1, &mem, &s), ERR_PROTO);
        assert_int_equal(mem.len, 0);
    }
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    const struct span whole = SPAN("{\"a\":[1,2.5e3,\"\\u00fc\\\"\"],\"b\":{\"c\":null,\"d\":true}}");
    for (size_t n = 0; n <= whole.n; n++) {
        uint8_t *exact = malloc(n + 1);
        struct json j;
        memcpy(exact, whole.p, n);
        assert_int_equal(json_parse(&j, span_of(exact, n), tok, 64), n < whole.n ? ERR_PROTO : ERR_OK);
        free(exact);
    }
}

static void tokens_and_memory_have_their_limits(void **state)
{
    (void)state;
    struct json j;
    struct span s;
    const struct span text = SPAN("{\"a\":\"\\n\\n\\n\"}");
    for (size_t cap = 0; cap < 3; cap++)
        assert_int_equal(json_parse(&j, text, tok, cap), ERR_LIMIT);
    assert_int_equal(json_parse(&j, text, tok, 3), ERR_OK);
    uint8_t room[3];
    struct wr mem = { room, 2, 0 };
    assert_int_equal(json_get_string(&j, 0, "a", &mem, &s), ERR_LIMIT);
    assert_int_equal(mem.len, 0);
    mem.cap = 3;
    assert_int_equal(json_get_string(&j, 0, "a", &mem, &s), ERR_OK);
    assert_true(span_eq(s, SPAN("\n\n\n")));
    uint8_t *big = malloc((1 << 20) + 1);
    memset(big, ' ', (1 << 20) + 1);
    assert_int_equal(json_parse(&j, span_of(big, (1 << 20) + 1), tok, 64), ERR_LIMIT);
    free(big);
}

static void written_text_is_json(void **state)
{
    (void)state;
    uint8_t room[256], back[64];
    struct wr w = { room, sizeof room, 0 };
    json_put_string(&w, SPAN("a\"\\\n\x01\x7f\xc3\xbc\xff\xed\xa0\x80z"));
    assert_true(span_eq(wr_span(&w), SPAN("\"a\\\"\\\\\\n\\u0001\x7f\xc3\xbc\xef\xbf\xbd\xef\xbf\xbd"
                                          "\xef\xbf\xbd\xef\xbf\xbdz\"")));
    struct json j;
    struct span s;
    struct wr mem = { back, sizeof back, 0 };
    assert_int_equal(json_parse(&j, wr_span(&w), tok, 64), ERR_OK);
    assert_int_equal(json_str(&j, 0, &mem, &s), ERR_OK);
    assert_true(span_starts(s, SPAN("a\"\\\n\x01\x7f\xc3\xbc")));
    static const struct {
        int32_t v;
        const char *text;
    } rows[] = { { 0, "0" },       { 1000, "1" },      { -1250, "-1.25" },
                 { 5, "0.005" },   { 21500, "21.5" },  { -1, "-0.001" },
                 { 999, "0.999" }, { 10010, "10.01" }, { INT32_MIN, "-2147483.648" } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        w.len = 0;
        json_put_milli(&w, rows[i].v);
        assert_true(span_eq(wr_span(&w), span_str(rows[i].text)));
    }
    w.len = 0;
    u64_encode(&w, 0);
    u64_encode(&w, UINT64_MAX);
    assert_true(span_eq(wr_span(&w), SPAN("018446744073709551615")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_read),
        cmocka_unit_test(what_is_not_json_is_refused),
        cmocka_unit_test(half_surrogates_are_refused),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(tokens_and_memory_have_their_limits),
        cmocka_unit_test(written_text_is_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
