/* core/ws/ws.c - the WebSocket handshake: accept key, subprotocol, answer. */
#include "core/ws/ws.h"

#include "base/text.h"

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* Next element of a comma-separated list, trimmed. */
static bool list_next(struct span *list, struct span *one)
{
    while (list->n) {
        const uint8_t *comma = memchr(list->p, ',', list->n);
        struct span s = span_of(list->p, comma ? (size_t)(comma - list->p) : list->n);
        *list = span_skip(*list, comma ? s.n + 1 : s.n);
        while (s.n && is_space(s.p[0]))
            s = span_skip(s, 1);
        while (s.n && is_space(s.p[s.n - 1]))
            s.n--;
        if (s.n) {
            *one = s;
            return true;
        }
    }
    return false;
}

enum err ws_accept(struct span key, ws_sha1 *sha1, uint8_t out[WS_ACCEPT_LEN])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 section 1.3 */
    uint8_t nonce[18], text[24 + sizeof guid], hash[20];
    size_t n;
    if (key.n != 24 || base64_decode(key, nonce, sizeof nonce, &n) || n != 16)
        return ERR_PROTO;
    struct wr w = { text, sizeof text, 0 };
    wr_put(&w, key);
    wr_str(&w, guid);
    sha1(wr_span(&w), hash);
    struct wr o = { out, WS_ACCEPT_LEN, 0 };
    base64_encode(&o, span_of(hash, sizeof hash));
    return ERR_OK;
}

bool ws_field_has(struct span value, struct span token)
{
    struct span one;
    while (list_next(&value, &one))
        if (span_ieq(one, token))
            return true;
    return false;
}

enum err ws_protocol_select(struct span offered, struct span wanted, struct span *spelled)
{
    struct span one;
    while (list_next(&offered, &one))
        if (span_ieq(one, wanted)) {
            *spelled = one;
            return ERR_OK;
        }
    return ERR_NOTFOUND;
}

static bool path_is(struct span target, struct span want)
{
    uint8_t room[64];
    struct wr w = { room, sizeof room, 0 };
    const uint8_t *query = target.n ? memchr(target.p, '?', target.n) : NULL;
    percent_decode(&w, span_of(target.p, query ? (size_t)(query - target.p) : target.n));
    struct span path = wr_span(&w);
    if (path.n && path.p[path.n - 1] == '/')
        path.n--;
    return span_ieq(path, want);
}

bool ws_path_is_iothub(struct span target)
{
    return path_is(target, SPAN("/$iothub/websocket"));
}

bool ws_path_is_servicebus(struct span target)
{
    return path_is(target, SPAN("/$servicebus/websocket"));
}

enum err ws_response_encode(struct wr *w, struct span key, struct span protocol, ws_sha1 *sha1)
{
    uint8_t accept[WS_ACCEPT_LEN];
    enum err e = ws_accept(key, sha1, accept);
    if (e)
        return e;
    /* One space behind each colon, no empty value: one client's parser stops at anything else. */
    wr_str(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
              "Sec-WebSocket-Accept: ");
    wr_put(w, span_of(accept, sizeof accept));
    if (protocol.n) {
        wr_str(w, "\r\nSec-WebSocket-Protocol: ");
        wr_put(w, protocol);
    }
    wr_str(w, "\r\n\r\n");
    return ERR_OK;
}
