/* hub/front/routing/mqtt_out.c - an endpoint that is a topic of another MQTT broker: QoS 1 over TLS,
 * delivered when the broker has acknowledged. The transport is libcurl's, which checks certificate and name.
 */
#include "hub/front/routing/routing_impl.h"

#include "base/text.h"
#include "core/mqtt/mqtt_client.h"
#include "hub/front/http/message_json.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdlib.h>

#define ANSWER_MS 15000u
#define IDLE_MS   60000u /* then the connection ends */
#define TURN_MS   500    /* how often a stop is looked for */
#define OUT_FIRST (STREAM_RECORD_MAX + OUT_MORE)
#define OUT_MORE  8192u /* besides the payload */
#define IN_CAP    4096u
#define TOPIC_MAX 65535u /* [MQTT 1.5.3]; more than any that a definition can make */
#define CONNECT_S 10L

struct mqtt_out {
    CURL *curl; /* NULL: not connected */
    struct mqtt_client client;
    uint8_t *out, in[IN_CAP];
    size_t out_cap;
    size_t in_len;
    uint64_t used_ms;
    char error[CURL_ERROR_SIZE];
    uint8_t topic[TOPIC_MAX];
};

static enum err open_(struct deliver *d)
{
    struct mqtt_out *k = calloc(1, sizeof *k);
    if (!k)
        return ERR_NOMEM;
    d->state = k;
    k->out_cap = OUT_FIRST;
    k->out = malloc(k->out_cap);
    return k->out ? ERR_OK : ERR_NOMEM;
}

static void hang_up(struct mqtt_out *k)
{
    if (k->curl)
        curl_easy_cleanup(k->curl);
    k->curl = NULL;
    k->in_len = 0;
}

static void close_(struct deliver *d)
{
    struct mqtt_out *k = d->state;
    if (!k)
        return;
    if (k->curl) {
        struct wr w = { k->out, k->out_cap, 0 };
        size_t n;
        if (!mqtt_client_disconnect(&k->client, &w))
            (void)!curl_easy_send(k->curl, w.p, w.len, &n);
    }
    hang_up(k);
    free(k->out);
    free(k);
    d->state = NULL;
}

static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t e)
{
    (void)a, (void)b, (void)c, (void)e;
    return bell_stopped(&((struct deliver *)ctx)->bell);
}

static enum err broken(struct deliver *d, struct mqtt_out *k, const char *why)
{
    snprintf(d->why, sizeof d->why, "%.180s", why);
    hang_up(k);
    return ERR_IO;
}

/* Until the socket is ready, a moment at most; ERR_STOPPED. */
static enum err turn(struct deliver *d, struct mqtt_out *k, short events)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    curl_easy_getinfo(k->curl, CURLINFO_ACTIVESOCKET, &fd);
    struct pollfd p = { fd, events, 0 };
    if (bell_stopped(&d->bell))
        return ERR_STOPPED;
    (void)!poll(&p, 1, TURN_MS);
    return ERR_OK;
}

static enum err write_all(struct deliver *d, struct mqtt_out *k, struct span s)
{
    uint64_t end = mono_ms_now() + ANSWER_MS;
    while (s.n) {
        size_t n = 0;
        CURLcode code = curl_easy_send(k->curl, s.p, s.n, &n);
        if (code == CURLE_AGAIN) {
            enum err e = mono_ms_now() > end ? broken(d, k, "the broker takes nothing") : turn(d, k, POLLOUT);
            if (e)
                return e;
            continue;
        }
        if (code)
            return broken(d, k, curl_easy_strerror(code));
        s = span_skip(s, n);
    }
    return ERR_OK;
}

/* The next event; ERR_AGAIN: none yet. */
static enum err event(struct deliver *d, struct mqtt_out *k, struct mqtt_client_event *ev)
{
    for (;;) {
        struct span in = span_of(k->in, k->in_len);
        enum err e = mqtt_client_next(&k->client, &in, ev);
        if (in.n != k->in_len && in.n)
            memmove(k->in, in.p, in.n);
        k->in_len = in.n;
        if (!e)
            return ERR_OK;
        if (e != ERR_AGAIN)
            return broken(d, k, "the broker breaks the protocol");
        size_t n = 0;
        CURLcode code = curl_easy_recv(k->curl, k->in + k->in_len, IN_CAP - k->in_len, &n);
        if (code == CURLE_AGAIN)
            return ERR_AGAIN;
        if (code || !n)
            return broken(d, k, code ? curl_easy_strerror(code) : "the broker ended the connection");
        k->in_len += n;
    }
}

static enum err wait_event(struct deliver *d, struct mqtt_out *k, struct mqtt_client_event *ev)
{
    uint64_t end = mono_ms_now() + ANSWER_MS;
    for (;;) {
        enum err e = event(d, k, ev);
        if (e != ERR_AGAIN)
            return e;
        if (mono_ms_now() > end)
            return broken(d, k, "the broker does not answer");
        e = turn(d, k, POLLIN);
        if (e)
            return e;
    }
}

/* One of its own for each endpoint of each hub, or two of them would take the connection from each other for
 * ever. Of a length and of characters that every broker takes [MQTT-3.1.3-5]. */
#define CLIENT_ID_LEN 21u
static struct span client_id(const struct deliver *d, uint8_t out[CLIENT_ID_LEN])
{
    const struct crypto_ops *c = d->hub->crypto;
    uint8_t hash[SHA256_LEN];
    struct sha256 h;
    struct wr w = { out, CLIENT_ID_LEN, 0 };
    c->sha256_init(&h);
    c->sha256_update(&h, span_str(d->hub->names[0]));
    c->sha256_update(&h, SPAN("/"));
    c->sha256_update(&h, span_str(d->out->name));
    c->sha256_final(&h, hash);
    wr_str(&w, "roost");
    hex_encode(&w, span_of(hash, 8));
    return wr_span(&w);
}

static enum err connect_(struct deliver *d, struct mqtt_out *k)
{
    const struct endpoint_spec *s = d->spec;
    uint8_t id[CLIENT_ID_LEN];
    bool v6 = memchr(s->host.p, ':', s->host.n) != NULL;
    char url[320];
    struct mqtt_client_event ev;
    const struct mqtt_connect hello = { .client_id = s->client_id.n ? s->client_id : client_id(d, id),
                                        .clean = true,
                                        .has_username = s->username.n > 0,
                                        .username = s->username,
                                        .has_password = s->password.n > 0,
                                        .password = s->password };
    struct wr w = { k->out, k->out_cap, 0 };
    if (k->curl)
        return ERR_OK;
    if (!(k->curl = curl_easy_init()))
        return ERR_NOMEM;
    snprintf(url, sizeof url, "https://%s%.*s%s:%llu/", v6 ? "[" : "", (int)s->host.n,
             (const char *)s->host.p, v6 ? "]" : "", (unsigned long long)s->port);
    k->error[0] = 0;
    curl_easy_setopt(k->curl, CURLOPT_URL, url);
    curl_easy_setopt(k->curl, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(k->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(k->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(k->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
    curl_easy_setopt(k->curl, CURLOPT_SSL_ENABLE_ALPN, 0L);
    curl_easy_setopt(k->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(k->curl, CURLOPT_ERRORBUFFER, k->error);
    curl_easy_setopt(k->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(k->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(k->curl, CURLOPT_XFERINFODATA, d);
    if (s->ca.n) {
        struct curl_blob ca = { (void *)(uintptr_t)s->ca.p, s->ca.n, CURL_BLOB_COPY };
        curl_easy_setopt(k->curl, CURLOPT_CAINFO_BLOB, &ca);
        curl_easy_setopt(k->curl, CURLOPT_CAPATH, NULL);
    }
    CURLcode code = curl_easy_perform(k->curl);
    if (code == CURLE_ABORTED_BY_CALLBACK) {
        hang_up(k);
        return ERR_STOPPED;
    }
    if (code)
        return broken(d, k, k->error[0] ? k->error : curl_easy_strerror(code));
    mqtt_client_init(&k->client, &(struct mqtt_client_config){ .packet_max = IN_CAP - 5,
                                                               .inflight_max = MQTT_CLIENT_INFLIGHT_MAX });
    enum err e = mqtt_client_connect(&k->client, &hello, mono_ms_now(), &w);
    if (!e)
        e = write_all(d, k, wr_span(&w));
    if (!e)
        e = wait_event(d, k, &ev);
    if (e)
        return e == ERR_STOPPED || d->why[0] ? e : broken(d, k, "the broker does not answer");
    if (ev.kind != MQTT_EV_CONNECTED) {
        char why[80];
        snprintf(why, sizeof why, "the broker refused the connection with code %u", ev.code);
        return broken(d, k, why);
    }
    return ERR_OK;
}

/* What stands for a part of the topic must not be more than one level, nor a wildcard. */
static void put_level(struct wr *w, struct span s)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (c == '+' || c == '#' || c == '/' || c == '%') {
            wr_u8(w, '%');
            wr_u8(w, (uint8_t)hex[c >> 4]);
            wr_u8(w, (uint8_t)hex[c & 15]);
        } else {
            wr_u8(w, c);
        }
    }
}

static void put_topic(struct wr *w, const struct deliver *d, const struct message *m)
{
    struct span t = d->spec->topic;
    const struct {
        struct span name, value;
    } parts[] = { { SPAN("{device}"), m->device },
                  { SPAN("{module}"), m->module },
                  { SPAN("{source}"), span_str(message_source_name(m->source)) },
                  { SPAN("{endpoint}"), span_str(d->out->name) } };
    while (t.n) {
        size_t i = 0;
        while (i < 4 && !span_starts(t, parts[i].name))
            i++;
        if (i < 4) {
            put_level(w, parts[i].value);
            t = span_skip(t, parts[i].name.n);
        } else {
            wr_u8(w, t.p[0]);
            t = span_skip(t, 1);
        }
    }
}

/* Text in JSON may be several times as long as the body. */
static bool room_for(struct mqtt_out *k, size_t topic_and_payload)
{
    const size_t cap = topic_and_payload + OUT_MORE;
    if (cap <= k->out_cap)
        return true;
    uint8_t *more = realloc(k->out, cap);
    if (!more)
        return false;
    k->out = more;
    k->out_cap = cap;
    return true;
}

static enum err publish(struct deliver *d, struct mqtt_out *k, const struct stream_record *r)
{
    struct wr t = { k->topic, sizeof k->topic, 0 };
    struct message m;
    char *line = NULL;
    if (message_decode(r->record, &m))
        return ERR_DENIED;
    put_topic(&t, d, &m);
    if (!wr_ok(&t) || !t.len) /* "{module}" of a device, say: no broker takes that */
        return ERR_DENIED;
    struct mqtt_publish p = { .topic = wr_span(&t), .payload = m.body, .qos = 1 };
    if (d->spec->json) {
        line = message_line(r);
        p.payload = span_of(line, line ? strlen(line) - 1 : 0); /* without the line feed */
    }
    enum err e = (d->spec->json && !line) || !room_for(k, t.len + p.payload.n) ? ERR_NOMEM : ERR_OK;
    struct wr w = { k->out, k->out_cap, 0 };
    if (!e)
        e = mqtt_client_publish(&k->client, &p, mono_ms_now(), &w, NULL);
    free(line);
    return e ? e : write_all(d, k, wr_span(&w));
}

static enum err send_(struct deliver *d, const struct stream_record *r, size_t nr, size_t *done)
{
    struct mqtt_out *k = d->state;
    size_t sent = 0;
    enum err e = connect_(d, k);
    k->used_ms = mono_ms_now();
    *done = 0;
    while (!e && *done < nr) {
        struct mqtt_client_event ev;
        if (sent < nr && mqtt_client_is_ready(&k->client)) {
            e = publish(d, k, &r[sent]);
            if (e == ERR_DENIED && sent > *done) { /* after those before it */
                e = ERR_OK;
                nr = sent;
                continue;
            }
            if (e == ERR_DENIED)
                snprintf(d->why, sizeof d->why, "the topic made of it is empty or too long");
            sent += !e;
            continue;
        }
        e = wait_event(d, k, &ev);
        if (!e && ev.kind == MQTT_EV_PUBLISHED)
            ++*done; /* a broker acknowledges in order [MQTT-4.6.0-2] */
    }
    return e;
}

static void idle(struct deliver *d)
{
    struct mqtt_out *k = d->state;
    if (k->curl && mono_ms_now() > k->used_ms + IDLE_MS)
        hang_up(k);
}

const struct deliver_ops mqtt_out_ops = { open_, send_, idle, close_ };
