/* port/posix/crypto_test.c - published vectors against the table: FIPS 180-4, RFC 4231, RFC 8032. */
#include "port/crypto.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static size_t unhex(const char *text, uint8_t *out, size_t cap)
{
    size_t n = strlen(text) / 2;
    assert_true(n <= cap);
    assert_int_equal(hex_decode(span_str(text), out, n), ERR_OK);
    return n;
}

static void sha256_is(const char *msg, const char *want_hex)
{
    uint8_t want[SHA256_LEN], got[SHA256_LEN];
    struct span m = span_str(msg);
    unhex(want_hex, want, sizeof want);
    for (size_t cut = 0; cut <= m.n; cut++) {
        struct sha256 h;
        port_crypto.sha256_init(&h);
        port_crypto.sha256_update(&h, span_of(m.p, cut));
        port_crypto.sha256_update(&h, span_skip(m, cut));
        port_crypto.sha256_final(&h, got);
        assert_memory_equal(got, want, SHA256_LEN);
    }
}

static void test_sha256_vectors_in_any_pieces(void **state)
{
    (void)state;
    sha256_is("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_is("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_is("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void test_a_running_hash_can_be_copied(void **state)
{
    (void)state;
    struct sha256 a, b;
    uint8_t x[SHA256_LEN], y[SHA256_LEN];
    port_crypto.sha256_init(&a);
    port_crypto.sha256_update(&a, SPAN("ab"));
    b = a;
    port_crypto.sha256_update(&a, SPAN("c"));
    port_crypto.sha256_update(&b, SPAN("c"));
    port_crypto.sha256_final(&a, x);
    port_crypto.sha256_final(&b, y);
    assert_memory_equal(x, y, SHA256_LEN);
}

static void test_hmac_vectors(void **state)
{
    (void)state;
    uint8_t want[SHA256_LEN], got[SHA256_LEN], key[131];
    /* RFC 4231, test case 2, in two parts */
    struct span parts[2] = { SPAN("what do ya want "), SPAN("for nothing?") };
    unhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", want, sizeof want);
    port_crypto.hmac_sha256(SPAN("Jefe"), parts, 2, got);
    assert_memory_equal(got, want, SHA256_LEN);
    /* RFC 4231, test case 6: a key longer than a block */
    memset(key, 0xaa, sizeof key);
    struct span one = SPAN("Test Using Larger Than Block-Size Key - Hash Key First");
    unhex("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54", want, sizeof want);
    port_crypto.hmac_sha256(span_of(key, sizeof key), &one, 1, got);
    assert_memory_equal(got, want, SHA256_LEN);
    /* an empty key is a key, an empty message a message */
    unhex("b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad", want, sizeof want);
    port_crypto.hmac_sha256(SPAN_NONE, NULL, 0, got);
    assert_memory_equal(got, want, SHA256_LEN);
}

/* RFC 8032, section 7.1 */
static const struct {
    const char *seed, *pub, *msg, *sig;
} rfc8032[] = {
    { "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
      "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
      "d25bf5f0595bbe24655141438e7a100b" },
    { "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
      "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
      "387b2eaeb4302aeeb00d291612bb0c00" },
    { "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
      "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
      "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
      "4a7c15e9716ed28dc027beceea1ec40a" },
    { "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
      "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd"
      "454d4423643ce80e2a9ac94fa54ca49f",
      "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
      "3dca179c138ac17ad9bef1177331a704" },
};

static void test_ed25519_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rfc8032 / sizeof *rfc8032; i++) {
        uint8_t seed[32], pub[32], msg[64], sig[64], got[64];
        unhex(rfc8032[i].seed, seed, sizeof seed);
        unhex(rfc8032[i].pub, pub, sizeof pub);
        unhex(rfc8032[i].sig, sig, sizeof sig);
        size_t n = unhex(rfc8032[i].msg, msg, sizeof msg);
        port_crypto.ed25519_public(seed, got);
        assert_memory_equal(got, pub, 32);
        for (size_t cut = 0; cut <= n; cut++) { /* the parts are one message */
            struct span parts[2] = { { msg, cut }, { msg + cut, n - cut } };
            port_crypto.ed25519_sign(seed, parts, 2, got);
            assert_memory_equal(got, sig, 64);
            assert_true(port_crypto.ed25519_verify(pub, parts, 2, sig));
        }
    }
}

static void test_ed25519_refuses_every_flipped_bit(void **state)
{
    (void)state;
    uint8_t seed[32], pub[32], msg[2], sig[64];
    unhex(rfc8032[2].seed, seed, sizeof seed);
    unhex(rfc8032[2].pub, pub, sizeof pub);
    unhex(rfc8032[2].sig, sig, sizeof sig);
    unhex(rfc8032[2].msg, msg, sizeof msg);
    struct span part = { msg, 2 };
    for (size_t bit = 0; bit < 64 * 8; bit++) {
        sig[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(port_crypto.ed25519_verify(pub, &part, 1, sig));
        sig[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t bit = 0; bit < 16; bit++) {
        msg[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(port_crypto.ed25519_verify(pub, &part, 1, sig));
        msg[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t bit = 0; bit < 32 * 8; bit++) { /* points that are none included */
        pub[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(port_crypto.ed25519_verify(pub, &part, 1, sig));
        pub[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(port_crypto.ed25519_verify(pub, &part, 1, sig));
}

static void test_ed25519_takes_five_kilobytes(void **state)
{
    (void)state;
    static uint8_t big[5120];
    uint8_t seed[32] = { 7 }, pub[32], sig[64];
    struct span part = { big, sizeof big };
    port_crypto.ed25519_public(seed, pub);
    port_crypto.ed25519_sign(seed, &part, 1, sig);
    assert_true(port_crypto.ed25519_verify(pub, &part, 1, sig));
}

static void test_random_fills_everything(void **state)
{
    (void)state;
    /* Larger than one getrandom call yields at once; a run of 32 zero bytes means a part was left out. */
    size_t n = 1u << 20, zeros = 0, longest = 0;
    uint8_t *p = calloc(1, n);
    assert_non_null(p);
    port_crypto.random(p, n);
    for (size_t i = 0; i < n; i++) {
        zeros = p[i] ? 0 : zeros + 1;
        longest = zeros > longest ? zeros : longest;
    }
    assert_true(longest < 32);
    free(p);
    port_crypto.random(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_vectors_in_any_pieces),
        cmocka_unit_test(test_a_running_hash_can_be_copied),
        cmocka_unit_test(test_hmac_vectors),
        cmocka_unit_test(test_ed25519_vectors),
        cmocka_unit_test(test_ed25519_refuses_every_flipped_bit),
        cmocka_unit_test(test_ed25519_takes_five_kilobytes),
        cmocka_unit_test(test_random_fills_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
