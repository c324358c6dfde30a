/* hub/front/azure_http/identity_json.h - devices and modules as this interface writes them, both ways.
 * Members that are not known are ignored, null is the same as absent (docs/azure-http.md, "Identities"). */
#ifndef ROOST_HUB_FRONT_AZURE_HTTP_IDENTITY_JSON_H
#define ROOST_HUB_FRONT_AZURE_HTTP_IDENTITY_JSON_H

#include "hub/domain/identity_write.h"
#include "hub/front/azure_http/azure.h"

/* ---- in: false, and the error is set; spans point into o and the job's arena --------------------------- */

/* The text of an optional member has to be `want`. */
bool azure_in_same(struct job *j, const json_t *o, const char *name, struct span want);
bool azure_in_device(struct job *j, const json_t *o, struct identity_spec *out); /* all but the id */
bool azure_in_proof(struct job *j, const json_t *o, struct identity_proof *out); /* o's "authentication" */

/* ---- out: in a run() ---------------------------------------------------------------------------------- */

MUST_USE enum err azure_device_json(struct store_tx *tx, const struct device_row *d, json_t **out);
MUST_USE enum err azure_module_json(struct store_tx *tx, const struct module_row *m, json_t **out);

/* ---- what both kinds share ---------------------------------------------------------------------------- */

/* The condition as identity_write.h wants it: 0: any; a text that is no etag of ours matches none. */
uint64_t azure_match_counter(const struct azure_match *m);
/* The error that a fault of identity_write.h is here. */
enum azure_error azure_fault_error(enum identity_fault f);
/* In a run(): sets the error for the fault, or passes e on when it is the store's. */
enum err azure_refuse_fault(struct job *j, enum err e, enum identity_fault f, struct span device,
                            struct span module);

#endif
