/* core/trust/envelope_test.c - envelope and TLV lists: round trips, cuts, limits, who counts as a signer. */
#include "core/trust/sample_test.h"

static const uint8_t body_bytes[] = "\x01\x03one\x02\x03two";
static const struct span body = { body_bytes, sizeof body_bytes - 1 };

static void signed_by(struct object *o, unsigned nr)
{
    object_begin(o, ENVELOPE_RELEASE, body);
    for (unsigned i = 0; i < nr; i++)
        object_sign(o, (uint8_t)(1 + i));
    object_seal(o);
}

static void test_round_trip_with_one_to_four_signatures(void **state)
{
    (void)state;
    uint8_t first[OBJECT_ID_LEN], id[OBJECT_ID_LEN];
    for (unsigned nr = 1; nr <= ENVELOPE_SIG_MAX; nr++) {
        struct object o;
        struct trust_key keys[ENVELOPE_SIG_MAX];
        signed_by(&o, nr);
        assert_int_equal(o.env.kind, ENVELOPE_RELEASE);
        assert_int_equal(o.env.sig_nr, nr);
        assert_true(span_eq(o.env.body, body));
        assert_true(span_eq(o.env.raw, wr_span(&o.w)));
        for (unsigned i = 0; i < ENVELOPE_SIG_MAX; i++)
            keys[i] = key_of((uint8_t)(1 + i), SPAN_NONE);
        assert_int_equal(envelope_count_valid(&o.env, &port_crypto, keys, ENVELOPE_SIG_MAX), nr);
        /* adding a signature does not make another object */
        envelope_id(&port_crypto, &o.env, nr == 1 ? first : id);
        if (nr > 1)
            assert_memory_equal(id, first, OBJECT_ID_LEN);
    }
}

static void test_every_cut_waits_for_the_rest(void **state)
{
    (void)state;
    struct object o;
    signed_by(&o, 2);
    for (size_t n = 0; n <= o.w.len; n++) {
        struct envelope env;
        size_t used = 0;
        uint8_t *cut = malloc(n + 1); /* its own block: reading past the end is seen by ASan */
        memcpy(cut, o.buf, n);
        cut = realloc(cut, n ? n : 1);
        enum err e = envelope_decode(span_of(cut, n), ENVELOPE_BODY_MAX, &env, &used);
        assert_int_equal(e, n < o.w.len ? ERR_AGAIN : ERR_OK);
        assert_int_equal(used, e ? 0 : n);
        free(cut);
    }
}

static void test_objects_follow_one_another(void **state)
{
    (void)state;
    struct object a, b;
    uint8_t both[2 * ENVELOPE_MAX];
    struct wr w = { both, sizeof both, 0 };
    struct envelope env;
    size_t used;
    signed_by(&a, 1);
    signed_by(&b, 3);
    wr_put(&w, wr_span(&a.w));
    wr_put(&w, wr_span(&b.w));
    assert_int_equal(envelope_decode(wr_span(&w), ENVELOPE_BODY_MAX, &env, &used), ERR_OK);
    assert_int_equal(used, a.w.len);
    assert_int_equal(envelope_decode(span_skip(wr_span(&w), used), ENVELOPE_BODY_MAX, &env, &used), ERR_OK);
    assert_int_equal(used, b.w.len);
    assert_int_equal(env.sig_nr, 3);
}

static void test_no_flipped_bit_keeps_the_signature(void **state)
{
    (void)state;
    struct object o;
    struct trust_key key = key_of(1, SPAN_NONE);
    signed_by(&o, 1);
    for (size_t bit = 0; bit < o.w.len * 8; bit++) {
        struct envelope env;
        size_t used;
        o.buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (envelope_decode(wr_span(&o.w), ENVELOPE_BODY_MAX, &env, &used) == ERR_OK)
            assert_int_equal(envelope_count_valid(&env, &port_crypto, &key, 1), 0);
        o.buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(envelope_count_valid(&o.env, &port_crypto, &key, 1), 1);
}

static enum err decode_changed(struct object *o, size_t at, uint8_t to)
{
    struct envelope env;
    size_t used;
    uint8_t was = o->buf[at];
    o->buf[at] = to;
    enum err e = envelope_decode(wr_span(&o->w), ENVELOPE_BODY_MAX, &env, &used);
    o->buf[at] = was;
    return e;
}

static void test_a_wrong_head_is_refused(void **state)
{
    (void)state;
    struct object o;
    signed_by(&o, 1);
    assert_int_equal(decode_changed(&o, 0, 'X'), ERR_PROTO);
    assert_int_equal(decode_changed(&o, 3, '2'), ERR_PROTO);
    assert_int_equal(decode_changed(&o, 6, 2), ERR_PROTO);
    assert_int_equal(decode_changed(&o, 6, 0), ERR_PROTO);
    assert_int_equal(decode_changed(&o, 7, 0), ERR_PROTO);
    assert_int_equal(decode_changed(&o, 7, 5), ERR_PROTO);
    assert_int_equal(decode_changed(&o, 4, 0), ERR_PROTO); /* an empty body says nothing */
    assert_int_equal(decode_changed(&o, 8 + body.n + 9, 63), ERR_PROTO);
}

static void test_body_limits(void **state)
{
    (void)state;
    static uint8_t big[ENVELOPE_BODY_MAX];
    static struct object o;
    struct envelope env;
    size_t used;
    object_begin(&o, ENVELOPE_TICKET, span_of(big, sizeof big));
    object_sign(&o, 1);
    object_seal(&o);
    assert_int_equal(o.env.body.n, ENVELOPE_BODY_MAX);
    /* known from the head alone */
    assert_int_equal(envelope_decode(span_of(o.buf, 8), ENVELOPE_BODY_MAX_MCU, &env, &used), ERR_LIMIT);
    assert_int_equal(envelope_decode(span_of(o.buf, 8), ENVELOPE_BODY_MAX, &env, &used), ERR_AGAIN);
    o.buf[4] = (uint8_t)(ENVELOPE_BODY_MAX + 1);
    o.buf[5] = (uint8_t)((ENVELOPE_BODY_MAX + 1) >> 8);
    assert_int_equal(envelope_decode(wr_span(&o.w), SIZE_MAX, &env, &used), ERR_LIMIT);
}

static void test_signing_has_limits(void **state)
{
    (void)state;
    struct object o;
    struct envelope env;
    size_t used;
    object_begin(&o, ENVELOPE_RELEASE, body);
    assert_int_equal(envelope_decode(wr_span(&o.w), ENVELOPE_BODY_MAX, &env, &used), ERR_PROTO);
    assert_int_equal(envelope_decode_draft(wr_span(&o.w), ENVELOPE_BODY_MAX, &env, &used), ERR_OK);
    assert_int_equal(env.sig_nr, 0);
    for (uint8_t i = 1; i <= ENVELOPE_SIG_MAX; i++) {
        object_sign(&o, i);
        assert_int_equal(envelope_sign(&o.w, &port_crypto, seed_of(1)),
                         i < ENVELOPE_SIG_MAX ? ERR_EXISTS : ERR_LIMIT);
    }
    assert_int_equal(envelope_sign(&o.w, &port_crypto, seed_of(9)), ERR_LIMIT);

    object_begin(&o, ENVELOPE_RELEASE, body);
    o.w.cap = o.w.len + 10 + ED25519_SIG_LEN - 1;
    assert_int_equal(envelope_sign(&o.w, &port_crypto, seed_of(1)), ERR_LIMIT);
    o.w.cap++;
    assert_int_equal(envelope_sign(&o.w, &port_crypto, seed_of(1)), ERR_OK);
    wr_u8(&o.w, 0); /* past the end: overflowed */
    assert_int_equal(envelope_sign(&o.w, &port_crypto, seed_of(2)), ERR_LIMIT);
    o.w.cap = sizeof o.buf;
    assert_int_equal(envelope_sign(&o.w, &port_crypto, seed_of(2)), ERR_PROTO);
}

static void test_two_signatures_of_one_key_are_refused(void **state)
{
    (void)state;
    struct object o;
    struct envelope env;
    size_t used;
    signed_by(&o, 1);
    struct span sig = span_of(o.buf + 8 + body.n, 10 + ED25519_SIG_LEN);
    wr_put(&o.w, sig);
    o.buf[7] = 2;
    assert_int_equal(envelope_decode(wr_span(&o.w), ENVELOPE_BODY_MAX, &env, &used), ERR_PROTO);
}

static void test_unknown_algorithms_are_kept_and_never_count(void **state)
{
    (void)state;
    struct object o;
    struct trust_key keys[2] = { key_of(1, SPAN_NONE), key_of(1, SPAN_NONE) };
    signed_by(&o, 1);
    wr_u8(&o.w, 9); /* some algorithm of the future, under the same key id, with three bytes */
    wr_put(&o.w, span_of(keys[0].id, KEY_ID_LEN));
    wr_u8(&o.w, 3);
    wr_put(&o.w, SPAN("abc"));
    o.buf[7] = 2;
    object_seal(&o);
    assert_int_equal(o.env.sig_nr, 2);
    assert_int_equal(envelope_count_valid(&o.env, &port_crypto, keys, 2), 1); /* one key, listed twice */
    keys[0].alg = 9;
    assert_int_equal(envelope_count_valid(&o.env, &port_crypto, keys, 1), 0);
}

static void test_another_kind_is_another_object(void **state)
{
    (void)state;
    struct object a, b;
    struct trust_key key = key_of(1, SPAN_NONE);
    struct envelope env;
    size_t used;
    object_begin(&a, ENVELOPE_RELEASE, body);
    object_sign(&a, 1);
    object_begin(&b, ENVELOPE_TICKET, body);
    object_sign(&b, 1);
    memcpy(a.buf, b.buf, 4); /* the magic alone */
    assert_int_equal(envelope_decode(wr_span(&a.w), ENVELOPE_BODY_MAX, &env, &used), ERR_OK);
    assert_int_equal(envelope_count_valid(&env, &port_crypto, &key, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_with_one_to_four_signatures),
        cmocka_unit_test(test_every_cut_waits_for_the_rest),
        cmocka_unit_test(test_objects_follow_one_another),
        cmocka_unit_test(test_no_flipped_bit_keeps_the_signature),
        cmocka_unit_test(test_a_wrong_head_is_refused),
        cmocka_unit_test(test_body_limits),
        cmocka_unit_test(test_signing_has_limits),
        cmocka_unit_test(test_two_signatures_of_one_key_are_refused),
        cmocka_unit_test(test_unknown_algorithms_are_kept_and_never_count),
        cmocka_unit_test(test_another_kind_is_another_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
