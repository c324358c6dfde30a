/* hub/domain/update/release.c - what is taken and what may be offered. artifact_ingest is in artifact.c. */
#include "hub/domain/update/release.h"

#include "base/text.h"
#include "hub/domain/audit.h"
#include "hub/domain/update/trust.h"

enum err release_copy(struct arena *a, const struct release_row *in, struct release_row *out)
{
    *out = *in;
    out->id = arena_copy(a, in->id);
    out->product = arena_copy(a, in->product);
    out->version = arena_copy(a, in->version);
    out->envelope = arena_copy(a, in->envelope);
    return arena_err(a);
}

enum err release_get(struct store_tx *tx, struct arena *a, struct span id, struct release_row *out)
{
    struct release_row r;
    enum err e = tx_release_get(tx, id, &r);
    return e ? e : release_copy(a, &r, out);
}

bool release_fits(const struct release_row *r, const struct hardware *hw)
{
    return span_eq(r->product, hw->product) && r->hw_class == hw->hw_class && hw->hw_rev >= r->hw_rev_min &&
           hw->hw_rev <= r->hw_rev_max;
}

static enum err decode(struct span raw, struct envelope *env, struct release *r)
{
    size_t used;
    enum err e = envelope_decode(raw, ENVELOPE_BODY_MAX, env, &used);
    if (!e && (used != raw.n || env->kind != ENVELOPE_RELEASE))
        e = ERR_PROTO;
    return e ? e : release_decode(env->body, r);
}

enum err release_of_row(const struct release_row *row, struct release *out)
{
    struct envelope env;
    return decode(row->envelope, &env, out);
}

/* ---- barred ones: meta rows "barred/<hex id>" -------------------------------------------------------- */

static struct span bar_key(struct span id, uint8_t mem[80])
{
    struct wr w = { mem, 80, 0 };
    wr_str(&w, "barred/");
    hex_encode(&w, id);
    return wr_span(&w);
}

enum err release_is_barred(struct store_tx *tx, struct span id, bool *barred)
{
    uint8_t mem[80];
    struct span v;
    enum err e = tx_meta_get(tx, bar_key(id, mem), &v);
    if (e && e != ERR_NOTFOUND)
        return e;
    *barred = !e && v.n > 0;
    return ERR_OK;
}

static enum err set_bar(struct store_tx *tx, struct span id, bool barred)
{
    uint8_t mem[80];
    bool now;
    enum err e = release_is_barred(tx, id, &now);
    if (e || now == barred)
        return e;
    return tx_meta_put(tx, bar_key(id, mem), barred ? SPAN("1") : SPAN(""));
}

struct ids { /* a listing that is walked after it has ended: rows are only good inside it */
    struct arena *a;
    struct span *id;
    size_t nr, cap;
    const struct hardware *hw; /* only those that fit; NULL: all */
};
static enum err collect(void *ctx, const struct release_row *r)
{
    struct ids *l = ctx;
    if (l->hw && !release_fits(r, l->hw))
        return ERR_OK;
    if (l->nr == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 32;
        struct span *more = arena_alloc(l->a, cap * sizeof *more);
        if (!more)
            return ERR_NOMEM;
        if (l->nr)
            memcpy(more, l->id, l->nr * sizeof *more);
        l->id = more;
        l->cap = cap;
    }
    l->id[l->nr++] = arena_copy(l->a, r->id);
    return arena_err(l->a);
}

enum err release_bar_unsigned(struct hub *h, struct store_tx *tx, struct arena *a,
                              const struct trust_record *t, size_t *barred_nr)
{
    struct ids all = { .a = a };
    enum err e = tx_release_list(tx, collect, &all);
    *barred_nr = 0;
    for (size_t i = 0; !e && i < all.nr; i++) {
        struct release_row row;
        struct envelope env;
        struct release r;
        e = tx_release_get(tx, all.id[i], &row);
        if (e)
            break;
        bool good = !decode(row.envelope, &env, &r) && !release_verify(h->crypto, t, &r, &env);
        *barred_nr += !good;
        e = set_bar(tx, all.id[i], !good);
    }
    return e;
}

enum err release_newest(struct store_tx *tx, struct arena *a, const struct hardware *hw,
                        struct release_row *out)
{
    struct ids fits = { .a = a, .hw = hw };
    struct span best = SPAN_NONE;
    uint32_t best_seq = 0;
    enum err e = tx_release_list(tx, collect, &fits);
    for (size_t i = 0; !e && i < fits.nr; i++) {
        struct release_row r;
        bool barred;
        e = release_is_barred(tx, fits.id[i], &barred);
        if (e || barred)
            continue;
        e = tx_release_get(tx, fits.id[i], &r);
        if (!e && (!best.n || r.release_seq > best_seq)) {
            best = fits.id[i];
            best_seq = r.release_seq;
        }
    }
    if (e)
        return e;
    return best.n ? release_get(tx, a, best, out) : ERR_NOTFOUND;
}

/* ---- taking one ---------------------------------------------------------------------------------- */

static enum err artifacts_here(struct store_tx *tx, struct release_added *out)
{
    const struct release *r = &out->release;
    for (unsigned i = 0; i < r->encoding_nr; i++) {
        const struct release_encoding *enc = &r->encoding[i];
        struct artifact_row art;
        memcpy(out->artifact, enc->tree_root, SHA256_LEN);
        enum err e = tx_artifact_get(tx, span_of(enc->tree_root, SHA256_LEN), &art);
        if (e == ERR_NOTFOUND) {
            out->refusal = RELEASE_NO_ARTIFACT;
            return ERR_OK;
        }
        if (e)
            return e;
        if (art.payload_len != enc->payload_len)
            out->refusal = RELEASE_ARTIFACT_LEN;
        for (unsigned c = 0; enc->method == ENCODING_RAW && c < r->component_nr; c++)
            if (r->component[c].id == enc->component &&
                (r->component[c].image_len != enc->payload_len ||
                 !span_eq(span_of(r->component[c].image_sha256, SHA256_LEN), art.payload_sha256)))
                out->refusal = RELEASE_ARTIFACT_LEN; /* raw: the payload is the image itself */
        if (out->refusal)
            return ERR_OK;
    }
    return ERR_OK;
}

struct seq_search {
    const struct release *r;
    struct span id;
    bool taken;
};
static enum err find_seq(void *ctx, const struct release_row *row)
{
    struct seq_search *s = ctx;
    if (row->release_seq == s->r->release_seq && row->hw_class == s->r->hw_class &&
        span_eq(row->product, s->r->product) && !span_eq(row->id, s->id))
        s->taken = true;
    return ERR_OK;
}

enum err release_add(struct hub *h, struct store_tx *tx, struct arena *a, struct span who, struct span raw,
                     struct release_added *out)
{
    struct envelope env;
    struct trust_record trust;
    struct release_row old;
    *out = (struct release_added){ .refusal = RELEASE_FORMAT };
    if (decode(raw, &env, &out->release))
        return ERR_OK;
    envelope_id(h->crypto, &env, out->id);
    out->refusal = RELEASE_NO_TRUST;
    enum err e = trust_newest(h, tx, a, &trust);
    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    out->refusal = RELEASE_SIGNATURES;
    if (release_verify(h->crypto, &trust, &out->release, &env))
        return ERR_OK;
    out->refusal = RELEASE_TAKEN;
    e = artifacts_here(tx, out);
    if (e || out->refusal)
        return e;
    struct span id = span_of(out->id, sizeof out->id);
    struct seq_search s = { .r = &out->release, .id = id };
    e = tx_release_list(tx, find_seq, &s);
    if (!e && s.taken)
        out->refusal = RELEASE_SEQ_TAKEN;
    if (e || out->refusal)
        return e;
    const struct release *r = &out->release;
    struct release_row row = { .id = id,
                               .product = r->product,
                               .version = r->version,
                               .hw_class = r->hw_class,
                               .hw_rev_min = r->hw_rev_min,
                               .hw_rev_max = r->hw_rev_max,
                               .release_seq = r->release_seq,
                               .created_ms = h->wall_ms(),
                               .envelope = raw };
    e = tx_release_get(tx, id, &old);
    if (e && e != ERR_NOTFOUND)
        return e;
    out->existed = !e;
    if (out->existed)
        row.created_ms = old.created_ms; /* its place in the listing stays */
    e = tx_release_put(tx, &row);
    if (!e)
        e = set_bar(tx, id, false);
    uint8_t hex[2 * OBJECT_ID_LEN];
    struct wr w = { hex, sizeof hex, 0 };
    hex_encode(&w, id);
    if (!e && !out->existed)
        e = audit_push(h, tx, who, "release.add", wr_span(&w), "%.*s %.*s class %u seq %u", (int)r->product.n,
                       (const char *)r->product.p, (int)r->version.n, (const char *)r->version.p,
                       (unsigned)r->hw_class, (unsigned)r->release_seq);
    return e;
}
