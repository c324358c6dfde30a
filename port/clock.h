/* port/clock.h - the time of this machine. Engines never ask: their caller tells them. Any thread. */
#ifndef ROOST_PORT_CLOCK_H
#define ROOST_PORT_CLOCK_H

#include <stdint.h>

uint64_t clock_mono_ms(void); /* never goes back; its zero means nothing */
uint64_t clock_wall_ms(void); /* since 1970, as far as this machine knows */

#endif
