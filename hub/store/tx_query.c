/* hub/store/tx_query.c - walks over twins for queries. The texts of these statements are put together from
 * fixed pieces and from the paths of indexes, which are checked letter by letter; values are always bound.
 * What is SQLite's own here, and another database would spell in its way: json_extract, INDEXED BY,
 * sqlite_schema. */
#include "base/log.h"
#include "hub/store/store_backend.h"

#include <assert.h>

#define INDEX_PREFIX "query:" /* of the names of the indexes made here */

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

/* ---- indexes ------------------------------------------------------------------------------------------- */

/* The column, and the rest of the path. */
static const char *section_of(struct span path, struct span *rest)
{
    static const struct {
        const char *prefix, *column;
    } sections[] = { { "tags.", "tags" },
                     { "properties.desired.", "desired" },
                     { "properties.reported.", "reported" } };
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
        if (span_starts(path, span_str(sections[i].prefix))) {
            *rest = span_skip(path, strlen(sections[i].prefix));
            return sections[i].column;
        }
    return NULL;
}

bool twin_index_path_ok(struct span path)
{
    struct span rest;
    if (path.n > TWIN_INDEX_PATH_MAX || !section_of(path, &rest) || !rest.n || rest.p[rest.n - 1] == '.')
        return false;
    for (size_t i = 0; i < rest.n; i++) {
        uint8_t c = rest.p[i];
        bool name = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                    c == '-';
        if (!name && (c != '.' || i == 0 || rest.p[i - 1] == '.'))
            return false;
    }
    return true;
}

/* json_extract(tags, '$."a"."b"') */
static void put_path(struct wr *w, struct span path)
{
    struct span rest = SPAN_NONE;
    const char *column = twin_index_path_ok(path) ? section_of(path, &rest) : NULL;
    assert(column);
    wr_str(w, "json_extract(");
    wr_str(w, column);
    wr_str(w, ", '$.\"");
    for (size_t i = 0; i < rest.n; i++)
        if (rest.p[i] == '.')
            wr_str(w, "\".\"");
        else
            wr_u8(w, rest.p[i]);
    wr_str(w, "\"')");
}

static void put_index_name(struct wr *w, struct span path)
{
    wr_str(w, "\"" INDEX_PREFIX);
    wr_put(w, path);
    wr_u8(w, '"');
}

static bool one_of(struct span s, const struct span *list, size_t nr)
{
    for (size_t i = 0; i < nr; i++)
        if (span_eq(s, list[i]))
            return true;
    return false;
}

enum err tx_twin_index_make(struct store_tx *t, struct span path)
{
    if (!twin_index_path_ok(path))
        return ERR_PROTO;
    uint8_t room[1024];
    struct wr w = { room, sizeof room, 0 };
    wr_str(&w, "CREATE INDEX IF NOT EXISTS ");
    put_index_name(&w, path);
    wr_str(&w, " ON twin(");
    put_path(&w, path);
    wr_str(&w, ", seq) WHERE ");
    put_path(&w, path);
    wr_str(&w, " IS NOT NULL");
    assert(wr_ok(&w));
    return tx_exec_text(t, wr_span(&w), ARGS_NONE);
}

static enum err index_drop(struct store_tx *t, struct span path)
{
    uint8_t room[256];
    struct wr w = { room, sizeof room, 0 };
    wr_str(&w, "DROP INDEX ");
    put_index_name(&w, path);
    assert(wr_ok(&w));
    return tx_exec_text(t, wr_span(&w), ARGS_NONE);
}

enum err tx_twin_index_keep(struct store_tx *t, const struct span *paths, size_t nr, bool *have_it)
{
    uint8_t room[TWIN_INDEX_MAX * 2][TWIN_INDEX_PATH_MAX];
    struct span have[TWIN_INDEX_MAX * 2];
    size_t have_nr = 0;
    struct store_rows *r;
    enum err e = tx_query_text(t, &r,
                               SPAN("SELECT substr(name, 7) FROM sqlite_schema WHERE type = 'index'"
                                    " AND name LIKE 'query:%'"),
                               ARGS_NONE);
    while (tx_next(t, r, &e)) {
        struct span name = col_span(t, r, 0);
        if (have_nr < sizeof have / sizeof have[0] && twin_index_path_ok(name)) {
            memcpy(room[have_nr], name.p, name.n);
            have[have_nr] = span_of(room[have_nr], name.n);
            have_nr++;
        }
    }
    e = tx_end(t, r, e);
    for (size_t i = 0; !e && i < have_nr; i++)
        if (!one_of(have[i], paths, nr)) {
            log_info("query.index", "path=%.*s dropped", (int)have[i].n, (const char *)have[i].p);
            e = index_drop(t, have[i]);
        }
    for (size_t i = 0; i < nr; i++)
        have_it[i] = one_of(paths[i], have, have_nr);
    return e;
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
    "seq, id, device, module, version, etag, desired_version, reported_version, model_id, configurations,"   \
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
    wr_str(&s->w, " AND ");
    if (p->path.n)
        put_path(&s->w, p->path);
    else
        wr_str(&s->w, "id");
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

/* kind: what has to hold of the twin's kind; NULL: nothing. */
static void put_source(struct statement *s, const char *kind, const struct twin_pick *p)
{
    wr_str(&s->w, " FROM twin");
    if (p && p->path.n) {
        wr_str(&s->w, " INDEXED BY ");
        put_index_name(&s->w, p->path);
    }
    wr_str(&s->w, " WHERE ");
    wr_str(&s->w, kind ? kind : "true");
    if (p)
        put_pick(s, p);
}

enum err tx_twin_walk(struct store_tx *t, bool modules, unsigned with, const struct twin_pick *pick,
                      uint64_t *after_seq, twin_view_each *each, void *ctx)
{
    struct statement s = { .w = { s.room, sizeof s.room, 0 } };
    bool sorted = pick && !is_in_order(pick); /* the plus keeps the database from walking by seq instead */
    bool passes =
        pick ? !sorted : !modules; /* of modules alone there is an index, what is sorted is little */
    unsigned passed = 0;
    wr_str(&s.w, "SELECT " COLS);
    wr_str(&s.w, with & TWIN_WITH_STATUS ? ", (SELECT status FROM device WHERE id = twin.device)" : ", NULL");
    if (with & TWIN_WITH_CONNECTION)
        wr_str(&s.w, ", (SELECT connected = (SELECT value FROM counter WHERE name = 'start') FROM report"
                     " WHERE device = twin.id), (SELECT activity_ms FROM report WHERE device = twin.id)");
    put_source(&s, passes ? NULL : modules ? "module <> ''" : "module = ''", pick);
    wr_str(&s.w, sorted ? " AND +seq > " : " AND seq > ");
    put_value(&s, V_MS(*after_seq));
    wr_str(&s.w, sorted ? " ORDER BY +seq" : " ORDER BY seq");
    assert(wr_ok(&s.w));
    struct twin_view v = { .t = t, .with = with };
    enum err e = tx_query_text(t, &v.r, wr_span(&s.w), s.val, s.nr);
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
    int64_t n = 0;
    wr_str(&s.w, "SELECT count(*) FROM (SELECT 1");
    put_source(&s, NULL, pick);
    wr_str(&s.w, " LIMIT ");
    put_value(&s, V_MS(limit));
    wr_u8(&s.w, ')');
    assert(wr_ok(&s.w));
    enum err e = tx_query_text(t, &r, wr_span(&s.w), s.val, s.nr);
    if (tx_next(t, r, &e))
        n = t->be->col_int(r, 0);
    e = tx_end(t, r, e);
    if (!e)
        *nr = (size_t)n;
    return e;
}
