/* core/http/http_client.c - HTTP/1.1 for a client: writes a request head, reads a response as it arrives. */
#include "core/http/http_client.h"

#include "base/text.h"

#include <assert.h>

/* ---- request ---------------------------------------------------------------------------------------------
 */

/* A field value from elsewhere must not end its line: that would let it write fields of its own. */
static void field_put(struct wr *w, const char *name, struct span value)
{
    if (!value.n)
        return;
    assert(!memchr(value.p, '\r', value.n) && !memchr(value.p, '\n', value.n));
    wr_str(w, name);
    wr_str(w, ": ");
    wr_put(w, value);
    wr_str(w, "\r\n");
}

void http_request_encode(struct wr *w, const struct http_request *r)
{
    assert(r->target.n && r->target.p[0] == '/' && !memchr(r->target.p, ' ', r->target.n) &&
           !memchr(r->target.p, '\r', r->target.n) && !memchr(r->target.p, '\n', r->target.n));
    wr_str(w, r->method);
    wr_u8(w, ' ');
    wr_put(w, r->target);
    wr_str(w, " HTTP/1.1\r\n");
    field_put(w, "Host", r->host);
    field_put(w, "User-Agent", r->user_agent);
    field_put(w, "Authorization", r->authorization);
    if (r->ranged) {
        wr_str(w, "Range: bytes=");
        u64_encode(w, r->range_from);
        wr_u8(w, '-');
        if (r->range_len)
            u64_encode(w, r->range_from + r->range_len - 1);
        wr_str(w, "\r\n");
    }
    if (r->has_body) {
        field_put(w, "Content-Type", r->content_type);
        wr_str(w, "Content-Length: ");
        u64_encode(w, r->body_len);
        wr_str(w, "\r\n");
    }
    if (r->close)
        wr_str(w, "Connection: close\r\n");
    wr_put(w, r->fields);
    wr_str(w, "\r\n");
}

/* ---- URL --------------------------------------------------------------------------------------------------
 */

static const struct scheme {
    const char *name;
    uint16_t port;
} schemes[] = { { "https", 443 }, { "http", 80 }, { "ftp", 21 }, { "ftps", 990 } };

static enum err port_parse(struct span text, uint16_t *port)
{
    uint64_t v;
    if (u64_parse(text, UINT16_MAX, &v) || !v)
        return ERR_PROTO;
    *port = (uint16_t)v;
    return ERR_OK;
}

enum err http_url_parse(struct span url, struct http_url *out)
{
    static const uint8_t root[] = "/";
    struct http_url u = { 0 };
    for (size_t i = 0; i < url.n; i++)
        if (url.p[i] <= ' ' || url.p[i] >= 0x7f)
            return ERR_PROTO;
    const uint8_t *colon = url.n ? memchr(url.p, ':', url.n) : NULL;
    if (!colon)
        return ERR_PROTO;
    u.scheme = span_of(url.p, (size_t)(colon - url.p));
    struct span s = span_skip(url, u.scheme.n);
    if (!u.scheme.n || !span_starts(s, SPAN("://")))
        return ERR_PROTO;
    s = span_skip(s, 3);
    size_t n = 0;
    while (n < s.n && s.p[n] != '/' && s.p[n] != '?' && s.p[n] != '#')
        n++;
    u.authority = span_of(s.p, n);
    u.target = span_skip(s, n);
    if (!n || memchr(u.authority.p, '@', n))
        return ERR_PROTO; /* no passwords in addresses */
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (span_ieq(u.scheme, span_str(schemes[i].name)))
            u.port = schemes[i].port;
    struct span rest = u.authority;
    if (rest.n && rest.p[0] == '[') {
        const uint8_t *end = memchr(rest.p, ']', rest.n);
        if (!end)
            return ERR_PROTO;
        u.host = span_of(rest.p + 1, (size_t)(end - rest.p) - 1);
        rest = span_skip(rest, u.host.n + 2);
    } else {
        const uint8_t *end = rest.n ? memchr(rest.p, ':', rest.n) : NULL;
        u.host = span_of(rest.p, end ? (size_t)(end - rest.p) : rest.n);
        rest = span_skip(rest, u.host.n);
    }
    if (!u.host.n)
        return ERR_PROTO;
    if (rest.n && (rest.p[0] != ':' || port_parse(span_skip(rest, 1), &u.port)))
        return ERR_PROTO;
    if (!u.target.n)
        u.target = span_of(root, 1);
    else if (u.target.p[0] != '/' || memchr(u.target.p, '#', u.target.n))
        return ERR_PROTO;
    *out = u;
    return ERR_OK;
}

/* ---- response
 * ----------------------------------------------------------------------------------------------- */

enum state {
    STATE_STATUS,
    STATE_FIELDS,
    STATE_BODY_LENGTH, /* r->left bytes */
    STATE_BODY_EOF,    /* until the connection ends */
    STATE_CHUNK_SIZE,
    STATE_CHUNK_DATA,
    STATE_CHUNK_END, /* the CRLF behind the data */
    STATE_TRAILERS,
    STATE_END, /* HTTP_EV_END is to be told */
    STATE_DONE,
    STATE_BAD
};

void http_response_init(struct http_response *r, bool head_only)
{
    memset(r, 0, sizeof *r);
    r->head_only = head_only;
}

/* Collects one line up to LF into r->line, without CR and LF; what does not fit is counted, not kept. */
static enum err line_take(struct http_response *r, struct span *in, struct span *line, bool *cut)
{
    const uint8_t *lf = in->n ? memchr(in->p, '\n', in->n) : NULL;
    size_t n = lf ? (size_t)(lf - in->p) : in->n, room = sizeof r->line - 1;
    if (r->head_len + n + 1 > HTTP_CLIENT_HEAD_MAX)
        return ERR_LIMIT;
    for (size_t i = 0; i < n; i++)
        if (in->p[i] == 0)
            return ERR_PROTO;
    size_t keep = r->line_len < room ? room - r->line_len : 0;
    keep = keep < n ? keep : n;
    if (keep)
        memcpy(r->line + r->line_len, in->p, keep);
    r->line_len = (uint16_t)(r->line_len + n); /* below HTTP_CLIENT_HEAD_MAX */
    r->head_len += (uint32_t)(lf ? n + 1 : n);
    *in = span_skip(*in, lf ? n + 1 : n);
    if (!lf)
        return ERR_AGAIN;
    *cut = r->line_len > room;
    size_t len = *cut ? room : r->line_len;
    if (!*cut && len && r->line[len - 1] == '\r')
        len--;
    r->line_len = 0;
    *line = span_of(r->line, len);
    return ERR_OK;
}

static enum err status_parse(struct http_response *r, struct span line)
{
    uint64_t v;
    if (line.n < 12 || !span_starts(line, SPAN("HTTP/1.")) || (line.p[7] != '0' && line.p[7] != '1') ||
        line.p[8] != ' ' || (line.n > 12 && line.p[12] != ' ') ||
        u64_parse(span_of(line.p + 9, 3), 999, &v) || v < 100)
        return ERR_PROTO;
    r->status = (unsigned)v;
    r->keep_alive = line.p[7] == '1';
    return ERR_OK;
}

/* "bytes a-b/total", or a star for the total; others are ignored: the reader sees has_range false. */
static void range_parse(struct http_response *r, struct span v)
{
    uint64_t from, to, total = 0;
    if (v.n < 6 || !span_ieq(span_of(v.p, 6), SPAN("bytes ")))
        return;
    v = span_trim(span_skip(v, 6));
    const uint8_t *dash = v.n ? memchr(v.p, '-', v.n) : NULL;
    const uint8_t *slash = v.n ? memchr(v.p, '/', v.n) : NULL;
    if (!dash || !slash || slash < dash)
        return;
    struct span all = span_of(slash + 1, (size_t)(v.p + v.n - slash) - 1);
    bool has_total = !span_eq(all, SPAN("*"));
    if (u64_parse(span_of(v.p, (size_t)(dash - v.p)), UINT64_MAX - 1, &from) ||
        u64_parse(span_of(dash + 1, (size_t)(slash - dash) - 1), UINT64_MAX - 1, &to) || to < from ||
        (has_total && (u64_parse(all, UINT64_MAX, &total) || total <= to)))
        return;
    r->has_range = true;
    r->range_from = from;
    r->range_to = to;
    r->has_range_total = has_total;
    r->range_total = total;
}

/* Lists of the options we know: "close", "keep-alive". */
static void connection_parse(struct http_response *r, struct span v)
{
    while (v.n) {
        const uint8_t *comma = memchr(v.p, ',', v.n);
        struct span one = span_trim(span_of(v.p, comma ? (size_t)(comma - v.p) : v.n));
        v = comma ? span_skip(v, (size_t)(comma - v.p) + 1) : SPAN_NONE;
        if (span_ieq(one, SPAN("close")))
            r->keep_alive = false;
        else if (span_ieq(one, SPAN("keep-alive")))
            r->keep_alive = true;
    }
}

static enum err field_parse(struct http_response *r, struct span line, bool cut)
{
    const uint8_t *colon = memchr(line.p, ':', line.n);
    if (line.p[0] == ' ' || line.p[0] == '\t')
        return ERR_PROTO; /* a folded line: RFC 9112 section 5.2 */
    if (!colon)
        return cut ? ERR_OK : ERR_PROTO;
    struct span name = span_of(line.p, (size_t)(colon - line.p)), v = span_trim(span_skip(line, name.n + 1));
    if (!name.n || name.p[name.n - 1] == ' ' || name.p[name.n - 1] == '\t')
        return ERR_PROTO;
    bool framing = span_ieq(name, SPAN("Content-Length")) || span_ieq(name, SPAN("Transfer-Encoding"));
    if (cut)
        return framing ? ERR_PROTO : ERR_OK;
    uint64_t n;
    if (span_ieq(name, SPAN("Content-Length"))) {
        if (u64_parse(v, UINT64_MAX, &n) || (r->has_length && n != r->length))
            return ERR_PROTO;
        r->has_length = true;
        r->length = n;
    } else if (span_ieq(name, SPAN("Transfer-Encoding"))) {
        if (r->chunked || !span_ieq(v, SPAN("chunked")))
            return ERR_PROTO; /* no other coding was asked for */
        r->chunked = true;
    } else if (span_ieq(name, SPAN("Connection"))) {
        connection_parse(r, v);
    } else if (span_ieq(name, SPAN("Content-Range"))) {
        range_parse(r, v);
    } else if (span_ieq(name, SPAN("Retry-After"))) {
        if (!u64_parse(v, UINT32_MAX, &n))
            r->retry_after_s = (uint32_t)n;
    }
    return ERR_OK;
}

/* The head is whole: how does the body end (RFC 9112 section 6.3)? */
static enum err head_done(struct http_response *r)
{
    if (r->chunked && r->has_length)
        return ERR_PROTO; /* two answers to one question: someone is being smuggled past */
    if (r->head_only || r->status == 204 || r->status == 304) {
        r->state = STATE_END;
    } else if (r->chunked) {
        r->state = STATE_CHUNK_SIZE;
    } else if (r->has_length) {
        r->left = r->length;
        r->state = r->left ? STATE_BODY_LENGTH : STATE_END;
    } else {
        r->state = STATE_BODY_EOF;
        r->keep_alive = false;
    }
    r->head_len = 0; /* the limit holds for chunk sizes and trailers anew */
    return ERR_OK;
}

static enum err chunk_size_parse(struct http_response *r, struct span line, bool cut)
{
    uint64_t v = 0;
    size_t i = 0;
    for (; i < line.n; i++) {
        uint8_t c = line.p[i], low = c | 0x20;
        unsigned d;
        if (c >= '0' && c <= '9')
            d = c - '0';
        else if (low >= 'a' && low <= 'f')
            d = low - 'a' + 10u;
        else
            break;
        if (v >> 60)
            return ERR_LIMIT;
        v = v << 4 | d;
    }
    struct span rest = span_trim(span_skip(line, i));
    if (!i || cut || (rest.n && rest.p[0] != ';'))
        return ERR_PROTO;
    r->left = v;
    r->head_len = 0;
    r->state = v ? STATE_CHUNK_DATA : STATE_TRAILERS;
    return ERR_OK;
}

/* One line in the states that read lines. ERR_OK: go on; *head: the head is complete. */
static enum err on_line(struct http_response *r, struct span line, bool cut, bool *head)
{
    enum err e;
    switch (r->state) {
    case STATE_STATUS:
        e = status_parse(r, line);
        r->state = STATE_FIELDS;
        return e;
    case STATE_FIELDS:
        if (line.n)
            return field_parse(r, line, cut);
        if (r->status == 101)
            return ERR_PROTO;  /* we never ask for another protocol */
        if (r->status < 200) { /* 1xx: the real answer follows */
            http_response_init(r, r->head_only);
            return ERR_OK;
        }
        *head = true;
        return head_done(r);
    case STATE_CHUNK_SIZE:
        return chunk_size_parse(r, line, cut);
    case STATE_CHUNK_END:
        r->state = STATE_CHUNK_SIZE;
        return line.n ? ERR_PROTO : ERR_OK;
    default: /* STATE_TRAILERS */
        if (!line.n)
            r->state = STATE_END;
        return ERR_OK;
    }
}

static enum err body_take(struct http_response *r, struct span *in, struct span *piece)
{
    size_t n = in->n;
    if (r->state != STATE_BODY_EOF) {
        n = r->left < n ? (size_t)r->left : n;
        r->left -= n;
        if (!r->left)
            r->state = r->state == STATE_CHUNK_DATA ? STATE_CHUNK_END : STATE_END;
    }
    *piece = span_of(in->p, n);
    *in = span_skip(*in, n);
    return ERR_OK;
}

enum err http_response_next(struct http_response *r, struct span *in, enum http_response_event *ev,
                            struct span *piece)
{
    for (;;) {
        if (r->state == STATE_BAD)
            return ERR_PROTO;
        if (r->state == STATE_END) {
            r->state = STATE_DONE;
            *ev = HTTP_EV_END;
            return ERR_OK;
        }
        if (!in->n || r->state == STATE_DONE)
            return ERR_AGAIN; /* done: the bytes belong to the next response */
        if (r->state == STATE_BODY_LENGTH || r->state == STATE_BODY_EOF || r->state == STATE_CHUNK_DATA) {
            *ev = HTTP_EV_BODY;
            return body_take(r, in, piece);
        }
        struct span line;
        bool cut = false, head = false;
        enum err e = line_take(r, in, &line, &cut);
        if (!e)
            e = on_line(r, line, cut, &head);
        if (e == ERR_AGAIN)
            return e;
        if (e) {
            r->state = STATE_BAD;
            return e;
        }
        if (head) {
            *ev = HTTP_EV_HEAD;
            return ERR_OK;
        }
    }
}

enum err http_response_eof(struct http_response *r)
{
    bool whole = r->state == STATE_BODY_EOF || r->state == STATE_DONE || r->state == STATE_END;
    r->state = whole ? STATE_DONE : STATE_BAD;
    return whole ? ERR_OK : ERR_PROTO;
}
