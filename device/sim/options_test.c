/* device/sim/options_test.c - what the command line takes, and what it refuses with a word of help. */
#include "device/sim/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define HUB "https://hub.example:8443#ca=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static int parse(struct sim_options *o, char *said, size_t cap, const char *const words[])
{
    char *argv[80] = { NULL };
    static char name[] = "roost-sim";
    int argc = 0;
    argv[argc++] = name;
    for (size_t i = 0; words[i]; i++)
        argv[argc++] = (char *)words[i];
    FILE *f = fmemopen(said, cap, "w");
    int code = sim_options_parse(argc, argv, o, f, f);
    fclose(f);
    return code;
}
#define PARSE(...) parse(&o, said, sizeof said, (const char *const[]){ __VA_ARGS__, NULL })

static void test_defaults(void **state)
{
    struct sim_options o;
    char said[8192];
    (void)state;
    assert_int_equal(PARSE("--hub", HUB), SIM_DONE);
    assert_int_equal(o.count, 1);
    assert_int_equal(o.threads, 1);
    assert_int_equal(o.class_nr, 1);
    assert_int_equal(o.telemetry_every_ms, 60000);
    assert_int_equal(o.hub.port, 8443);
    assert_string_equal(o.id_prefix, "sim-");
    assert_int_equal(o.until, SIM_UNTIL_NONE);
}

static void test_everything_said(void **state)
{
    struct sim_options o;
    char said[8192];
    (void)state;
    assert_int_equal(PARSE("--hub", HUB, "--count", "10000", "--hardware-class", "fridge:2:7",
                           "--hardware-class", "sensor:65535", "--id-prefix", "d", "--token", "t",
                           "--telemetry-every", "250ms", "--checkin-every", "5m", "--backoff", "200ms,3s",
                           "--fail-boot", "2.5%", "--drop-link", "1", "--seed", "18446744073709551615",
                           "--until", "settled=1.1.0", "--duration", "1h", "--json", "--list",
                           "--source-spread", "--keep-link", "--plain-http", "--slot-kib", "64",
                           "--start-rate", "1000", "--address", "127.0.0.1", "--quiet", "--boot-time", "5ms"),
                     SIM_DONE);
    assert_int_equal(o.count, 10000);
    assert_int_equal(o.threads, 2);
    assert_int_equal(o.class_nr, 2);
    assert_true(span_eq(o.classes[0].product, SPAN("fridge")));
    assert_int_equal(o.classes[0].hw_class, 2);
    assert_int_equal(o.classes[0].hw_rev, 7);
    assert_int_equal(o.classes[1].hw_class, 65535);
    assert_int_equal(o.telemetry_every_ms, 250);
    assert_int_equal(o.checkin_every_ms, 300000);
    assert_int_equal(o.backoff_min_ms, 200);
    assert_int_equal(o.backoff_max_ms, 3000);
    assert_true(o.fail_boot > 0.0249 && o.fail_boot < 0.0251);
    assert_true(o.seed == UINT64_MAX);
    assert_int_equal(o.until, SIM_UNTIL_SETTLED);
    assert_string_equal(o.until_version, "1.1.0");
    assert_int_equal(o.duration_ms, 3600000);
    assert_int_equal(o.slot_len, 65536);
    assert_int_equal(o.boot_ms, 5);
    assert_true(o.json && o.list && o.source_spread && o.keep_link && o.plain_http && o.quiet);
}

static void test_what_is_wrong_is_named(void **state)
{
    static const char *const wrong[][2] = {
        { "--count", "0" },
        { "--count", "100001" },
        { "--count", "ten" },
        { "--hub", "http://x" },
        { "--hardware-class", "x" },
        { "--hardware-class", ":1" },
        { "--hardware-class", "a:" },
        { "--hardware-class", "a:65536" },
        { "--hardware-class", "a:1:256" },
        { "--hardware-class", "a:1:2:3" },
        { "--hardware-class", "abcdefghijklmnopqrstuvwxy:1" },
        { "--telemetry-every", "5 s" },
        { "--telemetry-every", "" },
        { "--telemetry-every", "1000h9" },
        { "--checkin-every", "4294967296ms" },
        { "--backoff", "1s" },
        { "--backoff", "3s,1s" },
        { "--backoff", "0,1s" },
        { "--fail-boot", "101" },
        { "--fail-boot", "-1" },
        { "--drop-link", "x" },
        { "--fail-boot", "nan" },
        { "--until", "soon" },
        { "--until", "confirmed=" },
        { "--slot-kib", "3" },
        { "--slot-kib", "65540" },
        { "--threads", "17" },
        { "--seed", "-1" },
    };
    struct sim_options o;
    char said[8192];
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(PARSE("--hub", HUB, wrong[i][0], wrong[i][1]), SIM_USAGE);
        assert_non_null(strstr(said, wrong[i][0]));
        assert_non_null(strstr(said, wrong[i][1]));
    }
    assert_int_equal(PARSE("--count", "3"), SIM_USAGE);
    assert_non_null(strstr(said, "--hub is missing"));
    assert_int_equal(PARSE("--hub", HUB, "--nonsense"), SIM_USAGE);
    assert_non_null(strstr(said, "--nonsense"));
    assert_int_equal(PARSE("--hub"), SIM_USAGE);
    assert_int_equal(PARSE("--hub", HUB, "extra"), SIM_USAGE);
}

static void test_too_many_classes(void **state)
{
    const char *words[2 * SIM_CLASS_MAX + 5] = { "--hub", HUB };
    struct sim_options o;
    char said[8192];
    (void)state;
    for (unsigned i = 0; i < SIM_CLASS_MAX + 1; i++) {
        words[2 + 2 * i] = "--hardware-class";
        words[3 + 2 * i] = "a:1";
    }
    assert_int_equal(parse(&o, said, sizeof said, words), SIM_USAGE);
    words[2 + 2 * SIM_CLASS_MAX] = NULL;
    assert_int_equal(parse(&o, said, sizeof said, words), SIM_DONE);
    assert_int_equal(o.class_nr, SIM_CLASS_MAX);
}

static void test_help(void **state)
{
    struct sim_options o;
    char said[8192];
    (void)state;
    assert_int_equal(PARSE("--help"), SIM_HELP);
    assert_non_null(strstr(said, "--hub STRING"));
    assert_int_equal(PARSE("--version"), SIM_HELP);
    assert_non_null(strstr(said, ROOST_VERSION));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_everything_said),
        cmocka_unit_test(test_what_is_wrong_is_named),
        cmocka_unit_test(test_too_many_classes),
        cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
