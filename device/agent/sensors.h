/* device/agent/sensors.h - temperature and battery of this machine, as Linux shows them under /sys. */
#ifndef ROOST_DEVICE_AGENT_SENSORS_H
#define ROOST_DEVICE_AGENT_SENSORS_H

#include "base/span.h"

struct sensors {
    bool has_temperature, has_battery;
    int32_t temperature_milli; /* degrees Celsius */
    uint8_t battery_pct;
};
/* Looks below `sys` ("/sys"): thermal zones first, then hwmon; the first battery that is present. */
void sensors_read(struct sensors *s, const char *sys);
/* A telemetry body. What the machine cannot tell is made up from the time and named in "simulatedValues",
 * with "simulated": true beside it. */
void sensors_encode(struct wr *w, const struct sensors *s, uint64_t wall_ms);

#endif
