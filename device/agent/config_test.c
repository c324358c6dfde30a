/* device/agent/config_test.c - the configuration file: defaults, values, and errors that name their line. */
#include "device/agent/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define HUB "https://hub.example#ca=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static enum err load(struct agent_config *c, const char *text, char *said, size_t cap)
{
    char path[] = "/tmp/roost-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    memset(said, 0, cap);
    FILE *err = fmemopen(said, cap, "w");
    enum err e = agent_config_load(c, path, err);
    fclose(err);
    unlink(path);
    return e;
}

static void test_defaults(void **state)
{
    struct agent_config c;
    char said[4096];
    (void)state;
    assert_int_equal(load(&c, "bootstrap: \"" HUB "\"\n", said, sizeof said), ERR_OK);
    assert_string_equal(c.state, "/var/lib/roost-agent");
    assert_true(span_eq(c.product, SPAN("linux")));
    assert_int_equal(c.slot_len, 64 << 20);
    assert_int_equal(c.telemetry_every_ms, 60000);
    assert_int_equal(c.checkin_every_ms, 6 * 3600000);
    assert_int_equal(c.socket_mode, 0660);
    assert_true(c.supervise);
    assert_false(c.plain_http);
    assert_int_equal(c.app.health_tries, 3);
    assert_null(c.app.command);
    assert_int_equal(c.hub.port, 443);
    agent_config_free(&c);
}

static void test_values(void **state)
{
    struct agent_config c;
    char said[4096];
    (void)state;
    assert_int_equal(load(&c,
                          "bootstrap: \"" HUB "\"\n"
                          "address: 127.0.0.1\nstate: /tmp/x\nhardware: gateway:3:9\nid: gw-1\ntoken: abc\n"
                          "telemetry-every: 2\ncheckin-every: 10s\nbackoff-min: 200ms\nbackoff-max: 3s\n"
                          "slot-size: 1048576\nplain-http: true\nsupervise: false\nsocket: "
                          "/tmp/s\nsocket-mode: \"0600\"\nsensors: /x\n"
                          "log: debug\napplication:\n  command: [\"{app}\", \"-v\"]\n  health: [/bin/true]\n"
                          "  health-every: 100ms\n  health-timeout: 1s\n  health-tries: 5\n  settle: 0s\n"
                          "  stop-timeout: 3s\n",
                          said, sizeof said),
                     ERR_OK);
    assert_string_equal(c.address, "127.0.0.1");
    assert_true(span_eq(c.product, SPAN("gateway")));
    assert_int_equal(c.hw_class, 3);
    assert_int_equal(c.hw_rev, 9);
    assert_string_equal(c.id, "gw-1");
    assert_int_equal(c.telemetry_every_ms, 2000);
    assert_int_equal(c.backoff_min_ms, 200);
    assert_int_equal(c.slot_len, 1 << 20);
    assert_true(c.plain_http);
    assert_false(c.supervise);
    assert_int_equal(c.socket_mode, 0600);
    assert_int_equal(c.app.command_nr, 2);
    assert_string_equal(c.app.command[1], "-v");
    assert_int_equal(c.app.health_nr, 1);
    assert_int_equal(c.app.health_tries, 5);
    assert_int_equal(c.app.settle_ms, 0);
    assert_int_equal(c.app.stop_timeout_ms, 3000);
    agent_config_free(&c);
}

static void test_what_is_wrong_has_its_line(void **state)
{
    static const struct {
        const char *line, *says;
    } wrong[] = {
        { "hardware: x", ":2:1: hardware" },
        { "hardware: abcdefghijklmnopqrstuvwxy:1", ":2:1: hardware" },
        { "hardware: a:70000", ":2:1: hardware" },
        { "telemetry-every: soon", ":2:1: telemetry-every" },
        { "checkin-every: 10ms", ":2:1: checkin-every" },
        { "backoff-max: 20ms", ":2:1: backoff-max" },
        { "slot-size: 5", ":2:1: slot-size" },
        { "slot-size: 2000M", ":2:1: slot-size" },
        { "slot-size: 65537", ":2:1: slot-size" },
        { "socket-mode: 777", ":2:1: socket-mode" },
        { "state: relative", ":2:1: state" },
        { "log: loud", ":2:1: log" },
        { "application: {health-tries: 0}", "health-tries" },
        { "application:\n  settle: x", ":3:3: settle" },
        { "colour: blue", ":2:1: colour: there is no such key" },
        { "application: {colour: blue}", ": colour: there is no such key" },
        { "application: {health-tries: x}", ":2:29: health-tries: a whole number is expected" },
        { "state: /x\nstate: /y", ":2:8: state: stands here twice" },
        { "address: [a]", ":2:10: address: a text is expected" },
        { "plain-http: perhaps", ":2:1: plain-http" },
        { "application: 5", ":2:14: application: keys with values" },
        { "state: [", "" },
    };
    struct agent_config c;
    char said[4096], text[1024];
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(text, sizeof text, "bootstrap: \"" HUB "\"\n%s\n", wrong[i].line);
        if (load(&c, text, said, sizeof said) != ERR_PROTO)
            fail_msg("%s: taken", wrong[i].line);
        if (!strstr(said, wrong[i].says))
            fail_msg("%s: said %s", wrong[i].line, said);
    }
    assert_int_equal(load(&c, "bootstrap: \"http://plain\"\n", said, sizeof said), ERR_PROTO);
    assert_non_null(strstr(said, ":1:1: bootstrap"));
    assert_int_equal(load(&c, "state: /x\n", said, sizeof said), ERR_PROTO);
    assert_non_null(strstr(said, ": bootstrap is missing\n"));
    assert_int_equal(load(&c, "", said, sizeof said), ERR_PROTO);
    FILE *null = fopen("/dev/null", "w");
    assert_int_equal(agent_config_load(&c, "/nonexistent/agent.yaml", null), ERR_NOTFOUND);
    fclose(null);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_what_is_wrong_has_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
