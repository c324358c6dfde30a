/* device/trial.c - the first boot of a new image: confirmed when it has shown what it must, sent back when it
 * has not; and which releases failed here before. C99. */
#include "device/dev_internal.h"

uint8_t dev_quarantine_failures(const struct roost_dev *d, const uint8_t digest[8])
{
    for (size_t i = 0; i < CONFIG_QUARANTINE_MAX; i++)
        if (d->conf.quarantine[i].failures && memcmp(d->conf.quarantine[i].digest, digest, 8) == 0)
            return d->conf.quarantine[i].failures;
    return 0;
}

static void quarantine_count(struct roost_dev *d, const uint8_t digest[8])
{
    struct quarantine *q = d->conf.quarantine;
    size_t at = CONFIG_QUARANTINE_MAX - 1; /* newest first; the oldest is forgotten */
    uint8_t failures = dev_quarantine_failures(d, digest);
    for (size_t i = 0; i < CONFIG_QUARANTINE_MAX; i++)
        if (!q[i].failures || memcmp(q[i].digest, digest, 8) == 0) {
            at = i;
            break;
        }
    memmove(q + 1, q, at * sizeof *q);
    memcpy(q[0].digest, digest, 8);
    q[0].failures = failures < 255 ? (uint8_t)(failures + 1) : failures;
}

void trial_init(struct roost_dev *d)
{
    size_t n = 0, used = 0;
    struct envelope env;
    struct release r;
    d->trial = true;
    d->probation_s = 0;
    d->confirm_checks = 0;
    /* The loader has just verified the manifest; its own words say how the trial goes. */
    if (slot_manifest_read(d->flash, d->boot.slot, d->ex.request, &n) == ERR_OK &&
        envelope_decode(span_of(d->ex.request, n), ENVELOPE_BODY_MAX_MCU, &env, &used) == ERR_OK &&
        release_decode(env.body, &r) == ERR_OK) {
        d->probation_s = r.probation_s;
        d->confirm_checks = r.confirm_checks;
    }
    if (d->cfg->confirm_app)
        d->confirm_checks |= CONFIRM_APP;
    d->trial_until_ms = d->now_ms + d->probation_s * 1000u + DEV_TRIAL_GRACE_MS;
}

/* A rejection the configuration does not know yet: count it against the release, twice is enough. */
bool trial_learn(struct roost_dev *d)
{
    if (!d->boot.reverted)
        return false;
    dev_event(d, ROOST_DEV_EV_REVERTED, d->boot.reject_reason);
    if (d->boot.reject_nr == d->conf.reject_nr)
        return false;
    d->conf.reject_nr = d->boot.reject_nr;
    d->conf.last_reason = d->boot.reject_reason;
    memcpy(d->conf.last_release, d->boot.rejected, sizeof d->conf.last_release);
    quarantine_count(d, d->boot.rejected);
    return true;
}

/* The journal's record is the commit point. The counter rises here and nowhere else. */
static void trial_confirm(struct roost_dev *d)
{
    if (boot_confirm(d->flash, d->boot.slot, d->boot.header.security_counter) != ERR_OK) {
        d->trial_until_ms = d->now_ms + 1000; /* flash did not take it: once more */
        return;
    }
    d->trial = false;
    if (d->boot.header.security_counter > d->boot.security_counter)
        d->boot.security_counter = d->boot.header.security_counter;
    if (d->conf.last_reason || d->conf.sequence_free) {
        d->conf.last_reason = REASON_NONE;
        d->conf.sequence_free = false;
        dev_save(d);
    }
    dev_event(d, ROOST_DEV_EV_CONFIRMED, d->boot.header.release_seq);
    d->checkin_due = true; /* the hub believes what we run, not what we were told */
}

static void trial_revert(struct roost_dev *d, enum reason reason)
{
    if (boot_reject(d->flash, d->boot.slot, (uint8_t)reason) != ERR_OK) {
        d->trial_until_ms = d->now_ms + 1000;
        return;
    }
    d->trial = false;
    link_stop(d, false);
    d->reboot = true;
    dev_phase(d, ROOST_DEV_REBOOTING, DEV_NEVER);
}

/* Confirm when everything held for the probation time. At the deadline: an image that reached nothing at
 * all, that the hub refuses, or whose application is not well goes back. A hub that is down, or that answers
 * with its own errors, is no reason: the trial goes on. */
void trial_tick(struct roost_dev *d)
{
    bool app_missing = (d->confirm_checks & CONFIRM_APP) && !d->app_well;
    if (!d->trial || d->reboot)
        return;
    if (d->app_ill) {
        trial_revert(d, REASON_PROBATION_APP);
        return;
    }
    if (d->trial_net && d->trial_hub && !app_missing && d->up_s >= d->probation_s) {
        trial_confirm(d);
        return;
    }
    if (d->now_ms < d->trial_until_ms)
        return;
    if (!d->trial_net)
        trial_revert(d, REASON_PROBATION_NET);
    else if (!d->trial_hub && d->trial_refused)
        trial_revert(d, REASON_PROBATION_HUB);
    else if (d->trial_hub && app_missing)
        trial_revert(d, REASON_PROBATION_APP);
    else
        d->trial_until_ms = d->now_ms + DEV_TRIAL_GRACE_MS;
}

uint64_t trial_deadline(const struct roost_dev *d)
{
    uint64_t at = d->trial_until_ms, probation = d->start_ms + d->probation_s * 1000u;
    if (!d->trial)
        return DEV_NEVER;
    if (d->app_ill)
        return d->now_ms;
    if (d->up_s < d->probation_s && probation < at)
        at = probation;
    else if (d->trial_net && d->trial_hub && (!(d->confirm_checks & CONFIRM_APP) || d->app_well))
        at = d->now_ms + 100 < at ? d->now_ms + 100 : at;
    return at;
}
