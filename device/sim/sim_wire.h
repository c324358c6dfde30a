/* device/sim/sim_wire.h - the sockets of a simulated device, driven by its turn (sim_dev.c): requests and
 * what the standing connection carries go between the engine and TLS. Whatever ends tells the engine why. */
#ifndef ROOST_DEVICE_SIM_SIM_WIRE_H
#define ROOST_DEVICE_SIM_SIM_WIRE_H

#include "device/sim/sim_dev.h"

/* Requests. A connection is kept for the next ones until d->http_idle_at. */
void sim_wire_http_start(struct sim_dev *d, const struct roost_dev_exchange *x);
void sim_wire_http_move(struct sim_dev *d); /* its socket is ready */
void sim_wire_http_gone(struct sim_dev *d); /* closes it, when there is one */

/* The standing connection. */
void sim_wire_link_move(struct sim_dev *d); /* its socket is ready */
/* Sends what the engine has for it. ERR_AGAIN: the socket takes no more now; ERR_NOMEM, ERR_IO: it is to be
 * ended. */
enum err sim_wire_link_send(struct sim_dev *d);
void sim_wire_link_end(struct sim_dev *d, enum err e); /* closes it and tells the engine */
void sim_wire_link_gone(struct sim_dev *d);            /* closes it */

/* Opening takes a place of the shard's gate, so that not all dial at once. */
bool sim_wire_needs_dial(struct sim_dev *d);
void sim_wire_dial(struct sim_dev *d); /* holds a place: opens one of what waits to be opened */

#endif
