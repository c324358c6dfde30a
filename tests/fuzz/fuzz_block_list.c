/* tests/fuzz/fuzz_block_list.c - any bytes as a list of blocks: entries lie inside, and it ends. */
#include "core/storage/block_list.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct block_list l;
    struct block_entry b;
    enum err e;
    size_t nr = 0;
    block_list_init(&l, span_of(data, size));
    while ((e = block_list_next(&l, &b)) == ERR_OK)
        if (!b.id.n || b.id.p < data || b.id.p + b.id.n > data + size || ++nr > size)
            abort();
    if (e != ERR_STOPPED && e != ERR_PROTO)
        abort();
    return 0;
}
