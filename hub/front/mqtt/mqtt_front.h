/* hub/front/mqtt/mqtt_front.h - MQTT 3.1.1 for devices: a session on each connection, over TCP, TLS or
 * WebSocket. What it does with each packet is in docs/mqtt.md. */
#ifndef ROOST_HUB_FRONT_MQTT_MQTT_FRONT_H
#define ROOST_HUB_FRONT_MQTT_MQTT_FRONT_H

#include "hub/conn/conn.h"
#include "hub/conn/http_conn.h"
#include "hub/domain/hub.h"

struct mqtt_front;

/* One a hub. `workers` worker threads, numbered from 0, will run its connections. */
MUST_USE enum err mqtt_front_new(struct mqtt_front **out, struct hub *hub, unsigned workers);
/* After the workers have stopped and the store and stream are closed, before the workers are freed. */
void mqtt_front_free(struct mqtt_front *f);

extern const struct conn_proto mqtt_proto; /* listener_ctx: struct mqtt_front */

/* The on_upgrade function of a struct http_routes whose ctx is the struct mqtt_front: takes
 * /$iothub/websocket with the sub-protocol mqtt (mqtt.md 1.3). */
bool mqtt_upgrade(struct http_req *r);

#endif
