/* cli/hub_trust.h - the trust record that the hub hands to devices. */
#ifndef ROOST_CLI_HUB_TRUST_H
#define ROOST_CLI_HUB_TRUST_H

#include "cli/keyfile.h"

/* version 0: the newest. *found is false when the hub has none. 0, or an exit code and a message. */
int hub_trust_get(struct cli *c, uint32_t version, struct trust_file *t, bool *found);

#endif
