/* cli/profile.h - which hub, as whom, and by which certificate it is known. */
#ifndef ROOST_CLI_PROFILE_H
#define ROOST_CLI_PROFILE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A profile file is lines of NAME=VALUE; '#' begins a comment line. `roostd init` writes one for the
 * operator (DIR/operator.profile):
 *   connection-string=HostName=...;SharedAccessKeyName=...;SharedAccessKey=...    HostName may have a port
 *   https-port=443        (this one when absent)
 *   ca-file=PATH          certificate of the authority that the hub's certificate must come from; relative
 *                         to the profile's folder; absent: the system's authorities
 *   address=IP            connect there instead of to what the host name resolves to */
struct profile {
    char *host, *policy; /* of the connection string */
    uint8_t key[64];
    size_t key_len;
    uint16_t https_port;
    char *ca_file, *address; /* NULL: none */
};

/* Where `text`, the value of --hub, leads: a connection string, a data directory, or a profile file.
 * On failure `why` gets a sentence that says what to do. */
MUST_USE enum err profile_from(struct profile *p, const char *text, char *why, size_t why_cap);
/* A profile's content; `dir` is what a relative ca-file is relative to. */
MUST_USE enum err profile_parse(struct profile *p, const char *text, const char *dir, char *why,
                                size_t why_cap);
MUST_USE enum err profile_connection(struct profile *p, const char *text, char *why, size_t why_cap);
void profile_free(struct profile *p);

#endif
