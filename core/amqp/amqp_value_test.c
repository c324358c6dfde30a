/* core/amqp/amqp_value_test.c - every constructor of the type system, read and written; cuts; what is broken.
 */
#include "core/amqp/amqp_message.h"
#include "core/amqp/amqp_value.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define S(lit) SPAN(lit)

/* The encodings of part 1, 1.6, the full form first; `shortest` is what we write. */
static const struct {
    struct span wire, shortest;
    uint8_t type;
    uint64_t u;
} scalars[] = {
    { { (const uint8_t *)"\x40", 1 }, { (const uint8_t *)"\x40", 1 }, AMQP_NULL, 0 },
    { { (const uint8_t *)"\x56\x01", 2 }, { (const uint8_t *)"\x41", 1 }, AMQP_BOOL, 1 },
    { { (const uint8_t *)"\x56\x00", 2 }, { (const uint8_t *)"\x42", 1 }, AMQP_BOOL, 0 },
    { { (const uint8_t *)"\x41", 1 }, { (const uint8_t *)"\x41", 1 }, AMQP_BOOL, 1 },
    { { (const uint8_t *)"\x50\xfe", 2 }, { (const uint8_t *)"\x50\xfe", 2 }, AMQP_UBYTE, 254 },
    { { (const uint8_t *)"\x60\x01\x02", 3 }, { (const uint8_t *)"\x60\x01\x02", 3 }, AMQP_USHORT, 258 },
    { { (const uint8_t *)"\x70\0\0\0\0", 5 }, { (const uint8_t *)"\x43", 1 }, AMQP_UINT, 0 },
    { { (const uint8_t *)"\x70\0\0\0\xff", 5 }, { (const uint8_t *)"\x52\xff", 2 }, AMQP_UINT, 255 },
    { { (const uint8_t *)"\x70\xff\xff\xff\xff", 5 },
      { (const uint8_t *)"\x70\xff\xff\xff\xff", 5 },
      AMQP_UINT,
      0xffffffffu },
    { { (const uint8_t *)"\x44", 1 }, { (const uint8_t *)"\x44", 1 }, AMQP_ULONG, 0 },
    { { (const uint8_t *)"\x80\0\0\0\0\0\0\0\x07", 9 }, { (const uint8_t *)"\x53\x07", 2 }, AMQP_ULONG, 7 },
    { { (const uint8_t *)"\x80\0\0\x46\x8c\0\0\0\x04", 9 },
      { (const uint8_t *)"\x80\0\0\x46\x8c\0\0\0\x04", 9 },
      AMQP_ULONG,
      0x468c00000004u },
    { { (const uint8_t *)"\x51\xff", 2 }, { (const uint8_t *)"\x51\xff", 2 }, AMQP_BYTE, UINT64_MAX },
    { { (const uint8_t *)"\x61\xff\xfe", 3 },
      { (const uint8_t *)"\x61\xff\xfe", 3 },
      AMQP_SHORT,
      UINT64_MAX - 1 },
    { { (const uint8_t *)"\x71\xff\xff\xff\x80", 5 },
      { (const uint8_t *)"\x54\x80", 2 },
      AMQP_INT,
      UINT64_MAX - 127 },
    { { (const uint8_t *)"\x71\0\0\0\xc8", 5 }, { (const uint8_t *)"\x71\0\0\0\xc8", 5 }, AMQP_INT, 200 },
    { { (const uint8_t *)"\x81\xff\xff\xff\xff\xff\xff\xff\xff", 9 },
      { (const uint8_t *)"\x55\xff", 2 },
      AMQP_LONG,
      UINT64_MAX },
    { { (const uint8_t *)"\x72\x3f\x80\0\0", 5 },
      { (const uint8_t *)"\x72\x3f\x80\0\0", 5 },
      AMQP_FLOAT,
      0x3f800000u },
    { { (const uint8_t *)"\x82\x3f\xf0\0\0\0\0\0\0", 9 },
      { (const uint8_t *)"\x82\x3f\xf0\0\0\0\0\0\0", 9 },
      AMQP_DOUBLE,
      0x3ff0000000000000u },
    { { (const uint8_t *)"\x74\1\2\3\4", 5 },
      { (const uint8_t *)"\x74\1\2\3\4", 5 },
      AMQP_DECIMAL32,
      0x01020304 },
    { { (const uint8_t *)"\x84\0\0\0\0\1\2\3\4", 9 },
      { (const uint8_t *)"\x84\0\0\0\0\1\2\3\4", 9 },
      AMQP_DECIMAL64,
      0x01020304 },
    { { (const uint8_t *)"\x73\0\0\x20\xac", 5 },
      { (const uint8_t *)"\x73\0\0\x20\xac", 5 },
      AMQP_CHAR,
      0x20ac },
    { { (const uint8_t *)"\x83\0\0\x01\x80\0\0\0\0", 9 },
      { (const uint8_t *)"\x83\0\0\x01\x80\0\0\0\0", 9 },
      AMQP_TIMESTAMP,
      0x18000000000u },
};

static void test_scalars(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        struct amqp_value v;
        uint8_t mem[32];
        struct wr w = { mem, sizeof mem, 0 };
        assert_int_equal(amqp_read_one(scalars[i].wire, &v), ERR_OK);
        assert_int_equal(v.type, scalars[i].type);
        assert_true(v.u == scalars[i].u);
        amqp_put_value(&w, &v);
        assert_true(span_eq(wr_span(&w), scalars[i].shortest));
        assert_true(amqp_is_valid(&v));
        for (size_t n = 0; n < scalars[i].wire.n; n++) /* every cut */
            assert_int_equal(amqp_read_one(span_of(scalars[i].wire.p, n), &v), ERR_PROTO);
    }
}

static void test_sixteen_bytes(void **state)
{
    (void)state;
    static const uint8_t uuid[] = "\x98\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
    struct amqp_value v;
    uint8_t mem[64];
    struct wr w = { mem, sizeof mem, 0 };
    assert_int_equal(amqp_read_one(span_of(uuid, 17), &v), ERR_OK);
    assert_int_equal(v.type, AMQP_UUID);
    assert_int_equal(v.bytes.n, 16);
    amqp_put_value(&w, &v);
    assert_true(span_eq(wr_span(&w), span_of(uuid, 17)));
    w.len = 0;
    amqp_id_text(&w, &v);
    assert_true(span_eq(wr_span(&w), S("00112233-4455-6677-8899-aabbccddeeff")));
    assert_int_equal(amqp_read_one(span_of("\x94zzzzzzzzzzzzzzzz", 17), &v), ERR_OK);
    assert_int_equal(v.type, AMQP_DECIMAL128);
}

static void test_text_of_both_widths(void **state)
{
    (void)state;
    static uint8_t mem[2000], big[1000];
    static const size_t lengths[] = { 0, 1, 255, 256, 1000 };
    static const uint8_t types[] = { AMQP_BINARY, AMQP_STRING, AMQP_SYMBOL };
    memset(big, 'x', sizeof big);
    for (size_t t = 0; t < 3; t++)
        for (size_t i = 0; i < 5; i++) {
            struct wr w = { mem, sizeof mem, 0 };
            struct amqp_value v, in = { .type = types[t], .bytes = span_of(big, lengths[i]) };
            amqp_put_value(&w, &in);
            assert_int_equal(w.len, lengths[i] + (lengths[i] < 256 ? 2 : 5));
            assert_int_equal(amqp_read_one(wr_span(&w), &v), ERR_OK);
            assert_int_equal(v.type, types[t]);
            assert_true(span_eq(v.bytes, in.bytes));
        }
    struct amqp_value v;
    assert_int_equal(amqp_read_one(S("\xb1\0\0\0\x02hi"), &v), ERR_OK); /* the long form of a short text */
    assert_true(span_eq(v.bytes, S("hi")));
}

/* {"n": [1, true, null], "e": []} and an array of strings, all in both widths. */
static void test_compounds(void **state)
{
    (void)state;
    static uint8_t mem[4000];
    for (unsigned wide = 0; wide < 2; wide++) {
        struct wr w = { mem, sizeof mem, 0 };
        uint32_t nr = wide ? 300 : 3;
        size_t map = amqp_map_begin(&w);
        amqp_put_symbol(&w, S("n"));
        size_t list = amqp_list_begin(&w);
        for (uint32_t i = 0; i < nr; i++)
            amqp_put_uint(&w, i);
        amqp_list_end(&w, list, nr);
        amqp_put_string(&w, S("a"));
        size_t array = amqp_array_begin(&w, AMQP_STR32);
        for (uint32_t i = 0; i < nr; i++)
            amqp_array_text_put(&w, S("ab"));
        amqp_array_end(&w, array, nr);
        amqp_map_end(&w, map, 4);
        assert_true(wr_ok(&w));

        struct amqp_value v, n, a, item;
        assert_int_equal(amqp_read_one(wr_span(&w), &v), ERR_OK);
        assert_true(amqp_is_valid(&v));
        assert_int_equal(mem[0], wide ? 0xd1 : 0xc1);
        assert_true(amqp_map_get(&v, S("n"), &n));
        assert_int_equal(n.type, AMQP_LIST);
        assert_int_equal(n.count, nr);
        struct amqp_walk walk = amqp_walk_of(&n);
        for (uint32_t i = 0; i < nr; i++) {
            assert_true(amqp_walk_next(&walk, &item));
            assert_int_equal(item.u, i);
        }
        assert_false(amqp_walk_next(&walk, &item));
        assert_true(amqp_map_get(&v, S("a"), &a));
        assert_int_equal(a.type, AMQP_ARRAY);
        walk = amqp_walk_of(&a);
        for (uint32_t i = 0; i < nr; i++) {
            assert_true(amqp_walk_next(&walk, &item));
            assert_int_equal(item.type, AMQP_STRING);
            assert_true(span_eq(item.bytes, S("ab")));
        }
        assert_false(amqp_map_get(&v, S("x"), &item));
        size_t len = w.len; /* measured and written are the same */
        for (size_t n_cut = 0; n_cut < len; n_cut++)
            assert_int_equal(amqp_read_one(span_of(mem, n_cut), &v), ERR_PROTO);
        for (size_t cap = 0; cap < len; cap += wide ? 97 : 1) { /* a writer too short says so */
            static uint8_t small[4000];
            struct wr s = { small, cap, 0 };
            map = amqp_map_begin(&s);
            amqp_put_symbol(&s, S("n"));
            list = amqp_list_begin(&s);
            for (uint32_t i = 0; i < nr; i++)
                amqp_put_uint(&s, i);
            amqp_list_end(&s, list, nr);
            amqp_put_string(&s, S("a"));
            array = amqp_array_begin(&s, AMQP_STR32);
            for (uint32_t i = 0; i < nr; i++)
                amqp_array_text_put(&s, S("ab"));
            amqp_array_end(&s, array, nr);
            amqp_map_end(&s, map, 4);
            assert_false(wr_ok(&s));
            assert_int_equal(s.len, len);
        }
    }
}

static void test_described(void **state)
{
    (void)state;
    struct amqp_value v, d, inner;
    assert_int_equal(amqp_read_one(S("\x00\x80\0\0\x46\x8c\0\0\0\x04\xa1\x01>"), &v), ERR_OK);
    assert_int_equal(v.type, AMQP_DESCRIBED);
    assert_true(amqp_described(&v, &d, &inner));
    assert_true(d.u == 0x468c00000004u);
    assert_true(span_eq(inner.bytes, S(">")));
    /* an array of described values: each element shows its inner value */
    assert_int_equal(amqp_read_one(S("\xe0\x07\x02\x00\x53\x05\x50\x07\x08"), &v), ERR_OK);
    struct amqp_walk w = amqp_walk_of(&v);
    assert_true(span_eq(w.descriptor, S("\x53\x05")));
    assert_true(amqp_walk_next(&w, &inner));
    assert_int_equal(inner.u, 7);
    assert_true(amqp_walk_next(&w, &inner));
    assert_int_equal(inner.u, 8);
    assert_false(amqp_walk_next(&w, &inner));
}

static void test_depth_is_bounded(void **state)
{
    (void)state;
    uint8_t mem[200];
    for (unsigned deep = 1; deep <= 40; deep++) { /* a descriptor of a descriptor of ... */
        struct wr w = { mem, sizeof mem, 0 };
        struct amqp_value v;
        for (unsigned i = 0; i < deep; i++)
            wr_u8(&w, 0);
        for (unsigned i = 0; i <= deep; i++)
            amqp_put_null(&w);
        assert_int_equal(amqp_read_one(wr_span(&w), &v), deep <= AMQP_DEPTH_MAX ? ERR_OK : ERR_PROTO);
    }
    struct wr w = { mem, sizeof mem, 0 };
    struct amqp_value v;
    size_t at[40];
    for (unsigned i = 0; i < 40; i++)
        at[i] = amqp_list_begin(&w);
    for (unsigned i = 40; i--;)
        amqp_list_end(&w, at[i], i < 39);
    assert_int_equal(amqp_read_one(wr_span(&w), &v), ERR_OK);
    assert_false(amqp_is_valid(&v));
}

static void test_broken(void **state)
{
    (void)state;
    static const struct span bad[] = {
        { (const uint8_t *)"\x57", 1 },                         /* no such constructor */
        { (const uint8_t *)"\x56\x02", 2 },                     /* neither true nor false */
        { (const uint8_t *)"\xc0\x00\x00", 3 },                 /* a list shorter than its count field */
        { (const uint8_t *)"\xc0\x02\x05\x40", 4 },             /* more elements than bytes */
        { (const uint8_t *)"\xc1\x02\x01\x40", 4 },             /* a map of one */
        { (const uint8_t *)"\xd0\xff\xff\xff\xff\0\0\0\1", 9 }, /* longer than there is */
        { (const uint8_t *)"\xe0\x02\x02\x57", 4 },             /* an array of no type */
        { (const uint8_t *)"\xf0\0\0\0\x05\xff\xff\xff\xff\x40", 10 }, /* four milliards of nulls */
        { (const uint8_t *)"\x40\x40", 2 },                            /* something behind it */
        { (const uint8_t *)"\x00", 1 },
    };
    struct amqp_value v;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(amqp_read_one(bad[i], &v), ERR_PROTO);
    /* broken inside: found by who looks inside */
    assert_int_equal(amqp_read_one(S("\xc0\x03\x01\xa1\x09"), &v), ERR_OK);
    assert_false(amqp_is_valid(&v));
    assert_int_equal(amqp_read_one(S("\xc0\x04\x01\x40\x40\x40"), &v), ERR_OK); /* more than it counts */
    assert_false(amqp_is_valid(&v));
}

static void test_integers_of_any_type(void **state)
{
    (void)state;
    struct amqp_value v;
    uint64_t u;
    int64_t i;
    assert_int_equal(amqp_read_one(S("\x54\xfb"), &v), ERR_OK);
    assert_false(amqp_get_u64(&v, UINT64_MAX, &u));
    assert_true(amqp_get_i64(&v, &i));
    assert_int_equal(i, -5);
    assert_int_equal(amqp_read_one(S("\x50\x07"), &v), ERR_OK);
    assert_true(amqp_get_u64(&v, 7, &u));
    assert_false(amqp_get_u64(&v, 6, &u));
    assert_int_equal(amqp_read_one(S("\x80\xff\xff\xff\xff\xff\xff\xff\xff"), &v), ERR_OK);
    assert_false(amqp_get_i64(&v, &i));
    assert_int_equal(amqp_read_one(S("\xa1\x01"
                                     "7"),
                                   &v),
                     ERR_OK);
    assert_false(amqp_get_i64(&v, &i));
}

/* ---- messages --------------------------------------------------------------------------------------- */

static struct span message(uint8_t *mem, size_t cap)
{
    struct wr w = { mem, cap, 0 };
    amqp_section_begin(&w, AMQP_MESSAGE_ANNOTATIONS);
    size_t at = amqp_map_begin(&w);
    amqp_put_symbol(&w, S("iothub-enqueuedtime"));
    amqp_put_timestamp(&w, 5);
    amqp_map_end(&w, at, 2);
    struct amqp_properties p = { .message_id = { .type = AMQP_ULONG, .u = 0 },
                                 .correlation_id = { .type = AMQP_STRING, .bytes = S("c") },
                                 .user_id = S("u"),
                                 .to = S("/devices/d"),
                                 .content_type = S("application/json"),
                                 .has_expiry = true,
                                 .expiry_ms = 99 };
    amqp_properties_encode(&w, &p);
    amqp_section_begin(&w, AMQP_APPLICATION_PROPERTIES);
    at = amqp_map_begin(&w);
    amqp_put_string(&w, S("k"));
    amqp_put_int(&w, -300);
    amqp_map_end(&w, at, 2);
    amqp_data_head(&w, 4);
    wr_put(&w, S("body"));
    assert_true(wr_ok(&w));
    return wr_span(&w);
}

static void test_message_round_trip_and_cuts(void **state)
{
    (void)state;
    uint8_t mem[400];
    struct span m = message(mem, sizeof mem), data, at;
    struct amqp_message out;
    struct amqp_value v;
    assert_int_equal(amqp_message_decode(m, &out), ERR_OK);
    assert_int_equal(out.properties.message_id.type, AMQP_ULONG);
    assert_true(span_eq(out.properties.correlation_id.bytes, S("c")));
    assert_true(span_eq(out.properties.user_id, S("u")));
    assert_true(span_eq(out.properties.to, S("/devices/d")));
    assert_true(span_eq(out.properties.content_type, S("application/json")));
    assert_null(out.properties.content_encoding.p);
    assert_true(out.properties.has_expiry && out.properties.expiry_ms == 99 && !out.properties.has_creation);
    assert_true(amqp_map_get(&out.message_annotations, S("iothub-enqueuedtime"), &v));
    assert_true(amqp_map_get(&out.application_properties, S("k"), &v));
    uint8_t text[32];
    struct wr w = { text, sizeof text, 0 };
    assert_true(amqp_scalar_text(&w, &v));
    assert_true(span_eq(wr_span(&w), S("-300")));
    assert_int_equal(out.body, AMQP_DATA);
    at = out.sections;
    assert_true(amqp_data_next(&at, &data));
    assert_true(span_eq(data, S("body")));
    assert_false(amqp_data_next(&at, &data));
    size_t whole = 0; /* a cut is either between sections or refused */
    for (size_t n = 0; n < m.n; n++)
        whole += amqp_message_decode(span_of(m.p, n), &out) == ERR_OK;
    assert_int_equal(whole, 4);
}

static void test_sections_in_any_order(void **state)
{
    (void)state;
    struct amqp_message out;
    struct span at, data;
    /* data, application properties, data, annotations */
    assert_int_equal(amqp_message_decode(S("\x00\x53\x75\xa0\x01"
                                           "a\x00\x53\x74\xc1\x01\x00\x00\x53\x75\xa0\x01"
                                           "b\x00\x53\x72\xc1\x01\x00"),
                                         &out),
                     ERR_OK);
    assert_int_equal(out.body_sections, 2);
    at = out.sections;
    assert_true(amqp_data_next(&at, &data) && span_eq(data, S("a")));
    assert_true(amqp_data_next(&at, &data) && span_eq(data, S("b")));
    assert_false(amqp_data_next(&at, &data));
    /* a section by its symbol */
    assert_int_equal(amqp_message_decode(S("\x00\xa3\x10"
                                           "amqp:data:binary\xa0\x01z"),
                                         &out),
                     ERR_OK);
    assert_int_equal(out.body, AMQP_DATA);
    assert_int_equal(amqp_message_decode(S(""), &out), ERR_OK);
    assert_int_equal(out.body, 0);
    static const struct span bad[] = {
        { (const uint8_t *)"\x00\x53\x74\xc1\x01\x00\x00\x53\x74\xc1\x01\x00", 12 }, /* twice */
        { (const uint8_t *)"\x00\x53\x75\xa0\x00\x00\x53\x77\x40", 9 },              /* two kinds of body */
        { (const uint8_t *)"\x00\x53\x75\xa1\x01x", 6 },                             /* Data of a string */
        { (const uint8_t *)"\x00\x53\x73\xc0\x03\x01\x52\x05", 8 },                  /* an id of type uint */
        { (const uint8_t *)"\x00\x53\x79\x40", 4 },                                  /* no section */
        { (const uint8_t *)"\x40", 1 },                                              /* not described */
        { (const uint8_t *)"\x00\x53\x74\xc1\x03\x02\xa1\x09", 8 },                  /* broken inside */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(amqp_message_decode(bad[i], &out), ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_sixteen_bytes),
        cmocka_unit_test(test_text_of_both_widths),
        cmocka_unit_test(test_compounds),
        cmocka_unit_test(test_described),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_integers_of_any_type),
        cmocka_unit_test(test_message_round_trip_and_cuts),
        cmocka_unit_test(test_sections_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
