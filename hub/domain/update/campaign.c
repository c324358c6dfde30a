/* hub/domain/update/campaign.c - campaigns themselves: made, superseded, counted, swept. The check-in is in
 * checkin.c. */
#include "hub/domain/update/campaign.h"

#include "base/text.h"
#include "hub/domain/audit.h"

const char *campaign_state_name(unsigned state)
{
    static const char *const names[] = { "running", "completed", "aborted", "superseded" };
    return state < sizeof names / sizeof names[0] ? names[state] : "UNKNOWN";
}

enum err campaign_copy(struct arena *a, const struct campaign_row *in, struct campaign_row *out)
{
    *out = *in;
    out->id = arena_copy(a, in->id);
    out->version = arena_copy(a, in->version);
    out->releases = arena_copy(a, in->releases);
    out->created_by = arena_copy(a, in->created_by);
    return arena_err(a);
}

enum err deployment_copy(struct arena *a, const struct deployment_row *in, struct deployment_row *out)
{
    *out = *in;
    out->device = arena_copy(a, in->device);
    out->campaign = arena_copy(a, in->campaign);
    out->release = arena_copy(a, in->release);
    return arena_err(a);
}

enum err campaign_list_add(struct campaign_list *l, const struct campaign_row *r)
{
    if (l->nr == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        struct campaign_row *more = arena_alloc(l->a, cap * sizeof *more);
        if (!more)
            return ERR_NOMEM;
        if (l->nr)
            memcpy(more, l->row, l->nr * sizeof *more);
        l->row = more;
        l->cap = cap;
    }
    return campaign_copy(l->a, r, &l->row[l->nr++]);
}

static struct span hex_of(struct span id, uint8_t mem[2 * OBJECT_ID_LEN])
{
    struct wr w = { mem, 2 * OBJECT_ID_LEN, 0 };
    hex_encode(&w, id);
    return wr_span(&w);
}

/* ---- create ---------------------------------------------------------------------------------------- */

static enum err load_releases(struct store_tx *tx, struct arena *a, const struct campaign_new *in,
                              struct release_row *rows, struct campaign_created *out)
{
    for (size_t i = 0; i < in->releases_nr; i++) {
        bool barred = false;
        out->subject = i;
        enum err e = release_get(tx, a, in->releases[i], &rows[i]);
        if (e == ERR_NOTFOUND) {
            out->refusal = CAMPAIGN_NO_RELEASE;
            return ERR_OK;
        }
        if (!e)
            e = release_is_barred(tx, in->releases[i], &barred);
        if (e)
            return e;
        if (barred) {
            out->refusal = CAMPAIGN_BARRED;
            return ERR_OK;
        }
        for (size_t k = 0; k < i; k++)
            if (span_eq(rows[k].product, rows[i].product) && rows[k].hw_class == rows[i].hw_class &&
                rows[k].hw_rev_min <= rows[i].hw_rev_max && rows[i].hw_rev_min <= rows[k].hw_rev_max) {
                out->refusal = CAMPAIGN_OVERLAP;
                return ERR_OK;
            }
    }
    return ERR_OK;
}

static const struct release_row *fitting(const struct release_row *rows, size_t nr, const struct hardware *hw)
{
    for (size_t i = 0; i < nr; i++)
        if (release_fits(&rows[i], hw))
            return &rows[i];
    return NULL;
}

/* The list of devices is kept as their rows. */
static enum err list_devices(struct hub *h, struct store_tx *tx, const struct campaign_new *in,
                             const struct release_row *rows, struct campaign_created *out)
{
    static const uint8_t unknown[OBJECT_ID_LEN];
    for (size_t i = 0; i < in->devices_nr; i++) {
        struct device_row d;
        out->subject = i;
        enum err e = tx_device_get(tx, in->devices[i], &d);
        if (e == ERR_NOTFOUND) {
            out->refusal = CAMPAIGN_NO_DEVICE;
            return ERR_OK;
        }
        if (e)
            return e;
        struct hardware hw = { d.product, d.hw_class, d.hw_rev };
        const struct release_row *r = d.product.n ? fitting(rows, in->releases_nr, &hw) : NULL;
        bool misfit = d.product.n && !r;
        struct deployment_row row = { .device = in->devices[i],
                                      .campaign = span_of(out->id, sizeof out->id),
                                      /* without known hardware the first check-in decides */
                                      .release = r ? r->id : span_of(unknown, sizeof unknown),
                                      .state = misfit ? DEPLOYMENT_REJECTED : DEPLOYMENT_ELIGIBLE,
                                      .reason = misfit ? REASON_HW_MISMATCH : REASON_NONE,
                                      .updated_ms = h->wall_ms() };
        e = tx_deployment_put(tx, &row);
        if (e)
            return e;
    }
    return ERR_OK;
}

struct running { /* running campaigns, copied: a row is good inside its listing only */
    struct campaign_list list;
    bool standing;
};
static enum err collect_running(void *ctx, const struct campaign_row *r)
{
    struct running *l = ctx;
    if (r->state != CAMPAIGN_RUNNING || r->all != l->standing)
        return ERR_OK;
    return campaign_list_add(&l->list, r);
}

static bool has_product(const struct release_row *rows, size_t nr, struct span product)
{
    for (size_t i = 0; i < nr; i++)
        if (span_eq(rows[i].product, product))
            return true;
    return false;
}

/* An older standing campaign ends when everything it was for has a newer one. */
static enum err supersede(struct store_tx *tx, struct arena *a, const struct campaign_new *in,
                          const struct release_row *rows, struct campaign_created *out)
{
    struct running old = { .list = { .a = a }, .standing = true };
    enum err e = tx_campaign_list(tx, collect_running, &old);
    for (size_t i = 0; !e && i < old.list.nr; i++) {
        struct campaign_row *was = &old.list.row[i];
        bool covered = true;
        for (size_t k = 0; !e && covered && k + OBJECT_ID_LEN <= was->releases.n; k += OBJECT_ID_LEN) {
            struct release_row r;
            e = tx_release_get(tx, span_of(was->releases.p + k, OBJECT_ID_LEN), &r);
            if (e == ERR_NOTFOUND)
                e = ERR_OK;
            else if (!e)
                covered = has_product(rows, in->releases_nr, r.product);
        }
        if (e || !covered)
            continue;
        was->state = CAMPAIGN_SUPERSEDED;
        e = tx_campaign_put(tx, was);
        out->superseded++;
    }
    return e;
}

enum err campaign_create(struct hub *h, struct store_tx *tx, struct arena *a, const struct campaign_new *in,
                         struct campaign_created *out)
{
    struct release_row *rows = arena_alloc(a, in->releases_nr * sizeof *rows);
    uint8_t *ids = arena_alloc(a, in->releases_nr * OBJECT_ID_LEN);
    uint8_t hex[2 * OBJECT_ID_LEN];
    *out = (struct campaign_created){ 0 };
    enum err e = arena_err(a);
    if (!e)
        e = load_releases(tx, a, in, rows, out);
    if (e || out->refusal)
        return e;
    for (size_t i = 0; i < in->releases_nr; i++)
        memcpy(ids + i * OBJECT_ID_LEN, in->releases[i].p, OBJECT_ID_LEN);
    do
        h->crypto->random(out->id, sizeof out->id);
    while (!out->id[0]); /* the id of zeros stands for first installations without a campaign */
    struct campaign_row row = { .id = span_of(out->id, sizeof out->id),
                                .version = rows[0].version,
                                .releases = span_of(ids, in->releases_nr * OBJECT_ID_LEN),
                                .all = in->all,
                                .state = CAMPAIGN_RUNNING,
                                .created_ms = h->wall_ms(),
                                .created_by = in->who };
    /* A refusal below must leave no row behind: devices are looked at before anything is written. */
    for (size_t i = 0; !in->all && i < in->devices_nr; i++) {
        struct device_row d;
        e = tx_device_get(tx, in->devices[i], &d);
        if (e == ERR_NOTFOUND) {
            out->refusal = CAMPAIGN_NO_DEVICE;
            out->subject = i;
            return ERR_OK;
        }
        if (e)
            return e;
    }
    if (in->all)
        e = supersede(tx, a, in, rows, out);
    if (!e)
        e = tx_campaign_put(tx, &row);
    if (!e && !in->all)
        e = list_devices(h, tx, in, rows, out);
    if (!e)
        e = audit_push(h, tx, in->who, "campaign.create", hex_of(row.id, hex), "%.*s for %s%zu",
                       (int)row.version.n, (const char *)row.version.p,
                       in->all ? "all, standing; superseded " : "",
                       in->all ? out->superseded : in->devices_nr);
    return e;
}

/* ---- count, sweep ---------------------------------------------------------------------------------- */

enum err campaign_count(struct store_tx *tx, struct span id, struct campaign_counts *out)
{
    return tx_deployment_count(tx, id, out->by_state);
}

static enum err stop_at_unfinished(void *ctx, const struct deployment_row *r)
{
    (void)ctx;
    return deployment_is_final(r) ? ERR_OK : ERR_AGAIN;
}

static enum err complete(struct store_tx *tx, struct arena *a)
{
    struct running running = { .list = { .a = a } };
    enum err e = tx_campaign_list(tx, collect_running, &running);
    for (size_t i = 0; !e && i < running.list.nr; i++) {
        struct campaign_row *c = &running.list.row[i];
        e = tx_deployment_list(tx, SPAN_NONE, c->id, SPAN_NONE, SIZE_MAX, stop_at_unfinished, NULL);
        if (e == ERR_AGAIN) {
            e = ERR_OK;
            continue;
        }
        if (e)
            break;
        c->state = CAMPAIGN_COMPLETED;
        e = tx_campaign_put(tx, c);
    }
    return e;
}

struct due {
    struct arena *a;
    struct deployment_row row[CAMPAIGN_SWEEP_MAX];
    size_t nr;
};
static enum err collect_due(void *ctx, const struct deployment_row *r)
{
    struct due *d = ctx;
    return deployment_copy(d->a, r, &d->row[d->nr++]);
}

enum err campaign_sweep(struct hub *h, struct store_tx *tx, struct arena *a, bool *more)
{
    uint64_t now = h->wall_ms();
    struct due *due = arena_alloc(a, sizeof *due);
    enum err e = arena_err(a);
    *more = false;
    if (e)
        return e;
    due->a = a;
    e = tx_deployment_due(tx, now, CAMPAIGN_SWEEP_MAX, collect_due, due);
    for (size_t i = 0; !e && i < due->nr; i++) {
        deployment_expire(&due->row[i], now);
        e = tx_deployment_put(tx, &due->row[i]);
        if (!e && due->row[i].state == DEPLOYMENT_LOST)
            e = audit_push(h, tx, SPAN("hub"), "deployment.lost", due->row[i].device,
                           "silent since its activation was announced");
    }
    *more = due->nr == CAMPAIGN_SWEEP_MAX;
    return e ? e : complete(tx, a);
}
