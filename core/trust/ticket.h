/* core/trust/ticket.h - HDT1: this device, this release, now. Signed by the hub's director key. Pure. */
#ifndef ROOST_CORE_TRUST_TICKET_H
#define ROOST_CORE_TRUST_TICKET_H

#include "core/trust/trust_record.h"

#define DEVICE_HASH_LEN      16u /* first bytes of SHA-256 of the device id */
#define CAMPAIGN_ID_LEN      8u
#define TICKET_URL_MAX       3u
#define TICKET_TTL_DEFAULT_S 3600u

enum ticket_action {
    TICKET_INSTALL = 1,
    TICKET_STAGE_ONLY,
    TICKET_ACTIVATE_STAGED,
    TICKET_BOOT_PREVIOUS,
    TICKET_CONFIRM_NOW,
    TICKET_CANCEL,
    TICKET_NO_OP,
};
struct ticket {
    bool is_cohort;
    uint8_t device_hash[DEVICE_HASH_LEN]; /* or the cohort id */
    uint8_t campaign[CAMPAIGN_ID_LEN];
    uint8_t attempt;
    uint32_t ticket_seq;
    uint8_t release_id[OBJECT_ID_LEN];
    uint8_t action; /* enum ticket_action */
    uint32_t issued_s, ttl_s;
    bool has_nonce;
    uint8_t nonce[8];
    uint32_t window_start_s, window_len_s; /* offset from issue; 0,0: at once */
    uint8_t deferrals;
    uint8_t url_nr;
    struct span url[TICKET_URL_MAX]; /* bases: the payload is at {url}/{tree root in hex} */
    uint32_t rate_cap_bps;           /* 0: none */
};

MUST_USE enum err ticket_decode(struct span body, struct ticket *out);
void ticket_encode(struct wr *w, const struct ticket *t);
/* One valid signature of an unrevoked director key of t. ERR_VERIFY. */
MUST_USE enum err ticket_verify(const struct crypto_ops *c, const struct trust_record *t,
                                const struct envelope *env);
void device_hash_of(const struct crypto_ops *c, struct span device_id, uint8_t out[DEVICE_HASH_LEN]);

#endif
