/* cli/deployment_test.c - what the states of devices add up to, and which releases a name means. */
#include "cli/deployment.h"
#include "cli/release_push.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const struct command *const cli_commands[] = { NULL }; /* main.c's */

static int verdict(const char *counts, uint64_t total, const char *state)
{
    struct deployment_counts c;
    json_t *doc = json_loads(counts, 0, NULL);
    assert_non_null(doc);
    deployment_counts_of(doc, &c);
    json_decref(doc);
    return deployment_verdict(&c, total, state);
}

static void test_verdicts(void **state)
{
    (void)state;
    static const struct {
        const char *counts;
        uint64_t total;
        const char *state;
        int code;
    } cases[] = {
        { "{}", 1, "running", -1 },
        { "{\"CONFIRMED\":2}", 3, "running", -1 }, /* one has not been heard of */
        { "{\"CONFIRMED\":3}", 3, "running", CLI_OK },
        { "{\"CONFIRMED\":2,\"SKIPPED\":1}", 3, "running", CLI_OK },
        { "{\"CONFIRMED\":4}", 3, "running", CLI_OK }, /* one came in meanwhile */
        { "{\"CONFIRMED\":3,\"DOWNLOADING\":1}", 3, "running", -1 },
        { "{\"CONFIRMED\":2,\"FAILED\":1}", 3, "running", CLI_FAILED },
        { "{\"CONFIRMED\":2,\"LOST\":1}", 3, "running", CLI_FAILED },
        { "{\"CONFIRMED\":2,\"REJECTED\":1}", 3, "running", CLI_FAILED },
        { "{\"CONFIRMED\":1,\"FAILED\":1,\"ROLLED_BACK\":1}", 3, "running", CLI_ROLLED_BACK },
        { "{\"CONFIRMED\":2,\"SUPERSEDED\":1}", 3, "running", CLI_CONFLICT },
        { "{\"CONFIRMED\":2,\"DOWNLOADING\":1}", 3, "superseded", CLI_CONFLICT },
        { "{\"CONFIRMED\":3}", 3, "aborted", CLI_FAILED },
        { "{\"CONFIRMED\":2}", 3, "completed", CLI_FAILED },
        { "{\"CONFIRMED\":3}", 3, "completed", CLI_OK },
        { "{\"CONFIRMED\":3,\"LEVITATING\":1}", 3, "running", -1 }, /* a newer hub's word */
        { "{\"CONFIRMED\":-3}", 3, "running", -1 },
        { "{}", 0, "running", CLI_OK }, /* nobody is meant */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(verdict(cases[i].counts, cases[i].total, cases[i].state), cases[i].code);
}

static void test_line(void **state)
{
    (void)state;
    struct deployment_counts c;
    char text[256];
    json_t *doc = json_pack("{s:i,s:i,s:i}", "CONFIRMED", 17, "SKIPPED", 1, "ROLLED_BACK", 2);
    deployment_counts_of(doc, &c);
    deployment_line(&c, 20, text, sizeof text);
    assert_string_equal(text, "18 of 20 confirmed, 2 rolled back");
    deployment_line(&c, 20, text, 10); /* no room: cut, not overrun */
    json_decref(doc);
    assert_true(deployment_is_good("SKIPPED"));
    assert_false(deployment_is_good("FAILED"));
    assert_false(deployment_is_good(NULL));
    assert_true(deployment_may_heal("FAILED", 1));
    assert_false(deployment_may_heal("FAILED", 2));
    assert_false(deployment_may_heal("REJECTED", 0));
    assert_false(deployment_may_heal("ROLLED_BACK", 1));
}

static const char releases[] =
    "{\"releases\":["
    "{\"id\":\"aaaa1111\",\"product\":\"sensor\",\"version\":\"1.1.0\",\"hardwareClass\":1,\"sequence\":5},"
    "{\"id\":\"bbbb2222\",\"product\":\"sensor\",\"version\":\"1.1.0\",\"hardwareClass\":2,\"sequence\":5},"
    "{\"id\":\"aaaa3333\",\"product\":\"sensor\",\"version\":\"1.1.0\",\"hardwareClass\":1,\"sequence\":6},"
    "{\"id\":\"cccc4444\",\"product\":\"pump\",\"version\":\"1.1.0\",\"hardwareClass\":1,\"sequence\":1,"
    "\"hardwareRevMin\":2,\"hardwareRevMax\":3},"
    "{\"id\":\"dddd5555\",\"product\":\"pump\",\"version\":\"2.0.0\",\"hardwareClass\":1,\"sequence\":2}]}";

static void chosen(const char *text, const char *want)
{
    json_t *listing = json_loads(releases, 0, NULL), *ids = release_choose(listing, text);
    char got[256] = "";
    json_t *id;
    size_t i;
    json_array_foreach(ids, i, id)
    {
        strcat(got, json_string_value(id));
        strcat(got, " ");
    }
    assert_string_equal(got, want);
    json_decref(ids);
    json_decref(listing);
}

static void test_names_of_releases(void **state)
{
    (void)state;
    chosen("1.1.0", "aaaa3333 bbbb2222 cccc4444 "); /* one for each product and class: the highest sequence */
    chosen("sensor@1.1.0", "aaaa3333 bbbb2222 ");
    chosen("pump@1.1.0", "cccc4444 ");
    chosen("2.0.0", "dddd5555 ");
    chosen("bbbb", "bbbb2222 ");
    chosen("bbb", ""); /* too short to be sure */
    chosen("aaaa1", "aaaa1111 ");
    chosen("aaaa", "aaaa1111 aaaa3333 ");
    chosen("pump@", "");
    chosen("@1.1.0", "");
    chosen("3.0.0", "");
    chosen("", "");
}

static void test_which_devices_fit(void **state)
{
    (void)state;
    json_t *listing = json_loads(releases, 0, NULL), *ids = release_choose(listing, "1.1.0");
    assert_true(release_fits(listing, ids, "sensor:1:0"));
    assert_true(release_fits(listing, ids, "sensor:2"));
    assert_false(release_fits(listing, ids, "sensor:3:0"));
    assert_true(release_fits(listing, ids, "pump:1:2"));
    assert_false(release_fits(listing, ids, "pump:1:1"));
    assert_false(release_fits(listing, ids, "pump"));
    assert_false(release_fits(listing, ids, ""));
    assert_false(release_fits(listing, ids, NULL));
    json_decref(ids);
    json_decref(listing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_names_of_releases),
        cmocka_unit_test(test_which_devices_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
