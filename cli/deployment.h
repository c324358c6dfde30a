/* cli/deployment.h - adding up how the devices of a campaign stand. */
#ifndef ROOST_CLI_DEPLOYMENT_H
#define ROOST_CLI_DEPLOYMENT_H

#include "cli/cli.h"

#include <jansson.h>

#define DEPLOYMENT_NAMES 18u
struct deployment_counts {
    uint64_t nr[DEPLOYMENT_NAMES]; /* by the table in deployment.c */
    uint64_t other;                /* states of a newer hub: not known to be final */
};
void deployment_counts_of(const json_t *counts, struct deployment_counts *out);
uint64_t deployment_good(const struct deployment_counts *c); /* confirmed, or ran it already */
bool deployment_is_good(const char *state);
/* "18 of 20 confirmed, 1 downloading, 1 rolled back" */
void deployment_line(const struct deployment_counts *c, uint64_t total, char *out, size_t cap);
json_t *deployment_json(const struct deployment_counts *c);
/* An exit code once everything is known of `total` devices, or the campaign's state says that it is over; -1
 * until then. */
int deployment_verdict(const struct deployment_counts *c, uint64_t total, const char *campaign_state);

/* Will the hub try this device again by itself? It charges two attempts at most. */
bool deployment_may_heal(const char *state, uint64_t attempts);

/* Does one of these releases (ids, out of a listing) fit "PRODUCT:CLASS:REV"? */
bool release_fits(const json_t *listing, const json_t *ids, const char *hardware);

#endif
