/* hub/domain/event/twin_changed.c - what follows from a change of a twin. Everything that is to happen with
 * one is called from twin_changed(), inside the transaction that makes it: what it writes is durable with the
 * change; what it tells others it hands to tx_after(), so that it is told after the commit and in its order.
 */
#include "core/json/json.h"
#include "hub/domain/event/event.h"
#include "hub/domain/twin/twin.h"

#include <stdlib.h>

/* ---- the device is told ----------------------------------------------------------------------------- */

struct note {              /* owned by itself, from the change to its commit */
    struct tx_after after; /* first */
    struct bus *bus;
    size_t id_len, len;
    uint8_t text[]; /* identity, message */
};

static void note_write(struct wr *w, const struct twin_change *c)
{
    wr_le64(w, c->after->row.desired_version);
    twin_section_write(w, TWIN_DESIRED, c->desired_patch, c->after->row.desired_version, false);
}

enum err twin_note_decode(struct span bytes, struct twin_note *out)
{
    struct rd r = rd_of(bytes);
    struct twin_note n = { .version = rd_le64(&r) };
    n.body = span_of(r.p, r.n);
    if (r.bad || !n.body.n)
        return ERR_PROTO;
    *out = n;
    return ERR_OK;
}

static void note_after(struct tx_after *self, bool committed)
{
    struct note *n = (struct note *)(void *)self;
    struct span id = span_of(n->text, n->id_len), bytes = span_of(n->text + n->id_len, n->len);
    enum err e = committed ? bus_post(n->bus, id, BUS_TWIN, bytes) : ERR_OK;
    /* Nobody there is the usual case: a device that comes later reads its twin first. Where there was no room
     * for the message the session is woken, which needs none, and reads what is newest then. */
    if (e && e != ERR_NOTFOUND && e != ERR_STOPPED)
        (void)bus_wake(n->bus, id, BUS_WAKE_TWIN);
    free(n);
}

enum err twin_note_get(struct store_tx *tx, struct arena *a, struct span id, struct twin_note *out)
{
    struct twin t;
    struct wr w = { 0 };
    enum err e = twin_get(tx, a, id, &t);
    if (e)
        return e;
    twin_section_write(&w, TWIN_DESIRED, t.desired, t.row.desired_version, false);
    w = (struct wr){ arena_alloc(a, w.len), w.len, 0 };
    if (!w.p)
        return ERR_NOMEM;
    twin_section_write(&w, TWIN_DESIRED, t.desired, t.row.desired_version, false);
    *out = (struct twin_note){ t.row.desired_version, wr_span(&w) };
    return ERR_OK;
}

static enum err tell_device(struct hub *h, struct store_tx *tx, const struct twin_change *c)
{
    struct span id = c->after->row.id;
    struct wr w = { 0 };
    if (!c->desired_patch)
        return ERR_OK;
    note_write(&w, c);
    struct note *n = malloc(sizeof *n + id.n + w.len);
    if (!n)
        return ERR_NOMEM;
    *n = (struct note){ .after.fn = note_after, .bus = h->bus, .id_len = id.n, .len = w.len };
    memcpy(n->text, id.p, id.n);
    w = (struct wr){ n->text + id.n, w.len, 0 };
    note_write(&w, c);
    tx_after(tx, &n->after);
    return ERR_OK;
}

/* ---- the list --------------------------------------------------------------------------------------- */

enum err twin_changed(struct hub *h, struct store_tx *tx, struct arena *a, const struct twin_change *c)
{
    enum err e = tell_device(h, tx, c);
    if (!e)
        e = h->on_twin_changed ? h->on_twin_changed(h, tx, c) : ERR_OK;
    return e ? e : event_twin_changed(h, tx, a, c);
}
