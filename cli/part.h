/* cli/part.h - a file that is fetched: it appears under its name when all of it is there, and not at all
 * after an error or a signal. */
#ifndef ROOST_CLI_PART_H
#define ROOST_CLI_PART_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

struct part {
    const char *name; /* "-" is standard output; borrowed until part_close */
    char *temp;       /* NAME.part; NULL: what is written goes to its place at once */
    FILE *f;
};
/* Opened for reading and writing. What is no regular file (a device, a pipe) is written to as it is. 0, or an
 * exit code and a message. */
int part_open(struct part *o, const char *name, mode_t mode);
/* With rc 0 under its name, else it is gone. Returns rc, or what went wrong. Accepts one that was never
 * opened. */
int part_close(struct part *o, int rc);

#endif
