/* core/amqp/amqp_message.h - a message in its sections, read in any order and written in the right one.
 * Pure. Spans point into the input. Source: OASIS AMQP 1.0 part 3.2. */
#ifndef ROOST_CORE_AMQP_AMQP_MESSAGE_H
#define ROOST_CORE_AMQP_AMQP_MESSAGE_H

#include "core/amqp/amqp_value.h"

enum amqp_section {
    AMQP_HEADER = 0x70,
    AMQP_DELIVERY_ANNOTATIONS,
    AMQP_MESSAGE_ANNOTATIONS,
    AMQP_PROPERTIES,
    AMQP_APPLICATION_PROPERTIES,
    AMQP_DATA,
    AMQP_SEQUENCE,
    AMQP_VALUE,
    AMQP_FOOTER
};

struct amqp_properties {
    struct amqp_value message_id, correlation_id; /* null: absent; else ulong, uuid, binary or string */
    struct span user_id, to, subject, reply_to, content_type, content_encoding, group_id; /* p NULL: absent */
    bool has_expiry, has_creation;
    uint64_t expiry_ms, creation_ms; /* wall */
};
struct amqp_message {
    struct amqp_properties properties;
    struct amqp_value message_annotations, application_properties; /* a map, or null */
    uint8_t body;            /* AMQP_DATA, AMQP_SEQUENCE, AMQP_VALUE; 0: none */
    uint32_t body_sections;  /* one or more of the same kind */
    struct amqp_value value; /* the first: what is in the section */
    struct span sections;    /* of the whole message, for amqp_data_next */
};
/* ERR_PROTO: not a sequence of sections, a section twice (but Data and Sequence), a body of two kinds, or a
 * field that the standard does not allow. */
MUST_USE enum err amqp_message_decode(struct span in, struct amqp_message *out);
/* The bytes of the next Data section; *at starts as m.sections. False: no more. */
bool amqp_data_next(struct span *at, struct span *data);

/* ---- writing: sections in the order of enum amqp_section -------------------------------------------- */

static inline void amqp_section_begin(struct wr *w, enum amqp_section s)
{
    amqp_put_descriptor(w, s);
}
void amqp_properties_encode(struct wr *w, const struct amqp_properties *p);
/* The head of a Data section of n bytes; the bytes follow. */
void amqp_data_head(struct wr *w, size_t n);
/* Text of an id: uuid with hyphens in lower case, ulong in decimal, binary in hexadecimal, string as it is.
 */
void amqp_id_text(struct wr *w, const struct amqp_value *id);
/* Text of a scalar: integers in decimal, true and false, a timestamp as ms since 1970. False: a type that has
 * no text here (null, floats, decimals, char, compounds). */
bool amqp_scalar_text(struct wr *w, const struct amqp_value *v);

#endif
