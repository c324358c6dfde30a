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
    const char *more_fields; /* of http_error, while on_error writes the answer */
    uint16_t refuse;         /* to be answered once the body has been thrown away; 0: none */
    const char *refuse_code, *refuse_message;
    uint8_t step;
    bool keep_alive, chunked_answer, no_answer_body;
};
struct http_state {           /* a connection's, between requests as well */
    struct http_exchange *ex; /* being read or answered; NULL: idle */
    uint64_t body_deadline_ms;
    bool in_loop;    /* on_bytes is on the stack */
    bool last;       /* no request after this one */
    bool eof;        /* the peer sends no more */
    bool wait_drain; /* the next request waits until the answer has left */
};

/* http_conn.c */
const struct http_limits *http_limits_of(struct conn *c);
void http_exchange_free(struct http_exchange *ex);
void http_finished(struct http_exchange *ex);             /* the answer is queued; ex is gone */
uint8_t *http_memory(struct http_exchange *ex, size_t n); /* lives as long as the request; NULL: none */

#endif
