/* hub/domain/job/registry_job.h - all identities with their twins as a file, and back: import and export
 * jobs. The files are blobs of one container of this hub, which devices never write to: an address of any
 * other place is refused, so the hub fetches nothing from anywhere.
 *
 *     registry_job_check -> registry_job_create (in run) -> registry_jobs_poke
 *       -> registry_run.c, on a thread of its own: exports page by page, imports batch by batch
 *
 * Lines of an import, what they refused and how far it is are one transaction, so a hub that is killed goes
 * on behind the last line that was applied. An export that was interrupted begins again.
 * Source of the rules: Azure IoT Hub, "Import and export IoT Hub device identities in bulk";
 * docs/registry.md.
 */
#ifndef ROOST_HUB_DOMAIN_JOB_REGISTRY_JOB_H
#define ROOST_HUB_DOMAIN_JOB_REGISTRY_JOB_H

#include "base/arena.h"
#include "hub/domain/hub.h"
#include "hub/domain/job/fleet_job.h"

#define REGISTRY_BLOB         "devices.txt"
#define REGISTRY_ERRORS_BLOB  "importErrors.log"
#define REGISTRY_CONFIGS_BLOB "configurations.txt"
#define REGISTRY_ERRORS_MAX   100000u /* refused lines of an import that are told; the others are counted */

struct registry_job_new { /* borrowed */
    uint8_t kind;         /* FLEET_JOB_EXPORT or FLEET_JOB_IMPORT */
    /* https://HOST/CONTAINER?signature; of an export only output; of an import without output it is input */
    struct span input, output;
    struct span input_blob, output_blob; /* empty: REGISTRY_BLOB */
    struct span errors_blob;             /* of an import; empty: REGISTRY_ERRORS_BLOB */
    bool configurations;                 /* a file of them as well */
    struct span configurations_blob;     /* empty: REGISTRY_CONFIGS_BLOB */
    struct span mode;                    /* of lines that name none; empty: "createOrUpdate" */
    bool exclude_keys;
    bool by_identity; /* no signatures are asked for: the container is the hub's own */
    struct span who;
};
enum registry_wrong { REGISTRY_BAD_ARGUMENT, REGISTRY_BAD_CONTAINER };
struct registry_job_fault {
    enum registry_wrong wrong;
    char text[400]; /* never a part of an address */
};
/* Any thread. ERR_PROTO: the fault says why. */
MUST_USE enum err registry_job_check(struct hub *h, struct arena *a, const struct registry_job_new *in,
                                     struct registry_job_fault *f);
/* In run() of a write, of one that was checked; afterwards registry_jobs_poke.
 *   ERR_LIMIT  another one runs      ERR_PROTO  the container has no such blob; the fault says so */
MUST_USE enum err registry_job_create(struct hub *h, struct store_tx *tx, struct arena *a,
                                      const struct registry_job_new *in, struct fleet_job_row *out,
                                      struct registry_job_fault *f);
/* ERR_NOTFOUND also for a job of another kind. Cancelled by fleet_job_cancel, and registry_jobs_poke. */
MUST_USE enum err registry_job_get(struct store_tx *tx, struct arena *a, struct span id,
                                   struct fleet_job_row *out);

/* What is stored as the job's body, read again. */
struct registry_job_body {
    struct span container, blob; /* what is read or written */
    struct span errors;          /* blob of the refused lines */
    struct span mode;
    struct span configurations; /* blob of them; empty: they are left out */
    /* Of an import: the bytes that were there when it was asked for, and how many. */
    uint8_t file[FILE_ID_LEN], configurations_file[FILE_ID_LEN];
    uint64_t length, configurations_length;
    bool exclude_keys, by_identity;
};
MUST_USE enum err registry_job_body(struct arena *a, struct span text, struct registry_job_body *out);
/* 0 to 100. */
unsigned registry_job_progress(const struct fleet_job_row *r, const struct registry_job_body *b);

/* ---- running them ------------------------------------------------------------------------------------- */

struct registry_jobs;
MUST_USE enum err registry_jobs_new(struct registry_jobs **out, struct hub *h);
/* Runs what there is, and what comes, until registry_jobs_stop. Blocks: on a thread of its own. */
void registry_jobs_serve(struct registry_jobs *r);
/* Any thread, once. What is under way goes on after the next start. */
void registry_jobs_stop(struct registry_jobs *r);
void registry_jobs_free(struct registry_jobs *r); /* after serve has returned; NULL is fine */
/* Any thread: there is something new to do. */
void registry_jobs_poke(struct hub *h);
/* What is open now, to its end, on the caller's thread: for tests. */
void registry_jobs_turn(struct registry_jobs *r);

#endif
