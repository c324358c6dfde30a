/* hub/domain/job/fleet_job_run.h - a job under way: what the files that run jobs share.
 *
 * A run belongs to the thread of fleet_jobs_env.home. While its op is out, the store's thread alone touches
 * what the op uses: the page, the row in `next`, and those calls that are in `flush` and `room`. */
#ifndef ROOST_HUB_DOMAIN_JOB_FLEET_JOB_RUN_H
#define ROOST_HUB_DOMAIN_JOB_FLEET_JOB_RUN_H

#include "hub/domain/job/fleet_job_impl.h"
#include "hub/domain/query/query.h"

#define FLEET_PAGE_MAX 1000u /* devices that are added in one transaction */
#define FLEET_RUNS_MAX 32u   /* jobs under way or waiting; those beyond wait for one to end */

enum fleet_call_state { FLEET_CALL_FREE, FLEET_CALL_CLAIMED, FLEET_CALL_BUSY, FLEET_CALL_DONE };
struct fleet_call {
    struct method_call m;
    struct fleet_run *run;
    uint8_t state;     /* enum fleet_call_state */
    uint64_t nr;       /* of the record */
    uint64_t at_ms[2]; /* wall: when a timer ends; 0: it does not run */
    uint64_t start_ms, end_ms;
    bool answered;
    struct arena a; /* of the outcome */
    struct span outcome;
    uint16_t id_len;
    uint8_t id[2 * DEVICE_ID_MAX + 1];
};

struct fleet_run {
    struct store_op op; /* first */
    struct fleet_jobs *f;
    struct fleet_run *next_run;
    struct arena a;            /* row, condition, patch: as long as the run */
    struct fleet_job_row row;  /* as last written */
    struct fleet_job_row next; /* as the op at hand writes it */
    char bad[400];             /* why it cannot be run; empty: it can */
    struct query_condition *condition;
    struct query_walk walk;
    struct twin_patch patch;
    struct fleet_method method;
    bool busy;  /* the op is out */
    bool retry; /* the store refused: later */
    bool fresh; /* nothing was written yet: calls that the record knows of are not of this start */
    bool seen;  /* in the list of open jobs */
    bool over;  /* nothing more to do */
    uint64_t slow_until_ms; /* mono: the rate of devices lets no other one through until then */
    /* devices that were selected and are not recorded yet */
    struct arena page_a;
    struct span page[FLEET_PAGE_MAX];
    size_t page_nr;
    uint64_t page_seq;
    bool page_ready, page_last;
    /* calls */
    struct fleet_call *calls; /* FLEET_JOB_CALLS_MAX; NULL in other jobs */
    unsigned in_flight, done;
    struct fleet_call *flush[FLEET_JOB_CALLS_MAX], *room[FLEET_JOB_CALLS_MAX];
    unsigned flush_nr, room_nr, claimed_nr;
};

struct fleet_jobs {
    struct hub *h;
    struct fleet_jobs_env env;
    struct op poke;
    _Atomic bool poked;
    struct store_op look; /* which jobs are open */
    bool looking, look_again, stopped;
    struct arena look_a;
    struct fleet_job_row open[FLEET_RUNS_MAX];
    size_t open_nr;
    struct fleet_run *runs;
    struct store_op sweep;
    bool sweeping, sweep_more;
    uint64_t swept_ms;
    uint64_t wake_at_ms; /* wall; 0: nothing asked for */
};

/* fleet_job_turn.c: the run() of its ops. */
enum err fleet_run_select(struct store_tx *tx, struct store_op *self); /* a page, read */
enum err fleet_run_turn(struct store_tx *tx, struct store_op *self);   /* whatever is next, written */
bool fleet_run_time_is_over(const struct fleet_run *k, const struct fleet_job_row *r, uint64_t now_ms);

/* fleet_job_call.c: calls of a method job. */
void fleet_call_start(struct fleet_call *c);
void fleet_call_look(struct fleet_call *c, uint64_t now_ms); /* at its timers */
void fleet_run_on_call(struct fleet_call *c);                /* fleet_job_run.c: it has ended */

#endif
