/* core/trust/bootstrap_string_test.c - bootstrap strings: forms, cuts, refusals. */
#include "core/trust/bootstrap_string.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define PIN16 "0123456789abcdef"
#define PIN   PIN16 PIN16 PIN16 PIN16
#define ONES  "1111111111111111111111111111111111111111111111111111111111111111"

static void test_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text, *url, *host;
        uint16_t port;
        bool root;
    } cases[] = {
        { "https://hub.example#ca=" PIN, "https://hub.example", "hub.example", 443, false },
        { "https://hub.example:8443#ca=" PIN "&root=" ONES, "https://hub.example:8443", "hub.example", 8443,
          true },
        { "https://127.0.0.1:1#ca=" PIN, "https://127.0.0.1:1", "127.0.0.1", 1, false },
        { "https://[::1]:65535#ca=" PIN, "https://[::1]:65535", "::1", 65535, false },
        { "https://[fd00::1]#ca=" PIN, "https://[fd00::1]", "fd00::1", 443, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bootstrap_string b;
        char out[BOOTSTRAP_STRING_MAX + 1] = "";
        struct wr w = { (uint8_t *)out, BOOTSTRAP_STRING_MAX, 0 };
        assert_int_equal(bootstrap_string_decode(span_str(cases[i].text), &b), ERR_OK);
        assert_true(span_eq(b.url, span_str(cases[i].url)));
        assert_true(span_eq(b.host, span_str(cases[i].host)));
        assert_int_equal(b.port, cases[i].port);
        assert_int_equal(b.ca_pin[1], 0x23);
        assert_int_equal(b.has_root, cases[i].root);
        assert_int_equal(b.root_pin[31], cases[i].root ? 0x11 : 0);
        bootstrap_string_encode(&w, &b);
        assert_true(wr_ok(&w));
        assert_string_equal(out, cases[i].text);
    }
}

static void test_every_cut_is_refused(void **state)
{
    (void)state;
    const char *text = "https://hub.example:8443#ca=" PIN "&root=" ONES;
    size_t pin_end = strlen("https://hub.example:8443#ca=" PIN);
    struct bootstrap_string b;
    for (size_t n = 0; n < strlen(text); n++) {
        char *cut = malloc(n ? n : 1);
        memcpy(cut, text, n);
        assert_int_equal(bootstrap_string_decode(span_of(cut, n), &b), n == pin_end ? ERR_OK : ERR_PROTO);
        free(cut);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "http://hub.example#ca=" PIN,
        "HTTPS://hub.example#ca=" PIN,
        "https://#ca=" PIN,
        "https://hub.example",
        "https://hub.example#ca=" PIN16,
        "https://hub.example#ca=" PIN "0",
        "https://hub.example#ca=" PIN "&",
        "https://hub.example#ca=" PIN "&root=" PIN16,
        "https://hub.example#ca=" PIN "&root=" ONES "&root=" ONES,
        "https://hub.example#root=" ONES,
        "https://hub.example#root=" ONES "&ca=" PIN,
        "https://hub.example/path#ca=" PIN,
        "https://user@hub.example#ca=" PIN,
        "https://hub.example:#ca=" PIN,
        "https://hub.example:0#ca=" PIN,
        "https://hub.example:65536#ca=" PIN,
        "https://hub.example:000443#ca=" PIN,
        "https://hub.example:4x#ca=" PIN,
        "https://hub example#ca=" PIN,
        "https://[::1#ca=" PIN,
        "https://[::1]8#ca=" PIN,
        "https://[hub]#ca=" PIN,
        "https://hub.example#ca=g" ONES,
        " https://hub.example#ca=" PIN,
        "https://hub.example#ca=" PIN "\n",
    };
    struct bootstrap_string b;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(bootstrap_string_decode(span_str(bad[i]), &b), ERR_PROTO);
}

static void test_longest_host(void **state)
{
    (void)state;
    char text[BOOTSTRAP_STRING_MAX + 2];
    struct bootstrap_string b;
    for (int n = BOOTSTRAP_HOST_MAX; n <= (int)BOOTSTRAP_HOST_MAX + 1; n++) {
        char host[BOOTSTRAP_HOST_MAX + 2] = "";
        memset(host, 'h', (size_t)n);
        snprintf(text, sizeof text, "https://%s#ca=%s", host, PIN);
        assert_int_equal(bootstrap_string_decode(span_str(text), &b),
                         n <= (int)BOOTSTRAP_HOST_MAX ? ERR_OK : ERR_LIMIT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_every_cut_is_refused),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_longest_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
