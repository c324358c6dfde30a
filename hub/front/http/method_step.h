/* hub/front/http/method_step.h - a direct method as a step of a job: what every front that offers them
 * shares, the timers of the request's worker and the answer as JSON text. */
#ifndef ROOST_HUB_FRONT_HTTP_METHOD_STEP_H
#define ROOST_HUB_FRONT_HTTP_METHOD_STEP_H

#include "hub/domain/method/method.h"
#include "hub/front/http/job.h"

/* The longest body of a request: the payload and what stands around it. */
#define METHOD_BODY_MAX (METHOD_PAYLOAD_MAX + 8192u)

struct method_step {
    struct method_call call; /* by the caller: device, module, name, payload, connect_ms, response_ms */
    struct span json;        /* in then(), when METHOD_ANSWERED: the device's answer as one JSON value */
    /* The step's own. */
    struct job *j;
    job_fn *then;
    struct timer timers[2];
};

/* s: zeroed, in the job's arena. A job whose error is set ends. Else then(j) comes once, with s->call.why and
 * what goes with it. The last thing its caller does. */
void job_method(struct job *j, struct method_step *s, job_fn *then);
/* {"status":S,"payload":...}, as j->bytes. False: no memory, and the error is set. */
bool method_step_answer(struct job *j, const struct method_step *s);

#endif
