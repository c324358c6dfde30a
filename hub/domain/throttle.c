/* hub/domain/throttle.c - see throttle.h. */
#include "hub/domain/throttle.h"

#include "base/text.h"

#include <stdatomic.h>
#include <stdlib.h>

#define MINUTE_NS 60000000000u
#define SECOND_NS 1000000000u
#define MS_NS     1000000u
#define NAME_MAX_ 64u /* of a policy */

struct bucket {
    uint64_t each_ns;         /* of one operation; 0: no limit */
    uint64_t burst_ns;        /* what may be borrowed from the future at once */
    _Atomic uint64_t full_ns; /* when nothing is borrowed any more */
};
struct policy {
    uint8_t name_len;
    uint8_t name[NAME_MAX_];
    struct bucket of[THROTTLE_CLASSES_NR];
};
struct throttle {
    uint32_t wait_ms;
    struct bucket hub[THROTTLE_CLASSES_NR];
    _Atomic uint64_t refused[THROTTLE_CLASSES_NR], delayed[THROTTLE_CLASSES_NR];
    unsigned policies_nr;
    struct policy policies[THROTTLE_POLICIES_MAX];
};

static const char *const names[THROTTLE_CLASSES_NR] = { "none",
#define X(NAME, name) #name,
                                                        THROTTLE_CLASSES(X)
#undef X
};

const char *throttle_name(enum throttle_class what)
{
    return names[what];
}

static void bucket_set(struct bucket *b, uint32_t per_minute, uint32_t burst_s)
{
    b->each_ns = per_minute ? MINUTE_NS / per_minute : 0;
    b->burst_ns = (uint64_t)burst_s * SECOND_NS;
    if (b->burst_ns < b->each_ns)
        b->burst_ns = b->each_ns;
    atomic_init(&b->full_ns, 0);
}

/* ---- the rates of policies --------------------------------------------------------------------------- */

static struct span policy_name(const struct policy *p)
{
    return span_of(p->name, p->name_len);
}

static const struct policy *policy_find(const struct throttle *t, struct span name)
{
    for (unsigned i = 0; name.n && i < t->policies_nr; i++)
        if (span_eq(policy_name(&t->policies[i]), name))
            return &t->policies[i];
    return NULL;
}

static enum err policy_add(struct throttle *t, struct span name, struct policy **out)
{
    struct policy *p = (struct policy *)(uintptr_t)policy_find(t, name);
    if (!p) {
        if (t->policies_nr == THROTTLE_POLICIES_MAX)
            return ERR_LIMIT;
        p = &t->policies[t->policies_nr++];
        p->name_len = (uint8_t)name.n;
        memcpy(p->name, name.p, name.n);
    }
    *out = p;
    return ERR_OK;
}

/* NAME.CLASS=NUMBER; the name may have dots itself. */
static enum err item_take(struct throttle *t, struct span item, uint32_t burst_s)
{
    const uint8_t *eq = item.n ? memchr(item.p, '=', item.n) : NULL;
    struct policy *p;
    uint64_t rate;
    if (!eq)
        return ERR_PROTO;
    struct span left = span_trim(span_of(item.p, (size_t)(eq - item.p)));
    struct span right = span_trim(span_skip(item, left.n + (size_t)(eq - (left.p + left.n)) + 1));
    size_t dot = left.n;
    while (dot && left.p[dot - 1] != '.')
        dot--;
    if (dot < 2 || dot - 1 > NAME_MAX_ || u64_parse(right, THROTTLE_RATE_MAX, &rate) || !rate)
        return ERR_PROTO;
    struct span what = span_skip(left, dot);
    unsigned i = 1;
    while (i < THROTTLE_CLASSES_NR && !span_eq(what, span_str(names[i])))
        i++;
    if (i == THROTTLE_CLASSES_NR)
        return ERR_PROTO;
    enum err e = policy_add(t, span_of(left.p, dot - 1), &p);
    if (e)
        return e;
    if (p->of[i].each_ns)
        return ERR_PROTO; /* said twice */
    bucket_set(&p->of[i], (uint32_t)rate, burst_s);
    return ERR_OK;
}

static enum err policies_take(struct throttle *t, struct span text, uint32_t burst_s, struct span *bad)
{
    enum err e = ERR_OK;
    while (!e && span_trim(text).n) {
        const uint8_t *comma = memchr(text.p, ',', text.n);
        struct span item = comma ? span_of(text.p, (size_t)(comma - text.p)) : text;
        text = span_skip(text, item.n + (comma ? 1 : 0));
        e = item_take(t, item = span_trim(item), burst_s);
        if (e)
            *bad = item;
    }
    return e;
}

enum err throttle_new(struct throttle **out, const struct throttle_config *c, struct span *bad)
{
    struct throttle *t = calloc(1, sizeof *t);
    bool on = false;
    if (!t)
        return ERR_NOMEM;
    t->wait_ms = c->wait_ms;
    for (unsigned i = 1; i < THROTTLE_CLASSES_NR; i++) {
        bucket_set(&t->hub[i], c->per_minute[i], c->burst_s);
        on |= c->per_minute[i] > 0;
    }
    enum err e = policies_take(t, c->policies, c->burst_s, bad);
    if (e || (!on && !t->policies_nr)) {
        free(t);
        t = NULL;
    }
    if (!e)
        *out = t;
    return e;
}

void throttle_free(struct throttle *t)
{
    free(t);
}

/* ---- taking ------------------------------------------------------------------------------------------ */

/* *wait_ns: late by this; refused: too late by how much it would have been. */
static bool bucket_take(struct bucket *b, uint64_t cost_ns, uint64_t now_ns, uint64_t patience_ns,
                        uint64_t *wait_ns)
{
    uint64_t full = atomic_load_explicit(&b->full_ns, memory_order_relaxed), next;
    do {
        uint64_t borrowed = full > now_ns ? full - now_ns : 0;
        next = now_ns + borrowed + cost_ns;
        /* A full bucket gives anything once, or what costs more than it holds would never be served. */
        *wait_ns = borrowed && borrowed + cost_ns > b->burst_ns ? borrowed + cost_ns - b->burst_ns : 0;
        if (*wait_ns > patience_ns)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&b->full_ns, &full, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

struct throttle_verdict throttle_take(struct throttle *t, enum throttle_class what, struct span policy,
                                      uint32_t cost, uint64_t now_ms, uint32_t patience_ms)
{
    struct throttle_verdict v = { .allowed = true };
    if (!t || what == THROTTLE_NONE)
        return v;
    struct policy *p = (struct policy *)(uintptr_t)policy_find(t, policy);
    struct bucket *const buckets[] = { p ? &p->of[what] : NULL, &t->hub[what] };
    uint64_t now_ns = now_ms * MS_NS, wait_ns = 0;
    for (unsigned i = 0; i < 2 && v.allowed; i++) {
        struct bucket *b = buckets[i];
        uint64_t w = 0;
        if (!b || !b->each_ns)
            continue;
        v.allowed = bucket_take(b, (cost ? cost : 1) * b->each_ns, now_ns, (uint64_t)patience_ms * MS_NS, &w);
        if (w > wait_ns)
            wait_ns = w;
        if (!v.allowed && i == 1 && p &&
            p->of[what].each_ns) /* the hub says no: the policy's share goes back */
            atomic_fetch_sub_explicit(&p->of[what].full_ns, (cost ? cost : 1) * p->of[what].each_ns,
                                      memory_order_relaxed);
    }
    v.wait_ms = (wait_ns + MS_NS - 1) / MS_NS;
    if (!v.allowed)
        atomic_fetch_add_explicit(&t->refused[what], 1, memory_order_relaxed);
    else if (v.wait_ms)
        atomic_fetch_add_explicit(&t->delayed[what], 1, memory_order_relaxed);
    return v;
}

uint32_t throttle_patience_ms(const struct throttle *t)
{
    return t ? t->wait_ms : 0;
}

struct throttle_stats throttle_get_stats(const struct throttle *t, enum throttle_class what)
{
    return (struct throttle_stats){ atomic_load_explicit(&t->refused[what], memory_order_relaxed),
                                    atomic_load_explicit(&t->delayed[what], memory_order_relaxed) };
}
