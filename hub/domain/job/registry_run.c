/* hub/domain/job/registry_run.c - what the thread of import and export jobs does: it finds the job that is
 * open, runs it step by step, each step one op of the store that it waits for, and ends it. */
#include "hub/domain/job/registry_run.h"

#include "base/log.h"
#include "hub/domain/message/upload.h"

#include <stdlib.h>

#define LOOK_MS      30000  /* when nobody rings */
#define RETRY_MS     1000   /* after a refusal of the store */
#define SWEEP_ROWS   2000u  /* refused lines that are forgotten in one transaction */
#define ERRORS_PAGE  1000u  /* of them that are read at once, */
#define ERRORS_BYTES 65536u /* into this much */

/* ---- steps ----------------------------------------------------------------------------------------------
 */

static void step_done(struct op *op)
{
    op->home = NULL; /* seen by the loop below */
}

void registry_pause(struct registry_jobs *r, int ms)
{
    mailbox_wait(&r->mail, ms);
    for (struct op *o = mailbox_take(&r->mail), *next; o; o = next) {
        next = o->next;
        o->done(o);
    }
}

/* Hands the op over by `hand` and waits for it. */
static enum err wait_for(struct registry_jobs *r, struct store_op *op,
                         void (*hand)(struct store *s, struct store_op *op))
{
    op->op.home = &r->mail;
    op->op.done = step_done;
    hand(r->h->store, op);
    while (op->op.home)
        registry_pause(r, -1);
    return op->op.err;
}

enum err registry_write(struct registry_jobs *r, struct store_op *op)
{
    return wait_for(r, op, store_write);
}
enum err registry_read(struct registry_jobs *r, struct store_op *op)
{
    return wait_for(r, op, store_read);
}
enum err registry_scan(struct registry_jobs *r, struct store_op *op)
{
    return wait_for(r, op, store_scan);
}

bool registry_stopped(const struct registry_jobs *r)
{
    return atomic_load(&r->stopping);
}

enum err registry_job_now(struct registry_run *k, struct store_tx *tx, struct fleet_job_row *row)
{
    enum err e = tx_fleet_job_by_seq(tx, k->row.seq, row);
    return e ? e : row->state == FLEET_JOB_RUNNING ? ERR_OK : ERR_STALE;
}

void registry_files_discard(struct registry_files *files)
{
    for (size_t i = 0; i < REGISTRY_FILES; i++) {
        file_discard(files->of[i].w);
        files->of[i].w = NULL;
    }
}

void registry_fail(struct registry_run *k, const char *why)
{
    if (!k->reason[0])
        snprintf(k->reason, sizeof k->reason, "%s", why);
}

/* ---- the ends of a job ----------------------------------------------------------------------------------
 */

struct ended_blob { /* one that is put with the end */
    struct span name;
    bool has_file, has_old; /* has_file: there are bytes for it */
    uint8_t file[FILE_ID_LEN], md5[FILE_MD5_LEN], old[FILE_ID_LEN];
    uint64_t length;
};
struct ending {
    struct store_op op; /* first */
    struct registry_run *k;
    struct ended_blob blobs[REGISTRY_FILES];
    bool put, no_room; /* put: they are of the transaction */
    struct fleet_job_row row;
};

static enum err put_blob(struct ending *n, struct ended_blob *b, struct store_tx *tx)
{
    struct hub *h = n->k->r->h;
    struct named_blob_row old;
    enum err e = tx_blob_get(tx, n->k->body.container, b->name, &old);
    b->has_old = !e && old.file.n == FILE_ID_LEN;
    if (b->has_old)
        memcpy(b->old, old.file.p, FILE_ID_LEN);
    if (e && e != ERR_NOTFOUND)
        return e;
    e = upload_room(h, tx, n->k->body.container, b->name, b->length, e ? 0 : old.room);
    n->no_room = e == ERR_LIMIT;
    struct named_blob_row r = { .container = n->k->body.container,
                                .name = b->name,
                                .file = span_of(b->file, FILE_ID_LEN),
                                .length = b->length,
                                .md5 = span_of(b->md5, FILE_MD5_LEN),
                                .content_type = SPAN("text/plain; charset=utf-8"),
                                .meta = SPAN(""),
                                .created_ms = h->wall_ms(),
                                .modified_ms = h->wall_ms() };
    return e ? e : tx_blob_put(tx, &r);
}

static enum err run_end(struct store_tx *tx, struct store_op *self)
{
    struct ending *n = (struct ending *)(void *)self;
    struct fleet_job_row *r = &n->row;
    n->no_room = false;
    enum err e = tx_fleet_job_by_seq(tx, n->k->row.seq, r);
    if (e)
        return e;
    n->put = r->state == FLEET_JOB_RUNNING || r->kind == FLEET_JOB_IMPORT;
    for (size_t i = 0; !e && n->put && i < REGISTRY_FILES; i++)
        if (n->blobs[i].has_file)
            e = put_blob(n, &n->blobs[i], tx);
    if (e)
        return e;
    if (r->state <= FLEET_JOB_RUNNING) {
        r->state = n->k->reason[0] ? FLEET_JOB_FAILED : FLEET_JOB_COMPLETED;
        r->reason = span_str(n->k->reason);
        r->end_ms = n->k->r->h->wall_ms();
    }
    r->selected = true;
    r->open = false;
    if (r->kind == FLEET_JOB_EXPORT && r->state == FLEET_JOB_COMPLETED)
        r->total = r->succeeded = n->k->exported;
    return tx_fleet_job_put(tx, r);
}

static void remove_file(struct registry_run *k, const uint8_t id[FILE_ID_LEN])
{
    enum err e = files_delete(k->r->h->files, id);
    if (e && e != ERR_NOTFOUND) /* it is found after the next start */
        log_warn("registry.file", "err=%s", err_name(e));
}

/* Makes the files, where there are some, blobs of these names and ends the job, in one transaction. The files
 * are closed in any case. */
static enum err end(struct registry_run *k, struct registry_files *files)
{
    struct ending *n = calloc(1, sizeof *n);
    enum err e = n ? ERR_OK : ERR_NOMEM;
    for (size_t i = 0; i < REGISTRY_FILES; i++) {
        struct file_writer *w = files->of[i].w;
        struct ended_blob *b = n ? &n->blobs[i] : NULL;
        files->of[i].w = NULL;
        if (!w)
            continue;
        if (!e)
            e = file_md5(w, b->md5);
        if (e) {
            file_discard(w);
            continue;
        }
        b->name = files->of[i].blob;
        b->length = file_written(w);
        e = file_commit(w, b->file);
        b->has_file = !e;
    }
    if (!n)
        return e;
    n->k = k;
    n->op.run = run_end;
    if (!e)
        e = registry_write(k->r, &n->op);
    for (size_t i = 0; i < REGISTRY_FILES; i++) {
        struct ended_blob *b = &n->blobs[i];
        if (b->has_file && (e || !n->put))
            remove_file(k, b->file);
        if (!e && n->put && b->has_old)
            remove_file(k, b->old);
    }
    if (n->no_room) {
        registry_fail(k, "there is no room for the file: uploads.total_bytes");
        e = ERR_LIMIT;
    }
    if (!e)
        log_info("registry.job", "job=%.*s type=%s state=%s done=%llu failed=%llu", (int)k->row.id.n,
                 (const char *)k->row.id.p, fleet_job_kind_name(k->row.kind),
                 fleet_job_state_name(n->row.state), (unsigned long long)n->row.succeeded,
                 (unsigned long long)n->row.failed);
    free(n);
    return e;
}

static enum err end_bare(struct registry_run *k)
{
    struct registry_files none = { 0 };
    return end(k, &none);
}

/* ---- refused lines, as a file ---------------------------------------------------------------------------
 */

struct errors_page {
    struct store_op op; /* first */
    struct registry_run *k;
    uint64_t from;
    struct wr out;
    bool more;
    uint8_t bytes[ERRORS_BYTES];
};

static enum err each_error(void *ctx, uint64_t nr, struct span text)
{
    struct errors_page *p = ctx;
    if (p->out.len + text.n + 1 > p->out.cap)
        return ERR_STOPPED;
    wr_put(&p->out, text);
    wr_u8(&p->out, '\n');
    p->from = nr + 1;
    p->more = true;
    return ERR_OK;
}

static enum err run_errors(struct store_tx *tx, struct store_op *self)
{
    struct errors_page *p = (struct errors_page *)(void *)self;
    p->out = (struct wr){ p->bytes, sizeof p->bytes, 0 };
    p->more = false;
    enum err e = tx_job_error_list(tx, p->k->row.seq, p->from, ERRORS_PAGE, each_error, p);
    return e == ERR_STOPPED ? ERR_OK : e;
}

static enum err write_errors(struct registry_run *k, struct file_writer *w)
{
    struct errors_page *p = calloc(1, sizeof *p);
    enum err e = p ? ERR_OK : ERR_NOMEM;
    if (!p)
        return e;
    p->k = k;
    p->op.run = run_errors;
    do {
        e = registry_read(k->r, &p->op);
        if (!e)
            e = file_write(w, wr_span(&p->out));
    } while (!e && p->more);
    free(p);
    return e;
}

static enum err end_import(struct registry_run *k)
{
    struct registry_files files = { .of[0].blob = k->body.errors };
    enum err e = file_create(k->r->h->files, &files.of[0].w);
    if (!e)
        e = write_errors(k, files.of[0].w);
    if (e) {
        registry_files_discard(&files);
        if (e == ERR_STOPPED)
            return e;
        registry_fail(k, "the file of refused lines could not be written: the disk is full");
        return end_bare(k);
    }
    e = end(k, &files);
    return e == ERR_LIMIT || e == ERR_FULL ? end_bare(k) : e;
}

static enum err end_export(struct registry_run *k, struct registry_files *files)
{
    enum err e = end(k, files);
    return e == ERR_LIMIT || e == ERR_FULL ? end_bare(k) : e;
}

/* ---- one job --------------------------------------------------------------------------------------------
 */

struct beginning {
    struct store_op op; /* first */
    struct registry_run *k;
    struct fleet_job_row row;
};

static enum err run_begin(struct store_tx *tx, struct store_op *self)
{
    struct beginning *b = (struct beginning *)(void *)self;
    struct fleet_job_row *r = &b->row;
    enum err e = tx_fleet_job_by_seq(tx, b->k->row.seq, r);
    if (e || r->state > FLEET_JOB_RUNNING)
        return e;
    if (r->state < FLEET_JOB_RUNNING)
        r->began_ms = b->k->r->h->wall_ms();
    r->state = FLEET_JOB_RUNNING;
    if (r->kind == FLEET_JOB_EXPORT) { /* also one that was interrupted: from the first */
        uint64_t by[3];
        e = tx_device_count(tx, by);
        r->total = e ? 0 : by[0] + by[1] + by[2]; /* their modules come on top: the end is 99 % for longer */
        r->succeeded = 0;
    }
    return e ? e : tx_fleet_job_put(tx, r);
}

static enum err run(struct registry_run *k)
{
    struct beginning b = { .op.run = run_begin, .k = k };
    struct registry_files files = { 0 };
    enum err e = registry_write(k->r, &b.op);
    if (e)
        return e;
    k->row.state = b.row.state;
    k->row.cursor = b.row.cursor;
    k->row.total = b.row.total;
    bool import = k->row.kind == FLEET_JOB_IMPORT;
    if (k->row.state == FLEET_JOB_RUNNING)
        e = import ? registry_import(k) : registry_export(k, &files);
    if (e == ERR_STALE) /* cancelled meanwhile */
        e = ERR_OK;
    if (e == ERR_FULL)
        registry_fail(k, "the disk of the hub is full");
    else if (e == ERR_IO)
        registry_fail(k, "the hub could not read or write its files: its log says why");
    else if (e == ERR_NOMEM)
        registry_fail(k, "the hub is short of memory");
    else if (e && !k->reason[0]) { /* the hub goes down */
        registry_files_discard(&files);
        return e;
    }
    return import ? end_import(k) : end_export(k, &files);
}

/* ---- all of them ----------------------------------------------------------------------------------------
 */

struct looking {
    struct store_op op; /* first */
    struct registry_run *k;
    bool found;
};

static enum err note_open(void *ctx, const struct fleet_job_row *r)
{
    struct looking *l = ctx;
    if (r->kind != FLEET_JOB_EXPORT && r->kind != FLEET_JOB_IMPORT)
        return ERR_OK;
    l->found = true;
    enum err e = fleet_job_copy(&l->k->a, r, &l->k->row);
    return e ? e : ERR_STOPPED; /* the oldest is enough */
}

static enum err run_look(struct store_tx *tx, struct store_op *self)
{
    struct looking *l = (struct looking *)(void *)self;
    l->found = false;
    enum err e = tx_fleet_job_list_open(tx, note_open, l);
    return e == ERR_STOPPED && l->found ? ERR_OK : e;
}

struct sweeping {
    struct store_op op; /* first */
    uint64_t nr;
};

static enum err run_sweep(struct store_tx *tx, struct store_op *self)
{
    struct sweeping *s = (struct sweeping *)(void *)self;
    s->nr = 0;
    return tx_job_error_sweep(tx, SWEEP_ROWS, &s->nr);
}

/* Lines that were refused and are told. */
static void sweep(struct registry_jobs *r)
{
    struct sweeping s = { .op.run = run_sweep, .nr = 1 };
    while (s.nr && !registry_stopped(r))
        if (registry_write(r, &s.op))
            return; /* later */
}

/* False: there was none, or it has to be tried again. */
static bool turn(struct registry_jobs *r, bool *retry)
{
    struct registry_run *k = calloc(1, sizeof *k);
    struct looking l = { .op.run = run_look, .k = k };
    *retry = !k;
    if (!k)
        return false;
    k->r = r;
    arena_init(&k->a, 1u << 20);
    enum err e = registry_read(r, &l.op);
    if (!e && l.found)
        e = registry_job_body(&k->a, k->row.body, &k->body);
    if (!e && l.found)
        e = run(k);
    if (e && e != ERR_STOPPED && !registry_stopped(r)) {
        log_error("registry.job", "job=%.*s err=%s hint=\"it is tried again\"", (int)k->row.id.n,
                  (const char *)k->row.id.p, err_name(e));
        *retry = true;
    }
    arena_fini(&k->a);
    free(k);
    return l.found && !e;
}

void registry_jobs_turn(struct registry_jobs *r)
{
    bool retry;
    while (!registry_stopped(r) && turn(r, &retry))
        ;
    sweep(r);
}

static void rung(struct op *op)
{
    struct registry_jobs *r = CONTAINER_OF(op, struct registry_jobs, bell);
    atomic_store(&r->rung, false);
}

void registry_jobs_serve(struct registry_jobs *r)
{
    while (!registry_stopped(r)) {
        bool retry = false;
        while (!registry_stopped(r) && turn(r, &retry))
            ;
        if (!retry)
            sweep(r);
        if (registry_stopped(r))
            break;
        registry_pause(r, retry ? RETRY_MS : LOOK_MS);
    }
}

static void ring(struct registry_jobs *r)
{
    if (!atomic_exchange(&r->rung, true))
        mailbox_post(&r->mail, &r->bell);
}

void registry_jobs_poke(struct hub *h)
{
    if (h->registry)
        ring(h->registry);
}

void registry_jobs_stop(struct registry_jobs *r)
{
    atomic_store(&r->stopping, true);
    ring(r);
}

enum err registry_jobs_new(struct registry_jobs **out, struct hub *h)
{
    struct registry_jobs *r = calloc(1, sizeof *r);
    if (!r)
        return ERR_NOMEM;
    r->h = h;
    r->bell.done = rung;
    r->bell.home = &r->mail;
    if (mailbox_init(&r->mail)) {
        free(r);
        return ERR_IO;
    }
    *out = r;
    return ERR_OK;
}

void registry_jobs_free(struct registry_jobs *r)
{
    if (!r)
        return;
    mailbox_fini(&r->mail);
    free(r);
}
