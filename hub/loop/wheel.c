/* hub/loop/wheel.c - the timer wheel of wheel.h. */
#include "hub/loop/wheel.h"

void wheel_init(struct wheel *w, uint64_t now_ms)
{
    w->now_ms = now_ms;
    list_init(&w->due);
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        w->occupied[level] = 0;
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
            list_init(&w->slots[level][slot]);
    }
}

void wheel_put(struct wheel *w, struct timer *t)
{
    if (t->at_ms <= w->now_ms) {
        list_push(&w->due, &t->node);
        return;
    }
    unsigned level = (unsigned)(63 - __builtin_clzll(t->at_ms ^ w->now_ms)) / WHEEL_BITS;
    unsigned slot = (unsigned)(t->at_ms >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1);
    w->occupied[level] |= UINT64_C(1) << slot;
    list_push(&w->slots[level][slot], &t->node);
}

/* The first slot that has a timer. Lower levels always come before higher ones: their timers agree with now
 * in all higher digits. */
static struct list *next_slot(struct wheel *w, uint64_t *at_ms)
{
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        while (w->occupied[level]) {
            unsigned slot = (unsigned)__builtin_ctzll(w->occupied[level]);
            struct list *l = &w->slots[level][slot];
            if (!list_is_empty(l)) {
                unsigned shift = level * WHEEL_BITS;
                uint64_t above =
                    shift + WHEEL_BITS < 64 ? w->now_ms >> (shift + WHEEL_BITS) << (shift + WHEEL_BITS) : 0;
                *at_ms = above | (uint64_t)slot << shift;
                return l;
            }
            w->occupied[level] &= ~(UINT64_C(1) << slot); /* its timers were disarmed */
        }
    }
    return NULL;
}

void wheel_advance(struct wheel *w, uint64_t now_ms)
{
    struct list *slot, *n;
    uint64_t at_ms;
    while ((slot = next_slot(w, &at_ms)) && at_ms <= now_ms) {
        w->now_ms = at_ms;
        while ((n = list_pop(slot)))
            wheel_put(w, CONTAINER_OF(n, struct timer, node)); /* always lower: this ends */
    }
    if (now_ms > w->now_ms)
        w->now_ms = now_ms;
}

uint64_t wheel_next_ms(struct wheel *w)
{
    uint64_t at_ms;
    if (!list_is_empty(&w->due))
        return w->now_ms;
    return next_slot(w, &at_ms) ? at_ms : UINT64_MAX;
}
