/* hub/front/roost_http/routing.c - routes, endpoints, enrichments and the fallback: listed, shown, saved,
 * deleted. A change is answered when it is in force. Secrets are written, never shown. */
#include "hub/front/routing/routing.h"

#include "hub/domain/audit.h"
#include "hub/domain/event/route.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

static const char *const kind_names[] = { "", "route", "endpoint", "enrichment", "fallback" };

/* ---- shown -------------------------------------------------------------------------------------------- */

static void put_stats(struct job *j, json_t *o, struct span name)
{
    struct routing_stats s;
    struct routing *r = roost_of(j)->routing;
    for (size_t i = 0; r && routing_stats(r, i, &s); i++) {
        if (!span_ieq(span_str(s.name), name) || !s.delivers)
            continue;
        json_put_u64(o, "delivered", s.delivered);
        json_put_u64(o, "failed", s.failed);
        json_put_u64(o, "deadLettered", s.dead);
        json_put_u64(o, "lost", s.lost);
        json_put_u64(o, "behind", s.behind);
        if (s.why[0])
            json_put_str(o, "lastError", s.why);
    }
}

static void hide(json_t *o, const char *member, const char *instead)
{
    if (json_object_get(o, member)) {
        json_object_del(o, member);
        json_put(o, instead, json_true());
    }
}

static json_t *row_json(struct job *j, const struct routing_row *r)
{
    json_t *o = json_loadb((const char *)r->spec.p, r->spec.n, 0, NULL);
    if (!json_is_object(o)) {
        json_decref(o);
        return NULL;
    }
    json_put(o, "name", json_span(r->name));
    json_put(o, "updated", json_time(r->updated_ms));
    if (r->kind == ROUTING_ENDPOINT) {
        hide(o, "secret", "secretSet");
        hide(o, "password", "passwordSet");
        put_stats(j, o, r->name);
    }
    return o;
}

struct listing {
    struct job *j;
    uint8_t kind;
    json_t *arr;
    bool fallback;
};
static enum err list_one(void *ctx, const struct routing_row *r)
{
    struct listing *l = ctx;
    if (r->kind == ROUTING_FALLBACK) {
        json_t *o = json_loadb((const char *)r->spec.p, r->spec.n, 0, NULL);
        l->fallback = !json_is_false(json_object_get(o, "enabled"));
        json_decref(o);
    }
    if (r->kind != l->kind)
        return ERR_OK;
    return json_array_append_new(l->arr, row_json(l->j, r)) ? ERR_NOMEM : ERR_OK;
}

static enum err list(struct job *j, struct store_tx *tx)
{
    struct listing l = { .j = j, .kind = *(uint8_t *)j->state, .fallback = true };
    char name[16];
    snprintf(name, sizeof name, "%ss", kind_names[l.kind]);
    l.arr = job_out_list(j, name);
    if (!l.arr)
        return ERR_NOMEM;
    enum err e = tx_routing_list(tx, list_one, &l);
    if (l.kind == ROUTING_ROUTE)
        json_put(j->out, "fallback", json_boolean(l.fallback));
    if (l.kind == ROUTING_ENDPOINT && roost_of(j)->routing)
        json_put_u64(j->out, "undecided", routing_behind(roost_of(j)->routing));
    return e;
}

static void start_list_of(struct job *j, uint8_t kind)
{
    uint8_t *state = job_state(j, sizeof *state);
    if (!state)
        return;
    *state = kind;
    job_read(j, list, NULL);
}
static void start_routes(struct job *j)
{
    start_list_of(j, ROUTING_ROUTE);
}
static void start_endpoints(struct job *j)
{
    start_list_of(j, ROUTING_ENDPOINT);
}
static void start_enrichments(struct job *j)
{
    start_list_of(j, ROUTING_ENRICHMENT);
}

/* ---- one of them -------------------------------------------------------------------------------------- */

struct one {
    uint8_t kind;
    struct span name;
    struct jnode *body;
    bool drop;
};

static struct one *one_new(struct job *j, uint8_t kind)
{
    struct one *o = job_state(j, sizeof *o);
    if (!o)
        return NULL;
    o->kind = kind;
    o->name = j->r->params[0];
    if (kind == ROUTING_ROUTE && span_eq(o->name, SPAN(ROUTE_FALLBACK_NAME)))
        o->kind = ROUTING_FALLBACK;
    return o;
}

static enum err not_found(struct job *j, const struct one *o)
{
    return JOB_REFUSE(j, 404, "not-found", "there is no %s of that name", kind_names[o->kind]);
}

static enum err get(struct job *j, struct store_tx *tx)
{
    struct one *o = j->state;
    struct routing_row row;
    enum err e = tx_routing_get(tx, o->kind, o->name, &row);
    if (e == ERR_NOTFOUND && o->kind == ROUTING_FALLBACK) {
        row = (struct routing_row){ .kind = o->kind, .name = o->name, .spec = SPAN("{\"enabled\":true}") };
        e = ERR_OK;
    }
    if (e)
        return e == ERR_NOTFOUND ? not_found(j, o) : e;
    json_decref(j->out);
    j->out = row_json(j, &row);
    return j->out ? ERR_OK : ERR_NOMEM;
}

static void start_get_of(struct job *j, uint8_t kind)
{
    if (one_new(j, kind))
        job_read(j, get, NULL);
}

/* What is written has to fit to what is there. */
struct around {
    const struct one *o;
    struct span endpoints[ROUTE_TARGETS_MAX]; /* that it names; what is found is taken off */
    size_t endpoints_nr;
    uint64_t of_kind; /* others */
    bool used;        /* the endpoint of that name, by a route or an enrichment */
    struct arena *a;
};

static enum err look_around(void *ctx, const struct routing_row *r)
{
    struct around *w = ctx;
    bool itself = r->kind == w->o->kind && span_ieq(r->name, w->o->name);
    w->of_kind += r->kind == w->o->kind && !itself;
    if (r->kind == ROUTING_ENDPOINT)
        for (size_t i = 0; i < w->endpoints_nr; i++)
            if (span_ieq(w->endpoints[i], r->name))
                w->endpoints[i--] = w->endpoints[--w->endpoints_nr];
    if (w->o->drop && w->o->kind == ROUTING_ENDPOINT && r->kind != ROUTING_ENDPOINT) {
        struct jnode *o;
        enum err e = jtree_parse(w->a, r->spec, &o, NULL);
        const struct jnode *list_ = e ? NULL : jtree_get(o, SPAN("endpoints"));
        for (const struct jnode *n = list_ ? list_->first : NULL; n; n = n->next)
            w->used |= n->kind == JSTRING && span_ieq(n->text, w->o->name);
        return e == ERR_NOMEM ? e : ERR_OK;
    }
    return ERR_OK;
}

static enum err refuse(struct job *j, const struct route_fault *f)
{
    return JOB_REFUSE(j, 400, "bad-definition", "%s", f->text);
}

/* A secret that is not sent again stays; the kind of an endpoint does, always. */
static enum err keep_secrets(struct job *j, struct jnode *body, const struct routing_row *was)
{
    struct jnode *old;
    struct jtree_list l;
    struct span text = arena_copy(&j->a, was->spec);
    enum err e = jtree_parse(&j->a, text, &old, NULL);
    if (e)
        return e == ERR_NOMEM ? e : ERR_OK;
    const struct jnode *k = jtree_get(body, SPAN("kind")), *before = jtree_get(old, SPAN("kind"));
    if (k && before && !jtree_eq(k, before))
        return JOB_REFUSE(j, 409, "endpoint-kind",
                          "the endpoint is of another kind: delete it, or take another name");
    l = jtree_list(body);
    while (*l.end) /* behind what is there */
        l.end = &(*l.end)->next;
    for (const struct jnode *n = old->first; n; n = n->next)
        if (endpoint_is_secret(n->key) && !jtree_get(body, n->key)) {
            struct jnode *copy = jtree_copy(&j->a, n);
            if (!copy)
                return ERR_NOMEM;
            copy->next = NULL;
            copy->key = n->key;
            jtree_add(&l, copy);
        }
    return arena_err(&j->a);
}

static enum err check(struct job *j, const struct one *o, const struct jnode *body, struct around *w)
{
    struct route_fault f;
    struct route_spec route;
    struct endpoint_spec endpoint;
    struct enrichment_spec enrichment;
    bool enabled;
    enum err e;
    switch (o->kind) {
    case ROUTING_ROUTE:
        e = route_parse(&j->a, o->name, body, &route, &f);
        for (size_t i = 0; !e && i < route.endpoints_nr; i++)
            if (!span_ieq(route.endpoints[i], SPAN(ROUTE_EVENTS)))
                w->endpoints[w->endpoints_nr++] = route.endpoints[i];
        break;
    case ROUTING_ENRICHMENT:
        e = enrichment_parse(&j->a, o->name, body, &enrichment, &f);
        for (size_t i = 0; !e && i < enrichment.endpoints_nr; i++)
            if (!span_ieq(enrichment.endpoints[i], SPAN(ROUTE_EVENTS)))
                w->endpoints[w->endpoints_nr++] = enrichment.endpoints[i];
        break;
    case ROUTING_ENDPOINT:
        e = endpoint_parse(&j->a, o->name, body, &endpoint, &f);
        break;
    default:
        e = fallback_parse(body, &enabled, &f);
    }
    return e == ERR_PROTO ? refuse(j, &f) : e;
}

static enum err put(struct job *j, struct store_tx *tx)
{
    struct one *o = j->state;
    const struct hub_settings *s = &j->h->settings;
    const uint32_t max = o->kind == ROUTING_ROUTE      ? s->routes_max
                         : o->kind == ROUTING_ENDPOINT ? s->endpoints_max
                                                       : s->enrichments_max;
    struct around w = { .o = o, .a = &j->a };
    struct routing_row was;
    struct jnode *body = jtree_copy(&j->a, o->body); /* a run may come twice */
    enum err e = body ? tx_routing_get(tx, o->kind, o->name, &was) : ERR_NOMEM;
    bool there = !e;
    if (e == ERR_NOTFOUND)
        e = ERR_OK;
    if (!e && there && o->kind == ROUTING_ENDPOINT)
        e = keep_secrets(j, body, &was);
    struct span text = e ? SPAN_NONE : jtree_text(&j->a, body);
    struct jnode *whole = NULL;
    if (!e)
        e = jtree_parse(&j->a, text, &whole, NULL);
    if (!e)
        e = check(j, o, whole, &w);
    if (!e)
        e = tx_routing_list(tx, look_around, &w);
    if (!e && w.endpoints_nr)
        return JOB_REFUSE(j, 400, "unknown-endpoint", "there is no endpoint \"%.*s\": make it first",
                          (int)w.endpoints[0].n, (const char *)w.endpoints[0].p);
    if (!e && !there && o->kind != ROUTING_FALLBACK && w.of_kind >= max)
        return JOB_REFUSE(j, 409, "too-many", "there are %u %ss already: routing.%ss raises the limit", max,
                          kind_names[o->kind], kind_names[o->kind]);
    struct routing_row row = {
        .kind = o->kind, .name = o->name, .spec = text, .updated_ms = j->h->wall_ms()
    };
    if (!e)
        e = tx_routing_put(tx, &row);
    if (!e)
        e = audit_push(j->h, tx, j->who,
                       o->kind == ROUTING_ROUTE        ? "route.save"
                       : o->kind == ROUTING_ENDPOINT   ? "endpoint.save"
                       : o->kind == ROUTING_ENRICHMENT ? "enrichment.save"
                                                       : "fallback.save",
                       o->name, "%s", "");
    if (!e)
        e = get(j, tx);
    if (!e)
        j->status = there || o->kind == ROUTING_FALLBACK ? 200 : 201;
    return e;
}

static enum err drop(struct job *j, struct store_tx *tx)
{
    struct one *o = j->state;
    struct around w = { .o = o, .a = &j->a };
    enum err e = tx_routing_list(tx, look_around, &w);
    if (!e && w.used)
        return JOB_REFUSE(j, 409, "endpoint-in-use",
                          "a route or an enrichment names the endpoint: change that first");
    if (!e)
        e = tx_routing_delete(tx, o->kind, o->name);
    if (e)
        return e == ERR_NOTFOUND ? not_found(j, o) : e;
    j->status = 204;
    return audit_push(j->h, tx, j->who,
                      o->kind == ROUTING_ROUTE        ? "route.delete"
                      : o->kind == ROUTING_ENDPOINT   ? "endpoint.delete"
                      : o->kind == ROUTING_ENRICHMENT ? "enrichment.delete"
                                                      : "fallback.delete",
                      o->name, "%s", "");
}

static enum err reload(struct job *j)
{
    return roost_of(j)->routing ? routing_reload(roost_of(j)->routing) : ERR_OK;
}
static void in_force(struct job *j)
{
    job_pool(j, reload, NULL);
}

static void start_put_of(struct job *j, uint8_t kind)
{
    struct one *o = one_new(j, kind);
    struct jtree_fault why;
    if (!o)
        return;
    if (!span_eq(o->name, SPAN(ROUTE_FALLBACK_NAME)) && !route_name_ok(o->name))
        (void)job_fail(j, 400, "bad-name", "a name has 1 to %u letters, digits, '-', '_' and '.'",
                       ROUTE_NAME_MAX);
    enum err e = j->code ? ERR_OK : jtree_parse_once(&j->a, j->r->body, &o->body, &why);
    if (e == ERR_PROTO || e == ERR_LIMIT)
        (void)job_fail(j, 400, "bad-json", "the body is not JSON, at byte %zu: %s", why.at, why.what);
    (void)job_fail_err(j, e);
    job_write(j, put, in_force);
}

static void start_drop_of(struct job *j, uint8_t kind)
{
    struct one *o = one_new(j, kind);
    if (!o)
        return;
    o->drop = true;
    job_write(j, drop, in_force);
}

#define FAMILY(name, kind)                                                                                   \
    static void start_get_##name(struct job *j)                                                              \
    {                                                                                                        \
        start_get_of(j, kind);                                                                               \
    }                                                                                                        \
    static void start_put_##name(struct job *j)                                                              \
    {                                                                                                        \
        start_put_of(j, kind);                                                                               \
    }                                                                                                        \
    static void start_drop_##name(struct job *j)                                                             \
    {                                                                                                        \
        start_drop_of(j, kind);                                                                              \
    }                                                                                                        \
    JOB_HANDLER(name##_get, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_get_##name);                    \
    JOB_HANDLER(name##_put, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_RAW, start_put_##name);                   \
    JOB_HANDLER(name##_delete, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_RAW, start_drop_##name)
FAMILY(route, ROUTING_ROUTE);
FAMILY(endpoint, ROUTING_ENDPOINT);
FAMILY(enrichment, ROUTING_ENRICHMENT);

JOB_HANDLER(routes_list, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_routes);
JOB_HANDLER(endpoints_list, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_endpoints);
JOB_HANDLER(enrichments_list, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_enrichments);
