/* hub/conn/http_conn.h - HTTP/1.1 requests on a connection: parsing, limits, routing, answers now or later.
 * A front registers its routes in one table; a handler answers at once or keeps the request and answers from
 * a completion on the same worker. The request outlives a connection that dies meanwhile: answering is then
 * harmless. Source: RFC 9110, RFC 9112. */
#ifndef ROOST_HUB_CONN_HTTP_CONN_H
#define ROOST_HUB_CONN_HTTP_CONN_H

#include "hub/conn/conn.h"

#define HTTP_HEAD_MAX   16384u
#define HTTP_PARAMS_MAX 4u

enum http_methods {
    HTTP_GET_ = 1,
    HTTP_HEAD_ = 2,
    HTTP_POST_ = 4,
    HTTP_PUT_ = 8,
    HTTP_PATCH_ = 16,
    HTTP_DELETE_ = 32,
    HTTP_PULLED = 64 /* of a route: its handler begins with the head and takes the body by http_read */
};

struct http_req {
    struct conn *conn; /* NULL once the connection is gone */
    struct worker *worker;
    void *ctx; /* of the front that owns the route */
    const struct http_route *route;
    unsigned method;    /* enum http_methods */
    struct span target; /* as received */
    struct span path, query;
    struct span
        params[HTTP_PARAMS_MAX]; /* percent-decoded values of the {} segments of the route, in order */
    struct span body;            /* whole; of a route with HTTP_PULLED the piece at hand */
    bool body_end;               /* HTTP_PULLED: there is no piece after it */
    uint64_t id;
    void *user; /* the handler's; see on_gone */
    /* Streaming only: the peer went away; set by the handler or NULL. http_stream_end is still due. */
    void (*on_gone)(struct http_req *r);
};
typedef void http_handler(struct http_req *r);

struct http_route {
    unsigned methods;    /* enum http_methods bits; HEAD is answered by GET handlers that set it */
    const char *pattern; /* "/roost/v1/devices/{}"; fixed segments compare without case, empty ones collapse.
                            "/x/" and two stars at the end: all below /x; with no methods: whose 404 it is */
    http_handler *handler;
    size_t body_max; /* bytes; longer bodies get 413 */
};
struct http_limits {   /* zero: the default in brackets */
    uint32_t idle_ms;  /* between requests [120 000] */
    uint32_t head_ms;  /* from the first byte of a head to its end [30 000] */
    uint32_t body_ms;  /* for a body, plus a second for each 4 KiB that arrive [60 000] */
    size_t bodies_max; /* bytes of request bodies in memory, of one worker [64 MiB]; over it: 503 */
};
/* A table of routes of one front; ends with a pattern of NULL. */
struct http_routes {
    const struct http_route *table;
    void *ctx;
    struct http_routes *next; /* further fronts on the same listener */
    /* Called for a well-formed WebSocket upgrade on any path; true when it took the connection
     * (http_websocket_accept) or answered. The first front that says true has it; none: 404. */
    bool (*on_upgrade)(struct http_req *r);
    /* Writes this front's error body for 404, 405, 413, ... NULL: {"error":{"code":...,"message":...}} */
    void (*on_error)(struct http_req *r, unsigned status, const char *code, const char *message);
    /* A POST with X-HTTP-Method-Override: PATCH is a PATCH here, for clients that cannot send one. */
    bool method_override;
    bool last_resort; /* looked at only when no other table has the path, with whatever method */
    const struct http_limits *limits; /* of the listener: looked for in its first table; NULL: defaults */
};
extern const struct conn_proto http_proto; /* listener_ctx: struct http_routes */

/* Field value by name (no case); empty span when absent. Spans of a request live until it is answered. */
struct span http_field(const struct http_req *r, const char *name);
/* All fields as they came, one each call: start with *at = 0; false: no more. */
bool http_field_next(const struct http_req *r, size_t *at, struct span *name, struct span *value);
/* Query value by name (no case), percent-decoded into the request's memory; false when absent. */
bool http_query(struct http_req *r, const char *name, struct span *out);

/* HTTP_PULLED: reads on until about HTTP_PIECE bytes or the rest of the body have come, then calls fn with
 * them in r->body, at once when they are there. When the connection is lost, or the body is broken or too
 * long (the connection is closed then), fn finds r->conn NULL. Memory is one piece. Who answers before the
 * end has the rest thrown away. */
#define HTTP_PIECE 262144u
void http_read(struct http_req *r, void (*fn)(struct http_req *r));

/* Inside on_upgrade: answers 101 with this sub-protocol (empty: none) and hands the connection to proto; r is
 * gone afterwards. */
void http_websocket_accept(struct http_req *r, struct span subprotocol, const struct conn_proto *proto,
                           void *listener_ctx);

/* Answers; each ends the request (r is gone), except the streaming ones. `fields`: further "Name: value\r\n"
 * lines or NULL. */
void http_answer(struct http_req *r, unsigned status, const char *content_type, struct span body,
                 const char *fields);
void http_error(struct http_req *r, unsigned status, const char *code, const char *message,
                const char *fields);
/* A file from offset; takes fd over. For HEAD only the head leaves. */
void http_answer_file(struct http_req *r, unsigned status, const char *content_type, int fd, uint64_t offset,
                      uint64_t len, const char *fields);
void http_stream_begin(struct http_req *r, unsigned status, const char *content_type,
                       const char *fields); /* chunked */
/* Unsent bytes after it; a handler stops producing above its own mark and goes on in on_room. */
size_t http_stream_send(struct http_req *r, struct span piece);
void http_stream_on_room(struct http_req *r, void (*fn)(struct http_req *r)); /* once, when all has left */
void http_stream_end(struct http_req *r);

#endif
