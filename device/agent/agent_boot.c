/* device/agent/agent_boot.c - a "reboot": the application is stopped, the boot loader decides, the engine
 * begins anew, and the application of the chosen slot is started. A trial image whose application dies is
 * a crash to the loader: it counts, and gives up after three. */
#include "device/agent/agent.h"

#include "base/log.h"
#include "base/text.h"
#include "device/agent/slots.h"
#include "port/clock.h"
#include "port/crypto.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define RETRY_MS 10000u /* making a slot's folder failed for want of room */

static const char *const phase_names[ROOST_DEV_PHASES] = {
    [ROOST_DEV_BOOTSTRAP] = "bootstrap", [ROOST_DEV_PENDING] = "pending", [ROOST_DEV_CHECKIN] = "checkin",
    [ROOST_DEV_UPDATE] = "update",       [ROOST_DEV_ONLINE] = "online",   [ROOST_DEV_BACKOFF] = "backoff",
    [ROOST_DEV_REBOOTING] = "rebooting",
};

void agent_write_status(struct agent *a)
{
    char path[4200], tmp[4300];
    uint8_t hex[2 * OBJECT_ID_LEN];
    struct wr w = { hex, sizeof hex, 0 };
    const char *phase = a->dev_up ? phase_names[roost_dev_phase(&a->dev)] : "stopped";
    struct span id = a->dev_up ? roost_dev_id(&a->dev) : SPAN_NONE;
    a->status_due = false;
    if (a->boot.slot != BOOT_NO_SLOT)
        hex_encode(&w, span_of(a->boot.header.release_id, OBJECT_ID_LEN));
    json_t *o = json_pack("{s:s%, s:s, s:s, s:s%, s:s, s:b, s:b, s:i, s:i, s:s, s:I}", "id",
                          id.n ? (const char *)id.p : "", id.n, "phase", phase, "version", a->version,
                          "release", (const char *)hex, w.len, "slot",
                          a->boot.slot == 0   ? "a"
                          : a->boot.slot == 1 ? "b"
                                              : "none",
                          "trial", a->boot.trial, "reverted", a->boot.reverted, "rejections",
                          (int)a->boot.reject_nr, "applicationPid", (int)a->app.app.pid, "rejectReason",
                          a->boot.reverted ? reason_name(a->boot.reject_reason) : "", "bytesFetched",
                          (json_int_t)a->fetch.bytes);
    char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    snprintf(path, sizeof path, "%s/status.json", a->cfg.state);
    snprintf(tmp, sizeof tmp, "%s.new", path);
    FILE *f = text ? fopen(tmp, "we") : NULL;
    if (f) {
        bool ok = fprintf(f, "%s\n", text) > 0;
        if (fclose(f) == 0 && ok)
            (void)rename(tmp, path);
    }
    free(text);
    (void)sd_notifyf(0, "STATUS=%s, application %s", phase, a->version[0] ? a->version : "none");
}

void agent_ask_boot(struct agent *a, enum reset_cause cause, uint32_t delay_ms)
{
    if (a->boot_due)
        return;
    a->boot_due = true;
    a->boot_cause = (uint8_t)cause;
    a->boot_at = a->now_ms + delay_ms;
    supervisor_stop(&a->app, a->now_ms);
}

static void engine_down(struct agent *a)
{
    if (!a->dev_up)
        return;
    fetch_cancel(&a->fetch);
    agent_link_close(a);
    a->dev_up = false;
}

/* Makes the folder of the slot that boots and starts its application. */
static void start_app(struct agent *a)
{
    static const char letters[] = "ab";
    char *dir = NULL;
    char version[64], socket[200], id[200], slot[32];
    a->make_at = 0;
    if (!a->cfg.supervise || a->boot.slot == BOOT_NO_SLOT)
        return;
    enum err e = slots_make(a->cfg.state, &a->flash.sim.base, &port_crypto, a->boot.slot, &a->boot.header,
                            a->package, &dir);
    if (!e) {
        struct span name = roost_dev_id(&a->dev);
        snprintf(version, sizeof version, "ROOST_VERSION=%s", a->version);
        snprintf(socket, sizeof socket, "ROOST_SOCKET=%s", a->cfg.socket);
        snprintf(id, sizeof id, "ROOST_DEVICE_ID=%.*s", (int)name.n, name.n ? (const char *)name.p : "");
        snprintf(slot, sizeof slot, "ROOST_SLOT=%c", letters[a->boot.slot & 1]);
        const char *env[] = { version, socket, id, slot, NULL };
        e = supervisor_run(&a->app, dir, env, a->boot.trial, a->now_ms);
        free(dir);
    }
    if (!e)
        return;
    log_error("agent.slot", "slot=%c err=%s", letters[a->boot.slot & 1], err_name(e));
    if (a->boot.trial) {
        a->told_ill = true;
        roost_dev_app_health(&a->dev, false);
    } else {
        a->make_at = a->now_ms + RETRY_MS;
    }
}

static void boot_now(struct agent *a)
{
    enum err e = boot_run(&a->flash.sim.base, &port_crypto, (enum reset_cause)a->boot_cause, &a->boot);
    a->boot_due = false;
    a->told_well = a->told_ill = false;
    a->version[0] = 0;
    a->package = false;
    if (!e && a->boot.slot != BOOT_NO_SLOT)
        (void)slots_manifest(&a->flash.sim.base, a->boot.slot, a->version, &a->package);
    if (!e)
        e = roost_dev_init(&a->dev, &a->dev_cfg, &a->flash.sim.base, &a->mem, &a->port, &a->boot, a->now_ms,
                           (uint32_t)(clock_wall_ms() / 1000u));
    if (e) {
        log_error("agent.boot", "err=%s", err_name(e));
        agent_ask_boot(a, RESET_EXCEPTION, RETRY_MS);
        return;
    }
    a->dev_up = true;
    log_info("agent.boot", "slot=%s version=%s trial=%d attempt=%u reverted=%d",
             a->boot.slot == BOOT_NO_SLOT ? "none"
             : a->boot.slot               ? "b"
                                          : "a",
             a->version, a->boot.trial, a->boot.attempt, a->boot.reverted);
    start_app(a);
    a->status_due = true;
}

void agent_boot_tick(struct agent *a)
{
    if (a->make_at && a->now_ms >= a->make_at)
        start_app(a);
    if (!a->boot_due)
        return;
    engine_down(a);
    if (supervisor_is_idle(&a->app) && a->now_ms >= a->boot_at)
        boot_now(a);
}

uint64_t agent_boot_deadline(const struct agent *a)
{
    uint64_t at = UINT64_MAX;
    if (a->boot_due && supervisor_is_idle(&a->app))
        at = a->boot_at;
    if (a->make_at && a->make_at < at)
        at = a->make_at;
    return at;
}

void agent_app_tick(struct agent *a)
{
    bool died = a->app.died;
    a->app.died = false;
    if (died)
        a->status_due = true;
    if (!a->dev_up || !a->boot.trial || a->boot_due)
        return;
    if (!a->cfg.supervise && !a->told_well) {
        a->told_well = true; /* nothing runs here that could be ill */
        roost_dev_app_health(&a->dev, true);
    }
    if (died) {
        /* As the reset of a chip: the loader counts it, and tries again or gives the image up. */
        agent_ask_boot(a, RESET_EXCEPTION, BACKOFF_MIN_MS);
    } else if (a->app.health == APP_WELL && !a->told_well) {
        a->told_well = true;
        roost_dev_app_health(&a->dev, true);
    } else if (a->app.health == APP_ILL && !a->told_ill) {
        a->told_ill = true;
        roost_dev_app_health(&a->dev, false);
    }
}
