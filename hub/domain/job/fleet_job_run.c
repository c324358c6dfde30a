/* hub/domain/job/fleet_job_run.c - which jobs are under way, and what each does next. Nothing here is
 * remembered: after a start, or when in doubt, the store is asked which jobs are open. */
#include "hub/domain/job/fleet_job_run.h"

#include "base/log.h"
#include "hub/domain/event/event.h"

#include <assert.h>
#include <stdlib.h>

#define ARENA_MAX  (16u << 20)
#define CALLS_MS   100u    /* how often the timers of calls are looked at */
#define RETRY_MS   1000u   /* after a refusal of the store */
#define LOOK_MS    30000u  /* when nothing else is due */
#define SWEEP_MS   600000u /* of the history */
#define SWEEP_ROWS 2000u

static void go(struct fleet_run *k);
static void look(struct fleet_jobs *f);

static void wake(struct fleet_jobs *f, uint64_t ms)
{
    uint64_t at = f->h->wall_ms() + ms;
    if (f->wake_at_ms && f->wake_at_ms <= at)
        return;
    f->wake_at_ms = at;
    f->env.wake_in(f->env.ctx, (uint32_t)ms);
}

/* ---- one job --------------------------------------------------------------------------------------------
 */

static void run_free(struct fleet_run *k)
{
    for (unsigned i = 0; k->calls && i < FLEET_JOB_CALLS_MAX; i++) {
        if (k->calls[i].state == FLEET_CALL_BUSY)
            method_fini(&k->calls[i].m);
        arena_fini(&k->calls[i].a);
    }
    free(k->calls);
    arena_fini(&k->a);
    arena_fini(&k->page_a);
    free(k);
}

static void run_remove(struct fleet_run *k)
{
    struct fleet_run **at = &k->f->runs;
    while (*at != k)
        at = &(*at)->next_run;
    *at = k->next_run;
    run_free(k);
}

/* What the texts of the row say. A job that cannot be understood is one that fails when it begins. */
static enum err prepare(struct fleet_run *k)
{
    struct query_error qe;
    struct fleet_job_fault jf;
    struct twin_fault tf = { .wrong = TWIN_FINE };
    enum err e = query_condition_compile(&k->a, QUERY_USE_JOB, k->row.condition, &k->condition, &qe);
    if (e == ERR_PROTO || e == ERR_LIMIT) {
        snprintf(k->bad, sizeof k->bad, "the condition is not understood: line %u, column %u: %s", qe.line,
                 qe.column, qe.message);
        return ERR_OK;
    }
    if (!e && k->row.kind == FLEET_JOB_TWIN)
        e = twin_service_patch(&k->a, k->row.body, false, &k->patch, &tf);
    else if (!e)
        e = fleet_job_method(&k->a, k->row.body, &k->method, &jf);
    if (e == ERR_PROTO) {
        snprintf(k->bad, sizeof k->bad, "%s", k->row.kind == FLEET_JOB_TWIN ? tf.text : jf.text);
        return ERR_OK;
    }
    k->walk = (struct query_walk){ .h = k->f->h, .a = &k->a, .c = k->condition };
    if (!e && k->row.kind == FLEET_JOB_METHOD) {
        k->calls = calloc(FLEET_JOB_CALLS_MAX, sizeof *k->calls);
        if (!k->calls)
            return ERR_NOMEM;
        for (unsigned i = 0; i < FLEET_JOB_CALLS_MAX; i++)
            k->calls[i].run = k;
    }
    return e;
}

static void run_add(struct fleet_jobs *f, const struct fleet_job_row *row)
{
    struct fleet_run *k = calloc(1, sizeof *k);
    if (!k)
        return; /* the next look finds it again */
    k->f = f;
    k->fresh = k->seen = true;
    arena_init(&k->a, ARENA_MAX);
    arena_init(&k->page_a, ARENA_MAX);
    enum err e = fleet_job_copy(&k->a, row, &k->row);
    if (!e)
        e = prepare(k);
    if (e) {
        log_error("job.run", "err=%s", err_name(e));
        run_free(k);
        return;
    }
    k->next_run = f->runs;
    f->runs = k;
    go(k);
}

/* False: the op failed, and what follows has been seen to. */
static bool came_home(struct fleet_run *k)
{
    struct fleet_jobs *f = k->f;
    enum err e = k->op.op.err;
    k->busy = false;
    if (!e)
        return true;
    if (e == ERR_STOPPED) {
        f->stopped = true;
    } else if (e == ERR_NOTFOUND) {
        k->over = true;
        go(k);
    } else {
        log_error("job.run", "job=%.*s err=%s hint=\"it is tried again\"", (int)k->row.id.n,
                  (const char *)k->row.id.p, err_name(e));
        k->retry = true;
        wake(f, RETRY_MS);
    }
    return false;
}

static void on_selected(struct op *op)
{
    struct fleet_run *k = CONTAINER_OF(op, struct fleet_run, op.op);
    if (!came_home(k))
        return;
    k->page_ready = true;
    go(k);
}

static void on_turned(struct op *op)
{
    struct fleet_run *k = CONTAINER_OF(op, struct fleet_run, op.op);
    if (!came_home(k))
        return;
    const struct fleet_job_row before = k->row;
    k->row = k->next;
    k->row.id = before.id; /* texts of the copy, which last */
    k->row.condition = before.condition;
    k->row.body = before.body;
    k->row.reason = before.reason;
    k->row.created_by = before.created_by;
    k->fresh = false;
    k->page_ready = false;
    for (unsigned i = 0; i < k->flush_nr; i++) {
        arena_fini(&k->flush[i]->a);
        k->flush[i]->state = FLEET_CALL_FREE;
    }
    k->done -= k->flush_nr;
    if (k->row.state != before.state)
        log_info("job.state", "job=%.*s state=%s devices=%llu failed=%llu", (int)k->row.id.n,
                 (const char *)k->row.id.p, fleet_job_state_name(k->row.state),
                 (unsigned long long)k->row.total, (unsigned long long)k->row.failed);
    for (unsigned i = 0; i < k->claimed_nr; i++) {
        struct fleet_call *c = k->room[i];
        arena_init(&c->a, 2 * METHOD_PAYLOAD_MAX + 65536);
        c->state = FLEET_CALL_BUSY;
        k->in_flight++;
        fleet_call_start(c);
    }
    if (k->in_flight)
        wake(k->f, CALLS_MS);
    go(k);
}

static void start(struct fleet_run *k, enum err (*run)(struct store_tx *tx, struct store_op *self),
                  op_fn *done)
{
    k->flush_nr = k->room_nr = k->claimed_nr = 0;
    for (unsigned i = 0; k->calls && i < FLEET_JOB_CALLS_MAX; i++)
        if (k->calls[i].state == FLEET_CALL_DONE)
            k->flush[k->flush_nr++] = &k->calls[i];
        else if (k->calls[i].state == FLEET_CALL_FREE)
            k->room[k->room_nr++] = &k->calls[i];
    k->busy = true;
    k->op.run = run;
    k->op.op.home = k->f->env.home;
    k->op.op.done = done;
}

/* For how long the rate of devices holds it up. */
static uint64_t slow_ms(const struct fleet_run *k)
{
    const uint64_t now = k->f->env.mono_ms();
    return k->slow_until_ms > now ? k->slow_until_ms - now : 0;
}

static bool has_a_turn(const struct fleet_run *k, uint64_t now)
{
    const struct fleet_job_row *r = &k->row;
    if (k->fresh || k->done || k->page_ready || r->state < FLEET_JOB_RUNNING)
        return true;
    if (r->state == FLEET_JOB_RUNNING && !r->selected)
        return fleet_run_time_is_over(k, r, now);
    if (!fleet_job_pending(r))
        return !r->running;
    if (r->state != FLEET_JOB_RUNNING || fleet_run_time_is_over(k, r, now))
        return true;
    return !slow_ms(k) && (r->kind == FLEET_JOB_TWIN || k->in_flight + k->done < FLEET_JOB_CALLS_MAX);
}

/* Events of what it would do have no room: it waits, but not for what makes none. */
static bool events_hold_it_up(const struct fleet_run *k, uint64_t now)
{
    const struct fleet_job_row *r = &k->row;
    return r->state == FLEET_JOB_RUNNING && r->selected && !k->fresh && !fleet_run_time_is_over(k, r, now) &&
           fleet_job_pending(r) + r->running > 0 &&
           event_should_wait(k->f->h, EVENT_OF_TWINS | 1u << MESSAGE_SOURCE_JOB);
}

static void go(struct fleet_run *k)
{
    struct fleet_jobs *f = k->f;
    const struct fleet_job_row *r = &k->row;
    const uint64_t now = f->h->wall_ms();
    if (k->busy || k->retry || f->stopped)
        return;
    if (k->over || (!r->open && !k->fresh)) {
        run_remove(k);
        look(f); /* one that had no room may have it now */
    } else if (r->state < FLEET_JOB_RUNNING && r->start_ms > now) {
        uint64_t ms = r->start_ms - now;
        wake(f, ms < LOOK_MS ? ms : LOOK_MS);
    } else if (events_hold_it_up(k, now)) {
        wake(f, RETRY_MS);
    } else if (has_a_turn(k, now)) {
        start(k, fleet_run_turn, on_turned);
        store_write(f->h->store, &k->op);
    } else if (r->state == FLEET_JOB_RUNNING && !r->selected) {
        start(k, fleet_run_select, on_selected);
        store_scan(f->h->store, &k->op);
    } else if (r->state == FLEET_JOB_RUNNING && slow_ms(k)) {
        wake(f, slow_ms(k) < LOOK_MS ? slow_ms(k) : LOOK_MS);
    }
}

void fleet_run_on_call(struct fleet_call *c)
{
    struct fleet_run *k = c->run;
    c->state = FLEET_CALL_DONE;
    k->in_flight--;
    k->done++;
    go(k);
}

/* ---- all of them ----------------------------------------------------------------------------------------
 */

static enum err note_open(void *ctx, const struct fleet_job_row *r)
{
    struct fleet_jobs *f = ctx;
    if (r->kind != FLEET_JOB_TWIN && r->kind != FLEET_JOB_METHOD)
        return ERR_OK;
    if (f->open_nr == FLEET_RUNS_MAX)
        return ERR_STOPPED;
    return fleet_job_copy(&f->look_a, r, &f->open[f->open_nr++]);
}

static enum err run_look(struct store_tx *tx, struct store_op *self)
{
    struct fleet_jobs *f = CONTAINER_OF(self, struct fleet_jobs, look);
    arena_fini(&f->look_a);
    arena_init(&f->look_a, ARENA_MAX * 4);
    f->open_nr = 0;
    enum err e = tx_fleet_job_list_open(tx, note_open, f);
    return e == ERR_STOPPED ? ERR_OK : e;
}

static struct fleet_run *find(struct fleet_jobs *f, uint64_t seq)
{
    struct fleet_run *k = f->runs;
    while (k && k->row.seq != seq)
        k = k->next_run;
    return k;
}

static void on_looked(struct op *op)
{
    struct fleet_jobs *f = CONTAINER_OF(op, struct fleet_jobs, look.op);
    struct fleet_run *next;
    f->looking = false;
    if (op->err == ERR_STOPPED)
        f->stopped = true;
    else if (op->err)
        wake(f, RETRY_MS);
    if (op->err)
        return;
    for (struct fleet_run *k = f->runs; k; k = k->next_run)
        k->seen = false;
    for (size_t i = 0; i < f->open_nr; i++) {
        struct fleet_run *k = find(f, f->open[i].seq);
        if (!k) {
            run_add(f, &f->open[i]);
            continue;
        }
        k->seen = true;
        if (!k->busy)
            k->row.state = f->open[i].state; /* cancelled, maybe */
        go(k);
    }
    for (struct fleet_run *k = f->runs; k; k = next) { /* cancelled while it waited */
        next = k->next_run;
        if (!k->seen && !k->busy && !k->in_flight && !k->done)
            run_remove(k);
    }
    if (f->look_again)
        look(f);
}

static void look(struct fleet_jobs *f)
{
    f->look_again = f->looking;
    if (f->looking || f->stopped)
        return;
    f->looking = true;
    store_read(f->h->store, &f->look);
}

/* ---- history --------------------------------------------------------------------------------------------
 */

static enum err run_sweep(struct store_tx *tx, struct store_op *self)
{
    struct fleet_jobs *f = CONTAINER_OF(self, struct fleet_jobs, sweep);
    const uint64_t now = f->h->wall_ms();
    uint64_t seq;
    bool gone;
    f->sweep_more = false;
    enum err e = tx_fleet_job_outdated(tx, now > FLEET_JOB_KEEP_MS ? now - FLEET_JOB_KEEP_MS : 0,
                                       FLEET_JOBS_KEEP_MAX, FLEET_RECORDS_KEEP_MAX, &seq);
    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    f->sweep_more = true;
    return tx_fleet_job_delete(tx, seq, SWEEP_ROWS, &gone);
}

static void sweep(struct fleet_jobs *f)
{
    if (f->sweeping || f->stopped)
        return;
    f->sweeping = true;
    f->swept_ms = f->h->wall_ms();
    store_write(f->h->store, &f->sweep);
}

static void on_swept(struct op *op)
{
    struct fleet_jobs *f = CONTAINER_OF(op, struct fleet_jobs, sweep.op);
    f->sweeping = false;
    if (op->err == ERR_STOPPED)
        f->stopped = true;
    else if (!op->err && f->sweep_more)
        sweep(f);
}

/* ---- the whole ------------------------------------------------------------------------------------------
 */

static void on_poke(struct op *op)
{
    struct fleet_jobs *f = CONTAINER_OF(op, struct fleet_jobs, poke);
    atomic_store(&f->poked, false);
    look(f);
}

void fleet_jobs_poke(struct hub *h)
{
    struct fleet_jobs *f = h->jobs;
    if (f && !atomic_exchange(&f->poked, true))
        mailbox_post(f->env.home, &f->poke);
}

enum err fleet_jobs_new(struct fleet_jobs **out, struct hub *h, const struct fleet_jobs_env *env)
{
    struct fleet_jobs *f = calloc(1, sizeof *f);
    if (!f)
        return ERR_NOMEM;
    f->h = h;
    f->env = *env;
    f->poke = (struct op){ .home = env->home, .done = on_poke };
    f->look.run = run_look;
    f->sweep.run = run_sweep;
    f->look.op.home = f->sweep.op.home = env->home;
    f->look.op.done = on_looked;
    f->sweep.op.done = on_swept;
    *out = f;
    return ERR_OK;
}

void fleet_jobs_tick(struct fleet_jobs *f)
{
    const uint64_t now = f->h->wall_ms();
    bool calls = false;
    f->wake_at_ms = 0;
    for (struct fleet_run *k = f->runs, *next; k; k = next) {
        next = k->next_run;
        for (unsigned i = 0; k->in_flight && k->calls && i < FLEET_JOB_CALLS_MAX; i++)
            fleet_call_look(&k->calls[i], now);
        calls = calls || k->in_flight;
        k->retry = false;
        go(k);
    }
    if (now >= f->swept_ms + SWEEP_MS || now < f->swept_ms)
        sweep(f);
    if (!calls) /* else somebody pokes */
        look(f);
    wake(f, calls ? CALLS_MS : LOOK_MS);
}

bool fleet_jobs_idle(const struct fleet_jobs *f)
{
    if (f->looking || f->sweeping || atomic_load(&f->poked))
        return false;
    for (const struct fleet_run *k = f->runs; k; k = k->next_run)
        if (k->busy || k->in_flight || k->done || k->retry)
            return false;
    return true;
}

void fleet_jobs_free(struct fleet_jobs *f)
{
    if (!f)
        return;
    while (f->runs)
        run_remove(f->runs);
    arena_fini(&f->look_a);
    free(f);
}
