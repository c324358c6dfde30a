/* hub/domain/job/registry_run.h - an import or export under way: what the files that run it share. All of it
 * is on the thread of registry_jobs_serve; a run() of its ops is on the store's, while that thread waits. */
#ifndef ROOST_HUB_DOMAIN_JOB_REGISTRY_RUN_H
#define ROOST_HUB_DOMAIN_JOB_REGISTRY_RUN_H

#include "hub/domain/job/registry_job.h"

struct registry_jobs {
    struct hub *h;
    struct mailbox mail; /* ops come home here, and the bell */
    struct op bell;
    _Atomic bool rung, stopping;
};

struct registry_run {
    struct registry_jobs *r;
    struct arena a;           /* of the row and the body */
    struct fleet_job_row row; /* as it was when the run began */
    struct registry_job_body body;
    uint64_t exported; /* identities */
    char reason[200];  /* why it failed; empty: it did not */
};

/* Steps: the op is handed over, and its outcome waited for. */
MUST_USE enum err registry_write(struct registry_jobs *r, struct store_op *op);
MUST_USE enum err registry_read(struct registry_jobs *r, struct store_op *op);
MUST_USE enum err registry_scan(struct registry_jobs *r, struct store_op *op);
/* Waits this long, or until there is something to look at. */
void registry_pause(struct registry_jobs *r, int ms);
bool registry_stopped(const struct registry_jobs *r);
/* In run(): the job's row. ERR_STALE: it is not running any more. */
MUST_USE enum err registry_job_now(struct registry_run *k, struct store_tx *tx, struct fleet_job_row *row);
void registry_fail(struct registry_run *k, const char *why); /* the first reason stays */

/* What a job writes: identities and configurations, or refused lines. */
#define REGISTRY_FILES 2u
struct registry_files {
    struct {
        struct file_writer *w; /* owned; NULL: there is none */
        struct span blob;      /* that it is to be */
    } of[REGISTRY_FILES];
};
void registry_files_discard(struct registry_files *files);

/* registry_import.c, registry_export.c. ERR_OK: done, or failed for a reason; ERR_STALE: cancelled;
 * ERR_STOPPED: the hub goes down; others: what the store or the disk said. */
MUST_USE enum err registry_import(struct registry_run *k);
MUST_USE enum err registry_export(struct registry_run *k, struct registry_files *out); /* empty: no files */

#endif
