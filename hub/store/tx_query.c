/* hub/store/tx_query.c - walks over twins for queries. The texts of these statements are put together from
 * fixed pieces; values are always bound. What is SQLite's own here, and another database would spell in its
 * way: CROSS JOIN as a fixed order of the tables, the plus that keeps a column from its index. */
#include "hub/store/store_backend.h"

#include <assert.h>

struct statement {
    uint8_t room[8192];
    struct wr w;
    struct store_val val[TWIN_PICK_VALUES_MAX + 4];
    unsigned nr;
};

/* Adds a value and writes its "?". They are bound in the order in which they are written. */
static void put_value(struct statement *s, struct store_val v)
{
    assert(s->nr < sizeof s->val / sizeof s->val[0]);
    s->val[s->nr++] = v;
    wr_u8(&s->w, '?');
}

/* ---- walks --------------------------------------------------------------------------------------------- */

enum {
    COL_SEQ,
    COL_ID,
    COL_DEVICE,
    COL_MODULE,
    COL_VERSION,
    COL_ETAG,
    COL_DESIRED_VERSION,
    COL_REPORTED_VERSION,
    COL_MODEL_ID,
    COL_CONFIGURATIONS,
    COL_TAGS,
    COL_DESIRED,
    COL_REPORTED,
    COL_DESIRED_META,
    COL_REPORTED_META,
    COL_STATUS,
    COL_CONNECTED,
    COL_ACTIVITY
};
#define COLS                                                                                                 \
    "twin.seq, id, device, module, version, etag, desired_version, reported_version, model_id, "             \
    "configurations,"                                                                                        \
    " tags, desired, reported, desired_meta, reported_meta"

struct twin_view {
    struct store_tx *t;
    struct store_rows *r;
    unsigned with;
};

bool twin_view_has(struct twin_view *v, enum twin_with what)
{
    return v->with & what;
}

uint8_t twin_view_status(struct twin_view *v)
{
    assert(v->with & TWIN_WITH_STATUS);
    return (uint8_t)col_u64(v->t, v->r, COL_STATUS);
}

bool twin_view_connected(struct twin_view *v, uint64_t *activity_ms)
{
    assert(v->with & TWIN_WITH_CONNECTION);
    *activity_ms = col_u64(v->t, v->r, COL_ACTIVITY);
    return col_u64(v->t, v->r, COL_CONNECTED) != 0;
}

void twin_view_row(struct twin_view *v, struct twin_row *out)
{
    *out = (struct twin_row){
        .id = col_span(v->t, v->r, COL_ID),
        .device = col_span(v->t, v->r, COL_DEVICE),
        .module = col_span(v->t, v->r, COL_MODULE),
        .seq = col_u64(v->t, v->r, COL_SEQ),
        .version = col_u64(v->t, v->r, COL_VERSION),
        .etag = col_u64(v->t, v->r, COL_ETAG),
        .tags = col_span(v->t, v->r, COL_TAGS),
        .desired = col_span(v->t, v->r, COL_DESIRED),
        .reported = col_span(v->t, v->r, COL_REPORTED),
        .desired_meta = col_span(v->t, v->r, COL_DESIRED_META),
        .reported_meta = col_span(v->t, v->r, COL_REPORTED_META),
        .desired_version = col_u64(v->t, v->r, COL_DESIRED_VERSION),
        .reported_version = col_u64(v->t, v->r, COL_REPORTED_VERSION),
        .configurations = col_span(v->t, v->r, COL_CONFIGURATIONS),
        .model_id = col_span(v->t, v->r, COL_MODEL_ID),
    };
}

uint64_t twin_view_seq(struct twin_view *v)
{
    return col_u64(v->t, v->r, COL_SEQ);
}

struct span twin_view_text(struct twin_view *v, enum twin_col what)
{
    static const uint8_t cols[] = {
        [TWIN_COL_ID] = COL_ID,
        [TWIN_COL_DEVICE] = COL_DEVICE,
        [TWIN_COL_MODULE] = COL_MODULE,
        [TWIN_COL_TAGS] = COL_TAGS,
        [TWIN_COL_DESIRED] = COL_DESIRED,
        [TWIN_COL_REPORTED] = COL_REPORTED,
        [TWIN_COL_MODEL_ID] = COL_MODEL_ID,
        [TWIN_COL_CONFIGURATIONS] = COL_CONFIGURATIONS,
    };
    return col_span(v->t, v->r, cols[what]);
}

static struct store_val val_of(const struct twin_value *v)
{
    struct store_val out = { .kind = v->kind == TWIN_VALUE_TEXT ? STORE_TEXT : STORE_REAL,
                             .real = v->number,
                             .s = v->text };
    return out;
}

static bool same_value(const struct twin_value *a, const struct twin_value *b)
{
    return a->kind != TWIN_VALUE_NONE && a->kind == b->kind &&
           (a->kind == TWIN_VALUE_TEXT ? span_eq(a->text, b->text) : a->number == b->number);
}

static void put_expr(struct statement *s, const struct twin_pick *p)
{
    wr_str(&s->w, p->path.n ? " AND val" : " AND id");
}

/* Does what the index finds come in order of seq? */
static bool is_in_order(const struct twin_pick *p)
{
    return p->path.n && !p->one_of_nr && same_value(&p->low, &p->high);
}

static void put_pick(struct statement *s, const struct twin_pick *p)
{
    if (p->one_of_nr) {
        assert(p->one_of_nr <= TWIN_PICK_VALUES_MAX);
        put_expr(s, p);
        for (size_t i = 0; i < p->one_of_nr; i++) {
            wr_str(&s->w, i ? "," : " IN (");
            put_value(s, val_of(&p->one_of[i]));
        }
        wr_u8(&s->w, ')');
    } else if (same_value(&p->low, &p->high)) {
        put_expr(s, p);
        wr_str(&s->w, " = ");
        put_value(s, val_of(&p->low));
    } else { /* numbers sort before texts, so an open end is closed by the border between them */
        bool text = p->low.kind == TWIN_VALUE_TEXT || p->high.kind == TWIN_VALUE_TEXT;
        if (p->low.kind || text) {
            put_expr(s, p);
            wr_str(&s->w, " >= ");
            put_value(s, p->low.kind ? val_of(&p->low) : V_TEXT(SPAN("")));
        }
        if (p->high.kind || !text) {
            put_expr(s, p);
            wr_str(&s->w, p->high.kind ? " <= " : " < ");
            put_value(s, p->high.kind ? val_of(&p->high) : V_TEXT(SPAN("")));
        }
    }
}

/* What is looked through, from the index numbered n if pick has a path. kind: what has to hold of the twin's
 * kind, NULL: nothing. */
static void put_source(struct statement *s, const char *kind, const struct twin_pick *p, int64_t n,
                       bool twins)
{
    const bool by_index = p && p->path.n;
    wr_str(&s->w, !by_index ? " FROM twin WHERE "
                  : twins   ? " FROM twin_value CROSS JOIN twin ON twin.seq = twin_value.seq WHERE "
                            : " FROM twin_value WHERE ");
    wr_str(&s->w, kind ? kind : "true");
    if (by_index) {
        wr_str(&s->w, " AND n = ");
        put_value(s, V_INT(n));
    }
    if (p)
        put_pick(s, p);
}

static enum err index_of(struct store_tx *t, const struct twin_pick *p, int64_t *n)
{
    return p && p->path.n ? tx_index_ready(t, p->path, n) : ERR_OK;
}

enum err tx_twin_walk(struct store_tx *t, bool modules, unsigned with, const struct twin_pick *pick,
                      uint64_t *after_seq, twin_view_each *each, void *ctx)
{
    struct statement s = { .w = { s.room, sizeof s.room, 0 } };
    bool sorted = pick && !is_in_order(pick); /* the plus keeps the database from walking by seq instead */
    bool passes =
        pick ? !sorted : !modules; /* of modules alone there is an index, what is sorted is little */
    const char *seq = pick && pick->path.n ? "twin_value.seq" : "twin.seq", *plus = sorted ? "+" : "";
    unsigned passed = 0;
    int64_t n = 0;
    enum err e = index_of(t, pick, &n);
    if (e)
        return e;
    wr_str(&s.w, "SELECT " COLS);
    wr_str(&s.w, with & TWIN_WITH_STATUS ? ", (SELECT status FROM device WHERE id = twin.device)" : ", NULL");
    if (with & TWIN_WITH_CONNECTION)
        wr_str(&s.w, ", (SELECT connected = (SELECT value FROM counter WHERE name = 'start') FROM report"
                     " WHERE device = twin.id), (SELECT activity_ms FROM report WHERE device = twin.id)");
    put_source(&s, passes ? NULL : modules ? "module <> ''" : "module = ''", pick, n, true);
    wr_str(&s.w, " AND ");
    wr_str(&s.w, plus);
    wr_str(&s.w, seq);
    wr_str(&s.w, " > ");
    put_value(&s, V_MS(*after_seq));
    wr_str(&s.w, " ORDER BY ");
    wr_str(&s.w, plus);
    wr_str(&s.w, seq);
    assert(wr_ok(&s.w));
    struct twin_view v = { .t = t, .with = with };
    e = tx_query_text(t, &v.r, wr_span(&s.w), s.val, s.nr);
    while (tx_next(t, v.r, &e)) {
        if (!passes || (col_span(t, v.r, COL_MODULE).n > 0) == modules) {
            passed = 0;
            e = each(ctx, &v);
        } else {
            *after_seq = twin_view_seq(&v);
            e = ++passed == TWIN_PASSED_MAX ? ERR_AGAIN : ERR_OK;
        }
    }
    return tx_end(t, v.r, e);
}

enum err tx_twin_visit(struct store_tx *t, struct span id, twin_view_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT " COLS " FROM twin WHERE id = ?1");
    struct twin_view v = { .t = t };
    enum err e = tx_query(t, &v.r, &q, ARGS(V_TEXT(id)));
    bool found = tx_next(t, v.r, &e);
    if (found)
        e = each(ctx, &v);
    return tx_end(t, v.r, found || e ? e : ERR_NOTFOUND);
}

enum err tx_twin_pick_count(struct store_tx *t, const struct twin_pick *pick, size_t limit, size_t *nr)
{
    struct statement s = { .w = { s.room, sizeof s.room, 0 } };
    struct store_rows *r;
    int64_t n = 0, index = 0;
    enum err e = index_of(t, pick, &index);
    if (e)
        return e;
    wr_str(&s.w, "SELECT count(*) FROM (SELECT 1");
    put_source(&s, NULL, pick, index, false);
    wr_str(&s.w, " LIMIT ");
    put_value(&s, V_MS(limit));
    wr_u8(&s.w, ')');
    assert(wr_ok(&s.w));
    e = tx_query_text(t, &r, wr_span(&s.w), s.val, s.nr);
    if (tx_next(t, r, &e))
        n = t->be->col_int(r, 0);
    e = tx_end(t, r, e);
    if (!e)
        *nr = (size_t)n;
    return e;
}
