/* cli/bundle.h - a release on disk: a directory that can be pushed to a hub, or copied onto any web or FTP
 * server as it is.
 *
 *   manifest.hrm             the release manifest, with its signatures
 *   {tree root}              a payload, under the name that tickets give it
 *   {tree root}.tree         its chunk tree
 *
 * The same inputs always make the same bytes: nothing in it knows a time, a path or a machine. */
#ifndef ROOST_CLI_BUNDLE_H
#define ROOST_CLI_BUNDLE_H

#include "cli/cli.h"
#include "core/trust/release.h"

#define BUNDLE_PAYLOAD_MAX ((size_t)1 << 30)
#define BUNDLE_NAME_LEN    (2u * SHA256_LEN)

struct bundle {
    uint8_t raw[ENVELOPE_MAX];
    size_t raw_len;
    struct envelope env; /* possibly without signatures */
    struct release release;
    uint8_t id[OBJECT_ID_LEN];
};
void bundle_name(const uint8_t root[SHA256_LEN], char out[BUNDLE_NAME_LEN + 1]);

/* `r` lacks its component, encoding and chunk shape: they are made from the image. dir is created; a release
 * that is there already is replaced. Prints why not. */
int bundle_build(const char *dir, const struct release *r, enum component_type type, struct span image);
/* Reads the manifest; nothing is verified yet. */
int bundle_open(struct bundle *b, const char *dir);
int bundle_sign(struct bundle *b, const char *dir, const uint8_t seed[ED25519_KEY_LEN]);

/* What the device would check, in its order. Names the reason that the device would report. */
struct bundle_target { /* whose device; product.n 0: not asked */
    struct span product;
    uint16_t hw_class;
    uint8_t hw_rev;
};
struct bundle_verdict {
    unsigned reason; /* enum reason; REASON_NONE: good */
    char detail[256];
};
void bundle_verify(const struct bundle *b, const char *dir, const struct trust_record *trust,
                   const struct bundle_target *target, struct bundle_verdict *v);

/* The default release_seq of a plain version "major.minor.patch": 1000000 * major + 1000 * minor + patch + 1.
 * ERR_PROTO: not of that form, major over 4000, minor or patch over 999. */
MUST_USE enum err bundle_seq_of(const char *version, uint32_t *seq);

#endif
