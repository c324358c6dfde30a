/* hub/conn/http_head.c - http-parser for the grammar of a head, our own rules around it, our own chunk
 * reader. */
#include "hub/conn/http_head.h"

#include "base/text.h"
#include "core/ws/ws.h"
#include "hub/conn/http_conn.h"

#include <stdlib.h>

void http_head_init(struct http_head *h)
{
    memset(h, 0, sizeof *h);
    http_parser_init(&h->parser, HTTP_REQUEST);
    h->parser.data = h;
}

void http_head_fini(struct http_head *h)
{
    free(h->text);
    h->text = NULL;
}

struct span http_head_target(const struct http_head *h)
{
    return span_of(h->text, h->target_len);
}

bool http_head_field(const struct http_head *h, struct span name, size_t *at, struct span *value)
{
    for (; *at < h->field_nr; ++*at) {
        const struct http_field_at *f = &h->fields[*at];
        if (span_ieq(span_of(h->text + f->name, f->name_len), name)) {
            *value = span_of(h->text + f->value, f->value_len);
            ++*at;
            return true;
        }
    }
    return false;
}

static int refuse(struct http_head *h, unsigned status)
{
    if (!h->refuse)
        h->refuse = (uint16_t)status;
    return 1;
}

static int put(struct http_head *h, const char *p, size_t n)
{
    if (h->text_len + n > h->text_cap) {
        uint32_t cap = h->text_cap ? h->text_cap : 512;
        while (cap < h->text_len + n)
            cap *= 2;
        uint8_t *t = realloc(h->text, cap);
        if (!t)
            return refuse(h, 503);
        h->text = t;
        h->text_cap = cap;
    }
    memcpy(h->text + h->text_len, p, n);
    h->text_len += (uint32_t)n;
    return 0;
}

static int on_url(http_parser *p, const char *at, size_t n)
{
    struct http_head *h = p->data;
    if (h->target_len + n > HTTP_TARGET_MAX)
        return refuse(h, 414);
    h->target_len = (uint16_t)(h->target_len + n);
    return put(h, at, n);
}

static int on_field(http_parser *p, const char *at, size_t n)
{
    struct http_head *h = p->data;
    if (h->in_value || !h->field_nr) {
        if (h->field_nr == HTTP_FIELDS_MAX)
            return refuse(h, 431);
        h->fields[h->field_nr++] = (struct http_field_at){ .name = (uint16_t)h->text_len };
        h->in_value = false;
    }
    h->fields[h->field_nr - 1].name_len = (uint16_t)(h->fields[h->field_nr - 1].name_len + n);
    return put(h, at, n);
}

static int on_value(http_parser *p, const char *at, size_t n)
{
    struct http_head *h = p->data;
    struct http_field_at *f = &h->fields[h->field_nr - 1];
    if (!h->in_value) {
        f->value = (uint16_t)h->text_len;
        h->in_value = true;
    }
    f->value_len = (uint16_t)(f->value_len + n);
    return put(h, at, n);
}

static int on_complete(http_parser *p)
{
    struct http_head *h = p->data;
    h->complete = true;
    return 2; /* stop behind the head: bodies are ours */
}

static bool is_token(uint8_t c) /* RFC 9110 section 5.6.2 */
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool fields_are_clean(struct http_head *h)
{
    for (size_t i = 0; i < h->field_nr; i++) {
        struct http_field_at *f = &h->fields[i];
        if (!f->name_len)
            return false;
        for (size_t k = 0; k < f->name_len; k++)
            if (!is_token(h->text[f->name + k]))
                return false;
        while (f->value_len &&
               (h->text[f->value + f->value_len - 1] == ' ' || h->text[f->value + f->value_len - 1] == '\t'))
            f->value_len--;
        for (size_t k = 0; k < f->value_len; k++) {
            uint8_t c = h->text[f->value + k];
            if ((c < 0x20 && c != '\t') || c == 0x7f)
                return false;
        }
    }
    return true;
}

static size_t count(const struct http_head *h, struct span name, struct span *last)
{
    size_t at = 0, nr = 0;
    while (http_head_field(h, name, &at, last))
        nr++;
    return nr;
}

static bool any_has(const struct http_head *h, struct span name, struct span token)
{
    struct span v;
    size_t at = 0;
    while (http_head_field(h, name, &at, &v))
        if (ws_field_has(v, token))
            return true;
    return false;
}

/* What the fields mean for this connection. Returns 0, or the status to refuse with. */
static unsigned understand(struct http_head *h)
{
    struct span v, length;
    if (h->parser.http_major != 1 || h->parser.http_minor > 1)
        return 505;
    bool is_11 = h->parser.http_minor == 1;
    if (!fields_are_clean(h))
        return 400;
    for (size_t i = 0; i < h->target_len; i++)
        if (h->text[i] <= 0x20 || h->text[i] == 0x7f || h->text[i] == '#')
            return 400;
    size_t hosts = count(h, SPAN("Host"), &v);
    if (hosts > 1 || (is_11 && !hosts))
        return 400;
    /* What is read as one value: of two, one would count and the other be passed over in silence. */
    if (count(h, SPAN("Authorization"), &v) > 1 || count(h, SPAN("If-Match"), &v) > 1 ||
        count(h, SPAN("Content-Type"), &v) > 1)
        return 400;
    size_t lengths = count(h, SPAN("Content-Length"), &length);
    size_t codings = count(h, SPAN("Transfer-Encoding"), &v);
    if (lengths > 1 || codings > 1 || (lengths && codings) || (codings && !is_11))
        return 400;
    if (codings && !span_ieq(v, SPAN("chunked")))
        return 501;
    h->chunked = codings;
    h->has_length = lengths;
    if (lengths && u64_parse(length, INT64_MAX, &h->length) != ERR_OK)
        return 400;
    bool close = any_has(h, SPAN("Connection"), SPAN("close"));
    h->keep_alive = !close && (is_11 || any_has(h, SPAN("Connection"), SPAN("keep-alive")));
    if (is_11 && count(h, SPAN("Expect"), &v)) {
        if (!span_ieq(v, SPAN("100-continue")))
            return 417;
        h->wants_continue = true;
    }
    h->wants_upgrade = is_11 && any_has(h, SPAN("Connection"), SPAN("upgrade")) &&
                       any_has(h, SPAN("Upgrade"), SPAN("websocket"));
    return 0;
}

/* Every line ends in CRLF, no line begins with a blank, no NUL: looked at on the raw bytes. */
static bool guard(struct http_head *h, struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (h->guard_cr != (c == '\n') || !c)
            return false;
        if (h->guard_line_start && h->guard_started && (c == ' ' || c == '\t'))
            return false;
        h->guard_cr = c == '\r';
        if (c != '\r' && c != '\n')
            h->guard_started = true; /* empty lines before the request are skipped [2.2] */
        h->guard_line_start = c == '\n';
    }
    return true;
}

enum err http_head_feed(struct http_head *h, struct span *in)
{
    static const http_parser_settings settings = { .on_url = on_url,
                                                   .on_header_field = on_field,
                                                   .on_header_value = on_value,
                                                   .on_headers_complete = on_complete };
    size_t room = HTTP_HEAD_MAX - h->raw_len, offered = in->n < room ? in->n : room;
    size_t used = http_parser_execute(&h->parser, &settings, (const char *)in->p, offered);
    enum http_errno e = HTTP_PARSER_ERRNO(&h->parser);
    if (used > offered)
        used = offered;
    if (!h->refuse && !guard(h, span_of(in->p, used)))
        refuse(h, 400);
    if (!h->refuse && e != HPE_OK)
        refuse(h, e == HPE_INVALID_METHOD ? 501 : e == HPE_HEADER_OVERFLOW ? 431 : 400);
    if (h->refuse)
        return h->refuse == 503 ? ERR_NOMEM : h->refuse == 431 || h->refuse == 414 ? ERR_LIMIT : ERR_PROTO;
    h->raw_len += (uint32_t)used;
    *in = span_skip(*in, used);
    if (h->complete) {
        unsigned status = understand(h);
        if (status)
            refuse(h, status);
        return status ? ERR_PROTO : ERR_OK;
    }
    if (h->raw_len == HTTP_HEAD_MAX) {
        refuse(h, 431);
        return ERR_LIMIT;
    }
    return ERR_AGAIN;
}

/* ---- bodies --------------------------------------------------------------------------------------- */

enum body_state {
    BODY_SIZE,      /* in the digits of a chunk's size */
    BODY_EXTENSION, /* behind them, to the CR */
    BODY_SIZE_LF,
    BODY_DATA,
    BODY_DATA_CR,
    BODY_DATA_LF,
    BODY_TRAILER, /* at the start of a line behind the last chunk */
    BODY_TRAILER_LINE,
    BODY_TRAILER_LF,
    BODY_END_LF,
    BODY_DONE
};

void http_body_init(struct http_body *b, const struct http_head *h)
{
    *b = (struct http_body){ .kind = h->chunked  ? HTTP_BODY_CHUNKED
                                     : h->length ? HTTP_BODY_LENGTH
                                                 : HTTP_BODY_NONE,
                             .left = h->length };
    b->state = b->kind == HTTP_BODY_CHUNKED ? BODY_SIZE : b->left ? BODY_DATA : BODY_DONE;
}

static int hex(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One byte of chunk framing (never of data). False: it is broken. */
static bool framing(struct http_body *b, uint8_t c)
{
    switch ((enum body_state)b->state) {
    case BODY_SIZE:
        if (hex(c) >= 0) {
            b->left = b->left << 4 | (unsigned)hex(c);
            return ++b->line_len <= 15; /* below 2^60: no overflow */
        }
        if (!b->line_len)
            return false;
        b->state = c == '\r' ? BODY_SIZE_LF : BODY_EXTENSION;
        return c == '\r' || c == ';' || c == ' ' || c == '\t';
    case BODY_EXTENSION:
        if (c == '\r')
            b->state = BODY_SIZE_LF;
        return ++b->line_len <= HTTP_CHUNK_LINE_MAX && (c >= 0x20 || c == '\r' || c == '\t') && c != 0x7f;
    case BODY_SIZE_LF:
        b->state = b->left ? BODY_DATA : BODY_TRAILER;
        b->line_len = 0;
        return c == '\n';
    case BODY_DATA_CR:
        b->state = BODY_DATA_LF;
        return c == '\r';
    case BODY_DATA_LF:
        b->state = BODY_SIZE;
        b->line_len = 0;
        return c == '\n';
    case BODY_TRAILER:
        b->state = c == '\r' ? BODY_END_LF : BODY_TRAILER_LINE;
        return ++b->line_len <= HTTP_TRAILER_MAX && (c == '\r' || is_token(c));
    case BODY_TRAILER_LINE:
        if (c == '\r')
            b->state = BODY_TRAILER_LF;
        return ++b->line_len <= HTTP_TRAILER_MAX && (c >= 0x20 || c == '\r' || c == '\t');
    case BODY_TRAILER_LF:
        b->state = BODY_TRAILER;
        return c == '\n';
    case BODY_END_LF:
        b->state = BODY_DONE;
        return c == '\n';
    default:
        return false;
    }
}

enum err http_body_next(struct http_body *b, struct span *in, struct span *piece)
{
    while (b->state != BODY_DONE) {
        if (!in->n)
            return ERR_AGAIN;
        if (b->state == BODY_DATA) {
            size_t n = in->n < b->left ? in->n : (size_t)b->left;
            *piece = span_of(in->p, n);
            *in = span_skip(*in, n);
            b->left -= n;
            if (!b->left)
                b->state = b->kind == HTTP_BODY_CHUNKED ? BODY_DATA_CR : BODY_DONE;
            return ERR_OK;
        }
        if (!framing(b, in->p[0]))
            return ERR_PROTO;
        *in = span_skip(*in, 1);
    }
    return ERR_STOPPED;
}
