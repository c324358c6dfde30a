/* hub/domain/update/checkin.c - a report comes in, an answer goes out: the trust records the device misses,
 * and a ticket when there is something to do. */
#include "base/log.h"
#include "hub/domain/audit.h"
#include "hub/domain/update/campaign.h"
#include "hub/domain/update/trust.h"

#include <assert.h>
#include <stdio.h>

#define ROWS_MAX       16u /* newest deployment rows of a device that are looked at */
#define CANDIDATES_MAX 64u
#define TRUST_MAX      32768u
#define URL_LEN        300u

struct past { /* a row of the device, and when its campaign was made */
    struct deployment_row row;
    uint64_t campaign_ms;
    bool running;
};
struct checkin {
    struct hub *h;
    struct store_tx *tx;
    struct arena *a;
    struct span device;
    struct report r;
    struct hardware hw;
    uint64_t now_ms;
    struct past past[ROWS_MAX + 1]; /* newest campaign first; then the one that is offered, if it is older */
    size_t past_nr;
    uint32_t ticket_seq; /* highest that any row knows */
};
static const uint8_t zeros[OBJECT_ID_LEN];

static bool is_zero(const uint8_t *p, size_t n)
{
    assert(n <= sizeof zeros);
    return !memcmp(p, zeros, n);
}

static bool hears_of_release(const struct deployment_row *row)
{
    return row->release.n == OBJECT_ID_LEN && !is_zero(row->release.p, OBJECT_ID_LEN);
}

/* ---- the report row --------------------------------------------------------------------------------- */

/* *news: the report says something that is not known yet. */
static enum err store_report(struct checkin *c, struct span raw, bool *news, bool *stale)
{
    struct report_row old, row = { .device = c->device };
    enum err e = tx_report_get(c->tx, c->device, &old);
    if (e && e != ERR_NOTFOUND)
        return e;
    bool same_boot = !e && old.report.n && old.boot_id == c->r.boot_id;
    *stale = same_boot && c->r.report_seq < old.report_seq;
    *news = !(same_boot && c->r.report_seq <= old.report_seq);
    if (!*news)
        return ERR_OK;
    if (!e) {
        row.connected = old.connected;
        row.activity_ms = old.activity_ms;
        row.connected_changed_ms = old.connected_changed_ms;
    }
    if (row.activity_ms < c->now_ms)
        row.activity_ms = c->now_ms;
    row.report = raw;
    row.report_seq = c->r.report_seq;
    row.boot_id = c->r.boot_id;
    row.reported_ms = c->now_ms;
    if (!is_zero(c->r.running, OBJECT_ID_LEN))
        row.running = span_of(c->r.running, OBJECT_ID_LEN);
    return tx_report_put(c->tx, &row);
}

/* The first check-in proves that the key has arrived; an identity that an operator made learns here what
 * hardware it is. */
static enum err store_identity(struct checkin *c, struct checkin_answer *out)
{
    struct device_row d;
    enum err e = identity_get(c->tx, c->a, c->device, &d);
    if (e)
        return e;
    bool same = span_eq(d.product, c->hw.product) && d.hw_class == c->hw.hw_class && d.hw_rev == c->hw.hw_rev;
    if (same && !d.issued_unused)
        return ERR_OK;
    d.product = c->hw.product;
    d.hw_class = c->hw.hw_class;
    d.hw_rev = c->hw.hw_rev;
    d.issued_unused = false;
    d.updated_ms = c->now_ms;
    out->announce = !same;
    return tx_device_put(c->tx, &d, 0, NULL);
}

/* ---- conclusions ------------------------------------------------------------------------------------ */

static enum err collect_row(void *ctx, const struct deployment_row *r)
{
    struct checkin *c = ctx;
    struct past *p = &c->past[c->past_nr++];
    p->row = *r;
    p->row.device = c->device;
    p->row.campaign = arena_copy(c->a, r->campaign);
    p->row.release = arena_copy(c->a, r->release);
    if (r->ticket_seq > c->ticket_seq)
        c->ticket_seq = r->ticket_seq;
    return arena_err(c->a);
}

static enum err load_past(struct checkin *c)
{
    enum err e = tx_deployment_list(c->tx, c->device, SPAN_NONE, SPAN_NONE, ROWS_MAX, collect_row, c);
    for (size_t i = 0; !e && i < c->past_nr; i++) {
        struct campaign_row cam;
        e = tx_campaign_get(c->tx, c->past[i].row.campaign, &cam);
        if (e == ERR_NOTFOUND) { /* the id of zeros: a first installation */
            e = ERR_OK;
        } else if (!e) {
            c->past[i].campaign_ms = cam.created_ms;
            c->past[i].running = cam.state == CAMPAIGN_RUNNING;
        }
    }
    for (size_t i = 1; i < c->past_nr; i++) { /* few: insertion keeps the store's order among equals */
        struct past p = c->past[i];
        size_t k = i;
        for (; k > 0 && c->past[k - 1].campaign_ms < p.campaign_ms; k--)
            c->past[k] = c->past[k - 1];
        c->past[k] = p;
    }
    return e;
}

static enum err facts_of(struct checkin *c, const struct deployment_row *row, struct deployment_facts *f)
{
    struct release_row r;
    struct release rel;
    *f = (struct deployment_facts){ .report = &c->r,
                                    .now_ms = c->now_ms,
                                    .checkin_s = c->h->settings.checkin_s };
    enum err e = tx_release_get(c->tx, row->release, &r);
    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    f->release_seq = r.release_seq;
    if (!release_of_row(&r, &rel))
        f->probation_s = rel.probation_s;
    return ERR_OK;
}

static enum err note_move(struct checkin *c, const struct deployment_row *was,
                          const struct deployment_row *is)
{
    static const char *const events[DEPLOYMENT_STATES] = {
        [DEPLOYMENT_CONFIRMED] = "deployment.confirmed", [DEPLOYMENT_REJECTED] = "deployment.rejected",
        [DEPLOYMENT_FAILED] = "deployment.failed",       [DEPLOYMENT_ROLLED_BACK] = "deployment.rolled-back",
        [DEPLOYMENT_SKIPPED] = "deployment.skipped",
    };
    if (was->state == is->state || !events[is->state])
        return ERR_OK;
    return audit_push(c->h, c->tx, SPAN("device"), events[is->state], c->device,
                      "from %s%s reason %s failures %u", deployment_state_name(was->state),
                      is->attempts >= DEPLOYMENT_ATTEMPTS_MAX ? ", no more tickets," : "",
                      reason_name(c->r.reason), (unsigned)is->attempts);
}

static bool has_happened(unsigned state) /* later than this nothing of an older row is true any more */
{
    return state == DEPLOYMENT_CONFIRMED || state == DEPLOYMENT_SKIPPED || state == DEPLOYMENT_ROLLED_BACK ||
           state == DEPLOYMENT_ACTIVATING || state == DEPLOYMENT_REBOOTING || state == DEPLOYMENT_PROBATION ||
           state == DEPLOYMENT_LOST;
}

static enum err conclude(struct checkin *c)
{
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < c->past_nr; i++) {
        struct deployment_row *row = &c->past[i].row, was = *row;
        struct deployment_facts f;
        bool changed;
        if (row->state == DEPLOYMENT_SUPERSEDED || row->state == DEPLOYMENT_CANCELLED ||
            row->state == DEPLOYMENT_EXPIRED)
            continue;
        e = facts_of(c, row, &f);
        if (e)
            break;
        changed = hears_of_release(row) && deployment_derive(row, &f);
        if (changed)
            e = tx_deployment_put(c->tx, row);
        if (!e && changed)
            e = note_move(c, &was, row);
        if (has_happened(row->state))
            break; /* rows below are history */
    }
    return e;
}

/* ---- the decision ----------------------------------------------------------------------------------- */

struct candidates {
    struct checkin *c;
    struct campaign_row row[CANDIDATES_MAX];
    size_t nr;
};
static enum err collect_candidate(void *ctx, const struct campaign_row *r)
{
    struct candidates *l = ctx;
    if (r->state != CAMPAIGN_RUNNING)
        return ERR_OK;
    if (l->nr == CANDIDATES_MAX)
        return ERR_OK; /* older than that: newer ones for the same hardware are running */
    return campaign_copy(l->c->a, r, &l->row[l->nr++]);
}

static struct past *past_of(struct checkin *c, struct span campaign)
{
    for (size_t i = 0; i < c->past_nr; i++)
        if (span_eq(c->past[i].row.campaign, campaign))
            return &c->past[i];
    return NULL;
}

static enum err fitting_release(struct checkin *c, struct span releases, struct release_row *out, bool *found)
{
    *found = false;
    for (size_t k = 0; k + OBJECT_ID_LEN <= releases.n; k += OBJECT_ID_LEN) {
        bool barred;
        struct span id = span_of(releases.p + k, OBJECT_ID_LEN);
        enum err e = release_get(c->tx, c->a, id, out);
        if (e == ERR_NOTFOUND)
            continue;
        if (!e)
            e = release_is_barred(c->tx, id, &barred);
        if (e)
            return e;
        if (barred || !release_fits(out, &c->hw))
            continue;
        *found = true;
        return ERR_OK;
    }
    return ERR_OK;
}

/* What an operator asked for last has been done, or was tried: older campaigns that still stand must not
 * undo it. */
static uint64_t newest_happened_ms(const struct checkin *c)
{
    for (size_t i = 0; i < c->past_nr; i++)
        if (has_happened(c->past[i].row.state))
            return c->past[i].campaign_ms;
    return 0;
}

/* What the device should run now: the newest running campaign that names it or stands for all, and for a
 * blank device otherwise the newest release of its hardware. *campaign is empty when there is nothing. */
static enum err choose(struct checkin *c, struct span *campaign, struct release_row *release)
{
    struct candidates *l = arena_alloc(c->a, sizeof *l);
    bool found = false;
    *campaign = SPAN_NONE;
    enum err e = arena_err(c->a);
    if (e)
        return e;
    l->c = c;
    e = tx_campaign_list(c->tx, collect_candidate, l);
    for (size_t i = 0; !e && i < l->nr; i++) {
        struct deployment_row row;
        if (l->row[i].created_ms < newest_happened_ms(c))
            break;
        if (!l->row[i].all) { /* its list is its rows */
            e = past_of(c, l->row[i].id) ? ERR_OK : tx_deployment_get(c->tx, c->device, l->row[i].id, &row);
            if (e == ERR_NOTFOUND) {
                e = ERR_OK;
                continue;
            }
        }
        if (!e)
            e = fitting_release(c, l->row[i].releases, release, &found);
        if (!e && found) {
            *campaign = l->row[i].id;
            return ERR_OK;
        }
    }
    if (e || !is_zero(c->r.running, OBJECT_ID_LEN))
        return e;
    e = release_newest(c->tx, c->a, &c->hw, release);
    if (!e)
        *campaign = span_of(zeros, CAMPAIGN_ID_LEN);
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

static enum err close_older(struct checkin *c, struct span campaign)
{
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < c->past_nr; i++) {
        struct deployment_row *row = &c->past[i].row;
        if (span_eq(row->campaign, campaign) || deployment_is_final(row))
            continue;
        row->state = DEPLOYMENT_SUPERSEDED;
        row->deadline_ms = 0;
        row->updated_ms = c->now_ms;
        e = tx_deployment_put(c->tx, row);
    }
    return e;
}

static unsigned failures_of(const struct checkin *c, struct span release)
{
    unsigned nr = 0;
    for (size_t i = 0; i < c->past_nr; i++)
        if (span_eq(c->past[i].row.release, release))
            nr += c->past[i].row.attempts;
    return nr;
}

/* Never offer what cannot fit. */
static unsigned obstacle(const struct checkin *c, const struct release *rel, const struct deployment_row *row)
{
    if (failures_of(c, row->release) >= DEPLOYMENT_ATTEMPTS_MAX)
        return REASON_QUARANTINE;
    for (unsigned i = 0; i < rel->component_nr; i++)
        if (rel->component[i].type == COMPONENT_APP && c->r.slot_len &&
            rel->component[i].image_len > c->r.slot_len)
            return REASON_SPACE;
    if (rel->min_agent && c->r.agent_version && c->r.agent_version < rel->min_agent)
        return REASON_REQUIRES;
    return REASON_NONE;
}

static struct span url_of(struct checkin *c, const char *scheme, uint16_t port, uint16_t usual)
{
    char *mem = arena_alloc(c->a, URL_LEN);
    if (!mem)
        return SPAN_NONE;
    int n = port == usual ? snprintf(mem, URL_LEN, "%s://%s/artifacts", scheme, c->h->names[0])
                          : snprintf(mem, URL_LEN, "%s://%s:%u/artifacts", scheme, c->h->names[0], port);
    return n > 0 && (size_t)n < URL_LEN ? span_of(mem, (size_t)n) : SPAN_NONE;
}

static void write_ticket(struct checkin *c, const struct deployment_row *row, struct ticket *t)
{
    uint32_t ttl = c->h->settings.ticket_ttl_s;
    *t = (struct ticket){ .attempt = deployment_attempt(row),
                          .ticket_seq = row->ticket_seq,
                          .action = TICKET_INSTALL,
                          .issued_s = (uint32_t)(c->now_ms / 1000),
                          .ttl_s = ttl ? ttl : TICKET_TTL_DEFAULT_S,
                          .has_nonce = true };
    device_hash_of(c->h->crypto, c->device, t->device_hash);
    memcpy(t->campaign, row->campaign.p, CAMPAIGN_ID_LEN);
    memcpy(t->release_id, row->release.p, OBJECT_ID_LEN);
    memcpy(t->nonce, c->r.nonce, sizeof t->nonce);
    for (unsigned i = 0; i < 2; i++)
        if (c->h->settings.mirrors[i])
            t->url[t->url_nr++] = span_str(c->h->settings.mirrors[i]);
    t->url[t->url_nr++] = url_of(c, "https", c->h->https_port, 443);
    if (c->h->http_port && t->url_nr < TICKET_URL_MAX)
        t->url[t->url_nr++] = url_of(c, "http", c->h->http_port, 80);
}

static uint64_t payload_len_of(const struct release *rel)
{
    uint64_t len = 0;
    for (unsigned i = 0; i < rel->encoding_nr; i++)
        if (rel->encoding[i].method == ENCODING_RAW)
            len += rel->encoding[i].payload_len;
    return len;
}

/* A row that so many newer ones lie before that load_past did not come to it: what was tried and failed then
 * still counts. *p stays NULL when there is none. */
static enum err older_row(struct checkin *c, struct span campaign, struct past **p)
{
    struct deployment_row row;
    enum err e = tx_deployment_get(c->tx, c->device, campaign, &row);
    if (!e)
        e = collect_row(c, &row);
    else if (e == ERR_NOTFOUND)
        return ERR_OK;
    if (!e)
        *p = &c->past[c->past_nr - 1];
    return e;
}

static enum err offer(struct checkin *c, struct span campaign, const struct release_row *release,
                      struct checkin_answer *out)
{
    struct past *p = past_of(c, campaign);
    struct release rel;
    struct deployment_facts f;
    enum err e = p ? ERR_OK : older_row(c, campaign, &p);
    if (e)
        return e;
    struct deployment_row row = { .device = c->device, .campaign = campaign, .release = release->id };
    if (p)
        row = p->row;
    struct deployment_row was = row;
    if (!hears_of_release(&row) || !span_eq(row.release, release->id)) {
        /* its hardware was not known when the campaign was made, or has changed since */
        row = (struct deployment_row){ .device = c->device, .campaign = campaign, .release = release->id };
        row.ticket_seq = was.ticket_seq;
    }
    e = release_of_row(release, &rel);
    if (!e)
        e = facts_of(c, &row, &f);
    if (e)
        return e;
    bool is_new = !p || !span_eq(row.release, was.release);
    if (is_new && deployment_derive(&row, &f)) { /* it may run this already */
        e = tx_deployment_put(c->tx, &row);
        return e ? e : note_move(c, &was, &row);
    }
    if (!deployment_may_offer(&row, &c->r, c->now_ms))
        return ERR_OK;
    unsigned why = obstacle(c, &rel, &row);
    if (why != REASON_NONE) {
        row.state = DEPLOYMENT_REJECTED;
        row.reason = (uint16_t)why;
        row.deadline_ms = 0;
        row.updated_ms = c->now_ms;
        e = tx_deployment_put(c->tx, &row);
        return e ? e
                 : audit_push(c->h, c->tx, SPAN("hub"), "deployment.rejected", c->device, "not offered: %s",
                              reason_name(why));
    }
    /* Higher than anything this device obeyed, here or at an earlier hub. */
    uint32_t seq = c->ticket_seq > c->r.ticket_seq ? c->ticket_seq : c->r.ticket_seq;
    if (seq == UINT32_MAX) { /* no ticket can follow; a trust record of a higher epoch makes it forget */
        log_warn("checkin.sequence", "device=%.*s what=ticket-numbers-spent", (int)c->device.n,
                 (const char *)c->device.p);
        return ERR_OK;
    }
    deployment_offer(&row, &f, seq + 1, payload_len_of(&rel));
    e = tx_deployment_put(c->tx, &row);
    if (e)
        return e;
    out->release = release->envelope;
    write_ticket(c, &row, &out->ticket);
    return arena_err(c->a);
}

enum err checkin_decide(struct hub *h, struct store_tx *tx, struct arena *a, struct span device,
                        struct span report, struct checkin_answer *out)
{
    struct checkin *c = arena_alloc(a, sizeof *c);
    struct release_row release;
    struct span campaign;
    bool news;
    *out = (struct checkin_answer){ 0 };
    enum err e = arena_err(a);
    if (e)
        return e;
    *c = (struct checkin){ .h = h, .tx = tx, .a = a, .device = device, .now_ms = h->wall_ms() };
    if (report_decode(report, &c->r))
        return ERR_PROTO;
    c->hw = (struct hardware){ c->r.product, c->r.hw_class, c->r.hw_rev };
    e = store_identity(c, out);
    if (!e)
        e = store_report(c, report, &news, &out->stale);
    if (!e)
        e = trust_records_after(h, tx, a, c->r.trust_version, TRUST_MAX, &out->trust);
    if (e || out->stale)
        return e;
    e = load_past(c);
    if (!e && news)
        e = conclude(c);
    if (!e)
        e = choose(c, &campaign, &release);
    if (e || !campaign.n)
        return e;
    e = close_older(c, campaign);
    return e ? e : offer(c, campaign, &release, out);
}

enum err checkin_bundle(struct hub *h, struct arena *a, const struct checkin_answer *in, struct span *out)
{
    uint8_t body[ENVELOPE_BODY_MAX_MCU];
    struct wr b = { body, sizeof body, 0 };
    size_t room = in->trust.n + in->release.n + ENVELOPE_MAX;
    struct wr w = { arena_alloc(a, room), room, 0 };
    enum err e = arena_err(a);
    *out = SPAN_NONE;
    if (e)
        return e;
    wr_put(&w, in->trust);
    if (in->release.n) {
        wr_put(&w, in->release);
        ticket_encode(&b, &in->ticket);
        if (!wr_ok(&b))
            return ERR_LIMIT;
        struct wr t = { w.p + w.len, w.cap - w.len, 0 };
        envelope_begin(&t, ENVELOPE_TICKET, wr_span(&b));
        e = envelope_sign(&t, h->crypto, h->director_seed);
        if (e)
            return e;
        w.len += t.len;
    }
    *out = wr_span(&w);
    return ERR_OK;
}
