/* core/amqp/amqp_conn_test.c - two engines in memory, a client and a server, checked event by event; every
 * limit reached; every cut. */
#include "core/amqp/amqp_conn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { OUT_CAP = 1 << 18 };

struct end {
    struct amqp_conn c;
    struct amqp_config cfg;
    uint8_t out[OUT_CAP], in[OUT_CAP];
    struct wr w;
    size_t in_len;
    char log[4096];  /* one word an event */
    char reason[64]; /* of the last end or close */
    struct amqp_session *session;
    struct amqp_link *link; /* of the last event that had one */
    struct amqp_event last;
    uint8_t payload[OUT_CAP];
    size_t payload_len, allocated;
    enum err err;
    bool refuse, hold; /* the server: refuse attaches, or leave them unanswered */
    uint32_t credit;   /* the server grants to senders */
};
static struct end server, client;
static const char *const mechanisms[] = { "PLAIN", "ANONYMOUS", NULL };

static void *mem_get(void *ctx, size_t n)
{
    ((struct end *)ctx)->allocated += n;
    return malloc(n);
}
static void mem_put(void *ctx, void *p, size_t n)
{
    ((struct end *)ctx)->allocated -= n;
    free(p);
}

static void end_init(struct end *e, bool is_server)
{
    memset(e, 0, sizeof *e);
    e->cfg = (struct amqp_config){ .server = is_server,
                                   .container_id = is_server ? SPAN("server") : SPAN("client"),
                                   .hostname = is_server ? SPAN_NONE : SPAN("hub.example"),
                                   .properties = SPAN("\xc1\x01\x00"),
                                   .frame_max = 65536,
                                   .idle_ms = is_server ? 240000 : 60000,
                                   .channel_max = 99,
                                   .handle_max = 262143,
                                   .incoming_window = 100,
                                   .sessions_max = 10,
                                   .links_max = 20,
                                   .unsettled_max = 50,
                                   .delivery_max = 100000,
                                   .memory_max = 1 << 20,
                                   .mechanisms = is_server ? mechanisms : NULL };
    e->credit = 10;
    e->w = (struct wr){ e->out, sizeof e->out, 0 };
}

static void both_init(void)
{
    end_init(&server, true);
    end_init(&client, false);
}
static void both_begin(void)
{
    struct amqp_mem sm = { mem_get, mem_put, &server }, cm = { mem_get, mem_put, &client };
    amqp_conn_init(&server.c, &server.cfg, &sm, 1000);
    amqp_conn_init(&client.c, &client.cfg, &cm, 1000);
    assert_int_equal(amqp_start(&client.c, &client.w), ERR_OK);
}

static void note(struct end *e, const char *fmt, ...)
{
    va_list ap;
    size_t n = strlen(e->log);
    va_start(ap, fmt);
    vsnprintf(e->log + n, sizeof e->log - n, fmt, ap);
    va_end(ap);
}

static void on_attach(struct end *e, const struct amqp_event *ev)
{
    note(e, "attach:%.*s ", (int)ev->attach.name.n, (const char *)ev->attach.name.p);
    if (e->hold)
        return;
    if (e->refuse) {
        amqp_refuse(ev->link, SPAN_NONE, &e->w);
        return;
    }
    struct amqp_attach a = ev->attach;
    a.max_message_size = ev->link->receiver ? e->cfg.delivery_max : 0;
    assert_int_equal(amqp_accept(ev->link, &a, &e->w), ERR_OK);
    if (ev->link->receiver && e->credit)
        amqp_credit(ev->link, e->credit, &e->w);
}

static void on_event(struct end *e, const struct amqp_event *ev)
{
    e->last = *ev;
    if (ev->session)
        e->session = ev->session;
    if (ev->link)
        e->link = ev->link;
    switch (ev->kind) {
    case AMQP_EV_SASL_INIT:
        note(e, "sasl:%.*s/%.*s ", (int)ev->sasl.mechanism.n, (const char *)ev->sasl.mechanism.p,
             (int)ev->sasl.response.n, (const char *)ev->sasl.response.p);
        assert_int_equal(amqp_sasl_outcome(&e->c, e->refuse, &e->w), ERR_OK);
        break;
    case AMQP_EV_SASL_OUTCOME:
        note(e, "outcome:%u ", ev->sasl_code);
        break;
    case AMQP_EV_OPEN:
        note(e, "open:%.*s ", (int)ev->open.container_id.n, (const char *)ev->open.container_id.p);
        break;
    case AMQP_EV_BEGIN:
        note(e, "begin ");
        break;
    case AMQP_EV_ATTACH:
        on_attach(e, ev);
        break;
    case AMQP_EV_ATTACHED:
        note(e, ev->attach.source.present || ev->attach.target.present ? "attached " : "refused ");
        break;
    case AMQP_EV_FLOW:
        if (ev->link)
            note(e, "flow:%u ", ev->link->credit);
        else
            note(e, "window ");
        break;
    case AMQP_EV_DELIVERY:
        note(e, "delivery:%zu%s ", ev->delivery.payload.n, ev->delivery.settled ? "s" : "");
        if (ev->delivery.payload.n)
            memcpy(e->payload, ev->delivery.payload.p, ev->delivery.payload.n);
        e->payload_len = ev->delivery.payload.n;
        break;
    case AMQP_EV_SETTLED:
        note(e, "settled:%llu:%x%s ", (unsigned long long)ev->sent.user, ev->sent.state.outcome,
             ev->sent.settled ? "" : "?");
        break;
    default:
        snprintf(e->reason, sizeof e->reason, "%.*s", (int)ev->error.description.n,
                 (const char *)ev->error.description.p);
        note(e, "%s:%.*s ",
             ev->kind == AMQP_EV_DETACH ? "detach"
             : ev->kind == AMQP_EV_END  ? "end"
                                        : "close",
             (int)ev->error.condition.n, (const char *)ev->error.condition.p);
    }
}

/* Hands over what `from` has said and lets `to` look; `piece`: so many bytes at a time. True: something
 * moved. */
static bool carry(struct end *from, struct end *to, size_t piece)
{
    size_t n = from->w.len;
    uint8_t *copy = malloc(n + 1);
    assert_true(wr_ok(&from->w));
    memcpy(copy, from->out, n);
    from->w.len = 0;
    for (size_t at = 0; at < n; at += piece) {
        size_t now = n - at < piece ? n - at : piece;
        memcpy(to->in + to->in_len, copy + at, now);
        to->in_len += now;
        amqp_seen(&to->c, to->c.now_ms);
        struct span in = span_of(to->in, to->in_len);
        struct amqp_event ev;
        if (to->err)
            continue;
        while ((to->err = amqp_next(&to->c, &in, &ev, &to->w)) == ERR_OK)
            on_event(to, &ev);
        if (to->err == ERR_AGAIN)
            to->err = ERR_OK;
        memmove(to->in, in.p, in.n);
        to->in_len = in.n;
    }
    free(copy);
    return n > 0;
}
static void pump_by(size_t piece)
{
    bool moved = true;
    while (moved) {
        moved = carry(&client, &server, piece);
        moved = carry(&server, &client, piece) || moved;
    }
}
static void pump(void)
{
    pump_by(SIZE_MAX / 2);
}

static void expect_log(struct end *e, const char *want)
{
    assert_string_equal(e->log, want);
    e->log[0] = 0;
}

/* The events that a closed transport leaves, and that nothing is kept. */
static void finish_end(struct end *e)
{
    struct span none = SPAN_NONE;
    struct amqp_event ev;
    enum err err;
    amqp_lost(&e->c);
    while ((err = amqp_next(&e->c, &none, &ev, &e->w)) == ERR_OK)
        on_event(e, &ev);
    assert_int_equal(err, ERR_STOPPED);
    assert_int_equal(e->c.links_nr, 0);
    assert_int_equal(e->c.sessions_nr, 0);
    assert_int_equal(e->c.sent_nr, 0);
    assert_int_equal(e->c.got_nr, 0);
    amqp_conn_fini(&e->c);
    assert_int_equal(e->allocated, 0);
}
static void finish(void)
{
    finish_end(&server);
    finish_end(&client);
}

static struct amqp_link *client_link(struct amqp_session *s, const char *name, bool receiver,
                                     uint8_t rcv_mode)
{
    struct amqp_link *l;
    struct amqp_attach a = { .name = span_str(name),
                             .receiver = receiver,
                             .snd_mode = AMQP_SND_MIXED,
                             .rcv_mode = rcv_mode,
                             .source = { .present = true, .address = SPAN("a") },
                             .target = { .present = true, .address = SPAN("b") } };
    assert_int_equal(amqp_attach(s, &a, NULL, &client.w, &l), ERR_OK);
    return l;
}

static struct amqp_session *online(void)
{
    struct amqp_session *s;
    both_begin();
    pump();
    assert_int_equal(amqp_begin(&client.c, &client.w, &s), ERR_OK);
    pump();
    expect_log(&server, "open:client begin ");
    expect_log(&client, "open:server begin ");
    return s;
}

static enum err send_text(struct end *e, struct amqp_link *l, struct span body, bool settled, uint64_t user)
{
    struct amqp_send m = { .tag = SPAN("tag"), .settled = settled, .user = user, .body = body };
    return amqp_send(l, &m, &e->w);
}
static void settle(struct end *e, uint8_t outcome)
{
    amqp_settle(e->link, e->last.delivery.id, e->last.delivery.id, 1,
                &(struct amqp_state){ .outcome = outcome }, &e->w);
}

/* ---- the whole life --------------------------------------------------------------------------------- */

static void life(size_t piece)
{
    struct amqp_session *s;
    both_init();
    both_begin();
    pump_by(piece);
    assert_int_equal(amqp_begin(&client.c, &client.w, &s), ERR_OK);
    struct amqp_link *up = client_link(s, "up", false, AMQP_RCV_FIRST);
    struct amqp_link *down = client_link(s, "down", true, AMQP_RCV_FIRST);
    pump_by(piece);
    expect_log(&server, "open:client begin attach:up attach:down ");
    expect_log(&client, "open:server begin attached flow:10 attached ");
    assert_true(client.session == s && down->max_message_size == 0);
    assert_int_equal(up->max_message_size, 100000);

    assert_int_equal(send_text(&client, up, SPAN("hello"), false, 42), ERR_OK);
    pump_by(piece);
    expect_log(&server, "delivery:5 ");
    settle(&server, AMQP_ACCEPTED);
    pump_by(piece);
    expect_log(&client, "settled:42:24 ");

    struct amqp_link *sdown = (struct amqp_link *)server.session->links.prev;
    assert_int_equal(send_text(&server, sdown, SPAN("x"), true, 0), ERR_AGAIN); /* no credit yet */
    amqp_credit(down, 2, &client.w);
    pump_by(piece);
    expect_log(&server, "flow:2 ");
    assert_int_equal(send_text(&server, sdown, SPAN("x"), true, 0), ERR_OK);
    assert_int_equal(send_text(&server, sdown, SPAN("yz"), false, 7), ERR_OK);
    assert_int_equal(send_text(&server, sdown, SPAN("x"), true, 0), ERR_AGAIN);
    pump_by(piece);
    expect_log(&client, "delivery:1s delivery:2 ");
    settle(&client, AMQP_RELEASED);
    pump_by(piece);
    expect_log(&server, "settled:7:26 ");

    struct amqp_error e = { SPAN("amqp:link:redirect"), SPAN("there"), SPAN("\xc1\x05\x02\xa3\x01p\x43") };
    amqp_detach(sdown, &e, &server.w);
    pump_by(piece);
    expect_log(&client, "detach:amqp:link:redirect ");
    assert_true(span_eq(client.last.error.info, e.info));
    expect_log(&server, "detach: ");
    amqp_end(s, NULL, &client.w);
    pump_by(piece);
    expect_log(&server, "detach: end: ");
    expect_log(&client, "detach: end: ");
    amqp_close(&client.c, NULL, &client.w);
    pump_by(piece);
    expect_log(&server, "close: ");
    expect_log(&client, "close: ");
    finish();
    expect_log(&server, "");
}

static void test_life(void **state)
{
    (void)state;
    life(SIZE_MAX / 2);
}
static void test_life_in_every_piece(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < 40; piece++)
        life(piece);
}

static void test_sasl(void **state)
{
    (void)state;
    both_init();
    client.cfg.mechanism = SPAN("PLAIN");
    client.cfg.response = SPAN("user");
    both_begin();
    pump_by(1);
    expect_log(&server, "sasl:PLAIN/user open:client ");
    expect_log(&client, "outcome:0 open:server ");
    finish();

    both_init();
    server.refuse = true;
    client.cfg.mechanism = SPAN("ANONYMOUS");
    both_begin();
    pump();
    expect_log(&server, "sasl:ANONYMOUS/ ");
    expect_log(&client, "outcome:1 ");
    finish();

    both_init();
    client.cfg.mechanism = SPAN("GSSAPI");
    both_begin();
    pump();
    assert_int_equal(client.err, ERR_PROTO);
    finish();
}

static void test_headers_that_are_answered_and_refused(void **state)
{
    (void)state;
    static const struct {
        struct span in, want;
    } cases[] = {
        { { (const uint8_t *)"AMQP\0\0\x09\x01", 8 }, { (const uint8_t *)"AMQP\0\x01\0\0", 8 } },
        { { (const uint8_t *)"AMQP\x02\x01\0\0", 8 }, { (const uint8_t *)"AMQP\0\x01\0\0", 8 } },
        { { (const uint8_t *)"AMQP\x03\x09\0\0", 8 }, { (const uint8_t *)"AMQP\x03\x01\0\0", 8 } },
        { { (const uint8_t *)"GET / HT", 8 }, { (const uint8_t *)"AMQP\0\x01\0\0", 8 } },
    };
    for (size_t i = 0; i < 4; i++) {
        struct span in = cases[i].in;
        struct amqp_event ev;
        both_init();
        both_begin();
        assert_int_equal(amqp_next(&server.c, &in, &ev, &server.w), ERR_PROTO);
        assert_true(span_eq(wr_span(&server.w), cases[i].want));
        finish();
    }
}

/* ---- deliveries ------------------------------------------------------------------------------------- */

static void test_a_large_delivery_over_small_frames(void **state)
{
    (void)state;
    static uint8_t big[90000];
    both_init();
    server.cfg.frame_max = 512;
    client.cfg.frame_max = 512;
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)(i * 7 + i / 251);
    struct amqp_session *s = online();
    struct amqp_link *l = client_link(s, "up", false, AMQP_RCV_FIRST);
    pump();
    struct amqp_send m = { .tag = SPAN("t"),
                           .format = 0x80013700,
                           .user = 1,
                           .head = span_of(big, 300),
                           .body = span_of(big + 300, sizeof big - 300) };
    unsigned waits = 0;
    while (amqp_send(l, &m, &client.w) == ERR_AGAIN) { /* the window: 100 frames, and opened again */
        pump();
        waits++;
    }
    assert_true(waits > 1);
    pump();
    assert_int_equal(server.payload_len, sizeof big);
    assert_memory_equal(server.payload, big, sizeof big);
    assert_int_equal(server.last.delivery.format, 0x80013700);
    settle(&server, AMQP_ACCEPTED);
    pump();
    assert_int_equal(client.c.sent_nr, 0);
    finish();
}

static void test_dispositions_of_a_range(void **state)
{
    (void)state;
    both_init();
    struct amqp_session *s = online();
    struct amqp_link *down = client_link(s, "down", true, AMQP_RCV_SECOND);
    amqp_credit(down, 10, &client.w);
    pump();
    for (uint64_t i = 0; i < 5; i++)
        assert_int_equal(send_text(&server, server.link, SPAN("x"), false, i), ERR_OK);
    pump();
    expect_log(&server, "attach:down flow:10 ");
    amqp_settle(client.link, 1, 3, 3, &(struct amqp_state){ .outcome = AMQP_ACCEPTED }, &client.w);
    pump();
    expect_log(&server, "settled:1:24 settled:2:24 settled:3:24 ");
    amqp_settle(client.link, 0, 100, 2, &(struct amqp_state){ .outcome = AMQP_REJECTED }, &client.w);
    pump();
    expect_log(&server, "settled:0:25 settled:4:25 ");
    amqp_settle(client.link, 0, 4, 0, &(struct amqp_state){ .outcome = AMQP_ACCEPTED },
                &client.w); /* again */
    pump();
    expect_log(&server, "");
    /* unsettled: the second mode. It is told once a frame, and forgotten when it is answered. */
    assert_int_equal(send_text(&server, server.link, SPAN("x"), false, 9), ERR_OK);
    size_t at = amqp_frame_begin(&client.w, AMQP_FRAME_AMQP, 0);
    amqp_disposition_encode(&client.w,
                            &(struct amqp_disposition){ true, 5, 5, false, { .outcome = AMQP_RELEASED } });
    amqp_frame_end(&client.w, at);
    pump();
    expect_log(&server, "settled:9:26? ");
    assert_int_equal(server.c.sent_nr, 1);
    amqp_answer(server.session, server.last.sent.id, &(struct amqp_state){ .outcome = AMQP_ACCEPTED },
                &server.w);
    assert_int_equal(server.c.sent_nr, 0);
    pump();
    finish();
}

/* The error of an end or close comes with its event, not with those of the links before it. */
static void test_ends_with_errors(void **state)
{
    (void)state;
    both_init();
    struct amqp_session *s = online();
    struct amqp_error e = { SPAN("amqp:session:errant-link"), SPAN("why"), SPAN_NONE };
    client_link(s, "one", false, AMQP_RCV_FIRST);
    client_link(s, "two", true, AMQP_RCV_FIRST);
    pump();
    server.log[0] = client.log[0] = 0;
    amqp_end(server.session, &e, &server.w);
    pump_by(1); /* what the frame lay in is gone when the links have been told */
    expect_log(&client, "detach: detach: end:amqp:session:errant-link ");
    assert_string_equal(client.reason, "why");
    assert_int_equal(amqp_begin(&client.c, &client.w, &s), ERR_OK);
    client_link(s, "one", false, AMQP_RCV_FIRST);
    pump();
    server.log[0] = client.log[0] = 0;
    e.condition = SPAN("amqp:connection:forced");
    amqp_close(&server.c, &e, &server.w);
    pump_by(1);
    expect_log(&client, "detach: end: close:amqp:connection:forced ");
    assert_string_equal(client.reason, "why");
    finish();
}

/* No memory to keep the error: the end is told without. */
static void test_end_error_without_memory(void **state)
{
    (void)state;
    both_init();
    (void)online();
    struct amqp_error e = { SPAN("amqp:internal-error"), SPAN("why"), SPAN_NONE };
    client.cfg.memory_max = client.c.memory;
    amqp_end(server.session, &e, &server.w);
    pump();
    expect_log(&client, "end: ");
    finish();
}

static void test_drain(void **state)
{
    (void)state;
    both_init();
    struct amqp_session *s = online();
    struct amqp_link *down = client_link(s, "down", true, AMQP_RCV_FIRST);
    amqp_drain(down, 10, &client.w);
    pump();
    server.log[0] = client.log[0] = 0;
    assert_true(server.link->drain);
    assert_int_equal(send_text(&server, server.link, SPAN("x"), true, 0), ERR_OK);
    amqp_drained(server.link, &server.w);
    pump();
    assert_int_equal(down->credit, 0);
    assert_false(down->drain);
    expect_log(&client, "delivery:1s flow:0 "); /* it is told, once */
    assert_int_equal(down->delivery_count, server.link->delivery_count);
    assert_int_equal(send_text(&server, server.link, SPAN("x"), true, 0), ERR_AGAIN);
    /* all of it used: nothing is left to give back, and the next credit drains nothing */
    amqp_drain(down, 1, &client.w);
    pump();
    assert_int_equal(send_text(&server, server.link, SPAN("x"), true, 0), ERR_OK);
    amqp_drained(server.link, &server.w);
    pump();
    expect_log(&client, "delivery:1s ");
    assert_false(down->drain);
    amqp_credit(down, 3, &client.w);
    pump();
    assert_false(server.link->drain);
    /* the same flow again gives nothing more */
    amqp_credit(down, 3, &client.w);
    amqp_credit(down, 3, &client.w);
    pump();
    assert_int_equal(server.link->credit, 3);
    finish();
}

static void test_an_aborted_delivery_leaves_nothing(void **state)
{
    (void)state;
    both_init();
    struct amqp_session *s = online();
    struct amqp_link *l = client_link(s, "up", false, AMQP_RCV_FIRST);
    pump();
    for (unsigned i = 0; i < 2; i++) {
        size_t at = amqp_frame_begin(&client.w, AMQP_FRAME_AMQP, 0);
        struct amqp_transfer t = { .handle = l->handle,
                                   .has_delivery_id = true,
                                   .has_tag = true,
                                   .tag = SPAN("t"),
                                   .more = i == 0,
                                   .aborted = i == 1 };
        amqp_transfer_encode(&client.w, &t);
        wr_put(&client.w, SPAN("part"));
        amqp_frame_end(&client.w, at);
    }
    pump();
    expect_log(&server, "attach:up ");
    assert_null(server.link->partial);
    finish();
}

/* ---- what the server refuses ------------------------------------------------------------------------ */

/* The close is on the wire with its condition, and the client has seen it. */
static void expect_failure(enum err err, const char *condition)
{
    (void)carry(&client, &server, SIZE_MAX / 2);
    assert_int_equal(server.err, err);
    assert_non_null(memmem(server.out, server.w.len, condition, strlen(condition)));
    pump();
    assert_int_equal(client.last.kind, AMQP_EV_CLOSE);
    finish();
}

static void raw_frame(uint16_t channel, void (*encode)(struct wr *))
{
    size_t at = amqp_frame_begin(&client.w, AMQP_FRAME_AMQP, channel);
    encode(&client.w);
    amqp_frame_end(&client.w, at);
}
static void first_transfer_without_id(struct wr *w)
{
    amqp_transfer_encode(w, &(struct amqp_transfer){ .handle = 0, .more = true });
}
static void flow_on_no_link(struct wr *w)
{
    amqp_flow_encode(w, &(struct amqp_flow){ .has_handle = true, .handle = 77, .next_outgoing_id = 1 });
}
static void begin_again(struct wr *w)
{
    amqp_begin_encode(w, &(struct amqp_begin){ AMQP_NONE, 1, 1, 1, 1 });
}
static void attach_high(struct wr *w)
{
    amqp_attach_encode(w, &(struct amqp_attach){ .name = SPAN("n"), .handle = 262144 });
}
static void end_encode(struct wr *w)
{
    amqp_end_encode(w, AMQP_END, &(struct amqp_error){ 0 });
}

static void test_broken_order_closes(void **state)
{
    (void)state;
    static const struct {
        uint16_t channel;
        void (*encode)(struct wr *);
        enum err err;
        const char *why;
    } cases[] = {
        { 0, first_transfer_without_id, ERR_PROTO, "a delivery without id or tag" },
        { 0, begin_again, ERR_PROTO, "a session is on this channel" },
        { 100, begin_again, ERR_LIMIT, "channel out of range" },
        { 5, end_encode, ERR_PROTO, "no session on this channel" },
        { 0, attach_high, ERR_LIMIT, "handle out of range" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        both_init();
        struct amqp_session *s = online();
        (void)client_link(s, "up", false, AMQP_RCV_FIRST);
        pump();
        raw_frame(cases[i].channel, cases[i].encode);
        pump();
        assert_int_equal(server.err, cases[i].err);
        assert_string_equal(server.c.error, cases[i].why);
        assert_true(client.c.close_seen);
        finish();
    }
    /* what ends the session only */
    both_init();
    struct amqp_session *s = online();
    (void)client_link(s, "up", false, AMQP_RCV_FIRST);
    pump();
    raw_frame(0, flow_on_no_link);
    pump();
    assert_int_equal(server.err, ERR_OK);
    expect_log(&server, "attach:up detach: end: ");
    assert_int_equal(server.c.sessions_nr, 0);
    assert_int_equal(amqp_begin(&client.c, &client.w, &s), ERR_OK); /* and the connection goes on */
    pump();
    expect_log(&server, "begin ");
    finish();
}

static void test_frames_too_large_and_garbage(void **state)
{
    (void)state;
    both_init();
    server.cfg.frame_max = 512;
    (void)online();
    wr_put(&client.w, SPAN("\0\0\x02\x01\x02\0\0\0"));
    expect_failure(ERR_LIMIT, "amqp:connection:framing-error");
    both_init();
    (void)online();
    wr_put(&client.w, SPAN("\0\0\0\x0c\x02\0\0\0????"));
    expect_failure(ERR_PROTO, "amqp:decode-error");
}

static void test_sessions_and_links_are_capped(void **state)
{
    (void)state;
    struct amqp_session *s;
    both_init();
    client.cfg.sessions_max = client.cfg.links_max = 1000;
    (void)online();
    for (unsigned i = 1; i < 10; i++)
        assert_int_equal(amqp_begin(&client.c, &client.w, &s), ERR_OK);
    pump();
    assert_int_equal(server.err, ERR_OK);
    assert_int_equal(server.c.sessions_nr, 10);
    assert_int_equal(amqp_begin(&client.c, &client.w, &s), ERR_OK);
    pump();
    assert_int_equal(server.err, ERR_LIMIT);
    assert_string_equal(server.c.error, "too many sessions");
    finish();

    both_init();
    client.cfg.links_max = 1000;
    s = online();
    for (unsigned i = 0; i < 20; i++) {
        char name[8];
        snprintf(name, sizeof name, "l%u", i);
        (void)client_link(s, name, i % 2, AMQP_RCV_FIRST);
    }
    pump();
    assert_int_equal(server.c.links_nr, 20);
    (void)client_link(s, "more", false, AMQP_RCV_FIRST);
    pump();
    assert_int_equal(server.err, ERR_LIMIT);
    assert_string_equal(server.c.error, "too many links");
    finish();
}

/* As many as the hub allows a peer, on one session and unanswered. When a handle was looked for by trying one
 * after the other against all links, this took the third power of their number. */
static void test_thousands_of_links(void **state)
{
    enum { NR = 8192 };
    static struct amqp_link *links[NR];
    (void)state;
    both_init();
    client.cfg.links_max = server.cfg.links_max = NR;
    client.cfg.memory_max = server.cfg.memory_max = 8 << 20;
    struct amqp_session *s = online();
    server.hold = true;
    for (unsigned i = 0; i < NR; i++) {
        char name[8];
        snprintf(name, sizeof name, "l%u", i);
        links[i] = client_link(s, name, false, AMQP_RCV_FIRST);
        assert_int_equal(links[i]->handle, i);
        if (i % 500 == 499 || i == NR - 1) {
            pump();
            server.log[0] = 0;
        }
    }
    assert_int_equal(server.err, ERR_OK);
    assert_int_equal(server.c.links_nr, NR);
    assert_int_equal(((struct amqp_link *)server.session->links.prev)->handle, NR - 1);
    finish();
}

/* The lowest handle that is free is the next one's, wherever it is. */
static void test_handles_are_used_again(void **state)
{
    struct amqp_link *l[4];
    (void)state;
    both_init();
    struct amqp_session *s = online();
    static const char *const names[] = { "a", "b", "c", "d" };
    for (unsigned i = 0; i < 4; i++)
        l[i] = client_link(s, names[i], false, AMQP_RCV_FIRST);
    pump();
    amqp_detach(l[2], NULL, &client.w);
    amqp_detach(l[0], NULL, &client.w);
    pump();
    assert_int_equal(server.c.links_nr, 2);
    assert_int_equal(client_link(s, "e", false, AMQP_RCV_FIRST)->handle, 0);
    assert_int_equal(client_link(s, "f", false, AMQP_RCV_FIRST)->handle, 2);
    assert_int_equal(client_link(s, "g", false, AMQP_RCV_FIRST)->handle, 4);
    pump();
    assert_int_equal(server.c.links_nr, 5);
    finish();
}

/* A thousand sessions of links that come and go leave nothing, and their numbers are used again. */
static void test_sessions_come_and_go(void **state)
{
    (void)state;
    struct amqp_session *s;
    both_init();
    (void)online();
    size_t before = server.allocated;
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(amqp_begin(&client.c, &client.w, &s), ERR_OK);
        pump();
        struct amqp_link *a = client_link(s, "same", false, AMQP_RCV_FIRST);
        (void)client_link(s, "same", true, AMQP_RCV_FIRST); /* the other direction: another link */
        pump();
        if (i % 2) {
            amqp_detach(a, NULL, &client.w);
            pump();
            (void)client_link(s, "same", false, AMQP_RCV_FIRST);
            pump();
        }
        amqp_end(s, NULL, &client.w);
        pump();
        assert_int_equal(server.c.sessions_nr, 1);
        server.log[0] = client.log[0] = 0;
    }
    assert_in_range(server.allocated, 0, before + 128); /* the index may have grown */
    (void)client_link(client.session = (struct amqp_session *)client.c.sessions.next, "x", false, 0);
    (void)client_link(client.session, "x2", false, 0);
    pump();
    finish();
}

static void test_unsettled_deliveries_are_capped(void **state)
{
    (void)state;
    both_init();
    server.credit = 1000;
    client.cfg.unsettled_max = 1000;
    struct amqp_session *s = online();
    struct amqp_link *up = client_link(s, "up", false, AMQP_RCV_FIRST);
    struct amqp_link *down = client_link(s, "down", true, AMQP_RCV_FIRST);
    amqp_credit(down, 1000, &client.w);
    pump();
    for (unsigned i = 0; i < 50; i++) /* ours */
        assert_int_equal(send_text(&server, server.link, SPAN("x"), false, i), ERR_OK);
    assert_int_equal(send_text(&server, server.link, SPAN("x"), false, 50), ERR_LIMIT);
    assert_int_equal(send_text(&server, server.link, SPAN("x"), true, 50), ERR_OK);
    for (unsigned i = 0; i < 50; i++) /* the peer's */
        assert_int_equal(send_text(&client, up, SPAN("x"), false, i), ERR_OK);
    pump();
    assert_int_equal(server.err, ERR_OK);
    assert_int_equal(server.c.got_nr, 50);
    assert_int_equal(send_text(&client, up, SPAN("x"), false, 50), ERR_OK);
    pump();
    assert_int_equal(server.err, ERR_LIMIT);
    assert_string_equal(server.c.error, "too many unsettled deliveries");
    finish();
}

static void test_a_delivery_without_credit_costs_the_link(void **state)
{
    (void)state;
    both_init();
    server.credit = 1;
    struct amqp_session *s = online();
    struct amqp_link *up = client_link(s, "up", false, AMQP_RCV_FIRST);
    pump();
    up->credit = 5; /* the client believes so */
    assert_int_equal(send_text(&client, up, SPAN("x"), true, 0), ERR_OK);
    assert_int_equal(send_text(&client, up, SPAN("x"), true, 0), ERR_OK);
    pump();
    expect_log(&server, "attach:up delivery:1s detach: ");
    assert_non_null(strstr(client.log, "detach:amqp:link:transfer-limit-exceeded"));
    assert_int_equal(server.err, ERR_OK);
    finish();
}

static void test_message_size_and_memory_are_capped(void **state)
{
    (void)state;
    static uint8_t big[120000];
    both_init();
    struct amqp_session *s = online();
    struct amqp_link *up = client_link(s, "up", false, AMQP_RCV_FIRST);
    pump();
    assert_int_equal(send_text(&client, up, span_of(big, sizeof big), false, 0),
                     ERR_LIMIT); /* as announced */
    up->max_message_size = 0;
    assert_int_equal(send_text(&client, up, span_of(big, sizeof big), false, 0), ERR_OK);
    pump();
    assert_non_null(strstr(client.log, "detach:amqp:link:message-size-exceeded"));
    assert_int_equal(server.err, ERR_OK);
    finish();

    both_init();
    server.cfg.memory_max = 60000;
    s = online();
    struct amqp_link *links[4];
    for (unsigned i = 0; i < 4; i++)
        links[i] = client_link(s, i == 0 ? "a" : i == 1 ? "b" : i == 2 ? "c" : "d", false, AMQP_RCV_FIRST);
    pump();
    for (unsigned i = 0; i < 4; i++) { /* four large messages, none of them finished */
        size_t at = amqp_frame_begin(&client.w, AMQP_FRAME_AMQP, 0);
        struct amqp_transfer t = { .handle = links[i]->handle,
                                   .has_delivery_id = true,
                                   .delivery_id = i,
                                   .has_tag = true,
                                   .tag = SPAN("t"),
                                   .more = true };
        amqp_transfer_encode(&client.w, &t);
        wr_put(&client.w, span_of(big, 20000));
        amqp_frame_end(&client.w, at);
    }
    pump();
    assert_int_equal(server.err, ERR_LIMIT);
    assert_string_equal(server.c.error, "too much is under way");
    finish();
    assert_int_equal(server.allocated, 0);
}

static void test_refused_and_answered_late(void **state)
{
    (void)state;
    both_init();
    server.refuse = true;
    struct amqp_session *s = online();
    (void)client_link(s, "up", false, AMQP_RCV_FIRST);
    pump();
    expect_log(&client, "refused ");
    struct amqp_error e = { SPAN("amqp:unauthorized-access"), SPAN("no"), SPAN_NONE };
    amqp_detach(server.link, &e, &server.w);
    amqp_detach(server.link, &e, &server.w); /* harmless */
    pump();
    expect_log(&client, "detach:amqp:unauthorized-access ");
    expect_log(&server, "attach:up detach: ");
    server.refuse = false;
    server.hold = true; /* the client goes away before it is answered: both frames leave all the same */
    struct amqp_link *l = client_link(s, "late", false, AMQP_RCV_FIRST);
    amqp_detach(l, NULL, &client.w);
    pump();
    expect_log(&server, "attach:late detach: ");
    expect_log(&client, "refused detach: ");
    finish();
}

static void test_a_lost_transport_ends_everything_in_order(void **state)
{
    (void)state;
    both_init();
    struct amqp_session *s = online(), *t;
    assert_int_equal(amqp_begin(&client.c, &client.w, &t), ERR_OK);
    struct amqp_link *down = client_link(s, "down", true, AMQP_RCV_FIRST);
    (void)client_link(s, "up", false, AMQP_RCV_FIRST);
    amqp_credit(down, 5, &client.w);
    pump();
    (void)client_link(t, "other", false, AMQP_RCV_FIRST);
    pump();
    struct amqp_link *sdown = (struct amqp_link *)((struct amqp_session *)server.c.sessions.next)->links.next;
    assert_int_equal(send_text(&server, sdown, SPAN("x"), false, 1), ERR_OK);
    server.log[0] = 0;
    finish_end(&server);
    expect_log(&server, "detach: detach: end: detach: end: close: ");
    finish_end(&client);
}

/* ---- time ------------------------------------------------------------------------------------------- */

static void test_heartbeats_and_silence(void **state)
{
    (void)state;
    both_init();
    client.cfg.idle_ms = 4000;
    (void)online();
    server.w.len = 0;
    assert_true(amqp_deadline(&server.c) == 1000 + 2000);
    assert_int_equal(amqp_tick(&server.c, 2999, &server.w), ERR_OK);
    assert_int_equal(server.w.len, 0);
    assert_int_equal(amqp_tick(&server.c, 3000, &server.w), ERR_OK);
    assert_true(span_eq(wr_span(&server.w), SPAN("\0\0\0\x08\x02\0\0\0")));
    assert_true(amqp_deadline(&server.c) == 5000);
    pump(); /* the client takes it for a sign of life */
    assert_int_equal(amqp_tick(&server.c, 1000 + 240000, &server.w), ERR_OK);
    assert_int_equal(amqp_tick(&server.c, 1000 + 360000, &server.w), ERR_STALE);
    pump();
    assert_true(client.c.close_seen);
    finish();
}

static void test_no_room_changes_nothing(void **state)
{
    (void)state;
    both_init();
    both_begin();
    struct span in = wr_span(&client.w), before = in;
    struct amqp_event ev;
    struct wr tight = { server.out, AMQP_ROOM - 1, 0 };
    assert_int_equal(amqp_next(&server.c, &in, &ev, &tight), ERR_AGAIN);
    assert_true(in.p == before.p && in.n == before.n && tight.len == 0);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_life_in_every_piece),
        cmocka_unit_test(test_sasl),
        cmocka_unit_test(test_headers_that_are_answered_and_refused),
        cmocka_unit_test(test_a_large_delivery_over_small_frames),
        cmocka_unit_test(test_dispositions_of_a_range),
        cmocka_unit_test(test_ends_with_errors),
        cmocka_unit_test(test_end_error_without_memory),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_an_aborted_delivery_leaves_nothing),
        cmocka_unit_test(test_broken_order_closes),
        cmocka_unit_test(test_frames_too_large_and_garbage),
        cmocka_unit_test(test_sessions_and_links_are_capped),
        cmocka_unit_test(test_thousands_of_links),
        cmocka_unit_test(test_handles_are_used_again),
        cmocka_unit_test(test_sessions_come_and_go),
        cmocka_unit_test(test_unsettled_deliveries_are_capped),
        cmocka_unit_test(test_a_delivery_without_credit_costs_the_link),
        cmocka_unit_test(test_message_size_and_memory_are_capped),
        cmocka_unit_test(test_refused_and_answered_late),
        cmocka_unit_test(test_a_lost_transport_ends_everything_in_order),
        cmocka_unit_test(test_heartbeats_and_silence),
        cmocka_unit_test(test_no_room_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
