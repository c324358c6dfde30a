/* hub/config/config_test.c - what a file means, and where a wrong one is wrong; the page against the table.
 */
#include "hub/config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void nothing_is_all_defaults(void **state)
{
    (void)state;
    static const char *const texts[] = { "", "# nothing\n", "---\n", "{}\n" };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct config *c;
        struct config_error e;
        assert_int_equal(config_parse(&c, span_str(texts[i]), "f", &e), ERR_OK);
        assert_int_equal(c->https.port, 443);
        assert_int_equal(c->mqtts.port, 8883);
        assert_true(c->https.enabled && c->https.tls && !c->http.enabled && c->ops.enabled);
        assert_string_equal(c->ops.address, "127.0.0.1");
        assert_int_equal(c->messages.c2d_depth, 50);
        assert_true(c->stream.retain_bytes == 8589934592u);
        assert_int_equal(c->names_count, 0);
        config_free(c);
    }
}

static void values_are_taken(void **state)
{
    (void)state;
    struct config *c;
    struct config_error e;
    const char text[] = "names: [hub.example.org, \"other\"]\n"
                        "https: {port: 8443, tls: off, address: \"::1\"}\n"
                        "http:\n  enabled: yes\n  port: 8080\n"
                        "stream:\n  retain_hours: 0\n"
                        "tls:\n  rsa_certificate: \"\"\n"
                        "hub:\n  log: debug\n";
    assert_int_equal(config_parse(&c, span_str(text), "f", &e), ERR_OK);
    assert_int_equal(c->names_count, 2);
    assert_string_equal(c->names[0], "hub.example.org");
    assert_string_equal(c->names[1], "other");
    assert_int_equal(c->https.port, 8443);
    assert_false(c->https.tls);
    assert_true(c->http.enabled);
    assert_int_equal(c->stream.retain_hours, 0);
    assert_int_equal(c->stream.partitions, 4);
    assert_string_equal(c->tls.rsa_certificate, "");
    assert_string_equal(c->hub.log, "debug");
    config_free(c);
}

static void errors_say_where_and_what(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "https:\n  port: 99999\n", "f:2:9: https.port: '99999' is not a whole number from 0 to 65535" },
        { "https:\n  port: 12abc\n", "f:2:9: https.port: '12abc' is not a whole number" },
        { "https:\n  port: -1\n", "f:2:9: https.port" },
        { "https:\n  port: 0x10\n", "f:2:9: https.port" },
        { "https:\n  port:\n", "f:2:8: https.port: '' is not" },
        { "https:\n  tls: maybe\n", "f:2:8: https.tls: 'maybe' is neither true nor false" },
        { "https:\n  prot: 1\n", "f:2:3: https has no value 'prot'" },
        { "htps:\n  port: 1\n", "f:1:1: there is no section 'htps'" },
        { "https:\n  port: 1\n  port: 2\n", "f:3:3: https.port stands here twice" },
        { "https:\n  port: 1\nhttps:\n  port: 2\n", "f:3:1: section https stands here twice" },
        { "https: 5\n", "f:1:8: a section" },
        { "https:\n  port: [1]\n", "f:2:9: a single value" },
        { "names: hub\n", "f:1:8: a list of host names" },
        { "names: [\"a b\"]\n", "f:1:9: names: 'a b' is not a host name" },
        { "names: [a]\nnames: [b]\n", "f:2:1: names stands here twice" },
        { "https: &x\n  port: 1\nmqtts: *x\n", "f:3:8: aliases" },
        { "[1, 2]\n", "f:1:1: a section" },
        { "text\n", "f:1:1: a section" },
        { "https:\n\tport: 1\n", "f:2:1: found character" },
        { "https: [\n", "f:1:8: a section" },
        { "https: {port: 1\n", "f:2:1: did not find" },
        { "https: {}\n---\nmqtts: {}\n", "f:2:1: a second document" },
        { "mqtts:\n  tls: false\n", "f:2:8: mqtts: without TLS only a loopback address" },
        { "ops:\n  address: 0.0.0.0\n", "f:2:12: ops: without TLS only a loopback address" },
        { "https:\n  address: localhost\n", "f:2:12: https.address: 'localhost' is not an IP address" },
        { "http:\n  tls: true\n", "f:2:8: http.tls" },
        { "hub:\n  log: loud\n", "f:2:8: hub.log: 'loud' is none of" },
        { "tls:\n  record_layer: ktls\n", "f:2:17: tls.record_layer: 'ktls' is none of" },
        { "messages:\n  c2d_ttl_s: 200000\n", "f:2:14: messages.c2d_ttl_s is larger" },
        { "query:\n  indexed_paths: \"tags.a, deviceId\"\n",
          "f:2:18: query.indexed_paths: 'deviceId' is not a path such as tags.site" },
        { "tls:\n  ec_certificate: \"\"\n  rsa_certificate: \"\"\n", "f:2:19: tls: neither" },
        { "hub:\n  log: \"a\\0b\"\n", "f:2:8: hub.log: a zero byte" },
        { "uploads:\n  container: devices\n", "f:2:14: uploads.container: 'devices' is not 3 to 63" },
        { "uploads:\n  registry_container: Keys\n", "f:2:23: uploads.registry_container: 'Keys' is not" },
        { "uploads:\n  container: registry\n", "f:2:14: uploads.container: 'registry' is the container" },
        { "uploads:\n  registry_container: uploads\n", "f:2:23: uploads.container: 'uploads' is" },
        { "routing:\n  files: files\n", "f:2:10: routing.files: 'files' is a directory of the hub's own" },
        { "routing:\n  files: .//blob/x\n", "f:2:10: routing.files: './/blob/x' is" },
        { "routing:\n  files: \"\"\n", "f:2:10: routing.files: '' is" },
        { "routing:\n  files: ./\n", "f:2:10: routing.files: './' is" },
        { "stream:\n  partitions: 33\n",
          "f:2:15: stream.partitions: '33' is not a whole number from 1 to 32" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config *c = NULL;
        struct config_error e;
        assert_int_equal(config_parse(&c, span_str(cases[i].text), "f", &e), ERR_PROTO);
        if (strncmp(e.text, cases[i].says, strlen(cases[i].says)))
            fail_msg("%s--> %s\nnot %s", cases[i].text, e.text, cases[i].says);
        assert_null(c);
    }
}

static void every_cut_ends_in_an_answer(void **state)
{
    (void)state;
    const char text[] =
        "names: [a, \"b\"]\nhttps: {port: 1, tls: off, address: \"::1\"}\nhub:\n  log: debug\n";
    for (size_t n = 0; n < sizeof text; n++) {
        struct config *c = NULL;
        struct config_error e;
        enum err err = config_parse(&c, span_of(text, n), "f", &e);
        assert_true(err ? e.text[0] && !c : c != NULL);
        config_free(c);
    }
}

static void what_is_printed_can_be_read(void **state)
{
    (void)state;
    static uint8_t one[32768], two[32768];
    struct wr a = { one, sizeof one, 0 }, b = { two, sizeof two, 0 };
    struct config *c, *d;
    struct config_error e;
    const char text[] = "names: [x, y]\ntls:\n  ec_key: 'a\"b\\c'\nhttps:\n  port: 8443\n";
    assert_int_equal(config_parse(&c, span_str(text), "f", &e), ERR_OK);
    config_print(c, &a);
    assert_true(wr_ok(&a));
    if (config_parse(&d, wr_span(&a), "printed", &e) != ERR_OK)
        fail_msg("%s", e.text);
    config_print(d, &b);
    assert_true(span_eq(wr_span(&a), wr_span(&b)));
    size_t at = 0;
    assert_null(config_restart_needed(c, d, &at));
    config_free(d);
    assert_int_equal(config_parse(&d, SPAN("names: [x]\nhub:\n  log: warn\nhttps:\n  port: 1\n"), "f", &e),
                     ERR_OK);
    at = 0;
    assert_string_equal(config_restart_needed(c, d, &at), "https.port");
    assert_string_equal(config_restart_needed(c, d, &at), "names");
    assert_null(config_restart_needed(c, d, &at));
    config_free(c);
    config_free(d);
}

static void the_page_is_the_table(void **state)
{
    (void)state;
    static uint8_t page[65536], table[65536];
    struct wr w = { table, sizeof table - 1, 0 };
    struct config *c;
    struct config_error e;
    FILE *f = fopen("docs/configuration.md", "r");
    assert_non_null(f);
    size_t n = fread(page, 1, sizeof page - 1, f);
    fclose(f);
    page[n] = 0;
    assert_int_equal(config_parse(&c, SPAN(""), "f", &e), ERR_OK);
    config_print_markdown(c, &w);
    assert_true(wr_ok(&w));
    table[w.len] = 0;
    if (!strstr((const char *)page, (const char *)table))
        fail_msg("docs/configuration.md does not hold the table; put this into it:\n%s", (const char *)table);
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_all_defaults),     cmocka_unit_test(values_are_taken),
        cmocka_unit_test(errors_say_where_and_what),   cmocka_unit_test(every_cut_ends_in_an_answer),
        cmocka_unit_test(what_is_printed_can_be_read), cmocka_unit_test(the_page_is_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
