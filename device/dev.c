/* device/dev.c - the engine: set up, driven by its clock, phase by phase. The other parts: dev_internal.h.
 * C99. */
#include "device/dev_internal.h"

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
    dirty |= trial_learn(d);
    if (dirty) {
        e = config_save(flash, &d->conf, &d->conf_pos);
        if (e)
            return e;
    }
    if (boot->trial)
        trial_init(d);
    d->checkin_ms = DEV_NEVER;
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
        d->next_ms = DEV_NEVER;
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
    uint64_t at = DEV_NEVER, link = link_deadline(d), trial = trial_deadline(d);
    if (d->reboot)
        return DEV_NEVER;
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
