/* core/amqp/amqp_link.c - links, and the deliveries that go over them [2.6]. */
#include "core/amqp/amqp_impl.h"

/* ---- making and dropping ------------------------------------------------------------------------------ */

/* The lowest handle that is free. The links lie in the order of their handles, so this is a walk over those
 * that there are, and no more: a peer may attach thousands before it has said who it is. *before: where a
 * link of this handle belongs. */
static uint32_t handle_pick(struct amqp_session *s, struct list **before)
{
    uint32_t h = 0;
    struct list *n = s->links.next;
    for (; n != &s->links && ((struct amqp_link *)n)->handle == h; n = n->next)
        h++;
    *before = n;
    return h;
}

static struct amqp_link *link_new(struct amqp_session *s, struct span name)
{
    struct amqp_conn *c = s->conn;
    struct list *before;
    uint32_t handle = handle_pick(s, &before);
    if (c->links_nr >= c->cfg->links_max || handle > s->handle_max)
        return NULL;
    struct amqp_link *l = amqp_mem_get(c, sizeof *l + name.n);
    if (!l)
        return NULL;
    *l = (struct amqp_link){ .session = s, .handle = handle, .name_len = (uint16_t)name.n };
    if (name.n)
        memcpy(l->name, name.p, name.n);
    list_push(before, &l->node); /* in front of it */
    c->links_nr++;
    return l;
}

static void partial_drop(struct amqp_link *l)
{
    amqp_mem_put(l->session->conn, l->partial, l->partial_cap);
    l->partial = NULL;
    l->partial_len = l->partial_cap = 0;
    l->in_partial = false;
}

void amqp_link_drop(struct amqp_link *l)
{
    struct amqp_session *s = l->session;
    for (struct list *n = s->unsettled.next, *next; n != &s->unsettled; n = next) {
        struct amqp_delivery *d = (struct amqp_delivery *)n;
        next = n->next;
        if (d->link == l) {
            list_del(n);
            s->conn->sent_nr--;
            amqp_mem_put(s->conn, d, sizeof *d);
        }
    }
    s->conn->got_nr -= l->got_nr;
    l->got_nr = 0;
    l->credit = 0;
    partial_drop(l);
    amqp_index_del(&s->by_handle, &l->by_handle);
    list_del(&l->node);
}

void amqp_link_free(struct amqp_link *l)
{
    struct amqp_conn *c = l->session->conn;
    c->links_nr--;
    amqp_mem_put(c, l, sizeof *l + l->name_len);
}

/* ---- attach and detach -------------------------------------------------------------------------------- */

static bool attach_write(struct amqp_link *l, const struct amqp_attach *with, struct wr *out)
{
    struct amqp_session *s = l->session;
    struct amqp_attach a = *with;
    size_t at = amqp_frame_begin(out, AMQP_FRAME_AMQP, s->channel);
    a.name = amqp_link_name(l);
    a.handle = l->handle;
    a.receiver = l->receiver;
    amqp_attach_encode(out, &a);
    if (!wr_ok(out) || out->len - at > s->conn->frame_max) {
        out->len = at;
        return false;
    }
    amqp_frame_end(out, at);
    l->attach_sent = true;
    s->conn->tx_ms = s->conn->now_ms;
    return true;
}

enum err amqp_attach(struct amqp_session *s, const struct amqp_attach *a, void *user, struct wr *out,
                     struct amqp_link **link)
{
    if (!amqp_has_room(out))
        return ERR_AGAIN;
    if (!s->begin_seen)
        s->handle_max = UINT32_MAX; /* said with the answer; nothing is sent that needs a high one */
    struct amqp_link *l = a->name.n <= AMQP_NAME_MAX ? link_new(s, a->name) : NULL;
    if (!l)
        return ERR_LIMIT;
    l->receiver = a->receiver;
    l->snd_mode = a->snd_mode;
    l->rcv_mode = a->rcv_mode;
    l->user = user;
    if (!attach_write(l, a, out)) {
        amqp_link_drop(l);
        amqp_link_free(l);
        return ERR_LIMIT;
    }
    *link = l;
    return ERR_OK;
}

enum err amqp_accept(struct amqp_link *l, const struct amqp_attach *a, struct wr *out)
{
    assert(!l->attach_sent);
    if (out->cap - out->len < AMQP_ROOM + a->source.raw.n + a->target.raw.n + a->properties.n)
        return ERR_AGAIN;
    return attach_write(l, a, out) ? ERR_OK : ERR_LIMIT;
}

void amqp_refuse(struct amqp_link *l, struct span properties, struct wr *out)
{
    assert(!l->attach_sent);
    struct amqp_attach a = { .snd_mode = l->snd_mode, .rcv_mode = l->rcv_mode, .properties = properties };
    if (!attach_write(l, &a, out)) { /* a peer of tiny frames and a long name */
        l->attach_sent = true;
        (void)amqp_fail(l->session->conn, ERR_LIMIT, "amqp:connection:framing-error",
                        "an attach does not fit into a frame of the peer", out);
    }
}

static void detach_write(struct amqp_link *l, bool closed, const struct amqp_error *e, struct wr *out)
{
    struct amqp_session *s = l->session;
    if (!l->attach_sent)
        amqp_refuse(l, SPAN_NONE, out);
    size_t at = amqp_frame_begin(out, AMQP_FRAME_AMQP, s->channel);
    struct amqp_detach d = { .handle = l->handle, .closed = closed };
    if (e)
        d.error = *e;
    amqp_detach_encode(out, &d);
    amqp_frame_end(out, at);
    l->detach_sent = true;
    s->conn->tx_ms = s->conn->now_ms;
}

void amqp_detach(struct amqp_link *l, const struct amqp_error *e, struct wr *out)
{
    struct amqp_session *s = l->session;
    if (l->detach_sent || l->detach_seen || s->end_sent || s->conn->close_sent)
        return;
    detach_write(l, true, e, out);
    partial_drop(l);
    l->credit = 0;
}

static struct amqp_link *link_by_name(struct amqp_session *s, struct span name, bool receiver)
{
    for (struct list *n = s->links.next; n != &s->links; n = n->next) {
        struct amqp_link *l = (struct amqp_link *)n;
        bool waits = l->attach_sent && !l->attach_seen; /* for its answer, even when it is given up already */
        if (l->receiver == receiver && (waits || !l->detach_sent) && span_eq(amqp_link_name(l), name))
            return l;
    }
    return NULL;
}

enum err amqp_on_attach(struct amqp_session *s, const struct amqp_frame *f, struct amqp_event *ev,
                        struct wr *out)
{
    struct amqp_conn *c = s->conn;
    struct amqp_attach *a = &ev->attach;
    if (amqp_attach_decode(f, a))
        return amqp_fail(c, ERR_PROTO, "amqp:decode-error", "a broken attach", out);
    if (a->handle > c->cfg->handle_max)
        return amqp_fail(c, ERR_LIMIT, "amqp:connection:framing-error", "handle out of range", out);
    if (amqp_index_get(&s->by_handle, a->handle)) {
        struct amqp_error e = amqp_error_of("amqp:session:handle-in-use", "a link has this handle");
        amqp_end(s, &e, out);
        return ERR_AGAIN;
    }
    struct amqp_link *l = link_by_name(s, a->name, !a->receiver);
    bool answer = l && l->attach_sent && !l->attach_seen;
    if (l && !answer)
        return amqp_fail(c, ERR_PROTO, "amqp:invalid-field", "a link of this name is attached", out);
    if (a->name.n > AMQP_NAME_MAX)
        return amqp_fail(c, ERR_LIMIT, "amqp:invalid-field", "the name of a link is too long", out);
    if (!l && !(l = link_new(s, a->name)))
        return amqp_fail(c, ERR_LIMIT, "amqp:resource-limit-exceeded", "too many links", out);
    l->by_handle.key = a->handle;
    if (!amqp_index_put(c, &s->by_handle, &l->by_handle))
        return amqp_fail(c, ERR_LIMIT, "amqp:resource-limit-exceeded", "no room for another link", out);
    l->receiver = !a->receiver;
    l->attach_seen = true;
    l->snd_mode = a->snd_mode;
    l->rcv_mode = a->rcv_mode;
    l->max_message_size = a->max_message_size;
    if (l->receiver)
        l->delivery_count = a->initial_delivery_count;
    ev->kind = answer ? AMQP_EV_ATTACHED : AMQP_EV_ATTACH;
    ev->session = s;
    ev->link = l;
    return ERR_OK;
}

enum err amqp_on_detach(struct amqp_session *s, const struct amqp_frame *f, struct amqp_event *ev,
                        struct wr *out)
{
    struct amqp_detach d;
    if (amqp_detach_decode(f, &d))
        return amqp_fail(s->conn, ERR_PROTO, "amqp:decode-error", "a broken detach", out);
    struct amqp_node *n = amqp_index_get(&s->by_handle, d.handle);
    if (!n) {
        struct amqp_error e = amqp_error_of("amqp:session:unattached-handle", "detach of no link");
        amqp_end(s, &e, out);
        return ERR_AGAIN;
    }
    struct amqp_link *l = CONTAINER_OF(n, struct amqp_link, by_handle);
    l->detach_seen = true;
    if (!l->detach_sent)
        detach_write(l, d.closed, NULL, out);
    amqp_link_drop(l);
    s->conn->dead_link = l;
    ev->kind = AMQP_EV_DETACH;
    ev->session = s;
    ev->link = l;
    ev->error = d.error;
    return ERR_OK;
}

/* ---- receiving ---------------------------------------------------------------------------------------- */

static void credit(struct amqp_link *l, uint32_t n, bool drain, struct wr *out)
{
    assert(l->receiver);
    if (l->detach_sent || l->detach_seen || l->session->end_sent || l->session->conn->close_sent)
        return;
    l->credit = n;
    l->drain = drain;
    amqp_session_flow(l->session, l, false, out);
}
void amqp_credit(struct amqp_link *l, uint32_t n, struct wr *out)
{
    credit(l, n, false, out);
}
void amqp_drain(struct amqp_link *l, uint32_t n, struct wr *out)
{
    credit(l, n, n > 0, out);
}

void amqp_settle(struct amqp_link *l, uint32_t first, uint32_t last, uint32_t nr, const struct amqp_state *st,
                 struct wr *out)
{
    struct amqp_session *s = l->session;
    assert(l->got_nr >= nr);
    l->got_nr -= nr;
    s->conn->got_nr -= nr;
    if (s->end_sent || s->conn->close_sent)
        return;
    size_t at = amqp_frame_begin(out, AMQP_FRAME_AMQP, s->channel);
    amqp_disposition_encode(out, &(struct amqp_disposition){ true, first, last, true, *st });
    amqp_frame_end(out, at);
    s->conn->tx_ms = s->conn->now_ms;
}

/* The window of the session is open again before it is used up. */
static void window_step(struct amqp_session *s, struct wr *out)
{
    s->next_incoming_id++;
    s->incoming_window--;
    if (s->incoming_window > s->conn->cfg->incoming_window / 2)
        return;
    s->incoming_window = s->conn->cfg->incoming_window;
    amqp_session_flow(s, NULL, false, out);
}

static bool partial_add(struct amqp_link *l, struct span more)
{
    struct amqp_conn *c = l->session->conn;
    size_t need = l->partial_len + more.n;
    if (need > l->partial_cap) {
        size_t cap = l->partial_cap ? l->partial_cap : 4096;
        while (cap < need)
            cap *= 2;
        uint8_t *p = amqp_mem_get(c, cap);
        if (!p)
            return false;
        if (l->partial_len)
            memcpy(p, l->partial, l->partial_len);
        amqp_mem_put(c, l->partial, l->partial_cap);
        l->partial = p;
        l->partial_cap = cap;
    }
    if (more.n)
        memcpy(l->partial + l->partial_len, more.p, more.n);
    l->partial_len = need;
    return true;
}

/* The first frame of a delivery. ERR_AGAIN: the link does not take it. */
static enum err delivery_begin(struct amqp_link *l, const struct amqp_transfer *t, struct wr *out)
{
    struct amqp_conn *c = l->session->conn;
    if (!t->has_delivery_id || !t->has_tag || t->tag.n > AMQP_TAG_MAX)
        return amqp_fail(c, ERR_PROTO, "amqp:invalid-field", "a delivery without id or tag", out);
    if (!l->credit) {
        struct amqp_error e = amqp_error_of("amqp:link:transfer-limit-exceeded", "a delivery without credit");
        amqp_detach(l, &e, out);
        return ERR_AGAIN;
    }
    if (!--l->credit)
        l->drain = false; /* all of it is used */
    l->delivery_count++;
    l->in_partial = true;
    l->partial_id = t->delivery_id;
    l->partial_format = t->format;
    l->partial_settled = l->snd_mode == AMQP_SND_SETTLED;
    l->partial_tag_len = (uint8_t)t->tag.n;
    if (t->tag.n)
        memcpy(l->partial_tag, t->tag.p, t->tag.n);
    return ERR_OK;
}

enum err amqp_on_transfer(struct amqp_session *s, const struct amqp_frame *f, struct amqp_event *ev,
                          struct wr *out)
{
    struct amqp_conn *c = s->conn;
    struct amqp_transfer t;
    enum err e;
    if (amqp_transfer_decode(f, &t))
        return amqp_fail(c, ERR_PROTO, "amqp:decode-error", "a broken transfer", out);
    struct amqp_node *n = amqp_index_get(&s->by_handle, t.handle);
    struct amqp_link *l = n ? CONTAINER_OF(n, struct amqp_link, by_handle) : NULL;
    if (!l || !l->receiver) {
        struct amqp_error err = amqp_error_of("amqp:session:unattached-handle", "a transfer on no link");
        amqp_end(s, &err, out);
        return ERR_AGAIN;
    }
    window_step(s, out);
    if (l->detach_sent)
        return ERR_AGAIN;
    if (!l->in_partial && (e = delivery_begin(l, &t, out)))
        return e;
    if (t.has_delivery_id && t.delivery_id != l->partial_id)
        return amqp_fail(c, ERR_PROTO, "amqp:invalid-field", "a delivery inside another", out);
    if (t.has_settled) /* it may be said with any frame of the delivery [2.7.5] */
        l->partial_settled = l->partial_settled || t.settled;
    if (t.aborted) {
        partial_drop(l);
        return ERR_AGAIN;
    }
    if (f->payload.n > c->cfg->delivery_max - l->partial_len) {
        struct amqp_error err = amqp_error_of("amqp:link:message-size-exceeded", "the message is too large");
        amqp_detach(l, &err, out);
        return ERR_AGAIN;
    }
    bool whole = !t.more && !l->partial_len;
    if (!whole && !partial_add(l, f->payload))
        return amqp_fail(c, ERR_LIMIT, "amqp:resource-limit-exceeded", "too much is under way", out);
    if (t.more)
        return ERR_AGAIN;
    if (!l->partial_settled) {
        if (c->got_nr >= c->cfg->unsettled_max)
            return amqp_fail(c, ERR_LIMIT, "amqp:resource-limit-exceeded", "too many unsettled deliveries",
                             out);
        c->got_nr++;
        l->got_nr++;
    }
    ev->kind = AMQP_EV_DELIVERY;
    ev->session = s;
    ev->link = l;
    ev->delivery.id = l->partial_id;
    ev->delivery.format = l->partial_format;
    ev->delivery.tag = span_of(l->partial_tag, l->partial_tag_len);
    ev->delivery.settled = l->partial_settled;
    ev->delivery.payload = whole ? f->payload : span_of(l->partial, l->partial_len);
    c->spent = l->partial; /* given back with the next call */
    c->spent_cap = l->partial_cap;
    l->partial = NULL;
    l->partial_len = l->partial_cap = 0;
    l->in_partial = false;
    return ERR_OK;
}

/* ---- sending ------------------------------------------------------------------------------------------ */

static enum err send_begin(struct amqp_link *l, struct amqp_send *m)
{
    struct amqp_session *s = l->session;
    struct amqp_conn *c = s->conn;
    struct amqp_delivery *d;
    assert(m->tag.n && m->tag.n <= AMQP_TAG_MAX && !l->sending);
    if (l->max_message_size && m->head.n + m->body.n > l->max_message_size)
        return ERR_LIMIT;
    if (!l->credit)
        return ERR_AGAIN;
    if (!m->settled) {
        if (c->sent_nr >= c->cfg->unsettled_max)
            return ERR_LIMIT;
        if (!(d = amqp_mem_get(c, sizeof *d)))
            return ERR_NOMEM;
        *d = (struct amqp_delivery){ .link = l, .user = m->user, .id = s->next_delivery_id };
        list_push(&s->unsettled, &d->node);
        c->sent_nr++;
    }
    l->credit--;
    l->delivery_count++;
    l->sending = true;
    m->begun = true;
    return ERR_OK;
}

static void put_part(struct wr *out, const struct amqp_send *m, size_t n)
{
    size_t at = m->done, from_head = at < m->head.n ? m->head.n - at : 0;
    from_head = from_head < n ? from_head : n;
    if (from_head)
        wr_put(out, span_of(m->head.p + at, from_head));
    if (n > from_head)
        wr_put(out, span_of(m->body.p + (at + from_head - m->head.n), n - from_head));
}

enum err amqp_send(struct amqp_link *l, struct amqp_send *m, struct wr *out)
{
    enum { HEAD = 80 }; /* frame head and transfer at their longest, tag of 32 bytes included */
    struct amqp_session *s = l->session;
    struct amqp_conn *c = s->conn;
    size_t total = m->head.n + m->body.n;
    enum err e;
    if (l->receiver || !l->attach_sent || !l->attach_seen || l->detach_sent || s->end_sent || c->close_sent)
        return ERR_AGAIN;
    for (;;) {
        size_t room = out->cap > out->len ? out->cap - out->len : 0;
        size_t left = total - m->done, fit = c->frame_max < room ? c->frame_max : room;
        if (!s->remote_window)
            s->stalled = true;
        if (!s->remote_window || fit < AMQP_FRAME_MIN)
            return ERR_AGAIN;
        bool first = !m->begun;
        if (first && (e = send_begin(l, m)))
            return e;
        fit -= HEAD;
        size_t n = left < fit ? left : fit;
        size_t at = amqp_frame_begin(out, AMQP_FRAME_AMQP, s->channel);
        amqp_transfer_encode(out, &(struct amqp_transfer){ .handle = l->handle,
                                                           .has_delivery_id = first,
                                                           .delivery_id = s->next_delivery_id,
                                                           .has_tag = first,
                                                           .tag = m->tag,
                                                           .format = m->format,
                                                           .settled = m->settled,
                                                           .more = n < left });
        assert(out->len - at <= HEAD);
        put_part(out, m, n);
        amqp_frame_end(out, at);
        if (first)
            s->next_delivery_id++;
        s->next_outgoing_id++;
        s->remote_window--;
        m->done += n;
        c->tx_ms = c->now_ms;
        if (m->done == total) {
            l->sending = false;
            return ERR_OK;
        }
    }
}

void amqp_drained(struct amqp_link *l, struct wr *out)
{
    if (l->receiver || !l->drain || l->sending || l->detach_sent)
        return;
    l->delivery_count += l->credit;
    l->credit = 0;
    amqp_session_flow(l->session, l, false, out);
    l->drain = false;
}

/* ---- dispositions of what we sent ------------------------------------------------------------------------
 */

static void delivery_free(struct amqp_session *s, struct amqp_delivery *d)
{
    list_del(&d->node);
    s->conn->sent_nr--;
    amqp_mem_put(s->conn, d, sizeof *d);
}

static struct amqp_delivery *delivery_find(struct amqp_session *s, uint32_t id)
{
    for (struct list *n = s->unsettled.next; n != &s->unsettled; n = n->next)
        if (((struct amqp_delivery *)n)->id == id)
            return (struct amqp_delivery *)n;
    return NULL;
}

/* A range is told one delivery at a time: the frame comes again until the last. */
enum err amqp_on_disposition(struct amqp_session *s, const struct amqp_frame *f, struct amqp_event *ev,
                             struct wr *out, bool *used)
{
    struct amqp_conn *c = s->conn;
    struct amqp_disposition d;
    if (amqp_disposition_decode(f, &d))
        return amqp_fail(c, ERR_PROTO, "amqp:decode-error", "a broken disposition", out);
    bool news = d.settled || (d.state.outcome >= AMQP_ACCEPTED && d.state.outcome != AMQP_STATE_OTHER);
    uint32_t from = c->disposition_on ? c->disposition_at : d.first;
    c->disposition_on = false;
    if (!d.receiver || !news) /* a sender's word on its own deliveries: they were settled by us */
        return ERR_AGAIN;
    for (struct list *n = s->unsettled.next; n != &s->unsettled; n = n->next) {
        struct amqp_delivery *x = (struct amqp_delivery *)n;
        if (x->id - from > d.last - from || d.last - from > INT32_MAX)
            continue;
        ev->kind = AMQP_EV_SETTLED;
        ev->session = s;
        ev->link = x->link;
        ev->sent.user = x->user;
        ev->sent.id = x->id;
        ev->sent.state = d.state;
        ev->sent.settled = d.settled;
        *used = x->id == d.last;
        c->disposition_on = !*used;
        c->disposition_at = x->id + 1;
        if (d.settled)
            delivery_free(s, x);
        return ERR_OK;
    }
    return ERR_AGAIN;
}

void amqp_answer(struct amqp_session *s, uint32_t id, const struct amqp_state *state, struct wr *out)
{
    (void)amqp_forget(s, id);
    if (s->end_sent || s->conn->close_sent)
        return;
    size_t at = amqp_frame_begin(out, AMQP_FRAME_AMQP, s->channel);
    amqp_disposition_encode(out, &(struct amqp_disposition){ false, id, id, true, *state });
    amqp_frame_end(out, at);
    s->conn->tx_ms = s->conn->now_ms;
}

bool amqp_forget(struct amqp_session *s, uint32_t id)
{
    struct amqp_delivery *d = delivery_find(s, id);
    if (d)
        delivery_free(s, d);
    return d != NULL;
}
