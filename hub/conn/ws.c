/* hub/conn/ws.c - the WebSocket rules of ws.h on wslay's frame reader. The reader (it has a buffer of 4 KB)
 * exists only while a frame has arrived in part: an idle connection keeps a few bytes. */
#include "hub/conn/ws.h"

#include <stdlib.h>
#include <wslay/wslay.h>

struct ws {
    wslay_frame_context_ptr reader; /* NULL between frames */
    uint64_t left;                  /* payload bytes of the frame that are still to come */
    uint64_t pending;               /* bytes given to the reader that no complete frame accounts for */
    bool in_frame;                  /* its head has been read */
    bool in_message;                /* a data message has begun and its last frame has not */
    bool closed;
    uint8_t opcode; /* of the frame */
    bool fin;
    uint8_t control_len;
    uint8_t control[125]; /* payload of a control frame so far */
};

/* wslay pulls; it is given what lies here. */
struct feed {
    struct span in;
};

static ssize_t pull(uint8_t *buf, size_t len, int flags, void *user)
{
    struct feed *f = *(struct feed **)user;
    (void)flags;
    if (!f->in.n)
        return -1;
    size_t n = f->in.n < len ? f->in.n : len;
    memcpy(buf, f->in.p, n);
    f->in = span_skip(f->in, n);
    return (ssize_t)n;
}

/* The reader's user data outlives one call, what it points to does not: set anew each time. */
static _Thread_local struct feed *feed_now;

enum err ws_new(struct ws **out)
{
    struct ws *ws = calloc(1, sizeof *ws);
    if (!ws)
        return ERR_NOMEM;
    *out = ws;
    return ERR_OK;
}

void ws_free(struct ws *ws)
{
    if (!ws)
        return;
    if (ws->reader)
        wslay_frame_context_free(ws->reader);
    free(ws);
}

bool ws_is_closed(const struct ws *ws)
{
    return ws->closed;
}

size_t ws_head(uint8_t out[WS_HEAD_MAX], uint64_t n)
{
    struct wr w = { out, WS_HEAD_MAX, 0 };
    wr_u8(&w, 0x80 | WSLAY_BINARY_FRAME);
    if (n < 126) {
        wr_u8(&w, (uint8_t)n);
    } else if (n < 65536) {
        wr_u8(&w, 126);
        wr_be16(&w, (uint16_t)n);
    } else {
        wr_u8(&w, 127);
        for (int shift = 56; shift >= 0; shift -= 8)
            wr_u8(&w, (uint8_t)(n >> shift));
    }
    return w.len;
}

size_t ws_close_frame(uint8_t out[4], uint16_t code)
{
    struct wr w = { out, 4, 0 };
    wr_u8(&w, 0x80 | WSLAY_CONNECTION_CLOSE);
    wr_u8(&w, 2);
    wr_be16(&w, code);
    return w.len;
}

static enum err refuse(struct ws *ws, uint16_t code, ws_put *put, void *ctx)
{
    uint8_t frame[4];
    put(ctx, span_of(frame, ws_close_frame(frame, code)));
    ws->closed = true;
    return ERR_PROTO;
}

static bool is_control(uint8_t opcode)
{
    return opcode & 8;
}

/* May this frame come now? 0: yes; else the code to close with. */
static uint16_t check_head(const struct ws *ws, const struct wslay_frame_iocb *f)
{
    if (!f->mask || f->rsv) /* a client masks; we agreed to no extension */
        return 1002;
    switch (f->opcode) {
    case WSLAY_CONTINUATION_FRAME:
        return ws->in_message ? 0 : 1002;
    case WSLAY_BINARY_FRAME:
        return ws->in_message ? 1002 : 0;
    case WSLAY_TEXT_FRAME:
        return ws->in_message ? 1002 : 1003; /* our protocols are bytes */
    case WSLAY_CONNECTION_CLOSE:
    case WSLAY_PING:
    case WSLAY_PONG:
        return f->fin && f->payload_length <= sizeof ws->control ? 0 : 1002;
    default:
        return 1002;
    }
}

/* A control frame is complete. ERR_STOPPED: that was the end. */
static enum err answer_control(struct ws *ws, ws_put *put, void *ctx)
{
    uint8_t out[WS_CONTROL_MAX];
    struct wr w = { out, sizeof out, 0 };
    struct span payload = span_of(ws->control, ws->control_len);
    if (ws->opcode == WSLAY_PONG)
        return ERR_OK;
    if (ws->opcode == WSLAY_PING) {
        wr_u8(&w, 0x80 | WSLAY_PONG);
        wr_u8(&w, ws->control_len);
        wr_put(&w, payload);
        put(ctx, wr_span(&w));
        return ERR_OK;
    }
    if (payload.n == 1)
        return refuse(ws, 1002, put, ctx);
    wr_u8(&w, 0x80 | WSLAY_CONNECTION_CLOSE); /* with the peer's own code, or none */
    payload.n = payload.n ? 2 : 0;
    wr_u8(&w, (uint8_t)payload.n);
    wr_put(&w, payload);
    put(ctx, wr_span(&w));
    ws->closed = true;
    return ERR_STOPPED;
}

static uint64_t frame_len(uint64_t payload) /* of a masked frame */
{
    return 2 + (payload < 126 ? 0 : payload < 65536 ? 2 : 8) + 4 + payload;
}

static enum err end_of_frame(struct ws *ws, uint64_t payload, ws_put *put, void *ctx)
{
    ws->in_frame = false;
    ws->pending -= frame_len(payload);
    if (is_control(ws->opcode))
        return answer_control(ws, put, ctx);
    ws->in_message = !ws->fin;
    return ERR_OK;
}

enum err ws_decode(struct ws *ws, struct span raw, struct wr *stream, ws_put *put, void *ctx)
{
    static const struct wslay_frame_callbacks callbacks = { .recv_callback = pull };
    struct feed feed = { raw };
    enum err e = ERR_OK;
    if (ws->closed)
        return ERR_OK; /* nothing counts after the closing frame */
    if (!raw.n)
        return ERR_OK;
    if (!ws->reader && wslay_frame_context_init(&ws->reader, &callbacks, &feed_now))
        return ERR_NOMEM;
    feed_now = &feed;
    ws->pending += raw.n;
    while (!e) {
        struct wslay_frame_iocb f = { 0 };
        ssize_t n = wslay_frame_recv(ws->reader, &f);
        if (n == WSLAY_ERR_WANT_READ)
            break;
        if (n < 0) {
            e = refuse(ws, 1002, put, ctx);
            break;
        }
        if (!ws->in_frame) {
            uint16_t code = check_head(ws, &f);
            if (code) {
                e = refuse(ws, code, put, ctx);
                break;
            }
            ws->in_frame = true;
            ws->opcode = f.opcode;
            ws->fin = f.fin;
            ws->left = f.payload_length;
            ws->control_len = 0;
        }
        ws->left -= f.data_length;
        if (!is_control(ws->opcode)) {
            wr_put(stream, span_of(f.data, f.data_length));
        } else if (f.data_length) {
            memcpy(ws->control + ws->control_len, f.data, f.data_length);
            ws->control_len = (uint8_t)(ws->control_len + f.data_length);
        }
        if (!ws->left)
            e = end_of_frame(ws, f.payload_length, put, ctx);
    }
    feed_now = NULL;
    if (e || !ws->pending) {
        wslay_frame_context_free(ws->reader);
        ws->reader = NULL;
    }
    return e;
}
