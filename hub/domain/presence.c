/* hub/domain/presence.c - see presence.h. A batch is a run of entries: wall_ms, length of the identity (two
 * bytes), identity. */
#include "hub/domain/presence.h"

#include "base/log.h"
#include "base/map.h"
#include "hub/domain/event.h"
#include "hub/domain/hub.h"
#include "hub/domain/metrics.h"

#include <stdlib.h>

#define ENTRY_MAX   (10u + 2 * DEVICE_ID_MAX + 1)
#define BATCH_FIRST 1024u
#define MINUTE_MS   60000u
#define MINUTE_MASK 0xffffffu /* of a place: the minute, for thirty years */

struct presence_batch {
    struct store_op store; /* first */
    struct presence *owner;
    size_t entries;
    struct wr w;
};

void presence_init(struct presence *p, struct hub *h)
{
    p->hub = h;
    p->open = NULL;
    p->recent = NULL;
    atomic_init(&p->waiting, 0);
}

void presence_fini(struct presence *p)
{
    if (p->open) {
        free(p->open->w.p);
        free(p->open);
        p->open = NULL;
    }
    free(p->recent);
    p->recent = NULL;
}

static enum err still_there(struct store_tx *tx, struct span id)
{
    const uint8_t *mark = id.n ? memchr(id.p, '/', id.n) : NULL;
    struct device_row device;
    struct module_row module;
    if (!mark)
        return tx_device_get(tx, id, &device);
    size_t head = (size_t)(mark - id.p);
    return tx_module_get(tx, span_of(id.p, head), span_skip(id, head + 1), &module);
}

/* An event is made of what changed, so one that was away for less than an interval was never gone. */
static enum err write_one(struct hub *h, struct store_tx *tx, struct span id, uint64_t at)
{
    struct report_row was = { 0 };
    bool now = bus_is_attached(h->bus, id);
    enum err e = event_wanted(h, MESSAGE_SOURCE_CONNECTION) ? tx_report_get(tx, id, &was) : ERR_OK;
    bool before = was.connected;
    if (!e || e == ERR_NOTFOUND)
        e = tx_report_set_connected(tx, id, now, at);
    return e || before == now ? e : event_connection(h, tx, id, now, at);
}

static enum err batch_run(struct store_tx *tx, struct store_op *self)
{
    struct presence_batch *b = (struct presence_batch *)(void *)self;
    struct rd r = rd_of(wr_span(&b->w));
    enum err e = ERR_OK;
    while (!e && r.n) {
        uint64_t at = rd_le64(&r);
        struct span id = rd_take(&r, rd_le16(&r));
        e = still_there(tx, id);
        if (!e)
            e = write_one(b->owner->hub, tx, id, at);
        if (e == ERR_NOTFOUND) /* deleted meanwhile: no row may stay behind */
            e = ERR_OK;
    }
    return e;
}

static void batch_done(struct op *op)
{
    struct presence_batch *b = (struct presence_batch *)(void *)op;
    if (op->err) {
        METRIC_ADD(b->owner->hub, presence_dropped_total, b->entries);
        if (op->err != ERR_STOPPED)
            log_warn("presence.write", "entries=%zu err=%s", b->entries, err_name(op->err));
    }
    atomic_fetch_sub(&b->owner->waiting, 1);
    free(b->w.p);
    free(b);
}

void presence_flush(struct presence *p)
{
    struct presence_batch *b = p->open;
    if (!b)
        return;
    p->open = NULL;
    b->store.run = batch_run;
    b->store.op.done = batch_done;
    if (atomic_fetch_add(&p->waiting, 1) >= PRESENCE_WAITING_MAX)
        op_complete(&b->store.op, ERR_FULL);
    else
        store_write(p->hub->store, &b->store);
}

bool presence_note(struct presence *p, struct span identity, uint64_t wall_ms)
{
    if (p->open && p->open->w.len + ENTRY_MAX > PRESENCE_BATCH_BYTES)
        presence_flush(p);
    struct presence_batch *b = p->open;
    bool first = !b;
    if (first) {
        b = calloc(1, sizeof *b);
        if (!b)
            goto lost;
        b->owner = p;
        p->open = b;
    }
    if (b->w.len + ENTRY_MAX > b->w.cap) {
        size_t cap = b->w.cap ? 2 * b->w.cap : BATCH_FIRST;
        uint8_t *grown = realloc(b->w.p, cap);
        if (!grown)
            goto lost;
        b->w.p = grown;
        b->w.cap = cap;
    }
    wr_le64(&b->w, wall_ms);
    wr_le16(&b->w, (uint16_t)identity.n);
    wr_put(&b->w, identity);
    b->entries++;
    return first;
lost:
    METRIC_ADD(p->hub, presence_dropped_total, 1);
    return first && p->open;
}

/* A place holds the upper bits of the hash, and the minute. Whoever makes hashes meet only has itself written
 * more often. Each has minutes of its own, or everybody would be written at once. */
bool presence_note_activity(struct presence *p, struct span identity, uint64_t wall_ms)
{
    static const uint64_t key[2] = { 1, 2 };
    uint64_t h = map_siphash(key, identity), minute = (wall_ms + h % MINUTE_MS) / MINUTE_MS;
    uint64_t mark = (h & ~(uint64_t)MINUTE_MASK) | (minute & MINUTE_MASK);
    if (!p->recent && !(p->recent = calloc(PRESENCE_RECENT, sizeof *p->recent))) {
        METRIC_ADD(p->hub, presence_dropped_total, 1);
        return false;
    }
    uint64_t *place = &p->recent[h % PRESENCE_RECENT];
    if (*place == mark)
        return false;
    *place = mark;
    return presence_note(p, identity, wall_ms);
}
