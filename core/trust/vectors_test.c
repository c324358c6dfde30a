/* core/trust/vectors_test.c - the committed test vectors: what devices in the field hold us to. Each file in
 * tests/vectors/ is one object in hexadecimal, 64 digits a line, made from the fixed seeds of sample_test.h.
 * After a deliberate change of format, run this program with ROOST_WRITE_VECTORS=1 and read the diff. */
#include "core/trust/sample_test.h"

#include "base/text.h"
#include "core/trust/bootstrap_string.h"

static void check(const char *name, struct span want)
{
    char path[128], text[3 * ENVELOPE_MAX];
    uint8_t hex[2 * ENVELOPE_MAX + 1];
    struct wr w = { hex, sizeof hex, 0 };
    size_t n = 0, got = 0;
    FILE *f;
    hex_encode(&w, want);
    assert_true(wr_ok(&w));
    snprintf(path, sizeof path, "tests/vectors/%s.hex", name);
    if (getenv("ROOST_WRITE_VECTORS")) {
        f = fopen(path, "w");
        assert_non_null(f);
        for (size_t i = 0; i < w.len; i += 64)
            fprintf(f, "%.*s\n", (int)(w.len - i < 64 ? w.len - i : 64), (const char *)hex + i);
        fclose(f);
    }
    f = fopen(path, "r");
    if (!f)
        fail_msg("%s is missing", path);
    n = fread(text, 1, sizeof text, f);
    fclose(f);
    for (size_t i = 0; i < n; i++) /* the line ends out */
        if (text[i] != '\n')
            text[got++] = text[i];
    if (got != w.len || memcmp(text, hex, got) != 0)
        fail_msg("%s differs from what is built now", path);
}

static void test_keys_and_hashes(void **state)
{
    (void)state;
    uint8_t hash[DEVICE_HASH_LEN], pin[SHA256_LEN];
    struct trust_key k = key_of(SEED_ROOT, SPAN_NONE);
    struct trust_record t = sample_trust(1);
    check("root-public-key", span_of(k.pub, sizeof k.pub));
    check("root-key-id", span_of(k.id, sizeof k.id));
    device_hash_of(&port_crypto, SPAN("d42"), hash);
    check("device-hash-d42", span_of(hash, sizeof hash));
    trust_record_root_pin(&port_crypto, &t, pin);
    check("root-pin", span_of(pin, sizeof pin));
}

static void test_trust_record(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(1);
    uint8_t body[ENVELOPE_BODY_MAX], id[OBJECT_ID_LEN];
    struct wr w = { body, sizeof body, 0 };
    struct object o;
    trust_record_encode(&w, &t);
    object_begin(&o, ENVELOPE_TRUST_RECORD, wr_span(&w));
    object_sign(&o, SEED_ROOT);
    object_sign(&o, SEED_ROOT + 1);
    object_seal(&o);
    check("trust-record", wr_span(&o.w));
    envelope_id(&port_crypto, &o.env, id);
    check("trust-record-id", span_of(id, sizeof id));
    assert_int_equal(trust_record_accept(&port_crypto, NULL, &t, &o.env), ERR_OK);
}

static void test_release(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(1);
    struct release r = sample_release();
    uint8_t body[ENVELOPE_BODY_MAX], id[OBJECT_ID_LEN];
    struct wr w = { body, sizeof body, 0 };
    struct object o;
    release_encode(&w, &r);
    object_begin(&o, ENVELOPE_RELEASE, wr_span(&w));
    object_sign(&o, SEED_RELEASE);
    object_seal(&o);
    check("release", wr_span(&o.w));
    envelope_id(&port_crypto, &o.env, id);
    check("release-id", span_of(id, sizeof id));
    assert_int_equal(release_verify(&port_crypto, &t, &r, &o.env), ERR_OK);
}

static void test_tickets(void **state)
{
    (void)state;
    struct trust_record t = sample_trust(1);
    struct ticket d = sample_ticket();
    uint8_t body[ENVELOPE_BODY_MAX];
    for (int cohort = 0; cohort < 2; cohort++) {
        struct wr w = { body, sizeof body, 0 };
        struct object o;
        d.is_cohort = cohort;
        d.has_nonce = !cohort;
        ticket_encode(&w, &d);
        object_begin(&o, ENVELOPE_TICKET, wr_span(&w));
        object_sign(&o, SEED_DIRECTOR);
        object_seal(&o);
        check(cohort ? "ticket-cohort" : "ticket", wr_span(&o.w));
        assert_int_equal(ticket_verify(&port_crypto, &t, &o.env), ERR_OK);
    }
}

static void test_report(void **state)
{
    (void)state;
    struct report r = sample_report();
    uint8_t buf[REPORT_MAX];
    struct wr w = { buf, sizeof buf, 0 };
    report_encode(&w, &r);
    check("report", wr_span(&w));
}

static void test_chunk_tree(void **state)
{
    (void)state;
    enum { LEN = 4096 * 33 + 5 }; /* 34 chunks on two pages; byte i is i mod 251 */
    static uint8_t payload[LEN], tree[2048];
    uint8_t root[SHA256_LEN];
    struct chunk_shape s;
    struct chunk_builder b;
    for (size_t i = 0; i < LEN; i++)
        payload[i] = (uint8_t)(i % 251);
    assert_int_equal(chunk_shape_of(LEN, CHUNK_CODE_DEFAULT, CHUNK_FAN_OUT_DEFAULT, &s), ERR_OK);
    chunk_builder_init(&b, &port_crypto, &s, tree);
    assert_int_equal(chunk_builder_feed(&b, span_of(payload, LEN)), ERR_OK);
    assert_int_equal(chunk_builder_finish(&b, root), ERR_OK);
    check("chunk-tree", span_of(tree, chunk_tree_len(&s)));
    check("chunk-tree-root", span_of(root, sizeof root));
}

static void test_bootstrap_string(void **state)
{
    (void)state;
    struct bootstrap_string b = { .host = SPAN("hub.example"), .port = 8443, .has_root = true };
    struct trust_record t = sample_trust(1);
    uint8_t text[BOOTSTRAP_STRING_MAX];
    struct wr w = { text, sizeof text, 0 };
    memset(b.ca_pin, 0xca, SHA256_LEN);
    trust_record_root_pin(&port_crypto, &t, b.root_pin);
    bootstrap_string_encode(&w, &b);
    check("bootstrap-string", wr_span(&w));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_and_hashes),  cmocka_unit_test(test_trust_record),
        cmocka_unit_test(test_release),          cmocka_unit_test(test_tickets),
        cmocka_unit_test(test_report),           cmocka_unit_test(test_chunk_tree),
        cmocka_unit_test(test_bootstrap_string),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
