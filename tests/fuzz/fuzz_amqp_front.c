/* tests/fuzz/fuzz_amqp_front.c - a whole connection of AMQP: any bytes, in any pieces, before and behind
 * tokens and links of every kind, with a disk that is full now and then and a peer that does not read.
 * Nothing may crash, leak, hang or grow past its cap, and what the hub answers is always whole frames.
 *
 * Input: flags(1), then pieces: length(1) and so many bytes. flags: 1 tokens and links first, 2 a full disk
 * now and then, 4 nothing is read for a while, 8 a second connection of the same device half way, 16
 * wake-ups. */
#include "tests/fake/front_fake.h"

#include "tests/fake/amqp_client.h"

#include "hub/front/amqp/peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct client k;

static void opening(struct conn *c)
{
    static const char *const links[] = { "/devices/d1/messages/devicebound",
                                         "/devices/d1/methods/devicebound",
                                         "/devices/d1/twin",
                                         "/messages/serviceBound/feedback",
                                         "/messages/serviceBound/filenotifications",
                                         "hub/$management",
                                         "hub/ConsumerGroups/$Default/Partitions/1" };
    static const char *const senders[] = { "/devices/d1/messages/events", "/devices/d1/twin",
                                           "/devices/d1/methods/devicebound", "/messages/devicebound",
                                           "$management" };
    static const char *const tokens[][2] = { { "hub.example.net/devices/d1", "" },
                                             { "hub.example.net", "owner" } };
    uint8_t mem[1024];
    client_init(&k, c);
    struct amqp_link *put = client_sender(&k, "$cbs");
    client_credit(&k, client_receiver(&k, "$cbs"), 100);
    for (size_t i = 0; i < 2; i++) {
        client_send(&k, put, client_token(mem, sizeof mem, tokens[i][0], span_of(fake_key, 32), tokens[i][1]),
                    0);
        fake_turns(1);
    }
    for (size_t i = 0; i < sizeof senders / sizeof *senders; i++)
        client_sender(&k, senders[i]);
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        client_credit(&k, client_receiver(&k, links[i]), 5);
    fake_turns(4);
    client_hear(&k);
    k.c = NULL; /* from here on the input speaks */
    amqp_conn_fini(&k.e);
    free(k.in);
}

static void answers_are_frames(struct conn *c)
{
    struct span s = span_of(c->out, c->out_len);
    while (s.n) {
        struct amqp_frame f;
        uint8_t proto;
        size_t used = AMQP_HEADER_LEN;
        enum err e = s.p[0] == 'A' ? amqp_header_decode(s, &proto) : amqp_frame_decode(s, 65536, &f, &used);
        assert(e == ERR_OK);
        s = span_skip(s, used);
    }
    c->out_len = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct amqp_front *front;
    if (size < 1)
        return 0;
    uint8_t flags = data[0];
    fake_hub();
    if (amqp_front_new(&front, &hub, 1))
        abort();
    struct conn *c = fake_open(worker, &amqp_proto, front), *second = NULL;
    if (flags & 1)
        opening(c);
    fake.fail = flags & 2 ? 3 : 0;
    struct rd r = rd_of(span_of(data + 1, size - 1));
    while (r.n && !c->closing) {
        size_t n = rd_u8(&r);
        c->unsent = (flags & 4) && r.n > size / 3 ? PEER_UNSENT_MAX + 1 : 0;
        fake_feed(c, rd_take(&r, n < r.n ? n : r.n));
        fake_turns(1);
        if ((flags & 8) && !second && r.n < size / 2) {
            second = fake_open(worker, &amqp_proto, front);
            opening(second);
            if (!c->closing)
                c->proto->on_wake(c, BUS_WAKE_TAKEOVER);
        }
        if ((flags & 16) && !c->closing)
            c->proto->on_wake(c, BUS_WAKE_C2D | BUS_WAKE_IDENTITY);
        answers_are_frames(c);
        assert(front->workers[0].memory <= 2 * PEER_MEMORY_MAX);
    }
    c->unsent = 0;
    fake_turns(4);
    if (!c->closing)
        c->proto->on_timer(c);
    answers_are_frames(c);
    fake_drop(c);
    if (second)
        fake_drop(second);
    fake_turns(6); /* what was under way comes home */
    assert(front->workers[0].pending == 0 && front->workers[0].memory == 0);
    amqp_front_free(front);
    fake_hub_end();
    return 0;
}
