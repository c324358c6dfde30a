/* hub/conn/http_head.h - the head of a request and the framing of its body, as they arrive piece by piece.
 * Knows no connection. The grammar is http-parser's; what it is lenient about and proxies differ on is
 * refused here: bare LF, folded lines, space before a colon, other transfer codings, doubled Host or
 * Authorization. Source: RFC 9112. */
#ifndef ROOST_HUB_CONN_HTTP_HEAD_H
#define ROOST_HUB_CONN_HTTP_HEAD_H

#include "base/err.h"
#include "base/span.h"

#include <http_parser.h>

enum { HTTP_FIELDS_MAX = 64, HTTP_TARGET_MAX = 8192, HTTP_TRAILER_MAX = 4096, HTTP_CHUNK_LINE_MAX = 256 };

struct http_field_at { /* into http_head.text */
    uint16_t name, name_len, value, value_len;
};
struct http_head {
    http_parser parser;
    uint8_t *text; /* owned: target, then names and values as they came */
    uint32_t text_len, text_cap;
    uint32_t raw_len; /* bytes taken, line ends included */
    uint16_t target_len, field_nr;
    uint16_t refuse; /* status to answer when feeding failed */
    bool in_value, guard_cr, guard_started, guard_line_start, complete;
    /* Below: valid once complete. */
    bool keep_alive, chunked, has_length, wants_continue, wants_upgrade;
    uint64_t length;
    struct http_field_at fields[HTTP_FIELDS_MAX];
};

void http_head_init(struct http_head *h);
void http_head_fini(struct http_head *h);
/* Takes bytes off the front of *in, up to the end of the head. ERR_OK: complete; ERR_AGAIN: all taken, more
 * to come; else h->refuse is the status to answer with (400, 414, 417, 431, 501, 505), or it is ERR_NOMEM
 * (503). */
MUST_USE enum err http_head_feed(struct http_head *h, struct span *in);
struct span http_head_target(const struct http_head *h);
/* The i-th field called so (no case) from *at on; *at moves behind it. False: no more. */
bool http_head_field(const struct http_head *h, struct span name, size_t *at, struct span *value);

enum http_body_kind { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED };
struct http_body {
    uint8_t kind, state;
    uint16_t line_len;
    uint64_t left;
};
void http_body_init(struct http_body *b, const struct http_head *h);
/* Next piece of the body off the front of *in. ERR_OK: *piece (not empty); ERR_STOPPED: the body is complete,
 * *in begins with what follows it; ERR_AGAIN: all taken; ERR_PROTO: the framing is broken (400, close). */
MUST_USE enum err http_body_next(struct http_body *b, struct span *in, struct span *piece);

#endif
