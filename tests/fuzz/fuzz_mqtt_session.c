/* tests/fuzz/fuzz_mqtt_session.c - a whole session: any bytes, in any pieces, before and after a good login,
 * with a disk that is full now and then. Nothing may crash, leak or hang, and what the hub answers is MQTT.
 *
 * Input: flags(1), then pieces: length(1) and so many bytes. flags: 1 log in first, 2 a stored session,
 * 4 a full disk now and then, 8 a second connection of the same device half way. */
#include "tests/fake/front_fake.h"

#include "core/sas/sas.h"
#include "hub/front/mqtt/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void login(struct conn *c)
{
    char token[SAS_TOKEN_MAX];
    uint8_t mem[2048];
    struct wr t = { (uint8_t *)token, sizeof token, 0 }, w = { mem, sizeof mem, 0 };
    sas_token_encode(&t, &port_crypto, SPAN("hub.example.net/devices/d1"), span_of(fake_key, 32), 4000000000u,
                     SPAN_NONE);
    mqtt_connect_encode(
        &w, &(struct mqtt_connect){ .client_id = SPAN("d1"),
                                    .username = SPAN("hub.example.net/d1/?api-version=2021-04-12"),
                                    .password = wr_span(&t),
                                    .has_username = true,
                                    .has_password = true,
                                    .has_will = true,
                                    .will_topic = SPAN("devices/d1/messages/events/"),
                                    .will_payload = SPAN("w") });
    fake_feed(c, wr_span(&w));
}

static void answers_are_mqtt(struct conn *c)
{
    struct span s = span_of(c->out, c->out_len);
    while (s.n) {
        struct mqtt_packet p;
        size_t used;
        enum err e = mqtt_packet_decode(s, MQTT_BODY_LIMIT, &p, &used);
        assert(e == ERR_OK);
        s = span_skip(s, used);
    }
    c->out_len = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mqtt_front *front;
    if (size < 1)
        return 0;
    uint8_t flags = data[0];
    fake_hub();
    fake.has_session = flags & 2;
    fake.channels = 0xaaa;
    fake.fail = flags & 4 ? 3 : 0;
    if (mqtt_front_new(&front, &hub, 1))
        abort();
    struct conn *c = fake_open(worker, &mqtt_proto, front), *second = NULL;
    if (flags & 1) {
        login(c);
        fake_turns(3);
    }
    struct rd r = rd_of(span_of(data + 1, size - 1));
    while (r.n && !c->closing) {
        size_t n = rd_u8(&r);
        fake_feed(c, rd_take(&r, n < r.n ? n : r.n));
        fake_turns(1);
        if ((flags & 8) && !second && r.n < size / 2) {
            second = fake_open(worker, &mqtt_proto, front);
            login(second);
        }
        answers_are_mqtt(c);
    }
    fake_turns(4);
    if (!c->closing)
        c->proto->on_timer(c);
    answers_are_mqtt(c);
    fake_drop(c);
    if (second)
        fake_drop(second);
    fake_turns(4); /* what was under way comes home */
    assert(front->workers[0].pending_bytes == 0);
    mqtt_front_free(front);
    fake_hub_end();
    return 0;
}
