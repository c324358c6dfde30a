/* hub/domain/event/event.c - the forms of events, and the outbox they go to. See event.h. */
#include "hub/domain/event/event.h"

#include "base/text.h"
#include "core/json/json.h"
#include "hub/store/identity_name.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define EVENT_ARENA_MAX (4u * 1024u * 1024u)

bool event_wanted(const struct hub *h, enum message_source s)
{
    return h->events && (atomic_load_explicit(&h->events->wanted, memory_order_relaxed) & 1u << s);
}

static bool is_filled(const struct hub *h, uint32_t sources, unsigned parts)
{
    struct store_stats s;
    if (!h->events || !(atomic_load_explicit(&h->events->wanted, memory_order_relaxed) & sources))
        return false;
    store_get_stats(h->store, &s);
    return s.outbox_limit && s.outbox_bytes >= s.outbox_limit / parts;
}

bool event_should_wait(const struct hub *h, uint32_t sources)
{
    return is_filled(h, sources, 2);
}

bool event_has_no_room(const struct hub *h)
{
    return is_filled(h, UINT32_MAX, 1);
}

uint64_t event_refused_nr(const struct hub *h)
{
    struct store_stats s;
    store_get_stats(h->store, &s);
    return s.outbox_refused;
}

struct span event_hub_name(const struct hub *h)
{
    struct span name = span_str(h->names[0]);
    const uint8_t *dot = name.n ? memchr(name.p, '.', name.n) : NULL;
    if (!dot || isdigit(name.p[0]) || memchr(name.p, ':', name.n))
        return name;
    return span_of(name.p, (size_t)(dot - name.p));
}

/* ---- the outbox ------------------------------------------------------------------------------------- */

struct event {
    enum message_source source;
    struct span device, module;
    const char *schema, *op;
    struct span body;
    const char *content_type;
    uint64_t at_ms;
};

struct ringing {           /* owned by itself, until the commit */
    struct tx_after after; /* first */
    struct event_out *out;
};

static void ring(struct tx_after *self, bool committed)
{
    struct ringing *r = (struct ringing *)(void *)self;
    if (committed && r->out->wake)
        r->out->wake(r->out->ctx);
    free(r);
}

static void prop(struct wr *w, const char *name, struct span value)
{
    message_put_prop(w, &(struct message_prop){ span_str(name), value, false });
}

static void record(struct wr *w, const struct hub *h, const struct event *ev, const char *correlation)
{
    uint8_t time[32];
    struct wr t = { time, sizeof time, 0 };
    iso8601_encode(&t, ev->at_ms);
    message_put_head(w, &(struct message_head){ .auth = MESSAGE_AUTH_HUB_SAS,
                                                .source = (uint8_t)ev->source,
                                                .device = ev->device,
                                                .module = ev->module });
    message_put_system(w, BAG_CORRELATION_ID, span_str(correlation));
    message_put_system(w, BAG_USER_ID, event_hub_name(h));
    message_put_system(w, BAG_CONTENT_TYPE, span_str(ev->content_type));
    message_put_system(w, BAG_CONTENT_ENCODING, SPAN("utf-8"));
    prop(w, "hubName", event_hub_name(h));
    prop(w, "deviceId", ev->device);
    if (ev->module.n)
        prop(w, "moduleId", ev->module);
    prop(w, "operationTimestamp", wr_span(&t));
    prop(w, "iothub-message-schema", span_str(ev->schema));
    prop(w, "opType", span_str(ev->op));
    message_put_body(w, ev->body);
}

static enum err push(struct hub *h, struct store_tx *tx, const struct event *ev)
{
    uint8_t random[16];
    char correlation[37];
    struct wr w = { 0 };
    struct ringing *r = malloc(sizeof *r);
    h->crypto->random(random, sizeof random);
    uuid_encode(random, correlation);
    record(&w, h, ev, correlation);
    w = (struct wr){ malloc(w.len), w.len, 0 };
    enum err e = w.p && r ? ERR_OK : ERR_NOMEM;
    if (!e) {
        record(&w, h, ev, correlation);
        e = tx_outbox_push(tx, wr_span(&w));
    }
    free(w.p);
    if (e) {
        free(r);
        return e;
    }
    *r = (struct ringing){ .after.fn = ring, .out = h->events };
    tx_after(tx, &r->after);
    return ERR_OK;
}

/* ---- bodies ----------------------------------------------------------------------------------------- */

/* A text that is written twice: once to know its length. */
typedef void writer(struct wr *w, const void *of);
static enum err text(struct arena *a, writer *write, const void *of, struct span *out)
{
    struct wr w = { 0 };
    write(&w, of);
    w = (struct wr){ arena_alloc(a, w.len), w.len, 0 };
    if (!w.p)
        return ERR_NOMEM;
    write(&w, of);
    *out = wr_span(&w);
    return ERR_OK;
}

static void member(struct wr *w, const char *name, struct span value)
{
    json_put_string(w, span_str(name));
    wr_u8(w, ':');
    json_put_string(w, value);
    wr_u8(w, ',');
}

/* The whole twin. */
static void write_whole(struct wr *w, const void *of)
{
    const struct twin *t = of;
    wr_u8(w, '{');
    member(w, "deviceId", t->row.device);
    if (t->row.module.n)
        member(w, "moduleId", t->row.module);
    wr_str(w, "\"etag\":\"");
    twin_etag_write(w, t->row.etag);
    wr_str(w, "\",\"version\":");
    u64_encode(w, t->row.version);
    if (t->tags->first) {
        wr_str(w, ",\"tags\":");
        jtree_write(w, t->tags);
    }
    wr_str(w, ",\"properties\":{\"desired\":");
    twin_section_write(w, TWIN_DESIRED, t->desired, t->row.desired_version, true);
    wr_str(w, ",\"reported\":");
    twin_section_write(w, TWIN_REPORTED, t->reported, t->row.reported_version, true);
    wr_str(w, "}}");
}

struct change_text {
    const struct twin_change *c;
    const struct jnode *desired, *reported; /* what was written, with stamps; NULL: untouched */
};

/* What changed. */
static void write_change(struct wr *w, const void *of)
{
    const struct change_text *t = of;
    const struct twin_row *r = &t->c->after->row;
    wr_str(w, "{\"version\":");
    u64_encode(w, r->version);
    if (t->c->patch->tags.patch) {
        wr_str(w, ",\"tags\":");
        jtree_write(w, t->c->patch->tags.patch);
    }
    if (t->desired || t->reported) {
        wr_str(w, ",\"properties\":{");
        if (t->desired) {
            wr_str(w, "\"desired\":");
            twin_section_write(w, TWIN_DESIRED, t->desired, r->desired_version, true);
        }
        if (t->reported) {
            wr_str(w, t->desired ? ",\"reported\":" : "\"reported\":");
            twin_section_write(w, TWIN_REPORTED, t->reported, r->reported_version, true);
        }
        wr_u8(w, '}');
    }
    wr_u8(w, '}');
}

/* A copy whose every node says when it was written: now. */
static struct jnode *stamped(struct arena *a, const struct jnode *n, const void *stamp)
{
    struct jnode *out = jtree_copy(a, n);
    if (!out)
        return NULL;
    out->mark = stamp;
    if (n->kind == JOBJECT) {
        out->first = NULL;
        out->nr = 0;
        out->sorted = NULL;
        struct jtree_list l = jtree_list(out);
        for (const struct jnode *c = n->first; c; c = c->next) {
            struct jnode *kid = stamped(a, c, stamp);
            if (!kid)
                return NULL;
            kid->next = NULL;
            jtree_add(&l, kid);
        }
    }
    return out;
}

/* ---- digital twins ---------------------------------------------------------------------------------- */

static bool is_component(const struct jnode *n)
{
    const struct jnode *t = n && n->kind == JOBJECT ? jtree_get(n, SPAN("__t")) : NULL;
    return t && t->kind == JSTRING && span_eq(t->text, SPAN("c"));
}

static void pointer(struct wr *w, struct span name) /* RFC 6901, inside a JSON string */
{
    uint8_t buf[3 * TWIN_KEY_MAX];
    struct wr p = { buf, sizeof buf, 0 }, q = { 0 };
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '~' || name.p[i] == '/')
            wr_str(&p, name.p[i] == '~' ? "~0" : "~1");
        else
            wr_u8(&p, name.p[i]);
    }
    json_put_string(&q, wr_span(&p));
    if (w->len <= w->cap && q.len - 2 <= w->cap - w->len) { /* without the quotes */
        uint8_t quoted[6 * sizeof buf];
        q = (struct wr){ quoted, sizeof quoted, 0 };
        json_put_string(&q, wr_span(&p));
        wr_put(w, span_of(quoted + 1, q.len - 2));
    } else {
        w->len += q.len - 2;
    }
}

struct digital_text {
    const struct twin_change *c;
};

static void digital_op(struct wr *w, bool *any, struct span component, const struct jnode *now,
                       const struct jnode *before, bool desired)
{
    wr_str(w, *any ? ",{\"op\":\"" : "{\"op\":\"");
    *any = true;
    wr_str(w, now->kind == JNULL ? "remove" : before ? "replace" : "add");
    wr_str(w, "\",\"path\":\"");
    if (component.n) {
        wr_u8(w, '/');
        pointer(w, component);
    }
    wr_str(w, desired ? "/$metadata/" : "/");
    pointer(w, now->key);
    wr_str(w, desired ? "/desiredValue\"" : "\"");
    if (now->kind != JNULL) {
        const struct jnode *v = desired ? NULL : jtree_get(now, SPAN("value"));
        wr_str(w, ",\"value\":"); /* of an acknowledgement: what it acknowledges */
        jtree_write(w, v && jtree_get(now, SPAN("ac")) ? v : now);
    }
    wr_u8(w, '}');
}

static void digital_section(struct wr *w, bool *any, const struct jnode *patch, const struct jnode *before,
                            bool desired)
{
    for (const struct jnode *n = patch ? patch->first : NULL; n; n = n->next) {
        const struct jnode *was = jtree_get(before, n->key);
        if (!is_component(n) && !(n->kind == JOBJECT && is_component(was))) {
            digital_op(w, any, SPAN_NONE, n, was, desired);
            continue;
        }
        for (const struct jnode *c = n->first; c; c = c->next)
            if (!span_eq(c->key, SPAN("__t")))
                digital_op(w, any, n->key, c, jtree_get(was, c->key), desired);
    }
}

static void write_digital(struct wr *w, const void *of)
{
    const struct digital_text *t = of;
    bool any = false;
    wr_u8(w, '[');
    digital_section(w, &any, t->c->desired_patch, t->c->before->desired, true);
    digital_section(w, &any, t->c->patch->reported.patch, t->c->before->reported, false);
    wr_u8(w, ']');
}

/* ---- the events ------------------------------------------------------------------------------------- */

static enum err twin_event(struct hub *h, struct store_tx *tx, struct arena *a, const struct twin_change *c)
{
    const struct twin_row *r = &c->after->row;
    bool replaced = c->patch->tags.replace || c->patch->desired.replace;
    struct event ev = { .source = MESSAGE_SOURCE_TWIN_CHANGE,
                        .device = r->device,
                        .module = r->module,
                        .schema = "twinChangeNotification",
                        .op = replaced ? "replaceTwin" : "updateTwin",
                        .content_type = "application/json",
                        .at_ms = h->wall_ms() };
    struct change_text t = { .c = c };
    if (!replaced && c->desired_patch)
        t.desired = stamped(a, c->desired_patch, c->after->desired->mark);
    if (!replaced && c->patch->reported.patch)
        t.reported = stamped(a, c->patch->reported.patch, c->after->reported->mark);
    enum err e = arena_err(a);
    if (!e)
        e = replaced ? text(a, write_whole, c->after, &ev.body) : text(a, write_change, &t, &ev.body);
    return e ? e : push(h, tx, &ev);
}

static enum err digital_event(struct hub *h, struct store_tx *tx, struct arena *a,
                              const struct twin_change *c)
{
    const struct twin_row *r = &c->after->row;
    struct digital_text t = { c };
    struct event ev = { .source = MESSAGE_SOURCE_DIGITAL_TWIN,
                        .device = r->device,
                        .module = r->module,
                        .schema = "digitalTwinChangeNotification",
                        .op = "updateTwin",
                        .content_type = "application/json-patch+json",
                        .at_ms = h->wall_ms() };
    enum err e = text(a, write_digital, &t, &ev.body);
    if (e || ev.body.n <= 2) /* tags are no part of a digital twin */
        return e;
    return push(h, tx, &ev);
}

enum err event_twin_changed(struct hub *h, struct store_tx *tx, struct arena *a, const struct twin_change *c)
{
    enum err e = ERR_OK;
    bool any = c->patch->tags.patch || c->patch->desired.patch || c->patch->reported.patch;
    if (any && event_wanted(h, MESSAGE_SOURCE_TWIN_CHANGE))
        e = twin_event(h, tx, a, c);
    if (!e && any && c->after->row.model_id.n && event_wanted(h, MESSAGE_SOURCE_DIGITAL_TWIN))
        e = digital_event(h, tx, a, c);
    return e;
}

enum err event_lifecycle(struct hub *h, struct store_tx *tx, struct span device, struct span module,
                         bool created)
{
    uint8_t id[IDENTITY_NAME_MAX];
    struct wr w = { id, sizeof id, 0 };
    struct event ev = { .source = MESSAGE_SOURCE_LIFECYCLE,
                        .device = device,
                        .module = module,
                        .schema = "deviceLifecycleNotification",
                        .op = created ? "createDeviceIdentity" : "deleteDeviceIdentity",
                        .content_type = "application/json",
                        .at_ms = h->wall_ms() };
    struct arena a;
    struct twin t;
    if (!event_wanted(h, MESSAGE_SOURCE_LIFECYCLE))
        return ERR_OK;
    identity_name_put(&w, device, module);
    arena_init(&a, EVENT_ARENA_MAX);
    enum err e = twin_get(tx, &a, wr_span(&w), &t);
    if (!e)
        e = text(&a, write_whole, &t, &ev.body);
    if (!e)
        e = push(h, tx, &ev);
    arena_fini(&a);
    return e;
}

enum err event_connection(struct hub *h, struct store_tx *tx, struct span identity, bool connected,
                          uint64_t at_ms)
{
    char body[96];
    uint64_t seq;
    const uint8_t *mark = identity.n ? memchr(identity.p, '/', identity.n) : NULL;
    struct event ev = { .source = MESSAGE_SOURCE_CONNECTION,
                        .device = mark ? span_of(identity.p, (size_t)(mark - identity.p)) : identity,
                        .schema = "deviceConnectionStateNotification",
                        .op = connected ? "deviceConnected" : "deviceDisconnected",
                        .content_type = "application/json",
                        .at_ms = at_ms };
    if (!event_wanted(h, MESSAGE_SOURCE_CONNECTION))
        return ERR_OK;
    if (mark)
        ev.module = span_skip(identity, ev.device.n + 1);
    enum err e = tx_event_seq(tx, &seq);
    if (e)
        return e;
    snprintf(body, sizeof body, "{\"sequenceNumber\":\"%064llX\"}", (unsigned long long)seq);
    ev.body = span_str(body);
    return push(h, tx, &ev);
}

static void time_member(struct wr *w, const char *name, uint64_t ms)
{
    uint8_t t[32];
    struct wr to = { t, sizeof t, 0 };
    if (!ms)
        return;
    iso8601_encode(&to, ms);
    member(w, name, wr_span(&to));
}

static void write_job(struct wr *w, const void *of)
{
    const struct event_job *j = of;
    wr_u8(w, '{');
    member(w, "jobId", j->job_id);
    member(w, "deviceId", j->device);
    if (j->module.n)
        member(w, "moduleId", j->module);
    member(w, "jobType", span_str(j->type));
    time_member(w, "startTimeUtc", j->started_ms);
    time_member(w, "endTimeUtc", j->ended_ms);
    if (j->error.n)
        member(w, "error", j->error);
    wr_str(w, "\"status\":");
    json_put_string(w, span_str(j->status));
    wr_u8(w, '}');
}

enum err event_job(struct hub *h, struct store_tx *tx, const struct event_job *j)
{
    struct arena a;
    struct event ev = { .source = MESSAGE_SOURCE_JOB,
                        .device = j->device,
                        .module = j->module,
                        .schema = "deviceJobLifecycleNotification",
                        .op = j->status,
                        .content_type = "application/json",
                        .at_ms = h->wall_ms() };
    if (!event_wanted(h, MESSAGE_SOURCE_JOB))
        return ERR_OK;
    arena_init(&a, EVENT_ARENA_MAX);
    enum err e = text(&a, write_job, j, &ev.body);
    if (!e)
        e = push(h, tx, &ev);
    arena_fini(&a);
    return e;
}
