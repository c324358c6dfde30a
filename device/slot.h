/* device/slot.h - what lies in a slot, and what makes it bootable. C99, no heap; only struct flash.
 *
 *    first sector   the header (256 bytes); the rest is empty
 *    then           the image, from a sector's start on
 *    tail           the signed release manifest with its envelope, so that the loader can check who made
 *                   the image without any other state
 *
 *  header: 0 u32 magic "RSL1"   4 u16 length 256   6 u16 format 1   8 u32 image length   12 u32 entry
 *         16 u32 load flags    20 u16 hardware class  22 u16 security counter  24 u32 release sequence
 *         28 32 B image SHA-256   60 32 B release id   92 8 B key id   100 64 B the release signature
 *        164 0xFF...           252 u32 CRC-32 of bytes 0..251
 *  tail:   0 u32 magic "RTL1"   4 u16 length   6 u16 ~length   8 envelope, 0xFF to a multiple of 4, CRC-32 */
#ifndef ROOST_DEVICE_SLOT_H
#define ROOST_DEVICE_SLOT_H

#include "device/boot.h"

/* The longest signed object a device takes: a 1 KB body and four Ed25519 signatures. */
#define DEVICE_OBJECT_MAX (8u + ENVELOPE_BODY_MAX_MCU + ENVELOPE_SIG_MAX * (10u + ED25519_SIG_LEN))
#define SLOT_TAIL_MAX     (8u + DEVICE_OBJECT_MAX + 4u + 4u)

uint32_t slot_tail_len(const struct flash_geometry *g); /* whole sectors */
uint32_t slot_image_cap(const struct flash_geometry *g);
uint32_t slot_image_addr(const struct flash_geometry *g, uint8_t slot);

/* ERR_NOTFOUND: no valid header. */
MUST_USE enum err slot_header_read(struct flash *f, uint8_t slot, struct slot_header *out);
/* The old image stops being valid: this comes before anything else of the slot changes. */
MUST_USE enum err slot_invalidate(struct flash *f, uint8_t slot);
/* Last of all. Where the same header stands already it is programmed once more: a header that was cut
 * short may read well today and badly tomorrow. ERR_VERIFY: flash does not hold it. */
MUST_USE enum err slot_header_write(struct flash *f, uint8_t slot, const struct slot_header *h);

MUST_USE enum err slot_manifest_write(struct flash *f, uint8_t slot, struct span raw);
/* buf: DEVICE_OBJECT_MAX. ERR_NOTFOUND. */
MUST_USE enum err slot_manifest_read(struct flash *f, uint8_t slot, uint8_t *buf, size_t *len);

MUST_USE enum err slot_image_hash(struct flash *f, const struct crypto_ops *c, uint8_t slot, uint32_t len,
                                  uint8_t out[SHA256_LEN]);

/* Everything at once: header, image hash, manifest (it is the release of the header and says the same), and
 * the release signature under the trust record of the configuration pair. A release that was confirmed
 * before its key was withdrawn stays bootable: the pair names it (docs/decisions/).
 *   ERR_NOTFOUND  no header      ERR_VERIFY  hash or contents      ERR_DENIED  not signed for this device
 * trust_needed = false: where there is no trust record at all, the rest is enough. */
struct boot_scratch { /* the caller's memory: a chip has no stack for it */
    uint8_t trust_raw[DEVICE_OBJECT_MAX], manifest_raw[DEVICE_OBJECT_MAX];
    struct trust_record trust;
    struct release release;
    struct envelope env;
};
MUST_USE enum err slot_verify(struct flash *f, const struct crypto_ops *c, uint8_t slot, bool trust_needed,
                              struct boot_scratch *x, struct slot_header *out);

#endif
