/* hub/store/tx_device.c - rows of the hub itself (meta, policies, tokens), of devices and their sessions. */
#include "hub/store/store_backend.h"

/* ---- meta ------------------------------------------------------------------------------------------ */

enum err tx_meta_get(struct store_tx *t, struct span key, struct span *val)
{
    static struct store_sql q = STORE_SQL("SELECT val FROM meta WHERE key = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(key)));
    if (!e)
        *val = col_span(t, r, 0);
    return e;
}

enum err tx_meta_put(struct store_tx *t, struct span key, struct span val)
{
    static struct store_sql q = STORE_SQL("INSERT INTO meta(key, val) VALUES(?1, ?2)"
                                          " ON CONFLICT(key) DO UPDATE SET val = excluded.val");
    return tx_exec(t, &q, ARGS(V_TEXT(key), V_BYTES(val)));
}

/* ---- devices --------------------------------------------------------------------------------------- */

#define DEVICE_COLS                                                                                          \
    "id, status, key1, key2, public_key, generation, etag, created_ms, updated_ms, product, hw_class,"       \
    " hw_rev, origin, issued_unused"

static void device_row(struct store_tx *t, struct store_rows *r, struct device_row *out)
{
    *out = (struct device_row){
        .id = col_span(t, r, 0),
        .status = (uint8_t)col_u64(t, r, 1),
        .key1 = col_span(t, r, 2),
        .key2 = col_span(t, r, 3),
        .public_key = col_span(t, r, 4),
        .generation = col_span(t, r, 5),
        .etag = col_u64(t, r, 6),
        .created_ms = col_u64(t, r, 7),
        .updated_ms = col_u64(t, r, 8),
        .product = col_span(t, r, 9),
        .hw_class = (uint16_t)col_u64(t, r, 10),
        .hw_rev = (uint8_t)col_u64(t, r, 11),
        .origin = col_span(t, r, 12),
        .issued_unused = col_u64(t, r, 13) != 0,
    };
}

enum err tx_device_get(struct store_tx *t, struct span id, struct device_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " DEVICE_COLS " FROM device WHERE id = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(id)));
    if (!e)
        device_row(t, r, out);
    return e;
}

enum err tx_device_by_public_key(struct store_tx *t, struct span key, struct device_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " DEVICE_COLS " FROM device WHERE public_key = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_BYTES(key)));
    if (!e)
        device_row(t, r, out);
    return e;
}

/* Devices of a status are counted as they change: a fleet is never counted row by row. */
static enum err count_add(struct store_tx *t, int64_t status, int64_t by)
{
    static struct store_sql q =
        STORE_SQL("UPDATE counter SET value = value + ?2 WHERE name = 'device_' || ?1");
    return tx_exec(t, &q, ARGS(V_INT(status), V_INT(by)));
}

static enum err device_insert(struct store_tx *t, const struct device_row *r)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO device(" DEVICE_COLS ", since_seq)"
                  " VALUES(?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)");
    uint64_t since;
    enum err e = tx_c2d_seq_last(t, &since);
    if (!e)
        e = tx_exec(t, &q,
                    ARGS(V_TEXT(r->id), V_INT(r->status), V_OPT(r->key1), V_OPT(r->key2),
                         V_OPT(r->public_key), V_TEXT(r->generation), V_MS(r->created_ms),
                         V_MS(r->updated_ms), V_TEXT(r->product), V_INT(r->hw_class), V_INT(r->hw_rev),
                         V_TEXT(r->origin), V_INT(r->issued_unused), V_INT(since)));
    return e ? e : count_add(t, r->status, 1);
}

static enum err device_update(struct store_tx *t, const struct device_row *r, int64_t status, int64_t etag)
{
    static struct store_sql q =
        STORE_SQL("UPDATE device SET status = ?2, key1 = ?3, key2 = ?4, public_key = ?5, generation = ?6,"
                  " etag = ?7, created_ms = ?8, updated_ms = ?9, product = ?10, hw_class = ?11,"
                  " hw_rev = ?12, origin = ?13, issued_unused = ?14 WHERE id = ?1");
    enum err e = tx_exec(t, &q,
                         ARGS(V_TEXT(r->id), V_INT(r->status), V_OPT(r->key1), V_OPT(r->key2),
                              V_OPT(r->public_key), V_TEXT(r->generation), V_INT(etag), V_MS(r->created_ms),
                              V_MS(r->updated_ms), V_TEXT(r->product), V_INT(r->hw_class), V_INT(r->hw_rev),
                              V_TEXT(r->origin), V_INT(r->issued_unused)));
    if (e || status == r->status)
        return e;
    e = count_add(t, status, -1);
    return e ? e : count_add(t, r->status, 1);
}

enum err tx_device_put(struct store_tx *t, const struct device_row *r, uint64_t if_etag, uint64_t *etag)
{
    static struct store_sql q = STORE_SQL("SELECT etag, status FROM device WHERE id = ?1");
    struct store_rows *rows;
    int64_t have = 0, status = 0;
    enum err e = tx_query(t, &rows, &q, ARGS(V_TEXT(r->id)));
    if (tx_next(t, rows, &e)) {
        have = t->be->col_int(rows, 0);
        status = t->be->col_int(rows, 1);
    }
    e = tx_end(t, rows, e);
    if (e)
        return e;
    if (have && if_etag == UINT64_MAX)
        return ERR_EXISTS;
    if (if_etag && if_etag != UINT64_MAX && if_etag != (uint64_t)have)
        return ERR_STALE;
    e = have ? device_update(t, r, status, have + 1) : device_insert(t, r);
    if (!e && etag)
        *etag = (uint64_t)have + 1;
    return e;
}

enum err tx_device_delete(struct store_tx *t, struct span id)
{
    static struct store_sql find = STORE_SQL("SELECT status FROM device WHERE id = ?1");
    /* '/' and '0' are neighbours: sessions of the device's modules lie between them. */
    static struct store_sql q[] = {
        STORE_SQL("DELETE FROM device WHERE id = ?1"),
        STORE_SQL("DELETE FROM session WHERE id = ?1"),
        STORE_SQL("DELETE FROM session WHERE id >= ?1 || '/' AND id < ?1 || '0'"),
        STORE_SQL("DELETE FROM c2d WHERE device = ?1"),
        STORE_SQL("DELETE FROM broadcast_cursor WHERE device = ?1"),
        STORE_SQL("DELETE FROM broadcast_mark WHERE device = ?1"),
        STORE_SQL("DELETE FROM report WHERE device = ?1"),
        STORE_SQL("DELETE FROM deployment WHERE device = ?1"),
    };
    int64_t status;
    enum err e = tx_number(t, -1, &status, &find, ARGS(V_TEXT(id)));
    if (!e && status < 0)
        e = ERR_NOTFOUND;
    for (size_t i = 0; !e && i < sizeof q / sizeof q[0]; i++)
        e = tx_exec(t, &q[i], ARGS(V_TEXT(id)));
    return e ? e : count_add(t, status, -1);
}

enum err tx_device_list(struct store_tx *t, struct span after, size_t limit, int status, device_each *each,
                        void *ctx)
{
    static struct store_sql any =
        STORE_SQL("SELECT " DEVICE_COLS " FROM device WHERE id > ?1 ORDER BY id LIMIT ?2");
    static struct store_sql enabled =
        STORE_SQL("SELECT " DEVICE_COLS " FROM device WHERE id > ?1 AND status = 0 ORDER BY id LIMIT ?2");
    /* "<> 0" lets it use the index of the few that are not enabled. */
    static struct store_sql other = STORE_SQL("SELECT " DEVICE_COLS " FROM device WHERE id > ?1"
                                              " AND status = ?3 AND status <> 0 ORDER BY id LIMIT ?2");
    struct store_rows *r;
    struct device_row row;
    enum err e;
    if (status > 0)
        e = tx_query(t, &r, &other, ARGS(V_TEXT(after), V_MS(limit), V_INT(status)));
    else
        e = tx_query(t, &r, status < 0 ? &any : &enabled, ARGS(V_TEXT(after), V_MS(limit)));
    while (tx_next(t, r, &e)) {
        device_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

enum err tx_device_count(struct store_tx *t, uint64_t by_status[3])
{
    static struct store_sql q =
        STORE_SQL("SELECT value FROM counter WHERE name IN ('device_0', 'device_1', 'device_2')"
                  " ORDER BY name");
    struct store_rows *r;
    uint64_t nr[3] = { 0, 0, 0 };
    size_t i = 0;
    enum err e = tx_query(t, &r, &q, ARGS_NONE);
    while (i < 3 && tx_next(t, r, &e))
        nr[i++] = col_u64(t, r, 0);
    if (!e)
        memcpy(by_status, nr, sizeof nr);
    return tx_end(t, r, e);
}

/* ---- sessions -------------------------------------------------------------------------------------- */

enum err tx_session_get(struct store_tx *t, struct span id, struct session_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT id, channels FROM session WHERE id = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(id)));
    if (!e)
        *out = (struct session_row){ .id = col_span(t, r, 0), .channels = (uint32_t)col_u64(t, r, 1) };
    return e;
}

enum err tx_session_put(struct store_tx *t, const struct session_row *r)
{
    static struct store_sql q = STORE_SQL("INSERT INTO session(id, channels) VALUES(?1, ?2)"
                                          " ON CONFLICT(id) DO UPDATE SET channels = excluded.channels");
    return tx_exec(t, &q, ARGS(V_TEXT(r->id), V_INT(r->channels)));
}

enum err tx_session_delete(struct store_tx *t, struct span id)
{
    static struct store_sql q = STORE_SQL("DELETE FROM session WHERE id = ?1");
    return tx_exec(t, &q, ARGS(V_TEXT(id)));
}

/* ---- fleet tokens ---------------------------------------------------------------------------------- */

#define TOKEN_COLS "name, hash, hardware, created_ms, expires_ms, uses_left"

static void token_row(struct store_tx *t, struct store_rows *r, struct token_row *out)
{
    *out = (struct token_row){
        .name = col_span(t, r, 0),
        .hash = col_span(t, r, 1),
        .hardware = col_span(t, r, 2),
        .created_ms = col_u64(t, r, 3),
        .expires_ms = col_u64(t, r, 4),
        .uses_left = col_u64(t, r, 5),
    };
}

enum err tx_token_get(struct store_tx *t, struct span hash, struct token_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " TOKEN_COLS " FROM token WHERE hash = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_BYTES(hash)));
    if (!e)
        token_row(t, r, out);
    return e;
}

enum err tx_token_put(struct store_tx *t, const struct token_row *r)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO token(" TOKEN_COLS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6)"
                  " ON CONFLICT(name) DO UPDATE SET hash = excluded.hash, hardware = excluded.hardware,"
                  " created_ms = excluded.created_ms, expires_ms = excluded.expires_ms,"
                  " uses_left = excluded.uses_left");
    return tx_exec(t, &q,
                   ARGS(V_TEXT(r->name), V_BYTES(r->hash), V_TEXT(r->hardware), V_MS(r->created_ms),
                        V_MS(r->expires_ms), V_INT(r->uses_left)));
}

enum err tx_token_delete(struct store_tx *t, struct span name)
{
    static struct store_sql find = STORE_SQL("SELECT 1 FROM token WHERE name = ?1");
    static struct store_sql q = STORE_SQL("DELETE FROM token WHERE name = ?1");
    int64_t there;
    enum err e = tx_number(t, 0, &there, &find, ARGS(V_TEXT(name)));
    if (!e && !there)
        e = ERR_NOTFOUND;
    return e ? e : tx_exec(t, &q, ARGS(V_TEXT(name)));
}

enum err tx_token_list(struct store_tx *t, token_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT " TOKEN_COLS " FROM token ORDER BY name");
    struct store_rows *r;
    struct token_row row;
    enum err e = tx_query(t, &r, &q, ARGS_NONE);
    while (tx_next(t, r, &e)) {
        token_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

/* ---- shared access policies ------------------------------------------------------------------------ */

#define POLICY_COLS "name, key1, key2, rights"

static void policy_row(struct store_tx *t, struct store_rows *r, struct policy_row *out)
{
    *out = (struct policy_row){
        .name = col_span(t, r, 0),
        .key1 = col_span(t, r, 1),
        .key2 = col_span(t, r, 2),
        .rights = (uint32_t)col_u64(t, r, 3),
    };
}

enum err tx_policy_get(struct store_tx *t, struct span name, struct policy_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " POLICY_COLS " FROM policy WHERE name = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(name)));
    if (!e)
        policy_row(t, r, out);
    return e;
}

enum err tx_policy_put(struct store_tx *t, const struct policy_row *r)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO policy(" POLICY_COLS ") VALUES(?1, ?2, ?3, ?4)"
                  " ON CONFLICT(name) DO UPDATE SET key1 = excluded.key1, key2 = excluded.key2,"
                  " rights = excluded.rights");
    return tx_exec(t, &q, ARGS(V_TEXT(r->name), V_OPT(r->key1), V_OPT(r->key2), V_INT(r->rights)));
}

enum err tx_policy_list(struct store_tx *t, policy_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT " POLICY_COLS " FROM policy ORDER BY name");
    struct store_rows *r;
    struct policy_row row;
    enum err e = tx_query(t, &r, &q, ARGS_NONE);
    while (tx_next(t, r, &e)) {
        policy_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}
