/* hub/front/amqp/upgrade.c - AMQP over WebSocket: which HTTP upgrades become a connection of AMQP. */
#include "core/ws/ws.h"
#include "hub/front/amqp/amqp_front.h"

bool amqp_upgrade(struct http_req *r)
{
    struct span protocol;
    /* The client's own spelling goes back: some insist on it. */
    if ((!ws_path_is_iothub(r->target) && !ws_path_is_servicebus(r->target)) ||
        ws_protocol_select(http_field(r, "Sec-WebSocket-Protocol"), SPAN("AMQPWSB10"), &protocol))
        return false;
    http_websocket_accept(r, protocol, &amqp_proto, r->ctx);
    return true;
}
