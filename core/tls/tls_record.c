/* core/tls/tls_record.c - seals and opens records, and answers what else may come in them once a handshake
 * is over. Sections in [brackets] are of RFC 8446 unless another is named. */
#include "core/tls/tls_record.h"

#include <assert.h>

enum { ALERT = 21, HANDSHAKE = 22, DATA = 23 }; /* content types [5.1] */
enum { CLIENT_HELLO = 1, KEY_UPDATE = 24 };     /* handshake types [4] */
enum { WARNING = 1, FATAL = 2 };                /* alert levels [6] */
enum { WARNING_WEIGHT = 8, EXPLICIT_LEN = 8, UPDATE_LEN = 5 };

/* `frag` also holds, in its high half, how many bytes of a KeyUpdate that was cut over records have come. Its
 * bytes need not be kept: the only good ones are known. */
#define FRAG_MASK 0x0fu

static bool is_13(const struct tls_rec *r)
{
    return r->suite & TLS_REC_13;
}

static enum tls_aead aead_of(const struct tls_rec *r)
{
    return (enum tls_aead)(r->suite & ~TLS_REC_13);
}

static bool is_explicit(const struct tls_rec *r) /* part of the nonce travels along [RFC 5288, 3] */
{
    return !is_13(r) && aead_of(r) != TLS_CHACHA20_POLY1305;
}

static uint64_t be64(const uint8_t p[8])
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

static void put64(uint8_t p[8], uint64_t v)
{
    for (int i = 8; i-- > 0; v >>= 8)
        p[i] = (uint8_t)v;
}

static bool at_limit(const struct tls_rec *r, int direction)
{
    return aead_of(r) != TLS_CHACHA20_POLY1305 && be64(r->seq[direction]) >= TLS_GCM_LIMIT;
}

static const struct tls_keys *keys_of(struct tls_rec *r, int direction, struct tls_work *w,
                                      struct tls_keys *spare)
{
    if (is_13(r))
        return tls_work_keys(w, r->secret[direction], aead_of(r), r->secret[direction], spare);
    memcpy(spare, r->secret[direction], sizeof *spare);
    return spare;
}

static void forget_key(struct tls_rec *r, struct tls_work *w)
{
    if (w->crypto->ops->forget)
        w->crypto->ops->forget(w->crypto, aead_of(r));
}

static void next_key(struct tls_rec *r, int direction, struct tls_work *w)
{
    tls_work_forget(w, r->secret[direction]);
    forget_key(r, w);
    tls_keys_next_secret(w->crypto, aead_of(r), r->secret[direction]);
    put64(r->seq[direction], 0);
}

/* The iv with the record's number in its last bytes [5.3] [RFC 7905, 2], or the 4 fixed bytes and the
 * explicit ones. */
static void make_nonce(const struct tls_rec *r, const struct tls_keys *k, const uint8_t seq[8],
                       const uint8_t *explicit_part, uint8_t nonce[TLS_NONCE_LEN])
{
    memcpy(nonce, k->iv, TLS_NONCE_LEN);
    if (is_explicit(r))
        memcpy(nonce + 4, explicit_part, EXPLICIT_LEN);
    else
        for (int i = 0; i < 8; i++)
            nonce[4 + i] ^= seq[i];
}

/* What is authenticated besides the content: [5.2], [RFC 5246, 6.2.3.3]. */
static struct span make_aad(const struct tls_rec *r, const uint8_t *head, const uint8_t seq[8], size_t n,
                            uint8_t aad[13])
{
    if (is_13(r))
        return span_of(head, TLS_HEAD_LEN);
    struct wr w = { aad, 13, 0 };
    wr_put(&w, span_of(seq, 8));
    wr_put(&w, span_of(head, 3));
    wr_be16(&w, (uint16_t)n);
    return wr_span(&w);
}

/* ---- beginning and end ---------------------------------------------------------------------------- */

void tls_rec_init_13(struct tls_rec *r, enum tls_aead a, const uint8_t *in_secret, uint64_t in_nr,
                     const uint8_t *out_secret, uint64_t out_nr)
{
    size_t n = tls_hash_len(tls_aead_hash(a));
    memset(r, 0, sizeof *r);
    r->suite = (uint8_t)((unsigned)a | TLS_REC_13);
    memcpy(r->secret[TLS_IN], in_secret, n);
    memcpy(r->secret[TLS_OUT], out_secret, n);
    put64(r->seq[TLS_IN], in_nr);
    put64(r->seq[TLS_OUT], out_nr);
}

void tls_rec_init_12(struct tls_rec *r, enum tls_aead a, const struct tls_keys *in, uint64_t in_nr,
                     const struct tls_keys *out, uint64_t out_nr, uint64_t out_base)
{
    memset(r, 0, sizeof *r);
    r->suite = (uint8_t)a;
    memcpy(r->secret[TLS_IN], in, sizeof *in);
    memcpy(r->secret[TLS_OUT], out, sizeof *out);
    if (is_explicit(r))
        put64(r->secret[TLS_OUT] + TLS_KEY_MAX + 4, out_base);
    put64(r->seq[TLS_IN], in_nr);
    put64(r->seq[TLS_OUT], out_nr);
}

void tls_rec_fini(struct tls_rec *r, struct tls_work *w)
{
    tls_work_forget(w, r->secret[TLS_IN]);
    tls_work_forget(w, r->secret[TLS_OUT]);
    forget_key(r, w);
    tls_wipe(r, sizeof *r);
}

/* ---- receiving ------------------------------------------------------------------------------------ */

static enum err broken(struct tls_rec *r, struct tls_opened *out, unsigned alert)
{
    r->state |= TLS_REC_BROKEN;
    out->used = 0;
    out->n = 0;
    out->alert = (uint8_t)alert;
    return ERR_PROTO;
}

/* A record that brings the application nothing; too many of them in a row are an attack. */
static enum err idle(struct tls_rec *r, struct tls_opened *out, unsigned weight)
{
    out->n = 0;
    r->idle = (uint8_t)(r->idle + weight);
    return r->idle > TLS_IDLE_MAX ? broken(r, out, TLS_UNEXPECTED_MESSAGE) : ERR_OK;
}

static enum err on_alert(struct tls_rec *r, struct span s, struct tls_opened *out)
{
    if (s.n != 2)
        return broken(r, out, TLS_UNEXPECTED_MESSAGE);
    uint8_t level = s.p[0], what = s.p[1];
    if (what == TLS_CLOSE_NOTIFY && (is_13(r) || level == WARNING)) {
        r->state |= TLS_REC_EOF;
        out->eof = true;
        out->n = 0;
        return ERR_OK;
    }
    if (is_13(r) ? what == TLS_USER_CANCELED : level == WARNING && what != TLS_NO_RENEGOTIATION)
        return idle(r, out, WARNING_WEIGHT);
    if (is_13(r) || level == FATAL)
        return broken(r, out, TLS_CLOSE_NOTIFY);
    /* It refuses a renegotiation that we never asked for, or speaks of a level that there is not. */
    return broken(r, out, what == TLS_NO_RENEGOTIATION ? TLS_HANDSHAKE_FAILURE : TLS_ILLEGAL_PARAMETER);
}

/* Of the messages that may follow a handshake a server only gets KeyUpdate [4.6.3]: 24, 0, 0, 1 and whether
 * it asks for ours. It may be cut over records, but ends with one: the next has another key [5.1]. */
static enum err on_handshake_13(struct tls_rec *r, struct tls_work *w, struct span s, struct tls_opened *out)
{
    static const uint8_t head[UPDATE_LEN - 1] = { KEY_UPDATE, 0, 0, 1 };
    unsigned part = r->frag >> 4;
    for (; s.n && part < sizeof head; part++, s = span_skip(s, 1))
        if (s.p[0] != head[part])
            return broken(r, out,
                          part == 0                  ? TLS_UNEXPECTED_MESSAGE
                          : part == 3 && s.p[0] == 0 ? TLS_DECODE_ERROR
                                                     : TLS_ILLEGAL_PARAMETER);
    if (!s.n) {
        r->frag = (uint8_t)((r->frag & FRAG_MASK) | part << 4);
        return idle(r, out, 1);
    }
    if (s.n > 1)
        return broken(r, out, TLS_UNEXPECTED_MESSAGE);
    if (s.p[0] > 1)
        return broken(r, out, TLS_ILLEGAL_PARAMETER);
    r->frag &= FRAG_MASK;
    r->state &= (uint8_t)~TLS_REC_UPDATE_ASKED;
    if (s.p[0])
        r->state |= TLS_REC_UPDATE_DUE; /* any number of requests is answered once */
    next_key(r, TLS_IN, w);
    return idle(r, out, 1);
}

/* A client that wants to renegotiate is told once that we do not [RFC 5246, 7.2.2]. */
static enum err on_handshake_12(struct tls_rec *r, struct span s, struct tls_opened *out)
{
    if (s.n && (s.p[0] != CLIENT_HELLO || r->state & TLS_REC_REFUSED))
        return broken(r, out, TLS_UNEXPECTED_MESSAGE);
    if (s.n)
        r->state |= TLS_REC_REFUSE_DUE | TLS_REC_REFUSED;
    return idle(r, out, 1);
}

static enum err on_data(struct tls_rec *r, struct span s, struct tls_opened *out)
{
    if (!s.n)
        return idle(r, out, 1);
    r->idle = 0;
    out->n = s.n;
    if (is_13(r) && at_limit(r, TLS_IN) && !(r->state & TLS_REC_UPDATE_ASKED))
        r->state |= TLS_REC_UPDATE_DUE | TLS_REC_UPDATE_ASK;
    return ERR_OK;
}

/* The head of a record, as soon as it is there: 0, or the alert it deserves. */
static unsigned check_head(const struct tls_rec *r, const uint8_t *p, size_t len)
{
    if (p[1] != 3)
        return TLS_PROTOCOL_VERSION;
    if (is_13(r)) {
        if (p[0] != DATA)
            return TLS_UNEXPECTED_MESSAGE; /* nothing goes unprotected any more */
        if (p[2] != 3)
            return TLS_DECODE_ERROR;
        if (len > TLS_PLAIN_MAX + 256)
            return TLS_RECORD_OVERFLOW; /* [5.2] */
        return len < TLS_TAG_LEN + 1 ? TLS_BAD_RECORD_MAC : 0;
    }
    size_t least = TLS_TAG_LEN + (is_explicit(r) ? EXPLICIT_LEN : 0u);
    if (p[2] != 3)
        return TLS_PROTOCOL_VERSION;
    if (len > TLS_PLAIN_MAX + least)
        return TLS_RECORD_OVERFLOW;
    return len < least ? TLS_BAD_RECORD_MAC : 0;
}

/* What was protected lies at `to`, `n` bytes of it: the content, its type and, in 1.3, padding [5.4]. */
static enum err on_content(struct tls_rec *r, struct tls_work *w, uint8_t type, const uint8_t *to, size_t n,
                           struct tls_opened *out)
{
    if (is_13(r)) {
        while (n && !to[n - 1])
            n--;
        if (!n)
            return broken(r, out, TLS_UNEXPECTED_MESSAGE);
        type = to[--n];
        if (type != DATA && type != ALERT && type != HANDSHAKE)
            return broken(r, out, TLS_UNEXPECTED_MESSAGE);
        if (type != DATA && !n)
            return broken(r, out, TLS_UNEXPECTED_MESSAGE);
    }
    struct span s = span_of(to, n);
    if (n > tls_rec_plain_max(r))
        return broken(r, out, TLS_RECORD_OVERFLOW);
    if (r->frag >> 4 && type != HANDSHAKE)
        return broken(r, out, TLS_UNEXPECTED_MESSAGE);
    switch (type) {
    case DATA:
        return on_data(r, s, out);
    case ALERT:
        return on_alert(r, s, out);
    case HANDSHAKE:
        return is_13(r) ? on_handshake_13(r, w, s, out) : on_handshake_12(r, s, out);
    default:
        return broken(r, out, TLS_UNEXPECTED_MESSAGE);
    }
}

enum err tls_rec_open(struct tls_rec *r, struct tls_work *w, struct span in, uint8_t *to, size_t room,
                      struct tls_opened *out)
{
    struct tls_keys spare;
    uint8_t aad_room[13], nonce[TLS_NONCE_LEN];
    *out = (struct tls_opened){ .alert = TLS_CLOSE_NOTIFY };
    if (r->state & TLS_REC_BROKEN)
        return ERR_PROTO;
    if (r->state & TLS_REC_EOF) {
        out->used = in.n;
        out->eof = true;
        return ERR_OK;
    }
    if (in.n < TLS_HEAD_LEN)
        return ERR_AGAIN;
    size_t len = (size_t)in.p[3] << 8 | in.p[4];
    unsigned alert = check_head(r, in.p, len);
    if (alert)
        return broken(r, out, alert);
    if (in.n - TLS_HEAD_LEN < len)
        return ERR_AGAIN;
    size_t skip = is_explicit(r) ? EXPLICIT_LEN : 0, n = len - skip - TLS_TAG_LEN;
    const uint8_t *seq = r->seq[TLS_IN], *body = in.p + TLS_HEAD_LEN;
    if (n > room)
        return ERR_LIMIT;
    if (be64(seq) == UINT64_MAX) /* [5.3]: it must not wrap */
        return broken(r, out, TLS_INTERNAL_ERROR);
    const struct tls_keys *k = keys_of(r, TLS_IN, w, &spare);
    make_nonce(r, k, seq, body, nonce);
    bool good =
        w->crypto->ops->open(w->crypto, aead_of(r), k->key, nonce, make_aad(r, in.p, seq, n, aad_room),
                             span_of(body + skip, n), body + skip + n, to);
    tls_wipe(&spare, sizeof spare);
    if (!good) {
        memset(to, 0, n);
        return broken(r, out, TLS_BAD_RECORD_MAC);
    }
    put64(r->seq[TLS_IN], be64(seq) + 1);
    out->used = TLS_HEAD_LEN + len;
    return on_content(r, w, in.p[0], to, n, out);
}

/* ---- sending -------------------------------------------------------------------------------------- */

/* The content lies where it belongs behind `record`; the rest of the record is made around it. */
static enum err protect(struct tls_rec *r, struct tls_work *w, uint8_t type, uint8_t *record, size_t n)
{
    struct tls_keys spare;
    uint8_t aad_room[13], nonce[TLS_NONCE_LEN], *content = record + tls_rec_head_len(r);
    uint64_t seq = be64(r->seq[TLS_OUT]);
    if (seq == UINT64_MAX)
        return ERR_STOPPED;
    if (is_13(r))
        content[n++] = type;
    struct wr head = { record, TLS_RECORD_HEAD_MAX, 0 };
    wr_u8(&head, is_13(r) ? (uint8_t)DATA : type);
    wr_be16(&head, 0x0303);
    wr_be16(&head, (uint16_t)(tls_rec_head_len(r) - TLS_HEAD_LEN + n + TLS_TAG_LEN));
    const struct tls_keys *k = keys_of(r, TLS_OUT, w, &spare);
    if (is_explicit(r))
        put64(record + TLS_HEAD_LEN, be64(k->iv + 4) + seq);
    make_nonce(r, k, r->seq[TLS_OUT], record + TLS_HEAD_LEN, nonce);
    bool good = w->crypto->ops->seal(w->crypto, aead_of(r), k->key, nonce,
                                     make_aad(r, record, r->seq[TLS_OUT], n, aad_room), span_of(content, n),
                                     content, content + n);
    tls_wipe(&spare, sizeof spare);
    if (!good) {
        r->state |= TLS_REC_SHUT; /* this number is used up: it must not protect anything else */
        return ERR_IO;
    }
    put64(r->seq[TLS_OUT], seq + 1);
    return ERR_OK;
}

static size_t record_len(const struct tls_rec *r, size_t n)
{
    return tls_rec_head_len(r) + n + tls_rec_tail_len(r);
}

/* Appends one whole record. */
static enum err append(struct tls_rec *r, struct tls_work *w, uint8_t type, struct span s, struct wr *out)
{
    if (out->cap - out->len < record_len(r, s.n))
        return ERR_LIMIT;
    memcpy(out->p + out->len + tls_rec_head_len(r), s.p, s.n);
    enum err e = protect(r, w, type, out->p + out->len, s.n);
    if (!e)
        out->len += record_len(r, s.n);
    return e;
}

bool tls_rec_is_due(const struct tls_rec *r)
{
    return r->state & (TLS_REC_UPDATE_DUE | TLS_REC_REFUSE_DUE) && !(r->state & TLS_REC_SHUT);
}

enum err tls_rec_due(struct tls_rec *r, struct tls_work *w, struct wr *out)
{
    if (r->state & TLS_REC_SHUT)
        return ERR_STOPPED;
    if (at_limit(r, TLS_OUT)) {
        if (!is_13(r))
            return ERR_STOPPED;
        r->state |= TLS_REC_UPDATE_DUE;
    }
    if (r->state & TLS_REC_REFUSE_DUE) {
        static const uint8_t refusal[2] = { WARNING, TLS_NO_RENEGOTIATION };
        enum err e = append(r, w, ALERT, span_of(refusal, 2), out);
        if (e)
            return e;
        r->state &= (uint8_t)~TLS_REC_REFUSE_DUE;
    }
    if (r->state & TLS_REC_UPDATE_DUE) {
        uint8_t ask = r->state & TLS_REC_UPDATE_ASK ? 1 : 0;
        const uint8_t update[UPDATE_LEN] = { KEY_UPDATE, 0, 0, 1, ask };
        enum err e = append(r, w, HANDSHAKE, span_of(update, sizeof update), out);
        if (e)
            return e;
        r->state &= (uint8_t) ~(TLS_REC_UPDATE_DUE | TLS_REC_UPDATE_ASK);
        if (ask)
            r->state |= TLS_REC_UPDATE_ASKED;
        next_key(r, TLS_OUT, w);
    }
    return ERR_OK;
}

enum err tls_rec_seal_in_place(struct tls_rec *r, struct tls_work *w, uint8_t *record, size_t n)
{
    assert(n > 0 && n <= tls_rec_plain_max(r));
    return r->state & TLS_REC_SHUT ? ERR_STOPPED : protect(r, w, DATA, record, n);
}

enum err tls_rec_seal(struct tls_rec *r, struct tls_work *w, struct span *in, struct wr *out)
{
    while (in->n) {
        enum err e = tls_rec_due(r, w, out);
        if (e)
            return e == ERR_LIMIT ? ERR_OK : e;
        size_t n = in->n < tls_rec_plain_max(r) ? in->n : tls_rec_plain_max(r);
        e = append(r, w, DATA, span_of(in->p, n), out);
        if (e)
            return e == ERR_LIMIT ? ERR_OK : e;
        *in = span_skip(*in, n);
    }
    return ERR_OK;
}

enum err tls_rec_alert(struct tls_rec *r, struct tls_work *w, enum tls_alert a, struct wr *out)
{
    uint8_t alert[2] = { a == TLS_CLOSE_NOTIFY ? WARNING : FATAL, (uint8_t)a };
    if (r->state & TLS_REC_SHUT)
        return ERR_STOPPED;
    enum err e = append(r, w, ALERT, span_of(alert, 2), out);
    if (!e)
        r->state |= TLS_REC_SHUT;
    return e;
}

/* ---- handing over --------------------------------------------------------------------------------- */

bool tls_rec_out_key(struct tls_rec *r, struct tls_work *w, enum tls_aead *a, struct tls_keys *k,
                     uint8_t seq[8], uint8_t iv[8])
{
    struct tls_keys spare;
    *a = aead_of(r);
    *k = *keys_of(r, TLS_OUT, w, &spare);
    tls_wipe(&spare, sizeof spare);
    memcpy(seq, r->seq[TLS_OUT], 8);
    memcpy(iv, k->iv + 4, 8);
    if (is_explicit(r))
        put64(iv, be64(iv) + be64(seq));
    return is_13(r);
}

void tls_rec_count_out(struct tls_rec *r, uint64_t nr)
{
    put64(r->seq[TLS_OUT], be64(r->seq[TLS_OUT]) + nr);
}

bool tls_rec_is_worn(const struct tls_rec *r)
{
    return at_limit(r, TLS_OUT);
}
