/* device/sim/options.h - what roost-sim was asked to do. */
#ifndef ROOST_DEVICE_SIM_OPTIONS_H
#define ROOST_DEVICE_SIM_OPTIONS_H

#include "core/trust/bootstrap_string.h"

#include <stdio.h>

#define SIM_CLASS_MAX   16u
#define SIM_COUNT_MAX   100000u
#define SIM_THREAD_MAX  16u
#define SIM_PRODUCT_MAX 24u

struct sim_class { /* dealt to the devices round robin */
    struct span product;
    uint16_t hw_class;
    uint8_t hw_rev;
};
enum sim_until { SIM_UNTIL_NONE, SIM_UNTIL_ONLINE, SIM_UNTIL_CONFIRMED, SIM_UNTIL_SETTLED };

struct sim_options {
    struct bootstrap_string hub;
    unsigned count, threads;
    struct sim_class classes[SIM_CLASS_MAX];
    unsigned class_nr;
    const char *address, *id_prefix, *token, *flash_dir, *control;
    const char *until_version;
    enum sim_until until;
    uint32_t telemetry_every_ms, checkin_every_ms, backoff_min_ms, backoff_max_ms, slot_len, boot_ms;
    double fail_boot, drop_link; /* 0..1; of trial boots, of connections a minute */
    uint64_t seed, duration_ms;
    unsigned start_rate; /* devices switched on a second */
    unsigned dials;      /* connections being opened at once, in all */
    bool blank, json, list, source_spread, keep_link, plain_http, quiet;
};

/* Exit codes of the program, and of options_parse. */
enum sim_exit { SIM_DONE = 0, SIM_USAGE = 1, SIM_NOT_REACHED = 6, SIM_HELP = -1 };

/* Fills *out (borrowing from argv). SIM_DONE; SIM_HELP: --help or --version were answered on `to`;
 * SIM_USAGE: what is wrong was said on `err`. */
int sim_options_parse(int argc, char **argv, struct sim_options *out, FILE *to, FILE *err);

#endif
