/* hub/store/tx_module.c - modules of devices, and the certificate authorities that vouch for devices. */
#include "hub/store/identity_name.h"
#include "hub/store/store_backend.h"

/* The etag of what a put replaces, 0 when there is nothing; *next: what it becomes. */
static enum err etag_check(int64_t have, uint64_t if_etag, uint64_t *next)
{
    if (have && if_etag == UINT64_MAX)
        return ERR_EXISTS;
    if (if_etag && if_etag != UINT64_MAX && if_etag != (uint64_t)have)
        return ERR_STALE;
    *next = (uint64_t)have + 1;
    return ERR_OK;
}

/* ---- modules --------------------------------------------------------------------------------------- */

#define MODULE_COLS                                                                                          \
    "device, id, seq, managed_by, auth, key1, key2, thumb1, thumb2, generation, etag, created_ms, "          \
    "updated_ms"

static void module_row(struct store_tx *t, struct store_rows *r, struct module_row *out)
{
    *out = (struct module_row){
        .device = col_span(t, r, 0),
        .id = col_span(t, r, 1),
        .seq = col_u64(t, r, 2),
        .managed_by = col_span(t, r, 3),
        .auth = (uint8_t)col_u64(t, r, 4),
        .key1 = col_span(t, r, 5),
        .key2 = col_span(t, r, 6),
        .thumb1 = col_span(t, r, 7),
        .thumb2 = col_span(t, r, 8),
        .generation = col_span(t, r, 9),
        .etag = col_u64(t, r, 10),
        .created_ms = col_u64(t, r, 11),
        .updated_ms = col_u64(t, r, 12),
    };
}

enum err tx_module_get(struct store_tx *t, struct span device, struct span id, struct module_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " MODULE_COLS " FROM module WHERE device = ?1 AND id = ?2");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(device), V_TEXT(id)));
    if (!e)
        module_row(t, r, out);
    return e;
}

enum err tx_module_put(struct store_tx *t, const struct module_row *r, uint64_t if_etag, uint64_t *etag)
{
    static struct store_sql find = STORE_SQL("SELECT etag FROM module WHERE device = ?1 AND id = ?2");
    static struct store_sql q =
        STORE_SQL("INSERT INTO module(" MODULE_COLS ")"
                  " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
                  " ON CONFLICT(device, id) DO UPDATE SET managed_by = excluded.managed_by,"
                  " auth = excluded.auth, key1 = excluded.key1, key2 = excluded.key2,"
                  " thumb1 = excluded.thumb1, thumb2 = excluded.thumb2, generation = excluded.generation,"
                  " etag = excluded.etag, created_ms = excluded.created_ms,"
                  " updated_ms = excluded.updated_ms"); /* the place in the order of creation stays */
    int64_t have;
    uint64_t next = 0, seq = 0;
    enum err e = tx_number(t, 0, &have, &find, ARGS(V_TEXT(r->device), V_TEXT(r->id)));
    if (!e)
        e = etag_check(have, if_etag, &next);
    if (!e && !have)
        e = tx_seq_next(t, SEQ_IDENTITY, &seq);
    if (!e && !have)
        e = tx_twin_create(t, r->device, r->id, seq);
    if (!e)
        e = tx_exec(t, &q,
                    ARGS(V_TEXT(r->device), V_TEXT(r->id), V_INT(seq), V_TEXT(r->managed_by), V_INT(r->auth),
                         V_OPT(r->key1), V_OPT(r->key2), V_TEXT(r->thumb1), V_TEXT(r->thumb2),
                         V_TEXT(r->generation), V_INT(next), V_MS(r->created_ms), V_MS(r->updated_ms)));
    if (!e && etag)
        *etag = next;
    return e;
}

enum err tx_module_delete(struct store_tx *t, struct span device, struct span id)
{
    static struct store_sql find = STORE_SQL("SELECT 1 FROM module WHERE device = ?1 AND id = ?2");
    static struct store_sql q = STORE_SQL("DELETE FROM module WHERE device = ?1 AND id = ?2");
    uint8_t text[2 * DEVICE_ID_MAX + 2];
    struct wr w = { text, sizeof text, 0 };
    int64_t there;
    enum err e = tx_number(t, 0, &there, &find, ARGS(V_TEXT(device), V_TEXT(id)));
    if (!e && !there)
        e = ERR_NOTFOUND;
    if (!e)
        e = tx_exec(t, &q, ARGS(V_TEXT(device), V_TEXT(id)));
    if (e)
        return e;
    identity_name_put(&w, device, id);
    struct span from = wr_span(&w);
    wr_u8(&w, 1); /* no text of an identity lies between */
    return tx_identity_clear(t, from, wr_span(&w));
}

enum err tx_module_list(struct store_tx *t, struct span device, module_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT " MODULE_COLS " FROM module WHERE device = ?1 ORDER BY id");
    struct store_rows *r;
    struct module_row row;
    enum err e = tx_query(t, &r, &q, ARGS(V_TEXT(device)));
    while (tx_next(t, r, &e)) {
        module_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

enum err tx_module_count(struct store_tx *t, struct span device, uint64_t *nr)
{
    static struct store_sql q = STORE_SQL("SELECT count(*) FROM module WHERE device = ?1");
    int64_t n;
    enum err e = tx_number(t, 0, &n, &q, ARGS(V_TEXT(device)));
    if (!e)
        *nr = (uint64_t)n;
    return e;
}

/* ---- certificate authorities ----------------------------------------------------------------------- */

#define CA_COLS "name, der, created_ms, etag"

static void ca_row(struct store_tx *t, struct store_rows *r, struct ca_row *out)
{
    *out = (struct ca_row){
        .name = col_span(t, r, 0),
        .der = col_span(t, r, 1),
        .created_ms = col_u64(t, r, 2),
        .etag = col_u64(t, r, 3),
    };
}

enum err tx_ca_get(struct store_tx *t, struct span name, struct ca_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " CA_COLS " FROM ca WHERE name = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(name)));
    if (!e)
        ca_row(t, r, out);
    return e;
}

enum err tx_ca_put(struct store_tx *t, const struct ca_row *r, uint64_t if_etag, uint64_t *etag)
{
    static struct store_sql find = STORE_SQL("SELECT etag FROM ca WHERE name = ?1");
    static struct store_sql q = STORE_SQL("INSERT INTO ca(" CA_COLS ") VALUES(?1, ?2, ?3, ?4)"
                                          " ON CONFLICT(name) DO UPDATE SET der = excluded.der,"
                                          " created_ms = excluded.created_ms, etag = excluded.etag");
    int64_t have;
    uint64_t next = 0;
    enum err e = tx_number(t, 0, &have, &find, ARGS(V_TEXT(r->name)));
    if (!e)
        e = etag_check(have, if_etag, &next);
    if (!e)
        e = tx_exec(t, &q, ARGS(V_TEXT(r->name), V_BYTES(r->der), V_MS(r->created_ms), V_INT(next)));
    if (!e && etag)
        *etag = next;
    return e;
}

enum err tx_ca_delete(struct store_tx *t, struct span name)
{
    static struct store_sql find = STORE_SQL("SELECT 1 FROM ca WHERE name = ?1");
    static struct store_sql q = STORE_SQL("DELETE FROM ca WHERE name = ?1");
    int64_t there;
    enum err e = tx_number(t, 0, &there, &find, ARGS(V_TEXT(name)));
    if (!e && !there)
        e = ERR_NOTFOUND;
    return e ? e : tx_exec(t, &q, ARGS(V_TEXT(name)));
}

enum err tx_ca_list(struct store_tx *t, ca_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT " CA_COLS " FROM ca ORDER BY name");
    struct store_rows *r;
    struct ca_row row;
    enum err e = tx_query(t, &r, &q, ARGS_NONE);
    while (tx_next(t, r, &e)) {
        ca_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}
