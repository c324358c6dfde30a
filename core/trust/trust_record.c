/* core/trust/trust_record.c - HTR1: its body, and when one record may follow another. */
#include "core/trust/trust_record.h"

enum {
    TAG_FLEET = 0x01,
    TAG_VERSION = 0x02,
    TAG_EPOCH = 0x03,
    TAG_CREATED = 0x04,
    TAG_THRESHOLDS = 0x05,
    TAG_MIN_AGENT = 0x06,
    TAG_ROOT = 0x10,
    TAG_RELEASE = 0x11,
    TAG_DIRECTOR = 0x12,
    TAG_REVOKED = 0x13,
    TAG_HOME = 0x20,
};
#define MANDATORY 0x3eu /* tags 1 to 5, as bits */
#define LISTS                                                                                                \
    (TLV_BIT(TAG_ROOT) | TLV_BIT(TAG_RELEASE) | TLV_BIT(TAG_DIRECTOR) | TLV_BIT(TAG_REVOKED) |               \
     TLV_BIT(TAG_HOME))
#define HOME_ADDRESS_MAX 255u

/* Appends to one of the three key lists. A key of an algorithm that we do not know is left out: it could
 * never count, and newer fleets may list such keys beside the ones that we can check. */
static enum err key_take(const struct crypto_ops *c, struct rd *r, bool may_limit_product,
                         struct trust_key *list, uint8_t *nr, size_t max)
{
    struct trust_key k = { .alg = rd_u8(r) };
    struct span pub = rd_take(r, rd_u8(r));
    k.product_prefix = rd_take(r, r->n);
    if (r->bad || (k.product_prefix.n && !may_limit_product))
        return ERR_PROTO;
    if (!trust_text_is_ok(k.product_prefix, 24))
        return ERR_PROTO;
    if (k.alg != SIG_ED25519)
        return ERR_OK;
    if (pub.n != ED25519_KEY_LEN)
        return ERR_PROTO;
    if (*nr == max)
        return ERR_LIMIT;
    memcpy(k.pub, pub.p, ED25519_KEY_LEN);
    for (size_t i = 0; i < *nr; i++) /* a key listed twice would count twice towards a threshold */
        if (memcmp(list[i].pub, k.pub, ED25519_KEY_LEN) == 0)
            return ERR_PROTO;
    key_id_of(c, k.pub, k.id);
    list[(*nr)++] = k;
    return ERR_OK;
}

static enum err home_take(struct rd *r, struct trust_record *t)
{
    struct trust_home h = { .address = rd_take(r, rd_u8(r)) };
    if (r->bad || h.address.n == 0)
        return ERR_PROTO;
    for (size_t i = 0; i < h.address.n; i++)
        if (h.address.p[i] <= ' ' || h.address.p[i] > '~')
            return ERR_PROTO;
    if (r->n) {
        struct span pin = rd_take(r, SHA256_LEN);
        if (r->bad)
            return ERR_PROTO;
        h.has_pin = true;
        memcpy(h.ca_pin, pin.p, SHA256_LEN);
    }
    if (t->home_nr == TRUST_HOME_MAX)
        return ERR_LIMIT;
    t->home[t->home_nr++] = h;
    return ERR_OK;
}

struct taking {
    struct trust_record *t;
    const struct crypto_ops *c;
};

static enum err field_take(void *ctx, uint8_t tag, struct rd *r)
{
    const struct taking *k = ctx;
    struct trust_record *t = k->t;
    enum err e = ERR_OK;

    switch (tag) {
    case TAG_FLEET:
        rd_copy(r, t->fleet_id, FLEET_ID_LEN);
        break;
    case TAG_VERSION:
        t->version = rd_le32(r);
        break;
    case TAG_EPOCH:
        t->epoch = rd_le16(r);
        break;
    case TAG_CREATED:
        t->created_s = rd_le32(r);
        break;
    case TAG_THRESHOLDS:
        t->root_threshold = rd_u8(r);
        t->release_threshold = rd_u8(r);
        break;
    case TAG_MIN_AGENT:
        t->min_agent = rd_le16(r);
        break;
    case TAG_ROOT:
        e = key_take(k->c, r, false, t->root, &t->root_nr, TRUST_ROOT_MAX);
        break;
    case TAG_RELEASE:
        e = key_take(k->c, r, true, t->release, &t->release_nr, TRUST_RELEASE_MAX);
        break;
    case TAG_DIRECTOR:
        e = key_take(k->c, r, false, t->director, &t->director_nr, TRUST_DIRECTOR_MAX);
        break;
    case TAG_REVOKED:
        if (t->revoked_nr == TRUST_REVOKED_MAX)
            return ERR_LIMIT;
        rd_copy(r, t->revoked[t->revoked_nr++], KEY_ID_LEN);
        break;
    case TAG_HOME:
        e = home_take(r, t);
        break;
    default:
        return ERR_NOTFOUND;
    }
    return e;
}

bool trust_key_revoked(const struct trust_record *t, const uint8_t id[KEY_ID_LEN])
{
    for (unsigned i = 0; i < t->revoked_nr; i++)
        if (memcmp(t->revoked[i], id, KEY_ID_LEN) == 0)
            return true;
    return false;
}

/* Can some set of listed, unrevoked keys reach each threshold? For releases: some product for which enough
 * keys may sign. The products worth asking about are the prefixes themselves. */
static bool thresholds_can_be_met(const struct trust_record *t)
{
    unsigned roots = 0, best = 0;
    for (unsigned i = 0; i < t->root_nr; i++)
        roots += !trust_key_revoked(t, t->root[i].id);
    for (unsigned i = 0; i < t->release_nr; i++) {
        unsigned nr = 0;
        for (unsigned j = 0; j < t->release_nr; j++)
            nr += span_starts(t->release[i].product_prefix, t->release[j].product_prefix) &&
                  !trust_key_revoked(t, t->release[j].id);
        best = nr > best ? nr : best;
    }
    return t->root_threshold >= 1 && t->root_threshold <= roots && t->release_threshold >= 1 &&
           t->release_threshold <= best;
}

enum err trust_record_decode(struct span body, const struct crypto_ops *c, struct trust_record *out)
{
    struct trust_record t = { 0 };
    uint64_t have;
    enum err e;

    if ((e = tlv_take_all(body, LISTS, field_take, &(struct taking){ &t, c }, &have)) != ERR_OK)
        return e;
    if ((have & MANDATORY) != MANDATORY || t.version == 0 || !thresholds_can_be_met(&t))
        return ERR_PROTO;
    *out = t;
    return ERR_OK;
}

static void key_put(struct wr *w, uint8_t tag, const struct trust_key *k)
{
    wr_u8(w, tag);
    wr_u8(w, (uint8_t)(2 + ED25519_KEY_LEN + k->product_prefix.n));
    wr_u8(w, k->alg);
    wr_u8(w, ED25519_KEY_LEN);
    wr_put(w, span_of(k->pub, ED25519_KEY_LEN));
    wr_put(w, k->product_prefix);
}

static void home_put(struct wr *w, const struct trust_home *h)
{
    uint8_t val[1 + HOME_ADDRESS_MAX + SHA256_LEN];
    struct wr v = { val, sizeof val, 0 };
    wr_u8(&v, (uint8_t)h->address.n);
    wr_put(&v, h->address);
    if (h->has_pin)
        wr_put(&v, span_of(h->ca_pin, SHA256_LEN));
    tlv_put(w, TAG_HOME, wr_span(&v));
}

void trust_record_encode(struct wr *w, const struct trust_record *t)
{
    uint8_t thresholds[2] = { t->root_threshold, t->release_threshold };

    tlv_put(w, TAG_FLEET, span_of(t->fleet_id, FLEET_ID_LEN));
    tlv_put_u32(w, TAG_VERSION, t->version);
    tlv_put_u16(w, TAG_EPOCH, t->epoch);
    tlv_put_u32(w, TAG_CREATED, t->created_s);
    tlv_put(w, TAG_THRESHOLDS, span_of(thresholds, 2));
    if (t->min_agent)
        tlv_put_u16(w, TAG_MIN_AGENT, t->min_agent);
    for (unsigned i = 0; i < t->root_nr; i++)
        key_put(w, TAG_ROOT, &t->root[i]);
    for (unsigned i = 0; i < t->release_nr; i++)
        key_put(w, TAG_RELEASE, &t->release[i]);
    for (unsigned i = 0; i < t->director_nr; i++)
        key_put(w, TAG_DIRECTOR, &t->director[i]);
    for (unsigned i = 0; i < t->revoked_nr; i++)
        tlv_put(w, TAG_REVOKED, span_of(t->revoked[i], KEY_ID_LEN));
    for (unsigned i = 0; i < t->home_nr; i++)
        home_put(w, &t->home[i]);
}

void trust_record_root_pin(const struct crypto_ops *c, const struct trust_record *t, uint8_t pin[SHA256_LEN])
{
    struct sha256 h;
    uint8_t order[TRUST_ROOT_MAX] = { 0 };
    for (uint8_t i = 0; i < t->root_nr; i++) { /* insertion sort: at most five */
        uint8_t at = i;
        for (; at > 0 && memcmp(t->root[order[at - 1]].pub, t->root[i].pub, ED25519_KEY_LEN) > 0; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    c->sha256_init(&h);
    c->sha256_update(&h, span_of(&t->root_threshold, 1));
    for (uint8_t i = 0; i < t->root_nr; i++)
        c->sha256_update(&h, span_of(t->root[order[i]].pub, ED25519_KEY_LEN));
    c->sha256_final(&h, pin);
}

static bool enough_roots(const struct crypto_ops *c, const struct trust_record *t, const struct envelope *env)
{
    size_t valid = 0;
    for (unsigned i = 0; i < t->root_nr; i++)
        if (!trust_key_revoked(t, t->root[i].id))
            valid += envelope_count_valid(env, c, &t->root[i], 1);
    return t->root_threshold && valid >= t->root_threshold;
}

enum err trust_record_accept(const struct crypto_ops *c, const struct trust_record *old,
                             const struct trust_record *next, const struct envelope *env)
{
    if (env->kind != ENVELOPE_TRUST_RECORD)
        return ERR_VERIFY;
    if (old) {
        if (memcmp(old->fleet_id, next->fleet_id, FLEET_ID_LEN) != 0)
            return ERR_VERIFY;
        if (old->version == UINT32_MAX || next->version != old->version + 1 || next->epoch < old->epoch)
            return ERR_STALE;
        if (!enough_roots(c, old, env))
            return ERR_VERIFY;
    }
    return enough_roots(c, next, env) ? ERR_OK : ERR_VERIFY;
}
