/* port/flash.h - raw NOR flash as a chip has it: erase a sector to ones, program ones to zeros. C99.
 * Addresses are absolute byte offsets. Calls block until the flash is done. */
#ifndef ROOST_PORT_FLASH_H
#define ROOST_PORT_FLASH_H

#include "base/err.h"
#include "base/span.h"

/* Where everything lies; every number comes from here (mcu layout: boot loader 0, journal 0x4000, ...). */
struct flash_geometry {
    uint32_t sector_len;  /* bytes an erase clears */
    uint32_t program_len; /* bytes a program command writes at most at once; offsets are multiples of 4 */
    uint32_t journal[2];  /* two sectors */
    uint32_t config[2];   /* two sectors: identity, trust record, home */
    uint32_t spool, spool_len;
    uint32_t slot[2], slot_len;
};
struct flash {
    const struct flash_ops *ops;
    struct flash_geometry geo;
};
struct flash_ops {
    enum err (*read)(struct flash *f, uint32_t addr, uint8_t *out, size_t n);
    /* n <= program_len and within one program page; only clears bits: setting one is ERR_IO. */
    enum err (*program)(struct flash *f, uint32_t addr, const uint8_t *p, size_t n);
    enum err (*erase)(struct flash *f, uint32_t addr); /* the sector that begins at addr */
};

#endif
