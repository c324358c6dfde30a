/* hub/blob/blob_suite.h - what every backend of the blob store has to pass. */
#ifndef ROOST_HUB_BLOB_BLOB_SUITE_H
#define ROOST_HUB_BLOB_BLOB_SUITE_H

#include "hub/blob/blob.h"

struct blob_suite {
    enum err (*open)(struct blob **out); /* the same blobs again after a close */
    void (*wipe)(void);                  /* before each test */
};
/* Returns the number of failed tests. */
int blob_suite(const struct blob_suite *how);

#endif
