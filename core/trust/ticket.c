/* core/trust/ticket.c - HDT1: the body of a deployment ticket. */
#include "core/trust/ticket.h"

enum {
    TAG_DEVICE = 0x01, /* one of these two */
    TAG_COHORT = 0x02,
    TAG_CAMPAIGN = 0x03,
    TAG_ATTEMPT = 0x04,
    TAG_SEQ = 0x05,
    TAG_RELEASE = 0x06,
    TAG_ACTION = 0x07,
    TAG_ISSUED = 0x08,
    TAG_TTL = 0x09,
    TAG_NONCE = 0x0a,
    TAG_WINDOW = 0x0b,
    TAG_DEFERRALS = 0x0c,
    TAG_URL = 0x0d,
    TAG_RATE_CAP = 0x0e,
};
#define MANDATORY 0x3f8u /* tags 03 to 09, as bits */
#define LISTS     TLV_BIT(TAG_URL)
#define ADDRESSEE 0x6u /* tags 01 and 02: exactly one */

static enum err url_take(struct rd *r, struct ticket *t)
{
    struct span url = rd_take(r, r->n);
    if (url.n == 0 || url.n > 255)
        return ERR_PROTO;
    for (size_t i = 0; i < url.n; i++)
        if (url.p[i] <= ' ' || url.p[i] > '~')
            return ERR_PROTO;
    if (t->url_nr == TICKET_URL_MAX)
        return ERR_LIMIT;
    t->url[t->url_nr++] = url;
    return ERR_OK;
}

static enum err field_take(void *ctx, uint8_t tag, struct rd *r)
{
    struct ticket *t = ctx;
    enum err e = ERR_OK;

    switch (tag) {
    case TAG_DEVICE:
    case TAG_COHORT:
        t->is_cohort = tag == TAG_COHORT;
        rd_copy(r, t->device_hash, DEVICE_HASH_LEN);
        break;
    case TAG_CAMPAIGN:
        rd_copy(r, t->campaign, CAMPAIGN_ID_LEN);
        break;
    case TAG_ATTEMPT:
        t->attempt = rd_u8(r);
        break;
    case TAG_SEQ:
        t->ticket_seq = rd_le32(r);
        break;
    case TAG_RELEASE:
        rd_copy(r, t->release_id, OBJECT_ID_LEN);
        break;
    case TAG_ACTION:
        t->action = rd_u8(r);
        e = t->action < TICKET_INSTALL || t->action > TICKET_NO_OP ? ERR_PROTO : ERR_OK;
        break;
    case TAG_ISSUED:
        t->issued_s = rd_le32(r);
        break;
    case TAG_TTL:
        t->ttl_s = rd_le32(r);
        break;
    case TAG_NONCE:
        t->has_nonce = true;
        rd_copy(r, t->nonce, sizeof t->nonce);
        break;
    case TAG_WINDOW:
        t->window_start_s = rd_le32(r);
        t->window_len_s = rd_le32(r);
        break;
    case TAG_DEFERRALS:
        t->deferrals = rd_u8(r);
        break;
    case TAG_URL:
        e = url_take(r, t);
        break;
    case TAG_RATE_CAP:
        t->rate_cap_bps = rd_le32(r);
        break;
    default:
        return ERR_NOTFOUND;
    }
    return e;
}

enum err ticket_decode(struct span body, struct ticket *out)
{
    struct ticket t = { 0 };
    uint64_t have;
    enum err e;

    if ((e = tlv_take_all(body, LISTS, field_take, &t, &have)) != ERR_OK)
        return e;
    if ((have & MANDATORY) != MANDATORY || (have & ADDRESSEE) == 0 || (have & ADDRESSEE) == ADDRESSEE)
        return ERR_PROTO;
    if (t.is_cohort && t.has_nonce) /* a nonce is of one device */
        return ERR_PROTO;
    *out = t;
    return ERR_OK;
}

void ticket_encode(struct wr *w, const struct ticket *t)
{
    tlv_put(w, t->is_cohort ? TAG_COHORT : TAG_DEVICE, span_of(t->device_hash, DEVICE_HASH_LEN));
    tlv_put(w, TAG_CAMPAIGN, span_of(t->campaign, CAMPAIGN_ID_LEN));
    tlv_put_u8(w, TAG_ATTEMPT, t->attempt);
    tlv_put_u32(w, TAG_SEQ, t->ticket_seq);
    tlv_put(w, TAG_RELEASE, span_of(t->release_id, OBJECT_ID_LEN));
    tlv_put_u8(w, TAG_ACTION, t->action);
    tlv_put_u32(w, TAG_ISSUED, t->issued_s);
    tlv_put_u32(w, TAG_TTL, t->ttl_s);
    if (t->has_nonce)
        tlv_put(w, TAG_NONCE, span_of(t->nonce, sizeof t->nonce));
    if (t->window_start_s || t->window_len_s) {
        wr_u8(w, TAG_WINDOW);
        wr_u8(w, 8);
        wr_le32(w, t->window_start_s);
        wr_le32(w, t->window_len_s);
    }
    if (t->deferrals)
        tlv_put_u8(w, TAG_DEFERRALS, t->deferrals);
    for (unsigned i = 0; i < t->url_nr; i++)
        tlv_put(w, TAG_URL, t->url[i]);
    if (t->rate_cap_bps)
        tlv_put_u32(w, TAG_RATE_CAP, t->rate_cap_bps);
}

enum err ticket_verify(const struct crypto_ops *c, const struct trust_record *t, const struct envelope *env)
{
    if (env->kind != ENVELOPE_TICKET)
        return ERR_VERIFY;
    for (unsigned i = 0; i < t->director_nr; i++)
        if (!trust_key_revoked(t, t->director[i].id) && envelope_count_valid(env, c, &t->director[i], 1))
            return ERR_OK;
    return ERR_VERIFY;
}

void device_hash_of(const struct crypto_ops *c, struct span device_id, uint8_t out[DEVICE_HASH_LEN])
{
    uint8_t hash[SHA256_LEN];
    crypto_sha256(c, device_id, hash);
    memcpy(out, hash, DEVICE_HASH_LEN);
}
