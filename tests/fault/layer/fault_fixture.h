/* tests/fault/layer/fault_fixture.h - what tests of one backend with failing calls share: a directory, and a
 * child that is killed. Include it once in a program. */
#ifndef ROOST_TESTS_FAULT_LAYER_FAULT_FIXTURE_H
#define ROOST_TESTS_FAULT_LAYER_FAULT_FIXTURE_H

#include "base/err.h"
#include "tests/fault/layer/faults.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[96]; /* of the backend; not there when a test begins with wipe() */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static void wipe(void)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static bool is_fault(enum err e)
{
    return e == ERR_IO || e == ERR_FULL || e == ERR_NOMEM;
}

/* Runs the tests with `dir` below memory: that is enough where no power fails, and flushing it takes no time.
 * Returns what main() does. */
static int fault_main(const char *name, int (*run)(void))
{
    char top[64];
    snprintf(top, sizeof top, "%s/roost-fault-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(top))
        return 1;
    snprintf(dir, sizeof dir, "%s/%s", top, name);
    int failed = run();
    wipe();
    rmdir(top);
    return failed;
}

/* A child that works until it is killed and writes what was acknowledged to *fd; it counts from `from`. */
static inline pid_t child_start(void (*child)(int fd, uint32_t from), uint32_t from, int *fd)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        close(fds[0]);
        child(fds[1], from);
        _exit(1); /* it never returns */
    }
    close(fds[1]);
    *fd = fds[0];
    return pid;
}

/* After it was killed, and all that it wrote was read. */
static inline void child_end(pid_t pid, int fd)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    close(fd);
}

#endif
