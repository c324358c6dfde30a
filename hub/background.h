/* hub/background.h - what the hub does without being asked: jobs, configurations, indexes for queries. They
 * run on one worker, between its connections, and leave the work itself to the store; imports and exports
 * have a thread. */
#ifndef ROOST_HUB_BACKGROUND_H
#define ROOST_HUB_BACKGROUND_H

#include "hub/domain/hub.h"
#include "hub/loop/worker.h"

struct background;
struct query_sources;
/* Before the workers start. Sets hub->jobs and hub->configurations. */
MUST_USE enum err background_new(struct background **out, struct hub *hub, struct query_sources *queries,
                                 struct worker *w);
void background_start(struct background *b); /* likewise */
/* After the workers have ended, while the store is still open. NULL is fine. */
void background_stop(struct background *b);
/* After the store is closed. NULL is fine. */
void background_free(struct background *b);

#endif
