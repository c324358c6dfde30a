/* hub/front/mqtt/login.c - from CONNECT to CONNACK: the names, the credentials, the stored subscriptions, the
 * takeover. Source: MQTT 3.1.1 sections 3.1 and 3.2; docs/mqtt.md, "Connecting". */
#include "base/log.h"
#include "base/text.h"
#include "core/bag/bag.h"
#include "core/topic/username.h"
#include "hub/domain/access/refusals.h"
#include "hub/domain/rate.h"
#include "hub/domain/twin/twin.h"
#include "hub/front/mqtt/session.h"

#include <stdlib.h>

/* A connection between CONNECT and CONNACK. Owned by itself: the connection may die meanwhile. */
struct login {
    struct access_check check; /* first */
    struct store_op store;     /* then the stored session */
    struct mqtt_worker *mw;
    struct bus_addr addr;
    struct mqtt_connect connect; /* spans into text */
    struct username user;        /* as well */
    struct will *will;           /* owned; handed to the session */
    bool found;                  /* a stored session */
    bool model_new;              /* its twin has another model */
    uint32_t channels;
    uint8_t text[];
};

static void login_free(struct login *l)
{
    free(l->will);
    free(l);
}

static void connack(struct conn *c, bool present, enum mqtt_connack_code code)
{
    uint8_t buf[4];
    struct wr w = { buf, sizeof buf, 0 };
    mqtt_connack_encode(&w, present, code);
    session_send(c, &w);
}

/* All trouble with names and credentials looks the same from outside, and counts the same. */
static void refuse(struct conn *c, struct span client_id, const char *why)
{
    char peer[64], source[RATE_SOURCE_MAX];
    struct refusals *r = session_hub(c)->refusals;
    METRIC_ADD(session_hub(c), mqtt_refused_total, 1);
    if (r)
        refusals_note(r, "mqtt", rate_source(span_str(conn_peer(c, peer)), source), client_id, why,
                      worker_now_ms(conn_worker(c)));
    if (session_log_allowed(session_worker(c)))
        log_warn("mqtt.login", "device=%.*s peer=%s why=%s", client_id.n > 257 ? 257 : (int)client_id.n,
                 (const char *)client_id.p, conn_peer(c, peer), why);
    connack(c, false, MQTT_CONNACK_REFUSED);
    conn_close(c, CONN_CLOSE_AUTH);
}

/* Its source has failed too often: not even looked at. True: answered and closed. */
static bool has_to_wait(struct conn *c, struct span client_id)
{
    char peer[64], source[RATE_SOURCE_MAX];
    struct refusals *r = session_hub(c)->refusals;
    uint64_t now = worker_now_ms(conn_worker(c));
    if (!r || !refusals_are_recent(r, now) ||
        !refusals_wait_s(r, rate_source(span_str(conn_peer(c, peer)), source), client_id, now))
        return false;
    METRIC_ADD(session_hub(c), mqtt_refused_total, 1);
    connack(c, false, MQTT_CONNACK_UNAVAILABLE); /* "try again later", unlike a refusal */
    conn_close(c, CONN_CLOSE_AUTH);
    return true;
}

static void unavailable(struct conn *c, struct login *l, enum err e)
{
    if (session_log_allowed(l->mw))
        log_warn("mqtt.login", "device=%.*s err=%s", (int)l->connect.client_id.n,
                 (const char *)l->connect.client_id.p, err_name(e));
    connack(c, false, MQTT_CONNACK_UNAVAILABLE);
    conn_close(c, CONN_CLOSE_INTERNAL);
    login_free(l);
}

/* ---- the last step: everything is known and stored ------------------------------------------------------
 */

/* The model it announces; empty: none, or one that is longer than any real one. */
static struct span login_model(const struct login *l, uint8_t mem[MQTT_MODEL_MAX])
{
    struct wr m = { mem, MQTT_MODEL_MAX, 0 };
    percent_decode(&m, l->user.model_id);
    return wr_span(&m);
}

static struct session_name *name_new(struct conn *c, const struct login *l)
{
    uint8_t model[MQTT_MODEL_MAX];
    size_t model_len = login_model(l, model).n;
    struct session_name *n =
        slab_get(conn_slab(c), offsetof(struct session_name, text) + l->check.identity_len +
                                   l->check.generation_len + model_len);
    if (!n)
        return NULL;
    n->proof = l->check.proof;
    n->identity_len = l->check.identity_len;
    n->device_len = (uint8_t)l->user.who.device.n;
    n->generation_len = l->check.generation_len;
    n->model_len = (uint8_t)model_len;
    bool module = l->user.who.module.n > 0;
    n->auth = l->check.granted       ? MESSAGE_AUTH_HUB_SAS
              : l->check.certificate ? (module ? MESSAGE_AUTH_MODULE_X509 : MESSAGE_AUTH_DEVICE_X509)
              : module               ? MESSAGE_AUTH_MODULE_SAS
                                     : MESSAGE_AUTH_DEVICE_SAS;
    memcpy(n->text, l->check.identity, n->identity_len);
    memcpy(n->text + n->identity_len, l->check.generation, n->generation_len);
    memcpy(n->text + n->identity_len + n->generation_len, model, model_len);
    return n;
}

static void login_finish(struct conn *c, struct login *l)
{
    struct session *s = session_of(c);
    struct hub *h = session_hub(c);
    uint64_t grace = 1000ull * h->settings.sas_grace_s;
    s->name = name_new(c, l);
    if (!s->name) {
        unavailable(c, l, ERR_NOMEM);
        return;
    }
    s->channels = l->channels;
    s->keep_alive_s = l->connect.keep_alive_s;
    uint64_t end = l->check.expires_ms > UINT64_MAX - grace ? UINT64_MAX : l->check.expires_ms + grace;
    s->expires_s = end > SESSION_EXPIRES_MAX ? UINT32_MAX : (uint32_t)((end + 999) / 1000);
    s->flags |= l->connect.clean ? SESSION_F_CLEAN : 0;
    s->will = l->will;
    l->will = NULL;
    enum err e = bus_attach(h->bus, session_identity(s), conn_addr(c)); /* the older connection is told */
    if (e) {
        unavailable(c, l, e);
        return;
    }
    s->phase = SESSION_OPEN;
    conn_established(c);
    connack(c, l->found && !l->connect.clean, MQTT_CONNACK_OK);
    METRIC_ADD(h, mqtt_connects_total, 1);
    session_note_presence(c);
    s->active = (session_minute(c) - 1) & 0x3f; /* what it does first is noted */
    if (access_is_stale(&l->check)) /* disabled or deleted while it logged in: the wake-up found nobody */
        session_check_identity(c);
    login_free(l);
    s->rx_ms = (uint32_t)worker_now_ms(conn_worker(c));
    session_arm(c);
    session_announce(c);
    session_resume(c); /* what was pipelined behind CONNECT */
    session_deliver(c);
}

/* ---- the stored session ----------------------------------------------------------------------------------
 */

static struct login *login_of(struct op *op)
{
    return CONTAINER_OF(op, struct login, store.op);
}

static struct span login_identity(const struct login *l)
{
    return span_of(l->check.identity, l->check.identity_len);
}

static void stored_done(struct op *op)
{
    struct login *l = login_of(op);
    struct conn *c = session_find(l->mw, l->addr);
    if (!c)
        login_free(l);
    else if (op->err && l->connect.clean) /* the old subscriptions are still there: they must not come back */
        unavailable(c, l, op->err);
    else
        login_finish(c, l); /* a new session that could not be stored is only not resumed next time */
}

static enum err stored_run(struct store_tx *tx, struct store_op *self)
{
    struct login *l = login_of(&self->op);
    uint8_t model[MQTT_MODEL_MAX];
    enum err e = ERR_OK;
    if (l->connect.clean && l->found)
        e = tx_session_delete(tx, login_identity(l));
    else if (!l->connect.clean && !l->found)
        e = tx_session_put(tx, &(struct session_row){ .id = login_identity(l) });
    if (e == ERR_NOTFOUND)
        e = ERR_OK;
    if (!e && l->model_new)
        e = twin_set_model(tx, login_identity(l), login_model(l, model));
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

static void session_read_done(struct op *op)
{
    struct login *l = login_of(op);
    struct conn *c = session_find(l->mw, l->addr);
    if (!c) {
        login_free(l);
    } else if (op->err) {
        unavailable(c, l, op->err);
    } else if (l->found == l->connect.clean || l->model_new) { /* one to forget, or one to begin */
        if (l->connect.clean)
            l->channels = 0;
        l->store.run = stored_run;
        l->store.op.done = stored_done;
        store_write(session_hub(c)->store, &l->store);
    } else {
        login_finish(c, l);
    }
}

static enum err session_read_run(struct store_tx *tx, struct store_op *self)
{
    struct login *l = login_of(&self->op);
    struct session_row r;
    enum err e = tx_session_get(tx, login_identity(l), &r);
    uint8_t mem[MQTT_MODEL_MAX];
    struct twin_row twin;
    l->found = e == ERR_OK;
    l->channels = e ? 0 : r.channels;
    struct span model = login_model(l, mem);
    if ((!e || e == ERR_NOTFOUND) && model.n) {
        e = tx_twin_get(tx, login_identity(l), &twin);
        l->model_new = !e && !span_eq(twin.model_id, model);
    }
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

/* ---- credentials ------------------------------------------------------------------------------------------
 */

static void checked(struct op *op)
{
    struct login *l = (struct login *)(void *)op;
    struct conn *c = session_find(l->mw, l->addr);
    struct span policy = l->check.granted ? sas_policy(&l->check.parsed) : SPAN_NONE;
    explicit_bzero((void *)(uintptr_t)l->connect.password.p, l->connect.password.n);
    if (!c) {
        login_free(l);
    } else if (op->err == ERR_DENIED) {
        refuse(c, l->connect.client_id, access_why_name(l->check.why));
        login_free(l);
    } else if (op->err) {
        unavailable(c, l, op->err);
    } else if (!throttle_take(session_hub(c)->throttle, THROTTLE_CONNECTIONS, policy, 1,
                              worker_now_ms(conn_worker(c)), 0)
                    .allowed) {
        METRIC_ADD(session_hub(c), mqtt_refused_total, 1);
        connack(c, false, MQTT_CONNACK_UNAVAILABLE);
        conn_close(c, CONN_CLOSE_LIMIT);
        login_free(l);
    } else {
        l->store.op.home = worker_mailbox(conn_worker(c));
        l->store.op.done = session_read_done;
        l->store.run = session_read_run;
        store_read(session_hub(c)->store, &l->store);
    }
}

/* ---- CONNECT ---------------------------------------------------------------------------------------- */

static struct span keep(struct wr *w, struct span s)
{
    struct span copy = span_of(w->p + w->len, s.n);
    wr_put(w, s);
    return copy;
}

/* The will, when its topic is the device's own telemetry; another one is ignored. */
static bool will_take(struct conn *c, struct login *l, const struct mqtt_connect *m)
{
    struct topic t;
    if (!m->has_will)
        return true;
    if (topic_parse(m->will_topic, &l->user.who, &t) || t.kind != TOPIC_TELEMETRY) {
        if (session_log_allowed(l->mw))
            log_warn("mqtt.will", "device=%.*s what=topic-not-own-telemetry", (int)m->client_id.n,
                     (const char *)m->client_id.p);
        return true;
    }
    l->will = malloc(sizeof *l->will + t.bag.n + m->will_payload.n);
    if (!l->will) {
        conn_close(c, CONN_CLOSE_INTERNAL);
        return false;
    }
    l->will->retain = m->will_retain;
    l->will->bag_len = (uint32_t)t.bag.n;
    l->will->payload_len = (uint32_t)m->will_payload.n;
    struct wr w = { l->will->text, t.bag.n + m->will_payload.n, 0 };
    wr_put(&w, t.bag);
    wr_put(&w, m->will_payload);
    return true;
}

void session_login(struct conn *c, const struct mqtt_packet *p)
{
    struct session *s = session_of(c);
    struct mqtt_connect m;
    struct username user;
    enum err e = mqtt_connect_decode(p, &m);
    if (e == ERR_LIMIT) {
        connack(c, false, MQTT_CONNACK_VERSION);
        session_refuse(c, CONN_CLOSE_PROTO, "protocol-level");
        return;
    }
    if (e || m.will_qos == 2) {
        session_refuse(c, CONN_CLOSE_PROTO, e ? "connect" : "will-qos-2");
        return;
    }
    if (has_to_wait(c, m.client_id))
        return;
    if (!m.has_username || username_parse(m.client_id, m.username, &user)) {
        refuse(c, m.client_id, m.has_username ? "names" : "no-user-name");
        return;
    }
    struct span leaf = SPAN_NONE, chain = SPAN_NONE;
    if (!m.password.n && conn_peer_certificate(c, &leaf) && !conn_peer_chain(c, &chain))
        chain = SPAN_NONE;
    size_t text_len = m.client_id.n + m.username.n + m.password.n + leaf.n + chain.n;
    struct login *l = malloc(sizeof *l + text_len);
    if (!l) {
        conn_close(c, CONN_CLOSE_INTERNAL);
        return;
    }
    memset(l, 0, sizeof *l);
    l->mw = session_worker(c);
    l->addr = conn_addr(c);
    struct wr w = { l->text, text_len, 0 };
    l->connect = m;
    l->connect.client_id = keep(&w, m.client_id);
    l->connect.username = keep(&w, m.username);
    l->connect.password = keep(&w, m.password);
    l->connect.will_topic = l->connect.will_payload = SPAN_NONE;
    e = username_parse(l->connect.client_id, l->connect.username, &l->user); /* spans into the copy */
    assert(e == ERR_OK);
    if (!will_take(c, l, &m)) {
        login_free(l);
        return;
    }
    s->phase = SESSION_LOGIN;
    l->check.hub = session_hub(c);
    l->check.token = l->connect.password;
    l->check.leaf = leaf.n ? keep(&w, leaf) : SPAN_NONE;
    l->check.chain = chain.n ? keep(&w, chain) : SPAN_NONE;
    l->check.host = l->user.host;
    l->check.device = l->user.who.device;
    l->check.module = l->user.who.module;
    l->check.store.op.home = worker_mailbox(conn_worker(c));
    l->check.store.op.done = checked;
    access_start(&l->check);
}
