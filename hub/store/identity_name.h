/* hub/store/identity_name.h - the text that names an identity, in rows, on the bus and in sessions: "device",
 * or "device/module". Ids have no slash, so that no two identities share a text. */
#ifndef ROOST_HUB_STORE_IDENTITY_NAME_H
#define ROOST_HUB_STORE_IDENTITY_NAME_H

#include "base/arena.h"
#include "hub/store/rows_identity.h"

#define IDENTITY_NAME_MAX (2 * DEVICE_ID_MAX + 1) /* bytes, where both are ids */

/* module: empty for the device itself. */
static inline void identity_name_put(struct wr *w, struct span device, struct span module)
{
    wr_put(w, device);
    if (module.n)
        wr_u8(w, '/');
    wr_put(w, module);
}

/* Into the arena, of whatever length; empty when memory is short (arena_err). */
static inline struct span identity_name_in(struct arena *a, struct span device, struct span module)
{
    size_t cap = device.n + module.n + 1;
    struct wr w = { arena_alloc(a, cap), cap, 0 };
    if (!w.p)
        return SPAN_NONE;
    identity_name_put(&w, device, module);
    return wr_span(&w);
}

#endif
