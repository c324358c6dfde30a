/* device/home.c - what phase the device is in, how long it waits, and its ways home when the hub is missing
 * or refuses it. C99. */
#include "device/dev_internal.h"

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

/* ---- the way home ---------------------------------------------------------------------------------------
 */

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
    dev_phase(d, ROOST_DEV_ONLINE, DEV_NEVER);
    link_start(d);
}
