/* core/amqp/amqp_conn.h - an AMQP 1.0 connection as an engine without socket, clock or heap: SASL or not,
 * sessions, links, flow control, deliveries of many frames. The same engine is a server's end or a client's.
 * Fed bytes and time, asked for events; what it has to say goes to the caller's writer. One thread a
 * connection.
 *
 *     amqp_conn_init; a client: amqp_start
 *     amqp_seen(c, now) when bytes have come
 *     while ((e = amqp_next(c, &in, &ev, &out)) == ERR_OK) look at ev       keep what is left of `in`
 *     amqp_tick(c, now, &out) when amqp_deadline(c) has come; send `out`
 *     on any error but ERR_AGAIN: send `out`, close the transport, and amqp_lost(c)
 *     amqp_lost(c), then amqp_next with no input until ERR_STOPPED: the events that end every link and
 * session amqp_conn_fini
 *
 * Sessions and links are the engine's; their `user` is the caller's. A link or session that an event ends
 * stays good until the next amqp_next. Spans of an event point into `in` (or into the engine, for a delivery
 * of several frames) and live as long as that.
 * Memory comes from the caller's functions, at most memory_max bytes a connection.
 * Source: OASIS AMQP 1.0 part 2; sections in [brackets]. */
#ifndef ROOST_CORE_AMQP_AMQP_CONN_H
#define ROOST_CORE_AMQP_AMQP_CONN_H

#include "base/list.h"
#include "core/amqp/amqp_frame.h"

#define AMQP_ROOM     2048u /* what amqp_next may write at once */
#define AMQP_TAG_MAX  32u
#define AMQP_NAME_MAX 1024u /* of a link */

struct amqp_mem {
    void *(*get)(void *ctx, size_t n); /* any bytes; NULL: none left */
    void (*put)(void *ctx, void *p, size_t n);
    void *ctx;
};

struct amqp_config { /* kept by reference; many connections share one */
    bool server;
    struct span container_id, hostname; /* together with properties at most 1000 bytes */
    struct span properties;             /* an encoded map */
    uint32_t frame_max;                 /* that we take; at least AMQP_FRAME_MIN */
    uint32_t idle_ms;                   /* we advertise, and allow half as much again; 0: none */
    uint16_t channel_max;               /* highest channel number the peer may use */
    uint32_t handle_max;                /* highest handle it may use */
    uint32_t incoming_window;           /* transfers a session takes before it asks for more */
    uint32_t sessions_max, links_max;   /* of a connection */
    uint32_t unsettled_max;             /* deliveries of a connection not settled, each way */
    size_t delivery_max;                /* bytes of an incoming delivery */
    size_t memory_max;
    const char *const *mechanisms; /* server: NULL-terminated, in the order offered */
    struct span mechanism;         /* client: empty: no SASL */
    struct span response;          /* client: initial response; p NULL: absent */
};

/* ---- what there is ---------------------------------------------------------------------------------- */

struct amqp_node { /* of an index by number */
    struct amqp_node *next;
    uint32_t key;
};
struct amqp_bucket {
    struct amqp_node *first;
};
struct amqp_index {
    struct amqp_bucket *buckets; /* NULL while empty */
    uint32_t cap, nr;
};

struct amqp_conn {
    const struct amqp_config *cfg;
    struct amqp_mem mem;
    size_t memory; /* bytes taken of it */
    uint64_t now_ms, rx_ms, tx_ms;
    struct amqp_index by_channel; /* sessions, by the peer's channel */
    struct list sessions;         /* struct amqp_session */
    struct list ending;           /* those whose links are being dropped */
    struct amqp_link *dead_link;  /* freed by the next amqp_next */
    struct amqp_session *dead_session;
    uint8_t *spent; /* a delivery of several frames that was given out */
    size_t spent_cap;
    uint8_t *last_word; /* fields of an end or close with an error that is still to be told */
    size_t last_word_len;
    struct amqp_session *last_word_of; /* NULL: of the connection */
    const char *error;                 /* why it failed, for a log; NULL: it did not */
    uint32_t frame_max, peer_idle_ms;
    uint32_t sessions_nr, links_nr;
    uint32_t sent_nr, got_nr; /* deliveries not settled: ours, the peer's */
    uint32_t disposition_at;  /* next delivery of a range that is being told */
    uint16_t channel_max;
    uint8_t phase; /* enum amqp_phase */
    bool disposition_on, open_sent, open_seen, close_sent, close_seen, lost, told;
};

struct amqp_session {
    struct list node; /* first */
    struct amqp_node by_channel;
    struct amqp_conn *conn;
    void *user;
    struct amqp_index by_handle; /* links, by the peer's handle */
    struct list links, unsettled;
    uint32_t next_incoming_id, incoming_window;
    uint32_t next_outgoing_id, remote_window, next_delivery_id;
    uint32_t handle_max; /* the peer's */
    uint16_t channel;    /* ours */
    bool local, begin_seen, end_sent, end_seen;
    bool stalled; /* a send waited for the peer's window */
};

struct amqp_link {
    struct list node; /* first; on session->links */
    struct amqp_node by_handle;
    struct amqp_session *session;
    void *user;
    uint8_t *partial; /* a delivery of which frames are missing */
    size_t partial_len, partial_cap;
    uint64_t max_message_size; /* the peer's; 0: no limit */
    uint32_t handle;           /* ours */
    uint32_t delivery_count, credit, initial_count;
    uint32_t got_nr; /* deliveries the peer sent that are not settled */
    uint32_t partial_id, partial_format;
    uint16_t name_len;
    uint8_t partial_tag_len;
    bool receiver;              /* we receive */
    uint8_t snd_mode, rcv_mode; /* as the peer asked */
    bool attach_sent, attach_seen, detach_sent, detach_seen;
    bool in_partial, partial_settled;
    bool drain;   /* the credit is to be used or given up: the peer wants it, or, when we receive, we do */
    bool sending; /* a delivery of ours has begun and not ended */
    uint8_t partial_tag[AMQP_TAG_MAX];
    uint8_t name[];
};
static inline struct span amqp_link_name(const struct amqp_link *l)
{
    return span_of(l->name, l->name_len);
}

/* cfg and mem outlive c. */
void amqp_conn_init(struct amqp_conn *c, const struct amqp_config *cfg, const struct amqp_mem *mem,
                    uint64_t now_ms);
void amqp_conn_fini(struct amqp_conn *c); /* gives all memory back; no events */

/* ---- events ----------------------------------------------------------------------------------------- */

enum amqp_event_kind {
    AMQP_EV_SASL_INIT,    /* server: sasl; answer with amqp_sasl_outcome */
    AMQP_EV_SASL_OUTCOME, /* client: sasl_code 0: open follows by itself; else close the transport */
    AMQP_EV_OPEN,         /* open; the answer has been written */
    AMQP_EV_BEGIN,        /* session; the answer has been written, or this is it */
    AMQP_EV_ATTACH,       /* link, attach: answer with amqp_accept or amqp_refuse, now or later */
    AMQP_EV_ATTACHED,     /* link, attach: the answer to amqp_attach */
    AMQP_EV_FLOW,         /* link: its credit or drain changed, or what we drain is empty; NULL: of session,
                           * its window opened */
    AMQP_EV_DELIVERY,     /* link, delivery; unless settled, owes an amqp_settle */
    AMQP_EV_SETTLED,      /* link, sent: the peer's word on a delivery of ours */
    AMQP_EV_DETACH,       /* link: gone, with error or none; the answer has been written */
    AMQP_EV_END,          /* session: gone, after its links */
    AMQP_EV_CLOSE         /* after all sessions; the last event */
};
struct amqp_event {
    uint8_t kind; /* enum amqp_event_kind */
    struct amqp_session *session;
    struct amqp_link *link;
    uint8_t sasl_code;
    struct amqp_sasl_init sasl;
    struct amqp_open open;
    struct amqp_attach attach;
    struct {
        uint32_t id, format;
        struct span tag, payload;
        bool settled;
    } delivery;
    struct {
        uint64_t user; /* of the amqp_send */
        uint32_t id;
        struct amqp_state state;
        bool settled; /* false: the peer waits for amqp_answer */
    } sent;
    struct amqp_error error; /* DETACH, END, CLOSE: the peer's, or none (or no memory to keep it) */
};

/* The next event off the front of *in.
 *   ERR_AGAIN    no whole frame, or less than AMQP_ROOM left in out
 *   ERR_STOPPED  all has been told: the connection is over
 *   ERR_PROTO, ERR_LIMIT, ERR_NOMEM  it failed (c->error); the close is in `out` as far as one can be sent */
MUST_USE enum err amqp_next(struct amqp_conn *c, struct span *in, struct amqp_event *ev, struct wr *out);
void amqp_seen(struct amqp_conn *c, uint64_t now_ms);
/* The transport is gone: from now on amqp_next tells what ends. */
void amqp_lost(struct amqp_conn *c);

/* Writes an empty frame when it is due.
 *   ERR_AGAIN  no room in out       ERR_STALE  the peer has been silent: the close is in out, if there was
 * room */
MUST_USE enum err amqp_tick(struct amqp_conn *c, uint64_t now_ms, struct wr *out);
uint64_t amqp_deadline(const struct amqp_conn *c); /* UINT64_MAX: nothing to wait for */

/* ---- what to say; each needs AMQP_ROOM in out, or as much as its arguments take: else ERR_AGAIN -------- */

/* Client: header, and open unless SASL comes first. */
MUST_USE enum err amqp_start(struct amqp_conn *c, struct wr *out);
MUST_USE enum err amqp_sasl_outcome(struct amqp_conn *c, uint8_t code, struct wr *out);
/* ERR_LIMIT: as many as may be. */
MUST_USE enum err amqp_begin(struct amqp_conn *c, struct wr *out, struct amqp_session **session);
/* handle is chosen here. ERR_LIMIT. */
MUST_USE enum err amqp_attach(struct amqp_session *s, const struct amqp_attach *a, void *user, struct wr *out,
                              struct amqp_link **link);
/* Answers an attach. `a`: source, target, modes, max_message_size, properties; the rest is filled in.
 * ERR_LIMIT: longer than a frame of the peer may be: refuse it. */
MUST_USE enum err amqp_accept(struct amqp_link *l, const struct amqp_attach *a, struct wr *out);
/* Answers with no terminus; amqp_detach with the reason follows, in a later write: some clients look for it
 * only then. */
void amqp_refuse(struct amqp_link *l, struct span properties, struct wr *out);
/* Closes a link; AMQP_EV_DETACH comes when the peer has answered. Once only; harmless again. */
void amqp_detach(struct amqp_link *l, const struct amqp_error *e, struct wr *out);
/* The events that end its links and itself follow. */
void amqp_end(struct amqp_session *s, const struct amqp_error *e, struct wr *out);
void amqp_close(struct amqp_conn *c, const struct amqp_error *e, struct wr *out);

/* We receive: the peer may send so many from now on. */
void amqp_credit(struct amqp_link *l, uint32_t n, struct wr *out);
/* The same, and what the peer has no delivery for it gives back at once: l->credit is 0 with the last
 * delivery or with an AMQP_EV_FLOW. */
void amqp_drain(struct amqp_link *l, uint32_t n, struct wr *out);
/* Settles what the peer sent, first to last (ids as they came on this session), with this state. nr: how many
 * there are of this link. */
void amqp_settle(struct amqp_link *l, uint32_t first, uint32_t last, uint32_t nr, const struct amqp_state *s,
                 struct wr *out);

struct amqp_send { /* the caller's; unchanged between calls for one delivery */
    struct span tag;
    uint32_t format;
    bool settled;
    uint64_t user;
    struct span head, body; /* the message: one behind the other */
    size_t done;            /* bytes written; starts at 0 */
    bool begun;
};
/* Sends a delivery, as far as there is room.
 *   ERR_AGAIN  not all of it: no credit, no window or no room; call again with the same `s`
 *   ERR_LIMIT  unsettled_max, or larger than the peer takes: nothing was begun    ERR_NOMEM */
MUST_USE enum err amqp_send(struct amqp_link *l, struct amqp_send *s, struct wr *out);
/* We send and have no more: the credit goes back, as drain asks. */
void amqp_drained(struct amqp_link *l, struct wr *out);
/* The answer to an AMQP_EV_SETTLED that was not settled. */
void amqp_answer(struct amqp_session *s, uint32_t id, const struct amqp_state *state, struct wr *out);
/* Settles a delivery of ours without the peer's word (its lock ran out): it is forgotten. */
bool amqp_forget(struct amqp_session *s, uint32_t id);

#endif
