/* hub/front/mqtt/session.h - what the files of this folder share: the session on a connection, a worker's
 * part of the front, and the steps between them. Nobody outside includes it.
 *
 *   session.c    the packets, in order; timers, wake-ups, the end
 *   login.c      CONNECT to CONNACK: credentials, stored subscriptions, takeover
 *   publish.c    what the device publishes; answers leave in the order of the questions
 *   subscribe.c  SUBSCRIBE and UNSUBSCRIBE: durable, then answered
 *   deliver.c    cloud-to-device messages out
 *   method.c     direct methods: calls out, answers in
 *   twin.c       the device's twin: read, reported, desired properties told
 *   throttled.c  who is over a rate: not read from for a while, or closed
 *
 * Everything runs on the connection's worker. What waits for the store or the stream holds the address of the
 * connection, never a pointer: when it comes home and the connection is gone, it frees itself. */
#ifndef ROOST_HUB_FRONT_MQTT_SESSION_H
#define ROOST_HUB_FRONT_MQTT_SESSION_H

#include "base/list.h"
#include "core/mqtt/mqtt_packet.h"
#include "core/topic/topic.h"
#include "hub/domain/access/access.h"
#include "hub/domain/identity/presence.h"
#include "hub/domain/message/c2d.h"
#include "hub/domain/message/telemetry.h"
#include "hub/domain/metrics.h"
#include "hub/domain/throttle.h"
#include "hub/front/mqtt/mqtt_front.h"

#include <assert.h>

enum {
    MQTT_CONNECT_BODY_MAX = 81920, /* before we know who it is: a will of 64 KB and long names fit */
    MQTT_PACKET_BODY_MAX =
        262144 + 65535 + 4, /* a telemetry message of the largest size, the longest topic */
    MQTT_WINDOW = 16,       /* publishes of a connection not yet durable: then it waits */
    MQTT_WINDOW_RESUME = 8,
    MQTT_WORKER_BYTES_MAX = 32 << 20, /* not yet durable, all connections of a worker: then one each */
    MQTT_FILTERS_MAX = 256,           /* of one SUBSCRIBE */
    MQTT_NOTES_WAITING_MAX = 64,      /* notifications behind a SUBACK that is due */
    MQTT_RID_MAX = 1024,              /* request id of a twin or method topic */
    MQTT_MODEL_MAX = 255,
    MQTT_KEEP_ALIVE_CAP_MS = 1767000, /* longest silence, also with keep alive 0 */
    MQTT_UNSENT_MAX = 65536,          /* a device that does not read gets no further messages meanwhile */
    MQTT_PRESENCE_MS = 1000,
    ACTIVITY_EVERY_MS = 60000, /* a session's activity is written at most this often */
    MQTT_BLOCK = 1024,         /* a small publish on its way, with its record */
    MQTT_SPARE_MAX = 2048,
    MQTT_LOG_LINES = 20 /* refusals logged a worker and second; the rest is counted */
};

struct mqtt_worker { /* the front on one worker; only its thread */
    struct mqtt_front *front;
    struct worker *w; /* NULL until its first connection */
    struct presence presence;
    struct timer presence_timer;
    struct spare { /* blocks of MQTT_BLOCK to use again */
        struct spare *next;
    } * spare;
    unsigned spare_nr;
    size_t pending_bytes; /* of publishes not yet durable */
    struct list holds;    /* struct hold: connections over a rate; throttled.c */
    uint64_t log_second;
    unsigned log_lines;
};
struct mqtt_front {
    struct hub *hub;
    unsigned workers_nr;
    _Atomic uint64_t next_rid; /* of method calls: grows over restarts, too */
    struct mqtt_worker workers[];
};

struct session_name { /* who it is; in conn_slab. text: identity, generation, model id */
    uint64_t proof;   /* what showed it, hub/domain/access/access.h */
    uint16_t identity_len;
    uint8_t device_len, generation_len, model_len;
    uint8_t auth; /* enum message_auth */
    uint8_t text[];
};
struct will {
    uint32_t bag_len, payload_len;
    bool retain;
    uint8_t text[]; /* bag, payload */
};
struct flight {       /* messages sent to the device and not acknowledged yet, oldest first */
    uint64_t sent_ms; /* the last of them, or the last sign of life */
    uint8_t nr;
    uint16_t packet_ids[C2D_BATCH_MAX];
    struct c2d_ref refs[C2D_BATCH_MAX];
};

enum session_phase { SESSION_NEW, SESSION_LOGIN, SESSION_OPEN, SESSION_CLOSED };
enum session_flag {
    SESSION_F_CLEAN = 1,
    SESSION_F_PAUSED = 2,    /* conn_pause(true) */
    SESSION_F_LISTING = 4,   /* the store is being asked for messages */
    SESSION_F_MORE = 8,      /* there may be more of them: ask again */
    SESSION_F_RESENT = 16,   /* the lock ran out once; the next time the connection closes */
    SESSION_F_STOPPING = 32, /* close when everything is answered */
    SESSION_F_ORDERED = 64,  /* the first messages were listed behind what an earlier connection wrote */
    SESSION_F_ORDER_DUE = 128
};
#define SESSION_EXPIRES_MAX (UINT32_MAX * 1000ull - 1000) /* ms; in the year 2106 */
struct session {                 /* state of a connection; a million of these: nothing here is per packet */
    struct session_name *name;   /* owned; NULL before SESSION_OPEN */
    struct reply *last;          /* of a ring, so that its next is the oldest; NULL: none */
    struct flight *flight;       /* owned; NULL while there is none */
    struct will *will;           /* owned */
    struct methods *methods;     /* owned; NULL while none is under way (method.c) */
    uint64_t c2d_seq, c2d_bcast; /* delivered on this connection so far */
    uint32_t rx_ms;              /* when bytes last came; low bits */
    uint32_t expires_s;          /* wall: the credentials with their grace; UINT32_MAX: never */
    uint32_t channels;           /* core/topic/topic.h */
    uint32_t desired_seen;       /* newest version of desired properties sent, its low bits; 0: none */
    uint16_t keep_alive_s, packet_id;
    uint8_t flags;            /* enum session_flag */
    uint8_t replies_nr : 7;   /* up to MQTT_WINDOW, and MQTT_NOTES_WAITING_MAX notifications */
    uint8_t held : 1;         /* over a rate: nothing is read until its struct hold comes (throttled.c) */
    uint8_t phase : 2;        /* enum session_phase */
    uint8_t subs_nr : 5;      /* SUBSCRIBEs not yet answered: no message may overtake their SUBACK */
    uint8_t methods_new : 1;  /* one of them is the first for methods: no call may overtake it either */
    uint8_t active : 6;       /* when its activity was last noted: low bits of a count of minutes */
    uint8_t twin_reading : 1; /* the store is being asked for what it was not told of desired properties */
    uint8_t twin_again : 1;   /* more of that since it was asked */
};
static_assert(sizeof(struct session) <= 80, "read docs/mqtt.md, \"Memory\", before a session grows");

/* An answer that is due when something is durable. They leave in the order of the packets [4.6.0-2]. */
struct reply {
    struct reply *next;
    struct mqtt_worker *mw;
    struct bus_addr addr;
    uint32_t bytes; /* allocated */
    uint16_t packet_id;
    /* enum mqtt_type: PUBACK, SUBACK, UNSUBACK; PUBLISH: the whole packet lies behind this struct, up to
     * `bytes`; 0: none (QoS 0) */
    uint8_t type;
    bool done, orphan; /* orphan: the connection is gone, nobody will ask for it */
    uint16_t codes_nr;
    uint8_t *codes; /* SUBACK; into the same memory */
};

static inline struct session *session_of(struct conn *c)
{
    return conn_state(c);
}
static inline struct mqtt_worker *session_worker(struct conn *c)
{
    struct mqtt_front *f = conn_listener_ctx(c);
    return &f->workers[worker_index(conn_worker(c))];
}
static inline struct hub *session_hub(struct conn *c)
{
    struct mqtt_front *f = conn_listener_ctx(c);
    return f->hub;
}
static inline uint64_t session_expires_ms(const struct session *s)
{
    return s->expires_s == UINT32_MAX ? UINT64_MAX : s->expires_s * 1000ull;
}
static inline struct span session_identity(const struct session *s)
{
    return span_of(s->name->text, s->name->identity_len);
}
static inline struct topic_identity session_who(const struct session *s)
{
    struct topic_identity who = { span_of(s->name->text, s->name->device_len), SPAN_NONE };
    if (s->name->identity_len > s->name->device_len)
        who.module = span_skip(session_identity(s), s->name->device_len + 1u);
    return who;
}
static inline struct span session_generation(const struct session *s)
{
    return span_of(s->name->text + s->name->identity_len, s->name->generation_len);
}
static inline struct span session_model(const struct session *s)
{
    return span_of(s->name->text + s->name->identity_len + s->name->generation_len, s->name->model_len);
}

/* session.c */
/* The open session at an address, or NULL: gone, closing, or not logged in any more. */
struct conn *session_find(struct mqtt_worker *mw, struct bus_addr addr);
void session_send(struct conn *c, const struct wr *w);
/* Closes for a reason that is the peer's fault, with a line in the log. */
void session_refuse(struct conn *c, enum conn_close why, const char *what);
void session_arm(struct conn *c);
/* Reads on, when nothing holds it back any more. */
void session_resume(struct conn *c);
bool session_log_allowed(struct mqtt_worker *mw);

void session_note_presence(struct conn *c);
/* It sent or settled something: moves its activity time, at most once a minute. */
void session_note_activity(struct conn *c);
uint8_t session_minute(struct conn *c); /* low bits of the count of its minutes */
/* Asks the store whether the identity is still good; closes when it is not. */
void session_check_identity(struct conn *c);

/* login.c: CONNECT came, the first packet. */
void session_login(struct conn *c, const struct mqtt_packet *p);

/* publish.c */
void session_publish(struct conn *c, const struct mqtt_packet *p);
void session_publish_will(struct conn *c);
void *reply_new(struct conn *c, size_t bytes); /* begins with a struct reply; NULL: out of memory */
void reply_free(struct reply *r);
void reply_push(struct conn *c, struct reply *r);
/* It may leave now, as far as the ones before it have. */
void reply_finish(struct reply *r, enum err err);
void replies_drop(struct session *s); /* the connection is gone */

/* subscribe.c */
void session_subscribe(struct conn *c, const struct mqtt_packet *p);
void session_unsubscribe(struct conn *c, const struct mqtt_packet *p);

/* deliver.c */
void session_deliver(struct conn *c); /* there may be messages: sends what may be sent */
void session_puback(struct conn *c, uint16_t packet_id);
uint64_t session_lock_end(const struct session *s, const struct hub *h); /* UINT64_MAX: nothing in flight */
void session_lock_over(struct conn *c);

/* method.c */
bool session_method(struct conn *c, const struct bus_message *m); /* false: it has no subscription for it */
void session_method_result(struct conn *c, const struct topic *t, struct span body);
void session_methods_sweep(struct conn *c); /* forgets those that nobody waits for any more */
void session_methods_close(struct conn *c); /* the connection goes: callers are told */

/* It takes calls now: whoever waits for that is told. */
static inline void session_announce(struct conn *c)
{
    if (channels_qos(session_of(c)->channels, CHANNEL_METHODS) >= 0)
        bus_announce(session_hub(c)->bus, session_identity(session_of(c)));
}

/* An answer without a wait of its own, behind those that wait. */
void session_puback_now(struct conn *c, const struct mqtt_publish *m);

/* throttled.c */
/* One more telemetry message: served now; the next one is read when the rate allows. False: closed. */
bool session_throttle_send(struct conn *c);
void session_holds_free(struct mqtt_worker *mw);

/* twin.c */
void session_twin(struct conn *c, const struct mqtt_publish *m, const struct topic *t); /* GET or PATCH */
bool session_twin_note(struct conn *c, const struct bus_message *m); /* false: no subscription for it */
/* Notifications were lost on their way: the device is told all of its desired properties. */
void session_twin_missed(struct conn *c);
/* An error as twin and credential requests have it, on one of their channels. code: 400004 is status 400. */
void session_answer_error(struct conn *c, const struct topic *t, enum channel channel, unsigned code,
                          const char *message);

#endif
