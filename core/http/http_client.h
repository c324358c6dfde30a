/* core/http/http_client.h - the client side of HTTP/1.1 without heap, socket or clock: writes a request,
 * reads a response piece by piece as its bytes arrive. For the device and the simulator. C99. Source: RFC
 * 9110, RFC 9112. */
#ifndef ROOST_CORE_HTTP_HTTP_CLIENT_H
#define ROOST_CORE_HTTP_HTTP_CLIENT_H

#include "base/err.h"
#include "base/span.h"

#define HTTP_CLIENT_HEAD_MAX 8192u /* bytes of status line and fields together */
#define HTTP_CLIENT_LINE_MAX 160u  /* of a line that we look at; the rest of a longer field is skipped */

struct http_request {
    const char *method; /* "GET", "POST", "HEAD" */
    struct span host;   /* the Host field: name and, where it is not the default, :port */
    struct span target; /* starts with '/' */
    struct span content_type, authorization, user_agent; /* empty: no such field */
    struct span fields;                                  /* further lines, each with CRLF, or empty */
    bool has_body;
    uint64_t body_len; /* the body follows by the caller */
    bool ranged;
    uint64_t range_from, range_len; /* bytes=from-(from+len-1); len 0: to the end */
    bool close;                     /* Connection: close */
};
void http_request_encode(struct wr *w, const struct http_request *r);

/* "https://host[:port]/path?query" into its parts. ERR_PROTO: another form; the target is "/" when missing.
 */
struct http_url {
    struct span scheme; /* as written */
    struct span host;   /* IPv6 without its brackets */
    struct span authority;
    struct span target; /* points to a constant "/" when the URL has none */
    uint16_t port;      /* default of http (80), https (443), ftp (21), ftps (990) when not given; else 0 */
};
MUST_USE enum err http_url_parse(struct span url, struct http_url *out);

enum http_response_event {
    HTTP_EV_HEAD, /* status and fields are in *r */
    HTTP_EV_BODY, /* piece: into the input */
    HTTP_EV_END   /* the response is complete; r may be inited again on the same connection if keep_alive */
};

struct http_response { /* the members above the line are to be read after HTTP_EV_HEAD */
    unsigned status;
    bool keep_alive;
    bool has_length, has_range, has_range_total;
    uint64_t length; /* Content-Length */
    uint64_t range_from, range_to, range_total;
    uint32_t retry_after_s; /* 0: absent or a date */
    /* ---- private ---- */
    bool head_only, chunked;
    uint8_t state;
    uint16_t line_len;
    uint32_t head_len;
    uint64_t left;
    uint8_t line[HTTP_CLIENT_LINE_MAX];
};

/* head_only: the answer to a HEAD has no body. */
void http_response_init(struct http_response *r, bool head_only);
/* Next event off the front of *in. 1xx answers are skipped.
 *   ERR_AGAIN  all of *in is used up (it is empty then)      ERR_LIMIT  head too large
 *   ERR_PROTO  not HTTP/1.x, or lengths that contradict one another: close */
MUST_USE enum err http_response_next(struct http_response *r, struct span *in, enum http_response_event *ev,
                                     struct span *piece);
/* The connection ended. ERR_OK: that ends this body properly; ERR_PROTO: it was cut short. */
MUST_USE enum err http_response_eof(struct http_response *r);

#endif
