/* hub/domain/event/route.c - definitions of routes, endpoints and enrichments: their members and the checks
 * of each; and the set that is compiled of all. See route.h. */
#include "hub/domain/event/route.h"

#include "base/log.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define SET_ARENA_MAX (64u * 1024u * 1024u)
#define HOUR_S        3600u

static const char *const sources[MESSAGE_SOURCES] = {
    "DeviceMessages",           "TwinChangeEvents",
    "DeviceLifecycleEvents",    "DeviceConnectionStateEvents",
    "DeviceJobLifecycleEvents", "DigitalTwinChangeEvents"
};
static const char *const kinds[ENDPOINT_KINDS] = { "stream", "webhook", "mqtt", "file" };

const char *route_source_name(unsigned source)
{
    return source < MESSAGE_SOURCES ? sources[source] : "unknown";
}
const char *endpoint_kind_name(unsigned kind)
{
    return kind < ENDPOINT_KINDS ? kinds[kind] : "unknown";
}

enum err route_source_parse(struct span text, uint8_t *out)
{
    for (unsigned i = 0; i < MESSAGE_SOURCES; i++)
        if (span_ieq(text, span_str(sources[i]))) {
            *out = (uint8_t)i;
            return ERR_OK;
        }
    return ERR_PROTO;
}

bool route_name_ok(struct span name)
{
    if (name.n < 1 || name.n > ROUTE_NAME_MAX || name.p[0] == '.')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
              c == '_' || c == '.'))
            return false;
    }
    return true;
}

/* ---- members ---------------------------------------------------------------------------------------- */

static enum err fail(struct route_fault *f, const char *text, ...) __attribute__((format(printf, 2, 3)));
static enum err fail(struct route_fault *f, const char *text, ...)
{
    va_list ap;
    va_start(ap, text);
    vsnprintf(f->text, sizeof f->text, text, ap);
    va_end(ap);
    for (char *p = f->text; *p; p++) /* names come from outside */
        if ((uint8_t)*p < 0x20 || (uint8_t)*p >= 0x7f)
            *p = '?';
    return ERR_PROTO;
}

static enum err only(const struct jnode *o, const char *const *names, struct route_fault *f)
{
    if (!o || o->kind != JOBJECT)
        return fail(f, "a definition has to be a JSON object");
    for (const struct jnode *c = o->first; c; c = c->next) {
        size_t i = 0;
        while (names[i] && !span_eq(c->key, span_str(names[i])))
            i++;
        if (!names[i])
            return fail(f, "member \"%.*s\" is not known here", (int)(c->key.n < 64 ? c->key.n : 64),
                        (const char *)c->key.p);
    }
    return ERR_OK;
}

/* Absent: *out stays. */
static enum err text(const struct jnode *o, const char *name, size_t max, struct span *out,
                     struct route_fault *f)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    if (!n)
        return ERR_OK;
    if (n->kind != JSTRING || n->text.n > max ||
        memchr(n->text.n ? (const void *)n->text.p : "", 0, n->text.n))
        return fail(f, "member \"%s\" has to be a string of at most %zu bytes", name, max);
    *out = n->text;
    return ERR_OK;
}

static enum err number(const struct jnode *o, const char *name, uint64_t min, uint64_t max, uint64_t *out,
                       struct route_fault *f)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    uint64_t v = 0;
    if (!n)
        return ERR_OK;
    if (n->kind != JNUMBER || u64_parse(n->text, max, &v) || v < min)
        return fail(f, "member \"%s\" has to be a whole number from %llu to %llu", name,
                    (unsigned long long)min, (unsigned long long)max);
    *out = v;
    return ERR_OK;
}

static enum err truth(const struct jnode *o, const char *name, bool *out, struct route_fault *f)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    if (n && n->kind != JTRUE && n->kind != JFALSE)
        return fail(f, "member \"%s\" has to be true or false", name);
    if (n)
        *out = n->kind == JTRUE;
    return ERR_OK;
}

static enum err endpoint_names(const struct jnode *o, struct span *out, size_t *nr, struct route_fault *f)
{
    const struct jnode *n = jtree_get(o, SPAN("endpoints"));
    *nr = 0;
    if (!n || n->kind != JARRAY || !n->first)
        return fail(f, "member \"endpoints\" has to be an array of at least one endpoint's name");
    for (const struct jnode *c = n->first; c; c = c->next) {
        if (c->kind != JSTRING || !route_name_ok(c->text))
            return fail(f, "member \"endpoints\": each has to be the name of an endpoint, or \"events\"");
        if (*nr == ROUTE_TARGETS_MAX)
            return fail(f, "member \"endpoints\" has more than %u names", ROUTE_TARGETS_MAX);
        out[(*nr)++] = c->text;
    }
    return ERR_OK;
}

/* ---- routes ----------------------------------------------------------------------------------------- */

static bool not_twin(void *ctx, const struct query_path *p)
{
    (void)ctx;
    return p->root != QUERY_TWIN;
}

enum err route_parse(struct arena *a, struct span name, const struct jnode *o, struct route_spec *out,
                     struct route_fault *f)
{
    static const char *const names[] = { "source", "condition", "endpoints", "enabled", NULL };
    struct route_spec r = { .name = name, .condition = SPAN("true"), .enabled = true };
    struct span source = SPAN("DeviceMessages");
    struct query_error why;
    struct query_condition *c = NULL;
    if (!route_name_ok(name))
        return fail(f, "a route's name has 1 to %u letters, digits, '-', '_' and '.'", ROUTE_NAME_MAX);
    enum err e = only(o, names, f);
    if (!e)
        e = text(o, "source", 64, &source, f);
    if (!e && route_source_parse(source, &r.source))
        e = fail(f, "member \"source\" has to be %s, %s, %s, %s, %s or %s", sources[0], sources[1],
                 sources[2], sources[3], sources[4], sources[5]);
    if (!e)
        e = text(o, "condition", QUERY_ROUTE_MAX, &r.condition, f);
    if (!e)
        e = truth(o, "enabled", &r.enabled, f);
    if (!e)
        e = endpoint_names(o, r.endpoints, &r.endpoints_nr, f);
    if (e)
        return e;
    e = query_condition_compile(a, QUERY_USE_ROUTE, r.condition, &c, &why);
    if (e == ERR_PROTO || e == ERR_LIMIT)
        return fail(f, "condition: line %u, column %u: %s", why.line, why.column, why.message);
    if (e)
        return e;
    r.compiled = c;
    r.twin = !query_each_path(c->q.where, not_twin, NULL);
    *out = r;
    return ERR_OK;
}

enum err fallback_parse(const struct jnode *o, bool *enabled, struct route_fault *f)
{
    static const char *const names[] = { "enabled", NULL };
    enum err e = only(o, names, f);
    if (!e && !jtree_get(o, SPAN("enabled")))
        e = fail(f, "member \"enabled\" is missing");
    return e ? e : truth(o, "enabled", enabled, f);
}

/* ---- endpoints -------------------------------------------------------------------------------------- */

bool endpoint_is_secret(struct span member)
{
    return span_eq(member, SPAN("secret")) || span_eq(member, SPAN("password"));
}

static bool printable(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= 0x20 || s.p[i] >= 0x7f)
            return false;
    return true;
}

static enum err common(const struct jnode *o, struct endpoint_spec *s, struct route_fault *f)
{
    enum err e = number(o, "retainSeconds", 60, 3650ull * 24 * HOUR_S, &s->retain_s, f);
    if (!e)
        e = number(o, "retainBytes", 1 << 20, 1ull << 50, &s->retain_bytes, f);
    return e;
}

static enum err outgoing(const struct jnode *o, struct endpoint_spec *s, struct route_fault *f)
{
    enum err e = number(o, "deadLetterSeconds", 1, 3650ull * 24 * HOUR_S, &s->dead_letter_s, f);
    if (!e)
        e = number(o, "batch", 1, 500, &s->batch, f);
    return e;
}

static enum err webhook(const struct jnode *o, struct endpoint_spec *s, struct route_fault *f)
{
    static const char *const names[] = { "kind",  "url",           "secret",      "ca",
                                         "batch", "retainSeconds", "retainBytes", "deadLetterSeconds",
                                         NULL };
    enum err e = only(o, names, f);
    if (!e)
        e = text(o, "url", 2048, &s->url, f);
    if (!e && (s->url.n < 9 || !span_ieq(span_of(s->url.p, 8), SPAN("https://")) || !printable(s->url)))
        e = fail(f, "member \"url\" has to be an address that begins with https://");
    if (!e && memchr(s->url.p, '@', s->url.n))
        e = fail(f, "member \"url\" must not hold credentials: use \"secret\", which signs what is sent");
    if (!e)
        e = text(o, "secret", 256, &s->secret, f);
    if (!e && s->secret.n && s->secret.n < 16)
        e = fail(f, "member \"secret\" has to have 16 to 256 bytes");
    if (!e)
        e = text(o, "ca", 16384, &s->ca, f);
    return e ? e : outgoing(o, s, f);
}

static enum err mqtt(const struct jnode *o, struct endpoint_spec *s, struct route_fault *f)
{
    static const char *const names[] = {
        "kind", "host",  "port",          "topic",       "clientId",          "username", "password",
        "ca",   "batch", "retainSeconds", "retainBytes", "deadLetterSeconds", "payload",  NULL
    };
    struct span payload = SPAN("body");
    enum err e = only(o, names, f);
    s->port = 8883;
    if (!e)
        e = text(o, "host", 253, &s->host, f);
    if (!e && (!s->host.n || !printable(s->host) || memchr(s->host.p, '/', s->host.n) ||
               memchr(s->host.p, '@', s->host.n)))
        e = fail(f, "member \"host\" has to be a name or an address");
    if (!e)
        e = number(o, "port", 1, 65535, &s->port, f);
    if (!e)
        e = text(o, "topic", 1024, &s->topic, f);
    if (!e && (!s->topic.n || memchr(s->topic.p, '+', s->topic.n) || memchr(s->topic.p, '#', s->topic.n)))
        e = fail(f,
                 "member \"topic\" has to be a topic without '+' and '#'; {device}, {module}, {source} and "
                 "{endpoint} are replaced");
    if (!e)
        e = text(o, "clientId", 128, &s->client_id, f);
    if (!e)
        e = text(o, "username", 256, &s->username, f);
    if (!e)
        e = text(o, "password", 1024, &s->password, f);
    if (!e)
        e = text(o, "payload", 8, &payload, f);
    s->json = span_eq(payload, SPAN("json"));
    if (!e && !s->json && !span_eq(payload, SPAN("body")))
        e = fail(f, "member \"payload\" has to be body, or json for the message with its properties");
    if (!e && s->password.n && !s->username.n)
        e = fail(f, "member \"password\" needs \"username\"");
    if (!e)
        e = text(o, "ca", 16384, &s->ca, f);
    return e ? e : outgoing(o, s, f);
}

static enum err file(const struct jnode *o, struct endpoint_spec *s, struct route_fault *f)
{
    static const char *const names[] = { "kind",  "rotateBytes",       "rotateSeconds",
                                         "keep",  "retainSeconds",     "retainBytes",
                                         "batch", "deadLetterSeconds", NULL };
    enum err e = only(o, names, f);
    s->rotate_bytes = 64u << 20;
    s->rotate_s = 24 * HOUR_S;
    s->keep = 30;
    if (!e)
        e = number(o, "rotateBytes", 4096, 1ull << 40, &s->rotate_bytes, f);
    if (!e)
        e = number(o, "rotateSeconds", 1, 3650ull * 24 * HOUR_S, &s->rotate_s, f);
    if (!e)
        e = number(o, "keep", 1, 10000, &s->keep, f);
    return e ? e : outgoing(o, s, f);
}

enum err endpoint_parse(struct arena *a, struct span name, const struct jnode *o, struct endpoint_spec *out,
                        struct route_fault *f)
{
    static const char *const of_stream[] = { "kind", "retainSeconds", "retainBytes", NULL };
    struct endpoint_spec s = { .name = name,
                               .kind = ENDPOINT_KINDS,
                               .retain_s = 7 * 24 * HOUR_S,
                               .retain_bytes = 1ull << 30,
                               .dead_letter_s = 24 * HOUR_S,
                               .batch = 100 };
    struct span kind = SPAN_NONE;
    (void)a;
    if (!route_name_ok(name) || span_ieq(name, SPAN(ROUTE_EVENTS)) || span_ieq(name, SPAN(ROUTE_DEAD_LETTER)))
        return fail(f,
                    "an endpoint's name has 1 to %u letters, digits, '-', '_' and '.', and is neither "
                    "\"events\" nor \"dead-letter\"",
                    ROUTE_NAME_MAX);
    if (!o || o->kind != JOBJECT)
        return fail(f, "a definition has to be a JSON object");
    enum err e = text(o, "kind", 16, &kind, f);
    for (uint8_t i = 0; !e && i < ENDPOINT_KINDS; i++)
        if (span_eq(kind, span_str(kinds[i])))
            s.kind = i;
    if (!e && s.kind == ENDPOINT_KINDS)
        e = fail(f, "member \"kind\" has to be stream, webhook, mqtt or file");
    if (!e)
        e = s.kind == ENDPOINT_STREAM    ? only(o, of_stream, f)
            : s.kind == ENDPOINT_WEBHOOK ? webhook(o, &s, f)
            : s.kind == ENDPOINT_MQTT    ? mqtt(o, &s, f)
                                         : file(o, &s, f);
    if (!e)
        e = common(o, &s, f);
    if (!e)
        *out = s;
    return e;
}

/* ---- enrichments ------------------------------------------------------------------------------------ */

enum err enrichment_parse(struct arena *a, struct span name, const struct jnode *o,
                          struct enrichment_spec *out, struct route_fault *f)
{
    static const char *const names[] = { "value", "endpoints", NULL };
    struct enrichment_spec s = { .name = name };
    struct query_condition *c = NULL;
    struct query_error why;
    if (!route_name_ok(name))
        return fail(f, "an enrichment's name has 1 to %u letters, digits, '-', '_' and '.'", ROUTE_NAME_MAX);
    enum err e = only(o, names, f);
    if (!e)
        e = text(o, "value", 1024, &s.value, f);
    if (!e && !s.value.n)
        e = fail(f, "member \"value\" has to be a text, $iothubname or $twin.tags... or $twin.properties...");
    if (!e)
        e = endpoint_names(o, s.endpoints, &s.endpoints_nr, f);
    if (!e && span_starts(s.value, SPAN("$twin."))) {
        e = query_condition_compile(a, QUERY_USE_ROUTE, s.value, &c, &why);
        const struct query_node *n = e ? NULL : c->q.where;
        if (e == ERR_NOMEM)
            return e;
        if (e || !n || n->op != QUERY_PATH || n->u.path.root != QUERY_TWIN ||
            (n->u.path.field != QUERY_TAGS && n->u.path.field != QUERY_DESIRED &&
             n->u.path.field != QUERY_REPORTED))
            e = fail(f,
                     "member \"value\": a path of the twin begins with $twin.tags, $twin.properties.desired "
                     "or $twin.properties.reported");
        else
            s.twin = &n->u.path;
    }
    if (!e)
        *out = s;
    return e;
}

/* ---- the set ---------------------------------------------------------------------------------------- */

struct loading {
    struct route_set *s;
    size_t routes_cap, endpoints_cap, enrichments_cap;
};

static void *grown(struct arena *a, void *old, size_t nr, size_t *cap, size_t size)
{
    if (nr < *cap)
        return old;
    size_t more = *cap ? 2 * *cap : 8;
    void *p = arena_alloc(a, more * size);
    if (p && nr)
        memcpy(p, old, nr * size);
    *cap = p ? more : *cap;
    return p;
}

static enum err add(struct loading *l, const struct routing_row *r)
{
    struct route_set *s = l->s;
    struct route_fault f = { "" };
    struct jnode *o;
    struct span name = arena_copy(&s->a, r->name), spec = arena_copy(&s->a, r->spec);
    enum err e = jtree_parse(&s->a, spec, &o, NULL);
    if (e == ERR_PROTO || e == ERR_LIMIT)
        e = fail(&f, "not JSON");
    if (e)
        goto out;
    switch (r->kind) {
    case ROUTING_ROUTE:
        s->routes = grown(&s->a, s->routes, s->routes_nr, &l->routes_cap, sizeof *s->routes);
        e = !s->routes ? ERR_NOMEM : route_parse(&s->a, name, o, &s->routes[s->routes_nr], &f);
        s->routes_nr += !e;
        break;
    case ROUTING_ENDPOINT:
        s->endpoints = grown(&s->a, s->endpoints, s->endpoints_nr, &l->endpoints_cap, sizeof *s->endpoints);
        e = !s->endpoints ? ERR_NOMEM
            : s->endpoints_nr + 1 == ROUTE_TARGETS_MAX
                ? fail(&f, "too many endpoints")
                : endpoint_parse(&s->a, name, o, &s->endpoints[s->endpoints_nr], &f);
        if (!e) {
            s->endpoints[s->endpoints_nr].text = spec;
            s->endpoints[s->endpoints_nr++].created_ms = r->created_ms;
        }
        break;
    case ROUTING_ENRICHMENT:
        s->enrichments =
            grown(&s->a, s->enrichments, s->enrichments_nr, &l->enrichments_cap, sizeof *s->enrichments);
        e = !s->enrichments ? ERR_NOMEM
                            : enrichment_parse(&s->a, name, o, &s->enrichments[s->enrichments_nr], &f);
        s->enrichments_nr += !e;
        break;
    case ROUTING_FALLBACK:
        e = fallback_parse(o, &s->fallback, &f);
        break;
    default:
        break;
    }
out:
    if (e != ERR_PROTO)
        return e;
    log_error("routing.definition", "name=%.*s reason=\"%s\" hint=\"it is left out: save it anew\"",
              (int)name.n, (const char *)name.p, f.text);
    return ERR_OK;
}

static enum err each_row(void *ctx, const struct routing_row *r)
{
    return add(ctx, r);
}

static uint32_t targets_of(const struct route_set *s, const struct span *names, size_t nr)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < nr; i++) {
        if (span_ieq(names[i], SPAN(ROUTE_EVENTS)))
            bits |= 1;
        for (size_t k = 0; k < s->endpoints_nr; k++)
            if (span_ieq(names[i], s->endpoints[k].name))
                bits |= 2u << k;
    }
    return bits;
}

enum err route_set_load(struct hub *h, struct store_tx *tx, struct route_set **out)
{
    struct route_set *s = calloc(1, sizeof *s);
    struct loading l = { .s = s };
    bool telemetry = false, enriched = false, twins = false;
    (void)h;
    if (!s)
        return ERR_NOMEM;
    arena_init(&s->a, SET_ARENA_MAX);
    s->fallback = true;
    enum err e = tx_routing_list(tx, each_row, &l);
    if (!e)
        e = arena_err(&s->a);
    if (e) {
        route_set_free(s);
        return e;
    }
    for (size_t i = 0; i < s->enrichments_nr; i++) {
        struct enrichment_spec *n = &s->enrichments[i];
        n->targets = targets_of(s, n->endpoints, n->endpoints_nr);
        enriched |= (n->targets & 1) != 0;
        twins |= n->twin != NULL;
    }
    for (size_t i = 0; i < s->routes_nr; i++) {
        struct route_spec *r = &s->routes[i];
        r->targets = targets_of(s, r->endpoints, r->endpoints_nr);
        if (!r->enabled)
            continue;
        s->wanted |= 1u << r->source;
        s->twin[r->source] |= r->twin || twins;
        telemetry |= r->source == MESSAGE_SOURCE_TELEMETRY;
    }
    s->twin[MESSAGE_SOURCE_TELEMETRY] |= twins;
    s->direct = s->fallback && !telemetry && !enriched;
    *out = s;
    return ERR_OK;
}

void route_set_free(struct route_set *s)
{
    if (!s)
        return;
    arena_fini(&s->a);
    free(s);
}
