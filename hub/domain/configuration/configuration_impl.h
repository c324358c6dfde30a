/* hub/domain/configuration/configuration_impl.h - what the files of configuration.h share. */
#ifndef ROOST_HUB_DOMAIN_CONFIGURATION_CONFIGURATION_IMPL_H
#define ROOST_HUB_DOMAIN_CONFIGURATION_CONFIGURATION_IMPL_H

#include "hub/domain/configuration/configuration.h"
#include "hub/domain/query/query.h"

void config_exists(struct hub *h); /* from now on changes of twins are of interest */

/* Twins up to this seq have been looked at since they were made. */
#define CONFIG_CURSOR SPAN("configurations.cursor")
MUST_USE enum err config_cursor_put(struct store_tx *tx, uint64_t seq);

/* A configuration as the evaluation uses it. */
struct config_ready {
    struct config_row row;
    struct query_condition *condition; /* NULL: no twin */
    struct jnode *content;             /* of one kind; NULL: it cannot be written */
    bool layered;                      /* of an edge device: without $edgeAgent as a whole */
};
/* configuration_twin.c: brings one twin to where it is meant to be. list: all, in order of creation. */
MUST_USE enum err config_bring(struct hub *h, struct store_tx *tx, const struct config_ready *list, size_t nr,
                               uint64_t seq, struct span identity);

/* configuration_metrics.c: counts what the metrics of all configurations find, again and again. All of it on
 * the thread of home but config_metrics_changed. */
struct config_metrics;
MUST_USE enum err config_metrics_new(struct config_metrics **out, struct hub *h, struct mailbox *home);
void config_metrics_look(struct config_metrics *m);    /* begins when it is time; every second or so */
void config_metrics_changed(struct config_metrics *m); /* any thread */
bool config_metrics_idle(const struct config_metrics *m);
void config_metrics_free(struct config_metrics *m);

#endif
