/* device/journal.h - the boot journal: which slot is confirmed, which is on trial, how often it was tried.
 * Two sectors of 32-byte cells, appended to; every record holds the whole state, so the newest valid one is
 * enough and nothing is replayed. C99, no heap; the only I/O is struct flash.
 *
 *    0  u32 sequence (from 1 on, never 0xFFFFFFFF)     8  u32 security counter
 *    4  u8  kind                                      12  8 B start of the release digest concerned
 *    5  u8  confirmed slot (0xFF none)                20  u8 reset cause, u8 reason, u16 rejections so far
 *    6  u8  pending slot (0xFF none)                  24  u32 reserved, 0xFFFFFFFF
 *    7  u8  attempts                                  28  u32 CRC-32 of bytes 0..27, programmed last, alone
 *
 * Rules: a cell is programmed once; a torn cell counts as used; the highest valid sequence over both sectors
 * wins; when the winner's sector is full, the other one is erased and taken. */
#ifndef ROOST_DEVICE_JOURNAL_H
#define ROOST_DEVICE_JOURNAL_H

#include "device/boot.h"

#define JOURNAL_CELL_LEN 32u

enum journal_kind { JOURNAL_CONFIRM = 1, JOURNAL_PENDING, JOURNAL_ATTEMPT, JOURNAL_REJECT, JOURNAL_SNAPSHOT };
struct journal_state {
    uint32_t seq;
    uint8_t kind; /* enum journal_kind */
    uint8_t confirmed, pending, attempts;
    uint32_t security_counter; /* raised by CONFIRM only */
    uint8_t digest[8];
    uint8_t cause, reason; /* enum reset_cause, enum reason: of the last rejection, 0 none */
    uint16_t reject_nr;
};
struct journal {
    struct journal_state state; /* of the winner; with found = false: nothing confirmed, nothing pending */
    bool found;
    bool unsettled;     /* a torn tail, or a cell that reads differently twice: write a SNAPSHOT */
    uint8_t sector;     /* of the winner */
    uint32_t next_cell; /* in that sector; its number of cells when full */
    uint32_t torn_nr;   /* used cells without a valid record, in both sectors */
};

/* ERR_IO: flash cannot be read. */
MUST_USE enum err journal_open(struct flash *f, struct journal *j);
/* Appends `next` (its seq is chosen here) and reads it back; j is the new state then.
 *   ERR_IO  flash refuses, or four cells in a row did not hold what was written */
MUST_USE enum err journal_append(struct flash *f, struct journal *j, const struct journal_state *next);

void journal_cell_encode(const struct journal_state *s, uint8_t out[JOURNAL_CELL_LEN]);
/* ERR_VERIFY: no valid record. */
MUST_USE enum err journal_cell_decode(const uint8_t in[JOURNAL_CELL_LEN], struct journal_state *out);

#endif
