/* hub/front/mqtt/upgrade.c - MQTT over WebSocket: which HTTP upgrades become a session. */
#include "core/ws/ws.h"
#include "hub/front/mqtt/mqtt_front.h"

bool mqtt_upgrade(struct http_req *r)
{
    struct span protocol;
    /* The client's own spelling goes back: some insist on it. */
    if (!ws_path_is_iothub(r->target) ||
        ws_protocol_select(http_field(r, "Sec-WebSocket-Protocol"), SPAN("mqtt"), &protocol))
        return false;
    http_websocket_accept(r, protocol, &mqtt_proto, r->ctx);
    return true;
}
