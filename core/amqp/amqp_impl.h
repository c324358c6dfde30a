/* core/amqp/amqp_impl.h - what the engine's files share: amqp_conn.c (opening, frames, the end),
 * amqp_session.c (sessions, windows, memory), amqp_link.c (links and deliveries). */
#ifndef ROOST_CORE_AMQP_AMQP_IMPL_H
#define ROOST_CORE_AMQP_AMQP_IMPL_H

#include "core/amqp/amqp_conn.h"

#include <assert.h>

enum amqp_phase {
    AMQP_PHASE_HEADER = 0, /* the peer's protocol header is awaited */
    AMQP_PHASE_SASL_INIT,  /* server: sasl-init; client: mechanisms */
    AMQP_PHASE_SASL_WAIT,  /* server: the caller decides; client: the outcome */
    AMQP_PHASE_SASL_FAILED,
    AMQP_PHASE_HEADER2, /* SASL is over: the header of AMQP */
    AMQP_PHASE_FRAMES,
    AMQP_PHASE_FAILED
};

struct amqp_delivery { /* of ours, not settled; on session->unsettled, by id */
    struct list node;
    struct amqp_link *link;
    uint64_t user;
    uint32_t id;
};

/* Memory, accounted. NULL: over the cap, or none left. put accepts NULL. */
void *amqp_mem_get(struct amqp_conn *c, size_t n);
void amqp_mem_put(struct amqp_conn *c, void *p, size_t n);

struct amqp_node *amqp_index_get(const struct amqp_index *x, uint32_t key);
bool amqp_index_put(struct amqp_conn *c, struct amqp_index *x, struct amqp_node *n); /* false: no memory */
void amqp_index_del(struct amqp_index *x, struct amqp_node *n); /* harmless when it is not in */
void amqp_index_fini(struct amqp_conn *c, struct amqp_index *x);

/* It failed: writes the close. Returns err. */
enum err amqp_fail(struct amqp_conn *c, enum err err, const char *condition, const char *text,
                   struct wr *out);
static inline bool amqp_has_room(const struct wr *out)
{
    return out->len + AMQP_ROOM <= out->cap;
}
struct amqp_error amqp_error_of(const char *condition, const char *text);

/* Each takes a frame. ERR_AGAIN: no event of it; *used is false while the frame is to come again. */
enum err amqp_on_begin(struct amqp_conn *c, const struct amqp_frame *f, struct amqp_event *ev,
                       struct wr *out);
enum err amqp_on_end(struct amqp_conn *c, struct amqp_session *s, const struct amqp_frame *f, struct wr *out);
enum err amqp_on_flow(struct amqp_session *s, const struct amqp_frame *f, struct amqp_event *ev,
                      struct wr *out);
enum err amqp_on_attach(struct amqp_session *s, const struct amqp_frame *f, struct amqp_event *ev,
                        struct wr *out);
enum err amqp_on_detach(struct amqp_session *s, const struct amqp_frame *f, struct amqp_event *ev,
                        struct wr *out);
enum err amqp_on_transfer(struct amqp_session *s, const struct amqp_frame *f, struct amqp_event *ev,
                          struct wr *out);
enum err amqp_on_disposition(struct amqp_session *s, const struct amqp_frame *f, struct amqp_event *ev,
                             struct wr *out, bool *used);

void amqp_session_flow(struct amqp_session *s, struct amqp_link *l, bool echo, struct wr *out);
void amqp_session_free(struct amqp_session *s); /* and its links */
void amqp_link_free(struct amqp_link *l);
/* Keeps the error of a peer's end or close until the event that tells it. s NULL: of the connection. */
void amqp_keep_error(struct amqp_conn *c, struct amqp_session *s, const struct amqp_frame *f);
/* The link is over for us: what it had under way is forgotten. */
void amqp_link_drop(struct amqp_link *l);

#endif
