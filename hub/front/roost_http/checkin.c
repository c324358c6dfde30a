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
    j->state = arena_alloc(&j->a, sizeof(struct checkin_answer));
    if (!j->state)
        job_end_err(j, ERR_NOMEM);
    else
        job_write(j, decide, decided);
}

void checkin_post(struct http_req *r)
{
    static const struct job_call call = { .who = JOB_DEVICE, .start = start };
    job_start(r, &call);
}
