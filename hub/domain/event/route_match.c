/* hub/domain/event/route_match.c - one message against the conditions of routes, and what enrichments add to
 * it. */
#include "hub/domain/event/route.h"

#include "base/list.h"
#include "base/text.h"
#include "hub/domain/event/event.h"
#include "hub/domain/metrics.h"
#include "hub/store/identity_name.h"

#include <stdio.h>

/* ---- properties ------------------------------------------------------------------------------------- */

static bool found(struct span value, struct span *out)
{
    *out = value;
    return value.p != NULL;
}

static bool get_system(void *ctx, struct span name, struct span *value)
{
    static const struct {
        const char *name;
        enum bag_system s;
    } table[] = {
        { "contentType", BAG_CONTENT_TYPE },
        { "contentEncoding", BAG_CONTENT_ENCODING },
        { "messageId", BAG_MESSAGE_ID },
        { "userId", BAG_USER_ID },
        { "correlationId", BAG_CORRELATION_ID },
        { "to", BAG_TO },
        { "dt-subject", BAG_SUBJECT },
        { "iothub-interface-id", BAG_INTERFACE_ID },
        { "iothub-creation-time-utc", BAG_CREATION_TIME },
    };
    const struct route_eval *v = ctx;
    const struct message *m = v->m;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (span_ieq(name, span_str(table[i].name)))
            return found(m->system[table[i].s], value);
    if (span_ieq(name, SPAN("connectionDeviceId")))
        return found(m->device, value);
    if (span_ieq(name, SPAN("connectionModuleId")))
        return m->module.n && found(m->module, value);
    if (span_ieq(name, SPAN("connectionDeviceGenerationId")))
        return m->generation.n && found(m->generation, value);
    if (span_ieq(name, SPAN("connectionAuthMethod")))
        return found(span_str(message_auth_method(m->auth)), value);
    if (span_ieq(name, SPAN("enqueuedTime")))
        return found(span_of(v->time, v->time_len), value);
    if (span_ieq(name, SPAN("dt-dataschema")))
        return m->model.n ? found(m->model, value) : found(m->system[BAG_SCHEMA], value);
    return false;
}

static bool get_app(void *ctx, struct span name, struct span *value)
{
    const struct route_eval *v = ctx;
    struct span at = v->m->props;
    struct message_prop p;
    while (message_prop_next(&at, &p))
        if (!p.null && span_ieq(p.name, name)) {
            *value = p.value;
            return true;
        }
    return false;
}

/* ---- the twin --------------------------------------------------------------------------------------- */

static bool need_twin(struct route_eval *v)
{
    uint8_t id[IDENTITY_NAME_MAX];
    struct wr w = { id, sizeof id, 0 };
    if (v->twin_state != TWIN_UNKNOWN)
        return v->twin_state == TWIN_THERE;
    identity_name_put(&w, v->m->device, v->m->module);
    v->twin_state =
        v->tx && wr_ok(&w) && !tx_twin_get(v->tx, wr_span(&w), &v->twin_row) ? TWIN_THERE : TWIN_NONE;
    return v->twin_state == TWIN_THERE;
}

static void get_twin(struct query_row *row, const struct query_path *p, struct wr *mem,
                     struct query_value *out)
{
    struct route_eval *v = CONTAINER_OF(row, struct route_eval, twin);
    const struct query_step *rest = p->step + p->field_steps;
    size_t nr = (size_t)p->nr - p->field_steps;
    if (v->given.json.n) {
        v->given.row.get(&v->given.row, p, mem, out);
        return;
    }
    if ((p->field != QUERY_TAGS && p->field != QUERY_DESIRED && p->field != QUERY_REPORTED) || !need_twin(v))
        return;
    const struct twin_row *t = &v->twin_row;
    if (nr == 1 && p->field != QUERY_TAGS && rest[0].name.p && span_eq(rest[0].name, SPAN("$version"))) {
        *out = (struct query_value){ .kind = QUERY_NUMBER,
                                     .num = (double)(p->field == QUERY_DESIRED ? t->desired_version
                                                                               : t->reported_version) };
        return;
    }
    query_json_get(p->field == QUERY_TAGS      ? t->tags
                   : p->field == QUERY_DESIRED ? t->desired
                                               : t->reported,
                   rest, nr, true, mem, out);
}

/* ---- conditions ------------------------------------------------------------------------------------- */

void route_eval_init(struct route_eval *v, struct hub *h, struct store_tx *tx, const struct message *m,
                     uint64_t enqueued_ms, struct wr keep, struct wr scratch)
{
    *v = (struct route_eval){ .h = h, .tx = tx, .m = m, .keep = keep, .scratch = scratch };
    struct wr w = { v->time, sizeof v->time, 0 };
    iso8601_encode(&w, enqueued_ms);
    v->time_len = w.len;
    v->twin.get = get_twin;
    v->row = (struct query_message){ .ctx = v, .system = get_system, .app = get_app, .twin = &v->twin };
    query_message_init(&v->row, m->body, &v->keep);
}

enum route_result route_eval_condition(struct route_eval *v, const struct query_condition *c)
{
    struct query_value out = { 0 };
    if (!c->q.where)
        return ROUTE_YES;
    v->scratch.len = 0;
    query_eval(c->q.where, &v->row.row, &v->scratch, &out);
    if (out.kind == QUERY_UNDEFINED || out.kind == QUERY_NULL)
        return ROUTE_UNDEFINED;
    return out.kind == QUERY_BOOL && out.b ? ROUTE_YES : ROUTE_NO;
}

uint32_t route_set_targets(const struct route_set *s, struct route_eval *v)
{
    uint32_t bits = 0;
    bool any = false;
    for (size_t i = 0; i < s->routes_nr; i++) {
        const struct route_spec *r = &s->routes[i];
        if (!r->enabled || r->source != v->m->source)
            continue;
        enum route_result got = route_eval_condition(v, r->compiled);
        if (got == ROUTE_UNDEFINED)
            METRIC_ADD(v->h, routing_undefined_total, 1);
        if (got == ROUTE_YES) {
            bits |= r->targets;
            any = true;
        }
    }
    return any || v->m->source != MESSAGE_SOURCE_TELEMETRY ? bits : s->fallback;
}

/* ---- enrichments ------------------------------------------------------------------------------------ */

size_t message_size(const struct message *m)
{
    size_t n = m->body.n;
    struct span at = m->props;
    struct message_prop p;
    for (unsigned i = 0; i < BAG_SYSTEM_NAMES; i++)
        n += m->system[i].n;
    while (message_prop_next(&at, &p))
        n += p.name.n + (p.null ? 0 : p.value.n);
    return n;
}

static struct span value_of(const struct enrichment_spec *n, struct route_eval *v)
{
    struct query_value q = { 0 };
    if (span_eq(n->value, SPAN("$iothubname")))
        return event_hub_name(v->h);
    if (!n->twin)
        return n->value;
    v->scratch.len = 0;
    get_twin(&v->twin, n->twin, &v->scratch, &q);
    if (q.kind == QUERY_STRING)
        return q.s;
    if (q.kind == QUERY_UNDEFINED || q.kind == QUERY_NULL)
        return n->value;
    size_t from = v->scratch.len;
    query_json_put(&v->scratch, &q);
    return wr_ok(&v->scratch) ? span_of(v->scratch.p + from, v->scratch.len - from) : n->value;
}

enum err route_set_enrich(const struct route_set *s, struct route_eval *v, unsigned target,
                          struct span record, struct wr *out)
{
    const struct message *m = v->m;
    size_t size = 0;
    struct span ignored;
    /* Fields end where the properties end; then comes the mark of the body. */
    wr_put(out, span_of(record.p, (size_t)(m->props.p + m->props.n - record.p)));
    for (size_t i = 0; i < s->enrichments_nr; i++) {
        const struct enrichment_spec *n = &s->enrichments[i];
        if (!(n->targets & 1u << target) || get_app(v, n->name, &ignored))
            continue;
        struct span value = value_of(n, v);
        message_put_prop(out, &(struct message_prop){ n->name, value, false });
        size += n->name.n + value.n;
    }
    message_put_body(out, m->body);
    return size && size + message_size(m) > v->h->settings.message_max ? ERR_LIMIT : ERR_OK;
}
