/* device/dev.c - the engine's clock, phases and trial. The other parts: dev_internal.h. C99. */
#include "device/dev_internal.h"

#define NEVER UINT64_MAX

static uint32_t or_default(uint32_t v, uint32_t otherwise)
{
    return v ? v : otherwise;
}

void dev_event(struct roost_dev *d, enum roost_dev_event ev, uint32_t arg)
{
    if (d->port->on_event)
        d->port->on_event(d->port->ctx, ev, arg);
}

void dev_phase(struct roost_dev *d, enum roost_dev_phase p, uint64_t at_ms)
{
    d->next_ms = at_ms;
    if (d->phase == p)
        return;
    d->phase = (uint8_t)p;
    dev_event(d, ROOST_DEV_EV_PHASE, p);
}

uint32_t dev_random_below(struct roost_dev *d, uint32_t range)
{
    uint8_t b[2];
    uint32_t r, high = range >> 16, low = range & 0xffffu;
    d->port->crypto->random(b, sizeof b);
    r = (uint32_t)b[0] | (uint32_t)b[1] << 8;
    return high * r + (low * r >> 16); /* range * r / 2^16 in 32 bits */
}

uint32_t dev_wall(const struct roost_dev *d)
{
    return d->wall_known ? d->wall_off + d->up_s : 0;
}

bool dev_has_identity(const struct roost_dev *d)
{
    return d->conf.id_len && d->conf.key_len && d->conf.host_len && d->conf.checkin_len;
}

void dev_save(struct roost_dev *d)
{
    if (config_save(d->flash, &d->conf, &d->conf_pos) != ERR_OK)
        dev_refuse(d, REASON_FLASH_WRITE, NULL);
}

void dev_refuse(struct roost_dev *d, uint16_t reason, const uint8_t *digest)
{
    d->refused = reason;
    memset(d->refused_digest, 0, sizeof d->refused_digest);
    if (digest)
        memcpy(d->refused_digest, digest, sizeof d->refused_digest);
    dev_event(d, ROOST_DEV_EV_REFUSED, reason);
}

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

const uint8_t *dev_pin_of(struct roost_dev *d, struct span host, uint8_t room[SHA256_LEN])
{
    struct trust_record t;
    struct envelope env;
    if (dev_trust(d, &t, &env) == ERR_OK)
        for (uint8_t i = 0; i < t.home_nr; i++) {
            struct span a = t.home[i].address;
            if (t.home[i].has_pin && a.n >= host.n && span_ieq(span_of(a.p, host.n), host) &&
                (a.n == host.n || a.p[host.n] == ':')) {
                memcpy(room, t.home[i].ca_pin, SHA256_LEN);
                return room;
            }
        }
    if (!d->cfg->has_ca_pin)
        return NULL;
    memcpy(room, d->cfg->ca_pin, SHA256_LEN);
    return room;
}

/* ---- waiting and coming home ----------------------------------------------------------------------------
 */

void dev_backoff(struct roost_dev *d, enum roost_dev_phase after, unsigned failures, uint32_t retry_after_s)
{
    uint32_t low = or_default(d->cfg->backoff_min_ms, 1000),
             high = or_default(d->cfg->backoff_max_ms, 300000);
    uint32_t range = low;
    for (unsigned i = 1; i < failures && range < high; i++)
        range = range > high / 2 ? high : range * 2;
    if (range > high)
        range = high;
    if (retry_after_s > 86400)
        retry_after_s = 86400;
    d->after = (uint8_t)after;
    dev_phase(d, ROOST_DEV_BACKOFF, d->now_ms + retry_after_s * 1000u + dev_random_below(d, range) + 1);
}

/* The hub and the bootstrap address are tried in turn once the hub was missed often enough: either may be
 * the one that comes back. */
void dev_failed(struct roost_dev *d, uint32_t retry_after_s)
{
    bool homeless;
    if (d->failures < UINT16_MAX)
        d->failures++;
    homeless = d->failures >= DEV_HOMELESS_AFTER;
    link_stop(d, false);
    if (homeless)
        dev_event(d, ROOST_DEV_EV_HOMELESS, d->failures);
    dev_backoff(d, homeless ? ROOST_DEV_BOOTSTRAP : ROOST_DEV_CHECKIN, d->failures, retry_after_s);
}

void dev_refused_by_hub(struct roost_dev *d)
{
    if (d->failures < UINT16_MAX)
        d->failures++;
    link_stop(d, false);
    dev_event(d, ROOST_DEV_EV_HOMELESS, d->failures);
    dev_backoff(d, ROOST_DEV_BOOTSTRAP, d->failures, 0);
}

/* The period, give or take a fifth, so that a fleet switched on at once spreads out. */
void dev_checkin_schedule(struct roost_dev *d)
{
    uint32_t every = d->cfg->checkin_every_ms;
    if (!every && d->conf.checkin_s && d->conf.checkin_s <= 2000000u)
        every = d->conf.checkin_s * 1000u;
    every = or_default(every, 21600000u);
    d->checkin_ms = d->now_ms + every - every / 5 + dev_random_below(d, every / 5 * 2);
    d->checkin_due = false;
}

void dev_online(struct roost_dev *d)
{
    dev_phase(d, ROOST_DEV_ONLINE, NEVER);
    link_start(d);
}

/* ---- trial ----------------------------------------------------------------------------------------------
 */

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
    dev_phase(d, ROOST_DEV_REBOOTING, NEVER);
}

/* Confirm when everything held for the probation time. At the deadline: an image that reached nothing at
 * all, that the hub refuses, or whose application is not well goes back. A hub that is down, or that answers
 * with its own errors, is no reason: the trial goes on. */
static void trial_tick(struct roost_dev *d)
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

static uint64_t trial_deadline(const struct roost_dev *d)
{
    uint64_t at = d->trial_until_ms, probation = d->start_ms + d->probation_s * 1000u;
    if (!d->trial)
        return NEVER;
    if (d->app_ill)
        return d->now_ms;
    if (d->up_s < d->probation_s && probation < at)
        at = probation;
    else if (d->trial_net && d->trial_hub && (!(d->confirm_checks & CONFIRM_APP) || d->app_well))
        at = d->now_ms + 100 < at ? d->now_ms + 100 : at;
    return at;
}

/* ---- init ------------------------------------------------------------------------------------------------
 */

static void trial_init(struct roost_dev *d)
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
static bool revert_learn(struct roost_dev *d)
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

static bool config_is_usable(const struct roost_dev_config *c, const struct roost_dev_mem *m)
{
    return c->bootstrap_url.n && c->bootstrap_url.n <= CONFIG_URL_MAX && c->product.n &&
           c->product.n <= RELEASE_TEXT_MAX && c->proposed_id.n <= CONFIG_ID_MAX && c->fleet_token.n <= 256 &&
           c->client_info.n <= 64 && m->chunk_cap >= 4096 && m->page_cap >= 1024 && m->packet_cap >= 1024;
}

enum err roost_dev_init(struct roost_dev *d, const struct roost_dev_config *cfg, struct flash *flash,
                        const struct roost_dev_mem *mem, const struct roost_dev_port *port,
                        const struct boot_result *boot, uint64_t now_ms, uint32_t wall_s)
{
    uint8_t id[4];
    bool dirty;
    enum err e;
    struct rd r;
    if (!config_is_usable(cfg, mem))
        return ERR_LIMIT;
    memset(d, 0, sizeof *d);
    d->cfg = cfg;
    d->flash = flash;
    d->mem = mem;
    d->port = port;
    d->boot = *boot;
    d->now_ms = d->second_ms = d->start_ms = now_ms;
    d->wall_known = wall_s != 0;
    d->wall_off = wall_s;
    port->crypto->random(id, sizeof id);
    r = rd_of(span_of(id, sizeof id));
    d->boot_id = rd_le32(&r);
    d->phase = ROOST_DEV_PHASES; /* so that the first phase is an event */
    e = config_load(flash, &d->conf, &d->conf_pos);
    if (e)
        return e;
    dirty = d->conf_pos.unsettled;
    if (!d->conf.has_seed) {
        port->crypto->random(d->conf.seed, sizeof d->conf.seed);
        d->conf.has_seed = true;
        dirty = true;
    }
    dirty |= revert_learn(d);
    if (dirty) {
        e = config_save(flash, &d->conf, &d->conf_pos);
        if (e)
            return e;
    }
    if (boot->trial)
        trial_init(d);
    d->checkin_ms = NEVER;
    /* Without a clock no signature of ours could carry its expiry: the bootstrap answer tells the time. */
    dev_phase(d, dev_has_identity(d) && d->wall_known ? ROOST_DEV_CHECKIN : ROOST_DEV_BOOTSTRAP, now_ms);
    return ERR_OK;
}

/* ---- time ------------------------------------------------------------------------------------------------
 */

static void clock_move(struct roost_dev *d, uint64_t now_ms)
{
    if (now_ms < d->now_ms)
        return;
    d->now_ms = now_ms;
    while (now_ms - d->second_ms >= 1000) {
        uint64_t gap = now_ms - d->second_ms;
        uint32_t s = gap > 0x7fffffffu ? 0x7fffffffu / 1000u : (uint32_t)gap / 1000u;
        d->up_s += s;
        d->second_ms += s * 1000u;
    }
}

void roost_dev_wall(struct roost_dev *d, uint32_t wall_s, uint64_t now_ms)
{
    clock_move(d, now_ms);
    d->wall_known = wall_s != 0;
    d->wall_off = wall_s - d->up_s;
}

static void phase_act(struct roost_dev *d)
{
    switch ((enum roost_dev_phase)d->phase) {
    case ROOST_DEV_BACKOFF:
        if (d->after == ROOST_DEV_ONLINE)
            dev_online(d);
        else
            dev_phase(d, (enum roost_dev_phase)d->after, d->now_ms);
        break;
    case ROOST_DEV_BOOTSTRAP:
    case ROOST_DEV_PENDING:
        bootstrap_request(d);
        break;
    case ROOST_DEV_CHECKIN:
        checkin_request(d, false);
        break;
    case ROOST_DEV_UPDATE:
        update_step(d);
        break;
    default:
        d->next_ms = NEVER;
        break;
    }
}

void roost_dev_tick(struct roost_dev *d, uint64_t now_ms)
{
    clock_move(d, now_ms);
    if (d->reboot)
        return;
    if (d->ex.state == EX_OPEN && d->now_ms >= d->ex.deadline_ms)
        roost_dev_exchange_end(d, d->ex.x.id, ROOST_DEV_TIMED_OUT, now_ms);
    trial_tick(d);
    if (!d->reboot && d->phase == ROOST_DEV_ONLINE && d->ex.state == EX_IDLE &&
        (d->checkin_due || d->now_ms >= d->checkin_ms)) {
        d->checkin_due = false;
        dev_phase(d, ROOST_DEV_CHECKIN, d->now_ms);
    }
    for (int turns = 0; turns < 4 && !d->reboot && d->ex.state == EX_IDLE && d->now_ms >= d->next_ms; turns++)
        phase_act(d);
    link_tick(d);
}

uint64_t roost_dev_deadline(const struct roost_dev *d)
{
    uint64_t at = NEVER, link = link_deadline(d), trial = trial_deadline(d);
    if (d->reboot)
        return NEVER;
    if (d->ex.state == EX_OPEN)
        at = d->ex.deadline_ms;
    else if (d->ex.state == EX_READY)
        at = d->now_ms;
    else
        at = d->next_ms;
    if (d->phase == ROOST_DEV_ONLINE && d->ex.state == EX_IDLE) {
        if (d->checkin_ms < at)
            at = d->checkin_ms;
        if (d->checkin_due)
            at = d->now_ms;
    }
    if (link < at)
        at = link;
    if (trial < at)
        at = trial;
    return at;
}

/* ---- what the driver asks --------------------------------------------------------------------------------
 */

void roost_dev_app_health(struct roost_dev *d, bool well)
{
    d->app_well = well;
    if (!well && d->trial)
        d->app_ill = true;
}

bool roost_dev_wants_reboot(const struct roost_dev *d)
{
    return d->reboot;
}

enum roost_dev_phase roost_dev_phase(const struct roost_dev *d)
{
    return (enum roost_dev_phase)d->phase;
}

struct span roost_dev_id(const struct roost_dev *d)
{
    return span_of(d->conf.id, d->conf.id_len);
}
