/* hub/front/http/query_step.c - the steps of query_step.h. */
#include "hub/front/http/query_step.h"

static void give_back(struct job *j)
{
    atomic_fetch_sub(&j->h->queries_running, 1);
}

enum err query_job_open(struct job *j, struct span text, struct span continuation, uint32_t max,
                        struct query_job **out)
{
    struct query_job *q = arena_alloc(&j->a, sizeof *q);
    struct span kept = arena_copy(&j->a, text), from = arena_copy(&j->a, continuation);
    enum err e = q ? arena_err(&j->a) : ERR_NOMEM;
    if (!e)
        e = query_open(&q->run, j->h, &j->a, kept, from, max, &q->err);
    if (!e && atomic_fetch_add(&j->h->queries_running, 1) >= QUERY_RUNNING_MAX) {
        give_back(j);
        e = ERR_FULL;
    } else if (!e) {
        j->on_release = give_back; /* whatever comes of it: a step may never run */
    }
    if (e == ERR_NOMEM) {
        job_end_err(j, e);
        return e;
    }
    j->state = q;
    *out = q;
    return e;
}

static enum err step(struct job *j, struct store_tx *tx)
{
    struct query_job *q = j->state;
    enum err e = query_step(&q->run, tx);
    q->again = e == ERR_AGAIN;
    if (q->again)
        return ERR_OK;
    if (e == ERR_LIMIT) {
        q->refuse(j, q->run.refused);
        e = ERR_DENIED;
    }
    return e;
}

static void stepped(struct job *j)
{
    struct query_job *q = j->state;
    if (!q->again) {
        q->answer(j);
    } else if (j->r->conn) {
        job_scan(j, step, stepped);
    } else { /* whoever asked has gone */
        job_end(j);
    }
}

void query_job_run(struct job *j, job_fn *answer, void (*refuse)(struct job *j, const char *why))
{
    struct query_job *q = j->state;
    q->answer = answer;
    q->refuse = refuse;
    job_scan(j, step, stepped);
}
