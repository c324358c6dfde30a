/* hub/store/sqlite.c - the store in one SQLite database: WAL, synchronous=FULL, a writer and readers with
 * connections of their own, statements prepared once a connection.
 *
 * The write-ahead log is copied back by the tending thread, which holds up neither the writer nor a reader.
 * Under unbroken load that thread never quite reaches the end of a log that keeps growing, so the log could
 * not start over; then the writer, between two commits, copies the short rest itself. */
#include "hub/store/sqlite.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAL_TEND_PAGES   1000 /* the tending thread copies back from here on */
#define WAL_FINISH_PAGES 8192 /* the writer looks after a log of this length (32 MiB) */
#define WAL_REST_PAGES   1024 /* and finishes it when no more than this is left */
/* The kernel caches the file once for all connections; what each keeps besides is for the upper pages. With
 * more, every reader would come to hold a copy of the whole table of devices. */
#define WRITER_CACHE_KIB 1024
#define READER_CACHE_KIB 256
#define BUSY_MS          10000 /* only a foreign program (a backup) ever holds a lock */

struct store_rows { /* a prepared statement of one connection, that runs or may run again */
    struct store_conn *conn;
    unsigned id; /* store_sql_id */
    sqlite3_stmt *st;
    bool running, kept, listed; /* listed: in kept[] below */
    bool extra;                 /* a second run beside an outer one; freed at its end */
};
struct store_conn {
    struct sqlite_db *db;
    sqlite3 *h;
    sqlite3_stmt *steps[STORE_UNDO + 1];
    struct store_rows *stmts[STORE_SQL_MAX + 1]; /* by id */
    struct store_rows *kept[STORE_SQL_MAX];
    unsigned kept_nr;
};

enum err sqlite_err(sqlite3 *h, int rc, const char *what)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return ERR_OK;
    case SQLITE_CONSTRAINT:
        return ERR_EXISTS;
    case SQLITE_TOOBIG:
        return ERR_LIMIT;
    case SQLITE_FULL:
        return ERR_FULL;
    case SQLITE_NOMEM:
        return ERR_NOMEM;
    default:
        log_error("store.sqlite", "at=%s code=%d errno=%d: %s", what, rc, h ? sqlite3_system_errno(h) : 0,
                  h ? sqlite3_errmsg(h) : sqlite3_errstr(rc));
        return ERR_IO;
    }
}

enum err sqlite_run(sqlite3 *h, const char *sql)
{
    return sqlite_err(h, sqlite3_exec(h, sql, NULL, NULL, NULL), sql);
}

/* Without its statistics SQLite takes no lock of the process for each piece of memory. It refuses when it is
 * in use already (tests with a file system of their own): then it keeps them. */
static void no_statistics(void)
{
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

static enum err handle_open(struct sqlite_db *db, bool write, int cache_kib, sqlite3 **out)
{
    char text[64];
    sqlite3 *h = NULL;
    int rc = sqlite3_open_v2(db->path, &h, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                             db->vfs);
    enum err e = sqlite_err(h, rc, "open");
    if (!e && sqlite3_db_readonly(h, "main") == 1) { /* what SQLite falls back to when it may not write */
        log_error("store.open", "file=%s: cannot be opened for writing", db->path);
        e = ERR_IO;
    }
    if (!e) {
        sqlite3_busy_timeout(h, BUSY_MS);
        sqlite3_extended_result_codes(h, 1);
        sqlite3_db_config(h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        snprintf(text, sizeof text, "PRAGMA cache_size = -%d", cache_kib);
        e = sqlite_run(h, "PRAGMA journal_mode = WAL");
    }
    if (!e)
        e = sqlite_run(h, "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;"
                          "PRAGMA wal_autocheckpoint = 0; PRAGMA foreign_keys = OFF");
    if (!e)
        e = sqlite_run(h, text);
    /* The log is opened by the first transaction, read-only when it may not be written; so be it known now.
     */
    if (!e && write)
        e = sqlite_run(h, "BEGIN IMMEDIATE; ROLLBACK");
    if (e)
        sqlite3_close(h);
    else
        *out = h;
    return e;
}

/* ---- connections and statements -------------------------------------------------------------------- */

static void rows_free(struct store_rows *r)
{
    if (r)
        sqlite3_finalize(r->st);
    free(r);
}

static void sqlite_disconnect(struct store_conn *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i <= STORE_UNDO; i++)
        sqlite3_finalize(c->steps[i]);
    for (unsigned i = 0; i <= STORE_SQL_MAX; i++)
        rows_free(c->stmts[i]);
    sqlite3_close(c->h);
    free(c);
}

static enum err sqlite_connect(void *dbp, bool writer, struct store_conn **out)
{
    static const char *const texts[STORE_UNDO + 1] = {
        [STORE_BEGIN] = "BEGIN",      [STORE_COMMIT] = "COMMIT",     [STORE_ROLLBACK] = "ROLLBACK",
        [STORE_SAVE] = "SAVEPOINT o", [STORE_RELEASE] = "RELEASE o", [STORE_UNDO] = "ROLLBACK TO o",
    };
    struct sqlite_db *db = dbp;
    struct store_conn *c = calloc(1, sizeof *c);
    if (!c)
        return ERR_NOMEM;
    c->db = db;
    enum err e = handle_open(db, writer, writer ? WRITER_CACHE_KIB : READER_CACHE_KIB, &c->h);
    for (unsigned i = 0; !e && i <= STORE_UNDO; i++) {
        const char *text = writer && i == STORE_BEGIN ? "BEGIN IMMEDIATE" : texts[i];
        e = sqlite_err(c->h,
                       sqlite3_prepare_v3(c->h, text, -1, SQLITE_PREPARE_PERSISTENT, &c->steps[i], NULL),
                       "prepare");
    }
    if (!e && !writer)
        e = sqlite_run(c->h, "PRAGMA query_only = ON");
    if (e)
        sqlite_disconnect(c);
    else
        *out = c;
    return e;
}

static enum err step_one(struct store_conn *c, enum store_step what)
{
    sqlite3_stmt *st = c->steps[what];
    int rc = sqlite3_step(st);
    sqlite3_reset(st);
    return sqlite_err(c->h, rc, sqlite3_sql(st));
}

static enum err sqlite_step(struct store_conn *c, enum store_step what)
{
    enum err e = step_one(c, what);
    /* ROLLBACK TO keeps the savepoint; the next op opens its own. */
    if (!e && what == STORE_UNDO)
        e = step_one(c, STORE_RELEASE);
    return e;
}

static bool sqlite_in_tx(const struct store_conn *c)
{
    return !sqlite3_get_autocommit(c->h);
}

static void sqlite_end(struct store_rows *r)
{
    if (r->extra) {
        rows_free(r);
        return;
    }
    sqlite3_reset(r->st);
    r->running = r->kept = false;
}

/* A statement of q that is free to run: the connection's, or another one while that runs. */
static enum err rows_of(struct store_conn *c, struct store_sql *q, struct store_rows **out)
{
    unsigned id = store_sql_id(q);
    struct store_rows *r = c->stmts[id];
    if (r && r->kept)
        sqlite_end(r);
    if (r && !r->running) {
        *out = r;
        return ERR_OK;
    }
    struct store_rows *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return ERR_NOMEM;
    *fresh = (struct store_rows){ .conn = c, .id = id, .extra = r != NULL };
    int rc = sqlite3_prepare_v3(c->h, q->text, -1, r ? 0 : SQLITE_PREPARE_PERSISTENT, &fresh->st, NULL);
    if (rc) {
        rows_free(fresh);
        return sqlite_err(c->h, rc, q->text);
    }
    if (!r)
        c->stmts[id] = fresh;
    *out = fresh;
    return ERR_OK;
}

/* Binds the values of a statement that is about to run; ends it when that fails. */
static enum err bind(struct store_conn *c, struct store_rows *r, const struct store_val *v, unsigned nr)
{
    int rc = SQLITE_OK;
    for (unsigned i = 0; i < nr && !rc; i++) {
        int at = (int)i + 1, n = (int)v[i].s.n;
        const void *p = v[i].s.p ? (const void *)v[i].s.p : ""; /* a NULL pointer would bind NULL */
        if (v[i].s.n > INT32_MAX)
            rc = SQLITE_TOOBIG;
        else if (v[i].kind == STORE_INT)
            rc = sqlite3_bind_int64(r->st, at, v[i].i);
        else if (v[i].kind == STORE_REAL)
            rc = sqlite3_bind_double(r->st, at, v[i].real);
        else if (v[i].kind == STORE_TEXT)
            rc = sqlite3_bind_text(r->st, at, p, n, SQLITE_STATIC);
        else if (v[i].kind == STORE_BYTES)
            rc = sqlite3_bind_blob(r->st, at, p, n, SQLITE_STATIC);
        else
            rc = sqlite3_bind_null(r->st, at);
    }
    enum err e = rc ? sqlite_err(c->h, rc, sqlite3_sql(r->st)) : ERR_OK;
    r->running = true;
    if (e)
        sqlite_end(r);
    return e;
}

static enum err sqlite_start(struct store_conn *c, struct store_sql *q, const struct store_val *v,
                             unsigned nr, struct store_rows **out)
{
    struct store_rows *r = NULL;
    enum err e = rows_of(c, q, &r);
    if (!e)
        e = bind(c, r, v, nr);
    if (!e)
        *out = r;
    return e;
}

static enum err sqlite_start_text(struct store_conn *c, struct span text, const struct store_val *v,
                                  unsigned nr, struct store_rows **out)
{
    struct store_rows *r = calloc(1, sizeof *r);
    if (!r)
        return ERR_NOMEM;
    *r = (struct store_rows){ .conn = c, .extra = true };
    int rc = sqlite3_prepare_v3(c->h, (const char *)text.p, (int)text.n, 0, &r->st, NULL);
    enum err e = sqlite_err(c->h, rc, "prepare");
    if (e)
        rows_free(r);
    else
        e = bind(c, r, v, nr);
    if (!e)
        *out = r;
    return e;
}

static enum err sqlite_next(struct store_rows *r)
{
    int rc = sqlite3_step(r->st);
    if (rc == SQLITE_ROW)
        return ERR_OK;
    if (rc == SQLITE_DONE)
        return ERR_NOTFOUND;
    return sqlite_err(r->conn->h, rc, sqlite3_sql(r->st));
}

static int64_t sqlite_col_int(struct store_rows *r, int col)
{
    return sqlite3_column_int64(r->st, col);
}

static struct span sqlite_col_bytes(struct store_rows *r, int col)
{
    const void *p = sqlite3_column_blob(r->st, col);
    return p ? span_of(p, (size_t)sqlite3_column_bytes(r->st, col)) : SPAN_NONE;
}

static void sqlite_keep(struct store_rows *r)
{
    struct store_conn *c = r->conn;
    assert(!r->extra); /* a kept statement gives way to its next run, so it never has one beside it */
    r->kept = true;
    if (!r->listed)
        c->kept[c->kept_nr++] = r;
    r->listed = true;
}

static void sqlite_end_kept(struct store_conn *c)
{
    while (c->kept_nr) {
        struct store_rows *r = c->kept[--c->kept_nr];
        r->listed = false;
        if (r->kept)
            sqlite_end(r);
    }
}

/* ---- the log is copied back ------------------------------------------------------------------------ */

static int on_commit(void *arg, sqlite3 *h, const char *name, int pages)
{
    struct sqlite_db *db = arg;
    (void)h, (void)name;
    atomic_store_explicit(&db->wal_pages, pages, memory_order_relaxed);
    return SQLITE_OK;
}

static void checkpoint(struct sqlite_db *db, sqlite3 *h)
{
    int log = 0, done = 0;
    int rc = sqlite3_wal_checkpoint_v2(h, NULL, SQLITE_CHECKPOINT_PASSIVE, &log, &done);
    if ((rc & 0xff) == SQLITE_FULL)
        log_warn("store.checkpoint", "err=full pages=%d", log);
    else if (rc && (rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_LOCKED)
        (void)sqlite_err(h, rc, "checkpoint");
    if (!rc)
        atomic_store_explicit(&db->wal_done, done, memory_order_relaxed);
}

static void sqlite_tend(void *dbp, bool writer)
{
    struct sqlite_db *db = dbp;
    int pages = atomic_load_explicit(&db->wal_pages, memory_order_relaxed);
    int done = atomic_load_explicit(&db->wal_done, memory_order_relaxed);
    if (writer) {
        if (pages >= WAL_FINISH_PAGES && done <= pages && pages - done <= WAL_REST_PAGES)
            checkpoint(db, db->writer->h);
        return;
    }
    if (pages >= WAL_TEND_PAGES && (done > pages || pages - done >= WAL_TEND_PAGES))
        checkpoint(db, db->tender);
}

/* ---- the directory --------------------------------------------------------------------------------- */

static void sqlite_close_db(void *dbp)
{
    struct sqlite_db *db = dbp;
    if (db->tender) {
        /* Nobody else is left: the log is copied back and the database is one file again. */
        sqlite3_wal_checkpoint_v2(db->tender, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        sqlite3_close(db->tender);
    }
    if (db->lock_fd >= 0)
        close(db->lock_fd);
    free(db->path);
    free(db);
}

static enum err connect_main(void *dbp, bool writer, struct store_conn **out)
{
    struct sqlite_db *db = dbp;
    enum err e = sqlite_connect(db, writer, out);
    if (!e && writer) {
        db->writer = *out;
        sqlite3_wal_hook((*out)->h, on_commit, db);
    }
    return e;
}

static const struct store_backend sqlite_backend = {
    .name = "sqlite",
    .connect = connect_main,
    .disconnect = sqlite_disconnect,
    .step = sqlite_step,
    .in_tx = sqlite_in_tx,
    .start = sqlite_start,
    .start_text = sqlite_start_text,
    .next = sqlite_next,
    .col_int = sqlite_col_int,
    .col_bytes = sqlite_col_bytes,
    .end = sqlite_end,
    .keep = sqlite_keep,
    .end_kept = sqlite_end_kept,
    .tend = sqlite_tend,
    .close = sqlite_close_db,
};

static enum err dir_lock(struct sqlite_db *db, const char *dir)
{
    char *path = NULL;
    if (mkdir(dir, 0700) && errno != EEXIST) {
        log_error("store.open", "dir=%s errno=%d: %s", dir, errno, strerror(errno));
        return ERR_IO;
    }
    if (asprintf(&path, "%s/store.lock", dir) < 0)
        return ERR_NOMEM;
    db->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    enum err e = ERR_OK;
    if (db->lock_fd < 0) {
        log_error("store.open", "file=%s errno=%d: %s", path, errno, strerror(errno));
        e = ERR_IO;
    } else if (flock(db->lock_fd, LOCK_EX | LOCK_NB)) {
        e = errno == EWOULDBLOCK ? ERR_EXISTS : ERR_IO;
        log_error("store.open", "dir=%s: %s", dir,
                  e == ERR_EXISTS ? "another process serves this directory" : "cannot lock it");
    }
    free(path);
    return e;
}

/* The database holds keys: it is for its owner alone, and SQLite gives its log the same mode. */
static enum err file_make(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        log_error("store.open", "file=%s errno=%d: %s", path, errno, strerror(errno));
        return errno == ENOSPC ? ERR_FULL : ERR_IO;
    }
    close(fd);
    return ERR_OK;
}

enum err store_sqlite_open(struct store **out, const char *dir, unsigned readers)
{
    return store_sqlite_open_vfs(out, dir, readers, NULL);
}

enum err store_sqlite_open_vfs(struct store **out, const char *dir, unsigned readers, const char *vfs)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct sqlite_db *db = calloc(1, sizeof *db);
    if (!db)
        return ERR_NOMEM;
    pthread_once(&once, no_statistics);
    db->lock_fd = -1;
    db->vfs = vfs;
    enum err e = dir_lock(db, dir);
    if (!e && asprintf(&db->path, "%s/roost.db", dir) < 0) {
        db->path = NULL;
        e = ERR_NOMEM;
    }
    if (!e)
        e = file_make(db->path);
    if (!e)
        e = handle_open(db, true, 512, &db->tender);
    if (!e)
        e = sqlite_migrate(db->tender, SIZE_MAX);
    if (e)
        sqlite_close_db(db);
    else
        e = store_start(out, &sqlite_backend, db, readers);
    return e;
}
