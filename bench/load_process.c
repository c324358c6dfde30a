/* bench/load_process.c - one process of the load generator: an epoll loop over its share of the connections.
 */
#include "bench/load.h"

#include "core/mqtt/mqtt_packet.h"
#include "core/sas/sas.h"
#include "port/crypto.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct process {
    const struct load_options *o;
    struct load_shared *shared;
    SSL_CTX *tls;
    SSL_SESSION *session; /* of an earlier handshake, for --resume */
    struct load_conn *conns;
    struct histogram *latency;
    FILE *ack_log;
    int epoll, nr, opening, open;
    uint64_t last_rx_us;
};

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static void conn_open(struct process *p, struct load_conn *c);

/* It ended: by our will, the server's, or an error. */
static void conn_end(struct process *p, struct load_conn *c)
{
    if (c->state == CONN_OPEN)
        p->open--;
    else if (c->state != CONN_DEAD && c->state != CONN_IDLE)
        p->opening--;
    if (c->ssl) {
        /* Freed in the middle, OpenSSL would mark the session as not to be resumed. */
        SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(c->ssl);
    }
    if (c->fd >= 0)
        close(c->fd);
    free(c->out);
    c->ssl = NULL;
    c->out = NULL;
    c->fd = -1;
    c->out_len = c->out_off = c->in_len = 0;
    c->inflight = 0;
    c->state = CONN_DEAD;
}

static void conn_broken(struct process *p, struct load_conn *c)
{
    if (!atomic_load(&p->shared->stop))
        atomic_fetch_add(&p->shared->broken, 1);
    conn_end(p, c);
}

static void arm(struct process *p, struct load_conn *c)
{
    bool want = c->state == CONN_TCP || c->want_write || c->out_off < c->out_len;
    if (want == c->writable_armed)
        return;
    struct epoll_event ev = { .events = EPOLLIN | (want ? EPOLLOUT : 0u), .data.ptr = c };
    epoll_ctl(p->epoll, EPOLL_CTL_MOD, c->fd, &ev);
    c->writable_armed = want;
}

static void flush(struct process *p, struct load_conn *c)
{
    c->want_write = false;
    while (c->out_off < c->out_len) {
        ssize_t n;
        if (c->ssl) {
            n = SSL_write(c->ssl, c->out + c->out_off, (int)(c->out_len - c->out_off));
            if (n <= 0) {
                int e = SSL_get_error(c->ssl, (int)n);
                if (e == SSL_ERROR_WANT_WRITE || e == SSL_ERROR_WANT_READ)
                    break;
                conn_broken(p, c);
                return;
            }
        } else {
            n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
            if (n < 0) {
                if (errno == EAGAIN)
                    break;
                conn_broken(p, c);
                return;
            }
        }
        c->out_off += (size_t)n;
    }
    if (c->out_off == c->out_len) { /* an idle connection keeps no buffer */
        free(c->out);
        c->out = NULL;
        c->out_len = c->out_off = 0;
    }
    arm(p, c);
}

/* Room for n more unsent bytes. */
static struct wr out_room(struct load_conn *c, size_t n)
{
    uint8_t *grown = realloc(c->out, c->out_len + n);
    if (!grown)
        abort();
    c->out = grown;
    return (struct wr){ c->out + c->out_len, n, 0 };
}

static void client_id(const struct load_options *o, const struct load_conn *c, char *buf, size_t cap)
{
    snprintf(buf, cap, "%s%d", o->prefix, c->index);
}

void load_connect_encode(const struct load_options *o, const char *id, struct wr *w)
{
    char user[256], resource[256];
    uint8_t token[SAS_TOKEN_MAX];
    struct wr t = { token, sizeof token, 0 };
    struct mqtt_connect m = { .client_id = span_str(id), .keep_alive_s = 1000, .clean = !o->persistent };
    if (!strcmp(o->login, "hub")) {
        snprintf(user, sizeof user, "%s/%s/?api-version=2021-04-12", o->name, id);
        snprintf(resource, sizeof resource, "%s/devices/%s", o->name, id);
        sas_token_encode(&t, &port_crypto, span_str(resource), span_of(o->key, o->key_len),
                         (uint64_t)time(NULL) + 86400, span_str(o->policy));
        m.has_username = m.has_password = true;
        m.username = span_str(user);
        m.password = wr_span(&t);
    } else if (!strcmp(o->login, "password")) {
        m.has_username = m.has_password = true;
        m.username = SPAN("bench");
        m.password = span_of(o->key, o->key_len);
    }
    mqtt_connect_encode(w, &m);
    assert(wr_ok(w));
}

static void send_connect(struct process *p, struct load_conn *c)
{
    char id[64];
    client_id(p->o, c, id, sizeof id);
    struct wr w = out_room(c, 2048);
    load_connect_encode(p->o, id, &w);
    c->out_len += w.len;
    c->state = CONN_CONNACK;
    flush(p, c);
}

static void send_subscribe(struct process *p, struct load_conn *c)
{
    char own[160], id[64];
    struct mqtt_filter f[4] = { { SPAN_NONE, 1 } };
    size_t nr = 1;
    client_id(p->o, c, id, sizeof id);
    if (!strcmp(p->o->sub, "hub")) {
        snprintf(own, sizeof own, "devices/%s/messages/devicebound/#", id);
        f[1] = (struct mqtt_filter){ SPAN("$iothub/methods/POST/#"), 0 };
        f[2] = (struct mqtt_filter){ SPAN("$iothub/twin/res/#"), 0 };
        f[3] = (struct mqtt_filter){ SPAN("$iothub/twin/PATCH/properties/desired/#"), 0 };
        nr = 4;
    } else if (p->o->mode == LOAD_SUBSCRIBE || p->o->mode == LOAD_DRAIN) {
        snprintf(own, sizeof own, "q/%d", c->index % p->o->queues);
    } else {
        snprintf(own, sizeof own, "devices/%s/messages/devicebound/#", id);
    }
    f[0].filter = span_str(own);
    struct wr w = out_room(c, 512);
    mqtt_subscribe_encode(&w, 1, f, nr);
    assert(wr_ok(&w));
    c->out_len += w.len;
    c->state = CONN_SUBACK;
    flush(p, c);
}

/* The payload begins with 16 hex digits: connection and number, so that a lost message has a name. */
static void fill_window(struct process *p, struct load_conn *c)
{
    const struct load_options *o = p->o;
    char topic[160], id[64], payload[8192];
    if (c->state != CONN_OPEN || atomic_load_explicit(&p->shared->stop, memory_order_relaxed) ||
        (o->qos == 0 && c->out_len > 65536))
        return;
    client_id(o, c, id, sizeof id);
    if (!strcmp(o->topics, "queue"))
        snprintf(topic, sizeof topic, "q/%d", c->index % o->queues);
    else
        snprintf(topic, sizeof topic, "devices/%s/messages/events/", id);
    memset(payload, 'x', (size_t)o->size);
    int room = o->qos ? o->window - c->inflight : o->window;
    for (; room > 0; room--) {
        char head[17];
        snprintf(head, sizeof head, "%08x%08x", (unsigned)c->index, (unsigned)c->seq);
        memcpy(payload, head, 16);
        struct mqtt_publish m = { .topic = span_str(topic),
                                  .payload = span_of(payload, (size_t)o->size),
                                  .qos = (uint8_t)o->qos,
                                  .packet_id = o->qos ? (uint16_t)(c->seq % 60000u + 1) : 0 };
        struct wr w = out_room(c, (size_t)o->size + 256);
        mqtt_publish_encode(&w, &m);
        assert(wr_ok(&w));
        c->out_len += w.len;
        if (o->qos) {
            c->sent_us[c->seq % (unsigned)o->window] = now_us();
            c->inflight++;
        }
        c->seq++;
        atomic_fetch_add_explicit(&p->shared->sent, 1, memory_order_relaxed);
    }
    flush(p, c);
}

static void now_open(struct process *p, struct load_conn *c)
{
    const struct load_options *o = p->o;
    c->state = CONN_OPEN;
    p->opening--;
    p->open++;
    atomic_fetch_add_explicit(&p->shared->connected, 1, memory_order_relaxed);
    if (c->ssl && SSL_session_reused(c->ssl))
        atomic_fetch_add_explicit(&p->shared->resumed, 1, memory_order_relaxed);
    if (o->mode == LOAD_SUBSCRIBE || o->mode == LOAD_CONNECT) {
        if (o->resume && c->ssl && !p->session) {
            /* TLS 1.3 tickets come behind the handshake: they have been read with the CONNACK. */
            p->session = SSL_get1_session(c->ssl);
        }
        struct wr w = out_room(c, 2);
        mqtt_empty_encode(&w, MQTT_DISCONNECT);
        c->out_len += w.len;
        flush(p, c);
        if (c->state == CONN_OPEN)
            conn_end(p, c);
        if (o->mode == LOAD_CONNECT && !atomic_load(&p->shared->stop))
            conn_open(p, c);
    }
}

static void acknowledged(struct process *p, struct load_conn *c, uint16_t packet_id)
{
    uint32_t seq = c->seq - 1; /* the newest number that has this identifier */
    while (seq % 60000u + 1 != packet_id && seq && c->seq - seq <= (unsigned)p->o->window)
        seq--;
    if (!c->inflight || seq % 60000u + 1 != packet_id) {
        conn_broken(p, c);
        return;
    }
    c->inflight--;
    histogram_add(p->latency, now_us() - c->sent_us[seq % (unsigned)p->o->window]);
    atomic_fetch_add_explicit(&p->shared->acked, 1, memory_order_relaxed);
    if (p->ack_log)
        fprintf(p->ack_log, "%08x%08x\n", (unsigned)c->index, (unsigned)seq);
}

static bool on_packet(struct process *p, struct load_conn *c, const struct mqtt_packet *k)
{
    struct mqtt_connack ack;
    struct mqtt_publish m;
    uint16_t id;
    switch (k->type) {
    case MQTT_CONNACK:
        if (mqtt_connack_decode(k, &ack) || ack.code) {
            atomic_fetch_add(&p->shared->refused, 1);
            conn_end(p, c);
            return false;
        }
        if (strcmp(p->o->sub, "none") && p->o->mode != LOAD_DRAIN)
            send_subscribe(p, c);
        else
            now_open(p, c);
        break;
    case MQTT_SUBACK:
        now_open(p, c);
        break;
    case MQTT_PUBACK:
        if (!mqtt_id_decode(k, &id))
            acknowledged(p, c, id);
        break;
    case MQTT_PUBLISH:
        if (mqtt_publish_decode(k, &m))
            return false;
        atomic_fetch_add_explicit(&p->shared->received, 1, memory_order_relaxed);
        if (p->ack_log && m.payload.n >= 16)
            fprintf(p->ack_log, "%.16s\n", (const char *)m.payload.p);
        if (m.qos) {
            struct wr w = out_room(c, 8);
            mqtt_id_encode(&w, MQTT_PUBACK, m.packet_id);
            c->out_len += w.len;
        }
        break;
    default:
        break;
    }
    return c->state != CONN_DEAD && c->state != CONN_TCP;
}

static void on_readable(struct process *p, struct load_conn *c)
{
    for (;;) {
        ssize_t n;
        if (c->ssl) {
            n = SSL_read(c->ssl, c->in + c->in_len, (int)(sizeof c->in - c->in_len));
            if (n <= 0) {
                int e = SSL_get_error(c->ssl, (int)n);
                if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
                    break;
                conn_broken(p, c);
                return;
            }
        } else {
            n = recv(c->fd, c->in + c->in_len, sizeof c->in - c->in_len, 0);
            if (n == 0 || (n < 0 && errno != EAGAIN)) {
                conn_broken(p, c);
                return;
            }
            if (n < 0)
                break;
        }
        p->last_rx_us = now_us();
        c->in_len += (size_t)n;
        struct span in = span_of(c->in, c->in_len);
        struct mqtt_packet k;
        size_t used;
        int fd = c->fd;
        while (!mqtt_packet_decode(in, sizeof c->in - 8, &k, &used)) {
            in = span_skip(in, used);
            if (!on_packet(p, c, &k) || c->fd != fd)
                return;
        }
        memmove(c->in, in.p, in.n);
        c->in_len = in.n;
    }
    if (c->out_len > c->out_off)
        flush(p, c);
    if (p->o->mode == LOAD_PUBLISH && atomic_load_explicit(&p->shared->go, memory_order_relaxed))
        fill_window(p, c);
}

static void tls_go_on(struct process *p, struct load_conn *c)
{
    int r = SSL_do_handshake(c->ssl);
    if (r == 1) {
        send_connect(p, c);
        return;
    }
    int e = SSL_get_error(c->ssl, r);
    if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE) {
        conn_broken(p, c);
        return;
    }
    c->want_write = e == SSL_ERROR_WANT_WRITE;
    arm(p, c);
}

static void conn_open(struct process *p, struct load_conn *c)
{
    const struct load_options *o = p->o;
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)o->port) };
    int one = 1;
    inet_pton(AF_INET, o->host, &to.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        perror("socket");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (o->spread) { /* 28 000 ports a source address are not enough: take many addresses */
        struct sockaddr_in from = { .sin_family = AF_INET };
        from.sin_addr.s_addr = htonl(0x7f010001u + (unsigned)(c->index % 250));
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) {
            perror("bind");
            exit(1);
        }
    }
    if (o->mode == LOAD_CONNECT) { /* closed by us all the time: leave no TIME_WAIT behind */
        struct linger hard = { 1, 0 };
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    }
    c->state = CONN_TCP;
    c->want_write = false;
    c->writable_armed = true;
    p->opening++;
    struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
    epoll_ctl(p->epoll, EPOLL_CTL_ADD, c->fd, &ev);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        conn_broken(p, c);
}

static void on_event(struct process *p, struct load_conn *c, uint32_t events)
{
    if (c->state == CONN_DEAD)
        return;
    if (c->state == CONN_TCP && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        int err = 0;
        socklen_t n = sizeof err;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &n);
        if (err) {
            conn_broken(p, c);
            return;
        }
        if (!p->tls) {
            send_connect(p, c);
            return;
        }
        c->ssl = SSL_new(p->tls);
        SSL_set_fd(c->ssl, c->fd);
        SSL_set_tlsext_host_name(c->ssl, p->o->name);
        SSL_set1_host(c->ssl, p->o->name);
        if (p->session)
            SSL_set_session(c->ssl, p->session);
        SSL_set_connect_state(c->ssl);
        c->state = CONN_TLS;
    }
    if (c->state == CONN_TLS) {
        tls_go_on(p, c);
        return;
    }
    if (events & EPOLLOUT)
        flush(p, c);
    if (c->state != CONN_DEAD && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        on_readable(p, c);
    if (p->o->mode == LOAD_PUBLISH && p->o->qos == 0 && c->state == CONN_OPEN && atomic_load(&p->shared->go))
        fill_window(p, c);
}

static SSL_CTX *tls_context(const struct load_options *o)
{
    if (!o->tls)
        return NULL;
    SSL_CTX *t = SSL_CTX_new(TLS_client_method());
    if (!t || SSL_CTX_load_verify_locations(t, o->ca_file, NULL) != 1) {
        fprintf(stderr, "load: cannot read %s\n", o->ca_file);
        exit(1);
    }
    SSL_CTX_set_verify(t, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(t, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (o->mode == LOAD_PUBLISH)
        SSL_CTX_set_read_ahead(t, 1); /* one read a record: what is slow has to be the server */
    else
        SSL_CTX_set_mode(t, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(t, SSL_SESS_CACHE_OFF);
    return t;
}

void load_process(const struct load_options *o, struct load_shared *shared, int process, int first, int nr)
{
    struct process p = {
        .o = o, .shared = shared, .tls = tls_context(o), .nr = nr, .latency = &shared->latency[process]
    };
    char name[512];
    int started = 0, together = o->mode == LOAD_CONNECT ? nr : 100;
    bool told = false;
    p.epoll = epoll_create1(EPOLL_CLOEXEC);
    p.conns = calloc((size_t)nr, sizeof *p.conns);
    if (p.epoll < 0 || !p.conns)
        exit(1);
    if (o->ack_log) {
        snprintf(name, sizeof name, "%s.%d", o->ack_log, process);
        p.ack_log = fopen(name, "w");
    }
    for (int i = 0; i < nr; i++) {
        p.conns[i] = (struct load_conn){ .fd = -1, .index = first + i };
        if (o->mode == LOAD_PUBLISH && !(p.conns[i].sent_us = calloc((size_t)o->window, sizeof(uint64_t))))
            exit(1);
    }
    while (!atomic_load(&shared->stop)) {
        struct epoll_event ev[256];
        while (started < nr && p.opening < together)
            conn_open(&p, &p.conns[started++]);
        int n = epoll_wait(p.epoll, ev, 256, 20);
        for (int i = 0; i < n; i++)
            on_event(&p, ev[i].data.ptr, ev[i].events);
        if (started == nr && (p.opening == 0 || o->mode == LOAD_CONNECT) && !told) {
            atomic_fetch_add(&shared->ready, 1);
            told = true;
        }
        if (told && o->mode == LOAD_PUBLISH && atomic_load(&shared->go))
            for (int i = 0; i < nr; i++)
                if (p.conns[i].seq == 0)
                    fill_window(&p, &p.conns[i]);
        if (told && o->mode == LOAD_DRAIN && now_us() - p.last_rx_us > (uint64_t)(o->quiet_s * 1e6))
            break;
        if (told && o->mode == LOAD_SUBSCRIBE)
            break;
    }
    if (p.ack_log)
        fclose(p.ack_log);
    atomic_fetch_add(&shared->finished, 1);
}
