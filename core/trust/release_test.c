/* core/trust/release_test.c - release manifests: what a set must hold together, and who may sign it. */
#include "core/trust/sample_test.h"

static enum err decode(const struct release *r, struct release *out)
{
    static uint8_t body[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 };
    release_encode(&w, r);
    assert_true(wr_ok(&w));
    return release_decode(wr_span(&w), out);
}

static void test_every_field_comes_back(void **state)
{
    (void)state;
    struct release r = sample_release(), got;
    assert_int_equal(decode(&r, &got), ERR_OK);
    assert_true(span_eq(got.product, r.product));
    assert_true(span_eq(got.version, r.version));
    assert_int_equal(got.hw_class, 8266);
    assert_int_equal(got.hw_rev_min, 1);
    assert_int_equal(got.hw_rev_max, 3);
    assert_int_equal(got.release_seq, 42);
    assert_int_equal(got.security_counter, 3);
    assert_int_equal(got.flags, r.flags);
    assert_int_equal(got.min_agent, r.min_agent);
    assert_int_equal(got.min_bootloader, r.min_bootloader);
    assert_int_equal(got.min_free_flash_kib, r.min_free_flash_kib);
    assert_int_equal(got.min_heap_block_b, r.min_heap_block_b);
    assert_int_equal(got.min_battery_pct, r.min_battery_pct);
    assert_int_equal(got.component_nr, 2);
    assert_int_equal(got.encoding_nr, 3);
    assert_int_equal(got.component[1].id, 2);
    assert_int_equal(got.component[1].type, COMPONENT_FS);
    assert_int_equal(got.component[1].image_len, 5000);
    assert_int_equal(got.component[1].target, 1);
    assert_int_equal(got.component[1].order, 1);
    assert_memory_equal(got.component[1].image_sha256, r.component[1].image_sha256, SHA256_LEN);
    assert_int_equal(got.encoding[1].method, ENCODING_PATCH);
    assert_memory_equal(got.encoding[1].base_sha256, r.encoding[1].base_sha256, SHA256_LEN);
    assert_memory_equal(got.encoding[1].tree_root, r.encoding[1].tree_root, SHA256_LEN);
    assert_int_equal(got.probation_s, 90);
    assert_int_equal(got.confirm_checks, CONFIRM_NET | CONFIRM_HUB);
    assert_int_equal(got.dependency_seq, 9);
    assert_memory_equal(got.provenance, r.provenance, SHA256_LEN);
}

static void test_a_small_release_is_small(void **state)
{
    (void)state;
    struct release r = sample_release(), got;
    uint8_t body[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 };
    r.component_nr = r.encoding_nr = 1;
    r.has_dependency = r.has_provenance = false;
    r.min_agent = r.min_bootloader = r.min_free_flash_kib = r.min_heap_block_b = r.min_battery_pct = 0;
    release_encode(&w, &r);
    assert_true(w.len < 200);
    assert_int_equal(release_decode(wr_span(&w), &got), ERR_OK);
    assert_int_equal(got.min_agent, 0);
}

static void test_sets_that_do_not_hold_together(void **state)
{
    (void)state;
    struct release r = sample_release(), got;
    r.encoding_nr = 2; /* component 2 cannot be had */
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.encoding[2].component = 9; /* an encoding of nothing */
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.component[1].id = 1;
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.encoding[0].payload_len--; /* raw bytes are the image */
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.encoding[1].has_base = false; /* a patch of nothing */
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.encoding[0].has_base = true;
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.component_nr = r.encoding_nr = 0;
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.chunk_code = 21;
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.fan_out = 65;
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.component[0].image_len = r.encoding[0].payload_len = 0;
    assert_int_equal(decode(&r, &got), ERR_PROTO);
}

static void test_field_values(void **state)
{
    (void)state;
    struct release r = sample_release(), got;
    r.product = SPAN("abcdefghijklmnopqrstuvwx");
    r.version = SPAN("1.0.0-abcdefghijklmnopqr");
    assert_int_equal(decode(&r, &got), ERR_OK);
    r.product = SPAN("abcdefghijklmnopqrstuvwxy");
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r.product = SPAN("../etc");
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r.product = SPAN_NONE;
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.version = SPAN("1 0");
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.hw_rev_min = 4;
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.release_seq = 0;
    assert_int_equal(decode(&r, &got), ERR_PROTO);
    r = sample_release();
    r.flags = 0x20; /* what it means is not known here */
    assert_int_equal(decode(&r, &got), ERR_PROTO);
}

static void test_full_lists_and_one_more(void **state)
{
    (void)state;
    struct release r = sample_release(), got;
    uint8_t body[ENVELOPE_BODY_MAX], grown[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 };
    r.component_nr = RELEASE_COMPONENT_MAX, r.encoding_nr = RELEASE_ENCODING_MAX;
    for (uint8_t i = 0; i < RELEASE_COMPONENT_MAX; i++)
        r.component[i] = r.component[0], r.component[i].id = i;
    for (uint8_t i = 0; i < RELEASE_ENCODING_MAX; i++)
        r.encoding[i] = r.encoding[0], r.encoding[i].component = i % RELEASE_COMPONENT_MAX;
    release_encode(&w, &r);
    assert_int_equal(release_decode(wr_span(&w), &got), ERR_OK);
    for (uint8_t tag = 0x10; tag <= 0x11; tag++) {
        struct wr out = { grown, sizeof grown, 0 };
        struct tlv f, again = { 0 };
        for (struct span rest = wr_span(&w); rest.n;) {
            assert_int_equal(tlv_next(&rest, &f), ERR_OK);
            tlv_put(&out, f.tag, f.val);
            if (f.tag == tag && !again.tag) {
                uint8_t other[128];
                again = f;
                memcpy(other, f.val.p, f.val.n);
                if (tag == 0x10)
                    other[0] = 99; /* another id: only the number of entries is too large */
                tlv_put(&out, tag, span_of(other, f.val.n));
            }
        }
        assert_int_equal(release_decode(wr_span(&out), &got), ERR_LIMIT);
    }
}

static void seal(struct object *o, const struct release *r, enum envelope_kind kind, const char *signers)
{
    uint8_t body[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 };
    release_encode(&w, r);
    object_begin(o, kind, wr_span(&w));
    for (; *signers; signers++)
        object_sign(o, (uint8_t)*signers);
    object_seal(o);
}

static void test_who_may_sign(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(1);
    struct release r = sample_release();
    struct object o;
    seal(&o, &r, ENVELOPE_RELEASE, "\x21");
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_OK);
    seal(&o, &r, ENVELOPE_RELEASE, "\x22");
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_OK);
    seal(&o, &r, ENVELOPE_RELEASE, "\x11\x31\x44"); /* root, director, stranger */
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_VERIFY);
    seal(&o, &r, ENVELOPE_TICKET, "\x21");
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_VERIFY);

    t.release_threshold = 2;
    seal(&o, &r, ENVELOPE_RELEASE, "\x21");
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_VERIFY);
    seal(&o, &r, ENVELOPE_RELEASE, "\x21\x22");
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_OK);
    memcpy(t.revoked[0], t.release[0].id, KEY_ID_LEN);
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_VERIFY);
    t.release_threshold = 1;
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_OK);
    seal(&o, &r, ENVELOPE_RELEASE, "\x21");
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_VERIFY);
}

static void test_a_product_prefix_limits_a_key(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(1);
    struct release r = sample_release();
    struct object o;
    r.product = SPAN("pump");
    seal(&o, &r, ENVELOPE_RELEASE, "\x22");
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_VERIFY);
    seal(&o, &r, ENVELOPE_RELEASE, "\x21");
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_OK);
    r.product = SPAN("senso"); /* shorter than the prefix */
    seal(&o, &r, ENVELOPE_RELEASE, "\x22");
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_VERIFY);
    r.product = SPAN("sensor");
    seal(&o, &r, ENVELOPE_RELEASE, "\x22");
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field_comes_back),
        cmocka_unit_test(test_a_small_release_is_small),
        cmocka_unit_test(test_sets_that_do_not_hold_together),
        cmocka_unit_test(test_field_values),
        cmocka_unit_test(test_full_lists_and_one_more),
        cmocka_unit_test(test_who_may_sign),
        cmocka_unit_test(test_a_product_prefix_limits_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
