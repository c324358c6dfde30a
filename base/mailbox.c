/* base/mailbox.c - the lock-free mailbox of op.h: a stack that the reader turns round. */
#include "base/op.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum err mailbox_init(struct mailbox *m)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0)
        return ERR_IO;
    atomic_init(&m->head, NULL);
    m->wake_fd = fd;
    return ERR_OK;
}

void mailbox_fini(struct mailbox *m)
{
    if (m->wake_fd >= 0)
        close(m->wake_fd);
    m->wake_fd = -1;
}

void mailbox_post(struct mailbox *m, struct op *op)
{
    struct op *head = atomic_load_explicit(&m->head, memory_order_relaxed);
    /* The reader may free op (and, at shutdown, the mailbox) as soon as it is linked: copy first. */
    int fd = m->wake_fd;
    do {
        op->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&m->head, &head, op, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if (!head) { /* it was empty: the reader may be asleep */
        uint64_t one = 1;
        while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
            ;
    }
}

struct op *mailbox_take(struct mailbox *m)
{
    uint64_t n;
    /* First the event, then the list: a post in between leaves the event set, which is harmless. */
    while (read(m->wake_fd, &n, sizeof n) < 0 && errno == EINTR)
        ;
    struct op *op = atomic_exchange_explicit(&m->head, NULL, memory_order_acq_rel);
    struct op *first = NULL;
    while (op) {
        struct op *next = op->next;
        op->next = first;
        first = op;
        op = next;
    }
    return first;
}

void mailbox_wait(struct mailbox *m, int timeout_ms)
{
    struct pollfd p = { .fd = m->wake_fd, .events = POLLIN };
    while (poll(&p, 1, timeout_ms) < 0 && errno == EINTR)
        ;
}

void op_complete(struct op *op, enum err err)
{
    op->err = err;
    if (op->home)
        mailbox_post(op->home, op);
    else
        op->done(op);
}
