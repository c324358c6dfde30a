/* hub/blob/files.h - files that belong to one name each: what devices upload. Unlike a blob (blob.h) a file
 * is not shared by those with the same bytes, so deleting one never touches another. The names are the
 * store's; here a file is 16 random bytes. Blocking calls, made on the I/O pool, except files_open_fd, which
 * is cheap. */
#ifndef ROOST_HUB_BLOB_FILES_H
#define ROOST_HUB_BLOB_FILES_H

#include "base/err.h"
#include "base/span.h"

#define FILE_ID_LEN   16u
#define FILE_MD5_LEN  16u
#define FILES_FOLDERS 256u

struct files;
/* ERR_EXISTS: another process has the directory. keep_free: bytes of the disk that are left for others:
 * writing into them is ERR_FULL. */
MUST_USE enum err files_open(struct files **out, const char *dir, uint64_t keep_free);
void files_close(struct files *f);

/* A file that is being written: not there until file_commit, gone without it. */
struct file_writer;
MUST_USE enum err file_create(struct files *f, struct file_writer **out);
MUST_USE enum err file_write(struct file_writer *w, struct span bytes); /* ERR_FULL */
/* len bytes of a file, from `at` on, behind what was written. ERR_NOTFOUND; ERR_IO: it has less. */
MUST_USE enum err file_write_part(struct file_writer *w, const uint8_t id[FILE_ID_LEN], uint64_t at,
                                  uint64_t len);
uint64_t file_written(const struct file_writer *w);
/* MD5 of all that was written; once, before the commit (Content-MD5, RFC 1864: against accidents only). */
MUST_USE enum err file_md5(struct file_writer *w, uint8_t out[FILE_MD5_LEN]);
/* Durable from here on, under an id of its own. Ends w, also when it fails. */
MUST_USE enum err file_commit(struct file_writer *w, uint8_t id[FILE_ID_LEN]);
void file_discard(struct file_writer *w); /* NULL is fine */

/* A file descriptor for reading (the caller closes it) and the length. ERR_NOTFOUND. */
MUST_USE enum err files_open_fd(struct files *f, const uint8_t id[FILE_ID_LEN], int *fd, uint64_t *len);
MUST_USE enum err files_delete(struct files *f, const uint8_t id[FILE_ID_LEN]); /* ERR_NOTFOUND */
/* The files of one folder (0..FILES_FOLDERS-1) that were there before wall_ms: for what a crash left behind.
 */
typedef enum err files_each(void *ctx, const uint8_t id[FILE_ID_LEN]);
MUST_USE enum err files_list(struct files *f, unsigned folder, uint64_t wall_ms, files_each *each, void *ctx);

#endif
