/* core/amqp/amqp_conn.c - the connection: headers, SASL, open and close, heartbeats, and which frame goes
 * where. */
#include "core/amqp/amqp_impl.h"

struct amqp_error amqp_error_of(const char *condition, const char *text)
{
    return (struct amqp_error){ span_str(condition), span_str(text), SPAN_NONE };
}

void amqp_conn_init(struct amqp_conn *c, const struct amqp_config *cfg, const struct amqp_mem *mem,
                    uint64_t now_ms)
{
    assert(cfg->frame_max >= AMQP_FRAME_MIN && cfg->incoming_window > 1);
    assert(cfg->container_id.n + cfg->hostname.n + cfg->properties.n <= 1000);
    *c = (struct amqp_conn){ .cfg = cfg,
                             .mem = *mem,
                             .now_ms = now_ms,
                             .rx_ms = now_ms,
                             .tx_ms = now_ms,
                             .frame_max = AMQP_FRAME_MIN };
    list_init(&c->sessions);
    list_init(&c->ending);
}

static void release(struct amqp_conn *c)
{
    if (c->dead_link)
        amqp_link_free(c->dead_link);
    if (c->dead_session)
        amqp_session_free(c->dead_session);
    amqp_mem_put(c, c->spent, c->spent_cap);
    c->dead_link = NULL;
    c->dead_session = NULL;
    c->spent = NULL;
    c->spent_cap = 0;
}

void amqp_conn_fini(struct amqp_conn *c)
{
    release(c);
    amqp_mem_put(c, c->last_word, c->last_word_len);
    while (!list_is_empty(&c->sessions))
        amqp_session_free((struct amqp_session *)c->sessions.next);
    while (!list_is_empty(&c->ending))
        amqp_session_free((struct amqp_session *)c->ending.next);
    amqp_index_fini(c, &c->by_channel);
    assert(c->memory == 0);
}

/* ---- what is said on channel 0 ------------------------------------------------------------------------ */

static void open_write(struct amqp_conn *c, struct wr *out)
{
    const struct amqp_config *cfg = c->cfg;
    size_t at = amqp_frame_begin(out, AMQP_FRAME_AMQP, 0);
    amqp_open_encode(out, &(struct amqp_open){ .container_id = cfg->container_id,
                                               .hostname = cfg->hostname,
                                               .frame_max = cfg->frame_max,
                                               .channel_max = cfg->channel_max,
                                               .idle_ms = cfg->idle_ms,
                                               .properties = cfg->properties });
    amqp_frame_end(out, at);
    c->open_sent = true;
    c->tx_ms = c->now_ms;
}

void amqp_close(struct amqp_conn *c, const struct amqp_error *e, struct wr *out)
{
    if (c->close_sent || c->phase != AMQP_PHASE_FRAMES)
        return;
    if (!c->open_sent)
        open_write(c, out);
    size_t at = amqp_frame_begin(out, AMQP_FRAME_AMQP, 0);
    amqp_end_encode(out, AMQP_CLOSE, e ? e : &(struct amqp_error){ 0 });
    amqp_frame_end(out, at);
    c->close_sent = true;
    c->tx_ms = c->now_ms;
}

enum err amqp_fail(struct amqp_conn *c, enum err err, const char *condition, const char *text, struct wr *out)
{
    struct amqp_error e = amqp_error_of(condition, text);
    amqp_close(c, &e, out);
    c->phase = AMQP_PHASE_FAILED;
    c->error = text;
    return err;
}

enum err amqp_start(struct amqp_conn *c, struct wr *out)
{
    assert(!c->cfg->server && c->phase == AMQP_PHASE_HEADER);
    if (!amqp_has_room(out))
        return ERR_AGAIN;
    if (c->cfg->mechanism.n) {
        wr_put(out, span_of(amqp_header_sasl, AMQP_HEADER_LEN));
        return ERR_OK;
    }
    wr_put(out, span_of(amqp_header_amqp, AMQP_HEADER_LEN));
    open_write(c, out);
    return ERR_OK;
}

/* ---- headers and SASL --------------------------------------------------------------------------------- */

static enum err bad_header(struct amqp_conn *c, bool sasl, struct wr *out)
{
    /* What we would have taken, then the end [2.2]. */
    wr_put(out, span_of(sasl ? amqp_header_sasl : amqp_header_amqp, AMQP_HEADER_LEN));
    c->phase = AMQP_PHASE_FAILED;
    c->error = "not a protocol header of AMQP 1.0";
    return ERR_PROTO;
}

static enum err on_header(struct amqp_conn *c, struct span *in, struct wr *out)
{
    bool server = c->cfg->server, second = c->phase == AMQP_PHASE_HEADER2;
    bool client_sasl = !server && c->cfg->mechanism.n && !second;
    uint8_t proto;
    enum err e = amqp_header_decode(*in, &proto);
    if (e == ERR_AGAIN)
        return e;
    bool wrong = e || (proto == AMQP_PROTO_SASL && (second || (server && !c->cfg->mechanisms))) ||
                 (!server && (proto == AMQP_PROTO_SASL) != client_sasl);
    if (wrong && !server) {
        c->phase = AMQP_PHASE_FAILED;
        c->error = "the server answered with another protocol header";
        return ERR_PROTO;
    }
    if (wrong)
        return bad_header(c, !second && in->n > 4 && in->p[4] == AMQP_PROTO_SASL && c->cfg->mechanisms, out);
    *in = span_skip(*in, AMQP_HEADER_LEN);
    if (server)
        wr_put(out, span_of(proto == AMQP_PROTO_SASL ? amqp_header_sasl : amqp_header_amqp, AMQP_HEADER_LEN));
    if (proto != AMQP_PROTO_SASL) {
        c->phase = AMQP_PHASE_FRAMES;
    } else {
        c->phase = AMQP_PHASE_SASL_INIT;
        if (server) {
            size_t at = amqp_frame_begin(out, AMQP_FRAME_SASL, 0);
            amqp_sasl_mechanisms_encode(out, c->cfg->mechanisms);
            amqp_frame_end(out, at);
        }
    }
    return ERR_OK;
}

static enum err sasl_failed(struct amqp_conn *c, const char *why)
{
    c->phase = AMQP_PHASE_FAILED;
    c->error = why;
    return ERR_PROTO;
}

static enum err on_sasl(struct amqp_conn *c, const struct amqp_frame *f, struct amqp_event *ev,
                        struct wr *out)
{
    if (f->type != AMQP_FRAME_SASL)
        return sasl_failed(c, "a frame that is not SASL's before its end");
    if (!f->code)
        return ERR_AGAIN; /* an empty frame */
    if (c->cfg->server) {
        if (f->code != AMQP_SASL_INIT || c->phase != AMQP_PHASE_SASL_INIT ||
            amqp_sasl_init_decode(f, &ev->sasl))
            return sasl_failed(c, "not a good sasl-init");
        c->phase = AMQP_PHASE_SASL_WAIT;
        ev->kind = AMQP_EV_SASL_INIT;
        return ERR_OK;
    }
    if (f->code == AMQP_SASL_MECHANISMS && c->phase == AMQP_PHASE_SASL_INIT) {
        if (!amqp_sasl_mechanisms_has(f, c->cfg->mechanism))
            return sasl_failed(c, "the server does not offer our mechanism");
        size_t at = amqp_frame_begin(out, AMQP_FRAME_SASL, 0);
        amqp_sasl_init_encode(
            out, &(struct amqp_sasl_init){ c->cfg->mechanism, c->cfg->response, c->cfg->hostname });
        amqp_frame_end(out, at);
        c->phase = AMQP_PHASE_SASL_WAIT;
        return ERR_AGAIN;
    }
    if (f->code != AMQP_SASL_OUTCOME || c->phase != AMQP_PHASE_SASL_WAIT ||
        amqp_sasl_outcome_decode(f, &ev->sasl_code))
        return sasl_failed(c, "an unexpected frame of SASL");
    ev->kind = AMQP_EV_SASL_OUTCOME;
    c->phase = ev->sasl_code ? AMQP_PHASE_SASL_FAILED : AMQP_PHASE_HEADER2;
    if (!ev->sasl_code) {
        wr_put(out, span_of(amqp_header_amqp, AMQP_HEADER_LEN));
        open_write(c, out);
    }
    return ERR_OK;
}

enum err amqp_sasl_outcome(struct amqp_conn *c, uint8_t code, struct wr *out)
{
    assert(c->cfg->server && c->phase == AMQP_PHASE_SASL_WAIT);
    if (!amqp_has_room(out))
        return ERR_AGAIN;
    size_t at = amqp_frame_begin(out, AMQP_FRAME_SASL, 0);
    amqp_sasl_outcome_encode(out, code, code ? SPAN_NONE : SPAN("Welcome!"));
    amqp_frame_end(out, at);
    c->phase = code ? AMQP_PHASE_SASL_FAILED : AMQP_PHASE_HEADER2;
    return ERR_OK;
}

/* ---- frames ------------------------------------------------------------------------------------------- */

static enum err on_open(struct amqp_conn *c, const struct amqp_frame *f, struct amqp_event *ev,
                        struct wr *out)
{
    enum { FRAME_SENT_MAX = 65536 }; /* larger ones help nobody */
    if (c->open_seen || amqp_open_decode(f, &ev->open))
        return amqp_fail(c, ERR_PROTO, "amqp:decode-error", "a second or broken open", out);
    c->open_seen = true;
    c->frame_max = ev->open.frame_max < FRAME_SENT_MAX ? ev->open.frame_max : FRAME_SENT_MAX;
    c->channel_max = ev->open.channel_max;
    c->peer_idle_ms = ev->open.idle_ms;
    if (!c->open_sent)
        open_write(c, out);
    ev->kind = AMQP_EV_OPEN;
    return ERR_OK;
}

static enum err on_close(struct amqp_conn *c, const struct amqp_frame *f, struct wr *out)
{
    struct amqp_error error;
    if (amqp_end_decode(f, &error))
        return amqp_fail(c, ERR_PROTO, "amqp:decode-error", "a broken close", out);
    amqp_close(c, NULL, out);
    c->close_seen = true;
    if (error.condition.n)
        amqp_keep_error(c, NULL, f);
    amqp_lost(c);
    return ERR_AGAIN;
}

static enum err on_frame(struct amqp_conn *c, const struct amqp_frame *f, struct amqp_event *ev,
                         struct wr *out, bool *used)
{
    if (f->type != AMQP_FRAME_AMQP)
        return amqp_fail(c, ERR_PROTO, "amqp:connection:framing-error", "a frame of another type", out);
    if (!f->code)
        return ERR_AGAIN;
    if (f->code == AMQP_OPEN)
        return on_open(c, f, ev, out);
    if (!c->open_seen)
        return amqp_fail(c, ERR_PROTO, "amqp:connection:framing-error", "open has to come first", out);
    if (f->code == AMQP_CLOSE)
        return on_close(c, f, out);
    if (c->close_sent) {
        c->disposition_on = false;
        return ERR_AGAIN; /* nothing matters any more but its answer [2.4.3] */
    }
    if (f->channel > c->cfg->channel_max)
        return amqp_fail(c, ERR_LIMIT, "amqp:connection:framing-error", "channel out of range", out);
    if (f->code == AMQP_BEGIN)
        return amqp_on_begin(c, f, ev, out);
    struct amqp_node *n = amqp_index_get(&c->by_channel, f->channel);
    if (!n)
        return amqp_fail(c, ERR_PROTO, "amqp:not-found", "no session on this channel", out);
    struct amqp_session *s = CONTAINER_OF(n, struct amqp_session, by_channel);
    if (f->code == AMQP_END)
        return amqp_on_end(c, s, f, out);
    if (s->end_sent) {
        c->disposition_on = false;
        return ERR_AGAIN; /* until the peer has seen our end [2.5.5] */
    }
    switch (f->code) {
    case AMQP_ATTACH:
        return amqp_on_attach(s, f, ev, out);
    case AMQP_FLOW:
        return amqp_on_flow(s, f, ev, out);
    case AMQP_TRANSFER:
        return amqp_on_transfer(s, f, ev, out);
    case AMQP_DISPOSITION:
        return amqp_on_disposition(s, f, ev, out, used);
    default:
        return amqp_on_detach(s, f, ev, out);
    }
}

void amqp_keep_error(struct amqp_conn *c, struct amqp_session *s, const struct amqp_frame *f)
{
    assert(!c->last_word); /* no frame is read before all that has ended is told */
    struct span raw = f->fields.raw;
    c->last_word = amqp_mem_get(c, raw.n);
    if (!c->last_word)
        return;
    memcpy(c->last_word, raw.p, raw.n);
    c->last_word_len = raw.n;
    c->last_word_of = s;
}

static void tell_error(struct amqp_conn *c, struct amqp_session *s, struct amqp_event *ev)
{
    struct amqp_frame f = { 0 };
    if (!c->last_word || c->last_word_of != s)
        return;
    if (amqp_read_one(span_of(c->last_word, c->last_word_len), &f.fields) || amqp_end_decode(&f, &ev->error))
        ev->error = (struct amqp_error){ 0 };
    c->spent = c->last_word; /* given back with the next call */
    c->spent_cap = c->last_word_len;
    c->last_word = NULL;
}

/* What is over is told link by link, then session by session. */
static enum err tell_ends(struct amqp_conn *c, struct amqp_event *ev)
{
    if (list_is_empty(&c->ending))
        return ERR_AGAIN;
    struct amqp_session *s = (struct amqp_session *)c->ending.next;
    ev->session = s;
    while (!list_is_empty(&s->links)) {
        struct amqp_link *l = (struct amqp_link *)list_pop(&s->links);
        amqp_link_drop(l);
        ev->link = c->dead_link = l;
        ev->kind = AMQP_EV_DETACH;
        return ERR_OK;
    }
    list_del(&s->node);
    ev->kind = AMQP_EV_END;
    tell_error(c, s, ev);
    if (s->end_seen || c->lost)
        c->dead_session = s;
    else
        list_push(&c->sessions, &s->node); /* its channel is taken until the peer has answered */
    return ERR_OK;
}

void amqp_lost(struct amqp_conn *c)
{
    c->lost = true;
    for (struct list *n = c->sessions.next, *next; n != &c->sessions; n = next) {
        struct amqp_session *s = (struct amqp_session *)n;
        next = n->next;
        if (s->end_sent && !s->end_seen) /* told before */
            amqp_session_free(s);
        else
            list_move(n, &c->ending);
    }
}

static enum err frame_error(struct amqp_conn *c, enum err e, struct wr *out)
{
    if (e == ERR_LIMIT)
        return amqp_fail(c, e, "amqp:connection:framing-error", "a frame larger than agreed", out);
    return amqp_fail(c, e, "amqp:decode-error", "a frame that cannot be read", out);
}

enum err amqp_next(struct amqp_conn *c, struct span *in, struct amqp_event *ev, struct wr *out)
{
    release(c);
    *ev = (struct amqp_event){ 0 };
    if (!amqp_has_room(out) && !c->lost)
        return ERR_AGAIN;
    for (;;) {
        enum err e = tell_ends(c, ev);
        struct amqp_frame f;
        size_t used;
        bool taken = true;
        if (e == ERR_OK)
            return e;
        if (c->lost) {
            if (c->told)
                return ERR_STOPPED;
            c->told = true;
            ev->kind = AMQP_EV_CLOSE;
            tell_error(c, NULL, ev);
            return ERR_OK;
        }
        if (c->phase == AMQP_PHASE_FAILED)
            return ERR_PROTO;
        if (c->phase == AMQP_PHASE_HEADER || c->phase == AMQP_PHASE_HEADER2) {
            if ((e = on_header(c, in, out)))
                return e;
            continue;
        }
        if (c->phase == AMQP_PHASE_SASL_FAILED || (c->phase == AMQP_PHASE_SASL_WAIT && c->cfg->server))
            return ERR_AGAIN;
        /* SASL frames have a limit of their own [5.3.1]; tokens in a PLAIN response are longer. */
        e = amqp_frame_decode(*in, c->phase == AMQP_PHASE_FRAMES ? c->cfg->frame_max : 8192, &f, &used);
        if (e == ERR_AGAIN)
            return e;
        if (e)
            return frame_error(c, e, out);
        if (c->phase == AMQP_PHASE_FRAMES)
            e = on_frame(c, &f, ev, out, &taken);
        else
            e = on_sasl(c, &f, ev, out);
        if (taken)
            *in = span_skip(*in, used);
        if (e != ERR_AGAIN)
            return e;
        if (!amqp_has_room(out) && !c->lost)
            return ERR_AGAIN;
    }
}

/* ---- time --------------------------------------------------------------------------------------------- */

void amqp_seen(struct amqp_conn *c, uint64_t now_ms)
{
    c->now_ms = c->rx_ms = now_ms;
}

static uint64_t silence_end(const struct amqp_conn *c)
{
    return c->cfg->idle_ms ? c->rx_ms + c->cfg->idle_ms + c->cfg->idle_ms / 2 : UINT64_MAX;
}
static uint64_t beat_due(const struct amqp_conn *c)
{
    bool beats = c->peer_idle_ms && c->phase == AMQP_PHASE_FRAMES && c->open_sent && !c->close_sent;
    return beats ? c->tx_ms + c->peer_idle_ms / 2 : UINT64_MAX;
}

uint64_t amqp_deadline(const struct amqp_conn *c)
{
    uint64_t a = silence_end(c), b = beat_due(c);
    return a < b ? a : b;
}

enum err amqp_tick(struct amqp_conn *c, uint64_t now_ms, struct wr *out)
{
    c->now_ms = now_ms;
    if (!amqp_has_room(out))
        return now_ms >= silence_end(c) ? ERR_STALE : ERR_AGAIN;
    if (now_ms >= silence_end(c))
        return amqp_fail(c, ERR_STALE, "amqp:resource-limit-exceeded", "local-idle-timeout expired", out);
    if (now_ms >= beat_due(c)) {
        amqp_frame_end(out, amqp_frame_begin(out, AMQP_FRAME_AMQP, 0));
        c->tx_ms = now_ms;
    }
    return ERR_OK;
}
