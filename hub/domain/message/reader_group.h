/* hub/domain/message/reader_group.h - named groups of telemetry readers whose place the hub keeps: for each
 * partition the first record that the group has not dealt with. Readers say how far they are (commit); who
 * reads next in the group's name goes on there, after a crash of either side too. Inside a transaction. See
 * docs/api.md, "Reader groups". */
#ifndef ROOST_HUB_DOMAIN_MESSAGE_READER_GROUP_H
#define ROOST_HUB_DOMAIN_MESSAGE_READER_GROUP_H

#include "hub/store/store.h"

#define READER_GROUP_NAME_MAX 64u
#define READER_GROUPS_MAX     200u
#define READER_PARTITIONS_MAX 32u

struct hub;

struct reader_place {
    bool known;    /* false: nobody of the group has dealt with this partition yet */
    uint64_t next; /* sequence of the first record not dealt with */
};

/* 1..64 letters, digits and any of - . _ $ */
bool reader_group_name_ok(struct span name);
/* Places of all partitions, as far as the log still goes with them: when the log was made anew and is behind
 * a place, the group has seen nothing of it and the place is the log's first record. ERR_NOTFOUND: no group
 * of this name. */
MUST_USE enum err reader_group_get(struct hub *h, struct store_tx *tx, struct span name,
                                   struct reader_place places[READER_PARTITIONS_MAX]);
/* Moves places forward; the first commit makes the group. A place never goes back, so that a reader that was
 * slow does not undo what another one did. ERR_PROTO: no such partition, or beyond what there is;
 * ERR_LIMIT: there are READER_GROUPS_MAX groups. */
MUST_USE enum err reader_group_commit(struct hub *h, struct store_tx *tx, struct span name,
                                      const struct reader_place places[READER_PARTITIONS_MAX]);
/* ERR_NOTFOUND. */
MUST_USE enum err reader_group_delete(struct hub *h, struct store_tx *tx, struct span name);
/* By name. */
typedef enum err reader_group_each(void *ctx, struct span name);
MUST_USE enum err reader_group_list(struct store_tx *tx, reader_group_each *each, void *ctx);

#endif
