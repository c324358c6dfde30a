/* core/trust/ticket_test.c - tickets: addressee, values, signer. */
#include "core/trust/sample_test.h"

static enum err decode(const struct ticket *t, struct ticket *out)
{
    static uint8_t body[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 };
    ticket_encode(&w, t);
    assert_true(wr_ok(&w));
    return ticket_decode(wr_span(&w), out);
}

static void test_every_field_comes_back(void **state)
{
    (void)state;
    struct ticket t = sample_ticket(), got;
    assert_int_equal(decode(&t, &got), ERR_OK);
    assert_false(got.is_cohort);
    assert_memory_equal(got.device_hash, t.device_hash, DEVICE_HASH_LEN);
    assert_memory_equal(got.campaign, t.campaign, CAMPAIGN_ID_LEN);
    assert_memory_equal(got.release_id, t.release_id, OBJECT_ID_LEN);
    assert_memory_equal(got.nonce, t.nonce, sizeof t.nonce);
    assert_int_equal(got.attempt, 1);
    assert_int_equal(got.ticket_seq, 77);
    assert_int_equal(got.action, TICKET_INSTALL);
    assert_int_equal(got.issued_s, t.issued_s);
    assert_int_equal(got.ttl_s, 3600);
    assert_int_equal(got.window_start_s, 60);
    assert_int_equal(got.window_len_s, 7200);
    assert_int_equal(got.deferrals, 2);
    assert_int_equal(got.rate_cap_bps, 100000);
    assert_int_equal(got.url_nr, 2);
    assert_true(span_eq(got.url[1], t.url[1]));
}

static void test_exactly_one_addressee(void **state)
{
    (void)state;
    struct ticket t = sample_ticket(), got;
    uint8_t body[ENVELOPE_BODY_MAX], both[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 }, b = { both, sizeof both, 0 };
    t.is_cohort = true; /* a nonce is of one device */
    assert_int_equal(decode(&t, &got), ERR_PROTO);
    t.has_nonce = false;
    assert_int_equal(decode(&t, &got), ERR_OK);
    assert_true(got.is_cohort);
    ticket_encode(&w, &t);
    tlv_put(&b, 0x01, span_of(t.device_hash, DEVICE_HASH_LEN));
    wr_put(&b, wr_span(&w));
    assert_int_equal(ticket_decode(wr_span(&b), &got), ERR_PROTO);
    assert_int_equal(ticket_decode(span_skip(wr_span(&w), 2 + DEVICE_HASH_LEN), &got), ERR_PROTO);
}

static void test_values(void **state)
{
    (void)state;
    struct ticket t = sample_ticket(), got;
    static char url[256];
    memset(url, 'u', sizeof url);
    for (unsigned action = 0; action < 256; action++) {
        t.action = (uint8_t)action;
        assert_int_equal(decode(&t, &got), action >= 1 && action <= TICKET_NO_OP ? ERR_OK : ERR_PROTO);
    }
    t = sample_ticket();
    t.url_nr = TICKET_URL_MAX;
    for (unsigned i = 0; i < TICKET_URL_MAX; i++)
        t.url[i] = span_of(url, 255);
    assert_int_equal(decode(&t, &got), ERR_OK);
    t.url[2] = span_of(url, 256);
    assert_int_equal(decode(&t, &got), ERR_PROTO);
    t.url[2] = SPAN("ftp://a b");
    assert_int_equal(decode(&t, &got), ERR_PROTO);
}

static void test_one_url_too_many(void **state)
{
    (void)state;
    struct ticket t = sample_ticket(), got;
    uint8_t body[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 };
    t.rate_cap_bps = 0;
    ticket_encode(&w, &t); /* ends with its two addresses */
    tlv_put(&w, 0x0d, SPAN("ftp://m"));
    assert_int_equal(ticket_decode(wr_span(&w), &got), ERR_OK);
    tlv_put(&w, 0x0d, SPAN("ftp://m"));
    assert_int_equal(ticket_decode(wr_span(&w), &got), ERR_LIMIT);
}

static void seal(struct object *o, enum envelope_kind kind, uint8_t signer)
{
    struct ticket t = sample_ticket();
    uint8_t body[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 };
    ticket_encode(&w, &t);
    object_begin(o, kind, wr_span(&w));
    object_sign(o, signer);
    object_seal(o);
}

static void test_who_may_sign(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(1);
    struct object o;
    for (uint8_t i = 0; i < 3; i++) {
        seal(&o, ENVELOPE_TICKET, (uint8_t)(SEED_DIRECTOR + i));
        assert_int_equal(ticket_verify(&port_crypto, &t, &o.env), i < 2 ? ERR_OK : ERR_VERIFY);
    }
    seal(&o, ENVELOPE_TICKET, SEED_ROOT);
    assert_int_equal(ticket_verify(&port_crypto, &t, &o.env), ERR_VERIFY);
    seal(&o, ENVELOPE_TICKET, SEED_RELEASE);
    assert_int_equal(ticket_verify(&port_crypto, &t, &o.env), ERR_VERIFY);
    seal(&o, ENVELOPE_RELEASE, SEED_DIRECTOR);
    assert_int_equal(ticket_verify(&port_crypto, &t, &o.env), ERR_VERIFY);
    seal(&o, ENVELOPE_TICKET, SEED_DIRECTOR);
    memcpy(t.revoked[0], t.director[0].id, KEY_ID_LEN);
    assert_int_equal(ticket_verify(&port_crypto, &t, &o.env), ERR_VERIFY);
    t.director_nr = 0;
    assert_int_equal(ticket_verify(&port_crypto, &t, &o.env), ERR_VERIFY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field_comes_back),
        cmocka_unit_test(test_exactly_one_addressee),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_one_url_too_many),
        cmocka_unit_test(test_who_may_sign),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
