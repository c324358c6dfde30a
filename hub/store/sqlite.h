/* hub/store/sqlite.h - what the files of the SQLite backend share, and the door its fault tests use. */
#ifndef ROOST_HUB_STORE_SQLITE_H
#define ROOST_HUB_STORE_SQLITE_H

#include "hub/store/store_backend.h"

#include <sqlite3.h>

struct sqlite_db {
    char *path;
    const char *vfs; /* NULL: SQLite's own */
    int lock_fd;
    sqlite3 *tender;           /* opened first, closed last */
    struct store_conn *writer; /* store.c's */
    _Atomic int wal_pages, wal_done;
};

/* Logs what is nobody's fault but the system's. */
enum err sqlite_err(sqlite3 *h, int rc, const char *what);
MUST_USE enum err sqlite_run(sqlite3 *h, const char *sql);
/* Brings the tables to this program's version, or to the one after `upto` migrations when that is less.
 * ERR_PROTO: they are newer than it. */
MUST_USE enum err sqlite_migrate(sqlite3 *h, size_t upto);

/* store_sqlite_open on another VFS (a name registered with SQLite). */
MUST_USE enum err store_sqlite_open_vfs(struct store **out, const char *dir, unsigned readers,
                                        const char *vfs);

#endif
