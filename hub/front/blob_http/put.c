/* hub/front/blob_http/put.c - Put Blob and Put Block: the body goes to a file piece by piece, as it comes;
 * the row follows when the file is durable. */
#include "base/text.h"
#include "hub/domain/metrics.h"
#include "hub/front/blob_http/blob_impl.h"
#include "hub/front/http/range.h"

struct put {
    struct blob_target target;
    struct file_writer *writer;
    struct named_blob_row row; /* of a blob; of a block: file, length */
    struct span block;         /* its id; empty: a whole blob */
    uint8_t file[FILE_ID_LEN], md5[FILE_MD5_LEN], want_md5[FILE_MD5_LEN];
    uint8_t old[FILE_ID_LEN]; /* what is replaced */
    bool has_md5, has_old, stored, over;
    bool gone, end; /* the peer; the body: as the piece at hand came */
    struct blob_trash trash;
};

/* ---- the head --------------------------------------------------------------------------------------- */

bool blob_properties(struct job *j, struct named_blob_row *r)
{
    struct span type = http_field(j->r, "x-ms-blob-content-type"), name, value, meta = SPAN("x-ms-meta-");
    struct wr w = { 0 };
    if (!type.n)
        type = http_field(j->r, "Content-Type");
    r->content_type = type.n <= 256 ? arena_copy(&j->a, type) : SPAN_NONE;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t at = 0; http_field_next(j->r, &at, &name, &value);) {
            if (name.n <= meta.n || !span_ieq(span_of(name.p, meta.n), meta))
                continue;
            wr_put(&w, name);
            wr_str(&w, ": ");
            wr_put(&w, value);
            wr_str(&w, "\r\n");
        }
        if (w.len > 8192)
            return blob_fail(j, "InvalidHeaderValue", "Metadata may have 8 KiB.");
        if (pass == 0)
            w = (struct wr){ arena_alloc(&j->a, w.len + 1), w.len, 0 };
        if (!w.p)
            return blob_fail(j, "ServerBusy", "The hub is short of memory: try again.");
    }
    r->meta = wr_span(&w);
    return true;
}

bool blob_conditions(struct job *j, const struct named_blob_row *now)
{
    char buf[BLOB_ETAG_MAX];
    struct span etag = now ? blob_etag(now->file, buf) : SPAN_NONE;
    struct span match = http_field(j->r, "If-Match"), none = http_field(j->r, "If-None-Match");
    if (match.n && (!now || !etag_listed(match, etag)))
        return blob_fail(j, "ConditionNotMet", "The blob is another one than If-Match names.");
    if (none.n && now && etag_listed(none, etag)) {
        if (j->r->method == HTTP_PUT_ && span_eq(none, SPAN("*")))
            return blob_fail(j, "BlobAlreadyExists", "The blob is there already.");
        return blob_fail(j, "ConditionNotMet", "The blob is the one that If-None-Match names.");
    }
    return true;
}

static bool read_head(struct job *j, struct put *p)
{
    struct span s, md5 = http_field(j->r, "Content-MD5");
    size_t n;
    if (!upload_name_ok(p->target.name))
        return blob_fail(j, "InvalidResourceName",
                         "A blob has 1 to 14 path segments and at most 1024 bytes.");
    if (md5.n) {
        uint8_t sum[FILE_MD5_LEN + 2];
        if (base64_decode(md5, sum, sizeof sum, &n) || n != FILE_MD5_LEN)
            return blob_fail(j, "InvalidHeaderValue", "Content-MD5 has to be base64 of 16 bytes.");
        memcpy(p->want_md5, sum, FILE_MD5_LEN);
        p->has_md5 = true;
    }
    if (http_query(j->r, "comp", &s)) {
        uint8_t *id = arena_alloc(&j->a, UPLOAD_BLOCK_ID_MAX + 4);
        if (!span_ieq(s, SPAN("block")))
            return blob_fail(j, "InvalidQueryParameterValue",
                             "This hub knows comp=block and comp=blocklist.");
        if (!id)
            return blob_fail(j, "ServerBusy", "The hub is short of memory: try again.");
        if (!http_query(j->r, "blockid", &s) || base64_decode(s, id, UPLOAD_BLOCK_ID_MAX, &n) || !n)
            return blob_fail(j, "InvalidBlockId", "blockid has to be base64 of 1 to 64 bytes.");
        p->block = span_of(id, n);
        return blob_permit(j, &p->target, "w");
    }
    s = http_field(j->r, "x-ms-blob-type");
    if (!s.n)
        return blob_fail(j, "MissingRequiredHeader", "x-ms-blob-type is missing.");
    if (!span_ieq(s, SPAN("BlockBlob")))
        return blob_fail(j, "UnsupportedHeader", "Blobs are block blobs here.");
    return blob_permit(j, &p->target, "wc") && blob_properties(j, &p->row);
}

/* ---- the row ---------------------------------------------------------------------------------------- */

static enum err no_room(struct job *j, enum err e)
{
    if (e != ERR_LIMIT)
        return e;
    (void)blob_fail(j, "QuotaExceeded", "The device, or the hub, has no room for more uploads: delete some.");
    return ERR_DENIED;
}

static enum err store_block(struct job *j, struct store_tx *tx)
{
    struct put *p = j->state;
    struct block_row old, r = { p->target.container,           p->target.name, p->block,
                                span_of(p->file, FILE_ID_LEN), p->row.length,  j->h->wall_ms() };
    struct block_open_row open = { 0, 0, 0 };
    p->has_old = false;
    enum err e = tx_block_open(tx, r.container, r.name, &open);
    if (!e && open.blocks && open.id_len != p->block.n) {
        (void)blob_fail(j, "InvalidBlobOrBlock", "The ids of all blocks of a blob have one length.");
        return ERR_DENIED;
    }
    if (e && e != ERR_NOTFOUND)
        return e;
    e = tx_block_get(tx, r.container, r.name, r.id, &old);
    if (!e && old.file.n == FILE_ID_LEN) {
        memcpy(p->old, old.file.p, FILE_ID_LEN);
        p->has_old = true;
    }
    if (e == ERR_NOTFOUND && open.blocks >= UPLOAD_BLOCKS_MAX) {
        (void)blob_fail(j, "BlockCountExceedsLimit", "A blob has at most 50000 blocks.");
        return ERR_DENIED;
    }
    if (e && e != ERR_NOTFOUND)
        return e;
    e = no_room(j, upload_room(j->h, tx, r.container, r.name, r.length, p->has_old ? old.length : 0));
    return e ? e : tx_block_put(tx, &r);
}

static enum err gather(void *ctx, const struct block_row *b)
{
    struct put *p = ctx;
    if (b->file.n == FILE_ID_LEN)
        memcpy(p->trash.files[p->trash.nr++], b->file.p, FILE_ID_LEN);
    return ERR_OK;
}

/* Blocks that no list has named end with a whole blob. */
static enum err drop_blocks(struct job *j, struct store_tx *tx)
{
    struct put *p = j->state;
    struct span container = p->target.container, name = p->target.name;
    struct block_open_row open = { 0, 0, 0 };
    enum err e = tx_block_open(tx, container, name, &open);
    if (e || !open.blocks)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    p->trash.files = arena_alloc(&j->a, (open.blocks + 1) * FILE_ID_LEN);
    if (!p->trash.files)
        return ERR_NOMEM;
    e = tx_block_list(tx, container, name, gather, p);
    return e ? e : tx_block_clear(tx, container, name);
}

static enum err store_blob(struct job *j, struct store_tx *tx)
{
    struct put *p = j->state;
    struct named_blob_row old;
    struct named_blob_row *r = &p->row;
    enum err e = tx_blob_get(tx, p->target.container, p->target.name, &old);
    bool there = !e;
    p->has_old = there && old.file.n == FILE_ID_LEN;
    p->trash.nr = 0;
    if (e && e != ERR_NOTFOUND)
        return e;
    if (there && old.file.n == FILE_ID_LEN)
        memcpy(p->old, old.file.p, FILE_ID_LEN);
    if (!blob_conditions(j, there ? &old : NULL))
        return ERR_DENIED;
    const uint64_t less = there ? old.room : 0;
    e = drop_blocks(j, tx);
    if (!e)
        e = no_room(j, upload_room(j->h, tx, p->target.container, p->target.name, r->length, less));
    r->container = p->target.container;
    r->name = p->target.name;
    r->file = span_of(p->file, FILE_ID_LEN);
    r->md5 = span_of(p->md5, FILE_MD5_LEN);
    r->created_ms = r->modified_ms = j->h->wall_ms();
    return e ? e : tx_blob_put(tx, r);
}

static enum err store(struct job *j, struct store_tx *tx)
{
    struct put *p = j->state;
    enum err e = p->block.n ? store_block(j, tx) : store_blob(j, tx);
    p->stored = !e;
    return e; /* ERR_DENIED: the error is set, and what was written is undone */
}

/* ---- the body --------------------------------------------------------------------------------------- */

static void ended(struct job *j)
{
    struct put *p = j->state;
    if (!p->stored || !p->trash.nr) { /* else with room for one more */
        p->trash.files = arena_alloc(&j->a, FILE_ID_LEN);
        p->trash.nr = 0;
    }
    if (p->trash.files && (!p->stored || p->has_old))
        memcpy(p->trash.files[p->trash.nr++], p->stored ? p->old : p->file, FILE_ID_LEN);
    if (p->stored) {
        struct wr w = { arena_alloc(&j->a, 32), 24, 0 };
        j->status = 201;
        if (!p->block.n)
            blob_fields(j, &p->row);
        if (w.p) {
            base64_encode(&w, span_of(p->md5, FILE_MD5_LEN));
            w.p[w.len] = 0;
            job_field(j, "Content-MD5", "%s", (const char *)w.p);
        }
        job_field(j, "x-ms-request-server-encrypted", "true");
    }
    blob_trash_end(j, &p->trash);
}

static void on_stored(struct op *op);
static enum err run_store(struct store_tx *tx, struct store_op *self)
{
    struct job *j = (struct job *)(void *)self;
    j->code = NULL; /* it may run again */
    return store(j, tx);
}

static void on_stored(struct op *op)
{
    struct job *j = (struct job *)(void *)op;
    struct put *p = j->state;
    if (op->err) {
        p->stored = false;
        if (op->err == ERR_FULL)
            (void)blob_fail(j, "InsufficientStorage", "The disk of the hub is full: nothing was taken.");
        else if (op->err == ERR_STOPPED)
            (void)blob_fail(j, "ServerBusy", "The hub is going down: try again when it is back.");
        else if (op->err == ERR_NOMEM)
            (void)blob_fail(j, "ServerBusy", "The hub is short of memory: try again.");
        else if (op->err != ERR_DENIED)
            (void)blob_fail(j, "InternalError", "The hub could not do this: its log says why.");
    }
    ended(j);
}

/* On the pool: a piece; behind the last one the file is made durable. */
static enum err write_piece(struct job *j)
{
    struct put *p = j->state;
    enum err e = p->writer ? ERR_OK : file_create(j->h->files, &p->writer);
    if (!e && !p->gone)
        e = file_write(p->writer, j->r->body);
    if (!e && file_written(p->writer) > j->h->settings.upload_blob_bytes)
        p->over = true;
    if (e || p->over || p->gone) {
        file_discard(p->writer);
        p->writer = NULL;
        return e;
    }
    if (!p->end)
        return ERR_OK;
    p->row.length = file_written(p->writer);
    e = file_md5(p->writer, p->md5);
    if (!e && p->has_md5 && memcmp(p->md5, p->want_md5, FILE_MD5_LEN) != 0) {
        (void)blob_fail(j, "Md5Mismatch", "The body has another MD5 than Content-MD5 says.");
        file_discard(p->writer);
        p->writer = NULL;
        return ERR_OK;
    }
    struct file_writer *w = p->writer;
    p->writer = NULL;
    if (e) {
        file_discard(w);
        return e;
    }
    return file_commit(w, p->file);
}

static void on_piece(struct http_req *r);

static void on_written(struct op *op)
{
    struct job *j = CONTAINER_OF(op, struct job, pool.op);
    struct put *p = j->state;
    if (p->over)
        (void)blob_fail(j, "RequestBodyTooLarge", "The blob is larger than this hub accepts.");
    if (op->err) {
        blob_end_err(j, op->err);
    } else if (j->code) {
        job_end(j);
    } else if (p->writer) {
        http_read(j->r, on_piece);
    } else if (p->gone) {
        job_end(j); /* to nobody */
    } else {
        j->store.run = run_store;
        j->store.op.home = worker_mailbox(j->r->worker);
        j->store.op.done = on_stored;
        store_write(j->h->store, &j->store);
    }
}

static enum err run_piece(struct pool_op *op)
{
    return write_piece(CONTAINER_OF(op, struct job, pool));
}

static void on_piece(struct http_req *r)
{
    struct job *j = r->user;
    struct put *p = j->state;
    p->gone = !r->conn;
    p->end = r->body_end;
    j->pool.run = run_piece;
    j->pool.op.home = worker_mailbox(r->worker);
    j->pool.op.done = on_written;
    pool_run(j->front->pool, &j->pool);
}

void blob_put_start(struct job *j)
{
    struct put *p = arena_alloc(&j->a, sizeof *p);
    if (!p) {
        blob_end_err(j, ERR_NOMEM);
        return;
    }
    *p = (struct put){ .stored = false };
    j->state = p;
    if (!blob_target(j, &p->target))
        return;
    if (!read_head(j, p)) {
        job_end(j);
        return;
    }
    j->r->user = j;
    http_read(j->r, on_piece);
}
