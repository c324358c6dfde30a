/* port/posix/tls.c - client connections over OpenSSL: resolve, connect, shake hands, then bytes. */
#include "port/tls.h"

#include "port/posix/tls_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum conn_state { RESOLVING, CONNECTING, SHAKING, OPEN, BROKEN };

struct tls_session {
    SSL_SESSION *ssl;
    uint8_t pin[TLS_PIN_LEN]; /* what it was verified against; zeros: the system's trust */
    uint16_t port;
    char host[];
};

struct tls_conn { /* one a socket, ten thousand of them: keep it small */
    struct tls_client *client;
    struct lookup *lookup; /* until connected */
    SSL *ssl;              /* NULL when plain */
    struct tls_session **session;
    const char *why;
    int fd;
    uint32_t source;
    uint16_t port;
    uint8_t state, addr; /* index into lookup->addr */
    bool plain, has_pin, refused;
    uint8_t events;
    uint8_t pin[TLS_PIN_LEN];
    char host[];
};
_Static_assert(sizeof(struct tls_conn) <= 128, "ten thousand connections in one process");

static int conn_index = -1; /* where an SSL keeps its struct tls_conn */

static int on_chain(X509_STORE_CTX *x, void *arg)
{
    SSL *ssl = (SSL *)X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx());
    const struct tls_conn *c = (const struct tls_conn *)SSL_get_ex_data(ssl, conn_index);
    return tls_verify_chain((struct tls_client *)arg, c->has_pin ? c->pin : NULL, x);
}

void tls_session_free(struct tls_session *s)
{
    if (!s)
        return;
    SSL_SESSION_free(s->ssl);
    free(s);
}

/* The newest ticket of a verified connection replaces the one in the owner's slot. */
static int on_session(SSL *ssl, SSL_SESSION *fresh)
{
    struct tls_conn *c = (struct tls_conn *)SSL_get_ex_data(ssl, conn_index);
    if (!c || !c->session)
        return 0;
    size_t n = strlen(c->host) + 1;
    struct tls_session *s = calloc(1, sizeof *s + n);
    if (!s)
        return 0;
    s->ssl = fresh;
    s->port = c->port;
    memcpy(s->pin, c->pin, sizeof s->pin);
    memcpy(s->host, c->host, n);
    tls_session_free(*c->session);
    *c->session = s;
    return 1;
}

enum err tls_client_new(struct tls_client **out)
{
    struct tls_client *t = calloc(1, sizeof *t);
    if (!t)
        return ERR_NOMEM;
    resolver_init(&t->resolver);
    if (conn_index < 0)
        conn_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    if (!(t->ca = sk_X509_new_null()) || !(t->ctx = SSL_CTX_new(TLS_client_method()))) {
        tls_client_free(t);
        return ERR_NOMEM;
    }
    SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(t->ctx, on_chain, t);
    if (SSL_CTX_set_default_verify_paths(t->ctx) != 1)
        ERR_clear_error(); /* no system trust at all: then only pins verify */
    SSL_CTX_set_mode(t->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(t->ctx, on_session);
    *out = t;
    return ERR_OK;
}

void tls_client_free(struct tls_client *t)
{
    if (!t)
        return;
    SSL_CTX_free(t->ctx);
    sk_X509_pop_free(t->ca, X509_free);
    resolver_fini(&t->resolver);
    free(t);
}

enum err tls_client_set_address(struct tls_client *t, const char *address)
{
    return resolver_set_address(&t->resolver, address);
}

enum err tls_conn_open(struct tls_client *t, const struct tls_target *target, struct tls_conn **out)
{
    if (!target->host.n || target->host.n > TLS_HOST_MAX || memchr(target->host.p, 0, target->host.n))
        return ERR_LIMIT;
    struct tls_conn *c = calloc(1, sizeof *c + target->host.n + 1);
    if (!c)
        return ERR_NOMEM;
    c->client = t;
    c->port = target->port;
    c->plain = target->plain;
    c->source = target->source_ipv4;
    c->session = target->session;
    c->fd = -1;
    c->why = "not connected yet";
    if (target->pin) {
        c->has_pin = true;
        memcpy(c->pin, target->pin, TLS_PIN_LEN);
    }
    memcpy(c->host, target->host.p, target->host.n);
    enum err e = resolve(&t->resolver, target->host, &c->lookup);
    if (e) {
        free(c);
        return e;
    }
    /* A descriptor of its own: one poll set may hold many that wait for the same name. */
    if (!lookup_is_done(c->lookup) && (c->fd = fcntl(c->lookup->event_fd, F_DUPFD_CLOEXEC, 0)) < 0) {
        lookup_unref(c->lookup);
        free(c);
        return ERR_IO;
    }
    c->state = RESOLVING;
    *out = c;
    return ERR_OK;
}

void tls_conn_close(struct tls_conn *c)
{
    if (!c)
        return;
    if (c->ssl) {
        if (c->state == OPEN)
            (void)SSL_shutdown(c->ssl);
        ERR_clear_error();
        SSL_free(c->ssl);
    }
    if (c->fd >= 0)
        close(c->fd);
    lookup_unref(c->lookup);
    free(c);
}

int tls_conn_fd(const struct tls_conn *c)
{
    return c->fd;
}

uint32_t tls_conn_events(const struct tls_conn *c)
{
    return c->events;
}

const char *tls_conn_why(const struct tls_conn *c)
{
    return c->why;
}

bool tls_conn_resumed(const struct tls_conn *c)
{
    return c->ssl && SSL_session_reused(c->ssl);
}

static enum err broken(struct tls_conn *c, enum err e, const char *why)
{
    c->state = BROKEN;
    c->why = why;
    c->events = 0;
    return e;
}

/* Starts a connect to address c->addr, or to a later one that can be tried at all. */
static enum err dial(struct tls_conn *c)
{
    for (; c->addr < c->lookup->addr_nr; c->addr++) {
        union resolve_addr a = c->lookup->addr[c->addr];
        bool v4 = a.sa.sa_family == AF_INET;
        if (v4)
            a.in.sin_port = htons(c->port);
        else
            a.in6.sin6_port = htons(c->port);
        if (c->fd >= 0)
            close(c->fd);
        c->fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (c->fd < 0) {
            if (errno == EAFNOSUPPORT)
                continue;
            return broken(c, ERR_IO, "no socket to be had (descriptors?)");
        }
        int one = 1;
        (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (v4 && c->source) {
            struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(c->source) };
            (void)setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
            if (bind(c->fd, (struct sockaddr *)&from, sizeof from) < 0)
                return broken(c, ERR_IO, "the source address cannot be used");
        }
        if (connect(c->fd, &a.sa, v4 ? sizeof a.in : sizeof a.in6) == 0 || errno == EINPROGRESS) {
            c->events = POLLOUT;
            return ERR_OK;
        }
        c->refused = errno == ECONNREFUSED;
        c->why = strerror(errno);
    }
    return broken(c, c->refused ? ERR_DENIED : ERR_IO, c->why);
}

static enum err start_tls(struct tls_conn *c)
{
    if (!(c->ssl = SSL_new(c->client->ctx)) || !SSL_set_ex_data(c->ssl, conn_index, c) ||
        !SSL_set_fd(c->ssl, c->fd))
        return broken(c, ERR_NOMEM, "out of memory");
    union resolve_addr a;
    X509_VERIFY_PARAM *param = SSL_get0_param(c->ssl);
    bool literal = inet_pton(AF_INET, c->host, &a.in.sin_addr) == 1 ||
                   inet_pton(AF_INET6, c->host, &a.in6.sin6_addr) == 1;
    if (literal ? !X509_VERIFY_PARAM_set1_ip_asc(param, c->host)
                : !SSL_set1_host(c->ssl, c->host) || !SSL_set_tlsext_host_name(c->ssl, c->host))
        return broken(c, ERR_NOMEM, "out of memory");
    SSL_set_hostflags(c->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    const struct tls_session *s = c->session ? *c->session : NULL;
    if (s && s->port == c->port && strcmp(s->host, c->host) == 0 &&
        memcmp(s->pin, c->pin, sizeof s->pin) == 0)
        (void)SSL_set_session(c->ssl, s->ssl);
    SSL_set_connect_state(c->ssl);
    return ERR_OK;
}

/* What OpenSSL's answer asks for; sets the events to wait for. */
static enum err want(struct tls_conn *c, int ret)
{
    switch (SSL_get_error(c->ssl, ret)) {
    case SSL_ERROR_WANT_READ:
        c->events = POLLIN;
        return ERR_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        c->events = POLLOUT;
        return ERR_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return ERR_OK;
    default:
        ERR_clear_error();
        return ERR_IO;
    }
}

static enum err shake(struct tls_conn *c)
{
    ERR_clear_error();
    int ret = SSL_connect(c->ssl);
    if (ret == 1) {
        c->state = OPEN;
        c->events = POLLIN;
        return ERR_OK;
    }
    if (want(c, ret) == ERR_AGAIN)
        return ERR_AGAIN;
    long verdict = SSL_get_verify_result(c->ssl);
    if (c->session) { /* a session the server no longer likes must not fail for ever */
        tls_session_free(*c->session);
        *c->session = NULL;
    }
    if (verdict != X509_V_OK)
        return broken(c, ERR_VERIFY, X509_verify_cert_error_string(verdict));
    return broken(c, ERR_IO, "the TLS handshake broke off");
}

enum err tls_conn_step(struct tls_conn *c)
{
    enum err e;
    if (c->state == RESOLVING) {
        c->events = POLLIN;
        if (!lookup_is_done(c->lookup))
            return ERR_AGAIN;
        c->why = "name not found";
        if (!c->lookup->addr_nr)
            return broken(c, ERR_NOTFOUND, c->why);
        if ((e = dial(c)) != ERR_OK)
            return e;
        c->state = CONNECTING;
    }
    if (c->state == CONNECTING) {
        struct pollfd p = { .fd = c->fd, .events = POLLOUT };
        if (poll(&p, 1, 0) <= 0)
            return ERR_AGAIN;
        int error = 0;
        socklen_t n = sizeof error;
        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 || error) {
            c->why = strerror(error);
            c->refused = error == ECONNREFUSED;
            c->addr++;
            e = dial(c);
            return e ? e : ERR_AGAIN;
        }
        lookup_unref(c->lookup);
        c->lookup = NULL;
        if (c->plain) {
            c->state = OPEN;
            c->events = POLLIN;
            return ERR_OK;
        }
        if ((e = start_tls(c)) != ERR_OK)
            return e;
        c->state = SHAKING;
    }
    if (c->state == SHAKING)
        return shake(c);
    return c->state == OPEN ? ERR_OK : ERR_IO;
}

enum err tls_conn_read(struct tls_conn *c, uint8_t *buf, size_t cap, size_t *n)
{
    if (c->state != OPEN)
        return ERR_IO;
    if (c->plain) {
        ssize_t got = recv(c->fd, buf, cap, 0);
        if (got < 0)
            return errno == EAGAIN || errno == EINTR ? ERR_AGAIN : broken(c, ERR_IO, strerror(errno));
        *n = (size_t)got;
        return ERR_OK;
    }
    ERR_clear_error();
    int ret = SSL_read(c->ssl, buf, cap > INT32_MAX ? INT32_MAX : (int)cap);
    if (ret > 0) {
        *n = (size_t)ret;
        return ERR_OK;
    }
    enum err e = want(c, ret);
    if (e == ERR_OK)
        *n = 0;
    return e == ERR_IO ? broken(c, e, "the connection broke off") : e;
}

enum err tls_conn_write(struct tls_conn *c, struct span s, size_t *n)
{
    if (c->state != OPEN)
        return ERR_IO;
    if (!s.n) {
        *n = 0;
        return ERR_OK;
    }
    if (c->plain) {
        ssize_t put = send(c->fd, s.p, s.n, MSG_NOSIGNAL);
        c->events = POLLIN;
        if (put < 0 && (errno == EAGAIN || errno == EINTR)) {
            c->events = POLLIN | POLLOUT;
            return ERR_AGAIN;
        }
        if (put < 0)
            return broken(c, ERR_IO, strerror(errno));
        *n = (size_t)put;
        return ERR_OK;
    }
    ERR_clear_error();
    int ret = SSL_write(c->ssl, s.p, s.n > INT32_MAX ? INT32_MAX : (int)s.n);
    if (ret > 0) {
        c->events = POLLIN;
        *n = (size_t)ret;
        return ERR_OK;
    }
    enum err e = want(c, ret);
    if (e == ERR_AGAIN)
        c->events |= POLLIN; /* a peer may speak while it does not listen */
    return e == ERR_AGAIN ? e : broken(c, ERR_IO, "the connection broke off");
}
