/* cli/commands.h - the tables of commands, one a file. */
#ifndef ROOST_CLI_COMMANDS_H
#define ROOST_CLI_COMMANDS_H

#include "cli/cli.h"

#include <jansson.h>
#include <stdlib.h>

/* cmd_device.c: --thumbprint, --thumbprint2 and --ca as members of a body; NULL: it was told what is wrong.
 */
json_t *proof_arguments(const struct args *a);

/* cmd_registry.c: of the table of cmd_device.c. */
int device_import(struct cli *c, const struct args *a);
int device_export(struct cli *c, const struct args *a);
extern const struct opt device_import_opts[], device_export_opts[];

extern const struct command device_commands[], module_commands[], ca_commands[], token_commands[],
    send_commands[], method_commands[], watch_commands[], keys_commands[], trust_commands[],
    release_commands[], update_commands[], status_commands[], bootstrap_commands[], twin_commands[],
    query_commands[], job_commands[], config_commands[], route_commands[], endpoint_commands[],
    enrichment_commands[], feedback_commands[], upload_commands[], completion_commands[];

#endif
