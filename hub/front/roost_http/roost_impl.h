/* hub/front/roost_http/roost_impl.h - what the files of this front share: the front itself, rows as JSON. */
#ifndef ROOST_HUB_FRONT_ROOST_HTTP_ROOST_IMPL_H
#define ROOST_HUB_FRONT_ROOST_HTTP_ROOST_IMPL_H

#include "hub/front/http/job.h"
#include "hub/front/http/throttled.h"
#include "hub/front/roost_http/roost_http.h"

#define JOB_JSON_MAX (512u * 1024u) /* longest JSON body of most routes */

struct roost_http { /* one a hub; shared by the workers, so everything in it is fixed or locks for itself */
    struct http_front front; /* first */
    struct conn_net *net;
    struct routing *routing;          /* NULL: there is none */
    struct rate *rate;                /* of /bootstrap */
    struct artifact_cache *artifacts; /* artifact.c */
    _Atomic unsigned telemetry_nr;    /* open streams */
    struct http_routes routes, plain, ops;
    struct housekeeper *housekeeper; /* roost_http.c */
};
static inline struct roost_http *roost_of(const struct job *j)
{
    return (struct roost_http *)(void *)j->front;
}

extern const struct http_throttle roost_throttles[]; /* throttles.c */

/* ---- rows.c: rows as JSON; ERR_NOMEM only when memory is short ---------------------------------------- */

struct device_row;
/* With its report and newest deployment; keys: its secrets too. In run(). */
MUST_USE enum err device_json(struct job *j, struct store_tx *tx, const struct device_row *d, bool one,
                              bool keys, json_t **out);
MUST_USE enum err deployment_json(struct job *j, struct store_tx *tx, const struct deployment_row *d,
                                  json_t **out);
json_t *release_json(const struct release_row *r);

/* ---- modules.c: what identities prove themselves with, and what a write of one refuses ----------------- */

struct identity_proof;
/* Members "authentication", "thumbprint", "thumbprint2" of j->in. False: the error is set. */
bool proof_in(struct job *j, struct identity_proof *out);
/* In a run(), of an identity that is there already: a proof that was asked for and differs is refused. */
MUST_USE enum err proof_same(struct job *j, const struct identity_proof *p, uint8_t auth, struct span thumb1,
                             struct span thumb2);
void proof_json(json_t *o, uint8_t auth, struct span thumb1, struct span thumb2);
/* Sets the error for an enum identity_fault; returns what the run() returns. */
MUST_USE enum err identity_faulty(struct job *j, enum err e, unsigned fault);

#endif
