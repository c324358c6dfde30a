/* device/sim/sim_dev.c - drives one engine: time, flash, sockets in; requests, bytes, reboots out. */
#include "device/sim/shard.h"
#include "device/sim/sim_wire.h"

#include "base/log.h"
#include "device/slot.h"
#include "port/clock.h"
#include "port/crypto.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CHUNK_CAP  4096u
#define PACKET_CAP 2048u

const char *const sim_view_names[SIM_VIEWS] = {
    [ROOST_DEV_BOOTSTRAP] = "bootstrap", [ROOST_DEV_PENDING] = "pending", [ROOST_DEV_CHECKIN] = "checkin",
    [ROOST_DEV_UPDATE] = "update",       [ROOST_DEV_ONLINE] = "online",   [ROOST_DEV_BACKOFF] = "backoff",
    [ROOST_DEV_REBOOTING] = "rebooting", [SIM_VIEW_OFF] = "unplugged",    [SIM_VIEW_BOOTING] = "booting",
};

/* splitmix64: the simulator's choices, not secrets; the engine's randomness is the system's. */
static uint64_t draw(uint64_t *rng)
{
    uint64_t z = *rng += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double draw_unit(uint64_t *rng)
{
    return (double)(draw(rng) >> 11) / 9007199254740992.0;
}

/* ---- what the engine asks of us ---- */

static bool on_sample(void *ctx, struct wr *body)
{
    struct sim_dev *d = (struct sim_dev *)ctx;
    char text[160];
    double wave = sin((double)(d->shard->now_ms % 600000u) / 600000.0 * 6.283185307179586 + d->index);
    int n = snprintf(text, sizeof text,
                     "{\"temperature\":%.1f,\"battery\":%u,\"version\":\"%s\",\"simulated\":true}",
                     21.0 + 4.0 * wave + draw_unit(&d->rng), 100u - d->samples % 60u, d->version);
    if (n < 0 || (size_t)n >= sizeof text)
        return false;
    wr_put(body, span_of(text, (size_t)n));
    d->samples++;
    shard_count(d->shard, SIM_N_SAMPLES);
    return true;
}

static void on_facts(void *ctx, struct report *r)
{
    const struct sim_dev *d = (const struct sim_dev *)ctx;
    r->free_heap = 32768;
    r->largest_block = 20480;
    r->battery_pct = (uint8_t)(100u - d->samples % 60u);
    r->rssi_dbm = (int8_t)(-50 - (int)(d->index % 30u));
}

/* The version a slot's manifest names, for the summary and --until; empty when there is none. */
static void read_version(struct sim_dev *d, uint8_t slot)
{
    uint8_t raw[DEVICE_OBJECT_MAX];
    size_t n = 0, used = 0;
    struct envelope env;
    struct release r;
    d->version[0] = 0;
    if (slot > 1 || slot_manifest_read(d->flash, slot, raw, &n) != ERR_OK ||
        envelope_decode(span_of(raw, n), ENVELOPE_BODY_MAX_MCU, &env, &used) != ERR_OK ||
        release_decode(env.body, &r) != ERR_OK)
        return;
    memcpy(d->version, r.version.p, r.version.n);
    d->version[r.version.n] = 0;
}

static void adopt_running(struct sim_dev *d)
{
    memset(d->running, 0, sizeof d->running);
    if (d->boot.slot != BOOT_NO_SLOT)
        memcpy(d->running, d->boot.header.release_id, sizeof d->running);
    read_version(d, d->boot.slot);
}

static void on_event(void *ctx, enum roost_dev_event ev, uint32_t arg)
{
    struct sim_dev *d = (struct sim_dev *)ctx;
    switch (ev) {
    case ROOST_DEV_EV_PROGRESS:
        d->progress = arg;
        break;
    case ROOST_DEV_EV_REFUSED:
        d->refused++;
        d->last_reason = arg;
        shard_count(d->shard, SIM_N_REFUSED);
        break;
    case ROOST_DEV_EV_CONFIRMED:
        d->confirmed++;
        d->boot.trial = false;
        shard_count(d->shard, SIM_N_CONFIRMED);
        break;
    case ROOST_DEV_EV_REVERTED:
        d->last_reason = arg;
        if (d->rejections == d->boot.reject_nr)
            break; /* told at every boot until another image is tried */
        d->rejections = d->boot.reject_nr;
        d->reverted++;
        shard_count(d->shard, SIM_N_REVERTED);
        break;
    case ROOST_DEV_EV_HOMELESS:
        d->homeless++;
        shard_count(d->shard, SIM_N_HOMELESS);
        break;
    case ROOST_DEV_EV_SENT:
        d->acked++;
        shard_count(d->shard, SIM_N_ACKED);
        break;
    default:
        break;
    }
}

static void set_view(struct sim_dev *d)
{
    shard_view(d, d->power == SIM_OFF       ? SIM_VIEW_OFF
                  : d->power == SIM_BOOTING ? SIM_VIEW_BOOTING
                                            : (unsigned)roost_dev_phase(&d->engine));
}

/* ---- connections ---- */

void sim_dev_dial(struct sim_dev *d)
{
    if (d->power == SIM_RUNNING && d->engine_up)
        sim_wire_dial(d);
    else
        shard_dial_end(d->shard);
    sim_dev_run(d);
}

/* ---- power ---- */

static void power_off(struct sim_dev *d)
{
    sim_wire_http_gone(d);
    sim_wire_link_gone(d);
    list_del(&d->waiting);
    d->wants_dial = false;
    d->engine_up = false;
    d->crash_at = d->drop_at = 0;
}

static void start_boot(struct sim_dev *d, enum reset_cause cause)
{
    power_off(d);
    d->power = SIM_BOOTING;
    d->cause = (uint8_t)cause;
    d->boot_at = d->shard->now_ms + d->shard->opt->boot_ms;
    set_view(d);
}

/* Is this trial image one that does not come up? Decided once for a device and a release. */
static bool is_doomed(struct sim_dev *d)
{
    const uint8_t *id = d->boot.header.release_id;
    uint64_t h = d->shard->opt->seed;
    if (d->doomed_next) {
        d->doomed_next = false;
        memcpy(d->doomed, id, sizeof d->doomed);
    }
    if (memcmp(d->doomed, id, sizeof d->doomed) == 0)
        return true;
    for (unsigned i = 0; i < 8; i++)
        h = (h ^ id[i]) * 0x100000001b3u;
    h ^= (uint64_t)d->index << 32;
    return draw_unit(&h) < d->shard->opt->fail_boot;
}

static void arm_drop(struct sim_dev *d)
{
    double p = d->shard->opt->drop_link;
    d->drop_at = p > 0 ? d->shard->now_ms + 1 + (uint64_t)(-log(1.0 - draw_unit(&d->rng)) / p * 60000.0) : 0;
}

static void finish_boot(struct sim_dev *d)
{
    d->boots++;
    shard_count(d->shard, SIM_N_BOOTS);
    d->power = SIM_RUNNING;
    d->boot_at = 0;
    enum err e = boot_run(d->flash, &port_crypto, (enum reset_cause)d->cause, &d->boot);
    if (e) {
        log_error("sim.boot", "device=%s err=%s", d->id, err_name(e));
        d->power = SIM_OFF;
        set_view(d);
        return;
    }
    if (d->boots == 1)
        d->rejections = d->boot.reject_nr; /* of an earlier run, out of a flash file */
    adopt_running(d);
    if (d->boot.slot != BOOT_NO_SLOT && d->boot.trial && is_doomed(d)) {
        d->crash_at = d->shard->now_ms + 50;
        return;
    }
    e = roost_dev_init(&d->engine, &d->cfg, d->flash, &d->mem, &d->port, &d->boot, d->shard->now_ms,
                       (uint32_t)(clock_wall_ms() / 1000u));
    if (e) {
        log_error("sim.init", "device=%s err=%s", d->id, err_name(e));
        d->power = SIM_OFF;
        set_view(d);
        return;
    }
    d->engine_up = true;
    arm_drop(d);
    if (d->boot.trial)
        roost_dev_app_health(&d->engine, true);
}

void sim_dev_unplug(struct sim_dev *d)
{
    power_off(d);
    d->power = SIM_OFF;
    d->boot_at = 0;
    set_view(d);
    shard_arm(d, UINT64_MAX);
}

void sim_dev_plug(struct sim_dev *d)
{
    if (d->power != SIM_OFF)
        return;
    start_boot(d, RESET_POWER);
    shard_arm(d, d->boot_at);
}

void sim_dev_drop(struct sim_dev *d)
{
    if (!d->link)
        return;
    d->drops++;
    shard_count(d->shard, SIM_N_DROPS);
    sim_wire_link_end(d, ERR_IO);
    sim_dev_run(d);
}

/* ---- the turn ---- */

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return b && b < a ? b : a;
}

/* One round with the engine; true when another may have something to do. */
static bool turn(struct sim_dev *d)
{
    struct roost_dev_exchange x;
    struct roost_dev_link want;
    bool again = false;
    roost_dev_tick(&d->engine, d->shard->now_ms);
    while (roost_dev_exchange(&d->engine, &x)) {
        sim_wire_http_start(d, &x);
        again = true;
    }
    bool linked = roost_dev_link(&d->engine, &want);
    if (!linked && d->link) {
        if (d->link_open)
            (void)sim_wire_link_send(d); /* its goodbye, where that costs no waiting */
        sim_wire_link_gone(d);
        roost_dev_link_closed(&d->engine, ROOST_DEV_DONE, d->shard->now_ms);
        again = true;
    }
    if (d->link_open) {
        enum err e = sim_wire_link_send(d);
        if (e == ERR_OK || e == ERR_AGAIN) {
            shard_watch(d, SIM_WIRE_LINK, d->link);
        } else {
            sim_wire_link_end(d, e);
            again = true;
        }
    }
    if (sim_wire_needs_dial(d) && list_is_empty(&d->waiting) && shard_dial_begin(d)) {
        sim_wire_dial(d);
        again = true;
    }
    return again;
}

void sim_dev_run(struct sim_dev *d)
{
    uint64_t now = d->shard->now_ms;
    if (d->power == SIM_OFF)
        return;
    if (d->power == SIM_BOOTING && now >= d->boot_at)
        finish_boot(d);
    if (d->crash_at && now >= d->crash_at) {
        d->crashes++;
        shard_count(d->shard, SIM_N_CRASHES);
        start_boot(d, RESET_EXCEPTION);
    }
    if (d->power == SIM_RUNNING && d->engine_up) {
        if (d->drop_at && now >= d->drop_at) {
            arm_drop(d);
            if (d->link_open) {
                d->drops++;
                shard_count(d->shard, SIM_N_DROPS);
                sim_wire_link_end(d, ERR_IO);
            }
        }
        if (d->http && !d->http->busy && now >= d->http_idle_at)
            sim_wire_http_gone(d);
        for (unsigned i = 0; i < 16 && turn(d); i++)
            continue;
        if (d->engine_up && roost_dev_wants_reboot(&d->engine))
            start_boot(d, RESET_SOFT);
    }
    set_view(d);
    uint64_t at = UINT64_MAX;
    if (d->power == SIM_BOOTING)
        at = d->boot_at;
    else if (d->power == SIM_RUNNING && d->engine_up)
        at = earliest(earliest(roost_dev_deadline(&d->engine), d->drop_at),
                      d->http && !d->http->busy ? d->http_idle_at : 0);
    shard_arm(d, earliest(at, d->crash_at));
}

void sim_dev_ready(struct sim_dev *d, enum sim_wire wire)
{
    if (d->power != SIM_RUNNING || !d->engine_up)
        return;
    if (wire == SIM_WIRE_HTTP && d->http && d->http->conn)
        sim_wire_http_move(d);
    else if (wire == SIM_WIRE_LINK && d->link)
        sim_wire_link_move(d);
    sim_dev_run(d);
}

bool sim_dev_is(const struct sim_dev *d, const struct sim_options *o)
{
    if (d->power == SIM_OFF)
        return true; /* without power nobody waits for it */
    if (o->until == SIM_UNTIL_ONLINE)
        return d->view == ROOST_DEV_ONLINE;
    if (d->power != SIM_RUNNING || d->boot.trial)
        return false;
    if (strcmp(d->version, o->until_version) == 0)
        return true;
    return o->until == SIM_UNTIL_SETTLED && d->reverted > 0 && d->view == ROOST_DEV_ONLINE;
}

uint32_t sim_dev_erases(const struct sim_dev *d)
{
    uint32_t n = 0;
    const struct flash_geometry *g = &d->flash->geo;
    for (uint32_t i = 0; i < (g->slot[1] + g->slot_len) / g->sector_len; i++)
        n += d->wear[i];
    return n;
}

/* ---- life ---- */

enum err sim_dev_init(struct sim_dev *d, struct shard *s, unsigned index, uint8_t *cells, size_t len)
{
    const struct sim_options *o = s->opt;
    struct flash_geometry geo;
    char path[4096];
    size_t page_cap = 1024 + (o->slot_len / 4096u / CHUNK_FAN_OUT_DEFAULT + 1) * SHA256_LEN;
    memset(d, 0, sizeof *d);
    list_init(&d->waiting);
    d->shard = s;
    d->index = index;
    d->heap_at = SIZE_MAX;
    d->view = SIM_VIEW_OFF;
    d->cls = &o->classes[index % o->class_nr];
    d->rng = o->seed ^ (uint64_t)(index + 1) * 0xd1342543de82ef95u;
    snprintf(d->id, sizeof d->id, "%s%0*u", o->id_prefix, o->count > 10000 ? 6 : 4, index + 1);
    (void)flash_geometry_layout(&geo, 4096, 256, o->slot_len);
    d->mem = (struct roost_dev_mem){ .chunk_cap = CHUNK_CAP, .page_cap = page_cap, .packet_cap = PACKET_CAP };
    d->mem.chunk = malloc(CHUNK_CAP + page_cap + PACKET_CAP);
    d->wear = calloc(len / geo.sector_len, sizeof *d->wear);
    if (!d->mem.chunk || !d->wear)
        return ERR_NOMEM;
    d->mem.page = d->mem.chunk + CHUNK_CAP;
    d->mem.packet = d->mem.page + page_cap;
    if (cells) {
        flash_sim_init(&d->memory, &geo, cells, len, index + 1);
        d->memory.wear = d->wear;
        d->flash = &d->memory.base;
    } else {
        snprintf(path, sizeof path, "%s/%s.flash", o->flash_dir, d->id);
        if (o->blank)
            (void)remove(path);
        enum err e = flash_file_open(&d->file, path, &geo, len, false);
        if (e)
            return e;
        d->file.sim.wear = d->wear;
        d->flash = &d->file.sim.base;
    }
    d->cfg = (struct roost_dev_config){
        .bootstrap_url = o->hub.url,
        .has_ca_pin = true,
        .has_root_pin = o->hub.has_root,
        .product = d->cls->product,
        .hw_class = d->cls->hw_class,
        .hw_rev = d->cls->hw_rev,
        .proposed_id = span_str(d->id),
        .fleet_token = o->token ? span_str(o->token) : SPAN_NONE,
        .client_info = SPAN("roost-sim/" ROOST_VERSION),
        .telemetry_every_ms = o->telemetry_every_ms,
        .checkin_every_ms = o->checkin_every_ms,
        .backoff_min_ms = o->backoff_min_ms,
        .backoff_max_ms = o->backoff_max_ms,
        .keep_link = o->keep_link,
        .allow_plain_http = o->plain_http,
    };
    memcpy(d->cfg.ca_pin, o->hub.ca_pin, SHA256_LEN);
    memcpy(d->cfg.root_pin, o->hub.root_pin, SHA256_LEN);
    d->port = (struct roost_dev_port){
        .crypto = &port_crypto, .ctx = d, .sample = on_sample, .on_event = on_event, .facts = on_facts
    };
    return ERR_OK;
}

void sim_dev_fini(struct sim_dev *d)
{
    if (!d->shard)
        return;
    power_off(d);
    tls_session_free(d->http_session);
    tls_session_free(d->link_session);
    if (d->flash == &d->file.sim.base)
        flash_file_close(&d->file);
    free(d->mem.chunk);
    free(d->wear);
}
