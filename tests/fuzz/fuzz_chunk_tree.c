/* tests/fuzz/fuzz_chunk_tree.c - a shape and a payload of any bytes, fed in pieces: the tree is never written
 * past its end, and a refused piece changes nothing. */
#include "core/trust/chunk_tree.h"
#include "port/crypto.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chunk_shape s;
    struct chunk_builder b;
    uint8_t root[SHA256_LEN];

    if (size < 5 || chunk_shape_of((uint32_t)(data[0] | data[1] << 8), data[2], data[3], &s))
        return 0;
    uint8_t *tree = malloc(chunk_tree_len(&s)); /* exactly: ASan sees a byte too many */
    size_t piece = data[4] + 1u;
    data += 5, size -= 5;
    chunk_builder_init(&b, &port_crypto, &s, tree);
    for (size_t at = 0; at < size; at += piece) {
        uint32_t before = b.fed;
        struct span part = span_of(data + at, size - at < piece ? size - at : piece);
        if (chunk_builder_feed(&b, part) == ERR_OK ? b.fed != before + part.n : b.fed != before)
            abort();
    }
    if ((chunk_builder_finish(&b, root) == ERR_OK) != (b.fed == s.payload_len))
        abort();
    free(tree);
    return 0;
}
