/* hub/conn/ws.h - the server's end of a WebSocket under a byte stream: frames in, payload out. Knows no
 * socket: it is given what arrived and says what to answer. Frames are wslay's; this holds the rules between
 * them. Source: RFC 6455 section 5. */
#ifndef ROOST_HUB_CONN_WS_H
#define ROOST_HUB_CONN_WS_H

#include "base/err.h"
#include "base/span.h"

#define WS_HEAD_MAX    10u
#define WS_CONTROL_MAX 127u /* a whole unmasked control frame */

struct ws;
MUST_USE enum err ws_new(struct ws **out);
void ws_free(struct ws *ws); /* NULL: harmless */

/* Takes all of `raw`; writes the payload of data frames to `stream` (room for raw.n) and the answers that are
 * due (pong, close) to `reply`, a reply at a time through put().
 *   ERR_OK      go on          ERR_STOPPED  the peer closed; the closing frame is in `reply`
 *   ERR_PROTO   it broke the rules; so is the closing frame     ERR_NOMEM */
typedef void ws_put(void *ctx, struct span frame);
MUST_USE enum err ws_decode(struct ws *ws, struct span raw, struct wr *stream, ws_put *put, void *ctx);

/* The head of an unfragmented binary message of n bytes; returns its length. */
size_t ws_head(uint8_t out[WS_HEAD_MAX], uint64_t n);
/* A closing frame (1000 normal, 1001 going away, 1002 protocol, 1003 type, 1009 too large). */
size_t ws_close_frame(uint8_t out[4], uint16_t code);
/* Whether a closing frame has been sent (by ws_decode): then none is sent again. */
bool ws_is_closed(const struct ws *ws);

#endif
