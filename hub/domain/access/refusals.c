/* hub/domain/access/refusals.c - see refusals.h. */
#include "hub/domain/access/refusals.h"

#include "base/log.h"
#include "base/map.h"
#include "hub/domain/audit.h"
#include "hub/domain/metrics.h"
#include "hub/domain/rate.h"

#include <stdlib.h>

#define AUDIT_PER_SOURCE   6u /* lines a minute */
#define LIMITED_PER_SOURCE 2u /* of them, that it has to wait now */
#define AUDIT_IN_ALL       60u
#define NAME_KEPT          200u
#define MINUTE_MS          60000u /* after a minute without failures every bucket is full again */

struct refusals {
    struct hub *hub;
    struct rate *named, *sources, *audits, *limits, *all_audits;
    uint64_t key[2];
    _Atomic uint64_t last_ms; /* of the newest failure; 0: none yet */
};

enum err refusals_new(struct refusals **out, struct hub *hub)
{
    struct refusals *r = calloc(1, sizeof *r);
    uint32_t named = hub->settings.failures_per_minute, all = hub->settings.failures_per_source;
    if (!r)
        return ERR_NOMEM;
    r->hub = hub;
    hub->crypto->random((uint8_t *)r->key, sizeof r->key);
    enum err e = rate_new(&r->named, named, named, RATE_SOURCES_DEFAULT, r->key);
    if (!e)
        e = rate_new(&r->sources, all, all, RATE_SOURCES_DEFAULT, r->key);
    if (!e)
        e = rate_new(&r->audits, AUDIT_PER_SOURCE, AUDIT_PER_SOURCE, RATE_SOURCES_DEFAULT, r->key);
    if (!e)
        e = rate_new(&r->limits, LIMITED_PER_SOURCE, LIMITED_PER_SOURCE, RATE_SOURCES_DEFAULT, r->key);
    if (!e)
        e = rate_new(&r->all_audits, AUDIT_IN_ALL, AUDIT_IN_ALL, 1, r->key);
    if (e)
        refusals_free(r);
    else
        *out = r;
    return e;
}

void refusals_free(struct refusals *r)
{
    if (!r)
        return;
    rate_free(r->named);
    rate_free(r->sources);
    rate_free(r->audits);
    rate_free(r->limits);
    rate_free(r->all_audits);
    free(r);
}

/* The bucket of a source under one name. */
static struct span named_key(const struct refusals *r, struct span source, struct span name,
                             char buf[RATE_SOURCE_MAX])
{
    int n = snprintf(buf, RATE_SOURCE_MAX, "%.*s|%016llx", source.n > 28 ? 28 : (int)source.n,
                     (const char *)source.p, (unsigned long long)map_siphash(r->key, name));
    return span_of(buf, n > 0 ? (size_t)n : 0);
}

/* Everybody behind a proxy on this machine comes from here: a limit in all would be one for the fleet. */
static bool is_crowd(const struct refusals *r, struct span source)
{
    return !r->hub->settings.failures_count_loopback &&
           (span_starts(source, SPAN("127.")) || span_eq(source, SPAN("0000:0000:0000:0000::/64")));
}

bool refusals_are_recent(const struct refusals *r, uint64_t now_ms)
{
    uint64_t last = atomic_load_explicit(&r->last_ms, memory_order_relaxed);
    return last && now_ms < last + MINUTE_MS;
}

uint32_t refusals_wait_s(struct refusals *r, struct span source, struct span name, uint64_t now_ms)
{
    char buf[RATE_SOURCE_MAX];
    if (!source.n || !refusals_are_recent(r, now_ms))
        return 0;
    struct rate_verdict v = { .allowed = true };
    if (!is_crowd(r, source))
        v = rate_look(r->sources, source, now_ms);
    if (v.allowed && name.n)
        v = rate_look(r->named, named_key(r, source, name, buf), now_ms);
    if (v.allowed)
        return 0;
    METRIC_ADD(r->hub, login_limited_total, 1);
    return v.retry_after_s ? v.retry_after_s : 1;
}

/* ---- the audit log ----------------------------------------------------------------------------------- */

struct line { /* owned by itself */
    struct store_op store;
    struct hub *hub;
    const char *front, *why;
    bool limited;
    size_t source_len, name_len;
    uint8_t text[]; /* source, name */
};

static enum err line_run(struct store_tx *tx, struct store_op *self)
{
    struct line *l = (struct line *)(void *)self;
    return audit_push(l->hub, tx, span_of(l->text, l->source_len),
                      l->limited ? "login.limited" : "login.refused",
                      span_of(l->text + l->source_len, l->name_len), "%s: %s", l->front, l->why);
}

static void line_done(struct op *op)
{
    if (op->err && op->err != ERR_STOPPED)
        log_warn("audit.login", "err=%s", err_name(op->err));
    free(op);
}

static void audit(struct refusals *r, const char *front, struct span source, struct span name,
                  const char *why, bool limited)
{
    if (name.n > NAME_KEPT)
        name.n = NAME_KEPT;
    struct line *l = calloc(1, sizeof *l + source.n + name.n);
    if (!l)
        return;
    l->hub = r->hub;
    l->front = front;
    l->why = why;
    l->limited = limited;
    l->source_len = source.n;
    l->name_len = name.n;
    if (source.n)
        memcpy(l->text, source.p, source.n);
    for (size_t i = 0; i < name.n; i++) /* whatever a peer sends: a listing shows it */
        l->text[source.n + i] = name.p[i] < 0x20 || name.p[i] > 0x7e ? '?' : name.p[i];
    l->store.run = line_run;
    l->store.op.done = line_done;
    store_write(r->hub->store, &l->store);
}

/* Takes one; was it the last there is for now? */
static bool took_the_last(struct rate *rate, struct span key, uint64_t now_ms)
{
    return rate_take(rate, key, now_ms).allowed && !rate_look(rate, key, now_ms).allowed;
}

void refusals_note(struct refusals *r, const char *front, struct span source, struct span name,
                   const char *why, uint64_t now_ms)
{
    char buf[RATE_SOURCE_MAX];
    METRIC_ADD(r->hub, login_failures_total, 1);
    if (!source.n)
        return;
    atomic_store_explicit(&r->last_ms, now_ms ? now_ms : 1, memory_order_relaxed);
    bool limited = !is_crowd(r, source) && took_the_last(r->sources, source, now_ms);
    if (name.n)
        limited |= took_the_last(r->named, named_key(r, source, name, buf), now_ms);
    if (rate_take(limited ? r->limits : r->audits, source, now_ms).allowed &&
        rate_take(r->all_audits, SPAN("*"), now_ms).allowed)
        audit(r, front, source, name, why, limited);
}
