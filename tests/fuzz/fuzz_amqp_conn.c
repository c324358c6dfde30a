/* tests/fuzz/fuzz_amqp_conn.c - the AMQP engine as a server: any bytes in any pieces, with a caller who
 * accepts or refuses, settles, sends, detaches and ends. Nothing may crash, leak or grow past its cap, and
 * what the engine says is always whole frames.
 *
 * Input: flags(1), then pieces: length(1) and so many bytes. flags: 1 a good opening first, 2 refuse links,
 * 4 settle late, 8 little memory, 16 end sessions now and then. */
#include "core/amqp/amqp_conn.h"

#include <stdlib.h>

static uint8_t out[1 << 18], in[1 << 17];
static size_t allocated;

static void check(bool ok)
{
    if (!ok)
        abort();
}
static void *mem_get(void *ctx, size_t n)
{
    (void)ctx;
    allocated += n;
    return malloc(n);
}
static void mem_put(void *ctx, void *p, size_t n)
{
    (void)ctx;
    allocated -= n;
    free(p);
}

static void whole_frames(struct span s)
{
    while (s.n) {
        struct amqp_frame f;
        size_t used;
        uint8_t proto;
        if (s.p[0] == 'A') {
            check(!amqp_header_decode(s, &proto));
            used = AMQP_HEADER_LEN;
        } else {
            check(!amqp_frame_decode(s, 65536, &f, &used));
        }
        s = span_skip(s, used);
    }
}

static void on_event(struct amqp_conn *c, const struct amqp_event *ev, uint8_t flags, struct wr *w)
{
    static const struct amqp_error error = { { (const uint8_t *)"amqp:not-found", 14 },
                                             { NULL, 0 },
                                             { NULL, 0 } };
    struct amqp_state accepted = { .outcome = AMQP_ACCEPTED };
    struct amqp_send m = { .tag = SPAN("0123456789abcdef"), .settled = flags & 1, .body = SPAN("body") };
    switch (ev->kind) {
    case AMQP_EV_SASL_INIT:
        check(!amqp_sasl_outcome(c, ev->sasl.mechanism.n ? 0 : 1, w));
        break;
    case AMQP_EV_ATTACH:
        if ((flags & 2) || amqp_accept(ev->link, &ev->attach, w)) {
            amqp_refuse(ev->link, SPAN_NONE, w);
            amqp_detach(ev->link, &error, w);
        } else if (ev->link->receiver) {
            amqp_credit(ev->link, 100, w);
        }
        break;
    case AMQP_EV_FLOW:
        if (ev->link) {
            (void)!amqp_send(ev->link, &m, w);
            amqp_drained(ev->link, w);
        }
        break;
    case AMQP_EV_DELIVERY:
        if (!ev->delivery.settled && !(flags & 4))
            amqp_settle(ev->link, ev->delivery.id, ev->delivery.id, 1, &accepted, w);
        if (flags & 16)
            amqp_end(ev->session, &error, w);
        break;
    case AMQP_EV_SETTLED:
        if (!ev->sent.settled)
            amqp_answer(ev->session, ev->sent.id, &accepted, w);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const mechanisms[] = { "PLAIN", "ANONYMOUS", NULL };
    static const uint8_t opening[] = "AMQP\0\1\0\0\0\0\0\x11\2\0\0\0\0\x53\x10\xc0\4\1\xa1\1c"
                                     "\0\0\0\x14\2\0\0\0\0\x53\x11\xc0\7\4\x40\x43\x52\x64\x52\x64";
    struct amqp_config cfg = { .server = true,
                               .container_id = SPAN("s"),
                               .frame_max = 65536,
                               .idle_ms = 1000,
                               .channel_max = 20,
                               .handle_max = 100,
                               .incoming_window = 10,
                               .sessions_max = 5,
                               .links_max = 10,
                               .unsettled_max = 20,
                               .delivery_max = 30000,
                               .memory_max = size && (data[0] & 8) ? 2000 : 100000,
                               .mechanisms = mechanisms };
    struct amqp_mem mem = { mem_get, mem_put, NULL };
    struct amqp_conn c;
    struct amqp_event ev;
    enum err e = ERR_OK;
    size_t in_len = 0;
    if (size < 1 || size > 60000)
        return 0;
    amqp_conn_init(&c, &cfg, &mem, 0);
    if (data[0] & 1) {
        memcpy(in, opening, sizeof opening - 1);
        in_len = sizeof opening - 1;
    }
    struct rd r = rd_of(span_of(data + 1, size - 1));
    while (r.n && e == ERR_OK) {
        size_t n = rd_u8(&r);
        struct span piece = rd_take(&r, n < r.n ? n : r.n);
        if (piece.n)
            memcpy(in + in_len, piece.p, piece.n);
        in_len += piece.n;
        struct span left = span_of(in, in_len);
        struct wr w = { out, sizeof out, 0 };
        amqp_seen(&c, 0);
        while ((e = amqp_next(&c, &left, &ev, &w)) == ERR_OK) {
            on_event(&c, &ev, data[0], &w);
            whole_frames(wr_span(&w));
            w.len = 0;
            check(c.memory <= cfg.memory_max && allocated == c.memory);
        }
        whole_frames(wr_span(&w));
        memmove(in, left.p, left.n);
        in_len = left.n;
        e = e == ERR_AGAIN ? ERR_OK : e;
    }
    amqp_lost(&c);
    struct span none = SPAN_NONE;
    struct wr w = { out, sizeof out, 0 };
    while ((e = amqp_next(&c, &none, &ev, &w)) == ERR_OK)
        ;
    check(e == ERR_STOPPED && !c.links_nr && !c.sessions_nr && !c.sent_nr && !c.got_nr);
    amqp_conn_fini(&c);
    check(allocated == 0);
    return 0;
}
