/* hub/store/tx_upload.c - what devices upload: announced uploads, named blobs and their blocks, how many
 * bytes they are, notifications of finished ones. Bytes are counted by owner (the first segment of a name)
 * and in all, in one row each, so that a quota costs one look. */
#include "hub/store/store_backend.h"

/* ---- announced -------------------------------------------------------------------------------------- */

enum err tx_upload_push(struct store_tx *t, const struct upload_row *r, size_t open_max)
{
    static struct store_sql count =
        STORE_SQL("SELECT count(*) FROM upload WHERE device = ?1 AND expires_ms > ?2");
    static struct store_sql q = STORE_SQL("INSERT INTO upload(id, device, blob, created_ms, expires_ms)"
                                          " VALUES(?1, ?2, ?3, ?4, ?5)");
    int64_t n;
    enum err e = tx_number(t, 0, &n, &count, ARGS(V_TEXT(r->device), V_MS(r->created_ms)));
    if (e || (uint64_t)n >= open_max)
        return e ? e : ERR_LIMIT;
    return tx_exec(
        t, &q,
        ARGS(V_TEXT(r->id), V_TEXT(r->device), V_TEXT(r->blob), V_MS(r->created_ms), V_MS(r->expires_ms)));
}

enum err tx_upload_get(struct store_tx *t, struct span id, struct upload_row *out)
{
    static struct store_sql q =
        STORE_SQL("SELECT id, device, blob, created_ms, expires_ms FROM upload WHERE id = ?1");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(id)));
    if (!e)
        *out = (struct upload_row){ col_span(t, r, 0), col_span(t, r, 1), col_span(t, r, 2), col_u64(t, r, 3),
                                    col_u64(t, r, 4) };
    return e;
}

enum err tx_upload_delete(struct store_tx *t, struct span id)
{
    static struct store_sql find = STORE_SQL("SELECT 1 FROM upload WHERE id = ?1");
    static struct store_sql q = STORE_SQL("DELETE FROM upload WHERE id = ?1");
    int64_t there;
    enum err e = tx_number(t, 0, &there, &find, ARGS(V_TEXT(id)));
    if (!e && !there)
        e = ERR_NOTFOUND;
    return e ? e : tx_exec(t, &q, ARGS(V_TEXT(id)));
}

enum err tx_upload_expire(struct store_tx *t, uint64_t before_ms)
{
    static struct store_sql some = STORE_SQL("SELECT 1 FROM upload WHERE expires_ms <= ?1 LIMIT 1");
    static struct store_sql q = STORE_SQL("DELETE FROM upload WHERE expires_ms <= ?1");
    int64_t there;
    enum err e = tx_number(t, 0, &there, &some, ARGS(V_MS(before_ms)));
    return e || !there ? e : tx_exec(t, &q, ARGS(V_MS(before_ms)));
}

/* ---- bytes ------------------------------------------------------------------------------------------ */

static struct span owner_of(struct span name)
{
    const uint8_t *slash = name.n ? memchr(name.p, '/', name.n) : NULL;
    return slash ? span_of(name.p, (size_t)(slash - name.p)) : name;
}

static enum err usage_add(struct store_tx *t, struct span name, uint64_t plus, uint64_t minus)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO upload_usage(owner, bytes) VALUES(?1, ?2)"
                  " ON CONFLICT(owner) DO UPDATE SET bytes = upload_usage.bytes + ?2");
    static struct store_sql none = STORE_SQL("DELETE FROM upload_usage WHERE owner = ?1 AND bytes = 0");
    struct span owner = owner_of(name);
    int64_t n = (int64_t)plus - (int64_t)minus;
    enum err e = n ? tx_exec(t, &q, ARGS(V_TEXT(owner), V_INT(n))) : ERR_OK;
    if (!e && n)
        e = tx_exec(t, &q, ARGS(V_TEXT(SPAN("")), V_INT(n)));
    return e || n >= 0 ? e : tx_exec(t, &none, ARGS(V_TEXT(owner)));
}

enum err tx_upload_usage(struct store_tx *t, struct span owner, uint64_t *bytes)
{
    static struct store_sql q = STORE_SQL("SELECT bytes FROM upload_usage WHERE owner = ?1");
    int64_t n;
    enum err e = tx_number(t, 0, &n, &q, ARGS(V_TEXT(owner.n ? owner : SPAN(""))));
    if (!e)
        *bytes = (uint64_t)n;
    return e;
}

/* ---- blobs ------------------------------------------------------------------------------------------ */

#define BLOB_COLS "container, name, file, length, md5, content_type, meta, created_ms, modified_ms"
/* What a blob counts for; the length of a column is known without reading it. */
#define BLOB_ROOM                                                                                            \
    "length + coalesce((SELECT length(b.blocks) FROM blob_blocks b WHERE b.file = named_blob.file), 0)"

static struct named_blob_row blob_row(struct store_tx *t, struct store_rows *r)
{
    return (struct named_blob_row){ .container = col_span(t, r, 0),
                                    .name = col_span(t, r, 1),
                                    .file = col_span(t, r, 2),
                                    .length = col_u64(t, r, 3),
                                    .md5 = col_span(t, r, 4),
                                    .content_type = col_span(t, r, 5),
                                    .meta = col_span(t, r, 6),
                                    .created_ms = col_u64(t, r, 7),
                                    .modified_ms = col_u64(t, r, 8),
                                    .room = col_u64(t, r, 9) };
}

static enum err blobs_show(struct store_tx *t, struct store_rows *r, enum err e, named_blob_each *each,
                           void *ctx)
{
    while (tx_next(t, r, &e)) {
        struct named_blob_row row = blob_row(t, r);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

enum err tx_blob_get(struct store_tx *t, struct span container, struct span name, struct named_blob_row *out)
{
    static struct store_sql q =
        STORE_SQL("SELECT " BLOB_COLS ", " BLOB_ROOM " FROM named_blob WHERE container = ?1 AND name = ?2");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(container), V_TEXT(name)));
    if (!e)
        *out = blob_row(t, r);
    return e;
}

enum err tx_blob_blocks(struct store_tx *t, struct span container, struct span name, struct span *out)
{
    static struct store_sql q = STORE_SQL("SELECT coalesce(b.blocks, x'') FROM named_blob n"
                                          " LEFT JOIN blob_blocks b ON b.file = n.file"
                                          " WHERE n.container = ?1 AND n.name = ?2");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(container), V_TEXT(name)));
    if (!e)
        *out = col_span(t, r, 0);
    return e;
}

/* -1: there is none. */
static enum err blob_room(struct store_tx *t, struct span container, struct span name, int64_t *room)
{
    static struct store_sql q =
        STORE_SQL("SELECT " BLOB_ROOM " FROM named_blob WHERE container = ?1 AND name = ?2");
    return tx_number(t, -1, room, &q, ARGS(V_TEXT(container), V_TEXT(name)));
}

/* Before the row goes or gets another file. */
static enum err blocks_drop(struct store_tx *t, struct span container, struct span name)
{
    static struct store_sql q =
        STORE_SQL("DELETE FROM blob_blocks WHERE file ="
                  " (SELECT file FROM named_blob WHERE container = ?1 AND name = ?2)");
    return tx_exec(t, &q, ARGS(V_TEXT(container), V_TEXT(name)));
}

enum err tx_blob_put(struct store_tx *t, const struct named_blob_row *r)
{
    static struct store_sql q = STORE_SQL(
        "INSERT INTO named_blob(" BLOB_COLS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        " ON CONFLICT(container, name) DO UPDATE SET file = excluded.file, length = excluded.length,"
        " md5 = excluded.md5, content_type = excluded.content_type, meta = excluded.meta,"
        " modified_ms = excluded.modified_ms");
    static struct store_sql blocks = STORE_SQL("INSERT INTO blob_blocks(file, blocks) VALUES(?1, ?2)");
    int64_t before;
    enum err e = blob_room(t, r->container, r->name, &before);
    if (!e)
        e = usage_add(t, r->name, r->length + r->blocks.n, before > 0 ? (uint64_t)before : 0);
    if (!e && before >= 0)
        e = blocks_drop(t, r->container, r->name);
    if (!e && r->blocks.n)
        e = tx_exec(t, &blocks, ARGS(V_BYTES(r->file), V_BYTES(r->blocks)));
    return e ? e
             : tx_exec(t, &q,
                       ARGS(V_TEXT(r->container), V_TEXT(r->name), V_BYTES(r->file), V_INT(r->length),
                            V_BYTES(r->md5), V_TEXT(r->content_type), V_TEXT(r->meta), V_MS(r->created_ms),
                            V_MS(r->modified_ms)));
}

enum err tx_blob_delete(struct store_tx *t, struct span container, struct span name)
{
    static struct store_sql q = STORE_SQL("DELETE FROM named_blob WHERE container = ?1 AND name = ?2");
    int64_t room;
    enum err e = blob_room(t, container, name, &room);
    if (!e && room < 0)
        e = ERR_NOTFOUND;
    if (!e)
        e = usage_add(t, name, 0, (uint64_t)room);
    if (!e)
        e = blocks_drop(t, container, name);
    return e ? e : tx_exec(t, &q, ARGS(V_TEXT(container), V_TEXT(name)));
}

enum err tx_blob_list(struct store_tx *t, struct span container, struct span prefix, struct span after,
                      size_t limit, named_blob_each *each, void *ctx)
{
    /* The prefix is compared as bytes: in its range, then exactly. */
    static struct store_sql q = STORE_SQL("SELECT " BLOB_COLS ", " BLOB_ROOM
                                          " FROM named_blob WHERE container = ?1 AND name > ?2 AND name >= ?3"
                                          " AND substr(name, 1, length(?3)) = ?3 ORDER BY name LIMIT ?4");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_TEXT(container), V_TEXT(after), V_TEXT(prefix), V_MS(limit)));
    return blobs_show(t, r, e, each, ctx);
}

enum err tx_blob_list_old(struct store_tx *t, uint64_t before_ms, size_t limit, named_blob_each *each,
                          void *ctx)
{
    static struct store_sql q =
        STORE_SQL("SELECT " BLOB_COLS ", " BLOB_ROOM " FROM named_blob WHERE modified_ms < ?1"
                  " ORDER BY modified_ms LIMIT ?2");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(before_ms), V_MS(limit)));
    return blobs_show(t, r, e, each, ctx);
}

/* ---- blocks ----------------------------------------------------------------------------------------- */

#define BLOCK_COLS "container, name, id, file, length, created_ms"

static struct block_row block_row(struct store_tx *t, struct store_rows *r)
{
    return (struct block_row){ col_span(t, r, 0), col_span(t, r, 1), col_span(t, r, 2),
                               col_span(t, r, 3), col_u64(t, r, 4),  col_u64(t, r, 5) };
}

static enum err blocks_show(struct store_tx *t, struct store_rows *r, enum err e, block_each *each, void *ctx)
{
    while (tx_next(t, r, &e)) {
        struct block_row row = block_row(t, r);
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

enum err tx_block_get(struct store_tx *t, struct span container, struct span name, struct span id,
                      struct block_row *out)
{
    static struct store_sql q =
        STORE_SQL("SELECT " BLOCK_COLS " FROM blob_block WHERE container = ?1 AND name = ?2 AND id = ?3");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(container), V_TEXT(name), V_BYTES(id)));
    if (!e)
        *out = block_row(t, r);
    return e;
}

static enum err open_step(struct store_tx *t, struct span container, struct span name, int blocks,
                          size_t id_len)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO blob_open(container, name, blocks, id_len, version) VALUES(?1, ?2, ?3, ?4, ?5)"
                  " ON CONFLICT(container, name) DO UPDATE SET blocks = blob_open.blocks + ?3,"
                  " version = ?5");
    static struct store_sql none =
        STORE_SQL("DELETE FROM blob_open WHERE container = ?1 AND name = ?2 AND blocks <= 0");
    uint64_t version;
    enum err e = tx_seq_next(t, SEQ_BLOCK, &version);
    if (!e)
        e = tx_exec(t, &q,
                    ARGS(V_TEXT(container), V_TEXT(name), V_INT(blocks), V_INT(id_len), V_INT(version)));
    return e || blocks >= 0 ? e : tx_exec(t, &none, ARGS(V_TEXT(container), V_TEXT(name)));
}

enum err tx_block_open(struct store_tx *t, struct span container, struct span name,
                       struct block_open_row *out)
{
    static struct store_sql q =
        STORE_SQL("SELECT blocks, id_len, version FROM blob_open WHERE container = ?1 AND name = ?2");
    struct store_rows *r;
    enum err e = tx_one(t, &r, &q, ARGS(V_TEXT(container), V_TEXT(name)));
    if (!e)
        *out = (struct block_open_row){ col_u64(t, r, 0), (size_t)col_u64(t, r, 1), col_u64(t, r, 2) };
    return e;
}

enum err tx_block_delete(struct store_tx *t, struct span container, struct span name, struct span id)
{
    static struct store_sql find =
        STORE_SQL("SELECT length FROM blob_block WHERE container = ?1 AND name = ?2 AND id = ?3");
    static struct store_sql q =
        STORE_SQL("DELETE FROM blob_block WHERE container = ?1 AND name = ?2 AND id = ?3");
    int64_t length;
    enum err e = tx_number(t, -1, &length, &find, ARGS(V_TEXT(container), V_TEXT(name), V_BYTES(id)));
    if (!e && length < 0)
        e = ERR_NOTFOUND;
    if (!e)
        e = usage_add(t, name, 0, (uint64_t)length);
    if (!e)
        e = open_step(t, container, name, -1, id.n);
    return e ? e : tx_exec(t, &q, ARGS(V_TEXT(container), V_TEXT(name), V_BYTES(id)));
}

enum err tx_block_put(struct store_tx *t, const struct block_row *r)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO blob_block(" BLOCK_COLS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6)");
    enum err e = open_step(t, r->container, r->name, 1, r->id.n); /* first, so that the row stays */
    if (!e)
        e = tx_block_delete(t, r->container, r->name, r->id);
    if (!e || e == ERR_NOTFOUND)
        e = usage_add(t, r->name, r->length, 0);
    return e ? e
             : tx_exec(t, &q,
                       ARGS(V_TEXT(r->container), V_TEXT(r->name), V_BYTES(r->id), V_BYTES(r->file),
                            V_INT(r->length), V_MS(r->created_ms)));
}

enum err tx_block_list(struct store_tx *t, struct span container, struct span name, block_each *each,
                       void *ctx)
{
    static struct store_sql q =
        STORE_SQL("SELECT " BLOCK_COLS " FROM blob_block WHERE container = ?1 AND name = ?2 ORDER BY id");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_TEXT(container), V_TEXT(name)));
    return blocks_show(t, r, e, each, ctx);
}

enum err tx_block_list_old(struct store_tx *t, uint64_t before_ms, size_t limit, block_each *each, void *ctx)
{
    static struct store_sql q =
        STORE_SQL("SELECT " BLOCK_COLS " FROM blob_block WHERE created_ms < ?1 ORDER BY created_ms LIMIT ?2");
    struct store_rows *r;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(before_ms), V_MS(limit)));
    return blocks_show(t, r, e, each, ctx);
}

static enum err blocks_sum(struct store_tx *t, struct span container, struct span name, int64_t *sum)
{
    static struct store_sql q =
        STORE_SQL("SELECT coalesce(sum(length), 0) FROM blob_block WHERE container = ?1 AND name = ?2");
    return tx_number(t, 0, sum, &q, ARGS(V_TEXT(container), V_TEXT(name)));
}

enum err tx_block_clear(struct store_tx *t, struct span container, struct span name)
{
    static struct store_sql q = STORE_SQL("DELETE FROM blob_block WHERE container = ?1 AND name = ?2");
    static struct store_sql open = STORE_SQL("DELETE FROM blob_open WHERE container = ?1 AND name = ?2");
    int64_t sum;
    enum err e = blocks_sum(t, container, name, &sum);
    if (!e)
        e = usage_add(t, name, 0, (uint64_t)sum);
    if (!e)
        e = tx_exec(t, &open, ARGS(V_TEXT(container), V_TEXT(name)));
    return e ? e : tx_exec(t, &q, ARGS(V_TEXT(container), V_TEXT(name)));
}

enum err tx_file_known(struct store_tx *t, struct span file, bool *known)
{
    static struct store_sql blob = STORE_SQL("SELECT 1 FROM named_blob WHERE file = ?1");
    static struct store_sql block = STORE_SQL("SELECT 1 FROM blob_block WHERE file = ?1");
    int64_t a = 0, b = 0;
    enum err e = tx_number(t, 0, &a, &blob, ARGS(V_BYTES(file)));
    if (!e && !a)
        e = tx_number(t, 0, &b, &block, ARGS(V_BYTES(file)));
    if (!e)
        *known = a || b;
    return e;
}

/* ---- notifications ---------------------------------------------------------------------------------- */

#define NOTE_COLS "seq, device, blob, uri, length, modified_ms, enqueued_ms, deliveries"
#define NOTE_FREE "locked_until_ms <= ?1"
#define NOTES_MAX 100000 /* rows kept; the oldest go */

static enum err notes_show(struct store_tx *t, struct store_rows *r, enum err e, uint32_t add,
                           file_note_each *each, void *ctx, uint64_t *last)
{
    while (tx_next(t, r, &e)) {
        struct file_note_row row = { .seq = col_u64(t, r, 0),
                                     .device = col_span(t, r, 1),
                                     .blob = col_span(t, r, 2),
                                     .uri = col_span(t, r, 3),
                                     .length = col_u64(t, r, 4),
                                     .modified_ms = col_u64(t, r, 5),
                                     .enqueued_ms = col_u64(t, r, 6),
                                     .deliveries = (uint32_t)col_u64(t, r, 7) + add };
        *last = row.seq;
        e = each(ctx, &row);
    }
    return tx_end(t, r, e);
}

enum err tx_file_note_push(struct store_tx *t, const struct file_note_row *r)
{
    static struct store_sql q =
        STORE_SQL("INSERT INTO file_note(device, blob, uri, length, modified_ms, enqueued_ms,"
                  " deliveries, lock, locked_until_ms) VALUES(?1, ?2, ?3, ?4, ?5, ?6, 0, '', 0)");
    static struct store_sql trim =
        STORE_SQL("DELETE FROM file_note WHERE seq <= (SELECT max(seq) FROM file_note) - ?1");
    enum err e = tx_exec(t, &q,
                         ARGS(V_TEXT(r->device), V_TEXT(r->blob), V_TEXT(r->uri), V_INT(r->length),
                              V_MS(r->modified_ms), V_MS(r->enqueued_ms)));
    return e ? e : tx_exec(t, &trim, ARGS(V_INT(NOTES_MAX)));
}

enum err tx_file_note_take(struct store_tx *t, struct span lock, uint64_t now_ms, uint64_t until_ms,
                           uint64_t expired_ms, uint32_t deliveries_max, size_t limit, file_note_each *each,
                           void *ctx)
{
    static struct store_sql q =
        STORE_SQL("SELECT " NOTE_COLS " FROM file_note WHERE " NOTE_FREE
                  " AND enqueued_ms >= ?3 AND deliveries < ?4 ORDER BY enqueued_ms, seq LIMIT ?2");
    static struct store_sql put =
        STORE_SQL("UPDATE file_note SET lock = ?2, locked_until_ms = ?3, deliveries = deliveries + 1"
                  " WHERE seq IN (SELECT seq FROM file_note WHERE " NOTE_FREE
                  " AND enqueued_ms >= ?5 AND deliveries < ?6 ORDER BY enqueued_ms, seq LIMIT ?4)");
    static struct store_sql old = STORE_SQL("DELETE FROM file_note WHERE " NOTE_FREE " AND enqueued_ms < ?2");
    static struct store_sql worn =
        STORE_SQL("DELETE FROM file_note WHERE " NOTE_FREE " AND deliveries > 0 AND deliveries >= ?2");
    struct store_rows *r;
    uint64_t last = 0;
    enum err e =
        tx_query(t, &r, &q, ARGS(V_MS(now_ms), V_MS(limit), V_MS(expired_ms), V_INT(deliveries_max)));
    e = notes_show(t, r, e, 1, each, ctx, &last);
    if (e || !last)
        return e ? e : ERR_NOTFOUND; /* and nothing is written: who looks in vain may do so often */
    e = tx_exec(t, &old, ARGS(V_MS(now_ms), V_MS(expired_ms)));
    if (!e)
        e = tx_exec(t, &worn, ARGS(V_MS(now_ms), V_INT(deliveries_max)));
    return e ? e
             : tx_exec(t, &put,
                       ARGS(V_MS(now_ms), V_TEXT(lock), V_MS(until_ms), V_MS(limit), V_MS(expired_ms),
                            V_INT(deliveries_max)));
}

enum err tx_file_note_settle(struct store_tx *t, struct span lock, uint64_t now_ms, bool done)
{
    static struct store_sql find =
        STORE_SQL("SELECT count(*) FROM file_note WHERE lock = ?1 AND lock <> '' AND locked_until_ms > ?2");
    static struct store_sql drop = STORE_SQL("DELETE FROM file_note WHERE lock = ?1 AND lock <> ''");
    static struct store_sql put =
        STORE_SQL("UPDATE file_note SET lock = '', locked_until_ms = 0 WHERE lock = ?1 AND lock <> ''");
    int64_t n;
    enum err e = tx_number(t, 0, &n, &find, ARGS(V_TEXT(lock), V_MS(now_ms)));
    if (e || !n)
        return e ? e : ERR_NOTFOUND;
    return tx_exec(t, done ? &drop : &put, ARGS(V_TEXT(lock)));
}

enum err tx_file_note_list(struct store_tx *t, uint64_t after_seq, size_t limit, file_note_each *each,
                           void *ctx)
{
    static struct store_sql q =
        STORE_SQL("SELECT " NOTE_COLS " FROM file_note WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    struct store_rows *r;
    uint64_t last;
    enum err e = tx_query(t, &r, &q, ARGS(V_MS(after_seq), V_MS(limit)));
    return notes_show(t, r, e, 0, each, ctx, &last);
}
