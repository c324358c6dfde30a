/* hub/front/blob_http/commit.c - Put Block List: blocks become a blob. The body is read whole (it is capped),
 * the blocks are copied into one file on the pool, then one transaction puts the blob in their place. A list
 * may name blocks that no list has named yet, and those that the blob has: their bytes are copied from its
 * file, in which its table of blocks says where they are. */
#include "base/text.h"
#include "core/storage/block_list.h"
#include "core/storage/block_table.h"
#include "hub/front/blob_http/blob_impl.h"

#include <stdlib.h>

_Static_assert(BLOCK_TABLE_ID_MAX == UPLOAD_BLOCK_ID_MAX, "a table takes each id");

struct entry {
    struct span id; /* decoded, in the body */
    enum block_source source;
    uint8_t file[FILE_ID_LEN];
    uint64_t at, length; /* of its bytes in that file */
};
struct place { /* of a block in the blob */
    struct span id;
    uint64_t at, length;
};
struct commit {
    struct blob_target target;
    struct wr body; /* p: owned */
    struct entry *entries;
    size_t nr;
    uint64_t version;          /* of the blocks that were found */
    bool again;                /* a block of the blob is taken again: it has to be the same blob still */
    uint8_t from[FILE_ID_LEN]; /* its file; zeros: there was none */
    struct wr table;           /* of the new blob */
    struct named_blob_row row;
    uint8_t file[FILE_ID_LEN], md5[FILE_MD5_LEN];
    bool made;
    struct blob_trash trash;
};

/* ---- what is not named any more ---------------------------------------------------------------------- */

static enum err trash_run(struct pool_op *op)
{
    struct job *j = CONTAINER_OF(op, struct job, pool);
    const struct blob_trash *t = j->state;
    for (size_t i = 0; i < t->nr; i++) { /* what stays is found after the next start */
        enum err e = files_delete(j->h->files, t->files[i]);
        if (e && e != ERR_NOTFOUND)
            log_warn("uploads.delete", "err=%s", err_name(e));
    }
    return ERR_OK;
}

static void trashed(struct op *op)
{
    job_end(CONTAINER_OF(op, struct job, pool.op));
}

void blob_trash_end(struct job *j, const struct blob_trash *t)
{
    if (!t->nr) {
        job_end(j);
        return;
    }
    j->state = (void *)(uintptr_t)t;
    j->pool.run = trash_run;
    j->pool.op.home = worker_mailbox(j->r->worker);
    j->pool.op.done = trashed;
    pool_run(j->front->pool, &j->pool);
}

/* ---- the list --------------------------------------------------------------------------------------- */

static void give_back(struct job *j)
{
    const struct commit *c = j->state;
    free(c->body.p);
}

static bool read_list(struct job *j, struct commit *c)
{
    struct block_list l;
    struct block_entry b;
    enum err e;
    for (int pass = 0; pass < 2; pass++) {
        block_list_init(&l, wr_span(&c->body));
        for (c->nr = 0; (e = block_list_next(&l, &b)) == ERR_OK; c->nr++) {
            size_t n;
            if (c->nr >= UPLOAD_BLOCKS_MAX)
                return blob_fail(j, "BlockCountExceedsLimit", "A blob has at most 50000 blocks.");
            if (pass == 0)
                continue;
            uint8_t *id = c->body.p + (b.id.p - c->body.p); /* over its text, which is longer */
            if (base64_decode(b.id, id, UPLOAD_BLOCK_ID_MAX, &n) || !n)
                return blob_fail(j, "InvalidBlockList", "A block id is not base64 of 1 to 64 bytes.");
            c->entries[c->nr] = (struct entry){ .id = span_of(id, n), .source = b.source };
        }
        if (e == ERR_PROTO)
            return blob_fail(j, "InvalidXmlDocument", "The body is no list of blocks.");
        if (pass == 0 && !(c->entries = arena_alloc(&j->a, (c->nr + 1) * sizeof *c->entries)))
            return blob_fail(j, "ServerBusy", "The hub is short of memory: try again.");
    }
    return true;
}

/* By id; the first of one name comes first. */
static int by_id(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int d = memcmp(x->id.p, y->id.p, x->id.n < y->id.n ? x->id.n : y->id.n);
    if (d || x->id.n != y->id.n)
        return d ? d : x->id.n < y->id.n ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Where the blocks of the blob are; sorted, with ids that live as long as what the store showed. */
static enum err places_read(struct job *j, struct store_tx *tx, struct place **out, size_t *nr)
{
    struct commit *c = j->state;
    struct named_blob_row now;
    struct span table, rest;
    struct table_block b;
    uint64_t at = 0;
    memset(c->from, 0, sizeof c->from);
    enum err e = tx_blob_get(tx, c->target.container, c->target.name, &now);
    *nr = 0;
    if (!e && now.file.n == FILE_ID_LEN)
        memcpy(c->from, now.file.p, FILE_ID_LEN);
    if (!e)
        e = tx_blob_blocks(tx, c->target.container, c->target.name, &table);
    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    for (rest = table; block_table_next(&rest, &b) == ERR_OK;)
        ++*nr;
    struct place *p = *out = arena_alloc(&j->a, (*nr + 1) * sizeof *p);
    if (!p)
        return ERR_NOMEM;
    for (rest = table; (e = block_table_next(&rest, &b)) == ERR_OK; at += b.length)
        *p++ = (struct place){ b.id, at, b.length };
    if (e != ERR_STOPPED || (*nr && at != now.length)) { /* none: it was put whole */
        log_error("uploads.blocks", "name=%.*s reason=\"its blocks are not its bytes\"",
                  (int)c->target.name.n, (const char *)c->target.name.p);
        return ERR_IO;
    }
    qsort(*out, *nr, sizeof **out, by_id);
    return ERR_OK;
}

static const struct place *place_of(const struct place *p, size_t nr, struct span id)
{
    const struct place want = { id, 0, 0 };
    size_t low = 0, high = nr;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (by_id(&p[mid], &want) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < nr && span_eq(p[low].id, id) ? &p[low] : NULL;
}

static enum err look_up(struct job *j, struct store_tx *tx)
{
    struct commit *c = j->state;
    struct block_open_row open = { 0, 0, 0 };
    struct place *places = NULL;
    size_t nr = 0;
    enum err e = tx_block_open(tx, c->target.container, c->target.name, &open);
    if (e == ERR_NOTFOUND)
        e = ERR_OK;
    c->version = open.version;
    c->again = false;
    if (!e)
        e = places_read(j, tx, &places, &nr);
    for (size_t i = 0; !e && i < c->nr; i++) {
        struct entry *x = &c->entries[i];
        struct block_row b;
        const struct place *p;
        e = x->source == BLOCK_COMMITTED ? ERR_NOTFOUND
                                         : tx_block_get(tx, c->target.container, c->target.name, x->id, &b);
        if (!e && b.file.n == FILE_ID_LEN) {
            memcpy(x->file, b.file.p, FILE_ID_LEN);
            x->at = 0;
            x->length = b.length;
        } else if (e == ERR_NOTFOUND && x->source != BLOCK_UNCOMMITTED && (p = place_of(places, nr, x->id))) {
            memcpy(x->file, c->from, FILE_ID_LEN);
            x->at = p->at;
            x->length = p->length;
            c->again = true;
            e = ERR_OK;
        } else if (e == ERR_NOTFOUND) {
            (void)blob_fail(j, "InvalidBlockList",
                            x->source == BLOCK_COMMITTED
                                ? "The list names a block that the blob does not have."
                                : "The list names a block that was not uploaded.");
            return ERR_DENIED;
        }
    }
    return e;
}

static enum err assemble(struct job *j)
{
    struct commit *c = j->state;
    struct file_writer *w;
    c->table = (struct wr){ NULL, 0, 0 };
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < c->nr; i++)
            block_table_put(&c->table, &(struct table_block){ c->entries[i].id, c->entries[i].length });
        if (pass == 0)
            c->table = (struct wr){ arena_alloc(&j->a, c->table.len + 1), c->table.len, 0 };
        if (!c->table.p)
            return ERR_NOMEM;
    }
    enum err e = file_create(j->h->files, &w);
    if (e)
        return e;
    for (size_t i = 0; !e && i < c->nr && file_written(w) <= j->h->settings.upload_blob_bytes; i++) {
        const struct entry *x = &c->entries[i];
        e = file_write_part(w, x->file, x->at, x->length);
    }
    c->row.length = file_written(w);
    if (!e)
        e = file_md5(w, c->md5);
    if (e == ERR_NOTFOUND) {
        (void)blob_fail(j, "InvalidBlockList", "A block went away meanwhile.");
        e = ERR_OK;
    } else if (!e && c->row.length > j->h->settings.upload_blob_bytes) {
        (void)blob_fail(j, "RequestBodyTooLarge", "The blob is larger than this hub accepts.");
    }
    if (e || j->code) {
        file_discard(w);
        return e;
    }
    e = file_commit(w, c->file);
    c->made = !e;
    return e;
}

static enum err gather(void *ctx, const struct block_row *b)
{
    struct commit *c = ctx;
    if (b->file.n == FILE_ID_LEN)
        memcpy(c->trash.files[c->trash.nr++], b->file.p, FILE_ID_LEN);
    return ERR_OK;
}

static enum err put(struct job *j, struct store_tx *tx)
{
    struct commit *c = j->state;
    struct named_blob_row old, *r = &c->row;
    struct block_open_row open = { 0, 0, 0 };
    struct span container = c->target.container, name = c->target.name;
    c->trash.nr = 0;
    enum err e = tx_block_open(tx, container, name, &open);
    if (e && e != ERR_NOTFOUND)
        return e;
    if (open.version != c->version) {
        (void)blob_fail(j, "InvalidBlockList", "Blocks of this blob came or went meanwhile.");
        return ERR_DENIED;
    }
    e = tx_blob_get(tx, container, name, &old);
    bool there = !e;
    if (e && e != ERR_NOTFOUND)
        return e;
    if (!blob_conditions(j, there ? &old : NULL))
        return ERR_DENIED;
    if (c->again && (!there || !span_eq(old.file, span_of(c->from, FILE_ID_LEN)))) {
        (void)blob_fail(j, "InvalidBlockList", "The blob was written meanwhile.");
        return ERR_DENIED;
    }
    c->trash.files = arena_alloc(&j->a, (open.blocks + 2) * FILE_ID_LEN);
    if (!c->trash.files)
        return ERR_NOMEM;
    if (there && old.file.n == FILE_ID_LEN)
        memcpy(c->trash.files[c->trash.nr++], old.file.p, FILE_ID_LEN);
    uint64_t less = there ? old.room : 0;
    r->blocks = wr_span(&c->table);
    e = tx_block_list(tx, container, name, gather, c);
    if (!e)
        e = tx_block_clear(tx, container, name);
    if (!e)
        e = upload_room(j->h, tx, container, name, r->length + r->blocks.n, less);
    if (e == ERR_LIMIT) {
        (void)blob_fail(j, "QuotaExceeded",
                        "The device, or the hub, has no room for more uploads: delete some.");
        return ERR_DENIED;
    }
    r->container = container;
    r->name = name;
    r->file = span_of(c->file, FILE_ID_LEN);
    r->md5 = span_of(c->md5, FILE_MD5_LEN);
    r->created_ms = r->modified_ms = j->h->wall_ms();
    return e ? e : tx_blob_put(tx, r);
}

static enum err run_put(struct store_tx *tx, struct store_op *self)
{
    struct job *j = (struct job *)(void *)self;
    j->code = NULL; /* it may run again */
    return put(j, tx);
}

static void on_put(struct op *op)
{
    struct job *j = (struct job *)(void *)op;
    struct commit *c = j->state;
    if (!op->err) {
        j->status = 201;
        blob_fields(j, &c->row);
        job_field(j, "x-ms-request-server-encrypted", "true");
    } else { /* the new file goes, the rest stays */
        if (op->err == ERR_FULL)
            (void)blob_fail(j, "InsufficientStorage", "The disk of the hub is full: nothing was taken.");
        else if (op->err != ERR_DENIED)
            (void)blob_fail(j, "ServerBusy", "The hub could not do this now.");
        c->trash.files = arena_alloc(&j->a, FILE_ID_LEN);
        c->trash.nr = 0;
        if (c->trash.files)
            memcpy(c->trash.files[c->trash.nr++], c->file, FILE_ID_LEN);
    }
    give_back(j);
    j->on_release = NULL; /* its state is the trash now */
    blob_trash_end(j, &c->trash);
}

static void assembled(struct job *j)
{
    j->store.run = run_put;
    j->store.op.home = worker_mailbox(j->r->worker);
    j->store.op.done = on_put;
    store_write(j->h->store, &j->store);
}

static void known(struct job *j)
{
    job_pool(j, assemble, assembled);
}

/* ---- the request ------------------------------------------------------------------------------------ */

static void on_piece(struct http_req *r)
{
    struct job *j = r->user;
    struct commit *c = j->state;
    size_t need = c->body.len + r->body.n;
    if (r->conn && need > BLOB_LIST_MAX)
        (void)blob_fail(j, "RequestBodyTooLarge", "A list of blocks has at most 8 MiB.");
    if (r->conn && !j->code && need > c->body.cap) {
        size_t cap = 2 * need < BLOB_LIST_MAX ? 2 * need : BLOB_LIST_MAX;
        uint8_t *p = realloc(c->body.p, cap);
        if (p) {
            c->body.p = p;
            c->body.cap = cap;
        } else {
            (void)blob_fail(j, "ServerBusy", "The hub is short of memory: try again.");
        }
    }
    if (!r->conn || j->code) {
        job_end(j);
        return;
    }
    wr_put(&c->body, r->body);
    if (!r->body_end) {
        http_read(r, on_piece);
        return;
    }
    if (!read_list(j, c)) {
        job_end(j);
        return;
    }
    job_read(j, look_up, known);
}

void blob_commit_start(struct job *j)
{
    struct commit *c = arena_alloc(&j->a, sizeof *c);
    if (!c) {
        blob_end_err(j, ERR_NOMEM);
        return;
    }
    *c = (struct commit){ .made = false };
    j->state = c;
    j->on_release = give_back;
    if (!blob_target(j, &c->target))
        return;
    if (!upload_name_ok(c->target.name))
        (void)blob_fail(j, "InvalidResourceName", "A blob has 1 to 14 path segments and at most 1024 bytes.");
    else if (blob_permit(j, &c->target, "w") && blob_properties(j, &c->row)) {
        j->r->user = j;
        http_read(j->r, on_piece);
        return;
    }
    job_end(j);
}
