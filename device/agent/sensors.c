/* device/agent/sensors.c - see sensors.h. Whatever cannot be read counts as not there. */
#include "device/agent/sensors.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

/* First line of dir/name/file. */
static bool read_line(const char *dir, const char *name, const char *file, char *out, size_t cap)
{
    char path[1024];
    if ((size_t)snprintf(path, sizeof path, "%s/%s/%s", dir, name, file) >= sizeof path)
        return false;
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(out, (int)cap, f);
    if (f)
        fclose(f);
    if (ok)
        out[strcspn(out, "\n")] = 0;
    return ok;
}

static bool read_number(const char *dir, const char *name, const char *file, long min, long max, long *out)
{
    char text[32], *end;
    if (!read_line(dir, name, file, text, sizeof text))
        return false;
    long v = strtol(text, &end, 10);
    if (end == text || *end || v < min || v > max)
        return false;
    *out = v;
    return true;
}

static int not_hidden(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

/* Calls take for each entry of sys/class, in the order of names, until one answers true. */
static bool each(const char *sys, const char *class,
                 bool (*take)(struct sensors *s, const char *dir, const char *name), struct sensors *s)
{
    char dir[512];
    struct dirent **list = NULL;
    bool done = false;
    snprintf(dir, sizeof dir, "%s/class/%s", sys, class);
    int n = scandir(dir, &list, not_hidden, versionsort);
    for (int i = 0; i < n; i++) {
        done = done || take(s, dir, list[i]->d_name);
        free(list[i]);
    }
    free(list);
    return done;
}

/* A sensor that is broken or asleep says 0 or something no machine survives. */
static bool take_temperature(struct sensors *s, const char *dir, const char *name, const char *file)
{
    long v;
    if (!read_number(dir, name, file, -60000, 150000, &v) || v == 0)
        return false;
    s->has_temperature = true;
    s->temperature_milli = (int32_t)v;
    return true;
}

static bool take_zone(struct sensors *s, const char *dir, const char *name)
{
    return strncmp(name, "thermal_zone", 12) == 0 && take_temperature(s, dir, name, "temp");
}

static bool take_hwmon(struct sensors *s, const char *dir, const char *name)
{
    return take_temperature(s, dir, name, "temp1_input");
}

static bool take_battery(struct sensors *s, const char *dir, const char *name)
{
    char type[32];
    long v;
    if (!read_line(dir, name, "type", type, sizeof type) || strcmp(type, "Battery") != 0)
        return false;
    /* A mouse's battery is not this machine's. */
    if (read_line(dir, name, "scope", type, sizeof type) && strcmp(type, "Device") == 0)
        return false;
    if (!read_number(dir, name, "capacity", 0, 100, &v))
        return false;
    s->has_battery = true;
    s->battery_pct = (uint8_t)v;
    return true;
}

void sensors_read(struct sensors *s, const char *sys)
{
    *s = (struct sensors){ .has_temperature = false };
    if (!each(sys, "thermal", take_zone, s))
        (void)each(sys, "hwmon", take_hwmon, s);
    (void)each(sys, "power_supply", take_battery, s);
}

void sensors_encode(struct wr *w, const struct sensors *s, uint64_t wall_ms)
{
    char text[192];
    /* Made-up values move slowly, so that a graph of them looks like one. */
    uint32_t minute = (uint32_t)(wall_ms / 60000u % 240u), slope = minute < 120 ? minute : 240 - minute;
    int32_t milli = s->has_temperature ? s->temperature_milli : 20000 + (int32_t)slope * 50;
    unsigned battery = s->has_battery ? s->battery_pct : 40u + slope / 2u;
    const char *made_up = s->has_temperature && s->has_battery ? ""
                          : s->has_temperature ? ",\"simulated\":true,\"simulatedValues\":[\"battery\"]"
                          : s->has_battery
                              ? ",\"simulated\":true,\"simulatedValues\":[\"temperature\"]"
                              : ",\"simulated\":true,\"simulatedValues\":[\"temperature\",\"battery\"]";
    int n = snprintf(text, sizeof text, "{\"temperature\":%s%d.%d,\"battery\":%u%s}", milli < 0 ? "-" : "",
                     abs(milli) / 1000, abs(milli) % 1000 / 100, battery, made_up);
    wr_put(w, span_of(text, (size_t)n));
}
