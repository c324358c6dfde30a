/* tests/fuzz/fuzz_block_table.c - any bytes as a table of blocks: ids lie inside, it ends, and what was read
 * is written as it stood. */
#include "core/storage/block_table.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = span_of(data, size);
    struct table_block b;
    enum err e;
    uint8_t mem[BLOCK_TABLE_ID_MAX + 9];
    for (;;) {
        struct span before = rest;
        struct wr w = { mem, sizeof mem, 0 };
        e = block_table_next(&rest, &b);
        if (e)
            break;
        if (!b.id.n || b.id.p < data || b.id.p + b.id.n > data + size)
            abort();
        block_table_put(&w, &b);
        if (!wr_ok(&w) || w.len != before.n - rest.n || memcmp(mem, before.p, w.len) != 0)
            abort();
    }
    if (e != ERR_STOPPED && e != ERR_PROTO)
        abort();
    return 0;
}
