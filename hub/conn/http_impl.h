/* hub/conn/http_impl.h - one request on its way through http_conn.c (reading) and http_answer.c (answering).
 */
#ifndef ROOST_HUB_CONN_HTTP_IMPL_H
#define ROOST_HUB_CONN_HTTP_IMPL_H

#include "hub/conn/conn_impl.h"
#include "hub/conn/http_conn.h"
#include "hub/conn/http_head.h"
#include "hub/conn/http_route.h"

enum http_step {
    HTTP_STEP_HEAD,
    HTTP_STEP_BODY,
    HTTP_STEP_PULL,    /* of a body that the handler takes in pieces */
    HTTP_STEP_HANDLER, /* the handler has it */
    HTTP_STEP_STREAM,  /* http_stream_begin was called */
    HTTP_STEP_DONE
};

struct http_chunk { /* further memory of a request */
    struct http_chunk *next;
    uint8_t data[];
};
struct http_exchange {
    struct http_req r; /* first */
    const struct http_routes *routes;
    struct http_head head;
    struct http_body framing;
    uint8_t *scratch; /* decoded path */
    uint8_t *body;
    size_t body_len, body_cap, body_max;
    struct http_chunk *chunks;
    void (*on_room)(struct http_req *r);
    void (*on_piece)(struct http_req *r); /* of http_read */
    uint64_t pulled_len;                  /* taken of the body so far */
    const char *more_fields;              /* of http_error, while on_error writes the answer */
    uint16_t refuse;                      /* to be answered once the body has been thrown away; 0: none */
    const char *refuse_code, *refuse_message;
    uint8_t step;
    bool keep_alive, chunked_answer, no_answer_body;
    bool pulled, continued; /* the handler takes the body itself; it was told to come (100) */
};
struct http_state {           /* a connection's, between requests as well */
    struct http_exchange *ex; /* being read or answered; NULL: idle */
    uint64_t body_deadline_ms;
    struct http_body skip; /* rest of a body that nobody wanted */
    bool skipping;
    bool in_loop;    /* on_bytes is on the stack */
    bool last;       /* no request after this one */
    bool eof;        /* the peer sends no more */
    bool wait_drain; /* the next request waits until the answer has left */
};

/* http_conn.c */
const struct http_limits *http_limits_of(struct conn *c);
/* False: refused and answered, or for a pulled body, the connection is closed. */
bool http_keep_piece(struct conn *c, struct http_exchange *ex, struct span piece);
uint64_t http_body_ms(struct conn *c,
                      size_t len); /* how much longer a body may take for these bytes; 0: at all */
/* http_pull.c: feeds a pulled body. False: wait for more bytes. */
bool http_pull(struct conn *c, struct http_exchange *ex, struct span *in);
bool http_skip(struct conn *c, struct span *in); /* true: it is over */
void http_pull_lost(struct http_exchange *ex);   /* the connection is gone */
void http_pull_left(struct http_exchange *ex);   /* answered before its end: skip the rest, or close */
void http_exchange_free(struct http_exchange *ex);
void http_finished(struct http_exchange *ex);             /* the answer is queued; ex is gone */
uint8_t *http_memory(struct http_exchange *ex, size_t n); /* lives as long as the request; NULL: none */

#endif
