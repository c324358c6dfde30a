/* core/query/value.c - values by themselves: numbers and strings as they are written, and how two compare. */
#include "base/text.h"
#include "core/query/query_impl.h"

#include <math.h>
#include <stdlib.h>

static size_t digits(struct span s, size_t i)
{
    while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9')
        i++;
    return i;
}

bool query_number(struct span s, double *out)
{
    char room[128];
    size_t from = s.n && s.p[0] == '-' ? 1 : 0, i = digits(s, from);
    if (i == from || (s.p[from] == '0' && i > from + 1) || s.n >= sizeof room)
        return false;
    if (i == s.n && i - from < 16) { /* whole and exact, by far the most common */
        double v = 0;
        for (size_t k = from; k < i; k++)
            v = v * 10 + (s.p[k] - '0');
        *out = from ? -v : v;
        return true;
    }
    if (i < s.n && s.p[i] == '.') {
        size_t at = ++i;
        if ((i = digits(s, i)) == at)
            return false;
    }
    if (i < s.n && (s.p[i] | 0x20) == 'e') {
        i++;
        if (i < s.n && (s.p[i] == '+' || s.p[i] == '-'))
            i++;
        size_t at = i;
        if ((i = digits(s, i)) == at)
            return false;
    }
    if (i != s.n)
        return false;
    memcpy(room, s.p, s.n);
    room[s.n] = 0;
    double v = strtod(room, NULL);
    if (!isfinite(v))
        return false;
    *out = v;
    return true;
}

/* Four digits behind a \u at i; UINT32_MAX: they are not there. */
static uint32_t unit_at(struct span s, size_t i)
{
    uint8_t v[2];
    if (s.n < 6 || i > s.n - 6 || s.p[i] != '\\' || s.p[i + 1] != 'u' ||
        hex_decode(span_of(s.p + i + 2, 4), v, sizeof v))
        return UINT32_MAX;
    return (uint32_t)v[0] << 8 | v[1];
}

bool query_unescape(struct wr *w, struct span raw)
{
    static const char from[] = "'\"\\/bfnrt", to[] = "'\"\\/\b\f\n\r\t";
    bool ok = true;
    for (size_t i = 0; i < raw.n; i++) {
        if (raw.p[i] != '\\') {
            wr_u8(w, raw.p[i]);
            continue;
        }
        uint8_t next = i + 1 < raw.n ? raw.p[i + 1] : 0;
        const char *known = next ? strchr(from, next) : NULL;
        uint32_t c = unit_at(raw, i);
        if (known) {
            wr_u8(w, (uint8_t)to[known - from]);
            i++;
        } else if (c != UINT32_MAX) {
            i += 5;
            uint32_t low = c >= 0xd800 && c <= 0xdbff ? unit_at(raw, i + 1) : 0;
            if (low >= 0xdc00 && low <= 0xdfff) {
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                i += 6;
            } else if (c >= 0xd800 && c <= 0xdfff) {
                c = 0xfffd; /* half a pair */
            }
            utf8_encode(w, c);
        } else {
            wr_u8(w, '\\');
            ok = false;
        }
    }
    return ok;
}

/* Same bytes order as the same code points: UTF-8. */
static int string_order(struct span a, struct span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

bool query_compare(const struct query_value *a, const struct query_value *b, int *order)
{
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case QUERY_NULL:
        *order = 0;
        return true;
    case QUERY_BOOL:
        *order = (int)a->b - (int)b->b;
        return true;
    case QUERY_NUMBER:
        *order = (a->num > b->num) - (a->num < b->num);
        return true;
    case QUERY_STRING:
        *order = (a->nocase || b->nocase) && span_ieq(a->s, b->s) ? 0 : string_order(a->s, b->s);
        return true;
    default:
        return false;
    }
}
