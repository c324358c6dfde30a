/* hub/front/http/message_json.c - see message_json.h. */
#include "hub/front/http/message_json.h"

#include "hub/front/http/json_out.h"

#include <stdlib.h>

static void put_system(json_t *o, const struct message *m)
{
    for (unsigned i = 0; i < BAG_SYSTEM_NAMES; i++)
        if (m->system[i].p)
            json_put(o, bag_system_names[i].stored, json_span(m->system[i]));
    json_put(o, "iothub-connection-device-id", json_span(m->device));
    if (m->module.n)
        json_put(o, "iothub-connection-module-id", json_span(m->module));
    if (m->generation.n)
        json_put(o, "iothub-connection-auth-generation-id", json_span(m->generation));
    json_put(o, "iothub-connection-auth-method", json_string(message_auth_method(m->auth)));
    json_put(o, "iothub-message-source", json_string(message_source_name(m->source)));
    if (m->model.n)
        json_put(o, "dt-dataschema", json_span(m->model));
}

static void put_properties(json_t *o, const struct message *m)
{
    struct span at = m->props;
    struct message_prop p;
    while (message_prop_next(&at, &p)) {
        json_t *v = p.null ? json_null() : json_span(p.value);
        if (v && p.name.n && json_object_setn_new(o, (const char *)p.name.p, p.name.n, v))
            continue; /* a name that is not UTF-8 has no JSON form */
    }
}

json_t *message_json(const struct stream_record *r, const struct message *m)
{
    json_t *o = json_object(), *system = json_object(), *props = json_object(), *body = NULL;
    if (!o || !system || !props) {
        json_decref(o);
        json_decref(system);
        json_decref(props);
        return NULL;
    }
    put_system(system, m);
    put_properties(props, m);
    json_put(o, "partition", json_integer(r->partition));
    json_put(o, "sequence", json_integer((json_int_t)r->seq));
    json_put(o, "enqueued", json_time(r->enqueued_ms));
    json_put(o, "device", json_span(m->device));
    if (m->module.n)
        json_put(o, "module", json_span(m->module));
    json_put(o, "system", system);
    json_put(o, "properties", props);
    bool is_text = true; /* bytes that would have to be escaped one by one are base64 instead */
    for (size_t i = 0; i < m->body.n && is_text; i++)
        is_text =
            m->body.p[i] >= 0x20 || m->body.p[i] == '\n' || m->body.p[i] == '\r' || m->body.p[i] == '\t';
    if (is_text)
        body = json_span(m->body); /* NULL when it is not UTF-8 */
    if (body)
        json_put(o, "body", body);
    else
        json_put(o, "bodyBase64", json_base64(m->body));
    return o;
}

char *message_line(const struct stream_record *r)
{
    struct message m;
    if (message_decode(r->record, &m))
        return NULL;
    json_t *o = message_json(r, &m);
    size_t n = o ? json_dumpb(o, NULL, 0, JSON_COMPACT) : 0;
    char *line = n ? malloc(n + 2) : NULL;
    if (line) {
        (void)json_dumpb(o, line, n, JSON_COMPACT);
        line[n] = '\n';
        line[n + 1] = 0;
    }
    json_decref(o);
    return line;
}
