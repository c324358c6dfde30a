/* device/flash_io.h - small steps over struct flash that journal, slots and configuration share. C99. */
#ifndef ROOST_DEVICE_FLASH_IO_H
#define ROOST_DEVICE_FLASH_IO_H

#include "port/flash.h"

#define FLASH_OUT_MAX 256u

static inline enum err flash_read(struct flash *f, uint32_t addr, void *out, size_t n)
{
    return f->ops->read(f, addr, (uint8_t *)out, n);
}

/* Programs any number of bytes from a multiple of 4 on, page by page; n is a multiple of 4. */
MUST_USE enum err flash_program(struct flash *f, uint32_t addr, const uint8_t *p, size_t n);
/* Erases the sectors that hold [addr, addr + n); addr is the start of one. */
MUST_USE enum err flash_erase(struct flash *f, uint32_t addr, size_t n);
/* Does flash hold exactly these bytes, twice in a row? ERR_VERIFY. */
MUST_USE enum err flash_compare(struct flash *f, uint32_t addr, const uint8_t *p, size_t n);
/* CRC-32 over [addr, addr + n). */
MUST_USE enum err flash_crc(struct flash *f, uint32_t addr, size_t n, uint32_t *crc);

/* A record written piece by piece: gathers whole pages, keeps the CRC. The first error sticks. */
struct flash_out {
    struct flash *f;
    uint32_t addr; /* where buf will go */
    uint32_t crc;
    enum err err;
    uint32_t n, page;
    uint8_t buf[FLASH_OUT_MAX];
};
void flash_out_init(struct flash_out *o, struct flash *f, uint32_t addr); /* addr: start of a page */
void flash_out_put(struct flash_out *o, struct span s);
/* Pads to a multiple of 4 with 0xFF, programs the rest, then the CRC of it all as a command of its own: the
 * record exists from that moment on. */
MUST_USE enum err flash_out_finish(struct flash_out *o);

#endif
