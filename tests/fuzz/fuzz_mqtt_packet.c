/* tests/fuzz/fuzz_mqtt_packet.c - any bytes as a stream of packets: each is refused, or read so that writing
 * what was read gives a packet that reads the same. */
#include "core/mqtt/mqtt_packet.h"

#include <stdlib.h>

static uint8_t room[1 << 17];

static void check(bool ok)
{
    if (!ok)
        abort();
}

/* Reads p and writes it again; false: refused. */
static bool rewrite(const struct mqtt_packet *p, struct wr *w)
{
    struct mqtt_connect c;
    struct mqtt_connack a;
    struct mqtt_publish m;
    struct mqtt_filters f;
    struct mqtt_suback s;
    static struct mqtt_filter list[1 << 15];
    uint16_t id;
    size_t nr = 0;
    switch (p->type) {
    case MQTT_CONNECT:
        return !mqtt_connect_decode(p, &c) && (mqtt_connect_encode(w, &c), true);
    case MQTT_CONNACK:
        return !mqtt_connack_decode(p, &a) && (mqtt_connack_encode(w, a.session_present, a.code), true);
    case MQTT_PUBLISH:
        return !mqtt_publish_decode(p, &m) && (mqtt_publish_encode(w, &m), true);
    case MQTT_SUBSCRIBE:
    case MQTT_UNSUBSCRIBE:
        if (p->type == MQTT_SUBSCRIBE ? mqtt_subscribe_decode(p, &f) : mqtt_unsubscribe_decode(p, &f))
            return false;
        while (mqtt_filter_next(&f, &list[nr])) {
            (void)mqtt_filter_matches(list[nr].filter, list[0].filter);
            (void)mqtt_filter_is_valid(list[nr].filter);
            nr++;
        }
        check(nr == f.nr);
        if (p->type == MQTT_SUBSCRIBE)
            mqtt_subscribe_encode(w, f.packet_id, list, nr);
        else
            mqtt_unsubscribe_encode(w, f.packet_id, list, nr);
        return true;
    case MQTT_SUBACK:
        return !mqtt_suback_decode(p, &s) && (mqtt_suback_encode(w, s.packet_id, s.codes), true);
    case MQTT_PINGREQ:
    case MQTT_PINGRESP:
    case MQTT_DISCONNECT:
        mqtt_empty_encode(w, p->type);
        return true;
    default:
        return !mqtt_id_decode(p, &id) && (mqtt_id_encode(w, p->type, id), true);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    struct mqtt_packet p, q;
    size_t used;
    while (!mqtt_packet_decode(in, 60000, &p, &used)) {
        struct wr w = { room, sizeof room, 0 };
        if (rewrite(&p, &w)) {
            size_t again;
            check(!mqtt_packet_decode(wr_span(&w), 70000, &q, &again) && again == w.len);
            check(q.type == p.type && q.flags == p.flags && span_eq(q.body, p.body));
        }
        in = span_skip(in, used);
    }
    return 0;
}
