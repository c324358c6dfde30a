/* hub/domain/update/deployment.c - from report to state. */
#include "hub/domain/update/deployment.h"

const char *deployment_state_name(unsigned state)
{
    static const char *const names[DEPLOYMENT_STATES] = {
        "ELIGIBLE",   "OFFERED",     "ACCEPTED",  "DOWNLOADING", "STAGED",     "WAITING",
        "ACTIVATING", "REBOOTING",   "PROBATION", "CONFIRMED",   "SKIPPED",    "REJECTED",
        "FAILED",     "ROLLED_BACK", "LOST",      "CANCELLED",   "SUPERSEDED", "EXPIRED",
    };
    return state < DEPLOYMENT_STATES ? names[state] : "UNKNOWN";
}

enum reason_class reason_class_of(unsigned reason)
{
    switch (reason) {
    case REASON_NONE:
    case REASON_NETWORK:
    case REASON_TRUST:              /* the records it misses come with the next check-in */
    case REASON_SIGNATURE_RELEASE:  /* so do the keys */
    case REASON_SIGNATURE_DIRECTOR: /* likewise */
    case REASON_USER:
    case REASON_BATTERY:
    case REASON_WINDOW:
    case REASON_TICKET_STALE:
        return REASON_IS_FREE;
    case REASON_SPACE:
    case REASON_COUNTER:
    case REASON_SEQUENCE:
    case REASON_HW_MISMATCH:
    case REASON_REQUIRES:
    case REASON_TICKET_DEVICE:
    case REASON_QUARANTINE:
    case REASON_FORMAT:
        return REASON_IS_REFUSAL;
    default:
        return REASON_IS_CHARGED;
    }
}

bool deployment_is_final(const struct deployment_row *row)
{
    switch (row->state) {
    case DEPLOYMENT_FAILED:
    case DEPLOYMENT_ROLLED_BACK:
        return row->attempts >= DEPLOYMENT_ATTEMPTS_MAX;
    default:
        return !deployment_is_open(row->state);
    }
}

/* ---- steps ------------------------------------------------------------------------------------------ */

static uint64_t deadline_of(unsigned state, const struct deployment_row *row,
                            const struct deployment_facts *f)
{
    uint64_t checkin_ms = (uint64_t)f->checkin_s * 1000;
    switch (state) {
    case DEPLOYMENT_OFFERED:
    case DEPLOYMENT_STAGED:
    case DEPLOYMENT_WAITING:
        return f->now_ms + 3 * checkin_ms;
    case DEPLOYMENT_ACCEPTED:
    case DEPLOYMENT_DOWNLOADING:
        return f->now_ms + row->bytes_total / 2 + DEPLOYMENT_STALL_MS; /* 2 KB/s: half a millisecond a byte */
    case DEPLOYMENT_ACTIVATING:
    case DEPLOYMENT_REBOOTING:
        return f->now_ms + DEPLOYMENT_REBOOT_MS;
    case DEPLOYMENT_PROBATION:
        return f->now_ms + (uint64_t)f->probation_s * 1000 + 2 * checkin_ms;
    default:
        return 0;
    }
}

static void enter(struct deployment_row *row, unsigned state, unsigned reason,
                  const struct deployment_facts *f)
{
    if (row->state == state && row->reason == reason)
        return;
    if (row->state != state)
        row->deadline_ms = deadline_of(state, row, f);
    row->state = (uint8_t)state;
    row->reason = (uint16_t)reason;
}

static void charge(struct deployment_row *row, unsigned state, unsigned reason, uint64_t retry_ms,
                   const struct deployment_facts *f)
{
    row->attempts++;
    enter(row, state, reason, f);
    row->deadline_ms = f->now_ms + retry_ms; /* not before */
    if (row->attempts >= DEPLOYMENT_ATTEMPTS_MAX) {
        row->reason = REASON_QUARANTINE; /* what went wrong is in the audit log and the report */
        row->deadline_ms = 0;
    }
}

static void roll_back(struct deployment_row *row, const struct deployment_facts *f)
{
    unsigned why = f->report->reason;
    charge(row, DEPLOYMENT_ROLLED_BACK, why == REASON_NONE ? REASON_BOOT : why, DEPLOYMENT_RETRY_REVERTED_MS,
           f);
}

static void fail(struct deployment_row *row, unsigned reason, const struct deployment_facts *f)
{
    switch (reason_class_of(reason)) {
    case REASON_IS_FREE:
        enter(row, DEPLOYMENT_FAILED, reason, f);
        row->deadline_ms = f->now_ms + DEPLOYMENT_RETRY_FREE_MS;
        break;
    case REASON_IS_CHARGED:
        charge(row, DEPLOYMENT_FAILED, reason, DEPLOYMENT_RETRY_CHARGED_MS, f);
        break;
    case REASON_IS_REFUSAL:
        enter(row, DEPLOYMENT_REJECTED, reason, f);
        break;
    }
}

/* ---- what a report proves --------------------------------------------------------------------------- */

static bool runs_target(const struct deployment_row *row, const struct report *r)
{
    return row->release.n == OBJECT_ID_LEN && span_eq(row->release, span_of(r->running, OBJECT_ID_LEN));
}

static bool is_about(const struct deployment_row *row, const struct report *r) /* this very attempt */
{
    return span_eq(row->campaign, span_of(r->campaign, CAMPAIGN_ID_LEN)) &&
           r->attempt == deployment_attempt(row);
}

static bool reverted_target(const struct deployment_row *row, const struct report *r)
{
    struct rd id = rd_of(row->release);
    return r->trial_release != 0 && r->state != DEVICE_TRIAL && rd_le32(&id) == r->trial_release && !id.bad;
}

static bool is_at_rest(const struct report *r)
{
    return r->state == DEVICE_IDLE || r->state == DEVICE_CHECKING;
}

/* The device's own state, as ours; ELIGIBLE: it says nothing about progress. */
static unsigned progress_of(const struct report *r)
{
    switch (r->state) {
    case DEVICE_DOWNLOADING:
    case DEVICE_VERIFYING:
        return DEPLOYMENT_DOWNLOADING;
    case DEVICE_STAGED:
        return DEPLOYMENT_STAGED;
    case DEVICE_DEFERRED:
        return DEPLOYMENT_WAITING;
    case DEVICE_ARMED:
        return DEPLOYMENT_ACTIVATING;
    default:
        return DEPLOYMENT_ELIGIBLE;
    }
}

static void follow_progress(struct deployment_row *row, const struct deployment_facts *f)
{
    const struct report *r = f->report;
    unsigned to = progress_of(r);
    bool moved = r->bytes_done > row->bytes_done;
    if (to == DEPLOYMENT_ELIGIBLE)
        return;
    if (r->bytes_total)
        row->bytes_total = r->bytes_total;
    row->bytes_done = r->bytes_done;
    if (deployment_is_open(row->state) && to < row->state)
        return; /* forward only */
    enter(row, to, r->reason, f);
    if (to == DEPLOYMENT_DOWNLOADING && moved)
        row->deadline_ms = deadline_of(to, row, f);
}

static void when_running(struct deployment_row *row, const struct deployment_facts *f)
{
    if (f->report->state == DEVICE_TRIAL || f->report->state == DEVICE_REVERTING) {
        if (row->state != DEPLOYMENT_CONFIRMED && row->state != DEPLOYMENT_SKIPPED)
            enter(row, DEPLOYMENT_PROBATION, f->report->reason, f);
        return;
    }
    if (row->state == DEPLOYMENT_ELIGIBLE && !row->ticket_seq)
        enter(row, DEPLOYMENT_SKIPPED, REASON_NONE, f);
    else if (row->state != DEPLOYMENT_SKIPPED)
        enter(row, DEPLOYMENT_CONFIRMED, REASON_NONE, f);
    row->deadline_ms = 0;
    row->bytes_done = row->bytes_total;
}

/* What a device says of the ticket itself, before it has stored anything of it. */
static bool refuses_ticket(unsigned reason)
{
    return reason_class_of(reason) == REASON_IS_REFUSAL || reason == REASON_TRUST ||
           reason == REASON_SIGNATURE_RELEASE || reason == REASON_SIGNATURE_DIRECTOR ||
           reason == REASON_TICKET_STALE;
}

static void before_activation(struct deployment_row *row, const struct deployment_facts *f)
{
    const struct report *r = f->report;
    if (is_about(row, r)) {
        if (r->state == DEVICE_REVERTING || (is_at_rest(r) && r->reason && reverted_target(row, r)))
            roll_back(row, f); /* it went through a whole trial between two reports */
        else if (is_at_rest(r) && r->reason)
            fail(row, r->reason, f);
        else if (is_at_rest(r) && row->state > DEPLOYMENT_ACCEPTED)
            enter(row, DEPLOYMENT_ELIGIBLE, REASON_NONE,
                  f); /* it lost its work: offered again, for nothing */
        else
            follow_progress(row, f);
        return;
    }
    /* It has not taken up this ticket. A refusal comes before the attempt is stored in the device, so it
     * cannot name it; whatever else it says is about something earlier. */
    if (!is_at_rest(r))
        return;
    if (row->state == DEPLOYMENT_OFFERED && refuses_ticket(r->reason))
        fail(row, r->reason, f);
    else if (row->state > DEPLOYMENT_ACCEPTED)
        enter(row, DEPLOYMENT_ELIGIBLE, REASON_NONE, f);
}

static void after_activation(struct deployment_row *row, const struct deployment_facts *f)
{
    const struct report *r = f->report;
    if (is_about(row, r) && progress_of(r) != DEPLOYMENT_ELIGIBLE) {
        /* Still armed, or its activation never began; a LOST one is healed by any sign of life. */
        if (row->state == DEPLOYMENT_LOST)
            follow_progress(row, f);
        return;
    }
    if (is_at_rest(r) || r->state == DEVICE_REVERTING || reverted_target(row, r))
        roll_back(row, f);
}

bool deployment_derive(struct deployment_row *row, const struct deployment_facts *f)
{
    const struct deployment_row was = *row;
    if (runs_target(row, f->report)) {
        when_running(row, f);
    } else {
        switch (row->state) {
        case DEPLOYMENT_OFFERED:
        case DEPLOYMENT_ACCEPTED:
        case DEPLOYMENT_DOWNLOADING:
        case DEPLOYMENT_STAGED:
        case DEPLOYMENT_WAITING:
            before_activation(row, f);
            break;
        case DEPLOYMENT_ACTIVATING:
        case DEPLOYMENT_REBOOTING:
        case DEPLOYMENT_PROBATION:
        case DEPLOYMENT_LOST:
            after_activation(row, f);
            break;
        case DEPLOYMENT_CONFIRMED: /* not frozen: a late fall-back counts */
            if (f->release_seq && f->report->release_seq > f->release_seq)
                enter(row, DEPLOYMENT_SUPERSEDED, REASON_NONE, f); /* something newer, not by this row */
            else
                roll_back(row, f);
            break;
        case DEPLOYMENT_SKIPPED:
            enter(row, DEPLOYMENT_ELIGIBLE, REASON_NONE, f);
            break;
        case DEPLOYMENT_ELIGIBLE: /* the offer ran out while it worked on it */
        case DEPLOYMENT_FAILED:   /* given up as stalled, but it goes on */
            if (row->ticket_seq && is_about(row, f->report))
                follow_progress(row, f);
            break;
        default:
            break;
        }
    }
    bool changed = was.state != row->state || was.reason != row->reason || was.attempts != row->attempts ||
                   was.bytes_done != row->bytes_done || was.bytes_total != row->bytes_total ||
                   was.deadline_ms != row->deadline_ms;
    if (changed)
        row->updated_ms = f->now_ms;
    return changed;
}

bool deployment_may_offer(const struct deployment_row *row, const struct report *r, uint64_t now_ms)
{
    if (r->state == DEVICE_ARMED || r->state == DEVICE_TRIAL || r->state == DEVICE_REVERTING)
        return false; /* busy with a boot: another ticket now would only confuse */
    switch (row->state) {
    case DEPLOYMENT_ELIGIBLE:
    case DEPLOYMENT_OFFERED:
    case DEPLOYMENT_ACCEPTED:
    case DEPLOYMENT_DOWNLOADING:
    case DEPLOYMENT_STAGED:
    case DEPLOYMENT_WAITING:
        return row->attempts < DEPLOYMENT_ATTEMPTS_MAX;
    case DEPLOYMENT_FAILED:
    case DEPLOYMENT_ROLLED_BACK:
        return row->attempts < DEPLOYMENT_ATTEMPTS_MAX && now_ms >= row->deadline_ms;
    default:
        return false;
    }
}

void deployment_offer(struct deployment_row *row, const struct deployment_facts *f, uint32_t ticket_seq,
                      uint64_t bytes_total)
{
    bool further = row->state > DEPLOYMENT_OFFERED && deployment_is_open(row->state);
    row->ticket_seq = ticket_seq;
    row->updated_ms = f->now_ms;
    if (further) {
        if (row->state == DEPLOYMENT_STAGED || row->state == DEPLOYMENT_WAITING)
            row->deadline_ms = deadline_of(row->state, row, f);
        return;
    }
    row->bytes_done = 0;
    row->bytes_total = bytes_total;
    row->state = DEPLOYMENT_OFFERED;
    row->reason = REASON_NONE;
    row->deadline_ms = deadline_of(DEPLOYMENT_OFFERED, row, f);
}

void deployment_expire(struct deployment_row *row, uint64_t now_ms)
{
    struct deployment_facts f = { .now_ms = now_ms };
    switch (row->state) {
    case DEPLOYMENT_OFFERED:
    case DEPLOYMENT_STAGED:
    case DEPLOYMENT_WAITING:
        enter(row, DEPLOYMENT_ELIGIBLE, REASON_NONE, &f);
        break;
    case DEPLOYMENT_ACCEPTED:
    case DEPLOYMENT_DOWNLOADING:
        fail(row, REASON_NETWORK, &f);
        break;
    case DEPLOYMENT_ACTIVATING:
    case DEPLOYMENT_REBOOTING:
    case DEPLOYMENT_PROBATION:
        enter(row, DEPLOYMENT_LOST, row->reason, &f);
        break;
    default:
        row->deadline_ms = 0;
        break;
    }
    row->updated_ms = now_ms;
}
