/* hub/domain/twin/twin_digital.h - a twin as IoT Plug and Play clients see it: properties by name, what is
 * desired and acknowledged of each in "$metadata", components one level down. Pure; trees live in the arena.
 * In a twin, a component is an object with "__t":"c"; a device acknowledges a property by reporting
 * {"value":...,"ac":code,"av":version,"ad":text}.
 * Source: "IoT Plug and Play conventions"; RFC 6902 for patches. */
#ifndef ROOST_HUB_DOMAIN_TWIN_TWIN_DIGITAL_H
#define ROOST_HUB_DOMAIN_TWIN_TWIN_DIGITAL_H

#include "hub/domain/twin/twin.h"

void twin_digital_write(struct wr *w, const struct twin *t);

enum twin_digital_wrong {
    DIGITAL_FINE,
    DIGITAL_NO_PATCH,
    DIGITAL_BAD_OP,
    DIGITAL_BAD_PATH,
    DIGITAL_BAD_VALUE
};
/* A JSON Patch as a patch of desired properties, given those there are. Operations: add, replace and remove
 * of /property, /component and /component/property; a component's value contains "$metadata":{}. ERR_PROTO
 * *wrong and the fault say why      ERR_NOMEM */
MUST_USE enum err twin_digital_patch(struct arena *a, struct span body, const struct jnode *desired,
                                     struct twin_patch *out, enum twin_digital_wrong *wrong,
                                     struct twin_fault *f);

#endif
