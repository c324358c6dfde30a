/* core/query/json.c - values inside a JSON text, found without taking the whole apart and without memory. The
 * texts are the hub's own or were checked when they came; others yield something or nothing, never a fault.
 */
#include "core/query/query_impl.h"

#include "core/json/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct span skip_space(struct span s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == '\n' || s.p[0] == '\r'))
        s = span_skip(s, 1);
    return s;
}

/* Bytes of the string at the front, quotes included; 0: it does not end. */
static size_t string_len(struct span s)
{
    for (size_t i = 1; i < s.n; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == '"')
            return i + 1;
    }
    return 0;
}

/* Bytes of the value at the front; 0: there is none. */
static size_t value_len(struct span s)
{
    size_t i = 0, depth = 0;
    if (!s.n)
        return 0;
    if (s.p[0] == '"')
        return string_len(s);
    if (s.p[0] != '{' && s.p[0] != '[') {
        while (i < s.n && s.p[i] > ' ' && s.p[i] != ',' && s.p[i] != '}' && s.p[i] != ']')
            i++;
        return i;
    }
    do {
        uint8_t c = s.p[i];
        size_t n = c == '"' ? string_len(span_skip(s, i)) : 1;
        if (!n)
            return 0;
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        i += n;
    } while (depth && i < s.n);
    return depth ? 0 : i;
}

/* The characters of a JSON string, given without its quotes. */
static bool string_of(struct span raw, struct wr *mem, struct span *out)
{
    if (!raw.n || !memchr(raw.p, '\\', raw.n)) {
        *out = raw;
        return true;
    }
    size_t from = mem->len;
    (void)query_unescape(mem, raw);
    if (!wr_ok(mem)) {
        mem->len = from;
        return false;
    }
    *out = span_of(mem->p + from, mem->len - from);
    return true;
}

static void value_of(struct span s, struct wr *mem, struct query_value *out)
{
    struct query_value v = { .kind = QUERY_UNDEFINED, .s = s };
    uint8_t c = s.n ? s.p[0] : 0;
    if (c == '{' || c == '[')
        v.kind = c == '{' ? QUERY_OBJECT : QUERY_ARRAY;
    else if (c == '"' && string_of(span_of(s.p + 1, s.n - 2), mem, &v.s))
        v.kind = QUERY_STRING;
    else if (span_eq(s, SPAN("null")))
        v.kind = QUERY_NULL;
    else if (span_eq(s, SPAN("true")) || span_eq(s, SPAN("false")))
        v = (struct query_value){ .kind = QUERY_BOOL, .b = c == 't' };
    else if (query_number(s, &v.num))
        v.kind = QUERY_NUMBER;
    if (v.kind != QUERY_UNDEFINED)
        *out = v;
}

/* Takes the next value off the inside of an array or object, and the key before it. */
static bool take(struct span *s, bool object, struct span *key, struct span *value)
{
    struct span at = skip_space(*s);
    if (at.n && at.p[0] == ',')
        at = skip_space(span_skip(at, 1));
    if (object) {
        size_t n = at.n && at.p[0] == '"' ? string_len(at) : 0;
        if (!n)
            return false;
        *key = span_of(at.p + 1, n - 2);
        at = skip_space(span_skip(at, n));
        if (!at.n || at.p[0] != ':')
            return false;
        at = skip_space(span_skip(at, 1));
    }
    size_t n = value_len(at);
    if (!n)
        return false;
    *value = span_of(at.p, n);
    *s = span_skip(at, n);
    return true;
}

static bool key_is(struct span raw, struct span name, bool nocase, struct wr *mem)
{
    size_t from = mem->len;
    struct span key;
    bool ok = string_of(raw, mem, &key) && (nocase ? span_ieq(key, name) : span_eq(key, name));
    mem->len = from;
    return ok;
}

static bool member(struct span object, struct span name, bool nocase, struct wr *mem, struct span *out)
{
    struct span at = span_skip(object, 1), key, value;
    bool found = false;
    while (take(&at, true, &key, &value)) {
        if (key_is(key, name, false, mem)) {
            *out = value;
            return true;
        }
        if (nocase && !found && key_is(key, name, true, mem)) {
            *out = value;
            found = true;
        }
    }
    return found;
}

static bool element(struct span array, uint32_t index, struct span *out)
{
    struct span at = span_skip(array, 1), key, value;
    for (uint32_t i = 0; take(&at, false, &key, &value); i++)
        if (i == index) {
            *out = value;
            return true;
        }
    return false;
}

void query_json_get(struct span json, const struct query_step *step, size_t nr, bool nocase, struct wr *mem,
                    struct query_value *out)
{
    struct span s = skip_space(json);
    s.n = value_len(s);
    for (size_t i = 0; i < nr; i++) {
        uint8_t c = s.n ? s.p[0] : 0;
        bool ok = step[i].name.p ? c == '{' && member(s, step[i].name, nocase, mem, &s)
                                 : c == '[' && element(s, step[i].index, &s);
        if (!ok)
            return;
    }
    value_of(s, mem, out);
}

bool query_json_each(struct span *at, struct wr *mem, struct query_value *out)
{
    struct span s = skip_space(*at), key, value;
    if (s.n && s.p[0] == '[')
        s = span_skip(s, 1);
    if (!take(&s, false, &key, &value))
        return false;
    *out = (struct query_value){ .kind = QUERY_UNDEFINED };
    value_of(value, mem, out);
    *at = s.n ? s : SPAN_NONE;
    return true;
}

/* ---- is it JSON? --------------------------------------------------------------------------------------- */

static bool string_is_valid(struct span s) /* with its quotes */
{
    for (size_t i = 1; i + 1 < s.n; i++) {
        if (s.p[i] < 0x20)
            return false;
        if (s.p[i] != '\\')
            continue;
        i++;
        if (s.p[i] == 'u') {
            for (size_t k = 1; k <= 4; k++)
                if (i + k + 1 >= s.n || !strchr("0123456789abcdefABCDEF", s.p[i + k] ? s.p[i + k] : 'x'))
                    return false;
        } else if (!s.p[i] || !strchr("\"\\/bfnrt", s.p[i])) {
            return false;
        }
    }
    return true;
}

static bool primitive_is_valid(struct span s)
{
    double d;
    return s.n && (s.p[0] == '"' ? string_is_valid(s)
                                 : span_eq(s, SPAN("null")) || span_eq(s, SPAN("true")) ||
                                       span_eq(s, SPAN("false")) || query_number(s, &d));
}

/* What has to come next. */
enum want { WANT_VALUE, WANT_VALUE_OR_END, WANT_KEY, WANT_KEY_OR_END, WANT_COMMA_OR_END };

bool query_json_valid(struct span json)
{
    uint64_t objects = 0; /* bit d: what is open at depth d is an object */
    unsigned depth = 0;
    enum want want = WANT_VALUE;
    for (struct span s = skip_space(json);; s = skip_space(s)) {
        uint8_t c = s.n ? s.p[0] : 0;
        bool object = objects & 1;
        if (want == WANT_COMMA_OR_END && !depth)
            return !s.n;
        if (!s.n)
            return false;
        if ((c == ']' || c == '}') && depth && want != WANT_VALUE && want != WANT_KEY) {
            if (object != (c == '}'))
                return false;
            objects >>= 1;
            depth--;
            want = WANT_COMMA_OR_END;
            s = span_skip(s, 1);
        } else if (want == WANT_COMMA_OR_END) {
            if (c != ',')
                return false;
            want = object ? WANT_KEY : WANT_VALUE;
            s = span_skip(s, 1);
        } else if (want == WANT_KEY || want == WANT_KEY_OR_END) {
            size_t n = c == '"' ? string_len(s) : 0;
            if (!n || !string_is_valid(span_of(s.p, n)))
                return false;
            s = skip_space(span_skip(s, n));
            if (!s.n || s.p[0] != ':')
                return false;
            s = span_skip(s, 1);
            want = WANT_VALUE;
        } else if (c == '{' || c == '[') {
            if (++depth > 64)
                return false;
            objects = objects << 1 | (c == '{');
            want = c == '{' ? WANT_KEY_OR_END : WANT_VALUE_OR_END;
            s = span_skip(s, 1);
        } else {
            size_t n = value_len(s);
            if (!n || !primitive_is_valid(span_of(s.p, n)))
                return false;
            s = span_skip(s, n);
            want = WANT_COMMA_OR_END;
        }
    }
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* As few digits as read back the same. */
static void put_number(struct wr *w, double d)
{
    char room[40];
    int n = 0;
    for (int digits_nr = 15; digits_nr <= 17; digits_nr++) {
        n = snprintf(room, sizeof room, "%.*g", digits_nr, d);
        if (strtod(room, NULL) == d)
            break;
    }
    wr_put(w, span_of(room, (size_t)n));
}

void query_json_put(struct wr *w, const struct query_value *v)
{
    switch (v->kind) {
    case QUERY_NULL:
        wr_str(w, "null");
        break;
    case QUERY_BOOL:
        wr_str(w, v->b ? "true" : "false");
        break;
    case QUERY_NUMBER:
        if (v->s.n) /* as it was written */
            wr_put(w, v->s);
        else
            put_number(w, v->num);
        break;
    case QUERY_STRING:
        json_put_string(w, v->s);
        break;
    case QUERY_ARRAY:
    case QUERY_OBJECT:
        wr_put(w, v->s);
        break;
    default:
        break;
    }
}
