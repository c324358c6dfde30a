/* hub/domain/access/certificate_test.c - certificates of devices and modules: thumbprints, chains, dates,
 * names, and who may prove itself with what, against the real store. */
#include "hub/domain/access/certificate.h"
#include "hub/domain/identity/identity_write.h"
#include "tests/fake/certificate_fixture.h"
#include "tests/fake/hub_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;

static struct made root, middle, other, leaf, deep, self, late, early;

static int make_all(void **state)
{
    (void)state;
    make(&root, "plant root", NULL, true);
    make(&middle, "plant line 1", &root, true);
    make(&other, "someone else", NULL, true);
    make(&leaf, "c1", &root, false);
    make(&deep, "c1", &middle, false);
    make(&self, "s1", NULL, false);
    make_named(&late, "c1", NULL, &root, false, -30 * DAY, -DAY);
    make_named(&early, "c1", NULL, &root, false, DAY, 30 * DAY);
    return 0;
}
static int free_all(void **state)
{
    struct made *const all[] = { &root, &middle, &other, &leaf, &deep, &self, &late, &early };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        made_free(all[i]);
    return 0;
}

/* ---- a certificate by itself ------------------------------------------------------------------------- */

static enum certificate_verdict verdict(const struct made *trusted, struct span cert, struct span chain,
                                        const char *name)
{
    struct certificate_roots *roots;
    struct certificate_proof proof = { 0 };
    assert_int_equal(certificate_roots_new(&roots), ERR_OK);
    if (trusted)
        assert_int_equal(certificate_roots_add(roots, der(trusted)), ERR_OK);
    enum certificate_verdict v =
        certificate_check(roots, cert, chain, span_str(name), fixture_wall_ms() / 1000, &proof);
    assert_int_equal(proof.not_after_ms > 0, v == CERTIFICATE_OK);
    if (v == CERTIFICATE_OK) {
        uint8_t hash[32];
        assert_true(certificate_hash(der(trusted), hash));
        assert_memory_equal(proof.authority, hash, sizeof hash);
    }
    certificate_roots_unref(roots);
    return v;
}

static void test_chains(void **state)
{
    uint8_t both[4096], many[16 * 2048];
    struct wr w = { both, sizeof both, 0 }, far = { many, sizeof many, 0 };
    (void)state;
    assert_int_equal(verdict(&root, der(&leaf), SPAN_NONE, "c1"), CERTIFICATE_OK);
    assert_int_equal(verdict(&root, der(&leaf), SPAN_NONE, "C1"), CERTIFICATE_NAME);
    assert_int_equal(verdict(&root, der(&leaf), SPAN_NONE, "c"), CERTIFICATE_NAME);
    assert_int_equal(verdict(&root, der(&leaf), SPAN_NONE, ""), CERTIFICATE_NAME);
    assert_int_equal(verdict(&other, der(&leaf), SPAN_NONE, "c1"), CERTIFICATE_UNTRUSTED);
    assert_int_equal(verdict(NULL, der(&leaf), SPAN_NONE, "c1"), CERTIFICATE_UNTRUSTED);
    assert_int_equal(verdict(NULL, der(&self), SPAN_NONE, "s1"), CERTIFICATE_UNTRUSTED);
    assert_int_equal(verdict(&root, der(&late), SPAN_NONE, "c1"), CERTIFICATE_DATES);
    assert_int_equal(verdict(&root, der(&early), SPAN_NONE, "c1"), CERTIFICATE_DATES);
    /* what stands between has to be sent, or registered */
    assert_int_equal(verdict(&root, der(&deep), SPAN_NONE, "c1"), CERTIFICATE_UNTRUSTED);
    assert_int_equal(verdict(&root, der(&deep), der(&middle), "c1"), CERTIFICATE_OK);
    assert_int_equal(verdict(&middle, der(&deep), SPAN_NONE, "c1"), CERTIFICATE_OK);
    wr_put(&w, der(&middle));
    wr_put(&w, der(&root));
    assert_int_equal(verdict(&root, der(&deep), wr_span(&w), "c1"), CERTIFICATE_OK);
    assert_int_equal(verdict(&other, der(&deep), wr_span(&w), "c1"), CERTIFICATE_UNTRUSTED);
    /* one that signed it but may not sign */
    struct made made_by_leaf;
    make(&made_by_leaf, "c2", &leaf, false);
    assert_int_equal(verdict(&root, der(&made_by_leaf), der(&leaf), "c2"), CERTIFICATE_UNTRUSTED);
    made_free(&made_by_leaf);
    /* two names are no name */
    struct made two;
    make_named(&two, "c1", "c2", &root, false, -DAY, DAY);
    assert_int_equal(verdict(&root, der(&two), SPAN_NONE, "c1"), CERTIFICATE_NAME);
    assert_int_equal(verdict(&root, der(&two), SPAN_NONE, "c2"), CERTIFICATE_NAME);
    made_free(&two);
    while (far.len <= CERTIFICATE_CHAIN_MAX)
        wr_put(&far, der(&middle));
    assert_int_equal(verdict(&root, der(&deep), wr_span(&far), "c1"), CERTIFICATE_BAD);
}

/* A key or a signature that can be forged proves nothing, wherever in the chain it is. */
static void test_weak_chains(void **state)
{
    static const struct weak {
        int rsa_bits; /* 0: P-256 */
        const char *digest;
        enum certificate_verdict as_leaf, as_middle, as_root;
    } rows[] = {
        { 0, "SHA256", CERTIFICATE_OK, CERTIFICATE_OK, CERTIFICATE_OK },
        { 2048, "SHA256", CERTIFICATE_OK, CERTIFICATE_OK, CERTIFICATE_OK },
        { 1024, "SHA256", CERTIFICATE_WEAK, CERTIFICATE_WEAK, CERTIFICATE_WEAK },
        { 0, "SHA1", CERTIFICATE_WEAK, CERTIFICATE_WEAK, CERTIFICATE_OK }, /* nobody checks a root's own */
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct made w, over, under;
        struct made_how how = { .rsa_bits = rows[i].rsa_bits, .digest = rows[i].digest };
        make_how(&w, "w1", &root, false, &how);
        assert_int_equal(verdict(&root, der(&w), SPAN_NONE, "w1"), rows[i].as_leaf);
        made_free(&w);
        make_how(&over, "line", &root, true, &how);
        make(&under, "w1", &over, false);
        assert_int_equal(verdict(&root, der(&under), der(&over), "w1"), rows[i].as_middle);
        made_free(&under);
        made_free(&over);
        make_how(&over, "weak root", NULL, true, &how);
        make(&under, "w1", &over, false);
        assert_int_equal(verdict(&over, der(&under), SPAN_NONE, "w1"), rows[i].as_root);
        made_free(&under);
        made_free(&over);
    }
}

static void test_every_cut_is_refused(void **state)
{
    struct certificate_facts f;
    (void)state;
    for (size_t n = 0; n < deep.len; n++) {
        assert_int_equal(certificate_facts(span_of(deep.der, n), &f), ERR_PROTO);
        assert_int_equal(verdict(&root, span_of(deep.der, n), der(&middle), "c1"), CERTIFICATE_BAD);
    }
    for (size_t n = 1; n < middle.len; n++)
        assert_int_equal(verdict(&root, der(&deep), span_of(middle.der, n), "c1"), CERTIFICATE_BAD);
    uint8_t longer[2049] = { 0 };
    memcpy(longer, deep.der, deep.len);
    assert_int_equal(certificate_facts(span_of(longer, deep.len + 1), &f), ERR_PROTO);
}

static void test_facts_and_pem(void **state)
{
    struct certificate_facts f;
    uint8_t out[2048];
    size_t n = 0;
    (void)state;
    assert_int_equal(certificate_facts(der(&root), &f), ERR_OK);
    assert_string_equal(f.subject, "/CN=plant root");
    assert_true(f.is_ca);
    assert_true(f.not_before_ms < fixture_wall_ms() && f.not_after_ms > fixture_wall_ms());
    assert_true(certificate_has_thumbprint(der(&root), span_of(f.sha256, 32)));
    assert_int_equal(certificate_facts(der(&leaf), &f), ERR_OK);
    assert_false(f.is_ca);
    char text[4096] = "some words before\n";
    struct span pem = made_pem(&root, text + strlen(text), sizeof text - 20);
    pem = span_of(text, strlen("some words before\n") + pem.n);
    assert_int_equal(certificate_from_pem(pem, out, sizeof out, &n), ERR_OK);
    assert_true(span_eq(span_of(out, n), der(&root)));
    assert_int_equal(certificate_from_pem(pem, out, 100, &n), ERR_LIMIT);
    assert_int_equal(certificate_from_pem(span_of(pem.p, pem.n - 40), out, sizeof out, &n), ERR_PROTO);
    assert_int_equal(certificate_from_pem(SPAN(""), out, sizeof out, &n), ERR_PROTO);
}

/* ---- who may sign in with what ----------------------------------------------------------------------- */

static void thumb(const struct made *m, const EVP_MD *md, bool upper, char out[65])
{
    uint8_t hash[32];
    unsigned n;
    EVP_Digest(m->der, m->len, hash, &n, md, NULL);
    for (unsigned i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, upper ? "%02X" : "%02x", hash[i]);
}

static enum err put_authority(struct store_tx *tx, void *ctx)
{
    struct ca_row r = { .name = SPAN("plant"), .der = der(ctx) };
    return tx_ca_put(tx, &r, 0, NULL);
}
static enum err drop_authority(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return tx_ca_delete(tx, SPAN("plant"));
}
static enum err put_module(struct store_tx *tx, void *ctx)
{
    return tx_module_put(tx, ctx, 0, NULL);
}

static int setup(void **state)
{
    char sha1[65], sha256[65];
    (void)state;
    fixture_init(&fx);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    fixture_device(&fx, "off", DEVICE_DISABLED);
    fixture_policy(&fx, "device", ACCESS_DEVICE_CONNECT);
    thumb(&self, EVP_sha1(), true, sha1);
    thumb(&leaf, EVP_sha256(), false, sha256);
    struct device_row r = fixture_row("s1");
    r.auth = AUTH_SELF_SIGNED;
    r.key1 = r.key2 = SPAN_NONE;
    r.thumb1 = span_str(sha1);
    r.thumb2 = span_str(sha256);
    assert_int_equal(fixture_tx(&fx, fixture_put_device, &r), ERR_OK);
    r = fixture_row("c1");
    r.auth = AUTH_CA;
    r.key1 = r.key2 = SPAN_NONE;
    assert_int_equal(fixture_tx(&fx, fixture_put_device, &r), ERR_OK);
    struct module_row m = { .device = SPAN("d1"),
                            .id = SPAN("m"),
                            .key1 = FIXTURE_KEY(fixture_key1),
                            .key2 = FIXTURE_KEY(fixture_key2),
                            .generation = SPAN("7") };
    assert_int_equal(fixture_tx(&fx, put_module, &m), ERR_OK);
    m.device = SPAN("off");
    assert_int_equal(fixture_tx(&fx, put_module, &m), ERR_OK);
    m.device = SPAN("d1");
    m.id = SPAN("$edgeHub");
    m.auth = AUTH_NONE;
    assert_int_equal(fixture_tx(&fx, put_module, &m), ERR_OK);
    m.id = SPAN("ca");
    m.auth = AUTH_CA;
    assert_int_equal(fixture_tx(&fx, put_module, &m), ERR_OK);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    fixture_fini(&fx);
    return 0;
}

static struct access_check check;

static enum access_why sign_in(const char *device, const char *module, struct span token, struct span cert,
                               struct span chain)
{
    check = (struct access_check){ .hub = &fx.hub,
                                   .token = token,
                                   .leaf = cert,
                                   .chain = chain,
                                   .device = span_str(device),
                                   .module = span_str(module) };
    fixture_prepare(&fx, &check.store.op);
    access_start(&check);
    enum err e = fixture_wait(&fx, &check.store.op);
    assert_int_equal(e, check.why == ACCESS_OK ? ERR_OK : ERR_DENIED);
    return check.why;
}
static enum access_why by_cert(const char *device, const struct made *m)
{
    return sign_in(device, "", SPAN_NONE, der(m), SPAN_NONE);
}

static void test_thumbprints(void **state)
{
    (void)state;
    for (int again = 0; again < 2; again++) { /* from the store, then from the cache */
        assert_int_equal(by_cert("s1", &self), ACCESS_OK);
        assert_true(check.certificate);
        assert_true(check.expires_ms == UINT64_MAX);
        assert_true(span_eq(span_of(check.generation, check.generation_len), SPAN("637000000000000001")));
        assert_int_equal(by_cert("s1", &leaf), ACCESS_OK); /* the other thumbprint, the other hash */
        assert_int_equal(by_cert("s1", &deep), ACCESS_CERTIFICATE);
    }
    assert_int_equal(atomic_load(&fx.metrics.access_reads_total), 1);
    assert_int_equal(by_cert("d1", &self), ACCESS_PROOF); /* has keys */
    assert_int_equal(sign_in("s1", "", SPAN_NONE, SPAN_NONE, SPAN_NONE), ACCESS_NO_TOKEN);
    assert_int_equal(sign_in("s1", "", SPAN_NONE, SPAN("nonsense"), SPAN_NONE), ACCESS_CERTIFICATE);
    assert_int_equal(by_cert("nobody", &self), ACCESS_UNKNOWN);
}

static void test_authorities(void **state)
{
    (void)state;
    assert_int_equal(by_cert("c1", &leaf), ACCESS_CERTIFICATE);
    assert_int_equal(fixture_tx(&fx, put_authority, &root), ERR_OK);
    access_forget_authorities(fx.hub.access);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(by_cert("c1", &leaf), ACCESS_OK);
        assert_true(check.expires_ms > fixture_wall_ms() + 300ull * 86400 * 1000);
        assert_true(check.expires_ms < fixture_wall_ms() + 370ull * 86400 * 1000);
        assert_int_equal(sign_in("c1", "", SPAN_NONE, der(&deep), der(&middle)), ACCESS_OK);
        assert_int_equal(by_cert("c1", &deep), ACCESS_CERTIFICATE);
        assert_int_equal(by_cert("c1", &self), ACCESS_CERTIFICATE);
        assert_int_equal(by_cert("c1", &late), ACCESS_CERTIFICATE_DATES);
    }
    fixture_clock_offset_ms = 400ll * 86400 * 1000; /* the hub's own clock decides */
    assert_int_equal(by_cert("c1", &leaf), ACCESS_CERTIFICATE_DATES);
    fixture_clock_offset_ms = 0;
    assert_int_equal(sign_in("d1", "ca", SPAN_NONE, der(&leaf), SPAN_NONE), ACCESS_CERTIFICATE);
    struct made named;
    make(&named, "d1/ca", &root, false);
    assert_int_equal(sign_in("d1", "ca", SPAN_NONE, der(&named), SPAN_NONE), ACCESS_OK);
    made_free(&named);
    assert_int_equal(fixture_tx(&fx, drop_authority, NULL), ERR_OK);
    access_forget_authorities(fx.hub.access);
    assert_int_equal(by_cert("c1", &leaf), ACCESS_CERTIFICATE);
}

static void test_a_token_is_no_certificate(void **state)
{
    char t[SAS_TOKEN_MAX];
    (void)state;
    struct span policy = fixture_token(t, "hub.example.net", fixture_key1, 60, "device");
    assert_int_equal(sign_in("d1", "", policy, SPAN_NONE, SPAN_NONE), ACCESS_OK);
    assert_false(check.certificate);
    /* a token that is there is what counts, also beside the right certificate */
    assert_int_equal(sign_in("s1", "", policy, der(&self), SPAN_NONE), ACCESS_PROOF);
    assert_int_equal(sign_in("c1", "", policy, SPAN_NONE, SPAN_NONE), ACCESS_PROOF);
    struct span own = fixture_token(t, "hub.example.net/devices/s1", fixture_key1, 60, "");
    assert_int_equal(sign_in("s1", "", own, SPAN_NONE, SPAN_NONE), ACCESS_PROOF);
    own = fixture_token(t, "hub.example.net/devices/d1", fixture_key1, 60, "");
    assert_int_equal(sign_in("d1", "", own, der(&self), SPAN_NONE), ACCESS_OK);
}

static void test_modules(void **state)
{
    char t[SAS_TOKEN_MAX];
    (void)state;
    struct span own = fixture_token(t, "hub.example.net/devices/d1/modules/m", fixture_key2, 60, "");
    for (int again = 0; again < 2; again++) {
        assert_int_equal(sign_in("d1", "m", own, SPAN_NONE, SPAN_NONE), ACCESS_OK);
        assert_true(span_eq(span_of(check.identity, check.identity_len), SPAN("d1/m")));
        assert_true(span_eq(span_of(check.generation, check.generation_len), SPAN("7")));
    }
    assert_int_equal(atomic_load(&fx.metrics.access_reads_total), 1);
    assert_int_equal(sign_in("d1", "n", own, SPAN_NONE, SPAN_NONE), ACCESS_AUDIENCE);
    assert_int_equal(sign_in("d1", "", own, SPAN_NONE, SPAN_NONE), ACCESS_AUDIENCE);
    struct span device = fixture_token(t, "hub.example.net/devices/d1", fixture_key1, 60, "");
    assert_int_equal(sign_in("d1", "m", device, SPAN_NONE, SPAN_NONE), ACCESS_AUDIENCE);
    struct span policy = fixture_token(t, "hub.example.net/devices", fixture_key1, 60, "device");
    assert_int_equal(sign_in("d1", "m", policy, SPAN_NONE, SPAN_NONE), ACCESS_OK);
    assert_int_equal(sign_in("d1", "nothing", policy, SPAN_NONE, SPAN_NONE), ACCESS_UNKNOWN);
    assert_int_equal(sign_in("d1", "$edgeHub", policy, SPAN_NONE, SPAN_NONE), ACCESS_PROOF);
    assert_int_equal(sign_in("off", "m", policy, SPAN_NONE, SPAN_NONE), ACCESS_DISABLED);
    own = fixture_token(t, "hub.example.net/devices/off/modules/m", fixture_key1, 60, "");
    assert_int_equal(sign_in("off", "m", own, SPAN_NONE, SPAN_NONE), ACCESS_DISABLED);
}

static enum err status_of(const char *identity, const char *generation)
{
    struct access_status s = { .hub = &fx.hub,
                               .identity = span_str(identity),
                               .generation = span_str(generation),
                               .proof = check.proof };
    fixture_prepare(&fx, &s.store.op);
    access_status_start(&s);
    return fixture_wait(&fx, &s.store.op);
}

static void test_a_module_follows_its_device(void **state)
{
    char t[SAS_TOKEN_MAX];
    (void)state;
    struct span own = fixture_token(t, "hub.example.net/devices/d1/modules/m", fixture_key1, 60, "");
    assert_int_equal(sign_in("d1", "m", own, SPAN_NONE, SPAN_NONE), ACCESS_OK);
    assert_false(access_is_stale(&check));
    assert_int_equal(status_of("d1/m", "7"), ERR_OK);
    assert_int_equal(status_of("d1/m", "8"), ERR_DENIED);
    assert_int_equal(status_of("d1/n", "7"), ERR_DENIED);
    fixture_device(&fx, "d1", DEVICE_DISABLED); /* only the device is announced */
    assert_true(access_is_stale(&check));
    assert_int_equal(status_of("d1/m", "7"), ERR_DENIED);
    assert_int_equal(sign_in("d1", "m", own, SPAN_NONE, SPAN_NONE), ACCESS_DISABLED);
}

/* What proved it has to prove it still. */
static void test_a_proof_that_is_taken_away(void **state)
{
    static const uint8_t fresh[32] = "another-key-another-key-another-";
    static const char gen[] = "637000000000000001";
    char t[SAS_TOKEN_MAX], sha256[65];
    (void)state;
    struct device_row r = fixture_row("d1");
    struct span second = fixture_token(t, "hub.example.net/devices/d1", fixture_key2, 60, "");
    assert_int_equal(sign_in("d1", "", second, SPAN_NONE, SPAN_NONE), ACCESS_OK);
    r.key1 = FIXTURE_KEY(fresh); /* the other one */
    assert_int_equal(fixture_tx(&fx, fixture_put_device, &r), ERR_OK);
    assert_int_equal(status_of("d1", gen), ERR_OK);
    r.key1 = FIXTURE_KEY(fixture_key2); /* they changed places */
    r.key2 = FIXTURE_KEY(fresh);
    assert_int_equal(fixture_tx(&fx, fixture_put_device, &r), ERR_OK);
    assert_int_equal(status_of("d1", gen), ERR_OK);
    r.key1 = FIXTURE_KEY(fixture_key1);
    assert_int_equal(fixture_tx(&fx, fixture_put_device, &r), ERR_OK);
    assert_int_equal(status_of("d1", gen), ERR_DENIED);
    struct span policy = fixture_token(t, "hub.example.net", fixture_key1, 60, "device");
    assert_int_equal(sign_in("d1", "", policy, SPAN_NONE, SPAN_NONE), ACCESS_OK);
    assert_int_equal(status_of("d1", gen), ERR_OK); /* it used none of the device's keys */
    thumb(&other, EVP_sha256(), false, sha256);
    r.auth = AUTH_SELF_SIGNED;
    r.key1 = r.key2 = SPAN_NONE;
    r.thumb1 = span_str(sha256);
    assert_int_equal(fixture_tx(&fx, fixture_put_device, &r), ERR_OK);
    assert_int_equal(status_of("d1", gen), ERR_DENIED);

    struct device_row s1 = fixture_row("s1");
    assert_int_equal(by_cert("s1", &self), ACCESS_OK);
    assert_int_equal(status_of("s1", gen), ERR_OK);
    s1.auth = AUTH_SELF_SIGNED;
    s1.key1 = s1.key2 = SPAN_NONE;
    s1.thumb1 = span_str(sha256);
    assert_int_equal(fixture_tx(&fx, fixture_put_device, &s1), ERR_OK);
    assert_int_equal(status_of("s1", gen), ERR_DENIED);

    assert_int_equal(fixture_tx(&fx, put_authority, &root), ERR_OK);
    access_forget_authorities(fx.hub.access);
    assert_int_equal(by_cert("c1", &leaf), ACCESS_OK);
    assert_false(access_is_stale(&check));
    assert_int_equal(status_of("c1", gen), ERR_OK);
    assert_int_equal(fixture_tx(&fx, put_authority, &other), ERR_OK); /* another one under its name */
    access_forget_authorities(fx.hub.access);
    assert_true(access_is_stale(&check));
    assert_int_equal(status_of("c1", gen), ERR_DENIED);
    assert_int_equal(fixture_tx(&fx, drop_authority, NULL), ERR_OK);
    assert_int_equal(status_of("c1", gen), ERR_DENIED);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chains),
        cmocka_unit_test(test_weak_chains),
        cmocka_unit_test(test_every_cut_is_refused),
        cmocka_unit_test(test_facts_and_pem),
        T(test_thumbprints),
        T(test_authorities),
        T(test_a_token_is_no_certificate),
        T(test_modules),
        T(test_a_module_follows_its_device),
        T(test_a_proof_that_is_taken_away),
    };
    return cmocka_run_group_tests(tests, make_all, free_all);
}
