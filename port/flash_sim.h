/* port/flash_sim.h - NOR flash in memory that behaves like the real one, and breaks like it.
 * It enforces what a chip enforces (only 1 -> 0, one program page at a time, whole sectors erased), counts
 * wear, and can lose power before, after and inside any program or erase: a prefix of the bytes done, a
 * random subset of the bits, bits that read differently every time. For tests, the simulator, and (over a
 * file, port/flash_file.h) the agent.
 *
 * The memory holds the complement of the content: fresh zero pages are erased flash, so ten thousand
 * simulated devices cost only what they wrote. */
#ifndef ROOST_PORT_FLASH_SIM_H
#define ROOST_PORT_FLASH_SIM_H

#include "port/flash.h"

enum flash_cut {
    FLASH_CUT_NONE = 0,
    FLASH_CUT_BEFORE, /* nothing of the operation happened */
    FLASH_CUT_AFTER,  /* all of it happened, but nobody heard */
    FLASH_CUT_PREFIX, /* the first bytes: cut_bytes of them, or a random number when that is UINT32_MAX */
    FLASH_CUT_SUBSET, /* each bit that was to change did so or not */
    FLASH_CUT_WEAK,   /* the same, and some of those bits read differently every time until rewritten */
    FLASH_CUTS
};

#define FLASH_WEAK_MAX 48u
struct flash_weak {
    uint32_t addr;
    uint8_t mask; /* bits that read at random; the cell itself holds 1 there */
};

struct flash_sim {
    struct flash base; /* first: a struct flash * is what the rest of the world sees */
    uint8_t *cells;    /* complement of the content; borrowed */
    size_t len;
    uint32_t *wear;      /* erases of each sector, or NULL; borrowed */
    uint32_t ops_nr;     /* programs and erases so far, the cut one included */
    uint32_t refused_nr; /* calls against the rules: 0 -> 1, misaligned, out of bounds */
    uint32_t cut_at;     /* the operation at which ops_nr becomes this is cut; 0: none */
    uint32_t cut_bytes;  /* FLASH_CUT_PREFIX */
    uint8_t cut;         /* enum flash_cut */
    bool dead;           /* no power: every call fails until flash_sim_power_on */
    uint32_t rng;
    uint32_t weak_nr;
    struct flash_weak weak[FLASH_WEAK_MAX];
};

/* cells: len bytes, zero for erased flash. geo must lie within len. */
void flash_sim_init(struct flash_sim *s, const struct flash_geometry *geo, uint8_t *cells, size_t len,
                    uint32_t seed);
/* From now on the n-th program or erase (1: the next) is cut in this way. */
void flash_sim_cut_arm(struct flash_sim *s, uint32_t n, enum flash_cut how, uint32_t cut_bytes);
void flash_sim_power_on(struct flash_sim *s);

#endif
