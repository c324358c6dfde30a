/* base/op.h - a unit of work that crosses threads, and the mailbox it comes home to.
 * The asker fills an op (usually the first member of a larger struct, memory the asker's), hands it to
 * a backend, and gets it back through its own mailbox: done() then runs on the asker's thread.
 * Between the two calls only the backend touches it. */
#ifndef ROOST_BASE_OP_H
#define ROOST_BASE_OP_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>

struct op;
typedef void op_fn(struct op *op);

struct mailbox; /* below */
struct op {
    struct op *next;      /* the mailbox's or the backend's, nobody else's */
    struct mailbox *home; /* where it returns to; NULL: done() runs on the backend's thread */
    op_fn *done;          /* called once */
    enum err err;         /* the outcome, valid in done() */
};

/* Many writers, one reader, no lock. The reader sleeps on wake_fd (an eventfd) with its epoll. */
struct mailbox {
    _Atomic(struct op *) head; /* newest first */
    int wake_fd;
};

/* ERR_IO when no eventfd is to be had. */
MUST_USE enum err mailbox_init(struct mailbox *m);
void mailbox_fini(struct mailbox *m);
/* Any thread. The first post after a take wakes the reader; later ones cost no system call. */
void mailbox_post(struct mailbox *m, struct op *op);
/* The reader: everything posted so far, oldest first, linked by next; NULL when empty. Resets wake_fd. */
struct op *mailbox_take(struct mailbox *m);
/* The reader: blocks until something is there or timeout_ms passes (-1: for ever). */
void mailbox_wait(struct mailbox *m, int timeout_ms);

/* Backend: sets the outcome and sends the op home. The op must not be touched afterwards. */
void op_complete(struct op *op, enum err err);

#endif
