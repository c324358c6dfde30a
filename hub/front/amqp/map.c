/* hub/front/amqp/map.c - see map.h. */
#include "hub/front/amqp/map.h"

#include "base/text.h"

#define YEAR_9999_MS 253402300799999u /* the last the text form can say */

/* ---- in --------------------------------------------------------------------------------------------- */

static void put(struct wr *bag, enum bag_system s, struct span value)
{
    if (value.p)
        bag_put(bag, 0, span_str(bag_system_names[s].wire), value);
}

static void put_id(struct wr *bag, enum bag_system s, const struct amqp_value *id)
{
    uint8_t text[512];
    struct wr w = { text, sizeof text, 0 };
    if (id->type == AMQP_NULL)
        return;
    if (id->type == AMQP_STRING) {
        put(bag, s, id->bytes.p ? id->bytes : SPAN(""));
        return;
    }
    amqp_id_text(&w, id);
    if (wr_ok(&w))
        put(bag, s, wr_span(&w));
}

static void put_time(struct wr *bag, enum bag_system s, bool has, uint64_t ms)
{
    uint8_t text[40];
    struct wr w = { text, sizeof text, 0 };
    if (!has || ms > YEAR_9999_MS)
        return;
    iso8601_encode(&w, ms);
    put(bag, s, wr_span(&w));
}

/* The system property that sits in this place under this name; -1: none. */
static int system_at(enum bag_place place, struct span name)
{
    for (int i = 0; i < BAG_SYSTEM_NAMES; i++)
        if (bag_system_names[i].place == place && span_ieq(name, span_str(bag_system_names[i].amqp)))
            return i;
    return -1;
}

static void put_map(struct wr *bag, const struct amqp_value *map, enum bag_place place)
{
    struct amqp_walk walk = amqp_walk_of(map);
    struct amqp_value k, v;
    while (amqp_walk_next(&walk, &k) && amqp_walk_next(&walk, &v)) {
        uint8_t text[64];
        struct wr w = { text, sizeof text, 0 };
        struct span value = v.bytes;
        if (!amqp_is_text(&k) || !k.bytes.n)
            continue;
        int system = system_at(place, k.bytes);
        if (place == BAG_IN_ANNOTATIONS && system < 0)
            continue; /* of the transport, or not the device's to say */
        if (!amqp_is_text(&v) && v.type != AMQP_BINARY) {
            if (v.type == AMQP_NULL) {
                if (system < 0)
                    bag_put_null(bag, 0, k.bytes);
                continue;
            }
            if (!amqp_scalar_text(&w, &v))
                continue;
            value = wr_span(&w);
        }
        if (!value.p)
            value = SPAN("");
        if (system >= 0)
            put(bag, (enum bag_system)system, value);
        else
            bag_put(bag, 0, k.bytes, value);
    }
}

void map_to_bag(struct wr *bag, const struct amqp_message *m)
{
    const struct amqp_properties *p = &m->properties;
    put_id(bag, BAG_MESSAGE_ID, &p->message_id);
    put_id(bag, BAG_CORRELATION_ID, &p->correlation_id);
    put(bag, BAG_USER_ID, p->user_id);
    put(bag, BAG_TO, p->to);
    put_time(bag, BAG_EXPIRY, p->has_expiry, p->expiry_ms);
    put(bag, BAG_CONTENT_TYPE, p->content_type);
    put(bag, BAG_CONTENT_ENCODING, p->content_encoding);
    put_map(bag, &m->message_annotations, BAG_IN_ANNOTATIONS);
    put_map(bag, &m->application_properties, BAG_IN_APPLICATION);
}

enum err map_body(const struct amqp_message *m, struct span *body, size_t *len, bool *one)
{
    struct span at = m->sections, data;
    *one = true;
    *body = SPAN_NONE;
    *len = 0;
    switch (m->body) {
    case 0:
        return ERR_OK;
    case AMQP_DATA:
        *one = m->body_sections == 1;
        *body = m->value.bytes;
        while (amqp_data_next(&at, &data))
            *len += data.n;
        return ERR_OK;
    case AMQP_VALUE:
        if (m->value.type == AMQP_NULL)
            return ERR_OK;
        if (!amqp_is_text(&m->value) && m->value.type != AMQP_BINARY)
            return ERR_PROTO;
        *body = m->value.bytes;
        *len = body->n;
        return ERR_OK;
    default:
        return ERR_PROTO;
    }
}

void map_body_put(struct wr *w, const struct amqp_message *m)
{
    struct span at = m->sections, data;
    while (amqp_data_next(&at, &data))
        wr_put(w, data);
}

/* ---- out -------------------------------------------------------------------------------------------- */

void map_properties(struct wr *w, const struct map_out *o, struct span to)
{
    const struct span *s = o->system;
    struct amqp_properties p = { .user_id = s[BAG_USER_ID],
                                 .to = s[BAG_TO].p ? s[BAG_TO] : to,
                                 .content_type = s[BAG_CONTENT_TYPE],
                                 .content_encoding = s[BAG_CONTENT_ENCODING] };
    if (s[BAG_MESSAGE_ID].p)
        p.message_id = (struct amqp_value){ .type = AMQP_STRING, .bytes = s[BAG_MESSAGE_ID] };
    if (s[BAG_CORRELATION_ID].p)
        p.correlation_id = (struct amqp_value){ .type = AMQP_STRING, .bytes = s[BAG_CORRELATION_ID] };
    p.has_expiry = s[BAG_EXPIRY].p && !iso8601_decode(s[BAG_EXPIRY], &p.expiry_ms);
    amqp_properties_encode(w, &p);
}

static uint32_t put_place(struct wr *w, const struct map_out *o, enum bag_place place)
{
    uint32_t nr = 0;
    for (int i = 0; i < BAG_SYSTEM_NAMES; i++) {
        if (bag_system_names[i].place != place || !o->system[i].p)
            continue;
        if (place == BAG_IN_ANNOTATIONS)
            amqp_put_symbol(w, span_str(bag_system_names[i].amqp));
        else
            amqp_put_string(w, span_str(bag_system_names[i].amqp));
        amqp_put_string(w, o->system[i]);
        nr += 2;
    }
    return nr;
}

uint32_t map_annotations(struct wr *w, const struct map_out *o)
{
    return put_place(w, o, BAG_IN_ANNOTATIONS);
}
uint32_t map_application(struct wr *w, const struct map_out *o)
{
    return put_place(w, o, BAG_IN_APPLICATION);
}
