/* hub/front/http/query_step.h - a query as steps of a request: opened on the worker, walked in slices on the
 * store's thread for long walks, answered when a page is whole. Each front says how. */
#ifndef ROOST_HUB_FRONT_HTTP_QUERY_STEP_H
#define ROOST_HUB_FRONT_HTTP_QUERY_STEP_H

#include "hub/domain/query/query.h"
#include "hub/front/http/job.h"

#define QUERY_RUNNING_MAX 64u           /* at once: each may hold a page in memory */
#define QUERY_BODY_MAX    (64u * 1024u) /* the longest query, wholly escaped, and a little besides */

struct query_job {
    struct query_run run;
    struct query_error err; /* after ERR_PROTO and ERR_LIMIT of query_job_open */
    bool again;
    job_fn *answer;
    void (*refuse)(struct job *j, const char *why);
};
/* j->state becomes the query's. As query_open, and ERR_FULL: QUERY_RUNNING_MAX run already; the job ends when
 * memory is short, and then this says ERR_NOMEM. After all others query_job_run follows; where the error is
 * set the job ends there. */
MUST_USE enum err query_job_open(struct job *j, struct span text, struct span continuation, uint32_t max,
                                 struct query_job **out);
/* The last thing its caller does. `refuse` is called on the store's thread for ERR_LIMIT: it sets the error.
 */
void query_job_run(struct job *j, job_fn *answer, void (*refuse)(struct job *j, const char *why));

#endif
