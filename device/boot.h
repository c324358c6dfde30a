/* device/boot.h - the boot loader's decision: journal, slots, trial counting. C99, no heap; the only I/O is
 * struct flash. The same code runs in a chip's loader, in the agent's supervisor and in the simulator.
 * Journal: 32-byte records, append-only, whole state in every record, CRC last as its own program command;
 * slot header: 256 bytes at the slot's start, programmed last. Rules and offsets: docs/device.md. */
#ifndef ROOST_DEVICE_BOOT_H
#define ROOST_DEVICE_BOOT_H

#include "core/trust/release.h"
#include "port/flash.h"

#define BOOT_NO_SLOT      0xffu
#define BOOT_ATTEMPTS_MAX 3u
#define SLOT_HEADER_LEN   256u

enum reset_cause {
    RESET_POWER = 0,
    RESET_SOFT,
    RESET_WATCHDOG,
    RESET_EXCEPTION,
    RESET_BROWNOUT,
    RESET_DEEP_SLEEP
};

struct slot_header {
    uint32_t image_len, entry, load_flags;
    uint16_t hw_class;
    uint32_t release_seq;
    uint16_t security_counter;
    uint8_t image_sha256[SHA256_LEN];
    uint8_t release_id[OBJECT_ID_LEN];
    uint8_t key_id[KEY_ID_LEN];
    uint8_t sig[ED25519_SIG_LEN];
};

struct boot_result {
    uint8_t slot;              /* 0, 1, or BOOT_NO_SLOT: blank, nothing valid to run */
    bool trial;                /* this boot is an attempt of a pending image */
    uint8_t attempt;           /* 1..3 while on trial */
    bool reverted;             /* the last image tried was given up; reject_reason says why */
    uint8_t reject_reason;     /* enum reason */
    uint8_t rejected[8];       /* start of the release digest that was given up */
    struct slot_header header; /* of `slot` */
    bool other_valid;
    struct slot_header other;  /* of the other slot when other_valid */
    uint16_t security_counter; /* from the journal */
    uint16_t reject_nr; /* how many images this device gave up so far: tells a new rejection from an old */
};

/* Decide what to start, committing ATTEMPT or REJECT to the journal first. A failing journal write never
 * blocks booting the confirmed slot. ERR_IO only when flash cannot even be read.
 * `x` (device/slot.h) is the caller's memory, since a chip's stack has no room for it. */
struct boot_scratch;
MUST_USE enum err boot_run_with(struct flash *f, const struct crypto_ops *c, enum reset_cause cause,
                                struct boot_scratch *x, struct boot_result *out);
/* The same where the stack is large: takes about 8 KB of it. */
MUST_USE enum err boot_run(struct flash *f, const struct crypto_ops *c, enum reset_cause cause,
                           struct boot_result *out);

/* The running application's side. All are idempotent. */
/* Each is one journal record. ERR_STALE: it does not fit what the journal says (confirming a slot that is
 * not pending, making the confirmed one pending). */
MUST_USE enum err boot_set_pending(struct flash *f, uint8_t slot, const uint8_t digest8[8]);
MUST_USE enum err boot_confirm(struct flash *f, uint8_t slot, uint16_t security_counter);
MUST_USE enum err boot_reject(struct flash *f, uint8_t slot, uint8_t reason);

/* Slot header codec and checks. */
void slot_header_encode(const struct slot_header *h, uint8_t out[SLOT_HEADER_LEN]);
MUST_USE enum err slot_header_decode(const uint8_t in[SLOT_HEADER_LEN], struct slot_header *out);

#endif
