/* hub/store/tx_config.c - rows of automatic configurations, their targets, and twins to look at again. */
#include "hub/store/store_backend.h"

#define COLS                                                                                                 \
    "seq, id, kind, condition, content, labels, metrics, schema_version, priority, etag, created_ms,"        \
    " updated_ms, gone, walking, old_cursor, new_cursor"
#define ALL_COLS COLS ", results, system_results"

static void config_row(struct store_tx *t, struct store_rows *r, struct config_row *out)
{
    *out = (struct config_row){
        .seq = col_u64(t, r, 0),
        .id = col_span(t, r, 1),
        .kind = (uint8_t)col_u64(t, r, 2),
        .condition = col_span(t, r, 3),
        .content = col_span(t, r, 4),
        .labels = col_span(t, r, 5),
        .metrics = col_span(t, r, 6),
        .schema_version = col_span(t, r, 7),
        .priority = col_u64(t, r, 8),
        .etag = col_u64(t, r, 9),
        .created_ms = col_u64(t, r, 10),
        .updated_ms = col_u64(t, r, 11),
        .gone = col_u64(t, r, 12) != 0,
        .walking = col_u64(t, r, 13) != 0,
        .old_cursor = col_u64(t, r, 14),
        .new_cursor = col_u64(t, r, 15),
        .results = col_span(t, r, 16),
        .system_results = col_span(t, r, 17),
    };
}

enum err tx_config_get(struct store_tx *t, struct span id, struct config_row *out)
{
    static struct store_sql q =
        STORE_SQL("SELECT " ALL_COLS " FROM configuration WHERE id = ?1 AND gone = 0");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(id)));
    if (!e)
        config_row(t, r, out);
    return e;
}

enum err tx_config_add(struct store_tx *t, const struct config_row *r)
{
    static struct store_sql there = STORE_SQL("SELECT seq FROM configuration WHERE id = ?1 AND gone = 0");
    static struct store_sql last = STORE_SQL("SELECT value FROM counter WHERE name = 'configuration'");
    static struct store_sql count =
        STORE_SQL("UPDATE counter SET value = value + 1 WHERE name = 'configuration'");
    static struct store_sql q =
        STORE_SQL("INSERT INTO configuration(" COLS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7,"
                  " ?8, ?9, ?10, ?11, ?12, 0, ?13, ?14, ?15)");
    int64_t n = -1;
    enum err e = tx_number(t, -1, &n, &there, ARGS(V_TEXT(r->id)));
    if (!e && n >= 0)
        return ERR_EXISTS;
    if (!e)
        e = tx_number(t, 0, &n, &last, ARGS_NONE);
    if (!e)
        e = tx_exec(t, &count, ARGS_NONE);
    return e ? e
             : tx_exec(t, &q,
                       ARGS(V_INT(n + 1), V_TEXT(r->id), V_INT(r->kind), V_TEXT(r->condition),
                            V_TEXT(r->content), V_TEXT(r->labels), V_TEXT(r->metrics),
                            V_TEXT(r->schema_version), V_MS(r->priority), V_MS(r->etag), V_MS(r->created_ms),
                            V_MS(r->updated_ms), V_INT(r->walking), V_INT(r->old_cursor),
                            V_INT(r->new_cursor)));
}

enum err tx_config_put(struct store_tx *t, const struct config_row *r)
{
    static struct store_sql q =
        STORE_SQL("UPDATE configuration SET condition = ?2, labels = ?3, metrics = ?4, schema_version = ?5,"
                  " priority = ?6, etag = ?7, updated_ms = ?8, gone = ?9, walking = ?10, old_cursor = ?11,"
                  " new_cursor = ?12 WHERE seq = ?1");
    return tx_exec(t, &q,
                   ARGS(V_MS(r->seq), V_TEXT(r->condition), V_TEXT(r->labels), V_TEXT(r->metrics),
                        V_TEXT(r->schema_version), V_MS(r->priority), V_MS(r->etag), V_MS(r->updated_ms),
                        V_INT(r->gone), V_INT(r->walking), V_INT(r->old_cursor), V_INT(r->new_cursor)));
}

enum err tx_config_results_put(struct store_tx *t, uint64_t seq, uint64_t etag, struct span results,
                               struct span system_results)
{
    static struct store_sql q =
        STORE_SQL("UPDATE configuration SET results = ?3, system_results = ?4 WHERE seq = ?1 AND etag = ?2");
    return tx_exec(t, &q, ARGS(V_MS(seq), V_MS(etag), V_TEXT(results), V_TEXT(system_results)));
}

enum err tx_config_delete(struct store_tx *t, uint64_t seq)
{
    static struct store_sql q = STORE_SQL("DELETE FROM configuration WHERE seq = ?1");
    return tx_exec(t, &q, ARGS(V_MS(seq)));
}

enum err tx_config_list(struct store_tx *t, bool gone, config_each *each, void *ctx)
{
    static struct store_sql q =
        STORE_SQL("SELECT " ALL_COLS " FROM configuration WHERE gone <= ?1 ORDER BY seq");
    struct store_rows *r;
    struct config_row row;
    enum err e = tx_query(t, &r, &q, ARGS(V_INT(gone)));
    while (tx_next(t, r, &e)) {
        config_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

enum err tx_config_count(struct store_tx *t, uint64_t by[2])
{
    static struct store_sql q =
        STORE_SQL("SELECT count(*) FROM configuration WHERE gone = 0 AND (kind = ?1) = ?2");
    enum err e = ERR_OK;
    for (int edge = 0; !e && edge < 2; edge++) {
        int64_t n = 0;
        e = tx_number(t, 0, &n, &q, ARGS(V_INT(CONFIG_EDGE), V_INT(edge)));
        by[edge] = (uint64_t)n;
    }
    return e;
}

/* ---- targets --------------------------------------------------------------------------------------------
 */

enum err tx_config_targets(struct store_tx *t, uint64_t twin, config_target_each *each, void *ctx)
{
    static struct store_sql q =
        STORE_SQL("SELECT config, applied FROM config_target WHERE twin = ?1 ORDER BY config");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(twin)));
    while (tx_next(t, r, &e))
        e = each(ctx, col_u64(t, r, 0), col_u64(t, r, 1) != 0);
    return tx_end(t, r, e);
}

enum err tx_config_target_put(struct store_tx *t, uint64_t config, uint64_t twin, bool applied)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO config_target(config, twin, applied) VALUES(?1, ?2, ?3)"
                  " ON CONFLICT(config, twin) DO UPDATE SET applied = excluded.applied");
    return tx_exec(t, &q, ARGS(V_MS(config), V_MS(twin), V_INT(applied)));
}

enum err tx_config_target_delete(struct store_tx *t, uint64_t config, uint64_t twin)
{
    static struct store_sql q = STORE_SQL("DELETE FROM config_target WHERE config = ?1 AND twin = ?2");
    return tx_exec(t, &q, ARGS(V_MS(config), V_MS(twin)));
}

/* Targets whose twin was deleted meanwhile do not count. */
enum err tx_config_target_count(struct store_tx *t, uint64_t config, uint64_t *targeted, uint64_t *applied)
{
    static struct store_sql all = STORE_SQL("SELECT count(*) FROM config_target WHERE config = ?1");
    static struct store_sql some =
        STORE_SQL("SELECT count(*) FROM config_target WHERE config = ?1 AND applied = 1");
    int64_t n = 0, m = 0;
    enum err e = tx_number(t, 0, &n, &all, ARGS(V_MS(config)));
    if (!e)
        e = tx_number(t, 0, &m, &some, ARGS(V_MS(config)));
    if (!e) {
        *targeted = (uint64_t)n;
        *applied = (uint64_t)m;
    }
    return e;
}

/* ---- to look at again -----------------------------------------------------------------------------------
 */

enum err tx_config_dirty_add(struct store_tx *t, uint64_t twin, struct span identity)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO config_dirty(twin, id) VALUES(?1, ?2) ON CONFLICT DO NOTHING");
    return tx_exec(t, &q, ARGS(V_MS(twin), V_TEXT(identity)));
}

enum err tx_config_dirty_list(struct store_tx *t, size_t limit, config_dirty_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT twin, id FROM config_dirty ORDER BY twin LIMIT ?1");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(limit)));
    while (tx_next(t, r, &e))
        e = each(ctx, col_u64(t, r, 0), col_span(t, r, 1));
    return tx_end(t, r, e);
}

enum err tx_config_dirty_delete(struct store_tx *t, uint64_t twin)
{
    static struct store_sql q = STORE_SQL("DELETE FROM config_dirty WHERE twin = ?1");
    return tx_exec(t, &q, ARGS(V_MS(twin)));
}

enum err tx_config_dirty_targets(struct store_tx *t, uint64_t config, size_t limit, uint64_t *cursor)
{
    static struct store_sql last =
        STORE_SQL("SELECT max(twin) FROM (SELECT twin FROM config_target WHERE config = ?1 AND twin > ?2"
                  " ORDER BY twin LIMIT ?3)");
    static struct store_sql mark = STORE_SQL(
        "INSERT INTO config_dirty(twin, id) SELECT w.seq, w.id FROM config_target c JOIN twin w"
        " ON w.seq = c.twin WHERE c.config = ?1 AND c.twin > ?2 AND c.twin <= ?3 ON CONFLICT DO NOTHING");
    static struct store_sql lost = /* of twins that are gone */
        STORE_SQL("DELETE FROM config_target WHERE config = ?1 AND twin > ?2 AND twin <= ?3"
                  " AND NOT EXISTS(SELECT 1 FROM twin w WHERE w.seq = config_target.twin)");
    int64_t to = 0;
    enum err e = tx_number(t, 0, &to, &last, ARGS(V_MS(config), V_MS(*cursor), V_MS(limit)));
    if (!e && !to) {
        *cursor = UINT64_MAX;
        return ERR_OK;
    }
    if (!e)
        e = tx_exec(t, &mark, ARGS(V_MS(config), V_MS(*cursor), V_INT(to)));
    if (!e)
        e = tx_exec(t, &lost, ARGS(V_MS(config), V_MS(*cursor), V_INT(to)));
    if (!e)
        *cursor = (uint64_t)to;
    return e;
}

enum err tx_config_dirty_new(struct store_tx *t, size_t limit, uint64_t *cursor, uint64_t *nr)
{
    static struct store_sql last =
        STORE_SQL("SELECT max(seq) FROM (SELECT seq FROM twin WHERE seq > ?1 ORDER BY seq LIMIT ?2)");
    static struct store_sql mark = STORE_SQL("INSERT INTO config_dirty(twin, id) SELECT seq, id FROM twin"
                                             " WHERE seq > ?1 AND seq <= ?2 ON CONFLICT DO NOTHING");
    int64_t to = 0;
    enum err e = tx_number(t, 0, &to, &last, ARGS(V_MS(*cursor), V_MS(limit)));
    *nr = 0;
    if (e || !to)
        return e;
    e = tx_exec(t, &mark, ARGS(V_MS(*cursor), V_INT(to)));
    if (!e) {
        *nr = (uint64_t)to - *cursor;
        *cursor = (uint64_t)to;
    }
    return e;
}

enum err tx_config_newest(struct store_tx *t, uint64_t *seq)
{
    static struct store_sql q = STORE_SQL("SELECT max(seq) FROM twin");
    int64_t n = 0;
    enum err e = tx_number(t, 0, &n, &q, ARGS_NONE);
    if (!e)
        *seq = (uint64_t)n;
    return e;
}
