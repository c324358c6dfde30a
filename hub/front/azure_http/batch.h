/* hub/front/azure_http/batch.h - one request that is many writes, each for itself: one that fails undoes its
 * own and no other's. They go to the store together, so they share a flush. */
#ifndef ROOST_HUB_FRONT_AZURE_HTTP_BATCH_H
#define ROOST_HUB_FRONT_AZURE_HTTP_BATCH_H

#include "hub/front/azure_http/azure.h"

struct batch;
struct batch_item {        /* the first member of the asker's own struct */
    struct store_op store; /* first */
    struct batch *batch;
    struct arena a; /* of this item: it runs while others come home */
};
struct batch {
    struct job *j;
    size_t left;
    job_fn *then;
};

/* Runs `run` for each of the nr items, which lie stride bytes apart; then then(j) on the worker, once all are
 * home. item->store.op.err is the outcome of each. The asker calls batch_free when it has read the items. */
void batch_start(struct batch *b, struct job *j, void *items, size_t nr, size_t stride,
                 enum err (*run)(struct store_tx *tx, struct store_op *self), job_fn *then);
void batch_free(void *items, size_t nr, size_t stride);

#endif
