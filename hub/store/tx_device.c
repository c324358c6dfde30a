/* hub/store/tx_device.c - rows of the hub itself (meta, policies, tokens), of devices and their sessions. */
#include "hub/store/seen.h"

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
    " hw_rev, origin, issued_unused, seq, auth, thumb1, thumb2, status_reason, status_updated_ms, edge,"     \
    " scope, parent_scope"
#define DEVICE_COLS_NR 23

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
        .seq = col_u64(t, r, 14),
        .auth = (uint8_t)col_u64(t, r, 15),
        .thumb1 = col_span(t, r, 16),
        .thumb2 = col_span(t, r, 17),
        .status_reason = col_span(t, r, 18),
        .status_updated_ms = col_u64(t, r, 19),
        .edge = col_u64(t, r, 20) != 0,
        .scope = col_span(t, r, 21),
        .parent_scope = col_span(t, r, 22),
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

enum err tx_device_get_seen(struct store_tx *t, struct span id, struct device_row *out,
                            struct identity_seen *seen)
{
    static struct store_sql q =
        STORE_SQL("SELECT " DEVICE_COLS ", " SEEN_COLS("d.id") " FROM device d"
                                                               " LEFT JOIN report ON report.device = d.id"
                                                               " WHERE d.id = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(id)));
    if (e)
        return e;
    device_row(t, r, out);
    return tx_seen_row(t, r, DEVICE_COLS_NR, out->id, seen);
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

/* have: the etag of the row that is replaced, 0: none. An update leaves the place in the order of creation,
 * and what was sent before the device was there, as they are. */
static enum err device_write(struct store_tx *t, const struct device_row *r, int64_t have)
{
    static struct store_sql q = STORE_SQL(
        "INSERT INTO device(" DEVICE_COLS ", since_seq)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,"
        " ?19, ?20, ?21, ?22, ?23, ?24) ON CONFLICT(id) DO UPDATE SET status = excluded.status,"
        " key1 = excluded.key1, key2 = excluded.key2, public_key = excluded.public_key,"
        " generation = excluded.generation, etag = excluded.etag, created_ms = excluded.created_ms,"
        " updated_ms = excluded.updated_ms, product = excluded.product, hw_class = excluded.hw_class,"
        " hw_rev = excluded.hw_rev, origin = excluded.origin, issued_unused = excluded.issued_unused,"
        " auth = excluded.auth, thumb1 = excluded.thumb1, thumb2 = excluded.thumb2,"
        " status_reason = excluded.status_reason, status_updated_ms = excluded.status_updated_ms,"
        " edge = excluded.edge, scope = excluded.scope, parent_scope = excluded.parent_scope");
    uint64_t since = 0, seq = 0;
    enum err e = ERR_OK;
    if (!have) {
        e = tx_seq_last(t, SEQ_C2D, &since);
        if (!e)
            e = tx_seq_next(t, SEQ_IDENTITY, &seq);
        if (!e)
            e = tx_twin_create(t, r->id, SPAN_NONE, seq);
    }
    return e ? e
             : tx_exec(t, &q,
                       ARGS(V_TEXT(r->id), V_INT(r->status), V_OPT(r->key1), V_OPT(r->key2),
                            V_OPT(r->public_key), V_TEXT(r->generation), V_INT(have + 1), V_MS(r->created_ms),
                            V_MS(r->updated_ms), V_TEXT(r->product), V_INT(r->hw_class), V_INT(r->hw_rev),
                            V_TEXT(r->origin), V_INT(r->issued_unused), V_INT(seq), V_INT(r->auth),
                            V_TEXT(r->thumb1), V_TEXT(r->thumb2), V_TEXT(r->status_reason),
                            V_MS(r->status_updated_ms), V_INT(r->edge), V_TEXT(r->scope),
                            V_TEXT(r->parent_scope), V_INT(since)));
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
    e = device_write(t, r, have);
    if (!e && have && status != r->status)
        e = count_add(t, status, -1);
    if (!e && (!have || status != r->status))
        e = count_add(t, r->status, 1);
    if (!e && etag)
        *etag = (uint64_t)have + 1;
    return e;
}

enum err tx_identity_clear(struct store_tx *t, struct span from, struct span to)
{
    static struct store_sql q[] = {
        STORE_SQL("DELETE FROM session WHERE id >= ?1 AND id < ?2"),
        STORE_SQL("DELETE FROM c2d WHERE device >= ?1 AND device < ?2"),
        STORE_SQL("DELETE FROM report WHERE device >= ?1 AND device < ?2"),
        STORE_SQL(
            "DELETE FROM config_target WHERE twin IN (SELECT seq FROM twin WHERE id >= ?1 AND id < ?2)"),
        STORE_SQL("DELETE FROM twin WHERE id >= ?1 AND id < ?2"),
    };
    enum err e = tx_index_forget(t, from, to);
    for (size_t i = 0; !e && i < sizeof q / sizeof q[0]; i++)
        e = tx_exec(t, &q[i], ARGS(V_TEXT(from), V_TEXT(to)));
    return e;
}

enum err tx_device_delete(struct store_tx *t, struct span id)
{
    static struct store_sql find = STORE_SQL("SELECT status FROM device WHERE id = ?1");
    static struct store_sql q[] = {
        STORE_SQL("DELETE FROM device WHERE id = ?1"),
        STORE_SQL("DELETE FROM module WHERE device = ?1"),
        STORE_SQL("DELETE FROM session WHERE id = ?1"),
        STORE_SQL("DELETE FROM c2d WHERE device = ?1"),
        STORE_SQL("DELETE FROM broadcast_cursor WHERE device = ?1"),
        STORE_SQL("DELETE FROM broadcast_mark WHERE device = ?1"),
        STORE_SQL("DELETE FROM report WHERE device = ?1"),
        STORE_SQL("DELETE FROM config_target WHERE twin IN (SELECT seq FROM twin WHERE id = ?1)"),
        STORE_SQL("DELETE FROM twin WHERE id = ?1"),
        STORE_SQL("DELETE FROM upload WHERE device = ?1"),
        STORE_SQL("DELETE FROM deployment WHERE device = ?1"),
    };
    uint8_t from[DEVICE_ID_MAX + 1], to[DEVICE_ID_MAX + 1];
    int64_t status;
    enum err e = id.n > DEVICE_ID_MAX ? ERR_NOTFOUND : tx_number(t, -1, &status, &find, ARGS(V_TEXT(id)));
    if (!e && status < 0)
        e = ERR_NOTFOUND;
    if (!e)
        e = tx_broadcast_leave(t, id);
    if (!e)
        e = tx_index_forget(t, id, SPAN_NONE);
    for (size_t i = 0; !e && i < sizeof q / sizeof q[0]; i++)
        e = tx_exec(t, &q[i], ARGS(V_TEXT(id)));
    if (e)
        return e;
    /* '/' and '0' are neighbours: what belongs to the device's modules lies between them. */
    memcpy(from, id.p, id.n);
    memcpy(to, id.p, id.n);
    from[id.n] = '/';
    to[id.n] = '0';
    e = tx_identity_clear(t, span_of(from, id.n + 1), span_of(to, id.n + 1));
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

enum err tx_device_list_by_seq(struct store_tx *t, uint64_t after_seq, size_t limit, device_seen_each *each,
                               void *ctx)
{
    static struct store_sql q =
        STORE_SQL("SELECT " DEVICE_COLS ", " SEEN_COLS("d.id") " FROM device d"
                                                               " LEFT JOIN report ON report.device = d.id"
                                                               " WHERE d.seq > ?1 ORDER BY d.seq LIMIT ?2");
    struct store_rows *r;
    struct device_row row;
    struct identity_seen seen;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(after_seq), V_MS(limit)));
    while (tx_next(t, r, &e)) {
        device_row(t, r, &row);
        e = tx_seen_row(t, r, DEVICE_COLS_NR, row.id, &seen);
        if (!e)
            e = each(ctx, &row, &seen);
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
