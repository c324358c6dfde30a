/* device/agent/supervisor.h - keeps the application of a slot running and asks whether it is well. Knows
 * processes and time, nothing of updates: it tells what happened, the agent decides. */
#ifndef ROOST_DEVICE_AGENT_SUPERVISOR_H
#define ROOST_DEVICE_AGENT_SUPERVISOR_H

#include "device/agent/child.h"
#include "device/agent/config.h"

#define BACKOFF_MIN_MS 500u
#define BACKOFF_MAX_MS 60000u

enum app_health { APP_UNKNOWN, APP_WELL, APP_ILL };

struct supervisor {
    const struct agent_app_config *cfg;
    struct child app, probe;
    char *slot_dir;  /* owned: of the slot that runs; NULL: nothing is to run */
    char **env;      /* owned: ROOST_* for the application */
    bool wanted;     /* it is to run */
    bool died;       /* it ended by itself since the last look; the agent resets it */
    bool ask_health; /* while on trial */
    uint8_t health;  /* enum app_health; of this run */
    unsigned deaths; /* in a row, for the back-off */
    unsigned ill_nr; /* failed probes in a row */
    uint64_t started_ms, start_at, probe_at, probe_until;
};

void supervisor_init(struct supervisor *s, const struct agent_app_config *cfg);
void supervisor_fini(struct supervisor *s); /* kills what still runs */
/* From now on the application in `slot_dir` is to run; the earlier one has been stopped before.
 * env: NULL-terminated "NAME=value" texts, copied. */
MUST_USE enum err supervisor_run(struct supervisor *s, const char *slot_dir, const char *const env[],
                                 bool ask_health, uint64_t now_ms);
void supervisor_stop(struct supervisor *s, uint64_t now_ms); /* begins to; see supervisor_is_idle */
bool supervisor_is_idle(const struct supervisor *s);         /* nothing of ours runs */
void supervisor_reap(struct supervisor *s, uint64_t now_ms); /* after SIGCHLD */
void supervisor_tick(struct supervisor *s, uint64_t now_ms);
uint64_t supervisor_deadline(const struct supervisor *s);

#endif
