/* device/agent/sensors_test.c - reads a made-up /sys. */
#include "device/agent/sensors.h"

#include <ftw.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static int set_up(void **state)
{
    char *dir = strdup("/tmp/roost-sys-XXXXXX");
    assert_non_null(mkdtemp(dir));
    *state = dir;
    return 0;
}

static int tear_down(void **state)
{
    char *dir = (char *)*state;
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(dir);
    return 0;
}

static void put(const char *dir, const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", dir, path);
    for (char *p = full + strlen(dir) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = 0;
        mkdir(full, 0700);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static json_t *body(const struct sensors *s, uint64_t wall_ms)
{
    uint8_t buf[256];
    struct wr w = { buf, sizeof buf, 0 };
    sensors_encode(&w, s, wall_ms);
    assert_true(wr_ok(&w));
    json_t *o = json_loadb((const char *)buf, w.len, 0, NULL);
    assert_non_null(o);
    return o;
}

static void test_nothing_there_is_said_to_be_simulated(void **state)
{
    struct sensors s;
    sensors_read(&s, (const char *)*state);
    assert_false(s.has_temperature);
    assert_false(s.has_battery);
    json_t *o = body(&s, 1795294710000u);
    assert_true(json_is_true(json_object_get(o, "simulated")));
    assert_int_equal(json_array_size(json_object_get(o, "simulatedValues")), 2);
    assert_true(json_is_number(json_object_get(o, "temperature")));
    assert_in_range(json_integer_value(json_object_get(o, "battery")), 0, 100);
    json_decref(o);
}

static void test_real_values(void **state)
{
    const char *dir = (const char *)*state;
    struct sensors s;
    put(dir, "class/thermal/cooling_device0/type", "fan\n");
    put(dir, "class/thermal/thermal_zone0/temp", "0\n"); /* asleep */
    put(dir, "class/thermal/thermal_zone1/temp", "47350\n");
    put(dir, "class/power_supply/AC/type", "Mains\n");
    put(dir, "class/power_supply/BAT0/type", "Battery\n");
    put(dir, "class/power_supply/BAT0/capacity", "83\n");
    sensors_read(&s, dir);
    assert_true(s.has_temperature);
    assert_int_equal(s.temperature_milli, 47350);
    assert_true(s.has_battery);
    assert_int_equal(s.battery_pct, 83);
    json_t *o = body(&s, 0);
    assert_null(json_object_get(o, "simulated"));
    assert_true(json_real_value(json_object_get(o, "temperature")) > 47.25);
    assert_int_equal(json_integer_value(json_object_get(o, "battery")), 83);
    json_decref(o);
}

static void test_hwmon_when_there_is_no_zone_and_cold(void **state)
{
    const char *dir = (const char *)*state;
    struct sensors s;
    put(dir, "class/hwmon/hwmon0/name", "x\n");
    put(dir, "class/hwmon/hwmon2/temp1_input", "-500\n");
    sensors_read(&s, dir);
    assert_true(s.has_temperature);
    assert_int_equal(s.temperature_milli, -500);
    json_t *o = body(&s, 0);
    assert_true(json_real_value(json_object_get(o, "temperature")) < -0.4);
    assert_true(json_is_true(json_object_get(o, "simulated")));
    assert_string_equal(json_string_value(json_array_get(json_object_get(o, "simulatedValues"), 0)),
                        "battery");
    json_decref(o);
}

static void test_nonsense_is_not_believed(void **state)
{
    const char *dir = (const char *)*state;
    struct sensors s;
    put(dir, "class/thermal/thermal_zone0/temp", "hot\n");
    put(dir, "class/thermal/thermal_zone1/temp", "999999\n");
    put(dir, "class/thermal/thermal_zone2/temp", "");
    put(dir, "class/power_supply/mouse/type", "Battery\n");
    put(dir, "class/power_supply/mouse/scope", "Device\n");
    put(dir, "class/power_supply/mouse/capacity", "50\n");
    put(dir, "class/power_supply/BAT0/type", "Battery\n");
    put(dir, "class/power_supply/BAT0/capacity", "101\n");
    sensors_read(&s, dir);
    assert_false(s.has_temperature);
    assert_false(s.has_battery);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
        TEST(test_nothing_there_is_said_to_be_simulated),
        TEST(test_real_values),
        TEST(test_hwmon_when_there_is_no_zone_and_cold),
        TEST(test_nonsense_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
