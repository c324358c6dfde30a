/* core/query/row.c - rows that need nothing but bytes: a JSON document, a message. */
#include "core/query/query_impl.h"

/* ---- documents ----------------------------------------------------------------------------------------- */

static void document_get(struct query_row *row, const struct query_path *p, struct wr *mem,
                         struct query_value *out)
{
    const struct query_document *d = (const struct query_document *)row;
    query_json_get(d->json, p->step, p->nr, p->root == QUERY_TWIN, mem, out);
}

void query_document_init(struct query_document *d, struct span json)
{
    d->row.get = document_get;
    d->json = json;
}

/* ---- messages ------------------------------------------------------------------------------------------ */

static void text_value(struct span s, bool nocase, struct query_value *out)
{
    *out = (struct query_value){ .kind = QUERY_STRING, .s = s, .nocase = nocase };
}

/* A property's name may contain dots, which the language takes for a path. */
static bool whole_name(const struct query_path *p, struct wr *mem, struct span *name)
{
    size_t from = mem->len;
    if (p->nr == 1) {
        *name = p->step[0].name;
        return true;
    }
    for (size_t i = 0; i < p->nr; i++) {
        if (!p->step[i].name.p)
            return false;
        if (i)
            wr_u8(mem, '.');
        wr_put(mem, p->step[i].name);
    }
    *name = wr_ok(mem) ? span_of(mem->p + from, mem->len - from) : SPAN_NONE;
    return wr_ok(mem);
}

static void message_get(struct query_row *row, const struct query_path *p, struct wr *mem,
                        struct query_value *out)
{
    struct query_message *m = (struct query_message *)row;
    struct span name, value;
    switch (p->root) {
    case QUERY_BODY: /* never as a whole, and no index into it */
        if (p->nr && p->step[0].name.p && m->body.n)
            query_json_get(m->body, p->step, p->nr, true, mem, out);
        return;
    case QUERY_TWIN:
        if (m->twin && p->nr)
            m->twin->get(m->twin, p, mem, out);
        return;
    case QUERY_SYSTEM:
        if (!whole_name(p, mem, &name))
            return;
        if (m->system(m->ctx, span_skip(name, 1), &value))
            text_value(value,
                       span_ieq(name, SPAN("$contentType")) || span_ieq(name, SPAN("$contentEncoding")), out);
        else if (m->app(m->ctx, name, &value))
            text_value(value, false, out);
        return;
    default:
        if (whole_name(p, mem, &name) && m->app(m->ctx, name, &value))
            text_value(value, false, out);
    }
}

static uint32_t unit(struct span s, size_t at, size_t width, bool little)
{
    uint32_t v = 0;
    for (size_t i = 0; i < width; i++)
        v = v << 8 | s.p[at + (little ? width - 1 - i : i)];
    return v;
}

static void put_character(struct wr *w, uint32_t c)
{
    if (c >= 0x10000)
        wr_u8(w, (uint8_t)(0xf0 | (c >> 18 & 7)));
    else if (c >= 0x800)
        wr_u8(w, (uint8_t)(0xe0 | c >> 12));
    else
        wr_u8(w, (uint8_t)(c < 0x80 ? c : 0xc0 | c >> 6));
    if (c >= 0x10000)
        wr_u8(w, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
    if (c >= 0x800)
        wr_u8(w, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
    if (c >= 0x80)
        wr_u8(w, (uint8_t)(0x80 | (c & 0x3f)));
}

/* From UTF-16 (width 2) or UTF-32 (4), the order of the bytes by the mark at the front, little-endian without
 * one. Nothing when it is neither. */
static struct span to_utf8(struct span s, size_t width, struct wr *mem)
{
    size_t from = mem->len;
    bool little = true;
    if (s.n % width || s.n < width)
        return SPAN_NONE;
    if (unit(s, 0, width, true) == 0xfeff || unit(s, 0, width, false) == 0xfeff) {
        little = unit(s, 0, width, true) == 0xfeff;
        s = span_skip(s, width);
    }
    for (size_t i = 0; i < s.n; i += width) {
        uint32_t c = unit(s, i, width, little);
        if (width == 2 && c >= 0xd800 && c <= 0xdbff && i + 4 <= s.n) {
            uint32_t low = unit(s, i + 2, 2, little);
            if (low >= 0xdc00 && low <= 0xdfff) {
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                i += 2;
            }
        }
        if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return SPAN_NONE;
        put_character(mem, c);
    }
    return wr_ok(mem) ? span_of(mem->p + from, mem->len - from) : SPAN_NONE;
}

/* The media type without its parameters. */
static struct span media_type(struct span s)
{
    size_t n = 0;
    while (n < s.n && s.p[n] != ';' && s.p[n] != ' ')
        n++;
    return span_of(s.p, n);
}

void query_message_init(struct query_message *m, struct span body, struct wr *mem)
{
    struct span type, encoding;
    m->row.get = message_get;
    m->body = SPAN_NONE;
    if (!body.n || !m->system(m->ctx, SPAN("contentType"), &type) ||
        !m->system(m->ctx, SPAN("contentEncoding"), &encoding) ||
        !span_ieq(media_type(type), SPAN("application/json")))
        return;
    if (span_ieq(encoding, SPAN("utf-16")))
        body = to_utf8(body, 2, mem);
    else if (span_ieq(encoding, SPAN("utf-32")))
        body = to_utf8(body, 4, mem);
    else if (!span_ieq(encoding, SPAN("utf-8")))
        return;
    if (span_starts(body, SPAN("\xef\xbb\xbf")))
        body = span_skip(body, 3);
    if (query_json_valid(body))
        m->body = body;
}
