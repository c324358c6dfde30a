/* hub/front/mqtt/throttled.c - connections over the rate of telemetry: MQTT 3.1.1 cannot say no to a publish,
 * so what has come is served and nothing more is read until the rate allows the next; who would wait longer
 * than the configured patience is closed. Source: docs/limits.md, "Rates". */
#include "hub/front/mqtt/session.h"

#include <stdlib.h>

struct hold { /* owned by its worker's list; one a connection at most, as its session's `held` says */
    struct list node;
    struct timer timer;
    struct mqtt_worker *mw;
    struct bus_addr addr;
};

static void hold_free(struct hold *h)
{
    list_del(&h->node);
    timer_disarm(&h->timer);
    free(h);
}

static void on_timer(struct timer *t)
{
    struct hold *h = CONTAINER_OF(t, struct hold, timer);
    struct conn *c = session_find(h->mw, h->addr);
    hold_free(h);
    if (!c)
        return;
    session_of(c)->held = 0;
    session_resume(c);
}

bool session_throttle_send(struct conn *c)
{
    struct throttle *t = session_hub(c)->throttle;
    struct mqtt_worker *mw = session_worker(c);
    if (!t)
        return true;
    struct throttle_verdict v =
        throttle_take(t, THROTTLE_D2C_SENDS, SPAN_NONE, 1, worker_now_ms(mw->w), throttle_patience_ms(t));
    if (v.allowed && !v.wait_ms)
        return true;
    if (!v.allowed) {
        session_refuse(c, CONN_CLOSE_LIMIT, "throttled");
        return false;
    }
    struct hold *h = calloc(1, sizeof *h);
    if (!h) {
        conn_close(c, CONN_CLOSE_INTERNAL);
        return false;
    }
    h->mw = mw;
    h->addr = conn_addr(c);
    h->timer.on_timer = on_timer;
    list_push(&mw->holds, &h->node);
    timer_arm(mw->w, &h->timer, worker_now_ms(mw->w) + v.wait_ms);
    session_of(c)->held = 1;
    return true;
}

void session_holds_free(struct mqtt_worker *mw)
{
    while (!list_is_empty(&mw->holds))
        hold_free(CONTAINER_OF(mw->holds.next, struct hold, node));
}
