/* hub/background.c - see background.h: the timers of what runs by itself, and the thread of imports. */
#include "hub/background.h"

#include "base/log.h"
#include "hub/domain/configuration/configuration.h"
#include "hub/domain/identity/presence.h"
#include "hub/domain/job/fleet_job.h"
#include "hub/domain/job/registry_job.h"
#include "hub/domain/query/query.h"
#include "port/clock.h"

#include <pthread.h>
#include <stdlib.h>

#define LEFT_MS 1000u

struct background {
    struct hub *hub;
    struct worker *worker;
    struct fleet_jobs *jobs;
    struct timer jobs_timer;
    struct configurations *configurations;
    struct timer configurations_timer;
    struct timer left_timer; /* until those of an earlier start are told of */
    _Atomic int left;
    struct query_sources *queries;
    struct query_index_build indexes;
    struct registry_jobs *registry;
    pthread_t registry_thread; /* files are read and written there, which blocks */
    bool registry_runs;
};

static void on_jobs_timer(struct timer *t)
{
    fleet_jobs_tick(CONTAINER_OF(t, struct background, jobs_timer)->jobs);
}

static void jobs_wake_in(void *ctx, uint32_t ms)
{
    struct background *b = ctx;
    timer_arm(b->worker, &b->jobs_timer, worker_now_ms(b->worker) + ms);
}

static void on_configurations_timer(struct timer *t)
{
    configurations_tick(CONTAINER_OF(t, struct background, configurations_timer)->configurations);
}

static void configurations_wake_in(void *ctx, uint32_t ms)
{
    struct background *b = ctx;
    timer_arm(b->worker, &b->configurations_timer, worker_now_ms(b->worker) + ms);
}

static void on_left_timer(struct timer *t)
{
    struct background *b = CONTAINER_OF(t, struct background, left_timer);
    presence_tell_left(b->hub, &b->left);
    if (atomic_load(&b->left) != LEFT_TOLD)
        timer_arm(b->worker, &b->left_timer, worker_now_ms(b->worker) + LEFT_MS);
}

enum err background_new(struct background **out, struct hub *hub, struct query_sources *queries,
                        struct worker *w)
{
    struct background *b = calloc(1, sizeof *b);
    if (!b)
        return ERR_NOMEM;
    b->hub = hub;
    b->worker = w;
    b->queries = queries;
    b->jobs_timer.on_timer = on_jobs_timer;
    struct fleet_jobs_env env = { worker_mailbox(w), jobs_wake_in, b, clock_mono_ms };
    enum err e = fleet_jobs_new(&b->jobs, hub, &env);
    if (!e) {
        b->configurations_timer.on_timer = on_configurations_timer;
        struct configurations_env ce = { worker_mailbox(w), configurations_wake_in, b };
        e = configurations_new(&b->configurations, hub, &ce);
    }
    if (!e && hub->files)
        e = registry_jobs_new(&b->registry, hub);
    if (e) {
        fleet_jobs_free(b->jobs);
        configurations_free(b->configurations);
        free(b);
        return e;
    }
    hub->registry = b->registry;
    hub->jobs = b->jobs;
    hub->configurations = b->configurations;
    *out = b;
    return ERR_OK;
}

static void *registry_main(void *arg)
{
    registry_jobs_serve(arg);
    return NULL;
}

void background_start(struct background *b)
{
    b->left_timer.on_timer = on_left_timer;
    timer_arm(b->worker, &b->left_timer, worker_now_ms(b->worker));
    if (b->registry && pthread_create(&b->registry_thread, NULL, registry_main, b->registry) == 0)
        b->registry_runs = true;
    else if (b->registry)
        log_error("registry.thread", "reason=\"no thread is to be had\" hint=\"imports and exports wait\"");
    jobs_wake_in(b, 0);
    configurations_wake_in(b, 0);
    query_indexes_build(&b->indexes, b->hub, b->queries, worker_mailbox(b->worker));
}

void background_stop(struct background *b)
{
    if (!b || !b->registry_runs)
        return;
    registry_jobs_stop(b->registry);
    pthread_join(b->registry_thread, NULL);
    b->registry_runs = false;
}

void background_free(struct background *b)
{
    if (!b)
        return;
    b->hub->jobs = NULL;
    b->hub->registry = NULL;
    b->hub->configurations = NULL;
    fleet_jobs_free(b->jobs);
    configurations_free(b->configurations);
    registry_jobs_free(b->registry);
    free(b);
}
