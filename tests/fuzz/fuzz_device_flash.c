/* tests/fuzz/fuzz_device_flash.c - a device is switched on with any content in its flash: whatever lies in
 * the journal, the configuration pair and the slots, it starts, keeps the rules of the flash, and never takes
 * an unsigned image for its own. Input: records [where u8][offset u16][length u8][bytes]; the top bit of
 * `where` asks for matching CRCs. */
#include "device/config.h"
#include "device/dev.h"
#include "device/journal.h"
#include "device/slot.h"

#include "base/crc32.h"
#include "port/crypto.h"
#include "port/flash_sim.h"

#include <assert.h>

#define SECTOR 4096u

static uint8_t cells[16 * SECTOR + 2 * 8 * SECTOR];
static struct roost_dev dev;
static uint8_t chunk[4096], page[1024], packet[1024];

static void no_random(uint8_t *out, size_t n)
{
    memset(out, 0, n); /* also: every boot is one that checks everything */
}

static void put(struct flash_sim *s, uint32_t addr, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n && addr + i < s->len; i++)
        cells[addr + i] = (uint8_t)~p[i];
}

static uint32_t crc_of(uint32_t addr, uint32_t n)
{
    uint32_t crc = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t b = (uint8_t)~cells[addr + i];
        crc = crc32_update(crc, span_of(&b, 1));
    }
    return crc;
}

static void put_crc(struct flash_sim *s, uint32_t addr, uint32_t n)
{
    uint8_t b[4];
    struct wr w = { b, sizeof b, 0 };
    wr_le32(&w, crc_of(addr, n));
    put(s, addr + n, b, sizeof b);
}

static uint32_t le32_at(uint32_t addr)
{
    uint8_t b[4];
    for (uint32_t i = 0; i < 4; i++)
        b[i] = (uint8_t)~cells[addr + i];
    struct rd r = rd_of(span_of(b, sizeof b));
    return rd_le32(&r);
}

static void fix_crcs(struct flash_sim *s)
{
    const struct flash_geometry *g = &s->base.geo;
    for (int i = 0; i < 2; i++) {
        uint32_t n = le32_at(g->config[i] + 8);
        for (uint32_t at = 0; at < SECTOR; at += JOURNAL_CELL_LEN)
            if (le32_at(g->journal[i] + at) != 0xffffffffu)
                put_crc(s, g->journal[i] + at, JOURNAL_CELL_LEN - 4);
        if (n < SECTOR - 300)
            put_crc(s, g->config[i], (12 + n + 3) & ~3u);
        put_crc(s, g->slot[i], SLOT_HEADER_LEN - 4);
        uint32_t tail = g->slot[i] + g->slot_len - slot_tail_len(g);
        put_crc(s, tail, (8 + (le32_at(tail + 4) & 0x3ffu) + 3) & ~3u);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct roost_dev_config cfg = { .bootstrap_url = { (const uint8_t *)"https://h", 9 },
                                                 .product = { (const uint8_t *)"p", 1 } };
    struct roost_dev_mem mem = { chunk, page, packet, sizeof chunk, sizeof page, sizeof packet };
    struct crypto_ops crypto = port_crypto;
    struct roost_dev_port port = { &crypto, NULL, NULL, NULL, NULL, NULL };
    struct flash_geometry geo;
    struct flash_sim sim;
    struct boot_result boot;
    struct roost_dev_exchange x;
    struct rd r = rd_of(span_of(data, size));
    bool fix = false;
    uint32_t len = flash_geometry_layout(&geo, SECTOR, 256, 8 * SECTOR);
    memset(cells, 0, sizeof cells);
    crypto.random = no_random;
    flash_sim_init(&sim, &geo, cells, len, 1);
    while (!r.bad && r.n >= 4) {
        uint8_t where = rd_u8(&r);
        uint32_t offset = rd_le16(&r);
        struct span s = rd_take(&r, rd_u8(&r));
        uint32_t base[8] = { geo.journal[0],
                             geo.journal[1],
                             geo.config[0],
                             geo.config[1],
                             geo.slot[0],
                             geo.slot[1],
                             geo.slot[0] + geo.slot_len - SECTOR,
                             geo.slot[1] + geo.slot_len - SECTOR };
        fix |= where & 0x80;
        put(&sim, base[where & 7] + offset % SECTOR, s.p, s.n);
    }
    if (fix)
        fix_crcs(&sim);
    for (int i = 0; i < 3; i++) {
        enum err e = boot_run(&sim.base, &crypto, i ? RESET_WATCHDOG : RESET_POWER, &boot);
        assert(e == ERR_OK);
        assert(!boot.trial); /* that would need a signature */
        e = roost_dev_init(&dev, &cfg, &sim.base, &mem, &port, &boot, 1000, 1795294710);
        assert(e == ERR_OK);
        for (int turn = 0; turn < 3; turn++) {
            roost_dev_tick(&dev, 1000 + (uint64_t)turn * 60000);
            if (roost_dev_exchange(&dev, &x))
                roost_dev_exchange_end(&dev, x.id, ROOST_DEV_UNREACHABLE, 1000 + (uint64_t)turn * 60000);
        }
    }
    assert(sim.refused_nr == 0); /* no bit was ever to go from 0 to 1 */
    return 0;
}
