/* hub/front/amqp/login.c - what a peer may do: SASL PLAIN, and tokens put on $cbs. A token grants what its
 * resource and its key say, whatever name it is put under. Nothing of the peer is read while one is being
 * looked at. */
#include "base/log.h"
#include "base/text.h"
#include "hub/domain/access/refusals.h"
#include "hub/domain/message/message.h"
#include "hub/domain/rate.h"
#include "hub/front/amqp/peer.h"

#include <stdlib.h>

#define TOKEN_MAX 4096u

/* ---- grants ----------------------------------------------------------------------------------------- */

struct grant *grant_of_identity(struct peer *p, struct span device, struct span module)
{
    for (struct list *n = p->grants.next; n != &p->grants; n = n->next) {
        struct grant *g = (struct grant *)n;
        if (!g->policy && span_eq(grant_device(g), device) && span_eq(grant_module(g), module))
            return g;
    }
    return NULL;
}

static bool grant_reaches(struct conn *c, const struct grant *g, const struct address *to)
{
    struct span first = address_first(grant_tail(g));
    return address_is_reached(to, grant_tail(g), first.n && events_entity_is_ours(peer_front(c), first));
}

struct grant *grant_of_policy(struct conn *c, uint32_t right, const struct address *to)
{
    const struct peer *p = peer_of(c);
    for (struct list *n = p->grants.next; n != &p->grants; n = n->next) {
        struct grant *g = (struct grant *)n;
        if (g->policy && (g->rights & right) == right && (!to || grant_reaches(c, g, to)))
            return g;
    }
    return NULL;
}

static struct grant *grant_find(struct peer *p, bool policy, struct span name, struct span tail)
{
    for (struct list *n = p->grants.next; n != &p->grants; n = n->next) {
        struct grant *g = (struct grant *)n;
        if (g->policy == policy && span_eq(grant_name(g), name) && (!policy || span_eq(grant_tail(g), tail)))
            return g;
    }
    return NULL;
}

void grant_free(struct grant *g)
{
    if (g->token)
        explicit_bzero(g->token, g->token_len);
    free(g->token);
    free(g);
}

/* A policy that may connect as any device is asked again for each of them. */
static bool token_keep(struct grant *g, struct span token)
{
    uint8_t *copy = malloc(token.n);
    if (!copy)
        return false;
    memcpy(copy, token.p, token.n);
    if (g->token)
        explicit_bzero(g->token, g->token_len);
    free(g->token);
    g->token = copy;
    g->token_len = (uint16_t)token.n;
    return true;
}

static uint8_t auth_of(const struct grant *g, const struct access_check *k)
{
    bool module = grant_module(g).n > 0;
    if (k->certificate)
        return module ? MESSAGE_AUTH_MODULE_X509 : MESSAGE_AUTH_DEVICE_X509;
    return k->granted ? MESSAGE_AUTH_HUB_SAS : module ? MESSAGE_AUTH_MODULE_SAS : MESSAGE_AUTH_DEVICE_SAS;
}

bool grant_may_connect(struct conn *c, const struct access_check *k)
{
    struct span policy = k->granted ? sas_policy(&k->parsed) : SPAN_NONE;
    return grant_find(peer_of(c), false, span_of(k->identity, k->identity_len), SPAN_NONE) ||
           throttle_take(peer_hub(c)->throttle, THROTTLE_CONNECTIONS, policy, 1,
                         worker_now_ms(conn_worker(c)), 0)
               .allowed;
}

bool grant_put(struct conn *c, bool policy, struct span name, struct span tail, const struct access_check *k)
{
    struct peer *p = peer_of(c);
    struct grant *g = grant_find(p, policy, name, tail);
    if (g && !span_eq(grant_tail(g), tail)) { /* the identity was deleted and made again */
        grant_drop(c, g, "amqp:unauthorized-access", "the identity was made anew");
        g = NULL;
    }
    if (!g) {
        if (p->grants_nr >= PEER_GRANTS_MAX || !(g = malloc(sizeof *g + name.n + tail.n)))
            return false;
        *g = (struct grant){ .policy = policy, .name_len = (uint16_t)name.n, .tail_len = (uint16_t)tail.n };
        memcpy(g->text, name.p, name.n);
        if (tail.n)
            memcpy(g->text + name.n, tail.p, tail.n);
        list_push(&p->grants, &g->node);
        p->grants_nr++;
    }
    g->expires_ms = k->expires_ms;
    g->proof = k->proof;
    g->rights = k->granted;
    g->auth = auth_of(g, k);
    if (policy && (k->granted & ACCESS_DEVICE_CONNECT))
        return token_keep(g, k->token);
    return true;
}

void grant_drop(struct conn *c, struct grant *g, const char *condition, const char *text)
{
    struct peer *p = peer_of(c);
    for (struct list *n = p->links.next, *next; n != &p->links; n = next) {
        next = n->next;
        if (((struct peer_link *)n)->grant == g)
            link_detach((struct peer_link *)n, condition, text);
    }
    assert(!g->links_nr);
    list_del(&g->node);
    p->grants_nr--;
    grant_free(g);
    if (!p->grants_nr) /* nobody is left that it could act for: time to put another token, then the end */
        p->close_at = worker_now_ms(conn_worker(c)) + PEER_STOP_MS;
}

uint64_t grants_deadline(struct conn *c)
{
    struct peer *p = peer_of(c);
    struct worker *w = conn_worker(c);
    uint64_t at = UINT64_MAX, wall = worker_wall_ms(w), now = worker_now_ms(w),
             grace = 1000ull * peer_hub(c)->settings.sas_grace_s;
    for (struct list *n = p->grants.next; n != &p->grants; n = n->next) {
        const struct grant *g = (struct grant *)n;
        if (g->expires_ms > UINT64_MAX / 2)
            continue;
        uint64_t end = g->expires_ms + grace, in = end > wall ? end - wall : 0;
        at = now + in < at ? now + in : at;
    }
    return at;
}

void grants_sweep(struct conn *c)
{
    struct peer *p = peer_of(c);
    uint64_t wall = worker_wall_ms(conn_worker(c)), grace = 1000ull * peer_hub(c)->settings.sas_grace_s;
    for (struct list *n = p->grants.next, *next; n != &p->grants; n = next) {
        struct grant *g = (struct grant *)n;
        next = n->next;
        if (g->expires_ms <= UINT64_MAX / 2 && g->expires_ms + grace <= wall)
            grant_drop(c, g, "amqp:unauthorized-access", "The token has expired.");
    }
}

/* ---- is the identity still good? -------------------------------------------------------------------------
 */

struct status_task { /* owned by itself */
    struct access_status status;
    struct amqp_worker *aw;
    struct bus_addr addr;
    uint16_t name_len;
    uint8_t text[]; /* identity, generation */
};

static void status_done(struct op *op)
{
    struct status_task *t = (struct status_task *)(void *)op;
    struct conn *c = conn_find(t->aw->w, t->addr);
    if (c && !conn_is_closing(c) && op->err == ERR_DENIED) {
        struct grant *g = grant_find(peer_of(c), false, t->status.identity, SPAN_NONE);
        if (g && span_eq(grant_tail(g), t->status.generation) && g->proof == t->status.proof) {
            grant_drop(c, g, "amqp:unauthorized-access",
                       "the identity was disabled, deleted or made anew, or has other credentials now");
            peer_arm(c);
            peer_flush(c);
        }
    }
    free(t);
}

void grant_check(struct conn *c, struct grant *g)
{
    size_t len = g->name_len + (size_t)g->tail_len;
    struct status_task *t = malloc(sizeof *t + len);
    if (!t)
        return;
    *t = (struct status_task){ .aw = peer_worker(c), .addr = conn_addr(c) };
    memcpy(t->text, g->text, len);
    t->status.hub = peer_hub(c);
    t->status.identity = span_of(t->text, g->name_len);
    t->status.generation = span_of(t->text + g->name_len, g->tail_len);
    t->status.proof = g->proof;
    t->status.store.op.home = worker_mailbox(conn_worker(c));
    t->status.store.op.done = status_done;
    access_status_start(&t->status);
}

/* ---- a token is looked at --------------------------------------------------------------------------------
 */

struct login {                 /* owned by itself */
    struct access_check check; /* first */
    struct amqp_worker *aw;
    struct bus_addr addr;
    struct peer_link *on; /* the $cbs link it came on, referenced; NULL: SASL */
    uint32_t delivery;
    bool settled;
    struct wr mem; /* token, names, the request's ids */
    struct amqp_value message_id;
    struct span reply_to, path;
    struct span name; /* whom it says it is: the device, or the policy */
    uint8_t room[];
};

static void login_free(struct login *l)
{
    if (l->on)
        link_unref(l->on);
    explicit_bzero(l->room, l->mem.len);
    free(l);
}

static struct span keep(struct login *l, struct span s)
{
    struct span copy = span_of(l->mem.p + l->mem.len, s.n);
    wr_put(&l->mem, s);
    return copy;
}

/* Takes the plain resource of a token apart: the path behind the host. */
static struct span resource_path(struct span sr)
{
    static const char *const schemes[] = { "amqps://", "https://", "http://", "sb://" };
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        struct span s = span_str(schemes[i]);
        if (sr.n >= s.n && span_ieq(span_of(sr.p, s.n), s))
            sr = span_skip(sr, s.n);
    }
    while (sr.n && sr.p[0] != '/')
        sr = span_skip(sr, 1);
    return sr;
}

/* Says which identity or policy the token speaks for. */
static void resource_read(struct login *l, struct span token)
{
    static const char devices[] = "/devices/", modules[] = "/modules/";
    struct sas_token t;
    if (sas_parse(token, &t))
        return; /* the check says so again */
    size_t at = l->mem.len;
    percent_decode(&l->mem, t.sr);
    struct span path = resource_path(span_of(l->mem.p + at, l->mem.len - at)), rest = path;
    l->path = path.n ? path : SPAN("/");
    l->check.policy_only = t.policy_len > 0;
    l->name = keep(l, sas_policy(&t));
    if (t.policy_len || path.n <= sizeof devices - 1 ||
        !span_ieq(span_of(path.p, sizeof devices - 1), span_str(devices)))
        return;
    rest = span_skip(path, sizeof devices - 1);
    const uint8_t *slash = memchr(rest.p, '/', rest.n);
    l->check.device = l->name = span_of(rest.p, slash ? (size_t)(slash - rest.p) : rest.n);
    rest = span_skip(rest, l->check.device.n);
    if (rest.n > sizeof modules - 1 && span_ieq(span_of(rest.p, sizeof modules - 1), span_str(modules))) {
        rest = span_skip(rest, sizeof modules - 1);
        slash = memchr(rest.p, '/', rest.n);
        l->check.module = span_of(rest.p, slash ? (size_t)(slash - rest.p) : rest.n);
    }
}

static struct login *login_new(struct conn *c, size_t room, op_fn *done)
{
    struct login *l = malloc(sizeof *l + room);
    if (!l)
        return NULL;
    memset(l, 0, sizeof *l);
    l->mem = (struct wr){ l->room, room, 0 };
    l->aw = peer_worker(c);
    l->addr = conn_addr(c);
    l->check.hub = peer_hub(c);
    l->check.key_text = true;
    l->check.store.op.home = worker_mailbox(conn_worker(c));
    l->check.store.op.done = done;
    return l;
}

static void login_load(struct login *l, struct span token)
{
    l->check.token = keep(l, token);
    resource_read(l, l->check.token);
    l->check.path = l->path;
    assert(wr_ok(&l->mem));
}

static void login_start(struct conn *c, struct login *l)
{
    peer_of(c)->busy = true;
    access_start(&l->check);
}

/* The check has found it good: 200, or why it is not taken all the same, as a status of $cbs. */
static int32_t login_take(struct conn *c, const struct login *l)
{
    const struct access_check *k = &l->check;
    struct span policy = sas_policy(&k->parsed);
    if (!k->policy_only && !grant_may_connect(c, k))
        return 429;
    bool good = k->policy_only ? grant_put(c, true, policy, l->path, k)
                               : grant_put(c, false, span_of(k->identity, k->identity_len),
                                           span_of(k->generation, k->generation_len), k);
    if (!good)
        return 403;
    METRIC_ADD(peer_hub(c), amqp_logins_total, 1);
    peer_of(c)->close_at = 0;
    peer_proven(c);
    peer_arm(c);
    return 200;
}

static const char *why_text(const struct access_check *k)
{
    switch (k->why) {
    case ACCESS_EXPIRED:
        return "The specified SAS token is expired.";
    case ACCESS_NO_TOKEN:
    case ACCESS_BAD_TOKEN:
        return "The specified token is not a shared access signature.";
    default: /* no word of what there is */
        return "The specified SAS token has an invalid signature. It does not match either the primary or "
               "secondary key.";
    }
}

static const char *status_text(int32_t code, const struct access_check *k)
{
    switch (code) {
    case 200:
        return "OK";
    case 401:
        return why_text(k);
    case 403:
        return "too many tokens on this connection";
    case 429:
        return "devices connect faster than this hub is set to take them: come again later";
    default:
        return "the hub could not look the identity up: try again";
    }
}

bool login_has_to_wait(struct conn *c, struct span name)
{
    char peer[64], source[RATE_SOURCE_MAX];
    struct refusals *r = peer_hub(c)->refusals;
    uint64_t now = worker_now_ms(conn_worker(c));
    return r && refusals_are_recent(r, now) &&
           refusals_wait_s(r, rate_source(span_str(conn_peer(c, peer)), source), name, now);
}

void login_note_refused(struct conn *c, struct span name, enum access_why why)
{
    char peer[64], source[RATE_SOURCE_MAX];
    const struct hub *h = peer_hub(c);
    conn_peer(c, peer);
    METRIC_ADD(h, amqp_refused_total, 1);
    if (h->refusals)
        refusals_note(h->refusals, "amqp", rate_source(span_str(peer), source), name, access_why_name(why),
                      worker_now_ms(conn_worker(c)));
    if (peer_log_allowed(peer_worker(c)))
        log_warn("amqp.refused", "name=%.*s peer=%s why=%s", (int)name.n, (const char *)name.p, peer,
                 access_why_name(why));
}

/* ---- SASL ------------------------------------------------------------------------------------------- */

static void sasl_answer(struct conn *c, uint8_t code)
{
    enum err e = amqp_sasl_outcome(&peer_of(c)->engine, code, peer_out(c));
    assert(e == ERR_OK);
    if (code)
        peer_end(c, CONN_CLOSE_AUTH);
}

static void sasl_checked(struct op *op)
{
    struct login *l = (struct login *)(void *)op;
    struct conn *c = conn_find(l->aw->w, l->addr);
    if (c && !conn_is_closing(c)) {
        peer_of(c)->busy = false;
        bool good = !op->err && login_take(c, l) == 200;
        if (op->err == ERR_DENIED)
            login_note_refused(c, l->name, l->check.why);
        sasl_answer(c, good ? 0 : op->err == ERR_DENIED ? 1 : 4); /* 4: later it may be good */
        peer_go_on(c);
        peer_flush(c);
    }
    login_free(l);
}

/* authzid NUL user NUL password [RFC 4616]; user: POLICY@sas.root.HUB or DEVICE[/modules/MODULE]@sas.HUB. */
static bool plain_split(struct span r, struct span *user, struct span *password)
{
    const uint8_t *a = r.n ? memchr(r.p, 0, r.n) : NULL;
    if (!a)
        return false;
    struct span rest = span_of(a + 1, (size_t)(r.p + r.n - a - 1));
    const uint8_t *b = rest.n ? memchr(rest.p, 0, rest.n) : NULL;
    if (!b)
        return false;
    *user = span_of(rest.p, (size_t)(b - rest.p));
    *password = span_skip(rest, user->n + 1);
    return true;
}

static bool hub_is_ours(const struct hub *h, struct span name)
{
    for (const char *const *n = h->names; *n; n++) {
        struct span full = span_str(*n);
        const uint8_t *dot = memchr(full.p, '.', full.n);
        if (span_ieq(name, full) || (dot && span_ieq(name, span_of(full.p, (size_t)(dot - full.p)))))
            return true;
    }
    return false;
}

/* Does the user name go with what the token says of itself? */
static bool user_fits(const struct hub *h, const struct login *l, struct span user)
{
    static const char root[] = "@sas.root.", plain[] = "@sas.", modules[] = "/modules/";
    size_t at = user.n;
    while (at && user.p[at - 1] != '@')
        at--;
    if (!at)
        return false;
    struct span name = span_of(user.p, at - 1), tail = span_skip(user, at - 1);
    struct sas_token t;
    if (sas_parse(l->check.token, &t))
        return false;
    if (tail.n > sizeof root && span_ieq(span_of(tail.p, sizeof root - 1), span_str(root)))
        return hub_is_ours(h, span_skip(tail, sizeof root - 1)) && span_eq(name, sas_policy(&t));
    if (tail.n <= sizeof plain || !span_ieq(span_of(tail.p, sizeof plain - 1), span_str(plain)) ||
        !hub_is_ours(h, span_skip(tail, sizeof plain - 1)) || t.policy_len)
        return false;
    struct wr w = { (uint8_t[2 * DEVICE_ID_MAX + 16]){ 0 }, 2 * DEVICE_ID_MAX + 16, 0 };
    wr_put(&w, l->check.device);
    if (l->check.module.n) {
        wr_str(&w, modules);
        wr_put(&w, l->check.module);
    }
    return span_eq(name, wr_span(&w));
}

void login_sasl(struct conn *c, const struct amqp_sasl_init *init)
{
    struct span user, password, certificate;
    struct login *l;
    if (span_eq(init->mechanism, SPAN("ANONYMOUS")) || span_eq(init->mechanism, SPAN("MSSBCBS"))) {
        sasl_answer(c, 0);
    } else if (span_eq(init->mechanism, SPAN("EXTERNAL"))) {
        sasl_answer(c, conn_peer_certificate(c, &certificate) ? 0 : 1);
    } else if (span_eq(init->mechanism, SPAN("PLAIN")) && plain_split(init->response, &user, &password) &&
               password.n <= TOKEN_MAX && user.n <= 512) {
        if (!(l = login_new(c, 2 * password.n + 2 * user.n, sasl_checked))) {
            sasl_answer(c, 4);
            return;
        }
        size_t at = l->mem.len;
        percent_decode(&l->mem, user);
        user = span_of(l->mem.p + at, l->mem.len - at);
        login_load(l, password);
        if (!l->name.n)
            l->name = user;
        if (login_has_to_wait(c, l->name)) {
            login_free(l);
            sasl_answer(c, 4); /* "try again later", unlike a refusal */
            return;
        }
        if (!user_fits(peer_hub(c), l, user)) {
            login_note_refused(c, l->name, ACCESS_UNKNOWN);
            login_free(l);
            sasl_answer(c, 1);
            return;
        }
        login_start(c, l);
    } else {
        METRIC_ADD(peer_hub(c), amqp_refused_total, 1);
        sasl_answer(c, 1);
    }
}

/* ---- $cbs ------------------------------------------------------------------------------------------- */

/* The newest link for answers: of the same session, else of the connection. */
struct peer_link *link_for_answers(struct peer_link *on, const struct peer_kind *kind)
{
    struct peer *p = peer_of(on->conn);
    struct peer_link *best = NULL;
    for (struct list *n = p->links.next; n != &p->links; n = n->next) {
        struct peer_link *l = (struct peer_link *)n;
        bool near = l->link->session == on->link->session;
        if (l->kind == kind && (near || !best || best->link->session != on->link->session))
            best = l;
    }
    return best;
}

static void answer(struct peer_link *on, const struct amqp_value *message_id, struct span reply_to,
                   int32_t code, const char *text)
{
    struct peer_link *to = link_for_answers(on, &cbs_out_kind);
    uint8_t tag[16], mem[4096];
    struct wr w = { mem, sizeof mem, 0 };
    if (!to)
        return;
    struct amqp_properties p = { .correlation_id = *message_id };
    if (reply_to.n)
        p.to = reply_to;
    amqp_properties_encode(&w, &p);
    amqp_section_begin(&w, AMQP_APPLICATION_PROPERTIES);
    size_t at = amqp_map_begin(&w);
    amqp_put_string(&w, SPAN("status-code"));
    amqp_put_int(&w, code);
    amqp_put_string(&w, SPAN("status-description"));
    amqp_put_string(&w, span_str(text));
    amqp_map_end(&w, at, 4);
    amqp_section_begin(&w, AMQP_VALUE);
    amqp_put_null(&w);
    peer_hub(on->conn)->crypto->random(tag, sizeof tag);
    if (!wr_ok(&w) || !link_post(to, wr_span(&w), true, 0, tag))
        peer_refuse(on->conn, CONN_CLOSE_LIMIT, "answers-wait");
}

static void cbs_checked(struct op *op)
{
    struct login *l = (struct login *)(void *)op;
    struct conn *c = conn_find(l->aw->w, l->addr);
    if (c && !conn_is_closing(c)) {
        peer_of(c)->busy = false;
        if (l->on->link) { /* the disposition first: some take an answer before it for a failure */
            int32_t code = op->err == ERR_DENIED ? 401 : op->err ? 500 : login_take(c, l);
            if (op->err == ERR_DENIED)
                login_note_refused(c, l->name, l->check.why);
            if (!l->settled)
                link_settle(l->on, l->delivery, NULL, NULL);
            answer(l->on, &l->message_id, l->reply_to, code, status_text(code, &l->check));
            link_credit(l->on);
        }
        peer_go_on(c);
        peer_flush(c);
    }
    login_free(l);
}

static void cbs_say(struct peer_link *l, const struct amqp_event *ev, const struct amqp_message *m,
                    int32_t code, const char *text)
{
    if (!ev->delivery.settled)
        link_settle(l, ev->delivery.id, NULL, NULL);
    if (m)
        answer(l, &m->properties.message_id, m->properties.reply_to, code, text);
    link_credit(l);
}

static void cbs_message(struct peer_link *l, const struct amqp_event *ev)
{
    struct amqp_message m;
    struct amqp_value operation;
    struct conn *c = l->conn;
    if (amqp_message_decode(ev->delivery.payload, &m)) {
        if (!ev->delivery.settled)
            link_settle(l, ev->delivery.id, "amqp:decode-error", "the request cannot be read");
        link_credit(l);
        return;
    }
    if (!amqp_map_get(&m.application_properties, SPAN("operation"), &operation) ||
        !amqp_is_text(&operation)) {
        cbs_say(l, ev, &m, 400, "the request names no operation");
        return;
    }
    if (span_ieq(operation.bytes, SPAN("delete-token"))) {
        cbs_say(l, ev, &m, 200, "OK"); /* what it granted ends with its own time */
        return;
    }
    bool has_text = (m.body == AMQP_VALUE && amqp_is_text(&m.value)) || m.body == AMQP_DATA;
    if (!span_ieq(operation.bytes, SPAN("put-token")) || !has_text) {
        cbs_say(l, ev, &m, 400, "the operation is put-token, with the token as its body");
        return;
    }
    struct span token = m.value.bytes;
    if (!span_starts(token, SPAN("SharedAccessSignature"))) {
        login_note_refused(c, SPAN_NONE, ACCESS_BAD_TOKEN);
        cbs_say(l, ev, &m, 401, "this hub takes shared access signatures, no other tokens");
        return;
    }
    size_t ids = m.properties.message_id.bytes.n + m.properties.reply_to.n;
    struct login *k =
        token.n <= TOKEN_MAX && ids <= 1024 ? login_new(c, 2 * token.n + ids, cbs_checked) : NULL;
    if (!k) {
        cbs_say(l, ev, &m, 400, "the token is too long");
        return;
    }
    k->on = l;
    link_ref(l);
    k->delivery = ev->delivery.id;
    k->settled = ev->delivery.settled;
    k->message_id = m.properties.message_id;
    k->message_id.bytes = keep(k, m.properties.message_id.bytes);
    k->reply_to = keep(k, m.properties.reply_to);
    login_load(k, token);
    if (login_has_to_wait(c, k->name)) {
        cbs_say(l, ev, &m, 503, "too many logins from this address have failed: wait");
        login_free(k);
        return;
    }
    login_start(c, k);
}

const struct peer_kind cbs_in_kind = { .name = "cbs",
                                       .credit = PEER_CREDIT_REQUEST,
                                       .on_message = cbs_message };
const struct peer_kind cbs_out_kind = { .name = "cbs-answers" };
