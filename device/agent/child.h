/* device/agent/child.h - one child process in a process group of its own: start, ask whether it ended, end
 * it politely, then not. The caller reaps on SIGCHLD. Used for the application and for the health command. */
#ifndef ROOST_DEVICE_AGENT_CHILD_H
#define ROOST_DEVICE_AGENT_CHILD_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct child {
    pid_t pid;        /* 0: none runs */
    uint64_t kill_at; /* SIGKILL then; 0: not asked to end */
    int status;       /* of the last one that ended, as waitpid gives it */
};

/* argv[0] is executed; env: "NAME=value" entries added to ours, NULL-terminated; dir: working directory.
 * The child dies with the agent. ERR_IO when it cannot be started (a failing exec shows as exit 127). */
MUST_USE enum err child_start(struct child *c, char *const argv[], char *const env[], const char *dir);
bool child_reap(struct child *c); /* true: it ended just now */
/* SIGTERM to the group now, SIGKILL after grace_ms. Nothing when none runs. */
void child_stop(struct child *c, uint64_t now_ms, uint32_t grace_ms);
void child_tick(struct child *c, uint64_t now_ms); /* the SIGKILL, when its time has come */
/* What is left of the group (children of the child) is killed too. */
void child_sweep(pid_t group);

#endif
