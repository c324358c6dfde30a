/* hub/domain/query/query.c - a query's walk, slice by slice, and the page that it makes. */
#include "hub/domain/query/query.h"

#include "hub/domain/query/query_impl.h"

#define SLICE_MS   20u
#define SLICE_ROWS 50000u

/* Memory of a page, beside its rows. */
struct query_walk_state {
    struct query_slice slice;
    struct query_twin twin;
    struct query_document job;
    struct wr mem; /* scratch of one evaluation */
    enum err end;  /* the outcome when a row ended the walk */
};

static bool state_new(struct query_run *r)
{
    r->state = arena_alloc(r->a, sizeof *r->state);
    void *scratch = arena_alloc(r->a, QUERY_SCRATCH);
    if (!r->state || !scratch)
        return false;
    r->state->mem = (struct wr){ scratch, QUERY_SCRATCH, 0 };
    return true;
}

static const char *const item_types[] = { "Twin", "Twin", "DeviceJob" };

enum err query_open(struct query_run *r, struct hub *h, struct arena *a, struct span text,
                    struct span continuation, uint32_t max, struct query_error *err)
{
    size_t cap = QUERY_MEM(text.n < QUERY_TEXT_MAX ? text.n : QUERY_TEXT_MAX);
    struct query_place place = { .seq = 0, .left = UINT64_MAX };
    void *mem = arena_alloc(a, cap);
    *r = (struct query_run){ .h = h, .a = a, .text = text };
    enum err e = mem ? query_parse(&r->q, text, mem, cap, err) : ERR_NOMEM;
    if (e)
        return e;
    if (r->q.has_top)
        place.left = r->q.top;
    if (continuation.n && query_next_read(h, text, continuation, &place))
        return ERR_VERIFY;
    r->seq = r->q.aggregates || r->q.group ? 0 : place.seq;
    r->first = place.seq;
    r->left = place.left;
    r->max = max && max < QUERY_PAGE_MAX ? max : QUERY_PAGE_MAX;
    r->item_type = r->q.star ? item_types[r->q.from] : "Raw";
    return state_new(r) && query_room(a, &r->out, 4096) ? ERR_OK : ERR_NOMEM;
}

bool query_room(struct arena *a, struct wr *w, size_t n)
{
    if (w->len + n <= w->cap)
        return true;
    size_t cap = w->cap ? w->cap : 4096;
    while (cap < w->len + n)
        cap *= 2;
    uint8_t *p = arena_alloc(a, cap);
    if (!p)
        return false;
    if (w->len)
        memcpy(p, w->p, w->len);
    *w = (struct wr){ p, cap, w->len };
    return true;
}

void query_slice_begin(struct query_slice *s, struct hub *h)
{
    *s = (struct query_slice){ .h = h, .end_ms = h->wall_ms() + SLICE_MS };
}

bool query_slice_over(struct query_slice *s)
{
    s->rows++;
    return s->rows >= SLICE_ROWS || (s->rows % 64 == 0 && s->h->wall_ms() >= s->end_ms);
}

/* ---- the page ------------------------------------------------------------------------------------------ */

static void begin_row(struct query_run *r)
{
    wr_u8(&r->out, r->rows ? ',' : '[');
    r->rows++;
}

/* No further row belongs on this page; those from seq + 1 on are another one's. */
static bool page_is_full(const struct query_run *r)
{
    return r->rows == r->max || r->out.len >= QUERY_PAGE_BYTES;
}

static enum err end_page(struct query_run *r, uint64_t seq)
{
    struct query_place place = { .seq = seq, .left = r->left };
    if (!query_room(r->a, &r->out, 2))
        return ERR_NOMEM;
    if (!r->rows)
        wr_u8(&r->out, '[');
    wr_u8(&r->out, ']');
    if (seq != UINT64_MAX)
        r->next = query_next_make(r->h, r->a, r->text, &place);
    return arena_err(r->a);
}

/* The page of a query with aggregates; first counts rows of its result. */
static enum err put_groups(struct query_run *r)
{
    struct wr probe = { NULL, 0, 0 };
    uint64_t at = r->first;
    if (!r->q.group && !r->groups) { /* nothing was selected: one row, of zeros */
        enum err e = query_groups_add(r, NULL, &probe);
        if (e)
            return e;
    }
    for (; r->left; at++, r->left--) {
        probe.len = 0;
        if (!query_groups_put(r, at, &probe))
            break;
        r->counted++;
        if (r->count_only)
            continue;
        if (page_is_full(r))
            return end_page(r, at);
        if (!query_room(r->a, &r->out, probe.len + 2))
            return ERR_NOMEM;
        begin_row(r);
        (void)query_groups_put(r, at, &r->out);
    }
    return end_page(r, UINT64_MAX);
}

/* ---- the walk ------------------------------------------------------------------------------------------ */

static bool is_folded(const struct query_run *r)
{
    return r->q.aggregates || r->q.group;
}

static enum err put_row(struct query_run *r, struct query_row *row, struct span document)
{
    struct wr probe = { .len = document.n };
    struct wr *mem = &r->state->mem;
    if (!r->q.star)
        query_project(&r->q, row, mem, &probe);
    if (!query_room(r->a, &r->out, probe.len + 2))
        return ERR_NOMEM;
    begin_row(r);
    if (r->q.star)
        wr_put(&r->out, document);
    else
        query_project(&r->q, row, mem, &r->out);
    return ERR_OK;
}

/* A selected row. ERR_STOPPED: it ended the walk, with state->end as the outcome. */
static enum err take(struct query_run *r, struct query_row *row, uint64_t seq, struct span document)
{
    if (is_folded(r))
        return query_groups_add(r, row, &r->state->mem);
    if (r->count_only && r->left) {
        r->left--;
        r->counted++;
        return ERR_OK;
    }
    if (!r->left || page_is_full(r)) {
        r->state->end = end_page(r, r->left ? seq - 1 : UINT64_MAX);
        return ERR_STOPPED;
    }
    enum err e = r->q.star && !document.n ? query_twin_document(&r->state->twin, &document) : ERR_OK;
    if (e)
        return e;
    r->left--;
    return put_row(r, row, document);
}

static enum err look(struct query_run *r, struct query_row *row, uint64_t seq, struct span document)
{
    struct query_walk_state *w = r->state;
    bool yes = query_match(r->q.where, row, &w->mem);
    enum err e = w->twin.e;
    if (!e && yes)
        e = take(r, row, seq, document);
    if (e)
        return e;
    r->seq = seq;
    if (!query_slice_over(&w->slice))
        return ERR_OK;
    w->end = ERR_AGAIN;
    return ERR_STOPPED;
}

static enum err each_twin(void *ctx, struct twin_view *v)
{
    struct query_run *r = ctx;
    query_twin_set(&r->state->twin, v);
    return look(r, &r->state->twin.row, twin_view_seq(v), SPAN_NONE);
}

static enum err each_job(void *ctx, uint64_t seq, struct span json)
{
    struct query_run *r = ctx;
    query_document_init(&r->state->job, json);
    return look(r, &r->state->job.row, seq, json);
}

static enum err walk(struct query_run *r, struct store_tx *tx)
{
    const struct query_sources *s = r->h->queries;
    if (r->q.from != QUERY_JOBS)
        return tx_twin_walk(tx, r->q.from == QUERY_MODULES, query_with(&r->q), r->pick, &r->seq, each_twin,
                            r);
    return s && s->jobs ? s->jobs(tx, query_plan_job(&r->q), r->seq, each_job, r) : ERR_OK;
}

enum err query_step(struct query_run *r, struct store_tx *tx)
{
    struct query_walk_state *w = r->state;
    enum err e = r->planned ? ERR_OK : query_plan(r->h, r->a, tx, &r->q, &r->pick);
    if (e)
        return e;
    r->planned = true;
    query_twin_init(&w->twin, r->h, tx);
    query_slice_begin(&w->slice, r->h);
    e = walk(r, tx);
    query_twin_fini(&w->twin);
    if (e == ERR_STOPPED)
        return w->end;
    if (e)
        return e;
    return is_folded(r) ? put_groups(r) : end_page(r, UINT64_MAX);
}
