/* core/storage/block_table.h - the blocks that a blob was put together from, in their order, as the hub keeps
 * them beside it: for each the length of its id (1 byte, 1 to 64), the id, the bytes it has (8,
 * little-endian). Pure; C99. */
#ifndef ROOST_CORE_STORAGE_BLOCK_TABLE_H
#define ROOST_CORE_STORAGE_BLOCK_TABLE_H

#include "base/err.h"
#include "base/span.h"

#define BLOCK_TABLE_ID_MAX 64u

struct table_block {
    struct span id;  /* decoded; 1 to BLOCK_TABLE_ID_MAX bytes */
    uint64_t length; /* bytes of the blob */
};
void block_table_put(struct wr *w, const struct table_block *b);
/* The next one; its id points into the table. ERR_STOPPED: there is none left; ERR_PROTO: this is no table.
 */
MUST_USE enum err block_table_next(struct span *rest, struct table_block *out);

#endif
