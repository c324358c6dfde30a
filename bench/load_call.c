/* bench/load_call.c - request and answer: pairs of a caller and a device that answers at once, one request
 * under way in each. With --http the callers post method calls to a hub on that port; without, both sides are
 * MQTT clients of any server and a pair has two topics. Plain connections only. */
#include "bench/load.h"

#include "core/http/http_client.h"
#include "core/mqtt/mqtt_packet.h"
#include "core/sas/sas.h"
#include "port/crypto.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct side {
    int fd;
    bool http;
    struct pair *pair;
    uint8_t in[16384];
    size_t in_len;
    struct http_response response;
};
struct pair {
    int index;
    struct side caller, device;
    uint64_t sent_us;
    uint8_t *request; /* of the caller, the same each time */
    size_t request_len;
};
struct calls {
    const struct load_options *o;
    struct load_shared *shared;
    struct histogram *latency;
    char payload[8193];
};

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* One request is under way at a time: what is written fits the socket's buffer. */
static void put(const struct side *s, struct span out)
{
    if (send(s->fd, out.p, out.n, MSG_NOSIGNAL) != (ssize_t)out.n)
        fail("send");
}

static void dial(const struct calls *k, struct side *s, int port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int one = 1;
    inet_pton(AF_INET, k->o->host, &to.sin_addr);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&to, sizeof to))
        fail("connect");
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* Blocks until a packet of that kind has come. */
static void await(struct side *s, enum mqtt_type type)
{
    struct mqtt_packet p;
    size_t used;
    while (mqtt_packet_decode(span_of(s->in, s->in_len), sizeof s->in, &p, &used)) {
        ssize_t n = recv(s->fd, s->in + s->in_len, sizeof s->in - s->in_len, 0);
        if (n <= 0)
            fail("login");
        s->in_len += (size_t)n;
    }
    if (p.type != type || (type == MQTT_CONNACK && p.body.p[1])) {
        fprintf(stderr, "load: packet of type %u instead of %u, or refused\n", p.type, (unsigned)type);
        exit(1);
    }
    s->in_len -= used;
    memmove(s->in, s->in + used, s->in_len);
}

static void login(const struct calls *k, struct side *s, const char *id, const char *filter)
{
    uint8_t mem[4096];
    struct wr w = { mem, sizeof mem, 0 };
    struct mqtt_filter f = { span_str(filter), 0 };
    dial(k, s, k->o->port);
    load_connect_encode(k->o, id, &w);
    put(s, wr_span(&w));
    await(s, MQTT_CONNACK);
    w.len = 0;
    mqtt_subscribe_encode(&w, 1, &f, 1);
    put(s, wr_span(&w));
    await(s, MQTT_SUBACK);
}

static void keep_request(struct pair *p, const struct wr *w)
{
    p->request = malloc(w->len);
    if (!wr_ok(w) || !p->request)
        fail("request");
    memcpy(p->request, w->p, w->len);
    p->request_len = w->len;
}

static void pair_open(struct calls *k, struct pair *p)
{
    const struct load_options *o = k->o;
    static uint8_t mem[16384];
    char id[64], caller[80], to[128], from[128], host[128], body[8300];
    uint8_t token[SAS_TOKEN_MAX];
    struct wr w = { mem, sizeof mem, 0 }, t = { token, sizeof token, 0 };
    snprintf(id, sizeof id, "%s%d", o->prefix, p->index);
    snprintf(to, sizeof to, "call/%d", p->index);
    snprintf(from, sizeof from, "answer/%d", p->index);
    login(k, &p->device, id, o->http_port ? "$iothub/methods/POST/#" : to);
    if (!o->http_port) {
        snprintf(caller, sizeof caller, "caller-%s", id);
        login(k, &p->caller, caller, from);
        mqtt_publish_encode(&w,
                            &(struct mqtt_publish){ .topic = span_str(to), .payload = span_str(k->payload) });
        keep_request(p, &w);
        return;
    }
    dial(k, &p->caller, o->http_port);
    p->caller.http = true;
    http_response_init(&p->caller.response, false);
    sas_token_encode(&t, &port_crypto, span_str(o->name), span_of(o->key, o->key_len),
                     (uint64_t)time(NULL) + 86400, span_str(o->policy));
    snprintf(to, sizeof to, "/twins/%s/methods?api-version=2021-04-12", id);
    snprintf(host, sizeof host, "%s:%d", o->name, o->http_port);
    int n = snprintf(body, sizeof body, "{\"methodName\":\"echo\",\"payload\":%s}", k->payload);
    struct http_request r = { .method = "POST",
                              .host = span_str(host),
                              .target = span_str(to),
                              .content_type = SPAN("application/json"),
                              .authorization = wr_span(&t),
                              .has_body = true,
                              .body_len = (uint64_t)n };
    http_request_encode(&w, &r);
    wr_put(&w, span_of(body, (size_t)n));
    keep_request(p, &w);
}

static void ask(struct calls *k, struct pair *p)
{
    if (atomic_load_explicit(&k->shared->stop, memory_order_relaxed))
        return;
    p->sent_us = now_us();
    atomic_fetch_add_explicit(&k->shared->sent, 1, memory_order_relaxed);
    put(&p->caller, span_of(p->request, p->request_len));
}

static void answered(struct calls *k, struct pair *p)
{
    if (atomic_load_explicit(&k->shared->go, memory_order_relaxed)) {
        histogram_add(k->latency, now_us() - p->sent_us);
        atomic_fetch_add_explicit(&k->shared->acked, 1, memory_order_relaxed);
    }
    ask(k, p);
}

/* What came to a device goes back. */
static void echo(const struct calls *k, struct pair *p, const struct mqtt_publish *m)
{
    uint8_t mem[9000];
    char topic[128];
    struct wr w = { mem, sizeof mem, 0 };
    if (k->o->http_port) {
        size_t at = m->topic.n;
        while (at && m->topic.p[at - 1] != '=')
            at--;
        snprintf(topic, sizeof topic, "$iothub/methods/res/200/?$rid=%.*s", (int)(m->topic.n - at),
                 (const char *)m->topic.p + at);
    } else {
        snprintf(topic, sizeof topic, "answer/%d", p->index);
    }
    mqtt_publish_encode(&w, &(struct mqtt_publish){ .topic = span_str(topic), .payload = m->payload });
    assert(wr_ok(&w));
    put(&p->device, wr_span(&w));
}

static void on_http(struct calls *k, struct side *s)
{
    struct span in = span_of(s->in, s->in_len), piece;
    enum http_response_event ev;
    s->in_len = 0;
    while (!http_response_next(&s->response, &in, &ev, &piece)) {
        if (ev == HTTP_EV_HEAD && s->response.status != 200)
            atomic_fetch_add(&k->shared->refused, 1);
        if (ev == HTTP_EV_END) {
            http_response_init(&s->response, false);
            answered(k, s->pair);
            return; /* one answer for one request */
        }
    }
}

static void on_mqtt(struct calls *k, struct side *s)
{
    struct span in = span_of(s->in, s->in_len);
    struct mqtt_packet q;
    struct mqtt_publish m;
    size_t used;
    while (!mqtt_packet_decode(in, sizeof s->in, &q, &used)) {
        if (q.type == MQTT_PUBLISH && !mqtt_publish_decode(&q, &m)) {
            if (s == &s->pair->device)
                echo(k, s->pair, &m);
            else
                answered(k, s->pair);
        }
        in = span_skip(in, used);
    }
    memmove(s->in, in.p, in.n);
    s->in_len = in.n;
}

void load_calls(const struct load_options *o, struct load_shared *shared, int process, int first, int nr)
{
    struct calls k = { .o = o, .shared = shared, .latency = &shared->latency[process] };
    struct pair *pairs = calloc((size_t)nr, sizeof *pairs);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!pairs || epoll < 0)
        fail("memory");
    k.payload[0] = k.payload[o->size - 1] = '"'; /* a JSON string */
    memset(k.payload + 1, 'x', (size_t)o->size - 2);
    for (int i = 0; i < nr; i++) {
        struct pair *p = &pairs[i];
        p->index = first + i;
        p->caller.pair = p->device.pair = p;
        pair_open(&k, p);
        struct side *const both[] = { &p->caller, &p->device };
        for (int j = 0; j < 2; j++)
            if (epoll_ctl(epoll, EPOLL_CTL_ADD, both[j]->fd,
                          &(struct epoll_event){ .events = EPOLLIN, .data.ptr = both[j] }))
                fail("epoll");
        atomic_fetch_add(&shared->connected, 1);
    }
    atomic_fetch_add(&shared->ready, 1);
    for (int i = 0; i < nr; i++)
        ask(&k, &pairs[i]);
    while (!atomic_load(&shared->stop)) {
        struct epoll_event ev[256];
        int n = epoll_wait(epoll, ev, 256, 20);
        for (int i = 0; i < n; i++) {
            struct side *s = ev[i].data.ptr;
            ssize_t got = recv(s->fd, s->in + s->in_len, sizeof s->in - s->in_len, 0);
            if (got <= 0) {
                atomic_fetch_add(&shared->broken, 1);
                epoll_ctl(epoll, EPOLL_CTL_DEL, s->fd, NULL);
                continue;
            }
            s->in_len += (size_t)got;
            if (s->http)
                on_http(&k, s);
            else
                on_mqtt(&k, s);
        }
    }
    atomic_fetch_add(&shared->finished, 1);
}
