/* core/trust/tlv_rules_test.c - the rules that the four bodies share, held for each field of each body. */
#include "core/trust/sample_test.h"

/* Decodes and, on success, writes what was understood again. */
typedef enum err again_fn(struct span body, struct wr *out);

static enum err trust_again(struct span body, struct wr *out)
{
    struct trust_record t;
    enum err e = trust_record_decode(body, &port_crypto, &t);
    if (!e)
        trust_record_encode(out, &t);
    return e;
}
static enum err release_again(struct span body, struct wr *out)
{
    struct release r;
    enum err e = release_decode(body, &r);
    if (!e)
        release_encode(out, &r);
    return e;
}
static enum err ticket_again(struct span body, struct wr *out)
{
    struct ticket t;
    enum err e = ticket_decode(body, &t);
    if (!e)
        ticket_encode(out, &t);
    return e;
}
static enum err report_again(struct span body, struct wr *out)
{
    struct report r;
    enum err e = report_decode(body, &r);
    if (!e)
        report_encode(out, &r);
    return e;
}

struct codec {
    const char *name;
    again_fn *again;
    const char *lists;  /* tags that may repeat */
    const char *texts;  /* tags whose value has no fixed length */
    const char *needed; /* tags that must be there */
};
static const struct codec codecs[] = {
    { "trust record", trust_again, "\x10\x11\x12\x13\x20", "\x11\x20", "\x01\x02\x03\x04\x05" },
    { "release", release_again, "\x10\x11", "\x01\x03", "\x01\x02\x03\x04\x05\x06" },
    { "ticket", ticket_again, "\x0d", "\x0d", "\x01\x03\x04\x05\x06\x07\x08\x09" },
    { "report", report_again, "", "\x19", "\x01\x03\x18\x19\x1a" },
};

static struct wr sample_body(const struct codec *k, uint8_t *buf, size_t cap)
{
    struct wr w = { buf, cap, 0 };
    struct trust_record t = sample_trust(3);
    struct release r = sample_release();
    struct ticket d = sample_ticket();
    struct report p = sample_report();
    if (k->again == trust_again)
        trust_record_encode(&w, &t);
    else if (k->again == release_again)
        release_encode(&w, &r);
    else if (k->again == ticket_again)
        ticket_encode(&w, &d);
    else
        report_encode(&w, &p);
    assert_true(wr_ok(&w));
    return w;
}

static bool has(const char *tags, uint8_t tag)
{
    return strchr(tags, tag) != NULL;
}

/* The pairs of a body, so that tests can rearrange them. */
struct pairs {
    struct span at[64];
    size_t nr;
};
static struct pairs split(struct span body)
{
    struct pairs p = { .nr = 0 };
    struct tlv t;
    while (body.n) {
        struct span rest = body;
        assert_int_equal(tlv_next(&rest, &t), ERR_OK);
        p.at[p.nr++] = span_of(body.p, body.n - rest.n);
        body = rest;
    }
    return p;
}
static enum err join(const struct codec *k, const struct pairs *p, struct wr *out)
{
    uint8_t buf[ENVELOPE_BODY_MAX];
    struct wr w = { buf, sizeof buf, 0 };
    for (size_t i = 0; i < p->nr; i++)
        wr_put(&w, p->at[i]);
    uint8_t *exact = malloc(w.len ? w.len : 1); /* ASan sees a read past the end */
    memcpy(exact, buf, w.len);
    enum err e = k->again(span_of(exact, w.len), out);
    free(exact);
    return e;
}

static void test_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        uint8_t a[ENVELOPE_BODY_MAX], b[ENVELOPE_BODY_MAX];
        struct wr body = sample_body(&codecs[i], a, sizeof a), out = { b, sizeof b, 0 };
        assert_int_equal(codecs[i].again(wr_span(&body), &out), ERR_OK);
        assert_int_equal(out.len, body.len);
        assert_memory_equal(a, b, out.len);
        assert_true(body.len <= ENVELOPE_BODY_MAX_MCU);
    }
}

/* A cut body is either refused or, where only optional fields went, exactly what is left. */
static void test_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        uint8_t a[ENVELOPE_BODY_MAX], b[ENVELOPE_BODY_MAX];
        struct wr body = sample_body(&codecs[i], a, sizeof a);
        for (size_t n = 0; n < body.len; n++) {
            struct wr out = { b, sizeof b, 0 };
            uint8_t *cut = malloc(n ? n : 1);
            memcpy(cut, a, n);
            enum err e = codecs[i].again(span_of(cut, n), &out);
            if (e == ERR_OK)
                assert_memory_equal(cut, b, n);
            else
                assert_int_equal(e, ERR_PROTO);
            free(cut);
        }
    }
}

static void test_order_and_repetition(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        const struct codec *k = &codecs[i];
        uint8_t a[ENVELOPE_BODY_MAX], b[ENVELOPE_BODY_MAX];
        struct wr body = sample_body(k, a, sizeof a);
        struct pairs p = split(wr_span(&body));
        for (size_t at = 0; at < p.nr; at++) {
            struct wr out = { b, sizeof b, 0 };
            struct pairs q = p;
            uint8_t tag = p.at[at].p[0];
            if (at + 1 < p.nr && p.at[at + 1].p[0] != tag) { /* swapped with its neighbour */
                q.at[at] = p.at[at + 1];
                q.at[at + 1] = p.at[at];
                assert_int_equal(join(k, &q, &out), ERR_PROTO);
            }
            q = p; /* there twice */
            memmove(q.at + at + 1, q.at + at, (p.nr - at) * sizeof *q.at);
            q.nr++;
            enum err e = join(k, &q, &out);
            if (!has(k->lists, tag))
                assert_int_equal(e, ERR_PROTO);
            q = p; /* left out */
            memmove(q.at + at, q.at + at + 1, (p.nr - at - 1) * sizeof *q.at);
            q.nr--;
            e = join(k, &q, &out);
            if (has(k->needed, tag))
                assert_int_equal(e, ERR_PROTO);
        }
    }
}

static void test_unknown_tags(void **state)
{
    (void)state;
    static const uint8_t harmless[] = { 0x7f, 2, 'h', 'i' }, critical[] = { 0x80, 0 };
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        const struct codec *k = &codecs[i];
        uint8_t a[ENVELOPE_BODY_MAX], b[ENVELOPE_BODY_MAX];
        struct wr body = sample_body(k, a, sizeof a), out = { b, sizeof b, 0 };
        struct pairs p = split(wr_span(&body));
        p.at[p.nr++] = span_of(harmless, sizeof harmless);
        p.at[p.nr++] = span_of(harmless, sizeof harmless); /* it may well be a list */
        assert_int_equal(join(k, &p, &out), ERR_OK);
        assert_int_equal(out.len, body.len); /* and is not made up when written again */
        assert_memory_equal(a, b, out.len);
        p.at[p.nr++] = span_of(critical, sizeof critical);
        assert_int_equal(join(k, &p, &out), ERR_PROTO);
    }
}

/* A byte too many or too few in a field of fixed length is another format: it takes another tag. */
static void test_field_lengths(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        const struct codec *k = &codecs[i];
        uint8_t a[ENVELOPE_BODY_MAX], b[ENVELOPE_BODY_MAX], changed[300];
        struct wr body = sample_body(k, a, sizeof a);
        struct pairs p = split(wr_span(&body));
        for (size_t at = 0; at < p.nr; at++) {
            struct span was = p.at[at];
            struct wr out = { b, sizeof b, 0 };
            if (has(k->texts, was.p[0]))
                continue;
            memcpy(changed, was.p, was.n);
            changed[1]--;
            p.at[at] = span_of(changed, was.n - 1);
            assert_int_equal(join(k, &p, &out), ERR_PROTO);
            changed[1] = (uint8_t)(was.p[1] + 1);
            changed[was.n] = 0;
            p.at[at] = span_of(changed, was.n + 1);
            assert_int_equal(join(k, &p, &out), ERR_PROTO);
            changed[1] = 0;
            p.at[at] = span_of(changed, 2);
            assert_int_equal(join(k, &p, &out), ERR_PROTO);
            p.at[at] = was;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),           cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_order_and_repetition), cmocka_unit_test(test_unknown_tags),
        cmocka_unit_test(test_field_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
