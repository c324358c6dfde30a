/* cli/keyfile.h - the operator's keys and trust records on disk: a directory that never has to see a network.
 *
 *   root-1.key ... release-1.key    text, mode 0600:  roost-key-v1 / role= / key-id= / public= / seed=
 *   trust.1.htr ...                 trust records, as published */
#ifndef ROOST_CLI_KEYFILE_H
#define ROOST_CLI_KEYFILE_H

#include "cli/cli.h"
#include "core/trust/trust_record.h"

struct keyfile {
    char role[16]; /* "root", "release" */
    uint8_t seed[ED25519_KEY_LEN], pub[ED25519_KEY_LEN];
    uint8_t id[KEY_ID_LEN];
};
void keyfile_make(struct keyfile *k, const char *role, const uint8_t seed[ED25519_KEY_LEN]);
/* Refuses a file that others may read, and one whose public key does not fit its seed. Prints why. */
int keyfile_read(struct keyfile *k, const char *path);
int keyfile_write(const struct keyfile *k, const char *path); /* new, 0600; prints why not */
/* What to put on paper: eight groups of hexadecimal digits and a check group over them. */
void keyfile_paper(const struct keyfile *k, char out[96]);
/* The seed back from paper; blanks do not matter. ERR_PROTO: not 72 digits, ERR_VERIFY: the check does not
 * fit. */
MUST_USE enum err keyfile_from_paper(const char *text, uint8_t seed[ED25519_KEY_LEN]);

/* A trust record from a file, decoded; spans point into raw. Checked against `old` when there is one,
 * otherwise against its own roots. Prints why not. */
struct trust_file {
    uint8_t raw[ENVELOPE_MAX];
    size_t raw_len;
    struct envelope env;
    struct trust_record record;
};
int trust_file_read(struct trust_file *t, const char *path);
int trust_file_parse(struct trust_file *t, struct span raw, const char *from);
/* Newest version in a directory, 0: none. */
uint32_t trust_dir_newest(const char *dir);
int trust_dir_read(struct trust_file *t, const char *dir, uint32_t version);
char *trust_dir_path(const char *dir, uint32_t version);
/* For a person, or JSON. */
void keys_record_print(const struct cli *c, const struct trust_record *t);

#endif
