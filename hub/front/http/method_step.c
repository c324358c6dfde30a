/* hub/front/http/method_step.c - see method_step.h. */
#include "hub/front/http/method_step.h"

#include <stdio.h>

static struct method_step *step_of(struct method_call *m)
{
    return CONTAINER_OF(m, struct method_step, call);
}

static void on_connect_timer(struct timer *t)
{
    method_on_timer(&CONTAINER_OF(t, struct method_step, timers[METHOD_TIMER_CONNECT])->call,
                    METHOD_TIMER_CONNECT);
}

static void on_response_timer(struct timer *t)
{
    method_on_timer(&CONTAINER_OF(t, struct method_step, timers[METHOD_TIMER_RESPONSE])->call,
                    METHOD_TIMER_RESPONSE);
}

static void on_arm(struct method_call *m, enum method_timer which, uint32_t ms)
{
    struct method_step *s = step_of(m);
    struct worker *w = s->j->r->worker;
    if (ms)
        timer_arm(w, &s->timers[which], worker_now_ms(w) + ms);
    else
        timer_disarm(&s->timers[which]);
}

static void on_done(struct method_call *m)
{
    struct method_step *s = step_of(m);
    struct job *j = s->j;
    if (m->why == METHOD_ANSWERED) {
        struct span text = method_body_json(&j->a, m->body);
        /* the body itself goes with the call */
        s->json = text.p >= m->body.p && text.p < m->body.p + m->body.n ? arena_copy(&j->a, text) : text;
    }
    method_fini(m);
    if (arena_err(&j->a)) {
        job_end_err(j, ERR_NOMEM);
    } else if (m->why != METHOD_ANSWERED) {
        s->refuse(j, m);
        job_end_err(j, m->err);
    } else {
        s->then(j);
    }
}

void job_method(struct job *j, struct method_step *s,
                void (*refuse)(struct job *j, const struct method_call *m), job_fn *then)
{
    if (j->code) {
        job_end(j);
        return;
    }
    s->j = j;
    s->refuse = refuse;
    s->then = then;
    s->timers[METHOD_TIMER_CONNECT].on_timer = on_connect_timer;
    s->timers[METHOD_TIMER_RESPONSE].on_timer = on_response_timer;
    s->call.hub = j->h;
    s->call.home = worker_mailbox(j->r->worker);
    s->call.arm = on_arm;
    s->call.done = on_done;
    method_start(&s->call);
}

void method_step_end(struct job *j)
{
    const struct method_step *s = j->state;
    char head[64];
    int n = snprintf(head, sizeof head, "{\"status\":%d,\"payload\":", (int)s->call.status);
    size_t len = (size_t)n + s->json.n + 1;
    struct wr w = { arena_alloc(&j->a, len), len, 0 };
    if (!w.p) {
        job_end_err(j, ERR_NOMEM);
        return;
    }
    wr_put(&w, span_of(head, (size_t)n));
    wr_put(&w, s->json);
    wr_u8(&w, '}');
    j->bytes = wr_span(&w);
    j->bytes_type = "application/json; charset=utf-8";
    job_end(j);
}
