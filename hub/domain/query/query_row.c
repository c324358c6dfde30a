/* hub/domain/query/query_row.c - a twin as a row of a query. What most conditions ask for is a column, or
 * known of the identity; the rest is looked for in the document, which is made once a row. */
#include "hub/domain/query/query_impl.h"

#define ROW_ARENA_MAX (8u * 1024u * 1024u) /* the largest twin as a tree, and its document */

void query_twin_init(struct query_twin *t, struct hub *h, struct store_tx *tx)
{
    *t = (struct query_twin){ .row.get = query_twin_get, .h = h, .tx = tx };
    arena_init(&t->a, ROW_ARENA_MAX);
}

void query_twin_fini(struct query_twin *t)
{
    arena_fini(&t->a);
}

void query_twin_set(struct query_twin *t, struct twin_view *view)
{
    if (t->facts)
        arena_reset(&t->a, ROW_ARENA_MAX);
    t->view = view;
    t->facts = NULL;
    t->doc = SPAN_NONE;
}

static enum err need_facts(struct query_twin *t)
{
    if (t->facts)
        return ERR_OK;
    t->facts = arena_alloc(&t->a, sizeof *t->facts);
    if (!t->facts)
        return ERR_NOMEM;
    twin_view_row(t->view, &t->r);
    return twin_facts_get(t->tx, &t->a, &t->r, t->facts);
}

enum err query_twin_document(struct query_twin *t, struct span *json)
{
    struct twin twin;
    enum err e = t->doc.n ? ERR_OK : need_facts(t);
    if (!e && !t->doc.n) {
        e = twin_load(&t->a, &t->r, &twin);
        if (!e)
            e = twin_doc_text(&t->a, &twin, t->facts, &t->doc);
    }
    if (!e)
        *json = t->doc;
    return e;
}

static void put_text(struct span s, struct query_value *out)
{
    *out = (struct query_value){ .kind = QUERY_STRING, .s = s };
}

static void put_time(uint64_t wall_ms, struct wr *mem, struct query_value *out)
{
    const size_t from = mem->len;
    twin_time_write(mem, wall_ms);
    if (wr_ok(mem)) /* less its quotes */
        put_text(span_of(mem->p + from + 1, mem->len - from - 2), out);
}

static enum err status(struct query_twin *t, bool *enabled)
{
    struct device_row d;
    if (twin_view_has(t->view, TWIN_WITH_STATUS)) {
        *enabled = twin_view_status(t->view) == DEVICE_ENABLED;
        return ERR_OK;
    }
    enum err e = tx_device_get(t->tx, twin_view_text(t->view, TWIN_COL_DEVICE), &d);
    *enabled = !e && d.status == DEVICE_ENABLED;
    return e;
}

static enum err connection(struct query_twin *t, bool *connected, uint64_t *activity_ms)
{
    struct report_row r;
    if (twin_view_has(t->view, TWIN_WITH_CONNECTION)) {
        *connected = twin_view_connected(t->view, activity_ms);
        return ERR_OK;
    }
    enum err e = tx_report_get(t->tx, twin_view_text(t->view, TWIN_COL_ID), &r);
    *connected = !e && r.connected;
    *activity_ms = e ? 0 : r.activity_ms;
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

/* The same as in the document: what conditions ask of every row. False: it is none of these. */
static bool from_identity(struct query_twin *t, const struct query_path *p, struct wr *mem,
                          struct query_value *out)
{
    bool yes = false;
    uint64_t activity_ms = 0;
    if (p->nr != 1 || (p->field != QUERY_STATUS && p->field != QUERY_CONNECTION_STATE &&
                       p->field != QUERY_LAST_ACTIVITY_TIME))
        return false;
    enum err e = p->field == QUERY_STATUS ? status(t, &yes) : connection(t, &yes, &activity_ms);
    if (e)
        t->e = e;
    else if (p->field == QUERY_STATUS)
        put_text(yes ? SPAN("enabled") : SPAN("disabled"), out);
    else if (p->field == QUERY_CONNECTION_STATE)
        put_text(yes ? SPAN("Connected") : SPAN("Disconnected"), out);
    else
        put_time(activity_ms, mem, out);
    return true;
}

/* A section of the row's own text; false: what is asked for is not in it. */
static bool section(const struct query_path *p, enum twin_col *col)
{
    const struct span next = p->nr > p->field_steps ? p->step[p->field_steps].name : SPAN_NONE;
    *col = p->field == QUERY_DESIRED    ? TWIN_COL_DESIRED
           : p->field == QUERY_REPORTED ? TWIN_COL_REPORTED
                                        : TWIN_COL_TAGS;
    if (p->field == QUERY_TAGS)
        return true;
    return (p->field == QUERY_DESIRED || p->field == QUERY_REPORTED) && next.n && next.p[0] != '$';
}

void query_twin_get(struct query_row *row, const struct query_path *p, struct wr *mem,
                    struct query_value *out)
{
    struct query_twin *t = (struct query_twin *)row;
    const bool nocase = p->root == QUERY_TWIN;
    enum twin_col col;
    struct span text;
    if (p->field == QUERY_DEVICE_ID && p->nr == 1) {
        put_text(twin_view_text(t->view, TWIN_COL_DEVICE), out);
    } else if (p->field == QUERY_MODULE_ID && p->nr == 1) {
        text = twin_view_text(t->view, TWIN_COL_MODULE);
        if (text.n)
            put_text(text, out);
    } else if (section(p, &col)) {
        query_json_get(twin_view_text(t->view, col), p->step + p->field_steps, (size_t)p->nr - p->field_steps,
                       nocase, mem, out);
    } else if (p->field != QUERY_OTHER && !from_identity(t, p, mem, out)) {
        enum err e = query_twin_document(t, &text);
        if (e)
            t->e = e;
        else
            query_json_get(text, p->step, p->nr, nocase, mem, out);
    }
}
