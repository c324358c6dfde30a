/* hub/front/roost_http/route_test_post.c - POST /roost/v1/routes/test: a condition, or the one of a route
 * that is there, over a message that is told. Nothing is stored and nothing is sent. */
#include "base/text.h"
#include "hub/domain/event/route.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

struct trial {
    struct span condition, route; /* one of them */
    bool has_condition;
    struct query_condition *compiled;
    struct span record, twin;
    uint64_t enqueued_ms;
};

/* By the names that conditions have for them, without '$'. */
static const struct {
    const char *name;
    enum bag_system s;
} system_names[] = {
    { "contentType", BAG_CONTENT_TYPE },     { "contentEncoding", BAG_CONTENT_ENCODING },
    { "messageId", BAG_MESSAGE_ID },         { "userId", BAG_USER_ID },
    { "correlationId", BAG_CORRELATION_ID }, { "to", BAG_TO },
    { "dt-subject", BAG_SUBJECT },           { "iothub-interface-id", BAG_INTERFACE_ID },
};

static struct span text_of(const json_t *v)
{
    return json_is_string(v) ? span_of(json_string_value(v), json_string_length(v)) : SPAN_NONE;
}

static void write_record(struct wr *w, const json_t *m, uint8_t source, struct span body)
{
    const json_t *system = json_object_get(m, "systemProperties"), *props = json_object_get(m, "properties");
    const char *name;
    json_t *v;
    message_put_head(
        w, &(struct message_head){ .source = source,
                                   .device = json_object_get(m, "deviceId")
                                                 ? text_of(json_object_get(m, "deviceId"))
                                                 : text_of(json_object_get(system, "connectionDeviceId")),
                                   .module = json_object_get(m, "moduleId")
                                                 ? text_of(json_object_get(m, "moduleId"))
                                                 : text_of(json_object_get(system, "connectionModuleId")),
                                   .model = text_of(json_object_get(system, "dt-dataschema")) });
    for (size_t i = 0; i < sizeof system_names / sizeof system_names[0]; i++)
        if (json_object_get(system, system_names[i].name))
            message_put_system(w, system_names[i].s, text_of(json_object_get(system, system_names[i].name)));
    json_object_foreach((json_t *)(uintptr_t)props, name, v)
        message_put_prop(w, &(struct message_prop){ span_str(name), text_of(v), json_is_null(v) });
    message_put_body(w, body);
}

static bool all_texts(struct job *j, const json_t *o, const char *of, bool null)
{
    const char *name;
    json_t *v;
    if (o && !json_is_object(o))
        return job_fail(j, 400, "bad-member", "member \"%s\" has to be an object", of);
    json_object_foreach(
        (json_t *)(uintptr_t)o, name,
        v) if (!json_is_string(v) &&
               !(null && json_is_null(v))) return job_fail(j, 400, "bad-member",
                                                           "member \"%s\": each value has to be a string",
                                                           of);
    return true;
}

static bool read_message(struct job *j, struct trial *t, uint8_t source)
{
    static const char *const names[] = { "deviceId", "moduleId", "properties", "systemProperties",
                                         "body",     "bodyText", NULL };
    const json_t *m = json_object_get(j->in, "message"), *at, *body;
    struct span device = SPAN_NONE, module = SPAN_NONE, bytes = SPAN_NONE;
    if (!json_is_object(m))
        return job_fail(j, 400, "bad-member", "member \"message\" has to be an object");
    if (!in_only(j, m, names) || !in_text(j, m, "deviceId", IN_OPTIONAL, 128, &device) ||
        !in_text(j, m, "moduleId", IN_OPTIONAL, 128, &module) ||
        !in_text(j, m, "bodyText", IN_OPTIONAL, JOB_JSON_MAX, &bytes) ||
        !all_texts(j, json_object_get(m, "properties"), "properties", true) ||
        !all_texts(j, json_object_get(m, "systemProperties"), "systemProperties", false))
        return false;
    if (!device.n &&
        !text_of(json_object_get(json_object_get(m, "systemProperties"), "connectionDeviceId")).n)
        return job_fail(j, 400, "bad-member", "member \"message\": \"deviceId\" is missing");
    at = json_object_get(json_object_get(m, "systemProperties"), "enqueuedTime");
    t->enqueued_ms = j->h->wall_ms();
    if (at && iso8601_decode(text_of(at), &t->enqueued_ms))
        return job_fail(j, 400, "bad-member", "system property \"enqueuedTime\" has to be an ISO 8601 time");
    body = json_object_get(m, "body");
    if (body) {
        size_t n = json_dumpb(body, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
        uint8_t *p = arena_alloc(&j->a, n + 1);
        if (!p)
            return job_fail_err(j, ERR_NOMEM);
        (void)json_dumpb(body, (char *)p, n, JSON_COMPACT | JSON_ENCODE_ANY);
        bytes = span_of(p, n);
    }
    struct wr w = { 0 };
    write_record(&w, m, source, bytes);
    w = (struct wr){ arena_alloc(&j->a, w.len), w.len, 0 };
    if (!w.p)
        return job_fail_err(j, ERR_NOMEM);
    write_record(&w, m, source, bytes);
    t->record = wr_span(&w);
    return true;
}

static bool compile(struct job *j, struct trial *t)
{
    struct query_error err;
    enum err e = query_condition_compile(&j->a, QUERY_USE_ROUTE, t->condition, &t->compiled, &err);
    if (e == ERR_PROTO || e == ERR_LIMIT)
        return job_fail(j, 400, "bad-condition", "line %u, column %u: %s", err.line, err.column, err.message);
    return e ? job_fail_err(j, ERR_NOMEM) : true;
}

static enum err find_condition(struct job *j, struct store_tx *tx, struct trial *t)
{
    struct routing_row row;
    struct jnode *o;
    enum err e = tx_routing_get(tx, ROUTING_ROUTE, t->route, &row);
    if (e == ERR_NOTFOUND)
        return JOB_REFUSE(j, 404, "not-found", "there is no route of that name");
    struct span text = e ? SPAN_NONE : arena_copy(&j->a, row.spec);
    if (!e)
        e = jtree_parse(&j->a, text, &o, NULL);
    if (e)
        return e;
    const struct jnode *c = jtree_get(o, SPAN("condition"));
    t->condition = c && c->kind == JSTRING ? c->text : SPAN("true");
    return compile(j, t) ? ERR_OK : ERR_DENIED;
}

static enum err evaluate(struct job *j, struct store_tx *tx)
{
    static const char *const words[] = { "false", "true", "undefined" };
    struct trial *t = j->state;
    struct route_eval v;
    struct message m;
    enum err e = t->has_condition ? ERR_OK : find_condition(j, tx, t);
    if (!e)
        e = message_decode(t->record, &m);
    if (e)
        return e;
    size_t keep = ROUTE_KEEP(m.body.n);
    uint8_t *mem = arena_alloc(&j->a, keep), *scratch = arena_alloc(&j->a, QUERY_SCRATCH);
    if (!mem || !scratch)
        return ERR_NOMEM;
    route_eval_init(&v, j->h, tx, &m, t->enqueued_ms, (struct wr){ mem, keep, 0 },
                    (struct wr){ scratch, QUERY_SCRATCH, 0 });
    if (t->twin.n)
        query_document_init(&v.given, t->twin);
    enum route_result got = route_eval_condition(&v, t->compiled);
    json_decref(j->out);
    j->out = json_pack("{s:b,s:s}", "matches", got == ROUTE_YES, "result", words[got]);
    return j->out ? ERR_OK : ERR_NOMEM;
}

static void start(struct job *j)
{
    static const char *const names[] = { "condition", "route", "source", "message", "twin", NULL };
    struct trial *t = job_state(j, sizeof *t);
    struct span source = SPAN("DeviceMessages");
    uint8_t from = 0;
    if (!t)
        return;
    t->has_condition = json_object_get(j->in, "condition") != NULL;
    (void)(in_only(j, j->in, names) &&
           in_text(j, j->in, "condition", IN_OPTIONAL, QUERY_ROUTE_MAX, &t->condition) &&
           in_text(j, j->in, "route", IN_OPTIONAL, ROUTE_NAME_MAX, &t->route) &&
           in_text(j, j->in, "source", IN_OPTIONAL, 64, &source));
    if (t->has_condition == (t->route.n > 0))
        (void)job_fail(j, 400, "bad-member", "one of \"condition\" and \"route\" is needed");
    if (route_source_parse(source, &from))
        (void)job_fail(j, 400, "bad-member", "member \"source\" is none of the sources of routes");
    (void)(!j->code && read_message(j, t, from) && (!t->has_condition || compile(j, t)));
    const json_t *twin = json_object_get(j->in, "twin");
    if (twin && !json_is_object(twin))
        (void)job_fail(j, 400, "bad-member", "member \"twin\" has to be an object");
    if (!j->code && twin) {
        size_t n = json_dumpb(twin, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
        uint8_t *p = arena_alloc(&j->a, n + 1);
        if (p)
            (void)json_dumpb(twin, (char *)p, n, JSON_COMPACT | JSON_ENCODE_ANY);
        t->twin = span_of(p, p ? n : 0);
    }
    job_read(j, evaluate, NULL);
}

JOB_HANDLER(route_test_post, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_OBJECT, start);
