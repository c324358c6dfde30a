/* base/log.c - formats one line and writes it with one call, so lines of several threads do not mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Atomic int max_level = LOG_LEVEL_INFO;
static int out_fd = STDERR_FILENO;
static int with_priority; /* the journal reads "<6>" and keeps it as the priority */

void log_init(enum log_level max, FILE *to)
{
    atomic_store(&max_level, (int)max);
    out_fd = fileno(to);
    with_priority = getenv("JOURNAL_STREAM") != NULL;
}

void log_set_level(enum log_level max)
{
    atomic_store(&max_level, (int)max);
}

void log_event(enum log_level level, const char *event, const char *pairs, ...)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    static const char *const priorities[] = { "<3>", "<4>", "<6>", "<7>" };
    char line[1024];
    if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
        return;
    int n =
        snprintf(line, sizeof line, "%s%s %s", with_priority ? priorities[level] : "", names[level], event);
    if (n < 0 || (size_t)n >= sizeof line - 2)
        return;
    size_t len = (size_t)n;
    if (pairs[0]) {
        va_list ap;
        line[len++] = ' ';
        va_start(ap, pairs);
        n = vsnprintf(line + len, sizeof line - len - 1, pairs, ap);
        va_end(ap);
        if (n > 0)
            len += (size_t)n < sizeof line - len - 1 ? (size_t)n : sizeof line - len - 2;
    }
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[len++] = '\n';
    if (write(out_fd, line, len) < 0)
        return; /* nowhere to say it */
}
