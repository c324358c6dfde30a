/* hub/domain/identity/identity_read.h - what JSON says of an identity: the one reader of requests for one, of
 * bulk requests and of imported lines. Members that are not known are ignored, null is the same as absent;
 * rules that need the store are those of identity_write.h. Pure. Source of the form: Azure IoT Hub, "Identity
 * registry"; docs/azure-http.md, "Identities". */
#ifndef ROOST_HUB_DOMAIN_IDENTITY_IDENTITY_READ_H
#define ROOST_HUB_DOMAIN_IDENTITY_IDENTITY_READ_H

#include "hub/domain/identity/identity_write.h"
#include "hub/domain/json_tree.h"

#define IDENTITY_READ_MAX 4096u /* bytes of a text for which there is no other limit */

struct identity_read_fault {
    char text[200]; /* names the member; UTF-8, no control characters */
};

/* Spans of what is read point into the tree or the arena. All return ERR_PROTO with the fault set, or
 * ERR_NOMEM. */

/* A text; *out stays what it is when there is none. */
MUST_USE enum err identity_read_text(const struct jnode *o, const char *name, size_t max, struct span *out,
                                     struct identity_read_fault *f);
/* All but the id. status: it has to be there (else: enabled). */
MUST_USE enum err identity_read_device(struct arena *a, const struct jnode *o, bool status,
                                       struct identity_spec *out, struct identity_read_fault *f);
/* "managedBy", "authentication". */
MUST_USE enum err identity_read_module(struct arena *a, const struct jnode *o, struct module_spec *out,
                                       struct identity_read_fault *f);

#endif
