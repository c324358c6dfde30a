/* core/mqtt/mqtt_packet.h - MQTT 3.1.1 control packets: cut them out of a byte stream, read and write each.
 * Pure: any thread, hub or device, both directions. Spans in a result point into the input and live as long.
 * Source: MQTT 3.1.1, OASIS 2014; sections in [brackets]. */
#ifndef ROOST_CORE_MQTT_MQTT_PACKET_H
#define ROOST_CORE_MQTT_MQTT_PACKET_H

#include "base/err.h"
#include "base/span.h"

#define MQTT_STRING_MAX 65535u     /* bytes of a string or of binary data with a length [1.5.3] */
#define MQTT_BODY_LIMIT 268435455u /* what four length bytes can say [2.2.3] */
#define MQTT_HEAD_MAX   5u         /* bytes of a fixed header */

enum mqtt_type {
    MQTT_CONNECT = 1,
    MQTT_CONNACK,
    MQTT_PUBLISH,
    MQTT_PUBACK,
    MQTT_PUBREC,
    MQTT_PUBREL,
    MQTT_PUBCOMP,
    MQTT_SUBSCRIBE,
    MQTT_SUBACK,
    MQTT_UNSUBSCRIBE,
    MQTT_UNSUBACK,
    MQTT_PINGREQ,
    MQTT_PINGRESP,
    MQTT_DISCONNECT
};
const char *mqtt_type_name(unsigned type); /* "connect", ...; "unknown"; never NULL */

struct mqtt_packet {
    uint8_t type;     /* enum mqtt_type */
    uint8_t flags;    /* 0..15, as the type allows [2.2.2] */
    struct span body; /* borrowed: what follows the fixed header */
};

/* Take the first packet off `in` (any number of bytes, from a packet boundary on).
 * On ERR_OK only: *out is set, and *used to the bytes taken, header included.
 *   ERR_AGAIN  not complete yet; call again with more behind the same bytes
 *   ERR_LIMIT  body longer than body_max; known as soon as the length is read
 *   ERR_PROTO  type 0 or 15, flags the type does not allow, a length that runs past four bytes or that the
 *              type cannot have; known with the byte that shows it */
MUST_USE enum err mqtt_packet_decode(struct span in, size_t body_max, struct mqtt_packet *out, size_t *used);

/* ---- one struct, one decode, one encode a packet ----------------------------------------------------
 * decode: ERR_PROTO when the body is not what the type demands (short, trailing bytes, bad UTF-8, packet
 * identifier 0, reserved bits). encode: appends the whole packet to w; the caller's lengths are in range.
 * To add a packet: a row in the table of mqtt_packet.c, a pair here. */

struct mqtt_connect {
    struct span client_id; /* may be empty */
    struct span username, password, will_topic, will_payload;
    uint16_t keep_alive_s;
    uint8_t will_qos; /* 0..2 */
    bool clean, has_username, has_password, has_will, will_retain;
};
/* ERR_LIMIT: another protocol name or level: answer MQTT_CONNACK_VERSION, then close. */
MUST_USE enum err mqtt_connect_decode(const struct mqtt_packet *p, struct mqtt_connect *out);
void mqtt_connect_encode(struct wr *w, const struct mqtt_connect *c);

enum mqtt_connack_code { /* [3.2.2.3] */
                         MQTT_CONNACK_OK = 0,
                         MQTT_CONNACK_VERSION,
                         MQTT_CONNACK_CLIENT_ID,
                         MQTT_CONNACK_UNAVAILABLE,
                         MQTT_CONNACK_BAD_LOGIN,
                         MQTT_CONNACK_REFUSED
};
struct mqtt_connack {
    bool session_present;
    uint8_t code; /* enum mqtt_connack_code */
};
MUST_USE enum err mqtt_connack_decode(const struct mqtt_packet *p, struct mqtt_connack *out);
void mqtt_connack_encode(struct wr *w, bool session_present, enum mqtt_connack_code code);

struct mqtt_publish {
    struct span topic; /* UTF-8, not empty; wildcards are the reader's to judge (an id may contain them) */
    struct span payload;
    uint16_t packet_id; /* 0 at QoS 0 */
    uint8_t qos;        /* 0..2 */
    bool dup, retain;
};
MUST_USE enum err mqtt_publish_decode(const struct mqtt_packet *p, struct mqtt_publish *out);
void mqtt_publish_encode(struct wr *w, const struct mqtt_publish *m);
/* All but the payload, whose length counts: for who sends the payload from where it lies. */
void mqtt_publish_head_encode(struct wr *w, const struct mqtt_publish *m);

/* PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBACK: nothing but the identifier. */
MUST_USE enum err mqtt_id_decode(const struct mqtt_packet *p, uint16_t *packet_id);
void mqtt_id_encode(struct wr *w, enum mqtt_type type, uint16_t packet_id);

struct mqtt_filters { /* of a SUBSCRIBE or UNSUBSCRIBE; walk it with mqtt_filter_next */
    uint16_t packet_id;
    size_t nr; /* filters in all, at least 1 */
    struct span rest;
    bool with_qos;
};
struct mqtt_filter {
    struct span filter; /* UTF-8, not empty */
    uint8_t qos;        /* requested, 0..2; UNSUBSCRIBE: 0 */
};
/* Checks every entry before it gives the first. */
MUST_USE enum err mqtt_subscribe_decode(const struct mqtt_packet *p, struct mqtt_filters *out);
MUST_USE enum err mqtt_unsubscribe_decode(const struct mqtt_packet *p, struct mqtt_filters *out);
bool mqtt_filter_next(struct mqtt_filters *f, struct mqtt_filter *out); /* false: no more */
void mqtt_subscribe_encode(struct wr *w, uint16_t packet_id, const struct mqtt_filter *f, size_t nr);
void mqtt_unsubscribe_encode(struct wr *w, uint16_t packet_id, const struct mqtt_filter *f, size_t nr);

#define MQTT_SUBACK_FAILURE 0x80u
struct mqtt_suback {
    uint16_t packet_id;
    struct span codes; /* one byte a filter, in order: granted QoS 0..2 or MQTT_SUBACK_FAILURE */
};
MUST_USE enum err mqtt_suback_decode(const struct mqtt_packet *p, struct mqtt_suback *out);
void mqtt_suback_encode(struct wr *w, uint16_t packet_id, struct span codes);

/* PINGREQ, PINGRESP, DISCONNECT: two bytes. */
void mqtt_empty_encode(struct wr *w, enum mqtt_type type);

/* ---- helpers ---------------------------------------------------------------------------------------- */

/* Well-formed UTF-8 without U+0000 and surrogates [1.5.3]. */
bool mqtt_utf8_is_valid(struct span s);
/* Does a filter, wildcards in their right places, match a topic name [4.7]? */
bool mqtt_filter_is_valid(struct span filter);
bool mqtt_filter_matches(struct span filter, struct span topic);

#endif
