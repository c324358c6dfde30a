/* hub/blob/disk.h - what directories of durable files share: the errors of the system, the lock, and how a
 * file gets its place. `name` is what the log calls a file. Included by hub/blob alone. */
#ifndef ROOST_HUB_BLOB_DISK_H
#define ROOST_HUB_BLOB_DISK_H

#include "base/err.h"
#include "base/span.h"

#include <time.h>

/* Logs errno. ERR_FULL, ERR_NOMEM, ERR_IO. */
MUST_USE enum err disk_failed(const char *what, const char *name);
MUST_USE enum err disk_sync(int fd, const char *name);
MUST_USE enum err disk_write(int fd, uint64_t at, struct span bytes, const char *name);

/* A folder below `at`, made when it is not there; the caller closes *fd. */
MUST_USE enum err disk_folder(int at, const char *name, int *fd);
/* The directory itself, and the file in it that is locked while a process serves it: ERR_EXISTS when another
 * one does. The caller closes what is not -1, also after an error. */
MUST_USE enum err disk_top(const char *dir, const char *lock, int *top_fd, int *lock_fd);
/* Removes the files that were last written before `before`. */
MUST_USE enum err disk_clean(int dir_fd, time_t before);

#define DISK_ID_MAX 32u /* bytes of an id */
struct disk_path {      /* "ab", "ab/abcd..." */
    char folder[3], file[3 + 2 * DISK_ID_MAX + 1];
};
struct disk_path disk_path_of(struct span id);
/* Flushes the folder of p below `at`. */
MUST_USE enum err disk_sync_folder(int at, const struct disk_path *p);
/* Renames a flushed file to p below `at`, durably. After an error it may be there or not. */
MUST_USE enum err disk_place(int from_fd, const char *from, int at, const struct disk_path *p);
/* For reading; the caller closes *fd. ERR_NOTFOUND. */
MUST_USE enum err disk_open(int at, const struct disk_path *p, int *fd, uint64_t *len);

#endif
