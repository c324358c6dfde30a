/* hub/domain/update/trust.c - takes the next trust record, hands out the ones a device misses. */
#include "hub/domain/update/trust.h"

#include "hub/domain/audit.h"
#include "hub/domain/update/release.h"

static enum err decode(struct hub *h, struct span raw, struct envelope *env, struct trust_record *t)
{
    size_t used;
    enum err e = envelope_decode(raw, ENVELOPE_BODY_MAX, env, &used);
    if (!e && (used != raw.n || env->kind != ENVELOPE_TRUST_RECORD))
        e = ERR_PROTO;
    return e ? e : trust_record_decode(env->body, h->crypto, t);
}

enum err trust_newest(struct hub *h, struct store_tx *tx, struct arena *a, struct trust_record *out)
{
    struct span raw;
    struct envelope env;
    enum err e = tx_trust_get(tx, 0, &raw);
    if (e)
        return e;
    raw = arena_copy(a, raw);
    e = arena_err(a);
    return e ? e : decode(h, raw, &env, out);
}

static enum err newest_version(struct hub *h, struct store_tx *tx, uint32_t *version)
{
    struct span raw;
    struct envelope env;
    struct trust_record t;
    enum err e = tx_trust_get(tx, 0, &raw);
    *version = 0;
    if (e == ERR_NOTFOUND)
        return ERR_OK;
    if (!e)
        e = decode(h, raw, &env, &t);
    if (!e)
        *version = t.version;
    return e;
}

enum err trust_records_after(struct hub *h, struct store_tx *tx, struct arena *a, uint32_t version,
                             size_t max, struct span *out)
{
    struct span raw;
    uint32_t newest;
    *out = SPAN_NONE;
    enum err e = newest_version(h, tx, &newest);
    if (e || newest <= version)
        return e;
    /* A hub that was set up anew may hold only the later part of the chain: go down as far as it reaches. */
    uint32_t first = newest;
    while (first - 1 > version && !(e = tx_trust_get(tx, first - 1, &raw)))
        first--;
    struct wr w = { arena_alloc(a, max), max, 0 };
    if (!e || e == ERR_NOTFOUND)
        e = arena_err(a);
    for (uint32_t v = first; !e && v <= newest; v++) {
        e = tx_trust_get(tx, v, &raw);
        if (e || raw.n > w.cap - w.len)
            break;
        wr_put(&w, raw);
    }
    if (!e)
        *out = wr_span(&w);
    return e;
}

bool trust_lists_director(const struct trust_record *t, const uint8_t pub[ED25519_KEY_LEN])
{
    for (unsigned i = 0; i < t->director_nr; i++)
        if (!memcmp(t->director[i].pub, pub, ED25519_KEY_LEN) && !trust_key_revoked(t, t->director[i].id))
            return true;
    return false;
}

enum err trust_publish(struct hub *h, struct store_tx *tx, struct arena *a, struct span who, struct span raw,
                       struct trust_published *out)
{
    struct trust_record next, old;
    struct envelope env;
    bool have_old = false;
    *out = (struct trust_published){ 0 };
    enum err e = newest_version(h, tx, &out->newest);
    if (e)
        return e;
    if (decode(h, raw, &env, &next)) {
        out->refusal = TRUST_FORMAT;
        return ERR_OK;
    }
    out->version = next.version;
    out->director_missing = !trust_lists_director(&next, h->director_pub);
    if (out->newest) {
        struct span newest;
        e = tx_trust_get(tx, 0, &newest);
        if (e)
            return e;
        if (span_eq(newest, raw))
            return ERR_OK; /* it was published before: a pipeline may repeat itself */
        e = trust_newest(h, tx, a, &old);
        if (e)
            return e;
        have_old = true;
    }
    e = trust_record_accept(h->crypto, have_old ? &old : NULL, &next, &env);
    if (e) {
        out->refusal = e == ERR_STALE ? TRUST_VERSION : TRUST_SIGNATURES;
        return ERR_OK;
    }
    e = tx_trust_put(tx, next.version, raw);
    if (!e)
        e = release_bar_unsigned(h, tx, a, &next, &out->releases_barred);
    uint8_t number[10];
    struct wr w = { number, sizeof number, 0 };
    wr_u32(&w, next.version);
    return e ? e
             : audit_push(h, tx, who, "trust.publish", wr_span(&w),
                          "%u release keys, %u revoked, %zu releases barred", next.release_nr,
                          next.revoked_nr, out->releases_barred);
}
