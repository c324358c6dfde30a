/* hub/store/tx_fleet.c - what devices reported, trust records, releases and their artifacts, campaigns and
 * deployments, the audit log. */
#include "hub/store/seen.h"

#define AUDIT_MAX 1000000 /* rows kept; the oldest go */

/* ---- reports and connections ----------------------------------------------------------------------- */

#define REPORT_COLS                                                                                          \
    "device, report, report_seq, boot_id, reported_ms, running, connected = " START ", activity_ms,"         \
    " CASE WHEN " LEFT_BEHIND " THEN " LEFT_SINCE " ELSE connected_changed_ms END, " LEFT_BEHIND

static void report_row(struct store_tx *t, struct store_rows *r, struct report_row *out)
{
    *out = (struct report_row){
        .device = col_span(t, r, 0),
        .report = col_span(t, r, 1),
        .report_seq = col_u64(t, r, 2),
        .boot_id = col_u64(t, r, 3),
        .reported_ms = col_u64(t, r, 4),
        .running = col_span(t, r, 5),
        .connected = col_u64(t, r, 6) != 0,
        .activity_ms = col_u64(t, r, 7),
        .connected_changed_ms = col_u64(t, r, 8),
        .left = col_u64(t, r, 9) != 0,
    };
}

enum err tx_report_get(struct store_tx *t, struct span device, struct report_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " REPORT_COLS " FROM report WHERE device = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(device)));
    if (!e)
        report_row(t, r, out);
    return e;
}

enum err tx_seen_row(struct store_tx *t, struct store_rows *r, int first, struct span identity,
                     struct identity_seen *out)
{
    int64_t since = t->be->col_int(r, first + 4), newest = t->be->col_int(r, first + 5);
    struct identity_seen seen = { .connected = col_u64(t, r, first) != 0,
                                  .activity_ms = col_u64(t, r, first + 1),
                                  .connected_changed_ms = col_u64(t, r, first + 2),
                                  .waiting = col_u64(t, r, first + 3) };
    enum err e = since >= 0 && newest > since ? tx_c2d_count(t, identity, &seen.waiting) : ERR_OK;
    if (!e)
        *out = seen;
    return e;
}

enum err tx_identity_seen(struct store_tx *t, struct span identity, struct identity_seen *out)
{
    static struct store_sql q =
        STORE_SQL("SELECT " SEEN_COLS("?1") " FROM counter s LEFT JOIN device d ON d.id = ?1"
                                            " LEFT JOIN report ON report.device = ?1 WHERE s.name = 'start'");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(identity)));
    return e ? e : tx_seen_row(t, r, 0, identity, out);
}

enum err tx_report_left(struct store_tx *t, size_t max, report_each *each, void *ctx)
{
    static struct store_sql q = /* "connected > 0" is what the index is limited to */
        STORE_SQL("SELECT " REPORT_COLS " FROM report WHERE connected > 0 AND connected <> " START
                  " LIMIT ?1");
    struct store_rows *r;
    struct report_row row;
    enum err e = tx_query(t, &r, &q, ARGS(V_INT(max)));
    while (tx_next(t, r, &e)) {
        report_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

enum err tx_report_end_left(struct store_tx *t, struct span device)
{
    static struct store_sql q =
        STORE_SQL("UPDATE report SET connected_changed_ms = " LEFT_SINCE ", connected = -1"
                  " WHERE device = ?1 AND " LEFT_BEHIND);
    return tx_exec(t, &q, ARGS(V_TEXT(device)));
}

enum err tx_report_put(struct store_tx *t, const struct report_row *r)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO report(device, report, report_seq, boot_id, reported_ms, running, connected,"
                  " activity_ms, connected_changed_ms) VALUES(?1, ?2, ?3, ?4, ?5, ?6,"
                  " ?7 * " START " + ?7 - 1, ?8, ?9)"
                  " ON CONFLICT(device) DO UPDATE SET report = excluded.report,"
                  " report_seq = excluded.report_seq, boot_id = excluded.boot_id,"
                  " reported_ms = excluded.reported_ms, running = excluded.running,"
                  " connected = excluded.connected, activity_ms = excluded.activity_ms,"
                  " connected_changed_ms = excluded.connected_changed_ms");
    return tx_exec(t, &q,
                   ARGS(V_TEXT(r->device), V_OPT(r->report), V_INT(r->report_seq), V_INT(r->boot_id),
                        V_MS(r->reported_ms), V_OPT(r->running), V_INT(r->connected), V_MS(r->activity_ms),
                        V_MS(r->connected_changed_ms)));
}

enum err tx_report_set_connected(struct store_tx *t, struct span device, bool connected, uint64_t at_ms)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO report(device, report, report_seq, boot_id, reported_ms, running, connected,"
                  " activity_ms, connected_changed_ms) VALUES(?1, NULL, 0, 0, 0, NULL,"
                  " ?2 * " START " + ?2 - 1, ?3, ?3)"
                  " ON CONFLICT(device) DO UPDATE SET connected = excluded.connected,"
                  " activity_ms = excluded.activity_ms, connected_changed_ms ="
                  " CASE WHEN report.connected = excluded.connected AND report.connected_changed_ms > 0"
                  " THEN report.connected_changed_ms"
                  " WHEN excluded.connected < 0 AND " LEFT_BEHIND " THEN " LEFT_SINCE
                  " ELSE excluded.connected_changed_ms END");
    return tx_exec(t, &q, ARGS(V_TEXT(device), V_INT(connected), V_MS(at_ms)));
}

enum err tx_report_count_connected(struct store_tx *t, uint64_t *nr)
{
    static struct store_sql q = /* "connected > 0" is what the index is limited to */
        STORE_SQL("SELECT count(*) FROM report WHERE connected > 0"
                  " AND connected = " START " AND instr(device, '/') = 0");
    int64_t n;
    enum err e = tx_number(t, 0, &n, &q, ARGS_NONE);
    if (!e)
        *nr = (uint64_t)n;
    return e;
}

enum err tx_report_clear_connected(struct store_tx *t, uint64_t at_ms)
{
    static struct store_sql next = STORE_SQL("UPDATE counter SET value = value + 1 WHERE name = 'start'");
    static struct store_sql when =
        STORE_SQL("INSERT OR REPLACE INTO counter(name, value) SELECT 'start ' || value, ?1 FROM counter"
                  " WHERE name = 'start'");
    enum err e = tx_exec(t, &next, ARGS_NONE);
    return e ? e : tx_exec(t, &when, ARGS(V_MS(at_ms)));
}

/* ---- trust records --------------------------------------------------------------------------------- */

enum err tx_trust_get(struct store_tx *t, uint32_t version, struct span *envelope)
{
    static struct store_sql one = STORE_SQL("SELECT envelope FROM trust WHERE version = ?1");
    static struct store_sql newest = STORE_SQL("SELECT envelope FROM trust ORDER BY version DESC LIMIT 1");
    struct store_rows *r;
    enum err e = version ? tx_one(t, &r, &one, ARGS(V_INT(version))) : tx_one(t, &r, &newest, ARGS_NONE);
    if (!e)
        *envelope = col_span(t, r, 0);
    return e;
}

enum err tx_trust_put(struct store_tx *t, uint32_t version, struct span envelope)
{
    static struct store_sql q = STORE_SQL("INSERT INTO trust(version, envelope) VALUES(?1, ?2)");
    return tx_exec(t, &q, ARGS(V_INT(version), V_BYTES(envelope)));
}

/* ---- releases -------------------------------------------------------------------------------------- */

#define RELEASE_COLS                                                                                         \
    "id, product, version, hw_class, hw_rev_min, hw_rev_max, release_seq, created_ms, envelope"

static void release_row(struct store_tx *t, struct store_rows *r, struct release_row *out)
{
    *out = (struct release_row){
        .id = col_span(t, r, 0),
        .product = col_span(t, r, 1),
        .version = col_span(t, r, 2),
        .hw_class = (uint16_t)col_u64(t, r, 3),
        .hw_rev_min = (uint8_t)col_u64(t, r, 4),
        .hw_rev_max = (uint8_t)col_u64(t, r, 5),
        .release_seq = (uint32_t)col_u64(t, r, 6),
        .created_ms = col_u64(t, r, 7),
        .envelope = col_span(t, r, 8),
    };
}

enum err tx_release_get(struct store_tx *t, struct span id, struct release_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " RELEASE_COLS " FROM release WHERE id = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_BYTES(id)));
    if (!e)
        release_row(t, r, out);
    return e;
}

enum err tx_release_put(struct store_tx *t, const struct release_row *r)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO release(" RELEASE_COLS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
                  " ON CONFLICT(id) DO UPDATE SET product = excluded.product, version = excluded.version,"
                  " hw_class = excluded.hw_class, hw_rev_min = excluded.hw_rev_min,"
                  " hw_rev_max = excluded.hw_rev_max, release_seq = excluded.release_seq,"
                  " created_ms = excluded.created_ms, envelope = excluded.envelope");
    return tx_exec(t, &q,
                   ARGS(V_BYTES(r->id), V_TEXT(r->product), V_TEXT(r->version), V_INT(r->hw_class),
                        V_INT(r->hw_rev_min), V_INT(r->hw_rev_max), V_INT(r->release_seq),
                        V_MS(r->created_ms), V_BYTES(r->envelope)));
}

enum err tx_release_list(struct store_tx *t, release_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT " RELEASE_COLS " FROM release ORDER BY n DESC");
    struct store_rows *r;
    struct release_row row;
    enum err e = tx_query(t, &r, &q, ARGS_NONE);
    while (tx_next(t, r, &e)) {
        release_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

enum err tx_artifact_get(struct store_tx *t, struct span root, struct artifact_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT root, payload_sha256, tree_sha256, payload_len, tree_len"
                                          " FROM artifact WHERE root = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_BYTES(root)));
    if (!e)
        *out = (struct artifact_row){
            .root = col_span(t, r, 0),
            .payload_sha256 = col_span(t, r, 1),
            .tree_sha256 = col_span(t, r, 2),
            .payload_len = col_u64(t, r, 3),
            .tree_len = col_u64(t, r, 4),
        };
    return e;
}

enum err tx_artifact_put(struct store_tx *t, const struct artifact_row *r)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO artifact(root, payload_sha256, tree_sha256, payload_len, tree_len)"
                  " VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(root) DO UPDATE SET"
                  " payload_sha256 = excluded.payload_sha256, tree_sha256 = excluded.tree_sha256,"
                  " payload_len = excluded.payload_len, tree_len = excluded.tree_len");
    return tx_exec(t, &q,
                   ARGS(V_BYTES(r->root), V_BYTES(r->payload_sha256), V_BYTES(r->tree_sha256),
                        V_INT(r->payload_len), V_INT(r->tree_len)));
}

/* ---- campaigns ------------------------------------------------------------------------------------- */

#define CAMPAIGN_COLS "id, version, releases, all_devices, state, created_ms, created_by"

static void campaign_row(struct store_tx *t, struct store_rows *r, struct campaign_row *out)
{
    *out = (struct campaign_row){
        .id = col_span(t, r, 0),
        .version = col_span(t, r, 1),
        .releases = col_span(t, r, 2),
        .all = col_u64(t, r, 3) != 0,
        .state = (uint8_t)col_u64(t, r, 4),
        .created_ms = col_u64(t, r, 5),
        .created_by = col_span(t, r, 6),
    };
}

enum err tx_campaign_get(struct store_tx *t, struct span id, struct campaign_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " CAMPAIGN_COLS " FROM campaign WHERE id = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_BYTES(id)));
    if (!e)
        campaign_row(t, r, out);
    return e;
}

enum err tx_campaign_put(struct store_tx *t, const struct campaign_row *r)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO campaign(" CAMPAIGN_COLS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"
                  " ON CONFLICT(id) DO UPDATE SET version = excluded.version,"
                  " releases = excluded.releases, all_devices = excluded.all_devices,"
                  " state = excluded.state, created_ms = excluded.created_ms,"
                  " created_by = excluded.created_by");
    return tx_exec(t, &q,
                   ARGS(V_BYTES(r->id), V_TEXT(r->version), V_BYTES(r->releases), V_INT(r->all),
                        V_INT(r->state), V_MS(r->created_ms), V_TEXT(r->created_by)));
}

enum err tx_campaign_list(struct store_tx *t, campaign_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT " CAMPAIGN_COLS " FROM campaign ORDER BY n DESC");
    struct store_rows *r;
    struct campaign_row row;
    enum err e = tx_query(t, &r, &q, ARGS_NONE);
    while (tx_next(t, r, &e)) {
        campaign_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

/* ---- deployments ----------------------------------------------------------------------------------- */

#define DEPLOYMENT_COLS                                                                                      \
    "device, campaign, release, state, attempts, reason, updated_ms, deadline_ms, ticket_seq, bytes_done,"   \
    " bytes_total"

static void deployment_row(struct store_tx *t, struct store_rows *r, struct deployment_row *out)
{
    *out = (struct deployment_row){
        .device = col_span(t, r, 0),
        .campaign = col_span(t, r, 1),
        .release = col_span(t, r, 2),
        .state = (uint8_t)col_u64(t, r, 3),
        .attempts = (uint8_t)col_u64(t, r, 4),
        .reason = (uint16_t)col_u64(t, r, 5),
        .updated_ms = col_u64(t, r, 6),
        .deadline_ms = col_u64(t, r, 7),
        .ticket_seq = (uint32_t)col_u64(t, r, 8),
        .bytes_done = col_u64(t, r, 9),
        .bytes_total = col_u64(t, r, 10),
    };
}

enum err tx_deployment_get(struct store_tx *t, struct span device, struct span campaign,
                           struct deployment_row *out)
{
    static struct store_sql q =
        STORE_SQL("SELECT " DEPLOYMENT_COLS " FROM deployment WHERE device = ?1 AND campaign = ?2");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(device), V_BYTES(campaign)));
    if (!e)
        deployment_row(t, r, out);
    return e;
}

enum err tx_deployment_put(struct store_tx *t, const struct deployment_row *r)
{
    static struct store_sql q = STORE_SQL(
        "INSERT INTO deployment(" DEPLOYMENT_COLS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        " ON CONFLICT(device, campaign) DO UPDATE SET release = excluded.release, state = excluded.state,"
        " attempts = excluded.attempts, reason = excluded.reason, updated_ms = excluded.updated_ms,"
        " deadline_ms = excluded.deadline_ms, ticket_seq = excluded.ticket_seq,"
        " bytes_done = excluded.bytes_done, bytes_total = excluded.bytes_total");
    return tx_exec(t, &q,
                   ARGS(V_TEXT(r->device), V_BYTES(r->campaign), V_BYTES(r->release), V_INT(r->state),
                        V_INT(r->attempts), V_INT(r->reason), V_MS(r->updated_ms), V_MS(r->deadline_ms),
                        V_INT(r->ticket_seq), V_MS(r->bytes_done), V_MS(r->bytes_total)));
}

static enum err deployments_each(struct store_tx *t, struct store_rows *r, enum err e, deployment_each *each,
                                 void *ctx)
{
    struct deployment_row row;
    while (tx_next(t, r, &e)) {
        deployment_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

enum err tx_deployment_list(struct store_tx *t, struct span device, struct span campaign, struct span after,
                            size_t limit, deployment_each *each, void *ctx)
{
    static struct store_sql of_campaign =
        STORE_SQL("SELECT " DEPLOYMENT_COLS " FROM deployment WHERE campaign = ?1 AND device > ?2"
                  " ORDER BY device LIMIT ?3");
    static struct store_sql of_device = STORE_SQL("SELECT " DEPLOYMENT_COLS " FROM deployment"
                                                  " WHERE device = ?1 ORDER BY n DESC LIMIT ?2");
    struct store_rows *r;
    enum err e;
    if (campaign.n)
        e = tx_query(t, &r, &of_campaign, ARGS(V_BYTES(campaign), V_TEXT(after), V_MS(limit)));
    else
        e = tx_query(t, &r, &of_device, ARGS(V_TEXT(device), V_MS(limit)));
    return deployments_each(t, r, e, each, ctx);
}

enum err tx_deployment_due(struct store_tx *t, uint64_t now_ms, size_t limit, deployment_each *each,
                           void *ctx)
{
    /* 9 is DEPLOYMENT_CONFIRMED, the first terminal state; the index of the due knows it as a number. */
    static struct store_sql q =
        STORE_SQL("SELECT " DEPLOYMENT_COLS " FROM deployment WHERE deadline_ms > 0 AND state < 9"
                  " AND deadline_ms <= ?1 ORDER BY deadline_ms LIMIT ?2");
    _Static_assert(DEPLOYMENT_CONFIRMED == 9, "the index deployment_due and this query need a migration");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(now_ms), V_MS(limit)));
    return deployments_each(t, r, e, each, ctx);
}

enum err tx_deployment_count(struct store_tx *t, struct span campaign, uint64_t by_state[DEPLOYMENT_STATES])
{
    static struct store_sql q =
        STORE_SQL("SELECT state, count(*) FROM deployment WHERE campaign = ?1 GROUP BY state");
    struct store_rows *r;
    uint64_t nr[DEPLOYMENT_STATES] = { 0 };
    enum err e = tx_query(t, &r, &q, ARGS(V_BYTES(campaign)));
    while (tx_next(t, r, &e))
        if (col_u64(t, r, 0) < DEPLOYMENT_STATES)
            nr[col_u64(t, r, 0)] = col_u64(t, r, 1);
    if (!e)
        memcpy(by_state, nr, sizeof nr);
    return tx_end(t, r, e);
}

/* ---- audit ----------------------------------------------------------------------------------------- */

enum err tx_audit_push(struct store_tx *t, const struct audit_row *r)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO audit(at_ms, who, what, subject, detail) VALUES(?1, ?2, ?3, ?4, ?5)");
    static struct store_sql trim =
        STORE_SQL("DELETE FROM audit WHERE seq <= (SELECT max(seq) FROM audit) - ?1");
    enum err e = tx_exec(
        t, &q, ARGS(V_MS(r->at_ms), V_TEXT(r->who), V_TEXT(r->what), V_TEXT(r->subject), V_TEXT(r->detail)));
    return e ? e : tx_exec(t, &trim, ARGS(V_INT(AUDIT_MAX)));
}

enum err tx_audit_list(struct store_tx *t, uint64_t after_seq, size_t limit, audit_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT seq, at_ms, who, what, subject, detail FROM audit"
                                          " WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(after_seq), V_MS(limit)));
    while (tx_next(t, r, &e)) {
        struct audit_row row = {
            .seq = col_u64(t, r, 0),
            .at_ms = col_u64(t, r, 1),
            .who = col_span(t, r, 2),
            .what = col_span(t, r, 3),
            .subject = col_span(t, r, 4),
            .detail = col_span(t, r, 5),
        };
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}
