/* core/storage/block_list.h - the body of Put Block List, read without a tree:
 *     <?xml
 * ...?><BlockList><Latest>base64</Latest><Committed>..</Committed><Uncommitted>..</Uncommitted></BlockList>
 * A byte-order mark, comments, line ends and attributes are passed over. Pure; C99. Spans point into the
 * text. Source: Azure Storage REST, "Put Block List"; docs/uploads.md. */
#ifndef ROOST_CORE_STORAGE_BLOCK_LIST_H
#define ROOST_CORE_STORAGE_BLOCK_LIST_H

#include "base/err.h"
#include "base/span.h"

enum block_source { BLOCK_LATEST, BLOCK_COMMITTED, BLOCK_UNCOMMITTED };
struct block_entry {
    enum block_source source;
    struct span id; /* base64, as it stands */
};
struct block_list {
    struct span rest;
    uint8_t state;
};
void block_list_init(struct block_list *l, struct span text);
/* The next entry. ERR_STOPPED: the list is over and well formed; ERR_PROTO: it is not such a list. */
MUST_USE enum err block_list_next(struct block_list *l, struct block_entry *out);

#endif
