/* core/amqp/amqp_session.c - sessions and their windows [2.5], the index by number, and the memory account.
 */
#include "core/amqp/amqp_impl.h"

/* ---- memory ------------------------------------------------------------------------------------------- */

void *amqp_mem_get(struct amqp_conn *c, size_t n)
{
    if (n > c->cfg->memory_max - c->memory)
        return NULL;
    void *p = c->mem.get(c->mem.ctx, n);
    if (p)
        c->memory += n;
    return p;
}

void amqp_mem_put(struct amqp_conn *c, void *p, size_t n)
{
    if (!p)
        return;
    assert(c->memory >= n);
    c->memory -= n;
    c->mem.put(c->mem.ctx, p, n);
}

/* ---- the index ---------------------------------------------------------------------------------------- */

struct amqp_node *amqp_index_get(const struct amqp_index *x, uint32_t key)
{
    struct amqp_node *n = x->cap ? x->buckets[key & (x->cap - 1)].first : NULL;
    while (n && n->key != key)
        n = n->next;
    return n;
}

static bool index_grow(struct amqp_conn *c, struct amqp_index *x)
{
    uint32_t cap = x->cap ? x->cap * 2 : 4;
    struct amqp_bucket *b = amqp_mem_get(c, cap * sizeof *b);
    if (!b)
        return false;
    for (uint32_t i = 0; i < cap; i++)
        b[i].first = NULL;
    for (uint32_t i = 0; i < x->cap; i++)
        for (struct amqp_node *n = x->buckets[i].first, *next; n; n = next) {
            next = n->next;
            n->next = b[n->key & (cap - 1)].first;
            b[n->key & (cap - 1)].first = n;
        }
    amqp_mem_put(c, x->buckets, x->cap * sizeof *b);
    x->buckets = b;
    x->cap = cap;
    return true;
}

bool amqp_index_put(struct amqp_conn *c, struct amqp_index *x, struct amqp_node *n)
{
    if (x->nr >= x->cap && !index_grow(c, x))
        return false;
    n->next = x->buckets[n->key & (x->cap - 1)].first;
    x->buckets[n->key & (x->cap - 1)].first = n;
    x->nr++;
    return true;
}

void amqp_index_del(struct amqp_index *x, struct amqp_node *n)
{
    struct amqp_node **at = x->cap ? &x->buckets[n->key & (x->cap - 1)].first : NULL;
    while (at && *at && *at != n)
        at = &(*at)->next;
    if (at && *at) {
        *at = n->next;
        x->nr--;
    }
}

void amqp_index_fini(struct amqp_conn *c, struct amqp_index *x)
{
    amqp_mem_put(c, x->buckets, x->cap * sizeof *x->buckets);
    *x = (struct amqp_index){ 0 };
}

/* ---- sessions ----------------------------------------------------------------------------------------- */

static bool channel_is_free(const struct amqp_conn *c, uint32_t channel)
{
    const struct list *const lists[] = { &c->sessions, &c->ending };
    for (unsigned i = 0; i < 2; i++)
        for (struct list *n = lists[i]->next; n != lists[i]; n = n->next)
            if (((struct amqp_session *)n)->channel == channel)
                return false;
    return true;
}

/* The wished-for channel, else the lowest that is free. False: the peer allows no more. */
static bool channel_pick(const struct amqp_conn *c, uint32_t wish, uint16_t *out)
{
    if (wish > c->channel_max || !channel_is_free(c, wish))
        for (wish = 0; wish <= c->channel_max && !channel_is_free(c, wish); wish++)
            ;
    *out = (uint16_t)wish;
    return wish <= c->channel_max;
}

static struct amqp_session *session_new(struct amqp_conn *c, uint32_t wish)
{
    uint16_t channel;
    if (!channel_pick(c, wish, &channel))
        return NULL;
    struct amqp_session *s = amqp_mem_get(c, sizeof *s);
    if (!s)
        return NULL;
    *s = (struct amqp_session){
        .conn = c, .channel = channel, .incoming_window = c->cfg->incoming_window, .next_outgoing_id = 1
    };
    list_init(&s->links);
    list_init(&s->unsettled);
    list_push(&c->sessions, &s->node);
    c->sessions_nr++;
    return s;
}

void amqp_session_free(struct amqp_session *s)
{
    struct amqp_conn *c = s->conn;
    while (!list_is_empty(&s->links)) {
        struct amqp_link *l = (struct amqp_link *)list_pop(&s->links);
        amqp_link_drop(l);
        amqp_link_free(l);
    }
    assert(list_is_empty(&s->unsettled));
    amqp_index_fini(c, &s->by_handle);
    amqp_index_del(&c->by_channel, &s->by_channel);
    list_del(&s->node);
    c->sessions_nr--;
    amqp_mem_put(c, s, sizeof *s);
}

static void begin_write(struct amqp_session *s, uint32_t remote_channel, struct wr *out)
{
    struct amqp_conn *c = s->conn;
    size_t at = amqp_frame_begin(out, AMQP_FRAME_AMQP, s->channel);
    amqp_begin_encode(out, &(struct amqp_begin){ .remote_channel = remote_channel,
                                                 .next_outgoing_id = s->next_outgoing_id,
                                                 .incoming_window = s->incoming_window,
                                                 .outgoing_window = INT32_MAX,
                                                 .handle_max = c->cfg->handle_max });
    amqp_frame_end(out, at);
    c->tx_ms = c->now_ms;
}

enum err amqp_begin(struct amqp_conn *c, struct wr *out, struct amqp_session **session)
{
    if (!amqp_has_room(out))
        return ERR_AGAIN;
    if (c->sessions_nr >= c->cfg->sessions_max)
        return ERR_LIMIT;
    struct amqp_session *s = session_new(c, 0);
    if (!s)
        return ERR_LIMIT;
    s->local = true;
    begin_write(s, AMQP_NONE, out);
    *session = s;
    return ERR_OK;
}

static struct amqp_session *session_by_ours(struct amqp_conn *c, uint32_t channel)
{
    for (struct list *n = c->sessions.next; n != &c->sessions; n = n->next) {
        struct amqp_session *s = (struct amqp_session *)n;
        if (s->channel == channel && s->local && !s->begin_seen)
            return s;
    }
    return NULL;
}

enum err amqp_on_begin(struct amqp_conn *c, const struct amqp_frame *f, struct amqp_event *ev, struct wr *out)
{
    struct amqp_begin b;
    struct amqp_session *s;
    if (amqp_begin_decode(f, &b))
        return amqp_fail(c, ERR_PROTO, "amqp:decode-error", "a broken begin", out);
    if (amqp_index_get(&c->by_channel, f->channel))
        return amqp_fail(c, ERR_PROTO, "amqp:not-allowed", "a session is on this channel", out);
    if (b.remote_channel != AMQP_NONE) {
        s = session_by_ours(c, b.remote_channel);
        if (!s)
            return amqp_fail(c, ERR_PROTO, "amqp:not-found", "an answer to no begin", out);
    } else if (c->sessions_nr >= c->cfg->sessions_max) {
        return amqp_fail(c, ERR_LIMIT, "amqp:resource-limit-exceeded", "too many sessions", out);
    } else if (!(s = session_new(c, f->channel))) {
        return amqp_fail(c, ERR_LIMIT, "amqp:resource-limit-exceeded", "no room for another session", out);
    }
    s->by_channel.key = f->channel;
    if (!amqp_index_put(c, &c->by_channel, &s->by_channel))
        return amqp_fail(c, ERR_LIMIT, "amqp:resource-limit-exceeded", "no room for another session", out);
    s->begin_seen = true;
    s->next_incoming_id = b.next_outgoing_id;
    s->remote_window = b.incoming_window;
    s->handle_max = b.handle_max;
    if (!s->local)
        begin_write(s, f->channel, out);
    ev->kind = AMQP_EV_BEGIN;
    ev->session = s;
    return ERR_OK;
}

static void end_write(struct amqp_session *s, const struct amqp_error *e, struct wr *out)
{
    size_t at = amqp_frame_begin(out, AMQP_FRAME_AMQP, s->channel);
    amqp_end_encode(out, AMQP_END, e ? e : &(struct amqp_error){ 0 });
    amqp_frame_end(out, at);
    s->end_sent = true;
    s->conn->tx_ms = s->conn->now_ms;
}

void amqp_end(struct amqp_session *s, const struct amqp_error *e, struct wr *out)
{
    if (s->end_sent || s->conn->close_sent)
        return;
    end_write(s, e, out);
    list_move(&s->node, &s->conn->ending);
}

enum err amqp_on_end(struct amqp_conn *c, struct amqp_session *s, const struct amqp_frame *f, struct wr *out)
{
    struct amqp_error e;
    if (amqp_end_decode(f, &e))
        return amqp_fail(c, ERR_PROTO, "amqp:decode-error", "a broken end", out);
    s->end_seen = true;
    amqp_index_del(&c->by_channel, &s->by_channel);
    if (s->end_sent) { /* its answer; what ended with it has been told, unless that is still under way */
        bool told = true;
        for (struct list *n = c->ending.next; n != &c->ending; n = n->next)
            told = told && n != &s->node;
        if (told)
            amqp_session_free(s);
        return ERR_AGAIN;
    }
    if (e.condition.n)
        amqp_keep_error(c, s, f);
    end_write(s, NULL, out);
    list_move(&s->node, &c->ending);
    return ERR_AGAIN;
}

/* ---- flow [2.5.6, 2.6.7] ------------------------------------------------------------------------------ */

void amqp_session_flow(struct amqp_session *s, struct amqp_link *l, bool echo, struct wr *out)
{
    size_t at = amqp_frame_begin(out, AMQP_FRAME_AMQP, s->channel);
    struct amqp_flow f = { .has_next_incoming = s->begin_seen,
                           .next_incoming_id = s->next_incoming_id,
                           .incoming_window = s->incoming_window,
                           .next_outgoing_id = s->next_outgoing_id,
                           .outgoing_window = INT32_MAX,
                           .echo = echo };
    if (l) {
        f.has_handle = f.has_credit = true;
        f.has_delivery_count = !l->receiver || l->attach_seen;
        f.handle = l->handle;
        f.delivery_count = l->delivery_count;
        f.credit = l->credit;
        f.drain = l->drain;
    }
    amqp_flow_encode(out, &f);
    amqp_frame_end(out, at);
    s->conn->tx_ms = s->conn->now_ms;
}

/* a - b of serial numbers, or 0 when b is ahead. */
static uint32_t serial_left(uint32_t a, uint32_t b)
{
    uint32_t d = a - b;
    return d & 0x80000000u ? 0 : d;
}

static void link_flow(struct amqp_link *l, const struct amqp_flow *f)
{
    if (l->receiver) { /* the sender used credit up without sending: drain */
        if (f->has_delivery_count) {
            uint32_t passed = serial_left(f->delivery_count, l->delivery_count);
            passed = passed < l->credit ? passed : l->credit;
            l->credit -= passed;
            l->delivery_count += passed;
        }
        if (!l->credit)
            l->drain = false;
        return;
    }
    /* What has left since the peer wrote this counts against it; it cannot have seen what was not sent. */
    uint32_t seen = f->has_delivery_count ? f->delivery_count : l->initial_count;
    uint32_t under_way = serial_left(l->delivery_count, seen);
    l->credit = f->credit > under_way ? f->credit - under_way : 0;
    l->drain = f->drain;
}

enum err amqp_on_flow(struct amqp_session *s, const struct amqp_frame *frame, struct amqp_event *ev,
                      struct wr *out)
{
    struct amqp_flow f;
    struct amqp_link *l = NULL;
    bool told = false;
    if (amqp_flow_decode(frame, &f))
        return amqp_fail(s->conn, ERR_PROTO, "amqp:decode-error", "a broken flow", out);
    uint32_t seen = f.has_next_incoming ? f.next_incoming_id : 1;
    uint32_t under_way = serial_left(s->next_outgoing_id, seen);
    s->remote_window = f.incoming_window > under_way ? f.incoming_window - under_way : 0;
    s->next_incoming_id = f.next_outgoing_id;
    if (f.has_handle) {
        struct amqp_node *n = amqp_index_get(&s->by_handle, f.handle);
        if (!n) {
            struct amqp_error e = amqp_error_of("amqp:session:unattached-handle", "flow on no link");
            amqp_end(s, &e, out);
            return ERR_AGAIN;
        }
        l = CONTAINER_OF(n, struct amqp_link, by_handle);
        if (l->detach_sent)
            return ERR_AGAIN;
        told = !l->receiver || l->drain;
        link_flow(l, &f);
        told = told && !(l->receiver && l->drain);
    }
    if (f.echo)
        amqp_session_flow(s, l && l->attach_sent ? l : NULL, false, out);
    ev->kind = AMQP_EV_FLOW;
    ev->session = s;
    if (s->stalled && s->remote_window) { /* then every link of it may have something to go on with */
        s->stalled = false;
        return ERR_OK;
    }
    ev->link = l;
    return told ? ERR_OK : ERR_AGAIN;
}
