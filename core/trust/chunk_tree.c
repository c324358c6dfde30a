/* core/trust/chunk_tree.c - where everything lies in a chunk tree, and its builder. */
#include "core/trust/chunk_tree.h"

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return a / b + (a % b != 0);
}

enum err chunk_shape_of(uint32_t payload_len, uint8_t chunk_code, uint8_t fan_out, struct chunk_shape *out)
{
    if (payload_len == 0 || chunk_code < 9 || chunk_code > 20 || fan_out < 1 || fan_out > 64)
        return ERR_LIMIT;
    struct chunk_shape s = { .payload_len = payload_len, .chunk_len = 1u << chunk_code, .fan_out = fan_out };
    s.chunk_nr = ceil_div(payload_len, s.chunk_len);
    s.page_nr = ceil_div(s.chunk_nr, fan_out);
    *out = s;
    return ERR_OK;
}

uint32_t chunk_page_offset(const struct chunk_shape *s, uint32_t page)
{
    return (s->page_nr + page * s->fan_out) * SHA256_LEN;
}

uint32_t chunk_page_len(const struct chunk_shape *s, uint32_t page)
{
    uint32_t left = s->chunk_nr - page * s->fan_out;
    return (left < s->fan_out ? left : s->fan_out) * SHA256_LEN;
}

uint32_t chunk_len_of(const struct chunk_shape *s, uint32_t chunk)
{
    uint32_t left = s->payload_len - chunk * s->chunk_len;
    return left < s->chunk_len ? left : s->chunk_len;
}

uint32_t chunk_tree_len(const struct chunk_shape *s)
{
    return (s->page_nr + s->chunk_nr) * SHA256_LEN;
}

void chunk_builder_init(struct chunk_builder *b, const struct crypto_ops *c, const struct chunk_shape *s,
                        uint8_t *tree)
{
    *b = (struct chunk_builder){ .c = c, .shape = *s, .tree = tree };
    c->sha256_init(&b->h);
}

enum err chunk_builder_feed(struct chunk_builder *b, struct span s)
{
    if (s.n > b->shape.payload_len - b->fed)
        return ERR_LIMIT;
    while (s.n) {
        uint32_t chunk = b->fed / b->shape.chunk_len;
        uint32_t end = chunk * b->shape.chunk_len + chunk_len_of(&b->shape, chunk);
        size_t take = s.n < end - b->fed ? s.n : end - b->fed;
        b->c->sha256_update(&b->h, span_of(s.p, take));
        b->fed += (uint32_t)take;
        s = span_skip(s, take);
        if (b->fed == end) {
            b->c->sha256_final(&b->h, b->tree + (b->shape.page_nr + chunk) * SHA256_LEN);
            b->c->sha256_init(&b->h);
        }
    }
    return ERR_OK;
}

enum err chunk_builder_finish(struct chunk_builder *b, uint8_t root[SHA256_LEN])
{
    const struct chunk_shape *s = &b->shape;
    if (b->fed != s->payload_len)
        return ERR_AGAIN;
    for (uint32_t p = 0; p < s->page_nr; p++)
        crypto_sha256(b->c, span_of(b->tree + chunk_page_offset(s, p), chunk_page_len(s, p)),
                      b->tree + p * SHA256_LEN);
    crypto_sha256(b->c, span_of(b->tree, chunk_root_list_len(s)), root);
    return ERR_OK;
}
