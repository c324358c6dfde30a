/* hub/loop/wheel.h - the timers of one loop: a wheel of eleven digits to the base 64, so that arming, moving
 * and disarming cost the same with ten timers or a million, and a timer is its owner's memory alone.
 * One thread. Knows no clock: it is told the time. */
#ifndef ROOST_HUB_LOOP_WHEEL_H
#define ROOST_HUB_LOOP_WHEEL_H

#include "hub/loop/worker.h"

enum { WHEEL_BITS = 6, WHEEL_SLOTS = 1 << WHEEL_BITS, WHEEL_LEVELS = 11 };

/* A timer stands on the level of the highest digit in which its time differs from now, in the slot of that
 * digit. When now reaches the slot, its timers fall to lower levels, or are due. */
struct wheel {
    uint64_t now_ms;
    struct list due;                 /* the time has come; not yet run */
    uint64_t occupied[WHEEL_LEVELS]; /* a bit a slot; may be set for one that has become empty */
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, uint64_t now_ms);
void wheel_put(struct wheel *w, struct timer *t); /* t is on no list; t->at_ms says when */
void wheel_advance(struct wheel *w, uint64_t now_ms);
/* When to call wheel_advance next: never late, perhaps early (a slot that only falls). UINT64_MAX: no timer.
 */
uint64_t wheel_next_ms(struct wheel *w);

#endif
