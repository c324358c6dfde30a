/* hub/store/tx_index.c - indexes on paths of twins, for queries. Each twin that has a text, a number, true or
 * false at the path has a row in `twin_value`: the index, the value, the twin's place in the order of
 * creation.
 *
 * An index holds the twins up to one place, `upto`, and is kept true for those with every write of a twin; a
 * step of filling takes the next of them and moves the place on, in one transaction. Twins behind it are
 * nobody's business yet, new ones among them. So a step is a write like any other: others come between two,
 * and whatever ends the program in the middle, the next start goes on from there. When no twin is left behind
 * the place it moves to the end of all numbers, and then the index is ready. One that is no more wanted has
 * the place -1, and its rows go by steps as well. Which was chosen among what: docs/decisions/. */
#include "base/log.h"
#include "core/query/query.h"
#include "hub/store/store_backend.h"

#include <assert.h>
#include <math.h>

#define READY    INT64_MAX
#define UNWANTED (-1)

enum { TAGS, DESIRED, REPORTED, SECTIONS };

/* ---- paths --------------------------------------------------------------------------------------------- */

static const char *const prefixes[SECTIONS] = { "tags.", "properties.desired.", "properties.reported." };

/* The section, and the rest of the path; SECTIONS: none. */
static unsigned section_of(struct span path, struct span *rest)
{
    unsigned i = 0;
    while (i < SECTIONS && !span_starts(path, span_str(prefixes[i])))
        i++;
    if (i < SECTIONS)
        *rest = span_skip(path, strlen(prefixes[i]));
    return i;
}

bool twin_index_path_ok(struct span path)
{
    struct span rest = SPAN_NONE;
    if (path.n > TWIN_INDEX_PATH_MAX || section_of(path, &rest) == SECTIONS || !rest.n ||
        rest.p[rest.n - 1] == '.')
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

/* ---- values -------------------------------------------------------------------------------------------- */

static struct store_val number(double d)
{
    if (fabs(d) < 9007199254740992.0 && d == (double)(int64_t)d)
        return V_INT((int64_t)d); /* equal to the other, and shorter */
    return (struct store_val){ .kind = STORE_REAL, .real = d };
}

/* What a section has at the rest of the path, as the evaluator of queries reads it; false: nothing that a
 * condition with an index can be true of. room: QUERY_SCRATCH bytes, like the evaluator's. */
static bool value_at(struct span rest, struct span json, uint8_t *room, struct store_val *out)
{
    struct query_step step[TWIN_INDEX_PATH_MAX / 2];
    struct query_value v = { .kind = QUERY_UNDEFINED };
    struct wr mem = { room, QUERY_SCRATCH, 0 };
    size_t nr = 0, from = 0;
    for (size_t i = 0; i <= rest.n; i++)
        if (i == rest.n || rest.p[i] == '.') {
            assert(nr < sizeof step / sizeof step[0]);
            step[nr++] = (struct query_step){ .name = span_of(rest.p + from, i - from) };
            from = i + 1;
        }
    query_json_get(json, step, nr, false, &mem, &v);
    switch (v.kind) {
    case QUERY_NUMBER:
        *out = number(v.num);
        return true;
    case QUERY_BOOL:
        *out = V_INT(v.b);
        return true;
    case QUERY_STRING:
        *out = V_TEXT(v.s);
        return true;
    default:
        return false;
    }
}

static bool same_value(const struct store_val *a, const struct store_val *b)
{
    if (a->kind != b->kind)
        return false;
    return a->kind == STORE_TEXT  ? span_eq(a->s, b->s)
           : a->kind == STORE_INT ? a->i == b->i
                                  : a->real == b->real;
}

/* ---- what the writer knows of them --------------------------------------------------------------------- */

/* Read once; again after whatever may have changed them or undone a change. */
static enum err know(struct store_tx *t)
{
    static struct store_sql q =
        STORE_SQL("SELECT n, path, upto FROM twin_index WHERE upto >= 0 ORDER BY n LIMIT ?1");
    struct store_rows *r;
    assert(t->writable);
    if (t->index_known)
        return ERR_OK;
    t->index_nr = 0;
    enum err e = tx_query(t, &r, &q, ARGS(V_INT(TWIN_INDEX_MAX)));
    while (tx_next(t, r, &e)) {
        struct twin_index *x = &t->index[t->index_nr];
        struct span path = col_span(t, r, 1);
        if (!twin_index_path_ok(path))
            continue;
        *x = (struct twin_index){ .n = t->be->col_int(r, 0),
                                  .upto = t->be->col_int(r, 2),
                                  .path_len = (uint8_t)path.n };
        memcpy(x->path, path.p, path.n);
        t->index_nr++;
    }
    e = tx_end(t, r, e);
    t->index_known = !e;
    return e;
}

static struct span path_of(const struct twin_index *x)
{
    return span_of(x->path, x->path_len);
}

static enum err put_value(struct store_tx *t, const struct twin_index *x, struct store_val v, uint64_t seq)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO twin_value(n, val, seq) VALUES(?1, ?2, ?3) ON CONFLICT DO NOTHING");
    return tx_exec(t, &q, ARGS(V_INT(x->n), v, V_INT(seq)));
}

static enum err delete_value(struct store_tx *t, const struct twin_index *x, struct store_val v, uint64_t seq)
{
    static struct store_sql q = STORE_SQL("DELETE FROM twin_value WHERE n = ?1 AND val = ?2 AND seq = ?3");
    return tx_exec(t, &q, ARGS(V_INT(x->n), v, V_INT(seq)));
}

/* ---- beside every write of a twin ---------------------------------------------------------------------- */

/* Its sections change; fresh NULL: it goes. */
static enum err move(struct store_tx *t, uint64_t seq, const struct span *old, const struct span *fresh)
{
    uint8_t room[2][QUERY_SCRATCH];
    enum err e = ERR_OK;
    for (unsigned i = 0; !e && i < t->index_nr; i++) {
        const struct twin_index *x = &t->index[i];
        struct span rest = SPAN_NONE;
        struct store_val was = V_INT(0), is = V_INT(0);
        unsigned s = section_of(path_of(x), &rest);
        if (seq > (uint64_t)x->upto || (fresh && span_eq(old[s], fresh[s])))
            continue;
        bool had = value_at(rest, old[s], room[0], &was);
        bool has = fresh && value_at(rest, fresh[s], room[1], &is);
        if (had && has && same_value(&was, &is))
            continue;
        if (had)
            e = delete_value(t, x, was, seq);
        if (!e && has)
            e = put_value(t, x, is, seq);
    }
    return e;
}

static enum err move_row(struct store_tx *t, struct store_rows *r, const struct span *fresh)
{
    const struct span old[SECTIONS] = {
        [TAGS] = col_span(t, r, 1), [DESIRED] = col_span(t, r, 2), [REPORTED] = col_span(t, r, 3)
    };
    return move(t, col_u64(t, r, 0), old, fresh);
}

#define SECTION_COLS "seq, tags, desired, reported"

enum err tx_index_change(struct store_tx *t, const struct twin_row *to)
{
    static struct store_sql is_there = STORE_SQL("SELECT seq FROM twin WHERE id = ?1");
    static struct store_sql q = STORE_SQL("SELECT " SECTION_COLS " FROM twin WHERE id = ?1");
    const struct span fresh[SECTIONS] = {
        [TAGS] = to->tags, [DESIRED] = to->desired, [REPORTED] = to->reported
    };
    struct store_rows *r;
    enum err e = know(t);
    if (!e)
        e = tx_query(t, &r, t->index_nr ? &q : &is_there, ARGS(V_TEXT(to->id)));
    if (e)
        return e;
    bool found = tx_next(t, r, &e);
    if (found && t->index_nr)
        e = move_row(t, r, fresh);
    return tx_end(t, r, found || e ? e : ERR_NOTFOUND);
}

enum err tx_index_forget(struct store_tx *t, struct span from, struct span to)
{
    static struct store_sql one = STORE_SQL("SELECT " SECTION_COLS " FROM twin WHERE id = ?1");
    static struct store_sql some = STORE_SQL("SELECT " SECTION_COLS " FROM twin WHERE id >= ?1 AND id < ?2");
    struct store_rows *r;
    enum err e = know(t);
    if (e || !t->index_nr)
        return e;
    e = to.n ? tx_query(t, &r, &some, ARGS(V_TEXT(from), V_TEXT(to)))
             : tx_query(t, &r, &one, ARGS(V_TEXT(from)));
    while (tx_next(t, r, &e))
        e = move_row(t, r, NULL);
    return tx_end(t, r, e);
}

/* ---- which there are to be ----------------------------------------------------------------------------- */

static enum err move_place(struct store_tx *t, int64_t n, int64_t upto)
{
    static struct store_sql q = STORE_SQL("UPDATE twin_index SET upto = ?2 WHERE n = ?1");
    t->index_known = false;
    return tx_exec(t, &q, ARGS(V_INT(n), V_INT(upto)));
}

static struct twin_index *find(struct store_tx *t, struct span path)
{
    for (unsigned i = 0; i < t->index_nr; i++)
        if (span_eq(path_of(&t->index[i]), path))
            return &t->index[i];
    return NULL;
}

enum err tx_twin_index_keep(struct store_tx *t, const struct span *paths, size_t nr, bool *ready)
{
    /* The number of one whose rows are not gone yet is not given again. */
    static struct store_sql q = STORE_SQL(
        "INSERT INTO twin_index(n, path, upto) SELECT coalesce(max(n), 0) + 1, ?1, 0 FROM twin_index");
    bool wanted[TWIN_INDEX_MAX] = { false };
    enum err e = know(t);
    assert(nr <= TWIN_INDEX_MAX);
    for (size_t i = 0; !e && i < nr; i++) {
        const struct twin_index *x = twin_index_path_ok(paths[i]) ? find(t, paths[i]) : NULL;
        ready[i] = x && x->upto == READY;
        if (x)
            wanted[x - t->index] = true;
        else
            e = twin_index_path_ok(paths[i]) ? tx_exec(t, &q, ARGS(V_TEXT(paths[i]))) : ERR_PROTO;
    }
    const unsigned known_nr = t->index_nr;
    for (unsigned i = 0; !e && i < known_nr; i++)
        if (!wanted[i]) {
            log_info("query.index", "path=%.*s dropped", t->index[i].path_len,
                     (const char *)t->index[i].path);
            e = move_place(t, t->index[i].n, UNWANTED);
        }
    t->index_known = false;
    return e;
}

/* ---- steps --------------------------------------------------------------------------------------------- */

enum err tx_twin_index_fill(struct store_tx *t, struct span path, struct twin_index_step *out)
{
    static struct store_sql q[SECTIONS] = {
        [TAGS] = STORE_SQL("SELECT seq, tags FROM twin WHERE seq > ?1 ORDER BY seq LIMIT ?2"),
        [DESIRED] = STORE_SQL("SELECT seq, desired FROM twin WHERE seq > ?1 ORDER BY seq LIMIT ?2"),
        [REPORTED] = STORE_SQL("SELECT seq, reported FROM twin WHERE seq > ?1 ORDER BY seq LIMIT ?2"),
    };
    static struct store_sql last = STORE_SQL("SELECT max(seq) FROM twin");
    uint8_t room[QUERY_SCRATCH];
    struct store_rows *r;
    struct span rest = SPAN_NONE;
    struct store_val v = V_INT(0);
    unsigned rows = 0;
    size_t bytes = 0;
    int64_t end = 0;
    enum err e = know(t);
    if (e)
        return e;
    const struct twin_index *x = find(t, path);
    if (!x)
        return ERR_NOTFOUND;
    int64_t upto = x->upto;
    e = tx_query(t, &r, &q[section_of(path, &rest)], ARGS(V_INT(upto), V_INT(TWIN_INDEX_ROWS)));
    while (bytes < TWIN_INDEX_BYTES && tx_next(t, r, &e)) {
        struct span json = col_span(t, r, 1);
        upto = t->be->col_int(r, 0);
        rows++;
        bytes += json.n;
        if (value_at(rest, json, room, &v))
            e = put_value(t, x, v, (uint64_t)upto);
    }
    e = tx_end(t, r, e);
    if (!e && bytes < TWIN_INDEX_BYTES && rows < TWIN_INDEX_ROWS)
        upto = READY;
    if (!e && upto != x->upto)
        e = move_place(t, x->n, upto);
    if (!e)
        e = tx_number(t, 0, &end, &last, ARGS_NONE);
    if (!e)
        *out = (struct twin_index_step){ .done = upto == READY, .at = (uint64_t)upto, .end = (uint64_t)end };
    return e;
}

enum err tx_twin_index_clear(struct store_tx *t, bool *done)
{
    static struct store_sql unwanted =
        STORE_SQL("SELECT n FROM twin_index WHERE upto < 0 ORDER BY n LIMIT 1");
    static struct store_sql count =
        STORE_SQL("SELECT count(*) FROM (SELECT 1 FROM twin_value WHERE n = ?1 LIMIT ?2 + 1)");
    /* Whole values below the one in the middle of a piece; then, of one that has as many rows, the first half
     * of a piece. Each is a range of the key, and one of the two finds something. */
    static struct store_sql values =
        STORE_SQL("DELETE FROM twin_value WHERE n = ?1 AND val < (SELECT val FROM twin_value WHERE n = ?1"
                  " ORDER BY val, seq LIMIT 1 OFFSET ?2)");
    static struct store_sql one =
        STORE_SQL("DELETE FROM twin_value WHERE n = ?1"
                  " AND val = (SELECT val FROM twin_value WHERE n = ?1 ORDER BY val LIMIT 1)"
                  " AND seq < (SELECT seq FROM twin_value WHERE n = ?1"
                  " AND val = (SELECT val FROM twin_value WHERE n = ?1 ORDER BY val LIMIT 1)"
                  " ORDER BY seq LIMIT 1 OFFSET ?2)");
    static struct store_sql rest = STORE_SQL("DELETE FROM twin_value WHERE n = ?1");
    static struct store_sql over = STORE_SQL("DELETE FROM twin_index WHERE n = ?1");
    int64_t n, nr;
    enum err e = tx_number(t, -1, &n, &unwanted, ARGS_NONE);
    if (!e)
        *done = n < 0;
    if (e || n < 0)
        return e;
    const struct store_val half = V_INT(TWIN_INDEX_ROWS / 2);
    e = tx_number(t, 0, &nr, &count, ARGS(V_INT(n), half));
    if (e)
        return e;
    if (nr > half.i) {
        e = tx_exec(t, &values, ARGS(V_INT(n), half));
        return e ? e : tx_exec(t, &one, ARGS(V_INT(n), half));
    }
    e = tx_exec(t, &rest, ARGS(V_INT(n)));
    return e ? e : tx_exec(t, &over, ARGS(V_INT(n)));
}

/* ---- looking ------------------------------------------------------------------------------------------- */

enum err tx_index_ready(struct store_tx *t, struct span path, int64_t *n)
{
    static struct store_sql q = STORE_SQL("SELECT n FROM twin_index WHERE path = ?1 AND upto = ?2");
    enum err e = tx_number(t, -1, n, &q, ARGS(V_TEXT(path), V_INT(READY)));
    return !e && *n < 0 ? ERR_NOTFOUND : e;
}

enum err tx_twin_index_is_ready(struct store_tx *t, struct span path, bool *ready)
{
    int64_t n;
    enum err e = tx_index_ready(t, path, &n);
    if (e && e != ERR_NOTFOUND)
        return e;
    *ready = !e;
    return ERR_OK;
}
