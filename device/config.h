/* device/config.h - the configuration pair: everything but images and boot state that outlives a power cut.
 * Two sectors, written in turn, each a whole copy; the CRC is programmed last, the higher sequence wins.
 * Values are tagged, so an image that was rolled back to can read what a newer one wrote. C99, no heap.
 *
 *   0 u32 magic "RCF1"   4 u32 sequence   8 u32 bytes of values   12 values: [tag u8][len u16][bytes]...
 *   then 0xFF to a multiple of 4, u32 CRC-32 of all before it
 *   last 256 bytes of the sector: the report tally, 64 words; each word that is not 0xFFFFFFFF stands for a
 *   block of 64 report numbers that was taken, so counting reports costs no erase */
#ifndef ROOST_DEVICE_CONFIG_H
#define ROOST_DEVICE_CONFIG_H

#include "core/trust/ticket.h"
#include "device/slot.h"

#define CONFIG_ID_MAX         128u
#define CONFIG_KEY_MAX        64u
#define CONFIG_HOST_MAX       128u
#define CONFIG_URL_MAX        192u
#define CONFIG_QUARANTINE_MAX 8u
#define CONFIG_TALLY_LEN      256u
#define CONFIG_REPORT_BLOCK   64u

struct quarantine {
    uint8_t digest[8]; /* start of the release id */
    uint8_t failures;  /* 0: free entry */
};
struct config {
    bool has_seed;
    uint8_t seed[ED25519_KEY_LEN]; /* the device's own key: it is the identity */
    uint8_t id_len, key_len, host_len, checkin_len;
    uint8_t id[CONFIG_ID_MAX];
    uint8_t key[CONFIG_KEY_MAX]; /* shared access key, raw */
    uint8_t host[CONFIG_HOST_MAX];
    uint8_t checkin[CONFIG_URL_MAX]; /* absolute URL */
    uint16_t mqtt_port, https_port;
    uint32_t checkin_s; /* re-check period the hub asks for; 0: none */
    uint16_t trust_len;
    uint8_t trust[DEVICE_OBJECT_MAX];
    uint8_t kept_release[OBJECT_ID_LEN]; /* confirmed under an earlier trust record: stays bootable */
    uint32_t trust_version;              /* of `trust`; 0: none */
    uint32_t ticket_seq;                 /* last one obeyed */
    uint32_t report_base;                /* first report number of the tally */
    uint8_t campaign[CAMPAIGN_ID_LEN];   /* of the last ticket */
    uint8_t attempt;
    uint8_t last_release[8]; /* release concerned by last_reason, or on trial */
    uint16_t last_reason;    /* enum reason */
    bool sequence_free;      /* a new epoch: the running release's sequence bars nothing until the next one */
    uint16_t reject_nr;      /* boot_result.reject_nr that was seen to */
    struct quarantine quarantine[CONFIG_QUARANTINE_MAX];
};
/* Where the pair stands in flash. */
struct config_pos {
    uint32_t seq;      /* of the winner; 0: none */
    uint32_t tally_nr; /* words used */
    uint8_t sector;    /* of the winner */
    bool unsettled;    /* the other copy was cut short: write once more */
};

/* Reads the pair; without a valid copy *out is blank and pos->seq 0. ERR_IO: flash cannot be read. */
MUST_USE enum err config_load(struct flash *f, struct config *out, struct config_pos *pos);
/* Writes a whole new copy and reads it back. The old one stays until the new one counts. The numbers that
 * the old tally stood for move into c->report_base.
 *   ERR_IO  flash does not take it: the old copy still holds */
MUST_USE enum err config_save(struct flash *f, struct config *c, struct config_pos *pos);
/* Takes the next block of report numbers: *first and the CONFIG_REPORT_BLOCK - 1 after it are ours alone.
 * Saves `c` with a new base when the tally is full. */
MUST_USE enum err config_report_block(struct flash *f, struct config *c, struct config_pos *pos,
                                      uint32_t *first);

/* For the loader: only the trust record (raw: DEVICE_OBJECT_MAX bytes). ERR_NOTFOUND: there is none. */
MUST_USE enum err config_trust_read(struct flash *f, uint8_t *raw, size_t *len, uint8_t kept[OBJECT_ID_LEN]);

#endif
