/* core/tls/tls_record.h - records of a TLS connection whose handshake somebody else has made: TLS 1.3
 * [RFC 8446] and the AEAD suites of TLS 1.2 [RFC 5246, 5288, 7905]. Sealing and opening, KeyUpdate both ways,
 * alerts, fragment lengths [RFC 6066, 4], the limits of the ciphers. Pure: bytes in, bytes out; 116 bytes a
 * connection, in the caller's memory; any thread, one at a time.
 *
 * What a peer can do wrong ends in an alert of the standard. Nothing of a record comes out before its tag
 * has been verified. C99. */
#ifndef ROOST_CORE_TLS_TLS_RECORD_H
#define ROOST_CORE_TLS_TLS_RECORD_H

#include "core/tls/tls_keys.h"

#define TLS_HEAD_LEN        5u
#define TLS_PLAIN_MAX       16384u
#define TLS_RECORD_MAX      (TLS_HEAD_LEN + TLS_PLAIN_MAX + 256u) /* the largest that is read */
#define TLS_RECORD_HEAD_MAX (TLS_HEAD_LEN + 8u)                   /* in front of what is sealed */
#define TLS_RECORD_TAIL_MAX (1u + TLS_TAG_LEN)                    /* behind it */
#define TLS_DUE_MAX         64u                                   /* what tls_rec_due may write at once */
#define TLS_IDLE_MAX        32u        /* records in a row without data for the application */
#define TLS_GCM_LIMIT       (1u << 24) /* records under one key; 2^24.5 is where safety ends [RFC 8446, 5.5] */

enum tls_alert { /* [RFC 8446, 6]; those of ours */
                 TLS_CLOSE_NOTIFY = 0,
                 TLS_UNEXPECTED_MESSAGE = 10,
                 TLS_BAD_RECORD_MAC = 20,
                 TLS_RECORD_OVERFLOW = 22,
                 TLS_HANDSHAKE_FAILURE = 40,
                 TLS_ILLEGAL_PARAMETER = 47,
                 TLS_DECODE_ERROR = 50,
                 TLS_PROTOCOL_VERSION = 70,
                 TLS_INTERNAL_ERROR = 80,
                 TLS_USER_CANCELED = 90,
                 TLS_NO_RENEGOTIATION = 100
};

enum { TLS_IN = 0, TLS_OUT = 1 }; /* directions, as we see them */

struct tls_rec {
    /* Of each direction. 1.3: the traffic secret. 1.2: a struct tls_keys; with GCM the iv is the 4 fixed
     * bytes and, going out, the 8 that the record's number is added to. */
    uint8_t secret[2][TLS_SECRET_MAX];
    uint8_t seq[2][8]; /* number of the next record, high byte first as nonces want it */
    uint8_t suite;     /* enum tls_aead, and TLS_REC_13 */
    uint8_t frag;      /* low half, set it after init: largest plaintext of a record, 0: 2^14, 1 to 4:
                          2^(8 + frag) [RFC 6066, 4] */
    uint8_t state;     /* enum tls_rec_state */
    uint8_t idle;      /* TLS_IDLE_MAX */
};
#define TLS_REC_13 0x80u
typedef char tls_rec_is_small[sizeof(struct tls_rec) <= 128 ? 1 : -1]; /* a million of these */
enum tls_rec_state {
    TLS_REC_EOF = 1,           /* the peer's close_notify has come */
    TLS_REC_SHUT = 2,          /* our last alert has been sealed: nothing follows it */
    TLS_REC_BROKEN = 4,        /* the peer broke the rules, or said that we did: nothing is read any more */
    TLS_REC_UPDATE_DUE = 8,    /* a KeyUpdate has to go out before the next data */
    TLS_REC_UPDATE_ASK = 16,   /* and ask for the peer's */
    TLS_REC_UPDATE_ASKED = 32, /* the peer has been asked and has not yet done so */
    TLS_REC_REFUSE_DUE = 64,   /* a renegotiation has to be refused */
    TLS_REC_REFUSED = 128
};

/* TLS 1.3: the traffic secrets of both directions, tls_hash_len(tls_aead_hash(a)) bytes each, and how many
 * records each has protected already (session tickets went out under ours). */
void tls_rec_init_13(struct tls_rec *r, enum tls_aead a, const uint8_t *in_secret, uint64_t in_nr,
                     const uint8_t *out_secret, uint64_t out_nr);
/* TLS 1.2: from tls_keys_block; the counts include the Finished of each side. out_base: with GCM, the
 * explicit nonce of the record whose number was 0, so that ours never meet it. */
void tls_rec_init_12(struct tls_rec *r, enum tls_aead a, const struct tls_keys *in, uint64_t in_nr,
                     const struct tls_keys *out, uint64_t out_nr, uint64_t out_base);
/* Wipes it and its keys in the cache. It must not have moved since its first use. */
void tls_rec_fini(struct tls_rec *r, struct tls_work *w);

static inline size_t tls_rec_plain_max(const struct tls_rec *r)
{
    return r->frag & 15u ? (size_t)256 << (r->frag & 15u) : TLS_PLAIN_MAX;
}

/* ---- receiving ---- */
struct tls_opened {
    size_t used; /* bytes of `in`: the record, whole */
    size_t n;    /* bytes of application data at `to` */
    bool eof;    /* the peer has said that it sends no more */
    uint8_t
        alert; /* with ERR_PROTO: the one to send; TLS_CLOSE_NOTIFY: none, the peer itself has broken off */
};
/* Takes the first record off `in`. `to` lies elsewhere and needs room for what the record holds, which is
 * less than its own length; what is at `to` behind n bytes means nothing. ERR_OK     *out is set; n may be 0
 *   ERR_AGAIN  the record is not complete
 *   ERR_LIMIT  `to` has not enough room
 *   ERR_PROTO  the connection is to be ended: seal out->alert, then send no more. Calls after it: the same
 * After the peer's close_notify whatever comes is taken and dropped [6.1]. */
MUST_USE enum err tls_rec_open(struct tls_rec *r, struct tls_work *w, struct span in, uint8_t *to,
                               size_t room, struct tls_opened *out);

/* ---- sending ---- */
/* True: something has to be sent although there is no data (a KeyUpdate, a refusal). Every other sending
 * call does that first. */
bool tls_rec_is_due(const struct tls_rec *r);
/* Appends it, TLS_DUE_MAX bytes at most. ERR_LIMIT: no room; ERR_STOPPED: our last alert is out, or the
 * cipher has protected as much as it safely can (TLS 1.2 has no KeyUpdate): end the connection; ERR_IO: the
 * cryptography failed, end it at once. */
MUST_USE enum err tls_rec_due(struct tls_rec *r, struct tls_work *w, struct wr *out);

/* Where the plaintext of a record begins and what follows it, in a buffer of its own. */
static inline size_t tls_rec_head_len(const struct tls_rec *r)
{
    return r->suite & TLS_REC_13 || r->suite == TLS_CHACHA20_POLY1305 ? TLS_HEAD_LEN : TLS_RECORD_HEAD_MAX;
}
static inline size_t tls_rec_tail_len(const struct tls_rec *r)
{
    return r->suite & TLS_REC_13 ? TLS_RECORD_TAIL_MAX : TLS_TAG_LEN;
}
/* Seals n bytes (1 to tls_rec_plain_max) of application data that lie tls_rec_head_len behind `record`, with
 * tls_rec_tail_len free behind them: in place, nothing is copied. Call tls_rec_due before the first of up to
 * 4096 such records. Errors as tls_rec_due. */
MUST_USE enum err tls_rec_seal_in_place(struct tls_rec *r, struct tls_work *w, uint8_t *record, size_t n);
/* Seals as much of *in as `out` has room for, in whole records, and takes it off its front. ERR_OK also when
 * nothing fitted. A KeyUpdate that is due goes first. Errors as tls_rec_due. */
MUST_USE enum err tls_rec_seal(struct tls_rec *r, struct tls_work *w, struct span *in, struct wr *out);
/* Appends an alert, the last thing this direction says. ERR_STOPPED: it has been said. ERR_LIMIT, ERR_IO as
 * above. */
MUST_USE enum err tls_rec_alert(struct tls_rec *r, struct tls_work *w, enum tls_alert a, struct wr *out);

/* ---- handing the sending over to somebody else (a kernel) ---- */
/* The key of what goes out, the number of the next record and, of its nonce, the last 8 bytes (TLS 1.2 with
 * GCM: the explicit ones; the 4 before them lead k->iv). True: TLS 1.3. */
bool tls_rec_out_key(struct tls_rec *r, struct tls_work *w, enum tls_aead *a, struct tls_keys *k,
                     uint8_t seq[8], uint8_t iv[8]);
void tls_rec_count_out(struct tls_rec *r, uint64_t nr); /* it has sent at most so many */
bool tls_rec_is_worn(
    const struct tls_rec *r); /* the key must not protect more (tls_rec_due would change it) */

#endif
