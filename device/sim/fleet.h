/* device/sim/fleet.h - all shards together, as the main thread sees them: start, command, count, stop. */
#ifndef ROOST_DEVICE_SIM_FLEET_H
#define ROOST_DEVICE_SIM_FLEET_H

#include "device/sim/shard.h"

#include <jansson.h>

struct fleet {
    const struct sim_options *opt;
    struct shard *shards[SIM_THREAD_MAX];
    unsigned shard_nr;
    bool running;
    struct mailbox box; /* commands come home here */
    uint64_t started_ms, ended_ms;
    bool reached; /* --until came true */
};

MUST_USE enum err fleet_start(struct fleet *f, const struct sim_options *opt);
void fleet_stop(struct fleet *f); /* threads end; the devices can still be looked at */
void fleet_fini(struct fleet *f);

struct fleet_counts {
    uint32_t view[SIM_VIEWS];
    uint64_t count[SIM_COUNTERS];
    uint32_t there;
};
void fleet_counts(const struct fleet *f, struct fleet_counts *out);
bool fleet_is_there(const struct fleet *f, const struct fleet_counts *c); /* --until holds */

/* One line of the command protocol; the answer is one JSON object, which the caller frees.
 * *stop is set by "stop". */
json_t *fleet_command(struct fleet *f, const char *line, bool *stop);

/* The summary; `list`: with every device. After fleet_stop. */
json_t *fleet_summary(const struct fleet *f, bool list);
void fleet_print(const struct fleet *f, FILE *to); /* the same for people */
void fleet_progress(const struct fleet *f, const struct fleet_counts *c, FILE *to, bool terminal);

#endif
