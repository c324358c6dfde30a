/* cli/broadcast.h - following a message to the whole fleet until it is known what became of it. */
#ifndef ROOST_CLI_BROADCAST_H
#define ROOST_CLI_BROADCAST_H

#include "cli/cli.h"

#include <jansson.h>

struct broadcast_counts {
    uint64_t devices, pending, delivered, expired, refused, gone; /* refused: rejected, or never settled */
};
void broadcast_counts_of(const json_t *doc, struct broadcast_counts *out);
/* "40 of 60 delivered, 20 pending" */
void broadcast_line(const struct broadcast_counts *c, char *out, size_t cap);
/* An exit code once nothing is pending; -1 until then. */
int broadcast_verdict(const struct broadcast_counts *c);

/* Follows broadcast `number` (0 timeout: as long as it takes), prints progress and the outcome; an exit code.
 */
int broadcast_follow(struct cli *c, uint64_t number, uint64_t timeout_s);

#endif
