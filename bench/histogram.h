/* bench/histogram.h - counts of durations in steps of about 3 %, so that percentiles need no samples kept. */
#ifndef ROOST_BENCH_HISTOGRAM_H
#define ROOST_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_CELLS 1024

struct histogram {
    uint64_t cell[HISTOGRAM_CELLS];
};

static inline unsigned histogram_cell(uint64_t v)
{
    unsigned top = 0; /* 32 cells for each power of two */
    if (v < 32)
        return (unsigned)v;
    top = 63u - (unsigned)__builtin_clzll(v);
    unsigned c = (top - 4u) * 32u + (unsigned)(v >> (top - 5u) & 31u);
    return c < HISTOGRAM_CELLS ? c : HISTOGRAM_CELLS - 1;
}
static inline uint64_t histogram_value(unsigned cell)
{
    if (cell < 32)
        return cell;
    unsigned top = cell / 32u + 4u;
    return (32u + cell % 32u) * (1ull << (top - 5u));
}
static inline void histogram_add(struct histogram *h, uint64_t v)
{
    h->cell[histogram_cell(v)]++;
}
static inline uint64_t histogram_percentile(const struct histogram *h, double share)
{
    uint64_t nr = 0, seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_CELLS; i++)
        nr += h->cell[i];
    for (unsigned i = 0; i < HISTOGRAM_CELLS; i++) {
        seen += h->cell[i];
        if (nr && (double)seen >= share * (double)nr)
            return histogram_value(i);
    }
    return 0;
}

#endif
