/* tests/conformance/peers/clock_ahead.c - set before the C library of a hub (LD_PRELOAD): its monotonic
 * clocks are ahead by as many milliseconds as the file says that CLOCK_AHEAD names (8 bytes, low first), so
 * that a test sees half an hour go by. Built and used by keepalive.test.mjs. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead; /* NULL before start() */

__attribute__((constructor)) static void start(void)
{
    const char *name = getenv("CLOCK_AHEAD");
    int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        abort();
    close(fd);
    ahead = map;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    int r = (int)syscall(SYS_clock_gettime, id, ts);
    if (!r && ahead && (id == CLOCK_MONOTONIC || id == CLOCK_BOOTTIME)) {
        ts->tv_sec += *ahead / 1000;
        ts->tv_nsec += *ahead % 1000 * 1000000;
        if (ts->tv_nsec >= 1000000000) {
            ts->tv_nsec -= 1000000000;
            ts->tv_sec++;
        }
    }
    return r;
}
