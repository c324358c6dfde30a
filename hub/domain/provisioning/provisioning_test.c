/* hub/domain/provisioning/provisioning_test.c - first contact: every policy, asked again, asked by another,
 * asked wrongly; on the real store. */
#include "tests/fake/hub_fixture.h"

#include "hub/domain/identity/identity.h"
#include "hub/domain/provisioning/provisioning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;
static struct arena arena;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    fx.hub.settings.bootstrap_open = true;
    arena_init(&arena, 1u << 20);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    arena_fini(&arena);
    fixture_fini(&fx);
    return 0;
}

/* ---- asking ---------------------------------------------------------------------------------------- */

static struct bootstrap_answer answer;

static enum err run_ask(struct store_tx *tx, void *ctx)
{
    return provisioning_decide(&fx.hub, tx, &arena, ctx, &answer);
}
static enum bootstrap_verdict ask(const char *id, const char *key, const char *token, const char *sas)
{
    struct bootstrap_ask a = { .id = span_str(id),
                               .hw = { SPAN("widget"), 7, 1 },
                               .public_key = key ? span_of(key, 32) : SPAN_NONE,
                               .token = span_str(token),
                               .authorization = span_str(sas),
                               .source = SPAN("192.0.2.1") };
    assert_int_equal(fixture_tx(&fx, run_ask, &a), ERR_OK);
    if (answer.changed)
        identity_announce(&fx.hub, answer.device.id);
    return answer.verdict;
}
static void assert_code(const char *code)
{
    assert_non_null(answer.code);
    assert_string_equal(answer.code, code);
    assert_true(answer.message && *answer.message);
}

static struct fleet_token made;
static enum err run_token(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return fleet_token_create(&fx.hub, tx, &arena, &made);
}
static const char *token(const char *name, uint64_t uses, uint64_t expires_ms, const char *hardware)
{
    made = (struct fleet_token){
        .name = span_str(name), .uses = uses, .expires_ms = expires_ms, .hardware = span_str(hardware)
    };
    assert_int_equal(fixture_tx(&fx, run_token, NULL), ERR_OK);
    return (const char *)made.text.p;
}

static struct device_row approved;
static enum err run_approve(struct store_tx *tx, void *ctx)
{
    return identity_approve(&fx.hub, tx, &arena, span_str(ctx), &approved);
}
static enum err run_disable(struct store_tx *tx, void *ctx)
{
    return identity_set_status(&fx.hub, tx, &arena, span_str(ctx), DEVICE_DISABLED, &approved);
}
static enum err run_used(struct store_tx *tx, void *ctx)
{
    struct device_row r;
    enum err e = identity_get(tx, &arena, span_str(ctx), &r);
    return e ? e : identity_used(tx, &arena, &r);
}

struct audit_count {
    const char *what;
    unsigned nr;
    char last[512];
};
static enum err count_audit(void *ctx, const struct audit_row *r)
{
    struct audit_count *c = ctx;
    if (span_eq(r->what, span_str(c->what))) {
        c->nr++;
        snprintf(c->last, sizeof c->last, "%.*s|%.*s|%.*s", (int)r->who.n, (const char *)r->who.p,
                 (int)r->subject.n, (const char *)r->subject.p, (int)r->detail.n, (const char *)r->detail.p);
    }
    return ERR_OK;
}
static enum err run_audit(struct store_tx *tx, void *ctx)
{
    return tx_audit_list(tx, 0, 10000, count_audit, ctx);
}
static struct audit_count audit(const char *what)
{
    struct audit_count c = { .what = what };
    assert_int_equal(fixture_tx(&fx, run_audit, &c), ERR_OK);
    return c;
}

static const char key_a[33] = "public-key-a-public-key-a-public";
static const char key_b[33] = "public-key-b-public-key-b-public";

static const char *sas_of(const char *id, struct span key, int64_t ttl_s)
{
    static char buf[SAS_TOKEN_MAX + 1];
    char resource[200];
    uint8_t raw[32];
    assert_int_equal(key.n, 32);
    memcpy(raw, key.p, 32);
    snprintf(resource, sizeof resource, "hub.example.net/devices/%s", id);
    struct span s = fixture_token(buf, resource, raw, ttl_s, "");
    buf[s.n] = 0;
    return buf;
}

/* ---- tests ----------------------------------------------------------------------------------------- */

static void test_token_lets_in_and_is_idempotent(void **state)
{
    uint8_t key[32];
    const char *t = token("line", UINT64_MAX, 0, "");
    (void)state;
    assert_int_equal(ask("d1", NULL, t, ""), BOOTSTRAP_ASSIGNED);
    assert_true(span_eq(answer.device.id, SPAN("d1")));
    assert_int_equal(answer.device.key1.n, 32);
    memcpy(key, answer.device.key1.p, 32);
    assert_int_equal(ask("d1", NULL, t, ""), BOOTSTRAP_ASSIGNED); /* the answer was lost */
    assert_memory_equal(answer.device.key1.p, key, 32);
    assert_int_equal(ask("d1", NULL, "", ""), BOOTSTRAP_PENDING); /* repeating needs the same proof */
    const char *other = token("other", UINT64_MAX, 0, "");
    assert_int_equal(ask("d1", NULL, other, ""), BOOTSTRAP_PENDING);
    assert_int_equal(audit("bootstrap.assigned").nr, 2);
    assert_int_equal(audit("bootstrap.claim").nr, 1); /* the first, not each */
}

static void test_used_key_needs_the_key_or_an_approval(void **state)
{
    uint8_t key[32];
    const char *t = token("line", UINT64_MAX, 0, "");
    (void)state;
    assert_int_equal(ask("d1", NULL, t, ""), BOOTSTRAP_ASSIGNED);
    memcpy(key, answer.device.key1.p, 32);
    assert_int_equal(fixture_tx(&fx, run_used, "d1"), ERR_OK);
    assert_int_equal(ask("d1", NULL, t, ""), BOOTSTRAP_PENDING); /* a fleet token is not this device */
    assert_int_equal(ask("d1", NULL, "", sas_of("d1", span_of(key, 32), 60)), BOOTSTRAP_ASSIGNED);
    assert_memory_equal(answer.device.key1.p, key, 32);
    assert_int_equal(ask("d1", NULL, "", sas_of("d1", span_of(key, 32), -3600)), BOOTSTRAP_PENDING);
    assert_int_equal(ask("d1", NULL, "", sas_of("d2", span_of(key, 32), 60)), BOOTSTRAP_PENDING);
    key[0] ^= 1;
    assert_int_equal(ask("d1", NULL, "", sas_of("d1", span_of(key, 32), 60)), BOOTSTRAP_PENDING);
    key[0] ^= 1;
    assert_int_equal(fixture_tx(&fx, run_approve, "d1"), ERR_OK);
    access_forget(fx.hub.access, SPAN("d1"));
    assert_int_equal(ask("d1", NULL, t, ""), BOOTSTRAP_ASSIGNED); /* once more */
    assert_memory_equal(answer.device.key1.p, key, 32);
}

static void test_open_policy_waits_for_approval(void **state)
{
    (void)state;
    assert_int_equal(ask("d1", NULL, "", ""), BOOTSTRAP_PENDING);
    assert_int_equal(ask("d1", NULL, "", ""), BOOTSTRAP_PENDING);
    assert_int_equal(audit("bootstrap.pending").nr, 1);
    assert_int_equal(fixture_tx(&fx, run_approve, "d1"), ERR_OK);
    assert_int_equal(approved.status, DEVICE_ENABLED);
    assert_int_equal(approved.key1.n, 32);
    assert_int_equal(fixture_tx(&fx, run_approve, "d1"), ERR_STALE); /* twice changes nothing */
    assert_int_equal(ask("d1", NULL, "", ""), BOOTSTRAP_ASSIGNED);
    assert_true(span_eq(answer.device.key1, approved.key1));
    assert_int_equal(fixture_tx(&fx, run_approve, "nobody"), ERR_NOTFOUND);
    fx.hub.settings.bootstrap_open = false;
    assert_int_equal(ask("d2", NULL, "", ""), BOOTSTRAP_FORBIDDEN);
    assert_code("policy-closed");
    assert_int_equal(ask("d1", NULL, "", ""), BOOTSTRAP_ASSIGNED); /* those inside are not shut out */
}

static void test_token_lets_a_waiting_device_in(void **state)
{
    (void)state;
    assert_int_equal(ask("d1", NULL, "", ""), BOOTSTRAP_PENDING);
    assert_int_equal(ask("d1", NULL, token("line", 1, 0, ""), ""), BOOTSTRAP_ASSIGNED);
    assert_true(span_eq(answer.device.origin, SPAN("token:line")));
    assert_int_equal(answer.device.status, DEVICE_ENABLED);
    assert_int_equal(ask("d2", NULL, (const char *)made.text.p, ""), BOOTSTRAP_DENIED);
    assert_code("token-used-up");
}

static void test_public_key_is_the_identity(void **state)
{
    uint8_t key[32];
    char id[64];
    const char *t = token("line", UINT64_MAX, 0, "");
    (void)state;
    assert_int_equal(ask("", key_a, t, ""), BOOTSTRAP_ASSIGNED);
    snprintf(id, sizeof id, "%.*s", (int)answer.device.id.n, (const char *)answer.device.id.p);
    assert_int_equal(strlen(id), 22);
    memcpy(key, answer.device.key1.p, 32);
    /* again, without a token, under another proposed id, after the key was used: the same */
    assert_int_equal(fixture_tx(&fx, run_used, id), ERR_OK);
    assert_int_equal(ask("fancy", key_a, "", ""), BOOTSTRAP_ASSIGNED);
    assert_string_equal((const char *)answer.device.id.p, id);
    assert_memory_equal(answer.device.key1.p, key, 32);
    /* another key does not get it */
    assert_int_equal(ask(id, key_b, t, ""), BOOTSTRAP_FORBIDDEN);
    assert_code("id-taken");
    /* nor does nobody's key */
    assert_int_equal(ask(id, NULL, t, ""), BOOTSTRAP_FORBIDDEN);
    assert_int_equal(audit("bootstrap.refused").nr, 2);
}

static void test_a_new_hub_gives_the_same_id_a_new_key(void **state)
{
    char id[64];
    uint8_t key[32];
    (void)state;
    assert_int_equal(ask("", key_a, token("line", UINT64_MAX, 0, ""), ""), BOOTSTRAP_ASSIGNED);
    snprintf(id, sizeof id, "%.*s", (int)answer.device.id.n, (const char *)answer.device.id.p);
    memcpy(key, answer.device.key1.p, 32);
    struct span old = made.text;
    char text[FLEET_TOKEN_MAX + 1];
    snprintf(text, sizeof text, "%.*s", (int)old.n, (const char *)old.p);
    fixture_fini(&fx); /* the hub is gone, with all its data */
    fixture_init(&fx);
    assert_int_equal(ask("", key_a, text, ""), BOOTSTRAP_DENIED);
    assert_code("token-unknown");
    made = (struct fleet_token){ .name = SPAN("line"), .uses = UINT64_MAX, .text = span_str(text) };
    assert_int_equal(fixture_tx(&fx, run_token, NULL), ERR_OK); /* the operator brings it along */
    assert_int_equal(ask("", key_a, text, ""), BOOTSTRAP_ASSIGNED);
    assert_string_equal((const char *)answer.device.id.p, id);
    assert_memory_not_equal(answer.device.key1.p, key, 32);
}

static void test_waiting_device_with_a_key(void **state)
{
    (void)state;
    assert_int_equal(ask("d1", key_a, "", ""), BOOTSTRAP_PENDING);
    assert_int_equal(ask("d1", key_b, "", ""), BOOTSTRAP_FORBIDDEN);
    assert_int_equal(fixture_tx(&fx, run_approve, "d1"), ERR_OK);
    assert_int_equal(ask("d1", key_a, "", ""), BOOTSTRAP_ASSIGNED);
    assert_int_equal(ask("d1", NULL, "", ""), BOOTSTRAP_FORBIDDEN);
}

static void test_shared_key_may_bring_a_public_key(void **state)
{
    const char *t = token("line", UINT64_MAX, 0, "");
    (void)state;
    assert_int_equal(ask("d1", NULL, t, ""), BOOTSTRAP_ASSIGNED);
    const char *sas = sas_of("d1", answer.device.key1, 60);
    assert_int_equal(ask("d1", key_a, "", ""), BOOTSTRAP_FORBIDDEN);
    assert_int_equal(ask("d1", key_a, "", sas), BOOTSTRAP_ASSIGNED);
    assert_true(span_eq(answer.device.public_key, span_of(key_a, 32)));
    assert_true(answer.changed);
    assert_int_equal(ask("", key_a, "", ""), BOOTSTRAP_ASSIGNED); /* from now on it is enough */
    assert_true(span_eq(answer.device.id, SPAN("d1")));
}

static void test_disabled_stays_out(void **state)
{
    const char *t = token("line", UINT64_MAX, 0, "");
    (void)state;
    assert_int_equal(ask("d1", key_a, t, ""), BOOTSTRAP_ASSIGNED);
    const char *sas = sas_of("d1", answer.device.key1, 60);
    assert_int_equal(fixture_tx(&fx, run_disable, "d1"), ERR_OK);
    assert_int_equal(ask("d1", key_a, t, sas), BOOTSTRAP_FORBIDDEN);
    assert_code("device-disabled");
}

static void test_operators_device_is_not_given_away(void **state)
{
    (void)state;
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    const char *t = token("line", UINT64_MAX, 0, "");
    assert_int_equal(ask("d1", NULL, t, ""), BOOTSTRAP_PENDING);
    assert_int_equal(ask("d1", key_a, t, ""), BOOTSTRAP_FORBIDDEN);
    assert_int_equal(ask("d1", NULL, "", sas_of("d1", FIXTURE_KEY(fixture_key2), 60)), BOOTSTRAP_ASSIGNED);
}

static void test_bad_tokens(void **state)
{
    (void)state;
    assert_int_equal(ask("d1", NULL, "no such token at all", ""), BOOTSTRAP_DENIED);
    assert_code("token-unknown");
    assert_int_equal(ask("d1", NULL, token("old", UINT64_MAX, fixture_wall_ms() + 1000, ""), ""),
                     BOOTSTRAP_ASSIGNED);
    fixture_clock_offset_ms = 2000;
    assert_int_equal(ask("d2", NULL, (const char *)made.text.p, ""), BOOTSTRAP_DENIED);
    assert_code("token-expired");
    assert_int_equal(ask("d2", NULL, token("hw", UINT64_MAX, 0, "widget:8"), ""), BOOTSTRAP_DENIED);
    assert_code("token-hardware");
    assert_int_equal(ask("d2", NULL, token("hw7", UINT64_MAX, 0, "widget:7"), ""), BOOTSTRAP_ASSIGNED);
    struct audit_count c = audit("bootstrap.refused");
    assert_int_equal(c.nr, 3);
    assert_null(strstr(c.last, (const char *)made.text.p)); /* never the token itself */
    assert_non_null(strstr(c.last, "192.0.2.1|d2|"));
}

static void test_uses_are_counted_once_a_device(void **state)
{
    const char *t = token("two", 2, 0, "");
    (void)state;
    assert_int_equal(ask("d1", NULL, t, ""), BOOTSTRAP_ASSIGNED);
    assert_int_equal(ask("d1", NULL, t, ""), BOOTSTRAP_ASSIGNED); /* the same device: no further use */
    assert_int_equal(ask("d2", NULL, t, ""), BOOTSTRAP_ASSIGNED);
    assert_int_equal(ask("d3", NULL, t, ""), BOOTSTRAP_DENIED);
    assert_code("token-used-up");
    assert_int_equal(ask("d2", NULL, t, ""), BOOTSTRAP_ASSIGNED); /* its answer may still be lost */
}

static enum err fill_pending(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    for (unsigned i = 0; i < PROVISIONING_PENDING_MAX; i++) {
        char id[24];
        snprintf(id, sizeof id, "w%u", i);
        struct device_row r = fixture_row(id);
        r.status = DEVICE_PENDING;
        enum err e = tx_device_put(tx, &r, UINT64_MAX, NULL);
        if (e)
            return e;
    }
    return ERR_OK;
}

static void test_waiting_room_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(fixture_tx(&fx, fill_pending, NULL), ERR_OK);
    assert_int_equal(ask("one-more", NULL, "", ""), BOOTSTRAP_BUSY);
    assert_code("pending-full");
    assert_int_equal(ask("w7", NULL, "", ""), BOOTSTRAP_PENDING); /* it has its chair already */
    assert_int_equal(ask("one-more", NULL, token("line", 1, 0, ""), ""), BOOTSTRAP_ASSIGNED);
}

static void test_signature(void **state)
{
    uint8_t seed[32] = { 1, 2, 3 }, pub[32], sig[64];
    struct span body = SPAN("{\"hardware\":\"widget:7\"}");
    static const char label[] = "roost-bootstrap-v1";
    struct span parts[2] = { span_of(label, sizeof label), body };
    (void)state;
    port_crypto.ed25519_public(seed, pub);
    port_crypto.ed25519_sign(seed, parts, 2, sig);
    assert_true(provisioning_signature_ok(&fx.hub, span_of(pub, 32), body, span_of(sig, 64)));
    for (size_t i = 0; i < 64; i++) {
        sig[i] ^= 1;
        assert_false(provisioning_signature_ok(&fx.hub, span_of(pub, 32), body, span_of(sig, 64)));
        sig[i] ^= 1;
    }
    assert_false(provisioning_signature_ok(&fx.hub, span_of(pub, 32), SPAN("{}"), span_of(sig, 64)));
    assert_false(provisioning_signature_ok(&fx.hub, span_of(pub, 32), body, span_of(sig, 63)));
    assert_false(provisioning_signature_ok(&fx.hub, span_of(pub, 31), body, span_of(sig, 64)));
    port_crypto.ed25519_sign(seed, parts + 1, 1, sig); /* without the label */
    assert_false(provisioning_signature_ok(&fx.hub, span_of(pub, 32), body, span_of(sig, 64)));
}

static void test_ids_and_hardware(void **state)
{
    static const char *const good[] = { "a", "d-1.+%_#*?!(),:=@$'Z9" };
    static const char *const bad[] = { "", "a b", "a/b", "a\"", "\xc3\xa4", "a\n", "a;b", "a&b" };
    static const struct {
        const char *text;
        bool ok;
        uint16_t cls;
        uint8_t rev;
    } hw[] = { { "p:0", true, 0, 0 },
               { "p:65535:255", true, 65535, 255 },
               { "p:65536", false, 0, 0 },
               { "p:1:256", false, 0, 0 },
               { "p", false, 0, 0 },
               { ":1", false, 0, 0 },
               { "p:", false, 0, 0 },
               { "p:1:", false, 0, 0 },
               { "p:1:2:3", false, 0, 0 },
               { "p q:1", false, 0, 0 },
               { "p:-1", false, 0, 0 },
               { "", false, 0, 0 },
               { "abcdefghijklmnopqrstuvwxy:1", false, 0, 0 } };
    char longest[130];
    struct hardware h;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(identity_id_ok(span_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(identity_id_ok(span_str(bad[i])));
    memset(longest, 'x', sizeof longest);
    assert_true(identity_id_ok(span_of(longest, 128)));
    assert_false(identity_id_ok(span_of(longest, 129)));
    assert_false(identity_id_ok(SPAN("a\0b")));
    for (size_t i = 0; i < sizeof hw / sizeof hw[0]; i++) {
        enum err e = hardware_parse(span_str(hw[i].text), &h);
        if (e != (hw[i].ok ? ERR_OK : ERR_PROTO))
            fail_msg("%s", hw[i].text);
        if (hw[i].ok) {
            assert_int_equal(h.hw_class, hw[i].cls);
            assert_int_equal(h.hw_rev, hw[i].rev);
        }
    }
}

static enum err run_many_tokens(struct store_tx *tx, void *ctx)
{
    unsigned *nr = ctx;
    enum err e = ERR_OK;
    for (; !e; *nr += !e) {
        char name[16];
        snprintf(name, sizeof name, "t%u", *nr);
        struct fleet_token t = { .name = span_str(name), .uses = 1 };
        e = fleet_token_create(&fx.hub, tx, &arena, &t);
    }
    return e == ERR_FULL ? ERR_OK : e;
}
static void test_tokens_have_a_cap(void **state)
{
    unsigned nr = 0;
    (void)state;
    assert_int_equal(fixture_tx(&fx, run_many_tokens, &nr), ERR_OK);
    assert_int_equal(nr, FLEET_TOKENS_MAX);
    made = (struct fleet_token){ .name = SPAN("t7"), .uses = 1 };
    assert_int_equal(fixture_tx(&fx, run_token, NULL), ERR_EXISTS);
    made.name = SPAN("one-more");
    assert_int_equal(fixture_tx(&fx, run_token, NULL), ERR_FULL);
}

static void test_tokens_by_name(void **state)
{
    struct fleet_token t;
    (void)state;
    (void)token("line", 5, 0, "");
    t = made;
    assert_int_equal(fixture_tx(&fx, run_token, NULL), ERR_EXISTS); /* same name */
    made.name = SPAN("other");
    assert_int_equal(fixture_tx(&fx, run_token, NULL), ERR_EXISTS); /* same text */
    made.text = SPAN("too short");
    assert_int_equal(fixture_tx(&fx, run_token, NULL), ERR_LIMIT);
    made = t;
    made.name = SPAN("a b");
    made.text = SPAN_NONE;
    assert_int_equal(fixture_tx(&fx, run_token, NULL), ERR_LIMIT);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_token_lets_in_and_is_idempotent),
        T(test_used_key_needs_the_key_or_an_approval),
        T(test_open_policy_waits_for_approval),
        T(test_token_lets_a_waiting_device_in),
        T(test_public_key_is_the_identity),
        T(test_a_new_hub_gives_the_same_id_a_new_key),
        T(test_waiting_device_with_a_key),
        T(test_shared_key_may_bring_a_public_key),
        T(test_disabled_stays_out),
        T(test_operators_device_is_not_given_away),
        T(test_bad_tokens),
        T(test_uses_are_counted_once_a_device),
        T(test_waiting_room_is_bounded),
        T(test_signature),
        T(test_ids_and_hardware),
        T(test_tokens_have_a_cap),
        T(test_tokens_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
