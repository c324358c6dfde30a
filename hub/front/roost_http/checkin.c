/* hub/front/roost_http/checkin.c - POST /roost/v1/checkin: a report in, a bundle of signed objects out. */
#include "hub/domain/metrics.h"
#include "hub/domain/update/campaign.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

static enum err decide(struct job *j, struct store_tx *tx)
{
    enum err e = checkin_decide(j->h, tx, &j->a, j->who, j->r->body, j->state);
    if (e == ERR_PROTO)
        return JOB_REFUSE(j, 400, "bad-report", "the body is not a device report");
    if (e == ERR_NOTFOUND) /* deleted since its credentials were checked */
        return JOB_REFUSE(j, 401, "unauthorized", "the device is not known any more: bootstrap again");
    return e;
}

static void decided(struct job *j)
{
    struct checkin_answer *a = j->state;
    METRIC_ADD(j->h, checkins_total, 1);
    if (a->announce)
        identity_announce(j->h, j->who);
    enum err e = checkin_bundle(j->h, &j->a, a, &j->bytes);
    if (e) {
        job_end_err(j, e);
        return;
    }
    if (a->release.n)
        METRIC_ADD(j->h, tickets_total, 1);
    if (j->bytes.n)
        j->bytes_type = "application/vnd.roost.bundle";
    job_end(j); /* nothing to do: 204 */
}

static void start(struct job *j)
{
    if (job_state(j, sizeof(struct checkin_answer)))
        job_write(j, decide, decided);
}

JOB_HANDLER(checkin_post, .who = JOB_DEVICE, .start = start);
