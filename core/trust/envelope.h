/* core/trust/envelope.h - the signed envelope that carries trust records, release manifests and tickets.
 * Pure: no I/O, heap, clock. Spans in a result point into the input and live as long.
 *
 *   0 4  magic "HTR1" | "HRM1" | "HDT1"      8 n  body: TLV list [tag u8][len u8, or 0xFF + u16][value],
 *   4 2  body_len (<= 4096; MCU 1024)               ascending tags; unknown < 0x80 ignored, >= 0x80 refused
 *   6 1  format_version = 1                       then sig_count x { alg u8, key_id 8 B, sig_len u8, sig }
 *   7 1  sig_count (1..4)
 * Little-endian. Signed: "roost-ota-v1\0" || magic || body_len || format_version || body.
 * Object id: SHA-256 of magic || body_len || format_version || body (not sig_count: adding a signature
 * does not make another object). */
#ifndef ROOST_CORE_TRUST_ENVELOPE_H
#define ROOST_CORE_TRUST_ENVELOPE_H

#include "core/crypto/crypto.h"
#include "core/trust/tlv.h"

#define ENVELOPE_BODY_MAX     4096u
#define ENVELOPE_BODY_MAX_MCU 1024u
#define ENVELOPE_SIG_MAX      4u
#define ENVELOPE_MAX          (8u + ENVELOPE_BODY_MAX + ENVELOPE_SIG_MAX * (10u + 255u))
#define KEY_ID_LEN            8u /* first bytes of SHA-256 of the public key */
#define OBJECT_ID_LEN         SHA256_LEN

enum sig_alg { SIG_ED25519 = 1, SIG_P256 = 2 /* raw r||s, low s; reserved */ };
enum envelope_kind { ENVELOPE_TRUST_RECORD = 1, ENVELOPE_RELEASE, ENVELOPE_TICKET };

struct signature {
    uint8_t alg; /* enum sig_alg; unknown ones are kept and never count */
    uint8_t key_id[KEY_ID_LEN];
    struct span sig;
};
struct envelope {
    uint8_t kind;     /* enum envelope_kind */
    uint8_t sig_nr;   /* 1..4 */
    struct span raw;  /* all of it, signatures included */
    struct span head; /* the first 7 bytes: magic, body_len, format_version */
    struct span body;
    struct signature sig[ENVELOPE_SIG_MAX];
};
/* A public key as a trust record lists it. */
struct trust_key {
    uint8_t alg; /* enum sig_alg */
    uint8_t id[KEY_ID_LEN];
    uint8_t pub[ED25519_KEY_LEN];
    struct span product_prefix; /* release keys only; empty: every product */
};

/* Take the first envelope off `in`; objects may follow one another.
 *   ERR_AGAIN  not whole yet      ERR_LIMIT  body longer than body_max
 *   ERR_PROTO  wrong magic, version, signature count or length; two signatures of one key */
MUST_USE enum err envelope_decode(struct span in, size_t body_max, struct envelope *out, size_t *used);
/* The same, but a count of 0 signatures is let through: for the tools that sign. */
MUST_USE enum err envelope_decode_draft(struct span in, size_t body_max, struct envelope *out, size_t *used);

/* Header and body without signatures (sig_count 0): what envelope_sign then adds to. */
void envelope_begin(struct wr *w, enum envelope_kind kind, struct span body);
/* Appends one signature to a whole unsigned or signed envelope in w; the count is raised in place.
 * ERR_LIMIT: four there already, or no room; ERR_EXISTS: this key has signed; ERR_PROTO: w is no envelope. */
MUST_USE enum err envelope_sign(struct wr *w, const struct crypto_ops *c,
                                const uint8_t seed[ED25519_KEY_LEN]);

void envelope_id(const struct crypto_ops *c, const struct envelope *env, uint8_t id[OBJECT_ID_LEN]);
void key_id_of(const struct crypto_ops *c, const uint8_t pub[ED25519_KEY_LEN], uint8_t id[KEY_ID_LEN]);
/* How many different keys of `keys` have a valid signature on env. */
size_t envelope_count_valid(const struct envelope *env, const struct crypto_ops *c,
                            const struct trust_key *keys, size_t keys_nr);

/* Texts that travel in bodies and end up in file names, logs and pages: letters, digits, and . _ - + ~ */
bool trust_text_is_ok(struct span text, size_t max);

#endif
