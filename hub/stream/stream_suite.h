/* hub/stream/stream_suite.h - what every backend of the telemetry log has to pass, and calls that wait, for
 * tests. */
#ifndef ROOST_HUB_STREAM_STREAM_SUITE_H
#define ROOST_HUB_STREAM_STREAM_SUITE_H

#include "hub/stream/stream.h"

struct stream_suite {
    /* The same records again after a close; 4 partitions. wall_ms: the clock to use. */
    enum err (*open)(struct stream **out, uint64_t (*wall_ms)(void));
    void (*wipe)(void); /* before each test */
};
/* Returns the number of failed tests. */
int stream_suite(const struct stream_suite *how);

enum err stream_append_wait(struct stream *s, uint32_t partition, struct span record, uint64_t *seq,
                            uint64_t *ms);
/* r->pos, buf and records are set by the caller. */
enum err stream_read_wait(struct stream *s, struct stream_read *r);

#endif
