/* device/answer.h - reads the JSON answer of POST /bootstrap while it arrives. It may be longer than any
 * buffer of the device: only the members it knows are kept, and the trust records, by far the longest, are
 * decoded from base64 on the way. One flat object; nested values are skipped. Pure, C99, no heap. */
#ifndef ROOST_DEVICE_ANSWER_H
#define ROOST_DEVICE_ANSWER_H

#include "base/err.h"
#include "base/span.h"

enum answer_member {
    ANSWER_STATUS,
    ANSWER_ID,
    ANSWER_HOST,
    ANSWER_KEY,
    ANSWER_CHECKIN,
    ANSWER_MQTT_PORT,
    ANSWER_HTTPS_PORT,
    ANSWER_CHECKIN_S,
    ANSWER_TIME,
    ANSWER_RETRY_S,
    ANSWER_MEMBERS,
    ANSWER_TRUST = ANSWER_MEMBERS, /* goes to `trust` instead of `text` */
    ANSWER_UNKNOWN
};

struct answer {
    uint8_t state, depth, member;
    bool is_escaped, in_string, bad, too_long;
    uint8_t hex_left; /* of a \uXXXX */
    uint16_t hex;
    uint8_t key_len;
    uint8_t key[20];
    struct wr text;  /* values one behind the other */
    struct wr trust; /* decoded */
    struct {
        uint16_t at, len;
    } value[ANSWER_MEMBERS];
    uint32_t bits; /* base64 */
    uint8_t bits_nr;
};

/* text and trust: the caller's memory, text at most 64 KB. Trust records that do not fit are cut off: the
 * whole ones count, the rest comes with the check-in. */
void answer_init(struct answer *a, struct wr text, struct wr trust);
void answer_feed(struct answer *a, struct span piece);
/* The object is complete.  ERR_PROTO: it is no JSON object      ERR_LIMIT: the values do not fit */
MUST_USE enum err answer_finish(const struct answer *a);
struct span answer_text(const struct answer *a, enum answer_member m); /* empty: absent */
/* 0 when absent, no number, or over max. */
uint32_t answer_u32(const struct answer *a, enum answer_member m, uint32_t max);

#endif
