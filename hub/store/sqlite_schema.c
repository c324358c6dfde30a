/* hub/store/sqlite_schema.c - the tables, as numbered migrations. A migration that was released is never
 * changed: add the next one at the end. Each runs in a transaction of its own. */
#include "base/log.h"
#include "hub/store/sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ids and names are TEXT (they sort by their bytes), hashes, keys and messages BLOB, times milliseconds
 * since 1970. Everything that belongs to a device begins its key with the device's id, so that a sharded
 * database can keep it together. */
#define QUERY_INDEXES "indexes of queries"
static const struct migration {
    const char *name, *sql;
} migrations[] = {
    { "first tables",
      "CREATE TABLE meta(key TEXT PRIMARY KEY, val BLOB NOT NULL) WITHOUT ROWID;"
      "CREATE TABLE counter(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
      "INSERT INTO counter VALUES('c2d_seq', 0), ('start', 0), ('device_0', 0), ('device_1', 0),"
      " ('device_2', 0);"

      /* since_seq: broadcasts up to here were sent before the device was there */
      "CREATE TABLE device(id TEXT PRIMARY KEY, status INTEGER NOT NULL, key1 BLOB, key2 BLOB,"
      " public_key BLOB, generation TEXT NOT NULL, etag INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
      " updated_ms INTEGER NOT NULL, product TEXT NOT NULL, hw_class INTEGER NOT NULL,"
      " hw_rev INTEGER NOT NULL, origin TEXT NOT NULL, issued_unused INTEGER NOT NULL,"
      " since_seq INTEGER NOT NULL) WITHOUT ROWID;"
      "CREATE UNIQUE INDEX device_public_key ON device(public_key) WHERE public_key IS NOT NULL;"
      "CREATE INDEX device_status ON device(status, id) WHERE status <> 0;"

      "CREATE TABLE session(id TEXT PRIMARY KEY, channels INTEGER NOT NULL) WITHOUT ROWID;"

      "CREATE TABLE c2d(seq INTEGER PRIMARY KEY, device TEXT NOT NULL, deliveries INTEGER NOT NULL,"
      " enqueued_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, ack INTEGER NOT NULL,"
      " message_id TEXT NOT NULL, props BLOB NOT NULL, body BLOB NOT NULL);"
      "CREATE INDEX c2d_device ON c2d(device);" /* ends with seq by itself */
      "CREATE INDEX c2d_expires ON c2d(expires_ms) WHERE expires_ms > 0;"
      "CREATE TABLE broadcast(seq INTEGER PRIMARY KEY, enqueued_ms INTEGER NOT NULL,"
      " expires_ms INTEGER NOT NULL, ack INTEGER NOT NULL, message_id TEXT NOT NULL, props BLOB NOT NULL,"
      " body BLOB NOT NULL);"
      "CREATE INDEX broadcast_expires ON broadcast(expires_ms) WHERE expires_ms > 0;"
      /* What a device did with broadcasts: settled up to seq, and single marks beyond it. */
      "CREATE TABLE broadcast_cursor(device TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;"
      "CREATE TABLE broadcast_mark(device TEXT NOT NULL, seq INTEGER NOT NULL, settled INTEGER NOT NULL,"
      " deliveries INTEGER NOT NULL, PRIMARY KEY(device, seq)) WITHOUT ROWID;"
      "CREATE TABLE feedback(seq INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL,"
      " device TEXT NOT NULL, message_id TEXT NOT NULL, outcome TEXT NOT NULL,"
      " broadcast_seq INTEGER NOT NULL);"

      /* connected holds the number of the hub's start in which it was written: a restart clears all */
      "CREATE TABLE report(device TEXT PRIMARY KEY, report BLOB, report_seq INTEGER NOT NULL,"
      " boot_id INTEGER NOT NULL, reported_ms INTEGER NOT NULL, running BLOB,"
      " connected INTEGER NOT NULL, activity_ms INTEGER NOT NULL) WITHOUT ROWID;"

      "CREATE TABLE token(name TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, hardware TEXT NOT NULL,"
      " created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, uses_left INTEGER NOT NULL) WITHOUT ROWID;"
      "CREATE TABLE policy(name TEXT PRIMARY KEY, key1 BLOB, key2 BLOB, rights INTEGER NOT NULL)"
      " WITHOUT ROWID;"
      "CREATE TABLE trust(version INTEGER PRIMARY KEY, envelope BLOB NOT NULL);"
      "CREATE TABLE release(n INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, product TEXT NOT NULL,"
      " version TEXT NOT NULL, hw_class INTEGER NOT NULL, hw_rev_min INTEGER NOT NULL,"
      " hw_rev_max INTEGER NOT NULL, release_seq INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
      " envelope BLOB NOT NULL);"
      "CREATE TABLE artifact(root BLOB PRIMARY KEY, payload_sha256 BLOB NOT NULL,"
      " tree_sha256 BLOB NOT NULL, payload_len INTEGER NOT NULL, tree_len INTEGER NOT NULL) WITHOUT ROWID;"
      "CREATE TABLE campaign(n INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, version TEXT NOT NULL,"
      " releases BLOB NOT NULL, all_devices INTEGER NOT NULL, state INTEGER NOT NULL,"
      " created_ms INTEGER NOT NULL, created_by TEXT NOT NULL);"
      "CREATE TABLE deployment(n INTEGER PRIMARY KEY, device TEXT NOT NULL, campaign BLOB NOT NULL,"
      " release BLOB NOT NULL, state INTEGER NOT NULL, attempts INTEGER NOT NULL, reason INTEGER NOT NULL,"
      " updated_ms INTEGER NOT NULL, deadline_ms INTEGER NOT NULL, ticket_seq INTEGER NOT NULL,"
      " bytes_done INTEGER NOT NULL, bytes_total INTEGER NOT NULL, UNIQUE(device, campaign));"
      "CREATE INDEX deployment_campaign ON deployment(campaign, device, state);"
      "CREATE INDEX deployment_due ON deployment(deadline_ms) WHERE deadline_ms > 0 AND state < 9;"

      "CREATE TABLE audit(seq INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, who TEXT NOT NULL,"
      " what TEXT NOT NULL, subject TEXT NOT NULL, detail TEXT NOT NULL);" },
    { "identities",
      "ALTER TABLE device ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;"
      "ALTER TABLE device ADD COLUMN auth INTEGER NOT NULL DEFAULT 0;"
      "ALTER TABLE device ADD COLUMN thumb1 TEXT NOT NULL DEFAULT '';"
      "ALTER TABLE device ADD COLUMN thumb2 TEXT NOT NULL DEFAULT '';"
      "ALTER TABLE device ADD COLUMN status_reason TEXT NOT NULL DEFAULT '';"
      "ALTER TABLE device ADD COLUMN status_updated_ms INTEGER NOT NULL DEFAULT 0;"
      "ALTER TABLE device ADD COLUMN edge INTEGER NOT NULL DEFAULT 0;"
      "ALTER TABLE device ADD COLUMN scope TEXT NOT NULL DEFAULT '';"
      "ALTER TABLE device ADD COLUMN parent_scope TEXT NOT NULL DEFAULT '';"
      "UPDATE device SET seq = x.n FROM"
      " (SELECT id, row_number() OVER (ORDER BY created_ms, id) AS n FROM device) AS x"
      " WHERE x.id = device.id;"
      "CREATE UNIQUE INDEX device_seq ON device(seq);"
      "INSERT INTO counter SELECT 'identity_seq', coalesce(max(seq), 0) FROM device;"
      "CREATE TABLE module(device TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL,"
      " managed_by TEXT NOT NULL, auth INTEGER NOT NULL, key1 BLOB, key2 BLOB, thumb1 TEXT NOT NULL,"
      " thumb2 TEXT NOT NULL, generation TEXT NOT NULL, etag INTEGER NOT NULL,"
      " created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, PRIMARY KEY(device, id)) WITHOUT ROWID;"
      "CREATE TABLE ca(name TEXT PRIMARY KEY, der BLOB NOT NULL, created_ms INTEGER NOT NULL,"
      " etag INTEGER NOT NULL) WITHOUT ROWID;"
      "ALTER TABLE report ADD COLUMN connected_changed_ms INTEGER NOT NULL DEFAULT 0;" },
    { "twins",
      /* Large values last: a walk over the rows that needs only numbers does not touch the pages behind. */
      "CREATE TABLE twin(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, device TEXT NOT NULL,"
      " module TEXT NOT NULL, version INTEGER NOT NULL, etag INTEGER NOT NULL,"
      " desired_version INTEGER NOT NULL, reported_version INTEGER NOT NULL, model_id TEXT NOT NULL,"
      " configurations TEXT, tags TEXT NOT NULL, desired TEXT NOT NULL, reported TEXT NOT NULL,"
      " desired_meta BLOB, reported_meta BLOB);"
      "CREATE INDEX twin_module ON twin(seq) WHERE module <> '';"
      "INSERT INTO twin SELECT seq, id, id, '', 2, 1, 1, 1, '', NULL, '{}', '{}', '{}', NULL, NULL"
      " FROM device ORDER BY seq;"
      "INSERT INTO twin SELECT seq, device || '/' || id, device, id, 2, 1, 1, 1, '', NULL, '{}', '{}', '{}',"
      " NULL, NULL FROM module ORDER BY seq;" },
    { "feedback as a queue", "ALTER TABLE feedback ADD COLUMN generation TEXT NOT NULL DEFAULT '';"
                             "ALTER TABLE feedback ADD COLUMN done INTEGER NOT NULL DEFAULT 0;"
                             "ALTER TABLE feedback ADD COLUMN lock TEXT NOT NULL DEFAULT '';"
                             "ALTER TABLE feedback ADD COLUMN locked_until_ms INTEGER NOT NULL DEFAULT 0;"
                             "CREATE INDEX feedback_open ON feedback(seq) WHERE done = 0;"
                             "CREATE INDEX feedback_lock ON feedback(lock) WHERE done = 0 AND lock <> '';" },
    { "who is connected", "CREATE INDEX report_connected ON report(connected, device) WHERE connected > 0;" },
    { "routing", "CREATE TABLE routing(kind INTEGER NOT NULL, name TEXT NOT NULL, spec TEXT NOT NULL,"
                 " created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL);"
                 "CREATE UNIQUE INDEX routing_name ON routing(kind, lower(name));"
                 "CREATE TABLE outbox(seq INTEGER PRIMARY KEY AUTOINCREMENT, record BLOB NOT NULL);"
                 "CREATE TABLE stream_cursor(name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;"
                 "INSERT INTO counter VALUES('event_seq', 0);" },
    { "uploads",
      "CREATE TABLE upload(id TEXT PRIMARY KEY, device TEXT NOT NULL, blob TEXT NOT NULL,"
      " created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL) WITHOUT ROWID;"
      "CREATE INDEX upload_device ON upload(device, expires_ms);"
      "CREATE INDEX upload_expires ON upload(expires_ms);"
      "CREATE TABLE upload_usage(owner TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;"
      "CREATE TABLE named_blob(container TEXT NOT NULL, name TEXT NOT NULL, file BLOB NOT NULL,"
      " length INTEGER NOT NULL, md5 BLOB NOT NULL, content_type TEXT NOT NULL, meta TEXT NOT NULL,"
      " created_ms INTEGER NOT NULL, modified_ms INTEGER NOT NULL, PRIMARY KEY(container, name)) WITHOUT "
      "ROWID;"
      "CREATE INDEX named_blob_modified ON named_blob(modified_ms);"
      "CREATE INDEX named_blob_file ON named_blob(file);"
      "CREATE TABLE blob_block(container TEXT NOT NULL, name TEXT NOT NULL, id BLOB NOT NULL, file BLOB NOT "
      "NULL,"
      " length INTEGER NOT NULL, created_ms INTEGER NOT NULL, PRIMARY KEY(container, name, id)) WITHOUT "
      "ROWID;"
      "CREATE INDEX blob_block_created ON blob_block(created_ms);"
      "CREATE INDEX blob_block_file ON blob_block(file);"
      "CREATE TABLE blob_open(container TEXT NOT NULL, name TEXT NOT NULL, blocks INTEGER NOT NULL,"
      " id_len INTEGER NOT NULL, version INTEGER NOT NULL, PRIMARY KEY(container, name)) WITHOUT ROWID;"
      "CREATE TABLE file_note(seq INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, blob TEXT NOT "
      "NULL,"
      " uri TEXT NOT NULL, length INTEGER NOT NULL, modified_ms INTEGER NOT NULL, enqueued_ms INTEGER NOT "
      "NULL,"
      " deliveries INTEGER NOT NULL, lock TEXT NOT NULL, locked_until_ms INTEGER NOT NULL);"
      "CREATE INDEX file_note_lock ON file_note(lock) WHERE lock <> '';" },
    { "what became of broadcasts",
      "CREATE TABLE broadcast_tally(seq INTEGER PRIMARY KEY, message_id TEXT NOT NULL, sent_ms INTEGER NOT "
      "NULL,"
      " expires_ms INTEGER NOT NULL, devices INTEGER NOT NULL, pending INTEGER NOT NULL,"
      " delivered INTEGER NOT NULL DEFAULT 0, expired INTEGER NOT NULL DEFAULT 0,"
      " dead INTEGER NOT NULL DEFAULT 0, purged INTEGER NOT NULL DEFAULT 0,"
      " rejected INTEGER NOT NULL DEFAULT 0);"
      "CREATE INDEX broadcast_tally_id ON broadcast_tally(message_id);" },
    { "jobs",
      "CREATE TABLE job(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL,"
      " state INTEGER NOT NULL, open INTEGER NOT NULL, condition TEXT NOT NULL, body TEXT NOT NULL,"
      " reason TEXT NOT NULL, created_by TEXT NOT NULL, created_ms INTEGER NOT NULL,"
      " start_ms INTEGER NOT NULL, began_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL,"
      " max_s INTEGER NOT NULL, cursor INTEGER NOT NULL, selected INTEGER NOT NULL, total INTEGER NOT NULL,"
      " succeeded INTEGER NOT NULL, failed INTEGER NOT NULL, running INTEGER NOT NULL,"
      " canceled INTEGER NOT NULL);"
      "CREATE INDEX job_open ON job(seq) WHERE open = 1;"
      "CREATE INDEX job_ended ON job(end_ms) WHERE open = 0;"
      "CREATE TABLE job_device(nr INTEGER PRIMARY KEY, job INTEGER NOT NULL, id TEXT NOT NULL,"
      " state INTEGER NOT NULL, outcome TEXT, created_ms INTEGER NOT NULL, start_ms INTEGER NOT NULL,"
      " end_ms INTEGER NOT NULL);"
      "CREATE INDEX job_device_state ON job_device(job, state);" },
    { "configurations",
      "CREATE TABLE configuration(seq INTEGER PRIMARY KEY, id TEXT NOT NULL, kind INTEGER NOT NULL,"
      " condition TEXT NOT NULL, content TEXT NOT NULL, labels TEXT NOT NULL, metrics TEXT NOT NULL,"
      " schema_version TEXT NOT NULL, priority INTEGER NOT NULL, etag INTEGER NOT NULL,"
      " created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, gone INTEGER NOT NULL,"
      " walking INTEGER NOT NULL, old_cursor INTEGER NOT NULL, new_cursor INTEGER NOT NULL);"
      "CREATE UNIQUE INDEX configuration_id ON configuration(id) WHERE gone = 0;"
      "CREATE TABLE config_target(config INTEGER NOT NULL, twin INTEGER NOT NULL, applied INTEGER NOT NULL,"
      " PRIMARY KEY(config, twin)) WITHOUT ROWID;"
      "CREATE INDEX config_target_twin ON config_target(twin);"
      "CREATE TABLE config_dirty(twin INTEGER PRIMARY KEY, id TEXT NOT NULL);"
      "INSERT INTO counter VALUES('configuration', 0);" },
    { "what the metrics of configurations counted",
      "ALTER TABLE configuration ADD COLUMN results TEXT NOT NULL DEFAULT '';"
      "ALTER TABLE configuration ADD COLUMN system_results TEXT NOT NULL DEFAULT '';" },
    { "records of one job", "CREATE INDEX job_device_job ON job_device(job);" },
    { "imports and exports of the registry",
      "CREATE TABLE job_error(job INTEGER NOT NULL, nr INTEGER NOT NULL, text TEXT NOT NULL,"
      " PRIMARY KEY(job, nr)) WITHOUT ROWID;" },
    { "feedback that leaves its queue",
      "ALTER TABLE feedback ADD COLUMN deliveries INTEGER NOT NULL DEFAULT 0;"
      "CREATE INDEX feedback_age ON feedback(at_ms) WHERE done = 0;"
      "CREATE INDEX feedback_taken ON feedback(deliveries) WHERE done = 0 AND deliveries > 0;" },
    { "file notifications that leave their queue",
      "CREATE INDEX file_note_age ON file_note(enqueued_ms);"
      "CREATE INDEX file_note_taken ON file_note(deliveries) WHERE deliveries > 0;" },
    { "the blocks of a file", "ALTER TABLE named_blob ADD COLUMN blocks BLOB NOT NULL DEFAULT x'';" },
    { QUERY_INDEXES,
      /* upto: twins up to this seq are in it; the largest number: all, -1: it is not wanted any more */
      "CREATE TABLE twin_index(n INTEGER PRIMARY KEY, path TEXT NOT NULL, upto INTEGER NOT NULL);"
      /* val without a type: numbers sort before texts */
      "CREATE TABLE twin_value(n INTEGER NOT NULL, val NOT NULL, seq INTEGER NOT NULL,"
      " PRIMARY KEY(n, val, seq)) WITHOUT ROWID;" },
    /* Rows that are keys are read whole to be compared: nothing long may stand in them. */
    { "the blocks of a file apart from its name",
      "CREATE TABLE blob_blocks(file BLOB NOT NULL PRIMARY KEY, blocks BLOB NOT NULL);"
      "INSERT INTO blob_blocks SELECT file, blocks FROM named_blob WHERE length(blocks) > 0;"
      "ALTER TABLE named_blob DROP COLUMN blocks;" },
};
#define MIGRATIONS (sizeof migrations / sizeof migrations[0])

static int on_number(void *arg, int cols, char **vals, char **names)
{
    (void)names;
    if (cols == 1 && vals[0])
        *(sqlite3_int64 *)arg = strtoll(vals[0], NULL, 10);
    return 0;
}

static int on_name(void *arg, int cols, char **vals, char **names)
{
    struct wr *w = arg;
    (void)cols, (void)names;
    wr_str(w, "DROP INDEX \"");
    wr_str(w, vals[0]);
    wr_str(w, "\";");
    return 0;
}

/* Programs before it made expression indexes, named by the paths of their configuration. */
static enum err drop_expression_indexes(sqlite3 *h)
{
    uint8_t text[16384];
    struct wr w = { text, sizeof text - 1, 0 };
    enum err e = sqlite_err(h,
                            sqlite3_exec(h,
                                         "SELECT name FROM sqlite_schema WHERE type = 'index'"
                                         " AND tbl_name = 'twin' AND name LIKE 'query:%'",
                                         on_name, &w, NULL),
                            "migrate");
    if (e || !wr_ok(&w)) /* there were never more than a few */
        return e ? e : ERR_LIMIT;
    text[w.len] = 0;
    return sqlite_run(h, (const char *)text);
}

static enum err migrate_one(sqlite3 *h, size_t n)
{
    char text[160];
    enum err e = sqlite_run(h, "BEGIN IMMEDIATE");
    if (e)
        return e;
    e = sqlite_run(h, migrations[n].sql);
    if (!e && strcmp(migrations[n].name, QUERY_INDEXES) == 0)
        e = drop_expression_indexes(h);
    if (!e) {
        snprintf(text, sizeof text, "INSERT INTO migration VALUES(%zu, '%s', unixepoch() * 1000)", n + 1,
                 migrations[n].name);
        e = sqlite_run(h, text);
    }
    if (!e)
        e = sqlite_run(h, "COMMIT");
    if (e && !sqlite3_get_autocommit(h) && sqlite_run(h, "ROLLBACK"))
        log_error("store.migrate", "n=%zu: cannot be rolled back", n + 1);
    return e;
}

enum err sqlite_migrate(sqlite3 *h, size_t upto)
{
    sqlite3_int64 have = 0;
    enum err e = sqlite_run(h, "CREATE TABLE IF NOT EXISTS migration(n INTEGER PRIMARY KEY,"
                               " name TEXT NOT NULL, applied_ms INTEGER NOT NULL)");
    if (!e)
        e = sqlite_err(h, sqlite3_exec(h, "SELECT max(n) FROM migration", on_number, &have, NULL), "migrate");
    if (!e && have > (sqlite3_int64)MIGRATIONS) {
        log_error("store.migrate", "have=%lld know=%zu: made by a newer version of this program",
                  (long long)have, MIGRATIONS);
        return ERR_PROTO;
    }
    for (size_t n = (size_t)have; !e && n < MIGRATIONS && n < upto; n++)
        e = migrate_one(h, n);
    return e;
}
