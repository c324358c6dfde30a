/* hub/domain/job/fleet_job_call.c - one call of a method job, and what is kept of its end. */
#include "hub/domain/job/fleet_job_run.h"

#include "core/json/json.h"

#include <stdio.h>

struct span fleet_job_error(struct arena *a, const char *code, const char *text)
{
    struct wr w = { 0 };
    for (int pass = 0; pass < 2; pass++) {
        wr_str(&w, "{\"code\":\"");
        wr_str(&w, code);
        wr_str(&w, "\",\"description\":");
        json_put_string(&w, span_str(text));
        wr_u8(&w, '}');
        if (pass == 0)
            w = (struct wr){ arena_alloc(a, w.len), w.len, 0 };
        if (!w.p)
            return SPAN_NONE;
    }
    return wr_span(&w);
}

/* An answer that is too long to be kept is left out; that there was one is not. */
static struct span answer(struct arena *a, const struct method_call *m)
{
    struct span json = method_body_json(a, m->body);
    bool left_out = json.n > FLEET_JOB_OUTCOME_MAX;
    char head[80];
    int n =
        snprintf(head, sizeof head, "{\"deviceMethodResponse\":{\"status\":%d,\"payload\":", (int)m->status);
    struct wr w = { 0 };
    for (int pass = 0; pass < 2; pass++) {
        wr_put(&w, span_of(head, (size_t)n));
        wr_put(&w, left_out ? SPAN("null,\"payloadLeftOut\":true") : json);
        wr_str(&w, "}}");
        if (pass == 0)
            w = (struct wr){ arena_alloc(a, w.len), w.len, 0 };
        if (!w.p)
            return SPAN_NONE;
    }
    return wr_span(&w);
}

struct span fleet_job_outcome(struct arena *a, const struct method_call *m)
{
    switch (m->why) {
    case METHOD_ANSWERED:
        return answer(a, m);
    case METHOD_UNKNOWN:
        return fleet_job_error(a, "404001", "There is no such device or module.");
    case METHOD_OFFLINE:
        return fleet_job_error(a, "404103", "Timed out waiting for device to connect.");
    case METHOD_TIMEOUT:
        return fleet_job_error(a, "504101", "Timed out waiting for the response from device.");
    case METHOD_CLOSED:
        return fleet_job_error(a, "404104",
                               "The device closed its connection before it answered: whether the method ran "
                               "is not known.");
    case METHOD_BUSY:
        return fleet_job_error(a, "403800", "The device has too many methods to answer already.");
    case METHOD_TOO_LARGE:
        return fleet_job_error(a, "502000", "The answer of the device is too long.");
    case METHOD_FAILED:
        break;
    }
    return fleet_job_error(a, "500001", m->err == ERR_STOPPED ? "The hub was stopped." : err_name(m->err));
}

static void on_arm(struct method_call *m, enum method_timer which, uint32_t ms)
{
    struct fleet_call *c = CONTAINER_OF(m, struct fleet_call, m);
    c->at_ms[which] = ms ? m->hub->wall_ms() + ms : 0;
}

static void on_done(struct method_call *m)
{
    struct fleet_call *c = CONTAINER_OF(m, struct fleet_call, m);
    c->answered = m->why == METHOD_ANSWERED;
    if (m->why == METHOD_FAILED && m->err == ERR_STOPPED)
        c->run->f->stopped = true; /* the others keep their turn for the next start */
    c->end_ms = m->hub->wall_ms();
    c->outcome = fleet_job_outcome(&c->a, m);
    if (c->outcome.n && c->answered && c->outcome.p >= m->body.p && c->outcome.p < m->body.p + m->body.n)
        c->outcome = arena_copy(&c->a, c->outcome);
    method_fini(m);
    fleet_run_on_call(c);
}

static uint32_t at_most(uint32_t ms, uint64_t left_ms)
{
    return ms < left_ms ? ms : (uint32_t)left_ms;
}

void fleet_call_start(struct fleet_call *c)
{
    const struct fleet_run *k = c->run;
    uint64_t now = k->f->h->wall_ms(), end = k->row.began_ms + k->row.max_s * 1000ull;
    uint64_t left = end > now ? end - now : 1;
    struct span id = span_of(c->id, c->id_len), device = id, module = SPAN_NONE;
    for (size_t i = 0; i < id.n; i++)
        if (id.p[i] == '/') {
            device = span_of(id.p, i);
            module = span_skip(id, i + 1);
            break;
        }
    c->at_ms[0] = c->at_ms[1] = 0;
    c->m = (struct method_call){ .hub = k->f->h,
                                 .home = k->f->env.home,
                                 .device = device,
                                 .module = module,
                                 .name = k->method.name,
                                 .payload = k->method.payload,
                                 .connect_ms = at_most(k->method.connect_ms, left),
                                 .response_ms = at_most(k->method.response_ms, left),
                                 .arm = on_arm,
                                 .done = on_done };
    method_start(&c->m);
}

void fleet_call_look(struct fleet_call *c, uint64_t now_ms)
{
    static const enum method_timer timers[] = { METHOD_TIMER_CONNECT, METHOD_TIMER_RESPONSE };
    for (int i = 0; i < 2; i++)
        if (c->state == FLEET_CALL_BUSY && c->at_ms[timers[i]] && c->at_ms[timers[i]] <= now_ms) {
            c->at_ms[timers[i]] = 0;
            method_on_timer(&c->m, timers[i]);
        }
}
