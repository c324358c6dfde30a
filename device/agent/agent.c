/* device/agent/agent.c - see agent.h: start, the loop, stop. */
#include "device/agent/agent.h"

#include "base/log.h"
#include "base/text.h"
#include "port/clock.h"
#include "port/crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#define CHUNK_CAP  65536u
#define PACKET_CAP 16384u

/* ---- what the engine asks of us ---- */

static bool on_sample(void *ctx, struct wr *body)
{
    struct agent *a = (struct agent *)ctx;
    sensors_read(&a->sensors, a->cfg.sys);
    sensors_encode(body, &a->sensors, clock_wall_ms());
    return true;
}

static void on_facts(void *ctx, struct report *r)
{
    struct agent *a = (struct agent *)ctx;
    sensors_read(&a->sensors, a->cfg.sys);
    r->battery_pct = a->sensors.has_battery ? a->sensors.battery_pct : 255;
}

/* A message from the hub goes to the application, if one listens. */
static void on_message(void *ctx, struct span props, struct span body)
{
    struct agent *a = (struct agent *)ctx;
    json_t *text = json_stringn((const char *)body.p, body.n); /* NULL when it is not UTF-8 */
    json_t *o = json_object();
    json_object_set_new(o, "properties", json_stringn((const char *)props.p, props.n));
    if (text) {
        json_object_set_new(o, "body", text);
    } else {
        struct wr w = { malloc(body.n * 4 / 3 + 8), body.n * 4 / 3 + 8, 0 };
        if (w.p) {
            base64_encode(&w, body);
            json_object_set_new(o, "bodyBase64", json_stringn((const char *)w.p, w.len));
        }
        free(w.p);
    }
    char *line = json_dumps(o, JSON_COMPACT);
    size_t n = line ? strlen(line) : 0;
    json_decref(o);
    log_info("agent.message", "bytes=%zu", body.n);
    if (!line)
        return;
    line[n] = '\n'; /* its zero is not needed any more */
    appsock_tell(&a->sock, span_of(line, n + 1));
    free(line);
}

static void on_event(void *ctx, enum roost_dev_event ev, uint32_t arg)
{
    struct agent *a = (struct agent *)ctx;
    switch (ev) {
    case ROOST_DEV_EV_REFUSED:
        log_warn("update.refused", "reason=%s", reason_name(arg));
        break;
    case ROOST_DEV_EV_STAGED:
        log_info("update.staged", "bytes=%llu", (unsigned long long)a->fetch.bytes);
        break;
    case ROOST_DEV_EV_CONFIRMED:
        a->boot.trial = false;
        a->app.ask_health = false;
        log_info("update.confirmed", "version=%s", a->version);
        break;
    case ROOST_DEV_EV_REVERTED:
        log_warn("update.reverted", "reason=%s", reason_name(arg));
        break;
    case ROOST_DEV_EV_HOMELESS:
        log_warn("agent.homeless", "failures=%u", (unsigned)arg);
        break;
    default:
        break;
    }
    if (ev != ROOST_DEV_EV_PROGRESS && ev != ROOST_DEV_EV_SENT)
        a->status_due = true;
}

/* ---- start ---- */

static enum err make_folder(const char *path)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return ERR_OK;
    log_error("agent.state", "path=%s error=\"%s\"", path, strerror(errno));
    return ERR_IO;
}

/* The id to propose: configured, or made from this machine's id, which itself is nobody's business. */
static void choose_id(struct agent *a)
{
    static const sd_id128_t app = { { 0x6f, 0x3a, 0x51, 0x0c, 0x8e, 0x4b, 0x4d, 0x7e, 0x9a, 0x2f, 0xc1, 0xd0,
                                      0x55, 0x1e, 0x77, 0xb4 } };
    sd_id128_t m;
    uint8_t hex[13];
    struct wr w = { hex, 12, 0 };
    if (a->cfg.id) {
        snprintf(a->id, sizeof a->id, "%s", a->cfg.id);
        return;
    }
    if (sd_id128_get_machine_app_specific(app, &m) < 0) {
        a->id[0] = 0; /* the hub makes one */
        return;
    }
    hex_encode(&w, span_of(m.bytes, 6));
    hex[12] = 0;
    snprintf(a->id, sizeof a->id, "%.*s-%s", (int)a->cfg.product.n, (const char *)a->cfg.product.p,
             (char *)hex);
}

static void adopt_config(struct agent *a)
{
    static const char *const levels[] = { "error", "warn", "info", "debug" };
    const struct agent_config *c = &a->cfg;
    for (int i = 0; i < 4; i++)
        if (strcmp(levels[i], c->log) == 0)
            log_set_level((enum log_level)i);
    choose_id(a);
    a->dev_cfg = (struct roost_dev_config){
        .bootstrap_url = c->hub.url,
        .has_ca_pin = true,
        .has_root_pin = c->hub.has_root,
        .product = c->product,
        .hw_class = c->hw_class,
        .hw_rev = c->hw_rev,
        .proposed_id = span_str(a->id),
        .fleet_token = c->token ? span_str(c->token) : SPAN_NONE,
        .client_info = SPAN("roost-agent/" ROOST_VERSION),
        .telemetry_every_ms = c->telemetry_every_ms,
        .checkin_every_ms = c->checkin_every_ms,
        .backoff_min_ms = c->backoff_min_ms,
        .backoff_max_ms = c->backoff_max_ms,
        .keep_link = true,
        .confirm_app = true,
        .accept_package = true,
        .allow_plain_http = c->plain_http,
    };
    memcpy(a->dev_cfg.ca_pin, c->hub.ca_pin, SHA256_LEN);
    memcpy(a->dev_cfg.root_pin, c->hub.root_pin, SHA256_LEN);
    a->app.cfg = &a->cfg.app;
    a->fetch.address = c->address;
}

static enum err make_memory(struct agent *a)
{
    size_t page_cap = 2048 + (a->cfg.slot_len / 4096u / CHUNK_FAN_OUT_DEFAULT + 1) * SHA256_LEN;
    uint8_t *all = malloc(CHUNK_CAP + page_cap + PACKET_CAP);
    if (!all)
        return ERR_NOMEM;
    a->mem = (struct roost_dev_mem){ .chunk = all,
                                     .page = all + CHUNK_CAP,
                                     .packet = all + CHUNK_CAP + page_cap,
                                     .chunk_cap = CHUNK_CAP,
                                     .page_cap = page_cap,
                                     .packet_cap = PACKET_CAP };
    a->port = (struct roost_dev_port){ .crypto = &port_crypto,
                                       .ctx = a,
                                       .sample = on_sample,
                                       .on_message = on_message,
                                       .on_event = on_event,
                                       .facts = on_facts };
    return ERR_OK;
}

static enum err open_flash(struct agent *a)
{
    char path[4200];
    struct flash_geometry geo;
    size_t len = flash_geometry_layout(&geo, 4096, 256, a->cfg.slot_len);
    snprintf(path, sizeof path, "%s/flash.img", a->cfg.state);
    enum err e = flash_file_open(&a->flash, path, &geo, len, true);
    if (e == ERR_EXISTS)
        log_error("agent.state", "path=%s error=\"another agent uses it\"", path);
    if (e == ERR_LIMIT)
        log_error("agent.state",
                  "path=%s error=\"made with another slot-size: set it back, or remove the file "
                  "and begin blank\"",
                  path);
    return e;
}

static void load_ca(struct agent *a)
{
    char path[4200];
    uint8_t pem[8192];
    snprintf(path, sizeof path, "%s/ca.pem", a->cfg.state);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(pem, 1, sizeof pem, f) : 0;
    if (f)
        fclose(f);
    if (n && tls_client_store_ca(a->tls, span_of(pem, n)) != ERR_OK)
        log_warn("agent.ca", "path=%s error=\"not a certificate\"", path);
}

enum err agent_init(struct agent *a, const char *config_path, struct agent_config *cfg)
{
    sigset_t set;
    enum err e;
    memset(a, 0, sizeof *a);
    a->config_path = config_path;
    a->cfg = *cfg;
    memset(cfg, 0, sizeof *cfg);
    a->signal_fd = -1;
    a->flash.fd = a->sock.listen_fd = -1;
    a->now_ms = clock_mono_ms();
    a->boot.slot = BOOT_NO_SLOT;
    supervisor_init(&a->app, &a->cfg.app);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    if ((a->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return ERR_IO;
    if ((e = make_folder(a->cfg.state)) != ERR_OK || (e = open_flash(a)) != ERR_OK ||
        (e = make_memory(a)) != ERR_OK || (e = tls_client_new(&a->tls)) != ERR_OK ||
        (e = fetch_init(&a->fetch, a->tls, a->cfg.address)) != ERR_OK)
        return e;
    if (a->cfg.address && (e = tls_client_set_address(a->tls, a->cfg.address)) != ERR_OK) {
        log_error("agent.config", "address=%s error=\"not an address\"", a->cfg.address);
        return e;
    }
    load_ca(a);
    adopt_config(a);
    if ((e = appsock_open(&a->sock, a->cfg.socket, a->cfg.socket_mode, PACKET_CAP / 4)) != ERR_OK)
        return e;
    agent_ask_boot(a, RESET_POWER, 0);
    return ERR_OK;
}

void agent_fini(struct agent *a)
{
    supervisor_fini(&a->app);
    appsock_close(&a->sock);
    fetch_fini(&a->fetch);
    agent_link_close(a);
    tls_session_free(a->session);
    tls_client_free(a->tls);
    if (a->flash.sim.cells)
        flash_file_close(&a->flash);
    free(a->mem.chunk);
    if (a->signal_fd >= 0)
        close(a->signal_fd);
    agent_config_free(&a->cfg);
}

/* ---- the loop ---- */

static void reload(struct agent *a)
{
    struct agent_config fresh;
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_mono_ms() * 1000u);
    a->reload_due = false;
    if (agent_config_load(&fresh, a->config_path, stderr) != ERR_OK) {
        log_error("agent.reload", "%s", "error=\"the file is not used; the old values stay\"");
    } else if (strcmp(fresh.state, a->cfg.state) != 0 || fresh.slot_len != a->cfg.slot_len ||
               strcmp(fresh.socket, a->cfg.socket) != 0) {
        log_error("agent.reload", "%s", "error=\"state, slot-size and socket change only with a restart\"");
        agent_config_free(&fresh);
    } else {
        /* The engine borrows the old strings until it begins anew. */
        if (a->dev_up) {
            fetch_cancel(&a->fetch);
            agent_link_close(a);
            a->dev_up = false;
        }
        agent_config_free(&a->cfg);
        a->cfg = fresh;
        adopt_config(a);
        a->boot_due = false;
        agent_ask_boot(a, RESET_SOFT, 0);
        log_info("agent.reload", "%s", "");
    }
    (void)sd_notify(0, "READY=1");
}

static void take_signals(struct agent *a)
{
    struct signalfd_siginfo s;
    while (read(a->signal_fd, &s, sizeof s) == (ssize_t)sizeof s) {
        if (s.ssi_signo == SIGCHLD)
            supervisor_reap(&a->app, a->now_ms);
        else if (s.ssi_signo == SIGHUP)
            a->reload_due = true;
        else
            a->stopping = true;
    }
}

static void publish(struct agent *a)
{
    struct span body;
    while ((body = appsock_next(&a->sock)).n) {
        enum err e =
            roost_dev_publish(&a->dev, SPAN("$.ct=application%2Fjson&$.ce=utf-8&source=application"), body);
        if (e == ERR_AGAIN)
            return;
        if (e)
            log_warn("agent.publish", "err=%s bytes=%zu", err_name(e), body.n);
        appsock_pop(&a->sock);
    }
}

static void engine_turn(struct agent *a)
{
    struct roost_dev_exchange x;
    if (!a->dev_up)
        return;
    roost_dev_tick(&a->dev, a->now_ms);
    fetch_move(&a->fetch, a->now_ms);
    while (roost_dev_exchange(&a->dev, &x)) {
        fetch_start(&a->fetch, &a->dev, &x, a->now_ms);
        fetch_move(&a->fetch, a->now_ms);
    }
    publish(a);
    agent_link_move(a);
    if (roost_dev_wants_reboot(&a->dev))
        agent_ask_boot(a, RESET_SOFT, 0);
}

static void sooner(uint64_t *at, uint64_t t)
{
    if (t < *at)
        *at = t;
}

static void wait_for_something(struct agent *a)
{
    struct curl_waitfd fds[APPSOCK_CLIENT_MAX + 4];
    struct pollfd sock[APPSOCK_CLIENT_MAX + 1];
    unsigned nr = 0;
    int ready = 0;
    uint64_t at = a->now_ms + 30000;
    fds[nr++] = (struct curl_waitfd){ .fd = a->signal_fd, .events = CURL_WAIT_POLLIN };
    size_t sock_nr = appsock_poll(&a->sock, sock);
    for (size_t i = 0; i < sock_nr; i++)
        fds[nr++] = (struct curl_waitfd){ .fd = sock[i].fd, .events = CURL_WAIT_POLLIN };
    if (a->link && tls_conn_fd(a->link) >= 0) {
        uint32_t ev = tls_conn_events(a->link);
        fds[nr++] = (struct curl_waitfd){ .fd = tls_conn_fd(a->link),
                                          .events = (short)((ev & POLLIN ? CURL_WAIT_POLLIN : 0) |
                                                            (ev & POLLOUT ? CURL_WAIT_POLLOUT : 0)) };
    }
    sooner(&at, supervisor_deadline(&a->app));
    sooner(&at, agent_boot_deadline(a));
    if (a->dev_up)
        sooner(&at, roost_dev_deadline(&a->dev));
    if (a->notify_every)
        sooner(&at, a->notify_at);
    (void)curl_multi_poll(a->fetch.multi, fds, nr, at > a->now_ms ? (int)(at - a->now_ms) : 0, &ready);
    a->now_ms = clock_mono_ms();
    for (size_t i = 0; i < sock_nr; i++)
        sock[i].revents = fds[1 + i].revents ? POLLIN : 0;
    appsock_serve(&a->sock, sock, sock_nr);
}

static void watchdog(struct agent *a)
{
    if (!a->notify_every || a->now_ms < a->notify_at)
        return;
    (void)sd_notify(0, "WATCHDOG=1");
    a->notify_at = a->now_ms + a->notify_every;
}

/* The connections close, the application gets its grace. */
static void stop(struct agent *a)
{
    (void)sd_notify(0, "STOPPING=1");
    log_info("agent.stop", "%s", "");
    fetch_cancel(&a->fetch);
    agent_link_close(a);
    a->dev_up = false;
    supervisor_stop(&a->app, a->now_ms);
    while (!supervisor_is_idle(&a->app)) {
        struct pollfd p = { .fd = a->signal_fd, .events = POLLIN };
        uint64_t at = supervisor_deadline(&a->app);
        (void)poll(&p, 1, at <= a->now_ms ? 0 : at - a->now_ms > 1000 ? 1000 : (int)(at - a->now_ms));
        a->now_ms = clock_mono_ms();
        take_signals(a);
        supervisor_tick(&a->app, a->now_ms);
        watchdog(a);
    }
    agent_write_status(a);
}

int agent_run(struct agent *a)
{
    uint64_t usec = 0;
    if (sd_watchdog_enabled(0, &usec) > 0)
        a->notify_every = usec / 2000u;
    log_info("agent.start", "version=%s id=%s state=%s", ROOST_VERSION, a->id, a->cfg.state);
    (void)sd_notify(0, "READY=1");
    while (!a->stopping) {
        pid_t pid = a->app.app.pid;
        take_signals(a);
        supervisor_tick(&a->app, a->now_ms);
        agent_app_tick(a);
        /* On trial a reload would cost an attempt: it waits for the verdict. */
        if (a->reload_due && !(a->dev_up && a->boot.trial))
            reload(a);
        engine_turn(a);
        agent_boot_tick(a);
        if (a->status_due || pid != a->app.app.pid)
            agent_write_status(a);
        watchdog(a);
        if (!a->stopping)
            wait_for_something(a);
    }
    stop(a);
    return 0;
}
