/* cli/release_push.h - the release commands that talk to the hub, and the choice of a release by name. */
#ifndef ROOST_CLI_RELEASE_PUSH_H
#define ROOST_CLI_RELEASE_PUSH_H

#include "cli/cli.h"

#include <jansson.h>

int release_push(struct cli *c, const struct args *a);
int release_list(struct cli *c, const struct args *a);

/* Ids of the releases that `text` names in a listing {"releases":[...]}: a version, product@version, or the
 * beginning of an id (4 digits or more): of each product and hardware class the one with the highest
 * sequence. An array of ids, empty when there is none. */
json_t *release_choose(const json_t *listing, const char *text);

#endif
