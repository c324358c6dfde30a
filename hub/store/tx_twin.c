/* hub/store/tx_twin.c - rows of twins. The key of the table is seq, so a walk over the fleet reads it front
 * to back; the identity's text finds one twin through an index. */
#include "hub/store/identity_name.h"
#include "hub/store/store_backend.h"

#include <assert.h>

#define TWIN_COLS                                                                                            \
    "id, device, module, seq, version, etag, tags, desired, reported, desired_meta, reported_meta,"          \
    " desired_version, reported_version, configurations, model_id"

static void twin_row(struct store_tx *t, struct store_rows *r, struct twin_row *out)
{
    *out = (struct twin_row){
        .id = col_span(t, r, 0),
        .device = col_span(t, r, 1),
        .module = col_span(t, r, 2),
        .seq = col_u64(t, r, 3),
        .version = col_u64(t, r, 4),
        .etag = col_u64(t, r, 5),
        .tags = col_span(t, r, 6),
        .desired = col_span(t, r, 7),
        .reported = col_span(t, r, 8),
        .desired_meta = col_span(t, r, 9),
        .reported_meta = col_span(t, r, 10),
        .desired_version = col_u64(t, r, 11),
        .reported_version = col_u64(t, r, 12),
        .configurations = col_span(t, r, 13),
        .model_id = col_span(t, r, 14),
    };
}

enum err tx_twin_get(struct store_tx *t, struct span id, struct twin_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " TWIN_COLS " FROM twin WHERE id = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(id)));
    if (!e)
        twin_row(t, r, out);
    return e;
}

enum err tx_twin_create(struct store_tx *t, struct span device, struct span module, uint64_t seq)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO twin(" TWIN_COLS ") VALUES(?1, ?2, ?3, ?4, 2, 1, '{}', '{}', '{}', NULL, NULL,"
                  " 1, 1, NULL, '')");
    uint8_t id[IDENTITY_NAME_MAX];
    struct wr w = { id, sizeof id, 0 };
    identity_name_put(&w, device, module);
    assert(wr_ok(&w));
    return tx_exec(t, &q, ARGS(V_TEXT(wr_span(&w)), V_TEXT(device), V_TEXT(module), V_INT(seq)));
}

/* Is there one? */
static enum err find(struct store_tx *t, struct span id)
{
    static struct store_sql q = STORE_SQL("SELECT seq FROM twin WHERE id = ?1");
    int64_t seq;
    enum err e = tx_number(t, -1, &seq, &q, ARGS(V_TEXT(id)));
    return !e && seq < 0 ? ERR_NOTFOUND : e;
}

enum err tx_twin_put(struct store_tx *t, const struct twin_row *r)
{
    static struct store_sql q =
        STORE_SQL("UPDATE twin SET version = ?2, etag = ?3, tags = ?4, desired = ?5, reported = ?6,"
                  " desired_meta = ?7, reported_meta = ?8, desired_version = ?9, reported_version = ?10,"
                  " configurations = ?11 WHERE id = ?1");
    struct store_val conf = V_TEXT(r->configurations);
    if (!r->configurations.n)
        conf.kind = STORE_NULL;
    enum err e = tx_index_change(t, r);
    return e ? e
             : tx_exec(t, &q,
                       ARGS(V_TEXT(r->id), V_INT(r->version), V_INT(r->etag), V_TEXT(r->tags),
                            V_TEXT(r->desired), V_TEXT(r->reported), V_OPT(r->desired_meta),
                            V_OPT(r->reported_meta), V_INT(r->desired_version), V_INT(r->reported_version),
                            conf));
}

enum err tx_twin_set_model(struct store_tx *t, struct span id, struct span model)
{
    static struct store_sql q = STORE_SQL("UPDATE twin SET model_id = ?2 WHERE id = ?1");
    enum err e = find(t, id);
    return e ? e : tx_exec(t, &q, ARGS(V_TEXT(id), V_TEXT(model)));
}

enum err tx_twin_delete(struct store_tx *t, struct span id)
{
    static struct store_sql q = STORE_SQL("DELETE FROM twin WHERE id = ?1");
    enum err e = tx_index_forget(t, id, SPAN_NONE);
    return e ? e : tx_exec(t, &q, ARGS(V_TEXT(id)));
}

enum err tx_twin_list(struct store_tx *t, bool modules, uint64_t after_seq, size_t limit, twin_each *each,
                      void *ctx)
{
    static struct store_sql devices = STORE_SQL("SELECT " TWIN_COLS " FROM twin WHERE seq > ?1"
                                                " AND module = '' ORDER BY seq LIMIT ?2");
    static struct store_sql of_modules = STORE_SQL("SELECT " TWIN_COLS " FROM twin WHERE seq > ?1"
                                                   " AND module <> '' ORDER BY seq LIMIT ?2");
    struct store_rows *r;
    struct twin_row row;
    enum err e = tx_query(t, &r, modules ? &of_modules : &devices, ARGS(V_MS(after_seq), V_MS(limit)));
    while (tx_next(t, r, &e)) {
        twin_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}
