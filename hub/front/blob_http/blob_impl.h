/* hub/front/blob_http/blob_impl.h - what the files of this front share: who may, errors, etags, times. */
#ifndef ROOST_HUB_FRONT_BLOB_HTTP_BLOB_IMPL_H
#define ROOST_HUB_FRONT_BLOB_HTTP_BLOB_IMPL_H

#include "hub/blob/files.h"
#include "hub/domain/message/upload.h"
#include "hub/front/http/job.h"

#define BLOB_ETAG_MAX 24u
#define BLOB_PUT_MAX  ((size_t)5000 << 20) /* of one body; configuration may allow less */
#define BLOB_LIST_MAX ((size_t)8 << 20)    /* of a block list */

extern const struct http_front_ops blob_front_ops;

/* Of the path: the container, and the blob's name decoded into the arena. */
struct blob_target {
    struct span container, name;
};
/* The container of this hub? Else the request is answered as a path that is not there, and false. */
bool blob_target(struct job *j, struct blob_target *out);
/* Does the signature in the query permit one of the letters here? False: the error is set. */
bool blob_permit(struct job *j, const struct blob_target *t, const char *letters);
/* As job_fail, by a code of the blob service. Always false. */
bool blob_fail(struct job *j, const char *code, const char *message);
struct span blob_etag(struct span file, char out[BLOB_ETAG_MAX]); /* with its quotes */
void blob_field_time(struct job *j, const char *name, uint64_t wall_ms);
/* Etag and Last-Modified of a row. */
void blob_fields(struct job *j, const struct named_blob_row *r);
void blob_end_err(struct job *j, enum err e);

void blob_put_start(struct job *j);    /* put.c: Put Blob, Put Block */
void blob_commit_start(struct job *j); /* commit.c: Put Block List */
void blob_get_start(struct job *j);    /* get.c */
void blob_delete_start(struct job *j);
void blob_list_start(struct job *j); /* list.c */
void blob_block_list_start(struct job *j);

/* commit.c: removes files that no row names any more; on the pool; then the job ends. */
struct blob_trash {
    uint8_t (*files)[FILE_ID_LEN]; /* in the arena */
    size_t nr;
};
void blob_trash_end(struct job *j, const struct blob_trash *t);
/* put.c: what If-Match and If-None-Match ask of the row that is there (NULL: none). In run(). */
bool blob_conditions(struct job *j, const struct named_blob_row *now);
/* put.c: content type and metadata of the request; false: the error is set. */
bool blob_properties(struct job *j, struct named_blob_row *r);

#endif
