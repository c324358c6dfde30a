/* hub/front/amqp/peer.h - what the files of this folder share: the peer of a connection, what it may do, its
 * links, and a worker's part of the front. Nobody outside includes it.
 *
 *   peer.c      bytes in, events to who they are for, time, wake-ups, the end
 *   login.c     SASL and tokens (claims-based security): what a peer may do, and for how long
 *   proof.c     devices that no token named: certificates, policies
 *   link.c      links: attached, refused, detached later; what waits to be sent on them
 *   map.c       messages: sections to properties of the hub, and back
 *   device.c    telemetry in
 *   deliver.c   cloud-to-device messages out
 *   service.c   cloud-to-device messages in, from services
 *   notices.c   what became of them, and files of devices, out
 *   method.c    direct methods: calls out, answers in
 *   twin.c      the twin of a device: requests in, answers and news out
 *   events.c    $management: what a reader of telemetry asks first
 *   consumer.c  readers of telemetry
 *
 * Everything runs on the connection's worker. What waits for the store or the stream holds a reference to its
 * link: when it comes home and the link is gone, nothing is said. */
#ifndef ROOST_HUB_FRONT_AMQP_PEER_H
#define ROOST_HUB_FRONT_AMQP_PEER_H

#include "core/amqp/amqp_conn.h"
#include "core/amqp/amqp_message.h"
#include "hub/domain/access/access.h"
#include "hub/domain/identity/presence.h"
#include "hub/domain/message/message.h"
#include "hub/domain/metrics.h"
#include "hub/domain/throttle.h"
#include "hub/front/amqp/address.h"
#include "hub/front/amqp/amqp_front.h"

#include <assert.h>
#include <pthread.h>

enum {
    PEER_FRAME_MAX = 65536,
    PEER_IDLE_MS = 240000,
    PEER_SESSIONS_MAX = 1100, /* a thousand devices behind one connection, and some */
    PEER_LINKS_MAX = 8192,
    PEER_UNSETTLED_MAX = 4096,
    PEER_MEMORY_MAX = 4 << 20,          /* the engine's, a connection */
    PEER_WORKER_MEMORY_MAX = 256 << 20, /* the engines', a worker */
    PEER_WORKER_PENDING_MAX = 32 << 20, /* on their way to the disk, a worker */
    PEER_MESSAGE_MAX = 1 << 20,         /* announced; the limits of each kind are smaller */
    PEER_EARLY_BYTES_MAX = 1 << 20,     /* before it has proven who it is */
    PEER_GRANTS_MAX = 2048,
    PEER_OUT = 384 << 10,     /* a worker's scratch for what is said */
    PEER_UNSENT_MAX = 131072, /* a peer that does not read gets nothing more meanwhile */
    PEER_CREDIT_TELEMETRY = 1000,
    PEER_CREDIT_REQUEST = 100,
    PEER_OUTBOX_MAX = 128, /* messages that wait for credit, a link */
    PEER_OUTBOX_BYTES = 1 << 20,
    PEER_LATER_MS = 60, /* between an attach and the detach that says why not */

    PEER_STOP_MS = 1000,
    PEER_PRESENCE_MS = 1000,
    PEER_LOG_LINES = 20
};

struct amqp_worker { /* the front on one worker; only its thread */
    struct amqp_front *front;
    struct worker *w; /* NULL until its first connection */
    struct presence presence;
    struct timer presence_timer;
    uint8_t *scratch; /* PEER_OUT bytes */
    struct wr out;
    struct conn *out_conn; /* whom it is for; NULL: empty */
    size_t memory;         /* engines' */
    size_t pending;        /* bytes on their way to the disk */
    uint64_t log_second;
    unsigned log_lines;
};
struct amqp_front {
    struct hub *hub;
    struct amqp_config cfg;
    uint8_t properties[128], container[64];
    const char *entity; /* of the telemetry endpoint */
    char entity_text[64];
    pthread_mutex_t lock; /* of the list of consumers, which spans workers */
    struct list consumers;
    _Atomic uint64_t next_consumer;
    unsigned workers_nr;
    struct amqp_worker workers[];
};

/* What a peer has proven. On peer->grants; text: identity, generation; or policy, resource. */
struct grant {
    struct list node;
    uint64_t expires_ms;         /* wall */
    uint64_t proof;              /* of an identity: what showed it, hub/domain/access/access.h */
    uint32_t rights;             /* of a policy; 0: an identity's own */
    unsigned links_nr;           /* of a device or module that rest on it: over 0: attached to the bus */
    uint16_t name_len, tail_len; /* identity and generation; policy and the path of its resource */
    uint8_t auth;                /* enum message_auth */
    bool policy;
    uint16_t token_len; /* owned; of a policy that may connect as any device: its proof, used again */
    uint8_t *token;
    uint8_t text[];
};
static inline struct span grant_name(const struct grant *g)
{
    return span_of(g->text, g->name_len);
}
static inline struct span grant_tail(const struct grant *g)
{
    return span_of(g->text + g->name_len, g->tail_len);
}
static inline struct span grant_device(const struct grant *g)
{
    const uint8_t *slash = memchr(g->text, '/', g->name_len);
    return span_of(g->text, slash ? (size_t)(slash - g->text) : g->name_len);
}
static inline struct span grant_module(const struct grant *g)
{
    struct span device = grant_device(g);
    return device.n < g->name_len ? span_of(g->text + device.n + 1, g->name_len - device.n - 1u) : SPAN_NONE;
}

static inline bool grant_is_x509(const struct grant *g)
{
    return g->auth == MESSAGE_AUTH_DEVICE_X509 || g->auth == MESSAGE_AUTH_MODULE_X509;
}

struct outgoing { /* a message that waits on a link */
    struct outgoing *next;
    struct amqp_send send;
    uint8_t tag[16];
    size_t len;
    uint8_t bytes[];
};

struct peer_link;
struct peer_kind { /* what links of one kind do; any may be NULL */
    const char *name;
    uint32_t credit; /* we receive: granted at first, and again when half is used */
    bool of_device;  /* counts for the presence of its identity, and for taking over */
    void (*on_attached)(struct peer_link *l);
    /* A message came. settled: nothing may be said; else peer_settle is due, now or later. */
    void (*on_message)(struct peer_link *l, const struct amqp_event *ev);
    void (*on_settled)(struct peer_link *l, const struct amqp_event *ev);
    void (*pump)(struct peer_link *l); /* credit, room or news: go on */
    uint64_t (*deadline)(const struct peer_link *l);
    void (*on_deadline)(struct peer_link *l);
    void (*on_gone)(
        struct peer_link *l); /* the link is no more: free `state` unless something is under way */
    void (*free_state)(void *state);
};

struct peer_link {
    struct list node; /* on peer->links while it is attached */
    struct conn *conn;
    struct amqp_link *link;       /* NULL: gone; the memory goes with the last reference */
    const struct peer_kind *kind; /* NULL: refused */
    struct grant *grant;          /* NULL: it needs none */
    unsigned refs;
    void *state; /* of its kind */
    struct outgoing *first, *last;
    size_t outbox_nr, outbox_bytes;
    uint64_t detach_at; /* ms; 0: no */
    const char *condition;
    char *text;       /* owned; why it will be detached */
    struct span info; /* owned bytes; of the error, an encoded map; empty: made */
    uint8_t *info_mem;
    uint16_t model_len;
    uint8_t *model;   /* owned; model id of a telemetry link */
    struct span pair; /* into model: channel-correlation-id of a twin or method link */
};

struct peer { /* state of a connection */
    struct amqp_conn engine;
    struct list grants, links;
    uint64_t close_at;   /* ms; 0: no */
    uint64_t hold_until; /* ms: over the rate, nothing is read before; 0: no */
    uint32_t early_bytes;
    uint16_t grants_nr;
    uint32_t under_way; /* messages of this peer that are on their way to the disk */
    bool proven;        /* some credential was good */
    bool busy;          /* one is being looked at: nothing is read meanwhile */
    bool paused;
    bool failed;
};

static inline struct peer *peer_of(struct conn *c)
{
    return conn_state(c);
}
static inline struct amqp_front *peer_front(struct conn *c)
{
    return conn_listener_ctx(c);
}
static inline struct amqp_worker *peer_worker(struct conn *c)
{
    return &peer_front(c)->workers[worker_index(conn_worker(c))];
}
static inline struct hub *peer_hub(struct conn *c)
{
    return peer_front(c)->hub;
}

/* peer.c */
struct wr *peer_out(struct conn *c); /* room for AMQP_ROOM and two frames at least */
void peer_flush(struct conn *c);     /* before anybody returns to the loop */
void peer_arm(struct conn *c);
void peer_go_on(struct conn *c); /* reads on, when nothing holds it back any more */
void peer_end(struct conn *c, enum conn_close why);
void peer_refuse(struct conn *c, enum conn_close why, const char *what);
void peer_proven(struct conn *c);
/* Takes one operation of its rate, of the hub and of the policy that g is (NULL: of none). False: too many;
 * else it may be served, and what comes next may wait. */
bool peer_throttle(struct conn *c, enum throttle_class what, const struct grant *g);
void peer_close(struct conn *c, const char *condition, const char *text);
bool peer_log_allowed(struct amqp_worker *aw);
/* An error with an info map that carries a tracking id; valid until the next call on this worker. */
struct amqp_error peer_error(struct conn *c, const char *condition, const char *text);

/* login.c */
void login_sasl(struct conn *c, const struct amqp_sasl_init *init);
extern const struct peer_kind cbs_in_kind, cbs_out_kind;
struct peer_link *link_for_answers(struct peer_link *on, const struct peer_kind *kind); /* NULL: none */
struct grant *grant_of_identity(struct peer *p, struct span device, struct span module);
/* to: what its token has to reach; NULL: that is looked at later. */
struct grant *grant_of_policy(struct conn *c, uint32_t right, const struct address *to);
void grant_drop(struct conn *c, struct grant *g, const char *condition, const char *text);
void grant_check(struct conn *c, struct grant *g); /* asks whether its identity is still good */
/* The identity that k has proven: may it connect? True also when this connection has it already. */
bool grant_may_connect(struct conn *c, const struct access_check *k);
/* False: as many as may be, or no memory. */
bool grant_put(struct conn *c, bool policy, struct span name, struct span tail, const struct access_check *k);
void grant_free(struct grant *g);
uint64_t grants_deadline(struct conn *c);
void grants_sweep(struct conn *c);

/* Has its source failed too often? Then it is not even looked at. */
bool login_has_to_wait(struct conn *c, struct span name);
void login_note_refused(struct conn *c, struct span name, enum access_why why);

/* proof.c: looks up whether the connection may act for the identity of `to`. False: there is nothing to go
 * by. */
bool proof_start(struct peer_link *l, const struct amqp_attach *a, const struct address *to);

/* link.c */
void link_attach(struct conn *c, const struct amqp_event *ev);
/* Accepts or refuses it. may_ask: first looks up an identity that no token named, and comes back. */
void link_decide(struct peer_link *l, const struct amqp_attach *a, bool may_ask);
void link_refuse(struct peer_link *l, const char *condition, const char *text);
void link_gone(struct amqp_link *link);
void link_detach_later(struct peer_link *l, const char *condition, const char *text);
void link_detach(struct peer_link *l, const char *condition, const char *text);
void link_ref(struct peer_link *l);
void link_unref(struct peer_link *l);
/* Settles one message that came on l; does nothing when the link is gone. text NULL: accepted. */
void link_settle(struct peer_link *l, uint32_t id, const char *condition, const char *text);
void link_credit(struct peer_link *l);
/* Queues a whole message and sends what may be sent. False: too much waits, or no memory. */
bool link_post(struct peer_link *l, struct span message, bool settled, uint64_t user, const uint8_t tag[16]);
void link_pump(struct peer_link *l);
void link_note_presence(struct conn *c, struct grant *g);
/* It sent or settled something: moves its activity time, at most once a minute. */
void link_note_activity(struct conn *c, const struct grant *g);

/* map.c: see map.h. device.c, deliver.c, service.c, events.c, consumer.c */
extern const struct peer_kind telemetry_kind, c2d_kind, silent_kind, send_kind, management_in_kind,
    management_out_kind, method_in_kind, method_out_kind, twin_in_kind, twin_out_kind, feedback_kind,
    file_notes_kind, consumer_kind;
/* Looks at what a consumer asks for. NULL: good, *state is made; else the condition, and *text (not owned).
 */
const char *consumer_make(struct conn *c, const struct address *a, const struct amqp_attach *attach,
                          void **state, char text[256]);
/* A message of the bus for the identity of such a link. False: it takes none. */
bool method_call(struct peer_link *l, const struct bus_message *m);
bool twin_note(struct peer_link *l, const struct bus_message *m);
/* Such messages were lost on their way: the device is told all of its desired properties. */
void twin_missed(struct peer_link *l);
/* Where the telemetry endpoint is, for a link that came to the hub's own address. */
void events_redirect(struct peer_link *l, struct span rest);
bool events_entity_is_ours(const struct amqp_front *f, struct span entity);

#endif
