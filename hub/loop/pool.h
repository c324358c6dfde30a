/* hub/loop/pool.h - a few threads for what blocks: blobs, stream reads, file loading. */
#ifndef ROOST_HUB_LOOP_POOL_H
#define ROOST_HUB_LOOP_POOL_H

#include "base/op.h"

struct pool;
struct pool_op {
    struct op op;                          /* first */
    enum err (*run)(struct pool_op *self); /* on a pool thread; its result becomes op.err */
};
MUST_USE enum err pool_new(struct pool **out, unsigned threads);
void pool_free(struct pool *p);                    /* finishes what was handed over */
void pool_run(struct pool *p, struct pool_op *op); /* any thread; not after pool_free */

#endif
