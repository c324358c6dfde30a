/* hub/store/store_suite.h - what every backend of the store has to pass. A backend's test says how to open
 * it and calls the suites. */
#ifndef ROOST_HUB_STORE_STORE_SUITE_H
#define ROOST_HUB_STORE_STORE_SUITE_H

#include "hub/store/store.h"

struct store_suite {
    enum err (*open)(void *arg, struct store **out); /* the same data again after a close */
    void (*wipe)(void *arg);                         /* before each test */
    void *arg;
};
/* Runs all tests (cmocka); returns the number of failed ones. */
int store_suite(const struct store_suite *how);
int store_suite_c2d(const struct store_suite *how);       /* messages to devices */
int store_suite_fleet(const struct store_suite *how);     /* releases, campaigns, small tables */
int store_suite_identity(const struct store_suite *how);  /* devices, modules, authorities */
int store_suite_twin(const struct store_suite *how);      /* twins, and what is told after a commit */
int store_suite_broadcast(const struct store_suite *how); /* counts of broadcasts */
int store_suite_query(const struct store_suite *how);     /* walks for queries */
int store_suite_job(const struct store_suite *how);       /* jobs and their devices */
int store_suite_config(const struct store_suite *how);    /* configurations and their targets */

/* For tests: hands fn over and waits for its outcome. */
typedef enum err store_fn(struct store_tx *t, void *ctx);
enum err store_write_wait(struct store *s, store_fn *fn, void *ctx);
enum err store_read_wait(struct store *s, store_fn *fn, void *ctx);

#endif
