/* tests/fuzz/fuzz_tls_record.c - any bytes as TLS records of a client, under a cipher that changes nothing,
 * so that what is inside is reached: the first byte is the suite, the second the fragment length and how the
 * rest is cut. However it is cut, the same data, the same end and the same answers must come out. */
#include "core/tls/tls_record.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool seal(struct tls_crypto *c, enum tls_aead a, const uint8_t *key, const uint8_t *nonce,
                 struct span aad, struct span in, uint8_t *out, uint8_t *tag)
{
    (void)c, (void)a, (void)key, (void)nonce, (void)aad;
    if (out != in.p)
        memcpy(out, in.p, in.n);
    memset(tag, 0, TLS_TAG_LEN);
    return true;
}
static bool open(struct tls_crypto *c, enum tls_aead a, const uint8_t *key, const uint8_t *nonce,
                 struct span aad, struct span in, const uint8_t *tag, uint8_t *out)
{
    (void)c, (void)a, (void)key, (void)nonce, (void)aad;
    memcpy(out, in.p, in.n);
    return tag[0] != 0xff; /* forged */
}
static void hmac(struct tls_crypto *c, enum tls_hash h, struct span key, const struct span *parts,
                 size_t parts_nr, uint8_t *out)
{
    (void)c, (void)parts, (void)parts_nr;
    for (size_t i = 0; i < tls_hash_len(h); i++)
        out[i] = (uint8_t)(key.p[i] + 1);
}

struct outcome {
    enum err e;
    uint8_t alert;
    bool eof;
    struct wr plain, answers;
    uint8_t plain_room[70000], answers_room[70000];
    struct tls_rec rec;
};

static void run(struct span in, uint8_t how, size_t piece, struct outcome *o)
{
    static const struct tls_crypto_ops ops = { seal, open, hmac, NULL };
    static struct tls_key_slot slots[4];
    static uint8_t held[70000], room[TLS_RECORD_MAX];
    struct tls_crypto crypto = { &ops };
    struct tls_work w = { .crypto = &crypto, .slots = slots, .slots_nr = 4 };
    size_t have = 0;
    uint8_t secret[TLS_SECRET_MAX] = { 7 };
    const struct tls_keys keys = { .key = { 1 } };
    enum tls_aead a = (enum tls_aead)((how & 3) % TLS_AEADS);
    memset(slots, 0, sizeof slots);
    if (how & 4)
        tls_rec_init_13(&o->rec, a, secret, 0, secret, 1);
    else
        tls_rec_init_12(&o->rec, a, &keys, 1, &keys, 1, 9);
    o->rec.frag = (uint8_t)((how >> 4) % 5);
    if (how & 8)
        o->rec.seq[TLS_IN][4] = 1; /* worn out */
    o->plain = (struct wr){ o->plain_room, sizeof o->plain_room, 0 };
    o->answers = (struct wr){ o->answers_room, sizeof o->answers_room, 0 };
    o->e = ERR_OK;
    o->alert = 0;
    o->eof = false;
    while (in.n && (!o->e || o->e == ERR_AGAIN)) {
        size_t n = in.n < piece ? in.n : piece, used = 0;
        memcpy(held + have, in.p, n);
        have += n;
        in = span_skip(in, n);
        do {
            struct tls_opened got;
            o->e = tls_rec_open(&o->rec, &w, span_of(held + used, have - used), room, sizeof room, &got);
            if (o->e == ERR_LIMIT || got.used > have - used || (got.n && got.n >= got.used))
                abort(); /* room is always enough; what comes out is less than what went in */
            used += got.used;
            wr_put(&o->plain, span_of(room, got.n));
            o->alert = got.alert;
            o->eof = got.eof;
            if (tls_rec_is_due(&o->rec) && tls_rec_due(&o->rec, &w, &o->answers))
                abort();
        } while (!o->e && used < have);
        memmove(held, held + used, have -= used);
    }
    if (o->e == ERR_PROTO && o->alert && tls_rec_alert(&o->rec, &w, (enum tls_alert)o->alert, &o->answers))
        abort();
    if (tls_rec_is_due(&o->rec) && o->e != ERR_PROTO)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome whole, cut;
    if (size < 2 || size > 60000)
        return 0;
    struct span in = span_of(data + 2, size - 2);
    run(in, data[0], SIZE_MAX, &whole);
    run(in, data[0], data[1] % 64 + 1, &cut);
    if ((whole.e == ERR_PROTO) != (cut.e == ERR_PROTO) || whole.alert != cut.alert || whole.eof != cut.eof ||
        !span_eq(wr_span(&whole.plain), wr_span(&cut.plain)) ||
        !span_eq(wr_span(&whole.answers), wr_span(&cut.answers)) ||
        memcmp(whole.rec.secret, cut.rec.secret, sizeof whole.rec.secret) != 0)
        abort();
    return 0;
}
