/* hub/front/routing/routing_impl.h - what the files of routing.h share. */
#ifndef ROOST_HUB_FRONT_ROUTING_ROUTING_IMPL_H
#define ROOST_HUB_FRONT_ROUTING_ROUTING_IMPL_H

#include "hub/domain/event/event.h"
#include "hub/domain/event/route.h"
#include "hub/domain/message/telemetry.h"
#include "hub/front/routing/routing.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>

#define ROUTE_BATCH_BYTES (STREAM_RECORD_MAX + 65536u) /* of a read */
#define ROUTE_CURSOR_MS   500u                         /* how far a crash may set a reader back */

/* ---- wait.c: threads that wait for ops ---------------------------------------------------------------- */

struct bell { /* something to look at */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool rung, stop;
};
void bell_init(struct bell *b);
void bell_fini(struct bell *b);
void bell_ring(struct bell *b);               /* any thread */
void bell_stop(struct bell *b);               /* for good */
bool bell_wait(struct bell *b, uint64_t ms);  /* until it rings or the time is over; false: stop */
bool bell_pause(struct bell *b, uint64_t ms); /* for this time, unless stopped; false: stop */
bool bell_stopped(struct bell *b);
uint64_t mono_ms_now(void);

/* Runs a transaction and waits. Not on a store's thread. */
typedef enum err wait_tx_fn(struct store_tx *tx, void *ctx);
enum err wait_write(struct store *s, wait_tx_fn *fn, void *ctx);
enum err wait_read(struct store *s, wait_tx_fn *fn, void *ctx);
enum err wait_stream_read(struct stream *s, struct stream_read *r);
/* Appends all, and waits until each has come home; retries what was not taken, until `b` stops. */
struct wait_append {
    struct stream_append a; /* first; partition and record are set */
    struct stream *to;
    struct waiting *waiting;
};
enum err wait_appends(struct bell *b, struct wait_append *all, size_t nr);

/* A place in a stream that is stored now and then. */
struct cursor {
    struct hub *h;
    char name[160];
    uint64_t seq, stored;
    uint64_t stored_ms; /* monotonic */
};
enum err cursor_load(struct cursor *c, struct stream *s); /* 0 when there is none */
/* Stores it when it moved and that was long enough ago, or `now`. */
void cursor_store(struct cursor *c, struct stream *s, bool now);

/* A watch on a stream that rings a bell. */
struct ringing {
    struct stream_watch w; /* first */
    struct bell *bell;
    _Atomic int state;
};
void ringing_arm(struct ringing *r, struct stream *s, struct bell *b, uint64_t seq);
void ringing_off(struct ringing *r, struct stream *s); /* waits for nothing: it comes home at once */

/* ---- endpoints ----------------------------------------------------------------------------------------- */

struct deliver;
struct deliver_ops { /* webhook.c, mqtt_out.c, file_out.c: on the deliverer's thread */
    enum err (*open)(struct deliver *d);
    /* *done: how many of the first were taken for good, also with an error; d->why says what it was.
     * ERR_DENIED: what was sent is refused for what it is, and would be again. */
    enum err (*send)(struct deliver *d, const struct stream_record *r, size_t nr, size_t *done);
    void (*idle)(struct deliver *d); /* nothing came for some seconds; or NULL */
    void (*close)(struct deliver *d);
};
extern const struct deliver_ops webhook_ops, mqtt_out_ops, file_out_ops;

struct deliver {
    struct out *out;
    struct hub *hub;
    const struct endpoint_spec *spec;
    const char *files;
    struct bell bell;
    pthread_t thread;
    bool running;
    const struct deliver_ops *ops;
    void *state;   /* of ops */
    char why[200]; /* set by send */
};
enum err deliver_start(struct out *o);
void deliver_stop(struct out *o);

struct out {
    struct routing *r;
    struct out *next;
    char name[ROUTE_NAME_MAX + 1];
    char dir[PATH_MAX];
    struct arena a; /* of spec */
    struct endpoint_spec spec;
    struct stream *stream;
    struct deliver deliver; /* unless it is a stream */
    _Atomic unsigned refs;  /* readers */
    bool gone;              /* deleted; closed when nobody reads it */
    struct cursor cursor;
    _Atomic uint64_t delivered, failed, dead, lost, place;
    pthread_mutex_t why_lock;
    char why[200];
};

struct routing {
    struct hub *hub;
    struct routing_config cfg;
    char dir[PATH_MAX], files[PATH_MAX];
    struct telemetry_way way;
    struct event_out events;
    struct route_set *set; /* the router's */
    pthread_mutex_t lock;  /* outs, out_of: by whom is not the router */
    pthread_cond_t loaded;
    struct out *outs;
    struct out *out_of[ROUTE_TARGETS_MAX]; /* by target; 0 is the built-in stream: NULL */
    struct out *dead;                      /* the dead-letter stream */
    uint64_t wanted_gen, loaded_gen;       /* of definitions */
    bool incomplete;                       /* not all endpoints could be opened: */
    uint64_t again_ms;                     /* monotonic: then it is tried again */
    struct bell bell;
    pthread_t thread;
    bool running;
    struct cursor cursor;
    _Atomic uint64_t decided; /* its place, for others */
    struct ringing ringing;
    uint8_t *buf; /* of reads */
};
/* outs.c: on the router's thread, or before it runs. */
enum err outs_load(struct routing *r);
void outs_close_gone(struct routing *r);
void outs_stop(struct routing *r);
void outs_free(struct routing *r);
uint32_t out_partition(const struct stream *s, struct span device);

#endif
