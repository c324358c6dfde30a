/* core/trust/trust_record_test.c - key lists, thresholds, pins, and which record may follow which. */
#include "core/trust/sample_test.h"

static void seal(struct object *o, const struct trust_record *t, unsigned signers_nr, const uint8_t *signers)
{
    uint8_t body[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 };
    trust_record_encode(&w, t);
    object_begin(o, ENVELOPE_TRUST_RECORD, wr_span(&w));
    for (unsigned i = 0; i < signers_nr; i++)
        object_sign(o, signers[i]);
    object_seal(o);
}
#define SEAL(o, t, ...) seal(o, t, sizeof((uint8_t[]){ __VA_ARGS__ }), (const uint8_t[]){ __VA_ARGS__ })

static enum err decode(const struct trust_record *t, struct trust_record *out)
{
    static uint8_t body[ENVELOPE_BODY_MAX]; /* out's spans point into it */
    struct wr w = { body, sizeof body, 0 };
    trust_record_encode(&w, t);
    assert_true(wr_ok(&w));
    return trust_record_decode(wr_span(&w), &port_crypto, out);
}

static void test_every_field_comes_back(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(3), got;
    assert_int_equal(decode(&t, &got), ERR_OK);
    assert_memory_equal(got.fleet_id, t.fleet_id, FLEET_ID_LEN);
    assert_int_equal(got.version, 3);
    assert_int_equal(got.epoch, 7);
    assert_int_equal(got.created_s, t.created_s);
    assert_int_equal(got.root_threshold, 2);
    assert_int_equal(got.release_threshold, 1);
    assert_int_equal(got.root_nr, 3);
    assert_int_equal(got.release_nr, 2);
    assert_int_equal(got.director_nr, 2);
    assert_int_equal(got.min_agent, 0x0102);
    assert_memory_equal(got.root[2].pub, t.root[2].pub, ED25519_KEY_LEN);
    assert_memory_equal(got.root[2].id, t.root[2].id, KEY_ID_LEN); /* computed anew */
    assert_true(span_eq(got.release[1].product_prefix, SPAN("sensor")));
    assert_true(trust_key_revoked(&got, t.revoked[0]));
    assert_false(trust_key_revoked(&got, t.root[0].id));
    assert_true(span_eq(got.home[0].address, SPAN("hub.example:443")));
    assert_true(got.home[0].has_pin);
    assert_memory_equal(got.home[0].ca_pin, t.home[0].ca_pin, SHA256_LEN);
    assert_false(got.home[1].has_pin);
}

static void test_full_lists_and_one_more(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(1), got;
    uint8_t body[ENVELOPE_BODY_MAX];
    t.root_nr = TRUST_ROOT_MAX, t.release_nr = TRUST_RELEASE_MAX, t.director_nr = TRUST_DIRECTOR_MAX;
    t.revoked_nr = TRUST_REVOKED_MAX, t.home_nr = TRUST_HOME_MAX;
    for (uint8_t i = 0; i < TRUST_ROOT_MAX; i++)
        t.root[i] = key_of((uint8_t)(SEED_ROOT + i), SPAN_NONE);
    for (uint8_t i = 0; i < TRUST_RELEASE_MAX; i++)
        t.release[i] = key_of((uint8_t)(SEED_RELEASE + i), SPAN_NONE);
    for (uint8_t i = 0; i < TRUST_DIRECTOR_MAX; i++)
        t.director[i] = key_of((uint8_t)(SEED_DIRECTOR + i), SPAN_NONE);
    for (uint8_t i = 0; i < TRUST_REVOKED_MAX; i++)
        memset(t.revoked[i], 0xe0 + i, KEY_ID_LEN);
    for (uint8_t i = 0; i < TRUST_HOME_MAX; i++)
        t.home[i] = (struct trust_home){ .address = SPAN("h:1") };
    assert_int_equal(decode(&t, &got), ERR_OK);
    assert_int_equal(got.home_nr, TRUST_HOME_MAX);

    /* one more of each: put a fresh entry behind the full list, in order */
    static const uint8_t tags[] = { 0x10, 0x11, 0x12, 0x13, 0x20 };
    struct trust_key extra = key_of(0x77, SPAN_NONE);
    for (size_t i = 0; i < sizeof tags; i++) {
        struct wr w = { body, sizeof body, 0 }, out;
        uint8_t grown[ENVELOPE_BODY_MAX];
        trust_record_encode(&w, &t);
        out = (struct wr){ grown, sizeof grown, 0 };
        struct span rest = wr_span(&w);
        bool put = false;
        while (rest.n) {
            struct tlv f;
            assert_int_equal(tlv_next(&rest, &f), ERR_OK);
            tlv_put(&out, f.tag, f.val);
            if (!put && f.tag == tags[i] && (rest.n == 0 || rest.p[0] != tags[i])) {
                uint8_t key[34] = { SIG_ED25519, 32 };
                memcpy(key + 2, extra.pub, 32);
                if (tags[i] < 0x13)
                    tlv_put(&out, tags[i], span_of(key, sizeof key));
                else if (tags[i] == 0x13)
                    tlv_put(&out, tags[i], span_of(extra.id, KEY_ID_LEN));
                else
                    tlv_put(&out, tags[i], SPAN("\x03h:2"));
                put = true;
            }
        }
        assert_true(put);
        assert_int_equal(trust_record_decode(wr_span(&out), &port_crypto, &got), ERR_LIMIT);
    }
}

static void test_thresholds_that_cannot_be_met(void **state)
{
    (void)state;
    struct trust_record t, got;
    static const uint8_t roots[][2] = { { 0, ERR_PROTO }, { 1, ERR_OK }, { 3, ERR_OK }, { 4, ERR_PROTO } };
    for (size_t i = 0; i < 4; i++) {
        t = sample_trust(1);
        t.root_threshold = roots[i][0];
        assert_int_equal(decode(&t, &got), roots[i][1]);
    }
    t = sample_trust(1);
    t.release_threshold = 0;
    assert_int_equal(decode(&t, &got), ERR_PROTO);
    t.release_threshold = 2; /* the general key and the one for sensors: enough for sensors */
    assert_int_equal(decode(&t, &got), ERR_OK);
    t.release[0].product_prefix = SPAN("pump"); /* no product has both */
    assert_int_equal(decode(&t, &got), ERR_PROTO);
    t = sample_trust(1);
    t.root_threshold = 3; /* a revoked root no longer helps */
    memcpy(t.revoked[0], t.root[1].id, KEY_ID_LEN);
    assert_int_equal(decode(&t, &got), ERR_PROTO);
    t = sample_trust(0);
    assert_int_equal(decode(&t, &got), ERR_PROTO);
}

static void test_a_key_is_listed_once(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(1), got;
    t.root[2] = t.root[0];
    assert_int_equal(decode(&t, &got), ERR_PROTO);
    t = sample_trust(1);
    t.root[0].product_prefix = SPAN("x"); /* only release keys have one */
    assert_int_equal(decode(&t, &got), ERR_PROTO);
}

static void test_keys_of_unknown_algorithms_are_passed_over(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(1), got;
    uint8_t body[ENVELOPE_BODY_MAX], grown[ENVELOPE_BODY_MAX], pin[SHA256_LEN], pin2[SHA256_LEN];
    struct wr w = { body, sizeof body, 0 }, out = { grown, sizeof grown, 0 };
    struct tlv f;
    bool put = false;
    trust_record_encode(&w, &t);
    for (struct span rest = wr_span(&w); rest.n;) {
        assert_int_equal(tlv_next(&rest, &f), ERR_OK);
        if (!put && f.tag == 0x10) {
            tlv_put(&out, 0x10, SPAN("\x07\x03pub"));
            put = true;
        }
        tlv_put(&out, f.tag, f.val);
    }
    assert_int_equal(trust_record_decode(wr_span(&out), &port_crypto, &got), ERR_OK);
    assert_int_equal(got.root_nr, 3);
    trust_record_root_pin(&port_crypto, &t, pin);
    trust_record_root_pin(&port_crypto, &got, pin2);
    assert_memory_equal(pin, pin2, SHA256_LEN);
}

static void test_root_pin_is_of_the_set(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(1);
    uint8_t pin[SHA256_LEN], other[SHA256_LEN];
    trust_record_root_pin(&port_crypto, &t, pin);
    for (unsigned turn = 0; turn < 3; turn++) { /* the order in which they are listed does not matter */
        struct trust_key first = t.root[0];
        t.root[0] = t.root[1], t.root[1] = t.root[2], t.root[2] = first;
        trust_record_root_pin(&port_crypto, &t, other);
        assert_memory_equal(other, pin, SHA256_LEN);
    }
    t.version = 9, t.director_nr = 0; /* nor does the rest of the record */
    trust_record_root_pin(&port_crypto, &t, other);
    assert_memory_equal(other, pin, SHA256_LEN);
    t.root_threshold = 1;
    trust_record_root_pin(&port_crypto, &t, other);
    assert_memory_not_equal(other, pin, SHA256_LEN);
    t.root_threshold = 2, t.root_nr = 2;
    trust_record_root_pin(&port_crypto, &t, other);
    assert_memory_not_equal(other, pin, SHA256_LEN);
}

static void test_a_first_record_needs_its_own_roots(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(5);
    struct object o;
    SEAL(&o, &t, SEED_ROOT, SEED_ROOT + 2);
    assert_int_equal(trust_record_accept(&port_crypto, NULL, &t, &o.env), ERR_OK);
    SEAL(&o, &t, SEED_ROOT + 1);
    assert_int_equal(trust_record_accept(&port_crypto, NULL, &t, &o.env), ERR_VERIFY);
    SEAL(&o, &t, SEED_ROOT, SEED_RELEASE, SEED_DIRECTOR); /* other roles do not count */
    assert_int_equal(trust_record_accept(&port_crypto, NULL, &t, &o.env), ERR_VERIFY);
    SEAL(&o, &t, SEED_ROOT, SEED_ROOT + 1);
    memcpy(t.revoked[0], t.root[1].id, KEY_ID_LEN);
    assert_int_equal(trust_record_accept(&port_crypto, NULL, &t, &o.env), ERR_VERIFY);
}

static void test_succession(void **state)
{
    (void)state;
    struct trust_record old = sample_trust(4), next = sample_trust(5);
    struct object o;
    SEAL(&o, &next, SEED_ROOT, SEED_ROOT + 1);
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_OK);

    next.version = 6; /* one is missing between */
    SEAL(&o, &next, SEED_ROOT, SEED_ROOT + 1);
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_STALE);
    next.version = 4;
    SEAL(&o, &next, SEED_ROOT, SEED_ROOT + 1);
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_STALE);
    old.version = UINT32_MAX, next.version = 0;
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_STALE);

    old = sample_trust(4), next = sample_trust(5);
    next.epoch = 6;
    SEAL(&o, &next, SEED_ROOT, SEED_ROOT + 1);
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_STALE);
    next.epoch = 8;
    SEAL(&o, &next, SEED_ROOT, SEED_ROOT + 1);
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_OK);
    next.fleet_id[0] ^= 1;
    SEAL(&o, &next, SEED_ROOT, SEED_ROOT + 1);
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_VERIFY);
}

static void test_new_roots_need_the_old_and_themselves(void **state)
{
    (void)state;
    struct trust_record old = sample_trust(4), next = sample_trust(5);
    struct object o;
    next.root_nr = 2;
    next.root[0] = key_of(0x41, SPAN_NONE);
    next.root[1] = key_of(0x42, SPAN_NONE);
    SEAL(&o, &next, 0x41, 0x42); /* taken over */
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_VERIFY);
    SEAL(&o, &next, SEED_ROOT, SEED_ROOT + 1); /* keys that nobody has shown to hold */
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_VERIFY);
    SEAL(&o, &next, SEED_ROOT, SEED_ROOT + 1, 0x41);
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_VERIFY);
    SEAL(&o, &next, SEED_ROOT, 0x42, 0x41);
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_VERIFY);
    SEAL(&o, &next, SEED_ROOT, SEED_ROOT + 1, 0x41, 0x42);
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_OK);
}

static void test_a_revoked_root_does_not_sign_the_next(void **state)
{
    (void)state;
    struct trust_record old = sample_trust(4), next = sample_trust(5);
    struct object o;
    memcpy(old.revoked[0], old.root[0].id, KEY_ID_LEN);
    SEAL(&o, &next, SEED_ROOT, SEED_ROOT + 1);
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_VERIFY);
    SEAL(&o, &next, SEED_ROOT + 2, SEED_ROOT + 1);
    assert_int_equal(trust_record_accept(&port_crypto, &old, &next, &o.env), ERR_OK);
}

static void test_another_kind_of_object_is_no_trust_record(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(1);
    uint8_t body[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 };
    struct object o;
    trust_record_encode(&w, &t);
    object_begin(&o, ENVELOPE_RELEASE, wr_span(&w));
    object_sign(&o, SEED_ROOT);
    object_sign(&o, SEED_ROOT + 1);
    object_seal(&o);
    assert_int_equal(trust_record_accept(&port_crypto, NULL, &t, &o.env), ERR_VERIFY);
}

static void test_homes(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(1), got;
    static char longest[255];
    memset(longest, 'h', sizeof longest);
    t.home[1].address = span_of(longest, sizeof longest);
    t.home[1].has_pin = true; /* its value is then longer than 254: the long form of a length */
    assert_int_equal(decode(&t, &got), ERR_OK);
    assert_int_equal(got.home[1].address.n, 255);
    t.home[1].address = SPAN("a b:1");
    assert_int_equal(decode(&t, &got), ERR_PROTO);
    t.home[1].address = SPAN_NONE;
    assert_int_equal(decode(&t, &got), ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field_comes_back),
        cmocka_unit_test(test_full_lists_and_one_more),
        cmocka_unit_test(test_thresholds_that_cannot_be_met),
        cmocka_unit_test(test_a_key_is_listed_once),
        cmocka_unit_test(test_keys_of_unknown_algorithms_are_passed_over),
        cmocka_unit_test(test_root_pin_is_of_the_set),
        cmocka_unit_test(test_a_first_record_needs_its_own_roots),
        cmocka_unit_test(test_succession),
        cmocka_unit_test(test_new_roots_need_the_old_and_themselves),
        cmocka_unit_test(test_a_revoked_root_does_not_sign_the_next),
        cmocka_unit_test(test_another_kind_of_object_is_no_trust_record),
        cmocka_unit_test(test_homes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
