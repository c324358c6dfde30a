/* base/span.h - bytes that someone else owns, and the cursors that write and read them.
 * Passed by value; valid as long as what they point into. C99, no allocation. */
#ifndef ROOST_BASE_SPAN_H
#define ROOST_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *p;
    size_t n;
};
#define SPAN(lit) ((struct span){ (const uint8_t *)("" lit), sizeof(lit) - 1 })
#define SPAN_NONE ((struct span){ NULL, 0 })

static inline struct span span_of(const void *p, size_t n)
{
    struct span s = { (const uint8_t *)p, n };
    return s;
}
static inline struct span span_str(const char *z)
{
    return span_of(z, z ? strlen(z) : 0);
}
static inline bool span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool span_starts(struct span s, struct span prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}
/* The rest after the first n bytes; n is at most s.n. (Not even nothing may be added to NULL.) */
static inline struct span span_skip(struct span s, size_t n)
{
    return span_of(n ? s.p + n : s.p, s.n - n);
}
/* ASCII case-insensitive. */
static inline bool span_ieq(struct span a, struct span b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++) {
        uint8_t x = a.p[i], y = b.p[i];
        if (x >= 'A' && x <= 'Z')
            x = (uint8_t)(x + 32);
        if (y >= 'A' && y <= 'Z')
            y = (uint8_t)(y + 32);
        if (x != y)
            return false;
    }
    return true;
}

/* Writer: counts everything, stores what fits; it overflowed if len > cap. Over no buffer it
 * measures, over a real one it writes: one piece of code for both. */
struct wr {
    uint8_t *p;
    size_t cap, len;
};
static inline bool wr_ok(const struct wr *w)
{
    return w->len <= w->cap;
}
static inline struct span wr_span(const struct wr *w)
{
    return span_of(w->p, w->len <= w->cap ? w->len : 0);
}
static inline void wr_put(struct wr *w, struct span s)
{
    if (s.n && w->len <= w->cap && s.n <= w->cap - w->len)
        memcpy(w->p + w->len, s.p, s.n);
    w->len += s.n;
}
static inline void wr_u8(struct wr *w, uint8_t v)
{
    if (w->len < w->cap)
        w->p[w->len] = v;
    w->len++;
}
static inline void wr_be16(struct wr *w, uint16_t v)
{
    wr_u8(w, (uint8_t)(v >> 8));
    wr_u8(w, (uint8_t)v);
}
static inline void wr_le16(struct wr *w, uint16_t v)
{
    wr_u8(w, (uint8_t)v);
    wr_u8(w, (uint8_t)(v >> 8));
}
static inline void wr_le32(struct wr *w, uint32_t v)
{
    wr_le16(w, (uint16_t)v);
    wr_le16(w, (uint16_t)(v >> 16));
}
static inline void wr_le64(struct wr *w, uint64_t v)
{
    wr_le32(w, (uint32_t)v);
    wr_le32(w, (uint32_t)(v >> 32));
}
static inline void wr_str(struct wr *w, const char *z)
{
    wr_put(w, span_str(z));
}
/* Decimal digits; no 64-bit division for values below 2^32, so a small chip needs no helper. */
static inline void wr_u32(struct wr *w, uint32_t v)
{
    uint8_t d[10];
    size_t n = 0;
    do {
        d[n++] = (uint8_t)('0' + v % 10u);
        v /= 10u;
    } while (v);
    while (n)
        wr_u8(w, d[--n]);
}

/* Reader: the first overrun sets `bad`, from then on it yields zeros and empty spans; the parser asks
 * once, at the end. */
struct rd {
    const uint8_t *p;
    size_t n;
    bool bad;
};
static inline struct rd rd_of(struct span s)
{
    struct rd r = { s.p, s.n, false };
    return r;
}
static inline struct span rd_take(struct rd *r, size_t n)
{
    if (r->bad || n > r->n) {
        r->bad = true;
        return SPAN_NONE;
    }
    struct span s = span_of(r->p, n);
    r->p += n;
    r->n -= n;
    return s;
}
static inline uint8_t rd_u8(struct rd *r)
{
    struct span s = rd_take(r, 1);
    return s.n ? s.p[0] : 0;
}
static inline uint16_t rd_be16(struct rd *r)
{
    struct span s = rd_take(r, 2);
    return s.n ? (uint16_t)(s.p[0] << 8 | s.p[1]) : 0;
}
static inline uint16_t rd_le16(struct rd *r)
{
    struct span s = rd_take(r, 2);
    return s.n ? (uint16_t)(s.p[1] << 8 | s.p[0]) : 0;
}
static inline uint32_t rd_le32(struct rd *r)
{
    uint32_t lo = rd_le16(r);
    return lo | (uint32_t)rd_le16(r) << 16;
}
static inline uint64_t rd_le64(struct rd *r)
{
    uint64_t lo = rd_le32(r);
    return lo | (uint64_t)rd_le32(r) << 32;
}

#endif
