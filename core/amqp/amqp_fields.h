/* core/amqp/amqp_fields.h - reading a list by position, as performatives are written: an absent field and a
 * null are the same; the first wrong type sets `bad`, and the decoder asks once, at the end. For the codecs
 * of this folder. */
#ifndef ROOST_CORE_AMQP_AMQP_FIELDS_H
#define ROOST_CORE_AMQP_AMQP_FIELDS_H

#include "core/amqp/amqp_value.h"

struct fields {
    struct amqp_walk w;
    bool bad;
};
struct fields amqp_fields_of(const struct amqp_value *list);
struct amqp_value amqp_field(struct fields *f);                         /* null at the end */
uint64_t amqp_field_u(struct fields *f, uint64_t max, uint64_t absent); /* unsigned, at most max */
uint64_t amqp_field_u_needed(struct fields *f, uint64_t max);
bool amqp_field_bool(struct fields *f, bool absent);
struct span amqp_field_text(struct fields *f); /* string or symbol; empty when absent */
struct span amqp_field_binary(struct fields *f, bool *has);
struct span amqp_field_map(struct fields *f);              /* encoded; empty when absent */
MUST_USE enum err amqp_fields_end(const struct fields *f); /* ERR_PROTO: something was wrong */

#endif
