/* hub/domain/update/deployment.h - one device and one release it should run: the hub's view, derived from
 * what the device reports it runs. A device never says "success"; it says what runs, and this file draws the
 * conclusion. Pure: no store, no clock. Source: docs/updates.md, "What the hub concludes".
 *
 *   ELIGIBLE > OFFERED > DOWNLOADING > STAGED > WAITING > ACTIVATING > PROBATION > CONFIRMED
 *
 * Rules: forward only within an attempt, except into an end state; every open state but ELIGIBLE has a
 * deadline; only faults of the device cost an attempt; CONFIRMED is not frozen; a report heals LOST. */
#ifndef ROOST_HUB_DOMAIN_UPDATE_DEPLOYMENT_H
#define ROOST_HUB_DOMAIN_UPDATE_DEPLOYMENT_H

#include "core/trust/report.h"
#include "hub/store/store.h"

#define DEPLOYMENT_ATTEMPTS_MAX      2u
#define DEPLOYMENT_RETRY_FREE_MS     60000u   /* after a failure that was nobody's fault */
#define DEPLOYMENT_RETRY_CHARGED_MS  300000u  /* after one of the device's */
#define DEPLOYMENT_RETRY_REVERTED_MS 3600000u /* after a trial that was rolled back */
#define DEPLOYMENT_REBOOT_MS         900000u
#define DEPLOYMENT_STALL_MS          1800000u /* on top of the download at 2 KB/s */

const char *deployment_state_name(unsigned state); /* "CONFIRMED" */
/* Not at an end: it may still move by itself. */
static inline bool deployment_is_open(unsigned state)
{
    return state < DEPLOYMENT_CONFIRMED;
}
/* At an end that no later offer of this hub will change. */
bool deployment_is_final(const struct deployment_row *row);

enum reason_class {
    REASON_IS_FREE,    /* try again soon; costs nothing: network, battery, a person, a clock */
    REASON_IS_CHARGED, /* the device's: costs an attempt */
    REASON_IS_REFUSAL  /* asking again would not help: the deployment is REJECTED */
};
enum reason_class reason_class_of(unsigned reason);

struct deployment_facts {
    const struct report *report;
    uint64_t now_ms;
    uint32_t checkin_s;   /* the interval devices are told */
    uint32_t probation_s; /* of the release */
    uint32_t release_seq; /* of the release; 0: unknown */
};
/* Moves the row (its scalars; spans are kept) to what the report proves. True when anything changed. */
bool deployment_derive(struct deployment_row *row, const struct deployment_facts *f);

/* May the device be given a ticket for this row now? */
bool deployment_may_offer(const struct deployment_row *row, const struct report *r, uint64_t now_ms);
/* A ticket with this number leaves: OFFERED, unless the device is further along with this attempt. */
void deployment_offer(struct deployment_row *row, const struct deployment_facts *f, uint32_t ticket_seq,
                      uint64_t bytes_total);
/* The deadline has passed. */
void deployment_expire(struct deployment_row *row, uint64_t now_ms);
/* The attempt that the next ticket starts or goes on with. */
static inline uint8_t deployment_attempt(const struct deployment_row *row)
{
    return (uint8_t)(row->attempts + 1);
}

#endif
