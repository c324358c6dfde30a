/* cli/part.c - see part.h. A signal that ends the program takes what is half written with it: an export has
 * the keys of a fleet. */
#include "cli/part.h"

#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_MAX_NR = 4 };
static const char *volatile open_parts[OPEN_MAX_NR];

static void on_end(int sig)
{
    for (unsigned i = 0; i < OPEN_MAX_NR; i++)
        if (open_parts[i])
            (void)unlink(open_parts[i]);
    (void)signal(sig, SIG_DFL); /* it ends by the signal, as whoever sent it expects */
    (void)raise(sig);
}

static void remember(const char *temp)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    const struct sigaction act = { .sa_handler = on_end };
    struct sigaction before;
    unsigned i = 0;
    while (i < OPEN_MAX_NR - 1 && open_parts[i])
        i++;
    open_parts[i] = temp;
    for (unsigned k = 0; k < sizeof signals / sizeof signals[0]; k++)
        if (sigaction(signals[k], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            (void)sigaction(signals[k], &act, NULL); /* one that is ignored (nohup) stays so */
}

static void forget(const char *temp)
{
    for (unsigned i = 0; i < OPEN_MAX_NR; i++)
        if (open_parts[i] == temp)
            open_parts[i] = NULL;
}

int part_open(struct part *o, const char *name, mode_t mode)
{
    struct stat st;
    *o = (struct part){ .name = name };
    if (strcmp(name, "-") == 0) {
        o->f = stdout;
    } else if (stat(name, &st) == 0 && !S_ISREG(st.st_mode)) {
        o->f = fopen(name, "we");
    } else {
        size_t n = strlen(name) + 6;
        o->temp = cli_alloc(n);
        snprintf(o->temp, n, "%s.part", name);
        (void)unlink(o->temp);
        int fd = open(o->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd >= 0)
            remember(o->temp);
        o->f = fd < 0 ? NULL : fdopen(fd, "w+b");
        if (!o->f && fd >= 0)
            close(fd);
    }
    return o->f ? CLI_OK : cli_fail(CLI_USAGE, NULL, "cannot write %s: %s", name, strerror(errno));
}

int part_close(struct part *o, int rc)
{
    if (o->f == stdout && fflush(stdout) && !rc)
        rc = cli_fail(CLI_USAGE, NULL, "cannot write: %s", strerror(errno));
    if (o->f && o->f != stdout) {
        bool good = !ferror(o->f) && !fflush(o->f) && (!o->temp || !fsync(fileno(o->f)));
        good = !fclose(o->f) && good;
        if (!rc && (!good || (o->temp && rename(o->temp, o->name))))
            rc = cli_fail(CLI_USAGE, NULL, "cannot write %s: %s", o->name, strerror(errno));
        if (rc && o->temp)
            (void)unlink(o->temp);
    }
    if (o->temp)
        forget(o->temp);
    free(o->temp);
    *o = (struct part){ 0 };
    return rc;
}
