/* base/text.c - the text forms of text.h: hex, base64, percent encoding, decimals, ISO 8601. */
#include "base/text.h"

void hex_encode(struct wr *w, struct span bytes)
{
    for (size_t i = 0; i < bytes.n; i++) {
        wr_u8(w, (uint8_t) "0123456789abcdef"[bytes.p[i] >> 4]);
        wr_u8(w, (uint8_t) "0123456789abcdef"[bytes.p[i] & 15]);
    }
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

enum err hex_decode(struct span text, uint8_t *out, size_t out_len)
{
    if (text.n != 2 * out_len)
        return ERR_PROTO;
    for (size_t i = 0; i < text.n; i++)
        if (hex_value(text.p[i]) < 0)
            return ERR_PROTO;
    for (size_t i = 0; i < out_len; i++)
        out[i] = (uint8_t)((unsigned)hex_value(text.p[2 * i]) * 16u + (unsigned)hex_value(text.p[2 * i + 1]));
    return ERR_OK;
}

void base64_encode(struct wr *w, struct span bytes)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes.n; i += 3) {
        size_t left = bytes.n - i;
        uint32_t v = (uint32_t)bytes.p[i] << 16;
        if (left > 1)
            v |= (uint32_t)bytes.p[i + 1] << 8;
        if (left > 2)
            v |= bytes.p[i + 2];
        wr_u8(w, (uint8_t)alphabet[v >> 18]);
        wr_u8(w, (uint8_t)alphabet[v >> 12 & 63]);
        wr_u8(w, left > 1 ? (uint8_t)alphabet[v >> 6 & 63] : '=');
        wr_u8(w, left > 2 ? (uint8_t)alphabet[v & 63] : '=');
    }
}

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

enum err base64_decode(struct span text, uint8_t *out, size_t out_cap, size_t *out_len)
{
    size_t n = text.n;
    if (n % 4 == 0)
        for (int k = 0; k < 2 && n && text.p[n - 1] == '='; k++)
            n--;
    if (n % 4 == 1)
        return ERR_PROTO;
    for (size_t i = 0; i < n; i++)
        if (base64_value(text.p[i]) < 0)
            return ERR_PROTO;
    size_t len = n / 4 * 3 + (n % 4 ? n % 4 - 1 : 0);
    if (len > out_cap)
        return ERR_LIMIT;
    uint32_t acc = 0;
    size_t bits = 0, o = 0;
    for (size_t i = 0; i < n; i++) {
        acc = acc << 6 | (uint32_t)base64_value(text.p[i]);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[o++] = (uint8_t)(acc >> bits);
        }
    }
    *out_len = len;
    return ERR_OK;
}

void percent_encode(struct wr *w, struct span bytes)
{
    for (size_t i = 0; i < bytes.n; i++) {
        uint8_t c = bytes.p[i];
        if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
            c == '_' || c == '.' || c == '~') {
            wr_u8(w, c);
        } else {
            wr_u8(w, '%');
            wr_u8(w, (uint8_t) "0123456789ABCDEF"[c >> 4]);
            wr_u8(w, (uint8_t) "0123456789ABCDEF"[c & 15]);
        }
    }
}

void percent_decode(struct wr *w, struct span text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '%' && i + 2 < text.n && hex_value(text.p[i + 1]) >= 0 &&
            hex_value(text.p[i + 2]) >= 0) {
            wr_u8(w,
                  (uint8_t)((unsigned)hex_value(text.p[i + 1]) * 16u + (unsigned)hex_value(text.p[i + 2])));
            i += 2;
        } else {
            wr_u8(w, text.p[i]);
        }
    }
}

enum err u64_parse(struct span text, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (!text.n)
        return ERR_PROTO;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return ERR_PROTO;
        uint8_t d = (uint8_t)(text.p[i] - '0');
        if (v > (UINT64_MAX - d) / 10)
            return ERR_LIMIT;
        v = v * 10 + d;
    }
    if (v > max)
        return ERR_LIMIT;
    *out = v;
    return ERR_OK;
}

/* Days since 1970-01-01 and back (proleptic Gregorian; years counted from March, eras of 400 years). */
static int64_t days_from_civil(int64_t y, unsigned m, unsigned d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    unsigned yoe = (unsigned)(y - era * 400);
    unsigned doy = (153 * (m + (m > 2 ? -3u : 9u)) + 2) / 5 + d - 1;
    unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + (int64_t)doe - 719468;
}

static void digits(struct wr *w, uint64_t v, unsigned width)
{
    uint8_t d[20];
    for (unsigned i = width; i > 0; i--, v /= 10)
        d[i - 1] = (uint8_t)('0' + v % 10);
    wr_put(w, span_of(d, width));
}

void iso8601_encode(struct wr *w, uint64_t wall_ms)
{
    uint64_t secs = wall_ms / 1000;
    int64_t z = (int64_t)(secs / 86400) + 719468;
    int64_t era = z / 146097;
    unsigned doe = (unsigned)(z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;
    unsigned month = mp < 10 ? mp + 3 : mp - 9;
    digits(w, (uint64_t)(era * 400) + yoe + (month <= 2), 4);
    wr_u8(w, '-');
    digits(w, month, 2);
    wr_u8(w, '-');
    digits(w, doy - (153 * mp + 2) / 5 + 1, 2);
    wr_u8(w, 'T');
    digits(w, secs / 3600 % 24, 2);
    wr_u8(w, ':');
    digits(w, secs / 60 % 60, 2);
    wr_u8(w, ':');
    digits(w, secs % 60, 2);
    wr_u8(w, '.');
    digits(w, wall_ms % 1000, 3);
    wr_str(w, "0000Z");
}

static unsigned rd_digits(struct rd *r, size_t n)
{
    struct span s = rd_take(r, n);
    unsigned v = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            r->bad = true;
        v = v * 10 + (unsigned)(s.p[i] - '0');
    }
    return v;
}

static void rd_expect(struct rd *r, uint8_t c)
{
    if (rd_u8(r) != c)
        r->bad = true;
}

enum err iso8601_decode(struct span text, uint64_t *wall_ms)
{
    static const uint8_t month_days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    struct rd r = rd_of(text);
    unsigned year = rd_digits(&r, 4);
    rd_expect(&r, '-');
    unsigned month = rd_digits(&r, 2);
    rd_expect(&r, '-');
    unsigned day = rd_digits(&r, 2);
    rd_expect(&r, 'T');
    unsigned hour = rd_digits(&r, 2);
    rd_expect(&r, ':');
    unsigned minute = rd_digits(&r, 2);
    rd_expect(&r, ':');
    unsigned second = rd_digits(&r, 2);
    uint8_t c = rd_u8(&r);
    unsigned ms = 0, n = 0;
    if (c == '.') {
        for (c = rd_u8(&r); c >= '0' && c <= '9' && n < 9; c = rd_u8(&r), n++)
            if (n < 3)
                ms = ms * 10 + (unsigned)(c - '0');
        if (!n)
            return ERR_PROTO;
        for (unsigned k = n; k < 3; k++)
            ms *= 10;
    }
    int64_t offset = 0;
    if (c == '+' || c == '-') {
        unsigned oh = rd_digits(&r, 2);
        rd_expect(&r, ':');
        unsigned om = rd_digits(&r, 2);
        if (oh > 14 || om > 59)
            return ERR_PROTO;
        offset = (int64_t)(oh * 60 + om) * (c == '+' ? 60 : -60);
    } else if (c != 'Z') {
        return ERR_PROTO;
    }
    if (r.bad || r.n || month < 1 || month > 12 || day < 1 || day > month_days[month - 1] || hour > 23 ||
        minute > 59 || second > 60)
        return ERR_PROTO;
    int64_t secs =
        days_from_civil(year, month, day) * 86400 + (int64_t)(hour * 3600 + minute * 60 + second) - offset;
    if (secs < 0)
        return ERR_PROTO;
    *wall_ms = (uint64_t)secs * 1000 + ms;
    return ERR_OK;
}

void u64_encode(struct wr *w, uint64_t v)
{
    uint8_t d[20];
    size_t n = sizeof d;
    if (v <= UINT32_MAX) { /* a small chip divides 64 bits by a function of its own */
        wr_u32(w, (uint32_t)v);
        return;
    }
    for (; v; v /= 10)
        d[--n] = (uint8_t)('0' + v % 10);
    wr_put(w, span_of(d + n, sizeof d - n));
}

void utf8_encode(struct wr *w, uint32_t c)
{
    if (c < 0x80) {
        wr_u8(w, (uint8_t)c);
    } else if (c < 0x800) {
        wr_u8(w, (uint8_t)(0xc0 | c >> 6));
        wr_u8(w, (uint8_t)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        wr_u8(w, (uint8_t)(0xe0 | c >> 12));
        wr_u8(w, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        wr_u8(w, (uint8_t)(0x80 | (c & 0x3f)));
    } else {
        wr_u8(w, (uint8_t)(0xf0 | c >> 18));
        wr_u8(w, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        wr_u8(w, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        wr_u8(w, (uint8_t)(0x80 | (c & 0x3f)));
    }
}

bool span_eq_ct(struct span a, struct span b)
{
    uint8_t d = 0;
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        d |= (uint8_t)(a.p[i] ^ b.p[i]);
    return d == 0;
}

void uuid_encode(const uint8_t random[16], char out[37])
{
    struct wr w = { (uint8_t *)out, 36, 0 };
    for (size_t i = 0; i < 16; i++) {
        uint8_t b = random[i];
        if (i == 6)
            b = (uint8_t)((b & 0x0f) | 0x40);
        if (i == 8)
            b = (uint8_t)((b & 0x3f) | 0x80);
        if (i == 4 || i == 6 || i == 8 || i == 10)
            wr_u8(&w, '-');
        hex_encode(&w, span_of(&b, 1));
    }
    out[36] = 0;
}

struct span span_trim(struct span s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = span_skip(s, 1);
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}
