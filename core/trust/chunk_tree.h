/* core/trust/chunk_tree.h - the hash tree that lets a device check a payload piece by piece. Pure.
 * A payload is cut into chunks of 1 << chunk_code bytes (4 KB); the hashes of fan_out (32) chunks, one
 * after the other, form a page (1 KB, the last one shorter); the SHA-256 of each page form the root list;
 * the manifest holds the SHA-256 of the root list. The tree file of a payload is the root list followed by
 * the pages in order, so page p begins at pages_nr * 32 + p * fan_out * 32. */
#ifndef ROOST_CORE_TRUST_CHUNK_TREE_H
#define ROOST_CORE_TRUST_CHUNK_TREE_H

#include "core/crypto/crypto.h"

#define CHUNK_CODE_DEFAULT    12u
#define CHUNK_FAN_OUT_DEFAULT 32u

struct chunk_shape { /* all that follows from the payload's length */
    uint32_t payload_len, chunk_len, chunk_nr, page_nr;
    uint16_t fan_out;
};
/* ERR_LIMIT: empty payload, chunk_code outside 9..20, fan_out outside 1..64. */
MUST_USE enum err chunk_shape_of(uint32_t payload_len, uint8_t chunk_code, uint8_t fan_out,
                                 struct chunk_shape *out);
static inline uint32_t chunk_root_list_len(const struct chunk_shape *s)
{
    return s->page_nr * SHA256_LEN;
}
uint32_t chunk_page_offset(const struct chunk_shape *s, uint32_t page); /* in the tree file */
uint32_t chunk_page_len(const struct chunk_shape *s, uint32_t page);
uint32_t chunk_len_of(const struct chunk_shape *s, uint32_t chunk); /* the last one is shorter */
uint32_t chunk_tree_len(const struct chunk_shape *s);               /* whole tree file */

/* Builder: feed the payload in any pieces, then take the tree file and its root. `tree` has chunk_tree_len
 * bytes; hashes are placed straight into it. */
struct chunk_builder {
    const struct crypto_ops *c;
    struct chunk_shape shape;
    struct sha256 h;
    uint8_t *tree;
    uint32_t fed;
};
void chunk_builder_init(struct chunk_builder *b, const struct crypto_ops *c, const struct chunk_shape *s,
                        uint8_t *tree);
/* ERR_LIMIT: more bytes than the shape has. */
MUST_USE enum err chunk_builder_feed(struct chunk_builder *b, struct span s);
/* ERR_AGAIN: bytes are missing. */
MUST_USE enum err chunk_builder_finish(struct chunk_builder *b, uint8_t root[SHA256_LEN]);

#endif
