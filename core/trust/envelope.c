/* core/trust/envelope.c - the signed envelope. Layout: docs/trust.md. */
#include "core/trust/envelope.h"

#include <assert.h>

#define HEAD_LEN       8u /* with sig_count */
#define SIGNED_HEAD    7u /* without it */
#define FORMAT_VERSION 1u
#define SIG_HEAD_LEN   10u

/* What every signature begins with, so that a key can never be talked into signing one of these by
 * another protocol. The terminating zero belongs to it. */
#define SIGN_CONTEXT SPAN("roost-ota-v1\0")

static const char magics[][5] = { "", "HTR1", "HRM1", "HDT1" }; /* by enum envelope_kind */
#define KINDS_END (sizeof magics / sizeof *magics)

static uint8_t kind_of(struct span magic)
{
    for (size_t k = 1; k < KINDS_END; k++)
        if (span_eq(magic, span_of(magics[k], 4)))
            return (uint8_t)k;
    return 0;
}

static enum err signature_take(struct rd *r, struct envelope *env)
{
    struct signature s;
    s.alg = rd_u8(r);
    struct span id = rd_take(r, KEY_ID_LEN);
    s.sig = rd_take(r, rd_u8(r));
    if (r->bad)
        return ERR_AGAIN;
    memcpy(s.key_id, id.p, KEY_ID_LEN);
    if (s.alg == SIG_ED25519 && s.sig.n != ED25519_SIG_LEN)
        return ERR_PROTO;
    for (unsigned i = 0; i < env->sig_nr; i++) /* one verification a signature is all a device ever does */
        if (env->sig[i].alg == s.alg && memcmp(env->sig[i].key_id, s.key_id, KEY_ID_LEN) == 0)
            return ERR_PROTO;
    env->sig[env->sig_nr++] = s;
    return ERR_OK;
}

enum err envelope_decode_draft(struct span in, size_t body_max, struct envelope *out, size_t *used)
{
    struct rd r = rd_of(in);
    struct envelope env = { 0 };
    struct span magic = rd_take(&r, 4);
    uint16_t body_len = rd_le16(&r);
    uint8_t version = rd_u8(&r), sig_count = rd_u8(&r);

    if (r.bad)
        return ERR_AGAIN;
    env.kind = kind_of(magic);
    if (!env.kind || version != FORMAT_VERSION || sig_count > ENVELOPE_SIG_MAX || body_len == 0)
        return ERR_PROTO;
    if (body_len > body_max || body_len > ENVELOPE_BODY_MAX)
        return ERR_LIMIT;
    env.head = span_of(in.p, SIGNED_HEAD);
    env.body = rd_take(&r, body_len);
    for (unsigned i = 0; i < sig_count; i++) {
        enum err e = signature_take(&r, &env);
        if (e)
            return e;
    }
    if (r.bad)
        return ERR_AGAIN;
    env.raw = span_of(in.p, in.n - r.n);
    *out = env;
    *used = env.raw.n;
    return ERR_OK;
}

enum err envelope_decode(struct span in, size_t body_max, struct envelope *out, size_t *used)
{
    struct envelope env;
    size_t n;
    enum err e = envelope_decode_draft(in, body_max, &env, &n);
    if (e)
        return e;
    if (env.sig_nr == 0)
        return ERR_PROTO;
    *out = env;
    *used = n;
    return ERR_OK;
}

void envelope_begin(struct wr *w, enum envelope_kind kind, struct span body)
{
    assert(body.n > 0 && body.n <= ENVELOPE_BODY_MAX);
    wr_put(w, span_of(magics[kind], 4));
    wr_le16(w, (uint16_t)body.n);
    wr_u8(w, FORMAT_VERSION);
    wr_u8(w, 0);
    wr_put(w, body);
}

enum err envelope_sign(struct wr *w, const struct crypto_ops *c, const uint8_t seed[ED25519_KEY_LEN])
{
    struct envelope env;
    size_t used;
    uint8_t pub[ED25519_KEY_LEN], id[KEY_ID_LEN], sig[ED25519_SIG_LEN];

    if (!wr_ok(w))
        return ERR_LIMIT;
    if (envelope_decode_draft(wr_span(w), ENVELOPE_BODY_MAX, &env, &used) || used != w->len)
        return ERR_PROTO;
    if (env.sig_nr == ENVELOPE_SIG_MAX || w->cap - w->len < SIG_HEAD_LEN + ED25519_SIG_LEN)
        return ERR_LIMIT;
    c->ed25519_public(seed, pub);
    key_id_of(c, pub, id);
    for (unsigned i = 0; i < env.sig_nr; i++)
        if (env.sig[i].alg == SIG_ED25519 && memcmp(env.sig[i].key_id, id, KEY_ID_LEN) == 0)
            return ERR_EXISTS;
    struct span parts[3] = { SIGN_CONTEXT, env.head, env.body };
    c->ed25519_sign(seed, parts, 3, sig);
    w->p[HEAD_LEN - 1]++;
    wr_u8(w, SIG_ED25519);
    wr_put(w, span_of(id, sizeof id));
    wr_u8(w, ED25519_SIG_LEN);
    wr_put(w, span_of(sig, sizeof sig));
    return ERR_OK;
}

void envelope_id(const struct crypto_ops *c, const struct envelope *env, uint8_t id[OBJECT_ID_LEN])
{
    struct sha256 h;
    c->sha256_init(&h);
    c->sha256_update(&h, env->head);
    c->sha256_update(&h, env->body);
    c->sha256_final(&h, id);
}

void key_id_of(const struct crypto_ops *c, const uint8_t pub[ED25519_KEY_LEN], uint8_t id[KEY_ID_LEN])
{
    uint8_t hash[SHA256_LEN];
    crypto_sha256(c, span_of(pub, ED25519_KEY_LEN), hash);
    memcpy(id, hash, KEY_ID_LEN);
}

static bool key_signed(const struct envelope *env, const struct crypto_ops *c, const struct trust_key *k)
{
    struct span parts[3] = { SIGN_CONTEXT, env->head, env->body };
    for (unsigned i = 0; i < env->sig_nr; i++) {
        const struct signature *s = &env->sig[i];
        if (k->alg == SIG_ED25519 && s->alg == SIG_ED25519 && memcmp(s->key_id, k->id, KEY_ID_LEN) == 0 &&
            c->ed25519_verify(k->pub, parts, 3, s->sig.p))
            return true;
    }
    return false;
}

size_t envelope_count_valid(const struct envelope *env, const struct crypto_ops *c,
                            const struct trust_key *keys, size_t keys_nr)
{
    size_t valid = 0;
    for (size_t i = 0; i < keys_nr; i++) {
        bool seen = false; /* one key listed twice is still one key */
        for (size_t j = 0; j < i && !seen; j++)
            seen = memcmp(keys[j].pub, keys[i].pub, ED25519_KEY_LEN) == 0;
        if (!seen && key_signed(env, c, &keys[i]))
            valid++;
    }
    return valid;
}

bool trust_text_is_ok(struct span text, size_t max)
{
    if (text.n > max)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t ch = text.p[i];
        bool ok = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
                  ch == '.' || ch == '_' || ch == '-' || ch == '+' || ch == '~';
        if (!ok)
            return false;
    }
    return true;
}
