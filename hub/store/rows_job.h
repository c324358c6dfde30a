/* hub/store/rows_job.h - rows of jobs: one for each job, and one for each device (or module) that it is
 * about. Part of store.h. The rows of the devices are the truth; the counts of a job are written with them.
 */
#ifndef ROOST_HUB_STORE_ROWS_JOB_H
#define ROOST_HUB_STORE_ROWS_JOB_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

struct store_tx;

#define FLEET_JOB_ID_MAX 64u

enum fleet_job_kind { FLEET_JOB_TWIN = 0, FLEET_JOB_METHOD, FLEET_JOB_EXPORT, FLEET_JOB_IMPORT };
enum fleet_job_state { /* those below FLEET_JOB_COMPLETED hold a slot */
                       FLEET_JOB_QUEUED = 0,
                       FLEET_JOB_SCHEDULED,
                       FLEET_JOB_RUNNING,
                       FLEET_JOB_COMPLETED,
                       FLEET_JOB_FAILED,
                       FLEET_JOB_CANCELLED
};
struct fleet_job_row {
    uint64_t seq; /* order of creation; given by the store */
    struct span id;
    uint8_t kind;          /* enum fleet_job_kind */
    uint8_t state;         /* enum fleet_job_state */
    bool open;             /* there is still work to do, if only to write down that it was not done */
    struct span condition; /* text as given; empty: every device */
    struct span body;      /* what is done: JSON as given */
    struct span reason;    /* why it failed; empty: it did not */
    struct span created_by;
    uint64_t created_ms, start_ms; /* wall; start_ms: when it is to begin */
    uint64_t began_ms, end_ms;     /* wall; 0: not yet */
    uint32_t max_s;                /* how long it may run */
    uint64_t cursor;               /* seq of the last identity that was looked at for the set of devices */
    bool selected;                 /* the set is complete */
    uint64_t total, succeeded, failed, running, canceled; /* devices; the rest is pending */
};
enum fleet_device_state {
    FLEET_DEVICE_PENDING = 0,
    FLEET_DEVICE_RUNNING,
    FLEET_DEVICE_COMPLETED,
    FLEET_DEVICE_FAILED,
    FLEET_DEVICE_CANCELED
};
struct fleet_device_row {
    uint64_t nr;         /* order of creation, over all jobs; given by the store */
    uint64_t job;        /* fleet_job_row.seq */
    struct span id;      /* identity: "device" or "device/module" */
    uint8_t state;       /* enum fleet_device_state */
    struct span outcome; /* JSON: what was answered, or why it failed; empty: nothing to tell */
    uint64_t created_ms; /* wall, like those that follow */
    uint64_t start_ms;   /* 0: not yet */
    uint64_t end_ms;     /* 0: not yet */
};

typedef enum err fleet_job_each(void *ctx, const struct fleet_job_row *r);
typedef enum err fleet_device_each(void *ctx, const struct fleet_device_row *r);

/* ERR_EXISTS. *seq: of the new row. */
MUST_USE enum err tx_fleet_job_add(struct store_tx *t, const struct fleet_job_row *r, uint64_t *seq);
MUST_USE enum err tx_fleet_job_get(struct store_tx *t, struct span id, struct fleet_job_row *out);
MUST_USE enum err tx_fleet_job_by_seq(struct store_tx *t, uint64_t seq, struct fleet_job_row *out);
/* Writes everything that changes: state, open, reason, began, end, cursor, selected, counts. */
MUST_USE enum err tx_fleet_job_put(struct store_tx *t, const struct fleet_job_row *r);
/* The newest first, those with seq < before (UINT64_MAX: all). kind and state -1: any. */
#define FLEET_JOB_REGISTRY (-2) /* as a kind: imports and exports */
struct fleet_job_filter {
    uint64_t before;
    int kind, state;
    size_t limit;
};
MUST_USE enum err tx_fleet_job_list(struct store_tx *t, const struct fleet_job_filter *f,
                                    fleet_job_each *each, void *ctx);
/* Those that are open, the oldest first. */
MUST_USE enum err tx_fleet_job_list_open(struct store_tx *t, fleet_job_each *each, void *ctx);
/* How many of these kinds are not finished. */
MUST_USE enum err tx_fleet_job_active(struct store_tx *t, int first_kind, int last_kind, uint64_t *nr);
/* The oldest one that is not open, when it ended before `before_ms` or when more than jobs_max jobs or
 * records_max records are kept. ERR_NOTFOUND: none has to go. */
MUST_USE enum err tx_fleet_job_outdated(struct store_tx *t, uint64_t before_ms, uint64_t jobs_max,
                                        uint64_t records_max, uint64_t *seq);
/* Deletes up to `limit` of its records, and the job once there are none; *gone says whether that is so. */
MUST_USE enum err tx_fleet_job_delete(struct store_tx *t, uint64_t seq, size_t limit, bool *gone);

/* Lines of an import that were refused, until they are written out; nr counts from 0 in each job. */
typedef enum err job_error_each(void *ctx, uint64_t nr, struct span text);
MUST_USE enum err tx_job_error_add(struct store_tx *t, uint64_t job, uint64_t nr, struct span text);
/* In order of nr, from `from` on, at most `limit`. */
MUST_USE enum err tx_job_error_list(struct store_tx *t, uint64_t job, uint64_t from, size_t limit,
                                    job_error_each *each, void *ctx);
/* Deletes up to `limit` that belong to no open job; *nr: how many. */
MUST_USE enum err tx_job_error_sweep(struct store_tx *t, size_t limit, uint64_t *nr);

MUST_USE enum err tx_fleet_device_add(struct store_tx *t, uint64_t job, struct span id, uint64_t created_ms);
/* Of a job, in this state, in order of nr. */
MUST_USE enum err tx_fleet_device_list(struct store_tx *t, uint64_t job, int state, size_t limit,
                                       fleet_device_each *each, void *ctx);
MUST_USE enum err tx_fleet_device_put(struct store_tx *t, const struct fleet_device_row *r);
/* Up to `limit` of a job go from one state to another, which is their end; *nr: how many. */
struct fleet_device_move {
    uint64_t job;
    int from, to;
    struct span outcome;
    uint64_t end_ms;
    size_t limit;
};
MUST_USE enum err tx_fleet_device_move(struct store_tx *t, const struct fleet_device_move *m, uint64_t *nr);
/* Records of all jobs, or of the one with this id, in order of nr, after after_nr, each with its job (id,
 * kind alone). */
typedef enum err fleet_record_each(void *ctx, const struct fleet_job_row *job,
                                   const struct fleet_device_row *r);
MUST_USE enum err tx_fleet_device_walk(struct store_tx *t, struct span job, uint64_t after_nr,
                                       fleet_record_each *each, void *ctx);

#endif
