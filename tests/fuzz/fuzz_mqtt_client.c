/* tests/fuzz/fuzz_mqtt_client.c - a server that sends anything: the engine never reads past it, never goes on
 * after a fault, and what it writes is packets. The first byte of a step says what the client does next. */
#include "core/mqtt/mqtt_client.h"

#include <stdlib.h>

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void written_is_packets(struct wr *out)
{
    struct span s = wr_span(out);
    while (s.n) {
        struct mqtt_packet p;
        size_t used;
        check(!mqtt_packet_decode(s, 4096, &p, &used));
        s = span_skip(s, used);
    }
    out->len = 0;
}

static void act(struct mqtt_client *c, uint8_t what, uint64_t now, struct wr *out)
{
    const struct mqtt_filter f[2] = { { SPAN("a/#"), 1 }, { SPAN("b"), 0 } };
    const struct mqtt_publish m = { .topic = SPAN("t"), .payload = SPAN("p"), .qos = what >> 3 & 1 };
    uint16_t id;
    enum err e = ERR_OK;
    switch (what & 7) {
    case 0:
        e = mqtt_client_subscribe(c, f, 1u + (what >> 3 & 1), now, out, &id);
        break;
    case 1:
        e = mqtt_client_unsubscribe(c, f, 1, now, out, &id);
        break;
    case 2:
        e = mqtt_client_publish(c, &m, now, out, &id);
        break;
    case 3:
        e = mqtt_client_ack(c, (uint16_t)(what + 1), now, out);
        break;
    case 4:
        e = mqtt_client_tick(c, now, out);
        check(!e || c->state == MQTT_CLIENT_CLOSED);
        e = ERR_OK;
        break;
    default:
        break;
    }
    check(!e || e == ERR_AGAIN);
    check(c->inflight_nr <= c->cfg.inflight_max);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t room[4096];
    struct wr out = { room, sizeof room, 0 };
    struct mqtt_client c;
    struct mqtt_client_event ev;
    const struct mqtt_client_config cfg = { .packet_max = 1024, .inflight_max = 3 };
    const struct mqtt_connect hello = { .client_id = SPAN("d"), .keep_alive_s = 5 };
    uint64_t now = 1;
    mqtt_client_init(&c, &cfg);
    check(!mqtt_client_connect(&c, &hello, now, &out));
    while (size >= 2) { /* a step: what the client does, how many bytes come, the bytes */
        act(&c, data[0], now, &out);
        written_is_packets(&out);
        size_t n = data[1] < size - 2 ? data[1] : size - 2;
        struct span in = span_of(data + 2, n);
        enum err e;
        while (!(e = mqtt_client_next(&c, &in, &ev)))
            if (ev.kind == MQTT_EV_MESSAGE)
                check(ev.message.topic.n && ev.message.qos < 2);
        if (e == ERR_PROTO)
            check(mqtt_client_next(&c, &in, &ev) != ERR_OK);
        data += 2 + n;
        size -= 2 + n;
        now += 700;
        (void)mqtt_client_deadline(&c);
    }
    return 0;
}
