/* cli/file.h - whole files: read with a cap, written so that a reader sees the old one or the new one. */
#ifndef ROOST_CLI_FILE_H
#define ROOST_CLI_FILE_H

#include "base/err.h"
#include "base/span.h"

#include <sys/types.h>

/* *out is owned by the caller (free out->p); a zero byte follows it. ERR_NOTFOUND, ERR_LIMIT: longer than
 * cap, ERR_IO with errno set, ERR_NOMEM. */
struct file_bytes {
    uint8_t *p;
    size_t n;
    mode_t mode;
};
static inline struct span file_span(const struct file_bytes *f)
{
    return span_of(f->p, f->n);
}
MUST_USE enum err file_read(const char *path, size_t cap, struct file_bytes *out);
/* Through a temporary file beside it, flushed, renamed. With `fresh`, ERR_EXISTS when path is there. */
MUST_USE enum err file_save(const char *path, struct span bytes, mode_t mode, bool fresh);
/* "dir/name" in memory of the caller's. */
char *path_join(const char *dir, const char *name);
bool is_dir(const char *path);

#endif
