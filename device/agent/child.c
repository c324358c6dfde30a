/* device/agent/child.c - see child.h. */
#include "device/agent/child.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The child's side, between fork and exec: only what is safe there. */
static void become(char *const argv[], char *const env[], const char *dir, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    for (int sig = 1; sig < 32; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            signal(sig, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before we asked */
        _exit(126);
    int null = open("/dev/null", O_RDWR);
    if (null >= 0)
        dup2(null, STDIN_FILENO);
    if (dir && chdir(dir) < 0)
        _exit(126);
    execve(argv[0], argv, env);
    _exit(127);
}

enum err child_start(struct child *c, char *const argv[], char *const env[], const char *dir)
{
    size_t ours = 0, more = 0;
    while (environ[ours])
        ours++;
    while (env && env[more])
        more++;
    char **all = calloc(ours + more + 1, sizeof *all);
    if (!all)
        return ERR_NOMEM;
    if (more)
        memcpy(all, env, more * sizeof *all);
    size_t n = more;
    for (size_t i = 0; i < ours; i++)
        if (strncmp(environ[i], "NOTIFY_SOCKET=", 14) != 0 && strncmp(environ[i], "WATCHDOG_", 9) != 0 &&
            strncmp(environ[i], "ROOST_", 6) != 0) /* what is ours to say */
            all[n++] = environ[i];
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(argv, all, dir, parent);
    free(all);
    if (pid < 0) {
        log_error("child.start", "error=\"%s\"", strerror(errno));
        return ERR_IO;
    }
    setpgid(pid, pid); /* both sides do it: whoever comes first */
    *c = (struct child){ .pid = pid };
    return ERR_OK;
}

void child_sweep(pid_t group)
{
    if (group > 0)
        (void)kill(-group, SIGKILL);
}

bool child_reap(struct child *c)
{
    if (!c->pid || waitpid(c->pid, &c->status, WNOHANG) != c->pid)
        return false;
    child_sweep(c->pid);
    c->pid = 0;
    c->kill_at = 0;
    return true;
}

void child_stop(struct child *c, uint64_t now_ms, uint32_t grace_ms)
{
    if (!c->pid || c->kill_at)
        return;
    c->kill_at = now_ms + grace_ms + 1;
    (void)kill(-c->pid, SIGTERM);
}

void child_tick(struct child *c, uint64_t now_ms)
{
    if (c->pid && c->kill_at && now_ms >= c->kill_at)
        child_sweep(c->pid);
}
