/* hub/domain/twin/twin_device.c - see twin_device.h. */
#include "hub/domain/twin/twin_device.h"

#include <assert.h>

#define ARENA_MAX (16u << 20)

enum err twin_device_get(struct store_tx *tx, struct arena *a, struct span id, struct twin_note *out)
{
    struct twin twin;
    struct wr w = { 0 };
    arena_fini(a);
    arena_init(a, ARENA_MAX);
    enum err e = twin_get(tx, a, id, &twin);
    if (e)
        return e;
    twin_device_view(&w, &twin);
    w = (struct wr){ arena_alloc(a, w.len), w.len, 0 };
    if (!w.p)
        return ERR_NOMEM;
    twin_device_view(&w, &twin);
    *out = (struct twin_note){ twin.row.desired_version, wr_span(&w) };
    return ERR_OK;
}

enum err twin_device_report(struct hub *h, struct store_tx *tx, struct span id, struct span body,
                            const struct twin_if *cond, uint64_t *reported_version, struct twin_fault *f)
{
    struct arena a;
    struct twin_patch patch;
    struct twin twin;
    arena_init(&a, ARENA_MAX);
    enum err e = twin_reported_patch(&a, body, &patch, f);
    if (!e)
        e = twin_update(h, tx, &a, id, &patch, cond, &twin, f);
    if (!e)
        *reported_version = twin.row.reported_version;
    arena_fini(&a);
    return e;
}

static enum err missed_run(struct store_tx *tx, struct store_op *self)
{
    struct twin_missed *m = (struct twin_missed *)(void *)self;
    arena_fini(&m->a);
    arena_init(&m->a, ARENA_MAX);
    return twin_note_get(tx, &m->a, span_of(m->identity, m->identity_len), &m->note);
}

void twin_missed_init(struct twin_missed *m, struct span identity)
{
    assert(identity.n <= sizeof m->identity);
    m->identity_len = identity.n;
    memcpy(m->identity, identity.p, identity.n);
    m->store.run = missed_run;
}

void twin_missed_fini(struct twin_missed *m)
{
    arena_fini(&m->a);
}
