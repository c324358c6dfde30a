/* tests/fuzz/fuzz_topic.c - "device\nmodule\ntext": any text as a topic, a filter, a user name and a bag of
 * the identity; what is written of it is read again. */
#include "core/bag/bag.h"
#include "core/topic/topic.h"
#include "core/topic/username.h"

#include <stdlib.h>

static void check(bool ok)
{
    if (!ok)
        abort();
}

static struct span line(struct span *s)
{
    const uint8_t *lf = s->n ? memchr(s->p, '\n', s->n) : NULL;
    struct span l = span_of(s->p, lf ? (size_t)(lf - s->p) : s->n);
    *s = span_skip(*s, lf ? l.n + 1 : l.n);
    return l;
}

/* A C2D topic is read by the device it is for, has an item, and no empty name or value. */
static void c2d(const struct topic_identity *who, struct span props)
{
    static uint8_t room[1 << 18];
    struct wr w = { room, sizeof room, 0 };
    struct topic t;
    topic_c2d_encode(&w, who, props);
    check(wr_ok(&w) && !topic_server_parse(wr_span(&w), who, &t) && t.kind == TOPIC_C2D && t.bag.n);
    static uint8_t mem_room[1 << 18];
    struct wr mem = { mem_room, sizeof mem_room, 0 };
    struct bag_item item;
    enum err e;
    while (!(e = bag_next(&t.bag, &mem, &item)))
        check(item.name.n && item.has_value && item.value.n);
    check(e == ERR_AGAIN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size < 16384 ? size : 16384);
    struct topic_identity who;
    struct topic t;
    struct username u;
    who.device = line(&in);
    who.module = line(&in);
    (void)!username_parse(who.device, in, &u);
    if (!identity_id_is_valid(who.device) || (who.module.n && !identity_id_is_valid(who.module)))
        return 0;
    if (!topic_parse(in, &who, &t))
        check(t.kind >= TOPIC_TELEMETRY && t.kind <= TOPIC_CRED_POST && t.bag.n <= in.n);
    if (!topic_server_parse(in, &who, &t))
        check(t.kind >= TOPIC_C2D && t.kind <= TOPIC_CRED_RES);
    uint32_t set = topic_filter_channels(in, &who);
    check(set < 1u << CHANNELS && channels_drop(channels_grant(0, set, 1), set) == 0);
    c2d(&who, in);
    return 0;
}
