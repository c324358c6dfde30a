/* hub/serve.c - roostd serves a data directory. Only wires the parts; each walk begins in
 * hub/front. To add a front: make it in open_parts, give it a listener or chain its routes, free it in
 * close_parts. */
#include "hub/serve.h"
#include "base/log.h"
#include "hub/background.h"
#include "hub/config/init.h"
#include "hub/config/pki.h"
#include "hub/conn/http_conn.h"
#include "hub/conn/listener.h"
#include "hub/domain/access/access.h"
#include "hub/domain/access/refusals.h"
#include "hub/domain/hub.h"
#include "hub/domain/job/fleet_job.h"
#include "hub/domain/message/c2d_lock.h"
#include "hub/domain/metrics.h"
#include "hub/domain/query/query.h"
#include "hub/domain/throttle.h"
#include "hub/front/amqp/amqp_front.h"
#include "hub/front/azure_http/azure_http.h"
#include "hub/front/blob_http/blob_http.h"
#include "hub/front/mqtt/mqtt_front.h"
#include "hub/front/roost_http/roost_http.h"
#include "hub/front/routing/routing.h"
#include "hub/loop/pool.h"
#include "port/crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

enum {
    WORKERS_MAX = 64,
    CERT_WARN_DAYS = 30,
    KILL_WAIT_MS = 800, /* what is left of the 5 s after stop_s, for connections that are cut off */
    TRIM_NR = 200,      /* beginnings of connections after which memory is given back */
    TIDY_MS = 50,       /* for the workers to give up what they keep, before it is trimmed */
    TURN_MS = 1000      /* how often the main thread looks around when nothing calls it */
};

struct ping { /* does a worker still turn? */
    struct op op;
    _Atomic bool back;
};
struct daemon { /* all parts of a serving hub */
    const char *dir;
    struct config *config;
    int lock_fd;
    unsigned worker_nr;
    struct worker *workers[WORKERS_MAX];
    struct ping pings[WORKERS_MAX];
    struct pool *pool;
    struct hub hub;
    struct hub_metrics metrics;
    struct query_sources queries;
    const char *names[CONFIG_NAMES_MAX + 1];
    struct mqtt_front *mqtt;
    struct amqp_front *amqp;
    struct roost_http *http;
    struct routing *routing;
    struct azure_http *azure;
    struct blob_http *blobs;
    struct http_routes mqtt_upgrade, amqp_upgrade;
    struct background *background;
    struct http_limits http_limits;
    struct tls_ctx *tls;
    uint64_t begun_seen, begun_trimmed; /* beginnings of connections: at the last look, at the last trim */
    bool tidied;                        /* workers have been asked to tidy: trim next */
    struct conn_net *net;
    struct conn_listener *https, *mqtts, *amqps, *plain, *ops;
};

static uint64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t mono_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* dir/file, or file when it is absolute; good until eight others were made. */
static const char *path_in(const char *dir, const char *file)
{
    static char buf[8][PATH_MAX];
    static unsigned at;
    char *p = buf[at++ % 8];
    if (snprintf(p, PATH_MAX, "%s%s%s", file[0] == '/' ? "" : dir, file[0] == '/' ? "" : "/", file) >=
        PATH_MAX)
        p[0] = 0;
    return p;
}

/* ---- the directory, the process ---------------------------------------------------------------------- */

static enum exit_code open_dir(struct daemon *d)
{
    struct stat st;
    const bool there = stat(d->dir, &st) == 0;
    if (!there || !S_ISDIR(st.st_mode)) {
        log_error("hub.dir", "dir=%s reason=\"%s\" hint=\"roostd init %s makes one\"", d->dir,
                  there ? "not a directory" : strerror(errno), there ? "DIR" : d->dir);
        return EXIT_DIR;
    }
    if (access(d->dir, R_OK | W_OK | X_OK) < 0) {
        log_error("hub.dir", "dir=%s reason=\"%s\" hint=\"it belongs to user %u, this is user %u\"", d->dir,
                  strerror(errno), st.st_uid, geteuid());
        return EXIT_DIR;
    }
    if (access(path_in(d->dir, DIR_CONFIG), F_OK) < 0 || access(path_in(d->dir, DIR_DIRECTOR), F_OK) < 0) {
        log_error("hub.dir", "dir=%s reason=\"no hub was made here\" hint=\"roostd init DIR makes one\"",
                  d->dir);
        return EXIT_DIR;
    }
    if (st.st_mode & 0077)
        log_warn("hub.dir", "dir=%s mode=%o reason=\"others can look into it\" hint=\"chmod 700\"", d->dir,
                 st.st_mode & 07777);
    d->lock_fd = open(path_in(d->dir, DIR_LOCK), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock_fd < 0) {
        log_error("hub.lock", "dir=%s reason=\"%s\"", d->dir, strerror(errno));
        return EXIT_DIR;
    }
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        log_error("hub.lock", "dir=%s reason=\"another roostd serves this directory\"", d->dir);
        return EXIT_IN_USE;
    }
    return EXIT_OK;
}

static void raise_descriptors(void)
{
    struct rlimit r, more;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0)
        return;
    more = r;
    if (more.rlim_max < 1048576)
        more.rlim_max = 1048576; /* works with CAP_SYS_RESOURCE only */
    more.rlim_cur = more.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &more) < 0) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static void set_log(const struct config *c)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    for (unsigned i = 0; i < 4; i++)
        if (strcmp(c->hub.log, names[i]) == 0)
            log_set_level((enum log_level)i);
}

/* ---- parts ------------------------------------------------------------------------------------------- */

/* One of those that `roostd renew` makes. */
static bool is_renewed_here(const char *chain)
{
    return strcmp(chain, "tls/server-ec.crt") == 0 || strcmp(chain, "tls/server-rsa.crt") == 0;
}

static enum err open_tls(struct daemon *d, const struct config *c, const struct tls_ctx *before,
                         struct tls_ctx **out)
{
    struct tls_config t = { .session_timeout_s = (uint32_t)c->tls.session_hours * 3600,
                            .session_cache_nr = (uint32_t)c->tls.session_cache,
                            .ask_client_certificate = c->tls.ask_client_certificate };
    for (unsigned i = 0; i < TLS_LAYERS; i++)
        if (strcmp(c->tls.record_layer, tls_layer_name((enum tls_layer)i)) == 0)
            t.layer = (enum tls_layer)i;
    const char *pairs[2][2] = { { c->tls.ec_certificate, c->tls.ec_key },
                                { c->tls.rsa_certificate, c->tls.rsa_key } };
    for (int i = 0; i < 2; i++) {
        long days;
        if (!pairs[i][0][0])
            continue;
        t.chain_files[i] = path_in(d->dir, pairs[i][0]);
        t.key_files[i] = path_in(d->dir, pairs[i][1]);
        if (pki_days_left(t.chain_files[i], &days) == ERR_OK && days < CERT_WARN_DAYS) {
            if (is_renewed_here(pairs[i][0]))
                log_warn("tls.expires", "file=%s days=%ld hint=\"roostd renew %s\"", t.chain_files[i], days,
                         d->dir);
            else
                log_warn("tls.expires", "file=%s days=%ld hint=\"renew it where it comes from, then SIGHUP\"",
                         t.chain_files[i], days);
        }
        struct stat st;
        if (stat(t.key_files[i], &st) == 0 && st.st_mode & (S_IROTH | S_IWOTH | S_IWGRP))
            log_warn("tls.key", "file=%s mode=%o reason=\"others can read or change it\" hint=\"chmod 600\"",
                     t.key_files[i], st.st_mode & 07777);
    }
    return tls_ctx_new(out, &t, before);
}

static void set_hub(struct daemon *d)
{
    static const char *const loopback[] = { "hub.localhost", "localhost", "127.0.0.1", "::1" };
    const struct config *c = d->config;
    struct hub *h = &d->hub;
    size_t n = 0;
    for (unsigned i = 0; i < c->names_count; i++)
        d->names[n++] = c->names[i];
    for (unsigned i = 0; !c->names_count && i < 4; i++)
        d->names[n++] = loopback[i];
    h->crypto = &port_crypto;
    h->names = d->names;
    h->wall_ms = wall_ms;
    h->started_ms = wall_ms();
    h->metrics = &d->metrics;
    h->queries = &d->queries;
    h->settings = (struct hub_settings){ .c2d_ttl_s = (uint32_t)c->messages.c2d_ttl_s,
                                         .c2d_ttl_max_s = (uint32_t)c->messages.c2d_ttl_max_s,
                                         .c2d_depth_max = (uint32_t)c->messages.c2d_depth,
                                         .c2d_deliveries_max = (uint32_t)c->messages.c2d_deliveries,
                                         .c2d_lock_s = (uint32_t)c->messages.c2d_lock_s,
                                         .feedback_ttl_s = (uint32_t)c->messages.feedback_ttl_s,
                                         .feedback_deliveries_max = (uint32_t)c->messages.feedback_deliveries,
                                         .feedback_lock_s = (uint32_t)c->messages.feedback_lock_s,
                                         .c2d_clean_discards = c->messages.c2d_clean_discards,
                                         .methods_in_flight = (uint32_t)c->messages.methods_in_flight,
                                         .method_null_empty = c->messages.method_null_empty,
                                         .sas_skew_s = (uint32_t)c->access.skew_s,
                                         .sas_grace_s = (uint32_t)c->access.grace_s,
                                         .failures_per_minute = (uint32_t)c->access.failures_per_minute,
                                         .failures_per_source = (uint32_t)c->access.failures_per_source,
                                         .failures_count_loopback = c->limits.count_loopback,
                                         .message_max = (uint32_t)c->messages.telemetry_bytes,
                                         .consumer_groups = c->stream.consumer_groups,
                                         .routes_max = (uint32_t)c->routing.routes,
                                         .endpoints_max = (uint32_t)c->routing.endpoints,
                                         .enrichments_max = (uint32_t)c->routing.enrichments,
                                         .bootstrap_open = c->bootstrap.open,
                                         .bootstrap_rate = (uint32_t)c->bootstrap.rate_per_minute,
                                         .bootstrap_burst = (uint32_t)c->bootstrap.burst,
                                         .pending_retry_s = (uint32_t)c->bootstrap.retry_s,
                                         .ticket_ttl_s = (uint32_t)c->updates.ticket_ttl_s,
                                         .upload_container = c->uploads.container,
                                         .registry_container = c->uploads.registry_container,
                                         .upload_ttl_s = (uint32_t)c->uploads.ttl_s,
                                         .upload_retain_days = (uint32_t)c->uploads.retain_days,
                                         .upload_blob_bytes = c->uploads.blob_bytes,
                                         .upload_device_bytes = c->uploads.device_bytes,
                                         .upload_total_bytes = c->uploads.total_bytes,
                                         .upload_notify = c->uploads.notify,
                                         .note_ttl_s = (uint32_t)c->uploads.notification_ttl_s,
                                         .note_deliveries_max = (uint32_t)c->uploads.notification_deliveries,
                                         .note_lock_s = (uint32_t)c->uploads.notification_lock_s,
                                         .mirrors = { c->updates.mirror[0] ? c->updates.mirror : NULL },
                                         .checkin_s = (uint32_t)c->updates.checkin_s };
}

struct start_op { /* what the store forgets at each start */
    struct store_op op;
    uint64_t at_ms;
    bool done;
};
static enum err nobody_is_connected(struct store_tx *tx, struct store_op *self)
{
    return tx_report_clear_connected(tx, ((struct start_op *)(void *)self)->at_ms);
}
static void start_done(struct op *op)
{
    ((struct start_op *)(void *)op)->done = true;
}

static enum err forget_connections(struct store *s, uint64_t at_ms)
{
    struct mailbox home;
    struct start_op op = { .op = { .op = { .home = &home, .done = start_done }, .run = nobody_is_connected },
                           .at_ms = at_ms };
    if (mailbox_init(&home) != ERR_OK)
        return ERR_IO;
    store_write(s, &op.op);
    while (!op.done) {
        mailbox_wait(&home, -1);
        for (struct op *o = mailbox_take(&home), *next; o; o = next) {
            next = o->next;
            o->done(o);
        }
    }
    mailbox_fini(&home);
    return op.op.op.err;
}

static enum exit_code failed(const char *part, enum err e)
{
    log_error("hub.start", "part=%s err=%s", part, err_name(e));
    return e == ERR_EXISTS ? EXIT_IN_USE : EXIT_FAILED;
}

static enum err open_throttle(struct daemon *d)
{
    const struct config *c = d->config;
    struct throttle_config t = { .burst_s = (uint32_t)c->rates.burst_s,
                                 .wait_ms = (uint32_t)c->rates.wait_ms,
                                 .policies = span_str(c->rates.policies) };
    struct span bad;
#define X(NAME, name) t.per_minute[THROTTLE_##NAME] = (uint32_t)c->rates.name;
    THROTTLE_CLASSES(X)
#undef X
    return throttle_new(&d->hub.throttle, &t, &bad);
}

static enum exit_code open_parts(struct daemon *d)
{
    const struct config *c = d->config;
    struct stream_config sc = { .dir = path_in(d->dir, DIR_STREAM),
                                .partitions = (uint32_t)c->stream.partitions,
                                .segment_bytes = c->stream.segment_bytes,
                                .retain_ms = c->stream.retain_hours * 3600000,
                                .retain_bytes = c->stream.retain_bytes };
    enum err e;
    set_hub(d);
    if (pki_pin(path_in(d->dir, c->tls.ca_certificate), d->hub.ca_pin) ||
        pki_ed25519_load(path_in(d->dir, DIR_DIRECTOR), d->hub.director_seed, d->hub.director_pub))
        return EXIT_DIR;
    if ((e = open_tls(d, c, NULL, &d->tls)))
        return failed("tls", e);
    if ((e = store_sqlite_open(&d->hub.store, path_in(d->dir, DIR_STORE), (unsigned)c->store.readers)) ||
        (e = forget_connections(d->hub.store, d->hub.started_ms)))
        return failed("store", e);
    store_outbox_limit(d->hub.store, c->routing.events_bytes);
    struct span bad;
    if ((e = query_indexes_parse(&d->queries, span_str(c->query.indexed_paths), &bad)) ||
        (e = query_indexes_apply(d->hub.store, &d->queries)))
        return failed("query", e);
    if ((e = stream_segment_open(&d->hub.stream, &sc)))
        return failed("stream", e);
    if ((e = routing_new(&d->routing, &d->hub,
                         &(struct routing_config){ .dir = path_in(d->dir, DIR_ROUTING),
                                                   .files = path_in(d->dir, c->routing.files),
                                                   .log_bytes = c->stream.retain_bytes })))
        return failed("routing", e);
    if ((e = blob_dir_open(&d->hub.blob, path_in(d->dir, DIR_BLOB))))
        return failed("blob", e);
    routing_note_left(path_in(d->dir, DIR_FILES));
    if ((e = files_open(&d->hub.files, path_in(d->dir, DIR_FILES), c->uploads.keep_free_bytes)))
        return failed("files", e);
    if ((e = pool_new(&d->pool, (unsigned)c->blobs.threads)))
        return failed("pool", e);
    if ((e = access_new(&d->hub.access, d->hub.crypto, ACCESS_CACHE_DEFAULT)))
        return failed("access", e);
    if ((e = c2d_locks_new(&d->hub.c2d_locks, d->hub.crypto, 0)))
        return failed("locks", e);
    if ((e = refusals_new(&d->hub.refusals, &d->hub)))
        return failed("refusals", e);
    if ((e = open_throttle(d)))
        return failed("rates", e);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned want = c->hub.workers ? (unsigned)c->hub.workers : cores < 1 ? 1 : (unsigned)cores;
    want = want > WORKERS_MAX ? WORKERS_MAX : want;
    if ((e = bus_local_new(&d->hub.bus, want)))
        return failed("bus", e);
    for (; d->worker_nr < want; d->worker_nr++) {
        struct worker **w = &d->workers[d->worker_nr];
        if ((e = worker_new(w, d->worker_nr)))
            return failed("worker", e);
        bus_register(d->hub.bus, d->worker_nr, worker_mailbox(*w), conn_on_bus_wake, *w);
        bus_on_messages(d->hub.bus, d->worker_nr, conn_on_bus_message);
    }
    struct conn_limits l = { .connections_max = (uint32_t)c->limits.connections,
                             .per_source_max = (uint32_t)c->limits.connections_per_source,
                             .per_source_loopback = c->limits.count_loopback,
                             .handshake_ms = (uint32_t)c->deadlines.handshake_s * 1000,
                             .first_packet_ms = (uint32_t)c->deadlines.first_packet_s * 1000,
                             .slow_ms = (uint32_t)c->deadlines.slow_s * 1000,
                             .out_max = (uint32_t)c->limits.unsent_bytes };
    if ((e = conn_net_new(&d->net, &l, d->workers, d->worker_nr, (uint16_t)c->hub.node)))
        return failed("connections", e);
    if ((e = mqtt_front_new(&d->mqtt, &d->hub, d->worker_nr)))
        return failed("mqtt", e);
    if ((e = amqp_front_new(&d->amqp, &d->hub, d->worker_nr)))
        return failed("amqp", e);
    if ((e = roost_http_new(&d->http, &d->hub, d->pool, d->net)))
        return failed("http", e);
    roost_http_set_routing(d->http, d->routing);
    if ((e = azure_http_new(&d->azure, &d->hub, d->pool)))
        return failed("azure-http", e);
    if ((e = blob_http_new(&d->blobs, &d->hub, d->pool)))
        return failed("uploads", e);
    d->queries.jobs = fleet_job_records;
    if ((e = background_new(&d->background, &d->hub, &d->queries, d->workers[0])))
        return failed("background", e);
    return EXIT_OK;
}

/* After the last connection has ended. Workers first: what they still want is not asked of closed parts. */
static void close_parts(struct daemon *d)
{
    for (unsigned i = 0; i < d->worker_nr; i++)
        worker_stop(d->workers[i]);
    background_stop(d->background);
    routing_stop(d->routing);
    pool_free(d->pool);
    if (d->hub.stream)
        stream_close(d->hub.stream);
    if (d->hub.store)
        store_close(d->hub.store);
    routing_free(d->routing); /* after the store, whose last commits ring for it */
    conn_net_free(d->net);
    mqtt_front_free(d->mqtt);
    amqp_front_free(d->amqp);
    roost_http_free(d->http);
    azure_http_free(d->azure);
    blob_http_free(d->blobs);
    background_free(d->background);
    for (unsigned i = 0; i < d->worker_nr; i++)
        worker_free(d->workers[i]);
    if (d->hub.bus)
        bus_free(d->hub.bus);
    if (d->hub.blob)
        blob_close(d->hub.blob);
    files_close(d->hub.files);
    access_free(d->hub.access);
    c2d_locks_free(d->hub.c2d_locks);
    refusals_free(d->hub.refusals);
    throttle_free(d->hub.throttle);
    tls_ctx_unref(d->tls);
    memset(d->hub.director_seed, 0, sizeof d->hub.director_seed);
    config_free(d->config);
    if (d->lock_fd >= 0)
        close(d->lock_fd); /* and with it the lock */
}

/* ---- listeners --------------------------------------------------------------------------------------- */

/* False: it should listen and does not. */
static bool open_listener(struct daemon *d, const char *name, bool enabled, const char *address,
                          uint64_t port, struct tls_ctx *tls, const struct conn_proto *proto, void *ctx,
                          bool exempt, struct conn_listener **out)
{
    struct conn_listen l = { name, address, (uint16_t)port, tls, proto, ctx, exempt };
    if (!enabled)
        return true;
    enum err e = conn_net_listen(d->net, &l, out);
    if (!e) {
        log_info("listener.open", "name=%s address=%s port=%u tls=%s", name, address,
                 conn_listener_port(*out), tls ? "yes" : "no");
        return true;
    }
    if (e == ERR_DENIED)
        log_error("listener.denied",
                  "name=%s port=%llu hint=\"ports below 1024 need a permission: "
                  "AmbientCapabilities=CAP_NET_BIND_SERVICE "
                  "in the systemd unit, or setcap cap_net_bind_service=+ep on roostd, or sysctl "
                  "net.ipv4.ip_unprivileged_port_start=%llu; or choose another port in %s\"",
                  name, (unsigned long long)port, (unsigned long long)port, DIR_CONFIG);
    else if (e == ERR_EXISTS)
        log_error("listener.in_use", "name=%s address=%s port=%llu hint=\"another program listens there\"",
                  name, address, (unsigned long long)port);
    else
        log_error("listener.failed", "name=%s address=%s port=%llu err=%s", name, address,
                  (unsigned long long)port, err_name(e));
    return false;
}

static uint16_t told_port(uint64_t public_port, uint64_t port, const struct conn_listener *l)
{
    return (uint16_t)(public_port ? public_port : l ? conn_listener_port(l) : port);
}

static enum exit_code open_listeners(struct daemon *d)
{
    const struct config *c = d->config;
    struct http_routes *https = roost_http_routes(d->http), *plain = roost_http_plain_routes(d->http),
                       *ops = roost_http_ops_routes(d->http);
    static const struct http_route no_routes[] = { { 0, NULL, NULL, 0 } };
    d->http_limits = (struct http_limits){ .idle_ms = (uint32_t)c->deadlines.http_idle_s * 1000,
                                           .head_ms = (uint32_t)c->deadlines.http_head_s * 1000,
                                           .body_ms = (uint32_t)c->deadlines.http_body_s * 1000,
                                           .bodies_max = c->limits.http_bodies_bytes };
    d->mqtt_upgrade = (struct http_routes){ .table = no_routes, .ctx = d->mqtt, .on_upgrade = mqtt_upgrade };
    https->next = azure_http_routes(d->azure);
    d->amqp_upgrade = (struct http_routes){ .table = no_routes, .ctx = d->amqp, .on_upgrade = amqp_upgrade };
    https->next->next = &d->mqtt_upgrade;
    d->mqtt_upgrade.next = &d->amqp_upgrade;
    d->amqp_upgrade.next = blob_http_routes(d->blobs);
    https->limits = plain->limits = ops->limits = &d->http_limits;
    bool https_good = open_listener(d, "https", c->https.enabled, c->https.address, c->https.port,
                                    c->https.tls ? d->tls : NULL, &http_proto, https, false, &d->https);
    bool mqtts_good = open_listener(d, "mqtts", c->mqtts.enabled, c->mqtts.address, c->mqtts.port,
                                    c->mqtts.tls ? d->tls : NULL, &mqtt_proto, d->mqtt, false, &d->mqtts);
    bool amqps_good = open_listener(d, "amqps", c->amqps.enabled, c->amqps.address, c->amqps.port,
                                    c->amqps.tls ? d->tls : NULL, &amqp_proto, d->amqp, false, &d->amqps);
    bool plain_good = open_listener(d, "http", c->http.enabled, c->http.address, c->http.port, NULL,
                                    &http_proto, plain, false, &d->plain);
    open_listener(d, "ops", c->ops.enabled, c->ops.address, c->ops.port, NULL, &http_proto, ops, true,
                  &d->ops);
    d->hub.https_port = told_port(c->https.public_port, c->https.port, d->https);
    d->hub.mqtt_port = told_port(c->mqtts.public_port, c->mqtts.port, d->mqtts);
    d->hub.amqp_port = told_port(c->amqps.public_port, c->amqps.port, d->amqps);
    d->hub.http_port =
        c->http.enabled && d->plain ? told_port(c->http.public_port, c->http.port, d->plain) : 0;
    if (!d->https && !d->mqtts && !d->amqps && !d->plain) {
        log_error("hub.start", "reason=\"nothing to listen on\"");
        return EXIT_NO_LISTENER;
    }
    if (!https_good || !mqtts_good || !amqps_good || !plain_good)
        log_warn("hub.partial", "https=%s mqtts=%s amqps=%s http=%s reason=\"going on with what works\"",
                 d->https ? "yes" : "no", d->mqtts ? "yes" : "no", d->amqps ? "yes" : "no",
                 d->plain ? "yes" : "no");
    return EXIT_OK;
}

/* ---- while it serves --------------------------------------------------------------------------------- */

static void on_ping(struct op *op)
{
    atomic_store(&((struct ping *)(void *)op)->back, true);
}

/* Tells systemd that all is well only when every worker has turned since the last time. */
static void watchdog(struct daemon *d)
{
    for (unsigned i = 0; i < d->worker_nr; i++)
        if (!atomic_load(&d->pings[i].back))
            return;
    sd_notify(0, "WATCHDOG=1");
    for (unsigned i = 0; i < d->worker_nr; i++) {
        atomic_store(&d->pings[i].back, false);
        worker_post(d->workers[i], &d->pings[i].op);
    }
}

static void reload(struct daemon *d)
{
    struct config *c = NULL;
    struct config_error why;
    struct tls_ctx *tls = NULL;
    size_t at = 0;
    const char *name;
    char note[64];
    snprintf(note, sizeof note, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)mono_ms() * 1000);
    sd_notify(0, note);
    if (config_load(&c, path_in(d->dir, DIR_CONFIG), &why)) {
        log_error("config.reload", "reason=\"%s\" hint=\"the configuration before stays in force\"",
                  why.text);
    } else {
        set_log(c);
        while ((name = config_restart_needed(d->config, c, &at)))
            log_warn("config.restart_needed", "value=%s", name);
    }
    if (open_tls(d, c ? c : d->config, d->tls, &tls)) {
        log_error("tls.reload", "hint=\"the certificates before stay in force\"");
    } else {
        struct conn_listener *const with_tls[] = { d->config->https.tls ? d->https : NULL,
                                                   d->config->mqtts.tls ? d->mqtts : NULL,
                                                   d->config->amqps.tls ? d->amqps : NULL };
        /* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers is meant */
        for (size_t i = 0; i < sizeof with_tls / sizeof *with_tls; i++)
            if (with_tls[i])
                conn_listener_set_tls(with_tls[i], tls);
        tls_ctx_unref(d->tls);
        d->tls = tls;
        log_info("hub.reloaded", "dir=%s what=%s", d->dir, c ? "configuration,certificates" : "certificates");
    }
    config_free(c);
    sd_notify(0, "READY=1");
}

static void stop(struct daemon *d)
{
    uint64_t end = mono_ms() + d->config->deadlines.stop_s * 1000;
    struct timespec pause = { 0, 5000000 };
    log_info("hub.stopping", "connections=%llu", (unsigned long long)conn_net_open_nr(d->net));
    sd_notify(0, "STOPPING=1");
    bus_stop(d->hub.bus); /* requests that wait for a device get their answers */
    conn_net_drain(d->net);
    while (conn_net_open_nr(d->net) && mono_ms() < end)
        nanosleep(&pause, NULL);
    conn_net_kill(d->net);
    end = mono_ms() + KILL_WAIT_MS;
    while (conn_net_open_nr(d->net) && mono_ms() < end)
        nanosleep(&pause, NULL);
}

/* Handshakes and logins are large and short: when a wave of them has passed, the workers tidy, and then the
 * pages it leaves go back to the system. */
static void trim(struct daemon *d)
{
    struct conn_stats s;
    conn_net_get_stats(d->net, &s);
    uint64_t nr = s.accepted + s.handshakes + s.handshake_failed;
    if (d->tidied) {
        malloc_trim(0);
        d->tidied = false;
        d->begun_trimmed = nr;
    } else if (nr == d->begun_seen && nr - d->begun_trimmed >= TRIM_NR) {
        conn_net_tidy(d->net);
        d->tidied = true;
    }
    d->begun_seen = nr;
}

static enum exit_code serve_until_stopped(struct daemon *d, const sigset_t *signals)
{
    uint64_t watchdog_us = 0;
    int wait_ms = TURN_MS;
    struct rlimit r = { 0, 0 };
    if (routing_start(d->routing))
        return failed("routing", ERR_NOMEM);
    for (unsigned i = 0; i < d->worker_nr; i++) {
        enum err e;
        d->pings[i].op.done = on_ping;
        atomic_init(&d->pings[i].back, true);
        if (i == 0) {
            roost_http_housekeep(d->http, d->workers[0]);
            blob_http_housekeep(d->blobs, d->workers[0]);
            background_start(d->background);
        }
        if ((e = worker_start(d->workers[i])))
            return failed("worker", e);
    }
    getrlimit(RLIMIT_NOFILE, &r);
    log_info("hub.capacity", "descriptors=%llu connections=%u workers=%u", (unsigned long long)r.rlim_cur,
             conn_net_connections_max(d->net), d->worker_nr);
    log_info("hub.ready", "name=%s version=%s pid=%d", d->names[0], ROOST_VERSION, (int)getpid());
    if (sd_watchdog_enabled(0, &watchdog_us) > 0 && watchdog_us / 3000 < TURN_MS)
        wait_ms = (int)(watchdog_us / 3000) + 1;
    sd_notify(0, "READY=1");
    for (;;) {
        int ms = d->tidied ? TIDY_MS : wait_ms;
        struct timespec wait = { ms / 1000, (ms % 1000) * 1000000L };
        int sig = sigtimedwait(signals, NULL, &wait);
        if (sig == SIGHUP)
            reload(d);
        else if (sig == SIGTERM || sig == SIGINT)
            break;
        if (watchdog_us)
            watchdog(d);
        trim(d);
    }
    stop(d);
    return EXIT_OK;
}

enum exit_code serve(const char *dir)
{
    struct daemon *d = calloc(1, sizeof *d);
    struct config_error why;
    sigset_t signals;
    if (!d)
        return EXIT_FAILED;
    d->dir = dir;
    d->lock_fd = -1;
    log_init(LOG_LEVEL_INFO, stderr);
    umask(0077);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow (LimitFSIZE) is as a full disk: EFBIG, no end */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread: only this one takes them */
    enum exit_code code = open_dir(d);
    if (!code && config_load(&d->config, path_in(dir, DIR_CONFIG), &why)) {
        log_error("config.error", "reason=\"%s\"", why.text);
        code = EXIT_CONFIG;
    }
    if (!code) {
        set_log(d->config);
        raise_descriptors();
        code = open_parts(d);
    }
    if (!code)
        code = open_listeners(d);
    if (!code)
        code = serve_until_stopped(d, &signals);
    close_parts(d);
    if (!code)
        log_info("hub.stopped", "dir=%s", dir);
    free(d);
    return code;
}
