/* core/mqtt/mqtt_packet_test.c - every packet there and back, every cut, every rule that refuses one. */
#include "core/mqtt/mqtt_packet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants the four above */
#include <cmocka.h>

static uint8_t buf[4096];

static struct mqtt_packet cut(struct span wire)
{
    struct mqtt_packet p;
    size_t used;
    assert_int_equal(mqtt_packet_decode(wire, MQTT_BODY_LIMIT, &p, &used), ERR_OK);
    assert_int_equal(used, wire.n);
    return p;
}

static void same(struct span a, struct span b)
{
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.p, b.p, a.n);
}

/* The CONNECT of the protocol notes: clean=0, keep alive 240, SAS in the password. */
static const uint8_t connect_wire[] = "\x10\x42\x00\x04MQTT\x04\xc0\x00\xf0\x00\x04"
                                      "dev1\x00\x2chub.example.net/dev1/?api-version=2021-04-12\x00\x02PW";

static void a_real_connect_is_read_and_written(void **state)
{
    (void)state;
    struct span wire = span_of(connect_wire, sizeof connect_wire - 1);
    struct mqtt_packet p = cut(wire);
    struct mqtt_connect c;
    assert_int_equal(mqtt_connect_decode(&p, &c), ERR_OK);
    same(c.client_id, SPAN("dev1"));
    same(c.username, SPAN("hub.example.net/dev1/?api-version=2021-04-12"));
    same(c.password, SPAN("PW"));
    assert_int_equal(c.keep_alive_s, 240);
    assert_true(c.has_username && c.has_password && !c.clean && !c.has_will);
    struct wr w = { buf, sizeof buf, 0 };
    mqtt_connect_encode(&w, &c);
    same(wr_span(&w), wire);
}

static void connect_with_everything_goes_round(void **state)
{
    (void)state;
    struct mqtt_connect c = { .client_id = SPAN("d/m"),
                              .username = SPAN(""),
                              .password = SPAN("\x00\xff"),
                              .will_topic = SPAN("devices/d/messages/events/"),
                              .will_payload = SPAN(""),
                              .keep_alive_s = 65535,
                              .will_qos = 1,
                              .clean = true,
                              .has_username = true,
                              .has_password = true,
                              .has_will = true,
                              .will_retain = true };
    struct mqtt_connect d;
    struct wr w = { buf, sizeof buf, 0 };
    mqtt_connect_encode(&w, &c);
    struct mqtt_packet p = cut(wr_span(&w));
    assert_int_equal(mqtt_connect_decode(&p, &d), ERR_OK);
    same(d.will_topic, c.will_topic);
    same(d.will_payload, c.will_payload);
    same(d.password, c.password);
    assert_int_equal(d.will_qos, 1);
    assert_true(d.clean && d.has_will && d.will_retain && d.has_username && d.has_password);
    assert_int_equal(d.keep_alive_s, 65535);
}

static void connect_of_other_protocols_is_told_apart(void **state)
{
    (void)state;
    const struct {
        struct span wire;
        enum err e;
    } rows[] = {
        { SPAN("\x10\x0c\x00\x04MQTT\x05\x02\x00\x3c\x00\x00"), ERR_LIMIT },
        { SPAN("\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01x"), ERR_LIMIT },
        { SPAN("\x10\x0c\x00\x04mqtt\x04\x02\x00\x3c\x00\x00"), ERR_LIMIT },
        { SPAN("\x10\x0d\x00\x04MQTT\x04\x03\x00\x3c\x00\x01x"), ERR_PROTO }, /* reserved bit */
        { SPAN("\x10\x0d\x00\x04MQTT\x04\x42\x00\x3c\x00\x01x"), ERR_PROTO }, /* password alone */
        { SPAN("\x10\x0d\x00\x04MQTT\x04\x0a\x00\x3c\x00\x01x"), ERR_PROTO }, /* will QoS, no will */
        { SPAN("\x10\x0d\x00\x04MQTT\x04\x22\x00\x3c\x00\x01x"), ERR_PROTO }, /* will retain, no will */
        { SPAN("\x10\x13\x00\x04MQTT\x04\x1e\x00\x3c\x00\x01x\x00\x01t\x00\x01p"), ERR_PROTO }, /* QoS 3 */
        { SPAN("\x10\x12\x00\x04MQTT\x04\x06\x00\x3c\x00\x01x\x00\x00\x00\x01p"), ERR_PROTO },  /* no topic */
        { SPAN("\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x!"), ERR_PROTO },   /* trailing byte */
        { SPAN("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x02x"), ERR_PROTO },    /* id too long */
        { SPAN("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01\x00"), ERR_PROTO }, /* U+0000 */
        { SPAN("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01\xff"), ERR_PROTO }, /* not UTF-8 */
        { SPAN("\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"), ERR_OK },        /* empty id: reader's */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mqtt_packet p = cut(rows[i].wire);
        struct mqtt_connect c;
        assert_int_equal(mqtt_connect_decode(&p, &c), rows[i].e);
    }
}

/* One of each packet, as both sides write them. */
static size_t all_packets(struct wr *w, size_t ends[20])
{
    size_t n = 0;
    struct mqtt_connect c = { .client_id = SPAN("dev1"), .keep_alive_s = 60 };
    struct mqtt_publish m = { .topic = SPAN("a/b"), .payload = SPAN("hello"), .packet_id = 7, .qos = 1 };
    struct mqtt_filter f[2] = { { SPAN("a/#"), 1 }, { SPAN("+/b"), 0 } };
    mqtt_connect_encode(w, &c), ends[n++] = w->len;
    mqtt_connack_encode(w, true, MQTT_CONNACK_OK), ends[n++] = w->len;
    mqtt_publish_encode(w, &m), ends[n++] = w->len;
    m.qos = 0, m.packet_id = 0, m.payload = SPAN_NONE;
    mqtt_publish_encode(w, &m), ends[n++] = w->len;
    mqtt_id_encode(w, MQTT_PUBACK, 1), ends[n++] = w->len;
    mqtt_id_encode(w, MQTT_PUBREC, 2), ends[n++] = w->len;
    mqtt_id_encode(w, MQTT_PUBREL, 3), ends[n++] = w->len;
    mqtt_id_encode(w, MQTT_PUBCOMP, 65535), ends[n++] = w->len;
    mqtt_subscribe_encode(w, 9, f, 2), ends[n++] = w->len;
    mqtt_suback_encode(w, 9, SPAN("\x01\x80")), ends[n++] = w->len;
    mqtt_unsubscribe_encode(w, 10, f, 2), ends[n++] = w->len;
    mqtt_id_encode(w, MQTT_UNSUBACK, 10), ends[n++] = w->len;
    mqtt_empty_encode(w, MQTT_PINGREQ), ends[n++] = w->len;
    mqtt_empty_encode(w, MQTT_PINGRESP), ends[n++] = w->len;
    mqtt_empty_encode(w, MQTT_DISCONNECT), ends[n++] = w->len;
    return n;
}

static enum err read_any(const struct mqtt_packet *p)
{
    union {
        struct mqtt_connect c;
        struct mqtt_connack a;
        struct mqtt_publish m;
        struct mqtt_filters f;
        struct mqtt_suback s;
        uint16_t id;
    } u;
    switch (p->type) {
    case MQTT_CONNECT:
        return mqtt_connect_decode(p, &u.c);
    case MQTT_CONNACK:
        return mqtt_connack_decode(p, &u.a);
    case MQTT_PUBLISH:
        return mqtt_publish_decode(p, &u.m);
    case MQTT_SUBSCRIBE:
        return mqtt_subscribe_decode(p, &u.f);
    case MQTT_UNSUBSCRIBE:
        return mqtt_unsubscribe_decode(p, &u.f);
    case MQTT_SUBACK:
        return mqtt_suback_decode(p, &u.s);
    case MQTT_PINGREQ:
    case MQTT_PINGRESP:
    case MQTT_DISCONNECT:
        return ERR_OK;
    default:
        return mqtt_id_decode(p, &u.id);
    }
}

static void every_cut_waits_for_the_rest(void **state)
{
    (void)state;
    struct wr w = { buf, sizeof buf, 0 };
    size_t ends[20], start = 0;
    size_t nr = all_packets(&w, ends);
    assert_int_equal(nr, 15);
    for (size_t i = 0; i < nr; start = ends[i++]) {
        struct mqtt_packet p = { 0 };
        size_t used = 0;
        for (size_t n = 0; n <= ends[i] - start; n++) {
            uint8_t *exact = malloc(n + 1); /* so that a sanitizer sees a read past the end */
            memcpy(exact, buf + start, n);
            enum err e = mqtt_packet_decode(span_of(exact, n), 1024, &p, &used);
            assert_int_equal(e, n < ends[i] - start ? ERR_AGAIN : ERR_OK);
            assert_int_equal(used, e ? 0 : n);
            if (!e)
                assert_int_equal(read_any(&p), ERR_OK);
            free(exact);
        }
        /* A body one byte shorter or longer than it says inside is refused, unless the end is open. */
        struct mqtt_packet cutoff = { p.type, p.flags, SPAN_NONE };
        assert_int_equal(mqtt_packet_decode(span_of(buf + start, ends[i] - start), 1024, &cutoff, &used),
                         ERR_OK);
        if (cutoff.body.n && p.type != MQTT_PUBLISH && p.type != MQTT_SUBACK) {
            cutoff.body.n--;
            assert_int_equal(read_any(&cutoff), ERR_PROTO);
        }
    }
}

static void a_stream_of_packets_is_cut_in_order(void **state)
{
    (void)state;
    struct wr w = { buf, sizeof buf, 0 };
    size_t ends[20], nr = all_packets(&w, ends), got = 0;
    struct span in = wr_span(&w);
    while (in.n) {
        struct mqtt_packet p;
        size_t used;
        assert_int_equal(mqtt_packet_decode(in, 1024, &p, &used), ERR_OK);
        in = span_skip(in, used);
        assert_int_equal((size_t)(in.p - buf), ends[got++]);
    }
    assert_int_equal(got, nr);
}

static void a_bad_head_is_refused_with_the_byte_that_shows_it(void **state)
{
    (void)state;
    struct mqtt_packet p;
    size_t used;
    for (unsigned first = 0; first < 256; first++) {
        uint8_t b = (uint8_t)first;
        unsigned type = first >> 4, flags = first & 15;
        bool good = type >= 1 && type <= 14;
        if (type == MQTT_PUBLISH)
            good = (flags & 6) != 6 && !((flags & 6) == 0 && flags & 8);
        else if (type == MQTT_PUBREL || type == MQTT_SUBSCRIBE || type == MQTT_UNSUBSCRIBE)
            good = flags == 2;
        else
            good = good && flags == 0;
        assert_int_equal(mqtt_packet_decode(span_of(&b, 1), 1024, &p, &used), good ? ERR_AGAIN : ERR_PROTO);
    }
    assert_int_equal(mqtt_packet_decode(SPAN("\x30\xff\xff\xff\xff"), 1024, &p, &used), ERR_PROTO);
    assert_int_equal(mqtt_packet_decode(SPAN("\x30\xff\xff\xff"), 1024, &p, &used), ERR_AGAIN);
    assert_int_equal(mqtt_packet_decode(SPAN("\xc0\x01"), 1024, &p, &used), ERR_PROTO);
    assert_int_equal(mqtt_packet_decode(SPAN("\x40\x03"), 1024, &p, &used), ERR_PROTO);
    assert_int_equal(mqtt_packet_decode(SPAN("\x40\x01"), 1024, &p, &used), ERR_PROTO);
    assert_int_equal(mqtt_packet_decode(SPAN("\x30\x02"), 1024, &p, &used), ERR_PROTO);
}

static void the_limit_holds_to_the_byte(void **state)
{
    (void)state;
    struct mqtt_packet p;
    size_t used;
    /* 127/128, 16383/16384, ...: where the length field grows */
    static const uint32_t lens[] = { 127, 128, 16383, 16384, 262144, 2097151, 2097152 };
    uint8_t *big = malloc(2097152 + 8);
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        uint8_t topic = 't';
        struct mqtt_publish m = { .topic = span_of(&topic, 1), .payload = span_of(big, lens[i] - 3) };
        struct wr w = { buf, sizeof buf, 0 };
        mqtt_publish_head_encode(&w, &m);
        memcpy(big, buf, w.len);
        size_t all = w.len + m.payload.n;
        assert_int_equal(mqtt_packet_decode(span_of(big, all), lens[i], &p, &used), ERR_OK);
        assert_int_equal(p.body.n, lens[i]);
        assert_int_equal(used, all);
        assert_int_equal(mqtt_packet_decode(span_of(big, all), lens[i] - 1, &p, &used), ERR_LIMIT);
        /* over the limit is known as soon as the length is there */
        assert_int_equal(mqtt_packet_decode(span_of(big, w.len - 3), lens[i] - 1, &p, &used), ERR_LIMIT);
    }
    free(big);
}

static void bad_bodies_are_refused(void **state)
{
    (void)state;
    const struct span rows[] = {
        SPAN("\x30\x03\x00\x00x"),                 /* empty topic */
        SPAN("\x30\x03\x00\x02x"),                 /* topic past the end */
        SPAN("\x30\x03\x00\x01\xc0"),              /* topic not UTF-8 */
        SPAN("\x32\x05\x00\x01t\x00\x00"),         /* packet identifier 0 */
        SPAN("\x32\x04\x00\x01t\x00"),             /* cut identifier */
        SPAN("\x40\x02\x00\x00"),                  /* PUBACK 0 */
        SPAN("\x62\x02\x00\x00"),                  /* PUBREL 0 */
        SPAN("\x82\x06\x00\x00\x00\x01t\x00"),     /* SUBSCRIBE 0 */
        SPAN("\x82\x06\x00\x01\x00\x01t\x03"),     /* QoS 3 */
        SPAN("\x82\x06\x00\x01\x00\x00\x00\x00"),  /* empty filter */
        SPAN("\x82\x07\x00\x01\x00\x01t\x00\x00"), /* a second one, cut */
        SPAN("\x82\x06\x00\x01\x00\x01\xff\x00"),  /* not UTF-8 */
        SPAN("\xa2\x05\x00\x01\x00\x02t"),         /* filter past the end */
        SPAN("\x90\x03\x00\x01\x03"),              /* SUBACK code 3 */
        SPAN("\x90\x03\x00\x00\x00"),              /* SUBACK 0 */
        SPAN("\x20\x02\x02\x00"),                  /* reserved CONNACK flag */
        SPAN("\x20\x02\x01\x05"),                  /* session present and refused */
        SPAN("\x20\x02\x00\x06"),                  /* unknown code */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mqtt_packet p = cut(rows[i]);
        assert_int_equal(read_any(&p), ERR_PROTO);
    }
}

static void filters_are_walked_in_order(void **state)
{
    (void)state;
    struct mqtt_filter f[5] = { { SPAN("a"), 0 },
                                { SPAN("b/#"), 1 },
                                { SPAN("#"), 2 },
                                { SPAN("+"), 1 },
                                { SPAN("$iothub/twin/res/#"), 0 } };
    for (int with_qos = 0; with_qos < 2; with_qos++) {
        struct wr w = { buf, sizeof buf, 0 };
        if (with_qos)
            mqtt_subscribe_encode(&w, 300, f, 5);
        else
            mqtt_unsubscribe_encode(&w, 300, f, 5);
        struct mqtt_packet p = cut(wr_span(&w));
        struct mqtt_filters it;
        struct mqtt_filter one;
        enum err e = with_qos ? mqtt_subscribe_decode(&p, &it) : mqtt_unsubscribe_decode(&p, &it);
        assert_int_equal(e, ERR_OK);
        assert_int_equal(it.packet_id, 300);
        assert_int_equal(it.nr, 5);
        for (size_t i = 0; i < 5; i++) {
            assert_true(mqtt_filter_next(&it, &one));
            same(one.filter, f[i].filter);
            assert_int_equal(one.qos, with_qos ? f[i].qos : 0);
        }
        assert_false(mqtt_filter_next(&it, &one));
    }
}

static void utf8_is_judged(void **state)
{
    (void)state;
    assert_true(mqtt_utf8_is_valid(SPAN("")));
    assert_true(
        mqtt_utf8_is_valid(SPAN("a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xee\x80\x80")));
    const struct span bad[] = { SPAN("\x00"),
                                SPAN("\x80"),
                                SPAN("\xc1\xbf"),
                                SPAN("\xc3"),
                                SPAN("\xe0\x9f\xbf"),
                                SPAN("\xed\xa0\x80"),
                                SPAN("\xe2\x82"),
                                SPAN("\xf0\x8f\xbf\xbf"),
                                SPAN("\xf4\x90\x80\x80"),
                                SPAN("\xf5\x80\x80\x80"),
                                SPAN("\xc3\x28"),
                                SPAN("\xe2\x28\xa1") };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(mqtt_utf8_is_valid(bad[i]));
}

static void filters_match_as_the_standard_says(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *topic;
        bool match;
    } rows[] = {
        { "a/b", "a/b", true },   { "a/b", "a/c", false },  { "a/b", "a", false },
        { "a", "a/b", false },    { "a/#", "a/b/c", true }, { "a/#", "a", true },
        { "#", "a/b", true },     { "#", "$x/y", false },   { "+/b", "a/b", true },
        { "+/b", "$x/b", false }, { "$x/#", "$x/b", true }, { "+", "a/b", false },
        { "+/+", "/a", true },    { "/+", "/a", true },     { "+", "/a", false },
        { "a/+", "a/", true },    { "a/+", "a", false },    { "a/+/c", "a/b/c", true },
        { "a/+/#", "a", false },  { "a//b", "a//b", true },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(mqtt_filter_matches(span_str(rows[i].filter), span_str(rows[i].topic)),
                         rows[i].match);
    static const char *good[] = { "#", "+", "a/#", "+/a/+/#", "/", "a//" };
    static const char *bad[] = { "", "a#", "#/a", "a/#/b", "a+", "+a/b", "##" };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(mqtt_filter_is_valid(span_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(mqtt_filter_is_valid(span_str(bad[i])));
}

static void a_writer_without_room_measures(void **state)
{
    (void)state;
    struct wr full = { buf, sizeof buf, 0 }, none = { NULL, 0, 0 };
    size_t ends[20];
    all_packets(&full, ends);
    all_packets(&none, ends);
    assert_int_equal(full.len, none.len);
    assert_false(wr_ok(&none));
    assert_string_equal(mqtt_type_name(MQTT_PUBLISH), "publish");
    assert_string_equal(mqtt_type_name(99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_connect_is_read_and_written),
        cmocka_unit_test(connect_with_everything_goes_round),
        cmocka_unit_test(connect_of_other_protocols_is_told_apart),
        cmocka_unit_test(every_cut_waits_for_the_rest),
        cmocka_unit_test(a_stream_of_packets_is_cut_in_order),
        cmocka_unit_test(a_bad_head_is_refused_with_the_byte_that_shows_it),
        cmocka_unit_test(the_limit_holds_to_the_byte),
        cmocka_unit_test(bad_bodies_are_refused),
        cmocka_unit_test(filters_are_walked_in_order),
        cmocka_unit_test(utf8_is_judged),
        cmocka_unit_test(filters_match_as_the_standard_says),
        cmocka_unit_test(a_writer_without_room_measures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
