/* port/posix/flash_sim.c - the NOR flash model of port/flash_sim.h. */
#include "port/flash_sim.h"

#include <assert.h>

static uint32_t sim_random(struct flash_sim *s)
{
    uint32_t x = s->rng;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return s->rng = x;
}

static uint8_t sim_peek(const struct flash_sim *s, uint32_t addr)
{
    return (uint8_t)~s->cells[addr];
}

static void sim_weak_add(struct flash_sim *s, uint32_t addr, uint8_t mask)
{
    if (!mask || s->weak_nr == FLASH_WEAK_MAX)
        return;
    s->weak[s->weak_nr].addr = addr;
    s->weak[s->weak_nr].mask = mask;
    s->weak_nr++;
}

static enum err sim_refuse(struct flash_sim *s)
{
    s->refused_nr++;
    return ERR_IO;
}

static enum err sim_read(struct flash *f, uint32_t addr, uint8_t *out, size_t n)
{
    struct flash_sim *s = (struct flash_sim *)(void *)f;
    if (s->dead)
        return ERR_IO;
    if (addr > s->len || n > s->len - addr)
        return sim_refuse(s);
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)~s->cells[addr + i];
    for (uint32_t i = 0; i < s->weak_nr; i++) {
        uint32_t a = s->weak[i].addr;
        if (a >= addr && a - addr < n)
            out[a - addr] = (uint8_t)(out[a - addr] & ~(s->weak[i].mask & sim_random(s)));
    }
    return ERR_OK;
}

/* Is this the operation that loses power? */
static bool sim_is_cut(struct flash_sim *s)
{
    s->ops_nr++;
    return s->cut_at && s->ops_nr == s->cut_at;
}

static void sim_clear_bits(struct flash_sim *s, uint32_t addr, uint8_t bits)
{
    s->cells[addr] |= bits;
}

static void sim_program_cut(struct flash_sim *s, uint32_t addr, const uint8_t *p, size_t n)
{
    size_t whole = 0;
    if (s->cut == FLASH_CUT_AFTER)
        whole = n;
    else if (s->cut == FLASH_CUT_PREFIX)
        whole = s->cut_bytes == UINT32_MAX ? sim_random(s) % (n + 1) : s->cut_bytes < n ? s->cut_bytes : n;
    for (size_t i = 0; i < n; i++) {
        uint8_t meant = (uint8_t)(sim_peek(s, addr + (uint32_t)i) & ~p[i]);
        if (i < whole) {
            sim_clear_bits(s, addr + (uint32_t)i, meant);
        } else if (s->cut == FLASH_CUT_SUBSET || s->cut == FLASH_CUT_WEAK) {
            uint8_t done = (uint8_t)(meant & sim_random(s));
            sim_clear_bits(s, addr + (uint32_t)i, done);
            if (s->cut == FLASH_CUT_WEAK && sim_random(s) % 3u == 0)
                sim_weak_add(s, addr + (uint32_t)i, (uint8_t)(meant & ~done));
        }
    }
}

static enum err sim_program(struct flash *f, uint32_t addr, const uint8_t *p, size_t n)
{
    struct flash_sim *s = (struct flash_sim *)(void *)f;
    uint32_t page = s->base.geo.program_len;
    if (s->dead)
        return ERR_IO;
    if (n == 0 || n > page || addr % 4 || n % 4 || addr > s->len || n > s->len - addr ||
        addr / page != (addr + n - 1) / page)
        return sim_refuse(s);
    for (size_t i = 0; i < n; i++)
        if (p[i] & ~sim_peek(s, addr + (uint32_t)i))
            return sim_refuse(s);
    if (sim_is_cut(s)) {
        sim_program_cut(s, addr, p, n);
        s->dead = true;
        return ERR_IO;
    }
    for (size_t i = 0; i < n; i++)
        sim_clear_bits(s, addr + (uint32_t)i, (uint8_t)~p[i]);
    for (uint32_t i = 0; i < s->weak_nr; i++) { /* a bit that was programmed now holds */
        uint32_t a = s->weak[i].addr;
        if (a >= addr && a - addr < n)
            s->weak[i].mask &= p[a - addr];
    }
    return ERR_OK;
}

static void sim_erase_cut(struct flash_sim *s, uint32_t addr)
{
    uint32_t n = s->base.geo.sector_len, whole = 0;
    if (s->cut == FLASH_CUT_AFTER)
        whole = n;
    else if (s->cut == FLASH_CUT_PREFIX)
        whole = s->cut_bytes == UINT32_MAX ? sim_random(s) % (n + 1) : s->cut_bytes < n ? s->cut_bytes : n;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t low = s->cells[addr + i]; /* bits that are 0 */
        if (i < whole) {
            s->cells[addr + i] = 0;
        } else if (s->cut == FLASH_CUT_SUBSET || s->cut == FLASH_CUT_WEAK) {
            uint8_t done = (uint8_t)(low & sim_random(s));
            s->cells[addr + i] = (uint8_t)(low & ~done);
            if (s->cut == FLASH_CUT_WEAK && sim_random(s) % 97u == 0)
                sim_weak_add(s, addr + i, done);
        }
    }
}

static enum err sim_erase(struct flash *f, uint32_t addr)
{
    struct flash_sim *s = (struct flash_sim *)(void *)f;
    uint32_t n = s->base.geo.sector_len;
    if (s->dead)
        return ERR_IO;
    if (addr % n || addr > s->len || n > s->len - addr)
        return sim_refuse(s);
    if (s->wear)
        s->wear[addr / n]++;
    bool is_cut = sim_is_cut(s);
    if (!is_cut || s->cut != FLASH_CUT_BEFORE) {
        uint32_t kept = 0; /* whatever was weak in this sector is forgotten: an erase rewrites it */
        for (uint32_t i = 0; i < s->weak_nr; i++)
            if (s->weak[i].addr < addr || s->weak[i].addr - addr >= n)
                s->weak[kept++] = s->weak[i];
        s->weak_nr = kept;
    }
    if (is_cut) {
        sim_erase_cut(s, addr);
        s->dead = true;
        return ERR_IO;
    }
    memset(s->cells + addr, 0, n);
    return ERR_OK;
}

static const struct flash_ops sim_ops = { sim_read, sim_program, sim_erase };

void flash_sim_init(struct flash_sim *s, const struct flash_geometry *geo, uint8_t *cells, size_t len,
                    uint32_t seed)
{
    assert(geo->slot[1] <= len && geo->slot_len <= len - geo->slot[1] && len <= UINT32_MAX);
    struct flash_geometry kept = *geo; /* may be our own */
    memset(s, 0, sizeof *s);
    s->base.ops = &sim_ops;
    s->base.geo = kept;
    s->cells = cells;
    s->len = len;
    s->rng = seed * 2654435761u + 0x9e3779b9u;
    if (!s->rng)
        s->rng = 1;
}

void flash_sim_cut_arm(struct flash_sim *s, uint32_t n, enum flash_cut how, uint32_t cut_bytes)
{
    s->cut_at = how == FLASH_CUT_NONE ? 0 : s->ops_nr + n;
    s->cut = (uint8_t)how;
    s->cut_bytes = cut_bytes;
}

void flash_sim_power_on(struct flash_sim *s)
{
    s->dead = false;
    s->cut_at = 0;
}
