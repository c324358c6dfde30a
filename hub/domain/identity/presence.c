/* hub/domain/identity/presence.c - see presence.h. A batch is a run of entries: wall_ms, length of the
 * identity (two bytes), identity. */
#include "hub/domain/identity/presence.h"

#include "base/log.h"
#include "base/map.h"
#include "hub/domain/event/event.h"
#include "hub/domain/hub.h"
#include "hub/domain/metrics.h"

#include <stdlib.h>

#define ENTRY_MAX   (10u + 2 * DEVICE_ID_MAX + 1)
#define TEXT_FIRST  1024u
#define MINUTE_MS   60000u
#define MINUTE_MASK 0xffffffu /* of a place: the minute, for thirty years */

struct presence_batch {
    struct store_op store; /* first */
    struct presence *owner;
    struct presence_batch *next; /* on owner->refused */
    bool said;                   /* that it was refused */
    size_t entries, len;
    uint8_t text[];
};

void presence_init(struct presence *p, struct hub *h)
{
    memset(p, 0, sizeof *p);
    p->hub = h;
}

static struct presence_batch *refused_take(struct presence *p)
{
    return atomic_exchange(&p->refused, NULL);
}

void presence_fini(struct presence *p)
{
    for (struct presence_batch *b = refused_take(p), *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(p->text);
    free(p->places);
    free(p->recent);
    p->text = NULL;
    p->places = NULL;
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
    uint64_t left_ms = was.left ? was.connected_changed_ms : 0;
    if (!e || e == ERR_NOTFOUND)
        e = tx_report_set_connected(tx, id, now, at);
    if (!e && left_ms)
        e = event_connection(h, tx, id, false, left_ms);
    return e || before == now ? e : event_connection(h, tx, id, now, at);
}

static enum err batch_run(struct store_tx *tx, struct store_op *self)
{
    struct presence_batch *b = (struct presence_batch *)(void *)self;
    struct rd r = rd_of(span_of(b->text, b->len));
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
    struct presence *p = b->owner;
    if (op->err && op->err != ERR_STOPPED) {
        if (!b->said)
            log_warn("presence.write", "entries=%zu err=%s hint=\"it is tried again\"", b->entries,
                     err_name(op->err));
        b->said = true;
        b->next = atomic_load(&p->refused);
        while (!atomic_compare_exchange_weak(&p->refused, &b->next, b))
            continue;
        return;
    }
    if (op->err)
        METRIC_ADD(p->hub, presence_dropped_total, b->entries);
    atomic_fetch_sub(&p->waiting, 1);
    free(b);
}

static void batch_start(struct presence_batch *b)
{
    b->store.op = (struct op){ .done = batch_done };
    b->store.run = batch_run;
    store_write(b->owner->hub->store, &b->store);
}

/* ---- what gathers ------------------------------------------------------------------------------------- */

static size_t entry_len(const uint8_t *e)
{
    struct rd r = rd_of(span_of(e + 8, 2));
    return 10u + rd_le16(&r);
}

static bool may_send(const struct presence *p)
{
    return atomic_load(&p->waiting) < PRESENCE_WAITING_MAX &&
           !event_should_wait(p->hub, 1u << MESSAGE_SOURCE_CONNECTION);
}

/* Hands over what the store may be given. */
static void send_some(struct presence *p)
{
    while (p->taken < p->len && may_send(p)) {
        size_t n = 0, nr = 0;
        for (size_t add; p->taken + n < p->len; n += add, nr++) {
            add = entry_len(p->text + p->taken + n);
            if (n + add > PRESENCE_BATCH_BYTES)
                break;
        }
        struct presence_batch *b = malloc(sizeof *b + n);
        if (!b)
            return;
        *b = (struct presence_batch){ .owner = p, .entries = nr, .len = n };
        memcpy(b->text, p->text + p->taken, n);
        p->taken += n;
        atomic_fetch_add(&p->waiting, 1);
        batch_start(b);
    }
    if (p->taken < p->len)
        return;
    p->len = p->taken = p->places_nr = 0;
    if (p->cap > PRESENCE_BATCH_BYTES * 2) { /* there was a storm: no need to keep its memory */
        free(p->text);
        free(p->places);
        p->text = NULL;
        p->places = NULL;
        p->cap = p->places_cap = 0;
    } else if (p->places) {
        memset(p->places, 0, p->places_cap * sizeof *p->places);
    }
}

bool presence_flush(struct presence *p)
{
    for (struct presence_batch *b = refused_take(p), *next; b; b = next) {
        next = b->next;
        batch_start(b);
    }
    send_some(p);
    p->armed = p->taken < p->len || atomic_load(&p->waiting);
    return p->armed;
}

/* Where the entry of an identity is found in the table: its place, or the free one it would get. */
static uint32_t *place_of(const struct presence *p, struct span identity)
{
    static const uint64_t key[2] = { 3, 4 };
    for (size_t i = map_siphash(key, identity);; i++) {
        uint32_t *place = &p->places[i & (p->places_cap - 1)];
        if (!*place)
            return place;
        const uint8_t *e = p->text + *place - 1;
        if (*place - 1 >= p->taken && span_eq(span_of(e + 10, entry_len(e) - 10), identity))
            return place;
    }
}

static void places_fill(struct presence *p)
{
    p->places_nr = 0;
    for (size_t at = p->taken; at < p->len; at += entry_len(p->text + at), p->places_nr++) {
        const uint8_t *e = p->text + at;
        *place_of(p, span_of(e + 10, entry_len(e) - 10)) = (uint32_t)at + 1;
    }
}

/* A larger table, for what is not on its way. */
static bool places_make(struct presence *p, size_t cap)
{
    uint32_t *fresh = calloc(cap, sizeof *fresh);
    if (!fresh)
        return false;
    free(p->places);
    p->places = fresh;
    p->places_cap = cap;
    places_fill(p);
    return true;
}

static bool room_for(struct presence *p, size_t n)
{
    if (p->len + n > UINT32_MAX / 2)
        return false;
    if (p->len + n > p->cap && p->taken > p->len / 2) { /* what is on its way needs no room here */
        memmove(p->text, p->text + p->taken, p->len - p->taken);
        p->len -= p->taken;
        p->taken = 0;
        memset(p->places, 0, p->places_cap * sizeof *p->places);
        places_fill(p);
    }
    if (p->len + n > p->cap) {
        size_t cap = p->cap ? 2 * p->cap : TEXT_FIRST;
        uint8_t *grown = realloc(p->text, cap);
        if (!grown)
            return false;
        p->text = grown;
        p->cap = cap;
    }
    return (p->places_nr + 1) * 2 <= p->places_cap || places_make(p, p->places_cap ? 2 * p->places_cap : 64);
}

bool presence_note(struct presence *p, struct span identity, uint64_t wall_ms)
{
    struct wr w;
    if (p->len - p->taken + ENTRY_MAX > PRESENCE_BATCH_BYTES)
        send_some(p);
    if (!room_for(p, ENTRY_MAX)) {
        METRIC_ADD(p->hub, presence_dropped_total, 1);
        return false;
    }
    uint32_t *place = place_of(p, identity);
    if (*place) {
        w = (struct wr){ p->text + *place - 1, 8, 0 };
        wr_le64(&w, wall_ms);
    } else {
        w = (struct wr){ p->text, p->cap, p->len };
        wr_le64(&w, wall_ms);
        wr_le16(&w, (uint16_t)identity.n);
        wr_put(&w, identity);
        *place = (uint32_t)p->len + 1;
        p->places_nr++;
        p->len = w.len;
    }
    bool first = !p->armed;
    p->armed = true;
    return first;
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

/* ---- those of an earlier start ------------------------------------------------------------------------ */

struct left_op { /* owned by itself */
    struct store_op store;
    struct hub *h;
    _Atomic int *state;
    size_t nr;
    struct left_one {
        uint64_t at_ms;
        size_t len;
        uint8_t identity[2 * DEVICE_ID_MAX + 1];
    } all[PRESENCE_LEFT_MAX];
};

static enum err left_add(void *ctx, const struct report_row *r)
{
    struct left_op *l = ctx;
    struct left_one *one = &l->all[l->nr];
    if (l->nr == PRESENCE_LEFT_MAX || r->device.n > sizeof one->identity)
        return ERR_LIMIT;
    *one = (struct left_one){ .at_ms = r->connected_changed_ms, .len = r->device.n };
    memcpy(one->identity, r->device.p, r->device.n);
    l->nr++;
    return ERR_OK;
}

static enum err left_run(struct store_tx *tx, struct store_op *self)
{
    struct left_op *l = (struct left_op *)(void *)self;
    l->nr = 0;
    enum err e = tx_report_left(tx, PRESENCE_LEFT_MAX, left_add, l);
    for (size_t i = 0; i < l->nr && !e; i++) {
        struct span id = span_of(l->all[i].identity, l->all[i].len);
        e = tx_report_end_left(tx, id);
        if (!e)
            e = event_connection(l->h, tx, id, false, l->all[i].at_ms);
    }
    return e;
}

static void left_done(struct op *op)
{
    struct left_op *l = (struct left_op *)(void *)op;
    if (!op->err && l->nr == PRESENCE_LEFT_MAX) { /* others have their turn in between */
        store_write(l->h->store, &l->store);
        return;
    }
    if (op->err && op->err != ERR_STOPPED)
        log_warn("presence.left", "err=%s hint=\"it is tried again\"", err_name(op->err));
    atomic_store(l->state, op->err ? LEFT_UNTOLD : LEFT_TOLD);
    free(l);
}

void presence_tell_left(struct hub *h, _Atomic int *state)
{
    int untold = LEFT_UNTOLD;
    if (event_should_wait(h, 1u << MESSAGE_SOURCE_CONNECTION) ||
        !atomic_compare_exchange_strong(state, &untold, LEFT_BUSY))
        return;
    const bool wanted = event_wanted(h, MESSAGE_SOURCE_CONNECTION);
    struct left_op *l = wanted ? calloc(1, sizeof *l) : NULL;
    if (!l) {
        atomic_store(state, wanted ? LEFT_UNTOLD : LEFT_TOLD);
        return;
    }
    l->h = h;
    l->state = state;
    l->store.run = left_run;
    l->store.op.done = left_done;
    store_write(h->store, &l->store);
}
