/* hub/front/roost_http/ops.c - the loopback pages: /metrics in Prometheus' text form, /healthz, /readyz. */
#include "hub/conn/listener.h"
#include "hub/domain/metrics.h"
#include "hub/domain/rate.h"
#include "hub/domain/throttle.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"
#include "hub/front/routing/routing.h"

#define TEXT_CAP 32768u

struct text {
    struct wr w;
};

static void put_number(struct text *t, const char *name, const char *label, uint64_t v)
{
    char line[200];
    int n = snprintf(line, sizeof line, "roost_%s%s %llu\n", name, label, (unsigned long long)v);
    wr_put(&t->w, span_of(line, n > 0 && (size_t)n < sizeof line ? (size_t)n : 0));
}

static void head(struct text *t, const char *name, const char *type, const char *help)
{
    wr_str(&t->w, "# HELP roost_");
    wr_str(&t->w, name);
    wr_str(&t->w, " ");
    wr_str(&t->w, help);
    wr_str(&t->w, "\n# TYPE roost_");
    wr_str(&t->w, name);
    wr_str(&t->w, " ");
    wr_str(&t->w, type);
    wr_str(&t->w, "\n");
}

static void put(struct text *t, const char *name, const char *type, const char *help, uint64_t v)
{
    head(t, name, type, help);
    put_number(t, name, "", v);
}

static void put_hub(struct text *t, struct hub *h)
{
#define X(name, help)                                                                                        \
    put(t, #name, "counter", help, atomic_load_explicit(&h->metrics->name, memory_order_relaxed));
    HUB_METRICS(X)
#undef X
    put(t, "sessions", "gauge", "identities connected now", bus_attached_nr(h->bus));
    put(t, "uptime_seconds", "gauge", "since the hub started", (h->wall_ms() - h->started_ms) / 1000);
}

static void put_throttle(struct text *t, const struct throttle *throttle)
{
    for (unsigned late = 0; late < 2; late++) {
        const char *name = late ? "throttle_delayed_total" : "throttle_refused_total";
        head(t, name, "counter",
             late ? "operations that had to wait for their rate" : "operations refused: over their rate");
        for (unsigned i = THROTTLE_NONE + 1; i < THROTTLE_CLASSES_NR; i++) {
            char label[64];
            struct throttle_stats s = throttle_get_stats(throttle, (enum throttle_class)i);
            snprintf(label, sizeof label, "{operation=\"%s\"}", throttle_name((enum throttle_class)i));
            put_number(t, name, label, late ? s.delayed : s.refused);
        }
    }
}

static void put_store(struct text *t, struct hub *h)
{
    struct store_stats s;
    store_get_stats(h->store, &s);
    put(t, "store_commits_total", "counter", "transactions committed (one flush each)", s.commits);
    put(t, "store_ops_total", "counter", "operations in them", s.ops);
    put(t, "store_failed_total", "counter", "operations that failed", s.failed);
    put(t, "store_commit_microseconds_total", "counter", "time spent committing", s.commit_us_total);
    put(t, "store_rows_read_total", "counter", "rows read", s.rows_read);
    put(t, "events_waiting", "gauge", "events that the router has not taken yet", s.outbox_rows);
    put(t, "events_waiting_bytes", "gauge", "bytes of them", s.outbox_bytes);
    put(t, "events_refused_total", "counter", "changes refused: events that wait had no more room",
        s.outbox_refused);
}

static void put_stream(struct text *t, struct hub *h)
{
    struct stream_stats s;
    stream_get_stats(h->stream, &s);
    put(t, "stream_records_total", "counter", "telemetry records written", s.records);
    put(t, "stream_bytes_total", "counter", "bytes of them", s.bytes);
    put(t, "stream_syncs_total", "counter", "flushes of the telemetry log", s.syncs);
    put(t, "stream_sync_microseconds_total", "counter", "time spent flushing", s.sync_us_total);
    put(t, "stream_torn_bytes_total", "counter", "bytes cut off at start after a crash", s.torn_bytes);
    head(t, "stream_next_sequence", "gauge", "next sequence number of a partition");
    for (uint32_t p = 0; p < stream_partitions(h->stream); p++) {
        struct stream_info info;
        char label[40];
        stream_get_info(h->stream, p, &info);
        snprintf(label, sizeof label, "{partition=\"%u\"}", p);
        put_number(t, "stream_next_sequence", label, info.next_seq);
    }
}

static void put_routing(struct text *t, struct routing *r)
{
    static const struct {
        const char *name, *type, *help;
        size_t at;
    } of[] = {
        { "routing_delivered_total", "counter", "messages an endpoint took",
          offsetof(struct routing_stats, delivered) },
        { "routing_failed_total", "counter", "attempts that failed", offsetof(struct routing_stats, failed) },
        { "routing_dead_total", "counter", "messages given up", offsetof(struct routing_stats, dead) },
        { "routing_lost_total", "counter", "messages removed before they were delivered",
          offsetof(struct routing_stats, lost) },
        { "routing_behind", "gauge", "messages that wait for an endpoint",
          offsetof(struct routing_stats, behind) },
    };
    put(t, "routing_undecided", "gauge", "messages that routes have not looked at", routing_behind(r));
    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) {
        struct routing_stats s;
        char label[96];
        head(t, of[i].name, of[i].type, of[i].help);
        for (size_t k = 0; routing_stats(r, k, &s); k++) {
            if (!s.delivers)
                continue;
            snprintf(label, sizeof label, "{endpoint=\"%s\"}", s.name);
            put_number(t, of[i].name, label, *(const uint64_t *)(const void *)((const char *)&s + of[i].at));
        }
    }
}

static void put_conns(struct text *t, const struct conn_net *net)
{
    struct conn_stats s;
    conn_net_get_stats(net, &s);
    put(t, "connections", "gauge", "connections open now", s.open);
    put(t, "connections_max", "gauge", "connections this process can hold", conn_net_connections_max(net));
    put(t, "connections_accepted_total", "counter", "connections accepted", s.accepted);
    put(t, "connections_refused_total", "counter", "connections refused: all places taken", s.refused_total);
    put(t, "connections_refused_source_total", "counter", "connections refused: too many of one source",
        s.refused_source);
    put(t, "tls_handshakes_total", "counter", "TLS handshakes completed", s.handshakes);
    put(t, "tls_resumed_total", "counter", "of them resumed", s.resumed);
    put(t, "tls_failed_total", "counter", "TLS handshakes that failed", s.handshake_failed);
    head(t, "tls_connections", "gauge", "connections open now, by who protects their records");
    for (unsigned i = TLS_LAYER_AUTO + 1; i < TLS_LAYERS; i++) {
        char label[40];
        snprintf(label, sizeof label, "{layer=\"%s\"}", tls_layer_name((enum tls_layer)i));
        put_number(t, "tls_connections", label, s.tls_open[i]);
    }
    head(t, "tls_handed_over_total", "counter", "completed handshakes, by who went on with the keys");
    for (unsigned i = TLS_LAYER_AUTO + 1; i < TLS_LAYERS; i++) {
        char label[40];
        snprintf(label, sizeof label, "{layer=\"%s\"}", tls_layer_name((enum tls_layer)i));
        put_number(t, "tls_handed_over_total", label, s.tls_total[i]);
    }
    put(t, "accept_backoffs_total", "counter", "pauses for want of descriptors", s.accept_backoffs);
    put(t, "received_bytes_total", "counter", "bytes received", s.bytes_in);
    put(t, "sent_bytes_total", "counter", "bytes sent", s.bytes_out);
    head(t, "connections_closed_total", "counter", "connections closed, by reason");
    for (unsigned i = 0; i < CONN_CLOSE_REASONS; i++) {
        char label[64];
        snprintf(label, sizeof label, "{reason=\"%s\"}", conn_close_name((enum conn_close)i));
        put_number(t, "connections_closed_total", label, s.closed[i]);
    }
}

static void start_metrics(struct job *j)
{
    struct text t = { { arena_alloc(&j->a, TEXT_CAP), TEXT_CAP, 0 } };
    if (!t.w.p) {
        job_end_err(j, ERR_NOMEM);
        return;
    }
    put_hub(&t, j->h);
    if (j->h->throttle)
        put_throttle(&t, j->h->throttle);
    put_store(&t, j->h);
    put_stream(&t, j->h);
    if (roost_of(j)->routing)
        put_routing(&t, roost_of(j)->routing);
    put(&t, "bootstrap_sources", "gauge", "sources of bootstrap requests remembered",
        rate_sources_nr(roost_of(j)->rate));
    put(&t, "telemetry_readers", "gauge", "clients that follow the telemetry",
        atomic_load_explicit(&roost_of(j)->telemetry_nr, memory_order_relaxed));
    if (roost_of(j)->net)
        put_conns(&t, roost_of(j)->net);
    j->bytes = wr_span(&t.w);
    j->bytes_type = "text/plain; version=0.0.4; charset=utf-8";
    job_end(j);
}

static void say_ok(struct job *j)
{
    j->bytes = SPAN("ok\n");
    j->bytes_type = "text/plain; charset=utf-8";
    job_end(j);
}

/* A real write, through the commit: what makes the hub useful is that it can acknowledge. */
static enum err probe(struct job *j, struct store_tx *tx)
{
    uint8_t now[8];
    struct wr w = { now, sizeof now, 0 };
    wr_le64(&w, j->h->wall_ms());
    return tx_meta_put(tx, SPAN("ready-probe"), wr_span(&w));
}

static void start_ready(struct job *j)
{
    job_write(j, probe, say_ok);
}

JOB_HANDLER(metrics_get, .who = JOB_PUBLIC, .start = start_metrics);
JOB_HANDLER(healthz_get, .who = JOB_PUBLIC, .start = say_ok);
JOB_HANDLER(readyz_get, .who = JOB_PUBLIC, .start = start_ready);
