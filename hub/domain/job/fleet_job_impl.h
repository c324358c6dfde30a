/* hub/domain/job/fleet_job_impl.h - what the files of fleet_job.h share. */
#ifndef ROOST_HUB_DOMAIN_JOB_FLEET_JOB_IMPL_H
#define ROOST_HUB_DOMAIN_JOB_FLEET_JOB_IMPL_H

#include "base/text.h"
#include "hub/domain/job/fleet_job.h"
#include "hub/domain/method/method.h"
#include "hub/domain/twin/twin.h"

struct fleet_method { /* in the arena */
    struct span name, payload;
    uint32_t response_ms, connect_ms;
};
/* The body of a method job. ERR_PROTO: the fault says why; ERR_NOMEM. */
MUST_USE enum err fleet_job_method(struct arena *a, struct span body, struct fleet_method *out,
                                   struct fleet_job_fault *f);

/* What is kept of a call's end: JSON for the record. In the arena. */
struct span fleet_job_outcome(struct arena *a, const struct method_call *m);
struct span fleet_job_error(struct arena *a, const char *code, const char *text);

#endif
