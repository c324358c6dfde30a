/* hub/front/amqp/amqp_front.h - AMQP 1.0 for devices, service clients and readers of telemetry, over TCP, TLS
 * or WebSocket. What it serves is in docs/amqp.md. */
#ifndef ROOST_HUB_FRONT_AMQP_AMQP_FRONT_H
#define ROOST_HUB_FRONT_AMQP_AMQP_FRONT_H

#include "hub/conn/conn.h"
#include "hub/conn/http_conn.h"
#include "hub/domain/hub.h"

struct amqp_front;

/* One a hub. `workers` worker threads, numbered from 0, will run its connections. */
MUST_USE enum err amqp_front_new(struct amqp_front **out, struct hub *hub, unsigned workers);
/* After the workers have stopped and the store and stream are closed, before the workers are freed. */
void amqp_front_free(struct amqp_front *f);

extern const struct conn_proto amqp_proto; /* listener_ctx: struct amqp_front */

/* The on_upgrade function of a struct http_routes whose ctx is the struct amqp_front: takes the sub-protocol
 * AMQPWSB10 on /$iothub/websocket and /$servicebus/websocket. */
bool amqp_upgrade(struct http_req *r);

#endif
