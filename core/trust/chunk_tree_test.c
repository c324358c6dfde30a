/* core/trust/chunk_tree_test.c - shapes at their edges, and a tree checked from outside, hash by hash. */
#include "core/trust/sample_test.h"

static void test_shapes(void **state)
{
    (void)state;
    static const struct {
        uint32_t len, chunks, pages, last_chunk, last_page;
    } cases[] = {
        { 1, 1, 1, 1, 32 },
        { 4096, 1, 1, 4096, 32 },
        { 4097, 2, 1, 1, 64 },
        { 4096 * 32, 32, 1, 4096, 1024 },
        { 4096 * 32 + 1, 33, 2, 1, 32 },
        { UINT32_MAX, 1u << 20, 1u << 15, 4095, 1024 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct chunk_shape s;
        assert_int_equal(chunk_shape_of(cases[i].len, 12, 32, &s), ERR_OK);
        assert_int_equal(s.chunk_nr, cases[i].chunks);
        assert_int_equal(s.page_nr, cases[i].pages);
        assert_int_equal(chunk_len_of(&s, s.chunk_nr - 1), cases[i].last_chunk);
        assert_int_equal(chunk_page_len(&s, s.page_nr - 1), cases[i].last_page);
        assert_int_equal(chunk_page_offset(&s, 0), chunk_root_list_len(&s));
        assert_int_equal(chunk_page_offset(&s, s.page_nr - 1) + cases[i].last_page, chunk_tree_len(&s));
    }
}

static void test_shape_limits(void **state)
{
    (void)state;
    struct chunk_shape s;
    assert_int_equal(chunk_shape_of(0, 12, 32, &s), ERR_LIMIT);
    assert_int_equal(chunk_shape_of(1, 8, 32, &s), ERR_LIMIT);
    assert_int_equal(chunk_shape_of(1, 9, 32, &s), ERR_OK);
    assert_int_equal(chunk_shape_of(1, 20, 32, &s), ERR_OK);
    assert_int_equal(chunk_shape_of(1, 21, 32, &s), ERR_LIMIT);
    assert_int_equal(chunk_shape_of(1, 12, 0, &s), ERR_LIMIT);
    assert_int_equal(chunk_shape_of(1, 12, 64, &s), ERR_OK);
    assert_int_equal(chunk_shape_of(1, 12, 65, &s), ERR_LIMIT);
    assert_int_equal(chunk_shape_of(UINT32_MAX, 9, 1, &s), ERR_OK); /* the largest tree there is */
    assert_int_equal(s.chunk_nr, 1u << 23);
    assert_int_equal(chunk_tree_len(&s), 1u << 29);
}

static void payload_fill(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 7 + i / 251);
}

static void test_a_tree_hash_by_hash(void **state)
{
    (void)state;
    static const uint32_t lens[] = { 1, 511, 512, 513, 512 * 3, 512 * 3 + 1, 512 * 10 + 100 };
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        uint8_t payload[8192], tree[4096], root[SHA256_LEN], h[SHA256_LEN];
        struct chunk_shape s;
        struct chunk_builder b;
        payload_fill(payload, lens[i]);
        assert_int_equal(chunk_shape_of(lens[i], 9, 3, &s), ERR_OK);
        memset(tree, 0xcc, sizeof tree);
        chunk_builder_init(&b, &port_crypto, &s, tree);
        assert_int_equal(chunk_builder_feed(&b, span_of(payload, lens[i])), ERR_OK);
        assert_int_equal(chunk_builder_finish(&b, root), ERR_OK);
        assert_int_equal(tree[chunk_tree_len(&s)], 0xcc); /* not a byte further */
        crypto_sha256(&port_crypto, span_of(tree, chunk_root_list_len(&s)), h);
        assert_memory_equal(h, root, SHA256_LEN);
        for (uint32_t p = 0; p < s.page_nr; p++) {
            const uint8_t *page = tree + chunk_page_offset(&s, p);
            crypto_sha256(&port_crypto, span_of(page, chunk_page_len(&s, p)), h);
            assert_memory_equal(h, tree + p * SHA256_LEN, SHA256_LEN);
            for (uint32_t k = 0; k < chunk_page_len(&s, p) / SHA256_LEN; k++) {
                uint32_t chunk = p * s.fan_out + k;
                crypto_sha256(&port_crypto, span_of(payload + chunk * s.chunk_len, chunk_len_of(&s, chunk)),
                              h);
                assert_memory_equal(h, page + k * SHA256_LEN, SHA256_LEN);
            }
        }
    }
}

static void test_pieces_do_not_matter(void **state)
{
    (void)state;
    enum { LEN = 512 * 5 + 77 };
    uint8_t payload[LEN], one[1024], other[1024], root[SHA256_LEN], root2[SHA256_LEN];
    struct chunk_shape s;
    struct chunk_builder b;
    payload_fill(payload, LEN);
    assert_int_equal(chunk_shape_of(LEN, 9, 2, &s), ERR_OK);
    chunk_builder_init(&b, &port_crypto, &s, one);
    assert_int_equal(chunk_builder_feed(&b, span_of(payload, LEN)), ERR_OK);
    assert_int_equal(chunk_builder_finish(&b, root), ERR_OK);
    for (size_t piece = 1; piece <= 1100; piece += 3) {
        chunk_builder_init(&b, &port_crypto, &s, other);
        for (size_t at = 0; at < LEN; at += piece) {
            assert_int_equal(chunk_builder_finish(&b, root2), ERR_AGAIN);
            assert_int_equal(
                chunk_builder_feed(&b, span_of(payload + at, LEN - at < piece ? LEN - at : piece)), ERR_OK);
        }
        assert_int_equal(chunk_builder_finish(&b, root2), ERR_OK);
        assert_memory_equal(root, root2, SHA256_LEN);
        assert_memory_equal(one, other, chunk_tree_len(&s));
    }
}

static void test_one_byte_too_many(void **state)
{
    (void)state;
    uint8_t payload[1025] = { 0 }, tree[128], root[SHA256_LEN];
    struct chunk_shape s;
    struct chunk_builder b;
    assert_int_equal(chunk_shape_of(1024, 9, 32, &s), ERR_OK);
    chunk_builder_init(&b, &port_crypto, &s, tree);
    assert_int_equal(chunk_builder_feed(&b, span_of(payload, 1025)), ERR_LIMIT);
    assert_int_equal(chunk_builder_feed(&b, span_of(payload, 1024)), ERR_OK); /* nothing had been taken */
    assert_int_equal(chunk_builder_feed(&b, span_of(payload, 1)), ERR_LIMIT);
    assert_int_equal(chunk_builder_finish(&b, root), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_shape_limits),
        cmocka_unit_test(test_a_tree_hash_by_hash),
        cmocka_unit_test(test_pieces_do_not_matter),
        cmocka_unit_test(test_one_byte_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
