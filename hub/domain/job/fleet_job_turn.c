/* hub/domain/job/fleet_job_turn.c - what a job does in one transaction: it begins, records a page of its
 * devices, patches some twins, records what calls ended and claims devices for the next ones, ends. */
#include "hub/domain/event/event.h"
#include "hub/domain/job/fleet_job_run.h"
#include "hub/domain/throttle.h"

#define TWINS_MAX 128u  /* patched in one transaction, */
#define TWINS_MS  8u    /* or fewer when that takes longer */
#define MOVES_MAX 2000u /* records that are given up in one transaction */
#define ARENA_MAX (16u << 20)

bool fleet_run_time_is_over(const struct fleet_run *k, const struct fleet_job_row *r, uint64_t now_ms)
{
    (void)k;
    return now_ms >= r->began_ms + r->max_s * 1000ull;
}

/* Over the rate one is slow, not refused: the next one waits until this one has its place. */
static bool may_do_one(struct fleet_run *k)
{
    const uint64_t now = k->f->env.mono_ms();
    if (k->slow_until_ms > now)
        return false;
    k->slow_until_ms =
        now +
        throttle_take(k->f->h->throttle, THROTTLE_JOB_DEVICES, k->row.created_by, 1, now, UINT32_MAX).wait_ms;
    return true;
}

/* ---- the set of devices ---------------------------------------------------------------------------------
 */

static enum err take(void *ctx, struct span identity, uint64_t seq)
{
    struct fleet_run *k = ctx;
    (void)seq;
    if (k->page_nr == FLEET_PAGE_MAX)
        return ERR_LIMIT;
    k->page[k->page_nr++] = arena_copy(&k->page_a, identity);
    return arena_err(&k->page_a);
}

enum err fleet_run_select(struct store_tx *tx, struct store_op *self)
{
    struct fleet_run *k = (struct fleet_run *)(void *)self;
    arena_fini(&k->page_a);
    arena_init(&k->page_a, ARENA_MAX);
    k->page_nr = 0;
    k->walk.seq = k->row.cursor;
    enum err e = query_condition_walk(&k->walk, tx, take, k);
    k->page_seq = k->walk.seq;
    k->page_last = !e;
    return e == ERR_LIMIT || e == ERR_AGAIN ? ERR_OK : e;
}

static enum err record_page(struct store_tx *tx, struct fleet_run *k, struct fleet_job_row *r)
{
    const uint64_t now = k->f->h->wall_ms();
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < k->page_nr; i++)
        e = tx_fleet_device_add(tx, r->seq, k->page[i], now);
    r->total += k->page_nr;
    r->cursor = k->page_seq;
    r->selected = k->page_last;
    return e;
}

/* The counts say that some are pending, the records, which are the truth, that none is. */
static void correct(struct fleet_job_row *r)
{
    r->total -= fleet_job_pending(r);
}

/* One device had its turn: for the routes that take events of jobs. */
static enum err tell(struct store_tx *tx, const struct fleet_run *k, struct span identity,
                     const struct fleet_device_row *d)
{
    size_t n = 0;
    while (n < identity.n && identity.p[n] != '/')
        n++;
    struct event_job ev = { .device = span_of(identity.p, n),
                            .module = n < identity.n ? span_skip(identity, n + 1) : SPAN_NONE,
                            .job_id = k->row.id,
                            .type = fleet_job_kind_name(k->row.kind),
                            .status = d->state == FLEET_DEVICE_COMPLETED ? "completed" : "failed",
                            .started_ms = d->start_ms,
                            .ended_ms = d->end_ms,
                            .error = d->state == FLEET_DEVICE_COMPLETED ? SPAN_NONE : d->outcome };
    return event_job(k->f->h, tx, &ev);
}

/* ---- twins ----------------------------------------------------------------------------------------------
 */

struct batch {
    struct arena a;
    struct {
        uint64_t nr;
        struct span id;
    } item[TWINS_MAX];
    size_t nr;
};

static enum err collect(void *ctx, const struct fleet_device_row *d)
{
    struct batch *b = ctx;
    b->item[b->nr].nr = d->nr;
    b->item[b->nr++].id = arena_copy(&b->a, d->id);
    return arena_err(&b->a);
}

static enum err patch_one(struct store_tx *tx, struct fleet_run *k, struct fleet_job_row *r, uint64_t nr,
                          struct span id)
{
    static const struct twin_if any = { 0 };
    struct arena a;
    struct twin t;
    struct twin_fault fault = { .wrong = TWIN_FINE };
    struct fleet_device_row d = { .nr = nr, .state = FLEET_DEVICE_COMPLETED };
    arena_init(&a, ARENA_MAX);
    d.start_ms = d.end_ms = k->f->h->wall_ms();
    enum err e = twin_update(k->f->h, tx, &a, id, &k->patch, &any, &t, &fault);
    if (e == ERR_NOTFOUND || e == ERR_PROTO) {
        d.outcome = e == ERR_PROTO ? fleet_job_error(&a, "400004", fault.text)
                                   : fleet_job_error(&a, "404001", "There is no such device or module.");
        d.state = FLEET_DEVICE_FAILED;
        r->failed++;
        e = arena_err(&a);
    } else {
        r->succeeded++;
    }
    if (!e)
        e = tx_fleet_device_put(tx, &d);
    if (!e)
        e = tell(tx, k, id, &d);
    arena_fini(&a);
    return e;
}

static enum err patch_some(struct store_tx *tx, struct fleet_run *k, struct fleet_job_row *r)
{
    const uint64_t from = k->f->h->wall_ms();
    struct batch b = { .nr = 0 };
    arena_init(&b.a, ARENA_MAX);
    enum err e = tx_fleet_device_list(tx, r->seq, FLEET_DEVICE_PENDING, TWINS_MAX, collect, &b);
    if (!e && !b.nr)
        correct(r);
    for (size_t i = 0; !e && i < b.nr && may_do_one(k); i++) {
        e = patch_one(tx, k, r, b.item[i].nr, b.item[i].id);
        if (k->f->h->wall_ms() - from >= TWINS_MS)
            break;
    }
    arena_fini(&b.a);
    return e;
}

/* ---- calls ----------------------------------------------------------------------------------------------
 */

static enum err record_calls(struct store_tx *tx, struct fleet_run *k, struct fleet_job_row *r)
{
    enum err e = ERR_OK;
    for (unsigned i = 0; !e && i < k->flush_nr; i++) {
        const struct fleet_call *c = k->flush[i];
        struct fleet_device_row d = { .nr = c->nr,
                                      .state = c->answered ? FLEET_DEVICE_COMPLETED : FLEET_DEVICE_FAILED,
                                      .outcome = c->outcome,
                                      .start_ms = c->start_ms,
                                      .end_ms = c->end_ms };
        e = tx_fleet_device_put(tx, &d);
        if (!e)
            e = tell(tx, k, span_of(c->id, c->id_len), &d);
        r->running--;
        r->succeeded += c->answered;
        r->failed += !c->answered;
    }
    return e;
}

static enum err claim(void *ctx, const struct fleet_device_row *d)
{
    struct fleet_run *k = ctx;
    if (!may_do_one(k))
        return ERR_STOPPED;
    struct fleet_call *c = k->room[k->claimed_nr++];
    c->nr = d->nr;
    c->id_len = (uint16_t)d->id.n;
    memcpy(c->id, d->id.p, d->id.n);
    return ERR_OK;
}

static enum err claim_some(struct store_tx *tx, struct fleet_run *k, struct fleet_job_row *r)
{
    const uint64_t now = k->f->h->wall_ms();
    if (!k->room_nr)
        return ERR_OK;
    enum err e = tx_fleet_device_list(tx, r->seq, FLEET_DEVICE_PENDING, k->room_nr, claim, k);
    const bool none = !e && !k->claimed_nr;
    if (e == ERR_STOPPED)
        e = ERR_OK;
    for (unsigned i = 0; !e && i < k->claimed_nr; i++) {
        struct fleet_device_row d = { .nr = k->room[i]->nr, .state = FLEET_DEVICE_RUNNING, .start_ms = now };
        k->room[i]->start_ms = now;
        e = tx_fleet_device_put(tx, &d);
    }
    r->running += k->claimed_nr;
    if (none)
        correct(r);
    return e;
}

/* Calls that were under way when the hub was killed. */
static enum err give_up_lost(struct store_tx *tx, struct fleet_run *k, struct fleet_job_row *r)
{
    uint64_t nr = 0;
    struct fleet_device_move m = {
        .job = r->seq,
        .from = FLEET_DEVICE_RUNNING,
        .to = FLEET_DEVICE_FAILED,
        .outcome =
            SPAN("{\"code\":\"404104\",\"description\":\"The hub was restarted while the call was under "
                 "way: whether the method ran is not known.\"}"),
        .end_ms = k->f->h->wall_ms(),
        .limit = FLEET_JOB_CALLS_MAX
    };
    enum err e = tx_fleet_device_move(tx, &m, &nr);
    r->running -= nr;
    r->failed += nr;
    return e;
}

/* ---- the turn -------------------------------------------------------------------------------------------
 */

static enum err drain(struct store_tx *tx, struct fleet_run *k, struct fleet_job_row *r, int to,
                      struct span outcome, uint64_t *count)
{
    uint64_t nr = 0;
    struct fleet_device_move m = { .job = r->seq,
                                   .from = FLEET_DEVICE_PENDING,
                                   .to = to,
                                   .outcome = outcome,
                                   .end_ms = k->f->h->wall_ms(),
                                   .limit = MOVES_MAX };
    enum err e = tx_fleet_device_move(tx, &m, &nr);
    *count += nr;
    if (!e && !nr)
        correct(r);
    return e;
}

static bool nothing_left(const struct fleet_job_row *r)
{
    return !fleet_job_pending(r) && !r->running;
}

/* The places where a job's state changes: here and in fleet_job_create, fleet_job_cancel. */
static void end(struct fleet_run *k, struct fleet_job_row *r, uint8_t state, struct span reason)
{
    r->state = state;
    r->reason = reason;
    r->open = false;
    r->end_ms = k->f->h->wall_ms();
}

static enum err work(struct store_tx *tx, struct fleet_run *k, struct fleet_job_row *r)
{
    enum err e = k->page_ready && !r->selected ? record_page(tx, k, r) : ERR_OK;
    if (!e && fleet_run_time_is_over(k, r, k->f->h->wall_ms())) {
        r->selected = true;
        e = drain(
            tx, k, r, FLEET_DEVICE_FAILED,
            SPAN("{\"code\":\"400024\",\"description\":\"The execution time of the job was over before this "
                 "device's turn.\"}"),
            &r->failed);
    } else if (!e && r->selected) {
        e = r->kind == FLEET_JOB_TWIN ? patch_some(tx, k, r) : claim_some(tx, k, r);
    }
    if (!e && r->selected && nothing_left(r))
        end(k, r, FLEET_JOB_COMPLETED, SPAN_NONE);
    return e;
}

enum err fleet_run_turn(struct store_tx *tx, struct store_op *self)
{
    struct fleet_run *k = (struct fleet_run *)(void *)self;
    struct fleet_job_row *r = &k->next;
    const uint64_t now = k->f->h->wall_ms();
    k->claimed_nr = 0;
    enum err e = tx_fleet_job_by_seq(tx, k->row.seq, r);
    if (e || !r->open)
        return e;
    if (k->fresh && r->running)
        e = give_up_lost(tx, k, r);
    if (!e)
        e = record_calls(tx, k, r);
    if (e)
        return e;
    if (r->state < FLEET_JOB_RUNNING && r->start_ms > now)
        return ERR_OK;
    if (r->state < FLEET_JOB_RUNNING) {
        r->state = FLEET_JOB_RUNNING;
        r->began_ms = now;
        if (k->bad[0])
            end(k, r, FLEET_JOB_FAILED, span_str(k->bad));
    } else if (r->state == FLEET_JOB_RUNNING) {
        e = work(tx, k, r);
    } else {
        e = drain(tx, k, r, FLEET_DEVICE_CANCELED, SPAN_NONE, &r->canceled);
        r->open = !nothing_left(r);
    }
    return e ? e : tx_fleet_job_put(tx, r);
}
