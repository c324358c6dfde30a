/* core/amqp/amqp_frame_test.c - each performative there and back with its full list of fields, frames cut at
 * every byte, and what is refused. */
#include "core/amqp/amqp_frame.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static uint8_t mem[2048];
static struct wr out;

static struct amqp_frame frame(void (*encode)(struct wr *w), uint32_t fields_nr)
{
    struct amqp_frame f, none;
    size_t used;
    out = (struct wr){ mem, sizeof mem, 0 };
    size_t at = amqp_frame_begin(&out, AMQP_FRAME_AMQP, 7);
    encode(&out);
    wr_put(&out, SPAN("payload"));
    amqp_frame_end(&out, at);
    for (size_t n = 0; n < out.len; n++)
        assert_int_equal(amqp_frame_decode(span_of(mem, n), 2048, &none, &used), ERR_AGAIN);
    assert_int_equal(amqp_frame_decode(wr_span(&out), 2048, &f, &used), ERR_OK);
    assert_int_equal(amqp_frame_decode(wr_span(&out), out.len - 1, &none, &used), ERR_LIMIT);
    assert_int_equal(used, out.len);
    assert_int_equal(f.channel, 7);
    assert_int_equal(f.fields.count, fields_nr);
    assert_true(span_eq(f.payload, SPAN("payload")));
    return f;
}

static void put_open(struct wr *w)
{
    amqp_open_encode(w, &(struct amqp_open){ .container_id = SPAN("c"),
                                             .hostname = SPAN("h.example"),
                                             .frame_max = 65536,
                                             .channel_max = 8191,
                                             .idle_ms = 240000,
                                             .properties = SPAN("\xc1\x01\x00") });
}
static void put_begin(struct wr *w)
{
    amqp_begin_encode(w, &(struct amqp_begin){ 3, 1, 5000, 6000, 262143 });
}
static void put_attach(struct wr *w)
{
    amqp_attach_encode(
        w, &(struct amqp_attach){
               .name = SPAN("l"),
               .handle = 4,
               .receiver = true,
               .snd_mode = AMQP_SND_MIXED,
               .rcv_mode = AMQP_RCV_SECOND,
               .source = { .present = true, .address = SPAN("src"), .filter = SPAN("\xc1\x01\x00") },
               .target = { .present = true, .address = SPAN("dst"), .dynamic = true },
               .max_message_size = 1048576,
               .desired_capabilities = SPAN("\xa3\x01x"),
               .properties = SPAN("\xc1\x01\x00") });
}
static void put_flow(struct wr *w)
{
    amqp_flow_encode(w, &(struct amqp_flow){ .has_next_incoming = true,
                                             .next_incoming_id = 9,
                                             .incoming_window = 10,
                                             .next_outgoing_id = 11,
                                             .outgoing_window = 12,
                                             .has_handle = true,
                                             .handle = 0,
                                             .has_delivery_count = true,
                                             .delivery_count = 13,
                                             .has_credit = true,
                                             .credit = 14,
                                             .available = 15,
                                             .drain = true,
                                             .echo = true });
}
static void put_transfer(struct wr *w)
{
    amqp_transfer_encode(w, &(struct amqp_transfer){ .handle = 1,
                                                     .has_delivery_id = true,
                                                     .delivery_id = 2,
                                                     .has_tag = true,
                                                     .tag = SPAN("0123456789abcdef"),
                                                     .format = 0x80013700,
                                                     .settled = true,
                                                     .more = true });
}
static void put_disposition(struct wr *w)
{
    amqp_disposition_encode(
        w, &(struct amqp_disposition){
               true,
               5,
               9,
               true,
               { .outcome = AMQP_REJECTED, .error = { SPAN("amqp:not-found"), SPAN("text"), SPAN_NONE } } });
}
static void put_detach(struct wr *w)
{
    amqp_detach_encode(w,
                       &(struct amqp_detach){ 6, true, { SPAN("amqp:link:stolen"), SPAN("t"), SPAN_NONE } });
}
static void put_close(struct wr *w)
{
    amqp_end_encode(w, AMQP_CLOSE, &(struct amqp_error){ 0 });
}

static void test_performatives(void **state)
{
    (void)state;
    struct amqp_frame f = frame(put_open, 10);
    struct amqp_open o;
    assert_int_equal(f.code, AMQP_OPEN);
    assert_int_equal(amqp_open_decode(&f, &o), ERR_OK);
    assert_true(span_eq(o.container_id, SPAN("c")) && span_eq(o.hostname, SPAN("h.example")));
    assert_true(o.frame_max == 65536 && o.channel_max == 8191 && o.idle_ms == 240000 && o.properties.n == 3);
    f = frame(put_begin, 8);
    struct amqp_begin b;
    assert_int_equal(amqp_begin_decode(&f, &b), ERR_OK);
    assert_true(b.remote_channel == 3 && b.next_outgoing_id == 1 && b.incoming_window == 5000 &&
                b.outgoing_window == 6000 && b.handle_max == 262143);
    f = frame(put_attach, 14);
    struct amqp_attach a;
    assert_int_equal(amqp_attach_decode(&f, &a), ERR_OK);
    assert_true(span_eq(a.name, SPAN("l")) && a.handle == 4 && a.receiver && a.rcv_mode == AMQP_RCV_SECOND);
    assert_true(span_eq(a.source.address, SPAN("src")) && span_eq(a.source.filter, SPAN("\xc1\x01\x00")));
    assert_true(span_eq(a.target.address, SPAN("dst")) && a.target.dynamic && !a.source.dynamic);
    assert_true(a.max_message_size == 1048576 && a.desired_capabilities.n == 3 && a.properties.n == 3);
    struct wr echo = { mem + 1024, 1024, 0 }; /* an echo is the same bytes */
    amqp_source_encode(&echo, &a.source);
    assert_true(span_eq(wr_span(&echo), a.source.raw));
    f = frame(put_flow, 11);
    struct amqp_flow l;
    assert_int_equal(amqp_flow_decode(&f, &l), ERR_OK);
    assert_true(l.has_next_incoming && l.next_incoming_id == 9 && l.incoming_window == 10 &&
                l.next_outgoing_id == 11 && l.outgoing_window == 12 && l.has_handle && l.handle == 0 &&
                l.delivery_count == 13 && l.credit == 14 && l.available == 15 && l.drain && l.echo);
    f = frame(put_transfer, 11);
    struct amqp_transfer t;
    assert_int_equal(amqp_transfer_decode(&f, &t), ERR_OK);
    assert_true(t.handle == 1 && t.has_delivery_id && t.delivery_id == 2 && t.tag.n == 16 &&
                t.format == 0x80013700 && t.settled && t.more && !t.aborted);
    f = frame(put_disposition, 6);
    struct amqp_disposition d;
    assert_int_equal(amqp_disposition_decode(&f, &d), ERR_OK);
    assert_true(d.receiver && d.first == 5 && d.last == 9 && d.settled && d.state.outcome == AMQP_REJECTED);
    assert_true(span_eq(d.state.error.condition, SPAN("amqp:not-found")));
    assert_true(span_eq(d.state.error.info, SPAN("\xc1\x01\x00"))); /* always a map */
    f = frame(put_detach, 3);
    struct amqp_detach x;
    assert_int_equal(amqp_detach_decode(&f, &x), ERR_OK);
    assert_true(x.handle == 6 && x.closed && span_eq(x.error.description, SPAN("t")));
    f = frame(put_close, 1);
    struct amqp_error e;
    assert_int_equal(amqp_end_decode(&f, &e), ERR_OK);
    assert_int_equal(e.condition.n, 0);
}

/* What is optional may be missing at the end of the list or null; what is needed may not. */
static void test_absent_fields(void **state)
{
    (void)state;
    static const struct {
        uint8_t code;
        struct span list;
        enum err want;
    } cases[] = {
        { AMQP_OPEN,
          { (const uint8_t *)"\xc0\x04\x01\xa1\x01"
                             "c",
            6 },
          ERR_OK },
        { AMQP_OPEN, { (const uint8_t *)"\x45", 1 }, ERR_PROTO },
        { AMQP_OPEN,
          { (const uint8_t *)"\xc0\x07\x03\xa1\x01"
                             "c\x40\x52\x10",
            9 },
          ERR_PROTO }, /* 16 byte frames */
        { AMQP_BEGIN, { (const uint8_t *)"\xc0\x05\x04\x40\x43\x43\x43", 7 }, ERR_OK },
        { AMQP_BEGIN, { (const uint8_t *)"\xc0\x04\x03\x40\x43\x43", 6 }, ERR_PROTO },
        { AMQP_ATTACH, { (const uint8_t *)"\xc0\x06\x03\xa1\x01n\x43\x42", 8 }, ERR_OK },
        { AMQP_ATTACH, { (const uint8_t *)"\xc0\x05\x02\xa1\x01n\x43", 7 }, ERR_PROTO },
        { AMQP_ATTACH,
          { (const uint8_t *)"\xc0\x06\x03\xa1\x01n\x43\x43", 8 },
          ERR_PROTO }, /* role: a number */
        { AMQP_FLOW, { (const uint8_t *)"\xc0\x05\x04\x40\x43\x43\x43", 7 }, ERR_OK },
        { AMQP_FLOW, { (const uint8_t *)"\x45", 1 }, ERR_PROTO },
        { AMQP_TRANSFER, { (const uint8_t *)"\xc0\x02\x01\x43", 4 }, ERR_OK },
        { AMQP_TRANSFER, { (const uint8_t *)"\xc0\x03\x02\x43\x41", 5 }, ERR_PROTO },
        { AMQP_DISPOSITION, { (const uint8_t *)"\xc0\x03\x02\x41\x43", 5 }, ERR_OK },
        { AMQP_DISPOSITION, { (const uint8_t *)"\xc0\x02\x01\x41", 4 }, ERR_PROTO },
        { AMQP_DETACH, { (const uint8_t *)"\xc0\x02\x01\x43", 4 }, ERR_OK },
        { AMQP_DETACH, { (const uint8_t *)"\x45", 1 }, ERR_PROTO },
        { AMQP_END, { (const uint8_t *)"\x45", 1 }, ERR_OK },
        { AMQP_CLOSE, { (const uint8_t *)"\xc0\x02\x01\x41", 4 }, ERR_PROTO },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct amqp_frame f = { .code = cases[i].code };
        union {
            struct amqp_open o;
            struct amqp_begin b;
            struct amqp_attach a;
            struct amqp_flow l;
            struct amqp_transfer t;
            struct amqp_disposition d;
            struct amqp_detach x;
            struct amqp_error e;
        } u;
        enum err e = ERR_IO;
        assert_int_equal(amqp_read_one(cases[i].list, &f.fields), ERR_OK);
        switch (cases[i].code) {
        case AMQP_OPEN:
            e = amqp_open_decode(&f, &u.o);
            break;
        case AMQP_BEGIN:
            e = amqp_begin_decode(&f, &u.b);
            break;
        case AMQP_ATTACH:
            e = amqp_attach_decode(&f, &u.a);
            break;
        case AMQP_FLOW:
            e = amqp_flow_decode(&f, &u.l);
            break;
        case AMQP_TRANSFER:
            e = amqp_transfer_decode(&f, &u.t);
            break;
        case AMQP_DISPOSITION:
            e = amqp_disposition_decode(&f, &u.d);
            assert_true(e || u.d.last == u.d.first);
            break;
        case AMQP_DETACH:
            e = amqp_detach_decode(&f, &u.x);
            break;
        default:
            e = amqp_end_decode(&f, &u.e);
        }
        if (e != cases[i].want)
            fail_msg("case %zu: %d", i, e);
    }
}

static void test_frames_that_cannot_be(void **state)
{
    (void)state;
    static const struct span bad[] = {
        { (const uint8_t *)"\0\0\0\x07\x02\0\0\0", 8 },                    /* shorter than its head */
        { (const uint8_t *)"\0\0\0\x08\x01\0\0\0", 8 },                    /* data offset inside the head */
        { (const uint8_t *)"\0\0\0\x08\x03\0\0\0", 8 },                    /* data offset behind the end */
        { (const uint8_t *)"\0\0\0\x08\x02\x02\0\0", 8 },                  /* unknown type */
        { (const uint8_t *)"\0\0\0\x0c\x02\0\0\0\x00\x53\x19\x45", 12 },   /* unknown performative */
        { (const uint8_t *)"\0\0\0\x0c\x02\x01\0\0\x00\x53\x10\x45", 12 }, /* open in a SASL frame */
        { (const uint8_t *)"\0\0\0\x0c\x02\0\0\0\x00\x53\x10\x40", 12 },   /* not a list */
        { (const uint8_t *)"\0\0\0\x09\x02\0\0\0\x40", 9 },                /* not described */
    };
    struct amqp_frame f;
    size_t used;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(amqp_frame_decode(bad[i], 65536, &f, &used), ERR_PROTO);
    assert_int_equal(amqp_frame_decode(SPAN("\0\0\0\x0c\x03\0\0\0????"), 65536, &f, &used), ERR_OK);
    assert_int_equal(f.code, 0); /* an extended header, and nothing behind it */
    assert_int_equal(used, 12);
    assert_int_equal(amqp_frame_decode(SPAN("\0\x01\0\x01"), 65536, &f, &used), ERR_LIMIT);
}

static void test_headers(void **state)
{
    (void)state;
    uint8_t proto;
    for (size_t n = 0; n < 8; n++)
        assert_int_equal(amqp_header_decode(span_of("AMQP\x03\x01\0\0", n), &proto), ERR_AGAIN);
    assert_int_equal(amqp_header_decode(SPAN("AMQP\x03\x01\0\0"), &proto), ERR_OK);
    assert_int_equal(proto, AMQP_PROTO_SASL);
    static const char *const bad[] = { "B", "AMQP\x02", "AMQP\x03\x02", "GET " };
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(amqp_header_decode(span_str(bad[i]), &proto), ERR_PROTO);
    assert_int_equal(amqp_header_decode(SPAN("AMQP\0\0\x09\x01"), &proto), ERR_PROTO); /* 0-9-1 */
}

static void test_states(void **state)
{
    (void)state;
    static const uint8_t outcomes[] = { AMQP_STATE_NONE, AMQP_RECEIVED, AMQP_ACCEPTED,
                                        AMQP_REJECTED,   AMQP_RELEASED, AMQP_MODIFIED };
    for (size_t i = 0; i < sizeof outcomes; i++) {
        struct amqp_state s = { .outcome = outcomes[i], .undeliverable_here = outcomes[i] == AMQP_MODIFIED },
                          t;
        struct amqp_value v;
        struct wr w = { mem, sizeof mem, 0 };
        amqp_state_encode(&w, &s);
        assert_int_equal(amqp_read_one(wr_span(&w), &v), ERR_OK);
        assert_true(amqp_state_decode(&v, &t));
        assert_int_equal(t.outcome, s.outcome);
        assert_int_equal(t.undeliverable_here, s.undeliverable_here);
    }
    struct amqp_value v;
    struct amqp_state t;
    assert_int_equal(amqp_read_one(SPAN("\x00\x53\x34\x45"), &v), ERR_OK); /* of transactions */
    assert_true(amqp_state_decode(&v, &t));
    assert_int_equal(t.outcome, AMQP_STATE_OTHER);
}

static void test_sasl_frames(void **state)
{
    (void)state;
    static const char *const names[] = { "EXTERNAL", "MSSBCBS", NULL };
    struct amqp_frame f;
    size_t used;
    out = (struct wr){ mem, sizeof mem, 0 };
    size_t at = amqp_frame_begin(&out, AMQP_FRAME_SASL, 0);
    amqp_sasl_mechanisms_encode(&out, names);
    amqp_frame_end(&out, at);
    assert_int_equal(amqp_frame_decode(wr_span(&out), 512, &f, &used), ERR_OK);
    assert_int_equal(f.code, AMQP_SASL_MECHANISMS);
    assert_true(amqp_sasl_mechanisms_has(&f, SPAN("MSSBCBS")));
    assert_false(amqp_sasl_mechanisms_has(&f, SPAN("PLAIN")));
    struct amqp_sasl_init i;
    f = (struct amqp_frame){ 0 };
    assert_int_equal(amqp_read_one(SPAN("\xc0\x02\x01\x40"), &f.fields), ERR_OK); /* a null mechanism */
    assert_int_equal(amqp_sasl_init_decode(&f, &i), ERR_OK);
    assert_int_equal(i.mechanism.n, 0);
    assert_null(i.response.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_performatives),
        cmocka_unit_test(test_absent_fields),
        cmocka_unit_test(test_frames_that_cannot_be),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_sasl_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
