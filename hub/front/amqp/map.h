/* hub/front/amqp/map.h - messages of AMQP and messages of the hub: which property sits in which section is
 * said by one table, bag_system_names (core/bag/bag.h), that all protocols share. Pure. */
#ifndef ROOST_HUB_FRONT_AMQP_MAP_H
#define ROOST_HUB_FRONT_AMQP_MAP_H

#include "core/amqp/amqp_message.h"
#include "core/bag/bag.h"
#include "hub/domain/message/message.h"

/* The properties of a message as a bag. Values without a text form (floats, lists) are left out. */
void map_to_bag(struct wr *bag, const struct amqp_message *m);
/* The bytes of the body. *one: it lies in one piece in *body; else map_body_put writes it, *len bytes.
 *   ERR_PROTO  a body without a byte form: a list, a map, a number */
MUST_USE enum err map_body(const struct amqp_message *m, struct span *body, size_t *len, bool *one);
void map_body_put(struct wr *w, const struct amqp_message *m);

/* Properties as the sections of AMQP are written from them. system: decoded values, p NULL when absent. */
struct map_out {
    struct span system[BAG_SYSTEM_NAMES];
};
/* The properties section; `to` for messages that carry none. */
void map_properties(struct wr *w, const struct map_out *o, struct span to);
/* The message annotations that come from system properties: their number of keys and values. */
uint32_t map_annotations(struct wr *w, const struct map_out *o);
/* The application properties that come from system properties. */
uint32_t map_application(struct wr *w, const struct map_out *o);

#endif
