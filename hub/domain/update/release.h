/* hub/domain/update/release.h - artifacts and releases: nothing is taken that does not verify, nothing is
 * offered that no longer does. Functions with a transaction run in run() of a store op; artifact_ingest
 * blocks and belongs on the I/O pool. */
#ifndef ROOST_HUB_DOMAIN_UPDATE_RELEASE_H
#define ROOST_HUB_DOMAIN_UPDATE_RELEASE_H

#include "base/arena.h"
#include "core/trust/release.h"
#include "hub/domain/hub.h"
#include "hub/domain/identity/identity.h"

#define ARTIFACT_LEN_MAX        (1024u * 1024u * 1024u) /* bytes of a payload */
#define ARTIFACT_CHUNK_MIN_CODE 9u

enum artifact_refusal {
    ARTIFACT_TAKEN = 0,
    ARTIFACT_NO_PAYLOAD,  /* nothing was uploaded under that name, and no such payload is here */
    ARTIFACT_NO_TREE,     /* no such upload */
    ARTIFACT_SHAPE,       /* empty, too long, or a chunk or page size outside its bounds */
    ARTIFACT_PAYLOAD_SUM, /* the bytes on the disk do not hash to what was promised */
    ARTIFACT_ROOT,        /* the tree of these bytes has another root */
    ARTIFACT_TREE,        /* the uploaded tree is not the tree of these bytes */
};
struct artifact_ingest {       /* in: borrowed; out: row spans point into this struct */
    struct span payload, tree; /* upload names */
    uint8_t root[SHA256_LEN], payload_sha256[SHA256_LEN];
    uint8_t chunk_code, fan_out;
    enum artifact_refusal refusal;
    uint8_t tree_sha256[SHA256_LEN];
    uint64_t payload_len, tree_len;
};
/* Blocks: makes both uploads durable under their hashes, reads the payload back from the disk, computes its
 * chunk tree anew and compares all three. A refusal is an answer; errors are the disk's. Can be repeated
 * after a refusal or a crash at any point. */
MUST_USE enum err artifact_ingest(struct hub *h, struct artifact_ingest *in);
struct artifact_row artifact_ingest_row(const struct artifact_ingest *in);

enum release_refusal {
    RELEASE_TAKEN = 0,
    RELEASE_FORMAT,
    RELEASE_NO_TRUST,     /* no trust record is published: nobody may sign yet */
    RELEASE_SIGNATURES,   /* not enough valid ones by release keys of the newest trust record */
    RELEASE_NO_ARTIFACT,  /* `artifact` is not here */
    RELEASE_ARTIFACT_LEN, /* it is, but of another length or content than the release says */
    RELEASE_SEQ_TAKEN     /* another release of this product and class has that release_seq */
};
struct release_added {
    enum release_refusal refusal;
    bool existed; /* the same release was here; its signatures are now the given ones */
    uint8_t id[OBJECT_ID_LEN];
    uint8_t artifact[SHA256_LEN];
    struct release release; /* decoded; points into raw */
};
/* Takes a signed release manifest. A refusal is an answer, not an error. */
MUST_USE enum err release_add(struct hub *h, struct store_tx *tx, struct arena *a, struct span who,
                              struct span raw, struct release_added *out);

MUST_USE enum err release_copy(struct arena *a, const struct release_row *in, struct release_row *out);
MUST_USE enum err release_get(struct store_tx *tx, struct arena *a, struct span id, struct release_row *out);
bool release_fits(const struct release_row *r, const struct hardware *hw);
/* The one with the highest release_seq that fits and is not barred. ERR_NOTFOUND. */
MUST_USE enum err release_newest(struct store_tx *tx, struct arena *a, const struct hardware *hw,
                                 struct release_row *out);
MUST_USE enum err release_of_row(const struct release_row *row, struct release *out);

/* A release is barred when a later trust record revokes what it was signed with. */
MUST_USE enum err release_is_barred(struct store_tx *tx, struct span id, bool *barred);
MUST_USE enum err release_bar_unsigned(struct hub *h, struct store_tx *tx, struct arena *a,
                                       const struct trust_record *t, size_t *barred_nr);

#endif
