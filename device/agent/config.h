/* device/agent/config.h - the agent's configuration file: YAML, every value with a default but the bootstrap
 * string. Documented in docs/agent.md. To add a value: a member, a row in config.c, a line in the doc. */
#ifndef ROOST_DEVICE_AGENT_CONFIG_H
#define ROOST_DEVICE_AGENT_CONFIG_H

#include "core/trust/bootstrap_string.h"

#include <stdio.h>

struct agent_app_config {
    char **command; /* argv; "{app}" and "{slot}" are replaced in each word; NULL: the app itself */
    unsigned command_nr;
    char **health; /* argv; NULL: an app that keeps running is well */
    unsigned health_nr;
    uint32_t health_every_ms, health_timeout_ms, settle_ms, stop_timeout_ms;
    unsigned health_tries; /* failures in a row that give a trial up */
};
struct agent_config {
    void *raw;                   /* what libcyaml loaded; the strings below point into it */
    struct bootstrap_string hub; /* spans into raw */
    struct span product;         /* into raw */
    const char *state, *id, *token, *address, *socket, *sys, *log;
    uint16_t hw_class;
    uint8_t hw_rev;
    bool plain_http, supervise;
    uint32_t telemetry_every_ms, checkin_every_ms, backoff_min_ms, backoff_max_ms, slot_len;
    unsigned socket_mode;
    struct agent_app_config app;
};

/* Reads and checks. What is wrong is written to err with file, line and column. ERR_NOTFOUND, ERR_PROTO. */
MUST_USE enum err agent_config_load(struct agent_config *c, const char *path, FILE *err);
void agent_config_free(struct agent_config *c); /* accepts a zeroed one */

#endif
