/* base/mailbox_test.c - several writers, one reader: nothing lost, nothing twice, order kept per writer. */
#include "base/log.h"
#include "base/op.h"
#include "base/span.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { WRITERS = 4, EACH = 20000 };

struct letter {
    struct op op;
    int from, nr;
};
struct writer {
    pthread_t thread;
    struct mailbox *to;
    struct letter *letters;
    int index;
};

static void *write_all(void *arg)
{
    struct writer *w = arg;
    for (int i = 0; i < EACH; i++) {
        w->letters[i] = (struct letter){ .from = w->index, .nr = i };
        mailbox_post(w->to, &w->letters[i].op);
    }
    return NULL;
}

static void nothing_is_lost_and_order_is_kept(void **state)
{
    struct mailbox m;
    struct writer w[WRITERS];
    int next[WRITERS] = { 0 }, got = 0;
    (void)state;
    assert_int_equal(mailbox_init(&m), ERR_OK);
    for (int i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){ .to = &m, .letters = calloc(EACH, sizeof(struct letter)), .index = i };
        assert_non_null(w[i].letters);
        assert_int_equal(pthread_create(&w[i].thread, NULL, write_all, &w[i]), 0);
    }
    while (got < WRITERS * EACH) {
        mailbox_wait(&m, -1);
        for (struct op *op = mailbox_take(&m); op; op = op->next, got++) {
            struct letter *l = (struct letter *)(void *)op;
            assert_int_equal(l->nr, next[l->from]++);
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(w[i].thread, NULL);
        free(w[i].letters);
    }
    assert_null(mailbox_take(&m));
    mailbox_fini(&m);
}

static void count_down(struct op *op)
{
    assert_int_equal(op->err, ERR_LIMIT);
    ((struct letter *)(void *)op)->nr--;
}

static void an_op_without_a_home_is_done_at_once(void **state)
{
    struct letter l = { .op = { .done = count_down }, .nr = 1 };
    (void)state;
    op_complete(&l.op, ERR_LIMIT);
    assert_int_equal(l.nr, 0);
}

static void a_peer_cannot_forge_a_log_line(void **state)
{
    char buf[256] = { 0 };
    int fd[2];
    (void)state;
    assert_int_equal(pipe(fd), 0);
    FILE *to = fdopen(fd[1], "w");
    assert_non_null(to);
    log_init(LOG_LEVEL_INFO, to);
    log_warn("conn.proto", "device=%s", "a\nerror forged");
    log_debug("conn.quiet", "%s", "");
    assert_true(read(fd[0], buf, sizeof buf - 1) > 0);
    assert_non_null(strstr(buf, "warn conn.proto device=a?error forged\n"));
    assert_null(strstr(buf, "quiet"));
    log_init(LOG_LEVEL_INFO, stderr);
    fclose(to);
    close(fd[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_and_order_is_kept),
        cmocka_unit_test(an_op_without_a_home_is_done_at_once),
        cmocka_unit_test(a_peer_cannot_forge_a_log_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
