/* hub/conn/net_fixture.h - for the tests of this folder: a net with one worker whose turns the test makes
 * itself, and clients on loopback in the same thread. Whoever waits turns the worker: no sleeps, no races. */
#ifndef ROOST_HUB_CONN_NET_FIXTURE_H
#define ROOST_HUB_CONN_NET_FIXTURE_H

#include "hub/conn/listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

struct net_fixture {
    struct worker *w;
    struct conn_net *net;
    struct conn_listener *listener;
    uint16_t port;
};

static inline void net_start(struct net_fixture *f, const struct conn_limits *limits, struct tls_ctx *tls,
                             const struct conn_proto *proto, void *ctx)
{
    struct conn_limits none = { 0 };
    assert_int_equal(worker_new(&f->w, 0), ERR_OK);
    assert_int_equal(conn_net_new(&f->net, limits ? limits : &none, &f->w, 1, 7), ERR_OK);
    struct conn_listen cfg = {
        .name = "test", .address = "127.0.0.1", .tls = tls, .proto = proto, .ctx = ctx
    };
    assert_int_equal(conn_net_listen(f->net, &cfg, &f->listener), ERR_OK);
    f->port = conn_listener_port(f->listener);
}

static inline void net_stop(struct net_fixture *f)
{
    conn_net_free(f->net);
    worker_free(f->w);
}

/* A non-blocking client from 127.0.0.`from` (0: any); -1 when it was refused at once. */
static inline int net_connect_from(struct net_fixture *f, int from)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(f->port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (from) {
        struct sockaddr_in me = { .sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(0x7f000000u + (unsigned)from) };
        assert_int_equal(bind(fd, (struct sockaddr *)&me, sizeof me), 0);
    }
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static inline int net_connect(struct net_fixture *f)
{
    return net_connect_from(f, 0);
}

/* Turns the worker until cond holds; fails the test when nothing more can make it hold. */
#define NET_UNTIL(f, cond)                                                                                   \
    do {                                                                                                     \
        int net_turns_ = 0;                                                                                  \
        while (!(cond)) {                                                                                    \
            if (++net_turns_ > 3000)                                                                         \
                fail_msg("never: %s", #cond);                                                                \
            worker_turn((f)->w, 10);                                                                         \
        }                                                                                                    \
    } while (0)

static inline void net_write(struct net_fixture *f, int fd, const void *p, size_t n)
{
    const char *at = p;
    for (int turns = 0; n; turns++) {
        ssize_t k = send(fd, at, n, MSG_NOSIGNAL);
        if (k < 0 && errno != EAGAIN)
            return; /* the hub has closed: the test looks at what it said */
        if (k > 0) {
            at += k;
            n -= (size_t)k;
        } else {
            assert_true(turns < 3000);
            worker_turn(f->w, 10);
        }
    }
}

/* One read: bytes, 0 at the end, -1 when it was reset, -2 when nothing is there yet. */
static inline ssize_t net_try_read(int fd, void *buf, size_t cap)
{
    ssize_t n = recv(fd, buf, cap, 0);
    return n >= 0 ? n : errno == EAGAIN ? -2 : -1;
}

/* Reads until `want` bytes are there or the connection has ended; returns the bytes, buf is terminated. */
static inline size_t net_read(struct net_fixture *f, int fd, char *buf, size_t cap, size_t want)
{
    size_t n = 0;
    for (int turns = 0; n < want && n + 1 < cap; turns++) {
        ssize_t k = net_try_read(fd, buf + n, cap - 1 - n);
        if (k == 0 || k == -1)
            break;
        if (k > 0) {
            n += (size_t)k;
            turns = 0;
        } else {
            if (turns > 1000)
                break;
            worker_turn(f->w, 10);
        }
    }
    buf[n] = 0;
    return n;
}

/* Everything up to the end of the connection. */
static inline size_t net_read_all(struct net_fixture *f, int fd, char *buf, size_t cap)
{
    return net_read(f, fd, buf, cap, cap);
}

static inline struct conn_stats net_stats(struct net_fixture *f)
{
    struct conn_stats s;
    conn_net_get_stats(f->net, &s);
    return s;
}

#endif
