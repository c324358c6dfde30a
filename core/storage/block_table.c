/* core/storage/block_table.c - see block_table.h. */
#include "core/storage/block_table.h"

void block_table_put(struct wr *w, const struct table_block *b)
{
    wr_u8(w, (uint8_t)b->id.n);
    wr_put(w, b->id);
    wr_le64(w, b->length);
}

enum err block_table_next(struct span *rest, struct table_block *out)
{
    struct rd r = rd_of(*rest);
    if (!rest->n)
        return ERR_STOPPED;
    size_t n = rd_u8(&r);
    struct span id = rd_take(&r, n);
    uint64_t length = rd_le64(&r);
    if (r.bad || !n || n > BLOCK_TABLE_ID_MAX)
        return ERR_PROTO;
    *out = (struct table_block){ id, length };
    *rest = span_of(r.p, r.n);
    return ERR_OK;
}
