/* core/trust/report.h - what a device tells the hub at every check-in: what it runs, never "success".
 * TLV list with the rules of envelope.h; ours is at most 256 bytes, REPORT_MAX are taken. Pure. Source:
 * docs/trust.md, "Report". */
#ifndef ROOST_CORE_TRUST_REPORT_H
#define ROOST_CORE_TRUST_REPORT_H

#include "core/trust/ticket.h"

#define REPORT_MAX 512u

enum device_state { /* agent view */
                    DEVICE_IDLE = 0,
                    DEVICE_CHECKING,
                    DEVICE_DOWNLOADING,
                    DEVICE_VERIFYING,
                    DEVICE_STAGED,
                    DEVICE_DEFERRED,
                    DEVICE_ARMED,
                    DEVICE_TRIAL,
                    DEVICE_REVERTING,
                    DEVICE_STATES
};
/* Why it is not further, or why it went back. Documented in docs/trust.md; names by reason_name(). */
enum reason {
    REASON_NONE = 0,
    REASON_NETWORK,
    REASON_SPACE,
    REASON_HEAP,
    REASON_SIGNATURE_RELEASE,
    REASON_SIGNATURE_DIRECTOR,
    REASON_TRUST,
    REASON_COUNTER,
    REASON_SEQUENCE,
    REASON_HW_MISMATCH,
    REASON_REQUIRES,
    REASON_HASH,
    REASON_FLASH_WRITE,
    REASON_FLASH_VERIFY,
    REASON_BOOT,
    REASON_PROBATION_NET,
    REASON_PROBATION_HUB,
    REASON_PROBATION_APP,
    REASON_WATCHDOG,
    REASON_USER,
    REASON_BATTERY,
    REASON_WINDOW,
    REASON_TICKET_DEVICE,
    REASON_TICKET_STALE,
    REASON_QUARANTINE,
    REASON_FORMAT,
    REASONS
};
enum report_source { SOURCE_HUB = 0, SOURCE_CACHE, SOURCE_PEER, SOURCE_USB };

struct report {
    uint8_t state;                     /* 01 enum device_state */
    uint16_t reason;                   /* 02 enum reason */
    uint32_t report_seq;               /* 03 monotonic, persisted */
    uint32_t boot_id;                  /* 04 differs at every boot */
    uint32_t uptime_s;                 /* 05 */
    uint8_t campaign[CAMPAIGN_ID_LEN]; /* 06 zero: none */
    uint8_t attempt;                   /* 07 */
    uint8_t running[OBJECT_ID_LEN];    /* 08 object id of the running release; zero: blank */
    uint8_t other[OBJECT_ID_LEN];      /* 09 of the other slot; zero: none */
    uint8_t other_valid;               /* 0A */
    uint32_t trust_version;            /* 0B 0: none yet */
    uint16_t security_counter;         /* 0C */
    uint32_t ticket_seq;               /* 0D last one obeyed */
    uint32_t bytes_done, bytes_total;  /* 0E, 0F */
    uint8_t source;                    /* 10 */
    uint8_t reset_cause;               /* 11 */
    uint32_t free_heap, largest_block; /* 12, 13; 0: unknown */
    uint32_t slot_len;                 /* 14 bytes a slot holds */
    uint8_t battery_pct;               /* 15; 255 unknown */
    int8_t rssi_dbm;                   /* 16; 0 unknown */
    uint16_t agent_version;            /* 17 major << 8 | minor */
    uint8_t nonce[8];                  /* 18 fresh at every check-in: the ticket echoes it */
    struct span product;               /* 19 */
    uint16_t hw_class;                 /* 1A, with the revision */
    uint8_t hw_rev;
    uint32_t release_seq;   /* 1B of the running release */
    uint32_t trial_release; /* 1C first 4 bytes of the release on trial or last reverted, 0: none */
};
MUST_USE enum err report_decode(struct span in, struct report *out);
void report_encode(struct wr *w, const struct report *r);
const char *reason_name(unsigned reason);      /* "probation-app"; "unknown" */
const char *device_state_name(unsigned state); /* "DOWNLOADING" */

#endif
