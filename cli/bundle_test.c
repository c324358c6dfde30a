/* cli/bundle_test.c - releases on disk: the same inputs make the same bytes, and no changed byte passes. */
#include "cli/bundle.h"

#include "cli/file.h"
#include "cli/keyfile.h"
#include "core/trust/chunk_tree.h"
#include "core/trust/report.h"
#include "port/crypto.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define IMAGE_LEN (4096u * 40 + 123) /* two pages */

static char dir[64];
static uint8_t image[IMAGE_LEN];
static const uint8_t seed[ED25519_KEY_LEN] = { 42 };

static int setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < IMAGE_LEN; i++)
        image[i] = (uint8_t)(i * 31 + i / 977);
    strcpy(dir, "/tmp/roost-bundle-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    char cmd[128];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd);
}

static const struct release wanted = { .product = { (const uint8_t *)"sensor", 6 },
                                       .version = { (const uint8_t *)"1.4.2", 5 },
                                       .hw_class = 7,
                                       .hw_rev_min = 1,
                                       .hw_rev_max = 3,
                                       .release_seq = 1083,
                                       .flags = RELEASE_NEEDS_REBOOT,
                                       .chunk_code = CHUNK_CODE_DEFAULT,
                                       .fan_out = CHUNK_FAN_OUT_DEFAULT };

static char *build(const char *name)
{
    char *path = path_join(dir, name);
    assert_int_equal(bundle_build(path, &wanted, COMPONENT_APP, span_of(image, IMAGE_LEN)), CLI_OK);
    return path;
}

static struct trust_record trusting(const uint8_t key_seed[ED25519_KEY_LEN])
{
    struct trust_record t = { .release_threshold = 1, .release_nr = 1 };
    t.release[0].alg = SIG_ED25519;
    port_crypto.ed25519_public(key_seed, t.release[0].pub);
    key_id_of(&port_crypto, t.release[0].pub, t.release[0].id);
    return t;
}

static void test_two_builds_are_the_same_bytes(void **state)
{
    (void)state;
    char *one = build("one"), *two = build("two");
    DIR *d = opendir(one);
    struct dirent *e;
    unsigned files = 0;
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        struct file_bytes a, b;
        if (e->d_name[0] == '.')
            continue;
        char *pa = path_join(one, e->d_name), *pb = path_join(two, e->d_name);
        assert_int_equal(file_read(pa, 1 << 20, &a), ERR_OK);
        assert_int_equal(file_read(pb, 1 << 20, &b), ERR_OK);
        assert_true(span_eq(file_span(&a), file_span(&b)));
        free(a.p), free(b.p), free(pa), free(pb);
        files++;
    }
    closedir(d);
    assert_int_equal(files, 3); /* manifest, payload, tree */
    struct bundle x, y;
    assert_int_equal(bundle_open(&x, one), CLI_OK);
    assert_int_equal(bundle_open(&y, two), CLI_OK);
    assert_memory_equal(x.id, y.id, OBJECT_ID_LEN);
    free(one), free(two);
}

static void test_what_is_in_it(void **state)
{
    (void)state;
    char *path = build("what");
    struct bundle b;
    uint8_t h[SHA256_LEN];
    assert_int_equal(bundle_open(&b, path), CLI_OK);
    assert_true(span_eq(b.release.product, SPAN("sensor")));
    assert_int_equal(b.release.hw_class, 7);
    assert_int_equal(b.release.component_nr, 1);
    assert_int_equal(b.release.component[0].image_len, IMAGE_LEN);
    crypto_sha256(&port_crypto, span_of(image, IMAGE_LEN), h);
    assert_memory_equal(b.release.component[0].image_sha256, h, SHA256_LEN);
    assert_int_equal(b.env.sig_nr, 0);
    free(path);
}

static void test_signing(void **state)
{
    (void)state;
    char *path = build("signed");
    struct bundle b;
    struct bundle_verdict v;
    struct trust_record t = trusting(seed), other = trusting((const uint8_t[ED25519_KEY_LEN]){ 43 });
    assert_int_equal(bundle_open(&b, path), CLI_OK);
    uint8_t id[OBJECT_ID_LEN];
    memcpy(id, b.id, sizeof id);
    bundle_verify(&b, path, &t, NULL, &v);
    assert_int_equal(v.reason, REASON_SIGNATURE_RELEASE);
    assert_int_equal(bundle_sign(&b, path, seed), CLI_OK);
    assert_int_equal(bundle_sign(&b, path, seed), CLI_OK); /* again changes nothing */
    assert_int_equal(bundle_open(&b, path), CLI_OK);
    assert_int_equal(b.env.sig_nr, 1);
    assert_memory_equal(b.id, id, sizeof id);
    bundle_verify(&b, path, &t, NULL, &v);
    assert_int_equal(v.reason, REASON_NONE);
    bundle_verify(&b, path, &other, NULL, &v);
    assert_int_equal(v.reason, REASON_SIGNATURE_RELEASE);
    static const struct {
        struct bundle_target target;
        unsigned reason;
    } cases[] = {
        { { { (const uint8_t *)"sensor", 6 }, 7, 1 }, REASON_NONE },
        { { { (const uint8_t *)"sensor", 6 }, 7, 3 }, REASON_NONE },
        { { { (const uint8_t *)"sensor", 6 }, 7, 4 }, REASON_HW_MISMATCH },
        { { { (const uint8_t *)"sensor", 6 }, 7, 0 }, REASON_HW_MISMATCH },
        { { { (const uint8_t *)"sensor", 6 }, 8, 1 }, REASON_HW_MISMATCH },
        { { { (const uint8_t *)"senso", 5 }, 7, 1 }, REASON_HW_MISMATCH },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bundle_verify(&b, path, &t, &cases[i].target, &v);
        assert_int_equal(v.reason, cases[i].reason);
    }
    free(path);
}

/* Flips one bit at a sample of positions of one file: opening or verifying must fail, each time. */
static void flip(const char *path, const char *name, size_t step, const struct trust_record *t)
{
    char *file = path_join(path, name);
    struct file_bytes f;
    assert_int_equal(file_read(file, 1 << 20, &f), ERR_OK);
    for (size_t at = 0; at < f.n; at += step) {
        struct bundle b;
        struct bundle_verdict v = { .reason = REASON_FORMAT };
        uint8_t bit = (uint8_t)(1u << at % 8);
        f.p[at] ^= bit;
        assert_int_equal(file_save(file, file_span(&f), 0644, false), ERR_OK);
        if (bundle_open(&b, path) == CLI_OK)
            bundle_verify(&b, path, t, NULL, &v);
        assert_int_not_equal(v.reason, REASON_NONE);
        f.p[at] ^= bit;
    }
    for (size_t cut = 0; cut < f.n; cut += step * 3 + 1) { /* shorter */
        struct bundle b;
        struct bundle_verdict v = { .reason = REASON_FORMAT };
        assert_int_equal(file_save(file, span_of(f.p, cut), 0644, false), ERR_OK);
        if (bundle_open(&b, path) == CLI_OK)
            bundle_verify(&b, path, t, NULL, &v);
        assert_int_not_equal(v.reason, REASON_NONE);
    }
    assert_int_equal(file_save(file, file_span(&f), 0644, false), ERR_OK);
    free(f.p);
    free(file);
}

static void test_no_changed_byte_passes(void **state)
{
    (void)state;
    char *path = build("flipped"), name[BUNDLE_NAME_LEN + 6];
    struct bundle b;
    struct bundle_verdict v;
    struct trust_record t = trusting(seed);
    assert_int_equal(bundle_open(&b, path), CLI_OK);
    assert_int_equal(bundle_sign(&b, path, seed), CLI_OK);
    bundle_name(b.release.encoding[0].tree_root, name);
    flip(path, "manifest.hrm", 1, &t);
    flip(path, name, 4093, &t);
    strcat(name, ".tree");
    flip(path, name, 17, &t);
    assert_int_equal(bundle_open(&b, path), CLI_OK);
    bundle_verify(&b, path, &t, NULL, &v);
    assert_int_equal(v.reason, REASON_NONE); /* put back, it is good again */
    char *file = path_join(path, name);
    assert_int_equal(unlink(file), 0);
    bundle_verify(&b, path, &t, NULL, &v);
    assert_int_equal(v.reason, REASON_HASH);
    free(file);
    free(path);
}

static void test_an_empty_image_is_refused(void **state)
{
    (void)state;
    char *path = path_join(dir, "empty");
    assert_int_equal(bundle_build(path, &wanted, COMPONENT_APP, SPAN_NONE), CLI_REFUSED);
    assert_false(is_dir(path));
    free(path);
}

static void test_sequences_of_versions(void **state)
{
    (void)state;
    static const struct {
        const char *version;
        uint32_t seq;
    } good[] = {
        { "0.0.0", 1 },           { "1.0.0", 1000001 }, { "1.1.0", 1001001 },          { "1.1.10", 1001011 },
        { "1.999.999", 2000000 }, { "2.0.0", 2000001 }, { "4000.999.999", 4001000000 }
    };
    static const char *const bad[] = { "",      "1",      "1.0",      "1.0.0.0", "1.1000.0", "1.0.1000",
                                       "1.0.x", "v1.0.0", "1.0.0-rc", "1..0",    "4001.0.0", "1.0.0." };
    uint32_t seq = 0, before = 0;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(bundle_seq_of(good[i].version, &seq), ERR_OK);
        assert_int_equal(seq, good[i].seq);
        assert_true(seq > before);
        before = seq;
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(bundle_seq_of(bad[i], &seq), ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_builds_are_the_same_bytes),
        cmocka_unit_test(test_what_is_in_it),
        cmocka_unit_test(test_signing),
        cmocka_unit_test(test_no_changed_byte_passes),
        cmocka_unit_test(test_an_empty_image_is_refused),
        cmocka_unit_test(test_sequences_of_versions),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
