/* hub/domain/method/method_json.c - payloads of direct methods as JSON text, unchanged where they are JSON.
 */
#include "base/text.h"
#include "hub/domain/method/method.h"

#include <jansson.h>
#include <stdlib.h>

bool method_is_json(struct span s)
{
    /* Numbers of any length are JSON; as what they are read does not matter here. */
    json_t *v =
        json_loadb((const char *)s.p, s.n, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, NULL);
    json_decref(v);
    return v != NULL;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

struct span method_body_json(struct arena *a, struct span body)
{
    while (body.n && is_space(body.p[0]))
        body = span_skip(body, 1);
    if (!body.n)
        return SPAN("null");
    if (method_is_json(body))
        return body;
    json_t *text = json_stringn((const char *)body.p, body.n); /* NULL: not UTF-8 */
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    struct span out;
    if (quoted) {
        out = arena_copy(a, span_str(quoted));
    } else {
        size_t n = (body.n + 2) / 3 * 4 + 2;
        uint8_t *p = arena_alloc(a, n);
        struct wr w = { p, p ? n : 0, 0 };
        wr_u8(&w, '"');
        base64_encode(&w, body);
        wr_u8(&w, '"');
        out = wr_span(&w);
    }
    free(quoted);
    json_decref(text);
    return out;
}

/* ---- a member's text: of what is known to be JSON, finding ends is enough ---------------------------- */

static void skip_space(struct span *s)
{
    while (s->n && is_space(s->p[0]))
        *s = span_skip(*s, 1);
}

/* At a quote: the text between it and the closing one; *s goes on behind that. */
static struct span take_string(struct span *s)
{
    size_t i = 1;
    while (i < s->n && s->p[i] != '"')
        i += s->p[i] == '\\' && i + 1 < s->n ? 2 : 1;
    struct span in = span_of(s->p + 1, i - 1);
    *s = span_skip(*s, i < s->n ? i + 1 : s->n);
    return in;
}

static struct span take_value(struct span *s)
{
    const uint8_t *from = s->p;
    size_t depth = 0;
    while (s->n) {
        uint8_t c = s->p[0];
        if (c == '"') {
            (void)take_string(s);
        } else if (!depth && (c == ',' || c == '}' || c == ']' || is_space(c))) {
            break;
        } else {
            depth += c == '{' || c == '[';
            depth -= c == '}' || c == ']';
            *s = span_skip(*s, 1);
        }
        if (!depth && (c == '"' || c == '}' || c == ']'))
            break;
    }
    return span_of(from, (size_t)(s->p - from));
}

bool method_member_text(struct span s, const char *name, struct span *out)
{
    skip_space(&s);
    if (!s.n || s.p[0] != '{')
        return false;
    s = span_skip(s, 1);
    for (;;) {
        skip_space(&s);
        if (!s.n || s.p[0] != '"')
            return false;
        struct span key = take_string(&s);
        skip_space(&s);
        if (!s.n || s.p[0] != ':')
            return false;
        s = span_skip(s, 1);
        skip_space(&s);
        struct span value = take_value(&s);
        if (value.n && span_eq(key, span_str(name))) {
            *out = value;
            return true;
        }
        skip_space(&s);
        if (!s.n || s.p[0] != ',')
            return false;
        s = span_skip(s, 1);
    }
}

struct span method_call_json(struct arena *a, struct span body)
{
    struct span payload;
    if (!method_member_text(body, "payload", &payload) || payload.n < 4 || !method_is_json(payload))
        return body;
    uint8_t *copy = arena_alloc(a, body.n);
    if (!copy)
        return body; /* the arena says so */
    memcpy(copy, body.p, body.n);
    uint8_t *at = copy + (payload.p - body.p);
    static const uint8_t null[] = { 'n', 'u', 'l', 'l' };
    for (size_t i = 0; i < payload.n; i++) /* lines stay where they are, for what is said of mistakes */
        at[i] = i < sizeof null ? null[i] : at[i] == '\n' ? '\n' : ' ';
    return span_of(copy, body.n);
}
