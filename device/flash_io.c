/* device/flash_io.c - pages, sectors and CRCs over struct flash. C99. */
#include "device/flash_io.h"

#include "base/crc32.h"

enum err flash_program(struct flash *f, uint32_t addr, const uint8_t *p, size_t n)
{
    uint32_t page = f->geo.program_len;
    while (n) {
        size_t room = page - (addr & (page - 1)), part = n < room ? n : room;
        enum err e = f->ops->program(f, addr, p, part);
        if (e)
            return e;
        addr += (uint32_t)part;
        p += part;
        n -= part;
    }
    return ERR_OK;
}

enum err flash_erase(struct flash *f, uint32_t addr, size_t n)
{
    for (uint32_t at = addr; at < addr + n; at += f->geo.sector_len) {
        enum err e = f->ops->erase(f, at);
        if (e)
            return e;
    }
    return ERR_OK;
}

enum err flash_compare(struct flash *f, uint32_t addr, const uint8_t *p, size_t n)
{
    uint8_t buf[64];
    for (int pass = 0; pass < 2; pass++)
        for (size_t at = 0; at < n; at += sizeof buf) {
            size_t part = n - at < sizeof buf ? n - at : sizeof buf;
            enum err e = flash_read(f, addr + (uint32_t)at, buf, part);
            if (e)
                return e;
            if (memcmp(buf, p + at, part) != 0)
                return ERR_VERIFY;
        }
    return ERR_OK;
}

enum err flash_crc(struct flash *f, uint32_t addr, size_t n, uint32_t *crc)
{
    uint8_t buf[64];
    uint32_t sum = 0;
    while (n) {
        size_t part = n < sizeof buf ? n : sizeof buf;
        enum err e = flash_read(f, addr, buf, part);
        if (e)
            return e;
        sum = crc32_update(sum, span_of(buf, part));
        addr += (uint32_t)part;
        n -= part;
    }
    *crc = sum;
    return ERR_OK;
}

void flash_out_init(struct flash_out *o, struct flash *f, uint32_t addr)
{
    o->f = f;
    o->addr = addr;
    o->crc = 0;
    o->err = ERR_OK;
    o->n = 0;
    o->page = f->geo.program_len < FLASH_OUT_MAX ? f->geo.program_len : FLASH_OUT_MAX;
}

static void out_flush(struct flash_out *o)
{
    if (o->n && !o->err) {
        o->crc = crc32_update(o->crc, span_of(o->buf, o->n));
        o->err = flash_program(o->f, o->addr, o->buf, o->n);
        o->addr += o->n;
    }
    o->n = 0;
}

void flash_out_put(struct flash_out *o, struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        o->buf[o->n++] = s.p[i];
        if (o->n == o->page)
            out_flush(o);
    }
}

enum err flash_out_finish(struct flash_out *o)
{
    uint8_t crc[4];
    struct wr w = { crc, sizeof crc, 0 };
    while (o->n & 3u)
        o->buf[o->n++] = 0xff;
    out_flush(o);
    wr_le32(&w, o->crc);
    if (!o->err)
        o->err = flash_program(o->f, o->addr, crc, sizeof crc);
    return o->err;
}
