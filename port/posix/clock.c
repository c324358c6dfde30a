/* port/posix/clock.c - the clocks of a POSIX system. */
#include "port/clock.h"

#include <time.h>

static uint64_t read_ms(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

uint64_t clock_mono_ms(void)
{
    /* CLOCK_BOOTTIME: a laptop that slept has not paused its deadlines. */
    return read_ms(CLOCK_BOOTTIME);
}

uint64_t clock_wall_ms(void)
{
    return read_ms(CLOCK_REALTIME);
}
