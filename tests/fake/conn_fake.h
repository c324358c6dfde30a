/* tests/fake/conn_fake.h - connections without sockets: a protocol is fed bytes and what it sends is looked
 * at. The worker is a real one without a thread (worker_turn). It keeps the rules of hub/conn/conn.h: what is
 * not taken comes again, pauses, callbacks only from the loop, death deferred. Include it once in a program,
 * in place of hub/conn/conn.c. */
#ifndef ROOST_TESTS_FAKE_CONN_FAKE_H
#define ROOST_TESTS_FAKE_CONN_FAKE_H

#include "hub/conn/conn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct conn {
    struct worker *w;
    const struct conn_proto *proto;
    void *state, *ctx;
    uint32_t slot, generation;
    bool used, closing, closed, paused, go_on, established, drained_due;
    enum conn_close why;
    uint64_t armed_ms;
    uint8_t *in; /* not taken yet */
    size_t in_len, unsent;
    uint8_t *out; /* all it sent and nobody has looked at */
    size_t out_len, out_cap;
};
enum { FAKE_CONNS = 16 };
static struct conn fake_conns[FAKE_CONNS];

const char *conn_close_name(enum conn_close why)
{
    static const char *const names[CONN_CLOSE_REASONS] = { "peer", "proto",    "auth",    "timeout",
                                                           "slow", "takeover", "limit",   "tls",
                                                           "done", "stop",     "internal" };
    return names[why];
}
void *conn_state(struct conn *c)
{
    return c->state;
}
struct worker *conn_worker(struct conn *c)
{
    return c->w;
}
struct slab *conn_slab(struct conn *c)
{
    static struct slab all;
    (void)c;
    if (!all.full.next)
        slab_init(&all);
    return &all;
}
struct bus_addr conn_addr(struct conn *c)
{
    return (struct bus_addr){ 0, (uint16_t)worker_index(c->w), c->slot, c->generation };
}
struct conn *conn_find(struct worker *w, struct bus_addr a)
{
    struct conn *c = a.slot < FAKE_CONNS ? &fake_conns[a.slot] : NULL;
    return c && c->used && c->w == w && c->generation == a.generation && !c->closing ? c : NULL;
}
void *conn_listener_ctx(struct conn *c)
{
    return c->ctx;
}
void conn_send(struct conn *c, struct span s)
{
    if (c->closed)
        return;
    if (c->out_len + s.n > c->out_cap) {
        c->out_cap = 2 * (c->out_len + s.n);
        c->out = realloc(c->out, c->out_cap);
        assert(c->out);
    }
    if (s.n)
        memcpy(c->out + c->out_len, s.p, s.n);
    c->out_len += s.n;
    c->drained_due = true;
}
size_t conn_unsent(const struct conn *c)
{
    return c->unsent;
}
void conn_close(struct conn *c, enum conn_close why)
{
    if (c->closing)
        return;
    c->closing = true;
    c->why = why;
}
bool conn_is_closing(const struct conn *c)
{
    return c->closing;
}
void conn_arm(struct conn *c, uint64_t at_ms)
{
    c->armed_ms = at_ms;
}
void conn_pause(struct conn *c, bool paused)
{
    c->go_on |= c->paused && !paused;
    c->paused = paused;
}
void conn_established(struct conn *c)
{
    c->established = true;
}
const char *conn_peer(struct conn *c, char buf[64])
{
    (void)c;
    strcpy(buf, "fake");
    return buf;
}
static struct span fake_peer_leaf; /* the certificate of every peer, until changed */
bool conn_peer_certificate(struct conn *c, struct span *out)
{
    (void)c;
    *out = fake_peer_leaf;
    return fake_peer_leaf.n > 0;
}
bool conn_peer_chain(struct conn *c, struct span *out)
{
    (void)c, (void)out;
    return false;
}
bool conn_is_tls(const struct conn *c)
{
    (void)c;
    return true;
}
static inline void fake_on_bus_wake(void *ctx, struct bus_addr to, uint32_t what)
{
    struct conn *c = conn_find(ctx, to);
    if (c && c->proto->on_wake)
        c->proto->on_wake(c, what);
}
static inline bool fake_on_bus_message(void *ctx, struct bus_addr to, const struct bus_message *m)
{
    struct conn *c = conn_find(ctx, to);
    return c && c->proto->on_message && c->proto->on_message(c, m);
}

/* ---- for tests --------------------------------------------------------------------------------------------
 */

static inline struct conn *fake_open(struct worker *w, const struct conn_proto *proto, void *ctx)
{
    uint32_t slot = 0;
    while (slot < FAKE_CONNS && fake_conns[slot].used)
        slot++;
    assert(slot < FAKE_CONNS);
    struct conn *c = &fake_conns[slot];
    *c = (struct conn){
        .w = w, .proto = proto, .ctx = ctx, .slot = slot, .generation = c->generation + 1, .used = true
    };
    c->state = calloc(1, proto->state_len);
    assert(c->state);
    proto->on_open(c);
    return c;
}

static inline void fake_give(struct conn *c)
{
    if (c->closing || c->paused || !c->in_len)
        return;
    /* A block of its own, so that a sanitizer sees every byte read past the end. */
    uint8_t *copy = malloc(c->in_len);
    assert(copy);
    memcpy(copy, c->in, c->in_len);
    struct span in = span_of(copy, c->in_len);
    c->proto->on_bytes(c, &in);
    assert(in.n <= c->in_len);
    memmove(c->in, c->in + (c->in_len - in.n), in.n);
    c->in_len = in.n;
    free(copy);
    if (c->in_len > c->proto->in_max)
        conn_close(c, CONN_CLOSE_PROTO);
}

static inline void fake_feed(struct conn *c, struct span s)
{
    if (!s.n)
        return;
    c->in = realloc(c->in, c->in_len + s.n);
    assert(c->in);
    memcpy(c->in + c->in_len, s.p, s.n);
    c->in_len += s.n;
    fake_give(c);
}

/* What the loop does at the end of a turn. */
static inline void fake_turn_end(void)
{
    for (unsigned i = 0; i < FAKE_CONNS; i++) {
        struct conn *c = &fake_conns[i];
        if (!c->used || c->closed)
            continue;
        if (c->go_on && !c->paused) {
            c->go_on = false;
            fake_give(c);
        }
        if (!c->closing && c->drained_due) {
            c->drained_due = false;
            if (c->proto->on_drained)
                c->proto->on_drained(c);
        }
        if (c->closing) {
            c->proto->on_close(c, c->why);
            c->closed = true;
            free(c->state);
            c->state = NULL;
        }
    }
}

/* The peer goes away, unless it is closed already; then the test is done with it. */
static inline void fake_drop(struct conn *c)
{
    conn_close(c, CONN_CLOSE_PEER);
    fake_turn_end();
    free(c->in);
    free(c->out);
    c->in = c->out = NULL;
    c->in_len = c->out_len = c->out_cap = 0;
    c->used = false;
}

#endif
