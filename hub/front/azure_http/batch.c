/* hub/front/azure_http/batch.c - see batch.h. */
#include "hub/front/azure_http/batch.h"

#define ITEM_ARENA_MAX (1u << 20)

static struct batch_item *item_at(void *items, size_t i, size_t stride)
{
    return (struct batch_item *)(void *)((uint8_t *)items + i * stride);
}

static void home(struct op *op)
{
    struct batch *b = ((struct batch_item *)(void *)op)->batch;
    if (--b->left == 0)
        b->then(b->j);
}

void batch_start(struct batch *b, struct job *j, void *items, size_t nr, size_t stride,
                 enum err (*run)(struct store_tx *tx, struct store_op *self), job_fn *then)
{
    *b = (struct batch){ j, nr, then };
    for (size_t i = 0; i < nr; i++) {
        struct batch_item *it = item_at(items, i, stride);
        it->batch = b;
        arena_init(&it->a, ITEM_ARENA_MAX);
        it->store.run = run;
        it->store.op.home = worker_mailbox(j->r->worker);
        it->store.op.done = home;
    }
    for (size_t i = 0; i < nr; i++) /* none comes home inside of this call: they have a home */
        store_write(j->h->store, &item_at(items, i, stride)->store);
    if (!nr)
        then(j);
}

void batch_free(void *items, size_t nr, size_t stride)
{
    for (size_t i = 0; i < nr; i++)
        arena_fini(&item_at(items, i, stride)->a);
}
