/* hub/domain/twin/twin_doc.h - the twin as tools and queries see it: what is stored of it, with what the hub
 * knows of the identity behind it. Source of the form: Azure IoT Hub REST, api-version 2021-04-12, "Twin". */
#ifndef ROOST_HUB_DOMAIN_TWIN_TWIN_DOC_H
#define ROOST_HUB_DOMAIN_TWIN_TWIN_DOC_H

#include "hub/domain/twin/twin.h"

struct twin_facts { /* spans in the arena */
    uint64_t identity_etag;
    bool enabled, edge;
    uint8_t auth;              /* enum identity_auth */
    struct span status_reason; /* empty: none */
    uint64_t status_ms;        /* wall; 0: never changed */
    struct identity_seen seen;
    struct span thumb1, thumb2;
    struct span scope, parent_scope;
};
/* ERR_NOTFOUND: there is no identity (any more). */
MUST_USE enum err twin_facts_get(struct store_tx *tx, struct arena *a, const struct twin_row *r,
                                 struct twin_facts *out);

/* {"deviceId":...,"etag":...,...,"tags":{},"properties":{"desired":{},"reported":{}},...} */
MUST_USE enum err twin_doc_text(struct arena *a, const struct twin *t, const struct twin_facts *f,
                                struct span *out); /* into the arena */
/* Reads both, writes into the arena. */
MUST_USE enum err twin_doc_get(struct store_tx *tx, struct arena *a, const struct twin *t, struct span *out);

/* The short form of the own interface: {"id":...,"etag":...,"version":...,"model":...,"tags":{},"desired":{},
 * "reported":{}}; meta: with "$metadata". */
void twin_view_write(struct wr *w, const struct twin *t, bool meta);

#endif
