/* hub/loop/pool.c - the threads of pool.h: one queue, whoever is free takes the oldest. */
#include "hub/loop/pool.h"

#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct op *first, **last; /* the queue */
    bool stopping;
    unsigned thread_nr;
    pthread_t threads[];
};

static void *thread_main(void *arg)
{
    struct pool *p = arg;
    pthread_setname_np(pthread_self(), "pool");
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->first && !p->stopping)
            pthread_cond_wait(&p->work, &p->lock);
        struct op *op = p->first;
        if (!op)
            break; /* stopping, and nothing is left */
        p->first = op->next;
        if (!p->first)
            p->last = &p->first;
        pthread_mutex_unlock(&p->lock);
        struct pool_op *po = (struct pool_op *)(void *)op;
        op_complete(op, po->run(po));
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

enum err pool_new(struct pool **out, unsigned threads)
{
    struct pool *p = calloc(1, sizeof *p + threads * sizeof p->threads[0]);
    if (!p)
        return ERR_NOMEM;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    p->last = &p->first;
    for (; p->thread_nr < threads; p->thread_nr++) {
        int e = pthread_create(&p->threads[p->thread_nr], NULL, thread_main, p);
        if (e) {
            log_error("pool.start", "errno=%d", e);
            pool_free(p);
            return ERR_IO;
        }
    }
    *out = p;
    return ERR_OK;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->thread_nr; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void pool_run(struct pool *p, struct pool_op *op)
{
    op->op.next = NULL;
    pthread_mutex_lock(&p->lock);
    *p->last = &op->op;
    p->last = &op->op.next;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}
