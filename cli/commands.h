/* cli/commands.h - the tables of commands, one a file. */
#ifndef ROOST_CLI_COMMANDS_H
#define ROOST_CLI_COMMANDS_H

#include "cli/cli.h"

#include <stdlib.h>

extern const struct command device_commands[], token_commands[], send_commands[], method_commands[],
    watch_commands[], keys_commands[], trust_commands[], release_commands[], update_commands[],
    status_commands[], bootstrap_commands[], twin_commands[], query_commands[], completion_commands[];

#endif
