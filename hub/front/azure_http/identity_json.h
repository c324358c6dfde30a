/* hub/front/azure_http/identity_json.h - devices and modules as this interface writes them, both ways.
 * Members that are not known are ignored, null is the same as absent (docs/azure-http.md, "Identities"). */
#ifndef ROOST_HUB_FRONT_AZURE_HTTP_IDENTITY_JSON_H
#define ROOST_HUB_FRONT_AZURE_HTTP_IDENTITY_JSON_H

#include "hub/domain/identity/identity_write.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/http/fleet_json.h"

/* ---- in: false, and the error is set; spans point into o and the job's arena --------------------------- */

/* The text of an optional member has to be `want`. */
bool azure_in_same(struct job *j, const struct jnode *o, const char *name, struct span want);
bool azure_in_text(struct job *j, const struct jnode *o, const char *name, struct span *out); /* optional */
bool azure_in_device(struct job *j, const struct jnode *o, struct identity_spec *out); /* all but the id */
bool azure_in_module(struct job *j, const struct jnode *o, struct module_spec *out);   /* all but the ids */

/* ---- out: in a run() ---------------------------------------------------------------------------------- */

/* The one document of an identity: as the answer, with its etag in the header, or added to a list. */
MUST_USE enum err azure_device_answer(struct job *j, struct store_tx *tx, const struct device_row *d);
MUST_USE enum err azure_module_answer(struct job *j, struct store_tx *tx, const struct module_row *m);
MUST_USE enum err azure_device_add(struct fleet_array *list, const struct device_row *d,
                                   const struct identity_seen *seen);
MUST_USE enum err azure_module_add(struct fleet_array *list, const struct module_row *m,
                                   const struct identity_seen *seen);
MUST_USE enum err azure_module_seen(struct store_tx *tx, const struct module_row *m,
                                    struct identity_seen *out);

/* ---- what both kinds share ---------------------------------------------------------------------------- */

/* The condition as identity_write.h wants it: 0: any; a text that is no etag of ours matches none. */
uint64_t azure_match_counter(const struct azure_match *m);
/* The error that a fault of identity_write.h is here. */
enum azure_error azure_fault_error(enum identity_fault f);
/* In a run(): sets the error for the fault, or passes e on when it is the store's. */
enum err azure_refuse_fault(struct job *j, enum err e, enum identity_fault f, struct span device,
                            struct span module);

#endif
