/* hub/front/azure_http/activity.c - see activity.h. */
#include "hub/front/azure_http/activity.h"

void activity_init(struct activity *a, struct hub *h)
{
    for (unsigned i = 0; i < ACTIVITY_WORKERS_MAX; i++)
        presence_init(&a->workers[i].presence, h);
}

void activity_fini(struct activity *a)
{
    for (unsigned i = 0; i < ACTIVITY_WORKERS_MAX; i++) {
        timer_disarm(&a->workers[i].timer);
        presence_fini(&a->workers[i].presence);
    }
}

static void on_timer(struct timer *t)
{
    struct activity_worker *a = CONTAINER_OF(t, struct activity_worker, timer);
    if (presence_flush(&a->presence))
        timer_arm(worker_self(), t, worker_now_ms(worker_self()) + ACTIVITY_MS);
}

void activity_note(struct job *j)
{
    struct worker *w = j->r->worker;
    struct activity_worker *a = &activity_of(j)->workers[worker_index(w) % ACTIVITY_WORKERS_MAX];
    if (!presence_note_activity(&a->presence, j->r->params[0], j->h->wall_ms()))
        return;
    a->timer.on_timer = on_timer;
    timer_arm(w, &a->timer, worker_now_ms(w) + ACTIVITY_MS);
}
