/* core/json/json.c - the reader of json.h: jsmn finds the tokens, this checks and unescapes them. */
#define ROOST_JSON_C
#include "core/json/json.h"

#include "base/text.h"

#include <limits.h>

#define TEXT_MAX (1u << 20)

struct span json_raw(const struct json *j, int value)
{
    const jsmntok_t *t = &j->tok[value];
    return span_of(j->text.p + t->start, (size_t)(t->end - t->start));
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static size_t digits(struct span s, size_t i)
{
    while (i < s.n && is_digit(s.p[i]))
        i++;
    return i;
}

/* RFC 8259 section 6; jsmn looks at the first character only. */
static bool number_is_valid(struct span s)
{
    size_t i = s.n && s.p[0] == '-' ? 1 : 0, from = i;
    i = digits(s, i);
    if (i == from || (s.p[from] == '0' && i > from + 1))
        return false;
    if (i < s.n && s.p[i] == '.') {
        from = ++i;
        i = digits(s, i);
        if (i == from)
            return false;
    }
    if (i < s.n && (s.p[i] == 'e' || s.p[i] == 'E')) {
        i++;
        if (i < s.n && (s.p[i] == '+' || s.p[i] == '-'))
            i++;
        from = i;
        i = digits(s, i);
        if (i == from)
            return false;
    }
    return i == s.n;
}

static bool primitive_is_valid(struct span s)
{
    return span_eq(s, SPAN("true")) || span_eq(s, SPAN("false")) || span_eq(s, SPAN("null")) ||
           number_is_valid(s);
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Is there exactly `sep` between two places, spaces aside? 0: nothing at all. */
static bool separated(struct span text, int from, int to, uint8_t sep)
{
    bool seen = false;
    for (int i = from; i < to; i++) {
        uint8_t c = text.p[i];
        if (is_space(c))
            continue;
        if (!sep || seen || c != sep)
            return false;
        seen = true;
    }
    return seen || !sep;
}

/* Where a token ends in the text, its closing quote included. */
static int end_of(const jsmntok_t *t)
{
    return t->type == JSMN_STRING ? t->end + 1 : t->end;
}
static int start_of(const jsmntok_t *t)
{
    return t->type == JSMN_STRING ? t->start - 1 : t->start;
}

/* The token behind the whole subtree of i. Tokens are in text order. */
static int after(const struct json *j, int i)
{
    int end = j->tok[i].end;
    int k = i + 1;
    while (k < j->nr && j->tok[k].start < end)
        k++;
    return k;
}

/* What jsmn lets pass and JSON does not: commas and colons in wrong places, keys that are no strings or have
 * no value. Checks what stands between the tokens. */
static bool container_is_valid(const struct json *j, int parent)
{
    const jsmntok_t *p = &j->tok[parent];
    int end = p->end - 1, at = p->start + 1, i = parent + 1; /* between the brackets */
    bool first = true;
    while (i < j->nr && j->tok[i].start < end) {
        if (!separated(j->text, at, start_of(&j->tok[i]), first ? 0 : ','))
            return false;
        first = false;
        if (p->type == JSMN_OBJECT) {
            if (j->tok[i].type != JSMN_STRING || j->tok[i].size != 1 || i + 1 >= j->nr)
                return false;
            if (j->tok[i + 1].start >= end ||
                !separated(j->text, end_of(&j->tok[i]), start_of(&j->tok[i + 1]), ':'))
                return false;
            i++;
        }
        at = end_of(&j->tok[i]);
        i = after(j, i);
    }
    return separated(j->text, at, end, 0);
}

enum err json_parse(struct json *j, struct span text, jsmntok_t *tok, size_t cap)
{
    jsmn_parser p;
    if (text.n > TEXT_MAX || cap > INT_MAX)
        return ERR_LIMIT;
    if (text.n && memchr(text.p, 0, text.n))
        return ERR_PROTO; /* jsmn would stop there and call it the end */
    jsmn_init(&p);
    int nr = jsmn_parse(&p, (const char *)text.p, text.n, tok, (unsigned)cap);
    if (nr == JSMN_ERROR_NOMEM)
        return ERR_LIMIT;
    if (nr < 1)
        return ERR_PROTO;
    struct json got = { text, tok, nr };
    for (int i = 0; i < nr; i++) {
        if (tok[i].type == JSMN_PRIMITIVE && !primitive_is_valid(json_raw(&got, i)))
            return ERR_PROTO;
        if ((tok[i].type == JSMN_OBJECT || tok[i].type == JSMN_ARRAY) && !container_is_valid(&got, i))
            return ERR_PROTO;
        if (tok[i].parent < 0 && i > 0)
            return ERR_PROTO; /* a second value */
    }
    if (!separated(text, 0, start_of(&tok[0]), 0) || !separated(text, end_of(&tok[0]), (int)text.n, 0))
        return ERR_PROTO;
    *j = got;
    return ERR_OK;
}

bool json_each(const struct json *j, int parent, int *it, int *key, int *value)
{
    const jsmntok_t *p = &j->tok[parent];
    int i = *it ? *it : parent + 1;
    if ((p->type != JSMN_OBJECT && p->type != JSMN_ARRAY) || i >= j->nr || j->tok[i].start >= p->end)
        return false;
    if (p->type == JSMN_OBJECT) {
        if (key)
            *key = i;
        i++;
    } else if (key) {
        *key = -1;
    }
    *value = i;
    *it = after(j, i);
    return true;
}

static int hex4(const uint8_t *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = p[i], low = c | 0x20;
        v = v << 4 | (is_digit(c) ? c - '0' : low - 'a' + 10); /* jsmn has seen that they are digits */
    }
    return v;
}

/* Unescapes `raw` into w. ERR_PROTO: half a surrogate pair. */
static enum err unescape(struct wr *w, struct span raw)
{
    for (size_t i = 0; i < raw.n; i++) {
        if (raw.p[i] != '\\') {
            wr_u8(w, raw.p[i]);
            continue;
        }
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char *known = strchr(from, raw.p[++i]);
        if (known) {
            wr_u8(w, (uint8_t)to[known - from]);
            continue;
        }
        uint32_t c = (uint32_t)hex4(raw.p + i + 1); /* 'u': jsmn knows no other */
        i += 4;
        if (c >= 0xdc00 && c <= 0xdfff)
            return ERR_PROTO;
        if (c >= 0xd800 && c <= 0xdbff) {
            if (raw.n - i < 7 || raw.p[i + 1] != '\\' || raw.p[i + 2] != 'u')
                return ERR_PROTO;
            uint32_t low = (uint32_t)hex4(raw.p + i + 3);
            if (low < 0xdc00 || low > 0xdfff)
                return ERR_PROTO;
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            i += 6;
        }
        utf8_encode(w, c);
    }
    return ERR_OK;
}

enum err json_str(const struct json *j, int value, struct wr *mem, struct span *out)
{
    if (j->tok[value].type != JSMN_STRING)
        return ERR_PROTO;
    struct span raw = json_raw(j, value);
    if (!raw.n || !memchr(raw.p, '\\', raw.n)) {
        *out = raw;
        return ERR_OK;
    }
    size_t before = mem->len;
    enum err e = unescape(mem, raw);
    if (!e && !wr_ok(mem))
        e = ERR_LIMIT;
    if (e) {
        mem->len = before;
        return e;
    }
    *out = span_of(mem->p + before, mem->len - before);
    return ERR_OK;
}

/* Compares a key that may be escaped, without memory of a fixed size for it. */
static bool key_is(const struct json *j, int key, struct span name)
{
    struct span raw = json_raw(j, key);
    if (!raw.n || !memchr(raw.p, '\\', raw.n))
        return span_eq(raw, name);
    uint8_t room[64]; /* longer than any member name we ask for */
    struct wr w = { room, sizeof room, 0 };
    return !unescape(&w, raw) && wr_ok(&w) && span_eq(wr_span(&w), name);
}

enum err json_member(const struct json *j, int object, const char *name, int *value)
{
    int it = 0, key, v;
    if (j->tok[object].type != JSMN_OBJECT)
        return ERR_PROTO;
    while (json_each(j, object, &it, &key, &v))
        if (key_is(j, key, span_str(name))) {
            *value = v;
            return ERR_OK;
        }
    return ERR_NOTFOUND;
}

bool json_is_null(const struct json *j, int value)
{
    return j->tok[value].type == JSMN_PRIMITIVE && span_eq(json_raw(j, value), SPAN("null"));
}

bool json_is_object(const struct json *j, int value)
{
    return j->tok[value].type == JSMN_OBJECT;
}

enum err json_u64(const struct json *j, int value, uint64_t max, uint64_t *out)
{
    if (j->tok[value].type != JSMN_PRIMITIVE)
        return ERR_PROTO;
    return u64_parse(json_raw(j, value), max, out);
}

enum err json_bool(const struct json *j, int value, bool *out)
{
    struct span raw = json_raw(j, value);
    bool yes = span_eq(raw, SPAN("true"));
    if (j->tok[value].type != JSMN_PRIMITIVE || (!yes && !span_eq(raw, SPAN("false"))))
        return ERR_PROTO;
    *out = yes;
    return ERR_OK;
}

enum err json_get_string(const struct json *j, int object, const char *name, struct wr *mem, struct span *out)
{
    int v;
    enum err e = json_member(j, object, name, &v);
    return e ? e : json_str(j, v, mem, out);
}

enum err json_get_u64(const struct json *j, int object, const char *name, uint64_t max, uint64_t *out)
{
    int v;
    enum err e = json_member(j, object, name, &v);
    return e ? e : json_u64(j, v, max, out);
}

/* ---- writers
 * ------------------------------------------------------------------------------------------------- */

/* Length of the UTF-8 character at the front of s; 0: none. */
static size_t utf8_len(struct span s)
{
    uint8_t c = s.p[0];
    size_t n = c < 0x80                 ? 1
               : c >= 0xc2 && c <= 0xdf ? 2
               : (c & 0xf0) == 0xe0     ? 3
               : c >= 0xf0 && c <= 0xf4 ? 4
                                        : 0;
    if (!n || n > s.n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s.p[i] & 0xc0) != 0x80)
            return 0;
    if ((c == 0xe0 && s.p[1] < 0xa0) || (c == 0xed && s.p[1] > 0x9f) || (c == 0xf0 && s.p[1] < 0x90) ||
        (c == 0xf4 && s.p[1] > 0x8f))
        return 0;
    return n;
}

/* Bytes at the front of s that are written as they are, without a look at UTF-8. */
static size_t plain_len(struct span s)
{
    size_t n = 0;
    while (n < s.n && s.p[n] >= 0x20 && s.p[n] < 0x80 && s.p[n] != '"' && s.p[n] != '\\')
        n++;
    return n;
}

/* Of '"', '\\' and what is below 0x20; in the spelling that jansson has too. */
static void put_escaped(struct wr *w, uint8_t c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *at = c ? strchr(from, c) : NULL;
    wr_u8(w, '\\');
    if (at) {
        wr_u8(w, (uint8_t)to[at - from]);
        return;
    }
    wr_str(w, "u00");
    wr_u8(w, (uint8_t)('0' + (c >> 4)));
    wr_u8(w, (uint8_t) "0123456789ABCDEF"[c & 15]);
}

void json_put_string(struct wr *w, struct span s)
{
    wr_u8(w, '"');
    for (;;) {
        size_t n = plain_len(s);
        wr_put(w, span_of(s.p, n));
        s = span_skip(s, n);
        if (!s.n)
            break;
        if (s.p[0] < 0x80) {
            put_escaped(w, s.p[0]);
            s = span_skip(s, 1);
            continue;
        }
        n = utf8_len(s);
        wr_put(w, n ? span_of(s.p, n) : SPAN("\xef\xbf\xbd"));
        s = span_skip(s, n ? n : 1);
    }
    wr_u8(w, '"');
}

void json_put_milli(struct wr *w, int32_t v)
{
    uint32_t a = v < 0 ? 0u - (uint32_t)v : (uint32_t)v, rest = a % 1000u;
    if (v < 0)
        wr_u8(w, '-');
    wr_u32(w, a / 1000u);
    if (!rest)
        return;
    wr_u8(w, '.');
    for (uint32_t unit = 100; rest; rest %= unit, unit /= 10)
        wr_u8(w, (uint8_t)('0' + rest / unit));
}
