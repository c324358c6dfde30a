/* tests/fake/tls_fixture.h - for tests of TLS on real sockets: a net with TLS and a protocol that echoes, and
 * an OpenSSL client over memory, so that the test has every byte in its hands. Tests run with each layer. */
#ifndef ROOST_TESTS_FAKE_TLS_FIXTURE_H
#define ROOST_TESTS_FAKE_TLS_FIXTURE_H

#include "hub/conn/conn_impl.h"
#include "hub/conn/net_fixture.h"
#include "hub/conn/tls_impl.h"
#include "tests/fake/pki_fixture.h"

#include <openssl/err.h>

static struct tls_ctx *server;
static struct net_fixture f;
static enum tls_layer layer;

/* The protocol above: sends back what it gets, or, told so, many bytes of its own. */
static struct conn *last;
static unsigned closed_nr;
static enum conn_close closed_why;
static uint64_t got_nr;
static bool got_eof, stays_at_eof;
static inline void on_open(struct conn *c)
{
    last = c;
    conn_established(c);
}
static inline void on_bytes(struct conn *c, struct span *in)
{
    got_nr += in->n;
    conn_send(c, *in);
    *in = SPAN_NONE;
}
static inline void on_eof(struct conn *c)
{
    got_eof = true;
    if (!stays_at_eof)
        conn_close(c, CONN_CLOSE_PEER);
}
static inline void on_close(struct conn *c, enum conn_close why)
{
    (void)c;
    closed_nr++;
    closed_why = why;
    last = NULL;
}
static const struct conn_proto echo = { .name = "echo",
                                        .on_open = on_open,
                                        .on_bytes = on_bytes,
                                        .on_eof = on_eof,
                                        .in_max = 1000000,
                                        .on_close = on_close };

static inline int start(void **state)
{
    struct tls_config c = { .chain_files = { chain }, .key_files = { key }, .layer = layer };
    struct conn_limits l = { .out_max = 64u << 20 };
    (void)state;
    c.ask_client_certificate = true;
    closed_nr = 0;
    got_nr = 0;
    got_eof = stays_at_eof = false;
    last = NULL;
    assert_int_equal(tls_ctx_new(&server, &c, NULL), ERR_OK);
    net_start(&f, &l, server, &echo, NULL);
    return 0;
}
static inline int stop(void **state)
{
    (void)state;
    net_stop(&f);
    tls_ctx_unref(server);
    return 0;
}

/* Runs the tests with each layer; the number that failed. */
#define RUN_EACH_LAYER(failed, tests)                                                                        \
    for (layer = TLS_LAYER_OPENSSL; layer <= TLS_LAYER_COMPACT; layer++) {                                   \
        print_message("---- %s\n", tls_layer_name(layer));                                                   \
        (failed) += cmocka_run_group_tests(tests, make_files, remove_files);                                 \
    }

/* ---- the client ----------------------------------------------------------------------------------- */

struct client {
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;
    uint8_t out[1 << 20]; /* what it wants to send and the test has not yet let through */
    size_t out_len;
};
static struct client cl;

static inline void collect(void)
{
    size_t n = 0;
    while (BIO_read_ex(SSL_get_wbio(cl.ssl), cl.out + cl.out_len, sizeof cl.out - cl.out_len, &n))
        cl.out_len += n;
}
static inline void let_through(size_t n)
{
    net_write(&f, cl.fd, cl.out, n);
    memmove(cl.out, cl.out + n, cl.out_len -= n);
}
/* What the hub has sent by now goes to the client's OpenSSL. False: the connection has ended. */
static inline bool take(void)
{
    static uint8_t buf[1 << 16];
    for (;;) {
        ssize_t n = net_try_read(cl.fd, buf, sizeof buf);
        if (n <= 0)
            return n == -2;
        assert_int_equal(BIO_write(SSL_get_rbio(cl.ssl), buf, (int)n), n);
    }
}

static inline void new_client(int version, bool with_certificate)
{
    memset(&cl, 0, sizeof cl);
    cl.ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(cl.ctx, version);
    SSL_CTX_set_max_proto_version(cl.ctx, version);
    if (with_certificate) {
        assert_int_equal(SSL_CTX_use_certificate_chain_file(cl.ctx, chain), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(cl.ctx, key, SSL_FILETYPE_PEM), 1);
    }
}
static inline void dial(void)
{
    cl.ssl = SSL_new(cl.ctx);
    SSL_set_bio(cl.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    BIO_set_mem_eof_return(SSL_get_rbio(cl.ssl), -1);
    SSL_set_connect_state(cl.ssl);
    cl.fd = net_connect(&f);
    cl.out_len = 0;
    last = NULL;
}
/* Shakes hands until the client is done; its last flight is still in cl.out. */
static inline void shake(void)
{
    for (int turns = 0; SSL_do_handshake(cl.ssl) != 1; turns++) {
        assert_true(turns < 1000);
        collect();
        let_through(cl.out_len);
        worker_turn(f.w, 10);
        assert_true(take());
    }
    collect();
}
static inline void hang_up(void)
{
    unsigned before = closed_nr;
    bool open = last;
    close(cl.fd);
    SSL_free(cl.ssl);
    cl.ssl = NULL;
    if (open)
        NET_UNTIL(&f, closed_nr == before + 1);
    NET_UNTIL(&f, net_stats(&f).open == 0);
}
static inline void free_client(void)
{
    SSL_CTX_free(cl.ctx);
    ERR_clear_error();
}
static inline void write_data(size_t n, uint8_t seed)
{
    static uint8_t data[1 << 18];
    for (size_t i = 0; i < n; i++)
        data[i] = (uint8_t)(i * 7 + i / 255 + seed);
    assert_int_equal(SSL_write(cl.ssl, data, (int)n), n);
    collect();
}
/* The same comes back. */
static inline void read_data(size_t n, uint8_t seed)
{
    static uint8_t data[1 << 18];
    size_t got = 0;
    for (int turns = 0; got < n && turns < 2000; turns++) {
        int r = SSL_read(cl.ssl, data + got, (int)(n - got));
        if (r > 0) {
            got += (size_t)r;
            turns = 0;
            continue;
        }
        assert_int_equal(SSL_get_error(cl.ssl, r), SSL_ERROR_WANT_READ);
        collect();
        let_through(cl.out_len);
        worker_turn(f.w, 5);
        take();
    }
    assert_int_equal(got, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(data[i], (uint8_t)(i * 7 + i / 255 + seed));
}
/* The end of the connection: the alert the client gets, or -1. */
static int last_alert;
static inline void on_info(const SSL *ssl, int where, int value)
{
    (void)ssl;
    if (where == SSL_CB_READ_ALERT)
        last_alert = value & 0xff;
}
static inline int wait_for_alert(void)
{
    char none;
    last_alert = -1;
    SSL_set_info_callback(cl.ssl, on_info);
    for (int turns = 0; turns < 1000 && take(); turns++)
        worker_turn(f.w, 5);
    while (SSL_read(cl.ssl, &none, 1) > 0)
        ;
    return last_alert;
}

static SSL_SESSION *session;
static inline int keep_session(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = s;
    return 1;
}

static inline void established(int version, bool with_certificate)
{
    new_client(version, with_certificate);
    dial();
    shake();
    let_through(cl.out_len);
    NET_UNTIL(&f, last);
    take();
    char none;
    SSL_read(cl.ssl, &none, 1); /* tickets */
}

#endif
