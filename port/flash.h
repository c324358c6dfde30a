/* port/flash.h - raw NOR flash as a chip has it: erase a sector to ones, program ones to zeros. C99.
 * Addresses are absolute byte offsets. Calls block until the flash is done. */
#ifndef ROOST_PORT_FLASH_H
#define ROOST_PORT_FLASH_H

#include "base/err.h"
#include "base/span.h"

/* Where everything lies; every number comes from here (mcu layout: boot loader 0, journal 0x4000, ...).
 * sector_len and program_len are powers of two, program_len <= sector_len; regions begin on a sector. */
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
    /* n <= program_len, a multiple of 4, within one program page; only clears bits: setting one is ERR_IO.
     */
    enum err (*program)(struct flash *f, uint32_t addr, const uint8_t *p, size_t n);
    enum err (*erase)(struct flash *f, uint32_t addr); /* the sector that begins at addr */
};

/* The layout of docs/device.md for any sector size: four sectors of boot loader, two of journal, two of
 * configuration, eight of spool, then the slots one behind the other. Returns the bytes it takes in all.
 * With 4 KB sectors it is the layout of a 4 MB chip but for the start of slot B. */
static inline uint32_t flash_geometry_layout(struct flash_geometry *g, uint32_t sector_len,
                                             uint32_t program_len, uint32_t slot_len)
{
    g->sector_len = sector_len;
    g->program_len = program_len;
    g->journal[0] = 4 * sector_len;
    g->journal[1] = 5 * sector_len;
    g->config[0] = 6 * sector_len;
    g->config[1] = 7 * sector_len;
    g->spool = 8 * sector_len;
    g->spool_len = 8 * sector_len;
    g->slot[0] = 16 * sector_len;
    g->slot[1] = g->slot[0] + slot_len;
    g->slot_len = slot_len;
    return g->slot[1] + slot_len;
}
/* A 4 MB ESP8266: slot B lies at the same offset within its megabyte as slot A, because the cache window
 * maps one megabyte at a time; the last 20 KB are the vendor's. */
static inline void flash_geometry_esp8266(struct flash_geometry *g)
{
    (void)flash_geometry_layout(g, 4096, 256, 960 * 1024);
    g->slot[1] = 0x110000;
}

#endif
