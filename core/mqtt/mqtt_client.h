/* core/mqtt/mqtt_client.h - the client side of an MQTT 3.1.1 connection as an engine without socket or clock.
 * Fed bytes and time, asked for events and for bytes to send. C99, no heap; the caller gives all memory.
 *
 *     mqtt_client_init, then when the transport is open: mqtt_client_connect
 *     while ((e = mqtt_client_next(c, &in, &ev)) == ERR_OK) look at ev    keep what is left of
 * `in` mqtt_client_tick(c, now, &out)      when mqtt_client_deadline(c) has come send `out`; on any error but
 * ERR_AGAIN close the transport
 *
 * What is unacknowledged when a connection ends is the caller's to send again (dup = true): it still holds
 * the payload, the engine never did. */
#ifndef ROOST_CORE_MQTT_MQTT_CLIENT_H
#define ROOST_CORE_MQTT_MQTT_CLIENT_H

#include "core/mqtt/mqtt_packet.h"

#define MQTT_CLIENT_INFLIGHT_MAX 8u

struct mqtt_client_config {
    uint32_t connect_timeout_ms; /* CONNECT to CONNACK; 0: 30 s */
    uint32_t answer_timeout_ms;  /* SUBSCRIBE, QoS 1 PUBLISH, PINGREQ to their answers; 0: 30 s */
    size_t packet_max;           /* body bytes of a packet we take; what the caller can buffer, less 5 */
    uint8_t inflight_max;        /* requests waiting for an answer; 0: 1; at most MQTT_CLIENT_INFLIGHT_MAX */
};

enum mqtt_client_state { MQTT_CLIENT_IDLE = 0, MQTT_CLIENT_CONNECTING, MQTT_CLIENT_OPEN, MQTT_CLIENT_CLOSED };

struct mqtt_client {
    struct mqtt_client_config cfg;
    uint64_t sent_ms;    /* last packet we wrote: keep alive */
    uint64_t ping_ms;    /* an unanswered PINGREQ left then; 0: none */
    uint64_t connect_ms; /* the CONNECT left */
    uint32_t keep_alive_ms;
    uint16_t next_id;
    uint8_t state; /* enum mqtt_client_state */
    uint8_t inflight_nr;
    struct mqtt_client_request {
        uint64_t at_ms;
        uint16_t packet_id;
        uint8_t type;       /* enum mqtt_type of the answer */
        uint8_t filters_nr; /* SUBACK: how many codes it must have */
    } inflight[MQTT_CLIENT_INFLIGHT_MAX];
};

enum mqtt_client_event_kind {
    MQTT_EV_CONNECTED,    /* session_present */
    MQTT_EV_REFUSED,      /* code; close the transport */
    MQTT_EV_MESSAGE,      /* message; QoS 1: answer with mqtt_client_ack when it is safe */
    MQTT_EV_PUBLISHED,    /* packet_id: our QoS 1 message is acknowledged */
    MQTT_EV_SUBSCRIBED,   /* packet_id, codes */
    MQTT_EV_UNSUBSCRIBED, /* packet_id */
    MQTT_EV_PONG
};
struct mqtt_client_event {
    uint8_t kind; /* enum mqtt_client_event_kind */
    uint8_t code; /* enum mqtt_connack_code */
    bool session_present;
    uint16_t packet_id;
    struct span codes;           /* into the input */
    struct mqtt_publish message; /* into the input */
};

void mqtt_client_init(struct mqtt_client *c, const struct mqtt_client_config *cfg);

/* The transport is open: write the CONNECT. Forgets what an earlier connection had in flight.
 *   ERR_AGAIN  no room in out */
MUST_USE enum err mqtt_client_connect(struct mqtt_client *c, const struct mqtt_connect *hello,
                                      uint64_t now_ms, struct wr *out);

/* Next event off the front of *in.
 *   ERR_AGAIN  no whole packet      ERR_LIMIT  a packet over packet_max
 *   ERR_PROTO  the server broke the protocol, or sent an answer to nothing we asked */
MUST_USE enum err mqtt_client_next(struct mqtt_client *c, struct span *in, struct mqtt_client_event *ev);

/* Requests. ERR_AGAIN: not connected, too many in flight, or no room in out: nothing changed.
 * *packet_id (may be NULL) names the request in its later event. */
MUST_USE enum err mqtt_client_subscribe(struct mqtt_client *c, const struct mqtt_filter *f, size_t nr,
                                        uint64_t now_ms, struct wr *out, uint16_t *packet_id);
MUST_USE enum err mqtt_client_unsubscribe(struct mqtt_client *c, const struct mqtt_filter *f, size_t nr,
                                          uint64_t now_ms, struct wr *out, uint16_t *packet_id);
/* m->qos 0 or 1; m->packet_id is chosen here. */
MUST_USE enum err mqtt_client_publish(struct mqtt_client *c, const struct mqtt_publish *m, uint64_t now_ms,
                                      struct wr *out, uint16_t *packet_id);
/* Acknowledge a received QoS 1 message. */
MUST_USE enum err mqtt_client_ack(struct mqtt_client *c, uint16_t packet_id, uint64_t now_ms, struct wr *out);
MUST_USE enum err mqtt_client_disconnect(struct mqtt_client *c, struct wr *out);

/* Sends PINGREQ when the connection was silent for the keep alive.
 *   ERR_AGAIN  no room in out: call again       ERR_STALE  an answer is overdue: close the transport */
MUST_USE enum err mqtt_client_tick(struct mqtt_client *c, uint64_t now_ms, struct wr *out);
uint64_t mqtt_client_deadline(const struct mqtt_client *c); /* UINT64_MAX: nothing to wait for */
/* True when a publish or subscribe would be taken (room in `out` apart). */
bool mqtt_client_is_ready(const struct mqtt_client *c);

#endif
