/* tests/fault/layer/life_fixture.h - what tests share that kill a hub in the middle of long work, again and
 * again: its store, two directories (the hub's, and a copy to begin anew from), transactions that are waited
 * for, and one life of a hub in a process of its own. Include it once in a program. */
#ifndef ROOST_TESTS_FAULT_LAYER_LIFE_FIXTURE_H
#define ROOST_TESTS_FAULT_LAYER_LIFE_FIXTURE_H

#include "base/log.h"
#include "hub/domain/hub.h"
#include "port/clock.h"
#include "tests/fault/layer/faults.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char top[64], dir[80], fresh[80]; /* the hub's, and as it was before its first life */
static struct hub hub;
static struct mailbox mail;

/* Memory where there is some to have: no power fails here. False: it cannot be made. */
static inline bool life_dirs(void)
{
    struct stat st;
    log_init(LOG_LEVEL_ERROR, stderr);
    strcpy(top, stat("/dev/shm", &st) == 0 ? "/dev/shm/roost-life-XXXXXX" : "/tmp/roost-life-XXXXXX");
    if (!mkdtemp(top))
        return false;
    snprintf(dir, sizeof dir, "%s/hub", top);
    snprintf(fresh, sizeof fresh, "%s/fresh", top);
    return mkdir(dir, 0700) == 0;
}
static inline int life_remove(void **state)
{
    char cmd[96];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", top);
    return system(cmd);
}
static inline void copy_dir(const char *from, const char *to)
{
    char cmd[300];
    snprintf(cmd, sizeof cmd, "rm -rf '%s' && cp -r '%s' '%s'", to, from, to);
    assert_int_equal(system(cmd), 0);
}

static inline void pump(void)
{
    mailbox_wait(&mail, -1);
    for (struct op *o = mailbox_take(&mail), *next; o; o = next) {
        next = o->next;
        o->done(o);
    }
}
static inline void came(struct op *op)
{
    op->home = NULL;
}
struct step {
    struct store_op op; /* first */
    enum err (*fn)(struct store_tx *tx, void *ctx);
    void *ctx;
};
static inline enum err step_run(struct store_tx *tx, struct store_op *self)
{
    struct step *s = (struct step *)(void *)self;
    return s->fn(tx, s->ctx);
}
static inline enum err in_tx(enum err (*fn)(struct store_tx *tx, void *ctx), void *ctx)
{
    struct step s = { .op = { .run = step_run, .op = { .home = &mail, .done = came } },
                      .fn = fn,
                      .ctx = ctx };
    store_write(hub.store, &s.op);
    while (s.op.op.home)
        pump();
    return s.op.op.err;
}

/* Runs child() in a process that is killed before the k-th call of these kinds. It writes a byte to fd for
 * whatever was acknowledged; *notes, which it is given, grows by them. True: it was killed. */
static inline bool life_run(unsigned kinds, uint64_t k, void (*child)(int fd, unsigned notes),
                            unsigned *notes)
{
    int fds[2], status;
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        faults_arm(kinds, k, 1, FAULT_KILL);
        child(fds[1], *notes);
        _exit(0);
    }
    close(fds[1]);
    for (char note; read(fds[0], &note, 1) == 1;)
        ++*notes;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    assert_true(killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    return killed;
}

#endif
