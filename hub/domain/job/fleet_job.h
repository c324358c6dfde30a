/* hub/domain/job/fleet_job.h - jobs: the same twin patch or method call for every device that a condition
 * selects, now or later, within a time. What a job is about, how far it is and what came of each device is in
 * the store alone, so a hub that is killed goes on where it was.
 *
 *     fleet_job_check -> fleet_job_create (in run) -> after the commit fleet_jobs_poke
 *       -> fleet_job_run.c: selects the devices, slice by slice, then patches or calls them, then ends the
 * job
 *
 * A twin patch and the record that it was done are one transaction. A call is recorded before it is made, and
 * one that was under way when the hub was killed is not made again: it failed, since nobody knows its
 * outcome. Source of the rules: Azure IoT Hub, "Schedule jobs on multiple devices". */
#ifndef ROOST_HUB_DOMAIN_JOB_FLEET_JOB_H
#define ROOST_HUB_DOMAIN_JOB_FLEET_JOB_H

#include "base/arena.h"
#include "hub/domain/hub.h"

#define FLEET_JOBS_ACTIVE_MAX   10u                    /* jobs that run or wait for their time */
#define FLEET_JOB_AHEAD_MAX_MS  (168ull * 3600 * 1000) /* a start may be this far away */
#define FLEET_JOB_RUN_DEFAULT_S 3600u
#define FLEET_JOB_RUN_MAX_S     (30u * 24 * 3600)
#define FLEET_JOB_KEEP_MS       (30ull * 24 * 3600 * 1000) /* history */
#define FLEET_JOBS_KEEP_MAX     10000u                     /* jobs of the history */
#define FLEET_RECORDS_KEEP_MAX  20000000u                  /* devices of all of them */
#define FLEET_JOB_OUTCOME_MAX   16384u                     /* bytes kept of what a device answered */
#define FLEET_JOB_CALLS_MAX     256u                       /* methods of one job under way at once */

struct fleet_job_new { /* borrowed */
    struct span id;
    uint8_t kind;          /* FLEET_JOB_TWIN or FLEET_JOB_METHOD */
    struct span condition; /* what follows WHERE; "*" or nothing: every device */
    /* A twin patch {"tags":{},"properties":{"desired":{}}}, or {"methodName":"x","payload":any,
     * "responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0}, all but the name optional. */
    struct span body;
    uint64_t start_ms; /* wall; 0: now */
    uint64_t max_s;    /* 0: FLEET_JOB_RUN_DEFAULT_S */
    struct span who;
};
struct fleet_job_fault { /* why it was refused, for people */
    char text[400];
};
/* Any thread. ERR_PROTO: the fault names what is wrong; ERR_NOMEM. A condition is not looked at: a job whose
 * condition cannot be understood fails when it starts. */
MUST_USE enum err fleet_job_check(struct hub *h, struct arena *a, const struct fleet_job_new *in,
                                  struct fleet_job_fault *f);
/* In run() of a write, of one that was checked; afterwards fleet_jobs_poke. *out lives in the arena.
 *   ERR_EXISTS  the id is in use      ERR_LIMIT  FLEET_JOBS_ACTIVE_MAX */
MUST_USE enum err fleet_job_create(struct hub *h, struct store_tx *tx, struct arena *a,
                                   const struct fleet_job_new *in, struct fleet_job_row *out);
MUST_USE enum err fleet_job_get(struct store_tx *tx, struct arena *a, struct span id,
                                struct fleet_job_row *out);
/* In run() of a write; afterwards fleet_jobs_poke. running: one that runs is stopped too; what it did to
 * devices until now stays, calls that are under way are still recorded.
 *   ERR_NOTFOUND      ERR_STALE  it has ended, or runs and may not be stopped */
MUST_USE enum err fleet_job_cancel(struct hub *h, struct store_tx *tx, struct arena *a, struct span id,
                                   bool running, struct span who, struct fleet_job_row *out);
MUST_USE enum err fleet_job_copy(struct arena *a, const struct fleet_job_row *in, struct fleet_job_row *out);

const char *fleet_job_kind_name(unsigned kind);   /* "scheduleUpdateTwin" */
const char *fleet_job_state_name(unsigned state); /* "queued" */
/* Without case. ERR_PROTO. */
MUST_USE enum err fleet_job_kind_parse(struct span text, int *kind);
MUST_USE enum err fleet_job_state_parse(struct span text, int *state);
static inline uint64_t fleet_job_pending(const struct fleet_job_row *r)
{
    return r->total - r->succeeded - r->failed - r->running - r->canceled;
}

/* struct query_sources.jobs: what came of each device, as a JSON document; of one job when its id is given.
 */
typedef enum err fleet_record_json(void *ctx, uint64_t seq, struct span json);
MUST_USE enum err fleet_job_records(struct store_tx *tx, struct span job, uint64_t after_seq,
                                    fleet_record_json *each, void *ctx);

/* ---- running them ------------------------------------------------------------------------------------- */

/* One a hub; all of it on the thread of `home`, except the poke. */
struct fleet_jobs_env {
    struct mailbox *home;
    void (*wake_in)(void *ctx,
                    uint32_t ms); /* calls fleet_jobs_tick then, instead of when it was asked before */
    void *ctx;
    uint64_t (*mono_ms)(void); /* what the rate of devices is counted by; on the store's thread too */
};
MUST_USE enum err fleet_jobs_new(struct fleet_jobs **out, struct hub *h, const struct fleet_jobs_env *env);
void fleet_jobs_tick(struct fleet_jobs *f); /* first at the start */
void fleet_jobs_free(struct fleet_jobs *f); /* when nothing of it is under way any more; NULL is fine */
/* Any thread: there is something new to do. */
void fleet_jobs_poke(struct hub *h);
/* The thread of home: is nothing under way in the store, on the bus or waiting for its time? */
bool fleet_jobs_idle(const struct fleet_jobs *f);

#endif
