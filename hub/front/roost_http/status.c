/* hub/front/roost_http/status.c - what the hub is and what it has to complain about; the audit log. */
#include "hub/conn/listener.h"
#include "hub/conn/tls.h"
#include "hub/domain/event/event.h"
#include "hub/domain/query/query.h"
#include "hub/domain/update/trust.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

#define AUDIT_PAGE 500u

static void put_stream(struct hub *h, json_t *o)
{
    uint64_t records = 0, bytes = 0;
    struct stream_info info;
    for (uint32_t p = 0; p < stream_partitions(h->stream); p++) {
        stream_get_info(h->stream, p, &info);
        records += info.next_seq - info.first_seq;
        bytes += info.bytes;
    }
    json_put(o, "telemetry",
             json_pack("{s:i,s:I,s:I}", "partitions", (int)stream_partitions(h->stream), "records",
                       (json_int_t)records, "bytes", (json_int_t)bytes));
}

/* Connections by who protects their records: one of OpenSSL costs a hundred times the memory of ours. */
static void put_tls(struct job *j, json_t *o)
{
    struct conn_stats s;
    const struct conn_net *net = roost_of(j)->net;
    json_t *tls = net ? json_object() : NULL;
    if (!tls)
        return;
    conn_net_get_stats(net, &s);
    for (unsigned i = TLS_LAYER_AUTO + 1; i < TLS_LAYERS; i++)
        json_put(tls, tls_layer_name((enum tls_layer)i), json_integer((json_int_t)s.tls_open[i]));
    json_put(o, "tlsConnections", tls);
}

static void put_indexes(const struct hub *h, json_t *o)
{
    json_t *list = json_array();
    for (size_t i = 0; list && h->queries && i < h->queries->index_nr; i++) {
        json_t *one = json_object();
        json_put(one, "path", json_span(h->queries->index[i]));
        json_put(one, "ready", json_boolean(query_index_is_ready(h->queries, i)));
        json_put(one, "percent", json_integer(atomic_load(&h->queries->percent[i])));
        (void)json_array_append_new(list, one);
    }
    json_put(o, "queryIndexes", list);
}

/* What the router has not taken yet. */
static void put_events(struct hub *h, json_t *o, json_t *warnings)
{
    struct store_stats s;
    store_get_stats(h->store, &s);
    json_put(o, "events",
             json_pack("{s:I,s:I,s:I,s:I}", "waiting", (json_int_t)s.outbox_rows, "bytes",
                       (json_int_t)s.outbox_bytes, "bytesMax", (json_int_t)s.outbox_limit, "refused",
                       (json_int_t)s.outbox_refused));
    if (event_has_no_room(h))
        (void)json_array_append_new(
            warnings,
            json_string("events wait for the router and have no more room: changes that make events "
                        "are refused; its log says why it does not take them (a full disk, mostly); "
                        "`roost route delete` of the routes that want them lets changes through"));
    else if (event_should_wait(h, UINT32_MAX))
        (void)json_array_append_new(
            warnings, json_string("many events wait for the router: jobs, imports, configurations and states "
                                  "of connections wait for it as well"));
}

static enum err put_trust(struct job *j, struct store_tx *tx, json_t *o, json_t *warnings)
{
    struct trust_record t;
    enum err e = trust_newest(j->h, tx, &j->a, &t);
    json_put(o, "directorKey", json_hex(span_of(j->h->director_pub, ED25519_KEY_LEN)));
    if (e == ERR_NOTFOUND) {
        json_put(o, "trustVersion", json_integer(0));
        (void)json_array_append_new(
            warnings,
            json_string("no trust record is published: devices get no updates; `roost keys init`, then "
                        "`roost trust publish`"));
        return ERR_OK;
    }
    if (e)
        return e;
    json_put(o, "trustVersion", json_integer(t.version));
    if (!trust_lists_director(&t, j->h->director_pub))
        (void)json_array_append_new(
            warnings,
            json_string("the trust record does not list this hub's director key: devices refuse its "
                        "tickets; publish a record that lists directorKey"));
    return ERR_OK;
}

static enum err status(struct job *j, struct store_tx *tx)
{
    struct hub *h = j->h;
    uint64_t by_status[3];
    json_t *o = json_object(), *warnings = json_array();
    enum err e = tx_device_count(tx, by_status);
    j->out = o;
    if (!o || !warnings || e) {
        json_decref(warnings);
        return e ? e : ERR_NOMEM;
    }
    json_put(o, "name", json_string(h->names[0]));
    json_put(o, "version", json_string(ROOST_VERSION));
    json_put(o, "uptimeSeconds", json_integer((json_int_t)((h->wall_ms() - h->started_ms) / 1000)));
    json_put(o, "devices",
             json_pack("{s:I,s:I,s:I}", "enabled", (json_int_t)by_status[DEVICE_ENABLED], "disabled",
                       (json_int_t)by_status[DEVICE_DISABLED], "pending",
                       (json_int_t)by_status[DEVICE_PENDING]));
    json_put(o, "connected", json_integer((json_int_t)bus_attached_nr(h->bus)));
    put_tls(j, o);
    json_put(o, "mqttPort", json_integer(h->mqtt_port));
    json_put(o, "amqpPort", json_integer(h->amqp_port));
    json_put(o, "httpsPort", json_integer(h->https_port));
    if (h->http_port)
        json_put(o, "httpPort", json_integer(h->http_port));
    json_put(o, "bootstrapOpen", json_boolean(h->settings.bootstrap_open));
    put_stream(h, o);
    put_indexes(h, o);
    put_events(h, o, warnings);
    e = put_trust(j, tx, o, warnings);
    if (tls_kernel_is_missed())
        (void)json_array_append_new(
            warnings, json_string("tls.record_layer is kernel, but this kernel offers no TLS: the hub "
                                  "protects records itself; `modprobe tls`, then SIGHUP"));
    json_put(o, "warnings", warnings);
    return e;
}

struct audit_page {
    uint64_t after, limit;
    json_t *arr; /* of j->out */
    uint64_t last;
    size_t nr;
};

static enum err add(void *ctx, const struct audit_row *r)
{
    struct audit_page *p = ctx;
    json_t *o = json_object();
    if (!o)
        return ERR_NOMEM;
    json_put(o, "sequence", json_integer((json_int_t)r->seq));
    json_put(o, "at", json_time(r->at_ms));
    json_put(o, "who", json_span(r->who));
    json_put(o, "what", json_span(r->what));
    json_put(o, "subject", json_span(r->subject));
    json_put(o, "detail", json_span(r->detail));
    p->last = r->seq;
    p->nr++;
    return json_array_append_new(p->arr, o) ? ERR_NOMEM : ERR_OK;
}

static enum err audit(struct job *j, struct store_tx *tx)
{
    struct audit_page *p = j->state;
    p->nr = 0;
    p->arr = job_out_list(j, "audit");
    if (!p->arr)
        return ERR_NOMEM;
    enum err e = tx_audit_list(tx, p->after, p->limit, add, p);
    if (!e && p->nr == p->limit)
        json_put(j->out, "next", json_integer((json_int_t)p->last));
    return e;
}

static void start_audit(struct job *j)
{
    struct audit_page *p = job_state(j, sizeof *p);
    if (!p)
        return;
    p->limit = AUDIT_PAGE;
    (void)(in_query_u64(j, "after", INT64_MAX, &p->after) &&
           in_query_u64(j, "limit", AUDIT_PAGE, &p->limit) &&
           (p->limit || job_fail(j, 400, "bad-query", "query \"limit\" has to be from 1 to %u", AUDIT_PAGE)));
    job_read(j, audit, NULL);
}

JOB_STEP_HANDLER(status_get, JOB_POLICY, ACCESS_REGISTRY_READ | ACCESS_SERVICE_CONNECT, job_read, status,
                 NULL);
JOB_HANDLER(audit_list, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_audit);
