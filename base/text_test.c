/* base/text_test.c - text forms: vectors, round trips, and everything that must be refused. */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct span text_of(void (*fn)(struct wr *, struct span), struct span in, uint8_t *buf, size_t cap)
{
    struct wr measure = { NULL, 0, 0 }, w = { buf, cap, 0 };
    fn(&measure, in);
    fn(&w, in);
    assert_int_equal(measure.len, w.len); /* over no buffer it measures what it then writes */
    return wr_span(&w);
}

static void base64_knows_the_vectors_of_rfc_4648(void **state)
{
    static const char *const v[][2] = { { "", "" },
                                        { "f", "Zg==" },
                                        { "fo", "Zm8=" },
                                        { "foo", "Zm9v" },
                                        { "foob", "Zm9vYg==" },
                                        { "fooba", "Zm9vYmE=" },
                                        { "foobar", "Zm9vYmFy" } };
    (void)state;
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        uint8_t buf[32], back[32];
        size_t n = 99;
        struct span t = text_of(base64_encode, span_str(v[i][0]), buf, sizeof buf);
        assert_true(span_eq(t, span_str(v[i][1])));
        assert_int_equal(base64_decode(t, back, sizeof back, &n), ERR_OK);
        assert_true(span_eq(span_of(back, n), span_str(v[i][0])));
        size_t bare = t.n; /* padding may be missing */
        while (bare && t.p[bare - 1] == '=')
            bare--;
        assert_int_equal(base64_decode(span_of(t.p, bare), back, sizeof back, &n), ERR_OK);
        assert_true(span_eq(span_of(back, n), span_str(v[i][0])));
    }
}

static void base64_refuses_what_is_not(void **state)
{
    static const char *const bad[] = { "A",    "Zg=",   "Zg===", "Z===", "Zm9v====",
                                       "Zm 9", "Zm9\n", "Zm9-",  "=Zg=" };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint8_t out[16] = { 7 };
        size_t n = 99;
        assert_int_equal(base64_decode(span_str(bad[i]), out, sizeof out, &n), ERR_PROTO);
        assert_true(n == 99 && out[0] == 7);
    }
    uint8_t out[2];
    size_t n = 99;
    assert_int_equal(base64_decode(SPAN("Zm9v"), out, sizeof out, &n), ERR_LIMIT);
    assert_int_equal(n, 99);
}

static void hex_is_exact(void **state)
{
    uint8_t out[3] = { 0 }, buf[8];
    (void)state;
    assert_int_equal(hex_decode(SPAN("00aBfF"), out, 3), ERR_OK);
    assert_true(span_eq(text_of(hex_encode, span_of(out, 3), buf, sizeof buf), SPAN("00abff")));
    assert_int_equal(hex_decode(SPAN("00aBf"), out, 3), ERR_PROTO);
    assert_int_equal(hex_decode(SPAN("00aBfg"), out, 3), ERR_PROTO);
    assert_int_equal(hex_decode(SPAN("00aBfF00"), out, 3), ERR_PROTO);
}

static void percent_encoding_keeps_only_the_unreserved(void **state)
{
    uint8_t buf[256], back[256];
    uint8_t all[256];
    (void)state;
    for (size_t i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    assert_true(span_eq(text_of(percent_encode, SPAN("temp alert=a/b c~"), buf, sizeof buf),
                        SPAN("temp%20alert%3Da%2Fb%20c~")));
    uint8_t big[1024];
    struct span t = text_of(percent_encode, span_of(all, 256), big, sizeof big);
    struct wr w = { back, sizeof back, 0 };
    percent_decode(&w, t);
    assert_true(span_eq(wr_span(&w), span_of(all, 256)));
}

static void percent_decoding_keeps_what_is_malformed(void **state)
{
    static const char *const v[][2] = { { "a+b", "a+b" }, { "%", "%" },       { "%4", "%4" },
                                        { "%zz", "%zz" }, { "%41%4", "A%4" }, { "%2f%2F", "//" },
                                        { "%%41", "%A" } };
    (void)state;
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        uint8_t buf[32];
        assert_true(span_eq(text_of(percent_decode, span_str(v[i][0]), buf, sizeof buf), span_str(v[i][1])));
    }
}

static void decimals_stop_at_their_limit(void **state)
{
    uint64_t v = 7;
    (void)state;
    assert_int_equal(u64_parse(SPAN("18446744073709551615"), UINT64_MAX, &v), ERR_OK);
    assert_true(v == UINT64_MAX);
    assert_int_equal(u64_parse(SPAN("18446744073709551616"), UINT64_MAX, &v), ERR_LIMIT);
    assert_int_equal(u64_parse(SPAN("99999999999999999999999"), UINT64_MAX, &v), ERR_LIMIT);
    assert_int_equal(u64_parse(SPAN("256"), 255, &v), ERR_LIMIT);
    assert_int_equal(u64_parse(SPAN(""), 255, &v), ERR_PROTO);
    assert_int_equal(u64_parse(SPAN("-1"), 255, &v), ERR_PROTO);
    assert_int_equal(u64_parse(SPAN("1 "), 255, &v), ERR_PROTO);
    assert_true(v == UINT64_MAX);
}

static void times_go_there_and_back(void **state)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } v[] = { { 0, "1970-01-01T00:00:00.0000000Z" },
              { 951782400000, "2000-02-29T00:00:00.0000000Z" },
              { 1767225600123, "2026-01-01T00:00:00.1230000Z" },
              { 4107542399999, "2100-02-28T23:59:59.9990000Z" },
              { 4107542400000, "2100-03-01T00:00:00.0000000Z" } };
    (void)state;
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        uint8_t buf[40];
        struct wr w = { buf, sizeof buf, 0 };
        uint64_t ms;
        iso8601_encode(&w, v[i].ms);
        assert_true(span_eq(wr_span(&w), span_str(v[i].text)));
        assert_int_equal(iso8601_decode(wr_span(&w), &ms), ERR_OK);
        assert_true(ms == v[i].ms);
    }
    for (uint64_t ms = 0; ms < 4102444800000; ms += 86400000ull * 7 + 12345678) {
        uint8_t buf[40];
        struct wr w = { buf, sizeof buf, 0 };
        uint64_t back;
        iso8601_encode(&w, ms);
        assert_int_equal(iso8601_decode(wr_span(&w), &back), ERR_OK);
        assert_true(back == ms);
    }
}

static void times_in_other_spellings(void **state)
{
    uint64_t ms;
    (void)state;
    assert_int_equal(iso8601_decode(SPAN("2026-01-01T01:30:00+01:30"), &ms), ERR_OK);
    assert_true(ms == 1767225600000);
    assert_int_equal(iso8601_decode(SPAN("2026-01-01T00:00:00.5Z"), &ms), ERR_OK);
    assert_true(ms == 1767225600500);
    static const char *const bad[] = { "",
                                       "2026",
                                       "2026-01-01",
                                       "2026-01-01T00:00:00",
                                       "2026-13-01T00:00:00Z",
                                       "2026-02-30T00:00:00Z",
                                       "2026-01-01T24:00:00Z",
                                       "2026-01-01T00:00:00.Z",
                                       "2026-01-01T00:00:00Zx",
                                       "2026-01-01 00:00:00Z",
                                       "2026-01-01T00:00:00+1500",
                                       "1969-12-31T23:59:59Z" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(iso8601_decode(span_str(bad[i]), &ms), ERR_PROTO);
    struct span whole = SPAN("2026-01-01T01:30:00.125+01:30");
    for (size_t n = 0; n < whole.n; n++)
        assert_int_equal(iso8601_decode(span_of(whole.p, n), &ms), ERR_PROTO);
}

static void decimals_of_any_size_are_written(void **state)
{
    static const struct {
        uint64_t v;
        const char *text;
    } all[] = { { 0, "0" },
                { 9, "9" },
                { 10, "10" },
                { 4294967295u, "4294967295" },
                { 4294967296u, "4294967296" },
                { 10000000000u, "10000000000" },
                { UINT64_MAX, "18446744073709551615" } };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        uint8_t buf[24];
        struct wr w = { buf, sizeof buf, 0 };
        u64_encode(&w, all[i].v);
        assert_true(wr_ok(&w) && span_eq(wr_span(&w), span_str(all[i].text)));
    }
}

static void utf8_has_one_to_four_bytes(void **state)
{
    static const struct {
        uint32_t c;
        const char *text;
    } all[] = { { 0x7f, "\x7f" },           { 0x80, "\xc2\x80" },
                { 0x7ff, "\xdf\xbf" },      { 0x800, "\xe0\xa0\x80" },
                { 0xffff, "\xef\xbf\xbf" }, { 0x10000, "\xf0\x90\x80\x80" },
                { 0x20ac, "\xe2\x82\xac" }, { 0x10ffff, "\xf4\x8f\xbf\xbf" } };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        uint8_t buf[4];
        struct wr w = { buf, sizeof buf, 0 };
        utf8_encode(&w, all[i].c);
        assert_true(wr_ok(&w) && span_eq(wr_span(&w), span_str(all[i].text)));
    }
}

static void test_uuid(void **state)
{
    static const uint8_t ones[16] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    static const uint8_t zeros[16];
    char out[37];
    (void)state;
    uuid_encode(ones, out);
    assert_string_equal(out, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    uuid_encode(zeros, out);
    assert_string_equal(out, "00000000-0000-4000-8000-000000000000");
}

static void blanks_at_the_ends_go(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = { { "", "" },      { " ", "" },      { "\t \t", "" },         { "a", "a" },
                 { " a\t", "a" }, { "a b", "a b" }, { "\ta \tb ", "a \tb" }, { "\r\na ", "\r\na" } };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_true(span_eq(span_trim(span_str(rows[i].in)), span_str(rows[i].out)));
    assert_int_equal(span_trim(SPAN_NONE).n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_knows_the_vectors_of_rfc_4648),
        cmocka_unit_test(base64_refuses_what_is_not),
        cmocka_unit_test(hex_is_exact),
        cmocka_unit_test(decimals_of_any_size_are_written),
        cmocka_unit_test(utf8_has_one_to_four_bytes),
        cmocka_unit_test(test_uuid),
        cmocka_unit_test(blanks_at_the_ends_go),
        cmocka_unit_test(percent_encoding_keeps_only_the_unreserved),
        cmocka_unit_test(percent_decoding_keeps_what_is_malformed),
        cmocka_unit_test(decimals_stop_at_their_limit),
        cmocka_unit_test(times_go_there_and_back),
        cmocka_unit_test(times_in_other_spellings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
