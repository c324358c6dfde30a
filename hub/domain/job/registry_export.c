/* hub/domain/job/registry_export.c - every identity with its twin as a line of a file, in the order of
 * creation, a page at a time. Who is made meanwhile comes at the end; who is changed is in it as one or the
 * other. */
#include "hub/domain/job/registry_run.h"

#include "hub/domain/job/registry_config.h"
#include "hub/domain/job/registry_line.h"

#include <stdlib.h>

#define PAGE_BYTES     (1u << 20)
#define PAGE_BYTES_MAX (32u << 20) /* for a device with all its modules, each twin at its limits */
#define PAGE_DEVICES   256u        /* looked at in one op, */
#define PAGE_MS        10u         /* or fewer when that takes longer */
#define TELL_MS        1000u

struct page {
    struct store_op op; /* first */
    struct registry_run *k;
    struct store_tx *tx;
    uint64_t cursor, began_ms, nr; /* seq of the last device that is in it; identities */
    size_t devices;
    bool full, too_small; /* there is more; not one device fits */
    struct wr out;
};

static enum err each_module(void *ctx, const struct module_row *m)
{
    struct page *p = ctx;
    p->nr++;
    return registry_module_write(p->tx, &p->out, m, !p->k->body.exclude_keys);
}

/* A device with its modules is in the page as a whole, or in the next one. */
static enum err each_device(void *ctx, const struct device_row *d, const struct identity_seen *seen)
{
    (void)seen;
    struct page *p = ctx;
    size_t len = p->out.len;
    uint64_t nr = p->nr, seq = d->seq;
    if (p->devices == PAGE_DEVICES || (p->devices && p->k->r->h->wall_ms() - p->began_ms >= PAGE_MS)) {
        p->full = true;
        return ERR_LIMIT;
    }
    uint8_t id[DEVICE_ID_MAX];
    struct span name = span_of(id, d->id.n < sizeof id ? d->id.n : sizeof id);
    memcpy(id, d->id.p, name.n);
    enum err e = registry_device_write(p->tx, &p->out, d, !p->k->body.exclude_keys);
    if (!e)
        e = tx_module_list(p->tx, name, each_module, p);
    if (!e && !wr_ok(&p->out) && p->devices) {
        p->out.len = len;
        p->nr = nr;
        p->full = true;
        return ERR_LIMIT;
    }
    if (!e && !wr_ok(&p->out)) {
        p->too_small = true;
        return ERR_LIMIT;
    }
    p->nr += !e;
    p->devices++;
    p->cursor = seq;
    return e;
}

static enum err run_page(struct store_tx *tx, struct store_op *self)
{
    struct page *p = (struct page *)(void *)self;
    p->tx = tx;
    p->out.len = p->devices = 0;
    p->nr = 0;
    p->full = p->too_small = false;
    p->began_ms = p->k->r->h->wall_ms();
    enum err e = tx_device_list_by_seq(tx, p->cursor, PAGE_DEVICES + 1, each_device, p);
    return e == ERR_LIMIT && (p->full || p->too_small) ? ERR_OK : e;
}

/* ---- how far it is --------------------------------------------------------------------------------------
 */

struct telling {
    struct store_op op; /* first */
    struct registry_run *k;
};

static enum err run_tell(struct store_tx *tx, struct store_op *self)
{
    struct telling *t = (struct telling *)(void *)self;
    struct fleet_job_row row;
    enum err e = registry_job_now(t->k, tx, &row);
    if (e)
        return e;
    row.succeeded = t->k->exported;
    if (row.total < row.succeeded)
        row.total = row.succeeded;
    return tx_fleet_job_put(tx, &row);
}

static enum err grow(struct page *p)
{
    size_t cap = p->out.cap ? 2 * p->out.cap : PAGE_BYTES;
    uint8_t *bytes = cap <= PAGE_BYTES_MAX ? realloc(p->out.p, cap) : NULL;
    if (!bytes)
        return ERR_NOMEM;
    p->out = (struct wr){ bytes, cap, 0 };
    return ERR_OK;
}

static enum err copy_all(struct registry_run *k, struct page *p, struct file_writer *w)
{
    struct telling t = { .op.run = run_tell, .k = k };
    const struct hub *h = k->r->h;
    uint64_t told_ms = h->wall_ms();
    enum err e = grow(p);
    do {
        if (!e && registry_stopped(k->r))
            e = ERR_STOPPED;
        if (!e)
            e = registry_scan(k->r, &p->op);
        if (!e && p->too_small) {
            e = grow(p);
            continue;
        }
        if (!e)
            e = file_write(w, wr_span(&p->out));
        k->exported += e ? 0 : p->nr;
        if (!e && h->wall_ms() - told_ms >= TELL_MS) {
            e = registry_write(k->r, &t.op);
            told_ms = h->wall_ms();
        }
    } while (!e && (p->full || p->too_small));
    return e;
}

/* ---- configurations -------------------------------------------------------------------------------------
 */

#define CONFIGS_BYTES (1u << 20) /* one at its limits is a quarter of it */

struct configs {
    struct store_op op; /* first */
    uint64_t after;     /* seq of the last one that is in a page */
    bool more;
    struct wr out;
};

static enum err each_config(void *ctx, const struct config_row *r)
{
    struct configs *c = ctx;
    size_t len = c->out.len;
    if (r->seq <= c->after)
        return ERR_OK;
    registry_config_write(&c->out, r);
    if (!wr_ok(&c->out) && len) { /* in the next page */
        c->out.len = len;
        c->more = true;
        return ERR_LIMIT;
    }
    if (!wr_ok(&c->out))
        return ERR_NOMEM;
    c->after = r->seq;
    return ERR_OK;
}

static enum err run_configs(struct store_tx *tx, struct store_op *self)
{
    struct configs *c = (struct configs *)(void *)self;
    c->out.len = 0;
    c->more = false;
    enum err e = tx_config_list(tx, false, each_config, c);
    return e == ERR_LIMIT ? ERR_OK : e;
}

static enum err export_configs(struct registry_run *k, struct file_writer *w)
{
    struct configs c = { .op.run = run_configs, .out = { malloc(CONFIGS_BYTES), CONFIGS_BYTES, 0 } };
    enum err e = c.out.p ? ERR_OK : ERR_NOMEM;
    do {
        if (!e && registry_stopped(k->r))
            e = ERR_STOPPED;
        if (!e)
            e = registry_scan(k->r, &c.op);
        if (!e)
            e = file_write(w, wr_span(&c.out));
    } while (!e && c.more);
    free(c.out.p);
    return e;
}

enum err registry_export(struct registry_run *k, struct registry_files *out)
{
    struct page p = { .k = k, .op.run = run_page };
    struct registry_files files = { .of = { { NULL, k->body.blob }, { NULL, k->body.configurations } } };
    enum err e = file_create(k->r->h->files, &files.of[0].w);
    k->exported = 0;
    if (!e && k->body.exclude_keys) /* no JSON: importers pass it over */
        e = file_write(files.of[0].w,
                       SPAN("This file was exported without keys: when it is imported, identities get new "
                            "ones.\n"));
    if (!e)
        e = copy_all(k, &p, files.of[0].w);
    free(p.out.p);
    if (!e && k->body.configurations.n)
        e = file_create(k->r->h->files, &files.of[1].w);
    if (!e && k->body.configurations.n)
        e = export_configs(k, files.of[1].w);
    if (e)
        registry_files_discard(&files);
    *out = files;
    return e;
}
