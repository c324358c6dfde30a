/* hub/front/azure_http/activity.h - when a device was last heard over HTTPS: gathered on each worker and
 * written in batches, at most once a minute. Whether it is connected is not touched: that is said of
 * sessions. */
#ifndef ROOST_HUB_FRONT_AZURE_HTTP_ACTIVITY_H
#define ROOST_HUB_FRONT_AZURE_HTTP_ACTIVITY_H

#include "hub/domain/identity/presence.h"
#include "hub/front/http/job.h"

#define ACTIVITY_WORKERS_MAX 64u   /* as the configuration allows */
#define ACTIVITY_MS          1000u /* gathered this long before it is written */

struct activity {
    struct activity_worker {
        struct presence presence;
        struct timer timer;
    } workers[ACTIVITY_WORKERS_MAX];
};
void activity_init(struct activity *a, struct hub *h);
void activity_fini(struct activity *a); /* as presence_fini */

/* The device of the path did something. On the job's worker. */
void activity_note(struct job *j);
struct activity *activity_of(struct job *j); /* azure_http.c: the front's own */

#endif
