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
    struct span json;        /* in then(): the device's answer as one JSON value */
    /* The step's own. */
    struct job *j;
    void (*refuse)(struct job *j, const struct method_call *m);
    job_fn *then;
    struct timer timers[2];
};

/* s: zeroed, j->state. A job whose error is set ends. Else the device is called, and then(j) comes when it
 * has answered. Where it has not, `refuse` sets the error that m->why is in its front, and the job ends;
 * where it sets none it ends for m->err. The last thing its caller does. */
void job_method(struct job *j, struct method_step *s,
                void (*refuse)(struct job *j, const struct method_call *m), job_fn *then);
/* A `then`: ends the job with {"status":S,"payload":...}. */
void method_step_end(struct job *j);

#endif
