/* core/ws/ws.h - the computations of a WebSocket handshake; framing is wslay's. Pure; C99.
 * Source: RFC 6455 section 4. */
#ifndef ROOST_CORE_WS_WS_H
#define ROOST_CORE_WS_WS_H

#include "base/err.h"
#include "base/span.h"

#define WS_ACCEPT_LEN 28u

/* SHA-1 as RFC 6455 demands it (no secret rests on it); the port gives it. */
typedef void ws_sha1(struct span s, uint8_t out[20]);

/* Sec-WebSocket-Accept for the client's key. ERR_PROTO: the key is not base64 of 16 bytes. */
MUST_USE enum err ws_accept(struct span key, ws_sha1 *sha1, uint8_t out[WS_ACCEPT_LEN]);

/* Is `token` in a comma-separated field value (Connection: keep-alive, Upgrade)? No case. */
bool ws_field_has(struct span value, struct span token);

/* The first of the offered subprotocols (Sec-WebSocket-Protocol, several fields joined by ',') that equals
 * `wanted` without case, in the client's own spelling. ERR_NOTFOUND. */
MUST_USE enum err ws_protocol_select(struct span offered, struct span wanted, struct span *spelled);

/* "/$iothub/websocket", with '$' as %24 as well, whatever the query is. */
bool ws_path_is_iothub(struct span target);
bool ws_path_is_servicebus(struct span target); /* "/$servicebus/websocket", in the same forms */

/* The whole 101 answer. protocol: as ws_protocol_select spelled it; empty: none was offered. */
MUST_USE enum err ws_response_encode(struct wr *w, struct span key, struct span protocol, ws_sha1 *sha1);

#endif
