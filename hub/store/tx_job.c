/* hub/store/tx_job.c - rows of jobs and of what they did to each device. */
#include "hub/store/store_backend.h"

#define JOB_COLS                                                                                             \
    "seq, id, kind, state, open, condition, body, reason, created_by, created_ms, start_ms, began_ms,"       \
    " end_ms, max_s, cursor, selected, total, succeeded, failed, running, canceled"

static void job_row(struct store_tx *t, struct store_rows *r, struct fleet_job_row *out)
{
    *out = (struct fleet_job_row){
        .seq = col_u64(t, r, 0),
        .id = col_span(t, r, 1),
        .kind = (uint8_t)col_u64(t, r, 2),
        .state = (uint8_t)col_u64(t, r, 3),
        .open = col_u64(t, r, 4) != 0,
        .condition = col_span(t, r, 5),
        .body = col_span(t, r, 6),
        .reason = col_span(t, r, 7),
        .created_by = col_span(t, r, 8),
        .created_ms = col_u64(t, r, 9),
        .start_ms = col_u64(t, r, 10),
        .began_ms = col_u64(t, r, 11),
        .end_ms = col_u64(t, r, 12),
        .max_s = (uint32_t)col_u64(t, r, 13),
        .cursor = col_u64(t, r, 14),
        .selected = col_u64(t, r, 15) != 0,
        .total = col_u64(t, r, 16),
        .succeeded = col_u64(t, r, 17),
        .failed = col_u64(t, r, 18),
        .running = col_u64(t, r, 19),
        .canceled = col_u64(t, r, 20),
    };
}

enum err tx_fleet_job_get(struct store_tx *t, struct span id, struct fleet_job_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " JOB_COLS " FROM job WHERE id = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(id)));
    if (!e)
        job_row(t, r, out);
    return e;
}

enum err tx_fleet_job_by_seq(struct store_tx *t, uint64_t seq, struct fleet_job_row *out)
{
    static struct store_sql q = STORE_SQL("SELECT " JOB_COLS " FROM job WHERE seq = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_MS(seq)));
    if (!e)
        job_row(t, r, out);
    return e;
}

enum err tx_fleet_job_add(struct store_tx *t, const struct fleet_job_row *r, uint64_t *seq)
{
    static struct store_sql there = STORE_SQL("SELECT seq FROM job WHERE id = ?1");
    static struct store_sql last = STORE_SQL("SELECT max(seq) FROM job");
    static struct store_sql q = STORE_SQL("INSERT INTO job(" JOB_COLS
                                          ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, '', ?8, ?9, ?10, 0, 0, ?11,"
                                          " 0, 0, 0, 0, 0, 0, 0)");
    int64_t n = -1;
    enum err e = tx_number(t, -1, &n, &there, ARGS(V_TEXT(r->id)));
    if (!e && n >= 0)
        return ERR_EXISTS;
    if (!e)
        e = tx_number(t, 0, &n, &last, ARGS_NONE);
    if (!e)
        e = tx_exec(t, &q,
                    ARGS(V_INT(n + 1), V_TEXT(r->id), V_INT(r->kind), V_INT(r->state), V_INT(r->open),
                         V_TEXT(r->condition), V_TEXT(r->body), V_TEXT(r->created_by), V_MS(r->created_ms),
                         V_MS(r->start_ms), V_INT(r->max_s)));
    if (!e)
        *seq = (uint64_t)n + 1;
    return e;
}

enum err tx_fleet_job_put(struct store_tx *t, const struct fleet_job_row *r)
{
    static struct store_sql q = STORE_SQL(
        "UPDATE job SET state = ?2, open = ?3, reason = ?4, began_ms = ?5, end_ms = ?6, cursor = ?7,"
        " selected = ?8, total = ?9, succeeded = ?10, failed = ?11, running = ?12, canceled = ?13"
        " WHERE seq = ?1");
    return tx_exec(t, &q,
                   ARGS(V_MS(r->seq), V_INT(r->state), V_INT(r->open), V_TEXT(r->reason), V_MS(r->began_ms),
                        V_MS(r->end_ms), V_MS(r->cursor), V_INT(r->selected), V_MS(r->total),
                        V_MS(r->succeeded), V_MS(r->failed), V_MS(r->running), V_MS(r->canceled)));
}

static enum err list(struct store_tx *t, struct store_sql *q, const struct store_val *v, unsigned nr,
                     fleet_job_each *each, void *ctx)
{
    struct store_rows *r;
    struct fleet_job_row row;
    enum err e = tx_query(t, &r, q, v, nr);
    while (tx_next(t, r, &e)) {
        job_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

enum err tx_fleet_job_list(struct store_tx *t, const struct fleet_job_filter *f, fleet_job_each *each,
                           void *ctx)
{
    static struct store_sql q = STORE_SQL(
        "SELECT " JOB_COLS " FROM job WHERE seq < ?1 AND (?2 = -1 OR kind = ?2 OR (?2 = -2 AND kind >= 2))"
        " AND (?3 < 0 OR state = ?3) ORDER BY seq DESC LIMIT ?4");
    return list(t, &q, ARGS(V_MS(f->before), V_INT(f->kind), V_INT(f->state), V_MS(f->limit)), each, ctx);
}

enum err tx_fleet_job_list_open(struct store_tx *t, fleet_job_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT " JOB_COLS " FROM job WHERE open = 1 ORDER BY seq");
    return list(t, &q, ARGS_NONE, each, ctx);
}

enum err tx_fleet_job_active(struct store_tx *t, int first_kind, int last_kind, uint64_t *nr)
{
    static struct store_sql q = STORE_SQL("SELECT count(*) FROM job WHERE open = 1 AND kind >= ?1"
                                          " AND kind <= ?2 AND state < 3");
    int64_t n = 0;
    enum err e = tx_number(t, 0, &n, &q, ARGS(V_INT(first_kind), V_INT(last_kind)));
    if (!e)
        *nr = (uint64_t)n;
    return e;
}

enum err tx_fleet_job_outdated(struct store_tx *t, uint64_t before_ms, uint64_t jobs_max,
                               uint64_t records_max, uint64_t *seq)
{
    static struct store_sql oldest =
        STORE_SQL("SELECT seq, end_ms FROM job WHERE open = 0 ORDER BY seq LIMIT 1");
    static struct store_sql jobs = STORE_SQL("SELECT max(seq) - min(seq) + 1 FROM job");
    static struct store_sql records = STORE_SQL("SELECT coalesce((SELECT max(nr) FROM job_device), 0)"
                                                " - coalesce((SELECT min(nr) FROM job_device), 1) + 1");
    static struct store_sql ended =
        STORE_SQL("SELECT seq FROM job WHERE open = 0 AND end_ms < ?1 ORDER BY end_ms LIMIT 1");
    struct store_rows *r;
    int64_t n = 0, m = 0, old = 0;
    enum err e = tx_number(t, 0, &old, &ended, ARGS(V_MS(before_ms)));
    if (!e && old) {
        *seq = (uint64_t)old;
        return ERR_OK;
    }
    if (!e)
        e = tx_number(t, 0, &n, &jobs, ARGS_NONE);
    if (!e)
        e = tx_number(t, 0, &m, &records, ARGS_NONE);
    if (!e && (uint64_t)n <= jobs_max && (uint64_t)m <= records_max)
        return ERR_NOTFOUND;
    if (!e)
        e = tx_one(t, &r, &oldest, ARGS_NONE);
    if (!e)
        *seq = col_u64(t, r, 0);
    return e;
}

enum err tx_fleet_job_delete(struct store_tx *t, uint64_t seq, size_t limit, bool *gone)
{
    static struct store_sql count =
        STORE_SQL("SELECT count(*) FROM (SELECT 1 FROM job_device WHERE job = ?1 LIMIT ?2)");
    static struct store_sql some = STORE_SQL("DELETE FROM job_device WHERE nr IN"
                                             " (SELECT nr FROM job_device WHERE job = ?1 LIMIT ?2)");
    static struct store_sql whole = STORE_SQL("DELETE FROM job WHERE seq = ?1");
    int64_t n = 0;
    enum err e = tx_number(t, 0, &n, &count, ARGS(V_MS(seq), V_MS(limit)));
    bool last = (uint64_t)n < limit;
    if (!e && n)
        e = tx_exec(t, &some, ARGS(V_MS(seq), V_MS(limit)));
    if (!e && last)
        e = tx_exec(t, &whole, ARGS(V_MS(seq)));
    if (!e)
        *gone = last;
    return e;
}

/* ---- devices of a job ---------------------------------------------------------------------------------- */

static void device_row(struct store_tx *t, struct store_rows *r, struct fleet_device_row *out)
{
    *out = (struct fleet_device_row){
        .nr = col_u64(t, r, 0),
        .job = col_u64(t, r, 1),
        .id = col_span(t, r, 2),
        .state = (uint8_t)col_u64(t, r, 3),
        .outcome = col_span(t, r, 4),
        .created_ms = col_u64(t, r, 5),
        .start_ms = col_u64(t, r, 6),
        .end_ms = col_u64(t, r, 7),
    };
}

enum err tx_fleet_device_add(struct store_tx *t, uint64_t job, struct span id, uint64_t created_ms)
{
    static struct store_sql q = STORE_SQL("INSERT INTO job_device(job, id, state, outcome, created_ms,"
                                          " start_ms, end_ms) VALUES(?1, ?2, 0, NULL, ?3, 0, 0)");
    return tx_exec(t, &q, ARGS(V_MS(job), V_TEXT(id), V_MS(created_ms)));
}

enum err tx_fleet_device_list(struct store_tx *t, uint64_t job, int state, size_t limit,
                              fleet_device_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT " TX_JOB_DEVICE_COLS " FROM job_device d WHERE d.job = ?1"
                                          " AND d.state = ?2 ORDER BY d.nr LIMIT ?3");
    struct store_rows *r;
    struct fleet_device_row row;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(job), V_INT(state), V_MS(limit)));
    while (tx_next(t, r, &e)) {
        device_row(t, r, &row);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

enum err tx_fleet_device_put(struct store_tx *t, const struct fleet_device_row *r)
{
    static struct store_sql q = STORE_SQL("UPDATE job_device SET state = ?2, outcome = ?3, start_ms = ?4,"
                                          " end_ms = ?5 WHERE nr = ?1");
    struct store_val outcome = V_TEXT(r->outcome);
    if (!r->outcome.n)
        outcome.kind = STORE_NULL;
    return tx_exec(t, &q, ARGS(V_MS(r->nr), V_INT(r->state), outcome, V_MS(r->start_ms), V_MS(r->end_ms)));
}

enum err tx_fleet_device_move(struct store_tx *t, const struct fleet_device_move *m, uint64_t *nr)
{
    static struct store_sql count = STORE_SQL("SELECT count(*) FROM (SELECT 1 FROM job_device WHERE job = ?1"
                                              " AND state = ?2 LIMIT ?3)");
    static struct store_sql q =
        STORE_SQL("UPDATE job_device SET state = ?3, outcome = ?4, end_ms = ?5 WHERE nr IN (SELECT nr"
                  " FROM job_device WHERE job = ?1 AND state = ?2 ORDER BY nr LIMIT ?6)");
    struct store_val outcome = V_TEXT(m->outcome);
    int64_t n = 0;
    if (!m->outcome.n)
        outcome.kind = STORE_NULL;
    enum err e = tx_number(t, 0, &n, &count, ARGS(V_MS(m->job), V_INT(m->from), V_MS(m->limit)));
    if (!e && n)
        e = tx_exec(
            t, &q,
            ARGS(V_MS(m->job), V_INT(m->from), V_INT(m->to), outcome, V_MS(m->end_ms), V_MS(m->limit)));
    if (!e)
        *nr = (uint64_t)n;
    return e;
}

enum err tx_fleet_device_walk(struct store_tx *t, struct span of, uint64_t after_nr, fleet_record_each *each,
                              void *ctx)
{
    static struct store_sql all = STORE_SQL(TX_JOB_RECORDS " WHERE d.nr > ?1 ORDER BY d.nr");
    static struct store_sql one = STORE_SQL(TX_JOB_RECORDS_OF_ONE);
    struct store_rows *r;
    struct fleet_device_row row;
    struct fleet_job_row job;
    enum err e = of.n ? tx_query(t, &r, &one, ARGS(V_MS(after_nr), V_TEXT(of)))
                      : tx_query(t, &r, &all, ARGS(V_MS(after_nr)));
    while (tx_next(t, r, &e)) {
        device_row(t, r, &row);
        job = (struct fleet_job_row){ .seq = row.job,
                                      .id = col_span(t, r, 8),
                                      .kind = (uint8_t)col_u64(t, r, 9) };
        e = each(ctx, &job, &row);
    }
    return tx_end(t, r, e);
}

/* ---- lines of an import that were refused ---------------------------------------------------------------
 */

enum err tx_job_error_add(struct store_tx *t, uint64_t job, uint64_t nr, struct span text)
{
    static struct store_sql q = STORE_SQL("INSERT INTO job_error(job, nr, text) VALUES(?1, ?2, ?3)");
    return tx_exec(t, &q, ARGS(V_MS(job), V_MS(nr), V_TEXT(text)));
}

enum err tx_job_error_list(struct store_tx *t, uint64_t job, uint64_t from, size_t limit,
                           job_error_each *each, void *ctx)
{
    static struct store_sql q = STORE_SQL("SELECT nr, text FROM job_error WHERE job = ?1 AND nr >= ?2"
                                          " ORDER BY nr LIMIT ?3");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(job), V_MS(from), V_MS(limit)));
    while (tx_next(t, r, &e))
        e = each(ctx, col_u64(t, r, 0), col_span(t, r, 1));
    return tx_end(t, r, e);
}

enum err tx_job_error_sweep(struct store_tx *t, size_t limit, uint64_t *nr)
{
    static struct store_sql find =
        STORE_SQL("SELECT job FROM job_error WHERE job NOT IN (SELECT seq FROM job WHERE open = 1) LIMIT 1");
    static struct store_sql count =
        STORE_SQL("SELECT count(*) FROM (SELECT 1 FROM job_error WHERE job = ?1 LIMIT ?2)");
    static struct store_sql q = STORE_SQL("DELETE FROM job_error WHERE job = ?1 AND nr IN"
                                          " (SELECT nr FROM job_error WHERE job = ?1 ORDER BY nr LIMIT ?2)");
    int64_t job = -1, n = 0;
    enum err e = tx_number(t, -1, &job, &find, ARGS_NONE);
    if (!e && job >= 0)
        e = tx_number(t, 0, &n, &count, ARGS(V_INT(job), V_MS(limit)));
    if (!e && n)
        e = tx_exec(t, &q, ARGS(V_INT(job), V_MS(limit)));
    if (!e)
        *nr = (uint64_t)n;
    return e;
}
