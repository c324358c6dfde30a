/* tests/fake/amqp_client.h - a client of the AMQP front without sockets: the engine in its other role, tied
 * to a connection of conn_fake.h. What the hub says is written down as words, one an event, and the last
 * deliveries are kept. It keeps every byte it sends, so that a whole dialogue can be said again in any
 * pieces. Include it once in a program, after conn_fake.h. */
#ifndef ROOST_TESTS_FAKE_AMQP_CLIENT_H
#define ROOST_TESTS_FAKE_AMQP_CLIENT_H

#include "core/amqp/amqp_conn.h"
#include "core/amqp/amqp_message.h"
#include "core/sas/sas.h"
#include "port/crypto.h"

#include <stdarg.h>
#include <stdio.h>

enum { CLIENT_OUT = 1 << 18, CLIENT_SAID = 1 << 19, CLIENT_BODY = 1 << 16 };

struct client {
    struct conn *c;
    struct amqp_conn e;
    struct amqp_session *session;
    bool manual;    /* nothing goes to the hub by itself: `said` is all that is made */
    char log[8192]; /* one word an event */
    uint8_t *in;    /* of the hub, not taken yet */
    size_t in_len;
    uint8_t said[CLIENT_SAID]; /* every byte of the client's */
    size_t said_len;
    uint32_t deliveries; /* that came; of the last one: */
    uint32_t id;
    struct amqp_link *link;
    uint8_t body[CLIENT_BODY];
    size_t body_len;
};

static uint8_t client_out[CLIENT_OUT];

static void *client_get(void *ctx, size_t n)
{
    (void)ctx;
    return malloc(n);
}
static void client_put(void *ctx, void *p, size_t n)
{
    (void)ctx;
    (void)n;
    free(p);
}

static inline void client_note(struct client *k, const char *fmt, ...)
{
    va_list ap;
    size_t n = strlen(k->log);
    va_start(ap, fmt);
    vsnprintf(k->log + n, sizeof k->log - n, fmt, ap);
    va_end(ap);
}

static inline void client_on_event(struct client *k, const struct amqp_event *ev)
{
    struct span why = ev->error.condition, said = ev->sent.state.error.condition;
    struct span name = ev->link ? amqp_link_name(ev->link) : SPAN_NONE;
    switch (ev->kind) {
    case AMQP_EV_ATTACHED:
        client_note(k, "%s:%.*s ",
                    ev->attach.source.present || ev->attach.target.present ? "attached" : "refused",
                    (int)name.n, (const char *)name.p);
        break;
    case AMQP_EV_DELIVERY:
        k->deliveries++;
        k->id = ev->delivery.id;
        k->link = ev->link;
        k->body_len = ev->delivery.payload.n < sizeof k->body ? ev->delivery.payload.n : 0;
        if (k->body_len)
            memcpy(k->body, ev->delivery.payload.p, k->body_len);
        client_note(k, "got:%.*s ", (int)name.n, (const char *)name.p);
        break;
    case AMQP_EV_SETTLED:
        client_note(k, "%s%s%.*s ", ev->sent.state.outcome == AMQP_ACCEPTED ? "accepted" : "rejected",
                    said.n ? ":" : "", (int)said.n, (const char *)said.p);
        break;
    case AMQP_EV_DETACH:
        client_note(k, "detached:%.*s:%.*s ", (int)name.n, (const char *)name.p, (int)why.n,
                    (const char *)why.p);
        break;
    case AMQP_EV_CLOSE:
        client_note(k, "closed:%.*s ", (int)why.n, (const char *)why.p);
        break;
    default:
        break;
    }
}

/* What the engine made goes to the hub. */
static inline void client_flush(struct client *k, struct wr *w)
{
    assert(wr_ok(w) && k->said_len + w->len <= sizeof k->said);
    if (w->len)
        memcpy(k->said + k->said_len, w->p, w->len);
    k->said_len += w->len;
    if (!k->manual && k->c && !k->c->closing)
        fake_feed(k->c, wr_span(w));
    w->len = 0;
}
static inline struct wr client_wr(void)
{
    return (struct wr){ client_out, sizeof client_out, 0 };
}

/* What the hub said is heard. */
static inline void client_hear(struct client *k)
{
    struct amqp_event ev;
    enum err e = ERR_OK;
    while (k->c && k->c->out_len && !e) {
        k->in = realloc(k->in, k->in_len + k->c->out_len);
        assert(k->in);
        memcpy(k->in + k->in_len, k->c->out, k->c->out_len);
        k->in_len += k->c->out_len;
        k->c->out_len = 0;
        struct span left = span_of(k->in, k->in_len);
        struct wr w = client_wr();
        while ((e = amqp_next(&k->e, &left, &ev, &w)) == ERR_OK)
            client_on_event(k, &ev);
        assert(e == ERR_AGAIN || e == ERR_STOPPED);
        memmove(k->in, left.p, left.n);
        k->in_len = left.n;
        client_flush(k, &w);
        e = e == ERR_AGAIN ? ERR_OK : e;
    }
}

static inline void client_init(struct client *k, struct conn *c)
{
    static const struct amqp_config cfg = { .container_id = { (const uint8_t *)"client", 6 },
                                            .hostname = { (const uint8_t *)"hub.example.net", 15 },
                                            .properties = { (const uint8_t *)"\xc1\x01\x00", 3 },
                                            .frame_max = 65536,
                                            .channel_max = 99,
                                            .handle_max = 1000,
                                            .incoming_window = 1000,
                                            .sessions_max = 10,
                                            .links_max = 1000,
                                            .unsettled_max = 5000,
                                            .delivery_max = 1 << 20,
                                            .memory_max = 64 << 20 };
    static const struct amqp_mem mem = { client_get, client_put, NULL };
    memset(k, 0, sizeof *k);
    k->c = c;
    amqp_conn_init(&k->e, &cfg, &mem, 0);
    struct wr w = client_wr();
    enum err e = amqp_start(&k->e, &w);
    assert(!e);
    client_flush(k, &w);
    client_hear(k);
    e = amqp_begin(&k->e, &w, &k->session);
    assert(!e);
    client_flush(k, &w);
    client_hear(k);
}

/* Ends both ends. */
static inline void client_fini(struct client *k)
{
    if (k->c)
        fake_drop(k->c);
    amqp_conn_fini(&k->e);
    free(k->in);
    k->in = NULL;
    k->c = NULL;
}

struct client_link { /* how to attach; the rest is the usual */
    const char *name, *address;
    bool receiver;
    uint8_t rcv_mode;
    struct span properties;
};
static inline struct amqp_link *client_attach(struct client *k, const struct client_link *how)
{
    struct amqp_terminus node = { .present = true, .address = span_str(how->address) },
                         own = { .present = true };
    struct amqp_attach a = { .name = span_str(how->name),
                             .receiver = how->receiver,
                             .rcv_mode = how->rcv_mode,
                             .source = how->receiver ? node : own,
                             .target = how->receiver ? own : node,
                             .properties = how->properties };
    struct amqp_link *l;
    struct wr w = client_wr();
    enum err e = amqp_attach(k->session, &a, NULL, &w, &l);
    assert(!e);
    client_flush(k, &w);
    client_hear(k);
    return l;
}
static inline struct amqp_link *client_sender(struct client *k, const char *address)
{
    return client_attach(k, &(struct client_link){ .name = address, .address = address });
}
static inline struct amqp_link *client_receiver(struct client *k, const char *address)
{
    return client_attach(k, &(struct client_link){ .name = address, .address = address, .receiver = true });
}

static inline void client_credit(struct client *k, struct amqp_link *l, uint32_t credit)
{
    struct wr w = client_wr();
    amqp_credit(l, credit, &w);
    client_flush(k, &w);
    client_hear(k);
}
static inline void client_settle(struct client *k, enum amqp_outcome how)
{
    struct wr w = client_wr();
    struct amqp_state s = { .outcome = (uint8_t)how };
    amqp_settle(k->link, k->id, k->id, 1, &s, &w);
    client_flush(k, &w);
    client_hear(k);
}

/* A message goes out; there has to be credit. */
static inline void client_send(struct client *k, struct amqp_link *l, struct span message, uint32_t format)
{
    static uint64_t tags;
    uint8_t tag[8];
    struct wr t = { tag, sizeof tag, 0 }, w = client_wr();
    wr_be64(&t, ++tags);
    struct amqp_send s = { .tag = wr_span(&t), .format = format, .body = message };
    enum err e = amqp_send(l, &s, &w);
    assert(!e);
    client_flush(k, &w);
    client_hear(k);
}

static inline struct span client_message(uint8_t *mem, size_t room, struct span body)
{
    struct wr w = { mem, room, 0 };
    amqp_data_head(&w, body.n);
    wr_put(&w, body);
    assert(wr_ok(&w));
    return wr_span(&w);
}
/* A batch of several: each a whole message in a Data section. */
static inline struct span client_batch(uint8_t *mem, size_t room, const struct span *bodies, size_t nr)
{
    struct wr w = { mem, room, 0 };
    for (size_t i = 0; i < nr; i++) {
        uint8_t one[256];
        struct span m = client_message(one, sizeof one, bodies[i]);
        amqp_data_head(&w, m.n);
        wr_put(&w, m);
    }
    assert(wr_ok(&w));
    return wr_span(&w);
}

/* A token for $cbs, in a message. policy empty: a device's own. */
static inline struct span client_token(uint8_t *mem, size_t room, const char *resource, struct span key,
                                       const char *policy)
{
    char token[SAS_TOKEN_MAX];
    struct wr t = { (uint8_t *)token, sizeof token, 0 }, w = { mem, room, 0 };
    sas_token_encode(&t, &port_crypto, span_str(resource), key, 4000000000u, span_str(policy));
    amqp_properties_encode(
        &w, &(struct amqp_properties){ .message_id = { .type = AMQP_STRING, .bytes = SPAN("t") } });
    amqp_section_begin(&w, AMQP_APPLICATION_PROPERTIES);
    size_t at = amqp_map_begin(&w);
    amqp_put_string(&w, SPAN("operation"));
    amqp_put_string(&w, SPAN("put-token"));
    amqp_map_end(&w, at, 2);
    amqp_section_begin(&w, AMQP_VALUE);
    amqp_put_string(&w, wr_span(&t));
    assert(wr_ok(&w));
    return wr_span(&w);
}

/* status-code of the answer that came last; 0: it has none. */
static inline uint64_t client_status(const struct client *k)
{
    struct amqp_message m;
    struct amqp_value v;
    uint64_t n = 0;
    if (amqp_message_decode(span_of(k->body, k->body_len), &m) ||
        !amqp_map_get(&m.application_properties, SPAN("status-code"), &v) || !amqp_get_u64(&v, 1000, &n))
        return 0;
    return n;
}
/* The first Data section of the delivery that came last. */
static inline struct span client_data(const struct client *k)
{
    struct amqp_message m;
    if (amqp_message_decode(span_of(k->body, k->body_len), &m) || m.body != AMQP_DATA)
        return SPAN_NONE;
    return m.value.bytes;
}

#endif
