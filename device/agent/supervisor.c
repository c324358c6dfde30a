/* device/agent/supervisor.c - see supervisor.h. */
#include "device/agent/supervisor.h"

#include "base/log.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define ARGS_MAX 66u

void supervisor_init(struct supervisor *s, const struct agent_app_config *cfg)
{
    *s = (struct supervisor){ .cfg = cfg };
}

static void forget(struct supervisor *s)
{
    for (size_t i = 0; s->env && s->env[i]; i++)
        free(s->env[i]);
    free(s->env);
    s->env = NULL;
    free(s->slot_dir);
    s->slot_dir = NULL;
}

static void end_now(struct child *c)
{
    if (!c->pid)
        return;
    child_sweep(c->pid);
    (void)waitpid(c->pid, &c->status, 0);
    c->pid = 0;
}

void supervisor_fini(struct supervisor *s)
{
    end_now(&s->app);
    end_now(&s->probe);
    forget(s);
}

/* `word` with {slot} and {app} replaced; the caller frees. */
static char *expand(const struct supervisor *s, const char *word)
{
    size_t cap = strlen(word) + 1, dir = strlen(s->slot_dir);
    for (const char *p = word; (p = strchr(p, '{')) != NULL; p++)
        cap += dir + 4;
    char *out = malloc(cap);
    struct wr w = { (uint8_t *)out, cap, 0 };
    if (!out)
        return NULL;
    while (*word) {
        bool slot = strncmp(word, "{slot}", 6) == 0, app = strncmp(word, "{app}", 5) == 0;
        if (slot || app)
            wr_str(&w, s->slot_dir);
        if (app)
            wr_str(&w, "/app");
        if (!slot && !app)
            wr_u8(&w, (uint8_t)*word);
        word += slot ? 6 : app ? 5 : 1;
    }
    wr_u8(&w, 0);
    return out;
}

/* Starts argv (or the app itself when there is none) in the slot's directory. */
static enum err launch(struct supervisor *s, struct child *c, char *const *words, unsigned nr)
{
    char *argv[ARGS_MAX] = { NULL };
    static char app[] = "{app}";
    char *alone[] = { app };
    enum err e = ERR_OK;
    if (!nr) {
        words = alone;
        nr = 1;
    }
    for (unsigned i = 0; i < nr && i + 1 < ARGS_MAX; i++)
        if (!(argv[i] = expand(s, words[i])))
            e = ERR_NOMEM;
    if (!e)
        e = child_start(c, argv, s->env, s->slot_dir);
    for (unsigned i = 0; i < ARGS_MAX; i++)
        free(argv[i]);
    return e;
}

enum err supervisor_run(struct supervisor *s, const char *slot_dir, const char *const env[], bool ask_health,
                        uint64_t now_ms)
{
    size_t n = 0;
    while (env[n])
        n++;
    forget(s);
    s->slot_dir = strdup(slot_dir);
    s->env = calloc(n + 1, sizeof *s->env);
    bool ok = s->slot_dir && s->env;
    for (size_t i = 0; ok && i < n; i++)
        ok = (s->env[i] = strdup(env[i])) != NULL;
    if (!ok) {
        forget(s);
        return ERR_NOMEM;
    }
    s->wanted = true;
    s->died = false;
    s->ask_health = ask_health;
    s->health = APP_UNKNOWN;
    s->deaths = s->ill_nr = 0;
    s->start_at = now_ms;
    supervisor_tick(s, now_ms);
    return ERR_OK;
}

void supervisor_stop(struct supervisor *s, uint64_t now_ms)
{
    s->wanted = false;
    s->ask_health = false;
    child_stop(&s->app, now_ms, s->cfg->stop_timeout_ms);
    child_stop(&s->probe, now_ms, 0);
}

bool supervisor_is_idle(const struct supervisor *s)
{
    return !s->app.pid && !s->probe.pid;
}

static uint32_t backoff(unsigned deaths)
{
    uint32_t ms = BACKOFF_MIN_MS;
    for (unsigned i = 1; i < deaths && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    return ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
}

static void app_ended(struct supervisor *s, uint64_t now_ms)
{
    int st = s->app.status;
    if (!s->wanted) {
        log_info("app.stopped", "%s", "");
        return;
    }
    /* One that ran for a minute has earned a fresh start of the back-off. */
    s->deaths = now_ms - s->started_ms >= BACKOFF_MAX_MS ? 1 : s->deaths + 1;
    s->died = true;
    s->health = APP_UNKNOWN;
    s->start_at = now_ms + backoff(s->deaths);
    log_warn("app.died", "%s=%d deaths=%u restart_ms=%u", WIFSIGNALED(st) ? "signal" : "exit",
             WIFSIGNALED(st) ? WTERMSIG(st) : WEXITSTATUS(st), s->deaths, backoff(s->deaths));
}

static void probe_ended(struct supervisor *s, uint64_t now_ms)
{
    bool well = WIFEXITED(s->probe.status) && WEXITSTATUS(s->probe.status) == 0;
    s->probe_at = now_ms + s->cfg->health_every_ms;
    s->probe_until = 0;
    if (!s->ask_health || !s->app.pid)
        return; /* the answer is about a run that is over */
    s->ill_nr = well ? 0 : s->ill_nr + 1;
    if (well)
        s->health = APP_WELL;
    else if (s->ill_nr >= s->cfg->health_tries)
        s->health = APP_ILL;
    log_info("app.health", "well=%d failures=%u", well, s->ill_nr);
}

void supervisor_reap(struct supervisor *s, uint64_t now_ms)
{
    if (child_reap(&s->app))
        app_ended(s, now_ms);
    if (child_reap(&s->probe))
        probe_ended(s, now_ms);
}

void supervisor_tick(struct supervisor *s, uint64_t now_ms)
{
    child_tick(&s->app, now_ms);
    child_tick(&s->probe, now_ms);
    if (s->wanted && !s->app.pid && now_ms >= s->start_at) {
        s->started_ms = now_ms;
        s->probe_at = now_ms + s->cfg->health_every_ms;
        if (launch(s, &s->app, s->cfg->command, s->cfg->command_nr) == ERR_OK)
            log_info("app.started", "pid=%d", (int)s->app.pid);
        else
            s->start_at = now_ms + backoff(++s->deaths);
    }
    if (!s->app.pid || !s->ask_health)
        return;
    if (!s->cfg->health_nr) {
        if (s->health == APP_UNKNOWN && now_ms - s->started_ms >= s->cfg->settle_ms)
            s->health = APP_WELL;
    } else if (s->probe.pid) {
        if (s->probe_until && now_ms >= s->probe_until) {
            s->probe_until = 0;
            child_stop(&s->probe, now_ms, 0); /* too slow is not well */
        }
    } else if (now_ms >= s->probe_at) {
        s->probe_at = now_ms + s->cfg->health_every_ms;
        if (launch(s, &s->probe, s->cfg->health, s->cfg->health_nr) == ERR_OK)
            s->probe_until = now_ms + s->cfg->health_timeout_ms;
    }
}

static void sooner(uint64_t *at, uint64_t t)
{
    if (t && t < *at)
        *at = t;
}

uint64_t supervisor_deadline(const struct supervisor *s)
{
    uint64_t at = UINT64_MAX;
    if (s->app.pid)
        sooner(&at, s->app.kill_at);
    if (s->probe.pid) {
        sooner(&at, s->probe.kill_at);
        sooner(&at, s->probe_until);
    }
    if (s->wanted && !s->app.pid)
        sooner(&at, s->start_at);
    if (s->app.pid && s->ask_health) {
        if (!s->cfg->health_nr && s->health == APP_UNKNOWN)
            sooner(&at, s->started_ms + s->cfg->settle_ms);
        if (s->cfg->health_nr && !s->probe.pid)
            sooner(&at, s->probe_at);
    }
    return at;
}
