/* hub/config/init.h - `roostd init`: a data directory from nothing, whole or not at all. */
#ifndef ROOST_HUB_CONFIG_INIT_H
#define ROOST_HUB_CONFIG_INIT_H

#include "base/err.h"
#include "hub/config/config.h"

#include <stdio.h>

/* What lies in a data directory, relative to it. docs/operations.md lists the same. */
#define DIR_CONFIG   "roost.yaml"
#define DIR_CA_CERT  "ca/ca.crt"
#define DIR_CA_KEY   "ca/ca.key"
#define DIR_DIRECTOR "director.key"
#define DIR_PROFILE  "operator.profile"
#define DIR_POLICIES "policies" /* a connection string each */
#define DIR_LOCK     "roostd.lock"
#define DIR_STORE    "store"
#define DIR_STREAM   "stream"
#define DIR_ROUTING  "routing"
#define DIR_BLOB     "blob"
#define DIR_FILES    "files"

struct init_options {
    const char *dir;
    const char *names[CONFIG_NAMES_MAX]; /* given ones; the loopback names are added */
    size_t name_nr;
    const char *ca_from; /* a data directory or a folder with ca.crt and ca.key, or NULL */
    const char *listen;  /* NULL: every address */
    long https_port, mqtt_port, amqp_port, http_port, ops_port; /* -1: the default */
};

/* Prints the connection string and the bootstrap string to `out`; what went wrong to `err`.
 * ERR_EXISTS: the directory has something in it; ERR_PROTO: an option is wrong. */
MUST_USE enum err init_run(const struct init_options *o, FILE *out, FILE *err);
/* Server certificates again, for the names of the configuration; the old files are kept beside them. */
MUST_USE enum err init_renew(const char *dir, const struct config *c, FILE *out, FILE *err);

#endif
